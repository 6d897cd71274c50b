//! The simulated ALGE Timy: it prints impulses of the finish channel. Whatever is said to it would set something or print its
//! memory.

use jiff::civil::DateTime;

use super::memory::Placed;
use super::memory::{Model, Talk};
use super::model::{Listener, clock_time};
use crate::model::chip::Stamp;

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
        Listener::to(row)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    format!(" {:04} C1  {}0 00", placed.chip % 10_000, clock_time(placed.at)).into_bytes()
}
