//! Export: the log as files that people and other software read.
//!
//! It reads the log itself, beside a running daemon or without one; nothing of it is held in memory but, per read, where
//! its upload stands (one pass collects that, a second writes). Only durable entries are exported: the caller
//! says up to which number, because the last lines of the file may not have been synced yet.
//!
//! Formats:
//! * `jsonl`: one object per kept frame, the contract of design.md.
//! * `csv`: the same as a table.
//! * `cloudbox`: what a RUFUS CloudBox writes into its backup file (facts: facts/cloudbox.md §3, §5): JSON objects one
//!   after another, wall time of the decoder's zone. Without `chksum`: its algorithm is not published.
//! * `raw`: the bytes as received, a line each, as `decode` and `simulate` take them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::chip::{ChipRead, Label, Marker, Position, Stamp};
use crate::clock;
use crate::config::TagCode;
use crate::escape::escape;
use crate::journal::entry::{Body, Entry};
use crate::journal::log::{Line, Reader};
use crate::journal::{Found, Item, UploadEvent, log_dir};
use crate::lane;
use crate::passing::chip_code;

/// How the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per kept frame.
    Jsonl,
    /// A table with a header.
    Csv,
    /// The backup file of a RUFUS CloudBox.
    Cloudbox,
    /// The bytes as received, a line each.
    Raw,
}

/// What is exported.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Not before this instant (a read's own time; the receive time of other frames).
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// Only this decoder with all its lanes, or only this lane.
    pub decoder: Option<String>,
    /// Up to this entry.
    pub durable: u64,
}

/// What the configuration says about reading stamps and chips.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Zone of each decoder's clock; UTC for one that is not here. A lane has that of its decoder.
    pub zones: BTreeMap<Box<str>, TimeZone>,
    /// How an EPC becomes a chip code.
    pub tag: TagCode,
}

impl Reading {
    fn zone(&self, lane: &str) -> &TimeZone {
        const UTC: &TimeZone = &TimeZone::UTC;
        self.zones.get(lane::decoder(lane)).unwrap_or(UTC)
    }
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames written.
    pub frames: u64,
    /// Lines of the log that are damaged and cost themselves.
    pub damaged: u64,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no journal.
    #[error("there is no journal in {0}: is data_dir right?")]
    NoJournal(std::path::PathBuf),
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Read(io::Error),
    /// The output could not be written.
    #[error("the export could not be written: {0}")]
    Write(#[from] io::Error),
}

/// Markers of decoders that number them which are remembered, to see which come again.
const MARKERS_MAX: usize = 65_536;

/// Where a read's upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadMark {
    /// Not acknowledged yet.
    Pending,
    /// The cloud holds it.
    Sent,
    /// The cloud refused it; set aside.
    Quarantined,
    /// No passing of its own: dead time or a repeat.
    Suppressed,
    /// It may be of another race: it waits until somebody lets it go.
    HeldBack,
}

#[derive(Clone, Copy)]
struct Standing {
    mark: UploadMark,
    /// Index into [`Standings::tokens`].
    token: u32,
    num: u64,
    /// As it was uploaded, in ms.
    time_ms: i64,
}

/// Where the upload of every read stands, from the log.
#[derive(Default)]
pub struct Standings {
    by_seq: HashMap<u64, Standing>,
    tokens: Vec<Box<str>>,
    /// Steps of the box's clock, each with the number of its entry.
    steps: Vec<(u64, clock::Step)>,
    /// Markers that their decoder numbers, as seen: one that comes again is a repeat. At most [`MARKERS_MAX`].
    markers: HashSet<(Box<str>, Box<str>, Position)>,
    /// Reads that were held back and let go: the entry that each has been since.
    let_go: HashMap<u64, u64>,
    /// Items in flight per device: number to sequence number.
    open: HashMap<Box<str>, BTreeMap<u64, u64>>,
}

