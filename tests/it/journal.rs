//! The journal as its users see it: what was kept is there again, in order, whatever happened to
//! the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use passbridge::testing::decoders::{Cleared, Frame, Framed};
use passbridge::testing::journal::{Batch, Journal, JournalConfig, OpenError, Pending, UploadEvent, UploadItem};
use passbridge::testing::model::chip::{ChipRead, Label, Marker, Position, Seq};
use passbridge::testing::status::Board;
use rustix::fs::{CWD, RenameFlags};

use crate::support::disk_state;

fn config(dir: &Path) -> JournalConfig {
    JournalConfig {
        dir: dir.into(),
        dead_time: Duration::ZERO,
        zones: Default::default(),
        keep_days: 30,
        keep_bytes: 1 << 30,
        segment_bytes: 64 << 20,
    }
}

async fn open(dir: &Path) -> Journal {
    let journal = Journal::open(config(dir), Board::new("test")).expect("the journal opens");
    journal.serving().await;
    journal
}

/// Read number `n` of a decoder: chip and stamp follow from it.
fn read(n: u64) -> Framed {
    let stamp = format!("2026-05-03T{:02}:{:02}:{:02}.{:03}", n / 3_600_000, n / 60_000 % 60, n / 1000 % 60, n % 1000);
    let mut read = ChipRead::new(format!("MC{n:05}"), stamp.parse().unwrap());
    read.position = Some(Position { unit: None, file: Some(Label::Number(1)), number: n });
    Framed { frame: Frame::Read(read), raw: format!("raw {n}").into_bytes().into() }
}

async fn keep(journal: &Journal, decoder: &str, numbers: impl IntoIterator<Item = u64>) -> Seq {
    let frames = numbers.into_iter().map(read).collect();
    journal.append(decoder, Timestamp::now(), frames).await.unwrap().get().last
}

fn decoders() -> Vec<Box<str>> {
    vec!["mat".into()]
}

/// Everything that waits, in order, by chip.
fn waiting(journal: &Journal) -> Vec<String> {
    journal.pending("D", &decoders(), usize::MAX).reads.into_iter().map(|read| read.chip.to_string()).collect()
}

fn chips(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("MC{n:05}")).collect()
}

fn batch(pending: &Pending, first: u64) -> Batch {
    let reads = pending.reads.iter().map(|read| (read.seq, (&*read.chip).into()));
    let returned = pending.returned.iter().map(|item| (item.seq, item.chip.clone()));
    let items = returned
        .chain(reads)
        .zip(first..)
        .map(|((seq, chip), num)| UploadItem { seq, num, time_ms: 1, corrected_ms: 0, bib: chip.clone(), chip })
        .collect();
    Batch {
        device: "D".into(),
        session: "S".into(),
        items,
        dead: pending.dead.clone(),
        duplicates: pending.duplicates.clone(),
        found: Vec::new(),
        still_open: Vec::new(),
        through: pending.through,
        decoders: decoders(),
    }
}

async fn join(journal: &Journal, token: &str, next: u64) {
    let event = UploadEvent::Joined { device: "D".into(), token: token.into(), alias: None, next };
    journal.record(event).await.unwrap();
}

async fn accept(journal: &Journal, first: u64, last: u64) {
    journal.record(UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 }).await.unwrap();
}

fn cut(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    disk_state::image(dir, copy.path());
    copy
}

fn newest_log(dir: &Path) -> PathBuf {
    logs(dir).pop().unwrap()
}

/// The log's segments, oldest first.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The number a segment begins with.
fn number_of(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// A journal of small segments, and its board.
async fn open_small(dir: &Path) -> (Journal, Board) {
    let board = Board::new("test");
    let journal = Journal::open(JournalConfig { segment_bytes: 2000, ..config(dir) }, board.clone()).unwrap();
    journal.serving().await;
    (journal, board)
}

/// The message of a problem, as soon as it is shown.
async fn problem(board: &Board, code: &str) -> String {
    let shown = async {
        loop {
            let problems = board.snapshot().problems;
            if let Some(problem) = problems.into_iter().find(|problem| problem.code == code) {
                return problem.message;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), shown).await {
        Ok(message) => message,
        Err(_) => panic!("{code} is not told: {:#?}", board.snapshot().problems),
    }
}

#[tokio::test]
async fn what_was_kept_is_there_again_in_order_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    assert_eq!(keep(&journal, "mat", 1..=3).await, Seq(3));
    assert_eq!(keep(&journal, "mat", 4..=5).await, Seq(5));
    assert_eq!(waiting(&journal), chips(1..=5));
    journal.close().await;
    let journal = open(dir.path()).await;
    assert_eq!(waiting(&journal), chips(1..=5));
    assert_eq!(keep(&journal, "mat", [6]).await, Seq(6));
    assert_eq!(waiting(&journal), chips(1..=6));
    assert!(journal.stored_ranges("mat").await.missing(None, Some(&Label::Number(1)), 1, 8) == [(7, 8)]);
}

#[tokio::test]
async fn a_batch_in_flight_comes_back_unchanged_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=5).await;
    join(&journal, "S", 41).await;
    let first = batch(&journal.pending("D", &decoders(), 3), 41);
    journal.record(UploadEvent::Batch(first.clone())).await.unwrap();
    accept(&journal, 41, 41).await;
    for copy in [cut(dir.path()), cut(dir.path())] {
        let journal = open(copy.path()).await;
        let state = journal.device("D");
        let flight = state.in_flight.expect("the batch was not settled");
        assert_eq!(flight.batch, first);
        assert_eq!(flight.open, first.items[1..]);
        assert_eq!((state.next, state.sent), (44, 1));
        assert_eq!(waiting(&journal), chips(4..=5));
        accept(&journal, 42, 43).await;
        assert_eq!(journal.device("D").in_flight, None);
        assert_eq!(journal.backlog().0, 2);
        journal.close().await;
    }
}

