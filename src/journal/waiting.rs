//! Reads that wait, as an uplink gets them.

use super::offer::Offer;
use super::shared::Core;
use super::state::{ReadVerdict, Waiting};
use super::upload::Pending;
use crate::model::clock::{self, Step};
use crate::model::correction::Corrections;

/// Most entries of `dead` and `duplicates` in one [`Pending`]. This bounds the length of a batch
/// line.
const SPAN_MARKS: usize = 4096;

/// What was seen since a read was received, and changes its time.
#[derive(Clone, Default)]
pub(super) struct Since {
    steps: Vec<(u64, Step)>,
    /// The steps before this one were recorded by an earlier process.
    own: usize,
    corrections: Corrections,
    /// The first number of this process.
    first: u64,
}

impl Since {
    /// As the state has it now. `first`: the first number that this process gives.
    pub(super) fn now(core: &Core, first: u64) -> Self {
        let steps = core.state.steps.clone();
        let own = steps.partition_point(|(_, step)| step.from < first);
        Self { steps, own, corrections: core.state.corrections.clone(), first }
    }
}

impl Pending {
    /// Whether a batch of at most `limit` passings has no room for another read.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.passings() >= limit || self.dead.len() + self.duplicates.len() >= SPAN_MARKS
    }

    /// Adds the next read that waits. No batch may cover one that is not decided.
    pub(super) fn add(&mut self, waiting: Waiting, since: &Since) {
        let Waiting { mut read, verdict } = waiting;
        self.through = read.seq;
        match verdict {
            ReadVerdict::Passing => {
                // A step that an earlier process recorded says nothing about the clock of this process.
                let steps = if read.seq.0 < since.first { &since.steps[..] } else { &since.steps[since.own..] };
                read.received = clock::corrected(steps, read.seq.0, read.received);
                read.corrected_ms = since.corrections.shift_ms(&read.decoder, read.seq.0);
                read.zone = since.corrections.zone(&read.decoder, read.seq.0).map(Into::into);
                self.reads.push(read);
            }
            ReadVerdict::Dead => self.dead.push(read.seq),
            ReadVerdict::Duplicate => self.duplicates.push(read.seq),
            ReadVerdict::Waits => debug_assert!(false, "a read that is not decided is in no batch"),
        }
    }
}

/// What waits already and goes before the reads of a group, in one batch with them. `None`: the
/// uplink must form that batch itself, because there is more than one batch may hold, because some of it is not in
/// memory, or because the cloud must be asked about a read first (an earlier process left it
/// behind, or it comes from a decoder's memory).
pub(super) fn before_group(core: &Core, offer: &Offer, first: u64) -> Option<Pending> {
    let folds = offer.decoders.iter().filter_map(|source| core.state.decoders.get(source));
    let cursors = folds.filter(|fold| fold.last > fold.cursor).map(|fold| fold.cursor);
    let mut pending = Pending::default();
    let Some(after) = cursors.min() else { return Some(pending) }; // nothing waits
    if after < core.in_blocks || !core.flushing.is_empty() {
        return None;
    }
    let since = Since::now(core, first);
    let from = core.state.tail.partition_point(|waiting| waiting.read.seq.0 <= after);
    for waiting in core.state.tail.range(from..) {
        let read = &waiting.read;
        if offer.decoders.iter().all(|source| **source != *read.decoder) || !core.state.is_waiting(read) {
            continue;
        }
        let asks_first = read.seq.0 < first || read.replay;
        if asks_first || waiting.verdict == ReadVerdict::Waits || pending.is_full(offer.limit) {
            return None;
        }
        pending.add(waiting.clone(), &since);
    }
    Some(pending)
}
