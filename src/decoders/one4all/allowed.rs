//! What may ever be sent to a One4All: questions, requests for stored records, and the push of this
//! connection. START, STOP, NEWFILE, SETTIME, SETBOUNCE, SETPROTOCOL and CLEARFILES are not
//! allowed. To the older dialect the box sends nothing.

use crate::decoders::allowed::{commands, digits, fields, is_set};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    commands(said, b"\r\n", |line| !is_set(set, "dialect", "v2") && is_allowed(line))
}

fn is_allowed(line: &[u8]) -> bool {
    match fields(line, b';')[..] {
        [b"GETPROTOCOL" | b"GETSTATUS" | b"GETTIME" | b"PASSINGS" | b"PING"] | [b"PUSHTAGS", b"true"] => true,
        [b"GETFILEINFO", file] => is_file(file),
        [b"GETPASSINGS", from, to] => digits(from) && digits(to),
        [b"GETFILE", file, from, to] => is_file(file) && digits(from) && digits(to),
        _ => false,
    }
}

/// A name like `20191212-090206.csv`.
fn is_file(name: &[u8]) -> bool {
    let stem = name.strip_suffix(b".csv").unwrap_or_default();
    stem.len() == 15 && stem.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
}
