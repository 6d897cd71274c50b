//! Whatever a decoder sends again, and whatever happens to the process, no read is uploaded twice
//! and none is hidden. The tests compare with a model that remembers everything. Here only the
//! newest 32 reads of a decoder are in memory, and 8 reads make a run.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::noop_waker_ref;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::decoders::{Cleared, Frame, Framed};
use crate::journal::driven::Driven;
use crate::journal::{Batch, JournalConfig, UploadEvent, UploadItem};
use crate::model::chip::{Label, Position};

const SOURCES: [&str; 3] = ["mat", "mat/Start", "other"];

#[derive(Clone, Debug)]
enum Op {
    /// New reads of a source.
    Reads {
        source: usize,
        count: u8,
    },
    /// The decoder of a source sends reads again, from any of its earlier reads on.
    Again {
        source: usize,
        from: u16,
        count: u8,
    },
    /// The decoder counts from 1 again, and its clock may be set back.
    Clear {
        source: usize,
        back: bool,
    },
    Follow {
        prune: bool,
    },
    Upload,
    Restart {
        closed: bool,
        loss: Loss,
    },
}

/// What is missing when the process starts again.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Nothing,
    Queue,
    Index,
    /// The run at this place, cut in the middle.
    Run(usize),
}

fn op(prunes: bool) -> impl Strategy<Value = Op> {
    let loss = if prunes {
        // Pruned reads are only in the index.
        prop_oneof![Just(Loss::Nothing), Just(Loss::Queue)].boxed()
    } else {
        prop_oneof![Just(Loss::Nothing), Just(Loss::Queue), Just(Loss::Index), (0..9usize).prop_map(Loss::Run)].boxed()
    };
    prop_oneof![
        4 => (0..3usize, 1..20u8).prop_map(|(source, count)| Op::Reads { source, count }),
        3 => (0..3usize, any::<u16>(), 1..40u8).prop_map(|(source, from, count)| Op::Again { source, from, count }),
        1 => (0..3usize, any::<bool>()).prop_map(|(source, back)| Op::Clear { source, back }),
        2 => any::<bool>().prop_map(|prune| Op::Follow { prune }),
        2 => Just(Op::Upload),
        2 => (any::<bool>(), loss).prop_map(|(closed, loss)| Op::Restart { closed, loss }),
    ]
}

/// A decoder: all reads that it ever sent, and how it counts.
struct Decoder {
    reads: Vec<ChipRead>,
    number: u64,
    at_ms: i64,
    dated: bool,
}

struct Box_ {
    dir: tempfile::TempDir,
    keep_bytes: u64,
    board: Board,
    driven: Option<Driven>,
    decoders: [Decoder; 2],
    numbered: u64,
    /// Upper bound of the number of entries since the last checkpoint.
    unsaved: usize,
    sent: Vec<Box<str>>,
}

fn of_source(source: usize) -> usize {
    usize::from(SOURCES[source] == "other")
}

