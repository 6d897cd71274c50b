//! What a decoder sends: chip reads, markers, stamps and the decoder's own position in its memory.
//!
//! All of this is plain data, kept as the decoder sent it. [`crate::model::clock`] turns a decoder
//! stamp into UTC, as late as possible (invariant 7: the decoder's stamp is data).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use serde::{Deserialize, Serialize};

use super::digits;

/// Number of a record in the journal, from 1, in the order of arrival at this box. Numbers are
/// missing only if entries were lost, or if numbers were left out after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A short name that some decoders send as a number and others as text (antenna, reader, file).
/// Serialised as what it is: a JSON number or a JSON string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Label {
    /// The protocol defines the field as a number.
    Number(u64),
    /// The protocol defines the field as text, kept byte for byte.
    Text(Box<str>),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A decoder's time stamp as it was sent, to the millisecond.
///
/// Text form (`Display`/`FromStr`, used in the log and in exports): `2026-03-06T20:27:47.350`,
/// `20:27:47.350`, `0000-00-01T00:00:07.001` (clock without a date, second day),
/// `2026-03-06T20:27:47.350Z`, `up123456.789` (seconds since the decoder was switched on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// Wall time in the decoder's own zone, which is not on the wire.
    Local(DateTime),
    /// Time of day without a date. `day` counts the days since the clock was set, if the decoder
    /// says it.
    TimeOfDay {
        /// Wall time in the decoder's zone.
        time: Time,
        /// Days since the decoder's clock was set (0 = the first). `None` if the decoder does not
        /// say it.
        day: Option<u32>,
    },
    /// An instant: the protocol says UTC, or the stamp carried an offset.
    Utc(Timestamp),
    /// Milliseconds since the decoder was switched on. The decoder has no clock (a UHF reader whose
    /// time was never set). Such a reader may tell them as a UTC time of 1970 or 2000:
    /// then these are milliseconds since 1970, and only differences mean something.
    Uptime(u64),
}

/// The position of a read in the decoder's own memory. A rewind asks for positions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Box or decoder id as sent, if one link can carry several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// File or session of the decoder. The numbering starts again in each. If a location may have
    /// several readers that each count for themselves (ChronoTrack), this is the id of the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Label>,
    /// Passing number inside the file.
    pub number: u64,
}

/// Which moment of a crossing a read tells, where the decoder says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// When the chip came into the field.
    First,
    /// When the chip was seen for the last time.
    Last,
}

impl Sighting {
    /// Its word in the log and in exports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::First, Self::Last].into_iter().find(|seen| seen.word() == word)
    }
}

/// What the protocol itself knows to be doubtful in a read. (Doubts about times come from
/// [`crate::model::clock`].)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caution {
    /// The decoder tells only when the chip was seen last, which may be long after it came.
    OnlyLastSeen,
    /// The decoder had no valid start number for it: a later record may correct it.
    NoValidNumber,
}

impl Caution {
    /// Its word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OnlyLastSeen => "only_last_seen",
            Self::NoValidNumber => "no_valid_number",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::OnlyLastSeen, Self::NoValidNumber].into_iter().find(|caution| caution.word() == word)
    }
}

/// When a read was made, by the box's clock, where the stamp has no time of day: the decoder's
/// clock tells only differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// So many milliseconds after the clock reading with which the decoder greeted the connection.
    /// The link, which knows when that was received, turns it into the other.
    AfterGreeting(i64),
    /// So many milliseconds before its receipt.
    BeforeReceipt(i64),
}

impl Age {
    /// No read can be made later than this after it was received.
    const AHEAD_MS: i64 = 60 * 60 * 1000;
    /// No reader stores reads for longer than this and counts the time meanwhile.
    const OLDEST_MS: i64 = 31 * 24 * 60 * 60 * 1000;

    /// The age at the receipt, which was so many milliseconds after the receipt of the greeting. An
    /// age that cannot be comes from two readings of different clocks: then the read counts as made
    /// when it was received.
    #[must_use]
    pub fn at_receipt(self, since_greeting_ms: i64) -> Self {
        let age = match self {
            Self::BeforeReceipt(ms) => ms,
            Self::AfterGreeting(ms) => since_greeting_ms.saturating_sub(ms),
        };
        Self::BeforeReceipt(if (-Self::AHEAD_MS..=Self::OLDEST_MS).contains(&age) { age } else { 0 })
    }
}

/// One detection as the decoder reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChipRead {
    /// Chip code as sent (never empty).
    pub chip: Arc<str>, // so that what waits for the cloud has it without a copy
    /// The decoder's stamp.
    pub stamp: Stamp,
    /// Microseconds below the stamp's millisecond (0 to 999), where the protocol tells them. They
    /// keep apart what happened within one millisecond; the cloud takes no more than milliseconds.
    pub micros: Option<u16>,
    /// How long before its receipt it was made, where the stamp cannot tell.
    pub age: Option<Box<Age>>, // rare, so it is boxed to keep every other read small
    /// Whether it tells the first or the last moment of a crossing, where the decoder says so.
    pub seen: Option<Sighting>,
    /// What is doubtful in it, if anything.
    pub caution: Option<Caution>,
    /// Antenna, loop or channel that detected the chip.
    pub antenna: Option<Label>,
    /// Reader or device behind the decoder, as sent.
    pub reader: Option<Label>,
    /// Device in front of the reader, as sent, if the protocol sends both (MYLAPS).
    pub device: Option<Label>,
    /// How often the chip was seen in this detection.
    pub hits: Option<u32>,
    /// Signal strength in the decoder's own unit.
    pub rssi: Option<i32>,
    /// Position in the decoder's memory, if the decoder can be asked for the read again.
    pub position: Option<Position>,
    /// A running number on the wire that is *not* a position for which one can ask.
    pub seq: Option<u64>,
    /// Timing point (source name), if one link carries several.
    pub location: Option<Box<str>>,
    /// The decoder marked the read as stored earlier and sent late.
    pub replay: bool,
    /// The read comes from a memory that was cleared and may belong to another race. It is kept,
    /// and not uploaded until somebody releases it.
    pub held_back: bool,
    /// This is no new read but the release of a held back read, whose entry is the second number.
    /// From now on no read from the first number up to it is held back.
    pub let_go: Option<Box<(Seq, Seq)>>, // very rare, so it is boxed to keep every other read small
    /// Not set by the decoder: the read was received while the decoder, just connected, was sending
    /// its stored reads. Whether it is a passing is decided after those reads.
    pub amid_stored: bool,
}

