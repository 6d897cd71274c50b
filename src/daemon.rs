//! The daemon: every task of the way of a read, started in order, watched, and stopped in order.
//!
//! Must hold:
//! * No task dies alone: one that ends by itself ends the process with a reason, and systemd starts it again.
//! * Faults of the configuration (a port in use, a key that no header can carry) show at the start, before anything
//!   is kept, and end with exit code 78.
//! * A data directory that cannot be had is a state and no end (`home`): everything runs, and reads wait in memory.
//! * Stopping takes at most 10 s: links stop reading and keep what they have, the request in flight is finished,
//!   the journal checkpoints last.
//!
//! `demo` and the tests run this same value against simulated decoders and a simulated cloud.

mod clock;
pub mod harden;
mod home;
mod key;
pub mod logging;
mod notes;
pub mod service;
mod signals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::home::{Home, Opener};
use self::notes::{Note, note_down};
use self::signals::{Signals, Wish};
use crate::cloud::audit;
use crate::cloud::passing::{BibFile, Bibs, Mapper, UnknownChips};
use crate::cloud::rufus;
use crate::cloud::uplink::{self, Ties, UplinkConfig};
use crate::config::failure::Failure;
use crate::config::{CloudConfig, Config};
use crate::export;
use crate::journal::let_go::Told;
use crate::journal::{Journal, JournalConfig, OpenError};
use crate::link::{self, DecoderHandle};
use crate::model::clock::Wall;
use crate::model::source;
use crate::serve::control::Socket;
use crate::serve::ops::{Decoders, Ops, Repairs};
use crate::serve::web;
use crate::status::{Board, ProblemCode, Snapshot};

/// Size at which the log begins a new segment, and the queue a new span: about 200,000 reads.
/// A span that is read is in memory as a whole (some 6 MB), and two may be open.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// How long the tasks may take to stop; the journal's last checkpoint comes on top, within systemd's patience.
const STOP_LIMIT: Duration = Duration::from_millis(9_500);

/// Between two looks whether a segment of the log is full.
const WINDOWS_EVERY: Duration = Duration::from_secs(60);

/// Notes that wait for the disk. More are dropped, but no problem is: the board has those.
const NOTES: usize = 100;

/// A running box.
pub struct Daemon {
    board: Board,
    home: Home,
    /// Changes when somebody wants that what can be read again is (SIGHUP). Whoever holds what was read from a file
    /// subscribes.
    reread: watch::Sender<u64>,
    /// Changes when somebody wants the passings at which the cloud failed to be tried again now.
    try_again: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: JoinSet<(String, Result<(), Failure>)>,
    /// Where the status page listens.
    pub status_address: Option<SocketAddr>,
    /// Where each listening decoder port is, by decoder name.
    pub listening: BTreeMap<String, SocketAddr>,
}

impl Daemon {
    /// Starts everything. `warnings` are shown as problems.
    ///
    /// # Errors
    /// Configuration (78): a port in use, options a protocol does not take, a key no header can carry, a file in the place of
    /// the data directory. Unavailable (69): the data directory is in use. One that cannot be had now is no error: then
    /// [`Daemon::journal`] is `None`, and the board says why.
    pub async fn start(config: Config, warnings: &[String]) -> Result<Self, Failure> {
        Self::start_at(config, warnings, Wall::default()).await
    }

