//! AMB / MYLAPS "P3" (`AMBrc`, AMB MX, `TranX`, `TranX` Pro): the decoder is a TCP server on port 5403 that streams binary
//! frames and numbers its passings. All numbers are little-endian.
//!
//! Evidence: high for the frame, the CRC, passings and status (real captures), medium for RESEND (from a program's source,
//! never seen answered). No real decoder was connected.
//!
//! ```text
//! 8E | version 1 | length 2 | CRC 2 | flags 2 | type 2 | { tag 1 | length 1 | value }* | 8F
//!
//! type 01 passing                                  type 02 status, every few seconds: the life sign
//!   01 passing number   05 strength                  0C supply voltage, 0.1 V
//!   03 transponder      06 hits                      81 decoder id
//!   04 decoder's time, µs since 1970               type 04 resend (request)
//!   0A printed code, beside 03 or instead of it      01 first, 02 last passing number
//!   10 UTC, µs since 1970     81 decoder id        type 24 time (request, and its answer)
//!                                                    01 decoder's time, 05 UTC, µs since 1970
//!                                                  others: alive, nothing else
//! ```
//!
//! * Between the outer markers 8D, 8E and 8F are sent as 8D and the byte + 0x20, in the length and the CRC as well. So
//!   an 8E always begins a frame, whatever went before.
//! * The length counts the unescaped frame with its markers. Requests may carry 0; passings may not.
//! * Bit 0 of the flags: tags have lengths of 4 bytes.
//! * CRC: see [`checksum`]. Bad ones are common behind telnet-style hops, which add a CR to an LF.
//! * Chip: the transponder's number, or with option `code = "printed"` the code that is printed on
//!   it (`FL-12345`), where the decoder tells it; what it does not tell is taken from the other
//!   one.
//! * Time: tag 10 is preferred, it is UTC. Tag 04 is the decoder's own clock: wall time in the configured zone, or with
//!   option `clock = "utc"` UTC, as who set it chose.
//! * Transponders 9991, 9992, 9993 and 9995 are inputs and the gun: markers, no chips.
//! * The place of a passing is decoder id (eight hexadecimal digits) and passing number; gaps are asked for by number
//!   ([`crate::decoders::gaps`]). Nothing marks a passing as stored: it is what was asked for. A number that says another passing than
//!   before means that the passings were cleared: at each connection the last one held is asked for again and compared.
//! * GET_TIME (type 24) is answered with tag 01, the decoder's clock, or 05, UTC, in µs since 1970 (one program asks so, and
//!   reads it so; a decoder that does not answer is no worse off). It tells which time a passing has that was stored.
//!
//! Sent: RESEND, GET_TIME every [`TIME_EVERY`], and a request for STATUS after [`SILENCE`]. Never type 05, which clears the
//! decoder's passings.

use std::time::Duration;

use crc::{CRC_16_SPI_FUJITSU, Crc};
use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};

use crate::decoders::gaps::{Came, Gaps};
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Content, Marker, Position, Stamp, StoredRanges};

const BEGIN: u8 = 0x8e;
const END: u8 = 0x8f;
const ESCAPE: u8 = 0x8d;
/// Longest frame as sent; ten times what any decoder sends.
const LIMIT: usize = 4096;
/// Both markers, version, length, CRC, flags and type.
const SHORTEST: usize = 11;
const PASSING: u16 = 0x01;
const STATUS: u16 = 0x02;
const RESEND: u16 = 0x04;
const TIME: u16 = 0x24;
/// How often the decoder's clock is asked for.
const TIME_EVERY: Duration = Duration::from_secs(60);
/// The question for it: empty values, these are wanted.
const TIME_TAGS: [u8; 6] = [0x01, 0, 0x04, 0, 0x05, 0];
/// After so long without a byte the decoder is asked for its status.
const SILENCE: Duration = Duration::from_secs(30);
/// Tenths of a volt below which the supply is called low, and from which on it is not any more (real ones: 118, 119).
const LOW_DV: (u64, u64) = (110, 114);
/// Transponder numbers that are none.
const MARKERS: [(u64, &str); 4] = [(9991, "external 1"), (9992, "gun"), (9993, "external 2"), (9995, "marker")];

