//! ALGE Timy, TdC 8000 and TdC 8001: a chronometer that prints its impulses on a serial line. It knows start numbers and
//! channels, no chips.
//!
//! Evidence: high for the line (a vendor's manual, real lines from three sources, two recorded
//! races), low for the checksum (one source).
//!
//! ```text
//! 0    1–4    5         6–7      8                 10–22                24–25   26 characters, then CR (LF in dumps)
//! flag number modifier  channel  M = by hand, or   HH:MM:SS.ffff,       group
//!                                blank             padded with blanks
//! n0034, n0000b, s0003  the start number that is next, or selected: not an impulse
//! 12:34:56.7            the running time, where the display output is on: not an impulse
//! TIMY: 480170000       a heading of a print-out: not an impulse
//! ```
//!
//! The group may be missing, with the blanks before it; there are one to five decimals, or none;
//! some devices write a `:` before them.
//!
//! Flags: blank an impulse, `t` one that came over ALGE's radio (WTN), `i` one that was entered or
//! corrected by hand at the device, `?` one without a valid start number, `c` one that is annulled,
//! letters for other kinds. Channels: `C0` start, `C1` finish, to `C8`; `RT`, `TT` and `DT` are
//! *durations* that the device computed (run, total, difference). Line: 8N1, 9600 baud (TdC, and
//! Timy as delivered), 38400 for "PC-Timer".
//!
//! What becomes of it:
//! * An impulse is a read whose chip is the start number without leading zeros
//!   (`35`); one without a valid number is `?34`, so that it never counts for athlete 34, and a
//!   doubt says so. The channel is the antenna;
//!   `manual` as device is a hand that pressed the button. What was entered at the device (`i`) is
//!   what the timer there decided: a read.
//! * `c` is a marker, `cleared`, with number and channel: the impulse it annuls was kept and may be in the cloud
//!   already, so a person must see it. Durations and other kinds are markers too: none of them is a time of day.
//! * A channel in lower case (`c0`) is a marker with its time, and a condition tells of it once: of
//!   our sources one takes it for a time of day, and another for a duration.
//! * Durations of a rank or a difference with a third letter (`DTR`) and headings are not kept. A
//!   heading is text with a word in it and without a time, so that what another device sends, or a
//!   damaged impulse, is still rejected.
//! * The time has no date; it wraps at midnight. More than three decimals keep apart what is within
//!   a millisecond.
//! * Checksum (`CHK1` in the device): the sum of the bytes before it, low 8 bits, each half + 0x30.
//!   What has two characters too many must have them right; with the option `checksum = true` a
//!   line without one is rejected.
//!
//! Nothing is sent: the stored memory is printed by somebody at the device (the same lines, which are then known repeats).

use jiff::civil::Time;

use crate::decoders::line::{Line, Lines};
use crate::decoders::{
    Condition, Frame, Info, Output, Protocol, Range, Reject, SettingError, Settings, civil, options,
};
use crate::model::chip::{Caution, ChipRead, Label, Marker, Stamp};

/// A line with its group; what ends before it and has no line end may be half a time.
const LINE: usize = 26;
/// Flag, number, modifier, channel, how, and a blank.
const HEAD: usize = 10;
const CHECKSUM: usize = 2;

/// Its name in the configuration.
pub(super) const NAME: &str = "timy";

/// A value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let allowed = "the one option is `checksum`: `true` where the device was set to send one (CHK1), else `false`";
    let checked = options::one(NAME, settings, ("checksum", options::SWITCH), allowed)?.unwrap_or(false);
    Ok(Box::new(Timy { lines: Lines::default(), form: Form { checked, told: false } }))
}

struct Timy {
    lines: Lines,
    form: Form,
}

/// How lines are read.
struct Form {
    /// Every line must have a checksum.
    checked: bool,
    /// It was told that there are channels in lower case.
    told: bool,
}

impl Protocol for Timy {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        let Self { lines, form } = self;
        lines.feed(bytes, |line| form.take(line, out));
    }

    fn rewind(&mut self, _range: &Range, _out: &mut Output) -> Result<(), &'static str> {
        Err("a Timy is not asked from here: print its memory at the device; what is known already is not sent twice")
    }

    fn end(&mut self, out: &mut Output) {
        // A line that is whole but for its end is taken; half a line is half a time.
        let Self { lines, form } = self;
        lines.end(|line| match line {
            Line::Whole(bytes) if bytes.len() < LINE => out.frame(Frame::Rejected(Reject::Unfinished), bytes),
            line => form.take(line, out),
        });
    }
}

