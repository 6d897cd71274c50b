//! The dedup index: which reads were ever kept. It distinguishes a duplicate from a new read,
//! however long ago the first one arrived.
//!
//! A read is a duplicate if and only if an earlier entry of the log is a read of the same decoder
//! (in any source) with the same identity ([`crate::model::chip::ChipRead::identity`]: chip, stamp,
//! antenna, and the decoder's own position for it; if the stamp has no date, also the day:
//! [`super::undated`]). Reads that have no day, or only the time since their decoder was switched
//! on, are not in the index but in the state. The newest reads are in memory with the state. This
//! index contains all reads, beside the log: runs of identity and entry number, sorted by identity,
//! 16 bytes for each read. A find counts only if its number is *below* the number of the read in
//! question, so the verdict follows from the log alone: it is the same live, after a crash in the
//! middle, in a replay and in a rebuild. An index that is ahead of the queue's state cannot make a
//! replayed read a duplicate of itself.
//!
//! What must hold:
//! * **Never lose.** Only the content makes a read a duplicate. There is no rule such as "its
//!   position is stored and its stamp is old": such a rule would hide reads of a decoder that was
//!   cleared and whose clock was set back. A read in doubt is uploaded twice and people can see
//!   that, and every read is in the log with what became of it.
//! * **Trusted as far as the queue is.** If log lines were lost, a read recorded in them may be
//!   neither uploaded nor queued. When the decoder sends such a read again, it counts as new. So at
//!   the start only those runs are trusted that the queue's checkpoint covers, or whose segments
//!   were removed on purpose (settled and past their retention). All other entries are read from
//!   the log again. The same procedure replaces runs that are damaged or missing, and it fills the
//!   index of a data directory that had none.
//! * **Outlives its versions.** Runs of a version that knew no days are right about reads with a
//!   date. The first start of this version reads the entries that these runs cover from the log
//!   again, as far as the log still has them. Of the entries that the log no longer has, reads
//!   without a date are recognised only by their position in the decoder's memory, and all other
//!   ones are of past days.
//! * **Microseconds count only where both reads have them**
//!   ([`crate::model::chip::ReadIdentities`]). So a read that an older version kept is recognised
//!   as before, and the form on the disk is the same.
//! * **Nobody waits.** The writer looks reads up after the group is durable, without the journal's
//!   lock. Almost no read has to be looked up on the disk: a run knows the first and the last stamp
//!   of each decoder in it, and a duplicate has the same stamp as the first read. A read that may
//!   be in a run costs one disk read of about 4 KiB.
//! * **Outlives the log.** The run of a removed segment stays: a decoder that is asked after months
//!   sends reads that were uploaded then. Before a segment is removed, its reads are in a run on
//!   the disk.
//! * **Bounded.** There are at most [`RUN_READS`] identities in memory before they become a run, at
//!   most [`PARTS_MAX`] such parts while the disk does not take them, and at most [`INDEX_READS`]
//!   in all, or an eighth of what the journal may use (at least a million). Beyond that the oldest
//!   run is removed, and a duplicate of a read in it counts as new.
//!
//! Rejected: *reading the log for the range before a question by hand is sent* (the operator would
//! have to wait for it, and it does not help if a decoder sends everything unasked on each
//! connection); *more identities in memory* (56 bytes each); *an index in sled* (it grows slowly,
//! and doubles what is written for each read); *deciding by stored positions and stamps* (above).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::entry::{Body, Entry};
use super::failpoint;
use super::log::LogPlace;
use super::paths::make_dir;
use super::undated::{self, Which};
use crate::model::chip::{ChipRead, Stamp};
use crate::model::clock::Zones;
use crate::model::source;
use crate::status::{Board, ProblemCode};

mod run;

use run::{Run, RunContent, Spans};

/// Reads in a run: a megabyte on the disk, and before that 2 MB in memory.
const RUN_READS: usize = 65_536;
/// Reads in all runs: 64 MB.
const INDEX_READS: u64 = 4 * 1024 * 1024;
/// Parts that wait in memory to become runs. If there are more, the disk does not take any, and the
/// oldest part is dropped.
const PARTS_MAX: usize = 4;

