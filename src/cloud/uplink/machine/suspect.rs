//! Passings at which the cloud itself fails, while it takes others.
//!
//! A 5xx, or a success that counts nothing, says nothing of the passing: the cloud may be down. But one passing may be what a
//! cloud fails at, every time, and nothing may wait for it. So a part that failed twice is taken apart, and the one that
//! fails alone is *suspect*. It may be in the cloud all the same, and that is only known `settle` later: until then it is
//! left behind ([`Fate::Left`](crate::cloud::uplink::work::Fate)), the others go on under higher numbers, and its own number is never used
//! again. Known not to be there, it is released and left out of the next batches for a while, so that it is seen whether others
//! pass. Only one may be suspect without such a proof: a cloud that is down gets nobody set aside. One that failed alone
//! [`FAILS`] times over at least [`FAILS_OVER`], while others passed, is set aside as "the cloud fails at it". It is tried again
//! every hour, and at once when somebody asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::scaled;
use crate::journal::UploadItem;
use crate::model::chip::Seq;

/// Failures alone before a passing is set aside, and the least time from the first to the last.
const FAILS: u32 = 4;
const FAILS_OVER: Duration = Duration::from_secs(120);
/// For so long, times its failures, a suspect is left out.
const LEFT_OUT: Duration = Duration::from_secs(20);
/// Between two tries of one that is set aside.
const AGAIN: Duration = Duration::from_secs(3600);
/// After the start, or when others pass again, the first try.
const AGAIN_FIRST: Duration = Duration::from_secs(60);
/// Suspects remembered; of more the oldest is tried with the others.
const SUSPECTS: usize = 64;
/// Into so many parts those are taken that the cloud failed at together: each part that fails costs the wait for "it is not
/// there". A few are halved: the more of them stand alone, the sooner one fails there by mere chance, and loses its place.
const PIECES: usize = 10;
const FEW: usize = 20;
/// Passings remembered that go in smaller parts.
const APART_MAX: usize = 2 * super::limits::BATCH_LIMIT;

struct Suspect {
    item: UploadItem,
    fails: u32,
    since: Duration,
    due: Duration,
    /// Of the last failure.
    status: u16,
    answer: Box<str>,
}

struct Failing {
    item: UploadItem,
    due: Duration,
}

/// What becomes of a passing that the cloud fails at, and does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fallen {
    /// It is released and left out for a while.
    LeftOut,
    /// It is set aside, with the last answer.
    Aside { status: u16, answer: Box<str> },
}

/// All of them.
pub(super) struct Suspects {
    suspects: Vec<Suspect>,
    failing: Vec<Failing>, // as many as the journal remembers
    /// One of these may be what the cloud fails at: how many of them go together.
    apart: BTreeMap<Seq, usize>, // at most APART_MAX
    /// When a passing was last accepted.
    passed: Option<Duration>,
    /// Longest wait between two tries of anything, which scales the times above in tests.
    retry_max: Duration,
}

impl Suspects {
    /// `parked`: set aside by an earlier process.
    pub(super) fn new(failing: Vec<UploadItem>, retry_max: Duration) -> Self {
        let due = scaled(AGAIN_FIRST, retry_max);
        let failing = failing.into_iter().map(|item| Failing { item, due }).collect();
        Self { suspects: Vec::new(), failing, apart: BTreeMap::new(), passed: None, retry_max }
    }

    fn is_proven(&self, suspect: &Suspect) -> bool {
        self.passed.is_some_and(|at| at > suspect.since)
    }

    /// The cloud failed at these, sent together: they go in smaller parts.
    pub(super) fn take_apart(&mut self, items: &[UploadItem]) {
        if self.apart.len() + items.len() > APART_MAX {
            self.apart.clear(); // what was learnt of others is learnt again
        }
        let pieces = if items.len() > FEW { PIECES } else { 2 };
        let together = items.len().div_ceil(pieces).max(1);
        self.apart.extend(items.iter().map(|item| (item.seq, together)));
    }

