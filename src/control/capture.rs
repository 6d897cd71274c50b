//! A capture over the control socket: after the answer come lines of a capture file, until one side goes.
//!
//! A client that takes nothing for [`TAKING`] is let go; what waits for it meanwhile is bounded by the tap.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ANSWER_LIMIT, ANSWER_TIME, ControlError, Request, Rewinds, failed, io, socket_path};
use crate::capture::tap::{CAPTURES, Recording};
use crate::capture::{Header, LINE_MAX, Record, Writer, file};
use crate::status::Board;

/// How long a client may take nothing.
const TAKING: Duration = Duration::from_secs(60);

/// Begins a capture, if there is such a decoder and nobody is in the way; else the answer that says why.
pub(super) fn begin(links: &Rewinds, decoder: &str, board: &Board) -> Result<(Recording, Value), Value> {
    let refused = |answer: &str, why: String| json!({ "decoder": decoder, "answer": answer, "why": why });
    let Some(asks) = links.get(decoder) else {
        let names: Vec<&str> = links.keys().map(String::as_str).collect();
        return Err(refused("unknown", format!("there is no decoder of that name; there are: {}", names.join(", "))));
    };
    let Some(recording) = asks.tap().listen() else {
        return Err(refused("refused", format!("{CAPTURES} captures of it go on already: end one of them")));
    };
    let mut header = recording.header().clone();
    header.add("began", file::stamp(board.now()));
    let answer = json!({ "decoder": decoder, "answer": "recording", "header": header });
    Ok((recording, answer))
}

/// Sends what happens, until the client goes.
pub(super) async fn stream(
    recording: Recording,
    mut client: impl AsyncBufRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut writer = Writer::resume(Vec::new());
    loop {
        let records = tokio::select! {
            records = recording.next() => records,
            _ = client.fill_buf() => return Ok(()), // it went, or says what is not for now
        };
        records.iter().try_for_each(|record| writer.record(record))?;
        timeout(TAKING, out.write_all(&writer.taken())).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

/// The client's end of a capture.
pub struct Stream {
    lines: BufReader<UnixStream>,
    /// As far as the next one is here.
    line: Vec<u8>,
}

/// What the daemon said to the wish for a capture.
pub enum Answered {
    /// It begins.
    Recording(Header, Stream),
    /// There is no decoder of that name: why.
    Unknown(String),
    /// Not now: why.
    Refused(String),
}

/// Asks the daemon of `data_dir` for a capture of a decoder.
///
/// # Errors
/// [`ControlError`] unless the daemon answered.
pub async fn capture(data_dir: &Path, decoder: &str) -> Result<Answered, ControlError> {
    let path = socket_path(data_dir);
    let asking = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(&Request::Capture { decoder: decoder.to_owned() })?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let (mut lines, mut line) = (BufReader::new(stream), Vec::new());
        (&mut lines).take(ANSWER_LIMIT).read_until(b'\n', &mut line).await?;
        Ok((serde_json::from_slice::<Value>(&line)?, lines))
    };
    let answered: io::Result<_> =
        timeout(ANSWER_TIME, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (mut answer, lines) = answered.map_err(|error| failed(&path, &error))?;
    let why = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match answer.get("answer").and_then(Value::as_str) {
        Some("recording") => {
            let header = serde_json::from_value(answer["header"].take()).unwrap_or_default();
            Ok(Answered::Recording(header, Stream { lines, line: Vec::new() }))
        }
        Some("unknown") => Ok(Answered::Unknown(why("why"))),
        Some(_) => Ok(Answered::Refused(why("why"))),
        None => Err(ControlError::NoAnswer { why: why("error"), path }),
    }
}

impl Stream {
    /// The next record; `None` when the daemon ended the capture. May be dropped and called again.
    ///
    /// # Errors
    /// What the system says; invalid data for what is no record.
    pub async fn next(&mut self) -> io::Result<Option<Record>> {
        let room = (LINE_MAX + 1).saturating_sub(self.line.len()) as u64;
        (&mut self.lines).take(room).read_until(b'\n', &mut self.line).await?;
        let Some((b'\n', line)) = self.line.split_last() else {
            return match self.line.len() > LINE_MAX {
                true => Err(io::ErrorKind::InvalidData.into()),
                false => Ok(None),
            };
        };
        let record = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
        self.line.clear();
        record.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
