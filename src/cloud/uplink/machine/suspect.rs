//! Passings at which the cloud itself fails, while it takes others.
//!
//! A 5xx, or a success without counts, proves nothing about the passing, because the cloud may be
//! down. But the cloud may also fail at one passing every time, and no other passing may wait for
//! it. So a part that failed twice is split, and the passing that fails alone is *suspect*. A
//! suspect passing may still be in the cloud, and that is known only `settle` later. Until then it
//! is left behind ([`Fate::Left`](crate::cloud::uplink::work::Fate)): the others are sent under
//! higher numbers, and its own number is never used again. Once it is known not to be in the cloud,
//! it is released and left out of the next batches for a while, so that the machine sees whether
//! others are accepted. Only one passing may be suspect without such a proof, so that a cloud that
//! is down causes no passing to be set aside. A passing that failed alone [`FAILS`] times over at
//! least [`FAILS_OVER`], while others were accepted, is set aside as "the cloud fails at it". It is
//! tried again every hour, and at once when somebody asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::scaled;
use crate::journal::UploadItem;
use crate::model::chip::Seq;

/// A passing is set aside after this many failures alone, at least [`FAILS_OVER`] from the first to
/// the last.
const FAILS: u32 = 4;
const FAILS_OVER: Duration = Duration::from_secs(120);
/// A suspect is left out for this long, multiplied by its failures.
const LEFT_OUT: Duration = Duration::from_secs(20);
/// Time between two tries of a passing that is set aside.
const AGAIN: Duration = Duration::from_secs(3600);
/// Time from the start to the first try of the passings that an earlier process set aside.
const AGAIN_FIRST: Duration = Duration::from_secs(60);
/// Most suspects that are remembered. Beyond that, the oldest is forgotten and sent together with
/// the others.
const SUSPECTS: usize = 64;
/// A part that the cloud failed at is split into this many pieces, because each piece that fails
/// costs the wait for "it is not in the cloud". A part of at most [`FEW`] passings is halved
/// instead: the more passings stand alone, the sooner one of them fails by mere chance and loses
/// its place.
const PIECES: usize = 10;
const FEW: usize = 20;
/// Most passings for which a smaller part size is remembered.
const APART_MAX: usize = 2 * super::limits::BATCH_LIMIT;

struct Suspect {
    item: UploadItem,
    fails: u32,
    since: Duration,
    due: Duration,
    /// Status and text of the last failure.
    status: u16,
    answer: Box<str>,
}

struct Failing {
    item: UploadItem,
    due: Duration,
}

/// What happens to a passing that the cloud fails at and does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fallen {
    /// The passing is released, and the next batches leave it out for a while.
    LeftOut,
    /// The passing is set aside, with the last answer.
    Aside { status: u16, answer: Box<str> },
}

/// All passings that the cloud fails at, or may fail at.
pub(super) struct Suspects {
    suspects: Vec<Suspect>,
    failing: Vec<Failing>, // as many as the journal remembers
    /// The cloud may fail at one of these passings. The value is how many of them are sent
    /// together.
    apart: BTreeMap<Seq, usize>, // at most APART_MAX
    /// When a passing was last accepted.
    passed: Option<Duration>,
    /// Longest wait between two tries of anything. Tests use it to scale the times above.
    retry_max: Duration,
}

impl Suspects {
    /// `failing`: passings that an earlier process set aside.
    pub(super) fn new(failing: Vec<UploadItem>, retry_max: Duration) -> Self {
        let due = scaled(AGAIN_FIRST, retry_max);
        let failing = failing.into_iter().map(|item| Failing { item, due }).collect();
        Self { suspects: Vec::new(), failing, apart: BTreeMap::new(), passed: None, retry_max }
    }

    fn is_proven(&self, suspect: &Suspect) -> bool {
        self.passed.is_some_and(|at| at > suspect.since)
    }

    /// The cloud failed at these passings, sent together, so they are sent in smaller parts.
    pub(super) fn take_apart(&mut self, items: &[UploadItem]) {
        if self.apart.len() + items.len() > APART_MAX {
            self.apart.clear(); // what is forgotten about others will be learnt again
        }
        let pieces = if items.len() > FEW { PIECES } else { 2 };
        let together = items.len().div_ceil(pieces).max(1);
        self.apart.extend(items.iter().map(|item| (item.seq, together)));
    }

    /// Returns how many of these may be sent in one POST, counted from the first.
    pub(super) fn together(&self, seqs: impl Iterator<Item = Seq>) -> usize {
        let (mut count, mut most) = (0, usize::MAX);
        for seq in seqs {
            let limit = if self.knows(seq) { 1 } else { self.apart.get(&seq).copied().unwrap_or(usize::MAX) };
            most = most.min(limit);
            if count >= most {
                break;
            }
            count += 1;
        }
        count
    }

    /// The cloud failed at this passing, sent alone. Returns true if no other passing needs to wait
    /// for it. Returns false if the cloud may fail at everything, and one passing is already left
    /// behind to find that out.
    pub(super) fn failed(&mut self, now: Duration, item: &UploadItem, status: u16, answer: &str) -> bool {
        let others_unproven =
            self.suspects.iter().any(|suspect| suspect.item.seq != item.seq && !self.is_proven(suspect));
        let at = self.place(now, item);
        let suspect = &mut self.suspects[at];
        suspect.fails = suspect.fails.saturating_add(1);
        (suspect.status, suspect.answer) = (status, answer.into());
        if others_unproven && !self.is_proven(&self.suspects[at]) {
            self.suspects.remove(at);
            return false;
        }
        true
    }

