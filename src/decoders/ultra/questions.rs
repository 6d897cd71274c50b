//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::{FollowUp, Question};

/// Questions to a silent box.
pub(super) static QUESTIONS: &[Question] = &[Question {
    bytes: b"?",
    asks: "an Ultra whether it reads",
    safe: "answered with S=<state>; one of the characters that change nothing",
    source: "vendor's manual; Chronokeep",
    serial: false,
    known_only: true,
    rank: 3,
}];

/// Questions once the decoder is known.
pub(super) static FOLLOW_UPS: &[FollowUp] = &[FollowUp {
    text: "r",
    asks: "it for its clock",
    safe: "only returns the clock",
    source: "vendor's manual; PikaTimer and Chronokeep",
}];