impl Form {
    fn take(&mut self, line: Line<'_>, out: &mut Output) {
        let bytes = match line {
            Line::TooLong(bytes) => return out.frame(Frame::Rejected(Reject::TooLong), bytes),
            Line::Whole(b"") => return,
            Line::Whole(bytes) => bytes,
        };
        let frame = decode(bytes, self.checked).unwrap_or_else(Frame::Rejected);
        let unclear =
            matches!(&frame, Frame::Marker(marker) if marker.kind.starts_with('c') && *marker.kind != *CLEARED);
        out.frame(frame, bytes);
        if unclear && !std::mem::replace(&mut self.told, true) {
            let channel = String::from_utf8_lossy(&bytes[6..8]).into_owned();
            let text = format!(
                "it sends records with the channel `{channel}` in lower case, and nobody is sure whether their times are \
                 times of day or durations. They are kept as markers and not uploaded: compare them with its print"
            );
            let condition = Info::Condition { code: Condition::RecordUnclear, text: Some(text) };
            out.frame(Frame::Info(condition), b"");
        }
    }
}

fn decode(line: &[u8], checked: bool) -> Result<Frame, Reject> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii()).ok_or(Reject::NotMine)?;
    if is_number_line(text) || is_running_time(text) || is_heading(text) {
        return Ok(Frame::Info(Info::Alive));
    }
    let bare = text.len().checked_sub(CHECKSUM).map(|end| &text[..end]);
    // Decimals behind which a checksum of digits follows look like more decimals: it is one where
    // it agrees.
    if let Some(bare) = bare.filter(|_| verify(line).is_ok())
        && let Ok(frame) = record(bare)
    {
        return Ok(frame);
    }
    match record(text) {
        Ok(_) if checked => Err(Reject::Checksum),
        Ok(frame) => Ok(frame),
        // What has two characters too many, and would be whole without them.
        Err(_) if bare.is_some_and(|bare| record(bare).is_ok()) => Err(Reject::Checksum),
        Err(reason) => Err(reason),
    }
}

/// A record without its checksum.
fn record(line: &str) -> Result<Frame, Reject> {
    let (head, tail) = line.split_at_checked(HEAD).ok_or(Reject::Length)?;
    let number = head[1..5].trim();
    if !number.is_empty() && !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reject::Field("number"));
    }
    let number = number.trim_start_matches('0');
    let number = if number.is_empty() { "0" } else { number };
    let channel = &head[6..8];
    // The time, and perhaps the group: two characters.
    let mut parts = tail.split_ascii_whitespace();
    let time = parts.next().filter(|_| !tail.starts_with(' ')).ok_or(Reject::Length)?;
    if parts.next().is_some_and(|group| group.len() != 2) || parts.next().is_some() {
        return Err(Reject::Length);
    }
    let is_impulse = match (channel.as_bytes(), &head[8..10]) {
        (b"RT" | b"TT" | b"DT", "  " | "M ") => return Ok(marker(channel, &format!("{number} {time}"), None)),
        (b"RT" | b"TT" | b"DT", how) if how.starts_with(|how: char| how.is_ascii_uppercase()) && how.ends_with(' ') => {
            return Ok(Frame::Info(Info::Alive)); // the rank or the difference of a result
        }
        ([b'C', b'0'..=b'8'], "  " | "M ") => true,
        ([b'c', b'0'..=b'8'], "  " | "M ") => false,
        _ => return Err(Reject::Field("channel")),
    };
    let by_hand = head.ends_with("M ");
    let (time, micros) = clock(time).ok_or(Reject::Field("time"))?;
    let flag = &head[..1];
    let (chip, caution) = match flag {
        "c" => return Ok(marker(CLEARED, &format!("{number} {channel}"), Some(time))),
        _ if !is_impulse => return Ok(marker(channel, &format!("{number} {channel}"), Some(time))),
        " " | "i" | "t" => (number.to_owned(), None),
        "?" => (format!("?{number}"), Some(Caution::NoValidNumber)),
        flag if flag.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            return Ok(marker(flag, &format!("{number} {channel}"), Some(time)));
        }
        _ => return Err(Reject::Field("flag")),
    };
    let mut read = ChipRead::new(chip, Stamp::TimeOfDay { time, day: None });
    (read.micros, read.caution) = (micros, caution);
    read.antenna = Some(Label::Text(channel.into()));
    read.device = by_hand.then(|| Label::Text("manual".into()));
    Ok(Frame::Read(read))
}

