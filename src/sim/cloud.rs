//! The simulated RUFUS cloud: one fake shared by `demo`, `simulate cloud`, tests and benches.
//!
//! What must hold:
//! * It answers every call passbridge makes, in both generations and in each spelling that the public documents leave
//!   open ([`SimCloudConfig`]), over real sockets on the loopback interface.
//! * It is stricter than the real cloud may be: an unknown field, an empty bib, a stamp in another form than
//!   `YYYY-MM-DDTHH:mm:ss.sssZ`, an unknown call is refused *and* noted in [`SimCloud::violations`], which every test
//!   expects to be empty. It also watches what no answer could tell: numbers that do not rise, a number with two
//!   contents, two inserts of a device in flight at once, a passing stored twice, an attempt to delete.
//! * It fails only as scripted ([`CloudFault`]) and by its habits ([`Habits`]); both are the same for the same seed. Without them it
//!   is deterministic but for the tokens.
//! * It is fast and bounded: 24 bytes a passing beside the distinct chips and bibs, at most [`MAX_PASSINGS`](store::MAX_PASSINGS).
//!
//! It hides sockets (`wire`), storage and duplicate rules (`store`), faults (`faults`), habits (`habits`, `words`, `pages`,
//! `writer`), what is read and written (`requests`, `answers`) and the routes between (`http`).
//!
//! Rejected: a fake inside the HTTP client (timeouts, cuts and resets would be imitated instead of happening);
//! a lenient mode (a test that passes with a stray field proves less).

mod answers;
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

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use config::{Access, Closed, DEVICE, Generation, KEY, NoSession, SimCloudConfig};
pub use faults::{Answer, Apply, Chance, CloudFault, On};
pub use habits::{HABITS, Habits};
pub use state::Post;
use state::{Inner, State};
pub use store::{Dedup, SessionView, StoredPassing};
pub use writer::OTHER_CHIP;

use faults::Script;
use habits::Chooser;
use store::Store;

