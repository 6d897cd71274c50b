//! What a message of this decoder looks like to the probe (head of `protocol.rs`).

use crate::decoders::recogniser::Sign;

/// Longest message that is believed. A report that begins with a tag may be longer.
const LONGEST: usize = 64 * 1024;

/// A message of a known type whose length can be true.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let [high, low, rest @ ..] = raw else { return None };
    // A tag of a report, rejected.
    if (*high, *low) == (0, 240) {
        return Some(Sign::Own);
    }
    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
    let kind = u16::from_be_bytes([*high, *low]) & 0x3ff;
    if !matches!(high >> 2, 1 | 2) || !(10..=LONGEST).contains(&length) || !matches!(kind, 1..=64 | 72 | 100) {
        return None;
    }
    match (kind, raw.get(10..12)) {
        (63, Some([0, 246])) if raw.len() == length => Some(Sign::Name), // what a reader says when one connects
        _ => Some(Sign::Own),
    }
}

/// LLRP is framed by its lengths alone. A connection begins with a message, but a recording may not: from the first place
/// on where a message of a known type is followed by another, or by the end.
pub(super) fn from_header(bytes: &[u8]) -> &[u8] {
    let header = |at: usize| {
        let rest = &bytes[at..];
        let [high, low, l3, l2, l1, l0, ..] = *rest else { return None };
        let kind = u16::from_be_bytes([high, low]) & 0x3ff;
        let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let known = matches!(high >> 2, 1 | 2) && matches!(kind, 1..=64 | 72 | 100 | 1023);
        let is_report = kind == 61 && matches!(rest.get(10..12), Some([0, 240]));
        (known && length >= 10 && (length <= LONGEST || is_report)).then(|| at.saturating_add(length))
    };
    let chained = |at: &usize| {
        header(*at).is_some_and(|next| next == bytes.len() || next < bytes.len() && header(next).is_some())
    };
    let start = if header(0).is_some() { 0 } else { (0..bytes.len()).find(chained).unwrap_or(0) };
    &bytes[start..]
}
