//! Orders of people to open or close a session, on their way to the machine and back. The log gets a
//! line when an order is taken and a line with what became of it, with the name of who gave it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::machine::{Done, Input, Machine, Outcome, Wanted};
use crate::journal::{Journal, JournalError};
use crate::model::chip::Seq;
use crate::model::text::{printable, tail};

/// The code of the lines in the log.
const NOTE: &str = "session";
/// Waiting reads are counted up to this many.
pub(crate) const LEFT_MAX: usize = 5_000;

/// Somebody opens or closes a session of the device.
#[derive(Debug)]
pub(crate) struct SessionOrder {
    /// What is wanted.
    pub wanted: Wanted,
    /// Who wants it, as the log remembers it.
    pub by: Box<str>,
    /// Receives what became of it.
    pub done: oneshot::Sender<SessionChange>,
    /// Who decides about the order.
    pub claim: Claim,
}

/// An order is carried out by the uplink, or withdrawn by who gave it, and never both: an order that
/// has waited for long must not end a session in the middle of the race. The uplink takes the claim
/// immediately before the call that changes something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Decides about the order. `false`: the other side did.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionChange {
    /// What became of it.
    pub outcome: Outcome,
    /// Reads that waited before the order and did not go into the session before, at most
    /// [`LEFT_MAX`]. They go into the next one.
    pub left: usize,
    /// Passings that may be in the session before. The uplink asks the cloud for them, and sends
    /// those into the next session that are not there.
    pub on_their_way: usize,
}

/// Handles the orders, one at a time.
pub(super) struct Orders {
    asked: mpsc::Receiver<SessionOrder>,
    taken: Option<SessionOrder>,
    doing: Option<SessionOrder>,
    /// The call of the order may have changed something, so nobody withdraws it any more.
    claimed: bool,
}

impl Orders {
    pub(super) fn new(asked: mpsc::Receiver<SessionOrder>) -> Self {
        Self { asked, taken: None, doing: None, claimed: false }
    }

    /// Waits for the next order, once the previous one is finished, or until whoever gave the
    /// previous one is gone.
    pub(super) async fn next(&mut self) {
        match &mut self.doing {
            Some(order) if !self.claimed => return order.done.closed().await,
            Some(_) => return std::future::pending().await,
            None => {}
        }
        match if self.taken.is_some() { None } else { self.asked.recv().await } {
            Some(order) => self.taken = Some(order),
            None => std::future::pending().await,
        }
    }

    /// Takes the next order, if there is one. What is durable now belongs to the session before.
    ///
    /// # Errors
    /// The journal cannot store anything more.
    pub(super) async fn begin(&mut self, journal: &Journal, device: &str) -> Result<Option<Input>, JournalError> {
        if self.taken.is_none() && self.doing.is_none() {
            self.taken = self.asked.try_recv().ok();
        }
        let Some(order) = self.taken.take().filter(|order| !order.done.is_closed()) else { return Ok(None) };
        let through = journal.durable();
        note(journal, &asked_in_words(&order, device)).await?;
        let wanted = order.wanted.clone();
        (self.doing, self.claimed) = (Some(order), false);
        Ok(Some(Input::Order { wanted, through }))
    }

    /// Forgets the order if whoever gave it is gone and nothing was changed yet.
    ///
    /// # Errors
    /// The journal cannot store anything more.
    pub(super) async fn withdraw(
        &mut self,
        machine: &mut Machine,
        journal: &Journal,
        device: &str,
    ) -> Result<(), JournalError> {
        let gone = !self.claimed && self.doing.as_ref().is_some_and(|order| order.done.is_closed());
        if gone && machine.withdraw_order() {
            self.forget(journal, device).await?;
        }
        Ok(())
    }

    /// Called immediately before the call of the order. Returns false if the order was withdrawn, so
    /// that the call must not be made.
    ///
    /// # Errors
    /// The journal cannot store anything more.
    pub(super) async fn claim(
        &mut self,
        machine: &mut Machine,
        journal: &Journal,
        device: &str,
    ) -> Result<bool, JournalError> {
        let waits = |order: &SessionOrder| !order.done.is_closed() && order.claim.take();
        self.claimed = self.claimed || self.doing.as_ref().is_some_and(waits);
        if !self.claimed {
            machine.withdraw_order();
            self.forget(journal, device).await?;
        }
        Ok(self.claimed)
    }

