//! How one simulated decoder writes chips and times, and its special behaviour.

use std::panic::RefUnwindSafe;

use jiff::civil::DateTime;

use crate::decoders::protocol::Settings;
use crate::model::chip::Stamp;

/// The nature of a simulated decoder: what is different in other decoders.
pub(crate) trait Nature: Sync + RefUnwindSafe {
    /// The chip code of a runner, as our protocol decodes the bytes of the real system.
    fn chip(&self, number: u32) -> String;

    /// The stamp as our protocol decodes it, for a crossing at this wall time of the decoder.
    fn stamp(&self, at: DateTime) -> Stamp {
        Stamp::Local(at)
    }

    /// The resolution of the decoder's clock in milliseconds.
    fn resolution_ms(&self) -> u64 {
        1
    }

    /// Noise that makes no other frame invalid. `end` is what ends a frame.
    fn noise(&self, end: &[u8]) -> Vec<u8> {
        [b"\x15~noise\xfe", end].concat()
    }

    /// The options that our protocol needs to read this decoder.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// Splits a recording of this protocol into rows, without their ends.
    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        lines_of(recording, b'\n')
    }

    /// Location and number of a recorded row, if the rows have them.
    fn recorded_place(&self, row: &[u8]) -> Option<(String, u64)> {
        let _ = row;
        None
    }

    /// Another program can begin a new file or session in this decoder.
    fn begins_files(&self) -> bool {
        false
    }

    /// The decoder loses its clock when it is switched off and on. From then on it reports how long
    /// it has been on.
    fn loses_its_clock(&self) -> bool {
        false
    }

    /// Its records name the reader that made them.
    fn names_its_reader(&self) -> bool {
        false
    }
}

/// The parts between the `end`s, trimmed, without the empty ones.
pub(crate) fn lines_of(recording: &[u8], end: u8) -> Vec<Vec<u8>> {
    let rows = recording.split(|byte| *byte == end).map(|row| row.trim_ascii().to_vec());
    rows.filter(|row| !row.is_empty()).collect()
}
