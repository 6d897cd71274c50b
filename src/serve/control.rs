//! The control socket: how commands ask the daemon that runs. One JSON request per line, one JSON answer per line.
//!
//! Must hold: whoever may open the socket (mode 0660: the service's user and group) may ask, and nobody else at any
//! moment; nothing here changes what is kept; reads that are held back are let go, a repair sends only what an audit finds
//! missing ([`crate::cloud::audit`]), passings change their device only where two are named, and what a decoder is asked for again
//! comes as any other read. A client that says nothing, too much, or never listens costs a
//! bounded buffer for a bounded time.
//!
//! The socket is in the data directory. While that cannot be had there is no socket, and one that somebody removes is made
//! again; only the status can be had meanwhile, from the page ([`status`]).
//!
//! Rejected: asking over HTTP in the first place. The page may be switched off, and a local command should need no token.

mod capture;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, chmod, fchmod};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use self::capture::{Answered, Stream, capture};
use self::request::{ANSWER_LIMIT, ANSWER_TIME, failed};
pub use self::request::{ControlError, Request, Rewinds, socket_path};
use crate::cloud::audit::adopt::Adopted;
use crate::cloud::audit::keep::Order;
use crate::config::Config;
use crate::decoders::Range;
use crate::journal::{Audited, Journal};
use crate::link::Asked;
use crate::serve::web;
use crate::status::Board;

/// Longest request, in bytes.
const REQUEST_LIMIT: u64 = 64 << 10;
/// Clients at once; the next one waits.
const CLIENTS: usize = 16;
/// A client that is silent for so long is let go.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// Who may ask: the service's user and group.
const MODE: Mode = Mode::from_raw_mode(0o660);
/// Connections that wait to be taken.
const BACKLOG: i32 = 64;
/// How often it is looked whether the socket still has its name, or can be made now.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 2 });

/// The way to the repairs of each device.
pub type Repairs = BTreeMap<Box<str>, mpsc::Sender<Order>>;

/// What the socket's commands reach.
#[derive(Default)]
pub struct Ways {
    /// The repairs of each device.
    pub repairs: Repairs,
    /// Changed when what the cloud failed at is to be tried again now.
    pub try_again: watch::Sender<u64>,
    /// Each decoder.
    pub rewinds: Rewinds,
    /// Reads that are held back.
    pub journal: Option<Journal>,
}

/// The daemon's end.
pub struct Socket {
    path: PathBuf,
    board: Board,
    ways: Ways,
    /// `None`: it could not be made yet.
    listening: Option<Listening>,
}

impl Socket {
    /// The socket of `data_dir`, which nobody listens on yet.
    pub fn new(data_dir: &Path, board: Board, ways: Ways) -> Self {
        Self { path: socket_path(data_dir), board, ways, listening: None }
    }

    /// The same one, which knows the journal, too.
    #[must_use]
    pub fn with_journal(mut self, journal: Journal) -> Self {
        self.ways.journal = Some(journal);
        self
    }

    /// Listens from now on, in place of a socket that a killed process left behind. The caller holds the data
    /// directory's lock, so no other daemon listens there. One that cannot be made (a path longer than the 107 bytes that a
    /// socket may have, a directory that is gone) is told as a problem; [`Socket::serve`] tries again.
    pub fn bind(&mut self) {
        match Listening::bind(&self.path) {
            Ok(listening) => {
                self.listening = Some(listening);
                self.board.clear("control_socket", "");
            }
            Err(error) => {
                let message = format!(
                    "the control socket {} cannot be made ({error}); it is tried again by itself. Until then `passbridge status` \
                     asks the page, and rewind, capture and audit --repair do not reach this process. Reads are not affected",
                    self.path.display()
                );
                self.board.raise("control_socket", "", message);
            }
        }
    }

    /// Answers until `stop`.
    pub async fn serve(mut self, stop: CancellationToken) {
        let ways = Arc::new(std::mem::take(&mut self.ways));
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let accepting = async {
                match &self.listening {
                    Some(listening) => {
                        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                        (listening.listener.accept().await, place)
                    }
                    None => std::future::pending().await,
                }
            };
            let (accepted, place) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accepting => accepted,
                _ = looks.tick() => {
                    if !self.listening.as_ref().is_some_and(|listening| listening.is_named()) {
                        self.bind();
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    let (board, stop) = (self.board.clone(), stop.clone());
                    let ways = Arc::clone(&ways);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            // A client that goes away in the middle is its own matter.
                            _ = answer(stream, &board, &ways) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await; // out of descriptors: do not spin
                }
            }
        }
    }
}

