//! After the log lost lines: which passings does the cloud hold already?
//!
//! A lost line may have numbered passings whose reads are still there and wait, and a lost read may come again from the
//! decoder's memory. Both would be sent a second time, under another number. So the sessions of that time and the active
//! one are asked for all they hold before a new number is given, and a read whose chip (or bib, where the cloud tells
//! no chip) and time are found is not sent: it is recorded as found. Two decoders of one device that saw the same chip in the same
//! millisecond are told apart by how many the cloud holds, not by which.
//!
//! What it cannot do: a cloud that cuts the milliseconds off its answers makes no read look held; a key that may not
//! read finds nothing; beyond [`FOUND_MAX`] passings the rest is not remembered.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::journal::{Batch, Found, Item};
use crate::rufus::Page;

/// Passings remembered, some 20 MB when it is full.
const FOUND_MAX: usize = 262_144;

/// What the sessions of a device in doubt hold.
#[derive(Debug)]
pub(super) struct Recall {
    /// Sessions to ask; those before `asked` were.
    sessions: Vec<Box<str>>,
    asked: usize,
    /// By chip and time: session and number, each as often as it is held.
    found: HashMap<u64, Vec<(u32, u64)>>, // at most FOUND_MAX places
    places: usize,
}

impl Recall {
    pub(super) fn new(sessions: Vec<Box<str>>) -> Self {
        Self { sessions, asked: 0, found: HashMap::new(), places: 0 }
    }

    /// The session to ask before a number is given in the active one.
    pub(super) fn next(&mut self, active: &str) -> Option<Box<str>> {
        if self.sessions.iter().all(|known| **known != *active) {
            self.sessions.push(active.into());
        }
        self.sessions.get(self.asked).cloned()
    }

    /// A page of the session that is asked.
    pub(super) fn take(&mut self, page: &Page) {
        for stored in &page.passings {
            let (Some(num), Some(time_ms)) = (stored.num, stored.time_ms) else { continue };
            let Some(who) = stored.chip.as_deref().or(stored.bib.as_deref()) else { continue };
            let places = self.found.entry(key(who, time_ms)).or_default();
            let place = (self.asked as u32, num);
            if self.places < FOUND_MAX && !places.contains(&place) {
                places.push(place);
                self.places += 1;
            }
        }
    }

    /// Everything of that session was seen.
    pub(super) fn done(&mut self) {
        self.asked += 1;
    }

    /// Takes what is held already out of a batch that is about to be recorded; what is left keeps numbers without a hole.
    pub(super) fn sort_out(&mut self, batch: &mut Batch) {
        let Some(first) = batch.items.first().map(|item| item.num) else { return };
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for item in batch.items.drain(..) {
            match self.find(&item) {
                Some((session, num)) => {
                    let Item { seq, time_ms, bib, chip, .. } = item;
                    found.push(Found { seq, session, num, time_ms, bib, chip });
                }
                None => left.push(Item { num: first + left.len() as u64, ..item }),
            }
        }
        (batch.items, batch.found) = (left, found);
    }

    /// Session and number under which a passing is held; each only once.
    fn find(&mut self, item: &Item) -> Option<(Box<str>, u64)> {
        [&item.chip, &item.bib].into_iter().find_map(|who| {
            let places = self.found.get_mut(&key(who, item.time_ms)).filter(|places| !places.is_empty())?;
            let (session, num) = places.remove(0);
            self.places -= 1;
            Some((self.sessions.get(session as usize)?.clone(), num))
        })
    }
}

fn key(who: &str, time_ms: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    who.to_ascii_lowercase().hash(&mut hasher);
    time_ms.hash(&mut hasher);
    hasher.finish()
}
