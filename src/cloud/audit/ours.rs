//! The journal's side of an audit: the passings that were numbered in a session, in the order of
//! their numbers. They are read from the log with one batch in memory.
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
//! under another number, does not belong to the session. If a batch of a device follows another
//! batch, the earlier batch was settled, even if the line that says so was lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::compare::{Ours, PassingState};
use crate::journal::entries::Entries;
use crate::journal::entry::Body;
use crate::journal::log::{LogLine, LogPlace};
use crate::journal::{Batch, UploadEvent, UploadItem, log_dir};

/// Most runs of a session. Each repair may add one.
const RUNS_MAX: usize = 64;

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
    runs: Vec<LogPlace>,
    last: u64,
    /// Our highest number.
    pub top: Option<u64>,
    /// Passings that were recognised in the cloud.
    found: Vec<UploadItem>,
    /// First and last of the numbers whose passings were sent again under other numbers, in rising
    /// order.
    replaced: BTreeMap<u64, u64>,
}

impl InLog {
    /// A session that the log does not know.
    pub(crate) fn nothing(token: &str) -> Self {
        Self { token: token.into(), ..Self::default() }
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

/// What one pass through the log finds about a device.
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
    let dir = log_dir(data_dir);
    if !dir.is_dir() {
        return Ok(None);
    }
    let Some(mut entries) = Entries::all(&dir, durable)? else { return Ok(None) };
    let mut index = Index::default();
    let mut open: BTreeMap<u64, u64> = BTreeMap::new(); // of the batch in flight: number to read
    let mut begun = false;
    loop {
        let place = entries.place();
        let Some(line) = entries.line()? else { break };
        match line {
            LogLine::Bad { .. } => index.damaged += 1,
            LogLine::State(json) if !begun => index.take_head(&json, device),
            LogLine::State(_) => {}
            LogLine::Entry(entry) => {
                begun = true;
                let Body::Upload(event) = &entry.body else { continue };
                if let UploadEvent::Batch(batch) = event {
                    for decoder in &batch.decoders {
                        let cursor = index.cursors.entry(decoder.clone()).or_default();
                        *cursor = (*cursor).max(batch.through.0);
                    }
                }
                if event.device() == device || matches!(event, UploadEvent::Moved { to, .. } if **to == *device) {
                    index.take(event, device, place, &mut open);
                }
            }
        }
    }
    Ok(Some(index))
}

impl Index {
    fn take_head(&mut self, json: &str, device: &str) {
        let head: Option<StateHead> = serde_json::from_str(json).ok();
        for (token, alias, next) in
            head.and_then(|mut head| head.devices.remove(device)).into_iter().flat_map(|d| d.sessions)
        {
            self.sessions.push(InLog { token, alias, older: next, numbered: next > 1, ..InLog::default() });
        }
    }

