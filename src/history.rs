//! What happened, as the log tells it: the data of the plots, and the report of a day.
//!
//! What must hold:
//! * **Everything is from the log**, so it is the same after a restart. The one exception: how many reads
//!   wait at this moment is asked of the journal itself, because it alone knows which reads are repeats
//!   before a batch says so.
//! * **Nothing here delays an append.** The plots follow the log with a cursor of their own, once a second,
//!   in a thread that may wait for the disk. They write nothing.
//! * **Nothing is told that is not known.** What was not measured is `None`, and a time that nobody knows of
//!   is in no span.
//! * **Bounded**: see the heads of the files. The plots take about 1 MB at most, the report a few MB for
//!   each decoder, whatever the log holds.

mod back;
mod backlog;
mod cells;
mod fold;
pub(crate) mod report;
mod span;
mod strip;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::back::Pieces;
use self::fold::PlotFold;
pub(crate) use self::fold::Plots;
use self::span::LogSpan;
pub(crate) use self::told::ENTRIES_BEGIN;
use crate::journal::reader::{News, Reader};
use crate::journal::{Journal, log_dir};
use crate::model::chip::Seq;
use crate::status::Board;

/// How far the plots go back, and some minutes more, so that the first cell is whole.
const BACK_MS: i64 = (6 * 60 + 10) * 60 * 1_000;
/// Rest between two pieces of the log that are read back, because reading chips comes first.
const REST: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 2 });
/// Time between two looks for new entries.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which the journal is asked how many reads wait.
const LOOKS_PER_COUNT: u32 = 5;
/// Groups of entries that are taken at one look. If there are more, the next look goes on with them.
const GROUPS: usize = 4_096;

/// The plots of a box. Clones share them.
#[derive(Clone)]
pub(crate) struct PlotHistory {
    fold: Arc<Mutex<PlotFold>>,
    board: Board,
}

impl PlotHistory {
    /// Plots of a box with these decoders that know nothing yet. `has_cloud`: the box uploads.
    pub(crate) fn new(decoders: impl IntoIterator<Item = String>, has_cloud: bool, board: Board) -> Self {
        Self { fold: Arc::new(Mutex::new(PlotFold::new(decoders, has_cloud))), board }
    }

    /// The plots as they are known now. It takes less than a millisecond, and waits for no disk.
    pub(crate) fn plots(&self) -> Plots {
        self.fold().plots(self.board.now())
    }

    fn fold(&self) -> MutexGuard<'_, PlotFold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the journal until `stop`: first what is in the log already, then what is written.
    pub(crate) async fn follow(self, journal: Journal, stop: CancellationToken) {
        let (plots, behind, stopping) = (self.clone(), journal.clone(), stop.clone());
        let read = tokio::task::spawn_blocking(move || plots.read_back(&behind, &stopping)).await;
        let Ok(through) = read else { return };
        let mut reader = journal.reader(Seq(through + 1));
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            if stop.run_until_cancelled(looks.tick()).await.is_none() {
                return;
            }
            let plots = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let at_the_end = plots.look(&mut reader);
                (reader, at_the_end)
            });
            let Ok((back, at_the_end)) = looked.await else { return };
            reader = back;
            if at_the_end && count % LOOKS_PER_COUNT == 0 {
                self.ask(&journal);
            }
            count = count.wrapping_add(1);
        }
    }

    /// Reads the last hours back. Returns the last entry that it read.
    fn read_back(&self, journal: &Journal, stop: &CancellationToken) -> u64 {
        let through = journal.durable().0;
        let started = std::time::Instant::now();
        let dir = log_dir(journal.dir());
        let from_ms = self.board.now().as_millisecond() - BACK_MS;
        let reading = || {
            let mut pieces = Pieces::of(LogSpan::since(&dir, from_ms, through)?);
            while let Some(items) = pieces.next()? {
                let mut fold = self.fold();
                items.iter().for_each(|item| item.apply(&mut fold));
                drop(fold);
                if stop.is_cancelled() {
                    break;
                }
                std::thread::sleep(REST);
            }
            Ok::<_, std::io::Error>(())
        };
        match reading() {
            Ok(()) => tracing::debug!("the plots were read back in {:.1} s", started.elapsed().as_secs_f64()),
            Err(error) => tracing::warn!(%error, "the log could not be read back for the plots; they begin now"),
        }
        through
    }

    /// Takes what is new. Returns whether it was all of it.
    fn look(&self, reader: &mut Reader) -> bool {
        for _ in 0..GROUPS {
            match reader.read() {
                Ok(Some(News::Entries(group))) => {
                    let mut fold = self.fold();
                    group.iter().for_each(|entry| fold.entry(entry));
                }
                Ok(Some(News::Gap { .. })) => {}
                Ok(None) => {
                    self.fold().is_live();
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, "the plots cannot read the log now");
                    return false;
                }
            }
        }
        false
    }

    /// Asks the journal how many reads wait.
    fn ask(&self, journal: &Journal) {
        if let Some(reads) = journal.reads() {
            self.fold().waits_at(self.board.now(), reads.waiting);
        }
    }
}

#[cfg(test)]
mod tests;