#[tokio::test]
async fn passings_released_from_a_closed_session_go_first_into_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=5).await;
    join(&journal, "A", 1).await;
    let first = batch(&journal.pending("D", &decoders(), 3), 1);
    journal.record(UploadEvent::Batch(Batch { session: "A".into(), ..first })).await.unwrap();
    accept(&journal, 2, 2).await;
    for num in [1, 3] {
        journal.record(UploadEvent::Released { device: "D".into(), first: num, last: num }).await.unwrap();
    }
    join(&journal, "B", 1).await;
    journal.close().await;
    let journal = open(dir.path()).await;
    let pending = journal.pending("D", &decoders(), 10);
    assert_eq!(pending.returned.iter().map(|item| &*item.chip).collect::<Vec<_>>(), ["MC00001", "MC00003"]);
    assert_eq!(pending.reads.len(), 2);
    let second = batch(&pending, 1);
    journal.record(UploadEvent::Batch(Batch { session: "B".into(), ..second })).await.unwrap();
    accept(&journal, 1, 4).await;
    assert!(journal.pending("D", &decoders(), 10).is_empty());
    assert_eq!((journal.backlog().0, journal.device("D").sent, journal.device("D").next), (0, 5, 5));
}

#[tokio::test]
async fn a_read_that_is_sent_twice_is_kept_twice_and_uploaded_once_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", [1, 2, 1]).await;
    journal.close().await;
    let journal = open(dir.path()).await;
    assert_eq!(keep(&journal, "mat", [2, 3]).await, Seq(5));
    let pending = journal.pending("D", &decoders(), 10);
    assert_eq!(pending.reads.iter().map(|read| read.seq.0).collect::<Vec<_>>(), [1, 2, 5]);
    assert_eq!(pending.duplicates, [Seq(3), Seq(4)]);
    // The same chip and stamp from another decoder is another detection.
    keep(&journal, "backup-mat", [1]).await;
    assert_eq!(journal.pending("D", &["backup-mat".into()], 10).reads.len(), 1);
}

#[tokio::test]
async fn dead_time_is_judged_on_decoder_time_and_is_the_same_after_a_restart() {
    let at = |chip: &str, time: &str| {
        let read = ChipRead::new(chip, format!("2026-05-03T{time}").parse().unwrap());
        Framed { frame: Frame::Read(read), raw: Box::default() }
    };
    let reads = [
        ("A", "10:00:00.000", true),
        ("A", "10:00:04.999", false),
        ("B", "10:00:04.999", true),
        ("A", "10:00:05.000", true), // measured from the last passing, not from the last read
        ("A", "10:00:09.000", false),
        ("A", "10:00:01.000", false), // late from the decoder's memory
        ("A", "10:00:10.000", true),
    ];
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { dead_time: Duration::from_secs(5), ..config(dir.path()) };
        let mut journal = Journal::open(config.clone(), Board::new("test")).unwrap();
        let mut expected = Vec::new();
        for (n, (chip, time, passing)) in reads.into_iter().enumerate() {
            journal.serving().await;
            let kept = journal.append("mat", Timestamp::now(), vec![at(chip, time)]).await.unwrap().get();
            assert_eq!(kept.last, Seq(n as u64 + 1));
            if passing {
                expected.push(kept.last);
            }
            if restart {
                journal.close().await;
                journal = Journal::open(config.clone(), Board::new("test")).unwrap();
            }
        }
        journal.serving().await;
        let pending = journal.pending("D", &decoders(), 10);
        assert_eq!(pending.reads.iter().map(|read| read.seq).collect::<Vec<_>>(), expected, "restart: {restart}");
        assert_eq!(pending.reads.len() + pending.dead.len(), reads.len());
    }
}

