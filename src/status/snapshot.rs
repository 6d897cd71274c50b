//! All that is known about the box at one moment, as plain values in the shape of `/api/status`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lamp::Lamp;
use super::latency::{LatencyHistogram, LatencyStatus};
use super::state::BoxState;

/// A problem that a timer should see. There is one for each code and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The [`ProblemCode::word`](super::ProblemCode::word). It is a word and not the code itself,
    /// because the program that reads a snapshot may be older than the daemon that wrote it, and
    /// may not know the code.
    pub code: String,
    /// The subject: a decoder's name, a device, or a file. It is empty for the box.
    pub about: String,
    /// What happened, to what, and what to do.
    pub message: String,
    /// Since when the problem is shown, by the clock of the box.
    pub since: Timestamp,
    /// When the problem was raised, as the time since the start of the process. The clock of the
    /// box may step, and this does not.
    #[serde(skip)]
    pub raised: Duration,
    /// When the message last changed, also as the time since the start of the process.
    #[serde(skip)]
    pub renewed: Duration,
}

/// State of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The link tries to connect, or waits for the decoder's software to connect.
    #[default]
    Connecting,
    /// The link is up and the decoder sends.
    Connected,
    /// The last attempt failed. The link tries again.
    Failed,
    /// The link is up, but silent for longer than the limit of the protocol.
    Idle,
}

/// How the clock of a decoder was compared with that of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockBy {
    /// The decoder reported its clock.
    Answer,
    /// The stamps of live reads were compared with the times of their receipt.
    Reads,
}

/// The last read of a decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    /// The chip code as the decoder sent it.
    pub chip: String,
    /// The stamp as the decoder sent it.
    pub time: String,
    /// Time of receipt by the box.
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
    /// How many of these reads came from each location that has a device of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locations: BTreeMap<String, u64>,
    /// Markers kept since the start of the process.
    pub markers: u64,
    /// Frames rejected since the start of the process (kept or counted).
    pub rejected: u64,
    /// The exact number of reads that could not be kept, because the disk took none and the buffer
    /// was full.
    pub dropped: u64,
    /// The last read kept.
    pub last_read: Option<LastRead>,
    /// Decoder clock minus box clock, once it is known. It is from the decoder's own clock, or from
    /// the last live reads.
    pub clock_offset_ms: Option<i64>,
    /// How the offset of the clock was measured.
    #[serde(default)]
    pub clock_by: Option<ClockBy>,
    /// Whether the decoder was ever connected since the start.
    #[serde(skip)]
    pub was_connected: bool,
    /// Whether its clock was compared with that of the box, and is right.
    #[serde(skip)]
    pub times_right: bool,
    /// When the last live read was kept, as the time since the start of the process.
    #[serde(skip)]
    pub live_at: Option<Duration>,
    /// The same for each location that has a device of its own.
    #[serde(skip)]
    pub locations_live_at: BTreeMap<String, Duration>,
    /// Frames received but not yet durable.
    pub buffered: u64,
    /// How long its reads took from their receipt until they were durable, since the start of the
    /// process.
    #[serde(skip)]
    pub read_to_kept: LatencyHistogram,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Last sequence number that was given to an entry.
    pub head: u64,
    /// Last sequence number that would survive a power cut.
    pub durable: u64,
    /// Reads that are in no batch yet, and passings of a batch that is being sent.
    pub pending: u64,
    /// Passings that were ever set aside.
    #[serde(rename = "quarantined")]
    pub dead_letters: u64,
    /// Reads since the start of the process that repeated an earlier one (fetched again, sent
    /// again). They are kept and not sent.
    #[serde(default, rename = "repeats")]
    pub duplicates: u64,
    /// What happened to the reads since the journal was begun. `None` while the queue is being
    /// opened.
    #[serde(default)]
    pub reads: Option<ReadCounts>,
    /// Bytes of log and queue on disk.
    pub bytes: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Age of the oldest pending read, in seconds, with those whose passing is on its way. For a read on
    /// its way that an earlier process received, it is the time since this process started.
    pub oldest_pending_s: Option<u64>,
    /// Identity of this journal.
    pub identity: String,
    /// Whether the queue works. It is false while the queue opens or is rebuilt.
    pub serving: bool,
}

