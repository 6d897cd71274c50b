use super::*;
use crate::decoders::Item;

fn protocol(start: bool) -> Box<dyn Protocol> {
    make(&Settings::from([("start".to_owned(), start.to_string())])).unwrap()
}

fn replies(out: &mut Output) -> Vec<Vec<u8>> {
    let items = std::mem::take(&mut out.items);
    items.into_iter().filter_map(|item| if let Item::Reply(bytes) = item { Some(bytes) } else { None }).collect()
}

fn kinds(out: &mut Output) -> Vec<u16> {
    replies(out).iter().map(|reply| kind_of(reply)).collect()
}

fn conditions(out: &Output) -> Vec<(&'static str, bool)> {
    let condition = |item: &Item| match item {
        Item::Frame(framed) => match &framed.frame {
            Frame::Info(Info::Condition { code, text }) => Some((code.word(), text.is_some())),
            _ => None,
        },
        _ => None,
    };
    out.items.iter().filter_map(condition).collect()
}

fn hung_up(out: &Output) -> bool {
    out.items.iter().any(|item| matches!(item, Item::HangUp(_)))
}

fn event(kind: u16, body: &[u8]) -> Vec<u8> {
    message(kind::EVENT, 1, &wire::tlv(246, &[&wire::tlv(kind, &[body])]))
}

fn answer(kind: u16, code: u16) -> Vec<u8> {
    message(kind, 9, &wire::tlv(287, &[&code.to_be_bytes(), &[0, 2], b"no"]))
}

fn rospec(state: u8) -> Vec<u8> {
    let status = wire::tlv(287, &[&[0, 0, 0, 0]]);
    message(36, 9, &[status, wire::tlv(177, &[&[0, 0, 0, 7, 0, state]])].concat())
}

fn one_tag(parameters: &[&[u8]]) -> Vec<u8> {
    message(kind::REPORT, 1, &wire::tlv(240, parameters))
}

fn first(out: &Output) -> &Frame {
    out.items.iter().find_map(|item| if let Item::Frame(framed) = item { Some(&framed.frame) } else { None }).unwrap()
}

#[test]
fn a_reader_is_only_asked_unless_the_configuration_says_start() {
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.connected(Default::default(), true, &mut out);
    protocol.feed(&event(256, &[0, 0]), &mut out);
    assert_eq!(kinds(&mut out), [64, 26]);
    protocol.feed(&rospec(0), &mut out);
    assert_eq!(conditions(&out), [("llrp_no_inventory", true)]);
    protocol.tick(Duration::from_secs(10), &mut out);
    assert_eq!(kinds(&mut out), [26]);
    protocol.feed(&rospec(2), &mut out);
    assert_eq!(conditions(&out), [("llrp_no_inventory", false)]);
    protocol.leaving(&mut out);
    assert_eq!(kinds(&mut out), [14]);
}

#[test]
fn an_inventory_of_ours_is_added_step_by_step_and_only_that_one_is_deleted() {
    let (mut protocol, mut out) = (protocol(true), Output::default());
    protocol.feed(&event(256, &[0, 0]), &mut out);
    assert_eq!(kinds(&mut out), [64, 3]);
    let mut said = Vec::new();
    for (answered, code) in [(13, 0), (31, 100), (30, 0), (34, 0), (32, 0)] {
        protocol.feed(&answer(answered, code), &mut out);
        said.extend(replies(&mut out));
    }
    assert_eq!(said.iter().map(|bytes| kind_of(bytes)).collect::<Vec<_>>(), [21, 20, 24, 22]);
    protocol.leaving(&mut out);
    said.extend(replies(&mut out));
    assert_eq!(kind_of(&said[4]), 21);
    for bytes in [&said[0], &said[2], &said[3], &said[4]] {
        assert_eq!(bytes[HEADER..], *b"PBRI");
    }
    assert_eq!(kind_of(&said[5]), 14);
    protocol.leaving(&mut out);
    assert!(out.items.is_empty(), "once");
}

