//! Conversations: what the decoder says, and what we answer.

use super::*;
use crate::decoders::Item;
use crate::model::chip::{Label, Position};
use proptest::prelude::*;

/// A link to a decoder that the test speaks for.
struct Link {
    protocol: RaceResult,
    reads: Vec<(Option<Label>, u64)>,
    replays: u64,
    infos: Vec<Info>,
    rejected: usize,
    cleared: usize,
}

impl Link {
    fn silent() -> Self {
        Self {
            protocol: RaceResult::default(),
            reads: Vec::new(),
            replays: 0,
            infos: Vec::new(),
            rejected: 0,
            cleared: 0,
        }
    }

    /// Connects and answers the handshake; the box calls itself `D-7`. Stops where the first count is asked for.
    fn with(held: StoredRanges, rewind: bool) -> Self {
        let mut link = Self::silent();
        let mut out = Output::default();
        link.protocol.connected(held, rewind, &mut out);
        assert_eq!(link.take(out), ["GETPROTOCOL"]);
        assert_eq!(link.says("GETPROTOCOL;2.0;1.0;2.6"), ["SETPROTOCOL;2.0"]);
        assert_eq!(link.says("SETPROTOCOL;2.0"), ["GETCONFIG;GENERAL;BOXNAME"]);
        assert_eq!(link.says("GETCONFIG;GENERAL;BOXNAME;Finish;D-7"), ["SETPUSHPASSINGS;1;0"]);
        let last = link.says("SETPUSHPASSINGS;1;0");
        assert_eq!(last, ["GETSTATUS", "PASSINGS"]);
        link
    }

    fn says(&mut self, line: &str) -> Vec<String> {
        let mut out = Output::default();
        self.protocol.feed(format!("{line}\r\n").as_bytes(), &mut out);
        self.take(out)
    }

    fn pushes(&mut self, number: u64, file: u64) -> Vec<String> {
        self.says(&format!("#P;{}", row(number, file)))
    }

    /// Answers a pulled range, empty line included.
    fn gives(&mut self, numbers: std::ops::RangeInclusive<u64>, file: u64) -> Vec<String> {
        for number in numbers {
            assert_eq!(self.says(&row(number, file)), [""; 0]);
        }
        self.says("")
    }

    /// Every second from `from` to `to` passes.
    fn waits(&mut self, from: u64, to: u64) -> Vec<String> {
        let mut out = Output::default();
        for second in from..=to {
            self.protocol.tick(Duration::from_secs(second), &mut out);
        }
        self.take(out)
    }

    fn take(&mut self, out: Output) -> Vec<String> {
        let mut replies = Vec::new();
        for item in out.items {
            match item {
                Item::Reply(bytes) => replies.push(String::from_utf8(bytes).unwrap().trim_end().to_owned()),
                Item::HangUp(why) => panic!("{why}"),
                Item::Frame(framed) => match framed.frame {
                    Frame::Read(read) => {
                        self.replays += u64::from(read.replay);
                        let position = read.position.unwrap();
                        self.reads.push((position.file, position.number));
                    }
                    Frame::Info(Info::Alive) => {}
                    Frame::Info(info) => self.infos.push(info),
                    Frame::Rejected(_) => self.rejected += 1,
                    Frame::Cleared(_) => self.cleared += 1,
                    Frame::Marker(marker) => panic!("{marker:?}"),
                },
            }
        }
        replies
    }

    fn restarts(&self) -> usize {
        self.cleared
    }

    /// The last word on a condition.
    fn condition(&self, wanted: &str) -> Option<String> {
        let said = |info: &Info| match info {
            Info::Condition { code, text } if code.word() == wanted => Some(text.clone()),
            _ => None,
        };
        self.infos.iter().rev().find_map(said).flatten()
    }
}

fn row(number: u64, file: u64) -> String {
    format!("{number};C{number};2026-06-17;10:30:00.{:03};;3;28;;0;;;;;;;;BOX;{file};1;D-7", number % 1000)
}

fn held(numbers: std::ops::RangeInclusive<u64>, file: u64) -> StoredRanges {
    let mut held = StoredRanges::default();
    for number in numbers {
        let row = row(number, file);
        let read = record::read(&row.split(';').collect::<Vec<_>>()).unwrap();
        held.insert_read(read.position.as_ref().unwrap(), read.content());
    }
    held
}

