//! What a decoder's protocol is to everybody else: the trait, and what it gives out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::model::chip::{ChipRead, Label, Marker, Stamp, StoredRanges};

/// Most bytes of memory that a protocol value holds between two calls, whatever was sent, beside the [`StoredRanges`] that it was
/// told (which has a limit of its own, and takes 2 MB at most).
pub const MEMORY_MAX: usize = 1024 * 1024;

/// Bytes that the link reads, and feeds, at a time.
pub const READ_MAX: usize = 16 * 1024;

/// Most bytes of memory that one read needs beyond that until its frames are taken: a frame may be a single byte.
pub const OUTPUT_MAX: usize = 16 * 1024 * 1024;

/// One protocol unit as received, decoded or rejected, with its raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// What it is.
    pub frame: Frame,
    /// The bytes it was decoded from, without line end or frame terminator.
    pub raw: Box<[u8]>,
}

/// What a protocol unit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A chip was detected. Kept in the journal.
    Read(ChipRead),
    /// A record that is no chip read. Kept in the journal.
    Marker(Marker),
    /// Bytes that are no valid frame. Kept in the journal, rate capped.
    Rejected(Reject),
    /// The decoder counts a file from the start again. Kept in the journal: what was held of the file is not its
    /// content any more, so a later rewind asks for all of it.
    Cleared(Cleared),
    /// Protocol chatter: a life sign, a reply to a question. Not kept.
    Info(Info),
}

/// A file that its decoder cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// Box or decoder id, where a link can carry several.
    pub unit: Option<Box<str>>,
    /// The file, as positions name it.
    pub file: Option<Label>,
    /// What happened, for people.
    pub text: Box<str>,
}

/// Why bytes are no valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// Nothing this protocol sends looks like it (often: wrong protocol or wrong baud rate).
    NotMine,
    /// The frame's length is none of the legal ones, or it is cut short.
    Length,
    /// The checksum does not agree.
    Checksum,
    /// Too few or too many fields.
    FieldCount,
    /// The named field holds something it cannot hold.
    Field(&'static str),
    /// Longer than the protocol's limit; the buffer was given up.
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

/// What protocol chatter tells the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// The decoder is alive; nothing else to say.
    Alive,
    /// The decoder's clock, now. The link measures its offset to the box's clock.
    Clock(Stamp),
    /// The decoder's clock as it greets a new connection. Beside what
    /// [`Info::Clock`] tells, it places the reads whose [`Age`](crate::model::chip::Age) is told
    /// from it.
    Greeting(Stamp),
    /// A condition of the decoder that a timer should see or, with `None`, its end.
    Condition {
        /// Which condition.
        code: Condition,
        /// What to tell the timer; `None` clears it.
        text: Option<String>,
    },
    /// The decoder began something new (another file): what, for people.
    Restarted(String),
}

/// One thing a protocol puts out. The order is the order of arrival.
#[allow(clippy::large_enum_variant, reason = "nearly all are frames; a box each would cost more than it saves")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Framed),
    /// Bytes for the wire, to be written once every frame before it is durable.
    Reply(Vec<u8>),
    /// The connection is of no more use, for this reason: end it and make a new one. For protocols whose only framing is
    /// a length, when one is wrong, and for a decoder that refuses us.
    HangUp(&'static str),
}

/// Places of a decoder's memory that somebody wants to be asked for again by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Box or decoder id, where a link can carry several; `None`: the only or current one.
    pub unit: Option<Box<str>>,
    /// File or session; `None`: the current one.
    pub file: Option<Label>,
    /// First number.
    pub from: u64,
    /// Last number.
    pub to: u64,
}

impl Range {
    /// Most numbers of one question; more is a mistake of the keyboard. The whole of a file is [`Range::WHOLE`].
    pub const MOST: u64 = 1_000_000;
    /// First and last number that stand for all of a file.
    pub const WHOLE: (u64, u64) = (1, u64::MAX);

    /// Whether it is a whole file, whatever its length.
    pub fn is_whole(&self) -> bool {
        (self.from, self.to) == Self::WHOLE
    }

    /// Whether it is one that may be asked for.
    ///
    /// # Errors
    /// Why not, for people.
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

/// What a protocol puts out; the caller empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// Frames and replies in order.
    pub items: Vec<Item>,
}

impl Output {
    /// Adds a frame with its raw bytes.
    pub fn frame(&mut self, frame: Frame, raw: &[u8]) {
        self.items.push(Item::Frame(Framed { frame, raw: raw.into() }));
    }

    /// Asks for the end of the connection.
    pub fn hang_up(&mut self, why: &'static str) {
        self.items.push(Item::HangUp(why));
    }

    /// Adds bytes for the wire.
    pub fn reply(&mut self, bytes: impl Into<Vec<u8>>) {
        self.items.push(Item::Reply(bytes.into()));
    }
}

/// One decoder's protocol on one link. A new value is made for every connection.
pub trait Protocol: Send {
    /// The link is up. `held` says which places of the decoder's memory the journal holds, for a rewind.
    /// With `rewind` false the protocol asks for nothing that is stored.
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        let _ = (held, rewind, out);
    }

    /// Bytes arrived, cut anywhere.
    fn feed(&mut self, bytes: &[u8], out: &mut Output);

    /// Called about once a second with the age of the link: for keepalives and questions.
    fn tick(&mut self, up: Duration, out: &mut Output) {
        let _ = (up, out);
    }

    /// Somebody wants these reads again, held or not; the answer comes as frames. The journal knows the repeats.
    ///
    /// # Errors
    /// Why it cannot be asked for, for people.
    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        let _ = (range, out);
        Err("this decoder stores nothing that can be asked for")
    }

    /// We end the link; what is to be said before that (a reader that has to be left as it was found).
    fn leaving(&mut self, out: &mut Output) {
        let _ = out;
    }

    /// The input ended. What is left in the buffer becomes a frame if it is whole, else a rejected one
    /// ([`Reject::Unfinished`]).
    fn end(&mut self, out: &mut Output);
}

/// Protocol options from `[decoder.set]` or `--set key=value`.
pub type Settings = BTreeMap<String, String>;

/// Options and their values, as descriptors and trials write them down.
pub type Options = &'static [(&'static str, &'static str)];

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
    /// What would be right.
    pub allowed: String,
}
