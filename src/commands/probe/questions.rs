//! What may be said to a box that nobody knows: the one place from which anything is sent.
//!
//! What must hold: **a question can neither start, stop, clear, set nor consume anything**, in the decoder it is for nor in any
//! other that may be there. Each says why, and where that is from. So there is none that acknowledges (a decoder forgets what is
//! acknowledged), none that begins a stream (`S0000` has a JChip bridge send what it kept, LLRP's ENABLE_EVENTS_AND_REPORTS has a reader
//! give what it held back, One4All's PUSHTAGS takes the push from the program that has it), and no ChronoTrack `start`.
//!
//! The Ultra is the reason for [`QUIET`]: its commands are bare characters (`S` stops it, `s` stops its sending), so
//! that the letters of any other question would do harm. It says `V=` every 2 to 10 s and greets whoever connects: where
//! it was silent for longer than that there is none. On its own port nothing but its own question is sent.

use std::time::Duration;

/// Silence, from the beginning, before a question is sent that is not the port's own.
pub const QUIET: Duration = Duration::from_secs(11);

/// The Ultra's port.
const BARE_CHARACTERS: u16 = 23;

/// Something that may be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// The protocols that it is a question of.
    pub protocols: &'static [&'static str],
    /// What is sent.
    pub bytes: &'static [u8],
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is from.
    pub source: &'static str,
    /// Such decoders are on serial lines.
    pub serial: bool,
    /// Only where the port or the bytes say that it is this protocol.
    pub known_only: bool,
}

/// Questions to a silent box: ASCII before binary, those without letters that mean something elsewhere first.
pub static QUESTIONS: &[Question] = &[
    Question {
        protocols: &["ipico"],
        bytes: b"ab00000222\r\n",
        asks: "an IPICO for its clock",
        safe: "instruction 02 with length 0 only reads the clock (01 would set it); a frame without data and its checksum",
        source: "vendor's serial protocol text (2007); answered in live captures",
        serial: true,
        known_only: false,
    },
    Question {
        protocols: &["raceresult", "one4all"],
        bytes: b"GETSTATUS\r\n",
        asks: "a RACE RESULT or One4All for its status",
        safe: "returns the state and changes none; documented by both vendors, RACE RESULT's clients send it all the time",
        source: "RACE RESULT knowledge base 19; Macsha's manual of the One4All 5",
        serial: true,
        known_only: false,
    },
    Question {
        protocols: &["cloudbox"],
        bytes: b"GETSYSTEMTIME\r\n",
        asks: "a CloudBox for its time",
        safe: "only returns the time",
        source: "vendor's help pages (head of src/protocol/cloudbox.rs)",
        serial: false,
        known_only: false,
    },
    Question {
        protocols: &["ultra"],
        bytes: b"?",
        asks: "an Ultra whether it reads",
        safe: "answered with S=<state>; one of the characters that change nothing",
        source: "vendor's manual; Chronokeep",
        serial: false,
        known_only: true,
    },
    Question {
        protocols: &["p3"],
        bytes: b"\x8e\x02\x11\x00\xe4\x49\x00\x00\x02\x00\x01\x00\x07\x00\x0c\x00\x8f",
        asks: "a P3 decoder for its status",
        safe: "a request of type 02 returns noise, temperature and voltage; type 05 would clear, this is under a CRC",
        source: "metarace and ambp3client (request frames with empty values)",
        serial: false,
        known_only: false,
    },
];

/// Answers to a decoder's software that connected to us and waits to be greeted.
pub static GREETINGS: &[Question] = &[
    Question {
        protocols: &["mylaps"],
        bytes: b"passbridge@AckPong@Version2.1@c|t|d|dv|re|an|h|amd@$",
        asks: "the MYLAPS exporter to go on, as every server does",
        safe: "chooses the version of this connection only; what is not acknowledged is sent again, and nothing is",
        source: "MYLAPS T&S TCP-IP V2 protocol, edition 2021.1",
        serial: false,
        known_only: true,
    },
    Question {
        protocols: &["jchip"],
        bytes: b"GT\r",
        asks: "the JChip bridge for its time",
        safe: "only returns the time; reads flow after S0000, which is not sent",
        source: "CrossMgr's JChip server and bridges",
        serial: false,
        known_only: true,
    },
];

