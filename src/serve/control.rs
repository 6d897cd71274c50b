//! The control socket, through which commands ask the running daemon. A request is one line of
//! JSON, and so is an answer.
//!
//! This is a thin adapter: it reads a request, calls [`Ops`] for it, and writes the result in the
//! words of the protocol ([`ControlRequest`]). [`Ops`] defines what a command does and what it may
//! do.
//!
//! Must hold: only users who may open the socket (mode 0660: the user and the group of the service)
//! may ask, and nobody else at any moment. A client that sends nothing, sends too much, or never
//! reads costs a bounded buffer for a bounded time.
//!
//! The socket is in the data directory. While the directory cannot be used there is no socket, and
//! a socket that somebody removes is made again. Meanwhile only the status is available, from the
//! page ([`status`]).
//!
//! Rejected: asking over HTTP in the first place. The page may be switched off, and a local command
//! should need no token.

mod capture;
pub(crate) mod follow;
mod request;
mod session;

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
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use self::capture::{Answered, Stream, capture};
use self::request::{ANSWER_LIMIT, ANSWER_TIME, failed};
pub use self::request::{ControlError, ControlRequest, socket_path};
pub(crate) use self::session::{Changed, Named, SessionRefusal, changed};
use crate::cloud::audit::adopt::Adopted;
use crate::cloud::uplink::Wanted;
use crate::config::Config;
use crate::journal::Journal;
use crate::journal::set_aside::SetAsideError;
use crate::link::capture::tap::Recording;
use crate::serve::invite::{Invitation, LIFE};
use crate::serve::ops::{Capturing, DecoderRefusal, Ops, OpsError};
use crate::serve::web;
use crate::status::ProblemCode;

/// Longest request, in bytes.
const REQUEST_LIMIT: u64 = 64 << 10;
/// Most clients at once. The next one waits.
const CLIENTS: usize = 16;
/// The connection of a client that is silent for this long is closed.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// The users who may ask: the service's user and group.
const MODE: Mode = Mode::from_raw_mode(0o660);
/// Most connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// How often the daemon checks whether the socket still has its name, or can be made now.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 2 });

/// The daemon's end of the socket.
pub(crate) struct Socket {
    path: PathBuf,
    ops: Ops,
    /// `None` if the socket could not be made yet.
    listening: Option<Listening>,
}

impl Socket {
    /// The socket of `data_dir`, on which nobody listens yet.
    pub(crate) fn new(data_dir: &Path, ops: Ops) -> Self {
        Self { path: socket_path(data_dir), ops, listening: None }
    }

    /// The same socket, whose commands can also use the journal.
    #[must_use]
    pub(crate) fn with_journal(self, journal: Journal) -> Self {
        Self { ops: self.ops.with_journal(journal), ..self }
    }

    /// Listens from now on, and replaces a socket that a killed process left behind. The caller has
    /// the lock of the data directory, so no other daemon listens there. If the socket cannot be
    /// made (its path is longer than the 107 bytes that are allowed, or the directory is gone),
    /// that is shown as a problem, and [`Socket::serve`] tries again.
    pub(crate) fn bind(&mut self) {
        match Listening::bind(&self.path) {
            Ok(listening) => {
                self.listening = Some(listening);
                self.ops.board().clear(ProblemCode::ControlSocket, "");
            }
            Err(error) => {
                let message = format!(
                    "the control socket {} cannot be made ({error}); it is tried again by itself. Until then `passbridge status` \
                     asks the page, and rewind, capture and audit --repair do not reach this process. Reads are not affected",
                    self.path.display()
                );
                self.ops.board().raise(ProblemCode::ControlSocket, "", message);
            }
        }
    }

