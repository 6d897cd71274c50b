//! Whether the disk for a data directory is mounted.
//!
//! A journal that is begun under a mount point disappears under the disk when the disk is mounted.
//! Then acknowledged reads are hidden, and the numbers of a race would be given twice. `/etc/fstab`
//! says where a disk should be mounted.

use std::path::{Path, PathBuf};

/// A mount point on the way to `dir` where a disk should be mounted and none is.
pub(super) fn missing(dir: &Path) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/etc/fstab").ok()?;
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    missing_from(dir, &table, &mounted)
}

/// Like [`missing`], with the texts of `/etc/fstab` and `/proc/self/mountinfo`.
fn missing_from(dir: &Path, table: &str, mounted: &str) -> Option<PathBuf> {
    let real = real_path(dir);
    let mounts: Vec<PathBuf> =
        mounted.lines().filter_map(|line| line.split(' ').nth(4)).map(|at| PathBuf::from(unescaped(at))).collect();
    let wanted = table.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let wanted = wanted.filter_map(|line| line.split_whitespace().nth(1)).map(|at| PathBuf::from(unescaped(at)));
    let mut wanted: Vec<PathBuf> = wanted.filter(|at| at.is_absolute() && *at != Path::new("/")).collect();
    wanted.sort();
    wanted.into_iter().find(|at| {
        let point = real_path(at);
        (real.starts_with(&point) || dir.starts_with(at)) && !mounts.contains(&point) && !mounts.contains(at)
    })
}

/// The path without links, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            // Joining an empty rest would add a slash.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

/// In these tables, spaces, tabs, line ends and backslashes are written as a backslash and three
/// octal digits.
fn unescaped(text: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fstab_mounts_on_the_way_to_the_data_is_waited_for_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let point = root.join("my disk");
        std::fs::create_dir(&point).unwrap();
        std::os::unix::fs::symlink(&point, root.join("link")).unwrap();
        let escaped = point.to_str().unwrap().replace(' ', "\\040");
        let table = format!(
            "# a comment /x ext4\nUUID=1 / ext4 defaults 0 1\nUUID=2 none swap sw 0 0\nUUID=3 {escaped} ext4 defaults,nofail 0 2\n\
             UUID=4 {}/other vfat noauto 0 0\n",
            root.display()
        );
        let line = |at: &str| format!("36 25 8:1 / {at} rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
        for dir in [point.join("data/deep"), point.clone(), root.join("link/data")] {
            assert_eq!(missing_from(&dir, &table, &line("/")), Some(point.clone()), "{}", dir.display());
            assert_eq!(missing_from(&dir, &table, &(line("/") + &line(&escaped))), None);
            assert_eq!(missing_from(&dir, "", &line("/")), None);
        }
        assert_eq!(missing_from(&root.join("data"), &table, &line("/")), None);
        assert_eq!(missing_from(&root.join("my disk 2"), &table, &line("/")), None);
    }
}
