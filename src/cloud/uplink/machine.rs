//! The decisions of the uplink, as a pure state machine: answers and the time are its input, one
//! action at a time is its output.
//!
//! The machine has no sockets, no journal, no tokio, no clock and no randomness of its own. The
//! same inputs and the same seed produce the same actions. [`Machine::next`] returns the next
//! action, and the driver puts the result into [`Machine::put`]. The machine returns an action
//! other than [`Action::Record`] again until its result is put, so a driver that lost an action may
//! ask again.
//!
//! The rules are in the head of [`crate::cloud::uplink`].

mod again;
mod interface;
mod key;
pub(super) mod limits;
mod order;
mod parts;
mod post;
mod question;
mod session;
mod suspect;
mod wanted;
mod watch;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cloud::rufus::{CallError, Distrust, NotSent};
use crate::cloud::uplink::inquiry::Inquiry;
use crate::cloud::uplink::work::{Fate, Work};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, UploadEvent, UploadItem};
use crate::model::retry::jittered;
use crate::status::{ProblemCode, UploadState};

pub(crate) use interface::{Action, Formed, Input, OfferTerms, ResendPermit, SessionProgress, UplinkReport};
use limits::{BATCH_LIMIT, FIRST_LOOK, LOOK_GAP, PARTS, POLL_JITTER, STANDS, UNREACHED_MAX, WATCH_PATIENCE, scaled};
use parts::{
    Active, BatchState, Counters, Culprit, Question, Refused, SessionState, Timers, Trouble, Trust, Why, note_given,
};
pub use wanted::Ends;
use wanted::Order;
pub(crate) use wanted::{Done, Outcome, Wanted};

/// The uplink of one device.
pub(crate) struct Machine {
    device: Box<str>,
    mode: SessionMode,
    upload: UploadConfig,
    rng: fastrand::Rng,
    /// Events that the driver must record before it does anything else, at most one event for each
    /// run of passings in one batch.
    records: VecDeque<UploadEvent>,
    session: SessionState,
    batch: BatchState,
    timers: Timers,
    trust: Trust,
    counters: Counters,
    /// A session that somebody opens or closes.
    order: Option<Order>,
    /// Problems shown now, by code.
    problems: BTreeMap<ProblemCode, String>,
}

impl Machine {
    /// A machine at time zero that continues from the state in the journal.
    pub(crate) fn new(device: &str, mode: SessionMode, upload: UploadConfig, state: DeviceState, seed: u64) -> Self {
        let DeviceState { session, next, in_flight, doubt, given, failing, first, .. } = state;
        let recorded = session.map(|(token, _)| (token, next.max(1)));
        let work = in_flight.filter(|flight| !flight.open.is_empty()).map(|flight| {
            // Nobody knows how much of the batch the previous process sent.
            let ask_at = FIRST_LOOK.min(upload.retry_max);
            match flight.batch.is_resend() {
                true => Work::again(device, &flight.batch.session, flight.open, ask_at),
                false => Work::resumed(flight, ask_at),
            }
        });
        Self {
            device: device.into(),
            mode,
            upload,
            rng: fastrand::Rng::with_seed(seed),
            records: VecDeque::new(),
            session: SessionState::new(recorded, given.into()),
            batch: BatchState::new(work, failing, &upload),
            timers: Timers::new(&upload),
            trust: Trust::new(doubt, first, &upload),
            counters: Counters::default(),
            order: None,
            problems: BTreeMap::new(),
        }
    }

    /// Returns what to do at `now` (time since the start).
    pub(crate) fn next(&mut self, now: Duration) -> Action {
        let action = self.decide(now);
        match (action, self.settles_until()) {
            // What waits goes up first, for a limited time, and a batch ends where the order says.
            (Action::Wait { until, reads, .. }, Some(end)) => {
                Action::Wait { until: until.min(end), reads, offer: None }
            }
            (action, _) => action,
        }
    }

    fn decide(&mut self, now: Duration) -> Action {
        self.timers.now = now;
        self.timers.settles = false;
        self.forget_writer(now);
        loop {
            if let Some(event) = self.records.pop_front() {
                return Action::Record(event);
            }
            if let Some(action) = self.next_of_order(now) {
                return action;
            }
            if now < self.timers.hold {
                return Action::Wait { until: self.timers.hold, reads: false, offer: None };
            }
            if self.trust.test_reading {
                return Action::AskDevice;
            }
            if self.trust.refused != Refused::No || self.session.resolve || now >= self.timers.poll_at {
                return Action::AskActive;
            }
            if let Some(question) = &mut self.batch.question {
                let patience = (question.why == Why::Watch).then(|| scaled(WATCH_PATIENCE, self.upload.retry_max));
                return ask(question, now, patience);
            }
            // Each step either returns an action or changes the state so that the next round
            // returns one.
            let others_go = self.others_go(now);
            let action = if others_go { self.next_of_idle(now) } else { self.next_of_work(now) };
            if let Some(action) = action {
                return action;
            }
        }
    }

