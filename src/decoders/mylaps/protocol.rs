//! MYLAPS Timing & Scoring / Toolkit TCP/IP, versions 1 and 2: the protocol of the MYLAPS *PC
//! software*. The software connects to the box (usually on port 3097) and repeats a message every
//! 20 s until it is acknowledged. At most ten messages are unacknowledged at a time.
//!
//! Wire: text, fields separated by `@`, and a message ends with `$` (nearly always `@$`). NUL, CR
//! and LF between messages mean nothing. The first field is the sender's location (one connection
//! can carry several), the second the function.
//!
//! ```text
//! Finish@Pong@$                                    hello, once for each location; our answer chooses the version:
//!   passbridge@AckPong@$                             1
//!   passbridge@AckPong@Version2.1@c|t|d|..@$         2, with the passing keys that we want
//! Finish@Store@<39 characters>@..@<msgNo>@$        version 1 reads  -> passbridge@AckStore@<msgNo>@$
//! Finish@Passing@c=..|t=..|d=..@..@<msgNo>@$       version 2 reads  -> AckPassing
//! Finish@Marker@t=..|mt=Gunshot|n=Gun 1@..@<msgNo>@$                -> AckMarker
//! X@Ping@$ -> Y@AckPing@$                          either side
//! ```
//!
//! A version 1 record is 39 characters: chip 7, `hh:mm:ss.kkk` 12 (hundredths only: a leading
//! blank), device 2, reader 2, antenna 1, lap 3, sequence 4 (hex), `yyMMdd` 6, checksum 2 (sum of
//! the 37 characters before, low 8 bits, hex). Version 2 keys stand in any order: `c` chip, `t`
//! time, `d` `yyMMdd`, `dv` device, `re` reader, `an` antenna, `h` hits, `amd` amplitude in dBm.
//! `mt` and `n` are a marker's type and name.
//!
//! What must hold:
//! * **The acknowledgement of a message follows all of its frames.** It repeats the number of the
//!   message byte for byte.
//! * **A record that cannot be decoded is kept as a rejected frame, with all of its bytes, and its
//!   message is still acknowledged.** Otherwise the sender repeats it for ever and it blocks one of
//!   the ten places. A condition reports it, because the sender never sends the record again. A
//!   record that is too large for one frame is kept in several.
//! * A read has no [`Position`](crate::model::chip::Position), because the box cannot ask the
//!   sender again. Its identity has the parts that the protocol offers: location, chip, stamp,
//!   device, reader, antenna. The sequence number is no part of it: like the message number it
//!   starts again with the sender's session.
//!
//! Not used: `utc` and `ut` (documented as Unix time with an eight-digit example, so their meaning
//! is not settled; only the decoder's wall time and the configured zone are used), and the device's
//! `tz` (nobody checks it on race day, and a wrong one would silently shift every passing).

use std::time::Duration;

use jiff::civil::{Date, Time};

use crate::decoders::civil;
use crate::decoders::text::utf_8_or_latin_1 as text;
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Label, Marker, Stamp};

/// Longest message. The sender packs at most 100 records of less than 200 bytes each.
const MESSAGE_MAX: usize = 256 * 1024;
/// Longest location in bytes. It becomes a part of every record of its message, and a message may
/// have thousands of them.
const LOCATION_MAX: usize = 127;
/// The most rejected records of one message that become one frame each. From the next one on, the
/// rest of the message is one rejected text. A sender packs at most 100 records.
const REJECTS_MAX: u64 = 1000;
/// The most bytes of a rejected text in one frame. Acknowledged bytes are kept in as many frames as
/// they need. Of other bytes one frame is enough to recognise them, and a flood stays small.
const REJECT_MAX: usize = 4096;
const PING_EVERY: Duration = Duration::from_secs(15);
/// The keys that the box asks a version 2 sender to put into a passing.
const WANTED: &str = "c|t|d|dv|re|an|h|amd";
const RECORD: usize = 39;
pub(super) const NAME: &str = "mylaps";

