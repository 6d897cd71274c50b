//! LLRP (EPCglobal Low Level Reader Protocol 1.0.1 and 1.1): Impinj, Zebra and other UHF readers,
//! TCP port 5084.
//!
//! Evidence: high. LLRP is a published standard. The samples were built from it, and sllurp reads
//! them alike. No real reader was connected. This is our own code, because no crate of that name
//! was available when it was written, and the part that is needed is small.
//!
//! ```text
//! message    3 bits 0, 3 bits version (1 or 2), 10 bits type, u32 length with these 10 bytes, u32 message id, parameters
//! parameter  first bit 1: 7 bits type and a body of the length that the type has (TV)
//!            else: u16 type, u16 length with these 4 bytes, body (TLV)
//! reader: 63 { 246 { 128 UTC u64, 256 { u16 0 } } }      it accepts us; 1 and 2: another client is connected, 3: it failed
//! we:     64                                             send events and reports, also those held while we were away
//! reader: 61 { 240 { TV 13 EPC-96 | 241 { u16 bits, EPC }, TV 1 antenna u16, TV 2 first seen u64 µs UTC,
//!                    TV 3 first seen u64 µs since boot, TV 4 and 5 the same of last seen,
//!                    TV 6 RSSI s8 dBm, TV 8 seen u16, … } … }          tags
//! reader: 62                                             alive? We: 72, with the same message id
//! ```
//!
//! All numbers are big-endian. There is no checksum: after a wrong length the place in the stream
//! is lost, so the link makes the connection again. Unknown parameters are skipped by their length.
//! An unknown TV has no length, so its tag is rejected.
//!
//! **A reader serves one client.** If other software programmed the reader and is connected to it,
//! the box cannot listen beside it. By default the protocol sets nothing in the reader: it takes
//! the reports of the inventory that the reader already has (from its own software, or because the
//! reader starts by itself). Every 10 s the protocol asks the reader for its inventories (ROSpecs).
//! The answer is the life sign, and a condition reports it if no inventory is enabled. With the
//! option `start = "true"` the protocol gives the reader an inventory of ours: `SET_READER_CONFIG`
//! (a keepalive every 10 s), then `DELETE_ROSPEC`, `ADD_ROSPEC`, `ENABLE_ROSPEC`, `START_ROSPEC`.
//! They all have the id 0x50425249 and no other, and each one is sent after the answer to the one
//! before. The protocol deletes this inventory when the box ends the link. The keepalive stays set,
//! because without a client it reaches nobody.
//!
//! A report may have any length: the length in LLRP has 32 bits, and a reader that is set to report
//! at the end of its inventory sends all tags in one report. The protocol takes a report longer
//! than [`MESSAGE_MAX`] one parameter at a time as the bytes arrive, and never holds it as a whole.
//! Bytes that are no parameter of a report end the connection there, because a wrong length must
//! not swallow the bytes that follow.
//!
//! The EPC is the chip, in lower-case hexadecimal. Its time is, in this order:
//! * the first-seen UTC, or the last-seen UTC if the reports have no other, of a reader whose clock
//!   was set. (A last-seen time carries a doubt. A client's default report may have only this
//!   time.)
//! * for a reader whose clock was never set (its UTC is of 1970, 2000 …) or that has no UTC: how
//!   long after the greeting the tag was seen, by the reader's own clock. The receive time of the
//!   greeting and this difference give the time ([`crate::model::chip::Age`]). If the greeting does
//!   not have the same clock, the newest tag of the report counts as just seen, and the other tags
//!   as older by their difference. (In a report that is not held as a whole, the newest tag so far
//!   counts.) Such a time always carries a doubt.
//!
//! A tag without a time is rejected, and a condition says what to switch on, because reads without
//! any time look the same as repeats. Microseconds separate two reads of one tag and antenna.
//! Reports are not acknowledged, and the box cannot ask for them again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use self::setup::{Setup, condition};
use self::wire::{Parameter, Parameters, be, kind, message};
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Reject, SettingError, Settings, options};
use crate::model::chip::{Age, Caution, ChipRead, Label, Sighting, Stamp};
use crate::model::clock::was_never_set;

mod setup;
mod wire;

