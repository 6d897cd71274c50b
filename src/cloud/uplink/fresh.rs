//! When "the cloud does not hold it" is believed.
//!
//! A cloud may show a passing only seconds after it accepted it, and a POST that was cut may be applied after its
//! connection is gone. A passing that is numbered anew because of such an answer is in the cloud twice. So:
//! * **An answer must show the newest passing that is known to be there** (the witness). One that does not is stale. How long
//!   the witness had been there by then is a lag that was seen.
//! * **The question must come late enough**: `Freshness::age` after the end of the last POST that left a doubt. That is the
//!   configured `settle`, or one and a half times the longest lag seen and two seconds, if that is more.
//! * A witness that does not show up for `PATIENCE` times `settle` (three minutes) is given up: the cloud lost what it had accepted. The audit of the session
//!   tells which passings are missing; the upload goes on.

use std::time::Duration;

use crate::journal::UploadItem;

/// Added to the longest lag seen.
const MARGIN: Duration = Duration::from_secs(2);
/// Longest lag that is reckoned with; a cloud that is further behind is one that lost passings.
const LAG_MAX: Duration = Duration::from_secs(120);
/// So many times `settle` a witness may stay away.
const PATIENCE: u32 = 12;

struct Witness {
    token: Box<str>,
    item: UploadItem,
    /// When the cloud said that it has it.
    since: Duration,
}

/// What is known of how far the answers are behind.
pub(super) struct Freshness {
    settle: Duration,
    lag: Duration,
    witness: Option<Witness>,
}

impl Freshness {
    /// `settle`: the least age of a doubt, whatever is measured.
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle, lag: Duration::ZERO, witness: None }
    }

    /// How old a doubt must be before "not there" counts.
    pub(super) fn age(&self) -> Duration {
        if self.lag.is_zero() { self.settle } else { self.settle.max(self.lag * 3 / 2 + MARGIN.min(self.settle)) }
    }

    /// The cloud holds this passing since `now` at the latest.
    pub(super) fn accepted(&mut self, token: &str, item: &UploadItem, now: Duration) {
        let newer = self.witness.as_ref().is_none_or(|known| *known.token != *token || known.item.num < item.num);
        if newer {
            self.witness = Some(Witness { token: token.into(), item: item.clone(), since: now });
        }
    }

    /// The passing that an answer about this session has to show.
    pub(super) fn witness(&self, token: &str) -> Option<&UploadItem> {
        self.witness.as_ref().filter(|witness| *witness.token == *token).map(|witness| &witness.item)
    }

    /// The cloud was found to have lost these.
    pub(super) fn lost(&mut self, items: &[UploadItem]) {
        if self.witness.as_ref().is_some_and(|witness| items.contains(&witness.item)) {
            self.witness = None;
        }
    }

    /// An answer to a question that was put at `asked` did not show it. True: it is given up, and the answer counts.
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
        UploadItem { seq: Seq(num), num, time_ms: 0, bib: "1".into(), chip: "C".into() }
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
