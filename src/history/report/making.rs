//! Walks through the log for a report.

use std::io;
use std::path::{Path, PathBuf};

use super::data::{Afterwards, DayReport, ReportQuery};
use super::day::DayFold;
use crate::history::span::LogSpan;
use crate::journal::entry::{BadLine, Body};
use crate::journal::log::LogLine;
use crate::journal::{log_dir, waiting_at_head};

/// An entry may be written so much later than it is dated: reads wait in memory while a disk is full. Later
/// segments of the log are not read.
const LATE_MS: i64 = 3_600_000;
/// Steps of the clock that are remembered: the newest ones.
const STEPS_MAX: usize = 4_096;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// There is no journal.
    #[error("there is no journal in {0}: is data_dir right?")]
    NoJournal(PathBuf),
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Read(#[from] io::Error),
}

/// Is told how far the work is, in parts of a thousand. `false`: the work ends, because nobody waits for it.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Makes the report of the log below `data_dir`.
///
/// # Errors
/// There is no journal, or the log cannot be read, or `progress` ended it (kind "interrupted").
pub(crate) fn make(data_dir: &Path, query: ReportQuery, progress: Progress<'_>) -> Result<DayReport, ReportError> {
    let dir = log_dir(data_dir);
    if !dir.is_dir() {
        return Err(ReportError::NoJournal(data_dir.to_owned()));
    }
    let to_ms = query.to.as_millisecond().saturating_add(LATE_MS);
    let span = LogSpan::since(&dir, query.from.as_millisecond(), query.durable)?.until(to_ms)?;
    let mut afterwards = Afterwards::default();
    walk(&span, Part { begin: 0, of: 300 }, progress, true, &mut |line| {
        let LogLine::Entry(entry) = line else { return };
        match entry.body {
            Body::Clock(step) => {
                if afterwards.steps.len() >= STEPS_MAX {
                    afterwards.steps.remove(0);
                }
                afterwards.steps.push((entry.seq, step));
            }
            Body::Correct(correction) => afterwards.corrections.add(&entry.subject, &correction),
            _ => {}
        }
    })?;
    let mut fold = DayFold::new(query, afterwards);
    if span.begins_the_log() {
        fold.waits(Some((0, None)));
    }
    walk(&span, Part { begin: 300, of: 700 }, progress, false, &mut |line| match line {
        LogLine::Entry(entry) => fold.entry(&entry),
        LogLine::State(state) => fold.waits(waiting_at_head(&state)),
        LogLine::Bad { why, .. } => fold.bad(why == BadLine::Unknown),
    })?;
    Ok(fold.report())
}

/// The part of the work, in parts of a thousand.
#[derive(Clone, Copy)]
struct Part {
    begin: u64,
    of: u64,
}

/// Goes through the lines. `rare`: only steps of the clock and corrections are wanted.
fn walk(
    span: &LogSpan<'_>,
    part: Part,
    progress: Progress<'_>,
    rare: bool,
    take: &mut dyn FnMut(LogLine),
) -> io::Result<()> {
    /// Lines between two reports of the progress.
    const STEP: u64 = 4_096;
    let bytes = span.bytes().max(1);
    let mut before = 0;
    for at in 0..span.len() {
        let Some(mut open) = span.open(at)? else { continue };
        let begin = open.entries.place();
        if let Some(state) = open.state.take().filter(|_| !rare) {
            take(LogLine::State(state));
        }
        let mut lines = 0_u64;
        loop {
            let wanted = |_: u64, kind: &str, _: &str| {
                lines += 1;
                !rare || kind == "clock" || kind == "correct" || lines.is_multiple_of(STEP)
            };
            let Some(line) = open.entries.line_before(open.end, wanted)? else { break };
            let here = open.entries.place();
            if here.segment != begin.segment {
                break;
            }
            let plain = rare
                && !matches!(&line, LogLine::Entry(entry) if matches!(entry.body, Body::Clock(_) | Body::Correct(_)));
            if lines.is_multiple_of(STEP) {
                let done = (before + here.offset).min(bytes);
                if !progress(part.begin + part.of * done / bytes) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            if !plain {
                take(line);
            }
        }
        before += open.entries.place().offset.max(begin.offset);
    }
    Ok(())
}
