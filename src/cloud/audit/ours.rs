//! The journal's side of an audit, and of a list of what the cloud holds (`super::super::list`): the
//! passings that were numbered in a session, in the order of their numbers. They are read from the
//! log with one batch in memory.
//!
//! Within a session, numbers rise in the order of the log, with two exceptions: passings that are
//! sent again after an audit, and a session that was left and joined again, where numbers that the
//! session turned out not to hold may be given again. So the lines of a session form a few *runs*
//! in which numbers rise. Each run has its own reader, and the runs are merged.
//!
//! Reads that were recognised in the cloud after log lines were lost belong to the session that
//! holds them, under the number that they have there. They are in no order, and they are few: at
//! most the number that the uplink remembers ([`crate::cloud::uplink`] asks for at most 262,144).
//! So they are kept in memory.
//!
//! A passing that was sent again under another number because its time was corrected is in the cloud
//! under both, until somebody removes the old one. The old numbers are kept in memory as ranges.
//!
//! A passing that was released (known not to be in the session), or set aside to be tried again
//! under another number, does not belong to the session. Neither does one that was set aside and about
//! which somebody has decided: it was dropped, or it goes up under another number. If a batch of a device follows another
//! batch, the earlier batch was settled, even if the line that says so was lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::compare::{Ours, PassingState};
use crate::journal::control::{Control, Held};
use crate::journal::entries::Entries;
use crate::journal::entry::Body;
use crate::journal::log::{LogLine, LogPlace, segments};
use crate::journal::{Batch, UploadEvent, UploadItem, log_dir};
use crate::model::clock::Step;

/// Most runs of a session. Each repair may add one.
const RUNS_MAX: usize = 64;
/// Between two places of a run at which a reader can begin lie at least so many numbers.
const STRIDE: u64 = if cfg!(test) { 2 } else { 1000 };
/// Most steps of the box's clock that are remembered.
const STEPS_MAX: usize = 4096;

/// What the log knows about a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct InLog {
    /// `token_session`.
    pub token: Box<str>,
    /// Name of the session, if the cloud returned one.
    pub alias: Option<Box<str>>,
    /// Numbers below this one may have been given before the log begins, in older segments that
    /// were removed.
    pub older: u64,
    /// The log has passings with numbers in this session.
    pub numbered: bool,
    runs: Vec<RunPlaces>,
    /// Our highest number.
    pub top: Option<u64>,
    /// Passings that were recognised in the cloud.
    found: Vec<UploadItem>,
    /// First and last of the numbers whose passings were sent again under other numbers, in rising
    /// order.
    replaced: BTreeMap<u64, u64>,
    /// Passings that were set aside under this number and then tried again by hand: number and read.
    retried: BTreeSet<(u64, u64)>,
    /// Reads whose passings were set aside and then dropped by hand.
    dropped: BTreeSet<u64>,
}

impl InLog {
    /// A session that the log does not know.
    pub(crate) fn nothing(token: &str) -> Self {
        Self { token: token.into(), ..Self::default() }
    }

    /// A batch with these numbers begins at `place`.
    fn batch(&mut self, first: u64, last: u64, place: LogPlace) {
        self.numbered = true;
        self.top = self.top.max(Some(last));
        match self.runs.last_mut().filter(|run| first > run.last) {
            None => self.runs.push(RunPlaces { starts: vec![(first, place)], last }),
            Some(run) => {
                run.last = last;
                if run.starts.last().is_none_or(|(num, _)| first - num >= STRIDE) {
                    run.starts.push((first, place));
                }
            }
        }
    }

    /// The passing with this number was sent again under another one.
    fn replace(&mut self, num: u64) {
        let before = self.replaced.range(..=num).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= num) {
            return;
        }
        let last = self.replaced.remove(&(num + 1)).unwrap_or(num);
        let first = before.filter(|(_, last)| last + 1 == num).map_or(num, |(first, _)| first);
        self.replaced.insert(first, last);
    }

    /// The passing with this number counts again.
    fn restore(&mut self, num: u64) {
        let before = self.replaced.range(..=num).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = before.filter(|(_, last)| *last >= num) else { return };
        self.replaced.remove(&first);
        if first < num {
            self.replaced.insert(first, num - 1);
        }
        if num < last {
            self.replaced.insert(num + 1, last);
        }
    }
}

/// Where the batches of a run are in the log.
#[derive(Clone, Debug, Default)]
struct RunPlaces {
    /// The first number of a batch, and where the batch is. The first batch of the run, and then one
    /// for each [`STRIDE`] of numbers, so that some passings are found without reading all of them.
    starts: Vec<(u64, LogPlace)>,
    /// Highest number.
    last: u64,
}

