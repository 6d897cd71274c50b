//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, digits, text};

/// Recognises its greeting, voltage, state, clock and reads.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let text = text(raw);
    if let Some(rest) = text.strip_prefix("Connected,").or_else(|| text.strip_prefix("1,Connected,")) {
        return digits(rest.trim_end()).then_some(Sign::Own);
    }
    if let Some(volts) = text.strip_prefix("V=") {
        return (volts.contains('.') && volts.trim().parse::<f64>().is_ok()).then_some(Sign::Own);
    }
    if let Some(state) = text.strip_prefix("S=") {
        return (digits(state) && state.len() <= 2).then_some(Sign::Shared);
    }
    let clock =
        text.ends_with(')') && text.contains(" (") && text.matches(':').count() == 2 && text.matches('-').count() == 2;
    if clock {
        return Some(Sign::Own);
    }
    let fields: Vec<&str> = text.split(',').collect();
    match fields[..] {
        ["0" | "1", chip, seconds, _, ..] => {
            let chip = !chip.is_empty() && chip.bytes().all(|byte| byte.is_ascii_hexdigit());
            (chip && digits(seconds) && (9..=10).contains(&seconds.len())).then_some(Sign::Shared)
        }
        _ => None,
    }
}
