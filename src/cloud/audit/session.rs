//! The audit of one session.

use std::io;

use super::ask::{InCloud, Walk};
use super::compare::{AuditVerdict, Compared, Explain, Finding};
use super::ours::{self, InLog, Index};
use super::report::{AuditError, AuditReport, Head, Subject};
use crate::cloud::rufus::Client;

/// Compares a session with the cloud.
///
/// # Errors
/// [`AuditError`]: there is no result then.
pub async fn audit(subject: &Subject, client: &Client, head: &Head) -> Result<AuditReport, AuditError> {
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
    if is_active && !index.failing.is_empty() {
        *counts.entry(AuditVerdict::SetAside).or_default() += index.failing.len() as u64;
    }
    for finding in &seen.findings {
        *counts.entry(finding.verdict).or_default() += 1;
    }
    Ok(AuditReport {
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

/// Returns what was seen, after another look through the journal, and how many of the missing
/// passings the cloud holds under another of our numbers.
async fn explained(subject: &Subject, head: &Head, before: &InLog, walk: &Walk) -> Result<(Compared, u64), AuditError> {
    let all = walk.seen(true);
    if !Explain::needed(&all.findings) {
        return Ok((all, 0));
    }
    let durable = head.durable().await?;
    let index = read_index(subject, durable).await?;
    let session = index.find(&before.token).cloned().unwrap_or_else(|| InLog::nothing(&before.token));
    // The differences that were only counted cannot be checked against numbers that were given
    // meanwhile.
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
    Ok((Compared { findings, ..seen }, merged))
}

async fn waiting(subject: &Subject, index: Index, durable: u64) -> Result<u64, AuditError> {
    let (data_dir, decoders) = (subject.data_dir.clone(), subject.decoders.clone());
    blocking(move || index.waiting(&data_dir, &decoders, durable)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, AuditError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("a task of it ended"))).map_err(AuditError::Log)
}

/// Removes the findings that are foreign only because the log does not reach back far enough, and
/// counts them.
fn drop_older(findings: &mut Vec<Finding>, older: u64) -> u64 {
    let all = findings.len();
    let is_older =
        |finding: &Finding| finding.verdict == AuditVerdict::Foreign && finding.num().is_some_and(|num| num < older);
    findings.retain(|finding| !is_older(finding));
    (all - findings.len()) as u64
}
