//! What the connections of a simulated decoder share.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::DateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::heard::Heard;
use super::kind::Kind;
use super::wire::WireFault;
use crate::decoders::simulator::memory::Memory;
use crate::decoders::simulator::talk::Exporter;

/// Connections served at once; more are closed at once.
pub(super) const LINKS_MAX: usize = 16;

/// Forbidden commands that are remembered.
pub(super) const FORBIDDEN_MAX: usize = 100;

/// An exporter that could not connect, or lost its connection, tries again after this.
pub(super) const RECONNECT: Duration = Duration::from_millis(200);

pub(super) struct Shared {
    pub(super) kind: Kind,
    pub(super) state: Mutex<State>,
    pub(super) faults: Vec<WireFault>,
    pub(super) fault_frozen: AtomicBool,
    pub(super) started: Instant,
    /// Reads that happened.
    pub(super) emitted: watch::Sender<u64>,
    /// Reads acknowledged.
    pub(super) acked: watch::Sender<u64>,
    /// Counts the times that all links were cut.
    pub(super) cuts: watch::Sender<u64>,
    /// Links that are open.
    pub(super) links: watch::Sender<usize>,
    pub(super) online: watch::Sender<bool>,
    pub(super) frozen: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) memory: Memory,
    /// Of a decoder that repeats what is not acknowledged.
    pub(super) exporter: Option<Box<dyn Exporter>>,
    /// Counts the connections.
    pub(super) latest: u64,
    pub(super) forbidden: Vec<String>,
    pub(super) heard: Heard,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The decoder's clock.
    pub(super) fn now(&self, memory: &Memory) -> DateTime {
        let millis = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        memory.start.saturating_add(millis.saturating_add(memory.clock_off_ms()).milliseconds())
    }

    pub(super) fn happen(&self, what: impl FnOnce(&mut Memory)) {
        let reads = {
            let mut state = self.lock();
            what(&mut state.memory);
            state.memory.reads()
        };
        self.emitted.send_if_modified(|emitted| std::mem::replace(emitted, reads) != reads);
    }

    pub(super) fn forbid(&self, state: &mut State, command: String) {
        if state.forbidden.len() < FORBIDDEN_MAX {
            state.forbidden.push(command);
        }
    }
}
