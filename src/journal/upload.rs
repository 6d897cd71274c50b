//! What the journal and the uplink exchange: waiting reads, batches, and their outcome.
//!
//! An [`UploadEvent`] is a line of the log. Its JSON is part of the log's format, so fields may be
//! added, but no field may be changed.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::chip::{Seq, Stamp};

/// One passing in a batch. It never changes after the batch is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadItem {
    /// The read from which it was made.
    pub seq: Seq,
    /// `num_passing` in the session.
    pub num: u64,
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// How much of `time_ms` is a correction ([`crate::model::correction`]). If the corrections of
    /// the read have another sum now, the time of this passing is not the right one any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrected_ms: i64,
    /// Never empty.
    pub bib: Box<str>,
    /// Chip code.
    pub chip: Box<str>,
}

impl UploadItem {
    /// The same passing with the time that it has if its read is corrected by `shift_ms`.
    #[must_use]
    pub(crate) fn corrected_by(self, shift_ms: i64) -> Self {
        let time_ms = self.time_ms.saturating_sub(self.corrected_ms).saturating_add(shift_ms);
        Self { time_ms, corrected_ms: shift_ms, ..self }
    }
}

fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

/// A numbered batch: it covers a span of the journal and numbers its passings. It never changes
/// after it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The device to which it is sent.
    pub device: Box<str>,
    /// `token_session` of the session in which it is numbered.
    pub session: Box<str>,
    /// The passings, their numbers strictly increasing.
    pub items: Vec<UploadItem>,
    /// Reads of the span that are no passing of their own because of the dead time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<Seq>,
    /// Reads of the span that are duplicates of stored reads.
    #[serde(default, rename = "repeats", skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<Seq>,
    /// Reads of the span that the cloud already had, as was found after log lines were lost. Also
    /// passings that were to be sent again, and whose time there turned out to be the right one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Numbers of the batch before, in the same session, that may be in the cloud and stay in
    /// flight beside this batch: the cloud failed at them, and nothing waits for them. All other
    /// passings of that batch are settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_open: Vec<u64>,
    /// All reads of `decoders` up to this number are covered.
    pub through: Seq,
    /// The decoders whose reads the span covers. If there are none, see [`Batch::is_resend`].
    pub decoders: Vec<Box<str>>,
}

/// A read that is in the cloud although the line that numbered it is lost from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The read.
    pub seq: Seq,
    /// `token_session` of the session that contains it.
    pub session: Box<str>,
    /// Its number in that session.
    pub num: u64,
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// See [`UploadItem::corrected_ms`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrected_ms: i64,
    /// The bib with which it would have been sent. Empty in lines of versions that did not write
    /// it.
    #[serde(default)]
    pub bib: Box<str>,
    /// Chip code. Empty in the same lines.
    #[serde(default)]
    pub chip: Box<str>,
}

impl Found {
    /// The passing as it is in its session.
    pub fn item(&self) -> UploadItem {
        UploadItem {
            seq: self.seq,
            num: self.num,
            time_ms: self.time_ms,
            corrected_ms: self.corrected_ms,
            bib: self.bib.clone(),
            chip: self.chip.clone(),
        }
    }
}

impl Batch {
    /// A batch of passings of earlier batches of this session that an audit found missing in the
    /// cloud. They are in flight again, under the numbers that they have. Such a batch covers no
    /// reads.
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

    /// Whether [`Batch::resend`] made this batch.
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
    /// When the audit was made (box clock).
    pub at: Timestamp,
    /// The session was still active, so it must be audited again when it is over.
    #[serde(default)]
    pub active: bool,
    /// Journal and cloud contain the same passings, except those that are not yet sent. (Earlier
    /// versions wrote `false` if any passing was not yet sent.)
    pub equal: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// Passings that the cloud once accepted and does not contain now.
    pub missing: u64,
    /// Passings that are in the cloud and are not ours.
    pub foreign: u64,
    /// Passings with the same number and another chip, bib or time.
    pub different: u64,
    /// Passings that are twice in the cloud.
    #[serde(default)]
    pub duplicated: u64,
    /// Passings that are not settled.
    #[serde(default)]
    pub not_yet_sent: u64,
    /// Passings that are set aside.
    #[serde(default)]
    pub set_aside: u64,
}

/// A session in which passings were numbered, and its last audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAudit {
    /// `token_session`.
    pub token: Box<str>,
    /// The session was not audited since it ended.
    pub due: bool,
    /// What the last audit found.
    pub last: Option<Audited>,
}

