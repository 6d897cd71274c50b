//! Numbers, ages and clocks in the form that people read. Every part of the program uses the same
//! form.

use std::time::Duration;

/// A device id of 64 digits, shortened to its first and last digits, as people say it on the phone.
pub(crate) fn short(device: &str) -> String {
    let chars: Vec<char> = device.chars().collect();
    if chars.len() <= 16 {
        return device.to_owned();
    }
    chars[..4].iter().chain(&['…']).chain(&chars[chars.len() - 4..]).collect()
}

/// A count: plain up to 9999, and beyond that with a narrow space between groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A length of time in whole units: 59 s, 59 min, 1 h 04 min, 2 d 3 h.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// How long something took, rounded up: 1 ms, 140 ms, 1.4 s, 59 s, 1 h 04 min.
pub(crate) fn took(time: Duration) -> String {
    match u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX) {
        ms @ 0..1000 => format!("{} ms", ms.max(1)),
        ms @ 1000..=9900 => {
            let tenths = ms.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        ms => age(ms.div_ceil(1000)),
    }
}

/// A quarter of an hour, the smallest difference between two time zones.
const QUARTER_MS: i64 = 15 * 60 * 1000;
/// How near to a difference of zones an offset must be. This is the time that a decoder or the
/// network waits before it sends.
const NEAR_MS: i64 = 30 * 1000;

/// The difference of zones that an offset looks like, in minutes. The offset must be near a whole
/// or half hour, or very near an odd quarter of an hour.
pub(crate) fn zone_minutes(offset_ms: i64) -> Option<i64> {
    let quarters = (offset_ms + offset_ms.signum() * QUARTER_MS / 2) / QUARTER_MS;
    let rest = (offset_ms - quarters * QUARTER_MS).abs();
    // A clock that is wrong by chance is near a quarter of an hour more often than near a half.
    let near = if quarters % 2 == 0 { NEAR_MS } else { NEAR_MS / 6 };
    let possible = (1..=26 * 4).contains(&quarters.abs());
    (possible && rest <= near).then_some(quarters * 15)
}

/// A clock compared with that of this box: `exactly 60 minutes behind`, `12 s ahead`, `0.25 s
/// behind`.
pub(crate) fn offset_in_words(offset_ms: i64) -> String {
    let side = if offset_ms > 0 { "ahead" } else { "behind" };
    if let Some(minutes) = zone_minutes(offset_ms) {
        return match minutes.abs() {
            60 => format!("exactly 60 minutes {side}"),
            minutes if minutes % 60 == 0 => format!("exactly {} hours {side}", minutes / 60),
            minutes if minutes > 60 => format!("exactly {} h {:02} min {side}", minutes / 60, minutes % 60),
            minutes => format!("exactly {minutes} minutes {side}"),
        };
    }
    match offset_ms.unsigned_abs() {
        0..10 => "right".to_owned(),
        ms @ 10..1000 => format!("{}.{:02} s {side}", ms / 1000, ms % 1000 / 10),
        ms @ 1000..10_000 => format!("{}.{} s {side}", ms / 1000, ms % 1000 / 100),
        ms => format!("{} {side}", age(ms / 1000)),
    }
}

/// Like [`offset_in_words`], and names this box: `exactly 60 minutes behind this box`, `12 s ahead
/// of this box`.
pub(crate) fn against_box(offset_ms: i64) -> String {
    match offset_in_words(offset_ms) {
        words if words.ends_with("ahead") => words + " of this box",
        words if words.ends_with("behind") => words + " this box",
        _ => "as this box's".to_owned(),
    }
}
