//! The audit: does the cloud hold what the journal says it holds, passing by passing?
//!
//! What must hold:
//! * **Bounded.** Neither side is ever in memory as a whole. The log gives the passings of a session in the order of their
//!   numbers with a batch in memory ([`ours`]); they are taken in windows of 2000 numbers, and for each window the cloud is
//!   asked page by page ([`ask`]). Differences beyond 10,000 are only counted.
//! * **Nothing is asked of the cloud's order.** Pages may have any size and any order, and a server may ignore the range or
//!   the page ([`compare`]).
//! * **Beside the daemon, and without it.** The log is read up to what is durable, as `export` does. What is on its way is
//!   *not yet sent*, not missing.
//! * **No false alarm.** The journal is read before the cloud: what it calls accepted then must be there. A window that shows
//!   differences is asked for once more, and, where some are left, a third time after the cloud has had the time that it
//!   may take to show what it accepted ([`Subject::lag`]): only numbers that every answer shows as different are. What was
//!   numbered after the first look is not foreign: the audit compares up to the moment it began, and the journal is looked
//!   at again for what the cloud holds above that.
//! * **Words.** *missing*: accepted, and not in the cloud. *set aside*: refused. *not yet sent*: on its way, or not numbered.
//!   *different*: the same number with another chip, bib or time. *foreign*: in the cloud, not ours: another device or
//!   program sends into the session. *duplicated*: the same chip and time twice. *elsewhere*: ours, under another number.
//!   Where there is none of them but what is on its way, both are *equal so far*; without that, too, *equal*. Times are compared to the millisecond, or to the second in a
//!   cloud that keeps no fractions.
//! * **A repair never numbers anew and never overwrites.** Only what is missing goes again, under its number, by the uplink
//!   itself between two batches: made durable as a batch in flight first ([`crate::journal::Batch::resend`]), the cloud asked
//!   immediately before the POST. A closed session takes nothing: that is said, and no session is opened for it.
//!
//! When a session is over, the daemon audits it by itself ([`keep`]): durably remembered, so it is done after a restart if
//! it was not before, and again and again until the cloud answers, at least 30 s apart. What an audit found is a problem
//! of its session, until an audit of the same session finds it equal.
//!
//! Rejected: a merge of two sorted streams (the cloud documents no order of its pages, and its own page shows the newest
//! first); all numbers of a session in a set (grows with the session); reading the cloud first and the journal after (each
//! passing accepted between the two would look missing); repairing from the audit's own process while a daemon runs (two
//! POSTs of a device in flight).

pub mod adopt;
pub mod ask;
mod command;
pub mod compare;
pub mod keep;
pub mod ours;
mod text;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::rufus::{CallError, Client};
use crate::journal::{Audited, Item, Journal};
use crate::serve::control::{self, ControlError, Request};
use ask::{InCloud, Walk};
use compare::{Explain, Finding, Seen, Verdict};
use ours::{InLog, Index};

pub use command::{AuditArgs, run};
pub use text::text as summary;

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
    Control(#[from] ControlError),
}

/// Who knows how far the log is durable.
#[derive(Clone)]
pub enum Head {
    /// The daemon of this data directory; without one, all of it is.
    Beside(PathBuf),
    /// This process keeps it.
    Own(Journal),
}

