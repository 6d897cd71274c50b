//! A cloud, a journal and a clock in memory, which drive the machine without sockets. For tests
//! only.
//!
//! The cloud fails as the script says, or by chance. The journal forgets acceptances that were not
//! durable when the process "dies". [`World::audit`] checks what must hold at the end of every
//! test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::cloud::lost;
use super::machine::{Action, Input, Machine, OfferTerms};
use super::{UplinkConfig, form, formed, offer};
use crate::cloud::passing::Fields;
use crate::cloud::rufus::{CloudPassing, Scope};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{Batch, DeviceState, Found, InFlight, Pending, PendingRead, UploadEvent, UploadItem};
use crate::model::chip::{Seq, Stamp};

mod cloud;

pub(super) use cloud::{CallFault, Cloud, On};

/// The journal. Its log is the truth, and the state follows from the log.
pub(super) struct Store {
    pub(super) reads: Vec<PendingRead>,
    pub(super) log: Vec<UploadEvent>,
    durable: usize,
    pub(super) state: DeviceState,
    judged: usize,
    returned: Vec<UploadItem>,
    pub(super) dead_letters: Vec<(Box<str>, UploadItem, Box<str>)>,
    pub(super) found: Vec<Found>,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) cloud: Cloud,
    pub(super) store: Store,
    pub(super) machine: Machine,
    pub(super) config: UplinkConfig,
    /// Time that a passing needs on the line, and the time after which a POST is cut.
    pub(super) line: Option<(Duration, Duration)>,
    /// Extra time of an answer to a POST.
    pub(super) slow: Duration,
    /// Every call and wait, as text.
    pub(super) trace: Vec<String>,
    /// What the machine said that it waits for, whenever that changed.
    pub(super) waits: Vec<&'static str>,
    dirty: bool,
    /// Offers that a read met.
    offers: u64,
}

impl Store {
    fn new() -> Self {
        Self {
            reads: Vec::new(),
            log: Vec::new(),
            durable: 0,
            state: DeviceState::default(),
            judged: 0,
            returned: Vec::new(),
            dead_letters: Vec::new(),
            found: Vec::new(),
        }
    }

    fn record(&mut self, event: UploadEvent) {
        self.apply(&event);
        let lazy = matches!(event, UploadEvent::Accepted { .. });
        self.log.push(event);
        if !lazy {
            self.durable = self.log.len();
        }
    }

    fn apply(&mut self, event: &UploadEvent) {
        let state = &mut self.state;
        match event {
            UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Again { .. }
            | UploadEvent::Retry { .. }
            | UploadEvent::Dropped { .. } => {}
            UploadEvent::Batch(batch) if batch.is_resend() => {
                assert!(state.in_flight.is_none(), "two batches in flight");
                state.sent -= batch.items.len() as u64;
                state.in_flight = Some(InFlight { id: Seq(0), batch: batch.clone(), open: batch.items.clone() });
            }
            UploadEvent::Joined { token, alias, next, .. } => {
                let other = state.in_flight.as_ref().filter(|flight| flight.batch.session != *token);
                assert!(other.is_none(), "a session is joined while a batch of another is in flight");
                state.session = Some((token.clone(), alias.clone()));
                let given = state.given.iter().position(|(known, _)| known == token).map(|at| state.given.remove(at).1);
                assert!(given.is_none_or(|given| given <= *next), "numbers that were given are given again");
                state.next = *next;
                state.given.push((token.clone(), *next));
            }
            UploadEvent::Batch(batch) => {
                let before = state.in_flight.take();
                let mut open = before.as_ref().map(|flight| flight.open.clone()).unwrap_or_default();
                assert!(open.iter().map(|item| &item.num).eq(&batch.still_open), "two batches in flight");
                assert!(before.is_none_or(|before| before.batch.session == batch.session), "of two sessions");
                assert_eq!(state.session.as_ref().map(|(token, _)| token), Some(&batch.session));
                assert!(batch.items.iter().zip(state.next..).all(|(item, num)| item.num == num), "numbers have a hole");
                state.next += batch.items.len() as u64;
                state.given.last_mut().expect("joined").1 = state.next;
                state.failing.retain(|item| batch.items.iter().all(|taken| taken.seq != item.seq));
                self.dead_letters.retain(|(_, item, _)| batch.items.iter().all(|taken| taken.seq != item.seq));
                self.found.extend(batch.found.iter().cloned());
                let taken = |seq: Seq| {
                    batch.items.iter().any(|item| item.seq == seq) || batch.found.iter().any(|found| found.seq == seq)
                };
                self.returned.retain(|item| !taken(item.seq));
                self.judged = usize::try_from(batch.through.0).unwrap();
                open.extend(batch.items.iter().cloned());
                state.in_flight = (!open.is_empty()).then(|| InFlight { id: Seq(0), batch: batch.clone(), open });
            }
            UploadEvent::Accepted { first, last, duplicates, .. } => {
                let taken = self.take(*first, *last).len() as u64;
                self.state.sent += taken;
                self.state.duplicates += duplicates;
            }
            UploadEvent::DeadLetter { num, answer, again, .. } => {
                let token = state.in_flight.as_ref().unwrap().batch.session.clone();
                state.dead_letters += 1;
                let items = self.take(*num, *num);
                if *again {
                    self.state.failing.extend(items.iter().cloned());
                }
                self.dead_letters.extend(items.into_iter().map(|item| (token.clone(), item, answer.clone())));
            }
            UploadEvent::Released { first, last, .. } => {
                let items = self.take(*first, *last);
                self.returned.extend(items);
                self.returned.sort_by_key(|item| item.seq);
            }
        }
    }

