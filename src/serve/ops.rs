//! The commands that a running box can carry out, as typed functions.
//!
//! [`Ops`] is the only place that carries out what somebody asks of the daemon. It knows neither
//! sockets nor JSON. An adapter (the control socket today, the web page later) parses a request,
//! calls its method, and writes the answer in its own form.
//!
//! Must hold: nothing here changes what is kept. Reads that are held back are released for upload.
//! A repair sends only passings that an audit found missing ([`crate::cloud::audit`]). Passings
//! change their device only if the command names both devices. Reads that a decoder is asked to
//! send again arrive like any other read. A correction moves the time of passings, never a stamp, and
//! passings in the cloud are sent again with it only if the command says so. A session is opened or
//! closed only by the uplink of its device, in its turn.

mod by_hand;
mod refusals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use self::refusals::{BEGIN_TIME, FOLLOWERS};
pub(crate) use self::refusals::{DecoderRefusal, MARKER_MAX, OpsError};
use super::invite::{Invitation, Invites};
use crate::cloud::audit::adopt::Adopted;
use crate::cloud::audit::keep::{Order, Repaired, ResendRange};
use crate::cloud::uplink::{Claim, SessionChange, SessionOrder, TryAgain, Wanted, Which};
use crate::decoders::Range;
use crate::export::found::{SearchAnswer, SearchQuery};
use crate::export::search::Finder;
use crate::history::report::{self, DayReport, ReportQuery};
use crate::history::{PlotHistory, Plots};
use crate::journal::control::Loss;
use crate::journal::reader::Reader;
use crate::journal::{Audited, Journal, SendAgainOrder};
use crate::link::capture::tap::{CAPTURES, Recording};
use crate::link::capture::{Header, file};
use crate::link::{CommandResult, DecoderHandle};
use crate::model::chip::Seq;
use crate::model::clock::Zones;
use crate::model::correction::Correction;
use crate::model::text::{printable, tail};
use crate::status::{Board, HoldStatus, ProblemCode, RECENT_READS, RecentRead, Snapshot};

/// Most notes about what somebody did that wait for room on the disk.
const NOTES: usize = 16;
/// A search runs with this nice value, so that everything else of the box comes first.
const SEARCH_NICE: i32 = 10;

/// What a marker is about that is of no decoder.
pub(crate) const BOX: &str = "box";

/// The text of a marker, on one line. `None`: it is empty or too long.
pub(crate) fn marker_text(text: &str) -> Option<String> {
    let text = printable(text.trim());
    (1..=MARKER_MAX).contains(&text.chars().count()).then_some(text)
}

/// The channel to the audits and repairs of each device, by the device's identity in the cloud.
pub(crate) type Repairs = BTreeMap<Box<str>, mpsc::Sender<Order>>;

/// The channel to the uplink of each device, for orders about its session.
pub(crate) type SessionOrders = BTreeMap<Box<str>, mpsc::Sender<SessionOrder>>;

/// The handle of each decoder, by its name in the configuration.
pub(crate) type Decoders = BTreeMap<String, DecoderHandle>;

/// A capture that has begun.
pub(crate) struct Capturing {
    /// Header of the capture file.
    pub header: Header,
    /// The bytes on the wire from now on.
    pub recording: Recording,
}

/// A handle on the running daemon. Clones reach the same daemon.
#[derive(Clone)]
pub(crate) struct Ops {
    board: Board,
    repairs: Repairs,
    sessions: SessionOrders,
    decoders: Decoders,
    /// Changed to request that the passings at which the cloud failed are tried again now.
    try_again: watch::Sender<TryAgain>,
    /// `None` until the journal is open.
    journal: Option<Journal>,
    /// Tokens for one use, with which the page lets somebody in.
    invites: Invites,
    /// Where the page listens, if it lets somebody in.
    door: Result<SocketAddr, &'static str>,
    /// `None`: nothing follows the log.
    past: Option<Past>,
    /// `None`: the daemon was started without one (tests).
    finder: Option<Finder>,
    /// One search at a time, so that its memory is bounded. The next one waits.
    searching: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    /// Places for notes about what somebody did, which wait while the disk is full.
    noting: Arc<Semaphore>,
}

