//! Where each entry is in the log: for every block of a segment, which entries it contains, their
//! times, and the reads that its uploads are about.
//!
//! What must hold:
//! * **Never narrower than the truth.** A block is left out only if nothing in it can be asked for.
//!   Its times follow from the same rules and zones as in the export. An index that was made for
//!   other zones is made again. If a step of the clock follows a read without a date, the times of
//!   the read's block count as unknown. If times of a block were corrected, its times count as unknown, too.
//! * **Bounded.** Blocks have one MiB. If there are more than [`BLOCKS_MAX`], they become larger.
//!   For a block a few ranges are kept ([`Ranges`]). Further ranges are merged, so the block
//!   seems to contain more than it does.
//! * **Derived.** The index of a closed segment is kept beside the log (`DATA_DIR/windows`), so
//!   that a window is found without reading the whole log. The daemon makes it when a segment is
//!   full. An export makes what is missing, and keeps it if it may. An index contains the last
//!   bytes that it covers, so an index of another log is not trusted. Losing an index costs only
//!   time.
//!
//! Rejected: a search by receive time (a decoder may send stored reads hours later, and its clock
//! may be wrong in both directions); the index in the log itself (times depend on the configured
//! zones, and the log does not).

mod ranges;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use self::ranges::Ranges;
use super::reading::{Reading, instant_of};
use crate::journal::control::{Control, Holds};
use crate::journal::entries::Entries;
use crate::journal::entry::{Body, Entry};
use crate::journal::log::{LogLine, LogPlace, SegmentFile, segments};
use crate::journal::{Batch, UploadEvent, log_dir};
use crate::model::chip::{ChipRead, Label, Marker, Stamp};
use crate::model::clock::{self, Step};
use crate::model::correction::{Correction, Corrections};
use crate::model::source;

/// Bytes of a block, unless the log has more than [`BLOCKS_MAX`] blocks.
const BLOCK: u64 = if cfg!(test) { 2 << 10 } else { 1 << 20 };
/// Most blocks in memory, plus at most one more for each segment.
const BLOCKS_MAX: u64 = if cfg!(test) { 16 } else { 4096 };
/// Numbered markers that are remembered, to recognise duplicates.
const MARKERS_MAX: usize = 65_536;
/// Steps of the box's clock that are remembered. These are the newest ones.
const STEPS_MAX: usize = 4096;
/// Number of the last bytes that an index covers and that are kept with it. The checksum of the
/// last line is among them.
const TAIL: usize = 10;
/// The daemon rests this long between two blocks, because a chip read is more important than an
/// index.
const REST: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 20 });
/// Changes when the meaning of the kept index changes.
const VERSION: &str = concat!("3 ", env!("CARGO_PKG_VERSION"));

/// The first and the last of some instants, in ms.
type Times = (i64, i64);

fn widen(times: &mut Option<Times>, ms: i64) {
    *times = Some(times.map_or((ms, ms), |(first, last)| (first.min(ms), last.max(ms))));
}

fn join(one: Option<Times>, other: Option<Times>) -> Option<Times> {
    let mut all = one;
    if let Some((first, last)) = other {
        widen(&mut all, first);
        widen(&mut all, last);
    }
    all
}

/// Uploads of one device in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Uploads {
    device: Box<str>,
    /// Reads of the last batch in the block, and reads that this batch left open, which later
    /// blocks may settle. `None`: no batch begins in the block.
    last: Option<Ranges>,
    /// Each batch of the block left passings open, so the passings in flight before this block may
    /// still be in flight.
    #[serde(default)]
    beside: bool,
}

impl Uploads {
    /// Adds a batch of these reads. If the batch is `beside` the passings in flight before it,
    /// those stay in flight.
    fn follows(&mut self, reads: Ranges, beside: bool) {
        match &mut self.last {
            Some(last) if beside => last.add_all(&reads),
            last => {
                *last = Some(reads);
                self.beside = beside;
            }
        }
    }
}

/// A block: a piece of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    /// Offset in its segment at which the block begins. A line begins there.
    pub start: u64,
    /// Offset at which the block ends.
    pub end: u64,
    /// First and last frame (read, marker, rejected) in the block.
    pub frames: Option<(u64, u64)>,
    /// Number of frames in the block.
    pub count: u64,
    /// The first and the last time of these frames. `None`: not known.
    times: Option<Times>,
    /// Some reads have no date, so a later step of the box's clock may give them another date.
    undated: bool,
    /// Some of these were received while the box did not know the time, so any later step that sets
    /// the clock dates them.
    unset: bool,
    /// Reads that the block's uploads are about. Once all blocks are in order ([`Index::new`]),
    /// this includes reads of the batches that were in flight when the block began and that it
    /// settles.
    tells: Ranges,
    /// Reads that were held back earlier and are released in this block.
    #[serde(default)]
    lets_go: Ranges,
    /// The first and the last time of passings in the block's batches, as they were uploaded, but
    /// without corrections.
    uploaded: Option<Times>,
    uploads: Vec<Uploads>,
    /// Number of damaged lines in the block.
    bad: u64,
    /// Every line was decoded. If false, only the checksum of frames was checked.
    decoded: bool,
}

