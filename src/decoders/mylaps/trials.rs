//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, pieces, text};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("version", "1"), ("name", "box one")]],
    greeting: b"Finish@Pong@$",
    harmful: &[b"passbridge@Start@$", b"passbridge@Ping"],
    in_order: true,
    is_costly: false,
    repair,
    hostile,
};

#[allow(clippy::ptr_arg, reason = "the repair of another protocol changes the length")]
fn repair(stream: &mut Vec<u8>) {
    pieces(stream, |byte| matches!(byte, b'@' | b'$'), sum);
}

fn sum(record: &mut [u8]) {
    if record.len() == 39 {
        let total = record[..37].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        record[37..].copy_from_slice(format!("{total:02X}").as_bytes());
    }
}

fn hostile() -> Vec<HostileStream> {
    vec![
        text(|n| format!("L{n}@Pong@$L{n}@Passing@c=A{n}|t=09:05:03.125|d=260726@{n}@$")),
        text(|n| format!("L{n}{}", "@c=1".repeat(65_536))),
        text(|_| "a$".to_owned()),
        text(|_| format!("L@Passing{}@1@$", "@x".repeat(130_000))),
        text(|_| format!("{}@Passing{}@1@$", "L".repeat(200_000), "@c=A|t=09:05:03".repeat(3000))),
        text(|_| format!("{}@Passing{}@1@$", "L".repeat(127), "@c=A|t=09:05:03".repeat(17_000))),
    ]
}