    /// How many of these may go in one POST, from the first on.
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

    /// The cloud failed at this passing, sent alone. True: nothing needs to wait for it. False: it may be the cloud that fails,
    /// and one passing is left behind already to find that out.
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

    /// These were accepted.
    pub(super) fn accepted(&mut self, now: Duration, items: &[UploadItem]) {
        if !items.is_empty() {
            self.passed = Some(now);
            self.suspects.retain(|suspect| items.iter().all(|item| item.seq != suspect.item.seq));
            if !self.apart.is_empty() {
                self.apart.retain(|seq, _| items.iter().all(|item| item.seq != *seq));
            }
        }
    }

    /// It is settled otherwise: refused, or set aside for another reason.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.suspects.retain(|suspect| suspect.item.seq != seq);
        self.apart.remove(&seq);
    }

    /// Passings set aside are in a batch again. Each has failed often enough to be set aside at the next failure.
    pub(super) fn numbered(&mut self, items: &[UploadItem]) {
        for item in items {
            if let Some(at) = self.failing.iter().position(|failing| failing.item.seq == item.seq) {
                self.failing.remove(at);
                let (since, due, answer) = (Duration::ZERO, Duration::ZERO, "".into());
                self.suspects.push(Suspect { item: item.clone(), fails: FAILS, since, due, status: 0, answer });
            }
        }
    }

    /// A passing was accepted since then.
    pub(super) fn passed_since(&self, then: Duration) -> bool {
        self.passed.is_some_and(|at| at >= then)
    }

    /// The cloud failed at it alone, or at a few that it was among.
    pub(super) fn is_searched(&self, seq: Seq) -> bool {
        self.knows(seq) || self.apart.contains_key(&seq)
    }

    /// It is sent alone.
    fn knows(&self, seq: Seq) -> bool {
        self.suspects.iter().any(|suspect| suspect.item.seq == seq)
    }

    /// Released, and not to be taken into a batch as others are.
    pub(super) fn released(&self) -> Vec<Seq> {
        self.suspects.iter().map(|suspect| suspect.item.seq).collect()
    }

    /// What is to be tried again, and when; but for what is in flight.
    fn dues<'a>(&'a self, in_flight: &'a [Seq]) -> impl Iterator<Item = (&'a UploadItem, Duration)> {
        let suspects = self.suspects.iter().map(|suspect| (&suspect.item, suspect.due));
        let all = suspects.chain(self.failing.iter().map(|failing| (&failing.item, failing.due)));
        all.filter(|(item, _)| !in_flight.contains(&item.seq))
    }

    /// To be tried again now, at the end of a batch: one at a time, since what comes after may have to wait for it.
    pub(super) fn due(&self, now: Duration, in_flight: &[Seq]) -> Option<UploadItem> {
        self.dues(in_flight).find(|(_, due)| *due <= now).map(|(item, _)| item.clone())
    }

    /// What a timer should know of those that are left out.
    pub(super) fn in_words(&self) -> Option<String> {
        let last = self.suspects.last()?;
        let count = self.suspects.len();
        let passings = if count == 1 { "passing" } else { "passings" };
        Some(format!(
            "the cloud fails at {count} {passings} each time, sent alone (the last: chip {}, after {} failures), and takes \
             others. What it fails at is kept, left out, and tried again by itself",
            last.item.chip, last.fails
        ))
    }

    /// When the next of them is to be tried that the look at `looked` left out.
    pub(super) fn due_after(&self, looked: Duration, in_flight: &[Seq]) -> Option<Duration> {
        self.dues(in_flight).map(|(_, due)| due).filter(|due| *due > looked).min()
    }

    /// All that are set aside are tried now.
    pub(super) fn try_now(&mut self, now: Duration) {
        self.failing.iter_mut().for_each(|failing| failing.due = now);
    }
}
