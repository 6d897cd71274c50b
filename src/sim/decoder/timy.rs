//! The simulated ALGE Timy: it prints impulses of the finish channel, and listens to nothing.

use jiff::civil::DateTime;

use super::memory::{Memory, Placed};
use super::model::{Forbidden, Model, Pushing, Talk, clock_time};
use super::wire::Outgoing;
use crate::chip::Stamp;

pub(super) struct Timy;

impl Model for Timy {
    fn name(&self) -> &'static str {
        "timy"
    }

    fn chip(&self, number: u32) -> String {
        (number % 10_000).to_string()
    }

    fn stamp(&self, at: DateTime) -> Stamp {
        Stamp::TimeOfDay { time: at.time(), day: None }
    }

    fn streams(&self) -> bool {
        true
    }

    fn end(&self) -> &'static [u8] {
        b"\r"
    }

    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        // Blanks count: they are flags and padding.
        let rows = recording.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::to_vec);
        rows.filter(|row| !row.is_empty()).collect()
    }

    fn talk(&self) -> Box<dyn Talk> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer(Pushing);

impl Talk for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, _out: &mut Outgoing) {
        self.0 = Pushing::from(memory.len());
    }

    fn hear(&mut self, bytes: &[u8], _memory: &Memory, _now: DateTime, _out: &mut Outgoing) -> Result<(), Forbidden> {
        // Whatever is said to it sets something or prints its memory.
        Err(Forbidden(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.0.push(memory, b"", row, out)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    format!(" {:04} C1  {}0 00", placed.chip % 10_000, clock_time(placed.at)).into_bytes()
}