#[tokio::test]
async fn live_reads_wait_for_stored_ones_a_few_seconds_and_are_judged_the_same_after_a_restart() {
    let at = |chip: &str, time: &str, kind: &str| {
        let mut read = ChipRead::new(chip, format!("2026-05-03T{time}").parse().unwrap());
        (read.amid_stored, read.replay) = (kind == "amid", kind == "stored");
        Framed { frame: Frame::Read(read), raw: Box::default() }
    };
    // A crossing that began before the cut, one that did not, and what was stored.
    let reads = [
        ("A", "10:00:03.000", "amid", false),
        ("B", "10:00:03.100", "amid", true),
        ("A", "10:00:00.000", "stored", true),
        ("B", "09:00:00.000", "stored", true),
    ];
    for restart in [None, Some(0), Some(2), Some(3)] {
        let dir = tempfile::tempdir().unwrap();
        let config = JournalConfig { dead_time: Duration::from_secs(5), ..config(dir.path()) };
        let mut journal = Journal::open(config.clone(), Board::new("test")).unwrap();
        journal.serving().await;
        for (n, (chip, time, kind, _)) in reads.into_iter().enumerate() {
            journal.append("mat", Timestamp::now(), vec![at(chip, time, kind)]).await.unwrap();
            assert!(journal.pending("D", &decoders(), 10).is_empty(), "all wait, in the order in which they came");
            if restart == Some(n) {
                journal.close().await;
                journal = Journal::open(config.clone(), Board::new("test")).unwrap();
                journal.serving().await;
            }
        }
        // Nothing else comes; another device does not wait.
        journal.append("other", Timestamp::now(), vec![at("C", "10:00:03.000", "live")]).await.unwrap();
        assert_eq!(journal.pending("E", &["other".into()], 10).reads.len(), 1);
        let mut changed = journal.changed();
        let judged = async {
            loop {
                changed.borrow_and_update();
                let pending = journal.pending("D", &decoders(), 10);
                if !pending.is_empty() {
                    return pending;
                }
                changed.changed().await.unwrap();
            }
        };
        let pending = tokio::time::timeout(Duration::from_secs(20), judged).await.expect("the waiting ends");
        let passings: Vec<u64> = pending.reads.iter().map(|read| read.seq.0).collect();
        let expected: Vec<u64> = (1..).zip(reads).filter(|(_, read)| read.3).map(|(seq, _)| seq).collect();
        assert_eq!((passings, pending.dead), (expected, vec![Seq(1)]), "restart: {restart:?}");
        let end = batch(&journal.pending("D", &decoders(), 10), 1);
        join(&journal, "S", 1).await;
        journal.record(UploadEvent::Batch(end)).await.unwrap();
        assert!(journal.pending("D", &decoders(), 10).is_empty());
        journal.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reads_that_would_wait_for_stored_ones_holds_up_neither_the_writer_nor_the_upload() {
    const READS: u64 = 80_000; // more than may be in memory
    let dir = tempfile::tempdir().unwrap();
    let config = JournalConfig { dead_time: Duration::from_secs(5), ..config(dir.path()) };
    let journal = Journal::open(config, Board::new("test")).unwrap();
    journal.serving().await;
    join(&journal, "S", 1).await;
    let keeping = async {
        for from in (0..READS).step_by(2000) {
            let frames = (from..from + 2000).map(read).map(|mut framed| {
                if let Frame::Read(read) = &mut framed.frame {
                    read.amid_stored = true;
                }
                framed
            });
            journal.append("mat", Timestamp::now(), frames.collect()).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), keeping).await.expect("the writer goes on");
    let mut changed = journal.changed();
    let uploading = async {
        let mut sent = 0;
        while sent < READS {
            changed.borrow_and_update();
            let pending = journal.pending("D", &decoders(), 500);
            if pending.is_empty() {
                changed.changed().await.unwrap();
                continue;
            }
            let batch = batch(&pending, sent + 1);
            sent += batch.items.len() as u64;
            assert!(batch.dead.is_empty());
            journal.record(UploadEvent::Batch(batch)).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), uploading).await.expect("all of it goes");
    journal.close().await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_trusted_is_rebuilt_from_the_log_complete() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    for n in 0..50 {
        keep(&journal, "mat", n * 40 + 1..=(n + 1) * 40).await;
    }
    join(&journal, "S", 1).await;
    journal.record(UploadEvent::Batch(batch(&journal.pending("D", &decoders(), 100), 1))).await.unwrap();
    accept(&journal, 1, 60).await;
    journal.close().await;
    let expected = open(cut(dir.path()).path()).await.device("D");
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("emptied", Vec::clear),
        ("zeroed", |bytes| bytes.fill(0)),
        ("scribbled over", |bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55)),
    ];
    for (name, damage) in damages {
        let copy = cut(dir.path());
        let span = std::fs::read_dir(copy.path().join("queue")).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(span.join("db")).unwrap();
        damage(&mut bytes);
        std::fs::write(span.join("db"), bytes).unwrap();
        let journal = Journal::open(config(copy.path()), Board::new("test")).unwrap();
        // Kept at once, before or while the queue is rebuilt.
        assert_eq!(keep(&journal, "mat", [9000]).await.0, 2004, "{name}");
        journal.serving().await;
        assert_eq!(waiting(&journal), chips((101..=2000).chain([9000])), "{name}");
        assert_eq!(journal.device("D"), expected, "{name}");
        journal.close().await;
    }
    // And when the whole directory is gone.
    let copy = cut(dir.path());
    std::fs::remove_dir_all(copy.path().join("queue")).unwrap();
    let journal = open(copy.path()).await;
    assert_eq!(waiting(&journal), chips(101..=2000));
    assert_eq!(journal.device("D"), expected);
}

