//! Plays the decoder's direction of a capture file, connection by connection, at its own or another
//! pace.
//!
//! What must hold:
//! * The bytes are those of the file, in their order and pieces. The bytes that the other side
//!   sends are read and dropped.
//! * A connection that the file closes is closed. If the other side leaves a connection early, the
//!   player continues it when the other side connects again, so that no byte of the file is left
//!   out. A piece that was already on its way is not sent again.
//! * If the box connects, each connection of the file waits for the box. If the decoder connects,
//!   it does so at the time in the file, and not before those connections have ended that had ended
//!   then.
//! * Time is the runtime's monotonic clock. The whole file is held in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::decoder::{SimError, SimRead, Wiring};
use crate::decoders::{Frame, Item, Output, SettingError, Settings, Spec};
use crate::link::capture::{CaptureError, CaptureReader, Direction, What};

/// The player tries again after this time if a connection could not be made.
const RECONNECT: Duration = Duration::from_millis(200);
/// How long the other side may take to close its half.
const CLOSING: Duration = Duration::from_secs(5);
/// The most connections that are served at the same time.
const LINKS_MAX: usize = 16;

/// The speed of the player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// This many times the original speed.
    Times(f64),
    /// As fast as the other side takes the bytes.
    Max,
}

impl Pace {
    fn of(self, time: Duration) -> Duration {
        match self {
            Self::Times(factor) => Duration::try_from_secs_f64(time.as_secs_f64() / factor).unwrap_or(Duration::MAX),
            Self::Max => Duration::ZERO,
        }
    }
}

/// The content of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    /// All times count from the beginning of the capture.
    start: Duration,
    pieces: VecDeque<(Duration, Vec<u8>)>,
    /// When the connection was closed. `None`: it was never closed.
    end: Option<Duration>,
    /// A piece of it was sent.
    begun: bool,
}

/// The content of a capture file.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// The connections in the order of their beginnings.
    parts: Vec<Part>,
    /// The file ends in the middle of a line.
    pub cut: bool,
}

impl Script {
    /// Reads a capture to its end.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub(crate) fn read(mut capture: CaptureReader<impl BufRead>) -> Result<Self, CaptureError> {
        let mut script = Self::default();
        let mut open: BTreeMap<u32, usize> = BTreeMap::new();
        let mut now = Duration::ZERO; // never goes back
        for record in capture.by_ref() {
            let record = record?;
            now = now.max(record.at);
            if matches!(record.what, What::Connected(_)) {
                open.remove(&record.connection);
            }
            let at = *open.entry(record.connection).or_insert_with(|| {
                script.parts.push(Part { start: now, ..Part::default() });
                script.parts.len() - 1
            });
            match record.what {
                What::Bytes(Direction::From, bytes) => script.parts[at].pieces.push_back((now, bytes)),
                What::Closed(_) => {
                    script.parts[at].end = Some(now);
                    open.remove(&record.connection);
                }
                What::Bytes(Direction::To, _) | What::Connected(_) | What::Lost(..) => {}
            }
        }
        script.cut = capture.cut();
        Ok(script)
    }

    /// The reads that our own protocol finds in the capture. Nothing else here can tell the reads
    /// of a recording.
    ///
    /// # Errors
    /// An option does not fit the protocol.
    pub(crate) fn reads(&self, spec: &Spec, settings: &Settings) -> Result<Vec<SimRead>, SettingError> {
        let mut reads = Vec::new();
        for part in &self.parts {
            let (mut protocol, mut out) = ((spec.make)(settings)?, Output::default());
            part.pieces.iter().for_each(|(_, bytes)| protocol.feed(bytes, &mut out));
            protocol.end(&mut out);
            reads.extend(out.items.into_iter().filter_map(|item| match item {
                Item::Frame(framed) => match framed.frame {
                    Frame::Read(read) => Some(SimRead {
                        number: read.position.map_or(0, |position| position.number),
                        chip: (&*read.chip).into(),
                        stamp: read.stamp,
                    }),
                    _ => None,
                },
                Item::Reply(_) | Item::HangUp(_) => None,
            }));
        }
        Ok(reads)
    }
}

