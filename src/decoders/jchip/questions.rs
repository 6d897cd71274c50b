//! What the probe may ask this decoder. [`crate::decoders::question`] says what must hold.

use crate::decoders::question::Question;

/// The answer to its software, which has connected and waits for a greeting.
pub(super) static GREETING: Question = Question {
    bytes: b"GT\r",
    asks: "the JChip bridge for its time",
    safe: "only returns the time; reads flow after S0000, which is not sent",
    source: "CrossMgr's JChip server and bridges",
    serial: false,
    known_only: true,
    rank: 0,
};
