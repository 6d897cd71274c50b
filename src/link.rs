//! The link: a decoder's port, its reconnects, its receive buffer and one protocol value per connection.
//!
//! What must hold:
//! * **Kept before acknowledged.** A reply of the protocol reaches the wire only when every frame before it is durable.
//! * **For ever.** Whatever the port does (host off, cable out, adapter pulled, decoder frozen), it is opened again,
//!   with a jittered backoff. Only a configuration fault or the loss of the journal ends [`run`].
//! * **Seen.** A decoder that does not answer, or answers with silence, is never called connected.
//! * **Alone.** Decoders share nothing but the journal and the board.
//! * **Bounded.** Bytes in the receive buffer, connections, replies and rejected frames have limits; they stand in
//!   `Limits`, [`CONNECTIONS`] and the files below.
//!
//! # Memory
//!
//! Whatever a decoder sends, a link holds no more than the sum of these, each with its limit beside it:
//!
//! | what | bytes | how often |
//! |---|---|---|
//! | receive buffer (`Limits::buffer`: raw bytes and 512 a frame; fields are parts of the raw bytes, so at worst twice that) | 8 MB | once |
//! | what the read that fills it, or is being taken, puts out ([`protocol::OUTPUT_MAX`](crate::decoders::OUTPUT_MAX)) | 16 MB | a connection that is being read from |
//! | the protocol ([`protocol::MEMORY_MAX`](crate::decoders::MEMORY_MAX)) | 1 MB | a connection |
//! | what it was told is held ([`Held`]) | 2 MB | a connection, where the decoder stores |
//! | replies that wait for their frames (4,096, of up to 300 bytes) and for the wire (64 KB) | 1.3 MB | a connection |
//! | bytes read at a time ([`protocol::READ_MAX`](crate::decoders::READ_MAX)) | 16 KB | a connection |
//!
//! A decoder that we dial has one connection, so 28 MB, at the very worst 36; one that connects to us has up to
//! [`CONNECTIONS`]. A race takes a hundredth of it. tests/memory.rs measures the protocols' part on hostile streams.
//!
//! What it hides: `port` opens wires, `connection` carries one, `intake` is the receive buffer between all connections
//! of a decoder and the journal, `memories` judges what a cleared decoder gives again, `places` says who may connect, `flood`
//! when it is too much.
//!
//! Not chosen: a life sign made by TCP alone (keepalive says that the decoder's network stack lives, and a frozen
//! decoder's does); giving up after some number of tries; one receive buffer per connection (see `intake`).

mod asks;
pub mod capture;
mod connection;
mod doubts;
mod flood;
mod intake;
mod memories;
mod places;
pub(crate) mod port;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::asks::{Asked, Asks};
pub use self::port::{Port, bind};
pub(crate) use self::port::{Wire, dial, tune};

use self::connection::{End, Ended, Life};
use self::doubts::Doubts;
use self::intake::Intake;
use self::memories::Memories;
use self::places::Places;
use self::port::Kind;
use crate::config::{Address, DecoderConfig};
use crate::decoders::{Cleared, Condition, Framed, Info, Missed, Protocol, SettingError, Settings, Spec};
use crate::journal::{Durable, Journal, JournalError, Kept};
use crate::link::capture::Header;
use crate::model::chip::{ChipRead, Held};
use crate::model::clock::offset_ms;
use crate::model::retry::Retry;
use crate::status::{Board, LinkState};

/// Connections that the software of one decoder may hold at once. For one more, the one that was silent the longest gives
/// way: one that never spoke (a port scan, a client that leaks them) before one that did.
pub const CONNECTIONS: usize = 16;

/// A decoder clock further off than this is a problem.
const CLOCK_OFF_MS: i64 = 60_000;

/// Conditions that a decoder told and that do not end with the connection: what is lost stays lost, and an older file is
/// not asked for again by itself.
const STAYING: [Condition; 3] = [Condition::LlrpReadsLost, Condition::OldFileNotFetched, Condition::FilesInBetween];

/// How long the notice is shown that a decoder counts from the start again.
const RESTART_SHOWN: Duration = Duration::from_secs(600);

