//! Watches a configuration with mistakes until it is corrected, and then applies it without a
//! restart of the service.
//!
//! Must hold:
//! * Nothing that runs is disturbed: a decoder whose section was wrong gets its link as soon as the
//!   section is right, and the links of the other decoders do not notice.
//! * Some changes cannot be applied while the box runs (another zone, the upload, the page). For
//!   them the whole box starts again, in this process and within a second, but only while no
//!   decoder is connected that would lose what it sends in that second. Otherwise the box reports
//!   that it needs a restart, and a person chooses the moment.
//! * Only a configuration that was wrong is watched. One that was right counts until the next
//!   start, whatever happens to the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::faults::tell_fault;
use super::home::Home;
use crate::config::failure::Failure;
use crate::config::{Config, DecoderConfig, Fault, LoadOptions, Loaded, Part, Terms};
use crate::decoders::Missed;
use crate::link::{self, DecoderHandle};
use crate::status::{Board, LinkState, ProblemCode};

/// Time between two looks at the file.
const EVERY: Duration = Duration::from_secs(5);
/// The subject of the problem that is about the file as a whole.
const FILE: &str = "file";

/// A decoder whose section is wrong, and which waits until it is corrected.
pub(super) struct Waiting {
    pub(super) name: String,
    pub(super) terms: Terms,
    pub(super) asks: DecoderHandle,
    /// The newest configuration that was read.
    pub(super) corrected: watch::Receiver<Option<Arc<Config>>>,
}

impl Waiting {
    /// Runs the link as soon as the section is right, until `stop`.
    pub(super) async fn run(mut self, home: Home, board: Board, stop: CancellationToken) -> Result<(), Failure> {
        let Some(decoder) = stop.run_until_cancelled(self.right()).await else { return Ok(()) };
        board.clear(ProblemCode::DecoderMisconfigured, &self.name);
        tracing::info!(decoder = self.name, "its section is right now: it is read");
        link::announce(&decoder, &board);
        board.decoder(&self.name, |status| status.state = LinkState::Connecting);
        let port = link::open(&decoder).await;
        let link = link::run(decoder, port, self.asks, home, board, stop);
        link.await.map_err(|error| Failure::io(error.to_string()))
    }

    async fn right(&mut self) -> DecoderConfig {
        loop {
            let found = self
                .corrected
                .borrow_and_update()
                .as_ref()
                .and_then(|config| taken_on(&self.name, &self.terms, config));
            if let Some(decoder) = found {
                return decoder;
            }
            if self.corrected.changed().await.is_err() {
                return std::future::pending().await; // the box is stopping
            }
        }
    }
}

/// The decoder, if its section is right in this configuration and only its link has to be started.
fn taken_on(name: &str, terms: &Terms, config: &Config) -> Option<DecoderConfig> {
    config.decoders.iter().find(|decoder| decoder.name == name && decoder.terms() == *terms).cloned()
}

/// Looks at the configuration file.
pub(super) struct Corrected {
    options: LoadOptions,
    /// What was wrong at the start and is still wrong.
    faults: Vec<Fault>,
    /// The decoders that wait for their section to be corrected.
    waiting: Vec<(String, Terms)>,
    /// Decoders that run and keep no reads for later.
    streams: Vec<String>,
    corrected: watch::Sender<Option<Arc<Config>>>,
    anew: mpsc::Sender<Loaded>,
    /// The state of the file at the last look.
    seen: Option<Mark>,
}

/// Values of which at least one changes whenever the file is written or replaced.
type Mark = (u64, i64, i64, u64);

fn mark(path: &Path) -> Option<Mark> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
}

impl Corrected {
    pub(super) fn new(
        config: &Config,
        options: LoadOptions,
        corrected: watch::Sender<Option<Arc<Config>>>,
        anew: mpsc::Sender<Loaded>,
    ) -> Self {
        let waits = |fault: &&Fault| !matches!(fault.part, Part::Key | Part::Token | Part::Bibs);
        let left_out = config.left_out.iter();
        let streams = config.decoders.iter().filter(|decoder| decoder.protocol.missed == Missed::Lost);
        Self {
            seen: mark(&options.file),
            options,
            faults: config.faults.iter().filter(waits).cloned().collect(),
            waiting: left_out.filter_map(|decoder| Some((decoder.name.clone(), decoder.terms.clone()?))).collect(),
            streams: streams.map(|decoder| decoder.name.clone()).collect(),
            corrected,
            anew,
        }
    }

    /// Looks at the file until nothing is wrong any more, and then waits for `stop`. When `asked`
    /// changes, the file is read at once.
    pub(super) async fn run(mut self, board: Board, mut asked: watch::Receiver<u64>, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.faults.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = asked.changed() => self.seen = None,
            }
            let now = mark(&self.options.file);
            if now != self.seen && now.is_some() {
                self.seen = now;
                self.look(&board);
            }
        }
        stop.cancelled().await;
    }

    fn look(&mut self, board: &Board) {
        let loaded = match Config::load_what_is_right(&self.options) {
            Ok(loaded) => loaded,
            Err(error) => {
                let message = format!("{error}. The file cannot be understood now; what runs goes on");
                return board.raise(ProblemCode::ConfigurationWrong, FILE, message);
            }
        };
        board.clear(ProblemCode::ConfigurationWrong, FILE);
        let config = Arc::new(loaded.config.clone());
        self.waiting.retain(|(name, terms)| {
            let right = taken_on(name, terms, &config).is_some();
            if right {
                self.faults.retain(|fault| fault.part != Part::Decoder || fault.about != *name);
                // The decoder runs from now on, so it counts when the box decides whether it may
                // start again.
                let streams =
                    |decoder: &&DecoderConfig| decoder.name == *name && decoder.protocol.missed == Missed::Lost;
                self.streams.extend(config.decoders.iter().find(streams).map(|decoder| decoder.name.clone()));
            }
            !right
        });
        for (name, _) in &self.waiting {
            let still = loaded.config.faults.iter().find(|fault| fault.part == Part::Decoder && fault.about == *name);
            if let Some(fault) = still {
                tell_fault(0, fault, board); // the mistake may be another one than before
            }
        }
        self.corrected.send_replace(Some(config));
        let wrong = |faults: &[Fault]| {
            faults.iter().filter(|fault| !matches!(fault.part, Part::Key | Part::Token | Part::Bibs)).count()
        };
        if wrong(&loaded.config.faults) >= self.faults.len() {
            return; // another mistake in the place of the one before changes nothing
        }
        match self.would_lose(board) {
            None => {
                let _ = self.anew.try_send(loaded); // a full channel means that the box is about to start again
            }
            Some(decoder) => {
                let message = format!(
                    "the configuration is better now, and the box takes it on when it is restarted: sudo systemctl restart \
                     passbridge. It does not restart by itself, because `{decoder}` keeps no reads for later: choose a moment \
                     when nobody crosses its mat"
                );
                board.raise(ProblemCode::ConfigurationWrong, FILE, message);
            }
        }
    }

    /// A decoder whose reads would be lost while the box starts again.
    fn would_lose(&self, board: &Board) -> Option<String> {
        let connected = |name: &&String| {
            let shown = board.snapshot().decoders;
            shown.iter().any(|decoder| {
                decoder.name == **name && matches!(decoder.state, LinkState::Connected | LinkState::Idle)
            })
        };
        self.streams.iter().find(connected).cloned()
    }
}
