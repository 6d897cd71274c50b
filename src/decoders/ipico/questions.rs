//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::{FollowUp, Question};

/// Questions to a silent box.
pub(super) static QUESTIONS: &[Question] = &[Question {
    bytes: b"ab00000222\r\n",
    asks: "an IPICO for its clock",
    safe: "instruction 02 with length 0 only reads the clock (01 would set it); a frame without data and its checksum",
    source: "vendor's serial protocol text (2007); answered in live captures",
    serial: true,
    known_only: false,
    rank: 0,
}];

/// Questions once the decoder is known.
pub(super) static FOLLOW_UPS: &[FollowUp] = &[FollowUp {
    text: "ab00000222\r\n",
    asks: "it for its clock",
    safe: "instruction 02 with length 0 only reads the clock",
    source: "vendor's serial protocol text (2007)",
}];
