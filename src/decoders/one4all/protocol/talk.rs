//! The conversation with a One4All 5: which session file its passings belong to, and which of them are missing.
//!
//! Must hold:
//! * **One question at a time.** The next is asked when the answer came or its time is over; the answer to a range
//!   is its rows and an empty line. The first waits for the greeting or the first tick.
//! * **A passing carries the file it is stored in.** The file is part of a read's identity: a passing that arrives
//!   twice under two files would be two. Another program may begin a session at any time, and nothing is told to this one. So
//!   the file is asked for before each question about passings of the current one, and live rows wait for the answer to
//!   `GETSTATUS` where it is not certain: before the first answer; when the last one is older than [`CERTAIN`]; when a
//!   number is not the next one, or is 1. (The same record once more is a repeat, and waits for nothing.) At most
//!   [`WAITING`] wait. What waited is of the file before if it is stamped before the new one began.
//! * **Nothing missed stays missed.** At connect the numbers that the journal does not hold are asked for: first of
//!   the files it holds a part of and the decoder has left, then of the current one; then `PUSHTAGS;true`. A jump in
//!   the pushed numbers is asked for at once, and `PASSINGS` every [`COUNT_PERIOD`] finds what was not pushed. What
//!   the decoder counts but does not hand over is reported as `reads_missing`, and asked for again.
//! * **A number is held with its content.** At connect the last one held is asked for again, and so it is when the count jumps
//!   without a push. Another chip or stamp under a number that is held means that the file was cleared: what was held of it
//!   is forgotten, and everything is asked for. So does a count below the highest number.
//! * **Who sends to nobody is told of.** The decoder pushes only to the connection opened last. Where it counts what it does not
//!   push, the count is asked for every [`STARVED_PERIOD`], `PUSHTAGS;true` is repeated once a minute, and a problem says so
//!   until a row is pushed again.
//!
//! Nothing on the wire tells a pulled row from a pushed one. A row belongs to the range asked for if its number is in
//! it and above the last row of it; all others are live. For a range of the current file both mean the same file.
//! An old file is asked for before `PUSHTAGS`, so that nothing is pushed meanwhile. If a new session begins on this
//! link, the rest of the old file is asked for while rows of the new one are pushed: then a row stamped at or after
//! the new file's start is live. That needs a clock that was not set back in between, which is checked against the
//! last row of the old file; if it was, the connection is made anew, and the rest asked for at its beginning.
//!
//! By hand any numbers may be asked for, held or not, of any file, in pieces of [`PIECE`]; they end with the first piece that
//! brings nothing, and with the session file.
//!
//! A decoder that tells no file: everything it counts is asked for at each connection, and the journal recognises
//! the repeats by their content; but not if the journal holds named files of it, since it is then only stopped. Which
//! session its rows are of nothing tells.
//!
//! Rejected: `LISTFILES` to find sessions that were run while this box was off. They may belong to another race,
//! and would be uploaded into this one's session.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::civil::DateTime;

use super::row::{Said, file_start, said, stamp};
use crate::decoders::line::Line;
use crate::decoders::{self, Cleared, Condition, Frame, Info, Output, Reject};
use crate::model::chip::{ChipRead, Content, Label, Position, Stamp, StoredRanges};

