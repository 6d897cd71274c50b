//! Reading the log, from a place on, across volumes, around whatever is damaged.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::volume::{LINE_MAX, MAGIC, Place, VolumeFile, volumes};
use crate::journal::entry::{BadLine, Entry, parse_line, parse_line_of, unseal};

/// What the kernel answers when the disk cannot.
const EIO: i32 = 5;
/// The least that a disk fails to give.
const PAGE: u64 = 4096;
/// Bytes that the buffer of a line keeps; a longer one is a state, and rare.
const BUFFER_KEPT: usize = 1024 * 1024;

/// One thing read from the log.
#[derive(Debug)]
pub enum Line {
    /// An entry; `end` is the place behind it.
    Entry(Box<Entry>),
    /// The state at the head of a volume.
    State(String),
    /// A line that costs itself: volume, line number in the file (from 1), why.
    Bad {
        /// First number of the volume.
        volume: u64,
        /// Line number in the file, from 1.
        line: u64,
        /// Why.
        why: BadLine,
    },
}

/// Reads the log from a place on, across volumes.
pub struct Reader {
    file: BufReader<File>,
    place: Place,
    line: u64,
    /// Volumes still to come, the next one last.
    rest: Vec<VolumeFile>,
    /// First number of the volume after this one: entries from there on do not count here.
    before: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Starts at `place`; `None`: at the oldest volume. `Ok(None)` if the volume is not there.
    pub fn open(dir: &Path, place: Option<Place>) -> io::Result<Option<Self>> {
        let mut rest = volumes(dir)?;
        rest.reverse();
        if let Some(place) = place {
            while rest.last().is_some_and(|volume| volume.first < place.volume) {
                rest.pop();
            }
            if rest.last().is_none_or(|volume| volume.first != place.volume || volume.bytes < place.offset) {
                return Ok(None);
            }
        }
        Self::begin(rest, place.map_or(0, |place| place.offset))
    }

    /// Starts at the beginning of the volume in which the entry after `followed` belongs, or, if there is none, the
    /// first one after it.
    pub fn open_after(dir: &Path, followed: u64) -> io::Result<Option<Self>> {
        let mut rest = volumes(dir)?;
        rest.reverse();
        while let [.., next, _] = rest.as_slice()
            && next.first <= followed + 1
        {
            rest.pop();
        }
        Self::begin(rest, 0)
    }

