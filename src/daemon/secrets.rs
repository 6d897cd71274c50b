//! Reads the files of the API key and of the page's token again when they change. So a new secret
//! counts at once and without a restart, and the box reads decoders although a secret is missing at
//! the start.
//!
//! The files are polled and not watched: an editor, `cp` and a configuration tool replace files in
//! different ways, and all of them change what `stat` returns. Under systemd the service may have
//! only a copy of a file (`LoadCredential=`), which systemd makes at the start. Then a new secret
//! counts after a restart of the service.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::status::{Board, ProblemCode};

/// Time between two looks at a file.
const EVERY: Duration = Duration::from_secs(2);

/// Values of which at least one changes whenever the file is written, replaced, or given to another
/// owner.
fn mark(path: &Path) -> Option<(u64, i64, i64, i64, i64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec(), file.size()))
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
                // The problem from the start may name a line of the configuration.
                board.clear_all(self.missing);
                board.clear(self.unusable, &about);
            }
            Err(why) if self.has_one => {
                let message = format!(
                    "{about} changed and holds nothing that can be used as {what} ({why}); the one before is used until it does"
                );
                board.raise(self.unusable, &about, message);
            }
            Err(_) => {} // the problem from the start still says that it is missing
        }
    }
}
