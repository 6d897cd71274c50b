//! The follower: the thread that keeps the queue.
//!
//! At the start it opens the queue, replays the entries of the log behind the queue's state (or the
//! whole log, if the queue cannot be trusted), and only then lets the journal serve. The writer
//! keeps reads meanwhile. From then on the writer itself applies each durable group to the state,
//! and the follower writes checkpoints: it takes the tail and a copy of the state under the lock,
//! and writes them to sled without the lock, so that a slow card never delays an append.
//!
//! A checkpoint is written only when reads wait and something ends: the memory for them
//! ([`CHECKPOINT_READS`]), the segment, or the process. A start replays what the log holds behind the
//! last checkpoint, and that is at most one segment and what was written while the next one began.
//! While everything is uploaded, sled is not touched at all: the state at the head of a segment says
//! everything if no read waited there ([`Core::rest`]), and the start continues from it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catch_up;
use super::damage::Damage;
use super::dedup_index::{DedupIndex, known_dir};
use super::entries::Entries;
use super::entry::Body;
use super::log::{self, LogLine, LogPlace};
use super::mark::{self, WrittenMark};
use super::paths::queue_dir;
use super::queue::{Broken, Identities, Queue};
use super::shared::{CHECKPOINT_READS, Core, RIDE_MAX, Shared, state_json};
use super::state::{Rules, State, UNDECIDED_SPAN, WAITED, Waiting};
use super::{failpoint, gone, reserve, room, start};
use crate::status::ProblemCode;

/// Time between two looks whether the open files still have their names.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Longest time between two marks while entries are written. If the end of the log is lost, the
/// box knows how far it went up to this long before.
const MARK_EVERY: Duration = Duration::from_secs(60);
/// Time between two checks for what can be deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(10);
/// Number of tries, one second apart, after which a disk error is taken for an error of the queue's
/// place on the disk.
const DISK_TRIES: u32 = 3;

/// The body of the thread. It ends when the journal closes, after a last checkpoint.
pub(super) fn run(shared: &Shared, identity: &str) {
    let mut follower = Follower::new(identity);
    loop {
        let turn = follower.wait(shared);
        // Everything in a step may wait for the disk.
        if !shared.follower.at_disk(|| follower.step(shared, turn)) {
            return;
        }
    }
}

/// What one step of the follower has to do besides a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The journal closes, so this is the last step.
    pub closing: bool,
    /// Write a checkpoint of the reads that wait.
    pub checkpoint: bool,
    /// Check what can be deleted.
    pub prune: bool,
    /// Reads have waited long enough for stored reads.
    pub waited: bool,
}

/// The queue and how far it has followed. Only [`Follower::wait`] waits, between the steps.
pub(super) struct Follower {
    identity: String,
    /// `None`: the queue does not serve, and the next step opens it.
    queue: Option<Queue>,
    /// The last checkpoint that was completed.
    saved: Option<Saved>,
    /// Number of failures in a row to open the queue.
    failed: u32,
    checked: Instant,
    marked: Instant,
    pruned: Option<Instant>,
    /// The known segments, so that a removed one is noticed.
    segments: gone::Segments,
}

impl Follower {
    /// A follower that has not opened the queue yet.
    pub(super) fn new(identity: &str) -> Self {
        let identity = identity.to_owned();
        let segments = gone::Segments::default();
        let (checked, marked) = (Instant::now(), Instant::now());
        Self { identity, queue: None, saved: None, failed: 0, checked, marked, pruned: None, segments }
    }