#[tokio::test]
async fn an_append_that_the_power_cut_ended_is_cut_off_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=10).await;
    journal.close().await;
    let log = newest_log(dir.path());
    let whole = std::fs::read(&log).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for torn in [b"11\t0\tread\tmat\t20".as_slice(), &[0; 4096], &[0xff; 17], b"\n\n\n", &[]] {
        let copy = cut(dir.path());
        std::fs::write(newest_log(copy.path()), [&whole, torn].concat()).unwrap();
        let journal = open(copy.path()).await;
        assert_eq!(waiting(&journal), chips(1..=10));
        // The repair itself is noted in the log. Zeros are room for lines, and nothing to repair.
        let next = if torn.iter().all(|byte| *byte == 0) { 11 } else { 12 };
        assert_eq!(keep(&journal, "mat", [11]).await, Seq(next));
        journal.close().await;
    }
    // Every possible end of the file: the whole lines before it are there.
    for end in ends[ends.len() - 3]..whole.len() {
        let copy = cut(dir.path());
        std::fs::write(newest_log(copy.path()), &whole[..end]).unwrap();
        let _ = std::fs::remove_dir_all(copy.path().join("queue"));
        let journal = open(copy.path()).await;
        let lines = ends.iter().filter(|at| **at <= end).count() as u64 - 1; // less the head of the segment
        assert_eq!(waiting(&journal), chips(1..=lines));
        journal.close().await;
    }
}

#[tokio::test]
async fn a_damaged_line_costs_that_line_and_is_reported_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    for n in 1..=10 {
        keep(&journal, "mat", [n]).await;
    }
    journal.close().await;
    let log = newest_log(dir.path());
    let mut text = std::fs::read_to_string(&log).unwrap();
    text = text.replace("raw 4", "raw X");
    std::fs::write(&log, text).unwrap();
    std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
    let board = Board::new("test");
    let journal = Journal::open(config(dir.path()), board.clone()).unwrap();
    journal.serving().await;
    assert_eq!(waiting(&journal), chips((1..=10).filter(|n| *n != 4)));
    let message = problem(&board, "log_damaged").await;
    assert!(message.contains("line 5") && message.contains("4–4"), "{message}");
    assert_eq!(keep(&journal, "mat", [11]).await, Seq(12), "after the note that tells of it");
}

#[tokio::test]
async fn numbers_never_start_again_at_one_when_files_of_the_log_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        Journal::open(JournalConfig { segment_bytes: 2000, ..config(dir.path()) }, Board::new("test")).unwrap();
    journal.serving().await;
    for n in 1..=100 {
        keep(&journal, "mat", [n]).await;
    }
    journal.close().await;
    // The newest segments gone, the queue whole: nothing that waits is lost, and the numbers go on.
    for count in [1, usize::MAX] {
        let copy = cut(dir.path());
        let mut gone = logs(copy.path());
        gone.reverse();
        // The newest one may have been begun and have no entry yet: then nothing is lost with it alone.
        let newest = gone.iter().position(|path| number_of(path) <= 100).unwrap();
        gone.iter().take(count.saturating_add(newest)).for_each(|path| std::fs::remove_file(path).unwrap());
        let (journal, board) = open_small(copy.path()).await;
        let message = problem(&board, if count == 1 { "log_lost" } else { "journal_lost" }).await;
        assert!(message.contains("101"), "{message}");
        let message = problem(&board, "log_lost").await;
        let from = if count == 1 { number_of(&gone[newest]) } else { 1 };
        assert!(message.contains(&format!("entries {from}–100 ")), "{message}");
        assert_eq!(keep(&journal, "mat", [500]).await, Seq(102), "after the note that tells of it");
        assert_eq!(waiting(&journal), chips((1..=100).chain([500])));
        assert!(journal.device("D").doubt.is_some(), "the cloud is asked before anything is numbered");
        journal.close().await;
        // Told again at the next start, and nothing else; the queue is not needed for the numbers.
        std::fs::remove_dir_all(copy.path().join("queue")).unwrap();
        let (journal, board) = open_small(copy.path()).await;
        let message = problem(&board, "log_damaged").await;
        assert!(message.contains(&format!("entries gone: {from}–100.")), "{message}");
        assert_eq!(waiting(&journal), chips((1..from).chain([500])));
        assert!(journal.device("D").doubt.is_some());
        journal.close().await;
    }
    // Log and queue gone: a new journal, said loudly, that still does not give a number twice.
    let copy = cut(dir.path());
    for name in ["log", "queue"] {
        std::fs::remove_dir_all(copy.path().join(name)).unwrap();
    }
    let (journal, board) = open_small(copy.path()).await;
    problem(&board, "journal_lost").await;
    assert_eq!(keep(&journal, "mat", [7]).await, Seq(102));
    assert_eq!(waiting(&journal), ["MC00007"]);
}

