use std::time::Duration;

use super::make;
use crate::decoders::{Cleared, Condition, Settings};
use crate::decoders::{Frame, Framed, Info, Item, Output, Protocol};
use crate::model::chip::{ChipRead, Content, Label, Position, StoredRanges};

const OLD: &str = "20260704-080000.csv";
const NOW: &str = "20260705-080000.csv";

/// A decoder with its files, which answers the documented questions. Rows are `(number, minute of
/// the day)`.
#[derive(Default)]
struct Fake {
    files: Vec<(&'static str, Vec<(u64, u32)>)>,
    /// The decoder does not report its file.
    mute: bool,
    /// The decoder does not answer GETSTATUS at all.
    deaf: bool,
    /// The decoder does not know GETFILEINFO.
    plain: bool,
    /// Rows that the decoder counts but does not send.
    withheld: Vec<u64>,
    /// The protocol that it says it has. `None`: 3.1.
    version: Option<&'static str>,
}

impl Fake {
    fn row(file: &str, number: u64, minute: u32) -> String {
        let (day, hour) = (&file[..8], minute / 60);
        let date = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        format!("{number};MC;{number:05};{date};{hour:02}:{:02}:00.000;1;1;abcde\r\n", minute % 60)
    }

    fn rows(&self, file: &str) -> &[(u64, u32)] {
        self.files.iter().find(|(name, _)| *name == file).map_or(&[], |(_, rows)| rows)
    }

    fn current(&self) -> &'static str {
        self.files.last().map_or("", |(name, _)| name)
    }

    fn range(&self, file: &str, from: &str, to: &str) -> String {
        let range = from.parse::<u64>().unwrap()..=to.parse().unwrap();
        let rows =
            self.rows(file).iter().filter(|(number, _)| range.contains(number) && !self.withheld.contains(number));
        rows.map(|&(number, minute)| Self::row(file, number, minute)).chain(["\r\n".into()]).collect()
    }

    fn answer(&self, question: &str) -> String {
        let fields: Vec<&str> = question.trim_end().split(';').collect();
        match fields[..] {
            ["GETPROTOCOL"] => format!("GETPROTOCOL;{};1.0;2.0\r\n", self.version.unwrap_or("3.1")),
            ["GETSTATUS"] if self.deaf => String::new(),
            ["GETSTATUS"] if self.mute => "GETSTATUS;SERIAL;77;STARTMODE;Europe/Madrid;5\r\n".into(),
            ["GETSTATUS"] => format!("GETSTATUS;SERIAL;77;STARTMODE;{};Europe/Madrid;5\r\n", self.current()),
            ["GETTIME"] => "GETTIME;2026-07-05;09:00:00\r\n".into(),
            ["PASSINGS"] => {
                let count = self.rows(self.current()).len();
                format!("PASSINGS;{count};MC00001\r\n")
            }
            ["GETPASSINGS", from, to] => self.range(self.current(), from, to),
            ["GETFILEINFO", _] if self.plain => "GETFILEINFO;ERR\r\n".into(),
            ["GETFILEINFO", file] => {
                format!("GETFILEINFO;2026-07-04;08:00:00;2026-07-04;09:00:00;{}\r\n", self.rows(file).len())
            }
            ["GETFILE", file, from, to] => self.range(file, from, to),
            ["PUSHTAGS", "true"] => "PUSHTAGS;true\r\n".into(),
            ["PING"] => "PING;PONG\r\n".into(),
            _ => panic!("a question it must not ask: {question:?}"),
        }
    }
}

/// One connection, with the questions, the reads and the reports.
struct Link {
    protocol: Box<dyn Protocol>,
    up: u64,
    asked: Vec<String>,
    reads: Vec<ChipRead>,
    told: Vec<Info>,
    cleared: Vec<Cleared>,
}

impl Link {
    fn new(held: StoredRanges, rewind: bool) -> Self {
        let mut protocol = make(&Settings::new()).unwrap();
        let mut out = Output::default();
        protocol.connected(held, rewind, &mut out);
        assert!(out.items.is_empty(), "the greeting comes first");
        Self { protocol, up: 0, asked: vec![], reads: vec![], told: vec![], cleared: vec![] }
    }

