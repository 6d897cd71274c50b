//! What a decoder's protocol is to all other code: the trait, and the values that it puts out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::model::chip::{ChipRead, Label, Marker, Stamp, StoredRanges};

/// The most bytes of memory that a protocol value holds between two calls, whatever was sent.
/// The [`StoredRanges`] that it received are not counted: they have a limit of their own, and take
/// at most 2 MB.
pub const MEMORY_MAX: usize = 1024 * 1024;

/// The number of bytes that the link reads, and feeds to the protocol, at a time.
pub const READ_MAX: usize = 16 * 1024;

/// The most bytes of memory that the output of one read needs beyond [`MEMORY_MAX`], until the link
/// takes the frames. It is far more than [`READ_MAX`] because a frame may be a single byte.
pub const OUTPUT_MAX: usize = 16 * 1024 * 1024;

/// One unit of the protocol as received, decoded or rejected, with its raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The decoded unit.
    pub frame: Frame,
    /// The bytes it was decoded from, without line end or frame terminator.
    pub raw: Box<[u8]>,
}

/// What a unit of the protocol says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A chip was detected. The journal keeps it.
    Read(ChipRead),
    /// A record that is no chip read. The journal keeps it.
    Marker(Marker),
    /// Bytes that are no valid frame. The journal keeps them, and limits how many.
    Rejected(Reject),
    /// The decoder counts the reads of a file from the start again. The journal keeps this. The
    /// stored ranges of the file no longer describe its content, so a later rewind asks for all of
    /// the file.
    Cleared(Cleared),
    /// Protocol chatter: a life sign, or a reply to a question. It is not kept.
    Info(Info),
}

/// A file that its decoder cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The id of the box or decoder, where a link can carry several.
    pub unit: Option<Box<str>>,
    /// The file, as positions name it.
    pub file: Option<Label>,
    /// What happened, for people.
    pub text: Box<str>,
}

/// Why bytes are no valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// This protocol sends nothing that looks like it (often: wrong protocol or wrong baud rate).
    NotMine,
    /// The frame has a length that is not legal, or it was cut short.
    Length,
    /// The checksum does not match the bytes.
    Checksum,
    /// The frame has too few or too many fields.
    FieldCount,
    /// The named field has a value that it cannot have.
    Field(&'static str),
    /// The frame is longer than the protocol's limit, so the protocol gave up the buffer.
    TooLong,
    /// The connection ended in the middle of a frame.
    Unfinished,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMine => f.write_str("not_mine"),
            Self::Length => f.write_str("length"),
            Self::Checksum => f.write_str("checksum"),
            Self::FieldCount => f.write_str("field_count"),
            Self::Field(name) => write!(f, "field:{name}"),
            Self::TooLong => f.write_str("too_long"),
            Self::Unfinished => f.write_str("unfinished"),
        }
    }
}

/// What protocol chatter reports to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// The decoder is alive, and reports nothing else.
    Alive,
    /// The decoder's clock now. The link measures how far it is from the box's clock.
    Clock(Stamp),
    /// The decoder's clock as it greets a new connection. The link uses it as
    /// [`Info::Clock`], and also to find the time of reads whose
    /// [`Age`](crate::model::chip::Age) is counted from this greeting.
    Greeting(Stamp),
    /// A condition of the decoder that a timer should see, or its end.
    Condition {
        /// Which condition.
        code: Condition,
        /// The text for the timer. `None` ends the condition.
        text: Option<String>,
    },
    /// The decoder began something new, such as another file. The text says what, for people.
    Restarted(String),
}

/// One thing that a protocol puts out. The order is the order of arrival.
#[allow(clippy::large_enum_variant, reason = "nearly all are frames; a box each would cost more than it saves")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Framed),
    /// Bytes for the wire. The link writes them when every frame before them is durable.
    Reply(Vec<u8>),
    /// The connection is of no more use, for this reason: the link ends it and makes a new one.
    /// Protocols whose only framing is a length use this when a length is wrong. Others use it when
    /// a decoder refuses us.
    HangUp(&'static str),
}

