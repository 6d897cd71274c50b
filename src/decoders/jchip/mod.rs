//! JChip: the descriptor. The wire's layout is at the head of `protocol.rs`.

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
    title: "JChip (CrossMgr bridges)",
    dials: Dials::TheDecoder,
    port: 53135,
    baud: &[],
    idle_limit: None,
    frame_end: b"\r",
    missed: Missed::Lost,
    since_first_read: false,
    given_by_hand: false,
    locations: false,
    tells_utc: false,
    tells_clock: true,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: &[],
    greeting: Some(&questions::GREETING),
    follow_ups: &[],
    hint: Some("Its reads come once it is told to go on. That was not done: what it had kept would be gone."),
    commands: Some(allowed::forbidden),
    simulator: &simulator::JChip,
    trials: &trials::TRIALS,
};