/// Makes a value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let mut mylaps = Mylaps::default();
    for (key, value) in settings {
        let wrong = |allowed| options::wrong(NAME, key, value, allowed);
        match (key.as_str(), value.as_str()) {
            ("version", "1") => mylaps.version = Version::One,
            ("version", "2") => mylaps.version = Version::Two,
            ("version", _) => return Err(wrong("the version is 1 or 2")),
            ("name", name) if is_name(name) => mylaps.name = name.to_owned(),
            ("name", _) => return Err(wrong("the name is 1 to 32 printable ASCII characters without `@` and `$`")),
            _ => return Err(wrong("the options are `version` (1 or 2) and `name` (how we call ourselves)")),
        }
    }
    Ok(Box::new(mylaps))
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'@' && byte != b'$')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

struct Mylaps {
    version: Version,
    name: String,
    /// The message so far, at most [`MESSAGE_MAX`] bytes.
    message: Vec<u8>,
    /// The message was too long: everything up to the next `$` belongs to it.
    skipping: bool,
    last_ping: Duration,
    /// The number of records that could not be read and were acknowledged.
    unread: u64,
}

impl Default for Mylaps {
    fn default() -> Self {
        Self {
            version: Version::Two,
            name: "passbridge".to_owned(),
            message: Vec::new(),
            skipping: false,
            last_ping: Duration::ZERO,
            unread: 0,
        }
    }
}

impl Protocol for Mylaps {
    fn feed(&mut self, mut bytes: &[u8], out: &mut Output) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'$', bytes);
            let (piece, rest) = match end {
                Some(at) => (&bytes[..at], &bytes[at + 1..]),
                None => (bytes, &bytes[bytes.len()..]),
            };
            self.append(piece, out);
            if end.is_some() {
                let message = std::mem::take(&mut self.message);
                if !std::mem::take(&mut self.skipping) {
                    self.message(&message, out);
                }
                self.message = message; // keeps its capacity
                self.message.clear();
            }
            bytes = rest;
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        if up.saturating_sub(self.last_ping) >= PING_EVERY {
            self.last_ping = up;
            out.reply(format!("{}@Ping@$", self.name));
        }
    }

    fn rewind(&mut self, _range: &Range, _out: &mut Output) -> Result<(), &'static str> {
        Err(
            "MYLAPS cannot be asked from here. Resend in Timing & Scoring; reads we have already are not uploaded twice",
        )
    }

    fn end(&mut self, out: &mut Output) {
        let rest = std::mem::take(&mut self.message);
        self.skipping = false;
        if rest.iter().any(|byte| !is_filler(byte)) {
            reject(Reject::Unfinished, &rest, out);
        }
    }
}

fn is_filler(byte: &u8) -> bool {
    matches!(byte, 0 | b'\r' | b'\n')
}

