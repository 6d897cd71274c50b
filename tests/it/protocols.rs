//! Every protocol in the registry against what decoders send, through the same mapping as the
//! `decode` command: the sample vectors, the captures with their expected output, the recordings,
//! and arbitrary bytes.
//!
//! * `src/decoders/NAME/samples.jsonl`: one frame per line with what it must decode to.
//! * `src/decoders/NAME/captures/*.capture`: capture files (`passbridge::testing::link::capture`),
//!   whose header says protocol, options, zone and time;
//!   `NAME.expected.jsonl` is the output. A new one needs no line of code. After an intended change write it anew with `PASSBRIDGE_BLESS=1`
//!   and read the difference.
//! * Recordings are other people's files and not in this repository: they are looked for in
//!   `../shared/real`, or where `PASSBRIDGE_SHARED` points to.

mod always;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::commands::decode::{Decoder, Decoding, Ended};
use passbridge::testing::decoders::{self, Dials, Item, Missed, Output, REGISTRY, Range, Settings};
use passbridge::testing::link::capture::{CaptureReader, Direction, Record, What};
use passbridge::testing::model::chip::StoredRanges;
use passbridge::testing::model::escape::{escape, unescape};
use passbridge::testing::sim::decoder::Kind;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::recording;
use crate::support::samples::{self, captures, folder, hex, raw};

/// Noise that ends the way the protocol's frames do, so that no frame may suffer from it.
fn noise(protocol: &str, settings: &Settings) -> Vec<u8> {
    match decoders::spec(protocol).unwrap().frame_end_under(settings) {
        b"" => Kind::from_name(protocol).unwrap().noise(), // framed as a message, else it would end the link
        end => [b"\x01\xfe?noise", end].concat(),
    }
}

/// The options of a protocol: those that it needs, then those under which it has another wire
/// format.
fn dialects(protocol: &str) -> Vec<Settings> {
    let usual = Kind::from_name(protocol).unwrap().settings();
    let dialects = decoders::spec(protocol).unwrap().dialects.iter();
    [usual].into_iter().chain(dialects.map(|dialect| decoders::settings(dialect.set))).collect()
}

/// Gives its pieces one read at a time.
struct Pieces<'a>(Vec<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.0.first_mut() else { return Ok(0) };
        let length = piece.read(buffer)?;
        if piece.is_empty() {
            self.0.remove(0);
        }
        Ok(length)
    }
}

/// One call of `decode`.
struct Setup {
    protocol: String,
    settings: Settings,
    zone: TimeZone,
    received: Timestamp,
}

impl Setup {
    fn new(protocol: &str, settings: Settings) -> Self {
        let received = "2026-07-26T08:00:00Z".parse().unwrap();
        Self { protocol: protocol.to_owned(), settings, zone: TimeZone::UTC, received }
    }