impl ChipRead {
    /// A read with the two fields that every decoder sends.
    pub fn new(chip: impl Into<Arc<str>>, stamp: Stamp) -> Self {
        Self {
            chip: chip.into(),
            stamp,
            micros: None,
            age: None,
            seen: None,
            caution: None,
            antenna: None,
            reader: None,
            device: None,
            hits: None,
            rssi: None,
            position: None,
            seq: None,
            location: None,
            replay: false,
            held_back: false,
            let_go: None,
            amid_stored: false,
        }
    }

    /// Two frames with the same identity are one detection that was sent twice (retransmission, or
    /// a rewind that overlaps live data). The position in the decoder's memory *and* the content
    /// are part of the identity, so a decoder that was cleared and counts from 1 again does not
    /// hide new reads. Hits, RSSI and the replay flag are not part of it, because they may differ
    /// between the live and the stored form. Whether the read is held back is not part of it
    /// either. If the stamp has no date, the day is not in the identity: the journal adds it. Nor
    /// are the microseconds: see [`Self::identities`].
    ///
    /// 64-bit FNV-1a over the fields, each ended by a byte that cannot occur in UTF-8 text. The
    /// identity is stored, so it must stay the same for ever. The probability of a collision among
    /// four million reads is 2e-13 per read.
    pub fn identity(&self) -> u64 {
        let mut print = Print::new();
        print.field(self.chip.as_bytes());
        print.stamp(self.stamp);
        print.label(self.antenna.as_ref());
        print.label(self.reader.as_ref());
        print.label(self.device.as_ref());
        print.field(self.location.as_deref().unwrap_or("").as_bytes());
        if let Some(position) = &self.position {
            print.field(position.unit.as_deref().unwrap_or("").as_bytes());
            // A file that is the reader's own id (ChronoTrack) adds nothing to the reader above.
            // Earlier versions kept the same reads without the file, and those reads must be
            // recognised when the decoder sends them again.
            print.label(position.file.as_ref().filter(|file| self.reader.as_ref() != Some(*file)));
            print.number(position.number);
        }
        print.0
    }

    /// How it is known, with the microseconds.
    pub fn identities(&self) -> ReadIdentities {
        ReadIdentities::of(self.identity(), self.micros)
    }

    /// The moment by the box's clock that stands for its receipt where the stamp tells no time:
    /// earlier by its age.
    pub fn moment(&self, received: Timestamp) -> Timestamp {
        let Some(&Age::BeforeReceipt(ms)) = self.age.as_deref() else { return received };
        let moment = received.as_millisecond().checked_sub(ms).and_then(|ms| Timestamp::from_millisecond(ms).ok());
        moment.unwrap_or(received)
    }

    /// The content of the read, independent of where it is stored. See [`Content`].
    pub fn content(&self) -> Content {
        Content::of(&self.chip, &self.stamp)
    }
}

/// How a read is known: what it is kept under, and what one that came before may be kept under.
///
/// Microseconds count only where both reads have them: lines of older versions do not, and a
/// decoder may print its memory in milliseconds. So a read with microseconds is kept under two
/// names, one with them and one for "with some", and is known by the first one, or by the name that
/// reads without any are kept under, which is that of older versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIdentities {
    /// The names that it is kept under. The second is for those that have no microseconds.
    pub own: (u64, Option<u64>),
    /// It is a repeat if one before is kept under the first of `own`, or under this.
    pub other: u64,
}

impl ReadIdentities {
    /// Of a read that without its microseconds is known as `plain`.
    pub fn of(plain: u64, micros: Option<u16>) -> Self {
        let some = go_on(plain, b"us", &u64::MAX.to_le_bytes());
        match micros {
            Some(micros) => {
                Self { own: (go_on(plain, b"us", &u64::from(micros).to_le_bytes()), Some(some)), other: plain }
            }
            None => Self { own: (plain, None), other: some },
        }
    }

    /// The same names, each gone on with.
    #[must_use]
    pub fn map(self, change: impl Fn(u64) -> u64) -> Self {
        Self { own: (change(self.own.0), self.own.1.map(&change)), other: change(self.other) }
    }
}

