//! The subject and the result of an audit.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::compare::{AuditVerdict, Finding};
use crate::cloud::rufus::CallError;
use crate::config::failure::Failure;
use crate::journal::{Audited, Journal, UploadItem};

/// Why an audit has no result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no journal.
    #[error("there is no journal in {0}: is data_dir right?")]
    NoJournal(PathBuf),
    /// The log cannot be read.
    #[error("the log could not be read: {0}")]
    Log(io::Error),
    /// The cloud does not answer, or refuses.
    #[error("the cloud could not be asked: {0}")]
    Cloud(CallError),
    /// The cloud returned more pages than any session should have.
    #[error("the cloud's list of passings has no end")]
    Endless,
    /// The journal does not know the session.
    #[error("the journal has no session {0} of this device")]
    NoSuchSession(String),
    /// No passing was ever numbered, and no session is active.
    #[error("nothing was ever sent to a session of this device, and none is active: there is nothing to compare")]
    NoSession,
    /// The daemon runs and does not report how far its log is durable.
    #[error(transparent)]
    Daemon(Failure),
}

/// Asks how far the log is durable.
pub(super) type AskDurable = Arc<dyn Fn() -> BoxFuture<'static, Result<u64, Failure>> + Send + Sync>;

/// The source of how far the log is durable.
#[derive(Clone)]
pub enum Head {
    /// The daemon of this data directory, if one runs. Without a daemon, the whole log is durable.
    Beside(AskDurable),
    /// The journal of this process.
    Own(Journal),
}

impl Head {
    pub(super) async fn durable(&self) -> Result<u64, AuditError> {
        match self {
            Self::Own(journal) => {
                journal.settle_soon().await; // the cloud's last answers count
                Ok(journal.durable().0)
            }
            Self::Beside(ask) => ask().await.map_err(AuditError::Daemon),
        }
    }
}

/// What an audit compares.
#[derive(Clone)]
pub struct Subject {
    /// Directory of the journal.
    pub data_dir: PathBuf,
    /// Device in the cloud.
    pub device: Box<str>,
    /// Decoders whose reads the device gets. Their waiting reads count as not yet sent.
    pub decoders: Vec<Box<str>>,
    /// Token of the session, or the end of it (at least six characters). `None`: the active
    /// session, or else the last one that passings were sent to.
    pub session: Option<String>,
    /// Pause before each call.
    pub rest: Duration,
    /// How long the cloud may take to show what it accepted (at least
    /// [`crate::config::UploadConfig::settle`]). A difference is asked for again after this time.
    pub lag: Duration,
}

/// Result of an audit.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// Device.
    pub device: Box<str>,
    /// `token_session`.
    pub token: Box<str>,
    /// Name of the session, if one is known.
    pub alias: Option<Box<str>>,
    /// The session is the device's active one.
    pub active: bool,
    /// The cloud does not know the session.
    pub unknown: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// How many of them the cloud holds unchanged.
    pub equal: u64,
    /// Passings of which the cloud holds only one for two of ours, because it counted one as a
    /// duplicate.
    pub merged: u64,
    /// Number of differences of each kind.
    pub counts: BTreeMap<AuditVerdict, u64>,
    /// Reads that wait for a number in this session.
    pub waiting: u64,
    /// Passings in the cloud with numbers from before the log begins. They cannot be compared any
    /// more.
    pub older: u64,
    /// Passings in the cloud whose number cannot be read.
    pub unnumbered: u64,
    /// Number of damaged lines in the log.
    pub damaged: u64,
    /// The differences in the order of their numbers, at most 10,000.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// Number of differences of one kind.
    pub fn count(&self, verdict: AuditVerdict) -> u64 {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    /// Both sides hold the same, except passings that are still on their way
    /// ([`AuditReport::on_their_way`]).
    pub fn is_equal(&self) -> bool {
        let differences = self.counts.iter().filter(|(verdict, _)| **verdict != AuditVerdict::NotYetSent);
        differences.map(|(_, count)| count).sum::<u64>() == 0 && self.older == 0 && self.unnumbered == 0
    }

    /// Passings that have a number and are not settled, and reads that wait for a number in this
    /// session.
    pub fn on_their_way(&self) -> u64 {
        self.count(AuditVerdict::NotYetSent) + self.waiting
    }

    /// The passings that a repair would send again, among the differences that were kept.
    pub fn missing(&self) -> Vec<UploadItem> {
        let missing = self.findings.iter().filter(|finding| finding.verdict == AuditVerdict::Missing);
        missing.filter_map(|finding| finding.ours.clone()).collect()
    }

    /// The audit as it is recorded and shown.
    pub fn summary(&self, at: Timestamp) -> Audited {
        Audited {
            device: self.device.clone(),
            token: self.token.clone(),
            at,
            active: self.active,
            equal: self.is_equal(),
            checked: self.checked,
            missing: self.count(AuditVerdict::Missing),
            foreign: self.count(AuditVerdict::Foreign) + self.unnumbered,
            different: self.count(AuditVerdict::Different) + self.count(AuditVerdict::Elsewhere),
            duplicated: self.count(AuditVerdict::Duplicated),
            not_yet_sent: self.on_their_way(),
            set_aside: self.count(AuditVerdict::SetAside),
        }
    }
}
