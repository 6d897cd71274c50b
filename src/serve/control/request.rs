//! The requests that can be sent over the socket, and why there may be no answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::audit::keep::ResendRange;
use crate::cloud::uplink::Ends;
use crate::config::failure::Failure;
use crate::decoders::Range;
use crate::export::found::{SearchQuery, Sought};
use crate::journal::control::Held;
use crate::journal::{Audited, SendAgainOrder};
use crate::model::chip::Seq;
use crate::model::correction::Correction;

/// Longest answer in bytes. A status with every decoder and problem is far below this.
pub(super) const ANSWER_LIMIT: u64 = 16 << 20;

/// How long the daemon may take to write an answer, and how long a client waits for one.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long a repair may take: an audit, sending the passings again, and another audit.
pub(super) const REPAIR_TIME: Duration = Duration::from_secs(900);

/// How long a session may take to open or close: what waits goes up first, and the calls have their
/// own limits.
pub(super) const SESSION_TIME: Duration = Duration::from_secs(240);

/// How long a search may take: a log whose segments have no index yet is read as a whole.
pub(super) const SEARCH_TIME: Duration = Duration::from_secs(120);

/// A request. Each variant shows the form of its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Answers with the [`crate::status::Snapshot`].
    Status,
    /// `{"reads": [READ, …]}`: the newest reads, the newest first, each a
    /// [`crate::status::RecentRead`].
    Reads {
        /// How many at most.
        limit: usize,
    },
    /// `{"token": WORD, "valid_s": N, "listen": ADDRESS}`, or `{"refused": WHY}`: makes a token for one
    /// use, with which a browser is let in to the page.
    Invite,
    /// `{"durable": N}`: the last sequence number that would survive a power cut.
    Durable,
    /// `{"resent": N, "refused": WHY or null, "equal": BOOL}`: audits a session and sends again
    /// what is missing.
    Repair {
        /// The device.
        device: String,
        /// The token of the session, or its last characters.
        session: String,
    },
    /// `{"moved": N, "settled": N, "left": N, "why": WHY or null}`: moves passings to another
    /// device ([`crate::cloud::audit::adopt`]). They are those that were numbered for a device that
    /// is not in the configuration any more, and that are not in the cloud.
    Adopt {
        /// The device that is not in the configuration any more.
        from: String,
        /// The device to which they are moved.
        to: String,
    },
    /// `{"known": true}`: an audit was made beside the daemon. The daemon shows and stores its
    /// result.
    Audited {
        /// The result of the audit.
        audited: Audited,
    },
    /// `{"decoder": NAME, "answer": "asked" | "not_connected" | "refused" | "unknown", "why": …}`:
    /// asks a decoder for reads that it has stored.
    Rewind {
        /// Its name in the configuration.
        decoder: String,
        /// The range of reads.
        range: Range,
    },
    /// `{"let_go": N}`: uploads the reads that are held back, of one decoder or of all.
    LetGo {
        /// Its name in the configuration, or that of one of its sources.
        decoder: Option<String>,
    },
    /// `{"entry": N}`: corrects the times of reads of a decoder, or of one of its locations.
    Correct {
        /// Its name in the configuration, or that of one of its sources.
        decoder: String,
        /// Which reads, and by how much.
        correction: Correction,
    },
    /// `{"ordered": true}`: sends passings again, under new numbers, whose time was corrected since
    /// they were sent.
    SendAgain {
        /// The device.
        device: String,
        /// Which ones.
        order: SendAgainOrder,
    },
    /// `{"held": true}`: puts the box on hold.
    Hold {
        /// Who asks, for the log.
        by: String,
    },
    /// `{"released": N}`: ends the hold, and sends or drops what was read meanwhile.
    Release {
        /// What happens to it.
        how: Held,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"resent": N}`: sends passings of a range again that the cloud does not have.
    Resend {
        /// The device.
        device: String,
        /// Which ones.
        range: ResendRange,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"seq": N, "at": TIME}`: puts a marker with the time of the box.
    Marker {
        /// What it marks.
        text: String,
        /// The decoder that it belongs to.
        decoder: Option<String>,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"decoder": NAME, "answer": "restarted" | "unknown", "why": …}`: connects to a decoder anew.
    RestartLink {
        /// Its name in the configuration.
        decoder: String,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"set_aside": [{"id": N, …}, …]}`: the passings that are set aside
    /// ([`SetAside`](crate::journal::set_aside::SetAside)).
    SetAside,
    /// `{"count": N}`: sends passings again that are set aside.
    SetAsideRelease {
        /// Their ids.
        ids: Vec<u64>,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"count": N}`: never sends these passings that are set aside.
    SetAsideDrop {
        /// Their ids.
        ids: Vec<u64>,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"seen": true}`: acknowledges a loss.
    Seen {
        /// The word of the problem.
        code: String,
        /// What it is about.
        about: String,
        /// Who asks, for the log.
        by: String,
    },
    /// What may go from the card ([`Room`](crate::journal::making_room::Room)).
    Room,
    /// Removes the oldest segments up to an entry ([`Freed`](crate::journal::making_room::Freed)).
    MakeRoom {
        /// The entry.
        through: Seq,
        /// Who asks, for the log.
        by: String,
    },
    /// Opens a session, after what waits went into the one that is active. The answer is that of
    /// [`super::session::answer`]. If the client closes its connection before the call to the cloud
    /// begins, also only for writing, the order is withdrawn.
    SessionOpen {
        /// The device.
        device: String,
        /// The name of the new session.
        alias: String,
        /// The session that was shown as active, and that may end: `"nothing"`, `{"session": TOKEN}`, or
        /// `"unseen"` (whichever is active).
        ends: Ends,
        /// Who asks, for the log.
        by: String,
    },
    /// Closes a session, in the same way.
    SessionClose {
        /// The device.
        device: String,
        /// The whole token of the session.
        token: String,
        /// Who asks, for the log.
        by: String,
    },
    /// `{"tried": N}`: sends again the passings of every device that were set aside because the
    /// cloud failed at them.
    TryAgain,
    /// The [`crate::export::found::SearchAnswer`]: the reads of a chip or of a bib.
    Search {
        /// What is looked for.
        query: SearchQuery,
    },
    /// `{"following": true, "durable": N}`: then a line for each read after entry `after`, as it
    /// becomes durable ([`super::follow`]), until the client disconnects.
    Follow {
        /// The last entry that the client knows.
        after: u64,
        /// The chip or the bib.
        what: Sought,
        /// Only this decoder with all its sources, or only this source.
        decoder: Option<String>,
    },
    /// `{"decoder": NAME, "answer": "recording" | "refused" | "unknown", "header": [[KEY, VALUE],
    /// …], "why": …}`. After `recording`, lines of a capture file ([`crate::link::capture`])
    /// without its header follow until the client disconnects.
    Capture {
        /// Its name in the configuration.
        decoder: String,
    },
}

