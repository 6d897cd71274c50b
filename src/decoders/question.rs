//! What the probe may send to a box that nobody knows. The probe sends only what is listed in a
//! decoder's `questions.rs`.
//!
//! What must hold: **a question can neither start, stop, clear, set nor consume anything**, neither
//! in the decoder that it is meant for nor in any other decoder that may be there. Each question
//! says why it is safe, and where that is known from. Therefore no question acknowledges anything,
//! because a decoder forgets what is acknowledged. No question begins a stream: `S0000` makes a
//! JChip bridge send what it kept, LLRP's ENABLE_EVENTS_AND_REPORTS makes a reader send what it
//! held back, and One4All's PUSHTAGS takes the push away from the program that has it. No question
//! is a ChronoTrack `start`.

/// A question that the probe may send.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// The bytes to send. If two decoders understand the same bytes, they share one question, with
    /// the same words.
    pub bytes: &'static [u8],
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// Such decoders are also found on serial lines.
    pub serial: bool,
    /// It is sent only where the port or the bytes show that the decoder speaks this protocol.
    pub known_only: bool,
    /// Lower ranks are asked first. The order is: questions without letters that have a meaning
    /// elsewhere, then words, then bare characters, and last binary questions.
    pub rank: u8,
}

/// A question to a known decoder, to see its clock and its last reads.
#[derive(Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The text to send. `{from}`, `{to}` and `{count}` stand for the last three numbers that the
    /// decoder counts.
    pub text: &'static str,
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is known from.
    pub source: &'static str,
}