/// FNV-1a goes on from a hash.
pub(crate) fn go_on(hash: u64, what: &[u8; 2], number: &[u8; 8]) -> u64 {
    let bytes = what.iter().chain(number);
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The content of a numbered record in a decoder's memory: a fingerprint of chip and stamp, not of
/// antenna or arrival. If the same number has another content, the memory is another one: the
/// decoder was cleared.
///
/// It has 48 bits, because each of the journal's checkpoints contains hundreds of them, and it must
/// stay the same for ever. The probability that two reads of one number have the same content by
/// chance is 4e-15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content(u64);

impl Content {
    /// The content of a chip read.
    pub fn of(chip: &str, stamp: &Stamp) -> Self {
        let mut print = Print::new();
        print.field(chip.as_bytes());
        print.stamp(*stamp);
        Self::short(print)
    }

    /// The content of a record that is no chip read and has a number among the reads. No chip read
    /// has the same content.
    pub fn of_marker(kind: &str, stamp: Option<&Stamp>) -> Self {
        let mut print = Print::new();
        print.field(kind.as_bytes());
        print.field(b"marker");
        if let Some(stamp) = stamp {
            print.stamp(*stamp);
        }
        Self::short(print)
    }

    fn short(print: Print) -> Self {
        Self((print.0 ^ print.0 >> Self::BITS) & ((1 << Self::BITS) - 1))
    }

    const BITS: u32 = 48;
    /// Number of characters in the text form. `ALPHABET` has the characters.
    const DIGITS: usize = 8;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    fn text(self) -> impl Iterator<Item = char> {
        let digits = (0..Self::BITS).step_by(6).rev().map(move |at| (self.0 >> at & 63) as usize);
        digits.map(|digit| char::from(Self::ALPHABET[digit]))
    }

    fn of_text(text: &[u8]) -> Option<Self> {
        let digit = |byte: &u8| Self::ALPHABET.iter().position(|known| known == byte);
        let whole = text.len() == Self::DIGITS;
        text.iter().try_fold(0, |value, byte| Some(value << 6 | digit(byte)? as u64)).filter(|_| whole).map(Self)
    }
}

/// FNV-1a over fields, each ended by a byte that cannot occur in UTF-8 text.
struct Print(u64);

impl Print {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const PRIME: u64 = 0x0000_0100_0000_01b3;

    fn field(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
        self.bytes(&[0xff]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    /// The field of these eight bytes, the lowest first. Most numbers end in zeros, and a zero only
    /// multiplies, so all of them are one step.
    fn number(&mut self, number: u64) {
        const POWERS: [u64; 9] = {
            let mut powers = [1; 9];
            let mut at = 1;
            while at < 9 {
                powers[at] = Print::PRIME.wrapping_mul(powers[at - 1]);
                at += 1;
            }
            powers
        };
        let zeros = number.leading_zeros() as usize / 8;
        self.bytes(&number.to_le_bytes()[..8 - zeros]);
        self.0 = self.0.wrapping_mul(POWERS[zeros]);
        self.bytes(&[0xff]);
    }

    fn label(&mut self, label: Option<&Label>) {
        match label {
            None => self.field(b""),
            Some(Label::Number(number)) => self.number(*number),
            Some(Label::Text(text)) => self.field(text.as_bytes()),
        }
    }

    fn stamp(&mut self, stamp: Stamp) {
        match stamp {
            Stamp::Local(local) => {
                self.number(day_number(local).cast_unsigned());
                self.number(time_millis(local.time()).cast_unsigned());
            }
            Stamp::TimeOfDay { time, day } => {
                self.number(day.map_or(-1, i64::from).cast_unsigned());
                self.number(time_millis(time).cast_unsigned());
            }
            Stamp::Utc(instant) => self.number(instant.as_millisecond().cast_unsigned()),
            Stamp::Uptime(ms) => {
                self.field(b"up");
                self.number(ms);
            }
        }
    }
}

fn day_number(local: DateTime) -> i64 {
    i64::from(local.year()) * 400 + i64::from(local.day_of_year())
}

fn time_millis(time: Time) -> i64 {
    ((i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second())) * 1000
        + i64::from(time.millisecond())
}

/// A record that is no chip read: gun, trigger, new location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The kind of the record, in the protocol's own word (`Gunshot`, `trigger`).
    pub kind: Box<str>,
    /// The name given to the marker, if any.
    pub name: Option<Box<str>>,
    /// The time of the marker, if the decoder sends it.
    pub stamp: Option<Stamp>,
    /// Reader or device behind the decoder.
    pub reader: Option<Label>,
    /// Timing point, if one link carries several.
    pub location: Option<Box<str>>,
    /// Position in the decoder's memory, if the decoder numbers such records among its reads. The
    /// position is then stored, and no gap.
    pub position: Option<Position>,
    /// The marker stands for all numbers up to this one: the decoder was asked for them and does
    /// not have them ([`Marker::ABSENT`]). Or, without a position, it stands for all entries up to
    /// this one ([`Marker::LET_GO`]).
    pub through: Option<u64>,
}

impl Marker {
    /// Kind of a marker that the box makes: the decoder skipped these numbers when it was asked for
    /// them.
    pub const ABSENT: &'static str = "absent";
    /// Kind of a marker that the box makes: somebody released the reads that were held back, up to
    /// the entry [`Marker::through`].
    pub const LET_GO: &'static str = "let_go";

    /// Kind of a marker that somebody puts by hand. Its name is the text.
    pub const BY_HAND: &'static str = "by_hand";

    /// The content of the marker, independent of where it is stored. See [`Content`]. `None`: the
    /// marker is not the decoder's.
    pub fn content(&self) -> Option<Content> {
        (![Self::ABSENT, Self::LET_GO].contains(&&*self.kind))
            .then(|| Content::of_marker(&self.kind, self.stamp.as_ref()))
    }
}

/// The positions of a decoder's memory that this box has stored: per unit and file a set of number
/// ranges, the contents of the newest numbers, and what is known about the memory's life
/// ([`Lives`]).
///
/// A number alone does not say what is stored: a decoder that was cleared counts from 1 again, and
/// may count beyond the stored numbers while nobody listens. So the *content* is compared
/// ([`StoredRanges::content`]).
///
/// Bounded: at most [`StoredRanges::FILES`] files and [`StoredRanges::RANGES`] ranges in each.
/// Beyond that the *oldest* knowledge is dropped. The box then asks the decoder for those reads
/// once more, and the identity recognises the duplicates. No read is lost. For each file, the
/// contents of the [`StoredRanges::CONTENTS`] highest numbers are kept. For all files together at
/// most [`StoredRanges::CONTENTS_ALL`] contents are kept. Beyond that, the files that were touched
/// longest ago keep only [`StoredRanges::CONTENTS_LEAST`] each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRanges {
    files: Vec<(Place, File)>,
    lives: Lives,
}

type Place = (Option<Box<str>>, Option<Label>);
type Ranges = BTreeMap<u64, u64>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct File {
    ranges: Ranges,
    /// The highest numbers whose content is known, with their contents, in the order of the
    /// numbers.
    contents: VecDeque<(u64, Content)>,
}

impl File {
    fn know(&mut self, number: u64, content: Content) {
        match self.contents.back() {
            Some(last) if last.0 >= number => match self.contents.binary_search_by_key(&number, |known| known.0) {
                Ok(at) => self.contents[at].1 = content,
                // Older than all numbers that are remembered.
                Err(0) if self.contents.len() >= StoredRanges::CONTENTS => return,
                Err(at) => self.contents.insert(at, (number, content)),
            },
            _ => self.contents.push_back((number, content)),
        }
        if self.contents.len() > StoredRanges::CONTENTS {
            self.contents.pop_front();
        }
    }
}

impl StoredRanges {
    /// Most files that are remembered per decoder. The one that was touched longest ago is dropped
    /// first.
    pub const FILES: usize = 64;
    /// Most separate ranges that are remembered per file. The lowest is dropped first.
    pub const RANGES: usize = 1024;
    /// Numbers per file whose content is remembered. A decoder that sends a read again, or sends
    /// some in another order, sends one of its newest. In a checkpoint the contents take 2 KB.
    pub const CONTENTS: usize = 256;
    /// The same bound for all files of a decoder together.
    pub const CONTENTS_ALL: usize = 2048;
    /// Contents that a file keeps in any case. One of them is asked for again at each connection,
    /// and the others are spares.
    pub const CONTENTS_LEAST: usize = 16;

    /// Records that `position` is stored. What is known about its content stays.
    pub fn insert(&mut self, position: &Position) {
        let at = self.index(position.unit.as_deref(), position.file.as_ref());
        let (mut entry, fresh) = match at {
            Some(at) if at + 1 == self.files.len() => (self.files.pop().expect("index is in range"), false),
            Some(at) => (self.files.remove(at), false),
            None => (((position.unit.clone(), position.file.clone()), File::default()), true),
        };
        insert_number(&mut entry.1.ranges, position.number);
        if entry.1.ranges.len() > Self::RANGES {
            entry.1.ranges.pop_first();
        }
        if fresh && self.files.len() == Self::FILES {
            self.files.remove(0);
        }
        self.files.push(entry); // the file that was touched last is the last one
    }

    /// Records that `position` is stored, and its content. If another content was known, it is
    /// replaced. Before that, the caller must check whether this means another memory.
    pub fn insert_read(&mut self, position: &Position, content: Content) {
        self.insert(position);
        self.know(position.number, content);
    }

    /// Records a content in the file that was touched last.
    fn know(&mut self, number: u64, content: Content) {
        let Some((_, file)) = self.files.last_mut() else { return };
        file.know(number, content);
        let mut all: usize = self.files.iter().map(|(_, file)| file.contents.len()).sum();
        for (_, file) in &mut self.files {
            if all <= Self::CONTENTS_ALL {
                break;
            }
            let spare = file.contents.len().saturating_sub(Self::CONTENTS_LEAST);
            file.contents.drain(..spare);
            all -= spare;
        }
    }

    /// The content of a number, if it is remembered.
    pub fn content(&self, unit: Option<&str>, file: Option<&Label>, number: u64) -> Option<Content> {
        let contents = &self.files[self.index(unit, file)?].1.contents;
        contents.binary_search_by_key(&number, |known| known.0).ok().map(|at| contents[at].1)
    }

    /// The highest number of a file whose content is remembered. The box asks for this number
    /// again, to compare the contents.
    pub fn highest_with_content(&self, unit: Option<&str>, file: Option<&Label>) -> Option<u64> {
        self.files[self.index(unit, file)?].1.contents.back().map(|known| known.0)
    }

    /// Whether the number is stored.
    pub fn has(&self, unit: Option<&str>, file: Option<&Label>, number: u64) -> bool {
        self.first_missing(unit, file, number, number).is_none()
    }

    /// Records that the numbers from the one of `position` to `last` are stored.
    pub fn insert_through(&mut self, position: &Position, last: u64) {
        self.insert(position);
        if let Some((_, file)) = self.files.last_mut() {
            insert_range(&mut file.ranges, position.number, last);
        }
    }

    /// Records that everything in `other` is stored. Its files then count as touched last.
    pub fn merge(&mut self, other: &Self) {
        for ((unit, file), held) in &other.files {
            for (&from, &to) in &held.ranges {
                // Inserting both ends makes the file and the range known, and the numbers between
                // them are added.
                self.insert_through(&Position { unit: unit.clone(), file: file.clone(), number: from }, to);
            }
            if !held.ranges.is_empty() {
                held.contents.iter().for_each(|(number, content)| self.know(*number, *content));
            }
        }
        self.lives.merge(&other.lives);
    }

    /// What is known about the lives of the memories.
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// The same, to record what was received. For the journal and the link, because protocols know
    /// no time.
    pub fn lives_mut(&mut self) -> &mut Lives {
        &mut self.lives
    }

    /// The ranges of `from..=to` that are not stored, the lowest first. The box asks the decoder
    /// for these.
    pub fn missing(&self, unit: Option<&str>, file: Option<&Label>, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.gaps(unit, file, from, to).collect()
    }

    /// The first range of [`Self::missing`]. It is computed at every read, and is what the box asks
    /// for next.
    pub fn first_missing(&self, unit: Option<&str>, file: Option<&Label>, from: u64, to: u64) -> Option<(u64, u64)> {
        self.gaps(unit, file, from, to).next()
    }

    fn gaps(&self, unit: Option<&str>, file: Option<&Label>, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut next = Some(from).filter(|from| *from <= to);
        let ranges = self.index(unit, file).filter(|_| next.is_some()).map(|at| &self.files[at].1.ranges);
        let mut held = ranges.into_iter().flat_map(move |ranges| {
            // Starts at the range that may contain `from`, because this runs at every read, and
            // there may be a thousand ranges below.
            let begin = ranges.range(..=from).next_back().map_or(from, |(&start, _)| start);
            ranges.range(begin..=to)
        });
        std::iter::from_fn(move || {
            loop {
                let first = next?;
                let Some((&start, &end)) = held.next() else {
                    next = None;
                    return Some((first, to));
                };
                if end < first {
                    continue;
                }
                next = end.checked_add(1).filter(|next| *next <= to);
                if start > first {
                    return Some((first, start - 1));
                }
            }
        })
    }

    /// The highest stored number of a file. `None` if no number of the file is stored.
    pub fn highest(&self, unit: Option<&str>, file: Option<&Label>) -> Option<u64> {
        let at = self.index(unit, file)?;
        self.files[at].1.ranges.last_key_value().map(|(_, &end)| end)
    }

    /// Forgets a file, because the decoder was cleared and counts from the start again.
    /// [`StoredRanges::lives`] still knows that it was cleared and when its last read was received:
    /// the whole new memory is wanted, also at a later connection.
    pub fn forget(&mut self, unit: Option<&str>, file: Option<&Label>) {
        if let Some(at) = self.index(unit, file) {
            self.files.remove(at);
        }
        self.lives.cleared(unit, file);
    }

    /// Unit and file that were touched last, if any. This file is finished first when the decoder
    /// is on another one now.
    pub fn latest(&self) -> Option<(Option<&str>, Option<&Label>)> {
        self.files.last().map(|((unit, file), _)| (unit.as_deref(), file.as_ref()))
    }

    /// Every file with its ranges, the file that was touched last at the end (for the journal's
    /// checkpoint).
    pub fn files(&self) -> impl Iterator<Item = (Option<&str>, Option<&Label>, Vec<(u64, u64)>)> {
        self.files.iter().map(|((unit, file), held)| {
            (unit.as_deref(), file.as_ref(), held.ranges.iter().map(|(&a, &b)| (a, b)).collect())
        })
    }

    fn index(&self, unit: Option<&str>, file: Option<&Label>) -> Option<usize> {
        // Searched from the end, because the file in use is the one that was touched last.
        self.files.iter().rposition(|((u, f), _)| u.as_deref() == unit && f.as_ref() == file)
    }
}

/// Adds the range `from..=to`. `from` must be stored already.
fn insert_range(ranges: &mut Ranges, from: u64, to: u64) {
    let Some((&start, &end)) = ranges.range(..=from).next_back() else { return };
    let mut end = end.max(to);
    while let Some((&next, &last)) = ranges.range(start.saturating_add(1)..=end.saturating_add(1)).next() {
        ranges.remove(&next);
        end = end.max(last);
    }
    ranges.insert(start, end);
}

fn insert_number(ranges: &mut Ranges, number: u64) {
    let below = ranges.range(..=number).next_back().map(|(&start, &end)| (start, end));
    if let Some((_, end)) = below
        && number <= end
    {
        return;
    }
    let mut start = number;
    let mut end = number;
    if let Some((below_start, below_end)) = below
        && below_end + 1 == number
    {
        start = below_start;
    }
    if let Some(above_end) = number.checked_add(1).and_then(|next| ranges.remove(&next)) {
        end = above_end;
    }
    ranges.insert(start, end);
}

/// What is known about the lives of a decoder's memories: when a read of each was received, and
/// whether it was cleared. Every read in a memory that was cleared is newer than the last read that
/// was received from the memory before.
///
/// Bounded: [`StoredRanges::FILES`] memories. The one that became known first is dropped first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(Vec<(Place, Life)>);

/// What is known about one memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The last read that was received from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// Number of the first live read from it. Reads with a higher number are newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_live: Option<u64>,
    /// The memory began with a clearing that the box noticed, so all of its reads are wanted, from
    /// its first number on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared: bool,
    /// The last read that was received from the memory before the clearing, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Last>,
}

