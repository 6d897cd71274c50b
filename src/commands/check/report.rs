//! The lines of the check.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};

use crate::commands::args::print;
use crate::config::failure::Failure;
use crate::model::text::printable;

/// The result of a line: green, yellow or red.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckVerdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckLine {
    pub(super) check: String,
    /// The subject: a decoder, a device or a file. It is empty for the box.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) about: String,
    pub(super) verdict: CheckVerdict,
    pub(super) text: String,
}

/// The lines, and what they mean for the exit code.
#[derive(Default)]
pub(super) struct CheckReport {
    pub(super) lines: Vec<CheckLine>,
    /// Something must be changed here before `run` works (78).
    pub(super) wrong: bool,
    /// Something outside does not answer (69).
    pub(super) unreachable: bool,
}

impl CheckReport {
    pub(super) fn add(&mut self, verdict: CheckVerdict, check: &'static str, about: &str, text: impl Into<String>) {
        self.lines.push(CheckLine { check: check.to_owned(), about: about.to_owned(), verdict, text: text.into() });
    }

    pub(super) fn ok(&mut self, check: &'static str, about: &str, text: impl Into<String>) {
        self.add(CheckVerdict::Ok, check, about, text);
    }

    pub(super) fn warn(&mut self, check: &'static str, about: &str, text: impl Into<String>) {
        self.add(CheckVerdict::Warn, check, about, text);
    }

    pub(super) fn wrong(&mut self, check: &'static str, about: &str, text: impl Into<String>) {
        self.add(CheckVerdict::Fail, check, about, text);
        self.wrong = true;
    }

    pub(super) fn unreachable(&mut self, check: &'static str, about: &str, text: impl Into<String>) {
        self.add(CheckVerdict::Fail, check, about, text);
        self.unreachable = true;
    }

    pub(super) fn text(&self, colour: bool) -> String {
        let line = |line: &CheckLine| {
            let (word, code) = match line.verdict {
                CheckVerdict::Ok => ("ok", 32),
                CheckVerdict::Warn => ("warn", 33),
                CheckVerdict::Fail => ("FAIL", 31),
            };
            let word = if colour { format!("\x1b[{code}m{word:4}\x1b[0m") } else { format!("{word:4}") };
            let about = if line.about.is_empty() { String::new() } else { format!(" {}", printable(&line.about)) };
            format!("{word} {}{about}: {}\n", line.check, printable(&line.text))
        };
        self.lines.iter().map(line).collect()
    }

    pub(super) fn end(&self, json: bool) -> Result<(), Failure> {
        match json {
            true => print(&format!("{}\n", serde_json::to_string_pretty(&self.lines).unwrap_or_default()))?,
            false => print(&self.text(io::stdout().is_terminal()))?,
        }
        // The lines above have shown it already.
        match (self.wrong, self.unreachable) {
            (true, _) => Err(Failure::config("").already_told()),
            (false, true) => Err(Failure::unavailable("").already_told()),
            (false, false) => Ok(()),
        }
    }
}
