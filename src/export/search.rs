//! Search: the reads of a chip or of a bib, with what became of each.
//!
//! What must hold:
//! * **Exact.** The index ([`super::index`]) only says where to look. Each read is compared with what
//!   is looked for, and how it stands follows from the log's uploads, as in an export
//!   ([`super::standing`]).
//! * **Bounded.** A search holds the index (some 5 MB for a million reads), [`AT_ONCE`] reads, and the
//!   answer. It reads blocks of 64 KiB from the newest on, and stops when it has enough.
//! * **No write for a read.** What a search needs is made once for each full segment, by the daemon in
//!   the background ([`super::refresh`]). The newest segment is read (16 MiB). A segment without an
//!   index is read, too, so a search is right at any moment, and only slower.
//!
//! A bib is looked for through the present bib file. A passing that went up under another bib says
//! so ([`ReadStanding::bib`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::found::{CHIPS_TOLD, FoundRead, ReadStanding, ReplacedNumber, SearchAnswer, SearchQuery, Sought};
use super::index::{self, Index, Need};
use super::standing::Standings;
use super::{ExportError, Reading, UploadMark, WhySuppressed, fill, time_of, without_batch};
use crate::cloud::passing::{Bibs, chip_code};
use crate::config::{ChipZeros, TagCode};
use crate::journal::control::Holds;
use crate::journal::entries::Entries;
use crate::journal::entry::{Body, Entry};
use crate::journal::log::{LogLine, LogPlace, segments};
use crate::journal::log_dir;
use crate::model::chip::ChipRead;
use crate::model::clock::{self, Doubt};
use crate::model::source;
use crate::model::text::tail;

/// Most reads whose standing is looked up at once, plus those of one block.
const AT_ONCE: usize = 256;

/// Finds reads in the log of a box.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    data_dir: PathBuf,
    reading: Reading,
    bibs: watch::Receiver<Arc<Bibs>>,
    zeros: ChipZeros,
    /// The index of a full segment that is missing is made and kept. Otherwise, somebody else makes
    /// it.
    keeps: bool,
}

impl Finder {
    /// For the daemon, which makes the index of each full segment by itself. `zeros`: whether zeros at
    /// the beginning of a chip code count in the bib file.
    pub(crate) fn new(data_dir: &Path, reading: Reading, zeros: ChipZeros, bibs: watch::Receiver<Arc<Bibs>>) -> Self {
        Self { data_dir: data_dir.into(), reading, bibs, zeros, keeps: false }
    }

    /// For a command that reads the log by itself.
    #[must_use]
    pub(crate) fn keeping(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// The last entry of the log, for whoever reads it without the daemon. 0: there is none.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn last_entry(&self) -> io::Result<u64> {
        let files = segments(&log_dir(&self.data_dir))?;
        let mut last = 0;
        for (at, file) in files.iter().enumerate().rev().take(2) {
            let before = files.get(at + 1).map_or(u64::MAX, |next| next.first);
            let Some(mut entries) = Entries::of_segment(file, before, 0, u64::MAX)? else { continue };
            let end = LogPlace { segment: file.first, offset: u64::MAX };
            let mut number = |seq: u64, _: &str, _: &str| {
                last = last.max(seq);
                false
            };
            while entries.line_before(end, &mut number)?.is_some() {}
            if last > 0 {
                break;
            }
        }
        Ok(last)
    }

    /// Finds the reads that the query asks for, among the entries up to `durable`. It blocks while it
    /// reads.
    ///
    /// # Errors
    /// There is no journal, or it cannot be read.
    pub(crate) fn search(&self, query: &SearchQuery, durable: u64) -> Result<SearchAnswer, ExportError> {
        let bibs = Arc::clone(&self.bibs.borrow());
        let chips_of_bib = match &query.what {
            Sought::Bib(bib) | Sought::ChipOrBib(bib) => bibs.chips_of(bib),
            Sought::Any | Sought::Chip(_) => Vec::new(),
        };
        let matcher = Matcher { chips_of_bib, ..self.matcher(&query.what, &bibs) };
        let hashes = matcher.hashes();
        let need = Need {
            times: query.from.is_some() || query.to.is_some(),
            chips: hashes.as_deref(),
            keeps: self.keeps && index::is_ours(&self.data_dir),
        };
        let index = Index::new(&self.data_dir, &self.reading, durable, need).map_err(ExportError::Read)?;
        let index = index.ok_or_else(|| ExportError::NoJournal(self.data_dir.clone()))?;
        let mut looking = Looking { finder: self, query, durable, matcher: &matcher, index: &index, hashes };
        let mut answer = looking.all().map_err(ExportError::Read)?;
        answer.through = durable;
        answer.chips_of_bib = matcher.chips_of_bib.iter().take(CHIPS_TOLD).cloned().collect();
        answer.is_chip |= answer.chips_of_bib.is_empty();
        Ok(answer)
    }

