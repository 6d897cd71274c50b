//! The journal in one thread, one step at a time: the code of its two threads, without the threads.
//! For tests.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::disk::scripted;
use super::entry::{Entry, parse_line};
use super::failpoint;
use super::follow::{Follower, Turn};
use super::log::{self, LogLine, LogReader};
use super::open::Parts;
use super::shared::AppendRequest;
use super::state::TAIL_MAX;
use super::writer::LogWriter;
use super::{Journal, JournalConfig, OpenError, verify};
use crate::status::Board;

pub use super::disk::scripted as disk;

/// A journal and what its threads would own.
pub struct Driven {
    pub journal: Journal,
    writer: LogWriter,
    follower: Follower,
    requests: mpsc::Receiver<AppendRequest>,
    /// A group was taken that the disk has not taken yet.
    refused: bool,
    lost: Vec<(u64, u64)>,
}

impl Driven {
    pub fn open(config: JournalConfig, board: Board) -> Result<Self, OpenError> {
        let (journal, Parts { log, requests, identity, oldest, durable, known }) =
            Journal::assemble(config, board, &[])?;
        let writer = LogWriter::new(&journal.shared, log);
        // What the thread `journal-check` does, before anything else happens.
        let damage = verify::read_all(&journal.shared, oldest, durable, known).ok().flatten().unwrap_or_default();
        let lost = damage.lost();
        Ok(Self { journal, writer, follower: Follower::new(&identity), requests, refused: false, lost })
    }

    /// One turn of the writer: it writes a group, or tries the refused group again. `false`: there
    /// was nothing to write, or the disk refuses the group.
    pub fn write(&mut self) -> bool {
        let shared = Arc::clone(&self.journal.shared);
        if !self.refused {
            let Ok(first) = self.requests.try_recv() else { return false };
            if first.is_empty() {
                self.writer.look(&shared);
                return self.write();
            }
            if !self.writer.take(&shared, first, || self.requests.try_recv().ok()) {
                return self.write();
            }
        }
        self.refused = !self.writer.commit(&shared);
        if self.refused {
            return false;
        }
        self.writer.rotate_if_due(&shared);
        true
    }

    /// Writes what rides with the next group.
    pub fn settle(&mut self) {
        if !self.journal.shared.lock().riders.is_empty() {
            self.journal.shared.settle_riders();
            self.write();
        }
    }

    /// Whether the disk refuses the group that is being written.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// One turn of the follower: it opens the queue if it is not open, and writes a checkpoint
    /// otherwise.
    pub fn follow(&mut self, prune: bool) {
        self.follower.step(&self.journal.shared, Turn { closing: false, checkpoint: true, prune, waited: false });
    }

    /// The entries that the start took for lost.
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.lost
    }

    pub fn serves(&self) -> bool {
        self.journal.shared.lock().serving
    }

    /// The last steps when the journal is closed.
    pub fn close(mut self) {
        self.settle();
        self.journal.shared.lock().closing = true;
        self.follower.step(&self.journal.shared, Turn { closing: true, checkpoint: true, prune: false, waited: false });
        self.writer.end();
        self.journal.shared.mark_closed();
    }

    /// The number of reads in memory, and its bound.
    pub fn tail(&self) -> (usize, usize) {
        (self.journal.shared.lock().tail_len(), TAIL_MAX)
    }
}

/// The negative control: whether uplinks of this thread are told of a batch before the group is
/// durable.
pub fn tell_early(early: bool) {
    failpoint::EARLY.set(early);
}

/// Segments of the log of a data directory, each as first number and path.
pub fn segments(dir: &Path) -> Vec<(u64, PathBuf)> {
    let segments = log::segments(&dir.join("log")).unwrap_or_default();
    segments.into_iter().map(|segment| (segment.first, segment.path)).collect()
}

/// Every entry in the log of a data directory, as the journal's own reader reads it.
pub fn entries(dir: &Path) -> BTreeMap<u64, Entry> {
    let mut found = BTreeMap::new();
    let Some(mut reader) = LogReader::open(&dir.join("log"), None).unwrap() else { return found };
    while let Some(line) = reader.read().unwrap() {
        if let LogLine::Entry(entry) = line {
            found.insert(entry.seq, *entry);
        }
    }
    found
}

/// The part of a log that would survive a power cut at this moment, read bit by bit.
#[derive(Default)]
pub struct Durable {
    /// For each segment, its inode, and how far it was read.
    read: BTreeMap<u64, (u64, usize)>,
}

impl Durable {
    /// The entries that became durable since the last call, in order.
    pub fn news(&mut self, dir: &Path) -> Vec<Entry> {
        let mut news = Vec::new();
        let mut segments: Vec<_> = segments(dir).into_iter().filter(|(_, path)| scripted::is_named(path)).collect();
        segments.reverse();
        while let Some((first, path)) = segments.pop() {
            let before = segments.last().map_or(u64::MAX, |next| next.0);
            let inode = std::fs::metadata(&path).unwrap().ino();
            let at = self.read.entry(first).or_default();
            if at.0 != inode {
                *at = (inode, 0);
            }
            let durable = scripted::durable_len(&path) as usize;
            if durable <= at.1 {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let whole = bytes[..durable].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = bytes[at.1.min(whole)..whole].split(|byte| *byte == b'\n');
            let entries = lines.filter_map(|line| parse_line(line).ok());
            news.extend(entries.filter(|entry| (first..before).contains(&entry.seq)));
            at.1 = whole.max(at.1);
        }
        news
    }
}