/// What to ask a box of which nothing is known but its port (`None`: a serial line) and that it may be one of `perhaps`:
/// (the question, whether it is asked before the box was silent for [`QUIET`]).
pub fn choose(port: Option<u16>, perhaps: &[&str]) -> Vec<(&'static Question, bool)> {
    let of = |question: &&Question, name: &str| question.protocols.contains(&name);
    let here: Vec<&str> = port.map_or_else(Vec::new, |port| {
        crate::decoders::REGISTRY.iter().filter(|spec| spec.port == port).map(|spec| spec.name).collect()
    });
    let known = |question: &&Question| perhaps.iter().chain(&here).any(|name| of(question, name));
    let own = QUESTIONS.iter().filter(known).map(|question| (question, true));
    let others = QUESTIONS.iter().filter(|question| !known(question) && !question.known_only);
    let others = others.filter(|question| port.is_some() || question.serial).map(|question| (question, false));
    let others = others.filter(|_| port != Some(BARE_CHARACTERS));
    own.chain(others).collect()
}

/// A question to a decoder that is known, to see its clock and its last reads.
pub struct FollowUp {
    /// Its protocol. The questions of a protocol are asked in the order of the table.
    pub protocol: &'static str,
    /// What is sent. `{from}`, `{to}` and `{count}` are the last three numbers of those it counts.
    pub text: &'static str,
    /// What it asks for, for people.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
    /// Where that is from.
    #[allow(dead_code, reason = "read by people: no question without its source")]
    pub source: &'static str,
}

/// See [`follow`].
pub static FOLLOW_UPS: &[FollowUp] = &[
    FollowUp {
        protocol: "cloudbox",
        text: "GETSYSTEMTIME\r\n",
        asks: "it for its time",
        safe: "only returns the time",
        source: "vendor's help pages (head of src/protocol/cloudbox.rs)",
    },
    FollowUp {
        protocol: "ipico",
        text: "ab00000222\r\n",
        asks: "it for its clock",
        safe: "instruction 02 with length 0 only reads the clock",
        source: "vendor's serial protocol text (2007)",
    },
    FollowUp {
        protocol: "one4all",
        text: "GETTIME\r\n",
        asks: "it for its clock",
        safe: "only returns the time",
        source: "Macsha's manual of the One4All 5",
    },
    FollowUp {
        protocol: "one4all",
        text: "PASSINGS\r\n",
        asks: "it how many reads it has",
        safe: "only returns the count",
        source: "Macsha's manual of the One4All 5",
    },
    FollowUp {
        protocol: "one4all",
        text: "GETPASSINGS;{from};{to}\r\n",
        asks: "it for its last stored reads",
        safe: "copies them; they stay stored, and the push to another program stays as it is",
        source: "Macsha's manual of the One4All 5",
    },
    FollowUp {
        protocol: "raceresult",
        text: "GETSTATUS\r\n",
        asks: "it for its clock",
        safe: "returns the state and changes none",
        source: "RACE RESULT knowledge base 19",
    },
    FollowUp {
        protocol: "raceresult",
        text: "PASSINGS\r\n",
        asks: "it how many reads it has",
        safe: "only returns the count",
        source: "RACE RESULT knowledge base 19",
    },
    FollowUp {
        protocol: "raceresult",
        text: "{from}:{count}\r\n",
        asks: "it for its last stored reads",
        safe: "copies them; nothing that a client asks for removes data",
        source: "RACE RESULT knowledge base 19; CrossMgr and metarace",
    },
    FollowUp {
        protocol: "ultra",
        text: "r",
        asks: "it for its clock",
        safe: "only returns the clock",
        source: "vendor's manual; PikaTimer and Chronokeep",
    },
];

/// What a decoder that is known is asked next: `step` from 0 on, `said` is what it said so far. The question, its bytes, and
/// how many reads are to come of it. `None`: nothing more.
pub fn follow(protocol: &str, step: usize, said: &[u8]) -> Option<(&'static FollowUp, Vec<u8>, usize)> {
    let next = FOLLOW_UPS.iter().filter(|next| next.protocol == protocol).nth(step)?;
    if !next.text.contains('{') {
        return Some((next, next.text.as_bytes().to_vec(), 0));
    }
    let to = counted(said)?;
    let (from, count) = (to.saturating_sub(2).max(1), to.min(3));
    let fill = |text: &str, name: &str, number: u64| text.replace(name, &number.to_string());
    let text = fill(&fill(&fill(next.text, "{from}", from), "{to}", to), "{count}", count);
    Some((next, text.into_bytes(), count as usize))
}

