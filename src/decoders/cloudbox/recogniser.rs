//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, has};

/// Recognises members of its objects, and the form of its answers.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let own = has(raw, b"\"passingNumber\"") || has(raw, b"\"tagStr\"");
    if own {
        return Some(Sign::Own);
    }
    (has(raw, b"\"command\"") && has(raw, b"\"result\"")).then_some(Sign::Own)
}
