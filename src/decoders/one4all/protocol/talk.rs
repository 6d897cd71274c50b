//! The conversation with a One4All 5: it finds the session file of each passing, and the passings
//! that are missing.
//!
//! What must hold:
//! * **One question at a time.** The protocol asks the next question when the answer has arrived or
//!   its time is over. The answer to a range is its rows and an empty line. The first question
//!   waits for the greeting or the first tick.
//! * **A passing has the file in which it is stored.** The file is part of a read's identity: a
//!   passing that arrives twice under two files would be two passings. Another program may begin a
//!   session at any time, and the decoder does not report this to us. The protocol therefore asks
//!   for the file before each question about passings of the current one. Live rows wait for the
//!   answer to `GETSTATUS` where the file is not certain: before the first answer; when the last
//!   answer is older than [`CERTAIN`]; when a number is not the next one, or is 1. (A repeat of the
//!   same record waits for nothing.) At most [`WAITING`] rows wait. A waiting row belongs to the
//!   previous file if its stamp is before the beginning of the new one.
//! * **No passing stays missing.** At connect the protocol asks for the numbers that the journal
//!   does not have: first in the files that the decoder has left and that are stored in part, then
//!   in the current file. Then it sends `PUSHTAGS;true`. It asks at once for a gap in the pushed
//!   numbers. It also sends `PASSINGS` every [`COUNT_PERIOD`], which shows the passings that were
//!   not pushed. Passings that the decoder counts but does not send are reported as
//!   `reads_missing`, and asked for again.
//! * **A stored number is known with its content.** At connect the protocol asks again for the last
//!   stored number. It does so too when the count jumps without a push. Another chip or stamp under
//!   a stored number means that the file was cleared: the protocol forgets the stored ranges of the
//!   file and asks for everything. A count below the highest number means the same.
//! * **A decoder that does not push to us is reported.** The decoder pushes only to the connection
//!   that was opened last. If it counts passings that it does not push, the protocol asks for the
//!   count every [`STARVED_PERIOD`], repeats `PUSHTAGS;true` once a minute, and reports a problem
//!   until a row is pushed again.
//!
//! Nothing on the wire separates a requested row from a pushed one. A row belongs to the open range
//! if its number is in the range and above the last row of the range. All other rows are live. For
//! a range of the current file both mean the same file. The protocol asks for an old file before
//! `PUSHTAGS`, so that the decoder pushes nothing meanwhile. If a new session begins on this link,
//! the protocol asks for the rest of the old file while the decoder pushes rows of the new one. A
//! row stamped at or after the new file's start is then live. That requires a clock that was not
//! set back in between, so the start is compared with the last row of the old file. If the clock
//! was set back, the link makes the connection again, and the protocol asks for the rest at its
//! beginning.
//!
//! By hand a person may ask for any numbers of any file, whether they are stored or not. The
//! protocol asks for them in pieces of [`PIECE`]. It stops after the first piece without rows, or
//! when the session file changes.
//!
//! If a decoder does not report its file, the protocol asks for everything that the decoder counts
//! at each connection, and the journal recognises the repeats by their content. It does not do so
//! if the journal has named files of the decoder, because the decoder is then only stopped. Nothing
//! shows to which session the rows of such a decoder belong.
//!
//! Rejected: `LISTFILES` to find sessions that were run while this box was off. They may belong to
//! another race, and would be uploaded into this race's session.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::civil::DateTime;

use super::row::{Said, file_start, said, stamp};
use crate::decoders::line::Line;
use crate::decoders::{self, Cleared, Condition, Frame, Info, Output, Reject};
use crate::model::chip::{ChipRead, Content, Label, Position, Stamp, StoredRanges};

