//! Watches the configuration file. A file with mistakes is applied without a restart of the service
//! when it is corrected.
//!
//! Must hold:
//! * Nothing that runs is disturbed: a decoder whose section was wrong gets its link as soon as the
//!   section is right, and the links of the other decoders do not notice.
//! * Some changes cannot be applied while the box runs (another zone, the upload, the page). For
//!   them the whole box starts again, in this process and within a second, but only while no
//!   decoder is connected that would lose what it sends in that second. Otherwise the box reports
//!   that it needs a restart, and a person chooses the moment.
//! * A box that is not set up has no file. It starts with the first one that can be understood,
//!   whatever is wrong in it, because nothing runs that could be disturbed.
//! * A configuration that was right counts until the next start, whatever happens to the file. The
//!   box reports when the file is another one by then, and when the next start would fail with it.
//! * No problem names a line that is right by now, and none promises what the box does not do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::faults::{message_of, problem_of};
use super::home::Home;
use crate::config::failure::Failure;
use crate::config::{Config, ConfigError, DecoderConfig, Fault, LoadOptions, Loaded, Part, Terms};
use crate::decoders::Missed;
use crate::link::{self, DecoderHandle};
use crate::status::{Board, LinkState, ProblemCode};

/// Time between two looks at the file.
const EVERY: Duration = Duration::from_secs(5);
/// The subject of the problem that is about the file as a whole.
const FILE: &str = "file";
/// What a person has to do when only a restart takes the file on.
const RESTART: &str = "It counts when passbridge is restarted at a quiet moment: sudo systemctl restart passbridge";

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
    /// The configuration that runs.
    runs: Config,
    /// What was wrong at the start and is still wrong.
    faults: Vec<Fault>,
    /// The decoders that wait for their section to be corrected. Without terms only a new start of
    /// the box can take one.
    waiting: Vec<(String, Option<Terms>)>,
    /// Decoders that run and keep no reads for later.
    streams: Vec<String>,
    corrected: watch::Sender<Option<Arc<Config>>>,
    anew: mpsc::Sender<Loaded>,
    /// The state of the file at the last look.
    seen: Option<Mark>,
    /// The problems that this part shows.
    told: Told,
}

/// Problems by their code and their subject, each with its message.
type Told = BTreeMap<(ProblemCode, String), String>;

/// Values of which at least one changes whenever the file is written, replaced, or given other
/// rights.
type Mark = (u64, i64, i64, i64, i64, u64);

fn mark(path: &Path) -> Option<Mark> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// Whether this part reports the fault. The parts that wait for a file report theirs themselves.
fn is_of_the_file(fault: &&Fault) -> bool {
    !matches!(fault.part, Part::Key | Part::Token | Part::Bibs)
}

impl Corrected {
    pub(super) fn new(
        config: &Config,
        options: LoadOptions,
        corrected: watch::Sender<Option<Arc<Config>>>,
        anew: mpsc::Sender<Loaded>,
    ) -> Self {
        let left_out = config.left_out.iter();
        let streams = config.decoders.iter().filter(|decoder| decoder.protocol.missed == Missed::Lost);
        let of_the_file = config.faults.iter().enumerate().filter(|(_, fault)| is_of_the_file(fault));
        Self {
            seen: mark(&options.file),
            options,
            runs: config.clone(),
            faults: config.faults.iter().filter(is_of_the_file).cloned().collect(),
            waiting: left_out.map(|decoder| (decoder.name.clone(), decoder.terms.clone())).collect(),
            streams: streams.map(|decoder| decoder.name.clone()).collect(),
            corrected,
            anew,
            told: of_the_file.filter_map(|(at, fault)| problem_of(at, fault)).collect(),
        }
    }

