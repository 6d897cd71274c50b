//! What the fake holds: devices, sessions and passings, the duplicate rules, and the watch over how passings arrive.
//!
//! A passing takes 24 bytes; chips and bibs are kept once each. Passings whose number rises (all of them, from a good
//! client) lie in one vector in both arrival and number order; the others lie beside it with their place in the arrival
//! order, so looking up a number is a binary search without an index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{MAX_PASSINGS, MAX_SESSIONS};

/// What counts as a duplicate within a session. The real cloud does not publish its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dedup {
    /// Nothing: what is sent twice is stored twice (and noted as a violation).
    None,
    /// The same number.
    #[default]
    Number,
    /// The same number and time.
    NumberTime,
    /// The same chip (bib where there is none) and time.
    ChipTime,
}

/// A passing as the fake holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
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
    /// Device it belongs to.
    pub device: Arc<str>,
    /// Its name, if one was given.
    pub alias: Option<Arc<str>>,
    /// Whether it takes passings.
    pub active: bool,
    /// When it was opened, milliseconds since 1970.
    pub created_ms: i64,
    /// How many it holds.
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

/// A passing as it arrives.
pub(super) struct Arriving<'a> {
    pub(super) num: u64,
    pub(super) time_ms: i64,
    pub(super) chip: Option<&'a str>,
    pub(super) bib: &'a str,
}

/// What an insert did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) inserted: usize,
    pub(super) duplicates: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    num: u64,
    time_ms: i64,
    chip: u32,
    bib: u32,
}

/// A row whose number did not rise.
struct Odd {
    /// Rows that arrived before it.
    after: usize,
    row: Row,
}

/// Stands for "no chip was sent".
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
        // Two new texts a passing at most, so `MAX_PASSINGS` keeps this far below `NO_TEXT`.
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
    /// Numbers strictly rising.
    rows: Vec<Row>,
    odd: Vec<Odd>,
    /// Numbers up to here were taken out of `rows`: they are known, what they held is not any more.
    taken: u64,
    /// Numbers whose passings the fake lost: they may come again.
    lost: HashSet<u64>,
    /// Chip and time of every row, kept from the first insert under [`Dedup::ChipTime`] on.
    seen: HashSet<(u32, i64)>,
}

impl Session {
    fn len(&self) -> usize {
        self.rows.len() + self.odd.len()
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

    /// In arrival order.
    fn arrived(&self) -> impl Iterator<Item = &Row> {
        let mut odd = self.odd.iter().peekable();
        let mut at = 0;
        std::iter::from_fn(move || {
            if let Some(next) = odd.next_if(|odd| odd.after <= at) {
                return Some(&next.row);
            }
            let row = self.rows.get(at)?;
            at += 1;
            Some(row)
        })
    }

    /// Rows with numbers of the range, lowest first.
    fn range(&self, first: u64, last: u64) -> Vec<Row> {
        let from = self.rows.partition_point(|row| row.num < first);
        let to = self.rows.partition_point(|row| row.num <= last).max(from);
        let mut rows = self.rows[from..to].to_vec();
        let odd = self.odd.iter().map(|odd| odd.row).filter(|row| (first..=last).contains(&row.num));
        let regular = rows.len();
        rows.extend(odd);
        if rows.len() > regular {
            rows.sort_by_key(|row| row.num);
        }
        rows
    }

    fn span_ms(&self) -> Option<(i64, i64)> {
        let first = self.arrived().next()?.time_ms;
        let last = match (self.rows.last(), self.odd.last()) {
            (Some(_), Some(odd)) if odd.after == self.rows.len() => odd.row.time_ms,
            (Some(row), _) => row.time_ms,
            (None, odd) => odd?.row.time_ms,
        };
        Some((first, last))
    }
}

/// Why an insert took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No such session, or it is closed.
    Closed,
    /// [`MAX_PASSINGS`] are held.
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

    /// Binds a device under a new id, or gives the id that its serial number has already (`Err`).
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

    /// Opens a session; the device's active one closes.
    pub(super) fn open(&mut self, device: &str, alias: Option<&str>) -> Arc<str> {
        for session in self.sessions.iter_mut().filter(|session| &*session.device == device) {
            session.active = false;
        }
        let token = token();
        self.sessions.push(Session {
            token: Arc::clone(&token),
            device: device.into(),
            alias: alias.map(Into::into),
            active: true,
            created_ms: Timestamp::now().as_millisecond(),
            rows: Vec::new(),
            odd: Vec::new(),
            taken: 0,
            lost: HashSet::new(),
            seen: HashSet::new(),
        });
        token
    }

    /// Closes a session. `false`: there is none with this token.
    pub(super) fn close(&mut self, token: &str) -> bool {
        let session = self.find_mut(token);
        let known = session.is_some();
        if let Some(session) = session {
            session.active = false;
        }
        known
    }

    pub(super) fn sessions(&self, device: &str) -> Vec<SessionView> {
        self.sessions.iter().filter(|session| &*session.device == device).map(view).collect()
    }

    pub(super) fn session(&self, token: &str) -> Option<SessionView> {
        self.find(token).map(view)
    }

    /// Device of a session, without the cost of a view.
    pub(super) fn device_of(&self, token: &str) -> Option<Arc<str>> {
        self.find(token).map(|session| Arc::clone(&session.device))
    }

    pub(super) fn active(&self, device: &str) -> Option<SessionView> {
        self.sessions.iter().rev().find(|session| session.active && &*session.device == device).map(view)
    }

    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    pub(super) fn passings(&self, token: &str) -> Vec<Stored> {
        self.find(token).map(|session| session.arrived().map(|row| self.full(row)).collect()).unwrap_or_default()
    }