/// A part of a decoder's memory that a person asks to read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The id of the box or decoder, where a link can carry several. `None` is the only or current
    /// one.
    pub unit: Option<Box<str>>,
    /// File or session. `None` is the current one.
    pub file: Option<Label>,
    /// First number.
    pub from: u64,
    /// Last number.
    pub to: u64,
}

impl Range {
    /// The most numbers of one question. More is a typing mistake. A whole file is
    /// [`Range::WHOLE`].
    pub const MOST: u64 = 1_000_000;
    /// The first and last number that stand for a whole file.
    pub const WHOLE: (u64, u64) = (1, u64::MAX);

    /// Whether the range is a whole file, whatever the length of the file.
    pub fn is_whole(&self) -> bool {
        (self.from, self.to) == Self::WHOLE
    }

    /// Whether a person may ask for this range.
    ///
    /// # Errors
    /// Returns the reason why not, for people.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.from, self.to) {
            _ if self.is_whole() && self.file.is_some() => Ok(()),
            (0, _) => Err("the first read has number 1"),
            (from, to) if to < from => Err("the last number is below the first"),
            (from, to) if to - from >= Self::MOST => Err("that are more than a million reads: ask for less at once"),
            _ => Ok(()),
        }
    }
}

/// What a protocol puts out. The caller empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// Frames, replies and hang-ups in order.
    pub items: Vec<Item>,
}

impl Output {
    /// Adds a frame with its raw bytes.
    pub fn frame(&mut self, frame: Frame, raw: &[u8]) {
        self.items.push(Item::Frame(Framed { frame, raw: raw.into() }));
    }

    /// Asks the link to end the connection.
    pub fn hang_up(&mut self, why: &'static str) {
        self.items.push(Item::HangUp(why));
    }

    /// Adds bytes for the wire.
    pub fn reply(&mut self, bytes: impl Into<Vec<u8>>) {
        self.items.push(Item::Reply(bytes.into()));
    }
}

/// The protocol of one decoder on one link. The link makes a new value for every connection.
pub trait Protocol: Send {
    /// The connection is made. `held` has the stored ranges, for a rewind.
    /// If `rewind` is false, the protocol asks for no read that the decoder has stored.
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        let _ = (held, rewind, out);
    }

    /// Takes bytes that arrived. They may be cut anywhere.
    fn feed(&mut self, bytes: &[u8], out: &mut Output);

    /// Called about once a second with the age of the link, for keepalives and questions.
    fn tick(&mut self, up: Duration, out: &mut Output) {
        let _ = (up, out);
    }

    /// A person wants these reads again, whether the journal has them or not. The answer arrives as
    /// frames. The journal recognises the duplicates.
    ///
    /// # Errors
    /// Returns the reason why the protocol cannot ask for them, for people.
    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        let _ = (range, out);
        Err("this decoder stores nothing that can be asked for")
    }

    /// The box ends the link. The protocol puts out what must be sent before that (for example to
    /// a reader that must be left as it was found).
    fn leaving(&mut self, out: &mut Output) {
        let _ = out;
    }

    /// The input ended. The bytes left in the buffer become a frame if they are whole. Otherwise
    /// they become a rejected frame ([`Reject::Unfinished`]).
    fn end(&mut self, out: &mut Output);
}

/// Protocol options from `[decoder.set]` or `--set key=value`.
pub type Settings = BTreeMap<String, String>;

/// Options and their values, as descriptors and trials list them.
pub(super) type Options = &'static [(&'static str, &'static str)];

/// An option that a protocol does not know, or a value it cannot take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("protocol {protocol}: option `{key}` = `{value}`: {allowed}")]
pub struct SettingError {
    /// Protocol name.
    pub protocol: &'static str,
    /// The option.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What would be allowed.
    pub allowed: String,
}
