//! The data of the fake: devices, sessions and passings, the duplicate rules, and the checks of how
//! passings arrive.
//!
//! A passing takes 24 bytes, and each chip or bib text is stored once. Passings whose numbers rise
//! (all of them, with a correct client) are in one vector, which is in the order of both arrival
//! and number. The others are in a second list, with their place in the order of arrival. So a
//! number is found by a binary search without an index.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Longest time for which passings or sessions are not shown.
pub(super) const MAX_LAG: Duration = Duration::from_secs(60);

/// Most passings in all sessions. An insert beyond that is answered with 507.
pub(super) const MAX_PASSINGS: usize = 8_000_000;

/// Most sessions. One more is answered with 507.
pub(super) const MAX_SESSIONS: usize = 1_000;

/// Most inserts of each session whose time of arrival is remembered. Older inserts are shown to
/// every question.
const MAX_MARKS: usize = 100_000;

/// Which passings count as duplicates within a session. The real cloud does not publish its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedup {
    /// None: a passing that is sent twice is stored twice (and recorded as a violation).
    None,
    /// The same number.
    #[default]
    Number,
    /// The same number and time.
    NumberTime,
    /// The same chip (or bib, if there is no chip) and time.
    ChipTime,
}

/// A passing as the fake holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPassing {
    /// `num_passing`.
    pub num: u64,
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// `chip`, if it was sent.
    pub chip: Option<Arc<str>>,
    /// `bib`.
    pub bib: Arc<str>,
}

/// A session as the fake holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// `token_session`.
    pub token: Arc<str>,
    /// Device of the session.
    pub device: Arc<str>,
    /// Name of the session, if one was given.
    pub alias: Option<Arc<str>>,
    /// Whether the session accepts passings.
    pub active: bool,
    /// When the session was opened, milliseconds since 1970.
    pub created_ms: i64,
    /// Number of passings in the session.
    pub passings: usize,
    /// Stamps of the first and the last passing stored, milliseconds since 1970.
    pub span_ms: Option<(i64, i64)>,
}

/// A device as the fake holds it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) id: Arc<str>,
    pub(super) alias: String,
    pub(super) kind: String,
    pub(super) model: String,
    pub(super) serial_number: String,
    pub(super) firmware: Option<String>,
    pub(super) created_ms: i64,
}

/// The rules for an insert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) dedup: Dedup,
    /// Passings in other sessions of the device count as well.
    pub(super) per_device: bool,
    /// The insert was sent long ago, so passings that were sent after it may be stored already.
    pub(super) late: bool,
}

/// A passing of an insert.
pub(super) struct Arriving<'a> {
    pub(super) num: u64,
    pub(super) time_ms: i64,
    pub(super) chip: Option<&'a str>,
    pub(super) bib: &'a str,
}

/// The result of an insert.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) inserted: usize,
    pub(super) duplicates: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    num: u64,
    time_ms: i64,
    chip: u32,
    bib: u32,
}

/// A row whose number did not rise.
struct Odd {
    /// Number of rows that arrived before it.
    after: usize,
    row: Row,
}

impl Row {
    /// A value that distinguishes the row from others of its session, nearly always.
    pub(super) fn key(&self) -> u64 {
        self.num ^ (u64::from(self.chip) << 40)
    }

    /// Chip (or bib, if there is no chip) and time.
    fn chip_time(&self) -> (u32, i64) {
        (if self.chip == NO_TEXT { self.bib } else { self.chip }, self.time_ms)
    }
}

/// How much a session held at a moment: rows with rising numbers, and odd rows.
#[derive(Clone, Copy, Default)]
struct Held {
    rows: usize,
    odd: usize,
}

/// Id that means that no chip was sent.
const NO_TEXT: u32 = u32::MAX;

#[derive(Default)]
struct Texts {
    list: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
}

