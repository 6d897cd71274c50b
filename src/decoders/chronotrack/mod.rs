//! ChronoTrack: the descriptor. The wire's layout is at the head of `protocol.rs`.

mod allowed;
mod protocol;
mod recogniser;
mod simulator;
mod trials;

use std::time::Duration;

use crate::decoders::descriptor::{Dialect, Dials, Missed, Outdated, Spec};
use crate::decoders::recogniser::{Recogniser, from_the_beginning};

/// The line of the registry.
pub(super) static SPEC: Spec = Spec {
    name: protocol::NAME,
    title: "ChronoTrack (Simple Client, CTP01)",
    dials: Dials::TheDecoder,
    port: 61611,
    baud: &[],
    // It answers a ping every 15 s.
    idle_limit: Some(Duration::from_secs(60)),
    frame_end: b"\r\n",
    missed: Missed::Stored,
    since_first_read: false,
    given_by_hand: false,
    locations: true,
    tells_utc: false,
    tells_clock: false,
    bare_characters: false,
    dialects: &[
        Dialect { set: &[("time_format", "msecs")], frame_end: b"\r\n" },
        Dialect { set: &[("time_format", "unix")], frame_end: b"\r\n" },
    ],
    outdated: &[Outdated {
        option: ("time_format", "unix"),
        instead: "it was read as UTC, and still is. Write `unix-utc` if that is right, or `unix-local` if the controller counts \
                  the local time, as those do whose files were seen. Compare a read with a clock you trust",
    }],
    make: protocol::make,
    recogniser: Some(Recogniser { sign: recogniser::sign, is_checked: false, start: from_the_beginning }),
    questions: &[],
    greeting: None,
    follow_ups: &[],
    hint: Some(
        "The daemon greets it and has each location started; that was not done now, so there are no reads. Nothing was \
             sent to it.",
    ),
    commands: Some(allowed::forbidden),
    simulator: &simulator::ChronoTrack,
    trials: &trials::TRIALS,
};
