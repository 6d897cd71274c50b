//! Sinks: who passes on what the journal has, each with a cursor for every source.
//!
//! What must hold:
//! * **Nothing is pruned that a sink still owes.** Pruning asks the least of all registered sinks
//!   ([`Sinks::needed_from`]). A sink that never moves holds the log, and the box says so when the
//!   log is over its limit.
//! * **A cursor is `(sink, source)`**, and follows from the log alone. The RUFUS uplink is the first
//!   sink: its cursors move with its batches, and its events are lines of the log under its name
//!   ([`RUFUS`]). A cursor of another sink moves with a line of its own ([`Settled`]). That line
//!   rides with the next group, because what is lost of it in a power cut is only passed on again.
//! * **Only who is registered holds the log.** The uplink always is: a read that is not uploaded is
//!   never pruned, also while the configuration has no cloud, or a wrong one. Every other sink is
//!   registered while it is configured. One that was removed keeps its cursors and holds nothing:
//!   if it comes back, it goes on at its cursors, and what was pruned meanwhile is a gap.

use std::collections::BTreeMap;
use std::io;

use super::Journal;
use super::entry::{Body, Entry};
use super::reader::{News, Reader};
use super::state::State;
use crate::model::chip::Seq;

/// The name of the RUFUS uplink in the log.
pub(super) const RUFUS: &str = "rufus";

/// Sinks of which the state remembers cursors. Of more, the one that is furthest behind is
/// forgotten: it passes on again what the log still has.
const SINKS_MAX: usize = 16;

/// An event of the log: all that the sink owes of a source, up to an entry, was passed on, or never
/// will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The sink.
    pub sink: Box<str>,
    /// The entry.
    pub through: Seq,
}

/// Who passes on what the journal has.
pub(super) trait Sink: Send + Sync {
    /// Its name in the log. It never changes.
    fn name(&self) -> &str;

    /// The lowest entry that it still needs. `None`: it needs nothing that is there.
    fn needs(&self, state: &State) -> Option<u64>;

    /// All that it owes of a source, up to this entry, is settled.
    fn settled(&self, state: &State, source: &str) -> u64;
}

/// The uplink to the RUFUS Cloud. What it needs follows from its batches.
struct Rufus;

impl Sink for Rufus {
    fn name(&self) -> &str {
        RUFUS
    }

    fn needs(&self, state: &State) -> Option<u64> {
        state.needed_from()
    }

    fn settled(&self, state: &State, source: &str) -> u64 {
        state.decoders.get(source).map_or(0, |fold| fold.cursor)
    }
}

/// A sink whose cursors are all that is known of it.
struct Follows(Box<str>);

impl Sink for Follows {
    fn name(&self) -> &str {
        &self.0
    }

    fn needs(&self, state: &State) -> Option<u64> {
        let owed = state.decoders.iter().filter_map(|(source, fold)| {
            let settled = self.settled(state, source);
            (fold.newest() > settled).then_some(settled + 1)
        });
        owed.min()
    }

    fn settled(&self, state: &State, source: &str) -> u64 {
        state.sinks.get(&self.0).and_then(|cursors| cursors.get(source)).copied().unwrap_or(0)
    }
}

/// The registered sinks.
pub(super) struct Sinks(Vec<Box<dyn Sink>>);

impl Sinks {
    /// The uplink, and the sinks of these names.
    pub(super) fn new(names: &[&str]) -> Self {
        let others = names.iter().filter(|name| **name != RUFUS);
        let others = others.map(|name| Box::new(Follows((*name).into())) as Box<dyn Sink>);
        Self(std::iter::once(Box::new(Rufus) as Box<dyn Sink>).chain(others).collect())
    }

    /// The lowest entry that a sink needs, and the sink. Without one, the entry that comes next.
    pub(super) fn needed_from(&self, state: &State) -> (u64, Option<&str>) {
        let needs = self.0.iter().filter_map(|sink| Some((sink.needs(state)?, Some(sink.name()))));
        needs.min_by_key(|(from, _)| *from).unwrap_or((state.followed + 1, None))
    }

    fn find(&self, name: &str) -> Option<&dyn Sink> {
        self.0.iter().map(|sink| &**sink).find(|sink| sink.name() == name)
    }
}

impl State {
    /// Applies an event of a sink.
    pub(super) fn sink_settled(&mut self, seq: u64, source: &str, settled: &Settled) {
        if *settled.sink == *RUFUS || !self.decoders.contains_key(source) {
            return; // the cursors of the uplink move with its batches alone
        }
        if !self.sinks.contains_key(&settled.sink) && self.sinks.len() >= SINKS_MAX {
            let newest = |cursors: &BTreeMap<Box<str>, u64>| cursors.values().max().copied();
            let behind = self.sinks.iter().min_by_key(|(_, cursors)| newest(cursors)).map(|(name, _)| name.clone());
            behind.map(|name| self.sinks.remove(&name));
        }
        let cursor = self.sinks.entry(settled.sink.clone()).or_default().entry(source.into()).or_default();
        *cursor = settled.through.0.min(seq).max(*cursor);
    }
}

/// The journal as one sink sees it: what it owes, in order.
pub struct SinkReader {
    journal: Journal,
    sink: Box<str>,
    /// The cursors when it began to read.
    began: BTreeMap<Box<str>, u64>,
    reader: Reader,
}

impl Journal {
    /// What a sink owes, from its cursors on. Waits until the state follows the log. `None`: the
    /// sink is not registered, or it is the uplink, which has a queue of its own.
    pub async fn sink(&self, name: &str) -> Option<SinkReader> {
        self.serving().await;
        let (began, from) = {
            let core = self.shared.lock();
            let sink = self.shared.sinks.find(name).filter(|sink| sink.name() != RUFUS)?;
            let sources = core.state.decoders.keys();
            let began = sources.map(|source| (source.clone(), sink.settled(&core.state, source))).collect();
            (began, sink.needs(&core.state).unwrap_or(core.state.followed + 1))
        };
        Some(SinkReader { journal: self.clone(), sink: name.into(), began, reader: self.reader(Seq(from)) })
    }
}

impl SinkReader {
    /// The next news, like [`Reader::next`]. Not all of the entries are owed
    /// ([`SinkReader::owes`]).
    ///
    /// # Errors
    /// Like [`Reader::next`].
    pub async fn next(&mut self) -> io::Result<Option<News>> {
        self.reader.next().await
    }

    /// Whether the sink owes this entry: it is a read or a marker, and was not settled when the sink
    /// began to read. A read that is held back says so, and comes again when it is released.
    pub fn owes(&self, entry: &Entry) -> bool {
        matches!(entry.body, Body::Read(_) | Body::Marker(_))
            && self.began.get(&entry.subject).is_none_or(|settled| entry.seq > *settled)
    }

    /// Moves the cursor of a source: all that is owed of it, up to this entry, is settled. That
    /// becomes durable with the next group. If the power fails before, the sink gets these entries
    /// again. Nothing is recorded if nothing of the source was owed.
    pub fn settle(&self, source: &str, through: Seq) {
        let is_owed = {
            let core = self.journal.shared.lock();
            let settled = self.journal.shared.sinks.find(&self.sink).map(|sink| sink.settled(&core.state, source));
            let newest = core.state.decoders.get(source).map_or(0, |fold| fold.newest());
            settled.is_some_and(|settled| through.0 > settled && newest > settled)
        };
        if is_owed {
            self.journal.settle_later(source, Settled { sink: self.sink.clone(), through });
        }
    }
}

#[cfg(test)]
mod tests;
