//! ALGE Timy, TdC 8000 and TdC 8001: a chronometer that prints its impulses on a serial line. It knows start numbers and
//! channels, no chips.
//!
//! Evidence: high for the line (a vendor's manual, real lines from three sources), low for the checksum (one source).
//!
//! ```text
//! 0    1–4    5         6–7      8                 10–22                24–25   26 characters, then CR (LF in dumps)
//! flag number modifier  channel  M = by hand, or   HH:MM:SS.ffff,       group
//!                                blank             padded with blanks
//! n0034, n0000b         the start number that is next: not an impulse
//! 12:34:56.7            the running time, where the display output is on: not an impulse
//! ```
//!
//! Flags: blank an impulse, `?` one without a valid start number, `c` one that is annulled, letters for other kinds. Channels:
//! `C0` start, `C1` finish, to `C8`; `RT`, `TT` and `DT` are *durations* that the device computed (run, total, difference).
//! Line: 8N1, 9600 baud (TdC, and Timy as delivered), 38400 for "PC-Timer".
//!
//! What becomes of it:
//! * An impulse is a read whose chip is the start number without leading zeros (`35`); one without a valid number is `?34`,
//!   so that it never counts for athlete 34. The channel is the antenna; `manual` as device is a hand that pressed the button.
//! * `c` is a marker, `cleared`, with number and channel: the impulse it annuls was kept and may be in the cloud
//!   already, so a person must see it. Durations and other kinds are markers too: none of them is a time of day.
//! * The time has no date; it wraps at midnight.
//! * Checksum (`CHK1` in the device): the sum of the 26 bytes, low 8 bits, each half + 0x30. A line of 28 characters must
//!   have a right one; with the option `checksum = true` a line without one is rejected.
//!
//! Nothing is sent: the stored memory is printed by somebody at the device (the same lines, which are then known repeats).

use jiff::civil::Time;

use crate::decoders::line::{Line, Lines};
use crate::decoders::{Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, civil, options};
use crate::model::chip::{ChipRead, Label, Marker, Stamp};

const LINE: usize = 26;

/// Its name in the configuration.
pub(super) const NAME: &str = "timy";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `checksum`: `true` where the device was set to send one (CHK1), else `false`";
    let checked = options::one(NAME, settings, ("checksum", options::SWITCH), allowed)?.unwrap_or(false);
    Ok(Box::new(Timy { lines: Lines::default(), checked }))
}

struct Timy {
    lines: Lines,
    /// Every line must have a checksum.
    checked: bool,
}

impl Protocol for Timy {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        let checked = self.checked;
        self.lines.feed(bytes, |line| take(line, checked, out));
    }

    fn rewind(&mut self, _range: &Range, _out: &mut Output) -> Result<(), &'static str> {
        Err("a Timy is not asked from here: print its memory at the device; what is known already is not sent twice")
    }

    fn end(&mut self, out: &mut Output) {
        // A line that is whole but for its end is taken; half a line is half a time.
        let checked = self.checked;
        self.lines.end(|line| match line {
            Line::Whole(bytes) if bytes.len() < LINE => out.frame(Frame::Rejected(Reject::Unfinished), bytes),
            line => take(line, checked, out),
        });
    }
}

fn take(line: Line<'_>, checked: bool, out: &mut Output) {
    match line {
        Line::TooLong(bytes) => out.frame(Frame::Rejected(Reject::TooLong), bytes),
        Line::Whole(b"") => {}
        Line::Whole(bytes) => out.frame(decode(bytes, checked).unwrap_or_else(Frame::Rejected), bytes),
    }
}

fn decode(line: &[u8], checked: bool) -> Result<Frame, Reject> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii()).ok_or(Reject::NotMine)?;
    if is_number_line(text) || is_running_time(text) {
        return Ok(Frame::Info(Info::Alive));
    }
    match text.len() {
        LINE if checked => return Err(Reject::Checksum),
        LINE => {}
        length if length == LINE + 2 => verify(line)?,
        _ => return Err(Reject::Length),
    }
    impulse(&text[..LINE])
}

