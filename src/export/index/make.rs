//! Makes the index of a segment, keeps it beside the log, and reads it again.
//!
//! A kept index is two files: the blocks (JSON behind its checksum), and the chips in them
//! ([`super::chips`]). Both are made in one pass over the segment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::block::Block;
use super::chips::{self, Chips, KeptChips};
use crate::export::reading::Reading;
use crate::journal::control::Control;
use crate::journal::entries::Entries;
use crate::journal::entry::{Body, Entry};
use crate::journal::log::{LogLine, LogPlace, SegmentFile, segments};
use crate::journal::{log_dir, windows_dir};
use crate::model::chip::{ChipRead, Label, Marker, Stamp};
use crate::model::clock::Step;
use crate::model::correction::Correction;
use crate::model::source;

/// Bytes of a block. A search reads the blocks in which a chip is, and those that tell what became
/// of its reads, so they are small.
pub(super) const BLOCK: u64 = if cfg!(test) { 2 << 10 } else { 64 << 10 };
/// Numbered markers that are remembered, to recognise duplicates.
pub(super) const MARKERS_MAX: usize = 65_536;
/// Number of the last bytes that an index covers and that are kept with it. The checksum of the
/// last line is among them.
const TAIL: usize = 10;
/// After so many bytes the daemon rests for [`REST`], because a chip read is more important than an
/// index.
const REST_AFTER: u64 = 1 << 20;
/// How long it rests.
const REST: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 20 });
/// Changes when the meaning of the kept index changes.
const VERSION: &str = concat!("4 ", env!("CARGO_PKG_VERSION"));

/// The index of a segment, in the form that is kept beside the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    version: String,
    /// First number of the segment. `before` is the first number of the next segment.
    first: u64,
    before: u64,
    /// The last bytes that the index covers.
    tail: String,
    /// Zone of each decoder that has reads in the segment. `None`: the times were not determined.
    zones: Option<BTreeMap<Box<str>, String>>,
    pub blocks: Vec<Block>,
    /// Steps of the box's clock, each with the number of its entry.
    pub steps: Vec<(u64, Step)>,
    /// Corrections, each with the number of its entry and its decoder.
    #[serde(default)]
    pub corrections: Vec<(u64, Box<str>, Correction)>,
    /// What somebody decided about the box, each with the number of its entry.
    pub controls: Vec<(u64, Control)>,
    /// Markers that their decoder numbers: entry, and a digest that distinguishes the marker from
    /// others.
    pub markers: Vec<(u64, u64)>,
}
/// How an index is made.
pub(super) struct Making<'a> {
    pub dir: &'a Path,
    pub kept: PathBuf,
    pub reading: &'a Reading,
    /// Only entries up to this number are read.
    pub durable: u64,
    /// The times of the blocks are needed.
    pub times: bool,
    /// The indexes of closed segments are kept.
    pub keeps: bool,
    /// The chips that are looked for, as sorted hashes. Blocks that may have them are marked.
    pub wanted: Option<&'a [u32]>,
}

