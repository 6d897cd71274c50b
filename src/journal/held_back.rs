//! Reads that are held back: kept like any other, and not uploaded until somebody lets them go.
//!
//! A decoder that was cleared is asked for all of its memory. Whatever is stamped there before the last read of the memory
//! before cannot have been made since: it is of another race, or of a clock that was wrong. The link judges that when the
//! read comes (`link::memories`) and marks it; from then on all follows from the log:
//! * A marked read that is no repeat is held back: no batch covers it, nothing waits for it.
//! * [`Journal::let_go`] appends it once more, with the entry that it was. That one is judged and uploaded like a read that
//!   came now: in the order of the log, behind what went up meanwhile. Nothing of it has to fit into memory.
//! * Its volume goes by age alone (`[keep].days`), as one with passings that were set aside.
//!
//! Bounded: `RANGES_MAX` ranges a decoder. Between two of them is a marked read that was a repeat.
//!
//! Rejected: *a verdict beside passing, dead and repeat, with its numbers in the batch line*: the read would have to be kept
//! for later somewhere, with its place in an order that went on without it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Body, Entry};
use super::follow::log_dir;
use super::log::{Line, Reader};
use super::writer::Draft;
use super::{Journal, JournalError};
use crate::model::chip::{ChipRead, Marker, Seq, Stamp};
use crate::model::clock::{self, Step};
use crate::model::lane;

/// Ranges of entries remembered per decoder. Of more the two oldest become one, and a repeat between them may go up twice.
const RANGES_MAX: usize = 1024;
/// Reads that are let go in one group.
const GROUP: usize = 500;

/// The reads of one decoder that are held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Every marked read of the decoder in these ranges of entries is held back.
    pub ranges: BTreeMap<u64, u64>,
    /// How many.
    pub count: u64,
    /// The earliest and the latest of them, as the first that was held back is dated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamps: Option<(StampText, StampText)>,
    /// The last marked read was a repeat: the next one begins a range.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    apart: bool,
}

/// A stamp in its text form.
type StampText = Box<str>;

impl HeldBack {
    /// None is.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// A marked read came. `is_new`: it is no repeat.
    pub(super) fn read(&mut self, seq: u64, stamp: Stamp, is_new: bool) {
        if !is_new {
            self.apart = self.count > 0;
            return;
        }
        self.count += 1;
        match self.ranges.last_entry().filter(|_| !self.apart) {
            Some(mut last) => *last.get_mut() = seq,
            None => drop(self.ranges.insert(seq, seq)),
        }
        self.apart = false;
        self.bound();
        let text: StampText = stamp.to_string().into();
        match &mut self.stamps {
            None => self.stamps = Some((text.clone(), text)),
            // Their text forms sort as they do, where they are of one kind.
            Some((first, last)) if text.len() == first.len() => {
                if text < *first {
                    *first = text;
                } else if text > *last {
                    *last = text;
                }
            }
            Some(_) => {}
        }
    }

    /// The read `of` is let go, and none from `from` up to it is held back any more. `false`: it is not held back.
    pub(super) fn let_go(&mut self, from: u64, of: u64) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=of).next_back().filter(|(_, last)| **last >= of) else {
            return false;
        };
        self.ranges.remove(&first);
        if first < from {
            self.ranges.insert(first, from - 1);
        }
        if of < last {
            self.ranges.insert(of + 1, last);
        }
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            *self = Self::default();
        }
        self.bound();
        true
    }

    /// None up to this entry is held back any more.
    pub(super) fn drop_through(&mut self, through: u64) {
        let later = self.ranges.split_off(&through.saturating_add(1));
        let over = self.ranges.last_key_value().map(|(_, &last)| last).filter(|last| *last > through);
        self.ranges = later;
        if let Some(last) = over {
            self.ranges.insert(through + 1, last);
        }
        if self.ranges.is_empty() {
            *self = Self::default();
        }
    }

    fn bound(&mut self) {
        while self.ranges.len() > RANGES_MAX
            && let Some((first, _)) = self.ranges.pop_first()
            && let Some((_, last)) = self.ranges.pop_first()
        {
            self.ranges.insert(first, last);
        }
    }

    fn has(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }
}

