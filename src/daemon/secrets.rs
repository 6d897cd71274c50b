//! The files of the API key and of the page's token are read again when they change, so that a new
//! one counts at once and without a restart, and so that one that is missing at the start is no
//! reason not to read.
//!
//! The files are looked at, not watched: an editor, `cp` and a configuration tool replace files in
//! different ways, and all of them change what `stat` says. Under systemd the service may have only
//! a copy of a file (`LoadCredential=`), which systemd makes at the start: then a new one counts
//! after a restart of the service.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::status::{Board, ProblemCode};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// What changes whenever the file is written, replaced, or given to somebody else.
fn mark(path: &Path) -> Option<(u64, i64, i64, i64, i64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// A file with a secret in it.
pub(super) struct SecretFile {
    pub(super) path: PathBuf,
    /// What it is, for people.
    pub(super) what: &'static str,
    /// The problem while there is none at all.
    pub(super) missing: ProblemCode,
    /// The problem while the one before is used.
    pub(super) unusable: ProblemCode,
    /// There is one that is used.
    pub(super) has_one: bool,
}

impl SecretFile {
    /// Gives each new secret of the file to `take`, until `stop`. When `asked` changes the file is
    /// read at once, whether or not it changed.
    pub(super) async fn follow(
        mut self,
        take: impl Fn(SecretString) -> Result<(), String>,
        board: Board,
        mut asked: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was read at the start is known; what could not be read is tried at once.
        let mut seen = self.has_one.then(|| mark(&self.path)).flatten();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = asked.changed() => seen = None,
            }
            let now = mark(&self.path);
            // A file that is gone may be about to be replaced.
            if now == seen || now.is_none() {
                continue;
            }
            seen = now;
            self.read(&take, &board);
        }
    }

    fn read(&mut self, take: &impl Fn(SecretString) -> Result<(), String>, board: &Board) {
        let (about, what) = (self.path.display().to_string(), self.what);
        match config::reread_secret(&self.path).and_then(take) {
            Ok(()) => {
                tracing::info!(file = about, "{what} was read again");
                self.has_one = true;
                // The problem of the start may name a line of the configuration.
                board.clear_all(self.missing);
                board.clear(self.unusable, &about);
            }
            Err(why) if self.has_one => {
                let message = format!(
                    "{about} changed and holds nothing that can be used as {what} ({why}); the one before is used until it does"
                );
                board.raise(self.unusable, &about, message);
            }
            Err(_) => {} // still missing, as the problem says since the start
        }
    }
}
