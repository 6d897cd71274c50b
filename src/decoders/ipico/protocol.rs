//! IPICO Lite, Elite and Super Elite: a stream of ASCII lines. The box cannot ask for stored reads.
//!
//! Evidence: high. Vendor's serial protocol text (2007), live captures of 2026, and 76,000 real
//! lines of 2013–2018 whose checksums are all right. The layout of the trigger frame is from two
//! unrelated captures, not from the vendor's text.
//!
//! ```text
//! aa RR TTTTTTTTTTTT II QQ yymmdd hhmmss cc [XXYYZZ] SS [FS|LS]        a tag, 36 characters (42 with XXYYZZ)
//!    reader  tag id  reads date   time   |   TTO     checksum
//!                  on I, Q               hundredths, HEX: 00–63
//! ab RR LL NN data SS                                                  control, LL = data bytes (ff: a question)
//!    NN = 02 clock reply, 2c trigger button or gun: yy mm dd weekday hh mm ss cc, then bytes of no settled meaning
//! ```
//!
//! Checksum: the ASCII codes of everything between `aa`/`ab` and the checksum, added, low 8 bits,
//! as two hex digits of either case. FS/LS (first and last seen) stand behind the checksum, which
//! does not cover them. They are kept with the read. Date and time are decimal digits of a local
//! clock without a zone. The year is 2000 + yy. `000000` means that the clock was never set.
//!
//! Line ends get lost, and readers restart a frame in the middle of a line (`aa0005aa0005…`, real).
//! The protocol therefore takes a line that is no frame apart from its end. A suffix that is a
//! whole frame *with a right checksum* is a frame. Then the protocol tries the bytes before it
//! again. The bytes that are left become one rejected frame. Two frames that run together can have
//! exactly the length of a TTO frame (real). Only the checksum shows the difference, so the
//! protocol accepts nothing without it (Trident's frames look alike and have none).
//!
//! Life sign: there is none, and an Elite's stream port may not answer. The protocol therefore asks
//! for the clock at connect and every 30 s (option `clock_query`, on unless `false`; the question
//! changes nothing in the decoder). The protocol expects no answer from a decoder that never
//! answered, and stops asking it after [`UNANSWERED`] questions (the decoder may not even read
//! them, and a full socket would stop the link). A decoder that has answered and stops is reported
//! as `decoder_silent`. The registry therefore has no idle limit: silence alone proves nothing.
//!
//! Limits: the protocol does not ask for the Elite's stored file (ports 9999 and 10300) and the
//! Lite's download, and reads have no position. Reads that were made while the box was off are lost
//! to the box.

use std::time::Duration;

use jiff::civil::{DateTime, Time};

use crate::decoders::line::{Line, Lines};
use crate::decoders::{Condition, Frame, Info, Output, Protocol, Reject, SettingError, Settings, options};
use crate::model::chip::{ChipRead, Label, Marker, Sighting, Stamp, StoredRanges};

/// The question for date and time of reader 0, from the vendor's text. The checksum is part of it.
const CLOCK_QUERY: &[u8] = b"ab00000222\r\n";
const CLOCK_PERIOD: Duration = Duration::from_secs(30);
/// The protocol stops asking a decoder that never answered after this many questions.
const UNANSWERED: u32 = 10;
/// A decoder that used to answer is reported as silent after this many questions.
const SILENT: u32 = 3;

/// The name in the configuration.
pub(super) const NAME: &str = "ipico";

/// Makes a value for one connection.
pub(super) fn make(settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    let mut clock_query = true;
    for (key, value) in settings {
        clock_query = match (key.as_str(), value.as_str()) {
            ("clock_query", "true") => true,
            ("clock_query", "false") => false,
            ("clock_query", _) => return Err(options::wrong(NAME, key, value, "allowed are `true` and `false`")),
            _ => return Err(options::wrong(NAME, key, value, "unknown; the one option is `clock_query`")),
        };
    }
    Ok(Box::new(Ipico { lines: Lines::default(), life: Life { clock_query, ..Life::default() } }))
}

struct Ipico {
    lines: Lines,
    life: Life,
}

/// What is known about the decoder's answers.
#[derive(Default)]
struct Life {
    clock_query: bool,
    /// Age of the link at the last question for the clock.
    asked: Option<Duration>,
    /// The number of questions since the last answer.
    open: u32,
    answered: bool,
    silent: bool,
}

