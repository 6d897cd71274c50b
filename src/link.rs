//! The link owns one decoder's port, its reconnects and its receive buffer. It makes one protocol
//! value for each connection.
//!
//! What must hold:
//! * **Kept before acknowledged.** The link writes a reply of the protocol to the wire only when
//!   every frame before it is durable.
//! * **For ever.** Whatever happens to the port (host off, cable out, adapter pulled, decoder
//!   frozen), the link opens it again, with a jittered backoff. Only a configuration fault or the
//!   loss of the journal ends [`run`].
//! * **Seen.** The board never shows a decoder as connected that does not answer, or answers with
//!   silence.
//! * **Alone.** Decoders share nothing but the journal and the board.
//! * **Bounded.** Bytes in the receive buffer, connections, replies and rejected frames have
//!   limits. The limits are in `Limits`, in [`CONNECTIONS`] and in the files below.
//!
//! # Memory
//!
//! Whatever a decoder sends, a link uses no more memory than the sum of these rows. Each row names
//! its limit:
//!
//! | what | bytes | how often |
//! |---|---|---|
//! | receive buffer (`Limits::buffer` counts the raw bytes and 512 for each frame; the decoded fields are parts of the raw bytes, so at worst it is twice that) | 8 MB | once |
//! | what the protocol puts out for the one read that fills the buffer or is being taken ([`protocol::OUTPUT_MAX`](crate::decoders::OUTPUT_MAX)) | 16 MB | a connection that is being read from |
//! | the protocol ([`protocol::MEMORY_MAX`](crate::decoders::MEMORY_MAX)) | 1 MB | a connection |
//! | the stored ranges that the link passed to the protocol ([`StoredRanges`]) | 2 MB | a connection, where the decoder stores |
//! | replies that wait for their frames (4,096, of up to 300 bytes) and for the wire (64 KB) | 1.3 MB | a connection |
//! | bytes read at a time ([`protocol::READ_MAX`](crate::decoders::READ_MAX)) | 16 KB | a connection |
//! | the last bytes that its protocol did not understand (`sense`) | 4 KB | a connection |
//!
//! A decoder that we dial has one connection, so its link needs 28 MB, and 36 MB at the very worst.
//! A decoder that connects to us has up to [`CONNECTIONS`] connections. A race takes a hundredth of
//! this memory. tests/memory.rs measures the protocols' part on hostile streams.
//!
//! What it hides: `port` opens wires, and `connection` serves one of them. `receive_buffer` is
//! between all connections of a decoder and the journal. `memories` decides what happens to the
//! reads that a cleared decoder sends. `places` decides who may connect, and `flood` recognises
//! when a decoder sends too much.
//!
//! Not chosen:
//! * A sign of life made by TCP alone: keepalive shows only that the decoder's network stack works,
//!   and that of a frozen decoder works too.
//! * Giving up after some number of tries.
//! * One receive buffer for each connection (see `receive_buffer`).

pub(crate) mod capture;
mod connection;
mod decoder;
mod doubts;
mod flood;
mod handle;
mod memories;
mod offset;
mod places;
pub(crate) mod port;
mod presence;
mod receive_buffer;
mod sense;
mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::decoder::announce;
pub(crate) use self::handle::{CommandResult, DecoderHandle};
pub(crate) use self::places::CONNECTIONS;
pub(crate) use self::port::{LinkError, Port, bind, open};
pub(crate) use self::port::{Wire, dial, tune};
pub(crate) use self::store::ReadStore;

use self::connection::{End, Ended, Liveness};
use self::decoder::{Decoder, LIMITS, Limits};
use self::places::Places;
use self::port::Kind;
use crate::config::{Address, DecoderConfig};
use crate::decoders::Protocol;
use crate::model::chip::StoredRanges;
use crate::status::{Board, LinkState};

/// Runs a decoder's link until `stop`, or until the journal is gone. The link reports to `board`
/// under the decoder's name.
///
/// Other parts of the program reach the decoder through `asks`. After `stop` the link reads no
/// more, keeps what it received and writes the replies that become due, within 5 s.
///
/// # Errors
/// [`LinkError::Journal`]: the process must end. [`LinkError::Setting`] only if `port` was not made
/// from `config`.
pub(crate) async fn run<K: ReadStore>(
    config: DecoderConfig,
    port: Port,
    asks: DecoderHandle,
    store: K,
    board: Board,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    run_within(LIMITS, config, port, asks, store, board, stop).await
}

