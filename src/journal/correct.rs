//! Corrections of times, and passings that are sent again because of them.
//!
//! A correction ([`crate::model::correction`]) is an entry of the log. From there on the reads that
//! it names have another time:
//! * A read that waits gets its correction when it is taken into a batch
//!   ([`PendingRead::corrected_ms`](super::PendingRead::corrected_ms)).
//! * A passing that was released, or that is tried again, waits too. It gets the right time when it
//!   is taken into the next batch ([`Journal::right_times`]).
//! * A batch, once formed, never changes. Each of its passings says how much of its time is a
//!   correction ([`UploadItem::corrected_ms`]). So it follows from the log alone which passings
//!   went up with a time that is not the right one any more, also if a batch was formed in the same
//!   moment in which the correction was written.
//!
//! Such passings are sent again only if somebody asks for it. The request is an order in the log
//! ([`UploadEvent::SendAgain`]), and it is carried out in pieces ([`UploadEvent::Again`]): one line
//! takes passings out of the cloud's account, puts them among those that wait for a new number, and
//! says how far the order is carried out. So a process that dies goes on where the log ends, and no
//! passing is taken twice. Whoever took back a correction before its passings went up also took back
//! the order for them: a passing whose time in the cloud is the right one is not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::entries::Entries;
use super::entry::Body;
use super::log::{LogLine, LogPlace};
use super::paths::log_dir;
use super::terms::JournalError;
use super::upload::{Found, Pending, SendAgainOrder, UploadEvent, UploadItem};
use super::{Durable, Journal};
use crate::model::chip::Seq;
use crate::model::correction::Correction;
use crate::model::source;

/// Most orders of a device that wait to be carried out.
pub(super) const ORDERS_MAX: usize = 16;

/// Why a correction, or an order to send passings again, was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// The journal is closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal has no read of this decoder.
    #[error("this box has no read of {0}")]
    UnknownDecoder(Box<str>),
    /// It would change nothing, or entries that do not exist.
    #[error("the correction names no reads, entries that are not kept yet, or no shift")]
    Nothing,
    /// There are too many ranges.
    #[error(
        "these would be more pieces with corrections than this box remembers (1024): correct a longer time at once, or all of it"
    )]
    TooMany,
    /// Too many orders wait.
    #[error("{ORDERS_MAX} orders to send passings of this device again wait already: try again when they are done")]
    Busy,
}

