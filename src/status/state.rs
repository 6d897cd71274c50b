//! The states of the box.

use serde::{Deserialize, Serialize};

/// What the box is doing. The worst state is first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxState {
    /// Reads are not safe on the disk.
    CannotKeep,
    /// A decoder does not deliver.
    NotReading,
    /// Times are wrong, or may be.
    TimeWrong,
    /// A person has stopped the upload.
    Hold,
    /// All reads are safe, and the cloud does not get them.
    NotUploading,
    /// Everything is in order, and there is nothing to read.
    #[default]
    Ready,
    /// Chips are being read.
    Reading,
}

impl BoxState {
    /// All states, the worst first.
    pub const ALL: [Self; 7] = [
        Self::CannotKeep,
        Self::NotReading,
        Self::TimeWrong,
        Self::Hold,
        Self::NotUploading,
        Self::Ready,
        Self::Reading,
    ];

    /// The stable word, which is in the JSON and is the label of the metric.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CannotKeep => "cannot-keep",
            Self::NotReading => "not-reading",
            Self::TimeWrong => "time-wrong",
            Self::Hold => "hold",
            Self::NotUploading => "not-uploading",
            Self::Ready => "ready",
            Self::Reading => "reading",
        }
    }

    /// The word for people, with which the status begins.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::CannotKeep => "CANNOT KEEP",
            Self::NotReading => "NOT READING",
            Self::TimeWrong => "TIME WRONG",
            Self::Hold => "ON HOLD",
            Self::NotUploading => "NOT UPLOADING",
            Self::Ready => "READY",
            Self::Reading => "READING",
        }
    }

    /// The exit code of `passbridge status`. A higher code is worse, and all are below the codes of
    /// sysexits(3).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Reading | Self::Ready => 0,
            Self::NotUploading => 10,
            Self::Hold => 11,
            Self::TimeWrong => 12,
            Self::NotReading => 13,
            Self::CannotKeep => 14,
        }
    }
}
