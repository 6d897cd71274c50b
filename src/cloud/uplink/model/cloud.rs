//! The cloud of the model. It fails as the script says, or by chance.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cloud::rufus::{CallError, CloudPassing, Inserted, KeyFault, NotSent, OutcomeDoubt, Page, Scope, Session};
use crate::cloud::uplink::machine::{Ends, Wanted};
use crate::journal::UploadItem;

/// A class of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cloud::uplink) enum On {
    Active,
    Session,
    Held,
    Create,
    Insert,
}

/// What goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud::uplink) enum CallFault {
    NotSent,
    /// The call is not applied, and no answer arrives.
    LostBefore,
    /// The call is applied, and no answer arrives.
    LostAfter,
    /// The call is applied [`LATE`] later, and no answer arrives.
    LostLate,
    /// The call is applied, then the session closes, and no answer arrives.
    LostAndClosed,
    Portal,
    Server,
    SlowDown(Duration),
    Answer(CallError),
    /// Only the first passings, as many as this, are applied, and the counts say so.
    Short(usize),
    /// The answer shows the session before the active one, or the last one if none is active.
    Stale,
    /// Nothing is applied, and the answer is a success with these counts.
    Counts(Inserted),
}

/// Delay of a POST that is applied late.
const LATE: Duration = Duration::from_secs(6);

#[derive(Clone, Debug)]
pub(in crate::cloud::uplink) struct Held {
    pub(in crate::cloud::uplink) token: Box<str>,
    pub(in crate::cloud::uplink) active: bool,
    /// The cloud does not know the session any more.
    pub(in crate::cloud::uplink) forgotten: bool,
    pub(in crate::cloud::uplink) rows: Vec<CloudPassing>,
    /// When each row arrived. Rows that a test put there count as old.
    since: Vec<Duration>,
}

pub(in crate::cloud::uplink) struct Cloud {
    pub(in crate::cloud::uplink) sessions: Vec<Held>,
    pub(in crate::cloud::uplink) dedup: bool,
    /// Whether answers have an `inserted_count`, and a `duplicate_count`.
    pub(in crate::cloud::uplink) counts: (bool, bool),
    pub(in crate::cloud::uplink) page: usize,
    /// An insert with more passings than this is refused with 413.
    pub(in crate::cloud::uplink) most: usize,
    /// An insert with a chip of this prefix is refused with 400.
    pub(in crate::cloud::uplink) poison: &'static str,
    /// Every insert is refused with this status.
    pub(in crate::cloud::uplink) refuse_all: Option<u16>,
    pub(in crate::cloud::uplink) may_read: bool,
    pub(in crate::cloud::uplink) may_write: bool,
    pub(in crate::cloud::uplink) script: VecDeque<(On, CallFault)>,
    pub(in crate::cloud::uplink) chance: Option<(fastrand::Rng, f64)>,
    /// How often the cloud answers that no session is active although one is.
    pub(in crate::cloud::uplink) hide_active: u32,
    /// The cloud shows a row only this long after it arrived.
    pub(in crate::cloud::uplink) lag: Duration,
    /// An insert with a chip of this prefix is answered with 500.
    pub(in crate::cloud::uplink) fails_at: &'static str,
    /// Questions by number need a last number, at most this far from the first.
    pub(in crate::cloud::uplink) longest_range: Option<u64>,
    /// The cloud refuses questions by number.
    pub(in crate::cloud::uplink) no_ranges: bool,
    /// Another sender, and how likely it is at each call that it sends a passing into the active
    /// session.
    pub(in crate::cloud::uplink) writer: Option<(fastrand::Rng, f64)>,
    /// When the current uplink started, and its clock.
    epoch: Duration,
    now: Duration,
    late: Vec<(Duration, Box<str>, Vec<UploadItem>)>,
}

fn gone(text: &str) -> CallError {
    CallError::SessionGone { status: 404, answer: text.into() }
}