    /// Takes the output, and lets the decoder answer until the protocol asks no more questions.
    fn settle(&mut self, fake: &Fake, mut out: Output) {
        while !out.items.is_empty() {
            let items = std::mem::take(&mut out.items);
            for item in items {
                match item {
                    Item::Frame(Framed { frame: Frame::Read(read), .. }) => self.reads.push(read),
                    Item::Frame(Framed { frame: Frame::Info(info), .. }) => self.told.push(info),
                    Item::Frame(Framed { frame: Frame::Cleared(cleared), .. }) => self.cleared.push(cleared),
                    other @ (Item::Frame(_) | Item::HangUp(_)) => panic!("{other:?}"),
                    Item::Reply(bytes) => {
                        let question = String::from_utf8(bytes).unwrap();
                        let answer = fake.answer(&question);
                        self.asked.push(question.trim_end().to_owned());
                        self.protocol.feed(answer.as_bytes(), &mut out);
                    }
                }
            }
        }
    }

    fn says(&mut self, fake: &Fake, text: &str) {
        let mut out = Output::default();
        self.protocol.feed(text.as_bytes(), &mut out);
        self.settle(fake, out);
    }

    fn wait(&mut self, fake: &Fake, seconds: u64) {
        for _ in 0..seconds {
            self.up += 1;
            let mut out = Output::default();
            self.protocol.tick(Duration::from_secs(self.up), &mut out);
            self.settle(fake, out);
        }
    }

    /// `file/number` of each read, in order.
    fn places(&self) -> Vec<String> {
        let place = |read: &ChipRead| {
            let position = read.position.as_ref().unwrap();
            let file = position.file.as_ref().map_or("-".to_owned(), ToString::to_string);
            format!("{}/{}", file.trim_end_matches("-080000.csv"), position.number)
        };
        self.reads.iter().map(place).collect()
    }

    fn asked_for(&self, word: &str) -> Vec<&str> {
        self.asked.iter().map(String::as_str).filter(|asked| asked.starts_with(word)).collect()
    }
}

fn rows(numbers: std::ops::RangeInclusive<u64>) -> Vec<(u64, u32)> {
    numbers.map(|number| (number, 500 + number as u32)).collect()
}

/// The content of the row of [`rows`].
fn content(file: &str, number: u64) -> Content {
    let row = Fake::row(file, number, 500 + number as u32);
    let Ok(super::row::Said::Passing(_, read)) = super::row::said(row.trim_end().as_bytes()) else { panic!("{row}") };
    read.content()
}

fn holding(file: &str, numbers: impl IntoIterator<Item = u64>) -> StoredRanges {
    let mut held = StoredRanges::default();
    hold(&mut held, file, numbers);
    held
}

fn hold(held: &mut StoredRanges, file: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let content = content(file, number);
        let file = Some(Label::Text(file.into()));
        held.insert_read(&Position { unit: Some("77".into()), file, number }, content);
    }
}