    fn take(&mut self, event: &UploadEvent, device: &str, place: LogPlace, open: &mut BTreeMap<u64, u64>) {
        match event {
            UploadEvent::Joined { token, alias, .. } => self.session(token).alias.clone_from(alias),
            UploadEvent::Batch(batch) => {
                let session = self.session(&batch.session);
                if let (Some(first), Some(last)) = (batch.items.first(), batch.items.last()) {
                    if session.runs.is_empty() || first.num <= session.last {
                        session.runs.push(place);
                    }
                    (session.last, session.numbered) = (last.num, true);
                    session.top = session.top.max(Some(last.num));
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
                open.retain(|num, _| batch.still_open.contains(num));
                open.extend(batch.items.iter().map(|item| (item.num, item.seq.0)));
            }
            UploadEvent::Released { first, last, .. } if first <= last => {
                self.returned.extend(open.range(first..=last).map(|(_, seq)| seq));
            }
            UploadEvent::DeadLetter { num, again: true, .. } => self.failing.extend(open.get(num)),
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
        while let Some(entry) = entries.entry()? {
            let waits = matches!(&entry.body, Body::Read(read) if !read.held_back);
            let mine = waits && decoders.iter().any(|decoder| **decoder == *entry.subject);
            waiting += u64::from(mine && self.cursors.get(&*entry.subject).is_none_or(|cursor| entry.seq > *cursor));
        }
        Ok(waiting)
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
    if session.runs.len() > RUNS_MAX {
        let text =
            format!("passings of this session were sent again more than {RUNS_MAX} times; it cannot be followed");
        return Err(io::Error::other(text));
    }
    let run = |place: &LogPlace| {
        let run = Run::open(log_dir(data_dir), *place, device, &session.token, durable)?;
        Ok((Box::new(run) as Numbered).peekable())
    };
    let mut runs = session.runs.iter().map(run).collect::<io::Result<Vec<_>>>()?;
    let mut found = session.found.clone();
    found.sort_by_key(|item| item.num);
    let found = found.into_iter().map(|item| Ok(Ours { item, mark: PassingState::Accepted, counted: false }));
    runs.push((Box::new(found) as Numbered).peekable());
    let replaced = session.replaced.clone();
    let replaced = move |num: u64| replaced.range(..=num).next_back().is_some_and(|(_, last)| *last >= num);
    let marked = move |mut ours: Ours| {
        if ours.mark == PassingState::Accepted && replaced(ours.item.num) {
            ours.mark = PassingState::Replaced;
        }
        ours
    };
    Ok(Box::new(std::iter::from_fn(move || {
        let num = |run: &mut Peekable<Numbered>| match run.peek() {
            None => u64::MAX,
            Some(Ok(ours)) => ours.item.num,
            Some(Err(_)) => 0,
        };
        let at = (0..runs.len()).min_by_key(|at| num(&mut runs[*at]))?; // of equal numbers, the earlier run is first
        Some(runs[at].next()?.map(&marked))
    })))
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
        let entries =
            entries.ok_or_else(|| io::Error::other("old segments of the log were removed meanwhile; try again"))?;
        let (batch, out) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { entries, device: device.into(), token: token.into(), batch, out, last: 0, ended: false })
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
            | UploadEvent::Again { .. } => {}
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
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::journal::Found;
    use crate::journal::entry::{Entry, write_line};
    use crate::journal::log::Log;
    use crate::model::chip::Seq;

    struct Written {
        dir: tempfile::TempDir,
        log: Log,
    }

    impl Written {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let log = Log::open(&log_dir(dir.path()), "test", None).unwrap().0;
            Self { dir, log }
        }

        fn event(&mut self, event: UploadEvent) {
            let (seq, subject, time) = (self.log.next, event.device().into(), Timestamp::UNIX_EPOCH);
            let entry = Entry { seq, in_group: 0, subject, time, body: Body::Upload(event), raw: Box::default() };
            let mut line = Vec::new();
            write_line(&mut line, &entry);
            self.log.append(&line, 1).unwrap();
        }

        /// Adds a batch of the reads `seqs`, numbered from `first`.
        fn batch(&mut self, token: &str, first: u64, seqs: &[u64]) {
            let items = seqs.iter().zip(first..).map(|(seq, num)| item(*seq, num)).collect();
            let batch = Batch { decoders: vec!["mat".into()], ..Batch::resend("D", token, items) };
            self.event(UploadEvent::Batch(batch));
        }

        fn accepted(&mut self, first: u64, last: u64) {
            self.event(UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 });
        }

        /// Returns number, read and state of each passing, in the order of the iterator.
        fn of(&self, token: &str, durable: u64) -> Vec<(u64, u64, PassingState)> {
            let index = index(self.dir.path(), "D", durable).unwrap().unwrap();
            let list = numbered(self.dir.path(), "D", index.find(token).unwrap(), durable).unwrap();
            list.map(Result::unwrap).map(|ours| (ours.item.num, ours.item.seq.0, ours.mark)).collect()
        }
    }

