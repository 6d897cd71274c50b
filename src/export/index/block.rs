//! A block of a segment, and what is known of it without reading it again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::export::reading::{Reading, instant_of};
use crate::journal::entry::{Body, Entry};
use crate::journal::{Batch, UploadEvent};
use crate::model::clock::{self, Step};
use crate::model::correction::Corrections;

/// The first and the last of some instants, in ms.
pub(super) type Times = (i64, i64);

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
pub(super) struct Uploads {
    pub device: Box<str>,
    /// Reads of the last batch in the block, and reads that this batch left open, which later
    /// blocks may settle. `None`: no batch begins in the block.
    pub last: Option<Ranges>,
    /// Each batch of the block left passings open, so the passings in flight before this block may
    /// still be in flight.
    #[serde(default)]
    pub beside: bool,
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
pub(in crate::export) struct Block {
    /// Offset in its segment at which the block begins. A line begins there.
    pub start: u64,
    /// Offset at which the block ends.
    pub end: u64,
    /// First and last frame (read, marker, rejected) in the block.
    pub frames: Option<(u64, u64)>,
    /// Number of frames in the block.
    pub count: u64,
    /// The first and the last time of these frames. `None`: not known.
    pub(super) times: Option<Times>,
    /// Some reads have no date, so a later step of the box's clock may give them another date.
    pub(super) undated: bool,
    /// Some of these were received while the box did not know the time, so any later step that sets
    /// the clock dates them.
    pub(super) unset: bool,
    /// Reads that the block's uploads are about. Once all blocks are in order ([`super::Index::new`]),
    /// this includes reads of the batches that were in flight when the block began and that it
    /// settles.
    pub(super) tells: Ranges,
    /// Reads that were held back earlier and are released in this block.
    #[serde(default)]
    pub(super) lets_go: Ranges,
    /// The first and the last time of passings in the block's batches, as they were uploaded, but
    /// without corrections.
    pub(super) uploaded: Option<Times>,
    pub(super) uploads: Vec<Uploads>,
    /// Number of damaged lines in the block.
    pub(super) bad: u64,
    /// Every line was decoded. If false, only the checksum of frames was checked.
    pub(super) decoded: bool,
    /// The block may have reads of a chip that is looked for. It is no part of the kept index.
    #[serde(skip)]
    pub hit: bool,
}

impl Block {
    /// Whether the block's uploads may be about reads among these.
    pub(in crate::export) fn tells_of(&self, first: u64, last: u64) -> bool {
        self.tells.meet(first, last)
    }

    /// Whether the block's uploads may be about an entry in a range for which `is_one` returns
    /// true.
    pub(in crate::export) fn tells_of_any(&self, is_one: impl Fn(u64, u64) -> bool) -> bool {
        self.tells.0.iter().any(|&(first, last)| is_one(first, last))
    }

    /// Whether reads among these may have been released in this block.
    pub(in crate::export) fn lets_go_of(&self, first: u64, last: u64) -> bool {
        self.lets_go.meet(first, last)
    }

    /// Whether a read in a range for which `is_one` returns true may have been released in this block.
    pub(in crate::export) fn lets_go_of_any(&self, is_one: impl Fn(u64, u64) -> bool) -> bool {
        self.lets_go.0.iter().any(|&(first, last)| is_one(first, last))
    }

    /// Whether reads that were held back are released in this block.
    pub(in crate::export) fn releases(&self) -> bool {
        !self.lets_go.0.is_empty()
    }

    /// Whether frames whose checksum agrees but that cannot be decoded are already counted as
    /// damaged.
    pub(in crate::export) fn is_decoded(&self) -> bool {
        self.decoded
    }

    pub(super) fn frame(&mut self, seq: u64) {
        let (first, last) = self.frames.unwrap_or((seq, seq));
        self.frames = Some((first.min(seq), last.max(seq)));
        self.count += 1;
    }

    pub(super) fn time(&mut self, entry: &Entry, reading: &Reading, steps: &[(u64, Step)]) {
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

    pub(super) fn upload(&mut self, event: &UploadEvent) {
        let device = event.device();
        let at = self.uploads.iter().position(|known| *known.device == *device).unwrap_or_else(|| {
            self.uploads.push(Uploads { device: device.into(), last: None, beside: false });
            self.uploads.len() - 1
        });
        if let UploadEvent::Dropped { items, failing, .. } = event {
            items.iter().chain(failing).for_each(|seq| self.tells.add(seq.0, seq.0));
        }
        if let UploadEvent::Again { items, .. } | UploadEvent::Retry { items, .. } = event {
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
    pub(super) fn correct(&mut self, corrections: &Corrections) {
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
    pub(super) fn absorb(&mut self, next: Self) {
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
        self.hit |= next.hit;
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
