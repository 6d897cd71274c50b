//! The uplink gives numbers, forms batches, retries, and follows the session. One task for each
//! device brings every passing into the device's active session exactly once, in order.
//!
//! What must hold:
//! 1. **Numbered once.** A batch is durable, with its numbers, before the first POST that carries
//!    any of its passings. Each device has one batch in flight (point 7 is the exception) and one
//!    POST at a time. Numbers rise strictly in upload order. The next number in a session is above
//!    every number that this box ever gave in it, according to its own journal, whatever the cloud
//!    shows.
//! 2. **Settled by proof.** A passing counts as sent in two cases: an insert returned a documented
//!    success that accounts for the whole part, or a question showed the number with our chip and
//!    our time. A count of duplicates proves nothing about a single passing, so the machine asks
//!    the cloud which passings it holds. When a success carries no counts, the machine asks the
//!    cloud for those passings, once for each batch.
//! 3. **Unknown is not failed.** After a timeout, a cut connection, a 5xx or an unreadable answer,
//!    the passings of that POST *may* be in the cloud. They keep their numbers, and the machine
//!    asks the cloud for them. Only a cloud that has *shown* that it detects duplicates gets the
//!    same passings again without a question: it counted what was sent a second time, and it holds
//!    each passing once. The mere presence of the field in the answer proves nothing. A batch found
//!    in flight at the start is unknown as a whole.
//! 4. **"Not in the cloud" is believed late** ([`fresh`]). Two things must hold: the answer is
//!    whole and shows the newest passing that is known to be in the cloud, and the question was
//!    asked at least `settle` after the POST. Until then the machine asks again.
//! 5. **A passing is renumbered only when it is known not to be in the cloud**: it was never
//!    posted, or the cloud was asked for it since then. When the session closes, the machine asks
//!    the old session (closed sessions are still readable) about everything that was posted and not
//!    confirmed. It asks after the session's end, because only then is the answer final. The
//!    remaining passings are released for the next session. A session counts as closed when the
//!    answer to a POST says that the session is gone *and* the active session is another one or
//!    none. It also counts as closed when another session is active (a device has only one). If the
//!    session reported as active was joined before ours, the machine does not believe it at once: a
//!    closed session is never opened again, so that answer is an old one. The machine creates a
//!    session only where the configuration allows it, and only after the cloud has said in its own
//!    documented words that there is none, twice, `create_after` apart, because a new session
//!    closes the running one.
//! 6. **A number that another writer uses** is left to that writer. Our passing gets a new number
//!    above all numbers that the session shows. While this continues, the new numbers are further
//!    and further above, and the machine renumbers less and less often. Two writers in one session
//!    are a critical problem (`other_writer`). While everything seems well, the machine also looks
//!    for other writers: it asks what the cloud holds around our newest numbers.
//! 7. **A refused passing waits for nobody, and nobody waits for it.** A 400 halves the part until
//!    the refused passing stands alone. The machine then asks the cloud for it, because the cloud
//!    may refuse it *because* it already arrived, or because its number is taken. Then the passing
//!    is set aside with the answer. From the fifth single refusal in a row without a success in
//!    between, each refusal is followed by a growing backoff, so a cloud that refuses everything
//!    gets one passing a minute, not the backlog. When the cloud itself fails at one passing and
//!    accepts others, that passing is left behind: the next batch names it as still open
//!    (`Batch::still_open`) and continues without it, and its number is never used again. Once it
//!    is known not to be in the cloud, it is left out of the batches, later it is set aside, and it
//!    is tried again every hour (`machine::suspect`).
//! 8. **A refused question has other forms** (`inquiry`). When the cloud refuses all of them, no
//!    passing of unknown fate is sent again without a question, and a problem is raised
//!    (`cannot_ask`). One 403 does not prove that the key may not read (`machine::key`).
//! 9. **What the cloud already holds is not sent** (`recall`). After log lines were lost, the
//!    machine asks the sessions of that time for everything they hold before it gives a new number.
//!    It looks up reads that an earlier process left behind, and reads from a decoder's memory, by
//!    device and time, because the data directory may be an older copy.
//! 10. **Patient.** The backoff has jitter and grows up to `retry_max`, and Retry-After is a
//!     minimum. A refused key or device is tested after 5 s, 20 s, a minute, and then every three
//!     minutes. No timer uses the wall clock. When no server was reached, a try costs the cloud
//!     nothing, so the next try follows within 12 s: nothing else tells the box that the network is
//!     back. If no passing of a batch is settled for a minute, a separate problem is raised
//!     (`upload_stands`).
//!
//! What cannot be proved: see "What limits exactly once" in docs/exactly-once.md. In short: if a
//! request is applied more than `settle` after it was cut, in a cloud that detects no duplicates,
//! its passings are in the cloud twice. With a key that may not read, the answers to the POSTs are
//! the only evidence, and passings without an answer wait.
//!
//! How it works: [`machine`] decides, without sockets, journal or clock. [`run`] is the thin driver
//! that performs the machine's actions. While the uplink rests, it lets the journal number the next
//! read together with keeping it ([`Offer`]): one write for both, and the POST follows at once. The
//! batch of reads that waited for `min_interval` is written with the next read too, if one comes
//! within 100 ms. The driver lets `Accepted` ride with the next group. If the event is lost, the machine only asks
//! about its part again. Everything else is durable before the next action.
//!
//! Rejected: giving numbers at the POST (after a crash between the two, the passings would get
//! other numbers); several POSTs in flight (a program that pulls passings reads on from the highest
//! number and misses a lower number that arrives later); a transaction id (the cloud's schema has
//! no field for it).