#[test]
fn a_refused_inventory_is_told_and_tried_again() {
    let (mut protocol, mut out) = (protocol(true), Output::default());
    protocol.feed(&[event(256, &[0, 0]), answer(13, 0), answer(31, 0), answer(30, 100)].concat(), &mut out);
    assert_eq!(conditions(&out), [("llrp_start_refused", true)]);
    replies(&mut out);
    protocol.tick(Duration::from_secs(60), &mut out);
    assert_eq!(kinds(&mut out), [26, 3]);
    protocol.feed(&[answer(13, 0), answer(31, 0), answer(30, 0), answer(34, 0), answer(32, 0)].concat(), &mut out);
    assert_eq!(conditions(&out), [("llrp_start_refused", false)]);
    replies(&mut out);
    protocol.feed(&rospec(0), &mut out);
    assert_eq!(conditions(&out), [("llrp_no_inventory", true)]);
    protocol.tick(Duration::from_secs(120), &mut out);
    assert_eq!(kinds(&mut out), [26, 3], "somebody stopped it");
}

#[test]
fn a_reader_that_serves_somebody_else_is_left_at_once_and_gets_no_command() {
    let (mut protocol, mut out) = (protocol(true), Output::default());
    protocol.feed(&event(256, &[0, 2]), &mut out);
    assert!(hung_up(&out));
    protocol.leaving(&mut out);
    assert!(replies(&mut out).is_empty());
}

#[test]
fn a_keepalive_is_answered_with_its_own_id() {
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.feed(&message(kind::KEEPALIVE, 0xdead_beef, &[]), &mut out);
    assert_eq!(replies(&mut out), [b"\x04\x48\0\0\0\x0a\xde\xad\xbe\xef"]);
}

#[test]
fn a_wrong_length_ends_the_link_and_nothing_after_it_is_read() {
    for length in [[0, 0, 0, 9], [0, 4, 0, 1]] {
        let (mut protocol, mut out) = (protocol(false), Output::default());
        protocol.feed(&[&[4, 61], &length[..], &[0, 0, 0, 1], &[0; 40]].concat(), &mut out);
        assert!(hung_up(&out));
        assert!(matches!(first(&out), Frame::Rejected(Reject::Length | Reject::TooLong)));
        out.items.clear();
        protocol.feed(&message(kind::KEEPALIVE, 1, &[]), &mut out);
        protocol.end(&mut out);
        assert!(out.items.is_empty());
    }
}

#[test]
fn epcs_of_any_length_are_read_and_times_are_of_the_reader_or_of_its_uptime() {
    let up: &[u8] = &[&[0x83][..], &5_000_000_u64.to_be_bytes()].concat();
    let utc: &[u8] = &[&[0x82][..], &5_000_000_u64.to_be_bytes()].concat();
    let set: &[u8] = &[&[0x82][..], &1_795_915_800_000_001_u64.to_be_bytes()].concat();
    let epc = |bits: u16, bytes: &[u8]| wire::tlv(241, &[&bits.to_be_bytes(), bytes]);
    for (parameters, chip, stamp) in [
        (vec![epc(128, &[0xab; 16]), up.to_vec()], "ab".repeat(16), "up5.000"),
        (vec![epc(496, &[0xcd; 62]), up.to_vec(), utc.to_vec()], "cd".repeat(62), "up5.000"),
        (vec![epc(16, &[0, 2]), up.to_vec(), set.to_vec()], "0002".into(), "2026-11-29T01:30:00.000Z"),
        (vec![wire::tlv(999, &[&[0xff; 7]]), epc(16, &[0, 1]), utc.to_vec()], "0001".into(), "up5.000"),
    ] {
        let (mut protocol, mut out) = (protocol(false), Output::default());
        protocol.feed(&one_tag(&parameters.iter().map(Vec::as_slice).collect::<Vec<_>>()), &mut out);
        let Frame::Read(read) = first(&out) else { panic!("{:?}", out.items) };
        assert_eq!((&*read.chip, read.stamp.to_string()), (&*chip, stamp.to_owned()));
    }
}