async fn run_within<K: ReadStore>(
    limits: Limits,
    config: DecoderConfig,
    port: Port,
    asks: DecoderHandle,
    store: K,
    board: Board,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    let decoder = Arc::new(Decoder::new(limits, config, asks, board));
    let keeping = {
        let (decoder, store) = (Arc::clone(&decoder), store.clone());
        async move { decoder.buffer.keep_all(&store).await }
    };
    // The keeping is a task of its own, because a flood on the wire must not starve it.
    let mut keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
    let mut serving = pin!(async {
        match port.0 {
            Kind::Dial(address) => decoder.dial(&address, &store, &stop).await?,
            Kind::Listen(address, listener) => decoder.listen(address, listener, &store, &stop).await?,
        }
        let _ = timeout(limits.settle, decoder.buffer.drained()).await;
        Ok(())
    });
    let mut chores = interval(Duration::from_secs(1));
    let mut judging = JoinSet::new();
    let outcome = loop {
        tokio::select! {
            outcome = &mut serving => break outcome,
            gone = &mut keeping => {
                let source = returned(gone);
                let (decoder, frames) = (decoder.name.clone(), decoder.buffer.buffered());
                break Err(LinkError::Journal { decoder, frames, source });
            }
            _ = chores.tick() => {
                decoder.upkeep();
                if let Some(again) = decoder.memories.again(&decoder.zone, decoder.board.now()) {
                    judging.abort_all(); // the later task knows more
                    let (store, decoder) = (store.clone(), Arc::clone(&decoder));
                    judging.spawn(async move {
                        store.let_go(&decoder.name, move |read| again.is_of_this_race(read)).await;
                    });
                }
            }
        }
    };
    decoder.upkeep();
    let left = decoder.buffer.buffered();
    if outcome.is_ok() && left > 0 {
        let name = &decoder.name;
        tracing::error!(decoder = name, frames = left, "stopped with received frames that could not be kept");
    }
    outcome
}

/// The value of a task that is never cancelled. A panic in the task continues here, so that no task
/// dies alone.
fn returned<T>(joined: Result<T, JoinError>) -> T {
    match joined {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Decoder {
    /// Opens the port, serves the connection, and opens the port again when the connection ended.
    async fn dial<K: ReadStore>(
        &self,
        address: &Address,
        store: &K,
        stop: &CancellationToken,
    ) -> Result<(), LinkError> {
        let mut retry = self.retry(matches!(address, Address::Serial { .. }));
        loop {
            let protocol = self.protocol()?;
            let opened = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                opened = port::dial(address) => opened,
            };
            match opened {
                Ok(wire) => {
                    let ended = self
                        .serve(protocol, wire, self.stored_ranges(store), true, &self.place, &Liveness::default(), stop)
                        .await;
                    match ended.end {
                        End::Stopped => return Ok(()),
                        End::Rewind | End::Restarted => continue,
                        _ if ended.spoke && ended.up >= self.limits.proven => retry.reset(),
                        _ => {}
                    }
                }
                Err(error) => self.unreachable(&error.to_string(), LinkState::Failed),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(self.wait(&mut retry)) => {}
                () = self.asks.restarts() => retry.reset(),
            }
        }
    }

    /// Accepts connections of the decoder's software, up to [`CONNECTIONS`] at once.
    async fn listen<K: ReadStore>(
        self: &Arc<Self>,
        address: SocketAddr,
        listener: Option<TcpListener>,
        store: &K,
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
                        let held = self.stored_ranges(store);
                        wires.spawn(self.clone().accepted(protocol, wire, peer, held, life, stop.clone()));
                    }
                    Err(error) => {
                        // This is a fault of the process or the system (too many open files), not
                        // of one peer. So the link waits and then accepts again.
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
        held: Option<BoxFuture<'static, StoredRanges>>,
        life: Arc<Liveness>,
        stop: CancellationToken,
    ) {
        if let Err(error) = port::tune(&wire) {
            tracing::warn!(decoder = self.name, %peer, %error, "no keepalive on this connection");
        }
        // A late rewind does not end this connection, because only the other side decides when it
        // connects again.
        self.serve(protocol, Box::new(wire), held, false, &peer.to_string(), &life, &stop).await;
    }

    /// The bound listener, once its address is on this box. `None` if the link was stopped before.
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
                    self.on_listening();
                    bound = Some(listener);
                }
                Err(error) => {
                    self.cannot_listen(&error);
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
        held: Option<BoxFuture<'static, StoredRanges>>,
        dialled: bool,
        peer: &str,
        life: &Liveness,
        stop: &CancellationToken,
    ) -> Ended {
        tracing::info!(decoder = self.name, peer, "connected");
        self.on_connected();
        let line = self.asks.tap().connected(peer);
        let ended = connection::serve(self, protocol, line.around(wire), held, dialled, life, stop).await;
        line.closed(&ended.end.to_string());
        tracing::info!(decoder = self.name, peer, up_s = ended.up.as_secs(), "disconnected: {}", ended.end);
        self.on_closed(&ended.end, ended.up, dialled);
        ended
    }
}