mod again;
mod arrivals;
mod display;
pub(crate) mod fresh;
#[cfg(test)]
mod history;
mod inquiry;
pub(crate) mod machine;
#[cfg(test)]
mod model;
mod orders;
mod pace;
mod recall;
mod sizing;
#[cfg(test)]
mod tests;
mod work;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::arrivals::Arrivals;
use self::display::{Display, report};
use crate::cloud::passing::Fields;
use crate::cloud::rufus::{CallError, Client, Inserted, OutcomeDoubt, Passing};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, Journal, JournalError, Offer, Pending, PendingRead, UploadEvent, UploadItem};
use crate::model::chip::Seq;
use crate::status::{Board, ProblemCode};
pub(crate) use again::{TryAgain, Which};
pub use machine::Ends;
use machine::{Action, Formed, Input, Machine, OfferTerms, ResendPermit};
pub(crate) use machine::{Outcome, SessionProgress, Wanted};
use orders::Orders;
pub(crate) use orders::{Claim, LEFT_MAX, SessionChange, SessionOrder};

/// How long a POST may still take when the process is stopping.
const GRACE: Duration = Duration::from_secs(8);

/// One device's uplink.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// Device in the cloud.
    pub device: Box<str>,
    /// Decoders whose reads are uploaded to this device.
    pub decoders: Vec<Box<str>>,
    /// Name of the box. A session that the uplink creates is named after it.
    pub name: String,
    /// How the uplink finds its session.
    pub session: SessionMode,
    /// Sizes and times.
    pub upload: UploadConfig,
}

/// Why an uplink ended without being stopped. The process should end too.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The journal cannot make anything durable.
    #[error("the uplink of device {device} cannot go on: {source}")]
    Journal {
        /// Device.
        device: Box<str>,
        /// The journal's error.
        source: JournalError,
    },
}

