//! The disk as a file of a FUSE file system: a loop device on it is a block device whose FLUSH
//! arrives as `fsync`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

use super::platter::Platter;

/// Size of the device: room for the reserve (which wants 32 MB free) and for many segments.
pub const DISK_BYTES: u64 = 96 * 1024 * 1024;
const NAME: &str = "disk.img";
const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(60);

/// The mounted disk; unmounted when dropped.
pub struct Disk {
    shared: Arc<Shared>,
    _session: BackgroundSession,
    path: PathBuf,
}

struct Shared {
    platter: Mutex<Platter>,
    /// How long a FLUSH takes.
    flush_takes: Mutex<Duration>,
}

struct Server(Arc<Shared>);

impl Disk {
    /// Serves an empty disk in the directory `mountpoint`.
    pub fn mount(mountpoint: &Path) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { platter: Mutex::default(), flush_takes: Mutex::default() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("passbridge-power".into()), MountOption::RW];
        let session = fuser::spawn_mount(Server(Arc::clone(&shared)), mountpoint, &config)?;
        Ok(Self { shared, _session: session, path: mountpoint.join(NAME) })
    }

    /// The file that a loop device can be made of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long a FLUSH takes from now on: 8 ms are an SD card.
    pub fn flush_takes(&self, time: Duration) {
        *self.shared.flush_takes.lock().unwrap() = time;
    }

    pub fn platter(&self) -> MutexGuard<'_, Platter> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The platter, if it has power and had it all the time since this handle was opened.
    fn alive(&self, handle: FileHandle) -> Option<MutexGuard<'_, Platter>> {
        Some(self.lock()).filter(|platter| platter.life == handle.0)
    }
}

fn attributes(inode: INodeNo) -> Option<FileAttr> {
    let (kind, perm, size) = match inode {
        INodeNo::ROOT => (FileType::Directory, 0o700, 0),
        FILE => (FileType::RegularFile, 0o600, DISK_BYTES),
        _ => return None,
    };
    let (blocks, blksize) = (size / 512, 4096);
    let (ino, atime, mtime, ctime, crtime) = (inode, UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH);
    let (nlink, uid, gid, rdev, flags) = (1, 0, 0, 0, 0);
    Some(FileAttr { ino, size, blocks, atime, mtime, ctime, crtime, kind, perm, nlink, uid, gid, rdev, blksize, flags })
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match attributes(FILE).filter(|_| parent == INodeNo::ROOT && name == NAME) {
            Some(found) => reply.entry(&TTL, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(inode) {
            Some(found) => reply.attr(&TTL, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Direct: the kernel keeps no pages of its own of this file.
        reply.opened(FileHandle(self.0.lock().life), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(DISK_BYTES.saturating_sub(offset));
        let mut out = vec![0; length as usize];
        let read = self.0.alive(handle).map(|platter| platter.read(offset, &mut out));
        match read {
            Some(Ok(())) => reply.data(&out),
            _ => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.0.alive(handle).map(|mut platter| platter.write(offset, data));
        match written {
            Some(Ok(())) => reply.written(data.len() as u32),
            _ => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let takes = *self.0.flush_takes.lock().unwrap();
        std::thread::sleep(takes);
        let flushed = self.0.alive(handle).map(|mut platter| platter.flush());
        match flushed {
            Some(Ok(())) => reply.ok(),
            _ => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok(); // a handle is closed: this is no FLUSH
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            let _ = reply.add(FILE, 1, FileType::RegularFile, NAME); // one name always fits
        }
        reply.ok();
    }
}