    fn take(&mut self, first: u64, last: u64) -> Vec<UploadItem> {
        let flight = self.state.in_flight.as_mut().expect("an outcome needs a batch in flight");
        let (taken, open): (Vec<_>, _) = flight.open.drain(..).partition(|item| (first..=last).contains(&item.num));
        flight.open = open;
        assert!(!taken.is_empty(), "an outcome of nothing: {first}..={last}");
        if flight.open.is_empty() {
            self.state.in_flight = None;
        }
        taken
    }

    fn pending(&self, limit: usize) -> Pending {
        let returned: Vec<_> = self.returned.iter().take(limit).cloned().collect();
        let reads: Vec<_> = self.reads[self.judged..].iter().take(limit - returned.len()).cloned().collect();
        let through = Seq((self.judged + reads.len()) as u64);
        Pending { returned, reads, through, ..Pending::default() }
    }

    pub(super) fn unsettled(&self) -> bool {
        self.state.in_flight.is_some() || self.judged < self.reads.len() || !self.returned.is_empty()
    }
}

pub(super) fn upload() -> UploadConfig {
    UploadConfig {
        batch_max: 100,
        linger: Duration::from_millis(200),
        min_interval: Duration::from_millis(250),
        retry_max: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
        settle: Duration::from_secs(15),
        create_after: Duration::from_secs(30),
    }
}

/// A question as text: session, first and last number of interest.
fn in_words(scope: &Scope) -> String {
    match scope {
        Scope::Numbers { token, first, last } => {
            format!("{token} {}-{}", first + 1, last.map_or("".to_owned(), |last| (last - 1).to_string()))
        }
        Scope::Session { token } => format!("{token} all"),
        Scope::Times { from, to, .. } => format!("times {from}-{to}"),
    }
}

fn fields(read: &PendingRead) -> Option<Fields> {
    let Stamp::Utc(time) = read.stamp else { unreachable!("every read of the model is stamped in UTC") };
    Some(Fields { time_ms: time.as_millisecond(), bib: "".into(), chip: (&*read.chip).into() })
}

impl World {
    pub(super) fn new(session: SessionMode) -> Self {
        let (device, name) = ("D".into(), "finish".to_owned());
        let config = UplinkConfig { device, decoders: vec!["mat".into()], name, session, upload: upload() };
        let machine = Machine::new("D", session, config.upload, DeviceState::default(), 1);
        Self {
            now: Duration::ZERO,
            cloud: Cloud::new(),
            store: Store::new(),
            machine,
            config,
            line: None,
            slow: Duration::ZERO,
            trace: Vec::new(),
            waits: Vec::new(),
            dirty: false,
            offers: 0,
        }
    }

    /// A world with an open session that the machine follows.
    pub(super) fn with_session() -> Self {
        let mut world = Self::new(SessionMode::Active);
        world.cloud.open();
        world
    }

    /// New reads arrive.
    pub(super) fn read(&mut self, count: usize) {
        for _ in 0..count {
            self.read_chip("C");
        }
    }

    /// A read arrives of a chip whose code starts with this prefix.
    pub(super) fn read_chip(&mut self, prefix: &str) {
        let seq = self.store.reads.len() as u64 + 1;
        self.store.reads.push(PendingRead {
            seq: Seq(seq),
            decoder: "mat".into(),
            received: Timestamp::UNIX_EPOCH,
            chip: format!("{prefix}{seq}").into(),
            stamp: Stamp::Utc(Timestamp::from_second(i64::try_from(seq).unwrap() * 10).unwrap()),
            replay: false,
            corrected_ms: 0,
            zone: None,
        });
        self.dirty = true;
    }

