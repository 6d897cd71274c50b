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

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::invite::{Invitation, Invites};
use crate::cloud::audit::adopt::Adopted;
use crate::cloud::audit::keep::{Order, Repaired, ResendRange};
use crate::cloud::uplink::{Claim, SessionChange, SessionOrder, TryAgain, Wanted, Which};
use crate::decoders::Range;
use crate::export::ExportError;
use crate::export::found::{SearchAnswer, SearchQuery};
use crate::export::search::Finder;
use crate::history::report::{self, DayReport, ReportError, ReportQuery};
use crate::history::{PlotHistory, Plots};
use crate::journal::by_hand::Marked;
use crate::journal::control::{Held, Loss};
use crate::journal::correct::CorrectError;
use crate::journal::holding::HoldError;
use crate::journal::let_go::LetGoError;
use crate::journal::making_room::{Freed, Room};
use crate::journal::reader::Reader;
use crate::journal::set_aside::{Retried, SetAside, SetAsideError};
use crate::journal::{Audited, Journal, JournalError, SendAgainOrder};
use crate::link::capture::tap::{CAPTURES, Recording};
use crate::link::capture::{Header, file};
use crate::link::{CommandResult, DecoderHandle};
use crate::model::chip::Seq;
use crate::model::clock::Zones;
use crate::model::correction::Correction;
use crate::model::source;
use crate::model::text::{printable, tail};
use crate::status::{Board, HoldStatus, Problem, ProblemCode, RECENT_READS, RecentRead, Snapshot};

/// How long an order about a session may wait for its uplink, which may wait for a key or an answer,
/// and which sends what waits first.
const BEGIN_TIME: Duration = Duration::from_secs(90);

/// Most commands that follow the reads at the same time.
const FOLLOWERS: usize = 4;
/// A search runs with this nice value, so that everything else of the box comes first.
const SEARCH_NICE: i32 = 10;

