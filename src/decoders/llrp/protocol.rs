//! LLRP (EPCglobal Low Level Reader Protocol 1.0.1 and 1.1): Impinj, Zebra and other UHF readers, TCP port 5084.
//!
//! Evidence: high. A published standard; the samples were built from it and read alike by sllurp. No real reader was
//! connected. Own code: no crate of that name answered when this was written, and what is needed is small.
//!
//! ```text
//! message    3 bits 0, 3 bits version (1 or 2), 10 bits type, u32 length with these 10 bytes, u32 message id, parameters
//! parameter  first bit 1: 7 bits type and a body of the length that the type has (TV)
//!            else: u16 type, u16 length with these 4 bytes, body (TLV)
//! reader: 63 { 246 { 128 UTC u64, 256 { u16 0 } } }      it accepts us; 1 and 2: somebody else is connected, 3: it failed
//! we:     64                                             send events and reports, also those held while we were away
//! reader: 61 { 240 { TV 13 EPC-96 | 241 { u16 bits, EPC }, TV 1 antenna u16, TV 2 first seen u64 µs UTC,
//!                    TV 3 first seen u64 µs since boot, TV 6 RSSI s8 dBm, TV 8 seen u16, … } … }       tags
//! reader: 62                                             alive? We: 72, with the same message id
//! ```
//!
//! All big-endian. There is no checksum: a wrong length loses the place in the stream, so the link is made anew. Parameters
//! that are not known are skipped by their length; an unknown TV has none, so the rest of that tag is rejected.
//!
//! **A reader serves one client.** One that was programmed by other software cannot be listened to beside it. By default
//! nothing is set in it: what it was told to do before (by its own software, or to start by itself) is taken. Every 10 s it is
//! asked which inventories (ROSpecs) it has: the sign of life, and a condition says when none is enabled. With the option
//! `start = "true"` it gets an inventory of ours: `SET_READER_CONFIG` (a keepalive every 10 s), then `DELETE_ROSPEC`,
//! `ADD_ROSPEC`, `ENABLE_ROSPEC`, `START_ROSPEC`, all with the id 0x50425249 and no other, each after the answer to the one
//! before; it is deleted when we end the link. The keepalive stays set: without a client it reaches nobody.
//!
//! The EPC is the chip, in lower-case hexadecimal. Its time is the first-seen UTC of the reader; without that, the time since
//! its boot, which says how reads follow each other but not when (see [`crate::model::clock`]). A tag with neither is rejected, and
//! a condition says what to switch on: reads without any time could not be told from repeats. Reports are not acknowledged
//! and nothing can be asked for again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use self::setup::{Setup, condition};
use self::wire::{Parameter, Parameters, be, kind, message};
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Label, Stamp};

mod setup;
mod wire;

/// Longest message; a report of some thousand tags.
const MESSAGE_MAX: usize = 256 * 1024;
const HEADER: usize = 10;
/// Bytes of the longest EPC: its length is 5 bits of 16-bit words.
const EPC_MAX: usize = 62;
/// Rejected tags of one report that are told one by one; with the next all of its rest is one.
const REJECTS_MAX: usize = 1000;
/// Antennas without a cable that are told.
const ANTENNAS_MAX: usize = 32;

/// Its name in the configuration.
pub(super) const NAME: &str = "llrp";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `start`: `true` (gives the reader an inventory of ours) or `false`";
    let start = options::one(NAME, settings, ("start", options::SWITCH), allowed)?.unwrap_or(false);
    Ok(Box::new(Llrp {
        held: Vec::new(),
        lost: false,
        setup: Setup::new(start),
        unplugged: BTreeSet::new(),
        untimed: false,
    }))
}

struct Llrp {
    /// What is not taken yet; at most [`MESSAGE_MAX`] bytes and the piece being fed.
    held: Vec<u8>,
    /// The link is of no more use; what still comes is not read.
    lost: bool,
    setup: Setup,
    /// Antennas that the reader said are not connected.
    unplugged: BTreeSet<u16>,
    /// It was told that reports have no time.
    untimed: bool,
}

impl Protocol for Llrp {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        for piece in bytes.chunks(MESSAGE_MAX) {
            if self.lost {
                return;
            }
            self.held.extend_from_slice(piece);
            self.take_messages(out);
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.setup.tick(up, out);
    }

