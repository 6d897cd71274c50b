//! Watches the wall clock of the box. When the clock steps, this part reports and records the step,
//! and looks for passings that it made wrong.
//!
//! Must hold:
//! * No other part waits for this, because order and timers do not use the wall clock.
//! * A step is made durable (a line `clock` of the log), so that waiting reads get the right date
//!   after a restart too.
//! * The board names the passings that were uploaded with a day that turns out to be wrong, because
//!   they cannot be called back. If a later step reverts the step, the problem ends too: the log is
//!   searched again after each step, with all that is known then.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::journal::entries::Entries;
use crate::journal::entry::{Body, Entry};
use crate::journal::{Journal, UploadEvent, log_dir};
use crate::model::clock::{Step, Zones, corrected, is_undated, resolve_read};
use crate::status::{Board, ProblemCode};

/// A smaller difference is caused by NTP slewing, or by a busy machine.
const STEP_MS: i64 = 2_000;
/// How long the board shows a step.
const SHOWN: Duration = Duration::from_secs(3600);
/// Reads that are followed at once during the search for wrong days. If there are more, the message
/// says "at least".
const FOLLOWED: usize = 65_536;

/// At most this many last steps are considered: a passing may have been uploaded between any two of
/// them.
const STEPS: usize = 32;

/// Compares the wall clock with the monotonic one.
pub(super) struct Watch {
    started: Instant,
    offset_ms: i64,
    /// The durable head at the last look. All entries up to it were received before a step that the
    /// next look finds.
    head: u64,
    told: Option<Instant>,
    /// Whether the clock that waiting reads need was already returned to be recorded.
    given: bool,
}

impl Watch {
    /// Watches from now on. It must be made before anything is received.
    pub(super) fn new(board: &Board) -> Self {
        Self { started: Instant::now(), offset_ms: board.now().as_millisecond(), head: 0, told: None, given: false }
    }

    /// To be called about once a second. It returns a step to record if there was one, or if reads
    /// of an earlier process wait for a box that knows the time. It shows a step on the board for
    /// an hour.
    pub(super) fn look(&mut self, board: &Board, journal: &Journal) -> Option<Step> {
        let (wall_ms, monotonic_ms) = (board.now().as_millisecond(), self.started.elapsed().as_millis() as i64);
        let step_ms = self.compare(wall_ms, monotonic_ms);
        let head = journal.changed().borrow().0;
        let sure = std::mem::replace(&mut self.head, head);
        let step = Step { from: journal.first().0, sure, before_ms: wall_ms - step_ms, step_ms };
        if step_ms != 0 {
            board.raise(ProblemCode::BoxClockStepped, "", text(&step));
            self.told = Some(Instant::now());
        } else if self.told.is_some_and(|told| told.elapsed() >= SHOWN) {
            board.clear(ProblemCode::BoxClockStepped, "");
            self.told = None;
        }
        let waiting = step.sets() && journal.waits_for_clock();
        let wanted = step_ms != 0 || (waiting && !self.given);
        self.given = waiting;
        wanted.then_some(step)
    }

    /// By how much the wall clock stepped since the last look, or 0 if it did not.
    fn compare(&mut self, wall_ms: i64, monotonic_ms: i64) -> i64 {
        let offset_ms = wall_ms - monotonic_ms;
        let step_ms = offset_ms - std::mem::replace(&mut self.offset_ms, offset_ms);
        if step_ms.abs() >= STEP_MS { step_ms } else { 0 }
    }
}

fn text(step: &Step) -> String {
    format!(
        "the clock of this box stepped by {:+.1} s; order and timers are not affected. Reads without a date that wait are \
         dated by the right time; those already uploaded are looked at",
        step.step_ms as f64 / 1000.0
    )
}

/// Reads that were uploaded with another day than the one that follows from what is known about the
/// clock now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misdated {
    /// How many there are. With `more` there are at least this many.
    pub count: u64,
    /// Whether there may be more.
    pub more: bool,
    /// The first of them in the journal.
    pub first: u64,
    /// The last of them in the journal.
    pub last: u64,
}

impl Misdated {
    fn add(&mut self, seq: u64) {
        self.count += 1;
        (self.first, self.last) = (self.first.min(seq), self.last.max(seq));
    }
}

