//! The upload state of each read of a stretch of the log: what the batches say about it, in the
//! order of the log.
//!
//! Batches are later in the log than their reads, by a moment or by a whole race. So the reads are
//! exported one stretch at a time, and of the uploads only those blocks are read again that are
//! about reads of the stretch ([`super::index::Block::tells_of`]). The memory for this does not
//! grow with the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::journal::{Batch, Found, UploadEvent, UploadItem};

/// The upload state of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadMark {
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
    /// Why it is no passing of its own, if it is none.
    pub why: Option<WhySuppressed>,
}

impl Standing {
    fn suppressed(why: WhySuppressed) -> Self {
        Self { mark: UploadMark::Suppressed, token: 0, num: 0, time_ms: 0, corrected_ms: 0, why: Some(why) }
    }

    fn numbered(mark: UploadMark, token: u32, num: u64, (time_ms, corrected_ms): (i64, i64)) -> Self {
        Self { mark, token, num, time_ms, corrected_ms, why: None }
    }
}

/// The reads whose upload states are asked for.
enum AskedReads {
    /// A stretch: every entry from one to another.
    Stretch(RangeInclusive<u64>),
    /// A few reads, in rising order.
    These(Box<[u64]>),
}

impl AskedReads {
    fn contains(&self, seq: u64) -> bool {
        match self {
            Self::Stretch(stretch) => stretch.contains(&seq),
            Self::These(seqs) => seqs.binary_search(&seq).is_ok(),
        }
    }

    fn any_within(&self, first: u64, last: u64) -> bool {
        match self {
            Self::Stretch(stretch) => *stretch.start() <= last && first <= *stretch.end(),
            Self::These(seqs) => seqs.get(seqs.partition_point(|seq| *seq < first)).is_some_and(|seq| *seq <= last),
        }
    }
}

/// Why a read is no passing of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhySuppressed {
    /// It is within the dead time of another read of its chip.
    DeadTime,
    /// It is the repetition of a read that was kept before.
    Duplicate,
    /// It was kept while the box was on hold, and somebody chose to drop what was read then.
    Dropped,
    /// Its passing was set aside, and somebody dropped it.
    DroppedSetAside,
}

/// What the cloud answered when a passing was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The answer, cut to a limit. It is text from outside.
    pub answer: Box<str>,
    /// The cloud fails at the passing, so it is tried again by itself.
    pub again: bool,
}

/// The reason of a read that was kept while the box was on hold, and dropped at its end.
pub(super) const DROPPED_AT_RELEASE: &str = "dropped by choice: read while the box was on hold";

/// The reason of a read whose passing was set aside, and dropped by a person.
pub(super) const DROPPED_SET_ASIDE: &str = "dropped by choice: the cloud refused it or failed at it";

/// The upload states of all reads of a stretch.
pub(super) struct Standings {
    asked: AskedReads,
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
    /// Reads whose passings were set aside and then dropped.
    dropped: HashSet<u64>,
    /// Reads that were sent again because their time was corrected: index of the session and number
    /// of the passing that was sent before.
    replaced: HashMap<u64, (u32, u64)>,
    /// By read: the passing as it was numbered last, and its device. `None`: nobody asks for it.
    passings: Option<HashMap<u64, (Box<str>, UploadItem)>>,
    /// By read: the last answer with which its passing was set aside, in the same case.
    refusals: HashMap<u64, Refusal>,
}

impl Standings {
    pub(super) fn of(stretch: RangeInclusive<u64>) -> Self {
        Self::asked(AskedReads::Stretch(stretch))
    }

    /// The upload states of a few reads.
    pub(super) fn of_these(mut seqs: Vec<u64>) -> Self {
        seqs.sort_unstable();
        Self::asked(AskedReads::These(seqs.into()))
    }

    fn asked(asked: AskedReads) -> Self {
        Self {
            asked,
            by_seq: HashMap::new(),
            tokens: Vec::new(),
            open: HashMap::new(),
            let_go: BTreeMap::new(),
            were_held: HashSet::new(),
            dropped: HashSet::new(),
            replaced: HashMap::new(),
            passings: None,
            refusals: HashMap::new(),
        }
    }

