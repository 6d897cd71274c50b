//! What the lists of allowed commands share. Each decoder's list (`allowed.rs` in its folder) is
//! written from the vendor's documents and from what other programs do, not from our protocol. A
//! new command must therefore be put there by a person who thought about it. Anything that is not
//! on a list would start, stop, clear or set something, or is nothing that the decoder knows.

use super::protocol::Settings;

/// Checks a list of commands that end in `end`. Returns the first command that is not allowed or
/// not ended.
pub(super) fn commands(said: &[u8], end: &[u8], allowed: impl Fn(&[u8]) -> bool) -> Option<String> {
    let mut rest = said;
    while !rest.is_empty() {
        let Some(at) = memchr::memmem::find(rest, end) else {
            return Some(format!("not ended: {}", rest.escape_ascii()));
        };
        if !allowed(&rest[..at]) {
            return Some(rest[..at].escape_ascii().to_string());
        }
        rest = &rest[at + end.len()..];
    }
    None
}

/// The fields of a command.
pub(super) fn fields(command: &[u8], separator: u8) -> Vec<&[u8]> {
    command.split(|byte| *byte == separator).collect()
}

/// A number of at most 20 digits, which is the length of the longest one.
pub(super) fn digits(bytes: &[u8]) -> bool {
    (1..=20).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit)
}

/// The option has this value.
pub(super) fn is_set(set: &Settings, key: &str, value: &str) -> bool {
    set.get(key).is_some_and(|set| set == value)
}
