use super::*;
use crate::decoders::Item;

/// A frame from the decoder.
fn passing(number: u32, transponder: u32, ms: u64) -> Vec<u8> {
    passing_of(0x04, number, transponder, ms)
}

/// The same, from the decoder whose id has this third byte.
fn passing_of(decoder: u8, number: u32, transponder: u32, ms: u64) -> Vec<u8> {
    let time = (ms * 1000).to_le_bytes();
    let (number, transponder) = (number.to_le_bytes(), transponder.to_le_bytes());
    let id = [0x81, 4, 0x13, 0x18, decoder, 0];
    request(PASSING, &[&[1, 4][..], &number, &[3, 4], &transponder, &[4, 8], &time, &id].concat())
}

fn p3(settings: &[(&str, &str)]) -> Box<dyn Protocol> {
    make(&settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()).unwrap()
}

fn replies(out: &mut Output) -> Vec<Vec<u8>> {
    let replies = out.items.drain(..).filter_map(|item| if let Item::Reply(bytes) = item { Some(bytes) } else { None });
    replies.collect()
}

/// The types of the requests.
fn kinds_asked(out: &mut Output) -> Vec<u16> {
    replies(out).iter().map(|bytes| bytes[8].into()).collect()
}

#[test]
fn the_checksum_is_the_worked_one() {
    assert_eq!(checksum(&[0x8e, 2, 0x0e, 0, 9, 9, 0, 0, 0x45, 0, 1, 1, 1, 0x8f]), 0x7a5c);
    assert_eq!(request(0x45, &[1, 1, 1]), b"\x8e\x02\x0e\x00\x5c\x7a\x00\x00\x45\x00\x01\x01\x01\x8f");
}

#[test]
fn a_gap_is_asked_for_by_number_with_what_must_be_escaped_escaped() {
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    protocol.connected(StoredRanges::default(), true, &mut out);
    assert_eq!(kinds_asked(&mut out), [TIME]);
    protocol.feed(&passing(0x8c, 5, 1_000_000), &mut out);
    protocol.feed(&passing(0x90, 5, 1_001_000), &mut out);
    let [asked] = &replies(&mut out)[..] else { panic!() };
    let frame = unescaped(asked);
    assert_eq!(frame[8..frame.len() - 1], [4, 0, 1, 4, 0x8d, 0, 0, 0, 2, 4, 0x8f, 0, 0, 0]);
    assert!(asked.windows(2).any(|pair| pair == [0x8d, 0xad]) && asked.windows(2).any(|pair| pair == [0x8d, 0xaf]));
    assert_eq!(asked.iter().filter(|byte| [BEGIN, END].contains(byte)).count(), 2);
    for number in 0x8d..=0x8f {
        protocol.feed(&passing(number, 6, 1_000_500), &mut out);
    }
    let stored =
        |item: &Item| matches!(item, Item::Frame(framed) if matches!(&framed.frame, Frame::Read(read) if read.replay));
    assert_eq!((out.items.iter().filter(|item| stored(item)).count(), out.items.len()), (3, 3));
}

/// A relay may put several decoders on one link. Each has its own count.
#[test]
fn every_decoder_id_has_gaps_of_its_own() {
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    protocol.connected(StoredRanges::default(), true, &mut out);
    assert_eq!(kinds_asked(&mut out), [TIME]);
    for (at, (decoder, number)) in [(4, 1), (5, 700), (4, 2), (5, 701), (4, 3), (5, 702)].into_iter().enumerate() {
        protocol.feed(&passing_of(decoder, number, 5, 1_000_000 + at as u64), &mut out);
    }
    assert!(out.items.iter().all(|item| matches!(item, Item::Frame(framed) if matches!(framed.frame, Frame::Read(_)))));
    protocol.feed(&passing_of(5, 705, 5, 1_000_010), &mut out);
    protocol.feed(&passing_of(4, 4, 5, 1_000_011), &mut out);
    let asked: Vec<Vec<u8>> = replies(&mut out).iter().map(|asked| unescaped(asked)[10..22].to_vec()).collect();
    assert_eq!(asked, [[1, 4, 0xbf, 2, 0, 0, 2, 4, 0xc0, 2, 0, 0]], "703 to 704");
}