/// Passings of a session that an audit found missing, to be sent again with their old numbers.
#[derive(Debug)]
pub(crate) struct Resend {
    /// Session of the passings.
    pub token: Box<str>,
    /// The passings, in rising order of their numbers, at most [`RESEND_MAX`].
    pub items: Vec<UploadItem>,
    /// Receives `Ok` when all of them are settled (sent, found in the cloud, or set aside), or the
    /// reason why they cannot be sent.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Limit of the passings in a [`Resend`].
pub(crate) const RESEND_MAX: usize = machine::limits::BATCH_LIMIT;

/// What connects an uplink with the audits of its device, and with people.
#[derive(Debug)]
pub(crate) struct Ties {
    /// Orders to open or close a session. The uplink takes one at a time.
    pub sessions: mpsc::Receiver<SessionOrder>,
    /// Requests to send passings again. The uplink takes one between two batches.
    pub resends: mpsc::Receiver<Resend>,
    /// The session that the uplink follows. Updated each time the uplink rests and everything is
    /// recorded.
    pub follows: watch::Sender<SessionProgress>,
    /// Changes when somebody decides about passings at which the cloud failed.
    pub try_again: watch::Receiver<TryAgain>,
    /// Whether reads are uploaded. If not, the uplink only settles what was in flight and sends
    /// what is to be sent again.
    pub forms: bool,
}

impl Default for Ties {
    /// An uplink without audits.
    fn default() -> Self {
        let never = watch::Sender::<TryAgain>::default();
        Self {
            sessions: mpsc::channel(1).1,
            resends: mpsc::channel(1).1,
            follows: watch::Sender::default(),
            try_again: never.subscribe(),
            forms: true,
        }
    }
}

/// Like [`run_tied`], without audits.
///
/// # Errors
/// Like [`run_tied`].
pub async fn run<F>(
    config: UplinkConfig,
    client: Client,
    journal: Journal,
    board: Board,
    fields: F,
    stop: CancellationToken,
) -> Result<(), UplinkError>
where
    F: Fn(&PendingRead) -> Option<Fields> + Send + Sync + 'static,
{
    run_tied(config, client, journal, board, fields, Ties::default(), stop).await
}

/// Uploads the reads of one device until `stop`, then finishes the POST in flight and returns.
/// `fields` returns the fields of the passing that a read becomes. It is called for each read when
/// a batch is formed, also by the thread that keeps reads. It may be called again for the same
/// read, if that batch is not recorded. When
/// `fields` returns `None`, the fields are not known yet: the read and all reads after it wait, so
/// that the order stays, and a problem is raised.
///
/// # Errors
/// Only when the journal cannot store anything more. The uplink waits out every failure of the
/// network or the cloud.
pub(crate) async fn run_tied<F>(
    config: UplinkConfig,
    client: Client,
    journal: Journal,
    board: Board,
    fields: F,
    ties: Ties,
    stop: CancellationToken,
) -> Result<(), UplinkError>
where
    F: Fn(&PendingRead) -> Option<Fields> + Send + Sync + 'static,
{
    board.upload(&config.device, |_| {}); // shown from the start
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = journal.serving() => {}
    }
    let state = journal.device(&config.device);
    let machine = Machine::new(&config.device, config.session, config.upload, state, fastrand::u64(..));
    let display = Display { board: &board, shown: None };
    let device = config.device.clone();
    let (orders, ties) = (Orders::new(ties.sessions), Ties { sessions: mpsc::channel(1).1, ..ties });
    let mut driver = Driver {
        numbering: None,
        config,
        client,
        machine,
        display,
        fields: Arc::new(fields),
        held: None,
        orders,
        again: Resender::new(ties),
        arrivals: Arrivals::default(),
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
    display: Display<'a>,
    fields: Arc<F>,
    /// The read that holds up the upload because its date is not known yet, if there is one. The
    /// board shows it.
    held: Option<Seq>,
    orders: Orders,
    again: Resender,
    arrivals: Arrivals,
    /// Held from the forming of a batch with passings that are tried again until it is durable.
    numbering: Option<OwnedMutexGuard<()>>,
    stop: CancellationToken,
    start: Instant,
}

/// Handles the requests to send passings again, one request at a time.
struct Resender {
    ties: Ties,
    asked: Option<Resend>,
    doing: Option<oneshot::Sender<Result<(), String>>>,
}

impl Resender {
    fn new(ties: Ties) -> Self {
        Self { ties, asked: None, doing: None }
    }

