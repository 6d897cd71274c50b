//! A disk under the log that is full, fails, or loses power, for tests. There is one for each
//! thread, and none until [`begin`].
//!
//! The disk knows what was made durable, by file (inode) and by name. [`image`] makes what a power
//! cut leaves of a directory. Of each file, the synced part survives, and any part of the rest,
//! torn. Of the names, the synced ones survive, and any first part of the changes since then. The
//! power can fail before the n-th call from now on. Then every call fails.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A disk writes a sector whole or not at all.
const SECTOR: usize = 512;

type Fault = Box<dyn FnOnce(&File) -> io::Result<()>>;

thread_local! {
    /// The next sync does this first.
    static AT_SYNC: Cell<Option<Fault>> = const { Cell::new(None) };
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// What the disk does from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// Bytes by which files can grow until the disk is full. `None`: no limit.
    pub room: Option<u64>,
    /// The room that the disk says it has. `None`: very much, also when `room` is small, as under a
    /// quota.
    pub free: Option<u64>,
    /// This many of the next barriers (`fdatasync`) fail.
    pub bad_syncs: u32,
    /// This many of the next writes fail with an I/O error.
    pub bad_writes: u32,
    /// The power fails before this call, counted from now on.
    pub cut_in: Option<u32>,
    /// If true, only the process ends then, and the power stays on.
    pub killed: bool,
}

#[derive(Default)]
struct Disk {
    script: Script,
    off: bool,
    /// Length up to which a file's content is durable, by inode. A file that is not in this map is
    /// durable as it is.
    synced: HashMap<u64, u64>,
    /// Changes of names since the directory was synced, oldest first.
    names: Vec<Change>,
}

enum Change {
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed { path: PathBuf, content: Vec<u8> },
}

/// Puts a disk under this thread. Everything that exists now is durable on it.
pub fn begin() {
    DISK.set(Some(Disk::default()));
}

/// Removes the disk.
pub fn end() {
    DISK.set(None);
}

/// Sets what the disk does from now on.
pub fn set(script: Script) {
    with(|disk| disk.script = script);
}

/// Whether the power has failed.
pub fn is_off() -> bool {
    with(|disk| disk.off).unwrap_or(false)
}

/// Whether only the process ended, so that everything that was written stays.
pub fn is_killed() -> bool {
    with(|disk| disk.off && disk.script.killed).unwrap_or(false)
}

/// The length of a file that would survive a power cut.
pub fn durable_len(path: &Path) -> u64 {
    let Ok(meta) = std::fs::metadata(path) else { return 0 };
    with(|disk| disk.durable(meta.ino(), meta.len())).unwrap_or(meta.len())
}

/// Whether the name of a file would survive a power cut.
pub fn is_named(path: &Path) -> bool {
    let unsynced = |change: &Change| matches!(change, Change::Renamed { to, .. } if to == path);
    with(|disk| !disk.names.iter().any(unsynced)).unwrap_or(true)
}

/// Whether a disk is under this thread.
pub fn is_under_this_thread() -> bool {
    with(|_| ()).is_some()
}

fn with<T>(work: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    DISK.with_borrow_mut(|disk| disk.as_mut().map(work))
}

fn failed(kind: io::ErrorKind) -> io::Result<()> {
    Err(kind.into())
}

impl Disk {
    fn durable(&self, inode: u64, length: u64) -> u64 {
        self.synced.get(&inode).map_or(length, |&synced| synced.min(length))
    }

