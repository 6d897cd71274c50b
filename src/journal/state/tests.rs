use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::model::chip::Seq;
use ReadVerdict::{Dead, Duplicate, Passing, Waits};

/// The fold and its rules, to which the tests pass entries.
struct Fed {
    state: State,
    rules: Rules,
    seq: u64,
}

impl Fed {
    fn new(dead_time_s: i64) -> Self {
        let zones = Zones::from_iter([("mat".into(), TimeZone::get("Europe/Madrid").unwrap())]);
        Self { state: State::default(), rules: Rules { dead_time_ms: dead_time_s * 1000, zones }, seq: 0 }
    }

    fn put(&mut self, subject: &str, received: &str, body: Body) -> u64 {
        self.seq += 1;
        let (seq, time, raw) = (self.seq, received.parse().unwrap(), Box::default());
        self.state.apply(
            &Entry { seq, in_group: 0, subject: subject.into(), time, body, raw },
            &self.rules,
            Recognised::default(),
        );
        seq
    }

    fn verdict(&self, seq: u64) -> ReadVerdict {
        let at = self.state.tail.binary_search_by_key(&seq, |waiting| waiting.read.seq.0).unwrap();
        self.state.tail[at].verdict
    }

    /// A live read of chip `C1`.
    fn live(&mut self, stamp: &str, received: &str) -> ReadVerdict {
        self.read("C1", stamp, received, |_| ())
    }

    fn stored(&mut self, stamp: &str, received: &str) -> ReadVerdict {
        self.read("C1", stamp, received, |read| read.replay = true)
    }

    fn amid(&mut self, stamp: &str, received: &str) -> u64 {
        self.read("C1", stamp, received, |read| read.amid_stored = true);
        self.seq
    }

    fn read(&mut self, chip: &str, stamp: &str, received: &str, change: impl Fn(&mut ChipRead)) -> ReadVerdict {
        let mut read = ChipRead::new(chip, stamp.parse().unwrap());
        change(&mut read);
        let seq = self.put("mat", received, Body::Read(read));
        self.verdict(seq)
    }

    /// The clock steps by this many seconds when it shows `before`, and the step is noticed at
    /// once.
    fn step(&mut self, before: &str, step_s: i64) {
        let before_ms = before.parse::<Timestamp>().unwrap().as_millisecond();
        let step = Step { from: 1, sure: self.seq, before_ms, step_ms: step_s * 1000 };
        let after = Timestamp::from_millisecond(step.after_ms()).unwrap();
        self.put("box", &after.to_string(), Body::Clock(step));
    }

    fn waited(&mut self, received: &str) {
        let through = self.seq;
        self.put(WAITED, received, Body::Note(format!("{through}: text").into()));
    }
}

const DAY_S: i64 = 86_400;

/// Dated, of a day that the receipt gives, and of a decoder that knows no time at all.
const STAMPS: [&str; 4] = ["2026-07-06T10:00:00.000Z", "2026-07-06T12:00:00.000", "12:00:00.000", "up7.000"];

#[test]
fn two_reads_within_a_millisecond_are_two_and_each_given_again_is_none() {
    for received in ["2026-07-06T10:00:00.100Z", "1970-01-01T10:00:00.100Z"] {
        for stamp in STAMPS {
            let mut fed = Fed::new(0);
            let mut read = |micros| fed.read("C1", stamp, received, |read| read.micros = micros);
            let verdicts = [Some(447), Some(448), Some(447), Some(448), Some(0), Some(0)].map(&mut read);
            assert_eq!(verdicts, [Passing, Passing, Duplicate, Duplicate, Passing, Duplicate], "{stamp} {received}");
            assert_eq!(read(None), Duplicate, "{stamp} {received}: printed again in milliseconds");
        }
    }
}

#[test]
fn a_read_that_a_version_without_microseconds_kept_is_known_when_it_comes_with_them() {
    for received in ["2026-07-06T10:00:00.100Z", "1970-01-01T10:00:00.100Z"] {
        for stamp in STAMPS {
            let mut fed = Fed::new(0);
            let mut read = |micros| fed.read("C1", stamp, received, |read| read.micros = micros);
            let verdicts = [None, Some(447), Some(0), None].map(&mut read);
            assert_eq!(verdicts, [Passing, Duplicate, Duplicate, Duplicate], "{stamp} {received}");
        }
    }
}

