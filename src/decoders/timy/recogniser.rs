//! What a message of this decoder looks like to the probe (head of `protocol.rs`).

use crate::decoders::recogniser::Sign;

/// A numbered impulse, a number, a running time, or a heading with the device's name.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let numbered = raw.get(1..5).is_some_and(|number| number.iter().all(|byte| byte.is_ascii_digit() || *byte == b' '));
    let channel = matches!(raw.get(6..8), Some([b'C', b'0'..=b'9'] | b"RT" | b"TT" | b"DT"));
    if [&b"TIMY"[..], b"ALGE", b"TdC "].iter().any(|name| raw.trim_ascii_start().starts_with(name)) {
        return Some(Sign::Own);
    }
    let number_line =
        matches!(raw.len(), 5 | 6) && matches!(raw[0], b'n' | b's') && raw[1..5].iter().all(u8::is_ascii_digit);
    // The running time is what any clock prints.
    let clock = (8..=13).contains(&raw.len()) && raw.iter().filter(|byte| **byte == b':').count() == 2;
    ((numbered && channel) || number_line || clock).then_some(Sign::Shared)
}
