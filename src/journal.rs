//! The journal: one log that is true, one sled queue that serves.
//!
//! What must hold:
//! * [`Journal::append`] and [`Journal::record`] return only when the entry would survive a power cut.
//! * Numbers never go back and are never given twice, also when files of the log are lost; a hole is told or noted. What is in
//!   the log decides; the queue and the state are derived from it. Where the log is shorter than it was, the queue is
//!   kept (it holds reads that are nowhere else), and nothing is numbered before the cloud was asked what it holds.
//! * Reads can be kept from the first moment on, also while the queue is opened, replayed or rebuilt.
//! * Nothing here grows with the backlog: reads that wait are in the queue's blocks, the tail has a bound.
//! * One process per data directory.
//!
//! What it hides: [`log`] (segments of text lines, group commit, what to do with a torn end), [`entry`] (a line),
//! `gone` (files that are taken away under the process), `state` (the fold: cursors, numbers, repeats, dead time),
//! [`held_back`] (what is kept and not uploaded yet), `queue` (sled, nothing else knows it), `age` and `room` (what
//! may go, and when), and two threads:
//! the `writer` appends and answers, the `follower` checkpoints, rebuilds and prunes. `mark` says how far the log went,
//! `verify` reads it through at every start and says what is missing.
//!
//! Rejected:
//! * *sled alone*: its `flush` lost acknowledged reads in 117 of 119 simulated power cuts, and a torn page can make
//!   it unopenable. With the log as the truth, none of that can cost a read.
//! * *Every read into sled at once*: two structures to make durable per read, and a FIFO that creeps. Reads that are
//!   uploaded before the next checkpoint (nearly all of them, at a race with internet) never go there at all.
//! * *Deleting entries that are settled*: no audit, no second chance, and the creep again. Spans are dropped whole.
//! * *An index by chip and bib in the queue*: it would double the queue's writes; the newest reads are in memory, and
//!   a rebuild, which reads all of a log of a million lines and writes the queue, takes 2.3 s.
//! * *Judging repeats and dead time before keeping*: the state may not be there yet. Judged when followed; the verdict is
//!   made durable by the batch line that covers the read.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::decoders::{Frame, Framed};
use crate::model::chip::{Seq, StoredRanges};
use crate::model::clock::{self, Step};
use crate::model::source;
use crate::status::Board;

mod age;
mod catch_up;
mod damage;
mod dead;
mod dedup_index;
mod disk;
#[cfg(test)]
pub(crate) mod driven;
pub mod entry;
mod failpoint;
mod follow;
mod gone;
pub mod held_back;
mod left;
pub mod let_go;
pub mod log;
mod mark;
mod mounts;
mod paths;
mod queue;
mod reserve;
mod room;
mod shared;
mod start;
mod state;
mod terms;
mod undated;
mod upload;
mod verify;
mod writer;