#[test]
fn what_was_read_while_the_cable_was_out_is_asked_for_gap_by_gap_then_pushed() {
    let fake = Fake { files: vec![(NOW, rows(1..=20))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, (1..=5).chain(9..=12)), true);
    link.says(&fake, "HELLO One4All\r\n");
    let expected = [
        "GETPROTOCOL",
        "GETSTATUS",
        "GETTIME",
        "PASSINGS",
        "GETSTATUS",
        "GETPASSINGS;12;12",
        "GETSTATUS",
        "GETPASSINGS;6;8",
        "GETSTATUS",
        "GETPASSINGS;13;20",
        "PUSHTAGS;true",
        "GETSTATUS",
        "PASSINGS",
    ];
    assert_eq!(link.asked, expected, "before each question about the current file it is asked which one that is");
    let numbers: Vec<u64> = link.reads.iter().map(|read| read.position.as_ref().unwrap().number).collect();
    assert_eq!(numbers, [12, 6, 7, 8, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert!(link.reads.iter().all(|read| read.replay), "they were stored earlier");
    assert_eq!(link.reads[0].position.as_ref().unwrap().unit.as_deref(), Some("77"));
}

#[test]
fn a_decoder_that_does_not_greet_is_asked_at_the_first_tick() {
    let fake = Fake { files: vec![(NOW, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), true);
    link.wait(&fake, 1);
    assert_eq!(link.places(), ["20260705/1", "20260705/2", "20260705/3"]);
}

#[test]
fn the_file_the_decoder_has_left_is_finished_before_the_current_one_and_before_anything_is_pushed() {
    let fake = Fake { files: vec![(OLD, rows(1..=4)), (NOW, rows(1..=2))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=2), true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.places(), ["20260704/2", "20260704/3", "20260704/4", "20260705/1", "20260705/2"]);
    let at = |word: &str| link.asked.iter().position(|asked| asked.starts_with(word)).unwrap();
    assert!(at("GETFILE;20260704-080000.csv;2;4") < at("PASSINGS") && at("PASSINGS") < at("PUSHTAGS"));
}

#[test]
fn an_old_file_whose_length_is_not_told_is_finished_all_the_same() {
    let fake = Fake { files: vec![(OLD, rows(1..=4)), (NOW, rows(1..=1))], plain: true, ..Fake::default() };
    let mut link = Link::new(holding(OLD, [1, 3]), true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.places(), ["20260704/3", "20260704/2", "20260704/4", "20260705/1"]);
    assert!(!link.told.iter().any(|info| matches!(info, Info::Condition { code: Condition::OldReadsMissing, .. })));
}

#[test]
fn a_pushed_passing_that_was_lost_is_asked_for_at_once() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=6);
    link.says(&fake, &Fake::row(NOW, 6, 506));
    assert_eq!(link.places(), ["20260705/3", "20260705/6", "20260705/4", "20260705/5"]);
    assert!(!link.reads[1].replay && link.reads[2].replay);
}

#[test]
fn the_last_passing_arrives_even_if_its_push_was_lost_and_nothing_follows() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=4);
    link.wait(&fake, 6);
    assert_eq!(link.places(), ["20260705/3", "20260705/3", "20260705/4"], "from the one before it, to compare it");
}

#[test]
fn a_decoder_that_was_cleared_is_noticed_and_read_from_the_start() {
    let fake = Fake { files: vec![(NOW, rows(1..=2))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=50), true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.places(), ["20260705/1", "20260705/2"]);
    assert_eq!(link.cleared.len(), 1);
    assert_eq!(link.cleared[0].file, Some(Label::Text(NOW.into())));
}