impl Block {
    /// Whether the block's uploads may be about reads among these.
    pub(super) fn tells_of(&self, first: u64, last: u64) -> bool {
        self.tells.meet(first, last)
    }

    /// Whether the block's uploads may be about an entry in a range for which `is_one` returns
    /// true.
    pub(super) fn tells_of_any(&self, is_one: impl Fn(u64, u64) -> bool) -> bool {
        self.tells.0.iter().any(|&(first, last)| is_one(first, last))
    }

    /// Whether reads among these may have been released in this block.
    pub(super) fn lets_go_of(&self, first: u64, last: u64) -> bool {
        self.lets_go.meet(first, last)
    }

    /// Whether reads that were held back are released in this block.
    pub(super) fn releases(&self) -> bool {
        !self.lets_go.0.is_empty()
    }

    /// Whether frames whose checksum agrees but that cannot be decoded are already counted as
    /// damaged.
    pub(super) fn is_decoded(&self) -> bool {
        self.decoded
    }

    fn frame(&mut self, seq: u64) {
        let (first, last) = self.frames.unwrap_or((seq, seq));
        self.frames = Some((first.min(seq), last.max(seq)));
        self.count += 1;
    }

    fn time(&mut self, entry: &Entry, reading: &Reading, steps: &[(u64, Step)]) {
        let ms = |instant: Timestamp| instant.as_millisecond();
        widen(&mut self.times, ms(instant_of(entry, reading, steps)));
        if let Body::Read(read) = &entry.body
            && clock::is_undated(&read.stamp)
        {
            self.undated = true;
            self.unset |= !clock::box_clock_set(entry.time);
            // The read's date if the line of an earlier step of the clock is missing.
            widen(&mut self.times, ms(instant_of(entry, reading, &[])));
        }
    }

    fn upload(&mut self, event: &UploadEvent) {
        let device = event.device();
        let at = self.uploads.iter().position(|known| *known.device == *device).unwrap_or_else(|| {
            self.uploads.push(Uploads { device: device.into(), last: None, beside: false });
            self.uploads.len() - 1
        });
        if let UploadEvent::Again { items, .. } = event {
            items.iter().for_each(|item| self.tells.add(item.seq.0, item.seq.0));
        }
        let UploadEvent::Batch(batch) = event else { return };
        let ranges = reads_of(batch);
        self.tells.add_all(&ranges);
        self.uploads[at].follows(ranges, !batch.still_open.is_empty());
        let items = batch.items.iter().map(|item| (item.time_ms, item.corrected_ms));
        for (ms, corrected_ms) in items.chain(batch.found.iter().map(|found| (found.time_ms, found.corrected_ms))) {
            widen(&mut self.uploaded, ms.saturating_sub(corrected_ms));
        }
    }

    /// Makes the times wide enough for what was corrected.
    fn correct(&mut self, corrections: &Corrections) {
        let moved = |times: Option<Times>, (least, greatest): (i64, i64)| {
            times.map(|(first, last)| (first.saturating_add(least), last.saturating_add(greatest)))
        };
        // Stamps of corrected reads may be understood in another zone.
        if let Some((first, last)) = self.frames
            && corrections.touch_within(first, last)
        {
            self.times = None;
        }
        if let (Some((first, _)), Some((_, last))) = (self.tells.0.first(), self.tells.0.last()) {
            self.uploaded = moved(self.uploaded, corrections.least_and_greatest_ms(*first, *last));
        }
    }

    /// Merges the next block into this one.
    fn absorb(&mut self, next: Self) {
        let times_known = (self.count == 0 || self.times.is_some()) && (next.count == 0 || next.times.is_some());
        self.end = next.end;
        self.frames = match (self.frames, next.frames) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (one, other) => one.or(other),
        };
        self.times = join(self.times, next.times).filter(|_| times_known);
        self.uploaded = join(self.uploaded, next.uploaded);
        self.tells.add_all(&next.tells);
        self.lets_go.add_all(&next.lets_go);
        for uploads in next.uploads {
            match self.uploads.iter_mut().find(|known| known.device == uploads.device) {
                Some(known) => {
                    if let Some(last) = uploads.last {
                        known.follows(last, uploads.beside);
                    }
                }
                None => self.uploads.push(uploads),
            }
        }
        self.count += next.count;
        self.bad += next.bad;
        self.undated |= next.undated;
        self.unset |= next.unset;
        self.decoded &= next.decoded;
    }
}