/// A running fake; clones share it, and it ends with the last of them.
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

    /// As [`SimCloud::start`], at an address (port 0: any free one).
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start_at(address: SocketAddr, config: SimCloudConfig) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (entrance, door, address) = wire::open(address, stop.clone())?;
        let state = State {
            store: Store::new(&config.devices),
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Changes the behaviour from the next request on. Devices that are new in the list are added; none is removed.
    pub fn configure(&self, change: impl FnOnce(&mut SimCloudConfig)) {
        let mut state = self.inner.lock();
        change(&mut state.config);
        let devices = state.config.devices.clone();
        state.store.add_devices(&devices);
    }

    /// Other habits from the next request on; what a habit counts begins anew.
    pub fn habits(&self, habits: Habits) {
        let mut state = self.inner.lock();
        state.config.habits = habits;
        state.chooser = Chooser::default();
    }

    /// Opens a session, as START pressed elsewhere would: the device's active one closes. Gives the token.
    pub fn open_session(&self, device: &str, alias: &str) -> String {
        let token = self.inner.lock().store.open(device, Some(alias));
        self.inner.changed();
        token.to_string()
    }

    /// Closes a session; an unknown token changes nothing.
    pub fn close_session(&self, token: &str) {
        self.inner.lock().store.close(token);
        self.inner.changed();
    }

    /// Sessions of a device, oldest first.
    pub fn sessions(&self, device: &str) -> Vec<SessionView> {
        self.inner.lock().store.sessions(device, None)
    }

    /// What a session holds, in the order it was stored.
    pub fn passings(&self, token: &str) -> Vec<StoredPassing> {
        self.inner.lock().store.passings(token)
    }

    /// Takes out what a session holds, oldest first, but for the newest `leave` (about which a client may ask): a long run
    /// is looked at piece by piece, and the fake does not grow. A number taken out still counts as known.
    pub fn take_passings(&self, token: &str, leave: usize) -> Vec<StoredPassing> {
        self.inner.lock().store.take(token, leave)
    }

    /// Puts passings of somebody else into a session, past every rule and check.
    pub fn put_foreign(&self, token: &str, passings: &[StoredPassing]) {
        self.inner.lock().store.put_foreign(token, passings);
        self.inner.changed();
    }

    /// Forgets the passings of a session with these numbers, as a cloud that loses what it had taken.
    pub fn lose(&self, token: &str, nums: &[u64]) {
        self.inner.lock().store.lose(token, nums);
        self.inner.changed();
    }

    /// Changes the passing of a session with this number (not the number itself), past every rule and check.
    pub fn alter(&self, token: &str, num: u64, change: impl FnOnce(&mut StoredPassing)) {
        self.inner.lock().store.alter(token, num, change);
        self.inner.changed();
    }

    /// Passings stored over all sessions.
    pub fn stored(&self) -> usize {
        self.inner.lock().store.stored()
    }

    /// Every `POST /passings` whose body could be read, oldest first (the last [`MAX_POSTS`](state::MAX_POSTS)).
    pub fn posts(&self) -> Vec<Post> {
        self.inner.lock().posts.iter().cloned().collect()
    }

    /// The last requests and the beginnings of their answers, oldest first, each with its time since the start in seconds: for
    /// the report of a test that failed.
    pub fn trace(&self) -> Vec<String> {
        self.inner.lock().trace.iter().cloned().collect()
    }

    /// How many `POST /passings` there were.
    pub fn post_count(&self) -> u64 {
        self.inner.lock().post_count
    }

    /// What the client did that it must never do; empty when all is well. At most [`MAX_VIOLATIONS`](state::MAX_VIOLATIONS) and a count.
    pub fn violations(&self) -> Vec<String> {
        let state = self.inner.lock();
        let mut list = state.violations.clone();
        if state.violation_count > list.len() {
            list.push(format!("and {} more", state.violation_count - list.len()));
        }
        list
    }

    /// The next request of this class meets the fault. Faults of one class are met in the order they were given.
    pub fn fault(&self, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, Some(1), fault);
    }

    /// The next `times` requests of this class meet the fault.
    pub fn fault_times(&self, times: u32, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, Some(times), fault);
    }

    /// Every request of this class meets the fault until [`SimCloud::clear_faults`].
    pub fn fault_always(&self, on: On, fault: CloudFault) {
        self.inner.lock().script.push(on, None, fault);
    }

    /// Requests meet faults by chance until [`SimCloud::clear_faults`]; scripted ones go first.
    pub fn fault_by_chance(&self, chance: Chance) {
        self.inner.lock().script.by_chance(chance);
    }

    /// Forgets every fault not yet met, and the poison.
    pub fn clear_faults(&self) {
        let mut state = self.inner.lock();
        state.script = Script::default();
        state.poison.clear();
    }

    /// An insert that contains this chip (or bib) is refused as a whole with `status`, and nothing of it is stored.
    pub fn poison(&self, chip: &str, status: u16) {
        self.inner.lock().poison.insert(chip.to_owned(), status);
    }

    /// Off: connections are reset and new ones refused, as when the cloud's host is down. On: the same port again.
    /// Returns when it is so.
    pub async fn set_online(&self, online: bool) {
        self.inner.door.set(online).await;
    }

    /// Waits until `n` passings are stored over all sessions. `false`: not within `limit`.
    pub async fn wait_for(&self, n: usize, limit: Duration) -> bool {
        self.wait_until(limit, |cloud| cloud.stored() >= n).await
    }

    /// Waits until the condition holds, looking again whenever something changed. `false`: not within `limit`.
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

/// Runs a fake for ever and says what happens, a line at a time: its address, sessions that open and close, and once a
/// second what arrived. For `passbridge simulate cloud`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve_forever(
    address: SocketAddr,
    config: SimCloudConfig,
    session: Option<&str>,
    chance: Option<Chance>,
    mut say: impl FnMut(String),
) -> io::Result<()> {
    let devices = config.devices.clone();
    let cloud = SimCloud::start_at(address, config).await?;
    if let Some(chance) = chance {
        cloud.fault_by_chance(chance);
    }
    say(format!("simulated cloud at {}", cloud.url()));
    for (device, alias) in &devices {
        say(format!("device {device} ({alias})"));
        if let Some(name) = session {
            cloud.open_session(device, name);
        }
    }
    let mut known: HashMap<String, bool> = HashMap::new();
    let (mut posts, mut stored, mut violations) = (0, 0, 0);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
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
            say(format!("{} posts, {} passings, {stored_now} in all", posts_now - posts, stored_now - stored));
        }
        (posts, stored) = (posts_now, stored_now);
        let list = cloud.violations();
        for text in list.iter().skip(violations) {
            say(format!("violation: {text}"));
        }
        violations = list.len();
    }
}