/// What the link needs of the journal.
pub trait Keeper: Clone + Send + Sync + 'static {
    /// Keeps frames of one decoder or location ([`crate::model::lane`]), none of them [`crate::decoders::Frame::Info`], and resolves when they would
    /// survive a power cut, never before. While the disk is full it waits. Calls are kept in the order in which
    /// they are first polled.
    ///
    /// # Errors
    /// The journal is gone and nothing can be kept any more.
    fn keep(
        &self,
        lane: &str,
        received: Timestamp,
        frames: Vec<Framed>,
    ) -> impl Future<Output = Result<Kept, JournalError>> + Send;

    /// Which places of a decoder's memory are held, in whatever lane. May take as long as the journal's queue needs to open.
    fn held(&self, decoder: &str) -> impl Future<Output = Held> + Send;

    /// Lets go those reads of a decoder that were held back and turn out to be of this race, in whatever lane.
    fn let_go(
        &self,
        decoder: &str,
        which: impl Fn(&ChipRead) -> bool + Send + 'static,
    ) -> impl Future<Output = ()> + Send;
}

impl Keeper for Journal {
    async fn keep(&self, lane: &str, received: Timestamp, frames: Vec<Framed>) -> Result<Kept, JournalError> {
        Journal::keep(self, lane, received, frames).await.map(Durable::get)
    }

    async fn held(&self, decoder: &str) -> Held {
        Journal::held(self, decoder).await
    }

    async fn let_go(&self, decoder: &str, which: impl Fn(&ChipRead) -> bool + Send + 'static) {
        match Journal::let_go(self, Some(decoder), which).await {
            Ok(0) => {}
            Ok(reads) => tracing::info!(decoder, reads, "let go what was held back: the decoder's clock is known now"),
            Err(error) => tracing::warn!(decoder, %error, "what is held back could not be judged again"),
        }
    }
}

/// Why a link cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The listening port cannot be had.
    #[error(
        "decoder `{decoder}`: cannot listen on {address}: {source}; choose a free port (1024 or above), or stop what uses it"
    )]
    Bind {
        /// Decoder name.
        decoder: String,
        /// The address from the configuration.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An option does not fit the protocol.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The journal is gone: the process must end.
    #[error("decoder `{decoder}`: {frames} received frames cannot be kept: {source}")]
    Journal {
        /// Decoder name.
        decoder: String,
        /// Frames that were received and are not known to be durable.
        frames: u64,
        /// What the journal said.
        source: JournalError,
    },
}

impl LinkError {
    /// The configuration is at fault: no restart will help (exit code 78).
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Bind { .. } | Self::Setting(_))
    }
}

/// Times and sizes of a link. Fixed; only tests run with others.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// First wait before a port is opened again.
    retry: Duration,
    /// Longest wait of a network port.
    retry_max: Duration,
    /// Longest wait of a serial port: opening one costs nothing, and a pulled adapter comes back soon.
    retry_max_serial: Duration,
    /// A connection that delivered something and lasted this long starts the backoff anew.
    proven: Duration,
    /// How long a new connection waits for the journal to say what is held.
    held: Duration,
    /// How long a peer may take none of our replies.
    write: Duration,
    /// How long an ended connection waits for its last replies to become due; then, at a stop, how long again the
    /// receive buffer is kept. Both together stay well within systemd's and the daemon's 10 s.
    settle: Duration,
    /// Bytes in the receive buffer, frame overhead included.
    buffer: usize,
    /// A condition that was told on an earlier connection is over when a connection has been up for so long and did not
    /// tell it again: longer than any protocol waits before it asks anew.
    renewed: Duration,
    /// How long the journal may be at one group before a decoder that only streams is read on and counted instead of
    /// made to wait: far longer than a slow card takes, shorter than its port's buffers last.
    stall: Duration,
    /// A decoder that was just connected is asked for what it had stored, and begins to answer within so long.
    stored_first: Duration,
    /// Longest gap in what it gives then.
    stored_gap: Duration,
    /// Live reads are judged behind stored ones up to so long after the connection: a memory that takes longer is not
    /// waited for.
    stored_max: Duration,
}

