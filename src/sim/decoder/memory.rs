//! What a simulated decoder remembers: every read, in files, and the race or recording they come from.
//! What the simulator of a protocol has to know stands beside it ([`Model`], [`Talk`]), because each is said in terms of
//! the other. Pure; knows no socket and no clock.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::ToSpan;
use jiff::civil::DateTime;

use super::race::{Crossing, Race};
use super::wire::Outgoing;
use crate::decoders::{Frame, Output, Settings};
use crate::model::chip::Stamp;

/// Most reads of a made-up race: 22 hours at 50 a second, 64 MB.
pub const READS_MAX: u64 = 4_000_000;

/// A read that happened: what must be kept and uploaded, whatever went wrong on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRead {
    /// Chip code as sent.
    pub chip: Box<str>,
    /// Stamp as sent.
    pub stamp: Stamp,
    /// Passing number in its file; a running number where the protocol has none.
    pub number: u64,
}

/// A command that a decoder must never get from the box; kept for the judge.
pub(super) struct Forbidden(pub(super) String);

/// A simulated decoder's nature.
pub(super) trait Model: Sync {
    /// The protocol's name in the registry.
    fn name(&self) -> &'static str;

    /// The chip code of a runner, as our protocol decodes what the real system sends.
    fn chip(&self, number: u32) -> String;

    /// The stamp as our protocol decodes it, for a crossing at this wall time of the decoder.
    fn stamp(&self, at: DateTime) -> Stamp {
        Stamp::Local(at)
    }

    /// What the decoder's clock counts in, milliseconds.
    fn resolution_ms(&self) -> u64 {
        1
    }

    /// It connects to the box; else it waits to be connected to.
    fn connects(&self) -> bool {
        false
    }

    /// It stores nothing that can be asked for: what nobody listened to is gone.
    fn streams(&self) -> bool {
        false
    }

    /// Ends a frame on the wire, or whatever noise there is.
    fn end(&self) -> &'static [u8] {
        b"\r\n"
    }

    /// Noise that costs no frame but itself.
    fn noise(&self) -> Vec<u8> {
        [b"\x15~noise\xfe", self.end()].concat()
    }

    /// The options under which our protocol reads it, where it does not without.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// A recording of this protocol in the rows that [`super::Source::Recording`] takes, without their ends.
    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        lines_of(recording, b'\n')
    }

    /// A conversation with one peer.
    fn talk(&self) -> Box<dyn Talk>;
}

/// One side of a conversation with one peer.
pub(super) trait Talk: Send {
    /// The connection is there.
    fn begin(&mut self, memory: &Memory, now: DateTime, out: &mut Outgoing);

    /// Takes bytes and answers the commands that they end. `now` is the decoder's clock.
    fn hear(&mut self, bytes: &[u8], memory: &Memory, now: DateTime, out: &mut Outgoing) -> Result<(), Forbidden>;

    /// Pushes what happened since, a bounded number of reads. True if more is left.
    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool;

    /// A second went by: life signs.
    fn second(&mut self, now: DateTime, out: &mut Outgoing) {
        let _ = (now, out);
    }

    /// Another connection is open. True: this one is not served, and was told so.
    fn refuse(&mut self, out: &mut Outgoing) -> bool {
        let _ = out;
        false
    }

    /// It closes the connection.
    fn is_done(&self) -> bool {
        false
    }

    /// Another connection came after this one.
    fn is_superseded(&mut self) {}
}

/// One read of the made-up race, as the decoder's memory holds it: 16 bytes, so that a long race stays small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detection {
    pub(super) chip: u32,
    pub(super) stamp_us: u64,
}

/// A detection with its place and its time as the protocols write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) chip: u32,
    /// Local wall time, as fine as the decoder counts.
    pub(super) at: DateTime,
    /// From 1 in each file.
    pub(super) number: u64,
    /// From 1.
    pub(super) file: u64,
    /// Milliseconds since it was switched on, where it has no clock.
    pub(super) on_ms: Option<u64>,
}

/// Where a file begins in the log, and when. A file that is cleared begins again under its number.
#[derive(Clone, Copy, Debug)]
struct File {
    /// From 1.
    number: u64,
    first: usize,
    /// Seconds since the start; no two files have the same.
    began_s: u64,
    /// How the decoder's clock was off then.
    off_ms: i64,
}

