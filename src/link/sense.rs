//! Recognises whether a protocol can make sense at all of what its decoder sends. The wrong
//! protocol and the wrong baud rate are mistakes of the set-up, and both look like a decoder that
//! is quiet.
//!
//! What must hold:
//! * **A decoder whose reads are understood is never called wrong** because of a line that its
//!   protocol does not know. Once the protocol understood something on a connection, only another
//!   protocol that is recognised counts.
//! * **A few bytes prove nothing.** A connection begins in the middle of a line, and the answer to
//!   a question may be cut.
//! * **Bounded.** The last [`SEEN`] bytes are kept, and they are examined once in [`AGAIN`].
//! * Pure: bytes, frames and moments are passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::decoders::foreign;
use crate::decoders::recognise::{Grade, recognise};
use crate::decoders::recogniser::Sign;
use crate::decoders::{Frame, Item, Settings, Spec};

/// Bytes that are kept in order to recognise the protocol.
const SEEN: usize = 4096;
/// Bytes that make no sense for this long are a problem.
const LASTS: Duration = Duration::from_secs(20);
/// Bytes that no protocol of text sends are a problem earlier, after this long.
const GARBAGE_LASTS: Duration = Duration::from_secs(5);
/// At least this many bytes are needed to call them garbage,
const GARBAGE: usize = 24;
/// and at most this many in a hundred may be printable. At a wrong rate about half of all bytes
/// are.
const PRINTABLE: usize = 75;
/// Time between two attempts to recognise what the bytes are.
const AGAIN: Duration = Duration::from_secs(20);
/// Rejected frames that prove a mistake, where the protocol never understood anything.
const REJECTED: u32 = 2;
/// Bytes that form no frame at all, and that prove a mistake.
const FRAMELESS: u64 = 64;

/// What the decoder's bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nonsense {
    /// Another protocol: the names of those that fit, the best first. The list is empty if no known
    /// protocol fits.
    Protocol(Vec<&'static str>),
    /// This protocol with other options.
    Options(Settings),
    /// Not a decoder: the name of what it is.
    Foreign(&'static str),
    /// The baud rate of the line is wrong.
    Baud,
}

/// What one decoder sent since its protocol last understood something.
#[derive(Debug, Default)]
pub(super) struct Sense {
    seen: VecDeque<u8>,
    /// When the first byte arrived that the protocol did not understand.
    since: Option<Instant>,
    rejected: u32,
    /// Number of bytes, without blanks.
    bytes: u64,
    /// The protocol understood something on this connection.
    proven: bool,
    looked: Option<Instant>,
    /// What the board shows now.
    shown: Option<Nonsense>,
}

impl Sense {
    /// Called for a new connection: another device may answer there now.
    pub(super) fn connected(&mut self) {
        self.proven = false;
    }

    /// Takes bytes, and what the protocol made of them. Returns whether the protocol understood
    /// something.
    pub(super) fn feed(&mut self, spec: &Spec, bytes: &[u8], items: &[Item], now: Instant) -> bool {
        if items.iter().any(|item| is_understood(spec, item)) {
            *self = Self { proven: true, ..Self::default() };
            return true;
        }
        let visible = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).count() as u64;
        if visible == 0 && self.since.is_none() {
            return false; // blank lines are signs of life
        }
        self.since.get_or_insert(now);
        self.bytes += visible;
        let rejected = items.iter().filter(|item| {
            matches!(item, Item::Frame(framed)
            if matches!(framed.frame, Frame::Rejected(_)))
        });
        self.rejected = self.rejected.saturating_add(rejected.count() as u32);
        let bytes = &bytes[bytes.len().saturating_sub(SEEN)..];
        self.seen.extend(bytes);
        self.seen.drain(..self.seen.len().saturating_sub(SEEN));
        false
    }

    /// Returns what is wrong, unless nothing is or it was returned before. `serial` means that the
    /// wire has a baud rate, which may be wrong. Called about once a second.
    pub(super) fn look(&mut self, spec: &Spec, set: &Settings, serial: bool, now: Instant) -> Option<Nonsense> {
        let lasts = now.duration_since(self.since?);
        if self.looked.is_some_and(|at| now.duration_since(at) < AGAIN) {
            return None;
        }
        let text = is_text(spec, set);
        let garbage = self.seen.len() >= GARBAGE && foreign::printable(self.seen.make_contiguous()) < PRINTABLE;
        let enough = self.rejected >= REJECTED || self.bytes >= FRAMELESS;
        let early = serial && text && garbage && enough && !self.proven;
        if lasts < if early { GARBAGE_LASTS } else { LASTS } {
            return None;
        }
        self.looked = Some(now);
        let found = self.judge(spec, set, serial, garbage)?;
        (self.shown.as_ref() != Some(&found)).then(|| self.shown.insert(found).clone())
    }

    fn judge(&mut self, spec: &Spec, set: &Settings, serial: bool, garbage: bool) -> Option<Nonsense> {
        let bytes = self.seen.make_contiguous();
        let found: Vec<_> = recognise(bytes).into_iter().filter(|found| found.grade >= Grade::Likely).collect();
        let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.spec.name == spec.name);
        if let Some(own) = own.into_iter().next() {
            // If the options that are set are those found, no other options would read these bytes
            // better.
            let other = own.settings.iter().any(|(key, value)| set.get(key) != Some(value));
            let reads = own.tally.reads + own.tally.markers > 0;
            return (other && reads && !self.proven).then_some(Nonsense::Options(own.settings));
        }
        if !others.is_empty() {
            return Some(Nonsense::Protocol(others.iter().take(2).map(|found| found.spec.name).collect()));
        }
        if self.proven || (self.rejected < REJECTED && self.bytes < FRAMELESS) {
            return None;
        }
        if serial && garbage && is_text(spec, set) {
            return Some(Nonsense::Baud);
        }
        // If the decoder only sends messages that are no reads, it may be the right one and have no
        // chip to read.
        if self.rejected == 0 && foreign::name(bytes, serial).is_none() && spec.recogniser.is_some() && !garbage {
            return None;
        }
        if serial && garbage {
            return Some(Nonsense::Baud);
        }
        Some(foreign::name(bytes, serial).map_or(Nonsense::Protocol(Vec::new()), Nonsense::Foreign))
    }
}