/// A comparison with another decoder found this: OpSpecID (17) was not known, and its tag was lost.
#[test]
fn every_parameter_that_has_a_length_in_the_standard_is_skipped_by_it() {
    let lengths = [2, 2, 8, 8, 8, 8, 1, 2, 2, 4, 2, 2, 2, 12, 2, 2, 4, 2, 4, 2, 2]; // the bodies of 0 to 20
    for kind in (1..=20_u8).filter(|kind| *kind != 13) {
        let parameter = [&[0x80 | kind][..], &vec![0; lengths[usize::from(kind)]]].concat();
        let tag: [&[u8]; 3] = [&parameter, &[0x8d; 13], &[0x82, 0, 0, 0, 0, 0, 0x4c, 0x4b, 0x40]];
        let (mut protocol, mut out) = (protocol(false), Output::default());
        protocol.feed(&one_tag(&tag), &mut out);
        let Frame::Read(read) = first(&out) else { panic!("{kind}: {:?}", out.items) };
        assert_eq!(&*read.chip, "8d".repeat(12), "{kind}");
    }
}

#[test]
fn what_cannot_be_skipped_costs_its_tag_and_not_the_next_one() {
    let good: &[u8] = &[&[0x8d; 13][..], &[0x83, 0, 0, 0, 0, 0, 0x4c, 0x4b, 0x40]].concat();
    let bad = wire::tlv(240, &[good, &[0xff, 1, 2]]);
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.feed(&message(kind::REPORT, 1, &[bad, wire::tlv(240, &[good])].concat()), &mut out);
    let frames: Vec<_> =
        out.items.iter().map(|item| if let Item::Frame(f) = item { &f.frame } else { panic!() }).collect();
    assert!(matches!(frames[..], [Frame::Rejected(Reject::Field("parameter")), Frame::Read(_)]), "{frames:?}");
}

#[test]
fn a_tag_without_a_time_is_rejected_and_told() {
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.feed(&one_tag(&[&[0x8d; 13]]), &mut out);
    assert_eq!(conditions(&out), [("llrp_no_time", true)]);
}

#[test]
fn a_cable_that_falls_off_is_told_until_it_is_back() {
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.feed(&event(255, &[0, 0, 3]), &mut out);
    protocol.feed(&event(255, &[1, 0, 3]), &mut out);
    assert_eq!(conditions(&out), [("llrp_antenna", true), ("llrp_antenna", false)]);
}

#[test]
fn another_program_at_the_reader_and_reads_that_it_lost_are_told() {
    for (kind, body, word) in [(256, &[0, 4][..], "llrp_rival"), (251, &[][..], "llrp_reads_lost")] {
        let (mut protocol, mut out) = (protocol(false), Output::default());
        protocol.feed(&event(kind, body), &mut out);
        assert_eq!(conditions(&out), [(word, true)]);
    }
}

/// 2026-11-29T01:30:00Z, in microseconds.
const SET_US: u64 = 1_795_915_800_000_000;
/// A minute into the year 2000.
const UNSET_US: u64 = 946_684_860_000_000;

/// A TV with a time: 2 is first seen UTC, 3 first seen uptime, 4 and 5 the same of last seen.
fn time(kind: u8, us: u64) -> Vec<u8> {
    [&[0x80 | kind][..], &us.to_be_bytes()].concat()
}

/// The greeting of a reader that accepts us. It may have a clock: 128 is UTC, 129 uptime.
fn greeting(clock: Option<(u16, u64)>) -> Vec<u8> {
    let clock = clock.map(|(kind, us)| wire::tlv(kind, &[&us.to_be_bytes()])).unwrap_or_default();
    message(kind::EVENT, 1, &wire::tlv(246, &[&clock, &wire::tlv(256, &[&[0, 0]])]))
}

