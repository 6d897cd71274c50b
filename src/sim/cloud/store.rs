//! The data of the fake: devices, sessions and passings, the duplicate rules, and the checks of how
//! passings arrive.
//!
//! A passing takes 24 bytes, and each chip or bib text is stored once. Passings whose numbers rise
//! (all of them, with a correct client) are in one vector, which is in the order of both arrival
//! and number. The others are in a second list, with their place in the order of arrival. So a
//! number is found by a binary search without an index (`session`). A session has a place, which
//! never changes and rises with each new session. Tokens and devices lead to places, so that no
//! question goes through sessions that it is not about.

mod session;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

pub(super) use session::{MAX_LAG, Row};
use session::{NO_TEXT, Odd, SimSession};

/// Most passings in all sessions. An insert beyond that is answered with 507.
pub(crate) const MAX_PASSINGS: usize = 8_000_000;

/// Most sessions. One more is answered with 507.
pub(crate) const MAX_SESSIONS: usize = 10_000;

/// Most devices that the fake binds. One more is answered with 507.
pub(super) const MAX_DEVICES: usize = 10_000;

/// Chips in a race that the fake makes up.
const RACE_CHIPS: u64 = 500;

/// Time between two passings of such a race, in milliseconds.
pub(super) const RACE_STEP_MS: usize = 20;

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
    /// The company that it belongs to: 0 is the first one.
    pub(super) company: usize,
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
    /// Number of devices that were ever added. It makes their serial numbers.
    added: usize,
    /// The sessions by place.
    sessions: BTreeMap<u32, SimSession>,
    next_place: u32,
    /// Place of the session with this token.
    tokens: HashMap<Arc<str>, u32>,
    /// Places of the sessions of a device, oldest first.
    of_device: HashMap<Arc<str>, Vec<u32>>,
    texts: Texts,
    stored: usize,
}

/// The result of a request for a device id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The device has this new id.
    New(Arc<str>),
    /// A device with its serial number has this id already.
    Already(Arc<str>),
    /// The fake already holds [`MAX_DEVICES`].
    Full,
}

impl Store {
    pub(super) fn add_devices(&mut self, company: usize, devices: &[(String, String)]) {
        for (id, alias) in devices {
            if self.device(id).is_none() {
                self.added += 1;
                self.devices.push(Device {
                    id: id.as_str().into(),
                    company,
                    alias: alias.clone(),
                    kind: "CUSTOM_CHRONO".to_owned(),
                    model: "passbridge".to_owned(),
                    serial_number: format!("SIM-{}", self.added),
                    firmware: None,
                    created_ms: Timestamp::now().as_millisecond(),
                });
            }
        }
    }

    /// Binds a device under a new id, unless its company has one with its serial number.
    pub(super) fn bind(&mut self, mut device: Device) -> Bound {
        let same = |known: &&Device| known.company == device.company && known.serial_number == device.serial_number;
        if let Some(known) = self.devices.iter().find(same) {
            return Bound::Already(Arc::clone(&known.id));
        }
        if self.devices.len() >= MAX_DEVICES {
            return Bound::Full;
        }
        device.id = token();
        let id = Arc::clone(&device.id);
        self.devices.push(device);
        Bound::New(id)
    }

    /// Removes a device, its sessions and their passings.
    pub(super) fn unbind(&mut self, id: &str) {
        self.devices.retain(|device| &*device.id != id);
        for place in self.of_device.remove(id).unwrap_or_default() {
            if let Some(session) = self.sessions.remove(&place) {
                self.tokens.remove(&session.token);
                self.stored -= session.len();
            }
        }
    }

