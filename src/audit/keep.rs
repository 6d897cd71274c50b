//! What the daemon does by itself: each session is audited when it is over, and the missing are sent again when a command
//! asks for it. One task per device, beside the uplink, which alone sends anything.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::text::summary_in_words;
use super::{AuditError, Head, Report, Subject, audit};
use crate::journal::{Audited, Journal, SessionAudit, UploadEvent};
use crate::retry::Retry;
use crate::rufus::{CallError, Client};
use crate::status::{AuditStatus, Board};
use crate::uplink::{Follows, RESEND_MAX, Resend, tail};

/// First wait after an audit that got no answer.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Wait after the cloud refused the key or the device.
const RETRY_REFUSED: Duration = Duration::from_secs(180);
/// How long one batch that goes again may take until it is settled.
const RESEND_TIME: Duration = Duration::from_secs(300);

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// Passings that were settled by it: sent, found to be there, or set aside.
    pub resent: u64,
    /// Why it did not go on.
    pub refused: Option<String>,
    /// The audit after it.
    pub report: Report,
}

/// Sends what is missing again through the uplink that `resends` leads to, and audits again, until nothing is missing or
/// nothing helps.
///
/// # Errors
/// No audit could be made.
pub async fn repair(
    subject: &Subject,
    client: &Client,
    head: &Head,
    resends: &mpsc::Sender<Resend>,
) -> Result<Repaired, AuditError> {
    let (mut resent, mut before) = (0, usize::MAX);
    loop {
        let report = audit(subject, client, head).await?;
        let missing = report.missing();
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

/// A repair that a command asks for.
#[derive(Debug)]
pub struct Order {
    /// Session, as in [`Subject`].
    pub session: String,
    /// Told what came of it.
    pub reply: oneshot::Sender<Result<Repaired, String>>,
}

/// Audits the sessions of one device.
pub struct Keeper {
    /// Device, journal, decoders; its session is not used.
    pub subject: Subject,
    /// The cloud.
    pub client: Client,
    /// The journal.
    pub journal: Journal,
    /// Where results are shown.
    pub board: Board,
    /// What the uplink follows.
    pub follows: watch::Receiver<Follows>,
    /// The way to the uplink.
    pub resends: mpsc::Sender<Resend>,
    /// Repairs asked for.
    pub orders: mpsc::Receiver<Order>,
    /// Longest wait between two tries.
    pub retry_max: Duration,
}

impl Keeper {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        self.journal.serving().await;
        self.show_last();
        let mut retry = Retry::new(RETRY_FIRST, self.retry_max);
        let mut rng = fastrand::Rng::new();
        let mut not_before = Instant::now();
        loop {
            let due = self.due();
            let woken = tokio::select! {
                order = self.orders.recv() => order,
                changed = self.follows.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return std::future::pending().await, // the uplink is gone: the process is stopping
                },
                () = sleep_until(not_before), if due.is_some() => {
                    if let Some(token) = due {
                        match self.audit(&token).await {
                            Ok(()) => retry.reset(),
                            Err(error) => not_before = Instant::now() + wait_after(&error, &mut retry, &mut rng),
                        }
                    }
                    None
                }
            };
            if let Some(Order { session, reply }) = woken {
                let _ = reply.send(self.repair(session).await); // the command may have gone
            }
        }
    }

    /// The oldest session that is over and was not audited since.
    fn due(&self) -> Option<Box<str>> {
        let follows = self.follows.borrow();
        let over = |token: &str| {
            follows.known && follows.active.as_deref() != Some(token) && follows.busy.as_deref() != Some(token)
        };
        let audits = self.journal.audits(&self.subject.device);
        audits.into_iter().find(|(audit, _)| audit.due && over(&audit.token)).map(|(audit, _)| audit.token)
    }

    async fn audit(&self, token: &str) -> Result<(), AuditError> {
        let subject = Subject { session: Some(token.to_owned()), ..self.subject.clone() };
        let done = audit(&subject, &self.client, &Head::Own(self.journal.clone())).await;
        match done {
            Ok(report) => {
                self.board.clear("audit_waits", &self.subject.device);
                self.keep_result(&report).await;
                Ok(())
            }
            Err(error) => {
                let text = format!(
                    "the session {} is over and could not be compared with the cloud yet: {error}. It is \
                                    tried again by itself",
                    tail(token)
                );
                self.board.raise("audit_waits", &self.subject.device, text);
                Err(error)
            }
        }
    }

    async fn repair(&self, session: String) -> Result<Repaired, String> {
        let subject = Subject { session: Some(session), ..self.subject.clone() };
        let head = Head::Own(self.journal.clone());
        let repaired = repair(&subject, &self.client, &head, &self.resends).await.map_err(|error| error.to_string())?;
        self.keep_result(&repaired.report).await;
        Ok(repaired)
    }

    async fn keep_result(&self, report: &Report) {
        let audited = report.summary(self.board.now());
        let text = summary_in_words(&audited, report.alias.as_deref());
        tracing::info!("audit: {text}");
        self.show(&audited, report.alias.as_deref());
        // If the journal closes meanwhile the audit is merely made again.
        if self.journal.note("audit", &text).await.is_ok() {
            let _ = self.journal.record(UploadEvent::Audited(audited)).await;
        }
    }

    /// What the journal remembers of the last audit.
    fn show_last(&self) {
        let audits = self.journal.audits(&self.subject.device);
        let last = audits.into_iter().filter_map(|(SessionAudit { last, .. }, alias)| Some((last?, alias)));
        if let Some((audited, alias)) = last.max_by_key(|(audited, _)| audited.at) {
            self.show(&audited, alias.as_deref());
        }
    }

    fn show(&self, audited: &Audited, alias: Option<&str>) {
        let device = &self.subject.device;
        self.board.upload(device, |upload| upload.audit = Some(AuditStatus::new(audited, alias)));
        if audited.equal {
            return self.board.clear("audit_differs", device);
        }
        let tail = tail(&audited.token);
        let text = format!(
            "{}. What differs is told by: passbridge audit --device {device} --session {tail}",
            summary_in_words(audited, alias)
        );
        self.board.raise("audit_differs", device, text);
    }
}

fn wait_after(error: &AuditError, retry: &mut Retry, rng: &mut fastrand::Rng) -> Duration {
    match error {
        AuditError::Cloud(CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. }) => RETRY_REFUSED,
        AuditError::Cloud(error) => retry.next(rng, error.retry_after()),
        _ => retry.next(rng, None),
    }
}