/// The same number after the file was cleared.
fn new_row(number: u64, file: u64) -> String {
    row(number, file).replacen(";C", ";N", 1)
}

#[test]
fn the_first_connection_fetches_the_whole_file_in_order_and_then_listens() {
    let mut link = Link::with(StoredRanges::default(), true);
    assert_eq!(link.says("PASSINGS;3;2"), ["1:1"]);
    assert_eq!(link.gives(1..=1, 2), ["2:2"]);
    assert_eq!(link.gives(2..=3, 2), [""; 0]);
    assert_eq!(link.pushes(4, 2), [""; 0]);
    assert_eq!(link.reads, (1..=4).map(|number| (Some(Label::Number(2)), number)).collect::<Vec<_>>());
    assert_eq!(link.condition("passings_not_given"), None);
    assert_eq!(link.replays, 3, "what was asked for was stored");
}

#[test]
fn what_was_read_while_the_box_was_off_is_fetched_and_nothing_else() {
    let mut link = Link::with(held(1..=100, 2), true);
    assert_eq!(link.says("PASSINGS;150;2"), ["100:51"], "from the last one held, to compare it");
    assert_eq!(link.gives(100..=150, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;150;2"), [""; 0]);
    assert_eq!(link.restarts(), 0);
}

#[test]
fn a_hole_from_a_pulled_cable_is_fetched_even_when_live_reads_came_first() {
    let mut link = Link::with(held(1..=100, 2), true);
    assert_eq!(link.pushes(151, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;151;2"), ["151:1"], "compared first");
    assert_eq!(link.pushes(152, 2), [""; 0]); // between the pulled lines
    assert_eq!(link.gives(151..=151, 2), ["101:50"]);
    assert_eq!(link.gives(101..=150, 2), [""; 0]);
}

#[test]
fn push_is_on_before_the_count_so_a_read_between_the_two_comes_one_way_or_the_other() {
    let mut link = Link::with(held(1..=5, 2), true);
    // Passing 6 is pushed, passing 7 is only in the count.
    assert_eq!(link.pushes(6, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;7;2"), ["6:2"]);
}

#[test]
fn long_gaps_are_fetched_in_pieces_one_at_a_time() {
    let mut link = Link::with(held(1..=1, 2), true);
    assert_eq!(link.says("PASSINGS;1101;2"), ["1:500"]);
    assert_eq!(link.says("PASSINGS;1102;2"), [""; 0]);
    assert_eq!(link.gives(1..=500, 2), ["501:500"]);
    assert_eq!(link.gives(501..=1000, 2), ["1001:102"]);
}

#[test]
fn a_cleared_decoder_is_noticed_and_read_from_the_start() {
    let mut link = Link::with(held(1..=500, 2), true);
    assert_eq!(link.says("PASSINGS;3;2"), ["1:3"]);
    assert_eq!(link.restarts(), 1);
    assert_eq!(link.gives(1..=3, 2), [""; 0]);
    // ... and so is one that is cleared while we are connected.
    assert_eq!(link.says("PASSINGS;1;2"), ["1:1"]);
    assert_eq!(link.restarts(), 2);
}

#[test]
fn the_old_file_is_finished_before_the_new_one_is_fetched() {
    let mut link = Link::with(held(1..=100, 2), true);
    assert_eq!(link.says("PASSINGS;5;3"), ["1:1"]); // how are the new file's records labelled?
    assert_eq!(link.gives(1..=1, 3), ["GETFILE;2"]);
    assert_eq!(link.says("GETFILE;2"), [""; 0]); // an echo
    assert_eq!(link.gives(1..=110, 2), ["2:4"]);
    assert_eq!(link.condition("old_file_not_fetched"), None);
    assert_eq!(link.gives(2..=5, 3), [""; 0]);
    assert_eq!(link.restarts(), 0);
}

#[test]
fn files_that_began_and_ended_while_the_box_was_off_are_not_mixed_in_but_told_of() {
    let mut link = Link::with(held(1..=100, 2), true);
    assert_eq!(link.says("PASSINGS;0;5"), ["GETFILE;2"]);
    assert!(link.condition("files_in_between").unwrap().contains("2 more"));
    assert_eq!(link.gives(100..=101, 2), [""; 0]);
}

#[test]
fn an_old_file_that_is_not_given_is_reported_and_the_new_one_goes_on() {
    let mut link = Link::with(held(1..=100, 2), true);
    link.says("PASSINGS;5;3");
    assert_eq!(link.gives(1..=1, 3), ["GETFILE;2"]);
    let asked = link.waits(1, 31);
    assert!(asked.contains(&"2:4".to_owned()), "{asked:?}");
    assert!(link.condition("old_file_not_fetched").unwrap().contains("file 2"));
}

#[test]
fn a_new_file_that_begins_while_we_listen_is_followed_within_seconds() {
    let mut link = Link::with(held(1..=100, 2), true);
    link.says("PASSINGS;100;2");
    assert_eq!(link.gives(100..=100, 2), [""; 0]);
    assert_eq!(link.pushes(2, 3), [""; 0]);
    assert_eq!(link.waits(1, 1), ["PASSINGS"]);
    assert_eq!(link.says("PASSINGS;2;3"), ["GETFILE;2"], "nothing tells what was not pushed at its end");
    assert_eq!(link.gives(1..=103, 2), ["2:1"], "the one that was pushed is compared");
    assert_eq!(link.gives(2..=2, 3), ["1:1"]);
    assert_eq!(link.gives(1..=1, 3), [""; 0]);
    link.reads.truncate(link.reads.len() - 2);
    assert_eq!(link.reads.last(), Some(&(Some(Label::Number(2)), 103)));
    assert_eq!(link.condition("old_file_not_fetched"), None);
}

#[test]
fn an_old_file_that_is_not_given_though_all_of_it_was_seen_is_no_problem_and_files_in_between_are_asked_for_too() {
    let mut link = Link::with(held(1..=100, 2), true);
    link.says("PASSINGS;100;2");
    assert_eq!(link.gives(100..=100, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;0;5"), ["GETFILE;2"]);
    assert_eq!(link.says(""), ["GETFILE;3"]);
    assert_eq!(link.condition("old_file_not_fetched"), None);
    assert_eq!(link.gives(1..=3, 3), ["GETFILE;4"], "they were begun while we listened");
    assert_eq!(link.says(""), [""; 0]);
    assert!(link.condition("old_file_not_fetched").unwrap().contains("file 4"));
    assert!(link.waits(1, 61).contains(&"GETFILE;4".to_owned()), "once more");
    link.gives(1..=1, 4);
    assert_eq!(link.condition("old_file_not_fetched"), None);
}

#[test]
fn an_empty_file_asks_for_nothing() {
    let mut link = Link::with(StoredRanges::default(), true);
    assert_eq!(link.says("PASSINGS;0;2"), [""; 0]);
    assert_eq!(link.pushes(1, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;1;2"), ["1:1"], "only to compare it: the count may be that of a cleared file");
    assert_eq!(link.gives(1..=1, 2), [""; 0]);
    assert_eq!(link.says("PASSINGS;1;2"), [""; 0]);
}

#[test]
fn a_gap_in_pushed_numbers_is_asked_for_at_once_and_a_lost_tail_at_the_next_count() {
    let mut link = Link::with(held(1..=3, 2), true);
    link.says("PASSINGS;3;2");
    assert_eq!(link.gives(3..=3, 2), [""; 0]);
    assert_eq!(link.pushes(6, 2), ["4:2"]);
    assert_eq!(link.gives(4..=5, 2), [""; 0]);
    assert!(link.waits(1, 5).contains(&"PASSINGS".to_owned()));
    assert_eq!(link.says("PASSINGS;8;2"), ["6:3"]);
}

#[test]
fn passings_that_are_counted_but_not_given_are_reported_and_asked_for_once() {
    let mut link = Link::with(held(1..=3, 2), true);
    assert_eq!(link.says("PASSINGS;6;2"), ["3:4"]);
    assert_eq!(link.says("ONLY 2"), [""; 0]);
    assert_eq!(link.gives(3..=4, 2), [""; 0]);
    assert!(link.condition("passings_not_given").unwrap().contains("5 to 6"));
    assert_eq!(link.says("PASSINGS;6;2"), [""; 0]);
    assert_eq!(link.pushes(7, 2), [""; 0]);
    assert!(link.condition("passings_not_given").is_some(), "two of them are still missing");
}

#[test]
fn passings_that_are_given_after_all_end_the_problem() {
    let not_given = || {
        let mut link = Link::with(held(1..=3, 2), true);
        assert_eq!(link.says("PASSINGS;6;2"), ["3:4"]);
        assert_eq!(link.gives(3..=4, 2), [""; 0]);
        assert!(link.condition("passings_not_given").is_some());
        link
    };
    let mut link = not_given();
    assert!(link.waits(1, 60).contains(&"5:2".to_owned()), "asked for again after a minute");
    assert_eq!(link.gives(5..=6, 2), [""; 0]);
    assert_eq!(link.condition("passings_not_given"), None);
    let mut link = not_given();
    (5..=6).for_each(|number| drop(link.pushes(number, 2)));
    assert_eq!(link.condition("passings_not_given"), None);
    let mut link = not_given();
    assert_eq!(link.says("PASSINGS;1;2"), ["1:1"]);
    assert_eq!((link.condition("passings_not_given"), link.restarts()), (None, 1), "they are not in it any more");
}

#[test]
fn a_file_that_was_cleared_and_counted_past_what_is_held_is_read_from_the_start() {
    let mut link = Link::with(held(1..=100, 2), true);
    assert_eq!(link.says("PASSINGS;120;2"), ["100:21"]);
    for number in 100..=120 {
        assert_eq!(link.says(&new_row(number, 2)), [""; 0]);
        assert_eq!(link.restarts(), 1, "said before its first passing, and once");
    }
    assert_eq!(link.says(""), ["1:99"]);
    (1..=99).for_each(|number| drop(link.says(&new_row(number, 2))));
    assert_eq!(link.says(""), [""; 0]);
    assert_eq!(link.reads.len(), 120);
    link.waits(1, 1);
    assert_eq!(link.says("PASSINGS;121;2"), ["120:2"]);
    assert_eq!(link.restarts(), 1);
}

#[test]
fn a_pushed_number_that_is_held_is_a_repeat_or_a_cleared_file_and_its_content_tells() {
    let mut link = Link::with(held(1..=9, 2), true);
    assert_eq!(link.says("PASSINGS;9;2"), ["9:1"]);
    assert_eq!(link.gives(9..=9, 2), [""; 0]);
    for number in [9, 11, 10, 10, 8, 11] {
        link.pushes(number, 2); // repeated, and swapped
    }
    link.says("");
    assert_eq!(link.restarts(), 0);
    assert_eq!(link.says(&format!("#P;{}", new_row(2, 2))), ["1:1"], "what was not pushed of the new count");
    assert_eq!(link.restarts(), 1);
    assert_eq!(link.says(&new_row(1, 2)), [""; 0]);
    link.says("");
    assert_eq!(link.waits(1, 1), ["PASSINGS"]);
    assert_eq!(link.says("PASSINGS;2;2"), [""; 0]);
    link.says(&format!("#P;{}", new_row(3, 2)));
    assert_eq!(link.restarts(), 1);
}

#[test]
fn a_count_below_the_highest_pushed_number_is_a_cleared_file_if_what_it_holds_says_so() {
    let pushed = || {
        let mut link = Link::with(StoredRanges::default(), true);
        link.says("PASSINGS;0;2");
        (1..=12).for_each(|number| drop(link.pushes(number, 2)));
        link.waits(1, 5);
        assert_eq!(link.says("PASSINGS;12;2"), ["12:1"]);
        assert_eq!(link.gives(12..=12, 2), [""; 0]);
        (13..=20).for_each(|number| drop(link.pushes(number, 2)));
        assert!(link.waits(6, 10).contains(&"PASSINGS".to_owned()));
        link
    };
    // Cleared, and counted on beyond the last count told.
    let mut link = pushed();
    assert_eq!(link.says("PASSINGS;15;2"), ["15:1"]);
    link.says(&new_row(15, 2));
    assert_eq!(link.restarts(), 1);
    assert_eq!(link.says(""), ["1:14"]);
    // A damaged digit in a pushed number.
    let mut link = pushed();
    assert_eq!(link.says("PASSINGS;20;2"), [""; 0]);
    link.pushes(28, 2);
    link.says("");
    link.waits(11, 15);
    assert_eq!(link.says("PASSINGS;20;2"), ["20:1"]);
    assert_eq!(link.gives(20..=20, 2), [""; 0]);
    assert_eq!(link.restarts(), 0);
    // It does not give what it has: then the count is believed.
    let mut link = pushed();
    assert_eq!(link.says("PASSINGS;15;2"), ["15:1"]);
    assert_eq!(link.says(""), [""; 0]);
    assert_eq!(link.says("PASSINGS;15;2"), ["15:1"]);
    assert_eq!(link.says(""), ["1:15"]);
    assert_eq!(link.restarts(), 1);
}

#[test]
fn a_count_that_was_told_before_the_last_push_arrived_clears_nothing() {
    let mut link = Link::with(held(1..=3, 2), true);
    link.says("PASSINGS;3;2");
    link.gives(3..=3, 2);
    assert!(link.waits(1, 5).contains(&"PASSINGS".to_owned()));
    link.pushes(4, 2); // overtook the answer
    assert_eq!(link.says("PASSINGS;3;2"), [""; 0]);
    assert_eq!(link.restarts(), 0);
}

#[test]
fn a_push_that_was_switched_off_is_switched_on_again_and_told_if_that_does_not_help() {
    let mut link = Link::with(held(1..=3, 2), true);
    link.says("PASSINGS;3;2");
    link.gives(3..=3, 2);
    link.waits(1, 5);
    assert_eq!(link.says("PASSINGS;5;2"), ["3:3"], "what was not pushed is fetched at once");
    link.gives(3..=5, 2);
    assert!(link.waits(6, 8).contains(&"SETPUSHPASSINGS;1;0".to_owned()));
    assert_eq!(link.says("SETPUSHPASSINGS;1;0"), ["PASSINGS"]);
    assert_eq!(link.says("PASSINGS;6;2"), ["5:2"]);
    link.gives(5..=6, 2);
    assert_eq!(link.condition("passings_not_pushed"), None);
    // It helped.
    link.pushes(7, 2);
    link.waits(9, 20);
    link.says("PASSINGS;7;2");
    assert_eq!(link.condition("passings_not_pushed"), None);
    // And then it does not.
    let mut on = 0;
    for second in (21..240).step_by(3) {
        let asked = link.waits(second, second + 2);
        on += asked.iter().filter(|asked| **asked == "SETPUSHPASSINGS;1;0").count();
        if asked.iter().any(|asked| asked.starts_with("SETPUSH")) {
            link.says("SETPUSHPASSINGS;1;0");
        }
        let count = 7 + (second - 20) / 3;
        let asked = link.says(&format!("PASSINGS;{count};2"));
        assert!(asked.len() <= 1, "{asked:?}");
        if let Some((from, many)) = asked.first().and_then(|asked| asked.split_once(':')) {
            let (from, many): (u64, u64) = (from.parse().unwrap(), many.parse().unwrap());
            link.gives(from..=from + many - 1, 2);
        }
    }
    assert!(link.condition("passings_not_pushed").unwrap().contains("every 3 s"));
    assert!((3..=6).contains(&on), "{on} times in three and a half minutes");
    link.pushes(100, 2);
    assert_eq!(link.condition("passings_not_pushed"), None);
}

#[test]
fn an_emulator_that_numbers_from_0_has_no_push_that_is_off_and_misses_nothing() {
    let mut link = Link::with(StoredRanges::default(), true);
    link.says("PASSINGS;0;2");
    for second in 1..=60 {
        let asked = link.waits(second, second);
        assert!(asked.iter().all(|asked| !asked.starts_with("SETPUSH") && !asked.contains(':')), "{asked:?}");
        if second < 20 {
            link.pushes(second - 1, 2);
        }
        if asked.contains(&"PASSINGS".to_owned()) {
            let asked = link.says(&format!("PASSINGS;{};2", second.min(19)));
            link.says(""); // the first time one more is asked for
            assert!(asked.is_empty() || second <= 10, "{asked:?} at {second}");
        }
    }
    assert_eq!((link.condition("passings_not_pushed"), link.restarts()), (None, 0));
}

#[test]
fn a_passing_that_is_counted_just_before_it_is_pushed_is_no_push_that_is_off() {
    let mut link = Link::with(StoredRanges::default(), true);
    link.says("PASSINGS;0;2");
    for second in 1..=60 {
        let asked = link.waits(second, second);
        assert!(!asked.iter().any(|asked| asked.starts_with("SETPUSH")), "{second}");
        if asked.contains(&"PASSINGS".to_owned()) {
            link.says(&format!("PASSINGS;{second};2"));
            link.says(""); // the answer to what it asked for
        }
        link.pushes(second, 2);
        link.says("");
    }
}

#[test]
fn a_decoder_that_counts_wildly_is_asked_once_a_count_and_no_more() {
    let mut link = Link::with(StoredRanges::default(), true);
    assert_eq!(link.says(&format!("PASSINGS;{};2", u64::MAX)), ["1:1"]);
    assert_eq!(link.gives(1..=1, 2), ["2:500"]);
    assert_eq!(link.says(""), [""; 0]);
    assert_eq!(link.says(""), [""; 0]);
    assert_eq!(link.says(&format!("PASSINGS;{};2", u64::MAX)), ["502:500"]);
}

#[test]
fn an_answer_without_its_empty_line_holds_nothing_up_for_ever() {
    let mut link = Link::with(held(1..=1, 2), true);
    assert_eq!(link.says("PASSINGS;3;2"), ["1:3"]);
    link.says(&row(1, 2));
    link.says(&row(2, 2));
    link.waits(1, 31);
    assert_eq!(link.pushes(5, 2), ["4:1"]);
}

#[test]
fn records_of_an_old_decoder_without_a_file_are_asked_for_anew_on_each_connection_under_one_label() {
    let old = |number: u64| format!("{number};C{number};2026-06-17;10:30:00.000;;3;28");
    let mut before = StoredRanges::default();
    for number in 1..=3 {
        before.insert(&Position { unit: None, file: None, number });
    }
    let mut link = Link::with(before, true);
    link.says(&format!("#P;{}", old(3)));
    assert_eq!(link.says("PASSINGS;3;9"), ["1:1"]);
    link.says(&old(1));
    assert_eq!(link.says(""), ["2:2"]);
    assert_eq!(link.reads, [(None, 3), (None, 1)]);
}

#[test]
fn another_box_on_the_same_cable_is_not_taken_for_the_first() {
    let mut other = StoredRanges::default();
    for number in 1..=100 {
        other.insert(&Position { unit: Some("D-8".into()), file: Some(Label::Number(2)), number });
    }
    let mut link = Link::with(other, true);
    assert_eq!(link.says("PASSINGS;50;2"), ["1:1"]);
    assert_eq!(link.gives(1..=1, 2), ["2:49"]);
    assert_eq!(link.restarts(), 0);
}

#[test]
fn without_rewind_only_new_passings_are_asked_for() {
    let mut link = Link::with(held(1..=100, 2), false);
    assert_eq!(link.says("PASSINGS;150;2"), [""; 0]);
    assert_eq!(link.pushes(151, 2), [""; 0]);
    let asked = link.waits(1, 60);
    assert!(asked.iter().all(|asked| matches!(&**asked, "GETSTATUS" | "PASSINGS")), "{asked:?}");
    link.says("PASSINGS;153;2");
    assert!(link.waits(61, 65).contains(&"SETPUSHPASSINGS;1;0".to_owned()));
    assert!(link.condition("passings_not_pushed").unwrap().contains("passbridge rewind"));
}

#[test]
fn a_decoder_that_knows_few_words_is_listened_to_all_the_same() {
    let mut link = Link::silent();
    let mut out = Output::default();
    link.protocol.connected(StoredRanges::default(), true, &mut out);
    link.take(out);
    let asked = link.waits(1, 20);
    let handshake = ["SETPROTOCOL;2.0", "GETCONFIG;GENERAL;BOXNAME", "SETPUSHPASSINGS;1;0", "GETSTATUS", "PASSINGS"];
    assert_eq!(asked, handshake);
    link.pushes(1, 2);
    assert_eq!(link.reads.len(), 1);
}

#[test]
fn the_version_asked_for_is_the_nearest_to_ours_that_the_decoder_offers() {
    for (offer, asked) in [("1.4;1.0;1.5", "1.5"), ("3.3;3.0;3.3", "3.0"), ("nonsense", "2.0")] {
        let mut link = Link::silent();
        link.protocol.connected(StoredRanges::default(), true, &mut Output::default());
        assert_eq!(link.says(&format!("GETPROTOCOL;{offer}")), [format!("SETPROTOCOL;{asked}")]);
    }
}

#[test]
fn status_tells_the_clock_and_what_a_timer_should_see_and_when_it_is_over() {
    let status = |mode: u8, battery: i8, bits: u32| {
        format!(
            "GETSTATUS;2024-01-12;09:06:30.000;1;00011001;{mode};177;1;49.7,8.2;1;{battery};10;12;0;0;;;;;;1;1;0;0;{bits};13.2"
        )
    };
    let mut link = Link::silent();
    link.says(&status(0, 12, 257));
    assert!(link.infos.contains(&Info::Clock("2024-01-12T09:06:30.000".parse().unwrap())));
    assert!(link.condition("not_timing").is_some());
    assert!(link.condition("low_battery").unwrap().contains("12 %"));
    assert!(link.condition("decoder_error").unwrap().contains("UHF reader, GPS synchronisation"));
    link.says(&status(1, 90, 0));
    for code in ["not_timing", "low_battery", "decoder_error"] {
        assert_eq!(link.condition(code), None);
    }
    let said = link.infos.len();
    link.says(&status(1, -1, 0));
    assert_eq!(link.infos.len(), said + 1, "only the clock is new");
}

#[test]
fn a_line_cut_by_the_end_of_the_connection_is_not_a_read_with_a_shorter_file_number() {
    let mut link = Link::silent();
    let mut out = Output::default();
    link.protocol.feed(b"#P;12;C1;2024-01-12;09:06:35.944;;75;75;;1;8;8;;6233;3.0;17;128;Box;17", &mut out);
    link.protocol.end(&mut out);
    let [Item::Frame(framed)] = &out.items[..] else { panic!("{:?}", out.items) };
    assert_eq!(framed.frame, Frame::Rejected(Reject::Unfinished));
}

#[test]
fn foreign_text_is_rejected_and_does_not_end_the_conversation() {
    let mut link = Link::with(held(1..=1, 2), true);
    link.says("aa0005800012860800012603062027472353");
    link.says("#P;77;4711;2026-06-17;10:30:00.123;1;2");
    assert_eq!(link.rejected, 2);
    assert_eq!(link.says("PASSINGS;2;2"), ["1:2"]);
}

fn by_hand(link: &mut Link, file: Option<u64>, numbers: (u64, u64)) -> Result<Vec<String>, &'static str> {
    let mut out = Output::default();
    let range = Range { unit: None, file: file.map(Label::Number), from: numbers.0, to: numbers.1 };
    link.protocol.rewind(&range, &mut out)?;
    Ok(link.take(out))
}

#[test]
fn a_range_by_hand_is_asked_for_in_pieces_held_or_not_and_ends_where_the_file_does() {
    for rewind in [true, false] {
        let mut link = Link::with(held(1..=900, 4), rewind);
        if rewind {
            assert_eq!(link.says("PASSINGS;900;4"), ["900:1"]);
            assert_eq!(link.gives(900..=900, 4), [""; 0]);
        }
        assert_eq!(by_hand(&mut link, None, (301, 5000)).unwrap(), ["301:500"]);
        assert!(by_hand(&mut link, None, (1, 2)).is_err(), "one after the other");
        assert_eq!(link.gives(301..=800, 4), ["801:500"]);
        assert_eq!(link.pushes(901, 4), [""; 0]);
        assert_eq!(link.gives(801..=901, 4), ["1301:500"]);
        assert_eq!(link.says(""), [""; 0], "nothing came: there are no more");
        assert_eq!(by_hand(&mut link, None, (1, 2)).unwrap(), ["1:2"]);
        assert_eq!(link.gives(1..=2, 4), [""; 0]);
        if rewind {
            assert_eq!(link.says("PASSINGS;903;4"), ["901:3"], "what is missing is asked for as before");
        }
    }
}

#[test]
fn an_older_file_is_given_by_hand_as_a_whole() {
    let mut link = Link::with(held(1..=9, 4), true);
    assert_eq!(link.says("PASSINGS;9;4"), ["9:1"]);
    assert_eq!(link.gives(9..=9, 4), [""; 0]);
    assert!(by_hand(&mut link, Some(3), (1, 20)).is_err());
    assert_eq!(by_hand(&mut link, Some(4), (1, 5)).unwrap(), ["1:5"]);
    assert_eq!(link.gives(1..=5, 4), [""; 0]);
    assert_eq!(by_hand(&mut link, Some(2), Range::WHOLE).unwrap(), ["GETFILE;2"]);
    assert_eq!(link.gives(1..=3, 2), [""; 0]);
    assert_eq!(link.reads.last(), Some(&(Some(Label::Number(2)), 3)));
    let mut out = Output::default();
    let elsewhere = Range { unit: Some("D-8".into()), file: None, from: 1, to: 2 };
    assert!(link.protocol.rewind(&elsewhere, &mut out).is_err_and(|why| why.contains("--unit")));
    assert!(RaceResult::default().rewind(&elsewhere, &mut out).is_err(), "not before it is connected");
}

fn a_line() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..40, 1u64..4, any::<bool>()).prop_map(|(number, file, push)| format!(
            "{}{}",
            if push { "#P;" } else { "" },
            row(number, file)
        )),
        (0u64..40, 0u64..4).prop_map(|(count, file)| format!("PASSINGS;{count};{file}")),
        (0u64..40).prop_map(|count| format!("PASSINGS;{count}")),
        prop_oneof![
            Just(""),
            Just("GETPROTOCOL;2.0;1.0;2.6"),
            Just("SETPROTOCOL;2.0"),
            Just("GETCONFIG;GENERAL;BOXNAME;X;D-7")
        ]
        .prop_map(str::to_owned),
        prop_oneof![
            Just("SETPUSHPASSINGS;1;0"),
            Just("ONLY 0"),
            Just("GETSTATUS;;;;"),
            Just("7;é;"),
            Just("1;x;;10:00:00;;;")
        ]
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn whatever_a_decoder_says_it_is_only_ever_asked_to_tell(lines in proptest::collection::vec(a_line(), 0..60)) {
        let mut protocol = RaceResult::default();
        let mut out = Output::default();
        protocol.connected(held(1..=9, 1), true, &mut out);
        for (second, line) in (1..).zip(&lines) {
            protocol.feed(format!("{line}\r\n").as_bytes(), &mut out);
            protocol.tick(Duration::from_secs(second), &mut out);
        }
        let asked = out.items.iter().filter(|item| matches!(item, Item::Reply(_))).count();
        prop_assert!(asked <= 8 + 5 * lines.len());
        for item in &out.items {
            let Item::Reply(bytes) = item else { continue };
            let text = String::from_utf8(bytes.clone()).unwrap();
            let word = text.trim_end().split([';', ':']).next().unwrap();
            let harmless = ["GETPROTOCOL", "SETPROTOCOL", "GETCONFIG", "SETPUSHPASSINGS", "GETSTATUS", "PASSINGS", "GETFILE"];
            prop_assert!(harmless.contains(&word) || word.parse::<u64>().is_ok(), "{text}");
        }
    }

    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_were_cut(
        lines in proptest::collection::vec(a_line(), 0..30),
        size in 1usize..50,
    ) {
        let input: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
        let [mut whole, mut cut] = [Output::default(), Output::default()];
        for (out, size) in [(&mut whole, input.len().max(1)), (&mut cut, size)] {
            let mut protocol = RaceResult::default();
            protocol.connected(held(1..=9, 1), true, out);
            input.chunks(size).for_each(|piece| protocol.feed(piece, out));
            protocol.end(out);
        }
        prop_assert_eq!(whole.items, cut.items);
    }
}
