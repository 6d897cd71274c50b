//! What protocols say, whatever they hear and however long they are linked, against the lists.

use std::time::Duration;

use passbridge::testing::decoders::{Item, Output, REGISTRY, Range, Settings};
use passbridge::testing::model::chip::Held;
use proptest::prelude::*;

use super::{allowed, bytes, dialects};

proptest! {
    /// Whatever a decoder says, however long it is linked, asked by hand or not, and when we leave.
    #[test]
    fn nothing_is_ever_said_that_changes_a_decoder(bytes in bytes(), from in 1_u64..2000, rewind: bool) {
        let options = |name: &str| match name {
            "llrp" => vec![Settings::new(), dialects(name).remove(0)],
            _ => dialects(name),
        };
        for spec in REGISTRY {
            for settings in options(spec.name) {
                let (mut protocol, mut out) = ((spec.make)(&settings).unwrap(), Output::default());
                protocol.connected(Held::default(), rewind, &mut out);
                let greeting: &[u8] = match spec.name {
                    "chronotrack" => b"SimpleClient~3~CTP01\r\nack~getlocations~a~b\r\n",
                    "llrp" => b"\x04\x3f\0\0\0\x14\0\0\0\x01\0\xf6\0\x0a\x01\0\0\x06\0\0",
                    "jchip" => b"N0000bridge\r",
                    "mylaps" => b"Finish@Pong@$",
                    _ => b"",
                };
                protocol.feed(greeting, &mut out);
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
                let listens = matches!(spec.name, "impinj" | "lines" | "timy") || settings.contains_key("dialect");
                prop_assert_eq!(said.is_empty(), listens, "{}", spec.name);
                prop_assert_eq!(allowed::forbidden(spec.name, &settings, &said), None, "{} {:?}", spec.name, settings);
            }
        }
    }
}
