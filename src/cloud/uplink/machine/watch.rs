//! Who else sends into our session?
//!
//! Two boxes with one `device_id` (a copied card, a test box that was forgotten) number their passings over each other. What a
//! cloud then does is its own affair: it may store both, or drop one without a word. So while passings go into a session, the cloud
//! is asked now and then what it holds around our newest numbers, and anything there that is not ours is another writer. The
//! question also shows how far the cloud's answers are behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Machine, WRITER_SHOWN};
use crate::cloud::uplink::inquiry::Inquiry;
use crate::journal::Item;
use crate::status::ProblemCode;

/// So many looks follow an acceptance: the cloud may show what another sent only later.
const LOOKS: u8 = 3;
/// Our newest passings that are looked at.
const NEWEST: usize = 20;

#[derive(Default)]
pub(super) struct Watch {
    token: Box<str>,
    /// Our newest passings in the session, by number.
    ours: BTreeMap<u64, Item>, // at most NEWEST
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
    pub(super) fn accepted(&mut self, token: &str, items: &[Item]) {
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
    pub(super) fn ours(&self) -> Vec<&Item> {
        self.ours.values().collect()
    }
}

impl Machine {
    /// The cloud showed what it holds around our numbers.
    pub(super) fn on_watched(&mut self, now: Duration, inquiry: &Inquiry) {
        let (others, last) = &inquiry.others;
        if *others > 0 {
            self.on_other_writer(now, last);
        }
    }

    /// Somebody else's passing stands among ours, or under one of our numbers.
    pub(super) fn on_other_writer(&mut self, now: Duration, other: &str) {
        self.trust.watch.seen = Some(now);
        let text = format!(
            "CRITICAL: another box or program sends passings into this session (the last: {other}). Two senders with one \
             device number over each other, and passings may be lost or mixed. Find it: a second box with the same \
             device_id, a copied memory card? Give each box a device of its own, then compare with `passbridge audit`"
        );
        self.problems.insert(ProblemCode::OtherWriter, text);
    }

    /// The other writer was not seen any more for a long time.
    pub(super) fn forget_writer(&mut self, now: Duration) {
        if self.trust.watch.seen.is_some_and(|seen| now.saturating_sub(seen) > WRITER_SHOWN) {
            self.trust.watch.seen = None;
            self.problems.remove(&ProblemCode::OtherWriter);
        }
    }
}
