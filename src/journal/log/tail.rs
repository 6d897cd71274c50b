//! The end of the log as a start finds it: where the lines end, and what a power cut left of the
//! group that was being written.
//!
//! A group is written over zeros (see `ahead`). Until `fdatasync` returned, any page of it, and any
//! sector of a page, may be on the disk or still be zeros. The checksum of each line decides what is
//! whole. A start finds one of these:
//!
//! * **Only zeros behind the last whole line**: the box was killed or lost its power between two
//!   groups, or nothing of the group survived. The zeros are given back.
//! * **Bytes behind the last whole line that are no line**: the beginning of a group, or pieces from
//!   the middle of one. They are cut off, and that is durable before anything is appended. So no
//!   half line can survive behind newer lines. Their numbers are given again, because nobody has
//!   seen them.
//! * **Whole lines behind a hole in the last group**: they count. The group may be one that was
//!   acknowledged and that the disk damaged later, and then cutting off its end would lose reads
//!   that were kept. The numbers of the hole are not given again. If the mark says that they were
//!   durable, they are lost, and the hole stays as it is and is reported. Otherwise the power cut
//!   tore them out of a group that nobody has seen as kept. Then a line that begins with `#torn`
//!   covers the hole, so that no reader takes it for damage ever after. A batch behind the hole that
//!   numbers reads of this very group (`offer`) is covered as well: no POST carried it, and the read
//!   in the hole will come again from the decoder's memory, and would then be sent twice.
//! * **A hole before the last group**: impossible unless the disk lies, because each group is durable
//!   before the next one begins. The hole stays, and the check reports it by number.
//!
//! The lines of earlier groups that share a page, or even a sector, with the last group are in no
//! danger from a torn write: what is written there again are the same bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{SegmentFile, segments};
use super::zeros::{end_of_lines, without_zeros};
use crate::journal::disk::{self, sync_dir};
use crate::journal::entry::{Body, parse_line_of, parse_numbers, seal, unseal};
use crate::journal::mark::WrittenMark;
use crate::journal::upload::UploadEvent;

/// Bytes of a cut-off end that are kept in the note about it.
const CUT_KEPT: usize = 64 * 1024;
/// After a loss without a mark of the last number, the numbers continue at the next multiple of
/// this, plus one. That is far above any number that can have been given since the last mark.
const SKIP: u64 = 1_000_000;

/// What was found on opening that a person should know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Bytes of the last group that are no whole line: cut off, or covered.
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
    pub(super) fn judge(&mut self, next: u64, all_gone: bool, mark: Option<&WrittenMark>) -> u64 {
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

    /// Keeps bytes that are no line, without the zeros before them.
    fn keep(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let mut bytes = vec![0; ((to - from) as usize).min(CUT_KEPT)];
        file.read_exact_at(&mut bytes, from)?;
        let room = CUT_KEPT.saturating_sub(self.cut.len());
        let kept = without_zeros(&bytes);
        self.cut.extend_from_slice(&kept[..kept.len().min(room)]);
        self.cut_bytes += to - from;
        Ok(())
    }
}

