//! How many reads wait for the cloud, and which ones an answer of the cloud is about, as the log tells it.
//!
//! Must hold:
//! * It begins with a number that is known: the state at the head of a segment, or an empty log.
//!   Before that it says `None`.
//! * Bounded: the passings in flight (one batch for each device, and what it left open), and
//!   [`REMEMBERED`] reads of each kind that come a second time.
//! * Repeats and reads within the dead time count as waiting until the batch that covers them, because
//!   only that line of the log says what they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::control::{Control, Held};
use crate::journal::{Batch, UploadEvent};

/// Reads that were set aside, or that are sent again, of which it is remembered that they are not new.
const REMEMBERED: usize = 16_384;
/// Passings in flight that are remembered for a device.
const OPEN_MAX: usize = 16_384;

/// A passing in flight.
#[derive(Clone, Copy, Debug)]
struct Open {
    num: u64,
    seq: u64,
    /// The cloud accepted it before, and it goes a second time.
    again: bool,
}

/// What the cloud accepted for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// The reads.
    pub seqs: Vec<u64>,
    /// Passings whose batch was not seen, so that their reads are not known.
    pub unseen: u64,
}

impl Answered {
    /// How many passings it are.
    pub(super) fn count(&self) -> u64 {
        self.seqs.len() as u64 + self.unseen
    }
}

/// The reads that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    waiting: Option<u64>,
    /// Reads that are held. `None`: the box is not on hold.
    held: Option<u64>,
    open: BTreeMap<Box<str>, Vec<Open>>,
    /// Reads that are set aside: they wait again if a batch takes them.
    aside: BTreeSet<u64>,
    /// Reads that go a second time because their time was corrected.
    again: BTreeSet<u64>,
}

impl Backlog {
    /// How many reads wait. `None`: it is not known.
    pub(super) fn waiting(&self) -> Option<u64> {
        self.waiting
    }

    /// Sets the number to one that is known.
    pub(super) fn is_known(&mut self, waiting: u64) {
        self.waiting = Some(waiting);
    }

    /// The same at a place where it is known, too, whether the box is on hold.
    pub(super) fn begins_with(&mut self, waiting: u64, held: Option<u64>) {
        (self.waiting, self.held) = (Some(waiting), held);
    }

    /// A read arrived that is to be uploaded.
    pub(super) fn read(&mut self) {
        match &mut self.held {
            Some(held) => *held += 1,
            None => self.add(1),
        }
    }

    /// Somebody held the upload back, or released it.
    pub(super) fn control(&mut self, control: &Control) {
        match control {
            Control::Hold { .. } => self.held = self.held.or(Some(0)),
            Control::Release { how, .. } => {
                let held = self.held.take().unwrap_or(0);
                if *how == Held::Send {
                    self.add(usize::try_from(held).unwrap_or(usize::MAX));
                }
            }
            Control::Lost(_) | Control::Back { .. } | Control::Seen { .. } => {}
        }
    }

    fn add(&mut self, count: usize) {
        self.waiting = self.waiting.map(|waiting| waiting.saturating_add(count as u64));
    }

    fn take(&mut self, count: u64) {
        self.waiting = self.waiting.map(|waiting| waiting.saturating_sub(count));
    }

    /// Applies an event of the upload. Returns what the cloud accepted with it.
    pub(super) fn apply(&mut self, event: &UploadEvent) -> Answered {
        match event {
            UploadEvent::Batch(batch) => self.batch(batch),
            UploadEvent::Accepted { device, first, last, .. } => return self.accepted(device, *first, *last),
            UploadEvent::DeadLetter { device, num, .. } => {
                let taken = self.take_open(device, *num, *num);
                self.take(taken.as_ref().map_or(1, |taken| taken.len() as u64));
                for open in taken.into_iter().flatten() {
                    remember(&mut self.aside, open.seq);
                }
            }
            // They wait as before, and a later batch has them.
            UploadEvent::Released { device, first, last } => drop(self.take_open(device, *first, *last)),
            UploadEvent::Again { items, .. } => {
                self.add(items.len());
                items.iter().for_each(|item| remember(&mut self.again, item.seq.0));
            }
            UploadEvent::Retry { items, .. } => {
                self.add(items.len());
                for item in items {
                    self.aside.remove(&item.seq.0);
                }
            }
            UploadEvent::Dropped { items, failing, .. } => {
                for seq in items.iter().chain(failing) {
                    self.aside.remove(&seq.0);
                }
            }
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. } => {}
        }
        Answered::default()
    }

    fn batch(&mut self, batch: &Batch) {
        let mut open = self.open.remove(&batch.device).unwrap_or_default();
        let before = open.len();
        // A batch is formed only when the one before it is settled, also if the line that says so was
        // lost. What it names as still open stays in flight.
        open.retain(|open| batch.still_open.contains(&open.num));
        self.take((before - open.len()) as u64);
        if batch.is_resend() {
            self.add(batch.items.len());
        } else {
            self.take((batch.dead.len() + batch.duplicates.len() + batch.found.len()) as u64);
        }
        for item in &batch.items {
            if self.aside.remove(&item.seq.0) {
                self.add(1);
            }
            let again = self.again.remove(&item.seq.0) || batch.is_resend();
            if open.len() < OPEN_MAX {
                open.push(Open { num: item.num, seq: item.seq.0, again });
            }
        }
        self.open.insert(batch.device.clone(), open);
    }

    fn accepted(&mut self, device: &str, first: u64, last: u64) -> Answered {
        let Some(taken) = self.take_open(device, first, last) else {
            let unseen = (last.saturating_add(1)).saturating_sub(first).min(OPEN_MAX as u64);
            self.take(unseen);
            return Answered { seqs: Vec::new(), unseen };
        };
        self.take(taken.len() as u64);
        let new = taken.iter().filter(|open| !open.again);
        Answered { seqs: new.map(|open| open.seq).collect(), unseen: 0 }
    }

    /// `None`: no batch of the device was seen.
    fn take_open(&mut self, device: &str, first: u64, last: u64) -> Option<Vec<Open>> {
        let open = self.open.get_mut(device)?;
        Some(open.extract_if(.., |open| (first..=last).contains(&open.num)).collect())
    }
}