/// Longest silence in a pulled range before it is given up.
const RANGE_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for any other answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const PING_PERIOD: Duration = Duration::from_secs(10);
const COUNT_PERIOD: Duration = Duration::from_secs(5);
/// The same while it does not push what it counts.
const STARVED_PERIOD: Duration = Duration::from_secs(3);
/// How often it is asked to push again then.
const PUSH_PERIOD: Duration = Duration::from_secs(60);
/// Counts in a row that showed passings that were not pushed, before that is told.
const STARVED: u32 = 2;
/// So long the file that was told is taken to be the one of live rows.
const CERTAIN: Duration = Duration::from_secs(2);
/// How often `GETSTATUS` is asked of a decoder that did not answer it.
const DEAF_PERIOD: Duration = Duration::from_secs(60);
/// How often the last number held is asked for, to compare it, if it does not come.
const CHECKS: u32 = 2;
const CLOCK_PERIOD: Duration = Duration::from_secs(60);
/// What did not come is asked for again when the missing numbers change, or after this time.
const RETRY_PERIOD: Duration = Duration::from_secs(300);
/// `GETSTATUS` is asked so often before the decoder counts as one that does not tell its file.
const STATUS_TRIES: u32 = 3;
/// Numbers asked for at once.
const PIECE: u64 = 500;
/// Rows that may wait for the name of their file, and their bytes: a thousand of those that decoders send have half as many.
const WAITING: usize = 1000;
const WAITING_BYTES: usize = 128 * 1024;
/// What is told where a file is meant and none is named.
const NO_FILE: &str = "a session file is named like 20191212-090206.csv";
/// Files left behind that are finished at connect: the last one, and one before it that was cut short.
const OLD_FILES: usize = 2;
/// Files that are to be finished, or were not given whole, at the same time.
const OLD_MOST: usize = 8;
/// The current file's passings are missing; those of one before.
const MISSING: Condition = Condition::ReadsMissing;
const OLD_MISSING: Condition = Condition::OldReadsMissing;
/// Passings do not come by themselves.
const UNPUSHED: Condition = Condition::PassingsNotPushed;
/// The end of an old file whose length the decoder does not tell: more rows than a session has.
const OPEN_END: u64 = 999_999;

/// A question that is open.
#[derive(Debug)]
enum Question {
    Protocol,
    Status,
    Clock,
    /// How many rows an old file has.
    FileInfo(Label),
    /// How many rows the current file has; with the highest number held when it was asked.
    Count(Option<u64>),
    Range(Range),
    Push,
    Ping,
}

/// A range of passings that was asked for.
#[derive(Debug)]
struct Range {
    file: Option<Label>,
    from: u64,
    to: u64,
    /// The last row that came of it; 0 before the first.
    last: u64,
    /// It is a part of what somebody asked for.
    by_hand: bool,
}

/// What somebody asked for and is still to be asked; `None`: of the current file.
#[derive(Debug)]
struct Hand {
    file: Option<Label>,
    from: u64,
    to: u64,
}

/// A file of which everything up to `count` is wanted; gaps from `next` on are still to be asked for.
#[derive(Debug)]
struct Fetch {
    file: Option<Label>,
    next: u64,
    count: u64,
    /// A number that is held, to be asked for again and compared.
    check: Option<u64>,
}

