//! What people decide about the box, as lines of the log. Its JSON is part of the log's format, so
//! fields may be added, but no field may be changed.

use serde::{Deserialize, Serialize};

use crate::model::chip::Seq;

/// A decision. `by` is who made it, and from where, such as `page, 192.168.1.20`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Control {
    /// From here on no passing gets a number, until the hold is released.
    Hold {
        /// Who.
        by: Box<str>,
    },
    /// Something was lost for good. It is shown until somebody acknowledges it.
    Lost(Loss),
    /// It is not lost after all: the reads came, or the files are back.
    Back {
        /// The problem that shows the loss.
        code: Box<str>,
        /// What the problem is about.
        about: Box<str>,
    },
    /// Somebody acknowledged a loss.
    Seen {
        /// The loss.
        loss: Loss,
        /// Who.
        by: Box<str>,
    },
    /// The end of the hold that began with entry `from`.
    Release {
        /// What happens to the reads that were kept since then.
        how: Held,
        /// The entry of the hold.
        from: Seq,
        /// Who.
        by: Box<str>,
    },
}

/// A loss that happened, as a problem shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The word of the problem.
    pub code: Box<str>,
    /// What the problem is about.
    pub about: Box<str>,
    /// What happened.
    pub message: Box<str>,
}

/// What happens to the reads that were kept while the box was on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// They are uploaded.
    Send,
    /// They stay in the log and are never uploaded.
    Drop,
}

/// Most holds of a log that are remembered, the newest ones.
const HOLDS_MAX: usize = 4096;

/// What the log says about the holds of the box, for whoever reads the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    /// Entry of each hold, and the entry of its release, if the reads in between were dropped.
    dropped: Vec<(u64, u64)>,
    /// The entry of the hold that is not released.
    since: Option<u64>,
    /// The entry of the hold that was released last. A second release of it changes nothing.
    ended: u64,
}

impl Holds {
    /// The holds as they are seen from a place of the log behind the hold `since`, if there is one that is
    /// not released.
    pub(crate) fn since(since: Option<Seq>) -> Self {
        Self { since: since.map(|seq| seq.0), ..Self::default() }
    }

    /// Takes in the decision of entry `seq`. The decisions come in the order of the log.
    pub(crate) fn follow(&mut self, seq: u64, control: &Control) {
        match control {
            Control::Hold { .. } => self.since = self.since.or(Some(seq)),
            Control::Release { from, .. } if from.0 == self.ended => {}
            Control::Release { how, from, .. } => {
                (self.since, self.ended) = (None, from.0);
                if *how == Held::Drop {
                    if self.dropped.len() == HOLDS_MAX {
                        self.dropped.remove(0);
                    }
                    self.dropped.push((from.0, seq));
                }
            }
            Control::Lost(_) | Control::Back { .. } | Control::Seen { .. } => {}
        }
    }

    /// Whether the read of entry `seq`, which no batch covers, was dropped by choice.
    pub(crate) fn is_dropped(&self, seq: u64) -> bool {
        let at = self.dropped.partition_point(|(from, _)| *from < seq);
        at.checked_sub(1).is_some_and(|before| seq < self.dropped[before].1)
    }

    /// Whether the read of entry `seq` was kept since the hold that is not released.
    pub(crate) fn is_held(&self, seq: u64) -> bool {
        self.since.is_some_and(|since| seq > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_dropped_if_it_was_kept_between_a_hold_and_its_release_without_sending() {
        let mut holds = Holds::default();
        let hold = Control::Hold { by: "timer".into() };
        let release = |how, from| Control::Release { how, from: Seq(from), by: "timer".into() };
        for (seq, control) in [(5, hold.clone()), (9, release(Held::Drop, 5)), (20, hold.clone())] {
            holds.follow(seq, &control);
        }
        holds.follow(30, &release(Held::Send, 20));
        holds.follow(31, &release(Held::Drop, 20)); // it was released already
        holds.follow(40, &hold);
        let dropped: Vec<u64> = (1..60).filter(|seq| holds.is_dropped(*seq)).collect();
        assert_eq!(dropped, [6, 7, 8]);
        let held: Vec<u64> = (38..44).filter(|seq| holds.is_held(*seq)).collect();
        assert_eq!(held, [41, 42, 43]);
    }
}
