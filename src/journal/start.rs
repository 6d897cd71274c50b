//! Opening a data directory: holding its lock, the identity, a file that stands in the place of a
//! directory, and the reports about missing entries.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::entry::{Body, Entry, write_line};
use super::lock::{lock_dir, lock_path};
use super::reserve::{with_room, write_mark};
use super::shared::{Draft, Shared};
use super::{OpenError, damage, disk, log, mark, mounts, paths};
use crate::status::{Board, ProblemCode};

/// Why a data directory that was ours is no longer ours.
#[derive(Debug)]
pub(super) enum NotOurs {
    /// The directory cannot be opened or locked now.
    Io(io::Error),
    /// Another journal is in this place, so this process must not write into it.
    Taken(String),
}

impl From<io::Error> for NotOurs {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Makes sure that the path of the data directory leads to the directory whose lock this process
/// has. A directory that was removed or moved away is made again and locked, also if an empty disk
/// was mounted over it.
pub(super) fn hold_again(shared: &Shared) -> Result<(), NotOurs> {
    let dir = &shared.config.dir;
    let mut lock = shared.dir_lock();
    let own = lock.metadata()?;
    if std::fs::metadata(lock_path(dir)).is_ok_and(|meta| (meta.dev(), meta.ino()) == (own.dev(), own.ino())) {
        return Ok(());
    }
    if let Some(error) = not_mounted(dir) {
        return Err(error.into());
    }
    std::fs::create_dir_all(dir)?;
    // The directory's own name may be new.
    disk::sync_dir(dir.parent().filter(|above| above.is_dir()).unwrap_or(dir))?;
    let fresh = lock_dir(dir).map_err(|error| match error {
        OpenError::InUse(_) | OpenError::Newer { .. } => NotOurs::Taken(error.to_string()),
        OpenError::Io { error, .. } => NotOurs::Io(error),
    })?;
    let mark = shared.lock().mark.clone();
    let there = log::identity_of(&paths::log_dir(dir))?;
    if there.is_some_and(|there| there != mark.identity) {
        let waiting = shared.lock().state.waiting;
        return Err(NotOurs::Taken(format!(
            "{} is another directory now, with a journal of its own: was a disk mounted over it? This process ends, and the \
             next one goes on with what is there. {waiting} reads that wait for the cloud are in the directory that was there \
             before: unmount the disk, start passbridge once, and it sends them",
            dir.display()
        )));
    }
    *lock = fresh;
    drop(lock);
    write_identity(dir, &mark.identity)?;
    write_mark(dir, &mark);
    Ok(())
}

/// Why no journal may be begun in `dir` now: a disk should be mounted at `dir` or above it, and is
/// not.
pub(super) fn not_mounted(dir: &Path) -> Option<io::Error> {
    let missing = mounts::missing(dir)?;
    let text = format!("/etc/fstab says that a disk is mounted at {}, and none is", missing.display());
    Some(io::Error::new(io::ErrorKind::NotFound, text))
}

/// The journal's identity (a new one if there is none), and whether an earlier journal has lost its
/// log.
pub(super) fn identity(dir: &Path, mark: Option<&mark::WrittenMark>) -> io::Result<(String, bool)> {
    let log_dir = paths::log_dir(dir);
    let has_log = !log::segments(&log_dir)?.is_empty();
    let text = std::fs::read_to_string(identity_path(dir)).ok();
    let known = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let was_there = known.is_some() || mark.is_some();
    // Without a log and without a mark nothing says which numbers were given, so this is another
    // journal.
    let identity = log::identity_of(&log_dir).ok().flatten().or_else(|| known.clone().filter(|_| has_log));
    let identity = identity.or_else(|| mark.map(|mark| mark.identity.clone()));
    let identity = identity.unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
    // The power failed after a new log was begun in place of a lost one, and before the new
    // identity was written.
    let untold = has_log && known.is_some_and(|known| known != identity);
    Ok((identity, (was_there && !has_log) || untold))
}

fn identity_path(dir: &Path) -> PathBuf {
    dir.join("identity")
}

/// Writes the identity beside the log. This is done only when the log exists: with an identity and
/// no log, a power cut in the first start would look like a lost journal. This also makes the name
/// of the log's directory durable.
pub(super) fn write_identity(dir: &Path, identity: &str) -> io::Result<()> {
    let path = identity_path(dir);
    if std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == identity) {
        return Ok(());
    }
    if path.is_dir() {
        disk::rename(&path, &dir.join("identity.broken"))?;
    }
    with_room(dir, || disk::write_new(&path, format!("{identity}\n").as_bytes()))?;
    disk::sync_dir(dir)
}

