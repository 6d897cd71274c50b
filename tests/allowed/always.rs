//! What protocols say, whatever they hear and however long they are linked, against the lists.

use std::time::Duration;

use passbridge::testing::decoders::{self, Item, Output, REGISTRY, Range};
use passbridge::testing::model::chip::Held;
use passbridge::testing::sim::decoder::Kind;
use proptest::prelude::*;

use super::{allowed, bytes};

proptest! {
    /// Whatever a decoder says, however long it is linked, asked by hand or not, and when we leave.
    #[test]
    fn nothing_is_ever_said_that_changes_a_decoder(bytes in bytes(), from in 1_u64..2000, rewind: bool) {
        for spec in REGISTRY {
            let usual = Kind::from_name(spec.name).unwrap().settings();
            let more = spec.trials.options.iter().map(|set| decoders::settings(set));
            for (nth, settings) in [usual].into_iter().chain(more).enumerate() {
                let (mut protocol, mut out) = ((spec.make)(&settings).unwrap(), Output::default());
                protocol.connected(Held::default(), rewind, &mut out);
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