#[test]
fn a_read_that_is_reckoned_from_its_receipt_waits_with_the_moment_at_which_it_was_made() {
    use crate::model::chip::Age;
    let mut fed = Fed::new(0);
    let verdict =
        fed.read("C1", "up90.000", "2026-07-06T10:00:30Z", |read| read.age = Some(Age::BeforeReceipt(30_000).into()));
    assert_eq!((verdict, &*fed.state.tail[0].read.received.to_string()), (Passing, "2026-07-06T10:00:00Z"));
}

#[test]
fn the_same_chips_at_the_same_time_of_another_day_are_other_crossings() {
    for dead_time in [0, 10] {
        for stamp in [
            "12:00:00.000",
            "0000-00-00T12:00:00.000",
            "2000-01-01T12:00:00.000",
            "1970-01-01T12:00:00.000",
            "2004-01-01T12:00:00.000",
            "2010-05-05T12:00:00.000",
            "2001-01-01T10:00:00.000Z",
        ] {
            let mut fed = Fed::new(dead_time);
            assert_eq!(fed.live(stamp, "2026-07-06T10:00:00.100Z"), Passing);
            assert_eq!(fed.live(stamp, "2026-07-06T10:00:03Z"), Duplicate, "{stamp}");
            assert_eq!(fed.live(stamp, "2026-07-06T21:00:03Z"), Duplicate, "{stamp}");
            assert_eq!(fed.live(stamp, "2026-07-07T10:00:00.100Z"), Passing, "{stamp}, day two");
            assert_eq!(fed.live(stamp, "2026-07-07T10:00:00.200Z"), Duplicate, "{stamp}");
            assert_eq!(fed.live(stamp, "2027-07-07T10:00:00.100Z"), Passing, "{stamp}, a year later");
        }
    }
}

#[test]
fn a_read_before_midnight_is_of_the_day_before_whenever_it_is_received() {
    let mut fed = Fed::new(10);
    assert_eq!(fed.live("23:59:59.000", "2026-07-06T22:00:01Z"), Passing);
    assert_eq!(fed.live("23:59:59.000", "2026-07-06T22:30:00Z"), Duplicate);
    assert_eq!(fed.live("00:00:02.000", "2026-07-06T22:00:03Z"), Dead, "of the same crossing, over midnight");
    assert_eq!(fed.live("23:59:59.000", "2026-07-07T21:59:59.500Z"), Passing);
    assert_eq!(fed.live("23:59:59.000", "2026-07-07T22:00:01Z"), Duplicate);
}

#[test]
fn a_decoder_that_lost_its_date_does_not_lose_passings_to_the_dead_time() {
    let mut fed = Fed::new(10);
    assert_eq!(fed.live("2026-03-06T20:27:47.350", "2026-03-06T19:27:48Z"), Passing);
    assert_eq!(fed.live("21:27:47.350", "2026-03-06T20:27:48Z"), Passing);
    assert_eq!(fed.live("21:27:49.350", "2026-03-06T20:27:50Z"), Dead);
    assert_eq!(fed.live("23:59:58.000", "2026-03-06T22:59:58Z"), Passing);
    assert_eq!(fed.live("00:00:02.000", "2026-03-06T23:00:02Z"), Dead);
    assert_eq!(fed.live("2026-03-07T00:00:03.000", "2026-03-06T23:00:03Z"), Dead, "it has its date again");
    assert_eq!(fed.live("2026-03-07T00:00:09.000", "2026-03-06T23:00:09Z"), Passing);
}

#[test]
fn while_the_box_does_not_know_its_day_a_repeat_is_known_and_no_read_is_hidden() {
    let mut fed = Fed::new(0);
    assert_eq!(fed.live("12:00:00.000", "1970-01-01T00:01:00Z"), Passing);
    assert_eq!(fed.live("12:00:00.000", "1970-01-01T00:02:00Z"), Duplicate);
    assert_eq!(fed.live("12:00:00.000", "1970-01-02T00:05:00Z"), Passing, "that clock runs on: a day later");
    // The box was off for an unknown time, and its clock starts again.
    assert_eq!(fed.live("12:00:00.000", "1970-01-01T00:00:20Z"), Passing);
    assert_eq!(fed.live("12:00:00.000", "1970-01-01T00:00:30Z"), Duplicate);
    let mut set_before = Fed::new(0);
    assert_eq!(set_before.live("12:00:00.000", "2026-07-06T10:00:01Z"), Passing);
    assert_eq!(set_before.live("12:00:00.000", "1970-01-01T00:00:20Z"), Passing);
}

