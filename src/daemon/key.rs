//! The API key's file is read again when it changes, so that a new key counts at once and without a restart.
//!
//! The file is looked at, not watched: an editor, `cp` and a configuration tool replace files in different ways, and all of them
//! change what `stat` says. Under systemd the service may have only a copy of the file (`LoadCredential=`), which systemd makes at
//! the start: then a new key counts after a restart of the service.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cloud::rufus::Client;
use crate::config;
use crate::status::{Board, ProblemCode};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// What changes whenever the file is written or replaced.
fn mark(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
}

/// Gives each new key of the file to the client, until `stop`. When `asked` changes the file is read at once, whether or not it
/// changed.
pub(super) async fn follow(
    path: PathBuf,
    client: Client,
    board: Board,
    mut asked: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = mark(&path);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
            Ok(()) = asked.changed() => seen = None,
        }
        let now = mark(&path);
        if now == seen || now.is_none() {
            continue; // a file that is gone may be about to be replaced
        }
        seen = now;
        let about = path.display().to_string();
        let taken = config::reread_key(&path).and_then(|key| client.set_key(key).map_err(|error| error.to_string()));
        match taken {
            Ok(()) => {
                tracing::info!(file = about, "the API key was read again");
                board.clear(ProblemCode::KeyFileUnusable, &about);
            }
            Err(why) => board.raise(
                ProblemCode::KeyFileUnusable,
                &about,
                format!("{about} changed and holds no usable API key ({why}); the key before is used until it does"),
            ),
        }
    }
}
