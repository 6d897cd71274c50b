//! Readers of a journal that is driven step by step.

use std::path::Path;

use jiff::Timestamp;

use super::super::JournalConfig;
use super::super::driven::{self, Driven, disk};
use super::super::entry::Body;
use super::super::recent::RECENT_BYTES;
use super::super::shared::AppendRequest;
use super::*;
use crate::model::chip::{ChipRead, Label, Position};
use crate::status::Board;

fn config(dir: &Path, segment_bytes: u64) -> JournalConfig {
    let (dead_time, keep_days, keep_bytes) = (Duration::ZERO, 30, 1 << 30);
    JournalConfig { dir: dir.into(), dead_time, zones: Default::default(), keep_days, keep_bytes, segment_bytes }
}

/// A group of reads with everything that a decoder can say of them.
fn ask(journal: &Journal, chips: std::ops::Range<u32>) {
    let read = |chip: u32| {
        let mut read = ChipRead::new(format!("C{chip}"), "2026-03-06T20:27:47.350".parse().unwrap());
        read.antenna = Some(Label::Number(3));
        (read.rssi, read.hits, read.location) = (Some(-61), Some(9), Some("start".into()));
        read.reader = Some(Label::Text("left".into()));
        read.position = Some(Position { unit: None, file: Some(Label::Number(7)), number: u64::from(chip) });
        Body::Read(read)
    };
    let received = "2026-03-06T20:27:48.1239Z".parse::<Timestamp>().unwrap();
    let drafts = chips.map(|chip| ("mat".into(), received, read(chip), Box::from(&b"raw \t bytes\n"[..])));
    journal.requests.try_send(AppendRequest::unheard(drafts.collect())).unwrap();
}

fn keep(driven: &mut Driven, chips: std::ops::Range<u32>) {
    ask(&driven.journal, chips);
    assert!(driven.write());
}

/// Everything that there is for a reader now. A gap is an error with its numbers.
fn all(reader: &mut Reader) -> Vec<Result<Entry, (u64, u64)>> {
    let mut all = Vec::new();
    while let Some(news) = reader.read().unwrap() {
        match news {
            News::Entries(group) => all.extend(group.iter().cloned().map(Ok)),
            News::Gap { first, last } => all.push(Err((first.0, last.0))),
        }
    }
    all
}

fn numbers(found: &[Result<Entry, (u64, u64)>]) -> Vec<u64> {
    found.iter().map(|found| found.as_ref().unwrap().seq).collect()
}

#[test]
fn each_reader_gets_every_entry_whole_and_in_order_from_memory_or_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::open(config(dir.path(), 6000), Board::new("test")).unwrap();
    let (mut near, mut far) = (driven.journal.reader(Seq(1)), driven.journal.reader(Seq(1)));
    let (mut of_near, mut of_far) = (Vec::new(), Vec::new());
    for group in 0..60 {
        keep(&mut driven, group * 5..group * 5 + 1 + group % 5);
        let here = all(&mut near);
        assert!(!here.is_empty() && near.open.is_none(), "it is near the head, and reads no file");
        of_near.extend(here);
        if group % 25 == 24 {
            of_far.extend(all(&mut far));
            assert_eq!(driven.serves(), group > 24, "readers need no queue");
            driven.follow(false); // from now on segments are begun, because the state follows
        }
    }
    of_far.extend(all(&mut far));
    assert!(driven::segments(dir.path()).len() > 3);
    let written: Vec<_> = driven::entries(dir.path()).into_values().map(Ok).collect();
    assert_eq!(of_near, written);
    assert_eq!(of_far, written);
    let late = all(&mut driven.journal.reader(Seq(100)));
    assert_eq!(late, written[99..]);
    assert!(all(&mut driven.journal.reader(Seq(10_000))).is_empty());
}

#[test]
fn an_entry_that_is_not_durable_is_given_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    disk::begin();
    let mut driven = Driven::open(config(dir.path(), 1 << 30), Board::new("test")).unwrap();
    let mut reader = driven.journal.reader(Seq(1));
    keep(&mut driven, 0..2);
    assert_eq!(numbers(&all(&mut reader)), [1, 2]);
    // The lines are in the file, and the disk has not made them durable.
    ask(&driven.journal, 2..4);
    let (other, seen) = (driven.journal.reader(Seq(1)), std::rc::Rc::new(std::cell::RefCell::default()));
    let (mut readers, of_sync) = ([reader, other], std::rc::Rc::clone(&seen));
    let log = dir.path().to_owned();
    disk::at_next_sync(move |_| {
        assert_eq!(driven::entries(&log).len(), 4);
        *of_sync.borrow_mut() = readers.each_mut().map(|reader| numbers(&all(reader))).to_vec();
        Err(io::ErrorKind::Other.into())
    });
    disk::set(disk::Script { bad_syncs: 20, room: Some(0), ..Default::default() });
    assert!(!driven.write() && driven.refused());
    assert_eq!(*seen.borrow(), [vec![], vec![1, 2]]);
    let (mut reader, mut other) = (driven.journal.reader(Seq(3)), driven.journal.reader(Seq(3)));
    assert_eq!(all(&mut reader).len(), 0);
    disk::set(disk::Script::default());
    assert!(driven.write());
    assert_eq!((numbers(&all(&mut reader)), numbers(&all(&mut other))), (vec![3, 4], vec![3, 4]));
    disk::end();
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_costs_no_more_than_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::open(config(dir.path(), 64 * 1024), Board::new("test")).unwrap();
    keep(&mut driven, 0..10);
    assert_eq!(driven.journal.shared.recent.bytes(), 0, "nobody reads");
    let mut idle = driven.journal.reader(Seq(1));
    for group in 1..300 {
        keep(&mut driven, group * 10..group * 10 + 10);
        assert!(driven.journal.shared.recent.bytes() <= RECENT_BYTES);
    }
    assert!(driven.journal.shared.recent.bytes() > 0);
    assert_eq!(numbers(&all(&mut idle)), (1..=3000).collect::<Vec<_>>());
    let other = driven.journal.reader(Seq(1));
    drop(idle);
    assert!(driven.journal.shared.recent.bytes() > 0);
    drop(other);
    assert_eq!(driven.journal.shared.recent.bytes(), 0, "nobody reads any more");
}

