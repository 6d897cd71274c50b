//! The failpoints of the power-cut harness (`tests/root/power`) and of the watchdog's test. Only debug builds read them: in a
//! release build every function here is a constant, and nothing in the environment of a box can
//! turn off what keeps its reads.
//!
//! | variable | what it does |
//! |---|---|
//! | `PASSBRIDGE_TRIAL_VOLUME_BYTES` | size at which a segment is full: rotation and pruning many times a minute |
//! | `PASSBRIDGE_TRIAL_CHUNK_BYTES` | zeros that are written ahead at once; 0: none |
//! | `PASSBRIDGE_TRIAL_TURN_MS` | time between checkpoints, and between checks for what can be deleted |
//! | `PASSBRIDGE_TRIAL_RECENT` | newest reads of a decoder in memory; a quarter of this makes a run of the dedup index |
//! | `PASSBRIDGE_TRIAL_STOP_WRITER` | when this file is there, the writer stops for ever, outside of the disk |
//! | `PASSBRIDGE_UNSAFE_NO_SYNC` | `log`: no `fdatasync` of log and queue; `queue`: no `fdatasync` of sled's file |
//! | `PASSBRIDGE_UNSAFE_TRUST_TORN` | a line counts even if its checksum does not agree |
//!
//! The last two are the negative controls: if a journal without `fdatasync`, or without checksums,
//! passes the harness, the harness proves nothing.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::status::{Board, ProblemCode};

/// What is not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoSync {
    Log,
    Queue,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Switches {
    segment_bytes: Option<u64>,
    chunk_bytes: Option<u64>,
    turn: Option<Duration>,
    recent: Option<usize>,
    stop_writer: Option<PathBuf>,
    no_sync: Option<NoSync>,
    trusts_torn: bool,
}

fn switches() -> &'static Switches {
    static SWITCHES: OnceLock<Switches> = OnceLock::new();
    SWITCHES.get_or_init(|| read(cfg!(debug_assertions), |name| std::env::var(name).ok()))
}

fn read(debug_build: bool, variable: impl Fn(&str) -> Option<String>) -> Switches {
    if !debug_build {
        return Switches::default();
    }
    let number = |name| variable(name).and_then(|text| text.parse().ok());
    Switches {
        segment_bytes: number("PASSBRIDGE_TRIAL_VOLUME_BYTES"),
        chunk_bytes: number("PASSBRIDGE_TRIAL_CHUNK_BYTES"),
        turn: number("PASSBRIDGE_TRIAL_TURN_MS").map(Duration::from_millis),
        recent: number("PASSBRIDGE_TRIAL_RECENT").and_then(|reads| usize::try_from(reads).ok()),
        stop_writer: variable("PASSBRIDGE_TRIAL_STOP_WRITER").map(PathBuf::from),
        no_sync: match variable("PASSBRIDGE_UNSAFE_NO_SYNC").as_deref() {
            Some("log") => Some(NoSync::Log),
            Some("queue") => Some(NoSync::Queue),
            _ => None,
        },
        trusts_torn: variable("PASSBRIDGE_UNSAFE_TRUST_TORN").is_some(),
    }
}

/// Reports loudly which failpoints are switched on.
pub(super) fn announce(board: &Board) {
    if *switches() != Switches::default() {
        tracing::error!("this process runs under switches of a test: {:?}", switches());
    }
    if switches().no_sync.is_some() {
        let message =
            "PASSBRIDGE_UNSAFE_NO_SYNC is set: reads DO NOT survive a power cut. This is for a test, never for a race";
        board.raise(ProblemCode::UnsafeNoSync, "", message);
    }
}

/// The size of a segment.
pub(super) fn segment_bytes(usual: u64) -> u64 {
    switches().segment_bytes.unwrap_or(usual)
}

/// Zeros that are written ahead at once.
pub(super) fn chunk_bytes(usual: u64) -> u64 {
    switches().chunk_bytes.unwrap_or(usual)
}

/// The time between two turns of the follower.
pub(super) fn turn(usual: Duration) -> Duration {
    switches().turn.unwrap_or(usual)
}

/// Newest reads of a decoder in memory. In unit tests they are so few that the dedup index has to
/// be asked.
pub(super) fn recent(usual: usize) -> usize {
    if cfg!(test) { 32 } else { switches().recent.unwrap_or(usual).max(4) }
}

/// Stops the writer for ever if the failpoint's file is there: a fault of the program, as the watchdog
/// has to find it.
pub(super) fn stop_writer() {
    let asked = cfg!(debug_assertions) && switches().stop_writer.as_ref().is_some_and(|file| file.exists());
    if asked {
        loop {
            std::thread::park();
        }
    }
}

/// Whether an uplink is told of its batch before the group is durable: the negative control of the
/// histories, which switch it on for their thread.
pub(super) fn tells_early() -> bool {
    #[cfg(test)]
    return EARLY.with(std::cell::Cell::get);
    #[cfg(not(test))]
    false
}

#[cfg(test)]
thread_local! {
    pub(super) static EARLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether nothing at all is made durable.
pub(super) fn skips_every_sync() -> bool {
    switches().no_sync == Some(NoSync::Log)
}

/// Whether a line counts even if its checksum does not agree.
pub(super) fn trusts_torn_lines() -> bool {
    cfg!(debug_assertions) && switches().trusts_torn
}

/// Whether sled's file is not made durable.
pub(super) fn skips_queue_sync() -> bool {
    switches().no_sync.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_environment_turns_a_release_build_unsafe() {
        let everything = |name: &str| Some(if name.ends_with("SYNC") { "log" } else { "1" }.to_owned());
        assert_eq!(read(false, everything), Switches::default());
        assert_eq!(read(true, everything).no_sync, Some(NoSync::Log));
        assert_eq!(read(true, |_| None), Switches::default());
    }
}
