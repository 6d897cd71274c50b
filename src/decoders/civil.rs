//! Wall time as text protocols write it. Stricter than a general parser: a damaged line must not look like a time.

use jiff::civil::{Date, Time};

/// `hh:mm:ss` with nothing or one to three decimals behind it (`16:13:57.417`, `13:50:23.30`).
pub(super) fn time_of_day(text: &str) -> Option<Time> {
    fine_time_of_day(text, 3)
}

/// As [`time_of_day`], with up to `most` decimals, of which milliseconds are kept.
pub(super) fn fine_time_of_day(text: &str, most: usize) -> Option<Time> {
    exact_time_of_day(text, most).map(|(time, _)| time)
}

/// As [`fine_time_of_day`], and the microseconds below the millisecond where there are more than
/// three decimals. Further ones are cut off.
pub(super) fn exact_time_of_day(text: &str, most: usize) -> Option<(Time, Option<u16>)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if (1..=most).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (text, "0"),
    };
    digits(fraction.as_bytes())?; // all of them must be digits
    let (millis, micros) = split_fraction(fraction)?;
    let [h1, h2, b':', m1, m2, b':', s1, s2] = whole.as_bytes() else { return None };
    let two = |tens: &u8, ones: &u8| digits(&[*tens, *ones]);
    let small = |number: u32| i8::try_from(number).ok();
    let nanos = i32::from(millis) * 1_000_000;
    let time = Time::new(small(two(h1, h2)?)?, small(two(m1, m2)?)?, small(two(s1, s2)?)?, nanos).ok()?;
    Some((time, micros))
}

/// Milliseconds of decimals of a second, and the microseconds below where there are more than
/// three. All must be digits.
pub(super) fn split_fraction(decimals: &str) -> Option<(u16, Option<u16>)> {
    let padded = |from: usize| {
        let digit = |at: usize| match decimals.as_bytes().get(at) {
            None => Some(0),
            Some(byte) => byte.is_ascii_digit().then(|| u16::from(byte - b'0')),
        };
        Some(digit(from)? * 100 + digit(from + 1)? * 10 + digit(from + 2)?)
    };
    Some((padded(0)?, if decimals.len() > 3 { Some(padded(3)?) } else { None }))
}

/// `yyyy-MM-dd`, a date that exists.
pub(super) fn date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    day(digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..])?)
}

/// `yyMMdd` in the years 2000 to 2099, a date that exists.
pub(super) fn short_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 6 {
        return None;
    }
    day(2000 + digits(&bytes[..2])?, digits(&bytes[2..4])?, digits(&bytes[4..])?)
}

/// `yyyyMMdd`, a date that exists.
pub(super) fn plain_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 8 {
        return None;
    }
    day(digits(&bytes[..4])?, digits(&bytes[4..6])?, digits(&bytes[6..])?)
}

fn day(year: u32, month: u32, day: u32) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// At most nine decimal digits and nothing else.
fn digits(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_time_of_day_is_one() {
        assert_eq!(time_of_day("16:13:57.417").unwrap().to_string(), "16:13:57.417");
        assert_eq!(time_of_day("13:50:23.3").unwrap().millisecond(), 300);
        assert_eq!(time_of_day("13:50:23").unwrap().millisecond(), 0);
        for bad in
            ["24:00:00.000", "1:13:57.417", "16:13:57.4170", "16:13:57.", "16-13-57.417", "16:13:6é.1", "", "+1:00:00"]
        {
            assert_eq!(time_of_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn finer_decimals_are_cut_off_and_must_be_digits() {
        assert_eq!(fine_time_of_day("10:11:16.4437", 6).unwrap().to_string(), "10:11:16.443");
        let micros = |text| exact_time_of_day(text, 9).unwrap().1;
        assert_eq!((micros("10:11:16.443"), micros("10:11:16.4437")), (None, Some(700)));
        assert_eq!((micros("10:11:16.443007"), micros("10:11:16.443000999")), (Some(7), Some(0)));
        for bad in ["10:11:16.4437777", "10:11:16.44x", "10:11:16.", "10:11:60.4", "10:11:60"] {
            assert_eq!(fine_time_of_day(bad, 6), None, "{bad}");
        }
    }

    #[test]
    fn a_date_that_does_not_exist_is_none() {
        assert_eq!(date("2024-02-29").unwrap().to_string(), "2024-02-29");
        assert_eq!(short_date("250308").unwrap().to_string(), "2025-03-08");
        for bad in ["2023-02-29", "0000-00-00", "2024-2-29", "2024/02/29", "-024-02-29"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(short_date("000000"), None);
    }
}