/// The longest silence in a requested range before the protocol gives it up.
const RANGE_LIMIT: Duration = Duration::from_secs(30);
/// The longest wait for any other answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const PING_PERIOD: Duration = Duration::from_secs(10);
const COUNT_PERIOD: Duration = Duration::from_secs(5);
/// The same while the decoder does not push the passings that it counts.
const STARVED_PERIOD: Duration = Duration::from_secs(3);
/// How often the protocol then asks the decoder to push again.
const PUSH_PERIOD: Duration = Duration::from_secs(60);
/// This many counts in a row must show passings that were not pushed, before this is reported.
const STARVED: u32 = 2;
/// For this time the last reported file counts as the file of live rows.
const CERTAIN: Duration = Duration::from_secs(2);
/// How often the protocol sends `GETSTATUS` to a decoder that did not answer it.
const DEAF_PERIOD: Duration = Duration::from_secs(60);
/// How many times the protocol asks for the last stored number, to compare it, if the number does
/// not arrive.
const CHECKS: u32 = 2;
const CLOCK_PERIOD: Duration = Duration::from_secs(60);
/// The protocol asks again for missing passings when the missing numbers change, or after this
/// time.
const RETRY_PERIOD: Duration = Duration::from_secs(300);
/// The protocol sends `GETSTATUS` this many times before the decoder counts as one that does not
/// report its file.
const STATUS_TRIES: u32 = 3;
/// The most numbers of one question.
const PIECE: u64 = 500;
/// The most rows that may wait for the name of their file, and the most bytes. A thousand rows as
/// decoders send them have half as many bytes.
const WAITING: usize = 1000;
const WAITING_BYTES: usize = 128 * 1024;
/// The error text if a file is meant and its name is not valid.
const NO_FILE: &str = "a session file is named like 20191212-090206.csv";
/// The number of left files that are finished at connect: the last one, and one before it that was
/// cut short.
const OLD_FILES: usize = 2;
/// The most files that wait to be finished, and the most that were not sent whole.
const OLD_MOST: usize = 8;
/// Passings of the current file are missing. `OLD_MISSING` is the same for an earlier file.
const MISSING: Condition = Condition::ReadsMissing;
const OLD_MISSING: Condition = Condition::OldReadsMissing;
/// The decoder does not send its passings by itself.
const UNPUSHED: Condition = Condition::PassingsNotPushed;
/// The end of an old file whose length the decoder does not report. No session has as many rows.
const OPEN_END: u64 = 999_999;

/// A question whose answer has not ended.
#[derive(Debug)]
enum Question {
    Protocol,
    Status,
    Clock,
    /// The number of rows of an old file.
    FileInfo(Label),
    /// The number of rows of the current file, with the highest stored number at the time of the
    /// question.
    Count(Option<u64>),
    Range(Range),
    Push,
    Ping,
}

/// A range of passings that the protocol asked for.
#[derive(Debug)]
struct Range {
    file: Option<Label>,
    from: u64,
    to: u64,
    /// The last row of the range that arrived. It is 0 before the first.
    last: u64,
    /// The range is a part of what a person asked for.
    by_hand: bool,
}

/// The rest of what a person asked for. A file of `None` is the current file.
#[derive(Debug)]
struct Hand {
    file: Option<Label>,
    from: u64,
    to: u64,
}

/// A file that is fetched up to `count`. The gaps from `next` on have not been asked for yet.
#[derive(Debug)]
struct Fetch {
    file: Option<Label>,
    next: u64,
    count: u64,
    /// A stored number that the protocol has to ask for again, to compare it.
    check: Option<u64>,
}

/// When each question is due, as the age of the link. `None`: it is not wanted now.
#[derive(Debug, Default)]
struct Due {
    protocol: Option<Duration>,
    status: Option<Duration>,
    clock: Option<Duration>,
    count: Option<Duration>,
    push: Option<Duration>,
    ping: Option<Duration>,
}

/// All that is known on one link. Before [`Talk::connected`] it only decodes.
#[derive(Debug, Default)]
pub(super) struct Talk {
    linked: bool,
    rewind: bool,
    held: StoredRanges,
    /// Age of the link.
    now: Duration,
    /// The decoder has sent its greeting, or had its time for it.
    greeted: bool,
    unit: Option<Box<str>>,
    /// The session file that the decoder writes now, as far as it reports it.
    file: Option<Label>,
    /// The decoder answered `GETSTATUS` on this link, or the protocol gave that question up.
    told: bool,
    /// A running decoder did not report its file, so the protocol does not ask again for each row.
    tells_no_file: bool,
    /// The protocol gave up `GETSTATUS`.
    deaf: bool,
    /// No row has to wait, because `file` is from an answer after the last reason to ask.
    sure: bool,
    /// When the decoder last reported its file, or that it has none.
    certain_at: Duration,
    /// The file was reported with the last answer.
    fresh: bool,
    status_tries: u32,
    /// The previous file, just after a change, and whether stamps separate its rows from those of
    /// the current one.
    before: Option<(Label, bool)>,
    /// The contents of the rows without a file that were stored before this link. At most
    /// [`StoredRanges::CONTENTS`].
    unnamed: BTreeMap<u64, Content>,
    /// How many more times the protocol may ask for the last stored number.
    checks: u32,
    /// The number that it asked for.
    checking: Option<u64>,
    /// Counts in a row that showed more passings than were pushed.
    unpushed: u32,
    told_unpushed: bool,
    said_complete: bool,
    waiting: Vec<(u64, ChipRead, Box<[u8]>)>,
    waiting_bytes: usize,
    asked: Option<Question>,
    /// When the question was sent, or when the last row of its range arrived.
    asked_at: Duration,
    pushing: bool,
    /// The files to finish, oldest first. At most [`OLD_MOST`].
    old: VecDeque<Label>,
    /// The files that were not sent whole, and when the protocol asks for them again.
    old_missing: BTreeMap<Label, Duration>,
    fetch: Option<Fetch>,
    hand: Option<Hand>,
    /// The numbers of the current file that were still missing after the protocol asked for them,
    /// and when that was.
    left: Vec<(u64, u64)>,
    left_at: Duration,
    due: Due,
    /// The time of the last live row of the current file.
    last_local: Option<DateTime>,
    /// A live row of the current file had no date.
    undated: bool,
}