/// The reads that a batch is about.
fn reads_of(batch: &Batch) -> Ranges {
    let mut ranges = Ranges::default();
    let (items, found) = (batch.items.iter().map(|item| item.seq), batch.found.iter().map(|found| found.seq));
    let mut seqs: Vec<u64> = items
        .chain(found)
        .chain(batch.dead.iter().copied())
        .chain(batch.duplicates.iter().copied())
        .map(|seq| seq.0)
        .collect();
    seqs.sort_unstable();
    for seq in seqs {
        ranges.add(seq, seq);
    }
    ranges
}

/// The index of a segment, in the form that is kept beside the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Segment {
    version: String,
    /// First number of the segment. `before` is the first number of the next segment.
    first: u64,
    before: u64,
    /// The last bytes that the index covers.
    tail: String,
    /// Zone of each decoder that has reads in the segment. `None`: the times were not determined.
    zones: Option<BTreeMap<Box<str>, String>>,
    blocks: Vec<Block>,
    /// Steps of the box's clock, each with the number of its entry.
    steps: Vec<(u64, Step)>,
    /// Corrections, each with the number of its entry and its decoder.
    #[serde(default)]
    corrections: Vec<(u64, Box<str>, Correction)>,
    /// What somebody decided about the box, each with the number of its entry.
    controls: Vec<(u64, Control)>,
    /// Markers that their decoder numbers: entry, and a digest that distinguishes the marker from
    /// others.
    markers: Vec<(u64, u64)>,
}

/// The index of the whole log.
pub(super) struct Index {
    /// Directory of the log.
    pub dir: PathBuf,
    /// First number of the segment and block, in the order of the log.
    pub blocks: Vec<(u64, Block)>,
    /// Steps of the box's clock, each with the number of its entry.
    pub steps: Vec<(u64, Step)>,
    /// What somebody corrected.
    pub corrections: Corrections,
    /// The holds of the box.
    pub holds: Holds,
    /// Markers that are duplicates. At most [`MARKERS_MAX`], the newest ones.
    pub repeated: HashSet<u64>,
    /// Number of damaged lines.
    pub damaged: u64,
}

/// How an index is made.
struct Making<'a> {
    dir: &'a Path,
    kept: PathBuf,
    reading: &'a Reading,
    /// Only entries up to this number are read.
    durable: u64,
    /// The times of the blocks are needed.
    times: bool,
    /// The indexes of closed segments are kept.
    keeps: bool,
}