impl Box_ {
    fn new(keep_bytes: u64) -> Self {
        let decoder = |dated| Decoder { reads: Vec::new(), number: 0, at_ms: 1_772_827_200_000, dated };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("reserve"), "").unwrap();
        let decoders = [decoder(true), decoder(false)];
        let board = Board::new("test");
        let mut made =
            Self { dir, keep_bytes, board, driven: None, decoders, numbered: 0, unsaved: 0, sent: Vec::new() };
        made.start();
        made
    }

    fn start(&mut self) {
        let config = JournalConfig {
            dir: self.dir.path().into(),
            dead_time: Duration::ZERO,
            zones: Zones::default(),
            keep_days: 30,
            keep_bytes: self.keep_bytes,
            segment_bytes: 3000,
        };
        self.driven = Some(Driven::open(config, self.board.clone()).unwrap());
        while !self.driven().serves() {
            self.driven().follow(false);
        }
    }

    fn driven(&mut self) -> &mut Driven {
        self.driven.as_mut().unwrap()
    }

    /// Runs a call of the journal to its end, while the writer takes its turns.
    fn await_<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(noop_waker_ref())) {
                return done;
            }
            self.driven().write();
        }
    }

    fn keep(&mut self, source: usize, frames: impl IntoIterator<Item = Frame>) {
        let journal = self.driven().journal.clone();
        let framed: Vec<Framed> = frames.into_iter().map(|frame| Framed { frame, raw: Box::default() }).collect();
        self.unsaved += framed.len();
        if self.unsaved > 24 {
            // Beyond `TAIL_MAX` reads the writer waits for a checkpoint.
            self.driven().follow(false);
            self.unsaved = 0;
        }
        self.await_(journal.append(SOURCES[source], Timestamp::UNIX_EPOCH, framed)).unwrap();
    }

    fn reads(&mut self, source: usize, count: u8) {
        let decoder = &mut self.decoders[of_source(source)];
        let mut new = Vec::new();
        for _ in 0..count {
            (decoder.number, decoder.at_ms) = (decoder.number + 1, decoder.at_ms + 700);
            let instant = Timestamp::from_millisecond(decoder.at_ms).unwrap();
            let at = jiff::tz::TimeZone::UTC.to_datetime(instant);
            let stamp = match decoder.dated {
                true => Stamp::Local(at),
                false => Stamp::TimeOfDay { time: at.time(), day: None },
            };
            let mut read = ChipRead::new(format!("{}-{}", of_source(source), decoder.reads.len()), stamp);
            read.position = Some(Position { unit: None, file: Some(Label::Number(1)), number: decoder.number });
            decoder.reads.push(read.clone());
            new.push(Frame::Read(read));
        }
        self.keep(source, new);
    }

    fn again(&mut self, source: usize, from: u16, count: u8) {
        let reads = &self.decoders[of_source(source)].reads;
        if reads.is_empty() {
            return;
        }
        let from = usize::from(from) % reads.len();
        let mut given = reads[from..(from + usize::from(count)).min(reads.len())].to_vec();
        given.iter_mut().for_each(|read| read.replay = true);
        self.keep(source, given.into_iter().map(Frame::Read));
    }

    fn clear(&mut self, source: usize, back: bool) {
        let decoder = &mut self.decoders[of_source(source)];
        decoder.number = 0;
        decoder.at_ms = if back { 1000 } else { decoder.at_ms + 60_000 };
        let cleared = Cleared { unit: None, file: Some(Label::Number(1)), text: "cleared".into() };
        self.keep(source, [Frame::Cleared(cleared)]);
    }

    /// Does what the uplink does, with a cloud that accepts everything.
    fn upload(&mut self) {
        let decoders: Vec<Box<str>> = SOURCES.iter().map(|source| (*source).into()).collect();
        let journal = self.driven().journal.clone();
        loop {
            let pending = journal.pending("D", &decoders, 7);
            if pending.is_empty() {
                return;
            }
            let items = pending.reads.iter().zip(self.numbered + 1..);
            let items = items.map(|(read, num)| UploadItem {
                seq: read.seq,
                num,
                time_ms: 0,
                corrected_ms: 0,
                bib: (&*read.chip).into(),
                chip: (&*read.chip).into(),
            });
            let items: Vec<UploadItem> = items.collect();
            self.sent.extend(items.iter().map(|item| item.chip.clone()));
            let (first, last) = (self.numbered + 1, self.numbered + items.len() as u64);
            self.numbered = last;
            let batch = Batch {
                device: "D".into(),
                session: "S".into(),
                items,
                dead: pending.dead,
                duplicates: pending.duplicates,
                found: Vec::new(),
                still_open: Vec::new(),
                through: pending.through,
                decoders: decoders.clone(),
            };
            self.await_(journal.record(UploadEvent::Batch(batch))).unwrap();
            if first <= last {
                let accepted = UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 };
                self.await_(journal.record(accepted)).unwrap();
            }
        }
    }

    fn restart(&mut self, closed: bool, loss: Loss) {
        let driven = self.driven.take().unwrap();
        if closed {
            driven.close();
        } else {
            drop(driven);
        }
        let known = known_dir(self.dir.path());
        match loss {
            Loss::Nothing => {}
            Loss::Queue => std::fs::remove_dir_all(self.dir.path().join("queue")).unwrap(),
            Loss::Index => std::fs::remove_dir_all(known).unwrap(),
            Loss::Run(at) => {
                let mut files: Vec<PathBuf> =
                    std::fs::read_dir(known).unwrap().map(|file| file.unwrap().path()).collect();
                files.sort();
                if let Some(path) = files.get(at) {
                    let bytes = std::fs::read(path).unwrap();
                    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
                }
            }
        }
        self.start();
    }

    fn does(&mut self, op: &Op) {
        match *op {
            Op::Reads { source, count } => self.reads(source, count),
            Op::Again { source, from, count } => self.again(source, from, count),
            Op::Clear { source, back } => self.clear(source, back),
            Op::Follow { prune } => self.driven().follow(prune),
            Op::Upload => self.upload(),
            Op::Restart { closed, loss } => self.restart(closed, loss),
        }
    }

    /// Checks that every read is in the cloud exactly once.
    fn judge(mut self) {
        self.upload();
        let made = self.decoders.iter().flat_map(|decoder| decoder.reads.iter().map(|read| (&*read.chip).into()));
        let made: BTreeSet<Box<str>> = made.collect();
        let sent: BTreeSet<Box<str>> = self.sent.iter().cloned().collect();
        let hidden: Vec<_> = made.difference(&sent).collect();
        assert!(hidden.is_empty(), "hidden: {hidden:?}");
        assert_eq!(self.sent.len(), sent.len(), "sent twice");
    }
}

