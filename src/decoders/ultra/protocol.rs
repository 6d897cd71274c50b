//! RFID Timing Systems Ultra and Joey: a TCP server on port 23 (no telnet) that streams lines and stores every read under a
//! running number, the LogID.
//!
//! Evidence: high for reads (vendor's manual, four programs, one real line), medium for the rewind (the sources
//! differ in two bytes, see below). No real box was connected.
//!
//! ```text
//! Connected,1170518701                        banner: seconds of the last read it delivered
//! V=25.0000                                   voltage, every 2 to 10 s: the life sign
//! 0,11055,1170518701,698,1,-71,0,2,1,0000000000000000,0,29319        a read; LF ends it
//! | |     |          |   | |   | | | reader's time    | LogID
//! | chip  seconds    ms  | dBm | | box number 0–255   start time, else 0
//! 0 or 1  since 1980     |     | reader 1, 2; 3 the start gate
//!                        antenna; 0 a start event     1: rewound
//! S=11    9:05:03 2-2-2017 (0)    U..  u..    answers: reading, clock, settings
//! ? r 6<pp><first>CR<last>CR                  questions, bare characters; <pp> is `00`, or two NUL bytes
//! ```
//!
//! * Seconds count from 1980-01-01 of the box's *wall clock* (three of four programs agree); milliseconds are not padded.
//! * Column 10 may be eight raw bytes on older firmware, any of which may be a comma or a line end. A line is therefore first
//!   read as text; only if that fails are the eight bytes behind the ninth comma skipped as they are.
//! * The button of the start gate is a read of chip 0 at antenna 0: a marker (`start`), for it is no chip.
//! * Binary status (0x03, length, bytes) is skipped at the beginning of a line. Whether the length
//!   counts itself and the 0x03, the firmware decides: it does where a line begins behind it then,
//!   else it does not.
//! * There may be blanks before a chip, and a column behind the LogID.
//! * The place of a read is box number and LogID; gaps are asked for by number ([`crate::decoders::gaps`]). A LogID that says another
//!   read than before means that the log was cleared, whatever the clock shows: at each connection the last one held is
//!   asked for again and compared. The two bytes behind `6` are the characters `00` in the vendor's manual and two NUL
//!   bytes in the vendor's own program: option `rewind_prefix`, `00` (default) or `nul`. Where a box does not answer to
//!   one, the gap is told as a problem: try the other.
//!
//! Nothing is sent but `?`, `r` and the rewind. `R`, `S`, `7`, `s`, `t` and `u` start, stop or set the box.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time, date};

use crate::decoders::gaps::{Came, Gaps};
use crate::decoders::line::LIMIT;
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Label, Marker, Position, Stamp, StoredRanges};

/// How often the clock and the state are asked for.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// Volts below which the battery is called low, and above which it is not any more.
const LOW_V: (f64, f64) = (23.0, 23.5);
/// Columns of a read that are used. There may be one more; two more lines run together would be
/// many more.
const COLUMNS: usize = 12;
/// Bytes that tell the beginning of a line from anything else, with the end of a line before it.
const BEGINNING: usize = 5;

/// Its name in the configuration.
pub(super) const NAME: &str = "ultra";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `rewind_prefix`: `00` (as in the manual) or `nul` (as the vendor's program)";
    let prefix = options::one(NAME, settings, ("rewind_prefix", &[("00", *b"00"), ("nul", [0, 0])]), allowed)?;
    Ok(Box::new(Ultra {
        held: Vec::new(),
        searched: 0,
        skipping: false,
        gaps: Gaps::new(StoredRanges::default(), false, true),
        prefix: prefix.unwrap_or(*b"00"),
        asked: Duration::ZERO,
        low: None,
        stopped: None,
    }))
}

struct Ultra {
    /// What is not taken yet; at most [`LIMIT`] bytes and the piece being fed.
    held: Vec<u8>,
    /// Bytes of `held` in which there is no end of a line.
    searched: usize,
    /// In the rest of a line that was too long.
    skipping: bool,
    gaps: Gaps,
    prefix: [u8; 2],
    asked: Duration,
    /// What was told of the battery.
    low: Option<bool>,
    /// What was told of the box not reading.
    stopped: Option<bool>,
}

