use super::*;

#[test]
fn the_words_are_in_order_and_each_is_given_once() {
    let words: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.word()).collect();
    let mut sorted = words.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(words, sorted);
    for word in words {
        assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
    }
}

#[test]
fn what_decoders_report_keeps_its_word_as_a_problem() {
    for condition in [
        Condition::DecoderError,
        Condition::DecoderNotReading,
        Condition::DecoderRefuses,
        Condition::DecoderSilent,
        Condition::FilesInBetween,
        Condition::LlrpAntenna,
        Condition::LlrpNoInventory,
        Condition::LlrpNoTime,
        Condition::LlrpReadsLost,
        Condition::LlrpRival,
        Condition::LlrpStartRefused,
        Condition::LowBattery,
        Condition::NotTiming,
        Condition::OldFileNotFetched,
        Condition::OldReadsMissing,
        Condition::PassingsNotGiven,
        Condition::PassingsNotPushed,
        Condition::ProtocolTooOld,
        Condition::ReadsMissing,
        Condition::TooManyLocations,
        Condition::TwoSourcesOneLocation,
    ] {
        assert_eq!(ProblemCode::from(condition).word(), condition.word());
    }
    for doubt in [
        Doubt::Gap,
        Doubt::Fold,
        Doubt::NoDate,
        Doubt::ClockUnset,
        Doubt::BoxClockUnset,
        Doubt::LongAgo,
        Doubt::Far,
        Doubt::OutOfRange,
        Doubt::NoClock,
    ] {
        assert_eq!(ProblemCode::from(doubt).word(), doubt.code());
    }
}

/// The page for timers, as the table above makes it.
fn page() -> String {
    let mut page = PAGE_HEAD.to_owned();
    for code in ProblemCode::ALL {
        let (word, severity) = (code.word(), code.severity());
        let state = code.cause().state().map_or_else(|| "–".to_owned(), |state| format!("`{}`", state.word()));
        page += &format!("| `{word}` | {severity} | {state} | {} | {} |\n", code.meaning(), code.hint());
    }
    page
}

const PAGE_HEAD: &str = "# Problems, and what to do\n\n\
    The status shows each problem as a sentence that says what happened, and to what. This page has\n\
    one row for each kind of problem. The word in the first column is also in\n\
    `passbridge status --json`, in `/api/status`, in the metrics and in the log.\n\n\
    * **critical**: reads are being lost, or results are about to be wrong, or nothing arrives in\n\
    \x20 the cloud until somebody acts. Act now.\n\
    * **warning**: something is not as it should be. No read is being lost now, but look at it.\n\
    * **info**: it is good to know. Nobody has to hurry.\n\n\
    The column *state* says which [state of the box](commands.md#the-state-of-the-box) a problem\n\
    causes. A problem without one is a row under the sentence.\n\n\
    This table is made from `src/status/problem.rs`, and a test compares the two.\n\n\
    | problem | severity | state | what it means | what to do |\n|---|---|---|---|---|\n";

#[test]
fn every_problem_is_in_the_page_for_timers_with_its_severity_and_its_hint() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/timer/problems.md");
    if std::env::var_os("PASSBRIDGE_BLESS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    for (line, (written, made)) in written.lines().zip(page().lines()).enumerate() {
        assert_eq!(written, made, "line {} of {path}; PASSBRIDGE_BLESS=1 writes it anew", line + 1);
    }
    assert_eq!(written.lines().count(), page().lines().count(), "PASSBRIDGE_BLESS=1 writes {path} anew");
}

#[test]
fn hints_are_short_whole_sentences() {
    for code in ProblemCode::ALL {
        for text in [code.meaning(), code.hint()] {
            assert!(text.starts_with(|first: char| first.is_uppercase()) && text.ends_with('.'), "{code}: {text}");
            assert!(text.len() <= 240 && !text.contains("  ") && !text.contains('|'), "{code}: {text}");
        }
    }
}
