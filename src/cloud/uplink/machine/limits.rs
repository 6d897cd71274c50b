//! The waits and limits of the machine, each with its reason.

use std::time::Duration;

/// First wait before something that failed is tried again.
pub(in crate::cloud::uplink) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait while nobody is reached: the network says nothing when it is back, and a try costs the cloud nothing.
pub(in crate::cloud::uplink) const UNREACHED_MAX: Duration = Duration::from_secs(10);
/// A POST that fails after so long may have been too large for the link, or for a proxy's patience.
pub(in crate::cloud::uplink) const LONG_POST: Duration = Duration::from_secs(5);
/// Between two looks for a session while there is none.
pub(in crate::cloud::uplink) const POLL_NONE: Duration = Duration::from_secs(10);
/// Between two looks whether the session is still the active one.
pub(in crate::cloud::uplink) const POLL_SOME: Duration = Duration::from_secs(20);
/// Between two tests of a key or device that was refused, once and again. A firewall's rate rule is over in seconds, and a
/// key that is wrong stays so.
pub(in crate::cloud::uplink) const POLL_REFUSED: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(180)];
/// Jitter of the three above, and of [`UNREACHED_MAX`].
pub(in crate::cloud::uplink) const POLL_JITTER: f64 = 0.2;
/// Least time between a POST with an unknown outcome (or the start) and the first question what became of it; `retry_max`,
/// where that is less. That it is *not* there is only believed later ([`crate::cloud::uplink::fresh`]).
pub(in crate::cloud::uplink) const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Least time between two looks into the journal while reads trickle in.
pub(in crate::cloud::uplink) const LOOK_GAP: Duration = Duration::from_millis(20);
/// Most passings in a batch: what may have to be settled after a cut, and what one inquiry has to hold.
pub(in crate::cloud::uplink) const BATCH_LIMIT: usize = 500;
/// POSTs that a batch of a backlog is worth: one group commit for all of them.
pub(in crate::cloud::uplink) const PARTS: usize = 5;
/// Short counts in a row, without progress, after which the part is taken apart, or gets other numbers.
pub(in crate::cloud::uplink) const SHORT_ROUNDS: u32 = 2;
/// Failures of the cloud itself in a row after which a part is taken apart.
pub(in crate::cloud::uplink) const FAILED_ROW: u32 = 2;
/// For so long after a passing was accepted the cloud is known to take others.
pub(in crate::cloud::uplink) const PASSED_LATELY: Duration = Duration::from_secs(60);
/// Sessions whose numbers are remembered, as in the journal.
pub(in crate::cloud::uplink) const SESSIONS_MAX: usize = 32;
/// Times that a session may be shown as active which is older than the one that takes passings, before it is believed.
pub(in crate::cloud::uplink) const STALE_POLLS: u32 = 2;
/// Largest step over numbers that another writer seems to be using.
pub(in crate::cloud::uplink) const JUMP_MAX: u64 = 1024;
/// A batch of which nothing is settled for so long is a problem.
pub(in crate::cloud::uplink) const STANDS: Duration = Duration::from_secs(60);
/// Between two looks whether somebody else sends into the session.
pub(in crate::cloud::uplink) const WATCH_EVERY: Duration = Duration::from_secs(20);
/// Such a look is given up after so long: reads wait behind it.
pub(in crate::cloud::uplink) const WATCH_PATIENCE: Duration = Duration::from_secs(2);
/// For so long after the last passing of another writer it is a problem.
pub(in crate::cloud::uplink) const WRITER_SHOWN: Duration = Duration::from_secs(900);
/// For so long a form of question is kept that the cloud answered after it refused a simpler one.
pub(in crate::cloud::uplink) const WAY_KEPT: Duration = Duration::from_secs(600);
/// Single refusals in a row after which each further one has to wait.
pub(in crate::cloud::uplink) const REFUSED_ROW: u32 = 5;
/// Unknown outcomes in a row after which the timer is told which passing it hangs on.
pub(in crate::cloud::uplink) const TROUBLE_ROW: u32 = 3;

/// A wait as it is with every `retry_max` that a configuration file may hold (a second at least). Tests have a shorter one,
/// and then all waits shrink alike.
pub(super) fn scaled(wait: Duration, retry_max: Duration) -> Duration {
    wait.min(retry_max * u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
}
