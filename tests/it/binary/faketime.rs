//! The real binary on a box whose system clock steps: Debian's `faketime`, with a file that says
//! the time and is rewritten while the binary runs. Only the wall clock is faked, as a step does
//! it; timers go on.

use std::fs;
use std::path::{Path, PathBuf};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, ReadSource, SimConfig, SimDecoder, Wiring};

use crate::support::child::*;
use crate::support::skip;

/// The library to be preloaded, if the package is there.
fn library() -> Option<PathBuf> {
    let found =
        fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    found.chain([PathBuf::from("/usr/lib/faketime/libfaketimeMT.so.1")]).find(|path| path.exists())
}

/// The clock goes on from this time (UTC). In one step, so that no half-written time is read.
fn set(file: &Path, time: &str) {
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("@{time}\n")).unwrap();
    fs::rename(fresh, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_clock_of_a_box_without_one_is_set_and_steps_and_every_read_has_the_right_day() {
    let Some(library) = library() else {
        skip("the_system_clock_of_a_box_without_one_is_set", "Debian's package faketime is not here");
        return;
    };
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    // A decoder without a date. The box's clock is a Pi's: 1970, then set, then an hour off, then
    // right.
    let row = |n: u64| format!("{n};C{n};0000-00-00;10:00:{n:02}.000;0;4;17;;0;;;;;;;0;Sim;1;3;D-5001").into_bytes();
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let source = ReadSource::Recording((1..=4).map(row).collect());
    let sim = SimConfig { source, ..SimConfig::new(Kind::RACE_RESULT, Wiring::Listen(loopback)) };
    let sim = SimDecoder::start(sim).await.unwrap();
    let mat = (Kind::RACE_RESULT, format!("tcp://{}", sim.address().unwrap()));
    let site = Site::new(Some(&cloud), &[mat], "");
    let times = tempfile::tempdir().unwrap();
    let file = times.path().join("time");
    set(&file, "1970-01-01 00:01:00");
    let mut command = site.command(&["run"]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &file)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_NO_CACHE", "1")
        .env("TZ", "UTC");
    let box_ = Running::spawn(command, times.path());
    let problem = |code: &'static str| {
        move |status: &passbridge::testing::status::Snapshot| status.problems.iter().any(|problem| problem.code == code)
    };
    site.until("it serves", |status| status.journal.serving).await;
    sim.push(2);
    site.until("the reads wait", problem("upload_waits_for_clock")).await;
    assert_eq!(cloud.stored(), 0);
    set(&file, "2026-06-17 10:00:03");
    site.sent(2).await;
    site.until("the step is told", problem("box_clock_stepped")).await;
    for time in ["2026-06-17 11:00:05", "2026-06-17 10:00:07"] {
        set(&file, time);
        sim.push(1);
    }
    site.sent(4).await;
    let right = (1..=4).map(|n| {
        let time: jiff::Timestamp = format!("2026-06-17T10:00:{n:02}Z").parse().unwrap();
        (format!("C{n}"), time.as_millisecond())
    });
    judge("a clock that steps", &cloud, &token, right);
    box_.stop().await;
}
