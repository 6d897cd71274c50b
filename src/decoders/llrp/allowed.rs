//! What may ever be sent to an LLRP reader: the question for its inventories (26), the request for
//! events and reports (64), the answer to a keepalive (72), and the goodbye (14). With `start` also
//! the keepalive's period (3, and nothing else in it), and the messages that add, delete, enable
//! and start the inventory of ours.

use crate::decoders::allowed::is_set;
use crate::decoders::protocol::Settings;

/// The id of the one inventory that is ours.
const OURS: &[u8] = b"PBRI";

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    let starts = is_set(set, "start", "true");
    let mut rest = said;
    while !rest.is_empty() {
        let length =
            rest.get(2..6).map_or(0, |length| u32::from_be_bytes([length[0], length[1], length[2], length[3]]));
        let Some((message, tail)) = rest.split_at_checked(length as usize).filter(|(message, _)| message.len() >= 10)
        else {
            return Some(format!("{rest:02x?}"));
        };
        rest = tail;
        let (kind, body) = (u16::from_be_bytes([message[0], message[1]]) & 0x3ff, &message[10..]);
        let is_allowed = match (kind, body) {
            _ if message[0] >> 2 != 1 => false, // the version
            (14 | 26 | 64 | 72, []) => true,
            // A keepalive for us. The 0 in front means that nothing is reset to factory settings.
            (3, [0, 0, 220, 0, 9, 1, _, _, _, _]) => starts,
            (20, [0, 177, _, _, id @ ..]) => starts && id.starts_with(OURS),
            (21 | 22 | 24, id) => starts && id == OURS,
            _ => false,
        };
        if !is_allowed {
            return Some(format!("message {kind} {body:02x?}"));
        }
    }
    None
}
