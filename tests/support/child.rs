//! A box on a table: a configuration, a data directory, and the binary that runs on it. Whatever a
//! test does, the process is killed, by its own id, when its [`Running`] goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::model::clock;
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::cloud::{Answer, Apply, Chance, CloudFault, DEVICE, KEY, On, SimCloud};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, SimRead, Wiring};
use passbridge::testing::status::{RecentRead, Snapshot};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// How long anything may take that has no limit of its own in a promise to the user: generous, for
/// busy machines.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Short, so that much happens between two kills.
pub const UPLOAD: &str =
    "[upload]\nlinger = \"20ms\"\nmin_interval = \"20ms\"\nretry_max = \"1s\"\nsettle = \"1s\"\ntimeout = \"1s\"\n";

/// As shipped, but for how long the box waits after an answer that never came, or a kill, before it
/// asks the cloud what it has: 15 s each time.
pub const SETTLES_SOON: &str = "[upload]\nsettle = \"1s\"\n";

/// A number from the environment, or the usual one.
pub fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Waits until the condition holds; `false`: not within the limit.
pub async fn holds(limit: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        sleep(LOOK).await;
    }
}

/// As [`holds`]; the test fails when it does not come to be.
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    assert!(holds(PATIENCE, condition).await, "not within {} s: {what}", PATIENCE.as_secs());
}

/// A port that is free, and outside the range the system gives to outgoing connections: nobody
/// takes it while the process that should listen there is being killed and started.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 1000 * 12) as u16;
    loop {
        let port = 20_000 + (offset + TRIED.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A decoder in the configuration: protocol (also its name) and address.
pub type Mat = (Kind, String);

/// A simulated decoder and its line in the configuration.
pub async fn decoder(kind: Kind, seed: u64) -> (SimDecoder, Mat) {
    let loopback = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let (wiring, port) = match kind {
        _ if kind.connects() => {
            let port = free_port();
            (Wiring::Connect(loopback(port)), Some(port))
        }
        _ => (Wiring::Listen(loopback(0)), None),
    };
    // Its clock is right, to the second.
    let start = TimeZone::UTC.to_datetime(Timestamp::now()).with().subsec_nanosecond(0).build().unwrap();
    let config = SimConfig { seed, start, repeat: Duration::from_millis(500), ..SimConfig::new(kind, wiring) };
    let sim = SimDecoder::start(config).await.unwrap();
    let address = match port {
        Some(port) => format!("tcp-listen://127.0.0.1:{port}"),
        None => format!("tcp://{}", sim.address().unwrap()),
    };
    (sim, (kind, address))
}

/// A configuration and a data directory.
pub struct Site {
    dir: TempDir,
    pub data: PathBuf,
    /// Decoders in the configuration.
    mats: usize,
    /// Port of the status page.
    pub page: u16,
}

impl Site {
    /// A box for these decoders. `more` goes to the end of the file.
    pub fn new(cloud: Option<&SimCloud>, mats: &[Mat], more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Self::at(dir, data, cloud.map(SimCloud::url), mats, more)
    }

    /// Gives the box another key than the usual one of all simulated clouds.
    pub fn set_key(&self, key: &str) {
        fs::write(self.dir.path().join("api_key"), key).unwrap(); // the file keeps its rights
    }

    /// As [`Site::new`], with its data elsewhere, and the cloud by its address.
    pub fn at(dir: TempDir, data: PathBuf, cloud: Option<String>, mats: &[Mat], more: &str) -> Self {
        let mut key = fs::OpenOptions::new();
        let key = key.write(true).create_new(true).mode(0o600).open(dir.path().join("api_key")).unwrap();
        std::io::Write::write_all(&mut &key, KEY.as_bytes()).unwrap();
        let page = free_port();
        let mut text = format!("name = \"finish\"\ndata_dir = \"{}\"\n", data.display());
        for (kind, address) in mats {
            let name = kind.name();
            text += &format!(
                "[[decoder]]\nname = \"{name}-mat\"\nprotocol = \"{name}\"\naddress = \"{address}\"\ntimezone = \"UTC\"\n"
            );
            let options = kind.settings();
            if !options.is_empty() {
                text += "[decoder.set]\n";
            }
            for (key, value) in options {
                text += &format!("{key} = '{value}'\n");
            }
        }
        if let Some(url) = cloud {
            text += &format!("[cloud]\nurl = \"{url}\"\ndevice_id = \"{DEVICE}\"\napi_key_file = \"api_key\"\n");
        }
        text += &format!("[status]\nlisten = \"127.0.0.1:{page}\"\n{more}");
        fs::write(dir.path().join("passbridge.toml"), text).unwrap();
        Self { dir, data, mats: mats.len(), page }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("passbridge.toml")
    }

    /// What the processes said, all of them together.
    pub fn said(&self) -> String {
        let text = |name| fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[text("stdout"), text("stderr")].concat()).into_owned()
    }

    /// `passbridge COMMAND --config FILE`, with nothing in the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary(arguments);
        command.arg("--config").arg(self.config());
        command
    }

    /// The output of a command that ends by itself.
    pub async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        // Not in this thread: the simulated cloud and decoders must be able to answer meanwhile.
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// `passbridge run`.
    pub fn start(&self) -> Running {
        Running::spawn(self.command(&["run"]), self.dir.path())
    }

    /// `passbridge run` with this in its environment; see src/journal/trial.rs.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        Running::spawn(command, self.dir.path())
    }

    pub async fn status(&self) -> Option<Snapshot> {
        let status = control::ask(&self.data, ControlRequest::Status).await.ok()?;
        Some(serde_json::from_value(status).unwrap())
    }

    /// Waits until the status is so.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Snapshot) -> bool) {
        // At first no task has reported yet.
        let told = |status: &Snapshot| status.decoders.len() == self.mats;
        if !holds(PATIENCE, async || self.status().await.is_some_and(|status| told(&status) && condition(&status)))
            .await
        {
            panic!("not within {} s: {what}: {:#?}", PATIENCE.as_secs(), self.status().await);
        }
    }

    /// Waits until the cloud has acknowledged so many passings.
    pub async fn sent(&self, count: u64) {
        let what = format!("{count} are sent");
        self.until(&what, |status| status.uploads.first().is_some_and(|upload| upload.sent == count)).await;
    }

    /// Status and text of the page's answer; `None`: nobody answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let asking = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.page)).await?;
            let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = timeout(Duration::from_secs(5), asking).await.ok()?.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The kept frames as `export` tells them.
    pub async fn export(&self) -> Vec<Value> {
        let output = self.output(&["export", "--format", "jsonl"]).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let from = said.len().saturating_sub(6000);
            eprintln!("the binary said: …{}", String::from_utf8_lossy(&said.as_bytes()[from..]));
        }
    }
}

