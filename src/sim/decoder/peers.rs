//! The connections of a simulated decoder: which peers are served, what they receive, and what they
//! sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::shared::{LINKS_MAX, RECONNECT, Shared};
use super::wire::Faults;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::ForbiddenCommand;

pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let cuts = shared.cuts.subscribe(); // before `online` is read, so that no cut is missed
                    if *shared.online.borrow() && links.len() < LINKS_MAX {
                        stream.set_nodelay(true).ok();
                        let shared = Arc::clone(&shared);
                        links.spawn(async move { converse(stream, &shared, cuts).await });
                    }
                }
                Err(_) => tokio::time::sleep(RECONNECT).await, // no file descriptors are left: try later
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// Counts a link while it is open.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn new(links: &'a watch::Sender<usize>) -> Self {
        links.send_modify(|links| *links += 1);
        Self(links)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|links| *links -= 1);
    }
}

/// Waits while the decoder is frozen.
async fn thaw(frozen: &mut watch::Receiver<bool>) {
    if frozen.wait_for(|frozen| !frozen).await.is_err() {
        std::future::pending().await // the decoder was dropped, and so is this task
    }
}

/// Serves one peer of a decoder that is a server, until the peer leaves or the link is cut.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    shared: &Shared,
    mut cuts: watch::Receiver<u64>,
) -> io::Result<()> {
    tokio::select! {
        result = talk(&mut stream, shared) => result,
        _ = cuts.changed() => Ok(()),
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, shared: &Shared) -> io::Result<()> {
    let (mut emitted, mut frozen) = (shared.emitted.subscribe(), shared.frozen.subscribe());
    let mut out = Outgoing::default();
    let (mut peer, id, hearing, _open) = {
        let mut state = shared.lock();
        state.latest += 1;
        let hearing = state.heard.anew();
        let mut peer = shared.kind.simulator().talk();
        let alone = *shared.links.borrow() == 0;
        if alone || !peer.refuse(&mut out) {
            peer.begin(&state.memory, shared.now(&state.memory), &mut out);
        }
        (peer, state.latest, hearing, Open::new(&shared.links))
    };
    let mut faults = Faults::new(&shared.faults, shared.kind.noise(), &shared.fault_frozen);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut heard = [0; 4096];
    loop {
        thaw(&mut frozen).await;
        faults.write(stream, &mut out).await?;
        let more = {
            let state = shared.lock();
            if state.latest != id {
                peer.is_superseded();
            }
            peer.push(&state.memory, &mut out)
        };
        if more || !out.is_empty() {
            continue;
        }
        if peer.is_done() {
            return Ok(());
        }
        tokio::select! {
            read = stream.read(&mut heard) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                thaw(&mut frozen).await;
                let state = &mut *shared.lock();
                let now = shared.now(&state.memory);
                state.heard.take(hearing, &heard[..length]);
                if let Err(ForbiddenCommand(command)) = peer.hear(&heard[..length], &state.memory, now, &mut out) {
                    shared.forbid(state, command);
                }
            }
            changed = emitted.changed() => if changed.is_err() { return Ok(()) },
            _ = seconds.tick() => {
                let now = shared.now(&shared.lock().memory);
                peer.second(now, &mut out);
            }
        }
    }
}

pub(super) async fn connect_for_ever(shared: Arc<Shared>, address: SocketAddr) {
    let mut online = shared.online.subscribe();
    let mut cuts = shared.cuts.subscribe();
    while online.wait_for(|online| *online).await.is_ok() {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            stream.set_nodelay(true).ok();
            cuts.borrow_and_update();
            let speaking = async {
                let repeats = shared.lock().exporter.is_some();
                if repeats { export(&mut stream, &shared).await } else { talk(&mut stream, &shared).await }
            };
            tokio::select! {
                _ = speaking => {}
                _ = cuts.changed() => {}
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// One connection of the exporter.
async fn export(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let (mut emitted, mut frozen) = (shared.emitted.subscribe(), shared.frozen.subscribe());
    let _open = Open::new(&shared.links);
    let mut faults = Faults::new(&shared.faults, shared.kind.noise(), &shared.fault_frozen);
    let mut out = Outgoing::default();
    let hearing = {
        let state = &mut *shared.lock();
        if let Some(exporter) = &mut state.exporter {
            exporter.connected(&state.memory, &mut out);
        }
        state.heard.anew()
    };
    let mut heard = [0; 4096];
    loop {
        thaw(&mut frozen).await;
        faults.write(stream, &mut out).await?;
        let next = {
            let state = &mut *shared.lock();
            let now = shared.started.elapsed();
            state.exporter.as_mut().and_then(|exporter| exporter.send(&state.memory, now, &mut out))
        };
        if !out.is_empty() {
            continue;
        }
        let repeat = async {
            match next {
                Some(next) => tokio::time::sleep_until(shared.started + next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read(&mut heard) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                thaw(&mut frozen).await;
                let acked = {
                    let state = &mut *shared.lock();
                    state.heard.take(hearing, &heard[..length]);
                    let Some(exporter) = &mut state.exporter else { return Ok(()) };
                    exporter.hear(&heard[..length], &state.memory, &mut out);
                    exporter.acked_reads()
                };
                shared.acked.send_if_modified(|known| std::mem::replace(known, acked) != acked);
            }
            changed = emitted.changed() => if changed.is_err() { return Ok(()) },
            () = repeat => {}
        }
    }
}
