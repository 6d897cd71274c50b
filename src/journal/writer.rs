//! The writer: the only thread that appends to the log.
//!
//! The writer takes all waiting requests as one group, numbers the group, writes it with one
//! `write` and one `fdatasync`, applies it to the state, and only then answers. A group holds, in
//! this order: events that ride with it ([`Journal::record_later`](super::Journal::record_later)),
//! what callers ask to be kept, and the batches of its reads that go out at once
//! ([`super::offer`]). While the disk is
//! full or fails, the writer keeps the group and tries again. No caller gets an answer before the
//! group is durable.
//!
//! The watchdog sees each turn of the writer, and whether it waits for the disk ([`super::pulse`]).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::damage::{LOST, in_words, note};
use super::entry::{Body, Entry, write_line};
use super::failpoint;
use super::foresee;
use super::gone::{self, needed_from};
use super::log::{AppendError, Log, segment_path};
use super::offer::Numbered;
use super::shared::{AppendRequest, Draft, Rest, Shared, state_at, wait_for_room};
use super::start::{self, NotOurs};
use super::terms::Received;
use super::{JournalError, Kept, reserve};
use crate::decoders::{Frame, Framed};
use crate::model::chip::Seq;
use crate::status::ProblemCode;

/// Entries of a group after which no further request is added.
const GROUP_ENTRIES: usize = 4096;
/// Entries for which the writer keeps the memory from one group to the next: 0.3 MB.
const GROUP_USUAL: usize = 1024;
/// Bytes of a usual line.
const LINE_USUAL: usize = 160;
/// Requests that wait in the channel. Further ones wait in their callers.
pub(super) const REQUESTS: usize = 1024;
/// Time between two tries while the disk is full or fails.
const RETRY: Duration = Duration::from_millis(250);
/// Time between two tries to put back a segment that was removed.
const PUT_BACK_AGAIN: Duration = Duration::from_secs(2);

/// The body of the thread. It ends when every sender is dropped or the journal closes.
pub(super) fn run(shared: &Shared, log: Log, requests: mpsc::Receiver<AppendRequest>) {
    let mut writer = LogWriter::new(shared, log);
    write(shared, &mut writer, requests);
    writer.end();
    shared.lock().closing = true; // also when every handle was dropped
    shared.turn.notify_all();
}

fn write(shared: &Shared, writer: &mut LogWriter, mut requests: mpsc::Receiver<AppendRequest>) {
    while let Some(first) = requests.blocking_recv() {
        if shared.lock().closing {
            return; // the waiting callers get the answer that the journal is closed
        }
        failpoint::stop_writer();
        if first.is_empty() {
            shared.writer.at_disk(|| writer.look(shared));
            if writer.over {
                return;
            }
            continue;
        }
        if !writer.take(shared, first, || requests.try_recv().ok()) {
            continue;
        }
        while !writer.commit(shared) {
            if writer.over {
                return;
            }
            let core = shared.lock();
            let (core, _) = shared
                .turn
                .wait_timeout_while(core, RETRY, |core| !core.closing)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if core.closing {
                return;
            }
        }
        wait_for_room(shared);
        shared.writer.at_disk(|| writer.rotate_if_due(shared));
    }
}

/// The log and the group that is being made durable. Its methods never wait: [`write()`] waits
/// between the steps.
pub(super) struct LogWriter {
    log: Log,
    entries: Vec<Entry>, // slightly more than GROUP_ENTRIES at most
    lines: Vec<u8>,
    replies: Vec<(Kept, oneshot::Sender<Result<Kept, JournalError>>)>,
    /// How many of the events that wait for a group are in this one.
    riders: usize,
    /// The batches of this group's reads.
    numbered: Vec<Numbered>,
    /// The disk did not take the group at the last try.
    failed: bool,
    /// When putting back the removed segment was last tried.
    tried: Option<Instant>,
    /// The data directory now belongs to somebody else, so the process must end.
    pub over: bool,
    segment_day: i64,
}

