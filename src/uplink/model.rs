//! A cloud, a journal and a clock in memory, to drive the machine without sockets. For tests only.
//!
//! The cloud fails as scripted or by chance; the journal forgets acceptances that were not durable when the process
//! "dies". What must come out of any of it is checked by [`World::audit`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::machine::{Action, Input, Machine};
use super::{UplinkConfig, form};
use crate::chip::{Seq, Stamp};
use crate::config::{SessionMode, UploadConfig};
use crate::journal::{DeviceState, InFlight, Item, Pending, PendingRead, UploadEvent};
use crate::passing::Fields;
use crate::rufus::{CallError, Doubt, Inserted, KeyFault, NotSent, Page, Session, Stored};

/// Class of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Active,
    Session,
    Held,
    Create,
    Insert,
}

/// What goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NotSent,
    /// Not applied, and nobody can tell.
    LostBefore,
    /// Applied, and nobody can tell.
    LostAfter,
    /// Applied just before the call after the next, and nobody can tell.
    LostLate,
    /// Applied, then the session closes, and nobody can tell.
    LostAndClosed,
    Portal,
    Server,
    SlowDown(Duration),
    Answer(CallError),
    /// Only the first so many are applied, and the counts say so.
    Short(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) token: Box<str>,
    pub(super) active: bool,
    /// The cloud has forgotten it.
    pub(super) forgotten: bool,
    pub(super) rows: Vec<Stored>,
}

pub(super) struct Cloud {
    pub(super) sessions: Vec<Held>,
    pub(super) dedup: bool,
    /// Whether answers carry `inserted_count`, and `duplicate_count`.
    pub(super) counts: (bool, bool),
    pub(super) page: usize,
    /// More in one insert is a 413.
    pub(super) most: usize,
    /// An insert that holds a chip with this prefix is a 400.
    pub(super) poison: &'static str,
    /// Status of every insert.
    pub(super) refuse_all: Option<u16>,
    pub(super) may_read: bool,
    pub(super) may_write: bool,
    pub(super) script: VecDeque<(On, Fault)>,
    pub(super) chance: Option<(fastrand::Rng, f64)>,
    /// So many times the cloud says that there is no active session although there is one.
    pub(super) hide_active: u32,
    late: Vec<(usize, Box<str>, Vec<Item>)>,
}

/// The journal: its log is the truth, the state is what follows from it.
pub(super) struct Store {
    pub(super) reads: Vec<PendingRead>,
    pub(super) log: Vec<UploadEvent>,
    durable: usize,
    pub(super) state: DeviceState,
    judged: usize,
    returned: Vec<Item>,
    pub(super) quarantined: Vec<(Box<str>, Item, Box<str>)>,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) cloud: Cloud,
    pub(super) store: Store,
    pub(super) machine: Machine,
    pub(super) config: UplinkConfig,
    /// Time a passing needs on the line, and after which a POST is cut.
    pub(super) line: Option<(Duration, Duration)>,
    /// Every call and wait, in words.
    pub(super) trace: Vec<String>,
    dirty: bool,
}

fn gone(text: &str) -> CallError {
    CallError::SessionGone { status: 404, answer: text.into() }
}

fn lost() -> CallError {
    CallError::Unknown { why: Doubt::Cut("reset".into()), retry_after: None }
}

fn forbidden() -> CallError {
    CallError::KeyRefused { status: 403, fault: KeyFault::WrongAccess, answer: "wrong access type".into() }
}

impl Cloud {
    pub(super) fn new() -> Self {
        Self {
            sessions: Vec::new(),
            dedup: true,
            counts: (true, true),
            page: 5000,
            most: 500,
            poison: "BAD",
            refuse_all: None,
            may_read: true,
            may_write: true,
            script: VecDeque::new(),
            chance: None,
            hide_active: 0,
            late: Vec::new(),
        }
    }

    /// Opens a session; the active one closes.
    pub(super) fn open(&mut self) -> Box<str> {
        self.close();
        let n = self.sessions.len();
        let letter = char::from(b'A' + u8::try_from(n % 26).unwrap());
        let token: Box<str> = if n < 26 { format!("SESSION-{letter}") } else { format!("SESSION-{n}") }.into();
        self.sessions.push(Held { token: token.clone(), active: true, forgotten: false, rows: Vec::new() });
        token
    }

