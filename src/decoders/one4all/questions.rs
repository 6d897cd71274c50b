//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::{FollowUp, Question};

/// Questions to a silent box.
pub(super) static QUESTIONS: &[Question] = &[Question {
    bytes: b"GETSTATUS\r\n",
    asks: "a RACE RESULT or One4All for its status",
    safe: "returns the state and changes none; documented by both vendors, RACE RESULT's clients send it all the time",
    source: "RACE RESULT knowledge base 19; Macsha's manual of the One4All 5",
    serial: true,
    known_only: false,
    rank: 1,
}];

/// Questions once the decoder is known.
pub(super) static FOLLOW_UPS: &[FollowUp] = &[
    FollowUp {
        text: "GETTIME\r\n",
        asks: "it for its clock",
        safe: "only returns the time",
        source: "Macsha's manual of the One4All 5",
    },
    FollowUp {
        text: "PASSINGS\r\n",
        asks: "it how many reads it has",
        safe: "only returns the count",
        source: "Macsha's manual of the One4All 5",
    },
    FollowUp {
        text: "GETPASSINGS;{from};{to}\r\n",
        asks: "it for its last stored reads",
        safe: "copies them; they stay stored, and the push to another program stays as it is",
        source: "Macsha's manual of the One4All 5",
    },
];
