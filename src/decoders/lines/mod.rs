//! Lines of any form: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod protocol;
mod simulator;
mod trials;

use crate::decoders::descriptor::{Dials, Missed, Spec};

/// The line of the registry. The port is whatever the decoder has.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "any decoder that writes lines",
    dials: Dials::TheBox,
    port: 10001,
    baud: &[],
    idle_limit: None,
    frame_end: b"\r\n",
    missed: Missed::Lost,
    since_first_read: false,
    given_by_hand: false,
    locations: false,
    tells_utc: false,
    tells_clock: false,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: None,
    questions: &[],
    greeting: None,
    follow_ups: &[],
    hint: None,
    commands: None,
    simulator: &simulator::FreeLines,
    trials: &trials::TRIALS,
};
