//! What can be done with a box that runs, as typed commands.
//!
//! [`Ops`] is the one place that carries out what somebody asks of the daemon. It knows neither
//! sockets nor JSON: an adapter (the control socket today, the web page later) reads a request,
//! calls the method for it, and writes the answer in its own words.
//!
//! Must hold: nothing here changes what is kept. Reads that are held back are let go, a repair sends
//! only what an audit finds missing ([`crate::cloud::audit`]), passings change their device only
//! where two devices are named, and what a decoder is asked for again arrives as any other read.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot, watch};

use crate::cloud::audit::adopt::Adopted;
use crate::cloud::audit::keep::{Order, Repaired};
use crate::decoders::Range;
use crate::journal::let_go::LetGoError;
use crate::journal::{Audited, Journal};
use crate::link::capture::tap::{CAPTURES, Recording};
use crate::link::capture::{Header, file};
use crate::link::{CommandResult, DecoderHandle};
use crate::status::{Board, Snapshot};

/// The way to the audits and repairs of each device, by its identity in the cloud.
pub type Repairs = BTreeMap<Box<str>, mpsc::Sender<Order>>;

/// The way to each decoder, by its name in the configuration.
pub type Decoders = BTreeMap<String, DecoderHandle>;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The daemon is stopping.
    #[error("passbridge is stopping")]
    Stopping,
    /// This daemon does not upload for the device.
    #[error("this passbridge does not upload for device {0}")]
    UnknownDevice(String),
    /// Passings can only be taken over from a device that is not in the configuration any more.
    #[error("device {0} is in the configuration: its passings go there by themselves")]
    DeviceInUse(String),
    /// An audit or a repair was begun, and it failed: why.
    #[error("{0}")]
    Failed(String),
    /// The journal is not open.
    #[error("there is no journal")]
    NoJournal,
    /// The reads that are held back could not be let go.
    #[error(transparent)]
    LetGo(#[from] LetGoError),
}

/// Why a decoder was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecoderRefusal {
    /// The configuration has no decoder of that name.
    #[error("there is no decoder of that name; there are: {}", known.join(", "))]
    Unknown {
        /// The names of those that there are.
        known: Vec<String>,
    },
    /// The decoder is not connected.
    #[error("it is not connected now; `passbridge status` says why. What it stores stays there")]
    NotConnected,
    /// The decoder cannot be asked for that, or not now: why.
    #[error("{0}")]
    Refused(String),
}

/// A capture that has begun.
pub struct Capturing {
    /// What the file of the capture says at its top.
    pub header: Header,
    /// What happens on the wire from now on.
    pub recording: Recording,
}

/// A handle on the running daemon; clones do the same.
#[derive(Clone)]
pub struct Ops {
    board: Board,
    repairs: Repairs,
    decoders: Decoders,
    /// Changed when what the cloud failed at is to be tried again now.
    try_again: watch::Sender<u64>,
    /// `None` until the journal is open.
    journal: Option<Journal>,
}

impl Ops {
    /// Reaches the devices and decoders that are given, and no journal yet.
    pub fn new(board: Board, repairs: Repairs, decoders: Decoders, try_again: watch::Sender<u64>) -> Self {
        Self { board, repairs, decoders, try_again, journal: None }
    }

    /// The same handle, which reaches the journal, too.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The board of the box.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// All that is known of the box now.
    pub fn status(&self) -> Snapshot {
        self.board.snapshot()
    }

    /// The last sequence number that would survive a power cut.
    pub fn durable(&self) -> u64 {
        self.board.snapshot().journal.durable
    }

    /// Audits a session of a device and sends what is missing again. `session` is its token, or the
    /// end of it.
    ///
    /// # Errors
    /// The device is unknown, the audit failed, or the daemon is stopping.
    pub async fn repair(&self, device: &str, session: String) -> Result<Repaired, OpsError> {
        self.order(device, |reply| Order::Repair { session, reply }).await?.map_err(OpsError::Failed)
    }

    /// Sends what was numbered for the device `from`, which is not in the configuration any more, and
    /// is not in the cloud, to the device `to` ([`crate::cloud::audit::adopt`]).
    ///
    /// # Errors
    /// `from` is in the configuration, `to` is not, the comparison with the cloud failed, or the
    /// daemon is stopping.
    pub async fn adopt(&self, from: String, to: &str) -> Result<Adopted, OpsError> {
        if self.repairs.contains_key(&*from) {
            return Err(OpsError::DeviceInUse(from));
        }
        self.order(to, |reply| Order::Adopt { from, reply }).await?.map_err(OpsError::Failed)
    }

    /// Takes over the result of an audit that was made beside the daemon, which shows it and
    /// remembers it.
    ///
    /// # Errors
    /// The device is unknown, or the daemon is stopping.
    pub async fn audited(&self, audited: Audited) -> Result<(), OpsError> {
        let device = audited.device.clone();
        self.order(&device, |reply| Order::Found { audited, reply }).await
    }

    /// Asks a decoder for reads that it has stored. They arrive later, as any others do.
    ///
    /// # Errors
    /// There is no such decoder, it is not connected, or it cannot be asked for that.
    pub async fn rewind(&self, decoder: &str, range: &Range) -> Result<(), DecoderRefusal> {
        match self.decoder(decoder)?.ask(range).await {
            CommandResult::Accepted => Ok(()),
            CommandResult::NotConnected => Err(DecoderRefusal::NotConnected),
            CommandResult::Refused(why) => Err(DecoderRefusal::Refused(why.to_owned())),
        }
    }

    /// Uploads the reads that are held back, of a decoder (or of one location of it) or of all, and
    /// says how many they are.
    ///
    /// # Errors
    /// The journal is not open, or it cannot do so.
    pub async fn let_go(&self, decoder: Option<&str>) -> Result<u64, OpsError> {
        let journal = self.journal.as_ref().ok_or(OpsError::NoJournal)?;
        Ok(journal.let_all_go(decoder).await?)
    }

    /// Tries the passings of every device again that were set aside because the cloud failed at
    /// them, and says how many they are.
    pub fn try_again(&self) -> usize {
        let count = self.journal.as_ref().map_or(0, Journal::failing);
        self.try_again.send_modify(|times| *times += 1);
        count
    }

    /// Begins a capture of what goes over the wire of a decoder. It ends when the recording is
    /// dropped.
    ///
    /// # Errors
    /// There is no such decoder, or as many captures of it go on as may.
    pub fn capture(&self, decoder: &str) -> Result<Capturing, DecoderRefusal> {
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

    /// Gives an order to the audits of a device, and waits for its result.
    async fn order<T>(&self, device: &str, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, OpsError> {
        let orders = self.repairs.get(device).ok_or_else(|| OpsError::UnknownDevice(device.to_owned()))?;
        let (reply, answer) = oneshot::channel();
        // A device carries out one order at a time; the next one waits here.
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
        assert_eq!((ops.status().name.as_str(), ops.durable(), ops.try_again()), ("finish", 0, 0));
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

    #[tokio::test]
    async fn a_daemon_that_stops_says_so() {
        let (orders, ordered) = mpsc::channel(1);
        let repairs: Repairs = [("A".into(), orders)].into();
        let ops = Ops::new(Board::new("finish"), repairs, Decoders::new(), watch::Sender::default());
        drop(ordered);
        assert!(matches!(ops.repair("A", "x".to_owned()).await, Err(OpsError::Stopping)));
    }
}
