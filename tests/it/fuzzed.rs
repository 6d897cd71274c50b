//! The checks of the fuzz targets (fuzz/README.md) as an ordinary test: on what decoders send, on
//! everything that fuzzing found, and on some thousand seeded changes to it.
//!
//! The inputs that the fuzzer begins with:
//! `PASSBRIDGE_CORPUS=fuzz/corpus cargo test --test it corpus`.

use std::path::{Path, PathBuf};

use passbridge::testing::decoders::{REGISTRY, Settings};

use crate::support::fuzz::harness::{self, CONTROL, Seen};
use crate::support::fuzz::{capture, seeds};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The targets are of no protocol: the environment names one of the registry.
#[test]
fn every_fuzz_target_is_built() {
    let manifest = std::fs::read_to_string(project().join("fuzz/Cargo.toml")).unwrap();
    for target in std::fs::read_dir(project().join("fuzz/fuzz_targets")).unwrap() {
        let path = format!("fuzz_targets/{}", target.unwrap().file_name().to_str().unwrap());
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} is not built");
    }
}

#[test]
fn every_sample_has_its_options_among_those_that_are_fuzzed() {
    for spec in REGISTRY {
        let known = harness::options(spec.name);
        for (settings, _) in seeds::samples(spec, project()) {
            let has = |set: &Settings| settings.iter().all(|(key, value)| set.get(key) == Some(value));
            assert!(known.iter().any(has), "{}: {settings:?}", spec.name);
        }
    }
}

#[test]
fn what_decoders_send_holds_and_reaches_the_insides() {
    for spec in REGISTRY {
        let mut seen = Seen::default();
        for input in seeds::inputs(spec, project()) {
            seen += harness::run(spec.name, &input);
        }
        assert!(seen.accepted > 100 && seen.rejected > 10, "{}: {seen:?}", spec.name);
    }
}

#[test]
fn what_fuzzing_found_holds() {
    let found = include_str!("../fuzzed/found.txt").lines().filter(|line| !line.starts_with('#'));
    for line in found {
        let [name, digits, what] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let input: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        let ran = std::panic::catch_unwind(|| match REGISTRY.iter().find(|spec| spec.name == name) {
            Some(spec) => drop(harness::run(spec.name, &input)),
            None => drop(capture::run(&input)),
        });
        assert!(ran.is_ok(), "{name}: {what}");
    }
}

/// Changes of the kinds that a fuzzer makes. Always the same; another seed: `PASSBRIDGE_SEED`.
#[test]
fn changed_input_holds() {
    let seed = std::env::var("PASSBRIDGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let rounds = std::env::var("PASSBRIDGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(400);
    let mut random = fastrand::Rng::with_seed(seed);
    for spec in REGISTRY {
        let inputs = seeds::inputs(spec, project());
        for _ in 0..rounds {
            let mut input = random.choice(&inputs).unwrap().clone();
            let other = random.choice(&inputs).unwrap();
            for _ in 0..random.usize(1..6) {
                change(&mut input, other, &mut random);
            }
            let ran = std::panic::catch_unwind(|| harness::run(spec.name, &input));
            assert!(ran.is_ok(), "seed {seed}: {} {}", spec.name, hex(&input));
        }
    }
}

#[test]
fn a_capture_file_holds_whole_cut_and_changed() {
    let mut random = fastrand::Rng::with_seed(1);
    let inputs = capture::inputs();
    let records: u64 = inputs.iter().map(|input| capture::run(input)).sum();
    assert!(records > 10, "{records}");
    for _ in 0..3000 {
        let mut input = random.choice(&inputs).unwrap().clone();
        for _ in 0..random.usize(1..6) {
            change(&mut input, random.choice(&inputs).unwrap(), &mut random);
        }
        let ran = std::panic::catch_unwind(|| capture::run(&input));
        assert!(ran.is_ok(), "{}", hex(&input));
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let at = random.usize(..input.len());
    match random.u8(..8) {
        0 => input[at] ^= 1 << random.u8(..8),
        1 => input[at] = random.u8(..),
        2 => {
            let at = random.usize(..CONTROL.min(input.len()));
            input[at] = random.u8(..);
        }
        3 => {
            input.remove(at);
        }
        4 => input.insert(at, random.u8(..)),
        5 => input[at] = *random.choice(b"\0\r\n,;@$~|{}\"\x8d\x8e\x8f09").unwrap(),
        6 => {
            let piece = &other[random.usize(CONTROL.min(other.len())..=other.len())..];
            let piece = &piece[..random.usize(..=piece.len())];
            input.extend_from_slice(piece);
        }
        _ => input.truncate(CONTROL.max(at)),
    }
    if input.is_empty() {
        input.push(0);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_corpus_can_be_written() {
    let Some(place) = std::env::var_os("PASSBRIDGE_CORPUS").map(PathBuf::from) else { return };
    let write = |target: &str, inputs: Vec<Vec<u8>>| {
        let place = project().join(&place).join(target);
        std::fs::create_dir_all(&place).unwrap();
        for (at, input) in inputs.iter().enumerate() {
            std::fs::write(place.join(format!("seed-{at:04}")), input).unwrap();
        }
    };
    for spec in REGISTRY {
        write(spec.name, seeds::inputs(spec, project()));
    }
    write("capture", capture::inputs());
}