/// A read that shows until when a memory existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The time by the decoder's clock as it was then.
    #[serde(with = "as_text")]
    pub stamp: Stamp,
    /// The receive time by the box's clock.
    pub received: Timestamp,
}

impl Lives {
    /// Records that a read of a memory was received. `live`: the decoder had not stored it.
    pub fn read(&mut self, position: &Position, stamp: Stamp, received: Timestamp, live: bool) {
        // In whole milliseconds, as in the log, because the result must be the same after a
        // restart.
        let received = Timestamp::from_millisecond(received.as_millisecond()).unwrap_or(received);
        let life = self.of_mut(position.unit.as_deref(), position.file.as_ref());
        if live && life.first_live.is_none() {
            life.first_live = Some(position.number);
        }
        match &mut life.last {
            // A stored read may be old. It only shows that the memory still existed.
            Some(last) if !live && life.first_live.is_some() => last.received = last.received.max(received),
            last => *last = Some(Last { stamp, received }),
        }
    }

    /// Records that a memory was cleared.
    pub fn cleared(&mut self, unit: Option<&str>, file: Option<&Label>) {
        let life = self.of_mut(unit, file);
        // If the memory was cleared before any read of it was received, the last known read is
        // still that of the memory before it.
        let before = life.last.or(life.before);
        *life = Life { cleared: true, before, ..Life::default() };
    }

