//! The decisions of the uplink, as a pure state machine: answers and the time in, one action at a time out.
//!
//! No sockets, no journal, no tokio, no clock, no randomness of its own: the same inputs and seed give the same actions.
//! [`Machine::next`] says what to do now; what came of it goes into [`Machine::put`]. An action other than
//! [`Action::Record`] is given again until its answer is put, so a driver that lost one may simply ask again.
//!
//! The rules are in the head of [`crate::cloud::uplink`].

mod again;
mod key;
mod post;
mod question;
mod session;
mod suspect;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::cloud::rufus::{CallError, Distrust, Inserted, NotSent, Page, Scope, Session};
use crate::cloud::uplink::fresh::Freshness;
use crate::cloud::uplink::inquiry::{Inquiry, Way};
use crate::cloud::uplink::pace::Pace;
use crate::cloud::uplink::recall::Recall;
use crate::cloud::uplink::sizing::Sizing;
use crate::cloud::uplink::work::{Fate, Work};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, Item, UploadEvent};
use crate::model::chip::Seq;
use crate::model::retry::{Retry, jittered};
use crate::status::UploadState;

use crate::status::ProblemCode;
pub use again::{Follows, May};
use suspect::Suspects;
use watch::Watch;

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
/// Between two tests of a key or device that was refused, once and again. A firewall's rate rule is over in seconds, and a
/// key that is wrong stays so.
const POLL_REFUSED: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(180)];
/// Jitter of the three above, and of [`UNREACHED_MAX`].
const POLL_JITTER: f64 = 0.2;
/// Least time between a POST with an unknown outcome (or the start) and the first question what became of it; `retry_max`,
/// where that is less. That it is *not* there is only believed later ([`crate::cloud::uplink::fresh`]).
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Least time between two looks into the journal while reads trickle in.
const LOOK_GAP: Duration = Duration::from_millis(20);
/// Most passings in a batch: what may have to be settled after a cut, and what one inquiry has to hold.
pub(super) const BATCH_LIMIT: usize = 500;
/// POSTs that a batch of a backlog is worth: one group commit for all of them.
const PARTS: usize = 5;
/// Short counts in a row, without progress, after which the part is taken apart, or gets other numbers.
const SHORT_ROUNDS: u32 = 2;
/// Failures of the cloud itself in a row after which a part is taken apart.
const FAILED_ROW: u32 = 2;
/// For so long after a passing was accepted the cloud is known to take others.
const PASSED_LATELY: Duration = Duration::from_secs(60);
/// Sessions whose numbers are remembered, as in the journal.
const SESSIONS_MAX: usize = 32;
/// Times that a session may be shown as active which is older than the one that takes passings, before it is believed.
const STALE_POLLS: u32 = 2;
/// Largest step over numbers that another writer seems to be using.
const JUMP_MAX: u64 = 1024;
/// A batch of which nothing is settled for so long is a problem.
const STANDS: Duration = Duration::from_secs(60);
/// Between two looks whether somebody else sends into the session.
const WATCH_EVERY: Duration = Duration::from_secs(20);
/// Such a look is given up after so long: reads wait behind it.
const WATCH_PATIENCE: Duration = Duration::from_secs(2);
/// For so long after the last passing of another writer it is a problem.
const WRITER_SHOWN: Duration = Duration::from_secs(900);
/// For so long a form of question is kept that the cloud answered after it refused a simpler one.
const WAY_KEPT: Duration = Duration::from_secs(600);
/// Single refusals in a row after which each further one has to wait.
const REFUSED_ROW: u32 = 5;
/// Unknown outcomes in a row after which the timer is told which passing it hangs on.
const TROUBLE_ROW: u32 = 3;