impl Standings {
    fn apply(&mut self, event: &UploadEvent) {
        match event {
            UploadEvent::Joined { .. } | UploadEvent::Audited(_) | UploadEvent::Moved { .. } => {}
            UploadEvent::Batch(batch) => {
                // A batch is formed only when the one before is settled, also if the line that says so was lost.
                self.settle(&batch.device, 0, u64::MAX, UploadMark::Sent);
                let token = self.token(&batch.session);
                for &Item { seq, num, time_ms, .. } in &batch.items {
                    self.by_seq.insert(seq.0, Standing { mark: UploadMark::Pending, token, num, time_ms });
                }
                for &Found { seq, ref session, num, time_ms, .. } in &batch.found {
                    let token = self.token(session);
                    self.by_seq.insert(seq.0, Standing { mark: UploadMark::Sent, token, num, time_ms });
                }
                for seq in batch.dead.iter().chain(&batch.repeats) {
                    let standing = Standing { mark: UploadMark::Suppressed, token: 0, num: 0, time_ms: 0 };
                    self.by_seq.insert(seq.0, standing);
                }
                let open = batch.items.iter().map(|item| (item.num, item.seq.0)).collect();
                self.open.insert(batch.device.clone(), open);
            }
            UploadEvent::Accepted { device, first, last, .. } => self.settle(device, *first, *last, UploadMark::Sent),
            UploadEvent::Quarantined { device, num, .. } => self.settle(device, *num, *num, UploadMark::Quarantined),
            UploadEvent::Released { device, first, last } => self.settle(device, *first, *last, UploadMark::Pending),
        }
    }

    /// A marker that was kept before: its decoder gave it again.
    fn marker(&mut self, entry: &Entry, marker: &Marker) {
        let Some(position) = marker.position.clone().filter(|_| marker.through.is_none()) else { return };
        let what = format!("{}\t{}", marker.kind, marker.stamp.as_ref().map(Stamp::to_string).unwrap_or_default());
        let is_new = self.markers.insert((lane::decoder(&entry.subject).into(), what.into(), position));
        if !is_new {
            let standing = Standing { mark: UploadMark::Suppressed, token: 0, num: 0, time_ms: 0 };
            self.by_seq.insert(entry.seq, standing);
        }
        if self.markers.len() > MARKERS_MAX {
            self.markers.clear();
        }
    }

    /// The entry that a read has been since it was let go, if it was held back.
    fn now(&self, seq: u64) -> u64 {
        self.let_go.get(&seq).copied().unwrap_or(seq)
    }

    /// Index of a session's token.
    fn token(&mut self, session: &str) -> u32 {
        let at = self.tokens.iter().rposition(|token| **token == *session).unwrap_or_else(|| {
            self.tokens.push(session.into());
            self.tokens.len() - 1
        });
        at as u32
    }

    fn settle(&mut self, device: &str, first: u64, last: u64, mark: UploadMark) {
        let Some(open) = self.open.get_mut(device) else { return };
        for seq in open.extract_if(first..=last, |_, _| true).map(|(_, seq)| seq) {
            match self.by_seq.get_mut(&seq) {
                // Released: it has no number until the next batch.
                Some(_) if mark == UploadMark::Pending => drop(self.by_seq.remove(&seq)),
                Some(standing) => standing.mark = mark,
                None => {}
            }
        }
    }
}

/// One kept frame, as JSON and as a table row.
#[derive(Debug, Serialize)]
struct Row<'a> {
    seq: u64,
    decoder: &'a str,
    kind: &'static str,
    chip: Option<&'a str>,
    time: Option<String>,
    decoder_time: Option<String>,
    received: String,
    antenna: Option<&'a Label>,
    rssi: Option<i32>,
    hits: Option<u32>,
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    raw: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    upload: Option<UploadColumn<'a>>,
}

#[derive(Debug, Serialize)]
struct UploadColumn<'a> {
    state: UploadMark,
    token_session: Option<&'a str>,
    num_passing: Option<u64>,
}

/// The object of a CloudBox's backup file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CloudboxPassing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    epc: Option<&'a str>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    antenna: Option<&'a Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rssi: Option<i32>,
    passing_number: u64,
    tag_str: &'a str,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

