//! The report as plain values, in the shape of its JSON.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use crate::model::clock::{Step, Zones};
use crate::model::correction::Corrections;

/// Chips of a decoder that are told apart.
pub(crate) const CHIPS_MAX: usize = 100_000;
/// Entries of a list of the report.
pub(super) const LIST_MAX: usize = 100;
/// Silences that are told of a decoder: the longest ones.
pub(super) const SILENCES_MAX: usize = 5;
/// A shorter time without a read is no silence.
pub(super) const SILENCE_MIN_MS: i64 = 60_000;

/// Which span, and how it is read.
#[derive(Clone, Debug)]
pub(crate) struct ReportQuery {
    /// The name of the box.
    pub name: String,
    /// The begin.
    pub from: Timestamp,
    /// The end, which is not in it.
    pub to: Timestamp,
    /// Now.
    pub made: Timestamp,
    /// Only entries up to this number.
    pub durable: u64,
    /// The zones of the clocks of the decoders.
    pub zones: Zones,
}

/// What is later in the log than what it is about.
#[derive(Default)]
pub(super) struct Afterwards {
    pub steps: Vec<(u64, Step)>,
    pub corrections: Corrections,
}

/// The report. Times are instants, in JSON in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct DayReport {
    /// The name of the box.
    pub name: String,
    /// The begin of the span.
    pub from: Timestamp,
    /// Its end. If that is later than `made`, the report is about the time until then.
    pub to: Timestamp,
    /// When the report was made.
    pub made: Timestamp,
    /// The decoders that sent something, and those that had a problem, by name.
    pub decoders: Vec<DecoderDay>,
    /// Markers, such as the gun: the first ones.
    pub markers: ShortList<MarkerSeen>,
    /// The devices in the cloud.
    pub uploads: Vec<UploadDay>,
    /// Reads that waited for the cloud at the end. `None`: not known.
    pub waiting: Option<u64>,
    /// Times without internet, or without an answer of the cloud.
    pub internet: ShortList<Outage>,
    /// Starts of the program.
    pub starts: ShortList<ProgramStart>,
    /// Steps of the clock of the box.
    pub clock_steps: ShortList<SteppedClock>,
    /// Corrections of times.
    pub corrections: ShortList<CorrectedTimes>,
    /// What somebody ordered: sessions, passings that were sent again.
    pub orders: ShortList<Ordered>,
    /// All other problems.
    pub problems: ShortList<Occurrence>,
    /// What this report cannot know, a sentence each.
    pub not_known: Vec<String>,
}

/// A list with a limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ShortList<T> {
    /// The first ones.
    pub list: Vec<T>,
    /// How many more there are.
    pub more: u64,
}

impl<T> Default for ShortList<T> {
    fn default() -> Self {
        Self { list: Vec::new(), more: 0 }
    }
}

impl<T> ShortList<T> {
    pub(super) fn add(&mut self, one: T) {
        match self.list.len() < LIST_MAX {
            true => self.list.push(one),
            false => self.more += 1,
        }
    }
}

/// One decoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct DecoderDay {
    /// Its name.
    pub name: String,
    /// Reads that were kept, repeats too.
    pub reads: u64,
    /// How many of them the decoder sent from its memory, later than they were made.
    pub stored: u64,
    /// Frames that could not be read.
    pub rejected: u64,
    /// Different chips.
    pub chips: u64,
    /// There may be more chips than that.
    pub more_chips: bool,
    /// The read with the earliest time.
    pub first: Option<TimedRead>,
    /// The read with the latest time.
    pub last: Option<TimedRead>,
    /// The longest times in which it sent no read, between two that it sent.
    pub silences: Vec<Silence>,
    /// Times in which it did not deliver.
    pub outages: ShortList<Outage>,
    /// Its clock against that of the box, by its live reads.
    pub clock: Option<ClockOffsets>,
}

/// A read, by its time as it is uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TimedRead {
    /// Its time.
    pub time: Timestamp,
    /// The chip code as the decoder sent it.
    pub chip: String,
}

/// A time between two reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Silence {
    /// When the read before arrived.
    pub from: Timestamp,
    /// When the next one arrived.
    pub to: Timestamp,
}

/// A time in which something did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outage {
    /// The name of the problem.
    pub code: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when. `None`: it was not over at the end of the span, or nobody knows.
    pub to: Option<Timestamp>,
    /// What was wrong, as the box told it.
    pub message: String,
}

