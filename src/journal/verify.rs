//! The check of the log: is it whole, and which numbers are missing?
//!
//! Nobody reads an old segment while all is well. So at every start a thread of its own slowly
//! reads the whole log up to the end that it had at that moment, and reports as a problem which
//! lines do not agree with their checksum and which numbers are missing. The log notes what is
//! known to be missing. `numbers_skipped` (entries that were never acknowledged: a group that a
//! power cut tore, or numbers that were left out) is no damage. `numbers_lost` was reported and
//! noted before, and is shown until its segments are past their retention.

use std::time::Duration;

use tokio::sync::mpsc;

use super::damage::{Damage, LOST, note, without};
use super::entries::Entries;
use super::entry::Body;
use super::log::LogLine;
use super::shared::{AppendRequest, Shared};
use crate::status::ProblemCode;

/// Entries between two pauses, so that reads that arrive meanwhile do not wait for the disk.
const STEP: u64 = 512;
const PAUSE: Duration = Duration::from_millis(1);

/// The body of the thread. `oldest` and `durable` are the first and the last number that the log
/// should contain. `known` is the damage that was found, and is being noted, when the log was
/// opened.
pub(super) fn run(
    shared: &Shared,
    oldest: u64,
    durable: u64,
    known: Damage,
    requests: &mpsc::WeakSender<AppendRequest>,
) {
    let damage = match read_all(shared, oldest, durable, known) {
        Ok(Some(damage)) => damage,
        Ok(None) => return, // the journal closes
        Err(error) => {
            let what = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "a file of it belongs to another user, and this one may not read it. It is not damaged: give it back \
                     with chown"
                }
                _ => "is the disk failing?",
            };
            let message =
                format!("the log in {} could not be read through: {error}; {what}", shared.log_dir().display());
            return shared.board.raise(ProblemCode::LogUnread, "", message);
        }
    };
    let Some(message) = damage.message() else { return };
    shared.board.raise(ProblemCode::LogDamaged, "", message.clone());
    let fresh = without(&damage.lost(), &damage.noted);
    if let (false, Some(requests)) = (fresh.is_empty(), requests.upgrade()) {
        let text = note(&fresh, &message);
        let draft = (LOST.into(), shared.board.now(), Body::Note(text.into()), Box::default());
        let _ = requests.blocking_send(AppendRequest::unheard(vec![draft]));
    }
}

/// Reads the whole log. `None`: the journal closes.
pub(super) fn read_all(
    shared: &Shared,
    oldest: u64,
    durable: u64,
    mut damage: Damage,
) -> std::io::Result<Option<Damage>> {
    let mut before = oldest.saturating_sub(1);
    let Some(mut entries) = Entries::all(&shared.log_dir(), durable)? else { return Ok(Some(damage)) };
    let mut read = 0;
    while before < durable
        && let Some(line) = entries.line()?
    {
        match line {
            LogLine::Entry(entry) => {
                damage.entry(before, entry.seq, &entry.body, &entry.subject);
                before = before.max(entry.seq);
            }
            LogLine::Bad { segment, line, why } => damage.line(segment, line, why),
            LogLine::State(_) => {}
        }
        read += 1;
        if read % STEP == 0 {
            if shared.lock().closing {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
    if before < durable {
        damage.gone(before + 1, durable);
    }
    Ok(Some(damage))
}
