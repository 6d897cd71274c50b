//! The last reads, a row each.

use jiff::Timestamp;

use super::PageTimes;
use crate::export::{NewestFate, NewestRead};
use crate::model::text::printable;
use crate::status::words::{count, offset_in_words};
use crate::status::{Mark, ProblemCode, Snapshot};

/// A read, from wherever it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct ShownRead {
    /// The read.
    pub read: NewestRead,
    /// The bib, if the bib file has one.
    pub bib: Option<String>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct ReadRow {
    /// Its entry in the journal.
    pub seq: u64,
    /// The time of the passing, to the millisecond.
    pub time: String,
    /// The same in UTC, with its day.
    pub utc: String,
    /// Whether the time is wrong.
    pub wrong: bool,
    /// The decoder, and what is wrong with its time.
    pub mat: String,
    /// The bib, or the chip if no bib is known.
    pub who: String,
    /// The chip, if `who` is a bib.
    pub chip: String,
    /// The hits.
    pub hits: String,
    /// The signal strength.
    pub signal: String,
    /// Whether the cloud has it.
    pub mark: Mark,
    /// The same as a word.
    pub word: &'static str,
    /// More about it.
    pub more: String,
}

/// Longest code that is shown whole, in characters.
const CODE: usize = 40;

impl ReadRow {
    pub(in crate::serve::web) fn of(status: &Snapshot, source: &ShownRead, times: &PageTimes) -> Self {
        let read = &source.read;
        let (mark, word, more) = in_cloud(status, read);
        let decoder = crate::model::source::decoder(&read.decoder);
        let off = status.decoders.iter().find(|known| known.name == decoder).and_then(|known| known.clock_offset_ms);
        let code = ProblemCode::DecoderClockOff.word();
        let wrong = status.problems.iter().any(|problem| problem.code == code && problem.about == decoder);
        let mut mat = printable(&read.decoder);
        if let (true, Some(off)) = (wrong, off) {
            mat += &format!(", {}", offset_in_words(off));
        }
        if let Some(day) = times.other_day(read.time) {
            mat += &format!(", {day}");
        }
        let chip = cut(&printable(&read.chip));
        let bib = source.bib.as_deref().map(|bib| cut(&printable(bib)));
        Self {
            seq: read.seq,
            time: times.zone.time_milli(read.time),
            utc: utc(read.time),
            wrong,
            mat,
            who: bib.clone().unwrap_or_else(|| chip.clone()),
            chip: if bib.is_some() { chip } else { String::new() },
            hits: read.hits.map_or(String::new(), |hits| format!("{hits} {}", if hits == 1 { "hit" } else { "hits" })),
            signal: read.rssi.map_or(String::new(), signal),
            mark,
            word,
            more,
        }
    }
}

fn utc(instant: Timestamp) -> String {
    format!("{instant:.3}").replace('T', " ").replace('Z', " UTC")
}

/// The signal strength in the unit of the decoder. A negative number is a level in dBm.
fn signal(rssi: i32) -> String {
    match rssi {
        ..0 => format!("−{} dBm", rssi.unsigned_abs()),
        _ => format!("signal {rssi}"),
    }
}

fn cut(code: &str) -> String {
    match code.char_indices().nth(CODE) {
        Some((end, _)) => format!("{}…", &code[..end]),
        None => code.to_owned(),
    }
}

fn in_cloud(status: &Snapshot, read: &NewestRead) -> (Mark, &'static str, String) {
    // The hold may be older than what was read of the log.
    let held = status.hold.as_ref().is_some_and(|hold| read.received >= hold.since);
    match read.fate {
        NewestFate::Sent(num) => (Mark::Yes, "yes", format!("no. {}", count(num))),
        NewestFate::HeldBack => (Mark::Held, "held back", "another race?".to_owned()),
        NewestFate::SetAside => (Mark::Warn, "set aside", String::new()),
        NewestFate::NoPassing => (Mark::Wait, "not sent", "a repeat".to_owned()),
        NewestFate::Waiting if status.uploads.is_empty() => (Mark::Wait, "no cloud", String::new()),
        NewestFate::Dropped => (Mark::Wait, "not sent", "dropped by choice".to_owned()),
        NewestFate::Held => (Mark::Held, "held", String::new()),
        NewestFate::Waiting if held => (Mark::Held, "held", String::new()),
        NewestFate::Waiting => (Mark::Wait, "waiting", String::new()),
    }
}
