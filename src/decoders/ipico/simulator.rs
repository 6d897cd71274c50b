//! The simulated IPICO. It only streams, and answers the question for its clock.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Hearing, Pushing, Simulator, hits, say};

pub(crate) struct Ipico;

impl Nature for Ipico {
    fn chip(&self, number: u32) -> String {
        format!("05800{number:07x}")
    }

    fn resolution_ms(&self) -> u64 {
        10
    }
}

impl Simulator for Ipico {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    hearing: Hearing,
    pushing: Pushing,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, _out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        self.hearing.commands(bytes, b'\n').iter().try_for_each(|line| answer(line, now, out))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", row, out)
    }
}

fn answer(line: &str, now: DateTime, out: &mut Outgoing) -> Result<(), ForbiddenCommand> {
    // This is the clock question: reader 00, no data, instruction 02. Data with instruction 01
    // would set the clock.
    if line.eq_ignore_ascii_case("ab00000222") {
        let weekday = now.weekday().to_sunday_zero_offset();
        let (date, time) = date_time(now);
        let body = format!("000902{date}{weekday:02}{time}27");
        say(out, &format!("ab{body}{:02x}", sum(&body)));
        return Ok(());
    }
    if line.starts_with("ab") { Err(ForbiddenCommand(line.to_owned())) } else { Ok(()) }
}

fn row(placed: &Placed) -> Vec<u8> {
    let hits = hits(placed.number);
    let (date, time) = date_time(placed.at);
    let body = format!("00{}{:02x}{:02x}{date}{time}", Ipico.chip(placed.chip), hits / 2, hits - hits / 2);
    format!("aa{body}{:02x}", sum(&body)).into_bytes()
}

/// The time as `yymmdd`, and as `hhmmss` with hundredths in hex.
fn date_time(at: DateTime) -> (String, String) {
    let date = format!("{:02}{:02}{:02}", at.year() % 100, at.month(), at.day());
    let time = format!("{:02}{:02}{:02}{:02x}", at.hour(), at.minute(), at.second(), at.millisecond() / 10);
    (date, time)
}

fn sum(body: &str) -> u8 {
    body.bytes().fold(0, u8::wrapping_add)
}