#[test]
fn the_gun_has_a_number_and_leaves_no_gap() {
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    protocol.connected(StoredRanges::default(), true, &mut out);
    assert_eq!(kinds_asked(&mut out), [TIME]);
    for (number, transponder) in [(1, 77), (2, 9992), (3, 9991), (4, 9993), (5, 9995), (6, 9994)] {
        protocol.feed(&passing(number, transponder, 1_000_000 + u64::from(number)), &mut out);
    }
    let kinds: Vec<String> = out
        .items
        .iter()
        .map(|item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Marker(marker) => marker.kind.to_string(),
                Frame::Read(read) => read.chip.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["77", "gun", "external 1", "external 2", "marker", "9994"]);
}

#[test]
fn the_decoders_clock_is_of_its_zone_unless_an_option_says_utc() {
    let stamp = |settings: &[(&str, &str)]| {
        let mut out = Output::default();
        p3(settings).feed(&passing(1, 5, 1_785_574_800_123), &mut out);
        let Item::Frame(framed) = &out.items[0] else { panic!() };
        let Frame::Read(read) = &framed.frame else { panic!() };
        read.stamp.to_string()
    };
    assert_eq!(stamp(&[]), "2026-08-01T09:00:00.123");
    assert_eq!(stamp(&[("clock", "local")]), "2026-08-01T09:00:00.123");
    assert_eq!(stamp(&[("clock", "utc")]), "2026-08-01T09:00:00.123Z");
    assert!(make(&Settings::from([("clock".to_owned(), "gps".to_owned())])).is_err());
}

#[test]
fn a_silent_decoder_is_asked_for_its_status_and_a_heard_one_is_not() {
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    protocol.connected(StoredRanges::default(), true, &mut out);
    let mut asked = Vec::new();
    for second in 0..=70 {
        if second == 20 {
            protocol.feed(b"\r\n", &mut out);
        }
        protocol.tick(Duration::from_secs(second), &mut out);
        asked.extend(replies(&mut out).iter().map(|bytes| (second, bytes[8])));
    }
    assert_eq!(asked, [(0, 0x24), (50, 2), (60, 0x24)]);
}

