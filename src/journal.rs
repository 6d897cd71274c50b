//! The journal: one log that is the truth, and one sled queue that is derived from it.
//!
//! What must hold:
//! * [`Journal::append`] and [`Journal::record`] return only when the entry would survive a power
//!   cut.
//! * Sequence numbers never go back and are never given twice, even if files of the log are lost.
//!   The one exception: the end of the log and the mark beside it are lost together. A gap in the
//!   numbers is reported as a problem or noted in the log. The content of the log decides, because
//!   the queue and the state are derived from it. If the log is shorter than it was, the queue is
//!   kept, because it holds reads that are nowhere else, and no passing is numbered before the
//!   uplink has asked the cloud what it holds.
//! * Reads can be kept from the first moment on, also while the queue is opened, replayed or
//!   rebuilt.
//! * Memory does not grow with the backlog: waiting reads are in the queue's blocks, and the tail
//!   has a bound.
//! * Only one process uses a data directory.
//! * Whoever reads the journal has a cursor of its own ([`reader`]), and nothing is pruned that a
//!   registered sink still owes ([`sink`]).
//!
//! A [`Journal`] is used through four files: `open` (opening and closing), `append` (putting
//! entries into the log), `read` (asking which reads wait for upload and which positions are
//! stored) and [`correct`] (moving times, and sending passings again because of that).
//!
//! What the journal hides: [`log`] (segments of text lines, group commit, repair of a torn end),
//! [`entry`] (one line), [`control`] (what people decide), `gone` (files that somebody removes while the process runs), `state` (the
//! fold: cursors, numbers, duplicates, dead time), [`held_back`] (reads that are kept and not
//! uploaded yet), `hold` (nothing is uploaded until somebody says so), `queue` (sled, which no other part knows), `age` and `room` (what may be deleted,
//! and when), and two threads: the `writer` appends and answers, and the `follower` checkpoints,
//! rebuilds and prunes. `lock` keeps out a second process and older versions. `mark` records how far the log was written. `verify` reads the whole log at
//! every start and reports what is missing.
//!
//! Rejected:
//! * *sled alone*: its `flush` lost acknowledged reads in 117 of 119 simulated power cuts, and a
//!   torn page can make sled impossible to open. Because the log is the truth, neither of these can
//!   cost a read.
//! * *Every read into sled at once*: two structures would have to be made durable for each read,
//!   and sled grows slowly when it is used as a FIFO. Reads that are uploaded before the next
//!   checkpoint (nearly all of them, at a race with internet) are never written to sled at all.
//! * *Deleting entries that are settled*: there would be no audit and no second chance, and sled
//!   would grow again. Spans are dropped whole instead.
//! * *An index by chip and bib in the queue*: it would double the writes to the queue. The newest
//!   reads are in memory, and a rebuild, which reads a whole log of a million lines and writes the
//!   queue, takes 2.3 s.
//! * *Deciding about duplicates and dead time before a read is kept*: the state may not be
//!   available yet. The follower decides when it follows the entry. The batch line that covers the
//!   read makes the verdict durable.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

mod age;
mod append;
pub(crate) mod by_hand;
mod catch_up;
pub(crate) mod control;
pub(crate) mod correct;
mod damage;
mod dead;
mod dedup_index;
mod disk;
#[cfg(test)]
pub(crate) mod driven;
pub(crate) mod entries;
pub(crate) mod entry;
mod failpoint;
mod follow;
mod foresee;
mod gone;
pub(crate) mod held_back;
mod hold;
pub(crate) mod holding;
mod left;
pub(crate) mod let_go;
pub(crate) mod life;
mod lock;
pub(crate) mod log;
pub(crate) mod losses;
pub(crate) mod making_room;
mod mark;
mod mounts;
mod offer;
mod offered;
mod open;
pub(crate) mod owed;
mod paths;
mod pulse;
mod queue;
mod read;
pub(crate) mod reader;
mod recent;
mod reserve;
mod room;
mod room_order;
pub(crate) mod set_aside;
mod shared;
mod sink;
mod start;
mod state;
mod terms;
mod undated;
mod upload;
mod verify;
mod waiting;
mod writer;

