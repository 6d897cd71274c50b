//! How long reads take, as the box tells it: what counts, with which time, and what does not.

use std::time::{Duration, Instant};

use passbridge::testing::daemon::Daemon;
use passbridge::testing::sim::cloud::{Answer, CloudFault, On};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::Snapshot;

use crate::support::e2e::*;

/// Waits until so many reads were kept, and so many arrived in the cloud, as the histograms have it.
async fn counts(daemon: &Daemon, kept: u64, arrived: u64) {
    shows(daemon, &format!("{kept} were kept and {arrived} arrived"), |snapshot| {
        let of = |snapshot: &Snapshot| {
            (snapshot.decoders[0].read_to_kept.count(), snapshot.uploads[0].read_to_cloud.count())
        };
        of(snapshot) == (kept, arrived)
    })
    .await;
}

#[tokio::test]
async fn a_read_that_waited_without_internet_counts_with_its_whole_wait() {
    let mut way = EndToEnd::new().await;
    way.session();
    way.cloud.set_online(false).await;
    let sim = way.plug(Kind::IPICO).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    let pushed = Instant::now();
    sim.push(30);
    let kept = keeps(&daemon, 30).await;
    let waits = Instant::now();
    let figures = kept.latency.kept.unwrap();
    assert_eq!((figures.reads, kept.latency.cloud), (30, None));
    assert!(figures.median <= figures.p95 && figures.p95 <= figures.worst && figures.worst <= pushed.elapsed());
    let waited = |snapshot: &Snapshot| snapshot.journal.oldest_pending_s >= Some(1);
    shows(&daemon, "the reads have waited for a second", waited).await;
    let least = waits.elapsed();
    way.cloud.set_online(true).await;
    way.arrive(30, &daemon).await;
    shows(&daemon, "all are in the cloud", |snapshot| snapshot.uploads[0].sent == 30).await;
    let figures = daemon.snapshot().latency.cloud.unwrap();
    assert_eq!(figures.reads, 30);
    assert!(figures.median >= least && figures.worst <= pushed.elapsed(), "{least:?} at least: {figures:?}");
    counts(&daemon, 30, 30).await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_read_of_before_a_restart_is_left_out_because_nobody_knows_how_long_it_took() {
    let mut way = EndToEnd::new().await;
    way.session();
    way.cloud.set_online(false).await;
    let sim = way.plug(Kind::IPICO).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(25);
    keeps(&daemon, 25).await;
    daemon.stop().await.unwrap();
    way.cloud.set_online(true).await;
    let daemon = way.start().await;
    way.arrive(25, &daemon).await;
    shows(&daemon, "all are in the cloud", |snapshot| snapshot.uploads[0].sent == 25).await;
    counts(&daemon, 0, 0).await;
    let latency = daemon.snapshot().latency;
    assert_eq!((latency.kept, latency.cloud), (None, None));
    links(&sim, 1).await;
    sim.push(5);
    way.arrive(30, &daemon).await;
    shows(&daemon, "all are in the cloud", |snapshot| snapshot.uploads[0].sent == 30).await;
    counts(&daemon, 5, 5).await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_read_that_becomes_no_passing_is_kept_and_never_arrives() {
    let mut way = EndToEnd::new().await;
    way.session();
    way.config.passing.dead_time = Duration::from_secs(5);
    let rows = [("A", "10:00:00.000"), ("A", "10:00:02.000"), ("B", "10:00:03.000"), ("A", "10:00:20.000")];
    let rows: Vec<String> = (1..).zip(rows).map(|(number, (chip, time))| record(number, chip, time)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
    sim.push(4);
    let daemon = way.start().await;
    way.arrive(3, &daemon).await;
    shows(&daemon, "all are settled", |snapshot| snapshot.journal.reads.is_some_and(|reads| reads.dead_time == 1))
        .await;
    shows(&daemon, "three are in the cloud", |snapshot| snapshot.uploads[0].sent == 3).await;
    counts(&daemon, 4, 3).await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_read_whose_passing_is_on_its_way_waits_too() {
    let mut way = EndToEnd::new().await;
    way.session();
    let sim = way.plug(Kind::IPICO).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    way.cloud.fault(On::Insert, CloudFault::before(Answer::Never));
    sim.push(3);
    keeps(&daemon, 3).await;
    // All three are in one batch, so no read waits for its number.
    shows(&daemon, "they are on their way and wait", |snapshot| {
        snapshot.journal.pending == 3 && snapshot.journal.oldest_pending_s >= Some(2)
    })
    .await;
    daemon.stop().await.unwrap();
}
