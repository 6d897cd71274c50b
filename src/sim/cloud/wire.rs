//! The sockets of the fake: a listener that can be closed and opened again on the same port, and
//! connections that can be cut.
//!
//! A cut is a real reset: the socket is dropped with linger zero, so the client gets an I/O error
//! and no answer. While the fake is offline, a second socket stays bound to the port without
//! listening. So connections are refused, and no other process can take the port.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The handle that opens and closes the listener.
pub(super) struct CloudDoor {
    wanted: watch::Sender<bool>,
    is: watch::Receiver<bool>,
}

impl CloudDoor {
    /// Opens or closes the listener. Returns when that is done (or when the fake has ended).
    pub(super) async fn set(&self, open: bool) {
        self.wanted.send_replace(open);
        let mut is = self.is.clone();
        // An error means that the fake has ended, and every connection with it.
        let _ = is.wait_for(|is| *is == open).await;
    }
}

/// Accepts the connections.
pub(super) struct Entrance {
    address: SocketAddr,
    listener: Option<TcpListener>,
    wanted: watch::Receiver<bool>,
    is: watch::Sender<bool>,
    stop: CancellationToken,
    /// Parent token of every connection since the listener was last opened.
    era: CancellationToken,
    /// A bound socket that never listens.
    _reserve: Socket,
}

/// Binds the address and listens on it.
pub(super) fn open(address: SocketAddr, stop: CancellationToken) -> io::Result<(Entrance, CloudDoor, SocketAddr)> {
    let reserve = bind(address)?;
    let address = reserve.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an internet address"))?;
    let listener = listen(address)?;
    let (wanted, wanted_seen) = watch::channel(true);
    let (is, is_seen) = watch::channel(true);
    let era = stop.child_token();
    let entrance =
        Entrance { address, listener: Some(listener), wanted: wanted_seen, is, stop, era, _reserve: reserve };
    Ok((entrance, CloudDoor { wanted, is: is_seen }, address))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

impl Entrance {
    /// Opens or closes the listener as requested.
    async fn obey(&mut self) {
        let wanted = *self.wanted.borrow_and_update();
        if !wanted && self.listener.take().is_some() {
            self.era.cancel();
            self.era = self.stop.child_token();
        }
        if wanted && self.listener.is_none() {
            match listen(self.address) {
                Ok(listener) => self.listener = Some(listener),
                Err(_) => return tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        self.is.send_if_modified(|is| std::mem::replace(is, wanted) != wanted);
    }
}

impl Listener for Entrance {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            self.obey().await;
            let Some(listener) = &self.listener else {
                if !*self.wanted.borrow() && self.wanted.changed().await.is_err() {
                    std::future::pending::<()>().await; // the fake is ending, and `serve` is about to be dropped
                }
                continue;
            };
            tokio::select! {
                biased;
                changed = self.wanted.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let _ = stream.set_nodelay(true);
                        return (Wire::new(stream, self.era.child_token()), peer);
                    }
                    // There are no free file descriptors, or the peer has already closed the
                    // connection.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Cuts one connection.
#[derive(Clone)]
pub(super) struct Cut(CancellationToken);

impl Cut {
    /// Resets the connection. Nothing more is written to it.
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, Entrance>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Entrance>) -> Self {
        Self(stream.io().cut.clone())
    }
}

/// A connection that can be cut.
pub(super) struct Wire {
    stream: TcpStream,
    cut: CancellationToken,
    cutting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Wire {
    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        Self { stream, cutting: Box::pin(cut.clone().cancelled_owned()), cut }
    }

    fn intact(&self) -> io::Result<()> {
        if self.cut.is_cancelled() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.cut.is_cancelled() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.intact()?;
        if self.cutting.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.intact()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.intact()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.intact()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.intact()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