/// Its name in the configuration.
pub(super) const NAME: &str = "p3";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let (mut utc, mut printed) = (false, false);
    for (key, value) in settings {
        let wrong = |allowed| options::wrong(NAME, key, value, allowed);
        match (key.as_str(), value.as_str()) {
            ("clock", "local") => utc = false,
            ("clock", "utc") => utc = true,
            ("clock", _) => {
                return Err(wrong(
                    "`local` where the decoder's clock shows the time of its zone, `utc` where it shows UTC",
                ));
            }
            ("code", "number") => printed = false,
            ("code", "printed") => printed = true,
            ("code", _) => {
                return Err(wrong(
                    "`number` for the transponder's number, `printed` for the code that is printed on it",
                ));
            }
            _ => return Err(wrong("unknown; the options are `clock` and `code`")),
        }
    }
    Ok(Box::new(P3 {
        held: Vec::new(),
        place: Place::Outside,
        gaps: Gaps::new(StoredRanges::default(), false, false),
        utc,
        printed,
        heard: false,
        quiet_since: Duration::ZERO,
        timed: Duration::ZERO,
        low: None,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between frames; what is held is noise.
    Outside,
    Inside,
    /// In the rest of something that was too long.
    Skipping,
}

struct P3 {
    /// The frame or the noise so far, as sent; at most [`LIMIT`] bytes.
    held: Vec<u8>,
    place: Place,
    gaps: Gaps,
    /// The decoder's clock shows UTC.
    utc: bool,
    /// The chip is the printed code, where there is one.
    printed: bool,
    /// Something came since the last tick.
    heard: bool,
    /// The last tick at which something had come, or the status was asked for.
    quiet_since: Duration,
    /// When the clock was asked for.
    timed: Duration,
    /// What was told of the supply.
    low: Option<bool>,
}

impl Protocol for P3 {
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        self.gaps = Gaps::new(held, rewind, false);
        out.reply(request(TIME, &TIME_TAGS)); // first: it tells how to read the stamps of what is stored
        self.ask(out);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.heard |= !bytes.is_empty();
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            self.byte(byte, out);
            rest = self.inside(&rest[1..]);
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.gaps.tick(up, out);
        if std::mem::take(&mut self.heard) {
            self.quiet_since = up;
        } else if up.saturating_sub(self.quiet_since) >= SILENCE {
            self.quiet_since = up;
            out.reply(request(STATUS, &[0x01, 0, 0x07, 0, 0x0c, 0])); // empty values: these are wanted
        }
        if up.saturating_sub(self.timed) >= TIME_EVERY {
            self.timed = up;
            out.reply(request(TIME, &TIME_TAGS));
        }
        self.ask(out);
    }

    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        if range.to > u64::from(u32::MAX) {
            return Err("this decoder's passing numbers end at 4294967295");
        }
        self.gaps.by_hand(range)?;
        self.ask(out);
        Ok(())
    }

    fn end(&mut self, out: &mut Output) {
        match self.place {
            Place::Inside => out.frame(Frame::Rejected(Reject::Unfinished), &self.held),
            Place::Outside => self.noise(out),
            Place::Skipping => {}
        }
        self.held.clear();
        self.place = Place::Outside;
    }
}