#[test]
fn what_was_pruned_or_lost_is_told_with_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::open(config(dir.path(), 1 << 30), Board::new("test")).unwrap();
    for group in 0..4 {
        keep(&mut driven, group * 10..group * 10 + 10);
        driven.journal.shared.lock().wants_segment = true;
        driven.follow(false); // the first time it opens the queue, and a segment needs its state
    }
    let segments = driven::segments(dir.path());
    assert!(segments.len() > 2, "{segments:?}");
    let oldest = segments[1].0;
    std::fs::remove_file(&segments[0].1).unwrap();
    let mut reader = driven.journal.reader(Seq(1));
    assert_eq!(reader.read().unwrap().map(|_| ()), None, "the file may come back");
    driven.journal.shared.lock().mark.oldest = oldest;
    let found = all(&mut reader);
    assert_eq!(found[0], Err((1, oldest - 1)));
    assert_eq!(numbers(&found[1..]), (oldest..=40).collect::<Vec<_>>());
    // One line of the next segment is damaged. It costs itself, after the reader has waited.
    let mut bytes = std::fs::read(&segments[1].1).unwrap();
    let at = memchr::memmem::find(&bytes, format!("C{}\t", oldest + 2).as_bytes()).unwrap();
    bytes[at] = b'X';
    std::fs::write(&segments[1].1, bytes).unwrap();
    let mut reader = driven.journal.reader(Seq(oldest));
    let mut found = all(&mut reader);
    assert_eq!(numbers(&found), [oldest, oldest + 1, oldest + 2]);
    while found.len() < (40 - oldest + 1) as usize {
        found.extend(all(&mut reader));
    }
    assert_eq!(found.remove(3), Err((oldest + 3, oldest + 3)));
    assert_eq!(numbers(&found[3..]), (oldest + 4..=40).collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_moved_away_and_put_back_costs_a_reader_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut driven = Driven::open(config(dir.path(), 1 << 30), Board::new("test")).unwrap();
    for group in 0..4 {
        keep(&mut driven, group * 100..group * 100 + 100);
        driven.journal.shared.lock().wants_segment = true;
        driven.follow(false);
    }
    let (log, elsewhere) = (dir.path().join("log"), dir.path().join("elsewhere"));
    std::fs::rename(&log, &elsewhere).unwrap();
    let mut waits = driven.journal.reader(Seq(1));
    let began = Instant::now();
    while began.elapsed() < 2 * GAP_WAIT {
        assert!(all(&mut waits).is_empty(), "without its files, nothing is known of the log");
    }
    std::fs::rename(&elsewhere, &log).unwrap();
    assert_eq!(numbers(&all(&mut waits)), (1..=400).collect::<Vec<_>>());
    let (_, moved) = driven::segments(dir.path()).swap_remove(1);
    let aside = dir.path().join("aside");
    std::fs::rename(&moved, &aside).unwrap();
    let mut reader = driven.journal.reader(Seq(1));
    let mut found = all(&mut reader);
    let before = found.len();
    std::fs::rename(&aside, &moved).unwrap();
    found.extend(all(&mut reader));
    assert!(before < 400 && reader.at() == Seq(401));
    assert_eq!(numbers(&found), (1..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_waits_for_the_next_entry_and_ends_when_the_journal_closes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(config(dir.path(), 1 << 30), Board::new("test")).unwrap();
    let mut reader = journal.reader(Seq(1));
    let reading = tokio::spawn(async move {
        let mut found = Vec::new();
        while let Some(news) = reader.next().await.unwrap() {
            let News::Entries(group) = news else { panic!("a gap") };
            found.extend(group.iter().map(|entry| entry.seq));
        }
        found
    });
    for code in ["one", "two", "three"] {
        journal.note(code, "text").await.unwrap();
        tokio::task::yield_now().await;
    }
    // From the beginning, past what is in memory.
    let mut late = journal.reader(Seq(1));
    let Some(News::Entries(first)) = late.next().await.unwrap() else { panic!("no entry") };
    assert_eq!((&*first[0].subject, first[0].seq), ("one", 1));
    journal.close().await;
    let found = reading.await.unwrap();
    assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
}
