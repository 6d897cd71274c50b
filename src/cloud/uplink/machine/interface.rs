//! The actions that the machine returns, and the inputs that the driver puts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::wanted::Wanted;
use crate::cloud::rufus::{CallError, Inserted, Page, Scope, Session};
use crate::journal::{Batch, UploadEvent, UploadItem};
use crate::model::chip::Seq;
use crate::status::{ProblemCode, UploadState};

/// What the driver must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Do nothing before `until`. With `reads`, a change of the journal ends the wait:
    /// [`Input::Noticed`].
    Wait {
        /// Monotonic time since the start.
        until: Duration,
        /// A change of the journal ends the wait.
        reads: bool,
        /// The batch of what waits, and of a read that arrives during the wait, may be written
        /// together with the read: [`Input::Numbered`].
        offer: Option<OfferTerms>,
    },
    /// Ask for the active session: [`Input::Active`].
    AskActive,
    /// Ask for one session: [`Input::Session`].
    AskSession {
        /// Token of the session.
        token: Box<str>,
    },
    /// Ask for one page of the passings that the cloud holds: [`Input::Held`].
    AskHeld {
        /// Which passings to ask for.
        scope: Scope,
        /// Page, from 1.
        page: u32,
        /// How long to wait for the answer. `None`: as long as the client waits.
        patience: Option<Duration>,
    },
    /// Ask for the device, only to find out whether the key may read: [`Input::Device`].
    AskDevice,
    /// Create a session: [`Input::Created`].
    Create {
        /// Its name. `None`: the driver names it after the box.
        alias: Option<Box<str>>,
    },
    /// Close a session: [`Input::Closed`].
    Close {
        /// Token of the session.
        token: Box<str>,
    },
    /// Count the passings that wait, up to `limit`: [`Input::Waiting`].
    Count {
        /// The size of a full batch.
        limit: usize,
    },
    /// Form the batch that is due from what is pending, and do not record it: [`Input::Formed`].
    Form {
        /// Session in which the batch gets its numbers.
        token: Box<str>,
        /// First number of the batch.
        next: u64,
        /// Most passings in the batch.
        limit: usize,
        /// Reads after this one are left out. `None`: no read is.
        bound: Option<Seq>,
        /// Released passings that the batch leaves out.
        without: Vec<Seq>,
        /// Passings that the cloud failed at and that are tried again, placed at the end of the
        /// batch.
        again: Vec<UploadItem>,
    },
    /// Insert these passings: [`Input::Posted`]. All batches and sessions recorded before must be
    /// durable first.
    Post {
        /// Session.
        token: Box<str>,
        /// Passings, a part of the batch in flight.
        items: Vec<UploadItem>,
    },
    /// Record this event after all events recorded before it. It has no result to put.
    Record(UploadEvent),
}

impl Action {
    /// The call of an order, which changes something that nobody takes back.
    pub(crate) fn is_of_order(&self) -> bool {
        matches!(self, Self::Create { alias: Some(_) } | Self::Close { .. })
    }
}

/// How a batch is numbered that is written together with its reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferTerms {
    /// Session in which the batch gets its numbers.
    pub token: Box<str>,
    /// First number of the batch.
    pub next: u64,
    /// Most passings in the batch.
    pub limit: usize,
}

/// The result of an action, or an event that the machine must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The journal changed during a wait with `reads`.
    Noticed,
    /// Result of [`Action::AskActive`].
    Active(Result<Option<Session>, CallError>),
    /// Result of [`Action::AskSession`].
    Session(Result<Option<Session>, CallError>),
    /// Result of [`Action::AskHeld`].
    Held(Result<Page, CallError>),
    /// Result of [`Action::AskDevice`].
    Device(Result<(), CallError>),
    /// Another key is used from now on. It is the result of no action.
    NewKey,
    /// Try passings again now that were set aside because the cloud failed at them: these, or all of
    /// them (`None`). It is the result of no action.
    TryAgain(Option<Vec<Seq>>),
    /// Somebody decided about passings that are set aside. It is the result of no action.
    Decided {
        /// Of those at which the cloud failed, only these are still to be tried again.
        failing: Vec<Seq>,
        /// How many passings are set aside now.
        set_aside: u64,
    },
    /// Result of [`Action::Create`].
    Created(Result<Session, CallError>),
    /// Result of [`Action::Close`].
    Closed(Result<(), CallError>),
    /// Somebody opens or closes a session. Reads up to `through` were kept before. It is the result
    /// of no action.
    Order {
        /// What is wanted.
        wanted: Wanted,
        /// The last read that was kept before.
        through: Seq,
    },
    /// Result of [`Action::Count`]. `None`: nothing waits, not even a read that is no passing.
    Waiting(Option<usize>),
    /// Result of [`Action::Form`]. `None`: nothing is pending.
    Formed(Option<Formed>),
    /// Result of [`Action::Form`]: nothing is pending, and nothing up to the bound can follow.
    Drained,
    /// A batch was written together with its reads, under the terms of the offer of the last
    /// action, and is durable. It comes before the input that ended the wait.
    Numbered(Batch),
    /// Result of [`Action::Post`].
    Posted(Result<Inserted, CallError>),
    /// Send these passings again. Allowed only when [`may_resend`](super::Machine::may_resend)
    /// returns `Now`. It is the result of no action.
    Resend {
        /// Session of the passings.
        token: Box<str>,
        /// Passings of that session in rising order of their numbers, at most one batch.
        items: Vec<UploadItem>,
    },
}

/// A batch, and which of its reads came from a decoder's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formed {
    /// The batch, not recorded yet.
    pub batch: Batch,
    /// The reads of the batch that a decoder sent from its memory.
    pub stored: Vec<Seq>,
}

/// The state of the uplink as the timer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UplinkReport {
    /// What the uplink does.
    pub state: UploadState,
    /// Token and alias of the active session.
    pub session: Option<(Box<str>, Option<Box<str>>)>,
    /// What the uplink waits for although nothing failed, in words.
    pub waits_for: Option<&'static str>,
    /// Whether nothing waited for this device at the last look.
    pub nothing_waits: Option<bool>,
    /// Passings acknowledged in a minute, shown while some have waited for longer than a moment.
    pub per_minute: Option<u64>,
    /// POSTs acknowledged since the start.
    pub accepted_posts: u64,
    /// The last error as text, until the next success.
    pub last_error: Option<String>,
    /// Problems shown now: code and message.
    pub problems: BTreeMap<ProblemCode, String>,
}

/// Whether passings of a session can be sent again now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResendPermit {
    /// They can be sent now.
    Now,
    /// The machine is busy with something else.
    Later,
    /// They can never be sent, for this reason.
    Never(&'static str),
}

/// The session that the uplink follows. The audit uses it to find out when a session is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionProgress {
    /// The cloud has reported which session is active, or that none is.
    pub known: bool,
    /// The active session.
    pub active: Option<Box<str>>,
    /// The session of the batch in flight.
    pub busy: Option<Box<str>>,
    /// How old a doubt must be before "the cloud does not hold it" is believed
    /// ([`crate::cloud::uplink::fresh`]).
    pub lag: Duration,
}
