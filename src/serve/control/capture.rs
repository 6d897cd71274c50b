//! A capture over the control socket. After the answer, lines of a capture file follow until one
//! side disconnects.
//!
//! The connection of a client that reads nothing for [`TAKING`] is closed. What waits for it
//! meanwhile is bounded by the tap.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::request::{ANSWER_LIMIT, ANSWER_TIME, ControlError, ControlRequest, failed, socket_path};
use crate::link::capture::tap::Recording;
use crate::link::capture::{CaptureWriter, Header, LINE_MAX, Record};

/// How long a client may read nothing.
const TAKING: Duration = Duration::from_secs(60);
/// How long the rest of a capture may take to arrive. The queue of the tap bounds its size.
const ENDING: Duration = Duration::from_secs(3);

/// Sends what happens on the link, until the client disconnects.
pub(super) async fn stream(
    recording: Recording,
    mut client: impl AsyncBufRead + Unpin,
    mut out: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut writer = CaptureWriter::resume(Vec::new());
    let mut over = false;
    while !over {
        let records = tokio::select! {
            records = recording.next() => records,
            _ = client.fill_buf() => { // it disconnected, or sent something that is not expected now
                over = true;
                recording.rest()
            }
        };
        records.iter().try_for_each(|record| writer.record(record))?;
        timeout(TAKING, out.write_all(&writer.taken())).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    Ok(())
}

/// The client's end of a capture.
pub(crate) struct Stream {
    lines: BufReader<UnixStream>,
    /// The part of the next line that has arrived.
    line: Vec<u8>,
}

/// The answer of the daemon to a request for a capture.
pub(crate) enum Answered {
    /// The capture begins.
    Recording(Header, Stream),
    /// There is no decoder with that name. The text says why.
    Unknown(String),
    /// The capture is not possible now. The text says why.
    Refused(String),
}

/// Asks the daemon of `data_dir` for a capture of a decoder.
///
/// # Errors
/// [`ControlError`] unless the daemon answered.
pub(crate) async fn capture(data_dir: &Path, decoder: &str) -> Result<Answered, ControlError> {
    let path = socket_path(data_dir);
    let asking = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_vec(&ControlRequest::Capture { decoder: decoder.to_owned() })?;
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
    /// Ends the capture, and returns the remaining records that arrive within a moment.
    pub(crate) async fn end(mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let _ = timeout(ENDING, async {
            let _ = self.lines.get_mut().shutdown().await; // the connection may be gone
            while let Ok(Some(record)) = self.next().await {
                records.push(record);
            }
        })
        .await;
        records
    }

    /// The next record. `None` means that the daemon ended the capture. The future may be dropped
    /// and requested again.
    ///
    /// # Errors
    /// The error of the system, or invalid data for a line that is no record.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Record>> {
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

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::link::DecoderHandle;
    use crate::link::capture::tap::CAPTURES;
    use crate::link::capture::{CaptureReader, Direction, What};
    use crate::serve::control::Socket;
    use crate::serve::ops::{Decoders, Ops, Repairs};
    use crate::status::Board;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    /// A daemon's end with one decoder, `mat`.
    fn serve(dir: &Path) -> (DecoderHandle, CancellationToken) {
        let (asks, stop) = (DecoderHandle::default(), CancellationToken::new());
        let decoders: Decoders = [("mat".to_owned(), asks.clone())].into();
        let ops = Ops::new(Board::new("finish"), Repairs::new(), decoders, watch::Sender::default());
        let mut socket = Socket::new(dir, ops);
        socket.bind();
        tokio::spawn(socket.serve(stop.clone()));
        (asks, stop)
    }

    async fn begin(dir: &Path) -> Stream {
        match capture(dir, "mat").await.unwrap() {
            Answered::Recording(_, stream) => stream,
            Answered::Unknown(why) | Answered::Refused(why) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn a_client_that_never_reads_its_capture_costs_the_link_nothing_and_the_box_bounded_memory() {
        const TOTAL: usize = 32 << 20;
        let dir = tempfile::tempdir().unwrap();
        let (asks, _stop) = serve(dir.path());
        let mut stream = begin(dir.path()).await; // it reads nothing
        let line = asks.tap().connected("x");
        let (ours, mut decoder) = duplex(64 * 1024);
        let mut wire = line.around(ours);
        let sending = async {
            let chunk = [b'x'; 16 * 1024];
            for _ in 0..TOTAL / chunk.len() {
                decoder.write_all(&chunk).await.unwrap();
            }
            drop(decoder);
        };
        let mut heard = Vec::new();
        let (_, all) = tokio::join!(sending, wire.read_to_end(&mut heard));
        assert_eq!(all.unwrap(), TOTAL, "the link got every byte");
        line.closed("done");
        let (mut here, mut lost) = (0, 0);
        while let Some(record) = stream.next().await.unwrap() {
            match record.what {
                What::Bytes(Direction::From, bytes) => here += bytes.len(),
                What::Lost(Direction::From, count) => lost += usize::try_from(count).unwrap(),
                What::Closed(_) => break,
                _ => {}
            }
        }
        assert_eq!(here + lost, TOTAL, "what is not there is told");
        assert!(here < 8 << 20, "no more than the queue and the socket's buffers waited: {here}");
    }

    #[tokio::test]
    async fn who_ends_a_capture_gets_what_happened_until_then_and_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let (asks, stop) = serve(dir.path());
        let mut all = Vec::new();
        for _ in 0..CAPTURES {
            all.push(begin(dir.path()).await);
        }
        assert!(matches!(capture(dir.path(), "mat").await.unwrap(), Answered::Refused(_)));
        assert!(matches!(capture(dir.path(), "gate").await.unwrap(), Answered::Unknown(why) if why.contains("mat")));
        drop(asks.tap().connected("x"));
        assert_eq!(all.remove(0).end().await.len(), 2);
        let mut another = begin(dir.path()).await; // there is room for one more
        stop.cancel();
        assert_eq!(another.next().await.unwrap(), None, "a daemon that stops ends it");
    }

    #[tokio::test]
    async fn the_answer_to_any_program_is_json_and_then_lines_of_a_capture() {
        let dir = tempfile::tempdir().unwrap();
        let (asks, _stop) = serve(dir.path());
        let mut stream = UnixStream::connect(socket_path(dir.path())).await.unwrap();
        stream.write_all(b"{\"cmd\":\"capture\",\"decoder\":\"mat\"}\n").await.unwrap();
        let mut lines = BufReader::new(&mut stream);
        let mut answer = String::new();
        lines.read_line(&mut answer).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["answer"], "recording");
        drop(asks.tap().connected("x"));
        lines.get_mut().shutdown().await.unwrap();
        let mut file = "# passbridge capture 1\n".to_owned();
        lines.read_to_string(&mut file).await.unwrap();
        assert_eq!(CaptureReader::new(file.as_bytes()).unwrap().map(Result::unwrap).count(), 2);
    }
}
