//! All that the log does to the disk, and the queue's barriers: each call is in one place, so that
//! a test can put a disk under it that is full, fails, or loses power (`scripted`). Outside tests
//! these functions are the calls of the file system and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::failpoint;

#[cfg(test)]
pub mod scripted;

/// Writes all bytes at `offset`.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    scripted::write_at(file, bytes, offset)?;
    file.write_all_at(bytes, offset)
}

/// Writes all bytes at the end of a file that was opened for appending.
pub(super) fn append(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    scripted::append(file, bytes)?;
    file.write_all(bytes)
}

/// Free bytes on the file system of a file. `None`: not known.
pub(super) fn free(file: &File) -> Option<u64> {
    #[cfg(test)]
    if let Some(free) = scripted::free() {
        return Some(free);
    }
    rustix::fs::fstatvfs(file).ok().map(|stat| stat.f_bavail * stat.f_frsize)
}

/// `fdatasync`: the only call that makes file contents durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    if failpoint::skips_every_sync() {
        return Ok(()); // the negative control of the power-cut harness, which no release build has
    }
    #[cfg(test)]
    scripted::sync(file)?;
    file.sync_data()
}

/// Cuts a file off at `length`.
pub(super) fn set_len(file: &File, length: u64) -> io::Result<()> {
    #[cfg(test)]
    scripted::set_len(file, length)?;
    file.set_len(length)
}

/// Renames a file. A file that already has the new name is replaced.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::rename(from, to)?;
    std::fs::rename(from, to)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::remove(path)?;
    std::fs::remove_file(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::sync_dir(dir)?;
    File::open(dir)?.sync_all()
}

/// Writes a whole file under another name and makes it durable, because half a file must not be
/// taken for a file. The caller [`rename`]s it to its own name, and that name is not durable yet.
pub(super) fn write_fresh(fresh: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(fresh)?;
    write_at(&file, bytes, 0)?;
    sync(&file)?;
    Ok(file)
}

/// Writes a whole small file under another name, makes it durable and renames it to its own name.
/// That name is not durable yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    write_fresh(&fresh, bytes)?;
    rename(&fresh, path)
}
