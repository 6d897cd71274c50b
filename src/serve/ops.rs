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
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::cloud::audit::adopt::Adopted;
use crate::cloud::audit::keep::{Order, Repaired};
use crate::cloud::uplink::{Claim, SessionChange, SessionOrder, Wanted};
use crate::decoders::Range;
use crate::journal::control::Held;
use crate::journal::correct::CorrectError;
use crate::journal::holding::HoldError;
use crate::journal::let_go::LetGoError;
use crate::journal::{Audited, Journal, SendAgainOrder};
use crate::link::capture::tap::{CAPTURES, Recording};
use crate::link::capture::{Header, file};
use crate::link::{CommandResult, DecoderHandle};
use crate::model::correction::Correction;
use crate::status::{Board, HoldStatus, ProblemCode, Snapshot};

/// How long an order about a session may wait for its uplink, which may wait for a key or an answer.
const BEGIN_TIME: Duration = Duration::from_secs(60);

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
    /// The uplink of the device did not begin with the order, and will not.
    #[error(
        "the upload of this device did not come to it within {} s, and nothing was changed; `passbridge status` says what it \
         waits for",
        BEGIN_TIME.as_secs()
    )]
    NotBegun,
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
    /// The box was not put on hold, or not released.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Nothing is sent while the box is on hold.
    #[error("the box is on hold, and nothing is sent: release the hold first (`passbridge release`)")]
    OnHold,
    /// The reads that are held back could not be released.
    #[error(transparent)]
    LetGo(#[from] LetGoError),
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
    try_again: watch::Sender<u64>,
    /// `None` until the journal is open.
    journal: Option<Journal>,
}

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
    board.journal(|journal| {
        journal.pending = pending;
        journal.dead_letters = dead_letters;
        journal.duplicates = duplicates;
        journal.oldest_pending_s = oldest.map(|since| (now.as_second() - since.as_second()).max(0) as u64);
    });
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
    pub(crate) fn new(board: Board, repairs: Repairs, decoders: Decoders, try_again: watch::Sender<u64>) -> Self {
        Self { board, repairs, sessions: SessionOrders::new(), decoders, try_again, journal: None }
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

    /// The last sequence number that would survive a power cut. Whoever asks reads the log next, so
    /// the answers of the cloud that ride with the next group are made durable first.
    pub(crate) async fn durable(&self) -> u64 {
        if let Some(journal) = &self.journal {
            journal.settle_soon().await;
        }
        self.board.snapshot().journal.durable
    }

    /// Audits a session of a device and sends the missing passings again. `session` is the token of
    /// the session, or the end of it.
    ///
    /// # Errors
    /// The device is unknown, the box is on hold, the audit failed, or the daemon is stopping.
    pub(crate) async fn repair(&self, device: &str, session: String) -> Result<Repaired, OpsError> {
        self.must_send()?;
        self.order(device, |reply| Order::Repair { session, reply }).await?.map_err(OpsError::Failed)
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
    /// long as the cloud takes it. `by` is who asks.
    ///
    /// # Errors
    /// The device is unknown, or the daemon is stopping.
    pub(crate) async fn session(&self, device: &str, wanted: Wanted, by: &str) -> Result<SessionChange, OpsError> {
        let orders = self.sessions.get(device).ok_or_else(|| OpsError::UnknownDevice(device.to_owned()))?;
        let (done, answer) = oneshot::channel();
        let claim = Claim::default();
        let order = SessionOrder { wanted, by: by.into(), done, claim: claim.clone() };
        let ordered = async {
            // A device carries out one order at a time. The next one waits here.
            orders.send(order).await.map_err(|_| OpsError::Stopping)?;
            answer.await.map_err(|_| OpsError::Stopping)
        };
        let mut ordered = std::pin::pin!(ordered);
        match timeout(BEGIN_TIME, &mut ordered).await {
            Ok(done) => done,
            Err(_) if claim.take() => Err(OpsError::NotBegun),
            Err(_) => ordered.await, // it was begun, so it ends
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
        journal.hold(by).await?;
        tracing::info!("the box was put on hold by {by}");
        show_counts(journal, &self.board);
        Ok(())
    }

    /// Ends the hold: what was read meanwhile is sent or dropped. Returns how many reads these are.
    /// `by` is who asks.
    ///
    /// # Errors
    /// The journal is not open, or the box is not on hold.
    pub(crate) async fn release(&self, how: Held, by: &str) -> Result<u64, OpsError> {
        let journal = self.journal()?;
        let reads = journal.release(how, by).await?;
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
        self.try_again.send_modify(|times| *times += 1);
        count
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
    async fn an_order_that_waited_too_long_is_withdrawn_and_one_that_is_begun_is_waited_for() {
        let (orders, mut ordered) = mpsc::channel(1);
        let sessions: SessionOrders = [("A".into(), orders)].into();
        let ops = Ops::new(Board::new("finish"), Repairs::new(), Decoders::new(), watch::Sender::default())
            .with_sessions(sessions);
        let wanted = || Wanted::Close { token: "T".into() };
        assert!(matches!(ops.session("A", wanted(), "me").await, Err(OpsError::NotBegun)));
        let withdrawn = ordered.recv().await.unwrap();
        assert!(!withdrawn.claim.take(), "the uplink must not begin with it");
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
