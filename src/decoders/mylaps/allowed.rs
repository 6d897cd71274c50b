//! What may ever be sent to a MYLAPS exporter: our name, life signs, and acknowledgements. The
//! number of a message is sent back in the bytes in which it arrived.

use crate::decoders::allowed::{commands, fields};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    let name = set.get("name").map_or("passbridge", String::as_str);
    commands(said, b"@$", |message| match fields(message, b'@')[..] {
        _ if message.contains(&b'$') => false,
        [us, b"Ping" | b"AckPing" | b"AckPong"] => us == name.as_bytes(),
        [us, b"AckPong", b"Version2.1", b"c|t|d|dv|re|an|h|amd"] => us == name.as_bytes(),
        [us, b"AckStore" | b"AckPassing" | b"AckMarker", number] => us == name.as_bytes() && number.len() < 39,
        _ => false,
    })
}
