//! What a box may say to a decoder that it only reads: the list in each decoder's folder (`allowed.rs`).

use passbridge::testing::decoders::{Settings, spec};

/// The first thing among `said` (all bytes of one connection, in order) that is not on the protocol's list under these
/// options; also a command that is not ended.
pub fn forbidden(protocol: &str, set: &Settings, said: &[u8]) -> Option<String> {
    spec(protocol).expect("a protocol of the registry").forbidden(set, said)
}

#[cfg(test)]
mod tests {
    use super::forbidden;
    use passbridge::testing::decoders::{REGISTRY, Settings};

    /// The lists are lists: what changes a decoder is on none of them.
    #[test]
    fn what_changes_a_decoder_is_not_allowed() {
        for spec in REGISTRY {
            for said in spec.trials.harmful {
                let told = forbidden(spec.name, &Settings::new(), said);
                assert!(told.is_some(), "{} {}", spec.name, said.escape_ascii());
            }
        }
        // The number of a message is echoed, whatever it is.
        assert_eq!(forbidden("mylaps", &Settings::new(), b"passbridge@AckPassing@\x84\x00\xcb@$"), None);
        let start = Settings::from([("start".to_owned(), "true".to_owned())]);
        assert_eq!(forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01PBRI"), None);
        assert!(forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01\0\0\0\0").is_some(), "not everybody's");
    }
}
