//! Opens a decoder's port for a capture alone: to listen only, or to relay between the decoder and
//! its software.
//!
//! What must hold:
//! * **Listening sends nothing**, not even what would make the decoder send.
//! * **The relay passes every byte in both directions, unchanged and in order**, whatever happens
//!   to the recording. When one side closes its half, the relay closes that half towards the other
//!   side. Only a reset becomes a plain close.
//! * A decoder's port to which we only listen is opened again until `stop`, and the same fault is
//!   reported once. It is not tried again if this user may not open it, because that does not change
//!   by itself. A relay opens the other side once for each connection that it accepts.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::tap::Tap;
use crate::config::Address;
use crate::config::failure::Failure;
use crate::link::{CONNECTIONS, Wire, dial, tune};

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Wait before a port is opened again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the other direction may continue after one broke.
const LINGER: Duration = Duration::from_secs(5);

/// Which wires are recorded.
pub(crate) enum Wires {
    /// We open the decoder's port and only listen.
    Dial(Address),
    /// The decoder connects to us, and we only listen.
    Listen(TcpListener),
    /// The decoder's software connects to us, and we connect to the decoder.
    BeforeDecoder(TcpListener, Address),
    /// The decoder connects to us, and we connect to its software.
    BeforeSoftware(TcpListener, Address),
}

impl Wires {
    /// Binds the listening port, if there is one.
    ///
    /// # Errors
    /// Usage: the two ends do not make a relay. Unavailable: the port cannot be bound.
    pub(crate) async fn new(decoder: Address, software: Option<Address>) -> Result<Self, Failure> {
        match (decoder, software) {
            (Address::Listen(address), None) => bind(address).await.map(Self::Listen),
            (decoder, None) => Ok(Self::Dial(decoder)),
            (Address::Listen(address), Some(software @ Address::Tcp { .. })) => {
                Ok(Self::BeforeSoftware(bind(address).await?, software))
            }
            (decoder @ (Address::Tcp { .. } | Address::Serial { .. }), Some(Address::Listen(address))) => {
                Ok(Self::BeforeDecoder(bind(address).await?, decoder))
            }
            _ => Err(Failure::usage(
                "one end of a relay must listen: a decoder that waits (tcp://, serial://) with --relay tcp-listen://ADDR:PORT \
                 for its software, or tcp-listen://ADDR:PORT for a decoder that connects, with --relay tcp://HOST:PORT where \
                 its software listens",
            )),
        }
    }

    /// The address on which it listens.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Dial(_) => None,
            Self::Listen(listener) | Self::BeforeDecoder(listener, _) | Self::BeforeSoftware(listener, _) => {
                listener.local_addr().ok()
            }
        }
    }

    /// Serves until `stop`, or until it is certain that it cannot. `tap` records the bytes of the decoder's wire, and `tell` shows faults
    /// to the user.
    ///
    /// # Errors
    /// Permission: this user may not open the port.
    pub(crate) async fn serve(self, tap: Tap, tell: Tell, stop: CancellationToken) -> Result<(), Failure> {
        match self {
            Self::Dial(address) => listen_to(&address, &tap, tell, &stop).await,
            Self::Listen(listener) => {
                accept(listener, tell, stop.clone(), |wire, peer| hear(wire, peer, tap.clone(), stop.clone())).await
            }
            Self::BeforeDecoder(listener, decoder) => {
                accept(listener, tell, stop.clone(), |software, _| {
                    let (decoder, tap, stop) = (decoder.clone(), tap.clone(), stop.clone());
                    async move {
                        match open(&decoder, tell, &stop).await {
                            Some(wire) => {
                                let halves = !matches!(decoder, Address::Serial { .. });
                                relay(wire, software, halves, &decoder.to_string(), &tap, &stop).await;
                            }
                            None => drop(software),
                        }
                    }
                })
                .await
            }
            Self::BeforeSoftware(listener, software) => {
                accept(listener, tell, stop.clone(), |decoder, peer| {
                    let (software, tap, stop) = (software.clone(), tap.clone(), stop.clone());
                    async move {
                        match open(&software, tell, &stop).await {
                            Some(wire) => relay(decoder, wire, true, &peer, &tap, &stop).await,
                            None => drop(decoder),
                        }
                    }
                })
                .await
            }
        }
    }
}

/// Shows a text to the user.
pub(crate) type Tell = fn(&str);

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| Failure::unavailable(format!("cannot listen on {address}: {error}")))
}

/// Opens the decoder's port again and again until `stop`, and listens to it. This is the side that
/// connects; a decoder that connects to us is accepted ([`accept`]).
///
/// # Errors
/// Permission: this user may not open the port.
async fn listen_to(address: &Address, tap: &Tap, tell: Tell, stop: &CancellationToken) -> Result<(), Failure> {
    let mut told = String::new();
    while !stop.is_cancelled() {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = dial(address) => opened,
        };
        match opened {
            Ok(wire) => {
                told.clear();
                hear(wire, address.to_string(), tap.clone(), stop.clone()).await;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Failure::permission(format!(
                    "{address} may not be opened by this user: {error}; use sudo, or join the group of the device (dialout)"
                )));
            }
            Err(error) => {
                let why = error.to_string();
                if why != told {
                    tell(&format!("{address}: {why}; it is tried again every second"));
                    told = why;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(RETRY) => {}
        }
    }
    Ok(())
}

