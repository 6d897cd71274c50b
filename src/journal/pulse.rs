//! Whether the threads of the journal get on, so that systemd hears it from the loop that keeps the
//! reads and from nobody else.
//!
//! Each thread has a [`Pulse`]: how many turns it made, and since when it has been at the disk. The
//! watchdog looks a few times in each watchdog time ([`Journal::gets_on`](super::Journal::gets_on)). At each look it gives the
//! writer an empty request, which goes through the same queue as the reads, so that a writer with
//! nothing to do makes a turn, too. The follower makes a turn twice a second.
//!
//! There are two ways to hang, and they need opposite cures:
//! * **Outside of the disk**, a thread that makes no turn has a fault of the program. There is no life
//!   sign, systemd ends the process and starts it again, and decoders give again what was not
//!   acknowledged.
//! * **At the disk** (a write, an `fdatasync`, a file that is copied), a thread waits for a card that is
//!   slow or dying. A new process would wait for the same card, and what waits in memory would be
//!   lost. So the signs go on for [`DISK_MAX`], and the problem `disk_failed` tells people after
//!   [`DISK_SLOW`]. The kernel ends a command to a card, or to a disk at USB, with an error after at
//!   most some minutes of tries and resets. If a call has not returned after [`DISK_MAX`], no error
//!   will come, and a new process is the only thing left to try.
//!
//! Rejected: *only a request with an answer*. A writer at a slow disk does not answer either, and the
//! two ways could not be told apart. *The kernel's state of the thread* (`D` in `/proc`): a file system
//! over the network or in user space hangs in other states.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest time at the disk, without any progress, for which the process counts as alive.
const DISK_MAX: Duration = Duration::from_secs(300);
/// Time at the disk after which people are told.
pub(super) const DISK_SLOW: Duration = Duration::from_secs(10);

/// What one thread did last. The thread writes it, and everybody may read it.
pub(super) struct Pulse {
    began: Instant,
    turns: AtomicU64,
    /// Milliseconds from `began` until the thread went to the disk, or last got on there, plus one.
    /// 0: it is not at the disk.
    at_disk: AtomicU64,
    /// People were told that the disk does not answer.
    told: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            turns: AtomicU64::new(0),
            at_disk: AtomicU64::new(0),
            told: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// The thread got on.
    pub(super) fn beat(&self) {
        if self.at_disk.load(Ordering::Relaxed) > 0 {
            self.at_disk.store(self.now(), Ordering::Relaxed);
        }
        self.turns.fetch_add(1, Ordering::Release);
    }

    /// Does what may wait for the disk.
    pub(super) fn at_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        self.at_disk.store(self.now(), Ordering::Release);
        let done = work();
        self.at_disk.store(0, Ordering::Release);
        self.beat();
        done
    }

    /// Whether people were told that the disk does not answer. The caller tells them that it does
    /// again.
    pub(super) fn take_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::AcqRel)
    }

    /// Notes that people are told now that the disk does not answer.
    pub(super) fn tells(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// How many turns the thread made.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// For how long the thread has been at the disk without getting on. `None`: it is not there.
    pub(super) fn waits_for_disk(&self) -> Option<Duration> {
        let since = self.at_disk.load(Ordering::Acquire);
        (since > 0).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    /// Whether the thread is alive, after `seen` turns at the look before.
    pub(super) fn is_alive(&self, seen: &mut Option<u64>) -> bool {
        let turns = self.turns();
        lives(seen.replace(turns), turns, self.waits_for_disk())
    }
}

/// Whether a thread is alive that had made `before` turns at the last look and has made `turns` now.
fn lives(before: Option<u64>, turns: u64, waits_for_disk: Option<Duration>) -> bool {
    before != Some(turns) || waits_for_disk.is_some_and(|waits| waits < DISK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_lives_that_gets_on_and_for_a_while_one_that_waits_for_the_disk() {
        let at_disk = |seconds| Some(Duration::from_secs(seconds));
        assert!(lives(None, 0, None), "there was no look before");
        assert!(lives(Some(7), 8, None) && !lives(Some(8), 8, None));
        assert!(lives(Some(8), 8, at_disk(299)) && !lives(Some(8), 8, at_disk(300)));
        assert!(lives(Some(8), 9, at_disk(300)), "long work that gets on");
    }

    #[test]
    fn the_time_at_the_disk_counts_from_the_last_progress_and_ends_with_the_work() {
        let pulse = Pulse { began: Instant::now() - Duration::from_secs(600), ..Pulse::default() };
        let mut seen = None;
        assert!(pulse.is_alive(&mut seen) && !pulse.is_alive(&mut seen));
        pulse.at_disk(|| {
            assert!(pulse.is_alive(&mut seen), "it has just begun");
            pulse.at_disk.store(1, Ordering::Release); // ten minutes ago
            assert!(!pulse.is_alive(&mut seen), "no answer will come");
            pulse.beat();
            assert!(pulse.is_alive(&mut seen) && pulse.is_alive(&mut seen), "it got on a moment ago");
        });
        assert!(pulse.is_alive(&mut seen), "the work is a turn");
        assert!(!pulse.is_alive(&mut seen), "and the next one does not come");
    }
}