/// What the uplink makes durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum UploadEvent {
    /// A session was joined. Its next number is `next`.
    Joined {
        /// Device.
        device: Box<str>,
        /// `token_session`.
        token: Box<str>,
        /// Alias, if the cloud sent one.
        alias: Option<Box<str>>,
        /// The number that the next passing gets.
        next: u64,
    },
    /// A batch was formed and numbered. It must be durable before its first POST. At most one batch
    /// is in flight per device.
    Batch(Batch),
    /// The cloud contains the numbers `first..=last` of the batch in flight.
    Accepted {
        /// Device.
        device: Box<str>,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
        /// How many of these the cloud already had.
        duplicates: u64,
    },
    /// The cloud refuses this passing for good, or fails at it. It is set aside with the cloud's
    /// answer.
    #[serde(rename = "quarantined")] // its name on the disk
    DeadLetter {
        /// Device.
        device: Box<str>,
        /// Its number in the batch in flight.
        num: u64,
        /// HTTP status of the refusal.
        status: u16,
        /// The cloud's answer, cut to a limit.
        answer: Box<str>,
        /// The cloud does not refuse the passing but fails at it. It is tried again automatically,
        /// in a later batch.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Numbers of the batch in flight that the session is *known* not to contain. Their passings
    /// are pending again and will get new numbers.
    Released {
        /// Device.
        device: Box<str>,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// A session was compared with the cloud. This changes nothing in the upload.
    Audited(Audited),
    /// Passings that `device` released, and that were not numbered since, move to another device:
    /// somebody corrected the `device_id`, and a command moved them. A passing that is no longer
    /// released at `device` does not move.
    Moved {
        /// The device for which they were numbered.
        device: Box<str>,
        /// The device to which they move.
        to: Box<str>,
        /// The passings.
        items: Vec<UploadItem>,
    },
    /// Somebody asked that the passings of a device are sent again that are in the cloud with a
    /// time that was corrected since. [`UploadEvent::Again`] carries it out.
    SendAgain {
        /// Device.
        device: Box<str>,
        /// What is sent again.
        order: SendAgainOrder,
    },
    /// A piece of the first order that is not carried out: these passings of `session` get new
    /// numbers, with their right time. The cloud keeps the old ones, because no call deletes a
    /// passing.
    Again {
        /// Device.
        device: Box<str>,
        /// `token_session` of the session that has them.
        session: Box<str>,
        /// The passings as they were sent, in the order of their reads. They get their right times
        /// with their new numbers. If a later correction made the old time the right one again,
        /// they count as found there ([`Batch::found`]).
        items: Vec<UploadItem>,
        /// The order is carried out for every read before this one.
        next: Seq,
    },
    /// Somebody released passings that were set aside. They are pending again and get new numbers.
    Retry {
        /// Device.
        device: Box<str>,
        /// The passings as they were sent.
        items: Vec<UploadItem>,
        /// Who asked for it.
        by: Box<str>,
    },
    /// Somebody decided that passings that were set aside are never sent.
    Dropped {
        /// Device.
        device: Box<str>,
        /// Reads of passings that the cloud refused.
        items: Vec<Seq>,
        /// Reads of passings at which the cloud fails. One that is in a batch again by now is not
        /// dropped.
        failing: Vec<Seq>,
        /// Who decided it.
        by: Box<str>,
    },
}

/// What is sent again: of which decoder, and which reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAgainOrder {
    /// The decoder with all its sources, or one source. `None`: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Box<str>>,
    /// The first read.
    pub from: Seq,
    /// The last read.
    pub through: Seq,
}

/// The name of the RUFUS uplink in the log.
pub(super) const RUFUS: &str = "rufus";

/// An event of another sink: all that the sink owes of a source, up to an entry, was passed on, or
/// never will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The sink.
    pub sink: Box<str>,
    /// The entry.
    pub through: Seq,
}

/// Passings that were numbered for a device and are not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Passings in flight. They may be in the cloud.
    pub in_flight: usize,
    /// Passings that are known not to be in the cloud and have no number.
    pub released: usize,
}

impl Unsettled {
    /// The sum of both.
    pub fn count(self) -> usize {
        self.in_flight + self.released
    }
}