const FIRST_FILE: File = File { number: 1, first: 0, began_s: 0, off_ms: 0 };

enum Source {
    Race { race: Box<Race>, next: Option<Crossing>, log: Vec<Detection> },
    Recording { rows: Vec<Box<[u8]>>, reads: Vec<Vec<SimRead>>, played: usize, gap_us: u64 },
}

/// Memory of a decoder. Bound: [`READS_MAX`] reads of 16 bytes, or the recording.
pub(super) struct Memory {
    pub(super) model: &'static dyn Model,
    pub(super) start: DateTime,
    source: Source,
    limit: u64,
    /// The last is the current one.
    files: Vec<File>,
    /// Reads so far (a recorded MYLAPS message holds many).
    reads: u64,
    /// At least one.
    locations: Vec<String>,
    /// How often somebody at the decoder had it give its memory again.
    again: u64,
    /// From which entry on the decoder's clock is off by how much, in milliseconds; the last is how it stands.
    clocks: Vec<(usize, i64)>,
    /// LLRP: at which entries it was switched on again, and by which clock; from the first on it has none.
    boots: Vec<(usize, DateTime)>,
    /// It does not say what its clock shows.
    pub(super) tells_no_time: bool,
    /// How often the last read was said once more.
    repeated: u64,
    /// Entries that are said after the one that follows them.
    swapped: BTreeSet<usize>,
    /// How often another program took over what is sent unasked.
    pushes_taken: u64,
    /// Id of the reader, where records name one.
    pub(super) reader: String,
    /// LLRP: other software left an inventory that runs.
    pub(super) programmed: bool,
}

impl Memory {
    pub(super) fn race(model: &'static dyn Model, start: DateTime, mut race: Race, limit: Option<u64>) -> Self {
        let next = race.next();
        let source = Source::Race { race: Box::new(race), next, log: Vec::new() };
        let limit = limit.unwrap_or(READS_MAX).min(READS_MAX);
        Self::of(model, start, source, limit)
    }