impl Talk {
    pub(super) fn connected(&mut self, held: StoredRanges, rewind: bool) {
        let now = Some(Duration::ZERO);
        let due = Due { protocol: now, status: now, clock: now, push: now, ping: Some(PING_PERIOD), ..Due::default() };
        *self = Self { linked: true, rewind, held, due, ..Self::default() };
    }

    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        self.now = up;
        self.greeted = true;
        let limit = if matches!(self.asked, Some(Question::Range(_))) { RANGE_LIMIT } else { ANSWER_LIMIT };
        if up.saturating_sub(self.asked_at) >= limit
            && let Some(question) = self.asked.take()
        {
            self.unanswered(&question, out);
        }
        self.ask_next(out);
    }

    pub(super) fn end(&mut self, out: &mut Output) {
        self.release(out);
    }

    pub(super) fn line(&mut self, line: Line<'_>, out: &mut Output) {
        let raw = match line {
            Line::TooLong(bytes) => return out.frame(Frame::Rejected(Reject::TooLong), bytes),
            Line::Whole(bytes) => bytes,
        };
        self.greeted = true;
        match said(raw) {
            Err(reason) => out.frame(Frame::Rejected(reason), raw),
            Ok(Said::Passing(number, read)) => self.row(number, read, raw, out),
            Ok(Said::Reply(word, values)) => {
                let clock = if word == "GETTIME" { clock(&values) } else { None };
                out.frame(Frame::Info(clock.map_or(Info::Alive, Info::Clock)), raw);
                self.reply(word, &values, out);
            }
            Ok(Said::Blank) => {
                if let Some(Question::Range(range)) = self.asked.take_if(|asked| matches!(asked, Question::Range(_))) {
                    self.ended(&range, out);
                }
            }
        }
        self.ask_next(out);
    }

    /// Takes a passing, requested or pushed (the head of this module says how they are separated).
    fn row(&mut self, number: u64, mut read: ChipRead, raw: &[u8], out: &mut Output) {
        if !self.linked {
            return self.put(number, self.file.clone(), read, raw, out);
        }
        if let Some(file) = self.claim(number, local_of(&read)) {
            read.replay = true;
            if file == self.file && self.checking.take_if(|checking| *checking == number).is_some() {
                self.checks = 0;
            }
            return self.put(number, file, read, raw, out);
        }
        self.pushed(out);
        if self.sure && !self.is_certain(number, read.content()) {
            self.sure = false;
            self.status_tries = 0;
            self.due.status = Some(self.now);
        }
        if !self.sure {
            self.waiting.push((number, read, raw.into()));
            self.waiting_bytes += raw.len();
            if self.waiting.len() >= WAITING || self.waiting_bytes >= WAITING_BYTES {
                self.release(out);
            }
            return;
        }
        self.live(number, read, raw, out);
    }

    /// Whether the file of a live row is known without a question.
    fn is_certain(&self, number: u64, content: Content) -> bool {
        if self.deaf || (self.file.is_none() && self.tells_no_file) {
            return true; // no answer would show the file
        }
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        if self.held.content(unit, file, number) == Some(content) {
            return true; // a repeat
        }
        let next = self.held.highest(unit, file).map_or(1, |highest| highest.saturating_add(1));
        let recent = self.now.saturating_sub(self.certain_at) < CERTAIN;
        file.is_some() && recent && number == next && number > 1
    }

    /// Takes a live row whose file is known.
    fn live(&mut self, number: u64, read: ChipRead, raw: &[u8], out: &mut Output) {
        let local = local_of(&read);
        self.undated |= local.is_none();
        self.last_local = local.or(self.last_local);
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        let highest = self.held.highest(unit, file).unwrap_or(0);
        if self.held.has(unit, file, number) && self.held.content(unit, file, number).is_none() {
            self.doubt(); // nobody remembers its content
        }
        if self.rewind && self.pushing && self.fetch.is_none() && number > highest.saturating_add(1) {
            self.fetch = Some(Fetch { file: self.file.clone(), next: highest + 1, count: number - 1, check: None });
        }
        self.put(number, self.file.clone(), read, raw, out);
    }

    /// The protocol has to ask again for the last stored number.
    fn doubt(&mut self) {
        self.checks = CHECKS;
        self.due.count = self.due.count.map(|_| self.now);
    }

    /// A live row arrived.
    fn pushed(&mut self, out: &mut Output) {
        self.unpushed = 0;
        if std::mem::take(&mut self.told_unpushed) {
            self.due.push = None;
            condition(UNPUSHED, None, out);
        }
    }

    /// Returns the file of the range that this row belongs to, or `None` for a live row.
    fn claim(&mut self, number: u64, local: Option<DateTime>) -> Option<Option<Label>> {
        let Some(Question::Range(range)) = &mut self.asked else { return None };
        let inside = (range.from..=range.to).contains(&number) && number > range.last;
        // The name of a file shows the second in which the file began.
        let next =
            self.held.highest(self.unit.as_deref(), self.file.as_ref()).map_or(1, |highest| highest.saturating_add(1));
        let is_after = |start: DateTime, local: DateTime| {
            local >= start && (number == next || local >= start.saturating_add(jiff::SignedDuration::from_secs(1)))
        };
        let of_new_file = self.pushing
            && range.file != self.file
            && started(self.file.as_ref()).zip(local).is_some_and(|(start, local)| is_after(start, local));
        if !inside || of_new_file {
            return None;
        }
        range.last = number;
        self.asked_at = self.now;
        Some(range.file.clone())
    }

    fn put(&mut self, number: u64, file: Option<Label>, mut read: ChipRead, raw: &[u8], out: &mut Output) {
        let position = Position { unit: self.unit.clone(), file, number };
        if self.linked {
            let content = read.content();
            self.compare(&position, content, out);
            self.held.insert_read(&position, content);
            if position.file == self.file && self.left.iter().any(|(from, to)| (*from..=*to).contains(&number)) {
                self.left_was_given(out);
            }
        }
        read.position = Some(position);
        out.frame(Frame::Read(read), raw);
    }

    /// Compares the record with the one that is stored under its number.
    fn compare(&mut self, position: &Position, content: Content, out: &mut Output) {
        let (unit, file, number) = (position.unit.as_deref(), position.file.as_ref(), position.number);
        let known = self.held.content(unit, file, number);
        let known = known.or_else(|| self.unnamed.get(&number).copied().filter(|_| file.is_none()));
        if known.is_some_and(|known| known != content) {
            self.cleared(
                position.file.clone(),
                format!("its passing {number} is another one than before: it was cleared"),
                out,
            );
        }
    }

    /// The stored passings of a file are not in it any more.
    fn cleared(&mut self, file: Option<Label>, text: String, out: &mut Output) {
        self.held.forget(self.unit.as_deref(), file.as_ref());
        self.unnamed.clear();
        if file == self.file {
            self.fetch = None;
            self.checks = 0;
            self.due.count = self.due.count.map(|_| self.now); // this asks for the whole file
            if let Some(Question::Count(highest)) = &mut self.asked {
                *highest = None;
            }
            if !std::mem::take(&mut self.left).is_empty() {
                condition(MISSING, None, out); // the file has these passings no more
            }
        } else if let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.file == file) {
            fetch.next = 1;
        }
        let cleared = Cleared { unit: self.unit.clone(), file, text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
    }

    /// A missing passing of the current file arrived.
    fn left_was_given(&mut self, out: &mut Output) {
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        let end = self.left.last().map_or(0, |last| last.1);
        self.left = self.held.missing(unit, file, 1, end);
        if self.left.is_empty() {
            condition(MISSING, None, out);
        }
    }

    /// Puts out the rows that waited for the name of their file.
    fn release(&mut self, out: &mut Output) {
        self.sure = true;
        self.waiting_bytes = 0;
        let before = self.before.take();
        let start = started(self.file.as_ref());
        for (number, read, raw) in std::mem::take(&mut self.waiting) {
            let earlier = before.as_ref().filter(|(file, can_tell)| match can_tell {
                true => start.zip(local_of(&read)).is_some_and(|(start, at)| at < start),
                false => self.held.highest(self.unit.as_deref(), Some(file)).is_some_and(|last| number == last + 1),
            });
            match earlier {
                Some((file, _)) => self.put(number, Some(file.clone()), read, &raw, out),
                None => self.live(number, read, &raw, out),
            }
        }
    }

    fn reply(&mut self, word: &str, values: &[&str], out: &mut Output) {
        if word == "START"
            && let Some(file) = values.iter().find_map(|value| file_label(value))
        {
            if self.told {
                self.release(out); // rows before the reply are of the previous file
            }
            self.file_is(Some(file), out);
        }
        // Only the reply to the open question answers it. Any other reply is chatter.
        match (self.asked.take(), word) {
            (Some(Question::Protocol), "GETPROTOCOL") => protocol(values, out),
            (Some(Question::Status), "GETSTATUS") => self.status(values, out),
            (Some(Question::Clock), "GETTIME") | (Some(Question::Ping), "PING") => {}
            (Some(Question::FileInfo(file)), "GETFILEINFO") => {
                let count = values.iter().rfind(|value| !value.is_empty()).and_then(|count| rows(count));
                self.fetch_old(file, count.unwrap_or(OPEN_END));
            }
            (Some(Question::Count(highest)), "PASSINGS") => {
                if let Some(count) = values.first().and_then(|count| rows(count)) {
                    self.count(count, highest, out);
                }
            }
            // The reply is a refusal. An echo of the question would have its number or its file.
            (Some(Question::Range(range)), "GETPASSINGS" | "GETFILE") => {
                let refused = values.first().is_none_or(|value| value.starts_with("ERR") || value.is_empty());
                if refused {
                    self.ended(&range, out);
                } else {
                    self.asked = Some(Question::Range(range));
                }
            }
            (Some(Question::Push), "PUSHTAGS") => {
                let pushed = values.first().is_some_and(|value| value.eq_ignore_ascii_case("true"));
                let again = self.told_unpushed.then_some(self.now + PUSH_PERIOD);
                self.due.push = if pushed { again } else { Some(self.now + RANGE_LIMIT) };
                self.unpushed = 0; // passings counted from now on must be pushed
                self.due.count = self.due.count.map(|_| self.now); // finds earlier passings
            }
            (question, _) => self.asked = question,
        }
    }

    /// Reads the answer to `GETSTATUS`: a field that looks like a session file, and a serial number
    /// if one is named.
    fn status(&mut self, values: &[&str], out: &mut Output) {
        let serial = values.windows(2).find(|pair| pair[0].to_ascii_uppercase().starts_with("SERIAL"));
        if let Some([_, serial]) = serial
            && !serial.is_empty()
        {
            self.unit = Some((*serial).into());
        }
        (self.deaf, self.fresh) = (false, true);
        self.file_is(values.iter().find_map(|value| file_label(value)), out);
    }

    /// The decoder reported its file, or (`None`) reported none.
    fn file_is(&mut self, file: Option<Label>, out: &mut Output) {
        let first = !std::mem::replace(&mut self.told, true);
        self.certain_at = self.now;
        if file.is_none() {
            self.tells_no_file = !self.waiting.is_empty();
        }
        if !self.linked {
            self.file = file;
        } else if first || (file.is_some() && file != self.file) {
            self.begin(file, first, out);
        }
        self.release(out);
    }

    /// Begins with `file`, which is the first one of this link, or a new one.
    fn begin(&mut self, file: Option<Label>, first: bool, out: &mut Output) {
        let before = std::mem::replace(&mut self.file, file);
        if let (false, Some(file)) = (first, &self.file) {
            out.frame(Frame::Info(Info::Restarted(format!("new session file {file}"))), b"");
        }
        if !std::mem::take(&mut self.left).is_empty() {
            condition(MISSING, None, out); // the previous file has a report of its own
        }
        self.fetch = None;
        self.hand = None;
        (self.unpushed, self.checks, self.checking) = (0, 0, None);
        let (last, undated) = (self.last_local.take(), std::mem::take(&mut self.undated));
        let known = last.or(started(before.as_ref()));
        let can_tell = !undated && started(self.file.as_ref()).zip(known).is_some_and(|(start, last)| start >= last);
        if !first {
            self.before = before.clone().map(|before| (before, can_tell));
        }
        if !self.rewind {
            return;
        }
        let named: Vec<_> = self.held.files().filter(|(_, file, _)| file.is_some()).collect();
        if first {
            let unit = self.unit.as_deref();
            let old = named.iter().filter(|(of, file, _)| *of == unit && *file != self.file.as_ref());
            // The protocol asks only for files whose names have the form of its own: the journal
            // may know this decoder name from another decoder.
            let old = old.filter_map(|(_, file, _)| started(*file).and(file.cloned()));
            let old: Vec<Label> = old.collect();
            self.old.extend(old[old.len().saturating_sub(OLD_FILES)..].iter().cloned());
            let known = self.held.highest_with_content(unit, self.file.as_ref());
            self.checks = known.map_or(0, |_| CHECKS);
        } else if let Some(before) = before {
            if !can_tell {
                out.hang_up("a session began with another clock: connecting again to finish the one before");
            } else if self.old.len() < OLD_MOST {
                self.old.push_back(before);
            }
        }
        self.due.count = (self.file.is_some() || named.is_empty()).then_some(self.now);
        if self.file.is_none() {
            // Numbers of another connection may be of another file. The protocol asks for
            // everything and compares it.
            let unit = self.unit.as_deref();
            let last = self.held.highest_with_content(unit, None).unwrap_or(0);
            let numbers = last.saturating_sub(StoredRanges::CONTENTS as u64)..=last;
            self.unnamed = numbers.filter_map(|at| Some((at, self.held.content(unit, None, at)?))).collect();
            self.held.forget(unit, None);
        }
    }

    /// The decoder counts `count` passings in its current file.
    fn count(&mut self, count: u64, highest: Option<u64>, out: &mut Output) {
        if let Some(highest) = highest
            && count < highest
        {
            self.cleared(
                self.file.clone(),
                format!("it counts {count} passings and {highest} were there: it was cleared"),
                out,
            );
        }
        if self.pushing && count > self.held.highest(self.unit.as_deref(), self.file.as_ref()).unwrap_or(0) {
            self.unpushed += 1; // or they are on their way
            self.checks = CHECKS; // for whatever reason
            self.starves(count, out);
        }
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        let check = self.held.highest_with_content(unit, file).filter(|last| self.checks > 0 && *last <= count);
        let missing = self.held.missing(unit, file, 1, count);
        let again = missing != self.left || self.now.saturating_sub(self.left_at) >= RETRY_PERIOD;
        if (check.is_some() || (!missing.is_empty() && again)) && self.fetch.is_none() {
            self.fetch = Some(Fetch { file: self.file.clone(), next: 1, count, check });
        } else if missing.is_empty() && !std::mem::replace(&mut self.said_complete, true) {
            condition(MISSING, None, out);
        }
    }

    /// The decoder counts passings that it did not push.
    fn starves(&mut self, count: u64, out: &mut Output) {
        self.due.count = self.due.count.map(|_| self.now + STARVED_PERIOD);
        if self.unpushed < STARVED {
            return;
        }
        if !std::mem::replace(&mut self.told_unpushed, true) {
            let text = format!(
                "the decoder counts {count} passings and does not send them by itself: it sends only to the program that \
                 connected last. They are asked for every 3 s meanwhile, so each comes a little late and none is missing. \
                 Close the other program"
            );
            condition(UNPUSHED, Some(text), out);
            self.due.push = Some(self.now);
        }
    }

    /// Fetches the rest of a file that the decoder has left. Its last stored number is compared
    /// too.
    fn fetch_old(&mut self, file: Label, count: u64) {
        let last = self.held.highest_with_content(self.unit.as_deref(), Some(&file));
        let check = last.filter(|last| *last <= count);
        self.fetch = Some(Fetch { file: Some(file), next: 1, count, check });
    }

    fn unanswered(&mut self, question: &Question, out: &mut Output) {
        match question {
            Question::Status => {
                self.status_tries += 1;
                if self.status_tries < STATUS_TRIES {
                    self.due.status = Some(self.now);
                } else {
                    (self.deaf, self.fresh) = (true, true);
                    self.due.status = Some(self.now + DEAF_PERIOD);
                    self.file_is(None, out);
                }
            }
            Question::Push => self.due.push = Some(self.now + PING_PERIOD),
            Question::FileInfo(file) => {
                self.fetch_old(file.clone(), OPEN_END);
            }
            Question::Range(range) => self.ended(range, out),
            _ => {} // these questions are periodic
        }
    }

    /// A person wants these passings again.
    pub(super) fn by_hand(&mut self, range: &decoders::Range, out: &mut Output) -> Result<(), &'static str> {
        if !self.linked || !self.told {
            return Err("its connection has just begun: try again in a moment");
        }
        if self.hand.is_some() || matches!(self.asked, Some(Question::Range(Range { by_hand: true, .. }))) {
            return Err("it is still giving what was asked for before");
        }
        if range.unit.as_deref().is_some_and(|unit| self.unit.as_deref().is_some_and(|known| known != unit)) {
            return Err("the decoder there has another serial number; leave --unit out");
        }
        let file = match &range.file {
            None => None,
            Some(Label::Text(name)) => Some(file_label(name).ok_or(NO_FILE)?),
            Some(Label::Number(_)) => return Err(NO_FILE),
        };
        let file = file.filter(|file| Some(file) != self.file.as_ref());
        if file.is_some() && started(self.file.as_ref()).is_none() {
            return Err("it does not tell its current file, so rows of another could not be told from new ones");
        }
        self.hand = Some(Hand { file, from: range.from, to: range.to });
        self.ask_next(out);
        Ok(())
    }

    /// The answer to a range is over.
    fn ended(&mut self, range: &Range, out: &mut Output) {
        if range.by_hand {
            if range.last == 0 {
                self.hand = None; // the decoder has no more
            } else if let Some(file) = range.file.as_ref().filter(|file| self.old_missing.contains_key(*file)) {
                let last = self.held.highest(self.unit.as_deref(), Some(file)).unwrap_or(0);
                if self.held.first_missing(self.unit.as_deref(), Some(file), 1, last).is_none() {
                    self.old_missing.remove(&file.clone());
                    self.tell_old(None, out);
                }
            }
        }
    }

    /// The next piece of what a person asked for.
    fn next_by_hand(&mut self) -> Option<Range> {
        let Hand { file, from, to } = self.hand.take()?;
        let end = to.min(from.saturating_add(PIECE - 1));
        let range = Range { file: file.clone().or(self.file.clone()), from, to: end, last: 0, by_hand: true };
        self.hand = (end < to).then(|| Hand { file, from: end.saturating_add(1), to });
        Some(range)
    }

    fn ask_next(&mut self, out: &mut Output) {
        if !self.linked || !self.greeted || self.asked.is_some() {
            return;
        }
        let now = self.now;
        let due = |at: &mut Option<Duration>, then: Option<Duration>| {
            let is_due = at.is_some_and(|at| at <= now);
            if is_due {
                *at = then.map(|period| now + period);
            }
            is_due
        };
        // Before a question about the current file the protocol asks which file that is.
        let of_current = |file: Option<&Label>| file.is_none() || file == self.file.as_ref();
        let wants_file = self.hand.as_ref().is_some_and(|hand| of_current(hand.file.as_ref()))
            || self.fetch.as_ref().is_some_and(|fetch| of_current(fetch.file.as_ref()) && self.has_more(fetch))
            || (self.hand.is_none()
                && self.fetch.is_none()
                && self.old.is_empty()
                && self.due.count.is_some_and(|at| at <= now));
        let is_fresh = self.fresh && self.certain_at == now;
        let wants_file = wants_file && !is_fresh && !self.deaf;
        if let Some(file) = self.old_missing.iter().find(|(_, at)| **at <= now).map(|(file, _)| file.clone())
            && self.old.len() < OLD_MOST
        {
            self.old_missing.insert(file.clone(), now + RETRY_PERIOD);
            self.old.push_back(file);
        }
        let question = if due(&mut self.due.protocol, None) {
            Question::Protocol
        } else if due(&mut self.due.status, None) || wants_file {
            Question::Status
        } else if due(&mut self.due.clock, Some(CLOCK_PERIOD)) {
            Question::Clock
        } else if let Some(range) = self.next_by_hand() {
            Question::Range(range)
        } else if let Some(range) = self.next_range(out) {
            Question::Range(range)
        } else if let Some(file) = self.old.pop_front() {
            Question::FileInfo(file)
        } else if due(&mut self.due.count, Some(COUNT_PERIOD)) {
            Question::Count(self.held.highest(self.unit.as_deref(), self.file.as_ref()))
        } else if due(&mut self.due.push, None) {
            self.pushing = true;
            Question::Push
        } else if due(&mut self.due.ping, None) {
            Question::Ping
        } else {
            return;
        };
        out.reply(self.text(&question));
        self.due.ping = Some(now + PING_PERIOD); // any answer is a life sign
        self.asked_at = now;
        let of_current = |range: &Range| range.file == self.file;
        let spoils = match &question {
            Question::Range(range) => of_current(range),
            Question::Count(_) => true,
            _ => false,
        };
        self.fresh &= !spoils;
        self.asked = Some(question);
    }

    fn text(&self, question: &Question) -> String {
        match question {
            Question::Protocol => "GETPROTOCOL\r\n".into(),
            Question::Status => "GETSTATUS\r\n".into(),
            Question::Clock => "GETTIME\r\n".into(),
            Question::FileInfo(file) => format!("GETFILEINFO;{file}\r\n"),
            Question::Count(_) => "PASSINGS\r\n".into(),
            Question::Range(Range { file: Some(file), from, to, .. }) if self.file.as_ref() != Some(file) => {
                format!("GETFILE;{file};{from};{to}\r\n")
            }
            Question::Range(Range { from, to, .. }) => format!("GETPASSINGS;{from};{to}\r\n"),
            Question::Push => "PUSHTAGS;true\r\n".into(),
            Question::Ping => "PING\r\n".into(),
        }
    }

    /// Whether the protocol still has to ask for a part of the file.
    fn has_more(&self, fetch: &Fetch) -> bool {
        let gap = || self.held.first_missing(self.unit.as_deref(), fetch.file.as_ref(), fetch.next, fetch.count);
        fetch.check.is_some() || gap().is_some()
    }

    /// Returns the next gap of the file being fetched. Without a gap the file is done, as far as
    /// the decoder sends it.
    fn next_range(&mut self, out: &mut Output) -> Option<Range> {
        let fetch = self.fetch.as_mut()?;
        let unit = self.unit.as_deref();
        let gap = self.held.first_missing(unit, fetch.file.as_ref(), fetch.next, fetch.count);
        let whole = fetch.count == OPEN_END; // its end is not known: one piece
        let piece = |from: u64, to: u64| if whole { to } else { to.min(from.saturating_add(PIECE - 1)) };
        if let Some(number) = fetch.check.take() {
            // The question includes the numbers that follow, if the first gap begins there.
            let follows = gap.filter(|gap| gap.0 == number.saturating_add(1)).map_or(number, |gap| gap.1);
            if fetch.file == self.file {
                (self.checks, self.checking) = (self.checks.saturating_sub(1), Some(number)); // asked again if it stays away
            }
            let to = piece(number, follows);
            if to > number {
                fetch.next = to.saturating_add(1);
            }
            return Some(Range { file: fetch.file.clone(), from: number, to, last: 0, by_hand: false });
        }
        if let Some((from, to)) = gap {
            let to = piece(from, to);
            fetch.next = to.saturating_add(1);
            return Some(Range { file: fetch.file.clone(), from, to, last: 0, by_hand: false });
        }
        let Fetch { file, count, .. } = self.fetch.take()?;
        if count == OPEN_END {
            return None; // nobody knows whether a passing is missing
        }
        let left = self.held.missing(unit, file.as_ref(), 1, count);
        let text = left.first().map(|(first, _)| {
            let numbers: u64 = left.iter().map(|(from, to)| to - from + 1).sum();
            let file = file.as_ref().map_or_else(String::new, |file| format!(" of {file}"));
            format!(
                "the decoder counts {numbers} passings{file} (the first is number {first}) that it does not hand \
                 over; compare with its own backup"
            )
        });
        if file == self.file {
            condition(MISSING, text, out);
            self.said_complete = true;
            self.left = left;
            self.left_at = self.now;
        } else if let Some(file) = file {
            if text.is_none() {
                self.old_missing.remove(&file);
            } else if self.old_missing.len() < OLD_MOST {
                self.old_missing.insert(file, self.now + RETRY_PERIOD);
            }
            self.tell_old(text, out);
        }
        None
    }

    /// Reports the earlier files that were not sent whole, or that there are none any more.
    fn tell_old(&self, text: Option<String>, out: &mut Output) {
        match text {
            Some(text) => condition(OLD_MISSING, Some(text), out),
            None if self.old_missing.is_empty() => condition(OLD_MISSING, None, out),
            None => {}
        }
    }
}

