//! Reading the log: from a given place, across segments, and past whatever is damaged.
//!
//! Zeros up to the end of a file are the end of its lines. In the newest segment lines are written
//! over them while it is read, and a reader may see the end of a group before its beginning. So a
//! line with a zero in it is read once more before it counts as damaged.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{Head, LINE_MAX, LogPlace, SegmentFile, segments};
use super::zeros::without_zeros;
use crate::journal::entry::{BadLine, Entry, parse_line, parse_line_of, unseal};

/// The kernel's error when the disk cannot read.
const EIO: i32 = 5;
/// The smallest unit that a disk fails to read.
const PAGE: u64 = 4096;
/// Bytes for which the line buffer keeps its memory. Only a state is longer, and a state is rare.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Bytes that are read at once by whoever reads on.
const READ_ON: usize = 256 * 1024;
/// Bytes that are read at once by whoever wants a block of a segment.
const READ_A_BLOCK: usize = 32 * 1024;

/// One thing read from the log.
#[derive(Debug)]
pub enum LogLine {
    /// An entry.
    Entry(Box<Entry>),
    /// The state at the head of a segment.
    State(String),
    /// A damaged line. It costs only itself.
    Bad {
        /// First number of the segment.
        segment: u64,
        /// Line number in the file, from 1.
        line: u64,
        /// Why the line is no entry.
        why: BadLine,
    },
}

/// Reads the log from a given place, across segments.
pub struct LogReader {
    file: BufReader<File>,
    place: LogPlace,
    line: u64,
    /// Segments that are still to be read, the next one last.
    rest: Vec<SegmentFile>,
    /// First number of the segment after this one. Entries with this number or a higher one do not
    /// count here.
    before: u64,
    buffer: Vec<u8>,
    /// Where the line begins that was read again last.
    again: Option<u64>,
}

impl LogReader {
    /// Starts at `place`, or at the oldest segment if `place` is `None`. Returns `Ok(None)` if the
    /// segment is missing.
    pub fn open(dir: &Path, place: Option<LogPlace>) -> io::Result<Option<Self>> {
        let mut rest = segments(dir)?;
        rest.reverse();
        if let Some(place) = place {
            while rest.last().is_some_and(|segment| segment.first < place.segment) {
                rest.pop();
            }
            if rest.last().is_none_or(|segment| segment.first != place.segment || segment.bytes < place.offset) {
                return Ok(None);
            }
        }
        Self::begin(rest, place.map_or(0, |place| place.offset))
    }

    /// Starts at the beginning of the segment to which the entry after `followed` belongs. If there
    /// is no such segment, starts at the first one after it.
    pub fn open_after(dir: &Path, followed: u64) -> io::Result<Option<Self>> {
        let mut rest = segments(dir)?;
        rest.reverse();
        while let [.., next, _] = rest.as_slice()
            && next.first <= followed + 1
        {
            rest.pop();
        }
        Self::begin(rest, 0)
    }

