//! Losses that happened, such as files of the log that are gone. They are shown until somebody
//! acknowledges them, also after a restart, so they are entries of the log.
//!
//! Bounded: [`LOSSES_MAX`] losses of each kind, the newest ones.

use serde::{Deserialize, Serialize};

use super::control::{Control, Loss};

/// Most losses that are shown, and most that are remembered as acknowledged.
const LOSSES_MAX: usize = 64;

/// The losses of a log. Part of the fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Losses {
    /// Losses that nobody acknowledged.
    pub(super) shown: Vec<Loss>,
    /// Losses that somebody acknowledged. What finds the same loss again, with the same words, does not show it.
    pub(super) seen: Vec<Loss>,
}

impl Losses {
    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.seen.is_empty()
    }

    pub(super) fn follow(&mut self, control: &Control) {
        match control {
            // A start may find it again before it knows that somebody has seen it.
            Control::Lost(loss) if self.seen.contains(loss) => {}
            Control::Lost(loss) => {
                self.over(&loss.code, &loss.about);
                put(&mut self.shown, loss);
            }
            Control::Back { code, about } => self.over(code, about),
            Control::Seen { loss, .. } => {
                self.over(&loss.code, &loss.about);
                self.seen.retain(|known| known != loss);
                put(&mut self.seen, loss);
            }
            Control::Hold { .. } | Control::Release { .. } => {}
        }
    }

    fn over(&mut self, code: &str, about: &str) {
        self.shown.retain(|known| *known.code != *code || *known.about != *about);
    }
}

fn put(losses: &mut Vec<Loss>, loss: &Loss) {
    if losses.len() == LOSSES_MAX {
        losses.remove(0);
    }
    losses.push(loss.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_shown_until_it_is_acknowledged_or_back_and_a_new_one_is_shown_again() {
        let loss = |message: &str| Loss { code: "log_lost".into(), about: "".into(), message: message.into() };
        let mut losses = Losses::default();
        losses.follow(&Control::Lost(loss("entries 1-3")));
        losses.follow(&Control::Lost(loss("entries 1-5")));
        assert_eq!(losses.shown, [loss("entries 1-5")], "one row for each subject");
        losses.follow(&Control::Seen { loss: loss("entries 1-5"), by: "timer".into() });
        losses.follow(&Control::Lost(loss("entries 1-5")));
        assert_eq!((losses.shown.len(), &losses.seen[..]), (0, &[loss("entries 1-5")][..]));
        losses.follow(&Control::Lost(loss("entries 9-9")));
        assert_eq!(losses.shown.len(), 1);
        losses.follow(&Control::Back { code: "log_lost".into(), about: "".into() });
        assert_eq!(losses.shown, []);
        for at in 0..1000 {
            losses.follow(&Control::Seen { loss: loss(&at.to_string()), by: "timer".into() });
        }
        assert_eq!(losses.seen.len(), LOSSES_MAX);
    }
}
