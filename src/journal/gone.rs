//! Segments of the log that somebody takes away from the running process: people who need room
//! remove, move or cut off the largest files that they find.
//!
//! Must hold:
//! * Entries that wait for the cloud stay in the log. A closed segment that contains such entries
//!   is kept open here, and it is written again from the open file when its name is gone. (The
//!   writer itself takes care of the segment that it writes: it looks before each group.)
//! * Missing entries are reported by their numbers, once as a note in the log, and as a problem
//!   until they are back. A segment whose entries are all settled is not written again,
//!   because its removal has made the room that somebody wanted.
//! * Bounded: at most [`OPEN_MAX`] files are open, the newest ones.
//!
//! Not chosen: links to the segments elsewhere in the data directory (they keep the room that
//! somebody wanted, they are removed together with the directory, and FAT has no links).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::damage::{LOST, in_words, note};
use super::disk;
use super::entry::Body;
use super::log::{self, SegmentFile, end_of_lines, restore_segment, segment_path};
use super::paths::make_dir;
use super::shared::Shared;
use crate::status::ProblemCode;

/// Number of segments that are kept open: 2 GB of waiting reads, which is the default limit of the
/// log.
const OPEN_MAX: usize = 64;
/// How long the box shows that files were put back.
const SHOWN: Duration = Duration::from_secs(3600);

/// The segments that should exist.
#[derive(Default)]
pub(super) struct Segments {
    seen: BTreeMap<u64, SeenAt>,
    /// Missing segments: first and last number of each.
    gone: BTreeMap<u64, u64>,
    /// Segments that are shorter than they were: first and last number of each.
    cut: BTreeMap<u64, u64>,
    /// A loss is shown that this process found.
    told: bool,
}

struct SeenAt {
    /// The open file, if the segment contains, or may contain, waiting entries.
    open: Option<File>,
    /// Length of its lines. While the segment is written, as far as they were durable.
    bytes: u64,
    /// The segment is written no more.
    closed: bool,
}

/// The lowest number that a sink or the dedup index may still need from the log. 0 while that is
/// not known.
pub(super) fn needed_from(shared: &Shared) -> u64 {
    let needed = {
        let core = shared.lock();
        if core.serving { shared.sinks.needed_from(&core.state).0 } else { 0 }
    };
    needed.min(shared.known().unsaved_from())
}