    fn leaving(&mut self, out: &mut Output) {
        self.setup.leaving(out);
    }

    fn end(&mut self, out: &mut Output) {
        // `decode` ends what is piped into it with a line end; no message begins like that.
        if !self.lost && !self.held.is_empty() && self.held != b"\r\n" {
            out.frame(Frame::Rejected(Reject::Unfinished), &self.held);
        }
        self.held.clear();
    }
}

impl Llrp {
    fn take_messages(&mut self, out: &mut Output) {
        let mut held = std::mem::take(&mut self.held);
        let mut taken = 0;
        while held.len() - taken >= HEADER && !self.lost {
            let rest = &held[taken..];
            match length(rest) {
                Ok(length) if length > rest.len() => break,
                Ok(length) => {
                    self.take(&rest[..length], out);
                    taken += length;
                }
                Err(reason) => {
                    out.frame(Frame::Rejected(reason), &rest[..HEADER]);
                    self.lose("the stream does not look like LLRP (any more): is it the LLRP port of the reader?", out);
                }
            }
        }
        if !self.lost {
            held.drain(..taken);
            self.held = held;
        }
    }

    fn lose(&mut self, why: &'static str, out: &mut Output) {
        self.lost = true;
        out.hang_up(why);
    }

    /// A whole message.
    fn take(&mut self, bytes: &[u8], out: &mut Output) {
        let (kind, id, body) = (kind_of(bytes), &bytes[6..HEADER], &bytes[HEADER..]);
        match kind {
            kind::REPORT => return self.report(bytes, out),
            kind::EVENT => return self.event(bytes, out),
            known if kind::is_known(known) => out.frame(Frame::Info(Info::Alive), bytes),
            _ => return out.frame(Frame::Rejected(Reject::NotMine), bytes),
        }
        // After the frame: a reply belongs to what it answers.
        match kind {
            kind::KEEPALIVE => {
                out.reply(message(kind::KEEPALIVE_ACK, u32::from_be_bytes([id[0], id[1], id[2], id[3]]), &[]));
            }
            kind::GET_ROSPECS_RESPONSE => self.setup.inventories(body, out),
            kind::ERROR | 13 | 30..=34 => self.setup.answer(kind, body, out),
            _ => {}
        }
    }

    fn report(&mut self, bytes: &[u8], out: &mut Output) {
        let body = &bytes[HEADER..];
        if body.is_empty() {
            out.frame(Frame::Info(Info::Alive), bytes);
        }
        let mut rejected = 0;
        let mut parameters = Parameters(body);
        while let Some(next) = parameters.next() {
            match next {
                Ok(Parameter { kind: 240, body, raw }) => {
                    let frame = tag(body).map_or_else(Frame::Rejected, Frame::Read);
                    rejected += usize::from(matches!(frame, Frame::Rejected(_)));
                    self.say_untimed(&frame, out);
                    out.frame(frame, raw);
                    if rejected == REJECTS_MAX && !parameters.0.is_empty() {
                        return out.frame(Frame::Rejected(Reject::Field("report")), parameters.0);
                    }
                }
                Ok(_) => {}
                Err(rest) => out.frame(Frame::Rejected(Reject::Length), rest),
            }
        }
    }

    fn say_untimed(&mut self, frame: &Frame, out: &mut Output) {
        let untimed = matches!(frame, Frame::Rejected(Reject::Field("time")));
        if untimed != self.untimed && (untimed || matches!(frame, Frame::Read(_))) {
            self.untimed = untimed;
            let text = "the reader reports tags without a time, and they are not taken; let its reports have the first \
                        seen timestamp, or set the option `start`";
            condition(Condition::LlrpNoTime, untimed.then(|| text.to_owned()), out);
        }
    }

    fn event(&mut self, bytes: &[u8], out: &mut Output) {
        let data = Parameters(&bytes[HEADER..]).flatten().find(|parameter| parameter.kind == 246);
        let Some(data) = data else { return out.frame(Frame::Rejected(Reject::Field("event")), bytes) };
        let clock = Parameters(data.body).flatten().find(|parameter| parameter.kind == 128).and_then(|time| {
            let us = be(time.body).filter(|_| time.body.len() == 8)?;
            utc(us)
        });
        out.frame(Frame::Info(clock.map_or(Info::Alive, Info::Clock)), bytes);
        let unplugged = self.unplugged.clone();
        for parameter in Parameters(data.body).flatten() {
            self.happened(&parameter, out);
        }
        if self.unplugged != unplugged {
            self.say_unplugged(out); // once, however often it is said
        }
    }