#[test]
fn a_new_session_on_the_same_link_is_followed_and_the_old_one_finished() {
    let mut fake = Fake { files: vec![(OLD, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=5);
    link.says(&fake, &Fake::row(OLD, 4, 504)); // 5 is never pushed
    fake.files.push((NOW, rows(1..=1)));
    link.says(&fake, &format!("START;{NOW}\r\n{}", Fake::row(NOW, 1, 501)));
    let mut places = link.places();
    places.sort();
    assert_eq!(places, ["20260704/3", "20260704/4", "20260704/4", "20260704/5", "20260705/1"]);
}

#[test]
fn a_new_session_that_only_its_passings_tell_of_has_the_old_one_finished_too() {
    let mut fake = Fake { files: vec![(OLD, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=6);
    link.says(&fake, &Fake::row(OLD, 4, 504)); // 5 and 6 are never pushed
    fake.files.push((NOW, rows(1..=2)));
    link.says(&fake, &(Fake::row(NOW, 1, 501) + &Fake::row(NOW, 2, 502)));
    let mut places = link.places();
    places.sort();
    places.dedup();
    let expected = ["20260704/3", "20260704/4", "20260704/5", "20260704/6", "20260705/1", "20260705/2"];
    assert_eq!(places, expected);
    assert_eq!(link.cleared, []);
}

#[test]
fn a_session_that_another_program_began_is_taken_up_from_its_first_passing_whatever_its_numbers() {
    // The other program received the first 10 pushed rows, or 3, which is as many as the old file
    // has.
    for begun in [10, 3] {
        let mut fake = Fake { files: vec![(OLD, rows(1..=3))], ..Fake::default() };
        let mut link = Link::new(holding(OLD, 1..=3), true);
        link.says(&fake, "HELLO\r\n");
        link.wait(&fake, 3);
        fake.files.push((NOW, rows(1..=begun + 1)));
        link.says(&fake, &Fake::row(NOW, begun + 1, 501 + begun as u32));
        let mut places = link.places();
        places.retain(|place| place != "20260704/3");
        places.sort();
        places.dedup();
        assert_eq!(places.len() as u64, begun + 1);
        assert!(places.iter().all(|place| place.starts_with("20260705/")), "{places:?}");
        // No row was pushed at all, and the count finds the file.
        let mut fake = Fake { files: vec![(OLD, rows(1..=3))], ..Fake::default() };
        let mut link = Link::new(holding(OLD, 1..=3), true);
        link.says(&fake, "HELLO\r\n");
        fake.files.push((NOW, rows(1..=begun + 1)));
        link.wait(&fake, 6);
        assert_eq!(link.places().iter().filter(|place| place.starts_with("20260705/")).count() as u64, begun + 1);
        assert_eq!(link.cleared, []);
    }
}

#[test]
fn a_passing_of_the_old_session_that_waited_for_the_name_of_its_file_is_of_the_old_one() {
    let mut fake = Fake { files: vec![(OLD, rows(1..=4))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=3), true);
    fake.files[0].1.pop();
    link.says(&fake, "HELLO\r\n");
    link.wait(&fake, 3);
    fake.files[0].1 = rows(1..=4);
    fake.files.push((NOW, vec![]));
    link.says(&fake, &Fake::row(OLD, 4, 504)); // the session ended before the protocol asked
    let mut places = link.places();
    places.dedup();
    assert_eq!(places, ["20260704/3", "20260704/4"]);
}

#[test]
fn a_new_session_with_a_clock_set_back_is_begun_on_a_new_connection() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=6);
    link.says(&fake, &Fake::row(NOW, 4, 504));
    fake.files.push((OLD, rows(1..=2)));
    let mut out = Output::default();
    link.protocol.feed(format!("START;{OLD}\r\n").as_bytes(), &mut out);
    assert!(out.items.iter().any(|item| matches!(item, Item::HangUp(why) if why.contains("another clock"))));
    let mut link = Link::new(holding(NOW, 1..=4), true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.places(), ["20260705/4", "20260705/5", "20260705/6", "20260704/1", "20260704/2"]);
}

#[test]
fn a_file_that_was_cleared_and_counted_past_what_is_held_is_read_from_the_start() {
    let fake =
        Fake { files: vec![(NOW, (1..=25).map(|number| (number, 700 + number as u32)).collect())], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=20), true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.cleared.len(), 1);
    let mut places = link.places();
    places.sort_by_key(|place| place.rsplit('/').next().unwrap().parse::<u64>().unwrap());
    places.dedup();
    assert_eq!(places.len(), 25);
    assert!(link.reads.iter().all(|read| read.replay));
    // The same while the box is connected, without any push that shows it.
    let mut fake = Fake { files: vec![(NOW, rows(1..=20))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=20), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = (1..=30).map(|number| (number, 700 + number as u32)).collect();
    link.wait(&fake, 6);
    assert_eq!(link.cleared.len(), 1);
    assert!(link.places().len() >= 31);
    link.wait(&fake, 30);
    assert_eq!(link.cleared.len(), 1);
}

#[test]
fn a_number_that_is_held_is_a_repeat_or_a_cleared_file_and_its_content_tells() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=9))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=9), true);
    link.says(&fake, "HELLO\r\n");
    fake.files[0].1 = rows(1..=11);
    let asked = link.asked_for("GETSTATUS").len();
    link.says(&fake, &(Fake::row(NOW, 9, 509) + &Fake::row(NOW, 8, 508)));
    assert_eq!(link.asked_for("GETSTATUS").len(), asked, "a repeat waits for nothing");
    link.says(&fake, &(Fake::row(NOW, 11, 511) + &Fake::row(NOW, 10, 510) + &Fake::row(NOW, 11, 511)));
    assert_eq!(link.cleared, []);
    fake.files[0].1 = vec![(1, 700), (2, 701)];
    link.says(&fake, &Fake::row(NOW, 2, 701));
    assert_eq!(link.cleared.len(), 1);
    let last = link.places().split_off(link.reads.len() - 2);
    assert_eq!(last, ["20260705/2", "20260705/1"]);
}