fn condition(code: Condition, text: Option<String>, out: &mut Output) {
    out.frame(Frame::Info(Info::Condition { code, text }), b"");
}

fn local_of(read: &ChipRead) -> Option<DateTime> {
    match read.stamp {
        Stamp::Local(local) => Some(local),
        _ => None,
    }
}

fn protocol(values: &[&str], out: &mut Output) {
    let current = values.first().copied().unwrap_or_default();
    let old = current.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major < 3);
    let text = old.then(|| {
        format!(
            "this does not look like a One4All 5 (it says protocol {current}, and passings need 3.0 or later). Is protocol = \
             \"raceresult\" meant? An old One4All: update it"
        )
    });
    out.frame(Frame::Info(Info::Condition { code: Condition::ProtocolTooOld, text }), b"");
}

/// A number of rows. A number above a billion is not valid.
fn rows(count: &str) -> Option<u64> {
    count.parse().ok().filter(|&count| count <= 1_000_000_000)
}

/// The decoder's clock from the fields of a `GETTIME` reply.
fn clock(values: &[&str]) -> Option<Stamp> {
    stamp(values.first()?, values.get(1)?).ok()
}

fn started(file: Option<&Label>) -> Option<DateTime> {
    match file? {
        Label::Text(name) => file_start(name),
        Label::Number(_) => None,
    }
}

/// A session file's label, always with `.csv`, because replies name the file with and, perhaps,
/// without it.
fn file_label(value: &str) -> Option<Label> {
    let name = value.rsplit('/').next().unwrap_or(value);
    let name = name.strip_suffix(".csv").unwrap_or(name);
    file_start(name).filter(|_| !name.ends_with(".csv"))?;
    Some(Label::Text(format!("{name}.csv").into()))
}
