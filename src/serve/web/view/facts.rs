//! What several parts of the view ask of a status.

use crate::status::{BoxState, ProblemCode, Snapshot};

/// A read that waits for less than this many seconds is on its way.
pub(super) const UP_TO_DATE_S: u64 = 10;

/// Whether the snapshot shows a problem of this code about `about`.
pub(super) fn has(status: &Snapshot, code: ProblemCode, about: &str) -> bool {
    status.problems.iter().any(|problem| problem.code == code.word() && problem.about == about)
}

/// The word for a state as the page writes it, such as `Not reading`.
pub(in crate::serve::web) fn state_word(state: BoxState) -> String {
    let shown = state.shown().to_lowercase();
    let mut letters = shown.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
