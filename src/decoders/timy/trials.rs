//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{Trials, is_line_end, nothing_of_its_own, pieces};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("checksum", "true")]],
    greeting: b"",
    harmful: &[b"CLR\r"],
    in_order: true,
    is_costly: false,
    repair,
    hostile: nothing_of_its_own,
};

#[allow(clippy::ptr_arg, reason = "the repair of another protocol changes the length")]
fn repair(stream: &mut Vec<u8>) {
    pieces(stream, is_line_end, sum);
}

fn sum(line: &mut [u8]) {
    if line.len() == 28 {
        let total = line[..26].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        line[26..].copy_from_slice(&[0x30 + (total >> 4), 0x30 + (total & 15)]);
    }
}