impl Head {
    async fn durable(&self) -> Result<u64, ControlError> {
        match self {
            Self::Own(journal) => Ok(journal.durable().0),
            Self::Beside(data_dir) => match control::ask(data_dir, Request::Durable).await {
                Ok(answer) => Ok(answer.get("durable").and_then(serde_json::Value::as_u64).unwrap_or(0)),
                Err(ControlError::NotRunning(_)) => Ok(u64::MAX),
                Err(error) => Err(error),
            },
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
pub struct Report {
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
    pub counts: BTreeMap<Verdict, u64>,
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

impl Report {
    /// How many of a kind.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.counts.get(&verdict).copied().unwrap_or(0)
    }

    /// Both hold the same, as far as the journal's passings are not still on their way ([`Report::on_their_way`]).
    pub fn is_equal(&self) -> bool {
        let differences = self.counts.iter().filter(|(verdict, _)| **verdict != Verdict::NotYetSent);
        differences.map(|(_, count)| count).sum::<u64>() == 0 && self.older == 0 && self.unnumbered == 0
    }

    /// Passings numbered and not settled, and reads that wait for a number in this session.
    pub fn on_their_way(&self) -> u64 {
        self.count(Verdict::NotYetSent) + self.waiting
    }

    /// What a repair would send again: of the differences kept.
    pub fn missing(&self) -> Vec<Item> {
        let missing = self.findings.iter().filter(|finding| finding.verdict == Verdict::Missing);
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
            missing: self.count(Verdict::Missing),
            foreign: self.count(Verdict::Foreign) + self.unnumbered,
            different: self.count(Verdict::Different) + self.count(Verdict::Elsewhere),
            duplicated: self.count(Verdict::Duplicated),
            not_yet_sent: self.on_their_way(),
            set_aside: self.count(Verdict::SetAside),
        }
    }
}

/// Compares a session.
///
/// # Errors
/// [`AuditError`]: nothing can be said then.
pub async fn audit(subject: &Subject, client: &Client, head: &Head) -> Result<Report, AuditError> {
    let durable = head.durable().await?;
    let index = read_index(subject, durable).await?;
    let active = client.active_session(&subject.device).await.map_err(AuditError::Cloud)?;
    let session = match (&subject.session, &active) {
        (Some(token), Some(active)) if token.len() >= 6 && active.token.ends_with(token.as_str()) => {
            index.find(&active.token).cloned().unwrap_or_else(|| InLog::nothing(&active.token))
        }
        (Some(token), _) => index.find(token).cloned().ok_or_else(|| AuditError::NoSuchSession(token.clone()))?,
        (None, Some(active)) => index.find(&active.token).cloned().unwrap_or_else(|| InLog::nothing(&active.token)),
        (None, None) => {
            index.sessions.iter().rev().find(|session| session.numbered).cloned().ok_or(AuditError::NoSession)?
        }
    };
    let is_active = active.as_ref().is_some_and(|active| active.token == session.token);
    let numbered = || ours::numbered(&subject.data_dir, &subject.device, &session, durable).map_err(AuditError::Log);
    let cloud = InCloud::new(client, &session.token, subject.rest);
    let mut walk = Walk::begin(numbered()?, session.top, &cloud).await?;
    let (mut seen, mut merged) = explained(subject, head, &session, &walk).await?;
    if seen.is_doubtful() {
        tokio::time::sleep(subject.lag).await;
        walk.again(numbered()?, &cloud).await?;
        (seen, merged) = explained(subject, head, &session, &walk).await?;
    }
    let older = drop_older(&mut seen.findings, session.older);
    let waiting = if is_active { waiting(subject, index.clone(), durable).await? } else { 0 };
    let mut counts = seen.beyond;
    if is_active && !index.parked.is_empty() {
        *counts.entry(Verdict::SetAside).or_default() += index.parked.len() as u64;
    }
    for finding in &seen.findings {
        *counts.entry(finding.verdict).or_default() += 1;
    }
    Ok(Report {
        device: subject.device.clone(),
        alias: active.filter(|_| is_active).and_then(|active| active.alias).or(session.alias),
        active: is_active,
        unknown: cloud.is_unknown(),
        token: session.token.clone(),
        checked: seen.checked,
        equal: seen.equal,
        merged,
        counts,
        waiting,
        older,
        unnumbered: seen.unnumbered,
        damaged: index.damaged,
        findings: seen.findings,
    })
}

async fn read_index(subject: &Subject, durable: u64) -> Result<Index, AuditError> {
    let (data_dir, device) = (subject.data_dir.clone(), subject.device.clone());
    let index = blocking(move || ours::index(&data_dir, &device, durable)).await?;
    index.ok_or_else(|| AuditError::NoJournal(subject.data_dir.clone()))
}

/// What was seen, after a look through the journal as it is now; and how many of the missing the cloud holds under another
/// number of ours.
async fn explained(subject: &Subject, head: &Head, before: &InLog, walk: &Walk) -> Result<(Seen, u64), AuditError> {
    let all = walk.seen(true);
    if !Explain::needed(&all.findings) {
        return Ok((all, 0));
    }
    let durable = head.durable().await?;
    let index = read_index(subject, durable).await?;
    let session = index.find(&before.token).cloned().unwrap_or_else(|| InLog::nothing(&before.token));
    // Of what is only counted nobody can say any more whether it was numbered since.
    let mut seen = if session.top > before.top { walk.seen(false) } else { all };
    let findings = std::mem::take(&mut seen.findings);
    let (data_dir, device) = (subject.data_dir.clone(), subject.device.clone());
    let (findings, merged) = blocking(move || {
        let mut look = Explain::new(findings);
        for ours in ours::numbered(&data_dir, &device, &session, durable)? {
            look.look(&ours?);
        }
        Ok(look.finish())
    })
    .await?;
    Ok((Seen { findings, ..seen }, merged))
}

async fn waiting(subject: &Subject, index: Index, durable: u64) -> Result<u64, AuditError> {
    let (data_dir, decoders) = (subject.data_dir.clone(), subject.decoders.clone());
    blocking(move || index.waiting(&data_dir, &decoders, durable)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, AuditError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("a task of it ended"))).map_err(AuditError::Log)
}

/// Takes out what is only foreign because the log does not go back so far, and counts it.
fn drop_older(findings: &mut Vec<Finding>, older: u64) -> u64 {
    let all = findings.len();
    let is_older =
        |finding: &Finding| finding.verdict == Verdict::Foreign && finding.num().is_some_and(|num| num < older);
    findings.retain(|finding| !is_older(finding));
    (all - findings.len()) as u64
}
