//! How one simulated decoder names chips and times, and what it does of itself.

use std::panic::RefUnwindSafe;

use jiff::civil::DateTime;

use crate::decoders::protocol::Settings;
use crate::model::chip::Stamp;

/// The nature of a simulated decoder: what the others do not have.
pub(crate) trait Nature: Sync + RefUnwindSafe {
    /// The chip code of a runner, as our protocol decodes what the real system sends.
    fn chip(&self, number: u32) -> String;

    /// The stamp as our protocol decodes it, for a crossing at this wall time of the decoder.
    fn stamp(&self, at: DateTime) -> Stamp {
        Stamp::Local(at)
    }

    /// What the decoder's clock counts in, milliseconds.
    fn resolution_ms(&self) -> u64 {
        1
    }

    /// Noise that costs no frame but itself. `end` is what ends a frame.
    fn noise(&self, end: &[u8]) -> Vec<u8> {
        [b"\x15~noise\xfe", end].concat()
    }

    /// The options under which our protocol reads it, where it does not without.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// A recording of this protocol in rows, without their ends.
    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        lines_of(recording, b'\n')
    }

    /// Location and number of a recorded row, where rows have them.
    fn recorded_place(&self, row: &[u8]) -> Option<(String, u64)> {
        let _ = row;
        None
    }

    /// Another program can begin a new file or session in it.
    fn begins_files(&self) -> bool {
        false
    }

    /// Its clock is gone after it was switched off and on: from then on it says how long it has been on.
    fn loses_its_clock(&self) -> bool {
        false
    }

    /// Its records name the reader that made them.
    fn names_its_reader(&self) -> bool {
        false
    }
}

/// What lies between the `end`s, trimmed, but for what is empty.
pub(crate) fn lines_of(recording: &[u8], end: u8) -> Vec<Vec<u8>> {
    let rows = recording.split(|byte| *byte == end).map(|row| row.trim_ascii().to_vec());
    rows.filter(|row| !row.is_empty()).collect()
}