    fn place(&mut self, now: Duration, item: &UploadItem) -> usize {
        self.apart.remove(&item.seq);
        if let Some(at) = self.suspects.iter().position(|suspect| suspect.item.seq == item.seq) {
            return at;
        }
        if self.suspects.len() == SUSPECTS {
            self.suspects.remove(0);
        }
        let (item, answer) = (item.clone(), "".into());
        self.suspects.push(Suspect { item, fails: 0, since: now, due: now, status: 0, answer });
        self.suspects.len() - 1
    }

    /// The cloud failed at this passing, sent alone, and does not hold it.
    pub(super) fn absent(&mut self, now: Duration, item: &UploadItem) -> Fallen {
        let at = self.place(now, item);
        let is_proven = self.is_proven(&self.suspects[at]);
        let suspect = &mut self.suspects[at];
        let long = now.saturating_sub(suspect.since) >= scaled(FAILS_OVER, self.retry_max);
        if is_proven && suspect.fails >= FAILS && long {
            let Suspect { status, answer, .. } = self.suspects.remove(at);
            self.failing.push(Failing { item: item.clone(), due: now + scaled(AGAIN, self.retry_max) });
            return Fallen::Aside { status, answer };
        }
        suspect.due = now + scaled(LEFT_OUT, self.retry_max) * suspect.fails.min(FAILS);
        Fallen::LeftOut
    }

    /// The cloud accepted these passings.
    pub(super) fn accepted(&mut self, now: Duration, items: &[UploadItem]) {
        if !items.is_empty() {
            self.passed = Some(now);
            self.suspects.retain(|suspect| items.iter().all(|item| item.seq != suspect.item.seq));
            if !self.apart.is_empty() {
                self.apart.retain(|seq, _| items.iter().all(|item| item.seq != *seq));
            }
        }
    }

    /// The passing is settled in another way: the cloud refused it, or it was set aside for another
    /// reason.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.suspects.retain(|suspect| suspect.item.seq != seq);
        self.apart.remove(&seq);
    }

    /// Passings that were set aside are in a batch again. Each has failed often enough to be set
    /// aside at the next failure.
    pub(super) fn numbered(&mut self, items: &[UploadItem]) {
        for item in items {
            if let Some(at) = self.failing.iter().position(|failing| failing.item.seq == item.seq) {
                self.failing.remove(at);
                let (since, due, answer) = (Duration::ZERO, Duration::ZERO, "".into());
                self.suspects.push(Suspect { item: item.clone(), fails: FAILS, since, due, status: 0, answer });
            }
        }
    }

    /// A passing was accepted at `then` or later.
    pub(super) fn passed_since(&self, then: Duration) -> bool {
        self.passed.is_some_and(|at| at >= then)
    }

    /// The cloud failed at this passing alone, or at a small part that it was in.
    pub(super) fn is_searched(&self, seq: Seq) -> bool {
        self.knows(seq) || self.apart.contains_key(&seq)
    }

    /// The passing is sent alone.
    fn knows(&self, seq: Seq) -> bool {
        self.suspects.iter().any(|suspect| suspect.item.seq == seq)
    }

    /// Passings that are released and must not be taken into a batch in the normal way.
    pub(super) fn released(&self) -> Vec<Seq> {
        self.suspects.iter().map(|suspect| suspect.item.seq).collect()
    }

    /// The passings to try again and when, without those in flight.
    fn dues<'a>(&'a self, in_flight: &'a [Seq]) -> impl Iterator<Item = (&'a UploadItem, Duration)> {
        let suspects = self.suspects.iter().map(|suspect| (&suspect.item, suspect.due));
        let all = suspects.chain(self.failing.iter().map(|failing| (&failing.item, failing.due)));
        all.filter(|(item, _)| !in_flight.contains(&item.seq))
    }

    /// Returns a passing to try again now, at the end of a batch. It is one at a time, because the
    /// passings after it may have to wait for it.
    pub(super) fn due(&self, now: Duration, in_flight: &[Seq]) -> Option<UploadItem> {
        self.dues(in_flight).find(|(_, due)| *due <= now).map(|(item, _)| item.clone())
    }

    /// Returns the text about the passings left out, for the timer.
    pub(super) fn in_words(&self) -> Option<String> {
        // Without a proof that the cloud takes others, the cloud may fail at everything.
        let proven = || self.suspects.iter().filter(|suspect| self.is_proven(suspect));
        let last = proven().next_back()?;
        let count = proven().count();
        let passings = if count == 1 { "passing" } else { "passings" };
        Some(format!(
            "the cloud fails at {count} {passings} each time, sent alone (the last: chip {}, after {} failures), and takes \
             others. What it fails at is kept, left out, and tried again by itself",
            last.item.chip, last.fails
        ))
    }

    /// Returns when the next passing is due that the look at `looked` left out.
    pub(super) fn due_after(&self, looked: Duration, in_flight: &[Seq]) -> Option<Duration> {
        self.dues(in_flight).map(|(_, due)| due).filter(|due| *due > looked).min()
    }

    /// Passings that are set aside are tried now: these, or all of them (`None`).
    pub(super) fn try_now(&mut self, now: Duration, only: Option<&[Seq]>) {
        let meant = self.failing.iter_mut().filter(|failing| only.is_none_or(|only| only.contains(&failing.item.seq)));
        meant.for_each(|failing| failing.due = now);
    }

    /// Forgets the passings that are set aside and not among these.
    pub(super) fn keep(&mut self, still: &[Seq]) {
        self.failing.retain(|failing| still.contains(&failing.item.seq));
    }
}
