//! Where the fuzzer begins: what decoders send (the samples and captures in their folders) as
//! inputs of the [`harness`](super::harness).

use std::path::Path;

use passbridge::testing::decoders::{Settings, Spec};
use passbridge::testing::link::capture::{CaptureReader, Direction, What};
use serde_json::Value;

use super::harness::{CONTROL, LEAVE, LINKED, REPAIR, REWIND, SINGLE, options};

/// `(options, bytes)` of every sample and every capture of a decoder. `project`: where the
/// repository is.
///
/// # Panics
/// Where they are not there, or not as they should be.
pub fn samples(spec: &Spec, project: &Path) -> Vec<(Settings, Vec<u8>)> {
    let folder = project.join("src/decoders").join(spec.name);
    let mut found = Vec::new();
    let text = std::fs::read_to_string(folder.join("samples.jsonl")).expect("a text");
    for line in text.lines() {
        let sample: Value = serde_json::from_str(line).expect("JSON");
        let context = sample.get("ctx").and_then(Value::as_object).cloned().unwrap_or_default();
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let settings = context.into_iter().map(|(key, value)| (key, text(value))).collect();
        found.push((settings, bytes(sample["raw"].as_str().expect("raw bytes"))));
    }
    for path in files(&folder.join("captures"), "capture") {
        let content = std::fs::read(&path).expect("a file");
        let capture = CaptureReader::new(&content[..]).expect("a capture");
        let settings = capture.header().settings();
        let said = capture.filter_map(|record| match record.expect("a record").what {
            What::Bytes(Direction::From, bytes) => Some(bytes),
            _ => None,
        });
        found.push((settings, said.flatten().collect()));
    }
    found
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

/// The inputs for one protocol: each sample, all of them one after the other, and each twice with
/// something between; to a link that only listens, to one that asks, and with things done to it.
pub fn inputs(spec: &Spec, project: &Path) -> Vec<Vec<u8>> {
    let sets = options(spec.name);
    let samples = samples(spec, project);
    let mut streams: Vec<(u8, Vec<u8>)> = Vec::new();
    for (settings, bytes) in &samples {
        let set = sets.iter().position(|set| settings.iter().all(|(key, value)| set.get(key) == Some(value)));
        let set = u8::try_from(set.unwrap_or(0)).expect("few options");
        streams.push((set, bytes.clone()));
        streams.push((set, [bytes.as_slice(), b"\r\n", bytes].concat()));
    }
    for set in 0..u8::try_from(sets.len()).expect("few options") {
        let all: Vec<u8> =
            streams.iter().step_by(2).filter(|(of, _)| *of == set).flat_map(|(_, b)| b.clone()).collect();
        streams.push((set, all.clone()));
        streams.push((set, [spec.trials.greeting, &all].concat()));
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
