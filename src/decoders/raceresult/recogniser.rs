//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, digits, is_date, text};

/// Recognises the words of its commands, and its records.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let text = text(raw);
    let fields: Vec<&str> = text.split(';').collect();
    match fields[..] {
        ["#P", number, _, ..] if digits(number) => Some(Sign::Own),
        ["GETSTATUS", date, _, ..] if is_date(date) => Some(Sign::Own),
        ["PASSINGS", count, file] if digits(count) && digits(file) => Some(Sign::Own),
        ["PASSINGS", count] if digits(count) => Some(Sign::Shared),
        ["GETCONFIG" | "SETPUSHPASSINGS" | "STARTOPERATION" | "STOPOPERATION", _, ..] => Some(Sign::Own),
        ["GETPROTOCOL" | "SETPROTOCOL", version, ..] if version.starts_with(|c: char| c.is_ascii_digit()) => {
            Some(Sign::Shared)
        }
        [only] if only.strip_prefix("ONLY ").is_some_and(digits) => Some(Sign::Shared),
        [number, _, date, ..] if digits(number) && is_date(date) => Some(Sign::Own),
        _ => None,
    }
}