    /// As [`Daemon::start`], with `wall` as the box's wall clock.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_at(config: Config, warnings: &[String], wall: Wall) -> Result<Self, Failure> {
        rufus::install_tls();
        let board = Board::with_clock(&config.name, wall.clone());
        for (at, warning) in warnings.iter().enumerate() {
            board.raise(ProblemCode::Configuration, &(at + 1).to_string(), warning);
        }
        let client = config.cloud.as_ref().map(|cloud| client(cloud, &config, wall.clone())).transpose()?;
        let mut ports = Vec::new();
        for decoder in &config.decoders {
            let port = link::bind(decoder).await.map_err(|error| Failure::config(error.to_string()))?;
            link::announce(decoder, &board);
            ports.push((decoder.clone(), port));
        }
        let web = match config.status.listen {
            Some(address) => Some(web::bind(address).await.map_err(|error| Failure::config(error.to_string()))?),
            None => None,
        };
        let (home, opener) = Opener::start(journal_config(&config), board.clone()).await?;
        let mut daemon = Self {
            board,
            home,
            reread: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            status_address: web.as_ref().and_then(|listener| listener.local_addr()),
            listening: BTreeMap::new(),
            try_again: watch::Sender::default(),
        };
        let (board, stop) = (daemon.board.clone(), daemon.stop.clone());
        let opening = opener.run(stop.clone());
        daemon.spawn("opening of the journal", async move {
            opening.await;
            Ok(())
        });
        daemon.start_chores(&config);
        let (reading, data_dir, ending) = (export::Reading::new(&config), config.data_dir.clone(), stop.clone());
        daemon.spawn_with_journal("index of the log", move |_| keep_windows(data_dir, reading, ending));
        if let Some(listener) = web {
            let token = config.status.token.clone();
            let serve = web::serve(listener, board.clone(), token, stop.clone());
            daemon.spawn("status page", async move {
                serve.await;
                Ok(())
            });
        }
        let mut repairs = Repairs::new();
        if let Some(client) = client {
            if let Some(path) = config.cloud.as_ref().and_then(|cloud| cloud.api_key_file.clone()) {
                let follow = key::follow(path, client.clone(), board.clone(), daemon.reread.subscribe(), stop.clone());
                daemon.spawn("API key's file", async move {
                    follow.await;
                    Ok(())
                });
            }
            repairs = daemon.start_uplinks(&config, &client).await;
        }
        let asks: Decoders =
            config.decoders.iter().map(|decoder| (decoder.name.clone(), DecoderHandle::default())).collect();
        let ops = Ops::new(board.clone(), repairs, asks.clone(), daemon.try_again.clone());
        let mut socket = Socket::new(&config.data_dir, ops);
        // The journal's lock says that no other daemon listens there.
        if daemon.home.journal().is_some() {
            socket.bind();
        }
        let serving = stop.clone();
        daemon.spawn_with_journal("control socket", async move |journal| {
            socket.with_journal(journal).serve(serving).await;
            Ok(())
        });
        for (decoder, port) in ports {
            if let Some(address) = port.local_addr() {
                daemon.listening.insert(decoder.name.clone(), address);
            }
            let name = format!("link of decoder `{}`", decoder.name);
            let asks = asks.get(&decoder.name).cloned().unwrap_or_default();
            let link = link::run(decoder, port, asks, daemon.home.clone(), board.clone(), stop.clone());
            daemon.spawn(&name, async move { link.await.map_err(|error| Failure::io(error.to_string())) });
        }
        Ok(daemon)
    }

    fn start_chores(&mut self, config: &Config) {
        let known = Known {
            decoders: config.devices().into_values().flatten().collect(),
            devices: config.devices().into_keys().map(Into::into).collect(),
        };
        let (notes, received) = mpsc::channel(NOTES);
        let started = format!("passbridge {} started as `{}`", env!("CARGO_PKG_VERSION"), config.name);
        let _ = notes.try_send(Note::Text("start", started)); // the channel is empty
        let watch = clock::Watch::new(&self.board);
        let zones = config.zones();
        let (board, stop) = (self.board.clone(), self.stop.clone());
        self.spawn_with_journal("notes", move |journal| note_down(journal, board, zones, received, stop));
        let (board, stop) = (self.board.clone(), self.stop.clone());
        self.spawn_with_journal("chores", move |journal| chores(journal, board, stop, notes, known, watch));
        self.spawn("watch over the log", watch_log(self.board.clone(), self.stop.clone()));
        self.spawn("state", watch_state(self.board.clone(), self.stop.clone()));
    }

    /// Starts an uplink and its audits per device; gives the way to the repairs of each.
    async fn start_uplinks(&mut self, config: &Config, client: &rufus::Client) -> Repairs {
        let mut repairs = Repairs::new();
        let Some(cloud) = &config.cloud else { return repairs };
        let bibs = match &config.passing.bibs {
            None => Bibs::none(),
            Some(path) => {
                let (file, bibs) = BibFile::open(path, &self.board).await;
                let follow = file.follow(self.reread.subscribe(), self.stop.clone());
                self.spawn("bib file", async move {
                    follow.await;
                    Ok(())
                });
                bibs
            }
        };
        let unknown = config.passing.bibs.as_deref().map(|file| UnknownChips::new(file, self.board.clone()));
        for (device, decoders) in config.devices() {
            self.board.upload(device, |_| {}); // shown from the start
            let mapper = Mapper::new(config.passing.tag, bibs.clone(), config.zones()).counting(unknown.clone());
            let (orders, ordered) = mpsc::channel(1);
            repairs.insert(device.into(), orders);
            let ties = self.start_audits(config, client, device, &decoders, ordered);
            let uplink = UplinkConfig {
                device: device.into(),
                decoders,
                name: config.name.clone(),
                session: cloud.session,
                upload: config.upload,
            };
            let fields = move |read: &_| mapper.fields(read);
            let (client, board, stop) = (client.clone(), self.board.clone(), self.stop.clone());
            self.spawn_with_journal(&format!("uplink of device {device}"), async move |journal| {
                let run = uplink::run_tied(uplink, client, journal, board, fields, ties, stop);
                run.await.map_err(|error| Failure::io(error.to_string()))
            });
        }
        repairs
    }

    /// Starts the audits of a device; gives what its uplink needs for them.
    fn start_audits(
        &mut self,
        config: &Config,
        client: &rufus::Client,
        device: &str,
        decoders: &[Box<str>],
        orders: mpsc::Receiver<audit::keep::Order>,
    ) -> Ties {
        let (resends, asked) = mpsc::channel(1);
        let try_again = self.try_again.subscribe();
        let ties = Ties { resends: asked, follows: watch::Sender::default(), try_again, forms: true };
        let subject = audit::Subject {
            data_dir: config.data_dir.clone(),
            device: device.into(),
            decoders: decoders.to_vec(),
            session: None,
            rest: config.upload.min_interval,
            lag: config.upload.settle,
        };
        let (client, board, stop) = (client.clone(), self.board.clone(), self.stop.clone());
        let follows = ties.follows.subscribe();
        self.spawn_with_journal(&format!("audits of device {device}"), async move |journal| {
            let keeper = audit::keep::Keeper { subject, client, journal, board, follows, resends, orders };
            keeper.run(stop).await;
            Ok(())
        });
        ties
    }

    fn spawn(&mut self, name: &str, task: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        let name = name.to_owned();
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// As [`Daemon::spawn`], of what has nothing to do before the journal is open.
    fn spawn_with_journal<F>(&mut self, name: &str, task: impl FnOnce(Journal) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (home, stop) = (self.home.clone(), self.stop.clone());
        self.spawn(name, async move {
            match stop.run_until_cancelled(home.opened()).await {
                Some(journal) => task(journal).await,
                None => Ok(()),
            }
        });
    }

    /// Has everything read again that is read from files beside the configuration.
    pub fn reread(&self) {
        self.reread.send_modify(|times| *times += 1);
    }

    /// All that is known.
    pub fn snapshot(&self) -> Snapshot {
        self.board.snapshot()
    }

    /// The board, for whoever waits for something to become so.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The journal; `None` while its directory cannot be had.
    pub fn journal(&self) -> Option<Journal> {
        self.home.journal()
    }

    /// Returns when a task ended by itself: why.
    pub async fn failed(&mut self) -> Failure {
        match self.tasks.join_next().await {
            None => Failure::io("every task ended"),
            Some(Ok((name, Err(failure)))) => {
                tracing::error!("the {name} ended: {failure}");
                failure
            }
            Some(Ok((name, Ok(())))) => Failure::io(format!("the {name} ended by itself")),
            Some(Err(error)) => Failure::io(format!("a task of the program crashed: {error}")),
        }
    }

    /// Stops everything in order; see the module head.
    ///
    /// # Errors
    /// What a task said that could not keep what it had.
    pub async fn stop(mut self) -> Result<(), Failure> {
        service::stopping();
        self.stop.cancel();
        let mut result = Ok(());
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok((name, Err(failure))) = ended {
                    tracing::error!("the {name} ended: {failure}");
                    result = Err(failure);
                }
            }
        };
        if timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("not every task stopped in time; what they had is in the journal or asked for again");
            self.tasks.abort_all();
        }
        if let Some(journal) = self.home.journal() {
            journal.close().await;
        }
        result
    }
}