/// Reports what was missing when the log was opened. `all`: there was no log although there should
/// be one.
pub(super) fn tell_losses(board: &Board, log_dir: &Path, log: &log::Log, repair: &log::Repair, all: bool) {
    let after = "take what is missing from the decoder's memory or the backup system";
    let next = log.next;
    if all {
        let message = format!(
            "the log of this box is gone and a new one was begun: was the disk replaced or emptied? Numbers go on at {next}. \
             What the upload queue still holds is sent; what the cloud holds is not sent again; {after}"
        );
        board.raise(ProblemCode::JournalLost, "", message);
    }
    if !repair.lost.is_empty() {
        let most =
            if repair.skipped.is_some() { ", and what was kept in the last seconds before it stopped" } else { "" };
        let message = format!(
            "entries {}{most} were kept once and are gone from the log in {}: was a file removed, or is the disk failing? \
             Numbers go on at {next}. What the upload queue still holds is sent; {after}",
            damage::in_words(&repair.lost),
            log_dir.display()
        );
        board.raise(ProblemCode::LogLost, "", message);
    }
    if !repair.unreadable.is_empty() {
        let message = format!(
            "a segment of the log cannot be read and was moved aside: {}. Numbers go on at {next}; {after}",
            repair.unreadable.join("; ")
        );
        board.raise(ProblemCode::LogUnreadable, "", message);
    }
}

/// Notes about what opening the log found, for people and for the next start.
pub(super) fn notes(board: &Board, repair: log::Repair) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut note = |code: &str, text: String, raw: Vec<u8>| {
        tracing::warn!("{text}");
        drafts.push((code.into(), board.now(), Body::Note(text.into()), raw.into()));
    };
    let log::Repair { cut_bytes, cut, torn, lost, skipped, .. } = repair;
    if cut_bytes > 0 {
        let text = format!(
            "the log ended in {cut_bytes} bytes that are no whole line: cut off. A power cut leaves that of a group that was \
             being written and had not been acknowledged"
        );
        note("repair", text, cut);
    }
    if !lost.is_empty() {
        let text = format!("entries {} were kept once and are gone from the log", damage::in_words(&lost));
        note(damage::LOST, damage::note(&lost, &text), Vec::new());
    }
    let unused: Vec<(u64, u64)> = torn.into_iter().chain(skipped).collect();
    if !unused.is_empty() {
        let text = format!(
            "entries {} are not there: lost from the end of the log when the power was cut, and not known to have been \
             acknowledged, or left out so that no number is given twice",
            damage::in_words(&unused)
        );
        note(damage::SKIPPED, damage::note(&unused, &text), Vec::new());
    }
    drafts
}

/// Writes the notes before any other entry. The mark that follows says that all entries up to it
/// were durable, and the next start would take a gap that is not noted by then for a loss. Returns
/// the notes if the disk does not take them now.
pub(super) fn write_notes(log: &mut log::Log, drafts: Vec<Draft>) -> Vec<Draft> {
    let mut lines = Vec::new();
    for (in_group, (subject, time, body, raw)) in (0..).zip(drafts.iter().cloned()) {
        write_line(&mut lines, &Entry { seq: log.next + in_group, in_group, subject, time, body, raw });
    }
    if drafts.is_empty() || log.append(&lines, drafts.len() as u64).is_ok() { Vec::new() } else { drafts }
}
