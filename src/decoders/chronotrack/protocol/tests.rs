use super::*;
use crate::decoders::{Framed, Item};

const HELLO: &str = "SimpleClient~3.2.4~CTP01\r\n";
const MAIN: &str = "0F2A38";
const BACKUP: &str = "117F37";

/// A record of a reader; each has chips of its own.
fn row(location: &str, reader: &str, number: u64) -> String {
    format!("CT01_33~{number}~{location}~{reader}{number}~2026-06-17T10:00:00.00~0~{reader}~1\r\n")
}

fn hold(held: &mut StoredRanges, location: &str, reader: &str, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let row = row(location, reader, number);
        let fields: Vec<&[u8]> = row.trim_end().as_bytes().split(|byte| *byte == b'~').collect();
        let record = record(&fields, TimeFormat::Iso).unwrap_or_else(|reason| panic!("{reason}"));
        let Frame::Read(read) = &record.frame else { panic!("{row}") };
        held.insert_read(read.position.as_ref().unwrap(), record.content);
    }
}

struct Peer {
    protocol: Box<dyn Protocol>,
    out: Output,
}

impl Peer {
    fn new(settings: &[(&str, &str)], held: &[(&str, u64)], rewind: bool) -> Self {
        let settings: Settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut known = StoredRanges::default();
        for (location, last) in held {
            hold(&mut known, location, MAIN, 1..=*last);
        }
        Self::holding(settings, known, rewind)
    }

    fn holding(settings: Settings, known: StoredRanges, rewind: bool) -> Self {
        let mut peer = Self { protocol: make(&settings).unwrap(), out: Output::default() };
        peer.protocol.connected(known, rewind, &mut peer.out);
        peer
    }

    /// Greeted, and told these locations.
    fn with(locations: &str, held: &[(&str, u64)]) -> Self {
        let mut peer = Self::new(&[], held, true);
        peer.says(HELLO);
        peer.says(&format!("ack~getlocations~{locations}\r\n"));
        peer
    }

    fn says(&mut self, text: &str) {
        self.protocol.feed(text.as_bytes(), &mut self.out);
    }

    /// Numbers that it was asked for and skipped.
    fn absent(&self) -> Vec<(u64, u64)> {
        let absent = self.out.items.iter().filter_map(|item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Marker(Marker { position: Some(position), through: Some(last), .. }) => {
                    Some((position.number, *last))
                }
                _ => None,
            },
            _ => None,
        });
        absent.collect()
    }

    fn read(&mut self, location: &str, number: u64) {
        self.says(&row(location, MAIN, number));
    }

    /// The same number of a source that began anew.
    fn other(&mut self, location: &str, number: u64) {
        self.says(&row(location, MAIN, number).replacen(&format!("~{MAIN}{number}~"), &format!("~N{number}~"), 1));
    }

    /// Seconds of the link's age.
    fn waits(&mut self, seconds: std::ops::RangeInclusive<u64>) -> Vec<String> {
        seconds.for_each(|second| self.protocol.tick(Duration::from_secs(second), &mut self.out));
        let mut replies = self.replies();
        replies.retain(|reply| reply != "ping");
        replies
    }

    /// Numbers of reads, and whether each is marked as stored; empties what came out.
    fn stored(&mut self) -> Vec<(u64, bool)> {
        let items = std::mem::take(&mut self.out.items).into_iter();
        let read = |item| match item {
            Item::Frame(framed) => match framed.frame {
                Frame::Read(read) => Some((read.position.unwrap().number, read.replay)),
                _ => None,
            },
            _ => None,
        };
        items.filter_map(read).collect()
    }

    /// The last word on a condition.
    fn condition(&self, wanted: Condition) -> Option<String> {
        let said = |item: &Item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Info(Info::Condition { code, text }) if *code == wanted => Some(text.clone()),
                _ => None,
            },
            _ => None,
        };
        self.out.items.iter().rev().find_map(said).flatten()
    }

    fn replies(&mut self) -> Vec<String> {
        let items = std::mem::take(&mut self.out.items).into_iter();
        let text =
            items.filter_map(|item| if let Item::Reply(bytes) = item { Some(text(&bytes).into_owned()) } else { None });
        text.collect::<String>().lines().map(str::to_owned).collect()
    }

    fn cleared(&self) -> usize {
        let cleared = |item: &&Item| matches!(item, Item::Frame(f) if matches!(f.frame, Frame::Cleared(_)));
        self.out.items.iter().filter(cleared).count()
    }
}