/// Writes what the query asks for.
pub fn export(
    data_dir: &Path,
    reading: &Reading,
    format: Format,
    query: &Query,
    out: &mut impl Write,
) -> Result<Summary, ExportError> {
    let mut standings = Standings::default();
    let damaged = for_each(data_dir, query.durable, |entry| {
        match &entry.body {
            Body::Upload(event) => standings.apply(event),
            Body::Clock(step) => standings.steps.push((entry.seq, *step)),
            Body::Marker(marker) => standings.marker(entry, marker),
            Body::Read(ChipRead { let_go: Some(let_go), .. }) => drop(standings.let_go.insert(let_go.1.0, entry.seq)),
            _ => {}
        }
        Ok(())
    })?;
    let mut summary = Summary { frames: 0, damaged };
    let mut table = (format == Format::Csv).then(|| csv::WriterBuilder::new().from_writer(Vec::new()));
    if let Some(table) = &mut table {
        write_header(table)?;
    }
    for_each(data_dir, query.durable, |entry| {
        let (time, instant) = match &entry.body {
            Body::Read(read) if read.let_go.is_some() => return Ok(()), // it stands where it was first kept
            Body::Read(read) => {
                let time = time_of(entry, read, reading, &standings);
                (Some(time), time)
            }
            Body::Marker(_) | Body::Rejected(_) => (None, entry.time),
            Body::Cleared(_) | Body::Upload(_) | Body::Note(_) | Body::Clock(_) => return Ok(()),
        };
        let outside = query.from.is_some_and(|from| instant < from) || query.to.is_some_and(|to| instant >= to);
        let meant = |name: &str| *name == *entry.subject || name == lane::decoder(&entry.subject);
        if outside || !query.decoder.as_deref().is_none_or(meant) {
            return Ok(());
        }
        let wrote = match format {
            Format::Jsonl => {
                serde_json::to_writer(&mut *out, &row(entry, time, &standings)).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
                true
            }
            Format::Csv => write_row(table.as_mut(), &row(entry, time, &standings), out)?,
            Format::Cloudbox => write_cloudbox(entry, time, reading, summary.frames + 1, out)?,
            Format::Raw => {
                out.write_all(&entry.raw)?;
                out.write_all(b"\r\n")?;
                true
            }
        };
        summary.frames += u64::from(wrote);
        Ok(())
    })?;
    if let Some(table) = table {
        out.write_all(&table.into_inner().map_err(|error| io::Error::other(error.to_string()))?)?;
    }
    out.flush()?;
    Ok(summary)
}

/// Every whole entry up to `durable`; returns how many lines were damaged.
fn for_each(
    data_dir: &Path,
    durable: u64,
    mut each: impl FnMut(&Entry) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let dir = log_dir(data_dir);
    let reader = Reader::open(&dir, None).map_err(|_| ExportError::NoJournal(data_dir.into()))?;
    let mut reader = reader.ok_or_else(|| ExportError::NoJournal(data_dir.into()))?;
    let mut damaged = 0;
    while let Some(line) = reader.read().map_err(ExportError::Read)? {
        match line {
            Line::Entry(entry) if entry.seq > durable => break,
            Line::Entry(entry) => each(&entry)?,
            Line::Bad { .. } => damaged += 1,
            Line::State(_) => {}
        }
    }
    Ok(damaged)
}

/// A read's time in UTC: as it was uploaded, else as it would be.
fn time_of(entry: &Entry, read: &ChipRead, reading: &Reading, standings: &Standings) -> Timestamp {
    let uploaded =
        standings.by_seq.get(&standings.now(entry.seq)).filter(|standing| standing.mark != UploadMark::Suppressed);
    uploaded.and_then(|standing| Timestamp::from_millisecond(standing.time_ms).ok()).unwrap_or_else(|| {
        let received = clock::corrected(&standings.steps, entry.seq, entry.time);
        clock::resolve(&read.stamp, reading.zone(&entry.subject), received, read.replay).utc
    })
}

fn row<'a>(entry: &'a Entry, time: Option<Timestamp>, standings: &'a Standings) -> Row<'a> {
    let mut row = Row {
        seq: entry.seq,
        decoder: &entry.subject,
        kind: "rejected",
        chip: None,
        time: time.map(|time| format!("{time:.3}")),
        decoder_time: None,
        received: format!("{:.3}", entry.time),
        antenna: None,
        rssi: None,
        hits: None,
        position: None,
        location: None,
        raw: escape(&entry.raw),
        reason: None,
        upload: None,
    };
    match &entry.body {
        Body::Read(read) => {
            row.kind = "read";
            row.chip = Some(&read.chip);
            row.decoder_time = Some(read.stamp.to_string());
            (row.antenna, row.rssi, row.hits) = (read.antenna.as_ref(), read.rssi, read.hits);
            row.position = read.position.as_ref().map(|position| position.number);
            row.location = read.location.as_deref();
            let upload = upload_column(standings.now(entry.seq), standings);
            let is_held =
                read.held_back && standings.now(entry.seq) == entry.seq && upload.state == UploadMark::Pending;
            row.upload = Some(if is_held { UploadColumn { state: UploadMark::HeldBack, ..upload } } else { upload });
        }
        Body::Marker(marker) => {
            row.kind = "marker";
            row.reason = Some(&marker.kind);
            row.decoder_time = marker.stamp.as_ref().map(Stamp::to_string);
            row.location = marker.location.as_deref();
            row.position = marker.position.as_ref().map(|position| position.number);
            // No passing; the one thing to be said of it is that it was there before.
            row.upload = standings.by_seq.contains_key(&entry.seq).then(|| upload_column(entry.seq, standings));
        }
        Body::Rejected(reason) => row.reason = Some(reason),
        Body::Cleared(_) | Body::Upload(_) | Body::Note(_) | Body::Clock(_) => {}
    }
    row
}

