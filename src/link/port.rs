//! Opens the port: TCP client, TCP server, serial line.
//!
//! Everything here returns either a [`Wire`] or an `io::Error` whose text a timer can act on.
//! [`super::connection`] decides what happens on the wire.
//!
//! A name may have several addresses, and some of them may be dead (an IPv6 address that the
//! decoder announces and the network does not carry, as with `.local` names). Each address has a
//! time limit of its own, and none waits until the one before has used up its limit ("happy
//! eyeballs", RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_serial::SerialPortBuilderExt;

use crate::config::{Address, DecoderConfig};
use crate::decoders::SettingError;
use crate::journal::JournalError;

/// Why a link cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The link cannot listen on the port.
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

/// Longest wait for the addresses of a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the TCP handshake with one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When an address has not answered for this long, the next one is tried as well. On the network of
/// a finish line an answer takes milliseconds.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// At most this many addresses of a name are tried.
const ADDRESSES: usize = 8;

/// A stream of bytes in both directions, whatever the port is.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An open wire to a decoder.
pub(crate) type Wire = Box<dyn Duplex>;

/// A decoder's port, opened as far as that can fail before the daemon is up. A listening port is
/// bound. [`super::run`] opens every other port, as often as needed.
#[derive(Debug)]
pub(crate) struct Port(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// A port that we open: TCP client or serial line.
    Dial(Address),
    /// A port to which the decoder's software connects. `None` if the address is not on this box
    /// yet (a cable that is out at boot). The link then tries again.
    Listen(SocketAddr, Option<TcpListener>),
}

impl Port {
    /// The address on which a listening port listens (with port 0 the system chose the port), and
    /// `None` for other ports.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Listen(_, Some(listener)) => listener.local_addr().ok(),
            _ => None,
        }
    }
}

/// Binds a decoder's listening port and checks its protocol options, so that `check` finds a fault
/// before anything runs. Ports that we open ourselves are not opened here, because their decoder
/// may be switched on later.
///
/// # Errors
/// Only configuration faults ([`LinkError::Bind`], [`LinkError::Setting`]): the port is in use, or
/// this user may not take it, or an option does not fit the protocol. An address that is merely not
/// on this box yet is no error.
pub(crate) async fn bind(config: &DecoderConfig) -> Result<Port, LinkError> {
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

/// Like [`bind`], for the box that runs. If the port cannot be opened now, [`super::run`] tries it
/// again, because the other decoders must go on.
pub(crate) async fn open(config: &DecoderConfig) -> Port {
    match (bind(config).await, &config.address) {
        (Ok(port), _) => port,
        (Err(_), Address::Listen(address)) => Port(Kind::Listen(*address, None)),
        (Err(_), address) => Port(Kind::Dial(address.clone())),
    }
}

/// Opens the wire to a decoder that waits for us.
pub(crate) async fn dial(address: &Address) -> io::Result<Wire> {
    match address {
        Address::Tcp { host, port } => {
            let stream = connect_to_any(addresses(host, *port).await?, CONNECT_TIMEOUT).await?;
            tune(&stream)?;
            Ok(Box::new(stream))
        }
        Address::Serial { path, baud, bits, parity, stop, flow } => {
            // The open is exclusive (TIOCEXCL and flock), because a second program on the line
            // would take bytes away.
            let line = tokio_serial::new(path.to_string_lossy(), *baud)
                .data_bits(*bits)
                .parity(*parity)
                .stop_bits(*stop)
                .flow_control(*flow)
                .open_native_async()
                .map_err(|error| in_words(path, error.into()))?;
            Ok(Box::new(line))
        }
        Address::Listen(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a listening port is not dialled")),
    }
}

/// An error of a serial line in words, with what to do. The system's own words stay in the text.
pub(crate) fn in_words(path: &Path, error: io::Error) -> io::Error {
    // The library returns the system's message as text, and one error kind for two causes that
    // differ here.
    let said = error.to_string();
    let advice = match error.kind() {
        // A service may use only devices that its unit names, whatever the rights of the file are.
        _ if said.contains("Operation not permitted") => {
            "the unit of the service does not allow this device (DeviceAllow=). Restart the service: sudo systemctl restart \
             passbridge; if that does not help, install the unit of this version"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use it: add the user to the group that owns the device (dialout)"
        }
        _ if said.contains("lock") || said.contains("busy") => "another program has it open: close that one",
        io::ErrorKind::NotFound => "the adapter is not plugged in, or it has another name now (ls /dev/serial/by-id)",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{}: {error}; {advice}", path.display()))
}

/// The addresses of a name, in the order in which they are tried.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("nobody says which address the name {host} has"));
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await.map_err(late)?;
    let found = found.map_err(|error| {
        let what = match host.split_once('%') {
            Some((_, interface)) => format!("this box has no network interface {interface} now ({host}): {error}"),
            None => format!("the name {host} is not found: {error}"),
        };
        io::Error::new(error.kind(), what)
    })?;
    Ok(in_turn(found))
}

/// Each address once, the two families in turn. The family that the system prefers is first.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let first = once.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, mut others): (Vec<_>, Vec<_>) = once.into_iter().partition(|at| at.is_ipv6() == first);
    preferred.reverse();
    others.reverse();
    let mut all = Vec::new();
    while all.len() < ADDRESSES && !(preferred.is_empty() && others.is_empty()) {
        all.extend(preferred.pop());
        all.extend(others.pop());
    }
    all
}

/// Connects to the first of these addresses that answers. Each address has `limit`. The next one is
/// tried when the one before failed, or did not answer for [`NEXT_AFTER`].
async fn connect_to_any(addresses: Vec<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => trying.push(async move { (address, connect(address, limit).await) }),
            None if trying.is_empty() => return Err(none_answers(failed)),
            None => {}
        }
        tokio::select! {
            Some((address, outcome)) = trying.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failed.push((address, error)),
            },
            () = sleep(NEXT_AFTER), if waiting.len() > 0 => {}
        }
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs_f32()));
    let stream = timeout(limit, TcpStream::connect(address)).await.map_err(late)??;
    // With a decoder simulated on this host and a port in the ephemeral range, a connection attempt
    // can connect to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    Ok(stream)
}