impl RunPlaces {
    /// The last place from which all passings from number `first` on are read.
    fn before(&self, first: u64) -> Option<LogPlace> {
        let after = self.starts.partition_point(|(num, _)| *num <= first);
        self.starts.get(after.saturating_sub(1)).map(|(_, place)| *place)
    }
}

/// What one pass through the log finds about a device. A later pass goes on where it ended
/// ([`Index::advance`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Sessions, with the one that was last joined or numbered in at the end.
    pub sessions: Vec<InLog>,
    /// Number of damaged lines. A damaged line costs only itself.
    pub damaged: u64,
    /// For each decoder, the sequence number up to which every read is covered by a batch.
    cursors: BTreeMap<Box<str>, u64>,
    /// Reads that were released and have no new number.
    returned: BTreeSet<u64>,
    /// Reads that were set aside because the cloud failed at them, and that have no new number.
    /// They are tried again automatically.
    pub failing: BTreeSet<u64>,
    /// Steps of the box's clock, each with the number of its entry. At most [`STEPS_MAX`], the
    /// newest ones.
    pub steps: Vec<(u64, Step)>,
    /// The log had lost its beginning when the index was made, or the index begins later.
    pub begins_late: bool,
    /// Where the next pass begins. `None`: at the beginning of the log.
    place: Option<LogPlace>,
    /// An entry was read, so a state tells nothing new.
    begun: bool,
    /// Damaged lines behind `place`. They may be lines that are just being written.
    behind: u64,
    /// The batch in flight: number to read.
    open: BTreeMap<u64, u64>,
}

/// The part of a segment's first line (the state) that belongs to a device.
#[derive(Deserialize)]
struct StateHead {
    devices: BTreeMap<Box<str>, DeviceHead>,
}

#[derive(Deserialize)]
struct DeviceHead {
    sessions: Vec<(Box<str>, Option<Box<str>>, u64)>,
}

/// Reads the log of `data_dir` up to entry `durable`. `None`: there is no journal.
pub(crate) fn index(data_dir: &Path, device: &str, durable: u64) -> io::Result<Option<Index>> {
    let mut index = Index::default();
    Ok(index.advance(data_dir, device, durable)?.then_some(index))
}

impl Index {
    /// An index that begins with the last but one segment of the log. It knows which numbers are
    /// older ([`InLog::older`]). So whoever wants to know only what happens from now on need not read
    /// the whole log.
    pub(crate) fn of_the_end(data_dir: &Path) -> io::Result<Self> {
        let dir = log_dir(data_dir);
        let segments = if dir.is_dir() { segments(&dir)? } else { Vec::new() };
        let Some(segment) = segments.iter().rev().nth(1) else { return Ok(Self::default()) };
        let place = LogPlace { segment: segment.first, offset: 0 };
        Ok(Self { place: Some(place), begins_late: segment.first > 1, ..Self::default() })
    }

    /// Takes in what follows in the log, up to entry `durable`. `false`: there is no journal.
    ///
    /// # Errors
    /// The log cannot be read, or it was removed since the last pass.
    pub(crate) fn advance(&mut self, data_dir: &Path, device: &str, durable: u64) -> io::Result<bool> {
        let dir = log_dir(data_dir);
        if !dir.is_dir() {
            return Ok(false);
        }
        let entries = match self.place {
            Some(place) => Some(Entries::at(&dir, place, durable)?.ok_or_else(removed_meanwhile)?),
            None => Entries::all(&dir, durable)?,
        };
        let Some(mut entries) = entries else { return Ok(false) };
        if self.place.is_none() {
            self.begins_late = entries.place().segment > 1;
        }
        self.damaged -= std::mem::take(&mut self.behind);
        loop {
            let place = entries.place();
            let Some(line) = entries.line()? else { return Ok(true) };
            match line {
                LogLine::Bad { .. } => {
                    self.damaged += 1;
                    self.behind += 1;
                    continue;
                }
                LogLine::State(json) if !self.begun => self.take_head(&json, device),
                LogLine::State(_) => {}
                LogLine::Entry(entry) => {
                    self.begun = true;
                    match &entry.body {
                        Body::Clock(step) => self.step(entry.seq, *step),
                        Body::Upload(event) => self.upload(event, device, place),
                        _ => {}
                    }
                }
            }
            (self.place, self.behind) = (Some(entries.place()), 0);
        }
    }

