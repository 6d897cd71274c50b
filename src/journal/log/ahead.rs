//! Zeros ahead of the lines of a segment: room for lines to come.
//!
//! A line that makes a file longer makes the file system write, too: the new length, and where the
//! new blocks are. That is 12 of the 17 kB that a single read costs a card. A line that is written
//! over zeros which are there already changes none of this, so `fdatasync` is one write and one
//! FLUSH.
//!
//! What holds:
//! * A zero byte is never part of a line. So the first zero after a line end is the end of the lines,
//!   unless other bytes follow the zeros: then they are a hole that the disk made.
//! * Zeros never land on a line, although another thread writes them while lines are appended: it
//!   *appends* them (`O_APPEND`), so the kernel puts them behind whatever the file holds.
//! * No append waits for zeros. One that finds none makes the file longer, as if there were no such
//!   thing.
//! * An error of the disk is never hidden from the writer. The kernel reports an error once to each
//!   open file, and this thread opens the segment for itself.
//! * Zeros are given back (cut off) when a segment is closed and at a clean stop. What a kill or a
//!   power cut leaves is given back by the next start.
//! * Zeros take no room that somebody needs: none are written while less than
//!   [`reserve::RESERVE_ABOVE`] is free. What is there already stays, because the next lines go into
//!   it, also while the disk is full.
//!
//! Not chosen:
//! * *`fallocate`*: the blocks are there, but marked as unwritten. The first write to each of them
//!   changes that mark, which is metadata again (in the same measurement 1.15 FLUSHes and 1.4 times
//!   the bytes).
//! * *Whole segments of zeros*: 32 MiB for a box that keeps 200 reads a day.
//! * *Zeros for large groups*: each byte is then written twice to save the same 12 kB. So only groups
//!   of up to [`SMALL`] bytes ask for more.
//! * *Copy-on-write file systems*: a write over zeros is a new block there, too. See [`pays`].

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::segment::{FORMAT, Head, SegmentFile};
use crate::journal::{disk, failpoint, reserve};

/// Bytes that are written at once: 1,500 reads, 40 minutes of a race at the usual pace. Every size
/// from 64 KiB on costs a read less than 3 % more bytes than the next one, and a chunk of 1 MiB
/// would hold up a group for 100 ms on a slow card. docs/evidence/zeros.md has the figures.
const CHUNK: u64 = if cfg!(test) { 1024 } else { 256 * 1024 };
/// More zeros are asked for when less than this part of a chunk is left.
const LOW: u64 = 4;
/// Groups up to this size are worth zeros.
const SMALL: usize = 32 * 1024;
/// Time between two tries when there is no room.
const AGAIN: Duration = Duration::from_secs(10);
/// Bytes that are written in one call.
const STEP: u64 = 64 * 1024;
static ZEROS: [u8; STEP as usize] = [0; STEP as usize];

/// The zeros behind the segment that is being written, and the thread that writes them.
pub(super) struct Ahead {
    chunk: u64,
    zeros: Arc<Zeros>,
    /// The segment may have zeros.
    on: bool,
    tried: Option<Instant>,
    thread: Option<(mpsc::Sender<Job>, JoinHandle<()>)>,
}

/// What the thread did to a segment.
#[derive(Default)]
struct Zeros {
    /// There are durable zeros, or lines, up to here.
    end: AtomicU64,
    /// A job waits or runs.
    busy: AtomicBool,
    /// The last job failed.
    failed: AtomicBool,
}

/// Work for the thread.
enum Job {
    /// Makes a segment this long.
    Extend { path: PathBuf, inode: (u64, u64), lines: u64, until: u64, zeros: Arc<Zeros> },
    /// Cuts the zeros off a segment that is closed.
    GiveBack { file: File, lines: u64 },
}

impl Ahead {
    /// Zeros for a segment into which nothing was written yet by this process. `on`: its format
    /// allows them.
    pub(super) fn new(on: bool) -> Self {
        let chunk = failpoint::chunk_bytes(CHUNK);
        Self { chunk, zeros: Arc::default(), on, tried: None, thread: None }
    }