const LIMITS: Limits = Limits {
    retry: Duration::from_secs(1),
    retry_max: Duration::from_secs(30),
    retry_max_serial: Duration::from_secs(2),
    proven: Duration::from_secs(10),
    held: Duration::from_secs(3),
    write: Duration::from_secs(10),
    settle: Duration::from_millis(2500),
    buffer: 8 * 1024 * 1024,
    renewed: Duration::from_secs(90),
    stall: Duration::from_secs(3),
    stored_first: Duration::from_secs(3),
    stored_gap: Duration::from_secs(1),
    stored_max: Duration::from_secs(8),
};

/// Opens the wire to a decoder that waits for us, and closes it again: for `check`, while no daemon runs.
///
/// # Errors
/// What the system said; a listening port is not dialled.
pub async fn reach(address: &Address) -> io::Result<()> {
    port::dial(address).await.map(drop)
}

/// Gives a decoder its place on the board. Links start at once and side by side: who wants the decoders in the order of
/// the configuration, and all of them there from the start, announces them first.
pub fn announce(config: &DecoderConfig, board: &Board) {
    board.decoder(&config.name, |status| {
        status.protocol = config.protocol.name.to_owned();
        status.address = port::place(&config.address);
        status.locations = config.locations.keys().map(|location| (location.clone(), 0)).collect();
    });
}

/// Runs a decoder's link until `stop`, or until the journal is gone. Reports to `board` under the decoder's name.
///
/// `asks` is how others reach the decoder. After `stop` it reads no more, keeps what was received and writes the replies that become due, within 5 s.
///
/// # Errors
/// [`LinkError::Journal`]: the process must end. [`LinkError::Setting`] only if `port` was not made from `config`.
pub async fn run<K: Keeper>(
    config: DecoderConfig,
    port: Port,
    asks: Asks,
    keeper: K,
    board: Board,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    run_within(LIMITS, config, port, asks, keeper, board, stop).await
}

async fn run_within<K: Keeper>(
    limits: Limits,
    config: DecoderConfig,
    port: Port,
    asks: Asks,
    keeper: K,
    board: Board,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    let decoder = Arc::new(Decoder::new(limits, config, asks, board));
    let keeping = {
        let (decoder, keeper) = (Arc::clone(&decoder), keeper.clone());
        async move { decoder.intake.keep_all(&keeper).await }
    };
    // A task of its own: a flood on the wire must not starve the keeping.
    let mut keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
    let mut serving = pin!(async {
        match port.0 {
            Kind::Dial(address) => decoder.dial(&address, &keeper, &stop).await?,
            Kind::Listen(address, listener) => decoder.listen(address, listener, &keeper, &stop).await?,
        }
        let _ = timeout(limits.settle, decoder.intake.drained()).await;
        Ok(())
    });
    let mut chores = interval(Duration::from_secs(1));
    let mut judging = JoinSet::new();
    let outcome = loop {
        tokio::select! {
            outcome = &mut serving => break outcome,
            gone = &mut keeping => {
                let source = returned(gone);
                let (decoder, frames) = (decoder.name.clone(), decoder.intake.buffered());
                break Err(LinkError::Journal { decoder, frames, source });
            }
            _ = chores.tick() => {
                decoder.chores();
                if let Some(again) = decoder.memories.again(&decoder.zone, decoder.board.now()) {
                    judging.abort_all(); // the later one knows more
                    let (keeper, decoder) = (keeper.clone(), Arc::clone(&decoder));
                    judging.spawn(async move {
                        keeper.let_go(&decoder.name, move |read| again.is_of_this_race(read)).await;
                    });
                }
            }
        }
    };
    decoder.chores();
    let left = decoder.intake.buffered();
    if outcome.is_ok() && left > 0 {
        let name = &decoder.name;
        tracing::error!(decoder = name, frames = left, "stopped with received frames that could not be kept");
    }
    outcome
}