#[test]
fn a_low_supply_is_told_once_and_its_end_too() {
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    for tenths in [118, 109, 112, 113, 114, 112] {
        protocol.feed(&request(STATUS, &[0x0c, 1, tenths]), &mut out);
    }
    let told: Vec<bool> = out
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Info(Info::Condition { code: Condition::LowBattery, text }) => Some(text.is_some()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(told, [false, true, false]);
}

#[test]
fn tags_that_run_over_the_end_are_rejected_and_long_lengths_are_read() {
    let reason = |frame: &[u8]| {
        let mut out = Output::default();
        p3(&[]).feed(frame, &mut out);
        let Item::Frame(framed) = out.items.remove(0) else { panic!() };
        framed.frame
    };
    assert_eq!(reason(&request(PASSING, &[1, 4, 1, 0])), Frame::Rejected(Reject::Length));
    assert_eq!(reason(&request(PASSING, &[1, 1, 1, 3, 1, 5])), Frame::Rejected(Reject::Field("rtc")));
    let mut wide = vec![BEGIN, 2, 0, 0, 0, 0, 1, 0, 1, 0];
    for (tag, value) in [(1, 1), (3, 5), (4, 9)] {
        wide.extend([tag, 1, 0, 0, 0, value]);
    }
    wide.push(END);
    wide[2] = wide.len() as u8;
    let sum = checksum(&wide).to_le_bytes();
    wide[4..6].copy_from_slice(&sum);
    assert!(matches!(reason(&wide), Frame::Read(read) if &*read.chip == "5"));
}

#[test]
fn the_decoders_clock_is_asked_for_and_read_in_whatever_form_it_is_told() {
    let clock = |settings: &[(&str, &str)], tags: &[u8]| {
        let mut out = Output::default();
        p3(settings).feed(&request(TIME, tags), &mut out);
        let Item::Frame(framed) = &out.items[0] else { panic!() };
        match &framed.frame {
            Frame::Info(Info::Clock(stamp)) => stamp.to_string(),
            Frame::Info(Info::Alive) => "alive".to_owned(),
            other => panic!("{other:?}"),
        }
    };
    let micros = 1_785_574_800_123_000_u64.to_le_bytes();
    let rtc = [&[1, 8][..], &micros, &[4, 2, 0, 0]].concat();
    assert_eq!(clock(&[], &rtc), "2026-08-01T09:00:00.123");
    assert_eq!(clock(&[("clock", "utc")], &rtc), "2026-08-01T09:00:00.123Z");
    let utc = [&rtc[..], &[5, 8], &1_785_567_600_000_000_u64.to_le_bytes()].concat();
    assert_eq!(clock(&[], &utc), "2026-08-01T07:00:00.000Z");
    for unknown in
        [&TIME_TAGS[..], &[1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 9], &[1, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
    {
        assert_eq!(clock(&[], unknown), "alive");
    }
}

#[test]
fn what_is_given_of_a_memory_that_was_cleared_was_stored_and_what_follows_live_was_not() {
    let mut held = StoredRanges::default();
    let read = |number: u32, transponder, ms| {
        let mut out = Output::default();
        p3(&[]).feed(&passing(number, transponder, ms), &mut out);
        let Item::Frame(framed) = out.items.remove(0) else { panic!() };
        let Frame::Read(read) = framed.frame else { panic!() };
        read
    };
    for number in 1..=20 {
        let read = read(number, 5, 1_000_000 + u64::from(number));
        held.insert_read(read.position.as_ref().unwrap(), read.content());
    }
    let mut protocol = p3(&[]);
    let mut out = Output::default();
    protocol.connected(held, true, &mut out);
    let asked = |out: &mut Output| -> Vec<(u32, u32)> {
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let resends = replies(out).into_iter().map(|asked| unescaped(&asked)).filter(|asked| asked[8] == 4);
        resends.map(|asked| (number(&asked[12..16]), number(&asked[18..22]))).collect()
    };
    assert_eq!(asked(&mut out), [(20, 20)]);
    protocol.feed(&passing(20, 6, 900_020), &mut out); // another memory, with an earlier clock
    let kinds: Vec<bool> = out
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(framed) => Some(&framed.frame),
            _ => None,
        })
        .map(|frame| match frame {
            Frame::Cleared(_) => true,
            Frame::Read(read) => !read.replay,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [true, false], "told before the read, which was stored");
    assert_eq!(asked(&mut out), [(1, 19)]);
    (1..=19).for_each(|number| protocol.feed(&passing(number, 6, 900_000 + u64::from(number)), &mut out));
    protocol.feed(&passing(21, 6, 900_021), &mut out);
    let stored: Vec<bool> = out
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(framed) => match &framed.frame {
                Frame::Read(read) => Some(read.replay),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(stored, [&[true; 19][..], &[false]].concat());
}

#[test]
fn the_chip_is_the_number_or_the_printed_code_as_the_option_says() {
    let (number, code): (&[u8], &[u8]) = (&[3, 4, 0x39, 0x30, 0, 0], b"\x0a\x08FL-12345");
    let gun: &[u8] = &[3, 4, 0x08, 0x27, 0, 0];
    let time = [&[4, 8][..], &1_780_000_000_000_447_u64.to_le_bytes()].concat();
    let told = |option: &str, tags: &[&[u8]]| {
        let mut out = Output::default();
        let frame = request(PASSING, &[&[1, 4, 7, 0, 0, 0][..], &tags.concat(), &time].concat());
        p3(&[("code", option)]).feed(&frame, &mut out);
        match out.items.remove(0) {
            Item::Frame(framed) => match framed.frame {
                Frame::Read(read) => read.chip.to_string(),
                Frame::Marker(marker) => format!("marker {}", marker.kind),
                other => format!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    for (option, tags, chip) in [
        ("number", vec![number, code], "12345"),
        ("printed", vec![number, code], "FL-12345"),
        ("printed", vec![number], "12345"),
        ("number", vec![code], "FL-12345"),
        ("printed", vec![number, b"\x0a\x02\0\0"], "12345"),
        ("printed", vec![gun, code], "marker gun"),
    ] {
        assert_eq!(told(option, &tags), chip, "{option} {tags:?}");
    }
    assert!(make(&Settings::from([("code".to_owned(), "text".to_owned())])).is_err());
}

#[test]
fn two_passings_within_a_millisecond_have_their_microseconds() {
    let micros = |us: u64| {
        let mut out = Output::default();
        let time = [&[4, 8][..], &us.to_le_bytes()].concat();
        p3(&[]).feed(&request(PASSING, &[&[1, 1, 7, 3, 1, 9][..], &time].concat()), &mut out);
        let Item::Frame(framed) = out.items.remove(0) else { panic!() };
        let Frame::Read(read) = framed.frame else { panic!("{:?}", framed.frame) };
        (read.stamp.to_string(), read.micros)
    };
    assert_eq!(micros(1_780_000_000_000_447), ("2026-05-28T20:26:40.000".to_owned(), Some(447)));
    assert_eq!(micros(1_780_000_000_000_000).1, Some(0));
}
