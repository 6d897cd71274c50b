//! The uplink: batches, numbers, retry, session. One task per device brings every passing into the device's active
//! session exactly once, in order.
//!
//! What must hold:
//! 1. **Numbered once.** A batch is durable, with its numbers, before the first POST that carries any of it. One batch
//!    is in flight per device (but see 7) and one POST at a time; numbers rise strictly in upload order. The next number in a session is
//!    above everything that this box ever gave in it, by its own journal, whatever the cloud shows.
//! 2. **Settled by proof.** A passing counts as sent when an insert answered with a documented success that accounts for all of
//!    its part, or when a question showed its number with its chip and time. A count of duplicates proves nothing of a single
//!    passing: the cloud is asked which ones it holds. A success that counts nothing has to be seen, once a batch.
//! 3. **Unknown is not failed.** After a timeout, a cut, a 5xx or an answer that is none, the passings of that POST *may*
//!    be in the cloud. They keep their numbers, and the cloud is asked. A cloud that has *shown* that it detects duplicates
//!    (it counted what was sent to it a second time, and holds it once; the mere field proves nothing) gets the same passings again without asking. A batch found in
//!    flight at the start is unknown as a whole.
//! 4. **"Not there" is believed late** ([`fresh`]): from a whole answer that shows the newest passing known to be there, to a
//!    question that was put `settle` after the POST. Until then it is asked again.
//! 5. **Renumbered only what is known not to be there**: never posted, or asked for since. When the session closes, the
//!    old one (closed, still readable) is asked about everything that was ever posted and not confirmed, after
//!    the end: only then the answer is final. The rest is released for the next session. A session counts as
//!    closed when a POST says so *and* the active one is another or none, or when another is active (a device has one). One
//!    that was joined before ours is not believed at once: a closed session is never opened again, so that answer is an old one.
//!    A session is created only where the configuration says so, and only after the cloud said in its own documented words
//!    that there is none, twice, `create_after` apart: a new one closes the running one.
//! 6. **Somebody else's number** is left to them: ours is numbered anew above all that the session shows, further and further
//!    above while it goes on, and less and less often. Two writers in one session are a critical problem (`other_writer`). They
//!    are also looked for while everything seems well, by what the cloud holds around our newest numbers.
//! 7. **A refused passing waits for nobody and nobody for it.** 400 halves the part until the refused one stands alone;
//!    the cloud is asked for it (it may be refused *because* it arrived, or because its number is taken), and then it is set
//!    aside with the answer. After five single refusals in a row without a success in between, every further one waits for a
//!    growing backoff: a cloud that refuses everything gets one passing a minute, not the backlog. One at which the cloud itself
//!    fails while others pass is left behind: the next batch names it as still open (`Batch::still_open`) and goes on without
//!    it, its number is never used again, and known not to be there it is left out, later set aside, and tried again every
//!    hour (`machine::suspect`).
//! 8. **A refused question has other forms** (`inquiry`). Where all are refused, nothing of unknown fate is sent again
//!    unasked, and a problem says so (`cannot_ask`). One 403 is not blindness (`machine::key`).
//! 9. **What is there already is not sent** (`recall`). After lines of the log were lost, the sessions of that time are
//!    asked for all they hold before a new number is given. Reads that an earlier process left behind, and reads from a decoder's
//!    memory, are looked for by device and time: the data directory may be an older copy.
//! 10. **Patient**: backoff with jitter up to `retry_max`, Retry-After as a minimum, a refused key or device is tested
//!     after 5 s, 20 s, a minute, then every three. No wall clock in any timer. Where nobody was reached, a try costs the
//!     cloud nothing and the next one comes within 12 s: nothing else tells that the network is back. A batch of which
//!     nothing is settled for a minute is a problem of its own (`upload_stands`).
//!
//! What cannot be proved: see "What limits exactly once" in docs/exactly-once.md. In short: a request that is applied more than
//! `settle` after it was cut, in a cloud that detects no duplicates, comes twice. With a key that may not read, the word of
//! the cloud is all there is, and what it never answered waits.
//!
//! How: [`machine`] decides, without sockets, journal or clock; [`run`] is the thin driver that performs what it says.
//! `Accepted` is recorded without waiting, so it shares a group commit with the next batch: if it is lost, its part is
//! merely asked about again. Everything else is durable before the next action.
//!
//! Rejected: numbering at the POST (a crash between the two renumbers); several POSTs in flight (a pulling program
//! reads on from the highest number and misses the lower one that arrives later); a transaction id (the cloud's schema
//! has no field for it).

