//! Counts in bounded memory: different chips, and the middle of many differences.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::data::{CHIPS_MAX, ClockOffsets};

/// Differences that are remembered.
const SAMPLES: usize = 2_048;

/// Different chips. Of each one a digest of 64 bits is remembered, so two of 100,000 chips are taken for one
/// with a probability below one in a thousand million.
#[derive(Clone, Debug, Default)]
pub(super) struct ChipTally {
    seen: HashSet<u64>,
    more: bool,
}

impl ChipTally {
    pub(super) fn add(&mut self, chip: &str) {
        let mut digest = DefaultHasher::new();
        chip.hash(&mut digest);
        let digest = digest.finish();
        match self.seen.len() < CHIPS_MAX {
            true => drop(self.seen.insert(digest)),
            false => self.more |= !self.seen.contains(&digest),
        }
    }

    /// How many they are, and whether there are more.
    pub(super) fn count(&self) -> (u64, bool) {
        (self.seen.len() as u64, self.more)
    }
}

/// Every difference up to [`SAMPLES`], then every second one, every fourth one, and so on.
#[derive(Clone, Debug, Default)]
pub(super) struct OffsetSamples {
    samples: Vec<i64>,
    /// Each sample stands for 2 to this power.
    halvings: u32,
    seen: u64,
}

impl OffsetSamples {
    pub(super) fn add(&mut self, ms: i64) {
        let takes = self.seen.is_multiple_of(1 << self.halvings.min(63));
        self.seen += 1;
        if !takes {
            return;
        }
        self.samples.push(ms);
        if self.samples.len() >= SAMPLES {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.halvings += 1;
        }
    }

    pub(super) fn offsets(&self) -> Option<ClockOffsets> {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |part: usize| sorted[last * part / 20];
        Some(ClockOffsets { median_ms: at(10), low_ms: at(1), high_ms: at(19) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_counted_exactly_up_to_the_limit_and_more_are_said_to_be_more() {
        let mut tally = ChipTally::default();
        (0..CHIPS_MAX).chain(0..CHIPS_MAX).for_each(|chip| tally.add(&chip.to_string()));
        assert_eq!(tally.count(), (CHIPS_MAX as u64, false));
        tally.add("another");
        assert_eq!(tally.count(), (CHIPS_MAX as u64, true));
    }

    #[test]
    fn the_middle_of_a_million_differences_is_found_among_a_few() {
        let mut samples = OffsetSamples::default();
        assert_eq!(samples.offsets(), None);
        (0..1_000_000).for_each(|n| samples.add(n % 1_001));
        let ClockOffsets { median_ms, low_ms, high_ms } = samples.offsets().unwrap();
        assert!((480..520).contains(&median_ms) && low_ms < 80 && high_ms > 920, "{median_ms} {low_ms} {high_ms}");
        assert!(samples.samples.len() <= SAMPLES);
    }
}