/// `PROPTEST_CASES=400 cargo test --lib journal::dedup_index` runs more cases.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_is_given_again_is_sent_once_and_no_new_read_is_hidden(ops in prop::collection::vec(op(false), 1..40)) {
        let mut passbridge = Box_::new(1 << 30);
        ops.iter().for_each(|op| passbridge.does(op));
        passbridge.judge();
    }

    #[test]
    fn what_was_sent_is_known_when_its_segment_is_long_gone(ops in prop::collection::vec(op(true), 1..40)) {
        let mut passbridge = Box_::new(0);
        ops.iter().for_each(|op| passbridge.does(op));
        passbridge.judge();
    }
}

#[test]
fn a_read_of_a_segment_that_was_removed_is_known_when_it_is_asked_for_by_hand() {
    let mut passbridge = Box_::new(0);
    for _ in 0..30 {
        passbridge.reads(0, 20);
        passbridge.upload();
        passbridge.driven().follow(true);
    }
    assert!(crate::journal::driven::segments(passbridge.dir.path())[0].0 > 300, "most of the log is gone");
    passbridge.restart(false, Loss::Queue);
    for from in (0..600).step_by(50) {
        passbridge.again(0, from, 50);
    }
    passbridge.judge();
}

#[test]
fn reads_that_were_lost_before_anybody_followed_them_are_new_when_they_come_again() {
    let mut passbridge = Box_::new(1 << 30);
    passbridge.reads(2, 60);
    passbridge.driven().follow(false);
    passbridge.upload();
    passbridge.reads(2, 60);
    // Puts the index ahead of the queue's checkpoint, as a crash in the middle of a rebuild leaves
    // it.
    let journal = passbridge.driven().journal.clone();
    journal.shared.known().save(&Board::new("test"));
    drop(journal);
    drop(passbridge.driven.take());
    let segments = crate::journal::driven::segments(passbridge.dir.path());
    let followed = 60;
    segments.iter().filter(|(first, _)| *first > followed).for_each(|(_, path)| std::fs::remove_file(path).unwrap());
    let lost = segments.iter().filter(|(first, _)| *first > followed).count();
    assert!(lost > 0);
    passbridge.start();
    passbridge.again(2, 0, 120);
    let decoders: Vec<Box<str>> = vec!["other".into()];
    let pending = passbridge.driven().journal.clone().pending("D", &decoders, 1000);
    assert!(!pending.reads.is_empty(), "what was lost is new");
    assert!(pending.duplicates.len() >= 60, "what was sent is not: {}", pending.duplicates.len());
}

#[test]
fn an_entry_that_is_followed_twice_is_not_its_own_repeat_and_the_next_one_like_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = DedupIndex::open(dir.path(), "J", Trust { followed: 0, oldest: 1 }, 0);
    let entry = |seq, subject: &str| Entry {
        seq,
        in_group: 0,
        subject: subject.into(),
        time: Timestamp::UNIX_EPOCH,
        body: Body::Read(ChipRead::new("C1", "2026-03-06T20:27:47.350".parse().unwrap())),
        raw: Box::default(),
    };
    assert_eq!(
        [(1, "mat"), (1, "mat"), (2, "mat/Start"), (1, "mat")]
            .map(|(seq, source)| known.take(&entry(seq, source)).known),
        [false, false, true, false]
    );
    assert!(!known.take(&entry(3, "other")).known, "another decoder saw the same chip at the same time");
    assert!(known.take(&entry(2, "mat")).known, "and what was a repeat still is one");
}

