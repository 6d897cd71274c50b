//! When "the cloud does not hold it" is believed.
//!
//! A cloud may show a passing only seconds after it accepted it, and a POST that was cut may be
//! applied after its connection is gone. If a passing gets a new number because of such an answer,
//! it is in the cloud twice. So:
//! * **An answer must show the newest passing that is known to be in the cloud** (the witness). An
//!   answer without it is stale. The time since the witness was accepted is then a measured lag.
//! * **The question must be asked late enough**: `Freshness::age` after the end of the last POST
//!   that left a doubt. That is the configured `settle`, or one and a half times the longest
//!   measured lag plus two seconds, whichever is more.
//! * If the witness is missing for longer than `PATIENCE` times `settle` (three minutes), it is
//!   given up: the cloud lost a passing that it had accepted. The audit of the session finds the
//!   missing passings, and the upload continues.

use std::time::Duration;

use crate::journal::UploadItem;

/// Added to one and a half times the longest measured lag.
const MARGIN: Duration = Duration::from_secs(2);
/// Longest lag that is taken into account. A cloud that is further behind has lost passings.
const LAG_MAX: Duration = Duration::from_secs(120);
/// A witness may be missing for this many times `settle`.
const PATIENCE: u32 = 12;

struct Witness {
    token: Box<str>,
    item: UploadItem,
    /// When the cloud acknowledged the passing, or showed it.
    since: Duration,
}

/// What is known about the lag of the cloud's answers.
pub(super) struct Freshness {
    settle: Duration,
    lag: Duration,
    witness: Option<Witness>,
}

impl Freshness {
    /// `settle`: the least age of a doubt, whatever lag is measured.
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle, lag: Duration::ZERO, witness: None }
    }

    /// Returns how old a doubt must be before "the cloud does not hold it" is believed.
    pub(super) fn age(&self) -> Duration {
        if self.lag.is_zero() { self.settle } else { self.settle.max(self.lag * 3 / 2 + MARGIN.min(self.settle)) }
    }

    /// The cloud has held this passing since `now` or longer.
    pub(super) fn accepted(&mut self, token: &str, item: &UploadItem, now: Duration) {
        let newer = self.witness.as_ref().is_none_or(|known| *known.token != *token || known.item.num < item.num);
        if newer {
            self.witness = Some(Witness { token: token.into(), item: item.clone(), since: now });
        }
    }

    /// Returns the passing that an answer about this session must show.
    pub(super) fn witness(&self, token: &str) -> Option<&UploadItem> {
        self.witness.as_ref().filter(|witness| *witness.token == *token).map(|witness| &witness.item)
    }

    /// The cloud was found to have lost these passings.
    pub(super) fn lost(&mut self, items: &[UploadItem]) {
        if self.witness.as_ref().is_some_and(|witness| items.contains(&witness.item)) {
            self.witness = None;
        }
    }

    /// An answer to a question asked at `asked` did not show the witness. Returns true if the
    /// witness is given up, so that the answer counts.
    pub(super) fn missed(&mut self, asked: Duration) -> bool {
        let Some(witness) = &self.witness else { return true };
        let behind = asked.saturating_sub(witness.since);
        if behind > self.settle * PATIENCE {
            self.witness = None;
            return true;
        }
        self.lag = self.lag.max(behind.min(LAG_MAX));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chip::Seq;

    fn item(num: u64) -> UploadItem {
        UploadItem { seq: Seq(num), num, time_ms: 0, corrected_ms: 0, bib: "1".into(), chip: "C".into() }
    }

    #[test]
    fn a_lag_that_was_seen_makes_doubts_wait_longer_and_a_witness_that_never_comes_is_given_up() {
        let at = Duration::from_secs;
        let mut fresh = Freshness::new(at(15));
        assert_eq!(fresh.age(), at(15));
        fresh.accepted("A", &item(7), at(100));
        fresh.accepted("A", &item(5), at(101));
        assert_eq!(fresh.witness("A").map(|item| item.num), Some(7), "the newest");
        assert_eq!(fresh.witness("B"), None);
        assert!(!fresh.missed(at(104)));
        assert_eq!(fresh.age(), at(15), "4 s, and more than that is waited anyway");
        assert!(!fresh.missed(at(140)));
        assert_eq!(fresh.age(), at(62));
        assert!(fresh.missed(at(281)));
        assert_eq!(fresh.witness("A"), None);
    }
}
