//! A copy of a data directory: what a box finds after its power went, as far as copying can show
//! it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Copies the files and directories of `from` as they are now into `to`, which is empty or not
/// there.
///
/// Who works in `from` may remove a file (a state file it replaces, a piece of the queue) between
/// the listing and the copy: then there was no such moment, and the next one is taken.
pub fn image(from: &Path, to: &Path) {
    loop {
        match copy(from, to) {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::NotFound => fs::remove_dir_all(to).unwrap(),
            Err(error) => panic!("{}: {error}", from.display()),
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?; // not the control socket
        }
    }
    Ok(())
}