/// A socket with a name. Its file is removed when it goes.
struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Listening {
    fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = listen(path)?;
        let meta = std::fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), file: (meta.dev(), meta.ino()) })
    }

    /// Whoever connects there reaches this one.
    fn is_named(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // One that stays behind is removed by the next start; one that is not ours any more is not ours to remove.
        if self.is_named() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A socket whose file never has more rights than [`MODE`]: Linux takes the mode of the unnamed socket, less the umask, for
/// the file. What the umask took from the group is given back while nobody can connect yet.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = named(path)?;
    chmod(path, MODE)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Not listening yet.
fn named(path: &Path) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, MODE)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

async fn answer(stream: UnixStream, board: &Board, ways: &Ways) -> io::Result<()> {
    let Ways { repairs, rewinds, journal, try_again } = ways;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_LIMIT);
        let reading = limited.read_until(b'\n', &mut line);
        let length = timeout(SILENCE, reading).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if length == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = match serde_json::from_slice(&line) {
            Ok(Request::Status) => serde_json::to_value(board.snapshot())?,
            Ok(Request::Durable) => json!({ "durable": board.snapshot().journal.durable }),
            Ok(Request::Repair { device, session }) => repair(repairs, &device, session).await,
            Ok(Request::Adopt { from, to }) => adopt(repairs, from, &to).await,
            Ok(Request::Audited { audited }) => audited_beside(repairs, audited).await,
            Ok(Request::Rewind { decoder, range }) => rewind(rewinds, &decoder, &range).await,
            Ok(Request::TryAgain) => {
                let count = journal.as_ref().map_or(0, Journal::parked);
                try_again.send_modify(|times| *times += 1);
                json!({ "tried": count })
            }
            Ok(Request::LetGo { decoder }) => let_go(journal.as_ref(), decoder.as_deref()).await,
            Ok(Request::Capture { decoder }) => match capture::begin(rewinds, &decoder, board) {
                Ok((recording, answer)) => {
                    timeout(ANSWER_TIME, write.write_all(format!("{answer}\n").as_bytes()))
                        .await
                        .map_err(|_| io::ErrorKind::TimedOut)??;
                    return capture::stream(recording, read, write).await;
                }
                Err(refusal) => refusal,
            },
            Err(_) if !whole && line.len() as u64 == REQUEST_LIMIT => json!({ "error": "the request is too long" }),
            Err(error) => json!({ "error": format!("no such request: {error}") }),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(ANSWER_TIME, write.write_all(&text)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if !whole {
            return Ok(());
        }
    }
}