impl Mylaps {
    fn append(&mut self, mut piece: &[u8], out: &mut Output) {
        if self.message.is_empty() {
            let filler = piece.iter().take_while(|byte| is_filler(byte)).count();
            piece = &piece[filler..];
        }
        if self.skipping {
            return;
        }
        let room = MESSAGE_MAX - self.message.len();
        self.message.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            reject(Reject::TooLong, &self.message, out);
            self.message.clear();
            self.skipping = true;
        }
    }

    fn message(&mut self, message: &[u8], out: &mut Output) {
        if message.is_empty() {
            return; // `$$`, or filler before a lone `$`
        }
        let body = message.strip_suffix(b"@").unwrap_or(message);
        let mut fields = body.split(|byte| *byte == b'@');
        let location = fields.next().unwrap_or_default();
        let function = fields.next().unwrap_or_default();
        if function.is_empty() || !function.iter().all(u8::is_ascii_alphanumeric) {
            return reject(Reject::NotMine, message, out);
        }
        let decode: fn(&[u8], &str) -> Result<Frame, Reject> = match function {
            b"Store" => store_record,
            b"Passing" => passing_record,
            b"Marker" => marker_record,
            _ => {
                out.frame(Frame::Info(Info::Alive), message);
                return self.answer(function, out);
            }
        };
        if location.len() > LOCATION_MAX {
            return reject(Reject::Field("location"), message, out);
        }
        let first = location.len() + function.len() + 2; // where the records begin
        let location = text(location);
        let mut records: Vec<&[u8]> = fields.collect();
        // Without a message number the box can acknowledge nothing, but a record in its place is
        // still a read.
        let number = records.pop_if(|last| last.len() < RECORD && !last.contains(&b'='));
        let mut rejected: Option<(u64, Reject)> = None;
        let mut at = first;
        for record in records {
            let begin = at;
            at += record.len() + 1;
            if record.is_empty() {
                continue;
            }
            match decode(record, &location) {
                Ok(frame) => out.frame(frame, record),
                Err(reason) if rejected.is_some_and(|(count, _)| count == REJECTS_MAX) => {
                    reject_all(reason, &message[begin..], out);
                    break;
                }
                Err(reason) => {
                    rejected = Some((rejected.map_or(0, |(count, _)| count) + 1, reason));
                    reject_all(reason, record, out);
                }
            }
        }
        if let Some(number) = number {
            // It is the only field and no number, so it may be a record that was cut short.
            if at == first && !number.trim_ascii().iter().all(u8::is_ascii_digit) {
                reject_all(Reject::Length, number, out);
                rejected = Some((1, Reject::Length));
            }
            self.say_unread(rejected, out);
            let mut ack = format!("{}@Ack", self.name).into_bytes();
            for part in [function, b"@", number, b"@$"] {
                ack.extend_from_slice(part);
            }
            out.reply(ack);
        }
    }

    /// Reports records that could not be read and were acknowledged.
    fn say_unread(&mut self, rejected: Option<(u64, Reject)>, out: &mut Output) {
        let Some((count, reason)) = rejected else { return };
        self.unread += count;
        let records = if self.unread == 1 { "a record".to_owned() } else { format!("{} records", self.unread) };
        let text = format!(
            "{records} of the exporter could not be read (the last one: {reason}). What came is kept as it was, and it does \
             not come again"
        );
        let condition = Info::Condition { code: Condition::RecordUnread, text: Some(text) };
        out.frame(Frame::Info(condition), b"");
    }

    fn answer(&self, function: &[u8], out: &mut Output) {
        let name = &self.name;
        match (function, self.version) {
            (b"Pong", Version::One) => out.reply(format!("{name}@AckPong@$")),
            (b"Pong", Version::Two) => out.reply(format!("{name}@AckPong@Version2.1@{WANTED}@$")),
            (b"Ping", _) => out.reply(format!("{name}@AckPing@$")),
            _ => {}
        }
    }
}

fn reject(reason: Reject, raw: &[u8], out: &mut Output) {
    out.frame(Frame::Rejected(reason), &raw[..raw.len().min(REJECT_MAX)]);
}

/// Keeps all bytes, in as many frames as they need.
fn reject_all(reason: Reject, raw: &[u8], out: &mut Output) {
    raw.chunks(REJECT_MAX).for_each(|part| out.frame(Frame::Rejected(reason), part));
}

/// A time `hh:mm:ss.kkk`, also with an hour of one digit.
fn clock(text: &str) -> Result<Time, Reject> {
    let padded = text.find(':').filter(|at| *at == 1).map(|_| format!("0{text}"));
    civil::time_of_day(padded.as_deref().unwrap_or(text)).ok_or(Reject::Field("time"))
}

/// A trimmed field as a label. `None`: the field is empty.
fn label(field: &str) -> Option<Label> {
    Some(field.trim()).filter(|field| !field.is_empty()).map(|field| Label::Text(field.into()))
}

fn place(location: &str) -> Option<Box<str>> {
    Some(location).filter(|location| !location.is_empty()).map(Into::into)
}

