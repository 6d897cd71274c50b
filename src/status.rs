//! All that is known about the box, in one place: the [`Board`] to which every task reports, and
//! the [`Snapshot`] from which the JSON, the metrics, the command line and the page are made.
//!
//! A task reports only what is certain (`kept` after it is durable). The board never blocks: it
//! takes one short lock and does no I/O.

mod checks;
pub(crate) mod glance;
mod judge;
mod lamp;
mod lamps;
mod latency;
pub(crate) mod plot;
mod problem;
mod severity;
mod snapshot;
mod state;
pub(crate) mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use tokio::sync::{Notify, watch};

use self::checks::Checks;
pub use self::checks::{ChecksStatus, MatCheck};
use self::judge::{Judge, StateVerdict};
pub use self::lamp::{Lamp, LampName, Mark};
pub use self::lamps::lamps;
use self::latency::Latency;
pub use self::latency::{LatencyFigures, LatencyHistogram, LatencyStatus};
pub use self::problem::{Cause, ProblemCode};
pub use self::severity::Severity;
pub use self::snapshot::{
    AuditStatus, BatteryStatus, ChargeState, ClockBy, DecoderStatus, HoldStatus, JournalStatus, LastRead, LinkState,
    MachineStatus, PpsStatus, Problem, ReadCounts, RecentRead, SessionStatus, Snapshot, TimeSources, UploadState,
    UploadStatus,
};
pub use self::state::BoxState;
use crate::model::chip::Seq;
use crate::model::clock::Wall;
use crate::model::text::{printable, tail};

/// Number of reads kept in memory for the page and `/api/reads`.
pub(crate) const RECENT_READS: usize = 1000;

/// A problem that was raised or has ended, for the part that records it.
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

struct Inner {
    name: String,
    started: Instant,
    not_ready: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    /// Problems that were raised or ended since the changes were last taken, by code and subject.
    /// The value is whether the problem was shown at that time. A problem that ended and was raised
    /// again is not in the map. So the map has at most as many entries as problems were shown then
    /// and are shown now.
    changed: BTreeMap<(&'static str, String), bool>,
    decoders: Vec<DecoderStatus>,
    journal: JournalStatus,
    uploads: Vec<UploadStatus>,
    hold: Option<HoldStatus>,
    /// Losses that somebody acknowledged: code, subject and message. What raises one of them again, with the same
    /// message, tells nothing new.
    seen: Vec<(String, String, String)>,
    recent: VecDeque<RecentRead>,
    latency: Latency,
    machine: Option<MachineStatus>,
    judge: Judge,
    checks: Checks,
    /// The day at the last look, in the zone of the box.
    day: Option<Date>,
}

/// Reads that became durable together: a chunk of bytes from a port, as far as it is of one source.
pub(crate) struct KeptReads {
    /// The first and the last of the consecutive entries that came from the chunk.
    pub entries: (Seq, Seq),
    /// How many of them are reads.
    pub reads: u64,
    /// When the chunk was received.
    pub received: Instant,
}

/// The place where every task reports. Clones share it.
#[derive(Clone)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
    version: watch::Sender<u64>,
    /// Notified when a problem is raised or ends.
    problems_changed: Arc<Notify>,
    /// The clock is here because every part that needs the time has the board too.
    wall: Wall,
}

/// The day on which an instant falls, in the zone of the box.
fn day_of(instant: Timestamp) -> Date {
    ZonedDateTime::new(instant, TimeZone::system()).date()
}

impl Board {
    /// An empty board with the system's clock. It is not ready until the journal reports that it is
    /// open.
    pub fn new(name: &str) -> Self {
        Self::with_clock(name, Wall::default())
    }

