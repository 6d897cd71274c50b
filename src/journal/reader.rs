//! Readers in the process of the journal: each gets the durable entries in order and whole, with a
//! cursor of its own.
//!
//! What must hold:
//! * **Only what is durable.** A reader follows the number that the writer publishes after the
//!   `fdatasync` of a group.
//! * **No reader slows an append, or another reader.** Near the head, readers share the newest
//!   groups in memory ([`super::recent`]): the writer puts each group there once, under a lock that nobody
//!   holds while reading a file or waiting. A reader that fell behind reads the segments, and comes
//!   back to the memory when it has caught up. Nothing waits for it.
//! * **Bounded.** What a reader takes from the segments at once has [`STEP_ENTRIES`] and
//!   [`STEP_BYTES`].
//! * **Nothing is skipped in silence.** Numbers that the log does not have (pruned, lost, or never
//!   given) are a [`News::Gap`]. A file of the log that somebody moved away may be put back
//!   ([`super::gone`]), so a gap that was not pruned is told after [`GAP_WAIT`] only.
//! * A reader needs neither the queue nor the state: it works while they are rebuilt.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Journal;
use super::entries::Entries;
use super::entry::Entry;
use super::log::LogPlace;
use super::recent::Group;
use super::shared::Shared;
use crate::model::chip::Seq;

/// Entries that a reader takes from the segments at once.
const STEP_ENTRIES: usize = 512;
/// Bytes of the log after which it takes no further entry at once.
const STEP_BYTES: u64 = 256 * 1024;
/// How long a reader waits for entries that are missing and were not pruned. The follower looks
/// after the files every 10 s.
const GAP_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 15_000 });

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum News {
    /// The next entries, at least one.
    Entries(Group),
    /// The log does not have these entries: they were pruned or lost, or their numbers were never
    /// given.
    Gap {
        /// The first of them.
        first: Seq,
        /// The last of them.
        last: Seq,
    },
}

/// A cursor in the journal. It is at the next entry that it gives.
pub struct Reader {
    shared: Arc<Shared>,
    changed: watch::Receiver<Seq>,
    next: u64,
    /// Place before the next entry, or before an entry that was given.
    place: Option<LogPlace>,
    /// The segments that are being read. `None`: the memory has the next entry, or they are opened
    /// next.
    open: Option<Segments>,
    /// Since when entries are missing.
    missing: Option<Instant>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.recent.part();
    }
}

impl Journal {
    /// A reader that begins with entry `from`. It works from the first moment on.
    pub fn reader(&self, from: Seq) -> Reader {
        let shared = Arc::clone(&self.shared);
        shared.recent.join();
        let changed = shared.changed.subscribe();
        Reader { shared, changed, next: from.0.max(1), place: None, open: None, missing: None }
    }
}

/// Where the next news is.
enum Next {
    News(News),
    /// No durable entry follows.
    Nothing,
    /// In the segments.
    Behind(Box<Look>),
}

impl Reader {
    /// The next news, when there is some. `None`: the journal is closed. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// The log cannot be read. The reader stays where it is, and can try again.
    pub async fn next(&mut self) -> io::Result<Option<News>> {
        loop {
            match self.look() {
                Next::News(news) => return Ok(Some(news)),
                Next::Nothing if self.shared.lock().closing => return Ok(None),
                Next::Nothing => {
                    let _ = self.changed.changed().await; // `shared` owns the sender
                }
                Next::Behind(look) => {
                    let seen = tokio::task::spawn_blocking(move || look.read());
                    let seen = seen.await.map_err(|_| io::Error::other("a task of it ended"))??;
                    if let Some(news) = self.take(seen) {
                        return Ok(Some(news));
                    }
                    if self.missing.is_some() {
                        tokio::time::sleep(GAP_WAIT / 10).await;
                    }
                }
            }
        }
    }

    /// The next news that there is now, for callers that may block while files are read.
    ///
    /// # Errors
    /// The log cannot be read. The reader stays where it is, and can try again.
    pub fn read(&mut self) -> io::Result<Option<News>> {
        loop {
            match self.look() {
                Next::News(news) => return Ok(Some(news)),
                Next::Nothing => return Ok(None),
                Next::Behind(look) => {
                    let seen = look.read()?;
                    let news = self.take(seen);
                    if news.is_some() || self.missing.is_some() {
                        return Ok(news);
                    }
                }
            }
        }
    }

    /// The entry that comes next.
    pub fn at(&self) -> Seq {
        Seq(self.next)
    }