/// The cloud as the configuration says.
///
/// # Errors
/// Configuration (78).
pub(crate) fn client(cloud: &CloudConfig, config: &Config, clock: Wall) -> Result<rufus::Client, Failure> {
    let client = rufus::ClientConfig {
        url: cloud.url.clone(),
        key: cloud.api_key.clone(),
        header: cloud.header,
        timeout: config.upload.timeout,
        clock,
    };
    rufus::Client::new(client).map_err(|error| Failure::config(error.to_string()))
}

/// Opens the journal that the configuration names.
///
/// # Errors
/// Unavailable (69): another process has it. I/O (74).
pub(crate) fn open_journal(config: &Config, board: &Board) -> Result<Journal, Failure> {
    Journal::open(journal_config(config), board.clone()).map_err(|error| match error {
        OpenError::InUse(_) => Failure::unavailable(error.to_string()),
        OpenError::Io { .. } => Failure::io(error.to_string()),
    })
}

fn journal_config(config: &Config) -> JournalConfig {
    JournalConfig {
        dir: config.data_dir.clone(),
        dead_time: config.passing.dead_time,
        zones: config.zones(),
        keep_days: config.keep.days,
        keep_bytes: config.keep.max_bytes,
        segment_bytes: SEGMENT_BYTES,
    }
}