    async fn forget(&mut self, journal: &Journal, device: &str) -> Result<(), JournalError> {
        match self.doing.take() {
            Some(order) => note(journal, &withdrawn_in_words(&order, device)).await,
            None => Ok(()),
        }
    }

    /// Tells what became of the order, if it is carried out.
    ///
    /// # Errors
    /// The journal cannot store anything more.
    pub(super) async fn end(
        &mut self,
        machine: &mut Machine,
        journal: &Journal,
        device: &str,
        sources: &[Box<str>],
    ) -> Result<(), JournalError> {
        let Some(Done { outcome, through, on_their_way, .. }) = machine.take_done() else { return Ok(()) };
        let left = left(journal, device, sources, through);
        let Some(order) = self.doing.take() else { return Ok(()) };
        let change = SessionChange { outcome, left, on_their_way };
        note(journal, &change.in_words(&order, device)).await?;
        let _ = order.done.send(change); // the command may have ended
        Ok(())
    }
}

async fn note(journal: &Journal, text: &str) -> Result<(), JournalError> {
    tracing::info!("{text}");
    journal.note(NOTE, text).await.map(|_| ())
}

/// Reads up to `through` that wait.
fn left(journal: &Journal, device: &str, sources: &[Box<str>], through: Seq) -> usize {
    let mut pending = journal.pending(device, sources, LEFT_MAX);
    pending.end_at(Some(through));
    pending.passings()
}

fn asked_in_words(order: &SessionOrder, device: &str) -> String {
    let device = tail(device);
    match &order.wanted {
        Wanted::Open { alias, .. } => {
            format!("{} asks to open the session \"{}\" of device …{device}", order.by, printable(alias))
        }
        Wanted::Close { token } => {
            format!("{} asks to close the session …{} of device …{device}", order.by, tail(token))
        }
    }
}

fn withdrawn_in_words(order: &SessionOrder, device: &str) -> String {
    let (by, device) = (&order.by, tail(device));
    match &order.wanted {
        Wanted::Open { alias, .. } => {
            format!(
                "{by} does not wait any more for the session \"{}\" of device …{device}: it was not opened",
                printable(alias)
            )
        }
        Wanted::Close { token } => format!(
            "{by} does not wait any more for the end of the session …{} of device …{device}: it was not closed",
            tail(token)
        ),
    }
}

impl SessionChange {
    fn in_words(&self, order: &SessionOrder, device: &str) -> String {
        let (device, by, on_their_way) = (tail(device), &order.by, self.on_their_way);
        let whither = if matches!(self.outcome, Outcome::Opened { .. }) { "the new" } else { "the next" };
        let mut rest = String::new();
        match self.left {
            0 => {}
            1 => rest += &format!("; 1 read that waited goes into {whither} session"),
            LEFT_MAX => rest += &format!("; {LEFT_MAX} reads or more that waited go into {whither} session"),
            left => rest += &format!("; {left} reads that waited go into {whither} session"),
        }
        if on_their_way > 0 {
            rest += &format!("; {on_their_way} passings are looked for in the session before");
        }
        match &self.outcome {
            Outcome::Opened { session, before } => {
                let ended = before.as_ref().map_or(String::new(), |before| {
                    let alias = before.alias.as_deref().unwrap_or("without a name");
                    format!("; the session \"{}\" (…{}) ended", printable(alias), tail(&before.token))
                });
                let alias = printable(session.alias.as_deref().unwrap_or_default());
                let token = tail(&session.token);
                format!("the session \"{alias}\" (…{token}) of device …{device} was opened by {by}{ended}{rest}")
            }
            Outcome::Closed { token } => {
                format!("the session …{} of device …{device} was closed by {by}{rest}", tail(token))
            }
            Outcome::Other(session) => format!(
                "what {by} asked for was not done, of device …{device}: the session …{} is active, and nobody agreed to \
                 its end",
                tail(&session.token)
            ),
            Outcome::Failed(error) => format!("what {by} asked for was not done, of device …{device}: {error}"),
            Outcome::Unknown { error, .. } => {
                format!("nobody knows whether what {by} asked for was done, of device …{device}: {error}")
            }
        }
    }
}