#[test]
fn what_was_received_before_the_clock_was_set_is_known_afterwards_and_only_on_its_day() {
    let years = "2026-07-06T10:00:00Z".parse::<Timestamp>().unwrap().as_second() - 60;
    for dead_time in [0, 10] {
        let mut fed = Fed::new(dead_time);
        assert_eq!(fed.live("11:59:30.000", "1970-01-01T00:00:30Z"), Passing);
        fed.step("1970-01-01T00:01:00Z", years);
        assert_eq!(fed.live("11:59:30.000", "2026-07-06T10:00:05Z"), Duplicate);
        assert_eq!(fed.live("11:59:34.000", "2026-07-06T09:59:34Z"), if dead_time == 0 { Passing } else { Dead });
        assert_eq!(fed.live("11:59:30.000", "2026-07-07T09:59:31Z"), Passing, "the next day");
    }
}

#[test]
fn a_clock_that_was_a_week_behind_hides_nothing_and_knows_what_it_had() {
    let mut fed = Fed::new(0);
    assert_eq!(fed.live("12:00:00.000", "2026-06-29T10:00:01Z"), Passing);
    fed.step("2026-06-29T10:01:00Z", 7 * DAY_S);
    assert_eq!(fed.live("12:00:00.000", "2026-07-06T10:02:00Z"), Duplicate);
    assert_eq!(fed.live("12:00:00.000", "2026-07-07T10:00:01Z"), Passing);
}

#[test]
fn a_step_that_is_taken_back_leaves_no_day_behind_on_which_reads_are_hidden() {
    let mut fed = Fed::new(0);
    assert_eq!(fed.live("12:00:00.000", "2026-07-06T10:00:01Z"), Passing);
    fed.step("2026-07-06T10:01:00Z", DAY_S);
    assert_eq!(fed.live("12:00:00.000", "2026-07-07T10:01:30Z"), Duplicate, "it was in the day that it seems to be");
    assert_eq!(fed.live("12:02:00.000", "2026-07-07T10:02:01Z"), Passing);
    fed.step("2026-07-07T10:03:00Z", -DAY_S);
    assert_eq!(fed.live("12:00:00.000", "2026-07-06T10:04:00Z"), Duplicate);
    assert_eq!(fed.live("12:02:00.000", "2026-07-06T10:04:00Z"), Duplicate);
    let (text, before) = (serde_json::to_string(&fed.state).unwrap(), fed.state.undated.clone());
    assert_eq!(serde_json::from_str::<State>(&text).unwrap().undated, before);
    for _ in 0..2 {
        let expected = if fed.seq < 8 { Passing } else { Duplicate };
        assert_eq!(fed.live("12:00:00.000", "2026-07-07T10:00:01Z"), expected, "the day comes");
        assert_eq!(fed.live("12:02:00.000", "2026-07-07T10:02:01Z"), expected);
    }
}

#[test]
fn a_step_of_the_clock_makes_no_second_passing_of_a_crossing() {
    for step_s in [3600, -3600, DAY_S, -DAY_S, 7 * DAY_S + 1234] {
        for stamps in [["12:00:00.000", "12:00:04.000"], ["2026-07-06T12:00:00.000", "2026-07-06T12:00:04.000"]] {
            let mut fed = Fed::new(10);
            assert_eq!(fed.live(stamps[0], "2026-07-06T10:00:00.1Z"), Passing);
            fed.step("2026-07-06T10:00:03Z", step_s);
            let received = "2026-07-06T10:00:04.1Z".parse::<Timestamp>().unwrap().as_second() + step_s;
            let received = Timestamp::from_second(received).unwrap().to_string();
            assert_eq!(fed.live(stamps[1], &received), Dead, "{step_s} {stamps:?}");
        }
    }
}

#[test]
fn a_decoder_clock_that_is_set_back_hides_no_crossing() {
    let mut fed = Fed::new(5);
    assert_eq!(fed.live("2026-07-06T12:00:00.000", "2026-07-06T10:00:00.1Z"), Passing);
    // The clock was set back by 3 s: six seconds later, the stamp is 3 s later.
    assert_eq!(fed.live("2026-07-06T12:00:03.000", "2026-07-06T10:00:06.1Z"), Passing);
    assert_eq!(fed.live("2026-07-06T12:00:04.000", "2026-07-06T10:00:07.1Z"), Dead);
    // The clock is set back by an hour, to nearly the same time, and then by more than the time
    // between the reads.
    assert_eq!(fed.live("2026-07-06T12:00:03.500", "2026-07-06T11:00:06.6Z"), Passing);
    assert_eq!(fed.live("2026-07-06T11:59:59.500", "2026-07-06T11:00:12.6Z"), Passing);
    // Two antennas, which arrive in another order than that of their stamps.
    assert_eq!(fed.live("2026-07-06T11:59:59.300", "2026-07-06T11:00:12.7Z"), Dead);
}

