//! Reads the last hours of the log back into the plots, in pieces.
//!
//! Must hold: the lock of the fold is never held while a file is read, because a task that draws the plots
//! must not wait for a disk. Of most reads only the number, the decoder and the time are taken from their
//! line, which costs a third of the whole entry.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;

use super::fold::PlotFold;
use super::span::{LogSpan, OpenSegment};
use crate::journal::entry::Entry;
use crate::journal::log::{LogLine, LogPlace};
use crate::journal::waiting_at_head;

/// Bytes of the log that are read at once.
const PIECE: u64 = 128 * 1024;

/// What the fold gets of a line.
pub(super) enum LogPiece {
    /// So many reads wait at this place, and so many are held if the box is on hold.
    Waits(u64, Option<u64>),
    /// A read.
    Read { seq: u64, subject: Arc<str>, time_ms: i64 },
    /// Any other entry.
    Entry(Box<Entry>),
}

impl LogPiece {
    pub(super) fn apply(&self, fold: &mut PlotFold) {
        match self {
            Self::Waits(waiting, held) => fold.waits(*waiting, *held),
            Self::Read { seq, subject, time_ms } => fold.read(*seq, subject, *time_ms, true),
            Self::Entry(entry) => fold.entry(entry),
        }
    }
}

/// A walk through the segments, one piece after another.
pub(super) struct Pieces<'a> {
    span: LogSpan<'a>,
    next: usize,
    open: Option<OpenSegment>,
    /// The name of the decoder of the last read: most lines have it again.
    subject: Arc<str>,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(span: LogSpan<'a>) -> Self {
        Self { span, next: 0, open: None, subject: Arc::from("") }
    }

    /// The next piece, which may be empty. `None`: the end was reached.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<LogPiece>>> {
        let mut items = Vec::new();
        if self.open.is_none() {
            if self.next >= self.span.len() {
                return Ok(None);
            }
            self.open = self.span.open(self.next)?;
            self.next += 1;
            let Some(open) = &self.open else { return Ok(Some(items)) };
            let waiting = match &open.state {
                Some(state) => waiting_at_head(state),
                None => open.is_first.then_some((0, None)),
            };
            items.extend(waiting.map(|(waiting, held)| LogPiece::Waits(waiting, held)));
        }
        let Some(OpenSegment { entries, end, .. }) = &mut self.open else { return Ok(Some(items)) };
        let here = entries.place();
        let limit = LogPlace { segment: here.segment, offset: here.offset + PIECE };
        let limit = if limit.segment < end.segment { limit } else { *end };
        let ended = loop {
            let mut plain = |seq: u64, kind: &str, text: &str| match light(seq, kind, text, &mut self.subject) {
                Some(read) => {
                    items.push(read);
                    false
                }
                None => true,
            };
            match entries.line_before(limit, &mut plain)? {
                Some(LogLine::Entry(entry)) => items.push(LogPiece::Entry(entry)),
                // Its number is missing, and the check of the log reports it.
                Some(LogLine::Bad { .. } | LogLine::State(_)) => {}
                // Either the limit was reached, or nothing follows.
                None => break (entries.place().segment, entries.place().offset) < (limit.segment, limit.offset),
            }
        };
        if ended || entries.place().segment != here.segment {
            self.open = None;
        }
        Ok(Some(items))
    }
}

/// A read by its line, if it is an ordinary one. `None`: the whole entry is needed.
fn light(seq: u64, kind: &str, text: &str, subject: &mut Arc<str>) -> Option<LogPiece> {
    if kind != "read" {
        return None;
    }
    let mut columns = text.split('\t').skip(3);
    let (name, time) = (columns.next()?, columns.next()?);
    let fields = columns.nth(2)?;
    if name.contains('\\') || fields.contains("held_back=") || fields.contains("let_go=") {
        return None;
    }
    let time_ms = time.parse::<Timestamp>().ok()?.as_millisecond();
    if **subject != *name {
        *subject = Arc::from(name);
    }
    Some(LogPiece::Read { seq, subject: Arc::clone(subject), time_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Body, parse_line_of, write_line};
    use crate::model::chip::{ChipRead, Seq};

    /// The line of a read of `mat`, as the walk takes it.
    fn taken(subject: &str, change: impl FnOnce(&mut ChipRead)) -> Option<LogPiece> {
        let mut read = ChipRead::new("let_go=\theld_back=1", "2026-03-06T20:27:47.350".parse().unwrap());
        change(&mut read);
        let (time, raw) = ("2026-03-06T20:27:48.001Z".parse().unwrap(), Box::default());
        let entry = Entry { seq: 7, in_group: 0, subject: subject.into(), time, body: Body::Read(read), raw };
        let mut line = Vec::new();
        write_line(&mut line, &entry);
        let mut taken = None;
        let wanted = |seq: u64, kind: &str, text: &str| {
            taken = light(seq, kind, text, &mut Arc::from(""));
            false
        };
        parse_line_of(line.strip_suffix(b"\n").unwrap(), wanted).unwrap();
        taken
    }

    #[test]
    fn an_ordinary_read_is_taken_from_its_line_and_every_other_one_is_read_whole() {
        let Some(LogPiece::Read { seq, subject, time_ms }) = taken("mat/Start", |_| {}) else {
            panic!("it is ordinary")
        };
        assert_eq!((seq, &*subject, time_ms), (7, "mat/Start", 1_772_828_868_001));
        assert!(taken("mat", |read| read.held_back = true).is_none());
        assert!(taken("mat", |read| read.let_go = Some(Box::new((Seq(1), Seq(2))))).is_none());
        assert!(taken("m\tat", |_| {}).is_none());
    }
}
