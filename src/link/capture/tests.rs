use proptest::prelude::*;

use super::*;

fn read(file: &[u8]) -> (Header, Vec<Record>, bool) {
    let mut reader = CaptureReader::new(file).unwrap();
    let records = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (reader.header().clone(), records, reader.cut())
}

fn fault(line: &str) -> String {
    let file = format!("# passbridge capture 1\n\n! 0.000000 1 connected\n{line}\n");
    CaptureReader::new(file.as_bytes()).unwrap().find_map(Result::err).expect("a fault").to_string()
}

fn record(micros: u64, connection: u32, what: What) -> Record {
    Record { at: Duration::from_micros(micros), connection, what }
}

fn written(header: &Header, records: &[Record]) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new(), header).unwrap();
    records.iter().for_each(|record| writer.record(record).unwrap());
    writer.out
}

#[test]
fn a_capture_reads_as_the_description_shows_it() {
    let mut header = Header::default();
    header.add("decoder", "Ziel-Matte ü");
    header.add("protocol", "mylaps");
    header.add("timezone", "Europe/Madrid");
    header.add("began", "2026-07-26T08:00:00.123456Z");
    header.add_settings(&[("version".to_owned(), "v1".to_owned())].into());
    let records = [
        record(0, 1, What::Connected("192.168.1.50:3097".into())),
        record(120_034, 1, What::Bytes(Direction::From, b" Finish@Pong@$\r\n ".to_vec())),
        record(121_100, 2, What::Bytes(Direction::To, b"\x00\xff".to_vec())),
        record(7_300_000, 1, What::Lost(Direction::From, 4096)),
        record(9_000_000, 1, What::Closed(String::new())),
    ];
    let file = written(&header, &records);
    let expected = concat!(
        "# passbridge capture 1\n",
        "# decoder: Ziel-Matte ü\n",
        "# protocol: mylaps\n",
        "# timezone: Europe/Madrid\n",
        "# began: 2026-07-26T08:00:00.123456Z\n",
        "# set.version: v1\n",
        "! 0.000000 1 connected 192.168.1.50:3097\n",
        "< 0.120034 1 \\x20Finish@Pong@$\\r\\n\\x20\n",
        "> 0.121100 2 \\x00\\xff\n",
        "! 7.300000 1 lost < 4096 bytes\n",
        "! 9.000000 1 closed\n",
    );
    assert_eq!(String::from_utf8_lossy(&file), expected);
    assert_eq!(read(&file), (header.clone(), records.to_vec(), false));
    assert_eq!(header.protocol().unwrap().unwrap().name, "mylaps");
    assert_eq!(header.zone().unwrap().unwrap().iana_name(), Some("Europe/Madrid"));
    assert_eq!(header.began().unwrap().unwrap().as_microsecond(), 1_785_052_800_123_456);
    assert_eq!(header.settings()["version"], "v1");
    let spec = |name| crate::decoders::spec(name).unwrap();
    assert_eq!(header.settings_for(spec("mylaps")), header.settings());
    assert!(header.settings_for(spec("ipico")).is_empty(), "options of another protocol");
}

#[test]
fn what_people_and_their_programs_do_to_a_text_does_no_harm() {
    let file = "\u{feff}# passbridge capture 1\r\n# a remark\r\n# comment: seen at km 10 \r\n#\r\n\r\n< 0.5 1 a\\tb\r\n# gate\r\n< 7 1 c\r\n";
    let (header, records, cut) = read(file.as_bytes());
    assert_eq!(header.get("comment"), Some("seen at km 10"));
    let bytes = |at, text: &[u8]| record(at, 1, What::Bytes(Direction::From, text.to_vec()));
    assert_eq!(records, [bytes(500_000, b"a\tb"), bytes(7_000_000, b"c")]);
    assert!(!cut);
}

