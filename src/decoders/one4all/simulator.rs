//! The simulated One4All. It stores reads in session files, and pushes only to its last connection.

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{
    Conversation, ForbiddenCommand, Hearing, Pushing, Simulator, antenna, clock_time, hits, rows, say,
};

pub(crate) struct One4All;

impl Nature for One4All {
    fn chip(&self, number: u32) -> String {
        format!("MC{number:05}")
    }

    fn begins_files(&self) -> bool {
        true
    }
}

impl Simulator for One4All {
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
    fn begin(&mut self, _memory: &Memory, _now: DateTime, out: &mut Outgoing) {
        say(out, "HELLO;One4All simulator");
    }

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
        self.pushing.push(memory, b"", row, out)
    }

    fn is_superseded(&mut self) {
        self.pushing = Pushing::default();
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
        let named = (1..=file).rev().find(|file| fields.get(1) == Some(&&*session_file(memory, *file)));
        match fields[0] {
            "GETPROTOCOL" => say(out, "GETPROTOCOL;3.1;1.0;3.1"),
            "GETSTATUS" => {
                let file = session_file(memory, file);
                say(out, &format!("GETSTATUS;O4A-00012;STARTMODE;{file};Europe/Madrid;5;3.1"));
            }
            "GETTIME" => say(out, &format!("GETTIME;{};{}", now.date(), clock_time(now))),
            "PASSINGS" => {
                let entries = memory.entries(file);
                let last = entries.clone().rev().take(8).flat_map(|entry| memory.reads_of(entry));
                let last: String = last.map(|read| format!(";{}", read.chip)).collect();
                say(out, &format!("PASSINGS;{}{last}", entries.len()));
            }
            "PUSHTAGS" => {
                let on = fields.get(1) == Some(&"true");
                self.pushing = if on { Pushing::from_untaken(memory.len(), memory) } else { Pushing::default() };
                say(out, line);
            }
            "GETPASSINGS" => {
                rows(memory, memory.range(file, number(1).unwrap_or(1), number(2).unwrap_or(u64::MAX)), b"", row, out);
                say(out, "");
            }
            "LISTFILES" => {
                let files: String = (1..=file).map(|file| format!("{};", session_file(memory, file))).collect();
                say(out, &format!("LISTFILES;{files}"));
            }
            "GETFILEINFO" => {
                let entries = named.map_or(0..0, |file| memory.entries(file));
                let at = |entry: Option<usize>| {
                    let at = entry.and_then(|entry| memory.placed(entry)).map_or(memory.start, |placed| placed.at);
                    format!("{};{}", at.date(), clock_time(at))
                };
                let (first, last) = (at(entries.clone().next()), at(entries.clone().next_back()));
                say(out, &format!("GETFILEINFO;{first};{last};{}", entries.len()));
            }
            "GETFILE" => {
                let (from, to) = (number(2).unwrap_or(1), number(3).unwrap_or(u64::MAX));
                rows(memory, named.map_or(0..0, |file| memory.range(file, from, to)), b"", row, out);
                say(out, "");
            }
            "PING" => say(out, "PING;PONG"),
            "READBATTERY" => say(out, "READBATTERY;VOLTS;25.5;PERCENT;90;HASPOWER;false"),
            "START" | "STOP" | "NEWFILE" | "CLEARFILES" | "SETTIME" | "SETPROTOCOL" | "SETBOUNCE" => {
                return Err(ForbiddenCommand(line.to_owned()));
            }
            other => say(out, &format!("{other};ERR")),
        }
        Ok(())
    }
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (antenna, hits) = (antenna(*number), hits(*number));
    let token = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let chip = One4All.chip(*chip);
    let (code, digits) = chip.split_at(2);
    let (date, time) = (at.date(), clock_time(*at));
    format!("{number};{code};{digits};{date};{time};{antenna};{hits};{token:05x}").into_bytes()
}

/// One4All names a session file by the time when it began.
fn session_file(memory: &Memory, file: u64) -> String {
    let at = memory.began(file);
    let (y, m, d) = (at.year(), at.month(), at.day());
    format!("{y:04}{m:02}{d:02}-{:02}{:02}{:02}.csv", at.hour(), at.minute(), at.second())
}