/// What the configuration uploads.
struct Known {
    /// Sources.
    decoders: Vec<Box<str>>,
    devices: Vec<String>,
}

impl Known {
    /// Reads of this decoder will not be uploaded. Without `[cloud]` none is, and that is meant.
    fn lacks_decoder(&self, name: &str) -> bool {
        !self.decoders.is_empty() && !self.decoders.iter().any(|known| **known == *name)
    }

    fn lacks_device(&self, device: &str) -> bool {
        !self.devices.is_empty() && !self.devices.iter().any(|known| known == device)
    }
}

/// Does once a second what nobody else does: it shows the backlog on the board, looks for reads and
/// passings that nobody uploads and for steps of the clock, and sees whether the threads of the
/// journal live.
async fn chores(
    journal: Journal,
    board: Board,
    stop: CancellationToken,
    notes: mpsc::Sender<Note>,
    known: Known,
    mut clock: clock::Watch,
) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown_reads = Standing::new(ProblemCode::ReadsWithoutDecoder);
    let mut shown_passings = Standing::new(ProblemCode::PassingsWithoutDevice);
    let mut held_back = Standing::new(ProblemCode::ReadsHeldBack);
    let mut steps = VecDeque::new(); // not yet taken for writing: one a second at most, while the disk is full
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if !journal.is_alive() {
            return Err(Failure::io("a thread of the journal ended; see the log above"));
        }
        let (pending, oldest) = journal.backlog();
        let (dead_letters, duplicates, reads) = (journal.dead_letters(), journal.duplicates(), journal.reads());
        let now = board.now();
        board.journal(|journal| {
            journal.pending = pending;
            journal.dead_letters = dead_letters;
            journal.duplicates = duplicates;
            journal.reads = reads;
            journal.oldest_pending_s = oldest.map(|since| (now.as_second() - since.as_second()).max(0) as u64);
        });
        for decoder in journal.decoders_waiting().iter().filter(|decoder| known.lacks_decoder(decoder)) {
            let name = source::decoder(decoder);
            let (whose, what) = match source::location(decoder) {
                Some(location) => {
                    (format!("location `{location}` of decoder `{name}`"), "[decoder.locations] of it has no such name")
                }
                None => (format!("decoder `{name}`"), "the configuration has no decoder of that name that is uploaded"),
            };
            let message = format!(
                "reads of {whose} wait, and {what}: they stay on the box until it has one again; export shows them"
            );
            shown_reads.raise(&board, decoder, message);
        }
        shown_reads.settle(&board);
        for (device, count) in journal.devices_waiting().into_iter().filter(|(device, _)| known.lacks_device(device)) {
            let message = format!(
                "{count} passings of device {device} are not confirmed, and the configuration has no decoder of that device: \
                 they stay on the box until it has one again; export shows them. If the device_id was corrected, they follow \
                 with: passbridge resend --from-device {device} --to-device DEVICE"
            );
            shown_passings.raise(&board, &device, message);
        }
        shown_passings.settle(&board);
        tell_held_back(&journal, &board, &mut held_back);
        if let Some(step) = clock.look(&board, &journal)
            && steps.len() < NOTES
        {
            steps.push_back(step);
        }
        while let Some(step) = steps.pop_front() {
            if notes.try_send(Note::Step(step)).is_err() {
                steps.push_front(step);
                break;
            }
        }
    }
    Ok(())
}