#[test]
fn a_file_that_was_cut_anywhere_gives_every_byte_that_is_in_it_and_says_so() {
    let mut header = Header::default();
    header.add("protocol", "ipico");
    let all: &[u8] = b"aa01\r\nbb\x00\x01cc\\dd";
    let records =
        [record(5, 1, What::Connected("x".into())), record(17, 12, What::Bytes(Direction::From, all.to_vec()))];
    let file = written(&header, &records);
    let begin = written(&header, &[]).len();
    for end in begin..file.len() {
        let (read_header, records, cut) = read(&file[..end]);
        assert_eq!((read_header, cut), (header.clone(), file[end - 1] != b'\n'), "cut at {end}");
        match records.get(1).map(|record| (record.connection, &record.what)) {
            Some((12, What::Bytes(Direction::From, bytes))) => assert!(all.starts_with(bytes), "cut at {end}"),
            None => assert!(end < begin + 40, "cut at {end}"),
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    // Half a value is no value, because a zone that is cut short is another zone.
    let (cut_header, records, cut) = read(&file[..begin - 2]);
    assert_eq!((cut_header, records.len(), cut), (Header::default(), 0, true));
}

#[test]
fn a_line_that_cannot_be_understood_is_named_with_what_is_allowed() {
    for (line, expected) in [
        ("hello", "line 4: must begin with `< `"),
        ("x 0.1 1 a", "line 4: must begin with `< `"),
        ("< soon 1 a", "line 4: after the sign must come the seconds since the beginning, such as 12.345678"),
        ("< 0.1234567 1 a", "line 4: after the sign"),
        ("< -1 1 a", "line 4: after the sign"),
        ("< 99999999999 1 a", "line 4: after the sign"),
        ("< 1. 1 a", "line 4: after the sign"),
        ("< 0.1 one a", "line 4: after the time must come the number of the connection"),
        ("< 0.1 4294967296 a", "line 4: after the time"),
        ("< 0.1 1", "line 4: after the time"),
        ("< 0.1 1 ", "line 4: without bytes"),
        ("< 0.1 1 a\\q", "line 4: the bytes (or the text) are not an escaped text: byte 1"),
        ("! 0.1 1 exploded", "line 4: after `!` may come `connected WHO`"),
        ("! 0.1 1 lost < 5", "line 4: after `!`"),
        ("! 0.1 1 lost ? 5 bytes", "line 4: after `!`"),
    ] {
        let told = fault(line);
        assert!(told.starts_with(expected), "{line:?}: {told}");
    }
    assert!(fault(&format!("< 0.1 1 {}", "a".repeat(LINE_MAX))).starts_with("line 4: longer than 16384 bytes"));
}

#[test]
fn another_file_or_another_version_is_not_taken_for_a_capture() {
    let error = |file: &[u8]| CaptureReader::new(file).unwrap_err().to_string();
    assert!(error(b"").starts_with("not a capture: its first line must be `# passbridge capture 1`"));
    assert!(error(b"aa01058001e9df91000118101309234219eeFS\r\n").starts_with("not a capture"));
    assert!(error(&[b'#'; 100_000]).starts_with("not a capture"));
    assert!(error(b"# passbridge capture 2\n").starts_with("a capture of version `2`"));
    assert!(is_capture(b"# passbridge capture 1\n") && !is_capture(b"# passbridge"));
    let mut header = Header::default();
    header.add("protocol", "abacus");
    header.add("timezone", "Mars/Olympus");
    header.add("began", "yesterday");
    assert!(header.protocol().err().unwrap().to_string().starts_with("`# protocol: abacus` in the header"));
    assert!(header.zone().unwrap_err().to_string().contains("Mars/Olympus"));
    assert!(header.began().unwrap_err().to_string().contains("must be a time in UTC"));
}

#[test]
fn a_long_chunk_becomes_several_records_of_the_same_time() {
    let bytes = vec![0xff; 3 * PIECE + 1];
    let file = written(&Header::default(), &[record(9, 3, What::Bytes(Direction::To, bytes.clone()))]);
    assert!(file.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE_MAX / 2));
    let (_, records, _) = read(&file);
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record.at == Duration::from_micros(9) && record.connection == 3));
    assert_eq!(whole(&records), bytes);
    let mut header = Header::default();
    header.add("comment", "x".repeat(LINE_MAX));
    let refused = CaptureWriter::new(Vec::new(), &header).unwrap_err();
    assert!(refused.to_string().starts_with("too long for a capture: # comment: xxx"));
}

fn whole(records: &[Record]) -> Vec<u8> {
    let bytes = |record: &Record| match &record.what {
        What::Bytes(_, bytes) => bytes.clone(),
        _ => Vec::new(),
    };
    records.iter().flat_map(bytes).collect()
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::From), Just(Direction::To)]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => (direction(), proptest::collection::vec(any::<u8>(), 1..200)).prop_map(|(way, bytes)| What::Bytes(way, bytes)),
        1 => (direction(), "[ a-z\\\\\r\n]{1,9}").prop_map(|(way, text)| What::Bytes(way, text.into_bytes())),
        1 => ".{0,40}".prop_map(What::Connected),
        1 => ".{0,40}".prop_map(What::Closed),
        1 => (direction(), 0..1_u64 << 50).prop_map(|(way, count)| What::Lost(way, count)),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        pairs in proptest::collection::vec(("[a-z][a-z0-9._-]{0,8}", "\\PC{0,20}|\"{0,2}[ a-z\r\n\t\u{85}]{0,9}"), 0..6),
        records in proptest::collection::vec((0..SECONDS_MAX * 1_000_000, any::<u32>(), what()), 0..20),
    ) {
        let mut header = Header::default();
        pairs.iter().for_each(|(key, value)| header.add(key, value));
        let records: Vec<Record> = records.into_iter().map(|(at, link, what)| record(at, link, what)).collect();
        let file = written(&header, &records);
        prop_assert_eq!(read(&file), (header, records, false));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(file in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = CaptureReader::new(file.as_slice()).map(|reader| reader.count());
    }

    #[test]
    fn no_lines_make_the_reader_panic(lines in "([<>!#] ?[0-9.]{0,12} ?[0-9]{0,3} ?[a-z<\\\\]{0,9}[^\n]{0,9}\n?){0,9}") {
        let file = format!("# passbridge capture 1\n{lines}");
        let mut reader = CaptureReader::new(file.as_bytes()).unwrap();
        let lines = file.lines().count() as u64;
        let records = reader.by_ref().map_while(Result::ok).count() as u64;
        prop_assert!(records <= lines && reader.line() <= lines);
    }
}