    fn item(seq: u64, num: u64) -> UploadItem {
        UploadItem { seq: Seq(seq), num, time_ms: 0, corrected_ms: 0, bib: "7".into(), chip: "C7".into() }
    }

    use PassingState::{Accepted, Aside, Open};

    #[test]
    fn passings_come_in_the_order_of_their_numbers_also_when_a_session_is_joined_again_or_some_go_again() {
        let mut log = Written::new();
        log.batch("AAAAAA", 1, &[1, 2, 3, 4, 5]);
        log.accepted(1, 2);
        log.event(UploadEvent::DeadLetter {
            device: "D".into(),
            num: 3,
            status: 400,
            answer: "no".into(),
            again: false,
        });
        log.event(UploadEvent::Released { device: "D".into(), first: 4, last: 5 });
        log.batch("BBBBBB", 1, &[4]);
        log.accepted(1, 1);
        log.batch("AAAAAA", 3, &[5, 6]); // the cloud holds 1 and 2
        log.accepted(3, 4);
        log.event(UploadEvent::Batch(Batch::resend("D", "AAAAAA", vec![item(2, 2)])));
        let all = [(1, 1, Accepted), (2, 2, Accepted), (2, 2, Open), (3, 3, Aside), (3, 5, Accepted), (4, 6, Accepted)];
        assert_eq!(log.of("AAAAAA", u64::MAX), all);
        assert_eq!(log.of("BBBBBB", u64::MAX), [(1, 4, Accepted)]);
        assert_eq!(log.of("AAAAAA", 2), [1, 2, 3, 4, 5].map(|n| (n, n, if n < 3 { Accepted } else { Open })));
        let index = index(log.dir.path(), "D", u64::MAX).unwrap().unwrap();
        assert!(index.find("AAA").is_none() && index.find("CCCCCC").is_none());
        assert_eq!(&*index.sessions.last().unwrap().token, "AAAAAA");
        assert_eq!(
            index.waiting(log.dir.path(), &[], u64::MAX).unwrap(),
            0,
            "both that were released have numbers again"
        );
    }

    #[test]
    fn a_passing_that_was_left_behind_stays_open_beside_later_batches_and_in_the_place_of_its_number() {
        let mut log = Written::new();
        log.batch("AAAAAA", 1, &[1, 2, 3]);
        log.accepted(1, 1);
        log.accepted(3, 3);
        let items = vec![item(4, 4), item(5, 5)];
        let beside = Batch { still_open: vec![2], decoders: vec!["mat".into()], ..Batch::resend("D", "AAAAAA", items) };
        log.event(UploadEvent::Batch(beside));
        let open = [(1, 1, Accepted), (2, 2, Open), (3, 3, Accepted), (4, 4, Open), (5, 5, Open)];
        assert_eq!(log.of("AAAAAA", u64::MAX), open);
        log.accepted(4, 5);
        let alone = [(1, 1, Accepted), (2, 2, Open), (3, 3, Accepted), (4, 4, Accepted), (5, 5, Accepted)];
        assert_eq!(log.of("AAAAAA", u64::MAX), alone);
        log.event(UploadEvent::DeadLetter {
            device: "D".into(),
            num: 2,
            status: 500,
            answer: "no".into(),
            again: false,
        });
        assert_eq!(log.of("AAAAAA", u64::MAX)[1], (2, 2, Aside));
    }

    #[test]
    fn a_batch_is_settled_when_another_one_follows_though_its_last_line_was_lost() {
        let mut log = Written::new();
        log.batch("AAAAAA", 1, &[1, 2]);
        log.batch("AAAAAA", 3, &[3]);
        assert_eq!(log.of("AAAAAA", u64::MAX), [(1, 1, Accepted), (2, 2, Accepted), (3, 3, Open)]);
    }

