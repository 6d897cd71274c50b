//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{Trials, nothing_of_its_own, nothing_to_repair};

pub(super) static TRIALS: Trials = Trials {
    options: &[
        &[
            ("pattern", "^(?<chip>[0-9A-Za-z]+),(?<date>\\S+?),(?<time>\\S+?),(?<antenna>\\d+),(?<position>\\d+)$"),
            ("date_format", "%Y/%m/%d"),
        ],
        &[
            ("pattern", "^(?<chip>[0-9A-F]{8}),(?<date>\\S+),(?<time>\\S+),(?<antenna>\\d+),(?<position>\\d+)$"),
            ("date_format", "%Y/%m/%d"),
        ],
        &[("pattern", "^(?<chip>\\S+) (?<time>\\S+)$"), ("ignore", "^#")],
        &[("pattern", "^(?<epoch>[0-9.]+) (?<chip>\\S+) ?(?<rssi>\\S*)$")],
        &[("pattern", "^(?<epoch>[0-9.]+) (?<chip>\\S+)$"), ("epoch", "ms")],
        &[("pattern", "^<(?<chip>\\S+) (?<time>\\S+)>$")],
        &[
            ("pattern", "^(?<chip>[^;]+);(?<time>[^;]+);(?<antenna>.*)$"),
            ("time_format", "%Y-%m-%dT%H:%M:%S%.f"),
            ("clock", "utc"),
        ],
        &[("pattern", "^(?<epoch>[0-9.]+);(?<chip>.*)$"), ("epoch", "us")],
        &[("pattern", "^(?<chip>\\w+),(?<epoch>[\\d.]+)$"), ("epoch", "s"), ("clock", "local")],
        &[("pattern", "^(?<chip>\\w+),(?<time>.+)$"), ("time_format", "%d.%m.%Y %H:%M:%S%.f")],
        &[("pattern", "^(?<chip>\\w+),(?<time>.+)$")],
    ],
    greeting: b"",
    harmful: &[b"\n"],
    in_order: true,
    is_costly: true,
    repair: nothing_to_repair,
    hostile: nothing_of_its_own,
};
