//! The batch in flight: what of it is open, and what is known about each open passing.
//!
//! Passings leave from the front, in number order, but for those that an inquiry finds further back. Every change that
//! must be durable comes out as an [`UploadEvent`] over a *run*: passings that stand side by side in the open list, so
//! that a range never covers an open passing that it does not mean.

use std::collections::VecDeque;
use std::time::Duration;

use crate::journal::{Item, UploadEvent};
use crate::uplink::inquiry::{Inquiry, Verdict};

/// What is known of an open passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Never posted: certainly not in the cloud.
    Fresh,
    /// Posted with an unknown outcome.
    Maybe,
    /// Posted, but the cloud was asked since and does not hold it.
    Absent,
}

/// What the counts of an accepted POST left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Fewer were counted than sent.
    Short {
        /// Counted.
        counted: u64,
        /// Sent.
        sent: u64,
    },
    /// The cloud counts passings as duplicates that were never sent before: somebody else's number, or the same
    /// detection under another number.
    Taken,
}

/// The batch in flight.
#[derive(Debug)]
pub(super) struct Work {
    device: Box<str>,
    /// Session it is numbered in.
    pub(super) token: Box<str>,
    open: VecDeque<(Item, Fate)>,
    /// It is sent again because an audit missed it: it keeps its numbers whatever happens, also in no other session.
    pub(super) again: bool,
    /// The session takes no more: settle what may be there, release the rest.
    pub(super) closing: bool,
    /// Ask before the next POST, even if the cloud detects duplicates.
    pub(super) ask_first: bool,
    /// The number that was refused last after an unknown outcome, and asked for since.
    refused: Option<u64>,
    /// What the counts of the last POST left open, and the last number it carried.
    pub(super) claim: Option<(Claim, u64)>,
    /// Answers with short counts in a row, without any of the missing turning up.
    pub(super) short_rounds: u32,
    /// Not asked before this time: a POST that was cut may still be under way inside the cloud.
    pub(super) ask_at: Duration,
}

/// What an inquiry settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// To be recorded, in number order.
    pub(super) events: Vec<UploadEvent>,
    /// Passings found, or known to be held in another form.
    pub(super) accepted: u64,
    /// Of those, held under another number.
    pub(super) duplicates: u64,
    /// Numbers held by somebody else's passing.
    pub(super) taken: Vec<u64>,
}

impl Work {
    /// A batch whose passings all have the same fate.
    pub(super) fn new(device: &str, token: &str, items: Vec<Item>, fate: Fate, ask_at: Duration) -> Self {
        Self {
            device: device.into(),
            token: token.into(),
            open: items.into_iter().map(|item| (item, fate)).collect(),
            again: false,
            closing: false,
            ask_first: false,
            refused: None,
            claim: None,
            short_rounds: 0,
            ask_at,
        }
    }

    /// Passings that an audit found missing: the cloud is asked immediately before any of them is posted, whether it
    /// detects duplicates or not.
    pub(super) fn again(device: &str, token: &str, items: Vec<Item>, ask_at: Duration) -> Self {
        let work = Self::new(device, token, items, Fate::Maybe, ask_at);
        Self { again: true, ask_first: true, ..work }
    }

    /// Passings not settled.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The first `part` open passings.
    pub(super) fn items(&self, part: usize) -> Vec<Item> {
        self.open.iter().take(part).map(|(item, _)| item.clone()).collect()
    }

    /// Some of it may be in the cloud.
    pub(super) fn doubtful(&self) -> bool {
        self.open.iter().any(|(_, fate)| *fate == Fate::Maybe)
    }

    /// The first passing, alone, was refused. True if it may be refused *because* it arrived before, and was not
    /// asked for since its last refusal: then it is in doubt now. `conflict`: the answer suggests so even if this
    /// process never posted it.
    pub(super) fn doubt_refusal(&mut self, conflict: bool, now: Duration) -> bool {
        let Some((item, fate)) = self.open.front_mut() else { return false };
        let once = self.refused != Some(item.num);
        if once && (*fate != Fate::Fresh || conflict) {
            self.refused = Some(item.num);
            *fate = Fate::Maybe;
            (self.ask_first, self.ask_at) = (true, now);
            return true;
        }
        false
    }

    /// Of the first `part` passings those that the cloud cannot have seen before.
    pub(super) fn fresh(&self, part: usize) -> u64 {
        self.open.iter().take(part).filter(|(_, fate)| *fate == Fate::Fresh).count() as u64
    }

    /// The first `part` passings may be in the cloud now.
    pub(super) fn doubt(&mut self, part: usize) {
        for (_, fate) in self.open.iter_mut().take(part) {
            *fate = Fate::Maybe;
        }
    }

    /// The session takes no more. What was posted is asked for once more, whatever was known: only now the answer is
    /// final, for a POST that was still under way inside the cloud cannot be applied any more. True if this is new: a
    /// question under way has to be put again.
    pub(super) fn close(&mut self) -> bool {
        if std::mem::replace(&mut self.closing, true) {
            return false;
        }
        for (_, fate) in self.open.iter_mut().filter(|(_, fate)| *fate == Fate::Absent) {
            *fate = Fate::Maybe;
        }
        true
    }

