//! Zeros at the end of a segment: room for lines to come.
//!
//! A line that makes a file longer makes the file system write, too: the new length, and where the
//! new blocks are. That is 12 of the 17 kB that a single read costs a card. A line that is written
//! over zeros which are there already changes none of this, so `fdatasync` is one write and one
//! FLUSH.
//!
//! What holds:
//! * A zero byte is never part of a line. So the first zero after a line end is the end of the lines,
//!   unless other bytes follow the zeros: then they are a hole that the disk made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are looked through at once.
const STEP: u64 = 64 * 1024;

/// A line without zeros before it: a disk that lost what was written there before left them.
pub(super) fn without_zeros(line: &[u8]) -> &[u8] {
    match line.first() {
        Some(0) => &line[line.iter().position(|byte| *byte != 0).unwrap_or(line.len())..],
        _ => line,
    }
}

/// Where the zeros at the end of a file of this length begin.
pub(in crate::journal) fn end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut step = 1; // usually there are none
    let mut bytes = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(step);
        bytes.resize((end - from) as usize, 0);
        file.read_exact_at(&mut bytes, from)?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        (end, step) = (from, STEP);
    }
    Ok(0)
}
