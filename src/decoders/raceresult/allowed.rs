//! What may ever be sent to a RACE RESULT: questions, requests for stored records, and the push of
//! this connection. STARTOPERATION, STOPOPERATION, SETTIME, CLEARFILES and SETCONFIG are not
//! allowed.

use crate::decoders::allowed::{commands, digits, fields};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(_: &Settings, said: &[u8]) -> Option<String> {
    commands(said, b"\r\n", is_allowed)
}

fn is_allowed(line: &[u8]) -> bool {
    match fields(line, b';')[..] {
        [b"GETPROTOCOL" | b"PASSINGS" | b"GETSTATUS"]
        | [b"GETCONFIG", b"GENERAL", b"BOXNAME"]
        | [b"SETPUSHPASSINGS", b"1", b"0"] => true,
        // SETPROTOCOL sets the language of the answers on this connection.
        [b"SETPROTOCOL", version] => version.split(|byte| *byte == b'.').all(digits),
        [b"GETFILE", file] => digits(file),
        [range] => matches!(fields(range, b':')[..], [from, count] if digits(from) && digits(count)),
        _ => false,
    }
}