pub use left::unsettled;
pub(crate) use left::waiting_at_head;
pub(crate) use log::FORMATS;
pub(crate) use offer::Offer;
pub use paths::log_dir;
pub(crate) use paths::windows_dir;
pub use recent::Group;
use shared::{AppendRequest, Shared};
pub use terms::{JournalConfig, JournalError, Kept, OpenError, Received};
pub use upload::{
    Audited, Batch, DeviceState, Found, InFlight, Pending, PendingRead, SendAgainOrder, SessionAudit, Settled,
    Unsettled, UploadEvent, UploadItem,
};

/// A value that would survive a power cut. Only the journal can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// The value.
    pub fn get(self) -> T {
        self.0
    }
}

/// Handle on the journal. Clones share the journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    requests: mpsc::Sender<AppendRequest>,
    /// First sequence number that this process gives.
    first: u64,
    threads: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
    /// Who may decide something now.
    turns: Arc<Turns>,
    /// The thread that reads the whole log once and then ends.
    check: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

/// Locks for what may not happen at the same time. None is held by whoever appends.
#[derive(Default)]
struct Turns {
    /// While reads that were held back are released, times are corrected, and a hold begins or ends.
    letting_go: tokio::sync::Mutex<()>,
    /// While somebody decides about passings that are set aside, which reads the log.
    deciding: tokio::sync::Mutex<()>,
    /// From the moment at which an uplink has asked which passings may be tried again until their batch is
    /// durable, and while the decision becomes durable that some of them are never sent.
    numbering: Arc<tokio::sync::Mutex<()>>,
    /// While somebody makes room by hand.
    making_room: tokio::sync::Mutex<()>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::decoders::{Frame, Framed};
    use crate::model::chip::{ChipRead, Seq};
    use crate::model::clock::Zones;
    use crate::status::Board;

    fn config(dir: &Path) -> JournalConfig {
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
        JournalConfig { dir: dir.into(), dead_time, zones: Zones::default(), keep_days, keep_bytes, segment_bytes }
    }

    async fn keep(journal: &Journal, decoder: &str) {
        keep_chip(journal, decoder, "C1").await;
    }

    async fn keep_chip(journal: &Journal, decoder: &str, chip: &str) {
        let read = ChipRead::new(chip, "2026-03-06T20:27:47.350".parse().unwrap());
        let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
        journal.append(decoder, Timestamp::UNIX_EPOCH, frames).await.unwrap();
    }

