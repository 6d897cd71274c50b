//! What a message of a decoder looks like when it is no chip read, and what the recognisers share.
//!
//! The protocols accept nearly any line as a life sign, which is right on a link that is known. A
//! line proves a protocol only where no other protocol sends it. A recogniser says that. It looks
//! at raw bytes without their line end or terminator. The bytes may belong to a frame that was
//! rejected: then they only show which protocol they were meant for.

/// What a message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The message names the decoder, or nothing else in the world looks like it.
    Name,
    /// Among the protocols here only this one sends it.
    Own,
    /// Other protocols send it too, or it is too short to prove anything.
    Shared,
}

/// How a decoder is recognised by its bytes.
#[derive(Clone, Copy)]
pub struct Recogniser {
    /// What a message that is no read shows about the protocol, if anything.
    pub sign: fn(&[u8]) -> Option<Sign>,
    /// Every frame has a checksum that is verified.
    pub is_checked: bool,
    /// Where the first frame begins in a recording that may begin anywhere.
    pub start: fn(&[u8]) -> &[u8],
}

/// For a protocol whose frames have an end, because it finds the first frame by itself.
pub(super) fn from_the_beginning(bytes: &[u8]) -> &[u8] {
    bytes
}

/// For a sign that is text.
pub(super) fn text(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).unwrap_or_default()
}

pub(super) fn has(raw: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(raw, part).is_some()
}

pub(super) fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `yyyy-MM-dd` with any digits.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
