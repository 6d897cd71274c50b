//! What the fold will decide about reads that are about to be written. Part of the fold: it changes
//! nothing, and it must not say anything else than [`State::apply`] will. Reads that wait already are
//! decided, and go into the batch before them ([`super::waiting`]).
//!
//! The answer is `None` whenever it depends on something that only following the entries can show.
//! That is no fault: the reads are then decided when they are followed, and their batch is formed
//! after that.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::dead::{LifeOfUptime, SeenAt};
use super::dedup_index::DedupIndex;
use super::entry::{Body, Entry};
use super::offer::{Numbered, Offer};
use super::shared::Shared;
use super::state::{DecoderFold, ReadVerdict, Rules, State, Waiting, pending_read};
use super::undated::{self, Which};
use super::upload::{Pending, UploadEvent};
use super::waiting::before_group;
use crate::model::chip::{ChipRead, Seq, Stamp};
use crate::model::{clock, source};

/// Forms the batches of the reads in a group that is about to be written. `entries` are the group
/// so far.
pub(super) fn number(shared: &Shared, entries: &[Entry]) -> Vec<Numbered> {
    let mut offers = shared.offers.lock();
    if offers.is_empty() || !entries.iter().any(|entry| matches!(entry.body, Body::Read(_))) {
        return Vec::new();
    }
    let rules = shared.rules();
    let mut formed = Vec::new();
    for (device, mut placed) in std::mem::take(&mut *offers) {
        let pending = foreseen(shared, &rules, entries, &placed.offer);
        let pending = pending.filter(|pending| (1..=placed.offer.limit).contains(&pending.reads.len()));
        match pending.and_then(&mut placed.offer.form) {
            Some(batch) => formed.push(Numbered { batch, taken: placed.taken }),
            None => {
                offers.insert(device, placed);
            }
        }
    }
    formed
}

fn foreseen(shared: &Shared, rules: &Rules, entries: &[Entry], offer: &Offer) -> Option<Pending> {
    let core = shared.lock();
    let mut known = shared.known();
    if !core.serving {
        return None;
    }
    let waiting = before_group(&core, offer, shared.first)?;
    foresee(&core.state, &mut known, rules, entries, offer, waiting)
}

/// What waits, and behind it the device's reads among these entries, which follow the state, as
/// passings, duplicates and reads within the dead time. `None`: not known now, or something of the
/// device is in flight or was released, and must go first.
pub(super) fn foresee(
    state: &State,
    known: &mut DedupIndex,
    rules: &Rules,
    entries: &[Entry],
    offer: &Offer,
    waiting: Pending,
) -> Option<Pending> {
    let (device, sources) = (&*offer.device, &offer.decoders);
    let follows = entries.first().is_some_and(|first| first.seq == state.followed + 1);
    if !follows || !known.live || state.hold.is_some() || state.is_undecided() || !is_free(state, entries, device) {
        return None;
    }
    let mut group =
        Group { state, known, rules, lives: BTreeMap::new(), identities: HashSet::new(), chips: HashSet::new() };
    let mut pending = waiting;
    let unset = entries.iter().any(|entry| !clock::box_clock_set(entry.time));
    for entry in entries {
        match &entry.body {
            // The day of the read may follow from another entry.
            Body::Read(read) if unset && clock::is_undated(&read.stamp) => return None,
            Body::Read(read) if sources.iter().any(|source| **source == *entry.subject) => {
                pending.through = Seq(entry.seq);
                match group.decide(entry, read)? {
                    Foreseen::Passing => pending.reads.push(pending_read(entry, read)),
                    Foreseen::Dead => pending.dead.push(Seq(entry.seq)),
                    Foreseen::Duplicate => pending.duplicates.push(Seq(entry.seq)),
                }
            }
            // A read of another location of a decoder may be the same read.
            Body::Read(read) => group.note(read)?,
            Body::Clock(_) | Body::Correct(_) | Body::Control(_) => return None,
            Body::Upload(event) if event.device() == device => match event {
                UploadEvent::Accepted { .. } | UploadEvent::Audited(_) => {}
                _ => return None,
            },
            Body::Upload(_)
            | Body::Settled(_)
            | Body::Cleared(_)
            | Body::Marker(_)
            | Body::Rejected(_)
            | Body::Note(_) => {}
        }
    }
    Some(pending)
}