/// Longest message that is held as a whole. It has room for a report of some thousand tags.
const MESSAGE_MAX: usize = 256 * 1024;
const HEADER: usize = 10;
/// Bytes of the longest EPC. Its length is 5 bits that count 16-bit words.
const EPC_MAX: usize = 62;
/// The most rejected tags of one report that become one frame each. After them, the rest of the
/// report is one rejected frame.
const REJECTS_MAX: usize = 1000;
/// The most antennas without a cable that are reported.
const ANTENNAS_MAX: usize = 32;

/// The reason to end a connection whose place in the stream is lost.
const ASTRAY: &str = "the stream does not look like LLRP (any more): is it the LLRP port of the reader?";

/// The name in the configuration.
pub(super) const NAME: &str = "llrp";

/// Makes a value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `start`: `true` (gives the reader an inventory of ours) or `false`";
    let start = options::one(NAME, settings, ("start", options::SWITCH), allowed)?.unwrap_or(false);
    Ok(Box::new(Llrp {
        held: Vec::new(),
        lost: false,
        setup: Setup::new(start),
        unplugged: BTreeSet::new(),
        untimed: false,
        greeting: Clocks::default(),
        long: None,
    }))
}

struct Llrp {
    /// The bytes that are not taken yet: at most [`MESSAGE_MAX`] bytes and the piece being fed.
    held: Vec<u8>,
    /// The connection is of no more use, so bytes that still arrive are not read.
    lost: bool,
    setup: Setup,
    /// Antennas that the reader reported as not connected.
    unplugged: BTreeSet<u16>,
    /// It was reported that the tags have no time.
    untimed: bool,
    /// The reader's clocks at its greeting.
    greeting: Clocks,
    /// The report that is being taken and is not held as a whole.
    long: Option<Long>,
}

/// The rest of a long report.
struct Long {
    /// The number of its bytes that were not taken yet.
    left: usize,
    /// The newest times so far in the report.
    newest: Clocks,
}

/// The times of a reader's clocks, in microseconds.
#[derive(Clone, Copy, Default)]
struct Clocks {
    /// Since 1970.
    utc: Option<u64>,
    /// Since the reader was switched on.
    uptime: Option<u64>,
}

impl Clocks {
    fn newer(self, other: Self) -> Self {
        Self { utc: self.utc.max(other.utc), uptime: self.uptime.max(other.uptime) }
    }
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
        // `decode` adds a line end to the bytes that are piped into it. No message begins like
        // that.
        if !self.lost && !self.held.is_empty() && self.held != b"\r\n" {
            out.frame(Frame::Rejected(Reject::Unfinished), &self.held);
        }
        self.held.clear();
        self.long = None;
    }
}

impl Llrp {
    fn take_messages(&mut self, out: &mut Output) {
        let mut held = std::mem::take(&mut self.held);
        let mut taken = 0;
        while !self.lost {
            let rest = &held[taken..];
            if let Some(long) = self.long.take() {
                let Some(count) = self.take_of_long(long, rest, out) else { break };
                taken += count;
                continue;
            }
            if rest.len() < HEADER {
                break;
            }
            match length(rest) {
                Ok(length) if length > MESSAGE_MAX => {
                    self.long = Some(Long { left: length - HEADER, newest: Clocks::default() });
                    taken += HEADER;
                }
                Ok(length) if length > rest.len() => break,
                Ok(length) => {
                    self.take(&rest[..length], out);
                    taken += length;
                }
                Err(reason) => {
                    out.frame(Frame::Rejected(reason), &rest[..HEADER]);
                    self.lose(ASTRAY, out);
                }
            }
        }
        if !self.lost {
            held.drain(..taken);
            self.held = held;
        }
    }

    /// Takes the next parameter of a long report. Returns its length in bytes. `None`: it has not
    /// arrived as a whole.
    fn take_of_long(&mut self, mut long: Long, rest: &[u8], out: &mut Output) -> Option<usize> {
        let whole = wire::whole_tlv(&rest[..rest.len().min(long.left)]);
        let is_of_report = matches!(whole, Ok(Some((240 | 242 | 1023, _))));
        match whole {
            Ok(Some((kind, length))) if is_of_report => {
                let raw = &rest[..length];
                if kind == 240 {
                    let tag = Tag::of(&raw[wire::TLV_HEAD..]);
                    long.newest = tag.as_ref().map_or(long.newest, |tag| long.newest.newer(tag.newest()));
                    self.tag(tag, long.newest, raw, out);
                }
                long.left -= length;
                self.long = (long.left > 0).then_some(long);
                Some(length)
            }
            Ok(None) if rest.len() < long.left => {
                self.long = Some(long);
                None
            }
            _ => {
                out.frame(Frame::Rejected(Reject::Length), &rest[..long.left.min(wire::TLV_HEAD)]);
                self.lose(ASTRAY, out);
                None
            }
        }
    }

