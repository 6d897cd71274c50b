//! What goes between the journal and the uplink: reads that wait, batches, and what became of them.
//!
//! An [`UploadEvent`] is a line of the log; its JSON is part of the log's format, so fields may be added and none
//! changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::chip::{Seq, Stamp};

/// One passing in a batch: fixed for ever once the batch is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadItem {
    /// The read it came from.
    pub seq: Seq,
    /// `num_passing` in the session.
    pub num: u64,
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// Never empty.
    pub bib: Box<str>,
    /// Chip code.
    pub chip: Box<str>,
}

/// A numbered batch: a span of the journal judged and numbered. Immutable once recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Device it goes to.
    pub device: Box<str>,
    /// `token_session` it is numbered in.
    pub session: Box<str>,
    /// Passings, numbers strictly increasing.
    pub items: Vec<UploadItem>,
    /// Reads of the span that are no passing of their own because of the dead time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<Seq>,
    /// Reads of the span that repeat a read already held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<Seq>,
    /// Reads of the span that the cloud was found to hold already, after lines of the log were lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Numbers of the batch before, in the same session, that may be in the cloud and stay in flight beside these: the cloud
    /// failed at them, and nothing waits for them. Everything else of that batch is settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_open: Vec<u64>,
    /// Everything of `decoders` up to here is judged.
    pub through: Seq,
    /// The decoders whose reads the span covers; none: see [`Batch::is_resend`].
    pub decoders: Vec<Box<str>>,
}

/// A read that is in the cloud although the line that numbered it is gone from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The read.
    pub seq: Seq,
    /// `token_session` that holds it.
    pub session: Box<str>,
    /// Its number there.
    pub num: u64,
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// The bib it would have been sent with; empty in lines of versions before this was written.
    #[serde(default)]
    pub bib: Box<str>,
    /// Chip code; empty as above.
    #[serde(default)]
    pub chip: Box<str>,
}

impl Found {
    /// The passing that it is in its session.
    pub fn item(&self) -> UploadItem {
        UploadItem {
            seq: self.seq,
            num: self.num,
            time_ms: self.time_ms,
            bib: self.bib.clone(),
            chip: self.chip.clone(),
        }
    }
}

impl Batch {
    /// Passings of earlier batches of this session that an audit found missing in the cloud: in flight again, under the
    /// numbers they have. Such a batch covers no reads.
    pub fn resend(device: &str, session: &str, items: Vec<UploadItem>) -> Self {
        Self {
            device: device.into(),
            session: session.into(),
            items,
            dead: Vec::new(),
            duplicates: Vec::new(),
            found: Vec::new(),
            still_open: Vec::new(),
            through: Seq(0),
            decoders: Vec::new(),
        }
    }

    /// Made by [`Batch::resend`].
    pub fn is_resend(&self) -> bool {
        self.decoders.is_empty()
    }
}

/// What an audit of a session found ([`crate::cloud::audit`]), as counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Device.
    pub device: Box<str>,
    /// `token_session`.
    pub token: Box<str>,
    /// When (box clock).
    pub at: Timestamp,
    /// The session was still active: it is due again when it is over.
    #[serde(default)]
    pub active: bool,
    /// Journal and cloud hold the same, but for what is not yet sent. (Versions before wrote `false` where something was.)
    pub equal: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// Accepted once, and not in the cloud.
    pub missing: u64,
    /// In the cloud, and not ours.
    pub foreign: u64,
    /// The same number with another chip, bib or time.
    pub different: u64,
    /// Twice in the cloud.
    #[serde(default)]
    pub duplicated: u64,
    /// Not settled.
    #[serde(default)]
    pub not_yet_sent: u64,
    /// Set aside.
    #[serde(default)]
    pub set_aside: u64,
}

/// A session that passings were numbered in, and its last audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAudit {
    /// `token_session`.
    pub token: Box<str>,
    /// It was not audited since it is over.
    pub due: bool,
    /// What the last audit found.
    pub last: Option<Audited>,
}