    fn look(&mut self) -> Next {
        let durable = self.changed.borrow_and_update().0;
        if self.next > durable {
            return Next::Nothing;
        }
        if let Some((group, place)) = self.shared.recent.from(self.next) {
            self.place = Some(place);
            self.open = None;
            return Next::News(self.give(group));
        }
        let (next, place, open) = (self.next, self.place, self.open.take());
        Next::Behind(Box::new(Look { dir: self.shared.log_dir(), next, durable, place, open }))
    }

    fn give(&mut self, group: Group) -> News {
        self.next = group.last().map_or(self.next, |last| last.seq + 1);
        self.missing = None;
        News::Entries(group)
    }

    fn take(&mut self, (found, open): (Found, Option<Segments>)) -> Option<News> {
        self.open = open;
        match found {
            Found::Entries(entries, place) => {
                self.place = Some(place);
                Some(self.give(Group::of(entries)))
            }
            Found::NoLog => {
                self.missing = Some(Instant::now());
                None
            }
            Found::NoneThrough(last) => {
                let pruned = self.shared.lock().mark.oldest.saturating_sub(1);
                let is_over = self.missing.is_some_and(|since| since.elapsed() >= GAP_WAIT);
                let last = match self.next <= pruned {
                    true => last.min(pruned),
                    false if is_over => last,
                    false => {
                        self.missing.get_or_insert_with(Instant::now);
                        self.open = None; // the files may be others next time
                        return None;
                    }
                };
                let first = Seq(std::mem::replace(&mut self.next, last + 1));
                self.missing = None;
                Some(News::Gap { first, last: Seq(last) })
            }
        }
    }
}

/// The segments, open for a reader.
struct Segments {
    entries: Entries,
    /// An entry behind a gap.
    behind: Option<Entry>,
}

impl Segments {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        match self.behind.take() {
            Some(entry) => Ok(Some(entry)),
            None => self.entries.entry(),
        }
    }
}

/// A look into the segments, which may be made by another thread.
struct Look {
    dir: PathBuf,
    next: u64,
    durable: u64,
    place: Option<LogPlace>,
    open: Option<Segments>,
}

/// What a look found.
enum Found {
    /// Entries from the next one on, without a gap, and the place behind them.
    Entries(Vec<Entry>, LogPlace),
    /// The log has no entry from the next one on up to this one.
    NoneThrough(u64),
    /// The files are not there at this moment. That says nothing about entries.
    NoLog,
}

impl Look {
    fn read(mut self) -> io::Result<(Found, Option<Segments>)> {
        if let Some(open) = self.open.take()
            && let Some(found) = self.step(open)?
        {
            return Ok(found);
        }
        // The place may be one of a file that was replaced, so a gap behind it proves nothing.
        if let Some(place) = self.place
            && let Some(entries) = there(Entries::at(&self.dir, place, self.durable))?
            && let Some((Found::Entries(entries, place), open)) = self.step(Segments { entries, behind: None })?
        {
            return Ok((Found::Entries(entries, place), open));
        }
        let entries = there(Entries::after(&self.dir, self.next - 1, self.durable))?;
        let Some(entries) = entries else { return Ok((Found::NoLog, None)) };
        let found = self.step(Segments { entries, behind: None })?;
        Ok(found.unwrap_or((Found::NoneThrough(self.durable), None)))
    }

    /// The next entries of open segments. `None`: they have no entry from the next one on.
    fn step(&self, mut open: Segments) -> io::Result<Option<(Found, Option<Segments>)>> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut expected, mut bytes, mut place) = (self.next, 0, open.entries.place());
        while found.len() < STEP_ENTRIES && bytes < STEP_BYTES {
            let Some(entry) = open.next()? else {
                // The segments that are open end here. Newer ones, or newer bytes, are read when
                // they are opened again.
                let last = open.entries.through();
                return Ok(match found.is_empty() {
                    true if expected > last => None,
                    true => Some((Found::NoneThrough(last), None)),
                    false => Some((Found::Entries(found, place), None)),
                });
            };
            if entry.seq > expected {
                let last = entry.seq - 1;
                open.behind = Some(entry);
                if found.is_empty() {
                    return Ok(Some((Found::NoneThrough(last), Some(open))));
                }
                break;
            }
            let here = open.entries.place();
            if entry.seq == expected {
                bytes += here.offset.saturating_sub(if here.segment == place.segment { place.offset } else { 0 });
                expected += 1;
                found.push(entry);
            }
            place = here;
        }
        Ok(Some((Found::Entries(found, place), Some(open))))
    }
}

/// A file that is gone at this moment is no failure: old segments are pruned, and people move files.
fn there(opened: io::Result<Option<Entries>>) -> io::Result<Option<Entries>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