    fn step(&mut self, seq: u64, step: Step) {
        if self.steps.len() == STEPS_MAX {
            self.steps.remove(0);
        }
        self.steps.push((seq, step));
    }

    fn upload(&mut self, event: &UploadEvent, device: &str, place: LogPlace) {
        if let UploadEvent::Batch(batch) = event {
            for decoder in &batch.decoders {
                let cursor = self.cursors.entry(decoder.clone()).or_default();
                *cursor = (*cursor).max(batch.through.0);
            }
        }
        if event.device() == device || matches!(event, UploadEvent::Moved { to, .. } if **to == *device) {
            self.take(event, device, place);
        }
    }

    fn take_head(&mut self, json: &str, device: &str) {
        let head: Option<StateHead> = serde_json::from_str(json).ok();
        for (token, alias, next) in
            head.and_then(|mut head| head.devices.remove(device)).into_iter().flat_map(|d| d.sessions)
        {
            self.sessions.push(InLog { token, alias, older: next, numbered: next > 1, ..InLog::default() });
        }
    }

    fn take(&mut self, event: &UploadEvent, device: &str, place: LogPlace) {
        match event {
            UploadEvent::Joined { token, alias, .. } => self.session(token).alias.clone_from(alias),
            UploadEvent::Batch(batch) => {
                let session = self.session(&batch.session);
                if let (Some(first), Some(last)) = (batch.items.first(), batch.items.last()) {
                    session.batch(first.num, last.num, place);
                }
                for item in &batch.items {
                    session.retried.remove(&(item.num, item.seq.0)); // it may be refused here, too
                }
                for item in &batch.items {
                    self.returned.remove(&item.seq.0);
                    self.failing.remove(&item.seq.0);
                }
                for found in &batch.found {
                    let session = self.known(&found.session);
                    session.found.push(found.item());
                    session.restore(found.num);
                    session.numbered = true;
                    session.top = session.top.max(Some(found.num));
                    self.returned.remove(&found.seq.0);
                    self.failing.remove(&found.seq.0);
                }
                self.open.retain(|num, _| batch.still_open.contains(num));
                self.open.extend(batch.items.iter().map(|item| (item.num, item.seq.0)));
            }
            UploadEvent::Released { first, last, .. } if first <= last => {
                self.returned.extend(self.open.range(first..=last).map(|(_, seq)| seq));
            }
            UploadEvent::DeadLetter { num, again: true, .. } => self.failing.extend(self.open.get(num)),
            UploadEvent::Retry { items, .. } => {
                for item in items {
                    self.returned.insert(item.seq.0);
                    self.failing.remove(&item.seq.0);
                    // The event does not name the session.
                    for session in &mut self.sessions {
                        session.retried.insert((item.num, item.seq.0));
                    }
                }
            }
            UploadEvent::Dropped { items, failing, .. } => {
                for seq in failing {
                    self.failing.remove(&seq.0);
                }
                for session in &mut self.sessions {
                    session.dropped.extend(items.iter().map(|seq| seq.0));
                }
            }
            UploadEvent::Moved { to, items, .. } if **to == *device => {
                self.returned.extend(items.iter().map(|item| item.seq.0));
            }
            UploadEvent::Moved { items, .. } => {
                for item in items {
                    self.returned.remove(&item.seq.0);
                }
            }
            UploadEvent::Again { session, items, .. } => {
                self.returned.extend(items.iter().map(|item| item.seq.0));
                if !items.is_empty() {
                    let session = self.known(session);
                    items.iter().for_each(|item| session.replace(item.num));
                }
            }
            UploadEvent::Released { .. }
            | UploadEvent::Accepted { .. }
            | UploadEvent::DeadLetter { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Audited(_) => {}
        }
    }

    /// Returns the session, moved to the end of the list.
    fn session(&mut self, token: &str) -> &mut InLog {
        let known = self.sessions.iter().position(|session| *session.token == *token);
        let session = known.map(|at| self.sessions.remove(at));
        self.sessions.push(session.unwrap_or_else(|| InLog::nothing(token)));
        let last = self.sessions.len() - 1;
        &mut self.sessions[last]
    }

    /// Returns the session at its place. A session that the log does not know is put before all
    /// others.
    fn known(&mut self, token: &str) -> &mut InLog {
        let known = self.sessions.iter().position(|session| *session.token == *token);
        let at = known.unwrap_or_else(|| {
            self.sessions.insert(0, InLog::nothing(token));
            0
        });
        &mut self.sessions[at]
    }

    /// Returns the session with this token, or the only one whose token ends with it (at least six
    /// characters).
    pub(crate) fn find(&self, token: &str) -> Option<&InLog> {
        let exact = self.sessions.iter().find(|session| *session.token == *token);
        let mut alike = self.sessions.iter().filter(|session| token.len() >= 6 && session.token.ends_with(token));
        exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
    }

    /// Counts the reads of these decoders that no batch covers, and the released passings without a
    /// new number.
    pub(crate) fn waiting(&self, data_dir: &Path, decoders: &[Box<str>], durable: u64) -> io::Result<u64> {
        let mut waiting = self.returned.len() as u64;
        let Some(mut entries) = Entries::all(&log_dir(data_dir), durable)? else { return Ok(waiting) };
        // What waits since the hold that the log is in, until it is known that it was dropped.
        let (mut since, mut held) = (None, 0);
        while let Some(entry) = entries.entry()? {
            match &entry.body {
                Body::Control(Control::Hold { .. }) => (since, held) = (since.or(Some(entry.seq)), 0),
                Body::Control(Control::Release { how, .. }) => {
                    waiting -= if *how == Held::Drop { held } else { 0 };
                    (since, held) = (None, 0);
                }
                _ => {}
            }
            let waits = matches!(&entry.body, Body::Read(read) if !read.held_back);
            let mine = waits && decoders.iter().any(|decoder| **decoder == *entry.subject);
            let counts = mine && self.cursors.get(&*entry.subject).is_none_or(|cursor| entry.seq > *cursor);
            waiting += u64::from(counts);
            held += u64::from(counts && since.is_some());
        }
        // What is held is not on its way.
        Ok(if since.is_some() { waiting - held } else { waiting })
    }
}

/// Passings of a session in rising order of their numbers. The same number may occur more than
/// once.
pub(crate) type Numbered = Box<dyn Iterator<Item = io::Result<Ours>> + Send>;

/// Returns the passings of a session, up to entry `durable`.
///
/// # Errors
/// The log cannot be read, or its segments were removed since the index was made.
pub(crate) fn numbered(data_dir: &Path, device: &str, session: &InLog, durable: u64) -> io::Result<Numbered> {
    within(data_dir, device, session, durable, 0..=u64::MAX)
}

/// Like [`numbered`], only with these numbers. It reads little more of the log than their batches.
///
/// # Errors
/// Like [`numbered`].
pub(crate) fn within(
    data_dir: &Path,
    device: &str,
    session: &InLog,
    durable: u64,
    nums: RangeInclusive<u64>,
) -> io::Result<Numbered> {
    if session.runs.len() > RUNS_MAX {
        let text =
            format!("passings of this session were sent again more than {RUNS_MAX} times; it cannot be followed");
        return Err(io::Error::other(text));
    }
    let mut runs = Vec::new();
    for places in &session.runs {
        let first = places.starts.first().map_or(u64::MAX, |(first, _)| *first);
        let (Some(place), true) = (places.before(*nums.start()), first <= *nums.end() && places.last >= *nums.start())
        else {
            continue;
        };
        let run = Run::open(log_dir(data_dir), place, device, &session.token, durable)?;
        runs.push((Box::new(run.within(nums.clone(), places.last)) as Numbered).peekable());
    }
    let mut found: Vec<_> = session.found.iter().filter(|item| nums.contains(&item.num)).cloned().collect();
    found.sort_by_key(|item| item.num);
    let found = found.into_iter().map(|item| Ok(Ours { item, mark: PassingState::Accepted, counted: false }));
    runs.push((Box::new(found) as Numbered).peekable());
    let replaced: BTreeMap<u64, u64> =
        session.replaced.range(..=nums.end()).map(|(first, last)| (*first, *last)).collect();
    let replaced = move |num: u64| replaced.range(..=num).next_back().is_some_and(|(_, last)| *last >= num);
    let (retried, dropped) = (session.retried.clone(), session.dropped.clone());
    let decided = move |ours: &Ours| {
        let (num, read) = (ours.item.num, ours.item.seq.0);
        ours.mark == PassingState::Aside && (dropped.contains(&read) || retried.contains(&(num, read)))
    };
    let marked = move |mut ours: Ours| {
        if ours.mark == PassingState::Accepted && replaced(ours.item.num) {
            ours.mark = PassingState::Replaced;
        }
        ours
    };
    let all = std::iter::from_fn(move || {
        let num = |run: &mut Peekable<Numbered>| match run.peek() {
            None => u64::MAX,
            Some(Ok(ours)) => ours.item.num,
            Some(Err(_)) => 0,
        };
        let at = (0..runs.len()).min_by_key(|at| num(&mut runs[*at]))?; // of equal numbers, the earlier run is first
        Some(runs[at].next()?.map(&marked))
    });
    Ok(Box::new(all.filter(move |next| !next.as_ref().is_ok_and(&decided))))
}

fn removed_meanwhile() -> io::Error {
    io::Error::other("old segments of the log were removed meanwhile; try again")
}

/// The batches of a session while their numbers rise.
struct Run {
    entries: Entries,
    device: Box<str>,
    token: Box<str>,
    batch: BTreeMap<u64, Ours>, // one batch, and the open passings of earlier ones with all passings above them
    out: VecDeque<Ours>,
    last: u64,
    ended: bool,
}

impl Run {
    fn open(dir: PathBuf, place: LogPlace, device: &str, token: &str, durable: u64) -> io::Result<Self> {
        let entries = Entries::at(&dir, place, durable)?;
        let entries = entries.ok_or_else(removed_meanwhile)?;
        let (batch, out) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { entries, device: device.into(), token: token.into(), batch, out, last: 0, ended: false })
    }