/// Whether the protocol's frames are text, so that any other byte is damage.
fn is_text(spec: &Spec, set: &Settings) -> bool {
    matches!(spec.frame_end_under(set), b"\n" | b"\r" | b"\r\n" | b"$" | b"|")
}

/// Whether the item is a record, or a message that only this protocol has.
fn is_understood(spec: &Spec, item: &Item) -> bool {
    let Item::Frame(framed) = item else { return false };
    match &framed.frame {
        Frame::Read(_) | Frame::Marker(_) | Frame::Cleared(_) => true,
        Frame::Rejected(_) => false,
        Frame::Info(_) => spec.recogniser.as_ref().is_none_or(|recogniser| match recogniser.is_checked {
            true => !framed.raw.is_empty(),
            false => matches!((recogniser.sign)(&framed.raw), Some(Sign::Name | Sign::Own)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::{Output, spec};

    /// What is found for this protocol, and after how many seconds, when the decoder sends `lines`,
    /// one a second for half a minute.
    fn told(protocol: &str, lines: &[&[u8]], serial: bool) -> Option<(u64, Nonsense)> {
        let (spec, set) = (spec(protocol).unwrap(), Settings::new());
        let mut wire = (spec.make)(&set).unwrap();
        let mut sense = Sense::default();
        let start = Instant::now();
        for (second, line) in (0..31).zip(lines.iter().cycle()) {
            let now = start + Duration::from_secs(second);
            let mut out = Output::default();
            wire.feed(line, &mut out);
            sense.feed(spec, line, &out.items, now);
            if let Some(found) = sense.look(spec, &set, serial, now) {
                return Some((second, found));
            }
        }
        None
    }

    const IPICO: &[u8] = b"aa00058003235b7001000401010035365676\r\n";

    #[test]
    fn another_protocol_is_named_after_twenty_seconds() {
        let raceresult = b"1;0041234;2026-11-29;10:00:00.000;0;4;17;;0;;;;;;;0;Sim;1;3;D-5001\r\n";
        for configured in ["raceresult", "one4all", "ultra", "jchip", "llrp", "p3", "timy", "mylaps", "impinj"] {
            let found = told(configured, &[IPICO], false);
            assert!(
                matches!(&found, Some((20.., Nonsense::Protocol(names))) if names[0] == "ipico"),
                "{configured}: {found:?}"
            );
        }
        let lines: [&[u8]; 2] = [raceresult, b"2;0041235;2026-11-29;10:00:01.000;0;4;17;;0;;;;;;;0;Sim;1;3;D-5001\r\n"];
        let found = told("ipico", &lines, false);
        assert!(matches!(&found, Some((20, Nonsense::Protocol(names))) if names[0] == "raceresult"), "{found:?}");
    }

    #[test]
    fn a_line_at_a_wrong_rate_is_told_after_five_seconds_and_only_on_a_line() {
        let garbage: &[u8] = &[0x86, 0xe6, 0xf8, 0x00, 0x1c, 0x80, 0x66, 0xfe, 0x98, 0xe0, 0x78, 0x1e];
        for configured in ["ipico", "raceresult", "timy", "one4all"] {
            assert_eq!(told(configured, &[garbage], true), Some((5, Nonsense::Baud)), "{configured}");
        }
        assert!(matches!(told("ipico", &[garbage], false), None | Some((_, Nonsense::Protocol(_)))));
    }

    #[test]
    fn what_is_no_decoder_is_called_by_its_name() {
        let found = told("ipico", &[b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n"], false);
        assert!(matches!(found, Some((20, Nonsense::Foreign(what))) if what.contains("web server")), "{found:?}");
    }

    #[test]
    fn a_decoder_that_is_understood_is_never_called_wrong_for_a_line_that_is_not() {
        for unknown in [&b"V 1.2 unknown\r\n"[..], b"?\r\n", b"\r\n"] {
            let mut lines = vec![IPICO];
            lines.extend([unknown; 29]);
            assert_eq!(told("ipico", &lines, true), None, "{}", unknown.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_a_connection_begins_in_the_middle_of_is_no_proof() {
        let (spec, set) = (spec("ipico").unwrap(), Settings::new());
        let (mut wire, mut out) = ((spec.make)(&set).unwrap(), Output::default());
        wire.feed(&IPICO[10..], &mut out);
        assert_eq!(out.items.len(), 1, "it is rejected");
        let (mut sense, start) = (Sense::default(), Instant::now());
        sense.feed(spec, &IPICO[10..], &out.items, start);
        assert!((0..100).all(|second| sense.look(spec, &set, true, start + Duration::from_secs(second)).is_none()));
    }
}