#[test]
fn passings_that_are_sent_to_another_program_are_asked_for_every_few_seconds_and_told() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    let told = |link: &Link| {
        link.told.iter().rev().find_map(|info| match info {
            Info::Condition { code: Condition::PassingsNotPushed, text } => Some(text.is_some()),
            _ => None,
        })
    };
    for number in 4..=9 {
        fake.files[0].1 = rows(1..=number);
        let (before, begun) = (link.places().len(), link.up);
        while !link.places()[before..].contains(&format!("20260705/{number}")) {
            link.wait(&fake, 1);
            assert!(link.up - begun <= 6, "{number}");
        }
    }
    assert_eq!(told(&link), Some(true));
    let pushes = link.asked_for("PUSHTAGS;true").len();
    assert_eq!(pushes, 2, "once more");
    link.wait(&fake, 130);
    assert_eq!(link.asked_for("PUSHTAGS;true").len(), pushes + 2);
    fake.files[0].1 = rows(1..=10);
    link.says(&fake, &Fake::row(NOW, 10, 510));
    assert_eq!(told(&link), Some(false));
    link.wait(&fake, 130);
    assert_eq!(link.asked_for("PUSHTAGS;true").len(), pushes + 2);
}

#[test]
fn the_end_of_the_old_session_that_is_not_handed_over_is_told_until_it_is() {
    let mut fake = Fake { files: vec![(OLD, rows(1..=4)), (NOW, rows(1..=1))], withheld: vec![4], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=2), true);
    link.says(&fake, "HELLO\r\n");
    let told = |link: &Link| {
        link.told.iter().rev().find_map(|info| match info {
            Info::Condition { code: Condition::OldReadsMissing, text } => Some(text.is_some()),
            _ => None,
        })
    };
    assert_eq!(told(&link), Some(true));
    fake.withheld.clear();
    link.wait(&fake, 310);
    assert_eq!(told(&link), Some(false));
    assert!(link.places().contains(&"20260704/4".to_owned()));
}

#[test]
fn a_new_session_nobody_told_of_gives_its_passings_the_new_file() {
    let mut fake = Fake { files: vec![(OLD, rows(1..=3))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    fake.files.push((NOW, rows(1..=2)));
    link.says(&fake, &(Fake::row(NOW, 1, 501) + &Fake::row(NOW, 2, 502)));
    assert_eq!(link.places(), ["20260704/3", "20260705/1", "20260705/2", "20260704/3"]);
}

#[test]
fn a_decoder_started_after_the_box_connected_gives_its_passings_the_file() {
    let mut fake = Fake { files: vec![], mute: true, ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), true);
    link.says(&fake, "HELLO\r\n");
    fake = Fake { files: vec![(NOW, rows(1..=1))], ..Fake::default() };
    link.says(&fake, &Fake::row(NOW, 1, 501));
    fake.files[0].1 = rows(1..=2);
    link.says(&fake, &Fake::row(NOW, 2, 502));
    assert_eq!(link.places(), ["20260705/1", "20260705/2"]);
}

#[test]
fn a_decoder_that_never_tells_its_file_is_asked_for_everything_at_each_connection() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=3))], mute: true, ..Fake::default() };
    let mut held = StoredRanges::default();
    (1..=3).for_each(|number| held.insert(&Position { unit: Some("77".into()), file: None, number }));
    let mut link = Link::new(held, true);
    link.says(&fake, "HELLO\r\n");
    assert_eq!(link.asked_for("GETPASSINGS"), ["GETPASSINGS;1;3"]);
    assert_eq!(link.places(), ["-/1", "-/2", "-/3"]);
    for number in 4..=9 {
        fake.files[0].1 = rows(1..=number);
        link.says(&fake, &Fake::row(NOW, number, 510));
    }
    assert_eq!(link.reads.len(), 9);
    assert_eq!(link.asked_for("GETSTATUS").len(), 4, "not for every passing");
}

#[test]
fn a_stopped_decoder_is_not_read_again_under_no_file() {
    let fake = Fake { files: vec![(NOW, rows(1..=3))], mute: true, ..Fake::default() };
    let mut link = Link::new(holding(NOW, 1..=3), true);
    link.says(&fake, "HELLO\r\n");
    link.wait(&fake, 60);
    assert_eq!(link.places(), ["20260705/3"], "the last one held of the file it has left is compared");
}