    /// The next batch may be sent: nothing is in flight except passings that were left behind, and
    /// it is not time to ask the cloud about them.
    fn others_go(&self, now: Duration) -> bool {
        let Some(work) = &self.batch.work else { return true };
        let follows = matches!(&self.session.active, Active::Some(session) if session.token == work.token);
        work.open() > 0 && work.is_left_behind() && follows && (now < work.due() || !self.may_ask(now))
    }

    fn next_of_work(&mut self, now: Duration) -> Option<Action> {
        let other = matches!(&self.session.active, Active::Some(session)
            if self.batch.work.as_ref().is_some_and(|work| work.token != session.token));
        if other {
            self.close(now);
        }
        let may_ask = self.may_ask(now);
        let work = self.batch.work.as_mut()?;
        if work.open() == 0 {
            self.finish();
            return None;
        }
        if self.trust.blind && work.claim.is_none() {
            self.take_at_its_word();
            if self.batch.work.as_ref()?.open() == 0 {
                return None;
            }
        }
        let work = self.batch.work.as_mut()?;
        let must_ask = work.closing || work.again || work.ask_first || work.claim.is_some() || !self.trust.dedups;
        let part = if work.closing { None } else { work.postable(!must_ask) };
        let Some(part) = part else {
            if !work.doubtful() {
                self.release(); // the session is closed
                return None;
            }
            if may_ask {
                return self.settle(now);
            }
            if work.closing && self.trust.blind {
                self.set_unknowable_aside();
                return None;
            }
            self.say_cannot_ask();
            return Some(Action::Wait {
                until: self.timers.poll_at.min(self.timers.mute_until.max(now + FIRST_LOOK)),
                reads: false,
                offer: None,
            });
        };
        let seqs = part.clone().filter_map(|at| work.seq(at));
        let together = self.batch.suspects.together(seqs).min(part.len());
        let part = part.start..part.start + self.batch.sizing.part(together);
        let items = work.items(&part);
        let token = work.token.clone();
        if self.batch.posting.is_none() {
            self.batch.post_began = now;
        }
        self.batch.posting = Some(part);
        self.timers.posted_since_look = true;
        self.counters.pace.busy(now);
        Some(Action::Post { token, items })
    }

    /// Puts the question that settles all doubt, when it is due.
    fn settle(&mut self, now: Duration) -> Option<Action> {
        let work = self.batch.work.as_mut()?;
        if now < work.due() {
            return Some(Action::Wait { until: work.due().min(self.timers.poll_at), reads: false, offer: None });
        }
        let inquiry = work.inquiry()?.with_witness(self.trust.fresh.witness(&work.token));
        self.put_question(now, inquiry, Why::Settle);
        None
    }

    fn next_of_idle(&mut self, now: Duration) -> Option<Action> {
        let session = match &self.session.active {
            Active::Unknown => return Some(Action::Wait { until: self.timers.poll_at, reads: false, offer: None }),
            // One answer is not enough, and two answers within seconds are not enough either,
            // because a new session would close the running one.
            Active::None if self.mode == SessionMode::Create && self.session.closed_by_hand => {
                return Some(self.until_reads_wait(now));
            }
            Active::None if self.mode == SessionMode::Create && self.none_is_sure(now) => {
                return Some(Action::Create { alias: None });
            }
            Active::None => return Some(Action::Wait { until: self.timers.poll_at, reads: false, offer: None }),
            Active::Some(session) => session.clone(),
        };
        let may_ask = self.may_ask(now);
        if may_ask && let Some(token) = self.trust.recall.next(&session.token) {
            // The cloud may not show yet what the previous process sent just before this process
            // started.
            let believed = self.trust.fresh.age();
            if now < believed {
                self.timers.settles = true;
                return Some(Action::Wait { until: believed.min(self.timers.poll_at), reads: false, offer: None });
            }
            self.put_question(now, Inquiry::new(&token, 1, None), Why::Recall);
            return None;
        }
        let Some(joined) =
            self.session.joined.as_ref().filter(|joined| joined.token == session.token && joined.checked)
        else {
            let from = self.least_next(&session);
            if may_ask {
                self.put_question(now, Inquiry::new(&session.token, from, None), Why::Join);
            } else {
                self.join(from);
            }
            return None;
        };
        if may_ask && let Some(inquiry) = self.trust.watch.due(now, &joined.token) {
            let inquiry = inquiry.with_witness(self.trust.fresh.witness(&joined.token));
            self.put_question(now, inquiry, Why::Watch);
            return None;
        }
        let left_behind = self.batch.work.as_ref().map(Work::due);
        let dues = [self.trust.watch.due_at(), left_behind].into_iter().flatten().filter(|due| *due > now);
        let until_poll = dues.fold(self.timers.poll_at, Duration::min);
        let (token, next) = (joined.token.clone(), joined.next);
        self.next_of_reads(now, until_poll, token, next)
    }

