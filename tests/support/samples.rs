//! The samples and captures in the decoders' folders. A sample is a line of JSON with the bytes and
//! what they say.

use std::path::{Path, PathBuf};

use passbridge::testing::decoders::{REGISTRY, Spec};
use serde_json::Value;

/// The folder of a decoder: its samples and captures lie beside its code.
pub fn folder(spec: &Spec) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decoders").join(spec.name)
}

/// Every capture of every decoder, in order.
#[allow(dead_code, reason = "each test program uses its part")]
pub fn captures() -> Vec<PathBuf> {
    let mut captures = Vec::new();
    for spec in REGISTRY {
        let folder = folder(spec).join("captures");
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths = entries.map(|entry| entry.unwrap().path());
        captures.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "capture")));
    }
    captures.sort();
    captures
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

/// `(protocol, sample)` of every line of every decoder.
pub fn samples() -> Vec<(&'static str, Value)> {
    let mut samples = Vec::new();
    for spec in REGISTRY {
        let path = folder(spec).join("samples.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        samples.extend(text.lines().map(|line| (spec.name, serde_json::from_str(line).unwrap())));
    }
    samples
}
