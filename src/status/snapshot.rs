//! What is known of the box at one moment: plain values, in the shape of `/api/status`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::BoxState;

/// Something a timer should see. There is one for each code and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// [`ProblemCode::word`](super::ProblemCode::word). It is a word and not the code itself, because who reads a snapshot may be older than the
    /// daemon that wrote it, and may not know the code.
    pub code: String,
    /// What it is about: a decoder's name, a device, a file; empty for the box.
    pub about: String,
    /// What happened, to what, and what to do.
    pub message: String,
    /// Since when (box clock).
    pub since: Timestamp,
    /// When it came, as the time since the start of the process: the clock of the box may step.
    #[serde(skip)]
    pub raised: Duration,
    /// When its message was last another one, by the same clock.
    #[serde(skip)]
    pub renewed: Duration,
}

/// State of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Trying to connect, or waiting for the decoder's software to connect.
    #[default]
    Connecting,
    /// The link is up and shows life.
    Connected,
    /// The last try failed; it is tried again.
    Failed,
    /// The link is up but silent beyond the protocol's limit.
    Idle,
}

/// How the clock of a decoder was compared with that of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockBy {
    /// The decoder said what time it is.
    Answer,
    /// The stamps of live reads against the moments at which they came.
    Reads,
}

/// The last read of a decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    /// Chip code as sent.
    pub chip: String,
    /// The decoder's stamp as sent.
    pub time: String,
    /// Box time of receipt.
    pub received: Timestamp,
}

/// One decoder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecoderStatus {
    /// Name from the configuration.
    pub name: String,
    /// Protocol name.
    pub protocol: String,
    /// Address as configured.
    pub address: String,
    /// Link state.
    pub state: LinkState,
    /// Reads kept since the start of the process.
    pub reads: u64,
    /// Of them those of each location that goes to a device of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locations: BTreeMap<String, u64>,
    /// Markers kept since the start of the process.
    pub markers: u64,
    /// Frames rejected since the start of the process (kept or counted).
    pub rejected: u64,
    /// Reads that could not be kept because the buffer was full while the disk was: exact.
    pub dropped: u64,
    /// The last read kept.
    pub last_read: Option<LastRead>,
    /// Decoder clock minus box clock, once it is known: from what the decoder says of its clock, or from the last live
    /// reads.
    pub clock_offset_ms: Option<i64>,
    /// How that is known.
    #[serde(default)]
    pub clock_by: Option<ClockBy>,
    /// When the last live read was kept, as the time since the start of the process.
    #[serde(skip)]
    pub live_at: Option<Duration>,
    /// Frames received but not yet durable.
    pub buffered: u64,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Last sequence number given.
    pub head: u64,
    /// Last sequence number that would survive a power cut.
    pub durable: u64,
    /// Reads not yet judged into a batch, and passings of a batch in flight.
    pub pending: u64,
    /// Passings set aside, ever.
    #[serde(rename = "quarantined")]
    pub dead_letters: u64,
    /// Reads that repeated one kept before (fetched again, sent again), since the start of the process: kept, not sent.
    #[serde(default, rename = "repeats")]
    pub duplicates: u64,
    /// Reads by what became of them, since the journal was begun. `None` while the queue is being opened.
    #[serde(default)]
    pub reads: Option<ReadCounts>,
    /// Bytes of log and queue on disk.
    pub bytes: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Age of the oldest pending read, in seconds.
    pub oldest_pending_s: Option<u64>,
    /// Identity of this journal.
    pub identity: String,
    /// The queue serves (false while it opens or is rebuilt).
    pub serving: bool,
}

/// Reads on this box by what became of them. `kept` is the sum of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// Reads that were ever kept.
    pub kept: u64,
    /// In the cloud.
    pub in_cloud: u64,
    /// Waiting, or on their way.
    pub waiting: u64,
    /// Set aside, because the cloud refused them.
    pub set_aside: u64,
    /// Held back, because they may be of another race.
    pub held_back: u64,
    /// Repeats of reads that are here already: kept, and not sent.
    pub duplicates: u64,
    /// Within the dead time: kept, and not sent.
    pub dead_time: u64,
    /// Held back, and removed when they were older than `keep.days`.
    pub expired: u64,
}

