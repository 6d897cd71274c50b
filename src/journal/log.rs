//! The log: append-only segments of text lines. The log is the truth, and everything else is
//! derived from it.
//!
//! What holds:
//! * A group is written with one `write` and one `fdatasync`. The next group begins only after that
//!   call returned, so a power cut can tear at most the *last* group of the *last* segment.
//! * A failed append is truncated back, so nothing half-written stays. After a failed `fdatasync`
//!   the log leaves the segment (the kernel may have dropped the pages and may call them clean) and
//!   writes the same group into a new segment. Before that, the log reads the acknowledged lines of
//!   the old segment back from the disk, because the page that could not be written may hold the
//!   end of the group before. If some of the newest lines are damaged, they are still in memory,
//!   and the new segment begins with them. Older damaged lines are reported by their numbers. Only
//!   while no new segment can be made is the same segment tried again. The whole group is then
//!   written anew, so no page of the group is taken for clean.
//! * A line counts only in the segment to whose range its number belongs:
//!   `first of this segment <= seq < first of the next`. So a group that was written again into the
//!   next segment does not count twice.
//! * A group is written over zeros that are there already, if there are any (`ahead`). Zeros up to
//!   the end of a file are the end of its lines.
//! * On opening, the bytes after the last whole line are cut off, and what a power cut tore out of
//!   the last group is covered (`tail`). A damaged line elsewhere stays in the file and costs only
//!   that line.
//! * A new segment is whole (`fdatasync` of the file, `fsync` of the directory) before a line is
//!   written into it.
//!
//! A segment is named after its first sequence number, so a missing segment is noticed. It begins
//! with lines that start with `#`: the format, the identity of the journal, and the state of the
//! fold at that point (so that older segments can be deleted).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::disk::{self, sync, sync_dir};
use super::entry::{BadLine, parse_numbers, seal};
use super::mark::WrittenMark;
use super::paths::make_dir;

mod ahead;
mod read;
mod segment;
mod tail;
mod zeros;

use ahead::{Ahead, give_back, give_back_closed};
pub use read::{LogLine, LogReader, begins_with_state, head_of, identity_of};
pub(crate) use segment::FORMATS;
pub(super) use segment::{FORMAT, Head};
pub use segment::{LINE_MAX, LogPlace, SegmentFile, segments};
pub(crate) use tail::Repair;
use tail::{mend, open_last};
pub(super) use zeros::end_of_lines;
use zeros::without_zeros;

/// The log, open for appending.
pub(crate) struct Log {
    dir: PathBuf,
    identity: String,
    file: File,
    place: LogPlace,
    /// The name of the segment is durable.
    named: bool,
    /// The file system does not show which file a name leads to, so a check by name finds nothing.
    blind: bool,
    /// The number that the next entry gets.
    pub next: u64,
    recent: Recent,
    /// The damaged ranges of a segment that is being left. `None` until the segment was read back.
    verified: Option<Vec<(u64, u64)>>,
    ahead: Ahead,
    /// Bytes of the last group.
    group: usize,
}

/// The newest durable lines of the segment, kept so that they can be written again.
#[derive(Default)]
struct Recent {
    lines: Vec<u8>,
    /// Number of the first of these lines.
    first: u64,
    /// Number after the last line. This process wrote all entries from `since` to here.
    next: u64,
    /// The first number that this process wrote into the segment.
    since: u64,
}

impl Recent {
    /// Bytes kept: far more than one page, or one erase block of a slow disk.
    const MAX: usize = 256 * 1024;

    fn new(next: u64) -> Self {
        Self { lines: Vec::new(), first: next, next, since: next }
    }

    fn push(&mut self, lines: &[u8], count: u64) {
        self.lines.extend_from_slice(lines);
        self.next += count;
        if self.lines.len() > Self::MAX {
            let from = self.lines.len() - Self::MAX / 2;
            let cut = memchr::memchr(b'\n', &self.lines[from..]).map_or(self.lines.len(), |at| from + at + 1);
            self.first += memchr::memchr_iter(b'\n', &self.lines[..cut]).count() as u64;
            self.lines.drain(..cut);
            self.lines.shrink_to(2 * Self::MAX);
        }
    }

    /// The lines from number `from` on. `from` must not be below `first`.
    fn from(&self, from: u64) -> &[u8] {
        let skip = (from - self.first) as usize;
        let ends = memchr::memchr_iter(b'\n', &self.lines);
        let start = if skip == 0 { 0 } else { ends.skip(skip - 1).map(|at| at + 1).next().unwrap_or(self.lines.len()) };
        &self.lines[start..]
    }
}

