//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, nothing_to_repair, stream, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[]],
    greeting: b"GETPROTOCOL;2.0;1.0;2.0\r\nSETPROTOCOL;2.0\r\nGETCONFIG;GENERAL;BOXNAME;Box;D-50432\r\nSETPUSHPASSINGS;1;0\r\nPASSINGS;20;177\r\n",
    harmful: &[b"GETSTATUS\r\nCLEARFILES\r\n", b"STARTOPERATION\r\n", b"SETTIME;2026-01-01;00:00:00.000\r\n", b"SETPUSHPASSINGS;1;1\r\n"],
    in_order: true,
    is_costly: false,
    repair: nothing_to_repair,
    hostile,
};

fn hostile() -> Vec<HostileStream> {
    let long = "x".repeat(3900);
    vec![
        text(|n| {
            format!("#P;{};C{n};2026-07-26;09:05:03.125;;75;-68;;1;8;8;1;6233;3.0;17;0;Box;{n};4;D-{n}\r\n", n * 3)
        }),
        stream(move |n| {
            format!(
                "#P;{};C{n};2026-07-26;09:05:03.125;;75;-68;;1;8;8;1;6233;3.0;17;0;Box;F{n};4;D-{n}{long}\r\n",
                n * 3
            )
            .into()
        }),
        text(|n| {
            format!(
                "GETPROTOCOL;2.0;1.0;2.0\r\nSETPROTOCOL\r\nGETCONFIG;GENERAL;BOXNAME;B;D{n}\r\nSETPUSHPASSINGS\r\nPASSINGS;{};{n}\r\n{n};C;2026-07-26;09:05:03.125;;75;-68\r\n\r\n",
                n * 1000 + 1
            )
        }),
        text(|n| format!("GETSTATUS;2026-07-26;09:05:03.125;1;1;{};177;;;;{};;;;;;;;;;;;;;{n}\r\n", n % 2, n % 90)),
    ]
}
