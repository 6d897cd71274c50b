//! Passings at which the cloud itself fails, while it takes others.
//!
//! A 5xx, or a success that counts nothing, says nothing of the passing: the cloud may be down. But one passing may be what a
//! cloud fails at, every time, and nothing may wait for it. So a part that failed twice is taken apart, and the one that fails
//! alone is *suspect*: known not to be there, it is released and left out of the next batches for a while, so that it is seen
//! whether others pass. Only one may be suspect without such a proof: a cloud that is down gets nobody set aside. One that failed
//! alone [`FAILS`] times over at least [`FAILS_OVER`], while others passed, is set aside as "the cloud fails at it". It is tried
//! again every hour, and at once when somebody asks for it.

use std::time::Duration;

use super::scaled;
use crate::journal::Item;
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

struct Suspect {
    item: Item,
    fails: u32,
    since: Duration,
    due: Duration,
}

struct Parked {
    item: Item,
    due: Duration,
}

/// What becomes of a passing that failed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallen {
    /// It may be the cloud: the same again, later.
    Stays,
    /// It is released and left out for a while.
    LeftOut,
    /// It is set aside.
    Aside,
}

/// All of them.
pub(super) struct Suspects {
    suspects: Vec<Suspect>,
    parked: Vec<Parked>, // as many as the journal remembers
    /// When a passing was last accepted.
    passed: Option<Duration>,
    /// Longest wait between two tries of anything, which scales the times above in tests.
    retry_max: Duration,
}

impl Suspects {
    /// `parked`: set aside by an earlier process.
    pub(super) fn new(parked: Vec<Item>, retry_max: Duration) -> Self {
        let due = scaled(AGAIN_FIRST, retry_max);
        let parked = parked.into_iter().map(|item| Parked { item, due }).collect();
        Self { suspects: Vec::new(), parked, passed: None, retry_max }
    }

    /// The cloud failed at this passing alone, and does not hold it.
    pub(super) fn failed(&mut self, now: Duration, item: &Item) -> Fallen {
        let passed = self.passed;
        let proven = |suspect: &Suspect| passed.is_some_and(|at| at > suspect.since);
        let others_unproven = self.suspects.iter().any(|suspect| suspect.item.seq != item.seq && !proven(suspect));
        let at = match self.suspects.iter().position(|suspect| suspect.item.seq == item.seq) {
            Some(at) => at,
            None => {
                if self.suspects.len() == SUSPECTS {
                    self.suspects.remove(0);
                }
                self.suspects.push(Suspect { item: item.clone(), fails: 0, since: now, due: now });
                self.suspects.len() - 1
            }
        };
        let suspect = &mut self.suspects[at];
        suspect.fails = suspect.fails.saturating_add(1);
        let is_proven = passed.is_some_and(|at| at > suspect.since);
        if is_proven
            && suspect.fails >= FAILS
            && now.saturating_sub(suspect.since) >= scaled(FAILS_OVER, self.retry_max)
        {
            self.suspects.remove(at);
            self.parked.push(Parked { item: item.clone(), due: now + scaled(AGAIN, self.retry_max) });
            return Fallen::Aside;
        }
        if !is_proven && others_unproven {
            self.suspects.remove(at);
            return Fallen::Stays;
        }
        suspect.due = now + scaled(LEFT_OUT, self.retry_max) * suspect.fails.min(FAILS);
        Fallen::LeftOut
    }

    /// These were accepted.
    pub(super) fn accepted(&mut self, now: Duration, items: &[Item]) {
        if !items.is_empty() {
            self.passed = Some(now);
            self.suspects.retain(|suspect| items.iter().all(|item| item.seq != suspect.item.seq));
        }
    }

    /// It is settled otherwise: refused, or set aside for another reason.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.suspects.retain(|suspect| suspect.item.seq != seq);
    }

    /// Passings set aside are in a batch again. Each has failed often enough to be set aside at the next failure.
    pub(super) fn numbered(&mut self, items: &[Item]) {
        for item in items {
            if let Some(at) = self.parked.iter().position(|parked| parked.item.seq == item.seq) {
                self.parked.remove(at);
                let (since, due) = (Duration::ZERO, Duration::ZERO);
                self.suspects.push(Suspect { item: item.clone(), fails: FAILS, since, due });
            }
        }
    }

    /// A passing was accepted since then.
    pub(super) fn passed_since(&self, then: Duration) -> bool {
        self.passed.is_some_and(|at| at >= then)
    }

    /// It is sent alone.
    pub(super) fn knows(&self, seq: Seq) -> bool {
        self.suspects.iter().any(|suspect| suspect.item.seq == seq)
    }

    /// Released, and not to be taken into a batch as others are.
    pub(super) fn released(&self) -> Vec<Seq> {
        self.suspects.iter().map(|suspect| suspect.item.seq).collect()
    }

    /// To be tried again now, at the end of a batch: one at a time, since what comes after may have to wait for it.
    pub(super) fn due(&self, now: Duration) -> Vec<Item> {
        let suspects = self.suspects.iter().filter(|suspect| suspect.due <= now).map(|suspect| &suspect.item);
        let parked = self.parked.iter().filter(|parked| parked.due <= now).map(|parked| &parked.item);
        suspects.chain(parked).take(1).cloned().collect()
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
    pub(super) fn due_after(&self, looked: Duration) -> Option<Duration> {
        let suspects = self.suspects.iter().map(|suspect| suspect.due);
        suspects.chain(self.parked.iter().map(|parked| parked.due)).filter(|due| *due > looked).min()
    }

    /// All that are set aside are tried now.
    pub(super) fn try_now(&mut self, now: Duration) {
        self.parked.iter_mut().for_each(|parked| parked.due = now);
    }
}
