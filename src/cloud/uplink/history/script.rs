//! What a history consists of: plain data, so that it can be made by chance, made shorter and printed.

use std::time::Duration;

use crate::cloud::uplink::model::CallFault;
use crate::config::SessionMode;
use crate::journal::driven::disk;

/// What does not change during a history.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Which device each decoder's reads go to.
    pub(super) devices: Vec<usize>,
    pub(super) dead_time: Duration,
    pub(super) segment_bytes: u64,
    pub(super) keep_bytes: u64,
    pub(super) batch_max: usize,
    pub(super) mode: SessionMode,
    pub(super) dedup: bool,
    pub(super) counts: (bool, bool),
    pub(super) page: usize,
    /// The cloud shows what it took so much later.
    pub(super) lag: Duration,
    /// Somebody else sends into the sessions, too.
    pub(super) writer: bool,
    pub(super) seed: u64,
}

/// What a decoder sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    /// A chip, so many milliseconds after the last read. Chip 0 is one that the cloud refuses.
    Read {
        chip: u8,
        after_ms: u32,
    },
    /// The last reads again, so many.
    Again(u8),
    Marker,
    Rejected,
}

/// What happens to the disk of a process that ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// It is stopped: a last checkpoint.
    Stopped,
    /// It is killed; what was written stays, durable or not.
    Killed,
    /// The power goes.
    Cut,
}

/// What becomes of the queue's directory when a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Queue {
    AsItIs,
    Older,
    Gone,
    Truncated,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Keep {
        decoder: usize,
        sent: Vec<Sent>,
    },
    /// The writer has a turn.
    Write,
    /// The follower has a turn; `copy`: what the queue was before is remembered, for [`Queue::Older`].
    Follow {
        prune: bool,
        copy: bool,
    },
    /// So many steps of a device's uplink. Between them the writer has its turn where it is waited for.
    Upload {
        device: usize,
        steps: u32,
    },
    Fault {
        device: usize,
        on: u8,
        fault: CallFault,
    },
    /// So many per mille of the calls fail.
    Weather {
        device: usize,
        odds: u16,
    },
    /// Most passings that the cloud takes in a POST.
    Most {
        device: usize,
        most: usize,
    },
    Session {
        device: usize,
        open: bool,
    },
    /// The wall clock, in seconds since 1970; `None`: an hour on or back.
    Clock {
        to: Option<i64>,
        step: i64,
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