    /// The session is joined, and nothing is to be asked: the next batch, or a wait for it until
    /// `until_poll` at most.
    fn next_of_reads(&mut self, now: Duration, until_poll: Duration, token: Box<str>, next: u64) -> Option<Action> {
        // Without a linger, no read that arrives before the next POST may follow changes when it goes.
        let rested = self.timers.rested(&self.upload);
        let deaf = self.upload.linger.is_zero() && now < rested;
        let wait = |until: Duration| {
            let until = if deaf { until.min(rested) } else { until };
            Some(Action::Wait { until: until.min(until_poll), reads: !deaf, offer: None })
        };
        let in_flight = self.batch.work.as_ref().map(Work::seqs).unwrap_or_default();
        let suspects = self.batch.suspects.due_after(self.timers.last_look, &in_flight);
        match [self.timers.look, suspects].into_iter().flatten().min() {
            None => {
                if now < rested {
                    return wait(rested);
                }
                let (until, offer) = (self.timers.poll_at.min(until_poll), self.offer());
                Some(Action::Wait { until, reads: true, offer })
            }
            Some(at) if now < at => {
                self.timers.settles = at == self.trust.fresh.age();
                wait(at)
            }
            Some(_) => {
                let again: Vec<_> = self.batch.suspects.due(now, &in_flight).into_iter().collect();
                let bound = self.order_bound();
                let early = again.is_empty() && !self.timers.full && bound.is_none();
                if early && now < self.timers.due(now, &self.upload) {
                    return Some(Action::Count { limit: self.upload.batch_max.max(1) });
                }
                let company = self.company(now, until_poll).filter(|_| again.is_empty() && bound.is_none());
                if company.is_some() {
                    return company;
                }
                Some(Action::Form {
                    token,
                    next,
                    limit: (self.upload.batch_max.max(1) * PARTS).clamp(1, BATCH_LIMIT),
                    bound,
                    without: self.batch.suspects.released(),
                    again,
                })
            }
        }
    }

    /// A session was closed by hand. Another one is opened when a read waits for it.
    fn until_reads_wait(&self, now: Duration) -> Action {
        let until = self.timers.look.map_or(self.timers.poll_at, |look| look.min(self.timers.poll_at));
        match self.timers.look {
            Some(look) if look <= now => Action::Count { limit: 1 },
            _ => Action::Wait { until, reads: true, offer: None },
        }
    }

    /// The wait for a read with which a batch that is due can be written.
    fn company(&self, now: Duration, until_poll: Duration) -> Option<Action> {
        let until = self.timers.company(&self.upload);
        let offer = self.offer().filter(|_| !self.timers.full && now < until)?;
        Some(Action::Wait { until: until.min(until_poll), reads: false, offer: Some(offer) })
    }

    /// The terms of an offer, while nothing of the device is in flight, and nothing is to be asked
    /// before a number is given.
    fn offer(&self) -> Option<OfferTerms> {
        let joined = self.session.joined.as_ref()?;
        let free = self.batch.work.is_none() && self.trust.recall.is_empty();
        let (token, next) = (joined.token.clone(), joined.next);
        free.then(|| OfferTerms { token, next, limit: self.upload.batch_max.max(1) })
    }

