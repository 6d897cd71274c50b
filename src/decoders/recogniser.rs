//! What a message of a decoder looks like when it is no chip read, and what recognisers share.
//!
//! The protocols take nearly any line for a life sign, as they should on a link that is known. A proof it is only where nothing
//! else says it, and that is what a recogniser tells. It looks at raw bytes without their line end or terminator. They may be
//! of a frame that was rejected: then they only show what it was meant to be.

/// What a message shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It names itself, or nothing else in the world looks like it.
    Name,
    /// Of the protocols here only this one says it.
    Own,
    /// Others say it too, or it is too short to prove anything.
    Shared,
}

/// How a decoder is known by its bytes.
#[derive(Clone, Copy)]
pub struct Recogniser {
    /// What a message that is no read shows of the protocol, if anything.
    pub sign: fn(&[u8]) -> Option<Sign>,
    /// Every frame is under a checksum that is verified.
    pub is_checked: bool,
    /// Where in a recording that may begin anywhere the first frame begins.
    pub start: fn(&[u8]) -> &[u8],
}

/// For a protocol whose frames have an end: it finds the first one by itself.
pub(super) fn from_the_beginning(bytes: &[u8]) -> &[u8] {
    bytes
}

/// For a sign that is in text.
pub(super) fn text(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).unwrap_or_default()
}

pub(super) fn has(raw: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(raw, part).is_some()
}

pub(super) fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `yyyy-MM-dd`, whatever the digits.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
