//! Which decoders there are to simulate: those of the registry.

use std::fmt;

use crate::decoders::simulator::memory::{SimRead, Simulated};
use crate::decoders::simulator::talk::Simulator;
use crate::decoders::{Dials, Frame, Item, Missed, Output, REGISTRY, Settings, Spec, spec};

/// Which decoder is simulated: the name of one in the registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(&'static str);

/// Names for what is about one decoder: the demo, tests and benches. A decoder needs no name here to be simulated.
impl Kind {
    /// Connects to the box, stores by location, gives it from any number on.
    pub const CHRONOTRACK: Self = Self("chronotrack");
    /// Streams JSON objects to every client.
    pub const CLOUDBOX: Self = Self("cloudbox");
    /// Streams JSON objects.
    pub const IMPINJ: Self = Self("impinj");
    /// Streams, stores nothing.
    pub const IPICO: Self = Self("ipico");
    /// Connects to the box and streams.
    pub const JCHIP: Self = Self("jchip");
    /// Streams lines of its own form.
    pub const LINES: Self = Self("lines");
    /// Serves one client, and streams what that one told it to.
    pub const LLRP: Self = Self("llrp");
    /// Connects to the box and repeats until acknowledged.
    pub const MYLAPS: Self = Self("mylaps");
    /// Stores in session files, pushes to its last connection.
    pub const ONE4ALL: Self = Self("one4all");
    /// Stores under running numbers, streams binary frames to every peer.
    pub const P3: Self = Self("p3");
    /// Stores in numbered files, pushes to whoever asked for it.
    pub const RACE_RESULT: Self = Self("raceresult");
    /// Prints impulses on a serial line.
    pub const TIMY: Self = Self("timy");
    /// Stores in a log, streams to every peer.
    pub const ULTRA: Self = Self("ultra");
}

impl Kind {
    /// Every simulated decoder, in the order of the registry.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        REGISTRY.iter().map(|spec| Self(spec.name))
    }

    /// By the protocol's name in the registry.
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
    /// If a name above is not in the registry. A test looks at all of them.
    pub fn spec(self) -> &'static Spec {
        spec(self.0).unwrap_or_else(|| panic!("{} is not in the registry", self.0))
    }

    /// The decoder connects to the box; else it waits to be connected to.
    pub fn connects(self) -> bool {
        self.spec().dials == Dials::TheDecoder
    }

    /// The options under which our protocol reads it, where it does not without.
    pub fn settings(self) -> Settings {
        self.simulator().settings()
    }

    /// The box can ask it for what it stores.
    pub fn stores(self) -> bool {
        self.spec().missed == Missed::Stored
    }

    /// Another program, or somebody at it, can begin a new file or session.
    pub fn begins_files(self) -> bool {
        self.simulator().begins_files()
    }

    /// Its records name the reader that made them.
    pub fn names_its_reader(self) -> bool {
        self.simulator().names_its_reader()
    }

    /// A recording of this protocol in the rows that [`ReadSource::Recording`](super::ReadSource::Recording) takes, without their ends.
    pub fn rows(self, recording: &[u8]) -> Vec<Vec<u8>> {
        self.simulator().rows(recording)
    }

    /// Noise that costs no frame but itself.
    pub fn noise(self) -> Vec<u8> {
        self.simulator().noise(self.spec().frame_end)
    }

    pub(super) fn simulator(self) -> &'static dyn Simulator {
        self.spec().simulator
    }

    pub(super) fn simulated(self) -> Simulated {
        Simulated { nature: self.simulator(), end: self.spec().frame_end }
    }

    /// What our own protocol reads in a recorded row: the only judge of a recording there is here (the recordings'
    /// digests judge the protocol).
    pub(super) fn reads_in(self, row: &[u8]) -> Vec<SimRead> {
        let Ok(mut protocol) = (self.spec().make)(&self.settings()) else { return Vec::new() };
        let mut out = Output::default();
        protocol.feed(row, &mut out);
        protocol.feed(self.spec().frame_end, &mut out);
        let reads = out.items.into_iter().filter_map(|item| match item {
            Item::Frame(framed) => match framed.frame {
                Frame::Read(read) => Some(SimRead {
                    number: read.position.map_or(0, |position| position.number),
                    chip: read.chip,
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
