//! Wear: bytes that reach the device for each read, as the block layer counts them, on a fresh ext4
//! of its own (a loop device; needs root). What a card does inside with them is not seen: it erases
//! larger blocks than it is given.
//!
//! `cargo bench --bench wear`, 5 minutes; `cargo bench --bench wear -- drain`, only the backlog.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::Running;

/// Bytes of the image: room for the reserve and a backlog.
const IMAGE_BYTES: u64 = 512 << 20;
/// Longer than the time between two checkpoints, and between two looks at what may go.
const SETTLE: Duration = Duration::from_secs(12);
const BACKLOG: u64 = 50_000;

fn main() {
    rig::heading("wear: bytes written to the device (ext4 with its journal, as a Pi has it)");
    let scratch = rig::scratch();
    let disk = match Disk::new(scratch.path()) {
        Ok(disk) => disk,
        Err(why) => return println!("needs root and a loop device: {why}"),
    };
    println!("{:<46}{:>10}{:>16}{:>12}{:>14}", "what", "reads", "bytes a read", "writes", "bytes in all");
    floor(&disk);
    rig::runtime().block_on(daemon(&disk));
}

/// A loop device with a file system of its own; gone when dropped.
struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    fn new(dir: &Path) -> Result<Self, String> {
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

/// What any program pays that appends a line and wants it to survive a power cut; and what it would
/// pay for one that is written over zeros which are there already, so that the file system has
/// nothing of its own to write.
fn floor(disk: &Disk) {
    for (name, zeros) in [("150 bytes appended", 0), ("150 bytes over zeros", 128 * 1024)] {
        let path = disk.mount.join(name);
        let file = File::create_new(&path).unwrap();
        file.write_all_at(&vec![0; zeros], 0).unwrap();
        file.sync_all().unwrap();
        let before = disk.written();
        for at in 0..500 {
            file.write_all_at(&[b'x'; 150], at * 150).unwrap();
            file.sync_data().unwrap();
        }
        disk.tell(&format!("floor: {name}, fdatasync"), 500, before);
        std::fs::remove_file(path).unwrap();
    }
}

async fn daemon(disk: &Disk) {
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
    let all = !std::env::args().any(|text| text == "drain");
    if all {
        let before = disk.written();
        tokio::time::sleep(Duration::from_secs(60)).await;
        disk.tell("idle, connected, for 60 s", 0, before);
    }
    let mut sent = 0;
    let when = |rates: &'static [(u64, u64)]| if all { rates } else { &[] };
    for &(rate, seconds) in when(&[(1, 30), (10, 30), (50, 20), (200, 20)]) {
        let before = disk.written();
        sent += push(&decoder, rate, seconds).await;
        assert!(cloud.wait_for(sent as usize, Duration::from_secs(60)).await);
        tokio::time::sleep(SETTLE).await;
        disk.tell(&format!("race with internet, {rate} a second"), rate * seconds, before);
    }
    cloud.set_online(false).await;
    for &(rate, seconds) in when(&[(10, 30), (50, 20)]) {
        let before = disk.written();
        sent += push(&decoder, rate, seconds).await;
        until_kept(&running, sent).await;
        tokio::time::sleep(SETTLE).await;
        disk.tell(&format!("without internet, {rate} a second"), rate * seconds, before);
    }
    let before = disk.written();
    for _ in 0..BACKLOG / 100 {
        decoder.push(100);
        sent += 100;
        until_kept(&running, sent).await;
    }
    tokio::time::sleep(SETTLE).await;
    disk.tell("without internet, 100 at once", BACKLOG, before);
    let (before, held) = (disk.written(), cloud.stored() as u64);
    cloud.set_online(true).await;
    assert!(cloud.wait_for(sent as usize, Duration::from_secs(300)).await);
    tokio::time::sleep(SETTLE).await;
    disk.tell("the backlog drains (batch_max 100)", sent - held, before);
    running.stop();
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