impl Log {
    /// Opens the log in `dir` (the directory is made if it is missing), or begins a log. Reads only
    /// the end of the last segment. `mark` says how far the log went when it was last known to be
    /// whole. If the log ends before that, it continues in a new segment, with numbers above the
    /// mark.
    pub(crate) fn open(dir: &Path, identity: &str, mark: Option<&WrittenMark>) -> io::Result<(Self, Repair)> {
        std::fs::create_dir_all(dir)?;
        let mut repair = Repair::default();
        let last = open_last(dir, &mut repair)?;
        let next = last.as_ref().map_or(1, |(_, _, tail)| tail.next);
        let from = repair.judge(next, last.is_none(), mark);
        if let Some((file, last, tail)) = last {
            let goes_on = from == next;
            if goes_on {
                mend(&file, last.bytes, &tail, &mut repair)?;
            }
            // A process that was killed may have left its last lines, and the name of the segment,
            // in memory only. From here on these lines count as kept.
            sync(&file)?;
            sync_dir(dir)?;
            if goes_on {
                let place = LogPlace { segment: last.first, offset: tail.end };
                let log = Self::at(dir, identity, file, place, next);
                let format = Head::read(&last.path)?.map_or(FORMAT, |head| head.format);
                give_back_closed(&segments(dir)?, place.segment);
                return Ok((Self { ahead: Ahead::new(format == FORMAT), ..log }, repair));
            }
        }
        let (file, place) = create_segment(dir, identity, from, None, &[])?;
        let mut log = Self { named: false, ..Self::at(dir, identity, file, place, from) };
        log.sync_name()?;
        Ok((log, repair))
    }

    fn at(dir: &Path, identity: &str, file: File, place: LogPlace, next: u64) -> Self {
        let (dir, identity, recent) = (dir.into(), identity.into(), Recent::new(next));
        let (ahead, group) = (Ahead::new(true), 0);
        Self { dir, identity, file, place, named: true, blind: false, next, recent, verified: None, ahead, group }
    }

    /// The place at which the next group is written.
    pub(crate) fn place(&self) -> LogPlace {
        self.place
    }

    /// Writes a group of `count` lines and makes it durable. On an error no part of the group
    /// remains in this segment.
    pub(crate) fn append(&mut self, lines: &[u8], count: u64) -> Result<(), AppendError> {
        if let Err(error) = disk::write_at(&self.file, lines, self.place.offset) {
            self.take_back();
            return Err(AppendError::Write(error));
        }
        if let Err(error) = sync(&self.file).and_then(|()| self.sync_name()) {
            self.take_back();
            return Err(AppendError::Sync(error));
        }
        self.place.offset += lines.len() as u64;
        self.group = lines.len();
        self.next += count;
        self.recent.push(lines, count);
        self.verified = None;
        Ok(())
    }

    /// Has more zeros written behind the lines if few are left. Another thread does that, so this
    /// call does not wait.
    pub(crate) fn ahead(&mut self) {
        let path = segment_path(&self.dir, self.place.segment);
        self.ahead.ask(path, &self.file, self.place.offset, self.group);
    }

    /// Gives the zeros behind the lines back. Nothing is appended any more.
    pub(crate) fn end(&mut self) {
        self.ahead.end();
        if let Err(error) = give_back(&self.file, self.place.offset) {
            tracing::warn!(%error, "the zeros at the end of the log stay until the next start");
        }
    }

    /// Whether this segment was begun by a version that wrote format 1.
    pub(crate) fn is_older(&self) -> bool {
        !self.ahead.is_on()
    }