    /// Answers requests until `stop`.
    pub(crate) async fn serve(mut self, stop: CancellationToken) {
        let ops = Arc::new(self.ops.clone());
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
                    let (ops, stop) = (Arc::clone(&ops), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            // If a client disconnects in the middle, that is no error of the
                            // daemon.
                            _ = answer(stream, &ops) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    // The process has no file descriptors left, and the loop must not spin.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// A socket with a name. Its file is removed when the value is dropped.
struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file.
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

    /// Whether a client that connects to the path reaches this socket.
    fn is_named(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // A file that stays behind is removed at the next start. A file of another socket must not
        // be removed here.
        if self.is_named() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a socket whose file never has more rights than [`MODE`]. For the file Linux takes the mode
/// of the unnamed socket, less the umask. The rights that the umask took from the group are
/// restored while nobody can connect yet.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = named(path)?;
    chmod(path, MODE)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// A socket with a name, which does not listen yet.
fn named(path: &Path) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, MODE)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

async fn answer(stream: UnixStream, ops: &Ops) -> io::Result<()> {
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
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => {
                let order = ControlRequest::is_order(&request);
                tokio::select! {
                    reply = carry_out(request, ops) => reply?,
                    () = left(&mut read), if order => return Ok(()),
                }
            }
            Err(_) if !whole && line.len() as u64 == REQUEST_LIMIT => failure("the request is too long").into(),
            // The command may be of another version than the daemon.
            Err(error) => failure(format!(
                "no such request: {error}. The passbridge that runs has version {}: after an update it has to be restarted",
                env!("CARGO_PKG_VERSION")
            ))
            .into(),
        };
        let mut text = serde_json::to_vec(&reply.line)?;
        text.push(b'\n');
        timeout(ANSWER_TIME, write.write_all(&text)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        match reply.then {
            None => {}
            Some(Then::Capture(recording)) => return capture::stream(recording, read, write).await,
            Some(Then::Follow(following)) => return follow::stream(*following, read, write).await,
        }
        if !whole {
            return Ok(());
        }
    }
}

/// Waits until the client ends its side of the connection. If it has sent more, its end is not seen.
async fn left(read: &mut (impl AsyncBufReadExt + Unpin)) {
    if read.fill_buf().await.is_ok_and(|sent| !sent.is_empty()) {
        std::future::pending().await
    }
}

/// The answer to a client.
struct Reply {
    line: Value,
    /// What is sent after the line, until the client disconnects.
    then: Option<Then>,
}

/// What follows an answer.
enum Then {
    /// A capture.
    Capture(Recording),
    /// The reads.
    Follow(Box<follow::Followed>),
}

impl From<Value> for Reply {
    fn from(line: Value) -> Self {
        Self { line, then: None }
    }
}

/// Does what the request asks for, and returns the result in the words of the protocol.
async fn carry_out(request: ControlRequest, ops: &Ops) -> io::Result<Reply> {
    let done = match request {
        ControlRequest::Status => Ok(serde_json::to_value(ops.status())?),
        ControlRequest::Reads { limit } => Ok(json!({ "reads": ops.reads(limit) })),
        ControlRequest::Invite => Ok(match ops.invite() {
            Ok(Invitation { token, listen }) => json!({ "token": token, "valid_s": LIFE.as_secs(), "listen": listen }),
            Err(why) => json!({ "refused": why.to_string() }),
        }),
        ControlRequest::Durable => Ok(json!({ "durable": ops.durable().await })),
        ControlRequest::Repair { device, session } => {
            ops.repair(&device, session).await.map(|repaired| Value::from(&repaired))
        }
        ControlRequest::Adopt { from, to } => ops.adopt(from, &to).await.map(|Adopted { moved, settled, left, why }| {
            json!({ "moved": moved, "settled": settled, "left": left, "why": why })
        }),
        ControlRequest::Audited { audited } => ops.audited(audited).await.map(|()| json!({ "known": true })),
        ControlRequest::TryAgain => Ok(json!({ "tried": ops.try_again() })),
        ControlRequest::LetGo { decoder } => {
            ops.let_go(decoder.as_deref()).await.map(|count| json!({ "let_go": count, "running": true }))
        }
        ControlRequest::Correct { decoder, correction } => {
            ops.correct(&decoder, correction).await.map(|entry| json!({ "entry": entry }))
        }
        ControlRequest::SendAgain { device, order } => {
            ops.send_again(&device, order).await.map(|()| json!({ "ordered": true }))
        }
        ControlRequest::Hold { by } => ops.hold(&by).await.map(|()| json!({ "held": true })),
        ControlRequest::Release { how, by } => ops.release(how, &by).await.map(|reads| json!({ "released": reads })),
        ControlRequest::Resend { device, range, by } => {
            ops.resend(&device, range, &by).await.map(|resent| json!({ "resent": resent }))
        }
        ControlRequest::Marker { text, decoder, by } => {
            let marked = ops.marker(&text, decoder.as_deref(), &by).await;
            marked.map(|marked| json!({ "seq": marked.seq.0, "at": marked.at }))
        }
        ControlRequest::RestartLink { decoder, by } => Ok(match ops.restart_link(&decoder, &by).await {
            Ok(()) => json!({ "decoder": decoder, "answer": "restarted" }),
            Err(refusal) => refused(&decoder, &refusal),
        }),
        ControlRequest::SetAside => ops.set_aside().await.map(|all| json!({ "set_aside": all })),
        ControlRequest::SetAsideRelease { ids, by } => {
            ops.release_set_aside(&ids, &by).await.map(|count| json!({ "count": count }))
        }
        ControlRequest::SetAsideDrop { ids, by } => {
            ops.drop_set_aside(&ids, &by).await.map(|count| json!({ "count": count }))
        }
        ControlRequest::Seen { code, about, by } => {
            ops.seen(&code, &about, &by).await.map(|()| json!({ "seen": true }))
        }
        ControlRequest::Room => ops.room().await.map(|room| json!(room)),
        ControlRequest::MakeRoom { through, by } => ops.make_room(through, &by).await.map(|freed| json!(freed)),
        ControlRequest::SessionOpen { device, alias, ends, by } => {
            session::answer(ops.session(&device, Wanted::Open { alias: alias.into(), ends }, &by).await)
        }
        ControlRequest::SessionClose { device, token, by } => {
            session::answer(ops.session(&device, Wanted::Close { token: token.into() }, &by).await)
        }
        ControlRequest::Rewind { decoder, range } => Ok(match ops.rewind(&decoder, &range).await {
            Ok(()) => json!({ "decoder": decoder, "answer": "asked" }),
            Err(refusal) => refused(&decoder, &refusal),
        }),
        ControlRequest::Search { query } => ops.search(query).await.map(|answer| json!(answer)),
        ControlRequest::Follow { after, what, decoder } => match ops.follow(after) {
            Ok(following) => {
                let line = json!({ "following": true, "durable": following.durable });
                let followed = follow::Followed::new(following, what, decoder);
                return Ok(Reply { line, then: Some(Then::Follow(Box::new(followed))) });
            }
            Err(error) => Err(error),
        },
        ControlRequest::Capture { decoder } => match ops.capture(&decoder) {
            Ok(Capturing { header, recording }) => {
                let line = json!({ "decoder": decoder, "answer": "recording", "header": header });
                return Ok(Reply { line, then: Some(Then::Capture(recording)) });
            }
            Err(refusal) => Ok(refused(&decoder, &refusal)),
        },
    };
    Ok(done.unwrap_or_else(|error| refusal(&error)).into())
}

/// The answer to an order that was not carried out. With an exit code, a command shows the words as
/// they are.
fn refusal(error: &OpsError) -> Value {
    let code = match error {
        OpsError::MarkerText | OpsError::Decoder(_) | OpsError::NoSuchLoss(_) => 64,
        OpsError::SetAside(SetAsideError::NoSuch(_) | SetAsideError::Unknown(_)) => 64,
        OpsError::SetAside(SetAsideError::Log(_)) | OpsError::Log(_) => 74,
        OpsError::Hold(_) | OpsError::OnHold | OpsError::SetAside(_) => 69,
        _ => return failure(error),
    };
    json!({ "error": error.to_string(), "exit": code })
}

/// The answer to a request that was not carried out.
fn failure(why: impl ToString) -> Value {
    json!({ "error": why.to_string() })
}

/// The answer if the decoder was not asked.
fn refused(decoder: &str, refusal: &DecoderRefusal) -> Value {
    let answer = match refusal {
        DecoderRefusal::Unknown { .. } => "unknown",
        DecoderRefusal::NotConnected => "not_connected",
        DecoderRefusal::Refused(_) => "refused",
    };
    json!({ "decoder": decoder, "answer": answer, "why": refusal.to_string() })
}

/// Asks the daemon of `data_dir`.
///
/// # Errors
/// [`ControlError`] unless the daemon answered.
pub async fn ask(data_dir: &Path, request: ControlRequest) -> Result<Value, ControlError> {
    let path = socket_path(data_dir);
    let patience = request.patience();
    let asking = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = Vec::new();
        BufReader::new(stream).take(ANSWER_LIMIT).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::Error::other("it ended the connection"));
        }
        Ok(serde_json::from_slice::<Value>(&line)?)
    };
    let answered: io::Result<Value> = timeout(patience, asking)
        .await
        .unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {} s", patience.as_secs()))));
    let value = answered.map_err(|error| failed(&path, &error))?;
    match value.get("error").and_then(Value::as_str) {
        Some(why) => Err(match value.get("exit").and_then(Value::as_u64) {
            Some(code) => ControlError::Refused { why: why.to_owned(), code },
            None => ControlError::NotDone(why.to_owned()),
        }),
        None => Ok(value),
    }
}

