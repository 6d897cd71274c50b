//! P3: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
mod frame;
mod protocol;
mod questions;
mod recogniser;
mod simulator;
mod trials;

use std::time::Duration;

use crate::decoders::descriptor::{Dials, Missed, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "AMB / MYLAPS P3 (AMBrc, TranX)",
    dials: Dials::TheBox,
    port: 5403,
    baud: &[],
    idle_limit: Some(Duration::from_secs(60)),
    frame_end: b"\x8f",
    missed: Missed::Stored,
    since_first_read: true,
    given_by_hand: false,
    locations: false,
    tells_utc: false,
    tells_clock: false,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: true, start: from_the_beginning }),
    questions: questions::QUESTIONS,
    greeting: None,
    follow_ups: &[],
    hint: None,
    commands: Some(allowed::forbidden),
    simulator: &simulator::P3,
    trials: &trials::TRIALS,
};
