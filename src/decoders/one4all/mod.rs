//! One4All: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
mod protocol;
mod questions;
mod recogniser;
mod simulator;
mod trials;

use std::time::Duration;

use crate::decoders::descriptor::{Dialect, Dials, Missed, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "Macsha One4All",
    dials: Dials::TheBox,
    port: 10002,
    baud: &[],
    // v3 answers a PING every 10 s. How often v2 gives its sign of life is not documented, so there is some slack.
    idle_limit: Some(Duration::from_secs(60)),
    frame_end: b"\r\n",
    missed: Missed::Stored,
    since_first_read: false,
    given_by_hand: false,
    locations: false,
    tells_utc: false,
    tells_clock: true,
    bare_characters: false,
    dialects: &[Dialect { set: &[("dialect", "v2")], frame_end: b"|" }],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: questions::QUESTIONS,
    greeting: None,
    follow_ups: questions::FOLLOW_UPS,
    hint: Some(
        "A One4All sends its reads only to the program that connected last. If another one was connected, have it \
             connect again now.",
    ),
    commands: Some(allowed::forbidden),
    simulator: &simulator::One4All,
    trials: &trials::TRIALS,
};
