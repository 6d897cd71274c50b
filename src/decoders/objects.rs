//! Splits bytes into JSON objects, for decoders that write one object after the other without a
//! fixed delimiter.
//!
//! What must hold:
//! * Objects may touch, be separated by white space or line ends, and be printed over several
//!   lines.
//! * The result is the same however the bytes are cut.
//! * **A damaged object costs only itself.** The splitter gives up an object where it cannot go on
//!   as JSON: at a control character inside a string (usually a line end), at a `{` where no value
//!   can stand, and at `{"` inside a string. The last two begin the next object. A lost brace or
//!   quote therefore does not swallow the next object. (No decoder has a `{` in its texts.)
//! * The splitter holds at most [`LIMIT`] bytes. It returns a longer object once, cut off, and
//!   skips the rest of that object to the next line end.
//!
//! This module only *delimits* objects. The caller's parser decides whether they are JSON.

/// Longest object in bytes. It is twenty times what any decoder sends.
pub(super) const LIMIT: usize = 16 * 1024;
/// Deepest nesting. Decoders send two levels.
const DEPTH: u32 = 32;

/// One part of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object<'a> {
    /// An object from `{` to its `}`.
    Whole(&'a [u8]),
    /// Bytes that belong to no object, or an object that was cut off.
    Broken(&'a [u8]),
    /// The first [`LIMIT`] bytes of a longer object.
    TooLong(&'a [u8]),
}

/// The splitter, with the bytes of the object that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Objects {
    held: Vec<u8>,
    place: Place,
}

/// Where in the JSON the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between objects.
    #[default]
    Outside,
    /// In bytes that belong to no object.
    Noise,
    /// In an object, outside a string. Each level has one bit in `arrays`, which says that the
    /// level is an array. `last` is the last byte that is no blank.
    Inside { depth: u32, arrays: u32, last: u8 },
    /// In a string of an object.
    Text { depth: u32, arrays: u32, last: u8 },
    /// In the rest of an object that was returned as too long.
    Skipping,
}

/// What the splitter does with a byte.
enum Step {
    /// The byte belongs to the part being read.
    Goes(Place),
    /// The byte ends the object.
    Ends,
    /// The part being read is broken. It ends before this byte, which begins the next part.
    Breaks(Place),
    /// As `Breaks`, but the next part began with the `{` before this byte.
    BrokeBefore,
}

impl Objects {
    /// Takes bytes, cut anywhere, and passes each part that they end to `each`, in order.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Object<'_>)) {
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            let room = LIMIT.saturating_sub(self.held.len() + at - start);
            at += self.pass(&bytes[at..bytes.len().min(at + room)]);
            let Some(&byte) = bytes.get(at) else { break };
            match step(self.place, byte) {
                Step::Goes(place) => {
                    if place == Place::Outside || place == Place::Skipping {
                        start = at + 1; // this byte belongs to no part
                    }
                    self.place = place;
                }
                Step::Ends => {
                    self.give(&bytes[start..=at], Object::Whole, &mut each);
                    (start, self.place) = (at + 1, Place::Outside);
                }
                Step::Breaks(place) => {
                    self.give(&bytes[start..at], Object::Broken, &mut each);
                    (start, self.place) = (if place == Place::Outside { at + 1 } else { at }, place);
                }
                Step::BrokeBefore => {
                    if at > start {
                        self.give(&bytes[start..at - 1], Object::Broken, &mut each);
                        start = at - 1;
                    } else {
                        self.held.pop(); // the brace arrived with an earlier piece
                        self.give(b"", Object::Broken, &mut each);
                        self.held.push(b'{');
                    }
                    self.place = Place::Text { depth: 1, arrays: 0, last: 0 };
                }
            }
            if self.place != Place::Skipping && self.held.len() + (at + 1).saturating_sub(start) > LIMIT {
                let room = LIMIT - self.held.len();
                self.give(&bytes[start..start + room], Object::TooLong, &mut each);
                (start, self.place) = (at + 1, Place::Skipping);
            }
            at += 1;
        }
        self.held.extend_from_slice(&bytes[start.min(bytes.len())..]);
    }

    /// The input ended. Returns the bytes that are left, if any.
    pub(super) fn end(&mut self) -> Option<Vec<u8>> {
        self.place = Place::Outside;
        Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty())
    }

    /// Counts the bytes at the front that change nothing but `last`, and takes them at once. Most
    /// bytes are of this kind. The result is the same as that of [`step`] for each byte.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let stop = match self.place {
            Place::Text { last: b'\\', .. } => return 0,
            Place::Text { .. } => bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)),
            Place::Inside { .. } => {
                bytes.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']') || is_blank(*byte))
            }
            Place::Outside | Place::Noise | Place::Skipping => return 0,
        };
        let count = stop.unwrap_or(bytes.len());
        if let Place::Text { last, .. } | Place::Inside { last, .. } = &mut self.place {
            *last = bytes[..count].last().copied().unwrap_or(*last);
        }
        count
    }

    fn give<'a>(
        &'a mut self,
        rest: &'a [u8],
        what: impl Fn(&'a [u8]) -> Object<'a>,
        each: &mut impl FnMut(Object<'_>),
    ) {
        if self.held.is_empty() {
            each(what(rest)); // the usual case: nothing is copied
        } else {
            self.held.extend_from_slice(rest);
            let held = std::mem::take(&mut self.held);
            each(match what(rest) {
                Object::Whole(_) => Object::Whole(&held),
                Object::Broken(_) => Object::Broken(&held),
                Object::TooLong(_) => Object::TooLong(&held),
            });
        }
    }
}

