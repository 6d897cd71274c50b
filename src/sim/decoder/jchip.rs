//! The simulated JChip bridge: it connects, gives its name, and streams once it was told to go on.

use jiff::civil::DateTime;

use super::memory::{Forbidden, Model, Talk};
use super::memory::{Memory, Placed};
use super::model::{Hearing, Pushing, clock_time};
use super::wire::Outgoing;

pub(super) struct JChip;

impl Model for JChip {
    fn name(&self) -> &'static str {
        "jchip"
    }

    fn chip(&self, number: u32) -> String {
        format!("{number:06X}")
    }

    fn connects(&self) -> bool {
        true
    }

    fn streams(&self) -> bool {
        true
    }

    fn end(&self) -> &'static [u8] {
        b"\r"
    }

    fn talk(&self) -> Box<dyn Talk> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    hearing: Hearing,
    pushing: Pushing,
    /// What happens from here on is sent, once we may.
    from: usize,
}

impl Talk for Peer {
    fn begin(&mut self, memory: &Memory, _now: DateTime, out: &mut Outgoing) {
        self.from = memory.len();
        out.frame(&[b"N0000passbridge-sim\r"]);
    }

    fn hear(&mut self, bytes: &[u8], _memory: &Memory, now: DateTime, out: &mut Outgoing) -> Result<(), Forbidden> {
        for command in self.hearing.commands(bytes, b'\r') {
            match &*command {
                "GT" => {
                    let (time, date) =
                        (clock_time(now).replace([':', '.'], ""), now.date().to_string().replace('-', ""));
                    out.frame(&[format!("GT0{time}000 date={date}\r").as_bytes()]);
                }
                "S0000" => self.pushing = Pushing::from(self.from),
                _ => return Err(Forbidden(command)),
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