    fn lose(&mut self, why: &'static str, out: &mut Output) {
        self.lost = true;
        out.hang_up(why);
    }

    /// Takes a whole message.
    fn take(&mut self, bytes: &[u8], out: &mut Output) {
        let (kind, id, body) = (kind_of(bytes), &bytes[6..HEADER], &bytes[HEADER..]);
        match kind {
            kind::REPORT => return self.report(bytes, out),
            kind::EVENT => return self.event(bytes, out),
            known if kind::is_known(known) => out.frame(Frame::Info(Info::Alive), bytes),
            _ => return out.frame(Frame::Rejected(Reject::NotMine), bytes),
        }
        // The reply follows the frame of the message that it answers.
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
        // Finds the newest time in the report first. If nothing else shows when the tags were seen,
        // that tag counts as just seen.
        let tags = Parameters(body).flatten().filter(|parameter| parameter.kind == 240);
        let newest = tags.filter_map(|parameter| Tag::of(parameter.body).ok()).map(|tag| tag.newest());
        let newest = newest.fold(Clocks::default(), Clocks::newer);
        let mut rejected = 0;
        let mut parameters = Parameters(body);
        while let Some(next) = parameters.next() {
            match next {
                Ok(Parameter { kind: 240, body, raw }) => {
                    rejected += usize::from(!self.tag(Tag::of(body), newest, raw, out));
                    if rejected == REJECTS_MAX && !parameters.0.is_empty() {
                        return out.frame(Frame::Rejected(Reject::Field("report")), parameters.0);
                    }
                }
                Ok(_) => {}
                Err(rest) => out.frame(Frame::Rejected(Reject::Length), rest),
            }
        }
    }