/// What the tasks of a player share.
struct Stage {
    pace: Pace,
    bytes: watch::Sender<u64>,
    links: watch::Sender<usize>,
    /// The number of connections of the file that are not played to their end.
    left: watch::Sender<usize>,
}

/// A capture that is being played. It stops when it is dropped.
pub(crate) struct Player {
    stage: Arc<Stage>,
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Player {
    /// Starts the player.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub(crate) async fn start(wiring: Wiring, script: Script, pace: Pace) -> Result<Self, SimError> {
        let (bytes, links) = (watch::Sender::new(0), watch::Sender::new(0));
        let stage = Arc::new(Stage { pace, bytes, links, left: watch::Sender::new(script.parts.len()) });
        let (mut tasks, mut address) = (JoinSet::new(), None);
        match wiring {
            Wiring::Listen(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(|error| SimError::Listen(wanted, error))?;
                address = listener.local_addr().ok();
                tasks.spawn(serve(Arc::clone(&stage), listener, script.parts.into()));
            }
            Wiring::Connect(target) => {
                tasks.spawn(connect(Arc::clone(&stage), target, script.parts));
            }
            Wiring::Port(mut port) => {
                let stage = Arc::clone(&stage);
                tasks.spawn(async move {
                    for mut part in script.parts {
                        let begun = Instant::now();
                        if !play(&stage, &mut port, &mut part, begun).await {
                            return; // the port was closed
                        }
                    }
                });
            }
        }
        Ok(Self { stage, address, tasks })
    }

    /// The address on which it listens, if it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The number of bytes sent. It changes with each piece.
    pub(crate) fn bytes(&self) -> watch::Receiver<u64> {
        self.stage.bytes.subscribe()
    }

    /// The number of connections that are open now.
    pub(crate) fn links(&self) -> watch::Receiver<usize> {
        self.stage.links.subscribe()
    }

    /// Whether the whole file was played.
    pub(crate) fn is_over(&self) -> bool {
        *self.stage.left.borrow() == 0
    }

    /// Stops the player and waits until its port is free.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Stage {
    fn played(&self) {
        self.left.send_modify(|left| *left -= 1);
    }
}

/// Plays the next connection of the file to each peer that connects.
async fn serve(stage: Arc<Stage>, listener: TcpListener, parts: VecDeque<Part>) {
    let parts = Arc::new(Mutex::new(parts));
    let mut links = JoinSet::new();
    while *stage.left.borrow() > 0 || !links.is_empty() {
        tokio::select! {
            accepted = listener.accept(), if links.len() < LINKS_MAX => match accepted {
                Ok((stream, _)) => {
                    stream.set_nodelay(true).ok();
                    let (stage, parts) = (Arc::clone(&stage), Arc::clone(&parts));
                    links.spawn(async move { serve_one(&stage, stream, &parts).await });
                }
                Err(_) => sleep(RECONNECT).await, // no file descriptors are left: try later
            },
            Some(_) = links.join_next() => {}
        }
    }
}

async fn serve_one(stage: &Stage, mut stream: TcpStream, parts: &Mutex<VecDeque<Part>>) {
    let queue = || parts.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut part) = queue().pop_front() else { return };
    let begun = begun(stage, &part);
    if !play(stage, &mut stream, &mut part, begun).await {
        queue().push_front(part);
    }
}

/// The time at which a connection would have begun whose next piece is due now.
fn begun(stage: &Stage, part: &Part) -> Instant {
    let next = part.pieces.front().map(|(at, _)| *at).or(part.end).unwrap_or(part.start);
    let before = if part.begun { stage.pace.of(next.saturating_sub(part.start)) } else { Duration::ZERO };
    Instant::now().checked_sub(before).unwrap_or_else(Instant::now)
}

