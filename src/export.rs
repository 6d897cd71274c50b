//! Export: the log as files that people and other software read.
//!
//! Export reads the log itself, beside a running daemon or without one. Only durable entries are
//! exported: the caller says up to which number, because the last lines of the file may not have
//! been synced yet.
//!
//! The memory that export needs does not grow with the log: an index says where in the log each
//! entry is (`index`), and the frames are written one stretch at a time. For each stretch, the
//! uploads of its reads are looked up (`standing`). For a time window, only those blocks are read
//! that may contain frames of the window.
//!
//! Formats:
//! * `jsonl`: one object per kept frame, the contract of design.md.
//! * `csv`: the same as a table; for a spreadsheet in a form that it leaves as it is
//!   (`spreadsheet`).
//! * `cloudbox`: what a RUFUS CloudBox writes into its backup file (facts: facts/cloudbox.md §3,
//!   §5): JSON objects one after another, in the wall time of the decoder's zone. Without `chksum`,
//!   because its algorithm is not published.
//! * `raw`: the bytes as received, one line for each frame, in the form that `decode` and
//!   `simulate` read.

pub(crate) mod corrected;
pub(crate) mod found;
mod index;
mod newest;
mod reading;
pub(crate) mod search;
mod spreadsheet;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::cloud::passing::chip_code;
use crate::journal::control::Holds;
use crate::journal::entries::Entries;
use crate::journal::entry::{BadLine, Body, Entry};
use crate::journal::log::{LogLine, LogPlace};
use crate::model::chip::{ChipRead, Label, Marker, Sighting, Stamp};
use crate::model::clock;
use crate::model::escape::escape;
use crate::model::source;
pub(crate) use index::refresh;
use index::{Block, Index, Need, is_ours};
pub(crate) use newest::{NewestFate, NewestRead, NewestReads};
pub use reading::Reading;
use reading::instant_in;
use standing::{DROPPED_AT_RELEASE, DROPPED_SET_ASIDE, Standing, Standings};
pub use standing::{Refusal, UploadMark, WhySuppressed};

/// The format of the exported file.
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

/// Which frames are exported.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only frames at this instant or later (a read's own time, or the receive time of other
    /// frames).
    pub from: Option<Timestamp>,
    /// Only frames before this instant.
    pub to: Option<Timestamp>,
    /// Only this decoder with all its sources, or only this source.
    pub decoder: Option<String>,
    /// Only entries up to this number.
    pub durable: u64,
    /// Is told how far the export is.
    pub told: Option<HowFar>,
}

/// Is called with the parts of an export that are done, and how many there are.
#[derive(Clone)]
pub struct HowFar(pub Arc<dyn Fn(u64, u64) + Send + Sync>);

impl fmt::Debug for HowFar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HowFar")
    }
}

/// Counts of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Frames written.
    pub frames: u64,
    /// Damaged lines of the log. Each costs only itself.
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
    /// `first` or `last`: which moment of a crossing the read tells, where the decoder says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'static str>,
    raw: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// How much of `time` somebody corrected.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected_ms: Option<i64>,
    upload: Option<UploadColumn<'a>>,
}

#[derive(Debug, Serialize)]
struct UploadColumn<'a> {
    state: UploadMark,
    token_session: Option<&'a str>,
    num_passing: Option<u64>,
    /// The time under this number, if it was corrected since.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_time: Option<String>,
    /// The passing that was sent before this one, with another time. The cloud may still have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<ReplacedPassing<'a>>,
}

/// A passing in the cloud whose read was sent again.
#[derive(Debug, Serialize)]
struct ReplacedPassing<'a> {
    token_session: &'a str,
    num_passing: u64,
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

/// Most frames in a stretch: the upload states of that many frames are in memory at once (about 4
/// MB). A block has some thousands of frames.
const STRETCH: u64 = if cfg!(test) { 64 } else { 65_536 };

