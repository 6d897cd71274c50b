//! The four lamps: is it reading, is the time right, is it safe, is it in the cloud.

use super::Mark;
use crate::status::{BoxState, LinkState, ProblemCode, Snapshot};

/// A lamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct Lamp {
    /// Its word.
    pub word: &'static str,
    /// How it stands.
    pub mark: Mark,
}

/// A read that waits for less than this is on its way.
pub(super) const UP_TO_DATE_S: u64 = 10;

/// Mats, Time, Kept and Cloud, in this order.
pub(in crate::serve::web) fn lamps(status: &Snapshot) -> [Lamp; 4] {
    [("Mats", mats(status)), ("Time", time(status)), ("Kept", kept(status)), ("Cloud", cloud(status))]
        .map(|(word, mark)| Lamp { word, mark })
}

/// Whether something causes `state`. It is wrong if it is the state, or hidden by a worse one. A
/// problem that is not the state yet may be over in a moment: not known.
fn fault(status: &Snapshot, state: BoxState) -> Option<Mark> {
    let causes = |word: &str| ProblemCode::of_word(word).and_then(|code| code.cause().state()) == Some(state);
    let found = status.problems.iter().any(|problem| causes(&problem.code));
    match status.state.cmp(&state) {
        std::cmp::Ordering::Equal => Some(Mark::No),
        std::cmp::Ordering::Less if found => Some(Mark::No),
        std::cmp::Ordering::Greater if found => Some(Mark::Wait),
        _ => None,
    }
}

fn mats(status: &Snapshot) -> Mark {
    let connected = |state| state == LinkState::Connected;
    fault(status, BoxState::NotReading).unwrap_or_else(|| {
        let all = status.decoders.iter().all(|decoder| connected(decoder.state));
        match (status.state, all && !status.decoders.is_empty()) {
            (BoxState::Ready, _) | (_, false) => Mark::Wait,
            // A connection alone proves nothing.
            (_, true) if status.decoders.iter().all(|decoder| decoder.live_at.is_none()) => Mark::Wait,
            (_, true) => Mark::Yes,
        }
    })
}

fn time(status: &Snapshot) -> Mark {
    fault(status, BoxState::TimeWrong).unwrap_or_else(|| {
        let near = ProblemCode::DecoderClockNear.word();
        if status.problems.iter().any(|problem| problem.code == near) {
            return Mark::Warn;
        }
        match !status.decoders.is_empty() && status.decoders.iter().all(|decoder| decoder.times_right) {
            true => Mark::Yes,
            false => Mark::Wait,
        }
    })
}

fn kept(status: &Snapshot) -> Mark {
    fault(status, BoxState::CannotKeep).unwrap_or(if status.ready { Mark::Yes } else { Mark::Wait })
}

fn cloud(status: &Snapshot) -> Mark {
    if status.uploads.is_empty() && status.state != BoxState::NotUploading {
        return fault(status, BoxState::NotUploading).unwrap_or(Mark::Wait);
    }
    if status.state == BoxState::Hold {
        return Mark::Held;
    }
    fault(status, BoxState::NotUploading).unwrap_or_else(|| {
        let behind = status.journal.oldest_pending_s.is_some_and(|oldest| oldest >= UP_TO_DATE_S);
        let known = status.uploads.iter().all(|upload| upload.session.is_some() && upload.last_error.is_none());
        match (status.state, behind && status.journal.pending > 0, known) {
            (BoxState::CannotKeep, ..) | (_, true, _) => Mark::Warn,
            (_, _, false) => Mark::Wait,
            _ => Mark::Yes,
        }
    })
}
