//! A made-up race: it decides which chip crosses when. It is deterministic: the same configuration
//! and seed result in the same crossings.

/// The runners, and how often each is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceConfig {
    /// Chips in the race, 1 to [`FIELD_MAX`] (a larger number is cut to that).
    pub field: u32,
    /// Start waves, with a pause between them.
    pub waves: u32,
    /// Crossings of each chip. `None`: laps without an end.
    pub laps: Option<u32>,
}

impl Default for RaceConfig {
    fn default() -> Self {
        Self { field: 500, waves: 3, laps: None }
    }
}

/// The most chips: five digits fit into every protocol's chip code.
pub const FIELD_MAX: u32 = 99_999;
/// A wave begins after a pause of this many mean gaps.
const WAVE_PAUSE: f64 = 10.0;
/// The part of the gaps that are short, because runners cross in groups.
const IN_A_GROUP: f64 = 0.7;
/// The longest gap inside a group, in mean gaps.
const GROUP_GAP: f64 = 0.4;
/// A chip is not seen again before this time, so that chip and stamp are unique also in hundredths
/// of a second.
const AGAIN_US: u64 = 10_000;

/// One crossing, in microseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// A number from 1 to the size of the field.
    pub(crate) chip: u32,
    /// When it happens.
    pub(crate) due_us: u64,
    /// The decoder's clock at that time. It is later than `due_us` only if a chip crossed again too
    /// soon.
    pub(crate) stamp_us: u64,
}

/// The race in progress. Memory: twelve bytes for each chip.
pub(crate) struct Race {
    rng: fastrand::Rng,
    /// Chips in the order of this lap.
    order: Vec<u32>,
    /// When each chip was last seen.
    seen: Vec<u64>,
    at: usize,
    laps_left: Option<u32>,
    wave: usize,
    gap_us: f64,
    now_us: f64,
}

impl Race {
    /// Makes a race with a mean of `rate` crossings a second.
    pub(crate) fn new(config: RaceConfig, rate: f64, seed: u64) -> Self {
        let field = config.field.clamp(1, FIELD_MAX);
        let waves = config.waves.clamp(1, field);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<u32> = (1..=field).collect();
        let wave = order.len().div_ceil(waves as usize);
        order.chunks_mut(wave).for_each(|wave| rng.shuffle(wave));
        let pauses = f64::from(field) / (f64::from(field) + WAVE_PAUSE * f64::from(waves));
        Self {
            rng,
            seen: vec![0; order.len()],
            order,
            at: 0,
            laps_left: config.laps,
            wave,
            gap_us: 1e6 / rate.max(1e-3) * pauses,
            now_us: 0.0,
        }
    }

    /// The next crossing, in order of time. `None`: the race is over.
    pub(crate) fn next(&mut self) -> Option<Crossing> {
        if self.laps_left == Some(0) {
            return None;
        }
        self.now_us += self.gap() * self.gap_us;
        let chip = self.order[self.at];
        let due_us = self.now_us as u64;
        let seen = &mut self.seen[chip as usize - 1];
        *seen = due_us.max(*seen + AGAIN_US);
        let crossing = Crossing { chip, due_us, stamp_us: *seen };
        self.at += 1;
        if self.at == self.order.len() {
            self.next_lap();
        }
        Some(crossing)
    }

    /// Moves the race so that nobody crosses before `us`. `next` is the crossing that would be
    /// next.
    pub(crate) fn not_before(&mut self, us: u64, next: &mut Option<Crossing>) {
        let Some(crossing) = next else { return };
        let wait = us.saturating_sub(crossing.due_us);
        crossing.due_us += wait;
        crossing.stamp_us = crossing.stamp_us.max(crossing.due_us);
        self.now_us += wait as f64;
        let seen = &mut self.seen[crossing.chip as usize - 1];
        *seen = crossing.stamp_us.max(*seen);
    }

    /// The next gap, in mean gaps. The mean is 1 without the pauses.
    fn gap(&mut self) -> f64 {
        let pause = if self.at.is_multiple_of(self.wave) { WAVE_PAUSE } else { 0.0 };
        if self.rng.f64() < IN_A_GROUP {
            return pause + self.rng.f64() * GROUP_GAP;
        }
        let mean = (1.0 - IN_A_GROUP * GROUP_GAP / 2.0) / (1.0 - IN_A_GROUP);
        pause - mean * (1.0 - self.rng.f64()).ln()
    }

    fn next_lap(&mut self) {
        self.at = 0;
        self.laps_left = self.laps_left.map(|laps| laps - 1);
        for place in 0..self.order.len() {
            let other = (place + self.rng.usize(0..8)).min(self.order.len() - 1);
            self.order.swap(place, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_makes_one_race_at_the_wanted_rate_in_which_no_chip_is_seen_twice_at_once() {
        let race = |seed| {
            let mut race = Race::new(RaceConfig { field: 200, waves: 2, laps: None }, 50.0, seed);
            (0..10_000).map_while(|_| race.next()).collect::<Vec<_>>()
        };
        let crossings = race(7);
        assert_eq!(crossings, race(7));
        assert_ne!(crossings, race(8));
        assert!(crossings.is_sorted_by_key(|crossing| crossing.due_us));
        let seconds = crossings.last().unwrap().due_us as f64 / 1e6;
        assert!((190.0..210.0).contains(&seconds), "10,000 crossings at 50/s took {seconds} s");
        let hundredths: HashSet<_> = crossings.iter().map(|c| (c.chip, c.stamp_us / 10_000)).collect();
        assert_eq!(hundredths.len(), crossings.len());
    }

    #[test]
    fn a_race_of_one_chip_faster_than_its_clock_keeps_its_stamps_apart() {
        let mut race = Race::new(RaceConfig { field: 1, waves: 5, laps: Some(100) }, 1e6, 1);
        let stamps: Vec<u64> = std::iter::from_fn(|| race.next()).map(|c| c.stamp_us / 10_000).collect();
        assert_eq!(stamps.len(), 100);
        assert!(stamps.is_sorted_by(|a, b| a < b));
    }
}
