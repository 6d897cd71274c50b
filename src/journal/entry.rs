//! One line of the log: an entry, and its text form.
//!
//! ```text
//! seq \t in-group \t kind \t subject \t time \t a \t b \t c \t raw \t crc \n
//! ```
//!
//! * `seq`: the entry's number. `in-group`: its place in its group commit, from 0. So every line
//!   says where its group began, and after a power cut it is known which lines were still being
//!   written.
//! * `kind`, and the content of the columns for each kind:
//!
//! | kind | subject | a | b | c | raw |
//! |---|---|---|---|---|---|
//! | `read` | decoder | chip | decoder stamp | `name=value;…` | the frame |
//! | `marker` | decoder | its kind | stamp or empty | `name=value;…` | the frame |
//! | `rejected` | decoder | reason | | | the bytes |
//! | `cleared` | decoder | what happened, for people | | `name=value;…` | |
//! | `upload` | device | an [`UploadEvent`] as JSON | its sink: `rufus` | | |
//! | `settled` | source | the sink | all that it owes of the source, up to this entry, is settled | | |
//! | `note` | code | what happened, for people | | | cut off bytes (`repair` only) |
//! | `clock` | `box` | a [`Step`] of the box's clock as JSON | | | |
//! | `correct` | decoder | a [`Correction`] of its times as JSON | | | |
//! | `control` | `box` | a [`Control`] as JSON: what somebody decided | | | |
//!
//! * An `upload` without the name of a sink is of a version that knew only `rufus`.
//! * `time`: the box's clock, UTC with milliseconds. `crc`: CRC-32 of everything before the last
//!   tab, 8 hex digits.
//! * Every column is escaped ([`crate::model::escape`]), so a tab or a line end is always
//!   structure.
//! * A read with `held_back=1` is kept and not uploaded. A read with `let_go=A-B` is entry B,
//!   released ([`super::held_back`]). Older versions skip both fields, and would upload such a
//!   read.
//! * Of a read, `us` has the microseconds below the stamp's millisecond, `ago` how many
//!   milliseconds before its receive time it was made (if the stamp cannot tell),
//!   `seen` whether it is the first or the last moment of a crossing, `caution` what the protocol
//!   doubted. Lines of older versions have none of them.
//! * In `c` a text value begins with `'`, so that file `7` and file `'7` stay as the decoder sent
//!   them.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::control::Control;
use super::failpoint;
use super::upload::{RUFUS, Settled, UploadEvent};
use crate::decoders::Cleared;
use crate::model::chip::{Age, Caution, ChipRead, Label, Marker, Position, Seq, Sighting, Stamp};
use crate::model::clock::Step;
use crate::model::correction::Correction;
use crate::model::digits;
use crate::model::escape::{escape_into, unescape};

/// The content of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A chip read.
    Read(ChipRead),
    /// A marker.
    Marker(Marker),
    /// Bytes that were no frame. The value is the name of the reason.
    Rejected(Box<str>),
    /// The decoder begins to count a file from the start again.
    Cleared(Cleared),
    /// An event of the upload.
    Upload(UploadEvent),
    /// A sink has settled what it owed of the source.
    Settled(Settled),
    /// A note for people: a start, a stop, a problem, a repair.
    Note(Box<str>),
    /// The box's clock stepped, so earlier receive times have to be corrected.
    Clock(Step),
    /// Somebody corrected the times of reads of a decoder.
    Correct(Correction),
    /// Somebody decided something about the box.
    Control(Control),
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Sequence number in the journal, from 1.
    pub seq: u64,
    /// Place in its group commit, from 0.
    pub in_group: u64,
    /// Decoder or source, device, or the code of a note.
    pub subject: Arc<str>, // shared by the entries of a call: one allocation for all of them
    /// The time by the box's clock.
    pub time: Timestamp,
    /// The content.
    pub body: Body,
    /// The bytes as received. A note about a repair has the bytes that were cut off. Empty for
    /// uploads.
    pub raw: Box<[u8]>,
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The line is damaged: its checksum does not agree, or it has none.
    #[error("its checksum does not agree")]
    Damaged,
    /// The checksum agrees, but this version does not understand it.
    #[error("it is whole but of a form this version does not know")]
    Unknown,
}

