//! Shows the faults of the configuration as problems. Each says what it stops, and that the rest
//! continues.

use crate::config::{Config, Fault, Part};
use crate::status::{Board, LinkState, ProblemCode};

/// Shows what is wrong in the configuration, and what each fault stops.
pub(super) fn tell_faults(config: &Config, warnings: &[String], board: &Board) {
    for (at, warning) in warnings.iter().enumerate() {
        board.raise(ProblemCode::Configuration, &(at + 1).to_string(), warning);
    }
    for decoder in &config.left_out {
        board.decoder(&decoder.name, |status| status.state = LinkState::Failed);
    }
    for (at, fault) in config.faults.iter().enumerate() {
        tell_fault(at, fault, board);
    }
}

/// Shows one fault.
pub(super) fn tell_fault(at: usize, fault: &Fault, board: &Board) {
    let (code, stops) = match fault.part {
        Part::NoDecoder => (ProblemCode::NoDecoder, "Nothing is read until then"),
        Part::Decoder => (ProblemCode::DecoderMisconfigured, "This decoder is not read until then"),
        Part::Upload => (ProblemCode::UploadMisconfigured, "Reads are kept, and nothing is uploaded until then"),
        Part::Key => (ProblemCode::KeyMissing, "Reads are kept, and nothing is uploaded until then"),
        Part::Token => (ProblemCode::TokenUnusable, "The page shows nothing until then"),
        Part::Page => (ProblemCode::ConfigurationWrong, "The page is shown on this box only until then"),
        Part::Keep => (ProblemCode::ConfigurationWrong, "Nothing is removed from the disk until then"),
        Part::Other => (ProblemCode::ConfigurationWrong, "The default is used until then"),
        Part::Bibs => return, // the part that waits for the file reports this
    };
    board.raise(code, &about(at, fault), format!("{}. {stops}", fault.error));
}

/// The subject of the problem for a fault: the decoder, or the number of the fault.
fn about(at: usize, fault: &Fault) -> String {
    match fault.part {
        Part::Decoder if !fault.about.is_empty() => fault.about.clone(),
        Part::NoDecoder | Part::Key | Part::Token => String::new(),
        _ => (at + 1).to_string(),
    }
}