/// Makes the connections at the times in the file.
async fn connect(stage: Arc<Stage>, target: SocketAddr, parts: Vec<Part>) {
    let first = watch::Sender::new(None::<Instant>);
    let ends: Vec<(Option<Duration>, watch::Sender<bool>)> =
        parts.iter().map(|part| (part.end, watch::Sender::new(false))).collect();
    let mut tasks = JoinSet::new();
    for (at, mut part) in parts.into_iter().enumerate() {
        let (stage, first, mut begins) = (Arc::clone(&stage), first.clone(), first.subscribe());
        let ended = ends[at].1.clone();
        let before: Vec<watch::Receiver<bool>> = ends[..at]
            .iter()
            .filter(|(end, _)| end.is_some_and(|end| end <= part.start))
            .map(|(_, ended)| ended.subscribe())
            .collect();
        tasks.spawn(async move {
            for mut ended in before {
                let _ = ended.wait_for(|ended| *ended).await; // a dropped sender has ended too
            }
            if at > 0
                && let Ok(begun) = begins.wait_for(Option::is_some).await.map(|begun| *begun)
            {
                sleep_until(begun.unwrap_or_else(Instant::now) + stage.pace.of(part.start)).await;
            }
            loop {
                if let Ok(mut stream) = TcpStream::connect(target).await {
                    stream.set_nodelay(true).ok();
                    let now = Instant::now();
                    let zero = now.checked_sub(stage.pace.of(part.start)).unwrap_or(now);
                    first.send_if_modified(|first| first.is_none() && first.replace(zero).is_none());
                    let begun = begun(&stage, &part);
                    if play(&stage, &mut stream, &mut part, begun).await {
                        break;
                    }
                }
                sleep(RECONNECT).await;
            }
            ended.send_replace(true);
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Counts a link while it is open.
struct Open<'a>(&'a watch::Sender<usize>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|links| *links -= 1);
    }
}

/// Plays the rest of a connection that began at `begun`. Returns true when it is over. A connection
/// that the file does not close stays open until the other side leaves.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(stage: &Stage, stream: S, part: &mut Part, begun: Instant) -> bool {
    stage.links.send_modify(|links| *links += 1);
    let _open = Open(&stage.links);
    let (mut hear, mut say) = tokio::io::split(stream);
    let hearing = async {
        let mut heard = [0; 4096];
        while let Ok(1..) = hear.read(&mut heard).await {}
    };
    tokio::pin!(hearing);
    let start = part.start;
    let when = |at: Duration| begun + stage.pace.of(at.saturating_sub(start));
    let mut said = false;
    let gone = tokio::select! {
        () = &mut hearing => true,
        spoken = speak(stage, &mut say, part, when, &mut said) => spoken.is_err(),
    };
    if !said {
        return false;
    }
    if !gone {
        // Closing with unread bytes would reset the connection, and a reset may lose bytes that are
        // on their way.
        let _ = timeout(CLOSING, hearing).await;
    }
    true
}

async fn speak(
    stage: &Stage,
    say: &mut (impl AsyncWrite + Unpin),
    part: &mut Part,
    when: impl Fn(Duration) -> Instant,
    said: &mut bool,
) -> io::Result<()> {
    while let Some((at, _)) = part.pieces.front() {
        wait(stage, when(*at)).await;
        let Some((_, bytes)) = part.pieces.pop_front() else { break };
        part.begun = true;
        say.write_all(&bytes).await?;
        say.flush().await?;
        stage.bytes.send_modify(|sent| *sent += bytes.len() as u64);
    }
    if let Some(end) = part.end {
        wait(stage, when(end)).await;
    }
    *said = true;
    stage.played();
    match part.end {
        Some(_) => say.shutdown().await,
        None => std::future::pending().await,
    }
}