    /// A read that was kept a moment ago, if it is one of those that are looked for. Its time is that
    /// of its arrival: a later step of the clock or a correction may move it.
    pub(crate) fn arrived(&self, entry: &Entry, what: &Sought, decoder: Option<&str>) -> Option<FoundRead> {
        let Body::Read(read) = &entry.body else { return None };
        let bibs = Arc::clone(&self.bibs.borrow());
        let wanted = read.let_go.is_none() && is_of(entry, decoder);
        let takes = wanted && self.matcher(what, &bibs).takes(&read.chip).is_any();
        takes.then(|| {
            let resolved = clock::resolve_read(read, self.reading.zones.of(&entry.subject), entry.time);
            let is_known = !hangs_on_the_box(resolved.doubt) || clock::box_clock_set(entry.time);
            FoundRead { time: is_known.then_some(resolved.utc), ..self.plain(entry, read, &bibs) }
        })
    }

    fn matcher<'a>(&self, what: &'a Sought, bibs: &'a Bibs) -> Matcher<'a> {
        Matcher { what, bibs, chips_of_bib: Vec::new(), tag: self.reading.tag, zeros: self.zeros }
    }

    /// What a read says by itself.
    fn plain(&self, entry: &Entry, read: &ChipRead, bibs: &Bibs) -> FoundRead {
        let code = chip_code(&read.chip, self.reading.tag);
        FoundRead {
            seq: entry.seq,
            decoder: (*entry.subject).into(),
            chip: (*read.chip).into(),
            bib: bibs.find(&code, self.zeros).map(Into::into),
            chip_code: code.into(),
            time: None,
            corrected_ms: None,
            decoder_time: read.stamp.to_string().into(),
            received: entry.time,
            antenna: read.antenna.clone(),
            rssi: read.rssi,
            hits: read.hits,
            standing: None,
        }
    }
}

/// Whether an entry is of a decoder, or of a source.
fn is_of(entry: &Entry, decoder: Option<&str>) -> bool {
    decoder.is_none_or(|name| *name == *entry.subject || name == source::decoder(&entry.subject))
}

/// Whether the time of a read is that of its receipt.
fn hangs_on_the_box(doubt: Option<Doubt>) -> bool {
    matches!(doubt, Some(Doubt::BoxClockUnset | Doubt::OutOfRange))
}

/// Compares chips with what is looked for.
struct Matcher<'a> {
    what: &'a Sought,
    bibs: &'a Bibs,
    /// The chips that have it as their bib, as the file has them, for a search.
    chips_of_bib: Vec<Box<str>>,
    tag: TagCode,
    zeros: ChipZeros,
}

/// As what a chip is one of those that are looked for.
#[derive(Clone, Copy)]
struct Takes {
    chip: bool,
    bib: bool,
    any: bool,
}

impl Takes {
    fn is_any(self) -> bool {
        self.chip || self.bib || self.any
    }
}

impl Matcher<'_> {
    fn takes(&self, chip: &str) -> Takes {
        let code = chip_code(chip, self.tag);
        let is_chip =
            |what: &str| chip.eq_ignore_ascii_case(what) || code.eq_ignore_ascii_case(&chip_code(what, self.tag));
        let has_bib = |what: &str| {
            let bib = self.bibs.find(&code, self.zeros);
            bib.is_some_and(|bib| bib.eq_ignore_ascii_case(what))
        };
        let none = Takes { chip: false, bib: false, any: false };
        match self.what {
            Sought::Any => Takes { any: true, ..none },
            Sought::Chip(what) => Takes { chip: is_chip(what), ..none },
            Sought::Bib(what) => Takes { bib: has_bib(what), ..none },
            Sought::ChipOrBib(what) => Takes { chip: is_chip(what), bib: has_bib(what), ..none },
        }
    }

    /// The hashes of the chips that may be taken, sorted. `None`: every chip.
    fn hashes(&self) -> Option<Vec<u32>> {
        let as_chip = match self.what {
            Sought::Any => return None,
            Sought::Bib(_) => None,
            Sought::Chip(what) | Sought::ChipOrBib(what) => Some(index::hash(what)),
        };
        let mut hashes: Vec<u32> = self.chips_of_bib.iter().map(|chip| index::hash(chip)).chain(as_chip).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Some(hashes)
    }
}

/// A search that goes on.
struct Looking<'a> {
    finder: &'a Finder,
    query: &'a SearchQuery,
    durable: u64,
    matcher: &'a Matcher<'a>,
    index: &'a Index,
    hashes: Option<Vec<u32>>,
}

