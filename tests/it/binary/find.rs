//! `search` and `reads` as a timer types them: with a daemon and without one, while it is started anew,
//! and with a reader that goes away.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::{PATIENCE, Running, SETTLES_SOON, Site, decoder, until};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// A box with a decoder, a cloud with an open session, and a bib file.
async fn stage() -> (SimCloud, String, Site, SimDecoder) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let more = format!("{SETTLES_SOON}[passing]\nbibs = \"bibs.csv\"\n");
    let site = Site::new(Some(&cloud), &[mat], &more);
    std::fs::write(bibs(&site), "chip,bib\nNOBODY,1\n").unwrap();
    (cloud, token, site, sim)
}

fn bibs(site: &Site) -> PathBuf {
    site.config().with_file_name("bibs.csv")
}

/// `reads --follow`, and what it shows.
struct Follow {
    running: Running,
    dir: tempfile::TempDir,
}

impl Follow {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = site.command(&[&["reads", "--follow"], arguments].concat());
        Self { running: Running::spawn(command, dir.path()), dir }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn seqs(&self) -> Vec<u64> {
        let text = self.file("stdout");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]); // the last line may be a part of one
        json(whole).iter().filter_map(|line| line["seq"].as_u64()).collect()
    }
}

/// The numbers of the reads that the log has.
async fn kept(site: &Site) -> Vec<u64> {
    let rows = site.export().await;
    rows.iter().filter(|row| row["kind"] == "read").filter_map(|row| row["seq"].as_u64()).collect()
}

#[tokio::test]
async fn a_chip_and_a_bib_are_found_with_where_each_read_is_in_the_cloud_with_a_daemon_and_without() {
    let (cloud, token, site, sim) = stage().await;
    let running = site.start();
    sim.push(40);
    site.sent(40).await;
    let rows = site.export().await;
    let row = rows.iter().find(|row| row["kind"] == "read").unwrap();
    let chip = row["chip"].as_str().unwrap().to_owned();
    std::fs::write(bibs(&site), format!("chip,bib\n{chip},77\n")).unwrap();
    let expected: Vec<u64> =
        rows.iter().rev().filter(|row| row["chip"] == *chip).filter_map(|row| row["seq"].as_u64()).collect();
    let seqs = |answer: &Value| -> Vec<u64> {
        answer["reads"].as_array().unwrap().iter().filter_map(|read| read["seq"].as_u64()).collect()
    };
    until("the bib file is read", async || {
        let answer = json(&text(&site.output(&["search", "77", "--json"]).await)).remove(0);
        seqs(&answer) == expected
    })
    .await;
    let told = text(&site.output(&["search", &chip.to_lowercase(), "--timezone", "UTC"]).await);
    let number = row["upload"]["num_passing"].as_u64().unwrap();
    let tail = &token[token.len() - 6..];
    assert!(told.contains("bib 77") && told.contains("raceresult-mat"), "{told}");
    assert!(told.contains(&format!("in the cloud as number {number} in session …{tail}")), "{told}");
    assert!(!told.contains(&token), "a token is shown by its end: {told}");
    let (status, body) = site.get(&format!("/api/search?q={chip}&limit=1")).await.unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, seqs(&answer), &answer["more"]), (200, expected[..1].to_vec(), &(expected.len() > 1).into()));
    running.stop().await;
    for what in [&*chip, "77"] {
        let answer = json(&text(&site.output(&["search", what, "--json"]).await)).remove(0);
        assert_eq!(seqs(&answer), expected, "without a daemon: {answer}");
        assert_eq!(answer["reads"][0]["standing"]["state"], "sent");
        assert_eq!(answer["reads"][0]["bib"], "77");
    }
    let nothing = site.output(&["search", "nothing\u{1b}[31m"]).await;
    let told = text(&nothing);
    assert!(nothing.status.success() && told.starts_with("No read of a chip nothing\u{fffd}[31m"), "{told}");
    let wrong = site.output(&["search", "7", "--from", "12:00", "--to", "2000-01-01"]).await;
    assert_eq!(wrong.status.code(), Some(64));
    assert_eq!(site.output(&["search", " "]).await.status.code(), Some(64));
    drop(cloud);
}

#[tokio::test]
async fn who_follows_the_reads_gets_each_one_once_also_while_the_daemon_is_killed_and_started_again() {
    let (_cloud, _, site, sim) = stage().await;
    let running = site.start();
    sim.push(10);
    site.sent(10).await;
    let follow = Follow::start(&site, &["--json", "--limit", "3"]);
    until("the newest are shown", async || follow.seqs().len() == 3).await;
    sim.push(20);
    until("what comes is shown", async || follow.seqs().len() == 23).await;
    running.kill();
    until("it says that the daemon is gone", async || follow.file("stderr").contains("does not run now")).await;
    let running = site.start();
    until("it says that it goes on", async || follow.file("stderr").contains("it runs, and the reads after")).await;
    sim.push(5);
    site.sent(35).await;
    let all = kept(&site).await;
    until("the rest is shown", async || follow.seqs().len() + 7 >= all.len()).await;
    assert_eq!(follow.seqs(), all[all.len() - follow.seqs().len()..], "each once and in order");
    assert_eq!(follow.seqs().len() + 7, all.len());
    let Follow { running: mut following, .. } = follow;
    following.signal(Signal::INT);
    assert_eq!(following.ended(PATIENCE).await.and_then(|ended| ended.code()), Some(130));
    running.stop().await;
}

#[tokio::test]
async fn only_the_reads_that_are_asked_for_are_followed_and_a_reader_that_went_away_ends_it_quietly() {
    let (_cloud, _, site, sim) = stage().await;
    let running = site.start();
    sim.push(30);
    site.sent(30).await;
    let rows = site.export().await;
    let chip = rows.iter().find_map(|row| row["chip"].as_str()).unwrap().to_owned();
    let told = text(&site.output(&["reads", "--chip", &chip, "--json"]).await);
    let of_chip = rows.iter().filter(|row| row["chip"] == *chip).filter_map(|row| row["seq"].as_u64());
    assert_eq!(
        json(&told).iter().filter_map(|line| line["seq"].as_u64()).collect::<Vec<_>>(),
        of_chip.collect::<Vec<_>>()
    );
    let other = Follow::start(&site, &["--json", "--decoder", "other"]);
    until("it says that there is no such decoder", async || other.file("stderr").contains("no decoder other")).await;
    let all = Follow::start(&site, &["--json", "--limit", "0"]);
    let mut command = site.command(&["reads", "--follow", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    // Each read is told as soon as it is kept, so one that is pushed later shows that both follow.
    until("those that follow everything get what comes", async || {
        sim.push(1);
        !all.seqs().is_empty()
    })
    .await;
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()), (Some(0), String::new()));
    assert_eq!(other.seqs(), [0; 0]);
    running.stop().await;
}