#[tokio::test]
async fn a_backlog_over_many_segments_stays_in_order_and_goes_when_it_is_uploaded_and_over_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let config = JournalConfig { segment_bytes: 100_000, keep_bytes: 0, ..config(dir.path()) };
    let journal = Journal::open(config.clone(), Board::new("test")).unwrap();
    journal.serving().await;
    for n in 0..200 {
        keep(&journal, "mat", n * 100 + 1..=(n + 1) * 100).await;
    }
    journal.close().await;
    let segments = |dir: &Path| std::fs::read_dir(dir.join("log")).unwrap().count();
    let before = segments(dir.path());
    assert!(before > 10, "{before}");
    // Nothing is uploaded: nothing goes, although the limit is zero.
    let journal = Journal::open(config.clone(), Board::new("test")).unwrap();
    journal.serving().await;
    assert_eq!(waiting(&journal), chips(1..=20_000));
    join(&journal, "S", 1).await;
    let mut next = 1;
    let mut seen = BTreeSet::new();
    while next <= 20_000 {
        let batch = batch(&journal.pending("D", &decoders(), 500), next);
        let (first, last) = (batch.items[0].num, batch.items.last().unwrap().num);
        seen.extend(batch.items.iter().map(|item| item.chip.clone()));
        journal.record(UploadEvent::Batch(batch)).await.unwrap();
        accept(&journal, first, last).await;
        next = last + 1;
    }
    assert_eq!(seen.len(), 20_000);
    assert_eq!(segments(dir.path()).cmp(&before), std::cmp::Ordering::Greater);
    journal.close().await;
    // At the next look (it comes with the start) everything settled is gone but the segment in use.
    let journal = Journal::open(config.clone(), Board::new("test")).unwrap();
    let gone = async {
        while segments(dir.path()) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("settled segments go");
    journal.close().await;
    // What is left stands by itself, also without the queue.
    std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
    let journal = open(dir.path()).await;
    assert!(journal.pending("D", &decoders(), 10).is_empty());
    assert_eq!((journal.device("D").sent, journal.device("D").next), (20_000, 20_001));
    assert!(journal.stored_ranges("mat").await.missing(None, Some(&Label::Number(1)), 1, 20_000).is_empty());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let second = Journal::open(config(dir.path()), Board::new("test"));
    assert!(matches!(second.map(|_| ()), Err(OpenError::InUse(_))));
    journal.close().await;
    assert!(journal.append("mat", Timestamp::now(), vec![read(1)]).await.is_err());
}

#[tokio::test]
async fn reads_of_many_decoders_kept_at_the_same_time_share_group_commits_without_mixing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for decoder in 0..8 {
        let journal = journal.clone();
        tasks.spawn(async move {
            let name = format!("mat-{decoder}");
            let mut last = Seq(0);
            for n in 1..=50 {
                let seq = keep(&journal, &name, [n]).await;
                assert!(seq > last);
                last = seq;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for decoder in 0..8 {
        let name: Box<str> = format!("mat-{decoder}").into();
        let reads = journal.pending(&name, std::slice::from_ref(&name), 1000).reads;
        let got: Vec<String> = reads.into_iter().map(|read| read.chip.to_string()).collect();
        assert_eq!(got, chips(1..=50));
    }
    assert_eq!(journal.backlog().0, 400);
}

#[tokio::test]
async fn what_was_held_of_a_file_that_its_decoder_cleared_is_forgotten_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=50).await;
    let file = Some(Label::Number(1));
    let cleared = Cleared { unit: None, file: file.clone(), text: "cleared".into() };
    let frame = Framed { frame: Frame::Cleared(cleared), raw: Box::default() };
    journal.append("mat", Timestamp::now(), vec![frame]).await.unwrap();
    keep(&journal, "mat", [3]).await;
    for _ in 0..2 {
        let held = journal.stored_ranges("mat").await;
        assert_eq!(held.missing(None, file.as_ref(), 1, 5), [(1, 2), (4, 5)]);
        let copy = cut(dir.path());
        let again = open(copy.path()).await;
        assert_eq!(again.stored_ranges("mat").await, held);
        again.close().await;
    }
}

#[tokio::test]
async fn an_acceptance_that_a_power_cut_tore_out_before_the_next_batch_still_counts() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=5).await;
    join(&journal, "S", 1).await;
    journal.record(UploadEvent::Batch(batch(&journal.pending("D", &decoders(), 3), 1))).await.unwrap();
    accept(&journal, 1, 2).await; // number 3 was accepted too, and its line is not there
    journal.record(UploadEvent::Batch(batch(&journal.pending("D", &decoders(), 3), 4))).await.unwrap();
    let state = journal.device("D");
    assert_eq!((state.sent, state.next, state.in_flight.unwrap().open.len()), (3, 6, 2));
}