impl Looking<'_> {
    fn all(&mut self) -> io::Result<SearchAnswer> {
        let mut answer = SearchAnswer::default();
        let mut entries: Vec<Entry> = Vec::new();
        for at in self.index.within(self.query.from, self.query.to).into_iter().rev() {
            let block = &self.index.blocks[at].1;
            if block.frames.is_none() || (self.hashes.is_some() && !block.hit) {
                continue;
            }
            let mut of_block = self.reads_of(at)?;
            of_block.reverse();
            entries.append(&mut of_block);
            let missing = self.query.limit.saturating_add(1).saturating_sub(answer.reads.len());
            if entries.len() >= missing.min(AT_ONCE) {
                self.add(std::mem::take(&mut entries), &mut answer)?;
            }
            if answer.more {
                break;
            }
        }
        if !answer.more {
            self.add(entries, &mut answer)?;
        }
        Ok(answer)
    }

    /// The reads of a block that are looked for, if their time is one of those.
    fn reads_of(&self, at: usize) -> io::Result<Vec<Entry>> {
        let (segment, block) = &self.index.blocks[at];
        let mut found = Vec::new();
        // The segment may have been removed meanwhile.
        let Some(mut entries) = self.index.entries(*segment, block.start, self.durable)? else { return Ok(found) };
        let end = LogPlace { segment: *segment, offset: block.end };
        let wanted = |_: u64, kind: &str, text: &str| {
            let is_hit =
                |hashes: &Vec<u32>| index::hash_of_line(text).is_some_and(|hash| hashes.binary_search(&hash).is_ok());
            kind == "read" && self.hashes.as_ref().is_none_or(is_hit)
        };
        while let Some(line) = entries.line_before(end, wanted)? {
            let LogLine::Entry(entry) = line else { continue }; // a damaged line costs only itself
            // A released read is told where it was first kept.
            if let Body::Read(read) = &entry.body
                && read.let_go.is_none()
                && is_of(&entry, self.query.decoder.as_deref())
                && self.matcher.takes(&read.chip).is_any()
            {
                found.push(*entry);
            }
        }
        Ok(found)
    }

    /// Adds reads to the answer, with what became of them.
    fn add(&self, entries: Vec<Entry>, answer: &mut SearchAnswer) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let standings = Standings::of_these(entries.iter().map(|entry| entry.seq).collect()).with_passings();
        let standings = fill(standings, self.index, self.durable)?;
        for entry in entries {
            let Body::Read(read) = &entry.body else { continue };
            let (time, corrected_ms) = time_of(&entry, &self.finder.reading, self.index, &standings);
            if self.query.from.is_some_and(|from| time < from) || self.query.to.is_some_and(|to| time >= to) {
                continue;
            }
            if answer.reads.len() >= self.query.limit {
                answer.more = true;
                return Ok(());
            }
            answer.is_chip |= self.matcher.takes(&read.chip).chip;
            let standing = standing_of(entry.seq, read, (&standings, &self.index.holds), time.as_millisecond());
            let is_known = standing.num_passing.is_some() || self.knows_time(&entry, read);
            answer.reads.push(FoundRead {
                time: is_known.then_some(time),
                corrected_ms: Some(corrected_ms).filter(|ms| *ms != 0),
                standing: Some(standing),
                ..self.finder.plain(&entry, read, self.matcher.bibs)
            });
        }
        Ok(())
    }

    /// Whether the time of a read that was not numbered is known.
    fn knows_time(&self, entry: &Entry, read: &ChipRead) -> bool {
        let received = clock::corrected(&self.index.steps, entry.seq, entry.time);
        let zone = self.finder.reading.zones.of(&entry.subject);
        clock::box_clock_set(received) || !hangs_on_the_box(clock::resolve_read(read, zone, received).doubt)
    }
}

/// How a read stands.
fn standing_of(seq: u64, read: &ChipRead, (standings, holds): (&Standings, &Holds), time_ms: i64) -> ReadStanding {
    let known = standings.get(seq);
    let numbered = known.filter(|standing| standing.mark != UploadMark::Suppressed);
    let state = known.map_or(UploadMark::Pending, |standing| standing.mark);
    let (state, dropped) = without_batch(seq, read, state, standings, holds);
    let passing = standings.passing(seq).filter(|_| numbered.is_some());
    let sent_time = numbered.map(|standing| standing.time_ms).filter(|ms| *ms != time_ms);
    let end_of = |token: &str| tail(token).into_boxed_str();
    ReadStanding {
        state,
        why: known.and_then(|standing| standing.why).or(dropped.map(|_| WhySuppressed::Dropped)),
        device: passing.map(|(device, _)| device.into()),
        token_tail: numbered.and_then(|standing| standings.token(standing)).map(end_of),
        num_passing: numbered.map(|standing| standing.num),
        bib: passing.map(|(_, item)| item.bib.clone()).filter(|bib| !bib.is_empty()),
        sent_time: sent_time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()),
        refusal: standings.refusal(seq).filter(|_| known.is_some_and(|it| it.mark == UploadMark::SetAside)).cloned(),
        replaces: standings
            .replaced(seq)
            .map(|(token, num_passing)| ReplacedNumber { token_tail: end_of(token), num_passing }),
    }
}
