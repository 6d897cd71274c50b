//! The entries of the log in order, up to a number: how everything reads what was kept.
//!
//! Only entries up to that number count as kept, because the last lines of the newest segment may
//! not have been synced yet. In the process that writes the log, the number is that of the journal
//! ([`Journal::durable`](super::Journal::durable)). Another process asks for it over the control
//! socket. [`Entries`] ends there, whoever reads: export, audit, the checks at a start, and the
//! cursors of this process ([`super::reader`]).

use std::io;
use std::path::Path;

use super::entry::Entry;
use super::log::{LogLine, LogPlace, LogReader, SegmentFile};

/// Reads the log from a given place up to a number.
pub struct Entries {
    log: LogReader,
    through: u64,
    /// An entry above the number was met.
    ended: bool,
}

impl Entries {
    /// Begins with the oldest segment in `dir`. `None`: there is no segment.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn all(dir: &Path, through: u64) -> io::Result<Option<Self>> {
        Ok(LogReader::open(dir, None)?.map(|log| Self::of(log, through)))
    }

    /// Begins at `place`. `None`: the log has no such place.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn at(dir: &Path, place: LogPlace, through: u64) -> io::Result<Option<Self>> {
        Ok(LogReader::open(dir, Some(place))?.map(|log| Self::of(log, through)))
    }

    /// Begins at an offset of a segment, and ends with the segment. Entries from number `before` on do
    /// not count in it. It reads little ahead, for whoever wants a few blocks. `None`: the segment was
    /// removed, or has no such offset.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn of_segment(file: &SegmentFile, before: u64, offset: u64, through: u64) -> io::Result<Option<Self>> {
        Ok(LogReader::open_segment(file, before, offset)?.map(|log| Self::of(log, through)))
    }

    /// Begins with the segment of the entry after `followed`, or with the first one that follows.
    /// Entries up to `followed` may come first. `None`: there is no segment.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn after(dir: &Path, followed: u64, through: u64) -> io::Result<Option<Self>> {
        Ok(LogReader::open_after(dir, followed)?.map(|log| Self::of(log, through)))
    }

    fn of(log: LogReader, through: u64) -> Self {
        Self { log, through, ended: false }
    }

    /// Where the next line begins. Once an entry above the number was met, that is behind it.
    pub(crate) fn place(&self) -> LogPlace {
        self.log.place()
    }

    /// Where it ends.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    /// The next line: an entry, a state, or damage. `None`: no entry up to the number follows.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn line(&mut self) -> io::Result<Option<LogLine>> {
        if self.ended {
            return Ok(None);
        }
        let line = self.log.read()?;
        Ok(self.within(line))
    }

    /// The next entry, past states and damage. `None`: no entry up to the number follows.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn entry(&mut self) -> io::Result<Option<Entry>> {
        while let Some(line) = self.line()? {
            if let LogLine::Entry(entry) = line {
                return Ok(Some(*entry));
            }
        }
        Ok(None)
    }

    /// The next entry before `end` among those that `wanted` selects by sequence number, kind and
    /// text, or the next damage. `None`: neither follows.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn line_before(
        &mut self,
        end: LogPlace,
        mut wanted: impl FnMut(u64, &str, &str) -> bool,
    ) -> io::Result<Option<LogLine>> {
        if self.ended {
            return Ok(None);
        }
        let through = self.through;
        let line = self.log.read_before(end, |seq, kind, text| seq > through || wanted(seq, kind, text))?;
        Ok(self.within(line))
    }

    fn within(&mut self, line: Option<LogLine>) -> Option<LogLine> {
        self.ended |= matches!(&line, Some(LogLine::Entry(entry)) if entry.seq > self.through);
        line.filter(|_| !self.ended)
    }
}
