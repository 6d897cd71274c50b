//! What the cloud's answers mean: typed outcomes, and why there is none.

use std::time::Duration;

use super::trust::Distrust;

/// A session of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `token_session`, opaque, never empty.
    pub token: Box<str>,
    /// Name given to it.
    pub alias: Option<Box<str>>,
    /// How many passings the cloud says it holds.
    pub passings: Option<u64>,
}

/// A device as the cloud knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Name given to it.
    pub alias: Option<Box<str>>,
    /// Model.
    pub model: Option<Box<str>>,
    /// Serial number.
    pub serial_number: Option<Box<str>>,
    /// Passings ever.
    pub passings: Option<u64>,
}

/// What the cloud counted of an insert. Both counts are optional in the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Newly stored.
    pub inserted: Option<u64>,
    /// Held already. A cloud that gives this count detects duplicates.
    pub duplicates: Option<u64>,
}

/// A passing as the cloud holds it. Every field may be missing or odd; what cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudPassing {
    /// `num_passing`
    pub num: Option<u64>,
    /// UTC milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// Bib.
    pub bib: Option<Box<str>>,
    /// Chip code.
    pub chip: Option<Box<str>>,
    /// `token_session` that holds it, where the answer says so.
    pub session: Option<Box<str>>,
}

/// Which stored passings are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of a session by number, both ends included. A server may take either end as excluded.
    Numbers {
        /// `token_session`.
        token: Box<str>,
        /// First number.
        first: u64,
        /// Last number; `None`: no end.
        last: Option<u64>,
    },
    /// Everything of a session.
    Session {
        /// `token_session`.
        token: Box<str>,
    },
    /// Those of a device by time, across its sessions. UTC milliseconds since 1970, both ends included.
    Times {
        /// Device.
        device: Box<str>,
        /// From.
        from: i64,
        /// To.
        to: i64,
    },
}

/// One page of stored passings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the answer.
    pub passings: Vec<CloudPassing>,
    /// Whether more pages follow, where the answer says.
    pub more: Option<bool>,
}

/// Why a request certainly never reached the cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The name could not be resolved.
    #[error("its name is not found: the network has no name server that answers; is there internet?")]
    Name,
    /// No way leads there: no cable, no wireless network, no route.
    #[error("no network ({0}); check the cable or the wireless network")]
    Unreachable(String),
    /// The other side says that nobody listens.
    #[error("the connection is refused; a firewall, or the cloud is down")]
    Refused,
    /// No connection otherwise.
    #[error("no connection ({0})")]
    Connect(String),
    /// No connection in time.
    #[error("nothing comes back from it: packets get lost on the way")]
    Slow,
    /// Something answers that is not known to be the cloud.
    #[error("{0}")]
    Distrust(Distrust),
    /// The request could not even be built.
    #[error("the request could not be built ({0})")]
    Build(String),
}

/// Why it is not known whether a request was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeDoubt {
    /// No whole answer in time.
    #[error("no whole answer in time; the network is very slow or swallows packets, or the cloud hangs")]
    Timeout,
    /// The connection was cut after the request may have been sent.
    #[error(
        "the connection was cut in the middle ({0}); the network is unstable, or something on the way ends long uploads"
    )]
    Cut(String),
    /// The server failed.
    #[error("the cloud is in trouble: it answers {status} {answer}")]
    Server {
        /// HTTP status, 5xx or 408.
        status: u16,
        /// The answer, cut.
        answer: Box<str>,
    },
    /// The answer is none that was documented.
    #[error("the cloud is in trouble: its answer cannot be understood: {0}")]
    Unreadable(Box<str>),
}

/// What is wrong with the key, as far as the answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// The key is known but lacks the right for this call.
    WrongAccess,
    /// The key is refused, the answer does not say why.
    Rejected,
}

/// A call that did not succeed, in the classes the caller decides by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Certainly not applied: it never reached the cloud.
    #[error("the cloud cannot be reached: {0}")]
    NotSent(NotSent),
    /// ResendPermit or may not have been applied.
    #[error("{why}")]
    Unknown {
        /// What was seen.
        why: OutcomeDoubt,
        /// The server's wish, if it sent one.
        retry_after: Option<Duration>,
    },
    /// A web page or a redirect instead of the cloud. ResendPermit have been applied (a proxy behind the cloud's back).
    #[error(
        "offline: a captive portal or a proxy answers instead of the cloud; log in to the network, or check [cloud].url"
    )]
    Portal,
    /// 413. Not applied.
    #[error("the cloud finds the request too large")]
    TooLarge {
        /// The answer, cut.
        answer: Box<str>,
    },
    /// The cloud refuses the content. Not applied.
    #[error("the cloud refuses it ({status}): {answer}")]
    BadRequest {
        /// HTTP status.
        status: u16,
        /// The answer, cut.
        answer: Box<str>,
    },
    /// The session (or what was asked for) is not there or is closed. Not applied.
    #[error("the session is closed or not there ({status}): {answer}")]
    SessionGone {
        /// HTTP status.
        status: u16,
        /// The answer, cut.
        answer: Box<str>,
    },
    /// The key is refused. Not applied.
    #[error("{}", key_text(*fault, *status, answer))]
    KeyRefused {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        fault: KeyFault,
        /// The answer, cut.
        answer: Box<str>,
    },
    /// The cloud does not know the device. Not applied.
    #[error("the cloud does not know this device; check device_id: {answer}")]
    DeviceUnknown {
        /// The answer, cut.
        answer: Box<str>,
    },
    /// 429. Not applied.
    #[error("the cloud asks to slow down")]
    TooMany {
        /// The server's wish, if it sent one.
        retry_after: Option<Duration>,
    },
}

fn key_text(fault: KeyFault, status: u16, answer: &str) -> String {
    match fault {
        KeyFault::WrongAccess => format!("the API key lacks a right; it needs READ_WRITE ({status}): {answer}"),
        KeyFault::Rejected => format!("the API key is refused; is it right, and READ_WRITE? ({status}): {answer}"),
    }
}

impl CallError {
    /// The request changed nothing in the cloud, for certain.
    pub fn certainly_not_applied(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::Portal)
    }

    /// How long the server asks to wait, at most ten minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unknown { retry_after, .. } | Self::TooMany { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Nobody was reached: another try soon costs the cloud nothing.
    pub fn is_unreached(&self) -> bool {
        matches!(self, Self::NotSent(why) if !matches!(why, NotSent::Distrust(_) | NotSent::Build(_)))
    }

    /// The cloud answered, and its answer cannot be understood: the beginning of the answer.
    pub fn not_understood(&self) -> Option<&str> {
        match self {
            Self::Unknown { why: OutcomeDoubt::Unreadable(answer), .. } => Some(answer),
            _ => None,
        }
    }

    /// Nothing that is the cloud answered: the network is at fault, not the cloud.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Portal)
            || matches!(self, Self::Unknown { why: OutcomeDoubt::Timeout | OutcomeDoubt::Cut(_), .. })
    }
}
