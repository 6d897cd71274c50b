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
//! * On opening, only the bytes after the last whole line are cut off. A damaged line elsewhere
//!   stays in the file and costs only that line.
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
use super::entry::{parse_numbers, seal, unseal};
use super::mark::WrittenMark;
use super::paths::make_dir;

mod read;
mod segment;

pub use read::{LogLine, LogReader, begins_with_state, head_of, identity_of};
use segment::MAGIC;
pub use segment::{LINE_MAX, LogPlace, SegmentFile, segments};

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

/// Bytes of a cut-off end that are kept in the note about it.
const CUT_KEPT: usize = 64 * 1024;
/// After a loss without a mark of the last number, the numbers continue at the next multiple of
/// this, plus one. That is far above any number that can have been given since the last mark.
const SKIP: u64 = 1_000_000;

/// What was found on opening that a person should know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Bytes after the last whole line that were cut off.
    pub cut_bytes: u64,
    /// The first of these bytes, for a person who wants to look at them.
    pub cut: Vec<u8>,
    /// Missing entries of the last group that are not known to have been acknowledged: the group
    /// was being written when the power failed.
    pub torn: Vec<(u64, u64)>,
    /// Entries that were kept and are missing: the log is shorter than the mark says, or its last
    /// group has a gap.
    pub lost: Vec<(u64, u64)>,
    /// Numbers that were left out, so that no number is given twice.
    pub skipped: Option<(u64, u64)>,
    /// Segments that could not be read at all, each with the reason. Their files are now named
    /// `.damaged`.
    pub unreadable: Vec<String>,
    /// The highest first number among these segments.
    floor: u64,
}