    /// Leaves the reads before `seq` out of the stretch from now on.
    pub(super) fn forget_before(&mut self, seq: u64) {
        match &mut self.asked {
            AskedReads::Stretch(stretch) => *stretch = seq..=*stretch.end(),
            AskedReads::These(seqs) => *seqs = seqs.iter().copied().filter(|of| *of >= seq).collect(),
        }
        self.by_seq.retain(|of, _| *of >= seq);
        self.let_go.retain(|_, of| *of >= seq);
        self.were_held.retain(|of| *of >= seq);
        self.replaced.retain(|of, _| *of >= seq);
        if let Some(passings) = &mut self.passings {
            passings.retain(|of, _| *of >= seq);
        }
        self.refusals.retain(|of, _| *of >= seq);
        self.dropped.retain(|of| *of >= seq);
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

    /// The answer with which the passing of a read was set aside.
    pub(super) fn refusal(&self, seq: u64) -> Option<&Refusal> {
        self.refusals.get(&seq)
    }

    /// Whether a read is asked for.
    pub(super) fn asks_for(&self, seq: u64) -> bool {
        self.asked.contains(seq)
    }

    /// Whether a read among these is asked for.
    pub(super) fn asks_within(&self, first: u64, last: u64) -> bool {
        self.asked.any_within(first, last)
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
        if self.asked.contains(of) {
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
        self.asked.contains(seq).then_some(seq)
    }

    /// Whether the passing of a read was set aside and then dropped.
    pub(super) fn is_dropped(&self, seq: u64) -> bool {
        self.dropped.contains(&seq)
    }

    /// Marks a marker that is a duplicate.
    pub(super) fn suppress(&mut self, seq: u64) {
        self.put(seq, Standing::suppressed(WhySuppressed::Duplicate));
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
            UploadEvent::Retry { items, .. } => {
                for item in items {
                    self.read(item.seq.0).map(|seq| self.by_seq.remove(&seq));
                }
            }
            UploadEvent::Dropped { items, failing, .. } => {
                for seq in items.iter().chain(failing) {
                    let Some(seq) = self.read(seq.0) else { continue };
                    let aside = self.by_seq.get(&seq).is_some_and(|standing| standing.mark == UploadMark::SetAside);
                    if aside {
                        self.by_seq.insert(seq, Standing::suppressed(WhySuppressed::DroppedSetAside));
                        self.dropped.insert(seq);
                    }
                }
            }
            UploadEvent::Batch(batch) => self.batch(batch),
            UploadEvent::Accepted { device, first, last, .. } => self.settle(device, *first, *last, UploadMark::Sent),
            UploadEvent::DeadLetter { device, num, status, answer, again } => {
                if let Some(seq) =
                    self.open.get(device).and_then(|open| open.get(num)).filter(|_| self.passings.is_some())
                {
                    let refusal = Refusal { status: *status, answer: answer.clone(), again: *again };
                    self.refusals.insert(*seq, refusal);
                }
                self.settle(device, *num, *num, UploadMark::SetAside);
            }
            UploadEvent::Released { device, first, last } => self.settle(device, *first, *last, UploadMark::Pending),
        }
    }

    fn batch(&mut self, batch: &Batch) {
        // A batch is formed only when the batch before it is settled, even if the line that
        // says so was lost.
        let mut open = self.open.remove(&batch.device).unwrap_or_default();
        let still_open: BTreeMap<u64, u64> = open.extract_if(.., |num, _| batch.still_open.contains(num)).collect();
        self.open.insert(batch.device.clone(), open);
        self.settle(&batch.device, 0, u64::MAX, UploadMark::Sent);
        let mine = batch.items.iter().filter_map(|item| Some((item.num, self.read(item.seq.0)?)));
        let mut open: BTreeMap<u64, u64> = mine.collect();
        if !open.is_empty() {
            let token = self.index_of(&batch.session);
            for item in &batch.items {
                let &UploadItem { seq, num, time_ms, corrected_ms, .. } = item;
                self.put(seq.0, Standing::numbered(UploadMark::Pending, token, num, (time_ms, corrected_ms)));
                if self.passings.is_some() {
                    self.keep(&batch.device, item.clone());
                }
            }
        }
        for found in &batch.found {
            let &Found { seq, ref session, num, time_ms, corrected_ms, .. } = found;
            if self.read(seq.0).is_some() {
                let token = self.index_of(session);
                self.put(seq.0, Standing::numbered(UploadMark::Sent, token, num, (time_ms, corrected_ms)));
                // It was to be sent again, and its time there is the right one after all.
                if let Some(seq) = self.read(seq.0).filter(|seq| self.replaced.get(seq) == Some(&(token, num))) {
                    self.replaced.remove(&seq);
                }
                self.keep(&batch.device, found.item());
            }
        }
        for seq in &batch.dead {
            self.put(seq.0, Standing::suppressed(WhySuppressed::DeadTime));
        }
        for seq in &batch.duplicates {
            self.put(seq.0, Standing::suppressed(WhySuppressed::Duplicate));
        }
        open.extend(still_open);
        self.open.insert(batch.device.clone(), open);
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