/// Directory of the index below the data directory.
pub(super) fn known_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("known")
}

/// Which runs are trusted at the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// The queue followed the log up to this entry.
    pub followed: u64,
    /// First number of the oldest segment that was not removed on purpose.
    pub oldest: u64,
}

/// The dedup index.
#[derive(Default)]
pub(super) struct DedupIndex {
    dir: PathBuf,
    identity: String,
    run_reads: usize,
    index_reads: u64,
    /// The runs, oldest first.
    runs: Vec<Arc<Run>>,
    /// The stamps of all runs together: those of a live read are outside, so that no run is asked.
    in_runs: Spans,
    /// Full parts that are not on the disk yet, oldest first.
    parts: VecDeque<Arc<Part>>,
    fresh: Part,
    /// The index contains all reads up to this entry.
    through: u64,
    /// The index follows the writer.
    pub live: bool,
    /// Zones of the decoders' clocks.
    pub zones: Zones,
    /// A part had to be dropped. Later parts are not made runs, so that the next start reads their
    /// entries from the log.
    torn: bool,
    /// A file of the index was missing when it was read.
    removed: bool,
    /// The disk did not take the last part.
    failed: bool,
    /// A complaint that is still to be shown as a problem.
    pub complaint: Option<String>,
}

/// Reads that will become a run.
#[derive(Clone, Default)]
struct Part {
    from: u64,
    through: u64,
    /// Place in the log behind the entry `through`.
    place: LogPlace,
    /// Number of the first read with each key.
    reads: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    spans: Spans,
}

/// A key is already spread evenly, so it is its own hash.
#[derive(Clone, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv(bytes); // never called, because all keys are `u64`
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The content of a run to be written. It is written without any lock.
pub(super) struct Job {
    dir: PathBuf,
    identity: String,
    part: Arc<Part>,
    /// The run before it, if both together are small enough for one run.
    with: Option<Arc<Run>>,
}

/// One name of a read, as the index knows it.
#[derive(Clone, Copy)]
struct Clue {
    key: u64,
    /// A hash of the decoder and the kind of stamp. `ms` is the stamp.
    span: u64,
    ms: i64,
}

/// What the index says about an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recognised {
    /// It is a read that the index knows already.
    pub known: bool,
    /// Which read it is, if it is one.
    pub which: Option<Which>,
}

/// The names of a read.
struct Clues {
    /// What they were made of.
    which: Which,
    /// It is kept under these.
    own: [Option<Clue>; 2],
    /// It is known by the first of `own`, and by these.
    others: [Option<Clue>; 2],
    /// It is kept under this as well, and known by it when the decoder says that it was stored.
    placed: Option<Clue>,
}