    /// Looks at the file until `stop`. When `asked` changes, the file is read at once.
    pub(super) async fn run(mut self, board: Board, mut asked: watch::Receiver<u64>, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut anyway = false;
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = asked.changed() => anyway = true,
            }
            let now = mark(&self.options.file);
            if anyway || now != self.seen {
                self.seen = now;
                self.look(&board);
            }
        }
    }

    fn look(&mut self, board: &Board) {
        let not_set_up = self.faults.iter().any(|fault| fault.part == Part::NotSetUp);
        let missing = self.options.file_is_missing();
        if not_set_up && missing {
            return board.clear(ProblemCode::ConfigurationUnreadable, FILE); // a wrong one was taken away
        }
        let loaded = match Config::load_what_is_right(&self.options) {
            Ok(loaded) if not_set_up => return self.start_anew(loaded),
            Ok(loaded) => loaded,
            Err(error) => {
                let then = match (not_set_up, missing) {
                    (true, _) => "Nothing is read until this is corrected; the box takes the file by itself",
                    (_, true) => {
                        "What runs goes on, but after the next start, for example after a power cut, nothing is read"
                    }
                    _ => {
                        "What runs goes on, but passbridge does not start with this file, for example after a power cut"
                    }
                };
                let message = message_of(&error, then);
                return board.raise(ProblemCode::ConfigurationUnreadable, FILE, message);
            }
        };
        board.clear(ProblemCode::ConfigurationUnreadable, FILE);
        self.take_on(&loaded.config);
        let wrong = loaded.config.faults.iter().filter(is_of_the_file).count();
        // Another mistake in the place of the one before is no reason to start again.
        let would_lose = (wrong < self.faults.len()).then(|| self.would_lose(board));
        if let Some(None) = would_lose {
            return self.start_anew(loaded);
        }
        let tells = self.tells(&loaded.config, would_lose.flatten());
        for (code, about) in self.told.keys().filter(|known| !tells.contains_key(known)) {
            board.clear(*code, about);
        }
        for ((code, about), message) in &tells {
            board.raise(*code, about, message);
        }
        self.told = tells;
    }

    /// Lets the box start again with this configuration.
    fn start_anew(&self, loaded: Loaded) {
        let _ = self.anew.try_send(loaded); // a full channel means that the box is about to start again
    }

    /// Takes on the decoders whose sections are right by now.
    fn take_on(&mut self, file: &Config) {
        let config = Arc::new(file.clone());
        self.waiting.retain(|(name, terms)| {
            let taken = terms.as_ref().and_then(|terms| taken_on(name, terms, file));
            let Some(decoder) = taken else { return true };
            self.faults.retain(|fault| fault.part != Part::Decoder || fault.about != *name);
            self.told.remove(&(ProblemCode::DecoderMisconfigured, name.clone())); // its link clears the problem
            // The decoder runs from now on, so it counts when the box decides whether it may start
            // again.
            if decoder.protocol.missed == Missed::Lost {
                self.streams.push(name.clone());
            }
            self.runs.left_out.retain(|left_out| left_out.name != *name);
            self.runs.decoders.push(decoder);
            false
        });
        self.corrected.send_replace(Some(config));
    }

    /// The problems about the file, if the box does not start again now. `stream` is the decoder
    /// because of which it does not.
    fn tells(&self, file: &Config, stream: Option<String>) -> Told {
        let mut tells = Told::new();
        let mut mistake = None;
        for (at, fault) in file.faults.iter().enumerate().filter(|(_, fault)| is_of_the_file(fault)) {
            match self.waits(fault) {
                true => tells.extend(problem_of(at, fault)),
                false => mistake = mistake.or(Some(&fault.error)),
            }
        }
        let stream = stream.map_or_else(String::new, |decoder| {
            format!(
                ". The box does not restart by itself, because `{decoder}` keeps no reads for later: choose a moment when nobody \
                 crosses its mat"
            )
        });
        let right = |what: &str| format!("{what} in the configuration file now. {RESTART}{stream}");
        for (name, _) in &self.waiting {
            let still = file.faults.iter().any(|fault| fault.part == Part::Decoder && fault.about == *name);
            let named = self.runs.left_out.iter().any(|left_out| left_out.name == *name && left_out.named);
            // A section without a usable name has another name when it is right.
            let there = file.decoders.iter().any(|decoder| match named {
                true => decoder.name == *name,
                false => self.runs.decoders.iter().all(|running| running.name != decoder.name),
            });
            if !still && there {
                let message = right("the section of this decoder is right");
                tells.insert((ProblemCode::DecoderWaitsForRestart, name.clone()), message);
            }
        }
        let held = self.faults.iter().any(|fault| fault.part == Part::Upload);
        if held && file.cloud.is_some() {
            let message = right("everything about the upload is right");
            tells.insert((ProblemCode::UploadWaitsForRestart, String::new()), message);
        }
        let waits = tells
            .keys()
            .any(|(code, _)| matches!(code, ProblemCode::DecoderWaitsForRestart | ProblemCode::UploadWaitsForRestart));
        if let Some(message) = self.changed(file, mistake, waits, &stream) {
            tells.insert((ProblemCode::ConfigurationChanged, FILE.to_owned()), message);
        }
        tells
    }

    /// What to say about a file that is not what runs. `waits`: another problem already says that the
    /// file counts after a restart.
    fn changed(&self, file: &Config, mistake: Option<&ConfigError>, waits: bool, stream: &str) -> Option<String> {
        if let Some(error) = mistake {
            let then = "What runs goes on as before; correct the line before passbridge is restarted";
            return Some(message_of(error, then));
        }
        let differ = self.runs.differences(file);
        if waits || differ.is_empty() {
            return None;
        }
        Some(format!("the configuration file differs from what runs ({}). {RESTART}{stream}", differ.join(", ")))
    }

    /// Whether something waits since the start because of a fault like this one.
    fn waits(&self, fault: &Fault) -> bool {
        match fault.part {
            Part::Decoder => self.waiting.iter().any(|(name, _)| *name == fault.about),
            part => self.faults.iter().any(|known| known.part == part),
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
