//! What may ever be sent to a JChip bridge: the question for its time, and the command to continue.

use crate::decoders::allowed::commands;
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(_: &Settings, said: &[u8]) -> Option<String> {
    commands(said, b"\r", |line| matches!(line, b"GT" | b"S0000"))
}