    /// The question that settles all doubt; `None` when there is none.
    pub(super) fn inquiry(&self) -> Option<Inquiry> {
        let mut nums = self.open.iter().filter(|(_, fate)| *fate == Fate::Maybe).map(|(item, _)| item.num);
        let first = nums.next()?;
        Some(Inquiry::new(&self.token, first, Some(nums.next_back().unwrap_or(first))))
    }

    /// The passings an inquiry is about, in number order.
    pub(super) fn doubted(&self, inquiry: &Inquiry) -> Vec<&Item> {
        let meant = |(item, fate): &&(Item, Fate)| *fate == Fate::Maybe && inquiry.covers(item.num);
        self.open.iter().filter(meant).map(|(item, _)| item).collect()
    }

    /// The cloud holds the first `part` passings.
    pub(super) fn accept(&mut self, part: usize, duplicates: u64) -> Option<UploadEvent> {
        let first = self.open.front()?.0.num;
        let last = self.open.drain(..part.min(self.open.len())).next_back()?.0.num;
        (self.claim, self.short_rounds, self.ask_first) = (None, 0, false);
        Some(UploadEvent::Accepted { device: self.device.clone(), first, last, duplicates })
    }

    /// The first passing is set aside.
    pub(super) fn set_aside(&mut self, status: u16, answer: &str) -> Option<(Item, UploadEvent)> {
        let (item, _) = self.open.pop_front()?;
        let event = quarantined(&self.device, item.num, status, answer);
        Some((item, event))
    }

    /// Sets aside everything that may be in the cloud, because nobody can tell whether it is.
    pub(super) fn set_doubtful_aside(&mut self, status: u16, answer: &str) -> Vec<UploadEvent> {
        let doubtful: VecDeque<_>;
        (doubtful, self.open) = self.open.drain(..).partition(|(_, fate)| *fate == Fate::Maybe);
        doubtful.iter().map(|(item, _)| quarantined(&self.device, item.num, status, answer)).collect()
    }

    /// Sets aside those up to `last` that the cloud was asked for and does not hold.
    pub(super) fn set_absent_aside(&mut self, last: u64, status: u16, answer: &str) -> Vec<UploadEvent> {
        let mut events = Vec::new();
        self.open.retain(|(item, fate)| {
            let goes = item.num <= last && *fate == Fate::Absent;
            if goes {
                events.push(quarantined(&self.device, item.num, status, answer));
            }
            !goes
        });
        events
    }

    /// Sets everything open aside.
    pub(super) fn set_all_aside(self, status: u16, answer: &str) -> Vec<UploadEvent> {
        self.open.iter().map(|(item, _)| quarantined(&self.device, item.num, status, answer)).collect()
    }

    /// Everything open is pending again, to be numbered anew. Only what is certainly not in the session may be open.
    pub(super) fn release(self) -> Option<UploadEvent> {
        debug_assert!(!self.doubtful(), "a passing that may be in the cloud must not be renumbered");
        let (first, last) = (self.open.front()?.0.num, self.open.back()?.0.num);
        Some(UploadEvent::Released { device: self.device, first, last })
    }

    /// Draws the conclusions of an inquiry that has seen everything: no doubt is left about what it asked for.
    pub(super) fn settle(&mut self, inquiry: &Inquiry) -> Settled {
        let mut settled = Settled::default();
        let mut run: Option<(u64, u64, u64)> = None;
        let mut left = VecDeque::with_capacity(self.open.len());
        let taken_up_to = match self.claim {
            Some((Claim::Taken, last)) => Some(last),
            _ => None,
        };
        for (item, fate) in self.open.drain(..) {
            let asked = fate == Fate::Maybe && inquiry.covers(item.num);
            let elsewhere = taken_up_to.is_some_and(|last| item.num <= last);
            let duplicate = match inquiry.verdict(item.num).filter(|_| asked) {
                Some(Verdict::Ours) => 0,
                // Counted as a duplicate, and its number is free: the cloud holds this detection under another one.
                None if asked && elsewhere => 1,
                Some(Verdict::Foreign(other)) => {
                    settled.end_run(&self.device, &mut run);
                    settled.events.push(taken(&self.device, item.num, other));
                    settled.taken.push(item.num);
                    continue;
                }
                None => {
                    settled.end_run(&self.device, &mut run);
                    left.push_back((item, if asked { Fate::Absent } else { fate }));
                    continue;
                }
            };
            let (first, _, duplicates) = run.unwrap_or((item.num, item.num, 0));
            run = Some((first, item.num, duplicates + duplicate));
            settled.accepted += 1;
            settled.duplicates += duplicate;
        }
        settled.end_run(&self.device, &mut run);
        self.open = left;
        self.ask_first = false;
        settled
    }
}

impl Settled {
    fn end_run(&mut self, device: &str, run: &mut Option<(u64, u64, u64)>) {
        if let Some((first, last, duplicates)) = run.take() {
            self.events.push(UploadEvent::Accepted { device: device.into(), first, last, duplicates });
        }
    }
}

fn quarantined(device: &str, num: u64, status: u16, answer: &str) -> UploadEvent {
    UploadEvent::Quarantined { device: device.into(), num, status, answer: answer.into() }
}

fn taken(device: &str, num: u64, other: &str) -> UploadEvent {
    let answer = format!("passbridge: the session holds another passing under number {num}: {other}");
    quarantined(device, num, 409, &answer)
}
