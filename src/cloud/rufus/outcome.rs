//! Typed outcomes of the cloud's answers, and typed reasons for a missing outcome.

use std::time::Duration;

use super::trust::Distrust;

/// A session of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `token_session`, opaque, never empty.
    pub token: Box<str>,
    /// Name of the session.
    pub alias: Option<Box<str>>,
    /// Number of passings in the session according to the cloud.
    pub passings: Option<u64>,
}

/// A session as the cloud describes it to a person. The upload decides by [`Session`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Token, name and number of passings.
    pub session: Session,
    /// Whether it takes passings, if the answer says.
    pub active: Option<bool>,
    /// When it was opened. UTC milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// Stamp of its first passing, as the cloud tells it: the samples hold stamps that cannot be
    /// right, so nothing is computed from it. UTC milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// Like `first_ms`, of its last passing.
    pub last_ms: Option<i64>,
}

/// A device as the cloud knows it. The two generations of answers have different fields, and a
/// field that is missing or cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// `deviceid`, opaque, never empty. `None` only in an answer about one device.
    pub id: Option<Box<str>>,
    /// Name of the device.
    pub alias: Option<Box<str>>,
    /// Type of the device, free text such as `CUSTOM_CHRONO`.
    pub kind: Option<Box<str>>,
    /// Model of the device.
    pub model: Option<Box<str>>,
    /// Serial number of the device.
    pub serial_number: Option<Box<str>>,
    /// Version of its firmware.
    pub firmware: Option<Box<str>>,
    /// When it was bound. UTC milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// When the cloud saw it last (`last_seen`, `last_login`). UTC milliseconds since 1970.
    pub seen_ms: Option<i64>,
    /// Number of its sessions.
    pub sessions: Option<u64>,
    /// Number of passings that the device ever had.
    pub passings: Option<u64>,
    /// `device_status`. Its values are not published, so it is shown as it is.
    pub status: Option<Box<str>>,
    /// Charge of its battery in per cent, 0 to 100.
    pub battery: Option<u64>,
    /// Whether its battery is charged now.
    pub charging: Option<bool>,
}

/// The device of a serial number, after binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `deviceid`
    pub device: Box<str>,
    /// The serial number was bound before, and the cloud names the device that it has.
    pub before: bool,
}

/// A list that was read page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// What the cloud listed, in its order.
    pub all: Vec<T>,
    /// The cloud has more: it said so and did not give it, or the list ended at its bound.
    pub cut: bool,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListPage<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Whether more pages follow, if the answer says.
    pub more: Option<bool>,
    /// How many items all pages have together, if the answer says.
    pub total: Option<u64>,
    /// The answer tells something about pages.
    pub is_paged: bool,
}

/// A stored passing with all of its fields, as text, in the cloud's own names. A field that is
/// missing, null or empty is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FullPassing {
    /// The stamp as the cloud wrote it.
    pub timestamp: Option<Box<str>>,
    /// The stamp in UTC milliseconds since 1970, if it can be read.
    #[serde(skip)]
    pub time_ms: Option<i64>,
    /// Number in its session.
    pub num_passing: Option<u64>,
    /// Bib.
    pub bib: Option<Box<str>>,
    /// Chip code.
    pub chip: Option<Box<str>>,
    /// Identity of the participant.
    pub participant_id: Option<Box<str>>,
    /// Latitude in degrees.
    pub latitude: Option<Box<str>>,
    /// Longitude in degrees.
    pub longitude: Option<Box<str>>,
    /// Status, free text such as `Sent`.
    pub status: Option<Box<str>>,
    /// Label of a zone. The stamp stays in UTC beside it.
    pub timezone: Option<Box<str>>,
    /// Gender.
    pub gender: Option<Box<str>>,
    /// Session that holds it.
    pub token_session: Option<Box<str>>,
    /// Device of the session.
    pub deviceid: Option<Box<str>>,
}

/// One page of stored passings with all of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullPage {
    /// Passings, in the order of the answer.
    pub passings: Vec<FullPassing>,
    /// Whether more pages follow, if the answer says.
    pub more: Option<bool>,
}

/// What the continuing pull returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Session of these passings (`session_used`). The cloud goes to a newer session by itself.
    pub session: Option<Box<str>>,
    /// Name of that session (`session_label`).
    pub label: Option<Box<str>>,
    /// Number after which the cloud went on (`resumed_from`).
    pub resumed_from: Option<u64>,
    /// Passings, in the order of the answer.
    pub passings: Vec<FullPassing>,
    /// Whether more of them wait now, if the answer says.
    pub more: Option<bool>,
}

/// The cloud's counts for an insert. The documents call both counts optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Passings that the insert stored.
    pub inserted: Option<u64>,
    /// Passings that the cloud held before. A cloud that returns this count detects duplicates.
    pub duplicates: Option<u64>,
}

/// A passing as the cloud holds it. Every field may be missing or malformed. A field that cannot be
/// read is `None`.
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
    /// `token_session` that holds it, if the answer names it.
    pub session: Option<Box<str>>,
}

