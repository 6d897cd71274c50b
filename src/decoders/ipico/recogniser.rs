//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::Sign;

/// Recognises `aa` or `ab` with hexadecimal digits to the end.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let body = raw.strip_prefix(b"aa").or_else(|| raw.strip_prefix(b"ab"))?;
    (body.len() >= 8 && body.iter().all(u8::is_ascii_hexdigit)).then_some(Sign::Own)
}
