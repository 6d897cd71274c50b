//! Puts a new file in the place of an old one, so that a power cut leaves either of them whole.
//!
//! What must hold: the rights of the new file are set before its content is written, so nobody reads
//! a key in between. When [`replace`] returns, the new file would survive a power cut.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRights {
    /// The mode, such as `0o600`.
    pub(crate) mode: u32,
    /// User and group. `None`: those of this process.
    pub(crate) owner: Option<(u32, u32)>,
}

impl FileRights {
    /// The rights of a file that is there.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self { mode: found.mode() & 0o777, owner: Some((found.uid(), found.gid())) })
    }
}

/// Writes `content` beside `file` and renames it over `file`. A link is followed, so that the file
/// that it leads to is replaced. The directory is made if it is not there.
///
/// # Errors
/// The old file is unchanged.
pub(crate) fn replace(file: &Path, content: &[u8], rights: FileRights) -> io::Result<()> {
    let (real, dir, name) = place(file)?;
    fs::create_dir_all(&dir)?;
    let new = new_name(&dir, name);
    let written = write(&new, content, rights).and_then(|()| fs::rename(&new, &real));
    if let Err(error) = written {
        let _ = fs::remove_file(&new); // what is left there is removed by the next try, too
        return Err(error);
    }
    sync_dir(&dir)
}

/// Tries whether `file` can be replaced, and changes nothing: a new file is written where [`replace`]
/// would write it, or, if that directory is not there yet, in the next one above, and removed.
///
/// # Errors
/// `file` cannot be replaced.
pub(crate) fn rehearse(file: &Path) -> io::Result<()> {
    let (real, dir, name) = place(file)?;
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&real);
    let new = new_name(there, name);
    let written = write(&new, b"", FileRights { mode: 0o600, owner: None });
    let removed = fs::remove_file(&new);
    written.and(removed)
}

/// The file that `file` leads to, its directory and its name.
fn place(file: &Path) -> io::Result<(PathBuf, PathBuf, OsString)> {
    let real = fs::canonicalize(file).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => std::path::absolute(file),
        _ => Err(error),
    })?;
    match (real.parent(), real.file_name()) {
        (Some(dir), Some(name)) => Ok((real.clone(), dir.to_owned(), name.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file")),
    }
}

/// Makes renamed, new and removed names of a directory survive a power cut.
///
/// # Errors
/// The directory cannot be opened or synced.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn new_name(dir: &Path, name: OsString) -> PathBuf {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    dir.join(hidden)
}

fn write(file: &Path, content: &[u8], rights: FileRights) -> io::Result<()> {
    // One may be left of a power cut. It is not used, because its rights are not known.
    if let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut out = File::options().write(true).create_new(true).mode(0o600).open(file)?;
    if let Some((uid, gid)) = rights.owner {
        let now = out.metadata()?;
        if (now.uid(), now.gid()) != (uid, gid) {
            fchown(&out, Some(uid), Some(gid))?;
        }
    }
    out.set_permissions(fs::Permissions::from_mode(rights.mode))?;
    out.write_all(content)?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: FileRights = FileRights { mode: 0o600, owner: None };

    #[test]
    fn a_file_is_replaced_with_its_rights_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/passbridge/api_key");
        replace(&file, b"one", FileRights { mode: 0o644, owner: None }).unwrap();
        assert_eq!(FileRights::of(&file).unwrap().mode, 0o644);
        fs::write(file.with_file_name(".api_key.new"), "left of a power cut").unwrap();
        replace(&file, b"two", PRIVATE).unwrap();
        assert_eq!((fs::read(&file).unwrap(), FileRights::of(&file).unwrap().mode), (b"two".to_vec(), 0o600));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn the_file_that_a_link_leads_to_is_replaced_and_the_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"two", PRIVATE).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("there");
        fs::create_dir(&file).unwrap(); // a directory: the rename fails after the content was written
        assert!(replace(&file, b"two", PRIVATE).is_err());
        assert!(file.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_rehearsal_tells_what_would_fail_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("not/there/yet/file");
        rehearse(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "old").unwrap();
        rehearse(&dir.path().join("file")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "old");
        assert!(rehearse(Path::new("/proc/nope/file")).is_err());
    }
}
