//! The simulated RUFUS cloud: one fake shared by `demo`, `simulate cloud`, tests and benches.
//!
//! What must hold:
//! * It answers every call passbridge makes, in both generations and in each spelling that the public documents leave
//!   open ([`SimCloudConfig`]), over real sockets on the loopback interface.
//! * It is stricter than the real cloud may be: an unknown field, an empty bib, a stamp in another form than
//!   `YYYY-MM-DDTHH:mm:ss.sssZ`, an unknown call is refused *and* noted in [`SimCloud::violations`], which every test
//!   expects to be empty. It also watches what no answer could tell: numbers that do not rise, a number with two
//!   contents, two inserts of a device in flight at once, a passing stored twice, an attempt to delete.
//! * It fails only as scripted ([`Fault`]) and by its habits ([`Habits`]); both are the same for the same seed. Without them it
//!   is deterministic but for the tokens.
//! * It is fast and bounded: 24 bytes a passing beside the distinct chips and bibs, at most [`MAX_PASSINGS`].
//!
//! It hides sockets (`wire`), storage and duplicate rules (`store`), faults (`faults`), habits (`habits`, `words`, `pages`,
//! `writer`), what is read and written (`requests`, `answers`) and the routes between (`http`).
//!
//! Rejected: a fake inside the HTTP client (timeouts, cuts and resets would be imitated instead of happening);
//! a lenient mode (a test that passes with a stray field proves less).

mod answers;
mod faults;
mod habits;
mod http;
mod pages;
mod requests;
mod store;
#[cfg(test)]
mod tests;
mod wire;
mod words;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use faults::{Answer, Apply, Chance, Fault, On};
pub use habits::{HABITS, Habit, Habits, MAX_LAG, When};
pub use store::{Dedup, SessionView, Stored};
pub use words::Words;
pub use writer::OTHER_CHIP;

use faults::Script;
use habits::Chooser;
use store::Store;

/// Key that [`SimCloudConfig::default`] accepts, READ_WRITE. Not a secret: it opens nothing but this fake.
pub const KEY: &str = "ror-0123456789abcdef0123";
/// Device that [`SimCloudConfig::default`] knows.
pub const DEVICE: &str = "65A10000000000000000000000000000000000000000000000000000000A115B";
/// Most passings held, over all sessions; an insert beyond is answered 507.
pub const MAX_PASSINGS: usize = 8_000_000;
/// Most sessions held; one more is answered 507.
pub const MAX_SESSIONS: usize = 1_000;
/// Most POSTs remembered by [`SimCloud::posts`]; the oldest go first.
pub const MAX_POSTS: usize = 100_000;
/// Most violations remembered; later ones are only counted.
pub const MAX_VIOLATIONS: usize = 100;
/// Most requests remembered by [`SimCloud::trace`]; the oldest go first.
pub const MAX_TRACE: usize = 200;
/// Most passings a well-behaved client puts into one POST (the fact sheet's cap); more is a violation.
pub const CLIENT_BATCH_MAX: usize = 500;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// 2023: bare objects.
    #[default]
    Legacy,
    /// 2026: `{"body": …}`, with `duplicate_count` and `pagination`.
    OpenApi,
    /// As [`Generation::OpenApi`], with the body as JSON *text* beside a `statusCode`, as a function behind a gateway
    /// answers when its integration is set up wrongly.
    Gateway,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every GET.
    Read,
    /// Every POST and PATCH.
    Write,
    /// Both.
    ReadWrite,
}

/// How a key that may not is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forbidden {
    /// 403 with `{"message":"Forbidden"}`, the gateway's form.
    #[default]
    Message,
    /// 403 with a `description` in the generation's form.
    Description,
    /// 401 with `{"message":"Unauthorized"}`.
    Unauthorized,
}

/// How "no active session" is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoSession {
    /// 404 "Session not found".
    #[default]
    NotFound,
    /// 200 with an empty `result`.
    Empty,
    /// 200 with `"result": null`.
    Null,
    /// 200 without `result`.
    Absent,
    /// 200 with "Sessions not found" and no `result`.
    Text,
    /// 200 with the last closed session, marked `"active": false`; an empty `result` where there is none.
    Inactive,
}

/// How an insert into a closed or unknown session is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closed {
    /// 404 "Session not found or closed".
    #[default]
    NotFound,
    /// 400 with the same text.
    BadRequest,
    /// 200 with the same text and no counts.
    OkText,
}

/// Shape of `result` where one session is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneForm {
    /// An array of one, as documented in 2023.
    #[default]
    Array,
    /// The object itself.
    Object,
}

