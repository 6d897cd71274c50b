//! Which passings does the cloud hold already, of reads that wait here?
//!
//! Two things can make a read wait that was sent long ago, and it would go up a second time under another number:
//! * *The log lost lines.* A lost line may have numbered passings whose reads are still there, and a lost read may come again
//!   from the decoder's memory. The sessions of that time and the active one are asked for all they hold before a new number
//!   is given.
//! * *The data directory is an older copy.* What was sent after the copy was made waits here again, and the active session may
//!   be another one since. So the reads that an earlier process left behind, and those that a decoder gives from its
//!   memory, are looked for by device and time, in all sessions, before they go up. A row under a number that this box knows to have given is accounted for and proves nothing of
//!   another read.
//!
//! A third case is an answer that counts duplicates which the session does not show: then the same chip at the same time is
//! looked for, under whatever number.
//!
//! A read whose chip (or bib, where the cloud tells no chip) and time are found is not sent: it is recorded as found. Two decoders
//! of one device that saw the same chip in the same millisecond are told apart by how many the cloud holds, not by which.
//!
//! What it cannot do: a cloud that cuts the milliseconds off its answers makes no read look held; a key that may not
//! read finds nothing; beyond [`FOUND_MAX`] passings the rest is not remembered.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::cloud::rufus::{CloudPassing, Page};
use crate::journal::{Batch, Found, UploadItem};
use crate::model::chip::Seq;

/// Passings remembered, some 20 MB when it is full.
const FOUND_MAX: usize = 262_144;
/// Times are asked for in pieces that reach so far beyond what is needed, so that a backlog takes few questions.
const AROUND_MS: i64 = 3_600_000;

/// What the cloud holds already.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// Sessions by name; places refer to them.
    names: Vec<Box<str>>,
    /// After lines were lost: sessions to ask. Those before `asked` were.
    lost: Option<Vec<Box<str>>>,
    asked: usize,
    /// By chip and time: session and number, each as often as it is held.
    found: HashMap<u64, Vec<(u32, u64)>>, // at most FOUND_MAX places
    places: usize,
    /// Times that were asked for, UTC milliseconds.
    covered: Option<(i64, i64)>,
}

impl Recall {
    /// `lost`: the sessions in doubt after lines of the log were lost.
    pub(super) fn new(lost: Option<Vec<Box<str>>>) -> Self {
        Self { lost, ..Self::default() }
    }

    /// Lines are known to be lost: sessions are asked for all they hold.
    pub(super) fn is_on(&self) -> bool {
        self.lost.is_some()
    }

    /// Numbers were found that this box does not know to have given: lines may be lost.
    pub(super) fn begin(&mut self) {
        self.lost.get_or_insert_default();
    }

    /// After lines were lost: the session to ask before a number is given in the active one.
    pub(super) fn next(&mut self, active: &str) -> Option<Box<str>> {
        let sessions = self.lost.as_mut()?;
        if sessions.iter().all(|known| **known != *active) {
            sessions.push(active.into());
        }
        sessions.get(self.asked).cloned()
    }

    /// Everything of that session was seen, or cannot be.
    pub(super) fn done(&mut self) {
        self.asked += 1;
    }

    /// A page of the session that is asked: everything counts.
    pub(super) fn take(&mut self, page: &Page) {
        let Some(token) = self.lost.as_ref().and_then(|sessions| sessions.get(self.asked)).cloned() else { return };
        for stored in &page.passings {
            self.remember(stored, &token);
        }
    }

    /// A page of passings by time, in whatever session. Those count for which `counts` holds: session, number, and [`key`].
    pub(super) fn take_times(&mut self, page: &Page, counts: impl Fn(&str, u64, u64) -> bool) {
        for stored in &page.passings {
            let (Some(token), Some(num), Some(time_ms)) = (stored.session.clone(), stored.num, stored.time_ms) else {
                continue;
            };
            let Some(who) = stored.chip.as_deref().or(stored.bib.as_deref()) else { continue };
            if counts(&token, num, key(who, time_ms)) {
                self.remember(stored, &token);
            }
        }
    }