impl ReadCounts {
    /// All but `kept`.
    pub fn sum(&self) -> u64 {
        let sent = self.in_cloud + self.waiting + self.set_aside;
        sent + self.held_back + self.duplicates + self.dead_time + self.expired
    }
}

/// State of a device's upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Nothing to send.
    #[default]
    Idle,
    /// Sending.
    Sending,
    /// The device has no active session.
    NoSession,
    /// The cloud cannot be reached.
    Offline,
    /// The cloud answers, and fails.
    CloudTrouble,
    /// The cloud refuses (key, device).
    Refused,
}

impl UploadState {
    /// In a timer's words; capitals where somebody has to do something.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Idle => "nothing to send",
            Self::Sending => "sending",
            Self::NoSession => "NO ACTIVE SESSION",
            Self::Offline => "OFFLINE",
            Self::CloudTrouble => "THE CLOUD IS IN TROUBLE",
            Self::Refused => "REFUSED by the cloud",
        }
    }
}

/// The session a device's passings go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Alias as given in the cloud.
    pub alias: Option<String>,
    /// The last six characters of the token.
    pub token_tail: String,
}

/// One device's upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStatus {
    /// Device in the cloud.
    pub device_id: String,
    /// Its session, if one is known.
    pub session: Option<SessionStatus>,
    /// What the uplink does.
    pub state: UploadState,
    /// Passings the cloud has acknowledged, ever.
    pub sent: u64,
    /// Of them reported as duplicates.
    pub duplicates: u64,
    /// Passings acknowledged a minute, while some have been waiting for more than a moment.
    #[serde(default)]
    pub per_minute: Option<u64>,
    /// Last acknowledged POST.
    pub last_ok: Option<Timestamp>,
    /// Last error in words, cleared by success.
    pub last_error: Option<String>,
    /// The last audit that the daemon made: of a session that is over, or after a repair.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
}

/// What the last audit of a device found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// The last six characters of the session's token.
    pub token_tail: String,
    /// Its name.
    pub alias: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Journal and cloud hold the same.
    pub equal: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// Accepted once, and not in the cloud.
    pub missing: u64,
    /// In the cloud, and not ours.
    pub foreign: u64,
    /// The same number with another chip, bib or time; or another number.
    pub different: u64,
    /// Twice in the cloud.
    pub duplicated: u64,
    /// Not settled.
    pub not_yet_sent: u64,
    /// Set aside.
    pub set_aside: u64,
}

/// A read as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentRead {
    /// Place in the journal.
    pub seq: u64,
    /// Decoder name, or `DECODER/LOCATION` where the location has a device of its own.
    pub decoder: String,
    /// Chip code as sent.
    pub chip: String,
    /// The decoder's stamp as sent.
    pub decoder_time: String,
    /// Box time of receipt.
    pub received: Timestamp,
    /// Antenna, if told.
    pub antenna: Option<String>,
    /// Signal strength, if told.
    pub rssi: Option<i32>,
    /// Hits, if told.
    pub hits: Option<u32>,
}

/// All that is known, at one moment. The shape of `/api/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of the box.
    pub name: String,
    /// Version of passbridge.
    pub version: String,
    /// Seconds since the process started (monotonic).
    pub uptime_s: u64,
    /// The state of the box.
    #[serde(default)]
    pub state: BoxState,
    /// The state as one or more whole sentences.
    #[serde(default)]
    pub sentence: String,
    /// What a person should do, at most three things.
    #[serde(default)]
    pub todo: Vec<String>,
    /// What the box does by itself, if anything.
    #[serde(default)]
    pub by_itself: Option<String>,
    /// For how many seconds the state is shown.
    #[serde(default)]
    pub state_s: u64,
    /// Reads can be kept now.
    pub ready: bool,
    /// What a timer should see, oldest first.
    pub problems: Vec<Problem>,
    /// Decoders in configuration order.
    pub decoders: Vec<DecoderStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// One per device.
    pub uploads: Vec<UploadStatus>,
}