    /// Waits for the next request, once the previous one is finished, or until somebody asks that
    /// the passings set aside are tried again.
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
            Ok(()) = try_again.changed() => try_again.mark_changed(), // the loop of the driver reads it
            else => std::future::pending().await,
        }
    }

    /// All passings that were sent again are settled.
    fn is_done(&self, machine: &Machine) -> bool {
        self.doing.is_some() && !machine.is_resending()
    }

    fn answer(&mut self) {
        if let Some(done) = self.doing.take() {
            let _ = done.send(Ok(())); // the receiver may be gone
        }
    }

    /// Returns the request that the machine should start now, if there is one. Answers requests
    /// that can never be sent.
    fn turn(&mut self, machine: &Machine, on_hold: bool) -> Option<Input> {
        if self.asked.is_none() && self.doing.is_none() {
            self.asked = self.ties.resends.try_recv().ok();
        }
        let permit = match machine.may_resend(&self.asked.as_ref()?.token) {
            ResendPermit::Now if on_hold => ResendPermit::Never("the box is on hold: release the hold first"),
            permit => permit,
        };
        match permit {
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

    /// Publishes the session that the uplink follows. Called when the uplink rests and everything
    /// is recorded.
    fn rest(&self, machine: &Machine) {
        let follows = machine.follows();
        self.ties.follows.send_if_modified(|known| {
            let changed = *known != follows;
            *known = follows;
            changed
        });
    }
}

impl<F: Fn(&PendingRead) -> Option<Fields> + Send + Sync + 'static> Driver<'_, F> {
    async fn run(&mut self, journal: &Journal) -> Result<(), JournalError> {
        let mut changed = journal.changed();
        let mut keys = self.client.key_changes();
        loop {
            if keys.has_changed().unwrap_or(false) {
                keys.borrow_and_update();
                self.machine.put(self.start.elapsed(), Input::NewKey);
            }
            if self.again.ties.try_again.has_changed().unwrap_or(false) {
                let which = self.again.ties.try_again.borrow_and_update().which.clone();
                let DeviceState { failing, dead_letters, .. } = journal.device(&self.config.device);
                let failing = failing.iter().map(|item| item.seq).collect();
                self.machine.put(self.start.elapsed(), Input::Decided { failing, set_aside: dead_letters });
                match which {
                    Which::All => self.machine.put(self.start.elapsed(), Input::TryAgain(None)),
                    Which::These(seqs) => self.machine.put(self.start.elapsed(), Input::TryAgain(Some(seqs))),
                }
            }
            if self.again.is_done(&self.machine) {
                journal.settle().await?; // the audit that asked reads the log next
                self.again.answer();
            }
            let UplinkConfig { device, decoders, .. } = &self.config;
            self.orders.end(&mut self.machine, journal, device, decoders).await?;
            self.orders.withdraw(&mut self.machine, journal, device).await?;
            if let Some(input) = self.orders.begin(journal, device).await? {
                self.machine.put(self.start.elapsed(), input);
            }
            if let Some(input) = self.again.turn(&self.machine, journal.is_on_hold()) {
                self.machine.put(self.start.elapsed(), input);
            }
            let action = self.machine.next(self.start.elapsed());
            if !matches!(action, Action::Record(_)) {
                self.numbering = None; // the batch was not formed after all
            }
            self.display.show(&self.config.device, report(&self.machine, journal));
            let input = match action {
                Action::Record(event) => {
                    self.keep(journal, event).await?;
                    continue;
                }
                _ if self.stop.is_cancelled() => break,
                Action::Wait { until, reads, offer } => {
                    match self.wait(journal, until, reads, offer, &mut changed, &mut keys).await? {
                        Ended::Stopped => break,
                        Ended::Noticed => Input::Noticed,
                        Ended::Otherwise => continue,
                    }
                }
                Action::Count { limit } => {
                    changed.borrow_and_update();
                    let pending = journal.pending(&self.config.device, &self.config.decoders, limit);
                    Input::Waiting((!pending.is_empty()).then(|| pending.passings()))
                }
                Action::Form { .. } if !self.again.ties.forms => Input::Formed(None),
                Action::Form { token, next, limit, bound, without, again } => {
                    changed.borrow_and_update();
                    if !again.is_empty() {
                        self.numbering = Some(journal.numbering().await);
                    }
                    self.form(journal, &token, (next, limit), bound, &without, again)
                }
                call => {
                    if call.is_of_order() && !self.orders.claim(&mut self.machine, journal, device).await? {
                        continue;
                    }
                    match self.call(call).await {
                        Some(input) => input,
                        None => break,
                    }
                }
            };
            self.machine.put(self.start.elapsed(), input);
        }
        journal.settle_soon().await;
        journal.show_sent(self.display.board);
        Ok(())
    }

    /// Makes an event durable.
    async fn keep(&mut self, journal: &Journal, event: UploadEvent) -> Result<(), JournalError> {
        let arrived = self.arrivals.follow(&event);
        self.display.board.arrived(&self.config.device, arrived.into_iter());
        record(journal, event).await?;
        self.numbering = None;
        Ok(())
    }

    /// Waits until `until`, or until something is to be done. With `reads`, a change of the journal
    /// is that. Meanwhile the journal may number a read under these terms.
    async fn wait(
        &mut self,
        journal: &Journal,
        until: Duration,
        reads: bool,
        terms: Option<OfferTerms>,
        changed: &mut watch::Receiver<Seq>,
        keys: &mut watch::Receiver<u64>,
    ) -> Result<Ended, JournalError> {
        journal.show_sent(self.display.board);
        self.again.rest(&self.machine);
        let terms = terms.filter(|_| self.again.ties.forms);
        let mut offered = terms.map(|terms| journal.offer(offer(self.config.clone(), terms, Arc::clone(&self.fields))));
        let taken = async {
            match &mut offered {
                Some(offered) => offered.taken().await,
                None => std::future::pending().await,
            }
        };
        let (ended, batch) = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Ended::Stopped),
            batch = taken => {
                changed.borrow_and_update(); // the change is this batch
                (Ended::Otherwise, Some(batch))
            }
            () = self.again.next() => (Ended::Otherwise, None),
            () = self.orders.next() => (Ended::Otherwise, None), // taken at the top of the loop
            Ok(()) = keys.changed() => {
                keys.mark_changed(); // handled at the top of the loop
                (Ended::Otherwise, None)
            }
            () = tokio::time::sleep_until(self.start + until) => (Ended::Otherwise, None),
            kept = changed.changed(), if reads => match kept {
                Ok(()) => (Ended::Noticed, None),
                Err(_) => return Err(JournalError::Closed),
            },
        };
        let batch = match (batch, offered) {
            (None, Some(offered)) => offered.withdraw().await,
            (batch, _) => batch,
        };
        if let Some(batch) = batch {
            self.tell_held(None); // the batch covers all that waited
            self.arrivals.numbered(&batch);
            self.machine.put(self.start.elapsed(), Input::Numbered(batch));
        }
        Ok(ended)
    }

    /// Forms the next batch of what waits: at most `limit` passings, numbered from `next`, of reads
    /// up to `bound`.
    fn form(
        &mut self,
        journal: &Journal,
        token: &str,
        (next, limit): (u64, usize),
        bound: Option<Seq>,
        without: &[Seq],
        again: Vec<UploadItem>,
    ) -> Input {
        // The passings left out are among the released ones, which are first in `pending`.
        let most = limit + without.len() - again.len().min(limit - 1);
        let mut pending = journal.pending(&self.config.device, &self.config.decoders, most);
        pending.returned.retain(|item| !without.contains(&item.seq));
        pending.end_at(bound);
        let through = pending.through;
        let pending = journal.with_right_times(&self.config.device, pending);
        let again = if journal.is_on_hold() { Vec::new() } else { again };
        let again = journal.right_times(journal.still_failing(&self.config.device, again));
        let (batch, held) = form(&self.config, token, next, pending, again, &*self.fields);
        self.tell_held(held);
        formed(batch, bound, through)
    }

    /// Raises a problem that names the read which holds up the upload because its date is not
    /// known.
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

    /// Performs a call. `None`: the process is stopping and the call was given up.
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
            Action::Create { alias } => {
                let today = TimeZone::system().to_datetime(self.display.board.now()).date();
                let alias = alias.map_or_else(|| format!("{} {today}", self.config.name), String::from);
                Input::Created(unless_stopped(stop, GRACE, client.create_session(device, &alias)).await?)
            }
            Action::Close { token } => Input::Closed(unless_stopped(stop, GRACE, client.close_session(&token)).await?),
            Action::Post { token, items } => {
                Input::Posted(unless_stopped(stop, GRACE, post(client, &token, &items)).await?)
            }
            Action::Wait { .. } | Action::Count { .. } | Action::Form { .. } | Action::Record(_) => return None, // no calls
        })
    }
}

