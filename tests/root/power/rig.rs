//! An ext4 on a loop device on the [`Disk`]. Whatever happens, file systems are unmounted and the
//! device is let go when the rig goes; what a run that was killed has left is cleaned up by the
//! next one, by its own name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::disk::Disk;
use super::platter::{Image, Remains};

const PREFIX: &str = "passbridge-power-";

pub struct Rig {
    // Fields go in this order: the disk is unmounted before its directory is removed.
    pub disk: Disk,
    empty: Image,
    device: Option<String>,
    mounted: bool,
    dir: TempDir,
}

impl Rig {
    /// A disk with an empty ext4, without power.
    ///
    /// # Panics
    /// This machine or this user cannot have one.
    pub fn new() -> Self {
        clean_up_after_the_dead();
        Self::build().unwrap_or_else(|why| panic!("no disk whose power can be cut here: {why}"))
    }

    fn build() -> Result<Self, String> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().map_err(|error| error.to_string())?;
        for name in ["fuse", "data"] {
            std::fs::create_dir(dir.path().join(name)).map_err(|error| error.to_string())?;
        }
        let disk = Disk::mount(&dir.path().join("fuse")).map_err(|error| format!("no FUSE file system: {error}"))?;
        let mut rig = Self { disk, empty: Image::default(), device: None, mounted: false, dir };
        let device = rig.attach()?;
        // Nothing is left to be done in the background, so that every trial begins with the same
        // disk.
        let format = ["-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", &device];
        run("mkfs.ext4", format)?;
        rig.power_off()?;
        rig.empty = rig.disk.platter().image();
        Ok(rig)
    }

    /// Where the file system is mounted while there is power.
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Another disk, with an empty file system. The power must be off.
    pub fn new_disk(&mut self) {
        assert!(self.device.is_none(), "the power is on");
        self.disk.platter().insert(self.empty.clone());
    }

    /// Attaches the device and mounts it: ext4 replays its journal.
    pub fn power_on(&mut self) -> Result<(), String> {
        let device = self.attach()?;
        run("mount", [OsStr::new("-t"), "ext4".as_ref(), device.as_ref(), self.mountpoint().as_ref()])?;
        self.mounted = true;
        Ok(())
    }

    /// The power goes, now.
    pub fn cut(&self, keep: u32, rng: &mut fastrand::Rng) -> Remains {
        self.disk.platter().cut(keep, rng)
    }

    /// Lets the device go. After a cut nothing of what the kernel still wants to write reaches the
    /// disk, now or ever.
    pub fn power_off(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.mounted) {
            let mountpoint = self.mountpoint();
            // Lazily only when somebody of ours is still in it.
            run("umount", [&mountpoint]).or_else(|_| run("umount", [OsStr::new("-l"), mountpoint.as_ref()]))?;
        }
        if let Some(device) = self.device.take() {
            run("losetup", ["-d", &device])?;
        }
        if !self.disk.platter().is_dead() {
            let _ = self.disk.platter().flush(); // a box that was shut down: its disk had the time
        }
        self.disk.platter().revive();
        Ok(())
    }

    fn attach(&mut self) -> Result<String, String> {
        // Between finding a free one and taking it somebody else may take it.
        let attach = || run("losetup", [OsStr::new("-f"), "--show".as_ref(), self.disk.path().as_ref()]);
        let device = (0..10).find_map(|_| attach().ok()).map_or_else(attach, Ok)?.trim().to_owned();
        self.device = Some(device.clone());
        Ok(device)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.disk.platter().cut(0, &mut fastrand::Rng::with_seed(0)); // nothing waits for a disk that is going
        if let Err(error) = self.power_off() {
            eprintln!("the rig in {} is not cleaned up: {error}", self.dir.path().display());
        }
    }
}

/// Unmounts and removes what processes that are no more have left.
fn clean_up_after_the_dead() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if id.is_none_or(|id| Path::new(&format!("/proc/{id}")).exists()) {
            continue;
        }
        let path = entry.path();
        let _ = run("umount", [OsStr::new("-l"), path.join("data").as_ref()]);
        // A loop device whose file is in a FUSE file system that is gone: it is only found by name.
        let list = run("losetup", ["-n", "-O", "NAME,BACK-FILE"]).unwrap_or_default();
        for device in list.lines().filter(|line| line.contains(&*path.to_string_lossy())) {
            let _ = run("losetup", ["-d", device.split_whitespace().next().unwrap_or_default()]);
        }
        let _ = run("umount", [OsStr::new("-l"), path.join("fuse").as_ref()]);
        let _ = std::fs::remove_dir_all(&path);
    }
}

fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