/// A journal of small segments with a hundred reads, of which the first sixty were uploaded, closed
/// in order.
async fn of_many_segments() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_small(dir.path()).await;
    join(&journal, "S", 1).await;
    for n in 1..=60 {
        keep(&journal, "mat", [n]).await;
        journal.record(UploadEvent::Batch(batch(&journal.pending("D", &decoders(), 10), n))).await.unwrap();
        accept(&journal, n, n).await;
    }
    for n in 61..=100 {
        keep(&journal, "mat", [n]).await;
    }
    journal.close().await;
    dir
}

#[tokio::test]
async fn a_segment_that_is_gone_or_cut_costs_what_was_in_it_and_is_told_to_the_number() {
    let dir = of_many_segments().await;
    let segments = logs(dir.path());
    assert!(segments.len() > 10, "{segments:?}");
    let last = 221; // 1 line that joins, 60 times 3, 40
    let waited = |at: usize| -> Vec<u64> {
        let end = segments.get(at + 1).map_or(last + 1, |path| number_of(path));
        (number_of(&segments[at])..end).collect()
    };
    type Damage = fn(&Path);
    let gone: Damage = |path| std::fs::remove_file(path).unwrap();
    let cut: Damage = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let (head, _) = text.split_at(text.find("\t0\t").unwrap() - 12); // the lines that begin with `#`, not the entries
        let head = head.rfind('\n').map_or("", |at| &head[..=at]);
        std::fs::write(path, head).unwrap();
    };
    let directory: Damage = |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    for (name, damage) in [("gone", gone), ("cut", cut), ("a directory", directory)] {
        for at in [0, 2, segments.len() - 3] {
            for queue in [true, false] {
                let what = format!("segment {at} {name}, queue: {queue}");
                let copy = self::cut(dir.path());
                damage(&copy.path().join("log").join(segments[at].file_name().unwrap()));
                if !queue {
                    std::fs::remove_dir_all(copy.path().join("queue")).unwrap();
                }
                let (journal, board) = open_small(copy.path()).await;
                let message = problem(&board, "log_damaged").await;
                let lost = waited(at);
                let range = format!("entries gone: {}–{}.", lost[0], lost.last().unwrap());
                assert!(message.contains(&range), "{what}: {message}, not {range}");
                // With the queue nothing that waits is gone; without it, what was in that segment.
                let reads = (61..=100).filter(|n| queue || !lost.contains(&(n + 121)));
                assert_eq!(waiting(&journal), chips(reads.clone()), "{what}");
                assert_eq!(journal.backlog().0 as usize, reads.count(), "{what}");
                let state = journal.device("D");
                assert_eq!((state.next, state.in_flight), (61, None), "{what}: no number is given again");
                let seq = keep(&journal, "mat", [500]).await;
                assert!(seq.0 > last, "{what}: {seq:?}");
                journal.close().await;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_state_at_the_head_of_the_oldest_segment_does_not_bring_uploaded_reads_back_as_new() {
    let dir = of_many_segments().await;
    let segments = logs(dir.path());
    // As if the older ones had been removed: the mark says so.
    let first = number_of(&segments[5]);
    segments[..5].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    // And no later segment at which no read waited helps out.
    for segment in &segments[5..] {
        let text = std::fs::read_to_string(segment).unwrap();
        std::fs::write(segment, text.replacen("#state\t{", "#state\t[", 1)).unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
    let (journal, board) = open_small(dir.path()).await;
    let message = problem(&board, "log_damaged").await;
    assert!(message.contains(&format!("line 2 of segment {first:012}")), "{message}");
    assert_eq!(waiting(&journal), chips(61..=100), "what a batch in the log covers is covered");
    let state = journal.device("D");
    assert!(state.doubt.is_some(), "and the cloud is asked before anything is numbered");
    assert_eq!(state.next, 61);
    journal.close().await;
}

#[tokio::test]
async fn a_hole_that_a_power_cut_tore_is_no_damage_and_is_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    // The power goes after the group and before the next checkpoint: what is there but the log is
    // older.
    let older = cut(dir.path());
    keep(&journal, "mat", 1..=10).await;
    let newer = cut(dir.path());
    journal.close().await;
    std::fs::remove_dir_all(older.path().join("log")).unwrap();
    std::fs::rename(newer.path().join("log"), older.path().join("log")).unwrap();
    let dir = older;
    let log = newest_log(dir.path());
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace("raw 4", "raw X")).unwrap(); // in the last group: a page that was not written
    for start in 1..=3 {
        let board = Board::new("test");
        let journal = Journal::open(config(dir.path()), board.clone()).unwrap();
        journal.serving().await;
        assert_eq!(waiting(&journal), chips((1..=10).filter(|n| *n != 4)));
        assert_eq!(journal.device("D").doubt, None);
        journal.close().await; // the log was read through by then, or will be at the next start
        let codes: Vec<String> = board.snapshot().problems.into_iter().map(|problem| problem.code).collect();
        for code in ["log_lost", "log_damaged"] {
            assert!(!codes.contains(&code.to_owned()), "start {start}: {codes:?}");
        }
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("#torn").count(), 1, "the line is covered");
    assert!(text.contains("raw X"), "what was there is in the note about it");
}

#[tokio::test]
async fn a_marker_that_its_decoder_numbers_is_held_and_one_that_stands_for_a_hole_too_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let at = |number| Position { unit: None, file: Some(Label::Number(1)), number };
    let marker = |number, through| Marker {
        kind: "start".into(),
        name: None,
        stamp: None,
        reader: None,
        location: None,
        position: Some(at(number)),
        through,
    };
    let framed = |marker| Framed { frame: Frame::Marker(marker), raw: Box::default() };
    let frames = vec![framed(marker(1, None)), framed(marker(5, Some(9)))];
    journal.append("mat", Timestamp::now(), frames).await.unwrap();
    keep(&journal, "mat", [2, 3]).await;
    let missing =
        async |journal: &Journal| journal.stored_ranges("mat").await.missing(None, Some(&Label::Number(1)), 1, 12);
    assert_eq!(missing(&journal).await, [(4, 4), (10, 12)]);
    journal.close().await;
    for queue in [true, false] {
        if !queue {
            std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
        }
        let journal = open(dir.path()).await;
        assert_eq!(missing(&journal).await, [(4, 4), (10, 12)]);
        assert_eq!(waiting(&journal), chips([2, 3]), "markers are nothing to upload");
        journal.close().await;
    }
}

/// The same read, as the link marks it that fetched it from a memory that was cleared.
fn held_back(n: u64) -> Framed {
    let framed = read(n);
    let Frame::Read(read) = framed.frame else { unreachable!() };
    Framed { frame: Frame::Read(ChipRead { held_back: true, replay: true, ..read }), ..framed }
}

/// Opens it again, with the queue as it is or rebuilt from the log.
async fn again(dir: &Path, journal: Journal, rebuilt: bool) -> Journal {
    journal.close().await;
    drop(journal);
    if rebuilt {
        std::fs::remove_dir_all(dir.join("queue")).unwrap();
    }
    open(dir).await
}

#[tokio::test]
async fn what_is_held_back_waits_for_a_word_whatever_happens_to_the_queue_and_is_then_uploaded_once() {
    for rebuilt in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path()).await;
        keep(&journal, "mat", [1]).await;
        // 1 was uploaded, 3 comes twice: both are repeats.
        for n in [2, 1, 3, 3, 4] {
            journal.append("mat", Timestamp::now(), vec![held_back(n)]).await.unwrap();
        }
        keep(&journal, "mat", [5]).await;
        for _ in 0..2 {
            let told = journal.held_back();
            assert_eq!((told.len(), told[0].count, &*told[0].decoder), (1, 3, "mat"));
            assert_eq!((&*told[0].first, &*told[0].last), ("2026-05-03T00:00:00.002", "2026-05-03T00:00:00.004"));
            assert_eq!(waiting(&journal), chips([1, 5]));
            assert_eq!(journal.backlog().0, 4, "with two repeats");
            journal = again(dir.path(), journal, rebuilt).await;
        }
        assert_eq!(journal.let_all_go(Some("another")).await.unwrap(), 0);
        let pending = journal.pending("D", &decoders(), 10);
        assert_eq!(pending.duplicates.len(), 2);
        join(&journal, "S", 1).await;
        journal.record(UploadEvent::Batch(batch(&pending, 1))).await.unwrap();
        accept(&journal, 1, 2).await;
        assert_eq!((waiting(&journal), journal.backlog().0), (chips([]), 0), "nothing waits for them");

        assert_eq!(journal.let_all_go(Some("mat")).await.unwrap(), 3);
        assert_eq!(journal.let_all_go(None).await.unwrap(), 0, "once");
        for _ in 0..2 {
            assert_eq!((waiting(&journal), journal.held_back()), (chips([2, 3, 4]), vec![]));
            keep(&journal, "mat", [2]).await; // given once more, it is known
            journal = again(dir.path(), journal, rebuilt).await;
        }
        let pending = journal.pending("D", &decoders(), 10);
        journal.record(UploadEvent::Batch(batch(&pending, 3))).await.unwrap();
        accept(&journal, 3, 5).await;
        journal = again(dir.path(), journal, rebuilt).await;
        assert_eq!((journal.backlog().0, journal.device("D").sent), (0, 5));
        journal.close().await;
    }
}

