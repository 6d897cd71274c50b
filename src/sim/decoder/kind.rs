//! The decoders that can be simulated: those of the registry.

use std::fmt;

use crate::decoders::simulator::memory::{SimRead, Simulated};
use crate::decoders::simulator::talk::Simulator;
use crate::decoders::{Dials, Frame, Item, Missed, Output, REGISTRY, Settings, Spec, spec};

/// The decoder that is simulated: its name in the registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(&'static str);

/// Names for code that is about one decoder: the demo, tests and benches. A decoder needs no name
/// here to be simulated.
impl Kind {
    /// Connects to the box, stores reads by location, and sends them from any number on.
    pub const CHRONOTRACK: Self = Self("chronotrack");
    /// Streams JSON objects to every client.
    pub const CLOUDBOX: Self = Self("cloudbox");
    /// Streams JSON objects.
    pub const IMPINJ: Self = Self("impinj");
    /// Streams, and stores nothing.
    pub const IPICO: Self = Self("ipico");
    /// Connects to the box and streams.
    pub const JCHIP: Self = Self("jchip");
    /// Streams lines of its own form.
    pub const LINES: Self = Self("lines");
    /// Serves one client, and streams what that client asked for.
    pub const LLRP: Self = Self("llrp");
    /// Connects to the box and repeats each message until it is acknowledged.
    pub const MYLAPS: Self = Self("mylaps");
    /// Stores reads in session files, and pushes to its last connection.
    pub const ONE4ALL: Self = Self("one4all");
    /// Stores reads under running numbers, and streams binary frames to every peer.
    pub const P3: Self = Self("p3");
    /// Stores reads in numbered files, and pushes to each peer that asked for it.
    pub const RACE_RESULT: Self = Self("raceresult");
    /// Prints impulses on a serial line.
    pub const TIMY: Self = Self("timy");
    /// Stores reads in a log, and streams to every peer.
    pub const ULTRA: Self = Self("ultra");
}

impl Kind {
    /// Every simulated decoder, in the order of the registry.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        REGISTRY.iter().map(|spec| Self(spec.name))
    }

    /// The decoder with this protocol name in the registry.
    pub fn from_name(name: &str) -> Option<Self> {
        spec(name).map(|spec| Self(spec.name))
    }

    /// The protocol's name in the registry.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its line of the registry.
    ///
    /// # Panics
    /// Panics if a name above is not in the registry. A test checks all of them.
    pub fn spec(self) -> &'static Spec {
        spec(self.0).unwrap_or_else(|| panic!("{} is not in the registry", self.0))
    }

    /// Whether the decoder connects to the box. Otherwise it waits for a connection.
    pub fn connects(self) -> bool {
        self.spec().dials == Dials::TheDecoder
    }

    /// The options that our protocol needs to read this decoder.
    pub fn settings(self) -> Settings {
        self.simulator().settings()
    }

    /// Whether the box can ask the decoder for stored reads.
    pub fn stores(self) -> bool {
        self.spec().missed == Missed::Stored
    }

    /// Whether another program, or a person at the decoder, can begin a new file or session.
    pub fn begins_files(self) -> bool {
        self.simulator().begins_files()
    }

    /// Whether its records name the reader that made them.
    pub fn names_its_reader(self) -> bool {
        self.simulator().names_its_reader()
    }

    /// Splits a recording of this protocol into the rows that
    /// [`ReadSource::Recording`](super::ReadSource::Recording) takes, without their ends.
    pub fn rows(self, recording: &[u8]) -> Vec<Vec<u8>> {
        self.simulator().rows(recording)
    }

    /// Noise that makes no other frame invalid.
    pub fn noise(self) -> Vec<u8> {
        self.simulator().noise(self.spec().frame_end)
    }

    pub(super) fn simulator(self) -> &'static dyn Simulator {
        self.spec().simulator
    }

    pub(super) fn simulated(self) -> Simulated {
        Simulated { nature: self.simulator(), end: self.spec().frame_end }
    }

    /// The reads that our own protocol finds in a recorded row. Nothing else here can tell the
    /// reads of a recording (the digests of the recordings check the protocol).
    pub(super) fn reads_in(self, row: &[u8]) -> Vec<SimRead> {
        let Ok(mut protocol) = (self.spec().make)(&self.settings()) else { return Vec::new() };
        let mut out = Output::default();
        protocol.feed(row, &mut out);
        protocol.feed(self.spec().frame_end, &mut out);
        let reads = out.items.into_iter().filter_map(|item| match item {
            Item::Frame(framed) => match framed.frame {
                Frame::Read(read) => Some(SimRead {
                    number: read.position.map_or(0, |position| position.number),
                    chip: (&*read.chip).into(),
                    stamp: read.stamp,
                }),
                _ => None,
            },
            Item::Reply(_) | Item::HangUp(_) => None,
        });
        reads.collect()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_registry() {
        let names =
            [Kind::CHRONOTRACK, Kind::CLOUDBOX, Kind::IMPINJ, Kind::IPICO, Kind::JCHIP, Kind::LINES, Kind::LLRP];
        let more = [Kind::MYLAPS, Kind::ONE4ALL, Kind::P3, Kind::RACE_RESULT, Kind::TIMY, Kind::ULTRA];
        assert!(names.iter().chain(&more).all(|kind| Kind::from_name(kind.name()) == Some(*kind)));
    }
}