    /// The output, a line per object.
    fn lines(&self, pieces: Vec<&[u8]>) -> (Vec<String>, Ended) {
        let spec = decoders::spec(&self.protocol).unwrap_or_else(|| panic!("no protocol {}", self.protocol));
        let decoder = Decoder::new(spec, &self.settings, self.zone.clone()).unwrap().received_at(self.received);
        let mut text = Vec::new();
        let ended = decoder.run(Pieces(pieces), &mut text).unwrap();
        let lines: Vec<String> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len() as u64, ended.objects);
        (lines, ended)
    }

    fn run(&self, pieces: Vec<&[u8]>) -> (Vec<Value>, Ended) {
        let (lines, ended) = self.lines(pieces);
        (lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(), ended)
    }

    /// Whole, byte by byte, and after noise, which must cost one rejected frame and nothing else.
    fn every_way(&self, bytes: &[u8]) -> [(&'static str, Vec<String>, Ended); 3] {
        let (whole, ended) = self.lines(vec![bytes]);
        let (single, ended_single) = self.lines(bytes.chunks(1).collect());
        let (mut after, ended_after) = self.lines(vec![&noise(&self.protocol, &self.settings), bytes]);
        let first = after.remove(0);
        assert!(first.contains(r#""kind":"rejected""#), "noise is kept as a rejected frame: {first}");
        [("whole", whole, ended), ("byte by byte", single, ended_single), ("after noise", after, ended_after)]
    }
}

const FIELDS: [&str; 19] = [
    "chip",
    "local",
    "tod",
    "day_offset",
    "utc",
    "uptime_ms",
    "seq",
    "antenna",
    "hits",
    "rssi",
    "replay",
    "reader",
    "device",
    "unit",
    "file",
    "location",
    "seen",
    "time",
    "doubt",
];

/// Checks the fields that the sample names and `decode` prints. Null, false and absent are the
/// same. Times are compared to the millisecond: that is what is kept beside the raw bytes, and what
/// the cloud takes.
fn same_fields(expect: &Value, got: &Value) -> Result<(), String> {
    let normal = |field: &str, value: &Value| match value {
        Value::Bool(false) => Value::Null,
        Value::Number(unit) if field == "unit" => unit.to_string().into(),
        Value::String(time) if ["tod", "local", "utc"].contains(&field) => milliseconds(time).into(),
        value => value.clone(),
    };
    let expect = &in_our_words(expect);
    for field in FIELDS.into_iter().filter(|field| expect.get(field).is_some()) {
        if normal(field, &expect[field]) != normal(field, &got[field]) {
            return Err(format!("{field}: expected {}, got {} in {got}", expect[field], got[field]));
        }
    }
    Ok(())
}

/// Some samples name a field as their protocol does.
fn in_our_words(expect: &Value) -> Value {
    let mut expect = expect.clone();
    if let Some(epc) = expect.get("epc").cloned().filter(|_| expect.get("chip").is_none()) {
        expect["chip"] = epc;
    }
    if let (Some(hits), Some(utc)) = (expect.get("count").cloned(), expect.get("first_utc").cloned()) {
        expect["hits"] = hits;
        expect["utc"] = utc;
        let uptime = expect["first_uptime_us"].as_u64();
        expect["uptime_ms"] = uptime.map(|us| us / 1000).into();
    }
    if let Some(channel) = expect.get("channel").cloned().filter(|_| expect.get("manual").is_some()) {
        // ALGE: a start number takes the place of the chip; `?` says that it is not valid.
        expect["chip"] = format!("{}{}", expect["flag"].as_str().unwrap_or(""), expect["number"]).into();
        expect["antenna"] = channel;
    }
    if let Some(rtc) = expect.get("rtc").cloned() {
        // P3: the UTC tag is preferred to the decoder's clock.
        let code = if expect["transponder"].is_null() { "tran_code" } else { "transponder" };
        let chip = expect[code].as_str().map_or_else(|| expect[code].to_string(), str::to_owned);
        (expect["chip"], expect["rssi"]) = (chip.into(), expect["strength"].clone());
        expect["unit"] = expect["decoder_id"].clone();
        match expect["utc_us"].as_i64() {
            Some(us) => expect["utc"] = Timestamp::from_microsecond(us).unwrap().to_string().into(),
            None => expect["local"] = rtc,
        }
    }
    if let Some(ms) = expect["unix_ms"].as_i64() {
        expect["utc"] = format!("{:.3}", Timestamp::from_millisecond(ms).unwrap()).into();
    }
    if let (Some(date), Some(tod)) = (expect["date"].as_str(), expect["tod"].as_str()) {
        expect["local"] = format!("{date}T{tod}").into();
    }
    expect
}

/// A time with three decimals, whatever it had, and without a zone.
fn milliseconds(time: &str) -> String {
    let time = time.trim_end_matches('Z');
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{whole}.{:0<3.3}", fraction)
}

/// Whether the output is what the sample says. `Info` may stand anywhere: it is not kept.
fn agrees(expect: &Value, objects: &[Value], ended: Ended) -> Result<(), String> {
    let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let (reads, markers, rejected) = (of("read"), of("marker"), of("rejected"));
    let counts = |want: [usize; 3]| {
        let got = [reads.len(), markers.len(), rejected.len()];
        if got == want { Ok(()) } else { Err(format!("reads, markers, rejected: expected {want:?}, got {got:?}")) }
    };
    match expect["kind"].as_str().unwrap() {
        // ALGE: an annulled impulse and a duration are no passings.
        // Ultra: the start button is no chip.
        "passing" if expect["chip"] == "0" && expect["antenna"] == 0 => counts([0, 1, 0]),
        "passing" if expect["flag"] == "c" || expect["channel"] == "RT" => counts([0, 1, 0]),
        // P3: the gun is no chip.
        "passing" if expect["transponder"] == 9992 => counts([0, 1, 0]).and_then(|()| {
            let got = (markers[0]["type"].as_str(), &markers[0]["local"]);
            if got == (Some("gun"), &milliseconds(expect["rtc"].as_str().unwrap()).into()) {
                Ok(())
            } else {
                Err(format!("{got:?}"))
            }
        }),
        "passing" => counts([1, 0, 0]).and_then(|()| same_fields(expect, reads[0])),
        "trigger" => counts([0, 1, 0]).and_then(|()| same_fields(expect, markers[0])),
        "error" => counts([0, 0, 1]).and_then(|()| match rejected[0]["reason"].as_str() {
            Some(reason) if !reason.is_empty() => Ok(()),
            _ => Err("no reason".into()),
        }),
        // ChronoTrack: `seq` counts markers too; that of a new location is not of the location it
        // names, and no place.
        "marker" if expect["event"].is_string() => counts([0, 1, 0]).and_then(|()| {
            let mut expect = expect.clone();
            if expect["event"] == "newlocation" {
                expect["seq"] = Value::Null;
            }
            same_fields(&expect, markers[0])?;
            if markers[0]["type"] == expect["event"] { Ok(()) } else { Err(format!("the type of {}", markers[0])) }
        }),
        "marker" => {
            let expected = expect["markers"].as_array().unwrap();
            counts([0, expected.len(), 0])?;
            expected.iter().zip(&markers).try_for_each(|(expected, got)| {
                let named = expected["type"] == got["type"] && expected["name"] == got["name"];
                let placed = got["location"] == expect["location"];
                same_fields(expected, got)?;
                if named && placed { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
            })
        }
        "batch" => {
            let expected = expect["records"].as_array().unwrap();
            counts([expected.len(), 0, expect["bad"].as_u64().unwrap_or(0) as usize])?;
            expected.iter().zip(&reads).try_for_each(|(expected, got)| {
                same_fields(expected, got)?;
                if got["location"] == expect["location"] { Ok(()) } else { Err(format!("location of {got}")) }
            })
        }
        "report" => {
            let tags = expect["tags"].as_array().unwrap();
            counts([tags.len(), 0, 0])?;
            tags.iter().zip(&reads).try_for_each(|(tag, got)| same_fields(tag, got))
        }
        "event" => counts([0, 0, 0]).and_then(|()| {
            let clock = objects.iter().find_map(|object| object["clock"].as_str());
            let told = clock.map(milliseconds) == expect["utc"].as_str().map(milliseconds);
            let goes_on = objects.iter().any(|object| object["reply"].is_string()) == (expect["connected"] == true);
            if told && goes_on { Ok(()) } else { Err(format!("an event told as {objects:?}")) }
        }),
        "keepalive" if expect["id"].is_number() => counts([0, 0, 0]).and_then(|()| {
            let id = u32::try_from(expect["id"].as_u64().unwrap()).unwrap().to_be_bytes();
            let ack = [b"\x04\x48\0\0\0\x0a".as_slice(), &id].concat();
            let replies: Vec<&str> = objects.iter().filter_map(|object| object["reply"].as_str()).collect();
            if replies == [escape(&ack)] { Ok(()) } else { Err(format!("not acknowledged: {objects:?}")) }
        }),
        // What a client says, and no reader.
        "keepalive_ack" | "enable_reports" => counts([0, 0, 0]),
        "partial" if ended.unfinished > 0 => counts([0, 0, 0]),
        "partial" => Err("nothing was left over".into()),
        "response" | "status" | "clock" | "end" | "keepalive" | "control" | "hello" | "ping" | "number" | "banner"
        | "ack" | "err" | "other" => counts([0, 0, 0]),
        "unknown" => counts([0, 0, 1]),
        other => panic!("a kind of sample that is not checked: {other}"),
    }
}

/// `(protocol, options, sample)` of every sample.
fn samples() -> Vec<(&'static str, Settings, Value)> {
    let options = |(protocol, sample): (&'static str, Value)| {
        let context = sample.get("ctx").and_then(Value::as_object).cloned().unwrap_or_default();
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let own: Settings = context.into_iter().map(|(key, value)| (key, text(value))).collect();
        let usual = if own.contains_key("pattern") { Settings::new() } else { dialects(protocol).remove(0) };
        (protocol, usual.into_iter().chain(own).collect(), sample)
    };
    samples::samples().into_iter().map(options).collect()
}

#[test]
fn every_decoder_of_the_registry_has_a_folder_of_its_name_and_every_folder_a_decoder() {
    for spec in REGISTRY {
        for part in ["mod.rs", "protocol.rs", "simulator.rs", "trials.rs", "samples.jsonl"] {
            assert!(folder(spec).join(part).is_file(), "{}: no {part}", spec.name);
        }
        let capture = format!("captures/{0}.capture", spec.name);
        assert!(folder(spec).join(&capture).is_file(), "{}: no {capture}", spec.name);
        assert_eq!(folder(spec).join("recogniser.rs").is_file(), spec.recogniser.is_some(), "{}", spec.name);
        assert!(!spec.trials.options.is_empty() && !spec.trials.harmful.is_empty(), "{}: nothing is tried", spec.name);
    }
    let all = std::fs::read_dir(folder(REGISTRY[0]).parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = all.filter(|path| path.join("mod.rs").is_file()).collect();
    assert_eq!(folders.len(), REGISTRY.len(), "{folders:?}");
    assert!(REGISTRY.is_sorted_by_key(|spec| spec.name), "the registry is in alphabetical order");
}

/// The rows of a page's tables of protocols: the name, and the row.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        inside = line.starts_with("| protocol |") || inside && line.starts_with('|');
        let name = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')).filter(|_| inside);
        rows.extend(name.map(|(name, _)| (name, line)));
    }
    rows
}

#[test]
fn the_tables_of_decoders_in_the_documents_have_the_rows_of_the_registry() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["README.md", "docs/timer/decoders.md"].map(|page| project.join(page));
    for path in pages.iter().filter(|path| path.exists()) {
        let page = std::fs::read_to_string(path).unwrap();
        let rows = rows(&page);
        let named: std::collections::BTreeSet<&str> = rows.iter().map(|(name, _)| *name).collect();
        let registry: std::collections::BTreeSet<&str> = REGISTRY.iter().map(|spec| spec.name).collect();
        assert_eq!(named, registry, "{}", path.display());
        for (name, row) in rows {
            let spec = decoders::spec(name).unwrap();
            let connects = row.contains(&format!("connects to TCP {}", spec.port))
                || row.contains(&format!("connect to TCP {}", spec.port));
            assert_eq!(connects, spec.dials == Dials::TheDecoder, "who connects, and to which port? {row}");
            // The port of a decoder on a serial line is that of some device server; `lines` has
            // none of its own.
            let has_own_port = spec.baud.is_empty() && spec.recogniser.is_some();
            assert!(!has_own_port || row.contains(&format!("TCP {}", spec.port)), "no port {}: {row}", spec.port);
            assert!(spec.baud.is_empty() || row.contains("serial"), "no serial line: {row}");
        }
    }
}

#[test]
fn every_sample_decodes_to_what_it_says_however_it_arrives() {
    let mut wrong = String::new();
    let mut seen = BTreeMap::<&str, usize>::new();
    for (protocol, settings, sample) in samples() {
        *seen.entry(protocol).or_default() += 1;
        for (way, lines, ended) in Setup::new(protocol, settings).every_way(&raw(&sample)) {
            let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            if let Err(error) = agrees(&sample["expect"], &objects, ended) {
                writeln!(wrong, "{} {way}: {error}", sample["id"]).unwrap();
            }
        }
    }
    assert_eq!(wrong, "");
    for spec in REGISTRY {
        assert!(seen.get(spec.name).is_some_and(|&count| count >= 8), "no samples for {}", spec.name);
    }
}

/// A general parser makes 59 of it and keeps the decimals, so that it would lie before what was
/// read before it.
#[test]
fn a_second_60_is_no_time_for_any_protocol() {
    let clock = regex::bytes::Regex::new(r"(\d\d:\d\d:)\d\d").unwrap();
    let mut tried = std::collections::BTreeSet::new();
    for (protocol, settings, sample) in samples() {
        let bytes = raw(&sample);
        if !clock.is_match(&bytes) {
            continue;
        }
        let setup = Setup::new(protocol, settings);
        let timed = |bytes: &[u8]| {
            let (mut objects, _) = setup.run(vec![bytes]);
            objects.retain(|object| object["time"].is_string() || object["clock"].is_string());
            objects
        };
        if timed(&bytes).is_empty() {
            continue;
        }
        tried.insert(protocol);
        let changed = clock.replace_all(&bytes, &b"${1}60"[..]);
        assert_eq!(timed(&changed), Vec::<Value>::new(), "{}", sample["id"]);
    }
    for protocol in ["chronotrack", "cloudbox", "impinj", "jchip", "lines", "mylaps", "one4all", "raceresult", "timy"] {
        assert!(tried.contains(protocol), "{protocol}");
    }
}

/// A frame with one byte changed costs at most itself and the one it runs into: the second whole
/// frame after it is read as it would be alone. Where a checksum guards it, nothing but what was
/// sent is read.
#[test]
fn a_frame_with_any_byte_flipped_costs_no_more_than_the_next_one() {
    let mut wrong = String::new();
    for (protocol, settings, sample) in samples() {
        let kind = sample["expect"]["kind"].as_str().unwrap();
        if !["passing", "trigger", "marker", "batch", "report"].contains(&kind) {
            continue;
        }
        let (setup, bytes) = (Setup::new(protocol, settings.clone()), raw(&sample));
        let kept = |pieces: Vec<&[u8]>| {
            let mut objects = setup.run(pieces).0;
            objects.retain(|object| object["kind"] == "read" || object["kind"] == "marker");
            for object in &mut objects {
                object["raw"].take(); // may differ in the case of a checksum
            }
            objects
        };
        let alone = kept(vec![&bytes]);
        for at in 0..bytes.len() {
            for mask in [0x01, 0x20, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                let got = kept(vec![&flipped, &bytes, &bytes]);
                let read_again = got.ends_with(&alone) || ends_connection(protocol);
                let guarded = !is_guarded(protocol) || got.iter().all(|object| alone.contains(object));
                if !read_again || !guarded {
                    writeln!(wrong, "{} byte {at} ^ {mask:#x}: {got:?}", sample["id"]).unwrap();
                }
            }
        }
    }
    assert_eq!(wrong, "");
}

/// Every byte of a frame is under a checksum.
fn is_guarded(protocol: &str) -> bool {
    decoders::spec(protocol).unwrap().recogniser.is_some_and(|recogniser| recogniser.is_checked)
}

/// The only framing is a length: a wrong one ends the connection.
fn ends_connection(protocol: &str) -> bool {
    decoders::spec(protocol).unwrap().frame_end.is_empty()
}

#[test]
fn an_ipico_frame_is_recovered_from_noise_in_its_own_line() {
    let samples: Vec<_> = samples().into_iter().filter(|(protocol, ..)| *protocol == "ipico").collect();
    for (protocol, settings, sample) in samples {
        let bytes = raw(&sample);
        let (objects, ended) = Setup::new(protocol, settings).run(vec![b"\x01\xfeaa0005", &bytes]);
        let (rejected, kept): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(|o| o["kind"] == "rejected");
        assert_eq!(rejected.len(), 1, "{}: noise and a bad frame are one rejected frame", sample["id"]);
        if sample["expect"]["kind"] == "error" {
            assert!(kept.is_empty());
        } else {
            agrees(&sample["expect"], &kept, ended).unwrap();
        }
    }
}

#[test]
fn every_capture_decodes_to_its_expected_output_however_it_arrives() {
    for path in captures() {
        let file = std::fs::read(&path).unwrap();
        let mut capture =
            CaptureReader::new(file.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let header = capture.header().clone();
        for key in ["device", "firmware", "source", "date", "protocol"] {
            assert!(header.get(key).is_some(), "{}: no `{key}` in the header", path.display());
        }
        let records: Result<Vec<Record>, _> = capture.by_ref().collect();
        let records = records.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!capture.cut() && !records.is_empty(), "{}", path.display());
        let Some(spec) = header.protocol().unwrap() else { continue }; // of a decoder that is not supported yet
        let zone = header.zone().unwrap().unwrap_or(TimeZone::UTC);
        let began = header.began().unwrap().unwrap_or_else(|| panic!("{}: when?", path.display()));
        let decoding = Decoding::new(spec, &header.settings(), zone.clone(), Some(began)).unwrap();
        let mut text = Vec::new();
        decoding.run(CaptureReader::new(file.as_slice()).unwrap(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let expected_path = path.with_extension("expected.jsonl");
        if std::env::var_os("PASSBRIDGE_BLESS").is_some() {
            std::fs::write(&expected_path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap();
        assert_eq!(text, expected, "{}", path.display());

        let setup = Setup { protocol: spec.name.to_owned(), settings: header.settings(), zone, received: began };
        let streams = streams(&records);
        for way in 0..3 {
            let (mut all, mut name) = (Vec::new(), "");
            for bytes in &streams {
                let [whole, single, noisy] = setup.every_way(bytes);
                let (named, lines, _) = [whole, single, noisy].into_iter().nth(way).unwrap();
                name = named;
                all.extend(lines.into_iter().map(|line| line + "\n"));
            }
            // Connections that overlap are told side by side in the file.
            let sorted = |mut lines: Vec<String>| {
                if streams.len() > 1 {
                    lines.sort();
                }
                lines
            };
            let expected = expected.lines().map(|line| format!("{line}\n")).collect();
            assert_eq!(sorted(all), sorted(expected), "{} {name}", path.display());
        }
    }
}

/// The decoder's bytes of each connection.
fn streams(records: &[Record]) -> Vec<Vec<u8>> {
    let mut streams = BTreeMap::<u32, Vec<u8>>::new();
    for record in records {
        if let What::Bytes(Direction::From, bytes) = &record.what {
            streams.entry(record.connection).or_default().extend(bytes);
        }
    }
    streams.into_values().collect()
}

#[test]
fn every_recording_decodes_to_its_digest() {
    let recordings = [
        ("ipico-elite-fs-ls-2018.log", "ipico", 1284, 273, "045e000bdf8d5391"),
        ("one4all-20191212-090206.csv", "one4all", 1460, 435, "e129222c581044fa"),
        ("p3-short.hex", "p3", 83, 3, "34513f5bac4e3bf0"),
    ];
    for (file, protocol, reads, chips, digest) in recordings {
        let Some(bytes) = recording("every_recording_decodes_to_its_digest", file) else { continue };
        let bytes = if file.ends_with(".hex") { hex(std::str::from_utf8(&bytes).unwrap()) } else { bytes };
        let setup = Setup::new(protocol, Settings::new());
        let (mut objects, ended) = setup.run(vec![&bytes]);
        objects.retain(|object| object["kind"] != "info"); // P3 says between passings how it is
        assert_eq!((objects.len(), ended.unfinished), (reads, 0), "{file}: reads and nothing else");
        let text = |object: &Value, field: &str| object[field].as_str().unwrap().to_owned();
        let time = |read: &Value| match (protocol, text(read, "local")) {
            ("p3", local) => format!("{local}Z").parse::<Timestamp>().unwrap().as_microsecond().to_string(),
            (_, local) => local,
        };
        let lines: Vec<String> = objects.iter().map(|read| format!("{}\t{}", text(read, "chip"), time(read))).collect();
        let distinct: std::collections::BTreeSet<String> = objects.iter().map(|read| text(read, "chip")).collect();
        assert_eq!(distinct.len(), chips, "{file}: chips");
        let sum = ring::digest::digest(&ring::digest::SHA256, lines.join("\n").as_bytes());
        let hex: String = sum.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, digest, "{file}");
        let (mut small, _) = setup.run(bytes.chunks(7).collect());
        small.retain(|object| object["kind"] != "info");
        assert_eq!(small, objects, "{file} in small pieces");
    }
}

#[test]
fn the_raw_bytes_in_the_output_are_those_of_the_input() {
    for (protocol, settings, sample) in samples() {
        let bytes = raw(&sample);
        for object in Setup::new(protocol, settings).run(vec![&bytes]).0 {
            let shown = unescape(object["raw"].as_str().unwrap_or_default()).unwrap();
            assert!(shown.is_empty() || escape(&bytes).contains(&escape(&shown)), "{}: {object}", sample["id"]);
        }
    }
}

#[test]
fn megabytes_of_noise_put_out_no_more_than_they_put_in() {
    let noise: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for spec in REGISTRY {
        for part in [&noise, &vec![b'x'; 1 << 20]] {
            let mut protocol = (spec.make)(&dialects(spec.name)[0]).unwrap();
            let (mut fed, mut got) = (0, 0);
            for _ in 0..4 {
                let mut out = Output::default();
                protocol.feed(part, &mut out);
                fed += part.len();
                got += raw_bytes(&out);
                assert!(got <= fed, "{}: more raw bytes came out than went in", spec.name);
            }
        }
    }
}

fn raw_bytes(out: &Output) -> usize {
    let raw = |item: &Item| if let Item::Frame(framed) = item { framed.raw.len() } else { 0 };
    out.items.iter().map(raw).sum()
}

/// Bytes that look like the protocols' own often enough to get past the first check.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = samples().iter().map(|(_, _, sample)| raw(sample)).collect();
    let part = prop_oneof![
        4 => proptest::sample::select(known.clone()),
        2 => (proptest::sample::select(known), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        2 => proptest::collection::vec(any::<u8>(), 0..60),
        2 => "[a-f0-9;@$|A-Z.:#=\r\n-]{0,60}".prop_map(String::into_bytes),
        1 => (1usize..9000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_protocol_panic_or_grow_and_cutting_them_changes_nothing(
        bytes in bytes(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        for spec in REGISTRY {
            for settings in dialects(spec.name) {
                let feed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                    let (mut protocol, mut out) = ((spec.make)(&settings).unwrap(), Output::default());
                    pieces.for_each(|piece| protocol.feed(piece, &mut out));
                    protocol.end(&mut out);
                    out
                };
                let whole = feed(&mut [bytes.as_slice()].into_iter());
                let cut = feed(&mut cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]));
                prop_assert_eq!(&whole.items, &cut.items, "{} {:?}", spec.name, settings);
                prop_assert!(raw_bytes(&whole) <= bytes.len(), "{}", spec.name);
            }
        }
    }

    #[test]
    fn no_bytes_make_a_linked_protocol_panic_or_ask_without_end(bytes in bytes()) {
        for spec in REGISTRY {
            let (mut protocol, mut out) = ((spec.make)(&dialects(spec.name)[0]).unwrap(), Output::default());
            protocol.connected(StoredRanges::default(), true, &mut out);
            for (second, piece) in (0..).zip(bytes.chunks(97)) {
                protocol.tick(Duration::from_secs(second * 7), &mut out);
                protocol.feed(piece, &mut out);
            }
            protocol.end(&mut out);
            let asked: usize =
                out.items.iter().map(|item| if let Item::Reply(bytes) = item { bytes.len() } else { 0 }).sum();
            prop_assert!(asked <= 10 * bytes.len() + 1000, "{}: asked {asked} bytes for {}", spec.name, bytes.len());
        }
    }
}

#[test]
fn a_decoder_that_cannot_be_asked_for_stored_reads_says_in_words_what_to_do() {
    let range = Range { unit: None, file: None, from: 1, to: 9 };
    for spec in REGISTRY {
        let settings = Kind::from_name(spec.name).map(Kind::settings).unwrap_or_default();
        let mut protocol = (spec.make)(&settings).unwrap();
        let mut out = Output::default();
        protocol.connected(StoredRanges::default(), true, &mut out);
        let before = out.items.len();
        let why = protocol.rewind(&range, &mut out).unwrap_err(); // none was heard of yet
        let can = spec.missed == Missed::Stored;
        assert!(why.len() > 20, "{}: {why}", spec.name);
        assert_eq!(
            why.contains("is not asked")
                || why.contains("cannot be asked")
                || why.contains("stores nothing")
                || why.contains("repeats"),
            !can,
            "{}: {why}",
            spec.name
        );
        assert_eq!(out.items.len(), before, "{}: nothing is sent to it", spec.name);
    }
}
