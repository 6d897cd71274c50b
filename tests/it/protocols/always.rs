//! What protocols say, whatever they hear and however long they are linked, against the lists.

use std::time::Duration;

use passbridge::chip::Held;
use passbridge::protocol::{Item, Output, REGISTRY, Range, Settings};
use proptest::prelude::*;

use super::{bytes, dialects};
use crate::support::allowed;

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

/// The lists are lists: what changes a decoder is on none of them.
#[test]
fn what_changes_a_decoder_is_not_allowed() {
    for (protocol, said) in [
        ("raceresult", &b"GETSTATUS\r\nCLEARFILES\r\n"[..]),
        ("raceresult", b"STARTOPERATION\r\n"),
        ("raceresult", b"SETTIME;2026-01-01;00:00:00.000\r\n"),
        ("raceresult", b"SETPUSHPASSINGS;1;1\r\n"),
        ("one4all", b"START\r\n"),
        ("one4all", b"CLEARFILES\r\n"),
        ("one4all", b"SETBOUNCE;5\r\n"),
        ("ultra", b"?rS"),
        ("ultra", b"t 10:00:00 01-01-2026\r"),
        ("ultra", b"6001\r"),
        ("p3", b"\x8e\x02\x0b\0\0\0\0\0\x05\0\x8f"),
        ("p3", b"\x8e\x02\x0b\0\0\0\0\0\x28\0\x8f"),
        ("llrp", b"\x04\x15\0\0\0\x0e\0\0\0\x01PBRI"),
        ("llrp", b"\x04\x16\0\0\0\x0e\0\0\0\x01\0\0\0\x07"),
        ("cloudbox", b"START\r\n"),
        ("cloudbox", b"GETSYSTEMTIME\r\nSTOP\r\n"),
        ("chronotrack", b"stop~Finish\r\n"),
        ("ipico", b"ab00070126112400000000\r\n"),
        ("timy", b"CLR\r"),
        ("impinj", b"\n"),
    ] {
        assert!(allowed::forbidden(protocol, &Settings::new(), said).is_some(), "{protocol} {}", said.escape_ascii());
    }
    // The number of a message is echoed, whatever it is.
    assert_eq!(allowed::forbidden("mylaps", &Settings::new(), b"passbridge@AckPassing@\x84\x00\xcb@$"), None);
    let start = Settings::from([("start".to_owned(), "true".to_owned())]);
    assert_eq!(allowed::forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01PBRI"), None);
    assert!(allowed::forbidden("llrp", &start, b"\x04\x15\0\0\0\x0e\0\0\0\x01\0\0\0\0").is_some(), "not everybody's");
}