impl P3 {
    fn ask(&mut self, out: &mut Output) {
        while let Some(ask) = self.gaps.ask() {
            let Ok(from) = u32::try_from(ask.from) else { continue }; // behind the last number there can be
            let to = u32::try_from(ask.to).unwrap_or(u32::MAX);
            let [from, to] = [from.to_le_bytes(), to.to_le_bytes()];
            out.reply(request(RESEND, &[&[0x01, 4][..], &from, &[0x02, 4], &to].concat()));
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Output) {
        if byte == BEGIN {
            match self.place {
                Place::Inside => out.frame(Frame::Rejected(Reject::Length), &self.held),
                Place::Outside => self.noise(out),
                Place::Skipping => {}
            }
            self.held.clear();
            self.place = Place::Inside;
        }
        if self.place == Place::Skipping || (self.held.is_empty() && matches!(byte, b'\r' | b'\n')) {
            return; // line ends between frames are somebody's terminal
        }
        if self.held.len() == LIMIT {
            out.frame(Frame::Rejected(Reject::TooLong), &self.held);
            self.held.clear();
            self.place = Place::Skipping;
            return;
        }
        self.held.push(byte);
        if byte == END && self.place == Place::Inside {
            let held = std::mem::take(&mut self.held);
            self.place = Place::Outside;
            if let Err(reason) = self.frame(&held, out) {
                out.frame(Frame::Rejected(reason), &held);
            }
            self.held = held; // keeps its room
            self.held.clear();
        }
    }

    /// Inside a frame only its markers mean anything: takes what is before the next one at once. Gives the rest.
    fn inside<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.place != Place::Inside {
            return bytes;
        }
        let plain = memchr::memchr2(BEGIN, END, bytes).unwrap_or(bytes.len()).min(LIMIT - self.held.len());
        self.held.extend_from_slice(&bytes[..plain]);
        &bytes[plain..]
    }

    fn noise(&mut self, out: &mut Output) {
        if !self.held.is_empty() {
            out.frame(Frame::Rejected(Reject::NotMine), &self.held);
        }
    }

    /// Takes a frame with its markers, as sent.
    fn frame(&mut self, raw: &[u8], out: &mut Output) -> Result<(), Reject> {
        let frame = unescaped(raw);
        if frame.len() < SHORTEST {
            return Err(Reject::Length);
        }
        let word = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]);
        let (length, sum, flags, kind) = (word(2), word(4), word(6), word(8));
        if usize::from(length) != frame.len() && (length != 0 || kind == PASSING) {
            return Err(Reject::Length);
        }
        if checksum(&frame) != sum {
            return Err(Reject::Checksum);
        }
        let tags = Tags { bytes: &frame[10..frame.len() - 1], wide: flags & 1 == 1 };
        match kind {
            PASSING => self.passing(Passing::of(&tags, self.utc, self.printed)?, raw, out),
            STATUS => {
                let supply = tags.number(0x0c, "voltage")?;
                out.frame(Frame::Info(Info::Alive), raw);
                if let Some(tenths) = supply {
                    self.supply(tenths, out);
                }
            }
            TIME => out.frame(Frame::Info(time(&tags, self.utc).map_or(Info::Alive, Info::Clock)), raw),
            _ => out.frame(Frame::Info(Info::Alive), raw),
        }
        Ok(())
    }

    fn passing(&mut self, passing: Passing, raw: &[u8], out: &mut Output) {
        let Passing { mut read, position, ms: at, transponder: number } = passing;
        read.replay = self.gaps.is_stored(&position);
        if let Some((_, kind)) = MARKERS.iter().find(|(transponder, _)| Some(*transponder) == number) {
            let unit = position.unit.as_deref().unwrap_or("-");
            let name = Some(format!("decoder {unit}, passing {}", position.number).into());
            // Numbered among the passings: without it there would be a gap.
            let content = Content::of_marker(kind, Some(&read.stamp));
            self.gaps.read(&Came { position: &position, content, at, replay: false }, out);
            let (kind, stamp, position) = ((*kind).into(), Some(read.stamp), Some(position));
            let marker = Marker { kind, name, stamp, reader: None, location: None, position, through: None };
            out.frame(Frame::Marker(marker), raw);
        } else {
            let content = read.content();
            self.gaps.read(&Came { position: &position, content, at, replay: false }, out);
            out.frame(Frame::Read(read), raw);
        }
        self.ask(out); // here and not after all that came: what is asked must not depend on how it was cut
    }

    fn supply(&mut self, tenths: u64, out: &mut Output) {
        let low = if self.low == Some(true) { tenths < LOW_DV.1 } else { tenths < LOW_DV.0 };
        if self.low.replace(low) != Some(low) {
            let volts = format!("{}.{}", tenths / 10, tenths % 10);
            let text = low.then(|| format!("the supply of the decoder has {volts} V: connect it to power"));
            out.frame(Frame::Info(Info::Condition { code: Condition::LowBattery, text }), b"");
        }
    }
}