#[test]
fn live_passings_wait_for_the_name_of_their_file_but_not_for_ever() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=1))], deaf: true, ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), false);
    link.says(&fake, &("HELLO\r\n".to_owned() + &Fake::row(NOW, 1, 501)));
    assert_eq!(link.places(), [] as [&str; 0]);
    link.wait(&fake, 30);
    assert_eq!(link.places(), ["-/1"]);
    fake.deaf = false;
    let mut link = Link::new(StoredRanges::default(), false);
    link.says(&fake, &Fake::row(NOW, 1, 501));
    assert_eq!(link.places(), ["20260705/1"]);
}

#[test]
fn passings_that_wait_are_not_lost_when_the_link_ends() {
    let fake = Fake { deaf: true, ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), true);
    link.says(&fake, &Fake::row(NOW, 1, 501));
    let mut out = Output::default();
    link.protocol.end(&mut out);
    assert_eq!(out.items.len(), 1);
}

#[test]
fn what_the_decoder_does_not_hand_over_is_reported_and_not_asked_for_ever() {
    let mut fake = Fake { files: vec![(NOW, rows(1..=5))], withheld: vec![2], ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), true);
    link.says(&fake, "HELLO\r\n");
    link.wait(&fake, 200);
    assert_eq!(link.asked_for("GETPASSINGS"), ["GETPASSINGS;1;5"]);
    let reported = |link: &Link| {
        link.told.iter().rev().find_map(|info| match info {
            Info::Condition { code: Condition::ReadsMissing, text } => Some(text.is_some()),
            _ => None,
        })
    };
    assert_eq!(reported(&link), Some(true));
    fake.withheld.clear();
    link.wait(&fake, 120);
    assert_eq!(link.asked_for("GETPASSINGS"), ["GETPASSINGS;1;5", "GETPASSINGS;2;2"]);
    assert_eq!(reported(&link), Some(false));
}

#[test]
fn a_protocol_without_passings_is_told_until_it_is_updated() {
    let told = |version: &'static str| {
        let fake = Fake { files: vec![(NOW, rows(1..=1))], version: Some(version), ..Fake::default() };
        let mut link = Link::new(StoredRanges::default(), true);
        link.says(&fake, "HELLO\r\n");
        let mut told = link.told.into_iter().filter_map(|info| match info {
            Info::Condition { code: Condition::ProtocolTooOld, text } => Some(text),
            _ => None,
        });
        told.next_back().expect("each connection asks for the protocol")
    };
    let text = told("2.0").expect("it is told");
    assert!(text.contains("protocol 2.0") && text.contains("\"raceresult\""), "{text}");
    assert_eq!(told("3.1"), None, "it is over when the decoder was updated");
}

#[test]
fn without_rewind_nothing_stored_is_asked_for() {
    let fake = Fake { files: vec![(NOW, rows(1..=5))], ..Fake::default() };
    let mut link = Link::new(holding(OLD, 1..=1), false);
    link.says(&fake, "HELLO\r\n");
    link.says(&fake, &Fake::row(NOW, 9, 509));
    link.wait(&fake, 30);
    assert_eq!(link.places(), ["20260705/9"]);
    for word in ["PASSINGS", "GETPASSINGS", "GETFILE"] {
        assert!(link.asked_for(word).is_empty(), "{:?}", link.asked);
    }
    assert!(link.asked_for("PUSHTAGS").len() == 1 && link.asked_for("PING").len() > 1);
}

#[test]
fn a_silent_idle_decoder_is_asked_for_a_sign_of_life_within_the_idle_limit() {
    let fake = Fake { files: vec![(NOW, rows(1..=1))], ..Fake::default() };
    let mut link = Link::new(StoredRanges::default(), true);
    link.says(&fake, "HELLO\r\n");
    for _ in 0..12 {
        let before = link.asked.len();
        link.wait(&fake, 11);
        assert!(link.asked.len() > before);
    }
}