#[test]
fn the_conversation_asks_for_a_push_of_all_locations_in_iso_time_from_what_is_held() {
    let mut peer = Peer::new(&[], &[("start", 17), ("10 km", 4)], true);
    assert_eq!(peer.replies(), [""; 0], "the other side speaks first");
    peer.says(HELLO);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        peer.replies(),
        [
            &format!("passbridge~{version}~6"),
            "stream-mode=push",
            "time-format=iso",
            "location=multi",
            "guntimes=true",
            "newlocations=true",
            "connection-id=false",
            "getlocations"
        ]
    );
    peer.says(HELLO);
    assert_eq!(peer.replies(), [""; 0], "once");
    peer.says("ack~getlocations~start~10 km~finish\r\nack~start\r\nack~getlocations~start\r\n");
    assert_eq!(peer.replies(), ["start~start~17", "start~10 km~4", "start~finish~1"]);
    peer.read("start", 17);
    peer.read("10 km", 4);
    peer.says("ping\r\n");
    assert_eq!(peer.replies(), ["ack~ping"]);
    peer.protocol.tick(Duration::from_secs(15), &mut peer.out);
    assert_eq!(peer.replies(), ["ping"]);
}

#[test]
fn a_hole_is_asked_for_once_and_what_is_not_there_is_never_asked_for_again() {
    let mut held = StoredRanges::default();
    hold(&mut held, "start", MAIN, (3..=6).chain(9..=12).chain(15..=20));
    let mut peer = Peer::holding(Settings::new(), held.clone(), true);
    peer.says(&format!("{HELLO}ack~getlocations~start\r\n"));
    assert_eq!(peer.replies().last().unwrap(), "start~start~20", "the last one held is compared");
    peer.read("start", 20);
    peer.read("start", 20); // sent twice
    assert_eq!(peer.replies(), ["start~start~1"]);
    peer.says("CT01_33~2~start~guntime~2026-06-17T10:00:00.00~0~0F2A38~0\r\n");
    for number in (3..=6).chain([6, 7]).chain(9..=12).chain(16..=20).chain([25]) {
        peer.read("start", number);
    }
    assert_eq!(peer.absent(), [(1, 1), (8, 8), (13, 14)]);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
    // As the journal holds it then.
    let at = |number| Position { unit: Some("start".into()), file: Some(Label::Text(MAIN.into())), number };
    for (first, last) in [(1, 1), (2, 2), (8, 8), (13, 14)] {
        held.insert_through(&at(first), last);
    }
    hold(&mut held, "start", MAIN, [7, 25]);
    let mut peer = Peer::holding(Settings::new(), held, true);
    peer.says(&format!("{HELLO}ack~getlocations~start\r\n"));
    assert_eq!(peer.replies().last().unwrap(), "start~start~25");
    peer.read("start", 25);
    assert_eq!(peer.replies(), ["start~start~20"], "a hole since: from the one before it, which it has");
    peer.read("start", 20);
    peer.read("start", 25);
    assert_eq!(peer.absent(), [(21, 24)]);
}

#[test]
fn a_source_that_begins_above_1_is_asked_for_its_beginning_once() {
    let mut peer = Peer::with("start", &[]);
    assert_eq!(peer.replies().last().unwrap(), "start~start~1");
    peer.read("start", 50_001);
    peer.read("start", 50_009);
    assert_eq!(peer.absent(), [(1, 50_000)], "and live numbers that are skipped say nothing");
}

#[test]
fn without_rewind_nothing_stored_is_asked_for() {
    let mut peer = Peer::new(&[("time_format", "normal")], &[], false);
    peer.says(HELLO);
    assert!(peer.replies().contains(&"time-format=normal".to_owned()));
    peer.says("ack~getlocations~start\r\n");
    assert_eq!(peer.replies(), ["start~start"]);
    peer.read("start", 9);
    peer.read("start", 10);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
}

#[test]
fn a_location_that_is_announced_is_started_a_second_later_and_asked_for_from_its_beginning() {
    let mut peer = Peer::with("start", &[]);
    peer.replies();
    peer.protocol.tick(Duration::from_secs(5), &mut peer.out);
    peer.says("CT01_33~2038~30k~newlocation~2026-06-17T09:15:21.00~0~ED932A~0\r\n");
    peer.protocol.tick(Duration::from_secs(6), &mut peer.out);
    assert_eq!(peer.replies(), [""; 0]);
    peer.protocol.tick(Duration::from_secs(7), &mut peer.out);
    assert_eq!(peer.replies(), ["start~30k~1"]);
    peer.read("30k", 1);
    assert_eq!(peer.cleared(), 0, "the number of the announcement is not of the location");
}

