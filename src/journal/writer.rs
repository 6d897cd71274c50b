//! The writer: the one thread that appends to the log.
//!
//! It takes whatever waits as one group, numbers it, writes it with one `write` and one `fdatasync`, applies it to the
//! state, and only then answers. While the disk is full or fails it keeps the group and tries again; nobody who
//! waits for an answer gets one before the group is durable.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::entry::{Body, Entry, write_line};
use super::follow::{Shared, state_at, wait_for_room};
use super::log::{AppendError, Log};
use super::verify::in_words;
use super::{JournalError, Kept, room};
use crate::chip::Seq;

/// Entries of a group after which no further request is taken in.
const GROUP_ENTRIES: usize = 4096;
/// Requests that wait; more wait in their callers.
pub const REQUESTS: usize = 1024;
/// Time between tries while the disk is full or fails.
const RETRY: Duration = Duration::from_millis(250);

/// An entry to be numbered: subject, time, content, raw bytes.
pub type Draft = (Box<str>, Timestamp, Body, Box<[u8]>);

/// What callers ask of the writer.
pub struct Request {
    /// To be kept together, with consecutive numbers. Not empty.
    pub drafts: Vec<Draft>,
    /// Gets the numbers when they are durable.
    pub reply: oneshot::Sender<Result<Kept, JournalError>>,
}

/// The thread's body: ends when every sender is gone or the journal closes.
pub fn run(shared: &Shared, log: Log, requests: mpsc::Receiver<Request>) {
    write(shared, log, requests);
    shared.lock().closing = true; // also when every handle was dropped
    shared.turn.notify_all();
}

fn write(shared: &Shared, mut log: Log, mut requests: mpsc::Receiver<Request>) {
    let mut lines = Vec::new();
    let mut volume_day = shared.board.now().as_second() / 86_400;
    while let Some(first) = requests.blocking_recv() {
        if shared.lock().closing {
            return; // those who wait hear that the journal is closed
        }
        let mut entries = Vec::new();
        let mut replies = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            let from = log.next + entries.len() as u64;
            for (subject, time, body, raw) in request.drafts {
                let in_group = entries.len() as u64;
                entries.push(Entry { seq: log.next + in_group, in_group, subject, time, body, raw });
            }
            replies.push((Kept { first: Seq(from), last: Seq(log.next + entries.len() as u64 - 1) }, request.reply));
            next = if entries.len() < GROUP_ENTRIES { requests.try_recv().ok() } else { None };
        }
        lines.clear();
        for entry in &entries {
            write_line(&mut lines, entry);
        }
        if !append(shared, &mut log, &lines, entries.len() as u64) {
            return; // closing
        }
        let head = Seq(log.next - 1);
        shared.follow(&mut shared.lock(), &entries, log.place());
        shared.board.journal(|journal| (journal.head, journal.durable) = (head.0, head.0));
        shared.changed.send_replace(head);
        for (kept, reply) in replies {
            let _ = reply.send(Ok(kept)); // a caller that went away does not undo what is kept
        }
        wait_for_room(shared);
        let today = shared.board.now().as_second() / 86_400;
        let wanted = std::mem::take(&mut shared.lock().wants_volume);
        if wanted || log.place().offset >= shared.config.volume_bytes || today > volume_day {
            volume_day = volume_day.max(today);
            rotate(shared, &mut log);
        }
        if lines.capacity() > 4 * 1024 * 1024 {
            lines = Vec::new();
        }
    }
}

/// Makes the group durable, however long it takes. `false`: the journal closes first.
fn append(shared: &Shared, log: &mut Log, lines: &[u8], count: u64) -> bool {
    let mut failed = false;
    loop {
        let error = match log.append(lines, count) {
            Ok(()) => {
                if failed {
                    recovered(shared);
                }
                return true;
            }
            Err(AppendError::Write(error)) if is_full(&error) => error,
            // The disk did not do what it was told: this volume is left, the same group goes into a new one.
            Err(AppendError::Write(error) | AppendError::Sync(error)) => {
                match log.leave(state_at(shared, log.next).as_deref()) {
                    Ok(lost) => {
                        tracing::warn!(%error, "a log volume could not be written; going on in a new one");
                        shared.lock().new_volume = true;
                        tell_lost(shared, &lost);
                        shared.board.raise(
                            "disk_error",
                            "",
                            format!("the disk failed once ({error}): copy the data and replace it soon"),
                        );
                        continue;
                    }
                    Err(full) if is_full(&full) => full, // then there is something to be done about it
                    Err(_) => error,
                }
            }
        };
        failed = true;
        let message = if is_full(&error) {
            if room::release_reserve(&shared.config.dir) {
                tracing::warn!("the disk is full: the reserve was given up");
                continue;
            }
            format!(
                "the disk is full ({error}): free some room on {}; reads wait in memory",
                shared.config.dir.display()
            )
        } else {
            format!("the disk does not take the journal ({error}): check it; reads wait in memory")
        };
        shared.board.not_ready("disk", Some(message.clone()));
        shared.board.raise(if is_full(&error) { "disk_full" } else { "disk_failed" }, "", message);
        let core = shared.lock();
        let (core, _) = shared
            .turn
            .wait_timeout_while(core, RETRY, |core| !core.closing)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if core.closing {
            return false;
        }
    }
}

/// What was acknowledged and could not be read back after the disk failed.
fn tell_lost(shared: &Shared, lost: &[(u64, u64)]) {
    if !lost.is_empty() {
        let message = format!(
            "the disk failed, and entries {} that were kept before cannot be read back: take what is missing from the \
             decoder's memory or the backup system, and replace the disk",
            in_words(lost)
        );
        shared.board.raise("log_lost", "", message);
    }
}

fn recovered(shared: &Shared) {
    shared.board.not_ready("disk", None);
    shared.board.clear("disk_full", "");
    shared.board.clear("disk_failed", "");
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Begins a new volume with the state at its head; a failure only means that the old one goes on.
fn rotate(shared: &Shared, log: &mut Log) {
    let Some(state) = state_at(shared, log.next) else { return }; // replaying: later
    match log.rotate(Some(&state)) {
        Ok(()) => {
            shared.lock().new_volume = true;
            shared.turn.notify_all();
        }
        Err(error) => tracing::warn!(%error, "a new log volume could not be begun; the old one goes on"),
    }
}
