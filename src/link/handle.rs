//! Lets other parts of the program ask a decoder for stored reads by hand, or connect to it anew.
//!
//! Whoever asks does not wait for the reads. They arrive like any others, the box keeps them, and
//! the journal recognises the repeats. Bounded: [`Range::check`] limits the range, each connection
//! takes one question at a time, and all answers together take at most [`PATIENCE`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::decoders::Range;
use crate::link::capture::tap::Tap;

/// How long the connections may take to pass a question on. They do so between two reads of their
/// port.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "the word of the answer on the socket")]
pub(crate) enum CommandResult {
    /// The decoder is being asked.
    Accepted,
    /// No connection to the decoder is up now.
    NotConnected,
    /// The decoder cannot be asked for that, with the reason.
    Refused(&'static str),
}

pub(super) struct Command {
    pub(super) range: Range,
    pub(super) answer: oneshot::Sender<Result<(), &'static str>>,
}

/// How often somebody asked that the link reconnects.
type Restarts = watch::Sender<u64>;

/// The way to the live connections of one decoder. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct DecoderHandle {
    connections: Arc<Mutex<Connections>>,
    restarts: Restarts,
    tap: Tap,
}

/// Each connection has a number of its own. There are at most as many as the link has.
type Connections = Vec<(u64, mpsc::Sender<Command>)>;

impl DecoderHandle {
    /// Asks for a range on the first connection that can do it (a listening port may have several).
    pub(crate) async fn ask(&self, range: &Range) -> CommandResult {
        if let Err(why) = range.check() {
            return CommandResult::Refused(why);
        }
        let connections: Vec<mpsc::Sender<Command>> = self.lock().iter().map(|(_, sender)| sender.clone()).collect();
        let mut last = CommandResult::NotConnected;
        let end = Instant::now() + PATIENCE;
        for connection in connections {
            let (answer, answered) = oneshot::channel();
            let asking = async {
                connection.send(Command { range: range.clone(), answer }).await.ok()?;
                answered.await.ok()
            };
            match timeout_at(end, asking).await {
                Ok(Some(Ok(()))) => return CommandResult::Accepted,
                Ok(Some(Err(why))) => last = CommandResult::Refused(why),
                Ok(None) => {} // the connection ended meanwhile
                Err(_) => last = CommandResult::Refused("its link is busy: try again in a moment"),
            }
        }
        last
    }

    /// Ends every connection of the decoder, so that the link reconnects, as after any other end. A
    /// link that waits before it tries again tries at once. Reads that are received and not yet
    /// durable are kept as after any other end of a connection.
    pub(crate) fn restart(&self) {
        self.restarts.send_modify(|times| *times += 1);
    }

    /// Resolves when somebody asks for that, from now on. The future may be dropped.
    pub(super) fn restarts(&self) -> impl Future<Output = ()> + use<> {
        let mut restarts = self.restarts.subscribe();
        async move {
            if restarts.changed().await.is_err() {
                std::future::pending().await // the box is stopping
            }
        }
    }

    /// Where other parts of the program can listen to the decoder's bytes.
    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection that can be asked until the returned value is dropped.
    pub(super) fn connected(&self) -> Commands {
        let (sender, orders) = mpsc::channel(1);
        let mut connections = self.lock();
        let id = connections.last().map_or(0, |(id, _)| id + 1);
        connections.push((id, sender));
        Commands { asks: self.clone(), id, orders }
    }
}

/// The commands for one connection.
pub(super) struct Commands {
    asks: DecoderHandle,
    id: u64,
    pub(super) orders: mpsc::Receiver<Command>,
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.asks.lock().retain(|(id, _)| *id != self.id);
    }
}