#[test]
fn a_source_that_counts_from_the_start_again_is_asked_from_1_and_only_for_that_location() {
    let mut peer = Peer::with("start~finish", &[("start", 700), ("finish", 50)]);
    peer.replies();
    peer.read("finish", 50);
    peer.other("start", 5);
    assert_eq!(peer.cleared(), 1);
    assert_eq!(peer.replies(), ["start~start~1"]);
    peer.other("start", 6); // was under way
    (1..=8).for_each(|number| peer.other("start", number));
    peer.read("finish", 51);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
    peer.read("start", 3); // and once more, on the open link
    assert_eq!(peer.cleared(), 1);
    assert_eq!(peer.replies(), ["start~start~1"]);
}

#[test]
fn a_source_begun_anew_that_has_counted_past_what_is_held_is_asked_from_1() {
    let mut peer = Peer::with("start", &[("start", 20)]);
    assert_eq!(peer.replies().last().unwrap(), "start~start~20");
    peer.other("start", 20);
    let at = |wanted: fn(&Frame) -> bool| {
        peer.out.items.iter().position(|item| matches!(item, Item::Frame(framed) if wanted(&framed.frame)))
    };
    assert!(at(|frame| matches!(frame, Frame::Cleared(_))) < at(|frame| matches!(frame, Frame::Read(_))));
    assert_eq!(peer.replies(), ["start~start~1"]);
    (1..=25).for_each(|number| peer.other("start", number));
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
}

#[test]
fn a_source_begun_anew_that_has_fewer_than_are_held_is_asked_from_1_though_nothing_happens() {
    let mut peer = Peer::with("start", &[("start", 20)]);
    peer.replies();
    assert_eq!(peer.waits(1..=4), [""; 0]);
    assert_eq!(peer.waits(5..=6), ["start~start~1"], "it does not give number 20");
    (1..=7).for_each(|number| peer.other("start", number));
    assert_eq!(peer.cleared(), 1);
    assert_eq!(peer.replies(), ["start~start~1"]);
    // One that has lost its beginning and goes on above what is held gives what it has.
    let mut peer = Peer::with("start", &[("start", 20)]);
    peer.replies();
    peer.read("start", 25);
    assert_eq!(peer.replies(), ["start~start~1"]);
    peer.read("start", 25);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
}

#[test]
fn a_repeat_and_two_in_swapped_order_are_no_new_count() {
    let mut peer = Peer::with("start", &[("start", 20)]);
    peer.read("start", 20);
    peer.replies();
    for number in [20, 21, 21, 23, 22, 19, 20, 24, 18, 18] {
        peer.read("start", number);
    }
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
}