/// Appends the line, with its line end.
pub fn write_line(out: &mut Vec<u8>, entry: &Entry) {
    let start = out.len();
    push_number(out, entry.seq);
    push_number(out, entry.in_group);
    let kind: &[u8] = match &entry.body {
        Body::Read(_) => b"read\t",
        Body::Marker(_) => b"marker\t",
        Body::Rejected(_) => b"rejected\t",
        Body::Cleared(_) => b"cleared\t",
        Body::Upload(_) => b"upload\t",
        Body::Settled(_) => b"settled\t",
        Body::Note(_) => b"note\t",
        Body::Clock(_) => b"clock\t",
        Body::Correct(_) => b"correct\t",
        Body::Control(_) => b"control\t",
    };
    out.extend_from_slice(kind);
    push_text(out, &entry.subject);
    digits::push_timestamp(out, entry.time);
    out.push(b'\t');
    match &entry.body {
        Body::Read(read) => {
            push_text(out, &read.chip);
            push_stamp(out, &read.stamp);
            push_read_fields(out, read);
        }
        Body::Marker(marker) => {
            push_text(out, &marker.kind);
            match marker.stamp {
                Some(stamp) => push_stamp(out, &stamp),
                None => out.push(b'\t'),
            }
            push_label(out, "reader", marker.reader.as_ref());
            push_field(out, "name", marker.name.as_deref());
            push_field(out, "loc", marker.location.as_deref());
            push_position(out, marker.position.as_ref());
            if let Some(through) = marker.through {
                push_field_number(out, "through", through);
            }
            out.push(b'\t');
        }
        Body::Rejected(reason) => {
            push_text(out, reason);
            out.extend_from_slice(b"\t\t");
        }
        Body::Cleared(cleared) => {
            push_text(out, &cleared.text);
            out.push(b'\t');
            push_label(out, "file", cleared.file.as_ref());
            push_field(out, "unit", cleared.unit.as_deref());
            out.push(b'\t');
        }
        Body::Upload(event) => {
            push_json(out, event);
            push_text(out, RUFUS);
            out.push(b'\t');
        }
        Body::Settled(Settled { sink, through }) => {
            push_text(out, sink);
            push_number(out, through.0);
            out.push(b'\t');
        }
        Body::Clock(step) => push_only(out, step),
        Body::Correct(correction) => push_only(out, correction),
        Body::Control(control) => push_only(out, control),
        Body::Note(text) => {
            push_text(out, text);
            out.extend_from_slice(b"\t\t");
        }
    }
    escape_into(out, &entry.raw);
    seal(out, start);
}

/// Column a, and two that are empty.
fn push_only(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    push_json(out, value);
    out.extend_from_slice(b"\t\t");
}

/// Ends the line that begins at `start`, by adding its checksum.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(&out[start..]);
    out.push(b'\t');
    digits::push_hex(out, crc);
    out.push(b'\n');
}

/// The text before the checksum of a whole line (without line end), or the reason why the line is
/// not whole.
pub(crate) fn unseal(line: &[u8]) -> Result<&str, BadLine> {
    let (content, crc) = line.len().checked_sub(9).and_then(|at| line.split_at_checked(at)).ok_or(BadLine::Damaged)?;
    let crc = crc.strip_prefix(b"\t").and_then(|hex| std::str::from_utf8(hex).ok()).ok_or(BadLine::Damaged)?;
    let crc = u32::from_str_radix(crc, 16).map_err(|_| BadLine::Damaged)?;
    if crc != crc32fast::hash(content) && !failpoint::trusts_torn_lines() {
        return Err(BadLine::Damaged);
    }
    std::str::from_utf8(content).map_err(|_| BadLine::Unknown)
}

/// Sequence number and place in its group of a whole line, without decoding the rest.
pub(crate) fn parse_numbers(line: &[u8]) -> Result<(u64, u64), BadLine> {
    let mut columns = unseal(line)?.splitn(3, '\t');
    let mut number = || columns.next().and_then(|text| text.parse().ok()).ok_or(BadLine::Unknown);
    Ok((number()?, number()?))
}

/// The entry in a line (without line end).
pub fn parse_line(line: &[u8]) -> Result<Entry, BadLine> {
    parse_content(unseal(line)?).ok_or(BadLine::Unknown)
}

