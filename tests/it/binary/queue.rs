//! A queue that is broken while the box is off, with a backlog: it comes back from the log, and
//! reads are kept meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};

use crate::support::child::{Mat, PATIENCE, Passing, Site, decoder, exported, holds, judge, passing, until};

/// Reads that wait for the cloud when the box is switched off.
const BACKLOG: u64 = 20_000;
/// So many happen at once: less than what fits into the buffer before the disk.
const PUSH: u64 = 2_000;
const UPLOAD: &str =
    "[upload]\nbatch_max = 500\nlinger = \"50ms\"\nmin_interval = \"0s\"\nretry_max = \"1s\"\nsettle = \"1s\"\n";

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
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

fn write_noise(file: &File, page: u64) {
    let mut rng = fastrand::Rng::with_seed(page);
    let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(4096).collect();
    file.write_all_at(&noise, page * 4096).unwrap();
}

fn databases(data: &Path) -> impl Iterator<Item = (File, u64)> {
    let databases = files(&data.join("queue")).into_iter().filter(|path| path.ends_with("db"));
    databases
        .map(|path| open(&path))
        .map(|file| (file.metadata().unwrap().len() / 4096, file))
        .map(|(pages, file)| (file, pages))
}

/// One page in the middle of what the queue wrote.
fn one_page(data: &Path) {
    databases(data).for_each(|(file, pages)| write_noise(&file, pages / 2));
}

/// Every fourth page, the first among them: to sled it is as if nothing had ever been written.
fn many_pages(data: &Path) {
    databases(data).for_each(|(file, pages)| (0..pages).step_by(4).for_each(|page| write_noise(&file, page)));
}

/// The queue is fine; the last line of the log is half there, as after a power cut.
fn half_a_line(data: &Path) {
    let log = files(&data.join("log")).into_iter().max().unwrap();
    let text = fs::read(&log).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let half = &text[last..last + (text.len() - last) / 2];
    OpenOptions::new().append(true).open(&log).unwrap().write_all(half).unwrap();
}

/// Done to a data directory.
type Damage = fn(&Path);

/// What a damage is called, and what it does.
const DAMAGES: [(&str, Damage); 5] = [
    ("truncated", truncated),
    ("zeroed", zeroed),
    ("one page", one_page),
    ("many pages", many_pages),
    ("half a line", half_a_line),
];

#[tokio::test]
async fn a_broken_queue_comes_back_from_the_log_while_new_reads_are_kept_and_nothing_is_lost_or_sent_twice() {
    // One decoder and one box make the backlog; copies of that box are broken, each in its way.
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.set_online(false).await;
    let site = Site::new(Some(&cloud), std::slice::from_ref(&mat), UPLOAD);
    let running = site.start();
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    for kept in (PUSH..=BACKLOG).step_by(PUSH as usize) {
        sim.push(PUSH);
        site.until("the backlog is kept", |status| status.decoders[0].reads == kept && status.journal.serving).await;
    }
    running.stop().await;
    until("the link is down", async || *sim.links().borrow() == 0).await;
    let mut meanwhile = 0;
    for (name, damage) in DAMAGES {
        meanwhile += u32::from(comes_back(name, damage, &site.data, &sim, &mat).await);
    }
    assert!(meanwhile > 0, "new reads had to wait for the queue every time");
}

/// Whether new reads were kept while the queue was being rebuilt.
async fn comes_back(name: &str, damage: Damage, data: &Path, sim: &SimDecoder, mat: &Mat) -> bool {
    let before: Vec<Passing> = sim.reads()[..BACKLOG as usize].iter().map(passing).collect();
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let site = Site::new(Some(&cloud), std::slice::from_ref(mat), UPLOAD);
    crate::support::disk_state::image(data, &site.data);
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
    assert_eq!(site.get("/readyz").await.unwrap().0, 200, "{name}");
    let new: Vec<Passing> = sim.reads()[from..].iter().map(passing).collect();
    let all = BACKLOG as usize + new.len();
    holds(PATIENCE, async || cloud.stored() >= all).await;
    site.sent(all as u64).await;
    let problems: Vec<String> = site.status().await.unwrap().problems.into_iter().map(|problem| problem.code).collect();
    // Sled may also have forgotten everything, which is no news; but nothing else may be wrong.
    // (The simulated clock goes on with each read, and is ahead of the box's after so many.)
    let known = ["queue_rebuilt", "decoder_clock_off"];
    assert!(problems.iter().all(|code| known.contains(&code.as_str())), "{name}: {problems:?}");
    running.stop().await;
    until("the link is down", async || *sim.links().borrow() == 0).await;
    judge(name, &cloud, &token, before.into_iter().chain(new));
    assert_eq!(site.export().await.iter().filter_map(exported).count(), all, "{name}");
    meanwhile
}