/// A problem that is shown as long as a look finds it, of whatever it finds it.
struct Standing {
    code: ProblemCode,
    /// What it was found of at the last look, and at this one.
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Standing {
    fn new(code: ProblemCode) -> Self {
        Self { code, before: BTreeSet::new(), now: BTreeSet::new() }
    }

    fn raise(&mut self, board: &Board, about: &str, message: String) {
        board.raise(self.code, about, message);
        self.now.insert(about.to_owned());
    }

    /// The look is over: what it did not find any more is.
    fn settle(&mut self, board: &Board) {
        let now = std::mem::take(&mut self.now);
        for about in self.before.difference(&now) {
            board.clear(self.code, about);
        }
        self.before = now;
    }
}

/// Reads that are held back, by decoder.
fn tell_held_back(journal: &Journal, board: &Board, shown: &mut Standing) {
    for Told { decoder, count, first, last } in journal.held_back() {
        let (reads, are) = if count == 1 { ("read", "is") } else { ("reads", "are") };
        let message = format!(
            "{count} {reads} of `{decoder}` {are} held back, stamped {first} to {last}: the decoder was cleared, and gave \
             them from its memory although they were made before, so they may be of another race. They are kept and not \
             uploaded. Look at them (`passbridge export --format csv --decoder {decoder}`); if they belong to this \
             race, upload them with `passbridge resend --held-back --decoder {decoder}`"
        );
        shown.raise(board, &decoder, message);
    }
    shown.settle(board);
}

/// Keeps an index of each segment of the log that is full, for who asks for a window of it. It is derived: what goes wrong
/// costs an export some time.
async fn keep_windows(data_dir: PathBuf, reading: export::Reading, stop: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(WINDOWS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let (data_dir, reading, ending) = (data_dir.clone(), reading.clone(), stop.clone());
        let refresh = move || export::refresh(&data_dir, &reading, seen, &|| ending.is_cancelled());
        match tokio::task::spawn_blocking(refresh).await {
            Ok(Ok(newest)) => seen = newest,
            Ok(Err(error)) => tracing::debug!(%error, "the index of the log is not kept"),
            Err(_) => {} // it is stopping
        }
    }
}

/// Once a second: says when what is logged cannot be written, or nobody takes it. No read hangs on that.
async fn watch_log(board: Board, stop: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (trouble, dropped) = logging::trouble();
        match trouble {
            // A reader that is slow for a moment is no trouble.
            Some(why) if before => {
                let lost = if dropped > 0 { format!("; {dropped} lines of it are lost so far") } else { String::new() };
                let message = format!(
                    "the log of this program cannot be written ({why}{lost}). Reads are kept and sent all the same. Where does \
                     its standard error go: a full disk, a pipe that nobody reads?"
                );
                board.raise(ProblemCode::LogOutput, "", message);
            }
            Some(_) => before = true,
            None => {
                before = false;
                board.clear(ProblemCode::LogOutput, "");
            }
        }
    }
    Ok(())
}

/// Once a second: looks at the state of the box, so that it follows although nobody asks, and tells systemd and the log
/// when it changes.
async fn watch_state(board: Board, stop: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (state, sentence) = board.look();
        service::status(&format!("{}. {sentence}", state.shown()));
        if told.replace(state) != Some(state) {
            tracing::info!(state = state.word(), "{sentence}"); // the problems behind it are warned of one by one
        }
    }
    Ok(())
}

/// Runs the box until SIGTERM or SIGINT, or until a task fails.
///
/// # Errors
/// As [`Daemon::start`]; and I/O (74) when a task ended by itself.
pub async fn run(config: Config, warnings: Vec<String>) -> Result<(), Failure> {
    let caught = Signals::catch();
    let mut signals = caught.map_err(|error| Failure::io(format!("signals cannot be received: {error}")))?;
    let starting = Daemon::start(config, &warnings);
    let mut daemon = tokio::select! {
        daemon = starting => daemon?,
        () = stopped(&mut signals, || {}) => return Ok(()), // nothing is running yet
    };
    let (home, stop) = (daemon.home.clone(), daemon.stop.clone());
    daemon.spawn("watchdog", async move {
        service::watchdog(move || home.is_alive(), stop.clone()).await;
        stop.cancelled().await; // without systemd there is no watchdog to keep
        Ok(())
    });
    service::ready();
    match daemon.journal() {
        Some(_) => tracing::info!("ready: reads are kept"),
        None => tracing::warn!("started: reads wait in memory, they cannot be kept yet"),
    }
    let reread = daemon.reread.clone();
    let failure = tokio::select! {
        () = stopped(&mut signals, move || reread.send_modify(|times| *times += 1)) => None,
        failure = daemon.failed() => Some(failure),
    };
    tracing::info!("stopping");
    let stopped = daemon.stop().await;
    failure.map_or(stopped, Err)
}

/// Waits for the signal that ends the box; does what the others want.
async fn stopped(signals: &mut Signals, reread: impl Fn()) {
    while signals.next().await != Wish::Stop {
        tracing::info!("hangup: what can be read again while the box runs is (the API key, the bib file)");
        reread();
    }
}