impl Texts {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let text: Arc<str> = text.into();
        // Each passing adds at most two texts, so `MAX_PASSINGS` keeps the number of texts far
        // below `NO_TEXT`.
        let id = u32::try_from(self.list.len()).unwrap_or(NO_TEXT);
        self.list.push(Arc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    fn get(&self, id: u32) -> Option<&Arc<str>> {
        self.list.get(id as usize)
    }
}

struct Session {
    token: Arc<str>,
    device: Arc<str>,
    alias: Option<Arc<str>>,
    active: bool,
    created_ms: i64,
    opened: Instant,
    closed: Option<Instant>,
    /// What the session held after each insert of the last [`MAX_LAG`], and what it held before
    /// those.
    marks: VecDeque<(Instant, Held)>,
    before_marks: Held,
    /// Rows with strictly rising numbers.
    rows: Vec<Row>,
    odd: Vec<Odd>,
    /// Rows with numbers up to this one were taken out of `rows`. The numbers are still known,
    /// their content is not.
    taken: u64,
    /// Highest number that the client under test has stored.
    highest: u64,
    /// Numbers of another sender's passings. What the client sends under them is not its fault.
    foreign: HashSet<u64>,
    /// Numbers of passings that the fake lost. The client may send them again.
    lost: HashSet<u64>,
    /// Chip and time of every row, collected from the first insert under [`Dedup::ChipTime`] on.
    seen: HashSet<(u32, i64)>,
}

impl Session {
    fn len(&self) -> usize {
        self.rows.len() + self.odd.len()
    }

    fn held(&self) -> Held {
        Held { rows: self.rows.len(), odd: self.odd.len() }
    }

    /// Returns what the session held at this moment. `None`: now.
    fn held_at(&self, at: Option<Instant>) -> Held {
        let Some(at) = at else { return self.held() };
        let later = self.marks.partition_point(|(taken, _)| *taken <= at);
        later.checked_sub(1).map_or(self.before_marks, |last| self.marks[last].1)
    }

    /// Records that something was stored just now.
    fn mark(&mut self) {
        let now = Instant::now();
        self.marks.push_back((now, self.held()));
        while let Some((taken, held)) = self.marks.front().copied()
            && (self.marks.len() > MAX_MARKS || now.duration_since(taken) > MAX_LAG)
        {
            self.before_marks = held;
            self.marks.pop_front();
        }
    }

    /// Rows were taken out, so all remaining rows are shown to every question.
    fn unmark(&mut self) {
        self.marks.clear();
        self.before_marks = self.held();
    }

    fn active_at(&self, at: Option<Instant>) -> bool {
        at.map_or(self.active, |at| self.opened <= at && self.closed.is_none_or(|closed| closed > at))
    }

    fn close(&mut self) {
        self.active = false;
        self.closed.get_or_insert_with(Instant::now);
    }

    fn with_number(&self, num: u64) -> impl Iterator<Item = &Row> {
        let regular = match self.rows.last() {
            Some(last) if last.num >= num => self.rows.binary_search_by_key(&num, |row| row.num).ok(),
            _ => None,
        };
        let odd = self.odd.iter().map(|odd| &odd.row).filter(move |row| row.num == num);
        regular.map(|at| &self.rows[at]).into_iter().chain(odd)
    }

    fn add(&mut self, row: Row) {
        if self.rows.last().is_none_or(|last| last.num < row.num) {
            self.rows.push(row);
        } else {
            self.odd.push(Odd { after: self.rows.len(), row });
        }
    }

    /// The rows in the order of arrival.
    fn arrived(&self) -> impl Iterator<Item = &Row> {
        self.arrived_of(self.held())
    }

    /// The same, for the rows that the session held then.
    fn arrived_of(&self, held: Held) -> impl Iterator<Item = &Row> {
        let (rows, mut odd) = (&self.rows[..held.rows], self.odd[..held.odd].iter().peekable());
        let mut at = 0;
        std::iter::from_fn(move || {
            if let Some(next) = odd.next_if(|odd| odd.after <= at) {
                return Some(&next.row);
            }
            let row = rows.get(at)?;
            at += 1;
            Some(row)
        })
    }