    /// What is known about a memory.
    pub fn of(&self, unit: Option<&str>, file: Option<&Label>) -> Option<&Life> {
        self.index(unit, file).map(|at| &self.0[at].1)
    }

    /// Whether the box noticed that the memory was cleared. Then all of its reads are wanted, from
    /// its first number on.
    pub fn was_cleared(&self, unit: Option<&str>, file: Option<&Label>) -> bool {
        self.of(unit, file).is_some_and(|life| life.cleared)
    }

    /// Every memory, in the order in which the memories became known.
    pub fn all(&self) -> impl Iterator<Item = (Option<&str>, Option<&Label>, &Life)> {
        self.0.iter().map(|((unit, file), life)| (unit.as_deref(), file.as_ref(), life))
    }

    /// Adds the memories of `other` about which nothing is known here.
    pub fn add_unknown(&mut self, other: &Self) {
        for ((unit, file), life) in &other.0 {
            if self.index(unit.as_deref(), file.as_ref()).is_none() {
                *self.of_mut(unit.as_deref(), file.as_ref()) = *life;
            }
        }
    }

    /// Adds what `other` knows.
    pub fn merge(&mut self, other: &Self) {
        for ((unit, file), theirs) in &other.0 {
            let ours = self.of_mut(unit.as_deref(), file.as_ref());
            ours.last = later(ours.last, theirs.last);
            ours.before = later(ours.before, theirs.before);
            ours.cleared |= theirs.cleared;
            ours.first_live = ours.first_live.into_iter().chain(theirs.first_live).min();
        }
    }

    fn of_mut(&mut self, unit: Option<&str>, file: Option<&Label>) -> &mut Life {
        let at = match self.index(unit, file) {
            Some(at) => at,
            None => {
                if self.0.len() == StoredRanges::FILES {
                    self.0.remove(0);
                }
                self.0.push(((unit.map(Into::into), file.cloned()), Life::default()));
                self.0.len() - 1
            }
        };
        &mut self.0[at].1
    }

    fn index(&self, unit: Option<&str>, file: Option<&Label>) -> Option<usize> {
        self.0.iter().rposition(|((u, f), _)| u.as_deref() == unit && f.as_ref() == file)
    }
}

fn later(one: Option<Last>, other: Option<Last>) -> Option<Last> {
    one.into_iter().chain(other).max_by_key(|last| last.received)
}

/// A stamp in its text form.
mod as_text {
    use super::{Deserialize, Stamp};

