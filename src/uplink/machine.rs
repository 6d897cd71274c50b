//! The decisions of the uplink, as a pure state machine: answers and the time in, one action at a time out.
//!
//! No sockets, no journal, no tokio, no clock, no randomness of its own: the same inputs and seed give the same actions.
//! [`Machine::next`] says what to do now; what came of it goes into [`Machine::put`]. An action other than
//! [`Action::Record`] is given again until its answer is put, so a driver that lost one may simply ask again.
//!
//! The rules are in the head of [`crate::uplink`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, Item, UploadEvent};
use crate::rufus::{CallError, Doubt, Inserted, Page, Session};
use crate::status::UploadState;
use crate::uplink::inquiry::{Inquiry, Progress};
use crate::uplink::retry::{Retry, jittered};
use crate::uplink::sizing::Sizing;
use crate::uplink::work::{Claim, Fate, Work};

/// Between two looks for a session while there is none.
const POLL_NONE: Duration = Duration::from_secs(10);
/// Between two looks whether the session is still the active one.
const POLL_SOME: Duration = Duration::from_secs(20);
/// Between two tests of a key or device that was refused.
const POLL_REFUSED: Duration = Duration::from_secs(180);
/// Jitter of the three above.
const POLL_JITTER: f64 = 0.2;
/// Least time between a POST with an unknown outcome (or the start) and the question what became of it; `retry_max`,
/// where that is less.
const SETTLE: Duration = Duration::from_secs(1);
/// Least time between two looks into the journal while reads trickle in.
const LOOK_GAP: Duration = Duration::from_millis(20);
/// Most passings in a batch: what may have to be settled after a cut, and what one inquiry has to hold.
pub(super) const BATCH_LIMIT: usize = 500;
/// POSTs that a batch of a backlog is worth: one group commit for all of them.
const PARTS: usize = 5;
/// Short counts in a row, without progress, after which the missing are set aside.
const SHORT_ROUNDS: u32 = 3;
/// Single refusals in a row after which each further one has to wait.
const REFUSED_ROW: u32 = 5;
/// Unknown outcomes in a row after which the timer is told which passing it hangs on.
const TROUBLE_ROW: u32 = 5;

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing before `until` (since the start). With `reads`, a change of the journal ends it: [`Input::Noticed`].
    Wait {
        /// Monotonic time since the start.
        until: Duration,
        /// A change of the journal is of interest.
        reads: bool,
    },
    /// Ask for the active session: [`Input::Active`].
    AskActive,
    /// Ask for one session: [`Input::Session`].
    AskSession {
        /// Its token.
        token: Box<str>,
    },
    /// Ask for a page of what a session holds: [`Input::Held`].
    AskHeld {
        /// Its token.
        token: Box<str>,
        /// First number.
        first: u64,
        /// Last number.
        last: Option<u64>,
        /// Page, from 1.
        page: u32,
    },
    /// Create a session: [`Input::Created`].
    Create,
    /// Form a batch of what is pending, without recording it: [`Input::Formed`].
    Form {
        /// Session to number it in.
        token: Box<str>,
        /// Its first number.
        next: u64,
        /// Most passings in it.
        limit: usize,
    },
    /// Insert these: [`Input::Posted`]. Every batch and session recorded before must be durable first.
    Post {
        /// Session.
        token: Box<str>,
        /// Passings, a part of the batch in flight.
        items: Vec<Item>,
    },
    /// Record this, after all recorded before it. No answer is put.
    Record(UploadEvent),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The journal changed during a wait that wanted to know.
    Noticed,
    /// Of [`Action::AskActive`].
    Active(Result<Option<Session>, CallError>),
    /// Of [`Action::AskSession`].
    Session(Result<Option<Session>, CallError>),
    /// Of [`Action::AskHeld`].
    Held(Result<Page, CallError>),
    /// Of [`Action::Create`].
    Created(Result<Session, CallError>),
    /// Of [`Action::Form`]; `None`: nothing is pending.
    Formed(Option<Batch>),
    /// Of [`Action::Post`].
    Posted(Result<Inserted, CallError>),
}

