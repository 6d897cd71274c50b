//! The lock of a data directory: one process at a time, and no version that cannot read what is
//! there.
//!
//! The lock is the file `lock/needs-passbridge-with-log-format-2`. Versions that know only format 1
//! of the log lock a *file* `lock`. So they find a directory in its place, say that the journal
//! cannot be opened ("Is a directory"), and touch nothing. They would otherwise take events that
//! they do not know for damage, and number passings again. A later version that writes another
//! format names its file accordingly, and this version says so.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::log::{FORMAT, Head, segments};
use super::reserve::with_room;
use super::{OpenError, disk, paths};

/// The name of the lock file, before the number of the log's format.
const NEEDS: &str = "needs-passbridge-with-log-format-";

/// For a person who looks why an older version does not start.
const TEXT: &str = "This data directory was used by a version of passbridge that writes log format 2. An older version\n\
                    cannot read it. It says that the journal cannot be opened (Is a directory), and changes nothing.\n\
                    Install the newer version again, or give the older one a data_dir of its own.\n";

/// The path of the lock file.
pub(super) fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("lock").join(format!("{NEEDS}{FORMAT}"))
}

/// Takes the lock of a data directory. The kernel releases it, however the process ends.
pub(super) fn lock_dir(dir: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io { dir: dir.into(), error };
    let place = dir.join("lock");
    let older = older_lock(&place).map_err(io)?;
    if let Some(older) = &older {
        hold(older, dir)?; // an older version may be running
        fs::remove_file(&place).map_err(io)?;
    }
    let path = lock_path(dir);
    if !path.exists() {
        let make = || {
            fs::create_dir_all(&place)?;
            fs::write(&path, TEXT)?;
            // Before the first line of this format: the power may fail at any moment.
            disk::sync_dir(&place)?;
            disk::sync_dir(dir)
        };
        with_room(dir, make).map_err(io)?;
    }
    let lock = File::options().write(true).open(&path).map_err(io)?;
    hold(&lock, dir)?;
    if let Some(format) = newer_format(dir).map_err(io)? {
        return Err(OpenError::Newer { dir: dir.into(), format });
    }
    Ok(lock)
}

/// The lock file of a version before this form of the lock.
fn older_lock(place: &Path) -> io::Result<Option<File>> {
    if place.is_file() { File::options().write(true).open(place).map(Some) } else { Ok(None) }
}

fn hold(file: &File, dir: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.into())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { dir: dir.into(), error }),
    }
}

/// The format of the log if a later version wrote it: by the name of its lock file, or by the head
/// of a segment.
fn newer_format(dir: &Path) -> io::Result<Option<u32>> {
    let mut formats = Vec::new();
    for file in fs::read_dir(dir.join("lock"))? {
        let name = file?.file_name();
        formats.extend(name.to_str().and_then(|name| name.strip_prefix(NEEDS)?.parse::<u32>().ok()));
    }
    for segment in segments(&paths::log_dir(dir)).unwrap_or_default() {
        // What cannot be read is judged when the log is opened.
        formats.extend(Head::read(&segment.path).ok().flatten().map(|head| head.format));
    }
    Ok(formats.into_iter().max().filter(|format| *format > FORMAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_an_older_version_is_respected_while_it_runs_and_then_replaced_by_one_it_cannot_take() {
        let dir = tempfile::tempdir().unwrap();
        // What versions before this one do.
        let older = || File::options().create(true).truncate(false).write(true).open(dir.path().join("lock"));
        let running = older().unwrap();
        running.try_lock().unwrap();
        assert!(matches!(lock_dir(dir.path()), Err(OpenError::InUse(_))));
        drop(running);
        let lock = lock_dir(dir.path()).unwrap();
        assert!(matches!(lock_dir(dir.path()), Err(OpenError::InUse(_))));
        assert_eq!(older().unwrap_err().kind(), io::ErrorKind::IsADirectory);
        drop(lock);
        drop(lock_dir(dir.path()).unwrap());
    }

    #[test]
    fn what_a_later_version_wrote_is_said_and_left_alone() {
        for by_name in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            drop(lock_dir(dir.path()).unwrap());
            let log = paths::log_dir(dir.path());
            fs::create_dir(&log).unwrap();
            let mut head = b"#passbridge-log\t3\tid\t1".to_vec();
            crate::journal::entry::seal(&mut head, 0);
            match by_name {
                true => fs::write(dir.path().join("lock").join(format!("{NEEDS}3")), "").unwrap(),
                false => fs::write(log.join("000000000001.log"), head).unwrap(),
            }
            let error = lock_dir(dir.path()).unwrap_err();
            assert!(matches!(error, OpenError::Newer { format: 3, .. }), "{error}");
            assert!(error.to_string().contains("newer version"), "{error}");
        }
    }
}