#[tokio::test]
async fn what_is_let_go_in_part_is_let_go_once_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    journal.append("mat", Timestamp::now(), (1..=1200).map(held_back).collect()).await.unwrap();
    let later = |read: &ChipRead| read.position.as_ref().is_some_and(|position| position.number > 1100);
    assert_eq!(journal.let_go(None, later).await.unwrap(), 100);
    assert_eq!(journal.let_go(None, later).await.unwrap(), 0);
    let journal = again(dir.path(), journal, true).await;
    assert_eq!((waiting(&journal), journal.held_back()[0].count), (chips(1101..=1200), 1100));
    assert_eq!(journal.let_all_go(Some("mat")).await.unwrap(), 1100);
    assert_eq!(waiting(&journal), chips((1101..=1200).chain(1..=1100)));
    journal.close().await;
}

#[tokio::test]
async fn what_the_numbers_held_say_is_known_after_a_restart_and_from_the_log_alone() {
    for rebuilt in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path()).await;
        keep(&journal, "mat", 1..=20).await;
        let held = journal.stored_ranges("mat").await;
        let journal = again(dir.path(), journal, rebuilt).await;
        assert_eq!(journal.stored_ranges("mat").await, held);
        let file = Label::Number(1);
        let Frame::Read(last) = read(20).frame else { unreachable!() };
        assert_eq!(held.content(None, Some(&file), 20), Some(last.content()));
        let cleared = Cleared { unit: None, file: Some(file.clone()), text: "cleared".into() };
        let cleared = Framed { frame: Frame::Cleared(cleared), raw: Box::default() };
        journal.append("mat", Timestamp::now(), vec![cleared]).await.unwrap();
        let journal = again(dir.path(), journal, rebuilt).await;
        let held = journal.stored_ranges("mat").await;
        assert_eq!((held.highest(None, Some(&file)), held.lives().was_cleared(None, Some(&file))), (None, true));
        assert_eq!(held.lives().of(None, Some(&file)).unwrap().before.unwrap().stamp, last.stamp);
        journal.close().await;
    }
}