    /// What the journal does with an offer when reads arrive.
    fn take(&mut self, terms: OfferTerms) -> Option<Batch> {
        let pending = self.store.pending(terms.limit + 1);
        let free = self.store.state.in_flight.is_none() && pending.returned.is_empty();
        let free = free && (1..=terms.limit).contains(&pending.reads.len());
        let mut offer = offer(self.config.clone(), terms, Arc::new(fields));
        let batch = (offer.form)(pending).filter(|_| free)?;
        self.store.record(UploadEvent::Batch(batch.clone()));
        Some(batch)
    }

    /// Performs one action.
    pub(super) fn step(&mut self) -> Action {
        let action = self.machine.next(self.now);
        let waits = self.machine.report().waits_for;
        self.waits.extend(waits.filter(|waits| self.waits.last() != Some(waits)));
        self.cloud.at(self.now);
        let cloud = &mut self.cloud;
        let input = match action.clone() {
            Action::Record(event) => {
                self.store.record(event);
                self.dirty = true;
                None
            }
            Action::Wait { until, reads, offer } if self.dirty && (reads || offer.is_some()) => {
                self.dirty = false;
                self.offers += 1;
                // Every second offer comes too late for the read.
                let batch = offer.filter(|_| self.offers % 2 == 1).and_then(|terms| self.take(terms));
                if batch.is_none() && !reads {
                    self.now = until;
                }
                batch.map(Input::Numbered).or_else(|| reads.then_some(Input::Noticed))
            }
            Action::Wait { until, .. } => {
                assert!(until > self.now, "a wait for nothing");
                self.now = until;
                None
            }
            Action::Count { limit } => {
                self.dirty = false;
                let pending = self.store.pending(limit);
                Some(Input::Waiting((!pending.is_empty()).then(|| pending.passings())))
            }
            Action::Form { token, next, limit, bound, without, again } => {
                self.dirty = false;
                let mut pending = self.store.pending(limit + without.len() - again.len());
                pending.returned.retain(|item| !without.contains(&item.seq));
                pending.end_at(bound);
                let through = pending.through;
                Some(formed(form(&self.config, &token, next, pending, again, &fields).0, bound, through))
            }
            Action::AskActive => Some(Input::Active(cloud.active())),
            Action::AskSession { token } => Some(Input::Session(cloud.session(&token))),
            Action::AskHeld { scope, page, .. } => {
                let answer = cloud.held(&scope, page);
                let found = answer.as_ref().map_or("failed".to_owned(), |page| page.passings.len().to_string());
                self.trace.push(format!("held {} p{page} {found}", in_words(&scope)));
                Some(Input::Held(answer))
            }
            Action::AskDevice => Some(Input::Device(cloud.device())),
            Action::Create { .. } => Some(Input::Created(cloud.create())),
            Action::Close { token } => Some(Input::Closed(cloud.close_one(&token))),
            Action::Post { token, items } => {
                let (first, last) = (items[0].num, items[items.len() - 1].num);
                let open = &self.store.state.in_flight.as_ref().expect("posted before it was recorded").open;
                assert!(items.iter().all(|item| open.contains(item)), "posted something else than was recorded");
                let (each, patience) = self.line.unwrap_or((Duration::ZERO, Duration::MAX));
                let needed = each * items.len() as u32;
                self.now += needed.min(patience) + self.slow;
                let answer = if needed > patience { Err(lost()) } else { cloud.insert(&token, &items) };
                self.trace
                    .push(format!("post {token} {first}-{last} {}", if answer.is_ok() { "ok" } else { "failed" }));
                Some(Input::Posted(answer))
            }
        };
        let short = |action: &Action| match action {
            Action::Record(event) => Some(format!("{event:?}").chars().take_while(|c| c.is_alphabetic()).collect()),
            Action::AskActive => Some("active".to_owned()),
            Action::AskDevice => Some("device".to_owned()),
            Action::AskSession { token } => Some(format!("session {token}")),
            Action::Create { .. } => Some("create".to_owned()),
            Action::Close { token } => Some(format!("close {token}")),
            _ => None,
        };
        self.trace.extend(short(&action));
        if let Some(input) = input {
            self.now += Duration::from_millis(10);
            self.machine.put(self.now, input);
        }
        action
    }

    /// Continues until everything is uploaded. Panics if that takes too many steps.
    pub(super) fn drain(&mut self) {
        for _ in 0..100_000 {
            if !self.store.unsettled() {
                return;
            }
            self.step();
        }
        panic!("no end; the last actions: {:#?}", &self.trace[self.trace.len().saturating_sub(30)..]);
    }