/// Opens the last segment that has a whole line, and finds its end. Later segments without a whole
/// line are moved aside.
pub(super) fn open_last(dir: &Path, repair: &mut Repair) -> io::Result<Option<(File, SegmentFile, Tail)>> {
    let mut files = segments(dir)?;
    while let Some(last) = files.pop() {
        let read = OpenOptions::new().read(true).write(true).open(&last.path).and_then(|file| {
            let tail = find_tail(&file, &last)?;
            Ok((file, tail))
        });
        match read {
            Ok((file, Some(tail))) => {
                repair.torn = tail.holes.iter().map(|hole| hole.numbers).collect();
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
pub(super) fn unreadable(path: &Path, error: io::Error) -> io::Result<String> {
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

/// The end of a segment.
pub(super) struct Tail {
    /// End of the last whole line.
    pub end: u64,
    /// Where the zeros begin. What is before it and after `end` is no line.
    pub zeros: u64,
    /// The number that follows the last entry.
    pub next: u64,
    /// The holes in the last group.
    pub holes: Vec<Hole>,
    /// Batches of the last group behind the first hole that number reads of the group: the number
    /// of each, its first byte and the byte behind it.
    pub batches: Vec<(u64, u64, u64)>,
}

/// Missing entries between two whole lines.
#[derive(Clone, Copy)]
pub(super) struct Hole {
    /// First and last number.
    pub numbers: (u64, u64),
    /// First byte, and the byte after the last. `None`: these bytes also hold entries of groups
    /// before the last one.
    pub bytes: Option<(u64, u64)>,
}

/// Finds the end of the last whole line. It reads backwards until it has seen the beginning of the
/// last group. `None`: the segment has no whole line.
fn find_tail(file: &File, segment: &SegmentFile) -> io::Result<Option<Tail>> {
    let zeros = end_of_lines(file)?;
    let mut window = 256 * 1024;
    loop {
        let from = zeros.saturating_sub(window);
        let mut bytes = vec![0; (zeros - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        let scan = TailScan::of(&bytes, from, segment.first);
        let whole_file = from == 0;
        if let Some((seq, in_group)) = scan.last
            && (scan.first.is_some_and(|first| first < seq - in_group.min(seq)) || whole_file)
        {
            let group = seq - in_group.min(seq);
            let holes = scan.holes(group);
            let batches = if holes.is_empty() { Vec::new() } else { batches(&bytes, from, &holes, group) };
            return Ok(Some(Tail { end: scan.end, zeros, next: (seq + 1).max(segment.first), holes, batches }));
        }
        if whole_file {
            let (holes, batches) = (Vec::new(), Vec::new());
            let empty = Tail { end: scan.head_end, zeros, next: segment.first, holes, batches };
            return Ok((scan.head_end > 0).then_some(empty));
        }
        window *= 4;
    }
}

/// The batches behind the first of these holes that number reads of the group that begins at number
/// `group`. `bytes` begin at offset `from` of the segment.
fn batches(bytes: &[u8], from: u64, holes: &[Hole], group: u64) -> Vec<(u64, u64, u64)> {
    let behind = holes.iter().map(|hole| hole.numbers.0).min().unwrap_or(u64::MAX);
    let mut found = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = without_zeros(&bytes[start..end]);
        start = end + 1;
        let own = |seq: u64, kind: &str, _: &str| kind == "upload" && seq > behind;
        let Ok(Some(entry)) = parse_line_of(line, own) else { continue };
        if let Body::Upload(UploadEvent::Batch(batch)) = &entry.body
            && batch.through.0 >= group
        {
            found.push((entry.seq, from + (end - line.len()) as u64, from + end as u64 + 1));
        }
    }
    found
}

/// What a stretch of bytes at the end of a segment contains.
struct TailScan {
    /// Number of the first whole entry in it.
    first: Option<u64>,
    /// Sequence number of the last whole entry, and its position in its group.
    last: Option<(u64, u64)>,
    /// End of the last whole line of any kind.
    end: u64,
    /// End of the last whole `#` line.
    head_end: u64,
    /// Jumps in the numbers: the entries between are missing.
    gaps: Vec<Hole>,
}

impl TailScan {
    /// Looks through `bytes`, which begin at offset `from` of the segment with this first number.
    fn of(bytes: &[u8], from: u64, segment: u64) -> Self {
        let mut scan = Self { first: None, last: None, end: 0, head_end: 0, gaps: Vec::new() };
        // The first group of a segment may have lost its first lines.
        let mut before = (from == 0).then(|| segment.saturating_sub(1));
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = without_zeros(&bytes[start..end]);
            let begin = from + (end - line.len()) as u64;
            start = end + 1;
            if line.first() == Some(&b'#') {
                if unseal(line).is_ok() {
                    scan.head_end = from + start as u64;
                    scan.end = scan.head_end;
                }
                continue;
            }
            let Ok((seq, in_group)) = parse_numbers(line) else { continue };
            // Numbers rise in a segment. Others are those of a file that had this place before.
            if seq < segment || before.is_some_and(|before| seq <= before) {
                continue;
            }
            if let Some(before) = before.filter(|before| seq > before + 1) {
                scan.gaps.push(Hole { numbers: (before + 1, seq - 1), bytes: Some((scan.end, begin)) });
            }
            scan.end = from + start as u64;
            before = Some(seq);
            scan.first.get_or_insert(seq);
            scan.last = Some((seq, in_group));
        }
        scan
    }

    /// The gaps inside the group that begins at number `group`.
    fn holes(&self, group: u64) -> Vec<Hole> {
        let within = |gap: &Hole| {
            let (from, to) = gap.numbers;
            Hole { numbers: (from.max(group), to), bytes: gap.bytes.filter(|_| from >= group) }
        };
        self.gaps.iter().filter(|gap| gap.numbers.1 >= group).map(within).collect()
    }
}

/// Covers the holes that a power cut tore, and cuts off what follows the last whole line. The
/// caller makes this durable. Keeps what was there for the note about it.
pub(super) fn mend(file: &File, length: u64, tail: &Tail, repair: &mut Repair) -> io::Result<()> {
    let torn = tail.holes.iter().filter(|hole| repair.torn.contains(&hole.numbers));
    let mut torn: Vec<(u64, u64)> = torn.filter_map(|hole| hole.bytes).collect();
    if repair.lost.is_empty() && !torn.is_empty() {
        torn.extend(tail.batches.iter().map(|(_, from, to)| (*from, *to)));
        repair.torn.extend(tail.batches.iter().map(|(seq, ..)| (*seq, *seq)));
    }
    for (from, to) in torn {
        let Some(cover) = cover(to - from) else { continue };
        repair.keep(file, from, to)?;
        disk::write_at(file, &cover, from)?;
    }
    repair.keep(file, tail.end, tail.zeros)?;
    if length > tail.end {
        disk::set_len(file, tail.end)?;
    }
    Ok(())
}

/// A line of this length that says nothing. `None`: no line is so short, and no hole that an entry
/// left is.
fn cover(length: u64) -> Option<Vec<u8>> {
    const SEAL: usize = 10;
    let mut line = b"#torn\t".to_vec();
    let end = usize::try_from(length).ok()?.checked_sub(SEAL).filter(|end| *end >= line.len())?;
    line.resize(end, b'.');
    seal(&mut line, 0);
    Some(line)
}