#[test]
fn a_clock_that_autumn_sets_back_hides_no_crossing() {
    let mut fed = Fed::new(5);
    assert_eq!(fed.live("2026-10-25T02:30:00.000", "2026-10-25T00:30:00.1Z"), Passing);
    assert_eq!(fed.live("2026-10-25T02:30:03.000", "2026-10-25T01:30:03.1Z"), Passing);
    let mut undated = Fed::new(5);
    assert_eq!(undated.live("02:30:00.000", "2026-10-25T00:30:00.1Z"), Passing);
    assert_eq!(undated.live("02:30:03.000", "2026-10-25T01:30:03.1Z"), Passing);
}

#[test]
fn two_lives_of_a_decoder_without_a_clock_are_never_compared() {
    for dead_time in [0, 10] {
        let mut fed = Fed::new(dead_time);
        let read = |fed: &mut Fed, stamp: &str, received: &str| {
            (0..20).map(|n| fed.read(&format!("C{n}"), stamp, received, |_| ())).collect::<Vec<_>>()
        };
        assert_eq!(read(&mut fed, "up100.000", "2026-07-06T10:00:00Z"), [Passing; 20]);
        assert_eq!(read(&mut fed, "up100.000", "2026-07-06T10:00:00.010Z"), [Duplicate; 20], "said twice");
        // The decoder was switched off and on, and the second crossing has nearly the same uptime.
        assert_eq!(read(&mut fed, "up100.000", "2026-07-06T10:10:00Z"), [Passing; 20]);
        assert_eq!(read(&mut fed, "up104.000", "2026-07-06T10:20:04Z"), [Passing; 20]);
        // The uptime falls: whatever the receive times say, the decoder was off.
        assert_eq!(read(&mut fed, "up98.000", "2026-07-06T10:20:05Z"), [Passing; 20]);
        assert_eq!(
            read(&mut fed, "up104.000", "2026-07-06T10:20:11Z"),
            [if dead_time == 0 { Passing } else { Dead }; 20]
        );
    }
    let mut fed = Fed::new(10);
    assert_eq!(fed.live("up5.000", "2026-07-06T10:00:05Z"), Passing);
    assert_eq!(fed.live("up4.900", "2026-07-06T10:00:05.1Z"), Dead, "a little out of order is no other life");
    assert_eq!(fed.live("up6.000", "2026-07-06T10:00:14Z"), Dead, "it came late");
    assert_eq!(fed.live("2026-07-06T12:00:08.000", "2026-07-06T10:00:08Z"), Passing, "it was given the time");
}

#[test]
fn a_crossing_that_began_before_the_cut_is_timed_by_its_first_read() {
    let mut fed = Fed::new(5);
    let live = fed.amid("2026-07-06T12:00:03.000", "2026-07-06T10:00:03.1Z");
    let earlier = fed.amid("2026-07-06T12:00:02.900", "2026-07-06T10:00:03.2Z");
    assert_eq!(fed.verdict(live), Waits);
    assert!(fed.state.is_undecided());
    assert_eq!(fed.stored("2026-07-06T11:50:00.000", "2026-07-06T10:00:03.3Z"), Passing);
    assert_eq!(fed.stored("2026-07-06T12:00:00.000", "2026-07-06T10:00:03.4Z"), Passing);
    fed.waited("2026-07-06T10:00:05Z");
    assert_eq!((fed.verdict(live), fed.verdict(earlier)), (Dead, Dead));
    assert!(!fed.state.is_undecided());
}

