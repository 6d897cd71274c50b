//! A run of the index: a file that is written once.
//!
//! ```text
//! {"known":2, "identity":…, "from":…, "through":…, …}  \t crc \n     head: numbers, place in
//!                                                                    the log, spans, buckets
//! { key 8 | number 8 }*                                              sorted by key, little-endian
//! ```
//!
//! A bucket contains the reads whose keys begin with the same byte. It is read at once and has a
//! CRC of its own, in the head.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal::disk;
use crate::journal::entry::{seal, unseal};
use crate::journal::log::LogPlace;

/// Version of the format. In the first version, reads without a date were known by their time of
/// day alone.
const VERSION: u32 = 2;
/// Bytes of one read.
pub(super) const READ_BYTES: u64 = 16;
/// Pairs of decoder and kind of stamp that a run distinguishes. If there are more, the run may
/// contain any stamp.
const SPANS_MAX: usize = 256;
/// A longer head is not valid.
const HEAD_MAX: u64 = 256 * 1024;
const BUCKETS: usize = 256;

/// The first and the last stamp of each decoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spans {
    of: BTreeMap<u64, (i64, i64)>,
    /// There were too many pairs.
    anything: bool,
}

impl Spans {
    pub(crate) fn add(&mut self, span: u64, ms: i64) {
        self.widen(span, (ms, ms));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.anything |= other.anything;
        other.of.iter().for_each(|(span, ends)| self.widen(*span, *ends));
    }

    pub(crate) fn may_hold(&self, span: u64, ms: i64) -> bool {
        self.anything || self.of.get(&span).is_some_and(|(first, last)| (*first..=*last).contains(&ms))
    }

    fn widen(&mut self, span: u64, (first, last): (i64, i64)) {
        let ends = self.of.entry(span).or_insert((first, last));
        *ends = (ends.0.min(first), ends.1.max(last));
        if self.of.len() > SPANS_MAX {
            (self.of, self.anything) = (BTreeMap::new(), true);
        }
    }
}

/// The content from which a run is written.
pub(crate) struct RunContent<'a> {
    pub identity: &'a str,
    pub from: u64,
    pub through: u64,
    pub place: LogPlace,
    /// Key and number, in any order.
    pub reads: Vec<(u64, u64)>,
    pub spans: Spans,
}

#[derive(Serialize, Deserialize)]
struct Head {
    known: u32,
    identity: String,
    from: u64,
    through: u64,
    place: LogPlace,
    spans: Spans,
    /// Number of reads in each bucket, and its CRC.
    buckets: Vec<(u32, u32)>,
}

/// A run on the disk.
pub(crate) struct Run {
    /// Its file.
    pub path: PathBuf,
    /// First number it covers.
    pub from: u64,
    /// Last number it covers.
    pub through: u64,
    /// Place in the log behind the last number.
    pub place: LogPlace,
    /// The range of stamps in the run.
    pub spans: Spans,
    /// Written by a version that knew no days. For reads with a date it is equally right.
    pub without_days: bool,
    file: File,
    /// Where the reads begin in the file.
    body: u64,
    /// Index of the first read of each bucket, and the end of the last bucket. `crcs` has the CRC
    /// of each bucket.
    starts: Vec<u32>,
    crcs: Vec<u32>,
}

impl Run {
    /// Writes a run and makes it durable, and its name too.
    pub(crate) fn write(dir: &Path, content: RunContent<'_>) -> io::Result<Self> {
        let RunContent { identity, from, through, place, mut reads, spans } = content;
        reads.sort_unstable();
        reads.dedup_by_key(|read| read.0); // the first read stays
        let mut body = Vec::with_capacity(reads.len() * READ_BYTES as usize);
        let mut buckets = Vec::with_capacity(BUCKETS);
        let mut rest = reads.as_slice();
        for bucket in 0..BUCKETS {
            let count = rest.partition_point(|(key, _)| (key >> 56) as usize <= bucket);
            let begin = body.len();
            for (key, seq) in &rest[..count] {
                body.extend_from_slice(&key.to_le_bytes());
                body.extend_from_slice(&seq.to_le_bytes());
            }
            buckets.push((count as u32, crc32fast::hash(&body[begin..])));
            rest = &rest[count..];
        }
        let head = Head { known: VERSION, identity: identity.to_owned(), from, through, place, spans, buckets };
        let mut bytes = serde_json::to_vec(&head)?;
        seal(&mut bytes, 0);
        let start = bytes.len() as u64;
        bytes.append(&mut body);
        let path = dir.join(format!("{from:012}-{through:012}.known"));
        let fresh = path.with_extension("new");
        let written = disk::write_fresh(&fresh, &bytes).and_then(|file| {
            disk::rename(&fresh, &path)?;
            disk::sync_dir(dir)?;
            Ok(file)
        });
        if written.is_err() {
            let _ = disk::remove(&fresh); // if the disk is full, the log needs the room
        }
        Ok(Self::at(path, written?, start, head))
    }