/// `HH:MM:SS`, then perhaps `.` or `:` and one to five decimals.
fn clock(text: &str) -> Option<(Time, Option<u16>)> {
    match text.as_bytes().get(8) {
        Some(b':') => civil::exact_time_of_day(&format!("{}.{}", &text[..8], &text[9..]), 5),
        _ => civil::exact_time_of_day(text, 5),
    }
}

/// The kind of the marker of an impulse that is annulled.
const CLEARED: &str = "cleared";

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

/// `n` or `s` and four digits, and perhaps a letter.
fn is_number_line(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 5 | 6)
        && matches!(bytes[0], b'n' | b's')
        && bytes[1..5].iter().all(u8::is_ascii_digit)
        && bytes[5..].iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b' ')
}

/// The running time, perhaps behind a start number and a point.
fn is_running_time(text: &str) -> bool {
    let digits =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: &str, most: usize| {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let parts: Vec<&str> = whole.split(':').collect();
        (2..=3).contains(&parts.len()) && parts.iter().all(|part| digits(part, 2)) && digits(decimals, most)
    };
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    match parts[..] {
        [time] => is_time(time, 4),
        [number, time] => number.strip_suffix('.').is_some_and(|number| digits(number, 4)) && is_time(time, 2),
        _ => false,
    }
}

/// A line of a print-out: printable, with a word of at least three letters (or nothing but a rule),
/// and without a time and the separators that other devices put between fields.
fn is_heading(text: &str) -> bool {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let has_time = text
        .as_bytes()
        .windows(6)
        .any(|part| matches!(part, [a, b, b':', c, d, b':'] if [a, b, c, d].iter().all(|byte| byte.is_ascii_digit())));
    let is_word = |word: &str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_rule = text.bytes().all(|byte| matches!(byte, b'-' | b'=' | b'_' | b'*' | b' '));
    let foreign = text.bytes().any(|byte| b";,~@$|{}<>\"\\".contains(&byte));
    printable && !has_time && !foreign && (is_rule || words.any(is_word))
}

