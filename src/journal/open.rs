//! Opening and closing the journal: checks the disk, starts the threads, and gives
//! each thread its parts.

use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};

use tokio::sync::{mpsc, watch};

use super::offer::Offers;
use super::pulse::Pulse;
use super::recent::Recent;
use super::shared::{AppendRequest, Core, Shared};
use super::sink::Sinks;
use super::terms::{JournalConfig, OpenError};
use super::{Journal, damage, failpoint, follow, lock, log, mark, paths, reserve, start, verify, writer};
use crate::model::chip::Seq;
use crate::status::Board;

/// What `Journal::open` hands to the threads.
pub(super) struct Parts {
    pub(super) log: log::Log,
    pub(super) requests: mpsc::Receiver<AppendRequest>,
    pub(super) identity: String,
    /// Oldest number that the log should hold, for the check. `durable` is the newest one, and
    /// `known` is what is already known to be missing.
    pub(super) oldest: u64,
    pub(super) durable: u64,
    pub(super) known: damage::Damage,
}

impl Journal {
    /// Opens or creates the journal and starts its threads. Reads can be kept when this returns,
    /// but the queue may still be opening.
    pub fn open(config: JournalConfig, board: Board) -> Result<Self, OpenError> {
        Self::open_for(config, board, &[])
    }

    /// Like [`Journal::open`], with these sinks beside the uplink. Nothing is pruned that they still
    /// owe.
    ///
    /// # Errors
    /// Like [`Journal::open`].
    pub fn open_for(mut config: JournalConfig, board: Board, sinks: &[&str]) -> Result<Self, OpenError> {
        failpoint::announce(&board);
        config.segment_bytes = failpoint::segment_bytes(config.segment_bytes);
        let dir = config.dir.clone();
        let (journal, Parts { log, requests, identity, oldest, durable, known }) =
            Self::assemble(config, board, sinks)?;
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

    /// Makes the journal and the parts for its threads, without starting the threads.
    pub(super) fn assemble(config: JournalConfig, board: Board, sinks: &[&str]) -> Result<(Self, Parts), OpenError> {
        let dir = config.dir.clone();
        let io = |error| OpenError::Io { dir: dir.clone(), error };
        start::not_mounted(&dir).map_or(Ok(()), |error| Err(io(error)))?;
        std::fs::create_dir_all(&dir).map_err(io)?;
        let lock = lock::lock_dir(&dir)?;
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
            wants_segment: log.is_older(),
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
            offers: Offers::default(),
            recent: Recent::default(),
            sinks: Sinks::new(sinks),
            writer: Pulse::default(),
            follower: Pulse::default(),
            waker: OnceLock::new(),
        });
        let (requests, waiting) = mpsc::channel(writer::REQUESTS);
        // `waker` was empty before, so this cannot fail.
        let _ = shared.waker.set(requests.downgrade());
        let (threads, check, turns) = (Arc::default(), Arc::default(), Arc::default());
        let journal = Self { shared, requests, first, threads, turns, check };
        journal.shared.board.not_ready("starting", None);
        if !drafts.is_empty() {
            // The channel is empty at the start, so there is room.
            let _ = journal.requests.try_send(AppendRequest::unheard(drafts));
        }
        Ok((journal, Parts { log, requests: waiting, identity, oldest, durable, known }))
    }

    /// Writes a checkpoint and ends the threads. Later calls fail with
    /// [`JournalError::Closed`](super::JournalError::Closed).
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if !threads.is_empty() {
            self.settle_soon().await;
        }
        self.shared.lock().closing = true;
        self.shared.turn.notify_all();
        self.shared.changed.send_modify(|_| {}); // readers see that the journal closes
        // The writer waits for requests. An empty request wakes it, and it sees that the journal
        // closes.
        let _ = self.requests.send(AppendRequest::unheard(Vec::new())).await;
        let check = self.check.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = Arc::clone(&self.shared);
        let joined = tokio::task::spawn_blocking(move || {
            let running = !threads.is_empty();
            for thread in threads.into_iter().chain(check) {
                let _ = thread.join(); // a panic was already reported where it happened
            }
            if running {
                shared.mark_closed();
            }
            let _ = shared.dir_lock().unlock(); // the end of the process unlocks it too
        });
        let _ = joined.await;
    }

    /// Whether both threads are alive. If one ended by itself, the process must end.
    pub fn is_alive(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(|thread| !thread.is_finished())
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}
