//! The box, the decoder and the cloud of the soak.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use passbridge::testing::cloud::passing::Fields;
use passbridge::testing::cloud::rufus::{Client, ClientConfig, install_tls};
use passbridge::testing::cloud::uplink::{self, UplinkConfig, UplinkError};
use passbridge::testing::config::KeyHeader;
use passbridge::testing::config::{SessionMode, UploadConfig};
use passbridge::testing::decoders::{Frame, Framed};
use passbridge::testing::journal::{Journal, JournalConfig, PendingRead};
use passbridge::testing::model::chip::{ChipRead, Stamp};
use passbridge::testing::model::clock::Wall;
use passbridge::testing::sim::cloud::{DEVICE, KEY, SimCloud, SimCloudConfig};
use passbridge::testing::status::Board;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for some thousands of reads to arrive; far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(120);
/// Reads that arrive before what the cloud holds is looked at and taken out of it.
const PIECE: u64 = 20_000;
/// Passings left in the cloud, for the uplink to ask about: more than a batch.
const LEFT: usize = 1_000;
/// Reads the decoder hands over at once.
const GROUP: u64 = 1000;
/// Chips at the start.
const CHIPS: u64 = 5_000;
/// When the simulated month begins, and the stamp of the first read; each read is a millisecond
/// later.
const START_MS: i64 = 1_782_864_000_000; // 2026-07-01

/// What was seen at the end of some simulated hours.
pub struct Sample {
    at: Timestamp,
    /// Reads kept so far.
    pub kept: u64,
    /// Reads kept and not yet seen in the cloud.
    pub unsent: u64,
    /// Reads that the journal says wait.
    pub waiting: u64,
    /// Bytes allocated.
    pub log: u64,
    /// Bytes allocated.
    pub queue: u64,
    /// Resident memory of the process: journal, uplink *and* cloud.
    pub rss_kib: u64,
    /// Most of it so far.
    pub hwm_kib: u64,
    /// Open files and sockets.
    pub files: u64,
    /// Log segments.
    pub segments: u64,
    /// Spans of the queue.
    pub spans: u64,
    /// First number that the log still holds.
    pub first_kept: u64,
}

impl Sample {
    /// Log and queue.
    pub fn disk(&self) -> u64 {
        self.log + self.queue
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:.0}: kept {:>8}, unsent {:>7}, disk {:>6.0} MB (log {:>6.0} in {} segments from {}, queue {:>4.0} in {} \
             spans), memory {:>5.1} MB (peak {:>5.1}), {} files",
            self.at,
            self.kept,
            self.unsent,
            mb(self.disk()),
            mb(self.log),
            self.segments,
            self.first_kept,
            mb(self.queue),
            self.spans,
            mb(self.rss_kib * 1024),
            mb(self.hwm_kib * 1024),
            self.files,
        )
    }
}

/// Everything that runs.
pub struct Stage {
    /// The cloud.
    pub cloud: SimCloud,
    dir: tempfile::TempDir,
    wall: Wall,
    journal: Journal,
    stop: CancellationToken,
    uplink: JoinHandle<Result<(), UplinkError>>,
    now: Timestamp,
    /// Sessions whose passings were not all looked at, oldest first.
    sessions: Vec<String>,
    kept: u64,
    /// Passings looked at and taken out of the cloud.
    seen: u64,
}

impl Stage {
    /// Starts it all, on the disk that holds `target`.
    pub async fn start(keep_days: u32, keep_bytes: u64, segment_bytes: u64) -> Self {
        install_tls();
        let now = Timestamp::from_millisecond(START_MS).unwrap();
        let wall = Wall::scripted(now);
        let board = Board::with_clock("soak", wall.clone());
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = JournalConfig {
            dir: dir.path().into(),
            dead_time: Duration::ZERO,
            zones: Default::default(),
            keep_days,
            keep_bytes,
            segment_bytes,
        };
        let journal = Journal::open(config, board.clone()).unwrap();
        let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
        let stop = CancellationToken::new();
        let uplink = start_uplink(&cloud, &journal, board, &stop);
        let mut stage = Self { cloud, dir, wall, journal, stop, uplink, now, sessions: Vec::new(), kept: 0, seen: 0 };
        stage.next_session();
        stage
    }

    /// START is pressed again: the session before closes.
    pub fn next_session(&mut self) {
        self.sessions.push(self.cloud.open_session(DEVICE, "Soak"));
    }

    /// Reads kept that the cloud does not hold.
    pub fn unsent(&self) -> u64 {
        self.kept - self.arrived()
    }

    fn arrived(&self) -> u64 {
        self.seen + self.cloud.stored() as u64
    }

    /// So many hours pass, with so many reads, evenly.
    pub async fn pass(&mut self, hours: u64, reads: u64) {
        let begin = self.now;
        let end = self.kept + reads;
        while self.kept < end {
            let group = GROUP.min(end - self.kept);
            let done = (reads - (end - self.kept)) as i64;
            self.now = begin + SignedDuration::from_millis(hours as i64 * 3_600_000 * done / reads as i64);
            self.wall.set(self.now);
            let frames = (self.kept..self.kept + group).map(read).collect();
            self.journal.append("mat", self.now, frames).await.unwrap();
            self.kept += group;
        }
        self.now = begin + SignedDuration::from_hours(hours as i64);
        self.wall.set(self.now);
    }

