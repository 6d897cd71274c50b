//! What the daemon does automatically: it audits each session when it is over. When a command asks
//! for it, it sends the missing passings again. There is one task for each device beside the
//! uplink, and only the uplink sends passings.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::adopt::{Adopted, adopt};
use super::report::{AuditError, AuditReport, Head, Subject};
use super::session::audit;
use super::text::summary_in_words;
use crate::cloud::rufus::{CallError, Client};
use crate::cloud::uplink::{RESEND_MAX, Resend, SessionProgress};
use crate::journal::{Audited, Journal, SessionAudit, UploadEvent, UploadItem};
use crate::model::shown::ShownIn;
use crate::model::text::tail;
use crate::status::{AuditStatus, Board, ProblemCode};

/// Least time between two automatic audits of a device.
const APART: Duration = Duration::from_secs(30);
/// Longest wait after several automatic audits in a row without a result.
const APART_MAX: Duration = Duration::from_secs(600);
/// Least wait after the cloud refused the key or the device.
const APART_REFUSED: Duration = Duration::from_secs(180);
/// How long one batch that is sent again may take until it is settled.
const RESEND_TIME: Duration = Duration::from_secs(300);

/// Result of a repair.
#[derive(Debug)]
pub struct Repaired {
    /// Passings that the repair settled: sent, found in the cloud, or set aside.
    pub resent: u64,
    /// Why the repair stopped early.
    pub refused: Option<String>,
    /// The last audit of the repair.
    pub report: AuditReport,
}

/// Which passings of a device are sent again, if the cloud does not have them. Without a limit, all
/// are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResendRange {
    /// The session: its token, or the end of it. Without it the active one, else the one that
    /// passings were sent to last.
    #[serde(default)]
    pub session: Option<String>,
    /// The first and the last number in the session.
    #[serde(default)]
    pub numbers: Option<(u64, u64)>,
    /// Only passings made at this time or later.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Only passings made before this time.
    #[serde(default)]
    pub to: Option<Timestamp>,
}

impl ResendRange {
    /// The whole session.
    pub(crate) fn session(session: String) -> Self {
        Self { session: Some(session), ..Self::default() }
    }

    /// Which passings these are, such as `numbers 5 to 9`.
    pub(crate) fn in_words(&self) -> String {
        let zone = ShownIn::of_the_box();
        match (self.numbers, self.from, self.to) {
            (Some((first, last)), ..) => format!("numbers {first} to {last}"),
            (None, Some(from), Some(to)) => format!("with a time from {} to {}", zone.second(from), zone.second(to)),
            (None, Some(from), None) => format!("with a time from {} on", zone.second(from)),
            (None, None, Some(to)) => format!("with a time before {}", zone.second(to)),
            (None, None, None) => "all of the session".to_owned(),
        }
    }

    fn has(&self, item: &UploadItem) -> bool {
        self.numbers.is_none_or(|(first, last)| (first..=last).contains(&item.num))
            && self.from.is_none_or(|from| item.time_ms >= from.as_millisecond())
            && self.to.is_none_or(|to| item.time_ms < to.as_millisecond())
    }
}

/// Sends the missing passings of a range again through the uplink behind `resends`, and audits again,
/// until none of them is missing or a repair brings no progress.
///
/// # Errors
/// The audit failed.
pub(crate) async fn repair(
    subject: &Subject,
    client: &Client,
    head: &Head,
    range: &ResendRange,
    resends: &mpsc::Sender<Resend>,
) -> Result<Repaired, AuditError> {
    let (mut resent, mut before) = (0, usize::MAX);
    loop {
        let report = audit(subject, client, head).await?;
        let mut missing = report.missing();
        missing.retain(|item| range.has(item));
        let ended = |refused: Option<String>, report| Ok(Repaired { resent, refused, report });
        if missing.is_empty() {
            return ended(None, report);
        }
        if !report.active {
            return ended(Some("the session is closed: a closed session takes no passings".into()), report);
        }
        if missing.len() >= before {
            return ended(Some("the cloud takes them and still does not hold them".into()), report);
        }
        before = missing.len();
        for items in missing.chunks(RESEND_MAX) {
            let (done, settled) = oneshot::channel();
            let resend = Resend { token: report.token.clone(), items: items.to_vec(), done };
            let sending = async {
                resends.send(resend).await.ok()?;
                settled.await.ok()
            };
            match timeout(RESEND_TIME, sending).await {
                Ok(Some(Ok(()))) => resent += items.len() as u64,
                Ok(Some(Err(why))) => return Ok(Repaired { resent, refused: Some(why), report }),
                Ok(None) => return Ok(Repaired { resent, refused: Some("passbridge is stopping".into()), report }),
                Err(_) => {
                    let why =
                        "they are in flight and not settled yet; the upload goes on with them by itself".to_owned();
                    return Ok(Repaired { resent, refused: Some(why), report });
                }
            }
        }
    }
}