/// What the box knows of its past.
#[derive(Clone)]
pub(crate) struct Past {
    /// The plots.
    pub plots: PlotHistory,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The zones of the clocks of the decoders.
    pub zones: Zones,
    /// One report is made at a time, because each reads a part of the log.
    pub reports: Arc<Semaphore>,
}

/// The reads of the box from an entry on, as they become durable.
pub(crate) struct Following {
    /// The entries.
    pub reader: Reader,
    /// Tells what an entry is.
    pub finder: Finder,
    /// The last entry that is durable now.
    pub durable: u64,
    /// One of the places of [`FOLLOWERS`].
    _place: OwnedSemaphorePermit,
}

/// Why the page lets nobody in from another machine.
const NO_PAGE: &str = "it is off. Set `listen` under [status], such as \"0.0.0.0:8470\", and `token_file`";

/// Shows on the board how many reads the journal has, and what became of them.
pub(crate) fn show_counts(journal: &Journal, board: &Board) {
    let (pending, oldest) = journal.backlog();
    let (dead_letters, duplicates) = (journal.dead_letters(), journal.duplicates());
    if !journal.show_sent(board) {
        board.journal(|shown| shown.reads = None);
    }
    board.show_numbered(&journal.numbered_in_session());
    show_hold(journal, board);
    let now = board.now();
    // Reads that no batch covers have only the wall clock of their line in the log.
    let oldest = oldest.map(|since| (now.as_second() - since.as_second()).max(0) as u64);
    let open = journal.oldest_open().map(|read| board.waits(read, journal.first()).as_secs());
    board.journal(|journal| {
        journal.pending = pending;
        journal.dead_letters = dead_letters;
        journal.duplicates = duplicates;
        journal.oldest_pending_s = oldest.max(open).filter(|_| pending > 0);
    });
}

/// Tells the board which losses somebody acknowledged.
pub(crate) fn show_seen(journal: &Journal, board: &Board) {
    let seen = journal.seen_losses().into_iter();
    board.acknowledge(seen.map(|Loss { code, about, message }| (code.into(), about.into(), message.into())).collect());
}

/// Shows on the board whether the box is on hold.
fn show_hold(journal: &Journal, board: &Board) {
    let hold = journal.hold_status();
    match &hold {
        None => board.clear(ProblemCode::OnHold, ""),
        Some(HoldStatus { reads, by, .. }) => {
            let message = format!(
                "{by} put the box on hold: {reads} reads of all decoders are kept and not sent. Nothing new goes to the cloud \
                 until the hold is released: passbridge release --send sends these reads, passbridge release --drop sends none \
                 of them"
            );
            board.raise(ProblemCode::OnHold, "", message);
        }
    }
    board.show_hold(hold);
}