/// Writes the frames for which the query asks.
pub fn export(
    data_dir: &Path,
    reading: &Reading,
    format: Format,
    query: &Query,
    out: &mut impl Write,
) -> Result<ExportSummary, ExportError> {
    let windowed = query.from.is_some() || query.to.is_some();
    let need = Need { times: windowed, chips: None, keeps: windowed && is_ours(data_dir) };
    let index = Index::new(data_dir, reading, query.durable, need).map_err(ExportError::Read)?;
    let index = index.ok_or_else(|| ExportError::NoJournal(data_dir.into()))?;
    let mut summary = ExportSummary { frames: 0, damaged: index.damaged };
    let mut table = (format == Format::Csv).then(|| csv::WriterBuilder::new().from_writer(Vec::new()));
    if let Some(table) = &mut table {
        if reading.spreadsheet {
            out.write_all(spreadsheet::BYTE_ORDER_MARK)?;
        }
        write_header(table)?;
    }
    let stretches = stretches(&index, query, (STRETCH, Releases::Skipped));
    let parts = stretches.len() as u64;
    for (done, stretch) in (0..).zip(stretches) {
        if let Some(HowFar(tell)) = &query.told {
            tell(done, parts);
        }
        let standings = Standings::of(stretch.frames.0..=stretch.frames.1);
        let standings = fill(standings, &index, query.durable).map_err(ExportError::Read)?;
        summary.damaged += for_each(&index, &stretch, query.durable, |entry| {
            if matches!(&entry.body, Body::Read(read) if read.let_go.is_some()) {
                return Ok(()); // exported where the read was first kept
            }
            let (instant, corrected_ms) = match &entry.body {
                Body::Read(_) => time_of(entry, reading, &index, &standings),
                _ => (entry.time, 0),
            };
            let outside = query.from.is_some_and(|from| instant < from) || query.to.is_some_and(|to| instant >= to);
            let meant = |name: &str| *name == *entry.subject || name == source::decoder(&entry.subject);
            if outside || !query.decoder.as_deref().is_none_or(meant) {
                return Ok(());
            }
            let time = matches!(entry.body, Body::Read(_)).then_some((instant, corrected_ms));
            let wrote = match format {
                Format::Jsonl => {
                    serde_json::to_writer(&mut *out, &row(entry, time, (&standings, &index.holds), reading))
                        .map_err(io::Error::from)?;
                    out.write_all(b"\n")?;
                    true
                }
                Format::Csv => write_row(
                    table.as_mut(),
                    &row(entry, time, (&standings, &index.holds), reading),
                    reading.spreadsheet,
                    out,
                )?,
                Format::Cloudbox => {
                    write_cloudbox(entry, time.map(|(time, _)| time), reading, summary.frames + 1, out)?
                }
                Format::Raw => {
                    out.write_all(&entry.raw)?;
                    out.write_all(b"\r\n")?;
                    true
                }
            };
            summary.frames += u64::from(wrote);
            Ok(())
        })?;
    }
    if let Some(table) = table {
        out.write_all(&table.into_inner().map_err(|error| io::Error::other(error.to_string()))?)?;
    }
    out.flush()?;
    Ok(summary)
}

/// Blocks that are read together. They follow one another in one segment.
struct Stretch {
    blocks: Range<usize>,
    /// First and last frame of these blocks.
    frames: (u64, u64),
}

/// Whether blocks are read that have no frames, but entries that release reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Releases {
    Read,
    Skipped,
}

fn stretches(index: &Index, query: &Query, (most, releases): (u64, Releases)) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new(); // at most one for each block
    let mut count = 0;
    for at in index.within(query.from, query.to) {
        let (segment, block) = &index.blocks[at];
        let none = (u64::MAX, 0);
        let frames = block.frames.or((releases == Releases::Read && block.releases()).then_some(none));
        let Some((first, last)) = frames else { continue };
        count += block.count;
        match all.last_mut() {
            Some(before) if before.blocks.end == at && index.blocks[at - 1].0 == *segment && count <= most => {
                before.blocks.end = at + 1;
                before.frames = (first.min(before.frames.0), last.max(before.frames.1));
            }
            _ => {
                count = block.count;
                all.push(Stretch { blocks: at..at + 1, frames: (first, last) });
            }
        }
    }
    all
}

/// Adds the upload states of the reads that are asked for.
fn fill(mut standings: Standings, index: &Index, durable: u64) -> io::Result<Standings> {
    let lets_go = |kind: &str, text: &str| kind == "read" && index::lets_go(text);
    let releases = |block: &Block| block.lets_go_of_any(|from, to| standings.asks_within(from, to));
    let releasing: Vec<bool> = index.blocks.iter().map(|(_, block)| releases(block)).collect();
    read_blocks(index, durable, releasing, lets_go, |entry| {
        if let Body::Read(ChipRead { let_go: Some(let_go), .. }) = &entry.body {
            standings.lets_go(entry.seq, let_go.1.0);
        }
    })?;
    let meant = |from, to| standings.asks_within(from, to) || standings.let_go_within(from, to);
    let telling: Vec<bool> = index.blocks.iter().map(|(_, block)| block.tells_of_any(meant)).collect();
    let upload = |kind: &str, _: &str| kind == "upload";
    read_blocks(index, durable, telling, upload, |entry| {
        if let Body::Upload(event) = &entry.body {
            standings.apply(event);
        }
    })?;
    for seq in &index.repeated {
        if standings.asks_for(*seq) {
            standings.suppress(*seq);
        }
    }
    Ok(standings)
}