/// What a timer should see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the uplink does.
    pub state: UploadState,
    /// Token and alias of the active session.
    pub session: Option<(Box<str>, Option<Box<str>>)>,
    /// Passings acknowledged, ever.
    pub sent: u64,
    /// Of them reported as duplicates.
    pub duplicates: u64,
    /// POSTs acknowledged since the start.
    pub accepted_posts: u64,
    /// The last error in words, until success.
    pub last_error: Option<String>,
    /// Problems shown now: code and message.
    pub problems: BTreeMap<&'static str, String>,
}

/// What is known of the device's active session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Active {
    Unknown,
    None,
    Some(Session),
}

/// The session joined: numbers are given in it.
#[derive(Clone, Debug)]
struct Joined {
    token: Box<str>,
    next: u64,
    /// The cloud was asked which numbers are taken, in this process.
    checked: bool,
}

/// Why an inquiry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Settle,
    Join,
}

#[derive(Debug)]
struct Question {
    inquiry: Inquiry,
    why: Why,
    /// The cloud said that the session is not there; ask for the session itself.
    confirm: bool,
}

#[derive(Clone, Debug)]
struct Trouble {
    by_post: bool,
    offline: bool,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    No,
    /// The key or device is refused; `by_post`: reading may well be allowed.
    Yes {
        by_post: bool,
    },
}

/// The uplink of one device.
pub struct Machine {
    device: Box<str>,
    mode: SessionMode,
    upload: UploadConfig,
    rng: fastrand::Rng,
    sizing: Sizing,
    post_retry: Retry,
    ask_retry: Retry,

    records: VecDeque<UploadEvent>, // at most one batch's worth of runs
    active: Active,
    joined: Option<Joined>,
    /// Token and next number that the journal holds.
    recorded: Option<(Box<str>, u64)>,
    work: Option<Work>,
    question: Option<Question>,
    posting: usize,

    hold: Duration,
    poll_at: Duration,
    /// A POST was told that the session is gone: what is active now?
    resolve: bool,
    refused: Refused,
    /// Reading is refused while posting works.
    blind: bool,
    posts_work: bool,
    dedups: bool,
    refused_row: u32,
    trouble_row: u32,

    /// When to look for reads; `None`: when some are noticed.
    look: Option<Duration>,
    noticed: Option<Duration>,
    last_look: Duration,
    last_post: Option<Duration>,
    posted_since_look: bool,

    sent: u64,
    duplicates: u64,
    set_aside: u64,
    accepted_posts: u64,
    trouble: Option<Trouble>,
    problems: BTreeMap<&'static str, String>,
}

impl Machine {
    /// A machine that goes on from what the journal knows, at time zero.
    pub fn new(device: &str, mode: SessionMode, upload: UploadConfig, state: DeviceState, seed: u64) -> Self {
        let recorded = state.session.map(|(token, _)| (token, state.next.max(1)));
        let joined = recorded.clone().map(|(token, next)| Joined { token, next, checked: false });
        let work = state.in_flight.filter(|flight| !flight.open.is_empty()).map(|flight| {
            // Nobody knows how far the process before got with it.
            Work::new(device, &flight.batch.session, flight.open, Fate::Maybe, SETTLE.min(upload.retry_max))
        });
        Self {
            device: device.into(),
            mode,
            upload,
            rng: fastrand::Rng::with_seed(seed),
            sizing: Sizing::new(upload.batch_max.min(BATCH_LIMIT)),
            post_retry: Retry::new(upload.retry_max),
            ask_retry: Retry::new(upload.retry_max),
            records: VecDeque::new(),
            active: Active::Unknown,
            joined,
            recorded,
            work,
            question: None,
            posting: 0,
            hold: Duration::ZERO,
            poll_at: Duration::ZERO,
            resolve: false,
            refused: Refused::No,
            blind: false,
            posts_work: false,
            dedups: false,
            refused_row: 0,
            trouble_row: 0,
            look: Some(Duration::ZERO),
            noticed: None,
            last_look: Duration::ZERO,
            last_post: None,
            posted_since_look: false,
            sent: state.sent,
            duplicates: state.duplicates,
            set_aside: 0,
            accepted_posts: 0,
            trouble: None,
            problems: BTreeMap::new(),
        }
    }

