//! Shows the faults of the configuration as problems. Each says what it stops, and that the rest
//! continues.

use super::secrets::warned_file;
use crate::config::{Config, ConfigError, Fault, Part};
use crate::status::{Board, LinkState, ProblemCode};

/// Shows what is wrong in the configuration, and what each fault stops.
pub(super) fn tell_faults(config: &Config, warnings: &[String], board: &Board) {
    for (at, warning) in warnings.iter().enumerate() {
        // What is about a file ends when the file is right.
        let about = warned_file(config, warning).unwrap_or_else(|| (at + 1).to_string());
        board.raise(ProblemCode::Configuration, &about, warning);
    }
    for decoder in &config.left_out {
        board.decoder(&decoder.name, |status| status.state = LinkState::Failed);
    }
    for (at, fault) in config.faults.iter().enumerate() {
        if let Some(((code, about), message)) = problem_of(at, fault) {
            board.raise(code, &about, message);
        }
    }
}

/// The problem for a fault: its code, its subject and its message. `at` is the number of the fault.
pub(super) fn problem_of(at: usize, fault: &Fault) -> Option<((ProblemCode, String), String)> {
    let (code, stops) = match fault.part {
        Part::NotSetUp => (
            ProblemCode::NotSetUp,
            "Nothing is read until it is there; the box takes it by itself. To write it: sudo passbridge setup",
        ),
        Part::NoDecoder => (ProblemCode::NoDecoder, "Nothing is read until this is corrected"),
        Part::Decoder => (ProblemCode::DecoderMisconfigured, "This decoder is not read until this is corrected"),
        Part::Upload => {
            (ProblemCode::UploadMisconfigured, "Nothing is uploaded until this is corrected. Every read is kept")
        }
        Part::Key => (ProblemCode::KeyMissing, "Nothing is uploaded until the key is there. Every read is kept"),
        Part::Token => (ProblemCode::TokenUnusable, "The page shows nothing until this is corrected"),
        Part::Page => (ProblemCode::ConfigurationWrong, "Until this is corrected, the page is shown on this box only"),
        Part::Notify => {
            (ProblemCode::ConfigurationWrong, "Nobody is told about the state of the box until this is corrected")
        }
        Part::Expect => {
            (ProblemCode::ConfigurationWrong, "This mat may be silent without a problem until this is corrected")
        }
        Part::Keep => (ProblemCode::ConfigurationWrong, "Nothing is removed from the disk until this is corrected"),
        // A variable of the environment that is not taken changes nothing.
        Part::Other if fault.error.is_of_the_environment() => {
            (ProblemCode::ConfigurationWrong, "What the file says is used")
        }
        Part::Other => (ProblemCode::ConfigurationWrong, "The default is used until this is corrected"),
        Part::Bibs => return None, // the part that waits for the file reports this
    };
    Some(((code, about(at, fault)), message_of(&fault.error, stops)))
}

/// The mistake as a sentence, and what it stops as the next one.
pub(super) fn message_of(error: &ConfigError, stops: &str) -> String {
    let error = error.to_string();
    let end = if error.ends_with(['?', '.', '!']) { "" } else { "." };
    format!("{error}{end} {stops}")
}

/// The subject of the problem for a fault: the decoder, or the number of the fault.
fn about(at: usize, fault: &Fault) -> String {
    match fault.part {
        Part::Decoder if !fault.about.is_empty() => fault.about.clone(),
        Part::NotSetUp | Part::NoDecoder | Part::Key | Part::Token => String::new(),
        _ => (at + 1).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LoadOptions;

    #[test]
    fn a_fault_says_what_it_stops_in_a_sentence_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passbridge.toml");
        let decoder = "[[decoder]]\nname = \"mat\"\naddress = \"tcp://127.0.0.1:1\"\nprotocol = ";
        let messages = |text: &str, environment: &[(&str, &str)]| -> Vec<String> {
            std::fs::write(&file, text).unwrap();
            let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let options = LoadOptions { environment, ..LoadOptions::new(&file) };
            let faults = Config::load_what_is_right(&options).unwrap().config.faults;
            faults.iter().enumerate().filter_map(|(at, fault)| Some(problem_of(at, fault)?.1)).collect()
        };
        let told = messages(&format!("{decoder}\"racresult\"\n"), &[]);
        assert!(
            told[0].ends_with("did you mean \"raceresult\"? This decoder is not read until this is corrected"),
            "{told:?}"
        );
        let right = format!("{decoder}\"ipico\"\n");
        let told = messages(&right, &[("PASSBRIDGE__DECODER__0__ADDRESS", "tcp://127.0.0.1:2")]);
        assert!(told[0].ends_with("it is not taken. What the file says is used"), "{told:?}");
        let told = messages(&format!("{right}[log]\nlevel = 7\n"), &[]);
        assert!(told[0].ends_with(". The default is used until this is corrected"), "{told:?}");
    }
}
