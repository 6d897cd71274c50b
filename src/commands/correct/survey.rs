//! What a correction is about: one walk through the log that counts the reads by what became of
//! them, and lists the passings that are in the cloud with a time that is not the right one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::list::{List, ListedPassing};
use crate::export::corrected::{InSession, ReadFate, WalkedRead, walk};
use crate::export::{ExportError, Reading};
use crate::model::text::tail;

/// Most ranges of entries in one correction.
pub(super) const RANGES_MAX: usize = 1024;

/// Where the reads are.
pub(super) struct Source<'a> {
    pub data_dir: &'a Path,
    pub reading: &'a Reading,
    pub durable: u64,
    pub decoder: Option<&'a str>,
}

/// Which reads are meant.
pub(super) enum Scope {
    /// Those between two times, as if they were moved by this shift. `sent`: only those that have a
    /// number.
    Window { window: (Timestamp, Option<Timestamp>), shift_ms: i64, sent: bool },
    /// Those in these ranges of entries.
    Of(Vec<(u64, u64)>),
    /// All whose passing has a time that is not the right one.
    Wrong,
    /// The same, and those that were sent again.
    Listed,
}

/// Numbers of one session: the lowest, the highest, and how many.
struct Numbers {
    first: u64,
    last: u64,
    count: u64,
}

/// What was found.
#[derive(Default)]
pub(super) struct Survey {
    /// The ranges of entries that the reads between two times are in. The walk ends when there are
    /// more than [`RANGES_MAX`].
    pub ranges: Vec<(u64, u64)>,
    /// The list for people.
    pub rows: String,
    /// First and last read whose passing has a time that is not right.
    pub first_wrong: u64,
    pub last_wrong: u64,
    waits: u64,
    held_back: u64,
    suppressed: u64,
    set_aside: u64,
    /// They have a number, and their time is right.
    right: u64,
    on_their_way: u64,
    again: u64,
    /// By device and session.
    sessions: BTreeMap<(Box<str>, Box<str>), Numbers>,
}