    pub(super) fn close(&mut self) {
        for session in &mut self.sessions {
            session.active = false;
        }
    }

    fn find(&mut self, token: &str) -> Option<&mut Held> {
        self.sessions.iter_mut().find(|session| &*session.token == token && !session.forgotten)
    }

    fn fault(&mut self, on: On) -> Option<Fault> {
        for (calls, ..) in &mut self.late {
            *calls = calls.saturating_sub(1);
        }
        if let Some(at) = self.late.iter().position(|(calls, ..)| *calls == 0) {
            let (_, token, items) = self.late.remove(at);
            self.store(&token, &items);
        }
        if let Some(at) = self.script.iter().position(|(wanted, _)| *wanted == on) {
            return self.script.remove(at).map(|(_, fault)| fault);
        }
        let dedup = self.dedup;
        let (rng, odds) = self.chance.as_mut()?;
        if rng.f64() >= *odds {
            return None;
        }
        let n = rng.usize(0..20);
        Some(match rng.u8(0..9) {
            0 => Fault::NotSent,
            1 => Fault::LostBefore,
            2 | 3 => Fault::LostAfter,
            4 if dedup => Fault::LostLate,
            4 | 5 => Fault::LostAndClosed,
            6 => Fault::Portal,
            7 if self.counts.0 => Fault::Short(n),
            7 => Fault::SlowDown(Duration::from_secs(n as u64)),
            _ => Fault::Server,
        })
    }

    /// What a fault shows, for calls that change nothing.
    fn seen(fault: Fault) -> CallError {
        match fault {
            Fault::NotSent => CallError::NotSent(NotSent::Slow),
            Fault::Portal => CallError::Portal,
            Fault::Server => {
                let why = Doubt::Server { status: 500, answer: "null".into() };
                CallError::Unknown { why, retry_after: None }
            }
            Fault::SlowDown(wait) => CallError::TooMany { retry_after: Some(wait) },
            Fault::Answer(error) => error,
            _ => lost(),
        }
    }

    pub(super) fn active(&mut self) -> Result<Option<Session>, CallError> {
        if let Some(fault) = self.fault(On::Active) {
            return Err(Self::seen(fault));
        }
        if !self.may_read {
            return Err(forbidden());
        }
        if self.hide_active > 0 {
            self.hide_active -= 1;
            return Ok(None);
        }
        Ok(self.sessions.iter().find(|session| session.active).map(in_answer))
    }

    pub(super) fn session(&mut self, token: &str) -> Result<Option<Session>, CallError> {
        if let Some(fault) = self.fault(On::Session) {
            return Err(Self::seen(fault));
        }
        Ok(self.find(token).map(|session| in_answer(session)))
    }

    pub(super) fn held(&mut self, token: &str, first: u64, last: Option<u64>, page: u32) -> Result<Page, CallError> {
        if let Some(fault) = self.fault(On::Held) {
            return Err(Self::seen(fault));
        }
        if !self.may_read {
            return Err(forbidden());
        }
        let size = self.page;
        let session = self.find(token).ok_or_else(|| gone("Session not found"))?;
        let in_range = |row: &&Stored| row.num.is_some_and(|num| num >= first && last.is_none_or(|last| num <= last));
        let passings: Vec<_> =
            session.rows.iter().filter(in_range).skip(size * (page as usize - 1)).take(size).cloned().collect();
        Ok(Page { passings, more: None })
    }

    pub(super) fn create(&mut self) -> Result<Session, CallError> {
        let fault = self.fault(On::Create);
        if !self.may_write {
            return Err(forbidden());
        }
        if let Some(fault) = fault {
            if fault == Fault::LostAfter {
                self.open();
            }
            return Err(Self::seen(fault));
        }
        let token = self.open();
        Ok(Session { token, alias: None, passings: Some(0) })
    }

