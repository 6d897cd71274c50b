//! The simulated ALGE Timy. It prints impulses of the finish channel. Any bytes sent to it would
//! set something or print its memory.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::Placed;
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::talk::{Conversation, Listener, Simulator, clock_time};
use crate::model::chip::Stamp;

pub(crate) struct Timy;

impl Nature for Timy {
    fn chip(&self, number: u32) -> String {
        (number % 10_000).to_string()
    }

    fn stamp(&self, at: DateTime) -> Stamp {
        Stamp::TimeOfDay { time: at.time(), day: None }
    }

    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        // Blanks are kept, because they are flags and padding.
        let rows = recording.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::to_vec);
        rows.filter(|row| !row.is_empty()).collect()
    }
}

impl Simulator for Timy {
    fn talk(&self) -> Box<dyn Conversation> {
        Listener::to(row)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    format!(" {:04} C1  {}0 00", placed.chip % 10_000, clock_time(placed.at)).into_bytes()
}
