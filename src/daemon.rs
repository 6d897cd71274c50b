//! The daemon starts, in order, every task that a read needs on its way. It watches the tasks, and
//! stops them in order.
//!
//! Must hold:
//! * No task dies alone. If a task ends by itself, it ends the process with a reason, and systemd
//!   starts the process again.
//! * A fault of the configuration (a port in use, a key that is missing, a decoder with a wrong
//!   option) is shown as a problem, and stops only the part that it is about ([`Part`](crate::config::Part)). The
//!   problem ends by itself when the fault is corrected.
//! * A data directory that cannot be used is a state of the box and does not end it (`home`):
//!   everything runs, and reads wait in memory.
//! * The tasks stop within 10 s: the links stop reading and keep what they have, and the request in
//!   flight is finished. Then the journal writes its last checkpoint. That takes as long as the disk
//!   takes: a disk that hangs holds the stop up until systemd ends the process after 15 s, and what
//!   was acknowledged is in the log by then.
//!
//! `demo` and the tests run this same value against simulated decoders and a simulated cloud.

mod again;
pub(crate) mod allocator;
mod checks;
mod chores;
mod clock;
mod corrected;
mod faults;
pub(crate) mod harden;
mod home;
pub(crate) mod logging;
mod notes;
mod notify;
mod secrets;
pub(crate) mod service;
mod signals;
pub(crate) mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::chores::{Known, chores};
use self::corrected::Corrected;
use self::faults::tell_faults;
use self::home::{Home, Opener};
use self::notes::{NOTES, Note, note_down};
use self::secrets::SecretFile;
use self::signals::{Signals, Wish};
use crate::cloud::audit;
use crate::cloud::passing::{BibFile, Bibs, Mapper, UnknownChips};
use crate::cloud::rufus;
use crate::cloud::uplink::{self, Ties, TryAgain, UplinkConfig};
use crate::config::failure::Failure;
use crate::config::{CloudConfig, Config, LoadOptions, Loaded};
use crate::export;
use crate::export::search::Finder;
use crate::history::PlotHistory;
use crate::journal::{Journal, JournalConfig, OpenError};
use crate::link::{self, DecoderHandle};
use crate::model::clock::Wall;
use crate::serve::control::Socket;
use crate::serve::invite::Invites;
use crate::serve::ops::{Decoders, Ops, Past, Repairs, SessionOrders};
use crate::serve::web;
use crate::status::{Board, ProblemCode, Snapshot};

/// Size at which the log begins a new segment and the queue a new span: about 100,000 reads. A span
/// that is read is in memory as a whole (some 3 MB), and two may be open.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How long the tasks may take to stop. The last checkpoint of the journal takes more time after
/// that, and systemd waits for both (`TimeoutStopSec=`).
const STOP_LIMIT: Duration = Duration::from_millis(9_500);

/// Time between two checks whether a segment of the log is full.
const WINDOWS_EVERY: Duration = Duration::from_secs(60);

/// What the page needs of other parts.
struct PageParts {
    invites: Invites,
    ops: watch::Receiver<Ops>,
    bibs: watch::Receiver<Arc<Bibs>>,
}

/// A running box.
pub struct Daemon {
    board: Board,
    home: Home,
    /// Changes when somebody asks for the files to be read again (SIGHUP). Every part that holds
    /// data from such a file subscribes.
    reread: watch::Sender<u64>,
    /// Changes when somebody wants the box to send again now the passings at which the cloud
    /// failed.
    try_again: watch::Sender<TryAgain>,
    stop: CancellationToken,
    tasks: JoinSet<(String, Result<(), Failure>)>,
    /// Handles through which other parts ask the decoders. It includes the decoders that wait for
    /// their section to be corrected.
    asks: Decoders,
    /// The channels for orders about the session of each device.
    sessions: SessionOrders,
    /// The address on which the status page listens.
    pub status_address: Option<SocketAddr>,
    /// The address of each listening decoder port, by decoder name.
    pub listening: BTreeMap<String, SocketAddr>,
}

impl Daemon {
    /// Starts everything. `warnings` are shown as problems, as are the faults of the configuration.
    ///
    /// # Errors
    /// Unavailable (69): the data directory is in use. A directory that cannot be used now is no
    /// error: then [`Daemon::journal`] is `None`, and the board says why.
    pub async fn start(config: Config, warnings: &[String]) -> Result<Self, Failure> {
        Self::start_at(config, warnings, Wall::default()).await
    }

