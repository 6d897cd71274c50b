//! What the driver and the machine say to each other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::rufus::{CallError, Inserted, Page, Scope, Session};
use crate::journal::{Batch, UploadEvent, UploadItem};
use crate::model::chip::Seq;
use crate::status::{ProblemCode, UploadState};

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before `until` (since the start). With `reads`, a change of the journal ends it: [`Input::Noticed`].
    Wait {
        /// Monotonic time since the start.
        until: Duration,
        /// A change of the journal is of interest.
        reads: bool,
    },
    /// Ask for the active session: [`Input::Active`].
    AskActive,
    /// Ask for one session: [`Input::Session`].
    AskSession {
        /// Its token.
        token: Box<str>,
    },
    /// Ask for a page of what the cloud holds: [`Input::Held`].
    AskHeld {
        /// What is asked for.
        scope: Scope,
        /// Page, from 1.
        page: u32,
        /// How long the answer is worth waiting for; `None`: as long as the client waits.
        patience: Option<Duration>,
    },
    /// Ask for the device, only to see whether the key may read: [`Input::Device`].
    AskDevice,
    /// Create a session: [`Input::Created`].
    Create,
    /// Form a batch of what is pending, without recording it: [`Input::Formed`].
    Form {
        /// Session to number it in.
        token: Box<str>,
        /// Its first number.
        next: u64,
        /// Most passings in it.
        limit: usize,
        /// Released passings that are left out.
        without: Vec<Seq>,
        /// Passings that the cloud failed at and that are tried again: they come last.
        again: Vec<UploadItem>,
    },
    /// Insert these: [`Input::Posted`]. Every batch and session recorded before must be durable first.
    Post {
        /// Session.
        token: Box<str>,
        /// Passings, a part of the batch in flight.
        items: Vec<UploadItem>,
    },
    /// Record this, after all recorded before it. No answer is put.
    Record(UploadEvent),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The journal changed during a wait that wanted to know.
    Noticed,
    /// Of [`Action::AskActive`].
    Active(Result<Option<Session>, CallError>),
    /// Of [`Action::AskSession`].
    Session(Result<Option<Session>, CallError>),
    /// Of [`Action::AskHeld`].
    Held(Result<Page, CallError>),
    /// Of [`Action::AskDevice`].
    Device(Result<(), CallError>),
    /// Another key is used from now on. Of no action.
    NewKey,
    /// Passings that were set aside because the cloud failed at them are to be tried again now. Of no action.
    TryAgain,
    /// Of [`Action::Create`].
    Created(Result<Session, CallError>),
    /// Of [`Action::Form`]; `None`: nothing is pending.
    Formed(Option<Formed>),
    /// Of [`Action::Post`].
    Posted(Result<Inserted, CallError>),
    /// Send these again; only when [`may_resend`](super::Machine::may_resend) says so. Of no action.
    Resend {
        /// Their session.
        token: Box<str>,
        /// Passings of it, numbers rising, at most a batch of them.
        items: Vec<UploadItem>,
    },
}

/// A batch, and what is known of its reads beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// The batch, not recorded yet.
    pub batch: Batch,
    /// The reads in it that a decoder gave from its memory.
    pub stored: Vec<Seq>,
}

/// What a timer should see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkReport {
    /// What the uplink does.
    pub state: UploadState,
    /// Token and alias of the active session.
    pub session: Option<(Box<str>, Option<Box<str>>)>,
    /// Passings acknowledged, ever.
    pub sent: u64,
    /// Of them reported as duplicates.
    pub duplicates: u64,
    /// Passings acknowledged a minute, while some wait for longer than a moment.
    pub per_minute: Option<u64>,
    /// POSTs acknowledged since the start.
    pub accepted_posts: u64,
    /// The last error in words, until success.
    pub last_error: Option<String>,
    /// Problems shown now: code and message.
    pub problems: BTreeMap<ProblemCode, String>,
}

/// Whether passings of a session can be sent again now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResendPermit {
    /// Now.
    Now,
    /// Something else is under way.
    Later,
    /// Not at all: why.
    Never(&'static str),
}

/// Which session the uplink follows, for who wants to know when one is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionProgress {
    /// The cloud has said which session is active, or that none is.
    pub known: bool,
    /// The active session.
    pub active: Option<Box<str>>,
    /// The session of the batch in flight.
    pub busy: Option<Box<str>>,
    /// How old something must be before "the cloud does not hold it" is believed ([`crate::cloud::uplink::fresh`]).
    pub lag: Duration,
}
