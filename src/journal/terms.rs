//! The configuration, the answers and the errors of the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::decoders::Framed;
use crate::model::chip::Seq;
use crate::model::clock::Zones;

/// The sequence numbers of the entries of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sequence number of the first frame kept.
    pub first: Seq,
    /// Sequence number of the last frame kept. The frames of one call have consecutive numbers.
    pub last: Seq,
}

/// Frames of one decoder or source ([`crate::model::source`]) that were received at the same time, at
/// least one and none of them [`Frame::Info`](crate::decoders::Frame::Info).
#[derive(Debug)]
pub struct Received {
    /// The decoder or source.
    pub source: Arc<str>,
    /// When they were received, by the box's clock.
    pub at: Timestamp,
    /// The frames, in order.
    pub frames: Vec<Framed>,
}

/// Where and how the journal keeps reads.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Data directory. Only one process uses it at a time.
    pub dir: PathBuf,
    /// Dead time: the least time between two passings of a chip at one decoder. If it is zero,
    /// every read is a passing.
    pub dead_time: Duration,
    /// Zones of the decoders' clocks. They decide to which day a stamp without a date belongs.
    pub zones: Zones,
    /// Days for which uploaded reads are kept, as the box's clock counts them from the end of their
    /// segment. See `age`.
    pub keep_days: u32,
    /// Bytes that log and queue may use. Reads that are not settled are never deleted.
    pub keep_bytes: u64,
    /// Size at which a new segment is begun.
    pub segment_bytes: u64,
}

/// Why an entry could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal was closed (the process is stopping).
    #[error("the journal is closed")]
    Closed,
    /// Room was to be made by hand, and it could not be found out what may go, or it could not be removed.
    #[error("no room was made: the card does not answer, or files cannot be removed; `passbridge status` says more")]
    NoRoomMade,
}

/// Why the journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the journal.
    #[error("{} is in use by another passbridge process: stop that one first, or give this one its own data_dir", .0.display())]
    InUse(PathBuf),
    /// A newer version wrote the log. Nothing was changed.
    #[error(
        "the journal in {} was written by a newer version of passbridge (log format {format}), and this one cannot read it: \
         install the newer version again, or give this one its own data_dir. Nothing was changed",
        dir.display()
    )]
    Newer {
        /// Data directory.
        dir: PathBuf,
        /// Format of its log.
        format: u32,
    },
    /// The file system reported an error.
    #[error("the journal in {} cannot be opened: {error}", dir.display())]
    Io {
        /// Data directory.
        dir: PathBuf,
        /// The error of the file system.
        error: io::Error,
    },
}