#[test]
fn reads_that_wait_are_judged_in_the_order_of_the_decoders_clock_when_the_waiting_is_over() {
    let end: [fn(&mut Fed); 5] = [
        |fed| fed.waited("2026-07-06T10:00:05Z"),
        |fed| {
            fed.live("2026-07-06T12:00:04.000", "2026-07-06T10:00:04.1Z");
        },
        |fed| fed.step("2026-07-06T10:00:05Z", 3600),
        |fed| {
            for n in 0..UNDECIDED_SPAN {
                fed.read(&format!("D{n}"), "2026-07-06T11:00:00.000", "2026-07-06T10:00:04Z", |read| {
                    read.replay = true
                });
            }
        },
        |fed| {
            fed.put("mat/Start", "2026-07-06T10:00:04Z", Body::Read(ChipRead::new("X", "12:00:00".parse().unwrap())));
        },
    ];
    for end in end {
        let mut fed = Fed::new(5);
        let later = fed.amid("2026-07-06T12:00:03.000", "2026-07-06T10:00:03.1Z");
        let first = fed.amid("2026-07-06T12:00:02.900", "2026-07-06T10:00:03.2Z");
        fed.put("other", "2026-07-06T10:00:04Z", Body::Read(ChipRead::new("X", "12:00:00".parse().unwrap())));
        assert!(fed.state.is_undecided(), "another decoder tells nothing");
        end(&mut fed);
        assert_eq!((fed.verdict(later), fed.verdict(first)), (Dead, Passing));
        assert!(!fed.state.is_undecided());
    }
    let mut fed = Fed::new(0);
    assert_eq!(
        fed.read("C1", "2026-07-06T12:00:03.000", "2026-07-06T10:00:03.1Z", |read| read.amid_stored = true),
        Passing
    );
    let mut fed = Fed::new(5);
    fed.live("2026-07-06T12:00:03.000", "2026-07-06T10:00:03.1Z");
    let again = fed.amid("2026-07-06T12:00:03.000", "2026-07-06T10:00:03.2Z");
    assert_eq!(fed.verdict(again), Duplicate, "what repeats has not to wait");
}

#[test]
fn what_a_decoder_had_stored_is_of_the_crossing_that_was_reported_and_of_no_other() {
    let mut fed = Fed::new(5);
    assert_eq!(fed.live("2026-07-06T12:00:03.000", "2026-07-06T10:00:03.1Z"), Passing);
    assert_eq!(fed.stored("2026-07-06T12:00:00.000", "2026-07-06T10:01:00Z"), Dead, "the waiting was over before");
    assert_eq!(fed.stored("2026-07-06T11:59:50.000", "2026-07-06T10:01:00Z"), Passing);
    assert_eq!(fed.stored("2026-07-06T11:59:52.000", "2026-07-06T10:01:00Z"), Dead);
    // A long memory is read while a chip stays on the mat.
    assert_eq!(fed.live("2026-07-06T12:01:00.000", "2026-07-06T10:01:00.1Z"), Passing);
    assert_eq!(fed.stored("2026-07-06T11:30:00.000", "2026-07-06T10:01:01Z"), Passing);
    assert_eq!(fed.live("2026-07-06T12:01:02.000", "2026-07-06T10:01:02.1Z"), Dead);
    // The read was stored before its clock was set back, so a read that is received live later is
    // another crossing.
    assert_eq!(fed.live("2026-07-06T11:30:03.000", "2026-07-06T10:30:00Z"), Passing);
}

#[test]
fn the_passings_of_a_session_are_those_in_the_cloud_and_on_their_way() {
    let mut fed = Fed::new(0);
    let counts = |fed: &Fed| fed.state.devices["D"].numbered_in.clone();
    let mut event = |event: UploadEvent| {
        fed.put("D", "2026-07-06T10:00:00Z", Body::Upload(event));
        counts(&fed)
    };
    let join = |token: &str, next| UploadEvent::Joined { device: "D".into(), token: token.into(), alias: None, next };
    let items = |nums: std::ops::RangeInclusive<u64>| {
        nums.map(|num| UploadItem {
            seq: Seq(num),
            num,
            time_ms: 0,
            bib: "B".into(),
            chip: "C".into(),
            corrected_ms: 0,
        })
        .collect()
    };
    let batch = |token: &str, nums| {
        UploadEvent::Batch(Batch {
            through: Seq(1),
            decoders: vec!["mat".into()],
            ..Batch::resend("D", token, items(nums))
        })
    };
    let accepted = |first, last| UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 };
    // The numbers begin where another sender ended: a number is no count.
    assert_eq!(event(join("RACE", 101)), [("RACE".into(), 0)]);
    assert_eq!(event(batch("RACE", 101..=110)), [("RACE".into(), 10)]);
    assert_eq!(event(accepted(101, 105)), [("RACE".into(), 10)]);
    let refused =
        UploadEvent::DeadLetter { device: "D".into(), num: 106, status: 400, answer: "no".into(), again: false };
    assert_eq!(event(refused), [("RACE".into(), 9)], "what is set aside is not in the session");
    let released = UploadEvent::Released { device: "D".into(), first: 107, last: 110 };
    assert_eq!(event(released), [("RACE".into(), 5)], "the session was closed before they arrived");
    event(join("NEXT", 1));
    assert_eq!(event(batch("NEXT", 1..=4)), [("RACE".into(), 5), ("NEXT".into(), 4)]);
    event(accepted(1, 4));
    event(UploadEvent::Batch(Batch::resend("D", "RACE", items(101..=102))));
    event(accepted(101, 102));
    // A session that is active again goes on with its count.
    assert_eq!(event(join("RACE", 111)), [("RACE".into(), 5), ("NEXT".into(), 4)]);
    // What lost lines numbered is not known.
    fed.state.doubt();
    assert_eq!(counts(&fed), []);
    fed.put("D", "2026-07-06T10:00:00Z", Body::Upload(join("RACE", 120)));
    assert_eq!(counts(&fed), [], "nor is it after the session is joined again");
}