/// Flips the last bit of a file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_run_is_told_and_made_anew_by_the_next_start() {
    let mut passbridge = Box_::new(1 << 30);
    for _ in 0..10 {
        passbridge.reads(2, 20);
        passbridge.upload();
        passbridge.driven().follow(false);
    }
    for file in std::fs::read_dir(known_dir(passbridge.dir.path())).unwrap() {
        damage(&file.unwrap().path());
    }
    passbridge.again(2, 0, 150);
    passbridge.driven().follow(false);
    let told = passbridge.board.snapshot().problems.iter().any(|problem| problem.code == "known_reads");
    assert!(told);
    passbridge.restart(true, Loss::Nothing);
    let waiting = |passbridge: &mut Box_| {
        let decoders: Vec<Box<str>> = vec!["other".into()];
        passbridge.driven().journal.pending("D", &decoders, 1000).reads.len()
    };
    let before = waiting(&mut passbridge); // each damaged run may have made some duplicates unknown
    passbridge.again(2, 0, 150);
    assert_eq!(waiting(&mut passbridge), before);
}

#[test]
fn a_bucket_that_is_damaged_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let reads = (0..1000_u64).map(|n| (spread(n), n + 1)).collect();
    let place = LogPlace { segment: 1, offset: 7 };
    let content = RunContent { identity: "J", from: 1, through: 1000, place, reads, spans: Spans::default() };
    let run = Run::write(dir.path(), content).unwrap();
    assert_eq!(run.find(spread(77)).unwrap(), Some(78));
    assert_eq!(run.find(spread(1077)).unwrap(), None);
    let path = run.path.clone();
    drop(run);
    damage(&path);
    let [run] = &run::open_all(dir.path(), "J").unwrap()[..] else { panic!() };
    assert!((0..1000).any(|n| run.find(spread(n)).is_err()));
    assert!(run::open_all(dir.path(), "another").unwrap().is_empty() && !path.exists());
}

fn undated_entry(seq: u64, stamp: &str, received: &str, change: impl Fn(&mut ChipRead)) -> Entry {
    let mut read = ChipRead::new("C1", stamp.parse().unwrap());
    change(&mut read);
    let (time, raw) = (received.parse().unwrap(), Box::default());
    Entry { seq, in_group: 0, subject: "mat".into(), time, body: Body::Read(read), raw }
}

#[test]
fn a_read_without_a_date_is_known_within_its_day_and_one_out_of_the_memory_on_any() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = DedupIndex::open(dir.path(), "J", Trust { followed: 0, oldest: 1 }, 0);
    let mut seq = 0;
    let mut take = |stamp: &str, received: &str, placed: bool, replay: bool| {
        seq += 1;
        let change = |read: &mut ChipRead| {
            read.position = placed.then_some(Position { unit: None, file: None, number: 7 });
            read.replay = replay;
        };
        known.take(&undated_entry(seq, stamp, received, change)).known
    };
    let (day_1, later, day_2) = ("2026-07-06T12:00:01Z", "2026-07-07T10:00:00Z", "2026-07-07T12:00:01Z");
    for (placed, on_day_2) in [(false, false), (true, true)] {
        assert!(!take("12:00:00.000", day_1, placed, false));
        assert!(take("12:00:00.000", later, placed, false));
        assert_eq!(take("12:00:00.000", day_2, placed, true), on_day_2, "placed: {placed}");
        assert!(!take("12:00:00.000", "2026-07-08T12:00:01Z", placed, false), "it says that it is live");
    }
    assert!(!take("13:00:00.000", "1970-01-01T00:00:01Z", false, false), "a box that does not know its day");
    assert!(!take("13:00:00.000", "1970-01-01T00:00:02Z", false, false), "the state knows it, not the index");
    assert!(!take("up7.000", day_1, false, false) && !take("up7.000", day_1, false, false), "the same");
}

#[test]
fn microseconds_keep_reads_apart_in_the_index_and_what_had_none_is_known_as_before() {
    for (stamp, other) in [("2026-07-06T10:00:00.000Z", "2026-07-06T10:00:00.001Z"), ("12:00:00.000", "12:00:00.001")] {
        let dir = tempfile::tempdir().unwrap();
        let mut known = DedupIndex::open(dir.path(), "J", Trust { followed: 0, oldest: 1 }, 0);
        let mut seq = 0;
        let mut take = |stamp: &str, micros: Option<u16>| {
            seq += 1;
            known.take(&undated_entry(seq, stamp, "2026-07-06T12:00:01Z", |read| read.micros = micros)).known
        };
        let taken = [Some(447), Some(448), Some(447), Some(448), None].map(|micros| take(stamp, micros));
        assert_eq!(taken, [false, false, true, true, true], "{stamp}");
        // A line of an older version, and what it is when it is given again now.
        let taken = [None, Some(447), Some(448), None].map(|micros| take(other, micros));
        assert_eq!(taken, [false, true, true, true], "{other}");
    }
}

