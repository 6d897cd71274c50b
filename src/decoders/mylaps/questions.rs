//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::Question;

/// The answer to its software, which has connected and waits for a greeting.
pub(super) static GREETING: Question = Question {
    bytes: b"passbridge@AckPong@Version2.1@c|t|d|dv|re|an|h|amd@$",
    asks: "the MYLAPS exporter to go on, as every server does",
    safe: "chooses the version of this connection only; what is not acknowledged is sent again, and nothing is",
    source: "MYLAPS T&S TCP-IP V2 protocol, edition 2021.1",
    serial: false,
    known_only: true,
    rank: 0,
};
