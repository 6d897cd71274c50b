//! When a habit applies, and the random choices of the habits. The same seed and the same requests
//! lead to the same choices.
//!
//! Each place that makes choices has its own counter, so a habit meets the same requests, whichever
//! other habits are active.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::config::duration;

/// Longest time in the text of a habit.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// Which requests of its class a habit applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum When {
    /// Every request.
    #[default]
    Always,
    /// One request in this many, chosen by the seed.
    OneIn(u64),
    /// All requests for this time, which begins with the first request after `after` others. Then
    /// none.
    While {
        /// Number of requests before the time begins.
        after: u64,
        /// Length of the time.
        time: Duration,
    },
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let must =
            || format!("`{text}` must be always, 1/N (one in N), a time such as 5s, or N+TIME (after N requests)");
        if text == "always" {
            return Ok(Self::Always);
        }
        if let Some(n) = text.strip_prefix("1/") {
            return n.parse().ok().filter(|n| *n > 0).map(Self::OneIn).ok_or_else(must);
        }
        let (after, time) = text.split_once('+').unwrap_or(("0", text));
        let after = after.parse().map_err(|_| must())?;
        let time = duration(time, &(Duration::from_millis(1)..=LONGEST)).map_err(|_| must())?;
        Ok(Self::While { after, time })
    }
}

/// A place that makes choices: its name, and its index among those with that name.
pub(super) type CallPlace = (&'static str, usize);

#[derive(Default)]
struct Met {
    count: u64,
    since: Option<Instant>,
}

/// The counters of the choices so far, one entry for each place. Their number is bounded by the
/// habits that a test or a user names.
#[derive(Default)]
pub(in crate::sim::cloud) struct Chooser {
    met: HashMap<CallPlace, Met>,
}

impl Chooser {
    /// This request meets the habit.
    pub(super) fn meets(&mut self, seed: u64, place: CallPlace, when: When, now: Instant) -> bool {
        let met = self.met.entry(place).or_default();
        met.count += 1;
        match when {
            When::Always => true,
            When::OneIn(n) => mixed(seed, place, met.count).is_multiple_of(n),
            When::While { after, .. } if met.count <= after => false,
            When::While { time, .. } => now.duration_since(*met.since.get_or_insert(now)) < time,
        }
    }

    /// Returns a number below `below` (0 if `below` is 0).
    pub(in crate::sim::cloud) fn draw(&mut self, seed: u64, place: CallPlace, below: u64) -> u64 {
        let met = self.met.entry(place).or_default();
        met.count += 1;
        mixed(seed, place, met.count).checked_rem(below).unwrap_or(0)
    }
}

/// Returns a number that looks random but depends only on these values.
fn mixed(seed: u64, (name, index): CallPlace, count: u64) -> u64 {
    let named = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| scattered(hash ^ u64::from(byte)));
    scattered(named ^ scattered(seed) ^ scattered(index as u64 + 1).rotate_left(17) ^ scattered(count).rotate_left(31))
}

/// The finaliser of SplitMix64.
pub(in crate::sim::cloud) fn scattered(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::OneIn(n) => write!(f, "1/{n}"),
            Self::While { after, time } => write!(f, "{after}+{}ms", time.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_habit_are_read_as_the_list_says() {
        let second = Duration::from_secs(1);
        assert_eq!("always".parse(), Ok(When::Always));
        assert_eq!("1/7".parse(), Ok(When::OneIn(7)));
        assert_eq!("1s".parse(), Ok(When::While { after: 0, time: second }));
        assert_eq!("20+1s".parse(), Ok(When::While { after: 20, time: second }));
        for wrong in ["", "1/0", "2/3", "1/", "5", "x+1s", "-1+1s", "1+", "2h"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_in_n_is_about_one_in_n_and_the_same_for_a_seed_whatever_chooses_beside_it() {
        let now = Instant::now();
        let run = |seed: u64, beside: bool| {
            let mut chooser = Chooser::default();
            let mut choose = |_| {
                if beside {
                    chooser.draw(seed, ("another", 0), 10);
                }
                chooser.meets(seed, ("words", 1), When::OneIn(5), now)
            };
            (0..1000).map(&mut choose).collect::<Vec<bool>>()
        };
        let met = run(1, false).iter().filter(|met| **met).count();
        assert!((150..250).contains(&met), "{met}");
        assert_eq!(run(1, false), run(1, true));
        assert_ne!(run(1, false), run(2, false));
    }

    #[test]
    fn a_while_begins_with_the_first_request_after_so_many_and_ends_for_good() {
        let mut chooser = Chooser::default();
        let begin = Instant::now();
        let when = When::While { after: 2, time: Duration::from_secs(3) };
        let met = [0, 1, 10, 11, 12, 13, 14]
            .map(|second| chooser.meets(1, ("words", 0), when, begin + Duration::from_secs(second)));
        assert_eq!(met, [false, false, true, true, true, false, false]);
    }
}
