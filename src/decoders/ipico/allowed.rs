//! What may ever be sent to an IPICO: the question for its clock, unless an option switches that
//! off.

use crate::decoders::allowed::{commands, is_set};
use crate::decoders::protocol::Settings;

/// See [`crate::decoders::Spec::forbidden`].
pub(super) fn forbidden(set: &Settings, said: &[u8]) -> Option<String> {
    commands(said, b"\r\n", |line| line == b"ab00000222" && !is_set(set, "clock_query", "false"))
}