fn impulse(line: &str) -> Result<Frame, Reject> {
    let number = line[1..5].trim();
    if !number.is_empty() && !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reject::Field("number"));
    }
    let number = number.trim_start_matches('0');
    let number = if number.is_empty() { "0" } else { number };
    let channel = &line[6..8];
    let by_hand = match &line[8..10] {
        "M " => true,
        "  " => false,
        _ => return Err(Reject::Field("channel")),
    };
    let time = &line[10..23];
    if &line[23..24] != " " {
        return Err(Reject::Length);
    }
    match channel.as_bytes() {
        [b'C', b'0'..=b'8'] => {}
        b"RT" | b"TT" | b"DT" => {
            let name = format!("{number} {}", time.trim());
            return Ok(marker(channel, &name, None));
        }
        _ => return Err(Reject::Field("channel")),
    }
    let time = civil::fine_time_of_day(time.trim_end(), 4).ok_or(Reject::Field("time"))?;
    let chip = match &line[..1] {
        " " => number.to_owned(),
        "?" => format!("?{number}"),
        "c" => return Ok(marker("cleared", &format!("{number} {channel}"), Some(time))),
        flag if flag.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            return Ok(marker(flag, &format!("{number} {channel}"), Some(time)));
        }
        _ => return Err(Reject::Field("flag")),
    };
    let mut read = ChipRead::new(chip, Stamp::TimeOfDay { time, day: None });
    read.antenna = Some(Label::Text(channel.into()));
    read.device = by_hand.then(|| Label::Text("manual".into()));
    Ok(Frame::Read(read))
}

fn marker(kind: &str, name: &str, time: Option<Time>) -> Frame {
    let stamp = time.map(|time| Stamp::TimeOfDay { time, day: None });
    Frame::Marker(Marker {
        kind: kind.into(),
        name: Some(name.into()),
        stamp,
        reader: None,
        location: None,
        position: None,
        through: None,
    })
}

/// `n` and four digits, and perhaps a letter.
fn is_number_line(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 5 | 6)
        && bytes[0] == b'n'
        && bytes[1..5].iter().all(u8::is_ascii_digit)
        && bytes[5..].iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b' ')
}

fn is_running_time(text: &str) -> bool {
    let text = text.trim();
    (8..=13).contains(&text.len()) && civil::fine_time_of_day(text, 4).is_some()
}

/// The two characters behind the line: its sum, each half plus 0x30 (so 10 to 15 are `:` to `?`).
fn verify(line: &[u8]) -> Result<(), Reject> {
    let (body, checksum) = line.split_at(LINE);
    let sum = body.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if checksum == [0x30 + (sum >> 4), 0x30 + (sum & 15)] { Ok(()) } else { Err(Reject::Checksum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> ChipRead {
        match decode(line.as_bytes(), false) {
            Ok(Frame::Read(read)) => read,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn marked(line: &str) -> Marker {
        match decode(line.as_bytes(), false) {
            Ok(Frame::Marker(marker)) => marker,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_impulse_without_a_start_number_is_nobodys() {
        assert_eq!(&*read(" 0035 C0M 21:46:36.3900 00").chip, "35");
        assert_eq!(&*read("?0034 C1M 21:46:48.123  00").chip, "?34");
    }

    #[test]
    fn durations_and_annulled_impulses_are_markers_and_durations_have_no_time() {
        let run = marked(" 0016rRT  00:00:05.22   09");
        assert_eq!((&*run.kind, run.name.as_deref(), run.stamp), ("RT", Some("16 00:00:05.22"), None));
        let annulled = marked("c0001 C0M 09:00:38.7600 00");
        assert_eq!((&*annulled.kind, annulled.name.as_deref()), ("cleared", Some("1 C0")));
        assert_eq!(annulled.stamp.unwrap().to_string(), "09:00:38.760");
    }

    #[test]
    fn a_wrong_checksum_is_never_read_and_a_missing_one_only_where_none_is_expected() {
        let line = b" 0007 C1  12:34:56.7890 00>:";
        assert!(decode(line, true).is_ok() && decode(line, false).is_ok());
        assert_eq!(decode(b" 0007 C1  12:34:56.7891 00>:", false), Err(Reject::Checksum));
        assert_eq!(decode(&line[..LINE], true), Err(Reject::Checksum));
        assert!(decode(b" 0008 C0  01:02:03.4567 12=<", true).is_ok());
    }

    #[test]
    fn the_running_time_and_the_next_number_are_no_impulses() {
        for line in ["12:34:56.7", "   12:34:56", "n0034", "n0000b"] {
            assert_eq!(decode(line.as_bytes(), false), Ok(Frame::Info(Info::Alive)), "{line}");
        }
    }
}
