//! Where the fuzzer begins: what decoders send (tests/vectors, tests/captures) as inputs of the [`harness`](super::harness).

use std::path::Path;

use passbridge::testing::decoders::{REGISTRY, Settings};
use passbridge::testing::link::capture::{Direction, Reader, What};
use serde_json::Value;

use super::harness::{CONTROL, LEAVE, LINKED, REPAIR, REWIND, SINGLE, options};

/// `(protocol, options, bytes)` of every sample and every capture.
///
/// # Panics
/// Where they are not there, or not as they should be.
pub fn samples(tests: &Path) -> Vec<(&'static str, Settings, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files(&tests.join("vectors"), "jsonl") {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let text = std::fs::read_to_string(&path).expect("a text");
        for line in text.lines() {
            let sample: Value = serde_json::from_str(line).expect("JSON");
            let context = sample.get("ctx").and_then(Value::as_object).cloned().unwrap_or_default();
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let settings = context.into_iter().map(|(key, value)| (key, text(value))).collect();
            found.push((protocol(stem), settings, bytes(sample["raw"].as_str().expect("raw bytes"))));
        }
    }
    for path in files(&tests.join("captures"), "capture") {
        let content = std::fs::read(&path).expect("a file");
        let capture = Reader::new(&content[..]).expect("a capture");
        let header = capture.header();
        let name = header.protocol().expect("a known protocol").expect("a protocol").name;
        let settings = header.settings();
        let said = capture.filter_map(|record| match record.expect("a record").what {
            What::Bytes(Direction::From, bytes) => Some(bytes),
            _ => None,
        });
        found.push((name, settings, said.flatten().collect()));
    }
    found
}

/// The protocol that a file of samples is for: `rfid_ultra` is for `ultra`.
fn protocol(stem: &str) -> &'static str {
    let named = |spec: &&&passbridge::testing::decoders::Spec| stem.split('_').any(|part| part == spec.name);
    REGISTRY.iter().find(named).map(|spec| spec.name).unwrap_or_else(|| panic!("{stem} is for no protocol"))
}

fn files(place: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(place).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|is| is == extension)).collect();
    files.sort();
    files
}

fn bytes(raw: &str) -> Vec<u8> {
    let Some(digits) = raw.strip_prefix("hex:") else { return raw.as_bytes().to_vec() };
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// The inputs for one protocol: each sample, all of them one after the other, and each twice with something between; to a link
/// that only listens, to one that asks, and with things done to it.
pub fn inputs(name: &str, tests: &Path) -> Vec<Vec<u8>> {
    let sets = options(name);
    let samples: Vec<_> = samples(tests).into_iter().filter(|(of, ..)| *of == name).collect();
    let mut streams: Vec<(u8, Vec<u8>)> = Vec::new();
    for (_, settings, bytes) in &samples {
        let set = sets.iter().position(|set| settings.iter().all(|(key, value)| set.get(key) == Some(value)));
        let set = u8::try_from(set.unwrap_or(0)).expect("few options");
        streams.push((set, bytes.clone()));
        streams.push((set, [bytes.as_slice(), b"\r\n", bytes].concat()));
    }
    for set in 0..u8::try_from(sets.len()).expect("few options") {
        let all: Vec<u8> =
            streams.iter().step_by(2).filter(|(of, _)| *of == set).flat_map(|(_, b)| b.clone()).collect();
        streams.push((set, all.clone()));
        streams.push((set, [greeting(name), &all].concat()));
    }
    let mut inputs = Vec::new();
    for (at, (set, stream)) in (0_u8..).zip(streams.iter().cycle().take(streams.len().min(255))) {
        for flags in [0, SINGLE, LINKED, LINKED | REWIND, LINKED | REWIND | SINGLE, LINKED | REWIND | REPAIR | LEAVE] {
            let mut control = [0; CONTROL];
            control[..4].copy_from_slice(&[*set, flags, if flags & REWIND == 0 { 0 } else { at | 1 }, 0xcc]);
            for (place, byte) in control[4..12].iter_mut().enumerate() {
                *byte = at.wrapping_mul(31).wrapping_add((place as u8).wrapping_mul(57));
            }
            if flags & LINKED != 0 {
                control[12..18].copy_from_slice(&[1, at, 0, 12, 0, 0]); // a tick after 12 s
                control[18..24].copy_from_slice(&[3 + (at & 1), 200, 0, 1, 6, at]); // somebody wants reads again
                control[24..30].copy_from_slice(&[1, 255, 0, 60, 0, 0]);
            }
            inputs.push([&control[..], stream].concat());
        }
    }
    inputs
}

/// What a decoder says first, so that a link that asks gets on.
fn greeting(name: &str) -> &'static [u8] {
    match name {
        "chronotrack" => b"SimpleClient~1.0~CTP01\r\nack~getlocations~Finish~Start\r\n",
        "one4all" => b"HELLO\r\nGETPROTOCOL;3.0\r\nGETSTATUS;SERIAL;MC1;20191212-090206.csv\r\nGETTIME;2019-12-12;09:02:07\r\nPASSINGS;20\r\n",
        "raceresult" => b"GETPROTOCOL;2.0;1.0;2.0\r\nSETPROTOCOL;2.0\r\nGETCONFIG;GENERAL;BOXNAME;Box;D-50432\r\nSETPUSHPASSINGS;1;0\r\nPASSINGS;20;177\r\n",
        "llrp" => b"\x04\x3f\0\0\0\x20\0\0\0\x01\0\xf6\0\x16\0\x80\0\x0c\0\x06\x4f\xcb\xfc\xe5\x94\x40\x01\0\0\x06\0\0",
        _ => b"",
    }
}