/// The last two characters of the line: the sum of those before, each half plus 0x30 (so 10 to 15
/// are `:` to `?`).
fn verify(line: &[u8]) -> Result<(), Reject> {
    let at = line.len().checked_sub(CHECKSUM).ok_or(Reject::Length)?;
    let (body, checksum) = line.split_at(at);
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
        let nobodys = read("?0034 C1M 21:46:48.123  00");
        assert_eq!((&*nobodys.chip, nobodys.caution), ("?34", Some(Caution::NoValidNumber)));
        assert_eq!(read(" 0035 C0M 21:46:36.3900 00").caution, None);
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
    fn what_was_entered_by_hand_or_came_over_the_radio_is_a_read() {
        for (line, chip, time) in [
            ("i0043 C1  10:20:01.2000 00", "43", "10:20:01.200"),
            ("i0096 C0  10:16:38.5795 00", "96", "10:16:38.579"),
            ("i0096 C0M 10:16:38.57   00", "96", "10:16:38.570"),
            ("t0003 C1  16:01:56.6585 00", "3", "16:01:56.658"),
        ] {
            assert_eq!((&*read(line).chip, &*read(line).stamp.to_string()), (chip, time), "{line}");
        }
        assert_eq!(&*marked("m0003 C1  16:01:56.6585 00").kind, "m", "a letter that nobody has explained");
    }

    #[test]
    fn the_group_may_be_missing_and_decimals_are_one_to_five_behind_a_point_or_a_colon() {
        for (line, chip, time) in [
            (" 0007 C1  15:43:52.2467", "7", "15:43:52.246"),
            (" 0001 C0  10:27:28:4172", "1", "10:27:28.417"),
            (" 0003 C0M 10:36:55:08   01", "3", "10:36:55.080"),
            (" 0003 C8  10:36:55.1", "3", "10:36:55.100"),
            (" 0003 C8  10:36:55:12345 01", "3", "10:36:55.123"),
            (" 0003 C8  10:36:55.12345", "3", "10:36:55.123"),
            (" 0003 C8  10:36:55      01", "3", "10:36:55.000"),
        ] {
            assert_eq!((&*read(line).chip, &*read(line).stamp.to_string()), (chip, time), "{line}");
        }
        assert_eq!(read(" 0003 C0M 10:36:55:08   01").device, Some(Label::Text("manual".into())));
        assert_eq!((read(" 0003 C8  10:36:55.1234").micros, read(" 0003 C8  10:36:55.123").micros), (Some(400), None));
        for line in [
            " 0003 C8  10:36:55.",
            " 0003 C8  10:36:55.123456",
            " 0003 C8  10:36:5",
            " 0003 C8  10:36:60.1",
            " 0003 C8  10:36:55.1 00 00",
            " 0003 C8  10:36:55.1 000",
            " 0003 C8   10:36:55.1",
            " 0003 C8X 10:36:55.1",
        ] {
            assert!(decode(line.as_bytes(), false).is_err(), "{line}");
        }
    }

    #[test]
    fn a_channel_in_lower_case_is_a_marker_with_its_time_and_told_once() {
        let marker = marked(" 0022 c0  15:44:15.5165 00");
        assert_eq!((&*marker.kind, marker.name.as_deref()), ("c0", Some("22 c0")));
        assert_eq!(marker.stamp.unwrap().to_string(), "15:44:15.516");
        let (mut protocol, mut out) = (make(&Settings::new()).unwrap(), Output::default());
        protocol.feed(b" 0022 c0  15:44:15.5165 00\r 0023 c1  15:44:16.5165 00\r", &mut out);
        let told: Vec<String> =
            out.items.iter().map(|item| format!("{item:?}")).filter(|item| item.contains("Condition")).collect();
        assert!(told.len() == 1 && told[0].contains("`c0`"), "{told:?}");
    }

    #[test]
    fn what_a_print_out_has_beside_impulses_is_not_rejected_and_a_damaged_impulse_is() {
        for line in [
            "s0003",
            "s0003b",
            " 0016rDTR 00:00:03.01   09",
            " 0016rTTR 00:00:03.01",
            "TIMY: 480170000",
            "ALGE TIMING",
            "  Heat 2",
            "--------",
            " ",
        ] {
            assert_eq!(decode(line.as_bytes(), false), Ok(Frame::Info(Info::Alive)), "{line}");
        }
        for line in [
            "aa0005800012860800012603062027472353",
            "DJ413A35 10:11:16.4433 10  10000      C7",
            "0,11055,1170518701,698",
            "Finish@Pong@",
            "CT01_33~5~FINISH~7345",
            " 0O16 C1  10:20:00.1000 00",
            " 0016 X1  10:20:00.1000 00",
            "0016",
        ] {
            assert!(decode(line.as_bytes(), false).is_err(), "{line}");
        }
    }

    #[test]
    fn a_checksum_is_found_behind_a_line_of_any_length() {
        for line in [
            " 0007 C1  15:43:52.246",
            " 0007 C1  15:43:52.2467",
            " 0003 C0M 10:36:55:08   01",
            " 0003 C8  10:36:55.12345 01",
        ] {
            let sum = line.bytes().fold(0_u8, u8::wrapping_add);
            let sealed = format!("{line}{}{}", char::from(0x30 + (sum >> 4)), char::from(0x30 + (sum & 15)));
            for checked in [false, true] {
                assert_eq!(decode(sealed.as_bytes(), checked), decode(line.as_bytes(), false), "{sealed}");
            }
            assert_eq!(decode(line.as_bytes(), true), Err(Reject::Checksum), "{line}");
            let damaged = sealed.replacen(":5", ":4", 1);
            assert!(decode(damaged.as_bytes(), true).is_err(), "{damaged}");
        }
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
        for line in ["12:34:56.7", "   12:34:56", "   1:02.3", "0:03.45", "  23.  1:02.3", "n0034", "n0000b"] {
            assert_eq!(decode(line.as_bytes(), false), Ok(Frame::Info(Info::Alive)), "{line}");
        }
    }
}