/// A passing as it was sent, the inputs and the gun among them.
struct Passing {
    read: ChipRead,
    position: Position,
    /// By the decoder's clock, in milliseconds.
    ms: i64,
    /// The number of the transponder, whatever the chip is called.
    transponder: Option<u64>,
}

impl Passing {
    fn of(tags: &Tags<'_>, clock_is_utc: bool, printed: bool) -> Result<Self, Reject> {
        let number = tags.number(0x01, "number")?.ok_or(Reject::Field("number"))?;
        let number = u32::try_from(number).map_err(|_| Reject::Field("number"))?;
        let transponder = tags.number(0x03, "transponder")?;
        let code = tags.get(0x0a)?.map(|code| code_of(code).ok_or(Reject::Field("transponder")));
        let chip: Box<str> = match (transponder, code) {
            (Some(_), Some(Ok(code))) if printed => code.into(), // a code that cannot be read is no reason to lose the number
            (Some(transponder), _) => transponder.to_string().into(),
            (None, Some(code)) => code?.into(),
            (None, None) => return Err(Reject::Field("transponder")),
        };
        let is_shown = |us: &u64| *us >= 1000;
        let (rtc, utc) = (tags.number(0x04, "rtc")?, tags.number(0x10, "utc")?.filter(is_shown));
        let ms = millis(rtc.or(utc).ok_or(Reject::Field("rtc"))?, "rtc")?;
        let (stamp, micros) = stamp(rtc, utc, clock_is_utc)?.ok_or(Reject::Field("rtc"))?;
        let transponder = transponder.or_else(|| chip.parse().ok());
        let small = |tag, name| -> Result<Option<u16>, Reject> {
            let number = tags.number(tag, name)?;
            number.map(|number| u16::try_from(number).map_err(|_| Reject::Field(name))).transpose()
        };
        let (rssi, hits) = (small(0x05, "strength")?.map(i32::from), small(0x06, "hits")?.map(u32::from));
        let unit = tags.number(0x81, "decoder_id")?.map(|id| format!("{id:08x}").into());
        let position = Position { unit, file: None, number: number.into() };
        let micros = Some(micros);
        let read = ChipRead { rssi, hits, micros, position: Some(position.clone()), ..ChipRead::new(chip, stamp) };
        Ok(Self { read, position, ms, transponder })
    }
}

/// Milliseconds of microseconds.
fn millis(us: u64, name: &'static str) -> Result<i64, Reject> {
    i64::try_from(us / 1000).map_err(|_| Reject::Field(name))
}

/// The time that a record tells, and the microseconds below its millisecond: UTC if it does, else
/// by the decoder's clock. Both in microseconds since 1970.
fn stamp(rtc: Option<u64>, utc: Option<u64>, clock_is_utc: bool) -> Result<Option<(Stamp, u16)>, Reject> {
    let below_ms = |us: u64| (us % 1000) as u16; // less than 1000
    if let Some(us) = utc.or(rtc.filter(|_| clock_is_utc)) {
        let instant = Timestamp::from_millisecond(millis(us, "utc")?).map_err(|_| Reject::Field("utc"))?;
        return Ok(Some((Stamp::Utc(instant), below_ms(us))));
    }
    let Some(us) = rtc else { return Ok(None) };
    let since_1970 = SignedDuration::from_millis(millis(us, "rtc")?);
    let local = date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since_1970).map_err(|_| Reject::Field("rtc"))?;
    Ok(Some((Stamp::Local(local), below_ms(us))))
}

