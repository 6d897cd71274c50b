//! The plots as a fold over the entries of the log.
//!
//! Must hold:
//! * **Nothing that was not measured is zero.** A cell without reads has zero reads only if this box was
//!   on the whole time and at least one mat was. A cell without uploads has zero only if the internet was
//!   there the whole time.
//! * **A step of the clock moves what this process wrote before it.** So its cells stay one after another,
//!   and none of them is counted twice. Nobody knows how the clock of an earlier process was off, so what
//!   that one wrote stays where it is. The step is a mark.
//! * **A delay is measured within one process only**, like those of [`crate::status::LatencyHistogram`]: after
//!   a start nobody knows how the clock went meanwhile.
//! * A process that was not stopped was on until its last entry. From then until the next start nobody
//!   knows.
//! * Bounded: the cells, the spans, [`RECENT`] contributions, [`MOMENTS`] moments, [`STEPS`] steps and
//!   [`ACTIVE`] problems.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::backlog::Backlog;
use super::cells::{CELL_MS, Cell, Cells};
use super::strip::{Span, Strip, was_on};
use super::told::{NoteSays, told};
use crate::journal::UploadEvent;
use crate::journal::entry::{Body, Entry};
use crate::model::clock::Step;
use crate::model::source;
use crate::status::plot::{PlotCell, PlotSeries, PlotSpan, PlotStrip};
use crate::status::{Cause, ProblemCode};

/// Newest reads and uploads whose exact time is remembered.
const RECENT: usize = 4_096;
/// Moments of the log that are remembered, at least [`MOMENT_MS`] apart: six hours.
const MOMENTS: usize = 11_000;
const MOMENT_MS: i64 = 2_000;
/// Steps of the clock that are remembered.
const STEPS: usize = 64;
/// Problems of mats and of the internet that are remembered as present.
const ACTIVE: usize = 256;
/// The name of the strip of the box.
const THIS_BOX: &str = "this box";
/// The name of the strip of the internet.
const INTERNET: &str = "internet";

/// The cells of ten seconds in the two plots, and how many of them are one cell of the plot.
const MINUTES: (i64, i64) = (60, 1);
const HOURS: (i64, i64) = (72, 30);

/// The plots of the last ten minutes and of the last six hours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plots {
    /// 60 cells of 10 s.
    pub minutes: PlotSeries,
    /// 72 cells of 5 min.
    pub hours: PlotSeries,
}

/// What a read or an answer of the cloud counted, so that it can be moved.
#[derive(Clone, Copy, Debug)]
enum Count {
    Read,
    Uploads(u32),
}

/// What is known about the process that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No entry was seen.
    Unknown,
    /// It runs.
    Runs,
    /// It stopped at this time by the clock of the box.
    Stopped(i64),
}

/// The fold. Times are in milliseconds: of the present process by a clock without its steps, of earlier
/// ones by the clock of the box.
#[derive(Debug)]
pub(super) struct PlotFold {
    past: Cells,
    present: Cells,
    /// The sum of the steps that the present process saw.
    moved_ms: i64,
    /// When the present process began.
    began: i64,
    /// When the one before was stopped, by the clock of the box then.
    stopped: Option<i64>,
    phase: Phase,
    mats: Vec<Strip>,
    this_box: Strip,
    internet: Strip,
    has_cloud: bool,
    /// Problems by code and subject, each with the word for it.
    active: BTreeMap<(ProblemCode, String), &'static str>,
    past_steps: VecDeque<i64>,
    steps: VecDeque<i64>,
    recent: VecDeque<(u64, i64, Count)>,
    moments: VecDeque<(u64, i64)>,
    last: Option<(u64, i64)>,
    backlog: Backlog,
    /// Everything that was written is here, so what is not here did not happen.
    live: bool,
}

