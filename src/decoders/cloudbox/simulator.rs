//! The simulated RUFUS CloudBox. It streams passings to every client and answers the question for
//! its time.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{
    Conversation, ForbiddenCommand, Hearing, Pushing, Simulator, antenna, clock_time, hits, say,
};

pub(crate) struct CloudBox;

impl Nature for CloudBox {
    fn chip(&self, number: u32) -> String {
        format!("MC{number:05}")
    }
}

impl Simulator for CloudBox {
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
        for command in self.hearing.commands(bytes, b'\n') {
            if command != "GETSYSTEMTIME" {
                return Err(ForbiddenCommand(command)); // the others start, stop or set something, or are unknown
            }
            let (date, time) = (now.date(), clock_time(now));
            say(out, &format!(r#"{{"command":"GETSYSTEMTIME","result":{{"time":"{date} {time}"}}}}"#));
        }
        Ok(())
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        // It is not known whether a rewound record keeps its old number. This is the harder case.
        let shift = memory.again() * 1_000_000;
        self.pushing.push(memory, b"", |placed| row(placed, shift), out)
    }
}

fn row(placed: &Placed, shift: u64) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let passing_number = number + shift;
    let (chip, date, time) = (CloudBox.chip(*chip), at.date(), clock_time(*at));
    let (antenna, hits, rssi) = (antenna(*number), hits(*number), 40 + number % 35);
    format!(
        r#"{{"timestamp":"{date};{time}","seenCount":{hits},"antenna":{antenna},"rssi":-{rssi},"passingNumber":{passing_number},"tagStr":"{chip}","latitude":null,"longitude":null,"chksum":"00000"}}"#
    )
    .into_bytes()
}
