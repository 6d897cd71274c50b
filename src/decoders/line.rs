//! Splits bytes into lines, for the protocols that send lines.
//!
//! What must hold:
//! * A line ends at CR, LF or CR LF. Some protocols add one more byte ([`Lines::also_ended_by`]).
//! * The caller sees blank lines, because in some protocols a blank line ends a range that was
//!   asked for. CR LF is one line end, also when it is cut between two calls, so it makes no extra
//!   blank line.
//! * The result is the same however the bytes are cut.
//! * The splitter holds at most [`LIMIT`] bytes. It returns a longer line once, as
//!   [`Line::TooLong`] with its first [`LIMIT`] bytes, as soon as the line is known to be too long.
//!   It skips the rest of that line to the next line end. A wrong baud rate therefore costs neither
//!   memory nor the line after it.

/// Longest line in bytes, without its end. It is ten times what any decoder sends.
pub(super) const LIMIT: usize = 4096;

/// One line as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end. It is empty for a blank line.
    Whole(&'a [u8]),
    /// The first [`LIMIT`] bytes of a longer line. The rest is not returned.
    TooLong(&'a [u8]),
}

/// The splitter, with the bytes of the line that has not ended yet.
#[derive(Debug)]
pub(super) struct Lines {
    held: Vec<u8>,
    also: u8,
    /// The last byte was CR: an LF right after it belongs to it.
    after_cr: bool,
    /// Inside a line that was returned as too long.
    skipping: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self::also_ended_by(b'\n')
    }
}

impl Lines {
    /// A splitter for lines that end at `also` as well.
    pub(super) fn also_ended_by(also: u8) -> Self {
        Self { held: Vec::new(), also, after_cr: false, skipping: false }
    }

    /// Takes bytes, cut anywhere, and passes each line that they end to `each`, in order.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while !bytes.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if bytes[0] == b'\n' {
                    bytes = &bytes[1..];
                    continue;
                }
            }
            let Some(at) = memchr::memchr3(b'\r', b'\n', self.also, bytes) else {
                self.hold(bytes, &mut each);
                return;
            };
            if self.held.is_empty() && !self.skipping && at <= LIMIT {
                each(Line::Whole(&bytes[..at])); // the usual case: nothing is copied
            } else {
                self.hold(&bytes[..at], &mut each);
                self.finish(&mut each);
            }
            self.after_cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
        }
    }

    /// The input ended. Returns the last line if it has no end, but not if it was already returned
    /// as too long.
    pub(super) fn end(&mut self, mut each: impl FnMut(Line<'_>)) {
        self.after_cr = false;
        if self.held.is_empty() {
            self.skipping = false;
        } else {
            self.finish(&mut each);
        }
    }

    fn hold(&mut self, part: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if self.skipping {
            return;
        }
        let room = LIMIT - self.held.len();
        self.held.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            each(Line::TooLong(&self.held));
            self.held.clear();
            self.skipping = true;
        }
    }

    fn finish(&mut self, each: &mut impl FnMut(Line<'_>)) {
        if self.skipping {
            self.skipping = false;
        } else {
            each(Line::Whole(&self.held));
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every line as text, a too long one as its length with `!`.
    fn split(mut lines: Lines, pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut each = |line: Line<'_>| {
            seen.push(match line {
                Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Line::TooLong(bytes) => format!("{}!", bytes.len()),
            });
        };
        for piece in pieces {
            lines.feed(piece, &mut each);
        }
        lines.end(&mut each);
        seen
    }

    #[test]
    fn every_usual_line_end_ends_a_line_once() {
        assert_eq!(split(Lines::default(), &[b"a\r\nb\nc\rd\r\n"]), ["a", "b", "c", "d"]);
        assert_eq!(split(Lines::default(), &[b"a\r", b"\nb\r", b"c", b"\r\n"]), ["a", "b", "c"]);
    }

    #[test]
    fn a_blank_line_is_seen_because_it_ends_a_pulled_range() {
        assert_eq!(split(Lines::default(), &[b"a\r\n\r\n\r", b"\nb\n\n"]), ["a", "", "", "b", ""]);
    }

    #[test]
    fn a_last_line_without_an_end_counts_when_the_input_ends() {
        assert_eq!(split(Lines::default(), &[b"a\nb"]), ["a", "b"]);
        assert_eq!(split(Lines::default(), &[b"a\r\n"]), ["a"]);
    }

    #[test]
    fn a_protocol_may_end_its_lines_with_a_byte_of_its_own() {
        assert_eq!(split(Lines::also_ended_by(b'|'), &[b"a|b|\r\nc"]), ["a", "b", "", "c"]);
    }

    #[test]
    fn a_flood_without_line_ends_is_given_once_and_costs_not_the_next_line() {
        let flood = vec![b'x'; 10 * LIMIT];
        assert_eq!(split(Lines::default(), &[&flood, &flood, b"\r\nnext\r\n"]), ["4096!", "next"]);
        assert_eq!(split(Lines::default(), &[&flood[..LIMIT], b"\nnext"]), ["x".repeat(LIMIT), "next".into()]);
        assert_eq!(split(Lines::default(), &[&flood]), ["4096!"]);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_were_cut(
            pieces in proptest::collection::vec(
                prop_oneof![
                    4 => proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a'), Just(b'|')], 0..12),
                    1 => (0usize..3 * LIMIT).prop_map(|length| vec![b'x'; length]),
                ],
                0..12,
            ),
            size in 1usize..5000,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let expected = split(Lines::default(), &[&whole]);
            let cut: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&split(Lines::default(), &cut), &expected);
            prop_assert_eq!(&split(Lines::default(), &whole.chunks(size).collect::<Vec<_>>()), &expected);
        }
    }
}