    pub(super) fn serialize<S: serde::Serializer>(stamp: &Stamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(stamp)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A file as it is in a checkpoint. A file without ranges only describes a life.
#[derive(Serialize, Deserialize)]
struct HeldFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<Label>,
    ranges: Vec<(u64, u64)>,
    /// Runs of consecutive numbers: the first number, and the contents of all, eight characters
    /// each. Missing in a checkpoint of an older version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    contents: Vec<(u64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<Life>,
}

impl Serialize for StoredRanges {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let files = self.files.iter().map(|((unit, file), held)| HeldFile {
            unit: unit.clone(),
            file: file.clone(),
            ranges: held.ranges.iter().map(|(&a, &b)| (a, b)).collect(),
            contents: runs(&held.contents),
            life: self.lives.of(unit.as_deref(), file.as_ref()).copied(),
        });
        let cleared =
            self.lives.0.iter().filter(|((unit, file), _)| self.index(unit.as_deref(), file.as_ref()).is_none());
        let cleared = cleared.map(|((unit, file), life)| HeldFile {
            unit: unit.clone(),
            file: file.clone(),
            ranges: Vec::new(),
            contents: Vec::new(),
            life: Some(*life),
        });
        serializer.collect_seq(cleared.chain(files))
    }
}

impl<'de> Deserialize<'de> for StoredRanges {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut held = Self::default();
        for entry in Vec::<HeldFile>::deserialize(deserializer)? {
            let place = (entry.unit, entry.file);
            if let Some(life) = entry.life {
                held.lives.0.push((place.clone(), life));
            }
            if !entry.ranges.is_empty() {
                let (ranges, contents) = (entry.ranges.into_iter().collect(), of_runs(&entry.contents));
                held.files.push((place, File { ranges, contents }));
            }
        }
        Ok(held)
    }
}

fn runs(contents: &VecDeque<(u64, Content)>) -> Vec<(u64, String)> {
    let mut runs: Vec<(u64, String)> = Vec::new();
    let mut next = None;
    for (number, content) in contents {
        if next != Some(*number) {
            runs.push((*number, String::new()));
        }
        if let Some((_, text)) = runs.last_mut() {
            text.extend(content.text());
        }
        next = number.checked_add(1);
    }
    runs
}

/// A text that is no content is left out: for a content that is not known, the box only asks the
/// decoder once more.
fn of_runs(runs: &[(u64, String)]) -> VecDeque<(u64, Content)> {
    let contents = runs.iter().flat_map(|(first, text)| {
        let digits = text.as_bytes().chunks(Content::DIGITS).zip(0..);
        digits.filter_map(|(digits, at)| Some((first.checked_add(at)?, Content::of_text(digits)?)))
    });
    let mut known = File::default();
    contents.for_each(|(number, content)| known.know(number, content));
    known.contents
}

impl Stamp {
    /// Appends the text form.
    pub(crate) fn push_to(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Local(local) if digits::push_date_time(out, local) => {}
            Self::TimeOfDay { time, day: None } => digits::push_time(out, time),
            // Before 1970 the two do not cut off in the same direction.
            Self::Utc(instant) if instant >= Timestamp::UNIX_EPOCH => digits::push_timestamp(out, instant),
            _ => digits::push_display(out, self), // rare
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(local) => {
                // Years before 0 are written with a sign and six digits, otherwise they could not
                // be read again.
                let (sign, digits) = if local.year() < 0 { ("-", 6) } else { ("", 4) };
                write!(f, "{sign}{:0digits$}-{:02}-{:02}T", local.year().abs(), local.month(), local.day())?;
                write_time(f, local.time())
            }
            Self::TimeOfDay { time, day: None } => write_time(f, *time),
            Self::TimeOfDay { time, day: Some(day) } => {
                write!(f, "0000-00-{day:02}T")?;
                write_time(f, *time)
            }
            Self::Utc(instant) => {
                // Cut off towards 1970, as `identity` does. Otherwise an instant before 1970 would
                // be rounded in the wrong direction when it is printed.
                let nanos = instant.subsec_nanosecond();
                let whole = Timestamp::new(instant.as_second(), nanos - nanos % 1_000_000).unwrap_or(*instant);
                write!(f, "{whole:.3}")
            }
            Self::Uptime(ms) => write!(f, "up{}.{:03}", ms / 1000, ms % 1000),
        }
    }
}

fn write_time(f: &mut fmt::Formatter<'_>, time: Time) -> fmt::Result {
    write!(f, "{:02}:{:02}:{:02}.{:03}", time.hour(), time.minute(), time.second(), time.millisecond())
}

/// The text is no decoder stamp in the form that [`Stamp`] prints.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a decoder stamp")]
pub struct NotAStamp(String);

impl FromStr for Stamp {
    type Err = NotAStamp;

