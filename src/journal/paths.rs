//! Paths of the journal's parts below the data directory.

use std::io;
use std::path::{Path, PathBuf};

use super::disk;

/// Directory of the log below the data directory.
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Directory of the queue below the data directory.
pub(super) fn queue_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("queue")
}

/// Directory of the indexes of full segments ([`crate::export`]) below the data directory.
pub(crate) fn windows_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("windows")
}

/// Makes a directory. If a file, or a link that leads nowhere, stands in its place, it is moved
/// aside.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if std::fs::create_dir_all(dir).is_ok() && dir.is_dir() {
        return Ok(());
    }
    if std::fs::symlink_metadata(dir).is_ok() {
        disk::rename(dir, &dir.with_extension("broken"))?;
    }
    std::fs::create_dir_all(dir)
}