impl Segments {
    /// Checks whether every segment is in its place, puts missing ones back and reports them.
    pub(super) fn look(&mut self, shared: &Shared) {
        let dir = shared.log_dir();
        let found = match log::segments(&dir) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            Err(error) => return tracing::warn!(%error, "the log's directory cannot be read"),
        };
        let needed = needed_from(shared);
        let (active, oldest, place) = {
            let core = shared.lock();
            (core.active, core.mark.oldest, core.place)
        };
        let mut before = std::mem::take(&mut self.seen);
        let mut firsts: Vec<u64> = before.keys().copied().chain(found.iter().map(|segment| segment.first)).collect();
        firsts.push(active);
        firsts.sort_unstable();
        firsts.dedup();
        firsts.retain(|first| *first >= oldest && *first <= active);
        let last_of = |first: u64| firsts.iter().find(|next| **next > first).map_or(u64::MAX, |next| next - 1);
        let (mut put_back, mut lost, mut failed) = (Vec::new(), Vec::new(), None);
        let mut open = 0;
        for &first in firsts.iter().rev() {
            let range = (first, last_of(first));
            let known = before.remove(&first);
            let there = found.iter().find(|segment| segment.first == first);
            let waits = range.1 >= needed && open < OPEN_MAX;
            if first == active && there.is_none() {
                // The writer puts this segment back.
                self.seen.extend(known.map(|known| (first, known)));
                continue;
            }
            // Another file under the segment's name that is shorter than the segment does not count
            // as the segment.
            let replaced = |segment: &SegmentFile| {
                let open = known.as_ref().and_then(|known| known.open.as_ref());
                first != active
                    && open.is_some_and(|open| !is_same(open, &segment.path) && length(open) > segment.bytes)
            };
            if let Some(segment) = there.filter(|segment| !(waits && replaced(segment))) {
                self.gone.remove(&first);
                let lines = if first == active { None } else { lines_of(segment, known.as_ref()) };
                let closed = lines.is_some();
                let written = if place.segment == first { place.offset } else { 0 };
                let bytes = lines.unwrap_or_else(|| known.as_ref().map_or(0, |known| known.bytes).max(written));
                if closed && known.as_ref().is_some_and(|known| known.bytes > bytes) {
                    lost.push(range);
                    self.cut.insert(first, range.1);
                }
                let held = known.and_then(|known| known.open).filter(|open| is_same(open, &segment.path));
                let file = if waits { held.or_else(|| File::open(&segment.path).ok()) } else { None };
                open += usize::from(file.is_some());
                self.seen.insert(first, SeenAt { open: file, bytes, closed });
                continue;
            }
            let Some(mut known) = known else { continue };
            match &known.open {
                Some(file) if waits => {
                    match put_segment_back(file, &dir, first) {
                        Ok(fresh) => {
                            put_back.push(range);
                            known.open = Some(fresh); // dropping the old file frees its room
                        }
                        Err(error) => failed = Some((range, error)),
                    }
                    open += 1;
                    self.seen.insert(first, known);
                }
                _ => {
                    self.gone.insert(first, range.1);
                    lost.push(range);
                }
            }
        }
        self.gone.retain(|first, _| *first >= oldest);
        self.cut.retain(|first, _| *first >= oldest);
        put_back.reverse();
        lost.reverse();
        self.tell(shared, &put_back, &lost, failed);
    }

    /// Whether a segment that existed at the last check is missing or shorter now. Entries that
    /// were read from the log since then may lack those of this segment, and the next check may put
    /// it back.
    pub(super) fn any_missing(&self, shared: &Shared) -> bool {
        let (active, oldest) = {
            let core = shared.lock();
            (core.active, core.mark.oldest)
        };
        let found = log::segments(&shared.log_dir()).unwrap_or_default();
        let whole =
            |first: u64, bytes: u64| found.iter().any(|segment| segment.first == first && segment.bytes >= bytes);
        self.seen.range(oldest..active).any(|(first, seen)| !whole(*first, seen.bytes))
    }

    fn tell(
        &mut self,
        shared: &Shared,
        put_back: &[(u64, u64)],
        lost: &[(u64, u64)],
        failed: Option<((u64, u64), io::Error)>,
    ) {
        let about = shared.log_dir().display().to_string();
        if !put_back.is_empty() {
            shared.lock().put_back = Some(Instant::now());
            tell_put_back(shared, put_back);
        } else if shared.lock().put_back.is_some_and(|at| at.elapsed() >= SHOWN) {
            shared.lock().put_back = None;
            shared.board.clear(ProblemCode::LogRemoved, "");
        }
        if let Some((range, error)) = failed {
            let message = format!(
                "entries {} wait for the cloud, and their file in {about} was removed or moved while passbridge runs. It cannot be \
                 written again now ({error}); it is tried again. Do not stop passbridge: make room first",
                in_words(&[range])
            );
            shared.board.raise(ProblemCode::LogRemoved, "", message);
        }
        if !lost.is_empty() {
            self.told = true;
            let ranges: Vec<(u64, u64)> = self.gone.iter().chain(&self.cut).map(|(from, to)| (*from, *to)).collect();
            let message = format!(
                "files of the log in {about} were removed, moved or cut off while passbridge runs: entries {} are gone from it. \
                 What of them waits for the cloud is still sent. They are missing in the backup and in what export gives: put \
                 the files back, or keep them where they are now. To make room, lower keep.max_bytes",
                in_words(&ranges)
            );
            shared.board.raise(ProblemCode::LogLost, &about, message.clone());
            let text = note(lost, &message);
            shared.wake_writer(vec![(LOST.into(), shared.board.now(), Body::Note(text.into()), Box::default())]);
        } else if self.gone.is_empty() && self.cut.is_empty() && std::mem::take(&mut self.told) {
            // A loss of an earlier process is shown until somebody acknowledges it.
            shared.board.clear(ProblemCode::LogLost, &about);
        }
    }
}

fn is_same(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Length of the lines of an open segment.
fn length(open: &File) -> u64 {
    end_of_lines(open).unwrap_or(0)
}

/// Length of the lines of a closed segment. They are looked for only once, because a closed segment
/// only loses its zeros. `None`: not known now, because the zeros are given back at this moment.
fn lines_of(segment: &SegmentFile, known: Option<&SeenAt>) -> Option<u64> {
    match known {
        Some(known) if known.closed && segment.bytes >= known.bytes => Some(known.bytes),
        _ => segment.lines().ok(),
    }
}

/// Writes a segment again under its name. A file that now has that name is moved aside.
fn put_segment_back(open: &File, dir: &Path, first: u64) -> io::Result<File> {
    make_dir(dir)?;
    let path = segment_path(dir, first);
    if std::fs::symlink_metadata(&path).is_ok() {
        disk::rename(&path, &path.with_extension("replaced"))?;
    }
    restore_segment(open, length(open), dir, first, "restored.new")
}

/// Reports that files were taken away and written again.
pub(super) fn tell_put_back(shared: &Shared, ranges: &[(u64, u64)]) {
    let message = format!(
        "files of the log in {} were removed, moved or replaced while passbridge runs: entries {}. They were written again from \
         the files that are still open, and nothing is lost. Leave the files there alone: what is uploaded goes by itself \
         (keep.days, keep.max_bytes)",
        shared.log_dir().display(),
        in_words(ranges)
    );
    shared.board.raise(ProblemCode::LogRemoved, "", message);
}