/// How many passings the last `PASSINGS;<count>` in `said` tells; `None`: none, or no such line.
fn counted(said: &[u8]) -> Option<u64> {
    let lines = said.split(|byte| matches!(byte, b'\r' | b'\n'));
    let told = lines.rev().find_map(|line| line.strip_prefix(b"PASSINGS;"))?;
    let count = told.split(|byte| *byte == b';').next()?;
    std::str::from_utf8(count).ok()?.parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::{Item, Output, REGISTRY, Settings, spec};

    #[test]
    fn a_port_that_is_known_is_asked_its_own_question_first_and_the_ultra_nothing_else() {
        let asked =
            |port| -> Vec<&str> { choose(port, &[]).iter().map(|(question, _)| question.protocols[0]).collect() };
        assert_eq!(asked(Some(3601)), ["raceresult", "ipico", "cloudbox", "p3"]);
        assert_eq!(asked(Some(5403))[0], "p3");
        assert_eq!(asked(Some(23)), ["ultra"]);
        assert_eq!(asked(Some(4242)), ["ipico", "raceresult", "cloudbox", "p3"]);
        assert_eq!(asked(None), ["ipico", "raceresult"], "what is not on serial lines is not asked there");
        assert!(
            choose(Some(10002), &[]).iter().all(|(question, early)| *early == question.protocols.contains(&"one4all"))
        );
    }

    /// Commands that the protocol sheets name as starting, stopping, clearing or setting something.
    #[test]
    fn no_question_has_a_word_of_the_sheets_in_it_that_does_something() {
        let words = [
            "START",
            "STOP",
            "SET",
            "CLEAR",
            "NEWFILE",
            "CLR",
            "CHK",
            "PUSH",
            "Ack@",
            "AckStore",
            "AckPassing",
            "AckMarker",
            "S0000",
        ];
        let mut sent: Vec<Vec<u8>> =
            QUESTIONS.iter().chain(GREETINGS).map(|question| question.bytes.to_vec()).collect();
        for spec in REGISTRY {
            sent.extend(
                (0..9).filter_map(|step| follow(spec.name, step, b"PASSINGS;190;2112\r\n")).map(|(_, bytes, _)| bytes),
            );
        }
        assert_eq!(sent.len(), QUESTIONS.len() + GREETINGS.len() + FOLLOW_UPS.len());
        for bytes in &sent {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(!words.iter().any(|word| text.contains(word)), "{text}");
        }
        for question in QUESTIONS.iter().chain(GREETINGS) {
            assert!(!question.safe.is_empty() && !question.source.is_empty());
            // An Ultra must not understand what is not meant for it, also before it had its time to speak.
            let bare = b"RSstuU6789";
            let quiet = question.protocols != ["ipico"] || !question.bytes.iter().any(|byte| bare.contains(byte));
            assert!(quiet, "{}", question.asks);
        }
    }

    #[test]
    fn the_question_to_a_p3_is_the_one_that_its_protocol_asks() {
        let (mut protocol, mut out) = ((spec("p3").unwrap().make)(&Settings::new()).unwrap(), Output::default());
        protocol.tick(Duration::from_secs(31), &mut out);
        let question = QUESTIONS.iter().find(|question| question.protocols == ["p3"]).unwrap();
        assert_eq!(out.items, [Item::Reply(question.bytes.to_vec())]);
    }

    #[test]
    fn the_last_three_stored_reads_are_asked_for_by_number() {
        let ask = |protocol, said: &[u8]| {
            follow(protocol, 2, said).map(|(_, bytes, reads)| (String::from_utf8(bytes).unwrap(), reads))
        };
        assert_eq!(ask("raceresult", b"PASSINGS;190;2112\r\n"), Some(("188:3\r\n".into(), 3)));
        assert_eq!(ask("raceresult", b"PASSINGS;1\r\n"), Some(("1:1\r\n".into(), 1)));
        assert_eq!(ask("one4all", b"PASSINGS;190;MC00001\r\n"), Some(("GETPASSINGS;188;190\r\n".into(), 3)));
        assert_eq!(ask("one4all", b"PASSINGS;0\r\n"), None);
    }
}