    fn begin(mut rest: Vec<VolumeFile>, offset: u64) -> io::Result<Option<Self>> {
        let Some(volume) = rest.pop() else { return Ok(None) };
        let mut file = File::open(&volume.path)?;
        if let Some(before) = offset.checked_sub(1) {
            let mut end = [0];
            if file.read_exact_at(&mut end, before).is_ok() && end != *b"\n" {
                return Ok(None); // not the volume that the place was noted in
            }
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Self {
            file: BufReader::with_capacity(256 * 1024, file),
            place: Place { volume: volume.first, offset },
            line: 0,
            before: rest.last().map_or(u64::MAX, |volume| volume.first),
            rest,
            buffer: Vec::new(),
        }))
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next line. `None` at the end of what is written; entries that are not durable yet may be among
    /// the last, so the caller stops at the durable head.
    pub fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let line = match line {
                Err(bad) => return Ok(Some(bad)),
                Ok(line) => &self.buffer[..line],
            };
            if line.starts_with(b"#") {
                match unseal(line).map(|text| text.strip_prefix("#state\t").map(str::to_owned)) {
                    Ok(Some(state)) => return Ok(Some(Line::State(state))),
                    Ok(None) => continue,
                    Err(why) => return Ok(Some(self.bad(why))),
                }
            }
            match parse_line(line) {
                Ok(entry) if entry.seq < self.place.volume || entry.seq >= self.before => {}
                Ok(entry) => return Ok(Some(Line::Entry(Box::new(entry)))),
                Err(why) => return Ok(Some(self.bad(why))),
            }
        }
    }

    /// The next entry before `end`, of those that are `wanted` by sequence number, kind and text; of all others only the checksum
    /// is looked at, and no state is given. `None`: there is none before `end`.
    pub fn read_before(
        &mut self,
        end: Place,
        mut wanted: impl FnMut(u64, &str, &str) -> bool,
    ) -> io::Result<Option<Line>> {
        while (self.place.volume, self.place.offset) < (end.volume, end.offset) {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let line = match line {
                Err(bad) => return Ok(Some(bad)),
                Ok(line) => &self.buffer[..line],
            };
            let (from, before) = (self.place.volume, self.before);
            let parsed = match line.starts_with(b"#") {
                true => unseal(line).map(|_| None),
                false => {
                    parse_line_of(line, |seq, kind, text| (from..before).contains(&seq) && wanted(seq, kind, text))
                }
            };
            match parsed {
                Ok(None) => {}
                Ok(Some(entry)) => return Ok(Some(Line::Entry(Box::new(entry)))),
                Err(why) => return Ok(Some(self.bad(why))),
            }
        }
        Ok(None)
    }

    /// Reads a line into the buffer: its length without the line end, or what costs a line. `None`: there is none.
    fn next_line(&mut self) -> io::Result<Option<Result<usize, Line>>> {
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
                let half = Line::Bad { volume: self.place.volume, line: self.line + 1, why: BadLine::Damaged };
                if !self.next_volume()? {
                    return Ok(None);
                }
                if read > 0 {
                    return Ok(Some(Err(half)));
                }
                continue;
            }
            self.place.offset += read as u64;
            self.line += 1;
            return Ok(Some(Ok(self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer).len())));
        }
    }

    /// The disk cannot give a page of the file: that costs the lines in it, not what is behind it.
    fn skip_bad_page(&mut self) -> io::Result<Line> {
        let at = self.place.offset + self.buffer.len() as u64;
        self.place.offset = (at / PAGE + 1) * PAGE;
        self.line += 1;
        self.file.seek(SeekFrom::Start(self.place.offset))?;
        Ok(self.bad(BadLine::Damaged))
    }

    fn bad(&self, why: BadLine) -> Line {
        Line::Bad { volume: self.place.volume, line: self.line, why }
    }

    /// Goes on to the next volume. `false`: there is none; the place stays before the half line.
    fn next_volume(&mut self) -> io::Result<bool> {
        let (volume, file) = loop {
            let Some(volume) = self.rest.pop() else {
                self.file.seek(SeekFrom::Start(self.place.offset))?;
                return Ok(false);
            };
            match File::open(&volume.path) {
                Ok(file) => break (volume, file),
                // Its numbers are missing then, and are told.
                Err(error) => tracing::warn!(%error, volume = volume.first, "a log volume could not be opened"),
            }
        };
        self.file = BufReader::with_capacity(256 * 1024, file);
        self.place = Place { volume: volume.first, offset: 0 };
        self.line = 0;
        self.before = self.rest.last().map_or(u64::MAX, |volume| volume.first);
        Ok(true)
    }
}

/// Whether a volume can stand without the ones before it: it begins with the state of the fold.
pub fn begins_with_state(path: &Path) -> io::Result<bool> {
    Ok(state_at_head(path)?.is_some())
}

/// The state of the fold that a volume begins with.
pub(super) fn state_at_head(path: &Path) -> io::Result<Option<String>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for _ in 0..2 {
        line.clear();
        (&mut file).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.starts_with(b"#state\t") {
            let text = unseal(line.strip_suffix(b"\n").unwrap_or(&line)).ok();
            return Ok(text.and_then(|text| text.strip_prefix("#state\t")).map(str::to_owned));
        }
    }
    Ok(None)
}

/// The identity that the volumes in `dir` carry, if any tells.
pub fn identity_of(dir: &Path) -> io::Result<Option<String>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    for volume in volumes(dir)? {
        let mut line = Vec::new();
        BufReader::new(File::open(&volume.path)?).take(LINE_MAX).read_until(b'\n', &mut line)?;
        let head = unseal(line.strip_suffix(b"\n").unwrap_or(&line)).ok();
        let identity = head.and_then(|head| head.strip_prefix(MAGIC)?.strip_prefix('\t')?.split('\t').next());
        if let Some(identity) = identity {
            return Ok(Some(identity.to_owned()));
        }
    }
    Ok(None)
}