/// The binary with nothing in its environment.
pub fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passbridge"));
    command.args(arguments).env_clear();
    command
}

/// A process of ours; killed when dropped.
pub struct Running(Child);

impl Running {
    /// Starts it; what it says is added to the files `stdout` and `stderr` in `dir`.
    pub fn spawn(mut command: Command, dir: &Path) -> Self {
        let file = |name| File::options().create(true).append(true).open(dir.join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        Self(command.spawn().unwrap())
    }

    /// Starts it; what it says goes where the test wants it.
    pub fn saying(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// kill -9. Returns when it is gone.
    pub fn kill(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it ended before it was killed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// How it ended; `None`: not within the limit.
    pub async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut ended = None;
        holds(limit, async || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended
    }

    /// SIGTERM, and its end as it must be.
    pub async fn stop(mut self) {
        self.terminate();
        let ended = self.ended(Duration::from_secs(10)).await.expect("it ends within 10 s");
        assert_eq!(ended.code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// What makes one passing: chip and UTC milliseconds.
pub type Passing = (String, i64);

pub fn passing(read: &SimRead) -> Passing {
    let utc = clock::resolve(&read.stamp, &TimeZone::UTC, Timestamp::now(), true).utc;
    (read.chip.to_string(), utc.as_millisecond())
}

/// The passing of an exported read; `None`: it is another frame.
pub fn exported(row: &Value) -> Option<Passing> {
    let time: Timestamp = row["time"].as_str()?.parse().unwrap();
    (row["kind"] == "read").then(|| (row["chip"].as_str().unwrap().to_owned(), time.as_millisecond()))
}

/// The cloud holds each of these once and nothing else, numbered 1, 2, 3 … as they came, and has
/// nothing to complain about.
pub fn judge(what: &str, cloud: &SimCloud, token: &str, expected: impl IntoIterator<Item = Passing>) {
    let stored = cloud.passings(token);
    let mut left: BTreeMap<Passing, i64> = expected.into_iter().map(|passing| (passing, 1)).collect();
    assert!(!left.is_empty(), "{what}: nothing to judge");
    for passing in &stored {
        let chip = passing.chip.as_deref().unwrap_or_default().to_owned();
        *left.entry((chip, passing.time_ms)).or_default() -= 1;
    }
    let missing = left.iter().filter(|(_, left)| **left > 0).count();
    left.retain(|_, left| *left != 0);
    let wrong = left.len() - missing;
    let some: Vec<_> = left.iter().take(10).collect();
    assert!(left.is_empty(), "{what}: {missing} missing in the cloud, {wrong} there twice or never read: {some:?}");
    let hole = stored.iter().zip(1..).find(|(passing, num)| passing.num != *num);
    assert!(hole.is_none(), "{what}: number {} stands where {} should", hole.unwrap().0.num, hole.unwrap().1);
    assert_eq!(cloud.violations(), Vec::<String>::new(), "{what}");
}

/// A third of the inserts fail, in every way that leaves open whether they arrived; so do some
/// questions.
pub fn trouble(cloud: &SimCloud, seed: u64) {
    let inserts = vec![
        CloudFault::before(Answer::Cut),
        CloudFault::after(Answer::Cut),
        CloudFault::after(Answer::CutInside),
        CloudFault::before(Answer::Status(500)),
        CloudFault::after(Answer::Status(500)),
        CloudFault::before(Answer::Never),
        CloudFault::after(Answer::Never),
        CloudFault::partly(Apply::Half, Answer::Cut),
        CloudFault::slow(Duration::from_millis(30)),
    ];
    cloud.fault_by_chance(Chance { on: On::Insert, seed, odds: 0.35, faults: inserts });
    let questions = vec![
        CloudFault::before(Answer::Cut),
        CloudFault::after(Answer::CutInside),
        CloudFault::before(Answer::Status(502)),
    ];
    cloud.fault_by_chance(Chance { on: On::Held, seed: seed + 1, odds: 0.15, faults: questions.clone() });
    cloud.fault_by_chance(Chance { on: On::Active, seed: seed + 2, odds: 0.1, faults: questions });
}

/// Reads happen all the time, a few at once.
pub fn race(sim: &Arc<SimDecoder>, seed: u64) -> JoinSet<()> {
    let (sim, mut rng) = (Arc::clone(sim), fastrand::Rng::with_seed(seed));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            sim.push(rng.u64(1..=4));
        }
    });
    tasks
}

/// What the page says is kept, newest first: none of it may ever go.
pub async fn shown(site: &Site) -> Vec<RecentRead> {
    let Some((200, text)) = site.get("/api/reads?limit=1000").await else { return Vec::new() };
    serde_json::from_str(&text).unwrap()
}