fn remember(set: &mut BTreeSet<u64>, seq: u64) {
    set.insert(seq);
    if set.len() > REMEMBERED {
        set.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::UploadItem;
    use crate::model::chip::Seq;

    fn batch(items: &[(u64, u64)], duplicates: &[u64]) -> UploadEvent {
        let item = |&(num, seq): &(u64, u64)| UploadItem {
            seq: Seq(seq),
            num,
            time_ms: 0,
            corrected_ms: 0,
            bib: "1".into(),
            chip: "C".into(),
        };
        let items = items.iter().map(item).collect();
        let duplicates = duplicates.iter().copied().map(Seq).collect();
        UploadEvent::Batch(Batch { decoders: vec!["mat".into()], duplicates, ..Batch::resend("D", "S", items) })
    }

    fn accepted(first: u64, last: u64) -> UploadEvent {
        UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 }
    }

    #[test]
    fn what_waits_is_what_came_and_was_neither_accepted_nor_set_aside_nor_a_repeat() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.waiting(), None, "nobody knows how many waited before");
        backlog.is_known(0);
        (0..5).for_each(|_| backlog.read());
        backlog.apply(&batch(&[(1, 10), (2, 11), (3, 12)], &[13]));
        assert_eq!(backlog.waiting(), Some(4), "the repeat waits for nothing");
        assert_eq!(backlog.apply(&accepted(1, 1)), Answered { seqs: vec![10], unseen: 0 });
        let (device, answer) = ("D".into(), "no".into());
        backlog.apply(&UploadEvent::DeadLetter { device, num: 2, status: 400, answer, again: true });
        backlog.apply(&UploadEvent::Released { device: "D".into(), first: 3, last: 3 });
        assert_eq!(backlog.waiting(), Some(2), "one was released, one has no number yet");
        // The released one, the one that is tried again, and the new one.
        backlog.apply(&batch(&[(4, 12), (5, 11), (6, 14)], &[]));
        assert_eq!(backlog.waiting(), Some(3));
        assert_eq!(backlog.apply(&accepted(4, 6)).count(), 3);
        assert_eq!(backlog.waiting(), Some(0));
    }

    #[test]
    fn what_is_held_waits_only_when_it_is_released_to_be_sent() {
        let mut backlog = Backlog::default();
        backlog.is_known(1);
        let release = |how| Control::Release { how, from: Seq(1), by: "timer".into() };
        for (how, waiting) in [(Held::Drop, 1), (Held::Send, 2)] {
            backlog.control(&Control::Hold { by: "timer".into() });
            backlog.read();
            assert_eq!(backlog.waiting(), Some(1));
            backlog.control(&release(how));
            assert_eq!(backlog.waiting(), Some(waiting));
        }
    }

    #[test]
    fn a_passing_that_goes_a_second_time_is_no_new_one() {
        let mut backlog = Backlog::default();
        backlog.is_known(1);
        let UploadEvent::Batch(mut again) = batch(&[(7, 20)], &[]) else { unreachable!() };
        again.decoders.clear();
        backlog.apply(&UploadEvent::Batch(again));
        assert_eq!(backlog.waiting(), Some(2));
        assert_eq!((backlog.apply(&accepted(7, 7)).count(), backlog.waiting()), (0, Some(1)));
        let other = UploadEvent::Accepted { device: "other".into(), first: 1, last: 1, duplicates: 0 };
        assert_eq!(backlog.apply(&other), Answered { seqs: Vec::new(), unseen: 1 }, "its batch was not seen");
    }
}