/// The batch in flight of a device, and which of its items are still open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Journal sequence number of the batch line.
    pub id: Seq,
    /// The batch, unchanged.
    pub batch: Batch,
    /// Items that are not yet accepted, set aside or released, in the order of their numbers, those
    /// of [`Batch::still_open`] first. Empty: the batch is done.
    pub open: Vec<UploadItem>,
}

/// What the journal knows about a device's upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Token and alias of the session that was joined last.
    pub session: Option<(Box<str>, Option<Box<str>>)>,
    /// Next number in that session.
    pub next: u64,
    /// The batch in flight, if one is not settled.
    pub in_flight: Option<InFlight>,
    /// Passings that the cloud accepted, over the whole life of the log.
    pub sent: u64,
    /// How many of them the cloud reported as duplicates.
    pub duplicates: u64,
    /// Passings that are set aside. A passing that is tried again is not counted.
    pub dead_letters: u64,
    /// The log lost lines that may have numbered passings. Before the uplink gives a new number, it
    /// must ask the cloud what these sessions (the last one known at the loss, and the first one
    /// joined since) and the active session contain. `None`: no line is lost.
    pub doubt: Option<Vec<Box<str>>>,
    /// Sessions in which this box gave numbers, the oldest first, each with the lowest number above
    /// all that were given.
    pub given: Vec<(Box<str>, u64)>,
    /// Passings that were set aside because the cloud failed at them. They will be tried again
    /// automatically.
    pub failing: Vec<UploadItem>,
    /// This process kept the reads from this entry on.
    pub first: u64,
}

/// A read that waits for upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRead {
    /// Sequence number in the journal.
    pub seq: Seq,
    /// The decoder or source that sent it.
    pub decoder: Arc<str>,
    /// Receive time by the box's clock, corrected by steps of that clock that were seen later.
    pub received: Timestamp,
    /// Chip code as the decoder sent it.
    pub chip: Arc<str>,
    /// The decoder's stamp.
    pub stamp: Stamp,
    /// The decoder said that it stored the read and sends it late.
    pub replay: bool,
    /// By how much somebody corrected its time ([`crate::model::correction`]), in milliseconds.
    pub corrected_ms: i64,
    /// The zone in which its stamp was understood when somebody corrected it, by its name.
    pub zone: Option<Box<str>>,
}

/// The next span of the journal for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Items that were released (from a closed session, or because their numbers were taken). They
    /// are sent first, with new numbers and otherwise unchanged.
    pub returned: Vec<UploadItem>,
    /// Passings that were to be sent again, and that are in the cloud with the right time. They need
    /// no number.
    pub found: Vec<Found>,
    /// Reads that are passings, in journal order.
    pub reads: Vec<PendingRead>,
    /// Reads that fall in the dead time.
    pub dead: Vec<Seq>,
    /// Duplicates of stored reads.
    pub duplicates: Vec<Seq>,
    /// The span ends here. It becomes [`Batch::through`].
    pub through: Seq,
}

impl Pending {
    /// Whether there is nothing to upload and nothing to mark.
    pub fn is_empty(&self) -> bool {
        self.returned.is_empty()
            && self.found.is_empty()
            && self.reads.is_empty()
            && self.dead.is_empty()
            && self.duplicates.is_empty()
    }

    /// Leaves out the read `seq` and every entry of the journal after it.
    pub fn end_before(&mut self, seq: Seq) {
        self.reads.retain(|read| read.seq < seq);
        self.dead.retain(|dead| *dead < seq);
        self.duplicates.retain(|repeat| *repeat < seq);
        self.through = self.through.min(Seq(seq.0.saturating_sub(1)));
    }

    /// Leaves out every entry of the journal after `last`. `None`: nothing is left out.
    pub fn end_at(&mut self, last: Option<Seq>) {
        if let Some(last) = last {
            self.end_before(Seq(last.0.saturating_add(1)));
        }
    }

    /// The number of passings in it.
    pub fn passings(&self) -> usize {
        self.returned.len() + self.reads.len()
    }
}

impl UploadEvent {
    /// The device that this event is about.
    pub fn device(&self) -> &str {
        match self {
            Self::Joined { device, .. }
            | Self::Accepted { device, .. }
            | Self::DeadLetter { device, .. }
            | Self::Released { device, .. }
            | Self::Moved { device, .. }
            | Self::SendAgain { device, .. }
            | Self::Again { device, .. }
            | Self::Retry { device, .. }
            | Self::Dropped { device, .. } => device,
            Self::Batch(batch) => &batch.device,
            Self::Audited(audited) => &audited.device,
        }
    }
}
