//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, has};

/// Recognises a location and a function, or a record that was rejected.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let mut fields = raw.split(|byte| *byte == b'@');
    let location = fields.next().unwrap_or_default();
    let is_location = location.len() <= 64 && !location.iter().any(u8::is_ascii_control);
    match fields.next().filter(|_| is_location) {
        Some(
            b"Pong" | b"Ping" | b"AckPing" | b"Store" | b"Passing" | b"Marker" | b"AckGetInfo" | b"AckGetLocations",
        ) => Some(Sign::Own),
        Some(_) => None,
        None if !is_location => None,
        // A rejected record of a message: a time of day behind seven characters, or keys and
        // values.
        None => {
            let timed = |at: usize| raw.get(at) == Some(&b':') && raw.get(at + 3) == Some(&b':');
            let v1 = (37..=48).contains(&raw.len()) && (timed(9) || timed(10));
            let v2 = has(raw, b"|t=") || has(raw, b"|c=") || raw.starts_with(b"c=") || raw.starts_with(b"t=");
            (v1 || v2).then_some(Sign::Shared)
        }
    }
}
