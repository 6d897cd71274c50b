//! JChip, as CrossMgr's bridge programs speak it: they connect to us (usual port 53135) and stream.
//!
//! Evidence: medium. One family of programs defines it (CrossMgr and its Impinj and Alien bridges); one real line.
//!
//! ```text
//! bridge: N0000impinj-rfid                                   its name; ASCII, every line ends with CR
//! we:     GT                                                 what time is it there?
//! bridge: GT0HHMMSSffffff date=YYYYMMDD                      a 0, the time with 2 to 6 decimals, perhaps the date
//! we:     S0000                                              go on
//! bridge: DJ413A35 10:11:16.4433 10  10000      C7 date=20260412
//!         D, J or A, chip, time, two characters (the second: midnights since the start), a running number of 5 hex
//!         digits, C7, perhaps the date
//! ```
//!
//! The chip code is kept with its leading zeros (CrossMgr strips them). The time is the bridge's wall time; the answer to
//! `GT` measures how far its clock is off, which is shown and not applied: the stamp is data. The count of midnights is
//! not used: when it began to count is not on the wire, and what takes its place is the day of the receipt, with the doubt
//! said. There is no acknowledgement and no rewind; a bridge keeps reads only while it is not connected.

use crate::decoders::line::{Line, Lines};
use crate::decoders::{Frame, Info, Output, Protocol, Reject, SettingError, Settings, civil, options};
use crate::model::chip::{ChipRead, Stamp};

/// Its name in the configuration.
pub(super) const NAME: &str = "jchip";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    options::none(NAME, settings)?;
    Ok(Box::<JChip>::default())
}

#[derive(Default)]
struct JChip {
    lines: Lines,
}

impl Protocol for JChip {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.lines.feed(bytes, |line| take(line, out));
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| {
            let (Line::Whole(bytes) | Line::TooLong(bytes)) = line;
            out.frame(Frame::Rejected(Reject::Unfinished), bytes); // only CR says that a line is whole
        });
    }
}

fn take(line: Line<'_>, out: &mut Output) {
    let bytes = match line {
        Line::TooLong(bytes) => return out.frame(Frame::Rejected(Reject::TooLong), bytes),
        Line::Whole(b"") => return,
        Line::Whole(bytes) => bytes,
    };
    let frame = match bytes {
        [b'D', b'J' | b'A', ..] => read(bytes).unwrap_or_else(Frame::Rejected),
        [b'G', b'T', b'0', ..] => {
            let clock = clock(bytes).map_or(Info::Alive, Info::Clock); // a clock that reads nonsense is no reason to stop
            out.frame(Frame::Info(clock), bytes);
            return out.reply(*b"S0000\r");
        }
        [b'N', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_digit) => {
            out.frame(Frame::Info(Info::Alive), bytes);
            return out.reply(*b"GT\r");
        }
        _ => Frame::Rejected(Reject::NotMine),
    };
    out.frame(frame, bytes);
}

fn read(line: &[u8]) -> Result<Frame, Reject> {
    let line = std::str::from_utf8(line).map_err(|_| Reject::NotMine)?;
    let mut fields = line[2..].split_ascii_whitespace();
    let chip = fields.next().filter(|_| !line[2..].starts_with(' ')).ok_or(Reject::Field("chip"))?;
    let time = fields.next().ok_or(Reject::FieldCount)?;
    let (time, micros) = civil::exact_time_of_day(time, 6).ok_or(Reject::Field("time"))?;
    let mut number = None;
    let mut date = None;
    for field in fields {
        match (field.strip_prefix("date="), field.len()) {
            (Some(day), _) => date = Some(civil::plain_date(day).ok_or(Reject::Field("date"))?),
            (None, 5) => number = u64::from_str_radix(field, 16).ok(),
            _ => {}
        }
    }
    let stamp = date.map_or(Stamp::TimeOfDay { time, day: None }, |date| Stamp::Local(date.to_datetime(time)));
    let mut read = ChipRead::new(chip, stamp);
    (read.seq, read.micros) = (number, micros);
    Ok(Frame::Read(read))
}

/// `GT0HHMMSSff[ffff][ date=YYYYMMDD]`
fn clock(line: &[u8]) -> Option<Stamp> {
    let line = std::str::from_utf8(line).ok()?;
    let (digits, date) = line.strip_prefix("GT0")?.split_once(" date=").unzip();
    let digits = digits.or_else(|| line.strip_prefix("GT0"))?.trim_end();
    if !(8..=12).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = format!("{}:{}:{}.{}", &digits[..2], &digits[2..4], &digits[4..6], &digits[6..]);
    let time = civil::fine_time_of_day(&text, 6)?;
    match date {
        Some(date) => Some(Stamp::Local(civil::plain_date(date.trim())?.to_datetime(time))),
        None => Some(Stamp::TimeOfDay { time, day: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::Item;

    #[test]
    fn a_bridge_is_asked_for_its_time_and_told_to_go_on() {
        let mut out = Output::default();
        let mut protocol = make(&Settings::new()).unwrap();
        protocol.feed(b"N0000impinj-rfid\rGT0111347270000 date=20260412\r", &mut out);
        let replies = out.items.iter().filter_map(|item| match item {
            Item::Reply(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        assert_eq!(replies.collect::<Vec<_>>(), [b"GT\r".as_slice(), b"S0000\r"]);
        let clock = out.items.iter().find_map(|item| match item {
            Item::Frame(framed) => match framed.frame {
                Frame::Info(Info::Clock(stamp)) => Some(stamp.to_string()),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(clock.as_deref(), Some("2026-04-12T11:13:47.270"));
        assert_eq!(clock_text("GT01113472700"), Some("11:13:47.270".into()));
        assert_eq!(clock_text("GT0991347270000"), None);
    }

    fn clock_text(line: &str) -> Option<String> {
        clock(line.as_bytes()).map(|stamp| stamp.to_string())
    }

    #[test]
    fn leading_zeros_of_a_chip_code_stay() {
        let Ok(Frame::Read(read)) = read(b"DJ000035 10:11:16.4433 10  1000F      C7") else { panic!() };
        assert_eq!((&*read.chip, read.seq), ("000035", Some(0x1000f)));
    }
}