    /// Whether the segment may have zeros.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Asks for more zeros if few are left. The last group had `group` bytes, and the lines of the
    /// segment end at `lines`.
    pub(super) fn ask(&mut self, path: PathBuf, file: &File, lines: u64, group: usize) {
        let enough = self.zeros.end.load(Ordering::Acquire) >= lines + self.chunk / LOW;
        if !self.on || self.chunk == 0 || group > SMALL || enough || self.zeros.busy.load(Ordering::Acquire) {
            return;
        }
        if self.zeros.failed.load(Ordering::Acquire) {
            if self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
                return;
            }
            // A part of the last chunk may be there, and take the last of the room.
            let _ = give_back(file, lines);
        }
        self.tried = Some(Instant::now());
        let Ok(meta) = file.metadata() else { return };
        let until = (lines + self.chunk).next_multiple_of(self.chunk.min(4096));
        let inode = (meta.dev(), meta.ino());
        self.zeros.busy.store(true, Ordering::Release);
        let zeros = Arc::clone(&self.zeros);
        self.run(Job::Extend { path, inode, lines, until, zeros });
    }

    /// Another segment is written from now on. `closed`: the file of the one before, and where its
    /// lines end.
    pub(super) fn next(&mut self, closed: Option<(File, u64)>) {
        self.zeros = Arc::default();
        self.on = true;
        if let (Some((file, lines)), Some(_)) = (closed, self.tried.take()) {
            self.run(Job::GiveBack { file, lines });
        }
    }

    /// The zeros were cut off, because the disk did not take a group. It has to take that one first.
    pub(super) fn cut(&mut self) {
        self.zeros = Arc::new(Zeros { failed: AtomicBool::new(true), ..Zeros::default() });
        self.tried = Some(Instant::now());
    }

    /// Waits for the thread to end.
    pub(super) fn end(&mut self) {
        if let Some((jobs, thread)) = self.thread.take() {
            drop(jobs);
            let _ = thread.join(); // a panic was already reported where it happened
        }
    }

    fn run(&mut self, job: Job) {
        #[cfg(test)]
        if disk::scripted::is_under_this_thread() {
            return job.run();
        }
        if self.thread.is_none() {
            let (jobs, work) = mpsc::channel::<Job>();
            let thread = std::thread::Builder::new().name("journal-zeros".into()).stack_size(128 * 1024);
            match thread.spawn(move || work.into_iter().for_each(Job::run)) {
                Ok(thread) => self.thread = Some((jobs, thread)),
                Err(error) => tracing::debug!(%error, "no thread for zeros"),
            }
        }
        if let Some((jobs, _)) = &self.thread {
            let _ = jobs.send(job); // at most one job for each segment waits, and one that gives back
        }
    }
}

impl Job {
    fn run(self) {
        match self {
            Self::Extend { path, inode, lines, until, zeros } => {
                match extend(&path, inode, lines, until) {
                    Ok(()) => {
                        zeros.end.fetch_max(until, Ordering::AcqRel);
                        zeros.failed.store(false, Ordering::Release);
                    }
                    // No problem for anybody: the lines make the file longer, as before.
                    Err(error) => {
                        tracing::debug!(%error, "no zeros for the log");
                        zeros.failed.store(true, Ordering::Release);
                    }
                }
                zeros.busy.store(false, Ordering::Release);
            }
            Self::GiveBack { file, lines } => {
                if let Err(error) = give_back(&file, lines) {
                    tracing::debug!(%error, "the zeros of a closed segment stay until the next start");
                }
            }
        }
    }
}

/// Appends zeros to the segment until it has this length, and makes them durable.
fn extend(path: &PathBuf, inode: (u64, u64), lines: u64, until: u64) -> io::Result<()> {
    let file = File::options().read(true).append(true).open(path)?;
    let meta = file.metadata()?;
    if (meta.dev(), meta.ino()) != inode {
        return Err(io::Error::other("another file has the name of the segment"));
    }
    if !pays(&file) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let more = until.saturating_sub(meta.len());
    if disk::free(&file).is_none_or(|free| free < reserve::RESERVE_ABOVE + more) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    loop {
        let length = file.metadata()?.len();
        if length < lines {
            // Somebody cut the file off. Zeros must not hide that.
            return Err(io::Error::other("the segment was cut off"));
        }
        let step = until.saturating_sub(length).min(STEP);
        if step == 0 {
            break;
        }
        disk::append(&file, &ZEROS[..step as usize])?;
    }
    disk::sync(&file)
}

/// Cuts off what is behind the lines of a segment, and makes that durable. Nobody may append
/// meanwhile.
pub(super) fn give_back(file: &File, lines: u64) -> io::Result<()> {
    if file.metadata()?.len() > lines {
        disk::set_len(file, lines)?;
        disk::sync(file)?;
    }
    Ok(())
}

/// Gives back the zeros that a kill or a power cut left behind segments that were closed. `written`:
/// the first number of the segment that is being written.
pub(super) fn give_back_closed(segments: &[SegmentFile], written: u64) {
    for segment in segments.iter().filter(|segment| segment.first != written) {
        let back = segment.lines().and_then(|lines| {
            let has_zeros = 0 < lines && lines < segment.bytes;
            if has_zeros && Head::read(&segment.path)?.is_some_and(|head| head.format == FORMAT) {
                give_back(&File::options().write(true).open(&segment.path)?, lines)?;
            }
            Ok(())
        });
        if let Err(error) = back {
            tracing::debug!(%error, segment = segment.first, "the zeros of a closed segment stay");
        }
    }
}

