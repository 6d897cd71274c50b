//! The waits and limits of the machine, each with its reason.

use std::time::Duration;

/// First wait before a failed call is tried again.
pub(in crate::cloud::uplink) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait while no server is reached. Nothing tells the box that the network is back, and a
/// try costs the cloud nothing.
pub(in crate::cloud::uplink) const UNREACHED_MAX: Duration = Duration::from_secs(10);
/// A POST that fails after this time may have been too large for the link, or too slow for a
/// proxy's timeout.
pub(in crate::cloud::uplink) const LONG_POST: Duration = Duration::from_secs(5);
/// Time between two looks for a session while there is none.
pub(in crate::cloud::uplink) const POLL_NONE: Duration = Duration::from_secs(10);
/// Time between two looks whether the session is still the active one.
pub(in crate::cloud::uplink) const POLL_SOME: Duration = Duration::from_secs(20);
/// Times between the tests of a key or device that was refused. The last value repeats. A
/// firewall's rate rule ends in seconds, and a wrong key stays wrong.
pub(in crate::cloud::uplink) const POLL_REFUSED: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(180)];
/// Jitter of the three constants above, and of [`UNREACHED_MAX`].
pub(in crate::cloud::uplink) const POLL_JITTER: f64 = 0.2;
/// Least time between a POST with an unknown outcome (or the start) and the first question about
/// it. If `retry_max` is less, `retry_max` is used. That a passing is *not* in the cloud is
/// believed only later ([`crate::cloud::uplink::fresh`]).
pub(in crate::cloud::uplink) const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Least time between two looks into the journal while reads arrive one by one.
pub(in crate::cloud::uplink) const LOOK_GAP: Duration = Duration::from_millis(20);
/// A batch of reads that waited is written together with the next read, if one comes within this
/// time (or within `min_interval`, if that is shorter). A group of its own would cost the card as
/// much as a read. At ten reads a second or more, there is always a next read.
pub(in crate::cloud::uplink) const COMPANY: Duration = Duration::from_millis(100);
/// Most passings in a batch. It limits what must be settled after a cut, and what one inquiry must
/// hold.
pub(in crate::cloud::uplink) const BATCH_LIMIT: usize = 500;
/// A batch from a backlog is as large as this many POSTs, so that all of them share one group
/// commit.
pub(in crate::cloud::uplink) const PARTS: usize = 5;
/// After this many answers in a row with too low a count and without progress, the part is split,
/// or gets new numbers.
pub(in crate::cloud::uplink) const SHORT_ROUNDS: u32 = 2;
/// After this many failures of the cloud itself in a row, the part is split.
pub(in crate::cloud::uplink) const FAILED_ROW: u32 = 2;
/// A passing that came alone, and at which the cloud fails, is tried for this long before later
/// passings go without it. Most clouds that are down are up again by then, and the order stays.
pub(in crate::cloud::uplink) const ALONE_PATIENCE: Duration = Duration::from_secs(60);
/// For this long after an accepted passing, the machine assumes that the cloud accepts others.
pub(in crate::cloud::uplink) const PASSED_LATELY: Duration = Duration::from_secs(60);
/// Number of sessions whose numbers are remembered, the same as in the journal.
pub(in crate::cloud::uplink) const SESSIONS_MAX: usize = 32;
/// How often the cloud must show an older session as active than the one that takes passings,
/// before the machine believes it.
pub(in crate::cloud::uplink) const STALE_POLLS: u32 = 2;
/// Largest step over numbers that another writer seems to use.
pub(in crate::cloud::uplink) const JUMP_MAX: u64 = 1024;
/// If no passing of a batch is settled for this long, a problem is raised.
pub(in crate::cloud::uplink) const STANDS: Duration = Duration::from_secs(60);
/// Time between two looks for another writer in the session.
pub(in crate::cloud::uplink) const WATCH_EVERY: Duration = Duration::from_secs(20);
/// A look for another writer is given up after this time, because reads wait behind it.
pub(in crate::cloud::uplink) const WATCH_PATIENCE: Duration = Duration::from_secs(2);
/// The problem about another writer is shown for this long after its last passing.
pub(in crate::cloud::uplink) const WRITER_SHOWN: Duration = Duration::from_secs(900);
/// If the cloud refused a simpler form of question and answered another form, that other form is
/// used first for this long.
pub(in crate::cloud::uplink) const WAY_KEPT: Duration = Duration::from_secs(600);
/// From this many single refusals in a row on, each refusal is followed by a wait.
pub(in crate::cloud::uplink) const REFUSED_ROW: u32 = 5;
/// After this many unknown outcomes in a row, a problem names the first passing that the cloud does
/// not take.
pub(in crate::cloud::uplink) const TROUBLE_ROW: u32 = 3;

/// Returns `wait` unchanged for every `retry_max` that a configuration file may hold (at least a
/// second). Tests use a shorter `retry_max`, and then all waits shrink in the same proportion.
pub(super) fn scaled(wait: Duration, retry_max: Duration) -> Duration {
    wait.min(retry_max * u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
}
