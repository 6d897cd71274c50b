//! Sinks at different speeds, what they hold, and their lines in the log.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::super::entry::{BadLine, Body, Entry, parse_line, seal, write_line};
use super::super::log::segments;
use super::super::queue::Queue;
use super::super::reader::News;
use super::super::room::prune;
use super::super::{Batch, Journal, JournalConfig, UploadEvent, UploadItem};
use super::*;
use crate::decoders::{Frame, Framed};
use crate::model::chip::{ChipRead, Marker, Seq};
use crate::status::Board;

fn config(dir: &Path, segment_bytes: u64) -> JournalConfig {
    let (dead_time, keep_days, keep_bytes) = (Duration::ZERO, 30, 0);
    JournalConfig { dir: dir.into(), dead_time, zones: Default::default(), keep_days, keep_bytes, segment_bytes }
}

async fn keep(journal: &Journal, source: &str, frame: Frame) -> u64 {
    let frames = vec![Framed { frame, raw: Box::default() }];
    journal.append(source, Timestamp::UNIX_EPOCH, frames).await.unwrap().get().last.0
}

async fn read(journal: &Journal, source: &str, chip: usize) -> u64 {
    let read = ChipRead::new(format!("C{chip}"), "2026-03-06T20:27:47.350".parse().unwrap());
    keep(journal, source, Frame::Read(read)).await
}

async fn gun(journal: &Journal, source: &str) -> u64 {
    let (name, stamp, reader, location, position) = (None, None, None, None, None);
    let marker = Marker { kind: "gun".into(), name, stamp, reader, location, position, through: None };
    keep(journal, source, Frame::Marker(marker)).await
}

/// A sink that notes what it passed on. It passes on at most `most` entries and settles each.
async fn pass_on(journal: &Journal, sink: &str, most: usize, last: u64, passed: &mut Vec<u64>) {
    let mut reader = journal.sink(sink).await.unwrap();
    let mut count = 0;
    while passed.last().is_none_or(|newest| *newest < last) {
        let Some(News::Entries(group)) = reader.next().await.unwrap() else { panic!("a gap, or the end") };
        for entry in group.iter() {
            if reader.owes(entry) {
                if count == most {
                    return;
                }
                passed.push(entry.seq);
                reader.settle(&entry.subject, Seq(entry.seq));
                count += 1;
            }
        }
    }
}

#[tokio::test]
async fn two_sinks_at_different_speeds_get_every_entry_once_and_in_order_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut owed, mut of_fast, mut of_slow) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..8 {
        let journal = Journal::open_for(config(dir.path(), 4000), Board::new("test"), &["fast", "slow"]).unwrap();
        journal.serving().await;
        for at in 0..12 {
            owed.push(read(&journal, ["a", "b"][at % 2], round * 100 + at).await);
            if at % 5 == 0 {
                owed.push(gun(&journal, "b").await);
                journal.note("test", "that nobody is owed").await.unwrap();
            }
        }
        let last = owed[owed.len() - 1];
        pass_on(&journal, "fast", usize::MAX, last, &mut of_fast).await;
        pass_on(&journal, "slow", if round < 7 { 7 } else { usize::MAX }, last, &mut of_slow).await;
        assert_eq!(of_fast, owed, "round {round}");
        journal.close().await;
    }
    assert!(segments(&dir.path().join("log")).unwrap().len() > 3);
    assert_eq!(of_slow, owed);
}

#[tokio::test]
async fn a_power_cut_gives_a_sink_again_what_was_not_durable_and_nothing_less() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_for(config(dir.path(), 1 << 30), Board::new("test"), &["feed"]).unwrap();
    for chip in 0..4 {
        read(&journal, "a", chip).await;
    }
    let mut passed = Vec::new();
    pass_on(&journal, "feed", 2, 4, &mut passed).await;
    read(&journal, "a", 4).await; // the cursor rides with it
    pass_on(&journal, "feed", 2, 4, &mut passed).await;
    // The disk as it is now: the second cursor is in memory only.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("log")).unwrap();
    for segment in segments(&dir.path().join("log")).unwrap() {
        std::fs::copy(&segment.path, copy.path().join("log").join(segment.path.file_name().unwrap())).unwrap();
    }
    journal.close().await;
    let journal = Journal::open_for(config(copy.path(), 1 << 30), Board::new("test"), &["feed"]).unwrap();
    let mut again = Vec::new();
    pass_on(&journal, "feed", 3, 6, &mut again).await;
    assert_eq!((passed, again), (vec![1, 2, 3, 4], vec![3, 4, 6]));
    journal.close().await;
}

