//! A simulated decoder that writes lines in the form that [`PATTERN`] reads: chip, date and time,
//! antenna, number.

use crate::decoders::simulator::memory::Placed;
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::talk::{Conversation, Listener, Simulator, antenna, clock_time};

/// The option `pattern` that reads this decoder.
pub(super) const PATTERN: &str =
    r"^(?<chip>[0-9A-F]{8}),(?<date>[^,]+),(?<time>[^,]+),(?<antenna>\d+),(?<position>\d+)$";
/// The option `date_format` that goes with it.
pub(super) const DATE_FORMAT: &str = "%Y/%m/%d";

pub(crate) struct FreeLines;

impl Nature for FreeLines {
    fn chip(&self, number: u32) -> String {
        format!("00{number:06X}")
    }

    fn settings(&self) -> crate::decoders::protocol::Settings {
        [("pattern", PATTERN), ("date_format", DATE_FORMAT)].map(|(key, value)| (key.into(), value.into())).into()
    }
}

impl Simulator for FreeLines {
    fn talk(&self) -> Box<dyn Conversation> {
        Listener::to(row)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (chip, date, time) = (FreeLines.chip(*chip), at.date().to_string().replace('-', "/"), clock_time(*at));
    format!("{chip},{date},{time},{},{number}", antenna(*number)).into_bytes()
}
