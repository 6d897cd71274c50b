//! What tests and fuzz targets try on a decoder. Each decoder says it for itself (`trials.rs` in
//! its folder), so the tests iterate over the registry and have no table of their own.

use super::protocol::Options;

/// The next piece of a hostile stream: its `n`-th record.
pub type MakeRecord = Box<dyn Fn(usize) -> Vec<u8>>;

/// A stream that is made to be hostile.
pub struct HostileStream {
    /// How many bytes of the stream are tried.
    pub length: usize,
    /// Makes the records of the stream.
    pub record: MakeRecord,
}

/// The usual length of a hostile stream in bytes.
pub const STREAM: usize = 400 << 10;

/// What is tried on one decoder.
pub struct Trials {
    /// The options under which the decoder is tried: every form of the wire and every branch that
    /// an option chooses. The first entry has the options that the decoder needs, if it needs any.
    pub options: &'static [Options],
    /// What the decoder sends first, so that a link that asks questions makes progress.
    pub greeting: &'static [u8],
    /// Commands that would change the decoder, so its list of allowed commands must not have them.
    /// There is at least one.
    pub harmful: &'static [&'static [u8]],
    /// Frames leave the protocol in the order in which they arrived. (Otherwise some rows wait for
    /// something, and others pass them.)
    pub in_order: bool,
    /// A value costs more to make than to run, so a fuzz target keeps it between two inputs. After
    /// [`Protocol::end`](super::Protocol::end) it is like a new one.
    pub is_costly: bool,
    /// Corrects the checksums and lengths of the frames in a stream, so that a change by the fuzzer
    /// is not stopped by them. Bytes that are no frame stay as they are.
    pub repair: fn(&mut Vec<u8>),
    /// Records that the protocol accepts, each of another box, location, file or unit, with numbers
    /// that leave gaps. Also anything else that may make the protocol hold more than its limit.
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

/// For a decoder for which no special stream is known that makes it hold much. The streams that are
/// tried on every decoder are enough.
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
