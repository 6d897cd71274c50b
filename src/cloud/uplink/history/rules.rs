//! The rules by which a read is a passing, read plainly: the measure of what the journal decides.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::journal::entry::Entry;
use crate::model::chip::{ChipRead, Stamp};

/// What a read is according to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryVerdict {
    Passing,
    Dead,
    Repeat,
    /// It was kept while the box was on hold, and dropped at the end.
    Dropped,
}

/// The time of a read as its decoder stamped it.
pub(super) fn stamped_ms(read: &ChipRead) -> i64 {
    match read.stamp {
        Stamp::Local(local) => jiff::tz::TimeZone::UTC.to_timestamp(local).unwrap().as_millisecond(),
        _ => unreachable!("the model's decoders have a date"),
    }
}

/// A plain reading of the rules for one decoder's reads. The same chip and stamp again is a repeat.
/// A read nearer than the dead time to the last *passing* of its chip is not a passing, unless the
/// two were received further apart (all reads are live here). A passing that was kept between two
/// entries of `dropped` is dropped, and after the second one it is near to no other read.
pub(super) fn verdicts<'a>(
    reads: impl Iterator<Item = (&'a Entry, &'a ChipRead)>,
    dead_time: Duration,
    dropped: &[(u64, u64)],
) -> Vec<(u64, HistoryVerdict)> {
    let mut known = HashSet::new();
    let mut last: HashMap<Arc<str>, (i64, i64, u64)> = HashMap::new();
    let ms = stamped_ms;
    let verdict = |entry: &Entry, read: &ChipRead| {
        if !known.insert((read.chip.clone(), ms(read))) {
            return HistoryVerdict::Repeat;
        }
        last.retain(|_, (.., seq)| !dropped.iter().any(|(from, to)| (*from..*to).contains(seq) && entry.seq > *to));
        let times = (ms(read), entry.time.as_millisecond(), entry.seq);
        let near = |one: i64, other: i64| u128::from((one - other).unsigned_abs()) < dead_time.as_millis();
        if last.get(&read.chip).is_some_and(|last| near(times.0, last.0) && near(times.1, last.1)) {
            return HistoryVerdict::Dead;
        }
        last.insert(read.chip.clone(), times);
        match dropped.iter().any(|(from, to)| (*from..*to).contains(&entry.seq)) {
            true => HistoryVerdict::Dropped,
            false => HistoryVerdict::Passing,
        }
    };
    let mut verdict = verdict;
    reads.map(|(entry, read)| (entry.seq, verdict(entry, read))).collect()
}
