//! The memory of a simulated decoder: every read, in files, and the race or recording of the reads.
//! The facts that the simulator of a protocol needs are in its `Simulator` and `Conversation`. The
//! memory is pure, and knows no socket and no clock.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::ToSpan;
use jiff::civil::DateTime;

use super::nature::Nature;
use super::race::{Crossing, Race};
use crate::model::chip::Stamp;

/// The most reads of a made-up race: 22 hours at 50 reads a second, 64 MB.
pub(crate) const READS_MAX: u64 = 4_000_000;

/// A read that happened. The box must keep and upload it, whatever went wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRead {
    /// Chip code as sent.
    pub chip: Box<str>,
    /// Stamp as sent.
    pub stamp: Stamp,
    /// The passing number in its file, or a running number if the protocol has none.
    pub number: u64,
}

/// One read of the made-up race, as it is in the decoder's memory: 16 bytes, so that a long race
/// stays small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detection {
    pub(crate) chip: u32,
    pub(crate) stamp_us: u64,
}

/// A detection with its position and its time, as the protocols write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) chip: u32,
    /// Local wall time, in the resolution of the decoder.
    pub(crate) at: DateTime,
    /// The number in its file, from 1.
    pub(crate) number: u64,
    /// The number of the file, from 1.
    pub(crate) file: u64,
    /// Milliseconds since the decoder was switched on, if it has no clock.
    pub(crate) on_ms: Option<u64>,
}

/// Where a file begins in the log, and when. A file that is cleared begins again under its number.
#[derive(Clone, Copy, Debug)]
struct File {
    /// The number of the file, from 1.
    number: u64,
    first: usize,
    /// Seconds since the start. No two files have the same.
    began_s: u64,
    /// The error of the decoder's clock at that time.
    off_ms: i64,
}

const FIRST_FILE: File = File { number: 1, first: 0, began_s: 0, off_ms: 0 };

/// The facts about its decoder that a memory needs.
#[derive(Clone, Copy)]
pub(crate) struct Simulated {
    /// How the decoder writes chips and times.
    pub(crate) nature: &'static dyn Nature,
    /// What ends a frame on the wire.
    pub(crate) end: &'static [u8],
}

enum Source {
    Race { race: Box<Race>, next: Option<Crossing>, log: Vec<Detection> },
    Recording { rows: Vec<Box<[u8]>>, reads: Vec<Vec<SimRead>>, played: usize, gap_us: u64, began_us: u64 },
}

/// The memory of a decoder. Its bound is [`READS_MAX`] reads of 16 bytes, or the recording.
pub(crate) struct Memory {
    nature: &'static dyn Nature,
    /// What ends a frame on the wire.
    pub(crate) end: &'static [u8],
    pub(crate) start: DateTime,
    source: Source,
    limit: u64,
    /// The last file is the current one.
    files: Vec<File>,
    /// The number of reads so far (a recorded MYLAPS message has many).
    reads: u64,
    /// There is at least one.
    locations: Vec<String>,
    /// How many times a person made the decoder send its memory again.
    again: u64,
    /// The error of the decoder's clock in milliseconds, from each of these entries on. The last is
    /// the error now.
    clocks: Vec<(usize, i64)>,
    /// LLRP: the entries at which the reader was switched on again, with the time of its clock.
    /// From the first on, it has no clock.
    boots: Vec<(usize, DateTime)>,
    /// The decoder does not report its clock.
    pub(crate) tells_no_time: bool,
    /// How many times the last read was sent again.
    repeated: u64,
    /// Entries that are sent after the next entry.
    swapped: BTreeSet<usize>,
    /// How many times another program took over the push.
    pushes_taken: u64,
    /// The id of the reader, where records have one.
    pub(crate) reader: String,
    /// LLRP: other software left an inventory in the reader, and it is active.
    pub(crate) programmed: bool,
}

impl Memory {
    pub(crate) fn race(decoder: Simulated, start: DateTime, mut race: Race, limit: Option<u64>) -> Self {
        let next = race.next();
        let source = Source::Race { race: Box::new(race), next, log: Vec::new() };
        let limit = limit.unwrap_or(READS_MAX).min(READS_MAX);
        Self::of(decoder, start, source, limit)
    }

    fn of(decoder: Simulated, start: DateTime, source: Source, limit: u64) -> Self {
        let (files, locations) = (vec![FIRST_FILE], vec![String::new()]);
        let (again, repeated, swapped, clocks) = (0, 0, BTreeSet::new(), vec![(0, 0)]);
        let (programmed, tells_no_time, pushes_taken, reader) = (false, false, 0, String::new());
        Self {
            nature: decoder.nature,
            end: decoder.end,
            start,
            source,
            limit,
            files,
            reads: 0,
            locations,
            again,
            clocks,
            boots: Vec::new(),
            repeated,
            swapped,
            pushes_taken,
            reader,
            tells_no_time,
            programmed,
        }
    }

