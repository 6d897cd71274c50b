//! Sequence numbers as a few ranges, which may be wider than the truth and never narrower.

use serde::{Deserialize, Serialize};

/// Ranges of reads that are kept for a block, and for a batch.
const RANGES_MAX: usize = 8;

/// Sequence numbers, in a few ranges that do not overlap, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranges(pub Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        // A new range usually continues where the last one ended.
        if let Some((_, end)) = self.0.last_mut().filter(|(from, end)| *from <= first && first <= end.saturating_add(1))
        {
            *end = last.max(*end);
            return;
        }
        self.0.push((first, last));
        self.0.sort_unstable();
        self.0.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1.saturating_add(1);
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        while self.0.len() > RANGES_MAX {
            let gap = |at: &usize| self.0[at + 1].0 - self.0[*at].1;
            let Some(nearest) = (0..self.0.len() - 1).min_by_key(gap) else { return };
            self.0[nearest].1 = self.0[nearest + 1].1;
            self.0.remove(nearest + 1);
        }
    }

    /// Adds all ranges of another value.
    pub(super) fn add_all(&mut self, other: &Self) {
        for &(first, last) in &other.0 {
            self.add(first, last);
        }
    }

    /// Whether one of the ranges has a number from `first` to `last`.
    pub(super) fn meet(&self, first: u64, last: u64) -> bool {
        self.0.iter().any(|range| range.0 <= last && first <= range.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_ranges_hold_every_number_that_was_added_and_join_where_the_gap_is_least() {
        let mut ranges = Ranges::default();
        let mut random = fastrand::Rng::with_seed(1);
        let added: Vec<u64> = std::iter::repeat_with(|| random.u64(..10_000)).take(500).collect();
        for &seq in &added {
            ranges.add(seq, seq);
            assert!(ranges.0.len() <= RANGES_MAX && ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
        assert!(added.iter().all(|&seq| ranges.meet(seq, seq)));
        let mut ranges = Ranges::default();
        for at in 0..=RANGES_MAX as u64 {
            ranges.add(at * 1000, at * 1000 + if at == 3 { 990 } else { 1 });
        }
        assert!(ranges.meet(3995, 3995) && !ranges.meet(2500, 2500));
    }
}
