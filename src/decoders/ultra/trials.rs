//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, nothing_to_repair, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("rewind_prefix", "nul")]],
    greeting: b"",
    harmful: &[b"?rS", b"t 10:00:00 01-01-2026\r", b"6001\r"],
    in_order: true,
    is_costly: false,
    repair: nothing_to_repair,
    hostile,
};

fn hostile() -> Vec<HostileStream> {
    vec![
        text(|n| format!("0,1{n},1170518701,698,1,-71,0,2,{n},0000000000000000,0,{}\n", n * 3)),
        text(|n| format!("0,1{n},{},698,1,-71,0,2,1,0000000000000000,0,{}\n", 1_170_518_701 + n, n * 3)),
        text(|n| format!("0,1,{},698,1,-71,0,2,1,0000000000000000,0,{}\n", 1_170_518_701 + n, 1_000_000 - n)),
        text(|n| format!("\x03{}", "y".repeat(1 + n % 250))),
        text(|_| "0,1,1170518701,698,1,-71,0,2,1,\n".to_owned()),
    ]
}
