//! What the notes of the log say: starts, stops, and problems that came and went.
//!
//! The texts are those of `daemon::notes`, which writes them. A note in another form says nothing
//! here, and is no error.

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoteSays<'a> {
    /// The program started. `first`: the first entry that it wrote, if the note says it.
    Start { first: Option<u64> },
    /// The program stopped because somebody asked it to.
    Stop,
    /// A problem was raised, or its message changed.
    Came { code: &'a str, about: &'a str, message: &'a str },
    /// A problem is over.
    Over { code: &'a str, about: &'a str },
    /// Something else.
    Other,
}

/// Stands before the first entry of a process in the note of its start.
pub(crate) const ENTRIES_BEGIN: &str = "its entries begin with ";

/// What the note with this code and this text says.
pub(super) fn told<'a>(code: &str, text: &'a str) -> NoteSays<'a> {
    match code {
        "start" => {
            let first = text.split_once(ENTRIES_BEGIN).and_then(|(_, first)| first.parse().ok());
            NoteSays::Start { first }
        }
        "stop" => NoteSays::Stop,
        "problem" => {
            let end = text.find(|c: char| !is_of_a_code(c)).unwrap_or(text.len());
            let (code, rest) = text.split_at(end);
            // The name that a problem is about may hold a bracket or a colon, but not both in this order.
            let parts = match rest.strip_prefix(" (") {
                Some(rest) => rest.split_once("): "),
                None => rest.strip_prefix(": ").map(|message| ("", message)),
            };
            parts.map_or(NoteSays::Other, |(about, message)| NoteSays::Came { code, about, message })
        }
        "problem_over" => {
            let end = text.find(|c: char| !is_of_a_code(c)).unwrap_or(text.len());
            let (code, rest) = text.split_at(end);
            let about = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
            NoteSays::Over { code, about }
        }
        _ => NoteSays::Other,
    }
}

fn is_of_a_code(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_of_the_daemon_are_understood() {
        let started = "passbridge 0.1.0 started as `finish`; its entries begin with 84";
        assert_eq!(told("start", started), NoteSays::Start { first: Some(84) });
        assert_eq!(told("start", "passbridge 0.1.0 started as `finish`"), NoteSays::Start { first: None });
        assert_eq!(told("stop", "stopped on request"), NoteSays::Stop);
        assert_eq!(
            told("problem", "decoder_unreachable (mat (north): 2): no answer: is it on?"),
            NoteSays::Came { code: "decoder_unreachable", about: "mat (north", message: "2): no answer: is it on?" },
            "a name with `): ` is cut, and the code is right all the same"
        );
        let offline = NoteSays::Came { code: "offline", about: "", message: "no internet" };
        assert_eq!(told("problem", "offline: no internet"), offline);
        assert_eq!(told("problem_over", "offline"), NoteSays::Over { code: "offline", about: "" });
        assert_eq!(
            told("problem_over", "low_battery (mat (a))"),
            NoteSays::Over { code: "low_battery", about: "mat (a)" }
        );
        assert_eq!(told("problem", "é"), NoteSays::Other);
        assert_eq!(told("audit", "offline: no"), NoteSays::Other);
    }
}
