//! What a lamp of the box is: its name, its mark and its words. `super::lamps` decides what it shows.

use serde::{Deserialize, Serialize};

/// What a lamp shows. Each mark has its own shape and its own word, so that the colour is never the
/// only sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is known to be in order.
    Yes,
    /// It is not known yet, or something is on its way.
    #[default]
    Wait,
    /// It is wrong.
    No,
    /// It works, and a person should look at it.
    Warn,
    /// A person has stopped it.
    Held,
}

impl Mark {
    /// The stable word, as in the JSON. The page names its shapes and classes after it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Wait => "wait",
            Self::No => "no",
            Self::Warn => "warn",
            Self::Held => "held",
        }
    }

    /// The word of the mark, for screen readers and terminals.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Yes => "in order",
            Self::Wait => "waiting or not known",
            Self::No => "wrong",
            Self::Warn => "look at it",
            Self::Held => "held",
        }
    }

    /// The shape of the mark as one character.
    pub const fn sign(self) -> char {
        match self {
            Self::Yes => '✓',
            Self::Wait => '○',
            Self::No => '✕',
            Self::Warn => '△',
            Self::Held => '‖',
        }
    }
}

/// Which lamp it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LampName {
    /// Whether the decoders deliver reads.
    Mats,
    /// Whether the times are right.
    Time,
    /// Whether every read is safe on the disk.
    Kept,
    /// Whether the cloud has every read.
    Cloud,
}

impl LampName {
    /// The word beside the lamp.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Mats => "Mats",
            Self::Time => "Time",
            Self::Kept => "Kept",
            Self::Cloud => "Cloud",
        }
    }
}

/// One lamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lamp {
    /// Which one.
    pub name: LampName,
    /// What it shows.
    pub mark: Mark,
    /// Why, in a few words, without a full stop. It may contain a name from the configuration, which
    /// is made harmless.
    pub says: String,
}
