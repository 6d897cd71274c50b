//! The state of a simulated cloud.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;

use super::config::SimCloudConfig;
use super::faults::Script;
use super::habits::Chooser;
use super::store::Store;
use super::wire;

/// Most POSTs that [`SimCloud::posts`](super::SimCloud::posts) remembers. The oldest are dropped
/// first.
pub(super) const MAX_POSTS: usize = 100_000;

/// Most violations that are remembered. Later ones are only counted.
pub(super) const MAX_VIOLATIONS: usize = 100;

/// Most requests that [`SimCloud::trace`](super::SimCloud::trace) remembers. The oldest are dropped
/// first.
pub(super) const MAX_TRACE: usize = 200;

/// The result of one `POST /passings` whose body could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// When the body had arrived.
    pub at: Instant,
    /// `token_session` of the POST.
    pub token: Arc<str>,
    /// First number in the POST.
    pub first: u64,
    /// Last number in the POST.
    pub last: u64,
    /// Number of passings in the POST.
    pub count: usize,
    /// Number of passings that the POST stored.
    pub inserted: usize,
    /// Number of passings that the cloud held before.
    pub duplicates: usize,
    /// Status of the answer. `None`: never answered, or cut.
    pub status: Option<u16>,
}

pub(super) struct State {
    pub(super) config: SimCloudConfig,
    pub(super) store: Store,
    pub(super) script: Script,
    pub(super) chooser: Chooser,
    /// Number of passings that another sender stored by habit.
    pub(super) others: u64,
    pub(super) poison: HashMap<String, u16>,
    pub(super) trace: VecDeque<String>,
    pub(super) since: Instant,
    pub(super) posts: VecDeque<Post>,
    pub(super) post_count: u64,
    pub(super) flights: HashMap<Arc<str>, Flight>,
    pub(super) flight_count: u64,
    pub(super) violations: Vec<String>,
    pub(super) violation_count: usize,
}

impl State {
    pub(super) fn trace(&mut self, what: &str, said: &str) {
        if self.trace.len() == MAX_TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:.3} {what}: {said}", self.since.elapsed().as_secs_f64()));
    }

    pub(super) fn violation(&mut self, text: String) {
        self.violation_count += 1;
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(text);
        }
    }
}

pub(super) struct Inner {
    pub(super) state: Mutex<State>,
    /// Increases with every change that a test may wait for.
    pub(super) version: watch::Sender<u64>,
    pub(super) door: wire::CloudDoor,
    pub(super) address: SocketAddr,
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain data, so it is still valid after a test thread panicked.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

/// An insert in flight.
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) end: watch::Receiver<End>,
}

/// How the insert in flight of a device ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Flying,
    /// The insert was answered.
    Landed,
    /// The client gave up.
    Dropped,
}
