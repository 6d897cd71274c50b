//! The simulated decoders that are servers (and the one that only streams): how they write a read, and what they
//! answer. Pure. Written from the same documents as the protocols and sharing no code with them.

use std::ops::Range;

use jiff::civil::DateTime;

use super::Kind;
use super::memory::{Memory, Placed};
use super::wire::Outgoing;

/// Longest command that is listened to.
const COMMAND_MAX: usize = 4096;
/// Reads pushed before the other side is listened to again.
const PUSH_MAX: usize = 1000;
/// Name and id of the simulated RACE RESULT box; the id is in every record.
const BOX: (&str, &str) = ("Sim", "D-5001");

/// One side of a conversation with one peer.
pub(super) struct Conversation {
    heard: Vec<u8>,
    /// Log entry that is pushed next; `None`: not asked to push.
    push: Option<usize>,
}

/// A command that a decoder must never get from the box; kept for the judge.
pub(super) struct Forbidden(pub(super) String);

impl Conversation {
    pub(super) fn begin(memory: &Memory, out: &mut Outgoing) -> Self {
        if memory.kind == Kind::One4All {
            say(out, "HELLO;One4All simulator");
        }
        Self { heard: Vec::new(), push: (memory.kind == Kind::Ipico).then(|| memory.len()) }
    }

    /// Takes bytes and answers the commands that they end. `now` is the decoder's clock.
    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), Forbidden> {
        self.heard.extend_from_slice(bytes);
        let mut result = Ok(());
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let answered = match memory.kind {
                Kind::Ipico => ipico(line.trim(), now, out),
                Kind::RaceResult => self.race_result(line.trim(), memory, now, out),
                Kind::One4All => self.one4all(line.trim(), memory, now, out),
                Kind::Mylaps => Ok(()), // speaks in `super::exporter`
            };
            result = result.and(answered);
        }
        if self.heard.len() > COMMAND_MAX {
            self.heard.clear();
        }
        result
    }

    /// Pushes what happened since, at most [`PUSH_MAX`] reads. True if more is left.
    pub(super) fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        let Some(next) = &mut self.push else { return false };
        let end = memory.len().min(*next + PUSH_MAX);
        let prefix: &[u8] = if memory.kind == Kind::RaceResult { b"#P;" } else { b"" };
        rows(memory, *next..end, prefix, out);
        *next = end;
        end < memory.len()
    }

    /// Another connection gets the pushed reads from now on.
    pub(super) fn is_superseded(&mut self) {
        self.push = None;
    }

    fn race_result(&mut self, line: &str, memory: &Memory, now: DateTime, out: &mut Outgoing) -> Result<(), Forbidden> {
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
                self.push = (number(1) == Some(1)).then_some(start);
                say(out, line);
            }
            "GETFILE" => {
                rows(memory, memory.entries(number(1).unwrap_or(0)), b"", out);
                say(out, "");
            }
            "STARTOPERATION" | "STOPOPERATION" | "SETTIME" | "CLEARFILES" => return Err(Forbidden(line.to_owned())),
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
                rows(memory, entries, b"", out);
                say(out, "");
            }
        }
        Ok(())
    }

    fn one4all(&mut self, line: &str, memory: &Memory, now: DateTime, out: &mut Outgoing) -> Result<(), Forbidden> {
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
                self.push = (fields.get(1) == Some(&"true")).then(|| memory.len());
                say(out, line);
            }
            "GETPASSINGS" => {
                rows(memory, memory.range(file, number(1).unwrap_or(1), number(2).unwrap_or(u64::MAX)), b"", out);
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
                rows(memory, named.map_or(0..0, |file| memory.range(file, from, to)), b"", out);
                say(out, "");
            }
            "PING" => say(out, "PING;PONG"),
            "READBATTERY" => say(out, "READBATTERY;VOLTS;25.5;PERCENT;90;HASPOWER;false"),
            "START" | "STOP" | "NEWFILE" | "CLEARFILES" | "SETTIME" | "SETPROTOCOL" | "SETBOUNCE" => {
                return Err(Forbidden(line.to_owned()));
            }
            other => say(out, &format!("{other};ERR")),
        }
        Ok(())
    }
}

fn ipico(line: &str, now: DateTime, out: &mut Outgoing) -> Result<(), Forbidden> {
    // Reader 00, no data, instruction 02: the clock question. Data with instruction 01 would set the clock.
    if line.eq_ignore_ascii_case("ab00000222") {
        let weekday = now.weekday().to_sunday_zero_offset();
        let (date, time) = ipico_time(now);
        let body = format!("000902{date}{weekday:02}{time}27");
        say(out, &format!("ab{body}{:02x}", sum(&body)));
        return Ok(());
    }
    if line.starts_with("ab") { Err(Forbidden(line.to_owned())) } else { Ok(()) }
}

fn say(out: &mut Outgoing, line: &str) {
    out.frame(&[line.as_bytes(), b"\r\n"]);
}

fn rows(memory: &Memory, entries: Range<usize>, prefix: &[u8], out: &mut Outgoing) {
    for entry in entries {
        if let Some(row) = memory.recorded(entry) {
            out.frame(&[prefix, row, b"\r\n"]);
        } else if let Some(placed) = memory.placed(entry) {
            out.frame(&[prefix, row(memory.kind, &placed).as_bytes(), b"\r\n"]);
        }
    }
}

/// A read as the decoder writes it, without line end. What the race does not tell (antenna, hits, signal) is made
/// from the number, so that a stored read looks as it did when it was pushed.
fn row(kind: Kind, placed: &Placed) -> String {
    let Placed { chip, at, number, file } = placed;
    let (antenna, hits) = (number % 8 + 1, number % 5 + 1);
    let chip = kind.chip(*chip);
    match kind {
        Kind::Ipico => {
            let (date, time) = ipico_time(*at);
            let body = format!("00{chip}{:02x}{:02x}{date}{time}", hits / 2, hits - hits / 2);
            format!("aa{body}{:02x}", sum(&body))
        }
        Kind::RaceResult => {
            let (date, time, rssi) = (at.date(), clock_time(*at), number % 31);
            format!("{number};{chip};{date};{time};0;{hits};{rssi};;0;;;;;;;0;{};{file};{antenna};{}", BOX.0, BOX.1)
        }
        Kind::One4All => {
            let token = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
            let (code, digits) = chip.split_at(2);
            format!("{number};{code};{digits};{};{};{antenna};{hits};{token:05x}", at.date(), clock_time(*at))
        }
        Kind::Mylaps => String::new(), // records are written in `super::exporter`
    }
}

/// `hh:mm:ss.kkk`
pub(super) fn clock_time(at: DateTime) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}

/// `yymmdd`, and `hhmmss` with hundredths in hex.
fn ipico_time(at: DateTime) -> (String, String) {
    let date = format!("{:02}{:02}{:02}", at.year() % 100, at.month(), at.day());
    let time = format!("{:02}{:02}{:02}{:02x}", at.hour(), at.minute(), at.second(), at.millisecond() / 10);
    (date, time)
}

fn sum(body: &str) -> u8 {
    body.bytes().fold(0, u8::wrapping_add)
}

/// One4All names a session file by the time it began.
fn session_file(memory: &Memory, file: u64) -> String {
    let at = memory.began(file);
    let (y, m, d) = (at.year(), at.month(), at.day());
    format!("{y:04}{m:02}{d:02}-{:02}{:02}{:02}.csv", at.hour(), at.minute(), at.second())
}
