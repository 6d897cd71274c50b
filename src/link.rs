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
//! | what it was told is held ([`StoredRanges`]) | 2 MB | a connection, where the decoder stores |
//! | replies that wait for their frames (4,096, of up to 300 bytes) and for the wire (64 KB) | 1.3 MB | a connection |
//! | bytes read at a time ([`protocol::READ_MAX`](crate::decoders::READ_MAX)) | 16 KB | a connection |
//! | the last bytes that its protocol did not understand (`sense`) | 4 KB | a connection |
//!
//! A decoder that we dial has one connection, so 28 MB, at the very worst 36; one that connects to us has up to
//! [`CONNECTIONS`]. A race takes a hundredth of it. tests/memory.rs measures the protocols' part on hostile streams.
//!
//! What it hides: `port` opens wires, `connection` carries one, `receive_buffer` lies between all connections
//! of a decoder and the journal, `memories` judges what a cleared decoder gives again, `places` says who may connect, `flood`
//! when it is too much.
//!
//! Not chosen: a life sign made by TCP alone (keepalive says that the decoder's network stack lives, and a frozen
//! decoder's does); giving up after some number of tries; one receive buffer per connection (see `receive_buffer`).

pub mod capture;
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

pub use self::decoder::announce;
pub use self::handle::{CommandResult, DecoderHandle};
pub use self::places::CONNECTIONS;
pub use self::port::{LinkError, Port, bind, open};
pub(crate) use self::port::{Wire, dial, tune};
pub use self::store::ReadStore;

use self::connection::{End, Ended, Liveness};
use self::decoder::{Decoder, LIMITS, Limits};
use self::places::Places;
use self::port::Kind;
use crate::config::{Address, DecoderConfig};
use crate::decoders::Protocol;
use crate::model::chip::StoredRanges;
use crate::status::{Board, LinkState, ProblemCode};

/// Runs a decoder's link until `stop`, or until the journal is gone. Reports to `board` under the decoder's name.
///
/// `asks` is how others reach the decoder. After `stop` it reads no more, keeps what was received and writes the replies that become due, within 5 s.
///
/// # Errors
/// [`LinkError::Journal`]: the process must end. [`LinkError::Setting`] only if `port` was not made from `config`.
pub async fn run<K: ReadStore>(
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
    // A task of its own: a flood on the wire must not starve the keeping.
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
                    judging.abort_all(); // the later one knows more
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

/// The value of a task that is never cancelled; a panic in it goes on here, so that no task dies alone.
fn returned<T>(joined: Result<T, JoinError>) -> T {
    match joined {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Decoder {
    /// Opens the port, serves it, and opens it again.
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
        held: Option<BoxFuture<'static, StoredRanges>>,
        life: Arc<Liveness>,
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
                    self.board.clear(ProblemCode::DecoderUnreachable, &self.name);
                    self.board.clear(ProblemCode::DecoderPortTaken, &self.name);
                    self.state(LinkState::Connecting);
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
