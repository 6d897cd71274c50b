//! Timy: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod protocol;
mod recogniser;
mod simulator;
mod trials;

use crate::decoders::descriptor::{Dials, Missed, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry. No port of its own: it is a serial line, or a device server in front of one.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "ALGE Timy / TdC",
    dials: Dials::TheBox,
    port: 4001, // the usual port of a serial device server
    baud: &[9600, 38_400],
    idle_limit: None,
    frame_end: b"\r",
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
    questions: &[],
    greeting: None,
    follow_ups: &[],
    hint: None,
    commands: None,
    simulator: &simulator::Timy,
    trials: &trials::TRIALS,
};
