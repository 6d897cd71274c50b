//! How the simulator of one protocol speaks: a [`Simulator`] for the decoder, a [`Conversation`]
//! for each peer, and the parts that the simulators share. They are pure, and are written from the
//! same documents as the protocols, without the protocols' code.

use std::ops::Range;
use std::time::Duration;

use jiff::civil::DateTime;

use super::memory::{Memory, Placed};
use super::nature::Nature;
use super::outgoing::Outgoing;

/// The longest command that is accepted.
const COMMAND_MAX: usize = 4096;
/// The most reads that are pushed before the simulator listens to the other side again.
const PUSH_MAX: usize = 1000;

/// A command that the box must never send to a decoder. Tests examine it.
pub(crate) struct ForbiddenCommand(pub(crate) String);

/// What a simulated decoder sends and answers, in addition to its [`Nature`].
pub(crate) trait Simulator: Nature {
    /// Makes a conversation with one peer.
    fn talk(&self) -> Box<dyn Conversation>;

    /// For a decoder that repeats messages until they are acknowledged: its side, which outlives
    /// the connections and is used in place of [`Simulator::talk`]. A message without an
    /// acknowledgement is sent again after `repeat`.
    fn exporter(&self, repeat: Duration) -> Option<Box<dyn Exporter>> {
        let _ = repeat;
        None
    }
}

/// The side of a decoder that repeats each message until it is acknowledged. Times are counted from
/// the start.
pub(crate) trait Exporter: Send {
    /// A connection was made.
    fn connected(&mut self, memory: &Memory, out: &mut Outgoing);

    /// The box sent bytes.
    fn hear(&mut self, bytes: &[u8], memory: &Memory, out: &mut Outgoing);

    /// Sends what may be sent now. Returns the latest time at which it wants to be called again.
    fn send(&mut self, memory: &Memory, now: Duration, out: &mut Outgoing) -> Option<Duration>;

    /// How many reads were acknowledged.
    fn acked_reads(&self) -> u64;

    /// Whether an entry of the log was acknowledged.
    fn is_acked(&self, entry: usize) -> bool;
}

/// One side of a conversation with one peer.
pub(crate) trait Conversation: Send {
    /// The connection was made.
    fn begin(&mut self, memory: &Memory, now: DateTime, out: &mut Outgoing);

    /// Takes bytes and answers the commands that end in them. `now` is the decoder's clock.
    fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand>;

    /// Pushes the reads that happened since the last push, a bounded number of them. Returns true
    /// if more are left.
    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool;

    /// A second passed. Sends life signs.
    fn second(&mut self, now: DateTime, out: &mut Outgoing) {
        let _ = (now, out);
    }

    /// Another connection is open. Returns true if this one is not served. Then the refusal was
    /// sent.
    fn refuse(&mut self, out: &mut Outgoing) -> bool {
        let _ = out;
        false
    }

    /// The decoder closes the connection.
    fn is_done(&self) -> bool {
        false
    }

    /// Another connection was made after this one.
    fn is_superseded(&mut self) {}
}

/// Splits bytes into commands.
#[derive(Default)]
pub(crate) struct Hearing(Vec<u8>);

impl Hearing {
    /// The commands in `bytes` that end with `end`, trimmed.
    pub(crate) fn commands(&mut self, bytes: &[u8], end: u8) -> Vec<String> {
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
pub(crate) struct Pushing {
    next: Option<usize>,
    /// How many times the memory had been sent again at the last push. `None`: nothing was pushed
    /// yet.
    again: Option<u64>,
    /// How many repeats of the last read had been sent.
    repeated: Option<u64>,
    /// How many times another program had taken over the push.
    taken: Option<u64>,
}

impl Pushing {
    pub(crate) fn from(entry: usize) -> Self {
        Self { next: Some(entry), ..Self::default() }
    }

    /// The same, until another program takes over the push.
    pub(crate) fn from_untaken(entry: usize, memory: &Memory) -> Self {
        Self { taken: Some(memory.pushes_taken()), ..Self::from(entry) }
    }

    /// Pushes the reads that happened since the last push, at most [`PUSH_MAX`], with `prefix`
    /// before each row. Returns true if more are left.
    pub(crate) fn push(
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
            *next = 0; // the whole memory, and then new reads
        }
        let end = memory.len().min(*next + PUSH_MAX);
        while *next < end {
            let Some(entry) = memory.said_at(*next) else { return false }; // it waits for the next entry
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

/// A peer that receives every read after its connection, row by row, and may send nothing.
pub(crate) struct Listener {
    pushing: Pushing,
    row: fn(&Placed) -> Vec<u8>,
}

impl Listener {
    pub(crate) fn to(row: fn(&Placed) -> Vec<u8>) -> Box<dyn Conversation> {
        Box::new(Self { pushing: Pushing::default(), row })
    }
}

impl Conversation for Listener {
    fn begin(&mut self, memory: &Memory, _now: DateTime, _out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _memory: &Memory,
        _now: DateTime,
        _out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        Err(ForbiddenCommand(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", self.row, out)
    }
}

/// Writes log entries as rows. A recorded row is written as it was recorded.
pub(crate) fn rows(
    memory: &Memory,
    entries: Range<usize>,
    prefix: &[u8],
    row: impl Fn(&Placed) -> Vec<u8>,
    out: &mut Outgoing,
) {
    let end = memory.end;
    for entry in entries {
        if let Some(row) = memory.recorded(entry) {
            out.frame(&[prefix, row, end]);
        } else if let Some(placed) = memory.placed(entry) {
            out.frame(&[prefix, &row(&placed), end]);
        }
    }
}

/// Sends a line to the peer.
pub(crate) fn say(out: &mut Outgoing, line: &str) {
    out.frame(&[line.as_bytes(), b"\r\n"]);
}

/// The antenna of a read. A race has no antennas and hits, so they are computed from the number. A
/// stored read therefore looks as it did when it was pushed.
pub(crate) fn antenna(number: u64) -> u64 {
    number % 8 + 1
}

/// The hits of a read, computed as in [`antenna`].
pub(crate) fn hits(number: u64) -> u64 {
    number % 5 + 1
}

/// A time as `hh:mm:ss.kkk`.
pub(crate) fn clock_time(at: DateTime) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond())
}
