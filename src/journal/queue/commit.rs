//! The tools of a checkpoint: keys, commits, and the sync of the files that sled does not sync
//! itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;

use super::super::disk::{sync, sync_dir};
use super::value::Broken;

/// Bytes of one sled commit. sled's segments have 512 KiB.
const COMMIT_BYTES: usize = 192 * 1024;

/// Puts values into sled, in commits that stay below the size of a sled segment.
pub(super) struct Commit<'a> {
    pub(super) db: &'a sled::Db,
    pub(super) batch: sled::Batch,
    pub(super) bytes: usize,
}

impl Commit<'_> {
    pub(super) fn put(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Broken> {
        if self.bytes + value.len() > COMMIT_BYTES {
            self.flush()?;
        }
        self.bytes += key.len() + value.len();
        let mut sealed = Vec::with_capacity(value.len() + 4);
        sealed.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
        sealed.extend_from_slice(value);
        self.batch.insert(key, sealed);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Broken> {
        self.bytes = 0;
        Ok(self.db.apply_batch(std::mem::take(&mut self.batch))?)
    }

    pub(super) fn count_parts(&self, generation: u64) -> Result<u32, Broken> {
        let mut count = 0;
        for key in self.db.scan_prefix(part_prefix(generation)).keys() {
            key?;
            count += 1;
        }
        Ok(count)
    }

    /// Removes the parts of the identities that end before `from`.
    pub(super) fn forget_identities(&mut self, decoder: &str, from: u64) -> Result<(), Broken> {
        let prefix = identity_prefix(decoder);
        let mut before: Option<sled::IVec> = None;
        for key in self.db.range(prefix.clone()..identity_key(decoder, from.saturating_add(1))).keys() {
            let key = key?;
            if let Some(older) = before.replace(key) {
                self.batch.remove(older); // the part after it begins at or before `from`
            }
        }
        Ok(())
    }
}

pub(super) fn block_key(first: u64) -> Vec<u8> {
    [b"b".as_slice(), &first.to_be_bytes()].concat()
}

pub(super) fn part_prefix(generation: u64) -> Vec<u8> {
    [b"s".as_slice(), &generation.to_be_bytes()].concat()
}

pub(super) fn part_key(generation: u64, part: u32) -> Vec<u8> {
    [part_prefix(generation).as_slice(), &part.to_be_bytes()].concat()
}

pub(super) fn identity_prefix(decoder: &str) -> Vec<u8> {
    [b"i".as_slice(), decoder.as_bytes(), b"\0"].concat()
}

pub(super) fn identity_key(decoder: &str, from: u64) -> Vec<u8> {
    [identity_prefix(decoder).as_slice(), &from.to_be_bytes()].concat()
}

/// Makes the files in `dir` (sled's blobs) durable that are not in `known`. Afterwards `known`
/// contains the files that exist now.
pub(super) fn sync_blobs(dir: &Path, known: &mut BTreeSet<OsString>) -> io::Result<()> {
    let mut found = BTreeSet::new();
    let before = std::mem::take(known);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !before.contains(&entry.file_name()) {
            match File::open(entry.path()) {
                Ok(file) => sync(&file)?,
                // Sled no longer needs this file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        }
        found.insert(entry.file_name());
    }
    if !found.is_subset(&before) {
        sync_dir(dir)?;
    }
    *known = found;
    Ok(())
}
