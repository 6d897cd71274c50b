//! Opening the port: TCP client, TCP server, serial line.
//!
//! Everything here either yields a [`Wire`] or an `io::Error` with a text a timer can act on. What a wire carries
//! is [`super::connection`]'s matter.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_serial::SerialPortBuilderExt;

use super::LinkError;
use crate::config::{Address, DecoderConfig};

/// Longest wait for name resolution and the TCP handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in both directions, whatever the port is.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An open wire to a decoder.
pub(crate) type Wire = Box<dyn Duplex>;

/// A decoder's port, as far as it can fail before the daemon is up: a listening port is bound, everything else is
/// opened (again and again) by [`super::run`].
#[derive(Debug)]
pub struct Port(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// We open: TCP client or serial line.
    Dial(Address),
    /// They connect. `None`: the address is not on this box yet (a cable that is out at boot); it is tried again.
    Listen(SocketAddr, Option<TcpListener>),
}

impl Port {
    /// Where a listening port listens (with port 0 the system chose it), `None` for other ports.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Listen(_, Some(listener)) => listener.local_addr().ok(),
            _ => None,
        }
    }
}

/// Binds a decoder's listening port and checks its protocol options, so that a fault in the configuration is known
/// before anything runs. Ports that we open ourselves are not touched: their decoder may be switched on later.
///
/// # Errors
/// Only configuration faults ([`LinkError::is_configuration`]): the port is in use or not ours to take, or an option
/// does not fit the protocol. An address that is merely not on this box yet is no error.
pub async fn bind(config: &DecoderConfig) -> Result<Port, LinkError> {
    (config.protocol.make)(&config.set)?;
    let Address::Listen(address) = config.address else {
        return Ok(Port(Kind::Dial(config.address.clone())));
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Port(Kind::Listen(address, Some(listener)))),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(Port(Kind::Listen(address, None))),
        Err(source) => Err(LinkError::Bind { decoder: config.name.clone(), address, source }),
    }
}

/// Opens the wire to a decoder that waits for us.
pub(crate) async fn dial(address: &Address) -> io::Result<Wire> {
    match address {
        Address::Tcp { host, port } => {
            let stream =
                timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port))).await.map_err(|_| {
                    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
                })??;
            // With a decoder simulated on this host and a port in the ephemeral range, a try can meet itself.
            if stream.local_addr()? == stream.peer_addr()? {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
            }
            tune(&stream)?;
            Ok(Box::new(stream))
        }
        Address::Serial { path, baud, bits, parity, stop, flow } => {
            // The open is exclusive (TIOCEXCL and flock): a second program on the line would steal bytes.
            let line = tokio_serial::new(path.to_string_lossy(), *baud)
                .data_bits(*bits)
                .parity(*parity)
                .stop_bits(*stop)
                .flow_control(*flow)
                .open_native_async()?;
            Ok(Box::new(line))
        }
        Address::Listen(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a listening port is not dialled")),
    }
}

/// Makes a dead peer known after 30 s (15 s idle, then 3 probes 5 s apart), and acks leave at once.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// The address as messages name it.
pub(crate) fn place(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } => format!("tcp://{host}:{port}"),
        Address::Listen(address) => format!("tcp-listen://{address}"),
        Address::Serial { path, baud, .. } => format!("serial://{}?baud={baud}", path.display()),
    }
}
