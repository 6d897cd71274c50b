//! RACE RESULT decoders (System 5000 / 3000, passive and active): we connect, usual port 3601.
//!
//! Wire: one message per line, CR LF, fields separated by `;`, ISO-8859-1. Replies begin with the word that was asked;
//! passings come when they like, so a line is told by its first field and never by what was asked before it.
//!
//! ```text
//! GETPROTOCOL                    -> GETPROTOCOL;<current>;<min>;<max>
//! SETPROTOCOL;2.0                -> SETPROTOCOL;<version in force>
//! GETCONFIG;GENERAL;BOXNAME      -> GETCONFIG;GENERAL;BOXNAME;<name>;<box id>
//! SETPUSHPASSINGS;1;0            -> the same; from now on new passings come by themselves
//! PASSINGS                       -> PASSINGS;<count>[;<file>]
//! <from>:<count>                 -> [ONLY <n>] records, then an empty line
//! GETFILE;<file>                 -> records of an older file (its framing is documented nowhere)
//! GETSTATUS                      -> GETSTATUS;<date>;<time>;<mains>;<antennas>;<timing mode>;<file>;...
//! ```
//!
//! A record is `#P;` (pushed only) and up to 20 columns, of which old decoders send the first 7 and more: 1 passing
//! number from 1 in each file, 2 transponder, 3 date, 4 time, 5 event, 6 hits, 7 RSSI, 8 internal, 9 active, 10 channel,
//! 11 loop, 12 loop only, 13 wake-ups, 14 battery, 15 temperature, 16 bits, 17 box name, 18 file, 19 antenna, 20 box id.
//!
//! What must hold:
//! * Never `STARTOPERATION`, `STOPOPERATION`, `SETTIME`, `CLEARFILES`: they begin a new file, or destroy one.
//! * The conversation goes on when a question stays unanswered ([`ANSWER_WAIT`]): emulators and old firmware know few words.
//! * A record is whole only with its line end: a cut one could show file 17 for file 177. It can be asked for again.
//! * The decoder is asked for its count every [`COUNT_EVERY`], also where nothing stored is asked for by itself: only that
//!   shows that its push was switched off ([`push`]).
//!
//! `PING` is not used: what it is answered with is not known; `GETSTATUS` also tells the clock, battery and errors.

mod push;
mod record;
mod rewind;

use std::collections::BTreeMap;
use std::time::Duration;

use self::push::Push;
use self::rewind::{Came, Rewind};
use crate::decoders::line::{Line, Lines};
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, options, text};
use crate::model::chip::StoredRanges;

pub(super) const NAME: &str = "raceresult";
const STATUS_EVERY: Duration = Duration::from_secs(15);
/// A passing that was pushed and never arrived, a file that was cleared, and a push that was switched off are noticed after
/// this at the latest.
const COUNT_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The version whose 20 columns are read here.
const VERSION: (u32, u32) = (2, 0);
const BATTERY_LOW: i64 = 20;

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    options::none(NAME, settings)?;
    Ok(Box::new(RaceResult::default()))
}

/// How far the conversation is: each step waits for the answer to its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// There is nobody to talk to (yet).
    #[default]
    Listening,
    Protocol,
    Version,
    BoxName,
    Push,
    Running,
}

#[derive(Default)]
struct RaceResult {
    lines: Lines,
    talk: Talk,
}

/// Everything but the bytes of a line that has not ended.
#[derive(Default)]
struct Talk {
    step: Step,
    step_since: Duration,
    /// The version to ask for.
    version: (u32, u32),
    rewind: Option<Rewind>,
    push: Push,
    /// What is missing is asked for by itself; else only what somebody asks for.
    automatic: bool,
    /// What was said of the decoder's condition, to say only what changed.
    said: BTreeMap<Condition, Option<String>>,
    up: Duration,
    last_status: Duration,
    last_count: Duration,
}

