//! What may ever be sent to a CloudBox: the question for its time. START begins a session, so it
//! needs the option.

use crate::decoders::allowed::{commands, is_set};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    commands(said, b"\r\n", |line| line == b"GETSYSTEMTIME" || line == b"START" && is_set(set, "start", "true"))
}