pub mod fresh;
#[cfg(test)]
mod history;
mod inquiry;
pub mod machine;
#[cfg(test)]
mod model;
mod pace;
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
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cloud::passing::Fields;
use crate::cloud::rufus::{CallError, Client, Inserted, OutcomeDoubt, Passing};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, Durable, Journal, JournalError, Pending, PendingRead, UploadEvent, UploadItem};
use crate::model::chip::Seq;
use crate::model::text::tail;
use crate::status::{Board, ProblemCode, SessionStatus, UploadState};
pub use machine::SessionProgress;
use machine::{Action, Formed, Input, Machine, ResendPermit, UplinkReport};

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

/// Passings of a session that an audit found missing, to be sent again under their numbers.
#[derive(Debug)]
pub struct Resend {
    /// Their session.
    pub token: Box<str>,
    /// The passings, numbers rising, at most [`RESEND_MAX`].
    pub items: Vec<UploadItem>,
    /// Told when all of them are settled (sent, found to be there, or set aside), or why they cannot be sent.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Most passings in a [`Resend`].
pub const RESEND_MAX: usize = machine::limits::BATCH_LIMIT;

/// What ties an uplink to the audits of its device.
#[derive(Debug)]
pub struct Ties {
    /// What is to be sent again; taken between two batches.
    pub resends: mpsc::Receiver<Resend>,
    /// Kept at what the uplink follows, each time it comes to rest with everything recorded.
    pub follows: watch::Sender<SessionProgress>,
    /// Changes when somebody wants the passings at which the cloud failed to be tried again now.
    pub try_again: watch::Receiver<u64>,
    /// Whether reads are uploaded; else only what was in flight is settled and what is to go again is sent.
    pub forms: bool,
}

impl Default for Ties {
    /// No audits.
    fn default() -> Self {
        let never = watch::Sender::default();
        Self {
            resends: mpsc::channel(1).1,
            follows: watch::Sender::default(),
            try_again: never.subscribe(),
            forms: true,
        }
    }
}

/// As [`run_tied`], without audits.
///
/// # Errors
/// As [`run_tied`].
pub async fn run<F>(
    config: UplinkConfig,
    client: Client,
    journal: Journal,
    board: Board,
    fields: F,
    stop: CancellationToken,
) -> Result<(), UplinkError>
where
    F: FnMut(&PendingRead) -> Option<Fields> + Send,
{
    run_tied(config, client, journal, board, fields, Ties::default(), stop).await
}

/// Uploads the reads of one device until `stop`, then finishes the POST in flight and returns. `fields` says what a
/// read becomes; it is called for each read when its batch is formed, and may be called again for one that is not.
/// A read of which it cannot say so yet (`None`) holds up what comes after it, for the order's sake, and a problem says so.
///
/// # Errors
/// Only when the journal cannot keep any more. Everything the network or the cloud can do is waited out.
pub async fn run_tied<F>(
    config: UplinkConfig,
    client: Client,
    journal: Journal,
    board: Board,
    fields: F,
    ties: Ties,
    stop: CancellationToken,
) -> Result<(), UplinkError>
where
    F: FnMut(&PendingRead) -> Option<Fields> + Send,
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
    let mut driver = Driver {
        config,
        client,
        machine,
        recorder,
        display,
        fields,
        held: None,
        again: Resender::new(ties),
        stop: stop.clone(),
        start: Instant::now(),
    };
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
    /// The read whose day is not known yet, if one holds up the rest: shown.
    held: Option<Seq>,
    again: Resender,
    stop: CancellationToken,
    start: Instant,
}

/// What is to be sent again: one request at a time.
struct Resender {
    ties: Ties,
    asked: Option<Resend>,
    doing: Option<oneshot::Sender<Result<(), String>>>,
}