    pub(super) fn insert(&mut self, token: &str, items: &[Item]) -> Result<Inserted, CallError> {
        assert!(!items.is_empty() && items.len() <= 500, "{} passings in a POST", items.len());
        let fault = self.fault(On::Insert);
        if !self.may_write {
            return Err(forbidden());
        }
        if let Some(fault @ (Fault::NotSent | Fault::Portal | Fault::SlowDown(_) | Fault::Server | Fault::Answer(_))) =
            fault
        {
            return Err(Self::seen(fault));
        }
        if !self.sessions.iter().any(|session| session.active && &*session.token == token) {
            return Err(gone("Session not found or closed"));
        }
        if items.len() > self.most {
            return Err(CallError::TooLarge { answer: "".into() });
        }
        let bad = items.iter().any(|item| item.chip.starts_with(self.poison));
        if let Some(status) = self.refuse_all.or(bad.then_some(400)) {
            return Err(CallError::BadRequest { status, answer: "refused".into() });
        }
        match fault {
            Some(Fault::LostBefore) => return Err(lost()),
            Some(Fault::LostLate) => {
                self.late.push((2, token.into(), items.to_vec()));
                return Err(lost());
            }
            _ => {}
        }
        let part = match fault {
            Some(Fault::Short(n)) => &items[..n.min(items.len())],
            _ => items,
        };
        let (inserted, duplicates) = self.store(token, part);
        if fault == Some(Fault::LostAndClosed) {
            self.close();
        }
        if matches!(fault, Some(Fault::LostAfter | Fault::LostAndClosed)) {
            return Err(lost());
        }
        let told = |wanted: bool, count: u64| wanted.then_some(count);
        Ok(Inserted { inserted: told(self.counts.0, inserted), duplicates: told(self.counts.1, duplicates) })
    }

    fn store(&mut self, token: &str, items: &[Item]) -> (u64, u64) {
        let dedup = self.dedup;
        let (mut inserted, mut duplicates) = (0, 0);
        let Some(session) = self.find(token).filter(|session| session.active) else { return (0, 0) };
        for item in items {
            if dedup && session.rows.iter().any(|row| row.num == Some(item.num)) {
                duplicates += 1;
                continue;
            }
            inserted += 1;
            session.rows.push(Stored {
                num: Some(item.num),
                time_ms: Some(item.time_ms),
                bib: Some(item.bib.clone()),
                chip: Some(item.chip.clone()),
            });
        }
        (inserted, duplicates)
    }
}

