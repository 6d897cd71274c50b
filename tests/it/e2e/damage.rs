//! A box whose files were damaged while it was off, in the middle of an upload: it starts, says
//! what is gone, and every read is in the cloud once: from the queue, from the log, or again from
//! the decoder's memory.

use std::fs;
use std::path::Path;

use passbridge::testing::sim::cloud::{DEVICE, Dedup, Generation};
use passbridge::testing::sim::decoder::Kind;

use crate::support::e2e::*;

/// What happens to the data directory, and a problem that must be told of it.
struct Case {
    name: &'static str,
    damage: fn(&Path),
    /// A box that the power went from in its first ten seconds, before a checkpoint, cannot know
    /// that the end of the log is gone, nor that there was a queue.
    told: Option<&'static str>,
}

fn log(data: &Path) -> std::path::PathBuf {
    fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

fn without_queue(data: &Path) {
    fs::remove_dir_all(data.join("queue")).unwrap();
}

/// Flips a bit in those lines of the log for which `chosen` says so, by place and content.
fn flip(data: &Path, chosen: impl Fn(usize, &str) -> bool) {
    let text = fs::read_to_string(log(data)).unwrap();
    let flipped = |(at, line): (usize, &str)| match chosen(at, line) {
        true => format!("{}!\n", &line[..line.len() - 1]), // its checksum does not agree any more
        false => format!("{line}\n"),
    };
    fs::write(log(data), text.lines().enumerate().map(flipped).collect::<String>()).unwrap();
}

fn halve(data: &Path) {
    let file = fs::OpenOptions::new().write(true).open(log(data)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn spans(data: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(data.join("queue")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn is_batch(line: &str) -> bool {
    line.contains("\\\"event\\\":\\\"batch\\\"") || line.contains("\"event\":\"batch\"")
}

/// A file stands where a directory should.
fn into_file(path: &Path) {
    fs::remove_dir_all(path).unwrap();
    fs::write(path, "not a directory").unwrap();
}

/// A link that leads to itself stands where a directory should.
fn into_loop(path: &Path) {
    fs::remove_dir_all(path).unwrap();
    std::os::unix::fs::symlink(path, path).unwrap();
}

const CASES: [Case; 20] = [
    Case {
        name: "the segment is deleted",
        damage: |data| fs::remove_file(log(data)).unwrap(),
        told: Some("journal_lost"),
    },
    Case { name: "the segment is cut in half", damage: halve, told: Some("log_lost") },
    Case {
        name: "the segment is cut in half, and the queue is gone",
        damage: |data| {
            halve(data);
            without_queue(data);
        },
        told: Some("log_lost"),
    },
    Case {
        name: "log and queue are gone",
        damage: |data| {
            fs::remove_dir_all(data.join("log")).unwrap();
            without_queue(data);
        },
        told: Some("journal_lost"),
    },
    Case {
        name: "every tenth line is damaged, and the queue is gone",
        damage: |data| {
            flip(data, |at, _| at % 10 == 9);
            without_queue(data);
        },
        told: Some("log_damaged"),
    },
    Case {
        name: "every line that numbers passings is damaged, and the queue is gone",
        damage: |data| {
            flip(data, |_, line| is_batch(line));
            without_queue(data);
        },
        told: Some("log_damaged"),
    },
    Case {
        name: "every line about the upload is damaged, and the queue is gone",
        damage: |data| {
            flip(data, |_, line| line.contains("\tupload\t"));
            without_queue(data);
        },
        told: Some("log_damaged"),
    },
    Case {
        name: "the head of the segment is damaged, and the queue is gone",
        damage: |data| {
            flip(data, |at, _| at == 0);
            without_queue(data);
        },
        told: Some("log_damaged"),
    },
    Case {
        name: "every second line is damaged",
        damage: |data| flip(data, |at, _| at % 2 == 1),
        told: Some("log_damaged"),
    },
    Case {
        name: "the segment is zeros",
        damage: |data| fs::write(log(data), vec![0; 50_000]).unwrap(),
        told: Some("log_unreadable"),
    },
    Case { name: "the queue is gone", damage: without_queue, told: Some("queue_rebuilt") },
    Case { name: "the identity is gone", damage: |data| fs::remove_file(data.join("identity")).unwrap(), told: None },
    Case { name: "the mark is gone", damage: |data| fs::remove_file(data.join("mark")).unwrap(), told: None },
    Case { name: "the mark is damaged", damage: |data| fs::write(data.join("mark"), "?").unwrap(), told: None },
    Case {
        name: "a file stands for the queue",
        damage: |data| into_file(&data.join("queue")),
        told: Some("queue_rebuilt"),
    },
    Case {
        name: "a link to itself stands for the queue",
        damage: |data| into_loop(&data.join("queue")),
        told: Some("queue_rebuilt"),
    },
    Case {
        name: "the queue is of a newer sled",
        damage: |data| {
            for span in spans(data) {
                let conf = fs::read(span.join("conf")).unwrap();
                let (text, crc) = conf.split_last_chunk::<4>().unwrap();
                assert_eq!(crc32fast::hash(text).to_le_bytes(), *crc, "sled's form is known");
                let newer = String::from_utf8(text.to_vec()).unwrap().replace("version: 0.34", "version: 1.2");
                let crc = crc32fast::hash(newer.as_bytes()).to_le_bytes();
                fs::write(span.join("conf"), [newer.as_bytes(), &crc].concat()).unwrap();
            }
        },
        told: Some("queue_rebuilt"),
    },
    Case {
        name: "a file lies in the queue's directory",
        damage: |data| fs::write(data.join("queue").join("note.txt"), "mine").unwrap(),
        told: Some("queue_rebuilt"),
    },
    Case {
        name: "a file stands for a part of the queue",
        damage: |data| spans(data).iter().for_each(|span| into_file(span)),
        told: Some("queue_rebuilt"),
    },
    Case {
        name: "a file stands for the log, a link to itself for the queue",
        damage: |data| {
            into_file(&data.join("log"));
            into_loop(&data.join("queue"));
        },
        told: Some("journal_lost"),
    },
];

/// What is wrong, if anything.
async fn survives(case: &'static Case, dedup: Dedup, generation: Generation, in_order: bool) -> Option<String> {
    let what = format!("{}, {dedup:?}, {generation:?}, switched off in order: {in_order}", case.name);
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    way.cloud.set_online(false).await;
    let batches =
        || String::from_utf8_lossy(&fs::read(log(way.data())).unwrap()).lines().filter(|it| is_batch(it)).count();
    let before = batches();
    sim.push(35);
    keeps(&daemon, 95).await;
    // Only reads that no batch covers are in the queue, so the last ones wait behind a batch.
    shows(&daemon, "a batch of them is on its way", |_| batches() > before).await;
    sim.push(5);
    keeps(&daemon, 100).await;
    // Switched off in order, or as if the power went (what is on the disk now, as far as copying
    // can show it).
    let copy = tempfile::tempdir().unwrap();
    crate::support::disk_state::image(way.data(), copy.path());
    daemon.stop().await.unwrap();
    if !in_order {
        fs::remove_dir_all(way.data()).unwrap();
        crate::support::disk_state::image(copy.path(), way.data());
    }
    (case.damage)(way.data());
    // Who lost lines and not the queue sends nothing twice, so it asks the cloud for nothing and
    // cannot tell what is its own.
    let log_lost = case.told.is_some_and(|code| code.contains("log_") || code == "journal_lost");
    let only_in_queue = log_lost && fs::read_dir(way.data().join("queue")).is_ok_and(|queue| queue.count() > 0);
    way.cloud.set_online(true).await;
    let daemon = way.start().await;
    if let Some(code) = case.told.filter(|code| in_order || !["log_lost", "queue_rebuilt"].contains(code)) {
        let told = |snapshot: &passbridge::testing::status::Snapshot| has_problem(snapshot, code);
        shows(&daemon, &format!("{what}: there is a problem {code}"), told).await;
    }
    sim.push(10);
    let arrived = way.cloud.wait_for(110, LIMIT).await;
    shows(&daemon, "nothing waits", |snapshot| snapshot.journal.pending == 0 && snapshot.journal.serving).await;
    let snapshot = daemon.snapshot();
    let expected = happened(&sim);
    // The box looks itself, when the session is over, and must not call its own passings somebody
    // else's.
    way.cloud.open_session(DEVICE, "Next");
    sim.push(1);
    let audit = shows(&daemon, "there was an audit", |snapshot| snapshot.uploads[0].audit.is_some()).await;
    let audit = audit.uploads[0].audit.clone().unwrap();
    let known = audit.foreign == 0 || only_in_queue;
    if (audit.missing, audit.different, audit.duplicated) != (0, 0, 0) || !known {
        return Some(format!("{what}: {audit:?}"));
    }
    daemon.stop().await.unwrap();
    let sorted = |mut list: Vec<Crossing>| {
        list.sort();
        list
    };
    let (held, expected) = (sorted(crossings(&way.cloud, &token)), sorted(expected));
    if !arrived || held != expected {
        let missing: Vec<_> = expected.iter().filter(|crossing| !held.contains(crossing)).collect();
        return Some(format!("{what}: {} held, missing {missing:?}: {:#?}", held.len(), snapshot.problems));
    }
    way.sound(&token);
    None
}

#[tokio::test]
async fn whatever_is_damaged_the_box_starts_says_so_and_every_read_is_in_the_cloud_once() {
    let clouds = [(Dedup::None, Generation::Legacy), (Dedup::Number, Generation::OpenApi)];
    let mut runs = tokio::task::JoinSet::new();
    for (at, case) in CASES.iter().enumerate() {
        // Each case with each cloud, and by turns switched off in order and not.
        for (cloud, (dedup, generation)) in clouds.into_iter().enumerate() {
            runs.spawn(survives(case, dedup, generation, (at + cloud) % 2 == 0));
        }
    }
    let wrong: Vec<String> = runs.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