#[test]
fn a_cloud_that_refuses_every_second_passing_does_not_fill_the_memory_and_none_is_forgotten() {
    let mut ranges = BTreeMap::new();
    for seq in (1..=20_000).step_by(2) {
        insert_range(&mut ranges, seq);
    }
    assert!(ranges.len() <= RANGES_MAX);
    let covered = |seq: u64| ranges.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq);
    assert!((1..=20_000).step_by(2).all(covered));
    assert!(!covered(19_998), "the newest are exact");
}

/// What happens to a box, in seconds of its clock.
#[derive(Clone, Debug)]
enum Event {
    /// A chip read, this long before its receive time, and its kind: live, stored, or amid stored
    /// reads.
    Read {
        chip: u8,
        kind: u8,
        late_ms: i64,
        how: u8,
    },
    Later(i64),
    Step(i64),
    Waited,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let late = prop_oneof![Just(0), 0i64..6000, Just(3000), Just(86_400_000)];
    let read =
        (0u8..3, 0u8..4, late, 0u8..3).prop_map(|(chip, kind, late_ms, how)| Event::Read { chip, kind, late_ms, how });
    let step = prop_oneof![Just(3600), Just(-3600), Just(DAY_S), Just(-DAY_S)];
    let later = prop_oneof![1i64..8, Just(DAY_S), Just(DAY_S - 5)];
    proptest::collection::vec(
        prop_oneof![8 => read, 4 => later.prop_map(Event::Later), 1 => step.prop_map(Event::Step), 1 => Just(Event::Waited)],
        1..60,
    )
}

/// The entries that follow from the events.
fn entries(events: &[Event], unset: bool) -> Vec<Entry> {
    let mut now = if unset { 60_000 } else { 1_783_332_000_000i64 };
    let mut entries: Vec<Entry> = Vec::new();
    for event in events {
        let seq = entries.len() as u64 + 1;
        let (subject, body): (&str, Body) = match *event {
            Event::Read { chip, kind, late_ms, how } => {
                let at = Timestamp::from_millisecond((now - late_ms) / 1000 * 1000).unwrap();
                let local = TimeZone::UTC.to_datetime(at);
                let stamp = match kind {
                    0 => Stamp::Local(local),
                    1 => Stamp::TimeOfDay { time: local.time(), day: None },
                    2 => Stamp::Utc(at),
                    _ => Stamp::Uptime((now - late_ms).rem_euclid(50_000).unsigned_abs()),
                };
                let mut read = ChipRead::new(format!("C{chip}"), stamp);
                (read.replay, read.amid_stored) = (how == 1, how == 2);
                (["mat", "mat/Start"][usize::from(chip % 2)], Body::Read(read))
            }
            Event::Later(seconds) => {
                now += seconds * 1000;
                continue;
            }
            Event::Step(seconds) => {
                let step = Step { from: 1, sure: seq - 1, before_ms: now, step_ms: seconds * 1000 };
                now += step.step_ms;
                ("box", Body::Clock(step))
            }
            Event::Waited => (WAITED, Body::Note(format!("{seq}: text").into())),
        };
        let time = Timestamp::from_millisecond(now).unwrap();
        entries.push(Entry { seq, in_group: 0, subject: subject.into(), time, body, raw: Box::default() });
    }
    entries
}

fn verdicts(state: &State) -> Vec<(u64, ReadVerdict)> {
    state.tail.iter().map(|waiting| (waiting.read.seq.0, waiting.verdict)).collect()
}

