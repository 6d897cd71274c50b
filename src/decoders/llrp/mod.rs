//! Llrp: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
mod protocol;
mod recogniser;
mod simulator;
mod trials;

use std::time::Duration;

use crate::decoders::descriptor::{Dials, Missed, Spec};
use crate::decoders::recogniser::Recogniser;

/// The line of the registry.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "LLRP readers (Impinj, Zebra)",
    dials: Dials::TheBox,
    port: 5084,
    baud: &[],
    idle_limit: Some(Duration::from_secs(35)), // three life signs
    frame_end: b"",
    missed: Missed::Lost,
    since_first_read: false,
    given_by_hand: false,
    locations: false,
    tells_utc: true,
    tells_clock: true,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: recogniser::from_header }),
    questions: &[],
    greeting: None,
    follow_ups: &[],
    hint: Some(
        "It greets as an LLRP reader does (READER_EVENT_NOTIFICATION). A reader sends tags only while an inventory runs in it. passbridge takes what the reader was told to do before; \
             with `set.start = \"true\"` it adds an inventory of its own. Nothing was sent to it now.",
    ),
    commands: Some(allowed::forbidden),
    simulator: &simulator::Llrp,
    trials: &trials::TRIALS,
};