    #[tokio::test]
    async fn a_power_cut_in_the_first_start_is_no_lost_journal_and_a_lost_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let start = async || {
            let board = Board::new("test");
            Journal::open(config(dir.path()), board.clone()).unwrap().close().await;
            let told = board.snapshot().problems.iter().any(|problem| problem.code == "journal_lost");
            (board.snapshot().journal.identity, told)
        };
        // Cut while the first segment was made, so the segment has no name yet.
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log/next.new"), "#pass").unwrap();
        let (first, told) = start().await;
        assert!(!told);
        // Cut when the log was made and its identity was not yet written beside it.
        std::fs::remove_file(dir.path().join("identity")).unwrap();
        assert_eq!(start().await, (first.clone(), false));
        // The log and the mark are taken away, and the power is cut when a new log was made.
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        std::fs::remove_file(dir.path().join("mark")).unwrap();
        let (second, told) = start().await;
        assert!(told && second != first);
        std::fs::write(dir.path().join("identity"), &first).unwrap();
        assert_eq!(start().await, (second.clone(), true));
        assert_eq!(start().await, (second, false));
    }

    #[tokio::test]
    async fn what_arrived_together_is_kept_in_its_order_with_consecutive_numbers_whatever_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        keep(&journal, "a").await;
        let received = |source: &str, chips: &[&str]| {
            let stamp = "2026-03-06T20:27:47.350".parse().unwrap();
            let frame = |chip: &&str| Framed { frame: Frame::Read(ChipRead::new(*chip, stamp)), raw: Box::default() };
            Received { source: source.into(), at: Timestamp::UNIX_EPOCH, frames: chips.iter().map(frame).collect() }
        };
        let together = vec![received("a", &["1", "2"]), received("b", &["3"]), received("a", &["4"])];
        let kept = journal.append_all(together).await.unwrap().get();
        assert_eq!((kept.first, kept.last), (Seq(2), Seq(5)));
        let (waiting, _) = journal.reads_after(1);
        let found: Vec<_> = waiting.iter().map(|waiting| (&*waiting.read.decoder, &*waiting.read.chip)).collect();
        assert_eq!(found, [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")]);
        let nothing = journal.append_all(Vec::new()).await.unwrap().get();
        assert_eq!(nothing.last, Seq(5), "nothing to keep is answered with what is durable");
        journal.close().await;
    }

    #[tokio::test]
    async fn no_look_goes_past_reads_in_the_queue_while_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        keep(&journal, "a").await;
        journal.serving().await;
        journal.close().await; // the read is now in the queue's blocks
        drop(journal);
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        keep(&journal, "b").await;
        assert_eq!(journal.reads_after(0).0.len(), 1);
        // The follower gives up the queue after a look began and before the look ends.
        journal.shared.lock().serving = false;
        journal.shared.set_spans(Vec::new());
        assert_eq!(journal.reads_after(0), (Vec::new(), 0));
        journal.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_read_of_a_decoder_is_pending_whenever_it_comes() {
        const DECODERS: usize = 300;
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        let names: Vec<Box<str>> = (0..DECODERS).map(|n| format!("decoder-{n}").into()).collect();
        let at = Arc::new(AtomicUsize::new(0));
        let looks = {
            let (journal, names, at) = (journal.clone(), names.clone(), at.clone());
            std::thread::spawn(move || {
                while let Some(name) = names.get(at.load(Ordering::Relaxed)) {
                    journal.pending(name, std::slice::from_ref(name), 10); // one device per decoder
                }
            })
        };
        for (n, name) in names.iter().enumerate() {
            at.store(n, Ordering::Relaxed);
            keep(&journal, name).await;
        }
        at.store(DECODERS, Ordering::Relaxed);
        looks.join().unwrap();
        let lost = names.iter().filter(|name| journal.pending(name, std::slice::from_ref(*name), 10).reads.is_empty());
        assert_eq!(lost.count(), 0);
        journal.close().await;
    }

    #[tokio::test]
    async fn the_segment_at_which_the_next_start_reads_on_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { segment_bytes: 1, keep_bytes: 0, ..config(dir.path()) }; // a segment per entry
        let journal = Journal::open(config.clone(), Board::new("test")).unwrap();
        journal.serving().await;
        for _ in 0..3 {
            journal.note("test", "text").await.unwrap();
        }
        let firsts = || log::segments(&dir.path().join("log")).unwrap().into_iter().map(|segment| segment.first);
        while firsts().next_back() != Some(4) {
            // The writer begins the next segment after it has answered.
            tokio::task::yield_now().await;
        }
        journal.close().await;
        // No read waits, so the next start reads on behind the state at the head of the last segment.
        let rest = journal.shared.lock().rest.unwrap().followed;
        let mut queue = queue::Queue::create(&dir.path().join("another queue"), 0).unwrap();
        room::prune(&journal.shared, &mut queue, rest, &BTreeMap::new(), None).unwrap();
        assert_eq!(firsts().collect::<Vec<_>>(), [4]);
        drop(journal);
        let board = Board::new("test");
        let journal = Journal::open(config, board.clone()).unwrap();
        journal.serving().await;
        let lost = board.snapshot().problems.into_iter().any(|problem| problem.code.contains("lost"));
        assert_eq!((journal.durable(), lost), (Seq(3), false));
        journal.close().await;
    }

    #[tokio::test]
    async fn while_everything_is_uploaded_sled_is_not_touched_and_a_start_continues_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { segment_bytes: 3000, ..config(dir.path()) };
        let journal = Journal::open(config.clone(), Board::new("test")).unwrap();
        journal.serving().await;
        let (device, token, alias) = ("D".into(), "S".into(), None);
        journal.record(UploadEvent::Joined { device, token, alias, next: 1 }).await.unwrap();
        for num in 1..=40 {
            let form = move |pending: Pending| {
                let (seq, through) = (pending.reads[0].seq, pending.through);
                let items =
                    vec![UploadItem { seq, num, time_ms: 0, bib: "7".into(), chip: "C1".into(), corrected_ms: 0 }];
                Some(Batch { through, decoders: vec!["a".into()], ..Batch::resend("D", "S", items) })
            };
            let (device, decoders) = ("D".into(), vec!["a".into()]);
            let offered = journal.offer(Offer { device, decoders, limit: 1, form: Box::new(form) });
            keep_chip(&journal, "a", &format!("C{num}")).await;
            assert!(offered.withdraw().await.is_some(), "the batch of read {num} is not written with it");
            journal.record_later(UploadEvent::Accepted { device: "D".into(), first: num, last: num, duplicates: 0 });
        }
        journal.settle().await.unwrap();
        journal.close().await;
        assert!(log::segments(&dir.path().join("log")).unwrap().len() > 3);
        // The mark is written before each checkpoint, and says so.
        assert_eq!(mark::read(dir.path()).unwrap().queue, 0, "sled was written although nothing waited");
        drop(journal);
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        assert_eq!((journal.backlog().0, journal.device("D").sent, journal.device("D").next), (0, 40, 41));
        journal.close().await;
    }

    /// The passings of the batch that is written with the next read, or `None` if the read is kept
    /// without one.
    async fn numbered_with_the_next_read(journal: &Journal) -> Option<usize> {
        let form = |pending: Pending| {
            let item = |(read, num): (&PendingRead, u64)| UploadItem {
                seq: read.seq,
                num,
                time_ms: 0,
                bib: "7".into(),
                chip: (&*read.chip).into(),
                corrected_ms: 0,
            };
            let items = pending.reads.iter().zip(1..).map(item).collect();
            let through = pending.through;
            Some(Batch { through, decoders: vec!["a".into()], ..Batch::resend("D", "S", items) })
        };
        let (device, decoders) = ("D".into(), vec!["a".into()]);
        let offered = journal.offer(Offer { device, decoders, limit: 10, form: Box::new(form) });
        keep_chip(journal, "a", "NEXT").await;
        offered.withdraw().await.map(|batch| batch.items.len())
    }

    async fn joined(dir: &Path) -> Journal {
        let journal = Journal::open(config(dir), Board::new("test")).unwrap();
        journal.serving().await;
        let (device, token, alias) = ("D".into(), "S".into(), None);
        journal.record(UploadEvent::Joined { device, token, alias, next: 1 }).await.unwrap();
        journal
    }

    #[tokio::test]
    async fn a_read_that_waited_is_numbered_with_the_next_read_but_not_if_an_earlier_process_left_it_behind() {
        let dir = tempfile::tempdir().unwrap();
        let journal = joined(dir.path()).await;
        keep_chip(&journal, "a", "WAITED").await;
        assert_eq!(numbered_with_the_next_read(&journal).await, Some(2));
        journal.close().await;
        drop(journal);
        let dir = tempfile::tempdir().unwrap();
        let journal = joined(dir.path()).await;
        keep_chip(&journal, "a", "WAITED").await;
        // The next process finds the directory as a power cut leaves it: the read is in the log alone.
        let cut = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp").arg("-a").arg(dir.path()).arg(cut.path().join("data")).status();
        assert!(copied.unwrap().success());
        journal.close().await;
        drop(journal);
        // The cloud may have it under a number that this process does not know: it is asked first.
        let journal = Journal::open(config(&cut.path().join("data")), Board::new("test")).unwrap();
        journal.serving().await;
        assert_eq!(numbered_with_the_next_read(&journal).await, None);
        journal.close().await;
    }

    #[tokio::test]
    async fn a_read_from_a_decoders_memory_is_not_numbered_with_the_next_read() {
        let dir = tempfile::tempdir().unwrap();
        let journal = joined(dir.path()).await;
        let stored = ChipRead { replay: true, ..ChipRead::new("STORED", "2026-03-06T20:27:47.350".parse().unwrap()) };
        let frames = vec![Framed { frame: Frame::Read(stored), raw: Box::default() }];
        journal.append("a", Timestamp::UNIX_EPOCH, frames).await.unwrap();
        assert_eq!(numbered_with_the_next_read(&journal).await, None, "the cloud is asked about it first");
        journal.close().await;
    }

    #[tokio::test]
    async fn a_batch_in_flight_of_a_device_that_is_used_no_more_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        keep(&journal, "a").await;
        assert_eq!(journal.devices_waiting(), []);
        let item = UploadItem { seq: Seq(1), num: 1, time_ms: 0, corrected_ms: 0, bib: "7".into(), chip: "C1".into() };
        let batch = Batch { through: Seq(1), decoders: vec!["a".into()], ..Batch::resend("D", "S", vec![item]) };
        journal.record(UploadEvent::Batch(batch)).await.unwrap();
        assert!(journal.decoders_waiting().is_empty(), "the decoder has nothing that tells");
        assert_eq!(journal.devices_waiting(), [("D".into(), 1)]);
        let accepted = UploadEvent::Accepted { device: "D".into(), first: 1, last: 1, duplicates: 0 };
        journal.record(accepted).await.unwrap();
        assert_eq!(journal.devices_waiting(), []);
        journal.close().await;
    }
}
