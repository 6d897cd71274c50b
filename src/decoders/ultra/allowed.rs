//! What may ever be sent to an Ultra: `?`, `r`, and the rewind by number. Its commands are bare
//! characters, and it would obey any other one.

use crate::decoders::allowed::{digits, is_set};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    let prefix: &[u8] = if is_set(set, "rewind_prefix", "nul") { b"6\0\0" } else { b"600" };
    let mut rest = said;
    while let [first, tail @ ..] = rest {
        rest = if matches!(first, b'?' | b'r') {
            tail
        } else {
            let mut parts = rest.strip_prefix(prefix).unwrap_or_default().splitn(3, |byte| *byte == b'\r');
            match (parts.next().is_some_and(digits), parts.next().is_some_and(digits), parts.next()) {
                (true, true, Some(tail)) => tail,
                _ => return Some(rest.escape_ascii().to_string()),
            }
        };
    }
    None
}
