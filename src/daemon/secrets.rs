//! Reads the files of the API key and of the page's token again when they change. So a new secret
//! counts at once and without a restart, and the box reads decoders although a secret is missing at
//! the start.
//!
//! The files are polled and not watched: an editor, `cp` and a configuration tool replace files in
//! different ways, and all of them change what `stat` returns. Under systemd the service may have
//! only a copy of a file (`LoadCredential=`), which systemd makes at the start. Then a new secret
//! counts after a restart of the service.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Unusable};
use crate::status::{Board, ProblemCode};

/// Time between two looks at a file.
const EVERY: Duration = Duration::from_secs(2);

/// Values of which at least one changes whenever the file is written, replaced, or given to another
/// owner.
fn mark(path: &Path) -> Option<(u64, i64, i64, i64, i64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// What became of the file of a secret, and which secret is used now.
fn goes_on(file: &str, what: &str, why: &Unusable) -> String {
    match why.kind {
        ErrorKind::NotFound => format!("{file} is gone: {what} that was in it before goes on being used"),
        ErrorKind::InvalidData => format!(
            "{file} has new content that cannot be used as {what} ({why}): the one that was in it before goes on being used"
        ),
        _ => format!(
            "{file} cannot be read any more ({why}), so that nobody knows whether it was changed: {what} that was read from it \
             before goes on being used"
        ),
    }
}

/// A file that contains a secret.
pub(super) struct SecretFile {
    pub(super) path: PathBuf,
    /// The name of the secret, for people.
    pub(super) what: &'static str,
    /// The problem while there is no secret at all.
    pub(super) missing: ProblemCode,
    /// The problem while the file has no usable secret and the previous one is used.
    pub(super) unusable: ProblemCode,
    /// Whether a secret is in use.
    pub(super) has_one: bool,
    /// Why the file has no usable secret by now, while the one before is in use.
    pub(super) lost: Option<Unusable>,
}

/// The subject of the warning that a file is open to every user: the file. `None`: the warning is
/// about something else.
pub(super) fn warned_file(config: &Config, warning: &str) -> Option<String> {
    let key = config.cloud.as_ref().and_then(|cloud| cloud.api_key_file.as_ref());
    let files = key.into_iter().chain(&config.status.token_file).map(|path| path.display().to_string());
    files.into_iter().find(|file| warning.strip_prefix(file.as_str()).is_some_and(|rest| rest.starts_with(" holds ")))
}

impl SecretFile {
    /// Passes each new secret of the file to `take`, until `stop`. When `asked` changes, the file
    /// is read at once, whether or not it changed.
    pub(super) async fn follow(
        mut self,
        take: impl Fn(SecretString) -> Result<(), String>,
        board: Board,
        mut asked: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // If the start read the file, its state is known. If it could not, the file is read at
        // once.
        let mut seen = self.has_one.then(|| mark(&self.path)).flatten();
        let mut looks_without = 0_u32;
        loop {
            let mut anyway = false;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = asked.changed() => anyway = true,
            }
            let now = mark(&self.path);
            looks_without = if now.is_some() { 0 } else { looks_without.saturating_add(1) };
            // A file that is gone for one look may be about to be replaced.
            let replaced = now.is_none() && looks_without == 1;
            if anyway || (now != seen && !replaced) {
                seen = now;
                self.read(&take, &board);
            }
            self.tell_lost(&board);
        }
    }

    fn read(&mut self, take: &impl Fn(SecretString) -> Result<(), String>, board: &Board) {
        let (about, what) = (self.path.display().to_string(), self.what);
        let read = config::reread_secret(&self.path);
        let taken = read.and_then(|(secret, warning)| match take(secret) {
            Ok(()) => Ok(warning),
            Err(why) => Err(Unusable::content(why)),
        });
        match taken {
            Ok(warning) => {
                tracing::info!(file = about, "{what} was read again");
                self.has_one = true;
                self.lost = None;
                match warning {
                    Some(warning) => board.raise(ProblemCode::Configuration, &about, warning),
                    None => board.clear(ProblemCode::Configuration, &about),
                }
                // The problem from the start may name a line of the configuration.
                board.clear_all(self.missing);
                board.clear(self.unusable, &about);
            }
            Err(why) if self.has_one => self.lost = Some(why),
            Err(_) => {} // the problem from the start still says that it is missing
        }
    }

    /// Shows that the file has no secret by now. The one before is used, unless it is a key that the
    /// cloud refuses: then there is none that can be used.
    fn tell_lost(&self, board: &Board) {
        let Some(why) = &self.lost else { return };
        let (about, what) = (self.path.display().to_string(), self.what);
        let refused = |board: &Board| {
            board.snapshot().problems.iter().any(|problem| problem.code == ProblemCode::KeyRefused.word())
        };
        if self.missing == ProblemCode::KeyMissing && refused(board) {
            let message = format!(
                "{about}: {why}, and the cloud refuses the key that was in it before. Reads are kept, and nothing is uploaded until \
                 then"
            );
            board.raise(self.missing, "", message);
            board.clear(self.unusable, &about);
            return;
        }
        if self.missing != self.unusable {
            board.clear_all(self.missing);
        }
        board.raise(self.unusable, &about, format!("{}, but not after a restart", goes_on(&about, what, why)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_unreadable_or_no_key_is_told_apart_and_which_key_goes_on_being_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api_key");
        let told = || {
            let why = config::reread_secret(&path).map(drop).unwrap_err();
            goes_on("/k", "the API key", &why)
        };
        assert_eq!(told(), "/k is gone: the API key that was in it before goes on being used");
        std::fs::write(&path, "two words").unwrap();
        let content = told();
        assert!(
            content.starts_with("/k has new content that cannot be used as the API key (the file holds"),
            "{content}"
        );
        assert!(content.ends_with("the one that was in it before goes on being used"), "{content}");
        // Root may read everything, so a directory stands for a file that cannot be read.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let unreadable = told();
        assert!(unreadable.contains("cannot be read any more (") && !unreadable.contains("content"), "{unreadable}");
        assert!(unreadable.ends_with("that was read from it before goes on being used"), "{unreadable}");
    }
}
