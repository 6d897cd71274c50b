//! The upload state of each read of a stretch of the log: what the batches say about it, in the
//! order of the log.
//!
//! Batches are later in the log than their reads, by a moment or by a whole race. So the reads are
//! exported one stretch at a time, and of the uploads only those blocks are read again that are
//! about reads of the stretch ([`super::index::Block::tells_of`]). The memory for this does not
//! grow with the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::journal::{Found, UploadEvent, UploadItem};

/// The upload state of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UploadMark {
    /// The cloud has not acknowledged it yet.
    Pending,
    /// The cloud has it.
    Sent,
    /// It is set aside, because the cloud refused it or failed at it.
    #[serde(rename = "quarantined")]
    SetAside,
    /// It is no passing of its own: dead time or a duplicate.
    Suppressed,
    /// It may belong to another race, so it waits until somebody releases it.
    HeldBack,
    /// It was kept while the box is on hold, and waits for its release.
    Held,
}

#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub mark: UploadMark,
    /// Index of its session in [`Standings::tokens`].
    token: u32,
    pub num: u64,
    /// The time as it was uploaded, in ms.
    pub time_ms: i64,
    /// How much of it is a correction.
    pub corrected_ms: i64,
}

impl Standing {
    const SUPPRESSED: Self = Self { mark: UploadMark::Suppressed, token: 0, num: 0, time_ms: 0, corrected_ms: 0 };
}

/// The reason of a read that was kept while the box was on hold, and dropped at its end.
pub(super) const DROPPED_AT_RELEASE: &str = "dropped by choice: read while the box was on hold";

/// The upload states of all reads of a stretch.
pub(super) struct Standings {
    /// Sequence numbers of the stretch.
    stretch: RangeInclusive<u64>,
    by_seq: HashMap<u64, Standing>, // at most one for each entry of the stretch
    /// Sessions in which batches of the stretch were numbered.
    tokens: Vec<Box<str>>,
    /// Items in flight per device: number to sequence number. At most one batch each, and what it
    /// left open.
    open: HashMap<Box<str>, BTreeMap<u64, u64>>,
    /// Released reads of the stretch: from the entry that released each read to the read itself.
    let_go: BTreeMap<u64, u64>,
    /// The reads of the stretch that were released.
    were_held: HashSet<u64>,
    /// Reads that were sent again because their time was corrected: index of the session and number
    /// of the passing that was sent before.
    replaced: HashMap<u64, (u32, u64)>,
    /// By read: the passing as it was numbered last, and its device. `None`: nobody asks for it.
    passings: Option<HashMap<u64, (Box<str>, UploadItem)>>,
}

impl Standings {
    pub(super) fn of(stretch: RangeInclusive<u64>) -> Self {
        Self {
            stretch,
            by_seq: HashMap::new(),
            tokens: Vec::new(),
            open: HashMap::new(),
            let_go: BTreeMap::new(),
            were_held: HashSet::new(),
            replaced: HashMap::new(),
            passings: None,
        }
    }

    /// Leaves the reads before `seq` out of the stretch from now on.
    pub(super) fn forget_before(&mut self, seq: u64) {
        self.stretch = seq..=*self.stretch.end();
        self.by_seq.retain(|of, _| *of >= seq);
        self.let_go.retain(|_, of| *of >= seq);
        self.were_held.retain(|of| *of >= seq);
        self.replaced.retain(|of, _| *of >= seq);
        if let Some(passings) = &mut self.passings {
            passings.retain(|of, _| *of >= seq);
        }
    }

    /// The same, with the passing of each read.
    #[must_use]
    pub(super) fn with_passings(self) -> Self {
        Self { passings: Some(HashMap::new()), ..self }
    }

    /// The device and the passing of a read, as it was numbered last.
    pub(super) fn passing(&self, seq: u64) -> Option<(&str, &UploadItem)> {
        self.passings.as_ref()?.get(&seq).map(|(device, item)| (&**device, item))
    }

    /// Session and number of the passing that was sent before the present one of a read.
    pub(super) fn replaced(&self, seq: u64) -> Option<(&str, u64)> {
        let (token, num) = self.replaced.get(&seq)?;
        Some((self.tokens.get(*token as usize)?, *num))
    }

    fn keep(&mut self, device: &str, item: UploadItem) {
        let read = self.read(item.seq.0);
        if let (Some(passings), Some(seq)) = (&mut self.passings, read) {
            passings.insert(seq, (device.into(), item));
        }
    }

    /// What is known about a read.
    pub(super) fn get(&self, seq: u64) -> Option<&Standing> {
        self.by_seq.get(&seq)
    }

    /// The session of a standing.
    pub(super) fn token(&self, standing: &Standing) -> Option<&str> {
        self.tokens.get(standing.token as usize).map(|token| &**token)
    }

