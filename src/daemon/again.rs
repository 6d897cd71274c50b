//! Carries out the orders to send passings again whose time was corrected
//! ([`crate::journal::correct`]), one device in each task.
//!
//! What must hold:
//! * **Once.** One line of the log takes a piece of passings out of the cloud's account and says how
//!   far the order is carried out. The next piece is looked for behind that, also after a kill.
//! * **Bounded.** The next piece is given only when the uplink has numbered the last one, and at
//!   most [`LOOK`] passings are looked up in advance.
//! * **Nothing is passed over.** A passing that has a number and is on its way is waited for: it may
//!   arrive with the old time.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cloud::passing::chip_code;
use crate::export::corrected::{ReadFate, WalkedRead, walk};
use crate::export::{ExportError, Reading};
use crate::journal::{Journal, JournalError, SendAgainOrder, UploadEvent, UploadItem};
use crate::model::chip::Seq;

/// Most passings in one line of the log.
const PIECE: usize = if cfg!(debug_assertions) { 20 } else { 200 };
/// Most passings that are looked up at once.
const LOOK: usize = 20 * PIECE;
/// How often the task looks whether there is an order, and whether the last piece has its numbers.
const EVERY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 500 });

/// Carries out the orders of a device until `stop`, or until the journal is closed.
pub(super) async fn carry_out(journal: Journal, device: Box<str>, reading: Reading, stop: CancellationToken) {
    if stop.run_until_cancelled(journal.serving()).await.is_none() {
        return;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = VecDeque::new();
    let mut looked_for: Option<SendAgainOrder> = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(order) = journal.order(&device) else { continue };
        if !journal.released(&device).is_empty() {
            continue; // the last piece has no numbers yet
        }
        if looked_for.as_ref() != Some(&order) {
            found = match look(&journal, &device, &reading, &order).await {
                Ok(pieces) => pieces,
                Err(error) => {
                    tracing::warn!(%error, "passings that go again cannot be looked up; it is tried again");
                    continue;
                }
            };
        }
        // Without a piece, the next passing is on its way: the task looks again.
        looked_for = None;
        if let Some(piece) = found.pop_front() {
            match give(&journal, &device, piece).await {
                Ok(()) => looked_for = journal.order(&device).filter(|_| !found.is_empty()),
                Err(_) => return stop.cancelled().await, // the journal is closed, so the process is stopping
            }
        }
    }
}

/// Passings of one session, and the read before which everything is done with them.
struct Piece {
    session: Box<str>,
    items: Vec<UploadItem>,
    next: Seq,
}

async fn give(journal: &Journal, device: &str, piece: Piece) -> Result<(), JournalError> {
    let Piece { session, items, next } = piece;
    let (device, count) = (device.into(), items.len());
    tracing::info!(device, count, "passings go again with their corrected time");
    journal.record(UploadEvent::Again { device, session, items, next }).await.map(|_| ())
}

/// The next pieces of an order. The last one ends the order, if no further passing belongs to it.
async fn look(
    journal: &Journal,
    device: &str,
    reading: &Reading,
    order: &SendAgainOrder,
) -> Result<VecDeque<Piece>, ExportError> {
    let (data_dir, durable) = (journal.dir().to_owned(), journal.durable().0);
    let (device, reading, order) = (Box::<str>::from(device), reading.clone(), order.clone());
    let looking = tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { device, order, tag: reading.tag, found: VecDeque::new(), count: 0 };
        let (decoder, from) = (pieces.order.decoder.clone(), pieces.order.from.0.max(1));
        let mut ended = false; // before the last read of the order
        walk(&data_dir, &reading, durable, (decoder.as_deref(), from), |read| {
            let flow = pieces.take(read);
            ended |= flow.is_break() && read.seq <= pieces.order.through.0;
            flow
        })?;
        if !ended {
            pieces.finish();
        }
        Ok(pieces.found)
    });
    looking.await.unwrap_or_else(|error| Err(ExportError::Read(std::io::Error::other(error))))
}

struct Pieces {
    device: Box<str>,
    order: SendAgainOrder,
    tag: crate::config::TagCode,
    found: VecDeque<Piece>,
    count: usize,
}

impl Pieces {
    fn take(&mut self, read: &WalkedRead<'_>) -> ControlFlow<()> {
        if read.seq > self.order.through.0 || self.count >= LOOK {
            return ControlFlow::Break(());
        }
        let (passing, arrived) = match &read.fate {
            ReadFate::InCloud(passing) => (passing, true),
            ReadFate::OnItsWay(passing) => (passing, false),
            _ => return ControlFlow::Continue(()),
        };
        if *passing.device != *self.device || passing.item.corrected_ms == read.corrected_ms {
            return ControlFlow::Continue(());
        }
        if !arrived {
            return ControlFlow::Break(());
        }
        let mut item = passing.item.clone();
        if item.bib.is_empty() {
            // Found in the cloud by a version that did not write what it found.
            item.chip = chip_code(read.chip, self.tag).into();
            item.bib = item.chip.clone();
        }
        self.count += 1;
        let next = Seq(read.seq + 1);
        match self.found.back_mut().filter(|last| last.items.len() < PIECE && *last.session == *passing.session) {
            Some(last) => {
                last.items.push(item);
                last.next = next;
            }
            None => self.found.push_back(Piece { session: passing.session.into(), items: vec![item], next }),
        }
        ControlFlow::Continue(())
    }

    /// Nothing of the order is left.
    fn finish(&mut self) {
        let next = Seq(self.order.through.0 + 1);
        match self.found.back_mut() {
            Some(last) => last.next = next,
            None => self.found.push_back(Piece { session: "".into(), items: Vec::new(), next }),
        }
    }
}