/// Gives an order to the audits of a device and waits for what comes of it.
async fn order<T>(
    repairs: &Repairs,
    device: &str,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T, Value> {
    let stopping = || json!({ "error": "passbridge is stopping" });
    let Some(orders) = repairs.get(device) else {
        return Err(json!({ "error": format!("this passbridge does not upload for device {device}") }));
    };
    let (reply, answer) = oneshot::channel();
    // One at a time per device; the next one waits here.
    orders.send(order(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}

async fn repair(repairs: &Repairs, device: &str, session: String) -> Value {
    match order(repairs, device, |reply| Order::Repair { session, reply }).await {
        Ok(Ok(repaired)) => Value::from(&repaired),
        Ok(Err(why)) => json!({ "error": why }),
        Err(answer) => answer,
    }
}

async fn adopt(repairs: &Repairs, from: String, to: &str) -> Value {
    if repairs.contains_key(&*from) {
        return json!({ "error": format!("device {from} is in the configuration: its passings go there by themselves") });
    }
    match order(repairs, to, |reply| Order::Adopt { from, reply }).await {
        Ok(Ok(Adopted { moved, settled, left, why })) => {
            json!({ "moved": moved, "settled": settled, "left": left, "why": why })
        }
        Ok(Err(why)) => json!({ "error": why }),
        Err(answer) => answer,
    }
}

async fn audited_beside(repairs: &Repairs, audited: Audited) -> Value {
    let device = audited.device.clone();
    let known = order(repairs, &device, |reply| Order::Found { audited, reply }).await;
    known.map_or_else(|answer| answer, |()| json!({ "known": true }))
}

async fn rewind(rewinds: &Rewinds, decoder: &str, range: &Range) -> Value {
    let Some(asks) = rewinds.get(decoder) else {
        let names: Vec<&str> = rewinds.keys().map(String::as_str).collect();
        let why = format!("there is no decoder of that name; there are: {}", names.join(", "));
        return json!({ "decoder": decoder, "answer": "unknown", "why": why });
    };
    match asks.ask(range).await {
        Asked::Asked => json!({ "decoder": decoder, "answer": "asked" }),
        Asked::NotConnected => {
            let why = "it is not connected now; `passbridge status` says why. What it stores stays there";
            json!({ "decoder": decoder, "answer": "not_connected", "why": why })
        }
        Asked::Refused(why) => json!({ "decoder": decoder, "answer": "refused", "why": why }),
    }
}

async fn let_go(journal: Option<&Journal>, decoder: Option<&str>) -> Value {
    let Some(journal) = journal else { return json!({ "error": "there is no journal" }) };
    match journal.let_all_go(decoder).await {
        Ok(count) => json!({ "let_go": count, "running": true }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Asks the daemon of `data_dir`.
///
/// # Errors
/// [`ControlError`] unless the daemon answered.
pub async fn ask(data_dir: &Path, request: Request) -> Result<Value, ControlError> {
    let path = socket_path(data_dir);
    let patience = request.patience();
    let asking = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = Vec::new();
        BufReader::new(stream).take(ANSWER_LIMIT).read_until(b'\n', &mut line).await?;
        Ok(serde_json::from_slice::<Value>(&line)?)
    };
    let answered: io::Result<Value> = timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {} s", patience.as_secs()))));
    let value = answered.map_err(|error| failed(&path, &error))?;
    match value.get("error").and_then(Value::as_str) {
        Some(why) => Err(ControlError::NoAnswer { why: why.to_owned(), path }),
        None => Ok(value),
    }
}

/// The last entry of the log that would survive a power cut: what the daemon of this data directory says, and all of them
/// where none runs.
///
/// # Errors
/// As [`ask`]; not that none runs.
pub async fn durable(data_dir: &Path) -> Result<u64, ControlError> {
    match ask(data_dir, Request::Durable).await {
        Ok(answer) => Ok(answer.get("durable").and_then(Value::as_u64).unwrap_or(0)),
        Err(ControlError::NotRunning(_)) => Ok(u64::MAX),
        Err(error) => Err(error),
    }
}

/// The status of the daemon that the configuration describes: through its socket, or from its page where there is none.
///
/// # Errors
/// As [`ask`].
pub async fn status(config: &Config) -> Result<Value, ControlError> {
    match ask(&config.data_dir, Request::Status).await {
        Err(error @ ControlError::NotRunning(_)) => {
            let Some(page) = config.status.listen else { return Err(error) };
            web::ask::status(page, config.status.token.as_ref(), &config.name).await.ok_or(error)
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::failure::Failure;
    use crate::status::Snapshot;

    fn serve(dir: &Path) -> (Board, CancellationToken, tokio::task::JoinHandle<()>) {
        let (board, stop) = (Board::new("finish"), CancellationToken::new());
        let mut socket = Socket::new(dir, board.clone(), Ways::default());
        socket.bind();
        let task = tokio::spawn(socket.serve(stop.clone()));
        (board, stop, task)
    }

    #[tokio::test]
    async fn a_command_is_told_what_the_board_knows() {
        let dir = tempfile::tempdir().unwrap();
        let (board, _stop, _task) = serve(dir.path());
        board.journal(|journal| journal.durable = 17);
        let status = ask(dir.path(), Request::Status).await.unwrap();
        assert_eq!(serde_json::from_value::<Snapshot>(status).unwrap().name, "finish");
        assert_eq!(ask(dir.path(), Request::Durable).await.unwrap(), json!({ "durable": 17 }));
        let mode = std::fs::metadata(socket_path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_said_to_be_so_also_after_it_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path(), Request::Status).await, Err(ControlError::NotRunning(_))));
        let socket = std::os::unix::net::UnixListener::bind(socket_path(dir.path())).unwrap();
        drop(socket); // the file stays, as after kill -9
        let error = ask(dir.path(), Request::Status).await.unwrap_err();
        assert!(matches!(error, ControlError::NotRunning(_)));
        assert_eq!(Failure::from(error).exit_code(), 69);
        let (_board, stop, task) = serve(dir.path());
        ask(dir.path(), Request::Status).await.unwrap();
        stop.cancel();
        task.await.unwrap();
        assert!(!socket_path(dir.path()).exists());
    }

    #[tokio::test]
    async fn nonsense_gets_an_error_and_the_next_request_its_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (_board, _stop, _task) = serve(dir.path());
        let stream = UnixStream::connect(socket_path(dir.path())).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        for nonsense in ["hello\n", "\n", "{\"cmd\":\"shutdown\"}\n", "\u{fffd}\n"] {
            write.write_all(nonsense.as_bytes()).await.unwrap();
            let answer = lines.next_line().await.unwrap().unwrap();
            assert!(answer.contains("no such request"), "{answer}");
        }
        write.write_all(b"{\"cmd\":\"durable\"}\n").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"durable\":0}");
        write.write_all(&vec![b'x'; REQUEST_LIMIT as usize + 10]).await.unwrap();
        assert!(lines.next_line().await.unwrap().unwrap().contains("too long"));
        assert_eq!(lines.next_line().await.ok().flatten(), None, "the connection ends");
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_told_and_one_that_is_taken_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100));
        let (board, _stop, task) = serve(&deep);
        let told = || board.snapshot().problems.into_iter().find(|problem| problem.code == "control_socket");
        assert!(told().unwrap().message.contains(deep.to_str().unwrap()), "{:?}", told());
        let comes = dir.path().join("comes");
        let (board, _stop, second) = serve(&comes);
        let told = || board.snapshot().problems.into_iter().find(|problem| problem.code == "control_socket");
        assert!(told().is_some());
        std::fs::create_dir(&comes).unwrap();
        let answers = async || {
            while ask(&comes, Request::Durable).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), answers()).await.expect("it is made");
        assert_eq!(told(), None);
        std::fs::remove_file(socket_path(&comes)).unwrap();
        timeout(Duration::from_secs(30), answers()).await.expect("it is made again");
        assert!(!task.is_finished() && !second.is_finished());
    }

    #[tokio::test]
    async fn what_stands_in_the_place_of_the_socket_is_replaced_and_what_it_points_to_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "reads").unwrap();
        std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&precious, socket_path(dir.path())).unwrap();
        let (_board, _stop, _task) = serve(dir.path());
        ask(dir.path(), Request::Status).await.unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "reads");
        assert_eq!(std::fs::metadata(&precious).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_mode_is_narrow_before_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _socket = named(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o117, 0, "no right beyond 0660 at any moment: {mode:o}");
    }

    #[tokio::test]
    async fn clients_that_say_nothing_or_never_listen_are_let_go_and_others_get_their_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (board, _stop, _task) = serve(dir.path());
        for at in 0..200 {
            board.raise("code", &at.to_string(), "x".repeat(1000)); // no answer fits into the socket's buffer
        }
        let mut silent = Vec::new();
        for at in 0..CLIENTS {
            let mut client = UnixStream::connect(socket_path(dir.path())).await.unwrap();
            match at % 3 {
                0 => {}
                1 => client.write_all(b"{\"cmd\":").await.unwrap(),
                _ => {
                    for _ in 0..20 {
                        let _ = timeout(Duration::from_millis(10), client.write_all(b"{\"cmd\":\"status\"}\n")).await;
                    }
                }
            }
            silent.push(client);
        }
        let asking = async { while ask(dir.path(), Request::Durable).await.is_err() {} };
        timeout(Duration::from_secs(30), asking).await.expect("places come back");
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(30), silent[0].read_to_end(&mut rest)).await;
        assert_eq!(ended.expect("it is let go").unwrap(), 0);
    }

    #[tokio::test]
    async fn no_bytes_make_it_stop() {
        let dir = tempfile::tempdir().unwrap();
        let (_board, _stop, task) = serve(dir.path());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let length = random.usize(1..300);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let nested = vec![b'['; random.usize(1..REQUEST_LIMIT as usize)];
            for request in [bytes, nested] {
                let mut client = UnixStream::connect(socket_path(dir.path())).await.unwrap();
                client.write_all(&request).await.unwrap();
            }
        }
        ask(dir.path(), Request::Status).await.unwrap();
        assert!(!task.is_finished());
    }
}
