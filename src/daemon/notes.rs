//! Notes are lines of the log beside reads and uploads, for people who look at the log after the
//! race.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::config::failure::Failure;
use crate::history::ENTRIES_BEGIN;
use crate::journal::Journal;
use crate::journal::control::{Control, Loss};
use crate::model::clock::{Step, Zones};
use crate::status::{Board, Problem, ProblemChange, ProblemCode};

/// Notes that may wait for the disk. Further notes are dropped, but no problem is, because the
/// board keeps those.
pub(super) const NOTES: usize = 100;

/// Least time between two looks at the board for problems that were raised or ended, to note them
/// in the log.
const PROBLEMS_EVERY: Duration = Duration::from_secs(1);

/// A line of the log beside reads and uploads.
pub(super) enum Note {
    /// A text for people, with a stable code.
    Text(&'static str, String),
    /// The program started, with this text. The note names the first entry that this process writes, so
    /// that it is known what the one before wrote last.
    Start(String),
    /// The box's clock stepped.
    Step(Step),
}

/// Writes notes into the log, one at a time: those that the daemon sends, and each problem that the
/// board reports as raised or ended. While the disk is full this task waits, and no other task
/// does.
///
/// Problems are taken at most once in [`PROBLEMS_EVERY`]. So a problem that is raised and ends with
/// every read does not wear out the disk.
pub(super) async fn note_down(
    journal: Journal,
    board: Board,
    zones: Zones,
    mut notes: mpsc::Receiver<Note>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let write = async |note| match note {
        Note::Text(code, text) => journal.note(code, &text).await.is_ok(),
        Note::Start(text) => {
            let text = format!("{text}; {ENTRIES_BEGIN}{}", journal.first().0);
            journal.note("start", &text).await.is_ok()
        }
        Note::Step(step) => clock::record(step, &journal, &board, &zones).await,
    };
    let mut pace = interval(PROBLEMS_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut problems = VecDeque::new(); // taken from the board, not yet written
    let note_problem = async |change: ProblemChange| {
        let lost = loss_of(&change, &journal);
        let noted = match lost {
            Some(control) => journal.note_loss(control).await.is_ok(),
            None => true,
        };
        noted && write(note_of(change)).await
    };
    loop {
        let noting = async {
            let changed = async {
                board.problem_changes().await;
                pace.tick().await;
                board.take_problem_changes()
            };
            if problems.is_empty() {
                tokio::select! {
                    biased; // the start is noted before the problems that were found at the start
                    Some(note) = notes.recv() => return write(note).await,
                    changes = changed => problems.extend(changes),
                }
            }
            match problems.pop_front() {
                Some(change) => note_problem(change).await,
                None => true,
            }
        };
        let noted = tokio::select! {
            () = stop.cancelled() => break,
            noted = noting => noted,
        };
        if !noted {
            return Err(Failure::io("the journal is gone"));
        }
    }
    let last = async {
        for change in problems {
            note_problem(change).await;
        }
        while let Some(note) = notes.recv().await {
            write(note).await;
        }
        // A problem that was raised a moment before the end is noted too.
        for change in board.take_problem_changes() {
            note_problem(change).await;
        }
        let _ = journal.note("stop", "stopped on request").await;
    };
    let _ = timeout(Duration::from_secs(1), last).await;
    Ok(())
}

/// What a change means for the losses that are remembered. `None`: nothing new.
fn loss_of(change: &ProblemChange, journal: &Journal) -> Option<Control> {
    let is_loss = |code: &str| ProblemCode::of_word(code).is_some_and(ProblemCode::is_loss);
    // `None`: the journal does not know them yet. What is written then changes nothing if it was known.
    let shown = journal.shown_losses();
    match change {
        ProblemChange::Came(Problem { code, about, message, .. }) if is_loss(code) => {
            let (code, about) = (code.as_str().into(), about.as_str().into());
            let loss = Loss { code, about, message: message.as_str().into() };
            let known = shown.is_some_and(|shown| shown.contains(&loss)) || journal.seen_losses().contains(&loss);
            (!known).then_some(Control::Lost(loss))
        }
        ProblemChange::Over { code, about } if is_loss(code) => {
            let is_same = |loss: &Loss| *loss.code == **code && *loss.about == **about;
            let known = shown.is_none_or(|shown| shown.iter().any(is_same));
            known.then(|| Control::Back { code: code.as_str().into(), about: about.as_str().into() })
        }
        _ => None,
    }
}

/// A problem that was raised or has ended, as a note.
fn note_of(change: ProblemChange) -> Note {
    let name = |code: String, about: &str| match about {
        "" => code,
        about => format!("{code} ({about})"),
    };
    match change {
        ProblemChange::Came(Problem { code, about, message, .. }) => {
            Note::Text("problem", format!("{}: {message}", name(code, &about)))
        }
        ProblemChange::Over { code, about } => Note::Text("problem_over", name(code, &about)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::Body;
    use crate::journal::log::{LogLine, LogReader};
    use crate::journal::{JournalConfig, log_dir};
    use crate::status::ProblemCode;

    fn noted(dir: &std::path::Path) -> Vec<String> {
        let mut noted = Vec::new();
        let Some(mut reader) = LogReader::open(&log_dir(dir), None).unwrap() else { return noted };
        while let Some(line) = reader.read().unwrap() {
            if let LogLine::Entry(entry) = line
                && let Body::Note(text) = entry.body
            {
                noted.push(format!("{} {text}", entry.subject));
            }
        }
        noted
    }

    #[tokio::test]
    async fn problems_are_written_into_the_log_when_they_come_and_when_they_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new("finish");
        board.raise(ProblemCode::DiskError, "", "once");
        let config = JournalConfig {
            dir: dir.path().to_owned(),
            dead_time: Duration::ZERO,
            zones: Zones::default(),
            keep_days: 30,
            keep_bytes: u64::MAX,
            segment_bytes: u64::MAX,
        };
        let journal = Journal::open(config, board.clone()).unwrap();
        let (notes, received) = mpsc::channel(1);
        notes.try_send(Note::Start("started".to_owned())).ok().unwrap();
        let stop = CancellationToken::new();
        let writing = note_down(journal.clone(), board.clone(), Zones::default(), received, stop.clone());
        let writing = tokio::spawn(writing);
        let until = async |count: usize| {
            while noted(dir.path()).len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        until(2).await;
        board.raise(ProblemCode::LowBattery, "mat", "12 %");
        board.clear(ProblemCode::DiskError, "");
        until(4).await;
        board.raise(ProblemCode::DecoderSilent, "mat", "a moment before the end");
        drop(notes);
        stop.cancel();
        writing.await.unwrap().unwrap();
        journal.close().await;
        let wanted = [
            "start started; its entries begin with 1",
            "problem disk_error: once",
            "problem low_battery (mat): 12 %",
            "problem_over disk_error",
            "problem decoder_silent (mat): a moment before the end",
            "stop stopped on request",
        ];
        assert_eq!(noted(dir.path()), wanted);
    }
}
