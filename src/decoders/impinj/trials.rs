//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, nothing_to_repair, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[]],
    greeting: b"",
    harmful: &[b"\n"],
    in_order: true,
    is_costly: false,
    repair: nothing_to_repair,
    hostile,
};

fn hostile() -> Vec<HostileStream> {
    vec![
        text(|_| "{\"a\":".to_owned()),
        text(|_| "{\"a\":[".repeat(31) + "}"),
        text(|n| format!("{{\"epc\":\"{n}{}", "\\\\".repeat(9000))),
        text(|n| {
            format!(
                "{{\"epc\":\"{n}\",\"timestamp\":\"2026-07-26T09:05:03Z\",\"antenna\":{n},\"x\":\"{}\"}}",
                "y".repeat(16_200)
            )
        }),
    ]
}
