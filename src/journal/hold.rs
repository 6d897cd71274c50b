//! A hold: reads are kept and none is sent, until somebody releases it. It is for tests before the
//! gun.
//!
//! What must hold:
//! * **The log alone decides.** The hold, its release and the choice are entries
//!   ([`Control`](super::control::Control)), so they survive a restart and a power cut.
//! * **Nothing new gets a number.** [`Journal::pending`](super::Journal::pending) gives nothing, and
//!   the writer numbers nothing itself ([`super::foresee`]). A batch that was formed before the
//!   hold is not stopped: its passings may be in the cloud already. Reads that were kept before the
//!   hold and have no number wait for its end.
//! * **The choice is about what was kept since the hold began**, of every decoder. Reads from
//!   before it are always sent.
//! * **A read that was dropped stays in the log, is never numbered, and hides no other.** A
//!   redelivery of it is a duplicate. It is no passing, so a later read of the chip is not within
//!   its dead time.
//! * **A dropped read is owed to nobody.** The cursor of its source moves past it as soon as
//!   nothing before it waits. Until then the span of the hold is remembered ([`Skipped`]).
//!
//! Reads that were marked as held back ([`super::held_back`]) are not part of a hold: they wait for
//! a decision of their own. None is released while the box is on hold.
//!
//! Rejected: *a verdict beside passing, dead and duplicate, with its numbers in a batch line*: a box
//! without a cloud never forms a batch, and the reads would be owed for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Spans of holds that a source remembers while reads before them wait. With more, no hold can be
/// released without sending.
const SKIPPED_MAX: usize = 256;

/// A hold that is not released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// The entry of the hold.
    pub seq: u64,
    /// Its time.
    pub since: Timestamp,
    /// Who began it.
    pub by: Box<str>,
    /// What was kept since then, by source.
    pub sources: BTreeMap<Box<str>, HeldReads>,
}

/// Reads of a source that were kept since a hold began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldReads {
    /// The last read of the source before the hold.
    pub before: u64,
    /// Passings.
    pub reads: u64,
    /// Duplicates, and reads within the dead time.
    pub suppressed: u64,
}

impl Hold {
    pub(super) fn new(seq: u64, since: Timestamp, by: &str) -> Self {
        Self { seq, since, by: by.into(), sources: BTreeMap::new() }
    }

    /// Reads that the release can send or drop.
    pub(super) fn reads(&self) -> u64 {
        self.sources.values().map(|held| held.reads).sum()
    }

    /// Records a read. `before`: the last read of its source before this one. `is_passing`: as far as
    /// it is known now.
    pub(super) fn read(&mut self, source: &str, before: u64, is_passing: bool) {
        if !self.sources.contains_key(source) {
            self.sources.insert(source.into(), HeldReads { before, ..HeldReads::default() });
        }
        let Some(held) = self.sources.get_mut(source) else { return };
        *(if is_passing { &mut held.reads } else { &mut held.suppressed }) += 1;
    }

    /// A read that waited for stored reads proved to be within the dead time.
    pub(super) fn is_dead(&mut self, source: &str) {
        if let Some(held) = self.sources.get_mut(source) {
            held.reads = held.reads.saturating_sub(1);
            held.suppressed += 1;
        }
    }
}

/// Entries of a source that are settled although its cursor is before them: reads that were dropped
/// while earlier ones waited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Skipped(Vec<Span>);

/// The entries between `from` and `to`. They are settled once the read `before` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    before: u64,
    from: u64,
    to: u64,
}

impl Skipped {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= SKIPPED_MAX
    }

    /// The reads of the hold from entry `from` to entry `to` are settled. Returns where the cursor
    /// is now, if it was at `cursor`.
    #[must_use]
    pub(super) fn add(&mut self, before: u64, (from, to): (u64, u64), cursor: u64) -> u64 {
        self.0.push(Span { before, from, to });
        self.passed(cursor)
    }

    /// Every read up to `cursor` is settled. Returns where the cursor is, past what was dropped.
    #[must_use]
    pub(super) fn passed(&mut self, mut cursor: u64) -> u64 {
        self.0.retain(|span| {
            let is_next = cursor >= span.before;
            if is_next {
                cursor = cursor.max(span.to);
            }
            !is_next
        });
        cursor
    }

    /// Whether this read was dropped.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.0.iter().any(|span| (span.from..span.to).contains(&seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_moves_past_what_was_dropped_once_nothing_before_it_waits() {
        let mut skipped = Skipped::default();
        // Read 4 waits, and 6 to 8 are dropped. Then 12 waits, and 15 to 18 are dropped.
        assert_eq!(skipped.add(4, (5, 9), 3), 3);
        assert_eq!(skipped.add(12, (14, 19), 3), 3);
        let dropped: Vec<u64> = (1..25).filter(|seq| skipped.has(*seq)).collect();
        assert_eq!(dropped, [5, 6, 7, 8, 14, 15, 16, 17, 18]);
        assert_eq!((skipped.passed(4), skipped.has(7), skipped.has(16)), (9, false, true));
        assert_eq!((skipped.passed(11), skipped.passed(12), skipped.is_empty()), (11, 19, true));
        assert_eq!(skipped.add(19, (20, 22), 19), 22, "nothing before it waits");
    }
}
