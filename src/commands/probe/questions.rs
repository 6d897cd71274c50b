//! Which questions are asked, and in which order: those of the registry's decoders.
//! [`crate::decoders::question`] says what every question must fulfil.
//!
//! The reason for [`QUIET`] is a decoder whose commands are bare characters (the Ultra: `S` stops
//! it, `s` stops its sending), because the letters of any other question would do harm. The Ultra
//! sends `V=` every 2 to 10 s and greets whoever connects. So if the other side was silent for
//! longer than that, it is no Ultra. On the Ultra's own port only its own question is sent.

use std::time::Duration;

use crate::decoders::question::{FollowUp, Question};
use crate::decoders::{REGISTRY, Spec, spec};

/// Silence since the beginning that is needed before a question is sent that does not belong to the
/// port.
pub(crate) const QUIET: Duration = Duration::from_secs(11);

/// A question, and the decoders that understand it.
struct Asked {
    question: &'static Question,
    of: Vec<&'static Spec>,
}

/// The questions to a silent box, in the order in which they are asked.
fn questions() -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for spec in REGISTRY {
        for question in spec.questions {
            match all.iter_mut().find(|asked| asked.question.bytes == question.bytes) {
                Some(asked) => asked.of.push(spec),
                None => all.push(Asked { question, of: vec![spec] }),
            }
        }
    }
    all.sort_by_key(|asked| asked.question.rank);
    all
}

/// The questions to a box of which only the port is known (`None` for a serial line), and which may
/// be one of the decoders in `perhaps`. Each has a flag: whether it is asked before the box was
/// silent for [`QUIET`].
pub(crate) fn choose(port: Option<u16>, perhaps: &[&str]) -> Vec<(&'static Question, bool)> {
    let is_known = |asked: &Asked| asked.of.iter().any(|spec| perhaps.contains(&spec.name) || port == Some(spec.port));
    let (own, mut others): (Vec<Asked>, Vec<Asked>) = questions().into_iter().partition(is_known);
    others.retain(|asked| !asked.question.known_only && (port.is_some() || asked.question.serial));
    if REGISTRY.iter().any(|spec| spec.bare_characters && port == Some(spec.port)) {
        others.clear();
    }
    let own = own.iter().map(|asked| (asked.question, true));
    own.chain(others.iter().map(|asked| (asked.question, false))).collect()
}

/// The next question to a known decoder. `step` counts from 0, and `said` is what the decoder has
/// sent so far. Returns the question, its bytes, and how many reads will follow. `None` if there
/// are no more questions.
pub(crate) fn follow(protocol: &str, step: usize, said: &[u8]) -> Option<(&'static FollowUp, Vec<u8>, usize)> {
    let next = spec(protocol)?.follow_ups.get(step)?;
    if !next.text.contains('{') {
        return Some((next, next.text.as_bytes().to_vec(), 0));
    }
    let to = counted(said)?;
    let (from, count) = (to.saturating_sub(2).max(1), to.min(3));
    let fill = |text: &str, name: &str, number: u64| text.replace(name, &number.to_string());
    let text = fill(&fill(&fill(next.text, "{from}", from), "{to}", to), "{count}", count);
    Some((next, text.into_bytes(), count as usize))
}

/// The number in the last `PASSINGS;<count>` line of `said`. `None` if it is 0 or there is no such
/// line.
fn counted(said: &[u8]) -> Option<u64> {
    let lines = said.split(|byte| matches!(byte, b'\r' | b'\n'));
    let told = lines.rev().find_map(|line| line.strip_prefix(b"PASSINGS;"))?;
    let count = told.split(|byte| *byte == b';').next()?;
    std::str::from_utf8(count).ok()?.parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::{Item, Output, Settings};

    /// The names of the decoders to which a question belongs.
    fn owners(question: &Question) -> String {
        let asked = questions().into_iter().find(|asked| asked.question.bytes == question.bytes).unwrap();
        asked.of.iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ")
    }

    /// Every question and greeting, each with its decoder.
    fn every_question() -> impl Iterator<Item = (&'static Spec, &'static Question)> {
        REGISTRY.iter().flat_map(|spec| spec.questions.iter().chain(spec.greeting).map(|question| (*spec, question)))
    }

    #[test]
    fn a_question_that_two_decoders_understand_has_the_same_words_in_both() {
        for (_, question) in every_question() {
            assert!(every_question().all(|(_, other)| other.bytes != question.bytes || other == question));
        }
    }

    #[test]
    fn a_port_that_is_known_is_asked_its_own_question_first_and_the_ultra_nothing_else() {
        let asked = |port| -> Vec<String> { choose(port, &[]).iter().map(|(question, _)| owners(question)).collect() };
        assert_eq!(asked(Some(3601)), ["one4all raceresult", "ipico", "cloudbox", "p3"]);
        assert_eq!(asked(Some(5403))[0], "p3");
        assert_eq!(asked(Some(23)), ["ultra"]);
        assert_eq!(asked(Some(4242)), ["ipico", "one4all raceresult", "cloudbox", "p3"]);
        assert_eq!(asked(None), ["ipico", "one4all raceresult"], "what is not on serial lines is not asked there");
        let of_one4all = |question| owners(question).contains("one4all");
        assert!(choose(Some(10002), &[]).iter().all(|(question, early)| *early == of_one4all(question)));
    }

    /// The words are commands that the protocol sheets describe as starting, stopping, clearing or
    /// setting something.
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
        let mut sent: Vec<Vec<u8>> = every_question().map(|(_, question)| question.bytes.to_vec()).collect();
        let questions = sent.len();
        for spec in REGISTRY {
            sent.extend(
                (0..9).filter_map(|step| follow(spec.name, step, b"PASSINGS;190;2112\r\n")).map(|(_, bytes, _)| bytes),
            );
        }
        let follow_ups: usize = REGISTRY.iter().map(|spec| spec.follow_ups.len()).sum();
        assert_eq!(sent.len(), questions + follow_ups);
        for bytes in &sent {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(!words.iter().any(|word| text.contains(word)), "{text}");
        }
        for (spec, question) in every_question() {
            assert!(!question.safe.is_empty() && !question.source.is_empty());
            // An Ultra must not understand a question that is not meant for it, even before it had
            // time to send.
            let bare = b"RSstuU6789";
            let quiet = spec.name != "ipico" || !question.bytes.iter().any(|byte| bare.contains(byte));
            assert!(quiet, "{}", question.asks);
        }
    }

    #[test]
    fn the_question_to_a_p3_is_the_one_that_its_protocol_asks() {
        let (mut protocol, mut out) = ((spec("p3").unwrap().make)(&Settings::new()).unwrap(), Output::default());
        protocol.tick(Duration::from_secs(31), &mut out);
        let question = &spec("p3").unwrap().questions[0];
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