impl ControlRequest {
    /// The request is withdrawn if its client leaves.
    pub(super) fn is_order(&self) -> bool {
        matches!(self, Self::SessionOpen { .. } | Self::SessionClose { .. })
    }

    /// How long the answer may take to arrive.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Status
            | Self::Reads { .. }
            | Self::Invite
            | Self::Durable
            | Self::Audited { .. }
            | Self::Rewind { .. }
            | Self::TryAgain
            | Self::Follow { .. }
            | Self::Marker { .. }
            | Self::RestartLink { .. }
            | Self::Seen { .. }
            | Self::Capture { .. } => ANSWER_TIME,
            Self::SessionOpen { .. } | Self::SessionClose { .. } => SESSION_TIME,
            Self::Search { .. } => SEARCH_TIME,
            // They wait until reads that are held back are released.
            Self::Correct { .. } | Self::SendAgain { .. } | Self::Hold { .. } | Self::Release { .. } => REPAIR_TIME,
            Self::SetAsideRelease { .. } | Self::SetAsideDrop { .. } | Self::Resend { .. } => REPAIR_TIME,
            // They read the log, or wait for the card.
            Self::SetAside | Self::Room | Self::MakeRoom { .. } => REPAIR_TIME,
            Self::Repair { .. } | Self::Adopt { .. } | Self::LetGo { .. } => REPAIR_TIME,
        }
    }
}

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("passbridge does not run here (nobody listens at {}). To start it: sudo systemctl start passbridge", .0.display())]
    NotRunning(PathBuf),
    /// This user may not ask.
    #[error("this user may not ask passbridge at {}: use sudo, or join the group of the service", .0.display())]
    Forbidden(PathBuf),
    /// The daemon refuses what was asked.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// The exit code.
        code: u64,
    },
    /// The daemon runs, but it gave no answer. What was asked for may have been done.
    #[error("passbridge gives no answer at {}: {why}", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        why: String,
    },
    /// The daemon answers that it did not do it.
    #[error("{0}")]
    NotDone(String),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::NotRunning(_) | ControlError::NoAnswer { .. } | ControlError::NotDone(_) => {
                Self::unavailable(message)
            }
            ControlError::Forbidden(_) => Self::permission(message),
            ControlError::Refused { code: 64, .. } => Self::usage(message),
            ControlError::Refused { code: 74, .. } => Self::io(message),
            ControlError::Refused { .. } => Self::unavailable(message),
        }
    }
}

/// The path of the socket of a data directory.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// The error that a failed request means.
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