impl Journal {
    /// Makes a correction of a decoder durable. `name` is the decoder, with all its sources, or a
    /// source that is a location. Reads that wait go up with the right time from now on.
    ///
    /// # Errors
    /// [`CorrectError`]: nothing was changed.
    pub async fn correct(&self, name: &str, correction: Correction) -> Result<Durable<Seq>, CorrectError> {
        self.serving().await;
        let _one = self.turns.letting_go.lock().await; // so that nothing comes between the check and the entry
        let correction = {
            let core = self.shared.lock();
            let correction = Correction { oldest: core.mark.oldest, ..correction };
            if !core.state.decoders.keys().any(|known| **known == *name || source::decoder(known) == name) {
                return Err(CorrectError::UnknownDecoder(name.into()));
            }
            let rise = correction.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
            let exist = correction.ranges.iter().all(|(first, last)| first <= last && *last <= core.durable);
            if correction.ranges.is_empty() || correction.shift_ms == 0 || !rise || !exist {
                return Err(CorrectError::Nothing);
            }
            core.state.corrections.with(name, &correction).ok_or(CorrectError::TooMany)?;
            correction
        };
        let now = self.shared.board.now();
        let kept = self.write(vec![(name.into(), now, Body::Correct(correction), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// The released passings of a device, each with the time that it must have if it gets a number
    /// now. Passings that were to be sent again, and whose time in the cloud is the right one after
    /// all, are put apart.
    pub(crate) fn with_right_times(&self, device: &str, pending: Pending) -> Pending {
        let (replacing, resent) = {
            let core = self.shared.lock();
            let fold = core.state.devices.get(device);
            fold.map(|fold| (fold.replacing.clone(), fold.resent.clone())).unwrap_or_default()
        };
        let (mut returned, mut found) = (Vec::new(), pending.found);
        for item in self.right_times(pending.returned) {
            let there = replacing.iter().find(|(_, sent)| *sent == item);
            // It was numbered again with another time, and got neither there nor into another session.
            let same = |sent: &UploadItem| sent.seq == item.seq && sent.time_ms == item.time_ms;
            match there.or_else(|| resent.iter().find(|(_, sent)| same(sent))) {
                Some((session, sent)) => {
                    let UploadItem { seq, num, time_ms, corrected_ms, bib, chip } = sent.clone();
                    found.push(Found { seq, session: session.clone(), num, time_ms, corrected_ms, bib, chip });
                }
                None => returned.push(item),
            }
        }
        Pending { returned, found, ..pending }
    }

    /// The same passings, each with the time that it must have if it gets a number now. A passing
    /// whose read is not in the log any more stays as it is.
    pub(crate) fn right_times(&self, items: Vec<UploadItem>) -> Vec<UploadItem> {
        let corrections = {
            let core = self.shared.lock();
            if !core.serving {
                return items; // the state does not know yet what was corrected
            }
            core.state.corrections.clone()
        };
        let meant = |item: &&UploadItem| item.corrected_ms != 0 || corrections.touch(item.seq.0);
        let seqs: BTreeSet<u64> = items.iter().filter(meant).map(|item| item.seq.0).collect();
        if seqs.is_empty() {
            return items;
        }
        let sources = self.sources_of(&seqs).unwrap_or_else(|error| {
            tracing::warn!(%error, "the log cannot be read: passings that wait for a new number keep the time that they had");
            BTreeMap::new()
        });
        let right = |item: UploadItem| match sources.get(&item.seq.0) {
            Some(source) => {
                let shift = corrections.shift_ms(source, item.seq.0);
                item.corrected_by(shift)
            }
            None => item,
        };
        items.into_iter().map(right).collect()
    }

    /// The source of each of these reads. A passing does not say it, and nearly nobody asks: it is
    /// looked up in the log.
    pub(super) fn sources_of(&self, seqs: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, Box<str>>> {
        if let Some(only) = self.only_source() {
            return Ok(seqs.iter().map(|seq| (*seq, only.clone())).collect());
        }
        let mut sources = BTreeMap::new();
        let (Some(first), Some(&last)) = (seqs.first(), seqs.last()) else { return Ok(sources) };
        let entries = Entries::after(&log_dir(self.dir()), first.saturating_sub(1), last)?;
        let Some(mut entries) = entries else { return Ok(sources) };
        let end = LogPlace { segment: u64::MAX, offset: 0 };
        let wanted = |seq: u64, kind: &str, _: &str| kind == "read" && seqs.contains(&seq);
        while let Some(line) = entries.line_before(end, wanted)? {
            if let LogLine::Entry(entry) = line {
                sources.insert(entry.seq, (&*entry.subject).into());
            }
        }
        Ok(sources)
    }

    /// The source of every read, if there is only one source.
    fn only_source(&self) -> Option<Box<str>> {
        let core = self.shared.lock();
        let mut names = core.state.decoders.keys();
        names.next().filter(|_| names.next().is_none()).cloned()
    }

    /// Makes an order to send passings again durable. It is carried out piece by piece.
    ///
    /// # Errors
    /// The journal is closed, or too many orders wait.
    pub async fn order_again(&self, device: &str, order: SendAgainOrder) -> Result<Durable<Seq>, CorrectError> {
        self.serving().await;
        let _one = self.turns.letting_go.lock().await;
        let waiting = self.shared.lock().state.devices.get(device).map_or(0, |fold| fold.orders.len());
        if waiting >= ORDERS_MAX {
            return Err(CorrectError::Busy);
        }
        Ok(self.record(UploadEvent::SendAgain { device: device.into(), order }).await?)
    }

    /// The order of a device that is carried out now, from the read on at which it goes on. `None`:
    /// there is none. Valid only after [`Journal::serving`].
    pub fn order(&self, device: &str) -> Option<SendAgainOrder> {
        self.shared.lock().state.devices.get(device)?.orders.first().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::decoders::{Frame, Framed};
    use crate::journal::{Batch, JournalConfig};
    use crate::model::chip::ChipRead;
    use crate::model::clock::Zones;
    use crate::status::Board;

    fn open(dir: &Path) -> Journal {
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
        let zones = Zones::default();
        let config = JournalConfig { dir: dir.into(), dead_time, zones, keep_days, keep_bytes, segment_bytes };
        Journal::open(config, Board::new("test")).unwrap()
    }

    async fn keep(journal: &Journal, source: &str, second: u64, held_back: bool) -> u64 {
        let mut read = ChipRead::new("C1", format!("2026-03-06T20:{:02}:00.000", second).parse().unwrap());
        read.held_back = held_back;
        let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
        journal.append(source, Timestamp::UNIX_EPOCH, frames).await.unwrap().get().last.0
    }

    fn by(ranges: &[(u64, u64)], shift_ms: i64) -> Correction {
        Correction { ranges: ranges.to_vec(), shift_ms, zone: None, by: "timer".into(), oldest: 0 }
    }

    /// The reads that wait, with their corrections.
    fn waiting(journal: &Journal, sources: &[&str]) -> Vec<(u64, i64)> {
        let sources: Vec<Box<str>> = sources.iter().map(|source| (*source).into()).collect();
        let pending = journal.pending("D", &sources, 100);
        pending.reads.iter().map(|read| (read.seq.0, read.corrected_ms)).collect()
    }

    fn item(seq: u64, num: u64, corrected_ms: i64) -> UploadItem {
        let (bib, chip) = ("7".into(), "C1".into());
        UploadItem { seq: Seq(seq), num, time_ms: 1000 + corrected_ms, corrected_ms, bib, chip }
    }

    fn batch(items: Vec<UploadItem>, through: u64) -> UploadEvent {
        let decoders = vec!["mat".into(), "gate".into()];
        UploadEvent::Batch(Batch { through: Seq(through), decoders, ..Batch::resend("D", "S", items) })
    }

    #[tokio::test]
    async fn reads_that_wait_are_moved_in_the_queue_and_behind_it_and_what_comes_later_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        for (source, second) in [("mat", 1), ("gate", 1), ("mat", 2), ("mat/10 km", 3)] {
            keep(&journal, source, second, false).await;
        }
        journal.correct("mat", by(&[(1, 4)], 3_600_000)).await.unwrap();
        let later = keep(&journal, "mat", 4, false).await;
        let all = [(1, 3_600_000), (2, 0), (3, 3_600_000), (4, 3_600_000), (later, 0)];
        assert_eq!(waiting(&journal, &["mat", "gate", "mat/10 km"]), all);
        journal.close().await; // the reads are now in the queue's blocks
        let journal = open(dir.path());
        journal.serving().await;
        assert_eq!(waiting(&journal, &["mat", "gate", "mat/10 km"]), all);
        // A second one takes the first one back, for one of them.
        journal.correct("mat", by(&[(3, 3)], -3_600_000)).await.unwrap();
        assert_eq!(waiting(&journal, &["mat"]), [(1, 3_600_000), (3, 0), (later, 0)]);
        journal.close().await;
        // The same follows from the log alone.
        std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
        let journal = open(dir.path());
        journal.serving().await;
        assert_eq!(waiting(&journal, &["mat"]), [(1, 3_600_000), (3, 0), (later, 0)]);
        journal.close().await;
    }

    #[tokio::test]
    async fn a_read_that_is_held_back_has_its_right_time_when_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        keep(&journal, "mat", 1, false).await;
        keep(&journal, "mat", 2, true).await;
        keep(&journal, "mat", 3, true).await;
        journal.correct("mat", by(&[(1, 2)], 1000)).await.unwrap();
        assert_eq!(journal.let_all_go(None).await.unwrap(), 2);
        assert_eq!(waiting(&journal, &["mat"]), [(1, 1000), (5, 1000), (6, 0)]);
        journal.close().await;
    }

    #[tokio::test]
    async fn what_changes_nothing_or_names_what_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        keep(&journal, "mat", 1, false).await;
        keep(&journal, "mat", 2, false).await;
        let refused = async |name: &str, correction| journal.correct(name, correction).await.unwrap_err();
        assert!(matches!(refused("gate", by(&[(1, 1)], 1)).await, CorrectError::UnknownDecoder(_)));
        for wrong in [by(&[], 1), by(&[(1, 1)], 0), by(&[(2, 1)], 1), by(&[(1, 99)], 1), by(&[(2, 2), (1, 1)], 1)] {
            assert!(matches!(refused("mat", wrong.clone()).await, CorrectError::Nothing), "{wrong:?}");
        }
        assert_eq!((waiting(&journal, &["mat"]), journal.durable().0), (vec![(1, 0), (2, 0)], 2));
        journal.close().await;
    }

    #[tokio::test]
    async fn a_batch_keeps_its_times_and_what_is_released_of_it_gets_the_right_one_with_its_new_number() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        keep(&journal, "mat", 1, false).await;
        keep(&journal, "gate", 1, false).await;
        keep(&journal, "mat", 2, false).await;
        journal.record(batch(vec![item(1, 1, 0), item(2, 2, 0), item(3, 3, 0)], 3)).await.unwrap();
        journal.correct("mat", by(&[(1, 3)], 500)).await.unwrap();
        let open = journal.device("D").in_flight.unwrap().open;
        assert_eq!(open, [item(1, 1, 0), item(2, 2, 0), item(3, 3, 0)]);
        journal.record(UploadEvent::Released { device: "D".into(), first: 1, last: 3 }).await.unwrap();
        let returned = journal.pending("D", &[], 100).returned;
        assert_eq!(journal.right_times(returned), [item(1, 1, 500), item(2, 2, 0), item(3, 3, 500)]);
        // Its correction was taken back since.
        journal.correct("mat", by(&[(3, 3)], -500)).await.unwrap();
        assert_eq!(journal.right_times(vec![item(3, 3, 500), item(1, 1, 500)]), [item(3, 3, 0), item(1, 1, 500)]);
        journal.close().await;
    }

    #[tokio::test]
    async fn an_order_goes_on_where_its_last_piece_ended_and_the_reads_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        for second in 1..=4 {
            keep(&journal, "mat", second, false).await;
        }
        let items: Vec<_> = (1..=4).map(|at| item(at, at, 0)).collect();
        journal.record(batch(items, 4)).await.unwrap();
        let accepted = |first, last| UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 };
        journal.record(accepted(1, 4)).await.unwrap();
        journal.correct("mat", by(&[(1, 4)], 500)).await.unwrap();
        let order = |from, through| SendAgainOrder { decoder: None, from: Seq(from), through: Seq(through) };
        journal.order_again("D", order(1, 3)).await.unwrap();
        journal.order_again("D", order(4, 4)).await.unwrap();
        let again = |items: Vec<UploadItem>, next| {
            let (device, session) = ("D".into(), "S".into());
            UploadEvent::Again { device, session, items, next: Seq(next) }
        };
        journal.record(again(vec![item(1, 1, 0), item(2, 2, 0)], 3)).await.unwrap();
        journal.close().await;
        let journal = open(dir.path());
        journal.serving().await;
        assert_eq!(journal.order("D"), Some(order(3, 3)));
        let reads = journal.reads().unwrap();
        assert_eq!((reads.kept, reads.in_cloud, reads.waiting), (4, 2, 2));
        let pending = journal.with_right_times("D", journal.pending("D", &[], 100));
        assert_eq!((pending.returned, pending.found.len()), (vec![item(1, 1, 500), item(2, 2, 500)], 0));
        journal.record(batch(vec![item(1, 5, 500), item(2, 6, 500)], 4)).await.unwrap();
        journal.record(accepted(5, 6)).await.unwrap();
        journal.record(again(vec![item(3, 3, 0)], 4)).await.unwrap();
        assert_eq!(journal.order("D"), Some(order(4, 4)));
        journal.record(again(Vec::new(), 5)).await.unwrap();
        assert_eq!((journal.order("D"), journal.released("D")), (None, vec![item(3, 3, 0)]));

        // Somebody takes the correction back before it went up: it is in the cloud as it should be.
        journal.correct("mat", by(&[(3, 3)], -500)).await.unwrap();
        let pending = journal.with_right_times("D", journal.pending("D", &[], 100));
        assert_eq!((pending.returned.len(), pending.is_empty()), (0, false));
        assert_eq!((&*pending.found[0].session, pending.found[0].item()), ("S", item(3, 3, 0)));
        let UploadEvent::Batch(found) = batch(Vec::new(), 4) else { panic!() };
        journal.record(UploadEvent::Batch(Batch { found: pending.found, ..found })).await.unwrap();
        assert_eq!(journal.released("D"), []);
        let reads = journal.reads().unwrap();
        assert_eq!((reads.kept, reads.in_cloud, reads.waiting), (4, 4, 0));
        journal.close().await;
    }