/// Like [`parse_line`], but only if `wanted` returns true for the sequence number, the kind and the
/// text of all columns. Otherwise only the checksum is checked.
pub(crate) fn parse_line_of(
    line: &[u8],
    wanted: impl FnOnce(u64, &str, &str) -> bool,
) -> Result<Option<Entry>, BadLine> {
    let text = unseal(line)?;
    let mut columns = text.splitn(4, '\t');
    let seq = columns.next().and_then(|seq| seq.parse().ok()).ok_or(BadLine::Unknown)?;
    let kind = columns.nth(1).ok_or(BadLine::Unknown)?;
    if !wanted(seq, kind, text) {
        return Ok(None);
    }
    parse_content(text).map(Some).ok_or(BadLine::Unknown)
}

/// The chip in the text of the line of a read, without decoding the rest. `None`: it is no whole text.
pub(crate) fn chip_of_line(text: &str) -> Option<Cow<'_, str>> {
    let chip = text.split('\t').nth(5)?;
    match chip.contains('\\') {
        false => Some(Cow::Borrowed(chip)),
        true => String::from_utf8(unescape(chip).ok()?).ok().map(Cow::Owned),
    }
}

fn parse_content(text: &str) -> Option<Entry> {
    let mut columns = text.split('\t');
    let mut next = || columns.next();
    let seq = next()?.parse().ok()?;
    let in_group = next()?.parse().ok()?;
    let kind = next()?;
    let subject = text_of(next()?)?.into();
    let time = next()?.parse().ok()?;
    let (a, b, c) = (next()?, next()?, next()?);
    let raw = unescape(next()?).ok()?.into();
    let body = match kind {
        "read" => {
            let mut read = ChipRead::new(text_of(a)?, b.parse::<Stamp>().ok()?);
            parse_read_fields(c, &mut read)?;
            Body::Read(read)
        }
        "marker" => Body::Marker(parse_marker(a, b, c)?),
        "rejected" => Body::Rejected(text_of(a)?),
        "cleared" => {
            let mut cleared = Cleared { unit: None, file: None, text: text_of(a)? };
            for (name, value) in fields_of(c) {
                match name {
                    "file" => cleared.file = Some(label_of(value)?),
                    "unit" => cleared.unit = Some(text_of(value)?),
                    _ => {} // a later version may add fields
                }
            }
            Body::Cleared(cleared)
        }
        "upload" if b.is_empty() || b == RUFUS => Body::Upload(serde_json::from_slice(&unescape(a).ok()?).ok()?),
        "settled" => Body::Settled(Settled { sink: text_of(a)?, through: Seq(b.parse().ok()?) }),
        "note" => Body::Note(text_of(a)?),
        "clock" => Body::Clock(serde_json::from_slice(&unescape(a).ok()?).ok()?),
        "correct" => Body::Correct(serde_json::from_slice(&unescape(a).ok()?).ok()?),
        "control" => Body::Control(serde_json::from_slice(&unescape(a).ok()?).ok()?),
        _ => return None,
    };
    Some(Entry { seq, in_group, subject, time, body, raw })
}

fn parse_marker(kind: &str, stamp: &str, fields: &str) -> Option<Marker> {
    let stamp = if stamp.is_empty() { None } else { Some(stamp.parse().ok()?) };
    let (name, reader, location, through) = (None, None, None, None);
    let mut marker = Marker { kind: text_of(kind)?, name, stamp, reader, location, position: None, through };
    for (name, value) in fields_of(fields) {
        match name {
            "through" => marker.through = Some(value.parse().ok()?),
            "reader" => marker.reader = Some(label_of(value)?),
            "name" => marker.name = Some(text_of(value)?),
            "loc" => marker.location = Some(text_of(value)?),
            _ => {} // a later version may add fields
        }
    }
    marker.position = parse_position(fields)?;
    Some(marker)
}

fn push_position(out: &mut Vec<u8>, position: Option<&Position>) {
    if let Some(position) = position {
        push_field_number(out, "pos", position.number);
        push_label(out, "file", position.file.as_ref());
        push_field(out, "unit", position.unit.as_deref());
    }
}

/// The outer `None`: this version cannot read the position.
fn parse_position(fields: &str) -> Option<Option<Position>> {
    let mut position = Position { unit: None, file: None, number: 0 };
    let mut has_position = false;
    for (name, value) in fields_of(fields) {
        match name {
            "pos" => {
                position.number = value.parse().ok()?;
                has_position = true;
            }
            "file" => position.file = Some(label_of(value)?),
            "unit" => position.unit = Some(text_of(value)?),
            _ => {}
        }
    }
    Some(has_position.then_some(position))
}