/// Which stored passings to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Passings of a session by number, both ends included. A server may treat either end as
    /// excluded.
    Numbers {
        /// `token_session`.
        token: Box<str>,
        /// First number.
        first: u64,
        /// Last number. `None`: no end.
        last: Option<u64>,
    },
    /// All passings of a session.
    Session {
        /// `token_session`.
        token: Box<str>,
    },
    /// Passings of a device by time, across its sessions. UTC milliseconds since 1970, both ends
    /// included.
    Times {
        /// Device.
        device: Box<str>,
        /// First time.
        from: i64,
        /// Last time.
        to: i64,
    },
}

/// One page of stored passings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Passings, in the order of the answer.
    pub passings: Vec<CloudPassing>,
    /// Whether more pages follow, if the answer says.
    pub more: Option<bool>,
}

/// Why a request certainly did not reach the cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The name could not be resolved.
    #[error("its name is not found: the network has no name server that answers; is there internet?")]
    Name,
    /// No route: no cable, no wireless network, or no way to the server.
    #[error("no network ({0}); check the cable or the wireless network")]
    Unreachable(String),
    /// The other side reports that no program listens there.
    #[error("the connection is refused; a firewall, or the cloud is down")]
    Refused,
    /// The connection failed for another reason.
    #[error("no connection ({0})")]
    Connect(String),
    /// The connection was not made in time.
    #[error("nothing comes back from it: packets get lost on the way")]
    Slow,
    /// A server answers that is not known to be the cloud.
    #[error("{0}")]
    Distrust(Distrust),
    /// The request could not be built.
    #[error("the request could not be built ({0})")]
    Build(String),
}

/// Why it is not known whether a request was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeDoubt {
    /// No whole answer arrived in time.
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
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// The answer is not one of the documented ones.
    #[error("the cloud is in trouble: its answer cannot be understood: {0}")]
    Unreadable(Box<str>),
}

/// What is wrong with the key, according to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// The key is known but lacks the right for this call.
    WrongAccess,
    /// The key is refused, and the answer does not say why.
    Rejected,
}

/// A call that did not succeed, in the classes by which the caller decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Certainly not applied: the request did not reach the cloud.
    #[error("the cloud cannot be reached: {0}")]
    NotSent(NotSent),
    /// The request may or may not have been applied.
    #[error("{why}")]
    Unknown {
        /// What was seen.
        why: OutcomeDoubt,
        /// The wait that the server asks for, if it sent one.
        retry_after: Option<Duration>,
    },
    /// A web page or a redirect instead of the cloud's answer. The request may have been applied,
    /// because a proxy may have passed it on.
    #[error(
        "offline: a captive portal or a proxy answers instead of the cloud; log in to the network, or check [cloud].url"
    )]
    Portal,
    /// 413: the request is too large. Not applied.
    #[error("the cloud finds the request too large")]
    TooLarge {
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// The cloud refuses the content. Not applied.
    #[error("the cloud refuses it ({status}): {answer}")]
    BadRequest {
        /// HTTP status.
        status: u16,
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// The session (or what was asked for) does not exist or is closed. Not applied.
    #[error("the session is closed or not there ({status}): {answer}")]
    SessionGone {
        /// HTTP status.
        status: u16,
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// The cloud refuses the key. Not applied.
    #[error("{}", key_text(*fault, *status, answer))]
    KeyRefused {
        /// HTTP status.
        status: u16,
        /// What is wrong with the key.
        fault: KeyFault,
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// The cloud does not know the device. Not applied.
    #[error("the cloud does not know this device; check device_id: {answer}")]
    DeviceUnknown {
        /// The answer, cut to a limit.
        answer: Box<str>,
    },
    /// 429: too many requests. Not applied.
    #[error("the cloud asks to slow down")]
    TooMany {
        /// The wait that the server asks for, if it sent one.
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
    /// The request certainly changed nothing in the cloud.
    pub fn certainly_not_applied(&self) -> bool {
        !matches!(self, Self::Unknown { .. } | Self::Portal)
    }

    /// Returns how long the server asks to wait, at most ten minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unknown { retry_after, .. } | Self::TooMany { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// No server was reached, so another try soon costs the cloud nothing.
    pub fn is_unreached(&self) -> bool {
        matches!(self, Self::NotSent(why) if !matches!(why, NotSent::Distrust(_) | NotSent::Build(_)))
    }

    /// The cloud, or what is on the way to it, does not answer. This does not prove that there is no
    /// internet.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::NotSent(NotSent::Refused | NotSent::Slow))
            || matches!(self, Self::Unknown { why: OutcomeDoubt::Timeout | OutcomeDoubt::Cut(_), .. })
    }

    /// Returns the beginning of an answer of the cloud that cannot be understood.
    pub fn not_understood(&self) -> Option<&str> {
        match self {
            Self::Unknown { why: OutcomeDoubt::Unreadable(answer), .. } => Some(answer),
            _ => None,
        }
    }

    /// The cloud did not answer. The fault is in the network, not in the cloud.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Portal)
            || matches!(self, Self::Unknown { why: OutcomeDoubt::Timeout | OutcomeDoubt::Cut(_), .. })
    }
}
