//! What people write into the log: markers, and what became of what they asked for.

use jiff::Timestamp;

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
