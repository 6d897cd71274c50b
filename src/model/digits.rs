//! Numbers and times as text, appended to a buffer.
//!
//! The log writes some of each for every read. The general formatting of the standard library and
//! of `jiff` costs ten times as much, and the text is the same.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20]; // as many as `u64::MAX` has
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = digit(number % 10);
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Appends eight hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, number: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits: [u8; 8] = std::array::from_fn(|at| HEX[(number >> (28 - 4 * at) & 15) as usize]);
    out.extend_from_slice(&digits);
}

/// Appends an instant as `2026-03-06T20:27:47.350Z`: what `{:.3}` makes of it.
pub(crate) fn push_timestamp(out: &mut Vec<u8>, instant: Timestamp) {
    if push_date_time(out, TimeZone::UTC.to_datetime(instant)) {
        out.push(b'Z');
    } else {
        push_display(out, format_args!("{instant:.3}"));
    }
}

/// Appends a date and a time as `2026-03-06T20:27:47.350`. Milliseconds are cut off. `false`: the
/// year does not have four digits, and nothing was appended.
pub(crate) fn push_date_time(out: &mut Vec<u8>, local: DateTime) -> bool {
    let Ok(year @ 0..=9999) = u16::try_from(local.year()) else { return false };
    let mut text = *b"0000-00-00T";
    put(&mut text[..4], year);
    put(&mut text[5..7], small(local.month()));
    put(&mut text[8..10], small(local.day()));
    out.extend_from_slice(&text);
    push_time(out, local.time());
    true
}

/// Appends a time of day as `20:27:47.350`. Milliseconds are cut off.
pub(crate) fn push_time(out: &mut Vec<u8>, time: Time) {
    let mut text = *b"00:00:00.000";
    put(&mut text[..2], small(time.hour()));
    put(&mut text[3..5], small(time.minute()));
    put(&mut text[6..8], small(time.second()));
    put(&mut text[9..], time.millisecond().unsigned_abs());
    out.extend_from_slice(&text);
}

/// Appends whatever can be displayed.
pub(crate) fn push_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    let _ = write!(out, "{value}"); // writing to a Vec cannot fail
}

fn put(digits: &mut [u8], mut number: u16) {
    for place in digits.iter_mut().rev() {
        *place = digit(u64::from(number % 10));
        number /= 10;
    }
}

/// A month, an hour and the like: none of them is negative.
fn small(number: i8) -> u16 {
    u16::from(number.unsigned_abs())
}

fn digit(number: u64) -> u8 {
    b'0' + number as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_number_is_written_as_the_standard_library_writes_it(number: u64, shift in 0u32..64) {
            let number = number >> shift; // of every length
            prop_assert_eq!(text(|out| push_number(out, number)), number.to_string());
            prop_assert_eq!(text(|out| push_hex(out, number as u32)), format!("{:08x}", number as u32));
        }

        #[test]
        fn an_instant_is_written_as_jiff_writes_it(
            second in prop_oneof![
                -377_705_023_201_i64..=253_402_207_200, -62_167_219_300_i64..=-62_167_219_000, -100_i64..=100, 1_700_000_000_i64..=1_900_000_000,
            ],
            nanos in 0i32..1_000_000_000,
        ) {
            let instant = Timestamp::new(second, nanos).unwrap();
            prop_assert_eq!(text(|out| push_timestamp(out, instant)), format!("{instant:.3}"));
            let local = TimeZone::UTC.to_datetime(instant);
            let time = text(|out| push_time(out, local.time()));
            prop_assert_eq!(&time, &format!("{:.3}", local.time()));
            if local.year() >= 0 {
                let date_time = text(|out| assert!(push_date_time(out, local)));
                prop_assert_eq!(date_time, format!("{local:.3}"));
            }
        }
    }

    #[test]
    fn the_ends_of_what_can_be_written_are_written() {
        for instant in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
            assert_eq!(text(|out| push_timestamp(out, instant)), format!("{instant:.3}"));
        }
        assert_eq!(text(|out| push_number(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(|out| push_number(out, 0)), "0");
    }
}