/// How the clock of a decoder was against that of the box, in milliseconds: positive if it was ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ClockOffsets {
    /// In the middle.
    pub median_ms: i64,
    /// One read in twenty has a lower one.
    pub low_ms: i64,
    /// One read in twenty has a higher one.
    pub high_ms: i64,
}

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MarkerSeen {
    /// When the box got it.
    pub received: Timestamp,
    /// The decoder, or `box`.
    pub decoder: String,
    /// Its kind, such as `gun`.
    pub kind: String,
    /// Its stamp as the decoder sent it.
    pub stamp: Option<String>,
}

/// One device in the cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct UploadDay {
    /// The end of its identity.
    pub device: String,
    /// Passings that the cloud accepted for the first time.
    pub sent: u64,
    /// Passings of which the cloud said that it had them already.
    pub had_already: u64,
    /// Reads that were not sent because they repeat others.
    pub repeats: u64,
    /// Reads that were not sent because of the dead time.
    pub dead_time: u64,
    /// The sessions in which passings were numbered, the oldest first.
    pub sessions: Vec<SessionDay>,
    /// Passings that were set aside.
    pub set_aside: ShortList<AsidePassing>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SessionDay {
    /// Its name, if the cloud sent one.
    pub alias: Option<String>,
    /// The end of its token.
    pub token_tail: String,
    /// Passings that got a number in it.
    pub numbered: u64,
    /// Passings that the cloud accepted, also those that were sent twice.
    pub accepted: u64,
    /// The last comparison with the cloud.
    pub audit: Option<AuditDay>,
}

/// What a comparison with the cloud found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AuditDay {
    /// When it was made.
    pub at: Timestamp,
    /// The session was still open.
    pub active: bool,
    /// Both held the same.
    pub equal: bool,
    /// Passings that were compared.
    pub checked: u64,
    /// Passings that the cloud did not have any more.
    pub missing: u64,
    /// Passings in the cloud that are not of this box.
    pub foreign: u64,
    /// Passings with another chip, bib or time.
    pub different: u64,
    /// Passings that are in the cloud twice.
    pub duplicated: u64,
    /// Passings that were not settled then.
    pub not_yet_sent: u64,
    /// Passings that were set aside then.
    pub set_aside: u64,
}

/// A passing that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AsidePassing {
    /// When.
    pub at: Timestamp,
    /// Its read in the journal.
    pub seq: u64,
    /// Its number in the session.
    pub num: u64,
    /// Its bib, or what went up in its place.
    pub bib: String,
    /// Its chip.
    pub chip: String,
    /// Its time.
    pub time: Option<Timestamp>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// What the cloud answered.
    pub answer: String,
    /// It was sent later, and the cloud accepted it.
    pub sent_later: bool,
}

/// A start of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProgramStart {
    /// When it started.
    pub at: Timestamp,
    /// When the one before was stopped. `None`: it was not stopped; its power may have failed.
    pub stopped: Option<Timestamp>,
    /// The last thing that the one before wrote. `None`: there is none in the log that was read.
    pub last_entry: Option<Timestamp>,
}

/// A step of the clock of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SteppedClock {
    /// What the clock showed after it.
    pub at: Timestamp,
    /// By how much it stepped.
    pub step_ms: i64,
}

/// A correction of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CorrectedTimes {
    /// When it was asked for.
    pub at: Timestamp,
    /// Whose reads.
    pub decoder: String,
    /// By how much the times were moved.
    pub shift_ms: i64,
    /// Who asked.
    pub by: String,
}

/// Something that somebody ordered, in the words of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ordered {
    /// When.
    pub at: Timestamp,
    /// What.
    pub text: String,
}

/// A problem, from when it was raised first until it was over last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Occurrence {
    /// Its name.
    pub code: String,
    /// What it was about. Empty: the box.
    pub about: String,
    /// Since when.
    pub from: Timestamp,
    /// Until when. `None`: it was not over at the end of the span, or nobody knows.
    pub to: Option<Timestamp>,
    /// How often it was raised.
    pub times: u64,
    /// What the box told last.
    pub message: String,
}

/// The begin and the end of a day in a zone. `None`: the calendar ends.
pub(crate) fn span_of_day(day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let next = day.checked_add(1.day()).ok()?;
    let begin = |day: Date| zone.to_timestamp(day.at(0, 0, 0, 0)).ok();
    begin(day).zip(begin(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_a_change_of_the_zone_has_its_own_length() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let hours = |day: &str| {
            let (from, to) = span_of_day(day.parse().unwrap(), &zone).unwrap();
            (to.as_second() - from.as_second()) / 3_600
        };
        assert_eq!([hours("2026-03-28"), hours("2026-03-29"), hours("2026-10-25")], [24, 23, 25]);
        assert_eq!(span_of_day(Date::MAX, &zone), None);
    }
}
