//! Turns the columns of a RACE RESULT passing record into a read.

use crate::decoders::Reject;
use crate::decoders::civil;
use crate::model::chip::{ChipRead, Label, Position, Stamp};

/// Columns of the oldest protocol. Newer versions only add columns to the right.
const COLUMNS_MIN: usize = 7;
/// Bit 6 of column 16: the passing was stored in the transponder or the box and sent later.
const STORED: u32 = 1 << 6;

/// Decodes the columns, beginning with the passing number (without `#P`).
pub(super) fn read(columns: &[&str]) -> Result<ChipRead, Reject> {
    if columns.len() < COLUMNS_MIN {
        return Err(Reject::FieldCount);
    }
    let number = digits(columns[0]).ok_or(Reject::Field("number"))?;
    let chip = columns[1].trim();
    if chip.is_empty() {
        return Err(Reject::Field("chip"));
    }
    // Returns a column by its number in the documents, from 1. `None`: it is absent or empty.
    let column = |number: usize| columns.get(number - 1).map(|text| text.trim()).filter(|text| !text.is_empty());
    let mut read = ChipRead::new(chip, stamp(columns[2].trim(), columns[3].trim())?);
    // Some software reads hits and RSSI as hexadecimal. Nothing may therefore depend on them, and a
    // value that is no number is left out.
    read.hits = column(6).and_then(|text| text.parse().ok());
    read.rssi = column(7).and_then(|text| text.parse().ok());
    read.replay = column(16).and_then(|text| text.parse::<u32>().ok()).is_some_and(|bits| bits & STORED != 0);
    read.antenna = column(19).map(label);
    read.position = Some(Position { unit: column(20).map(Into::into), file: column(18).map(label), number });
    Ok(read)
}

/// Reads a number in plain digits (`+5` is none).
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn label(text: &str) -> Label {
    match digits(text) {
        Some(number) => Label::Number(number),
        None => Label::Text(text.into()),
    }
}

/// Reads the date and time columns. `0000-00-NN` means that the clock was never set and that NN is
/// a count of days. An empty date comes from an exporter that writes no date.
pub(super) fn stamp(date: &str, time: &str) -> Result<Stamp, Reject> {
    let time = civil::time_of_day(time).ok_or(Reject::Field("time"))?;
    if date.is_empty() {
        return Ok(Stamp::TimeOfDay { time, day: None });
    }
    if let Some(day) = date.strip_prefix("0000-00-") {
        let day = digits(day).and_then(|day| u32::try_from(day).ok()).ok_or(Reject::Field("date"))?;
        return Ok(Stamp::TimeOfDay { time, day: Some(day) });
    }
    let date = civil::date(date).ok_or(Reject::Field("date"))?;
    Ok(Stamp::Local(date.to_datetime(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<ChipRead, Reject> {
        read(&text.split(';').collect::<Vec<_>>())
    }

    #[test]
    fn all_columns_of_a_stored_passing_are_read() {
        let read =
            line("13;LNPRS91;2024-01-12;09:06:35.944;;75;-68;;1;8;8;1;6233;3.0;17;64;Box;177;4;D-50432").unwrap();
        assert_eq!((&*read.chip, read.stamp.to_string()), ("LNPRS91", "2024-01-12T09:06:35.944".to_owned()));
        assert_eq!((read.hits, read.rssi, read.replay), (Some(75), Some(-68), true));
        assert_eq!(read.antenna, Some(Label::Number(4)));
        let position = Position { unit: Some("D-50432".into()), file: Some(Label::Number(177)), number: 13 };
        assert_eq!(read.position, Some(position));
    }

    #[test]
    fn a_clock_that_was_never_set_has_no_date_but_may_count_days() {
        assert_eq!(line("5;120;0000-00-01;00:00:07.001;;3;17").unwrap().stamp.to_string(), "0000-00-01T00:00:07.001");
        assert_eq!(line("5;120;;00:00:07.001;;3;17").unwrap().stamp.to_string(), "00:00:07.001");
    }

    #[test]
    fn a_damaged_record_says_what_is_wrong_with_it() {
        for (text, reason) in [
            ("77;4711;2026-06-17;10:30:00.123;1;2", Reject::FieldCount),
            ("x7;4711;2026-06-17;10:30:00.123;1;2;3", Reject::Field("number")),
            ("77;;2026-06-17;10:30:00.123;1;2;3", Reject::Field("chip")),
            ("77;4711;2026-13-17;10:30:00.123;1;2;3", Reject::Field("date")),
            ("77;4711;0000-00-;10:30:00.123;1;2;3", Reject::Field("date")),
            ("77;4711;2026-06-17;10:30;1;2;3", Reject::Field("time")),
            ("99999999999999999999;4711;2026-06-17;10:30:00.123;1;2;3", Reject::Field("number")),
        ] {
            assert_eq!(line(text), Err(reason), "{text}");
        }
    }
}
