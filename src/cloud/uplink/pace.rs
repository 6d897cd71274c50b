//! How fast passings are acknowledged while some wait, so that a timer sees how fast a slow link
//! is.

use std::collections::VecDeque;
use std::time::Duration;

/// The time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// No speed is reported for a shorter time of work.
const LEAST: Duration = Duration::from_secs(10);

/// Passings acknowledged in each second, over the last minute of uninterrupted work.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    since: Option<Duration>,
    seconds: VecDeque<(u64, u64)>, // second and count; at most one entry for each second of the window
}

impl Pace {
    /// Passings wait at `now`.
    pub(super) fn busy(&mut self, now: Duration) {
        self.since.get_or_insert(now);
    }

    /// No passing waits any more.
    pub(super) fn rest(&mut self) {
        *self = Self::default();
    }

    /// The cloud acknowledged `count` passings.
    pub(super) fn sent(&mut self, now: Duration, count: u64) {
        let second = now.as_secs();
        self.seconds.retain(|(at, _)| at + WINDOW.as_secs() > second);
        match self.seconds.back_mut() {
            Some((at, so_far)) if *at == second => *so_far += count,
            _ => self.seconds.push_back((second, count)),
        }
    }

    /// Passings a minute. `None`: no passing waits, or the time of work is too short.
    pub(super) fn per_minute(&self, now: Duration) -> Option<u64> {
        let busy = now.saturating_sub(self.since?).min(WINDOW);
        if busy < LEAST {
            return None;
        }
        let fresh = self.seconds.iter().filter(|(at, _)| at + WINDOW.as_secs() > now.as_secs());
        let sent: u64 = fresh.map(|(_, count)| count).sum();
        Some((sent as f64 * 60.0 / busy.as_secs_f64()).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_minute_at_work_and_none_at_rest() {
        let at = Duration::from_secs;
        let mut pace = Pace::default();
        pace.sent(at(100), 50);
        assert_eq!(pace.per_minute(at(200)), None);
        pace.rest();
        pace.busy(at(300));
        pace.sent(at(304), 10);
        assert_eq!(pace.per_minute(at(305)), None, "too early to tell");
        pace.sent(at(310), 10);
        assert_eq!(pace.per_minute(at(320)), Some(60));
        for second in 320..600 {
            pace.sent(at(second), 2);
        }
        assert_eq!(pace.per_minute(at(599)), Some(120));
        assert_eq!(pace.per_minute(at(629)), Some(60), "half a minute of nothing");
        assert_eq!(pace.per_minute(at(900)), Some(0));
        assert!(pace.seconds.len() <= 60);
    }
}
