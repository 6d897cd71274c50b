//! What the benches share: reads to feed, a directory on a real disk, clocks, and the real binary
//! as a child.
//!
//! Nothing here asserts a figure: a bench prints what it saw beside the floor of the same run.

#![allow(dead_code, reason = "each bench uses its part")]

#[path = "../../tests/support/disk_state.rs"]
pub mod image;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use passbridge::testing::decoders::{Framed, Item, Output, Protocol, Settings, spec};
use passbridge::testing::journal::{Journal, JournalConfig};
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::cloud::{DEVICE, KEY};
use passbridge::testing::status::{Board, Snapshot};
use rustix::time::{ClockId, clock_gettime};

/// The decoder's name in every bench.
pub const MAT: &str = "finish-mat";

/// A directory on the disk that holds `target` (a tmpfs would make every figure a lie), removed at
/// the end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp can be written")
}

/// The journal as the daemon opens it.
pub fn open_journal(dir: &Path) -> Journal {
    let config = JournalConfig {
        dir: dir.into(),
        dead_time: Duration::ZERO,
        zones: Default::default(),
        keep_days: 30,
        keep_bytes: 2_000_000_000,
        segment_bytes: 16 * 1024 * 1024,
    };
    Journal::open(config, Board::new("bench")).expect("the journal opens")
}

/// A runtime like the daemon's.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads start")
}

/// IPICO lines as a decoder streams them, each read a different one: 5,000 chips, one read every
/// hundredth of a second.
pub struct Ipico {
    next: u64,
    protocol: Box<dyn Protocol>,
    output: Output,
}

impl Ipico {
    /// Begins with read number `from`.
    pub fn new(from: u64) -> Self {
        let make = spec("ipico").expect("in the registry").make;
        let protocol = make(&Settings::new()).expect("no settings are needed");
        Self { next: from, protocol, output: Output::default() }
    }

    /// The bytes of the next `count` reads.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count as usize * 38);
        for n in self.next..self.next + count {
            let (day, time) = (n / 8_640_000, n % 8_640_000);
            let (hour, minute, second, hundredth) = (time / 360_000, time / 6000 % 60, time / 100 % 60, time % 100);
            let chip = n % 5000 + 1;
            let body = format!("0005800{chip:07x}0a0a2606{:02}{hour:02}{minute:02}{second:02}{hundredth:02x}", 1 + day);
            let sum = body.bytes().fold(0, u8::wrapping_add);
            bytes.extend_from_slice(format!("aa{body}{sum:02x}\r\n").as_bytes());
        }
        self.next += count;
        bytes
    }

    /// What the protocol makes of `bytes`.
    pub fn parse(&mut self, bytes: &[u8]) -> Vec<Framed> {
        self.protocol.feed(bytes, &mut self.output);
        let frame = |item| if let Item::Frame(framed) = item { Some(framed) } else { None };
        let mut frames = Vec::with_capacity(self.output.items.len()); // as the link does
        frames.extend(self.output.items.drain(..).filter_map(frame));
        frames
    }
}

/// Keeps `count` reads in groups of `group`, one after the other.
pub async fn keep(journal: &Journal, ipico: &mut Ipico, count: u64, group: u64) {
    let mut left = count;
    while left > 0 {
        let bytes = ipico.bytes(left.min(group));
        let frames = ipico.parse(&bytes);
        assert_eq!(frames.len() as u64, left.min(group), "a line was not understood");
        journal.append(MAT, Timestamp::now(), frames).await.expect("the journal is open");
        left -= left.min(group);
    }
}

/// A journal in `dir` with `count` reads that wait for upload, closed again.
pub fn prepare(dir: &Path, count: u64) {
    runtime().block_on(async {
        let journal = open_journal(dir);
        journal.serving().await;
        keep(&journal, &mut Ipico::new(0), count, 4000).await;
        journal.close().await;
    });
}

/// CPU time of this process, all threads, also those that ended.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A file that grows by `append` and `fdatasync`, and nothing else: the floor.
pub struct Append {
    file: File,
    at: u64,
}

