//! What tests and fuzz targets try on a decoder: each says it for itself (`trials.rs` in its folder), so that they iterate over
//! the registry and have no table of their own.

use super::protocol::Options;

/// The next piece of a hostile stream: its `n`-th record.
pub type MakeRecord = Box<dyn Fn(usize) -> Vec<u8>>;

/// A stream that is made to be hostile.
pub struct HostileStream {
    /// How many bytes of it are tried.
    pub length: usize,
    /// What it is made of.
    pub record: MakeRecord,
}

/// Bytes of a stream that are tried unless it says otherwise.
pub const STREAM: usize = 400 << 10;

/// What is tried on one decoder.
pub struct Trials {
    /// The options under which it is tried: every form of the wire and every branch that an option chooses. The first ones are
    /// those that it needs, if it needs any.
    pub options: &'static [Options],
    /// What the decoder says first, so that a link that asks gets on.
    pub greeting: &'static [u8],
    /// Commands that would change the decoder, so that its list of what may be said must not have them. At least one.
    pub harmful: &'static [&'static [u8]],
    /// Frames come out in the order in which they came in. (Where not, rows wait for something, and others pass them.)
    pub in_order: bool,
    /// A value costs more to make than to run, so a fuzz target keeps it between two inputs. After
    /// [`Protocol::end`](super::Protocol::end) it is as new.
    pub is_costly: bool,
    /// Makes the frames in a stream right as far as their checksums and lengths go, so that what a fuzzer changes does not end at
    /// them. What is no frame stays as it is.
    pub repair: fn(&mut Vec<u8>),
    /// Records as it likes to see them, each of another box, location, file or unit, with numbers that leave gaps; and whatever
    /// else may make it hold more than its limit.
    pub hostile: fn() -> Vec<HostileStream>,
}

/// A hostile stream of the usual length.
pub(super) fn stream(record: impl Fn(usize) -> Vec<u8> + 'static) -> HostileStream {
    HostileStream { length: STREAM, record: Box::new(record) }
}

/// A hostile stream of text.
pub(super) fn text(line: impl Fn(usize) -> String + 'static) -> HostileStream {
    stream(move |n| line(n).into_bytes())
}

/// For frames without a checksum and a length.
pub(super) fn nothing_to_repair(_: &mut Vec<u8>) {}

/// For a decoder of which nothing is known that could make it hold much, beyond what is tried on every one.
pub(super) fn nothing_of_its_own() -> Vec<HostileStream> {
    Vec::new()
}

pub(super) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Repairs each piece between two ends.
pub(super) fn pieces(stream: &mut [u8], is_end: impl Fn(u8) -> bool, mut each: impl FnMut(&mut [u8])) {
    for piece in stream.split_mut(|byte| is_end(*byte)) {
        each(piece);
    }
}