/// How many reads of this box are in each state. `kept` is the sum of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    /// Reads that were ever kept.
    pub kept: u64,
    /// Reads that are in the cloud.
    pub in_cloud: u64,
    /// Reads that wait, or that are being sent.
    pub waiting: u64,
    /// Reads that were set aside, because the cloud refused them.
    pub set_aside: u64,
    /// Reads that are held back, because they may be of another race.
    pub held_back: u64,
    /// Repeats of reads that the box has already. They are kept and not sent.
    pub duplicates: u64,
    /// Reads within the dead time. They are kept and not sent.
    pub dead_time: u64,
    /// Reads that were kept while the box is on hold, and that wait for its release.
    #[serde(default)]
    pub held: u64,
    /// Reads that somebody decided not to send: at the end of a hold, or after they were set aside.
    #[serde(default)]
    pub dropped_by_choice: u64,
    /// Reads that were held back, and removed when they were older than `keep.days`.
    pub expired: u64,
}

impl ReadCounts {
    /// The sum of all fields except `kept`.
    pub fn sum(&self) -> u64 {
        let sent = self.in_cloud + self.waiting + self.set_aside;
        let never = self.duplicates + self.dead_time + self.dropped_by_choice + self.expired;
        sent + self.held + self.held_back + never
    }
}

/// State of a device's upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// There is nothing to send.
    #[default]
    Idle,
    /// Passings are being sent.
    Sending,
    /// The device has no active session.
    NoSession,
    /// The cloud cannot be reached.
    Offline,
    /// The cloud answers with errors of its own.
    CloudTrouble,
    /// The cloud refuses the key or the device.
    Refused,
}

impl UploadState {
    /// The state in a timer's words. It is in capitals where somebody has to do something.
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

/// The session into which the passings of a device are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The alias in the cloud.
    pub alias: Option<String>,
    /// The last six characters of the token.
    pub token_tail: String,
    /// The token. It is shown nowhere.
    #[serde(skip)]
    pub token: Box<str>,
    /// How many passings of this box have a number in the session: those in the cloud, and those on
    /// their way. That is since the session was opened. `None`: it is not known.
    #[serde(default)]
    pub numbered: Option<u64>,
}

/// One device's upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStatus {
    /// The `device_id` in the cloud.
    pub device_id: String,
    /// The session of the device, if one is known.
    pub session: Option<SessionStatus>,
    /// What the uplink does.
    pub state: UploadState,
    /// What the upload waits for although nothing failed, in words that follow the name of the
    /// device.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// Whether no read waited for this device when the uplink looked last. `None`: it has not looked
    /// yet.
    #[serde(default)]
    pub nothing_waits: Option<bool>,
    /// Number of passings that the cloud ever acknowledged.
    pub sent: u64,
    /// Number of these that the cloud reported as duplicates.
    pub duplicates: u64,
    /// Passings acknowledged in a minute, while some have been waiting for more than a moment.
    #[serde(default)]
    pub per_minute: Option<u64>,
    /// Time of the last acknowledged POST.
    pub last_ok: Option<Timestamp>,
    /// The last error in words. A success clears it.
    pub last_error: Option<String>,
    /// How long its reads took from their receipt until their passings were in the cloud, since the
    /// start of the process.
    #[serde(skip)]
    pub read_to_cloud: LatencyHistogram,
    /// The last audit of the daemon: of a session that is over, or after a repair.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
}

/// What the last audit of a device found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// The last six characters of the session's token.
    pub token_tail: String,
    /// The alias of the session.
    pub alias: Option<String>,
    /// When the audit was made.
    pub at: Timestamp,
    /// Whether journal and cloud have the same passings.
    pub equal: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// Passings that the cloud accepted once and does not have now.
    pub missing: u64,
    /// Passings that are in the cloud and not from this box.
    pub foreign: u64,
    /// Passings with the same number and another chip, bib or time, or with another number.
    pub different: u64,
    /// Passings that are in the cloud twice.
    pub duplicated: u64,
    /// Passings that are not settled.
    pub not_yet_sent: u64,
    /// Passings that are set aside.
    pub set_aside: u64,
}

