//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, nothing_to_repair, stream, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("dialect", "v2")]],
    greeting: b"HELLO\r\nGETPROTOCOL;3.0\r\nGETSTATUS;SERIAL;MC1;20191212-090206.csv\r\nGETTIME;2019-12-12;09:02:07\r\nPASSINGS;20\r\n",
    harmful: &[b"START\r\n", b"CLEARFILES\r\n", b"SETBOUNCE;5\r\n"],
    in_order: false,
    is_costly: false,
    repair: nothing_to_repair,
    hostile,
};

fn hostile() -> Vec<HostileStream> {
    let long = "x".repeat(3900);
    let mut streams = vec![
        stream(move |n| format!("{};MC;{:05};2019-12-12;09:02:07.295;3;4;{long}\r\n", n * 2 + 1, n % 100_000).into()),
        text(|n| {
            format!(
                "HELLO\r\nGETSTATUS;SERIAL;U{n};20191212-{:06}.csv\r\n{};MC;00001;2019-12-12;09:02:07.295;3;4;a\r\n\r\n",
                n % 235_959,
                n * 2 + 1
            )
        }),
        text(|n| {
            format!(
                "START;2019{:02}12-09{:02}06.csv\r\n{};MC;00001;2019-12-12;09:02:07.295;3;4;a\r\n",
                n % 12 + 1,
                n % 60,
                n * 3 + 1
            )
        }),
        text(|n| format!("GETPROTOCOL;3.0\r\nGETSTATUS;{}\r\nPASSINGS;{}\r\n", n, n * 1000)),
        text(|n| format!("{n}|")),
    ];
    // More rows than may wait for the name of their file.
    streams[0].length = 2 << 20;
    streams
}
