//! What a person decides: hold and release, what becomes of passings that are set aside, markers, losses
//! that were seen, room on the card, and a link anew.

use super::refusals::{DecoderRefusal, OpsError};
use super::{BOX, Ops, marker_text, show_counts, show_seen};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::cloud::uplink::Which;
use crate::journal::by_hand::Marked;
use crate::journal::control::{Held, Loss};
use crate::journal::making_room::{Freed, Room};
use crate::journal::set_aside::{Retried, SetAside};
use crate::model::chip::Seq;
use crate::model::source;
use crate::status::Problem;

/// How long whoever did something waits until that is in the log.
const NOTE_TIME: Duration = Duration::from_secs(2);

impl Ops {
    /// Writes into the log that somebody asked for something, and what became of it. While the disk is
    /// full, that is written later: nobody waits for it longer than [`NOTE_TIME`].
    pub(crate) async fn note_action(&self, what: &str, by: &str, outcome: &str) {
        let Some(journal) = self.journal.clone() else { return };
        let Ok(place) = Arc::clone(&self.noting).try_acquire_owned() else {
            tracing::warn!(
                "{what}: {outcome} ({by}); the log of the reads cannot take this note, because the disk is full"
            );
            return;
        };
        let (what, by, outcome) = (what.to_owned(), by.to_owned(), outcome.to_owned());
        let noting = tokio::spawn(async move {
            let _ = journal.note_action(&what, &by, &outcome).await; // the journal closes: the box is stopping
            drop(place);
        });
        let _ = timeout(NOTE_TIME, noting).await;
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
    /// The text is empty or longer than [`MARKER_MAX`](super::MARKER_MAX) characters, there is no such decoder, or the journal is not
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

    /// Ends the connections of a decoder, so that its link reconnects and asks for what was missed. `by` is
    /// who asks.
    ///
    /// # Errors
    /// The configuration has no such decoder.
    pub(crate) async fn restart_link(&self, decoder: &str, by: &str) -> Result<(), DecoderRefusal> {
        self.decoder(decoder)?.restart();
        self.note_action(&format!("restart the link of {decoder}"), by, "the box reconnects").await;
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
        let outcome = format!("{} files with {:.1} MB were removed", freed.segments, freed.bytes as f64 / 1e6);
        self.note_action(&format!("make room up to entry {}", through.0), by, &outcome).await;
        Ok(freed)
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
}
