//! Habits of a cloud: what a real one may do although no document says so, and what a client must live with.
//!
//! A habit is written as text, `NAME[=VALUE][@WHEN]`, the same on the command line, in tests and in the report of a test
//! that failed; [`HABITS`] lists them. They are seeded: the same requests in the same order meet the same ones. Any may be
//! combined with any other. Scripted faults ([`SimCloud::fault`](super::SimCloud::fault)) go before them.
//!
//! What is not here: what a cloud is *told* to be (its generation, its duplicate rule, its keys) is in
//! [`SimCloudConfig`](super::SimCloudConfig).

mod meet;
mod names;
mod when;

use std::fmt;
use std::time::Duration;

pub(super) use meet::ago;
pub use names::{HABITS, Habit};
pub use when::When;
pub(super) use when::{Chooser, scattered};

use super::faults::On;
use super::store::Dedup;
use super::words::Words;

/// Longest time that passings or sessions stay unseen.
pub const MAX_LAG: Duration = Duration::from_secs(60);

/// How late a reading call shows what was taken. Each call draws its own between the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lag {
    pub(super) least: Duration,
    pub(super) most: Duration,
}

/// What an active-session question shows instead of the active session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// The session before it, as active.
    Before,
    /// None, in the documented words.
    None,
}

/// Pages without passings although there are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyPages {
    /// One before each page.
    First,
    /// One after each page but the last.
    Between,
}

/// Order of what a reading call lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
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
pub(super) enum Writer {
    /// Those right above the highest number, after an insert.
    Above,
    /// Those with the numbers of an insert, right before or right after it.
    Copies,
}

/// What becomes of an insert whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Stored,
    Dropped,
    Half,
    /// Stored up to so long afterwards.
    Late(Duration),
}

/// What the counts of an insert say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miscount {
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
    pub(super) seed: u64,
    /// As they were given.
    texts: Vec<String>,
    pub(super) lag: Lag,
    pub(super) lag_by_time: Option<Lag>,
    pub(super) lag_sessions: Duration,
    pub(super) lag_active: Duration,
    stale_active: Vec<(Stale, When)>,
    pub(super) first_exclusive: bool,
    pub(super) last_exclusive: bool,
    pub(super) last_required: bool,
    pub(super) range_limit: Option<u64>,
    pub(super) span_limit: Option<Duration>,
    pub(super) none_is_404: bool,
    pub(super) page_ignored: bool,
    pub(super) no_has_more: bool,
    pub(super) empty_pages: Option<EmptyPages>,
    pub(super) order: Order,
    pub(super) text_ids: bool,
    pub(super) text_counts: bool,
    refused: Vec<(On, u16, When)>,
    words: Vec<(On, Words, Option<bool>, When)>,
    miscounts: Vec<(Miscount, When)>,
    pub(super) dedup: Option<Dedup>,
    pub(super) per_device: bool,
    writers: Vec<(Writer, When)>,
    pub(super) failing: Vec<(String, u16)>,
    slow_posts: Duration,
    lost: Vec<(Lost, bool, When)>,
}

impl Habits {
    /// None yet, with the seed of what will be chosen.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// These, each as [`HABITS`] says.
    ///
    /// # Errors
    /// Which is none, and what would be one.
    pub fn of<T: AsRef<str>>(seed: u64, texts: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut habits = Self::new(seed);
        for text in texts {
            habits.take(text.as_ref())?;
        }
        Ok(habits)
    }

    /// One more.
    ///
    /// # Errors
    /// What would be one.
    pub fn take(&mut self, text: &str) -> Result<(), String> {
        names::take(self, text)?;
        self.texts.push(text.to_owned());
        Ok(())
    }
}

/// As on the command line.
impl fmt::Display for Habits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        self.texts.iter().try_for_each(|text| write!(f, " --habit {text}"))
    }
}