    /// Waits until there is work for a step.
    fn wait(&self, shared: &Shared) -> Turn {
        let (look_every, prune_every) = (failpoint::turn(LOOK_EVERY), failpoint::turn(PRUNE_EVERY));
        let mut core = shared.lock();
        if self.queue.is_none() {
            if self.failed > 0 {
                let waited = shared.turn.wait_timeout_while(core, Duration::from_secs(1), |core| !core.closing);
                core = waited.map_or_else(|e| e.into_inner().0, |r| r.0);
            }
            return Turn { closing: core.closing, checkpoint: false, prune: false, waited: false };
        }
        // While reads wait for stored reads, no checkpoint is written, because their verdicts are
        // not known yet.
        let rests = |core: &Core| {
            core.state.is_undecided()
                || (!segment_ended(core)
                    && core.tail_len() < CHECKPOINT_READS
                    && self.checked.elapsed() < look_every
                    && core.room.is_none()
                    && self.pruned.is_some_and(|at| at.elapsed() < prune_every))
        };
        let waited = |core: &Core| core.waits.is_some_and(|waits| waits.is_over(core.tail_len() >= CHECKPOINT_READS));
        while !core.closing && core.distrust.is_none() && !waited(&core) && rests(&core) {
            if core.riding_since.is_some_and(|since| since.elapsed() >= RIDE_MAX) && shared.settle_riders() {
                core.riding_since = None; // asked for once
            }
            shared.follower.beat();
            core = shared
                .turn
                .wait_timeout(core, look_every.min(Duration::from_millis(500)))
                .map_or_else(|e| e.into_inner().0, |r| r.0);
        }
        // A segment ended: the next span of the queue begins with it, and the disk limits are
        // checked, however fast reads arrive.
        let ended = segment_ended(&core);
        let checkpoint = ended || core.tail_len() >= CHECKPOINT_READS;
        let prune = ended || core.room.is_some() || self.pruned.is_none_or(|at| at.elapsed() >= prune_every);
        Turn { closing: core.closing, checkpoint, prune, waited: waited(&core) }
    }

    /// Opens the queue if it is not open. Otherwise writes a checkpoint and prunes. `false`: the
    /// journal closes, or the process must end.
    pub(super) fn step(&mut self, shared: &Shared, turn: Turn) -> bool {
        if turn.waited {
            end_waiting(shared);
        }
        let distrust = shared.lock().distrust.take();
        if let Some(reason) = distrust.filter(|_| self.queue.is_some()) {
            self.give_up(shared);
            set_aside(shared, &reason);
        }
        if !turn.closing && !self.look(shared) {
            return false;
        }
        let Some(live) = &mut self.queue else {
            if turn.closing {
                // A handle may exist longer than the threads. It must not keep sled's directory
                // locked.
                shared.set_spans(Vec::new());
                return false;
            }
            self.bring_up(shared);
            return true;
        };
        self.checked = Instant::now();
        if turn.checkpoint || turn.closing {
            match checkpoint(shared, live, self.saved.take()) {
                Ok(done) => self.saved = done,
                Err(broken) => {
                    self.give_up(shared);
                    recover(shared, &broken);
                    return true;
                }
            }
        }
        if turn.checkpoint || turn.closing || turn.prune {
            self.index(shared);
        }
        if turn.checkpoint || self.marked.elapsed() >= failpoint::turn(MARK_EVERY) {
            mark_durable(shared);
            self.marked = Instant::now();
        }
        if turn.closing {
            shared.set_spans(Vec::new());
            return false;
        }
        if turn.prune {
            self.prune(shared);
        }
        true
    }

    /// Makes sure that the open files still have their names, because people remove and move files
    /// to make room. `false`: the data directory now belongs to somebody else, and the process must
    /// end.
    fn look(&mut self, shared: &Shared) -> bool {
        shared.wake_writer(Vec::new()); // the writer then checks the segment that it writes
        match start::hold_again(shared) {
            Ok(()) => {}
            Err(start::NotOurs::Io(error)) => tracing::warn!(%error, "the data directory cannot be had"),
            Err(start::NotOurs::Taken(why)) => {
                tracing::error!("{why}");
                shared.board.raise(ProblemCode::DataDirTaken, "", why);
                return false;
            }
        }
        self.segments.look(shared);
        if self.queue.as_ref().is_some_and(|queue| !queue.is_there()) {
            self.give_up(shared);
            set_aside(shared, "its files were removed or moved while passbridge runs");
        }
        if self.queue.is_some() && !shared.known().is_there() {
            let oldest =
                log::segments(&shared.log_dir()).ok().and_then(|segments| segments.first().map(|oldest| oldest.first));
            let message = format!(
                "the index of the reads that were ever kept ({}) was removed or moved while passbridge runs. It is made anew from \
                 the log; a read from before entry {} that is fetched again may be sent twice",
                known_dir(&shared.config.dir).display(),
                oldest.unwrap_or(1)
            );
            shared.board.raise(ProblemCode::KnownReads, "removed", message);
            // The next step opens the queue again, and makes the index from the log.
            self.give_up(shared);
        }
        true
    }

