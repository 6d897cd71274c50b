//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, text};

/// Recognises its own words, and its answers to ours.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let text = text(raw);
    let fields: Vec<&str> = text.split('~').collect();
    match fields[..] {
        [_, _, "CTP01"] => Some(Sign::Name),
        ["CT01_33" | "CT01_13", _, ..] | ["ack" | "err", "ping" | "start" | "stop" | "getlocations", ..] => {
            Some(Sign::Own)
        }
        ["ping"] => Some(Sign::Shared),
        _ => None,
    }
}
