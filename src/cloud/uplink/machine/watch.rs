//! Who else sends into our session?
//!
//! Two boxes with one `device_id` (a copied card, a test box that was forgotten) number their passings over each other. What a
//! cloud then does is its own affair: it may store both, or drop one without a word. So while passings go into a session, the cloud
//! is asked now and then what it holds around our newest numbers, and anything there that is not ours is another writer. The
//! question also shows how far the cloud's answers are behind.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::uplink::inquiry::Inquiry;
use crate::journal::UploadItem;

/// So many looks follow an acceptance: the cloud may show what another sent only later.
const LOOKS: u8 = 3;
/// Our newest passings that are looked at.
const NEWEST: usize = 20;

#[derive(Default)]
pub(super) struct Watch {
    token: Box<str>,
    /// Our newest passings in the session, by number.
    ours: BTreeMap<u64, UploadItem>, // at most NEWEST
    /// Looks that are still to follow the last acceptance.
    looks: u8,
    /// Between two looks.
    every: Duration,
    next: Duration,
    /// When another writer was seen last.
    pub(super) seen: Option<Duration>,
}

impl Watch {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, ..Self::default() }
    }

    /// These are in the session now.
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

    /// When the next look is due, if one is.
    pub(super) fn due_at(&self) -> Option<Duration> {
        (self.looks > 0).then_some(self.next)
    }

    /// The question, when it is time.
    pub(super) fn due(&mut self, now: Duration, token: &str) -> Option<Inquiry> {
        if now < self.next || self.looks == 0 || *self.token != *token {
            return None;
        }
        (self.next, self.looks) = (now + self.every, self.looks - 1);
        Some(Inquiry::new(token, *self.ours.first_key_value()?.0, None))
    }

    /// What the answer is judged by, in number order.
    pub(super) fn ours(&self) -> Vec<&UploadItem> {
        self.ours.values().collect()
    }
}
