//! What the simulators of several protocols share: what was sent by hand, pushing, and common forms of fields. A
//! [`Model`](super::memory::Model) for the decoder and a [`Talk`] for each peer are in one file a protocol in this directory,
//! written from the same documents as the protocols and sharing no code with them.

use std::ops::Range;

use jiff::civil::DateTime;

use super::memory::{Forbidden, Memory, Placed, Talk};
use super::wire::Outgoing;

/// Longest command that is listened to.
const COMMAND_MAX: usize = 4096;
/// Reads pushed before the other side is listened to again.
const PUSH_MAX: usize = 1000;

/// Bytes to commands.
#[derive(Default)]
pub(super) struct Hearing(Vec<u8>);

impl Hearing {
    /// The commands that `bytes` end with `end`, trimmed.
    pub(super) fn commands(&mut self, bytes: &[u8], end: u8) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut commands = Vec::new();
        while let Some(at) = self.0.iter().position(|byte| *byte == end) {
            let line: Vec<u8> = self.0.drain(..=at).collect();
            commands.push(String::from_utf8_lossy(&line[..at]).trim().to_owned());
        }
        if self.0.len() > COMMAND_MAX {
            self.0.clear();
        }
        commands
    }
}

/// What is pushed to a peer: everything from a log entry on, or nothing.
#[derive(Default)]
pub(super) struct Pushing {
    next: Option<usize>,
    /// How often the memory had been given again at the last push; `None`: nothing was pushed yet.
    again: Option<u64>,
    /// How often the last read had been said once more.
    repeated: Option<u64>,
    /// How often another program had taken the push over.
    taken: Option<u64>,
}

impl Pushing {
    pub(super) fn from(entry: usize) -> Self {
        Self { next: Some(entry), ..Self::default() }
    }

    /// The same, until another program takes it over.
    pub(super) fn from_untaken(entry: usize, memory: &Memory) -> Self {
        Self { taken: Some(memory.pushes_taken()), ..Self::from(entry) }
    }

    /// Pushes what happened since, at most [`PUSH_MAX`] reads, with `prefix` before each row. True if more is left.
    pub(super) fn push(
        &mut self,
        memory: &Memory,
        prefix: &[u8],
        row: impl Fn(&Placed) -> Vec<u8>,
        out: &mut Outgoing,
    ) -> bool {
        if self.taken.is_some_and(|taken| taken != memory.pushes_taken()) {
            *self = Self::default();
        }
        let Some(next) = &mut self.next else { return false };
        if self.again.replace(memory.again()).is_some_and(|again| again != memory.again()) {
            *next = 0; // all of it, and then what happens meanwhile
        }
        let end = memory.len().min(*next + PUSH_MAX);
        while *next < end {
            let Some(entry) = memory.said_at(*next) else { return false }; // with the one that follows
            rows(memory, entry..entry + 1, prefix, &row, out);
            *next += 1;
        }
        let more = end < memory.len();
        let repeats = self.repeated.replace(memory.repeated()).is_some_and(|before| before != memory.repeated());
        if let Some(last) = memory.len().checked_sub(1).filter(|_| repeats && !more) {
            rows(memory, last..last + 1, prefix, &row, out);
        }
        more
    }
}

/// A peer that is told what happens from its connection on, row by row, and may say nothing.
pub(super) struct Listener {
    pushing: Pushing,
    row: fn(&Placed) -> Vec<u8>,
}

impl Listener {
    pub(super) fn to(row: fn(&Placed) -> Vec<u8>) -> Box<dyn Talk> {
        Box::new(Self { pushing: Pushing::default(), row })
    }
}

impl Talk for Listener {
    fn begin(&mut self, memory: &Memory, _now: DateTime, _out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
    }

    fn hear(&mut self, bytes: &[u8], _memory: &Memory, _now: DateTime, _out: &mut Outgoing) -> Result<(), Forbidden> {
        Err(Forbidden(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", self.row, out)
    }
}

/// Writes log entries as rows, a recorded one as it was recorded.
pub(super) fn rows(
    memory: &Memory,
    entries: Range<usize>,
    prefix: &[u8],
    row: impl Fn(&Placed) -> Vec<u8>,
    out: &mut Outgoing,
) {
    let end = memory.model.end();
    for entry in entries {
        if let Some(row) = memory.recorded(entry) {
            out.frame(&[prefix, row, end]);
        } else if let Some(placed) = memory.placed(entry) {
            out.frame(&[prefix, &row(&placed), end]);
        }
    }
}

/// A line for the peer.
pub(super) fn say(out: &mut Outgoing, line: &str) {
    out.frame(&[line.as_bytes(), b"\r\n"]);
}

/// What a race does not tell (antenna, hits) is made from the number, so that a stored read looks as it did when it was pushed.
pub(super) fn antenna(number: u64) -> u64 {
    number % 8 + 1
}

/// As [`antenna`].
pub(super) fn hits(number: u64) -> u64 {
    number % 5 + 1
}

/// `hh:mm:ss.kkk`
pub(super) fn clock_time(at: DateTime) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}
