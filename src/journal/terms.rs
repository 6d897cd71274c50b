//! What the journal is given, and what it answers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::chip::Seq;
use crate::model::clock::Zones;

/// Where the entries of one call are in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sequence number of the first frame kept.
    pub first: Seq,
    /// Sequence number of the last frame kept; frames of one call have consecutive numbers.
    pub last: Seq,
}

/// Where and how the journal keeps.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Data directory; one process at a time.
    pub dir: PathBuf,
    /// Dead time: least gap between two passings of a chip at one decoder; zero: every read is a passing.
    pub dead_time: Duration,
    /// Zones of the decoders' clocks: what day a stamp without a date is of.
    pub zones: Zones,
    /// Days that uploaded reads are kept, as the box's clock counts them from the end of their segment; see `age`.
    pub keep_days: u32,
    /// Bytes that log and queue may use; unsettled reads never go.
    pub keep_bytes: u64,
    /// Size at which a new segment is begun.
    pub segment_bytes: u64,
}

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal was closed (the process is stopping).
    #[error("the journal is closed")]
    Closed,
}

/// Why the journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another passbridge process: stop that one first, or give this one its own data_dir", .0.display())]
    InUse(PathBuf),
    /// The file system says no.
    #[error("the journal in {} cannot be opened: {error}", dir.display())]
    Io {
        /// Data directory.
        dir: PathBuf,
        /// What it said.
        error: io::Error,
    },
}