fn push_read_fields(out: &mut Vec<u8>, read: &ChipRead) {
    push_position(out, read.position.as_ref());
    if let Some(seq) = read.seq {
        push_field_number(out, "n", seq);
    }
    push_label(out, "ant", read.antenna.as_ref());
    push_label(out, "reader", read.reader.as_ref());
    push_label(out, "device", read.device.as_ref());
    if let Some(hits) = read.hits {
        push_field_number(out, "hits", hits);
    }
    if let Some(rssi) = read.rssi {
        digits::push_display(out, format_args!("rssi={rssi};"));
    }
    push_field(out, "loc", read.location.as_deref());
    if read.replay {
        out.extend_from_slice(b"replay=1;");
    }
    if read.held_back {
        out.extend_from_slice(b"held_back=1;");
    }
    if let Some((from, of)) = read.let_go.as_deref() {
        digits::push_display(out, format_args!("let_go={from}-{of};"));
    }
    if read.amid_stored {
        out.extend_from_slice(b"amid=1;");
    }
    if let Some(micros) = read.micros {
        push_field_number(out, "us", micros);
    }
    // How it lies to the greeting means nothing any more once the connection is over: the link
    // turned it round.
    if let Some(Age::BeforeReceipt(ms)) = read.age.as_deref() {
        digits::push_display(out, format_args!("ago={ms};"));
    }
    push_field(out, "seen", read.seen.map(Sighting::word));
    push_field(out, "caution", read.caution.map(Caution::word));
    out.push(b'\t');
}

fn parse_read_fields(fields: &str, read: &mut ChipRead) -> Option<()> {
    for (name, value) in fields_of(fields) {
        match name {
            "n" => read.seq = Some(value.parse().ok()?),
            "ant" => read.antenna = Some(label_of(value)?),
            "reader" => read.reader = Some(label_of(value)?),
            "device" => read.device = Some(label_of(value)?),
            "hits" => read.hits = Some(value.parse().ok()?),
            "rssi" => read.rssi = Some(value.parse().ok()?),
            "loc" => read.location = Some(text_of(value)?),
            "replay" => read.replay = true,
            "held_back" => read.held_back = true,
            "let_go" => {
                let (from, of) = value.split_once('-')?;
                read.let_go = Some(Box::new((Seq(from.parse().ok()?), Seq(of.parse().ok()?))));
            }
            "amid" => read.amid_stored = true,
            "us" => read.micros = Some(value.parse().ok().filter(|micros| *micros < 1000)?),
            "ago" => read.age = Some(Box::new(Age::BeforeReceipt(value.parse().ok()?))),
            "seen" => read.seen = Sighting::of_word(value),
            "caution" => read.caution = Caution::of_word(value),
            _ => {} // a later version may add fields
        }
    }
    read.position = parse_position(fields)?;
    Some(())
}

fn fields_of(fields: &str) -> impl Iterator<Item = (&str, &str)> {
    fields.split(';').filter_map(|field| field.split_once('='))
}

fn text_of(column: &str) -> Option<Box<str>> {
    if !column.contains('\\') {
        return Some(column.into());
    }
    String::from_utf8(unescape(column).ok()?).ok().map(Into::into)
}

fn label_of(value: &str) -> Option<Label> {
    match value.strip_prefix('\'') {
        Some(text) => text_of(text).map(Label::Text),
        None => value.parse().ok().map(Label::Number),
    }
}

fn push_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Plain data with string keys, so this cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    escape_into(out, &json);
    out.push(b'\t');
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    escape_into(out, text.as_bytes());
    out.push(b'\t');
}

fn push_field(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        push_field_text(out, value);
    }
}

fn push_label(out: &mut Vec<u8>, name: &str, label: Option<&Label>) {
    match label {
        None => {}
        Some(Label::Number(number)) => push_field_number(out, name, *number),
        Some(Label::Text(text)) => {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"='");
            push_field_text(out, text);
        }
    }
}

fn push_field_text(out: &mut Vec<u8>, text: &str) {
    // `;` ends a field, so inside a field it is written as a byte escape.
    for (at, part) in text.split(';').enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\\x3b");
        }
        escape_into(out, part.as_bytes());
    }
    out.push(b';');
}

fn push_field_number(out: &mut Vec<u8>, name: &str, number: impl Into<u64>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    digits::push_number(out, number.into());
    out.push(b';');
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    digits::push_number(out, number);
    out.push(b'\t');
}