const BEGUN: Place = Place::Inside { depth: 1, arrays: 0, last: b'{' };

fn step(place: Place, byte: u8) -> Step {
    match (place, byte) {
        (Place::Outside, b'{') => Step::Goes(BEGUN),
        (Place::Outside, byte) if is_blank(byte) => Step::Goes(Place::Outside),
        (Place::Outside, _) => Step::Goes(Place::Noise),
        (Place::Noise, b'{') => Step::Breaks(BEGUN),
        (Place::Noise, b'\r' | b'\n') => Step::Breaks(Place::Outside),
        (Place::Noise, _) => Step::Goes(Place::Noise),
        (Place::Skipping, b'\r' | b'\n') => Step::Goes(Place::Outside),
        (Place::Skipping, _) => Step::Goes(Place::Skipping),
        (Place::Text { last: b'{', .. }, b'"') => Step::BrokeBefore,
        (Place::Text { depth, arrays, last }, b'"') if last != b'\\' => {
            Step::Goes(Place::Inside { depth, arrays, last: b'"' })
        }
        (Place::Text { .. }, ..0x20) => Step::Breaks(if is_blank(byte) { Place::Outside } else { Place::Noise }),
        (Place::Text { depth, arrays, last: b'\\' }, _) => Step::Goes(Place::Text { depth, arrays, last: 0 }), // escaped
        (Place::Text { depth, arrays, .. }, byte) => Step::Goes(Place::Text { depth, arrays, last: byte }),
        (Place::Inside { depth, arrays, last }, byte) => inside(depth, arrays, last, byte),
    }
}