    /// The rows with numbers in the range, lowest first.
    fn range(&self, first: u64, last: u64, held: Held) -> Vec<Row> {
        let seen = &self.rows[..held.rows];
        let from = seen.partition_point(|row| row.num < first);
        let to = seen.partition_point(|row| row.num <= last).max(from);
        let mut rows = seen[from..to].to_vec();
        let odd = self.odd[..held.odd].iter().map(|odd| odd.row).filter(|row| (first..=last).contains(&row.num));
        let regular = rows.len();
        rows.extend(odd);
        if rows.len() > regular {
            rows.sort_by_key(|row| row.num);
        }
        rows
    }

    fn span_ms(&self, held: Held) -> Option<(i64, i64)> {
        let first = self.arrived_of(held).next()?.time_ms;
        let last = match (self.rows[..held.rows].last(), self.odd[..held.odd].last()) {
            (Some(_), Some(odd)) if odd.after == held.rows => odd.row.time_ms,
            (Some(row), _) => row.time_ms,
            (None, odd) => odd?.row.time_ms,
        };
        Some((first, last))
    }
}

/// Why an insert stored nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The session does not exist, or it is closed.
    Closed,
    /// The fake already holds [`MAX_PASSINGS`].
    Full,
}

#[derive(Default)]
pub(super) struct Store {
    devices: Vec<Device>,
    sessions: Vec<Session>,
    texts: Texts,
    stored: usize,
}

impl Store {
    pub(super) fn new(devices: &[(String, String)]) -> Self {
        let mut store = Self::default();
        store.add_devices(devices);
        store
    }

    pub(super) fn add_devices(&mut self, devices: &[(String, String)]) {
        for (id, alias) in devices {
            if self.device(id).is_none() {
                self.devices.push(Device {
                    id: id.as_str().into(),
                    alias: alias.clone(),
                    kind: "CUSTOM_CHRONO".to_owned(),
                    model: "passbridge".to_owned(),
                    serial_number: format!("SIM-{}", self.devices.len() + 1),
                    firmware: None,
                    created_ms: Timestamp::now().as_millisecond(),
                });
            }
        }
    }

    /// Binds a device under a new id. `Err`: the id that its serial number already has.
    pub(super) fn bind(&mut self, mut device: Device) -> Result<Arc<str>, Arc<str>> {
        let known = self.devices.iter().find(|known| known.serial_number == device.serial_number);
        if let Some(known) = known {
            return Err(Arc::clone(&known.id));
        }
        device.id = token();
        let id = Arc::clone(&device.id);
        self.devices.push(device);
        Ok(id)
    }

    pub(super) fn devices(&self) -> &[Device] {
        &self.devices
    }

    pub(super) fn device(&self, id: &str) -> Option<&Device> {
        self.devices.iter().find(|device| &*device.id == id)
    }

    pub(super) fn full_of_sessions(&self) -> bool {
        self.sessions.len() >= MAX_SESSIONS
    }

    /// Opens a session. The device's active one closes.
    pub(super) fn open(&mut self, device: &str, alias: Option<&str>) -> Arc<str> {
        self.open_as(device, alias, token())
    }

    fn open_as(&mut self, device: &str, alias: Option<&str>, token: Arc<str>) -> Arc<str> {
        for session in self.sessions.iter_mut().filter(|session| session.active && &*session.device == device) {
            session.close();
        }
        self.sessions.push(Session {
            token: Arc::clone(&token),
            device: device.into(),
            alias: alias.map(Into::into),
            active: true,
            created_ms: Timestamp::now().as_millisecond(),
            opened: Instant::now(),
            closed: None,
            marks: VecDeque::new(),
            before_marks: Held::default(),
            rows: Vec::new(),
            odd: Vec::new(),
            taken: 0,
            highest: 0,
            foreign: HashSet::new(),
            lost: HashSet::new(),
            seen: HashSet::new(),
        });
        token
    }