    /// What to do at `now` (since the start).
    pub fn next(&mut self, now: Duration) -> Action {
        loop {
            if let Some(event) = self.records.pop_front() {
                return Action::Record(event);
            }
            if now < self.hold {
                return Action::Wait { until: self.hold, reads: false };
            }
            if self.refused != Refused::No || self.resolve || now >= self.poll_at {
                return Action::AskActive;
            }
            if let Some(question) = &self.question {
                return ask(question);
            }
            // Each step either gives an action or changes the state so that the next round gives one.
            let action = if self.work.is_some() { self.next_of_work(now) } else { self.next_of_idle(now) };
            if let Some(action) = action {
                return action;
            }
        }
    }

    fn next_of_work(&mut self, now: Duration) -> Option<Action> {
        let work = self.work.as_mut()?;
        if work.open() == 0 {
            self.finish();
            return None;
        }
        let must_ask = work.closing || work.ask_first || work.claim.is_some() || !self.dedups;
        if must_ask && work.doubtful() {
            if !self.blind {
                if now < work.ask_at {
                    return Some(Action::Wait { until: work.ask_at.min(self.poll_at), reads: false });
                }
                let inquiry = work.inquiry()?;
                self.question = Some(Question { inquiry, why: Why::Settle, confirm: false });
                return None;
            }
            if work.closing {
                self.set_unknowable_aside();
                return None;
            }
        }
        if work.closing {
            self.release();
            return None;
        }
        self.posting = self.sizing.part(work.open());
        self.posted_since_look = true;
        Some(Action::Post { token: work.token.clone(), items: work.items(self.posting) })
    }

    fn next_of_idle(&mut self, now: Duration) -> Option<Action> {
        let session = match &self.active {
            Active::Unknown => return Some(Action::Wait { until: self.poll_at, reads: false }),
            Active::None if self.mode == SessionMode::Create => return Some(Action::Create),
            Active::None => return Some(Action::Wait { until: self.poll_at, reads: false }),
            Active::Some(session) => session.clone(),
        };
        let Some(joined) = self.joined.as_ref().filter(|joined| joined.token == session.token && joined.checked) else {
            let from = self.least_next(&session);
            if self.blind {
                self.join(from);
            } else {
                let inquiry = Inquiry::new(&session.token, from, None);
                self.question = Some(Question { inquiry, why: Why::Join, confirm: false });
            }
            return None;
        };
        let wait = |until: Duration| Some(Action::Wait { until: until.min(self.poll_at), reads: true });
        match self.look {
            None => wait(self.poll_at),
            Some(at) if now < at => wait(at),
            Some(_) => {
                let limit = (self.upload.batch_max.max(1) * PARTS).min(BATCH_LIMIT);
                Some(Action::Form { token: joined.token.clone(), next: joined.next, limit })
            }
        }
    }

    /// What came of the action at `now`.
    pub fn put(&mut self, now: Duration, input: Input) {
        match input {
            Input::Noticed => self.on_noticed(now),
            Input::Active(Ok(found)) => self.on_active(now, found),
            Input::Active(Err(error)) => self.on_active_failed(now, &error),
            Input::Session(answer) => self.on_session(now, answer),
            Input::Held(answer) => self.on_held(now, answer),
            Input::Created(answer) => self.on_created(now, answer),
            Input::Formed(batch) => self.on_formed(now, batch),
            Input::Posted(Ok(counts)) => self.on_inserted(now, counts),
            Input::Posted(Err(error)) => self.on_post_failed(now, &error),
        }
    }

