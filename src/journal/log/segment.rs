//! The segments of the log: their files, and places in them.

use std::io;
use std::path::{Path, PathBuf};

/// First word of a segment.
pub(super) const MAGIC: &str = "#passbridge-log\t1";

/// A longer line is damage. The longest line is the state at the head of a segment: about 2 MB per
/// decoder when every bound in it is reached. The longest entry, a frame of 256 KiB, has 1 MB when
/// it is escaped.
pub const LINE_MAX: u64 = 32 * 1024 * 1024;

/// A place in the log: byte `offset` of the segment that begins with number `segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogPlace {
    /// First sequence number of the segment.
    #[serde(rename = "volume")] // its name on the disk
    pub segment: u64,
    /// Byte offset in it.
    pub offset: u64,
}

/// The file of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// First sequence number.
    pub first: u64,
    /// Path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
}

/// Every segment in `dir`, oldest first.
pub fn segments(dir: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let path = file.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        // A name that is no regular file (a directory, a link to nowhere) holds no lines.
        if let Some(first) = number.and_then(|number| number.parse().ok())
            && let Ok(meta) = std::fs::metadata(&path)
            && meta.is_file()
        {
            found.push(SegmentFile { first, path, bytes: meta.len() });
        }
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}
