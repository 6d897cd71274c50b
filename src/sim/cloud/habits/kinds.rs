//! The habits that a cloud may have, as values.

use std::fmt;
use std::time::Duration;

use super::when::When;
use crate::sim::cloud::faults::On;
use crate::sim::cloud::store::Dedup;
use crate::sim::cloud::words::Words;

/// How late a reading call shows what was accepted. Each call draws its own lag between the two
/// limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::cloud) struct Lag {
    pub(in crate::sim::cloud) least: Duration,
    pub(in crate::sim::cloud) most: Duration,
}

/// What the answer about the active session shows instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Stale {
    /// The session before the active one, as if it were active.
    Before,
    /// No session, in the documented words.
    None,
}

/// Pages without passings, although more passings follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum EmptyPages {
    /// An empty page before each page.
    First,
    /// An empty page after each page except the last.
    Between,
}

/// Order in which a reading call lists passings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Order {
    /// By number, or by arrival in questions by time.
    #[default]
    Usual,
    /// The reverse order.
    Newest,
    /// A random order that is the same each time.
    Shuffled,
}

/// Which passings another sender puts into the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum SecondWriter {
    /// Passings directly above the highest number, after an insert.
    Above,
    /// Passings with the numbers of an insert, immediately before or after it.
    Copies,
}

/// What happens to an insert whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Lost {
    Stored,
    Dropped,
    Half,
    /// It is stored later, after at most this time.
    Late(Duration),
}

/// What the counts of an insert say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) enum Miscount {
    /// They say that no passing was inserted. `stored`: the passings were stored.
    Zero { stored: bool },
    /// The answer has no counts.
    Missing,
    /// They say that half of the insert was stored, which is true.
    Half,
}

/// The habits of one cloud. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Seed of every choice.
    pub(in crate::sim::cloud) seed: u64,
    /// The texts of the habits, as they were given.
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
    /// No habit, with the seed for later choices.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// The habits in the form of the command line.
impl fmt::Display for Habits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        self.texts.iter().try_for_each(|text| write!(f, " --habit {text}"))
    }
}