impl LogWriter {
    /// A writer that continues at the end of `log`.
    pub(super) fn new(shared: &Shared, log: Log) -> Self {
        let segment_day = shared.board.now().as_second() / 86_400;
        let (entries, lines, replies) = (Vec::new(), Vec::new(), Vec::new());
        let (riders, numbered) = (0, Vec::new());
        Self { log, entries, lines, replies, riders, numbered, failed: false, tried: None, over: false, segment_day }
    }

    /// Makes the waiting requests, and what rides with them, the next group, and numbers it. The
    /// group before it must be committed. `false`: there is nothing to write, and the requests are
    /// answered.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        first: AppendRequest,
        mut more: impl FnMut() -> Option<AppendRequest>,
    ) -> bool {
        let riders = {
            let mut core = shared.lock();
            core.boarded = core.riders.len();
            core.riders.clone()
        };
        self.riders = riders.len();
        riders.into_iter().for_each(|rider| self.push(rider));
        let mut next = Some(first);
        while let Some(request) = next {
            let from = self.log.next + self.entries.len() as u64;
            for Received { source, at, frames } in request.received {
                self.entries.reserve(frames.len());
                for Framed { frame, raw } in frames {
                    if let Some(body) = body_of(frame) {
                        self.push((Arc::clone(&source), at, body, raw));
                    }
                }
            }
            request.drafts.into_iter().for_each(|draft| self.push(draft));
            // A request without entries gets the number of the last entry before it.
            let last = self.log.next + self.entries.len() as u64 - 1;
            self.replies.push((Kept { first: Seq(from.min(last)), last: Seq(last) }, request.reply));
            next = if self.entries.len() < GROUP_ENTRIES { more() } else { None };
        }
        self.numbered = foresee::number(shared, &self.entries);
        let batches: Vec<_> = self.numbered.iter().map(Numbered::event).collect();
        for event in batches {
            self.push((event.device().into(), shared.board.now(), Body::Upload(event), Box::default()));
        }
        if self.entries.is_empty() {
            self.answer();
            return false;
        }
        self.lines.clear();
        for entry in &self.entries {
            write_line(&mut self.lines, entry);
        }
        true
    }

    fn push(&mut self, (subject, time, body, raw): Draft) {
        let in_group = self.entries.len() as u64;
        // As the line has it, so that an entry is the same from memory and from the log.
        let time = Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
        self.entries.push(Entry { seq: self.log.next + in_group, in_group, subject, time, body, raw });
    }

    fn answer(&mut self) {
        for (kept, reply) in self.replies.drain(..) {
            let _ = reply.send(Ok(kept)); // the reads stay kept, even if the caller is gone
        }
    }

    /// Makes the group durable, applies it and answers. `false`: the disk does not take the group
    /// now, so try again.
    pub(super) fn commit(&mut self, shared: &Shared) -> bool {
        if failpoint::tells_early() {
            self.numbered.drain(..).for_each(Numbered::tell);
        }
        if !shared.writer.at_disk(|| self.append(shared)) {
            self.failed = true;
            return false;
        }
        self.recovered(shared);
        let head = Seq(self.log.next - 1);
        let found = shared.writer.at_disk(|| shared.look_up(&self.entries, self.log.place()));
        {
            let mut core = shared.lock();
            shared.follow(&mut core, &self.entries, self.log.place(), found);
            core.riders.drain(..std::mem::take(&mut self.riders));
            core.boarded = 0;
            core.riding_since = core.riding_since.filter(|_| !core.riders.is_empty());
        }
        shared.board.journal(|journal| (journal.head, journal.durable) = (head.0, head.0));
        // Before anything else, because the POST waits for nothing but this.
        self.numbered.drain(..).for_each(Numbered::tell);
        shared.recent.put(&mut self.entries, self.lines.len(), self.log.place());
        shared.changed.send_replace(head);
        self.answer();
        // The next group is probably no larger than this one. What a rare one took is given back.
        self.entries.clear();
        self.entries.shrink_to(GROUP_USUAL);
        self.lines.shrink_to(GROUP_USUAL * LINE_USUAL);
        true
    }

    /// Checks whether the segment is still in its place. Used while there is nothing to write.
    pub(super) fn look(&mut self, shared: &Shared) {
        let in_place = self.put_back(shared);
        if in_place {
            self.recovered(shared);
        }
        self.failed |= !in_place;
    }

    /// The disk did what it should. If it did not before, that is over.
    fn recovered(&mut self, shared: &Shared) {
        if std::mem::take(&mut self.failed) | shared.writer.take_told() {
            shared.disk_recovered();
        }
    }

    /// Makes sure that the segment exists under its name before more entries count as kept in it.
    /// `false`: the segment is missing and cannot be put back now.
    fn put_back(&mut self, shared: &Shared) -> bool {
        if self.log.is_in_place() {
            self.tried = None;
            return true;
        }
        // The whole segment may have to be copied, so this is not tried four times a second.
        if self.tried.is_some_and(|tried| tried.elapsed() < PUT_BACK_AGAIN) {
            return false;
        }
        self.tried = Some(Instant::now());
        let place = self.log.place();
        let from = place.segment;
        match start::hold_again(shared) {
            Ok(()) => {}
            Err(NotOurs::Io(error)) => {
                tell_failure(shared, &error);
                return false;
            }
            Err(NotOurs::Taken(why)) => {
                tracing::error!("{why}");
                shared.board.raise(ProblemCode::DataDirTaken, "", why);
                self.over = true;
                return false;
            }
        }
        let state = state_at(shared, self.log.next);
        let mut restored = self.log.restore(state.as_deref());
        if restored.as_ref().is_err_and(is_full) && reserve::release_reserve(&shared.config.dir) {
            restored = self.log.restore(state.as_deref());
        }
        if restored.as_ref().is_err_and(is_full) {
            // Only the reads that wait for the cloud are essential. The disk has no room for the
            // rest.
            let needed = needed_from(shared).max(from);
            restored = self.log.restore_from(needed, state.as_deref()).map(|()| match needed > from {
                true => vec![(from, needed - 1)],
                false => Vec::new(),
            });
        }
        match restored {
            Ok(lost) => {
                {
                    let mut core = shared.lock();
                    core.active = self.log.place().segment;
                    if self.log.place() != place {
                        // This is another file, so no noted place is valid in it. The waiting reads
                        // are therefore written to the queue, and the next segment begins with a
                        // state before which nothing is needed.
                        (core.new_segment, core.wants_segment) = (true, true);
                    }
                }
                tell_put_back(shared, from, self.log.next, &lost);
                self.tried = None;
                true
            }
            Err(error) => {
                tell_failure(shared, &error);
                false
            }
        }
    }

    /// Appends the group. If this segment fails, appends it in a new segment. `false`: the writer
    /// must wait for the disk.
    fn append(&mut self, shared: &Shared) -> bool {
        if !self.put_back(shared) {
            return false;
        }
        let Self { log, entries, lines, .. } = self;
        loop {
            let error = match log.append(lines, entries.len() as u64) {
                Ok(()) => return true,
                // This is not the disk: one file must not become so large (`ulimit -f`). The next
                // file may.
                Err(AppendError::Write(error))
                    if error.kind() == io::ErrorKind::FileTooLarge && log.place().segment != log.next =>
                {
                    match log.rotate(state_at(shared, log.next).as_deref()) {
                        Ok(()) => {
                            begun(shared, log);
                            continue;
                        }
                        Err(_) => error,
                    }
                }
                Err(AppendError::Write(error)) if is_full(&error) => error,
                // The disk did not do what it should: the writer leaves this segment and writes the
                // same group into a new one.
                Err(AppendError::Write(error) | AppendError::Sync(error)) => {
                    match log.leave(state_at(shared, log.next).as_deref()) {
                        Ok(lost) => {
                            tracing::warn!(%error, "a log segment could not be written; going on in a new one");
                            begun(shared, log);
                            tell_lost(shared, &lost);
                            shared.board.raise(
                                ProblemCode::DiskError,
                                "",
                                format!("the disk failed once ({error}): copy the data and replace it soon"),
                            );
                            continue;
                        }
                        // People can do something about a full disk.
                        Err(full) if is_full(&full) => full,
                        Err(_) => error,
                    }
                }
            };
            if is_full(&error) && reserve::release_reserve(&shared.config.dir) {
                tracing::warn!("the disk is full: the reserve was given up");
                continue;
            }
            tell_failure(shared, &error);
            return false;
        }
    }

    /// Begins a new segment if a new day began, if this segment is large enough, or if the follower
    /// asked for it.
    pub(super) fn rotate_if_due(&mut self, shared: &Shared) {
        let today = shared.board.now().as_second() / 86_400;
        let wanted = std::mem::take(&mut shared.lock().wants_segment);
        if wanted || self.log.place().offset >= shared.config.segment_bytes || today > self.segment_day {
            self.segment_day = self.segment_day.max(today);
            // While the log is still replayed there is no state. A wish is kept until there is one.
            let begun = rotate(shared, &mut self.log);
            shared.lock().wants_segment |= wanted && !begun;
        }
        self.log.ahead();
    }

    /// The last step: nothing is appended any more.
    pub(super) fn end(&mut self) {
        if !self.over {
            self.log.end();
        }
    }
}