/// The JSON answer of the daemon.
impl From<&Repaired> for serde_json::Value {
    fn from(repaired: &Repaired) -> Self {
        serde_json::json!({ "resent": repaired.resent, "refused": repaired.refused, "equal": repaired.report.is_equal() })
    }
}

/// A request from a command.
#[derive(Debug)]
pub(crate) enum Order {
    /// Repair a session, or a range of it.
    Repair {
        /// What is sent again.
        range: ResendRange,
        /// Receives the result.
        reply: oneshot::Sender<Result<Repaired, String>>,
    },
    /// Move the passings of another device to this one.
    Adopt {
        /// The other device.
        from: String,
        /// Receives the result.
        reply: oneshot::Sender<Result<Adopted, String>>,
    },
    /// An audit was made outside the daemon.
    Found {
        /// Result of the audit.
        audited: Audited,
        /// Receives a message when the result is recorded.
        reply: oneshot::Sender<()>,
    },
}

/// Audits the sessions of one device.
pub(crate) struct Keeper {
    /// Device, journal and decoders. The session in it is not used.
    pub subject: Subject,
    /// The cloud.
    pub client: Client,
    /// The journal.
    pub journal: Journal,
    /// The board that shows the results.
    pub board: Board,
    /// The session that the uplink follows.
    pub follows: watch::Receiver<SessionProgress>,
    /// The channel to the uplink.
    pub resends: mpsc::Sender<Resend>,
    /// Requests from commands.
    pub orders: mpsc::Receiver<Order>,
}

