//! Raw bytes as text that survives a log line, a terminal and a diff.
//!
//! Must hold: [`unescape`]`(`[`escape`]`(bytes))` is `bytes`, for any bytes. The text is printable
//! ASCII only, so it contains no line end, no tab and no terminal control. Printable ASCII stands
//! for itself except the backslash, which is `\\`. Tab, LF and CR are `\t`, `\n`, `\r`. Every other
//! byte is `\xNN` (lower-case hex).
//!
//! Not base64 or plain hex, because a timer reads this text to see what the decoder really sent.

use std::io::{self, Write};

/// The text form of `bytes`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    escape_into(&mut text, bytes);
    String::from_utf8(text).unwrap_or_default() // only ASCII was written
}

/// Appends the text form of `bytes`.
pub(crate) fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b'\\';
    // No end before the last byte, so that many bytes are looked at in one step of the processor.
    if bytes.iter().fold(true, |all, byte| all & plain(byte)) {
        return out.extend_from_slice(bytes); // nearly every frame
    }
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// Output for people: lines as they are, but every byte that could control a terminal in the form
/// of [`escape`]. Output for programs is written unchanged, without this.
pub(crate) struct ForTerminal<W>(pub W);

impl<W: Write> Write for ForTerminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match byte {
                b'\n' | b'\t' | b'\\' => text.push(*byte),
                _ => escape_into(&mut text, &[*byte]),
            }
        }
        self.0.write_all(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text is not what [`escape`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an escaped text: byte {at} is not printable ASCII, or begins an unknown escape")]
pub struct NotEscaped {
    /// Offset of the offending byte in the text.
    pub at: usize,
}

/// The bytes that `text` stands for. Hex digits may be of either case.
pub fn unescape(text: &str) -> Result<Vec<u8>, NotEscaped> {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (value, width) = match byte {
            b'\\' => escaped(&text[at + 1..]).ok_or(NotEscaped { at })?,
            0x20..=0x7e => (byte, 1),
            _ => return Err(NotEscaped { at }),
        };
        bytes.push(value);
        at += width;
    }
    Ok(bytes)
}

/// Decodes what follows a backslash: returns the byte for which it stands, and the width of the
/// whole escape.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    let digit = |at: usize| rest.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    match rest.first()? {
        b'\\' => Some((b'\\', 2)),
        b't' => Some((b'\t', 2)),
        b'n' => Some((b'\n', 2)),
        b'r' => Some((b'\r', 2)),
        b'x' => Some((u8::try_from(digit(1)? * 16 + digit(2)?).ok()?, 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_decoder_sends_stays_readable() {
        assert_eq!(escape(b"aa01058001e9\r\n"), "aa01058001e9\\r\\n");
        assert_eq!(escape("a\\b\té\0\x7f".as_bytes()), "a\\\\b\\t\\xc3\\xa9\\x00\\x7f");
    }

    #[test]
    fn text_that_was_damaged_is_refused_with_its_place() {
        for (text, at) in [("ab\\", 2), ("\\q", 0), ("a\\x0", 1), ("\\xg0", 0), ("a\nb", 1), ("é", 0), ("ok\\x4", 2)] {
            assert_eq!(unescape(text), Err(NotEscaped { at }), "{text:?}");
        }
    }

    #[test]
    fn a_terminal_gets_lines_and_nothing_that_steers_it() {
        let mut seen = ForTerminal(Vec::new());
        seen.write_all("a\tb\\\n\x1b]0;owned\x07\u{9b}2J\u{202e}\r\n".as_bytes()).unwrap();
        assert_eq!(seen.0, b"a\tb\\\n\\x1b]0;owned\\x07\\xc2\\x9b2J\\xe2\\x80\\xae\\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_their_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = escape(&bytes);
            prop_assert!(text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = unescape(&text);
        }
    }
}
