//! What a message of this decoder looks like to the probe (see the head of `protocol.rs`).

use crate::decoders::recogniser::{Sign, digits, text};

/// Recognises its time, its name and its reads.
pub(super) fn sign(raw: &[u8]) -> Option<Sign> {
    let text = text(raw);
    let numbered = |rest: &str, count: usize| rest.get(..count).is_some_and(digits);
    if let Some(rest) = text.strip_prefix("GT0") {
        return (rest.len() >= 8 && numbered(rest, 8)).then_some(Sign::Own);
    }
    if let Some(rest) = text.strip_prefix('N') {
        return (rest.len() > 4 && numbered(rest, 4)).then_some(Sign::Own);
    }
    let chip = text.strip_prefix("DJ").or_else(|| text.strip_prefix("DA"))?.split(' ').next()?;
    (chip.len() >= 4 && chip.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(Sign::Shared)
}