/// Walks through the log.
///
/// # Errors
/// There is no journal, it cannot be read, or the list cannot be written.
pub(super) fn survey(source: &Source<'_>, scope: &Scope, list: &mut List) -> Result<Survey, ExportError> {
    let mut survey = Survey::default();
    let mut failed = None;
    let mut open = false; // the last read was in the last range
    walk(source.data_dir, source.reading, source.durable, (source.decoder, 0), |read| {
        let meant = match read.releases {
            Some(of) => is_in(&survey.ranges, of),
            None => scope.has(read),
        };
        if let Scope::Window { .. } = scope {
            survey.range(read.seq, meant, open);
            open = meant;
        }
        if !meant || read.releases.is_some() {
            return ControlFlow::Continue(());
        }
        let listed = survey.take(read, scope.shift_ms());
        if let Some(listed) = listed
            && let Err(error) = list.add(&listed)
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        if survey.ranges.len() > RANGES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed.map_or(Ok(survey), |error| Err(ExportError::Write(error)))
}

fn is_in(ranges: &[(u64, u64)], seq: u64) -> bool {
    let at = ranges.partition_point(|(_, last)| *last < seq);
    ranges.get(at).is_some_and(|(first, _)| *first <= seq)
}

impl Scope {
    fn shift_ms(&self) -> i64 {
        match self {
            Self::Window { shift_ms, .. } => *shift_ms,
            _ => 0,
        }
    }

    fn has(&self, read: &WalkedRead<'_>) -> bool {
        let passing = match &read.fate {
            ReadFate::InCloud(passing) | ReadFate::OnItsWay(passing) => Some(passing),
            _ => None,
        };
        let is_wrong = || passing.is_some_and(|passing| passing.item.corrected_ms != read.corrected_ms);
        match self {
            Self::Window { window: (from, to), sent, .. } => {
                let waits = matches!(read.fate, ReadFate::Waits | ReadFate::HeldBack);
                read.time >= *from && to.is_none_or(|to| read.time < to) && !(waits && *sent)
            }
            Self::Of(ranges) => is_in(ranges, read.seq),
            Self::Wrong => is_wrong(),
            Self::Listed => is_wrong() || passing.is_some_and(|passing| passing.replaces.is_some()),
        }
    }
}

impl Survey {
    fn range(&mut self, seq: u64, meant: bool, open: bool) {
        match self.ranges.last_mut() {
            _ if !meant => {}
            Some((_, last)) if open => *last = seq,
            _ => self.ranges.push((seq, seq)),
        }
    }

    /// Counts a read. Returns its passing if it is listed. `shift_ms`: what is added to its time.
    fn take<'a>(&mut self, read: &'a WalkedRead<'a>, shift_ms: i64) -> Option<ListedPassing<'a>> {
        let (passing, arrived) = match &read.fate {
            ReadFate::Waits => return count(&mut self.waits),
            ReadFate::HeldBack => return count(&mut self.held_back),
            ReadFate::Suppressed => return count(&mut self.suppressed),
            ReadFate::SetAside => return count(&mut self.set_aside),
            ReadFate::OnItsWay(passing) => (*passing, false),
            ReadFate::InCloud(passing) => (*passing, true),
        };
        let right = read.time.checked_add(SignedDuration::from_millis(shift_ms)).unwrap_or(read.time);
        let wrong = passing.item.corrected_ms != read.corrected_ms.saturating_add(shift_ms);
        self.again += u64::from(passing.replaces.is_some());
        match wrong {
            true => self.wrong_one(read.seq, &passing, arrived),
            false => self.right += 1,
        }
        (wrong || passing.replaces.is_some()).then_some(ListedPassing { read, passing, arrived, wrong, right })
    }

    fn wrong_one(&mut self, seq: u64, passing: &InSession<'_>, arrived: bool) {
        self.first_wrong = if self.first_wrong == 0 { seq } else { self.first_wrong.min(seq) };
        self.last_wrong = self.last_wrong.max(seq);
        self.on_their_way += u64::from(!arrived);
        let num = passing.item.num;
        let none = Numbers { first: num, last: num, count: 0 };
        let numbers = self.sessions.entry((passing.device.into(), passing.session.into())).or_insert(none);
        numbers.first = numbers.first.min(num);
        numbers.last = numbers.last.max(num);
        numbers.count += 1;
    }

    /// Passings that have a number and a time that is not right.
    pub(super) fn wrong(&self) -> u64 {
        self.sessions.values().map(|numbers| numbers.count).sum()
    }

    /// Their devices.
    pub(super) fn devices(&self) -> impl Iterator<Item = &str> {
        self.sessions.keys().map(|(device, _)| &**device)
    }

    /// All reads that were found.
    pub(super) fn reads(&self) -> u64 {
        self.waits + self.held_back + self.suppressed + self.set_aside + self.right + self.wrong()
    }

    /// What a correction does, for people.
    pub(super) fn in_words(&self, name: &str, shift_ms: i64) -> String {
        let sign = if shift_ms < 0 { '-' } else { '+' };
        let by = SignedDuration::from_millis(shift_ms).abs();
        let mut text = format!("{name}: {} reads, {sign}{by:#}\n", self.reads());
        text += &format!("  {} wait, and go up with the right time\n", self.waits);
        for (count, what) in [
            (self.held_back, "are held back, and go up with the right time when they are released"),
            (self.set_aside, "are set aside, and have the right time if they are tried again"),
            (self.right, "are in the cloud, or on their way, with the time that is right then"),
            (self.suppressed, "are no passings of their own (repeats, dead time), and stay so"),
        ] {
            if count > 0 {
                text += &format!("  {count} {what}\n");
            }
        }
        text + &self.of_the_cloud(false)
    }

    /// What the cloud has, for people.
    pub(super) fn of_the_cloud(&self, list: bool) -> String {
        let mut text = String::new();
        let arrived = self.wrong() - self.on_their_way;
        let _ = writeln!(text, "  {arrived} are in the cloud with a time that is not right"); // writing to a String cannot fail
        if self.on_their_way > 0 {
            let _ = writeln!(
                text,
                "  {} are already numbered and on their way: they go up with the time that they have",
                self.on_their_way
            );
        }
        if list || self.again > 0 {
            let _ = writeln!(text, "  {} were sent again under new numbers", self.again);
        }
        for ((_, session), Numbers { first, last, count }) in &self.sessions {
            let _ = writeln!(text, "  {count} with numbers {first} to {last} of session …{}", tail(session));
        }
        text + &self.rows
    }

    /// The same for programs.
    pub(super) fn as_json(&self) -> Value {
        let session = |((device, session), Numbers { first, last, count }): (&(Box<str>, Box<str>), &Numbers)| json!({ "device_id": device, "token_session": session, "first": first, "last": last, "count": count });
        json!({
            "waits": self.waits,
            "held_back": self.held_back,
            "set_aside": self.set_aside,
            "suppressed": self.suppressed,
            "on_their_way": self.on_their_way,
            "in_cloud": self.wrong() - self.on_their_way,
            "replaced": self.again,
            "sessions": self.sessions.iter().map(session).collect::<Vec<_>>(),
        })
    }
}

fn count<T>(counter: &mut u64) -> Option<T> {
    *counter += 1;
    None
}