/// A wait as it is with every `retry_max` that a configuration file may hold (a second at least). Tests have a shorter one,
/// and then all waits shrink alike.
fn scaled(wait: Duration, retry_max: Duration) -> Duration {
    wait.min(retry_max * u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
}

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
    /// Ask for a page of what the cloud holds: [`Input::Held`].
    AskHeld {
        /// What is asked for.
        scope: Scope,
        /// Page, from 1.
        page: u32,
        /// How long the answer is worth waiting for; `None`: as long as the client waits.
        patience: Option<Duration>,
    },
    /// Ask for the device, only to see whether the key may read: [`Input::Device`].
    AskDevice,
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
        /// Released passings that are left out.
        without: Vec<Seq>,
        /// Passings that the cloud failed at and that are tried again: they come last.
        again: Vec<Item>,
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
    /// Of [`Action::AskDevice`].
    Device(Result<(), CallError>),
    /// Another key is used from now on. Of no action.
    NewKey,
    /// Passings that were set aside because the cloud failed at them are to be tried again now. Of no action.
    TryAgain,
    /// Of [`Action::Create`].
    Created(Result<Session, CallError>),
    /// Of [`Action::Form`]; `None`: nothing is pending.
    Formed(Option<Formed>),
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

/// A batch, and what is known of its reads beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// The batch, not recorded yet.
    pub batch: Batch,
    /// The reads in it that a decoder gave from its memory.
    pub stored: Vec<Seq>,
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
    pub problems: BTreeMap<ProblemCode, String>,
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
    /// Reads were left behind by an earlier process: does the cloud hold them?
    Left {
        from: i64,
        to: i64,
    },
    /// The cloud counts duplicates that it does not show under their numbers: where are they?
    Elsewhere,
    /// Does somebody else send into this session?
    Watch,
}

#[derive(Debug)]
struct Question {
    inquiry: Inquiry,
    why: Why,
    /// The cloud said that the session is not there; ask for the session itself.
    confirm: bool,
    /// Refusals of this form of the question.
    refusals: u32,
}

impl Question {
    fn new(inquiry: Inquiry, why: Why) -> Self {
        Self { inquiry, why, confirm: false, refusals: 0 }
    }
}

/// Who is at fault when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The network.
    Offline,
    /// The cloud.
    Cloud,
    /// Neither, or it does not matter.
    Other,
}

#[derive(Clone, Debug)]
struct Trouble {
    by_post: bool,
    fault: Fault,
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
    /// Sessions that this box gave numbers in, the last joined last, each with the number above all that were given. What
    /// the cloud shows never lowers them.
    given: VecDeque<(Box<str>, u64)>, // at most SESSIONS_MAX
    /// The same, without the numbers that were passed over because the cloud showed them to be taken.
    own: VecDeque<(Box<str>, u64)>, // at most SESSIONS_MAX
    /// Looks for the active session in a row at which the cloud failed.
    polls_failed: u32,
    work: Option<Work>,
    question: Option<Question>,
    fresh: Freshness,
    /// The form of question that the cloud answers, and until when it is asked so first.
    way: (Way, Duration),
    /// What the cloud holds already of what waits.
    recall: Recall,
    /// Reads below this entry were left behind by an earlier process.
    first: u64,
    /// The first session of this process is not joined yet: numbers in it that the box did not give tell of lost lines.
    first_join: bool,
    /// Places in the open list of the POST under way.
    posting: Option<Range<usize>>,
    /// When the POST under way was given out.
    post_began: Duration,
    /// The batch in flight was as large as a batch can be: more waits.
    full: bool,
    /// When a batch was formed, or something of it was settled.
    moved_at: Duration,
    now: Duration,
    pace: Pace,

    hold: Duration,
    poll_at: Duration,
    /// A POST was told that the session is gone: what is active now?
    resolve: bool,
    refused: Refused,
    /// Refusals in a row of the key or the device.
    refusals: usize,
    /// Reading is refused while posting works.
    blind: bool,
    /// Refusals in a row to read, and whether another question is to tell if it is the key.
    unread: u32,
    test_reading: bool,
    /// Every form of question is refused: nothing can be asked before this time.
    mute_until: Duration,
    posts_work: bool,
    /// A POST was accepted in the session joined, by this process.
    proven: bool,
    /// Polls in a row that showed an older session.
    stale_polls: u32,
    dedups: bool,
    refused_row: u32,
    trouble_row: u32,
    /// Times in a row that passings had to be numbered anew because their numbers were taken.
    renumbered_row: u32,
    /// Answers in a row that there is no active session, and when the first of them came.
    none_row: u32,
    none_since: Duration,

    suspects: Suspects,
    watch: Watch,

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
    problems: BTreeMap<ProblemCode, String>,
}