impl Protocol for Ultra {
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        self.gaps = Gaps::new(held, rewind, true);
        out.reply(*b"?r");
        self.ask(out);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        // Piece by piece, so that what is held stays small.
        for piece in bytes.chunks(LIMIT) {
            self.held.extend_from_slice(piece);
            self.take_lines(false, out);
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.gaps.tick(up, out);
        if up.saturating_sub(self.asked) >= ASK_EVERY {
            self.asked = up;
            out.reply(*b"?r");
        }
        self.ask(out);
    }

    fn rewind(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        self.gaps.by_hand(range)?;
        self.ask(out);
        Ok(())
    }

    fn end(&mut self, out: &mut Output) {
        self.take_lines(true, out);
        if !self.held.is_empty() && !std::mem::take(&mut self.skipping) {
            out.frame(Frame::Rejected(Reject::Unfinished), &self.held);
        }
        self.held.clear();
        self.searched = 0;
    }
}

impl Ultra {
    fn ask(&mut self, out: &mut Output) {
        while let Some(ask) = self.gaps.ask() {
            let mut question = vec![b'6'];
            question.extend_from_slice(&self.prefix);
            question.extend_from_slice(format!("{}\r{}\r", ask.from, ask.to).as_bytes());
            out.reply(question);
        }
    }

