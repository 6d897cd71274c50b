//! Impinj: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod protocol;
mod recogniser;
mod simulator;
mod trials;

use crate::decoders::descriptor::{Dials, Missed, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry. The port is what its TCP socket is usually given; the reader has no fixed one.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "Impinj Speedway Connect (JSON)",
    dials: Dials::TheBox,
    port: 14150,
    baud: &[115_200],
    idle_limit: None,
    frame_end: b"\r\n",
    missed: Missed::Lost,
    since_first_read: false,
    given_by_hand: false,
    locations: false,
    tells_utc: true,
    tells_clock: false,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: &[],
    greeting: None,
    follow_ups: &[],
    hint: Some("Its reader only streams; its clock needs a time server."),
    commands: None,
    simulator: &simulator::Impinj,
    trials: &trials::TRIALS,
};