/// What is told of reads that are held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Decoder or lane.
    pub decoder: Box<str>,
    /// How many.
    pub count: u64,
    /// The earliest, by the decoder's clock.
    pub first: Box<str>,
    /// The latest.
    pub last: Box<str>,
}

/// Why reads cannot be let go.
#[derive(Debug, thiserror::Error)]
pub enum LetGoError {
    /// The journal is closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] std::io::Error),
}

impl Journal {
    /// The reads that are held back, by decoder; of those whose volumes are gone nothing is told. Meaningful after
    /// [`Journal::serving`].
    pub fn held_back(&self) -> Vec<Told> {
        let core = self.shared.lock();
        let oldest = core.mark.oldest;
        let told = core.state.decoders.iter().filter_map(|(decoder, fold)| {
            let held = &fold.held_back;
            let (first, last) = held.stamps.clone()?;
            let there = held.ranges.values().any(|last| *last >= oldest);
            there.then(|| Told { decoder: decoder.clone(), count: held.count, first, last })
        });
        told.collect()
    }

    /// Lets go the reads that are held back of a decoder with all its lanes, or of one lane; `None`: of all. `which`: those
    /// of them that go. Returns how many, once they would survive a power cut; they are uploaded like reads that came now.
    ///
    /// # Errors
    /// The journal is closed, or its log cannot be read. What was let go until then is.
    pub async fn let_go(
        &self,
        decoder: Option<&str>,
        which: impl Fn(&ChipRead) -> bool + Send + 'static,
    ) -> Result<u64, LetGoError> {
        self.serving().await;
        let _one = self.letting_go.lock().await; // or two would let the same read go
        let (held, steps) = {
            let core = self.shared.lock();
            let meant = |lane: &str| decoder.is_none_or(|name| lane == name || lane::decoder(lane) == name);
            let held = core.state.decoders.iter().filter(|(lane, fold)| meant(lane) && fold.held_back.count > 0);
            let held: BTreeMap<Box<str>, HeldBack> =
                held.map(|(lane, fold)| (lane.clone(), fold.held_back.clone())).collect();
            (held, core.state.steps.clone())
        };
        let ends = held.values().flat_map(|held| &held.ranges);
        let Some(first) = ends.clone().map(|(first, _)| *first).min() else { return Ok(0) };
        let last = ends.map(|(_, last)| *last).max().unwrap_or(first);
        let dir = log_dir(self.dir());
        let reader = tokio::task::spawn_blocking(move || Reader::open_after(&dir, first.saturating_sub(1)));
        let reader = reader.await.map_err(|_| JournalError::Closed)??;
        let mut reading = reader.map(|reader| Reading { reader, held, steps, which, begins: BTreeMap::new(), last });
        let mut count = 0;
        while let Some(mut more) = reading.take() {
            let group = tokio::task::spawn_blocking(move || more.group().map(|group| (group, more)));
            let (group, more) = group.await.map_err(|_| JournalError::Closed)??;
            if group.is_empty() {
                break;
            }
            count += group.len() as u64;
            self.append(group).await?;
            reading = Some(more);
        }
        Ok(count)
    }

    /// Lets go all reads that are held back, as [`Journal::let_go`], and records that somebody said so.
    ///
    /// # Errors
    /// As [`Journal::let_go`].
    pub async fn let_all_go(&self, decoder: Option<&str>) -> Result<u64, LetGoError> {
        let through = self.durable().0;
        let count = self.let_go(decoder, |_| true).await?;
        let lanes: Vec<Box<str>> = {
            let core = self.shared.lock();
            let meant = |lane: &str| decoder.is_none_or(|name| lane == name || lane::decoder(lane) == name);
            core.state.decoders.keys().filter(|lane| meant(lane)).cloned().collect()
        };
        let marker = |name: &str| Marker {
            kind: Marker::LET_GO.into(),
            name: Some(name.into()),
            stamp: None,
            reader: None,
            location: None,
            position: None,
            through: Some(through),
        };
        let now = self.shared.board.now();
        let said: Vec<Draft> =
            lanes.into_iter().map(|lane| (lane, now, Body::Marker(marker("by hand")), Box::default())).collect();
        if !said.is_empty() {
            self.append(said).await?;
        }
        Ok(count)
    }
}

