//! The simulated ChronoTrack system. It connects, stores everything by location, and sends it from
//! any number on.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Hearing, Simulator, antenna, clock_time, say};

/// The most log entries that are checked for one location before the simulator listens to the other
/// side again.
const PUSH_MAX: usize = 1000;
const GREETING: [&str; 6] = [
    "stream-mode=push",
    "time-format=iso",
    "location=multi",
    "guntimes=true",
    "newlocations=true",
    "connection-id=false",
];

pub(crate) struct ChronoTrack;

impl Nature for ChronoTrack {
    fn chip(&self, number: u32) -> String {
        number.to_string()
    }

    fn resolution_ms(&self) -> u64 {
        10
    }

    fn recorded_place(&self, row: &[u8]) -> Option<(String, u64)> {
        let row = String::from_utf8_lossy(row);
        let mut fields = row.split('~').skip(1);
        let number = fields.next()?.parse().ok()?;
        Some((fields.next()?.to_owned(), number))
    }

    fn names_its_reader(&self) -> bool {
        true
    }
}

impl Simulator for ChronoTrack {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    hearing: Hearing,
    /// The number of lines of the box's greeting that have not arrived yet. `None`: the greeting
    /// has not begun.
    greeting: Option<usize>,
    /// The locations that were started, with the next log entry to check for each.
    started: Vec<(String, usize)>,
    /// How many repeats of the last read were sent.
    repeated: Option<u64>,
}

impl Conversation for Peer {
    fn begin(&mut self, _memory: &Memory, _now: DateTime, out: &mut Outgoing) {
        say(out, "SimpleClient~3.2.4~CTP01");
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        _now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        let commands = self.hearing.commands(bytes, b'\n');
        commands.iter().map(|line| self.answer(line, memory, out)).fold(Ok(()), Result::and)
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        let mut more = false;
        for (location, next) in &mut self.started {
            let end = memory.len().min(*next + PUSH_MAX);
            while *next < end {
                let Some(entry) = memory.said_at(*next) else { break }; // it waits for the next entry
                say_at(memory, entry, location, out);
                *next += 1;
            }
            more |= end < memory.len();
        }
        let repeats = self.repeated.replace(memory.repeated()).is_some_and(|before| before != memory.repeated());
        if let Some(last) = memory.len().checked_sub(1).filter(|_| repeats && !more) {
            self.started.iter().for_each(|(location, _)| say_at(memory, last, location, out));
        }
        more
    }
}

/// Sends an entry if it was read at this location.
fn say_at(memory: &Memory, entry: usize, location: &str, out: &mut Outgoing) {
    let Some((here, number)) = memory.located(entry).filter(|(here, _)| *here == *location) else { return };
    match (memory.recorded(entry), memory.placed(entry)) {
        (Some(row), _) => out.frame(&[row, b"\r\n"]),
        (None, Some(placed)) => out.frame(&[&row(&placed, &here, number, &memory.reader), b"\r\n"]),
        (None, None) => {}
    }
}

impl Peer {
    fn answer(&mut self, line: &str, memory: &Memory, out: &mut Outgoing) -> Result<(), ForbiddenCommand> {
        let fields: Vec<&str> = line.split('~').collect();
        match self.greeting {
            None => {
                self.greeting = fields.get(2).and_then(|lines| lines.parse().ok()); // `None`: it is not for us
                return Ok(());
            }
            Some(left @ 1..) => {
                self.greeting = Some(left - 1);
                let known = GREETING.contains(&line) || line.starts_with("time-format=");
                return if known { Ok(()) } else { Err(ForbiddenCommand(line.to_owned())) };
            }
            Some(0) => {}
        }
        let locations = memory.locations();
        match *fields {
            ["ping"] => say(out, "ack~ping"),
            ["ack", "ping"] => {}
            ["getlocations"] => say(out, &format!("ack~getlocations~{}", locations.join("~"))),
            ["start", location, ref from @ ..] if locations.iter().any(|known| known == location) => {
                let file = memory.entries(memory.file());
                let first = match from.first().map(|from| from.parse::<u64>()) {
                    None => file.end,
                    Some(Ok(from)) => {
                        let is_first = |entry: &usize| {
                            memory.located(*entry).is_some_and(|(at, number)| at == *location && number >= from)
                        };
                        file.clone().find(is_first).unwrap_or(file.end)
                    }
                    Some(Err(_)) => return Err(ForbiddenCommand(line.to_owned())),
                };
                self.started.retain(|(started, _)| started != location);
                self.started.push(((*location).to_owned(), first));
                say(out, "ack~start");
            }
            ["start", ..] => say(out, "err~start~unknown location"),
            _ => return Err(ForbiddenCommand(line.to_owned())),
        }
        Ok(())
    }
}

fn row(placed: &Placed, location: &str, number: u64, reader: &str) -> Vec<u8> {
    let Placed { chip, at, .. } = placed;
    let (chip, date, time) = (ChronoTrack.chip(*chip), at.date(), clock_time(*at));
    let hundredths = &time[..time.len() - 1];
    format!("CT01_33~{number}~{location}~{chip}~{date}T{hundredths}~0~{reader}~{}", antenna(number)).into_bytes()
}