impl Ops {
    /// A handle on these devices and decoders, without a journal.
    pub(crate) fn new(board: Board, repairs: Repairs, decoders: Decoders, try_again: watch::Sender<TryAgain>) -> Self {
        let (searching, followers) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(FOLLOWERS)));
        let noting = Arc::new(Semaphore::new(NOTES));
        let (sessions, journal, past, finder) = (SessionOrders::new(), None, None, None);
        let (invites, door) = (Invites::default(), Err(NO_PAGE));
        Self {
            board,
            repairs,
            sessions,
            decoders,
            try_again,
            journal,
            past,
            finder,
            searching,
            followers,
            noting,
            invites,
            door,
        }
    }

    /// The same handle, which can search the log.
    #[must_use]
    pub(crate) fn with_finder(self, finder: Finder) -> Self {
        Self { finder: Some(finder), ..self }
    }

    /// The same handle, which can open and close the sessions of these devices.
    #[must_use]
    pub(crate) fn with_sessions(self, sessions: SessionOrders) -> Self {
        Self { sessions, ..self }
    }

    /// The same handle with a journal.
    #[must_use]
    pub(crate) fn with_journal(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The same handle, which can invite somebody to the page. `door` is where the page listens, or why
    /// it lets nobody in.
    #[must_use]
    pub(crate) fn with_door(self, invites: Invites, door: Result<SocketAddr, &'static str>) -> Self {
        Self { invites, door, ..self }
    }

    /// Makes a token for one use, with which a browser is let in to the page.
    ///
    /// # Errors
    /// The page lets nobody in, or the kernel gives no random bytes.
    pub(crate) fn invite(&self) -> Result<Invitation, OpsError> {
        let listen = self.door.map_err(OpsError::NoDoor)?;
        let token = self.invites.make(Instant::now()).map_err(OpsError::Random)?;
        tracing::info!("a code for one login to the page was made");
        Ok(Invitation { token, listen })
    }

    /// The wall clock of the box.
    pub(crate) fn now(&self) -> Timestamp {
        self.board.now()
    }

    /// The data directory of the journal. `None` until the journal is open.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::dir)
    }

    /// The same handle with the past of the box.
    #[must_use]
    pub(crate) fn with_past(self, past: Past) -> Self {
        Self { past: Some(past), ..self }
    }

    /// The plots of the last ten minutes and of the last six hours, as they are known now. `None`: nothing
    /// follows the log.
    pub(crate) fn plots(&self) -> Option<Plots> {
        self.past.as_ref().map(|past| past.plots.plots())
    }

    /// The report of a span of time. It reads the log in a thread of its own, with rests, and ends early if
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// The log cannot be read, another report is being made, or the daemon is stopping.
    pub(crate) async fn report(&self, from: Timestamp, to: Timestamp) -> Result<DayReport, OpsError> {
        const REST: Duration = Duration::from_millis(2);
        let past = self.past.as_ref().ok_or(OpsError::NoJournal)?;
        let permit = Arc::clone(&past.reports).try_acquire_owned().map_err(|_| OpsError::Busy)?;
        let (name, made, durable) = (self.board.snapshot().name, self.board.now(), self.durable().await);
        let query = ReportQuery { name, from, to, made, durable, zones: past.zones.clone() };
        let (data_dir, wanted) = (past.data_dir.clone(), Arc::new(()));
        let waits = Arc::downgrade(&wanted);
        let making = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            report::make(&data_dir, query, &mut |_| {
                std::thread::sleep(REST);
                waits.strong_count() > 0
            })
        });
        let made = making.await.map_err(|_| OpsError::Stopping)?;
        drop(wanted);
        Ok(made?)
    }

    /// The board of the box.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// The current status of the box. Its counts of reads are those of this moment.
    pub(crate) fn status(&self) -> Snapshot {
        if let Some(journal) = &self.journal {
            show_counts(journal, &self.board);
        }
        self.board.snapshot()
    }

    /// The newest reads that are kept, the newest first.
    pub(crate) fn reads(&self, limit: usize) -> Vec<RecentRead> {
        self.board.recent_reads(limit.min(RECENT_READS))
    }

    /// The last sequence number that would survive a power cut. Whoever asks reads the log next, so
    /// the answers of the cloud that ride with the next group are made durable first.
    pub(crate) async fn durable(&self) -> u64 {
        if let Some(journal) = &self.journal {
            journal.settle_soon().await;
        }
        self.board.snapshot().journal.durable
    }

    /// Finds the reads of a chip or of a bib, with what became of each. Searches are carried out one
    /// after the other, on a thread to which everything else of the box is preferred.
    ///
    /// # Errors
    /// The journal is not open, or its log cannot be read.
    pub(crate) async fn search(&self, query: SearchQuery) -> Result<SearchAnswer, OpsError> {
        let (Some(finder), Some(journal)) = (self.finder.clone(), self.journal.clone()) else {
            return Err(OpsError::NoJournal);
        };
        let place = Arc::clone(&self.searching).acquire_owned().await.map_err(|_| OpsError::Stopping)?;
        journal.settle_soon().await;
        let durable = journal.durable().0;
        let (done, answer) = oneshot::channel();
        let search = move || {
            // Linux has a nice value for each thread, and this one ends with the search.
            let _ = rustix::process::setpriority_process(None, SEARCH_NICE);
            let _ = done.send(finder.search(&query, durable)); // whoever asked may be gone
            drop(place);
        };
        let thread = std::thread::Builder::new().name("search".to_owned()).spawn(search);
        thread.map_err(|error| OpsError::Failed(format!("the system gives no thread for a search: {error}")))?;
        Ok(answer.await.map_err(|_| OpsError::Stopping)??)
    }

    /// The reads of the box after entry `after`, as they become durable.
    ///
    /// # Errors
    /// The journal is not open, or as many commands as are allowed follow the reads.
    pub(crate) fn follow(&self, after: u64) -> Result<Following, OpsError> {
        let (Some(finder), Some(journal)) = (self.finder.clone(), self.journal.as_ref()) else {
            return Err(OpsError::NoJournal);
        };
        let place = Arc::clone(&self.followers).try_acquire_owned().map_err(|_| OpsError::Followed)?;
        let reader = journal.reader(Seq(after.saturating_add(1)));
        Ok(Following { reader, finder, durable: journal.durable().0, _place: place })
    }

    /// Audits a session of a device and sends the missing passings again. `session` is the token of
    /// the session, or the end of it.
    ///
    /// # Errors
    /// The device is unknown, the box is on hold, the audit failed, or the daemon is stopping.
    pub(crate) async fn repair(&self, device: &str, session: String) -> Result<Repaired, OpsError> {
        self.repair_range(device, ResendRange::session(session)).await
    }

    /// Like [`Ops::repair`], for the passings of a range. `by` is who asks.
    ///
    /// # Errors
    /// Like [`Ops::repair`]. If only some of them could be sent, [`OpsError::Failed`] says how many and why.
    pub(crate) async fn resend(&self, device: &str, range: ResendRange, by: &str) -> Result<u64, OpsError> {
        let what = format!("send again what the cloud lost of device …{}, {}", tail(device), range.in_words());
        let done = self.repair_range(device, range).await.and_then(|Repaired { resent, refused, .. }| match refused {
            None => Ok(resent),
            Some(why) => {
                Err(OpsError::Failed(format!("{resent} passings were sent again, and the rest was not: {why}")))
            }
        });
        let outcome = match &done {
            Ok(resent) => format!("{resent} passings were sent again"),
            Err(error) => error.to_string(),
        };
        self.note_action(&what, by, &outcome).await;
        done
    }

    async fn repair_range(&self, device: &str, range: ResendRange) -> Result<Repaired, OpsError> {
        self.must_send()?;
        self.order(device, |reply| Order::Repair { range, reply }).await?.map_err(OpsError::Failed)
    }

    /// Moves passings to the device `to` that were numbered for the device `from` and are not in
    /// the cloud ([`crate::cloud::audit::adopt`]). `from` must not be in the configuration any
    /// more.
    ///
    /// # Errors
    /// `from` is in the configuration, `to` is not, the comparison with the cloud failed, or the
    /// daemon is stopping.
    pub(crate) async fn adopt(&self, from: String, to: &str) -> Result<Adopted, OpsError> {
        if self.repairs.contains_key(&*from) {
            return Err(OpsError::DeviceInUse(from));
        }
        self.order(to, |reply| Order::Adopt { from, reply }).await?.map_err(OpsError::Failed)
    }

    /// Takes over the result of an audit that was made outside the daemon. The daemon shows and
    /// remembers it.
    ///
    /// # Errors
    /// The device is unknown, or the daemon is stopping.
    pub(crate) async fn audited(&self, audited: Audited) -> Result<(), OpsError> {
        let device = audited.device.clone();
        self.order(&device, |reply| Order::Found { audited, reply }).await
    }

    /// Opens or closes a session of a device, after what waits went into the session that is active, as
    /// long as the cloud takes it. `by` is who asks. If this future is dropped before the call to the
    /// cloud begins, the order is withdrawn.
    ///
    /// # Errors
    /// The device is unknown, the uplink does not come to it, or the daemon is stopping. In all cases
    /// but [`OpsError::StoppedAmid`] nothing was changed.
    pub(crate) async fn session(&self, device: &str, wanted: Wanted, by: &str) -> Result<SessionChange, OpsError> {
        let orders = self.sessions.get(device).ok_or_else(|| OpsError::UnknownDevice(device.to_owned()))?;
        let (done, answer) = oneshot::channel();
        let claim = Claim::default();
        let order = SessionOrder { wanted, by: by.into(), done, claim: claim.clone() };
        let ordered = async {
            // A device carries out one order at a time. The next one waits here.
            orders.send(order).await.map_err(|_| OpsError::Stopping)?;
            answer.await.map_err(|_| if claim.take() { OpsError::Stopping } else { OpsError::StoppedAmid })
        };
        let mut ordered = std::pin::pin!(ordered);
        match timeout(BEGIN_TIME, &mut ordered).await {
            Ok(done) => done,
            Err(_) if claim.take() => Err(OpsError::NotBegun),
            Err(_) => ordered.await, // the call is on its way, so its outcome is waited for
        }
    }

    /// Asks a decoder for reads that it has stored. They arrive later, like any other read.
    ///
    /// # Errors
    /// The decoder does not exist, is not connected, or cannot carry out the request.
    pub(crate) async fn rewind(&self, decoder: &str, range: &Range) -> Result<(), DecoderRefusal> {
        match self.decoder(decoder)?.ask(range).await {
            CommandResult::Accepted => Ok(()),
            CommandResult::NotConnected => Err(DecoderRefusal::NotConnected),
            CommandResult::Refused(why) => Err(DecoderRefusal::Refused(why.to_owned())),
        }
    }

    /// Releases the reads that are held back, of a decoder (or of one of its locations) or of all
    /// decoders, so that they are uploaded. Returns how many they are.
    ///
    /// # Errors
    /// The journal is not open, or it cannot release them.
    pub(crate) async fn let_go(&self, decoder: Option<&str>) -> Result<u64, OpsError> {
        let journal = self.journal()?;
        Ok(journal.let_all_go(decoder).await?)
    }

    fn journal(&self) -> Result<&Journal, OpsError> {
        self.journal.as_ref().ok_or(OpsError::NoJournal)
    }

    fn must_send(&self) -> Result<(), OpsError> {
        match &self.journal {
            Some(journal) if journal.is_on_hold() => Err(OpsError::OnHold),
            _ => Ok(()),
        }
    }

    /// Corrects the times of reads of a decoder, or of one of its locations. Returns the entry of
    /// the correction.
    ///
    /// # Errors
    /// The journal is not open, or it does not take the correction.
    pub(crate) async fn correct(&self, decoder: &str, correction: Correction) -> Result<u64, OpsError> {
        let journal = self.journal()?;
        let (shift_ms, by) = (correction.shift_ms, correction.by.clone());
        let entry = journal.correct(decoder, correction).await?.get().0;
        tracing::info!(decoder, shift_ms, entry, "times of reads were corrected by {by}");
        Ok(entry)
    }

    /// Sends passings of a device again whose time was corrected since they were sent. They get new
    /// numbers.
    ///
    /// # Errors
    /// The device is unknown, the journal is not open, or it does not take the order.
    pub(crate) async fn send_again(&self, device: &str, order: SendAgainOrder) -> Result<(), OpsError> {
        if !self.repairs.contains_key(device) {
            return Err(OpsError::UnknownDevice(device.to_owned()));
        }
        let journal = self.journal()?;
        journal.order_again(device, order).await?;
        Ok(())
    }

    /// Tries the passings of every device again that were set aside because the cloud failed at
    /// them. Returns how many they are.
    pub(crate) fn try_again(&self) -> usize {
        let count = self.journal.as_ref().map_or(0, Journal::failing);
        self.tell_failing(Which::All);
        count
    }

    /// Tells the uplinks that somebody decided about passings at which the cloud failed.
    fn tell_failing(&self, which: Which) {
        self.try_again.send_modify(|again| again.decide(which));
    }

    /// Begins a capture of the bytes on the wire of a decoder. It ends when the recording is
    /// dropped.
    ///
    /// # Errors
    /// The decoder does not exist, or it already has the highest allowed number of captures.
    pub(crate) fn capture(&self, decoder: &str) -> Result<Capturing, DecoderRefusal> {
        let Some(recording) = self.decoder(decoder)?.tap().listen() else {
            let why = format!("{CAPTURES} captures of it go on already: end one of them");
            return Err(DecoderRefusal::Refused(why));
        };
        let mut header = recording.header().clone();
        header.add("began", file::stamp(self.board.now()));
        Ok(Capturing { header, recording })
    }

    fn decoder(&self, name: &str) -> Result<&DecoderHandle, DecoderRefusal> {
        let known = || self.decoders.keys().cloned().collect();
        self.decoders.get(name).ok_or_else(|| DecoderRefusal::Unknown { known: known() })
    }

    /// Sends an order to the audits of a device, and waits for its result.
    async fn order<T>(&self, device: &str, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, OpsError> {
        let orders = self.repairs.get(device).ok_or_else(|| OpsError::UnknownDevice(device.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        // A device carries out one order at a time. The next one waits here.
        orders.send(order(reply)).await.map_err(|_| OpsError::Stopping)?;
        answer.await.map_err(|_| OpsError::Stopping)
    }
}

#[cfg(test)]
mod tests;