    /// Closes a session. `false`: no session has this token.
    pub(super) fn close(&mut self, token: &str) -> bool {
        let session = self.find_mut(token);
        let known = session.is_some();
        if let Some(session) = session {
            session.close();
        }
        known
    }

    /// The sessions of a device as they were at this moment, oldest first. `None`: now.
    pub(super) fn sessions(&self, device: &str, at: Option<Instant>) -> Vec<SessionView> {
        let there = |session: &&Session| &*session.device == device && at.is_none_or(|at| session.opened <= at);
        self.sessions.iter().filter(there).map(|session| view(session, at)).collect()
    }

    /// One session as it was at this moment.
    pub(super) fn session(&self, token: &str, at: Option<Instant>) -> Option<SessionView> {
        self.find(token).filter(|session| at.is_none_or(|at| session.opened <= at)).map(|session| view(session, at))
    }

    /// Device of a session, without building a view.
    pub(super) fn device_of(&self, token: &str) -> Option<Arc<str>> {
        self.find(token).map(|session| Arc::clone(&session.device))
    }

    /// The session that was active at this moment.
    pub(super) fn active(&self, device: &str, at: Option<Instant>) -> Option<SessionView> {
        let mut sessions = self.sessions.iter().rev();
        let found = sessions.find(|session| session.active_at(at) && &*session.device == device);
        found.map(|session| view(session, at))
    }

    /// Highest number in a session, whoever sent it.
    pub(super) fn highest(&self, token: &str) -> Option<u64> {
        let session = self.find(token)?;
        let odd = session.odd.iter().map(|odd| odd.row.num).max();
        Some(session.rows.last().map_or(session.taken, |row| row.num).max(odd.unwrap_or(0)))
    }

    /// A session holds a passing with this number.
    pub(super) fn holds(&self, token: &str, num: u64) -> bool {
        self.find(token).is_some_and(|session| num <= session.taken || session.with_number(num).next().is_some())
    }

    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    pub(super) fn passings(&self, token: &str) -> Vec<StoredPassing> {
        self.find(token).map(|session| session.arrived().map(|row| self.full(row)).collect()).unwrap_or_default()
    }

    /// Removes and returns the passings of a session, oldest first, except the newest `leave`.
    /// Those that arrived out of order stay.
    pub(super) fn take(&mut self, token: &str, leave: usize) -> Vec<StoredPassing> {
        let Some(session) = self.find_mut(token) else { return Vec::new() };
        let count = session.rows.len().saturating_sub(leave);
        let rows: Vec<Row> = session.rows.drain(..count).collect();
        session.rows.shrink_to(2 * leave);
        session.taken = rows.last().map_or(session.taken, |row| row.num);
        // Odd rows were between rows that are removed now. The remaining rows are still in order.
        session.odd.iter_mut().for_each(|odd| odd.after = odd.after.saturating_sub(count));
        session.unmark();
        self.stored -= count;
        rows.iter().map(|row| self.full(row)).collect()
    }

    /// The passings of a session with numbers in the range, lowest first, as they were at this
    /// moment.
    pub(super) fn by_number(&self, token: &str, first: u64, last: u64, at: Option<Instant>) -> Option<Vec<Row>> {
        let session = self.find(token)?;
        Some(session.range(first, last, session.held_at(at)))
    }

    /// The passings of a device with times in the range, in the order of arrival, with the place of
    /// their session, as they were at this moment.
    pub(super) fn by_time(&self, device: &str, from: i64, to: i64, at: Option<Instant>) -> Vec<(u32, Row)> {
        let mut found = Vec::new();
        for (place, session) in (0..).zip(&self.sessions).filter(|(_, session)| &*session.device == device) {
            let rows = session.arrived_of(session.held_at(at)).filter(|row| (from..=to).contains(&row.time_ms));
            found.extend(rows.map(|row| (place, *row)));
        }
        found
    }