#[test]
fn two_sources_of_one_name_are_two_by_their_readers() {
    let mut held = StoredRanges::default();
    hold(&mut held, "FINISH", MAIN, 1..=30);
    let begun = |held: &StoredRanges| {
        let mut peer = Peer::holding(Settings::new(), held.clone(), true);
        peer.says(&format!("{HELLO}ack~getlocations~FINISH\r\n"));
        assert!(peer.replies().last().unwrap().starts_with("start~FINISH~"));
        peer
    };
    // The backup has as many, and comes on a connection of its own.
    let mut peer = begun(&held);
    peer.says(&row("FINISH", BACKUP, 30));
    assert_eq!((peer.cleared(), peer.replies()), (0, vec!["start~FINISH~1".to_owned()]));
    (1..=30).for_each(|number| peer.says(&row("FINISH", BACKUP, number)));
    assert_eq!((peer.cleared(), peer.absent(), peer.replies()), (0, vec![], vec![]));
    // It has fewer, and nothing happens.
    let mut peer = begun(&held);
    assert_eq!(peer.waits(1..=5), ["start~FINISH~1"]);
    (1..=12).for_each(|number| peer.says(&row("FINISH", BACKUP, number)));
    assert_eq!((peer.cleared(), peer.absent()), (0, vec![]));
    // Both are known: whose connection it is the first record tells.
    hold(&mut held, "FINISH", BACKUP, 1..=12);
    let mut peer = begun(&held);
    peer.says(&row("FINISH", MAIN, 30));
    assert_eq!(peer.replies(), ["start~FINISH~12"], "the other one may be on this connection, too, and is near");
    (12..=31).for_each(|number| peer.says(&row("FINISH", MAIN, number)));
    (12..=14).for_each(|number| peer.says(&row("FINISH", BACKUP, number)));
    assert_eq!((peer.cleared(), peer.absent(), peer.replies()), (0, vec![], vec![]));
    let mut peer = begun(&held);
    assert_eq!(peer.waits(1..=5), ["start~FINISH~12"], "not the main one");
    peer.says(&row("FINISH", BACKUP, 12));
    assert_eq!(peer.waits(6..=20), [""; 0]);
    // Only the backup is cleared.
    let mut peer = begun(&held);
    peer.waits(1..=5);
    peer.says(&row("FINISH", BACKUP, 12).replacen(&format!("~{BACKUP}12~"), "~N12~", 1));
    let cleared: Vec<_> = peer
        .out
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(Framed { frame: Frame::Cleared(cleared), .. }) => Some(cleared.file.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(cleared, [Some(Label::Text(BACKUP.into()))]);
}

#[test]
fn two_readers_of_one_source_that_count_together_leave_no_hole_for_ever() {
    let reader = |number: u64| if number.is_multiple_of(2) { MAIN } else { BACKUP };
    let mut held = StoredRanges::default();
    (1..=20).for_each(|number| hold(&mut held, "FINISH", reader(number), [number]));
    let mut asked = Vec::new();
    for _connection in 0..4 {
        let mut peer = Peer::holding(Settings::new(), held.clone(), true);
        peer.says(&format!("{HELLO}ack~getlocations~FINISH\r\n"));
        let mut from = 20;
        peer.replies();
        loop {
            let replies = {
                (from..=20).for_each(|number| peer.says(&row("FINISH", reader(number), number)));
                for item in &peer.out.items {
                    if let Item::Frame(Framed { frame: Frame::Marker(marker), .. }) = item {
                        held.insert_through(marker.position.as_ref().unwrap(), marker.through.unwrap());
                    }
                }
                assert_eq!(peer.cleared(), 0);
                peer.replies()
            };
            let Some(again) = replies.last() else { break };
            from = again.strip_prefix("start~FINISH~").unwrap().parse().unwrap();
            asked.push(from);
        }
        asked.push(0);
    }
    assert_eq!(asked.split(|from| *from == 0).nth(3), Some(&[19][..]), "only the last of the other one: {asked:?}");
}

#[test]
fn a_gun_of_a_reader_of_its_own_among_the_numbers_has_the_memory_given_once_and_not_at_each_connection() {
    let says = |peer: &mut Peer, from: u64| {
        for number in from..=50 {
            match number {
                4 => peer.says("CT01_33~4~start~guntime~2026-06-17T10:00:00.00~0~DF239A~0\r\n"),
                _ => peer.read("start", number),
            }
        }
    };
    let mut held = StoredRanges::default();
    hold(&mut held, "start", MAIN, (1..=3).chain(5..=50));
    let gun = Position { unit: Some("start".into()), file: Some(Label::Text("DF239A".into())), number: 4 };
    let stamp = "2026-06-17T10:00:00.000".parse().unwrap();
    held.insert_read(&gun, Content::of_marker("guntime", Some(&stamp)));
    let mut asked = Vec::new();
    for _connection in 0..3 {
        let mut peer = Peer::holding(Settings::new(), held.clone(), true);
        peer.says(&format!("{HELLO}ack~getlocations~start\r\n"));
        let mut from = 50;
        peer.replies();
        loop {
            says(&mut peer, from);
            for item in &peer.out.items {
                if let Item::Frame(Framed { frame: Frame::Marker(marker), .. }) = item
                    && let Some(through) = marker.through
                {
                    held.insert_through(marker.position.as_ref().unwrap(), through);
                }
            }
            assert_eq!(peer.cleared(), 0);
            let Some(again) = peer.replies().pop() else { break };
            from = again.strip_prefix("start~start~").unwrap().parse().unwrap();
            asked.push(from);
        }
        asked.push(0);
    }
    assert_eq!(asked.split(|from| *from == 0).nth(2), Some(&[4][..]), "{asked:?}");
}

#[test]
fn what_was_kept_without_telling_readers_apart_is_asked_for_once_more() {
    let mut held = StoredRanges::default();
    held.insert_through(&Position { unit: Some("FINISH".into()), file: None, number: 1 }, 30);
    let mut peer = Peer::holding(Settings::new(), held.clone(), true);
    peer.says(&format!("{HELLO}ack~getlocations~FINISH\r\n"));
    assert_eq!(peer.replies().last().unwrap(), "start~FINISH~30");
    peer.read("FINISH", 30);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec!["start~FINISH~1".to_owned()]));
    hold(&mut held, "FINISH", MAIN, 1..=30);
    let mut peer = Peer::holding(Settings::new(), held, true);
    peer.says(&format!("{HELLO}ack~getlocations~FINISH\r\n"));
    peer.replies();
    peer.read("FINISH", 30);
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]), "once");
}

