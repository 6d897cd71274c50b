//! `rewind`: by hand, through the daemon that runs.

use std::time::Duration;

use futures_util::future::join_all;
use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{DecoderHabit, Kind, SimDecoder};
use serde_json::Value;

use crate::support::child::{Running, Site, decoder, exported, judge, passing, until};

impl Site {
    async fn rewinds(&self, decoder: &str, more: &[&str]) -> (Option<i32>, Value) {
        let output = self.output(&[&["rewind", "--json", "--decoder", decoder], more].concat()).await;
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code(), answer)
    }

    async fn is_asked(&self, decoder: &str, more: &[&str]) {
        // A connection that has just begun says so.
        until("the decoder is asked", async || self.rewinds(decoder, more).await.0 == Some(0)).await;
    }
}

/// A box with a decoder that stored 1200 reads before anybody listened, of which nothing is asked
/// for by itself. Some reads happened since; how many are in the cloud is returned.
async fn box_without_the_past(kind: Kind) -> (SimCloud, String, SimDecoder, Site) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(kind, 1).await;
    sim.push(1200);
    let site = Site::new(Some(&cloud), &[mat], "");
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replacen("address =", "rewind = false\naddress =", 1)).unwrap();
    (cloud, token, sim, site)
}

#[tokio::test]
async fn an_older_part_of_the_decoders_memory_comes_when_it_is_asked_for_and_nothing_comes_twice() {
    join_all(Kind::all().filter(|kind| kind.stores()).map(an_older_part)).await;
}

async fn an_older_part(kind: Kind) {
    let (cloud, token, sim, site) = box_without_the_past(kind).await;
    let name = format!("{}-mat", kind.name());
    let running = start(&site);
    until("it is heard live", async || {
        sim.push(1);
        cloud.wait_for(1, Duration::from_millis(20)).await
    })
    .await;
    let live = sim.reads().len();
    let first_live = first(&site, &sim, live).await;
    assert!(first_live >= 1200, "nothing stored was asked for by itself");

    // 700 of those before the first that is held.
    site.is_asked(&name, &["--from", "101", "--to", "800"]).await;
    // ChronoTrack knows no end: from there on everything comes.
    let to = if kind == Kind::CHRONOTRACK { first_live } else { 800 };
    let reads = sim.reads();
    let expected: Vec<_> = reads[100..to].iter().chain(&reads[first_live..]).map(passing).collect();
    site.sent(expected.len() as u64).await;
    judge("what was asked for", &cloud, &token, expected.clone());

    // Again, after a restart, and what is held already: kept as repeats, sent never, though far
    // more reads came since than are remembered in memory.
    running.stop().await;
    let running = start(&site);
    site.until("it runs again", |_| true).await;
    let kept = kept(&site).await;
    site.is_asked(&name, &["--from", "101", "--to", "800"]).await;
    let more = if kind == Kind::CHRONOTRACK { live - 100 } else { 700 };
    site.until("they are kept again", |status| status.decoders[0].reads as usize >= kept + more).await;
    site.until("they are counted", |status| status.journal.duplicates as usize >= more).await;
    sim.push(1);
    site.sent(expected.len() as u64 + 1).await;
    let expected = expected.into_iter().chain(sim.reads().last().map(passing));
    judge("asked for twice", &cloud, &token, expected);
    let page = site.export().await;
    assert!(page.iter().any(|row| row["upload"]["state"] == "suppressed"));
    assert_eq!(sim.forbidden(), [""; 0]);
    running.stop().await;
}

/// With 64 reads in memory, and 16 in a segment of the index.
fn start(site: &Site) -> Running {
    let mut command = site.command(&["run"]);
    command.env("PASSBRIDGE_TRIAL_RECENT", "64");
    Running::spawn(command, site.config().parent().unwrap())
}

/// How many reads happened before the first one that is here.
async fn first(site: &Site, sim: &SimDecoder, all: usize) -> usize {
    let reads = sim.reads();
    let held: Vec<_> = site.export().await.iter().filter_map(exported).collect();
    let at = reads.iter().position(|read| passing(read) == held[0]).unwrap();
    site.sent((all - at) as u64).await;
    at
}