impl Making<'_> {
    /// The index of a segment: the kept one, if it belongs to this log and these zones, or a new
    /// one. `go_on` is called before each block of a new index. `None`: `go_on` returned `None`.
    pub(super) fn segment(
        &self,
        file: &SegmentFile,
        next: Option<&SegmentFile>,
        steps: &[(u64, Step)],
        go_on: &mut dyn FnMut() -> Option<()>,
    ) -> io::Result<Option<Segment>> {
        // A segment that was closed a moment ago may still have zeros behind its lines.
        let file = &SegmentFile { bytes: file.lines().unwrap_or(file.bytes), ..file.clone() };
        let known = next.and_then(|next| self.known(file, next));
        if known.is_some() {
            return Ok(known);
        }
        let before = next.map_or(u64::MAX, |next| next.first);
        let Some((mut segment, chips)) = self.make(file, before, steps, go_on)? else { return Ok(None) };
        let whole = next.is_some() && segment.blocks.last().is_some_and(|last| last.end == file.bytes);
        if self.keeps && whole && before <= self.durable {
            segment.tail = tail_of(file, file.bytes).unwrap_or_default();
            // The chips first: blocks without them are made again.
            keep(&chips_path(&self.kept, file.first), &chips.encode(segment.shape()));
            keep(&kept_path(&self.kept, file.first), &sealed(&segment));
        }
        Ok(Some(segment))
    }

    fn known(&self, file: &SegmentFile, next: &SegmentFile) -> Option<Segment> {
        let mut segment = unsealed(&std::fs::read(kept_path(&self.kept, file.first)).ok()?)?;
        let end = segment.blocks.last()?.end;
        let same = segment.version == VERSION && segment.first == file.first && segment.before == next.first;
        let zones_fit = match &segment.zones {
            None => !self.times,
            Some(zones) => zones.iter().all(|(decoder, zone)| zone_text(self.reading.zones.of(decoder)) == *zone),
        };
        let covers = end == file.bytes && tail_of(file, end).is_some_and(|tail| tail == segment.tail);
        if !(same && (zones_fit || !self.times) && covers) {
            return None;
        }
        if self.keeps || self.wanted.is_some() {
            let chips = KeptChips::open(&chips_path(&self.kept, file.first), segment.shape())?;
            for block in chips.blocks_with(self.wanted.unwrap_or_default())? {
                let last = if block == u16::MAX { segment.blocks.len() } else { usize::from(block) + 1 };
                segment.blocks.get_mut(usize::from(block)..last)?.iter_mut().for_each(|block| block.hit = true);
            }
        }
        Some(segment)
    }

    /// Reads a segment and makes its index. Without times, only the checksum and the chip of reads are
    /// looked at.
    fn make(
        &self,
        file: &SegmentFile,
        before: u64,
        steps: &[(u64, Step)],
        go_on: &mut dyn FnMut() -> Option<()>,
    ) -> io::Result<Option<(Segment, Chips)>> {
        let mut chips = Chips::default();
        let mut segment = Segment { version: VERSION.to_owned(), first: file.first, before, ..Segment::default() };
        let start = LogPlace { segment: file.first, offset: 0 };
        // The segment was removed meanwhile.
        let Some(mut entries) = Entries::at(self.dir, start, self.durable)? else { return Ok(Some((segment, chips))) };
        let mut known = steps.to_vec();
        let times = self.times || (self.keeps && before != u64::MAX);
        let mut zones = times.then(BTreeMap::new);
        let mut ended = false;
        while !ended && entries.place().segment == file.first {
            if go_on().is_none() {
                return Ok(None);
            }
            let mut block = Block { start: entries.place().offset, decoded: times, ..Block::default() };
            let mut limit = LogPlace { segment: file.first, offset: block.start + BLOCK };
            let mut after_bad = false;
            loop {
                let wanted = |seq: u64, kind: &str, text: &str| {
                    self.chip(kind, text, &mut block, (&mut chips, segment.blocks.len()));
                    match kind {
                        "read" if lets_go(text) => true,
                        "read" | "rejected" if !times => {
                            block.frame(seq);
                            false
                        }
                        "note" | "cleared" => times,
                        _ => true,
                    }
                };
                let line = entries.line_before(limit, wanted)?;
                let here = entries.place();
                match line {
                    None if after_bad && here.segment == file.first && here.offset >= limit.offset => {
                        limit.offset += BLOCK / 16; // a block begins where a line begins
                        after_bad = false;
                        continue;
                    }
                    None => {
                        ended = here.segment != file.first || here.offset < limit.offset;
                        break;
                    }
                    Some(LogLine::Entry(entry)) => {
                        after_bad = false;
                        self.entry(&entry, &mut block, &mut known, &mut segment, times);
                        if let (Some(zones), Body::Read(_)) = (&mut zones, &entry.body) {
                            let decoder = source::decoder(&entry.subject);
                            if !zones.contains_key(decoder) {
                                zones.insert(decoder.into(), zone_text(self.reading.zones.of(decoder)));
                            }
                        }
                    }
                    Some(LogLine::Bad { .. }) => {
                        after_bad = true;
                        block.bad += 1;
                    }
                    Some(LogLine::State(_)) => {}
                }
            }
            let here = entries.place();
            block.end = if here.segment == file.first { here.offset } else { file.bytes };
            segment.blocks.push(block);
        }
        segment.zones = zones;
        segment.steps = known.split_off(steps.len());
        Ok(Some((segment, chips)))
    }

    /// Takes the chip of a line that has one.
    fn chip(&self, kind: &str, text: &str, block: &mut Block, (chips, at): (&mut Chips, usize)) {
        if kind != "read" || (!self.keeps && self.wanted.is_none()) {
            return;
        }
        let Some(hash) = chips::hash_of_line(text) else { return };
        block.hit |= self.wanted.is_some_and(|wanted| wanted.binary_search(&hash).is_ok());
        if self.keeps {
            chips.add(hash, at);
        }
    }

    fn entry(
        &self,
        entry: &Entry,
        block: &mut Block,
        steps: &mut Vec<(u64, Step)>,
        segment: &mut Segment,
        times: bool,
    ) {
        match &entry.body {
            Body::Read(ChipRead { let_go: Some(let_go), .. }) => block.lets_go.add(let_go.1.0, let_go.1.0),
            Body::Read(_) | Body::Rejected(_) | Body::Marker(_) => {
                block.frame(entry.seq);
                if let Body::Marker(marker) = &entry.body
                    && let Some(digest) = digest(&entry.subject, marker)
                    && segment.markers.len() < MARKERS_MAX
                {
                    segment.markers.push((entry.seq, digest));
                }
                if times {
                    block.time(entry, self.reading, steps);
                }
            }
            Body::Upload(event) => block.upload(event),
            Body::Clock(step) => steps.push((entry.seq, *step)),
            Body::Correct(correction) => {
                segment.corrections.push((entry.seq, (&*entry.subject).into(), correction.clone()));
            }
            Body::Control(control) => segment.controls.push((entry.seq, control.clone())),
            Body::Settled(_) | Body::Cleared(_) | Body::Note(_) => {}
        }
    }
}