proptest! {
    #[test]
    fn what_is_judged_is_the_same_after_a_restart_at_any_place(
        events in events(), unset: bool, dead_time in prop_oneof![Just(0i64), Just(5000)], at in 0usize..60,
    ) {
        let rules = Rules { dead_time_ms: dead_time, zones: Zones::default() };
        let entries = entries(&events, unset);
        let mut whole = State::default();
        entries.iter().for_each(|entry| whole.apply(entry, &rules, Recognised::default()));
        // The last checkpoint before that place. No checkpoint is written while reads wait.
        let (mut state, mut saved) = (State::default(), State::default());
        for entry in &entries[..at.min(entries.len())] {
            state.apply(entry, &rules, Recognised::default());
            if !state.is_undecided() {
                saved = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
                saved.tail.clone_from(&state.tail);
                for (name, fold) in &mut saved.decoders {
                    fold.recent.clone_from(&state.decoders[name].recent); // the queue contains them
                }
            }
        }
        entries.iter().for_each(|entry| saved.apply(entry, &rules, Recognised::default()));
        prop_assert_eq!(verdicts(&saved), verdicts(&whole));
    }

    #[test]
    fn a_new_read_on_the_first_day_ever_is_never_a_repeat(
        seconds in proptest::collection::vec((0u32..86_400, 0i64..4), 1..40),
    ) {
        // Every read once, each on the day on which it was made.
        let mut all: Vec<(i64, u32)> = seconds.into_iter().map(|(second, day)| (day, second)).collect();
        all.sort_unstable();
        all.dedup();
        let mut state = State::default();
        for (seq, (day, second)) in (1..).zip(&all) {
            let at = Timestamp::from_second(1_783_296_000 + day * DAY_S + i64::from(*second)).unwrap();
            let time = TimeZone::UTC.to_datetime(at).time();
            let body = Body::Read(ChipRead::new("C1", Stamp::TimeOfDay { time, day: None }));
            let entry = Entry { seq, in_group: 0, subject: "mat".into(), time: at, body, raw: Box::default() };
            state.apply(&entry, &Rules::default(), Recognised::default());
        }
        prop_assert!(state.tail.iter().all(|waiting| waiting.verdict == Passing));
        prop_assert_eq!(state.tail.len(), all.len());
    }
}

#[test]
fn the_segment_of_a_read_that_is_held_back_goes_by_age_alone_until_it_is_let_go() {
    let mut fed = Fed::new(10);
    let read = |held_back| {
        let read = ChipRead::new("C1", "2026-03-06T20:27:47.350".parse().unwrap());
        Body::Read(ChipRead { held_back, ..read })
    };
    fed.put("mat", "2026-03-06T19:27:48Z", read(true));
    assert_eq!((fed.state.needed_from(), fed.state.waiting), (None, 0), "no upload needs it");
    assert!(fed.state.has_set_aside(1, 2) && !fed.state.has_set_aside(2, 9));
    let marker = Marker {
        kind: Marker::LET_GO.into(),
        name: None,
        stamp: None,
        reader: None,
        location: None,
        position: None,
        through: Some(1),
    };
    fed.put("mat", "2026-03-06T19:27:49Z", Body::Marker(marker));
    assert!(!fed.state.has_set_aside(1, 9));
}

#[test]
fn a_read_that_is_held_back_suppresses_no_passing_of_the_race() {
    let mut fed = Fed::new(10);
    let held = ChipRead::new("C1", "2026-03-06T20:27:40.000".parse().unwrap());
    let held = ChipRead { held_back: true, replay: true, ..held };
    let of = fed.put("mat", "2026-03-06T19:27:44Z", Body::Read(held.clone()));
    assert_eq!(fed.live("2026-03-06T20:27:45.000", "2026-03-06T19:27:45Z"), Passing);
    let go =
        |read: &mut ChipRead| read.let_go = Some(Box::new((crate::model::chip::Seq(of), crate::model::chip::Seq(of))));
    assert_eq!(
        fed.read("C1", "2026-03-06T20:27:40.000", "2026-03-06T19:27:44Z", go),
        Dead,
        "then it is judged like any"
    );
    assert_eq!(fed.read("C1", "2026-03-06T20:27:40.000", "2026-03-06T19:27:44Z", go), Duplicate, "once");
}