#[test]
fn a_passing_whose_field_cannot_be_is_rejected_with_the_field() {
    let good = "1;MC;02976;2019-12-12;09:02:07.295;3;4;937f6";
    let mut out = Output::default();
    for (from, to) in [
        ("1;", "0;"),
        ("02976", "2976"),
        ("MC", "mC"),
        ("12-12", "13-12"),
        ("12-12", "12-1"),
        ("09:02", "09:62"),
        (".295", ".29"),
        (";3;", ";x;"),
        (";4;", ";;"),
        ("1;", "x;"),
    ] {
        make(&Settings::new()).unwrap().feed((good.replacen(from, to, 1) + "\r\n").as_bytes(), &mut out);
    }
    let reasons: Vec<String> = out
        .items
        .iter()
        .map(|item| match item {
            Item::Frame(Framed { frame: Frame::Rejected(reason), .. }) => reason.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let fields = ["number", "chip", "chip", "date", "date", "time", "time", "antenna", "hits", "number"];
    assert_eq!(reasons, fields.map(|field| format!("field:{field}")));
}

#[test]
fn a_clock_that_was_never_set_still_gives_the_passing() {
    let mut out = Output::default();
    make(&Settings::new()).unwrap().feed(b"1;MC;02976;0000-00-00;09:02:07.295;3;4;937f6\n", &mut out);
    let Some(Item::Frame(Framed { frame: Frame::Read(read), .. })) = out.items.first() else { panic!("{out:?}") };
    assert_eq!(read.stamp.to_string(), "0000-00-00T09:02:07.295");
}

#[test]
fn the_older_dialect_is_read_between_its_life_signs() {
    let mut out = Output::default();
    let mut protocol = make(&Settings::from([("dialect".into(), "v2".into())])).unwrap();
    protocol.feed(b"CONECTADO_7|MC00001D20150414T120755416T120758010A1R034TV|\r\nVOIDTAGD2015|MC0|", &mut out);
    let kinds: Vec<&str> = out
        .items
        .iter()
        .map(|item| match item {
            Item::Frame(Framed { frame: Frame::Read(_), .. }) => "read",
            Item::Frame(Framed { frame: Frame::Info(Info::Alive), .. }) => "alive",
            Item::Frame(Framed { frame: Frame::Rejected(_), .. }) => "rejected",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["alive", "read", "alive", "rejected"]);
    assert!(make(&Settings::from([("dialect".into(), "v4".into())])).is_err());
}

impl Link {
    fn by_hand(&mut self, fake: &Fake, file: Option<&str>, numbers: (u64, u64)) -> Result<(), &'static str> {
        let mut out = Output::default();
        let file = file.map(|file| Label::Text(file.into()));
        let range = crate::decoders::Range { unit: None, file, from: numbers.0, to: numbers.1 };
        self.protocol.rewind(&range, &mut out)?;
        self.settle(fake, out);
        Ok(())
    }
}

#[test]
fn a_range_by_hand_is_asked_for_in_pieces_held_or_not_of_any_file() {
    for rewind in [true, false] {
        let fake = Fake { files: vec![(OLD, rows(1..=700)), (NOW, rows(1..=20))], ..Fake::default() };
        let mut held = holding(OLD, 1..=700);
        hold(&mut held, NOW, 1..=20);
        let mut link = Link::new(held, rewind);
        assert!(link.by_hand(&fake, None, (1, 2)).is_err(), "not before its file is known");
        link.says(&fake, "HELLO One4All\r\n");
        link.reads.clear();
        link.asked.clear();
        link.by_hand(&fake, None, (5, 9)).unwrap();
        assert_eq!((link.asked_for("GETP").as_slice(), link.reads.len()), (&["GETPASSINGS;5;9"][..], 5));
        assert!(link.reads.iter().all(|read| read.replay));
        link.by_hand(&fake, Some(OLD.trim_end_matches(".csv")), crate::decoders::Range::WHOLE).unwrap();
        let asked = [
            "GETFILE;20260704-080000.csv;1;500",
            "GETFILE;20260704-080000.csv;501;1000",
            "GETFILE;20260704-080000.csv;1001;1500",
        ];
        assert_eq!(link.asked_for("GETFILE;"), asked, "the last one brings nothing");
        assert_eq!((link.reads.len(), link.places().last().unwrap().as_str()), (705, "20260704/700"));
        assert!(link.by_hand(&fake, Some("yesterday"), (1, 2)).is_err());
        assert_eq!(link.cleared, []);
    }
}
