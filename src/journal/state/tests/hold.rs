//! What a hold and its end mean to the state.

use super::*;

#[test]
fn what_is_dropped_at_the_end_of_a_hold_is_owed_to_nobody_and_hides_no_later_crossing() {
    let mut fed = Fed::new(10);
    let at = fed.put("box", "2026-07-06T10:00:00Z", hold());
    assert_eq!(fed.live("2026-07-06T12:00:01.000", "2026-07-06T10:00:01Z"), Passing);
    assert_eq!(fed.live("2026-07-06T12:00:02.000", "2026-07-06T10:00:02Z"), Dead);
    let (reads, needed) = (fed.state.reads(), fed.state.needed_from());
    assert_eq!((reads.kept, reads.held, reads.dead_time, reads.waiting, needed), (2, 1, 1, 0, Some(2)));
    let end = fed.put("box", "2026-07-06T10:00:03Z", release(Held::Drop, at));
    let reads = fed.state.reads();
    assert_eq!((reads.kept, reads.sum(), reads.dropped_by_choice, reads.held, reads.waiting), (2, 2, 1, 0, 0));
    assert_eq!((fed.state.needed_from(), fed.state.decoders["mat"].cursor, fed.state.tail.len()), (None, end, 0));
    assert_eq!(fed.live("2026-07-06T12:00:04.000", "2026-07-06T10:00:04Z"), Passing, "the gun was in between");
    assert_eq!(fed.live("2026-07-06T12:00:01.000", "2026-07-06T10:00:05Z"), Duplicate, "the same read again");
    let reads = fed.state.reads();
    assert_eq!((reads.kept, reads.sum(), reads.waiting, reads.duplicates), (4, 4, 1, 1));
}

#[test]
fn reads_from_before_a_hold_wait_for_its_end_and_are_never_dropped() {
    let mut fed = Fed::new(0);
    assert_eq!(fed.live("2026-07-06T12:00:01.000", "2026-07-06T10:00:01Z"), Passing);
    let at = fed.put("box", "2026-07-06T10:00:02Z", hold());
    assert_eq!(fed.live("2026-07-06T12:00:03.000", "2026-07-06T10:00:03Z"), Passing);
    let end = fed.put("box", "2026-07-06T10:00:04Z", release(Held::Drop, at));
    assert_eq!(fed.live("2026-07-06T12:00:05.000", "2026-07-06T10:00:05Z"), Passing);
    let waiting: Vec<u64> =
        fed.state.tail.iter().filter(|it| fed.state.is_waiting(&it.read)).map(|it| it.read.seq.0).collect();
    assert_eq!((waiting, fed.state.decoders["mat"].cursor), (vec![1, end + 1], 0));
    let reads = fed.state.reads();
    assert_eq!((reads.kept, reads.sum(), reads.waiting, reads.dropped_by_choice), (3, 3, 2, 1));
    // A state that is read from the disk knows the same.
    let read: State = serde_json::from_str(&serde_json::to_string(&fed.state).unwrap()).unwrap();
    assert_eq!(read.decoders["mat"].skipped, fed.state.decoders["mat"].skipped);
    let item = UploadItem { seq: Seq(1), num: 1, time_ms: 0, corrected_ms: 0, bib: "7".into(), chip: "C1".into() };
    let (through, decoders) = (Seq(1), vec!["mat".into()]);
    let batch = Batch { through, decoders, ..Batch::resend("D", "S", vec![item]) };
    fed.put("D", "2026-07-06T10:00:06Z", Body::Upload(UploadEvent::Batch(batch)));
    assert_eq!(fed.state.decoders["mat"].cursor, end, "past what was dropped");
    assert_eq!((fed.state.waiting, fed.state.tail.len()), (1, 1));
}

#[test]
fn a_second_hold_and_a_release_of_nothing_change_nothing() {
    let mut fed = Fed::new(0);
    fed.put("box", "2026-07-06T10:00:00Z", release(Held::Drop, 0));
    let at = fed.put("box", "2026-07-06T10:00:01Z", hold());
    fed.live("2026-07-06T12:00:03.000", "2026-07-06T10:00:03Z");
    fed.put("box", "2026-07-06T10:00:04Z", hold());
    assert_eq!(fed.state.hold.as_ref().map(|hold| (hold.seq, hold.reads())), Some((at, 1)));
    fed.put("box", "2026-07-06T10:00:05Z", release(Held::Send, at));
    let reads = fed.state.reads();
    assert_eq!((fed.state.hold.clone(), reads.waiting, reads.held), (None, 1, 0));
}

#[test]
fn reads_that_wait_for_stored_ones_are_decided_when_a_hold_begins_and_when_it_ends() {
    let mut fed = Fed::new(10);
    let first = fed.amid("2026-07-06T12:00:01.000", "2026-07-06T10:00:01Z");
    assert_eq!(fed.verdict(first), Waits);
    let at = fed.put("box", "2026-07-06T10:00:02Z", hold());
    assert_eq!((fed.verdict(first), fed.state.reads().held), (Passing, 0));
    let near = fed.amid("2026-07-06T12:00:03.000", "2026-07-06T10:00:03Z");
    let far = fed.amid("2026-07-06T12:01:03.000", "2026-07-06T10:01:03Z");
    assert_eq!(fed.state.reads().held, 2);
    fed.put("box", "2026-07-06T10:01:04Z", release(Held::Send, at));
    let reads = fed.state.reads();
    assert_eq!((fed.verdict(near), fed.verdict(far)), (Dead, Passing));
    assert_eq!((reads.kept, reads.sum(), reads.waiting, reads.dead_time), (3, 3, 2, 1));
}
