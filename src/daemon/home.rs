//! Holds the journal, and stands in for it before it can be opened. A data directory that is
//! missing, read-only, full or not writable at the start is a state of the box and does not end it.
//!
//! Must hold:
//! * The box runs meanwhile: page, status and links. What decoders send waits in their receive
//!   buffers, and none of it is acknowledged or counted as kept.
//! * The problem names the directory, what is wrong and what to do. The box continues by itself
//!   once that is done.
//! * A directory that another process uses ends the start (69), because the other process has the
//!   decoders and their reads. Later, with reads in memory, the box waits for the directory.
//! * No journal is begun under a mount point. If `/etc/fstab` says that a disk is to be mounted on
//!   the way to the directory and none is, the box waits for it. Otherwise, what the box kept there
//!   would be hidden by the disk once it is mounted, and the numbers of a race would be given
//!   twice.
//!
//! Not chosen: another directory meanwhile. There would be two journals of one race, and the
//! numbers in the cloud depend on one journal.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::failure::Failure;
use crate::journal::life::SeenPulses;
use crate::journal::{Journal, JournalConfig, JournalError, Kept, OpenError, Received};
use crate::link::ReadStore;
use crate::model::chip::{ChipRead, StoredRanges};
use crate::status::{Board, ProblemCode};

/// How long the start waits for the disk before it continues without. A disk that hangs must not
/// keep the page from starting.
const FIRST_TRY: Duration = Duration::from_secs(5);
/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// The journal, or the place where it will be. Clones share it.
#[derive(Clone)]
pub(super) struct Home(watch::Receiver<Option<Journal>>);

impl Home {
    /// The journal, if it is open.
    pub(super) fn journal(&self) -> Option<Journal> {
        self.0.borrow().clone()
    }

    /// The journal as a value that changes, for a part that works without it too.
    pub(super) fn watched(&self) -> watch::Receiver<Option<Journal>> {
        self.0.clone()
    }

    /// Waits until the journal is open.
    pub(super) async fn opened(&self) -> Journal {
        let mut home = self.0.clone();
        match home.wait_for(Option::is_some).await.map(|journal| journal.clone()) {
            Ok(Some(journal)) => journal,
            _ => std::future::pending().await, // the daemon is stopping
        }
    }

    /// What the watchdog asks at each look: whether the journal got on since the look before. A
    /// journal that is not open yet is a state of the box, and no fault of the process.
    pub(super) fn pulse(self) -> impl FnMut() -> bool {
        let mut seen = SeenPulses::default();
        move || self.journal().is_none_or(|journal| journal.gets_on(&mut seen))
    }
}

impl ReadStore for Home {
    async fn append(&self, received: Vec<Received>) -> Result<Kept, JournalError> {
        ReadStore::append(&self.opened().await, received).await
    }

    async fn stored_ranges(&self, decoder: &str) -> StoredRanges {
        self.opened().await.stored_ranges(decoder).await
    }

    async fn let_go(&self, decoder: &str, which: impl Fn(&ChipRead) -> bool + Send + 'static) {
        ReadStore::let_go(&self.opened().await, decoder, which).await;
    }
}

/// Tries to open the journal until it is open.
pub(super) struct Opener {
    config: JournalConfig,
    board: Board,
    home: watch::Sender<Option<Journal>>,
    /// An attempt that has not ended.
    trying: Option<JoinHandle<Result<Journal, OpenError>>>,
}

impl Opener {
    /// Makes the first attempt. [`Opener::run`] continues if it did not succeed.
    ///
    /// # Errors
    /// Another process uses the directory (69).
    pub(super) async fn start(config: JournalConfig, board: Board) -> Result<(Home, Self), Failure> {
        let (home, journal) = watch::channel(None);
        let mut opener = Self { config, board, home, trying: None };
        match timeout(FIRST_TRY, opener.attempt()).await {
            Ok(Ok(())) => {}
            Ok(Err(Waits::InUse(why))) => return Err(Failure::unavailable(why)),
            Ok(Err(Waits::Disk(why))) => opener.tell(&why),
            Err(_) => opener.tell(&format!(
                "the disk of {} does not answer: look at it, and at its cable",
                opener.config.dir.display()
            )),
        }
        Ok((Home(journal), opener))
    }

    /// Continues until the journal is open, and then waits for `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let opening = async {
            while self.home.borrow().is_none() {
                if self.trying.is_none() {
                    sleep(RETRY).await;
                }
                match self.attempt().await {
                    Ok(()) => {
                        self.board.not_ready("disk", None);
                        self.board.clear(ProblemCode::DiskUnusable, "");
                        tracing::info!("the journal is open: reads are kept");
                    }
                    Err(Waits::InUse(why) | Waits::Disk(why)) => self.tell(&why),
                }
            }
        };
        if stop.run_until_cancelled(opening).await.is_some() {
            stop.cancelled().await;
        }
    }

    fn tell(&self, why: &str) {
        let message = format!(
            "reads cannot be kept: {why}. Until then they wait in memory (8 MiB a decoder) and are not acknowledged; it goes on \
             by itself"
        );
        self.board.not_ready("disk", Some(message.clone()));
        self.board.raise(ProblemCode::DiskUnusable, "", message);
    }

    /// One attempt. It continues in the background if this future is dropped before it ends.
    async fn attempt(&mut self) -> Result<(), Waits> {
        let (config, board) = (self.config.clone(), self.board.clone());
        let trying =
            self.trying.get_or_insert_with(|| tokio::task::spawn_blocking(move || Journal::open(config, board)));
        let opened = trying.await;
        self.trying = None;
        match opened {
            Ok(Ok(journal)) => {
                self.home.send_replace(Some(journal));
                Ok(())
            }
            Ok(Err(error)) => Err(judge(error)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Waits::Disk("passbridge is stopping".into())),
        }
    }
}

/// What keeps the journal from being opened.
enum Waits {
    /// Another process uses it.
    InUse(String),
    /// The disk, or what is on it.
    Disk(String),
}

fn judge(error: OpenError) -> Waits {
    match error {
        OpenError::InUse(_) => Waits::InUse(error.to_string()),
        OpenError::Newer { .. } => Waits::Disk(error.to_string()),
        OpenError::Io { dir, .. } if dir.exists() && !dir.is_dir() => Waits::Disk(format!(
            "data_dir = \"{}\" is a file and no directory: name another one, or move the file away",
            dir.display()
        )),
        OpenError::Io { dir, error } => Waits::Disk(in_words(&dir, &error)),
    }
}

/// What is wrong with the directory, and what to do.
fn in_words(dir: &Path, error: &io::Error) -> String {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let shown = dir.display();
    match error.kind() {
        // A path that exists already and is no directory is a link to something that does not
        // exist.
        NotFound | NotADirectory | AlreadyExists => format!(
            "{shown} is not there and cannot be made ({error}). Look whether its disk is plugged in and mounted, and whether \
             data_dir is right"
        ),
        ReadOnlyFilesystem => format!(
            "the disk of {shown} can only be read ({error}). Mount it for writing; a card that became read-only is failing: \
             copy it and replace it"
        ),
        PermissionDenied if error.get_ref().is_some() => error.to_string(), // it names the file and what to do
        PermissionDenied => format!(
            "this user may not write in {shown} ({error}). Give the directory to the user of the service, or change data_dir"
        ),
        StorageFull | QuotaExceeded => format!("the disk of {shown} is full ({error}). Free some room on it"),
        _ => format!("the journal in {shown} cannot be opened ({error}). Look at the disk and its cable"),
    }
}
