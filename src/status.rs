//! What is known of the box, in one place: the [`Board`] that every task writes to and the [`Snapshot`] that
//! feeds the JSON, the metrics, the CLI and the page.
//!
//! A task reports only what is so (`kept` after it is durable). The board never blocks: one short lock, no I/O.

pub mod glance;
mod problem;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

pub use self::problem::{ProblemCode, Severity};
use crate::model::clock::Wall;
use crate::model::text::printable;

/// Reads kept in memory for the page and `/api/reads`.
pub const RECENT_READS: usize = 1000;

/// Something a timer should see. There is one for each code and subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// [`ProblemCode::word`]. It is a word and not the code itself, because who reads a snapshot may be older than the
    /// daemon that wrote it, and may not know the code.
    pub code: String,
    /// What it is about: a decoder's name, a device, a file; empty for the box.
    pub about: String,
    /// What happened, to what, and what to do.
    pub message: String,
    /// Since when (box clock).
    pub since: Timestamp,
}

/// A problem that came or went, for whoever writes that down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProblemChange {
    /// The problem is shown now.
    Came(Problem),
    /// The problem is over.
    Over {
        /// [`Problem::code`].
        code: String,
        /// [`Problem::about`].
        about: String,
    },
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
    /// Decoder clock minus box clock, where the protocol offers the clock.
    pub clock_offset_ms: Option<i64>,
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

struct Inner {
    name: String,
    started: Instant,
    not_ready: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    /// Problems that came or went since somebody took the changes, by code and subject: whether they
    /// were shown then. One that went and came again is not among them, so that there are at most as
    /// many as were shown then and are shown now.
    changed: BTreeMap<(&'static str, String), bool>,
    decoders: Vec<DecoderStatus>,
    journal: JournalStatus,
    uploads: Vec<UploadStatus>,
    recent: VecDeque<RecentRead>,
}

/// Where every task reports; clones share it.
#[derive(Clone)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
    version: watch::Sender<u64>,
    /// Told when a problem comes or goes.
    problems_changed: Arc<Notify>,
    /// Here because everything that dates anything has the board at hand.
    wall: Wall,
}

impl Board {
    /// An empty board: not ready until the journal says so. Dated by the system's clock.
    pub fn new(name: &str) -> Self {
        Self::with_clock(name, Wall::default())
    }

    /// As [`Board::new`], dated by `wall`. Who has the board takes the box's time from it.
    pub fn with_clock(name: &str, wall: Wall) -> Self {
        let inner = Inner {
            name: name.to_owned(),
            started: Instant::now(),
            not_ready: BTreeMap::from([("starting", "the journal is not open yet".to_owned())]),
            problems: Vec::new(),
            changed: BTreeMap::new(),
            decoders: Vec::new(),
            journal: JournalStatus::default(),
            uploads: Vec::new(),
            recent: VecDeque::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            version: watch::Sender::new(0),
            problems_changed: Arc::default(),
            wall,
        }
    }

    /// The box's wall clock.
    pub fn now(&self) -> Timestamp {
        self.wall.now()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere ends the process; what the board holds is plain data and stays true.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }

    /// Shows a problem, or renews the message of one that is shown (its `since` stays). Logged when it is new.
    /// A decoder or the cloud may have a say in the message: it becomes one line that steers no terminal.
    pub fn raise(&self, code: ProblemCode, about: &str, message: impl Into<String>) {
        let code = code.word();
        let message = printable(&message.into());
        self.update(|inner| {
            let known = inner.problems.iter_mut().find(|problem| problem.code == code && problem.about == about);
            if let Some(problem) = known {
                problem.message = message;
            } else {
                tracing::warn!(code, about, "{message}");
                self.note_change(inner, code, about, true);
                let (code, about) = (code.to_owned(), about.to_owned());
                inner.problems.push(Problem { code, about, message, since: self.now() });
            }
        });
    }

    /// Takes a problem away, if it is shown.
    pub fn clear(&self, code: ProblemCode, about: &str) {
        let code = code.word();
        let shown = |problem: &Problem| problem.code == code && problem.about == about;
        if self.lock().problems.iter().any(shown) {
            tracing::info!(code, about, "over");
            self.update(|inner| {
                let before = inner.problems.len();
                inner.problems.retain(|problem| !shown(problem));
                if inner.problems.len() != before {
                    self.note_change(inner, code, about, false);
                }
            });
        }
    }

    /// Notes that a problem came or went, for [`Board::take_problem_changes`].
    fn note_change(&self, inner: &mut Inner, code: &'static str, about: &str, shown: bool) {
        let key = (code, about.to_owned());
        // One that is as it was when the changes were taken has not changed.
        if inner.changed.remove(&key).is_none() {
            inner.changed.insert(key, !shown);
        }
        self.problems_changed.notify_one();
    }