fn in_answer(session: &Held) -> Session {
    Session { token: session.token.clone(), alias: None, passings: Some(session.rows.len() as u64) }
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
            quarantined: Vec::new(),
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
            UploadEvent::Audited(_) => {}
            UploadEvent::Batch(batch) if batch.is_resend() => {
                assert!(state.in_flight.is_none(), "two batches in flight");
                state.sent -= batch.items.len() as u64;
                state.in_flight = Some(InFlight { id: Seq(0), batch: batch.clone(), open: batch.items.clone() });
            }
            UploadEvent::Joined { token, alias, next, .. } => {
                assert!(state.in_flight.is_none(), "a session is joined while a batch of another is in flight");
                state.session = Some((token.clone(), alias.clone()));
                state.next = *next;
            }
            UploadEvent::Batch(batch) => {
                assert!(state.in_flight.is_none(), "two batches in flight");
                assert_eq!(state.session.as_ref().map(|(token, _)| token), Some(&batch.session));
                assert!(batch.items.iter().zip(state.next..).all(|(item, num)| item.num == num), "numbers have a hole");
                state.next += batch.items.len() as u64;
                self.returned.retain(|item| batch.items.iter().all(|taken| taken.seq != item.seq));
                self.judged = usize::try_from(batch.through.0).unwrap();
                let open = batch.items.clone();
                state.in_flight = (!open.is_empty()).then(|| InFlight { id: Seq(0), batch: batch.clone(), open });
            }
            UploadEvent::Accepted { first, last, duplicates, .. } => {
                let taken = self.take(*first, *last).len() as u64;
                self.state.sent += taken;
                self.state.duplicates += duplicates;
            }
            UploadEvent::Quarantined { num, answer, .. } => {
                let token = state.in_flight.as_ref().unwrap().batch.session.clone();
                state.quarantined += 1;
                let items = self.take(*num, *num);
                self.quarantined.extend(items.into_iter().map(|item| (token.clone(), item, answer.clone())));
            }
            UploadEvent::Released { first, last, .. } => {
                let items = self.take(*first, *last);
                self.returned.extend(items);
                self.returned.sort_by_key(|item| item.seq);
            }
        }
    }

    fn take(&mut self, first: u64, last: u64) -> Vec<Item> {
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
        Pending { returned, reads, dead: Vec::new(), repeats: Vec::new(), through }
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
    }
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
            trace: Vec::new(),
            dirty: false,
        }
    }

    /// A world that follows a session that is open.
    pub(super) fn with_session() -> Self {
        let mut world = Self::new(SessionMode::Active);
        world.cloud.open();
        world
    }

    /// Reads arrive.
    pub(super) fn read(&mut self, count: usize) {
        for _ in 0..count {
            self.read_chip("C");
        }
    }

    /// A read of a chip whose code begins so.
    pub(super) fn read_chip(&mut self, prefix: &str) {
        let seq = self.store.reads.len() as u64 + 1;
        self.store.reads.push(PendingRead {
            seq: Seq(seq),
            decoder: "mat".into(),
            received: Timestamp::UNIX_EPOCH,
            chip: format!("{prefix}{seq}").into(),
            stamp: Stamp::Utc(Timestamp::from_second(i64::try_from(seq).unwrap() * 10).unwrap()),
            replay: false,
        });
        self.dirty = true;
    }

    /// One action.
    pub(super) fn step(&mut self) -> Action {
        let action = self.machine.next(self.now);
        let cloud = &mut self.cloud;
        let input = match action.clone() {
            Action::Record(event) => {
                self.store.record(event);
                self.dirty = true;
                None
            }
            Action::Wait { reads: true, .. } if self.dirty => {
                self.dirty = false;
                Some(Input::Noticed)
            }
            Action::Wait { until, .. } => {
                assert!(until > self.now, "a wait for nothing");
                self.now = until;
                None
            }
            Action::Form { token, next, limit } => {
                self.dirty = false;
                let mut fields = |read: &PendingRead| {
                    let Stamp::Utc(time) = read.stamp else { unreachable!("made above") };
                    Some(Fields { time_ms: time.as_millisecond(), bib: "".into(), chip: read.chip.clone() })
                };
                Some(Input::Formed(form(&self.config, &token, next, self.store.pending(limit), &mut fields).0))
            }
            Action::AskActive => Some(Input::Active(cloud.active())),
            Action::AskSession { token } => Some(Input::Session(cloud.session(&token))),
            Action::AskHeld { token, first, last, page } => {
                let answer = cloud.held(&token, first, last, page);
                let found = answer.as_ref().map_or("failed".to_owned(), |page| page.passings.len().to_string());
                self.trace.push(format!("held {token} {first}-{} p{page} {found}", last.unwrap_or(0)));
                Some(Input::Held(answer))
            }
            Action::Create => Some(Input::Created(cloud.create())),
            Action::Post { token, items } => {
                let (first, last) = (items[0].num, items[items.len() - 1].num);
                let open = &self.store.state.in_flight.as_ref().expect("posted before it was recorded").open;
                assert!(items.iter().all(|item| open.contains(item)), "posted something else than was recorded");
                let (each, patience) = self.line.unwrap_or((Duration::ZERO, Duration::MAX));
                let needed = each * items.len() as u32;
                self.now += needed.min(patience);
                let answer = if needed > patience { Err(lost()) } else { cloud.insert(&token, &items) };
                self.trace
                    .push(format!("post {token} {first}-{last} {}", if answer.is_ok() { "ok" } else { "failed" }));
                Some(Input::Posted(answer))
            }
        };
        let short = |action: &Action| match action {
            Action::Record(event) => Some(format!("{event:?}").chars().take_while(|c| c.is_alphabetic()).collect()),
            Action::AskActive => Some("active".to_owned()),
            Action::AskSession { token } => Some(format!("session {token}")),
            Action::Create => Some("create".to_owned()),
            _ => None,
        };
        self.trace.extend(short(&action));
        if let Some(input) = input {
            self.now += Duration::from_millis(10);
            self.machine.put(self.now, input);
        }
        action
    }

    /// Goes on until nothing is left to upload; panics if that takes for ever.
    pub(super) fn drain(&mut self) {
        for _ in 0..100_000 {
            if !self.store.unsettled() {
                return;
            }
            self.step();
        }
        panic!("no end; the last actions: {:#?}", &self.trace[self.trace.len().saturating_sub(30)..]);
    }

    /// Goes on until the action about to be taken is of interest.
    pub(super) fn until(&mut self, wanted: impl Fn(&Action) -> bool) -> Action {
        for _ in 0..100_000 {
            let action = self.step();
            if wanted(&action) {
                return action;
            }
        }
        panic!("it never comes; the last actions: {:#?}", &self.trace[self.trace.len().saturating_sub(30)..]);
    }

    /// Goes on for a time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The process dies; of the acceptances not durable the first `kept` survive. It starts again.
    pub(super) fn crash(&mut self, kept: usize) {
        let durable = (self.store.durable + kept).min(self.store.log.len());
        let mut store = Store { reads: std::mem::take(&mut self.store.reads), ..Store::new() };
        for event in self.store.log.drain(..durable) {
            store.record(event);
        }
        store.durable = store.log.len();
        self.store = store;
        self.now = Duration::ZERO;
        self.machine =
            Machine::new("D", self.config.session, self.config.upload, self.store.state.clone(), durable as u64);
        self.dirty = true;
    }

    /// The posts since the start, `first-last`, with their outcome.
    pub(super) fn posts(&self) -> Vec<&str> {
        self.trace.iter().filter_map(|line| line.strip_prefix("post ")).collect()
    }

    pub(super) fn rows(&self, session: usize) -> Vec<(u64, &str)> {
        let row = |row: &'_ Stored| row.num.unwrap_or(0);
        self.cloud.sessions[session].rows.iter().map(|r| (row(r), r.chip.as_deref().unwrap_or(""))).collect()
    }

    /// Every read is in the cloud once, or set aside; in order; the numbers of each session without a hole.
    pub(super) fn audit(&self) {
        let mut seen = BTreeMap::new();
        for session in &self.cloud.sessions {
            for chip in session.rows.iter().filter_map(|row| row.chip.as_deref()) {
                *seen.entry(chip).or_insert(0) += 1;
            }
            let mut nums: Vec<_> = session.rows.iter().filter_map(|row| row.num).collect();
            assert!(nums.is_sorted(), "{}: stored out of order: {nums:?}", session.token);
            let aside = |(token, ..): &&(Box<str>, Item, Box<str>)| *token == session.token;
            nums.extend(self.store.quarantined.iter().filter(aside).map(|(_, item, _)| item.num));
            nums.sort_unstable();
            assert!(nums.iter().copied().eq(1..=nums.len() as u64), "{}: a hole in {nums:?}", session.token);
        }
        let order = |row: &Stored| row.chip.as_deref()?.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        let seqs: Vec<u64> = self.cloud.sessions.iter().flat_map(|held| &held.rows).filter_map(order).collect();
        assert!(seqs.is_sorted(), "reads are out of order: {seqs:?}");
        for (_, item, _) in &self.store.quarantined {
            *seen.entry(&item.chip).or_insert(0) += 1;
        }
        for read in &self.store.reads {
            let times = seen.get(&*read.chip).copied().unwrap_or(0);
            let same = |row: &&Stored| row.chip.as_ref() == Some(&read.chip);
            let sessions = self.cloud.sessions.iter();
            let at: Vec<_> = sessions
                .map(|held| (&held.token, held.rows.iter().filter(same).map(|row| row.num).collect::<Vec<_>>()))
                .collect();
            assert_eq!(times, 1, "{} is in the cloud or set aside {times} times, {at:?}; {:#?}", read.chip, self.trace);
        }
    }
}
