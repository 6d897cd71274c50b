//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::Sign;

/// Recognises the beginning of a frame without a valid CRC: version, length, CRC, flags and type,
/// all of them small.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let [0x8e, 1..=3, 11..=255, 0, _, _, _, 0, 1..=255, 0, ..] = raw else { return None };
    Some(Sign::Own)
}