fn tag_at(number: u8, times: &[Vec<u8>]) -> Vec<u8> {
    let epc: &[u8] = &[&[0x8d][..], &[number; 12]].concat();
    let parts: Vec<&[u8]> = [epc].into_iter().chain(times.iter().map(Vec::as_slice)).collect();
    wire::tlv(240, &parts)
}

fn reads(out: &Output) -> Vec<ChipRead> {
    let read = |item: &Item| match item {
        Item::Frame(framed) => {
            if let Frame::Read(read) = &framed.frame {
                Some(read.clone())
            } else {
                None
            }
        }
        _ => None,
    };
    out.items.iter().filter_map(read).collect()
}

/// The reads from the tags of one report after a greeting.
fn told(clock: Option<(u16, u64)>, tags: &[Vec<u8>]) -> Vec<ChipRead> {
    let (mut protocol, mut out) = (protocol(false), Output::default());
    protocol.feed(&greeting(clock), &mut out);
    protocol.feed(&message(kind::REPORT, 1, &tags.concat()), &mut out);
    reads(&out)
}

#[test]
fn a_reader_that_reports_only_the_last_seen_time_is_read_with_a_doubt() {
    let last = |read: &ChipRead| (read.seen, read.caution) == (Some(Sighting::Last), Some(Caution::OnlyLastSeen));
    let utc = told(None, &[tag_at(1, &[time(4, SET_US + 7)])]).remove(0);
    assert_eq!((&*utc.stamp.to_string(), utc.micros, last(&utc)), ("2026-11-29T01:30:00.000Z", Some(7), true));
    let uptime = told(Some((129, 1_000_000)), &[tag_at(1, &[time(5, 3_000_000)])]).remove(0);
    assert_eq!(
        (&*uptime.stamp.to_string(), uptime.age.clone(), last(&uptime)),
        ("up3.000", Some(Age::AfterGreeting(2000).into()), true)
    );
    let both = told(None, &[tag_at(1, &[time(2, SET_US), time(4, SET_US + 9_000_000)])]).remove(0);
    assert_eq!((&*both.stamp.to_string(), both.seen, both.caution), ("2026-11-29T01:30:00.000Z", None, None));
    let first = told(None, &[tag_at(1, &[time(3, 5_000_000), time(5, 9_000_000)])]).remove(0);
    assert_eq!((&*first.stamp.to_string(), first.caution), ("up5.000", None));
}

#[test]
fn a_reader_whose_clock_was_never_set_tells_how_long_after_its_greeting_a_tag_was_seen() {
    for (clock, times, age) in [
        (Some((128, UNSET_US)), time(2, UNSET_US + 5_207_562), Age::AfterGreeting(5207)),
        (Some((128, UNSET_US)), time(4, UNSET_US + 5_207_562), Age::AfterGreeting(5207)),
        (Some((128, 60_000_000)), time(2, 65_000_000), Age::AfterGreeting(5000)),
        (Some((129, 60_000_000)), time(3, 65_000_000), Age::AfterGreeting(5000)),
        // The reader held this tag before we connected.
        (Some((129, 60_000_000)), time(3, 20_000_000), Age::AfterGreeting(-40_000)),
        // Without a greeting, or with another clock in the greeting, the tag counts as just seen.
        (None, time(2, UNSET_US), Age::BeforeReceipt(0)),
        (Some((128, SET_US)), time(2, UNSET_US), Age::BeforeReceipt(0)),
        (Some((128, SET_US)), time(3, 65_000_000), Age::BeforeReceipt(0)),
    ] {
        let read = told(clock, &[tag_at(1, std::slice::from_ref(&times))]).remove(0);
        assert_eq!(read.age, Some(age.into()), "{clock:?}");
        assert!(matches!(read.stamp, Stamp::Uptime(_)), "no date that was never meant: {}", read.stamp);
    }
    let mixed = told(None, &[tag_at(1, &[time(2, UNSET_US)]), tag_at(2, &[time(2, SET_US)])]).remove(0);
    assert_eq!(mixed.age, Some(Age::BeforeReceipt(0).into()), "a tag of another clock tells nothing");
    let set = told(Some((128, UNSET_US)), &[tag_at(1, &[time(2, SET_US)])]).remove(0);
    assert_eq!((set.age, &*set.stamp.to_string()), (None, "2026-11-29T01:30:00.000Z"), "it was set meanwhile");
}