/// What the machine tells of itself. A value that it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Seconds since the machine was switched on, its sleep included.
    pub uptime_s: u64,
    /// The release of its kernel.
    pub kernel: String,
    /// Its architecture, such as `aarch64`.
    pub architecture: String,
    /// What its maker calls it, such as `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: Option<String>,
    /// The temperature of its hottest part in °C.
    pub temperature_c: Option<i32>,
    /// Whether a mains or USB supply gives power. `None`: the kernel knows of no such supply.
    pub mains_online: Option<bool>,
    /// Whether its power supply gives too little voltage. `None`: this machine does not measure it.
    #[serde(default)]
    pub under_voltage: Option<bool>,
    /// Its batteries. It is empty if the kernel knows of none.
    pub batteries: Vec<BatteryStatus>,
    /// Where it can get the time without a network. `None`: there is neither PPS nor gpsd.
    #[serde(default)]
    pub time: Option<TimeSources>,
}

/// Where a machine can get the time without a network. Whether its clock follows them is decided by
/// chrony, which does not tell everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSources {
    /// The inputs for a pulse each second, of a GPS receiver for example.
    pub pps: Vec<PpsStatus>,
    /// Whether gpsd is there.
    pub gpsd: bool,
    /// Whether systemd-timesyncd has set the clock from the network since the machine was switched on.
    pub from_network: bool,
}

/// An input for a pulse each second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PpsStatus {
    /// The kernel's name for it, such as `pps0`.
    pub name: String,
    /// Whether pulses came in the last seconds. `None`: not known yet.
    pub pulses: Option<bool>,
}

/// A battery of the machine, or of a supply that it can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatteryStatus {
    /// The kernel's name for it, such as `BAT0`.
    pub name: String,
    /// Its charge in per cent, 0 to 100.
    pub percent: Option<u8>,
    /// What it does.
    pub state: Option<ChargeState>,
}

/// What a battery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeState {
    /// It is being charged.
    Charging,
    /// The machine lives on it.
    Discharging,
    /// There is power, and it is not being charged.
    NotCharging,
    /// It is full.
    Full,
}

impl ChargeState {
    /// The state in words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Charging => "charging",
            Self::Discharging => "discharging",
            Self::NotCharging => "not charging",
            Self::Full => "full",
        }
    }
}

/// A read as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentRead {
    /// The sequence number in the journal.
    pub seq: u64,
    /// The decoder's name, or `DECODER/LOCATION` if the location has a device of its own.
    pub decoder: String,
    /// The chip code as the decoder sent it.
    pub chip: String,
    /// The stamp as the decoder sent it.
    pub decoder_time: String,
    /// Time of receipt by the box.
    pub received: Timestamp,
    /// The antenna, if the decoder reports it.
    pub antenna: Option<String>,
    /// The signal strength, if the decoder reports it.
    pub rssi: Option<i32>,
    /// The number of hits, if the decoder reports it.
    pub hits: Option<u32>,
    /// Whether the decoder sent it when it made it. `false`: it comes from the memory of the decoder.
    #[serde(default)]
    pub live: bool,
}

/// A hold: reads are kept, and none is sent until somebody releases it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// When it began, by the clock of the box.
    pub since: Timestamp,
    /// Reads that were kept since then, and that its release sends or drops.
    pub reads: u64,
    /// Who began it, and from where.
    pub by: String,
}

/// All that is known about the box at one moment. This is the shape of `/api/status`.
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
    /// The lamps Mats, Time, Kept and Cloud, in this order. It is empty if the daemon is of an older
    /// version.
    #[serde(default)]
    pub lamps: Vec<Lamp>,
    /// For how many seconds the state has been shown.
    #[serde(default)]
    pub state_s: u64,
    /// Whether reads can be kept now.
    pub ready: bool,
    /// The problems that a timer should see, the oldest first.
    pub problems: Vec<Problem>,
    /// The decoders, in the order of the configuration.
    pub decoders: Vec<DecoderStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// The uploads, one for each device.
    pub uploads: Vec<UploadStatus>,
    /// The hold. `None`: the box is not on hold, or the journal is not open yet.
    #[serde(default)]
    pub hold: Option<HoldStatus>,
    /// How long the reads of the last minute took.
    #[serde(default)]
    pub latency: LatencyStatus,
    /// The machine. `None`: it was not looked at yet.
    #[serde(default)]
    pub machine: Option<MachineStatus>,
}