    /// What a timer should see.
    pub fn report(&self) -> Report {
        let trouble = self.trouble.as_ref();
        let state = if self.refused != Refused::No {
            UploadState::Refused
        } else if trouble.is_some_and(|trouble| trouble.offline) {
            UploadState::Offline
        } else if self.work.is_some() {
            UploadState::Sending
        } else if self.active == Active::None {
            UploadState::NoSession
        } else {
            UploadState::Idle
        };
        let session = match &self.active {
            Active::Some(session) => Some((session.token.clone(), session.alias.clone())),
            _ => None,
        };
        Report {
            state,
            session,
            sent: self.sent,
            duplicates: self.duplicates,
            accepted_posts: self.accepted_posts,
            last_error: trouble.map(|trouble| trouble.text.clone()),
            problems: self.problems.clone(),
        }
    }

    // ---- reads and batches

    fn on_noticed(&mut self, now: Duration) {
        let soon = now.max(self.last_look + LOOK_GAP);
        if self.look.is_none() {
            self.noticed = Some(now);
        }
        self.look = Some(self.look.map_or(soon, |at| at.min(soon)));
    }

    fn on_formed(&mut self, now: Duration, batch: Option<Batch>) {
        // What came while a POST was under way may have waited since the last look.
        let since = if self.posted_since_look { self.last_look } else { now };
        (self.last_look, self.posted_since_look) = (now, false);
        let Some(batch) = batch else {
            (self.look, self.noticed) = (None, None);
            return;
        };
        let count = batch.items.len();
        if count < self.upload.batch_max {
            let noticed = *self.noticed.get_or_insert(since);
            let rested = self.last_post.map_or(Duration::ZERO, |at| at + self.upload.min_interval);
            let due = (noticed + self.upload.linger).max(rested);
            if now < due {
                self.look = Some(due);
                return;
            }
        }
        (self.look, self.noticed) = (Some(now), None);
        if let (Some(joined), Some(last)) = (&mut self.joined, batch.items.last()) {
            joined.next = last.num + 1;
            self.recorded = Some((joined.token.clone(), joined.next));
            self.work = Some(Work::new(&self.device, &batch.session, batch.items.clone(), Fate::Fresh, Duration::ZERO));
        }
        self.records.push_back(UploadEvent::Batch(batch));
    }

    /// The batch in flight is settled.
    fn finish(&mut self) {
        self.work = None;
        self.question = None;
        self.sizing.found();
        self.look.get_or_insert(Duration::ZERO);
    }

    /// The session of the batch in flight takes no more.
    fn close(&mut self) {
        if self.work.as_mut().is_some_and(Work::close) {
            self.question = None; // what was answered before the end is not final
        }
    }

    /// Everything open goes back, to be numbered anew.
    fn release(&mut self) {
        if let Some(work) = self.work.take() {
            self.records.extend(work.release());
        }
        if let Some(joined) = &mut self.joined {
            joined.checked = false;
        }
        self.finish();
    }

    /// The session is closed and this key may not read it: nobody can tell what became of some passings.
    fn set_unknowable_aside(&mut self) {
        let answer = "passbridge: the session closed before the cloud confirmed this passing, and the API key may not \
                      read whether it arrived; look into the session before sending it again";
        if let Some(work) = &mut self.work {
            let events = work.set_doubtful_aside(403, answer);
            self.note_set_aside(events.len() as u64, answer);
            self.records.extend(events);
        }
    }

    // ---- POST

    fn on_inserted(&mut self, now: Duration, counts: Inserted) {
        let part = std::mem::take(&mut self.posting);
        let Some(work) = &mut self.work else { return };
        self.posts_work = true;
        self.last_post = Some(now);
        let sent = part as u64;
        let duplicates = counts.duplicates.unwrap_or(0);
        // A count of zero proves nothing: a cloud may give the field and store everything twice.
        self.dedups |= duplicates > 0;
        let counted = counts.inserted.map_or(sent, |inserted| inserted.saturating_add(duplicates));
        let last = work.items(part).last().map_or(0, |item| item.num);
        if counted < sent {
            self.refusal_over();
            return self.on_short(now, part, counted, last);
        }
        if duplicates > sent - work.fresh(part) && !self.blind {
            work.doubt(part);
            work.claim = Some((Claim::Taken, last));
            work.ask_at = now;
            return;
        }
        self.records.extend(work.accept(part, duplicates));
        self.sent += sent;
        self.duplicates += duplicates;
        self.sizing.accepted(part);
        self.on_progress();
    }