#[test]
fn two_records_of_one_number_that_tell_no_reader_are_told_of() {
    let row = |chip: &str, number: u64| format!("CT01_33~{number}~FINISH~{chip}~2026-06-17T10:00:00.00~0~~1\r\n");
    let mut peer = Peer::with("FINISH", &[]);
    (1..=9).for_each(|number| peer.says(&row("7", number)));
    assert_eq!((peer.cleared(), peer.condition(TWICE)), (0, None));
    peer.says(&row("8", 9));
    assert!(peer.condition(TWICE).unwrap().contains("number 9"));
    assert_eq!(peer.cleared(), 1);
    assert_eq!(peer.replies().last().unwrap(), "start~FINISH~1");
    // They go on to differ: it is started again a few times, and then seldom.
    let mut starts = 0;
    for second in 1..=60 {
        for chip in ["7", "8"] {
            (1..=9).for_each(|number| peer.says(&row(chip, number)));
        }
        starts += peer.waits(second..=second).len();
    }
    assert!((6..=24).contains(&starts), "{starts}");
}

#[test]
fn what_was_stored_is_told_from_what_happens_by_a_pause() {
    let mut peer = Peer::with("start", &[("start", 20)]);
    (20..=30).for_each(|number| peer.read("start", number));
    assert!(peer.stored().iter().all(|read| read.1));
    peer.waits(1..=1);
    peer.read("start", 31);
    peer.waits(2..=3);
    assert_eq!(peer.stored(), [], "taken with the replies");
    peer.read("start", 32);
    peer.read("start", 30);
    assert_eq!(peer.stored(), [(32, false), (30, true)]);
    // Without a pause.
    let mut peer = Peer::with("start", &[("start", 20)]);
    for number in 20..=100 {
        peer.waits(number - 19..=number - 19);
        peer.read("start", number);
    }
    assert_eq!(peer.stored(), [(100, false)]);
}

#[test]
fn a_record_that_comes_twice_is_no_new_count() {
    let mut peer = Peer::with("start", &[("start", 7)]);
    peer.replies();
    for number in [7, 7, 8, 8, 9, 9, 7] {
        peer.read("start", number);
    }
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
}

#[test]
fn a_range_by_hand_starts_the_location_there_again() {
    let mut peer = Peer::with("start~finish", &[("start", 700)]);
    peer.replies();
    let range = |unit: Option<&str>, from| Range { unit: unit.map(Into::into), file: None, from, to: from + 10 };
    let ask = |peer: &mut Peer, unit, from| peer.protocol.rewind(&range(unit, from), &mut peer.out);
    assert!(ask(&mut peer, None, 1).is_err_and(|why| why.contains("--unit")));
    assert!(ask(&mut peer, Some("30k"), 1).is_err());
    assert!(ask(&mut peer, Some("start"), 701).is_err(), "what is still to come needs no asking");
    assert_eq!(ask(&mut peer, Some("start"), 5), Ok(()));
    assert_eq!(peer.replies(), ["start~start~5"]);
    peer.read("start", 701); // live, was under way
    assert_eq!(peer.replies(), [""; 0]);
    (5..=702).for_each(|number| peer.read("start", number));
    assert_eq!((peer.cleared(), peer.replies()), (0, vec![]));
    let of_reader = Range { file: Some(Label::Text(MAIN.into())), ..range(Some("start"), 9) };
    assert_eq!(peer.protocol.rewind(&of_reader, &mut peer.out), Ok(()));
    let of_file = Range { file: Some(Label::Number(7)), ..range(Some("start"), 9) };
    assert!(peer.protocol.rewind(&of_file, &mut peer.out).is_err());
    assert_eq!(peer.replies(), ["start~start~9"]);
    assert_eq!(ask(&mut peer, Some("finish"), 1), Ok(()), "nothing of it yet");
}