impl Repair {
    /// Divides the missing entries into torn and lost ones, and returns the number at which the log
    /// continues. That number is not below `next`, not below the first number of an unreadable
    /// segment, and above the last number that the mark says was durable.
    fn judge(&mut self, next: u64, all_gone: bool, mark: Option<&WrittenMark>) -> u64 {
        let floor = self.floor;
        let known = |&(_, to): &(u64, u64)| mark.is_some_and(|mark| mark.closed || to <= mark.last);
        (self.lost, self.torn) = std::mem::take(&mut self.torn).into_iter().partition(known);
        // Without any segment, nobody knows how far a journal went that was not closed.
        let short = |mark: &&WrittenMark| mark.last >= next.max(floor) || (all_gone && !mark.closed);
        let Some(mark) = mark.filter(short) else {
            if floor > next {
                self.lost.push((next, floor - 1));
            }
            return next.max(floor);
        };
        if mark.last >= next {
            self.lost.push((next, mark.last));
        }
        if mark.closed {
            return mark.last + 1;
        }
        let from = (mark.last / SKIP + 1) * SKIP + 1;
        self.skipped = Some((mark.last + 1, from - 1));
        from
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
            repair.cut_bytes = if goes_on { last.bytes.saturating_sub(tail.end) } else { 0 };
            if repair.cut_bytes > 0 {
                let mut cut = vec![0; (repair.cut_bytes as usize).min(CUT_KEPT)];
                file.read_exact_at(&mut cut, tail.end)?;
                repair.cut = cut;
                disk::set_len(&file, tail.end)?;
            }
            // A process that was killed may have left its last lines, and the name of the segment,
            // in memory only. From here on these lines count as kept.
            sync(&file)?;
            sync_dir(dir)?;
            if goes_on {
                let place = LogPlace { segment: last.first, offset: tail.end };
                return Ok((Self::at(dir, identity, file, place, next), repair));
            }
        }
        let (file, place) = create_segment(dir, identity, from, None, &[])?;
        let mut log = Self { named: false, ..Self::at(dir, identity, file, place, from) };
        log.sync_name()?;
        Ok((log, repair))
    }

    fn at(dir: &Path, identity: &str, file: File, place: LogPlace, next: u64) -> Self {
        let (dir, identity, recent) = (dir.into(), identity.into(), Recent::new(next));
        Self { dir, identity, file, place, named: true, blind: false, next, recent, verified: None }
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
        self.next += count;
        self.recent.push(lines, count);
        self.verified = None;
        Ok(())
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
            Ok(named) => (named.dev(), named.ino()) == (own.dev(), own.ino()) && own.len() >= self.place.offset,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
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
        let lost = if own.len() < self.place.offset {
            self.verified = Some(self.verify(self.place.segment)?);
            self.leave(state)?
        } else {
            self.file = restore_segment(&self.file, self.place.offset, &self.dir, self.place.segment, "next.new")?;
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
            if parse_numbers(line.strip_suffix(b"\n").unwrap_or(&line)).is_ok_and(|(seq, _)| seq >= from) {
                lines.extend_from_slice(&line); // at most the bytes of one segment
            }
            line.clear();
        }
        (self.file, self.place) = create_segment(&self.dir, &self.identity, from, None, &lines)?;
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
            let Ok((seq, _)) = parse_numbers(line.strip_suffix(b"\n").unwrap_or(&line)) else { continue };
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
        (self.file, self.place) = create_segment(&self.dir, &self.identity, self.next, state, &[])?;
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

/// Opens the last segment that has a whole line, and finds its end. Later segments without a whole
/// line are moved aside.
fn open_last(dir: &Path, repair: &mut Repair) -> io::Result<Option<(File, SegmentFile, Tail)>> {
    let mut files = segments(dir)?;
    while let Some(last) = files.pop() {
        let read = OpenOptions::new().read(true).write(true).open(&last.path).and_then(|file| {
            let tail = find_tail(&file, &last)?;
            Ok((file, tail))
        });
        match read {
            Ok((file, Some(tail))) => {
                repair.torn.clone_from(&tail.torn);
                return Ok(Some((file, last, tail)));
            }
            // No line of this segment is whole: the power failed while the segment was made, or all
            // of it is damaged. Nothing in it can be read, but it is not deleted, so that a person
            // can look at it.
            Ok((_, None)) if last.bytes == 0 => {}
            Ok((_, None)) => repair.unreadable.push(format!("{}: no line of it is whole", last.path.display())),
            Err(error) => repair.unreadable.push(unreadable(&last.path, error)?),
        }
        repair.floor = repair.floor.max(last.first);
        disk::rename(&last.path, &last.path.with_extension("damaged"))?;
        sync_dir(dir)?;
    }
    Ok(None)
}

/// A segment that cannot be read, in words, if that is its own fault. One that this user only may
/// not read, or a disk that is only for reading, is not damaged: it is left where it is, and tried
/// again.
fn unreadable(path: &Path, error: io::Error) -> io::Result<String> {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Err(error),
        io::ErrorKind::PermissionDenied => {
            let why = format!(
                "{} belongs to another user, and this one may not read and write it: {error}. It is not damaged. Was \
                 passbridge run by another user, or the file copied? Give it back with chown",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
        _ => Ok(format!("{}: {error}", path.display())),
    }
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
    head.extend_from_slice(format!("{MAGIC}\t{identity}\t{first}").as_bytes());
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

struct Tail {
    end: u64,
    next: u64,
    torn: Vec<(u64, u64)>,
}

/// Finds the end of the last whole line. It reads backwards until it has seen the beginning of the
/// last group. `None`: the segment has no whole line.
fn find_tail(file: &File, segment: &SegmentFile) -> io::Result<Option<Tail>> {
    let mut window = 256 * 1024;
    loop {
        let from = segment.bytes.saturating_sub(window);
        let mut bytes = vec![0; (segment.bytes - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        let mut scan = scan_tail(&bytes, from);
        let whole_file = from == 0;
        if let Some(first) = scan.first.filter(|first| whole_file && *first > segment.first) {
            // The first group of a segment may have lost its first lines.
            scan.gaps.push((segment.first, first - 1));
        }
        if let Some((seq, in_group)) = scan.last
            && (scan.first.is_some_and(|first| first < seq - in_group.min(seq)) || whole_file)
        {
            return Ok(Some(Tail {
                end: scan.end,
                next: (seq + 1).max(segment.first),
                torn: scan.holes(seq - in_group),
            }));
        }
        if whole_file {
            let empty = Tail { end: scan.head_end, next: segment.first, torn: Vec::new() };
            return Ok((scan.head_end > 0).then_some(empty));
        }
        window *= 4;
    }
}

struct TailScan {
    /// Number of the first whole entry in the window.
    first: Option<u64>,
    /// Sequence number of the last whole entry, and its position in its group.
    last: Option<(u64, u64)>,
    /// End of the last whole line of any kind.
    end: u64,
    /// End of the last whole `#` line.
    head_end: u64,
    /// Jumps in the numbers: the entries between are missing.
    gaps: Vec<(u64, u64)>,
}

impl TailScan {
    /// The gaps inside the group that begins at number `group`.
    fn holes(&self, group: u64) -> Vec<(u64, u64)> {
        self.gaps.iter().filter(|gap| gap.1 >= group).map(|&(from, to)| (from.max(group), to)).collect()
    }
}

fn scan_tail(bytes: &[u8], from: u64) -> TailScan {
    let mut scan = TailScan { first: None, last: None, end: 0, head_end: 0, gaps: Vec::new() };
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        start = end + 1;
        if line.first() == Some(&b'#') {
            if unseal(line).is_ok() {
                scan.head_end = from + start as u64;
                scan.end = scan.end.max(scan.head_end);
            }
            continue;
        }
        let Ok((seq, in_group)) = parse_numbers(line) else { continue };
        scan.end = from + start as u64;
        if let Some((before, _)) = scan.last
            && seq > before + 1
        {
            scan.gaps.push((before + 1, seq - 1));
        }
        scan.first.get_or_insert(seq);
        scan.last = Some((seq, in_group));
    }
    scan
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::journal::entry::{Body, Entry, write_line};

    /// Makes the next sync fail, and overwrites bytes of its file from an offset on.
    fn fail_sync(offset: u64, with: &'static [u8]) {
        disk::scripted::at_next_sync(move |file| {
            file.write_all_at(with, offset)?;
            Err(io::Error::from_raw_os_error(5))
        });
    }

    #[test]
    fn a_file_of_another_user_is_named_as_that_and_not_as_damage() {
        let path = Path::new("/var/lib/passbridge/log/000000000001.log");
        let error = unreadable(path, io::Error::from_raw_os_error(13)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        assert!(text.contains("000000000001.log belongs to another user") && text.contains("not damaged"), "{text}");
        assert!(unreadable(path, io::Error::from_raw_os_error(30)).is_err(), "a disk that is only for reading");
        assert!(unreadable(path, io::Error::from_raw_os_error(5)).unwrap().contains("Input/output error"));
    }

    fn all(dir: &Path) -> (Vec<u64>, usize) {
        let mut reader = LogReader::open(dir, None).unwrap().unwrap();
        let (mut seqs, mut bad) = (Vec::new(), 0);
        while let Some(line) = reader.read().unwrap() {
            match line {
                LogLine::Entry(entry) => seqs.push(entry.seq),
                LogLine::Bad { .. } => bad += 1,
                LogLine::State(_) => {}
            }
        }
        (seqs, bad)
    }

    /// Makes a log with `before` entries, and one more that the disk failed to sync, and damages
    /// the segment at `at(its end)`. Returns the lost ranges, the numbers that are left, and the
    /// count of bad lines.
    fn failed_sync(before: u64, at: impl Fn(u64) -> u64, with: &'static [u8]) -> (Vec<(u64, u64)>, Vec<u64>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        let group: Vec<u8> = (1..before).flat_map(note).collect();
        log.append(&group, before - 1).unwrap();
        log.append(&note(before), 1).unwrap();
        fail_sync(at(log.place().offset), with);
        assert!(matches!(log.append(&note(before + 1), 1), Err(AppendError::Sync(_))));
        let lost = log.leave(Some("{}")).unwrap();
        log.append(&note(before + 1), 1).unwrap();
        log.append(&note(before + 2), 1).unwrap();
        assert_eq!(Log::open(dir.path(), "id", None).unwrap().0.next, before + 3);
        let (seqs, bad) = all(dir.path());
        (lost, seqs, bad)
    }

    #[test]
    fn after_a_failed_sync_the_segment_is_left_and_the_group_is_there_once() {
        let (lost, seqs, bad) = failed_sync(10, |end| end, b"");
        assert_eq!((lost, seqs, bad), (vec![], (1..=12).collect(), 0));
    }

    #[test]
    fn what_a_failed_sync_damaged_of_the_groups_before_it_is_written_again_from_memory() {
        let (lost, seqs, bad) = failed_sync(10, |end| end - 70, b"XXXXXXXX");
        assert_eq!((lost, seqs, bad), (vec![], (1..=12).collect(), 1));
        // In the first line, so the whole segment is written again.
        let (lost, seqs, _) = failed_sync(10, |_| 60, b"XXXXXXXX");
        assert_eq!((lost, seqs), (vec![], (1..=12).collect()));
    }

    #[test]
    fn what_a_failed_sync_damaged_and_nobody_has_any_more_is_told_by_its_numbers() {
        let (lost, seqs, bad) = failed_sync(20_000, |_| 60, b"XXXXXXXX");
        assert_eq!((lost, bad), (vec![(1, 1)], 1));
        assert_eq!(seqs, (2..=20_002).collect::<Vec<_>>());
    }

    /// Numbers of the entries in a log.
    fn numbers(dir: &Path) -> Vec<u64> {
        let mut reader = LogReader::open(dir, None).unwrap().unwrap();
        let mut numbers = Vec::new();
        while let Some(line) = reader.read().unwrap() {
            match line {
                LogLine::Entry(entry) => numbers.push(entry.seq),
                LogLine::Bad { segment, line, why } => panic!("line {line} of {segment}: {why}"),
                LogLine::State(_) => {}
            }
        }
        numbers
    }

    #[test]
    fn a_segment_that_was_taken_away_is_whole_under_its_name_again_or_not_there_wherever_the_power_goes() {
        use super::disk::scripted::{self, Script};
        for cut in 0.. {
            let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            scripted::begin();
            let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
            for seq in 1..=3 {
                log.append(&note(seq), 1).unwrap();
            }
            assert!(log.is_in_place());
            let (place, file) = (log.place(), segment_path(dir.path(), 1));
            std::fs::rename(&file, dir.path().join("taken")).unwrap();
            assert!(!log.is_in_place());
            scripted::set(Script { cut_in: Some(cut), ..Script::default() });
            let restored = log.restore(None);
            let off = scripted::is_off();
            scripted::set(Script::default());
            if !off {
                assert_eq!((restored.unwrap(), log.place(), log.is_in_place()), (vec![], place, true));
                log.append(&note(4), 1).unwrap();
                assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
                scripted::end();
                return;
            }
            assert!(restored.is_err(), "cut {cut}");
            let mut rng = fastrand::Rng::with_seed(u64::from(cut));
            scripted::image(&[(dir.path(), next.path())], Some(&mut rng));
            scripted::end();
            if segment_path(next.path(), 1).exists() {
                assert_eq!(numbers(next.path()), [1, 2, 3], "cut {cut}");
            }
        }
    }

    #[test]
    fn of_a_segment_that_was_cut_off_the_newest_lines_are_written_again_and_the_others_told() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        let last = 20_000;
        for seq in 1..=last {
            log.append(&note(seq), 1).unwrap();
        }
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
        file.set_len(0).unwrap();
        assert!(!log.is_in_place());
        let lost = log.restore(None).unwrap();
        let [(1, to)] = lost[..] else { panic!("{lost:?}") };
        assert!(to < last - 100, "{to}");
        log.append(&note(last + 1), 1).unwrap();
        assert!(log.is_in_place());
        let readable: Vec<u64> = numbers(dir.path());
        assert_eq!(readable, (to + 1..=last + 1).collect::<Vec<_>>());
    }

    #[test]
    fn without_room_for_all_of_it_what_waits_is_put_back() {
        use super::disk::scripted::{self, Script};
        let dir = tempfile::tempdir().unwrap();
        scripted::begin();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        for seq in 1..=50 {
            log.append(&note(seq), 1).unwrap();
        }
        std::fs::remove_file(segment_path(dir.path(), 1)).unwrap();
        scripted::set(Script { room: Some(600), ..Script::default() });
        assert_eq!(log.restore(None).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(segments(dir.path()).unwrap(), [], "nothing half");
        scripted::set(Script { room: Some(600), ..Script::default() });
        log.restore_from(45, None).unwrap();
        assert_eq!(numbers(dir.path()), (45..=50).collect::<Vec<_>>());
        scripted::set(Script::default());
        log.append(&note(51), 1).unwrap();
        assert_eq!((numbers(dir.path()).len(), log.is_in_place()), (7, true));
        scripted::end();
    }

    fn note(seq: u64) -> Vec<u8> {
        in_group(seq, 0)
    }

    fn in_group(seq: u64, in_group: u64) -> Vec<u8> {
        let (body, time) = (Body::Note("text".into()), jiff::Timestamp::UNIX_EPOCH);
        let entry = Entry { seq, in_group, subject: "note".into(), time, body, raw: Box::default() };
        let mut line = Vec::new();
        write_line(&mut line, &entry);
        line
    }

    #[test]
    fn an_empty_segment_whose_successor_could_not_be_made_still_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        // The disk fails in the first append and once more while a new segment is made. Then it
        // works again.
        std::fs::create_dir(dir.path().join("next.new")).unwrap();
        assert!(log.rotate(None).is_err());
        log.append(&note(1), 1).unwrap();
        let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.next, repair), (2, Repair::default()));
    }

    #[test]
    fn an_empty_segment_is_replaced_by_one_that_begins_with_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.rotate(Some("{}")).unwrap();
        log.append(&note(1), 1).unwrap();
        let segments = segments(dir.path()).unwrap();
        assert_eq!(segments.len(), 1);
        assert!(begins_with_state(&segments[0].path).unwrap());
        assert_eq!(Log::open(dir.path(), "id", None).unwrap().0.next, 2);
    }

    #[test]
    fn what_a_killed_process_wrote_is_made_durable_before_it_counts_as_kept() {
        use super::disk::scripted::{self, Script};
        let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        scripted::begin();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        scripted::set(Script { cut_in: Some(1), killed: true, ..Script::default() });
        assert!(log.append(&note(1), 1).is_err(), "written, and not synced");
        scripted::image(&[(dir.path(), next.path())], None);
        let (log, _) = Log::open(next.path(), "id", None).unwrap();
        let file = segment_path(next.path(), 1);
        assert_eq!((log.next, scripted::durable_len(&file)), (2, std::fs::metadata(&file).unwrap().len()));
        scripted::end();
    }

    #[test]
    fn a_place_noted_in_an_empty_segment_stays_one_when_the_segment_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.append(&note(1), 1).unwrap();
        log.rotate(Some("{\"waiting\":1}")).unwrap();
        let noted = log.place();
        // The disk fails in the first append, while no state is available.
        for state in [None, Some("{}")] {
            log.rotate(state).unwrap();
            assert_eq!(log.place(), noted);
        }
        log.append(&note(2), 1).unwrap();
        let mut reader = LogReader::open(dir.path(), Some(noted)).unwrap().unwrap();
        assert!(matches!(reader.read().unwrap(), Some(LogLine::Entry(entry)) if entry.seq == 2));
        let amid = LogPlace { offset: noted.offset - 3, ..noted };
        assert!(LogReader::open(dir.path(), Some(amid)).unwrap().is_none(), "no place of a line");
    }

    #[test]
    fn the_first_lines_of_a_segment_that_a_power_cut_took_were_never_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        let head = log.place().offset;
        let group: Vec<u8> = (0..3).flat_map(|at| in_group(1 + at, at)).collect();
        log.append(&group, 3).unwrap();
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
        file.write_all_at(&[0; 20], head).unwrap();
        let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.next, repair.torn, repair.lost), (4, vec![(1, 1)], vec![]));
    }

    #[test]
    fn half_a_line_at_the_end_of_an_older_segment_is_reported_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.append(&note(1), 1).unwrap();
        log.rotate(None).unwrap();
        log.append(&note(2), 1).unwrap();
        let older = OpenOptions::new().append(true).open(segment_path(dir.path(), 1)).unwrap();
        (&older).write_all(b"2\t0\tno").unwrap();
        let mut reader = LogReader::open(dir.path(), None).unwrap().unwrap();
        let mut seqs = Vec::new();
        let mut bad = Vec::new();
        while let Some(line) = reader.read().unwrap() {
            match line {
                LogLine::Entry(entry) => seqs.push(entry.seq),
                LogLine::Bad { segment, line, .. } => bad.push((segment, line)),
                LogLine::State(_) => {}
            }
        }
        assert_eq!((seqs, bad), (vec![1, 2], vec![(1, 3)]));
    }
}