/// When each question is due, as the age of the link; `None`: not wanted now.
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
    /// The decoder greeted, or had its time to.
    greeted: bool,
    unit: Option<Box<str>>,
    /// The session file that the decoder writes now, as far as it tells.
    file: Option<Label>,
    /// `GETSTATUS` was answered on this link, or given up.
    told: bool,
    /// A running decoder did not tell its file; it is not asked for each row.
    tells_no_file: bool,
    /// `GETSTATUS` was given up.
    deaf: bool,
    /// No row has to wait: `file` is what the decoder said after the last reason to ask.
    sure: bool,
    /// When the decoder last told its file, or that it has none.
    certain_at: Duration,
    /// It was told with the last answer.
    fresh: bool,
    status_tries: u32,
    /// The file before, just now, and whether stamps tell its rows from those of the current one.
    before: Option<(Label, bool)>,
    /// What the rows said that were held before this link and had no file; at most [`StoredRanges::CONTENTS`].
    unnamed: BTreeMap<u64, Content>,
    /// How often the last number held is still to be asked for.
    checks: u32,
    /// It was asked for.
    checking: Option<u64>,
    /// Counts in a row that showed more than was pushed.
    unpushed: u32,
    told_unpushed: bool,
    said_complete: bool,
    waiting: Vec<(u64, ChipRead, Box<[u8]>)>,
    waiting_bytes: usize,
    asked: Option<Question>,
    /// When it was asked, or when the last row of its range came.
    asked_at: Duration,
    pushing: bool,
    /// Files to finish, oldest first; at most [`OLD_MOST`].
    old: VecDeque<Label>,
    /// Those that were not given whole, and when they are asked for again.
    old_missing: BTreeMap<Label, Duration>,
    fetch: Option<Fetch>,
    hand: Option<Hand>,
    /// What was missing of the current file after it was asked for, and when.
    left: Vec<(u64, u64)>,
    left_at: Duration,
    due: Due,
    /// Of the last row of the current file that was live.
    last_local: Option<DateTime>,
    /// A live row of it had no date.
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

    /// A passing, pulled or pushed (see the module's head for how they are told apart).
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

    /// The file of a live row is known without asking.
    fn is_certain(&self, number: u64, content: Content) -> bool {
        if self.deaf || (self.file.is_none() && self.tells_no_file) {
            return true; // no answer would tell
        }
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        if self.held.content(unit, file, number) == Some(content) {
            return true; // a repeat
        }
        let next = self.held.highest(unit, file).map_or(1, |highest| highest.saturating_add(1));
        let recent = self.now.saturating_sub(self.certain_at) < CERTAIN;
        file.is_some() && recent && number == next && number > 1
    }

    /// A live row whose file is known.
    fn live(&mut self, number: u64, read: ChipRead, raw: &[u8], out: &mut Output) {
        let local = local_of(&read);
        self.undated |= local.is_none();
        self.last_local = local.or(self.last_local);
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        let highest = self.held.highest(unit, file).unwrap_or(0);
        if self.held.has(unit, file, number) && self.held.content(unit, file, number).is_none() {
            self.doubt(); // nobody remembers what it said
        }
        if self.rewind && self.pushing && self.fetch.is_none() && number > highest.saturating_add(1) {
            self.fetch = Some(Fetch { file: self.file.clone(), next: highest + 1, count: number - 1, check: None });
        }
        self.put(number, self.file.clone(), read, raw, out);
    }

    /// The last number held is to be asked for again.
    fn doubt(&mut self) {
        self.checks = CHECKS;
        self.due.count = self.due.count.map(|_| self.now);
    }

    /// A live row came.
    fn pushed(&mut self, out: &mut Output) {
        self.unpushed = 0;
        if std::mem::take(&mut self.told_unpushed) {
            self.due.push = None;
            condition(UNPUSHED, None, out);
        }
    }

    /// The file of the range that this row belongs to, `None` for a live row.
    fn claim(&mut self, number: u64, local: Option<DateTime>) -> Option<Option<Label>> {
        let Some(Question::Range(range)) = &mut self.asked else { return None };
        let inside = (range.from..=range.to).contains(&number) && number > range.last;
        // A file's name tells the second in which it began.
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

    /// Is it the record that is held under this number?
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

    /// What is held of a file is not in it any more.
    fn cleared(&mut self, file: Option<Label>, text: String, out: &mut Output) {
        self.held.forget(self.unit.as_deref(), file.as_ref());
        self.unnamed.clear();
        if file == self.file {
            self.fetch = None;
            self.checks = 0;
            self.due.count = self.due.count.map(|_| self.now); // all of it
            if let Some(Question::Count(highest)) = &mut self.asked {
                *highest = None;
            }
            if !std::mem::take(&mut self.left).is_empty() {
                condition(MISSING, None, out); // they are not in it any more
            }
        } else if let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.file == file) {
            fetch.next = 1;
        }
        let cleared = Cleared { unit: self.unit.clone(), file, text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
    }

    /// One came of what was missing of the current file.
    fn left_was_given(&mut self, out: &mut Output) {
        let (unit, file) = (self.unit.as_deref(), self.file.as_ref());
        let end = self.left.last().map_or(0, |last| last.1);
        self.left = self.held.missing(unit, file, 1, end);
        if self.left.is_empty() {
            condition(MISSING, None, out);
        }
    }

    /// Lets the rows go that waited for the name of their file.
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
                self.release(out); // rows before it are of the file before it
            }
            self.file_is(Some(file), out);
        }
        // Only the reply to the open question answers it; any other is chatter.
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
            // A refusal. An echo of the question would go on with its number or its file.
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
                self.unpushed = 0; // what is counted from now on has to be pushed
                self.due.count = self.due.count.map(|_| self.now); // what passed before the push began
            }
            (question, _) => self.asked = question,
        }
    }

    /// The answer to `GETSTATUS`: a field that looks like a session file, and a serial number where it is named.
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

    /// The decoder told its file, or (`None`) told none.
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

    /// Begins with `file`: the first of this link, or a new one.
    fn begin(&mut self, file: Option<Label>, first: bool, out: &mut Output) {
        let before = std::mem::replace(&mut self.file, file);
        if let (false, Some(file)) = (first, &self.file) {
            out.frame(Frame::Info(Info::Restarted(format!("new session file {file}"))), b"");
        }
        if !std::mem::take(&mut self.left).is_empty() {
            condition(MISSING, None, out); // that of the file before is told as such
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
            // Only what is named like its files is asked for: the journal may know this name from another decoder.
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
            // Numbers of another connection may be of another file: all is asked for, and compared.
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
            self.unpushed += 1; // or on its way
            self.checks = CHECKS; // whatever happened meanwhile
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

    /// It counts passings that it did not push.
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

    /// The rest of a file that the decoder has left; its last number held is compared, too.
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
            _ => {} // periodic
        }
    }

    /// Somebody wants these again.
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
                self.hand = None; // there are no more
            } else if let Some(file) = range.file.as_ref().filter(|file| self.old_missing.contains_key(*file)) {
                let last = self.held.highest(self.unit.as_deref(), Some(file)).unwrap_or(0);
                if self.held.first_missing(self.unit.as_deref(), Some(file), 1, last).is_none() {
                    self.old_missing.remove(&file.clone());
                    self.tell_old(None, out);
                }
            }
        }
    }

    /// The next piece of what somebody asked for.
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
        // Before a question about the current file it is asked which one that is.
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
        self.due.ping = Some(now + PING_PERIOD); // any answer is a sign of life
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

    /// There is something left to be asked for.
    fn has_more(&self, fetch: &Fetch) -> bool {
        let gap = || self.held.first_missing(self.unit.as_deref(), fetch.file.as_ref(), fetch.next, fetch.count);
        fetch.check.is_some() || gap().is_some()
    }

    /// The next gap of the file being fetched. Without one the file is done, as far as the decoder hands it over.
    fn next_range(&mut self, out: &mut Output) -> Option<Range> {
        let fetch = self.fetch.as_mut()?;
        let unit = self.unit.as_deref();
        let gap = self.held.first_missing(unit, fetch.file.as_ref(), fetch.next, fetch.count);
        let whole = fetch.count == OPEN_END; // its end is not known: in one piece
        let piece = |from: u64, to: u64| if whole { to } else { to.min(from.saturating_add(PIECE - 1)) };
        if let Some(number) = fetch.check.take() {
            // Together with what follows it, if that is missing and nothing before it is.
            let follows = gap.filter(|gap| gap.0 == number.saturating_add(1)).map_or(number, |gap| gap.1);
            if fetch.file == self.file {
                (self.checks, self.checking) = (self.checks.saturating_sub(1), Some(number)); // once more if it does not come
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
            return None; // nobody knows whether anything is missing
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

    /// Tells of files before the current one that were not given whole, or that there are none any more.
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
        format!("the decoder speaks protocol {current}, passings need 3.0 or later; set it with the vendor's software")
    });
    out.frame(Frame::Info(Info::Condition { code: Condition::ProtocolTooOld, text }), b"");
}

/// A number of rows; beyond a billion it is none.
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

/// A session file's label, always with `.csv`: replies name it with and, perhaps, without.
fn file_label(value: &str) -> Option<Label> {
    let name = value.rsplit('/').next().unwrap_or(value);
    let name = name.strip_suffix(".csv").unwrap_or(name);
    file_start(name).filter(|_| !name.ends_with(".csv"))?;
    Some(Label::Text(format!("{name}.csv").into()))
}
