//! Where each entry is in the log: for every block of a segment, which entries it contains, their
//! times, and the reads that its uploads are about.
//!
//! What must hold:
//! * **Never narrower than the truth.** A block is left out only if nothing in it can be asked for.
//!   Its times follow from the same rules and zones as in the export. An index that was made for
//!   other zones is made again. If a step of the clock follows a read without a date, the times of
//!   the read's block count as unknown. If times of a block were corrected, its times count as unknown, too.
//! * **Bounded.** Blocks have 64 KiB. If there are more than [`BLOCKS_MAX`], they become larger.
//!   For a block a few ranges are kept ([`Ranges`]). Further ranges are merged, so the block
//!   seems to contain more than it does.
//! * **Derived.** The index of a closed segment is kept beside the log (`DATA_DIR/windows`), so
//!   that a window is found without reading the whole log. The daemon makes it when a segment is
//!   full. An export makes what is missing, and keeps it if it may. An index has a checksum, and the
//!   last bytes that it covers, so a damaged one, or one of another log, is not trusted. Losing an
//!   index costs only time.
//! * **Chips, too.** Beside the blocks of a segment, the chips in each are kept ([`chips`]), so that
//!   a search reads only blocks in which its chip is.
//!
//! Rejected: a search by receive time (a decoder may send stored reads hours later, and its clock
//! may be wrong in both directions); the index in the log itself (times depend on the configured
//! zones, and the log does not).

mod block;
mod chips;
mod make;
mod ranges;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;

pub(super) use self::block::Block;
use self::block::{Times, Uploads};
pub(super) use self::chips::{hash, hash_of_line};
pub(crate) use self::make::refresh;
use self::make::{BLOCK, MARKERS_MAX, Making, Segment};
pub(super) use self::make::{is_ours, lets_go};
use self::ranges::Ranges;
use super::reading::Reading;
use crate::journal::control::Holds;
use crate::journal::entries::Entries;
use crate::journal::log::{SegmentFile, segments};
use crate::journal::{log_dir, windows_dir};
use crate::model::clock::Step;
use crate::model::correction::Corrections;

/// Most blocks in memory (about 4 MB), plus at most one more for each segment.
const BLOCKS_MAX: u64 = if cfg!(test) { 16 } else { 8192 };
/// Steps of the box's clock that are remembered. These are the newest ones.
const STEPS_MAX: usize = 4096;

/// What an index is made for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need<'a> {
    /// The times of the blocks are needed, for a window.
    pub times: bool,
    /// Blocks that may have one of these chips are marked ([`Block::hit`]). They are sorted hashes.
    pub chips: Option<&'a [u32]>,
    /// What had to be made is kept.
    pub keeps: bool,
}

/// The index of the whole log.
pub(super) struct Index {
    /// The segments, in the order of the log.
    files: Vec<SegmentFile>,
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
impl Index {
    /// The index of the log below `data_dir` up to entry `durable`. `None`: there is no journal.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn new(data_dir: &Path, reading: &Reading, durable: u64, need: Need<'_>) -> io::Result<Option<Self>> {
        let dir = log_dir(data_dir);
        if !dir.is_dir() {
            return Ok(None);
        }
        let files = segments(&dir)?;
        if files.is_empty() {
            return Ok(None);
        }
        let Need { times, chips: wanted, keeps } = need;
        let making = Making { dir: &dir, kept: windows_dir(data_dir), reading, durable, times, keeps, wanted };
        // Each block in memory stands for this many blocks of one MiB.
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let worth = (bytes / BLOCK / BLOCKS_MAX + 1) as usize;
        let mut index = Self {
            files: Vec::new(),
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
            let segment = making.segment(file, next, &index.steps, &mut || Some(()))?;
            index.append(segment.unwrap_or_default(), (file.first, durable), worth, &mut markers);
        }
        index.finish();
        index.files = files;
        Ok(Some(index))
    }

    /// The entries of a segment from an offset on, up to `durable`. `None`: the segment was removed
    /// meanwhile, or is another one now.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn entries(&self, segment: u64, offset: u64, durable: u64) -> io::Result<Option<Entries>> {
        let Ok(at) = self.files.binary_search_by_key(&segment, |file| file.first) else { return Ok(None) };
        let before = self.files.get(at + 1).map_or(u64::MAX, |next| next.first);
        Entries::of_segment(&self.files[at], before, offset, durable)
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