/// How the fake behaves. Every field can be changed while it runs ([`SimCloud::configure`]).
#[derive(Clone, Debug)]
pub struct SimCloudConfig {
    /// Form of the answers.
    pub generation: Generation,
    /// What counts as a duplicate, which is then not stored.
    pub dedup: Dedup,
    /// Keys and what they may do; any other key is refused.
    pub keys: Vec<(String, Access)>,
    /// Devices: id and alias.
    pub devices: Vec<(String, String)>,
    /// How a key that may not is told.
    pub forbidden: Forbidden,
    /// How "no active session" is told.
    pub no_session: NoSession,
    /// How an insert into a closed session is told.
    pub closed: Closed,
    /// Shape of one session.
    pub one: OneForm,
    /// Most passings in one insert; more is answered 413.
    pub max_items: usize,
    /// Passings on a page of a reading call.
    pub page_size: usize,
    /// Time before every answer.
    pub latency: Duration,
    /// What it does beside; none.
    pub habits: Habits,
}

impl SimCloudConfig {
    /// What counts as a duplicate; a habit may have another rule.
    fn dedup(&self) -> Dedup {
        self.habits.dedup.unwrap_or(self.dedup)
    }
}

impl Default for SimCloudConfig {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            dedup: Dedup::Number,
            keys: vec![(KEY.to_owned(), Access::ReadWrite)],
            devices: vec![(DEVICE.to_owned(), "finish".to_owned())],
            forbidden: Forbidden::default(),
            no_session: NoSession::default(),
            closed: Closed::default(),
            one: OneForm::default(),
            max_items: 5000,
            page_size: 5000,
            latency: Duration::ZERO,
            habits: Habits::default(),
        }
    }
}

/// What became of one `POST /passings` whose body could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// When its body had arrived.
    pub at: Instant,
    /// `token_session` in it.
    pub token: Arc<str>,
    /// First number in it.
    pub first: u64,
    /// Last number in it.
    pub last: u64,
    /// Passings in it.
    pub count: usize,
    /// Passings that it stored.
    pub inserted: usize,
    /// Passings that were there already.
    pub duplicates: usize,
    /// Status of the answer; `None`: never answered, or cut.
    pub status: Option<u16>,
}

struct State {
    config: SimCloudConfig,
    store: Store,
    script: Script,
    chooser: Chooser,
    /// Passings that another sender has put in by habit.
    others: u64,
    poison: HashMap<String, u16>,
    trace: VecDeque<String>,
    since: Instant,
    posts: VecDeque<Post>,
    post_count: u64,
    flights: HashMap<Arc<str>, http::Flight>,
    flight_count: u64,
    violations: Vec<String>,
    violation_count: usize,
}

impl State {
    fn trace(&mut self, what: &str, said: &str) {
        if self.trace.len() == MAX_TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:.3} {what}: {said}", self.since.elapsed().as_secs_f64()));
    }

    fn violation(&mut self, text: String) {
        self.violation_count += 1;
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(text);
        }
    }
}

struct Inner {
    state: Mutex<State>,
    /// Rises with every change that a test may wait for.
    version: watch::Sender<u64>,
    door: wire::Door,
    address: SocketAddr,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data: what a panicking test thread left behind is still what happened.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

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
    pub fn passings(&self, token: &str) -> Vec<Stored> {
        self.inner.lock().store.passings(token)
    }

    /// Takes out what a session holds, oldest first, but for the newest `leave` (about which a client may ask): a long run
    /// is looked at piece by piece, and the fake does not grow. A number taken out still counts as known.
    pub fn take_passings(&self, token: &str, leave: usize) -> Vec<Stored> {
        self.inner.lock().store.take(token, leave)
    }

    /// Puts passings of somebody else into a session, past every rule and check.
    pub fn put_foreign(&self, token: &str, passings: &[Stored]) {
        self.inner.lock().store.put_foreign(token, passings);
        self.inner.changed();
    }

    /// Forgets the passings of a session with these numbers, as a cloud that loses what it had taken.
    pub fn lose(&self, token: &str, nums: &[u64]) {
        self.inner.lock().store.lose(token, nums);
        self.inner.changed();
    }

    /// Changes the passing of a session with this number (not the number itself), past every rule and check.
    pub fn alter(&self, token: &str, num: u64, change: impl FnOnce(&mut Stored)) {
        self.inner.lock().store.alter(token, num, change);
        self.inner.changed();
    }

    /// Passings stored over all sessions.
    pub fn stored(&self) -> usize {
        self.inner.lock().store.stored()
    }

    /// Every `POST /passings` whose body could be read, oldest first (the last [`MAX_POSTS`]).
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

    /// What the client did that it must never do; empty when all is well. At most [`MAX_VIOLATIONS`] and a count.
    pub fn violations(&self) -> Vec<String> {
        let state = self.inner.lock();
        let mut list = state.violations.clone();
        if state.violation_count > list.len() {
            list.push(format!("and {} more", state.violation_count - list.len()));
        }
        list
    }

    /// The next request of this class meets the fault. Faults of one class are met in the order they were given.
    pub fn fault(&self, on: On, fault: Fault) {
        self.inner.lock().script.push(on, Some(1), fault);
    }

    /// The next `times` requests of this class meet the fault.
    pub fn fault_times(&self, times: u32, on: On, fault: Fault) {
        self.inner.lock().script.push(on, Some(times), fault);
    }

    /// Every request of this class meets the fault until [`SimCloud::clear_faults`].
    pub fn fault_always(&self, on: On, fault: Fault) {
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
