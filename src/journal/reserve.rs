//! The room on the journal's disk: what is free, what the journal uses, and the reserve with which
//! it can start and drain on a full disk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::dedup_index::known_dir;
use super::paths::{log_dir, queue_dir, windows_dir};
use super::{disk, log, mark};

/// Size of the reserve: enough to open the queue and to record hundreds of batches while the disk
/// is full.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// The reserve is made (again) only if at least this much is free.
pub(super) const RESERVE_ABOVE: u64 = 8 * RESERVE_BYTES;

fn reserve_path(data_dir: &Path) -> PathBuf {
    data_dir.join("reserve")
}

/// Free bytes on the file system of `dir`, as an ordinary user sees them.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail * stat.f_frsize)
}

/// Makes the reserve if it is missing and there is room.
pub(super) fn make_reserve(data_dir: &Path) -> io::Result<()> {
    let path = reserve_path(data_dir);
    if path.exists() || free_bytes(data_dir).is_some_and(|free| free < RESERVE_ABOVE) {
        return Ok(());
    }
    let written = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| {
        let zeros = vec![0; 64 * 1024];
        for _ in 0..RESERVE_BYTES / 65_536 {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })
}

/// Deletes the reserve to free its room. Returns `true` if there was one.
pub(super) fn release_reserve(data_dir: &Path) -> bool {
    std::fs::remove_file(reserve_path(data_dir)).is_ok()
}

/// Bytes of the files below `dir`.
pub(super) fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => tree_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Runs `work`, and if the disk is too full for it, runs it once more without the reserve.
pub(super) fn with_room<T>(dir: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    work().or_else(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if release_reserve(dir) => work(),
        _ => Err(error),
    })
}

/// Writes the mark. A box with a full disk must start and drain without a new mark, too. The older
/// mark then says less.
pub(super) fn write_mark(dir: &Path, mark: &mark::WrittenMark) {
    if let Err(error) = with_room(dir, || mark::write(dir, mark)).and_then(|()| disk::sync_dir(dir)) {
        tracing::warn!(%error, "the mark of how far the journal goes could not be written");
    }
}

/// Bytes of all segments, and of all that is derived from them.
pub(super) fn bytes_on_disk(data_dir: &Path) -> io::Result<u64> {
    let log: u64 = log::segments(&log_dir(data_dir))?.iter().map(|segment| segment.bytes).sum();
    let derived = [queue_dir(data_dir), known_dir(data_dir), windows_dir(data_dir)];
    Ok(log + derived.iter().map(|dir| tree_bytes(dir)).sum::<u64>())
}
