//! What the journal's threads and handles share, and what goes between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::dedup_index::DedupIndex;
use super::entry::{Body, Entry};
use super::log::LogPlace;
use super::mark::WrittenMark;
use super::paths::log_dir;
use super::queue::Span;
use super::reserve;
use super::state::{Rules, State, TAIL_MAX, WAITED, Waiting};
use super::terms::{JournalConfig, JournalError, Kept};
use crate::model::chip::Seq;
use crate::status::Board;

/// An entry to be numbered: subject, time, content, raw bytes.
pub type Draft = (Box<str>, Timestamp, Body, Box<[u8]>);

/// What callers ask of the writer.
pub struct AppendRequest {
    /// To be kept together, with consecutive numbers. Not empty.
    pub drafts: Vec<Draft>,
    /// Gets the numbers when they are durable.
    pub reply: oneshot::Sender<Result<Kept, JournalError>>,
}

/// Reads in the tail that call for a checkpoint at once.
pub const CHECKPOINT_READS: usize = 8192;

/// Reads that came amid stored ones wait at least so long before they are judged,
const WAIT: Duration = Duration::from_secs(3);

/// and so long after the last one of their kind or a stored one,
const WAIT_QUIET: Duration = Duration::from_secs(1);

/// but no longer than this.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the journal's threads and handles share.
pub struct Shared {
    /// Configuration.
    pub config: JournalConfig,
    /// Where problems are shown.
    pub board: Board,
    /// State and flags.
    pub core: Mutex<Core>,
    /// Wakes the follower, and the writer that waits for room in the tail.
    pub turn: Condvar,
    /// Which reads were ever kept. Taken after `core` where both are; the writer takes it alone.
    pub known: Mutex<DedupIndex>,
    /// The queue's spans, for readers.
    pub spans: RwLock<Vec<Arc<Span>>>,
    /// First entry of this process.
    pub first: u64,
    /// The durable head.
    pub changed: watch::Sender<Seq>,
    /// Whether the queue serves.
    pub serving: watch::Sender<bool>,
    /// One process per data directory: held until the threads are gone.
    pub dir_lock: Mutex<std::fs::File>,
    /// The way to the writer, for this thread.
    pub waker: OnceLock<mpsc::WeakSender<AppendRequest>>,
}

/// What is behind the lock. The lock is never held over I/O.
#[derive(Default)]
pub struct Core {
    /// The fold. Follows the log only while `serving`.
    pub state: State,
    /// The state follows the durable head.
    pub serving: bool,
    /// Last durable entry.
    pub durable: u64,
    /// Place behind it.
    pub place: LogPlace,
    /// Reads taken out of the tail by a checkpoint that is not done.
    pub flushing: Arc<Vec<Waiting>>,
    /// Reads up to here are in the queue's blocks (or covered).
    pub in_blocks: u64,
    /// Per device: no waiting read up to here.
    pub nothing_before: BTreeMap<Box<str>, u64>,
    /// Counts how often the queue was given up: who began to look into one before sees that it is another.
    pub given_up: u64,
    /// A block could not be read: the queue has to be rebuilt.
    pub distrust: Option<String>,
    /// The log began a new segment: so should the queue.
    pub new_segment: bool,
    /// The log should begin one, with the state at its head: lines before it are gone.
    pub wants_segment: bool,
    /// Entries are gone from the end of the log: what the state says of uploads may be out of date.
    pub lost: bool,
    /// First number of the segment that is written.
    pub active: u64,
    /// When a file of the log was last put back that had been taken away.
    pub put_back: Option<Instant>,
    /// What the mark says next.
    pub mark: WrittenMark,
    /// The journal closes.
    pub closing: bool,
    /// Reads wait for stored ones.
    pub waits: Option<Waits>,
}

/// Since when reads wait for stored ones, by a clock that does not step.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    since: Instant,
    heard: Instant,
    /// The note that ends it is under way.
    pub told: bool,
}

impl Waits {
    /// `crowded`: a checkpoint cannot wait much longer.
    pub fn is_over(&self, crowded: bool) -> bool {
        let (waited, quiet) = (self.since.elapsed(), self.heard.elapsed());
        !self.told && (crowded || waited >= WAIT_MAX || (waited >= WAIT && quiet >= WAIT_QUIET))
    }
}

