//! What is seen from outside, and decoders and devices that must not touch each other.

use std::time::Duration;

use passbridge::testing::config::{Address, StatusConfig};
use passbridge::testing::sim::cloud::DEVICE;
use passbridge::testing::sim::decoder::{Kind, SimConfig, Wiring};
use passbridge::testing::status::{LinkState, Snapshot, UploadState};

use crate::support::e2e::*;

/// A second device in the cloud.
const FAR: &str = "65A2000000000000000000000000000000000000000000000000000000000FA2";

#[tokio::test]
async fn several_decoders_are_read_at_once_and_one_that_is_not_there_touches_none() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let nobody = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    way.decoder("gone", Kind::RACE_RESULT, Address::Tcp { host: "127.0.0.1".into(), port });
    let kinds = [Kind::RACE_RESULT, Kind::ONE4ALL, Kind::IPICO];
    let mut sims = Vec::new();
    for (seed, kind) in (1..).zip(kinds) {
        let sim = SimConfig { seed, ..SimConfig::new(kind, Wiring::Listen(LOOPBACK)) };
        sims.push(way.plug_as(kind.name(), sim).await);
    }
    let daemon = way.start().await;
    let names: Vec<String> = daemon.snapshot().decoders.into_iter().map(|decoder| decoder.name).collect();
    assert_eq!(names, ["gone", "raceresult", "one4all", "ipico"], "in the order of the configuration");
    for sim in &sims {
        links(sim, 1).await;
    }
    for _ in 0..20 {
        sims.iter().for_each(|sim| sim.push(5));
    }
    way.arrive(300, &daemon).await;
    let expected: Vec<Crossing> = sims.iter().flat_map(happened).collect();
    way.holds_in_some_order(&token, &expected);
    for sim in &sims {
        let own = happened(sim);
        let arrived: Vec<Crossing> =
            crossings(&way.cloud, &token).into_iter().filter(|crossing| own.contains(crossing)).collect();
        assert_eq!(arrived, own, "the order of each decoder's reads is its own");
    }
    let message = complains(&daemon, "decoder_unreachable").await;
    assert!(message.contains("gone") && message.contains(&port.to_string()), "{message}");
    let snapshot = shows(&daemon, "it failed", |snapshot| snapshot.decoders[0].state == LinkState::Failed).await;
    assert!(snapshot.decoders[1..].iter().all(|decoder| decoder.state == LinkState::Connected));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn decoders_of_two_devices_fill_the_session_of_their_own_device_only() {
    let mut way = EndToEnd::new().await;
    way.cloud.configure(|config| config.devices.push((FAR.into(), "start".into())));
    let near = way.session();
    let far = way.cloud.open_session(FAR, "Far away");
    let finish = way.plug_with(Kind::RACE_RESULT, 45).await;
    let start = way.plug_as("start-mat", SimConfig::new(Kind::ONE4ALL, Wiring::Listen(LOOPBACK))).await;
    way.config.decoders[1].device_id = Some(FAR.into());
    start.push(55);
    let daemon = way.start().await;
    way.arrive(100, &daemon).await;
    way.holds(&near, &happened(&finish));
    way.holds(&far, &happened(&start));
    let snapshot = shows(&daemon, "all are sent", |snapshot| {
        snapshot.uploads.iter().map(|upload| upload.sent).sum::<u64>() == 100
    })
    .await;
    let of = |device: &str| snapshot.uploads.iter().find(|upload| upload.device_id == device).unwrap();
    assert_eq!((of(DEVICE).sent, of(FAR).sent), (45, 55));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_device_that_the_cloud_does_not_know_keeps_its_reads_while_the_other_goes_on() {
    let mut way = EndToEnd::new().await;
    let near = way.session();
    let finish = way.plug_with(Kind::RACE_RESULT, 45).await;
    let start = way.plug_as("start-mat", SimConfig::new(Kind::ONE4ALL, Wiring::Listen(LOOPBACK))).await;
    way.config.decoders[1].device_id = Some(FAR.into());
    start.push(55);
    let daemon = way.start().await;
    complains(&daemon, "device_unknown").await;
    keeps(&daemon, 100).await;
    way.arrive(45, &daemon).await;
    let snapshot = daemon.snapshot();
    let of = |device: &str| snapshot.uploads.iter().find(|upload| upload.device_id == device).unwrap();
    assert_eq!((of(FAR).state, of(FAR).sent), (UploadState::Refused, 0));
    assert_ne!(of(DEVICE).state, UploadState::Refused);
    way.holds(&near, &happened(&finish));
    daemon.stop().await.unwrap();

    // Somebody adds the device to the account.
    way.cloud.configure(|config| config.devices.push((FAR.into(), "start".into())));
    let far = way.cloud.open_session(FAR, "Far away");
    let daemon = way.start().await;
    way.arrive(100, &daemon).await;
    way.holds(&far, &happened(&start));
    daemon.stop().await.unwrap();
}

async fn get(daemon: &passbridge::testing::daemon::Daemon, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", daemon.status_address.unwrap());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The value of a metric with these labels.
fn metric(page: &str, sample: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {sample} in {page}"));
    line[sample.len() + 1..].parse().unwrap()
}

#[tokio::test]
async fn status_and_metrics_of_a_running_box_agree_with_what_happened() {
    let mut way = EndToEnd::new().await;
    way.config.status = StatusConfig { listen: Some(LOOPBACK), token: None, token_file: None };
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    way.cloud.poison(&happened(&sim)[10].0, 400);
    let daemon = way.start().await;
    way.arrive(59, &daemon).await;
    shows(&daemon, "all is settled", |snapshot| {
        (snapshot.uploads[0].sent, snapshot.journal.dead_letters, snapshot.journal.pending) == (59, 1, 0)
            && snapshot.uploads[0].state == UploadState::Idle
    })
    .await;
    assert_eq!(get(&daemon, "/healthz").await, (200, "alive\n".into()));
    assert_eq!(get(&daemon, "/readyz").await, (200, "ready\n".into()));

    let (code, text) = get(&daemon, "/api/status").await;
    assert_eq!(code, 200);
    let status: Snapshot = serde_json::from_str(&text).unwrap();
    assert_eq!((&*status.name, status.ready), ("finish", true));
    let decoder = &status.decoders[0];
    assert_eq!((&*decoder.name, &*decoder.protocol, decoder.state), (MAT, "raceresult", LinkState::Connected));
    assert_eq!((decoder.reads, decoder.rejected, decoder.dropped), (60, 0, 0));
    let (last, reads) = (decoder.last_read.as_ref().unwrap(), sim.reads());
    assert_eq!((&*last.chip, last.time.clone()), (&*reads[59].chip, reads[59].stamp.to_string()));
    let upload = &status.uploads[0];
    assert_eq!((&*upload.device_id, upload.sent, upload.duplicates), (DEVICE, 59, 0));
    assert!(token.ends_with(&upload.session.as_ref().unwrap().token_tail));
    assert!(upload.last_ok.is_some());
    assert_eq!(status.journal.head, status.journal.durable);
    assert!(status.journal.head >= 60 && status.journal.serving && status.journal.free_bytes > 0);
    assert!(has_problem(&status, "passings_set_aside"));

    let (code, page) = get(&daemon, "/metrics").await;
    assert_eq!(code, 200);
    let labels = format!("{{decoder=\"{MAT}\"}}");
    assert_eq!(metric(&page, &format!("passbridge_decoder_reads_total{labels}")), 60.0);
    assert_eq!(metric(&page, &format!("passbridge_decoder_rejected_total{labels}")), 0.0);
    assert_eq!(metric(&page, &format!("passbridge_upload_sent_total{{device=\"{DEVICE}\"}}")), 59.0);
    assert_eq!(metric(&page, "passbridge_journal_quarantined_total"), 1.0);
    assert_eq!(metric(&page, "passbridge_journal_pending"), 0.0);
    assert_eq!(metric(&page, "passbridge_ready"), 1.0);

    let (code, text) = get(&daemon, "/api/reads?limit=3").await;
    assert_eq!(code, 200);
    let newest: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let chips: Vec<&str> = newest.iter().map(|read| read["chip"].as_str().unwrap()).collect();
    let expected: Vec<&str> = reads.iter().rev().take(3).map(|read| &*read.chip).collect();
    assert_eq!(chips, expected, "newest first");
    for secret in [passbridge::testing::sim::cloud::KEY, &token] {
        assert!(!page.contains(secret) && !serde_json::to_string(&status).unwrap().contains(secret));
    }
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_box_without_internet_is_ready_and_says_that_reads_wait() {
    let mut way = EndToEnd::new().await;
    way.config.status = StatusConfig { listen: Some(LOOPBACK), token: None, token_file: None };
    way.cloud.set_online(false).await;
    let _sim = way.plug_with(Kind::RACE_RESULT, 25).await;
    let daemon = way.start().await;
    shows(&daemon, "25 reads wait", |snapshot| {
        snapshot.journal.pending == 25 && snapshot.uploads[0].state == UploadState::Offline
    })
    .await;
    assert_eq!(get(&daemon, "/readyz").await.0, 200, "reads can be kept, and that is what ready means");
    let (_, text) = get(&daemon, "/api/status").await;
    let status: Snapshot = serde_json::from_str(&text).unwrap();
    assert!(status.uploads[0].last_error.as_ref().unwrap().contains("cannot be reached"), "{:?}", status.uploads[0]);
    assert!(status.journal.oldest_pending_s.unwrap() < LIMIT.as_secs());
    let (_, page) = get(&daemon, "/metrics").await;
    assert_eq!(metric(&page, &format!("passbridge_upload_state{{device=\"{DEVICE}\",state=\"offline\"}}")), 1.0);
    assert_eq!(metric(&page, "passbridge_journal_pending"), 25.0);
    let stopping = std::time::Instant::now();
    daemon.stop().await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(5), "a cloud that is away does not hold up the end");
}