async fn kept(site: &Site) -> usize {
    site.status().await.unwrap().decoders[0].reads as usize
}

#[tokio::test]
async fn why_a_decoder_is_not_asked_is_said() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let mats = [decoder(Kind::RACE_RESULT, 1).await, decoder(Kind::IPICO, 2).await];
    let (sims, mats): (Vec<_>, Vec<_>) = mats.into_iter().unzip();
    let site = Site::new(Some(&cloud), &mats, "");
    let range = ["--from", "1", "--to", "9"];
    let output = site.output(&[&["rewind", "--decoder", "raceresult-mat"], &range[..]].concat()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(said.contains("does not run here") && said.contains("only the daemon speaks to the decoders"), "{said}");

    let running = site.start();
    site.is_asked("raceresult-mat", &range).await;
    let (code, answer) = site.rewinds("ipico-mat", &range).await;
    assert_eq!((code, answer["answer"].as_str()), (Some(69), Some("refused")));
    assert!(answer["why"].as_str().unwrap().contains("stores nothing"), "{answer}");
    let (code, answer) = site.rewinds("finish", &range).await;
    assert_eq!((code, answer["answer"].as_str()), (Some(64), Some("unknown")));
    assert!(answer["why"].as_str().unwrap().contains("raceresult-mat"), "{answer}");
    sims[0].set_online(false);
    until("it is gone", async || site.rewinds("raceresult-mat", &range).await.1["answer"] == "not_connected").await;
    for wrong in [&["--from", "9", "--to", "1"][..], &["--from", "0", "--to", "9"], &["--from", "1", "--to", "9999999"]]
    {
        assert_eq!(site.rewinds("raceresult-mat", wrong).await, (Some(64), Value::Null), "{wrong:?}");
    }
    assert_eq!(site.rewinds("raceresult-mat", &["--from", "9"]).await.0, Some(64));
    assert_eq!(site.rewinds("raceresult-mat", &[]).await.0, Some(64));
    running.stop().await;
}

#[tokio::test]
async fn what_is_held_back_goes_up_by_the_command_beside_the_daemon_and_without_it() {
    join_all([true, false].map(held_back)).await;
}

/// The command beside the daemon that runs, or without it.
async fn held_back(beside: bool) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::ULTRA, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let resend = async || {
        let output = site.output(&["resend", "--held-back", "--json", "--decoder", "ultra-mat"]).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["let_go"].as_u64()
    };
    let running = start(&site);
    until("it is heard", async || {
        sim.push(1);
        cloud.wait_for(1, Duration::from_millis(20)).await
    })
    .await;
    let before = sim.reads().len();
    let missed = first(&site, &sim, before).await; // before it was connected
    let heard = (before - missed) as u64;
    running.stop().await;
    sim.does(DecoderHabit::Clear).await;
    sim.does(DecoderHabit::LastWeek).await;
    sim.push(before as u64 + 10);
    let running = start(&site);
    site.sent(heard + before as u64 + 10).await;
    let held = |status: &passbridge::testing::status::Snapshot| {
        let told = |message: &str| message.starts_with("40 reads of `ultra-mat` are held back");
        status.problems.iter().any(|problem| problem.code == "reads_held_back" && told(&problem.message))
    };
    site.until("they are held back", held).await;
    if beside {
        assert_eq!(resend().await, Some(40));
        site.sent(heard + before as u64 + 50).await;
        running.stop().await;
    } else {
        running.stop().await;
        assert_eq!(resend().await, Some(40));
        let running = start(&site);
        site.sent(heard + before as u64 + 50).await;
        running.stop().await;
    }
    assert_eq!(resend().await, Some(0), "once");
    judge("what was held back", &cloud, &token, sim.reads()[missed..].iter().map(passing));
    let states = site.export().await.into_iter().map(|row| row["upload"]["state"].clone());
    assert_eq!(states.filter(|state| state == "sent").count(), sim.reads().len() - missed);
}