    /// Like [`Daemon::start`], with `wall` as the wall clock of the box.
    ///
    /// # Errors
    /// Like [`Daemon::start`].
    pub async fn start_at(config: Config, warnings: &[String], wall: Wall) -> Result<Self, Failure> {
        rufus::install_tls();
        let board = Board::with_clock(&config.name, wall.clone());
        tell_faults(&config, warnings, &board);
        let mut ports = Vec::new();
        for decoder in &config.decoders {
            let port = link::open(decoder).await;
            link::announce(decoder, &board);
            ports.push((decoder.clone(), port));
        }
        let page = match config.status.listen {
            Some(address) => Some(web::WebPage::open(address).await),
            None => None,
        };
        let (home, opener) = Opener::start(journal_config(&config), board.clone()).await?;
        let mut daemon = Self {
            board,
            home,
            reread: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            status_address: page.as_ref().and_then(web::WebPage::local_addr),
            listening: BTreeMap::new(),
            try_again: watch::Sender::default(),
            asks: Decoders::new(),
            sessions: SessionOrders::new(),
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
        let bibs = daemon.start_bibs(&config).await;
        daemon.spawn("checks of mats", checks::remember(config.data_dir.clone(), board.clone(), stop.clone()));
        let repairs = daemon.start_cloud(&config, &bibs, wall).await;
        let past = daemon.start_plots(&config);
        let left_out = config.left_out.iter().map(|decoder| &decoder.name);
        let names = config.decoders.iter().map(|decoder| &decoder.name).chain(left_out);
        daemon.asks = names.map(|name| (name.clone(), DecoderHandle::default())).collect();
        let invites = Invites::default();
        let ops = Ops::new(board.clone(), repairs, daemon.asks.clone(), daemon.try_again.clone())
            .with_sessions(daemon.sessions.clone())
            .with_past(past)
            .with_finder(Finder::new(
                &config.data_dir,
                export::Reading::new(&config),
                config.passing.zeros,
                bibs.clone(),
            ))
            .with_door(invites.clone(), web::door_of(&config.status, daemon.status_address));
        let commands = watch::Sender::new(ops.clone());
        if let Some(page) = page {
            daemon.start_page(page, &config, PageParts { invites, ops: commands.subscribe(), bibs });
        }
        let mut socket = Socket::new(&config.data_dir, ops.clone());
        // The daemon has the lock of the journal, so no other daemon listens on this socket.
        if daemon.home.journal().is_some() {
            socket.bind();
        }
        let serving = stop.clone();
        daemon.spawn_with_journal("control socket", async move |journal| {
            commands.send_replace(ops.with_journal(journal.clone()));
            socket.with_journal(journal).serve(serving).await;
            Ok(())
        });
        for (decoder, port) in ports {
            if let Some(address) = port.local_addr() {
                daemon.listening.insert(decoder.name.clone(), address);
            }
            let name = format!("link of decoder `{}`", decoder.name);
            let asks = daemon.asks.get(&decoder.name).cloned().unwrap_or_default();
            let link = link::run(decoder, port, asks, daemon.home.clone(), board.clone(), stop.clone());
            daemon.spawn(&name, async move { link.await.map_err(|error| Failure::io(error.to_string())) });
        }
        Ok(daemon)
    }

    /// Applies the corrected configuration as soon as the file has it. The receiver gets a
    /// configuration that needs a new start of the box.
    fn follow_configuration(&mut self, config: &Config, options: LoadOptions) -> mpsc::Receiver<Loaded> {
        let (anew, starts_anew) = mpsc::channel(1);
        let (board, stop) = (self.board.clone(), self.stop.clone());
        let corrected = watch::Sender::new(None);
        for decoder in &config.left_out {
            let Some(terms) = decoder.terms.clone() else { continue };
            let asks = self.asks.get(&decoder.name).cloned().unwrap_or_default();
            let link = corrected::Waiting { name: decoder.name.clone(), terms, asks, corrected: corrected.subscribe() };
            let running = link.run(self.home.clone(), board.clone(), stop.clone());
            self.spawn(&format!("link of decoder `{}`", decoder.name), running);
        }
        let follow = Corrected::new(config, options, corrected, anew);
        let running = follow.run(board, self.reread.subscribe(), stop);
        self.spawn("configuration file", async move {
            running.await;
            Ok(())
        });
        starts_anew
    }

    fn start_page(&mut self, page: web::WebPage, config: &Config, parts: PageParts) {
        let status = &config.status;
        let PageParts { invites, ops, bibs } = parts;
        let plots = ops.borrow().clone();
        let sources = web::Sources {
            journal: self.home.watched(),
            reading: export::Reading::new(config),
            bibs,
            zeros: config.passing.zeros,
            plots: Arc::new(move || plots.plots().map(|plots| (plots.minutes, plots.hours))),
        };
        let access = match (&status.token, &status.token_file) {
            (Some(token), _) => web::Audience::Token(Arc::new(token.clone())),
            (None, Some(_)) => web::Audience::Locked,
            (None, None) => web::Audience::Open,
        };
        let access = watch::Sender::new(access);
        let (board, access_now) = (self.board.clone(), access.subscribe());
        let serving = web::Serving { board, sources, access: access_now, invites: invites.clone(), ops };
        let serve = web::serve(page, serving, self.stop.clone());
        self.spawn("status page", async move {
            serve.await;
            Ok(())
        });
        let Some(path) = status.token_file.clone() else { return };
        let file = SecretFile {
            path,
            what: "the token of the page",
            missing: ProblemCode::TokenUnusable,
            unusable: ProblemCode::TokenUnusable,
            has_one: status.token.is_some(),
            lost: None,
        };
        let take = move |token: SecretString| {
            access.send_replace(web::Audience::Token(Arc::new(token)));
            invites.forget();
            Ok(())
        };
        self.follow_secret(file, take);
    }

    fn follow_secret(
        &mut self,
        file: SecretFile,
        take: impl Fn(SecretString) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let name = format!("file of {}", file.what);
        let (board, asked, stop) = (self.board.clone(), self.reread.subscribe(), self.stop.clone());
        self.spawn(&name, async move {
            file.follow(take, board, asked, stop).await;
            Ok(())
        });
    }

    /// Starts everything that uploads. Returns the senders for the repairs of each device.
    async fn start_cloud(&mut self, config: &Config, bibs: &watch::Receiver<Arc<Bibs>>, wall: Wall) -> Repairs {
        let Some(cloud) = &config.cloud else { return Repairs::new() };
        let client = match client(cloud, config, wall) {
            Ok(client) => client,
            Err(failure) => {
                // This cannot be corrected while the box runs, and reads are kept all the same.
                self.board.raise(ProblemCode::UploadMisconfigured, "cloud", format!("{failure}. Nothing is uploaded"));
                return Repairs::new();
            }
        };
        if let Some(path) = cloud.api_key_file.clone() {
            let file = SecretFile {
                path,
                what: "the API key",
                missing: ProblemCode::KeyMissing,
                unusable: ProblemCode::KeyFileUnusable,
                has_one: cloud.api_key.is_some(),
                lost: None,
            };
            let client = client.clone();
            self.follow_secret(file, move |key| client.set_key(key).map_err(|error| error.to_string()));
        }
        self.start_uplinks(config, bibs, &client)
    }

    /// Opens the bib file, and follows it.
    async fn start_bibs(&mut self, config: &Config) -> watch::Receiver<Arc<Bibs>> {
        let Some(path) = &config.passing.bibs else { return Bibs::none() };
        let (file, bibs) = BibFile::open(path, &self.board).await;
        let follow = file.follow(self.reread.subscribe(), self.stop.clone());
        self.spawn("bib file", async move {
            follow.await;
            Ok(())
        });
        bibs
    }

    /// Starts what follows the log for the plots.
    fn start_plots(&mut self, config: &Config) -> Past {
        let left_out = config.left_out.iter().map(|decoder| &decoder.name);
        let names = config.decoders.iter().map(|decoder| &decoder.name).chain(left_out);
        let plots = PlotHistory::new(names.cloned(), config.cloud.is_some(), self.board.clone());
        let (following, stop) = (plots.clone(), self.stop.clone());
        self.spawn_with_journal("plots", async move |journal| {
            following.follow(journal, stop).await;
            Ok(())
        });
        let reports = Arc::new(Semaphore::new(1));
        Past { plots, data_dir: config.data_dir.clone(), zones: config.zones(), reports }
    }

    fn start_chores(&mut self, config: &Config) {
        let known = Known {
            decoders: config.devices().into_values().flatten().collect(),
            devices: config.devices().into_keys().map(Into::into).collect(),
        };
        let (notes, received) = mpsc::channel(NOTES);
        let started = format!("passbridge {} started as `{}`", env!("CARGO_PKG_VERSION"), config.name);
        let _ = notes.try_send(Note::Start(started)); // the channel is empty
        let watch = clock::Watch::new(&self.board);
        let zones = config.zones();
        let (board, stop) = (self.board.clone(), self.stop.clone());
        self.spawn_with_journal("notes", move |journal| note_down(journal, board, zones, received, stop));
        let (board, stop) = (self.board.clone(), self.stop.clone());
        self.spawn_with_journal("chores", move |journal| chores(journal, board, stop, notes, known, watch));
        self.spawn("watch over the log", watch_log(self.board.clone(), self.stop.clone()));
        self.spawn("look at the machine", telemetry::watch("/".into(), self.board.clone(), self.stop.clone()));
        self.start_telling(config);
    }

    /// Starts what tells people about the state of the box.
    fn start_telling(&mut self, config: &Config) {
        let (board, stop) = (self.board.clone(), self.stop.clone());
        let told = notify::Told::default();
        if let Some(program) = config.notify.on_state.clone() {
            let telling = notify::run_program(program, board.clone(), told.subscribe(), stop.clone());
            self.spawn("program that tells the state", telling);
        }
        if let Some(webhook) = config.notify.webhook.clone() {
            self.spawn("webhook", notify::post(webhook, board.clone(), told.subscribe(), stop.clone()));
        }
        if let Some(led) = config.notify.led.clone() {
            self.spawn("LED", notify::show("/".into(), led, board.clone(), told.subscribe(), stop.clone()));
        }
        if !config.expect.is_empty() {
            self.spawn("watch over the mats", notify::watch_mats(config.expect.clone(), board.clone(), stop.clone()));
        }
        self.spawn("state", notify::watch_state(board, told, stop));
    }

    /// Starts an uplink and its audits for each device. Returns the senders for the repairs of
    /// each.
    fn start_uplinks(&mut self, config: &Config, bibs: &watch::Receiver<Arc<Bibs>>, client: &rufus::Client) -> Repairs {
        let mut repairs = Repairs::new();
        let Some(cloud) = &config.cloud else { return repairs };
        let unknown = config
            .passing
            .bibs
            .as_deref()
            .map(|file| UnknownChips::new(file, config.passing.zeros, self.board.clone()));
        for (device, decoders) in config.devices() {
            self.board.upload(device, |_| {}); // the board shows the device from the start
            let mapper = Mapper::new(config.passing.tag, bibs.clone(), config.zones())
                .zeros(config.passing.zeros)
                .counting(unknown.clone());
            let (orders, ordered) = mpsc::channel(1);
            repairs.insert(device.into(), orders);
            let ties = self.start_audits(config, client, device, &decoders, ordered);
            self.start_again(config, device);
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
                board.upload(&uplink.device, |upload| upload.waits_for = Some("waits for the API key".to_owned()));
                if stop.run_until_cancelled(client.has_key()).await.is_none() {
                    return Ok(());
                }
                board.upload(&uplink.device, |upload| upload.waits_for = None);
                let run = uplink::run_tied(uplink, client, journal, board, fields, ties, stop);
                run.await.map_err(|error| Failure::io(error.to_string()))
            });
        }
        repairs
    }

    /// Starts the audits of a device. Returns what its uplink needs for them.
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
        let (session_orders, sessions) = mpsc::channel(1);
        self.sessions.insert(device.into(), session_orders);
        let ties = Ties { sessions, resends: asked, follows: watch::Sender::default(), try_again, forms: true };
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
            if stop.run_until_cancelled(client.has_key()).await.is_none() {
                return Ok(());
            }
            let keeper = audit::keep::Keeper { subject, client, journal, board, follows, resends, orders };
            keeper.run(stop).await;
            Ok(())
        });
        ties
    }

    /// Starts what carries out the orders to send passings of a device again.
    fn start_again(&mut self, config: &Config, device: &str) {
        let reading = export::Reading::new(config);
        let (stop, owner) = (self.stop.clone(), Box::from(device));
        self.spawn_with_journal(&format!("passings of device {device} that go again"), async move |journal| {
            again::carry_out(journal, owner, reading, stop).await;
            Ok(())
        });
    }

    fn spawn(&mut self, name: &str, task: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        let name = name.to_owned();
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Like [`Daemon::spawn`], for a task that has nothing to do before the journal is open.
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

    /// Makes every part read its files beside the configuration again.
    pub fn reread(&self) {
        self.reread.send_modify(|times| *times += 1);
    }

    /// The status of the box: all that it knows about itself.
    pub fn snapshot(&self) -> Snapshot {
        self.board.snapshot()
    }

    /// The board, for callers that wait for a certain status.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The journal, or `None` while its directory cannot be used.
    pub fn journal(&self) -> Option<Journal> {
        self.home.journal()
    }

    /// Waits until a task ends by itself, and returns the reason.
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

    /// Stops everything in the order of the module head.
    ///
    /// # Errors
    /// The error of a task that could not keep what it had.
    pub async fn stop(self) -> Result<(), Failure> {
        service::stopping();
        self.end().await
    }

    /// Like [`Daemon::stop`], but the process continues.
    async fn end(mut self) -> Result<(), Failure> {
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

/// The client of the cloud that the configuration names.
///
/// # Errors
/// Configuration (78).
pub(crate) fn client(cloud: &CloudConfig, config: &Config, clock: Wall) -> Result<rufus::Client, Failure> {
    let client = rufus::ClientConfig {
        url: cloud.url.clone(),
        key: cloud.api_key.clone().unwrap_or_else(|| SecretString::from("")),
        header: cloud.header,
        timeout: config.upload.timeout,
        clock,
    };
    let client = match cloud.api_key {
        Some(_) => rufus::Client::new(client),
        None => rufus::Client::waiting_for_key(client),
    };
    client.map_err(|error| Failure::config(error.to_string()))
}

/// Opens the journal that the configuration names.
///
/// # Errors
/// Unavailable (69): another process has it. I/O (74).
pub(crate) fn open_journal(config: &Config, board: &Board) -> Result<Journal, Failure> {
    Journal::open(journal_config(config), board.clone()).map_err(|error| match error {
        OpenError::InUse(_) => Failure::unavailable(error.to_string()),
        OpenError::Newer { .. } => Failure::data(error.to_string()),
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

/// Keeps an index of each full segment of the log, for requests that ask for a window of it. The
/// index is derived from the log, so an error only makes an export slower.
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
            Err(_) => {} // the daemon is stopping
        }
    }
}

/// Once a second: raises a problem when the log of the program cannot be written, or when nobody
/// reads it. No read depends on that.
async fn watch_log(board: Board, stop: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (trouble, dropped) = logging::trouble();
        match trouble {
            // A reader that is slow for a moment is no problem.
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

/// Runs the box until SIGTERM or SIGINT, or until a task fails. If the configuration had a mistake
/// and was corrected, the box starts again with it, provided that no read can get lost by that.
///
/// # Errors
/// Like [`Daemon::start`], and I/O (74) when a task ended by itself.
pub(crate) async fn run(loaded: Loaded, options: LoadOptions) -> Result<(), Failure> {
    let caught = Signals::catch();
    let mut signals = caught.map_err(|error| Failure::io(format!("signals cannot be received: {error}")))?;
    let mut now = loaded;
    while let Some(corrected) = run_with(now, options.clone(), &mut signals).await? {
        tracing::info!("the configuration was corrected: the box starts again with it");
        now = corrected;
    }
    Ok(())
}

/// Runs the box with this configuration. `Some` is the corrected configuration with which the box
/// has to start again.
async fn run_with(loaded: Loaded, options: LoadOptions, signals: &mut Signals) -> Result<Option<Loaded>, Failure> {
    let starting = Daemon::start(loaded.config.clone(), &loaded.warnings);
    let mut daemon = tokio::select! {
        daemon = starting => daemon?,
        () = stopped(signals, || {}) => return Ok(None), // nothing is running yet
    };
    let mut anew = daemon.follow_configuration(&loaded.config, options);
    let (home, stop) = (daemon.home.clone(), daemon.stop.clone());
    daemon.spawn("watchdog", async move {
        service::watchdog(home.pulse(), stop.clone()).await;
        stop.cancelled().await; // without systemd there is no watchdog to serve
        Ok(())
    });
    service::ready();
    match daemon.journal() {
        Some(_) => tracing::info!("ready: reads are kept"),
        None => tracing::warn!("started: reads wait in memory, they cannot be kept yet"),
    }
    let reread = daemon.reread.clone();
    let failure = tokio::select! {
        () = stopped(signals, move || reread.send_modify(|times| *times += 1)) => None,
        failure = daemon.failed() => Some(failure),
        Some(corrected) = anew.recv() => {
            daemon.end().await?;
            return Ok(Some(corrected));
        }
    };
    tracing::info!("stopping");
    let stopped = daemon.stop().await;
    failure.map_or(stopped, Err)?;
    Ok(None)
}

/// Waits for the signal that ends the box. Until then it reads the files again at each other
/// signal.
async fn stopped(signals: &mut Signals, reread: impl Fn()) {
    while signals.next().await != Wish::Stop {
        tracing::info!(
            "hangup: what can be read again while the box runs is (the API key, the token, the bib file, a corrected configuration)"
        );
        reread();
    }
}