    #[test]
    fn what_was_recognised_in_the_cloud_belongs_to_the_session_that_holds_it_in_the_place_of_its_number() {
        let found = |seq: u64, session: &str, num: u64| {
            let UploadItem { seq, num, time_ms, corrected_ms, bib, chip } = item(seq, num);
            Found { seq, session: session.into(), num, time_ms, corrected_ms, bib, chip }
        };
        let mut log = Written::new();
        log.batch("BBBBBB", 1, &[1]);
        let list = vec![found(4, "AAAAAA", 9), found(3, "BBBBBB", 3), found(2, "BBBBBB", 2)];
        let batch =
            Batch { found: list, decoders: vec!["mat".into()], ..Batch::resend("D", "BBBBBB", vec![item(5, 4)]) };
        log.event(UploadEvent::Batch(batch));
        log.accepted(4, 4);
        assert_eq!(log.of("BBBBBB", u64::MAX), [1, 2, 3, 5].map(|seq| (seq - u64::from(seq > 4), seq, Accepted)));
        assert_eq!(log.of("AAAAAA", u64::MAX), [(9, 4, Accepted)]);
        let index = index(log.dir.path(), "D", u64::MAX).unwrap().unwrap();
        assert_eq!(&*index.sessions.last().unwrap().token, "BBBBBB", "where numbers were given last");
        assert!(index.find("AAAAAA").unwrap().numbered);
    }

    #[test]
    fn a_passing_that_was_sent_again_with_another_time_may_be_removed_under_its_old_number() {
        let mut log = Written::new();
        log.batch("AAAAAA", 1, &[1, 2, 3, 4, 5]);
        log.accepted(1, 5);
        let again = |items, next| UploadEvent::Again { device: "D".into(), session: "AAAAAA".into(), items, next };
        log.event(again(vec![item(4, 4), item(2, 2), item(3, 3)], Seq(5)));
        let waiting = index(log.dir.path(), "D", u64::MAX).unwrap().unwrap().waiting(log.dir.path(), &[], u64::MAX);
        assert_eq!(waiting.unwrap(), 3);
        log.batch("AAAAAA", 6, &[2, 3]);
        log.accepted(6, 7);
        // The correction of read 4 was taken back before it went up.
        let UploadItem { seq, num, time_ms, corrected_ms, bib, chip } = item(4, 4);
        let found = vec![Found { seq, session: "AAAAAA".into(), num, time_ms, corrected_ms, bib, chip }];
        let decoders = vec!["mat".into()];
        log.event(UploadEvent::Batch(Batch { found, decoders, ..Batch::resend("D", "AAAAAA", Vec::new()) }));
        let all = log.of("AAAAAA", u64::MAX);
        assert_eq!(all.iter().filter(|(num, ..)| *num != 4).count(), 6);
        for (num, seq, mark) in all {
            let replaced = matches!(num, 2 | 3);
            assert_eq!(mark, if replaced { PassingState::Replaced } else { Accepted }, "{num} {seq}");
        }
        assert_eq!(index(log.dir.path(), "D", u64::MAX).unwrap().unwrap().returned.len(), 0);
    }

    #[test]
    fn where_old_segments_are_gone_the_state_tells_which_numbers_are_older() {
        let mut log = Written::new();
        log.batch("AAAAAA", 1, &[1, 2]);
        log.accepted(1, 2);
        let state = r#"{"devices":{"D":{"sessions":[["AAAAAA","Race",3]]}}}"#;
        log.log.rotate(Some(state)).unwrap();
        log.batch("AAAAAA", 3, &[3]);
        let segments = crate::journal::log::segments(&log_dir(log.dir.path())).unwrap();
        std::fs::remove_file(&segments[0].path).unwrap();
        let index = index(log.dir.path(), "D", u64::MAX).unwrap().unwrap();
        let session = index.find("AAAAAA").unwrap();
        assert_eq!((session.older, session.alias.as_deref()), (3, Some("Race")));
        assert_eq!(log.of("AAAAAA", u64::MAX), [(3, 3, Open)]);
    }
}