    /// Writes full parts of the dedup index to the disk, as far as the last checkpoint covers them.
    fn index(&self, shared: &Shared) {
        let Some(saved) = &self.saved else { return };
        let active = shared.lock().active;
        // What was followed up to the end of a segment needs nothing of that segment any more.
        let segment = if saved.followed + 1 >= active { active } else { saved.place.segment };
        catch_up::save(shared, saved.followed, segment);
    }

    /// Closes the queue.
    fn give_up(&mut self, shared: &Shared) {
        // First, because otherwise a reader would find no waiting reads and would advance past
        // them.
        stop_serving(shared);
        // When the queue is opened again, the index is checked again.
        *shared.known() = DedupIndex::default();
        (self.queue, self.saved) = (None, None);
    }

    fn prune(&mut self, shared: &Shared) {
        // Taken in any case: an order that cannot be carried out now is refused, and not tried again and again.
        let wanted = shared.lock().room.take().filter(|wanted| !wanted.reply.is_closed());
        let (Some(live), Some(saved)) = (&mut self.queue, &self.saved) else { return };
        match room::prune(shared, live, saved.followed, &saved.cursors, wanted) {
            Ok(()) => shared.board.clear(ProblemCode::PruneFailed, ""),
            Err(error) => {
                shared.board.raise(ProblemCode::PruneFailed, "", format!("old segments could not be removed: {error}"));
            }
        }
        self.pruned = Some(Instant::now());
    }

    /// Opens or rebuilds the queue. After a failure the next step tries again.
    fn bring_up(&mut self, shared: &Shared) {
        match open_and_replay(shared, &self.identity, &self.segments) {
            Ok(None) => {} // the journal closes
            Ok(Some((queue, began))) => {
                shared.board.clear(ProblemCode::QueueUnavailable, "");
                (self.queue, self.saved, self.failed) = (Some(queue), Some(began), 0);
            }
            Err(broken) => {
                self.failed += 1;
                recover(shared, &despaired_of(broken, self.failed));
            }
        }
    }
}

/// Lets the writer note that the reads have waited long enough. The note ends the waiting, and like
/// the reads it is in the log.
fn end_waiting(shared: &Shared) {
    let through = {
        let mut core = shared.lock();
        // If a checkpoint is overdue, no further read waits until a checkpoint was written.
        let more = if core.tail_len() >= CHECKPOINT_READS { 2 * UNDECIDED_SPAN } else { 0 };
        let through = core.state.followed + more;
        let Some(waits) = &mut core.waits else { return };
        waits.told = true;
        through
    };
    let text = format!("{through}: live reads up to this number wait no longer for what their decoder had stored");
    let drafts = vec![(WAITED.into(), shared.board.now(), Body::Note(text.into()), Box::default())];
    if !shared.wake_writer(drafts)
        && let Some(waits) = &mut shared.lock().waits
    {
        // The writer has entries to write that may end the waiting, or the next step tries again.
        waits.told = false;
    }
}

/// If the disk is full or read-only, the follower waits, however long that takes. Any other lasting
/// error may concern one place only, such as a bad sector under the queue. Then the follower tries
/// a queue in another place.
fn despaired_of(broken: Broken, failed: u32) -> Broken {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match broken {
        Broken::Disk(error)
            if failed.is_multiple_of(DISK_TRIES)
                && !matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) =>
        {
            Broken::Corrupt(format!("it cannot be read or written: {error}"))
        }
        other => other,
    }
}

/// Handles a failure: the follower waits for a disk that is full or fails, and moves a corrupt
/// queue aside.
fn recover(shared: &Shared, broken: &Broken) {
    match broken {
        Broken::Disk(error) => {
            reserve::release_reserve(&shared.config.dir);
            let message =
                format!("the upload queue waits for the disk: {error}; reads are still kept if the log can be written");
            shared.board.raise(ProblemCode::QueueUnavailable, "", message);
        }
        Broken::Corrupt(reason) => set_aside(shared, reason),
    }
}