    /// Token of the session at this place.
    pub(super) fn token_at(&self, place: u32) -> Arc<str> {
        self.sessions.get(place as usize).map(|session| Arc::clone(&session.token)).unwrap_or_default()
    }

    /// Stores the passings that are no duplicates. Reports what a correct client never does.
    pub(super) fn insert(
        &mut self,
        token: &str,
        passings: &[Arriving<'_>],
        rule: Rule,
        mut violation: impl FnMut(String),
    ) -> Result<Counts, Refused> {
        let place = self.sessions.iter().rposition(|session| session.active && &*session.token == token);
        let Some(place) = place else { return Err(Refused::Closed) };
        if self.stored + passings.len() > MAX_PASSINGS {
            return Err(Refused::Full);
        }
        let mut counts = Counts::default();
        for passing in passings {
            let chip = passing.chip.map_or(NO_TEXT, |chip| self.texts.id(chip));
            let bib = self.texts.id(passing.bib);
            let row = Row { num: passing.num, time_ms: passing.time_ms, chip, bib };
            let elsewhere = rule.per_device && self.held_elsewhere(place, &row, rule.dedup);
            let session = &mut self.sessions[place];
            let gone = row.num <= session.taken;
            let (mut known, mut same_time, mut same) = (gone, gone, gone);
            for held in session.with_number(row.num) {
                known = true;
                same_time |= held.time_ms == row.time_ms;
                same |= *held == row;
            }
            let foreign = session.foreign.contains(&row.num);
            if known && !same && !foreign {
                violation(format!("number {} was sent with two contents", row.num));
            }
            let duplicate = match rule.dedup {
                _ if elsewhere => true,
                Dedup::None => false,
                Dedup::Number => known,
                Dedup::NumberTime => known && same_time,
                Dedup::ChipTime => !session.seen.insert(row.chip_time()),
            };
            if duplicate {
                counts.duplicates += 1;
                continue;
            }
            let highest = session.highest;
            if !known && !rule.late && row.num < highest && !session.lost.contains(&row.num) {
                violation(format!("number {} arrived after {highest}", row.num));
            }
            if same {
                violation(format!("number {} is stored twice", row.num));
            }
            session.add(row);
            session.highest = session.highest.max(row.num);
            self.stored += 1;
            counts.inserted += 1;
        }
        if counts.inserted > 0 {
            self.sessions[place].mark();
        }
        Ok(counts)
    }

    /// Another session of the device holds a passing of which this row is a duplicate.
    fn held_elsewhere(&self, place: usize, row: &Row, dedup: Dedup) -> bool {
        let device = &self.sessions[place].device;
        let others = self.sessions.iter().enumerate().filter(|(at, other)| *at != place && other.device == *device);
        others.map(|(_, other)| other).any(|other| match dedup {
            Dedup::None => false,
            Dedup::Number => row.num <= other.taken || other.with_number(row.num).next().is_some(),
            Dedup::NumberTime => other.with_number(row.num).any(|held| held.time_ms == row.time_ms),
            Dedup::ChipTime => other.seen.contains(&row.chip_time()),
        })
    }

    /// Forgets the passings with these numbers, like a cloud that lost them.
    pub(super) fn lose(&mut self, token: &str, nums: &[u64]) {
        let Some(session) = self.find_mut(token) else { return };
        let before = session.len();
        let (rows, odd) = (std::mem::take(&mut session.rows), std::mem::take(&mut session.odd));
        let gone = |row: &Row| nums.contains(&row.num);
        session.seen.clear();
        for odd in odd.into_iter().filter(|odd| !gone(&odd.row)) {
            let after = odd.after - rows[..odd.after].iter().filter(|row| gone(row)).count();
            session.odd.push(Odd { after, row: odd.row });
        }
        session.rows = rows.into_iter().filter(|row| !gone(row)).collect();
        session.lost.extend(nums);
        session.seen = session.arrived().map(Row::chip_time).collect();
        session.unmark();
        self.stored -= before - self.find(token).map_or(0, Session::len);
    }

    /// Changes the passing with this number, without any rule or check.
    pub(super) fn alter(&mut self, token: &str, num: u64, change: impl FnOnce(&mut StoredPassing)) {
        let found = self.find(token).and_then(|session| session.with_number(num).next()).copied();
        let Some(mut stored) = found.map(|row| self.full(&row)) else { return };
        change(&mut stored);
        let chip = stored.chip.as_deref().map_or(NO_TEXT, |chip| self.texts.id(chip));
        let bib = self.texts.id(&stored.bib);
        let row = Row { num, time_ms: stored.time_ms, chip, bib };
        let Some(session) = self.find_mut(token) else { return };
        let rows = session.rows.iter_mut().chain(session.odd.iter_mut().map(|odd| &mut odd.row));
        if let Some(held) = rows.into_iter().find(|row| row.num == num) {
            *held = row;
        }
    }

    pub(super) fn put_foreign(&mut self, token: &str, passings: &[StoredPassing]) {
        self.put(token, passings);
        if let Some(session) = self.find_mut(token) {
            session.foreign.extend(passings.iter().map(|passing| passing.num));
        }
    }

    pub(super) fn put_session(&mut self, device: &str, alias: &str, token: &str, passings: &[StoredPassing]) {
        self.open_as(device, Some(alias), token.into());
        self.put(token, passings);
        if let Some(session) = self.find_mut(token) {
            session.highest = passings.iter().map(|passing| passing.num).max().unwrap_or(0);
        }
    }

    fn put(&mut self, token: &str, passings: &[StoredPassing]) {
        for passing in passings {
            let chip = passing.chip.as_deref().map_or(NO_TEXT, |chip| self.texts.id(chip));
            let bib = self.texts.id(&passing.bib);
            if let Some(session) = self.find_mut(token) {
                session.add(Row { num: passing.num, time_ms: passing.time_ms, chip, bib });
                session.mark();
                self.stored += 1;
            }
        }
    }

    fn find(&self, token: &str) -> Option<&Session> {
        self.sessions.iter().rev().find(|session| &*session.token == token)
    }

    fn find_mut(&mut self, token: &str) -> Option<&mut Session> {
        self.sessions.iter_mut().rev().find(|session| &*session.token == token)
    }

    pub(super) fn full(&self, row: &Row) -> StoredPassing {
        StoredPassing {
            num: row.num,
            time_ms: row.time_ms,
            chip: self.texts.get(row.chip).cloned(),
            bib: self.texts.get(row.bib).cloned().unwrap_or_default(),
        }
    }
}

/// A page of a list, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListPage {
    pub(super) number: usize,
    pub(super) size: usize,
}

impl ListPage {
    pub(super) fn of<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip((self.number - 1).saturating_mul(self.size)).take(self.size)
    }
}

fn view(session: &Session, at: Option<Instant>) -> SessionView {
    let held = session.held_at(at);
    SessionView {
        token: Arc::clone(&session.token),
        device: Arc::clone(&session.device),
        alias: session.alias.clone(),
        active: session.active_at(at),
        created_ms: session.created_ms,
        passings: held.rows + held.odd,
        span_ms: session.span_ms(held),
    }
}

/// Returns 64 upper-case hex digits, the form of the real tokens and device ids. They are random,
/// so that a restarted fake never returns a token that a journal already knows.
fn token() -> Arc<str> {
    format!("{:032X}{:032X}", fastrand::u128(..), fastrand::u128(..)).into()
}