impl PlotFold {
    /// A fold that knows nothing. `mats`: the names of the configured decoders. `has_cloud`: the box
    /// uploads.
    pub(super) fn new(mats: impl IntoIterator<Item = String>, has_cloud: bool) -> Self {
        Self {
            past: Cells::default(),
            present: Cells::default(),
            moved_ms: 0,
            began: i64::MIN,
            stopped: None,
            phase: Phase::Unknown,
            mats: mats.into_iter().map(Strip::new).collect(),
            this_box: Strip::new(THIS_BOX.to_owned()),
            internet: Strip::new(INTERNET.to_owned()),
            has_cloud,
            active: BTreeMap::new(),
            past_steps: VecDeque::new(),
            steps: VecDeque::new(),
            recent: VecDeque::new(),
            moments: VecDeque::new(),
            last: None,
            backlog: Backlog::default(),
            live: false,
        }
    }

    /// The number of reads that wait at this place of the log is known, and how many are held if the box is
    /// on hold.
    pub(super) fn waits(&mut self, waiting: u64, held: Option<u64>) {
        self.backlog.begins_with(waiting, held);
    }

    /// The number of reads that wait at this time, from the journal itself.
    pub(super) fn waits_at(&mut self, now: Timestamp, waiting: u64) {
        self.backlog.is_known(waiting);
        let at = now.as_millisecond() - self.moved_ms;
        self.note_waiting(at);
    }

    /// All entries that were written are here: from now on no news means that nothing happened.
    pub(super) fn is_live(&mut self) {
        self.live = true;
    }

    /// A read that was kept, with its receive time by the clock of the box. `uploaded`: it is held back for
    /// nobody.
    pub(super) fn read(&mut self, seq: u64, subject: &str, time_ms: i64, uploaded: bool) {
        let at = self.seen(seq, time_ms);
        let cell = self.present.at(at);
        cell.reads = cell.reads.saturating_add(1);
        self.contributes(seq, at, Count::Read);
        let name = source::decoder(subject);
        if let Some(mat) = self.mats.iter_mut().find(|mat| mat.name == name) {
            mat.is_mentioned();
        }
        if uploaded {
            self.backlog.read();
        }
        self.note_waiting(at);
    }

    /// A read that was kept earlier, and is released now.
    pub(super) fn let_go(&mut self, seq: u64, time_ms: i64) {
        let at = self.seen(seq, time_ms);
        self.backlog.read();
        self.note_waiting(at);
    }

    /// Any entry.
    pub(super) fn entry(&mut self, entry: &Entry) {
        let time_ms = entry.time.as_millisecond();
        match &entry.body {
            Body::Read(read) if read.let_go.is_some() => self.let_go(entry.seq, time_ms),
            Body::Read(read) => self.read(entry.seq, &entry.subject, time_ms, !read.held_back),
            Body::Upload(event) => self.upload(entry.seq, time_ms, event),
            Body::Clock(step) => self.step(entry.seq, time_ms, step),
            Body::Control(control) => {
                let at = self.seen(entry.seq, time_ms);
                self.backlog.control(control);
                self.note_waiting(at);
            }
            Body::Note(text) => self.note(entry.seq, time_ms, told(&entry.subject, text)),
            _ => {
                self.seen(entry.seq, time_ms);
            }
        }
    }

    /// The time of an entry by the clock without steps.
    fn seen(&mut self, seq: u64, time_ms: i64) -> i64 {
        let at = time_ms - self.moved_ms;
        if self.phase == Phase::Unknown {
            // The first entry that there is: somebody wrote it.
            self.begins(at);
        }
        self.last = Some((seq, at));
        if self.moments.back().is_none_or(|(_, before)| (at - before).abs() >= MOMENT_MS) {
            if self.moments.len() >= MOMENTS {
                self.moments.pop_front();
            }
            self.moments.push_back((seq, at));
        }
        at
    }

