//! What somebody decides about passings at which the cloud failed, on its way to the uplinks.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::chip::Seq;

/// What somebody decided about passings that are set aside because the cloud failed at them. Those that
/// were dropped are known from the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TryAgain {
    /// How often somebody decided something.
    pub times: u64,
    /// Which ones are tried again now.
    pub which: Which,
    /// When that was decided.
    pub at: Option<Instant>,
}

/// An uplink that is in a call takes a decision up to this late.
const DECIDED_FOR: Duration = Duration::from_secs(300);
/// Most passings that are named in a decision. With more, all are tried again.
const NAMED_MAX: usize = 4096;

impl TryAgain {
    /// Adds a decision. An uplink may not have seen the one before yet, so both count for a while. To try
    /// a passing again that is settled by now changes nothing.
    pub(crate) fn decide(&mut self, which: Which) {
        let now = Instant::now();
        let before = self.at.is_some_and(|at| now.duration_since(at) < DECIDED_FOR).then(|| self.which.clone());
        self.which = match (before, which) {
            (Some(Which::All), _) | (_, Which::All) => Which::All,
            (Some(Which::These(mut before)), Which::These(more)) => {
                before.extend(more);
                if before.len() > NAMED_MAX { Which::All } else { Which::These(before) }
            }
            (None, which) => which,
        };
        (self.times, self.at) = (self.times + 1, Some(now));
    }
}

/// Which passings are tried again now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them.
    #[default]
    All,
    /// The passings of these reads.
    These(Vec<Seq>),
}
