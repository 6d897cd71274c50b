//! What tests and fuzz targets try on this decoder.

use super::frame;
use crate::decoders::trials::{HostileStream, Trials, stream};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("clock", "utc")], &[("code", "printed")]],
    greeting: b"",
    harmful: &[b"\x8e\x02\x0b\0\0\0\0\0\x05\0\x8f", b"\x8e\x02\x0b\0\0\0\0\0\x28\0\x8f"],
    in_order: true,
    is_costly: false,
    repair,
    hostile,
};

fn repair(stream: &mut Vec<u8>) {
    *stream = repaired(stream);
}

/// Length and sum of each frame, escaped anew.
fn repaired(stream: &[u8]) -> Vec<u8> {
    let mut repaired = Vec::with_capacity(stream.len() + 16);
    let mut rest = stream;
    while let Some(begin) = memchr::memchr(0x8e, rest) {
        repaired.extend_from_slice(&rest[..begin]);
        rest = &rest[begin..];
        let end = rest[1..].iter().position(|byte| matches!(byte, 0x8e | 0x8f)).map(|at| at + 1);
        let Some(end) = end.filter(|end| rest[*end] == 0x8f) else {
            repaired.push(rest[0]);
            rest = &rest[1..];
            continue;
        };
        let mut plain = frame::unescaped(&rest[..=end]);
        if plain.len() >= 11 {
            let length = plain.len() as u16;
            plain[2..4].copy_from_slice(&length.to_le_bytes());
            let sum = frame::checksum(&plain);
            plain[4..6].copy_from_slice(&sum.to_le_bytes());
            repaired.push(0x8e);
            for byte in &plain[1..plain.len() - 1] {
                match byte {
                    0x8d..=0x8f => repaired.extend([0x8d, byte + 0x20]),
                    byte => repaired.push(*byte),
                }
            }
            repaired.push(0x8f);
        } else {
            repaired.extend_from_slice(&rest[..=end]);
        }
        rest = &rest[end + 1..];
    }
    repaired.extend_from_slice(rest);
    repaired
}

fn hostile() -> Vec<HostileStream> {
    vec![
        stream(|n| passing(n as u32 * 3, 1)),
        stream(|n| passing(n as u32 * 3, n as u32)),
        stream(|n| passing(u32::MAX - n as u32 * 2, (n % 17) as u32)),
        stream(|n| vec![0x8e, 0x8d, n as u8, 0x8d]),
    ]
}

fn passing(number: u32, decoder: u32) -> Vec<u8> {
    let (number, decoder) = (number.to_le_bytes(), decoder.to_le_bytes());
    let time = [0x40, 0x8f, 0x2a, 0xb5, 0x1e, 0x83, 0x05, 0].map(|byte| if byte > 0x8c { 0 } else { byte });
    let tags = [&[1, 4][..], &number, &[3, 4, 1, 2, 3, 4, 4, 8], &time, &[0x81, 4], &decoder].concat();
    let tags = tags.iter().flat_map(|byte| match byte {
        0x8d..=0x8f => vec![0x8d, byte + 0x20],
        byte => vec![*byte],
    });
    let mut frame: Vec<u8> = [0x8e, 2, 0, 0, 0, 0, 0, 0, 1, 0].into_iter().chain(tags).chain([0x8f]).collect();
    repair(&mut frame);
    frame
}