impl Protocol for RaceResult {
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        (self.talk.rewind, self.talk.automatic) = (Some(Rewind::new(held)), rewind);
        self.talk.version = VERSION;
        self.talk.step = Step::Protocol;
        out.reply(*b"GETPROTOCOL\r\n");
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        let Self { lines, talk } = self;
        lines.feed(bytes, |line| match line {
            Line::Whole(line) => talk.line(line, out),
            Line::TooLong(start) => out.frame(Frame::Rejected(Reject::TooLong), start),
        });
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.talk.tick(up, out);
    }

    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        match &mut self.talk.rewind {
            Some(rewind) if self.talk.step == Step::Running => rewind.by_hand(range, out),
            _ => Err("its connection has just begun: try again in a moment"),
        }
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| match line {
            Line::Whole(rest) => out.frame(Frame::Rejected(Reject::Unfinished), rest),
            Line::TooLong(start) => out.frame(Frame::Rejected(Reject::TooLong), start),
        });
    }
}

impl Talk {
    fn line(&mut self, raw: &[u8], out: &mut Output) {
        let text = text::latin_1(raw);
        let fields: Vec<&str> = text.split(';').collect();
        let word = fields[0];
        if text.trim().is_empty() {
            out.frame(Frame::Info(Info::Alive), raw);
            if let Some(rewind) = &mut self.rewind {
                rewind.blank(out);
            }
        } else if word == "#P" {
            self.record(&fields[1..], true, raw, out);
        } else if record::digits(word).is_some() {
            self.record(&fields, false, raw, out);
        } else if is_word(word) {
            self.reply(word, &fields, raw, out);
        } else {
            out.frame(Frame::Rejected(Reject::NotMine), raw);
        }
    }

    fn record(&mut self, columns: &[&str], pushed: bool, raw: &[u8], out: &mut Output) {
        match record::read(columns) {
            Err(reason) => out.frame(Frame::Rejected(reason), raw),
            Ok(mut read) => {
                let (Some(rewind), Some(position)) = (&mut self.rewind, read.position.clone()) else {
                    return out.frame(Frame::Read(read), raw);
                };
                let came = Came { position, content: read.content(), pushed };
                read.replay |= !pushed;
                rewind.compare(&came, out); // that it was cleared is said before its new passings
                out.frame(Frame::Read(read), raw);
                if pushed {
                    self.push.came(came.position.number, out);
                }
                rewind.row(&came, out);
            }
        }
    }

    fn reply(&mut self, word: &str, fields: &[&str], raw: &[u8], out: &mut Output) {
        if word == "GETSTATUS" {
            self.status(fields, raw, out);
        } else {
            out.frame(Frame::Info(Info::Alive), raw);
        }
        let field = |at: usize| fields.get(at).map(|field| field.trim()).filter(|field| !field.is_empty());
        match word {
            "GETPROTOCOL" => {
                if let (Some(min), Some(max)) = (field(2).and_then(version), field(3).and_then(version)) {
                    self.version = VERSION.min(max).max(min);
                }
            }
            "GETCONFIG" if field(2) == Some("BOXNAME") => {
                if let (Some(rewind), Some(id)) = (&mut self.rewind, field(4)) {
                    rewind.unit(id);
                }
            }
            "PASSINGS" => {
                if let (Some(rewind), Some(count)) = (&mut self.rewind, field(1).and_then(record::digits)) {
                    let file = field(2).and_then(record::digits);
                    self.push.counted(rewind.last(count), file, self.up);
                    if self.automatic {
                        rewind.counted(count, file, out);
                    }
                }
            }
            "SETPUSHPASSINGS" => {
                self.push.is_on();
                if self.step == Step::Running {
                    self.count(out); // what is above it has to be pushed
                }
            }
            _ => {}
        }
        if self.step.answer() == Some(word) {
            self.next_step(out);
        }
    }

    fn next_step(&mut self, out: &mut Output) {
        self.step_since = self.up;
        self.step = match self.step {
            Step::Listening => Step::Listening,
            Step::Protocol => {
                out.reply(format!("SETPROTOCOL;{}.{}\r\n", self.version.0, self.version.1));
                Step::Version
            }
            Step::Version => {
                out.reply(*b"GETCONFIG;GENERAL;BOXNAME\r\n");
                Step::BoxName
            }
            Step::BoxName => {
                out.reply(*b"SETPUSHPASSINGS;1;0\r\n");
                Step::Push
            }
            Step::Push | Step::Running => {
                out.reply(*b"GETSTATUS\r\n");
                self.last_status = self.up;
                self.count(out);
                Step::Running
            }
        };
    }

