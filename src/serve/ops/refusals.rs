//! Why a command was not carried out, in words for the person who gave it.

use std::io;
use std::time::Duration;

use crate::export::ExportError;
use crate::history::report::ReportError;
use crate::journal::JournalError;
use crate::journal::correct::CorrectError;
use crate::journal::holding::HoldError;
use crate::journal::let_go::LetGoError;
use crate::journal::set_aside::SetAsideError;

/// How long an order about a session may wait for its uplink, which may wait for a key or an answer,
/// and which sends what waits first.
pub(super) const BEGIN_TIME: Duration = Duration::from_secs(90);

/// Most commands that follow the reads at the same time.
pub(super) const FOLLOWERS: usize = 4;

/// Most characters of the text of a marker.
pub(crate) const MARKER_MAX: usize = 64;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    /// The daemon is stopping.
    #[error("passbridge is stopping")]
    Stopping,
    /// The uplink of the device did not come to the call of the order, and will not.
    #[error("the upload of this device did not come to it within {} s; `passbridge status` says what it waits for", BEGIN_TIME.as_secs())]
    NotBegun,
    /// The daemon ended while the call of an order was on its way, so the outcome is not known.
    #[error("passbridge stopped before the cloud answered")]
    StoppedAmid,
    /// This daemon does not upload to the device.
    #[error("this passbridge does not upload for device {0}")]
    UnknownDevice(String),
    /// Passings can be taken over only from a device that is not in the configuration any more.
    #[error("device {0} is in the configuration: its passings go there by themselves")]
    DeviceInUse(String),
    /// An audit or a repair was started and failed, for this reason.
    #[error("{0}")]
    Failed(String),
    /// The journal is not open.
    #[error("there is no journal")]
    NoJournal,
    /// Nobody can be let in, because the page has no token, or listens nowhere.
    #[error("the page of this box cannot be opened from another machine: {0}")]
    NoDoor(&'static str),
    /// The kernel gives no random bytes.
    #[error("the box has no random numbers yet ({0}): try again")]
    Random(std::io::Error),
    /// The log cannot be searched.
    #[error(transparent)]
    Search(#[from] ExportError),
    /// As many commands as are allowed follow the reads already.
    #[error("{FOLLOWERS} commands follow the reads already: end one of them")]
    Followed,
    /// The box was not put on hold, or not released.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Nothing was decided about passings that are set aside.
    #[error(transparent)]
    SetAside(#[from] SetAsideError),
    /// The text of a marker.
    #[error("the text of a marker has 1 to {MARKER_MAX} characters")]
    MarkerText,
    /// There is no such decoder.
    #[error("{0}")]
    Decoder(DecoderRefusal),
    /// No such loss is shown.
    #[error("no such loss is shown; there are: {0}")]
    NoSuchLoss(String),
    /// The journal closes.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(io::Error),
    /// Nothing is sent while the box is on hold.
    #[error("the box is on hold, and nothing is sent: release the hold first (`passbridge release`)")]
    OnHold,
    /// The reads that are held back could not be released.
    #[error(transparent)]
    LetGo(#[from] LetGoError),
    /// The report could not be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A report is being made already.
    #[error("a report is being made for somebody else: try again in a moment")]
    Busy,
    /// The correction, or the order to send passings again, was not taken.
    #[error(transparent)]
    Correct(#[from] CorrectError),
}

/// Why a decoder was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecoderRefusal {
    /// The configuration has no decoder of that name.
    #[error("there is no decoder of that name; there are: {}", known.join(", "))]
    Unknown {
        /// The names of the configured decoders.
        known: Vec<String>,
    },
    /// The decoder is not connected.
    #[error("it is not connected now; `passbridge status` says why. What it stores stays there")]
    NotConnected,
    /// The decoder cannot carry out the request, or not now, for this reason.
    #[error("{0}")]
    Refused(String),
}