    /// The memory of a recording. `reads_in` returns the reads in a row.
    pub(crate) fn recording(
        decoder: Simulated,
        start: DateTime,
        rows: Vec<Vec<u8>>,
        rate: f64,
        reads_in: impl Fn(&[u8]) -> Vec<SimRead>,
    ) -> Self {
        let rows: Vec<Box<[u8]>> = rows.into_iter().map(Vec::into_boxed_slice).collect();
        let reads = rows.iter().map(|row| reads_in(row)).collect();
        let gap_us = (1e6 / rate.max(1e-3)) as u64;
        let source = Source::Recording { rows, reads, played: 0, gap_us, began_us: 0 };
        Self::of(decoder, start, source, u64::MAX)
    }

    /// The number of entries in the log: reads, or rows of a recording.
    pub(crate) fn len(&self) -> usize {
        match &self.source {
            Source::Race { log, .. } => log.len(),
            Source::Recording { played, .. } => *played,
        }
    }

    /// The number of reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// When the next entry happens, in microseconds since the start. `None`: no entry is left.
    pub(crate) fn due_us(&self) -> Option<u64> {
        match &self.source {
            Source::Race { next, log, .. } => next.filter(|_| (log.len() as u64) < self.limit).map(|next| next.due_us),
            Source::Recording { rows, played, gap_us, began_us, .. } => {
                (*played < rows.len()).then(|| began_us + gap_us.saturating_mul(*played as u64))
            }
        }
    }

    /// The race begins at this time, in microseconds since the decoder started: its first crossing
    /// is so much later.
    pub(crate) fn begin_at(&mut self, us: u64) {
        match &mut self.source {
            Source::Race { race, next, .. } => {
                let first = next.map_or(0, |next| next.due_us);
                race.not_before(us + first, next);
            }
            Source::Recording { began_us, .. } => *began_us = us,
        }
    }

    /// The next entry happens now. Returns false if no entry is left.
    pub(crate) fn happen(&mut self) -> bool {
        if self.due_us().is_none() {
            return false;
        }
        match &mut self.source {
            Source::Race { race, next, log } => {
                let Some(crossing) = next.take() else { return false };
                log.push(Detection { chip: crossing.chip, stamp_us: crossing.stamp_us });
                *next = race.next();
                self.reads += 1;
            }
            Source::Recording { reads, played, .. } => {
                self.reads += reads[*played].len() as u64;
                *played += 1;
            }
        }
        true
    }

    /// A detection with its position. `None`: the entry is of a recording.
    pub(crate) fn placed(&self, entry: usize) -> Option<Placed> {
        let Source::Race { log, .. } = &self.source else { return None };
        let Detection { chip, stamp_us } = *log.get(entry)?;
        let (file, first) = self.file_of(entry);
        let unit = self.nature.resolution_ms();
        let millis = i64::try_from(stamp_us / 1000 / unit * unit).unwrap_or(i64::MAX);
        let off = self.clocks.iter().rfind(|(from, _)| *from <= entry).map_or(0, |(_, off)| *off);
        let at = self.start.saturating_add(millis.saturating_add(off).milliseconds());
        let boot = self.boots.iter().rfind(|(from, _)| *from <= entry);
        let on_ms = boot.map(|(_, boot)| at.duration_since(*boot).as_millis().max(0) as u64);
        Some(Placed { chip, at, number: (entry - first) as u64 + 1, file, on_ms })
    }

    /// The decoder is switched off and on after its last read, and has lost its clock.
    pub(crate) fn reboot(&mut self) {
        let last = self.len().checked_sub(1).and_then(|last| self.placed(last));
        self.boots.push((self.len(), last.map_or(self.start, |last| last.at)));
    }

    /// Names the timing points. Without names there is one timing point without a name.
    pub(crate) fn set_locations(&mut self, locations: Vec<String>) {
        let mut named: Vec<String> = match &self.source {
            Source::Recording { rows, .. } => {
                rows.iter().filter_map(|row| Some(self.nature.recorded_place(row)?.0)).collect()
            }
            Source::Race { .. } => Vec::new(),
        };
        named.dedup();
        named.sort();
        named.dedup();
        if !named.is_empty() {
            self.locations = named;
        } else if !locations.is_empty() {
            self.locations = locations;
        }
    }

    /// The timing points.
    pub(crate) fn locations(&self) -> &[String] {
        &self.locations
    }

    /// The location of an entry, and its number there. Each location has ten entries in a row, one
    /// location after the other.
    pub(crate) fn located(&self, entry: usize) -> Option<(String, u64)> {
        const BLOCK: u64 = 10;
        if let Some(row) = self.recorded(entry) {
            return self.nature.recorded_place(row);
        }
        let at = self.placed(entry)?.number - 1;
        let count = self.locations.len() as u64;
        let location = usize::try_from(at / BLOCK % count).ok()?;
        Some((self.locations.get(location)?.clone(), at / (BLOCK * count) * BLOCK + at % BLOCK + 1))
    }