    fn from_str(text: &str) -> Result<Self, NotAStamp> {
        let bad = || NotAStamp(text.to_owned());
        if text.ends_with('Z') {
            return text.parse().map(Self::Utc).map_err(|_| bad());
        }
        if let Some((seconds, ms)) = text.strip_prefix("up").and_then(|rest| rest.split_once('.')) {
            let number = |digits: &str| digits.parse::<u64>().ok();
            let (seconds, ms) = number(seconds).zip(number(ms).filter(|ms| *ms < 1000)).ok_or_else(bad)?;
            return seconds.checked_mul(1000).map(|all| Self::Uptime(all + ms)).ok_or_else(bad);
        }
        if let Some(rest) = text.strip_prefix("0000-00-") {
            let (day, time) = rest.split_once('T').ok_or_else(bad)?;
            return Ok(Self::TimeOfDay {
                time: time.parse().map_err(|_| bad())?,
                day: Some(day.parse().map_err(|_| bad())?),
            });
        }
        if text.contains('T') {
            return text.parse().map(Self::Local).map_err(|_| bad());
        }
        let time = text.parse().map_err(|_| bad())?;
        Ok(Self::TimeOfDay { time, day: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position { unit: None, file: Some(Label::Number(7)), number }
    }

    #[test]
    fn a_hole_left_by_a_pulled_cable_is_asked_for_even_when_later_reads_arrived() {
        let mut held = StoredRanges::default();
        for number in (1..=100).chain(151..=160) {
            held.insert(&at(number));
        }
        let file = Label::Number(7);
        assert_eq!(held.missing(None, Some(&file), 1, 165), [(101, 150), (161, 165)]);
        for number in 101..=150 {
            held.insert(&at(number));
        }
        assert_eq!(held.missing(None, Some(&file), 1, 160), []);
        assert_eq!(held.highest(None, Some(&file)), Some(160));
    }

    #[test]
    fn what_is_held_stays_bounded_and_forgets_the_oldest_first() {
        let mut held = StoredRanges::default();
        for number in 0..(2 * StoredRanges::RANGES as u64 + 10) {
            held.insert(&at(number * 2));
        }
        assert_eq!(held.files().next().unwrap().2.len(), StoredRanges::RANGES);
        for file in 0..200 {
            held.insert(&Position { unit: None, file: Some(Label::Number(file)), number: 1 });
        }
        assert_eq!(held.files().count(), StoredRanges::FILES);
        assert_eq!(held.latest(), Some((None, Some(&Label::Number(199)))));
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<StoredRanges>(&text).unwrap(), held);
    }

    fn content(chip: &str) -> Content {
        Content::of(chip, &"20:27:47.350".parse().unwrap())
    }

    #[test]
    fn a_content_is_of_chip_and_stamp_and_a_marker_has_none_of_a_chip() {
        let stamp: Stamp = "2026-03-06T20:27:47.350".parse().unwrap();
        let mut read = ChipRead::new("MC00978", stamp);
        let plain = read.content();
        (read.antenna, read.hits, read.replay, read.position) = (Some(Label::Number(2)), Some(9), true, Some(at(5)));
        assert_eq!(read.content(), plain);
        assert_ne!(ChipRead::new("MC00979", stamp).content(), plain);
        assert_ne!(ChipRead::new("MC00978", "2026-03-06T20:27:47.351".parse().unwrap()).content(), plain);
        assert_ne!(Content::of_marker("MC00978", Some(&stamp)), plain);
        // The content is stored in checkpoints, so the value itself must never change.
        assert_eq!(format!("{plain:?} {}", plain.text().collect::<String>()), "Content(102819815969617) XYOam1NR");
        assert_eq!(Content::of_text(plain.text().collect::<String>().as_bytes()), Some(plain));
        assert_eq!((Content::of_text(b"AAAA"), Content::of_text(b"AAAA+AAA")), (None, None));
    }

    #[test]
    fn what_the_newest_numbers_say_is_remembered_and_bounded_whatever_their_order() {
        let mut held = StoredRanges::default();
        let file = Label::Number(7);
        for number in (1..=1000).rev() {
            held.insert_read(&at(number), content(&number.to_string()));
        }
        let least = 1000 - StoredRanges::CONTENTS as u64;
        assert_eq!(held.content(None, Some(&file), least), None);
        assert_eq!(held.content(None, Some(&file), least + 1), Some(content(&(least + 1).to_string())));
        assert_eq!(held.highest_with_content(None, Some(&file)), Some(1000));
        held.insert(&at(1001)); // without a content
        held.insert_read(&at(1000), content("another"));
        assert_eq!(held.highest_with_content(None, Some(&file)), Some(1000));
        assert_eq!(held.content(None, Some(&file), 1000), Some(content("another")));
        for other in 0..200 {
            for number in 1..=300 {
                held.insert_read(&Position { unit: None, file: Some(Label::Number(other)), number }, content("A"));
            }
        }
        let known = held.files.iter().map(|(_, file)| file.contents.len());
        assert!(known.clone().sum::<usize>() <= StoredRanges::CONTENTS_ALL);
        assert!(known.clone().all(|known| known >= StoredRanges::CONTENTS_LEAST), "{:?}", known.collect::<Vec<_>>());
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<StoredRanges>(&text).unwrap(), held);
    }

