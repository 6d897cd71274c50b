//! Remembers the checks of the mats over a restart, in a small file of the data directory.
//!
//! Must hold: nothing depends on this file. It is written after a tick, and never for a read. If it
//! cannot be read or written, the ticks are only those of this process, and somebody passes the test
//! chip again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::failure::Failure;
use crate::status::{Board, ChecksStatus};

/// Its name in the data directory.
const FILE: &str = "before-the-gun.json";
/// Longest file that is read. A mat takes some 200 bytes.
const LIMIT: u64 = 1 << 20;

/// Takes over what an earlier process saw, and writes what changes until `stop`.
pub(super) async fn remember(data_dir: PathBuf, board: Board, stop: CancellationToken) -> Result<(), Failure> {
    let path = data_dir.join(FILE);
    let from = path.clone();
    let mut written = ChecksStatus::default();
    if let Ok(Ok(before)) = tokio::task::spawn_blocking(move || read(&from)).await {
        written = before.clone();
        board.restore_checks(before);
    }
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = board.checks();
        if now == written {
            continue;
        }
        written = now.clone();
        let to = path.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || write(&to, &now)).await {
            tracing::debug!("{}: {error}", path.display());
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<ChecksStatus> {
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Not synced: a power cut may take the last ticks, and costs no read.
fn write(path: &Path, checks: &ChecksStatus) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, serde_json::to_vec(checks)?)?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::status::{DecoderStatus, LinkState, RecentRead};

    fn board() -> Board {
        let board = Board::new("finish");
        board.decoder("main", |mat: &mut DecoderStatus| mat.state = LinkState::Connected);
        board.look();
        board
    }

    async fn until(so: impl Fn() -> bool) {
        let waiting = async {
            while !so() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.expect("within its time");
    }

    #[tokio::test]
    async fn a_tick_is_still_there_after_a_restart_and_a_file_of_nonsense_is_no_trouble() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "nonsense").unwrap();
        let (first, stop) = (board(), CancellationToken::new());
        let running = tokio::spawn(remember(dir.path().to_owned(), first.clone(), stop.clone()));
        let read = RecentRead {
            seq: 1,
            decoder: "main".to_owned(),
            chip: "C1".to_owned(),
            decoder_time: "06:12:00".to_owned(),
            received: first.now(),
            antenna: None,
            rssi: None,
            hits: None,
            live: true,
        };
        first.recent([read]);
        let kept = || read_back(dir.path()).is_some_and(|checks| checks.mats[0].kept.is_some());
        until(kept).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        let (second, stop) = (board(), CancellationToken::new());
        tokio::spawn(remember(dir.path().to_owned(), second.clone(), stop.clone()));
        until(|| second.checks().mats.first().is_some_and(|mat| mat.kept.is_some())).await;
        assert_eq!(second.checks(), first.checks());
        stop.cancel();
    }

    fn read_back(dir: &Path) -> Option<ChecksStatus> {
        super::read(&dir.join(FILE)).ok()
    }
}