#[test]
fn a_location_in_another_encoding_is_started_by_the_bytes_it_was_sent_in() {
    let mut peer = Peer::new(&[], &[], true);
    peer.says(HELLO);
    peer.out.items.clear();
    peer.protocol.feed(b"ack~getlocations~M\xe1laga\r\n", &mut peer.out);
    let reply = peer.out.items.iter().find_map(|item| if let Item::Reply(bytes) = item { Some(bytes) } else { None });
    assert_eq!(reply.unwrap(), b"start~M\xe1laga~1\r\n");
}

#[test]
fn more_locations_than_are_cared_for_are_told() {
    let mut peer = Peer::new(&[], &[], true);
    peer.says(HELLO);
    peer.replies();
    let names: Vec<String> = (0..=LOCATIONS).map(|at| format!("L{at}")).collect();
    peer.says(&format!("ack~getlocations~{}\r\n", names.join("~")));
    let told = |item: &Item| match item {
        Item::Frame(f) => matches!(&f.frame, Frame::Info(Info::Condition { code: Condition::TooManyLocations, .. })),
        _ => false,
    };
    assert!(peer.out.items.iter().any(told));
    assert_eq!(peer.replies().len(), LOCATIONS);
}

#[test]
fn a_time_is_read_as_what_was_asked_for_or_as_what_it_says_itself() {
    let read = |text: &str, format| stamp(text, format).map(|stamp| stamp.to_string());
    for format in [TimeFormat::Iso, TimeFormat::Normal, TimeFormat::Msecs, TimeFormat::UnixUtc] {
        assert_eq!(read("14:02:15.31", format).unwrap(), "14:02:15.310");
        assert_eq!(read("2025-02-01T14:02:15.31", format).unwrap(), "2025-02-01T14:02:15.310");
        for bad in ["", "14:02", "2025-02-30T14:02:15.31", "24:00:00.00", "-1", "1.", "1e3", "99999999999999999999"] {
            assert_eq!(read(bad, format), None, "{bad}");
        }
    }
    assert_eq!(read("50535310", TimeFormat::Msecs).unwrap(), "14:02:15.310");
    assert_eq!(read("86400000", TimeFormat::Msecs), None);
    assert_eq!(read("1738418535.31", TimeFormat::UnixUtc).unwrap(), "2025-02-01T14:02:15.310Z");
    assert_eq!(read("1738418535", TimeFormat::UnixUtc).unwrap(), "2025-02-01T14:02:15.000Z");
    assert_eq!(read("1738418535.31", TimeFormat::UnixLocal).unwrap(), "2025-02-01T14:02:15.310");
    assert_eq!((read("50535310", TimeFormat::Iso), read("1738418535.31", TimeFormat::Normal)), (None, None));
    assert!(make(&Settings::from([("time_format".to_owned(), "utc".to_owned())])).is_err());
}

#[test]
fn what_is_refused_is_told_until_something_is_accepted() {
    let mut peer = Peer::with("start", &[]);
    peer.out.items.clear();
    let conditions = |peer: &Peer| {
        let said = peer.out.items.iter().filter_map(|item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Info(Info::Condition { code: REFUSES, text }) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    peer.says("ack~start\r\nerr~start~unknown~location\r\n");
    assert!(matches!(&conditions(&peer)[..], [Some(text)] if text.contains("`start`: unknown~location")));
    peer.says("ack~ping\r\nack~start~start~1\r\nack~start\r\n");
    assert_eq!(conditions(&peer)[1..], [None]);
}

#[test]
fn the_old_word_for_seconds_since_1970_is_read_as_it_was_and_warned_about() {
    let set = |word: &str| Settings::from([("time_format".to_owned(), word.to_owned())]);
    let warned = |word: &str| crate::decoders::spec(NAME).unwrap().warnings(&set(word)).collect::<Vec<_>>();
    for word in ["iso", "normal", "msecs", "unix-utc", "unix-local"] {
        assert!(make(&set(word)).is_ok() && warned(word).is_empty(), "{word}");
    }
    let warned = warned("unix");
    assert!(warned.len() == 1 && warned[0].contains("`unix-local`"), "{warned:?}");
    let mut out = Output::default();
    make(&set("unix")).unwrap().feed(b"CT01_33~5~F~9478~1738418535.31~0~0F2A38~1\r\n", &mut out);
    assert!(format!("{:?}", out.items).contains("Utc("), "as ever");
    assert!(make(&set("unix_local")).is_err());
}