impl Resender {
    fn new(ties: Ties) -> Self {
        Self { ties, asked: None, doing: None }
    }

    /// The next request, when the one before is done with; or somebody wants what was set aside to be tried.
    async fn next(&mut self) {
        let Ties { resends, try_again, .. } = &mut self.ties;
        let busy = self.asked.is_some() || self.doing.is_some();
        let resend = async {
            match if busy { None } else { resends.recv().await } {
                Some(resend) => resend,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            resend = resend => self.asked = Some(resend),
            Ok(()) = try_again.changed() => try_again.mark_changed(), // taken in by the loop
            else => std::future::pending().await,
        }
    }

    /// What was sent again is settled.
    fn is_done(&self, machine: &Machine) -> bool {
        self.doing.is_some() && !machine.is_resending()
    }

    fn answer(&mut self) {
        if let Some(done) = self.doing.take() {
            let _ = done.send(Ok(())); // whoever asked may have gone
        }
    }

    /// What the machine should take in now, if anything. Answers what cannot be sent.
    fn turn(&mut self, machine: &Machine) -> Option<Input> {
        if self.asked.is_none() && self.doing.is_none() {
            self.asked = self.ties.resends.try_recv().ok();
        }
        match machine.may_resend(&self.asked.as_ref()?.token) {
            ResendPermit::Later => None,
            ResendPermit::Never(why) => {
                let _ = self.asked.take()?.done.send(Err(why.to_owned()));
                None
            }
            ResendPermit::Now => {
                let Resend { token, items, done } = self.asked.take()?;
                self.doing = Some(done);
                Some(Input::Resend { token, items })
            }
        }
    }

    /// The uplink rests: everything it did is recorded.
    fn rest(&self, machine: &Machine) {
        let follows = machine.follows();
        self.ties.follows.send_if_modified(|known| {
            let changed = *known != follows;
            *known = follows;
            changed
        });
    }
}

impl<F: FnMut(&PendingRead) -> Option<Fields> + Send> Driver<'_, F> {
    async fn run(&mut self, journal: &Journal) -> Result<(), JournalError> {
        let mut changed = journal.changed();
        let mut keys = self.client.key_changes();
        loop {
            if keys.has_changed().unwrap_or(false) {
                keys.borrow_and_update();
                self.machine.put(self.start.elapsed(), Input::NewKey);
            }
            if self.again.ties.try_again.has_changed().unwrap_or(false) {
                self.again.ties.try_again.mark_unchanged();
                self.machine.put(self.start.elapsed(), Input::TryAgain);
            }
            if self.again.is_done(&self.machine) {
                self.recorder.settle().await?; // whoever asked reads the log next
                self.again.answer();
            }
            if let Some(input) = self.again.turn(&self.machine) {
                self.machine.put(self.start.elapsed(), input);
            }
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
                    self.again.rest(&self.machine);
                    tokio::select! {
                        () = self.stop.cancelled() => break,
                        () = self.again.next() => continue,
                        Ok(()) = keys.changed() => {
                            keys.mark_changed(); // taken in above
                            continue;
                        }
                        () = tokio::time::sleep_until(self.start + until) => continue,
                        kept = changed.changed(), if reads => match kept {
                            Ok(()) => Input::Noticed,
                            Err(_) => return Err(JournalError::Closed),
                        },
                    }
                }
                Action::Form { .. } if !self.again.ties.forms => Input::Formed(None),
                Action::Form { token, next, limit, without, again } => {
                    changed.borrow_and_update();
                    // Those left out are among the released ones, which come first.
                    let most = limit + without.len() - again.len().min(limit - 1);
                    let mut pending = journal.pending(&self.config.device, &self.config.decoders, most);
                    pending.returned.retain(|item| !without.contains(&item.seq));
                    let (batch, held) = form(&self.config, &token, next, pending, again, &mut self.fields);
                    self.tell_held(held);
                    Input::Formed(batch)
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

    /// Tells which read holds up the upload because nobody knows its day.
    fn tell_held(&mut self, held: Option<PendingRead>) {
        if self.held == held.as_ref().map(|read| read.seq) {
            return;
        }
        self.held = held.as_ref().map(|read| read.seq);
        let (board, device) = (self.display.board, &*self.config.device);
        match held {
            None => board.clear(ProblemCode::UploadWaitsForClock, device),
            Some(PendingRead { seq, decoder, chip, stamp, .. }) => {
                let message = format!(
                    "the upload waits: read {seq} of `{decoder}` (chip {chip}, stamped {stamp}) has no date, and was \
                     received while this box did not know its own. It and all after it are kept, and go by themselves \
                     as soon as the box knows the time: give it a network or a clock, or set it by hand (`date -s`)",
                );
                board.raise(ProblemCode::UploadWaitsForClock, device, message);
            }
        }
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
            Action::AskHeld { scope, page, patience } => {
                let answer = client.stored(&scope, page);
                let answer = async {
                    match patience {
                        Some(patience) => tokio::time::timeout(patience, answer).await.unwrap_or(Err(too_late())),
                        None => answer.await,
                    }
                };
                Input::Held(unless_stopped(stop, given_up, answer).await?)
            }
            Action::AskDevice => {
                Input::Device(unless_stopped(stop, given_up, client.device(device)).await?.map(|_| ()))
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

fn too_late() -> CallError {
    CallError::Unknown { why: OutcomeDoubt::Timeout, retry_after: None }
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

async fn post(client: &Client, token: &str, items: &[UploadItem]) -> Result<Inserted, CallError> {
    let passings: Vec<_> =
        items.iter().map(|item| Passing::new(item.num, item.time_ms, &item.bib, &item.chip)).collect();
    client.insert(token, &passings).await
}

/// The next batch: released passings first, then reads, then those that are tried `again`, numbered from `next`. `None`: nothing is pending. And the read at
/// which it had to end, because its fields cannot be known yet.
fn form(
    config: &UplinkConfig,
    token: &str,
    next: u64,
    mut pending: Pending,
    again: Vec<UploadItem>,
    fields: &mut impl FnMut(&PendingRead) -> Option<Fields>,
) -> (Option<Formed>, Option<PendingRead>) {
    let mut held = None;
    let stored = pending.reads.iter().filter(|read| read.replay).map(|read| read.seq).collect();
    let mut reads = Vec::with_capacity(pending.reads.len());
    for read in &pending.reads {
        let Some(Fields { time_ms, bib, chip }) = fields(read) else {
            held = Some(read.clone());
            break;
        };
        reads.push((read.seq, time_ms, if bib.is_empty() { chip.clone() } else { bib }, chip));
    }
    if let Some(read) = &held {
        pending.end_before(read.seq);
    }
    if pending.is_empty() && again.is_empty() {
        return (None, held);
    }
    let known = |item: UploadItem| (item.seq, item.time_ms, item.bib, item.chip);
    let returned = pending.returned.into_iter().map(known);
    let items = returned
        .chain(reads)
        .chain(again.into_iter().map(known))
        .zip(next..)
        .map(|((seq, time_ms, bib, chip), num)| UploadItem { seq, num, time_ms, bib, chip })
        .collect();
    let batch = Batch {
        device: config.device.clone(),
        session: token.into(),
        items,
        found: Vec::new(),      // the machine knows
        still_open: Vec::new(), // as well
        dead: pending.dead,
        duplicates: pending.duplicates,
        through: pending.through,
        decoders: config.decoders.clone(),
    };
    (Some(Formed { batch, stored }), held)
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
    shown: Option<UplinkReport>,
}

impl Display<'_> {
    fn show(&mut self, device: &str, report: UplinkReport) {
        if self.shown.as_ref() == Some(&report) {
            return;
        }
        let before = self.shown.take().unwrap_or_default();
        for code in before.problems.keys().filter(|code| !report.problems.contains_key(*code)) {
            self.board.clear(*code, device);
        }
        for (code, text) in report.problems.iter().filter(|(code, text)| before.problems.get(*code) != Some(*text)) {
            self.board.raise(*code, device, text.clone());
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
            upload.per_minute = report.per_minute;
            if report.accepted_posts != before.accepted_posts {
                upload.last_ok = Some(now);
            }
            upload.last_error.clone_from(&report.last_error);
        });
        self.shown = Some(report);
    }
}