    fn remember(&mut self, stored: &CloudPassing, token: &str) {
        let (Some(num), Some(time_ms)) = (stored.num, stored.time_ms) else { return };
        let Some(who) = stored.chip.as_deref().or(stored.bib.as_deref()) else { return };
        let name = match self.names.iter().position(|known| **known == *token) {
            Some(at) => at,
            None => {
                self.names.push(token.into());
                self.names.len() - 1
            }
        };
        let places = self.found.entry(key(who, time_ms)).or_default();
        let place = (name as u32, num);
        if self.places < FOUND_MAX && !places.contains(&place) {
            places.push(place);
            self.places += 1;
        }
    }

    /// The times that have to be asked for before this batch may go, because reads in it may have been sent before: those that an
    /// earlier process left behind (below `first`), and those that a decoder gave from its memory (`stored`, rising).
    pub(super) fn uncovered(&self, batch: &Batch, first: u64, stored: &[Seq]) -> Option<(i64, i64)> {
        let is_old = |item: &&UploadItem| item.seq < Seq(first) || stored.binary_search(&item.seq).is_ok();
        let old = || batch.items.iter().filter(is_old).map(|item| item.time_ms);
        let (from, to) = (old().min()?, old().max()?);
        match self.covered {
            Some((begin, end)) if begin <= from && to <= end => None,
            Some((begin, end)) if begin <= from => Some((end, to.saturating_add(AROUND_MS))),
            Some((begin, end)) if to <= end => Some((from.saturating_sub(AROUND_MS), begin)),
            _ => Some((from.saturating_sub(AROUND_MS), to.saturating_add(AROUND_MS))),
        }
    }

    /// These times were asked for, or cannot be.
    pub(super) fn cover(&mut self, from: i64, to: i64) {
        let (begin, end) = self.covered.unwrap_or((from, to));
        // What lies between two pieces far apart counts as asked for. Then a read may go up twice, none is lost.
        self.covered = Some((begin.min(from), end.max(to)));
    }

    /// Whether a passing is held somewhere.
    pub(super) fn holds(&self, item: &UploadItem) -> bool {
        let held = |who: &str| self.found.get(&key(who, item.time_ms)).is_some_and(|places| !places.is_empty());
        held(&item.chip) || held(&item.bib)
    }

    /// Takes what is held already out of a batch that is about to be recorded; what is left keeps numbers without a hole.
    pub(super) fn sort_out(&mut self, batch: &mut Batch) {
        let Some(first) = batch.items.first().map(|item| item.num) else { return };
        if self.places == 0 {
            return;
        }
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for item in batch.items.drain(..) {
            match self.find(&item) {
                Some((session, num)) => {
                    let UploadItem { seq, time_ms, bib, chip, .. } = item;
                    found.push(Found { seq, session, num, time_ms, bib, chip });
                }
                None => left.push(UploadItem { num: first + left.len() as u64, ..item }),
            }
        }
        (batch.items, batch.found) = (left, found);
    }

    /// Session and number under which a passing is held; each only once.
    fn find(&mut self, item: &UploadItem) -> Option<(Box<str>, u64)> {
        [&item.chip, &item.bib].into_iter().find_map(|who| {
            let places = self.found.get_mut(&key(who, item.time_ms)).filter(|places| !places.is_empty())?;
            let (session, num) = places.remove(0);
            self.places -= 1;
            Some((self.names.get(session as usize)?.clone(), num))
        })
    }
}

/// Passings of the sessions that this box gave numbers in: is this one of them? `given`: each session with the number above
/// all that were given.
pub(super) fn is_given(given: &VecDeque<(Box<str>, u64)>, token: &str, num: u64) -> bool {
    given.iter().any(|(known, next)| known.eq_ignore_ascii_case(token) && num < *next)
}

/// What a passing is known by here: its chip (or bib) and time.
pub(super) fn key(who: &str, time_ms: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    who.to_ascii_lowercase().hash(&mut hasher);
    time_ms.hash(&mut hasher);
    hasher.finish()
}
