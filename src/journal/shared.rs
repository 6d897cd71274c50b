//! What the journal's threads and handles share, and the messages between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::dedup_index::{DedupIndex, Recognised};
use super::entry::{Body, Entry};
use super::log::LogPlace;
use super::mark::WrittenMark;
use super::offer::Offers;
use super::paths::log_dir;
use super::pulse::Pulse;
use super::queue::Span;
use super::recent::Recent;
use super::reserve;
use super::room_order::RoomOrder;
use super::sink::Sinks;
use super::state::{Rules, State, TAIL_MAX, WAITED, Waiting};
use super::terms::{JournalConfig, JournalError, Kept, Received};
use super::upload::UploadEvent;
use crate::model::chip::Seq;
use crate::status::{Board, ProblemCode, ReadCounts};

/// An entry that has no number yet: subject, time, content, raw bytes.
pub(super) type Draft = (Arc<str>, Timestamp, Body, Box<[u8]>);

/// A request of a caller to the writer.
pub(super) struct AppendRequest {
    /// What was received, to be kept together, with consecutive numbers.
    pub received: Vec<Received>,
    /// Other entries, to be kept behind that in the same way.
    pub drafts: Vec<Draft>,
    /// Receives the numbers when they are durable.
    pub reply: oneshot::Sender<Result<Kept, JournalError>>,
    /// Without entries: what rides with the next group is written now, and answered when it is
    /// durable.
    pub settle: bool,
}

impl AppendRequest {
    /// Whether nothing is to be written, so that the writer only checks its segment.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.drafts.is_empty() && !self.settle
    }

    /// A request that nobody waits for.
    pub(super) fn unheard(drafts: Vec<Draft>) -> Self {
        Self { received: Vec::new(), drafts, reply: oneshot::channel().0, settle: false }
    }
}

/// Events that ride with the next group. With more, they are written at once.
pub(super) const RIDERS_MAX: usize = 64;

/// Longest time that an event rides: how long a box without further reads takes to make the
/// acceptance of its last passing durable. If the power fails before, the uplink asks about that
/// passing again.
pub(super) const RIDE_MAX: Duration = Duration::from_secs(5);

/// Reads in the tail that make a checkpoint due at once.
pub(super) const CHECKPOINT_READS: usize = 8192;

/// Reads that arrived amid stored reads wait at least this long before they are checked,
const WAIT: Duration = Duration::from_secs(3);

/// and this long after the last read that is stored or arrived amid stored reads,
const WAIT_QUIET: Duration = Duration::from_secs(1);

/// but no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The values that the journal's threads and handles share.
pub(super) struct Shared {
    /// Configuration.
    pub config: JournalConfig,
    /// Where problems are shown.
    pub board: Board,
    /// State and flags.
    pub core: Mutex<Core>,
    /// Wakes the follower, and a writer that waits for room in the tail.
    pub turn: Condvar,
    /// The dedup index. If both locks are needed, `core` is locked first. The look-up of the writer
    /// locks only this one.
    pub known: Mutex<DedupIndex>,
    /// The queue's spans, for readers.
    pub spans: RwLock<Vec<Arc<Span>>>,
    /// First sequence number that this process gives.
    pub first: u64,
    /// The last durable number.
    pub changed: watch::Sender<Seq>,
    /// Whether the queue serves.
    pub serving: watch::Sender<bool>,
    /// The lock for one process per data directory. It is held until the threads have ended.
    pub dir_lock: Mutex<std::fs::File>,
    /// What uplinks let the writer number.
    pub offers: Offers,
    /// The newest groups, for readers near the head.
    pub recent: Recent,
    /// Who passes on what the journal has.
    pub sinks: Sinks,
    /// What the writer does.
    pub writer: Pulse,
    /// What the follower does.
    pub follower: Pulse,
    /// The channel to the writer, for the journal's own threads.
    pub waker: OnceLock<mpsc::WeakSender<AppendRequest>>,
}