use entry::Body;
pub use left::unsettled;
pub use paths::log_dir;
use shared::{AppendRequest, Core, Draft, Shared};
use state::{ReadVerdict, Waiting};
pub use terms::{JournalConfig, JournalError, Kept, OpenError};
pub use upload::{
    Audited, Batch, DeviceState, Found, InFlight, Pending, PendingRead, SessionAudit, Unsettled, UploadEvent,
    UploadItem,
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

/// Handle on the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    requests: mpsc::Sender<AppendRequest>,
    /// First entry of this process.
    first: u64,
    threads: Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
    /// Held while reads that were held back are let go.
    letting_go: Arc<tokio::sync::Mutex<()>>,
    /// Reads the log through once; ends by itself.
    check: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

/// What the journal's threads are given.
struct Parts {
    log: log::Log,
    requests: mpsc::Receiver<AppendRequest>,
    identity: String,
    /// First and last number that the log should hold, and what is known to be missing: for the check.
    oldest: u64,
    durable: u64,
    known: damage::Damage,
}

/// Most passings and marks that one look at the pending reads covers: bounds a batch line.
const SPAN_MARKS: usize = 4096;

impl Journal {
    /// Opens or creates the journal and starts its threads. Reads can be kept at once; the queue may still be opening.
    pub fn open(mut config: JournalConfig, board: Board) -> Result<Self, OpenError> {
        failpoint::announce(&board);
        config.segment_bytes = failpoint::segment_bytes(config.segment_bytes);
        let dir = config.dir.clone();
        let (journal, Parts { log, requests, identity, oldest, durable, known }) = Self::assemble(config, board)?;
        let share = || Arc::clone(&journal.shared);
        let (of_writer, of_follower, of_check) = (share(), share(), share());
        let io = |error| OpenError::Io { dir: dir.clone(), error };
        let threads = [
            spawn("journal-writer", move || writer::run(&of_writer, log, requests)).map_err(io)?,
            spawn("journal-queue", move || follow::run(&of_follower, &identity)).map_err(io)?,
        ];
        journal.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
        let sender = journal.requests.downgrade();
        let check =
            spawn("journal-check", move || verify::run(&of_check, oldest, durable, known, &sender)).map_err(io)?;
        *journal.check.lock().unwrap_or_else(PoisonError::into_inner) = Some(check);
        Ok(journal)
    }

    /// The journal, and what its threads are given.
    fn assemble(config: JournalConfig, board: Board) -> Result<(Self, Parts), OpenError> {
        let dir = config.dir.clone();
        let io = |error| OpenError::Io { dir: dir.clone(), error };
        start::not_mounted(&dir).map_or(Ok(()), |error| Err(io(error)))?;
        std::fs::create_dir_all(&dir).map_err(io)?;
        let lock = start::lock_dir(&dir)?;
        let mark = mark::read(&dir);
        let log_dir = paths::log_dir(&dir);
        paths::make_dir(&log_dir).map_err(io)?;
        let (identity, lost) = reserve::with_room(&dir, || start::identity(&dir, mark.as_ref())).map_err(io)?;
        let mark = mark.filter(|mark| mark.identity == identity);
        let open = || log::Log::open(&log_dir, &identity, mark.as_ref());
        let (mut log, repair) = reserve::with_room(&dir, open).map_err(io)?;
        start::write_identity(&dir, &identity).map_err(io)?;
        start::tell_losses(&board, &log_dir, &log, &repair, lost);
        let first = log.next;
        let known = damage::Damage::of(&repair);
        let lost = lost || !repair.lost.is_empty() || !repair.unreadable.is_empty();
        let drafts = start::write_notes(&mut log, start::notes(&board, repair));
        let durable = log.next - 1;
        board.journal(|journal| {
            (journal.head, journal.durable, journal.identity) = (durable, durable, identity.clone());
            journal.free_bytes = reserve::free_bytes(&dir).unwrap_or(0);
        });
        let lowest = log::segments(&log_dir).map_err(io)?.first().map_or(1, |segment| segment.first);
        let (oldest, queue) = mark.map_or((lowest, 0), |mark| (mark.oldest, mark.queue));
        let core = Core {
            durable,
            place: log.place(),
            active: log.place().segment,
            mark: mark::WrittenMark { identity: identity.clone(), last: durable, queue, oldest, closed: false },
            lost,
            ..Core::default()
        };
        reserve::write_mark(&dir, &core.mark);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            config,
            board,
            turn: Condvar::new(),
            known: Mutex::default(),
            spans: RwLock::default(),
            first,
            changed: watch::Sender::new(Seq(durable)),
            serving: watch::Sender::new(false),
            dir_lock: Mutex::new(lock),
            waker: OnceLock::new(),
        });
        let (requests, waiting) = mpsc::channel(writer::REQUESTS);
        let _ = shared.waker.set(requests.downgrade()); // it is empty
        let (threads, check, letting_go) = (Arc::default(), Arc::default(), Arc::default());
        let journal = Self { shared, requests, first, threads, letting_go, check };
        journal.shared.board.not_ready("starting", None);
        if !drafts.is_empty() {
            let (reply, _) = oneshot::channel();
            let _ = journal.requests.try_send(AppendRequest { drafts, reply }); // the queue is empty at start
        }
        Ok((journal, Parts { log, requests: waiting, identity, oldest, durable, known }))
    }

    async fn write(&self, drafts: Vec<Draft>) -> Result<Kept, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(AppendRequest { drafts, reply }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Keeps frames of one decoder or source (at least one, no [`Frame::Info`]) and returns when they would survive a power cut.
    /// While the disk is full this waits; the journal tries again by itself.
    pub async fn append(
        &self,
        decoder: &str,
        received: Timestamp,
        frames: Vec<Framed>,
    ) -> Result<Durable<Kept>, JournalError> {
        let drafts: Vec<Draft> = frames
            .into_iter()
            .filter_map(|Framed { frame, raw }| {
                let body = match frame {
                    Frame::Read(read) => Body::Read(read),
                    Frame::Marker(marker) => Body::Marker(marker),
                    Frame::Rejected(reason) => Body::Rejected(reason.to_string().into()),
                    Frame::Cleared(cleared) => Body::Cleared(cleared),
                    Frame::Info(_) => return None,
                };
                Some((decoder.into(), received, body, raw))
            })
            .collect();
        if drafts.is_empty() {
            // Nothing to keep: the head is the answer that is true.
            let head = Seq(self.shared.lock().durable);
            return Ok(Durable(Kept { first: head, last: head }));
        }
        self.write(drafts).await.map(Durable)
    }

    /// Makes an upload event durable, and the journal's state of the device follow it.
    pub async fn record(&self, event: UploadEvent) -> Result<Durable<Seq>, JournalError> {
        let device = event.device().into();
        let kept = self.write(vec![(device, self.shared.board.now(), Body::Upload(event), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// Makes a note for people durable: a start, a stop, a problem. `code` is its stable name.
    pub async fn note(&self, code: &str, text: &str) -> Result<Durable<Seq>, JournalError> {
        let kept =
            self.write(vec![(code.into(), self.shared.board.now(), Body::Note(text.into()), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// Makes a step of the box's clock durable. What waits, and was received before it, is dated by it from then on.
    pub async fn clock_stepped(&self, step: Step) -> Result<Durable<Seq>, JournalError> {
        let kept = self.write(vec![("box".into(), self.shared.board.now(), Body::Clock(step), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// First entry of this process.
    pub fn first(&self) -> Seq {
        Seq(self.first)
    }

    /// There are reads without a date that were received while the box did not know its own, and nothing was recorded
    /// since that tells it.
    pub fn waits_for_clock(&self) -> bool {
        let core = self.shared.lock();
        core.serving && core.state.unset_through > 0
    }

    /// Waits until the queue serves (it may be opening or rebuilding).
    pub async fn serving(&self) {
        let mut serving = self.shared.serving.subscribe();
        let _ = serving.wait_for(|serving| *serving).await; // the sender lives in `shared`
    }

    /// State of a device's upload. Meaningful after [`Journal::serving`].
    pub fn device(&self, device: &str) -> DeviceState {
        DeviceState { first: self.first, ..self.shared.lock().state.device(device) }
    }

    /// Sessions that a device's passings were numbered in (the newest 32), with their last audits, the newest last; and
    /// the alias of each, if the cloud told one. Meaningful after [`Journal::serving`].
    pub fn audits(&self, device: &str) -> Vec<(SessionAudit, Option<Box<str>>)> {
        let core = self.shared.lock();
        let Some(fold) = core.state.devices.get(device) else { return Vec::new() };
        let alias = |token: &str| fold.sessions.iter().find(|session| *session.0 == *token)?.1.clone();
        fold.audits.iter().map(|audit| (audit.clone(), alias(&audit.token))).collect()
    }

    /// The last number that would survive a power cut.
    pub fn durable(&self) -> Seq {
        Seq(self.shared.lock().durable)
    }

    /// The next span for a device: at most `limit` passings of the given decoders. Empty while the queue does not serve.
    /// The times of receipt are corrected by what was learnt since.
    pub fn pending(&self, device: &str, decoders: &[Box<str>], limit: usize) -> Pending {
        let (mut after, cursors, steps, mut span) = {
            let core = self.shared.lock();
            if !core.serving {
                return Pending::default();
            }
            // A decoder that was not heard of yet may be before this look is over: its first read comes after this entry.
            let followed = core.state.followed;
            let cursor = |decoder: &str| core.state.decoders.get(decoder).map_or(followed, |fold| fold.cursor);
            let cursors: Vec<u64> = decoders.iter().map(|decoder| cursor(decoder)).collect();
            let seen = core.nothing_before.get(device).copied().unwrap_or(0);
            let from = cursors.iter().copied().min().unwrap_or(followed).min(followed);
            let returned = core.state.devices.get(device).map(|fold| &fold.returned);
            let returned = returned.into_iter().flatten().take(limit).cloned().collect();
            (from.max(seen), cursors, core.state.steps.clone(), Pending { returned, ..Pending::default() })
        };
        span.through = Seq(after);
        let mine = |waiting: &Waiting| {
            let at = decoders.iter().position(|decoder| *decoder == waiting.read.decoder)?;
            (waiting.read.seq.0 > cursors[at]).then_some(())
        };
        loop {
            let (reads, through) = self.reads_after(after);
            if reads.is_empty() {
                span.through = Seq(through.max(after));
                break;
            }
            for mut waiting in reads {
                if span.passings() >= limit || span.dead.len() + span.duplicates.len() >= SPAN_MARKS {
                    return span;
                }
                if waiting.verdict == ReadVerdict::Waits && mine(&waiting).is_some() {
                    return span; // for what its decoder had stored, and all behind it for the order's sake
                }
                after = waiting.read.seq.0;
                span.through = Seq(after);
                if mine(&waiting).is_none() {
                    continue;
                }
                // A step of an earlier process tells nothing of how the clock stands in this one.
                let own = steps.partition_point(|(_, step)| step.from < self.first);
                let steps = if waiting.read.seq.0 < self.first { &steps[..] } else { &steps[own..] };
                waiting.read.received = clock::corrected(steps, waiting.read.seq.0, waiting.read.received);
                match waiting.verdict {
                    ReadVerdict::Passing => span.reads.push(waiting.read),
                    ReadVerdict::Dead => span.dead.push(waiting.read.seq),
                    ReadVerdict::Duplicate => span.duplicates.push(waiting.read.seq),
                    ReadVerdict::Waits => {} // looked at above
                }
            }
        }
        if span.is_empty() {
            self.shared.lock().nothing_before.insert(device.into(), span.through.0);
        }
        span
    }

    /// Some reads after `after`, in order, that may still wait; none: there is none up to the number returned.
    fn reads_after(&self, after: u64) -> (Vec<Waiting>, u64) {
        loop {
            let (in_blocks, given_up, spans) = {
                let core = self.shared.lock();
                if !core.serving {
                    return (Vec::new(), after); // the spans may be gone already: nothing can be said of what is in them
                }
                (core.in_blocks, core.given_up, self.shared.spans())
            };
            if after < in_blocks {
                for span in spans {
                    match span.reads_after(after) {
                        Ok(mut reads) => {
                            reads.retain(|waiting| waiting.read.seq.0 <= in_blocks);
                            if !reads.is_empty() {
                                return (reads, in_blocks);
                            }
                        }
                        Err(broken) => {
                            let mut core = self.shared.lock();
                            core.distrust.get_or_insert_with(|| broken.to_string());
                            self.shared.turn.notify_all();
                            return (Vec::new(), after);
                        }
                    }
                }
            }
            let core = self.shared.lock();
            if !core.serving || core.in_blocks != in_blocks || core.given_up != given_up {
                continue; // a checkpoint came to its end meanwhile (what was in memory is in blocks now), or it is another queue
            }
            let from = after.max(in_blocks);
            let flushing = core.flushing.iter().filter(|waiting| waiting.read.seq.0 > from);
            let at = core.state.tail.partition_point(|waiting| waiting.read.seq.0 <= from);
            let reads: Vec<Waiting> = flushing.chain(core.state.tail.range(at..)).take(512).cloned().collect();
            return (reads, core.state.followed);
        }
    }

    /// Reads that no batch covers, passings in flight and released ones; and when the oldest of them was received.
    pub fn backlog(&self) -> (u64, Option<Timestamp>) {
        let (decoders, waiting) = {
            let core = self.shared.lock();
            let open = core.state.devices.values().map(|device| {
                device.returned.len() as u64 + device.in_flight.as_ref().map_or(0, |flight| flight.open.len() as u64)
            });
            (core.state.decoders.keys().cloned().collect::<Vec<_>>(), core.state.waiting + open.sum::<u64>())
        };
        let oldest = self.pending("", &decoders, 1).reads.first().map(|read| read.received);
        (waiting, oldest)
    }

    /// Decoders with reads that no batch covers.
    pub fn decoders_waiting(&self) -> Vec<Box<str>> {
        let core = self.shared.lock();
        let waiting = core.state.decoders.iter().filter(|(_, fold)| fold.last > fold.cursor);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Reads that repeated one kept before, since the start of the process: kept, and not sent.
    pub fn duplicates(&self) -> u64 {
        self.shared.lock().state.duplicates.0
    }

    /// Passings set aside, ever, over all devices.
    pub fn dead_letters(&self) -> u64 {
        let core = self.shared.lock();
        core.state.devices.keys().map(|device| core.state.device(device).dead_letters).sum()
    }

    /// Devices with passings that are numbered or released and not settled, and how many.
    pub fn devices_waiting(&self) -> Vec<(Box<str>, usize)> {
        let unsettled = self.shared.lock().state.unsettled().into_iter();
        unsettled.map(|(device, unsettled)| (device, unsettled.count())).collect()
    }

    /// Passings of a device that were released and not numbered since. Meaningful after [`Journal::serving`].
    pub fn released(&self, device: &str) -> Vec<UploadItem> {
        let core = self.shared.lock();
        core.state.devices.get(device).map(|fold| fold.returned.clone()).unwrap_or_default()
    }

    /// Passings of all devices that were set aside because the cloud failed at them, and are tried again by themselves.
    pub fn failing(&self) -> usize {
        self.shared.lock().state.devices.values().map(|fold| fold.failing.len()).sum()
    }

    /// Changes whenever something was kept or recorded; the value is the durable head.
    pub fn changed(&self) -> watch::Receiver<Seq> {
        self.shared.changed.subscribe()
    }

    /// Which places of a decoder's memory are held, in whatever source. Waits until the queue serves.
    pub async fn stored_ranges(&self, decoder: &str) -> StoredRanges {
        self.serving().await;
        let core = self.shared.lock();
        let mut held = StoredRanges::default();
        for (_, fold) in source::of(&core.state.decoders, decoder) {
            held.merge(&fold.held);
        }
        held
    }

    /// Checkpoints and ends the threads; later calls fail with [`JournalError::Closed`].
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.lock().closing = true;
        self.shared.turn.notify_all();
        // The writer sleeps in its queue: an empty request wakes it, and it sees that the journal closes.
        let (reply, _) = oneshot::channel();
        let _ = self.requests.send(AppendRequest { drafts: Vec::new(), reply }).await;
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = Arc::clone(&self.shared);
        let joined = tokio::task::spawn_blocking(move || {
            let running = !threads.is_empty();
            for thread in threads.into_iter().chain(check) {
                let _ = thread.join(); // a panic was reported where it happened
            }
            if running {
                shared.mark_closed();
            }
            let _ = shared.dir_lock().unlock(); // the end of the process does it too
        });
        let _ = joined.await;
    }

    /// Whether both threads are alive; one that ended by itself must end the process.
    pub fn is_alive(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|thread| !thread.is_finished())
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::chip::ChipRead;
    use crate::model::clock::Zones;
    use std::time::Duration;

    fn config(dir: &Path) -> JournalConfig {
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
        JournalConfig { dir: dir.into(), dead_time, zones: Zones::default(), keep_days, keep_bytes, segment_bytes }
    }

    async fn keep(journal: &Journal, decoder: &str) {
        let read = ChipRead::new("C1", "2026-03-06T20:27:47.350".parse().unwrap());
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
        // Cut while the first segment was made: it has no name yet.
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log/next.new"), "#pass").unwrap();
        let (first, told) = start().await;
        assert!(!told);
        // Cut when the log was there and its identity not yet beside it.
        std::fs::remove_file(dir.path().join("identity")).unwrap();
        assert_eq!(start().await, (first.clone(), false));
        // The log is taken away, and the mark; and cut when a new one was there.
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        std::fs::remove_file(dir.path().join("mark")).unwrap();
        let (second, told) = start().await;
        assert!(told && second != first);
        std::fs::write(dir.path().join("identity"), &first).unwrap();
        assert_eq!(start().await, (second.clone(), true));
        assert_eq!(start().await, (second, false));
    }

    #[tokio::test]
    async fn no_look_goes_past_reads_in_the_queue_while_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        keep(&journal, "a").await;
        journal.serving().await;
        journal.close().await; // now it is in the queue's blocks
        drop(journal);
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        keep(&journal, "b").await;
        assert_eq!(journal.reads_after(0).0.len(), 1);
        // The follower gives the queue up between the beginning of a look and this.
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
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        for _ in 0..3 {
            journal.note("test", "text").await.unwrap();
        }
        let firsts = || log::segments(&dir.path().join("log")).unwrap().into_iter().map(|segment| segment.first);
        while firsts().next_back() != Some(4) {
            tokio::task::yield_now().await; // the writer begins the next one after it has answered
        }
        let saved = journal.shared.lock().state.place.segment;
        journal.close().await; // the follower looks at what may go, too
        let mut queue = queue::Queue::create(&dir.path().join("another queue"), 0).unwrap();
        room::prune(&journal.shared, &mut queue, saved, &BTreeMap::new()).unwrap();
        assert_eq!(firsts().collect::<Vec<_>>(), [3, 4]);
    }

    #[tokio::test]
    async fn a_batch_in_flight_of_a_device_that_is_used_no_more_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(config(dir.path()), Board::new("test")).unwrap();
        journal.serving().await;
        keep(&journal, "a").await;
        assert_eq!(journal.devices_waiting(), []);
        let item = UploadItem { seq: Seq(1), num: 1, time_ms: 0, bib: "7".into(), chip: "C1".into() };
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
