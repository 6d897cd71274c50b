//! CloudBox: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
mod protocol;
mod questions;
mod recogniser;
mod simulator;
mod trials;

use crate::decoders::descriptor::{Dials, Missed, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "RUFUS CloudBox",
    dials: Dials::TheBox,
    port: 8080,
    baud: &[],
    idle_limit: None, // whether it answers the question for its time in every state is not known
    frame_end: b"\r\n",
    missed: Missed::Lost,
    since_first_read: false,
    given_by_hand: true,
    locations: false,
    tells_utc: false,
    tells_clock: false,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: questions::QUESTIONS,
    greeting: None,
    follow_ups: questions::FOLLOW_UPS,
    hint: None,
    commands: Some(allowed::forbidden),
    simulator: &simulator::CloudBox,
    trials: &trials::TRIALS,
};
