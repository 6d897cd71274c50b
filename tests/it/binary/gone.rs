//! Files that are removed, moved or cut off under the running box, to make room: nothing that was
//! kept is lost while it goes on running, and it says what happened.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{PATIENCE, Site, UPLOAD, decoder, exported, holds, judge, passing, until};

/// Small segments, and a look ten times a second.
const TRIAL: [(&str, &str); 2] = [("PASSBRIDGE_TRIAL_VOLUME_BYTES", "5000"), ("PASSBRIDGE_TRIAL_TURN_MS", "100")];

/// Done to a data directory; the second one is elsewhere.
type Take = fn(&Path, &Path);

struct Case {
    what: &'static str,
    take: Take,
    /// What is told.
    told: &'static str,
    /// All of it is still in the log: only what a file lost that was cut off is not.
    whole: bool,
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(data.join("log")).unwrap().map(|file| file.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

fn written(data: &Path) -> PathBuf {
    segments(data).pop().unwrap()
}

/// Removes a directory into which the box may put a file meanwhile.
fn remove_dir(dir: &Path) {
    while let Err(error) = fs::remove_dir_all(dir) {
        assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

fn remove_all(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // What the box makes again meanwhile is not the matter here.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

const CASES: [Case; 17] = [
    Case {
        what: "the file that is written, removed",
        take: |data, _| fs::remove_file(written(data)).unwrap(),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the file that is written, moved away",
        take: |data, elsewhere| fs::rename(written(data), elsewhere.join("taken")).unwrap(),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the file that is written, renamed where it is",
        take: |data, _| fs::rename(written(data), data.join("log/old-race.log")).unwrap(),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the file that is written, replaced by an empty one",
        take: |data, _| {
            let path = written(data);
            fs::remove_file(&path).unwrap();
            File::create(path).unwrap();
        },
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the file that is written, replaced by a directory",
        take: |data, _| {
            let path = written(data);
            fs::remove_file(&path).unwrap();
            fs::create_dir(path).unwrap();
        },
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the file that is written, cut off",
        take: |data, _| File::options().write(true).open(written(data)).unwrap().set_len(0).unwrap(),
        told: "",
        whole: true, // it was all in memory
    },
    Case {
        what: "the file that is written, cut off and removed",
        take: |data, _| {
            let path = written(data);
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            fs::remove_file(path).unwrap();
        },
        told: "",
        whole: true,
    },
    Case {
        what: "an older file, removed",
        take: |data, _| fs::remove_file(&segments(data)[1]).unwrap(),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "an older file, replaced by an empty one",
        take: |data, elsewhere| {
            let path = segments(data)[1].clone();
            fs::rename(&path, elsewhere.join("taken")).unwrap();
            File::create(path).unwrap();
        },
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "an older file, cut off",
        take: |data, _| File::options().write(true).open(&segments(data)[1]).unwrap().set_len(100).unwrap(),
        told: "log_lost",
        whole: false,
    },
    Case {
        what: "all files of the log, removed",
        take: |data, _| remove_all(&data.join("log")),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the log's directory, removed",
        take: |data, _| remove_dir(&data.join("log")),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the log's directory, moved away",
        take: |data, elsewhere| fs::rename(data.join("log"), elsewhere.join("log")).unwrap(),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the queue, removed",
        take: |data, _| remove_dir(&data.join("queue")),
        told: "queue_rebuilt",
        whole: true,
    },
    Case {
        what: "the index of known reads, removed",
        take: |data, _| remove_dir(&data.join("known")),
        told: "",
        whole: true,
    },
    Case {
        what: "everything in the data directory, removed",
        take: |data, _| remove_all(data),
        told: "log_removed",
        whole: true,
    },
    Case {
        what: "the data directory, moved away",
        take: |data, elsewhere| fs::rename(data, elsewhere.join("data")).unwrap(),
        told: "log_removed",
        whole: true,
    },
];

/// 300 reads wait for the cloud, then something is taken away. With `more`, 100 more come at once.
async fn taken(case: &Case, more: bool) {
    let what = case.what;
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    cloud.set_online(false).await;
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let elsewhere = tempfile::tempdir_in(site.data.parent().unwrap()).unwrap();
    let running = site.start_with(&TRIAL);
    for kept in [100, 200, 300] {
        // More are kept than were pushed where the exporter says again what is acknowledged late.
        sim.push(100);
        site.until("they are kept", |status| status.decoders[0].reads >= kept && status.journal.serving).await;
    }
    until(&format!("{what}: there are older files"), async || segments(&site.data).len() > 2).await;
    // Until the box has looked at the youngest of them.
    let looked = site.status().await.unwrap().uptime_s + 1;
    site.until("a second has passed", |status| status.uptime_s > looked).await;
    let before = segments(&site.data);
    (case.take)(&site.data, elsewhere.path());
    if more {
        sim.push(100);
    }
    let told = |status: &passbridge::testing::status::Snapshot| {
        case.told.is_empty() || status.problems.iter().any(|problem| problem.code == case.told)
    };
    let kept = if more { 400 } else { 300 };
    let shown = async || site.status().await.is_some_and(|status| told(&status) && status.decoders[0].reads >= kept);
    assert!(holds(PATIENCE, shown).await, "{what}: {:#?}", site.status().await);
    until(&format!("{what}: the queue serves"), async || {
        site.status().await.is_some_and(|status| status.journal.serving && status.ready)
    })
    .await;
    if case.whole {
        let there = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
        until(&format!("{what}: the files are back"), async || before.iter().all(there)).await;
    }
    // What is not in a file with a name would now be gone.
    running.kill();
    cloud.set_online(true).await;
    let running = site.start();
    let all = holds(PATIENCE, async || cloud.stored() as u64 >= kept).await;
    assert!(all, "{what}: {} of {kept} in the cloud: {:#?}", cloud.stored(), site.status().await);
    site.sent(kept).await;
    running.stop().await;
    judge(what, &cloud, &token, sim.reads().iter().map(passing));
    if case.whole {
        // The exporter says again what is acknowledged late.
        let all: BTreeSet<_> = site.export().await.iter().filter_map(exported).collect();
        assert_eq!(all.len() as u64, kept, "{what}");
    }
}

#[tokio::test]
async fn files_that_are_taken_away_under_the_box_cost_nothing_that_was_kept_while_reads_come() {
    for cases in CASES.chunks(4) {
        join_all(cases.iter().map(|case| taken(case, true))).await;
    }
}

#[tokio::test]
async fn files_that_are_taken_away_under_an_idle_box_are_put_back_by_themselves() {
    for cases in CASES.chunks(4) {
        join_all(cases.iter().map(|case| taken(case, false))).await;
    }
}

#[tokio::test]
async fn files_whose_reads_are_all_sent_may_be_taken_and_it_is_told_by_number_until_they_are_back() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let elsewhere = tempfile::tempdir_in(site.data.parent().unwrap()).unwrap();
    let running = site.start_with(&TRIAL);
    for sent in [100, 200, 300] {
        sim.push(100);
        site.sent(sent).await;
    }
    let looked = site.status().await.unwrap().uptime_s + 1;
    site.until("a second has passed", |status| status.uptime_s > looked).await;
    let (first, second) = (segments(&site.data)[0].clone(), segments(&site.data)[1].clone());
    let place = elsewhere.path().join("first");
    fs::rename(&first, &place).unwrap();
    let last = second.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap() - 1;
    let told = format!("entries 1–{last} are gone");
    site.until("it is told by number", |status| {
        status.problems.iter().any(|problem| problem.code == "log_lost" && problem.message.contains(&told))
    })
    .await;
    assert!(!first.exists(), "somebody has made room");
    fs::rename(&place, &first).unwrap();
    site.until("it is over", |status| status.problems.iter().all(|problem| problem.code != "log_lost")).await;
    sim.push(50);
    site.sent(350).await;
    running.stop().await;
    judge("taken and put back", &cloud, &token, sim.reads().iter().map(passing));
}
