//! Reads that are held back: kept like any other, and not uploaded until somebody lets them go.
//!
//! A decoder that was cleared is asked for all of its memory. Whatever is stamped there before the last read of the memory
//! before cannot have been made since: it is of another race, or of a clock that was wrong. The link judges that when the
//! read comes (`link::memories`) and marks it; from then on all follows from the log:
//! * A marked read that is no repeat is held back: no batch covers it, nothing waits for it.
//! * [`Journal::let_go`](super::Journal::let_go) appends it once more, with the entry that it was. That one is judged and uploaded like a read that
//!   came now: in the order of the log, behind what went up meanwhile. Nothing of it has to fit into memory.
//! * Its segment goes by age alone (`[keep].days`), as one with passings that were set aside.
//!
//! Bounded: `RANGES_MAX` ranges a decoder. Between two of them is a marked read that was a repeat.
//!
//! Rejected: *a verdict beside passing, dead and repeat, with its numbers in the batch line*: the read would have to be kept
//! for later somewhere, with its place in an order that went on without it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::chip::Stamp;

/// Ranges of entries remembered per decoder. Of more the two oldest become one, and a repeat between them may go up twice.
const RANGES_MAX: usize = 1024;

/// The reads of one decoder that are held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Every marked read of the decoder in these ranges of entries is held back.
    pub ranges: BTreeMap<u64, u64>,
    /// How many.
    pub count: u64,
    /// The earliest and the latest of them, as the first that was held back is dated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamps: Option<(StampText, StampText)>,
    /// The last marked read was a repeat: the next one begins a range.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    apart: bool,
}

/// A stamp in its text form.
type StampText = Box<str>;

impl HeldBack {
    /// None is.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// A marked read came. `is_new`: it is no repeat.
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
            // Their text forms sort as they do, where they are of one kind.
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

    /// The read `of` is let go, and none from `from` up to it is held back any more. `false`: it is not held back.
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

    /// None up to this entry is held back any more.
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
        // From 15 on, then from the beginning.
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
