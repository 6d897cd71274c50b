//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, nothing_to_repair, stream, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[
        &[("time_format", "iso")],
        &[("time_format", "msecs")],
        &[("time_format", "unix")],
        &[("time_format", "unix-utc")],
        &[("time_format", "unix-local")],
    ],
    greeting: b"SimpleClient~1.0~CTP01\r\nack~getlocations~Finish~Start\r\n",
    harmful: &[b"stop~Finish\r\n"],
    in_order: true,
    is_costly: false,
    repair: nothing_to_repair,
    hostile,
};

fn hostile() -> Vec<HostileStream> {
    let long = "x".repeat(3900);
    let longer = long.clone();
    vec![
        text(|n| format!("CT01_33~{}~L{n}~AB{n}~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 7 + 1)),
        text(|n| format!("CT01_33~{}~L{n}~newlocation~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 7 + 1)),
        stream(move |n| {
            format!("ack~getlocations~{n}{long}\r\nCT01_33~9~{n}{longer}~A~2026-07-26T09:05:03~1~~1\r\n").into()
        }),
        text(|n| {
            format!("ack~getlocations~Finish\r\nCT01_33~{}~Finish~AB~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 2 + 1)
        }),
        text(|n| "~".repeat(1 + n % 4000)),
    ]
}