fn too_late() -> CallError {
    CallError::Unknown { why: OutcomeDoubt::Timeout, retry_after: None }
}

/// Waits for the answer of a call. When the process stops, the call gets `grace` more time.
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

/// Forms the next batch: released passings first, then reads, then the passings that are tried
/// `again`, numbered from `next`. The batch is `None` if nothing is pending. The second value is
/// the read at which the batch had to end because its fields are not known yet.
fn form(
    config: &UplinkConfig,
    token: &str,
    next: u64,
    mut pending: Pending,
    again: Vec<UploadItem>,
    fields: &impl Fn(&PendingRead) -> Option<Fields>,
) -> (Option<Formed>, Option<PendingRead>) {
    let mut held = None;
    let stored = pending.reads.iter().filter(|read| read.replay).map(|read| read.seq).collect();
    let mut reads = Vec::with_capacity(pending.reads.len());
    for read in &pending.reads {
        let Some(Fields { time_ms, bib, chip }) = fields(read) else {
            held = Some(read.clone());
            break;
        };
        let (num, bib) = (0, if bib.is_empty() { chip.clone() } else { bib }); // the number follows below
        let item = UploadItem { seq: read.seq, num, time_ms, corrected_ms: 0, bib, chip };
        reads.push(item.corrected_by(read.corrected_ms));
    }
    if let Some(read) = &held {
        pending.end_before(read.seq);
    }
    if pending.is_empty() && again.is_empty() {
        return (None, held);
    }
    let items = pending.returned.into_iter().chain(reads).chain(again);
    let items = items.zip(next..).map(|(item, num)| UploadItem { num, ..item }).collect();
    let batch = Batch {
        device: config.device.clone(),
        session: token.into(),
        items,
        found: pending.found,   // the machine adds to it
        still_open: Vec::new(), // filled in by the machine
        dead: pending.dead,
        duplicates: pending.duplicates,
        through: pending.through,
        decoders: config.decoders.clone(),
    };
    (Some(Formed { batch, stored }), held)
}

