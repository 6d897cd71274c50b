//! What became of an order about a session, in the words of the protocol.
//!
//! | `outcome` | further fields |
//! |---|---|
//! | `opened` | `token`, `alias`, `before` (null, or `token` and `alias`), `left`, `on_their_way` |
//! | `closed` | `token`, `left`, `on_their_way` |
//! | `failed` | `kind` (`key`, `absent`, `content`, `unavailable`), `why`, `retry_after_s` (null, or seconds) |
//! | `other` | `active` (`token` and `alias`): another session is active than the one that may end |
//! | `unknown` | `why`, `retry_after_s`, `asked` (whether the cloud could be asked since), `active` (null, or `token` and `alias`) |
//! | `elsewhere` | none: this daemon does not upload to the device |

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::rufus::{CallError, Session};
use crate::cloud::uplink::{Outcome, SessionChange};
use crate::serve::ops::OpsError;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Changed {
    /// The session is open.
    Opened {
        /// `token_session`
        token: Box<str>,
        /// Its name.
        alias: Option<Box<str>>,
        /// The session that was active.
        before: Option<Named>,
        /// Reads that waited and go into the new session.
        left: usize,
        /// Passings that may be in the session before.
        on_their_way: usize,
    },
    /// The session is closed.
    Closed {
        /// `token_session`
        token: Box<str>,
        /// Reads that waited and go into the next session.
        left: usize,
        /// Passings that may be in the closed session.
        on_their_way: usize,
    },
    /// Nothing was done.
    Failed {
        /// Who has to do something about it.
        kind: SessionRefusal,
        /// What the cloud answered, or why it did not.
        why: String,
        /// The seconds that the cloud asks to wait.
        retry_after_s: Option<u64>,
    },
    /// Nothing was done: nobody agreed to the end of the session that is active.
    Other {
        /// That session.
        active: Named,
    },
    /// Nobody knows whether it was done.
    Unknown {
        /// What happened to the call.
        why: String,
        /// The seconds that the cloud asks to wait.
        retry_after_s: Option<u64>,
        /// Whether the cloud could be asked for the active session since.
        asked: bool,
        /// What it showed.
        active: Option<Named>,
    },
    /// This daemon does not upload to the device.
    Elsewhere,
}

/// A session by its token and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// `token_session`
    pub token: Box<str>,
    /// Its name.
    pub alias: Option<Box<str>>,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionRefusal {
    /// The key is refused or lacks the right.
    Key,
    /// The device or the session is not there.
    Absent,
    /// The cloud refuses what was sent.
    Content,
    /// The cloud does not answer.
    Unavailable,
}

impl From<&Session> for Named {
    fn from(session: &Session) -> Self {
        Self { token: session.token.clone(), alias: session.alias.clone() }
    }
}

impl From<&CallError> for SessionRefusal {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::KeyRefused { .. } => Self::Key,
            CallError::DeviceUnknown { .. } | CallError::SessionGone { .. } => Self::Absent,
            CallError::BadRequest { .. } | CallError::TooLarge { .. } => Self::Content,
            CallError::NotSent(_) | CallError::Portal | CallError::TooMany { .. } | CallError::Unknown { .. } => {
                Self::Unavailable
            }
        }
    }
}

impl From<SessionChange> for Changed {
    fn from(SessionChange { outcome, left, on_their_way }: SessionChange) -> Self {
        match outcome {
            Outcome::Opened { session, before } => Self::Opened {
                token: session.token.clone(),
                alias: session.alias.clone(),
                before: before.as_ref().map(Named::from),
                left,
                on_their_way,
            },
            Outcome::Closed { token } => Self::Closed { token, left, on_their_way },
            Outcome::Failed(error) => Self::failed(&error),
            Outcome::Other(session) => Self::Other { active: Named::from(&session) },
            Outcome::Unknown { error, active } => Self::unknown(&error, active.as_ref().map(Option::as_ref)),
        }
    }
}

impl Changed {
    /// Nothing was done, for this reason.
    pub(crate) fn failed(error: &CallError) -> Self {
        let (kind, why) = (SessionRefusal::from(error), error.to_string());
        Self::Failed { kind, why, retry_after_s: error.retry_after().map(|wait| wait.as_secs()) }
    }

    /// Nobody knows whether it was done. `active` is what the cloud shows since; `None` if it could
    /// not be asked.
    pub(crate) fn unknown(error: &CallError, active: Option<Option<&Session>>) -> Self {
        let (why, asked) = (error.to_string(), active.is_some());
        let retry_after_s = error.retry_after().map(|wait| wait.as_secs());
        Self::Unknown { why, retry_after_s, asked, active: active.flatten().map(Named::from) }
    }
}

/// The answer to a request.
pub(super) fn answer(done: Result<SessionChange, OpsError>) -> Result<Value, OpsError> {
    let changed = match done {
        Ok(change) => change.into(),
        Err(OpsError::UnknownDevice(_)) => Changed::Elsewhere,
        Err(error @ OpsError::StoppedAmid) => {
            Changed::Unknown { why: error.to_string(), retry_after_s: None, asked: false, active: None }
        }
        Err(error) => return Err(error),
    };
    // Plain data with string keys, so this cannot fail.
    Ok(serde_json::to_value(changed).unwrap_or_default())
}

/// Reads an answer. `None`: it is that of a version with other words.
pub(crate) fn changed(answer: Value) -> Option<Changed> {
    serde_json::from_value(answer).ok()
}
