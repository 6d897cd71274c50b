//! What can be asked over the socket, and why there may be no answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::failure::Failure;
use crate::decoders::Range;
use crate::journal::Audited;

/// Longest answer, in bytes: a status with every decoder and problem is far below.
pub(super) const ANSWER_LIMIT: u64 = 16 << 20;

/// How long an answer may take to write, or, for a client, to come.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long a repair may take: an audit, the passings again, and an audit.
pub(super) const REPAIR_TIME: Duration = Duration::from_secs(900);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// The [`crate::status::Snapshot`].
    Status,
    /// `{"durable": N}`: the last sequence number that would survive a power cut.
    Durable,
    /// `{"resent": N, "refused": WHY or null, "equal": BOOL}`: audits a session and sends what is missing again.
    Repair {
        /// Device.
        device: String,
        /// Token of the session, or its end.
        session: String,
    },
    /// `{"moved": N, "settled": N, "left": N, "why": WHY or null}`: what was numbered for a device that is none of the
    /// configuration any more, and is not in the cloud, goes to another one ([`crate::cloud::audit::adopt`]).
    Adopt {
        /// The device that is none any more.
        from: String,
        /// The device that they go to.
        to: String,
    },
    /// `{"known": true}`: an audit was made beside the daemon; it shows what was found, and remembers it.
    Audited {
        /// What it found.
        audited: Audited,
    },
    /// `{"decoder": NAME, "answer": "asked" | "not_connected" | "refused" | "unknown", "why": …}`: asks a decoder for
    /// reads it has stored.
    Rewind {
        /// Its name in the configuration.
        decoder: String,
        /// Which.
        range: Range,
    },
    /// `{"let_go": N}`: uploads the reads that are held back, of a decoder or of all.
    LetGo {
        /// Its name in the configuration, or that of one of its sources.
        decoder: Option<String>,
    },
    /// `{"tried": N}`: tries the passings again, of every device, that were set aside because the cloud failed at them.
    TryAgain,
    /// `{"decoder": NAME, "answer": "recording" | "refused" | "unknown", "header": [[KEY, VALUE], …], "why": …}`, and
    /// after `recording` lines of a capture file ([`crate::link::capture`]) without its header, until the client goes.
    Capture {
        /// Its name in the configuration.
        decoder: String,
    },
}

impl ControlRequest {
    /// How long the answer may take to come.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Status
            | Self::Durable
            | Self::Audited { .. }
            | Self::Rewind { .. }
            | Self::TryAgain
            | Self::Capture { .. } => ANSWER_TIME,
            Self::Repair { .. } | Self::Adopt { .. } | Self::LetGo { .. } => REPAIR_TIME,
        }
    }
}

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("passbridge does not run here (nobody listens at {})", .0.display())]
    NotRunning(PathBuf),
    /// This user may not ask.
    #[error("this user may not ask passbridge at {}: use sudo, or join the group of the service", .0.display())]
    Forbidden(PathBuf),
    /// It runs, but the answer failed.
    #[error("passbridge gives no answer at {}: {why}", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::NotRunning(_) | ControlError::NoAnswer { .. } => Self::unavailable(message),
            ControlError::Forbidden(_) => Self::permission(message),
        }
    }
}

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// What it means that asking there failed.
pub(super) fn failed(path: &Path, error: &io::Error) -> ControlError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning(path)
        }
        io::ErrorKind::PermissionDenied => ControlError::Forbidden(path),
        _ => ControlError::NoAnswer { path, why: error.to_string() },
    }
}
