//! What the probe may say to a box that nobody knows. Only what stands in a decoder's `questions.rs` is ever sent.
//!
//! What must hold: **a question can neither start, stop, clear, set nor consume anything**, in the decoder it is for nor in any
//! other that may be there. Each says why, and where that is from. So there is none that acknowledges (a decoder forgets what is
//! acknowledged), none that begins a stream (`S0000` has a JChip bridge send what it kept, LLRP's ENABLE_EVENTS_AND_REPORTS has a
//! reader give what it held back, One4All's PUSHTAGS takes the push from the program that has it), and no ChronoTrack `start`.

/// Something that may be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// What is sent. Two decoders may understand the same bytes: then their questions are one, with the same words.
    pub bytes: &'static [u8],
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is from.
    pub source: &'static str,
    /// Such decoders are on serial lines.
    pub serial: bool,
    /// It is sent only where the port or the bytes say that it is this protocol.
    pub known_only: bool,
    /// The lower ones are asked first: those without letters that mean something elsewhere before words, words before bare
    /// characters, all of them before binary.
    pub rank: u8,
}

/// A question to a decoder that is known, to see its clock and its last reads.
#[derive(Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// What is sent. `{from}`, `{to}` and `{count}` are the last three numbers of those it counts.
    pub text: &'static str,
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is from.
    pub source: &'static str,
}