/// What is kept of a frame. `None`: it is not kept.
fn body_of(frame: Frame) -> Option<Body> {
    Some(match frame {
        Frame::Read(read) => Body::Read(read),
        Frame::Marker(marker) => Body::Marker(marker),
        Frame::Rejected(reason) => Body::Rejected(reason.to_string().into()),
        Frame::Cleared(cleared) => Body::Cleared(cleared),
        Frame::Info(_) => return None,
    })
}

fn tell_failure(shared: &Shared, error: &io::Error) {
    let (code, message) = if is_full(error) {
        let dir = shared.config.dir.display();
        (ProblemCode::DiskFull, format!("the disk is full ({error}): free some room on {dir}; reads wait in memory"))
    } else {
        (
            ProblemCode::DiskFailed,
            format!("the disk does not take the journal ({error}): check it; reads wait in memory"),
        )
    };
    shared.board.not_ready("disk", Some(message.clone()));
    shared.board.raise(code, "", message);
}

/// Reports acknowledged entries that could not be read back after the disk failed.
fn tell_lost(shared: &Shared, lost: &[(u64, u64)]) {
    if !lost.is_empty() {
        let message = format!(
            "the disk failed, and entries {} that were kept before cannot be read back: take what is missing from the \
             decoder's memory or the backup system, and replace the disk",
            in_words(lost)
        );
        shared.board.raise(ProblemCode::LogLost, "", message);
    }
}