fn upload_column(seq: u64, standings: &Standings) -> UploadColumn<'_> {
    match standings.by_seq.get(&seq) {
        None => UploadColumn { state: UploadMark::Pending, token_session: None, num_passing: None },
        Some(Standing { mark: UploadMark::Suppressed, .. }) => {
            UploadColumn { state: UploadMark::Suppressed, token_session: None, num_passing: None }
        }
        Some(standing) => UploadColumn {
            state: standing.mark,
            token_session: standings.tokens.get(standing.token as usize).map(|token| &**token),
            num_passing: Some(standing.num),
        },
    }
}

const COLUMNS: [&str; 17] = [
    "seq",
    "decoder",
    "kind",
    "chip",
    "time",
    "decoder_time",
    "received",
    "antenna",
    "rssi",
    "hits",
    "position",
    "upload_state",
    "token_session",
    "num_passing",
    "reason",
    "raw",
    "location",
];

fn write_header(table: &mut csv::Writer<Vec<u8>>) -> Result<(), ExportError> {
    table.write_record(COLUMNS).map_err(|error| ExportError::Write(io::Error::other(error)))
}

fn write_row(
    table: Option<&mut csv::Writer<Vec<u8>>>,
    row: &Row<'_>,
    out: &mut impl Write,
) -> Result<bool, ExportError> {
    let Some(table) = table else { return Ok(false) };
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    let upload = row.upload.as_ref();
    let state = upload.and_then(|upload| serde_json::to_value(upload.state).ok());
    let record = [
        row.seq.to_string(),
        row.decoder.to_owned(),
        row.kind.to_owned(),
        row.chip.unwrap_or_default().to_owned(),
        row.time.clone().unwrap_or_default(),
        row.decoder_time.clone().unwrap_or_default(),
        row.received.clone(),
        text(row.antenna.map(|label| label as _)),
        text(row.rssi.as_ref().map(|value| value as _)),
        text(row.hits.as_ref().map(|value| value as _)),
        text(row.position.as_ref().map(|value| value as _)),
        state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().to_owned(),
        upload.and_then(|upload| upload.token_session).unwrap_or_default().to_owned(),
        text(upload.and_then(|upload| upload.num_passing.as_ref()).map(|value| value as _)),
        row.reason.unwrap_or_default().to_owned(),
        row.raw.clone(),
        row.location.unwrap_or_default().to_owned(),
    ];
    table.write_record(record).map_err(|error| ExportError::Write(io::Error::other(error)))?;
    table.flush()?;
    if table.get_ref().len() > 64 * 1024 {
        let full = std::mem::replace(table, csv::WriterBuilder::new().from_writer(Vec::new()));
        out.write_all(&full.into_inner().map_err(|error| io::Error::other(error.to_string()))?)?;
    }
    Ok(true)
}

fn write_cloudbox(
    entry: &Entry,
    time: Option<Timestamp>,
    reading: &Reading,
    number: u64,
    out: &mut impl Write,
) -> Result<bool, ExportError> {
    let (Body::Read(read), Some(time)) = (&entry.body, time) else { return Ok(false) };
    let local = reading.zone(&entry.subject).to_datetime(time);
    let tag = chip_code(&read.chip, reading.tag);
    let is_epc = read.chip.len() == 24 && read.chip.bytes().all(|byte| byte.is_ascii_hexdigit());
    let passing = CloudboxPassing {
        epc: is_epc.then_some(&*read.chip),
        timestamp: Stamp::Local(local).to_string().replacen('T', ";", 1),
        seen_count: read.hits,
        antenna: read.antenna.as_ref(),
        rssi: read.rssi,
        passing_number: number,
        tag_str: &tag,
        latitude: None,
        longitude: None,
    };
    serde_json::to_writer(&mut *out, &passing).map_err(io::Error::from)?;
    out.write_all(b"\r\n")?;
    Ok(true)
}