impl Keeper {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        self.journal.serving().await;
        self.show_last();
        let (mut row, mut not_before) = (0, Instant::now());
        loop {
            let due = self.due();
            let woken = tokio::select! {
                order = self.orders.recv() => order,
                changed = self.follows.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return std::future::pending().await, // the uplink ended, so the process is stopping
                },
                () = sleep_until(not_before), if due.is_some() => {
                    if let Some(token) = due {
                        let done = self.audit(&token).await;
                        row = if matches!(done, Ok(true)) { 0 } else { row + 1 };
                        not_before = Instant::now() + wait_after(row, done.err().as_ref());
                    }
                    None
                }
            };
            match woken {
                Some(Order::Repair { range, reply }) => {
                    let _ = reply.send(self.repair(&range).await); // the command may have ended
                }
                Some(Order::Adopt { from, reply }) => {
                    let _ = reply.send(self.adopt(&from).await);
                }
                Some(Order::Found { audited, reply }) => {
                    // A session without numbered passings is not remembered.
                    if self.journal.audits(&self.subject.device).iter().any(|(known, _)| known.token == audited.token) {
                        self.keep_result(audited, None).await;
                    }
                    let _ = reply.send(());
                }
                None => {}
            }
        }
    }

    /// Returns the oldest session that is over and was not audited since then.
    fn due(&self) -> Option<Box<str>> {
        let follows = self.follows.borrow();
        let over = |token: &str| {
            follows.known && follows.active.as_deref() != Some(token) && follows.busy.as_deref() != Some(token)
        };
        let audits = self.journal.audits(&self.subject.device);
        audits.into_iter().find(|(audit, _)| audit.due && over(&audit.token)).map(|(audit, _)| audit.token)
    }

    /// Audits a session that seems to be over. `false`: the session is active after all, so an
    /// earlier answer about it was wrong.
    async fn audit(&self, token: &str) -> Result<bool, AuditError> {
        let active = self.client.active_session(&self.subject.device).await;
        let done = match active {
            Ok(Some(active)) if *active.token == *token => return Ok(false),
            Ok(_) => {
                let subject = Subject { session: Some(token.to_owned()), ..self.subject() };
                audit(&subject, &self.client, &Head::Own(self.journal.clone())).await
            }
            Err(error) => Err(AuditError::Cloud(error)),
        };
        match done {
            Ok(report) => {
                self.keep_result(report.summary(self.board.now()), report.alias.as_deref()).await;
                Ok(!report.active)
            }
            Err(error) => {
                let text = format!(
                    "the session {} is over and could not be compared with the cloud yet: {error}. It is \
                                    tried again by itself",
                    tail(token)
                );
                self.board.raise(ProblemCode::AuditWaits, &self.about(token), text);
                Err(error)
            }
        }
    }

    /// The subject, with the measured lag of this cloud if that is longer than the configured one.
    fn subject(&self) -> Subject {
        let lag = self.subject.lag.max(self.follows.borrow().lag);
        Subject { lag, ..self.subject.clone() }
    }

    /// Subject of the problems of a session.
    fn about(&self, token: &str) -> String {
        format!("{} …{}", self.subject.device, tail(token))
    }

    async fn repair(&self, range: &ResendRange) -> Result<Repaired, String> {
        let subject = Subject { session: range.session.clone(), ..self.subject() };
        let head = Head::Own(self.journal.clone());
        let repaired = repair(&subject, &self.client, &head, range, &self.resends).await;
        let repaired = repaired.map_err(|error| error.to_string())?;
        self.keep_result(repaired.report.summary(self.board.now()), repaired.report.alias.as_deref()).await;
        Ok(repaired)
    }

    async fn adopt(&self, from: &str) -> Result<Adopted, String> {
        let Subject { device, lag, rest, .. } = &self.subject();
        let adopted = adopt(&self.journal, &self.client, (from, device), (*lag, *rest)).await;
        let adopted = adopted.map_err(|error| error.to_string())?;
        tracing::info!("{}", adopted.in_words(from, device));
        Ok(adopted)
    }

    async fn keep_result(&self, audited: Audited, alias: Option<&str>) {
        let alias = alias.map(Into::into).or_else(|| self.alias(&audited.token));
        let text = summary_in_words(&audited, alias.as_deref());
        tracing::info!("audit: {text}");
        self.board.clear(ProblemCode::AuditWaits, &self.about(&audited.token));
        self.show(&audited, alias.as_deref());
        // If the journal closes meanwhile, the audit is made again later.
        if self.journal.note("audit", &text).await.is_ok() {
            let _ = self.journal.record(UploadEvent::Audited(audited)).await;
        }
    }

    fn alias(&self, token: &str) -> Option<Box<str>> {
        let audits = self.journal.audits(&self.subject.device);
        audits.into_iter().find(|(audit, _)| *audit.token == *token)?.1
    }

    /// Shows the audits that the journal remembers.
    fn show_last(&self) {
        let audits = self.journal.audits(&self.subject.device);
        let last = audits.into_iter().filter_map(|(SessionAudit { last, .. }, alias)| Some((last?, alias)));
        let mut last: Vec<_> = last.collect();
        last.sort_by_key(|(audited, _)| audited.at);
        for (audited, alias) in last {
            self.show(&audited, alias.as_deref());
        }
    }

    fn show(&self, audited: &Audited, alias: Option<&str>) {
        let device = &self.subject.device;
        self.board.upload(device, |upload| upload.audit = Some(shown(audited, alias)));
        if audited.equal {
            return self.board.clear(ProblemCode::AuditDiffers, &self.about(&audited.token));
        }
        let tail = tail(&audited.token);
        let text = format!(
            "{}. What differs is told by: passbridge audit --device {device} --session {tail}",
            summary_in_words(audited, alias)
        );
        self.board.raise(ProblemCode::AuditDiffers, &self.about(&audited.token), text);
    }
}

/// Returns the wait until the next automatic audit, after `row` audits in a row without a result.
fn wait_after(row: u32, error: Option<&AuditError>) -> Duration {
    let wait = (APART * 2u32.saturating_pow(row.min(8))).min(APART_MAX);
    match error {
        Some(AuditError::Cloud(CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. })) => {
            wait.max(APART_REFUSED)
        }
        Some(AuditError::Cloud(error)) => wait.max(error.retry_after().unwrap_or_default()),
        _ => wait,
    }
}

/// The audit as the board shows it.
fn shown(audited: &Audited, alias: Option<&str>) -> AuditStatus {
    AuditStatus {
        token_tail: tail(&audited.token),
        alias: alias.map(str::to_owned),
        at: audited.at,
        equal: audited.equal,
        checked: audited.checked,
        missing: audited.missing,
        foreign: audited.foreign,
        different: audited.different,
        duplicated: audited.duplicated,
        not_yet_sent: audited.not_yet_sent,
        set_aside: audited.set_aside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audits_that_nobody_asked_for_are_at_least_thirty_seconds_apart_and_rarer_when_they_come_to_nothing() {
        let waits: Vec<u64> = (0..8).map(|row| wait_after(row, None).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600, 600]);
        let refused = AuditError::Cloud(CallError::DeviceUnknown { answer: "".into() });
        assert_eq!(wait_after(1, Some(&refused)).as_secs(), 180);
        assert_eq!(wait_after(u32::MAX, Some(&AuditError::Endless)).as_secs(), 600);
    }
}