/// Reads the log for reads that are let go.
struct Reading<F> {
    reader: Reader,
    held: BTreeMap<Box<str>, HeldBack>,
    steps: Vec<(u64, Step)>,
    which: F,
    /// By lane: the entry from which on all that is held back was let go.
    begins: BTreeMap<Box<str>, u64>,
    last: u64,
}

impl<F: Fn(&ChipRead) -> bool> Reading<F> {
    /// The next ones; none: there are no more.
    fn group(&mut self) -> std::io::Result<Vec<Draft>> {
        let mut group = Vec::new();
        while group.len() < GROUP
            && let Some(line) = self.reader.read()?
        {
            match line {
                Line::Entry(entry) if entry.seq > self.last => break,
                Line::Entry(entry) => group.extend(self.entry(*entry)),
                Line::Bad { .. } | Line::State(_) => {}
            }
        }
        Ok(group)
    }

    fn entry(&mut self, entry: Entry) -> Option<Draft> {
        let Entry { seq, subject, time, body: Body::Read(read), raw, .. } = entry else { return None };
        let held = self.held.get(&subject)?;
        if !read.held_back || !held.has(seq) {
            return None;
        }
        if !(self.which)(&read) {
            self.begins.insert(subject, seq + 1);
            return None;
        }
        let range = held.ranges.range(..=seq).next_back().map_or(seq, |(first, _)| *first);
        let from = self.begins.insert(subject.clone(), seq + 1).unwrap_or(range).max(range);
        let received = clock::corrected(&self.steps, seq, time);
        let read = ChipRead { held_back: false, let_go: Some(Box::new((Seq(from), Seq(seq)))), ..read };
        Some((subject, received, Body::Read(read), raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(second: u64) -> Stamp {
        format!("2026-11-22T10:{:02}:{:02}.000", second / 60 % 60, second % 60).parse().unwrap()
    }

    #[test]
    fn what_is_let_go_is_not_held_back_and_a_repeat_never_was() {
        let mut held = HeldBack::default();
        for seq in [10, 12, 15] {
            held.read(seq, stamp(seq), true);
        }
        held.read(17, stamp(10), false);
        for seq in [20, 21] {
            held.read(seq, stamp(seq), true);
        }
        assert_eq!(held.ranges, BTreeMap::from([(10, 15), (20, 21)]));
        assert_eq!((held.count, held.has(17), held.has(18)), (5, false, false));
        assert!(!held.let_go(17, 17));
        // From 15 on, then from the beginning.
        assert!(held.let_go(15, 15) && held.let_go(16, 20) && held.let_go(21, 21));
        assert_eq!((held.ranges.clone(), held.count), (BTreeMap::from([(10, 14)]), 2));
        assert!(held.let_go(10, 10) && !held.let_go(10, 10) && held.let_go(11, 12));
        assert!(held.is_empty());
        for seq in 1..=10 {
            held.read(seq, stamp(seq), true);
        }
        held.drop_through(7);
        assert_eq!(held.ranges, BTreeMap::from([(8, 10)]));
        held.drop_through(10);
        assert!(held.is_empty());
    }

    #[test]
    fn the_memory_of_what_is_held_back_is_bounded() {
        let mut held = HeldBack::default();
        for seq in 1..=10_000 {
            held.read(2 * seq, stamp(seq), true);
            held.read(2 * seq + 1, stamp(seq), false);
        }
        assert_eq!((held.ranges.len(), held.count), (RANGES_MAX, 10_000));
        assert!((1..=10_000).all(|seq| held.has(2 * seq)));
    }
}