fn stamp(date: Option<Date>, time: Time) -> Stamp {
    match date {
        Some(date) => Stamp::Local(date.to_datetime(time)),
        None => Stamp::TimeOfDay { time, day: None },
    }
}

/// A date `yyMMdd`. If it is blank or all zeros, the date of the clock was never set.
fn date(field: &str) -> Result<Option<Date>, Reject> {
    let field = field.trim();
    if field.bytes().all(|byte| byte == b'0') {
        return Ok(None);
    }
    civil::short_date(field).map(Some).ok_or(Reject::Field("date"))
}

fn store_record(record: &[u8], location: &str) -> Result<Frame, Reject> {
    if record.len() != RECORD {
        return Err(Reject::Length);
    }
    let (body, checksum) = record.split_at(RECORD - 2);
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if !format!("{sum:02X}").as_bytes().eq_ignore_ascii_case(checksum) {
        return Err(Reject::Checksum);
    }
    // The positions count characters. All fields except the chip are ASCII, so a byte is a
    // character here (never cut a `str`).
    let field = |from: usize, length: usize| text(&body[from..from + length]);
    let chip = field(0, 7);
    let chip = chip.trim();
    if chip.is_empty() {
        return Err(Reject::Field("chip"));
    }
    let time = clock(field(7, 12).trim())?;
    let mut read = ChipRead::new(chip, stamp(date(&field(31, 6))?, time));
    read.device = label(&field(19, 2));
    read.reader = label(&field(21, 2));
    read.antenna = label(&field(23, 1));
    read.seq = u64::from_str_radix(field(27, 4).trim(), 16).ok();
    read.location = place(location);
    Ok(Frame::Read(read))
}

/// The fields of `k=v|k=v`, without the empty ones.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn of(record: &'a str) -> Self {
        let pairs = record.split('|').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.trim(), value.trim())).filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first value of `key`.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    /// The stamp from `t`, with `d` beside it or (from some senders) a whole date in front of it.
    /// `None`: the record has no `t`.
    fn stamp(&self) -> Result<Option<Stamp>, Reject> {
        let Some(when) = self.get("t") else { return Ok(None) };
        if let Some((day, time)) = when.split_once([' ', 'T']) {
            let day = civil::date(day).ok_or(Reject::Field("date"))?;
            return Ok(Some(stamp(Some(day), clock(time.trim())?)));
        }
        let time = clock(when)?;
        Ok(Some(stamp(date(self.get("d").unwrap_or(""))?, time)))
    }
}

fn passing_record(record: &[u8], location: &str) -> Result<Frame, Reject> {
    let record = text(record);
    let pairs = Pairs::of(&record);
    let chip = pairs.get("c").ok_or(Reject::Field("chip"))?;
    let stamp = pairs.stamp()?.ok_or(Reject::Field("time"))?;
    let mut read = ChipRead::new(chip, stamp);
    read.device = pairs.get("dv").and_then(label);
    read.reader = pairs.get("re").and_then(label);
    read.antenna = pairs.get("an").and_then(label);
    read.hits = pairs.get("h").and_then(|hits| hits.parse().ok());
    // Whole dBm. A decimal is cut off.
    read.rssi = pairs.get("amd").and_then(|dbm| dbm.split(['.', ',']).next()?.parse().ok());
    read.location = place(location);
    Ok(Frame::Read(read))
}