    /// Waits until everything kept is in the cloud, and the journal knows it.
    pub async fn all_arrived(&mut self) {
        while self.unsent() > 0 {
            let next = (self.cloud.stored() as u64 + PIECE).min(self.kept - self.seen);
            let came = self.cloud.wait_for(next as usize, LIMIT).await;
            assert!(came, "{} of {} arrived: {:?}", self.arrived(), self.kept, self.cloud.violations());
            self.look(LEFT);
        }
        let mut changed = self.journal.changed();
        let recorded = async {
            while self.waiting().await > 0 {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, recorded).await.expect("the last answer is recorded");
        assert_eq!(self.cloud.violations(), [""; 0]);
    }

    /// Takes what arrived out of the cloud; each passing has to be the one that is next.
    fn look(&mut self, leave: usize) {
        while let [token, rest @ ..] = &*self.sessions {
            let passings = self.cloud.take_passings(token, if rest.is_empty() { leave } else { 0 });
            for (passing, n) in passings.iter().zip(self.seen..) {
                let (time_ms, chip) = (START_MS + n as i64, chip(n));
                assert_eq!(
                    (passing.time_ms, passing.chip.as_deref()),
                    (time_ms, Some(&*chip)),
                    "passing {n}: {passing:?}"
                );
            }
            self.seen += passings.len() as u64;
            if rest.is_empty() {
                return;
            }
            self.sessions.remove(0);
        }
    }

    /// Stops everything, after a look at the last passings.
    pub async fn end(mut self) {
        self.look(0);
        assert_eq!(self.seen, self.kept, "every read arrived once");
        self.stop.cancel();
        self.uplink.await.unwrap().unwrap();
        self.journal.close().await;
    }

    async fn waiting(&self) -> u64 {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.backlog().0).await.unwrap()
    }

    /// Takes the figures, once the disk holds no more than `bound` of what is unsent: what has had
    /// its time is removed by a task of its own, which gets few of the real seconds in which a day
    /// goes by here.
    pub async fn sample_below(&self, bound: impl Fn(u64) -> u64) -> Sample {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let sample = self.sample().await;
            let bound = bound(sample.unsent);
            if sample.disk() <= bound {
                return sample;
            }
            assert!(tokio::time::Instant::now() < deadline, "bound {bound}: {sample}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes the figures.
    async fn sample(&self) -> Sample {
        let (log, names) = of_dir(&self.dir.path().join("log"));
        let (queue, spans) = of_dir(&self.dir.path().join("queue"));
        Sample {
            at: self.now,
            kept: self.kept,
            unsent: self.unsent(),
            waiting: self.waiting().await,
            log,
            queue,
            rss_kib: memory("VmRSS"),
            hwm_kib: memory("VmHWM"),
            files: std::fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            segments: names.len() as u64,
            spans: spans.len() as u64,
            first_kept: names.into_iter().min().unwrap_or(0),
        }
    }
}

fn start_uplink(
    cloud: &SimCloud,
    journal: &Journal,
    board: Board,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), UplinkError>> {
    let (timeout, header) = (Duration::from_secs(30), KeyHeader::XApiKey);
    let client = Client::new(ClientConfig {
        url: cloud.url().parse().unwrap(),
        key: KEY.into(),
        header,
        timeout,
        clock: Wall::default(),
    });
    let config = UplinkConfig {
        device: DEVICE.into(),
        decoders: vec!["mat".into()],
        name: "soak".to_owned(),
        session: SessionMode::Active,
        upload: UploadConfig {
            batch_max: 500,
            linger: Duration::ZERO,
            min_interval: Duration::ZERO,
            retry_max: Duration::from_millis(100),
            settle: Duration::from_millis(100),
            create_after: Duration::from_millis(100),
            timeout,
        },
    };
    tokio::spawn(uplink::run(config, client.unwrap(), journal.clone(), board, fields, stop.clone()))
}

fn fields(read: &PendingRead) -> Option<Fields> {
    let Stamp::Utc(time) = read.stamp else { unreachable!("the soak keeps no other stamps") };
    Some(Fields { time_ms: time.as_millisecond(), bib: "".into(), chip: (&*read.chip).into() })
}

fn chip(n: u64) -> String {
    format!("0580{:08x}", n % CHIPS)
}

/// Read number `n`, with as many raw bytes as an IPICO line has.
fn read(n: u64) -> Framed {
    let stamp = Stamp::Utc(Timestamp::from_millisecond(START_MS + n as i64).unwrap());
    let chip = chip(n);
    let raw = format!("aa00{chip}0a0a{n:016x}ff").into_bytes().into();
    Framed { frame: Frame::Read(ChipRead::new(chip, stamp)), raw }
}

/// Bytes allocated below a directory, and the numbers that its entries are named after. What goes
/// meanwhile does not count.
fn of_dir(dir: &Path) -> (u64, Vec<u64>) {
    let (mut bytes, mut numbers) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { of_dir(&entry.path()).0 } else { meta.blocks() * 512 };
        numbers.extend(entry.path().file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok()));
    }
    (bytes, numbers)
}

/// A line of `/proc/self/status` in KiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
