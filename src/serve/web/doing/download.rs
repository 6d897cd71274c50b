//! Files that a browser takes with it: the log as it is (the backup), and the reads as CSV or as a
//! CloudBox writes them.
//!
//! Must hold:
//! * Bounded: [`DOWNLOADS`] downloads at the same time, and [`CHUNKS`] pieces of [`CHUNK`] bytes of
//!   each in memory.
//! * A client that reads slowly holds up nobody. It takes nothing for [`SLOW`], or is not done after
//!   [`LONGEST`], and its download breaks off, so that the browser says that it failed.
//! * Only what is durable is in the files. They hold neither the key nor a token, because the log
//!   holds none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::hands::{DOWNLOADS, Doing};
use crate::export::{Format, Query, Reading, export};
use crate::journal::entries::Entries;
use crate::journal::log_dir;
use crate::serve::web::door::pages::no_token;
use crate::serve::web::door::{May, Visitor};

/// Bytes of a piece.
const CHUNK: usize = 64 << 10;
/// Pieces of a download that wait for its client.
const CHUNKS: usize = 2;
/// How long a client may take for a piece.
const SLOW: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// How long a download may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// A file that can be downloaded.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Backup,
    Reads(Format),
}

/// Sends a file.
pub(super) async fn download(
    State(doing): State<Doing>,
    Extension(visitor): Extension<Visitor>,
    Path(what): Path<String>,
) -> Response {
    if !matches!(visitor.may, May::Change(_)) {
        return no_token(&doing.0.door, StatusCode::FORBIDDEN);
    }
    let (kind, mime, end) = match what.as_str() {
        "backup" => (Kind::Backup, "application/x-tar", "log.tar"),
        "csv" => (Kind::Reads(Format::Csv), "text/csv; charset=utf-8", "reads.csv"),
        "cloudbox" => (Kind::Reads(Format::Cloudbox), "text/plain; charset=utf-8", "cloudbox.txt"),
        _ => return (StatusCode::NOT_FOUND, "there are backup, csv and cloudbox\n").into_response(),
    };
    let Ok(place) = Arc::clone(&doing.0.downloads).try_acquire_owned() else {
        let what = format!("{DOWNLOADS} downloads go on already. Wait until one of them is done\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], what).into_response();
    };
    let ops = doing.ops();
    let Some(data_dir) = ops.data_dir().map(FilePath::to_owned) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the journal is not open yet. Try again in a moment\n")
            .into_response();
    };
    let durable = ops.durable().await;
    let (chunks, taken) = mpsc::channel(CHUNKS);
    let (reading, runtime) = (doing.0.reading.clone(), Handle::current());
    tracing::info!("{} downloads {what}", visitor.peer.origin());
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks { chunks, buffer: Vec::with_capacity(CHUNK), runtime, end: Instant::now() + LONGEST };
        let wrote = match kind {
            Kind::Backup => backup(&data_dir, durable, &mut out),
            Kind::Reads(format) => reads(&data_dir, &reading, format, durable, &mut out),
        };
        if let Err(error) = wrote.and_then(|()| out.flush()) {
            tracing::warn!(%error, "a download broke off");
            let _ = out.give(Err(error)); // the client may be gone
        }
        drop(place);
    });
    let body = stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken)));
    let name = format!("attachment; filename=\"{}-{}-{end}\"", plain(doing.0.door.name()), day(ops.now()));
    let headers = [(header::CONTENT_TYPE, mime.to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(body)).into_response()
}

/// The day of the box, for the name of a file.
fn day(now: jiff::Timestamp) -> String {
    jiff::tz::TimeZone::system().to_datetime(now).date().to_string()
}

/// The name of the box in the name of a file.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn reads(data_dir: &FilePath, reading: &Reading, format: Format, durable: u64, out: &mut Chunks) -> io::Result<()> {
    let query = Query { durable, ..Query::default() };
    let damaged = export(data_dir, reading, format, &query, out).map_err(io::Error::other)?.damaged;
    if damaged > 0 {
        tracing::warn!("{damaged} damaged lines of the log are not in the download");
    }
    Ok(())
}

/// Writes the files of the log as one. What a copy of the directory would be is in the folder `log`.
fn backup(data_dir: &FilePath, durable: u64, out: &mut Chunks) -> io::Result<()> {
    let dir = log_dir(data_dir);
    let mut last = None;
    if let Some(mut entries) = Entries::after(&dir, durable.saturating_sub(1), durable)? {
        while entries.entry()?.is_some() {}
        last = Some(entries.place());
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&dir)?.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let mut tar = tar::Builder::new(out);
    for name in names {
        let Some(segment) = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok()) else { continue };
        let file = match File::open(dir.join(&name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // pruned meanwhile
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        // The file that is being written ends in zeros, and before them in lines that are not
        // durable yet.
        let length = match last {
            Some(last) if last.segment == segment => last.offset.min(metadata.len()),
            Some(last) if last.segment < segment => continue,
            _ => metadata.len(),
        };
        let written = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut header = tar::Header::new_ustar();
        header.set_size(length);
        header.set_mode(0o640);
        header.set_mtime(written.as_secs());
        tar.append_data(&mut header, format!("log/{name}"), file.take(length))?;
    }
    tar.finish()
}

/// Output in pieces to a client. It waits for the client, but not for long.
struct Chunks {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
    runtime: Handle,
    end: Instant,
}

impl Chunks {
    fn give(&self, chunk: io::Result<Bytes>) -> io::Result<()> {
        let sending = timeout_at(self.end, timeout(SLOW, self.chunks.send(chunk)));
        match self.runtime.block_on(sending) {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(_))) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")),
            Ok(Err(_)) | Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")),
        }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.give(Ok(chunk.into()))
    }
}
