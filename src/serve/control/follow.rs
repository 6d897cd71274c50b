//! The reads over the control socket, as they become durable: a line of JSON each, until one side
//! disconnects.
//!
//! | line | what it says |
//! |---|---|
//! | `{"read": {…}}` | a read, as a search tells it, without what became of it |
//! | `{"gap": {"first": N, "last": N}}` | the log does not have these entries: pruned, or lost |
//! | `{"at": N}` | everything up to this entry was looked at; also a sign of life |
//!
//! Must hold: a client that goes on after the last entry that it was told misses nothing. A client that
//! reads nothing for [`TAKING`] is disconnected, and slows nobody meanwhile.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::request::{ANSWER_LIMIT, ANSWER_TIME, ControlError, ControlRequest, failed, socket_path};
use crate::export::found::{FoundRead, Sought};
use crate::journal::reader::News;
use crate::serve::ops::Following;

/// How long a client may read nothing.
const TAKING: Duration = Duration::from_secs(60);
/// The longest silence. A client that hears nothing for three times as long may take the connection
/// for dead.
const ALIVE: Duration = Duration::from_secs(5);
/// Longest line, in bytes. A frame has at most 256 KiB, and a chip is a part of one.
const LINE_MAX: u64 = 4 << 20;

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FollowedLine {
    /// A read.
    Read(Box<FoundRead>),
    /// Entries that the log does not have.
    Gap {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Everything up to this entry was looked at.
    At(u64),
}

/// The reads that a client asked for.
pub(super) struct Followed {
    following: Following,
    what: Sought,
    decoder: Option<String>,
}

impl Followed {
    pub(super) fn new(following: Following, what: Sought, decoder: Option<String>) -> Self {
        Self { following, what, decoder }
    }

    /// The lines for some news.
    fn lines(&self, news: &News, lines: &mut Vec<u8>) -> io::Result<()> {
        match news {
            News::Gap { first, last } => line(&FollowedLine::Gap { first: first.0, last: last.0 }, lines),
            News::Entries(entries) => entries.iter().try_for_each(|entry| {
                let read = self.following.finder.arrived(entry, &self.what, self.decoder.as_deref());
                read.map_or(Ok(()), |read| line(&FollowedLine::Read(Box::new(read)), lines))
            }),
        }
    }
}

fn line(told: &FollowedLine, lines: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, told)?;
    lines.push(b'\n');
    Ok(())
}

/// Sends the reads, until the client disconnects.
pub(super) async fn stream(
    mut followed: Followed,
    mut client: impl AsyncBufRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut lines = Vec::new(); // of one group, or one step of the segments
    let mut alive = Instant::now() + ALIVE;
    loop {
        tokio::select! {
            news = timeout_at(alive, followed.following.reader.next()) => if let Ok(news) = news {
                let Some(news) = news? else { return Ok(()) }; // the journal is closed
                followed.lines(&news, &mut lines)?;
            },
            _ = client.fill_buf() => return Ok(()), // it disconnected, or sent something that is not expected now
        }
        if lines.is_empty() && Instant::now() >= alive {
            line(&FollowedLine::At(followed.following.reader.at().0 - 1), &mut lines)?;
        }
        if !lines.is_empty() {
            timeout(TAKING, out.write_all(&lines)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            lines.clear();
            alive = Instant::now() + ALIVE;
        }
    }
}

/// The client's end.
pub(crate) struct FollowStream {
    lines: BufReader<UnixStream>,
    /// The last entry that was durable when it began.
    pub durable: u64,
    /// The part of the next line that has arrived.
    line: Vec<u8>,
}

/// Asks the daemon of `data_dir` for its reads after entry `after`.
///
/// # Errors
/// [`ControlError`] unless the daemon answered.
pub(crate) async fn follow(
    data_dir: &Path,
    after: u64,
    what: &Sought,
    decoder: Option<&str>,
) -> Result<FollowStream, ControlError> {
    let path = socket_path(data_dir);
    let request = ControlRequest::Follow { after, what: what.clone(), decoder: decoder.map(str::to_owned) };
    let asking = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let (mut lines, mut line) = (BufReader::new(stream), Vec::new());
        (&mut lines).take(ANSWER_LIMIT).read_until(b'\n', &mut line).await?;
        Ok((serde_json::from_slice::<Value>(&line)?, lines))
    };
    let answered: io::Result<_> =
        timeout(ANSWER_TIME, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (answer, lines) = answered.map_err(|error| failed(&path, &error))?;
    match answer.get("durable").and_then(Value::as_u64) {
        Some(durable) => Ok(FollowStream { lines, durable, line: Vec::new() }),
        None => {
            let why = answer.get("error").and_then(Value::as_str).unwrap_or("it answers in another way").to_owned();
            Err(ControlError::NoAnswer { path, why })
        }
    }
}

impl FollowStream {
    /// What comes next. `None`: the daemon ended, or it is silent for too long. The future may be
    /// dropped and requested again.
    pub(crate) async fn next(&mut self) -> Option<FollowedLine> {
        let room = LINE_MAX.saturating_sub(self.line.len() as u64);
        let mut limited = (&mut self.lines).take(room);
        let read = timeout(3 * ALIVE, limited.read_until(b'\n', &mut self.line)).await;
        if !matches!(read, Ok(Ok(_))) || !self.line.ends_with(b"\n") {
            return None;
        }
        let told = serde_json::from_slice(&self.line).ok();
        self.line.clear();
        told
    }
}