    /// The devices of a company, in the order in which they were bound.
    pub(super) fn devices(&self, company: usize) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |device| device.company == company)
    }

    pub(super) fn all_devices(&self) -> &[Device] {
        &self.devices
    }

    pub(super) fn device(&self, id: &str) -> Option<&Device> {
        self.devices.iter().find(|device| &*device.id == id)
    }

    /// The company of a device. A device that was never bound, in whose name a test opened a
    /// session, belongs to the first one.
    pub(super) fn company_of(&self, device: &str) -> usize {
        self.device(device).map_or(0, |device| device.company)
    }

    pub(super) fn full_of_sessions(&self) -> bool {
        self.sessions.len() >= MAX_SESSIONS
    }

    /// As many of these sessions and passings as the fake can still hold.
    pub(super) fn room_for(&self, sessions: usize, passings: usize) -> (usize, usize) {
        (
            sessions.min(MAX_SESSIONS.saturating_sub(self.sessions.len())),
            passings.min(MAX_PASSINGS.saturating_sub(self.stored)),
        )
    }

    /// Opens a session. The device's active one closes.
    pub(super) fn open(&mut self, device: &str, alias: Option<&str>) -> Arc<str> {
        self.open_as(device, alias, token(), Timestamp::now().as_millisecond())
    }

    fn open_as(&mut self, device: &str, alias: Option<&str>, token: Arc<str>, created_ms: i64) -> Arc<str> {
        let places = self.of_device.entry(device.into()).or_default();
        // An older session was closed when this one was opened.
        if let Some(session) = places.last().and_then(|last| self.sessions.get_mut(last)) {
            session.close();
        }
        places.push(self.next_place);
        self.tokens.insert(Arc::clone(&token), self.next_place);
        let session = SimSession::new(Arc::clone(&token), device, alias, created_ms);
        self.sessions.insert(self.next_place, session);
        self.next_place += 1;
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

    /// The sessions of a device, oldest first.
    fn of(&self, device: &str) -> impl DoubleEndedIterator<Item = (u32, &SimSession)> {
        let places = self.of_device.get(device).into_iter().flatten();
        places.filter_map(|place| Some((*place, self.sessions.get(place)?)))
    }

    /// The sessions of a device as they were at this moment, oldest first. `None`: now.
    pub(super) fn sessions(&self, device: &str, at: Option<Instant>) -> Vec<SessionView> {
        let there = |session: &&SimSession| at.is_none_or(|at| session.opened <= at);
        self.of(device).map(|(_, session)| session).filter(there).map(|session| view(session, at)).collect()
    }

    /// Number of sessions of a device, and of passings in them.
    pub(super) fn counts(&self, device: &str) -> (usize, usize) {
        self.of(device).fold((0, 0), |(sessions, passings), (_, session)| (sessions + 1, passings + session.len()))
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
        let found = self.of(device).rev().find(|(_, session)| session.active_at(at));
        found.map(|(_, session)| view(session, at))
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
    pub(super) fn by_number(&self, token: &str, numbers: RangeInclusive<u64>, at: Option<Instant>) -> Rows<'_> {
        let found = self.tokens.get(token).and_then(|place| Some((*place, self.sessions.get(place)?)));
        let found = found.map(|(place, session)| (place, session.by_number(&numbers, &ALL_TIMES, session.held_at(at))));
        Rows(found.into_iter().collect())
    }

    /// The passings of a device with times in the range, in the order of arrival, as they were at
    /// this moment.
    pub(super) fn by_time(&self, device: &str, times: RangeInclusive<i64>, at: Option<Instant>) -> Rows<'_> {
        let sessions = self.of(device);
        Rows(sessions.map(|(place, session)| (place, session.by_arrival(&times, session.held_at(at)))).collect())
    }

    /// What a continuing pull shows: the passings with times in the range after the number `last`
    /// of the session, or, if there are none, those of the next session that has any. Without
    /// a session it begins with the active one, or with the newest one. `None`: the device has no
    /// such session.
    pub(super) fn continued(
        &self,
        device: &str,
        after: Option<(&str, Option<u64>)>,
        times: &RangeInclusive<i64>,
        at: Option<Instant>,
    ) -> Option<Continued<'_>> {
        let (begin, last) = match after {
            Some((token, last)) => {
                let place = self.tokens.get(token)?;
                (self.of(device).find(|(of_device, _)| of_device == place)?.0, last)
            }
            None => {
                // Only the newest session can be active.
                (self.of(device).next_back()?.0, None)
            }
        };
        let mut found = None;
        for (place, session) in self.of(device).filter(|(place, _)| *place >= begin) {
            let from = last.filter(|_| place == begin);
            let first = from.map_or(0, |from| from.saturating_add(1));
            let rows = session.by_number(&(first..=u64::MAX), times, session.held_at(at));
            let empty = rows.is_empty();
            let (token, alias) = (Arc::clone(&session.token), session.alias.clone());
            let here = Continued { token, alias, from, rows: Rows(vec![(place, rows)]) };
            if !empty {
                return Some(here);
            }
            // Until a newer session has a passing, the pull stays where it is.
            found.get_or_insert(here);
        }
        found
    }

    /// Token of the session at this place.
    pub(super) fn token_at(&self, place: u32) -> Arc<str> {
        self.sessions.get(&place).map(|session| Arc::clone(&session.token)).unwrap_or_default()
    }

    /// Stores the passings that are no duplicates. Reports what a correct client never does.
    pub(super) fn insert(
        &mut self,
        token: &str,
        passings: &[Arriving<'_>],
        rule: Rule,
        mut violation: impl FnMut(String),
    ) -> Result<Counts, Refused> {
        let place = self.tokens.get(token).copied();
        let active = place.and_then(|place| Some((place, self.sessions.get(&place)?.active)));
        let Some((place, true)) = active else { return Err(Refused::Closed) };
        if self.stored + passings.len() > MAX_PASSINGS {
            return Err(Refused::Full);
        }
        let mut counts = Counts::default();
        for passing in passings {
            let chip = passing.chip.map_or(NO_TEXT, |chip| self.texts.id(chip));
            let bib = self.texts.id(passing.bib);
            let row = Row { num: passing.num, time_ms: passing.time_ms, chip, bib };
            let elsewhere = rule.per_device && self.held_elsewhere(place, &row, rule.dedup);
            let Some(session) = self.sessions.get_mut(&place) else { return Err(Refused::Closed) };
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
        if let Some(session) = self.sessions.get_mut(&place).filter(|_| counts.inserted > 0) {
            session.mark();
        }
        Ok(counts)
    }

    /// Another session of the device holds a passing of which this row is a duplicate.
    fn held_elsewhere(&self, place: u32, row: &Row, dedup: Dedup) -> bool {
        let device = self.sessions.get(&place).map_or("", |session| &*session.device);
        self.of(device).filter(|(other, _)| *other != place).any(|(_, other)| match dedup {
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
        self.stored -= before - self.find(token).map_or(0, SimSession::len);
    }

    /// Changes the passing with this number, without any rule or check.
    pub(super) fn alter(&mut self, token: &str, num: u64, change: impl FnOnce(&mut StoredPassing)) {
        let found = self.find(token).and_then(|session| session.with_number(num).next()).copied();
        let Some(mut stored) = found.map(|row| self.full(&row)) else { return };
        change(&mut stored);
        let chip = stored.chip.as_deref().map_or(NO_TEXT, |chip| self.texts.id(chip));
        let bib = self.texts.id(&stored.bib);
        let row = Row { num, time_ms: stored.time_ms, chip, bib };
        if let Some(session) = self.find_mut(token) {
            session.replace(row);
        }
    }

    pub(super) fn put_foreign(&mut self, token: &str, passings: &[StoredPassing]) {
        self.put(token, passings);
        if let Some(session) = self.find_mut(token) {
            session.foreign.extend(passings.iter().map(|passing| passing.num));
        }
    }

    pub(super) fn put_session(&mut self, device: &str, alias: &str, token: &str, passings: &[StoredPassing]) {
        self.open_as(device, Some(alias), token.into(), Timestamp::now().as_millisecond());
        self.put(token, passings);
        if let Some(session) = self.find_mut(token) {
            session.highest = passings.iter().map(|passing| passing.num).max().unwrap_or(0);
        }
    }

    /// Opens a session that holds this many passings of a race, which began at `start_ms`. The
    /// device's active session closes. Returns the token.
    pub(super) fn put_race(&mut self, device: &str, alias: &str, start_ms: i64, passings: usize) -> Arc<str> {
        let chip = |number: u64| (self.texts.id(&format!("SIM{number:05}")), self.texts.id(&number.to_string()));
        let chips: Vec<(u32, u32)> = (1..=RACE_CHIPS).map(chip).collect();
        let token = self.open_as(device, Some(alias), token(), start_ms);
        if let Some(session) = self.find_mut(&token) {
            session.rows.reserve_exact(passings);
            let times = (start_ms..).step_by(RACE_STEP_MS);
            for ((num, time_ms), (chip, bib)) in (1..).zip(times).zip(chips.iter().cycle().copied()).take(passings) {
                session.add(Row { num, time_ms, chip, bib });
            }
            session.highest = passings as u64;
            session.unmark();
        }
        self.stored += passings;
        token
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

    fn find(&self, token: &str) -> Option<&SimSession> {
        self.sessions.get(self.tokens.get(token)?)
    }

    fn find_mut(&mut self, token: &str) -> Option<&mut SimSession> {
        self.sessions.get_mut(self.tokens.get(token)?)
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

/// Every time.
pub(super) const ALL_TIMES: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// The passings that a question asks for, in the order of its answer, each with the place of its
/// session. They are not copied where the fake holds them in this order, so that a page of a
/// million passings costs no more than the page.
#[derive(Default)]
pub(super) struct Rows<'a>(Vec<(u32, Cow<'a, [Row]>)>);

impl Rows<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// The passings in this range of the list.
    pub(super) fn of(&self, range: Range<usize>) -> Vec<(u32, Row)> {
        let mut found = Vec::new();
        let mut before = 0;
        for (place, rows) in &self.0 {
            let within = |at: usize| at.saturating_sub(before).min(rows.len());
            found.extend(rows[within(range.start)..within(range.end)].iter().map(|row| (*place, *row)));
            before += rows.len();
        }
        found
    }
}

/// Where a continuing pull goes on, and with which passings.
pub(super) struct Continued<'a> {
    pub(super) token: Arc<str>,
    pub(super) alias: Option<Arc<str>>,
    /// The last number of this session that was pulled before.
    pub(super) from: Option<u64>,
    pub(super) rows: Rows<'a>,
}

/// A page of a list, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListPage {
    pub(super) number: usize,
    pub(super) size: usize,
}

impl ListPage {
    /// The entries on the page, of a list of `total`.
    pub(super) fn range(self, total: usize) -> Range<usize> {
        let start = (self.number - 1).saturating_mul(self.size).min(total);
        start..start.saturating_add(self.size).min(total)
    }
}

fn view(session: &SimSession, at: Option<Instant>) -> SessionView {
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