/// The error that the timer sees. For one address it is what the system said, and for several it is
/// what the system said about each.
fn none_answers(mut failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    if failed.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return error;
    }
    let kind = failed.first().map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
    let each: Vec<String> = failed.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
    let text = match each.len() {
        0 => "its name has no address".to_owned(),
        count => format!("none of its {count} addresses answers ({})", each.join("; ")),
    };
    io::Error::new(kind, text)
}

/// Detects a dead peer after 30 s (15 s idle, then 3 probes 5 s apart), and sends acknowledgements
/// at once.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// The address as messages show it.
pub(crate) fn place(address: &Address) -> String {
    match address {
        Address::Serial { path, baud, .. } => format!("serial://{}?baud={baud}", path.display()),
        Address::Tcp { .. } | Address::Listen(_) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// An address that answers nothing. Nobody accepts its connections and their queue is full, so
    /// the system drops new ones.
    async fn dead(ip: &str) -> (SocketAddr, Socket, Vec<TcpStream>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut filled = Vec::new();
        for _ in 0..16 {
            match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
                Ok(stream) => filled.push(stream.unwrap()),
                Err(_) => return (address, listener, filled),
            }
        }
        panic!("{address} answers for ever");
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_costs_300_ms_and_not_the_whole_time() {
        let (first, ..) = &dead("127.0.0.2").await;
        let (second, ..) = &dead("127.0.0.3").await;
        let alive = TcpListener::bind("127.0.0.4:0").await.unwrap();
        let third = alive.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect_to_any(vec![*first, *second, third], CONNECT_TIMEOUT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), third);
        let took = began.elapsed();
        assert!(took >= 2 * NEXT_AFTER && took < CONNECT_TIMEOUT / 2, "{took:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_and_one_that_answers_late_is_still_taken() {
        let refusing = TcpListener::bind("127.0.0.5:0").await.unwrap().local_addr().unwrap(); // closed again
        let alive = TcpListener::bind("127.0.0.6:0").await.unwrap();
        let began = Instant::now();
        let stream = connect_to_any(vec![refusing, alive.local_addr().unwrap()], CONNECT_TIMEOUT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive.local_addr().unwrap());
        assert!(began.elapsed() < NEXT_AFTER, "{:?}", began.elapsed());
        // The first address answers after all others have failed, because it still has time of its
        // own.
        let (late, listener, _filled) = dead("127.0.0.7").await;
        let connecting = tokio::spawn(connect_to_any(vec![late, refusing], CONNECT_TIMEOUT));
        let listener = std::net::TcpListener::from(listener);
        let taking = tokio::task::spawn_blocking(move || listener.incoming().flatten().take(2).count());
        assert_eq!(connecting.await.unwrap().unwrap().peer_addr().unwrap(), late);
        drop(taking); // it ends with its second connection
    }

    #[tokio::test]
    async fn when_none_answers_each_address_is_told_with_what_it_did() {
        let (dead, ..) = &dead("127.0.0.8").await;
        let refusing = TcpListener::bind("127.0.0.9:0").await.unwrap().local_addr().unwrap();
        let error = connect_to_any(vec![*dead, refusing], Duration::from_millis(400)).await.unwrap_err().to_string();
        assert!(error.contains("2 addresses"), "{error}");
        assert!(error.contains("127.0.0.8: no answer within 0.4 s"), "{error}");
        assert!(error.contains("127.0.0.9: Connection refused"), "{error}");
        let error = connect_to_any(vec![refusing], CONNECT_TIMEOUT).await.unwrap_err().to_string();
        assert!(error.starts_with("Connection refused"), "{error}");
        assert_eq!(connect_to_any(Vec::new(), CONNECT_TIMEOUT).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_wrong_with_a_serial_line_is_told_with_its_cure() {
        let path = Path::new("/dev/ttyUSB0");
        for (kind, said, cure) in [
            (io::ErrorKind::PermissionDenied, "Operation not permitted", "DeviceAllow="),
            (io::ErrorKind::Other, "Operation not permitted", "systemctl restart passbridge"),
            (io::ErrorKind::PermissionDenied, "Permission denied", "dialout"),
            (io::ErrorKind::NotFound, "No such file or directory", "plugged in"),
            (io::ErrorKind::NotFound, "Unable to acquire exclusive lock on serial port", "another program"),
            (io::ErrorKind::Other, "Device or resource busy", "another program"),
        ] {
            let told = in_words(path, io::Error::new(kind, said)).to_string();
            assert!(told.contains("/dev/ttyUSB0") && told.contains(said) && told.contains(cure), "{told}");
        }
        let other = in_words(path, io::Error::other("Not a typewriter"));
        assert_eq!(other.to_string(), "Not a typewriter");
    }

    #[tokio::test]
    async fn an_address_of_one_network_interface_keeps_its_interface() {
        // `lo` is the one interface that every machine has, and its index is 1.
        let found = addresses("fe80::1%lo", 10000).await.unwrap();
        let [SocketAddr::V6(found)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((found.ip().to_string().as_str(), found.scope_id(), found.port()), ("fe80::1", 1, 10000));
        let address: Address = "tcp://[fe80::1%lo]:10000".parse().unwrap();
        assert_eq!(place(&address), "tcp://[fe80::1%lo]:10000");
        let error = addresses("fe80::1%nowhere0", 1).await.unwrap_err().to_string();
        assert!(error.contains("nowhere0") && error.contains("no network interface"), "{error}");
    }

    #[test]
    fn the_families_take_turns_and_no_address_is_tried_twice() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = ["[fd00::1]:1", "[fd00::2]:1", "[fd00::1]:1", "[fd00::3]:1", "10.0.0.1:1", "10.0.0.2:1"].map(at);
        let order = ["[fd00::1]:1", "10.0.0.1:1", "[fd00::2]:1", "10.0.0.2:1", "[fd00::3]:1"].map(at);
        assert_eq!(in_turn(found.into_iter()), order);
        assert_eq!(in_turn((1..100).map(|host| at(&format!("10.0.0.{host}:1")))).len(), ADDRESSES);
    }
}
