//! A small disk that can be filled: a tmpfs of its own. Where this user may not mount one (not root),
//! the test says so and proves nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Enough for the reserve to be made (it wants 32 MB of free room) and for a queue.
const SIZE: &str = "size=44m";

/// A file system in memory; unmounted when dropped.
pub struct Small {
    pub dir: PathBuf,
    _place: tempfile::TempDir,
}

impl Small {
    pub fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("disk");
        fs::create_dir(&dir).unwrap();
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "passbridge-test"]).arg(&dir).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { dir, _place: place }),
            other => {
                eprintln!("SKIPPED: this user cannot mount a tmpfs, so no disk can be filled here: {other:?}");
                None
            }
        }
    }

    /// Writes until nothing more goes in. Again: what became free meanwhile is taken, too.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a process that is still being killed must not keep it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.dir).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.dir.display());
        }
    }
}