    /// Takes the result of the last action at `now`.
    pub(crate) fn put(&mut self, now: Duration, input: Input) {
        match input {
            Input::Noticed => self.on_noticed(now),
            Input::Active(answer) => self.on_active_answer(now, answer),
            Input::Session(answer) => self.on_session(now, answer),
            Input::Held(answer) => self.on_held(now, answer),
            Input::Device(answer) => self.on_device(now, answer),
            Input::NewKey => self.on_new_key(now),
            Input::TryAgain(only) => {
                self.batch.suspects.try_now(now, only.as_deref());
                self.timers.look = Some(now);
            }
            Input::Decided { failing, set_aside } => {
                self.batch.suspects.keep(&failing);
                if set_aside == 0 {
                    self.counters.set_aside = 0;
                    self.problems.remove(&ProblemCode::PassingsSetAside);
                }
            }
            Input::Created(answer) => {
                if !self.on_created_for_order(now, &answer) {
                    self.on_created(now, answer);
                }
            }
            Input::Closed(answer) => self.on_closed(now, answer),
            Input::Order { wanted, through } => self.on_order(now, wanted, through),
            Input::Waiting(count) => self.on_waiting(now, count),
            Input::Formed(formed) => self.on_formed(now, formed),
            Input::Drained => {
                self.note_drained();
                self.on_formed(now, None);
            }
            Input::Numbered(batch) => self.on_numbered(now, batch),
            Input::Posted(Ok(counts)) => self.on_inserted(now, counts),
            Input::Posted(Err(error)) => self.on_post_failed(now, &error),
            Input::Resend { token, items } => self.on_resend(now, &token, items),
        }
    }

    /// Returns the state that the board shows to the timer.
    pub(crate) fn report(&self) -> UplinkReport {
        let trouble = self.counters.trouble.as_ref();
        let state = if self.trust.refused != Refused::No {
            UploadState::Refused
        } else if trouble.is_some_and(|trouble| matches!(trouble.fault, Culprit::Offline | Culprit::Silent)) {
            UploadState::Offline
        } else if trouble.is_some_and(|trouble| trouble.fault == Culprit::Cloud) {
            UploadState::CloudTrouble
        } else if self.batch.work.is_some() {
            UploadState::Sending
        } else if self.session.active == Active::None {
            UploadState::NoSession
        } else {
            UploadState::Idle
        };
        let session = match &self.session.active {
            Active::Some(session) => Some((session.token.clone(), session.alias.clone())),
            _ => None,
        };
        let mut problems = self.problems.clone();
        let still = self.timers.now.saturating_sub(self.batch.moved_at);
        if let Some(work) = self.batch.work.as_ref().filter(|_| still >= scaled(STANDS, self.upload.retry_max)) {
            let why = trouble.map_or_else(|| "no answer settles them".to_owned(), |trouble| trouble.text.clone());
            let text = format!(
                "nothing was settled for {} s: {} passings are on their way and may or may not be in the cloud ({why}). \
                 They are kept, and tried or asked about again by themselves",
                still.as_secs(),
                work.open()
            );
            problems.insert(ProblemCode::UploadStands, text);
        }
        if let Some(text) = self.batch.suspects.in_words() {
            problems.insert(ProblemCode::CloudFailsAt, text);
        }
        self.tell_state(state, &mut problems);
        UplinkReport {
            state,
            session,
            waits_for: self.waits_for(state),
            nothing_waits: self.counters.nothing_waits,
            per_minute: self.counters.pace.per_minute(self.timers.now),
            accepted_posts: self.counters.accepted_posts,
            last_error: trouble.map(|trouble| trouble.text.clone()),
            problems,
        }
    }