#[tokio::test]
async fn a_passing_that_a_batch_names_as_still_open_stays_in_flight_and_what_else_was_before_it_counts_as_sent() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    keep(&journal, "mat", 1..=5).await;
    join(&journal, "S", 1).await;
    let first = batch(&journal.pending("D", &decoders(), 3), 1);
    journal.record(UploadEvent::Batch(first)).await.unwrap();
    let second = Batch { still_open: vec![1], ..batch(&journal.pending("D", &decoders(), 3), 4) };
    journal.record(UploadEvent::Batch(second)).await.unwrap();
    let copy = cut(dir.path());
    let again = open(copy.path()).await;
    for journal in [journal, again] {
        let state = journal.device("D");
        let open: Vec<u64> = state.in_flight.unwrap().open.iter().map(|item| item.num).collect();
        assert_eq!((open, state.next, state.sent), (vec![1, 4, 5], 6, 2));
        journal.record(UploadEvent::Released { device: "D".into(), first: 1, last: 1 }).await.unwrap();
        accept(&journal, 4, 5).await;
        let state = journal.device("D");
        assert_eq!((state.in_flight, state.sent), (None, 4));
        let returned = journal.pending("D", &decoders(), 3).returned;
        assert_eq!(returned.iter().map(|item| item.num).collect::<Vec<_>>(), [1]);
        journal.close().await;
    }
}

/// Waits until a problem is shown, and not for ever.
async fn until_shown(board: &Board, code: &str) {
    let shown = || board.snapshot().problems.iter().any(|problem| problem.code == code);
    let begin = std::time::Instant::now();
    while !shown() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{code}: {:?}", board.snapshot().problems);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_data_directory_that_another_passbridge_has_by_now_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (data, board) = (dir.path().join("data"), Board::new("test"));
    let journal = Journal::open(config(&data), board.clone()).expect("the journal opens");
    journal.serving().await;
    keep(&journal, "mat", 1..=3).await;
    // It is there in one step: a journal whose directory is gone makes it anew at once.
    let others = dir.path().join("others");
    let other = open(&others).await;
    rustix::fs::renameat_with(CWD, &others, CWD, &data, RenameFlags::EXCHANGE).unwrap();
    until_shown(&board, "data_dir_taken").await;
    other.close().await;
}
