//! Puts the box on hold, and releases it ([`super::hold`]).

use super::control::{Control, Held};
use super::entry::Body;
use super::hold::{Hold, Skipped};
use super::terms::JournalError;
use super::{Durable, Journal};
use crate::model::chip::Seq;
use crate::model::clock;
use crate::model::text::printable;
use crate::status::HoldStatus;

/// What the entries are about.
const BOX: &str = "box";

/// Why the box was not put on hold, or not released.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The journal is closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It is on hold already.
    #[error("the box is on hold already, since {} ({})", .0.since, .0.by)]
    Already(HoldStatus),
    /// It is not on hold.
    #[error("the box is not on hold: there is nothing to release")]
    NotHeld,
    /// There are too many spans of dropped reads before which others wait.
    #[error(
        "too many holds ended without sending while earlier reads still wait for the cloud: send these reads, or connect the \
         box to the cloud first"
    )]
    TooMany,
}

impl Journal {
    /// The hold that is not released. Valid only after [`Journal::serving`].
    pub fn hold_status(&self) -> Option<HoldStatus> {
        let core = self.shared.lock();
        let Hold { seq, since, by, .. } = core.state.hold.as_ref()?;
        let since = clock::corrected(&core.state.steps, *seq, *since);
        let reads = core.state.hold.as_ref().map_or(0, Hold::reads);
        Some(HoldStatus { since, reads, by: printable(by) })
    }

    /// The entry of the hold that is not released.
    pub(crate) fn hold_seq(&self) -> Option<Seq> {
        self.shared.lock().state.hold.as_ref().map(|hold| Seq(hold.seq))
    }

    /// Whether the box is on hold.
    pub fn is_on_hold(&self) -> bool {
        self.shared.lock().state.hold.is_some()
    }

    /// Puts the box on hold: no passing gets a number until it is released. Returns when that would
    /// survive a power cut.
    ///
    /// # Errors
    /// [`HoldError`]: it is on hold already, or the journal is closed.
    pub async fn hold(&self, by: &str) -> Result<Durable<Seq>, HoldError> {
        self.serving().await;
        let _one = self.turns.letting_go.lock().await;
        match self.hold_status() {
            Some(status) => Err(HoldError::Already(status)),
            None => Ok(Durable(self.decide(Control::Hold { by: by.into() }).await?)),
        }
    }

    /// Ends the hold. Returns how many reads are sent or dropped, when that would survive a power
    /// cut.
    ///
    /// # Errors
    /// [`HoldError`]: it is not on hold, or the journal is closed.
    pub async fn release(&self, how: Held, by: &str) -> Result<u64, HoldError> {
        self.serving().await;
        let _one = self.turns.letting_go.lock().await;
        let from = {
            let core = self.shared.lock();
            let hold = core.state.hold.as_ref().ok_or(HoldError::NotHeld)?;
            let full =
                |source: &str| core.state.decoders.get(source).is_some_and(|fold| Skipped::is_full(&fold.skipped));
            if how == Held::Drop && hold.sources.keys().any(|source| full(source)) {
                return Err(HoldError::TooMany);
            }
            Seq(hold.seq)
        };
        let end = self.decide(Control::Release { how, from, by: by.into() }).await?;
        let (at, reads) = self.shared.lock().state.released;
        Ok(if at == end.0 { reads } else { 0 }) // 0: the queue is being rebuilt, and nobody knows yet
    }

    async fn decide(&self, control: Control) -> Result<Seq, JournalError> {
        let now = self.shared.board.now();
        let kept = self.write(vec![(BOX.into(), now, Body::Control(control), Box::default())]).await?;
        Ok(kept.first)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::decoders::{Frame, Framed};
    use crate::journal::JournalConfig;
    use crate::model::chip::ChipRead;
    use crate::model::clock::Zones;
    use crate::status::Board;

    async fn open(dir: &Path) -> Journal {
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
        let zones = Zones::default();
        let config = JournalConfig { dir: dir.into(), dead_time, zones, keep_days, keep_bytes, segment_bytes };
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        journal
    }

    async fn keep(journal: &Journal, second: u64) -> u64 {
        let stamp = format!("2026-03-06T20:{:02}:{:02}.000", second / 60, second % 60).parse().unwrap();
        let frames = vec![Framed { frame: Frame::Read(ChipRead::new("C1", stamp)), raw: Box::default() }];
        journal.append("mat", Timestamp::UNIX_EPOCH, frames).await.unwrap().get().last.0
    }

    fn waiting(journal: &Journal) -> Vec<u64> {
        let pending = journal.pending("D", &["mat".into()], 100);
        pending.reads.iter().map(|read| read.seq.0).collect()
    }

    #[tokio::test]
    async fn a_hold_and_its_end_survive_a_restart_with_and_without_the_queue() {
        for how in [Held::Send, Held::Drop] {
            let dir = tempfile::tempdir().unwrap();
            let journal = open(dir.path()).await;
            let before = keep(&journal, 1).await;
            journal.hold("timer").await.unwrap();
            let held = [keep(&journal, 2).await, keep(&journal, 3).await];
            assert!(matches!(journal.hold("other").await, Err(HoldError::Already(_))));
            let is_held = |journal: &Journal| {
                let status = journal.hold_status().unwrap();
                assert_eq!((status.reads, &*status.by, waiting(journal)), (2, "timer", vec![]));
                let reads = journal.reads().unwrap();
                assert_eq!((reads.kept, reads.sum(), reads.held, reads.waiting), (3, 3, 2, 1));
            };
            is_held(&journal);
            journal.close().await; // the reads are now in the queue's blocks
            drop(journal);
            let journal = open(dir.path()).await;
            is_held(&journal);
            journal.close().await;
            drop(journal);
            std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
            let journal = open(dir.path()).await;
            is_held(&journal);
            assert_eq!(journal.release(how, "timer").await.unwrap(), 2);
            assert!(matches!(journal.release(how, "timer").await, Err(HoldError::NotHeld)));
            let after = keep(&journal, 4).await;
            let expected = match how {
                Held::Send => vec![before, held[0], held[1], after],
                Held::Drop => vec![before, after],
            };
            assert_eq!(waiting(&journal), expected, "{how:?}");
            journal.close().await;
            drop(journal);
            std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
            let journal = open(dir.path()).await;
            let reads = journal.reads().unwrap();
            assert_eq!((waiting(&journal), reads.kept, reads.sum()), (expected, 4, 4), "{how:?}");
            assert_eq!(reads.dropped_by_choice, if how == Held::Drop { 2 } else { 0 });
            journal.close().await;
        }
    }

    #[tokio::test]
    async fn reads_that_are_held_back_are_not_released_into_a_hold() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path()).await;
        let mut read = ChipRead::new("C1", "2026-03-06T20:00:01.000".parse().unwrap());
        read.held_back = true;
        let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
        journal.append("mat", Timestamp::UNIX_EPOCH, frames).await.unwrap();
        journal.hold("timer").await.unwrap();
        assert!(journal.let_all_go(None).await.unwrap_err().to_string().contains("on hold"));
        assert_eq!(journal.release(Held::Drop, "timer").await.unwrap(), 0);
        assert_eq!(journal.let_all_go(None).await.unwrap(), 1);
        assert_eq!(waiting(&journal).len(), 1);
        journal.close().await;
    }
}