impl Clues {
    fn of(entry: &Entry, read: &ChipRead, zones: &Zones) -> Self {
        let subject = &*entry.subject;
        let decoder = fnv(source::decoder(subject).as_bytes());
        let clues = |kind: u64, stamp: Stamp| {
            let (span, ms) = (spread(decoder ^ kind), stamp_ms(stamp));
            move |identity: u64| Clue { key: spread(identity ^ spread(decoder)), span, ms }
        };
        let kind = match read.stamp {
            Stamp::Local(_) => 1,
            Stamp::TimeOfDay { .. } => 2,
            Stamp::Utc(_) => 3,
            Stamp::Uptime(_) => 4,
        };
        let which = undated::which(read, subject, entry.time, zones);
        let named = match which {
            Which::Ever(identities) => Some((identities, kind, read.stamp)),
            Which::Day(identities, at) => Some((identities, 5, Stamp::Local(at))),
            Which::NoDay | Which::Life => None,
        };
        let placed = undated::is_placed(read).then(|| clues(kind, read.stamp)(read.identity()));
        let Some((identities, day_kind, at)) = named else {
            return Self { which, own: [None; 2], others: [None; 2], placed };
        };
        let here = clues(day_kind, at);
        Self {
            which,
            own: [Some(here(identities.own.0)), identities.own.1.map(here)],
            others: [Some(here(identities.other)), undated::as_dated(read).map(clues(kind, read.stamp))],
            placed,
        }
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Decoder time in milliseconds, as it is stamped. Only differences between two results have a
/// meaning.
fn stamp_ms(stamp: Stamp) -> i64 {
    let in_utc = |local| jiff::tz::TimeZone::UTC.to_timestamp(local).map_or(0, jiff::Timestamp::as_millisecond);
    match stamp {
        Stamp::Utc(instant) => instant.as_millisecond(),
        Stamp::Local(local) => in_utc(local),
        Stamp::Uptime(ms) => i64::try_from(ms).unwrap_or(i64::MAX),
        Stamp::TimeOfDay { time, day } => {
            let of_day = in_utc(jiff::civil::date(1970, 1, 1).to_datetime(time));
            i64::from(day.unwrap_or(0)) * DAY_MS + of_day
        }
    }
}

/// Stored with the runs, so it must stay the same for ever.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Maps numbers one to one, and evenly over all 64 bits (the finaliser of `SplitMix64`).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl DedupIndex {
    /// Whether its files exist. If the directory is missing, it is made again.
    pub(super) fn is_there(&self) -> bool {
        if self.live && !self.dir.is_dir() {
            let _ = make_dir(&self.dir); // a directory that cannot be written is reported later
        }
        !self.removed && self.runs.iter().all(|run| run.path.is_file())
    }

    /// Opens what is on the disk and can be trusted. `keep_bytes`: the bytes that the journal may
    /// use. A file that cannot be read counts as missing, because the log has its reads.
    pub(super) fn open(data_dir: &Path, identity: &str, trust: Trust, keep_bytes: u64) -> Self {
        let dir = known_dir(data_dir);
        let index_reads = (keep_bytes / 8 / run::READ_BYTES).clamp(INDEX_READS / 4, INDEX_READS);
        let run_reads = failpoint::recent(4 * RUN_READS) / 4;
        let runs = make_dir(&dir).and_then(|()| run::open_all(&dir, identity)).unwrap_or_else(|error| {
            tracing::warn!(%error, "the index of known reads cannot be read; it is made anew from the log");
            Vec::new()
        });
        let mut believed: Vec<Arc<Run>> = Vec::new();
        let mut doubted = false;
        for run in runs {
            let before = believed.last().map_or(run.from - 1, |before| before.through);
            // A gap among removed entries can no longer be filled. A gap among entries that the log
            // has can be filled.
            let whole = run.from == before + 1 || run.from <= trust.oldest;
            let gone = trust.oldest.saturating_sub(1);
            let limit = if run.without_days { gone } else { trust.followed.max(gone) };
            doubted |= !whole || run.from > limit;
            if !doubted && run.through <= limit {
                believed.push(Arc::new(run));
                continue;
            }
            // A run that goes beyond the limit of trust: only the part before the limit is used.
            let first = if doubted { None } else { run.before(limit, &dir, identity) };
            doubted = true;
            believed.extend(first.map(Arc::new));
            let _ = disk::remove(&run.path);
        }
        let through = believed.last().map_or(0, |last| last.through);
        let place = believed.last().map_or_else(LogPlace::default, |last| last.place);
        let fresh = Part { from: through + 1, through, place, ..Part::default() };
        let identity = identity.to_owned();
        let runs = believed;
        let mut index = Self { dir, identity, run_reads, index_reads, runs, fresh, through, ..Self::default() };
        index.note_spans();
        index
    }

    /// To be called when the runs have changed.
    fn note_spans(&mut self) {
        self.in_runs = Spans::default();
        self.runs.iter().for_each(|run| self.in_runs.merge(&run.spans));
    }

    /// The last entry that the index contains, and the place in the log behind that entry.
    pub(super) fn place(&self) -> (u64, LogPlace) {
        (self.through, self.fresh.place)
    }

    /// Records an entry, in the order of the log, and returns whether it is a duplicate of an
    /// earlier read. An entry that is recorded already is only looked up.
    pub(super) fn take(&mut self, entry: &Entry) -> Recognised {
        let mut found = Recognised::default();
        if let Body::Read(read) = &entry.body {
            let clues = Clues::of(entry, read, &self.zones);
            let (known, own_known) = self.look_up(entry, read, &clues);
            found = Recognised { known, which: Some(clues.which) };
            if entry.seq > self.through {
                let own = clues.own.into_iter().flatten().filter(|_| !own_known);
                for clue in own.chain(clues.placed) {
                    self.fresh.reads.entry(clue.key).or_insert(entry.seq);
                    self.fresh.spans.add(clue.span, clue.ms);
                }
            }
        }
        self.through = self.through.max(entry.seq);
        found
    }

    /// Whether an entry that is not recorded yet is a duplicate of a recorded read.
    pub(super) fn knows(&mut self, entry: &Entry) -> bool {
        let Body::Read(read) = &entry.body else { return false };
        self.look_up(entry, read, &Clues::of(entry, read, &self.zones)).0
    }

    /// Whether the read is a duplicate of an earlier one, and whether it is one by its own name.
    fn look_up(&mut self, entry: &Entry, read: &ChipRead, clues: &Clues) -> (bool, bool) {
        let mut before = |clue: &Clue| self.first(clue).is_some_and(|seq| seq < entry.seq);
        let own_known = clues.own[0].as_ref().is_some_and(&mut before);
        // `placed` is not looked up before it is recorded, because only the lowest number of a
        // key counts.
        let known = own_known
            || clues.others.iter().flatten().any(&mut before)
            || (read.replay && clues.placed.as_ref().is_some_and(before));
        (known, own_known)
    }

    /// Records a group that ends at this place. Returns what it says about each entry.
    pub(super) fn take_all(&mut self, entries: &[Entry], place: LogPlace) -> Vec<Recognised> {
        let found = entries.iter().map(|entry| self.take(entry)).collect();
        self.passed(place);
        found
    }

    /// Call this when the recorded entries end at this place in the log.
    pub(super) fn passed(&mut self, place: LogPlace) {
        if self.fresh.through < self.through {
            (self.fresh.through, self.fresh.place) = (self.through, place);
        }
        if self.fresh.reads.len() >= self.run_reads {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Part { through, place, .. } = self.fresh;
        let next = Part { from: through + 1, through, place, ..Part::default() };
        self.parts.push_back(Arc::new(std::mem::replace(&mut self.fresh, next)));
        if self.parts.len() > PARTS_MAX {
            self.parts.pop_front();
            self.tear("the disk does not take it");
        }
    }

    /// The number of the first read with this identity.
    fn first(&mut self, clue: &Clue) -> Option<u64> {
        let in_part = |part: &Part| part.reads.get(&clue.key).copied();
        let mut found = in_part(&self.fresh).or_else(|| self.parts.iter().find_map(|part| in_part(part)));
        let mut damaged = None;
        let asked = self.in_runs.may_hold(clue.span, clue.ms);
        for (at, run) in self.runs.iter().enumerate().rev().filter(|_| asked) {
            if !run.spans.may_hold(clue.span, clue.ms) {
                continue;
            }
            match run.find(clue.key) {
                Ok(seq) => found = seq.or(found),
                Err(error) => {
                    self.removed |= !run.path.exists();
                    damaged = Some((at, format!("{}: {error}", run.path.display())));
                }
            }
        }
        if let Some((at, why)) = damaged {
            // The next start makes it again from the log.
            let _ = disk::remove(&self.runs.remove(at).path);
            self.note_spans();
            self.tear(&why);
        }
        found
    }

    fn tear(&mut self, why: &str) {
        if !std::mem::replace(&mut self.torn, true) {
            self.complaint = Some(format!(
                "a part of the index of the reads that were ever kept is gone ({why}). Until passbridge is restarted, which makes \
                 it anew from the log, a read that is fetched again may be sent twice. Is the disk failing?"
            ));
        }
    }

    /// The next part that becomes a run. Its numbers are at most `followed`, so the queue's
    /// checkpoint covers them. Reads in segments before `segment` (its first number) become a run
    /// even if they are few, because those segments may be removed.
    pub(super) fn job(&mut self, followed: u64, segment: u64) -> Option<Job> {
        if self.torn {
            return None;
        }
        if self.fresh.from < segment && !self.fresh.reads.is_empty() {
            // It is written as soon as a checkpoint covers it, however fast reads arrive.
            self.seal();
        }
        let part = Arc::clone(self.parts.front().filter(|part| part.through <= followed)?);
        let small = |last: &&Arc<Run>| {
            last.reads() + part.reads.len() as u64 <= self.run_reads as u64 && last.through + 1 == part.from
        };
        let with = self.runs.last().filter(small).map(Arc::clone);
        Some(Job { dir: self.dir.clone(), identity: self.identity.clone(), part, with })
    }

    /// The first number whose reads are in no run yet and can still become one. Its segment must
    /// stay.
    pub(super) fn unsaved_from(&self) -> u64 {
        let parts = self.parts.iter().map(|part| &**part).chain([&self.fresh]);
        let waiting = parts.filter(|part| !part.reads.is_empty() && !self.torn && !self.failed);
        waiting.map(|part| part.from).next().unwrap_or(u64::MAX)
    }

    /// Writes the full parts. Only for use while nobody else uses the index.
    pub(super) fn save(&mut self, board: &Board) {
        while !self.failed
            && let Some(job) = self.job(u64::MAX, 0)
            && let Some(useless) = self.written(&job, job.write(), board)
        {
            remove_all(&useless);
        }
    }

    /// Records the result of a job. Returns the files that are no longer needed. `None`: the disk
    /// does not take the run now.
    pub(super) fn written(&mut self, job: &Job, written: io::Result<Run>, board: &Board) -> Option<Vec<PathBuf>> {
        match written {
            Ok(run) => {
                if std::mem::take(&mut self.failed) {
                    board.clear(ProblemCode::KnownReads, "");
                }
                Some(self.saved(job, run))
            }
            Err(error) => {
                self.failed = true;
                let message = format!(
                    "the index of the reads that were ever kept cannot be written ({error}); it is tried again. Until then a read \
                     that is fetched again after a restart may be sent twice"
                );
                board.raise(ProblemCode::KnownReads, "", message);
                None
            }
        }
    }

    fn saved(&mut self, job: &Job, run: Run) -> Vec<PathBuf> {
        let mut useless = Vec::new();
        if self.parts.front().is_none_or(|front| !Arc::ptr_eq(front, &job.part)) {
            return vec![run.path]; // the part was dropped meanwhile
        }
        self.parts.pop_front();
        if let Some(merged) = &job.with {
            self.runs.retain(|run| !Arc::ptr_eq(run, merged));
            useless.push(merged.path.clone());
        }
        self.runs.push(Arc::new(run));
        let mut all: u64 = self.runs.iter().map(|run| run.reads()).sum();
        while all > self.index_reads && self.runs.len() > 1 {
            let oldest = self.runs.remove(0);
            all -= oldest.reads();
            useless.push(oldest.path.clone());
        }
        self.note_spans();
        useless
    }
}

/// Removes files. A file that cannot be removed now is removed when the index is opened again.
pub(super) fn remove_all(useless: &[PathBuf]) {
    for path in useless {
        let _ = disk::remove(path);
    }
}

impl Job {
    /// Writes the run and makes it durable.
    pub(super) fn write(&self) -> io::Result<Run> {
        let mut reads: Vec<(u64, u64)> = self.part.reads.iter().map(|(key, seq)| (*key, *seq)).collect();
        let mut spans = self.part.spans.clone();
        let mut from = self.part.from;
        if let Some(before) = &self.with {
            reads.extend(before.read_all()?);
            spans.merge(&before.spans);
            from = before.from;
        }
        let Part { through, place, .. } = *self.part;
        Run::write(&self.dir, RunContent { identity: &self.identity, from, through, place, reads, spans })
    }
}

#[cfg(test)]
mod tests;
