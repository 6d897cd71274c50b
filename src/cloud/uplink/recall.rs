//! Which passings does the cloud already hold, among the reads that wait here?
//!
//! A read that was sent long ago can wait again, and would then be uploaded a second time under
//! another number. There are two causes:
//! * *The log lost lines.* A lost line may have given a number to a passing whose read is still in
//!   the log. A lost read may arrive again from the decoder's memory. The uplink asks the sessions
//!   of that time and the active session for everything they hold, before it gives a new number.
//! * *The data directory is an older copy.* Reads that were sent after the copy was made wait
//!   again, and another session may be active since then. So the uplink looks up the reads that an
//!   earlier process left behind, and those that a decoder sends from its memory, by device and
//!   time, in all sessions, before it sends them. If this box knows that it gave a number in the
//!   cloud's answer, that row is accounted for, and proves nothing about another read.
//!
//! There is a third case: an answer counts duplicates which the session does not show. Then the
//! uplink looks for the same chip at the same time, under any number.
//!
//! If the chip (or the bib, if the cloud returns no chip) and the time of a read are found, the
//! read is not sent but recorded as found. Two decoders of one device may see the same chip in the
//! same millisecond. Then only the number of such passings in the cloud counts, not which of them
//! it holds.
//!
//! Limits: if a cloud cuts the milliseconds off its answers, no read is recognised. A key that may
//! not read finds nothing. At most [`FOUND_MAX`] passings are remembered.

mod places;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use places::Places;

use crate::cloud::rufus::{CloudPassing, Page};
use crate::journal::{Batch, Found, UploadItem};
use crate::model::chip::Seq;

/// Most passings that are remembered. They take about 6 MB.
const FOUND_MAX: usize = 262_144;
/// Each question by time covers this much more than needed on each side, so that a backlog needs
/// few questions.
const AROUND_MS: i64 = 3_600_000;

/// The passings that the cloud already holds.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// Tokens of sessions. The places in `found` are indexes into this list.
    names: Vec<Box<str>>,
    /// Sessions to ask after log lines were lost. Those before the index `asked` were already
    /// asked.
    lost: Option<Vec<Box<str>>>,
    asked: usize,
    /// By key (chip and time): session and number, one place for each passing that the cloud holds.
    found: Places, // at most FOUND_MAX places
    /// The range of times that was asked for, UTC milliseconds since 1970.
    covered: Option<(i64, i64)>,
}

impl Recall {
    /// `lost`: the sessions that are in doubt after log lines were lost.
    pub(super) fn new(lost: Option<Vec<Box<str>>>) -> Self {
        Self { lost, ..Self::default() }
    }

    /// Log lines are known to be lost, so sessions are asked for everything they hold.
    pub(super) fn is_on(&self) -> bool {
        self.lost.is_some()
    }

    /// The cloud holds numbers that this box does not know, so log lines may be lost.
    pub(super) fn begin(&mut self) {
        self.lost.get_or_insert_default();
    }

    /// Whether no read needs to be looked up here before it is sent, except those of an earlier
    /// process and of a decoder's memory.
    pub(super) fn is_empty(&self) -> bool {
        self.lost.is_none() && self.found.len() == 0
    }

    /// Returns the next session to ask after log lines were lost, before a number is given in the
    /// active session.
    pub(super) fn next(&mut self, active: &str) -> Option<Box<str>> {
        let sessions = self.lost.as_mut()?;
        if sessions.iter().all(|known| **known != *active) {
            sessions.push(active.into());
        }
        sessions.get(self.asked).cloned()
    }

    /// The whole session was seen, or cannot be read.
    pub(super) fn done(&mut self) {
        self.asked += 1;
        self.found.rest();
    }

    /// Takes in a page of the session that is asked. Every row counts.
    pub(super) fn take(&mut self, page: &Page) {
        let Some(token) = self.lost.as_ref().and_then(|sessions| sessions.get(self.asked)).cloned() else { return };
        for stored in &page.passings {
            self.remember(stored, &token);
        }
    }

    /// Takes in a page of passings by time, from any session. A row counts if `counts` returns true
    /// for its session, number and [`key`].
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
        if self.found.has_room(FOUND_MAX) {
            self.found.add(key(who, time_ms), name as u32, num);
        }
    }

    /// Returns the times to ask for before this batch may be sent, because its reads may have been
    /// sent before. These are the reads that an earlier process left behind (below `first`) and
    /// those that a decoder sent from its memory (`stored`, in rising order).
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

    /// These times were asked for, or the cloud refuses the question.
    pub(super) fn cover(&mut self, from: i64, to: i64) {
        let (begin, end) = self.covered.unwrap_or((from, to));
        // Times between two distant pieces also count as asked for. A read from there may be
        // uploaded twice, but no read is lost.
        self.covered = Some((begin.min(from), end.max(to)));
        self.found.rest();
    }

    /// Whether the cloud holds this passing in some session.
    pub(super) fn holds(&mut self, item: &UploadItem) -> bool {
        self.found.holds(key(&item.chip, item.time_ms)) || self.found.holds(key(&item.bib, item.time_ms))
    }

    /// Removes the passings that the cloud already holds from a batch that is about to be recorded.
    /// The remaining passings get numbers without a gap.
    pub(super) fn sort_out(&mut self, batch: &mut Batch) {
        let Some(first) = batch.items.first().map(|item| item.num) else { return };
        if self.found.len() == 0 {
            return;
        }
        let mut left = Vec::new();
        for item in std::mem::take(&mut batch.items) {
            match self.find(&item) {
                Some((session, num)) => {
                    let UploadItem { seq, time_ms, corrected_ms, bib, chip, .. } = item;
                    batch.found.push(Found { seq, session, num, time_ms, corrected_ms, bib, chip });
                }
                None => left.push(UploadItem { num: first + left.len() as u64, ..item }),
            }
        }
        batch.items = left;
    }

    /// Returns the session and number under which the cloud holds a passing. Each place is returned
    /// only once.
    fn find(&mut self, item: &UploadItem) -> Option<(Box<str>, u64)> {
        [&item.chip, &item.bib].into_iter().find_map(|who| {
            let (session, num) = self.found.take(key(who, item.time_ms))?;
            Some((self.names.get(session as usize)?.clone(), num))
        })
    }
}

/// Checks whether this box gave the number `num` in the session `token`. `given` holds each session
/// with the number above all that were given in it.
pub(super) fn is_given(given: &VecDeque<(Box<str>, u64)>, token: &str, num: u64) -> bool {
    given.iter().any(|(known, next)| known.eq_ignore_ascii_case(token) && num < *next)
}

/// Returns the key by which a passing is recognised here: its chip (or bib) and time.
pub(super) fn key(who: &str, time_ms: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    who.to_ascii_lowercase().hash(&mut hasher);
    time_ms.hash(&mut hasher);
    hasher.finish()
}