    /// The recorded row. `None`: the race is made up.
    pub(crate) fn recorded(&self, entry: usize) -> Option<&[u8]> {
        match &self.source {
            Source::Race { .. } => None,
            Source::Recording { rows, .. } => rows.get(entry).map(|row| &row[..]),
        }
    }

    /// The reads of an entry, as a test compares them.
    pub(crate) fn reads_of(&self, entry: usize) -> Vec<SimRead> {
        if let Source::Recording { reads, .. } = &self.source {
            return reads.get(entry).cloned().unwrap_or_default();
        }
        let placed = self.placed(entry);
        let read = |placed: Placed| SimRead {
            chip: self.nature.chip(placed.chip).into(),
            stamp: placed.on_ms.map_or_else(|| self.nature.stamp(placed.at), Stamp::Uptime),
            number: placed.number,
        };
        placed.map(read).into_iter().collect()
    }

    /// The number of the current file, from 1.
    pub(crate) fn file(&self) -> u64 {
        self.current().number
    }

    fn current(&self) -> File {
        self.files.last().copied().unwrap_or(FIRST_FILE)
    }

    /// The entries that exist of a file (all of them, or those since it was cleared).
    pub(crate) fn entries(&self, file: u64) -> Range<usize> {
        match self.files.iter().rposition(|begun| begun.number == file) {
            None => 0..0,
            Some(at) => self.files[at].first..self.files.get(at + 1).map_or(self.len(), |next| next.first),
        }
    }

    /// The entries with the numbers `from..=to` of a file.
    pub(crate) fn range(&self, file: u64, from: u64, to: u64) -> Range<usize> {
        let all = self.entries(file);
        let at = |number: u64| all.start.saturating_add(usize::try_from(number).unwrap_or(usize::MAX)).min(all.end);
        let start = at(from.saturating_sub(1));
        start..at(to).max(start)
    }

    /// When a file began, in the time of the decoder's clock.
    pub(crate) fn began(&self, file: u64) -> DateTime {
        let file = self.files.iter().rfind(|begun| begun.number == file);
        let (seconds, off) = file.map_or((0, 0), |file| (i64::try_from(file.began_s).unwrap_or(i64::MAX), file.off_ms));
        self.start.saturating_add(seconds.seconds()).saturating_add(off.milliseconds())
    }

    /// The decoder begins a new file, and the numbers start at 1 again. The race waits for the next
    /// full second, so that no read of the old file is later than the beginning of the new one.
    pub(crate) fn new_file(&mut self) {
        let first = self.len();
        let current = self.current();
        let mut began_s = current.began_s + 1;
        if let Source::Race { race, next, log } = &mut self.source {
            began_s = began_s.max(log.last().map_or(0, |last| last.stamp_us / 1_000_000 + 1));
            race.not_before(began_s * 1_000_000, next);
        }
        let off_ms = self.clock_off_ms();
        self.files.push(File { number: current.number + 1, first, began_s, off_ms });
    }

    /// A person clears the current file at the decoder.
    pub(crate) fn clear(&mut self) {
        self.files.push(File { first: self.len(), ..self.current() });
    }

    /// A person makes the decoder send its whole memory to every peer.
    pub(crate) fn give_again(&mut self) {
        self.again += 1;
    }

    /// How many times that was done.
    pub(crate) fn again(&self) -> u64 {
        self.again
    }

    /// A person changes the clock by this number of milliseconds.
    pub(crate) fn set_clock(&mut self, by_ms: i64) {
        let off = self.clock_off_ms() + by_ms;
        self.clocks.push((self.len(), off)); // a few times in a test
    }

    /// The error of the clock.
    pub(crate) fn clock_off_ms(&self) -> i64 {
        self.clocks.last().map_or(0, |(_, off)| *off)
    }

    /// The last read is sent again.
    pub(crate) fn repeat_last(&mut self) {
        self.repeated += 1;
    }

    /// How many times that was done.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Another program makes the decoder send new reads to itself, or to nobody.
    pub(crate) fn take_push(&mut self) {
        self.pushes_taken += 1;
    }

    /// How many times that was done.
    pub(crate) fn pushes_taken(&self) -> u64 {
        self.pushes_taken
    }

    /// The next two reads are sent in swapped order.
    pub(crate) fn swap_two(&mut self) {
        self.swapped.insert(self.len());
    }

    /// The entry that is sent in the place of this one. `None`: it waits until the next one
    /// happens.
    pub(crate) fn said_at(&self, entry: usize) -> Option<usize> {
        if self.swapped.contains(&entry) {
            return Some(entry + 1).filter(|next| *next < self.len());
        }
        let before = entry.checked_sub(1).filter(|before| self.swapped.contains(before));
        Some(before.unwrap_or(entry))
    }

    /// The number of an entry's file, and where that file begins.
    fn file_of(&self, entry: usize) -> (u64, usize) {
        let at = self.files.partition_point(|file| file.first <= entry);
        let file = at.checked_sub(1).map_or(FIRST_FILE, |at| self.files[at]);
        (file.number, file.first)
    }
}