    /// Takes every line that is whole. `last`: no more bytes come.
    fn take_lines(&mut self, last: bool, out: &mut Output) {
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        loop {
            if let (false, [3, ..]) = (self.skipping, rest) {
                let Some(length) = status_length(rest, last) else { break };
                out.frame(Frame::Info(Info::Alive), &rest[..length]);
                (rest, self.searched) = (&rest[length..], 0);
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', &rest[self.searched..]).map(|at| at + self.searched) else { break };
            let taken = if std::mem::take(&mut self.skipping) { Some(end) } else { self.line(rest, end, last, out) };
            let Some(taken) = taken else { break }; // raw bytes, and more of them to come
            (rest, self.searched) = (&rest[taken + 1..], 0);
        }
        if rest.len() > LIMIT {
            if !std::mem::replace(&mut self.skipping, true) {
                out.frame(Frame::Rejected(Reject::TooLong), &rest[..LIMIT]);
            }
            rest = &[];
        }
        if memchr::memchr(b'\n', rest).is_none() {
            self.searched = rest.len();
        }
        self.held = rest.to_vec();
    }

    /// Takes the line that ends at `end`, or the longer one that begins here if it has raw bytes in it. Where the taken
    /// one ends; `None`: that is not known yet.
    fn line(&mut self, bytes: &[u8], end: usize, last: bool, out: &mut Output) -> Option<usize> {
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        if line.is_empty() {
            return Some(end);
        }
        if end > LIMIT {
            out.frame(Frame::Rejected(Reject::TooLong), &bytes[..LIMIT]);
            return Some(end);
        }
        let raw = match self.text_line(line, out) {
            Ok(()) => return Some(end),
            Err(reason) => reason,
        };
        match raw_record(&bytes[..bytes.len().min(LIMIT + 1)]) {
            Raw::Record(columns, end) => {
                if let Ok(record) = Record::of(&columns) {
                    self.record(record, &bytes[..end], out);
                    return Some(end);
                }
            }
            // Only what is in the first bytes decides, or the result would depend on how they were cut.
            Raw::Unfinished if !last && bytes.len() <= LIMIT => return None,
            Raw::Unfinished | Raw::None => {}
        }
        out.frame(Frame::Rejected(raw), line);
        Some(end)
    }

    fn text_line(&mut self, line: &[u8], out: &mut Output) -> Result<(), Reject> {
        let text = std::str::from_utf8(line).map_err(|_| Reject::NotMine)?;
        if let Some(volts) = text.strip_prefix("V=") {
            let volts: f64 = volts.trim().parse().map_err(|_| Reject::Field("voltage"))?;
            out.frame(Frame::Info(Info::Alive), line);
            self.voltage(volts, out);
        } else if let Some(state) = text.strip_prefix("S=") {
            out.frame(Frame::Info(Info::Alive), line);
            self.reading(state.starts_with('1'), out);
        } else if text.starts_with("Connected,") || text.starts_with("1,Connected,") || text.starts_with(['U', 'u']) {
            out.frame(Frame::Info(Info::Alive), line);
        } else if let Some(clock) = clock(text) {
            out.frame(Frame::Info(Info::Clock(Stamp::Local(clock))), line);
        } else {
            let columns: Vec<&str> = text.split(',').collect();
            if !matches!(columns[0], "0" | "1") {
                return Err(Reject::NotMine);
            }
            let (used, more) = columns.split_first_chunk::<COLUMNS>().ok_or(Reject::FieldCount)?;
            if more.len() > 1 {
                return Err(Reject::FieldCount);
            }
            let record = Record::of(used)?;
            self.record(record, line, out);
        }
        Ok(())
    }

    fn record(&mut self, record: Record, raw: &[u8], out: &mut Output) {
        match record {
            Record::Start(marker, at, replay) => {
                if let Some((position, content)) = marker.position.as_ref().zip(marker.content()) {
                    self.gaps.read(&Came { position, content, at, replay }, out); // it has a number of its own: no gap
                }
                out.frame(Frame::Marker(marker), raw);
            }
            Record::Read(read, at) => {
                if let Some(position) = &read.position {
                    let (content, replay) = (read.content(), read.replay);
                    self.gaps.read(&Came { position, content, at, replay }, out);
                }
                out.frame(Frame::Read(read), raw);
            }
        }
        self.ask(out); // here and not after all that came: what is asked must not depend on how it was cut
    }

    fn voltage(&mut self, volts: f64, out: &mut Output) {
        let low = if self.low == Some(true) { volts < LOW_V.1 } else { volts < LOW_V.0 };
        if self.low.replace(low) != Some(low) {
            let text = low.then(|| format!("the battery of the decoder has {volts:.1} V: connect it to power"));
            out.frame(Frame::Info(Info::Condition { code: Condition::LowBattery, text }), b"");
        }
    }

    fn reading(&mut self, reading: bool, out: &mut Output) {
        if self.stopped.replace(!reading) != Some(!reading) {
            let text = "the decoder is connected and not reading chips: start it at the decoder";
            let text = (!reading).then(|| text.to_owned());
            out.frame(Frame::Info(Info::Condition { code: Condition::DecoderNotReading, text }), b"");
        }
    }
}

/// A line with columns.
enum Record {
    /// The read, and its time in milliseconds.
    Read(ChipRead, i64),
    /// The start button, its time in milliseconds, and whether it was stored.
    Start(Marker, i64, bool),
}

impl Record {
    fn of(columns: &[&str; COLUMNS]) -> Result<Self, Reject> {
        let number = |at: usize, name: &'static str| columns[at].parse::<u32>().map_err(|_| Reject::Field(name));
        let seconds = number(2, "seconds")?;
        let millis = number(3, "milliseconds")?.min(1000);
        if millis > 999 {
            return Err(Reject::Field("milliseconds"));
        }
        let ms = i64::from(seconds) * 1000 + i64::from(millis);
        let local = epoch().checked_add(SignedDuration::from_millis(ms)).map_err(|_| Reject::Field("seconds"))?;
        let (antenna, reader, unit) = (number(4, "antenna")?, number(7, "reader")?, number(8, "unit")?);
        let rssi: i32 = columns[5].parse().map_err(|_| Reject::Field("rssi"))?;
        let replay = match columns[6] {
            "0" => false,
            "1" => true,
            _ => return Err(Reject::Field("rewind")),
        };
        let log_id = columns[11].trim_end().parse().map_err(|_| Reject::Field("log_id"))?;
        let chip = columns[1].trim_matches(' ');
        if chip.is_empty() || !chip.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Reject::Field("chip"));
        }
        let reader = Some(Label::Number(reader.into()));
        let stamp = Stamp::Local(local);
        let position = Position { unit: Some(unit.to_string().into()), file: None, number: log_id };
        if chip == "0" && antenna == 0 {
            let name = Some(format!("box {unit}, LogID {log_id}").into());
            let (kind, stamp, position) = ("start".into(), Some(stamp), Some(position));
            let marker = Marker { kind, name, stamp, reader, location: None, position, through: None };
            return Ok(Self::Start(marker, ms, replay));
        }
        let position = Some(position);
        let antenna = Some(Label::Number(antenna.into()));
        Ok(Self::Read(
            ChipRead { antenna, reader, rssi: Some(rssi), position, replay, ..ChipRead::new(chip, stamp) },
            ms,
        ))
    }
}