    /// Puts out a tag of a report as a frame. Returns false if the tag is rejected.
    fn tag(&mut self, tag: Result<Tag, Reject>, newest: Clocks, raw: &[u8], out: &mut Output) -> bool {
        let read = tag.and_then(|tag| tag.read(self.greeting, newest));
        let frame = read.map_or_else(Frame::Rejected, Frame::Read);
        self.say_untimed(&frame, out);
        let is_read = matches!(frame, Frame::Read(_));
        out.frame(frame, raw);
        is_read
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
        let shown = |wanted: u16| {
            let clock = Parameters(data.body).flatten().find(|parameter| parameter.kind == wanted)?;
            be(clock.body).filter(|_| clock.body.len() == 8)
        };
        let clocks = Clocks { utc: shown(128), uptime: shown(129) };
        let stamp = clocks.utc.and_then(utc).or(clocks.uptime.map(|us| Stamp::Uptime(us / 1000)));
        let greets =
            Parameters(data.body).flatten().any(|parameter| (parameter.kind, parameter.body) == (256, &[0, 0]));
        // The reader may have held other events while no client was connected.
        let info = match stamp {
            Some(stamp) if greets => {
                self.greeting = clocks;
                Info::Greeting(stamp)
            }
            Some(stamp @ Stamp::Utc(_)) => Info::Clock(stamp),
            _ => Info::Alive,
        };
        out.frame(Frame::Info(info), bytes);
        let unplugged = self.unplugged.clone();
        for parameter in Parameters(data.body).flatten() {
            self.happened(&parameter, out);
        }
        if self.unplugged != unplugged {
            self.say_unplugged(out); // only once for each message
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

/// The length in a header of ten bytes. Only a report may be longer than [`MESSAGE_MAX`].
fn length(header: &[u8]) -> Result<usize, Reject> {
    if !matches!(header[0] >> 2, 1 | 2) {
        return Err(Reject::NotMine);
    }
    match be(&header[2..6]).and_then(|length| usize::try_from(length).ok()) {
        Some(0..HEADER) => Err(Reject::Length),
        Some(length @ HEADER..=MESSAGE_MAX) => Ok(length),
        Some(length) if kind_of(header) == kind::REPORT => Ok(length),
        _ => Err(Reject::TooLong),
    }
}

/// A TagReportData parameter.
struct Tag {
    /// The read, without its time.
    read: ChipRead,
    first: Clocks,
    last: Clocks,
}

impl Tag {
    /// Decodes a tag. If a parameter cannot be skipped, the bytes after it cannot be read, so the
    /// whole tag is rejected.
    fn of(body: &[u8]) -> Result<Self, Reject> {
        let (mut chip, mut first, mut last) = (None, Clocks::default(), Clocks::default());
        let mut read = ChipRead::new("", Stamp::Uptime(0));
        for parameter in Parameters(body) {
            let Parameter { kind, body, .. } = parameter.map_err(|_| Reject::Field("parameter"))?;
            let number = be(body);
            match kind {
                13 => chip = Some(hex(body)),
                241 => chip = Some(epc(body)?),
                1 => read.antenna = number.map(Label::Number),
                2 => first.utc = number,
                3 => first.uptime = number,
                4 => last.utc = number,
                5 => last.uptime = number,
                6 => read.rssi = body.first().map(|dbm| i32::from(i8::from_be_bytes([*dbm]))),
                8 => read.hits = number.and_then(|seen| u32::try_from(seen).ok()),
                _ => {}
            }
        }
        read.chip = chip.ok_or(Reject::Field("epc"))?.into();
        Ok(Self { read, first, last })
    }

    fn newest(&self) -> Clocks {
        self.first.newer(self.last)
    }

    /// The read with its time. If the clock was never set, the time is counted from the reader's
    /// clocks at the greeting, or from the newest tag.
    fn read(self, greeting: Clocks, newest: Clocks) -> Result<ChipRead, Reject> {
        let Self { mut read, first, last } = self;
        let is_set = |us: &u64| matches!(utc(*us), Some(Stamp::Utc(utc)) if !was_never_set(utc));
        if let Some(us) = first.utc.filter(is_set).or(last.utc.filter(is_set)) {
            (read.stamp, read.micros) = (utc(us).unwrap_or(read.stamp), Some(below_ms(us)));
            if first.utc.filter(is_set).is_none() {
                (read.seen, read.caution) = (Some(Sighting::Last), Some(Caution::OnlyLastSeen));
            }
            return Ok(read);
        }
        // Among the clocks that show only differences, one that the greeting also has is preferred.
        let told = |clocks: Clocks| {
            let uptime = clocks.uptime.map(|us| (us, greeting.uptime, newest.uptime));
            let of_calendar = clocks.utc.filter(|us| utc(*us).is_some());
            let is_unset = |us: &u64| !is_set(us);
            let unset = of_calendar.map(|us| (us, greeting.utc.filter(is_unset), newest.utc.filter(is_unset)));
            let placed = |told: &(u64, Option<u64>, Option<u64>)| told.1.is_some();
            uptime.filter(placed).or(unset.filter(placed)).or(uptime).or(unset)
        };
        let (us, greeted, newest) = match (told(first), told(last)) {
            (Some(told), _) => told,
            (None, Some(told)) => {
                (read.seen, read.caution) = (Some(Sighting::Last), Some(Caution::OnlyLastSeen));
                told
            }
            (None, None) => return Err(Reject::Field("time")),
        };
        (read.stamp, read.micros) = (Stamp::Uptime(us / 1000), Some(below_ms(us)));
        let age = match greeted {
            Some(greeted) => Age::AfterGreeting(difference_ms(us, greeted)),
            None => Age::BeforeReceipt(difference_ms(newest.unwrap_or(us), us)),
        };
        read.age = Some(age.into());
        Ok(read)
    }
}

/// How much later the first time is, in milliseconds.
fn difference_ms(later: u64, earlier: u64) -> i64 {
    i64::try_from((i128::from(later) - i128::from(earlier)) / 1000).unwrap_or(0)
}

/// The microseconds below the millisecond.
fn below_ms(us: u64) -> u16 {
    (us % 1000) as u16 // less than 1000
}

/// Decodes EPCData: a count of bits, then as many bytes as they need.
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

/// A time from microseconds since 1970. `None`: it is beyond the calendar.
fn utc(us: u64) -> Option<Stamp> {
    Timestamp::from_millisecond(i64::try_from(us / 1000).ok()?).ok().map(Stamp::Utc)
}

#[cfg(test)]
mod tests;