    /// What the machine waits for in this state, although nothing failed.
    fn waits_for(&self, state: UploadState) -> Option<&'static str> {
        if !matches!(state, UploadState::Idle | UploadState::Sending) {
            return None;
        }
        match &self.batch.question {
            // Reads do not wait long behind a look for another writer.
            Some(question) if question.why != Why::Watch => Some("asks the cloud what it holds"),
            None if self.session.active == Active::Unknown => Some("asks the cloud for its session"),
            None if self.timers.settles => Some("waits until the cloud can tell what it holds"),
            _ => None,
        }
    }

    /// Where nothing goes up that is a problem too, with what to do.
    fn tell_state(&self, state: UploadState, problems: &mut BTreeMap<ProblemCode, String>) {
        let why = || self.counters.trouble.as_ref().map_or("", |trouble| trouble.text.as_str());
        match state {
            // The problem that is there says why what answers is not the cloud.
            UploadState::Offline if problems.keys().any(|code| Distrust::CODES.contains(code)) => {}
            UploadState::Offline => {
                let silent = self.counters.trouble.as_ref().is_some_and(|trouble| trouble.fault == Culprit::Silent);
                let code = if silent { ProblemCode::CloudSilent } else { ProblemCode::Offline };
                problems.insert(code, format!("{}. Nothing is lost; it is tried again by itself", why()));
            }
            // The problem that is there may know more.
            UploadState::CloudTrouble if !problems.contains_key(&ProblemCode::CloudTrouble) => {
                let text = format!("{}. Nothing is lost; it is tried again by itself", why());
                problems.insert(ProblemCode::CloudTrouble, text);
            }
            UploadState::NoSession if self.mode == SessionMode::Active => {
                let text = "the device has no session that is open. To open one: sudo passbridge session open --alias NAME \
                            (or in the RUFUS Cloud). Every read is kept, and goes up by itself then";
                problems.insert(ProblemCode::NoSession, text.to_owned());
            }
            _ => {}
        }
    }

    fn on_noticed(&mut self, now: Duration) {
        let soon = now.max(self.timers.last_look + LOOK_GAP);
        if self.timers.look.is_none() {
            self.timers.noticed = Some(now);
        }
        self.timers.look = Some(self.timers.look.map_or(soon, |at| at.min(soon)));
    }

    /// `count` passings wait, counted up to a full batch. The batch is not due yet unless it is
    /// full.
    fn on_waiting(&mut self, now: Duration, count: Option<usize>) {
        let Some(count) = count else {
            self.timers.looked(now);
            return self.on_nothing_waits();
        };
        if self.session.closed_by_hand && self.session.active == Active::None {
            self.session.closed_by_hand = count == 0;
            self.timers.looked(now);
            self.timers.look = (count > 0).then_some(now);
            return;
        }
        let due = self.timers.due(now, &self.upload);
        self.timers.looked(now);
        self.timers.full = count >= self.upload.batch_max.max(1);
        if count > 0 {
            self.counters.nothing_waits = Some(false);
        }
        self.timers.look = Some(if self.timers.full { now } else { due });
    }

    fn on_nothing_waits(&mut self) {
        (self.timers.look, self.timers.noticed, self.timers.full) = (None, None, false);
        self.counters.nothing_waits = Some(true);
        self.counters.pace.rest();
    }

    fn on_formed(&mut self, now: Duration, formed: Option<Formed>) {
        self.timers.looked(now);
        self.timers.full = false;
        let Some(Formed { mut batch, stored }) = formed else {
            return self.on_nothing_waits();
        };
        let count = batch.items.len();
        self.counters.nothing_waits = Some(false);
        (self.timers.look, self.timers.noticed) = (Some(now), None);
        self.batch.full = count >= (self.upload.batch_max.max(1) * PARTS).min(BATCH_LIMIT);
        // A question by time may be answered even while the cloud refuses every question by number.
        if !self.trust.blind
            && let Some((from, to)) = self.trust.recall.uncovered(&batch, self.trust.first, &stored)
        {
            // The cloud may not show yet what the previous process sent just before this process
            // started.
            let believed = self.trust.fresh.age();
            if now < believed {
                self.timers.look = Some(believed);
                return;
            }
            let inquiry = Inquiry::by_time(&self.device, from, to);
            self.batch.question = Some(Question::new(inquiry, Why::Left { from, to }));
            return; // the same batch is formed again
        }
        self.trust.recall.sort_out(&mut batch);
        self.note_numbered(now, &batch.items);
        match &mut self.batch.work {
            Some(work) => {
                batch.still_open = work.numbers();
                work.extend(batch.items.clone());
            }
            None => self.begin(&batch),
        }
        self.records.push_back(UploadEvent::Batch(batch));
    }

    /// The batch is durable already. It covers all that waited.
    fn on_numbered(&mut self, now: Duration, batch: Batch) {
        self.timers.looked(now);
        (self.timers.look, self.timers.noticed, self.timers.full) = (Some(now), None, false);
        self.batch.full = false;
        self.counters.nothing_waits = Some(false);
        self.note_numbered(now, &batch.items);
        self.begin(&batch);
    }

    fn note_numbered(&mut self, now: Duration, items: &[UploadItem]) {
        if let (Some(joined), Some(last)) = (&mut self.session.joined, items.last()) {
            joined.next = last.num + 1;
            note_given(&mut self.session.given, &joined.token, joined.next);
            note_given(&mut self.session.own, &joined.token, joined.next);
            self.session.recorded = Some((joined.token.clone(), joined.next));
            self.batch.moved_at = now;
            self.batch.suspects.numbered(items);
        }
    }

    /// A batch that follows no other one is in flight now.
    fn begin(&mut self, batch: &Batch) {
        if !batch.items.is_empty() {
            let items = batch.items.clone();
            self.batch.work = Some(Work::new(&self.device, &batch.session, items, Fate::Fresh, Duration::ZERO));
        }
    }

    /// The batch in flight is settled.
    fn finish(&mut self) {
        self.batch.work = None;
        self.batch.question = self.batch.question.take().filter(|question| !question.is_of_work());
        self.batch.posting = None;
        self.batch.sizing.found();
        self.timers.look.get_or_insert(Duration::ZERO);
    }

    /// The session of the batch in flight accepts no more passings.
    fn close(&mut self, now: Duration) {
        if self.batch.work.as_mut().is_some_and(|work| work.close(now)) {
            self.batch.question = None; // answers from before the session's end are not final
        }
    }

    /// Releases every open passing, so that it gets a new number. Passings that were left behind
    /// stay.
    fn release(&mut self) {
        if let Some(work) = self.batch.work.take_if(|work| work.again) {
            self.give_up_again(work);
        }
        if let Some(work) = &mut self.batch.work {
            self.records.extend(work.release());
        }
        if let Some(joined) = &mut self.session.joined {
            joined.checked = false;
        }
        if self.batch.work.as_ref().is_none_or(|work| work.open() == 0) {
            self.finish();
        }
        self.timers.look.get_or_insert(Duration::ZERO);
    }

    /// Counts passings as accepted, either by the answer of an insert or because the cloud showed
    /// them.
    fn note_accepted(&mut self, now: Duration, items: &[UploadItem]) {
        self.batch.moved_at = now;
        self.counters.pace.sent(now, items.len() as u64);
        self.batch.suspects.accepted(now, items);
        let Some(work) = &self.batch.work else { return };
        if let Some(last) = items.last() {
            self.trust.fresh.accepted(&work.token, last, now);
        }
        if !work.again {
            self.trust.watch.accepted(&work.token, items);
        }
        self.session.proven |= self.session.joined.as_ref().is_some_and(|joined| joined.token == work.token);
    }

    /// Sets passings aside whose fate nobody can find out, because the session is closed and this
    /// key may not read it.
    fn set_unknowable_aside(&mut self) {
        let answer = "passbridge: the session closed before the cloud confirmed this passing, and the API key may not \
                      read whether it arrived; look into the session before sending it again";
        if let Some(work) = &mut self.batch.work {
            (0..work.open()).filter_map(|at| work.seq(at)).for_each(|seq| self.batch.suspects.forget(seq));
            let events = work.set_doubtful_aside(403, answer);
            self.note_set_aside(events.len() as u64, answer);
            self.records.extend(events);
        }
    }

    /// A question was answered.
    fn asked_well(&mut self) {
        self.trusted();
        self.timers.ask_retry.reset();
        self.trust.unread = 0;
        if std::mem::take(&mut self.trust.key_is_new) && self.trust.refused == Refused::No {
            self.problems.remove(&ProblemCode::KeyRefused);
        }
        self.counters.trouble = self.counters.trouble.take().filter(|trouble| trouble.by_post);
    }

    /// Returns how long to wait after a failure.
    fn pause(&mut self, by_post: bool, error: &CallError) -> Duration {
        let retry = if by_post { &mut self.timers.post_retry } else { &mut self.timers.ask_retry };
        let wait = retry.next(&mut self.rng, error.retry_after());
        if error.is_unreached() { wait.min(jittered(UNREACHED_MAX, POLL_JITTER, &mut self.rng)) } else { wait }
    }

    /// Clears the problems about distrust, because the answer came from the cloud or something else
    /// is wrong now.
    fn trusted(&mut self) {
        self.problems.retain(|code, _| !Distrust::CODES.contains(code));
    }

    fn complain(&mut self, by_post: bool, error: &CallError) {
        self.trusted();
        if let CallError::NotSent(NotSent::Distrust(why)) = error {
            self.problems.insert(why.code(), format!("nothing can be uploaded: {why}. Reads are kept meanwhile"));
        }
        let fault = match error {
            _ if error.is_silent() => Culprit::Silent,
            _ if error.is_offline() => Culprit::Offline,
            CallError::Unknown { .. } => Culprit::Cloud,
            _ => Culprit::Other,
        };
        self.counters.trouble = Some(Trouble { by_post, fault, text: error.to_string() });
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