/// Searches the log of this process, up to the entry `head`, for passings without a date that were
/// sent with a time other than the corrected receipts give. It takes as long as reading that part
/// of the log, and its memory is bounded.
///
/// # Errors
/// The log cannot be read.
pub(super) fn misdated(data_dir: &Path, zones: &Zones, from: u64, head: u64) -> io::Result<Option<Misdated>> {
    let mut steps = Vec::new();
    each(data_dir, from, head, |entry| {
        if let Body::Clock(step) = entry.body {
            steps.push((entry.seq, step));
        }
    })?;
    let mut found = Misdated { count: 0, more: false, first: u64::MAX, last: 0 };
    let mut right: HashMap<u64, i64> = HashMap::new();
    each(data_dir, from, head, |entry| match &entry.body {
        Body::Read(read) if is_undated(&read.stamp) => {
            let zone = zones.of(&entry.subject);
            let utc = |received: Timestamp| resolve_read(read, zone, received).utc.as_millisecond();
            let known = |steps: &[(u64, Step)]| utc(corrected(steps, entry.seq, entry.time));
            let by_now = known(&steps);
            // The read got its number at some earlier moment, with what was known about the clock
            // then.
            let newest = steps.len().saturating_sub(STEPS);
            if (newest..steps.len()).any(|count| known(&steps[..count]) != by_now) {
                found.more |= right.len() >= FOLLOWED;
                if right.len() < FOLLOWED {
                    right.insert(entry.seq, by_now);
                }
            }
        }
        Body::Upload(UploadEvent::Batch(batch)) => {
            for item in &batch.items {
                if right.remove(&item.seq.0).is_some_and(|by_now| by_now != item.time_ms) {
                    found.add(item.seq.0);
                }
            }
        }
        _ => {}
    })?;
    Ok((found.count > 0).then_some(found))
}

fn each(data_dir: &Path, from: u64, head: u64, mut look: impl FnMut(&Entry)) -> io::Result<()> {
    let Some(mut entries) = Entries::after(&log_dir(data_dir), from.saturating_sub(1), head)? else { return Ok(()) };
    while let Some(entry) = entries.entry()? {
        if entry.seq >= from {
            look(&entry);
        }
    }
    Ok(())
}

/// Records the step, and looks for passings that it made wrong. `false` means that the journal is
/// gone.
pub(super) async fn record(step: Step, journal: &Journal, board: &Board, zones: &Zones) -> bool {
    let Ok(at) = journal.clock_stepped(step).await else { return false };
    if step.sets() {
        board.clear_all(ProblemCode::BoxClockUnset);
    }
    if step.step_ms == 0 {
        return true;
    }
    let (dir, zones) = (journal.dir().to_owned(), zones.clone());
    let looked = tokio::task::spawn_blocking(move || misdated(&dir, &zones, step.from, at.get().0)).await;
    match looked {
        Ok(Ok(Some(Misdated { count, more, first, last }))) => {
            let message = format!(
                "{}{count} passings without a date were uploaded on a day that the step of this box's clock shows to be \
                 wrong (reads {first} to {last} of the journal). They are not sent again: correct their times in the \
                 cloud; `export` has what the decoder stamped and when it was received",
                if more { "at least " } else { "" }
            );
            board.raise(ProblemCode::PassingsMisdated, "", message);
        }
        Ok(Ok(None)) => board.clear(ProblemCode::PassingsMisdated, ""),
        Ok(Err(error)) => tracing::warn!(%error, "the log cannot be looked through for passings of a wrong day"),
        Err(error) => tracing::warn!(%error, "the look for passings of a wrong day failed"),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_told_once_and_slewing_is_not() {
        let mut watch = Watch { started: Instant::now(), offset_ms: 1_000_000, head: 0, told: None, given: false };
        assert_eq!(watch.compare(1_001_000, 1_000), 0);
        assert_eq!(watch.compare(1_002_400, 2_000), 0);
        assert_eq!(watch.compare(4_603_400, 3_000), 3_600_000);
        assert_eq!(watch.compare(4_604_400, 4_000), 0);
        assert_eq!(watch.compare(1_005_400, 5_000), -3_600_000);
    }
}