pub(super) fn lost() -> CallError {
    CallError::Unknown { why: OutcomeDoubt::Cut("reset".into()), retry_after: None }
}

fn forbidden() -> CallError {
    CallError::KeyRefused { status: 403, fault: KeyFault::WrongAccess, answer: "wrong access type".into() }
}

impl Cloud {
    pub(in crate::cloud::uplink) fn new() -> Self {
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
            lag: Duration::ZERO,
            fails_at: "FAIL",
            longest_range: None,
            no_ranges: false,
            writer: None,
            epoch: Duration::ZERO,
            now: Duration::ZERO,
            late: Vec::new(),
        }
    }

    /// Sets the uplink's clock, which starts at zero with each process.
    pub(in crate::cloud::uplink) fn at(&mut self, now: Duration) {
        self.now = now;
    }

    /// Called when a process ends.
    pub(in crate::cloud::uplink) fn restarted(&mut self) {
        self.epoch += self.now + Duration::from_secs(1);
        self.now = Duration::ZERO;
    }

    fn time(&self) -> Duration {
        self.epoch + self.now
    }

    /// Opens a session. The active one closes.
    pub(in crate::cloud::uplink) fn open(&mut self) -> Box<str> {
        self.close();
        let n = self.sessions.len();
        let letter = char::from(b'A' + u8::try_from(n % 26).unwrap());
        let token: Box<str> = if n < 26 { format!("SESSION-{letter}") } else { format!("SESSION-{n}") }.into();
        self.sessions.push(Held {
            token: token.clone(),
            active: true,
            forgotten: false,
            rows: Vec::new(),
            since: Vec::new(),
        });
        token
    }

    pub(in crate::cloud::uplink) fn close(&mut self) {
        for session in &mut self.sessions {
            session.active = false;
        }
    }

    fn find(&mut self, token: &str) -> Option<&mut Held> {
        self.sessions.iter_mut().find(|session| &*session.token == token && !session.forgotten)
    }

    fn fault(&mut self, on: On) -> Option<CallFault> {
        let time = self.time();
        while let Some(at) = self.late.iter().position(|(due, ..)| *due <= time) {
            let (due, token, items) = self.late.remove(at);
            self.store(&token, &items, due);
        }
        self.another_writes();
        if let Some(at) = self.script.iter().position(|(wanted, _)| *wanted == on) {
            return self.script.remove(at).map(|(_, fault)| fault);
        }
        let (rng, odds) = self.chance.as_mut()?;
        if rng.f64() >= *odds {
            return None;
        }
        let n = rng.usize(0..20);
        Some(match rng.u8(0..9) {
            0 => CallFault::NotSent,
            1 => CallFault::LostBefore,
            2 | 3 => CallFault::LostAfter,
            4 => CallFault::LostLate,
            5 => CallFault::LostAndClosed,
            6 => CallFault::Portal,
            7 if self.counts.0 => CallFault::Short(n),
            7 => CallFault::SlowDown(Duration::from_secs(n as u64)),
            _ => CallFault::Server,
        })
    }

    /// The other sender uses the number above the highest one that it sees.
    fn another_writes(&mut self) {
        let Some((rng, odds)) = &mut self.writer else { return };
        if rng.f64() >= *odds {
            return;
        }
        let time = self.epoch + self.now;
        if let Some(session) = self.sessions.iter_mut().find(|session| session.active) {
            let num = session.rows.iter().filter_map(|row| row.num).max().unwrap_or(0) + 1;
            session.since.resize(session.rows.len(), Duration::ZERO);
            let chip = Some("OTHER".into());
            session.rows.push(CloudPassing { num: Some(num), time_ms: Some(5), bib: None, chip, session: None });
            session.since.push(time);
        }
    }

    /// The error that the client sees, for calls that change nothing.
    fn seen(fault: CallFault) -> CallError {
        match fault {
            CallFault::NotSent => CallError::NotSent(NotSent::Slow),
            CallFault::Portal => CallError::Portal,
            CallFault::Server => {
                let why = OutcomeDoubt::Server { status: 500, answer: "null".into() };
                CallError::Unknown { why, retry_after: None }
            }
            CallFault::SlowDown(wait) => CallError::TooMany { retry_after: Some(wait) },
            CallFault::Answer(error) => error,
            _ => lost(),
        }
    }

    pub(in crate::cloud::uplink) fn active(&mut self) -> Result<Option<Session>, CallError> {
        if let Some(fault) = self.fault(On::Active) {
            let active = self.sessions.iter().position(|session| session.active);
            let before = active.unwrap_or(self.sessions.len()).checked_sub(1);
            if let (CallFault::Stale, Some(before)) = (&fault, before) {
                return Ok(Some(in_answer(&self.sessions[before])));
            }
            if fault != CallFault::Stale {
                return Err(Self::seen(fault));
            }
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

    pub(in crate::cloud::uplink) fn session(&mut self, token: &str) -> Result<Option<Session>, CallError> {
        if let Some(fault) = self.fault(On::Session) {
            return Err(Self::seen(fault));
        }
        Ok(self.find(token).map(|session| in_answer(session)))
    }

    pub(in crate::cloud::uplink) fn device(&mut self) -> Result<(), CallError> {
        if self.may_read { Ok(()) } else { Err(forbidden()) }
    }

    pub(in crate::cloud::uplink) fn held(&mut self, scope: &Scope, page: u32) -> Result<Page, CallError> {
        if let Some(fault) = self.fault(On::Held) {
            return Err(Self::seen(fault));
        }
        if !self.may_read {
            return Err(forbidden());
        }
        let refused = CallError::BadRequest { status: 400, answer: "range".into() };
        let (size, time, lag) = (self.page, self.time(), self.lag);
        let shown = |session: &Held| -> Vec<CloudPassing> {
            let young = |at: usize| session.since.get(at).is_some_and(|since| *since + lag > time);
            let rows = session.rows.iter().enumerate().filter(|(at, _)| lag.is_zero() || !young(*at));
            rows.map(|(_, row)| CloudPassing { session: Some(session.token.clone()), ..row.clone() }).collect()
        };
        let rows: Vec<CloudPassing> = match scope {
            Scope::Numbers { token, first, last } => {
                let short = |longest: u64| last.is_some_and(|last| last.saturating_sub(*first) < longest);
                if self.no_ranges || !self.longest_range.is_none_or(short) {
                    return Err(refused);
                }
                let session = self.find(token).ok_or_else(|| gone("Session not found"))?;
                let in_range = |num: u64| num >= *first && last.is_none_or(|last| num <= last);
                shown(session).into_iter().filter(|row| row.num.is_some_and(in_range)).collect()
            }
            Scope::Session { token } => shown(self.find(token).ok_or_else(|| gone("Session not found"))?),
            Scope::Times { from, to, .. } => {
                let within = |row: &CloudPassing| row.time_ms.is_some_and(|time| (*from..=*to).contains(&time));
                self.sessions.iter().flat_map(shown).filter(within).collect()
            }
        };
        let passings = rows.into_iter().skip(size * (page as usize - 1)).take(size).collect();
        Ok(Page { passings, more: None })
    }

    pub(in crate::cloud::uplink) fn create(&mut self) -> Result<Session, CallError> {
        let fault = self.fault(On::Create);
        if !self.may_write {
            return Err(forbidden());
        }
        if let Some(fault) = fault {
            if fault == CallFault::LostAfter {
                self.open();
            }
            return Err(Self::seen(fault));
        }
        let token = self.open();
        Ok(Session { token, alias: None, passings: Some(0) })
    }

    /// What somebody wants who closes the active session.
    pub(in crate::cloud::uplink) fn the_active(&self) -> Wanted {
        Wanted::Close { token: self.active_token().unwrap_or("NONE".into()) }
    }

    /// What somebody wants who opens a session and has seen which one is active.
    pub(in crate::cloud::uplink) fn another(&self) -> Wanted {
        Wanted::Open { alias: "by hand".into(), ends: self.active_token().map_or(Ends::Nothing, Ends::Session) }
    }

    fn active_token(&self) -> Option<Box<str>> {
        self.sessions.iter().find(|session| session.active).map(|session| session.token.clone())
    }

    /// Closes one session.
    pub(in crate::cloud::uplink) fn close_one(&mut self, token: &str) -> Result<(), CallError> {
        let fault = self.fault(On::Create);
        if !self.may_write {
            return Err(forbidden());
        }
        if fault.as_ref().is_none_or(|fault| matches!(fault, CallFault::LostAfter | CallFault::LostAndClosed)) {
            let session = self.find(token).ok_or_else(|| gone("Session not found"))?;
            session.active = false;
        }
        fault.map_or(Ok(()), |fault| Err(Self::seen(fault)))
    }

    pub(in crate::cloud::uplink) fn insert(
        &mut self,
        token: &str,
        items: &[UploadItem],
    ) -> Result<Inserted, CallError> {
        assert!(!items.is_empty() && items.len() <= 500, "{} passings in a POST", items.len());
        let fault = self.fault(On::Insert);
        if !self.may_write {
            return Err(forbidden());
        }
        if let Some(
            fault @ (CallFault::NotSent
            | CallFault::Portal
            | CallFault::SlowDown(_)
            | CallFault::Server
            | CallFault::Answer(_)),
        ) = fault
        {
            return Err(Self::seen(fault));
        }
        if !self.sessions.iter().any(|session| session.active && &*session.token == token) {
            return Err(gone("Session not found or closed"));
        }
        if items.len() > self.most {
            return Err(CallError::TooLarge { answer: "".into() });
        }
        if items.iter().any(|item| item.chip.starts_with(self.fails_at)) {
            return Err(Self::seen(CallFault::Server));
        }
        let bad = items.iter().any(|item| item.chip.starts_with(self.poison));
        if let Some(status) = self.refuse_all.or(bad.then_some(400)) {
            return Err(CallError::BadRequest { status, answer: "refused".into() });
        }
        match fault {
            Some(CallFault::Counts(counts)) => return Ok(counts),
            Some(CallFault::LostBefore) => return Err(lost()),
            Some(CallFault::LostLate) => {
                self.late.push((self.time() + LATE, token.into(), items.to_vec()));
                return Err(lost());
            }
            _ => {}
        }
        let part = match fault {
            Some(CallFault::Short(n)) => &items[..n.min(items.len())],
            _ => items,
        };
        let (inserted, duplicates) = self.store(token, part, self.time());
        if fault == Some(CallFault::LostAndClosed) {
            self.close();
        }
        if matches!(fault, Some(CallFault::LostAfter | CallFault::LostAndClosed)) {
            return Err(lost());
        }
        let told = |wanted: bool, count: u64| wanted.then_some(count);
        Ok(Inserted { inserted: told(self.counts.0, inserted), duplicates: told(self.counts.1, duplicates) })
    }

    fn store(&mut self, token: &str, items: &[UploadItem], time: Duration) -> (u64, u64) {
        let dedup = self.dedup;
        let (mut inserted, mut duplicates) = (0, 0);
        let Some(session) = self.find(token).filter(|session| session.active) else { return (0, 0) };
        for item in items {
            if dedup && session.rows.iter().any(|row| row.num == Some(item.num)) {
                duplicates += 1;
                continue;
            }
            inserted += 1;
            session.since.resize(session.rows.len(), Duration::ZERO);
            session.since.push(time);
            session.rows.push(CloudPassing {
                num: Some(item.num),
                time_ms: Some(item.time_ms),
                bib: Some(item.bib.clone()),
                chip: Some(item.chip.clone()),
                session: None,
            });
        }
        (inserted, duplicates)
    }
}

fn in_answer(session: &Held) -> Session {
    Session { token: session.token.clone(), alias: None, passings: Some(session.rows.len() as u64) }
}
