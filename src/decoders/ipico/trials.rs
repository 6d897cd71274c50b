//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{Trials, is_line_end, nothing_of_its_own, pieces};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[], &[("clock_query", "false")]],
    greeting: b"",
    harmful: &[b"ab00070126112400000000\r\n"],
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
    if !line.starts_with(b"aa") && !line.starts_with(b"ab") || line.len() < 10 {
        return;
    }
    let tail = if line.ends_with(b"FS") || line.ends_with(b"LS") { 2 } else { 0 };
    let end = line.len() - tail;
    let total = line[2..end - 2].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    line[end - 2..end].copy_from_slice(format!("{total:02x}").as_bytes());
}