    /// Starts at an offset of a segment, and ends with it. `before`: the first number of the next
    /// segment. Returns `Ok(None)` if the segment is gone, or if it has no such offset.
    pub fn open_segment(segment: &SegmentFile, before: u64, offset: u64) -> io::Result<Option<Self>> {
        match Self::begin_with(Vec::from([segment.clone()]), offset, READ_A_BLOCK) {
            Ok(reader) => Ok(reader.map(|reader| Self { before, ..reader })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn begin(rest: Vec<SegmentFile>, offset: u64) -> io::Result<Option<Self>> {
        Self::begin_with(rest, offset, READ_ON)
    }

    fn begin_with(mut rest: Vec<SegmentFile>, offset: u64, ahead: usize) -> io::Result<Option<Self>> {
        let Some(segment) = rest.pop() else { return Ok(None) };
        let mut file = File::open(&segment.path)?;
        if let Some(before) = offset.checked_sub(1) {
            let mut end = [0];
            if file.read_exact_at(&mut end, before).is_ok() && end != *b"\n" {
                return Ok(None); // this is not the segment in which the place was noted
            }
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Self {
            file: BufReader::with_capacity(ahead, file),
            place: LogPlace { segment: segment.first, offset },
            line: 0,
            before: rest.last().map_or(u64::MAX, |segment| segment.first),
            rest,
            buffer: Vec::new(),
            again: None,
        }))
    }

    /// Where the next line begins.
    pub fn place(&self) -> LogPlace {
        self.place
    }

    /// The next line, or `None` at the end of what is written. The last entries may not be durable
    /// yet, so the caller must stop at the last durable number.
    pub fn read(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let line = match line {
                Err(bad) => return Ok(Some(bad)),
                Ok(line) => without_zeros(&self.buffer[..line]),
            };
            if line.starts_with(b"#") {
                match unseal(line).map(|text| text.strip_prefix("#state\t").map(str::to_owned)) {
                    Ok(Some(state)) => return Ok(Some(LogLine::State(state))),
                    Ok(None) => continue,
                    Err(_) if self.read_again()? => continue,
                    Err(why) => return Ok(Some(self.bad(why))),
                }
            }
            match parse_line(line) {
                Ok(entry) if entry.seq < self.place.segment || entry.seq >= self.before => {}
                Ok(entry) => return Ok(Some(LogLine::Entry(Box::new(entry)))),
                Err(_) if self.read_again()? => {}
                Err(why) => return Ok(Some(self.bad(why))),
            }
        }
    }

    /// The next entry before `end` among those that `wanted` selects by sequence number, kind and
    /// text. Of all other entries only the checksum is checked, and no state is returned. `None`:
    /// no such entry follows before `end`.
    pub fn read_before(
        &mut self,
        end: LogPlace,
        mut wanted: impl FnMut(u64, &str, &str) -> bool,
    ) -> io::Result<Option<LogLine>> {
        while (self.place.segment, self.place.offset) < (end.segment, end.offset) {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let line = match line {
                Err(bad) => return Ok(Some(bad)),
                Ok(line) => without_zeros(&self.buffer[..line]),
            };
            let (from, before) = (self.place.segment, self.before);
            let parsed = match line.starts_with(b"#") {
                true => unseal(line).map(|_| None),
                false => {
                    parse_line_of(line, |seq, kind, text| (from..before).contains(&seq) && wanted(seq, kind, text))
                }
            };
            match parsed {
                Ok(None) => {}
                Ok(Some(entry)) => return Ok(Some(LogLine::Entry(Box::new(entry)))),
                Err(_) if self.read_again()? => {}
                Err(why) => return Ok(Some(self.bad(why))),
            }
        }
        Ok(None)
    }

    /// Reads a line into the buffer. Returns its length without the line end, or the damage that
    /// costs a line. `None`: no line follows.
    fn next_line(&mut self) -> io::Result<Option<Result<usize, LogLine>>> {
        loop {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_KEPT);
            let read = match (&mut self.file).take(LINE_MAX).read_until(b'\n', &mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    return self.skip_bad_page().map(|bad| Some(Err(bad)));
                }
                Err(error) => return Err(error),
            };
            if self.buffer.last() != Some(&b'\n') && (read as u64) < LINE_MAX {
                let half = LogLine::Bad { segment: self.place.segment, line: self.line + 1, why: BadLine::Damaged };
                if !self.next_segment()? {
                    return Ok(None);
                }
                if self.buffer.iter().any(|byte| *byte != 0) {
                    return Ok(Some(Err(half)));
                }
                continue;
            }
            self.place.offset += read as u64;
            self.line += 1;
            return Ok(Some(Ok(self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer).len())));
        }
    }

    /// Goes back to the line that was just read if it may be one that is being written. `false`: it
    /// is not, so it is damaged.
    fn read_again(&mut self) -> io::Result<bool> {
        let begin = self.place.offset - self.buffer.len() as u64;
        if !self.rest.is_empty() || self.again == Some(begin) || memchr::memchr(0, &self.buffer).is_none() {
            return Ok(false);
        }
        (self.again, self.place.offset) = (Some(begin), begin);
        self.line -= 1;
        self.file.seek(SeekFrom::Start(begin))?; // which also drops what was read ahead
        Ok(true)
    }

    /// Handles a page of the file that the disk cannot read. It costs the lines in that page, not
    /// the lines behind it.
    fn skip_bad_page(&mut self) -> io::Result<LogLine> {
        let at = self.place.offset + self.buffer.len() as u64;
        self.place.offset = (at / PAGE + 1) * PAGE;
        self.line += 1;
        self.file.seek(SeekFrom::Start(self.place.offset))?;
        Ok(self.bad(BadLine::Damaged))
    }

    fn bad(&self, why: BadLine) -> LogLine {
        LogLine::Bad { segment: self.place.segment, line: self.line, why }
    }

    /// Continues with the next segment. Returns `false` if none follows. The place then stays
    /// before the half line.
    fn next_segment(&mut self) -> io::Result<bool> {
        let (segment, file) = loop {
            let Some(segment) = self.rest.pop() else {
                self.file.seek(SeekFrom::Start(self.place.offset))?;
                return Ok(false);
            };
            match File::open(&segment.path) {
                Ok(file) => break (segment, file),
                // The numbers of this segment are then missing, and the check reports them.
                Err(error) => tracing::warn!(%error, segment = segment.first, "a log segment could not be opened"),
            }
        };
        self.file = BufReader::with_capacity(READ_ON, file);
        self.place = LogPlace { segment: segment.first, offset: 0 };
        self.line = 0;
        self.before = self.rest.last().map_or(u64::MAX, |segment| segment.first);
        self.again = None;
        Ok(true)
    }
}

/// Whether a segment can stand without the segments before it: it begins with the state of the
/// fold.
pub fn begins_with_state(path: &Path) -> io::Result<bool> {
    Ok(state_at_head(path)?.is_some())
}

/// The state of the fold with which a segment begins.
pub(super) fn state_at_head(path: &Path) -> io::Result<Option<String>> {
    Ok(head_of(path)?.map(|(state, _)| state))
}

/// The state of the fold with which a segment begins, and the offset of the line behind it.
pub fn head_of(path: &Path) -> io::Result<Option<(String, u64)>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    let mut offset = 0;
    for _ in 0..2 {
        line.clear();
        offset += (&mut file).take(LINE_MAX).read_until(b'\n', &mut line)? as u64;
        if line.starts_with(b"#state\t") {
            let text = unseal(line.strip_suffix(b"\n").unwrap_or(&line)).ok();
            let state = text.and_then(|text| text.strip_prefix("#state\t")).map(str::to_owned);
            return Ok(state.map(|state| (state, offset)));
        }
    }
    Ok(None)
}

/// The identity that the segments in `dir` carry, if any segment has a readable one.
pub fn identity_of(dir: &Path) -> io::Result<Option<String>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    for segment in segments(dir)? {
        if let Some(head) = Head::read(&segment.path)? {
            return Ok(Some(head.identity));
        }
    }
    Ok(None)
}
