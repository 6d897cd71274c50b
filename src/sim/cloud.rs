//! The simulated RUFUS Cloud: one fake for `demo`, `simulate cloud`, tests and benches.
//!
//! What must hold:
//! * It answers every call that passbridge makes, in both generations and in each spelling that the
//!   public documents leave open ([`SimCloudConfig`]), over real sockets on the loopback interface.
//! * It is stricter than the real cloud may be. An unknown field, an empty bib, a stamp in another
//!   form than `YYYY-MM-DDTHH:mm:ss.sssZ` and an unknown call are refused *and* recorded in
//!   [`SimCloud::violations`], which every test expects to be empty. It also records faults of the
//!   client that no answer could show: numbers that do not rise, a number with two contents, two
//!   inserts of a device in flight at once, a passing stored twice, an attempt to delete.
//! * It fails only as scripted ([`CloudFault`]) and by its habits ([`Habits`]). Both are the same
//!   for the same seed. Without them it is deterministic, except for the tokens.
//! * It is fast and bounded: 24 bytes for each passing beside the distinct chips and bibs, at most
//!   [`MAX_PASSINGS`].
//!
//! The module hides sockets (`wire`), storage and duplicate rules (`store`), faults (`faults`),
//! habits (`habits`, `words`, `pages`, `writer`), requests and answers (`requests`, `answers`) and
//! the routes between them (`http`).
//!
//! Rejected: a fake inside the HTTP client (timeouts, cuts and resets would be imitated and would
//! not really happen); a lenient mode (a test that passes with an unknown field proves less).

mod answers;
mod call;
mod config;
mod faults;
mod habits;
mod http;
mod pages;
mod requests;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod wire;
mod words;
mod writer;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use config::{Access, BindType, Closed, DEVICE, Generation, KEY, NoSession, OtherCompany, Rebind, SimCloudConfig};
pub use faults::{Answer, Apply, Chance, CloudFault, On};
pub use habits::{HABITS, Habits};
pub use state::Post;
use state::{Inner, State};
pub use store::{Dedup, SessionView, StoredPassing};
pub(crate) use store::{MAX_PASSINGS, MAX_SESSIONS};
pub use writer::OTHER_CHIP;

use faults::Script;
use habits::Chooser;
use store::Store;

/// A running fake. Clones share it, and it ends with the last clone.
#[derive(Clone)]
pub struct SimCloud {
    inner: Arc<Inner>,
    _stop: Arc<DropGuard>,
}

