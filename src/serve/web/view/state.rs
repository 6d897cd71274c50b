//! The block at the top: the state, its sentence and what to do.

use super::PageTimes;
use super::facts::has;
use super::facts::state_word;
use crate::model::text::printable;
use crate::status::words::{count, short};
use crate::status::{BoxState, Mark, ProblemCode, Severity, Snapshot};

/// The block.
pub(in crate::serve::web) struct StateView {
    /// The stable word, which names the icon too.
    pub id: &'static str,
    /// How the block looks: quiet when all is well, full when a person must act.
    pub look: &'static str,
    /// The word for people.
    pub word: String,
    /// The sentence.
    pub sentence: String,
    /// At which time the state began.
    pub since: String,
    /// The same as a second since the start of the process.
    pub since_s: i64,
    /// What to do.
    pub todo: Vec<String>,
    /// What the box does by itself.
    pub by_itself: Option<String>,
    /// What can be pressed.
    pub choice: Choice,
    /// Changes when the state or what it is about changes. A screen reader reads the sentence then.
    pub subject: String,
}

/// What can be pressed in the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) enum Choice {
    Nothing,
    BeforeTheGun,
    MakeRoom,
    /// The reads that are held are released: so many.
    Release(String),
}

/// The look of a state.
pub(in crate::serve::web) const fn look_of(state: BoxState) -> &'static str {
    match state {
        BoxState::Reading => "good",
        BoxState::Ready => "calm",
        BoxState::CannotKeep | BoxState::NotReading | BoxState::TimeWrong => "act",
        BoxState::NotUploading => "soon",
        BoxState::Hold => "held",
    }
}

impl StateView {
    /// `since_s`: when the state began, in seconds since the start of the process.
    pub(in crate::serve::web) fn of(status: &Snapshot, times: &PageTimes, since_s: i64) -> Self {
        let began = times.started_ms.saturating_add(since_s.saturating_mul(1000));
        let began = jiff::Timestamp::from_millisecond(began).unwrap_or(times.now);
        let abouts: Vec<&str> = status
            .problems
            .iter()
            .filter(|problem| {
                let cause = ProblemCode::of_word(&problem.code).and_then(|code| code.cause().state());
                cause == Some(status.state)
            })
            .map(|problem| problem.about.as_str())
            .collect();
        Self {
            id: status.state.word(),
            look: look_of(status.state),
            word: state_word(status.state),
            sentence: printable(&status.sentence),
            since: times.time(began),
            since_s,
            todo: status.todo.iter().map(|todo| printable(todo)).collect(),
            by_itself: status.by_itself.as_deref().map(printable),
            choice: match status.state {
                BoxState::Ready => Choice::BeforeTheGun,
                BoxState::CannotKeep if has(status, ProblemCode::DiskFull, "") => Choice::MakeRoom,
                BoxState::Hold => Choice::Release(count(held(status))),
                _ => Choice::Nothing,
            },
            subject: format!("{} {}", status.state.word(), printable(&abouts.join(" "))),
        }
    }

    /// Whether there is nothing beside the sentence.
    pub(in crate::serve::web) fn says_all(&self) -> bool {
        self.todo.is_empty() && self.by_itself.is_none() && self.choice == Choice::Nothing
    }
}

/// How many reads a hold keeps back.
pub(super) fn held(status: &Snapshot) -> u64 {
    status.hold.as_ref().map_or(0, |hold| hold.reads)
}

/// A problem that is not the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct AlsoRow {
    /// How it stands.
    pub mark: Mark,
    /// What it is about; empty for the box.
    pub about: String,
    /// What happened and what to do.
    pub text: String,
    /// Since when.
    pub since: String,
}

/// Most rows that are shown.
pub(super) const ALSO_ROWS: usize = 8;

/// The problems as rows, the worst first, and how many more there are. What the sentence says
/// already is a row too, since the message tells more than the sentence.
pub(in crate::serve::web) fn also(status: &Snapshot, times: &PageTimes) -> (Vec<AlsoRow>, usize) {
    let mut all: Vec<(Severity, &crate::status::Problem)> = status
        .problems
        .iter()
        .map(|problem| (ProblemCode::of_word(&problem.code).map_or(Severity::Warning, ProblemCode::severity), problem))
        .collect();
    all.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    let more = all.len().saturating_sub(ALSO_ROWS);
    let rows = all.into_iter().take(ALSO_ROWS).map(|(severity, problem)| AlsoRow {
        mark: if severity == Severity::Critical { Mark::No } else { Mark::Warn },
        // A message often names its subject itself.
        about: match problem.message.contains(&problem.about) {
            true => String::new(),
            false => printable(&short(&problem.about)),
        },
        text: shortened(&printable(&problem.message)),
        since: times.time(problem.since),
    });
    (rows.collect(), more)
}

/// Longest message of a row, in characters. The rest is on `/plain`.
const MESSAGE: usize = 240;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