    /// Whether the segment still has its name and all bytes that were written to it. People who
    /// need room remove, move or overwrite files. What is written into a file without a name is
    /// lost when the power fails.
    pub(crate) fn is_in_place(&self) -> bool {
        if self.blind {
            return true;
        }
        // The disk fails, and the next write will report it.
        let Ok(own) = self.file.metadata() else { return true };
        match std::fs::metadata(segment_path(&self.dir, self.place.segment)) {
            Ok(named) => (named.dev(), named.ino()) == (own.dev(), own.ino()) && self.has_lines(own.len()),
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Whether the open file, which has this length, still has the end of its lines. Zeros may have
    /// been written into one that somebody cut off.
    fn has_lines(&self, length: u64) -> bool {
        let mut last = [0];
        let read = self.file.read_at(&mut last, self.place.offset - 1);
        length >= self.place.offset && (read.is_err() || last == *b"\n")
    }

    /// Gives the segment that is being written a file of its name again, with all bytes that were
    /// written to it. The open file can still be read, whatever happened to its name. A file that
    /// now has that name is moved aside. If the open file was cut off, this returns the numbers
    /// that were lost, and the log continues in a new segment, which begins with `state`.
    pub(crate) fn restore(&mut self, state: Option<&str>) -> io::Result<Vec<(u64, u64)>> {
        make_dir(&self.dir)?;
        let path = segment_path(&self.dir, self.place.segment);
        let own = self.file.metadata()?;
        let stranger = std::fs::symlink_metadata(&path);
        if stranger.is_ok_and(|meta| (meta.dev(), meta.ino()) != (own.dev(), own.ino())) {
            disk::rename(&path, &path.with_extension("replaced"))?;
        }
        let lost = if !self.has_lines(own.len()) {
            self.verified = Some(self.verify(self.place.segment)?);
            self.leave(state)?
        } else {
            self.file = restore_segment(&self.file, self.place.offset, &self.dir, self.place.segment, "next.new")?;
            self.ahead.next(None);
            (self.named, self.verified) = (true, None);
            Vec::new()
        };
        // The log directory's own name may be new.
        sync_dir(self.dir.parent().unwrap_or(&self.dir))?;
        let path = segment_path(&self.dir, self.place.segment);
        let same = |meta: std::fs::Metadata| meta.len() == self.place.offset && meta.is_file();
        if !self.is_in_place() && std::fs::metadata(&path).is_ok_and(same) {
            // The file was written a moment ago, and yet its name seems to lead to another file. So
            // this file system numbers files in its own way, and the check is of no use on it.
            tracing::warn!(
                "the file system does not tell whether the log's file is still there: it is not looked at again"
            );
            self.blind = true;
        }
        Ok(lost)
    }

    /// Does the same as [`Log::restore`], but only for the lines from number `from` on, because the
    /// disk has no room for more. The new segment begins with these lines. The open file is
    /// dropped, and the room that it still takes is freed.
    pub(crate) fn restore_from(&mut self, from: u64, state: Option<&str>) -> io::Result<()> {
        make_dir(&self.dir)?;
        let from = from.clamp(self.place.segment, self.next);
        if from == self.next {
            return self.rotate(state);
        }
        let mut lines = Vec::new();
        let mut reader = BufReader::new(Handle { file: &self.file, at: 0 }.take(self.place.offset));
        let mut line = Vec::new();
        while reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
            if numbers_of(&line).is_ok_and(|(seq, _)| seq >= from) {
                lines.extend_from_slice(without_zeros(&line)); // at most the bytes of one segment
            }
            line.clear();
        }
        (self.file, self.place) = create_segment(&self.dir, &self.identity, from, None, &lines)?;
        self.ahead.next(None);
        (self.named, self.recent, self.verified) = (false, Recent::new(self.next), None);
        self.sync_name()?;
        sync_dir(self.dir.parent().unwrap_or(&self.dir))
    }

    /// Leaves a segment in which the disk failed, for a new segment. The new one begins with
    /// `state`, or with the lines that are damaged in the old one and still in memory. Returns the
    /// numbers of damaged lines that are no longer in memory: these are lost.
    pub(crate) fn leave(&mut self, state: Option<&str>) -> io::Result<Vec<(u64, u64)>> {
        // If not even this is possible, reading back is of no use.
        File::create(self.dir.join("next.new"))?;
        if self.verified.is_none() {
            self.verified = Some(self.verify(self.recent.since)?);
        }
        let damaged = self.verified.clone().unwrap_or_default();
        let first = self.recent.first; // from this number on, the lines are still in memory
        let gone = damaged.iter().filter(|(from, _)| *from < first);
        let lost = gone.map(|&(from, to)| (from, to.min(first - 1))).collect();
        let Some(&(from, _)) = damaged.iter().find(|(_, to)| *to >= first) else {
            self.rotate(state)?;
            return Ok(lost);
        };
        let from = from.max(first);
        let lines = self.recent.from(from);
        // A segment that replaces this whole segment begins as this one did, because the segments
        // before it may be deleted, and because places in it were noted.
        let state = if from == self.place.segment { self.state_at_head() } else { None };
        (self.file, self.place) = create_segment(&self.dir, &self.identity, from, state.as_deref(), lines)?;
        self.ahead.next(None);
        self.recent = Recent { lines: lines.to_vec(), first: from, next: self.next, since: from };
        (self.named, self.verified) = (false, None);
        self.sync_name()?;
        Ok(lost)
    }

    /// Reads the lines of the segment from number `since` on back, from the disk and not from
    /// memory where the kernel allows it. Returns the numbers that are missing.
    fn verify(&self, since: u64) -> io::Result<Vec<(u64, u64)>> {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        let mut reader = BufReader::new(Handle { file: &self.file, at: 0 }.take(self.place.offset));
        let (mut expected, mut damaged, mut line) = (since, Vec::new(), Vec::new());
        loop {
            line.clear();
            // If a page cannot be read, nothing is certain from there on.
            let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).unwrap_or(0);
            if read == 0 {
                break;
            }
            let Ok((seq, _)) = numbers_of(&line) else { continue };
            if seq > expected {
                damaged.push((expected, seq - 1));
            }
            expected = expected.max(seq + 1);
        }
        if expected < self.recent.next {
            damaged.push((expected, self.recent.next - 1));
        }
        Ok(damaged)
    }