impl State {
    /// Whether a batch says of the reads that it covers what the fold decided. `entry` is applied
    /// next, and the entries of its group before it were applied.
    pub(super) fn agrees(&self, entry: &Entry) -> bool {
        let Body::Upload(UploadEvent::Batch(batch)) = &entry.body else { return true };
        let covered = self.tail.iter().take_while(|waiting| waiting.read.seq <= batch.through);
        let mine = |waiting: &&Waiting| batch.decoders.iter().any(|decoder| **decoder == *waiting.read.decoder);
        covered.filter(mine).filter(|waiting| self.is_waiting(&waiting.read)).all(|waiting| {
            let seq = waiting.read.seq;
            let found = || batch.found.iter().any(|found| found.seq == seq);
            match waiting.verdict {
                ReadVerdict::Passing => batch.items.iter().any(|item| item.seq == seq) || found(),
                ReadVerdict::Dead => batch.dead.contains(&seq),
                ReadVerdict::Duplicate => batch.duplicates.contains(&seq),
                ReadVerdict::Waits => false,
            }
        })
    }
}

/// Whether nothing of the device is in flight or was released, once the acceptances among these
/// entries count.
fn is_free(state: &State, entries: &[Entry], device: &str) -> bool {
    let Some(fold) = state.devices.get(device) else { return false }; // no session was joined
    let accepted = |num: u64| {
        entries.iter().any(|entry| {
            matches!(&entry.body, Body::Upload(UploadEvent::Accepted { device: of, first, last, .. })
                if **of == *device && (*first..=*last).contains(&num))
        })
    };
    let open = fold.in_flight.iter().flat_map(|flight| &flight.open);
    fold.waiting_again().next().is_none() && open.into_iter().all(|item| accepted(item.num))
}

/// What the fold will decide about a read.
enum Foreseen {
    Passing,
    Dead,
    Duplicate,
}

/// What the entries of one group, up to here, add to the state.
struct Group<'a> {
    state: &'a State,
    known: &'a mut DedupIndex,
    rules: &'a Rules,
    /// The lives of decoders without a clock, by source.
    lives: BTreeMap<&'a str, LifeOfUptime>,
    /// Identities of the reads so far.
    identities: HashSet<u64>,
    /// Sources and chips of the passings so far.
    chips: HashSet<(Arc<str>, Arc<str>)>,
}

impl<'a> Group<'a> {
    /// Remembers that the group has this read. `None`: the group has the same read twice.
    fn note(&mut self, read: &ChipRead) -> Option<()> {
        self.identities.insert(read.identity()).then_some(())
    }

    fn decide(&mut self, entry: &'a Entry, read: &ChipRead) -> Option<Foreseen> {
        if read.replay || read.amid_stored || read.held_back || read.let_go.is_some() {
            return None;
        }
        self.note(read)?;
        let (source, received) = (&*entry.subject, entry.time);
        let fresh = DecoderFold::default();
        let fold = self.state.decoders.get(source).unwrap_or(&fresh);
        if self.is_duplicate(entry, read, fold)? {
            return Some(Foreseen::Duplicate);
        }
        if self.rules.dead_time_ms == 0 {
            return Some(Foreseen::Passing);
        }
        if !self.chips.insert((Arc::clone(&entry.subject), Arc::clone(&read.chip))) {
            return None; // it depends on a read of this group
        }
        let seen = SeenAt::of(entry.seq, source, read, received, &self.rules.zones);
        let life = self.lives.get(source).unwrap_or(&fold.life);
        let dead = fold.dead.is_near(&read.chip, seen, life, self.rules.dead_time_ms);
        Some(if dead { Foreseen::Dead } else { Foreseen::Passing })
    }

    /// As [`State::apply`] will find it.
    fn is_duplicate(&mut self, entry: &'a Entry, read: &ChipRead, fold: &DecoderFold) -> Option<bool> {
        let (source, received) = (&*entry.subject, entry.time);
        let which = undated::which(read, source, received, &self.rules.zones);
        let identities = match (which, read.stamp) {
            (Which::Day(identities, _), _) if self.state.undated.is_void(identities.own.0) => return None,
            (Which::Ever(identities) | Which::Day(identities, _), _) => identities,
            (Which::Life, Stamp::Uptime(ms)) => {
                let life = self.lives.entry(source).or_insert(fold.life).hears(entry.seq, ms, read.moment(received));
                read.identities().map(|identity| undated::in_life(identity, life))
            }
            (Which::Life | Which::NoDay, _) => return None,
        };
        let others = [Some(identities.other), undated::as_dated(read)];
        let in_source = |(_, fold): (&str, &DecoderFold)| {
            let names = [Some(identities.own.0)].into_iter().chain(others);
            names.flatten().any(|name| fold.recent.has(name))
        };
        let mut sources = source::of(&self.state.decoders, source::decoder(source));
        Some(self.known.knows(entry) || sources.any(in_source))
    }
}