/// The values behind the lock. The lock is never held during I/O.
#[derive(Default)]
pub(super) struct Core {
    /// The fold. It follows the log only while `serving`.
    pub state: State,
    /// The state follows the last durable entry.
    pub serving: bool,
    /// Last durable entry.
    pub durable: u64,
    /// Place in the log behind that entry.
    pub place: LogPlace,
    /// Reads that an unfinished checkpoint has taken out of the tail.
    pub flushing: Arc<Vec<Waiting>>,
    /// Reads up to this number are in the queue's blocks (or covered).
    pub in_blocks: u64,
    /// For each device, a number up to which no read waits.
    pub nothing_before: BTreeMap<Box<str>, u64>,
    /// Counts how often the queue was given up, so that a reader notices that the queue was
    /// replaced while it read.
    pub given_up: u64,
    /// A block could not be read, so the queue has to be rebuilt.
    pub distrust: Option<String>,
    /// The log began a new segment, so the queue should begin a new span.
    pub new_segment: bool,
    /// The head of the newest segment at which no read waited. A start can continue from it without
    /// the queue.
    pub rest: Option<Rest>,
    /// The log should begin a new segment, with the state at its head, because lines before it are
    /// missing.
    pub wants_segment: bool,
    /// Entries are missing at the end of the log, so the state's knowledge of uploads may be out of
    /// date.
    pub lost: bool,
    /// First number of the segment that is being written.
    pub active: u64,
    /// When a removed file of the log was last put back.
    pub put_back: Option<Instant>,
    /// The next content of the mark.
    pub mark: WrittenMark,
    /// The last entry that no sink and no start needs: what may be removed by hand ends here.
    pub removable: u64,
    /// Somebody wants room on the card.
    pub room: Option<RoomOrder>,
    /// The journal closes.
    pub closing: bool,
    /// Entries that ride with the next group, in order, at most [`RIDERS_MAX`] and those of one
    /// batch.
    pub riders: Vec<Draft>,
    /// How many of them, the first ones, are in the group that is being written.
    pub boarded: usize,
    /// Since when they ride. `None`: nothing rides.
    pub riding_since: Option<Instant>,
    /// Since when reads wait for stored reads. `None`: no read waits.
    pub waits: Option<Waits>,
}

/// The head of a segment at which no read waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// The entry before the segment.
    pub followed: u64,
    /// The place of the segment's first entry.
    pub place: LogPlace,
}

/// How long reads have waited for stored reads, by a clock that does not step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    since: Instant,
    heard: Instant,
    /// The note that ends the waiting was sent to the writer.
    pub told: bool,
}

impl Waits {
    /// Whether the waiting is over. `crowded`: a checkpoint cannot wait much longer.
    pub(super) fn is_over(&self, crowded: bool) -> bool {
        let (waited, quiet) = (self.since.elapsed(), self.heard.elapsed());
        !self.told && (crowded || waited >= WAIT_MAX || (waited >= WAIT && quiet >= WAIT_QUIET))
    }
}

impl Core {
    /// Updates `waits` after these entries. `None`: the state has just caught up.
    pub(super) fn look_who_waits(&mut self, entries: Option<&[Entry]>) {
        if !self.state.is_undecided() {
            self.waits = None;
            return;
        }
        let now = Instant::now();
        let ended = |entry: &Entry| *entry.subject == *WAITED && matches!(entry.body, Body::Note(_));
        let fresh = Waits { since: now, heard: now, told: false };
        let before = self.waits.filter(|_| !entries.is_none_or(|entries| entries.iter().any(ended)));
        let waits = self.waits.insert(before.unwrap_or(fresh));
        let stored = |entry: &Entry| matches!(&entry.body, Body::Read(read) if read.replay || read.amid_stored);
        if entries.is_some_and(|entries| entries.iter().any(stored)) {
            waits.heard = now;
        }
    }

    /// By device: how many passings of the state's batch in flight the cloud accepted, by events
    /// that ride with the next group, and how many of them it reported as duplicates.
    pub(super) fn riding(&self) -> BTreeMap<&str, (u64, u64)> {
        let mut riding = BTreeMap::<&str, (u64, u64)>::new();
        for (_, _, body, _) in &self.riders {
            let Body::Upload(UploadEvent::Accepted { device, first, last, duplicates }) = body else { continue };
            let flight = self.state.devices.get(device).and_then(|fold| fold.in_flight.as_ref());
            let open = flight.into_iter().flat_map(|flight| &flight.open);
            let accepted = open.filter(|item| (*first..=*last).contains(&item.num)).count() as u64;
            let of_device = riding.entry(device).or_default();
            *of_device = (of_device.0 + accepted, of_device.1 + duplicates);
        }
        riding
    }

    /// All reads by what became of them. A passing that the cloud accepted is in the cloud, also
    /// while its acceptance is not durable yet.
    pub(super) fn reads(&self) -> ReadCounts {
        let reads = self.state.reads();
        let accepted: u64 = self.riding().values().map(|(accepted, _)| accepted).sum();
        let (in_cloud, waiting) = (reads.in_cloud + accepted, reads.waiting.saturating_sub(accepted));
        ReadCounts { in_cloud, waiting, ..reads }
    }

    /// Number of reads that wait for a checkpoint.
    pub(super) fn tail_len(&self) -> usize {
        self.state.tail.len() + self.flushing.len()
    }
}

