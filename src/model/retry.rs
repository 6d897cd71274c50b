//! How long to wait before the next try. Only this module knows the `backoff` crate.
//!
//! Only its sequence of intervals is used. Its clock is frozen, because timers belong to the driver
//! and use monotonic time. Its randomness is off, because the jitter uses the caller's seed, so
//! that a run can be repeated. The crate is no longer maintained. A dozen lines here would replace
//! it.

use std::time::{Duration, Instant};

use backoff::backoff::Backoff;
use backoff::exponential::ExponentialBackoff;

/// Jitter of each wait: from half below to half above.
const JITTER: f64 = 0.5;

/// A clock that stands still, so that no wait depends on how long the tries took.
#[derive(Clone)]
struct Still(Instant);

impl Default for Still {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl backoff::Clock for Still {
    fn now(&self) -> Instant {
        self.0
    }
}

/// Growing waits: about `first`, twice that, four times ... `max`, each with jitter. None is above
/// `max` unless the caller asks for a longer one.
pub(crate) struct Retry {
    waits: ExponentialBackoff<Still>,
    max: Duration,
}

impl Retry {
    /// Waits from `first` up to `max`.
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        let mut waits = ExponentialBackoff::<Still> {
            initial_interval: first.min(max),
            max_interval: max,
            multiplier: 2.0,
            randomization_factor: 0.0,
            max_elapsed_time: None, // never give up
            ..Default::default()
        };
        waits.reset();
        Self { waits, max }
    }

    /// Call this after a success: the next wait is a short one again.
    pub(crate) fn reset(&mut self) {
        self.waits.reset();
    }

    /// The next wait. It is at least `asked`.
    pub(crate) fn next(&mut self, rng: &mut fastrand::Rng, asked: Option<Duration>) -> Duration {
        let wait = self.waits.next_backoff().unwrap_or(self.max);
        jittered(wait, JITTER, rng).min(self.max).max(asked.unwrap_or_default())
    }
}

/// `wait`, shorter or longer by at most the fraction `share`, in whole milliseconds.
pub(crate) fn jittered(wait: Duration, share: f64, rng: &mut fastrand::Rng) -> Duration {
    let factor = 1.0 + share * (2.0 * rng.f64() - 1.0);
    Duration::from_millis((wait.as_millis() as f64 * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_stay_there_and_start_small_after_success() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<_> = (0..12).map(|_| retry.next(&mut rng, None).as_secs_f64()).collect();
        for (n, wait) in waits.iter().enumerate() {
            let middle = f64::min(60.0, f64::powi(2.0, i32::try_from(n).unwrap()));
            assert!((middle * 0.5 - 0.01..=f64::min(60.0, middle * 1.5)).contains(wait), "{n}: {wait}");
        }
        retry.reset();
        assert!(retry.next(&mut rng, None) <= Duration::from_millis(1500));
    }

    #[test]
    fn what_the_server_asks_for_is_the_least_wait_even_above_the_maximum() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(60));
        let asked = Duration::from_secs(300);
        assert_eq!(retry.next(&mut rng, Some(asked)), asked);
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let run = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(60));
            (0..20).map(|_| retry.next(&mut rng, None)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
