//! The decisions of the uplink, as a pure state machine: answers and the time in, one action at a time out.
//!
//! No sockets, no journal, no tokio, no clock, no randomness of its own: the same inputs and seed give the same actions.
//! [`Machine::next`] says what to do now; what came of it goes into [`Machine::put`]. An action other than
//! [`Action::Record`] is given again until its answer is put, so a driver that lost one may simply ask again.
//!
//! The rules are in the head of [`crate::uplink`].

mod again;
mod post;
mod question;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, Item, UploadEvent};
use crate::retry::{Retry, jittered};
use crate::rufus::{CallError, Distrust, Inserted, NotSent, Page, Session};
use crate::status::UploadState;
use crate::uplink::inquiry::Inquiry;
use crate::uplink::pace::Pace;
use crate::uplink::recall::Recall;
use crate::uplink::sizing::Sizing;
use crate::uplink::work::{Fate, Work};

pub use again::{Follows, May};

/// First wait before something that failed is tried again.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait while nobody is reached: the network says nothing when it is back, and a try costs the cloud nothing.
const UNREACHED_MAX: Duration = Duration::from_secs(10);
/// A POST that fails after so long may have been too large for the link, or for a proxy's patience.
const LONG_POST: Duration = Duration::from_secs(5);
/// Between two looks for a session while there is none.
const POLL_NONE: Duration = Duration::from_secs(10);
/// Between two looks whether the session is still the active one.
const POLL_SOME: Duration = Duration::from_secs(20);
/// Between two tests of a key or device that was refused.
const POLL_REFUSED: Duration = Duration::from_secs(180);
/// Jitter of the three above, and of [`UNREACHED_MAX`].
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
    /// Send these again; only when [`Machine::may_resend`] says so. Of no action.
    Resend {
        /// Their session.
        token: Box<str>,
        /// Passings of it, numbers rising, at most a batch of them.
        items: Vec<Item>,
    },
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
    /// Passings acknowledged a minute, while some wait for longer than a moment.
    pub per_minute: Option<u64>,
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
    /// Lines of the log are gone: what does the session hold?
    Recall,
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
    /// The log lost lines: what the cloud holds is not sent again.
    recall: Option<Recall>,
    /// The first session of this process is not joined yet: numbers in it that the box did not give tell of lost lines.
    first_join: bool,
    posting: usize,
    /// When the POST under way was given out.
    post_began: Duration,
    now: Duration,
    pace: Pace,

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
    /// Answers in a row that there is no active session.
    none_row: u32,

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
            let (again, token) = (flight.batch.is_resend(), flight.batch.session);
            let ask_at = SETTLE.min(upload.retry_max);
            match again {
                true => Work::again(device, &token, flight.open, ask_at),
                false => Work::new(device, &token, flight.open, Fate::Maybe, ask_at),
            }
        });
        Self {
            device: device.into(),
            mode,
            upload,
            rng: fastrand::Rng::with_seed(seed),
            sizing: Sizing::new(upload.batch_max.min(BATCH_LIMIT)),
            post_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            ask_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            records: VecDeque::new(),
            active: Active::Unknown,
            joined,
            recorded,
            work,
            question: None,
            recall: state.doubt.map(Recall::new),
            first_join: true,
            posting: 0,
            post_began: Duration::ZERO,
            now: Duration::ZERO,
            pace: Pace::default(),
            hold: Duration::ZERO,
            poll_at: Duration::ZERO,
            resolve: false,
            refused: Refused::No,
            blind: false,
            posts_work: false,
            dedups: false,
            refused_row: 0,
            trouble_row: 0,
            none_row: 0,
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
        self.now = now;
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
        let must_ask = work.closing || work.again || work.ask_first || work.claim.is_some() || !self.dedups;
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
        if self.posting == 0 {
            self.post_began = now;
        }
        self.posting = self.sizing.part(work.open());
        self.posted_since_look = true;
        self.pace.busy(now);
        Some(Action::Post { token: work.token.clone(), items: work.items(self.posting) })
    }

    fn next_of_idle(&mut self, now: Duration) -> Option<Action> {
        let session = match &self.active {
            Active::Unknown => return Some(Action::Wait { until: self.poll_at, reads: false }),
            // One answer alone does not do: a new session closes the one that is running after all.
            Active::None if self.mode == SessionMode::Create && (self.none_row > 1 || self.blind) => {
                return Some(Action::Create);
            }
            Active::None => return Some(Action::Wait { until: self.poll_at, reads: false }),
            Active::Some(session) => session.clone(),
        };
        if !self.blind
            && let Some(token) = self.recall.as_mut().and_then(|recall| recall.next(&session.token))
        {
            let inquiry = Inquiry::new(&token, 1, None);
            self.question = Some(Question { inquiry, why: Why::Recall, confirm: false });
            return None;
        }
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
            Input::Resend { token, items } => self.on_resend(now, &token, items),
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
            per_minute: self.pace.per_minute(self.now),
            accepted_posts: self.accepted_posts,
            last_error: trouble.map(|trouble| trouble.text.clone()),
            problems: self.problems.clone(),
        }
    }

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
        let Some(mut batch) = batch else {
            (self.look, self.noticed) = (None, None);
            self.pace.rest();
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
        if let Some(recall) = &mut self.recall {
            recall.sort_out(&mut batch);
            self.sent += batch.found.len() as u64;
        }
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
        match self.work.take() {
            Some(work) if work.again => self.give_up_again(work),
            Some(work) => self.records.extend(work.release()),
            None => {}
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

    /// A question was answered.
    fn asked_well(&mut self) {
        self.trusted();
        self.ask_retry.reset();
        self.trouble = self.trouble.take().filter(|trouble| trouble.by_post);
    }

    /// How long to wait after a failure.
    fn pause(&mut self, by_post: bool, error: &CallError) -> Duration {
        let retry = if by_post { &mut self.post_retry } else { &mut self.ask_retry };
        let wait = retry.next(&mut self.rng, error.retry_after());
        if error.is_unreached() { wait.min(jittered(UNREACHED_MAX, POLL_JITTER, &mut self.rng)) } else { wait }
    }

    /// What answers is the cloud, or something else is wrong now.
    fn trusted(&mut self) {
        self.problems.retain(|code, _| !Distrust::CODES.contains(code));
    }

    fn complain(&mut self, by_post: bool, error: &CallError) {
        self.trusted();
        if let CallError::NotSent(NotSent::Distrust(why)) = error {
            self.problems.insert(why.code(), format!("nothing can be uploaded: {why}. Reads are kept meanwhile"));
        }
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
