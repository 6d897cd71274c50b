//! What is told: the state of the box at one moment, without anything that a stranger must not see.

use std::time::Duration;

use jiff::Timestamp;

use crate::status::{BoxState, Snapshot};

/// After the start the decoders may need this long to connect. A state that is over by then is not
/// told to anybody.
const STARTING: Duration = Duration::from_secs(10);

/// The state of the box at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateNews {
    /// The name of the box.
    pub(super) name: String,
    /// The state of the box.
    pub(super) state: BoxState,
    /// The state as sentences.
    pub(super) sentence: String,
    /// What a person should do.
    pub(super) todo: Vec<String>,
    /// Since when the state is shown, by the clock of the box.
    pub(super) since: Timestamp,
    /// The codes of the problems, each once, in the order of their words.
    pub(super) problems: Vec<String>,
    /// Version of passbridge.
    pub(super) version: String,
    /// The box has just started, and a bad state may be over in a moment.
    pub(super) starting: bool,
}

impl StateNews {
    /// The news of a snapshot that was taken at `now`.
    pub(super) fn of(status: Snapshot, now: Timestamp) -> Self {
        let mut problems: Vec<String> = status.problems.into_iter().map(|problem| problem.code).collect();
        problems.sort_unstable();
        problems.dedup();
        let since = now.checked_sub(Duration::from_secs(status.state_s)).unwrap_or(now);
        Self {
            name: status.name,
            state: status.state,
            sentence: status.sentence,
            todo: status.todo,
            since,
            problems,
            version: status.version,
            starting: status.state < BoxState::Ready && status.uptime_s < STARTING.as_secs(),
        }
    }
}

#[cfg(test)]
impl StateNews {
    /// A box that is in this state.
    pub(super) fn example(state: BoxState, sentence: &str) -> Self {
        Self {
            name: "finish".to_owned(),
            state,
            sentence: sentence.to_owned(),
            todo: vec!["Is its power on?".to_owned()],
            since: "2026-06-17T10:00:00Z".parse().unwrap(),
            problems: vec!["decoder_unreachable".to_owned()],
            version: "0.1.0".to_owned(),
            starting: false,
        }
    }
}