#[test]
fn tags_of_one_report_keep_their_distance_where_only_their_uptimes_are_known() {
    let tags = [90_000_000, 110_000_000, 100_000_000].map(|us| tag_at(1, &[time(3, us)]));
    let ages = |clock| told(clock, &tags).into_iter().map(|read| *read.age.unwrap()).collect::<Vec<_>>();
    assert_eq!(ages(None), [20_000, 0, 10_000].map(Age::BeforeReceipt));
    assert_eq!(ages(Some((129, 120_000_000))), [-30_000, -10_000, -20_000].map(Age::AfterGreeting));
}

#[test]
fn two_reads_of_a_tag_and_antenna_within_a_millisecond_are_two() {
    for kind in 2..=5 {
        let tags = [SET_US + 447, SET_US + 448].map(|us| tag_at(1, &[time(kind, us)]));
        let read = told(None, &tags);
        assert_ne!(read[0].identities().own, read[1].identities().own, "{kind}");
        assert_eq!(read[0].identities(), told(None, &tags).remove(0).identities());
    }
}

#[test]
fn a_report_of_any_length_is_read_tag_by_tag_and_never_held() {
    let tags: Vec<Vec<u8>> = (0..30_000_u64).map(|n| tag_at(n as u8, &[time(2, SET_US + n)])).collect();
    let custom = wire::tlv(1023, &[&[0; 60_000]]);
    let body = [custom.clone(), tags.concat(), custom].concat();
    assert!(body.len() > 3 * MESSAGE_MAX);
    let stream = [message(kind::REPORT, 1, &body), message(kind::KEEPALIVE, 7, &[])].concat();
    for size in [1, 4097, 16_384, stream.len()] {
        let (mut protocol, mut out) = (protocol(false), Output::default());
        let mut read = 0;
        for piece in stream.chunks(size) {
            protocol.feed(piece, &mut out);
            read += reads(&out).len();
            assert!(!hung_up(&out));
            out.items.retain(|item| matches!(item, Item::Reply(_)));
        }
        assert_eq!((read, kinds(&mut out)), (tags.len(), vec![72]), "pieces of {size}, and what follows is heard");
    }
}

#[test]
fn what_is_no_report_in_a_long_one_ends_the_link_and_costs_nothing_before() {
    let tags: Vec<u8> = (0..20_000_u64).flat_map(|n| tag_at(n as u8, &[time(2, SET_US + n)])).collect();
    for broken in [&[0, 240, 0, 3][..], &[0x8d, 1, 2, 3], &[0, 99, 0, 4], &[0, 240, 0xff, 0xff]] {
        let mut stream = message(kind::REPORT, 1, &[&tags, broken].concat());
        stream.extend(message(kind::KEEPALIVE, 7, &[]));
        let whole = {
            let (mut protocol, mut out) = (protocol(false), Output::default());
            protocol.feed(&stream, &mut out);
            out.items
        };
        let (mut protocol, mut out) = (protocol(false), Output::default());
        stream.chunks(1).for_each(|byte| protocol.feed(byte, &mut out));
        assert_eq!(out.items, whole);
        assert_eq!((reads(&out).len(), hung_up(&out)), (20_000, true), "{broken:?}");
    }
}