fn inside(depth: u32, arrays: u32, last: u8, byte: u8) -> Step {
    let in_array = arrays >> (depth - 1) & 1 == 1;
    match byte {
        b'"' => Step::Goes(Place::Text { depth, arrays, last: 0 }),
        b'{' if last != b':' && !(in_array && matches!(last, b'[' | b',')) => Step::Breaks(BEGUN),
        b'{' | b'[' if depth < DEPTH => {
            let level = u32::from(byte == b'[') << depth;
            let arrays = arrays & !(1 << depth) | level;
            Step::Goes(Place::Inside { depth: depth + 1, arrays, last: byte })
        }
        b'{' | b'[' => Step::Breaks(Place::Noise),
        b'}' | b']' if depth == 1 => {
            if byte == b'}' {
                Step::Ends
            } else {
                Step::Goes(Place::Inside { depth, arrays, last: byte }) // this is no JSON, but the object may still end
            }
        }
        b'}' | b']' => Step::Goes(Place::Inside { depth: depth - 1, arrays, last: byte }),
        byte if is_blank(byte) => Step::Goes(Place::Inside { depth, arrays, last }),
        byte => Step::Goes(Place::Inside { depth, arrays, last: byte }),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every part as text: broken ones with `!`, too long ones as their length with `+`, the rest
    /// with `…`.
    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut objects = Objects::default();
        for piece in pieces {
            objects.feed(piece, |object| {
                seen.push(match object {
                    Object::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Object::Broken(bytes) => format!("{}!", String::from_utf8_lossy(bytes)),
                    Object::TooLong(bytes) => format!("{}+", bytes.len()),
                });
            });
        }
        seen.extend(objects.end().map(|rest| format!("{}…", String::from_utf8_lossy(&rest))));
        seen
    }

    #[test]
    fn objects_need_no_delimiter_and_may_have_any() {
        let text = "{\"a\":1}{\"b\":\"}{\\\"\"}\r\n\n {\n  \"c\": {\n \"d\": [1, {}]\n}\n}\n";
        let whole = ["{\"a\":1}", "{\"b\":\"}{\\\"\"}", "{\n  \"c\": {\n \"d\": [1, {}]\n}\n}"];
        assert_eq!(split(&[text.as_bytes()]), whole);
    }

    #[test]
    fn a_damaged_object_costs_itself_and_not_the_next_one() {
        for (bad, given) in [
            ("{\"a\":1|", "{\"a\":1|!"),       // the closing brace is lost
            ("{\"a\":\"1}\n", "{\"a\":\"1}!"), // the closing quote is lost
            ("\"a\":1}\n", "\"a\":1}!"),       // the beginning is lost
            ("noise", "noise!"),
        ] {
            let text = format!("{bad}{{\"b\":2}}");
            assert_eq!(split(&[text.as_bytes()]), [given, "{\"b\":2}"], "{bad}");
        }
        assert_eq!(split(&[b"{\"a\":"]), ["{\"a\":…"]);
        assert_eq!(split(&[b"{\"a:1}{", b"\"b\":2}"]), ["{\"a:1}!", "{\"b\":2}"], "no quote says where the text ends");
    }

    #[test]
    fn what_is_passed_over_at_once_is_what_each_step_would_have_made_of_it() {
        for last in [b'{', b'[', b',', b':', b'"', b'\\', b'1', 0] {
            for place in [Place::Text { depth: 2, arrays: 0, last }, Place::Inside { depth: 2, arrays: 2, last }] {
                for byte in 0..=u8::MAX {
                    let mut objects = Objects { held: Vec::new(), place };
                    if objects.pass(&[byte]) == 1 {
                        assert!(matches!(step(place, byte), Step::Goes(to) if to == objects.place), "{place:?} {byte}");
                    } else {
                        assert_eq!(objects.place, place);
                    }
                }
            }
        }
    }

    #[test]
    fn an_endless_object_is_given_once_and_skipped() {
        let long = format!("{{\"a\":\"{}", "x".repeat(3 * LIMIT));
        assert_eq!(split(&[long.as_bytes(), b"\n{\"b\":2}"]), [format!("{LIMIT}+"), "{\"b\":2}".into()]);
    }

    proptest! {
        #[test]
        fn objects_do_not_depend_on_how_the_bytes_were_cut(
            pieces in proptest::collection::vec(
                prop_oneof![
                    6 => proptest::collection::vec(
                        proptest::sample::select(b"{}[]\",:\\ \n\x01a1".to_vec()), 0..20),
                    2 => Just(br#"{"a":{"b":[1,{"c":"x"}]}}"#.to_vec()),
                    1 => (0usize..2 * LIMIT).prop_map(|length| vec![b'x'; length]),
                    1 => (0usize..LIMIT + 9).prop_map(|length| [b"{\"".to_vec(), vec![b'y'; length]].concat()),
                ],
                0..10,
            ),
            size in 1usize..3000,
        ) {
            let whole = pieces.concat();
            let expected = split(&[&whole]);
            let cut: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&split(&cut), &expected);
            prop_assert_eq!(&split(&whole.chunks(size).collect::<Vec<_>>()), &expected);
        }
    }
}
