//! Recognises a faulty decoder that sends more live reads than any race makes.
//!
//! The box still keeps everything that the decoder sends, as fast as the disk takes it. This file
//! only raises the problem. Reads that the decoder had stored do not count, because a whole race
//! may arrive at once after an outage.

use std::time::{Duration, Instant};

/// Live reads a second that no race reaches. The largest mass starts have some 100 chips a second
/// on a mat, and a decoder that does not deduplicate reports each of them some ten times.
pub(super) const MANY: u64 = 2_000;
/// It is a flood when the rate is high for this long. The flood is over when the rate was calm for
/// [`CALM`].
const LASTS: Duration = Duration::from_secs(5);
/// See [`LASTS`].
const CALM: Duration = Duration::from_secs(60);

/// Watches the rate of live reads, about once a second.
#[derive(Debug)]
pub(super) struct Flood {
    looked: Instant,
    counted: u64,
    /// Since when the rate is above [`MANY`] without a second below it.
    high: Option<Instant>,
    /// When the rate was last above half of [`MANY`] while a flood is shown.
    shown: Option<Instant>,
}

/// The result of one look at the rate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// Nothing has changed.
    Calm,
    /// It is a flood of this many live reads a second.
    Flood(u64),
    /// This look shows that the flood is over.
    Over,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self { looked: now, counted: 0, high: None, shown: None }
    }

    /// `count` is the number of live reads ever received.
    pub(super) fn look(&mut self, now: Instant, count: u64) -> Rate {
        let passed = now.duration_since(self.looked);
        if passed < Duration::from_millis(500) {
            return Rate::Calm; // too short for a rate
        }
        let rate = ((count - self.counted) as f64 / passed.as_secs_f64()) as u64;
        let since = std::mem::replace(&mut self.looked, now);
        self.counted = count;
        self.high = (rate >= MANY).then(|| self.high.unwrap_or(since));
        if self.high.is_some_and(|high| now.duration_since(high) >= LASTS) {
            self.shown = Some(now);
            return Rate::Flood(rate);
        }
        match self.shown {
            Some(_) if rate >= MANY / 2 => self.shown = Some(now),
            Some(last) if now.duration_since(last) >= CALM => {
                self.shown = None;
                return Rate::Over;
            }
            _ => {}
        }
        Rate::Calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one rate for each second, and returns the result for each second.
    fn shows(flood: &mut Flood, clock: &mut (Instant, u64), rates: &[u64]) -> Vec<Rate> {
        let mut look = |rate: &u64| {
            *clock = (clock.0 + Duration::from_secs(1), clock.1 + rate);
            flood.look(clock.0, clock.1)
        };
        rates.iter().map(&mut look).collect()
    }

    #[test]
    fn a_mass_start_is_no_flood_and_neither_is_a_burst() {
        let start = Instant::now();
        let (mut flood, mut clock) = (Flood::new(start), (start, 0));
        let calm = |rates: Vec<Rate>| rates.into_iter().all(|rate| rate == Rate::Calm);
        assert!(calm(shows(&mut flood, &mut clock, &[1_900; 100])));
        assert!(calm(shows(&mut flood, &mut clock, &[9_000, 9_000, 9_000, 9_000, 100, 9_000, 9_000])));
    }

    #[test]
    fn a_flood_is_shown_after_five_seconds_and_over_after_a_calm_minute() {
        let start = Instant::now();
        let (mut flood, mut clock) = (Flood::new(start), (start, 0));
        let rates = shows(&mut flood, &mut clock, &[50_000; 6]);
        assert_eq!(rates[3], Rate::Calm);
        assert_eq!(rates[4..], [Rate::Flood(50_000), Rate::Flood(50_000)]);
        let rates = shows(&mut flood, &mut clock, &[[10; 59].as_slice(), &[1_500]].concat());
        assert!(!rates.contains(&Rate::Over), "it came again before the minute was over");
        let rates = shows(&mut flood, &mut clock, &[10; 60]);
        assert_eq!(rates.iter().position(|rate| *rate == Rate::Over), Some(59));
    }
}