    fn contributes(&mut self, seq: u64, at: i64, count: Count) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, at, count));
    }

    fn note_waiting(&mut self, at: i64) {
        if let Some(waiting) = self.backlog.waiting().filter(|_| self.has_cloud) {
            self.present.at(at).waiting = Some(waiting);
        }
    }

    fn upload(&mut self, seq: u64, time_ms: i64, event: &UploadEvent) {
        let at = self.seen(seq, time_ms);
        self.internet.is_mentioned();
        let answered = self.backlog.apply(event);
        let count = u32::try_from(answered.count()).unwrap_or(u32::MAX);
        if count > 0 {
            let took: Vec<u32> = answered.seqs.iter().filter_map(|read| self.took(*read, at)).collect();
            let cell = self.present.at(at);
            cell.uploads = cell.uploads.saturating_add(count);
            took.into_iter().for_each(|ms| cell.took(ms));
            self.contributes(seq, at, Count::Uploads(count));
        }
        self.note_waiting(at);
    }

    /// How long a read of this process took until now. If its exact time is not remembered, the time of an
    /// entry shortly before it is taken, so the delay is not told shorter than it was.
    fn took(&self, read: u64, now: i64) -> Option<u32> {
        let at = self.recent.partition_point(|(seq, ..)| *seq < read);
        let exact = self.recent.get(at).filter(|(seq, _, count)| *seq == read && matches!(count, Count::Read));
        let received = exact.map(|(_, at, _)| *at).or_else(|| {
            let after = self.moments.partition_point(|(seq, _)| *seq <= read);
            self.moments.get(after.checked_sub(1)?).map(|(_, at)| *at)
        });
        u32::try_from(now - received?).ok()
    }

    fn step(&mut self, seq: u64, time_ms: i64, step: &Step) {
        if step.step_ms == 0 {
            self.seen(seq, time_ms);
            return;
        }
        // Entries between the step and this line have the new time already.
        let moved_ms = self.moved_ms;
        let new = |at: i64| {
            let wall = at.saturating_add(moved_ms);
            (wall - step.after_ms()).abs() < (wall - step.before_ms).abs()
        };
        let late = |seq: u64, at: i64| seq > step.sure && new(at);
        for (seq, at, count) in self.recent.iter_mut().rev().take_while(|(seq, ..)| *seq > step.sure) {
            if !late(*seq, *at) {
                continue;
            }
            let right = *at - step.step_ms;
            for (at, sign) in [(*at, -1_i64), (right, 1)] {
                let cell = self.present.at(at);
                let (count, sum) = match count {
                    Count::Read => (1, &mut cell.reads),
                    Count::Uploads(count) => (*count, &mut cell.uploads),
                };
                *sum = if sign < 0 { sum.saturating_sub(count) } else { sum.saturating_add(count) };
            }
            *at = right;
        }
        for (_, at) in self.moments.iter_mut().rev().take_while(|(seq, _)| *seq > step.sure).filter(|(_, at)| new(*at))
        {
            *at -= step.step_ms;
        }
        self.moved_ms = self.moved_ms.saturating_add(step.step_ms);
        let at = self.seen(seq, time_ms);
        if self.steps.len() >= STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(at);
    }

    fn note(&mut self, seq: u64, time_ms: i64, told: NoteSays<'_>) {
        match told {
            NoteSays::Start { first } => self.starts(seq, time_ms, first.unwrap_or(seq)),
            NoteSays::Stop => {
                let at = self.seen(seq, time_ms);
                self.ends(at);
                self.began = i64::MAX; // no process runs that could have a better clock
                self.phase = Phase::Stopped(time_ms);
            }
            NoteSays::Came { code, about, .. } => {
                let at = self.seen(seq, time_ms);
                let Some(code) = ProblemCode::of_word(code) else { return };
                if let Some(word) = in_a_word(code)
                    && self.active.len() < ACTIVE
                {
                    self.active.insert((code, about.to_owned()), word);
                    self.turns(at, code, about);
                }
            }
            NoteSays::Over { code, about } => {
                let at = self.seen(seq, time_ms);
                let Some(code) = ProblemCode::of_word(code) else { return };
                self.active.remove(&(code, about.to_owned()));
                self.turns(at, code, about);
            }
            NoteSays::Other => {
                self.seen(seq, time_ms);
            }
        }
    }

    /// Turns the strip of a problem that came or is over.
    fn turns(&mut self, at: i64, code: ProblemCode, about: &str) {
        if self.phase != Phase::Runs {
            return;
        }
        match code.cause() {
            Cause::NotReading(_) => {
                let name = source::decoder(about);
                let why = self.active.iter().find(|((code, about), _)| {
                    matches!(code.cause(), Cause::NotReading(_)) && source::decoder(about) == name
                });
                let why = why.map(|(_, word)| *word);
                if let Some(mat) = self.mats.iter_mut().find(|mat| mat.name == name) {
                    mat.is_mentioned();
                    mat.turns(at, why);
                }
            }
            Cause::NotUploading(_) if in_a_word(code).is_some() => {
                let why = self.active.iter().find(|((code, _), _)| matches!(code.cause(), Cause::NotUploading(_)));
                self.internet.is_mentioned();
                self.internet.turns(at, why.map(|(_, word)| *word));
            }
            _ => {}
        }
    }

    fn starts(&mut self, seq: u64, time_ms: i64, first: u64) {
        let stopped = match self.phase {
            Phase::Stopped(at) => Some(at),
            Phase::Runs => {
                // It was not stopped. The last thing that is known of it is its last entry.
                let known = self.moments.iter().rev().find(|(seq, _)| *seq < first).map(|(_, at)| *at);
                let last = self.last.filter(|(seq, _)| *seq < first).map(|(_, at)| at);
                self.ends(last.or(known).unwrap_or(self.began));
                None
            }
            Phase::Unknown => None,
        };
        self.present_becomes_past();
        self.begins(time_ms);
        self.stopped = stopped;
        self.last = Some((seq, time_ms));
        self.moments.push_back((seq, time_ms));
    }

    fn begins(&mut self, at: i64) {
        self.phase = Phase::Runs;
        self.began = at;
        for strip in self.mats.iter_mut().chain([&mut self.this_box]) {
            strip.turns(at, None);
        }
        if self.has_cloud {
            self.internet.turns(at, None);
        }
    }

    fn ends(&mut self, at: i64) {
        for strip in self.mats.iter_mut().chain([&mut self.this_box, &mut self.internet]) {
            strip.ends(at);
        }
        self.present_becomes_past();
    }

    fn present_becomes_past(&mut self) {
        if let Some(span) = self.restart() {
            self.this_box.has_been(span);
        }
        self.stopped = None;
        let moved_ms = std::mem::take(&mut self.moved_ms);
        self.past.absorb(std::mem::take(&mut self.present), in_cells(moved_ms));
        for strip in self.mats.iter_mut().chain([&mut self.internet]) {
            strip.closes(moved_ms, false);
        }
        self.this_box.closes(moved_ms, true);
        self.past_steps.extend(self.steps.drain(..).map(|at| at + moved_ms));
        let beyond = self.past_steps.len().saturating_sub(STEPS);
        self.past_steps.drain(..beyond);
        self.active.clear();
        self.moments.clear();
        self.recent.clear();
        self.last = None;
    }

    /// The time between the stop of the process before and the begin of the present one. It is known only
    /// when the clock is right at last.
    fn restart(&self) -> Option<Span> {
        let to = self.began.saturating_add(self.moved_ms);
        self.stopped.map(|from| Span { from, to, why: Some("restart") }).filter(|span| span.to > span.from)
    }

    /// The plots at this time by the clock of the box.
    pub(super) fn plots(&self, now: Timestamp) -> Plots {
        let now_ms = now.as_millisecond();
        // While the log is read back, only what was read is known.
        let known = match self.last {
            Some((_, at)) if !self.live => (at + self.moved_ms).min(now_ms),
            _ => now_ms,
        };
        let began = self.began.saturating_add(self.moved_ms);
        let spans = |strip: &Strip| strip.spans(self.moved_ms, began, known);
        let mut look = Look {
            mats: self.mats.iter().map(|mat| (mat.name.clone(), spans(mat))).collect(),
            this_box: spans(&self.this_box).into_iter().chain(self.restart()).collect(),
            internet: spans(&self.internet),
            steps: self.past_steps.iter().copied().chain(self.steps.iter().map(|at| at + self.moved_ms)).collect(),
            until: now_ms.div_euclid(CELL_MS),
        };
        look.this_box.sort_by_key(|span| span.from);
        Plots { minutes: self.series(&look, MINUTES), hours: self.series(&look, HOURS) }
    }

    fn series(&self, look: &Look, (count, each): (i64, i64)) -> PlotSeries {
        let first = look.until - count * each;
        let (from, to) = (first * CELL_MS, look.until * CELL_MS);
        let cell = |n: i64| {
            let begin = first + n * each;
            let mut cell = Cell::default();
            (begin..begin + each).for_each(|number| self.add_to(&mut cell, number));
            look.cell(&cell, begin * CELL_MS, (begin + each) * CELL_MS, self.waiting(begin + each - 1))
        };
        let mats = look.mats.iter().map(|(name, spans)| strip(name, spans, from, to));
        let others = [strip(THIS_BOX, &look.this_box, from, to), strip(INTERNET, &look.internet, from, to)];
        PlotSeries {
            until: instant(to),
            step_s: (each * CELL_MS / 1_000) as u32,
            cells: (0..count).map(cell).collect(),
            strips: mats.chain(others).collect(),
            clock_steps: look.steps.iter().filter(|at| (from..to).contains(at)).map(|at| instant(*at)).collect(),
        }
    }

    fn add_to(&self, cell: &mut Cell, number: i64) {
        if let Some(past) = self.past.get(number).filter(|_| self.is_of_the_past(number)) {
            cell.add(past);
        }
        if let Some(present) = self.present.get(number - in_cells(self.moved_ms)) {
            cell.add(present);
        }
    }

    fn waiting(&self, number: i64) -> Option<u64> {
        let present = self.present.waiting(number - in_cells(self.moved_ms));
        present.or_else(|| self.past.waiting(number))
    }

    /// What an earlier process wrote about a time after the present one began is left out: its clock was
    /// ahead.
    fn is_of_the_past(&self, number: i64) -> bool {
        number <= self.began.saturating_add(self.moved_ms).div_euclid(CELL_MS)
    }
}

