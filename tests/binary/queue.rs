//! A queue that is broken while the box is off, with a backlog: it comes back from the log, and reads are kept meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use passbridge::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::sim::decoder::{Kind, SimDecoder};

use crate::child::{Mat, PATIENCE, Passing, Site, decoder, exported, holds, judge, passing, until};

/// Reads that wait for the cloud when the box is switched off.
const BACKLOG: u64 = 20_000;
const UPLOAD: &str = "[upload]\nbatch_max = 500\nlinger = \"50ms\"\nmin_interval = \"0s\"\nretry_max = \"1s\"\n";

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Cuts every file of the queue in half.
fn truncated(data: &Path) {
    for path in files(&data.join("queue")) {
        let file = open(&path);
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
}

/// Every file of the queue has its length and nothing in it.
fn zeroed(data: &Path) {
    for path in files(&data.join("queue")) {
        let file = open(&path);
        let length = file.metadata().unwrap().len();
        file.set_len(0).unwrap();
        file.set_len(length).unwrap();
    }
}

/// A page of each `db` says something else than was written.
fn corrupted(data: &Path) {
    let mut rng = fastrand::Rng::with_seed(1);
    for path in files(&data.join("queue")).iter().filter(|path| path.ends_with("db")) {
        let file = open(path);
        let length = file.metadata().unwrap().len();
        for at in (0..length / 4096).step_by(4) {
            let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(4096).collect();
            file.write_all_at(&noise, at * 4096).unwrap();
        }
    }
}

/// The queue is fine; the last line of the log is half there, as after a power cut.
fn half_a_line(data: &Path) {
    let log = files(&data.join("log")).into_iter().max().unwrap();
    let text = fs::read(&log).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let half = &text[last..last + (text.len() - last) / 2];
    OpenOptions::new().append(true).open(&log).unwrap().write_all(half).unwrap();
}

/// What a damage does, and what the box says of it.
const DAMAGES: [(&str, fn(&Path), &str); 4] = [
    ("truncated", truncated, "queue_rebuilt"),
    ("zeroed", zeroed, "queue_rebuilt"),
    ("corrupted", corrupted, "queue_rebuilt"),
    ("half a line", half_a_line, ""),
];

#[tokio::test]
async fn a_broken_queue_comes_back_from_the_log_while_new_reads_are_kept_and_nothing_is_lost_or_sent_twice() {
    // One decoder and one box make the backlog; copies of that box are broken, each in its way.
    let (sim, mat) = decoder(Kind::Ipico, 1).await;
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.set_online(false).await;
    let site = Site::new(Some(&cloud), std::slice::from_ref(&mat), UPLOAD);
    let running = site.start();
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    sim.push(BACKLOG);
    site.until("the backlog is kept", |status| status.decoders[0].reads == BACKLOG && status.journal.serving).await;
    running.stop().await;
    until("the link is down", async || *sim.links().borrow() == 0).await;
    for (name, damage, problem) in DAMAGES {
        comes_back(name, damage, problem, &site.data, &sim, &mat).await;
    }
}

async fn comes_back(name: &str, damage: fn(&Path), problem: &str, data: &Path, sim: &SimDecoder, mat: &Mat) {
    let before: Vec<Passing> = sim.reads()[..BACKLOG as usize].iter().map(passing).collect();
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let site = Site::new(Some(&cloud), std::slice::from_ref(mat), UPLOAD);
    copy(data, &site.data);
    damage(&site.data);
    let running = site.start();
    until("it says that reads can be kept", async || site.get("/readyz").await.is_some_and(|(code, _)| code == 200))
        .await;
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    let from = sim.reads().len();
    sim.push(7);
    let mut meanwhile = false;
    site.until("new reads are kept", |status| {
        meanwhile = status.decoders[0].reads == 7 && !status.journal.serving;
        status.decoders[0].reads == 7
    })
    .await;
    assert!(meanwhile || problem.is_empty(), "{name}: reads had to wait for the queue");
    assert_eq!(site.get("/readyz").await.unwrap().0, 200, "{name}");
    let new: Vec<Passing> = sim.reads()[from..].iter().map(passing).collect();
    let all = BACKLOG as usize + new.len();
    holds(PATIENCE, async || cloud.stored() >= all).await;
    site.sent(all as u64).await;
    let problems: Vec<String> = site.status().await.unwrap().problems.into_iter().map(|problem| problem.code).collect();
    assert_eq!(problems.join(" "), problem, "{name}");
    running.stop().await;
    until("the link is down", async || *sim.links().borrow() == 0).await;
    judge(name, &cloud, &token, before.into_iter().chain(new));
    assert_eq!(site.export().await.iter().filter_map(exported).count(), all, "{name}");
}