fn stop_serving(shared: &Shared) {
    let mut core = shared.lock();
    core.serving = false;
    core.given_up += 1;
    drop(core);
    // Wakes a writer that waits for room in the tail, which can continue because nothing is
    // followed now.
    shared.turn.notify_all();
    shared.set_spans(Vec::new());
    shared.serving.send_replace(false);
    shared.board.journal(|journal| journal.serving = false);
}

/// Moves the queue's directory aside (the newest one is kept for people who want to look at it) and
/// stops serving.
fn set_aside(shared: &Shared, reason: &str) {
    stop_serving(shared);
    let message = format!("the upload queue could not be trusted ({reason}); it is rebuilt from what the log holds");
    shared.board.raise(ProblemCode::QueueRebuilt, "", message);
    let aside = shared.config.dir.join("queue.broken");
    remove_any(&aside);
    let from = queue_dir(&shared.config.dir);
    if std::fs::rename(&from, &aside).is_err() {
        remove_any(&from); // the queue is derived from the log, so losing it costs only time
    }
}

/// Removes a directory, a file or a link.
fn remove_any(path: &Path) {
    if std::fs::remove_dir_all(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// Opens the queue and follows the log to its end. Returns the queue, and from where this start
/// continued. `None`: the journal closes.
fn open_and_replay(
    shared: &Shared,
    identity: &str,
    segments: &gone::Segments,
) -> Result<Option<(Queue, Saved)>, Broken> {
    let dir = queue_dir(&shared.config.dir);
    let found = Queue::open(&dir)?;
    let durable = shared.lock().durable;
    let (mut queue, state) = match found {
        Some((queue, state)) if state.identity == identity && state.followed <= durable => (queue, state),
        Some((_, state)) if state.identity != identity => {
            return Err(Broken::Corrupt("it belongs to another journal".into()));
        }
        // The mark would have made the log continue above this number, so the mark was lost together
        // with the end of the log. The numbers in between are given again: only this queue still
        // knows them, and it is rebuilt. Both losses at once are the one case in which a number is
        // given twice, and the loss is reported.
        Some((_, state)) => {
            let gone = format!("entries {}–{} were kept once and are gone from the log", durable + 1, state.followed);
            let message = format!("{gone}: was a file of {} removed?", shared.log_dir().display());
            shared.board.raise(ProblemCode::LogLost, "", message);
            shared.lock().lost = true;
            return Err(Broken::Corrupt(gone));
        }
        None => {
            let had_one = shared.lock().mark.queue > 0;
            if had_one {
                let message = "the upload queue is gone or empty; it is rebuilt from what the log holds";
                shared.board.raise(ProblemCode::QueueRebuilt, "", message);
            }
            let state = State { identity: identity.to_owned(), ..State::default() };
            (Queue::create(&dir, 0)?, state)
        }
    };
    shared.set_spans(queue.spans());
    let state = rested(shared, state);
    let began = Saved { followed: state.followed, cursors: state.cursors(), place: state.place };
    replay(shared, &mut queue, state, segments).map(|served| served.then_some((queue, began)))
}

/// The state at the head of the newest segment that says everything, because no read waited there,
/// if it is newer than `state`. Segments after it are replayed.
fn rested(shared: &Shared, mut state: State) -> State {
    let segments = log::segments(&shared.log_dir()).unwrap_or_default(); // then the log is replayed
    for segment in segments.iter().rev().take_while(|segment| segment.first > state.followed + 1) {
        let head = log::head_of(&segment.path).ok().flatten();
        let Some((json, offset)) = head else { continue };
        let Ok(head) = serde_json::from_str::<State>(&json) else { continue };
        if head.nothing_waits() && head.followed + 1 == segment.first {
            state.catch_up(head, &shared.rules());
            state.place = LogPlace { segment: segment.first, offset };
            return state;
        }
    }
    state
}

/// Follows the log from the state on until the state has caught up with the writer, and then
/// serves. `false`: the journal closes.
fn replay(shared: &Shared, queue: &mut Queue, mut state: State, segments: &gone::Segments) -> Result<bool, Broken> {
    let rules = shared.rules();
    state.duplicates = (0, shared.first);
    let Some(mut known) = catch_up::catch_up(shared, &state)? else { return Ok(false) };
    let mut target = shared.lock().durable;
    let mut entries = open_at(shared, &state, target)?;
    let (mut damage, mut segment) = (Damage::default(), None);
    loop {
        while state.followed < target
            && let Some(line) = entries.line()?
        {
            shared.follower.beat();
            match line {
                LogLine::Entry(entry) => {
                    damage.entry(state.followed, entry.seq, &entry.body, &entry.subject);
                    let repeat = known.take(&entry);
                    known.passed(entries.place());
                    known.save(&shared.board);
                    state.apply(&entry, &rules, repeat);
                    state.place = entries.place();
                }
                LogLine::State(json) if entries.place().segment > state.followed + 1 => {
                    adopt(&mut state, &json, entries.place(), &mut damage, &rules);
                }
                LogLine::State(_) | LogLine::Bad { .. } => {} // the check reports damage
            }
            if state.tail.len() >= CHECKPOINT_READS && !state.is_undecided() {
                let reads: Vec<Waiting> = state.tail.drain(..).collect();
                write_checkpoint(queue, &reads, &mut state)?;
                if *segment.get_or_insert(state.place.segment) < state.place.segment {
                    segment = Some(state.place.segment);
                    queue.begin_span(state.followed)?; // as it was when these reads were kept
                }
                shared.set_spans(queue.spans());
                if shared.lock().closing {
                    return Ok(false);
                }
            }
        }
        if damage.is_loss() {
            state.waiting = count_waiting(queue, &state)?;
        }
        if segments.any_missing(shared) {
            // The file is put back later, and a queue made without it would lack its reads.
            return Err(Broken::Corrupt("files of the log were removed or moved while it was read".into()));
        }
        let mut core = shared.lock();
        if core.closing {
            return Ok(false);
        }
        let caught_up = core.durable == target && (state.followed >= target || entries.place() == core.place);
        if caught_up {
            (state.followed, state.place) = (core.durable.max(state.followed), core.place);
            if core.lost || damage.is_loss() {
                state.doubt();
                core.wants_segment = true;
            }
            core.in_blocks = state.tail.front().map_or(state.followed, |waiting| waiting.read.seq.0 - 1);
            core.state = state;
            core.look_who_waits(None);
            core.nothing_before.clear();
            core.flushing = Arc::default();
            core.serving = true;
            known.live = true;
            *shared.known() = known;
            drop(core);
            shared.board.journal(|journal| journal.serving = true);
            shared.serving.send_replace(true);
            shared.changed.send_modify(|_| {});
            return Ok(true);
        }
        let place = if state.followed > 0 { state.place } else { entries.place() };
        drop(core);
        std::thread::sleep(Duration::from_millis(1)); // a group commit takes longer than this
        target = shared.lock().durable;
        // There may be a newer segment, and what was read ahead was not durable.
        entries = Entries::at(&shared.log_dir(), place, target)?
            .ok_or(Broken::Corrupt("the log changed while it was replayed".into()))?;
    }
}

/// The entries from the state's place in the log on, up to `target`. If that place no longer
/// exists, they begin with the next entry that is left.
fn open_at(shared: &Shared, state: &State, target: u64) -> Result<Entries, Broken> {
    let dir = shared.log_dir();
    let at = if state.followed > 0 { Entries::at(&dir, state.place, target)? } else { None };
    let entries = if at.is_some() { at } else { Entries::after(&dir, state.followed, target)? };
    entries.ok_or(Broken::Corrupt("there is no log".into()))
}

/// Counts the reads that no batch covers one by one, because after a loss the running sum is wrong.
fn count_waiting(queue: &Queue, state: &State) -> Result<u64, Broken> {
    let in_tail = state.tail.iter().filter(|waiting| state.is_waiting(&waiting.read)).count();
    Ok(queue.waiting(state)? + in_tail as u64)
}

/// Continues from the state at the head of a segment. Before that segment, lines are missing or
/// were removed because they were settled.
fn adopt(state: &mut State, json: &str, place: LogPlace, damage: &mut Damage, rules: &Rules) {
    let Ok(later) = serde_json::from_str::<State>(json) else { return };
    if state.followed > 0 {
        damage.gone(state.followed + 1, later.followed);
    }
    state.catch_up(later, rules);
    state.place = place;
}

/// How far a checkpoint covers the log.
struct Saved {
    followed: u64,
    /// How far the reads of each decoder are covered by batches.
    cursors: BTreeMap<Box<str>, u64>,
    /// Where the next start continues to read the log.
    place: LogPlace,
}

/// Whether the log began a new segment, so that a new span of the queue can begin.
fn segment_ended(core: &Core) -> bool {
    core.new_segment && core.serving
}

/// Writes down how far the log was written. An older mark only means that a later loss is known
/// less exactly.
fn mark_durable(shared: &Shared) {
    let mark = {
        let mut core = shared.lock();
        if core.mark.last >= core.durable {
            return; // a box that stands in a shed over the winter must not wear out its card
        }
        core.mark.last = core.durable;
        core.mark.clone()
    };
    write_mark(shared, &mark);
}

fn write_mark(shared: &Shared, mark: &WrittenMark) {
    if let Err(error) = mark::write(&shared.config.dir, mark) {
        tracing::warn!(%error, "the mark of how far the journal goes could not be written");
    }
}

/// Takes the tail and the state under the lock and writes them without the lock. If no read waits,
/// nothing is written, because the next start continues from the head of the segment. Returns from
/// where the next start continues.
fn checkpoint(shared: &Shared, queue: &mut Queue, saved: Option<Saved>) -> Result<Option<Saved>, Broken> {
    let mut core = shared.lock();
    if core.state.is_undecided() || !core.serving {
        return Ok(saved); // the next start continues from the last checkpoint
    }
    core.state.trim_tail();
    let ended = std::mem::take(&mut core.new_segment);
    queue.ends_span |= ended;
    if core.state.nothing_waits() {
        let cursors = core.state.cursors();
        let rest = core.rest.filter(|rest| saved.as_ref().is_none_or(|saved| saved.followed < rest.followed));
        return Ok(rest.map(|rest| Saved { followed: rest.followed, cursors, place: rest.place }).or(saved));
    }
    if saved.as_ref().is_some_and(|saved| saved.followed == core.state.followed) {
        return Ok(saved);
    }
    if std::mem::take(&mut queue.ends_span) {
        let followed = core.state.followed;
        drop(core);
        queue.begin_span(followed)?;
        core = shared.lock();
        core.state.trim_tail();
    }
    let reads = Arc::new(core.state.tail.drain(..).collect::<Vec<_>>());
    core.flushing = Arc::clone(&reads);
    let saved = Saved { followed: core.state.followed, cursors: core.state.cursors(), place: core.state.place };
    let json = state_json(&core.state);
    let identities = fresh_identities(&core.state, queue);
    core.mark = WrittenMark { last: saved.followed.max(core.mark.last), queue: saved.followed, ..core.mark.clone() };
    let mark = core.mark.clone();
    drop(core);
    write_mark(shared, &mark); // before the queue, so that the mark is never behind it
    let written = queue.checkpoint(&reads, &json, &identities);
    shared.set_spans(queue.spans());
    let mut core = shared.lock();
    core.flushing = Arc::default();
    if let Err(broken) = written {
        for waiting in reads.iter().rev() {
            core.state.tail.push_front(waiting.clone());
        }
        return Err(broken);
    }
    core.in_blocks = saved.followed;
    shared.turn.notify_all();
    Ok(Some(saved))
}

fn write_checkpoint(queue: &mut Queue, reads: &[Waiting], state: &mut State) -> Result<(), Broken> {
    let identities = fresh_identities(state, queue);
    queue.checkpoint(reads, &state_json(state), &identities)
}

fn fresh_identities(state: &State, queue: &Queue) -> Vec<Identities> {
    let fresh = state.decoders.iter().map(|(decoder, fold)| {
        let recent = &fold.recent;
        let written = queue.written().get(decoder).copied().unwrap_or(0);
        let missing = (recent.added - written.min(recent.added)).min(recent.len() as u64);
        Identities {
            decoder: decoder.clone(),
            added: recent.added,
            remembered: recent.len() as u64,
            fresh: recent.newest(missing as usize).collect(),
        }
    });
    fresh.filter(|identities| !identities.fresh.is_empty()).collect()
}