/// What the seconds count from.
fn epoch() -> DateTime {
    date(1980, 1, 1).at(0, 0, 0, 0)
}

enum Raw<'a> {
    /// Its columns (the tenth empty) and where it ends.
    Record([&'a str; COLUMNS], usize),
    /// It may be one; more bytes will tell.
    Unfinished,
    None,
}

/// A record whose tenth column is eight raw bytes.
fn raw_record(bytes: &[u8]) -> Raw<'_> {
    if !matches!(bytes.first(), Some(b'0' | b'1')) {
        return Raw::None;
    }
    let mut columns = [""; COLUMNS];
    let mut at = 0;
    for column in &mut columns[..9] {
        let Some(end) = memchr::memchr2(b',', b'\n', &bytes[at..]).map(|end| at + end) else { return Raw::None };
        let text = std::str::from_utf8(&bytes[at..end]).ok().filter(|_| bytes[end] == b',');
        let Some(text) = text else { return Raw::None };
        (*column, at) = (text, end + 1);
    }
    match bytes.get(at + 8) {
        None => return Raw::Unfinished,
        Some(b',') => at += 9,
        Some(_) => return Raw::None,
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end) else { return Raw::Unfinished };
    let Ok(tail) = std::str::from_utf8(&bytes[at..end]) else { return Raw::None };
    let tail: Vec<&str> = tail.trim_end_matches('\r').split(',').collect();
    let ([start, log_id] | [start, log_id, _]) = tail[..] else { return Raw::None };
    (columns[10], columns[11]) = (start, log_id);
    Raw::Record(columns, end)
}

/// Bytes of the binary status that `bytes` begins with; `None`: that is not known yet. `last`: no
/// more bytes come.
fn status_length(bytes: &[u8], last: bool) -> Option<usize> {
    let counted = usize::from(*bytes.get(1)?);
    // Looked for in the same bytes however they were cut.
    let behind = bytes.get(counted..).unwrap_or_default();
    if behind.len() < BEGINNING && !last {
        return None;
    }
    let line = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n")).unwrap_or(behind);
    let whole = if counted >= 2 && is_beginning(line) { counted } else { 2 + counted };
    (whole <= bytes.len()).then_some(whole)
}

/// What this decoder says at the beginning of a line, or another status.
fn is_beginning(bytes: &[u8]) -> bool {
    match *bytes {
        [3, ..] => true,
        [b'0' | b'1', b',', chip, ..] => chip.is_ascii_alphanumeric() || chip == b' ',
        [b'V' | b'S', b'=', ..] | [b'C', b'o', b'n', ..] => true,
        [hour, b':', minute, ..] => hour.is_ascii_digit() && minute.is_ascii_digit(),
        [tens, ones, b':', ..] => tens.is_ascii_digit() && ones.is_ascii_digit(),
        _ => false,
    }
}

