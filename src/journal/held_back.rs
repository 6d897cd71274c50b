//! Reads that are held back: they are kept like any other read, and not uploaded until somebody
//! releases them.
//!
//! After a decoder was cleared, the link asks it for its whole memory. A read in that memory whose
//! stamp is before the last read of the previous memory cannot have been made since then: it
//! belongs to another race, or its clock was wrong. The link decides this when the read arrives
//! (`link::memories`) and marks the read. From then on everything follows from the log:
//! * A marked read that is no duplicate is held back: no batch covers it, and no upload waits for
//!   it.
//! * [`Journal::let_go`](super::Journal::let_go) appends the read once more, together with the
//!   number of its first entry. The new entry is checked and uploaded like a read that arrives now:
//!   in the order of the log, behind the reads that were uploaded meanwhile. The held back reads
//!   never have to fit into memory.
//! * Its segment is deleted by age only (`[keep].days`), like a segment with passings that are set
//!   aside.
//!
//! Bounded: `RANGES_MAX` ranges for each decoder. Between two ranges lies a marked read that was a
//! duplicate.
//!
//! Rejected: *one more verdict beside passing, dead and duplicate, with its numbers in the batch
//! line*: the read would have to be kept somewhere for later, with its place in an order that
//! continued without it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::chip::Stamp;

/// Ranges of entries remembered per decoder. Beyond that the two oldest ranges become one, and a
/// duplicate between them may be uploaded twice.
const RANGES_MAX: usize = 1024;

/// The reads of one decoder that are held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeldBack {
    /// In these ranges of entries, every marked read of the decoder is held back.
    pub ranges: BTreeMap<u64, u64>,
    /// How many reads are held back.
    pub count: u64,
    /// The earliest and the latest stamp of these reads. Only stamps of the same kind as the first
    /// one count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamps: Option<(StampText, StampText)>,
    /// The last marked read was a duplicate, so the next one begins a range.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    apart: bool,
}

/// A stamp in its text form.
type StampText = Box<str>;

impl HeldBack {
    /// Whether no read is held back.
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Records a marked read. `is_new`: it is no duplicate.
    pub(super) fn read(&mut self, seq: u64, stamp: Stamp, is_new: bool) {
        if !is_new {
            self.apart = self.count > 0;
            return;
        }
        self.count += 1;
        match self.ranges.last_entry().filter(|_| !self.apart) {
            Some(mut last) => *last.get_mut() = seq,
            None => drop(self.ranges.insert(seq, seq)),
        }
        self.apart = false;
        self.bound();
        let text: StampText = stamp.to_string().into();
        match &mut self.stamps {
            None => self.stamps = Some((text.clone(), text)),
            // The text forms sort in the order of time if both are of one kind.
            Some((first, last)) if text.len() == first.len() => {
                if text < *first {
                    *first = text;
                } else if text > *last {
                    *last = text;
                }
            }
            Some(_) => {}
        }
    }

    /// Releases the read `of`: from now on no read from `from` up to it is held back. Returns
    /// `false` if it is not held back.
    pub(super) fn let_go(&mut self, from: u64, of: u64) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=of).next_back().filter(|(_, last)| **last >= of) else {
            return false;
        };
        self.ranges.remove(&first);
        if first < from {
            self.ranges.insert(first, from - 1);
        }
        if of < last {
            self.ranges.insert(of + 1, last);
        }
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            *self = Self::default();
        }
        self.bound();
        true
    }

    /// From now on no read up to this entry is held back.
    pub(super) fn drop_through(&mut self, through: u64) {
        let later = self.ranges.split_off(&through.saturating_add(1));
        let over = self.ranges.last_key_value().map(|(_, &last)| last).filter(|last| *last > through);
        self.ranges = later;
        if let Some(last) = over {
            self.ranges.insert(through + 1, last);
        }
        if self.ranges.is_empty() {
            *self = Self::default();
        }
    }

    fn bound(&mut self) {
        while self.ranges.len() > RANGES_MAX
            && let Some((first, _)) = self.ranges.pop_first()
            && let Some((_, last)) = self.ranges.pop_first()
        {
            self.ranges.insert(first, last);
        }
    }

    pub(super) fn has(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(second: u64) -> Stamp {
        format!("2026-11-22T10:{:02}:{:02}.000", second / 60 % 60, second % 60).parse().unwrap()
    }

    #[test]
    fn what_is_let_go_is_not_held_back_and_a_repeat_never_was() {
        let mut held = HeldBack::default();
        for seq in [10, 12, 15] {
            held.read(seq, stamp(seq), true);
        }
        held.read(17, stamp(10), false);
        for seq in [20, 21] {
            held.read(seq, stamp(seq), true);
        }
        assert_eq!(held.ranges, BTreeMap::from([(10, 15), (20, 21)]));
        assert_eq!((held.count, held.has(17), held.has(18)), (5, false, false));
        assert!(!held.let_go(17, 17));
        // First from 15 on, then from the beginning.
        assert!(held.let_go(15, 15) && held.let_go(16, 20) && held.let_go(21, 21));
        assert_eq!((held.ranges.clone(), held.count), (BTreeMap::from([(10, 14)]), 2));
        assert!(held.let_go(10, 10) && !held.let_go(10, 10) && held.let_go(11, 12));
        assert!(held.is_empty());
        for seq in 1..=10 {
            held.read(seq, stamp(seq), true);
        }
        held.drop_through(7);
        assert_eq!(held.ranges, BTreeMap::from([(8, 10)]));
        held.drop_through(10);
        assert!(held.is_empty());
    }

    #[test]
    fn the_memory_of_what_is_held_back_is_bounded() {
        let mut held = HeldBack::default();
        for seq in 1..=10_000 {
            held.read(2 * seq, stamp(seq), true);
            held.read(2 * seq + 1, stamp(seq), false);
        }
        assert_eq!((held.ranges.len(), held.count), (RANGES_MAX, 10_000));
        assert!((1..=10_000).all(|seq| held.has(2 * seq)));
    }
}
