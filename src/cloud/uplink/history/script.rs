//! The parts of a history. They are plain data, so that a history can be generated, shortened and
//! printed.

use std::time::Duration;

use crate::cloud::uplink::model::CallFault;
use crate::config::SessionMode;
use crate::journal::control::Held;
use crate::journal::driven::disk;

/// The settings that do not change during a history.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Index of the device that gets each decoder's reads.
    pub(super) devices: Vec<usize>,
    pub(super) dead_time: Duration,
    pub(super) segment_bytes: u64,
    pub(super) keep_bytes: u64,
    pub(super) batch_max: usize,
    pub(super) linger: Duration,
    pub(super) mode: SessionMode,
    pub(super) dedup: bool,
    pub(super) counts: (bool, bool),
    pub(super) page: usize,
    /// How much later the cloud shows what it accepted.
    pub(super) lag: Duration,
    /// Another sender also sends into the sessions.
    pub(super) writer: bool,
    pub(super) seed: u64,
}

/// What a decoder sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    /// A chip, `after_ms` milliseconds after the last read. The cloud refuses chip 0.
    Read {
        chip: u8,
        after_ms: u32,
    },
    /// The last reads again, as many as this.
    Again(u8),
    Marker,
    Rejected,
}

/// How a process ends, and so what happens to its disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// The process is stopped, with a last checkpoint.
    Stopped,
    /// The process is killed. What was written stays, durable or not.
    Killed,
    /// The power fails.
    Cut,
}

/// What happens to the queue's directory when a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Queue {
    AsItIs,
    Older,
    Gone,
    Truncated,
}

/// One event of a history.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Keep {
        decoder: usize,
        sent: Vec<Sent>,
    },
    /// Reads come one by one. Each is written, and then the uplink of its device makes this many
    /// steps. With `follow`, a checkpoint follows each time.
    Stream {
        decoder: usize,
        sent: Vec<Sent>,
        steps: u32,
        follow: bool,
    },
    /// The writer runs once.
    Write,
    /// The follower runs once. With `copy`, the queue as it was before is saved for
    /// [`Queue::Older`].
    Follow {
        prune: bool,
        copy: bool,
    },
    /// A device's uplink makes this many steps. Between them the writer runs when the uplink waits
    /// for it.
    Upload {
        device: usize,
        steps: u32,
    },
    Fault {
        device: usize,
        on: u8,
        fault: CallFault,
    },
    /// This many per mille of the calls fail.
    Weather {
        device: usize,
        odds: u16,
    },
    /// Most passings that the cloud accepts in a POST.
    Most {
        device: usize,
        most: usize,
    },
    Session {
        device: usize,
        open: bool,
    },
    /// Somebody at the box opens a session, or closes the active one.
    Order {
        device: usize,
        open: bool,
    },
    /// Whoever gave the last order does not wait for it any more.
    Leave {
        device: usize,
    },
    /// Sets the wall clock, in seconds since 1970. `None`: moves it by `step` seconds.
    Clock {
        to: Option<i64>,
        step: i64,
    },
    /// Somebody corrects the times of a decoder's reads by whole days, so that no two crossings fall
    /// on one time. The entries begin at this per mille of the log.
    Correct {
        decoder: usize,
        at: u64,
        length: u64,
        days: i64,
    },
    /// The times of all reads of a device are corrected by a day, and passings in the cloud are sent
    /// again, at most this many. With `back`, the correction is then taken back.
    Again {
        device: usize,
        most: usize,
        back: bool,
    },
    /// Somebody puts the box on hold (`None`), or releases it, and sends or drops what was read
    /// meanwhile.
    Decide(Option<Held>),
    /// Somebody releases the passings of a device that are set aside, or drops them.
    Aside {
        device: usize,
        release: bool,
    },
    Disk(disk::Script),
    End {
        how: End,
        queue: Queue,
        seed: u64,
        resend: bool,
        cut_in_start: Option<u32>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) setup: Setup,
    pub(super) ops: Vec<Op>,
}
