//! The simulated JChip bridge. It connects, sends its name, and streams after the command to
//! continue.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Hearing, Pushing, Simulator, clock_time};

pub(crate) struct JChip;

impl Nature for JChip {
    fn chip(&self, number: u32) -> String {
        format!("{number:06X}")
    }
}

impl Simulator for JChip {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    hearing: Hearing,
    pushing: Pushing,
    /// The first entry to send after the command to continue.
    from: usize,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, out: &mut Outgoing) {
        self.from = memory.len();
        out.frame(&[b"N0000passbridge-sim\r"]);
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        for command in self.hearing.commands(bytes, b'\r') {
            match &*command {
                "GT" => {
                    let (time, date) =
                        (clock_time(now).replace([':', '.'], ""), now.date().to_string().replace('-', ""));
                    out.frame(&[format!("GT0{time}000 date={date}\r").as_bytes()]);
                }
                "S0000" => self.pushing = Pushing::from(self.from),
                _ => return Err(ForbiddenCommand(command)),
            }
        }
        Ok(())
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", row, out)
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (date, time) = (at.date().to_string().replace('-', ""), clock_time(*at));
    format!("DA{} {time}000 10  {:05X}      C7 date={date}", JChip.chip(*chip), number % 0x10_0000).into_bytes()
}
