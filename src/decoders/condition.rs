//! The conditions that a decoder can report: the closed list of what a protocol may say of its box
//! beside reads.
//!
//! Each one becomes a problem of its decoder on the status. The status room gives it its severity
//! and its hint, because a protocol knows only what the decoder said.

use std::fmt;

/// Something that a decoder reports of itself, or that its protocol found out, and that a timer
/// should see until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// The decoder reports that a part of it has failed.
    DecoderError,
    /// The decoder is connected, and it is not reading chips.
    DecoderNotReading,
    /// The decoder answered a command with an error.
    DecoderRefuses,
    /// The decoder no longer answers a question that it used to answer.
    DecoderSilent,
    /// Files lie between the file that was read last and the current one.
    FilesInBetween,
    /// An antenna is not connected to the reader.
    LlrpAntenna,
    /// The reader has no inventory that is enabled, so that it reads nothing.
    LlrpNoInventory,
    /// The reader reports tags without a time.
    LlrpNoTime,
    /// The memory of the reader was full, and it lost reads.
    LlrpReadsLost,
    /// Another program tries to connect to the reader.
    LlrpRival,
    /// The reader refuses the inventory that we start.
    LlrpStartRefused,
    /// The battery or the supply of the decoder is low.
    LowBattery,
    /// The decoder is not in timing mode, so that it stores no passings.
    NotTiming,
    /// The end of the file before the current one was not fetched.
    OldFileNotFetched,
    /// The decoder did not give all reads of a file before the current one.
    OldReadsMissing,
    /// The decoder did not give all passings that it was asked for.
    PassingsNotGiven,
    /// The decoder counts passings and does not send them by itself.
    PassingsNotPushed,
    /// The decoder speaks a version of its protocol that has no passings.
    ProtocolTooOld,
    /// The decoder did not give all reads of the current file.
    ReadsMissing,
    /// A record may be a time of day or a duration, so that it became no read.
    RecordUnclear,
    /// A record could not be read, and it was acknowledged all the same.
    RecordUnread,
    /// One connection has more locations than the box cares for.
    TooManyLocations,
    /// A location that names no reader gives two records under one number.
    TwoSourcesOneLocation,
}

impl Condition {
    /// The stable word for it, in the JSON of `decode` and in the problems.
    pub const fn word(self) -> &'static str {
        match self {
            Self::DecoderError => "decoder_error",
            Self::DecoderNotReading => "decoder_not_reading",
            Self::DecoderRefuses => "decoder_refuses",
            Self::DecoderSilent => "decoder_silent",
            Self::FilesInBetween => "files_in_between",
            Self::LlrpAntenna => "llrp_antenna",
            Self::LlrpNoInventory => "llrp_no_inventory",
            Self::LlrpNoTime => "llrp_no_time",
            Self::LlrpReadsLost => "llrp_reads_lost",
            Self::LlrpRival => "llrp_rival",
            Self::LlrpStartRefused => "llrp_start_refused",
            Self::LowBattery => "low_battery",
            Self::NotTiming => "not_timing",
            Self::OldFileNotFetched => "old_file_not_fetched",
            Self::OldReadsMissing => "old_reads_missing",
            Self::PassingsNotGiven => "passings_not_given",
            Self::PassingsNotPushed => "passings_not_pushed",
            Self::ProtocolTooOld => "protocol_too_old",
            Self::ReadsMissing => "reads_missing",
            Self::RecordUnclear => "decoder_record_unclear",
            Self::RecordUnread => "decoder_record_unread",
            Self::TooManyLocations => "too_many_locations",
            Self::TwoSourcesOneLocation => "two_sources_one_location",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
