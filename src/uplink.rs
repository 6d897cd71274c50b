//! The uplink: batches, numbers, retry, session. One task per device brings every passing into the device's active
//! session exactly once, in order.
//!
//! What must hold:
//! 1. **Numbered once.** A batch is durable, with its numbers, before the first POST that carries any of it. One batch
//!    is in flight per device and one POST at a time; numbers rise strictly in upload order.
//! 2. **Unknown is not failed.** After a timeout, a cut, a 5xx or an answer that is none, the passings of that POST *may*
//!    be in the cloud. They keep their numbers. The cloud is asked by number range which of them it holds (number,
//!    chip and time must agree); those it holds are settled, those it lacks go again. A cloud that has *shown* that it
//!    detects duplicates (it counted some; the mere field proves nothing) gets the same passings again without asking.
//!    A batch found in flight at the start is unknown as a whole.
//! 3. **Renumbered only what is known not to be there**: never posted, or asked for since. When the session closes, the
//!    old one (closed, still readable) is asked about everything that was ever posted and not confirmed, once more and
//!    after the end: only then the answer is final. The rest is released for the next session. A session counts as
//!    closed when a POST says so *and* the active one is another or none, or when another is active (a device has one).
//!    If the cloud does not know the old session at all, it holds nothing of it. One is created only where the
//!    configuration says so, and only after two answers in a row that there is none: a new one closes the running one.
//! 4. **A refused passing waits for nobody and nobody for it.** 400 halves the part until the refused one stands alone;
//!    it is set aside with the answer. One whose fate was unknown is first asked for: it may be refused *because* it
//!    arrived. After five single refusals in a row without a success in between, every further one waits for a growing
//!    backoff and a problem says so: still only after its own refusal is a passing set aside, but a cloud that refuses
//!    everything gets one passing a minute, not the backlog.
//! 5. **Counts are checked.** Fewer counted than sent: asked, the missing go again; after three rounds without progress
//!    they are set aside. More duplicates than were ever sent before: asked, for the number may be somebody else's.
//! 6. **Somebody else's number** is never overwritten and never taken for ours: the passing is set aside, and what is
//!    not sent yet is numbered anew above the other sender's.
//! 7. **What the log forgot is asked for.** After lines of the log were lost (the journal says so), the sessions of that time
//!    are asked for all they hold before a new number is given: a read found there is recorded, not sent (`recall`). So it
//!    is when the first session that a process joins holds numbers that this box does not know to have given.
//! 8. **Patient**: backoff with jitter up to `retry_max`, Retry-After as a minimum, a refused key or device is tested
//!    every three minutes without POSTs. No wall clock in any timer.
//!
//! What limits it: a POST that timed out here may still be under way inside the cloud and be applied *after* the cloud
//! was asked. The whole answer is waited for as long as the configured timeout, a second at least lies between the end
//! of a POST and the question, and a cloud that detects duplicates by number is immune. With a key that may not read,
//! nothing can be asked: then the passings go again, and a problem says what that means. A passing at which the cloud
//! itself fails (5xx every time) is tried for ever, and named in a problem: that it is at fault cannot be told from a
//! cloud that is down.
//!
//! How: [`machine`] decides, without sockets, journal or clock; [`run`] is the thin driver that performs what it says.
//! `Accepted` is recorded without waiting, so it shares a group commit with the next batch: if it is lost, its part is
//! merely asked about again. Everything else is durable before the next action.
//!
//! Rejected: numbering at the POST (a crash between the two renumbers); several POSTs in flight (a pulling program
//! reads on from the highest number and misses the lower one that arrives later); a transaction id (the cloud's schema
//! has no field for it).

#[cfg(test)]
mod history;
mod inquiry;
pub mod machine;
#[cfg(test)]
mod model;
mod recall;
mod sizing;
#[cfg(test)]
mod tests;
mod work;

use std::future::Future;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesOrdered, StreamExt};
use jiff::tz::TimeZone;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chip::Seq;
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, Durable, Item, Journal, JournalError, Pending, PendingRead, UploadEvent};
use crate::passing::Fields;
use crate::rufus::{CallError, Client, Inserted, Passing};
use crate::status::{Board, SessionStatus, UploadState};
use machine::{Action, Input, Machine, Report};

/// How long a POST may still take when the process is stopping.
const GRACE: Duration = Duration::from_secs(8);
/// Acceptances handed to the journal and not yet durable.
const UNSETTLED: usize = 64;