impl Protocol for Ipico {
    fn connected(&mut self, _held: StoredRanges, _rewind: bool, out: &mut Output) {
        self.life.silent = true; // an earlier link may have reported it, and the first answer ends the report
        self.life.tick(Duration::ZERO, out);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.lines.feed(bytes, |line| self.life.line(line, out));
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        self.life.tick(up, out);
    }

    fn end(&mut self, out: &mut Output) {
        self.lines.end(|line| self.life.line(line, out));
    }
}

impl Life {
    fn line(&mut self, line: Line<'_>, out: &mut Output) {
        match line {
            Line::TooLong(bytes) => out.frame(Frame::Rejected(Reject::TooLong), bytes),
            Line::Whole(bytes) => match whole(bytes) {
                Ok(frame) => self.frame(frame, bytes, out), // nearly every line
                Err(_) => take_apart(bytes).into_iter().for_each(|(frame, raw)| self.frame(frame, raw, out)),
            },
        }
    }

    fn frame(&mut self, frame: Frame, raw: &[u8], out: &mut Output) {
        self.answered |= matches!(frame, Frame::Info(Info::Clock(_)));
        let valid = !matches!(frame, Frame::Rejected(_));
        out.frame(frame, raw);
        if valid && self.answered {
            self.alive(out);
        }
    }

    /// A decoder that is known to answer sent a valid frame. A read is enough, because a busy
    /// decoder may answer late.
    fn alive(&mut self, out: &mut Output) {
        self.open = 0;
        if std::mem::take(&mut self.silent) {
            out.frame(Frame::Info(Info::Condition { code: Condition::DecoderSilent, text: None }), b"");
        }
    }

    fn tick(&mut self, up: Duration, out: &mut Output) {
        let due = self.asked.is_none_or(|asked| up.saturating_sub(asked) >= CLOCK_PERIOD);
        if !self.clock_query || !due || (!self.answered && self.open >= UNANSWERED) {
            return;
        }
        if self.answered && self.open >= SILENT && !self.silent {
            self.silent = true;
            let text = "the decoder used to answer the clock query and no longer does: look at its power and its cable";
            out.frame(
                Frame::Info(Info::Condition { code: Condition::DecoderSilent, text: Some(text.to_owned()) }),
                b"",
            );
        }
        self.asked = Some(up);
        self.open = self.open.saturating_add(1);
        out.reply(CLOCK_QUERY);
    }
}

/// The frames of one line in order: one in a healthy line, more if line ends were lost, none in a
/// blank line.
fn take_apart(line: &[u8]) -> Vec<(Frame, &[u8])> {
    let mut frames = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        match whole(rest) {
            Ok(frame) => {
                frames.push((frame, rest));
                break;
            }
            Err(reason) => {
                let Some((at, frame)) = last_frame(rest) else {
                    frames.push((Frame::Rejected(reason), rest));
                    break;
                };
                frames.push((frame, &rest[at..]));
                rest = &rest[..at];
            }
        }
    }
    frames.reverse();
    frames
}

/// The longest frame at the end of `line`, and where it begins.
fn last_frame(line: &[u8]) -> Option<(usize, Frame)> {
    let tags = [44, 42, 38, 36].into_iter();
    let controls = (0..=CONTROL_DATA).rev().map(|data| 10 + 2 * data);
    tags.chain(controls).filter_map(|length| line.len().checked_sub(length)).find_map(|at| {
        let frame = whole(&line[at..]).ok()?;
        Some((at, frame))
    })
}

/// The most data bytes of a control frame that is searched inside a line. Known frames have up to
/// 10.
const CONTROL_DATA: usize = 32;

/// Decodes `bytes` as exactly one frame.
fn whole(bytes: &[u8]) -> Result<Frame, Reject> {
    match bytes.get(..2) {
        Some(b"aa") => tag(bytes),
        Some(b"ab") => control(bytes),
        _ => Err(Reject::NotMine),
    }
}

fn tag(bytes: &[u8]) -> Result<Frame, Reject> {
    let (body, seen) = match bytes.split_last_chunk::<2>() {
        Some((body, b"FS")) => (body, Some(Sighting::First)),
        Some((body, b"LS")) => (body, Some(Sighting::Last)),
        _ => (bytes, None),
    };
    if !matches!(body.len(), 36 | 42) {
        return Err(Reject::Length);
    }
    verify(body)?;
    let reader = hex(&body[2..4]).ok_or(Reject::Field("reader"))?;
    let chip = std::str::from_utf8(&body[4..16]).ok().filter(|chip| chip.bytes().all(|c| c.is_ascii_hexdigit()));
    let chip = chip.ok_or(Reject::Field("chip"))?;
    let hits = hex(&body[16..18]).zip(hex(&body[18..20])).map(|(i, q)| u32::from(i) + u32::from(q));
    let hits = hits.ok_or(Reject::Field("hits"))?;
    let stamp = stamp(&body[20..26], &body[26..34])?;
    let reader = Some(Label::Number(u64::from(reader)));
    Ok(Frame::Read(ChipRead { reader, hits: Some(hits), seen, ..ChipRead::new(chip, stamp) }))
}

