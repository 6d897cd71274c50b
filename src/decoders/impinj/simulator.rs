//! The simulated Speedway Connect reader. It streams objects, and a heartbeat every few seconds.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Pushing, Simulator, antenna, clock_time};
use crate::model::chip::Stamp;

pub(crate) struct Impinj;

impl Nature for Impinj {
    fn chip(&self, number: u32) -> String {
        format!("e2801160600002054c{number:06x}")
    }

    fn stamp(&self, at: DateTime) -> Stamp {
        jiff::tz::TimeZone::UTC.to_timestamp(at).map_or(Stamp::Local(at), Stamp::Utc)
    }
}

impl Simulator for Impinj {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    pushing: Pushing,
    seconds: u32,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, _out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _memory: &Memory,
        _now: DateTime,
        _out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        Err(ForbiddenCommand(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", row, out)
    }

    fn second(&mut self, now: DateTime, out: &mut Outgoing) {
        self.seconds += 1;
        if self.seconds.is_multiple_of(5) {
            let (date, time) = (now.date(), clock_time(now));
            let beat = format!(
                r#"{{"antennaPort":0,"epc":"","firstSeenTimestamp":"{date}T{time}Z","peakRssi":0,"isHeartBeat":true}}"#
            );
            out.frame(&[beat.as_bytes(), b"\r\n"]);
        }
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (epc, date, time) = (Impinj.chip(*chip).to_ascii_uppercase(), at.date(), clock_time(*at));
    let (antenna, rssi) = (antenna(*number), 40 + number % 35);
    format!(
        r#"{{"antennaPort":{antenna},"epc":"{epc}","firstSeenTimestamp":"{date}T{time}00Z","peakRssi":-{rssi},"isHeartBeat":false}}"#
    )
    .into_bytes()
}