    /// A POST did what it should.
    fn on_progress(&mut self) {
        self.accepted_posts += 1;
        (self.refused_row, self.trouble_row) = (0, 0);
        self.post_retry.reset();
        self.trouble = None;
        for code in ["cloud_refuses", "cloud_trouble", "session_disputed", "passings_missing"] {
            self.problems.remove(code);
        }
        self.refusal_over();
    }

    fn refusal_over(&mut self) {
        for code in ["key_refused", "device_unknown"] {
            self.problems.remove(code);
        }
    }

    fn on_short(&mut self, now: Duration, part: usize, counted: u64, last: u64) {
        let Some(work) = &mut self.work else { return };
        if !self.blind {
            work.doubt(part);
            work.claim = Some((Claim::Short { counted, sent: part as u64 }, last));
            work.ask_at = now;
            return;
        }
        // Nobody can tell which of them are missing; alone, it can be told.
        if part > 1 {
            work.doubt(part);
            return self.sizing.refused(part);
        }
        work.short_rounds += 1;
        if work.short_rounds >= SHORT_ROUNDS {
            work.short_rounds = 0;
            self.set_first_aside(200, &missing_text(counted, 1));
        } else {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
        }
    }

    fn on_post_failed(&mut self, now: Duration, error: &CallError) {
        let part = std::mem::take(&mut self.posting);
        if self.work.is_none() {
            return;
        }
        match error {
            CallError::NotSent(_) | CallError::TooMany { .. } => {
                self.hold = now + self.post_retry.next(&mut self.rng, error.retry_after());
                self.complain(true, error);
            }
            CallError::Unknown { .. } | CallError::Portal => self.on_post_unknown(now, part, error),
            CallError::TooLarge { .. } if part > 1 => self.sizing.too_large(part),
            CallError::BadRequest { .. } if part > 1 => self.sizing.refused(part),
            CallError::TooLarge { answer } => self.on_refused(now, 413, answer),
            CallError::BadRequest { status, answer } => self.on_refused(now, *status, answer),
            CallError::SessionGone { .. } if self.blind && self.mode == SessionMode::Create => {
                self.close();
                self.active = Active::None;
            }
            CallError::SessionGone { .. } => self.resolve = true,
            CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => self.refuse(now, true, error),
        }
    }

    fn on_post_unknown(&mut self, now: Duration, part: usize, error: &CallError) {
        let wait = self.post_retry.next(&mut self.rng, error.retry_after());
        self.hold = now + wait;
        self.trouble_row += 1;
        self.complain(true, error);
        let Some(work) = &mut self.work else { return };
        work.doubt(part);
        work.ask_at = now + wait.max(SETTLE.min(self.upload.retry_max));
        let timeout = |why: &Doubt| matches!(why, Doubt::Timeout | Doubt::Server { status: 504, .. });
        // A failure again and again may be one of size, too.
        if matches!(error, CallError::Unknown { why, .. } if timeout(why) || self.trouble_row > 1) {
            self.sizing.slow();
        }
        if self.trouble_row >= TROUBLE_ROW
            && !error.is_offline()
            && let Some(item) = work.items(1).first()
        {
            let text = format!(
                "the cloud has failed {} times in a row to take passings from number {} on (chip {}): {error}. \
                 They are kept and tried again",
                self.trouble_row, item.num, item.chip
            );
            self.problems.insert("cloud_trouble", text);
        }
    }

    /// A passing alone was refused.
    fn on_refused(&mut self, now: Duration, status: u16, answer: &str) {
        let Some(work) = &mut self.work else { return };
        if !self.blind && work.doubt_refusal(status == 409, now) {
            return;
        }
        self.set_first_aside(status, answer);
        self.refused_row += 1;
        if self.refused_row >= REFUSED_ROW {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
            let text = format!(
                "the cloud has refused {} passings in a row, each alone ({status}: {answer}). They are set aside and can \
                 be exported; sending goes on slowly. Is the session right?",
                self.refused_row
            );
            self.problems.insert("cloud_refuses", text);
        }
    }

