//! A search in a long log: how long it takes, and what memory it needs. The log is written by the
//! journal: a read every hundredth of a second of 5,000 chips, uploaded a hundred at a time. The
//! daemon that is asked is a child; its decoder and its cloud do not answer.
//!
//! *Cold* is just after the start of the daemon, with the files of the log and of its index dropped from
//! the memory of the kernel. Without an index, every segment is read.
//!
//! `cargo bench --bench search`, 2 minutes; `cargo bench --bench search -- 200000` takes another number.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use passbridge::testing::export::{SearchAnswer, SearchQuery, Sought};
use passbridge::testing::journal::{Batch, Journal, UploadEvent, UploadItem};
use passbridge::testing::model::chip::Seq;
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::cloud::DEVICE;
use rig::{Ipico, MAT, Running};
use rustix::fs::{Advice, fadvise};

/// Reads of a batch.
const BATCH: u64 = 100;
/// Searches of which the median and the worst are shown.
const SEARCHES: usize = 40;

fn main() {
    rig::heading("search: the reads of a chip in a long log");
    let count: u64 = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(1_000_000);
    let dir = rig::scratch();
    let data = dir.path().join("data");
    rig::runtime().block_on(async {
        write(&data, count).await;
        println!("program: {}", rig::program().display());
        let (log, index) = (data.join("log"), data.join("windows"));
        println!("{count} reads, the log has {:.0} MB", rig::tree_bytes(&log) as f64 / 1e6);
        drop_from_memory(&data);
        measure("cold, without an index", &data, 1).await;
        measure("warm, while the index is made", &data, SEARCHES).await;
        let begun = Instant::now();
        with_index(&data).await;
        let mb = rig::tree_bytes(&index) as f64 / 1e6;
        println!("the index was made after {:.1} s more, and has {mb:.1} MB", begun.elapsed().as_secs_f64());
        measure("warm, with the index", &data, SEARCHES).await;
        drop_from_memory(&data);
        measure("cold, with the index", &data, 1).await;
    });
}

/// Writes the log.
async fn write(data: &Path, count: u64) {
    let journal = rig::open_journal(data);
    journal.serving().await;
    let mut ipico = Ipico::new(0);
    let token = "0123456789abcdef0123456789abcdef";
    let joined = UploadEvent::Joined { device: DEVICE.into(), token: token.into(), alias: None, next: 1 };
    journal.record(joined).await.unwrap();
    for at in 0..count / BATCH {
        rig::keep(&journal, &mut ipico, BATCH, BATCH).await;
        let through = journal.durable();
        upload(&journal, token, at * BATCH + 1, through).await;
    }
    journal.close().await;
}

/// Uploads the last reads.
async fn upload(journal: &Journal, token: &str, first: u64, through: Seq) {
    let item = |at: u64| UploadItem {
        seq: Seq(through.0 - BATCH + 1 + at),
        num: first + at,
        time_ms: Timestamp::now().as_millisecond(),
        corrected_ms: 0,
        bib: "1234".into(),
        chip: "058003a1b2c".into(),
    };
    let items = (0..BATCH).map(item).collect();
    let batch = Batch { through, decoders: vec![MAT.into()], ..Batch::resend(DEVICE, token, items) };
    journal.record(UploadEvent::Batch(batch)).await.unwrap();
    let (device, last) = (DEVICE.into(), first + BATCH - 1);
    journal.record(UploadEvent::Accepted { device, first, last, duplicates: 0 }).await.unwrap();
}

/// Drops the files below a directory from the memory of the kernel.
fn drop_from_memory(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            drop_from_memory(&entry.path());
        } else if let Ok(file) = File::open(entry.path()) {
            file.sync_all().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// Waits until each full segment has its index.
async fn with_index(data: &Path) {
    let running = start(data).await;
    let count = |dir: &str, end: &str| {
        let files = std::fs::read_dir(data.join(dir)).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().ends_with(end)).count()
    };
    while count("windows", ".json") + 1 < count("log", ".log") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.stop();
}

async fn start(data: &Path) -> Running {
    // Nobody listens at either port.
    let running = Running::start(data, "http://127.0.0.1:1", ("ipico", "tcp://127.0.0.1:1"), "");
    running.wait(|status| status.journal.durable > 0).await;
    running
}

/// Starts the daemon, and searches.
async fn measure(what: &str, data: &Path, searches: usize) {
    let running = start(data).await;
    let before = running.memory_mb("VmRSS");
    let cpu = running.cpu_s();
    let mut took = Vec::new();
    let mut found = 0;
    for at in 0..searches {
        let chip = format!("05800{:07x}", at * 123 % 5000 + 1);
        let query = SearchQuery { what: Sought::Chip(chip.as_str().into()), ..SearchQuery::default() };
        let begun = Instant::now();
        let answer = control::ask(data, ControlRequest::Search { query }).await.unwrap();
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        let answer: SearchAnswer = serde_json::from_value(answer).unwrap();
        assert!(answer.reads.iter().all(|read| read.standing.as_ref().is_some_and(|it| it.num_passing.is_some())));
        found += answer.reads.len();
    }
    println!(
        "{what:<30} median {:>6.0} ms, worst {:>6.0} ms, CPU {:>6.0} ms each, {:>4.0} reads each, resident +{:.1} MB, peak +{:.1} MB",
        rig::median(&took),
        rig::quantile(&took, 1.0),
        (running.cpu_s() - cpu) * 1e3 / searches as f64,
        found as f64 / searches as f64,
        running.memory_mb("VmRSS") - before,
        running.memory_mb("VmHWM") - before,
    );
    running.stop();
}