    fn happened(&mut self, parameter: &Parameter<'_>, out: &mut Output) {
        match (parameter.kind, parameter.body) {
            (256, [0, 0]) => self.setup.accepted(out),
            (256, [0, 1 | 2]) => self.lose("the reader refuses us: another program is connected to it", out),
            (256, [0, 4]) => {
                let text = "another program tried to connect to the reader, which serves one at a time; stop it";
                condition(Condition::LlrpRival, Some(text.to_owned()), out);
            }
            (256, _) => self.lose("the reader refuses us; look at its own pages", out),
            (257, _) => self.lose("the reader ended the session", out),
            (251, _) => {
                let text = "the reader's memory was full and it lost reads; they cannot be had again";
                condition(Condition::LlrpReadsLost, Some(text.to_owned()), out);
            }
            (255, [there, high, low]) => self.antenna(*there == 1, u16::from_be_bytes([*high, *low])),
            _ => {}
        }
    }

    fn antenna(&mut self, there: bool, number: u16) {
        if there {
            self.unplugged.remove(&number);
        } else if self.unplugged.len() < ANTENNAS_MAX {
            self.unplugged.insert(number);
        }
    }

    fn say_unplugged(&self, out: &mut Output) {
        let numbers: Vec<String> = self.unplugged.iter().map(u16::to_string).collect();
        let text = format!("antenna {} is not connected to the reader; look at the cable", numbers.join(", "));
        condition(Condition::LlrpAntenna, (!numbers.is_empty()).then_some(text), out);
    }
}

fn kind_of(header: &[u8]) -> u16 {
    u16::from_be_bytes([header[0], header[1]]) & 0x3ff
}

/// The length in a header of ten bytes.
fn length(header: &[u8]) -> Result<usize, Reject> {
    if !matches!(header[0] >> 2, 1 | 2) {
        return Err(Reject::NotMine);
    }
    match be(&header[2..6]).and_then(|length| usize::try_from(length).ok()) {
        Some(length @ HEADER..=MESSAGE_MAX) => Ok(length),
        Some(0..HEADER) => Err(Reject::Length),
        _ => Err(Reject::TooLong),
    }
}

/// TagReportData. What it says after something that cannot be skipped is not known, so the tag is rejected as a whole.
fn tag(body: &[u8]) -> Result<ChipRead, Reject> {
    let (mut chip, mut first, mut uptime) = (None, None, None);
    let mut read = ChipRead::new("", Stamp::Uptime(0));
    for parameter in Parameters(body) {
        let Parameter { kind, body, .. } = parameter.map_err(|_| Reject::Field("parameter"))?;
        let number = be(body);
        match kind {
            13 => chip = Some(hex(body)),
            241 => chip = Some(epc(body)?),
            1 => read.antenna = number.map(Label::Number),
            2 => first = number.and_then(utc),
            3 => uptime = number.map(|us| Stamp::Uptime(us / 1000)),
            6 => read.rssi = body.first().map(|dbm| i32::from(i8::from_be_bytes([*dbm]))),
            8 => read.hits = number.and_then(|seen| u32::try_from(seen).ok()),
            _ => {}
        }
    }
    read.chip = chip.ok_or(Reject::Field("epc"))?;
    read.stamp = first.or(uptime).ok_or(Reject::Field("time"))?;
    Ok(read)
}

/// EPCData: a count of bits, then as many bytes as they need.
fn epc(body: &[u8]) -> Result<Box<str>, Reject> {
    let [high, low, bytes @ ..] = body else { return Err(Reject::Field("epc")) };
    let bits = usize::from(u16::from_be_bytes([*high, *low]));
    let whole = (1..=EPC_MAX).contains(&bytes.len()) && bits.div_ceil(8) == bytes.len();
    if whole { Ok(hex(bytes)) } else { Err(Reject::Field("epc")) }
}

fn hex(bytes: &[u8]) -> Box<str> {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>().into()
}

/// Microseconds since 1970; `None` beyond the calendar.
fn utc(us: u64) -> Option<Stamp> {
    Timestamp::from_millisecond(i64::try_from(us / 1000).ok()?).ok().map(Stamp::Utc)
}

#[cfg(test)]
mod tests;