    /// Begins a new segment at the next number. `state` is the fold at this point. A segment into
    /// which nothing was written yet is replaced. After an error, the log still has a segment that
    /// can be appended to.
    pub(crate) fn rotate(&mut self, state: Option<&str>) -> io::Result<()> {
        let own = self.state_of_empty();
        let state = own.as_deref().or(state);
        let (file, place) = create_segment(&self.dir, &self.identity, self.next, state, &[])?;
        let closed = std::mem::replace(&mut self.file, file);
        self.ahead.next(Some((closed, self.place.offset)));
        self.place = place;
        (self.named, self.recent, self.verified) = (false, Recent::new(self.next), None);
        self.sync_name()
    }

    /// The state at the head of this segment, if no entry follows it. The segment that replaces
    /// this one begins with the same bytes. A checkpoint may have noted the end of these bytes as
    /// the place to continue reading, and lines that were placed before it would be skipped.
    fn state_of_empty(&self) -> Option<String> {
        (self.place.segment == self.next).then(|| self.state_at_head()).flatten()
    }

    fn state_at_head(&self) -> Option<String> {
        read::state_at_head(&segment_path(&self.dir, self.place.segment)).ok().flatten()
    }

    fn sync_name(&mut self) -> io::Result<()> {
        if !self.named {
            sync_dir(&self.dir)?;
            self.named = true;
        }
        Ok(())
    }

    fn take_back(&mut self) {
        // If this fails too, the disk no longer works. The lines that stay are then skipped by
        // their range, or are recognised as the same numbers when the group is written again.
        if let Err(error) = disk::set_len(&self.file, self.place.offset).and_then(|()| sync(&self.file)) {
            tracing::error!(%error, "the log could not be truncated back after a failed append");
        }
        self.ahead.cut();
    }
}

/// Why a group could not be made durable.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Writing failed (full, read-only, I/O error). The same segment can be tried again.
    Write(io::Error),
    /// `fdatasync` failed, so nothing new may be written to this segment.
    Sync(io::Error),
}

/// The numbers of a line that ends with its line end.
fn numbers_of(line: &[u8]) -> Result<(u64, u64), BadLine> {
    parse_numbers(without_zeros(line.strip_suffix(b"\n").unwrap_or(line)))
}

/// The path of the segment that begins with number `first`.
pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:012}.log"))
}

/// Reads a file from a position of its own, even if others use the same handle.
struct Handle<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Handle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Writes the first `bytes` of an open segment, whose file has no name or whose name leads to
/// another file, under the segment's name, and makes both durable. `fresh` is the file's name until
/// then. Each thread must use a name of its own.
pub(crate) fn restore_segment(open: &File, bytes: u64, dir: &Path, first: u64, fresh: &str) -> io::Result<File> {
    const STEP: usize = 256 * 1024;
    let path = dir.join(fresh);
    let written = (|| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut buffer = vec![0; STEP];
        let mut at = 0;
        while at < bytes {
            let most = usize::try_from(bytes - at).unwrap_or(STEP).min(STEP);
            let count = open.read_at(&mut buffer[..most], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            disk::write_at(&file, &buffer[..count], at)?;
            at += count as u64;
        }
        sync(&file)?;
        disk::rename(&path, &segment_path(dir, first))?;
        sync_dir(dir)?;
        Ok(file)
    })();
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&path); // frees its room
    })
}

/// Makes a whole segment under another name first, because half a segment must not be taken for a
/// segment, and because the file that it may replace must keep its name if this fails. The name of
/// the new segment is not durable yet.
fn create_segment(
    dir: &Path,
    identity: &str,
    first: u64,
    state: Option<&str>,
    lines: &[u8],
) -> io::Result<(File, LogPlace)> {
    let mut head = Vec::new();
    head.extend_from_slice(Head { format: FORMAT, identity: identity.to_owned() }.text(first).as_bytes());
    seal(&mut head, 0);
    if let Some(state) = state {
        let start = head.len();
        head.extend_from_slice(b"#state\t");
        head.extend_from_slice(state.as_bytes()); // JSON contains no raw tab and no raw line end
        seal(&mut head, start);
    }
    head.extend_from_slice(lines);
    let fresh = dir.join("next.new");
    let made = (|| {
        let file = disk::write_fresh(&fresh, &head)?;
        disk::rename(&fresh, &segment_path(dir, first))?;
        Ok(file)
    })();
    match made {
        Ok(file) => Ok((file, LogPlace { segment: first, offset: head.len() as u64 })),
        Err(error) => {
            let _ = std::fs::remove_file(&fresh); // frees its room
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