    /// Takes out what a session holds, but for the newest `leave`, oldest first. Those that came out of order stay.
    pub(super) fn take(&mut self, token: &str, leave: usize) -> Vec<Stored> {
        let Some(session) = self.find_mut(token) else { return Vec::new() };
        let count = session.rows.len().saturating_sub(leave);
        let rows: Vec<Row> = session.rows.drain(..count).collect();
        session.rows.shrink_to(2 * leave);
        session.taken = rows.last().map_or(session.taken, |row| row.num);
        self.stored -= count;
        rows.iter().map(|row| self.full(row)).collect()
    }

    /// Passings of a session with numbers of the range, lowest first.
    pub(super) fn by_number(&self, token: &str, first: u64, last: u64, page: Page) -> Option<(usize, Vec<Stored>)> {
        let rows = self.find(token)?.range(first, last);
        Some((rows.len(), page.of(rows.iter()).map(|row| self.full(row)).collect()))
    }

    /// Passings of a device with times of the range, in arrival order, with their session's token.
    pub(super) fn by_time(&self, device: &str, from: i64, to: i64, page: Page) -> (usize, Vec<(Arc<str>, Stored)>) {
        let of_device = || self.sessions.iter().filter(|session| &*session.device == device);
        let rows = || {
            of_device()
                .flat_map(|session| session.arrived().map(move |row| (session, row)))
                .filter(|(_, row)| (from..=to).contains(&row.time_ms))
        };
        let page = page.of(rows()).map(|(session, row)| (Arc::clone(&session.token), self.full(row))).collect();
        (rows().count(), page)
    }

    /// Stores what is no duplicate; notes what a good client never does.
    pub(super) fn insert(
        &mut self,
        token: &str,
        passings: &[Arriving<'_>],
        dedup: Dedup,
        mut violation: impl FnMut(String),
    ) -> Result<Counts, Refused> {
        let Some(session) = self.sessions.iter_mut().rev().find(|session| session.active && &*session.token == token)
        else {
            return Err(Refused::Closed);
        };
        if self.stored + passings.len() > MAX_PASSINGS {
            return Err(Refused::Full);
        }
        let mut counts = Counts::default();
        for passing in passings {
            let chip = passing.chip.map_or(NO_TEXT, |chip| self.texts.id(chip));
            let bib = self.texts.id(passing.bib);
            let row = Row { num: passing.num, time_ms: passing.time_ms, chip, bib };
            let gone = row.num <= session.taken;
            let (mut known, mut same_time, mut same) = (gone, gone, gone);
            for held in session.with_number(row.num) {
                known = true;
                same_time |= held.time_ms == row.time_ms;
                same |= *held == row;
            }
            if known && !same {
                violation(format!("number {} was sent with two contents", row.num));
            }
            let highest = session.rows.last().map_or(session.taken, |row| row.num);
            if !known && row.num < highest && !session.lost.contains(&row.num) {
                violation(format!("number {} arrived after {highest}", row.num));
            }
            let key = (if chip == NO_TEXT { bib } else { chip }, row.time_ms);
            let duplicate = match dedup {
                Dedup::None => false,
                Dedup::Number => known,
                Dedup::NumberTime => known && same_time,
                Dedup::ChipTime => !session.seen.insert(key),
            };
            if duplicate {
                counts.duplicates += 1;
                continue;
            }
            if same {
                violation(format!("number {} is stored twice", row.num));
            }
            session.add(row);
            self.stored += 1;
            counts.inserted += 1;
        }
        Ok(counts)
    }

    /// Forgets the passings with these numbers, as a cloud that lost them.
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
        let kept = session.arrived().map(|row| (if row.chip == NO_TEXT { row.bib } else { row.chip }, row.time_ms));
        session.seen = kept.collect();
        self.stored -= before - self.find(token).map_or(0, Session::len);
    }

    /// Changes the passing with this number behind everybody's back.
    pub(super) fn alter(&mut self, token: &str, num: u64, change: impl FnOnce(&mut Stored)) {
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

    pub(super) fn put_foreign(&mut self, token: &str, passings: &[Stored]) {
        for passing in passings {
            let chip = passing.chip.as_deref().map_or(NO_TEXT, |chip| self.texts.id(chip));
            let bib = self.texts.id(&passing.bib);
            if let Some(session) = self.find_mut(token) {
                session.add(Row { num: passing.num, time_ms: passing.time_ms, chip, bib });
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

    fn full(&self, row: &Row) -> Stored {
        Stored {
            num: row.num,
            time_ms: row.time_ms,
            chip: self.texts.get(row.chip).cloned(),
            bib: self.texts.get(row.bib).cloned().unwrap_or_default(),
        }
    }
}

/// A page of a list, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) number: usize,
    pub(super) size: usize,
}

impl Page {
    pub(super) fn of<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip((self.number - 1).saturating_mul(self.size)).take(self.size)
    }
}

fn view(session: &Session) -> SessionView {
    SessionView {
        token: Arc::clone(&session.token),
        device: Arc::clone(&session.device),
        alias: session.alias.clone(),
        active: session.active,
        created_ms: session.created_ms,
        passings: session.len(),
        span_ms: session.span_ms(),
    }
}

/// 64 upper-case hex digits, as the real tokens and device ids look. Random, so that a fake started anew never gives a
/// token that a journal knows.
fn token() -> Arc<str> {
    format!("{:032X}{:032X}", fastrand::u128(..), fastrand::u128(..)).into()
}