/// Calls `each` for every `wanted` entry up to `durable` in the blocks that are `meant`, in the order
/// of the log.
fn read_blocks(
    index: &Index,
    durable: u64,
    meant: Vec<bool>,
    wanted: impl Fn(&str, &str) -> bool,
    mut each: impl FnMut(&Entry),
) -> io::Result<()> {
    let mut entries: Option<Entries> = None;
    for ((segment, block), _) in index.blocks.iter().zip(meant).filter(|(_, is_meant)| *is_meant) {
        let place = |offset| LogPlace { segment: *segment, offset };
        let at = match entries.take().filter(|entries| entries.place() == place(block.start)) {
            Some(entries) => Some(entries),
            None => index.entries(*segment, block.start, durable)?,
        };
        let Some(mut at) = at else { continue }; // the segment was removed meanwhile
        while let Some(line) = at.line_before(place(block.end), |_, kind, text| wanted(kind, text))? {
            if let LogLine::Entry(entry) = line {
                each(&entry);
            }
        }
        entries = Some(at);
    }
    Ok(())
}

/// Calls `each` for every whole frame of a stretch up to `durable`. Returns the number of damaged
/// lines that the index did not count.
fn for_each(
    index: &Index,
    stretch: &Stretch,
    durable: u64,
    mut each: impl FnMut(&Entry) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let blocks = &index.blocks[stretch.blocks.clone()];
    let (Some((segment, first)), Some((_, last))) = (blocks.first(), blocks.last()) else { return Ok(0) };
    let place = |offset| LogPlace { segment: *segment, offset };
    let entries = index.entries(*segment, first.start, durable).map_err(ExportError::Read)?;
    let Some(mut entries) = entries else { return Ok(0) }; // the segment was removed meanwhile
    let frame = |_: u64, kind: &str, _: &str| matches!(kind, "read" | "marker" | "rejected");
    let mut damaged = 0;
    while let Some(line) = entries.line_before(place(last.end), frame).map_err(ExportError::Read)? {
        match line {
            LogLine::Entry(entry) => each(&entry)?,
            // The index has counted the damage that the checksum shows.
            LogLine::Bad { why: BadLine::Unknown, .. } => damaged += u64::from(!first.is_decoded()),
            LogLine::Bad { .. } | LogLine::State(_) => {}
        }
    }
    Ok(damaged)
}

/// A read's time in UTC, as it was uploaded or would be uploaded now, with all corrections of the
/// read, and the sum of these corrections.
fn time_of(entry: &Entry, reading: &Reading, index: &Index, standings: &Standings) -> (Timestamp, i64) {
    let uploaded = standings.get(entry.seq).filter(|standing| standing.mark != UploadMark::Suppressed);
    let uploaded = uploaded.map(|standing| standing.time_ms.saturating_sub(standing.corrected_ms));
    let uploaded = uploaded.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let kept = index.corrections.zone(&entry.subject, entry.seq).and_then(clock::zone);
    let zone = kept.as_ref().unwrap_or_else(|| reading.zones.of(&entry.subject));
    let stamped = uploaded.unwrap_or_else(|| instant_in(entry, zone, &index.steps));
    match index.corrections.shift_ms(&entry.subject, entry.seq) {
        0 => (stamped, 0),
        shift => {
            let moved = stamped.as_millisecond().saturating_add(shift);
            (Timestamp::from_millisecond(moved).unwrap_or(stamped), shift)
        }
    }
}

