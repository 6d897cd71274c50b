//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, digits, is_date, text};

/// Recognises the words of both dialects.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let text = text(raw);
    const OCELOT: [&str; 5] = ["CONECTADO_", "START-OK_", "STOP-OK_", "OPERATION-MODE-STARTED_", "MODO-REMOTE-OFF_"];
    if OCELOT.iter().any(|word| text.starts_with(word)) {
        return Some(Sign::Own);
    }
    let is_chip = |text: &str| {
        text.len() == 7 && text.as_bytes()[..2].iter().all(u8::is_ascii_uppercase) && text.get(2..).is_some_and(digits)
    };
    if text.len() > 16 && text.get(..7).is_some_and(is_chip) && text.as_bytes()[7] == b'D' {
        return Some(Sign::Own); // a passing of the older dialect
    }
    if text.starts_with("HELLO") {
        return Some(if text.to_ascii_lowercase().contains("one4all") { Sign::Own } else { Sign::Shared });
    }
    let fields: Vec<&str> = text.split(';').collect();
    match fields[..] {
        ["PING", "PONG"] | ["READBATTERY", "VOLTS", ..] | ["PUSHTAGS", "true" | "false"] => Some(Sign::Own),
        ["START" | "STOP" | "NEWFILE" | "CLEARFILES" | "LISTFILES" | "GETFILEINFO" | "SETBOUNCE", _, ..] => {
            Some(Sign::Own)
        }
        ["PASSINGS", count, chip, ..] if digits(count) => is_chip(chip).then_some(Sign::Own),
        ["PASSINGS", count] if digits(count) => Some(Sign::Shared),
        ["GETSTATUS", first, _, ..] if !is_date(first) => Some(Sign::Own),
        ["GETTIME", date, ..] if is_date(date) => Some(Sign::Own),
        ["GETPROTOCOL", _, ..] | ["SETPROTOCOL", _, ..] => Some(Sign::Shared),
        [number, code, chip, _, ..] if digits(number) && code.len() == 2 && chip.len() == 5 && digits(chip) => {
            Some(Sign::Own)
        }
        _ => None,
    }
}
