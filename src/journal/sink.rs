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

use super::state::State;
use super::upload::{RUFUS, Settled};

/// Sinks of which the state remembers cursors. Of more, the one that is furthest behind is
/// forgotten: it passes on again what the log still has.
const SINKS_MAX: usize = 16;

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

    pub(super) fn find(&self, name: &str) -> Option<&dyn Sink> {
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

#[cfg(test)]
mod tests;