impl Index {
    /// The index of the log below `data_dir` up to entry `durable`. `times`: the times of the
    /// blocks are needed, for a window. `None`: there is no journal.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn new(data_dir: &Path, reading: &Reading, durable: u64, times: bool) -> io::Result<Option<Self>> {
        let dir = log_dir(data_dir);
        if !dir.is_dir() {
            return Ok(None);
        }
        let files = segments(&dir)?;
        if files.is_empty() {
            return Ok(None);
        }
        let making =
            Making { dir: &dir, kept: kept_dir(data_dir), reading, durable, times, keeps: times && is_ours(data_dir) };
        // Each block in memory stands for this many blocks of one MiB.
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let worth = (bytes / BLOCK / BLOCKS_MAX + 1) as usize;
        let mut index = Self {
            dir: dir.clone(),
            blocks: Vec::new(),
            steps: Vec::new(),
            corrections: Corrections::default(),
            holds: Holds::default(),
            repeated: HashSet::new(),
            damaged: 0,
        };
        let mut markers = HashSet::new();
        for (at, file) in files.iter().enumerate() {
            let next = files.get(at + 1);
            let segment = making.segment(file, next, &index.steps, &|| Some(()))?;
            index.append(segment.unwrap_or_default(), (file.first, durable), worth, &mut markers);
        }
        index.finish();
        Ok(Some(index))
    }

    fn append(&mut self, segment: Segment, (first, durable): (u64, u64), worth: usize, markers: &mut HashSet<u64>) {
        for (at, block) in segment.blocks.into_iter().enumerate() {
            self.damaged += block.bad;
            match self.blocks.last_mut() {
                Some((_, before)) if at % worth > 0 => before.absorb(block),
                _ => self.blocks.push((first, block)),
            }
        }
        // A kept index may know more than is asked for.
        for (_, decoder, correction) in segment.corrections.iter().filter(|(seq, ..)| *seq <= durable) {
            self.corrections.add(decoder, correction);
        }
        for (seq, control) in segment.controls.iter().filter(|(seq, _)| *seq <= durable) {
            self.holds.follow(*seq, control);
        }
        self.steps.extend(segment.steps);
        let beyond = self.steps.len().saturating_sub(STEPS_MAX);
        self.steps.drain(..beyond);
        for (seq, digest) in segment.markers {
            if markers.len() >= MARKERS_MAX {
                markers.clear();
            }
            if self.repeated.len() >= MARKERS_MAX {
                self.repeated.clear();
            }
            if !markers.insert(digest) {
                self.repeated.insert(seq);
            }
        }
    }

    /// Adds to each block the reads of the batch that was in flight when the block began, because
    /// the block may settle them. If a later step of the clock gives reads of a block another date,
    /// the times of the block become unknown.
    fn finish(&mut self) {
        // For each device, one batch and the passings that it left open.
        let mut flying: BTreeMap<Box<str>, Ranges> = BTreeMap::new();
        let steps = &self.steps;
        // The same rule as in `clock::corrected`: a step corrects what its own process received
        // before it, and everything that a box without the time received.
        let dates = |(seq, step): &(u64, Step), block: &Block, (first, last): (u64, u64)| {
            first < *seq && (last >= step.from || block.unset)
        };
        for (_, block) in &mut self.blocks {
            for Uploads { device, last, beside } in &mut block.uploads {
                if let Some(before) = flying.get(device) {
                    block.tells.add_all(before);
                }
                if let Some(last) = last.take() {
                    match flying.get_mut(device) {
                        Some(before) if *beside => before.add_all(&last),
                        _ => drop(flying.insert(device.clone(), last)),
                    }
                }
            }
            if block.undated
                && let Some(frames) = block.frames
                && steps.iter().any(|step| dates(step, block, frames))
            {
                block.times = None;
            }
            block.correct(&self.corrections);
        }
    }

    /// Blocks that may contain frames from `from` on and before `to`.
    pub(super) fn within(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<usize> {
        let from = from.map_or(i64::MIN, |from| from.as_millisecond());
        // An instant within the millisecond before the end belongs to the window.
        let to = to.map_or(i64::MAX, |to| to.as_millisecond().saturating_add(1));
        let meets = |times: Option<Times>| times.is_some_and(|(first, last)| first <= to && from <= last);
        let let_go: Vec<&Block> =
            self.blocks.iter().map(|(_, block)| block).filter(|it| !it.lets_go.0.is_empty()).collect();
        let uploaded: Vec<&Block> =
            self.blocks.iter().map(|(_, block)| block).filter(|it| meets(it.uploaded)).collect();
        let wanted = |block: &Block| {
            let Some((first, last)) = block.frames else { return from == i64::MIN && to == i64::MAX };
            block.times.is_none()
                || meets(block.times)
                || uploaded.iter().any(|other| other.tells_of(first, last))
                // Their later entries say when these reads were made.
                || let_go.iter().any(|other| other.lets_go_of(first, last))
        };
        (0..self.blocks.len()).filter(|at| wanted(&self.blocks[*at].1)).collect()
    }
}