    /// The passings with these numbers, up to the highest one of the run: what follows in the log is
    /// not of this run.
    fn within(self, nums: RangeInclusive<u64>, last: u64) -> impl Iterator<Item = io::Result<Ours>> + Send {
        let mut run = self;
        let mut over = false;
        std::iter::from_fn(move || {
            loop {
                if over {
                    return None;
                }
                let next = run.next()?;
                let Ok(ours) = &next else { return Some(next) };
                let num = ours.item.num;
                over = num >= last.min(*nums.end());
                if nums.contains(&num) {
                    return Some(next);
                }
            }
        })
    }

    fn advance(&mut self) -> io::Result<()> {
        let Some(entry) = self.entries.entry()? else {
            self.end(PassingState::Open);
            return Ok(());
        };
        let Body::Upload(event) = entry.body else { return Ok(()) };
        if *event.device() != *self.device {
            return Ok(());
        }
        match event {
            UploadEvent::Batch(batch) => self.begin(batch),
            UploadEvent::Accepted { first, last, duplicates, .. } => {
                for ours in self.batch.range_mut(first..=last.max(first)).map(|(_, ours)| ours) {
                    (ours.mark, ours.counted) = (PassingState::Accepted, duplicates > 0);
                }
            }
            // The passing gets another number when it is tried again.
            UploadEvent::DeadLetter { num, again: true, .. } => drop(self.batch.remove(&num)),
            UploadEvent::DeadLetter { num, .. } => {
                if let Some(ours) = self.batch.get_mut(&num) {
                    ours.mark = PassingState::Aside;
                }
            }
            UploadEvent::Released { first, last, .. } => self.batch.retain(|num, _| !(first..=last).contains(num)),
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Again { .. }
            | UploadEvent::Retry { .. }
            | UploadEvent::Dropped { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, batch: Batch) {
        // Keep the open passings and everything settled above them, because passings are returned
        // in the order of their numbers.
        let lowest = batch.still_open.iter().min().map_or(u64::MAX, |num| *num);
        let mut later = self.batch.split_off(&lowest);
        for (num, ours) in &mut later {
            if ours.mark == PassingState::Open && !batch.still_open.contains(num) {
                ours.mark = PassingState::Accepted;
            }
        }
        self.flush(PassingState::Accepted);
        self.batch = later;
        let (true, Some(first), Some(last)) = (batch.session == self.token, batch.items.first(), batch.items.last())
        else {
            return;
        };
        if first.num <= self.last {
            return self.end(PassingState::Accepted);
        }
        self.last = last.num;
        let open = |item: UploadItem| (item.num, Ours { item, mark: PassingState::Open, counted: false });
        self.batch.extend(batch.items.into_iter().map(open));
    }

    /// Moves the batch to the output. Passings without a line about their fate get the state
    /// `left`.
    fn flush(&mut self, left: PassingState) {
        for mut ours in std::mem::take(&mut self.batch).into_values() {
            if ours.mark == PassingState::Open {
                ours.mark = left;
            }
            self.out.push_back(ours);
        }
    }

    fn end(&mut self, left: PassingState) {
        self.flush(left);
        self.ended = true;
    }
}

impl Iterator for Run {
    type Item = io::Result<Ours>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ours) = self.out.pop_front() {
                return Some(Ok(ours));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.advance() {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests;
