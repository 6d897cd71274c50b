//! A simulated decoder that writes lines as [`PATTERN`] reads them: chip, date and time, antenna, number.

use jiff::civil::DateTime;

use super::memory::{Memory, Placed};
use super::model::{Forbidden, Model, Pushing, Talk, antenna, clock_time};
use super::wire::Outgoing;

/// The option `pattern` that reads this decoder.
pub const PATTERN: &str = r"^(?<chip>[0-9A-F]{8}),(?<date>[^,]+),(?<time>[^,]+),(?<antenna>\d+),(?<position>\d+)$";
/// The option `date_format` that goes with it.
pub const DATE_FORMAT: &str = "%Y/%m/%d";

pub(super) struct FreeLines;

impl Model for FreeLines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn chip(&self, number: u32) -> String {
        format!("00{number:06X}")
    }

    fn streams(&self) -> bool {
        true
    }

    fn settings(&self) -> crate::protocol::Settings {
        [("pattern", PATTERN), ("date_format", DATE_FORMAT)].map(|(key, value)| (key.into(), value.into())).into()
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
        Err(Forbidden(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.0.push(memory, b"", row, out)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (chip, date, time) = (FreeLines.chip(*chip), at.date().to_string().replace('-', "/"), clock_time(*at));
    format!("{chip},{date},{time},{},{number}", antenna(*number)).into_bytes()
}