impl Making<'_> {
    /// The index of a segment: the kept one, if it belongs to this log and these zones, or a new
    /// one. `go_on` is called before each block of a new index. `None`: `go_on` returned `None`.
    fn segment(
        &self,
        file: &SegmentFile,
        next: Option<&SegmentFile>,
        steps: &[(u64, Step)],
        go_on: &dyn Fn() -> Option<()>,
    ) -> io::Result<Option<Segment>> {
        let path = kept_path(&self.kept, file.first);
        // A segment that was closed a moment ago may still have zeros behind its lines.
        let file = &SegmentFile { bytes: file.lines().unwrap_or(file.bytes), ..file.clone() };
        let known = next.and_then(|next| self.known(&path, file, next));
        if known.is_some() {
            return Ok(known);
        }
        let before = next.map_or(u64::MAX, |next| next.first);
        let Some(mut segment) = self.make(file, before, steps, go_on)? else { return Ok(None) };
        let whole = next.is_some() && segment.blocks.last().is_some_and(|last| last.end == file.bytes);
        if self.keeps && whole && before <= self.durable {
            segment.tail = tail_of(file, file.bytes).unwrap_or_default();
            keep(&path, &segment);
        }
        Ok(Some(segment))
    }

    fn known(&self, path: &Path, file: &SegmentFile, next: &SegmentFile) -> Option<Segment> {
        let segment: Segment = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let end = segment.blocks.last()?.end;
        let same = segment.version == VERSION && segment.first == file.first && segment.before == next.first;
        let zones_fit = match &segment.zones {
            None => !self.times,
            Some(zones) => zones.iter().all(|(decoder, zone)| zone_text(self.reading.zones.of(decoder)) == *zone),
        };
        let covers = end == file.bytes && tail_of(file, end).is_some_and(|tail| tail == segment.tail);
        (same && (zones_fit || !self.times) && covers).then_some(segment)
    }

    /// Reads a segment and makes its index. Without times, only the checksum of reads is checked.
    fn make(
        &self,
        file: &SegmentFile,
        before: u64,
        steps: &[(u64, Step)],
        go_on: &dyn Fn() -> Option<()>,
    ) -> io::Result<Option<Segment>> {
        let mut segment = Segment { version: VERSION.to_owned(), first: file.first, before, ..Segment::default() };
        let start = LogPlace { segment: file.first, offset: 0 };
        // The segment was removed meanwhile.
        let Some(mut entries) = Entries::at(self.dir, start, self.durable)? else { return Ok(Some(segment)) };
        let mut known = steps.to_vec();
        let mut zones = self.times.then(BTreeMap::new);
        let mut ended = false;
        while !ended && entries.place().segment == file.first {
            if go_on().is_none() {
                return Ok(None);
            }
            let mut block = Block { start: entries.place().offset, decoded: self.times, ..Block::default() };
            let mut limit = LogPlace { segment: file.first, offset: block.start + BLOCK };
            let mut after_bad = false;
            loop {
                let wanted = |seq: u64, kind: &str, text: &str| match kind {
                    "read" if lets_go(text) => true,
                    "read" | "rejected" if !self.times => {
                        block.frame(seq);
                        false
                    }
                    "note" | "cleared" => self.times,
                    _ => true,
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
                        self.entry(&entry, &mut block, &mut known, &mut segment);
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
        Ok(Some(segment))
    }

    fn entry(&self, entry: &Entry, block: &mut Block, steps: &mut Vec<(u64, Step)>, segment: &mut Segment) {
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
                if self.times {
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
/// segments that no longer exist. Ends early when `stop` returns true. It rests between the blocks.
/// `seen`: the newest segment at the last call. If it is still the newest, nothing is done. Returns
/// the value of `seen` for the next call.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn refresh(data_dir: &Path, reading: &Reading, seen: u64, stop: &dyn Fn() -> bool) -> io::Result<u64> {
    let dir = log_dir(data_dir);
    let files = segments(&dir)?;
    let newest = files.last().map_or(0, |file| file.first);
    if newest == seen {
        return Ok(seen);
    }
    let kept = kept_dir(data_dir);
    for left in std::fs::read_dir(&kept).into_iter().flatten().flatten() {
        let of = left.path();
        if !files.iter().any(|file| kept_path(&kept, file.first) == of) {
            let _ = std::fs::remove_file(of); // the index is derived, so this costs only time
        }
    }
    let making = Making { dir: &dir, kept, reading, durable: u64::MAX, times: true, keeps: true };
    let mut steps = Vec::new();
    for pair in files.windows(2) {
        let go_on = || {
            std::thread::sleep(REST);
            (!stop()).then_some(())
        };
        match making.segment(&pair[0], Some(&pair[1]), &steps, &go_on)? {
            Some(segment) => steps.extend(segment.steps),
            None => return Ok(seen),
        }
    }
    Ok(newest)
}

fn kept_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("windows")
}

fn kept_path(kept: &Path, first: u64) -> PathBuf {
    kept.join(format!("{first:012}.json"))
}

/// Whether files that this process writes there can be replaced by the user to whom the directory
/// belongs.
fn is_ours(data_dir: &Path) -> bool {
    std::fs::metadata(data_dir).is_ok_and(|meta| meta.uid() == rustix::process::geteuid().as_raw())
}

/// Writes the index whole or not at all. If the disk is full or cannot be written, that costs only
/// time.
fn keep(path: &Path, segment: &Segment) {
    let Some(dir) = path.parent() else { return };
    let fresh = path.with_extension("new");
    let write = || {
        std::fs::create_dir_all(dir)?;
        std::fs::write(&fresh, serde_json::to_vec(segment)?)?;
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
pub(super) fn lets_go(text: &str) -> bool {
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