    /// Continues until an action is one that `wanted` accepts.
    pub(super) fn until(&mut self, wanted: impl Fn(&Action) -> bool) -> Action {
        for _ in 0..100_000 {
            let action = self.step();
            if wanted(&action) {
                return action;
            }
        }
        panic!("it never comes; the last actions: {:#?}", &self.trace[self.trace.len().saturating_sub(30)..]);
    }

    /// Continues for a time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The process dies and starts again. Of the acceptances that were not durable, the first
    /// `kept` survive.
    pub(super) fn crash(&mut self, kept: usize) {
        let durable = (self.store.durable + kept).min(self.store.log.len());
        let mut store = Store { reads: std::mem::take(&mut self.store.reads), ..Store::new() };
        for event in self.store.log.drain(..durable) {
            store.record(event);
        }
        store.durable = store.log.len();
        self.store = store;
        self.cloud.at(self.now);
        self.cloud.restarted();
        self.now = Duration::ZERO;
        self.store.state.first = self.store.reads.len() as u64 + 1;
        self.machine =
            Machine::new("D", self.config.session, self.config.upload, self.store.state.clone(), durable as u64);
        self.dirty = true;
    }

    /// Our passings in a session of the cloud, in the order in which they arrived.
    pub(super) fn ours(&self, session: usize) -> Vec<(u64, &str)> {
        self.rows(session).into_iter().filter(|(_, chip)| !chip.starts_with("OTHER")).collect()
    }

    /// The data directory is replaced by a copy from the time when `events` events were recorded,
    /// and the process starts.
    pub(super) fn restore(&mut self, events: usize) {
        self.store.log.truncate(events);
        self.store.durable = events;
        self.crash(0);
    }

    /// The POSTs of the trace, as `first-last` with their outcome.
    pub(super) fn posts(&self) -> Vec<&str> {
        self.trace.iter().filter_map(|line| line.strip_prefix("post ")).collect()
    }

    pub(super) fn rows(&self, session: usize) -> Vec<(u64, &str)> {
        let row = |row: &'_ CloudPassing| row.num.unwrap_or(0);
        self.cloud.sessions[session].rows.iter().map(|r| (row(r), r.chip.as_deref().unwrap_or(""))).collect()
    }

    /// Checks that every read is in the cloud once or set aside, that the order is right, and that
    /// the numbers of each session have no gap.
    pub(super) fn audit(&self) {
        self.audit_numbers();
        self.audit_reads();
    }

    fn audit_numbers(&self) {
        for session in &self.cloud.sessions {
            let mut nums: Vec<_> = session.rows.iter().filter_map(|row| row.num).collect();
            assert!(nums.is_sorted(), "{}: stored out of order: {nums:?}", session.token);
            let aside = |(token, ..): &&(Box<str>, UploadItem, Box<str>)| *token == session.token;
            nums.extend(self.store.dead_letters.iter().filter(aside).map(|(_, item, _)| item.num));
            nums.sort_unstable();
            assert!(nums.iter().copied().eq(1..=nums.len() as u64), "{}: a hole in {nums:?}", session.token);
        }
        let order =
            |row: &CloudPassing| row.chip.as_deref()?.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        let seqs: Vec<u64> = self.cloud.sessions.iter().flat_map(|held| &held.rows).filter_map(order).collect();
        assert!(seqs.is_sorted(), "reads are out of order: {seqs:?}");
    }

    /// Checks that every read is in the cloud once, or was set aside.
    pub(super) fn audit_reads(&self) {
        let mut seen = BTreeMap::new();
        for session in &self.cloud.sessions {
            for chip in session.rows.iter().filter_map(|row| row.chip.as_deref()) {
                *seen.entry(chip).or_insert(0) += 1;
            }
        }
        for (_, item, _) in &self.store.dead_letters {
            *seen.entry(&item.chip).or_insert(0) += 1;
        }
        for read in &self.store.reads {
            let times = seen.get(&*read.chip).copied().unwrap_or(0);
            let same = |row: &&CloudPassing| row.chip.as_deref() == Some(&*read.chip);
            let sessions = self.cloud.sessions.iter();
            let at: Vec<_> = sessions
                .map(|held| (&held.token, held.rows.iter().filter(same).map(|row| row.num).collect::<Vec<_>>()))
                .collect();
            assert_eq!(times, 1, "{} is in the cloud or set aside {times} times, {at:?}; {:#?}", read.chip, self.trace);
        }
    }
}
