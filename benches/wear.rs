//! Wear: bytes that reach the device for each read, as the block layer counts them, on a fresh ext4
//! of its own (a loop device; needs root). What a card does inside with them is not seen: it erases
//! larger blocks than it is given.
//!
//! Beside the box, at the same time and pace, each on a device of its own, run
//! * two floors: 150 bytes appended and synced, and 150 bytes written over zeros that are there
//!   already, and synced; one for each read;
//! * the same work by a queue of the usual kind, SQLite with a write-ahead log and a sync for each
//!   commit: one INSERT for each read, and one UPDATE when it is accepted; and the same with one
//!   UPDATE for all reads of a POST.
//!
//! `cargo bench --bench wear`, 6 minutes; `cargo bench --bench wear -- drain`, only the backlog;
//! `cargo bench --bench wear -- table`, only the table.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::{Append, Running};
use rusqlite::Connection;

/// Bytes of the image: room for the reserve and a backlog.
const IMAGE_BYTES: u64 = 512 << 20;
/// Longer than the time between two checkpoints, and between two looks at what may go.
const SETTLE: Duration = Duration::from_secs(12);
const BACKLOG: u64 = 50_000;
/// What a floor writes for a read: as much as its line in the log has.
const LINE: &[u8] = &[b'x'; 150];
/// Time between two POSTs while reads arrive (`upload.min_interval`), by which the last rival makes its
/// UPDATEs.
const POSTS: Duration = Duration::from_millis(250);

/// A row of the table: reads a second, for how long, and whether the cloud is there.
struct Row {
    rate: u32,
    seconds: u64,
    online: bool,
}

const TABLE: [Row; 4] = [
    Row { rate: 1, seconds: 30, online: true },
    Row { rate: 10, seconds: 30, online: true },
    Row { rate: 50, seconds: 60, online: true }, // long enough for several chunks of zeros
    Row { rate: 10, seconds: 30, online: false },
];

fn main() {
    rig::heading("wear: bytes written to the device (ext4 with its journal, as a Pi has it)");
    let scratch = rig::scratch();
    let rivals: Result<Vec<Rival>, String> = Rival::all(scratch.path()).collect();
    let (disk, rivals) = match Disk::new(&scratch.path().join("box")).and_then(|disk| Ok((disk, rivals?))) {
        Ok(both) => both,
        Err(why) => return println!("needs root and loop devices: {why}"),
    };
    rig::runtime().block_on(measure(&disk, rivals));
}

/// A loop device with a file system of its own; gone when dropped.
struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    fn new(dir: &Path) -> Result<Self, String> {
        std::fs::create_dir(dir).map_err(|error| error.to_string())?;
        let image = dir.join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image])?;
        let device = run("losetup", &["-f", "--show", &image])?.trim().to_owned();
        let disk = Self { device, mount: dir.join("mount") };
        std::fs::create_dir(&disk.mount).map_err(|error| error.to_string())?;
        run("mount", &["-o", "noatime", &disk.device, &disk.mount.display().to_string()])?;
        Ok(disk)
    }

    /// Bytes and requests written so far, with all that waited in memory.
    fn written(&self) -> (u64, u64) {
        rustix::fs::syncfs(File::open(&self.mount).unwrap()).unwrap();
        let name = self.device.trim_start_matches("/dev/");
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let fields: Vec<u64> = stat.split_whitespace().map(|field| field.parse().unwrap()).collect();
        (fields[6] * 512, fields[4]) // sectors of 512 bytes, whatever the device has; completed writes
    }

    fn tell(&self, what: &str, reads: u64, before: (u64, u64)) {
        let after = self.written();
        let (bytes, writes) = (after.0 - before.0, after.1 - before.1);
        let each = if reads == 0 { 0.0 } else { bytes as f64 / reads as f64 };
        println!("{what:<46}{reads:>10}{each:>16.0}{writes:>12}{bytes:>14}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for (tool, what) in [("umount", &*self.mount.display().to_string()), ("losetup", "-d")] {
            let device = if tool == "losetup" { Some(&*self.device) } else { None };
            let arguments: Vec<&str> = std::iter::once(what).chain(device).collect();
            let _ = run(tool, &arguments).inspect_err(|error| println!("left behind: {error}"));
        }
    }
}

fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tool).args(arguments).output().map_err(|error| format!("{tool}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Another program that does the work of the box, on a disk of its own.
struct Rival {
    name: &'static str,
    how: How, // closes its files before the disk goes
    disk: Disk,
}

/// Places in [`Rival::all`].
const OVER_ZEROS: usize = 1;
const SQLITE: usize = 2;

enum How {
    /// What any program pays that appends a line and wants it to survive a power cut.
    Append(Append),
    /// What it would pay if the line were written over zeros that are there already, so that the file
    /// system has nothing of its own to write.
    OverZeros(File, u64),
    /// A queue in SQLite, and the time between two UPDATEs (zero: one for each read).
    Sqlite(Connection, Duration),
}

impl Rival {
    fn all(dir: &Path) -> impl Iterator<Item = Result<Self, String>> {
        let append: fn(&Path) -> How = |dir| How::Append(Append::new(&dir.join("append")));
        let zeros: fn(&Path) -> How = |dir| {
            let file = File::create_new(dir.join("zeros")).unwrap();
            file.write_all_at(&vec![0; 4 << 20], 0).unwrap();
            file.sync_all().unwrap();
            How::OverZeros(file, 0)
        };
        let sqlite: fn(&Path) -> How = |dir| How::Sqlite(queue(&dir.join("queue.db")), Duration::ZERO);
        let posts: fn(&Path) -> How = |dir| How::Sqlite(queue(&dir.join("queue.db")), POSTS);
        let all = [("append", append), ("over zeros", zeros), ("SQLite", sqlite), ("SQLite, by POST", posts)];
        all.into_iter().map(|(name, make)| {
            let disk = Disk::new(&dir.join(name.replace([' ', ','], "")))?;
            Ok(Self { name, how: make(&disk.mount), disk })
        })
    }

    /// Does the work for the reads of a row, at its pace.
    fn race(&mut self, row: &Row) {
        let (start, gap) = (Instant::now(), Duration::from_secs(1) / row.rate);
        let (mut updated, mut waiting) = (Instant::now(), Vec::new());
        let count = row.rate * u32::try_from(row.seconds).unwrap();
        for n in 0..count {
            std::thread::sleep((start + gap * n).saturating_duration_since(Instant::now()));
            match &mut self.how {
                How::Append(file) => file.append(LINE),
                How::OverZeros(file, at) => {
                    file.write_all_at(LINE, *at).unwrap();
                    file.sync_data().unwrap();
                    *at += LINE.len() as u64;
                }
                How::Sqlite(queue, every) => {
                    waiting.push(insert(queue));
                    if row.online && (updated.elapsed() >= *every || n + 1 == count) {
                        accept(queue, waiting[0], waiting[waiting.len() - 1]);
                        (updated, waiting) = (Instant::now(), Vec::new());
                    }
                }
            }
        }
    }
}

/// A queue as a careful program makes it: what was committed survives a power cut. It has no index
/// beside the rows, which would cost it more.
fn queue(path: &Path) -> Connection {
    let queue = Connection::open(path).unwrap();
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        CREATE TABLE reads (id INTEGER PRIMARY KEY, decoder TEXT, received TEXT, chip TEXT, time TEXT, raw TEXT, sent INTEGER)";
    queue.execute_batch(set).unwrap();
    queue
}

fn insert(queue: &Connection) -> i64 {
    let read = "INSERT INTO reads (decoder, received, chip, time, raw, sent) VALUES (?, ?, ?, ?, ?, 0)";
    let now = jiff::Timestamp::now().to_string();
    let values = [rig::MAT, &now, "058000001c101", &now, "aa000580000001c10202260617100109"];
    queue.execute(read, values).unwrap();
    queue.last_insert_rowid()
}

fn accept(queue: &Connection, first: i64, last: i64) {
    let update = "UPDATE reads SET sent = 1 WHERE id BETWEEN ? AND ?";
    queue.execute(update, [first, last]).unwrap();
}

async fn measure(disk: &Disk, mut rivals: Vec<Rival>) {
    let mut site = Site::begin(disk).await;
    let only = |what: &str| std::env::args().any(|text| text == what);
    if !only("drain") {
        println!("bytes for each read, at the same time, each on a device of its own");
        print!("{:<22}{:>9}{:>9}", "reads a second", "the box", "writes");
        rivals.iter().for_each(|rival| print!("{:>17}", rival.name));
        println!("{:>18}{:>14}", "box / over zeros", "SQLite / box");
        for row in &TABLE {
            rivals = site.row(row, rivals).await;
        }
    }
    drop(rivals);
    if !only("table") {
        println!("{:<46}{:>10}{:>16}{:>12}{:>14}", "what", "reads", "bytes a read", "writes", "bytes in all");
        if !only("drain") {
            site.idle_and_more().await;
        }
        site.backlog().await;
    }
    site.running.stop();
}

/// The box on its disk, and what it talks to.
struct Site<'a> {
    disk: &'a Disk,
    cloud: SimCloud,
    decoder: SimDecoder,
    running: Running,
    /// Reads that the decoder sent.
    sent: u64,
}

impl<'a> Site<'a> {
    async fn begin(disk: &'a Disk) -> Self {
        let data = disk.mount.join("data");
        std::fs::create_dir(&data).unwrap();
        let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
        cloud.open_session(DEVICE, "Bench");
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let decoder = SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Listen(loopback))).await.unwrap();
        let place = format!("tcp://{}", decoder.address().unwrap());
        let running = Running::start(&data, &cloud.url(), ("ipico", &place), "");
        decoder.links().wait_for(|links| *links > 0).await.unwrap();
        running.wait(|snapshot| snapshot.uploads.first().is_some_and(|upload| upload.session.is_some())).await;
        tokio::time::sleep(SETTLE).await; // the first checkpoint is over
        Self { disk, cloud, decoder, running, sent: 0 }
    }

    /// A row of the table: the box and its rivals do the same at the same time.
    async fn row(&mut self, row: &'static Row, rivals: Vec<Rival>) -> Vec<Rival> {
        let before = self.disk.written();
        let racing: Vec<_> = rivals
            .into_iter()
            .map(|mut rival| {
                tokio::task::spawn_blocking(move || {
                    let before = rival.disk.written();
                    rival.race(row);
                    (rival, before)
                })
            })
            .collect();
        self.race(row).await;
        let reads = f64::from(row.rate) * row.seconds as f64;
        let after = self.disk.written();
        let each = |after: (u64, u64), before: (u64, u64)| (after.0 - before.0) as f64 / reads;
        let ours = each(after, before);
        let what = format!("{}{}", row.rate, if row.online { "" } else { ", no internet" });
        print!("{what:<22}{ours:>9.0}{:>9.1}", (after.1 - before.1) as f64 / reads);
        let (mut rivals, mut theirs) = (Vec::new(), Vec::new());
        for racing in racing {
            let (rival, before) = racing.await.unwrap();
            theirs.push(each(rival.disk.written(), before));
            rivals.push(rival);
        }
        theirs.iter().for_each(|theirs| print!("{theirs:>17.0}"));
        println!("{:>18.2}{:>14.1}", ours / theirs[OVER_ZEROS], theirs[SQLITE] / ours);
        rivals
    }

    /// Reads at a pace, until all of them are where they belong and the box has come to rest.
    async fn race(&mut self, row: &Row) {
        self.cloud.set_online(row.online).await;
        self.sent += push(&self.decoder, row.rate.into(), row.seconds).await;
        if row.online {
            assert!(self.cloud.wait_for(self.sent as usize, Duration::from_secs(60)).await);
        } else {
            until_kept(&self.running, self.sent).await;
        }
        tokio::time::sleep(SETTLE).await;
    }

    async fn idle_and_more(&mut self) {
        self.cloud.set_online(true).await;
        assert!(self.cloud.wait_for(self.sent as usize, Duration::from_secs(120)).await);
        tokio::time::sleep(SETTLE).await;
        let before = self.disk.written();
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.disk.tell("idle, connected, for 60 s", 0, before);
        for row in [Row { rate: 200, seconds: 20, online: true }, Row { rate: 50, seconds: 20, online: false }] {
            let before = self.disk.written();
            self.race(&row).await;
            let what = if row.online { "race with internet" } else { "without internet" };
            self.disk.tell(&format!("{what}, {} a second", row.rate), u64::from(row.rate) * row.seconds, before);
        }
    }

    async fn backlog(&mut self) {
        self.cloud.set_online(false).await;
        let before = self.disk.written();
        for _ in 0..BACKLOG / 100 {
            self.decoder.push(100);
            self.sent += 100;
            until_kept(&self.running, self.sent).await;
        }
        tokio::time::sleep(SETTLE).await;
        self.disk.tell("without internet, 100 at once", BACKLOG, before);
        let (before, held) = (self.disk.written(), self.cloud.stored() as u64);
        self.cloud.set_online(true).await;
        assert!(self.cloud.wait_for(self.sent as usize, Duration::from_secs(300)).await);
        tokio::time::sleep(SETTLE).await;
        self.disk.tell("the backlog drains (batch_max 100)", self.sent - held, before);
    }
}

async fn until_kept(running: &Running, reads: u64) {
    let kept = async {
        while running.status().await.is_none_or(|snapshot| snapshot.decoders[0].reads < reads) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), kept).await.expect("the reads are kept");
}

/// Reads one by one, evenly; gives how many.
async fn push(decoder: &SimDecoder, rate: u64, seconds: u64) -> u64 {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    for _ in 0..rate * seconds {
        ticks.tick().await;
        decoder.push(1);
    }
    rate * seconds
}