/// Accepts connections until `stop`, then waits until they have ended.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    tell: Tell,
    stop: CancellationToken,
    mut serve: impl FnMut(Wire, String) -> F,
) -> Result<(), Failure> {
    let mut wires = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = wires.join_next() => {}
            accepted = listener.accept(), if wires.len() < CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = tune(&stream) {
                        tell(&format!("{peer}: no keepalive on this connection: {error}"));
                    }
                    wires.spawn(serve(Box::new(stream), peer.to_string()));
                }
                Err(error) => {
                    tell(&format!("cannot accept: {error}"));
                    sleep(RETRY).await; // the process has no file descriptors left
                }
            },
        }
    }
    while wires.join_next().await.is_some() {}
    Ok(())
}

async fn open(address: &Address, tell: Tell, stop: &CancellationToken) -> Option<Wire> {
    tokio::select! {
        () = stop.cancelled() => None,
        opened = dial(address) => match opened {
            Ok(wire) => Some(wire),
            Err(error) => {
                tell(&format!("{address}: {error}; the other side's connection is closed"));
                None
            }
        }
    }
}

/// Reads the bytes and drops them, because the tap has recorded them.
async fn hear(wire: Wire, peer: String, tap: Tap, stop: CancellationToken) {
    let line = tap.connected(&peer);
    let mut wire = line.around(wire);
    let mut buffer = vec![0; CHUNK];
    let why = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break STOPPED.to_owned(),
            read = wire.read(&mut buffer) => match read {
                Ok(0) => break "the other side closed the connection, or the adapter was pulled".to_owned(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.to_string(),
            }
        }
    };
    drop(wire);
    line.closed(&why);
}

const STOPPED: &str = "the capture ended";

/// Passes bytes in both directions until both sides have closed, or one broke. With `halves` each
/// direction closes for itself. Without (a serial line, which never closes), the end of one
/// direction ends the relay.
async fn relay(decoder: Wire, software: Wire, halves: bool, peer: &str, tap: &Tap, stop: &CancellationToken) {
    let line = tap.connected(peer);
    let (from, to) = tokio::io::split(line.around(decoder));
    let (asked, told) = tokio::io::split(software);
    let passing = async {
        let (down, up) = (pin!(pass(from, told)), pin!(pass(asked, to)));
        match select(down, up).await {
            Either::Left((end, up)) => rest("the decoder", end, halves, up).await,
            Either::Right((end, down)) => rest("its software", end, halves, down).await,
        }
    };
    let why = tokio::select! {
        why = passing => why,
        () = stop.cancelled() => STOPPED.to_owned(),
    };
    line.closed(&why);
}

/// How one direction ended: `Ok` when its source closed.
type Passed = io::Result<()>;

/// Called after one direction ended. The other one continues as long as its sides want, or for a
/// moment if something broke.
async fn rest(side: &str, first: Passed, halves: bool, other: impl Future<Output = Passed>) -> String {
    if halves {
        let longest = if first.is_ok() { Duration::MAX } else { LINGER };
        let _ = timeout(longest, other).await;
    }
    match first {
        Ok(()) => format!("{side} closed the connection"),
        Err(error) => format!("the connection broke: {error}"),
    }
}

/// Passes the bytes of one direction. It writes whatever it read before it ends.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Passed {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => {
                let _ = to.shutdown().await; // the side may be gone already
                return Ok(());
            }
            Ok(count) => {
                to.write_all(&buffer[..count]).await?;
                to.flush().await?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = to.shutdown().await;
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::capture::{Direction, What};
    use tokio::io::duplex;

    #[tokio::test]
    async fn a_relay_passes_every_byte_both_ways_and_closes_each_half_as_its_side_does() {
        let tap = Tap::default();
        let recording = tap.listen().unwrap();
        let ((decoder, mut mat), (software, mut program)) = (duplex(1000), duplex(1000));
        let stop = CancellationToken::new();
        let (tapped, stopped) = (tap.clone(), stop.clone());
        let relaying = tokio::spawn(async move {
            relay(Box::new(decoder), Box::new(software), true, "mat", &tapped, &stopped).await;
        });
        let reads: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let sent = reads.clone();
        let asking = tokio::spawn(async move {
            program.write_all(b"give me everything").await.unwrap();
            program.shutdown().await.unwrap(); // the program now only listens
            let mut all = Vec::new();
            program.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut question = Vec::new();
        let asked = timeout(Duration::from_secs(20), mat.read_to_end(&mut question)).await;
        asked.expect("its half is closed").unwrap();
        assert_eq!(question, b"give me everything");
        mat.write_all(&sent).await.unwrap();
        drop(mat);
        let limit = Duration::from_secs(20);
        assert_eq!(timeout(limit, asking).await.expect("its half is closed").unwrap(), reads);
        timeout(limit, relaying).await.expect("both halves are closed").unwrap();
        let records = recording.rest();
        let of = |way: Direction| -> Vec<u8> {
            let bytes = records.iter().filter_map(|record| match &record.what {
                What::Bytes(direction, bytes) if *direction == way => Some(bytes.as_slice()),
                _ => None,
            });
            bytes.collect::<Vec<_>>().concat()
        };
        assert_eq!((of(Direction::From), of(Direction::To)), (reads, question));
        assert!(matches!(records.first().unwrap().what, What::Connected(_)));
        assert!(matches!(records.last().unwrap().what, What::Closed(_)));
    }

    #[tokio::test]
    async fn two_ends_that_both_wait_or_both_connect_are_no_relay() {
        for (decoder, software) in [
            ("tcp://a:1", "tcp://b:2"),
            ("tcp-listen://127.0.0.1:0", "tcp-listen://127.0.0.1:0"),
            ("tcp-listen://127.0.0.1:0", "serial:///dev/x?baud=9600"),
        ] {
            let refused = Wires::new(decoder.parse().unwrap(), Some(software.parse().unwrap())).await.err().unwrap();
            assert_eq!(refused.exit_code(), 64, "{decoder} {software}");
        }
    }
}
