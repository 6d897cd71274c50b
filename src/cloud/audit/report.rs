//! What is audited, and what an audit says.

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

/// Why there is no result.
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
    /// More pages than any session should have.
    #[error("the cloud's list of passings has no end")]
    Endless,
    /// The journal knows no such session.
    #[error("the journal has no session {0} of this device")]
    NoSuchSession(String),
    /// Nothing was ever numbered, and no session is active.
    #[error("nothing was ever sent to a session of this device, and none is active: there is nothing to compare")]
    NoSession,
    /// The daemon runs and does not say how far its log is durable.
    #[error(transparent)]
    Daemon(Failure),
}

/// Asks how far the log is durable.
pub type AskDurable = Arc<dyn Fn() -> BoxFuture<'static, Result<u64, Failure>> + Send + Sync>;

/// Who knows how far the log is durable.
#[derive(Clone)]
pub enum Head {
    /// The daemon of this data directory, if one runs; without one, all of it is.
    Beside(AskDurable),
    /// This process keeps it.
    Own(Journal),
}

impl Head {
    pub(super) async fn durable(&self) -> Result<u64, AuditError> {
        match self {
            Self::Own(journal) => Ok(journal.durable().0),
            Self::Beside(ask) => ask().await.map_err(AuditError::Daemon),
        }
    }
}

/// What is compared.
#[derive(Clone)]
pub struct Subject {
    /// Where the journal is.
    pub data_dir: PathBuf,
    /// Device in the cloud.
    pub device: Box<str>,
    /// Decoders whose reads go there: what of theirs waits is not yet sent.
    pub decoders: Vec<Box<str>>,
    /// Token of the session, or the end of it (at least six characters); `None`: the active one, else the one that
    /// passings were sent to last.
    pub session: Option<String>,
    /// Rest between two calls.
    pub rest: Duration,
    /// How long the cloud may take until it shows what it accepted ([`crate::config::UploadConfig::settle`] at least): a
    /// difference is asked for again after it.
    pub lag: Duration,
}

/// What an audit found.
#[derive(Clone, Debug)]
pub struct AuditReport {
    /// Device.
    pub device: Box<str>,
    /// `token_session`.
    pub token: Box<str>,
    /// Its name, if one is known.
    pub alias: Option<Box<str>>,
    /// It is the device's active session.
    pub active: bool,
    /// The cloud does not know it.
    pub unknown: bool,
    /// Passings of the journal that were compared.
    pub checked: u64,
    /// Of them held by the cloud.
    pub equal: u64,
    /// Of them held once for two of ours: the cloud counted one as a duplicate.
    pub merged: u64,
    /// How many of each kind.
    pub counts: BTreeMap<AuditVerdict, u64>,
    /// Reads that wait for a number in this session.
    pub waiting: u64,
    /// Passings in the cloud with numbers from before the log begins: nobody can compare them any more.
    pub older: u64,
    /// Passings in the cloud whose number cannot be read.
    pub unnumbered: u64,
    /// Damaged lines of the log.
    pub damaged: u64,
    /// The differences, in the order of their numbers; at most 10,000.
    pub findings: Vec<Finding>,
}

impl AuditReport {
    /// How many of a kind.
    pub fn count(&self, verdict: AuditVerdict) -> u64 {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    /// Both hold the same, as far as the journal's passings are not still on their way ([`Report::on_their_way`]).
    pub fn is_equal(&self) -> bool {
        let differences = self.counts.iter().filter(|(verdict, _)| **verdict != AuditVerdict::NotYetSent);
        differences.map(|(_, count)| count).sum::<u64>() == 0 && self.older == 0 && self.unnumbered == 0
    }

    /// Passings numbered and not settled, and reads that wait for a number in this session.
    pub fn on_their_way(&self) -> u64 {
        self.count(AuditVerdict::NotYetSent) + self.waiting
    }

    /// What a repair would send again: of the differences kept.
    pub fn missing(&self) -> Vec<UploadItem> {
        let missing = self.findings.iter().filter(|finding| finding.verdict == AuditVerdict::Missing);
        missing.filter_map(|finding| finding.ours.clone()).collect()
    }

    /// As it is recorded and shown.
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
