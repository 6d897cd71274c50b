//! What may ever be said to a ChronoTrack: a greeting, its features, and what is to be sent on this connection. A location, and
//! the number of a read, are sent back in the bytes that they came in.

use crate::decoders::allowed::{commands, digits, fields};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    // What the seconds count from is not on the wire.
    let format = set.get("time_format").map_or("iso", |format| format.split('-').next().unwrap_or_default());
    commands(said, b"\r\n", |line| match fields(line, b'~')[..] {
        [b"getlocations" | b"ping"] | [b"ack", b"ping"] => true,
        // The version is that of the program, and the count of the features that follow.
        [b"passbridge", version, b"6"] => !version.is_empty(),
        [
            b"stream-mode=push" | b"location=multi" | b"guntimes=true" | b"newlocations=true" | b"connection-id=false",
        ] => true,
        [feature] => feature.strip_prefix(b"time-format=") == Some(format.as_bytes()),
        [b"start", location] => !location.is_empty(),
        [b"start", location, from] => !location.is_empty() && digits(from),
        _ => false,
    })
}
