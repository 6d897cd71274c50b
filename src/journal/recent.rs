//! The newest durable groups in memory, for the readers of this process that are near the head
//! ([`super::reader`]). The writer puts each group in once, and all readers share it.
//!
//! Bounded: [`RECENT_BYTES`], counted by the lines of the groups and their size in memory, which is
//! at most 1 MB whatever they hold. Nothing is kept while nobody reads. The lock is never held while
//! somebody reads a file, waits, or frees memory.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::entry::Entry;
use super::log::LogPlace;

/// Memory for the newest groups.
pub(super) const RECENT_BYTES: usize = if cfg!(test) { 16 * 1024 } else { 512 * 1024 };

/// Entries that follow one another. They are shared, so a clone copies none.
#[derive(Clone, Debug)]
pub struct Group {
    entries: Arc<[Entry]>,
    from: usize,
}

impl Group {
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into(), from: 0 }
    }
}

impl Deref for Group {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.entries[self.from..]
    }
}

/// The newest groups, for readers that are near the head.
#[derive(Default)]
pub(super) struct Recent(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    /// Groups without a gap between them, each with the place behind it and its size.
    groups: VecDeque<(Arc<[Entry]>, LogPlace, usize)>,
    bytes: usize,
    readers: usize,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a group that is durable, whose lines have this many bytes and end at `place`. For
    /// the writer.
    pub(super) fn put(&self, entries: &mut Vec<Entry>, lines: usize, place: LogPlace) {
        if self.lock().readers == 0 {
            return;
        }
        // What an entry owns is about as long as its line.
        let bytes = lines + entries.len() * size_of::<Entry>();
        let group: Arc<[Entry]> = entries.drain(..).collect();
        let mut dropped = Vec::new(); // after the lock
        let mut held = self.lock();
        if held.readers > 0 {
            held.groups.push_back((group, place, bytes));
            held.bytes += bytes;
        }
        while held.bytes > RECENT_BYTES
            && let Some(oldest) = held.groups.pop_front()
        {
            held.bytes -= oldest.2;
            dropped.push(oldest);
        }
        drop(held);
    }

    /// The entries of one group from `next` on, and the place behind them.
    pub(super) fn from(&self, next: u64) -> Option<(Group, LogPlace)> {
        let held = self.lock();
        let at = held.groups.partition_point(|(group, ..)| group.last().is_some_and(|last| last.seq < next));
        let (entries, place, _) = held.groups.get(at)?;
        let from = entries.iter().position(|entry| entry.seq == next)?;
        Some((Group { entries: Arc::clone(entries), from }, *place))
    }

    pub(super) fn join(&self) {
        self.lock().readers += 1;
    }

    pub(super) fn part(&self) {
        let mut held = self.lock();
        held.readers -= 1;
        let unread = if held.readers == 0 { std::mem::take(&mut *held) } else { Groups::default() };
        drop(held);
        drop(unread);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}