impl Append {
    pub fn new(path: &Path) -> Self {
        Self { file: File::create_new(path).expect("a new file can be made"), at: 0 }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at).expect("the disk takes it");
        self.file.sync_data().expect("the disk takes it");
        self.at += bytes.len() as u64;
    }
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which `part` of the values lie.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Says under which load the figures were taken.
pub fn heading(what: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{what}\nload before the run (1, 5, 15 min): {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
}

/// Bytes of the files below `dir`, as the disk holds them.
pub fn tree_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => tree_bytes(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// The program that is measured: the one of this build, or another one, such as that of the profile
/// `dist`, whose path is in `PASSBRIDGE_PROGRAM`.
pub fn program() -> PathBuf {
    std::env::var_os("PASSBRIDGE_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_passbridge").into(), PathBuf::from)
}

/// `passbridge run` as a child of this process; killed when dropped.
pub struct Running {
    child: Child,
    dir: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Running {
    /// Starts it on a data directory. `decoder`: protocol and address; `upload`: lines of
    /// `[upload]`.
    pub fn start(dir: &Path, cloud: &str, decoder: (&str, &str), upload: &str) -> Self {
        let (protocol, address) = decoder;
        Self::start_with(dir, cloud, &[(MAT, protocol, address)], upload)
    }

    /// Like [`Running::start`], with several decoders: name, protocol and address of each.
    pub fn start_with(dir: &Path, cloud: &str, decoders: &[(&str, &str, &str)], upload: &str) -> Self {
        Self::start_at(dir, cloud, decoders, upload, "off")
    }

    /// Like [`Running::start`], with the page at this address.
    pub fn start_with_page(dir: &Path, cloud: &str, (protocol, address): (&str, &str), page: SocketAddr) -> Self {
        Self::start_at(dir, cloud, &[(MAT, protocol, address)], "", &page.to_string())
    }

    fn start_at(dir: &Path, cloud: &str, decoders: &[(&str, &str, &str)], upload: &str, page: &str) -> Self {
        let decoder = |(name, protocol, address): &(&str, &str, &str)| {
            format!(
                "[[decoder]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntimezone = \"UTC\"\n"
            )
        };
        let decoders: String = decoders.iter().map(decoder).collect();
        let text = format!(
            "name = \"bench\"\ndata_dir = {dir:?}\n{decoders}\
             [cloud]\nurl = \"{cloud}\"\ndevice_id = \"{DEVICE}\"\n\
             [upload]\n{upload}\n[status]\nlisten = \"{page}\"\n[log]\nlevel = \"error\"\n"
        );
        let config = dir.with_extension("toml");
        File::create(&config).and_then(|mut file| file.write_all(text.as_bytes())).expect("the disk takes it");
        let started = Instant::now();
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(&config)
            .env("PASSBRIDGE__CLOUD__API_KEY", KEY)
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Self { child, dir: dir.into(), started }
    }

    /// What it says of itself; `None` while it does not answer.
    pub async fn status(&self) -> Option<Snapshot> {
        let value = control::ask(&self.dir, ControlRequest::Status).await.ok()?;
        serde_json::from_value(value).ok()
    }

    /// Asks until `condition` holds, and says how long that was after the start.
    pub async fn wait(&self, condition: impl Fn(&Snapshot) -> bool) -> Duration {
        loop {
            if self.status().await.is_some_and(|snapshot| condition(&snapshot)) {
                return self.started.elapsed();
            }
            assert!(self.started.elapsed() < Duration::from_secs(120), "it does not come to it");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A line of `/proc/PID/status` in MB: `VmRSS` (now), `VmHWM` (the most so far).
    pub fn memory_mb(&self, field: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
    }

    /// The child's threads.
    pub fn threads(&self) -> usize {
        self.tasks().count()
    }

    /// Context switches of the child's threads so far, those that ended not counted.
    pub fn switches(&self) -> u64 {
        let of = |dir: PathBuf| std::fs::read_to_string(dir.join("status")).unwrap_or_default();
        let count = |text: String| -> u64 {
            let lines = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            lines.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
        };
        self.tasks().map(of).map(count).sum()
    }

    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        entries.into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// CPU seconds of the child so far, to a hundredth.
    pub fn cpu_s(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after = text.rsplit_once(") ").map_or("", |(_, after)| after); // behind the name
        let ticks = after.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// Ends it as systemd does, and waits.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the child is ours");
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
