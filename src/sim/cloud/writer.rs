//! Another sender that writes into our session: a copied card, or a second box with the same
//! device.

use super::habits::SecondWriter;
use super::requests::Insert;
use super::state::State;
use super::store::{Dedup, StoredPassing};

/// Prefix of the chips of the other sender.
pub const OTHER_CHIP: &str = "OTHER-";

/// What the other sender does at one insert.
pub(super) struct Turn {
    above: bool,
    before: usize,
    after: usize,
}

impl Turn {
    /// Draws what the other sender does.
    pub(super) fn draw(state: &mut State) -> Self {
        let seed = state.config.habits.seed;
        let writers = state.config.habits.writers(&mut state.chooser);
        let mut turn = Self { above: false, before: 0, after: 0 };
        for writer in writers {
            match writer {
                SecondWriter::Above => turn.above = true,
                SecondWriter::Copies => {
                    let count = 1 + state.chooser.draw(seed, ("copies", 0), 3) as usize;
                    let first = state.chooser.draw(seed, ("copies", 1), 2) == 0;
                    (turn.before, turn.after) = if first { (count, 0) } else { (0, count) };
                }
            }
        }
        turn
    }

    /// Stores passings under the numbers of the insert, a moment before it.
    pub(super) fn before(&self, state: &mut State, insert: &Insert<'_>) {
        self.copy(state, insert, self.before);
    }

    /// Stores what the other sender sends a moment after the insert. If the cloud compares numbers,
    /// a passing under a stored number is a duplicate and is not stored.
    pub(super) fn after(&self, state: &mut State, insert: &Insert<'_>) {
        let token = &*insert.token_session.0;
        if state.config.dedup() != Dedup::Number {
            self.copy(state, insert, self.after);
        }
        let Some(highest) = self.above.then(|| state.store.highest(token)).flatten() else { return };
        let seed = state.config.habits.seed;
        let count = 1 + state.chooser.draw(seed, ("above", 0), 3);
        let time_ms = insert.passings_list.last().map_or(0, |passing| passing.timestamp);
        for num in highest + 1..=highest + count {
            put(state, token, num, time_ms + 1);
        }
    }

    fn copy(&self, state: &mut State, insert: &Insert<'_>, count: usize) {
        let token = &*insert.token_session.0;
        for passing in insert.passings_list.iter().take(count) {
            let twice = state.config.dedup() == Dedup::Number && state.store.holds(token, passing.num_passing);
            if !twice {
                put(state, token, passing.num_passing, passing.timestamp + 1);
            }
        }
    }
}

fn put(state: &mut State, token: &str, num: u64, time_ms: i64) {
    if !state.store.session(token, None).is_some_and(|session| session.active) {
        return;
    }
    state.others += 1;
    let chip = format!("{OTHER_CHIP}{:06}", state.others);
    let passing = StoredPassing { num, time_ms, chip: Some(chip.as_str().into()), bib: chip.as_str().into() };
    state.store.put_foreign(token, std::slice::from_ref(&passing));
}
