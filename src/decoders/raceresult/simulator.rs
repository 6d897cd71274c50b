//! The simulated RACE RESULT box. It stores everything in numbered files, and pushes to each peer
//! that asked for it.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::{Nature, lines_of};
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{
    Conversation, ForbiddenCommand, Hearing, Pushing, Simulator, antenna, clock_time, hits, rows, say,
};

/// The name and id of the simulated box. The id is in every record.
const BOX: (&str, &str) = ("Sim", "D-5001");

pub(crate) struct RaceResult;

impl Nature for RaceResult {
    fn chip(&self, number: u32) -> String {
        format!("R{number:06}")
    }

    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        let rows = lines_of(recording, b'\n').into_iter();
        rows.map(|row| row.strip_prefix(b"#P;").map(<[u8]>::to_vec).unwrap_or(row)).collect()
    }

    fn begins_files(&self) -> bool {
        true
    }
}

impl Simulator for RaceResult {
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
    fn begin(&mut self, _memory: &Memory, _now: DateTime, _out: &mut Outgoing) {}

    fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        let commands = self.hearing.commands(bytes, b'\n');
        commands.iter().map(|line| self.answer(line, memory, now, out)).fold(Ok(()), Result::and)
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"#P;", row, out)
    }
}

impl Peer {
    fn answer(
        &mut self,
        line: &str,
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        let fields: Vec<&str> = line.split(';').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let file = memory.file();
        let count = memory.entries(file).len();
        match fields[0] {
            "GETPROTOCOL" => say(out, "GETPROTOCOL;2.0;1.0;3.3"),
            "SETPROTOCOL" => say(out, "SETPROTOCOL;2.0"),
            "GETCONFIG" if line == "GETCONFIG;GENERAL;BOXNAME" => say(out, &format!("{line};{};{}", BOX.0, BOX.1)),
            "GETSTATUS" => {
                let (date, time) = (now.date(), clock_time(now));
                say(
                    out,
                    &format!(
                        "GETSTATUS;{date};{time};1;11110000;1;{file};1;49.7,8.2;1;100;30;31;0;0;;;;;;1;1;0;0;0;13.2"
                    ),
                );
            }
            "PASSINGS" => say(out, &format!("PASSINGS;{count};{file}")),
            "SETPUSHPASSINGS" => {
                let start = if number(2) == Some(1) { memory.entries(file).start } else { memory.len() };
                self.pushing =
                    if number(1) == Some(1) { Pushing::from_untaken(start, memory) } else { Pushing::default() };
                say(out, line);
            }
            "GETFILE" => {
                rows(memory, memory.entries(number(1).unwrap_or(0)), b"", row, out);
                say(out, "");
            }
            "STARTOPERATION" | "STOPOPERATION" | "SETTIME" | "CLEARFILES" => {
                return Err(ForbiddenCommand(line.to_owned()));
            }
            range => {
                let asked = range.split_once(':').map(|(from, count)| (from.parse::<u64>(), count.parse::<u64>()));
                let Some((Ok(from), Ok(asked))) = asked else {
                    say(out, &format!("{};UNKNOWN", fields[0]));
                    return Ok(());
                };
                let entries = memory.range(file, from, from.saturating_add(asked).saturating_sub(1));
                if (entries.len() as u64) < asked {
                    say(out, &format!("ONLY {}", entries.len()));
                }
                rows(memory, entries, b"", row, out);
                say(out, "");
            }
        }
        Ok(())
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, file, .. } = placed;
    let (antenna, hits, rssi) = (antenna(*number), hits(*number), number % 31);
    let (chip, date, time) = (RaceResult.chip(*chip), at.date(), clock_time(*at));
    format!("{number};{chip};{date};{time};0;{hits};{rssi};;0;;;;;;;0;{};{file};{antenna};{}", BOX.0, BOX.1)
        .into_bytes()
}