impl Machine {
    /// A machine that goes on from what the journal knows, at time zero.
    pub fn new(device: &str, mode: SessionMode, upload: UploadConfig, state: DeviceState, seed: u64) -> Self {
        let recorded = state.session.map(|(token, _)| (token, state.next.max(1)));
        let joined = recorded.clone().map(|(token, next)| Joined { token, next, checked: false });
        let work = state.in_flight.filter(|flight| !flight.open.is_empty()).map(|flight| {
            // Nobody knows how far the process before got with it.
            let (again, token) = (flight.batch.is_resend(), flight.batch.session);
            let ask_at = FIRST_LOOK.min(upload.retry_max);
            match again {
                true => Work::again(device, &token, flight.open, ask_at),
                false => Work::new(device, &token, flight.open, Fate::Maybe, ask_at),
            }
        });
        let mut given: VecDeque<_> = state.given.into();
        if let Some((token, next)) = &recorded {
            note_given(&mut given, token, *next);
        }
        Self {
            device: device.into(),
            mode,
            upload,
            rng: fastrand::Rng::with_seed(seed),
            sizing: Sizing::new(upload.batch_max.min(BATCH_LIMIT), BATCH_LIMIT),
            post_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            ask_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            records: VecDeque::new(),
            active: Active::Unknown,
            joined,
            recorded,
            own: given.clone(),
            given,
            polls_failed: 0,
            work,
            question: None,
            fresh: Freshness::new(upload.settle),
            way: (Way::Range, Duration::ZERO),
            recall: Recall::new(state.doubt),
            first: state.first,
            first_join: true,
            posting: None,
            post_began: Duration::ZERO,
            full: false,
            moved_at: Duration::ZERO,
            now: Duration::ZERO,
            pace: Pace::default(),
            hold: Duration::ZERO,
            poll_at: Duration::ZERO,
            resolve: false,
            refused: Refused::No,
            refusals: 0,
            blind: false,
            unread: 0,
            test_reading: false,
            mute_until: Duration::ZERO,
            posts_work: false,
            proven: false,
            stale_polls: 0,
            dedups: false,
            refused_row: 0,
            trouble_row: 0,
            renumbered_row: 0,
            none_row: 0,
            none_since: Duration::ZERO,
            suspects: Suspects::new(state.parked, upload.retry_max),
            watch: Watch::new(scaled(WATCH_EVERY, upload.retry_max)),
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
        self.forget_writer(now);
        loop {
            if let Some(event) = self.records.pop_front() {
                return Action::Record(event);
            }
            if now < self.hold {
                return Action::Wait { until: self.hold, reads: false };
            }
            if self.test_reading {
                return Action::AskDevice;
            }
            if self.refused != Refused::No || self.resolve || now >= self.poll_at {
                return Action::AskActive;
            }
            if let Some(question) = &mut self.question {
                let patience = (question.why == Why::Watch).then(|| scaled(WATCH_PATIENCE, self.upload.retry_max));
                return ask(question, now, patience);
            }
            // Each step either gives an action or changes the state so that the next round gives one.
            let action = if self.work.is_some() { self.next_of_work(now) } else { self.next_of_idle(now) };
            if let Some(action) = action {
                return action;
            }
        }
    }

    fn next_of_work(&mut self, now: Duration) -> Option<Action> {
        let may_ask = self.may_ask(now);
        let work = self.work.as_mut()?;
        if work.open() == 0 {
            self.finish();
            return None;
        }
        if self.blind && work.claim.is_none() {
            self.take_at_its_word();
            if self.work.as_ref()?.open() == 0 {
                return None;
            }
        }
        let work = self.work.as_mut()?;
        let must_ask = work.closing || work.again || work.ask_first || work.claim.is_some() || !self.dedups;
        let part = if work.closing { None } else { work.postable(!must_ask) };
        let Some(part) = part else {
            if !work.doubtful() {
                self.release(); // the session is closed
                return None;
            }
            if may_ask {
                return self.settle(now);
            }
            if work.closing && self.blind {
                self.set_unknowable_aside();
                return None;
            }
            self.say_cannot_ask();
            return Some(Action::Wait { until: self.poll_at.min(self.mute_until.max(now + FIRST_LOOK)), reads: false });
        };
        // A suspect goes alone.
        let is_suspect = |at: &usize| work.seq(*at).is_some_and(|seq| self.suspects.knows(seq));
        let length = match part.clone().position(|at| is_suspect(&at)) {
            Some(0) => 1,
            Some(before) => self.sizing.part(before),
            None => self.sizing.part(part.len()),
        };
        let part = part.start..part.start + length;
        let items = work.items(&part);
        let token = work.token.clone();
        if self.posting.is_none() {
            self.post_began = now;
        }
        self.posting = Some(part);
        self.posted_since_look = true;
        self.pace.busy(now);
        Some(Action::Post { token, items })
    }

    /// Puts the question that settles all doubt, when it is time.
    fn settle(&mut self, now: Duration) -> Option<Action> {
        let work = self.work.as_mut()?;
        if now < work.ask_at {
            return Some(Action::Wait { until: work.ask_at.min(self.poll_at), reads: false });
        }
        let inquiry = work.inquiry()?.with_witness(self.fresh.witness(&work.token));
        self.put_question(now, inquiry, Why::Settle);
        None
    }

    fn next_of_idle(&mut self, now: Duration) -> Option<Action> {
        let session = match &self.active {
            Active::Unknown => return Some(Action::Wait { until: self.poll_at, reads: false }),
            // One answer alone does not do, nor do two within seconds: a new session closes the one that is running after all.
            Active::None if self.mode == SessionMode::Create && self.none_is_sure(now) => return Some(Action::Create),
            Active::None => return Some(Action::Wait { until: self.poll_at, reads: false }),
            Active::Some(session) => session.clone(),
        };
        let may_ask = self.may_ask(now);
        if may_ask && let Some(token) = self.recall.next(&session.token) {
            // What was sent just before this process started may not be shown yet.
            let believed = self.fresh.age();
            if now < believed {
                return Some(Action::Wait { until: believed.min(self.poll_at), reads: false });
            }
            self.put_question(now, Inquiry::new(&token, 1, None), Why::Recall);
            return None;
        }
        let Some(joined) = self.joined.as_ref().filter(|joined| joined.token == session.token && joined.checked) else {
            let from = self.least_next(&session);
            if may_ask {
                self.put_question(now, Inquiry::new(&session.token, from, None), Why::Join);
            } else {
                self.join(from);
            }
            return None;
        };
        if may_ask && let Some(inquiry) = self.watch.due(now, &joined.token) {
            let inquiry = inquiry.with_witness(self.fresh.witness(&joined.token));
            self.put_question(now, inquiry, Why::Watch);
            return None;
        }
        let until_poll = self.watch.due_at().filter(|due| *due > now).map_or(self.poll_at, |due| due.min(self.poll_at));
        let wait = |until: Duration| Some(Action::Wait { until: until.min(until_poll), reads: true });
        let look = [self.look, self.suspects.due_after(self.last_look)].into_iter().flatten().min();
        match look {
            None => wait(self.poll_at),
            Some(at) if now < at => wait(at),
            Some(_) => Some(Action::Form {
                token: joined.token.clone(),
                next: joined.next,
                limit: (self.upload.batch_max.max(1) * PARTS).clamp(1, BATCH_LIMIT),
                without: self.suspects.released(),
                again: self.suspects.due(now),
            }),
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
            Input::Device(answer) => self.on_device(now, answer),
            Input::NewKey => self.on_new_key(now),
            Input::TryAgain => {
                self.suspects.try_now(now);
                self.look = Some(now);
            }
            Input::Created(answer) => self.on_created(now, answer),
            Input::Formed(formed) => self.on_formed(now, formed),
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
        } else if trouble.is_some_and(|trouble| trouble.fault == Fault::Offline) {
            UploadState::Offline
        } else if trouble.is_some_and(|trouble| trouble.fault == Fault::Cloud) {
            UploadState::CloudTrouble
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
        let mut problems = self.problems.clone();
        let still = self.now.saturating_sub(self.moved_at);
        if let Some(work) = self.work.as_ref().filter(|_| still >= scaled(STANDS, self.upload.retry_max)) {
            let why = trouble.map_or_else(|| "no answer settles them".to_owned(), |trouble| trouble.text.clone());
            let text = format!(
                "nothing was settled for {} s: {} passings are on their way and may or may not be in the cloud ({why}). \
                 They are kept, and tried or asked about again by themselves",
                still.as_secs(),
                work.open()
            );
            problems.insert(ProblemCode::UploadStands, text);
        }
        if let Some(text) = self.suspects.in_words() {
            problems.insert(ProblemCode::CloudFailsAt, text);
        }
        Report {
            state,
            session,
            sent: self.sent,
            duplicates: self.duplicates,
            per_minute: self.pace.per_minute(self.now),
            accepted_posts: self.accepted_posts,
            last_error: trouble.map(|trouble| trouble.text.clone()),
            problems,
        }
    }

    fn on_noticed(&mut self, now: Duration) {
        let soon = now.max(self.last_look + LOOK_GAP);
        if self.look.is_none() {
            self.noticed = Some(now);
        }
        self.look = Some(self.look.map_or(soon, |at| at.min(soon)));
    }

    fn on_formed(&mut self, now: Duration, formed: Option<Formed>) {
        // What came while a POST was under way may have waited since the last look.
        let since = if self.posted_since_look { self.last_look } else { now };
        (self.last_look, self.posted_since_look) = (now, false);
        let Some(Formed { mut batch, stored }) = formed else {
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
        self.full = count >= (self.upload.batch_max.max(1) * PARTS).min(BATCH_LIMIT);
        // By time may be answered also while every question by number is refused.
        if !self.blind
            && let Some((from, to)) = self.recall.uncovered(&batch, self.first, &stored)
        {
            // What was sent just before this process started may not be shown yet.
            let believed = self.fresh.age();
            if now < believed {
                self.look = Some(believed);
                return;
            }
            let inquiry = Inquiry::by_time(&self.device, from, to);
            self.question = Some(Question::new(inquiry, Why::Left { from, to }));
            return; // the same batch is formed again
        }
        self.recall.sort_out(&mut batch);
        self.sent += batch.found.len() as u64;
        if let (Some(joined), Some(last)) = (&mut self.joined, batch.items.last()) {
            joined.next = last.num + 1;
            note_given(&mut self.given, &joined.token, joined.next);
            note_given(&mut self.own, &joined.token, joined.next);
            self.recorded = Some((joined.token.clone(), joined.next));
            self.moved_at = now;
            self.suspects.numbered(&batch.items);
            self.work = Some(Work::new(&self.device, &batch.session, batch.items.clone(), Fate::Fresh, Duration::ZERO));
        }
        self.records.push_back(UploadEvent::Batch(batch));
    }

    /// The batch in flight is settled.
    fn finish(&mut self) {
        self.work = None;
        self.question = self.question.take().filter(|question| !question.is_of_work());
        self.posting = None;
        self.sizing.found();
        self.look.get_or_insert(Duration::ZERO);
    }

    /// The session of the batch in flight takes no more.
    fn close(&mut self, now: Duration) {
        if self.work.as_mut().is_some_and(|work| work.close(now)) {
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

    /// Some of it was accepted, by the answer of an insert or because it was seen.
    fn note_accepted(&mut self, now: Duration, items: &[Item], duplicates: u64) {
        self.moved_at = now;
        self.sent += items.len() as u64;
        self.duplicates += duplicates;
        self.pace.sent(now, items.len() as u64);
        self.suspects.accepted(now, items);
        let Some(work) = &self.work else { return };
        if let Some(last) = items.last() {
            self.fresh.accepted(&work.token, last, now);
        }
        if !work.again {
            self.watch.accepted(&work.token, items);
        }
        self.proven |= self.joined.as_ref().is_some_and(|joined| joined.token == work.token);
    }

    /// The session is closed and this key may not read it: nobody can tell what became of some passings.
    fn set_unknowable_aside(&mut self) {
        let answer = "passbridge: the session closed before the cloud confirmed this passing, and the API key may not \
                      read whether it arrived; look into the session before sending it again";
        if let Some(work) = &mut self.work {
            (0..work.open()).filter_map(|at| work.seq(at)).for_each(|seq| self.suspects.forget(seq));
            let events = work.set_doubtful_aside(403, answer);
            self.note_set_aside(events.len() as u64, answer);
            self.records.extend(events);
        }
    }

    /// A question was answered.
    fn asked_well(&mut self) {
        self.trusted();
        self.ask_retry.reset();
        self.unread = 0;
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
        let fault = match error {
            _ if error.is_offline() => Fault::Offline,
            CallError::Unknown { .. } => Fault::Cloud,
            _ => Fault::Other,
        };
        self.trouble = Some(Trouble { by_post, fault, text: error.to_string() });
    }
}

fn ask(question: &mut Question, now: Duration, patience: Option<Duration>) -> Action {
    if question.confirm {
        return Action::AskSession { token: question.inquiry.token.clone() };
    }
    question.inquiry.asked.get_or_insert(now);
    let (scope, page) = question.inquiry.next();
    Action::AskHeld { scope, page, patience }
}

/// Notes the number above all that were given in a session, as the one joined last.
fn note_given(given: &mut VecDeque<(Box<str>, u64)>, token: &str, next: u64) {
    let known = given.iter().position(|(known, _)| **known == *token).and_then(|at| given.remove(at));
    let before = known.map_or(0, |(_, before)| before);
    if given.len() == SESSIONS_MAX {
        given.pop_front();
    }
    given.push_back((token.into(), before.max(next)));
}
