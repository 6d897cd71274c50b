//! A line of dialect v3, and its parts.

use jiff::civil::DateTime;

use crate::decoders::{Reject, civil};
use crate::model::chip::{ChipRead, Label, Stamp};

/// One line of dialect v3.
#[allow(clippy::large_enum_variant, reason = "nearly all are passings; a box each would cost more than it saves")]
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// A passing: its number, and the read without a position.
    Passing(u64, ChipRead),
    /// The end of a requested range.
    Blank,
    /// A reply: the command's word and the values after it.
    Reply(&'a str, Vec<&'a str>),
}

pub(super) fn said(line: &[u8]) -> Result<Said<'_>, Reject> {
    if line.is_empty() {
        return Ok(Said::Blank);
    }
    let line = std::str::from_utf8(line).map_err(|_| Reject::NotMine)?;
    let mut fields = line.split(';');
    let first = fields.next().unwrap_or_default();
    let is_word = first.len() >= 3 && first.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_word || line.starts_with("HELLO") {
        return Ok(Said::Reply(first, fields.collect()));
    }
    let count = 1 + fields.count();
    if digits(first, 1..=15) {
        let fields: Result<[&str; 8], _> = line.split(';').collect::<Vec<_>>().try_into();
        let (number, read) = passing(fields.map_err(|_| Reject::FieldCount)?)?;
        return Ok(Said::Passing(number, read));
    }
    Err(if count == 8 { Reject::Field("number") } else { Reject::NotMine })
}

pub(super) fn passing(fields: [&str; 8]) -> Result<(u64, ChipRead), Reject> {
    let [number, code, chip, date, time, antenna, hits, _token] = fields;
    let number = number.parse().ok().filter(|&number: &u64| number > 0).ok_or(Reject::Field("number"))?;
    if !is_chip(code, chip) {
        return Err(Reject::Field("chip"));
    }
    let stamp = stamp(date, time)?;
    let antenna = Some(antenna).filter(|antenna| digits(antenna, 1..=3)).and_then(|antenna| antenna.parse().ok());
    let antenna = antenna.ok_or(Reject::Field("antenna"))?;
    let hits = Some(hits).filter(|hits| digits(hits, 1..=9)).and_then(|hits| hits.parse().ok());
    let hits = hits.ok_or(Reject::Field("hits"))?;
    let read = ChipRead::new(format!("{code}{chip}"), stamp);
    Ok((number, ChipRead { antenna: Some(Label::Number(antenna)), hits: Some(hits), ..read }))
}

pub(super) fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether it is an owner's code of two capital letters and a number of five digits.
pub(super) fn is_chip(code: &str, number: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) && digits(number, 5..=5)
}

/// A stamp from `yyyy-MM-dd` and `HH:mm:ss`, with or without `.kkk` (passings have it, the clock
/// may not).
pub(super) fn stamp(date: &str, time: &str) -> Result<Stamp, Reject> {
    let time = Some(time).filter(|time| matches!(time.len(), 8 | 12)).and_then(civil::time_of_day);
    let time = time.ok_or(Reject::Field("time"))?;
    if date == "0000-00-00" {
        return Ok(Stamp::TimeOfDay { time, day: Some(0) });
    }
    let date = civil::date(date).ok_or(Reject::Field("date"))?;
    Ok(Stamp::Local(DateTime::from_parts(date, time)))
}

/// The start of a session file: the local time in its name, if `text` is such a name (with or
/// without `.csv`).
pub(super) fn file_start(text: &str) -> Option<DateTime> {
    let name = text.strip_suffix(".csv").unwrap_or(text);
    let (date, time) = name.split_once('-')?;
    if !digits(date, 8..=8) || !digits(time, 6..=6) {
        return None;
    }
    let date = civil::date(&format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]))?;
    let time = civil::time_of_day(&format!("{}:{}:{}", &time[..2], &time[2..4], &time[4..]))?;
    Some(DateTime::from_parts(date, time))
}
