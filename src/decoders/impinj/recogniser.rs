//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, has};

/// Recognises a member that only its objects have.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    has(raw, b"\"antennaPort\"").then_some(Sign::Own)
}
