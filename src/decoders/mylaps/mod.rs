//! Mylaps: the descriptor. The wire's layout is at the head of `protocol.rs`.

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
    title: "MYLAPS Timing & Scoring / Toolkit (TCP/IP exporter)",
    dials: Dials::TheDecoder,
    port: 3097,
    baud: &[],
    idle_limit: Some(Duration::from_secs(60)),
    frame_end: b"$",
    missed: Missed::Repeated,
    since_first_read: false,
    given_by_hand: false,
    locations: true,
    tells_utc: false,
    tells_clock: false,
    bare_characters: false,
    dialects: &[],
    outdated: &[],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: &[],
    greeting: Some(&questions::GREETING),
    follow_ups: &[],
    hint: Some("Nothing was acknowledged: it will send all of this again."),
    commands: Some(allowed::forbidden),
    simulator: &simulator::Mylaps,
    trials: &trials::TRIALS,
};
