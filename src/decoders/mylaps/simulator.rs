//! The simulated MYLAPS exporter. It connects to the box and sends messages of several records, at
//! most ten of them unacknowledged. It repeats each message until the box acknowledges it. It is
//! pure, except that it receives the time.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use jiff::civil::DateTime;

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::{Nature, lines_of};
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, Exporter, ForbiddenCommand, Simulator, clock_time};

/// The most messages in flight.
const WINDOW: usize = 10;
/// The most bytes of an unfinished message from the box.
const HEARD_MAX: usize = 64 * 1024;

pub(crate) struct Mylaps;

impl Nature for Mylaps {
    fn chip(&self, number: u32) -> String {
        format!("KV{number:05}")
    }

    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        lines_of(recording, b'$')
    }
}

impl Simulator for Mylaps {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::new(Silent)
    }

    fn exporter(&self, repeat: Duration) -> Option<Box<dyn Exporter>> {
        Some(Box::new(Repeating::new(repeat)))
    }
}

/// The exporter's state outlives its connections, so the exporter speaks through [`Exporter`]
/// instead.
struct Silent;

impl Conversation for Silent {
    fn begin(&mut self, _memory: &Memory, _now: DateTime, _out: &mut Outgoing) {}

    fn hear(
        &mut self,
        _bytes: &[u8],
        _memory: &Memory,
        _now: DateTime,
        _out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        Ok(())
    }

    fn push(&mut self, _memory: &Memory, _out: &mut Outgoing) -> bool {
        false
    }
}

struct Message {
    number: String,
    entries: Range<usize>,
    sent: Option<Duration>,
}

/// The exporter's side, which outlives its connections.
struct Repeating {
    repeat: Duration,
    /// At most [`WINDOW`].
    window: VecDeque<Message>,
    next_entry: usize,
    next_number: u64,
    /// The version that the box chose on this connection. `None`: it has not chosen yet.
    version: Option<u8>,
    heard: Vec<u8>,
    /// Whether each log entry is acknowledged.
    acked: Vec<bool>,
    /// The number of acknowledged reads.
    acked_reads: u64,
}

impl Repeating {
    fn new(repeat: Duration) -> Self {
        Self {
            repeat,
            window: VecDeque::new(),
            next_entry: 0,
            next_number: 1,
            version: None,
            heard: Vec::new(),
            acked: Vec::new(),
            acked_reads: 0,
        }
    }

    fn settle(&mut self, number: &str, memory: &Memory) {
        let Some(at) = self.window.iter().position(|message| message.number == number && message.sent.is_some()) else {
            return; // a second acknowledgement of a message that was sent twice
        };
        let Some(message) = self.window.remove(at) else { return };
        self.acked.resize(self.acked.len().max(message.entries.end), false);
        for entry in message.entries {
            self.acked[entry] = true;
            self.acked_reads += memory.reads_of(entry).len() as u64;
        }
    }
}

impl Exporter for Repeating {
    /// A connection was made. Sends the hello, and every unacknowledged message again once the box
    /// has answered.
    fn connected(&mut self, memory: &Memory, out: &mut Outgoing) {
        self.version = None;
        self.heard.clear();
        self.window.iter_mut().for_each(|message| message.sent = None);
        for location in memory.locations() {
            out.frame(&[location.as_bytes(), b"@Pong@$"]);
        }
    }

    /// The box sent bytes.
    fn hear(&mut self, bytes: &[u8], memory: &Memory, out: &mut Outgoing) {
        self.heard.extend_from_slice(bytes);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'$') {
            let message: Vec<u8> = self.heard.drain(..=end).collect();
            let message = String::from_utf8_lossy(&message);
            let fields: Vec<&str> = message.trim_end_matches('$').split('@').collect();
            match (fields.get(1).copied(), fields.get(2).copied()) {
                (Some("AckPong"), version) => {
                    self.version = Some(if version == Some("Version2.1") { 2 } else { 1 });
                }
                (Some("Ping"), _) => out.frame(&[memory.locations()[0].as_bytes(), b"@AckPing@$"]),
                (Some("AckStore" | "AckPassing"), Some(number)) => self.settle(number, memory),
                _ => {}
            }
        }
        if self.heard.len() > HEARD_MAX {
            self.heard.clear();
        }
    }

    /// Sends what may be sent now: new messages while the window has room, and those that were not
    /// acknowledged in time. Returns the latest time at which it wants to be called again.
    fn send(&mut self, memory: &Memory, now: Duration, out: &mut Outgoing) -> Option<Duration> {
        let version = self.version?;
        while self.window.len() < WINDOW && self.next_entry < memory.len() {
            let recorded = memory.recorded(self.next_entry);
            let records = if recorded.is_some() { 1 } else { if version == 1 { 50 } else { 100 } };
            let mut entries = self.next_entry..memory.len().min(self.next_entry + records);
            if memory.locations().len() > 1 {
                // All records of a message are of one location.
                let place = |entry| memory.located(entry).map(|(location, _)| location);
                let first = place(entries.start);
                entries.end = entries.clone().find(|entry| place(*entry) != first).unwrap_or(entries.end);
            }
            let number = recorded.map(recorded_number).unwrap_or_else(|| self.next_number.to_string());
            self.next_entry = entries.end;
            self.next_number += 1;
            self.window.push_back(Message { number, entries, sent: None });
        }
        let due = |sent: Duration| sent + self.repeat;
        for message in &mut self.window {
            if message.sent.is_none_or(|sent| due(sent) <= now) {
                message.sent = Some(now);
                write(message, version, memory, out);
            }
        }
        self.window.iter().filter_map(|message| message.sent).map(due).min()
    }

    fn acked_reads(&self) -> u64 {
        self.acked_reads
    }

    fn is_acked(&self, entry: usize) -> bool {
        self.acked.get(entry).copied().unwrap_or(false)
    }
}

/// The number of a recorded message, which is its last field.
fn recorded_number(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text.trim_end_matches('@').rsplit('@').next().unwrap_or_default().to_owned()
}

fn write(message: &Message, version: u8, memory: &Memory, out: &mut Outgoing) {
    if let Some(recorded) = memory.recorded(message.entries.start) {
        return out.frame(&[recorded, b"$"]);
    }
    let function = if version == 1 { "Store" } else { "Passing" };
    let location = memory.located(message.entries.start).map(|(location, _)| location).unwrap_or_default();
    let mut text = format!("{location}@{function}");
    for placed in message.entries.clone().filter_map(|entry| memory.placed(entry)) {
        text.push('@');
        text.push_str(&if version == 1 { store_record(&placed) } else { passing_record(&placed) });
    }
    out.frame(&[text.as_bytes(), b"@", message.number.as_bytes(), b"@$"]);
}

fn store_record(placed: &Placed) -> String {
    let Placed { chip, at, number, .. } = placed;
    let chip = Mylaps.chip(*chip);
    let date = format!("{:02}{:02}{:02}", at.year() % 100, at.month(), at.day());
    let body = format!("{chip}{} 3 0F  1{:04X}{date}", clock_time(*at), number % 0x1_0000);
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("{body}{sum:02X}")
}

fn passing_record(placed: &Placed) -> String {
    let Placed { chip, at, number, .. } = placed;
    let chip = Mylaps.chip(*chip);
    let date = format!("{:02}{:02}{:02}", at.year() % 100, at.month(), at.day());
    format!("c={chip}|t={}|d={date}|dv=3|re=0|an=00001111|h={}", clock_time(*at), number % 5 + 1)
}
