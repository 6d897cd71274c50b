//! Which reads were ever kept: what tells a repeat from a new read, however long ago the first one came.
//!
//! A read is a repeat if and only if an earlier entry of the log is a read of the same decoder (in whatever source) with
//! the same identity ([`crate::model::chip::ChipRead::identity`]: chip, stamp, antenna, and the decoder's own place for it; of a stamp
//! without a date also the day: [`super::undated`]). Reads that have no day or only the time since their decoder was switched on
//! are not in here, but with the state. The newest
//! are in memory with the state; this is the index of all of them, beside the log: runs of identity and entry number, sorted
//! by identity, 16 bytes a read. Because a find counts only if its number is *below* that of the read in question, the verdict
//! follows from the log alone: live, after a crash in the middle, in a replay and in a rebuild it is the same, and
//! an index that is ahead of the queue's state cannot turn a read that is replayed into its own repeat.
//!
//! What must hold:
//! * **Never lose.** Nothing is taken for a repeat but by content. There is no rule such as "its place is held and its stamp is
//!   old": a decoder that was cleared and whose clock was set back would hide what it reads. What is in doubt goes up
//!   twice and is seen, and every read is in the log with what became of it.
//! * **Trusted as far as the queue is.** A read that lines of the log were lost of may have been neither sent nor be waiting: it is
//!   no repeat when the decoder gives it again. So at start only those runs are believed that the queue's checkpoint
//!   covers, or whose segments were removed on purpose (settled and past their retention); the rest is read from the log
//!   again. The same makes good for runs that are damaged or gone, and for a data directory that had none.
//! * **Outlives its versions.** Runs of a version that knew no days are right about reads with a date. What they cover and the
//!   log still holds is read from the log again at the first start of this version; of what is gone from the log, reads without a
//!   date are known only by their place in the decoder's memory, and all others are of days that are over.
//! * **Nobody waits.** Looked up by the writer after the group is durable, without the journal's lock. Nearly no read has to be looked
//!   up on the disk: a run knows from when to when the stamps of each decoder in it go, and a repeat has the
//!   same stamp. One that may be in a run costs one read of some 4 KiB.
//! * **Outlives the log.** A segment that is removed leaves its run: a decoder that is asked after months gives what
//!   was sent then. Before a segment goes its reads are in a run on the disk.
//! * **Bounded.** [`RUN_READS`] identities in memory before they become a run, [`PARTS_MAX`] such parts while the disk
//!   does not take them; [`INDEX_READS`] in all, or an eighth of what the journal may use (at least a million): then the oldest run goes,
//!   and a read that repeats one in it counts as new.
//!
//! Rejected: *reading the log for the range before a question by hand goes out* (it must be waited for, and does not help
//! where a decoder gives everything unasked, on each connection); *more identities in memory* (56 bytes each);
//! *an index in sled* (it creeps, and doubles what is written of each read); *judging by held places and stamps* (above).

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
use super::state::stamp_ms;
use super::undated::{self, Which};
use crate::model::chip::{ChipRead, Stamp};
use crate::model::clock::Zones;
use crate::model::source;
use crate::status::{Board, ProblemCode};

mod run;

use run::{Run, RunContent, Spans};

/// Reads in a run: a megabyte, and 2 MB in memory before.
const RUN_READS: usize = 65_536;
/// Reads in all runs: 64 MB.
const INDEX_READS: u64 = 4 * 1024 * 1024;
/// Parts that wait in memory to become runs; beyond them the disk does not take any, and the oldest is let go.
const PARTS_MAX: usize = 4;

/// Directory of the index below the data directory.
pub fn known_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("known")
}

/// What is believed of what is found at start.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// The queue followed the log up to here.
    pub followed: u64,
    /// First number of the oldest segment that was not removed on purpose.
    pub oldest: u64,
}