/// Reports that the segment being written was removed, and the outcome.
fn tell_put_back(shared: &Shared, from: u64, next: u64, lost: &[(u64, u64)]) {
    shared.lock().put_back = Some(Instant::now());
    shared.turn.notify_all();
    let dir = shared.log_dir();
    if lost.is_empty() {
        gone::tell_put_back(shared, &[(from, next.saturating_sub(1).max(from))]);
        return;
    }
    let message = format!(
        "the file of the log that is being written was removed, moved or cut off while passbridge runs ({}): entries {} are \
         gone from it. What of them waits for the cloud is still sent. Leave the files there alone; take what is missing for the \
         backup from where they went, or from the decoder's memory",
        dir.display(),
        in_words(lost)
    );
    let about = segment_path(&dir, from).display().to_string();
    shared.board.raise(ProblemCode::LogLost, &about, message.clone());
    shared.wake_writer(vec![(
        LOST.into(),
        shared.board.now(),
        Body::Note(note(lost, &message).into()),
        Box::default(),
    )]);
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Records that a new segment is being written.
fn begun(shared: &Shared, log: &Log) {
    let mut core = shared.lock();
    (core.new_segment, core.active) = (true, log.place().segment);
}

/// Begins a new segment with the state at its head. If this fails, the old segment continues.
/// `false`: there is no state to begin it with.
fn rotate(shared: &Shared, log: &mut Log) -> bool {
    let Some(state) = state_at(shared, log.next) else { return false };
    match log.rotate(Some(&state)) {
        Ok(()) => {
            begun(shared, log);
            let mut core = shared.lock();
            // The writer applies every entry, so the state is still that of the head.
            if core.serving && core.state.nothing_waits() {
                core.rest = Some(Rest { followed: log.next - 1, place: log.place() });
            }
            drop(core);
            shared.turn.notify_all();
        }
        Err(error) => tracing::warn!(%error, "a new log segment could not be begun; the old one goes on"),
    }
    true
}
