//! Room on the disk: the reserve that is given up first, what may go, and how much there is.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::follow::{Shared, bytes_on_disk};
use super::queue::{Broken, Queue};
use super::{disk, log};

/// Size of the reserve: enough for the queue to open and for hundreds of batches to be recorded while the disk is full.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// The reserve is made (again) only when this much is free.
const RESERVE_ABOVE: u64 = 8 * RESERVE_BYTES;

fn reserve_path(data_dir: &Path) -> PathBuf {
    data_dir.join("reserve")
}

/// Free bytes on the file system of `dir`, as an ordinary user sees them.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|stat| stat.f_bavail * stat.f_frsize)
}

/// Makes the reserve if it is not there and there is room.
pub fn make_reserve(data_dir: &Path) -> io::Result<()> {
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

/// Gives the reserve up. `true` if there was one.
pub fn release_reserve(data_dir: &Path) -> bool {
    std::fs::remove_file(reserve_path(data_dir)).is_ok()
}

/// Bytes of the files below `dir`.
pub fn tree_bytes(dir: &Path) -> u64 {
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

/// Removes what may go: spans of the queue that are covered, then log volumes, oldest first, that nothing needs any
/// more and that are past their retention or over the limit. What is not uploaded never goes, nor does the volume in which
/// the last checkpoint ends, `saved`: the next start reads on there.
pub fn prune(shared: &Shared, queue: &mut Queue, saved: u64) -> Result<(), Broken> {
    let (cursors, needed) = {
        let core = shared.lock();
        let cursors: std::collections::BTreeMap<Box<str>, u64> =
            core.state.decoders.iter().map(|(name, fold)| (name.clone(), fold.cursor)).collect();
        (cursors, core.state.needed_from())
    };
    queue.drop_covered(|decoder| cursors.get(decoder).copied().unwrap_or(0))?;
    shared.set_spans(queue.spans());
    let data_dir = &shared.config.dir;
    let mut bytes = bytes_on_disk(data_dir)?;
    let volumes = log::volumes(&shared.log_dir())?;
    for pair in volumes.windows(2) {
        let [volume, next] = pair else { break };
        if next.first > needed || volume.first >= saved || !log::begins_with_state(&next.path)? {
            break;
        }
        if !past(&volume.path, shared.config.keep_days, shared.board.now())? && bytes <= shared.config.keep_bytes {
            break;
        }
        disk::remove(&volume.path)?;
        disk::sync_dir(&shared.log_dir())?;
        tracing::info!(
            first = volume.first,
            bytes = volume.bytes,
            "removed a log volume: uploaded and past its retention"
        );
        bytes = bytes.saturating_sub(volume.bytes);
    }
    if bytes > shared.config.keep_bytes {
        let message =
            format!("the journal has {bytes} bytes, more than keep.max_bytes allows, but what is not uploaded is kept");
        shared.board.raise("journal_over_limit", "", message);
    } else {
        shared.board.clear("journal_over_limit", "");
    }
    let _ = make_reserve(data_dir); // full again: the next look tries again
    shared.board.journal(|journal| {
        journal.bytes = bytes;
        journal.free_bytes = free_bytes(data_dir).unwrap_or(0);
    });
    Ok(())
}

/// The volume was last written longer ago than `days`. A box clock that stepped back only keeps it longer.
fn past(path: &Path, days: u32, now: Timestamp) -> io::Result<bool> {
    let written = Timestamp::try_from(std::fs::metadata(path)?.modified()?).unwrap_or(Timestamp::MAX);
    let age = now.duration_since(written);
    Ok(Duration::try_from(age).is_ok_and(|age| age >= Duration::from_secs(u64::from(days) * 86_400)))
}
