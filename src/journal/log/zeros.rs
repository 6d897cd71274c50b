//! Zeros in a segment: at its end they are room for lines to come (see `ahead`), before a line they
//! are what a disk left that lost what was written there. A zero byte is never part of a line.

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

/// Where the zeros at the end of a file begin.
pub(in crate::journal) fn end_of_lines(file: &File) -> io::Result<u64> {
    loop {
        match before_zeros(file, file.metadata()?.len()) {
            // The zeros were given back meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            found => return found,
        }
    }
}

fn before_zeros(file: &File, length: u64) -> io::Result<u64> {
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
