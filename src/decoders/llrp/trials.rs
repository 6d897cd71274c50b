//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{HostileStream, Trials, stream};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("start", "true")]],
    greeting: b"\x04\x3f\0\0\0\x20\0\0\0\x01\0\xf6\0\x16\0\x80\0\x0c\0\x06\x4f\xcb\xfc\xe5\x94\x40\x01\0\0\x06\0\0",
    harmful: &[b"\x04\x15\0\0\0\x0e\0\0\0\x01PBRI", b"\x04\x16\0\0\0\x0e\0\0\0\x01\0\0\0\x07"],
    in_order: true,
    is_costly: false,
    repair,
    hostile,
};

/// Corrects the lengths of messages, and of parameters in a report, that go beyond the end.
#[allow(clippy::ptr_arg, reason = "the repair of another protocol changes the length")]
fn repair(stream: &mut Vec<u8>) {
    let mut at = 0;
    while let Some([a, b, l1, l2, l3, l4, ..]) = stream.get(at..).filter(|rest| rest.len() >= 10) {
        let (kind, left) = (u16::from_be_bytes([*a, *b]) & 0x3ff, stream.len() - at);
        let told = u32::from_be_bytes([*l1, *l2, *l3, *l4]) as usize;
        let length = if (10..=left).contains(&told) { told } else { left };
        stream[at] = 4 | (kind >> 8) as u8;
        stream[at + 2..at + 6].copy_from_slice(&(length as u32).to_be_bytes());
        if kind == 61 {
            parameters(&mut stream[at + 10..at + length]);
        }
        at += length;
    }
}

/// A TLV whose length does not fit gets the bytes that are left.
fn parameters(mut body: &mut [u8]) {
    while body.len() >= 4 && body[0] & 0x80 == 0 {
        let told = usize::from(u16::from_be_bytes([body[2], body[3]]));
        let length = if (4..=body.len()).contains(&told) { told } else { body.len().min(0xffff) };
        body[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        body = &mut body[length..];
    }
}

/// The head of a report of 4 GiB.
const ENDLESS: &[u8] = &[4, 61, 255, 255, 255, 255, 0, 0, 0, 1];

/// Made when they are asked for: as a constant they would be a third of a megabyte of the program.
fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

fn hostile() -> Vec<HostileStream> {
    vec![
        stream(|n| {
            message(
                63,
                &[[0, 246, 0, 11, 0, 255, 0, 7, 0], [(n >> 8) as u8, n as u8, 0, 0, 0, 0, 0, 0, 0]].concat()[..11],
            )
        }),
        stream(|_| [&[4, 61, 0, 4, 0, 0, 0, 0, 0, 1][..], &zeros(262_134)].concat()),
        stream(|_| message(61, &[0, 240, 0, 4].repeat(65_000))),
        stream(|_| message(63, &tlv(246, &[[0, 255, 0, 7, 0, 0, 1], [0, 255, 0, 7, 1, 0, 1]].concat().repeat(4600)))),
        stream(|n| message(36, &[0, 177, 0, 4].repeat(n % 1000))),
        // A report without an end: of the longest parameters, of the shortest, and of one that
        // never becomes whole.
        stream(|n| if n == 0 { ENDLESS.to_vec() } else { [&[3, 255, 255, 255][..], &zeros(65_531)].concat() }),
        stream(|n| if n == 0 { ENDLESS.to_vec() } else { [0, 240, 0, 4].repeat(1000) }),
        stream(|n| if n == 0 { ENDLESS.to_vec() } else { [0, 240, 255, 255].repeat(1000) }),
    ]
}

fn tlv(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 10).to_be_bytes();
    [&(0x400 | kind).to_be_bytes()[..], &length, &[0, 0, 0, 1], body].concat()
}
