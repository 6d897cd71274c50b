//! A line between the box and what it talks to, with everything a line in a field can do: slow, far
//! away, cut, dead without a word. A TCP proxy, for kernels without netem and tests without root.
//!
//! Each connection reads [`Line`] when it begins; [`Shaper::set`] counts for connections from then
//! on, and with [`Shaper::freeze`] nothing passes on any of them, in either direction, until it is
//! taken back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Most bytes taken at once: 0.2 s of a line of 64 kbit/s.
const PIECE: usize = 1460;
/// Pieces on the way in each direction. Beyond them the sender waits, as before a modem.
const ON_THE_WAY: usize = 256;

/// How a line behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Bits per second in each direction, shared by all connections; 0: no limit.
    pub rate: u64,
    /// One way.
    pub delay: Duration,
    /// The connection is reset when so many bytes went up.
    pub cut_up: Option<u64>,
    /// The connection is reset when so many bytes came down.
    pub cut_down: Option<u64>,
    /// An impatient proxy: a request (the bytes that go up after bytes came down) that is not whole
    /// and answered after this time is reset.
    pub patience: Option<Duration>,
    /// When so many bytes went up nothing passes any more, in both directions, and nobody is told.
    pub vanish_up: Option<u64>,
}

/// What all connections share.
struct Shared {
    to: SocketAddr,
    line: Mutex<Line>,
    frozen: watch::Sender<bool>,
    /// When each direction is free again: the bottleneck is one.
    free: [Mutex<Instant>; 2],
    bytes: [AtomicU64; 2],
    connections: AtomicU64,
    cuts: watch::Sender<u64>,
}

/// A line with a port at this end. It ends with the runtime.
#[derive(Clone)]
pub struct Shaper {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Shaper {
    /// A line from a free port here to there.
    pub async fn open(to: SocketAddr, line: Line) -> Self {
        Self::open_at(SocketAddr::from(([127, 0, 0, 1], 0)), to, line).await
    }

    pub async fn open_at(at: SocketAddr, to: SocketAddr, line: Line) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let now = Instant::now();
        let shared = Arc::new(Shared {
            to,
            line: Mutex::new(line),
            frozen: watch::Sender::new(false),
            free: [Mutex::new(now), Mutex::new(now)],
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            connections: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
        });
        let carrier = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                carrier.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(near, Arc::clone(&carrier)));
            }
        });
        Self { address, shared }
    }

    /// How the line behaves from the next connection on.
    pub fn set(&self, line: Line) {
        *self.shared.line.lock().unwrap() = line;
    }

    /// Nothing passes, new connections get no further than being accepted, nobody is told.
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// Bytes that went up and came down.
    pub fn bytes(&self) -> (u64, u64) {
        let count = |way: usize| self.shared.bytes[way].load(Ordering::SeqCst);
        (count(0), count(1))
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that were reset, or that vanished.
    pub fn cuts(&self) -> u64 {
        *self.shared.cuts.borrow()
    }

    /// Waits until there were so many.
    pub async fn cut(&self, times: u64, limit: Duration) {
        let mut cuts = self.shared.cuts.subscribe();
        let seen = tokio::time::timeout(limit, cuts.wait_for(|cuts| *cuts >= times)).await;
        seen.expect("the line is cut").unwrap();
    }
}

/// What ends a connection.
enum Over {
    Closed,
    Cut,
    /// Both sides are left alone with it.
    Vanished,
}

async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let line = *shared.line.lock().unwrap();
    let Ok(far) = TcpStream::connect(shared.to).await else {
        // Nobody there: the other side of a line says so with a reset.
        let _ = SockRef::from(&near).set_linger(Some(Duration::ZERO));
        return;
    };
    for end in [&near, &far] {
        end.set_nodelay(true).unwrap();
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let (asked, asking) = watch::channel(None);
    let asked = Arc::new(asked);
    let over = tokio::select! {
        over = flow(0, line, &shared, near_read, &far_write, Arc::clone(&asked)) => over,
        over = flow(1, line, &shared, far_read, &near_write, asked) => over,
        over = lose_patience(line, asking) => over,
    };
    if !matches!(over, Over::Closed) {
        shared.cuts.send_modify(|cuts| *cuts += 1);
    }
    match over {
        Over::Closed => {}
        Over::Cut => {
            for end in [&near_write, &far_write] {
                // A reset: a cut line says no goodbye.
                let _ = SockRef::from(end.as_ref()).set_linger(Some(Duration::ZERO));
            }
        }
        // The ends stay open until the process is over.
        Over::Vanished => std::mem::forget((near_write, far_write)),
    }
}

/// Ends when a request has been under way for longer than the line's patience.
async fn lose_patience(line: Line, mut asking: watch::Receiver<Option<Instant>>) -> Over {
    let Some(patience) = line.patience else { return std::future::pending().await };
    loop {
        let since: Option<Instant> = *asking.borrow_and_update();
        tokio::select! {
            changed = asking.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = async { sleep_until(since.unwrap() + patience).await }, if since.is_some() => return Over::Cut,
        }
    }
}

/// Carries one direction (0 up, 1 down): reading, the bottleneck, the way, writing.
async fn flow(
    way: usize,
    line: Line,
    shared: &Shared,
    from: OwnedReadHalf,
    to: &OwnedWriteHalf,
    asked: Arc<watch::Sender<Option<Instant>>>,
) -> Over {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let limit = if way == 0 { line.cut_up } else { line.cut_down };
    let vanish = line.vanish_up.filter(|_| way == 0);
    let sending = async {
        let mut sum = 0;
        loop {
            let mut piece = vec![0; PIECE];
            let count = loop {
                if from.readable().await.is_err() {
                    return Over::Closed;
                }
                match from.try_read(&mut piece) {
                    Ok(0) => break 0,
                    Ok(count) => break count,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return Over::Closed,
                }
            };
            piece.truncate(count);
            sum += count as u64;
            let through = pass_bottleneck(way, line, shared, count);
            if count == 0 {
                let _ = put.send((through + line.delay, piece)).await;
                return std::future::pending().await; // the other half sees the end when it arrives there
            }
            shared.bytes[way].fetch_add(count as u64, Ordering::SeqCst);
            match way {
                0 => asked.send_if_modified(|since| since.replace(since.unwrap_or_else(Instant::now)).is_none()),
                _ => asked.send_replace(None).is_some(),
            };
            if limit.is_some_and(|limit| sum >= limit) {
                return Over::Cut;
            }
            if vanish.is_some_and(|limit| sum >= limit) {
                return Over::Vanished;
            }
            sleep_until(through).await;
            if put.send((through + line.delay, piece)).await.is_err() {
                return Over::Closed;
            }
        }
    };
    let arriving = async {
        let mut frozen = shared.frozen.subscribe();
        while let Some((at, piece)) = take.recv().await {
            sleep_until(at).await;
            if frozen.wait_for(|frozen| !frozen).await.is_err() || piece.is_empty() {
                return Over::Closed;
            }
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                if to.writable().await.is_err() {
                    return Over::Closed;
                }
                match to.try_write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return Over::Closed,
                }
            }
        }
        Over::Closed
    };
    tokio::select! {
        over = sending => over,
        over = arriving => over,
    }
}

/// When these bytes are through the bottleneck.
fn pass_bottleneck(way: usize, line: Line, shared: &Shared, count: usize) -> Instant {
    let mut free = shared.free[way].lock().unwrap();
    let needed = match line.rate {
        0 => Duration::ZERO,
        rate => Duration::from_micros(count as u64 * 8_000_000 / rate),
    };
    *free = (*free).max(Instant::now()) + needed;
    *free
}
