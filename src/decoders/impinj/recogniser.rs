//! What a message of this decoder looks like to the probe (head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, has};

/// A member that only its objects have.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    has(raw, b"\"antennaPort\"").then_some(Sign::Own)
}
