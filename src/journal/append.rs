//! Putting entries into the log: each call returns when its entries would survive a power cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::entry::Body;
use super::shared::{AppendRequest, Draft, RIDERS_MAX};
use super::terms::{JournalError, Kept, Received};
use super::upload::{Settled, UploadEvent};
use super::{Durable, Journal};
use crate::decoders::{Frame, Framed};
use crate::model::chip::Seq;
use crate::model::clock::Step;

/// Longest time that a stop, or a look at the log, waits for what rides with the next group. A stop
/// waits twice, and the box must have ended within 10 s, also when the disk is full.
const SETTLE_MAX: Duration = Duration::from_millis(400);

impl Journal {
    pub(super) async fn write(&self, drafts: Vec<Draft>) -> Result<Kept, JournalError> {
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest { received: Vec::new(), drafts, reply, settle: false };
        self.requests.send(request).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Lets an upload event ride with the next group. It becomes durable with that group, before
    /// everything that is recorded later, and the state of the device follows it then. Only for an
    /// event that may be lost in a power cut: an acceptance, because the uplink then asks the cloud
    /// again.
    pub(crate) fn record_later(&self, event: UploadEvent) {
        self.ride(event.device().into(), Body::Upload(event));
    }

    /// Lets the new cursor of a sink ride with the next group. It may be lost in a power cut: the
    /// sink then passes on again what it had settled.
    pub(super) fn settle_later(&self, source: &str, settled: Settled) {
        let waits = {
            let mut core = self.shared.lock();
            let from = core.boarded;
            // However long the disk is full, one event of a sink and source waits.
            let waiting = core.riders[from..].iter_mut().find_map(|(subject, _, body, _)| match body {
                Body::Settled(other) if other.sink == settled.sink && **subject == *source => Some(other),
                _ => None,
            });
            waiting.map(|other| other.through = other.through.max(settled.through)).is_some()
        };
        if !waits {
            self.ride(source.into(), Body::Settled(settled));
        }
    }

    fn ride(&self, subject: Arc<str>, body: Body) {
        let crowded = {
            let mut core = self.shared.lock();
            core.riders.push((subject, self.shared.board.now(), body, Box::default()));
            core.riding_since.get_or_insert_with(Instant::now);
            core.riders.len() >= RIDERS_MAX
        };
        if crowded {
            self.shared.settle_riders();
        }
    }

    /// Makes what rides with the next group durable now.
    ///
    /// # Errors
    /// The journal is closed.
    pub(crate) async fn settle(&self) -> Result<(), JournalError> {
        if self.shared.lock().riders.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest { received: Vec::new(), drafts: Vec::new(), reply, settle: true };
        self.requests.send(request).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?.map(|_| ())
    }

    /// The same, but a disk that takes nothing now does not hold the caller up: what rides may be
    /// lost.
    pub(crate) async fn settle_soon(&self) {
        let _ = tokio::time::timeout(SETTLE_MAX, self.settle()).await;
    }

    /// Keeps frames of one decoder or source (none of them [`Frame::Info`]) and returns when they
    /// would survive a power cut. While the disk is full this call waits, because the writer tries
    /// again by itself.
    pub async fn append(
        &self,
        decoder: &str,
        received: Timestamp,
        frames: Vec<Framed>,
    ) -> Result<Durable<Kept>, JournalError> {
        self.append_all(vec![Received { source: decoder.into(), at: received, frames }]).await
    }

    /// Does the same for all that was received, as one request with consecutive numbers in this
    /// order: the writer is woken once, and answers once.
    pub async fn append_all(&self, received: Vec<Received>) -> Result<Durable<Kept>, JournalError> {
        let kept = |framed: &Framed| !matches!(framed.frame, Frame::Info(_));
        if !received.iter().flat_map(|received| &received.frames).any(kept) {
            // There is nothing to keep, so the number of the last durable entry is the true answer.
            let head = Seq(self.shared.lock().durable);
            return Ok(Durable(Kept { first: head, last: head }));
        }
        let (reply, answer) = oneshot::channel();
        let request = AppendRequest { received, drafts: Vec::new(), reply, settle: false };
        self.requests.send(request).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?.map(Durable)
    }

    /// Makes an upload event durable. The journal's state of the device follows it.
    pub async fn record(&self, event: UploadEvent) -> Result<Durable<Seq>, JournalError> {
        let device = event.device().into();
        let kept = self.write(vec![(device, self.shared.board.now(), Body::Upload(event), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// Makes a note for people durable: a start, a stop, a problem. `code` is the note's stable
    /// name.
    pub async fn note(&self, code: &str, text: &str) -> Result<Durable<Seq>, JournalError> {
        let kept =
            self.write(vec![(code.into(), self.shared.board.now(), Body::Note(text.into()), Box::default())]).await?;
        Ok(Durable(kept.first))
    }

    /// Makes a step of the box's clock durable. From then on, the receive times of waiting reads
    /// that arrived before the step are corrected by it.
    pub async fn clock_stepped(&self, step: Step) -> Result<Durable<Seq>, JournalError> {
        let kept = self.write(vec![("box".into(), self.shared.board.now(), Body::Clock(step), Box::default())]).await?;
        Ok(Durable(kept.first))
    }
}