/// Whether zeros save anything on the file system of this file. On those that never write over a
/// block (btrfs and others that copy on write, or write a log themselves), each line is written to
/// a new block whatever was there before, and the zeros would only be one more write. On those in
/// memory nothing is written at all.
fn pays(file: &File) -> bool {
    const BTRFS: u32 = 0x9123_683e;
    const ZFS: u32 = 0x2fc1_2fc1;
    const BCACHEFS: u32 = 0xca45_1a4e;
    const NILFS: u32 = 0x3434;
    const UBIFS: u32 = 0x2405_1905;
    const JFFS2: u32 = 0x72b6;
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    if cfg!(test) {
        return true; // where the tests run is no matter of theirs
    }
    let Ok(stat) = rustix::fs::fstatfs(file) else { return false };
    let kind = (stat.f_type & 0xffff_ffff) as u32; // a signed number of 32 or 64 bits
    !matches!(kind, BTRFS | ZFS | BCACHEFS | NILFS | UBIFS | JFFS2 | TMPFS | RAMFS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::disk::scripted::{self, Script};
    use crate::journal::log::tests::{all, group, note};
    use crate::journal::log::{Log, Repair, segment_path, segments};

    fn length(dir: &Path, first: u64) -> u64 {
        std::fs::metadata(segment_path(dir, first)).unwrap().len()
    }

    /// A log on a scripted disk, with zeros behind its first line.
    fn with_zeros(dir: &Path) -> Log {
        let (mut log, _) = Log::open(dir, "id", None).unwrap();
        log.append(&note(1), 1).unwrap();
        log.ahead();
        assert!(length(dir, 1) >= log.place().offset + CHUNK);
        log
    }

    #[test]
    fn lines_go_over_zeros_that_are_there_and_durable_and_a_large_group_asks_for_none() {
        let dir = tempfile::tempdir().unwrap();
        scripted::begin();
        let mut log = with_zeros(dir.path());
        assert_eq!(scripted::durable_len(&segment_path(dir.path(), 1)), length(dir.path(), 1));
        let mut grown = 0;
        for seq in 2..=200 {
            let before = length(dir.path(), 1);
            log.append(&note(seq), 1).unwrap();
            assert_eq!(length(dir.path(), 1), before, "a line changes the length of the file");
            log.ahead();
            grown += u32::from(length(dir.path(), 1) > before);
        }
        assert!((5..30).contains(&grown), "{grown} chunks");
        log.append(&group(201, 2000), 2000).unwrap();
        assert_eq!(length(dir.path(), 1), log.place().offset);
        log.ahead();
        assert_eq!(length(dir.path(), 1), log.place().offset);
        assert_eq!(all(dir.path()), ((1..=2200).collect(), 0));
        scripted::end();
    }

    #[test]
    fn zeros_are_given_back_when_a_segment_is_closed_and_at_a_stop_and_after_a_kill_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        scripted::begin();
        let mut log = with_zeros(dir.path());
        let end = log.place().offset;
        log.rotate(Some("{}")).unwrap();
        assert_eq!(length(dir.path(), 1), end);
        log.append(&note(2), 1).unwrap();
        log.ahead();
        assert!(length(dir.path(), 2) > log.place().offset);
        log.end();
        assert_eq!(length(dir.path(), 2), log.place().offset);
        log.ahead();
        // A kill before the zeros of the closed segment are given back, and another one.
        let file = File::options().append(true).open(segment_path(dir.path(), 1)).unwrap();
        disk::append(&file, &ZEROS[..700]).unwrap();
        let place = log.place();
        drop(log);
        let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.place(), repair), (place, Repair::default()));
        assert_eq!((length(dir.path(), 1), length(dir.path(), 2)), (end, place.offset));
        assert_eq!(all(dir.path()), (vec![1, 2], 0));
        scripted::end();
    }

    #[test]
    fn a_disk_with_little_room_gets_no_zeros_and_lines_are_appended_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        scripted::begin();
        let short = Script { free: Some(reserve::RESERVE_ABOVE), ..Script::default() };
        scripted::set(short);
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        for seq in 1..=20 {
            log.append(&note(seq), 1).unwrap();
            log.ahead();
            assert_eq!(length(dir.path(), 1), log.place().offset);
        }
        // Zeros that are there stay when the room becomes short: the next lines go into them.
        scripted::set(Script::default());
        log.ahead.tried = None;
        log.ahead();
        let there = length(dir.path(), 1);
        assert!(there > log.place().offset);
        scripted::set(Script { room: Some(0), ..short });
        for seq in 21..=30 {
            log.append(&note(seq), 1).unwrap();
            log.ahead();
        }
        assert_eq!((length(dir.path(), 1), all(dir.path())), (there, ((1..=30).collect(), 0)));
        scripted::end();
    }

    #[test]
    fn a_disk_that_is_full_in_the_middle_of_a_chunk_costs_nothing_and_the_piece_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        scripted::begin();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.append(&note(1), 1).unwrap();
        scripted::set(Script { room: Some(150), ..Script::default() }); // a quota that nobody can ask for
        log.ahead();
        let piece = length(dir.path(), 1) - log.place().offset;
        assert_eq!(piece, 150);
        let mut next = 2;
        let full = loop {
            match log.append(&note(next), 1) {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
        };
        assert!(next > 3, "{next}: lines went into the piece");
        let crate::journal::log::AppendError::Write(error) = full else { panic!("{full:?}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(length(dir.path(), 1), log.place().offset, "nothing half, and no zeros");
        // Room for a few lines: they are appended, and no zeros take it.
        scripted::set(Script { room: Some(200), ..Script::default() });
        log.append(&note(next), 1).unwrap();
        log.ahead();
        assert_eq!(length(dir.path(), 1), log.place().offset, "not tried again at once");
        log.ahead.tried = None;
        log.ahead();
        log.ahead.tried = None;
        scripted::set(Script { free: Some(0), ..Script::default() });
        log.ahead();
        assert_eq!(length(dir.path(), 1), log.place().offset, "a piece of a chunk is given back");
        assert_eq!(all(dir.path()), ((1..=next).collect(), 0));
        scripted::end();
    }

    #[test]
    fn zeros_do_not_hide_that_somebody_cut_the_file_off() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.append(&group(1, 20), 20).unwrap();
        let path = segment_path(dir.path(), 1);
        let file = File::options().write(true).open(&path).unwrap();
        let inode = file.metadata().map(|meta| (meta.dev(), meta.ino())).unwrap();
        file.set_len(100).unwrap();
        assert!(extend(&path, inode, log.place().offset, 10_000).is_err());
        assert_eq!(length(dir.path(), 1), 100);
        // In the middle of a chunk.
        file.set_len(10_000).unwrap();
        assert!(!log.is_in_place());
        let lost = log.restore(None).unwrap();
        assert_eq!(lost, [], "the lines are still in memory");
        log.append(&note(21), 1).unwrap();
        assert!(log.is_in_place());
        assert!(all(dir.path()).0.ends_with(&[20, 21]));
    }

    #[test]
    fn zeros_never_land_on_lines_that_are_appended_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        let mut next = 1;
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..400 {
            let count = rng.u64(1..60); // more and less than a chunk
            log.append(&group(next, count), count).unwrap();
            next += count;
            log.ahead();
        }
        log.end();
        assert_eq!(length(dir.path(), 1), log.place().offset);
        assert_eq!(all(dir.path()), ((1..next).collect(), 0));
        assert_eq!(segments(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn wherever_the_power_goes_what_was_acknowledged_is_there_and_no_number_is_given_twice() {
        let mut torn = 0;
        for (cut, seed) in (0..).flat_map(|cut| (0..8).map(move |seed| (cut, seed))) {
            let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            scripted::begin();
            scripted::set(Script { cut_in: Some(cut), ..Script::default() });
            let mut acknowledged = 0;
            let mut live = || -> Result<(), Box<dyn std::error::Error>> {
                let (mut log, _) = Log::open(dir.path(), "id", None)?;
                for count in [1, 3, 30, 2, 1, 60, 5, 1] {
                    log.append(&group(log.next, count), count).map_err(|error| format!("{error:?}"))?;
                    acknowledged = log.next - 1;
                    log.ahead();
                    if count == 2 {
                        log.rotate(Some("{}"))?;
                    }
                }
                log.end();
                Ok(())
            };
            let lived = live();
            if !scripted::is_off() {
                lived.unwrap();
                scripted::end();
                assert!(cut > 30 && torn > 30, "{cut} cuts, {torn} torn groups");
                return;
            }
            scripted::image(
                &[(dir.path(), left.path())],
                Some(&mut fastrand::Rng::with_seed(u64::from(cut) * 8 + seed)),
            );
            let (mut log, repair) = Log::open(left.path(), "id", None).unwrap();
            torn += u32::from(!repair.torn.is_empty() || repair.cut_bytes > 0);
            assert!(log.next > acknowledged, "cut {cut}: {} after {acknowledged}", log.next);
            assert_eq!((&repair.lost, &repair.unreadable), (&vec![], &vec![]), "cut {cut}");
            let next = log.next;
            log.append(&group(next, 2), 2).unwrap();
            let (seqs, bad) = all(left.path());
            assert_eq!(bad, 0, "cut {cut}");
            assert!((1..=acknowledged).chain([next, next + 1]).all(|seq| seqs.contains(&seq)), "cut {cut}: {seqs:?}");
            assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "cut {cut}: {seqs:?}");
            scripted::end();
        }
    }
}