    fn set_first_aside(&mut self, status: u16, answer: &str) {
        self.sizing.found();
        let aside = self.work.as_mut().and_then(|work| work.set_aside(status, answer));
        if let Some((item, event)) = aside {
            self.records.push_back(event);
            self.note_set_aside(1, &format!("number {}, chip {}: {answer}", item.num, item.chip));
        }
    }

    fn note_set_aside(&mut self, count: u64, last: &str) {
        if count > 0 {
            self.set_aside += count;
            let text = format!(
                "{} passings were set aside since the start and can be exported; the last: {last}",
                self.set_aside
            );
            self.problems.insert("passings_set_aside", text);
        }
    }

    // ---- the active session

    fn on_active(&mut self, now: Duration, found: Option<Session>) {
        self.asked_well();
        self.blind = false;
        self.problems.remove("write_only_key");
        if self.refused == (Refused::Yes { by_post: false }) {
            self.refusal_over();
        }
        self.refused = Refused::No;
        let every = if found.is_some() { POLL_SOME } else { POLL_NONE };
        self.poll_at = now + jittered(every, POLL_JITTER, &mut self.rng);
        let token = found.as_ref().map(|session| session.token.clone());
        let gone = std::mem::take(&mut self.resolve);
        if let Some(work) = &mut self.work {
            let same = token.as_deref() == Some(&*work.token);
            if gone && same {
                // One of the two answers is wrong. Wait, and take nothing for granted.
                let part = self.sizing.part(work.open());
                work.doubt(part);
                self.hold = now + self.post_retry.next(&mut self.rng, None);
                work.ask_at = self.hold;
                let text = "the cloud shows the session as active, but takes no passings into it; they are kept and \
                            tried again";
                self.problems.insert("session_disputed", text.to_owned());
            }
            if same {
                work.closing = false;
            } else if gone || token.is_some() {
                // Without another session in its place, a poll alone does not end one: the next POST will tell.
                self.close();
            }
        }
        if self.joined.as_ref().map(|joined| &joined.token) != token.as_ref() {
            self.question = self.question.take().filter(|question| question.why != Why::Join);
            if let Some(joined) = &mut self.joined {
                joined.checked = false;
            }
        }
        self.active = found.map_or(Active::None, Active::Some);
    }

    fn on_active_failed(&mut self, now: Duration, error: &CallError) {
        match error {
            CallError::KeyRefused { .. } if self.may_go_blind() => {
                self.refused = Refused::No;
                self.go_blind(error);
                self.poll_at = now + jittered(POLL_REFUSED, POLL_JITTER, &mut self.rng);
                if std::mem::take(&mut self.resolve) {
                    // The POST's word is all there is.
                    self.close();
                    self.active = Active::None;
                } else if self.active == Active::Unknown {
                    let own = self.joined.as_ref().map(|joined| joined.token.clone());
                    let session = |token| Session { token, alias: None, passings: None };
                    self.active = own.map_or(Active::None, |token| Active::Some(session(token)));
                }
            }
            CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => self.refuse(now, false, error),
            _ => {
                let wait = self.ask_retry.next(&mut self.rng, error.retry_after());
                self.complain(false, error);
                self.poll_at = now + wait;
                if self.resolve || self.refused != Refused::No || error.retry_after().is_some() {
                    self.hold = now + wait;
                }
            }
        }
    }

    /// Whether to go on when reading is refused: with a session of our own making, or while posting works.
    fn may_go_blind(&self) -> bool {
        self.mode == SessionMode::Create || (self.blind && self.posts_work && !self.resolve)
    }

    fn go_blind(&mut self, error: &CallError) {
        self.blind = true;
        let text = format!(
            "the API key may write but not read. passbridge cannot see whether a session is active, nor check after a \
             lost connection what arrived: passings may arrive twice. Use a READ_WRITE key ({error})"
        );
        self.problems.insert("write_only_key", text);
    }

