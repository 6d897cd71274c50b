//! From a version that wrote log format 1 to this one, and back.
//!
//! `format-1/data` is the data directory of such a version, killed in the middle of a race: two
//! sessions, two passings set aside, a batch that the cloud had stored and not answered, 160 reads
//! that waited (120 of them in the queue). The decoders and the cloud were the simulated ones. `format-1/cloud.json` is what the cloud held then,
//! `format-1/happened.json` what the decoders had sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig, StoredPassing};
use passbridge::testing::sim::decoder::Kind;
use serde_json::Value;
use tokio::time::sleep;

use crate::support::child::{Passing, Site, UPLOAD, exported, setting};
use crate::support::disk_state;

/// Length of the queue's file. The zeros at its end are not in the repository.
const QUEUE_BYTES: u64 = 524_287;

/// Reads in the log.
const READS: usize = 231;

/// Kills in the first start unless the environment says otherwise.
const KILLS: u64 = 12;

fn format_1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/binary/format-1")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(format_1().join(name)).unwrap()).unwrap()
}

/// The cloud as it was when the older version was killed. Gives the passings that it holds.
fn as_it_was(cloud: &SimCloud) -> BTreeMap<String, Vec<StoredPassing>> {
    let mut held = BTreeMap::new();
    for session in json("cloud.json").as_array().unwrap() {
        let passing = |row: &Value| StoredPassing {
            num: row["num"].as_u64().unwrap(),
            time_ms: row["time_ms"].as_i64().unwrap(),
            chip: row["chip"].as_str().map(Into::into),
            bib: row["bib"].as_str().unwrap().into(),
        };
        let passings: Vec<_> = session["passings"].as_array().unwrap().iter().map(passing).collect();
        let token = session["token"].as_str().unwrap();
        cloud.put_session(DEVICE, session["alias"].as_str().unwrap(), token, &passings);
        held.insert(token.to_owned(), passings);
    }
    held
}

fn passings(of: &Value) -> BTreeSet<Passing> {
    serde_json::from_value(of.clone()).unwrap()
}

fn first_line(path: &Path) -> String {
    fs::read(path)
        .unwrap()
        .split(|byte| *byte == b'\n')
        .next()
        .map(|line| String::from_utf8_lossy(line).into())
        .unwrap()
}

#[tokio::test]
async fn what_a_version_with_log_format_1_left_is_all_sent_once_however_often_its_first_start_is_killed() {
    let seed = setting("PASSBRIDGE_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let cloud = SimCloud::start(SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() }).await.unwrap();
    let before = as_it_was(&cloud);
    // The decoders are not there any more.
    let mats = [(Kind::RACE_RESULT, 9), (Kind::IPICO, 10)];
    let mats = mats.map(|(kind, port)| (kind, format!("tcp://127.0.0.1:{port}")));
    let site = Site::new(Some(&cloud), &mats, &format!("{UPLOAD}[keep]\ndays = 36500\n"));
    disk_state::image(&format_1().join("data"), &site.data);
    let queue = fs::File::options().write(true).open(site.data.join("queue/000000000001/db")).unwrap();
    queue.set_len(QUEUE_BYTES).unwrap();
    for _ in 0..setting("PASSBRIDGE_KILLS", KILLS) {
        let running = site.start();
        sleep(Duration::from_millis(rng.u64(0..400))).await; // the fault is a matter of time here
        running.kill();
    }
    let running = site.start();
    site.until("nothing waits", |status| status.uptime_s > 2 && status.journal.serving && status.journal.pending == 0)
        .await;
    let problems = site.status().await.unwrap().problems;
    running.stop().await;
    for code in ["log_lost", "log_damaged", "journal_lost", "queue_rebuilt", "log_unreadable"] {
        assert!(problems.iter().all(|problem| problem.code != code), "{problems:#?}");
    }

    let expected = json("happened.json");
    let (happened, refused) = (passings(&expected["happened"]), passings(&expected["refused"]));
    let mut held: BTreeMap<Passing, u32> = BTreeMap::new();
    for (token, before) in &before {
        let now = cloud.passings(token);
        assert_eq!(&now[..before.len()], before, "what the cloud held is there as it was");
        assert!(now.windows(2).all(|pair| pair[0].num < pair[1].num), "numbers rise");
        for passing in now {
            *held.entry((passing.chip.unwrap().to_string(), passing.time_ms)).or_default() += 1;
        }
    }
    assert!(held.values().all(|count| *count == 1), "{held:?}");
    let sent: BTreeSet<Passing> = held.into_keys().collect();
    assert_eq!(sent, happened.difference(&refused).cloned().collect(), "each read once, and none of the refused ones");
    assert_eq!(cloud.violations(), Vec::<String>::new());
    let rows = site.export().await;
    let kept: Vec<Passing> = rows.iter().filter_map(exported).collect();
    // The decoder gave one read again after its restart, and it was kept twice.
    assert_eq!((kept.len(), kept.into_iter().collect::<BTreeSet<_>>()), (READS, happened));
    let aside = rows.iter().filter(|row| row["upload"]["state"] == "quarantined");
    assert_eq!(aside.filter_map(exported).collect::<BTreeSet<_>>(), refused);

    // The older segment is as it was, and what is new is in one of format 2.
    let log = site.data.join("log");
    let mut segments: Vec<PathBuf> = fs::read_dir(&log).unwrap().map(|file| file.unwrap().path()).collect();
    segments.sort();
    assert!(first_line(&segments[0]).starts_with("#passbridge-log\t1\t"));
    assert!(first_line(segments.last().unwrap()).starts_with("#passbridge-log\t2\t"));
}

#[tokio::test]
async fn a_version_that_knows_only_log_format_1_cannot_take_the_data_directory_any_more() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    as_it_was(&cloud);
    let site = Site::new(Some(&cloud), &[(Kind::IPICO, "tcp://127.0.0.1:9".to_owned())], UPLOAD);
    disk_state::image(&format_1().join("data"), &site.data);
    assert!(site.data.join("lock").is_file());
    let running = site.start();
    site.until("it serves", |status| status.journal.serving).await;
    running.stop().await;
    // What such a version does first. It says: "the journal in … cannot be opened (Is a directory)".
    let lock = fs::File::options().create(true).truncate(false).write(true).open(site.data.join("lock"));
    assert_eq!(lock.unwrap_err().kind(), std::io::ErrorKind::IsADirectory);
    let names: Vec<_> = fs::read_dir(site.data.join("lock")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["needs-passbridge-with-log-format-2"]);
    let text = fs::read_to_string(site.data.join("lock").join(&names[0])).unwrap();
    assert!(text.contains("An older version") && text.contains("Install the newer version again"), "{text}");
}