/// Makes and keeps the index of every closed segment that has none, and removes the indexes of
/// segments that no longer exist. Ends early when `stop` returns true. It rests after each MiB.
/// `seen`: the newest segment at the last call. If it is still the newest, nothing is made. Returns
/// the value of `seen` for the next call.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn refresh(data_dir: &Path, reading: &Reading, seen: u64, stop: &dyn Fn() -> bool) -> io::Result<u64> {
    let dir = log_dir(data_dir);
    let files = segments(&dir)?;
    let newest = files.last().map_or(0, |file| file.first);
    let kept = windows_dir(data_dir);
    for left in std::fs::read_dir(&kept).into_iter().flatten().flatten() {
        let of = left.path();
        let is_of = |file: &SegmentFile| kept_path(&kept, file.first) == of || chips_path(&kept, file.first) == of;
        if !files.iter().any(is_of) {
            let _ = std::fs::remove_file(of); // the index is derived, so this costs only time
        }
    }
    if newest == seen {
        return Ok(seen);
    }
    let making = Making { dir: &dir, kept, reading, durable: u64::MAX, times: true, keeps: true, wanted: None };
    let mut steps = Vec::new();
    let mut read = 0;
    let mut go_on = || {
        read += BLOCK;
        if read >= REST_AFTER {
            std::thread::sleep(REST);
            read = 0;
        }
        (!stop()).then_some(())
    };
    for pair in files.windows(2) {
        match making.segment(&pair[0], Some(&pair[1]), &steps, &mut go_on)? {
            Some(segment) => steps.extend(segment.steps),
            None => return Ok(seen),
        }
    }
    Ok(newest)
}

fn kept_path(kept: &Path, first: u64) -> PathBuf {
    kept.join(format!("{first:012}.json"))
}

fn chips_path(kept: &Path, first: u64) -> PathBuf {
    kept.join(format!("{first:012}.chips"))
}

impl Segment {
    /// A checksum of where the blocks are, and of which segment.
    fn shape(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(VERSION.as_bytes());
        hasher.update(self.tail.as_bytes());
        for number in [self.first, self.before].into_iter().chain(self.blocks.iter().map(|block| block.end)) {
            hasher.update(&number.to_le_bytes());
        }
        hasher.finalize()
    }
}

/// The bytes of the file: the checksum of the JSON as a line, and the JSON.
fn sealed(segment: &Segment) -> Vec<u8> {
    let json = serde_json::to_vec(segment).unwrap_or_default(); // plain data with string keys
    let mut bytes = format!("{:08x}\n", crc32fast::hash(&json)).into_bytes();
    bytes.extend(json);
    bytes
}

/// The index in a file. `None`: the file is damaged, or of another version.
fn unsealed(bytes: &[u8]) -> Option<Segment> {
    let (sum, json) = bytes.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?.strip_suffix('\n')?, 16).ok()?;
    (sum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// Whether files that this process writes there can be replaced by the user to whom the directory
/// belongs.
pub(in crate::export) fn is_ours(data_dir: &Path) -> bool {
    std::fs::metadata(data_dir).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
}

/// Writes a file whole or not at all. If the disk is full or cannot be written, that costs only
/// time.
fn keep(path: &Path, bytes: &[u8]) {
    let Some(dir) = path.parent() else { return };
    let fresh = path.with_extension("new");
    let write = || {
        std::fs::create_dir_all(dir)?;
        std::fs::write(&fresh, bytes)?;
        std::fs::rename(&fresh, path)
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "the index of a log segment could not be kept");
        let _ = std::fs::remove_file(&fresh);
    }
}

/// The bytes before `end`, as text.
fn tail_of(file: &SegmentFile, end: u64) -> Option<String> {
    let mut bytes = [0; TAIL];
    File::open(&file.path).ok()?.read_exact_at(&mut bytes, end.checked_sub(TAIL as u64)?).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the line of a read may be that of a released read. (Its chip or its raw bytes may look
/// like it.)
pub(in crate::export) fn lets_go(text: &str) -> bool {
    memchr::memmem::find(text.as_bytes(), b"let_go=").is_some()
}

fn zone_text(zone: &TimeZone) -> String {
    zone.iana_name().map_or_else(|| format!("{zone:?}"), str::to_owned)
}

/// A digest of what distinguishes a numbered marker from others. FNV-1a: it is kept on the disk, so
/// it must be the same in each version.
fn digest(subject: &str, marker: &Marker) -> Option<u64> {
    let position = marker.position.as_ref().filter(|_| marker.through.is_none())?;
    let file = match &position.file {
        None => String::new(),
        Some(Label::Number(number)) => format!("#{number}"),
        Some(Label::Text(text)) => format!("'{text}"),
    };
    let stamp = marker.stamp.as_ref().map(Stamp::to_string).unwrap_or_default();
    let number = position.number.to_string();
    let parts =
        [source::decoder(subject), &marker.kind, &stamp, position.unit.as_deref().unwrap_or("\u{0}"), &file, &number];
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    Some(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}