fn control(bytes: &[u8]) -> Result<Frame, Reject> {
    let length = bytes.get(4..6).ok_or(Reject::Length)?;
    let length = match hex(length).ok_or(Reject::Field("length"))? {
        0xff => 0,
        length => usize::from(length),
    };
    if bytes.len() != 10 + 2 * length {
        return Err(Reject::Length);
    }
    verify(bytes)?;
    let reader = hex(&bytes[2..4]).ok_or(Reject::Field("reader"))?;
    let data = &bytes[8..8 + 2 * length];
    match hex(&bytes[6..8]).ok_or(Reject::Field("instruction"))? {
        // A clock without a valid time is no reason to reject an answer, because the decoder is
        // alive.
        0x02 if length >= 8 => {
            Ok(Frame::Info(stamp(&data[..6], &data[8..16]).map_or(Info::Alive, Info::Clock))) //
        }
        0x2c if length >= 8 => Ok(Frame::Marker(Marker {
            kind: "trigger".into(),
            name: None,
            stamp: Some(stamp(&data[..6], &data[8..16])?),
            reader: Some(Label::Number(u64::from(reader))),
            location: None,
            position: None,
            through: None,
        })),
        _ => Ok(Frame::Info(Info::Alive)),
    }
}

/// Compares the last two characters of `frame` with the sum of the characters between the start
/// mark and them.
fn verify(frame: &[u8]) -> Result<(), Reject> {
    let (body, checksum) = frame.split_at(frame.len() - 2);
    let sum = body[2..].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    if hex(checksum) == Some(sum) { Ok(()) } else { Err(Reject::Checksum) }
}

/// Decodes `yymmdd` and `hhmmsscc`: decimal digits, except that the hundredths are hex.
fn stamp(date: &[u8], time: &[u8]) -> Result<Stamp, Reject> {
    let (hour, minute, second) = three(&time[..6]).ok_or(Reject::Field("time"))?;
    let hundredths = hex(&time[6..8]).filter(|&hundredths| hundredths < 100).ok_or(Reject::Field("time"))?;
    let time =
        Time::new(hour, minute, second, i32::from(hundredths) * 10_000_000).map_err(|_| Reject::Field("time"))?;
    match three(date).ok_or(Reject::Field("date"))? {
        (0, 0, 0) => Ok(Stamp::TimeOfDay { time, day: Some(0) }),
        (year, month, day) => {
            let date = jiff::civil::Date::new(2000 + i16::from(year), month, day).map_err(|_| Reject::Field("date"))?;
            Ok(Stamp::Local(DateTime::from_parts(date, time)))
        }
    }
}

/// Three numbers of two decimal digits each.
fn three(digits: &[u8]) -> Option<(i8, i8, i8)> {
    let two = |at: usize| match digits.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => i8::try_from((tens - b'0') * 10 + (ones - b'0')).ok(),
        _ => None,
    };
    Some((two(0)?, two(2)?, two(4)?))
}

