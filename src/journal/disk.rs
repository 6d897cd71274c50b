//! What the log does to the disk, and the queue's barriers: each in one place, so that a test can put a disk under them
//! that is full, fails, or loses power ([`scripted`]). Outside tests these are the calls of the file system and nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(test)]
pub mod scripted;

/// Writes all bytes at `offset`.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    scripted::write_at(file, bytes, offset)?;
    file.write_all_at(bytes, offset)
}

/// `fdatasync`: the one call that everything durable goes through.
pub fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    scripted::sync(file)?;
    file.sync_data()
}

/// Cuts a file off at `length`.
pub fn set_len(file: &File, length: u64) -> io::Result<()> {
    #[cfg(test)]
    scripted::set_len(file, length)?;
    file.set_len(length)
}

/// Gives a file another name, in the place of one that has it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::rename(from, to)?;
    std::fs::rename(from, to)
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::remove(path)?;
    std::fs::remove_file(path)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    scripted::sync_dir(dir)?;
    File::open(dir)?.sync_all()
}
