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

/// A text in its parts: `true` for what stands between two backticks, which is something to type.
pub(in crate::serve::web) fn in_parts(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let pairs = text.matches('`').count() / 2;
    // A backtick without a partner is a part of the last text.
    let parts = text.splitn(2 * pairs + 1, '`').enumerate();
    parts.filter(|(_, part)| !part.is_empty()).map(|(at, part)| (at % 2 == 1, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_is_marked_and_a_single_backtick_stays() {
        let parts = |text| in_parts(text).collect::<Vec<_>>();
        assert_eq!(
            parts("Type `ls` and `cat`."),
            [(false, "Type "), (true, "ls"), (false, " and "), (true, "cat"), (false, ".")]
        );
        assert_eq!(parts("`ls`"), [(true, "ls")]);
        assert_eq!(parts("it`s"), [(false, "it`s")]);
        assert_eq!(parts("`a` b`c"), [(true, "a"), (false, " b`c")]);
        assert!(parts("").is_empty());
    }
}