/// The value of a task that is never cancelled; a panic in it goes on here, so that no task dies alone.
fn returned<T>(joined: Result<T, JoinError>) -> T {
    match joined {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What all connections of a decoder share.
struct Decoder {
    name: String,
    place: String,
    spec: &'static Spec,
    set: Settings,
    zone: TimeZone,
    rewind: bool,
    limits: Limits,
    board: Board,
    asks: Asks,
    intake: Intake,
    presence: Mutex<Presence>,
    doubts: Doubts,
    memories: Memories,
    /// When the decoder last began to count anew.
    restarted: Mutex<Option<Instant>>,
    /// It is shown that nothing in its bytes is a record.
    babbling: AtomicBool,
}

/// Whether the decoder is there.
#[derive(Default)]
struct Presence {
    /// Connections that are up.
    up: usize,
    /// A connection went silent, and no new one has spoken since: that one comes up proves nothing.
    silent: bool,
    /// Since when one is up.
    since: Option<Instant>,
    /// Conditions that are shown, and whether an earlier connection told them. As many as protocols have names for.
    conditions: BTreeMap<Condition, bool>,
}

impl Decoder {
    fn new(limits: Limits, config: DecoderConfig, asks: Asks, board: Board) -> Self {
        announce(&config, &board);
        asks.tap().describe(Header::of(&config));
        let place = port::place(&config.address);
        Self {
            intake: Intake::new(
                &config.name,
                config.locations.keys(),
                config.protocol.missed != Missed::Lost,
                limits.buffer,
                limits.stall,
                board.clone(),
            ),
            name: config.name,
            place,
            spec: config.protocol,
            set: config.set,
            zone: config.timezone,
            rewind: config.rewind && config.protocol.missed == Missed::Stored,
            limits,
            board,
            asks,
            presence: Mutex::default(),
            doubts: Doubts::default(),
            memories: Memories::default(),
            restarted: Mutex::default(),
            babbling: AtomicBool::default(),
        }
    }

    fn protocol(&self) -> Result<Box<dyn Protocol>, SettingError> {
        (self.spec.make)(&self.set)
    }

    fn held<K: Keeper>(&self, keeper: &K) -> Option<BoxFuture<'static, Held>> {
        let (keeper, name) = (keeper.clone(), self.name.clone());
        // Also where nothing is to be asked for by itself: somebody may ask, and a decoder that counts anew is recognised.
        (self.spec.missed == Missed::Stored).then(|| async move { keeper.held(&name).await }.boxed())
    }

    /// Opens the port, serves it, and opens it again.
    async fn dial<K: Keeper>(&self, address: &Address, keeper: &K, stop: &CancellationToken) -> Result<(), LinkError> {
        let mut retry = self.retry(matches!(address, Address::Serial { .. }));
        loop {
            let protocol = self.protocol()?;
            let opened = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                opened = port::dial(address) => opened,
            };
            match opened {
                Ok(wire) => {
                    let ended =
                        self.serve(protocol, wire, self.held(keeper), true, &self.place, &Life::default(), stop).await;
                    match ended.end {
                        End::Stopped => return Ok(()),
                        End::Rewind => continue,
                        _ if ended.spoke && ended.up >= self.limits.proven => retry.reset(),
                        _ => {}
                    }
                }
                Err(error) => self.unreachable(&error.to_string(), LinkState::Failed),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(self.wait(&mut retry)) => {}
            }
        }
    }

    /// Accepts the decoder's software, up to [`CONNECTIONS`] times at once.
    async fn listen<K: Keeper>(
        self: &Arc<Self>,
        address: SocketAddr,
        listener: Option<TcpListener>,
        keeper: &K,
        stop: &CancellationToken,
    ) -> Result<(), LinkError> {
        let Some(listener) = self.listener(address, listener, stop).await else { return Ok(()) };
        let mut wires = JoinSet::new();
        let mut places = Places::default();
        let mut looks = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = wires.join_next() => returned(ended),
                _ = looks.tick() => places.calm(self),
                accepted = listener.accept() => match accepted {
                    Ok((wire, peer)) => {
                        let Some(life) = places.admit(self, peer) else { continue };
                        let protocol = self.protocol()?;
                        let held = self.held(keeper);
                        wires.spawn(self.clone().accepted(protocol, wire, peer, held, life, stop.clone()));
                    }
                    Err(error) => {
                        // Of the process or the system (too many open files), not of one peer: wait, go on.
                        self.unreachable(&format!("cannot accept: {error}"), LinkState::Failed);
                        sleep(self.limits.retry).await;
                    }
                },
            }
        }
        while let Some(ended) = wires.join_next().await {
            returned(ended);
        }
        Ok(())
    }

    async fn accepted(
        self: Arc<Self>,
        protocol: Box<dyn Protocol>,
        wire: TcpStream,
        peer: SocketAddr,
        held: Option<BoxFuture<'static, Held>>,
        life: Arc<Life>,
        stop: CancellationToken,
    ) {
        if let Err(error) = port::tune(&wire) {
            tracing::warn!(decoder = self.name, %peer, %error, "no keepalive on this connection");
        }
        // Not ended for a late rewind: when the other side connects again is not ours to say.
        self.serve(protocol, Box::new(wire), held, false, &peer.to_string(), &life, &stop).await;
    }

    /// The bound listener, once its address is on this box; `None` when stopped before.
    async fn listener(
        &self,
        address: SocketAddr,
        listener: Option<TcpListener>,
        stop: &CancellationToken,
    ) -> Option<TcpListener> {
        let mut retry = self.retry(false);
        let mut bound = listener;
        while bound.is_none() {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    self.board.clear("decoder_unreachable", &self.name);
                    self.state(LinkState::Connecting);
                    bound = Some(listener);
                }
                Err(error) => {
                    let reason = format!("cannot listen, is the address on this box? {error}");
                    self.unreachable(&reason, LinkState::Failed);
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = sleep(self.wait(&mut retry)) => {}
                    }
                }
            }
        }
        bound
    }

    #[allow(clippy::too_many_arguments, reason = "what a connection is made of; nowhere else are they together")]
    async fn serve(
        &self,
        protocol: Box<dyn Protocol>,
        wire: Wire,
        held: Option<BoxFuture<'static, Held>>,
        dialled: bool,
        peer: &str,
        life: &Life,
        stop: &CancellationToken,
    ) -> Ended {
        tracing::info!(decoder = self.name, peer, "connected");
        self.comes();
        let line = self.asks.tap().connected(peer);
        let ended = connection::serve(self, protocol, line.around(wire), held, dialled, life, stop).await;
        line.closed(&ended.end.to_string());
        tracing::info!(decoder = self.name, peer, up_s = ended.up.as_secs(), "disconnected: {}", ended.end);
        self.goes(&ended.end, dialled);
        ended
    }

    fn retry(&self, serial: bool) -> Retry {
        Retry::new(self.limits.retry, if serial { self.limits.retry_max_serial } else { self.limits.retry_max })
    }

    fn wait(&self, retry: &mut Retry) -> Duration {
        retry.next(&mut fastrand::Rng::new(), Some(self.limits.retry))
    }

    fn state(&self, state: LinkState) {
        self.board.decoder(&self.name, |status| status.state = state);
    }

    fn unreachable(&self, reason: &str, state: LinkState) {
        let next = match state {
            LinkState::Connecting => "Waiting for its software to connect again",
            _ => "Check its power, cable and address; it is tried again by itself",
        };
        let message = format!("`{}` at {}: {reason}. {next}", self.name, self.place);
        self.board.raise("decoder_unreachable", &self.name, message);
        self.state(state);
    }

    fn presence(&self) -> std::sync::MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is up.
    fn comes(&self) {
        let mut presence = self.presence();
        presence.up += 1;
        if presence.up == 1 {
            presence.since = Some(Instant::now());
            presence.conditions.values_mut().for_each(|earlier| *earlier = true);
        }
        self.board.clear("decoder_unreachable", &self.name);
        let doubtful = presence.silent && presence.up == 1;
        self.state(if doubtful { LinkState::Idle } else { LinkState::Connected });
    }

    /// The first byte of a connection arrived.
    fn lives(&self) {
        let mut presence = self.presence();
        if std::mem::take(&mut presence.silent) {
            self.board.clear("decoder_silent", &self.name);
            self.state(LinkState::Connected);
        }
    }

    /// Bytes come, and nothing in them is anything.
    fn babbles(&self) {
        let message = format!(
            "`{}` at {} sends bytes without a single record or line end in a megabyte. None of it is kept. Check protocol \
             and address, on a serial line the baud rate",
            self.name, self.place
        );
        self.babbling.store(true, Ordering::Relaxed);
        self.board.raise("decoder_no_records", &self.name, message);
    }

    /// The protocol found something that is not to be rejected.
    fn makes_sense(&self) {
        if self.babbling.swap(false, Ordering::Relaxed) {
            self.board.clear("decoder_no_records", &self.name);
        }
    }

    /// A connection ended. `dialled`: by us, so that it is ours to open the next one.
    fn goes(&self, end: &End, dialled: bool) {
        let mut presence = self.presence();
        presence.up -= 1;
        let alone = presence.up == 0;
        match end {
            End::Stopped | End::Rewind | End::Displaced => {}
            End::Silent(limit) => {
                let message = format!(
                    "`{}` at {} is connected but has sent nothing for {} s. Look at the decoder: it may be frozen, or \
                     its antenna off",
                    self.name,
                    self.place,
                    limit.as_secs_f32()
                );
                self.board.raise("decoder_silent", &self.name, message);
                presence.silent = true;
                if alone {
                    self.state(LinkState::Idle);
                }
            }
            End::Closed | End::Broken(_) | End::NotTaking(_) | End::HungUp(_) if alone => {
                let state = if dialled { LinkState::Failed } else { LinkState::Connecting };
                self.unreachable(&end.to_string(), state);
            }
            End::Closed | End::Broken(_) | End::NotTaking(_) | End::HungUp(_) => {}
        }
    }

    /// The decoder told something that is no record.
    fn hears(&self, info: Info, received: Timestamp) {
        match info {
            Info::Alive => {}
            Info::Clock(clock) => {
                let offset = offset_ms(&clock, &self.zone, received);
                self.memories.clock(offset);
                self.compare(offset);
            }
            Info::Condition { code, text: Some(text) } => {
                self.presence().conditions.insert(code, false);
                self.board.raise(code.word(), &self.name, text);
            }
            Info::Condition { code, text: None } => {
                self.presence().conditions.remove(&code);
                self.board.clear(code.word(), &self.name);
            }
            Info::Restarted(what) => self.restarts(&what),
        }
    }

    /// A read arrived: can its time be trusted, and is it of this race?
    fn judges(&self, read: &mut ChipRead, received: Timestamp) {
        self.doubts.judge(&self.name, &self.zone, read, received, &self.board);
        read.held_back = self.memories.judge(read, &self.zone, received);
    }

    /// The decoder cleared one of its memories.
    fn clears(&self, cleared: &Cleared) {
        self.memories.cleared(cleared);
        self.restarts(&cleared.text);
    }

    /// The decoder counts from the start again.
    fn restarts(&self, what: &str) {
        let message = format!(
            "`{}` counts from the start again: {what}. Reads that this box had not fetched before may be gone \
             from the decoder's memory",
            self.name
        );
        self.board.raise("decoder_restarted", &self.name, message);
        *self.restarted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn compare(&self, offset_ms: i64) {
        self.board.decoder(&self.name, |status| status.clock_offset_ms = Some(offset_ms));
        if offset_ms.abs() <= CLOCK_OFF_MS {
            self.board.clear("decoder_clock_off", &self.name);
            return;
        }
        let side = if offset_ms > 0 { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of `{}` is {} s {side} this box's. One of them is wrong, or the configured timezone is: compare \
             both with a clock you trust",
            self.name,
            offset_ms.unsigned_abs() / 1000
        );
        self.board.raise("decoder_clock_off", &self.name, message);
    }

    /// Ends what an earlier connection told and this one had time to tell again.
    fn forgets(&self) {
        let mut presence = self.presence();
        let renewed = presence.since.is_some_and(|since| since.elapsed() >= self.limits.renewed);
        if presence.up > 0 && renewed {
            let over = presence.conditions.extract_if(.., |code, earlier| *earlier && !STAYING.contains(code));
            over.for_each(|(code, _)| self.board.clear(code.word(), &self.name));
        }
    }

    /// About once a second, whatever the connections do.
    fn chores(&self) {
        self.intake.report();
        self.forgets();
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        if restarted.is_some_and(|at| at.elapsed() >= RESTART_SHOWN) {
            *restarted = None;
            self.board.clear("decoder_restarted", &self.name);
        }
    }
}
