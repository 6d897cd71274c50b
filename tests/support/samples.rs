//! The samples of `tests/vectors`: a line of JSON each, with the bytes and what they say.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Sample files and the protocol each is for.
const VECTORS: &[(&str, &str)] = &[
    ("alge_timy", "timy"),
    ("amb_p3", "p3"),
    ("chronotrack_ctp01", "chronotrack"),
    ("cloudbox", "cloudbox"),
    ("impinj_speedway_connect", "impinj"),
    ("ipico", "ipico"),
    ("jchip", "jchip"),
    ("lines", "lines"),
    ("llrp", "llrp"),
    ("macsha_one4all", "one4all"),
    ("mylaps_tcpip", "mylaps"),
    ("raceresult", "raceresult"),
    ("rfid_ultra", "ultra"),
];

/// Where the tests' data is.
pub fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The sample's bytes: text, or `hex:` and digits.
pub fn raw(sample: &Value) -> Vec<u8> {
    let raw = sample["raw"].as_str().unwrap();
    raw.strip_prefix("hex:").map_or_else(|| raw.as_bytes().to_vec(), hex)
}

/// Bytes from hexadecimal digits, on one line or many.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_ascii_whitespace().collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `(protocol, sample)` of every line. A file that is for no protocol is a mistake.
pub fn samples() -> Vec<(&'static str, Value)> {
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(tests_dir().join("vectors")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (_, protocol) =
            VECTORS.iter().find(|(file, _)| *file == stem).unwrap_or_else(|| panic!("{stem} is for no protocol"));
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            samples.push((*protocol, serde_json::from_str(line).unwrap()));
        }
    }
    samples
}
