//! The habits a cloud may have, as values.

use std::fmt;
use std::time::Duration;

use super::when::When;
use crate::sim::cloud::faults::On;
use crate::sim::cloud::store::Dedup;
use crate::sim::cloud::words::Words;

/// How late a reading call shows what was taken. Each call draws its own between the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::cloud) struct Lag {
    pub(in crate::sim::cloud) least: Duration,
    pub(in crate::sim::cloud) most: Duration,
}

/// What an active-session question shows instead of the active session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Stale {
    /// The session before it, as active.
    Before,
    /// None, in the documented words.
    None,
}

/// Pages without passings although there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum EmptyPages {
    /// One before each page.
    First,
    /// One after each page but the last.
    Between,
}

/// Order of what a reading call lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Order {
    /// By number; by arrival where it is asked by time.
    #[default]
    Usual,
    /// The reverse.
    Newest,
    /// Any, but the same each time.
    Shuffled,
}

/// Which passings another sender puts into the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum SecondWriter {
    /// Those right above the highest number, after an insert.
    Above,
    /// Those with the numbers of an insert, right before or right after it.
    Copies,
}

/// What becomes of an insert whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Lost {
    Stored,
    Dropped,
    Half,
    /// Stored up to so long afterwards.
    Late(Duration),
}

/// What the counts of an insert say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Miscount {
    /// None was inserted: true, or not.
    Zero { stored: bool },
    /// There are none.
    Missing,
    /// Half of it was inserted, which is true.
    Half,
}

/// The habits of one cloud; none by default.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Seed of every choice.
    pub(in crate::sim::cloud) seed: u64,
    /// As they were given.
    pub(super) texts: Vec<String>,
    pub(in crate::sim::cloud) lag: Lag,
    pub(in crate::sim::cloud) lag_by_time: Option<Lag>,
    pub(in crate::sim::cloud) lag_sessions: Duration,
    pub(in crate::sim::cloud) lag_active: Duration,
    pub(super) stale_active: Vec<(Stale, When)>,
    pub(in crate::sim::cloud) first_exclusive: bool,
    pub(in crate::sim::cloud) last_exclusive: bool,
    pub(in crate::sim::cloud) last_required: bool,
    pub(in crate::sim::cloud) range_limit: Option<u64>,
    pub(in crate::sim::cloud) span_limit: Option<Duration>,
    pub(in crate::sim::cloud) none_is_404: bool,
    pub(in crate::sim::cloud) page_ignored: bool,
    pub(in crate::sim::cloud) no_has_more: bool,
    pub(in crate::sim::cloud) empty_pages: Option<EmptyPages>,
    pub(in crate::sim::cloud) order: Order,
    pub(in crate::sim::cloud) text_ids: bool,
    pub(in crate::sim::cloud) text_counts: bool,
    pub(super) refused: Vec<(On, u16, When)>,
    pub(super) words: Vec<(On, Words, Option<bool>, When)>,
    pub(super) miscounts: Vec<(Miscount, When)>,
    pub(in crate::sim::cloud) dedup: Option<Dedup>,
    pub(in crate::sim::cloud) per_device: bool,
    pub(super) writers: Vec<(SecondWriter, When)>,
    pub(in crate::sim::cloud) failing: Vec<(String, u16)>,
    pub(super) slow_posts: Duration,
    pub(super) lost: Vec<(Lost, bool, When)>,
}

impl Habits {
    /// None yet, with the seed of what will be chosen.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// As on the command line.
impl fmt::Display for Habits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        self.texts.iter().try_for_each(|text| write!(f, " --habit {text}"))
    }
}
