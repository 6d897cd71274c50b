//! The segments of the log: their files, and places in them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::zeros::end_of_lines;
use crate::journal::entry::unseal;

/// First word of a segment.
const MAGIC: &str = "#passbridge-log\t";

/// The format in which segments are written. Format 1 had no zeros behind its lines, and knew fewer
/// kinds of events. Both are read.
pub(in crate::journal) const FORMAT: u32 = 2;

/// The formats that this version reads. The last one is that which it writes.
pub(crate) const FORMATS: std::ops::RangeInclusive<u32> = 1..=FORMAT;

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
    /// Size in bytes. Zeros at the end count, because they take room.
    pub bytes: u64,
}

impl SegmentFile {
    /// Its size now, without the zeros at the end, which are room for lines to come.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn lines(&self) -> io::Result<u64> {
        end_of_lines(&File::open(&self.path)?)
    }
}

/// The first line of a segment says how it is written and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Head {
    /// Format of the segment.
    pub format: u32,
    /// Identity of the journal.
    pub identity: String,
}

impl Head {
    /// The head of a segment. `None`: its first line is damaged.
    pub(in crate::journal) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        BufReader::new(File::open(path)?).take(LINE_MAX).read_until(b'\n', &mut line)?;
        Ok(Self::parse(&line))
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let text = unseal(line.strip_suffix(b"\n").unwrap_or(line)).ok()?;
        let mut columns = text.strip_prefix(MAGIC)?.split('\t');
        Some(Self { format: columns.next()?.parse().ok()?, identity: columns.next()?.to_owned() })
    }

    /// The text of the line, without its checksum.
    pub(super) fn text(&self, first: u64) -> String {
        format!("{MAGIC}{}\t{}\t{first}", self.format, self.identity)
    }
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