/// The last entry of the log that would survive a power cut, as the daemon of this data directory
/// reports it. If no daemon runs, it is all entries.
///
/// # Errors
/// Like [`ask`], but it is no error if no daemon runs.
pub(crate) async fn durable(data_dir: &Path) -> Result<u64, ControlError> {
    match ask(data_dir, ControlRequest::Durable).await {
        Ok(answer) => Ok(answer.get("durable").and_then(Value::as_u64).unwrap_or(0)),
        Err(ControlError::NotRunning(_)) => Ok(u64::MAX),
        Err(error) => Err(error),
    }
}

/// The status of the daemon that the configuration describes: through its socket, or from its page
/// if there is no socket.
///
/// # Errors
/// Like [`ask`].
pub(crate) async fn status(config: &Config) -> Result<Value, ControlError> {
    match ask(&config.data_dir, ControlRequest::Status).await {
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

    use tokio::sync::watch;

    use super::*;
    use crate::config::failure::Failure;
    use crate::serve::ops::{Decoders, Repairs};
    use crate::status::{Board, Snapshot};

    fn serve(dir: &Path) -> (Board, CancellationToken, tokio::task::JoinHandle<()>) {
        let (board, stop) = (Board::new("finish"), CancellationToken::new());
        let ops = Ops::new(board.clone(), Repairs::new(), Decoders::new(), watch::Sender::default());
        let mut socket = Socket::new(dir, ops);
        socket.bind();
        let task = tokio::spawn(socket.serve(stop.clone()));
        (board, stop, task)
    }

    #[tokio::test]
    async fn a_command_is_told_what_the_board_knows() {
        let dir = tempfile::tempdir().unwrap();
        let (board, _stop, _task) = serve(dir.path());
        board.journal(|journal| journal.durable = 17);
        let status = ask(dir.path(), ControlRequest::Status).await.unwrap();
        assert_eq!(serde_json::from_value::<Snapshot>(status).unwrap().name, "finish");
        assert_eq!(ask(dir.path(), ControlRequest::Durable).await.unwrap(), json!({ "durable": 17 }));
        let mode = std::fs::metadata(socket_path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_said_to_be_so_also_after_it_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(ask(dir.path(), ControlRequest::Status).await, Err(ControlError::NotRunning(_))));
        let socket = std::os::unix::net::UnixListener::bind(socket_path(dir.path())).unwrap();
        drop(socket); // the file stays, as after kill -9
        let error = ask(dir.path(), ControlRequest::Status).await.unwrap_err();
        assert!(matches!(error, ControlError::NotRunning(_)));
        assert_eq!(Failure::from(error).exit_code(), 69);
        let (_board, stop, task) = serve(dir.path());
        ask(dir.path(), ControlRequest::Status).await.unwrap();
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
            while ask(&comes, ControlRequest::Durable).await.is_err() {
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
        ask(dir.path(), ControlRequest::Status).await.unwrap();
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
            board.raise(ProblemCode::Configuration, &at.to_string(), "x".repeat(1000)); // no answer fits into the socket's buffer
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
        let asking = async { while ask(dir.path(), ControlRequest::Durable).await.is_err() {} };
        timeout(Duration::from_secs(30), asking).await.expect("places come back");
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(30), silent[0].read_to_end(&mut rest)).await;
        assert_eq!(ended.expect("it is let go").unwrap(), 0);
    }

    #[tokio::test]
    async fn an_order_whose_client_leaves_is_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let (orders, mut ordered) = tokio::sync::mpsc::channel(1);
        let ops = Ops::new(Board::new("finish"), Repairs::new(), Decoders::new(), watch::Sender::default())
            .with_sessions([("A".into(), orders)].into());
        let mut socket = Socket::new(dir.path(), ops);
        socket.bind();
        let _task = tokio::spawn(socket.serve(CancellationToken::new()));
        let place = dir.path().to_owned();
        let request = ControlRequest::SessionClose { device: "A".into(), token: "T".into(), by: "me".into() };
        let client = tokio::spawn(async move { ask(&place, request).await });
        let mut order = ordered.recv().await.unwrap();
        assert!(!order.done.is_closed(), "the client waits");
        client.abort();
        timeout(Duration::from_secs(30), order.done.closed()).await.expect("the client is gone");
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
        ask(dir.path(), ControlRequest::Status).await.unwrap();
        assert!(!task.is_finished());
    }
}
