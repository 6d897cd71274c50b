//! Before the gun: a card for each mat, with four words that get a tick one after the other.

use jiff::Timestamp;

use super::PageTimes;
use crate::model::text::printable;
use crate::status::{BoxState, Cause, ChecksStatus, LinkState, Mark, MatCheck, ProblemCode, Snapshot};

/// The screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct GunView {
    /// A card for each mat.
    pub mats: Vec<MatView>,
    /// How many mats are checked, as a sentence.
    pub verdict: String,
    /// The sessions into which a test chip would go, if it would be sent. It is empty while it would not be.
    pub open: Vec<String>,
    /// The sessions, for the printed page.
    pub sessions: String,
}

/// A card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct MatView {
    /// The name of the mat.
    pub name: String,
    /// Whether all four words have a tick.
    pub whole: bool,
    /// When a mat that had a tick was lost, such as `lost at 06:58:12`.
    pub lost: Option<String>,
    /// The four words.
    pub steps: [StepView; 4],
}

/// A word of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct StepView {
    /// Its mark.
    pub mark: Mark,
    /// The word.
    pub word: &'static str,
    /// When it got its tick, what it waits for, or what is wrong.
    pub says: String,
}

impl GunView {
    pub(in crate::serve::web) fn of(status: &Snapshot, checks: &ChecksStatus, times: &PageTimes) -> Self {
        let none = MatCheck::default();
        let check = |name: &str| checks.mats.iter().find(|mat| mat.name == name).unwrap_or(&none);
        let mats: Vec<MatView> = status
            .decoders
            .iter()
            .map(|decoder| mat(status, &decoder.name, decoder.state, check(&decoder.name), times))
            .collect();
        let checked = mats.iter().filter(|mat| mat.whole && mat.lost.is_none()).count();
        let verdict = match mats.len() {
            0 => "No decoder is set up.".to_owned(),
            all => format!("{checked} of {all} mats {} checked.", if checked == 1 { "is" } else { "are" }),
        };
        let names: Vec<String> = status
            .uploads
            .iter()
            .filter_map(|upload| upload.session.as_ref())
            .map(|session| printable(session.alias.as_deref().unwrap_or(&session.token_tail)))
            .collect();
        let sessions = if names.is_empty() { "none is open".to_owned() } else { names.join(", ") };
        let open = if status.hold.is_some() { Vec::new() } else { names };
        Self { mats, verdict, open, sessions }
    }
}

fn mat(status: &Snapshot, name: &str, link: LinkState, check: &MatCheck, times: &PageTimes) -> MatView {
    MatView {
        name: printable(name),
        whole: check.is_whole(),
        lost: check.lost.map(|at| format!("lost at {}", times.time(at))),
        steps: [
            read(link, check, times),
            time(status, name, check, times),
            kept(status, check, times),
            cloud(status, check, times),
        ],
    }
}

fn step(word: &'static str, mark: Mark, says: impl Into<String>) -> StepView {
    StepView { mark, word, says: says.into() }
}

fn tick(word: &'static str, at: Timestamp, times: &PageTimes) -> StepView {
    step(word, Mark::Yes, times.time(at))
}

fn read(link: LinkState, check: &MatCheck, times: &PageTimes) -> StepView {
    const WORD: &str = "Read";
    match (check.read, link) {
        (Some(at), _) => {
            let chip = check.chip.as_deref().map(printable).unwrap_or_default();
            step(WORD, Mark::Yes, format!("{}, chip {chip}", times.time(at)))
        }
        (None, LinkState::Connected) => step(WORD, Mark::Wait, "pass a chip over this mat"),
        (None, LinkState::Connecting | LinkState::Failed | LinkState::Idle) => {
            step(WORD, Mark::No, "it is not connected: is its power on, and its cable in?")
        }
    }
}

/// The problem that makes its times wrong: of this mat, or of the box.
fn wrong_time(status: &Snapshot, name: &str) -> Option<ProblemCode> {
    let about = |about: &str| about.is_empty() || about == name;
    let codes = status.problems.iter().filter(|problem| about(&problem.about));
    let mut codes = codes.filter_map(|problem| ProblemCode::of_word(&problem.code));
    codes.find(|code| matches!(code.cause(), Cause::TimeWrong(_)))
}

fn time(status: &Snapshot, name: &str, check: &MatCheck, times: &PageTimes) -> StepView {
    const WORD: &str = "Time right";
    match (wrong_time(status, name), check.time_right) {
        (Some(code), _) => step(WORD, Mark::No, code.hint()),
        (None, Some(at)) => tick(WORD, at, times),
        (None, None) if check.read.is_some() => {
            step(WORD, Mark::Wait, "not compared with the clock of this box yet: pass the chip again")
        }
        (None, None) => step(WORD, Mark::Wait, "waits for a read"),
    }
}

fn kept(status: &Snapshot, check: &MatCheck, times: &PageTimes) -> StepView {
    const WORD: &str = "Kept";
    match check.kept {
        _ if status.state == BoxState::CannotKeep => step(WORD, Mark::No, printable(&status.sentence)),
        Some(at) => tick(WORD, at, times),
        None => step(WORD, Mark::Wait, "waits for a read"),
    }
}

fn cloud(status: &Snapshot, check: &MatCheck, times: &PageTimes) -> StepView {
    const WORD: &str = "In the cloud";
    match check.in_cloud {
        Some(at) => tick(WORD, at, times),
        None if status.uploads.is_empty() => step(WORD, Mark::Wait, "no cloud is set up: the reads stay on this box"),
        None if status.hold.is_some() => step(WORD, Mark::Wait, "held, as you wish"),
        None if status.state == BoxState::NotUploading => step(WORD, Mark::No, printable(&status.sentence)),
        None if check.read.is_some() => step(WORD, Mark::Wait, "on its way"),
        None => step(WORD, Mark::Wait, "waits for a read"),
    }
}

#[cfg(test)]
mod tests;
