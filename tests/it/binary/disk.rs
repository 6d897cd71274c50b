//! A disk that becomes full, and has room again: a small tmpfs of its own. Where this user may not
//! mount one (not root), the tests say so and prove nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{Passing, Site, decoder, exported, judge, passing, until};
use crate::support::small_disk::Small;

const UPLOAD: &str = "[upload]\nlinger = \"20ms\"\nmin_interval = \"20ms\"\nretry_max = \"1s\"\nsettle = \"1s\"\n";

async fn cloud() -> (SimCloud, String) {
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    (cloud, token)
}

fn site(data: &Path, cloud: &SimCloud, mats: &[crate::support::child::Mat]) -> Site {
    Site::at(tempfile::tempdir().unwrap(), data.to_owned(), Some(cloud.url()), mats, UPLOAD)
}

/// The box says that its disk is full, in the words of `/readyz`; `None`: it does not.
async fn full(site: &Site) -> Option<String> {
    let (code, text) = site.get("/readyz").await?;
    (code == 503).then_some(text)
}

#[tokio::test]
async fn a_full_disk_is_told_loudly_reads_wait_in_memory_and_all_arrives_once_there_is_room() {
    let Some(disk) = Small::mount() else { return };
    let (cloud, token) = cloud().await;
    let (storing, first) = decoder(Kind::RACE_RESULT, 1).await;
    let (streaming, second) = decoder(Kind::IPICO, 2).await;
    let site = site(&disk.data(), &cloud, &[first, second]);
    let running = site.start();
    until("both have a listener", async || *storing.links().borrow() > 0 && *streaming.links().borrow() > 0).await;
    storing.push(50);
    streaming.push(50);
    site.sent(100).await;
    until("the reserve is made", async || disk.data().join("reserve").exists()).await;

    let mut reason = None;
    until("the box notices that its disk is full", async || {
        disk.fill();
        storing.push(1);
        streaming.push(1);
        reason = full(&site).await;
        reason.is_some()
    })
    .await;
    let reason = reason.unwrap();
    assert!(
        reason.contains("disk") && reason.contains("full") && reason.contains(disk.dir.to_str().unwrap()),
        "{reason}"
    );
    assert!(!disk.data().join("reserve").exists(), "the reserve is given up first");
    site.until("the status says so", |status| {
        !status.ready && status.problems.iter().any(|problem| problem.code == "disk_full")
    })
    .await;
    let kept: Vec<u64> = site.status().await.unwrap().decoders.iter().map(|decoder| decoder.reads).collect();
    storing.push(300);
    streaming.push(300);
    site.until("reading goes on", |status| status.decoders[1].buffered >= 300).await;
    let status = site.status().await.unwrap();
    let now: Vec<u64> = status.decoders.iter().map(|decoder| decoder.reads).collect();
    assert_eq!(now, kept, "shown as kept and not on the disk");
    assert_eq!(status.decoders[1].dropped, 0);

    disk.make_room();
    until("it is ready again", async || site.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    let all = storing.reads().len() + streaming.reads().len();
    site.sent(all as u64).await;
    let status = site.status().await.unwrap();
    // The simulated clock goes on with each read: hundreds in a moment put it ahead of the box's.
    assert!(status.problems.iter().all(|problem| problem.code == "decoder_clock_off"), "{status:#?}");
    running.stop().await;
    let happened: Vec<Passing> = storing.reads().iter().chain(&streaming.reads()).map(passing).collect();
    judge("after a full disk", &cloud, &token, happened);
    assert_eq!(site.export().await.iter().filter_map(exported).count(), all);
}

#[tokio::test]
async fn a_box_starts_on_a_full_disk_and_sends_what_it_has() {
    let Some(disk) = Small::mount() else { return };
    let (cloud, token) = cloud().await;
    cloud.set_online(false).await;
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = site(&disk.data(), &cloud, &[mat]);
    let running = site.start();
    sim.push(2000);
    site.until("the backlog is kept", |status| status.decoders[0].reads == 2000).await;
    until("the reserve is made", async || disk.data().join("reserve").exists()).await;
    running.kill();
    disk.fill();
    cloud.set_online(true).await;
    let running = site.start();
    site.sent(2000).await;
    running.stop().await;
    judge("started on a full disk", &cloud, &token, sim.reads().iter().map(passing));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_full_disk_and_what_was_not_acknowledged_comes_again() {
    let Some(disk) = Small::mount() else { return };
    let (cloud, token) = cloud().await;
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = site(&disk.data(), &cloud, &[mat]);
    let running = site.start();
    sim.push(20);
    site.sent(20).await;
    until("the box notices that its disk is full", async || {
        disk.fill();
        sim.push(1);
        full(&site).await.is_some()
    })
    .await;
    let acked = *sim.acked_count().borrow();
    sim.push(20);
    site.until("they are received", |status| status.decoders[0].buffered > 0).await;
    let began = Instant::now();
    running.stop().await; // with 0: nothing that was acknowledged is lost
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(*sim.acked_count().borrow(), acked, "acknowledged and not on the disk");
    disk.make_room();
    let running = site.start();
    site.sent(sim.reads().len() as u64).await;
    running.stop().await;
    judge("stopped on a full disk", &cloud, &token, sim.reads().iter().map(passing));
}