fn marker_record(record: &[u8], location: &str) -> Result<Frame, Reject> {
    let record = text(record);
    let pairs = Pairs::of(&record);
    let stamp = pairs.stamp()?;
    let kind = pairs.get("mt");
    let name = pairs.get("n");
    if stamp.is_none() && kind.is_none() && name.is_none() {
        return Err(Reject::Field("time"));
    }
    Ok(Frame::Marker(Marker {
        kind: kind.unwrap_or("Marker").into(),
        name: name.map(Into::into),
        stamp,
        reader: None,
        location: place(location),
        position: None,
        through: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::Item;

    const STORE: &[u8] =
        b"MTB@Store@KV8658316:13:57.417 3 0F  1000025030870@TC3970116:14:00.638 3 0F  1000125030857@ 2@$";

    fn with(settings: &[(&str, &str)]) -> Box<dyn Protocol> {
        make(&settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()).unwrap()
    }

    fn fed(input: &[u8]) -> Vec<Item> {
        let mut out = Output::default();
        let mut protocol = with(&[]);
        protocol.feed(input, &mut out);
        out.items
    }

    fn replies(items: &[Item]) -> Vec<String> {
        let reply = |item: &Item| match item {
            Item::Reply(bytes) => Some(text(bytes).into_owned()),
            Item::Frame(_) | Item::HangUp(_) => None,
        };
        items.iter().filter_map(reply).collect()
    }

    fn frames(items: &[Item]) -> Vec<&Frame> {
        fn frame(item: &Item) -> Option<&Frame> {
            match item {
                Item::Frame(framed) => Some(&framed.frame),
                Item::Reply(_) | Item::HangUp(_) => None,
            }
        }
        items.iter().filter_map(frame).collect()
    }

    fn read(frame: &Frame) -> &ChipRead {
        let Frame::Read(read) = frame else { panic!("not a read: {frame:?}") };
        read
    }

    #[test]
    fn the_ack_of_a_message_comes_after_all_of_its_reads_and_echoes_the_number_byte_for_byte() {
        let items = fed(STORE);
        assert_eq!(items.len(), 3);
        assert_eq!(items[2], Item::Reply(b"passbridge@AckStore@ 2@$".to_vec()));
        let frames = frames(&items);
        let first = read(frames[0]);
        assert_eq!((&*first.chip, first.stamp.to_string()), ("KV86583", "2025-03-08T16:13:57.417".to_owned()));
        assert_eq!((&first.device, &first.reader, &first.antenna), (&label("3"), &label("0"), &label("F")));
        assert_eq!((first.seq, first.position.is_some(), first.location.as_deref()), (Some(0), false, Some("MTB")));
        assert_eq!(read(frames[1]).seq, Some(1));
        let Item::Frame(framed) = &items[0] else { panic!() };
        assert_eq!(&*framed.raw, b"KV8658316:13:57.417 3 0F  1000025030870");
    }

    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_were_cut() {
        let input = [b"\0\r\nF@Ping@$\r\n$".as_slice(), STORE, b"nonsense$F@Pong@$"].concat();
        let whole = fed(&input);
        let mut out = Output::default();
        let mut protocol = with(&[]);
        for byte in &input {
            protocol.feed(&[*byte], &mut out);
        }
        assert_eq!(out.items, whole);
        assert_eq!(replies(&whole).len(), 3);
    }

    #[test]
    fn a_repeated_message_has_the_identity_of_the_first_whatever_its_number() {
        let again = String::from_utf8(STORE.to_vec()).unwrap().replace("@ 2@$", "@77@$");
        let (first, second) = (fed(STORE), fed(again.as_bytes()));
        assert_eq!(read(frames(&first)[0]).identity(), read(frames(&second)[0]).identity());
        let of = |record: &str| {
            let items = fed(format!("F@Passing@{record}@1@$").as_bytes());
            read(frames(&items)[0]).identity()
        };
        assert_ne!(of("c=A|t=10:00:00.000|d=250308|dv=1|re=0"), of("c=A|t=10:00:00.000|d=250308|dv=2|re=0"));
        assert_ne!(of("c=A|t=10:00:00.000|d=250308|dv=1|re=0"), of("c=A|t=10:00:00.000|d=250308|dv=0|re=1"));
    }

    #[test]
    fn a_message_with_undecodable_records_is_still_acknowledged_and_every_record_is_kept() {
        let cases: [(&[u8], Reject); 5] = [
            (b"X@Store@KV8658316:13:57.417 3 0F  1000025030871@3@$", Reject::Checksum),
            (b"X@Store@DK5M6M9 12:15:05.61 1 1FFFFFFFF 1FFFFFF0908033F@3@$", Reject::Length),
            (b"X@Passing@t=10:00:00.000@3@$", Reject::Field("chip")),
            (b"X@Passing@c=A|t=25:00:00.000@3@$", Reject::Field("time")),
            (b"X@Passing@c=A|t=10:00:00.000|d=251332@3@$", Reject::Field("date")),
        ];
        for (input, reason) in cases {
            let items = fed(input);
            let [Frame::Rejected(rejected), Frame::Info(Info::Condition { code, text: Some(_) })] = frames(&items)[..]
            else {
                panic!("{}: {items:?}", text(input))
            };
            assert_eq!((*rejected, *code), (reason, Condition::RecordUnread), "{}", text(input));
            assert_eq!(replies(&items).len(), 1);
        }
    }

    #[test]
    fn what_is_acknowledged_and_cannot_be_read_is_kept_to_its_last_byte() {
        let long = format!("t=99:00:00|c=A|x={}", "y".repeat(3 * REJECT_MAX));
        let many = "c=A@".repeat(3 * REJECTS_MAX as usize);
        for records in [long.as_str(), many.trim_end_matches('@'), "KV8658316:13:57.417 3 0", "c=A@t=10:00:00.000|c=B"]
        {
            let message = match records.contains('=') {
                true => format!("F@Passing@{records}@7@$"),
                false => format!("F@Store@{records}@$"),
            };
            let items = fed(message.as_bytes());
            let raw = |item: &Item| match item {
                Item::Frame(framed) if !framed.raw.is_empty() => {
                    assert!(framed.raw.len() <= REJECT_MAX);
                    Some(text(&framed.raw).into_owned())
                }
                _ => None,
            };
            let kept: String = items.iter().filter_map(raw).collect();
            let wanted = |text: &str| text.replace('@', "");
            assert_eq!(wanted(&kept).trim_end_matches('7'), wanted(records).trim_end_matches('7'));
            assert!(matches!(items.last(), Some(Item::Reply(_))), "it is acknowledged behind all of it");
            let told = frames(&items).into_iter().filter(|frame| matches!(frame, Frame::Info(Info::Condition { .. })));
            assert_eq!(told.count(), 1, "{records:.40}");
        }
        assert_eq!(
            frames(&fed(b"F@Passing@5@$F@Passing@c=A|t=10:00:00@6@$")).len(),
            1,
            "all was read: nothing is told"
        );
    }

    #[test]
    fn an_hour_of_one_digit_is_read() {
        for (record, stamp) in [
            ("t=1:12:21.830|c=A|d=260101", "2026-01-01T01:12:21.830"),
            ("t=2026-01-01 1:12:21.83|c=A", "2026-01-01T01:12:21.830"),
            ("t=9:59:59|c=A", "09:59:59.000"),
        ] {
            let items = fed(format!("F@Passing@{record}@1@$").as_bytes());
            assert_eq!(read(frames(&items)[0]).stamp.to_string(), stamp, "{record}");
        }
        for time in [":12:21.830", "1:2:21.830", "001:12:21.8", "1:12:60.0"] {
            let items = fed(format!("F@Passing@t={time}|c=A@1@$").as_bytes());
            assert!(matches!(frames(&items)[0], Frame::Rejected(_)), "{time}");
        }
    }

    #[test]
    fn our_answer_to_the_hello_chooses_the_version() {
        let hello = |mut protocol: Box<dyn Protocol>| {
            let mut out = Output::default();
            protocol.feed(b"Finish@Pong@$", &mut out);
            replies(&out.items).remove(0)
        };
        assert_eq!(hello(with(&[])), "passbridge@AckPong@Version2.1@c|t|d|dv|re|an|h|amd@$");
        assert_eq!(hello(with(&[("version", "1"), ("name", "GW")])), "GW@AckPong@$");
    }

    #[test]
    fn a_wrong_option_is_refused_with_what_would_be_right() {
        for (key, value) in [("version", "3"), ("name", "a@b"), ("name", ""), ("port", "1")] {
            let settings = Settings::from([(key.to_owned(), value.to_owned())]);
            let error = make(&settings).err().unwrap();
            assert_eq!((error.key.as_str(), error.value.as_str()), (key, value));
        }
    }

    #[test]
    fn version_2_keys_come_in_any_order_and_a_missing_date_is_no_date() {
        let items =
            fed(b"F@Passing@h=3|amd=-61.5|an=00001111|re=0|dv=4|utc=1339002690904|t=13:11:30.904|c=0000041@9@$");
        let frames = frames(&items);
        let read = read(frames[0]);
        assert_eq!(read.stamp.to_string(), "13:11:30.904");
        assert_eq!((read.hits, read.rssi, &read.antenna), (Some(3), Some(-61), &label("00001111")));
        assert_eq!(replies(&items), ["passbridge@AckPassing@9@$"]);
    }

    #[test]
    fn a_gun_is_a_marker_with_or_without_a_date() {
        let items = fed(b"F@Marker@t=11:03:40.347|mt=Gunshot|n=Gunshot 1@t=2025-03-08 11:03:40.347|mt=Gunshot@4@$");
        let stamps = frames(&items).into_iter().map(|frame| match frame {
            Frame::Marker(marker) => (marker.name.as_deref(), marker.stamp.unwrap().to_string()),
            other => panic!("{other:?}"),
        });
        let expected = [(Some("Gunshot 1"), "11:03:40.347".to_owned()), (None, "2025-03-08T11:03:40.347".to_owned())];
        assert_eq!(stamps.collect::<Vec<_>>(), expected);
        assert_eq!(replies(&items), ["passbridge@AckMarker@4@$"]);
    }

    #[test]
    fn a_location_that_is_not_utf_8_is_read_as_latin_1() {
        let items = fed(b"Z\xfcrich@Passing@c=A|t=10:00:00.000@1@$");
        assert_eq!(read(frames(&items)[0]).location.as_deref(), Some("Z\u{fc}rich"));
    }

    #[test]
    fn a_message_without_a_number_keeps_its_reads() {
        let items = fed(b"F@Passing@c=A|t=10:00:00.000@$F@Store@$F@Passing@5@$");
        assert_eq!(&*read(frames(&items)[0]).chip, "A");
        assert_eq!(replies(&items), ["passbridge@AckPassing@5@$"]);
    }

    #[test]
    fn a_message_without_an_end_is_given_up_at_the_limit_and_the_next_one_is_read() {
        let mut protocol = with(&[]);
        let mut out = Output::default();
        for _ in 0..100 {
            protocol.feed(&[b'x'; 10_000], &mut out);
        }
        protocol.feed(b"rest@$F@Passing@c=A|t=10:00:00.000@1@$", &mut out);
        let frames = frames(&out.items);
        assert_eq!(frames[0], &Frame::Rejected(Reject::TooLong));
        assert_eq!((&*read(frames[1]).chip, frames.len()), ("A", 2));
    }

    #[test]
    fn what_a_cut_connection_left_is_kept_as_unfinished_and_silence_is_not() {
        let mut protocol = with(&[]);
        let mut out = Output::default();
        protocol.feed(b"F@Ping@$\r\n", &mut out);
        protocol.end(&mut out);
        assert_eq!(frames(&out.items).len(), 1);
        protocol.feed(b"F@Passing@c=A|t=10", &mut out);
        protocol.end(&mut out);
        assert_eq!(frames(&out.items)[1], &Frame::Rejected(Reject::Unfinished));
    }

    #[test]
    fn an_idle_link_is_asked_for_a_life_sign_every_quarter_minute() {
        let mut protocol = with(&[]);
        let mut out = Output::default();
        for second in 1..=60 {
            protocol.tick(Duration::from_secs(second), &mut out);
        }
        assert_eq!(replies(&out.items), ["passbridge@Ping@$"; 4]);
    }
}