/// The row of a frame. `time`: of a read, with how much of it is a correction.
fn row<'a>(
    entry: &'a Entry,
    time: Option<(Timestamp, i64)>,
    (standings, holds): (&'a Standings, &Holds),
    reading: &Reading,
) -> Row<'a> {
    let mut row = Row {
        seq: entry.seq,
        decoder: &entry.subject,
        kind: "rejected",
        chip: None,
        time: time.map(|(time, _)| reading.shown(time)),
        decoder_time: None,
        received: reading.shown(entry.time),
        antenna: None,
        rssi: None,
        hits: None,
        position: None,
        location: None,
        seen: None,
        raw: escape(&entry.raw),
        reason: None,
        corrected_ms: time.map(|(_, corrected_ms)| corrected_ms).filter(|ms| *ms != 0),
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
            row.seen = read.seen.map(Sighting::word);
            let mut upload = upload_column(entry.seq, standings);
            let sent_ms = standings.get(entry.seq).filter(|_| upload.num_passing.is_some()).map(|it| it.time_ms);
            let sent_ms = sent_ms.filter(|ms| time.is_some_and(|(time, _)| time.as_millisecond() != *ms));
            let sent = sent_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
            upload.sent_time = sent.map(|sent| reading.shown(sent));
            let (state, reason) = without_batch(entry.seq, read, upload.state, standings, holds);
            row.upload = Some(UploadColumn { state, ..upload });
            row.reason = reason;
        }
        Body::Marker(marker) => {
            row.kind = "marker";
            // What somebody wrote says more than that it was written by hand.
            let text = marker.name.as_deref().filter(|_| &*marker.kind == Marker::BY_HAND);
            row.reason = Some(text.unwrap_or(&marker.kind));
            row.decoder_time = marker.stamp.as_ref().map(Stamp::to_string);
            row.location = marker.location.as_deref();
            row.position = marker.position.as_ref().map(|position| position.number);
            // A marker is no passing. The only upload state that it can have is that it is a
            // duplicate.
            row.upload = standings.get(entry.seq).is_some().then(|| upload_column(entry.seq, standings));
        }
        Body::Rejected(reason) => row.reason = Some(reason),
        Body::Cleared(_)
        | Body::Upload(_)
        | Body::Settled(_)
        | Body::Note(_)
        | Body::Clock(_)
        | Body::Correct(_)
        | Body::Control(_) => {}
    }
    row
}

/// The upload state of a read about which no batch says anything, and why it is no passing.
fn without_batch(
    seq: u64,
    read: &ChipRead,
    state: UploadMark,
    standings: &Standings,
    holds: &Holds,
) -> (UploadMark, Option<&'static str>) {
    if standings.is_dropped(seq) {
        return (state, Some(DROPPED_SET_ASIDE));
    }
    if state != UploadMark::Pending || standings.get(seq).is_some() || standings.is_let_go(seq) {
        return (state, None);
    }
    match read.held_back {
        true => (UploadMark::HeldBack, None),
        false if holds.is_dropped(seq) => (UploadMark::Suppressed, Some(DROPPED_AT_RELEASE)),
        false if holds.is_held(seq) => (UploadMark::Held, None),
        false => (state, None),
    }
}

fn upload_column(seq: u64, standings: &Standings) -> UploadColumn<'_> {
    let replaces = standings.replaced(seq);
    let replaces = replaces.map(|(token_session, num_passing)| ReplacedPassing { token_session, num_passing });
    let (mark, token_session, num_passing) = match standings.get(seq) {
        None => (UploadMark::Pending, None, None),
        Some(Standing { mark: UploadMark::Suppressed, .. }) => (UploadMark::Suppressed, None, None),
        Some(standing) => (standing.mark, standings.token(standing), Some(standing.num)),
    };
    UploadColumn { state: mark, token_session, num_passing, sent_time: None, replaces }
}

const COLUMNS: [&str; 22] = [
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
    "seen",
    "corrected_ms",
    "sent_time",
    "replaces_session",
    "replaces_num_passing",
];

fn write_header(table: &mut csv::Writer<Vec<u8>>) -> Result<(), ExportError> {
    table.write_record(COLUMNS).map_err(|error| ExportError::Write(io::Error::other(error)))
}

fn write_row(
    table: Option<&mut csv::Writer<Vec<u8>>>,
    row: &Row<'_>,
    spreadsheet: bool,
    out: &mut impl Write,
) -> Result<bool, ExportError> {
    let Some(table) = table else { return Ok(false) };
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string).unwrap_or_default();
    let upload = row.upload.as_ref();
    let state = upload.and_then(|upload| serde_json::to_value(upload.state).ok());
    let replaces = upload.and_then(|upload| upload.replaces.as_ref());
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
        row.seen.unwrap_or_default().to_owned(),
        text(row.corrected_ms.as_ref().map(|value| value as _)),
        upload.and_then(|upload| upload.sent_time.clone()).unwrap_or_default(),
        replaces.map(|replaced| replaced.token_session).unwrap_or_default().to_owned(),
        text(replaces.map(|replaced| &replaced.num_passing as _)),
    ];
    let record = record.into_iter().zip(COLUMNS).map(|(value, column)| match (spreadsheet, column) {
        (false, _) => value,
        (true, "seq" | "rssi" | "hits" | "position" | "num_passing" | "corrected_ms" | "replaces_num_passing") => {
            spreadsheet::number(value)
        }
        (true, _) => spreadsheet::text(&value),
    });
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
    let local = reading.zones.of(&entry.subject).to_datetime(time);
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