    fn refuse(&mut self, now: Duration, by_post: bool, error: &CallError) {
        self.refused = Refused::Yes { by_post };
        self.blind = false;
        self.problems.remove("write_only_key");
        self.question = None;
        self.hold = now + jittered(POLL_REFUSED, POLL_JITTER, &mut self.rng);
        let code = if matches!(error, CallError::DeviceUnknown { .. }) { "device_unknown" } else { "key_refused" };
        self.problems.insert(code, format!("{error}. Nothing is lost; it is tried again every few minutes"));
        self.complain(by_post, error);
    }

    fn on_created(&mut self, now: Duration, answer: Result<Session, CallError>) {
        match answer {
            Ok(session) => {
                self.asked_well();
                self.problems.remove("session_not_created");
                self.refusal_over();
                self.posts_work = true;
                self.active = Active::Some(session);
                let every = if self.blind { POLL_REFUSED } else { POLL_SOME };
                self.poll_at = now + jittered(every, POLL_JITTER, &mut self.rng);
            }
            Err(error @ (CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. })) => {
                self.refuse(now, true, &error);
            }
            Err(error) => {
                if error.certainly_not_applied() && !error.is_offline() {
                    let text = format!("no session could be created: {error}. Reads are kept; it is tried again");
                    self.problems.insert("session_not_created", text);
                }
                self.hold = now + self.ask_retry.next(&mut self.rng, error.retry_after());
                self.complain(false, &error);
                // It may have been created.
                self.poll_at = self.hold;
            }
        }
    }

    // ---- questions

    fn on_held(&mut self, now: Duration, answer: Result<Page, CallError>) {
        let Some(question) = &mut self.question else { return };
        let page = match answer {
            Ok(page) => page,
            Err(CallError::SessionGone { .. }) => {
                question.confirm = true;
                return;
            }
            Err(error @ CallError::KeyRefused { .. }) if self.posts_work => {
                self.go_blind(&error);
                self.question = None;
                return;
            }
            Err(error) => return self.on_question_failed(now, &error),
        };
        let ours = match (question.why, &self.work) {
            (Why::Settle, Some(work)) => work.doubted(&question.inquiry),
            _ => Vec::new(),
        };
        let progress = question.inquiry.take(&page, &ours);
        self.asked_well();
        match progress {
            Progress::More => {}
            Progress::Done => self.conclude(now),
            Progress::TooLong => self.on_endless(now),
        }
    }

    fn on_session(&mut self, now: Duration, answer: Result<Option<Session>, CallError>) {
        let Some(question) = &mut self.question else { return };
        match answer {
            // It exists, so "not found" meant the passings: there are none.
            Ok(Some(_)) => {
                self.asked_well();
                self.conclude(now);
            }
            Ok(None) => {
                let why = question.why;
                self.asked_well();
                if why == Why::Join {
                    self.question = None;
                    self.poll_at = now; // the session vanished between two questions
                    self.hold = now + self.ask_retry.next(&mut self.rng, None);
                    return;
                }
                let text = "the cloud does not know the session any more that passings were sent to; what was not \
                            confirmed is sent to the next session";
                self.problems.insert("session_lost", text.to_owned());
                self.conclude(now);
                let closing = self.work.as_ref().is_none_or(|work| work.closing);
                self.resolve = !closing;
            }
            Err(error) => self.on_question_failed(now, &error),
        }
    }

    fn on_question_failed(&mut self, now: Duration, error: &CallError) {
        if matches!(error, CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. }) {
            return self.refuse(now, false, error);
        }
        self.hold = now + self.ask_retry.next(&mut self.rng, error.retry_after());
        self.complain(false, error);
    }

    /// More pages than any session should have.
    fn on_endless(&mut self, now: Duration) {
        let Some(question) = &mut self.question else { return };
        let inquiry = &mut question.inquiry;
        match (question.why, inquiry.highest) {
            // Each round starts higher, so this ends with the session.
            (Why::Join, Some(highest)) if highest >= inquiry.first => {
                *inquiry = Inquiry::new(&inquiry.token, highest.saturating_add(1), None);
            }
            (Why::Join, _) => self.conclude(now),
            (Why::Settle, _) => {
                *inquiry = Inquiry::new(&inquiry.token, inquiry.first, inquiry.last);
                self.hold = now + self.ask_retry.next(&mut self.rng, None);
            }
        }
    }

    /// The inquiry has seen everything.
    fn conclude(&mut self, now: Duration) {
        let Some(Question { inquiry, why, .. }) = self.question.take() else { return };
        if why == Why::Join {
            self.join(inquiry.highest.map_or(inquiry.first, |highest| highest.saturating_add(1)));
            return;
        }
        let Some(work) = &mut self.work else { return };
        let settled = work.settle(&inquiry);
        self.sizing.found();
        self.sent += settled.accepted;
        self.duplicates += settled.duplicates;
        self.records.extend(settled.events);
        if settled.accepted > 0 {
            self.on_progress();
        }
        let work = self.work.as_mut();
        if let Some((Claim::Short { counted, sent }, last)) = work.and_then(|work| work.claim.take()) {
            self.on_still_missing(now, settled.accepted > 0, counted, sent, last);
        }
        if let Some(&num) = settled.taken.last() {
            let text = format!(
                "another device or program sends passings into this session: number {num} was taken. The passing is set \
                 aside; numbers go on above the highest in the session"
            );
            self.problems.insert("number_taken", text);
            self.note_set_aside(settled.taken.len() as u64, &format!("number {num} was taken by another sender"));
            // The rest was never posted or is known not to be there: new numbers, above the other sender's.
            if self.work.as_ref().is_some_and(|work| !work.doubtful()) {
                self.release();
            }
        }
    }

    /// The counts were short, and the cloud was asked: does it lack the passings for good?
    fn on_still_missing(&mut self, now: Duration, progress: bool, counted: u64, sent: u64, last: u64) {
        let Some(work) = &mut self.work else { return };
        work.short_rounds = if progress { 0 } else { work.short_rounds + 1 };
        if progress || work.closing {
            return;
        }
        if work.short_rounds < SHORT_ROUNDS {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
            return;
        }
        work.short_rounds = 0;
        let text = missing_text(counted, sent);
        let events = work.set_absent_aside(last, 200, &text);
        self.note_set_aside(events.len() as u64, &text);
        self.records.extend(events);
    }

    // ---- numbers

    /// The least number that is free as far as the box and the session's own count tell.
    fn least_next(&self, session: &Session) -> u64 {
        let own = self.joined.as_ref().filter(|joined| joined.token == session.token).map_or(1, |joined| joined.next);
        own.max(session.passings.map_or(1, |count| count.saturating_add(1)))
    }

    fn join(&mut self, next: u64) {
        let Active::Some(session) = &self.active else { return };
        let same = self.joined.as_ref().is_some_and(|joined| joined.token == session.token);
        if !same {
            for code in ["number_taken", "session_lost", "session_disputed"] {
                self.problems.remove(code);
            }
        }
        self.joined = Some(Joined { token: session.token.clone(), next, checked: true });
        let recorded = Some((session.token.clone(), next));
        if self.recorded != recorded {
            self.recorded = recorded;
            self.records.push_back(UploadEvent::Joined {
                device: self.device.clone(),
                token: session.token.clone(),
                alias: session.alias.clone(),
                next,
            });
        }
        self.look.get_or_insert(Duration::ZERO);
    }

    // ---- words

    /// A question was answered.
    fn asked_well(&mut self) {
        self.ask_retry.reset();
        self.trouble = self.trouble.take().filter(|trouble| trouble.by_post);
    }

    fn complain(&mut self, by_post: bool, error: &CallError) {
        let offline = !error.certainly_not_applied() || error.is_offline();
        self.trouble = Some(Trouble { by_post, offline, text: error.to_string() });
    }
}

fn ask(question: &Question) -> Action {
    let Inquiry { token, first, last, page, .. } = &question.inquiry;
    if question.confirm {
        return Action::AskSession { token: token.clone() };
    }
    Action::AskHeld { token: token.clone(), first: *first, last: *last, page: *page }
}

fn missing_text(counted: u64, sent: u64) -> String {
    format!("passbridge: the cloud reported success for {counted} of {sent} passings and does not hold this one")
}
