//! What protocols say, whatever they hear and however long they are linked, against the lists.

use std::time::Duration;

use passbridge::testing::decoders::{self, Item, Output, REGISTRY, Range, Settings};
use passbridge::testing::model::chip::StoredRanges;
use passbridge::testing::sim::decoder::Kind;
use proptest::prelude::*;

use super::bytes;
use crate::support::allowed;

proptest! {
    /// Whatever a decoder says, however long it is linked, asked by hand or not, and when we leave.
    #[test]
    fn nothing_is_ever_said_that_changes_a_decoder(bytes in bytes(), from in 1_u64..2000, rewind: bool) {
        for spec in REGISTRY {
            let usual = Kind::from_name(spec.name).unwrap().settings();
            let more = spec.trials.options.iter().map(|set| decoders::settings(set));
            for (nth, settings) in [usual].into_iter().chain(more).enumerate() {
                let (mut protocol, mut out) = ((spec.make)(&settings).unwrap(), Output::default());
                protocol.connected(StoredRanges::default(), rewind, &mut out);
                protocol.feed(spec.trials.greeting, &mut out);
                for (second, piece) in (0..).zip(bytes.chunks(97)) {
                    protocol.tick(Duration::from_secs(second * 7), &mut out);
                    protocol.feed(piece, &mut out);
                }
                let range = Range { unit: None, file: None, from, to: from + 700 };
                let _refused = protocol.rewind(&range, &mut out);
                for second in 0..40 {
                    protocol.tick(Duration::from_secs(1000 + second * 7), &mut out);
                }
                protocol.leaving(&mut out);
                protocol.end(&mut out);
                let replies = out.items.iter().filter_map(|item| if let Item::Reply(bytes) = item { Some(&bytes[..]) } else { None });
                let said = replies.collect::<Vec<_>>().concat();
                if nth == 0 {
                    prop_assert_eq!(said.is_empty(), spec.commands.is_none(), "{}", spec.name);
                }
                prop_assert_eq!(allowed::forbidden(spec.name, &settings, &said), None, "{} {:?}", spec.name, settings);
            }
        }
    }
}

/// The lists are lists: what changes a decoder is on none of them.
#[test]
fn what_changes_a_decoder_is_not_allowed() {
    for spec in REGISTRY {
        for said in spec.trials.harmful {
            let told = allowed::forbidden(spec.name, &Settings::new(), said);
            assert!(told.is_some(), "{} {}", spec.name, said.escape_ascii());
        }
    }
    // The number of a message is echoed, whatever it is.
    assert_eq!(allowed::forbidden("mylaps", &Settings::new(), b"passbridge@AckPassing@\x84\x00\xcb@$"), None);
    let start = Settings::from([("start".to_owned(), "true".to_owned())]);
    assert_eq!(allowed::forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01PBRI"), None);
    assert!(allowed::forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01\0\0\0\0").is_some(), "not everybody's");
}
