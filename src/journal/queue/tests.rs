use jiff::Timestamp;

use super::*;
use crate::journal::PendingRead;
use crate::journal::dedup_index::Recognised;
use crate::journal::entry::{Body, Entry};
use crate::journal::state::{DecoderFold, ReadVerdict};
use crate::model::chip::{ChipRead, Seq, Stamp};

/// sled's handle of the first span.
fn db(queue: &Queue) -> sled::Db {
    queue.spans[0].handle().unwrap().unwrap().db
}

#[test]
fn what_a_checkpoint_wrote_before_the_process_was_killed_in_it_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let identities = |decoder: &str, from: u64, to: u64| Identities {
        decoder: decoder.into(),
        added: to,
        remembered: to,
        fresh: (from..to).collect(),
    };
    let mut state = State { followed: 10, ..State::default() };
    state.decoders.insert("mat".into(), DecoderFold::default());
    let json = serde_json::to_string(&state).unwrap();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    queue.checkpoint(&[], &json, &[identities("mat", 0, 10)]).unwrap();
    let head = db(&queue).get("head").unwrap().unwrap();
    queue.checkpoint(&[], &json, &[identities("mat", 10, 30), identities("new", 0, 5)]).unwrap();
    // The process was killed before the head was written. The parts of the state that the old head
    // names still exist.
    db(&queue).insert("head", head).unwrap();
    let part = db(&queue).get(part_key(2, 0)).unwrap().unwrap();
    db(&queue).insert(part_key(1, 0), part).unwrap();
    drop(queue);
    let (queue, state) = Queue::open(dir.path()).unwrap().unwrap();
    let recent = &state.decoders["mat"].recent;
    assert_eq!(recent.newest(100).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!((recent.added, queue.written().get("mat"), queue.written().get("new")), (10, Some(&10), None));
    assert_eq!(db(&queue).scan_prefix(b"i").count(), 1, "nothing of it stays");
}

fn waiting(seq: u64) -> Waiting {
    let read = PendingRead {
        seq: Seq(seq),
        decoder: "mat".into(),
        received: Timestamp::UNIX_EPOCH,
        chip: "MC00001".into(),
        stamp: Stamp::Utc(Timestamp::UNIX_EPOCH),
        replay: false,
        corrected_ms: 0,
        zone: None,
    };
    Waiting { read, verdict: ReadVerdict::Passing }
}

#[test]
fn a_block_that_sled_lost_without_a_word_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let state = State { followed: 600, waiting: 600, ..State::default() };
    let json = serde_json::to_string(&state).unwrap();
    let reads: Vec<Waiting> = (1..=600).map(waiting).collect();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    queue.checkpoint(&reads[..300], &json, &[]).unwrap();
    queue.checkpoint(&reads[300..], &json, &[]).unwrap();
    drop(queue);
    let (queue, _) = Queue::open(dir.path()).unwrap().unwrap();
    assert!(db(&queue).remove(block_key(257)).unwrap().is_some());
    drop(queue);
    assert!(matches!(Queue::open(dir.path()), Err(Broken::Corrupt(_))));
}

fn read(state: &mut State, seq: u64) {
    let body = Body::Read(ChipRead::new(format!("C{seq}"), "2026-03-06T20:27:47.350".parse().unwrap()));
    let (subject, time, raw) = ("mat".into(), Timestamp::UNIX_EPOCH, Box::default());
    state.apply(
        &Entry { seq, in_group: 0, subject, time, body, raw },
        &crate::journal::state::Rules::default(),
        Recognised::default(),
    );
}

fn identities(state: &State, fresh: usize) -> Vec<Identities> {
    let recent = &state.decoders["mat"].recent;
    let (added, remembered) = (recent.added, recent.len() as u64);
    vec![Identities { decoder: "mat".into(), added, remembered, fresh: recent.newest(fresh).collect() }]
}

fn save(queue: &mut Queue, state: &mut State, fresh: usize) {
    let reads: Vec<Waiting> = state.tail.drain(..).collect();
    queue.checkpoint(&reads, &serde_json::to_string(state).unwrap(), &identities(state, fresh)).unwrap();
}

#[test]
fn reads_of_a_checkpoint_that_the_power_cut_ended_are_passings_when_they_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    read(&mut state, 1);
    save(&mut queue, &mut state, 1);
    // The next checkpoint: its identities reached the disk, its head did not.
    read(&mut state, 2);
    let old_head = db(&queue).get("head").unwrap().unwrap();
    save(&mut queue, &mut state, 1);
    let generation: Head = unseal(&old_head).unwrap();
    let json = serde_json::to_string(&{
        let mut before = State::default();
        read(&mut before, 1);
        before
    });
    {
        let db = db(&queue);
        let mut commit = Commit { db: &db, batch: sled::Batch::default(), bytes: 0 };
        commit.put(part_key(generation.generation, 0), json.unwrap().as_bytes()).unwrap();
        commit.batch.insert(b"head".to_vec(), &*old_head);
        commit.flush().unwrap();
        db.flush().unwrap();
    }
    drop(queue);

    let (mut queue, mut state) = Queue::open(dir.path()).unwrap().unwrap();
    assert_eq!(state.followed, 1);
    read(&mut state, 2);
    assert_eq!(state.tail.back().unwrap().verdict, ReadVerdict::Passing);
    // Known identities stay known, also after the next checkpoint.
    save(&mut queue, &mut state, 1);
    drop(queue);
    let (_, state) = Queue::open(dir.path()).unwrap().unwrap();
    let known: Vec<u64> = state.decoders["mat"].recent.newest(10).collect();
    assert_eq!((known.len(), state.decoders["mat"].recent.added), (2, 2));
}

