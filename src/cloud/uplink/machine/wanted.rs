//! What somebody wants of the sessions of a device, how far it is, and what became of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::rufus::{CallError, Session};
use crate::model::chip::Seq;

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new session. The cloud closes the one that is active.
    Open {
        /// Its name.
        alias: Box<str>,
        /// Which session may end by it.
        ends: Ends,
    },
    /// The end of a session.
    Close {
        /// `token_session`.
        token: Box<str>,
    },
}

/// The session that was shown to the person who opens another one, and that may end by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// No session was active, so none may end.
    Nothing,
    /// The session with this `token_session`, and no other.
    Session(Box<str>),
    /// Whichever is active, because the key may not ask which one that is.
    Unseen,
}

impl Ends {
    /// Whether somebody agreed to the end of what is active.
    pub(crate) fn allows(&self, active: &Session) -> bool {
        match self {
            Self::Nothing => false,
            Self::Session(token) => *token == active.token,
            Self::Unseen => true,
        }
    }
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
    /// Nothing was done, because this session is active, and nobody agreed to its end.
    Other(Session),
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
    /// The call is made. `times`: how often it was made.
    Calling { at: Duration, times: u32, doubt: Option<CallError> },
    /// The outcome of the call is not known.
    Checking { error: CallError, at: Duration, until: Duration },
}

impl Order {
    /// Nothing was sent to the cloud that could change anything.
    pub(super) fn is_harmless(&self) -> bool {
        match &self.stage {
            Stage::Settling { .. } | Stage::Asking { .. } => true,
            Stage::Calling { times, .. } => *times == 0,
            Stage::Checking { .. } => false,
        }
    }

    /// The active session is asked for because of the order.
    pub(super) fn asks(&self) -> bool {
        self.done.is_none() && matches!(self.stage, Stage::Asking { .. } | Stage::Checking { .. })
    }

    /// What waits still goes into the session before.
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }
}
