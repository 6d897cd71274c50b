//! Which reads arrive in the cloud now, each for the first time: so that the board can tell how long
//! they took.
//!
//! A passing that an audit sends again, or whose corrected time is sent again, arrived before, and
//! does not count a second time. A passing that gets another number because it was *not* in the
//! cloud (its session closed, its number was taken, the cloud failed at it) counts when it arrives.

use std::collections::BTreeSet;

use crate::journal::{Batch, UploadEvent};
use crate::model::chip::Seq;

/// Passings that are known not to be in the cloud, and have no number. If there are more, the
/// oldest are forgotten: they do not count when they arrive.
const RETURNED_MAX: usize = 4096;

/// The passings of one device that are on their way.
#[derive(Default)]
pub(super) struct Arrivals {
    /// The passings in flight whose arrival counts, by their numbers. It has at most the passings
    /// of one batch, and those that it calls still open.
    on_the_way: Vec<(u64, Seq)>,
    /// The newest read that was ever numbered.
    newest: Seq,
    /// Reads whose passings lost their numbers.
    returned: BTreeSet<Seq>,
}

impl Arrivals {
    /// A batch is in flight.
    pub(super) fn numbered(&mut self, batch: &Batch) {
        if batch.is_resend() {
            return;
        }
        self.on_the_way.retain(|(num, _)| batch.still_open.contains(num));
        for item in &batch.items {
            if item.seq > self.newest || self.returned.remove(&item.seq) {
                self.on_the_way.push((item.num, item.seq));
            }
        }
        self.newest = batch.items.iter().map(|item| item.seq).fold(self.newest, Seq::max);
    }

    /// Follows an event of the uplink. Returns the reads that arrive with it for the first time.
    pub(super) fn follow(&mut self, event: &UploadEvent) -> Vec<Seq> {
        match event {
            UploadEvent::Batch(batch) => self.numbered(batch),
            UploadEvent::Accepted { first, last, .. } => return self.take(*first, *last),
            UploadEvent::Released { first, last, .. } => self.give_back(*first, *last),
            UploadEvent::DeadLetter { num, .. } => self.give_back(*num, *num),
            // These change nothing that is in flight.
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Again { .. }
            | UploadEvent::Retry { .. }
            | UploadEvent::Dropped { .. } => {}
        }
        Vec::new()
    }

    fn take(&mut self, first: u64, last: u64) -> Vec<Seq> {
        self.on_the_way.extract_if(.., |(num, _)| (first..=last).contains(num)).map(|(_, seq)| seq).collect()
    }

    fn give_back(&mut self, first: u64, last: u64) {
        let back = self.take(first, last);
        self.returned.extend(back);
        while self.returned.len() > RETURNED_MAX {
            self.returned.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::UploadItem;

    fn batch(session: &str, still_open: &[u64], items: &[(u64, u64)]) -> Batch {
        let item = |(num, seq): &(u64, u64)| UploadItem {
            seq: Seq(*seq),
            num: *num,
            time_ms: 0,
            corrected_ms: 0,
            bib: "1".into(),
            chip: "C".into(),
        };
        let items = items.iter().map(item).collect();
        let decoders = vec!["mat".into()];
        Batch { still_open: still_open.to_vec(), decoders, ..Batch::resend("D", session, items) }
    }

    fn accepted(first: u64, last: u64) -> UploadEvent {
        UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 }
    }

    fn refused(num: u64) -> UploadEvent {
        UploadEvent::DeadLetter { device: "D".into(), num, status: 500, answer: "".into(), again: true }
    }

    fn seqs(numbers: &[u64]) -> Vec<Seq> {
        numbers.iter().copied().map(Seq).collect()
    }

    #[test]
    fn each_read_arrives_once_with_the_event_that_proves_it() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.follow(&UploadEvent::Batch(batch("S", &[], &[(1, 10), (2, 11), (3, 14)]))), []);
        assert_eq!(arrivals.follow(&accepted(1, 2)), seqs(&[10, 11]));
        assert_eq!(arrivals.follow(&accepted(1, 2)), [], "these numbers were taken");
        assert_eq!(arrivals.follow(&accepted(3, 3)), seqs(&[14]));
    }

    #[test]
    fn a_passing_that_was_in_the_cloud_does_not_arrive_a_second_time() {
        let mut arrivals = Arrivals::default();
        arrivals.numbered(&batch("S", &[], &[(1, 10), (2, 11)]));
        arrivals.follow(&accepted(1, 2));
        // Its corrected time is sent again under a new number, in front of a new read.
        arrivals.numbered(&batch("S", &[], &[(3, 10), (4, 12)]));
        assert_eq!(arrivals.follow(&accepted(3, 4)), seqs(&[12]));
        // An audit sends it again under the number that it has.
        let resent = Batch::resend("D", "S", batch("S", &[], &[(2, 11)]).items);
        arrivals.follow(&UploadEvent::Batch(resent));
        assert_eq!(arrivals.follow(&accepted(2, 2)), []);
    }

    #[test]
    fn a_passing_that_lost_its_number_arrives_with_the_next_one() {
        let mut arrivals = Arrivals::default();
        arrivals.numbered(&batch("S", &[], &[(1, 10), (2, 11), (3, 12)]));
        arrivals.follow(&accepted(1, 1));
        arrivals.follow(&UploadEvent::Released { device: "D".into(), first: 2, last: 3 });
        arrivals.numbered(&batch("T", &[], &[(1, 11), (2, 12), (3, 13)]));
        assert_eq!(arrivals.follow(&accepted(1, 1)), seqs(&[11]));
        arrivals.follow(&refused(2));
        assert_eq!(arrivals.follow(&accepted(3, 3)), seqs(&[13]));
        arrivals.numbered(&batch("T", &[], &[(4, 14), (5, 12)]));
        assert_eq!(arrivals.follow(&accepted(4, 5)), seqs(&[14, 12]));
        assert_eq!((arrivals.on_the_way.len(), arrivals.returned.len()), (0, 0));
    }

    #[test]
    fn a_passing_that_is_left_behind_arrives_beside_the_next_batch() {
        let mut arrivals = Arrivals::default();
        arrivals.numbered(&batch("S", &[], &[(1, 10), (2, 11)]));
        arrivals.follow(&accepted(2, 2));
        arrivals.numbered(&batch("S", &[1], &[(3, 12)]));
        assert_eq!(arrivals.follow(&accepted(3, 3)), seqs(&[12]));
        assert_eq!(arrivals.follow(&accepted(1, 1)), seqs(&[10]));
    }

    #[test]
    fn what_lost_its_number_is_bounded() {
        let mut arrivals = Arrivals::default();
        for seq in 1..=RETURNED_MAX as u64 + 10 {
            arrivals.numbered(&batch("S", &[], &[(seq, seq)]));
            arrivals.follow(&refused(seq));
        }
        assert_eq!((arrivals.returned.len(), arrivals.on_the_way.len()), (RETURNED_MAX, 0));
    }
}