/// A run of the version before has such a read under the date of its stamp, and the log may be
/// gone.
#[test]
fn a_read_that_was_kept_as_one_of_2004_is_known_when_it_comes_again() {
    for (stamp, kind) in
        [("2004-01-01T12:00:00.000", 1), ("2010-06-01T12:00:00.000", 1), ("2000-01-01T12:00:00.000Z", 3)]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut known = DedupIndex::open(dir.path(), "J", Trust { followed: 0, oldest: 1 }, 0);
        let (read, mat) = (ChipRead::new("C1", stamp.parse().unwrap()), fnv(b"mat"));
        known.fresh.reads.insert(spread(read.identity() ^ spread(mat)), 1);
        known.fresh.spans.add(spread(mat ^ kind), stamp_ms(read.stamp));
        known.through = 1;
        let again = undated_entry(2, stamp, "2026-07-06T12:00:01Z", |_| ());
        assert!(known.take(&again).known, "{stamp}");
        let new = undated_entry(3, &stamp.replace("00.000", "00.001"), "2026-07-06T12:00:01Z", |_| ());
        assert!(!known.take(&new).known && known.take(&Entry { seq: 4, ..new.clone() }).known, "{stamp}");
        let next_day = Entry { seq: 5, time: "2026-07-07T12:00:01Z".parse().unwrap(), ..new };
        assert!(!known.take(&next_day).known, "{stamp}: its clock counts from there again");
    }
}

#[test]
fn the_index_of_a_version_that_knew_no_days_is_made_anew_and_nothing_goes_up_twice() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("reserve"), "").unwrap();
    let config = JournalConfig {
        dir: dir.path().into(),
        dead_time: Duration::ZERO,
        zones: Zones::default(),
        keep_days: 30,
        keep_bytes: 1 << 30,
        segment_bytes: 3000,
    };
    let start = || {
        let mut driven = Driven::open(config.clone(), Board::new("test")).unwrap();
        while !driven.serves() {
            driven.follow(false);
        }
        driven
    };
    let keep = |driven: &mut Driven, hours: i64| {
        let journal = driven.journal.clone();
        for n in 0..60 {
            let at = Timestamp::from_second(1_783_332_000 + n).unwrap();
            let time = jiff::tz::TimeZone::UTC.to_datetime(at);
            let stamp = if n % 2 == 0 { Stamp::Local(time) } else { Stamp::TimeOfDay { time: time.time(), day: None } };
            let framed = Framed { frame: Frame::Read(ChipRead::new(format!("C{n}"), stamp)), raw: Box::default() };
            let received = Timestamp::from_second(at.as_second() + hours * 3600).unwrap();
            let mut keeping = pin!(journal.append("mat", received, vec![framed]));
            while keeping.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_pending() {
                driven.write();
            }
            if n % 20 == 0 {
                driven.follow(false);
            }
        }
    };
    let mut driven = start();
    let identity = driven.journal.shared.lock().state.identity.clone();
    keep(&mut driven, 0);
    driven.follow(false);
    driven.close();
    // The runs as the previous version wrote them: it knew no day of reads without a date.
    let runs = run::open_all(&known_dir(dir.path()), &identity).unwrap();
    assert!(runs.len() > 3);
    for old in runs {
        let Run { from, through, place, .. } = old;
        let content =
            RunContent { identity: &identity, from, through, place, reads: Vec::new(), spans: Spans::default() };
        let path = Run::write(&known_dir(dir.path()), content).unwrap().path;
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, _) = text.rsplit_once('\t').unwrap();
        let mut bytes = head.replace("{\"known\":2,", "{\"known\":1,").into_bytes();
        crate::journal::entry::seal(&mut bytes, 0);
        std::fs::write(path, bytes).unwrap();
    }
    let mut driven = start();
    keep(&mut driven, 1);
    let decoders: Vec<Box<str>> = vec!["mat".into()];
    let pending = driven.journal.clone().pending("D", &decoders, 1000);
    assert_eq!((pending.reads.len(), pending.duplicates.len()), (60, 60));
    drop(driven);
}