/// The index.
#[derive(Default)]
pub struct DedupIndex {
    dir: PathBuf,
    identity: String,
    run_reads: usize,
    index_reads: u64,
    /// Oldest first.
    runs: Vec<Arc<Run>>,
    /// Full, and not on the disk yet; oldest first.
    parts: VecDeque<Arc<Part>>,
    fresh: Part,
    /// All reads up to here are in it.
    through: u64,
    /// It follows the writer.
    pub live: bool,
    /// Of the decoders' clocks.
    pub zones: Zones,
    /// A part had to be let go: what comes after it is not made a run, so that the next start reads it from the log.
    torn: bool,
    /// A file of it was not there when it was looked into.
    removed: bool,
    /// The disk did not take the last one.
    failed: bool,
    /// To be told.
    pub complaint: Option<String>,
}

/// Reads on their way into a run.
#[derive(Clone, Default)]
struct Part {
    from: u64,
    through: u64,
    /// Place in the log behind `through`.
    place: LogPlace,
    /// Number of the first read by key.
    reads: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    spans: Spans,
}

/// A key is spread evenly already: it is its own hash.
#[derive(Clone, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv(bytes); // never called: keys are of one kind
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// What a run has to be made of. Done without any lock.
pub struct Job {
    dir: PathBuf,
    identity: String,
    part: Arc<Part>,
    /// The run before it, if both are small enough for one.
    with: Option<Arc<Run>>,
}

/// A read, as the index knows it.
struct Clue {
    key: u64,
    /// Decoder and kind of stamp, and the stamp.
    span: u64,
    ms: i64,
}

impl Clue {
    /// What a read is known by, and what it can be found by when the decoder says that it was stored.
    fn of(entry: &Entry, read: &ChipRead, zones: &Zones) -> (Option<Self>, Option<Self>) {
        let subject = &*entry.subject;
        let decoder = fnv(source::decoder(subject).as_bytes());
        let clue = |identity: u64, kind: u64, stamp: Stamp| Self {
            key: spread(identity ^ spread(decoder)),
            span: spread(decoder ^ kind),
            ms: stamp_ms(stamp),
        };
        let kind = match read.stamp {
            Stamp::Local(_) => 1,
            Stamp::TimeOfDay { .. } => 2,
            Stamp::Utc(_) => 3,
            Stamp::Uptime(_) => 4,
        };
        let own = match undated::which(read, subject, entry.time, zones) {
            Which::Ever(identity) => Some(clue(identity, kind, read.stamp)),
            Which::Day(identity, at) => Some(clue(identity, 5, Stamp::Local(at))),
            Which::NoDay | Which::Life => None,
        };
        (own, undated::is_placed(read).then(|| clue(read.identity(), kind, read.stamp)))
    }
}