    /// Records that the read `of` was held back and was released as entry `seq`.
    pub(super) fn lets_go(&mut self, seq: u64, of: u64) {
        if self.stretch.contains(&of) {
            self.let_go.insert(seq, of);
            self.were_held.insert(of);
        }
    }

    /// Whether a read that was held back was released.
    pub(super) fn is_let_go(&self, seq: u64) -> bool {
        self.were_held.contains(&seq)
    }

    /// Whether one of these entries released a read of the stretch.
    pub(super) fn let_go_within(&self, first: u64, last: u64) -> bool {
        self.let_go.range(first..=last).next().is_some()
    }

    /// The read of the stretch to which an entry belongs.
    fn read(&self, seq: u64) -> Option<u64> {
        let seq = self.let_go.get(&seq).copied().unwrap_or(seq);
        self.stretch.contains(&seq).then_some(seq)
    }

    /// Marks a marker that is a duplicate.
    pub(super) fn suppress(&mut self, seq: u64) {
        self.put(seq, Standing::SUPPRESSED);
    }

    fn put(&mut self, seq: u64, standing: Standing) {
        if let Some(seq) = self.read(seq) {
            self.by_seq.insert(seq, standing);
        }
    }

    pub(super) fn apply(&mut self, event: &UploadEvent) {
        match event {
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. } => {}
            UploadEvent::Again { session, items, .. } => {
                for item in items {
                    let Some(seq) = self.read(item.seq.0) else { continue };
                    let token = self.index_of(session);
                    self.by_seq.remove(&seq);
                    self.replaced.insert(seq, (token, item.num));
                }
            }
            UploadEvent::Batch(batch) => {
                // A batch is formed only when the batch before it is settled, even if the line that
                // says so was lost.
                let mut open = self.open.remove(&batch.device).unwrap_or_default();
                let still_open: BTreeMap<u64, u64> =
                    open.extract_if(.., |num, _| batch.still_open.contains(num)).collect();
                self.open.insert(batch.device.clone(), open);
                self.settle(&batch.device, 0, u64::MAX, UploadMark::Sent);
                let mine = batch.items.iter().filter_map(|item| Some((item.num, self.read(item.seq.0)?)));
                let mut open: BTreeMap<u64, u64> = mine.collect();
                if !open.is_empty() {
                    let token = self.index_of(&batch.session);
                    for item in &batch.items {
                        let &UploadItem { seq, num, time_ms, corrected_ms, .. } = item;
                        self.put(seq.0, Standing { mark: UploadMark::Pending, token, num, time_ms, corrected_ms });
                        if self.passings.is_some() {
                            self.keep(&batch.device, item.clone());
                        }
                    }
                }
                for found in &batch.found {
                    let &Found { seq, ref session, num, time_ms, corrected_ms, .. } = found;
                    if self.read(seq.0).is_some() {
                        let token = self.index_of(session);
                        self.put(seq.0, Standing { mark: UploadMark::Sent, token, num, time_ms, corrected_ms });
                        // It was to be sent again, and its time there is the right one after all.
                        if let Some(seq) = self.read(seq.0).filter(|seq| self.replaced.get(seq) == Some(&(token, num)))
                        {
                            self.replaced.remove(&seq);
                        }
                        self.keep(&batch.device, found.item());
                    }
                }
                for seq in batch.dead.iter().chain(&batch.duplicates) {
                    self.put(seq.0, Standing::SUPPRESSED);
                }
                open.extend(still_open);
                self.open.insert(batch.device.clone(), open);
            }
            UploadEvent::Accepted { device, first, last, .. } => self.settle(device, *first, *last, UploadMark::Sent),
            UploadEvent::DeadLetter { device, num, .. } => self.settle(device, *num, *num, UploadMark::SetAside),
            UploadEvent::Released { device, first, last } => self.settle(device, *first, *last, UploadMark::Pending),
        }
    }

    /// Index of a session's token.
    fn index_of(&mut self, session: &str) -> u32 {
        let at = self.tokens.iter().rposition(|token| **token == *session).unwrap_or_else(|| {
            self.tokens.push(session.into());
            self.tokens.len() - 1
        });
        at as u32
    }

    fn settle(&mut self, device: &str, first: u64, last: u64, mark: UploadMark) {
        let Some(open) = self.open.get_mut(device).filter(|_| first <= last) else { return };
        for seq in open.extract_if(first..=last, |_, _| true).map(|(_, seq)| seq) {
            match self.by_seq.get_mut(&seq) {
                // Released: the passing has no number until the next batch.
                Some(_) if mark == UploadMark::Pending => drop(self.by_seq.remove(&seq)),
                Some(standing) => standing.mark = mark,
                None => {}
            }
        }
    }
}
