//! Releases the reads that are held back ([`super::held_back`]): they are appended once more, and
//! uploaded like reads that arrive now.

use std::collections::BTreeMap;

use super::entries::Entries;
use super::entry::{Body, Entry};
use super::held_back::HeldBack;
use super::paths::log_dir;
use super::shared::Draft;
use super::{Journal, JournalError};
use crate::model::chip::{ChipRead, Marker, Seq};
use crate::model::clock::{self, Step};
use crate::model::source;

/// Reads that are released in one group.
const GROUP: usize = 500;

/// What is reported about the reads of one decoder that are held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Decoder or source.
    pub decoder: Box<str>,
    /// How many reads are held back.
    pub count: u64,
    /// The earliest stamp, by the decoder's clock.
    pub first: Box<str>,
    /// The latest stamp, by the decoder's clock.
    pub last: Box<str>,
}

/// Why reads cannot be released.
#[derive(Debug, thiserror::Error)]
pub enum LetGoError {
    /// The journal is closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] std::io::Error),
    /// The box is on hold. What is released now would be part of the choice at its end.
    #[error("the box is on hold: release the hold first (`passbridge release`)")]
    OnHold,
}

impl Journal {
    /// The reads that are held back, by decoder or source. A decoder all of whose held back reads
    /// are in deleted segments is left out. Valid only after [`Journal::serving`].
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

    /// Releases the reads that are held back of a decoder with all its sources, or of one source,
    /// or of all decoders (`None`). `which` selects the reads to release. Returns their number when
    /// they would survive a power cut. They are uploaded like reads that arrive now.
    ///
    /// # Errors
    /// The journal is closed, or its log cannot be read. The reads released until then stay
    /// released.
    pub async fn let_go(
        &self,
        decoder: Option<&str>,
        which: impl Fn(&ChipRead) -> bool + Send + 'static,
    ) -> Result<u64, LetGoError> {
        self.serving().await;
        let _one = self.turns.letting_go.lock().await; // otherwise two calls could release the same read
        let (held, steps) = {
            let core = self.shared.lock();
            if core.state.hold.is_some() {
                return Err(LetGoError::OnHold);
            }
            let meant = |source: &str| decoder.is_none_or(|name| source == name || source::decoder(source) == name);
            let held = core.state.decoders.iter().filter(|(source, fold)| meant(source) && fold.held_back.count > 0);
            let held: BTreeMap<Box<str>, HeldBack> =
                held.map(|(source, fold)| (source.clone(), fold.held_back.clone())).collect();
            (held, core.state.steps.clone())
        };
        let ends = held.values().flat_map(|held| &held.ranges);
        let Some(first) = ends.clone().map(|(first, _)| *first).min() else { return Ok(0) };
        let last = ends.map(|(_, last)| *last).max().unwrap_or(first);
        let dir = log_dir(self.dir());
        let entries = tokio::task::spawn_blocking(move || Entries::after(&dir, first.saturating_sub(1), last));
        let entries = entries.await.map_err(|_| JournalError::Closed)??;
        let mut reading = entries.map(|entries| Reading { entries, held, steps, which, begins: BTreeMap::new() });
        let mut count = 0;
        while let Some(mut more) = reading.take() {
            let group = tokio::task::spawn_blocking(move || more.group().map(|group| (group, more)));
            let (group, more) = group.await.map_err(|_| JournalError::Closed)??;
            if group.is_empty() {
                break;
            }
            count += group.len() as u64;
            self.write(group).await?;
            reading = Some(more);
        }
        Ok(count)
    }

    /// Releases all reads that are held back, like [`Journal::let_go`], and records that somebody
    /// decided this.
    ///
    /// # Errors
    /// The same as of [`Journal::let_go`].
    pub async fn let_all_go(&self, decoder: Option<&str>) -> Result<u64, LetGoError> {
        let through = self.durable().0;
        let count = self.let_go(decoder, |_| true).await?;
        let sources: Vec<Box<str>> = {
            let core = self.shared.lock();
            let meant = |source: &str| decoder.is_none_or(|name| source == name || source::decoder(source) == name);
            core.state.decoders.keys().filter(|source| meant(source)).cloned().collect()
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
        let said: Vec<Draft> = sources
            .into_iter()
            .map(|source| (source.into(), now, Body::Marker(marker("by hand")), Box::default()))
            .collect();
        if !said.is_empty() {
            self.write(said).await?;
        }
        Ok(count)
    }
}

/// Reads the log to find the reads to release.
struct Reading<F> {
    entries: Entries,
    held: BTreeMap<Box<str>, HeldBack>,
    steps: Vec<(u64, Step)>,
    which: F,
    /// For each source, the entry from which on all held back reads were released.
    begins: BTreeMap<Box<str>, u64>,
}

impl<F: Fn(&ChipRead) -> bool> Reading<F> {
    /// The next reads to release. Empty: no more reads follow.
    fn group(&mut self) -> std::io::Result<Vec<Draft>> {
        let mut group = Vec::new();
        while group.len() < GROUP
            && let Some(entry) = self.entries.entry()?
        {
            group.extend(self.entry(entry));
        }
        Ok(group)
    }

    fn entry(&mut self, entry: Entry) -> Option<Draft> {
        let Entry { seq, subject, time, body: Body::Read(read), raw, .. } = entry else { return None };
        let held = self.held.get(&*subject)?;
        if !read.held_back || !held.has(seq) {
            return None;
        }
        if !(self.which)(&read) {
            self.begins.insert((&*subject).into(), seq + 1);
            return None;
        }
        let range = held.ranges.range(..=seq).next_back().map_or(seq, |(first, _)| *first);
        let from = self.begins.insert((&*subject).into(), seq + 1).unwrap_or(range).max(range);
        let received = clock::corrected(&self.steps, seq, time);
        let read = ChipRead { held_back: false, let_go: Some(Box::new((Seq(from), Seq(seq)))), ..read };
        Some((subject, received, Body::Read(read), raw))
    }
}