#[test]
fn a_span_that_cannot_be_removed_does_not_take_the_others_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    read(&mut state, 1);
    save(&mut queue, &mut state, 1);
    queue.begin_span(1).unwrap();
    read(&mut state, 2);
    save(&mut queue, &mut state, 2);
    let in_the_way = dir.path().join("dropped-1");
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("file"), "").unwrap();
    assert!(queue.drop_covered(|_| 1).is_err());
    assert_eq!(queue.spans.iter().map(|span| span.first).collect::<Vec<_>>(), [1, 2]);
    std::fs::remove_dir_all(in_the_way).unwrap();
    queue.drop_covered(|_| 1).unwrap();
    assert_eq!(queue.spans.iter().map(|span| span.first).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_span_that_went_back_to_an_earlier_checkpoint_is_missed_although_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let mut queue = Queue::create(&dir.path().join("queue"), 0).unwrap();
    read(&mut state, 1);
    save(&mut queue, &mut state, 1);
    let (span, earlier) = (queue.spans[0].path.clone(), dir.path().join("earlier"));
    copy(&span, &earlier);
    read(&mut state, 2);
    save(&mut queue, &mut state, 1);
    queue.begin_span(2).unwrap();
    read(&mut state, 3);
    save(&mut queue, &mut state, 3);
    drop(queue);
    assert_eq!(Queue::open(&dir.path().join("queue")).unwrap().unwrap().1.waiting, 3);
    std::fs::remove_dir_all(&span).unwrap();
    std::fs::rename(earlier, &span).unwrap();
    assert!(matches!(Queue::open(&dir.path().join("queue")), Err(Broken::Corrupt(_))));
    std::fs::remove_dir_all(&span).unwrap();
    assert!(matches!(Queue::open(&dir.path().join("queue")), Err(Broken::Corrupt(_))), "nor is it there at all");
}

#[test]
fn blocks_that_went_missing_while_a_span_was_closed_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    read(&mut state, 1);
    save(&mut queue, &mut state, 1);
    queue.begin_span(1).unwrap();
    let spans = queue.spans();
    let handle = Handle::open(&spans[0].path).unwrap();
    handle.db.remove(block_key(1)).unwrap().unwrap();
    drop(handle);
    assert!(matches!(spans[0].reads_after(0), Err(Broken::Corrupt(_))));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.metadata().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn every_blob_that_a_checkpoint_made_is_synced_before_it_is_pointed_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    let blobs = queue.spans[0].path.join("blobs");
    let names =
        || -> BTreeSet<OsString> { std::fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().file_name()).collect() };
    // A long list of identities: parts of 64 KiB, several in one page of sled's tree.
    for added in 1..=8_u64 {
        let fresh: Vec<u64> = ((added - 1) * 8192..added * 8192).collect();
        let identities = Identities { decoder: "mat".into(), added: added * 8192, remembered: added * 8192, fresh };
        queue.checkpoint(&[], &serde_json::to_string(&State::default()).unwrap(), &[identities]).unwrap();
        assert!(names().is_subset(&queue.blobs));
    }
    assert!(!names().is_empty(), "sled makes blobs of such pages");
}

#[test]
fn the_block_of_a_read_is_found_however_far_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State { followed: 90_000_000, waiting: 3, ..State::default() };
    state.decoders.insert("mat".into(), DecoderFold::default());
    let json = serde_json::to_string(&state).unwrap();
    let mut queue = Queue::create(dir.path(), 0).unwrap();
    // Two blocks. Between two reads of one there may be any number of other entries.
    queue.checkpoint(&[waiting(7), waiting(5_000)], &json, &[]).unwrap();
    queue.checkpoint(&[waiting(6_000), waiting(80_000_000)], &json, &[]).unwrap();
    let after = |seq| -> Vec<u64> {
        queue.spans()[0].reads_after(seq).unwrap().iter().map(|waiting| waiting.read.seq.0).collect()
    };
    assert_eq!(
        [0, 7, 4_999, 5_000, 6_000, 79_999_999, 80_000_000].map(after),
        [vec![7, 5_000], vec![5_000], vec![5_000], vec![6_000, 80_000_000], vec![80_000_000], vec![80_000_000], vec![]]
    );
}