/// Two hex digits of either case.
fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::{Framed, Item};

    const TAG: &str = "aa400000000123450a2a01123018455927a7";
    const OTHER: &str = "aa0005800012860800012603062027472353";

    fn protocol(clock_query: bool) -> Box<dyn Protocol> {
        make(&Settings::from([("clock_query".into(), clock_query.to_string())])).unwrap()
    }

    /// A word for each item: the chip, the reason, or the kind of chatter.
    fn words(items: &[Item]) -> Vec<String> {
        items
            .iter()
            .map(|item| match item {
                Item::Reply(bytes) => String::from_utf8_lossy(bytes).trim_end().to_owned(),
                Item::HangUp(why) => (*why).to_owned(),
                Item::Frame(Framed { frame, raw }) => match frame {
                    Frame::Read(read) => format!("{} {}", read.chip, read.stamp),
                    Frame::Marker(marker) => format!("{} {}", marker.kind, marker.stamp.unwrap()),
                    Frame::Rejected(reason) => format!("{reason} {}", String::from_utf8_lossy(raw)),
                    Frame::Info(Info::Clock(stamp)) => format!("clock {stamp}"),
                    Frame::Info(Info::Condition { code, text }) => format!("{code} {}", text.is_some()),
                    Frame::Info(info) => format!("{info:?}"),
                    Frame::Cleared(cleared) => format!("{cleared:?}"),
                },
            })
            .collect()
    }

    fn fed(text: &str) -> Vec<String> {
        let mut out = Output::default();
        protocol(false).feed(text.as_bytes(), &mut out);
        words(&out.items)
    }

    #[test]
    fn a_frame_that_begins_in_the_middle_of_a_line_is_recovered_and_counted_once() {
        let read = "058000128608 2026-03-06T20:27:47.350";
        assert_eq!(fed(&format!("aa0005{OTHER}\r\n")), ["length aa0005", read]);
        assert_eq!(fed(&format!("\u{1}\u{2}{OTHER}LS\r\n")), ["not_mine \u{1}\u{2}", read]);
    }

    #[test]
    fn frames_whose_line_end_was_lost_are_all_read() {
        let (first, second) = ("000000012345 2001-12-30T18:45:59.390", "058000128608 2026-03-06T20:27:47.350");
        assert_eq!(fed(&format!("{TAG}{OTHER}\r\n")), [first, second]);
        assert_eq!(
            fed(&format!("x{TAG}ab000902260306051855443727cf{OTHER}\r\n")),
            ["not_mine x", first, "clock 2026-03-06T18:55:44.550", second]
        );
    }

    #[test]
    fn nothing_without_a_right_checksum_is_a_read() {
        let mut accepted = 0;
        for at in 0..TAG.len() {
            for byte in b"09afgG \x00\xff" {
                let mut bytes = TAG.as_bytes().to_vec();
                if bytes[at] == *byte {
                    continue;
                }
                bytes[at] = *byte;
                accepted += usize::from(whole(&bytes).is_ok());
            }
        }
        assert_eq!(accepted, 0);
        assert!(whole(TAG.replace("a7", "A7").as_bytes()).is_ok(), "checksum of either case");
    }

    #[test]
    fn a_clock_that_was_never_set_still_gives_the_read() {
        let body = "00058000128608000100000020274723";
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        assert_eq!(fed(&format!("aa{body}{sum:02x}\r\n")), ["058000128608 0000-00-00T20:27:47.350"]);
    }

    #[test]
    fn a_decoder_that_never_answers_is_left_alone_after_some_questions() {
        let mut protocol = protocol(true);
        let mut out = Output::default();
        protocol.connected(StoredRanges::default(), true, &mut out);
        protocol.feed(format!("{TAG}\r\n").as_bytes(), &mut out);
        for second in 1..3600 {
            protocol.tick(Duration::from_secs(second), &mut out);
        }
        let words = words(&out.items);
        assert_eq!(words.iter().filter(|word| *word == "ab00000222").count(), UNANSWERED as usize);
        assert!(!words.iter().any(|word| word.starts_with("decoder_silent")), "{words:?}");
    }

    #[test]
    fn a_decoder_that_used_to_answer_and_froze_is_reported_until_it_speaks_again() {
        let mut protocol = protocol(true);
        let mut out = Output::default();
        protocol.connected(StoredRanges::default(), true, &mut out);
        protocol.feed(b"ab000902260306051855443727cf\r\n", &mut out);
        assert_eq!(words(&out.items), ["ab00000222", "clock 2026-03-06T18:55:44.550", "decoder_silent false"]);
        out.items.clear();
        for second in 1..=(30 * 4) {
            protocol.tick(Duration::from_secs(second), &mut out);
        }
        assert_eq!(words(&out.items).iter().filter(|word| *word == "decoder_silent true").count(), 1);
        out.items.clear();
        protocol.feed(format!("{TAG}\r\n").as_bytes(), &mut out);
        assert_eq!(words(&out.items), ["000000012345 2001-12-30T18:45:59.390", "decoder_silent false"]);
    }

    #[test]
    fn an_option_it_does_not_have_is_refused_with_what_is_allowed() {
        let error = make(&Settings::from([("clock_query".into(), "yes".into())])).err().unwrap();
        assert_eq!(error.to_string(), "protocol ipico: option `clock_query` = `yes`: allowed are `true` and `false`");
        assert!(make(&Settings::from([("clock".into(), "true".into())])).is_err());
    }
}
