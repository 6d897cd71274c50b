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
        text: "GETSTATUS\r\n",
        asks: "it for its clock",
        safe: "returns the state and changes none",
        source: "RACE RESULT knowledge base 19",
    },
    FollowUp {
        text: "PASSINGS\r\n",
        asks: "it how many reads it has",
        safe: "only returns the count",
        source: "RACE RESULT knowledge base 19",
    },
    FollowUp {
        text: "{from}:{count}\r\n",
        asks: "it for its last stored reads",
        safe: "copies them; nothing that a client asks for removes data",
        source: "RACE RESULT knowledge base 19; CrossMgr and metarace",
    },
];
