//! Where the upload of each read of a stretch of the log stands: what every batch says of it, in log order.
//!
//! Batches come later in the log than the reads they are of, by a moment or by a whole race. So the reads are taken a
//! stretch at a time, and of the uploads only those blocks are read again that tell of the stretch
//! ([`super::index::Block::tells_of`]). What is held does not grow with the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::journal::{Found, UploadEvent, UploadItem};

/// Where a read's upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadMark {
    /// Not acknowledged yet.
    Pending,
    /// The cloud holds it.
    Sent,
    /// The cloud refused it; set aside.
    #[serde(rename = "quarantined")]
    SetAside,
    /// No passing of its own: dead time or a repeat.
    Suppressed,
    /// It may be of another race: it waits until somebody lets it go.
    HeldBack,
}

#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub mark: UploadMark,
    /// Index into [`Standings::tokens`].
    token: u32,
    pub num: u64,
    /// As it was uploaded, in ms.
    pub time_ms: i64,
}

impl Standing {
    const SUPPRESSED: Self = Self { mark: UploadMark::Suppressed, token: 0, num: 0, time_ms: 0 };
}

/// Where the upload of every read of a stretch stands.
pub(super) struct Standings {
    /// Sequence numbers of the stretch.
    stretch: RangeInclusive<u64>,
    by_seq: HashMap<u64, Standing>, // at most one for each entry of the stretch
    /// Sessions that batches of the stretch were numbered in.
    tokens: Vec<Box<str>>,
    /// Items in flight per device: number to sequence number. At most a batch each.
    open: HashMap<Box<str>, BTreeMap<u64, u64>>,
    /// Reads of the stretch that were held back and let go, by the entry that each has been since.
    let_go: BTreeMap<u64, u64>,
    /// Those reads.
    were_held: HashSet<u64>,
}

impl Standings {
    pub fn of(stretch: RangeInclusive<u64>) -> Self {
        Self {
            stretch,
            by_seq: HashMap::new(),
            tokens: Vec::new(),
            open: HashMap::new(),
            let_go: BTreeMap::new(),
            were_held: HashSet::new(),
        }
    }

    /// What is known of a read.
    pub fn get(&self, seq: u64) -> Option<&Standing> {
        self.by_seq.get(&seq)
    }

    /// The session that a standing is in.
    pub fn token(&self, standing: &Standing) -> Option<&str> {
        self.tokens.get(standing.token as usize).map(|token| &**token)
    }

    /// The read `of` was held back, and is the entry `seq` since it was let go.
    pub fn lets_go(&mut self, seq: u64, of: u64) {
        if self.stretch.contains(&of) {
            self.let_go.insert(seq, of);
            self.were_held.insert(of);
        }
    }

    /// Whether a read that was held back was let go.
    pub fn is_let_go(&self, seq: u64) -> bool {
        self.were_held.contains(&seq)
    }

    /// Whether there is one among these entries.
    pub fn let_go_within(&self, first: u64, last: u64) -> bool {
        self.let_go.range(first..=last).next().is_some()
    }

    /// The read of the stretch that an entry is.
    fn read(&self, seq: u64) -> Option<u64> {
        let seq = self.let_go.get(&seq).copied().unwrap_or(seq);
        self.stretch.contains(&seq).then_some(seq)
    }

    /// A marker that was there before.
    pub fn suppress(&mut self, seq: u64) {
        self.put(seq, Standing::SUPPRESSED);
    }

    fn put(&mut self, seq: u64, standing: Standing) {
        if let Some(seq) = self.read(seq) {
            self.by_seq.insert(seq, standing);
        }
    }

    pub fn apply(&mut self, event: &UploadEvent) {
        match event {
            UploadEvent::Joined { .. } | UploadEvent::Audited(_) | UploadEvent::Moved { .. } => {}
            UploadEvent::Batch(batch) => {
                // A batch is formed only when the one before is settled, also if the line that says so was lost.
                let mut open = self.open.remove(&batch.device).unwrap_or_default();
                let still_open: BTreeMap<u64, u64> =
                    open.extract_if(.., |num, _| batch.still_open.contains(num)).collect();
                self.open.insert(batch.device.clone(), open);
                self.settle(&batch.device, 0, u64::MAX, UploadMark::Sent);
                let mine = batch.items.iter().filter_map(|item| Some((item.num, self.read(item.seq.0)?)));
                let mut open: BTreeMap<u64, u64> = mine.collect();
                if !open.is_empty() {
                    let token = self.index_of(&batch.session);
                    for &UploadItem { seq, num, time_ms, .. } in &batch.items {
                        self.put(seq.0, Standing { mark: UploadMark::Pending, token, num, time_ms });
                    }
                }
                for &Found { seq, ref session, num, time_ms, .. } in &batch.found {
                    if self.read(seq.0).is_some() {
                        let token = self.index_of(session);
                        self.put(seq.0, Standing { mark: UploadMark::Sent, token, num, time_ms });
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
                // Released: it has no number until the next batch.
                Some(_) if mark == UploadMark::Pending => drop(self.by_seq.remove(&seq)),
                Some(standing) => standing.mark = mark,
                None => {}
            }
        }
    }
}