impl Core {
    /// Looks whether reads wait, after these entries. `None`: the state was just caught up.
    pub fn look_who_waits(&mut self, entries: Option<&[Entry]>) {
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

    /// Reads that wait for a checkpoint.
    pub fn tail_len(&self) -> usize {
        self.state.tail.len() + self.flushing.len()
    }
}

impl Shared {
    /// The lock. A panic under it ends the process (no task dies alone), so a poisoned value is never used for long.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans.
    pub fn spans(&self) -> Vec<Arc<Span>> {
        self.spans.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives readers other spans. The old ones are let go without a lock: the last to let go of a span does I/O.
    pub fn set_spans(&self, spans: Vec<Arc<Span>>) {
        let old = std::mem::replace(&mut *self.spans.write().unwrap_or_else(PoisonError::into_inner), spans);
        drop(old);
    }

    /// The index of known reads.
    pub fn known(&self) -> MutexGuard<'_, DedupIndex> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up which of these entries, in log order and durable, are reads that were kept before. Reads files: not to be
    /// called with the lock of `core`. `None`: the index does not follow the log now.
    pub fn duplicates(&self, entries: &[Entry], place: LogPlace) -> Option<Vec<u64>> {
        let mut known = self.known();
        known.live.then(|| known.take_all(entries, place))
    }

    /// The lock of the data directory.
    pub fn dir_lock(&self) -> MutexGuard<'_, std::fs::File> {
        self.dir_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the writer something to note; nothing: it looks whether its file is still there. It is not waited for.
    /// `false`: it did not take it, because it has enough to do.
    pub fn wake_writer(&self, drafts: Vec<Draft>) -> bool {
        let requests = self.waker.get().and_then(mpsc::WeakSender::upgrade);
        requests
            .is_some_and(|requests| requests.try_send(AppendRequest { drafts, reply: oneshot::channel().0 }).is_ok())
    }

    /// Directory of the log.
    pub fn log_dir(&self) -> PathBuf {
        log_dir(&self.config.dir)
    }

    /// The journal was closed in order. If this fails, the next start only knows less exactly what it should find.
    pub fn mark_closed(&self) {
        let mark = {
            let core = self.lock();
            WrittenMark { last: core.durable, closed: true, ..core.mark.clone() }
        };
        reserve::write_mark(&self.config.dir, &mark);
    }

    pub fn rules(&self) -> Rules {
        let dead_time_ms = i64::try_from(self.config.dead_time.as_millis()).unwrap_or(i64::MAX);
        Rules { dead_time_ms, zones: self.config.zones.clone() }
    }

    /// Applies durable entries. Called by the writer, in log order. `repeats`: see [`Shared::repeats`].
    pub fn follow(&self, core: &mut Core, entries: &[Entry], place: LogPlace, duplicates: Option<Vec<u64>>) {
        let rules = self.rules();
        if let Some(last) = entries.last() {
            core.durable = last.seq;
        }
        core.place = place;
        if core.serving {
            // `None`: it began to serve between the look and this, which happens once in a start.
            let duplicates = duplicates.unwrap_or_else(|| self.known().take_all(entries, place));
            for entry in entries {
                core.state.apply(entry, &rules, duplicates.binary_search(&entry.seq).is_ok());
            }
            core.state.place = place;
            core.look_who_waits(Some(entries));
        }
        if core.tail_len() >= CHECKPOINT_READS {
            self.turn.notify_all();
        }
    }
}

pub fn state_json(state: &State) -> String {
    serde_json::to_string(state).unwrap_or_default() // plain data with string keys: cannot fail
}

/// Waits, as the writer, until the tail has room. Ends when the journal closes.
pub fn wait_for_room(shared: &Shared) {
    let core = shared.lock();
    let crowded =
        |core: &mut Core| core.serving && core.tail_len() >= TAIL_MAX && !core.closing && !core.state.is_undecided();
    drop(shared.turn.wait_while(core, crowded));
}

/// State for the head of a new segment, if the state is that of the log's end.
pub fn state_at(shared: &Shared, next: u64) -> Option<String> {
    let core = shared.lock();
    (core.serving && core.state.followed + 1 == next && !core.state.is_undecided()).then(|| state_json(&core.state))
}
