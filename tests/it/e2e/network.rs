//! Lines as they are in a field, between the box and the cloud and between the decoder and the box.
//! The real kernel's part of it (packets that vanish, links that go down, names that are not found)
//! is in tests/root/network.

use std::time::Duration;

use passbridge::testing::config::Address;
use passbridge::testing::sim::cloud::{Dedup, Generation};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use passbridge::testing::status::UploadState;

use crate::support::e2e::*;
use crate::support::shaper::{Line, Shaper};

/// A box whose way to the cloud is this line.
async fn behind(line: Line, (dedup, generation): (Dedup, Generation)) -> (EndToEnd, Shaper) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let shaper = Shaper::open(way.cloud.address(), line).await;
    way.config.cloud.as_mut().unwrap().url = format!("http://{}/v0", shaper.address).parse().unwrap();
    (way, shaper)
}

/// Reads made before and while the line is bad, then it is good, and everything is there once.
async fn survives(line: Line, timeout: Duration, kind: (Dedup, Generation), cuts: u64) {
    let (mut way, shaper) = behind(line, kind).await;
    way.config.upload.timeout = timeout;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    keeps(&daemon, 60).await;
    shaper.cut(cuts, LIMIT).await;
    sim.push(40);
    shaper.set(Line::default());
    way.arrive(100, &daemon).await;
    shows(&daemon, "all is well", |snapshot| {
        let upload = &snapshot.uploads[0];
        upload.sent == 100 && upload.state == UploadState::Idle && upload.last_error.is_none()
    })
    .await;
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn connections_cut_in_mid_request_and_in_mid_answer_lose_and_double_nothing() {
    let timeout = Duration::from_secs(5);
    // Up: in the head of a request, in the body of a batch. Down: in the head of the first answer,
    // and in later ones.
    let up = [100, 700, 1500, 2600].map(|bytes| Line { cut_up: Some(bytes), ..Line::default() });
    let down = [20, 180, 420, 700, 1000].map(|bytes| Line { cut_down: Some(bytes), ..Line::default() });
    let lines = up.into_iter().chain(down);
    together(lines.flat_map(|line| CLOUDS.map(|kind| survives(line, timeout, kind, 3)))).await;
}

#[tokio::test]
async fn a_half_open_connection_costs_a_timeout_and_loses_and_doubles_nothing() {
    let timeout = Duration::from_millis(400);
    let lines = [900, 1500, 2600].map(|bytes| Line { vanish_up: Some(bytes), ..Line::default() });
    together(lines.into_iter().flat_map(|line| CLOUDS.map(|kind| survives(line, timeout, kind, 2)))).await;
}

#[tokio::test]
async fn a_line_that_swallows_everything_has_a_name_and_the_backlog_drains_when_it_is_back() {
    let (mut way, shaper) = behind(Line::default(), CLOUDS[0]).await;
    way.config.upload.timeout = Duration::from_millis(400);
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 20).await;
    let daemon = way.start().await;
    way.arrive(20, &daemon).await;
    shaper.freeze(true);
    sim.push(200);
    let snapshot = shows(&daemon, "it has no answer", |snapshot| {
        let upload = &snapshot.uploads[0];
        upload.state == UploadState::Offline && upload.last_error.is_some() && snapshot.journal.pending >= 200
    })
    .await;
    let error = snapshot.uploads[0].last_error.clone().unwrap();
    assert!(error.contains("no whole answer in time"), "{error}");
    shaper.freeze(false);
    way.arrive(220, &daemon).await;
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn behind_a_proxy_without_patience_batches_get_smaller_until_they_pass() {
    // 20 passings are 2 kB: at 64 kbit/s 0.25 s. The proxy cuts after a quarter of what a batch
    // needs.
    let line = Line { rate: 64_000, patience: Some(Duration::from_millis(140)), ..Line::default() };
    let (mut way, shaper) = behind(line, CLOUDS[0]).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 40).await;
    let daemon = way.start().await;
    way.arrive(40, &daemon).await;
    assert!(shaper.cuts() > 0, "the proxy was never in the way");
    let sizes: Vec<usize> = way.cloud.posts().iter().map(|post| post.count).collect();
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_slow_and_distant_line_carries_a_backlog_without_a_failure_and_in_few_bytes() {
    // A line of 256 kbit/s and 100 ms each way: as 64 kbit/s and 800 ms, a few times faster.
    let line = Line { rate: 256_000, delay: Duration::from_millis(100), ..Line::default() };
    let (mut way, shaper) = behind(line, CLOUDS[0]).await;
    way.config.upload.batch_max = 100;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 500).await;
    let daemon = way.start().await;
    way.arrive(500, &daemon).await;
    way.holds(&token, &happened(&sim));
    let posts = way.cloud.posts();
    assert!(posts.iter().all(|post| post.status == Some(200)), "{posts:#?}");
    assert!(posts.len() <= 8, "full batches: {posts:#?}");
    let (up, down) = shaper.bytes();
    assert!(up < 500 * 110, "{up} bytes up for 500 passings");
    assert!(down < 500 * 20, "{down} bytes down for 500 passings");
    assert_eq!(shaper.connections(), 1, "one connection carries it all");
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_and_a_name_that_is_not_found_are_named() {
    for (url, name) in [("http://127.0.0.1:1/v0", "is refused"), ("http://cloud.invalid/v0", "its name is not found")] {
        let mut way = EndToEnd::new().await;
        way.config.cloud.as_mut().unwrap().url = url.parse().unwrap();
        let _sim = way.plug_with(Kind::RACE_RESULT, 5).await;
        let daemon = way.start().await;
        shows(&daemon, name, |snapshot| {
            let upload = &snapshot.uploads[0];
            upload.last_error.as_ref().is_some_and(|error| error.contains(name)) && snapshot.journal.pending == 5
        })
        .await;
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_decoder_behind_a_line_that_is_cut_and_slow_delivers_each_read_once() {
    together([Kind::RACE_RESULT, Kind::ONE4ALL].map(|kind| async move {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let sim = SimDecoder::start(SimConfig::new(kind, Wiring::Listen(LOOPBACK))).await.unwrap();
        let line = Line { rate: 400_000, cut_down: Some(2500), ..Line::default() };
        let shaper = Shaper::open(sim.address().unwrap(), line).await;
        let (host, port) = (shaper.address.ip().to_string(), shaper.address.port());
        way.decoder(MAT, kind, Address::Tcp { host, port });
        sim.push(100);
        let daemon = way.start().await;
        shaper.cut(2, LIMIT).await;
        sim.push(100);
        shaper.set(Line { rate: 400_000, ..Line::default() });
        way.arrive(200, &daemon).await;
        way.holds_in_some_order(&token, &happened(&sim));
        daemon.stop().await.unwrap();
    }))
    .await;
}
