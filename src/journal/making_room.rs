//! Room on the card by hand: what may go although its retention is not over, and its removal.
//!
//! The rule is that of pruning ([`super::room`]), which also removes the files: only the oldest segments go,
//! none that a sink owes a read of, none that a start still reads, and none with a passing that is set aside or
//! a read that is held back. Only the age and the size do not matter.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Journal;
use super::entry::parse_line_of;
use super::log::{self, SegmentFile};
pub use super::room_order::Freed;
use super::room_order::RoomOrder;
use super::terms::JournalError;
use crate::model::chip::Seq;

/// How long the removal may take. A card that does not answer must not hold the caller up for ever.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most segments in a list.
const LIST_MAX: usize = 500;

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Room {
    /// The oldest segments, each of which may go if all before it go.
    pub segments: Vec<RemovableSegment>,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Why nothing after them may go.
    pub then: &'static str,
}

/// A segment of the log that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovableSegment {
    /// Its first entry.
    pub first: u64,
    /// Its last entry: what `through` may be.
    pub last: u64,
    /// Its size.
    pub bytes: u64,
    /// Reads in it. All of them are settled: in the cloud, repeats, within the dead time, or dropped by choice.
    pub reads: u64,
    /// The receive time of its first read, by the clock of the box at that time.
    pub from: Option<Timestamp>,
    /// The receive time of its last read.
    pub to: Option<Timestamp>,
}

impl Journal {
    /// The segments that may go, the oldest first, with what they hold.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn room(&self) -> io::Result<Room> {
        // The follower finds out what may go now, and removes nothing.
        self.make_room(Seq(0)).await.map_err(io::Error::other)?;
        let journal = self.clone();
        let read = tokio::task::spawn_blocking(move || journal.read_room()).await;
        read.unwrap_or_else(|_| Err(io::Error::other("a task of it ended")))
    }

    fn read_room(&self) -> io::Result<Room> {
        let files = log::segments(&self.shared.log_dir())?;
        let through = self.shared.lock().removable;
        let free_bytes = super::reserve::free_bytes(self.dir()).unwrap_or(0);
        let mut segments = Vec::new();
        for pair in files.windows(2).take(LIST_MAX) {
            let [file, next] = pair else { break };
            let last = next.first - 1;
            let aside = self.shared.lock().state.has_set_aside(file.first, next.first);
            if aside {
                let then = "the next one has passings that are set aside, or reads that are held back";
                return Ok(Room { segments, free_bytes, then });
            }
            if last > through {
                break;
            }
            segments.push(held_by(file, last)?);
        }
        let then = "the next one has reads that are not settled, or is needed for the next start";
        Ok(Room { segments, free_bytes, then })
    }

    /// Removes the segments that may go and end with entry `through` or before it. Returns what went.
    ///
    /// # Errors
    /// The journal is closed, or the card does not answer. Nothing is removed later then.
    pub async fn make_room(&self, through: Seq) -> Result<Freed, JournalError> {
        let _one = self.turns.making_room.lock().await;
        self.serving().await;
        let (reply, answer) = oneshot::channel();
        self.shared.lock().room = Some(RoomOrder { through: through.0, done: Freed::default(), reply });
        self.shared.turn.notify_all();
        let answered = tokio::time::timeout(PATIENCE, answer).await;
        answered.ok().and_then(Result::ok).ok_or(JournalError::NoRoomMade)
    }
}

/// What a segment holds.
fn held_by(file: &SegmentFile, last: u64) -> io::Result<RemovableSegment> {
    use std::io::BufRead;
    let (mut reads, mut from, mut to) = (0, None, None);
    let opened = std::io::BufReader::new(std::fs::File::open(&file.path)?);
    for line in opened.split(b'\n') {
        let line = line?;
        let _ = parse_line_of(&line, |_, kind, text| {
            // A read that was released is counted where it was kept.
            if kind == "read" && !text.contains("let_go=") {
                let time: Option<Timestamp> = text.split('\t').nth(4).and_then(|time| time.parse().ok());
                reads += 1;
                from = from.or(time);
                to = time.or(to);
            }
            false
        });
    }
    Ok(RemovableSegment { first: file.first, last, bytes: file.bytes, reads, from, to })
}