/// Stored with the runs: stays the same for ever.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// One to one, and evenly over all 64 bits (the finaliser of `SplitMix64`).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl DedupIndex {
    /// Its files are there. A directory without any is made again.
    pub fn is_there(&self) -> bool {
        if self.live && !self.dir.is_dir() {
            let _ = make_dir(&self.dir); // what cannot be written is told
        }
        !self.removed && self.runs.iter().all(|run| run.path.is_file())
    }

    /// What is on the disk and can be believed. `keep_bytes`: what the journal may use. What cannot be read is as if it
    /// was not there: the log has it.
    pub fn open(data_dir: &Path, identity: &str, trust: Trust, keep_bytes: u64) -> Self {
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
            // A hole among what was removed cannot be filled any more; one in what the log holds can.
            let whole = run.from == before + 1 || run.from <= trust.oldest;
            let gone = trust.oldest.saturating_sub(1);
            let limit = if run.without_days { gone } else { trust.followed.max(gone) };
            doubted |= !whole || run.from > limit;
            if !doubted && run.through <= limit {
                believed.push(Arc::new(run));
                continue;
            }
            // One that goes further than is believed: only the part before that.
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
        Self { dir, identity, run_reads, index_reads, runs, fresh, through, ..Self::default() }
    }

    /// All reads up to here are in it, and the place in the log behind that entry.
    pub fn place(&self) -> (u64, LogPlace) {
        (self.through, self.fresh.place)
    }

    /// Notes an entry, in the order of the log; of one that is noted already it only says: is it a read that came before?
    pub fn take(&mut self, entry: &Entry) -> bool {
        let mut known = false;
        if let Body::Read(read) = &entry.body {
            let (own, placed) = Clue::of(entry, read, &self.zones);
            let mut before = |clue: &Clue| self.first(clue).is_some_and(|seq| seq < entry.seq);
            let own_known = own.as_ref().is_some_and(&mut before);
            // It is not looked for on the disk where only the first one counts: the lowest number of a key stays.
            known = own_known || (read.replay && placed.as_ref().is_some_and(before));
            if entry.seq > self.through {
                for clue in own.filter(|_| !own_known).into_iter().chain(placed) {
                    self.fresh.reads.entry(clue.key).or_insert(entry.seq);
                    self.fresh.spans.add(clue.span, clue.ms);
                }
            }
        }
        self.through = self.through.max(entry.seq);
        known
    }

    /// Takes a group that ends at this place; the numbers of those that came before, rising.
    pub fn take_all(&mut self, entries: &[Entry], place: LogPlace) -> Vec<u64> {
        let duplicates = entries.iter().filter(|entry| self.take(entry)).map(|entry| entry.seq).collect();
        self.passed(place);
        duplicates
    }

    /// What was taken ends at this place in the log.
    pub fn passed(&mut self, place: LogPlace) {
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
        for (at, run) in self.runs.iter().enumerate().rev() {
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
            let _ = disk::remove(&self.runs.remove(at).path); // the next start makes it anew from the log
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

    /// The next part to become a run: of numbers up to `followed` only, which the queue's checkpoint covers. `segment`: what
    /// is in segments before this one (its first number) becomes one although it is small, since they may go.
    pub fn job(&mut self, followed: u64, segment: u64) -> Option<Job> {
        if self.torn {
            return None;
        }
        if self.fresh.from < segment && !self.fresh.reads.is_empty() {
            self.seal(); // it is written as soon as a checkpoint covers it, however fast reads come
        }
        let part = Arc::clone(self.parts.front().filter(|part| part.through <= followed)?);
        let small = |last: &&Arc<Run>| {
            last.reads() + part.reads.len() as u64 <= self.run_reads as u64 && last.through + 1 == part.from
        };
        let with = self.runs.last().filter(small).map(Arc::clone);
        Some(Job { dir: self.dir.clone(), identity: self.identity.clone(), part, with })
    }

    /// The first number whose reads are in no run yet and can be: its segment has to stay.
    pub fn unsaved_from(&self) -> u64 {
        let parts = self.parts.iter().map(|part| &**part).chain([&self.fresh]);
        let waiting = parts.filter(|part| !part.reads.is_empty() && !self.torn && !self.failed);
        waiting.map(|part| part.from).next().unwrap_or(u64::MAX)
    }

    /// Writes the parts that are full, while nobody else looks into it.
    pub fn save(&mut self, board: &Board) {
        while !self.failed
            && let Some(job) = self.job(u64::MAX, 0)
            && let Some(useless) = self.written(&job, job.write(), board)
        {
            remove_all(&useless);
        }
    }

    /// What came of a job. Returns the files that are of no use any more; `None`: the disk does not take it now.
    pub fn written(&mut self, job: &Job, written: io::Result<Run>, board: &Board) -> Option<Vec<PathBuf>> {
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
            return vec![run.path]; // let go meanwhile
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
        useless
    }
}

/// What cannot be removed is when the index is opened again.
pub fn remove_all(useless: &[PathBuf]) {
    for path in useless {
        let _ = disk::remove(path);
    }
}

impl Job {
    /// Writes the run and makes it durable.
    pub fn write(&self) -> io::Result<Run> {
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
