//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::{FollowUp, Question};

/// Questions to a silent box.
pub(super) static QUESTIONS: &[Question] = &[Question {
    bytes: b"GETSYSTEMTIME\r\n",
    asks: "a CloudBox for its time",
    safe: "only returns the time",
    source: "vendor's help pages (head of protocol.rs)",
    serial: false,
    known_only: false,
    rank: 2,
}];

/// Questions once the decoder is known.
pub(super) static FOLLOW_UPS: &[FollowUp] = &[FollowUp {
    text: "GETSYSTEMTIME\r\n",
    asks: "it for its time",
    safe: "only returns the time",
    source: "vendor's help pages (head of protocol.rs)",
}];