    fn of(model: &'static dyn Model, start: DateTime, source: Source, limit: u64) -> Self {
        let (files, locations) = (vec![FIRST_FILE], vec![String::new()]);
        let (again, repeated, swapped, clocks) = (0, 0, BTreeSet::new(), vec![(0, 0)]);
        let (programmed, tells_no_time, pushes_taken, reader) = (false, false, 0, String::new());
        Self {
            model,
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

    pub(super) fn recording(model: &'static dyn Model, start: DateTime, rows: Vec<Vec<u8>>, rate: f64) -> Self {
        let rows: Vec<Box<[u8]>> = rows.into_iter().map(Vec::into_boxed_slice).collect();
        let reads = rows.iter().map(|row| reads_in(model, row)).collect();
        let source = Source::Recording { rows, reads, played: 0, gap_us: (1e6 / rate.max(1e-3)) as u64 };
        Self::of(model, start, source, u64::MAX)
    }

    /// Entries in the log: reads, or rows of a recording.
    pub(super) fn len(&self) -> usize {
        match &self.source {
            Source::Race { log, .. } => log.len(),
            Source::Recording { played, .. } => *played,
        }
    }

    /// Reads so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads
    }

    /// When the next entry happens, in microseconds since the start; `None` when there is none.
    pub(super) fn due_us(&self) -> Option<u64> {
        match &self.source {
            Source::Race { next, log, .. } => next.filter(|_| (log.len() as u64) < self.limit).map(|next| next.due_us),
            Source::Recording { rows, played, gap_us, .. } => {
                (*played < rows.len()).then(|| gap_us.saturating_mul(*played as u64))
            }
        }
    }

    /// The next entry happens now. False when there is none.
    pub(super) fn happen(&mut self) -> bool {
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

    /// A detection with its place, `None` for an entry of a recording.
    pub(super) fn placed(&self, entry: usize) -> Option<Placed> {
        let Source::Race { log, .. } = &self.source else { return None };
        let Detection { chip, stamp_us } = *log.get(entry)?;
        let (file, first) = self.file_of(entry);
        let unit = self.model.resolution_ms();
        let millis = i64::try_from(stamp_us / 1000 / unit * unit).unwrap_or(i64::MAX);
        let off = self.clocks.iter().rfind(|(from, _)| *from <= entry).map_or(0, |(_, off)| *off);
        let at = self.start.saturating_add(millis.saturating_add(off).milliseconds());
        let boot = self.boots.iter().rfind(|(from, _)| *from <= entry);
        let on_ms = boot.map(|(_, boot)| at.duration_since(*boot).as_millis().max(0) as u64);
        Some(Placed { chip, at, number: (entry - first) as u64 + 1, file, on_ms })
    }

    /// It is switched off and on after its last read, and has lost its clock.
    pub(super) fn reboot(&mut self) {
        let last = self.len().checked_sub(1).and_then(|last| self.placed(last));
        self.boots.push((self.len(), last.map_or(self.start, |last| last.at)));
    }

    /// Names the timing points; none given: there is one without a name.
    pub(super) fn set_locations(&mut self, locations: Vec<String>) {
        if let Source::Recording { rows, .. } = &self.source
            && self.model.name() == "chronotrack"
        {
            let mut named: Vec<String> = rows.iter().filter_map(|row| Some(recorded_place(row)?.0)).collect();
            named.dedup();
            named.sort();
            named.dedup();
            self.locations = named;
        } else if !locations.is_empty() {
            self.locations = locations;
        }
    }

    /// The timing points.
    pub(super) fn locations(&self) -> &[String] {
        &self.locations
    }

    /// Where an entry was read, and its number there: blocks of ten, one location after the other.
    pub(super) fn located(&self, entry: usize) -> Option<(String, u64)> {
        const BLOCK: u64 = 10;
        if let Some(row) = self.recorded(entry) {
            return recorded_place(row);
        }
        let at = self.placed(entry)?.number - 1;
        let count = self.locations.len() as u64;
        let location = usize::try_from(at / BLOCK % count).ok()?;
        Some((self.locations.get(location)?.clone(), at / (BLOCK * count) * BLOCK + at % BLOCK + 1))
    }

    /// The recorded row, `None` for a made-up race.
    pub(super) fn recorded(&self, entry: usize) -> Option<&[u8]> {
        match &self.source {
            Source::Race { .. } => None,
            Source::Recording { rows, .. } => rows.get(entry).map(|row| &row[..]),
        }
    }

    /// The reads of an entry, as a judge compares them.
    pub(super) fn reads_of(&self, entry: usize) -> Vec<SimRead> {
        if let Source::Recording { reads, .. } = &self.source {
            return reads.get(entry).cloned().unwrap_or_default();
        }
        let placed = self.placed(entry);
        let read = |placed: Placed| SimRead {
            chip: self.model.chip(placed.chip).into(),
            stamp: placed.on_ms.map_or_else(|| self.model.stamp(placed.at), Stamp::Uptime),
            number: placed.number,
        };
        placed.map(read).into_iter().collect()
    }

    /// Number of the current file, from 1.
    pub(super) fn file(&self) -> u64 {
        self.current().number
    }

    fn current(&self) -> File {
        self.files.last().copied().unwrap_or(FIRST_FILE)
    }

    /// Entries of a file that exist (all of them, or those since it was cleared).
    pub(super) fn entries(&self, file: u64) -> Range<usize> {
        match self.files.iter().rposition(|begun| begun.number == file) {
            None => 0..0,
            Some(at) => self.files[at].first..self.files.get(at + 1).map_or(self.len(), |next| next.first),
        }
    }

    /// Entries of `from..=to` of a file.
    pub(super) fn range(&self, file: u64, from: u64, to: u64) -> Range<usize> {
        let all = self.entries(file);
        let at = |number: u64| all.start.saturating_add(usize::try_from(number).unwrap_or(usize::MAX)).min(all.end);
        let start = at(from.saturating_sub(1));
        start..at(to).max(start)
    }

    /// When a file began, by the decoder's clock.
    pub(super) fn began(&self, file: u64) -> DateTime {
        let file = self.files.iter().rfind(|begun| begun.number == file);
        let (seconds, off) = file.map_or((0, 0), |file| (i64::try_from(file.began_s).unwrap_or(i64::MAX), file.off_ms));
        self.start.saturating_add(seconds.seconds()).saturating_add(off.milliseconds())
    }

    /// The decoder begins a new file: numbers start at 1 again. The race waits for the next full second, so that no
    /// read of the old file is later than the new one's beginning.
    pub(super) fn new_file(&mut self) {
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

    /// Somebody clears the current file at the decoder.
    pub(super) fn clear(&mut self) {
        self.files.push(File { first: self.len(), ..self.current() });
    }

    /// Somebody at the decoder has it give all that it stores to everybody who listens.
    pub(super) fn give_again(&mut self) {
        self.again += 1;
    }

    /// How often that was done.
    pub(super) fn again(&self) -> u64 {
        self.again
    }

    /// Somebody sets the clock, by so many milliseconds.
    pub(super) fn set_clock(&mut self, by_ms: i64) {
        let off = self.clock_off_ms() + by_ms;
        self.clocks.push((self.len(), off)); // a few times in a test
    }

    /// By how much the clock is off.
    pub(super) fn clock_off_ms(&self) -> i64 {
        self.clocks.last().map_or(0, |(_, off)| *off)
    }

    /// The last read is said once more.
    pub(super) fn repeat_last(&mut self) {
        self.repeated += 1;
    }

    /// How often that was done.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Another program has what happens from now on sent to itself, or to nobody.
    pub(super) fn take_push(&mut self) {
        self.pushes_taken += 1;
    }

    /// How often that was done.
    pub(super) fn pushes_taken(&self) -> u64 {
        self.pushes_taken
    }

    /// The next two reads are said in swapped order.
    pub(super) fn swap_two(&mut self) {
        self.swapped.insert(self.len());
    }

    /// The entry that is said in the place of this one; `None`: it waits for the next to happen.
    pub(super) fn said_at(&self, entry: usize) -> Option<usize> {
        if self.swapped.contains(&entry) {
            return Some(entry + 1).filter(|next| *next < self.len());
        }
        let before = entry.checked_sub(1).filter(|before| self.swapped.contains(before));
        Some(before.unwrap_or(entry))
    }

    /// The number of an entry's file, and where that begins.
    fn file_of(&self, entry: usize) -> (u64, usize) {
        let at = self.files.partition_point(|file| file.first <= entry);
        let file = at.checked_sub(1).map_or(FIRST_FILE, |at| self.files[at]);
        (file.number, file.first)
    }
}

/// Location and number of a recorded ChronoTrack row.
fn recorded_place(row: &[u8]) -> Option<(String, u64)> {
    let row = String::from_utf8_lossy(row);
    let mut fields = row.split('~').skip(1);
    let number = fields.next()?.parse().ok()?;
    Some((fields.next()?.to_owned(), number))
}

/// What our own protocol reads in a recorded row: the only judge of a recording there is here (the recordings'
/// digests judge the protocol).
fn reads_in(model: &'static dyn Model, row: &[u8]) -> Vec<SimRead> {
    let Some(Ok(mut protocol)) = crate::decoders::spec(model.name()).map(|spec| (spec.make)(&model.settings())) else {
        return Vec::new();
    };
    let mut out = Output::default();
    protocol.feed(row, &mut out);
    protocol.feed(model.end(), &mut out);
    let reads = out.items.into_iter().filter_map(|item| match item {
        crate::decoders::Item::Frame(framed) => match framed.frame {
            Frame::Read(read) => Some(SimRead {
                number: read.position.map_or(0, |position| position.number),
                chip: read.chip,
                stamp: read.stamp,
            }),
            _ => None,
        },
        crate::decoders::Item::Reply(_) | crate::decoders::Item::HangUp(_) => None,
    });
    reads.collect()
}

/// What lies between the `end`s, trimmed, but for what is empty.
pub(super) fn lines_of(recording: &[u8], end: u8) -> Vec<Vec<u8>> {
    let rows = recording.split(|byte| *byte == end).map(|row| row.trim_ascii().to_vec());
    rows.filter(|row| !row.is_empty()).collect()
}
