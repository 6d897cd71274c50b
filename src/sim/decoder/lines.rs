//! A simulated decoder that writes lines as [`PATTERN`] reads them: chip, date and time, antenna, number.

use super::memory::Placed;
use super::memory::{Model, Talk};
use super::model::{Listener, antenna, clock_time};

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

    fn settings(&self) -> crate::decoders::Settings {
        [("pattern", PATTERN), ("date_format", DATE_FORMAT)].map(|(key, value)| (key.into(), value.into())).into()
    }

    fn talk(&self) -> Box<dyn Talk> {
        Listener::to(row)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (chip, date, time) = (FreeLines.chip(*chip), at.date().to_string().replace('-', "/"), clock_time(*at));
    format!("{chip},{date},{time},{},{number}", antenna(*number)).into_bytes()
}