/// What was on, for all cells of a plot. The end is in cells.
struct Look {
    mats: Vec<(String, Vec<Span>)>,
    this_box: Vec<Span>,
    internet: Vec<Span>,
    steps: Vec<i64>,
    until: i64,
}

impl Look {
    /// The cell between two times as it is drawn.
    fn cell(&self, cell: &Cell, from: i64, to: i64, waiting: Option<u64>) -> PlotCell {
        let box_on = was_on(&self.this_box, from, to);
        let reads_measured = box_on && self.mats.iter().any(|(_, spans)| was_on(spans, from, to));
        let uploads_measured = box_on && was_on(&self.internet, from, to);
        let box_on_at_the_end = was_on(&self.this_box, to - 1, to);
        let delays = cell.delays();
        PlotCell {
            reads: (cell.reads > 0 || reads_measured).then_some(cell.reads),
            uploads: (cell.uploads > 0 || uploads_measured).then_some(cell.uploads),
            waiting: waiting.filter(|_| box_on_at_the_end),
            delay_median_ms: delays.map(|(median, _)| median),
            delay_worst_ms: delays.map(|(_, worst)| worst),
        }
    }
}

/// The reason in a word or two for which a mat or the internet is off, if the problem says so.
fn in_a_word(code: ProblemCode) -> Option<&'static str> {
    Some(match code {
        ProblemCode::DecoderUnreachable | ProblemCode::DecoderPortTaken => "no link",
        ProblemCode::Starting => "start",
        ProblemCode::DecoderSilent => "silent",
        ProblemCode::NotTiming => "not timing",
        ProblemCode::DecoderNoRecords | ProblemCode::WrongBaud | ProblemCode::WrongProtocol => "nonsense",
        ProblemCode::DecoderMisconfigured | ProblemCode::DecoderWaitsForRestart => "configuration",
        ProblemCode::Offline => "no internet",
        ProblemCode::CloudSilent => "cloud silent",
        ProblemCode::CloudNotTrusted => "not the cloud",
        code if matches!(code.cause(), Cause::NotReading(_)) => "not reading",
        _ => return None,
    })
}

fn strip(name: &str, spans: &[Span], from: i64, to: i64) -> PlotStrip {
    let within = spans.iter().filter(|span| span.to > from && span.from < to);
    let spans = within.map(|span| PlotSpan {
        from: instant(span.from.max(from)),
        to: instant(span.to.min(to)),
        on: span.why.is_none(),
        why: span.why.map(str::to_owned),
    });
    PlotStrip { name: name.to_owned(), spans: spans.collect() }
}

/// The nearest whole number of cells.
fn in_cells(ms: i64) -> i64 {
    ms.saturating_add(CELL_MS / 2).div_euclid(CELL_MS)
}

fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests;