    #[test]
    fn a_file_that_is_forgotten_is_known_to_have_been_cleared_and_since_when() {
        let mut held = StoredRanges::default();
        let file = Label::Number(7);
        let (stamp, received) = ("10:00:00.000".parse().unwrap(), Timestamp::UNIX_EPOCH);
        held.insert_read(&at(5), content("A"));
        held.lives_mut().read(&at(5), stamp, received, true);
        assert!(!held.lives().was_cleared(None, Some(&file)));
        held.forget(None, Some(&file));
        held.forget(None, Some(&file)); // nothing was received in between
        let before = Some(Last { stamp, received });
        let life = Life { cleared: true, before, ..Life::default() };
        assert_eq!((held.content(None, Some(&file), 5), held.lives().of(None, Some(&file))), (None, Some(&life)));
        let kept =
            |held: &StoredRanges| serde_json::from_str::<StoredRanges>(&serde_json::to_string(held).unwrap()).unwrap();
        assert_eq!(kept(&held), held);
        held.insert_read(&at(1), content("B"));
        held.lives_mut().read(&at(1), stamp, received, false);
        held.lives_mut().read(&at(9), stamp, received, true);
        assert_eq!((kept(&held), held.files().count()), (held.clone(), 1));
        assert_eq!(held.lives().of(None, Some(&file)).unwrap().first_live, Some(9));
        let mut other = StoredRanges::default();
        other.merge(&held);
        assert_eq!(other, held);
        let old: StoredRanges = serde_json::from_str(r#"[{"file":7,"ranges":[[1,5]]}]"#).unwrap();
        assert_eq!((old.highest(None, Some(&file)), old.highest_with_content(None, Some(&file))), (Some(5), None));
    }

    #[test]
    fn what_two_sources_hold_is_held_together() {
        let mut one = StoredRanges::default();
        let mut other = StoredRanges::default();
        for number in [1, 2, 3, 10, 11, 20] {
            one.insert(&at(number));
        }
        for number in [4, 5, 6, 7, 8, 9, 12, 30] {
            other.insert(&at(number));
        }
        other.insert(&Position { file: None, ..at(7) });
        one.merge(&other);
        let file = Label::Number(7);
        assert_eq!(one.missing(None, Some(&file), 1, 31), [(13, 19), (21, 29), (31, 31)]);
        assert_eq!((one.highest(None, None), one.files().count()), (Some(7), 2));
        let whole = one.clone();
        one.merge(&other);
        one.merge(&StoredRanges::default());
        assert_eq!(one, whole, "again changes nothing");
    }

    #[test]
    fn the_last_number_there_can_be_is_not_missing_once_it_is_held() {
        let mut held = StoredRanges::default();
        let mut missing = |number| {
            held.insert(&Position { unit: None, file: None, number });
            (held.missing(None, None, u64::MAX - 2, u64::MAX), held.first_missing(None, None, 0, u64::MAX - 2))
        };
        assert_eq!(missing(u64::MAX), (vec![(u64::MAX - 2, u64::MAX - 1)], Some((0, u64::MAX - 2))));
        assert_eq!(missing(u64::MAX - 1).0, [(u64::MAX - 2, u64::MAX - 2)]);
        assert_eq!(missing(u64::MAX - 2), (vec![], Some((0, u64::MAX - 3))));
        assert_eq!(held.missing(None, None, 5, 4), []);
    }

    #[test]
    fn stamps_survive_their_text_form() {
        for text in [
            "2026-03-06T20:27:47.350",
            "20:27:47.350",
            "0000-00-01T00:00:07.001",
            "2026-03-06T20:27:47.350Z",
            "up123.007",
            "-000026-07-26T09:05:03.000",
            "0000-01-01T09:05:03.000",
        ] {
            assert_eq!(text.parse::<Stamp>().unwrap().to_string(), text);
        }
        assert!("yesterday".parse::<Stamp>().is_err());
    }

    #[test]
    fn an_instant_before_1970_is_the_same_read_after_the_journal() {
        for text in ["1969-12-31T23:59:59.9995Z", "0026-04-19T08:30:01.000001Z", "2026-04-19T08:30:01.000001Z"] {
            let read = ChipRead::new("AB", Stamp::Utc(text.parse().unwrap()));
            let kept = ChipRead::new("AB", read.stamp.to_string().parse().unwrap());
            assert_eq!(kept.identity(), read.identity(), "{text}");
        }
        for end in [Timestamp::MIN, Timestamp::MAX] {
            assert!(Stamp::Utc(end).to_string().parse::<Stamp>().is_ok());
        }
    }

    #[test]
    fn identity_tells_a_repeat_from_a_decoder_that_counts_from_one_again() {
        let stamp: Stamp = "2026-03-06T20:27:47.350".parse().unwrap();
        let mut first = ChipRead::new("MC00978", stamp);
        first.position = Some(at(1));
        let mut again = first.clone();
        again.replay = true;
        again.hits = Some(9);
        assert_eq!(first.identity(), again.identity());
        let mut restarted = first.clone();
        restarted.stamp = "2026-03-06T21:00:00.000".parse().unwrap();
        assert_ne!(first.identity(), restarted.identity());
        // The identity is stored on the disk, so the value itself must never change.
        assert_eq!(first.identity(), first.identity());
    }

    #[test]
    fn two_reads_within_a_millisecond_are_two_and_one_without_microseconds_is_either() {
        let with = |micros| ChipRead { micros, ..ChipRead::new("E280", "2026-03-06T20:27:47.350Z".parse().unwrap()) };
        let known = |read: Option<u16>, before: Option<u16>| {
            let (read, before) = (with(read).identities(), with(before).identities());
            [Some(before.own.0), before.own.1]
                .into_iter()
                .flatten()
                .any(|kept| [read.own.0, read.other].contains(&kept))
        };
        assert!(known(Some(447), Some(447)) && known(None, None) && known(Some(0), Some(0)));
        assert!(!known(Some(447), Some(448)) && !known(Some(0), Some(448)));
        assert!(known(Some(447), None) && known(Some(0), None), "a line of an older version has none");
        assert!(known(None, Some(447)), "a memory that is printed in milliseconds");
        // Stored on the disk: what is kept without microseconds is kept as it always was.
        assert_eq!(with(None).identities().own, (with(None).identity(), None));
        assert_eq!(with(Some(3)).identity(), with(None).identity());
    }

    #[test]
    fn a_read_whose_place_names_its_reader_is_the_one_that_was_kept_without_it() {
        let mut old = ChipRead::new("9478", "2026-03-06T20:27:47.350".parse().unwrap());
        old.reader = Some(Label::Text("0F2A38".into()));
        old.location = Some("Finish".into());
        old.position = Some(Position { unit: Some("Finish".into()), file: None, number: 5 });
        let mut new = old.clone();
        new.position.as_mut().unwrap().file = old.reader.clone();
        assert_eq!(old.identity(), new.identity());
        assert_eq!(old.identity(), 2_136_958_345_485_149_953, "as the first release kept it");
        let mut backup = new.clone();
        backup.reader = Some(Label::Text("117F37".into()));
        backup.position.as_mut().unwrap().file = backup.reader.clone();
        assert_ne!(backup.identity(), new.identity());
        let mut other = new;
        other.position.as_mut().unwrap().file = Some(Label::Text("7".into()));
        assert_ne!(other.identity(), old.identity(), "a file of its own counts");
    }

    #[test]
    fn a_number_in_an_identity_is_its_eight_bytes_as_the_first_release_took_them() {
        let lengths = (0..64).map(|bit| 1 << bit).chain((0..64).map(|bit| u64::MAX >> bit));
        for number in lengths.chain([0, 0x00ff_0000_0000_00ff, 0x0100]) {
            let (mut quick, mut plain) = (Print::new(), Print::new());
            quick.number(number);
            plain.field(&number.to_le_bytes());
            assert_eq!(quick.0, plain.0, "{number:x}");
        }
    }

    #[test]
    fn a_stamp_is_written_to_the_log_as_it_is_shown() {
        for text in [
            "2026-03-06T20:27:47.350",
            "0001-01-01T00:00:00.000",
            "9999-12-31T23:59:59.999",
            "-000044-03-15T12:00:00.007",
            "20:27:47.350",
            "0000-00-01T00:00:07.001",
            "2026-03-06T20:27:47.350Z",
            "1969-12-31T23:59:59.999Z",
            "up123456.789",
        ] {
            let mut out = Vec::new();
            text.parse::<Stamp>().unwrap().push_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        let before_1970 = Stamp::Utc(Timestamp::new(-1, -999_999_999).unwrap());
        let mut out = Vec::new();
        before_1970.push_to(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), before_1970.to_string());
    }
}
