//! What people write into the log: markers, what became of what they asked for, and which losses they
//! have seen.

use jiff::Timestamp;

use super::control::{Control, Loss};
use super::entry::Body;
use super::terms::JournalError;
use super::{Durable, Journal};
use crate::model::chip::{Marker, Seq};

/// The code of the notes about what people asked for.
const ACTION: &str = "action";

/// A marker that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its entry.
    pub seq: Seq,
    /// Its time, by the clock of the box.
    pub at: Timestamp,
}

impl Journal {
    /// Puts a marker with the time of the box. `subject` is a decoder, one of its locations, or
    /// `box`. Returns when the marker would survive a power cut.
    ///
    /// # Errors
    /// The journal is closed.
    pub async fn mark_by_hand(&self, subject: &str, text: &str) -> Result<Durable<Marked>, JournalError> {
        let now = self.shared.board.now();
        let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now); // as the log has it
        let marker = Marker {
            kind: Marker::BY_HAND.into(),
            name: Some(text.into()),
            stamp: None,
            reader: None,
            location: None,
            position: None,
            through: None,
        };
        let kept = self.write(vec![(subject.into(), at, Body::Marker(marker), Box::default())]).await?;
        Ok(Durable(Marked { seq: kept.first, at }))
    }

    /// Notes that somebody asked for something, and what became of it.
    ///
    /// # Errors
    /// The journal is closed.
    pub async fn note_action(&self, what: &str, by: &str, outcome: &str) -> Result<Durable<Seq>, JournalError> {
        tracing::info!(by, "{what}: {outcome}");
        self.note(ACTION, &format!("{by}: {what}: {outcome}")).await
    }
}

impl Journal {
    /// The losses that nobody acknowledged. `None` while the state does not follow the log yet.
    pub fn shown_losses(&self) -> Option<Vec<Loss>> {
        let core = self.shared.lock();
        core.serving.then(|| core.state.losses.shown.clone())
    }

    /// The losses that somebody acknowledged.
    pub fn seen_losses(&self) -> Vec<Loss> {
        self.shared.lock().state.losses.seen.clone()
    }

    /// Makes a loss durable, or that it is over.
    ///
    /// # Errors
    /// The journal is closed.
    pub(crate) async fn note_loss(&self, control: Control) -> Result<(), JournalError> {
        let (subject, now) = ("box".into(), self.shared.board.now());
        self.write(vec![(subject, now, Body::Control(control), Box::default())]).await.map(|_| ())
    }

    /// Makes durable that somebody acknowledged a loss.
    ///
    /// # Errors
    /// The journal is closed.
    pub async fn seen(&self, loss: Loss, by: &str) -> Result<(), JournalError> {
        self.note_loss(Control::Seen { loss, by: by.into() }).await
    }
}