    /// Like [`Board::new`], with `wall` as the clock. Every part that has the board takes the time
    /// of the box from it.
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
            hold: None,
            seen: Vec::new(),
            recent: VecDeque::new(),
            latency: Latency::new(),
            machine: None,
            judge: Judge::default(),
            checks: Checks::default(),
            day: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            version: watch::Sender::new(0),
            problems_changed: Arc::default(),
            wall,
        }
    }

    /// The name of the box.
    pub(crate) fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// The box's wall clock.
    pub fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// The clock of the box, for parts that need one of their own.
    pub(crate) fn wall(&self) -> &Wall {
        &self.wall
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere ends the process. The board holds plain data, which stays true.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }

    /// Shows a problem, or renews the message of one that is shown (its `since` stays). A new
    /// problem is logged. The message may contain text from a decoder or the cloud, so it is made
    /// one line that cannot control a terminal.
    pub fn raise(&self, code: ProblemCode, about: &str, message: impl Into<String>) {
        let code = code.word();
        let message = printable(&message.into());
        let is_seen =
            |inner: &Inner| inner.seen.iter().any(|(word, of, text)| word == code && of == about && *text == message);
        if is_seen(&self.lock()) {
            return;
        }
        self.update(|inner| {
            let now = inner.started.elapsed();
            let known = inner.problems.iter_mut().find(|problem| problem.code == code && problem.about == about);
            if let Some(problem) = known {
                if problem.message != message {
                    (problem.message, problem.renewed) = (message, now);
                }
            } else {
                tracing::warn!(code, about, "{message}");
                self.note_change(inner, code, about, true);
                let (code, about) = (code.to_owned(), about.to_owned());
                inner.problems.push(Problem { code, about, message, since: self.now(), raised: now, renewed: now });
            }
        });
    }

    /// Removes a problem, if it is shown.
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

    /// Shows a loss again that an earlier process found.
    pub fn restore(&self, code: ProblemCode, about: &str, message: &str) {
        let shown = |problem: &Problem| problem.code == code.word() && problem.about == about;
        if self.lock().problems.iter().any(shown) {
            return;
        }
        self.raise(code, about, message);
        let mut inner = self.lock();
        for problem in inner.problems.iter_mut().filter(|problem| shown(problem)) {
            problem.renewed = Duration::ZERO; // it did not happen now
        }
    }

    /// The losses that are shown.
    pub fn losses(&self) -> Vec<Problem> {
        let is_loss = |problem: &&Problem| ProblemCode::of_word(&problem.code).is_some_and(ProblemCode::is_loss);
        self.lock().problems.iter().filter(is_loss).cloned().collect()
    }

    /// Somebody acknowledged these losses (code, subject, message), so they are not shown any more.
    pub fn acknowledge(&self, seen: Vec<(String, String, String)>) {
        let gone: Vec<(ProblemCode, String)> = {
            let mut inner = self.lock();
            let is_seen = |problem: &&Problem| {
                seen.iter().any(|(code, about, message)| {
                    *code == problem.code && *about == problem.about && *message == problem.message
                })
            };
            let gone = inner.problems.iter().filter(is_seen);
            let gone = gone.filter_map(|it| Some((ProblemCode::of_word(&it.code)?, it.about.clone()))).collect();
            inner.seen = seen;
            gone
        };
        for (code, about) in gone {
            self.clear(code, &about);
        }
    }

    /// Records that a problem was raised or ended, for [`Board::take_problem_changes`].
    fn note_change(&self, inner: &mut Inner, code: &'static str, about: &str, shown: bool) {
        let key = (code, about.to_owned());
        // A problem that is again as it was when the changes were last taken has not changed.
        if inner.changed.remove(&key).is_none() {
            inner.changed.insert(key, !shown);
        }
        self.problems_changed.notify_one();
    }

    /// The problems that were raised or ended since the last call: first those that were raised,
    /// the oldest first, then those that are over. A problem that was raised and ended in between
    /// is not among them.
    ///
    /// There is one caller, who writes the changes into the log of the journal.
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

    /// Resolves when there are problem changes to take. The future may be dropped and requested
    /// again.
    pub async fn problem_changes(&self) {
        loop {
            let told = self.problems_changed.notified();
            if !self.lock().changed.is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Removes a problem for all of its subjects.
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

    /// All that is known about the box now. To be called about once a second by one task, so that the
    /// state and the checks of the mats are up to date although nobody asks for them.
    pub fn look(&self) -> Snapshot {
        let now = self.now();
        let day = day_of(now);
        {
            let mut inner = self.lock();
            let Inner { decoders, uploads, checks, day: before, .. } = &mut *inner;
            let tails = uploads.iter().map(|upload| upload.session.as_ref().map(|session| session.token_tail.clone()));
            let sessions = tails.collect::<Option<Vec<String>>>().unwrap_or_default();
            checks.look(decoders, sessions, before.replace(day).is_some_and(|before| before != day), now);
        }
        self.snapshot()
    }

    /// Sets the reason why reads cannot be kept now (`Some`), or removes it (`None`).
    pub fn not_ready(&self, code: &'static str, reason: Option<String>) {
        self.update(|inner| {
            match reason {
                Some(reason) => inner.not_ready.insert(code, reason),
                None => inner.not_ready.remove(code),
            };
        });
    }

    /// The reasons why reads cannot be kept now. It is empty when they can be kept.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        self.lock().not_ready.iter().map(|(code, reason)| format!("{code}: {reason}")).collect()
    }

    /// Changes the entry of a decoder. The first call makes the entry.
    pub fn decoder(&self, name: &str, change: impl FnOnce(&mut DecoderStatus)) {
        self.update(|inner| {
            let at = inner.decoders.iter().position(|decoder| decoder.name == name).unwrap_or_else(|| {
                inner.decoders.push(DecoderStatus { name: name.to_owned(), ..Default::default() });
                inner.decoders.len() - 1
            });
            change(&mut inner.decoders[at]);
        });
    }

    /// Changes the entry of a device. The first call makes the entry.
    pub fn upload(&self, device_id: &str, change: impl FnOnce(&mut UploadStatus)) {
        self.update(|inner| {
            let at = inner.uploads.iter().position(|upload| upload.device_id == device_id).unwrap_or_else(|| {
                inner.uploads.push(UploadStatus { device_id: device_id.to_owned(), ..Default::default() });
                inner.uploads.len() - 1
            });
            change(&mut inner.uploads[at]);
        });
    }

    /// Shows what became of the reads, and for each device how many passings were sent and how many
    /// of them the cloud had already. Both are from one moment, and change together.
    pub fn show_sent(&self, reads: ReadCounts, devices: &[(Box<str>, u64, u64)]) {
        let mut inner = self.lock();
        let of = |device: &str| {
            let known = devices.iter().find(|(known, ..)| **known == *device);
            known.map_or((0, 0), |(_, sent, duplicates)| (*sent, *duplicates))
        };
        let same = |upload: &UploadStatus| (upload.sent, upload.duplicates) == of(&upload.device_id);
        if inner.journal.reads == Some(reads) && inner.uploads.iter().all(same) {
            return; // whoever waits for a change is not woken for nothing
        }
        inner.journal.reads = Some(reads);
        for upload in &mut inner.uploads {
            (upload.sent, upload.duplicates) = of(&upload.device_id);
        }
        drop(inner);
        self.version.send_modify(|version| *version += 1);
    }

    /// Shows how many passings have a number in the session of each device: device, token, count.
    /// `None` is shown for a session that is not among them.
    pub fn show_numbered(&self, sessions: &[(Box<str>, Box<str>, u64)]) {
        let mut changed = false;
        let mut inner = self.lock();
        for upload in &mut inner.uploads {
            let of = sessions.iter().find(|(device, ..)| **device == *upload.device_id);
            let Some(session) = &mut upload.session else { continue };
            let count = of.filter(|(_, token, _)| tail(token) == session.token_tail).map(|(.., count)| *count);
            changed |= session.numbered != count;
            session.numbered = count;
        }
        drop(inner);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Shows the hold, or that there is none.
    pub fn show_hold(&self, hold: Option<HoldStatus>) {
        if self.lock().hold != hold {
            self.update(|inner| inner.hold = hold);
        }
    }

    /// Changes the entry of the journal.
    pub fn journal(&self, change: impl FnOnce(&mut JournalStatus)) {
        self.update(|inner| change(&mut inner.journal));
    }

    /// Records how long the reads of a decoder took that became durable at `durable`. Whoever waits
    /// for a change of the board is not woken.
    pub(crate) fn kept(&self, decoder: &str, durable: Instant, kept: impl Iterator<Item = KeptReads>) {
        let mut inner = self.lock();
        let Inner { started, decoders, uploads, latency, .. } = &mut *inner;
        let now = durable.saturating_duration_since(*started);
        let mut of_decoder = decoders.iter_mut().find(|known| known.name == decoder);
        for KeptReads { entries: (first, last), reads, received } in kept.filter(|kept| kept.reads > 0) {
            let reads = u32::try_from(reads).unwrap_or(u32::MAX);
            let received = received.saturating_duration_since(*started);
            let took = latency.kept((first.0, last.0), reads, received, now);
            if let Some(decoder) = &mut of_decoder {
                decoder.read_to_kept.record(took, reads);
            }
        }
        for (upload, took) in latency.caught_up(now) {
            uploads[upload].read_to_cloud.record(took, 1);
        }
    }

    /// Records how long the reads of these passings took, each of which the cloud has for the first
    /// time. Whoever waits for a change of the board is not woken.
    pub(crate) fn arrived(&self, device: &str, reads: impl Iterator<Item = Seq>) {
        let at_the_time = self.now();
        let mut inner = self.lock();
        let Inner { started, uploads, latency, checks, .. } = &mut *inner;
        let now = started.elapsed();
        let Some(at) = uploads.iter().position(|upload| upload.device_id == device) else { return };
        for read in reads {
            checks.arrived(read, at_the_time);
            if let Some(took) = latency.arrived(read, now, at) {
                uploads[at].read_to_cloud.record(took, 1);
            }
        }
    }

    /// How long this read waits for the cloud, at least. `first` is the first number that this process
    /// gave.
    pub(crate) fn waits(&self, read: Seq, first: Seq) -> Duration {
        let inner = self.lock();
        inner.latency.waits(read, first, inner.started.elapsed())
    }

    /// Shows what the machine tells of itself.
    pub(crate) fn machine(&self, machine: MachineStatus) {
        self.update(|inner| inner.machine = Some(machine));
    }

    /// Adds reads that are durable, in journal order. The oldest reads beyond [`RECENT_READS`] are
    /// dropped.
    pub fn recent(&self, reads: impl IntoIterator<Item = RecentRead>) {
        let now = self.now();
        self.update(|inner| {
            for read in reads {
                if inner.recent.len() == RECENT_READS {
                    inner.recent.pop_front();
                }
                inner.checks.kept(&read, now);
                inner.recent.push_back(read);
            }
        });
    }

    /// What one test chip proved about each mat.
    pub(crate) fn checks(&self) -> ChecksStatus {
        self.lock().checks.status()
    }

    /// Begins the checks of the mats anew.
    pub(crate) fn check_again(&self) {
        let now = self.now();
        self.update(|inner| inner.checks.start_again(now));
    }

    /// Goes on with the checks that an earlier process saw, if they are of this day and this process
    /// saw no read yet.
    pub(crate) fn restore_checks(&self, checks: ChecksStatus) {
        let fresh = self.checks().mats.iter().all(|mat| mat.read.is_none());
        if fresh && checks.since.is_some_and(|since| day_of(since) == day_of(self.now())) {
            self.update(|inner| inner.checks.restore(checks));
        }
    }

    /// The newest reads, newest first.
    pub fn recent_reads(&self, limit: usize) -> Vec<RecentRead> {
        self.lock().recent.iter().rev().take(limit).cloned().collect()
    }

    /// The time since the board was made, by a clock that does not step.
    pub fn elapsed(&self) -> Duration {
        self.lock().started.elapsed()
    }

    /// All that is known about the box now.
    pub fn snapshot(&self) -> Snapshot {
        let mut inner = self.lock();
        let now = inner.started.elapsed();
        let mut snapshot = Snapshot {
            name: inner.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now.as_secs(),
            state: BoxState::default(),
            sentence: String::new(),
            todo: Vec::new(),
            by_itself: None,
            lamps: Vec::new(),
            state_s: 0,
            ready: inner.not_ready.is_empty(),
            problems: inner.problems.clone(),
            decoders: inner.decoders.clone(),
            journal: inner.journal.clone(),
            uploads: inner.uploads.clone(),
            hold: inner.hold.clone(),
            latency: inner.latency.figures(now),
            machine: inner.machine.clone(),
        };
        let verdict = inner.judge.look(&snapshot, now).clone();
        let StateVerdict { state, sentence, todo, by_itself, .. } = verdict;
        (snapshot.state, snapshot.sentence, snapshot.todo, snapshot.by_itself) = (state, sentence, todo, by_itself);
        snapshot.state_s = inner.judge.lasts(now).as_secs();
        snapshot.lamps = lamps(&snapshot).into();
        snapshot
    }

    /// A value that changes whenever the board changes.
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

    #[test]
    fn what_a_device_sent_and_what_the_cloud_has_change_together() {
        let board = Board::new("finish");
        for device in ["A", "B"] {
            board.upload(device, |_| {});
        }
        let reads = ReadCounts { kept: 9, in_cloud: 7, waiting: 2, ..ReadCounts::default() };
        let changed = board.changed();
        let version = *changed.borrow();
        board.show_sent(reads, &[("A".into(), 5, 1), ("GONE".into(), 2, 0)]);
        let shown = board.snapshot();
        assert_eq!(shown.journal.reads, Some(reads));
        let sent: Vec<_> = shown.uploads.iter().map(|upload| (upload.sent, upload.duplicates)).collect();
        assert_eq!(sent, [(5, 1), (0, 0)]);
        board.show_sent(reads, &[("A".into(), 5, 1)]);
        assert_eq!(*changed.borrow(), version + 1, "nobody is woken for nothing");
    }

    #[test]
    fn the_count_of_a_session_is_shown_with_that_session_only() {
        let board = Board::new("finish");
        let session = |tail: &str| {
            let session =
                SessionStatus { alias: None, token_tail: tail.to_owned(), token: tail.into(), numbered: None };
            board.upload("A", |upload| upload.session = Some(session));
        };
        let shown = || board.snapshot().uploads[0].session.clone().unwrap().numbered;
        session("A115B1");
        let changed = board.changed();
        let version = *changed.borrow();
        let counts = [("A".into(), "RACE-A115B1".into(), 412), ("B".into(), "RACE-A115B1".into(), 7)];
        board.show_numbered(&counts);
        board.show_numbered(&counts);
        assert_eq!((shown(), *changed.borrow()), (Some(412), version + 1), "nobody is woken for nothing");
        session("C226D2");
        board.show_numbered(&counts);
        assert_eq!(shown(), None, "the journal has not joined that one yet");
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
