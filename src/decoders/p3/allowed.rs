//! What may ever be sent to a P3 decoder: requests for its status (2), for passings again (4) and
//! for its time (24). Type 5, which clears, and settings (13 to 28) are not allowed.

use super::frame;
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(_: &Settings, said: &[u8]) -> Option<String> {
    let mut requests = said.split_inclusive(|byte| *byte == 0x8f);
    requests.find(|request| !is_allowed(request)).map(|request| format!("{request:02x?}"))
}

fn is_allowed(request: &[u8]) -> bool {
    let plain = frame::unescaped(request);
    let marked = request.first() == Some(&0x8e) && request.last() == Some(&0x8f);
    let single = request.len() > 2 && !request[1..request.len() - 1].contains(&0x8e);
    marked
        && single
        && plain.len() >= 11
        && usize::from(u16::from_le_bytes([plain[2], plain[3]])) == plain.len()
        && u16::from_le_bytes([plain[4], plain[5]]) == frame::checksum(&plain)
        && matches!(plain[8..10], [2 | 4 | 0x24, 0])
}
