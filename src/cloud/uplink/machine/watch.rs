//! Does another writer send passings into our session?
//!
//! Two boxes with one `device_id` (a copied card, a forgotten test box) use the same numbers. The
//! cloud may then store both passings, or drop one without an error. So while passings are sent
//! into a session, the machine regularly asks the cloud what it holds around our newest numbers.
//! Any passing there that is not ours is from another writer. The question also measures the lag of
//! the cloud's answers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::uplink::inquiry::Inquiry;
use crate::journal::UploadItem;

/// Number of looks after an acceptance. There are several, because the cloud may show another
/// writer's passing only later.
const LOOKS: u8 = 3;
/// How many of our newest passings the look covers.
const NEWEST: usize = 20;

#[derive(Default)]
pub(super) struct Watch {
    token: Box<str>,
    /// Our newest passings in the session, by number.
    ours: BTreeMap<u64, UploadItem>, // at most NEWEST
    /// Looks that still follow the last acceptance.
    looks: u8,
    /// Time between two looks.
    every: Duration,
    next: Duration,
    /// When another writer was last seen.
    pub(super) seen: Option<Duration>,
}

impl Watch {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, ..Self::default() }
    }

    /// These passings are in the session now.
    pub(super) fn accepted(&mut self, token: &str, items: &[UploadItem]) {
        if *self.token != *token {
            *self = Self { token: token.into(), next: self.next, ..Self::new(self.every) };
        }
        for item in &items[items.len().saturating_sub(NEWEST)..] {
            self.ours.insert(item.num, item.clone());
        }
        while self.ours.len() > NEWEST {
            self.ours.pop_first();
        }
        self.looks = LOOKS;
    }

    /// Returns when the next look is due, if one is planned.
    pub(super) fn due_at(&self) -> Option<Duration> {
        (self.looks > 0).then_some(self.next)
    }

    /// Returns the question, when it is due.
    pub(super) fn due(&mut self, now: Duration, token: &str) -> Option<Inquiry> {
        if now < self.next || self.looks == 0 || *self.token != *token {
            return None;
        }
        (self.next, self.looks) = (now + self.every, self.looks - 1);
        Some(Inquiry::new(token, *self.ours.first_key_value()?.0, None))
    }

    /// Our passings that the answer is compared with, in number order.
    pub(super) fn ours(&self) -> Vec<&UploadItem> {
        self.ours.values().collect()
    }
}