    fn count(&mut self, out: &mut Output) {
        self.last_count = self.up;
        if let Some(rewind) = &mut self.rewind {
            rewind.counting();
        }
        out.reply(*b"PASSINGS\r\n");
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        if self.step == Step::Listening {
            return;
        }
        if self.step != Step::Running {
            if up.saturating_sub(self.step_since) >= ANSWER_WAIT {
                self.next_step(out);
            }
            return;
        }
        if let Some(rewind) = &mut self.rewind {
            rewind.tick(up, out);
        }
        if up.saturating_sub(self.last_status) >= STATUS_EVERY {
            self.last_status = up;
            out.reply(*b"GETSTATUS\r\n");
        }
        if self.push.tick(up, self.automatic, out) {
            out.reply(*b"SETPUSHPASSINGS;1;0\r\n");
        }
        let wanted = self.rewind.as_mut().is_some_and(Rewind::wants_count); // at most once a turn
        let every = self.push.count_every().unwrap_or(COUNT_EVERY);
        if wanted || up.saturating_sub(self.last_count) >= every {
            self.count(out);
        }
    }

    fn status(&mut self, fields: &[&str], raw: &[u8], out: &mut Output) {
        // By the number a field has in the documents, from 1; emulators send only the first few.
        let field = |number: usize| fields.get(number).map(|field| field.trim()).filter(|field| !field.is_empty());
        match record::stamp(field(1).unwrap_or(""), field(2).unwrap_or("")) {
            Ok(stamp) => out.frame(Frame::Info(Info::Clock(stamp)), raw),
            Err(_) => out.frame(Frame::Info(Info::Alive), raw),
        }
        if let Some(mode) = field(5) {
            let text = "the decoder is not in timing mode: it stores no passings; start it at the decoder";
            self.condition(Condition::NotTiming, (mode == "0").then(|| text.to_owned()), out);
        }
        if let Some(percent) = field(10).and_then(|field| field.parse::<i64>().ok()).filter(|percent| *percent >= 0) {
            let text = format!("the decoder's battery is at {percent} %: charge it or plug it in");
            self.condition(Condition::LowBattery, (percent < BATTERY_LOW).then_some(text), out);
        }
        if let Some(bits) = field(24).and_then(|field| field.parse().ok()) {
            self.condition(Condition::DecoderError, decoder_error(bits), out);
        }
    }

    fn condition(&mut self, code: Condition, text: Option<String>, out: &mut Output) {
        if self.said.get(&code) != Some(&text) {
            self.said.insert(code, text.clone());
            out.frame(Frame::Info(Info::Condition { code, text }), b"");
        }
    }
}

impl Step {
    /// The first word of the answer it waits for.
    fn answer(self) -> Option<&'static str> {
        match self {
            Self::Protocol => Some("GETPROTOCOL"),
            Self::Version => Some("SETPROTOCOL"),
            Self::BoxName => Some("GETCONFIG"),
            Self::Push => Some("SETPUSHPASSINGS"),
            Self::Listening | Self::Running => None,
        }
    }
}

/// A reply's first field: capitals, also `ONLY 12` and pushed notices (`#S`).
fn is_word(word: &str) -> bool {
    let first = word.split(' ').next().unwrap_or_default();
    let first = first.strip_prefix('#').unwrap_or(first);
    !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn decoder_error(bits: u32) -> Option<String> {
    const NAMES: [(u32, &str); 7] = [
        (1, "UHF reader"),
        (16, "loop"),
        (32, "loop limit"),
        (64, "active antenna lost"),
        (256, "GPS synchronisation"),
        (512, "GPS communication"),
        (1024, "time of the active part"),
    ];
    let known = NAMES.iter().fold(0, |sum, (bit, _)| sum | bit);
    let mut parts: Vec<String> =
        NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    if bits & !known != 0 {
        parts.push(format!("error bits {}", bits & !known));
    }
    (!parts.is_empty()).then(|| format!("the decoder reports an error: {}; look at the decoder", parts.join(", ")))
}

#[cfg(test)]
mod tests;
