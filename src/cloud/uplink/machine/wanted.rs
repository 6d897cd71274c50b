//! What somebody wants of the sessions of a device, how far it is, and what became of it.

use std::time::Duration;

use crate::cloud::rufus::{CallError, Session};
use crate::model::chip::Seq;

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new session. The cloud closes the one that is active.
    Open {
        /// Its name.
        alias: Box<str>,
    },
    /// The end of a session.
    Close {
        /// `token_session`.
        token: Box<str>,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session is open, and passings go there from now on.
    Opened {
        /// The new session.
        session: Session,
        /// The session that was active, if the cloud told.
        before: Option<Session>,
    },
    /// The session is closed.
    Closed {
        /// `token_session`.
        token: Box<str>,
    },
    /// Nothing was done, for this reason.
    Failed(CallError),
    /// Nobody knows whether it was done.
    Unknown {
        /// What happened to the call.
        error: CallError,
        /// The session that the cloud shows as active since. `None`: it cannot be asked.
        active: Option<Option<Session>>,
    },
}

/// What became of an order, and of the upload before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// What became of it.
    pub outcome: Outcome,
    /// Reads up to this one were to go into the session before.
    pub through: Seq,
    /// All of them did, as far as they could.
    pub settled: bool,
    /// Passings of the session before that may be there. The cloud is asked for them.
    pub on_their_way: usize,
}

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    pub(super) through: Seq,
    pub(super) stage: Stage,
    /// What was waiting is in the session before.
    pub(super) drained: bool,
    /// What the cloud showed as active immediately before the call. `None`: it could not be asked.
    pub(super) before: Option<Option<Session>>,
    pub(super) done: Option<Outcome>,
}

/// How far an order is.
#[derive(Debug)]
pub(super) enum Stage {
    /// What waits goes up first.
    Settling { until: Duration },
    /// The cloud is asked which session is active.
    Asking { at: Duration, until: Duration },
    /// The call is made.
    Calling { at: Duration, times: u32, doubt: Option<CallError> },
    /// The outcome of the call is not known.
    Checking { error: CallError, at: Duration, until: Duration },
}

impl Order {
    /// What waits still goes into the session before.
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }
}
