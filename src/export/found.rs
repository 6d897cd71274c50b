//! What a search finds: a read with all that a timer asks of it. It is the answer of
//! [`super::search`] and of `reads`, on the control socket and over HTTP, and so in JSON.

pub(crate) mod words;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{Refusal, UploadMark, WhySuppressed};
use crate::model::chip::Label;

/// Most reads of an answer.
pub(crate) const LIMIT_MAX: usize = 1000;
/// Most reads of an answer if nobody says it.
pub(crate) const LIMIT_USUAL: usize = 100;

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    /// Every chip.
    #[default]
    Any,
    /// A chip, by its code as the decoder sent it or as it is uploaded. Upper and lower case are
    /// equal.
    Chip(Box<str>),
    /// The chips that have this bib in the bib file now.
    Bib(Box<str>),
    /// Both: reads of the chip of this code, and of the chips with this bib.
    ChipOrBib(Box<str>),
}

/// Which reads are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchQuery {
    /// The chip or the bib.
    #[serde(default)]
    pub what: Sought,
    /// Only this decoder with all its sources, or only this source.
    #[serde(default)]
    pub decoder: Option<Box<str>>,
    /// Only reads with this time (as it would be uploaded) or a later one.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Only reads with an earlier time.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// Most reads of the answer, the ones kept last. At most [`LIMIT_MAX`].
    pub limit: usize,
}

impl Default for SearchQuery {
    fn default() -> Self {
        Self { what: Sought::Any, decoder: None, from: None, to: None, limit: LIMIT_USUAL }
    }
}

/// The reads that were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// What was looked for is the code of a chip of these reads, or it is nothing that the bib file
    /// has.
    pub is_chip: bool,
    /// The chips that have it as their bib in the bib file, at most [`CHIPS_TOLD`] of them.
    pub chips_of_bib: Vec<Box<str>>,
    /// The reads, the one kept last first.
    pub reads: Vec<FoundRead>,
    /// There are further reads, kept before these.
    pub more: bool,
    /// The last entry that was looked at.
    pub through: u64,
}

/// Most chips of a bib that an answer names.
pub(crate) const CHIPS_TOLD: usize = 16;

/// A read, and what became of it. Chip, bib, answers and labels are text from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRead {
    /// Its entry in the journal.
    pub seq: u64,
    /// The decoder or source.
    pub decoder: Box<str>,
    /// The chip as the decoder sent it.
    pub chip: Box<str>,
    /// The chip as it is uploaded, by the present configuration.
    pub chip_code: Box<str>,
    /// Its bib in the present bib file.
    pub bib: Option<Box<str>>,
    /// Its time in UTC, as it was uploaded or would be uploaded now, with all corrections. `None`: it
    /// has no date, and the box did not know the time when it received it.
    #[serde(serialize_with = "milliseconds_of")]
    pub time: Option<Timestamp>,
    /// How much of that is a correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_ms: Option<i64>,
    /// The decoder's stamp as it was sent.
    pub decoder_time: Box<str>,
    /// When the box received it, by its clock at that moment.
    #[serde(serialize_with = "milliseconds")]
    pub received: Timestamp,
    /// The antenna.
    pub antenna: Option<Label>,
    /// Signal strength as the decoder sent it.
    pub rssi: Option<i32>,
    /// How often the decoder saw the chip.
    pub hits: Option<u32>,
    /// What became of it. `None`: it was kept a moment ago, and nobody looked yet.
    pub standing: Option<ReadStanding>,
}

/// How a read stands, as the log has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadStanding {
    /// Whether it is in the cloud.
    pub state: UploadMark,
    /// Why it is no passing of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<WhySuppressed>,
    /// The device for which it was numbered.
    pub device: Option<Box<str>>,
    /// The last characters of the token of the session in which it was numbered.
    pub token_tail: Option<Box<str>>,
    /// Its number there. A read that waits and has one may be in the cloud or not.
    pub num_passing: Option<u64>,
    /// The bib under which it was numbered.
    pub bib: Option<Box<str>>,
    /// The time under this number, if it was corrected since.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "milliseconds_of")]
    pub sent_time: Option<Timestamp>,
    /// What the cloud answered, if the passing is set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The passing that was sent before this one, with another time. The cloud may still have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ReplacedNumber>,
}

/// A passing in the cloud whose read was sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedNumber {
    /// The last characters of the token of its session.
    pub token_tail: Box<str>,
    /// Its number there.
    pub num_passing: u64,
}

fn milliseconds<S: Serializer>(instant: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{instant:.3}"))
}

fn milliseconds_of<S: Serializer>(instant: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => milliseconds(instant, to),
        None => to.serialize_none(),
    }
}