/// One device's uplink.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Device in the cloud.
    pub device: Box<str>,
    /// Decoders whose reads go there.
    pub decoders: Vec<Box<str>>,
    /// Name of the box, for a session it creates.
    pub name: String,
    /// How the session is found.
    pub session: SessionMode,
    /// Sizes and times.
    pub upload: UploadConfig,
}

/// Why an uplink ended without being stopped. The process should end too.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Nothing can be made durable.
    #[error("the uplink of device {device} cannot go on: {source}")]
    Journal {
        /// Device.
        device: Box<str>,
        /// What the journal says.
        source: JournalError,
    },
}

/// Uploads the reads of one device until `stop`, then finishes the POST in flight and returns. `fields` says what a
/// read becomes; it is called for each read when its batch is formed, and may be called again for one that is not.
///
/// # Errors
/// Only when the journal cannot keep any more. Everything the network or the cloud can do is waited out.
pub async fn run<F>(
    config: UplinkConfig,
    client: Client,
    journal: Journal,
    board: Board,
    fields: F,
    stop: CancellationToken,
) -> Result<(), UplinkError>
where
    F: FnMut(&PendingRead) -> Fields + Send,
{
    board.upload(&config.device, |_| {}); // shown from the start
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = journal.serving() => {}
    }
    let state = journal.device(&config.device);
    let machine = Machine::new(&config.device, config.session, config.upload, state, fastrand::u64(..));
    let recorder = Recorder { journal: &journal, waiting: FuturesOrdered::new() };
    let display = Display { board: &board, shown: None };
    let device = config.device.clone();
    let mut driver =
        Driver { config, client, machine, recorder, display, fields, stop: stop.clone(), start: Instant::now() };
    match driver.run(&journal).await {
        Err(JournalError::Closed) if stop.is_cancelled() => Ok(()),
        Err(source) => Err(UplinkError::Journal { device, source }),
        Ok(()) => Ok(()),
    }
}

struct Driver<'a, F> {
    config: UplinkConfig,
    client: Client,
    machine: Machine,
    recorder: Recorder<'a>,
    display: Display<'a>,
    fields: F,
    stop: CancellationToken,
    start: Instant,
}

impl<F: FnMut(&PendingRead) -> Fields + Send> Driver<'_, F> {
    async fn run(&mut self, journal: &Journal) -> Result<(), JournalError> {
        let mut changed = journal.changed();
        loop {
            let action = self.machine.next(self.start.elapsed());
            self.display.show(&self.config.device, self.machine.report());
            let input = match action {
                Action::Record(event) => {
                    self.recorder.record(event).await?;
                    continue;
                }
                _ if self.stop.is_cancelled() => break,
                Action::Wait { until, reads } => {
                    self.recorder.settle().await?;
                    tokio::select! {
                        () = self.stop.cancelled() => break,
                        () = tokio::time::sleep_until(self.start + until) => continue,
                        kept = changed.changed(), if reads => match kept {
                            Ok(()) => Input::Noticed,
                            Err(_) => return Err(JournalError::Closed),
                        },
                    }
                }
                Action::Form { token, next, limit } => {
                    changed.borrow_and_update();
                    let pending = journal.pending(&self.config.device, &self.config.decoders, limit);
                    Input::Formed(form(&self.config, &token, next, pending, &mut self.fields))
                }
                call => match self.call(call).await {
                    Some(input) => input,
                    None => break,
                },
            };
            self.machine.put(self.start.elapsed(), input);
        }
        self.recorder.settle().await
    }

    /// Performs a call; `None`: the process is stopping and it was given up.
    async fn call(&mut self, action: Action) -> Option<Input> {
        let (client, device, stop) = (&self.client, &*self.config.device, &self.stop);
        let given_up = Duration::ZERO;
        Some(match action {
            Action::AskActive => Input::Active(unless_stopped(stop, given_up, client.active_session(device)).await?),
            Action::AskSession { token } => {
                Input::Session(unless_stopped(stop, given_up, client.session(&token)).await?)
            }
            Action::AskHeld { token, first, last, page } => {
                Input::Held(unless_stopped(stop, given_up, client.held(&token, first, last, page)).await?)
            }
            Action::Create => {
                let today = TimeZone::system().to_datetime(self.display.board.now()).date();
                let alias = format!("{} {today}", self.config.name);
                Input::Created(unless_stopped(stop, GRACE, client.create_session(device, &alias)).await?)
            }
            Action::Post { token, items } => {
                Input::Posted(unless_stopped(stop, GRACE, post(client, &token, &items)).await?)
            }
            Action::Wait { .. } | Action::Form { .. } | Action::Record(_) => return None, // no calls
        })
    }
}