fn push_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    stamp.push_to(out);
    out.push(b'\t');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(entry: &Entry) {
        let mut line = Vec::new();
        write_line(&mut line, entry);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(!line.contains(&b'\n'));
        assert_eq!(parse_line(&line).as_ref(), Ok(entry), "{}", String::from_utf8_lossy(&line));
        assert_eq!(parse_numbers(&line), Ok((entry.seq, entry.in_group)));
        for at in 0..line.len() {
            let mut damaged = line.clone();
            damaged[at] ^= 1;
            assert_ne!(parse_line(&damaged).as_ref(), Ok(entry));
        }
    }

    #[test]
    fn a_line_of_a_version_that_knew_no_places_of_markers_is_read() {
        let fields = "reader=3;name='box 7, LogID 9;loc=Start;";
        let mut line =
            format!("41\t2\tmarker\tmat\t2026-05-10T07:00:00.000Z\tstart\t2026-05-10T09:00:00.000\t{fields}\traw")
                .into_bytes();
        seal(&mut line, 0);
        let Ok(Entry { seq: 41, body: Body::Marker(marker), .. }) = parse_line(line.strip_suffix(b"\n").unwrap())
        else {
            panic!()
        };
        assert_eq!((&*marker.kind, marker.location.as_deref()), ("start", Some("Start")));
        assert_eq!((marker.position, marker.through), (None, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_a_decoder_sends_comes_back_from_the_line(
            chip in "\\PC{1,12}", unit in proptest::option::of("\\PC{0,6}"), text in "\\PC{0,8}", number: u64,
            raw in proptest::collection::vec(any::<u8>(), 0..60), replay: bool, amid: bool, rssi: Option<i32>, hits: Option<u32>,
        ) {
            let mut read = ChipRead::new(chip, "0000-00-01T00:00:07.001".parse().unwrap());
            read.position = unit.map(|unit| Position {
                unit: Some(unit.into()), file: Some(Label::Text(text.clone().into())), number,
            });
            read.antenna = Some(Label::Number(number));
            read.reader = Some(Label::Text(text.clone().into()));
            read.location = Some(text.clone().into());
            (read.replay, read.rssi, read.hits, read.seq) = (replay, rssi, hits, Some(number));
            (read.held_back, read.let_go) = (!replay, hits.map(|hits| Box::new((Seq(hits.into()), Seq(number)))));
            read.amid_stored = amid;
            read.micros = hits.map(|hits| (hits % 1000) as u16);
            read.age = rssi.map(|ms| Age::BeforeReceipt(ms.into()).into());
            (read.seen, read.caution) = (replay.then_some(Sighting::Last), amid.then_some(Caution::NoValidNumber));
            let time = Timestamp::from_millisecond(1_764_000_000_123).unwrap();
            let entry = |body, raw: &[u8]| Entry {
                seq: number, in_group: 3, subject: text.clone().into(), time, body, raw: raw.into(),
            };
            round_trip(&entry(Body::Read(read), &raw));
            round_trip(&entry(Body::Rejected("checksum".into()), &raw));
            let file = Some(Label::Text(text.clone().into()));
            round_trip(&entry(Body::Cleared(Cleared { unit: None, file, text: text.clone().into() }), &raw));
            let marker = Marker {
                kind: text.clone().into(), name: Some(text.clone().into()), stamp: None, reader: None, location: None,
                position: hits.map(|hits| Position { unit: Some(text.clone().into()), file: None, number: hits.into() }),
                through: hits.map(u64::from),
            };
            round_trip(&entry(Body::Marker(marker), &raw));
            let event = UploadEvent::DeadLetter {
                device: text.clone().into(), num: number, status: 400, answer: text.clone().into(),
                again: hits.is_some(),
            };
            round_trip(&entry(Body::Upload(event), b""));
            let step = Step { from: number, sure: number, before_ms: -5, step_ms: i64::from(rssi.unwrap_or(0)) };
            round_trip(&entry(Body::Clock(step), b""));
            let correction = Correction {
                ranges: vec![(1, number), (number, number)], shift_ms: i64::from(rssi.unwrap_or(0)), zone: amid.then(|| text.clone().into()), by: text.clone().into(),
                oldest: number,
            };
            round_trip(&entry(Body::Correct(correction), b""));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_line(&bytes);
            let mut sealed = bytes.clone();
            seal(&mut sealed, 0);
            sealed.pop();
            let _ = parse_line(&sealed);
            let _ = parse_numbers(&sealed);
        }
    }
}