impl SimCloud {
    /// Starts a fake on a free port of 127.0.0.1, on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(config: SimCloudConfig) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), config).await
    }

    /// Like [`SimCloud::start`], at an address (port 0: any free port).
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start_at(address: SocketAddr, config: SimCloudConfig) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (entrance, door, address) = wire::open(address, stop.clone())?;
        let mut store = Store::default();
        config.companies().for_each(|(company, devices)| store.add_devices(company, devices));
        let state = State {
            store,
            config,
            script: Script::default(),
            chooser: Chooser::default(),
            others: 0,
            poison: HashMap::new(),
            trace: VecDeque::new(),
            since: Instant::now(),
            posts: VecDeque::new(),
            post_count: 0,
            flights: HashMap::new(),
            flight_count: 0,
            violations: Vec::new(),
            violation_count: 0,
        };
        let inner = Arc::new(Inner { state: Mutex::new(state), version: watch::Sender::new(0), door, address });
        tokio::spawn(http::serve(entrance, Arc::clone(&inner), stop.clone()));
        Ok(Self { inner, _stop: Arc::new(stop.drop_guard()) })
    }

    /// Base URL, with `/v0` and without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/v0", self.inner.address)
    }

    /// Address at which the fake listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Changes the behaviour from the next request on. New devices in the list are added. Devices
    /// are never removed.
    pub fn configure(&self, change: impl FnOnce(&mut SimCloudConfig)) {
        let mut state = self.inner.lock();
        change(&mut state.config);
        let State { config, store, .. } = &mut *state;
        config.companies().for_each(|(company, devices)| store.add_devices(company, devices));
    }

    /// Sets other habits from the next request on. The counters of the habits start again.
    pub fn habits(&self, habits: Habits) {
        let mut state = self.inner.lock();
        state.config.habits = habits;
        state.chooser = Chooser::default();
    }

    /// Opens a session, as if START was pressed elsewhere: the device's active session closes.
    /// Returns the token.
    pub fn open_session(&self, device: &str, alias: &str) -> String {
        let token = self.inner.lock().store.open(device, Some(alias));
        self.inner.changed();
        token.to_string()
    }

    /// Closes a session. An unknown token changes nothing.
    pub fn close_session(&self, token: &str) {
        self.inner.lock().store.close(token);
        self.inner.changed();
    }

    /// Devices of all companies, each with its alias, in the order in which they were bound.
    pub fn devices(&self) -> Vec<(String, String)> {
        let state = self.inner.lock();
        let all = state.store.all_devices().iter();
        all.map(|device| (device.id.to_string(), device.alias.clone())).collect()
    }

    /// Sessions of a device, oldest first.
    pub fn sessions(&self, device: &str) -> Vec<SessionView> {
        self.inner.lock().store.sessions(device, None)
    }

    /// The passings of a session, in the order in which they were stored.
    pub fn passings(&self, token: &str) -> Vec<StoredPassing> {
        self.inner.lock().store.passings(token)
    }

    /// Removes and returns the passings of a session, oldest first, except the newest `leave`
    /// (about which a client may ask). So a long run is checked piece by piece, and the fake does
    /// not grow. A removed number still counts as known.
    pub fn take_passings(&self, token: &str, leave: usize) -> Vec<StoredPassing> {
        self.inner.lock().store.take(token, leave)
    }

    /// Opens a session with this token, which holds these passings, as another cloud held it. The
    /// device's active session closes.
    pub fn put_session(&self, device: &str, alias: &str, token: &str, passings: &[StoredPassing]) {
        self.inner.lock().store.put_session(device, alias, token, passings);
        self.inner.changed();
    }

    /// Opens sessions that hold this many passings of a race together, in equal shares. The last
    /// passing was just now, and the last session is the active one. Returns the tokens, oldest
    /// first. The fake takes no more sessions and passings than it can hold.
    pub fn put_races(&self, device: &str, alias: &str, sessions: usize, passings: usize) -> Vec<String> {
        let mut state = self.inner.lock();
        let (sessions, passings) = state.store.room_for(sessions, passings);
        let step = i64::try_from(store::RACE_STEP_MS).unwrap_or(i64::MAX);
        let ago = |passings: usize| i64::try_from(passings).unwrap_or(i64::MAX).saturating_mul(step);
        let end_ms = Timestamp::now().as_millisecond();
        let mut left = passings;
        let open = |index: usize| {
            let share = passings / sessions + usize::from(index < passings % sessions);
            let token = state.store.put_race(device, alias, end_ms.saturating_sub(ago(left)), share);
            left -= share;
            token.to_string()
        };
        let tokens = (0..sessions).map(open).collect();
        drop(state);
        self.inner.changed();
        tokens
    }

    /// Puts another sender's passings into a session, without any rule or check.
    pub fn put_foreign(&self, token: &str, passings: &[StoredPassing]) {
        self.inner.lock().store.put_foreign(token, passings);
        self.inner.changed();
    }

    /// Forgets the passings of a session with these numbers, like a cloud that loses what it had
    /// accepted.
    pub fn lose(&self, token: &str, nums: &[u64]) {
        self.inner.lock().store.lose(token, nums);
        self.inner.changed();
    }

    /// Changes the passing of a session with this number (not the number itself), without any rule
    /// or check.
    pub fn alter(&self, token: &str, num: u64, change: impl FnOnce(&mut StoredPassing)) {
        self.inner.lock().store.alter(token, num, change);
        self.inner.changed();
    }

    /// Number of passings in all sessions.
    pub fn stored(&self) -> usize {
        self.inner.lock().store.stored()
    }

    /// Every `POST /passings` whose body could be read, oldest first (only the last
    /// [`MAX_POSTS`](state::MAX_POSTS)).
    pub fn posts(&self) -> Vec<Post> {
        self.inner.lock().posts.iter().cloned().collect()
    }

    /// The last requests and the beginnings of their answers, oldest first, each with its time
    /// since the start in seconds. The report of a failed test prints them.
    pub fn trace(&self) -> Vec<String> {
        self.inner.lock().trace.iter().cloned().collect()
    }

    /// Number of all `POST /passings`.
    pub fn post_count(&self) -> u64 {
        self.inner.lock().post_count
    }

    /// What the client did and must never do. Empty when all is well. At most
    /// [`MAX_VIOLATIONS`](state::MAX_VIOLATIONS), and then how many more there are.
    pub fn violations(&self) -> Vec<String> {
        let state = self.inner.lock();
        let mut list = state.violations.clone();
        if state.violation_count > list.len() {
            list.push(format!("and {} more", state.violation_count - list.len()));
        }
        list
    }

    /// The next request of this class gets the fault. Faults of one class are used in the order in
    /// which they were added.
    pub fn fault(&self, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, Some(1), fault);
    }

    /// The next `times` requests of this class get the fault.
    pub fn fault_times(&self, times: u32, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, Some(times), fault);
    }

    /// Every request of this class gets the fault until [`SimCloud::clear_faults`].
    pub fn fault_always(&self, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, None, fault);
    }

    /// Requests get faults by chance until [`SimCloud::clear_faults`]. Scripted faults are used
    /// first.
    pub fn fault_by_chance(&self, chance: Chance) {
        self.inner.lock().script.by_chance(chance);
    }

    /// Removes every unused fault, and the poison.
    pub fn clear_faults(&self) {
        let mut state = self.inner.lock();
        state.script = Script::default();
        state.poison.clear();
    }

    /// An insert that contains this chip (or bib) is refused as a whole with `status`, and none of
    /// its passings is stored.
    pub fn poison(&self, chip: &str, status: u16) {
        self.inner.lock().poison.insert(chip.to_owned(), status);
    }

    /// `false`: connections are reset and new ones refused, as when the cloud's host is down.
    /// `true`: the fake listens on the same port again. Returns when the change is made.
    pub async fn set_online(&self, online: bool) {
        self.inner.door.set(online).await;
    }

    /// Waits until all sessions together hold `n` passings. `false`: this did not happen within
    /// `limit`.
    pub async fn wait_for(&self, n: usize, limit: Duration) -> bool {
        self.wait_until(limit, |cloud| cloud.stored() >= n).await
    }

    /// Waits until the condition holds, and checks it after every change. `false`: this did not
    /// happen within `limit`.
    pub async fn wait_until(&self, limit: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let mut version = self.inner.version.subscribe();
        let watching = async {
            loop {
                version.borrow_and_update();
                if condition(self) {
                    return;
                }
                if version.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(limit, watching).await.is_ok()
    }
}

/// What the devices of a fake hold when it starts.
#[derive(Clone, Debug)]
pub(crate) struct StartWith {
    /// Name of the sessions.
    pub(crate) alias: String,
    /// Sessions of each device.
    pub(crate) sessions: usize,
    /// Passings in the sessions of each device, in equal shares.
    pub(crate) passings: usize,
    /// The last session of each device is active.
    pub(crate) active: bool,
}

/// Runs a fake for ever and reports what happens, one line at a time: its address, its devices,
/// sessions that open and close, and once a second the passings that arrived. For
/// `passbridge simulate cloud`.
///
/// # Errors
/// The address cannot be bound.
pub(crate) async fn serve_forever(
    address: SocketAddr,
    config: SimCloudConfig,
    start: &StartWith,
    chance: Option<Chance>,
    mut say: impl FnMut(String),
) -> io::Result<()> {
    let cloud = SimCloud::start_at(address, config).await?;
    if let Some(chance) = chance {
        cloud.fault_by_chance(chance);
    }
    say(format!("simulated cloud at {}", cloud.url()));
    let mut devices = cloud.devices();
    let mut known: HashMap<String, bool> = HashMap::new();
    for (device, alias) in &devices {
        say(format!("device {device} ({alias})"));
        let tokens = cloud.put_races(device, &start.alias, start.sessions, start.passings);
        if let Some(last) = tokens.last().filter(|_| !start.active) {
            cloud.close_session(last);
        }
        if tokens.len() > 1 || start.passings > 0 {
            say(format!("{} sessions, {} passings", tokens.len(), start.passings));
        }
        // Sessions that are closed already are no news.
        let closed = cloud.sessions(device).into_iter().filter(|view| !view.active);
        known.extend(closed.map(|view| (view.token.to_string(), false)));
    }
    let (mut posts, mut stored, mut violations) = (0, cloud.stored(), 0);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let before = std::mem::replace(&mut devices, cloud.devices());
        if before != devices {
            let (old, new): (HashSet<_>, HashSet<_>) = (before.iter().collect(), devices.iter().collect());
            for (device, alias) in devices.iter().filter(|device| !old.contains(device)) {
                say(format!("device {device} ({alias}) bound"));
            }
            for (device, alias) in before.iter().filter(|device| !new.contains(device)) {
                say(format!("device {device} ({alias}) unbound"));
            }
        }
        for view in devices.iter().flat_map(|(device, _)| cloud.sessions(device)) {
            let was = known.insert(view.token.to_string(), view.active);
            let alias = view.alias.as_deref().unwrap_or("without a name");
            match (was, view.active) {
                (None | Some(false), true) => say(format!("session {alias} opened: {}", view.token)),
                (None | Some(true), false) => say(format!("session {alias} closed: {} passings", view.passings)),
                _ => {}
            }
        }
        let (posts_now, stored_now) = (cloud.post_count(), cloud.stored());
        if posts_now != posts {
            // An unbind may have deleted more than arrived.
            let arrived = stored_now.saturating_sub(stored);
            say(format!("{} posts, {arrived} passings, {stored_now} in all", posts_now - posts));
        }
        (posts, stored) = (posts_now, stored_now);
        let list = cloud.violations();
        for text in list.iter().skip(violations) {
            say(format!("violation: {text}"));
        }
        violations = list.len();
    }
}
