//! How long the last passings took from the read to the cloud.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Passings that are remembered.
const KEPT: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Half of the passings took at most `median`, 95 % at most `p95`, and one took `worst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    pub median: Duration,
    pub p95: Duration,
    pub worst: Duration,
    pub passings: usize,
}

/// The last passings, and when they were seen.
#[derive(Debug, Default)]
pub(super) struct Delays(VecDeque<(Instant, Duration)>);

impl Delays {
    /// A passing that was seen now took so long.
    pub(super) fn add(&mut self, delay: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((Instant::now(), delay));
    }

    /// All that are remembered. `None`: there are none.
    pub(super) fn all(&self) -> Option<Figures> {
        figures(self.0.iter().map(|(_, delay)| *delay).collect())
    }

    /// Those that were seen in the last minute.
    pub(super) fn last_minute(&self) -> Option<Figures> {
        figures(self.0.iter().filter(|(seen, _)| seen.elapsed() <= MINUTE).map(|(_, delay)| *delay).collect())
    }
}

fn figures(mut delays: Vec<Duration>) -> Option<Figures> {
    delays.sort_unstable();
    let worst = *delays.last()?;
    let of_rank = |percent: usize| delays[(delays.len() * percent).div_ceil(100) - 1];
    Some(Figures { median: of_rank(50), p95: of_rank(95), worst, passings: delays.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_figures_are_those_of_the_passings_that_were_seen_in_the_time() {
        let mut delays = Delays::default();
        assert_eq!(delays.all(), None);
        delays.add(Duration::from_secs(9));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(delays.last_minute(), None);
        (1..=100).rev().for_each(|ms| delays.add(Duration::from_millis(ms)));
        let ms = |figures: Figures| [figures.median, figures.p95, figures.worst].map(|time| time.as_millis());
        assert_eq!(ms(delays.last_minute().unwrap()), [50, 95, 100]);
        let all = delays.all().unwrap();
        assert_eq!((ms(all), all.passings), ([51, 96, 9000], 101));
        (0..2 * KEPT).for_each(|_| delays.add(Duration::from_secs(1)));
        assert_eq!(delays.all().unwrap().passings, KEPT);
    }
}