impl Shared {
    /// Locks `core`. Fail fast: a panic under this lock ends the process, so a poisoned value is
    /// never used for long.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans of the queue.
    pub(super) fn spans(&self) -> Vec<Arc<Span>> {
        self.spans.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives readers other spans. The old spans are dropped without a lock, because dropping the
    /// last handle on a span does I/O.
    pub(super) fn set_spans(&self, spans: Vec<Arc<Span>>) {
        let old = std::mem::replace(&mut *self.spans.write().unwrap_or_else(PoisonError::into_inner), spans);
        drop(old);
    }

    /// Locks the dedup index.
    pub(super) fn known(&self) -> MutexGuard<'_, DedupIndex> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up which of these entries, durable and in the order of the log, are duplicates. It
    /// reads files, so it must not be called with the lock of `core`. `None`: the index does not
    /// follow the log now.
    pub(super) fn look_up(&self, entries: &[Entry], place: LogPlace) -> Option<Vec<Recognised>> {
        let mut known = self.known();
        known.live.then(|| known.take_all(entries, place))
    }

    /// Gives access to the lock file of the data directory.
    pub(super) fn dir_lock(&self) -> MutexGuard<'_, std::fs::File> {
        self.dir_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the writer entries to note. An empty list makes the writer check whether its file is
    /// still in its place. This call does not wait. `false`: the writer did not take the request,
    /// because its channel is full.
    pub(super) fn wake_writer(&self, drafts: Vec<Draft>) -> bool {
        let requests = self.waker.get().and_then(mpsc::WeakSender::upgrade);
        requests.is_some_and(|requests| requests.try_send(AppendRequest::unheard(drafts)).is_ok())
    }

    /// Lets the writer write what rides with the next group, although there is no group. This call
    /// does not wait. `false`: the channel is full, so a group follows soon.
    pub(super) fn settle_riders(&self) -> bool {
        let requests = self.waker.get().and_then(mpsc::WeakSender::upgrade);
        let request = AppendRequest { settle: true, ..AppendRequest::unheard(Vec::new()) };
        requests.is_some_and(|requests| requests.try_send(request).is_ok())
    }

    /// Shows that the disk takes the journal again.
    pub(super) fn disk_recovered(&self) {
        self.board.not_ready("disk", None);
        self.board.clear(ProblemCode::DiskFull, "");
        self.board.clear(ProblemCode::DiskFailed, "");
    }

    /// Directory of the log.
    pub(super) fn log_dir(&self) -> PathBuf {
        log_dir(&self.config.dir)
    }

    /// Writes the mark of a journal that was closed in order. If this fails, the next start only
    /// knows less exactly what it should find.
    pub(super) fn mark_closed(&self) {
        let mark = {
            let core = self.lock();
            WrittenMark { last: core.durable, closed: true, ..core.mark.clone() }
        };
        reserve::write_mark(&self.config.dir, &mark);
    }

    pub(super) fn rules(&self) -> Rules {
        let dead_time_ms = i64::try_from(self.config.dead_time.as_millis()).unwrap_or(i64::MAX);
        Rules { dead_time_ms, zones: self.config.zones.clone() }
    }

    /// Applies durable entries. The writer calls this, in the order of the log. `found`: see
    /// [`Shared::look_up`].
    pub(super) fn follow(&self, core: &mut Core, entries: &[Entry], place: LogPlace, found: Option<Vec<Recognised>>) {
        let rules = self.rules();
        if let Some(last) = entries.last() {
            core.durable = last.seq;
        }
        core.place = place;
        if core.serving {
            // `None`: the queue began to serve between the look-up and this call, which happens
            // once in a start.
            let found = found.unwrap_or_else(|| self.known().take_all(entries, place));
            for (entry, found) in entries.iter().zip(found) {
                debug_assert!(
                    core.state.agrees(entry),
                    "the batch of a group is not what the fold decides: {entries:?}"
                );
                core.state.apply(entry, &rules, found);
            }
            core.state.place = place;
            core.look_who_waits(Some(entries));
        }
        if core.tail_len() >= CHECKPOINT_READS {
            self.turn.notify_all();
        }
    }
}

pub(super) fn state_json(state: &State) -> String {
    // Plain data with string keys, so this cannot fail.
    serde_json::to_string(state).unwrap_or_default()
}

/// Makes the writer wait until the tail has room. Ends when the journal closes. Meanwhile the
/// follower has to get on, and not the writer.
pub(super) fn wait_for_room(shared: &Shared) {
    let mut core = shared.lock();
    let crowded =
        |core: &Core| core.serving && core.tail_len() >= TAIL_MAX && !core.closing && !core.state.is_undecided();
    while crowded(&core) {
        shared.writer.beat();
        core = shared
            .turn
            .wait_timeout(core, Duration::from_millis(500))
            .map_or_else(|poisoned| poisoned.into_inner().0, |waited| waited.0);
    }
}

/// The state for the head of a new segment, if the state is the state at the end of the log.
pub(super) fn state_at(shared: &Shared, next: u64) -> Option<String> {
    let core = shared.lock();
    (core.serving && core.state.followed + 1 == next && !core.state.is_undecided()).then(|| state_json(&core.state))
}