/// What the uplink makes durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum UploadEvent {
    /// A session was joined; its next number is `next`.
    Joined {
        /// Device.
        device: Box<str>,
        /// `token_session`.
        token: Box<str>,
        /// Alias, if the cloud told one.
        alias: Option<Box<str>>,
        /// The number the next passing gets.
        next: u64,
    },
    /// A batch was formed and numbered. Must be durable before its first POST. At most one is in flight per device.
    Batch(Batch),
    /// The cloud holds the numbers `first..=last` of the batch in flight.
    Accepted {
        /// Device.
        device: Box<str>,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
        /// How many of them the cloud had already.
        duplicates: u64,
    },
    /// The cloud refuses this passing for good, or fails at it; it is set aside with the answer.
    #[serde(rename = "quarantined")] // on the disk
    DeadLetter {
        /// Device.
        device: Box<str>,
        /// Its number in the batch in flight.
        num: u64,
        /// HTTP status of the refusal.
        status: u16,
        /// The cloud's answer, cut to a limit.
        answer: Box<str>,
        /// The cloud does not refuse it, it fails at it: it is tried again by itself, in a later batch.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Numbers of the batch in flight that the session is *known* not to hold: pending again, to be
    /// numbered anew.
    Released {
        /// Device.
        device: Box<str>,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// A session was compared with the cloud. Changes nothing of the upload.
    Audited(Audited),
    /// Passings that were released by `device`, and not numbered since, go to another device: the `device_id` was
    /// corrected, and a command said that they follow. What is not released there any more does not move.
    Moved {
        /// Device that they were numbered for.
        device: Box<str>,
        /// Device that they go to.
        to: Box<str>,
        /// The passings.
        items: Vec<UploadItem>,
    },
}

/// Passings that were numbered for a device and are not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// In flight: they may be in the cloud.
    pub in_flight: usize,
    /// Known not to be in the cloud, and without a number.
    pub released: usize,
}

impl Unsettled {
    /// Both.
    pub fn count(self) -> usize {
        self.in_flight + self.released
    }
}

/// The batch in flight of a device, as far as it is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Journal sequence number of the batch line.
    pub id: Seq,
    /// The batch, unchanged.
    pub batch: Batch,
    /// Items not yet accepted, quarantined or released, in number order, those of [`Batch::still_open`] first. Empty: the
    /// batch is done.
    pub open: Vec<UploadItem>,
}

/// What the journal knows of a device's upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Token and alias of the session joined last.
    pub session: Option<(Box<str>, Option<Box<str>>)>,
    /// Next number in that session.
    pub next: u64,
    /// The batch in flight, if one is not settled.
    pub in_flight: Option<InFlight>,
    /// Passings accepted by the cloud, ever.
    pub sent: u64,
    /// Of them reported as duplicates.
    pub duplicates: u64,
    /// Passings set aside, ever.
    pub dead_letters: u64,
    /// The log lost lines that may have numbered passings: before a new number is given, these sessions (the last one
    /// known then, and the first joined since) and the active one have to be asked what they hold. `None`: no line is lost.
    pub doubt: Option<Vec<Box<str>>>,
    /// Sessions that this box gave numbers in, the oldest first, each with the number above all that were given.
    pub given: Vec<(Box<str>, u64)>,
    /// Passings set aside because the cloud failed at them: to be tried again by themselves.
    pub failing: Vec<UploadItem>,
    /// Reads from this entry on were kept by this process.
    pub first: u64,
}

/// A read that waits for upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRead {
    /// Place in the journal.
    pub seq: Seq,
    /// Decoder it came from.
    pub decoder: Box<str>,
    /// Box time of receipt, corrected by steps of the box's clock that were seen later.
    pub received: Timestamp,
    /// Chip code as the decoder sent it.
    pub chip: Box<str>,
    /// Decoder stamp.
    pub stamp: Stamp,
    /// The decoder said it was stored and sent late.
    pub replay: bool,
}

/// The next span of the journal for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Items released (from a closed session, or because their numbers were taken); they go first, with new numbers, otherwise unchanged.
    pub returned: Vec<UploadItem>,
    /// Reads that are passings, in journal order.
    pub reads: Vec<PendingRead>,
    /// Reads suppressed by the dead time.
    pub dead: Vec<Seq>,
    /// Repeats of reads already held.
    pub duplicates: Vec<Seq>,
    /// The span ends here; goes into [`Batch::through`].
    pub through: Seq,
}

impl Pending {
    /// Nothing to upload and nothing to mark.
    pub fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.reads.is_empty() && self.dead.is_empty() && self.duplicates.is_empty()
    }

    /// Leaves out the read `seq` and everything of the journal after it.
    pub fn end_before(&mut self, seq: Seq) {
        self.reads.retain(|read| read.seq < seq);
        self.dead.retain(|dead| *dead < seq);
        self.duplicates.retain(|repeat| *repeat < seq);
        self.through = self.through.min(Seq(seq.0.saturating_sub(1)));
    }

    /// Passings in it.
    pub fn passings(&self) -> usize {
        self.returned.len() + self.reads.len()
    }
}

impl UploadEvent {
    /// The device it is about.
    pub fn device(&self) -> &str {
        match self {
            Self::Joined { device, .. }
            | Self::Accepted { device, .. }
            | Self::DeadLetter { device, .. }
            | Self::Released { device, .. }
            | Self::Moved { device, .. } => device,
            Self::Batch(batch) => &batch.device,
            Self::Audited(audited) => &audited.device,
        }
    }
}