/// The code may use other names, but a data directory of an older version must open.
#[test]
fn what_is_on_the_disk_keeps_its_names() {
    let mut fold = DeviceFold::default();
    fold.dead_letters.insert(1, 2);
    fold.failing.push(UploadItem {
        seq: Seq(1),
        num: 1,
        time_ms: 0,
        corrected_ms: 0,
        bib: "7".into(),
        chip: "C1".into(),
    });
    let fold = serde_json::to_value(&fold).unwrap();
    assert_eq!((&fold["quarantined"]["1"], &fold["parked"][0]["seq"]), (&2.into(), &1.into()));

    let verdicts = [Passing, Dead, Duplicate, Waits].map(|verdict| serde_json::to_string(&verdict).unwrap());
    assert_eq!(verdicts, ["\"Passing\"", "\"Dead\"", "\"Repeat\"", "\"Waits\""]);

    let place = serde_json::to_value(LogPlace { segment: 7, offset: 9 }).unwrap();
    assert_eq!(place, serde_json::json!({ "volume": 7, "offset": 9 }));

    let batch = Batch { duplicates: vec![Seq(4)], ..Batch::resend("D", "S", Vec::new()) };
    assert_eq!(serde_json::to_value(&batch).unwrap()["repeats"], serde_json::json!([4]));

    let event = r#"{"event":"quarantined","device":"D","num":3,"status":400,"answer":"no"}"#;
    let event: UploadEvent = serde_json::from_str(event).unwrap();
    assert_eq!(serde_json::to_value(&event).unwrap()["event"], "quarantined");
}

#[test]
fn a_state_of_a_version_without_sinks_is_read_and_the_cursor_of_the_uplink_keeps_its_name() {
    let old = r#"{"followed":9,"place":{"volume":1,"offset":400},"devices":{},"waiting":1,
        "decoders":{"mat":{"cursor":7,"last":9,"held":HELD}}}"#;
    let held = serde_json::to_string(&crate::model::chip::StoredRanges::default()).unwrap();
    let mut state: State = serde_json::from_str(&old.replace("HELD", &held)).unwrap();
    assert_eq!((state.decoders["mat"].cursor, state.decoders["mat"].newest(), state.needed_from()), (7, 9, Some(8)));
    let json = serde_json::to_value(&state).unwrap();
    assert!(json.get("sinks").is_none() && json["decoders"]["mat"]["cursor"] == 7);
    state.sinks.entry("feed".into()).or_default().insert("mat".into(), 5);
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!(json["sinks"], serde_json::json!({ "feed": { "mat": 5 } }));
    assert_eq!(serde_json::from_value::<State>(json).unwrap(), state);
}

#[test]
fn the_oldest_passing_on_its_way_is_told_and_one_that_is_sent_a_second_time_is_not() {
    let item = |seq: u64, num: u64| UploadItem {
        seq: Seq(seq),
        num,
        time_ms: 0,
        corrected_ms: 0,
        bib: "1".into(),
        chip: "C1".into(),
    };
    let batch = |items: Vec<UploadItem>| {
        UploadEvent::Batch(Batch { decoders: vec!["mat".into()], through: Seq(9), ..Batch::resend("D", "S", items) })
    };
    let mut fed = Fed::new(0);
    let oldest = |fed: &Fed| fed.state.devices.get("D").and_then(DeviceFold::oldest_open).map(|seq| seq.0);
    let now = "2026-07-06T10:00:00Z";
    let put = |fed: &mut Fed, event| fed.put("D", now, Body::Upload(event));
    put(&mut fed, batch(vec![item(4, 1), item(5, 2)]));
    assert_eq!(oldest(&fed), Some(4));
    put(&mut fed, UploadEvent::Accepted { device: "D".into(), first: 1, last: 1, duplicates: 0 });
    assert_eq!(oldest(&fed), Some(5));
    put(&mut fed, UploadEvent::Released { device: "D".into(), first: 2, last: 2 });
    assert_eq!(oldest(&fed), Some(5), "it waits for a new number");
    // Passing 4 is in the cloud with a wrong time, so it goes there again.
    let (device, session) = ("D".into(), "S".into());
    put(&mut fed, UploadEvent::Again { device, session, items: vec![item(4, 1)], next: Seq(5) });
    put(&mut fed, batch(vec![item(5, 3), item(4, 4)]));
    assert_eq!(oldest(&fed), Some(5));
    put(&mut fed, UploadEvent::Accepted { device: "D".into(), first: 3, last: 4, duplicates: 0 });
    assert_eq!(oldest(&fed), None);
}

fn hold() -> Body {
    Body::Control(Control::Hold { by: "timer".into() })
}

fn release(how: Held, from: u64) -> Body {
    Body::Control(Control::Release { how, from: Seq(from), by: "timer".into() })
}

mod hold;
