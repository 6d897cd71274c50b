//! Ultra: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
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
    title: "RFID Timing Ultra / Joey",
    dials: Dials::TheBox,
    port: 23,
    baud: &[],
    idle_limit: Some(Duration::from_secs(30)),
    frame_end: b"\n",
    missed: Missed::Stored,
    since_first_read: true,
    given_by_hand: false,
    locations: false,
    tells_utc: false,
    tells_clock: true,
    bare_characters: true,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: questions::QUESTIONS,
    greeting: None,
    follow_ups: questions::FOLLOW_UPS,
    hint: None,
    commands: Some(allowed::forbidden),
    simulator: &simulator::Ultra,
    trials: &trials::TRIALS,
};
