//! The shipped example has every key.

use super::*;
use crate::config::expect::EXPECT;
use crate::config::notify::NOTIFY;

#[test]
fn the_example_shows_every_key_there_is() {
    let example = include_str!("../../../config/passbridge.toml");
    let keys = [DECODER, CLOUD, UPLOAD, PASSING, KEEP, STATUS, LOG, NOTIFY, EXPECT].concat();
    for key in keys.iter().filter(|key| !matches!(**key, "api_key" | "set" | "locations")) {
        let shown = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = "));
        assert!(example.lines().any(shown), "{key}");
    }
    for section in ROOT.iter().filter(|key| !matches!(**key, "name" | "data_dir")) {
        assert!(example.contains(&format!("[{section}]")), "{section}");
    }
    for protocol in REGISTRY {
        assert!(example.contains(protocol.name), "{}", protocol.name);
    }
}
