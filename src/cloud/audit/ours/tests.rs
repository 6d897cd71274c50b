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
        let session = index.find(token).unwrap();
        let short = |list: Numbered| -> Vec<_> {
            list.map(Result::unwrap).map(|ours| (ours.item.num, ours.item.seq.0, ours.mark)).collect()
        };
        let all = short(numbered(self.dir.path(), "D", session, durable).unwrap());
        self.is_the_same_in_parts(session, durable, &all, short);
        self.is_the_same_step_by_step(&index, durable);
        all
    }

    /// Each range of numbers alone has what the whole has in it.
    fn is_the_same_in_parts(
        &self,
        session: &InLog,
        durable: u64,
        all: &[(u64, u64, PassingState)],
        short: impl Fn(Numbered) -> Vec<(u64, u64, PassingState)>,
    ) {
        for (first, last) in (0..11).flat_map(|first| (first..11).map(move |last| (first, last))) {
            let part = within(self.dir.path(), "D", session, durable, first..=last).unwrap();
            let nums = |list: Vec<(u64, u64, PassingState)>| list.into_iter().map(|(num, seq, _)| (num, seq));
            let expected = nums(all.iter().copied().filter(|(num, ..)| (first..=last).contains(num)).collect());
            assert_eq!(nums(short(part)).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{first}..={last}");
        }
    }

    /// An index that followed the log entry by entry is the one that read it at once.
    fn is_the_same_step_by_step(&self, at_once: &Index, durable: u64) {
        let mut index = Index::default();
        for through in 1..=durable.min(self.log.next) {
            assert!(index.advance(self.dir.path(), "D", through).unwrap());
        }
        assert!(index.advance(self.dir.path(), "D", durable).unwrap());
        assert_eq!(format!("{index:?}"), format!("{at_once:?}"));
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
    log.event(UploadEvent::DeadLetter { device: "D".into(), num: 3, status: 400, answer: "no".into(), again: false });
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
    assert_eq!(index.waiting(log.dir.path(), &[], u64::MAX).unwrap(), 0, "both that were released have numbers again");
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
    log.event(UploadEvent::DeadLetter { device: "D".into(), num: 2, status: 500, answer: "no".into(), again: false });
    assert_eq!(log.of("AAAAAA", u64::MAX)[1], (2, 2, Aside));
}

#[test]
fn a_passing_that_was_set_aside_counts_no_more_when_it_is_dropped_or_tried_again_until_it_is_refused_again() {
    let mut log = Written::new();
    let refused =
        |num| UploadEvent::DeadLetter { device: "D".into(), num, status: 400, answer: "no".into(), again: false };
    log.batch("AAAAAA", 1, &[1, 2, 3]);
    log.accepted(1, 1);
    log.event(refused(2));
    log.event(refused(3));
    assert_eq!(log.of("AAAAAA", u64::MAX), [(1, 1, Accepted), (2, 2, Aside), (3, 3, Aside)]);
    log.event(UploadEvent::Retry { device: "D".into(), items: vec![item(2, 2)], by: "timer".into() });
    assert_eq!(log.of("AAAAAA", u64::MAX), [(1, 1, Accepted), (3, 3, Aside)]);
    let waiting = |log: &Written| {
        index(log.dir.path(), "D", u64::MAX).unwrap().unwrap().waiting(log.dir.path(), &[], u64::MAX).unwrap()
    };
    assert_eq!(waiting(&log), 1, "it is on its way");
    log.batch("AAAAAA", 4, &[2]);
    log.event(refused(4));
    assert_eq!(log.of("AAAAAA", u64::MAX), [(1, 1, Accepted), (3, 3, Aside), (4, 2, Aside)]);
    let items = vec![Seq(2), Seq(3)];
    log.event(UploadEvent::Dropped { device: "D".into(), items, failing: Vec::new(), by: "timer".into() });
    assert_eq!((log.of("AAAAAA", u64::MAX), waiting(&log)), (vec![(1, 1, Accepted)], 0));
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
    let batch = Batch { found: list, decoders: vec!["mat".into()], ..Batch::resend("D", "BBBBBB", vec![item(5, 4)]) };
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
