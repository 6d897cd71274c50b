//! The segments of the log in which a span of time is, and a walk through them.
//!
//! The segments are found by the time of their first entry, without an index: whatever is asked for may be
//! a note, and the index of the export knows frames only.

use std::io;
use std::path::Path;

use crate::journal::entries::Entries;
use crate::journal::log::{LogPlace, SegmentFile, head_of, segments};
use crate::model::clock;

/// The segments, the oldest first.
pub(super) struct LogSpan<'a> {
    dir: &'a Path,
    files: Vec<SegmentFile>,
    /// Only entries up to this number count.
    through: u64,
}

/// A segment, open for reading.
pub(super) struct OpenSegment {
    /// The state at its head. A segment at the begin of the log has none.
    pub state: Option<String>,
    /// Its entries, from the first on.
    pub entries: Entries,
    /// Where it ends.
    pub end: LogPlace,
    /// The log begins with it.
    pub is_first: bool,
}

impl<'a> LogSpan<'a> {
    /// The segments with all entries from `from_ms` on, by the clock of the box, up to entry `through`.
    /// Segments may be among them that hold only earlier entries.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn since(dir: &'a Path, from_ms: i64, through: u64) -> io::Result<Self> {
        let mut files = segments(dir)?;
        let mut begin = files.len();
        while begin > 0 {
            begin -= 1;
            // A segment that begins before the span has its begin. A box that did not know the time says
            // nothing about the segment.
            if let Some(first) = first_time(dir, &files[begin])?
                && first.as_millisecond() < from_ms
                && clock::box_clock_set(first)
            {
                break;
            }
        }
        files.drain(..begin);
        Ok(Self { dir, files, through })
    }

    /// Leaves out the segments that begin after `to_ms`, and those behind them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn until(mut self, to_ms: i64) -> io::Result<Self> {
        let mut end = self.files.len();
        for (at, file) in self.files.iter().enumerate().skip(1) {
            if first_time(self.dir, file)?.is_some_and(|first| first.as_millisecond() >= to_ms) {
                end = at;
                break;
            }
        }
        self.files.truncate(end);
        Ok(self)
    }

    /// Bytes of all its segments.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether nothing was written before it.
    pub(super) fn begins_the_log(&self) -> bool {
        self.files.first().is_some_and(|file| file.first == 1)
    }

    /// Number of segments.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Opens a segment. `None`: it was removed meanwhile.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn open(&self, at: usize) -> io::Result<Option<OpenSegment>> {
        let Some(file) = self.files.get(at) else { return Ok(None) };
        let head = match head_of(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            head => head?,
        };
        let (state, offset) = head.map_or((None, 0), |(state, offset)| (Some(state), offset));
        let place = LogPlace { segment: file.first, offset };
        let Some(entries) = Entries::at(self.dir, place, self.through)? else { return Ok(None) };
        let end = self.files.get(at + 1).map_or(u64::MAX, |next| next.first);
        let end = LogPlace { segment: end, offset: 0 };
        Ok(Some(OpenSegment { is_first: file.first == 1, state, entries, end }))
    }
}

/// The time of the first entry of a segment. `None`: it has none.
fn first_time(dir: &Path, file: &SegmentFile) -> io::Result<Option<jiff::Timestamp>> {
    let place = LogPlace { segment: file.first, offset: 0 };
    let Some(mut entries) = Entries::at(dir, place, u64::MAX)? else { return Ok(None) };
    Ok(entries.entry()?.map(|entry| entry.time))
}