    /// Opens a run. `Ok(None)`: the file is not whole, or it belongs to another journal.
    fn open(path: &Path, identity: &str) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut line = Vec::new();
        BufReader::new(&file).take(HEAD_MAX).read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\n").and_then(|line| unseal(line).ok());
        let head: Option<Head> = text.and_then(|text| serde_json::from_str(text).ok());
        let fits = |head: &Head| {
            (1..=VERSION).contains(&head.known)
                && head.identity == identity
                && head.buckets.len() == BUCKETS
                && head.from <= head.through
        };
        let Some(head) = head.filter(fits).filter(|head| head.from > 0) else { return Ok(None) };
        let reads: u64 = head.buckets.iter().map(|bucket| u64::from(bucket.0)).sum();
        let start = line.len() as u64;
        if file.metadata()?.len() != start + reads * READ_BYTES {
            return Ok(None);
        }
        Ok(Some(Self::at(path.into(), file, start, head)))
    }

    fn at(path: PathBuf, file: File, body: u64, head: Head) -> Self {
        let Head { known, from, through, place, spans, buckets, .. } = head;
        let without_days = known < VERSION;
        let mut starts = vec![0];
        starts.extend(buckets.iter().scan(0_u32, |sum, (count, _)| {
            *sum = sum.saturating_add(*count);
            Some(*sum)
        }));
        let crcs = buckets.into_iter().map(|(_, crc)| crc).collect();
        Self { path, from, through, place, spans, without_days, file, body, starts, crcs }
    }

    /// Makes a run of the reads up to number `last`. `None`: it cannot be made.
    pub(crate) fn before(&self, last: u64, dir: &Path, identity: &str) -> Option<Self> {
        let mut reads = self.read_all().ok()?;
        reads.retain(|read| read.1 <= last);
        // The place of that number in the log is not known, so it will be searched.
        let (place, spans) = (LogPlace::default(), self.spans.clone());
        Self::write(dir, RunContent { identity, from: self.from, through: last, place, reads, spans }).ok()
    }

    /// Number of reads in the run.
    pub(crate) fn reads(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0).into()
    }

    /// Number of the first read with this key.
    pub(crate) fn find(&self, key: u64) -> io::Result<Option<u64>> {
        let reads = self.bucket((key >> 56) as usize)?;
        Ok(reads.binary_search_by_key(&key, |read| read.0).ok().map(|at| reads[at].1))
    }

    /// All reads, sorted by key.
    pub(crate) fn read_all(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut all = Vec::with_capacity(self.reads() as usize);
        for bucket in 0..BUCKETS {
            all.append(&mut self.bucket(bucket)?);
        }
        Ok(all)
    }

    fn bucket(&self, at: usize) -> io::Result<Vec<(u64, u64)>> {
        let (first, next) = (self.starts[at], self.starts[at + 1]);
        let mut bytes = vec![0; (next - first) as usize * READ_BYTES as usize];
        self.file.read_exact_at(&mut bytes, self.body + u64::from(first) * READ_BYTES)?;
        if crc32fast::hash(&bytes) != self.crcs[at] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a checksum does not agree"));
        }
        let (numbers, _) = bytes.as_chunks::<8>();
        let (pairs, _) = numbers.as_chunks::<2>();
        Ok(pairs.iter().map(|[key, seq]| (u64::from_le_bytes(*key), u64::from_le_bytes(*seq))).collect())
    }
}

/// Every run of the journal in `dir`, oldest first. A file that is no run, or whose numbers another
/// run covers, is removed.
pub(super) fn open_all(dir: &Path, identity: &str) -> io::Result<Vec<Run>> {
    let mut found: Vec<Run> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match Run::open(&path, identity) {
            Ok(Some(run)) => found.push(run),
            Ok(None) => disk::remove(&path)?,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "a run of the index of known reads cannot be read");
            }
        }
    }
    found.sort_by_key(|run| (run.from, u64::MAX - run.through));
    let mut whole: Vec<Run> = Vec::new();
    for run in found {
        // The power failed after the merged run was written and before the runs in it were removed.
        match whole.last() {
            Some(before) if run.through <= before.through => disk::remove(&run.path)?,
            _ => whole.push(run),
        }
    }
    Ok(whole)
}
