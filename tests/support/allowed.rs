//! What a box may say to a decoder that it only reads: the list in each decoder's folder
//! (`allowed.rs`).

use passbridge::testing::decoders::{Settings, spec};

/// The first thing among `said` (all bytes of one connection, in order) that is not on the
/// protocol's list under these options; also a command that is not ended.
pub fn forbidden(protocol: &str, set: &Settings, said: &[u8]) -> Option<String> {
    spec(protocol).expect("a protocol of the registry").forbidden(set, said)
}