    /// The problems that came or went since the last call: first those that came, the oldest first,
    /// then those that are over. A problem that came and went in between is not among them.
    ///
    /// There is one taker, who writes the changes into the log of the journal.
    pub fn take_problem_changes(&self) -> Vec<ProblemChange> {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.changed);
        let is_new = |problem: &&Problem| {
            changed.iter().any(|((code, about), before)| !before && *code == problem.code && *about == problem.about)
        };
        let came = inner.problems.iter().filter(is_new).cloned().map(ProblemChange::Came);
        let over = changed.iter().filter(|(_, before)| **before).map(|((code, about), _)| {
            let (code, about) = ((*code).to_owned(), about.clone());
            ProblemChange::Over { code, about }
        });
        came.chain(over).collect()
    }

    /// Resolves when there are problem changes to take. It may be dropped and called again.
    pub async fn problem_changes(&self) {
        loop {
            let told = self.problems_changed.notified();
            if !self.lock().changed.is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Takes a problem away from everything that it is about.
    pub fn clear_all(&self, code: ProblemCode) {
        let shown: Vec<String> = self
            .lock()
            .problems
            .iter()
            .filter(|problem| problem.code == code.word())
            .map(|problem| problem.about.clone())
            .collect();
        for about in shown {
            self.clear(code, &about);
        }
    }

    /// Says why reads cannot be kept now (`Some`), or that this reason is gone (`None`).
    pub fn not_ready(&self, code: &'static str, reason: Option<String>) {
        self.update(|inner| {
            match reason {
                Some(reason) => inner.not_ready.insert(code, reason),
                None => inner.not_ready.remove(code),
            };
        });
    }

    /// Why reads cannot be kept now; empty when they can.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        self.lock().not_ready.iter().map(|(code, reason)| format!("{code}: {reason}")).collect()
    }

    /// Changes a decoder's entry, made at first mention.
    pub fn decoder(&self, name: &str, change: impl FnOnce(&mut DecoderStatus)) {
        self.update(|inner| {
            let at = inner.decoders.iter().position(|decoder| decoder.name == name).unwrap_or_else(|| {
                inner.decoders.push(DecoderStatus { name: name.to_owned(), ..Default::default() });
                inner.decoders.len() - 1
            });
            change(&mut inner.decoders[at]);
        });
    }

    /// Changes a device's entry, made at first mention.
    pub fn upload(&self, device_id: &str, change: impl FnOnce(&mut UploadStatus)) {
        self.update(|inner| {
            let at = inner.uploads.iter().position(|upload| upload.device_id == device_id).unwrap_or_else(|| {
                inner.uploads.push(UploadStatus { device_id: device_id.to_owned(), ..Default::default() });
                inner.uploads.len() - 1
            });
            change(&mut inner.uploads[at]);
        });
    }

    /// Changes the journal's entry.
    pub fn journal(&self, change: impl FnOnce(&mut JournalStatus)) {
        self.update(|inner| change(&mut inner.journal));
    }

    /// Adds reads that are durable, in journal order; the oldest beyond [`RECENT_READS`] are forgotten.
    pub fn recent(&self, reads: impl IntoIterator<Item = RecentRead>) {
        self.update(|inner| {
            for read in reads {
                if inner.recent.len() == RECENT_READS {
                    inner.recent.pop_front();
                }
                inner.recent.push_back(read);
            }
        });
    }

    /// The newest reads, newest first.
    pub fn recent_reads(&self, limit: usize) -> Vec<RecentRead> {
        self.lock().recent.iter().rev().take(limit).cloned().collect()
    }

    /// All that is known now.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            name: inner.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: inner.started.elapsed().as_secs(),
            ready: inner.not_ready.is_empty(),
            problems: inner.problems.clone(),
            decoders: inner.decoders.clone(),
            journal: inner.journal.clone(),
            uploads: inner.uploads.clone(),
        }
    }

    /// Changes whenever the board does.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn words(board: &Board) -> Vec<String> {
        let word = |change| match change {
            ProblemChange::Came(problem) => format!("+{} {}: {}", problem.code, problem.about, problem.message),
            ProblemChange::Over { code, about } => format!("-{code} {about}"),
        };
        board.take_problem_changes().into_iter().map(word).collect()
    }

    #[test]
    fn a_problem_is_noted_once_when_it_comes_and_once_when_it_is_over() {
        let board = Board::new("finish");
        board.raise(ProblemCode::LowBattery, "mat", "12 %");
        board.raise(ProblemCode::DiskFull, "", "full");
        board.raise(ProblemCode::LowBattery, "mat", "11 %");
        assert_eq!(words(&board), ["+low_battery mat: 11 %", "+disk_full : full"]);
        board.raise(ProblemCode::LowBattery, "mat", "10 %");
        board.clear(ProblemCode::LowBattery, "gate");
        assert_eq!(words(&board), [""; 0], "nothing came or went");
        board.clear(ProblemCode::DiskFull, "");
        board.raise(ProblemCode::LowBattery, "gate", "9 %");
        assert_eq!(words(&board), ["+low_battery gate: 9 %", "-disk_full "]);
    }

    #[test]
    fn what_came_and_went_between_two_looks_is_not_noted() {
        let board = Board::new("finish");
        board.raise(ProblemCode::DiskFull, "", "full");
        assert_eq!(words(&board).len(), 1);
        for _ in 0..1000 {
            board.clear(ProblemCode::DiskFull, "");
            board.raise(ProblemCode::DiskFull, "", "full again");
            board.raise(ProblemCode::DiskError, "", "once");
            board.clear(ProblemCode::DiskError, "");
        }
        assert_eq!(words(&board), [""; 0]);
        board.clear_all(ProblemCode::DiskFull);
        assert_eq!(words(&board), ["-disk_full "]);
    }

    #[tokio::test]
    async fn who_waits_for_a_change_is_told_also_of_one_that_was_there_before() {
        let board = Board::new("finish");
        let soon = Duration::from_millis(20);
        assert!(timeout(soon, board.problem_changes()).await.is_err());
        board.raise(ProblemCode::DiskFull, "", "full");
        for _ in 0..2 {
            board.problem_changes().await;
        }
        assert_eq!(words(&board).len(), 1);
        assert!(timeout(soon, board.problem_changes()).await.is_err());
        let other = board.clone();
        let waiting = tokio::spawn(async move { other.problem_changes().await });
        board.clear(ProblemCode::DiskFull, "");
        waiting.await.unwrap();
    }
}