    /// Counts a call, and fails if the power fails before it.
    fn powered(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.script.cut_in {
            self.off |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.off { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn unsynced_from(&mut self, file: &File, offset: u64) -> io::Result<()> {
        let meta = file.metadata()?;
        let durable = self.durable(meta.ino(), meta.len());
        self.synced.insert(meta.ino(), durable.min(offset));
        Ok(())
    }

    fn write_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(gone) = self.powered() {
            if self.script.cut_in == Some(0) {
                self.script.cut_in = None; // this is the call during which the power failed
                self.unsynced_from(file, offset)?;
                file.write_all_at(bytes, offset)?;
            }
            return Err(gone);
        }
        self.unsynced_from(file, offset)?;
        if self.script.bad_writes > 0 {
            self.script.bad_writes -= 1;
            file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("scripted: write"));
        }
        let there = file.metadata()?.len();
        let end = offset + bytes.len() as u64;
        if let Some(room) = &mut self.script.room {
            if there + *room < end {
                let fits = (there + std::mem::take(room)).saturating_sub(offset);
                file.write_all_at(&bytes[..fits as usize], offset)?;
                return failed(io::ErrorKind::StorageFull);
            }
            *room -= end.saturating_sub(there);
        }
        Ok(())
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.powered()?;
        if self.script.bad_syncs > 0 {
            self.script.bad_syncs -= 1;
            return Err(io::Error::other("scripted: fdatasync"));
        }
        let meta = file.metadata()?;
        self.synced.insert(meta.ino(), meta.len());
        Ok(())
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.powered()?;
        self.names.retain(|change| {
            let (Change::Renamed { to: path, .. } | Change::Removed { path, .. }) = change;
            path.parent() != Some(dir)
        });
        Ok(())
    }
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    with(|disk| disk.write_at(file, bytes, offset)).unwrap_or(Ok(()))
}

pub(super) fn append(file: &File, bytes: &[u8]) -> io::Result<()> {
    let written = |disk: &mut Disk| {
        let end = file.metadata()?.len();
        disk.write_at(file, bytes, end)
    };
    with(written).unwrap_or(Ok(()))
}

pub(super) fn free() -> Option<u64> {
    with(|disk| disk.script.free.unwrap_or(u64::MAX / 2))
}

/// Makes the next sync of this thread do this first.
pub fn at_next_sync(fault: impl FnOnce(&File) -> io::Result<()> + 'static) {
    AT_SYNC.set(Some(Box::new(fault)));
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    AT_SYNC.take().map_or(Ok(()), |fault| fault(file))?;
    with(|disk| disk.sync(file)).unwrap_or(Ok(()))
}

pub(super) fn set_len(file: &File, length: u64) -> io::Result<()> {
    let cut = |disk: &mut Disk| {
        disk.powered()?;
        let there = file.metadata()?.len();
        if let Some(room) = &mut disk.script.room {
            *room += there.saturating_sub(length);
        }
        disk.unsynced_from(file, length)
    };
    with(cut).unwrap_or(Ok(()))
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let change = |disk: &mut Disk| {
        disk.powered()?;
        let replaced = std::fs::read(to).ok();
        disk.names.push(Change::Renamed { from: from.into(), to: to.into(), replaced });
        Ok(())
    };
    with(change).unwrap_or(Ok(()))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    let change = |disk: &mut Disk| {
        disk.powered()?;
        let content = std::fs::read(path)?;
        if let Some(room) = &mut disk.script.room {
            *room += content.len() as u64;
        }
        disk.names.push(Change::Removed { path: path.into(), content });
        Ok(())
    };
    with(change).unwrap_or(Ok(()))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    with(|disk| disk.sync_dir(dir)).unwrap_or(Ok(()))
}

/// Makes what a power cut leaves of directories, each in the directory beside it. Afterwards
/// everything is durable as it is in the copies. `rng`: if it is `None`, the process was killed and
/// the disk lost nothing. Directories below the given ones are not copied.
pub fn image(dirs: &[(&Path, &Path)], rng: Option<&mut fastrand::Rng>) {
    for (from, to) in dirs {
        std::fs::create_dir_all(to).unwrap();
        for path in files(from) {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let Some(rng) = rng else {
        return with(|disk| disk.survive(dirs)).unwrap();
    };
    let changes = with(|disk| std::mem::take(&mut disk.names)).unwrap();
    for (from, to) in dirs {
        for path in files(from) {
            tear(&path, &to.join(path.file_name().unwrap()), rng);
        }
        let mine: Vec<&Change> = changes.iter().filter(|change| change.parent() == Some(from)).collect();
        let lost = rng.usize(0..=mine.len());
        mine.iter().rev().take(lost).for_each(|change| change.undo(to));
    }
    begin();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|file| file.path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

impl Change {
    /// Undoes the change in directory `dir`.
    fn undo(&self, dir: &Path) {
        let at = |path: &Path| dir.join(path.file_name().unwrap());
        match self {
            Self::Renamed { from, to, replaced } => {
                // A later change may have removed the file.
                let _ = std::fs::rename(at(to), at(from));
                if let Some(content) = replaced {
                    std::fs::write(at(to), content).unwrap();
                }
            }
            Self::Removed { path, content } => std::fs::write(at(path), content).unwrap(),
        }
    }

    fn parent(&self) -> Option<&Path> {
        let (Self::Renamed { to: path, .. } | Self::Removed { path, .. }) = self;
        path.parent()
    }
}

impl Disk {
    /// A new process finds all files, and content that was not durable is still not durable. (Of
    /// the changes of names only renames are carried on.)
    fn survive(&mut self, dirs: &[(&Path, &Path)]) {
        let old = std::mem::take(self);
        for (from, to) in dirs {
            for file in files(to) {
                let original = std::fs::metadata(from.join(file.file_name().unwrap())).unwrap();
                let copy = std::fs::metadata(&file).unwrap();
                self.synced.insert(copy.ino(), old.durable(original.ino(), original.len()));
            }
        }
        for change in old.names {
            let dir = dirs.iter().find(|(from, _)| change.parent() == Some(from));
            if let (Change::Renamed { from, to: path, replaced }, Some((_, to))) = (change, dir) {
                let at = |path: &Path| to.join(path.file_name().unwrap());
                self.names.push(Change::Renamed { from: at(&from), to: at(&path), replaced });
            }
        }
    }
}

/// Leaves in `copy` the durable part of `original` and any part of the rest.
fn tear(original: &Path, copy: &Path, rng: &mut fastrand::Rng) {
    let (durable, length) = (durable_len(original), std::fs::metadata(original).unwrap().len());
    if durable >= length {
        return;
    }
    let mut bytes = std::fs::read(original).unwrap();
    let durable = durable as usize;
    if rng.bool() {
        bytes.truncate(rng.usize(durable..=length as usize));
    }
    let tail = &mut bytes[durable..];
    match rng.u8(0..4) {
        0 if !tail.is_empty() => {
            let (one, other) = (rng.usize(0..tail.len()), rng.usize(0..tail.len()));
            tail[one.min(other)..one.max(other)].fill(0);
        }
        // Of each sector, what was there before (zeros) or what was written.
        2 => {
            let (keep, mut lost) = (rng.u32(0..=100), false);
            for (at, byte) in tail.iter_mut().enumerate() {
                if at == 0 || (durable + at).is_multiple_of(SECTOR) {
                    lost = rng.u32(0..100) >= keep;
                }
                *byte = if lost { 0 } else { *byte };
            }
        }
        // Tears one line of the group. The lines after it are whole.
        1 => {
            let lines = tail.split_inclusive_mut(|byte| *byte == b'\n');
            if let Some(line) = rng.choice(lines.collect::<Vec<_>>()) {
                line.fill(0);
            }
        }
        _ => {}
    }
    std::fs::write(copy, bytes).unwrap();
}