/// `9:05:03 2-2-2017 (0)`, without padding.
fn clock(text: &str) -> Option<DateTime> {
    let mut parts = text.split_ascii_whitespace();
    let (time, day) = (parts.next()?, parts.next()?);
    let three = |text: &str, by: char| {
        let mut numbers = text.split(by).map(|number| number.parse::<i16>().ok().filter(|number| *number >= 0));
        let three = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(three)
    };
    let small = |number: i16| i8::try_from(number).ok();
    let (hour, minute, second) = three(time, ':')?;
    let (day, month, year) = three(day, '-')?;
    let time = Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    let date = jiff::civil::Date::new(year, small(month)?, small(day)?).ok()?;
    Some(date.to_datetime(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::Item;

    fn ultra() -> Box<dyn Protocol> {
        make(&Settings::new()).unwrap()
    }

    fn line(log_id: u64, chip: &str, seconds: u64) -> String {
        format!("0,{chip},{seconds},5,1,-60,0,1,7,0000000000000000,0,{log_id}\n")
    }

    fn said(out: &mut Output) -> Vec<String> {
        let said = out.items.drain(..).filter_map(|item| match item {
            Item::Reply(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => None,
        });
        said.collect()
    }

    fn fed(bytes: &[u8]) -> Vec<Frame> {
        let (mut protocol, mut out) = (ultra(), Output::default());
        protocol.feed(bytes, &mut out);
        protocol.end(&mut out);
        out.items
            .into_iter()
            .filter_map(|item| if let Item::Frame(framed) = item { Some(framed.frame) } else { None })
            .collect()
    }

    #[test]
    fn gaps_in_the_log_are_asked_for_in_either_spelling() {
        for (option, spelled) in [("00", "6002\r3\r"), ("nul", "6\0\x002\r3\r")] {
            let mut protocol = make(&Settings::from([("rewind_prefix".into(), option.into())])).unwrap();
            let mut out = Output::default();
            protocol.connected(StoredRanges::default(), true, &mut out);
            assert_eq!(said(&mut out), ["?r"]);
            protocol.feed(line(1, "58", 1_462_870_800).as_bytes(), &mut out);
            protocol.feed(line(4, "59", 1_462_870_801).as_bytes(), &mut out);
            assert_eq!(said(&mut out), [spelled]);
        }
    }

    #[test]
    fn the_raw_bytes_of_older_firmware_may_hold_commas_and_line_ends() {
        for raw in [b"\x01\x02\x03\x04\x05\x06\x07\x08", b"\x01,\n\x04,\x06\n\x08", b"\n\n\n\n\n\n\n\n", b",,,,,,,,"] {
            let mut bytes = b"0,58,1462870800,7,2,-55,0,2,12,".to_vec();
            bytes.extend_from_slice(raw);
            bytes.extend_from_slice(b",0,10\n");
            bytes.extend_from_slice(line(11, "59", 1_462_870_801).as_bytes());
            let frames = fed(&bytes);
            let logged: Vec<u64> = frames
                .iter()
                .map(|frame| match frame {
                    Frame::Read(read) => read.position.as_ref().unwrap().number,
                    other => panic!("{raw:?}: {other:?}"),
                })
                .collect();
            assert_eq!(logged, [10, 11], "{raw:?}");
        }
    }

    #[test]
    fn binary_status_is_skipped_with_its_line_ends() {
        let bytes = [b"\x03\x04\n0,\n".as_slice(), line(1, "58", 1_462_870_800).as_bytes()].concat();
        assert!(matches!(fed(&bytes)[..], [Frame::Info(Info::Alive), Frame::Read(_)]));
    }

    #[test]
    fn a_status_whose_length_counts_itself_costs_nothing_of_the_line_behind_it() {
        let read = line(1, "58", 1_462_870_800);
        for length in [2, 3, 4, 64, 255] {
            for (filler, counts) in [(0_u8, true), (0, false), (b'\n', true), (b'\n', false), (b'0', false)] {
                let body = vec![filler; if counts { length - 2 } else { length }];
                let lines = [&read, "V=25.1\n", "S=11\n", "9:05:03 2-2-2017 (0)\n", "Connected,1170518701\n"];
                let ends = ["", "\n", "\r\n"].map(|end| lines.map(|line| format!("{end}{line}")));
                for behind in ends.concat() {
                    let bytes = [&[3, length as u8][..], &body, behind.as_bytes(), read.as_bytes()].concat();
                    let frames = fed(&bytes);
                    let (reads, rejected) = frames.iter().fold((0, 0), |(reads, rejected), frame| match frame {
                        Frame::Read(_) => (reads + 1, rejected),
                        Frame::Rejected(_) => (reads, rejected + 1),
                        _ => (reads, rejected),
                    });
                    let expected = if behind.trim_start().starts_with('0') { 2 } else { 1 };
                    assert_eq!((reads, rejected), (expected, 0), "{length} {filler} {counts} {behind:?}");
                }
            }
        }
        let twice = [&[3, 4, 1, 1][..], &[3, 4, 9, 9], read.as_bytes()].concat();
        assert!(matches!(fed(&twice)[..], [Frame::Info(_), Frame::Info(_), Frame::Read(_)]));
        assert!(matches!(fed(&[3, 2, 7, 7])[..], [Frame::Info(_)]), "nothing behind it");
    }

    #[test]
    fn blanks_before_a_chip_and_a_column_behind_the_log_id_are_taken() {
        for (text, log_id) in [
            ("0,  58,1462870800,5,1,-60,0,1,7,0000000000000000,0,9", Some(9)),
            ("0,58,1462870800,5,1,-60,0,1,7,0000000000000000,0,9,", Some(9)),
            ("0,58,1462870800,5,1,-60,0,1,7,0000000000000000,0,9,abc", Some(9)),
            ("0,58,1462870800,5,1,-60,0,1,7,\x01\x02,\n\x05\x06\x07\x08,0,9,3", Some(9)),
            ("0,58,1462870800,5,1,-60,0,1,7,0000000000000000,0,9,3,4", None),
            ("0,5 8,1462870800,5,1,-60,0,1,7,0000000000000000,0,9", None),
            ("0,  ,1462870800,5,1,-60,0,1,7,0000000000000000,0,9", None),
        ] {
            let frames = fed(format!("{text}\r\n").as_bytes());
            let read = match &frames[0] {
                Frame::Read(read) => Some((&*read.chip, read.position.as_ref().unwrap().number)),
                _ => None,
            };
            assert_eq!(read, log_id.map(|log_id| ("58", log_id)), "{text}");
        }
    }

    #[test]
    fn a_low_battery_and_a_box_that_does_not_read_are_told_once_and_taken_back() {
        let told: Vec<(&str, bool)> = fed(b"V=22.9\nV=23.2\nS=01\nS=01\nV=23.6\nS=11\n")
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Info(Info::Condition { code, text }) => Some((code.word(), text.is_some())),
                _ => None,
            })
            .collect();
        let battery = |low| ("low_battery", low);
        let reading = |stopped| ("decoder_not_reading", stopped);
        assert_eq!(told, [battery(true), reading(true), battery(false), reading(false)]);
    }

    #[test]
    fn a_cleared_log_is_recognised_and_read_from_its_start() {
        let mut protocol = ultra();
        let mut out = Output::default();
        protocol.connected(StoredRanges::default(), true, &mut out);
        for (log_id, seconds) in [(500, 100), (501, 101), (3, 102)] {
            protocol.feed(line(log_id, "58", 1_462_870_000 + seconds).as_bytes(), &mut out);
        }
        let cleared = out
            .items
            .iter()
            .any(|item| matches!(item, Item::Frame(framed) if matches!(framed.frame, Frame::Cleared(_))));
        assert!(cleared);
        assert_eq!(said(&mut out), ["?r", "6001\r2\r"]);
    }

    #[test]
    fn the_start_button_leaves_no_gap_in_the_log() {
        let mut protocol = ultra();
        let mut out = Output::default();
        protocol.connected(StoredRanges::default(), true, &mut out);
        protocol.feed(line(1, "58", 1_462_870_800).as_bytes(), &mut out);
        protocol.feed(b"0,0,1462870801,0,0,0,0,3,7,0000000000000000,1463302800,2\n", &mut out);
        protocol.feed(line(3, "58", 1_462_870_802).as_bytes(), &mut out);
        assert_eq!(said(&mut out), ["?r"]);
    }

    #[test]
    fn the_start_button_is_no_chip() {
        let [Frame::Marker(marker)] = &fed(b"0,0,1462870800,0,0,0,0,3,12,0000000000000000,1463302800,9\n")[..] else {
            panic!()
        };
        assert_eq!((&*marker.kind, &*marker.stamp.unwrap().to_string()), ("start", "2026-05-10T09:00:00.000"));
    }
}
