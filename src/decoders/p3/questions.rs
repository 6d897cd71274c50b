//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::Question;

/// Questions to a silent box.
pub(super) static QUESTIONS: &[Question] = &[Question {
    bytes: b"\x8e\x02\x11\x00\xe4\x49\x00\x00\x02\x00\x01\x00\x07\x00\x0c\x00\x8f",
    asks: "a P3 decoder for its status",
    safe: "a request of type 02 returns noise, temperature and voltage; type 05 would clear, this is under a CRC",
    source: "metarace and ambp3client (request frames with empty values)",
    serial: false,
    known_only: false,
    rank: 4,
}];
