//! Reads of the log by their numbers: which decoder a passing is of, and when its read arrived.
//!
//! What must hold: it is bounded, and a search that rises through the log reads it once. A search
//! that goes back begins with the segment of the read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::journal::entries::Entries;
use crate::journal::entry::{Body, Entry};
use crate::journal::log::{LogLine, LogPlace, segments};
use crate::journal::log_dir;

/// A place behind every line.
const NO_END: LogPlace = LogPlace { segment: u64::MAX, offset: u64::MAX };

/// A read as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoggedRead {
    /// Decoder, or a location of it.
    pub decoder: Arc<str>,
    /// The chip code as the decoder sent it.
    pub chip: Arc<str>,
    /// When the box received it, by its clock of then. `None`: the entry is the release of a read
    /// that was received earlier.
    pub received: Option<Timestamp>,
}

/// The reads of a log.
pub(super) struct Reads {
    dir: PathBuf,
    log: Option<Entries>,
    /// No read below this number follows in `log`.
    next: u64,
    /// The entry that was read last, if it was not asked for yet.
    ahead: Option<Entry>,
}

impl Reads {
    /// The reads in the log of `data_dir`.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: log_dir(data_dir), log: None, next: 0, ahead: None }
    }

    /// Returns the reads with these numbers. Numbers that the log does not have are left out. All of
    /// them must be durable.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn find(&mut self, seqs: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, LoggedRead>> {
        let firsts: Vec<u64> =
            if self.dir.is_dir() { segments(&self.dir)?.iter().map(|file| file.first).collect() } else { Vec::new() };
        let mut found = BTreeMap::new();
        for &seq in seqs {
            if let Some(entry) = self.entry(seq, &firsts)?
                && let Body::Read(read) = entry.body
            {
                let received = read.let_go.is_none().then_some(entry.time);
                found.insert(seq, LoggedRead { decoder: entry.subject, chip: read.chip, received });
            }
        }
        Ok(found)
    }

    fn entry(&mut self, seq: u64, firsts: &[u64]) -> io::Result<Option<Entry>> {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.seq <= seq)
            && ahead.seq == seq
        {
            return Ok(Some(ahead));
        }
        if self.ahead.is_some() && seq >= self.next {
            return Ok(None); // it is missing between two entries
        }
        let segment = firsts.iter().rev().find(|first| **first <= seq);
        let here = self.log.as_ref().map(|log| log.place().segment);
        if seq < self.next || here.is_none() || segment.is_some_and(|segment| here < Some(*segment)) {
            self.ahead = None;
            self.log = Entries::after(&self.dir, seq.saturating_sub(1), u64::MAX)?;
        }
        let Some(log) = &mut self.log else { return Ok(None) };
        self.next = seq + 1;
        // A damaged line costs only itself.
        while let Some(line) = log.line_before(NO_END, |number, _, _| number >= seq)? {
            if let LogLine::Entry(entry) = line {
                if entry.seq == seq {
                    return Ok(Some(*entry));
                }
                self.ahead = Some(*entry);
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::write_line;
    use crate::journal::log::Log;
    use crate::model::chip::{ChipRead, Stamp};

    fn logged(log: &mut Log, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            let stamp: Stamp = "2026-06-17T10:00:00".parse().map(Stamp::Local).unwrap();
            let body = Body::Read(ChipRead::new(format!("C{seq}"), stamp));
            let time = Timestamp::from_second(seq as i64).unwrap();
            let entry = Entry { seq, in_group: 0, subject: "mat".into(), time, body, raw: Box::default() };
            let mut line = Vec::new();
            write_line(&mut line, &entry);
            log.append(&line, 1).unwrap();
        }
    }

    #[test]
    fn reads_are_found_forwards_backwards_and_behind_the_end_that_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&log_dir(dir.path()), "test", None).unwrap().0;
        logged(&mut log, 1..=20);
        log.rotate(Some("{}")).unwrap();
        logged(&mut log, 21..=40);
        let mut reads = Reads::new(dir.path());
        let mut asked = |seqs: &[u64]| {
            let found = reads.find(&seqs.iter().copied().collect()).unwrap();
            for (seq, read) in &found {
                assert_eq!((&*read.decoder, read.chip.to_string()), ("mat", format!("C{seq}")));
                assert_eq!(read.received.unwrap().as_second(), *seq as i64);
            }
            found.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(asked(&[3, 4, 9]), [3, 4, 9]);
        assert_eq!(asked(&[10, 19, 22, 40]), [10, 19, 22, 40]);
        assert_eq!(asked(&[2, 39]), [2, 39]);
        assert_eq!(asked(&[41, 50]), [0; 0]);
        logged(&mut log, 41..=45);
        assert_eq!(asked(&[41, 45]), [41, 45]);
        log.rotate(Some("{}")).unwrap();
        logged(&mut log, 46..=50);
        assert_eq!(asked(&[20, 45, 46, 50, 51]), [20, 45, 46, 50]);
    }
}