/// What the decoder's clock shows; `None`: it does not say, or in a way that nobody has described.
fn time(tags: &Tags<'_>, clock_is_utc: bool) -> Option<Stamp> {
    let shown = |tag, name| tags.number(tag, name).ok().flatten().filter(|us| *us >= 1000);
    stamp(shown(0x01, "rtc"), shown(0x05, "utc"), clock_is_utc).ok().flatten().map(|(stamp, _)| stamp)
}

/// A transponder's code as text: printable, without what pads it.
fn code_of(bytes: &[u8]) -> Option<&str> {
    let code = std::str::from_utf8(bytes).ok()?.trim_matches(['\0', ' ']);
    (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_graphic())).then_some(code)
}

/// The tagged values of a frame.
struct Tags<'a> {
    bytes: &'a [u8],
    /// Lengths of 4 bytes.
    wide: bool,
}

impl<'a> Tags<'a> {
    /// The value of the first `wanted` tag. All are walked through, so that a wrong length shows whatever is asked for.
    fn get(&self, wanted: u8) -> Result<Option<&'a [u8]>, Reject> {
        let (mut rest, mut found) = (self.bytes, None);
        while let [tag, tail @ ..] = rest {
            let (length, tail) = match (self.wide, tail) {
                (false, [length, tail @ ..]) => (usize::from(*length), tail),
                (true, [a, b, c, d, tail @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, tail),
                _ => return Err(Reject::Length),
            };
            let (value, after) = tail.split_at_checked(length).ok_or(Reject::Length)?;
            if *tag == wanted && found.is_none() {
                found = Some(value);
            }
            rest = after;
        }
        Ok(found)
    }

    /// A number of one to eight bytes; `None` if the tag is not there, or empty.
    fn number(&self, tag: u8, name: &'static str) -> Result<Option<u64>, Reject> {
        let Some(value) = self.get(tag)?.filter(|value| !value.is_empty()) else { return Ok(None) };
        if value.len() > 8 {
            return Err(Reject::Field(name));
        }
        Ok(Some(value.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))))
    }
}

/// Over the whole unescaped frame with its markers, the CRC taken as zero. The decoders' register takes each byte in at
/// its low end, which a stock CRC does with the last two bytes left out and added behind.
fn checksum(frame: &[u8]) -> u16 {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_SPI_FUJITSU);
    let Some((most, last)) = frame.split_last_chunk::<2>().filter(|(most, _)| most.len() >= 6) else { return 0 };
    let mut digest = CRC.digest();
    digest.update(&most[..4]);
    digest.update(&[0, 0]);
    digest.update(&most[6..]);
    digest.finalize() ^ u16::from_be_bytes(*last)
}

/// A frame as it is meant, from one as it is sent.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            ESCAPE => frame.extend(bytes.next().map(|byte| byte.wrapping_sub(0x20))), // else: the CRC tells
            byte => frame.push(byte),
        }
    }
    frame
}

/// A request as it is sent.
fn request(kind: u16, tags: &[u8]) -> Vec<u8> {
    let length = u16::try_from(SHORTEST + tags.len()).unwrap_or(0).to_le_bytes();
    let mut frame = [&[BEGIN, 2][..], &length, &[0; 4], &kind.to_le_bytes(), tags, &[END]].concat();
    let sum = checksum(&frame).to_le_bytes();
    frame[4..6].copy_from_slice(&sum);
    let mut sent = vec![BEGIN];
    for &byte in &frame[1..frame.len() - 1] {
        match byte {
            ESCAPE | BEGIN | END => sent.extend([ESCAPE, byte + 0x20]),
            byte => sent.push(byte),
        }
    }
    sent.push(END);
    sent
}

#[cfg(test)]
mod tests;