/// The answer of a call, which gets `grace` from when the process stops.
async fn unless_stopped<T>(stop: &CancellationToken, grace: Duration, call: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(call);
    tokio::select! {
        biased;
        done = &mut call => return Some(done),
        () = stop.cancelled() => {}
    }
    tokio::time::timeout(grace, call).await.ok()
}

async fn post(client: &Client, token: &str, items: &[Item]) -> Result<Inserted, CallError> {
    let passings: Vec<_> =
        items.iter().map(|item| Passing::new(item.num, item.time_ms, &item.bib, &item.chip)).collect();
    client.insert(token, &passings).await
}

/// The next batch: released passings first, then reads, numbered from `next`. `None`: nothing is pending.
fn form(
    config: &UplinkConfig,
    token: &str,
    next: u64,
    pending: Pending,
    fields: &mut impl FnMut(&PendingRead) -> Fields,
) -> Option<Batch> {
    if pending.is_empty() {
        return None;
    }
    let returned = pending.returned.into_iter().map(|item| (item.seq, item.time_ms, item.bib, item.chip));
    let reads = pending.reads.iter().map(|read| {
        let Fields { time_ms, bib, chip } = fields(read);
        (read.seq, time_ms, if bib.is_empty() { chip.clone() } else { bib }, chip)
    });
    let items = returned
        .chain(reads)
        .zip(next..)
        .map(|((seq, time_ms, bib, chip), num)| Item { seq, num, time_ms, bib, chip })
        .collect();
    Some(Batch {
        device: config.device.clone(),
        session: token.into(),
        items,
        found: Vec::new(), // the machine knows
        dead: pending.dead,
        repeats: pending.repeats,
        through: pending.through,
        decoders: config.decoders.clone(),
    })
}

/// Hands events to the journal in order, and waits only where the order of things outside depends on it.
struct Recorder<'a> {
    journal: &'a Journal,
    waiting: FuturesOrdered<BoxFuture<'a, Result<Durable<Seq>, JournalError>>>, // at most UNSETTLED
}

impl Recorder<'_> {
    async fn record(&mut self, event: UploadEvent) -> Result<(), JournalError> {
        let lazy = matches!(event, UploadEvent::Accepted { .. }) && self.waiting.len() < UNSETTLED;
        self.waiting.push_back(self.journal.record(event).boxed());
        if !lazy {
            return self.settle().await;
        }
        // Polled once, so that the journal has it before anything recorded later.
        while let Some(Some(done)) = self.waiting.next().now_or_never() {
            done?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), JournalError> {
        while let Some(done) = self.waiting.next().await {
            done?;
        }
        Ok(())
    }
}

/// Keeps the board at what the machine reports.
struct Display<'a> {
    board: &'a Board,
    shown: Option<Report>,
}

impl Display<'_> {
    fn show(&mut self, device: &str, report: Report) {
        if self.shown.as_ref() == Some(&report) {
            return;
        }
        let before = self.shown.take().unwrap_or_default();
        for code in before.problems.keys().filter(|code| !report.problems.contains_key(*code)) {
            self.board.clear(code, device);
        }
        for (code, text) in report.problems.iter().filter(|(code, text)| before.problems.get(*code) != Some(*text)) {
            self.board.raise(code, device, text.clone());
        }
        if report.state != before.state || report.session != before.session {
            let session = report.session.as_ref().map_or_else(
                || "none".to_owned(),
                |(token, alias)| alias.as_deref().map_or_else(|| tail(token), str::to_owned),
            );
            let error = report.last_error.as_deref().unwrap_or("");
            match (before.state, report.state) {
                // Coming and going with every batch: only of interest when looked for.
                (UploadState::Idle, UploadState::Sending) | (UploadState::Sending, UploadState::Idle)
                    if report.session == before.session => {}
                _ => tracing::info!(device, session, error, "upload: {}", report.state.in_words()),
            }
        }
        let now = self.board.now();
        self.board.upload(device, |upload| {
            upload.state = report.state;
            upload.session = report.session.as_ref().map(|(token, alias)| SessionStatus {
                alias: alias.as_deref().map(str::to_owned),
                token_tail: tail(token),
            });
            (upload.sent, upload.duplicates) = (report.sent, report.duplicates);
            if report.accepted_posts != before.accepted_posts {
                upload.last_ok = Some(now);
            }
            upload.last_error.clone_from(&report.last_error);
        });
        self.shown = Some(report);
    }
}

/// The last six characters of a token: enough to compare, not enough to use.
fn tail(token: &str) -> String {
    let skip = token.chars().count().saturating_sub(6);
    token.chars().skip(skip).collect()
}