    #[tokio::test]
    async fn a_passing_that_got_nowhere_the_second_time_is_not_sent_a_third_time_if_its_correction_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        keep(&journal, "mat", 1, false).await;
        journal.record(batch(vec![item(1, 1, 0)], 1)).await.unwrap();
        let accepted = UploadEvent::Accepted { device: "D".into(), first: 1, last: 1, duplicates: 0 };
        journal.record(accepted).await.unwrap();
        journal.correct("mat", by(&[(1, 1)], 500)).await.unwrap();
        let (device, session, items) = ("D".into(), "S".into(), vec![item(1, 1, 0)]);
        journal.record(UploadEvent::Again { device, session, items, next: Seq(2) }).await.unwrap();
        journal.record(batch(vec![item(1, 2, 500)], 1)).await.unwrap();
        journal.record(UploadEvent::Released { device: "D".into(), first: 2, last: 2 }).await.unwrap();
        let pending = journal.with_right_times("D", journal.pending("D", &[], 100));
        assert_eq!((pending.returned, pending.found.len()), (vec![item(1, 2, 500)], 0));
        journal.correct("mat", by(&[(1, 1)], -500)).await.unwrap();
        let pending = journal.with_right_times("D", journal.pending("D", &[], 100));
        assert_eq!((pending.returned.len(), pending.found[0].item()), (0, item(1, 1, 0)));
        journal.close().await;
    }

    #[tokio::test]
    async fn only_so_many_orders_wait() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let order = SendAgainOrder { decoder: None, from: Seq(1), through: Seq(1) };
        for _ in 0..ORDERS_MAX {
            journal.order_again("D", order.clone()).await.unwrap();
        }
        assert!(matches!(journal.order_again("D", order).await, Err(CorrectError::Busy)));
        journal.close().await;
    }
}