/// Most characters of the text of a marker.
pub(crate) const MARKER_MAX: usize = 64;

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

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    /// The daemon is stopping.
    #[error("passbridge is stopping")]
    Stopping,
    /// The uplink of the device did not come to the call of the order, and will not.
    #[error("the upload of this device did not come to it within {} s; `passbridge status` says what it waits for", BEGIN_TIME.as_secs())]
    NotBegun,
    /// The daemon ended while the call of an order was on its way, so the outcome is not known.
    #[error("passbridge stopped before the cloud answered")]
    StoppedAmid,
    /// This daemon does not upload to the device.
    #[error("this passbridge does not upload for device {0}")]
    UnknownDevice(String),
    /// Passings can be taken over only from a device that is not in the configuration any more.
    #[error("device {0} is in the configuration: its passings go there by themselves")]
    DeviceInUse(String),
    /// An audit or a repair was started and failed, for this reason.
    #[error("{0}")]
    Failed(String),
    /// The journal is not open.
    #[error("there is no journal")]
    NoJournal,
    /// Nobody can be let in, because the page has no token, or listens nowhere.
    #[error("the page of this box cannot be opened from another machine: {0}")]
    NoDoor(&'static str),
    /// The kernel gives no random bytes.
    #[error("the box has no random numbers yet ({0}): try again")]
    Random(std::io::Error),
    /// The log cannot be searched.
    #[error(transparent)]
    Search(#[from] ExportError),
    /// As many commands as are allowed follow the reads already.
    #[error("{FOLLOWERS} commands follow the reads already: end one of them")]
    Followed,
    /// The box was not put on hold, or not released.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Nothing was decided about passings that are set aside.
    #[error(transparent)]
    SetAside(#[from] SetAsideError),
    /// The text of a marker.
    #[error("the text of a marker has 1 to {MARKER_MAX} characters")]
    MarkerText,
    /// There is no such decoder.
    #[error("{0}")]
    Decoder(DecoderRefusal),
    /// No such loss is shown.
    #[error("no such loss is shown; there are: {0}")]
    NoSuchLoss(String),
    /// The journal closes.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(io::Error),
    /// Nothing is sent while the box is on hold.
    #[error("the box is on hold, and nothing is sent: release the hold first (`passbridge release`)")]
    OnHold,
    /// The reads that are held back could not be released.
    #[error(transparent)]
    LetGo(#[from] LetGoError),
    /// The report could not be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A report is being made already.
    #[error("a report is being made for somebody else: try again in a moment")]
    Busy,
    /// The correction, or the order to send passings again, was not taken.
    #[error(transparent)]
    Correct(#[from] CorrectError),
}

/// Why a decoder was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecoderRefusal {
    /// The configuration has no decoder of that name.
    #[error("there is no decoder of that name; there are: {}", known.join(", "))]
    Unknown {
        /// The names of the configured decoders.
        known: Vec<String>,
    },
    /// The decoder is not connected.
    #[error("it is not connected now; `passbridge status` says why. What it stores stays there")]
    NotConnected,
    /// The decoder cannot carry out the request, or not now, for this reason.
    #[error("{0}")]
    Refused(String),
}

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
        let what = format!("send passings of a range of device …{} again that the cloud does not have", tail(device));
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

    /// Writes into the log that somebody asked for something, and what became of it. It waits while the
    /// disk is full.
    pub(crate) async fn note_action(&self, what: &str, by: &str, outcome: &str) {
        if let Some(journal) = &self.journal {
            let _ = journal.note_action(what, by, outcome).await; // the journal closes: the box is stopping
        }
    }

    /// The passings that are set aside, the oldest first, with the cloud's answers.
    ///
    /// # Errors
    /// The journal is not open, or the log cannot be read.
    pub(crate) async fn set_aside(&self) -> Result<Vec<SetAside>, OpsError> {
        Ok(self.journal()?.set_aside().await?)
    }

    /// Lets passings that are set aside go up again. Returns how many they are. `by` is who asks.
    ///
    /// # Errors
    /// The journal is not open, or not all of them are set aside and known not to be in the cloud. None is released
    /// then.
    pub(crate) async fn release_set_aside(&self, ids: &[u64], by: &str) -> Result<u64, OpsError> {
        let (journal, chosen, who) = (self.journal()?.clone(), ids.to_vec(), by.to_owned());
        // A task of its own, so that it ends also if who asked is gone: nothing else is decided meanwhile.
        let retrying = tokio::spawn(async move { journal.retry_set_aside(&chosen, &who).await });
        let Retried { released, failing } = retrying.await.map_err(|_| OpsError::Stopping)??;
        let count = released + failing.len() as u64;
        self.tell_failing(Which::These(failing.into_iter().map(Seq).collect()));
        let outcome = format!("{count} passings are tried again");
        self.note_action(&format!("release passings set aside: {ids:?}"), by, &outcome).await;
        Ok(count)
    }

    /// Never sends these passings that are set aside. Returns how many they are. `by` is who asks.
    ///
    /// # Errors
    /// The journal is not open, or not all of them are set aside. None is dropped then.
    pub(crate) async fn drop_set_aside(&self, ids: &[u64], by: &str) -> Result<u64, OpsError> {
        let journal = self.journal()?;
        let (handle, chosen, who) = (journal.clone(), ids.to_vec(), by.to_owned());
        let dropping = tokio::spawn(async move { handle.drop_set_aside(&chosen, &who).await });
        let count = dropping.await.map_err(|_| OpsError::Stopping)??.get();
        self.tell_failing(Which::These(Vec::new()));
        show_counts(journal, &self.board);
        let outcome = format!("{count} passings are never sent");
        self.note_action(&format!("drop passings set aside: {ids:?}"), by, &outcome).await;
        Ok(count)
    }

    /// Puts a marker with the time of the box. `decoder` is a decoder, or one of its locations
    /// (`DECODER/LOCATION`); `None`: the box itself. `by` is who asks. The marker is durable when
    /// this returns.
    ///
    /// # Errors
    /// The text is empty or longer than [`MARKER_MAX`] characters, there is no such decoder, or the journal is not
    /// open.
    pub(crate) async fn marker(&self, text: &str, decoder: Option<&str>, by: &str) -> Result<Marked, OpsError> {
        let text = marker_text(text).ok_or(OpsError::MarkerText)?;
        if let Some(name) = decoder {
            self.decoder(source::decoder(name)).map_err(OpsError::Decoder)?;
        }
        let marked = self.journal()?.mark_by_hand(decoder.unwrap_or(BOX), &text).await?.get();
        let outcome = format!("entry {}", marked.seq.0);
        self.note_action(&format!("put a marker \"{text}\""), by, &outcome).await;
        Ok(marked)
    }

    /// Ends the connections of a decoder, so that its link connects anew and asks for what was missed. `by` is
    /// who asks.
    ///
    /// # Errors
    /// The configuration has no such decoder.
    pub(crate) async fn restart_link(&self, decoder: &str, by: &str) -> Result<(), DecoderRefusal> {
        self.decoder(decoder)?.restart();
        self.note_action(&format!("restart the link of {decoder}"), by, "it connects anew").await;
        Ok(())
    }

    /// Acknowledges a loss that happened, so that it is not shown any more. `about` is the subject of the problem. `by` is who asks.
    ///
    /// # Errors
    /// No such loss is shown, or the journal is not open.
    pub(crate) async fn seen(&self, code: &str, about: &str, by: &str) -> Result<(), OpsError> {
        let journal = self.journal()?;
        let losses = self.board.losses();
        let found = losses.iter().find(|loss| loss.code == code && loss.about == about);
        let Some(Problem { message, .. }) = found else {
            let shown: Vec<String> = losses.iter().map(|loss| format!("{} {}", loss.code, loss.about)).collect();
            return Err(OpsError::NoSuchLoss(shown.join(", ")));
        };
        let (code, about) = (code.into(), about.into());
        journal.seen(Loss { code, about, message: message.as_str().into() }, by).await?;
        show_seen(journal, &self.board);
        Ok(())
    }

    /// What may go from the card, although its retention is not over.
    ///
    /// # Errors
    /// The journal is not open, or the log cannot be read.
    pub(crate) async fn room(&self) -> Result<Room, OpsError> {
        self.journal()?.room().await.map_err(OpsError::Log)
    }

    /// Removes the oldest segments of the log up to entry `through`, as far as nobody needs them: no read
    /// in them is unsent or owed. `by` is who asks.
    ///
    /// # Errors
    /// The journal is not open.
    pub(crate) async fn make_room(&self, through: Seq, by: &str) -> Result<Freed, OpsError> {
        let freed = self.journal()?.make_room(through).await?;
        let outcome = format!("{} files with {} bytes were removed", freed.segments, freed.bytes);
        self.note_action(&format!("make room up to entry {}", through.0), by, &outcome).await;
        Ok(freed)
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

    /// Puts the box on hold: reads are kept, and none is numbered until it is released. `by` is who
    /// asks.
    ///
    /// # Errors
    /// The journal is not open, or the box is on hold already.
    pub(crate) async fn hold(&self, by: &str) -> Result<(), OpsError> {
        let journal = self.journal()?;
        let (handle, who) = (journal.clone(), by.to_owned());
        // A task of its own, so that it ends also if who asked is gone.
        tokio::spawn(async move { handle.hold(&who).await }).await.map_err(|_| OpsError::Stopping)??;
        tracing::info!("the box was put on hold by {by}");
        show_counts(journal, &self.board);
        Ok(())
    }

    /// Takes the ticks of all mats away, so that they are checked anew before the gun.
    pub(crate) fn check_again(&self) {
        self.board.check_again();
    }

    /// Ends the hold: what was read meanwhile is sent or dropped. Returns how many reads these are.
    /// `by` is who asks.
    ///
    /// # Errors
    /// The journal is not open, or the box is not on hold.
    pub(crate) async fn release(&self, how: Held, by: &str) -> Result<u64, OpsError> {
        let journal = self.journal()?;
        let (handle, who) = (journal.clone(), by.to_owned());
        let releasing = tokio::spawn(async move { handle.release(how, &who).await });
        let reads = releasing.await.map_err(|_| OpsError::Stopping)??;
        let done = if how == Held::Send { "sent" } else { "dropped" };
        tracing::info!(reads, "the hold was released by {by}: what was read meanwhile is {done}");
        show_counts(journal, &self.board);
        Ok(reads)
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
        self.try_again.send_modify(|again| *again = TryAgain { times: again.times + 1, which });
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_done_has_a_reason_of_its_own() {
        let (orders, _ordered) = mpsc::channel(1);
        let repairs: Repairs = [("A".into(), orders)].into();
        let decoders: Decoders =
            [("gate".to_owned(), DecoderHandle::default()), ("mat".to_owned(), DecoderHandle::default())].into();
        let ops = Ops::new(Board::new("finish"), repairs, decoders, watch::Sender::default());
        assert_eq!((ops.status().name.as_str(), ops.durable().await, ops.try_again()), ("finish", 0, 0));
        let unknown = DecoderRefusal::Unknown { known: vec!["gate".to_owned(), "mat".to_owned()] };
        assert_eq!(unknown.to_string(), "there is no decoder of that name; there are: gate, mat");
        let range = Range { unit: None, file: None, from: 1, to: 9 };
        assert_eq!(ops.rewind("start", &range).await, Err(unknown.clone()));
        assert_eq!(ops.rewind("mat", &range).await, Err(DecoderRefusal::NotConnected));
        assert_eq!(ops.capture("start").err(), Some(unknown));
        let recordings: Vec<_> = (0..CAPTURES).map(|_| ops.capture("mat").ok().unwrap()).collect();
        assert!(matches!(ops.capture("mat").err(), Some(DecoderRefusal::Refused(_))));
        drop(recordings);
        assert!(ops.capture("mat").is_ok(), "a recording that is dropped makes room");
        assert!(matches!(ops.repair("B", "x".to_owned()).await, Err(OpsError::UnknownDevice(device)) if device == "B"));
        assert!(matches!(ops.adopt("A".to_owned(), "A").await, Err(OpsError::DeviceInUse(device)) if device == "A"));
        assert!(matches!(ops.let_go(None).await, Err(OpsError::NoJournal)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_waited_too_long_is_withdrawn_and_one_whose_call_is_made_is_waited_for() {
        let (orders, mut ordered) = mpsc::channel(1);
        let sessions: SessionOrders = [("A".into(), orders)].into();
        let ops = Ops::new(Board::new("finish"), Repairs::new(), Decoders::new(), watch::Sender::default())
            .with_sessions(sessions);
        let wanted = || Wanted::Close { token: "T".into() };
        assert!(matches!(ops.session("A", wanted(), "me").await, Err(OpsError::NotBegun)));
        let withdrawn = ordered.recv().await.unwrap();
        assert!(!withdrawn.claim.take() && withdrawn.done.is_closed(), "the uplink must not carry it out");
        // The daemon stops, before the call and amid it.
        for amid in [false, true] {
            let stopping = async {
                let order = ordered.recv().await.unwrap();
                assert!(!amid || order.claim.take());
            };
            let (told, ()) = tokio::join!(ops.session("A", wanted(), "me"), stopping);
            assert_eq!(matches!(told, Err(OpsError::StoppedAmid)), amid, "{told:?}");
            assert_eq!(matches!(told, Err(OpsError::Stopping)), !amid, "{told:?}");
        }
        let uplink = async {
            let order = ordered.recv().await.unwrap();
            assert!(order.claim.take());
            tokio::time::sleep(BEGIN_TIME * 2).await;
            let outcome = crate::cloud::uplink::Outcome::Closed { token: "T".into() };
            order.done.send(SessionChange { outcome, left: 0, on_their_way: 0 }).unwrap();
        };
        let (done, ()) = tokio::join!(ops.session("A", wanted(), "me"), uplink);
        assert!(done.is_ok());
    }

    #[tokio::test]
    async fn a_daemon_that_stops_says_so() {
        let (orders, ordered) = mpsc::channel(1);
        let repairs: Repairs = [("A".into(), orders)].into();
        let ops = Ops::new(Board::new("finish"), repairs, Decoders::new(), watch::Sender::default());
        drop(ordered);
        assert!(matches!(ops.repair("A", "x".to_owned()).await, Err(OpsError::Stopping)));
    }
}