/// The result of forming a batch of what is pending up to `through`.
fn formed(batch: Option<Formed>, bound: Option<Seq>, through: Seq) -> Input {
    match bound {
        // While the queue does not serve, or a read waits for the reads before it, more may follow.
        Some(bound) if batch.is_none() && through >= bound => Input::Drained,
        _ => Input::Formed(batch),
    }
}

/// Lets the journal form and number the batch of the next read itself.
fn offer<F>(config: UplinkConfig, terms: OfferTerms, fields: Arc<F>) -> Offer
where
    F: Fn(&PendingRead) -> Option<Fields> + Send + Sync + 'static,
{
    let (device, decoders) = (config.device.clone(), config.decoders.clone());
    let OfferTerms { token, next, limit } = terms;
    let form = move |pending| {
        let (formed, held) = form(&config, &token, next, pending, Vec::new(), &*fields);
        formed.filter(|_| held.is_none()).map(|formed| formed.batch)
    };
    Offer { device, decoders, limit, form: Box::new(form) }
}

/// Hands an event to the journal. An acceptance may be lost in a power cut, so it rides with the
/// next group. Everything else is durable when this returns.
async fn record(journal: &Journal, event: UploadEvent) -> Result<(), JournalError> {
    if matches!(event, UploadEvent::Accepted { .. }) {
        journal.record_later(event);
        return Ok(());
    }
    journal.record(event).await.map(|_| ())
}

/// What ended a wait.
enum Ended {
    /// The process is stopping.
    Stopped,
    /// The journal changed.
    Noticed,
    /// The time, a batch that was written with its reads, or something that the loop handles.
    Otherwise,
}
