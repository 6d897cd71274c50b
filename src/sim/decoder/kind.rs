//! Which decoders there are to simulate: a line each.

use super::memory::Model;
use super::{chronotrack, cloudbox, impinj, ipico, jchip, lines, llrp, mylaps, one4all, p3, raceresult, timy, ultra};

/// Which decoder is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connects to the box, stores by location, gives it from any number on.
    ChronoTrack,
    /// Streams JSON objects to every client.
    CloudBox,
    /// Streams JSON objects.
    Impinj,
    /// Streams, stores nothing.
    Ipico,
    /// Connects to the box and streams.
    JChip,
    /// Streams lines of its own form.
    Lines,
    /// Serves one client, and streams what that one told it to.
    Llrp,
    /// Connects to the box and repeats until acknowledged.
    Mylaps,
    /// Stores in session files, pushes to its last connection.
    One4All,
    /// Stores under running numbers, streams binary frames to every peer.
    P3,
    /// Stores in numbered files, pushes to whoever asked for it.
    RaceResult,
    /// Prints impulses on a serial line.
    Timy,
    /// Stores in a log, streams to every peer.
    Ultra,
}

impl Kind {
    /// Every simulated decoder, in alphabetical order of the protocols.
    pub const ALL: &[Self] = &[
        Self::ChronoTrack,
        Self::CloudBox,
        Self::Impinj,
        Self::Ipico,
        Self::JChip,
        Self::Lines,
        Self::Llrp,
        Self::Mylaps,
        Self::One4All,
        Self::P3,
        Self::RaceResult,
        Self::Timy,
        Self::Ultra,
    ];

    pub(super) fn model(self) -> &'static dyn Model {
        match self {
            Self::ChronoTrack => &chronotrack::ChronoTrack,
            Self::CloudBox => &cloudbox::CloudBox,
            Self::Impinj => &impinj::Impinj,
            Self::Ipico => &ipico::Ipico,
            Self::JChip => &jchip::JChip,
            Self::Lines => &lines::FreeLines,
            Self::Llrp => &llrp::Llrp,
            Self::Mylaps => &mylaps::Mylaps,
            Self::One4All => &one4all::One4All,
            Self::P3 => &p3::P3,
            Self::RaceResult => &raceresult::RaceResult,
            Self::Timy => &timy::Timy,
            Self::Ultra => &ultra::Ultra,
        }
    }

    /// By the protocol's name in the registry.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The protocol's name in the registry.
    pub fn name(self) -> &'static str {
        self.model().name()
    }

    /// The decoder connects to the box; else it waits to be connected to.
    pub fn connects(self) -> bool {
        self.model().connects()
    }

    /// The options under which our protocol reads it, where it does not without.
    pub fn settings(self) -> crate::decoders::Settings {
        self.model().settings()
    }

    /// A recording of this protocol in the rows that [`Source::Recording`](super::Source::Recording) takes, without their ends.
    pub fn rows(self, recording: &[u8]) -> Vec<Vec<u8>> {
        self.model().rows(recording)
    }
}