#[tokio::test]
async fn the_log_is_pruned_up_to_the_slowest_sink_and_a_sink_that_was_removed_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let board = Board::new("test");
    // A segment for each entry, and no room.
    let journal = Journal::open_for(config(dir.path(), 1), board.clone(), &["feed", "fleet"]).unwrap();
    journal.serving().await;
    let mut seqs = Vec::new();
    for num in 1..=4 {
        let seq = read(&journal, "a", num as usize).await;
        let items =
            vec![UploadItem { seq: Seq(seq), num, time_ms: 0, corrected_ms: 0, bib: "7".into(), chip: "C".into() }];
        let batch = Batch { through: Seq(seq), decoders: vec!["a".into()], ..Batch::resend("D", "S", items) };
        journal.record(UploadEvent::Batch(batch)).await.unwrap();
        let accepted = UploadEvent::Accepted { device: "D".into(), first: num, last: num, duplicates: 0 };
        journal.record(accepted).await.unwrap();
        seqs.push(seq);
    }
    journal.close().await; // the follower looks after the room, too
    let firsts =
        || segments(&dir.path().join("log")).unwrap().into_iter().map(|segment| segment.first).collect::<Vec<_>>();
    let told = || board.snapshot().problems.into_iter().find(|problem| problem.code == "journal_over_limit");
    let mut queue = Queue::create(&dir.path().join("another queue"), 0).unwrap();
    let mut look = |journal: &Journal| {
        let head = journal.durable().0 + 1;
        prune(&journal.shared, &mut queue, head, &BTreeMap::new(), None).unwrap();
    };
    for (sink, through, first) in [("feed", seqs[3], 1), ("fleet", seqs[1], seqs[1] + 1)] {
        let journal = Journal::open_for(config(dir.path(), 1), board.clone(), &["feed", "fleet"]).unwrap();
        journal.sink(sink).await.unwrap().settle("a", Seq(through));
        journal.close().await;
        look(&journal);
        assert_eq!(firsts()[0], first, "`fleet` owes what is behind its cursor");
        assert!(told().unwrap().message.contains("what the sink `fleet` has not passed on"), "{:?}", told());
    }
    // `fleet` was removed from the configuration.
    let journal = Journal::open_for(config(dir.path(), 1), board.clone(), &["feed"]).unwrap();
    journal.serving().await;
    assert!(journal.sink("fleet").await.is_none() && journal.sink(RUFUS).await.is_none());
    journal.close().await;
    look(&journal);
    assert!(firsts()[0] > seqs[3]);
    // It comes back, and is told what is gone.
    let journal = Journal::open_for(config(dir.path(), 1), board.clone(), &["fleet"]).unwrap();
    let mut fleet = journal.sink("fleet").await.unwrap();
    let Some(News::Gap { first, last }) = fleet.next().await.unwrap() else { panic!("no gap") };
    assert!(first.0 == seqs[1] + 1 && last.0 >= seqs[3], "{first:?} {last:?}");
    assert_eq!(journal.shared.sinks.needed_from(&journal.shared.lock().state).0, first.0);
    fleet.settle_all(last);
    journal.settle().await.unwrap();
    assert_eq!(journal.shared.sinks.needed_from(&journal.shared.lock().state).1, None, "nobody owes what is gone");
    journal.close().await;
}

#[tokio::test]
async fn a_sink_that_never_reads_holds_up_no_append_and_waiting_cursors_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open_for(config(dir.path(), 8000), Board::new("test"), &["feed", "stuck"]).unwrap();
    let _stuck = journal.sink("stuck").await.unwrap();
    let feed = journal.sink("feed").await.unwrap();
    for chip in 0..500 {
        read(&journal, "a", chip).await;
    }
    for seq in 1..=500 {
        feed.settle("a", Seq(seq));
        feed.settle("unknown", Seq(seq));
    }
    assert!(journal.shared.lock().riders.len() <= 2);
    journal.settle().await.unwrap();
    let durable = journal.durable();
    assert_eq!(journal.shared.lock().state.sinks["feed"]["a"], 500);
    feed.settle("a", durable); // nothing of the source was owed
    journal.settle().await.unwrap();
    assert_eq!(journal.durable(), durable);
    assert_eq!(Follows("stuck".into()).needs(&journal.shared.lock().state), Some(1));
    journal.close().await;
}

#[test]
fn an_event_of_the_upload_carries_the_name_of_its_sink_and_one_without_a_name_is_of_rufus() {
    let event = UploadEvent::Accepted { device: "D".into(), first: 1, last: 2, duplicates: 0 };
    let entry = |body| Entry {
        seq: 5,
        in_group: 0,
        subject: "D".into(),
        time: Timestamp::UNIX_EPOCH,
        body,
        raw: Box::default(),
    };
    let upload = entry(Body::Upload(event));
    let settled = entry(Body::Settled(Settled { sink: "feed".into(), through: Seq(4) }));
    let line = |entry: &Entry| {
        let mut line = Vec::new();
        write_line(&mut line, entry);
        line.pop();
        line
    };
    for entry in [&upload, &settled] {
        assert_eq!(parse_line(&line(entry)).as_ref(), Ok(entry));
    }
    let named = |name: &str| {
        let text = String::from_utf8(line(&upload)).unwrap();
        let mut text = text[..text.len() - 9].replace("\trufus\t", &format!("\t{name}\t")).into_bytes();
        seal(&mut text, 0);
        parse_line(text.strip_suffix(b"\n").unwrap())
    };
    assert_eq!((named("rufus"), named("")), (Ok(upload.clone()), Ok(upload.clone())));
    assert_eq!(named("feed"), Err(BadLine::Unknown), "another sink's event is none of the uplink");
}

#[test]
fn the_cursors_of_many_sinks_have_a_bound_and_the_one_that_is_furthest_behind_goes() {
    let mut state = State::default();
    state.decoders.insert("a".into(), Default::default());
    for sink in 0..100 {
        let settled = Settled { sink: format!("sink-{sink}").into(), through: Seq(1000 - sink) };
        state.sink_settled(2000, "a", &settled);
    }
    assert_eq!(state.sinks.len(), SINKS_MAX);
    assert!(state.sinks.contains_key("sink-0") && state.sinks.contains_key("sink-99"));
    state.sink_settled(2001, "a", &Settled { sink: RUFUS.into(), through: Seq(3) });
    assert!(!state.sinks.contains_key(RUFUS));
}