async fn wait(stage: &Stage, until: Instant) {
    if stage.pace != Pace::Max {
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    const FILE: &str = "# passbridge capture 1\n\
        ! 10.000000 1 connected x\n\
        < 10.500000 1 a\n\
        > 11.000000 1 what we say is not played\n\
        < 14.500000 1 b\n\
        ! 16.000000 1 closed\n\
        ! 20.000000 2 connected x\n\
        < 20.000000 2 c\n";

    fn script(file: &str) -> Script {
        Script::read(CaptureReader::new(file.as_bytes()).unwrap()).unwrap()
    }

    /// The bytes that arrive from a stream, and after how many milliseconds. The last entry is the
    /// end of the stream.
    async fn heard(mut stream: impl AsyncRead + Unpin, begun: Instant) -> Vec<(String, u128)> {
        let mut all = Vec::new();
        let mut buffer = [0; 100];
        loop {
            let length = stream.read(&mut buffer).await.unwrap();
            all.push((String::from_utf8_lossy(&buffer[..length]).into_owned(), begun.elapsed().as_millis()));
            if length == 0 {
                return all;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_capture_is_played_at_its_own_pace_or_another() {
        for (pace, expected) in [
            (Pace::Times(1.0), vec![("a", 500), ("b", 4500), ("", 6000)]),
            (Pace::Times(10.0), vec![("a", 50), ("b", 450), ("", 600)]),
            (Pace::Max, vec![("ab", 0), ("", 0)]), // all bytes are taken at once
        ] {
            let (ours, theirs) = duplex(1000);
            let begun = Instant::now();
            let player = Player::start(Wiring::Port(Box::new(theirs)), script(FILE), pace).await.unwrap();
            let expected: Vec<(String, u128)> = expected.into_iter().map(|(text, at)| (text.to_owned(), at)).collect();
            assert_eq!(heard(ours, begun).await, expected, "{pace:?}");
            drop(player);
        }
    }

    async fn listening(file: &str) -> (Player, SocketAddr) {
        let wiring = Wiring::Listen(([127, 0, 0, 1], 0).into());
        let player = Player::start(wiring, script(file), Pace::Times(1.0)).await.unwrap();
        let address = player.address().unwrap();
        (player, address)
    }

    async fn byte(stream: &mut TcpStream) -> Option<char> {
        let mut byte = [0];
        let length = timeout(Duration::from_secs(20), stream.read(&mut byte)).await.expect("it comes").unwrap();
        (length > 0).then(|| byte[0].into())
    }

    #[tokio::test]
    async fn a_box_that_leaves_early_gets_the_rest_and_each_connection_of_the_file_is_one() {
        let file = "# passbridge capture 1\n< 0 1 a\n< 7200 1 b\n! 7200 1 closed\n< 7201 2 c\n";
        let (player, address) = listening(file).await;
        let mut links = player.links();
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"what the box says is dropped").await.unwrap();
        assert_eq!(byte(&mut first).await, Some('a'));
        drop(first);
        links.wait_for(|links| *links == 0).await.unwrap();
        let mut again = TcpStream::connect(address).await.unwrap();
        assert_eq!(byte(&mut again).await, Some('b'), "without the wait of two hours: the box was away");
        assert_eq!(byte(&mut again).await, None, "closed as the file says");
        drop(again);
        links.wait_for(|links| *links == 0).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(byte(&mut second).await, Some('c'));
        let played = player.stage.left.subscribe().wait_for(|left| *left == 0).await.is_ok();
        assert!(played && player.is_over());
    }

    #[tokio::test]
    async fn a_decoder_that_connects_does_so_in_the_order_of_the_file() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wiring = Wiring::Connect(listener.local_addr().unwrap());
        let player = Player::start(wiring, script(FILE), Pace::Max).await.unwrap();
        let (mut first, _) = listener.accept().await.unwrap();
        assert_eq!((byte(&mut first).await, byte(&mut first).await), (Some('a'), Some('b')));
        assert_eq!(byte(&mut first).await, None);
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        assert_eq!(byte(&mut second).await, Some('c'));
        assert!(!player.is_over() || *player.links().borrow() == 1, "it stays, as it did");
    }
}
