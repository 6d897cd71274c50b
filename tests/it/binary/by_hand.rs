//! What a timer does by hand while the box runs: passings that are set aside, markers, losses that
//! were seen, the link of a decoder, and a range that the cloud lost.

use std::fs;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;
use serde_json::Value;

use crate::support::child::{SETTLES_SOON, Site, decoder, passing};

const MAT: &str = "raceresult-mat";

async fn command(site: &Site, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = site.output(arguments).await;
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
}

async fn box_with(cloud: &SimCloud) -> (String, SimDecoder, Site) {
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(cloud), &[mat], SETTLES_SOON);
    (token, sim, site)
}

/// Reads that the decoder gave, as the log of the box has them.
fn log(site: &Site) -> String {
    let files = fs::read_dir(site.data.join("log")).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    files.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[tokio::test]
async fn passings_that_the_cloud_refused_are_listed_sent_again_and_dropped_by_their_id() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (token, sim, site) = box_with(&cloud).await;
    let running = site.start();
    cloud.set_online(false).await;
    sim.push(10);
    site.until("they are kept", |status| status.decoders.first().is_some_and(|mat| mat.reads == 10)).await;
    let bad: Vec<String> = [3, 7].map(|at: usize| passing(&sim.reads()[at]).0).into();
    bad.iter().for_each(|chip| cloud.poison(chip, 400));
    cloud.set_online(true).await;
    let set_aside = |count| {
        move |status: &Snapshot| {
            status.journal.reads.is_some_and(|reads| reads.set_aside == count && reads.waiting == 0)
        }
    };
    site.until("two are set aside", set_aside(2)).await;
    let (code, list, said) = command(&site, &["set-aside", "list", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let chips: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["chip"].as_str().unwrap()).collect();
    assert_eq!(chips, bad);
    assert!(list[0]["why"].as_str().is_some_and(|why| !why.is_empty()) && list[0]["decoder"] == MAT, "{list}");
    let ids: Vec<String> = list.as_array().unwrap().iter().map(|row| row["id"].to_string()).collect();

    let (code, _, said) = command(&site, &["set-aside", "release", "999999"]).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("no passing 999999 is set aside"), "{said}");
    cloud.clear_faults();
    let (code, answer, said) = command(&site, &["set-aside", "release", &ids[0], "--json"]).await;
    assert_eq!((code, &answer["count"]), (Some(0), &1.into()), "{said}");
    site.sent(9).await;
    let (code, _, said) = command(&site, &["set-aside", "drop", &ids[1]]).await;
    assert_eq!(code, Some(64), "nobody agreed: {said}");
    let (code, answer, said) = command(&site, &["set-aside", "drop", "--all", "--yes", "--json"]).await;
    assert_eq!((code, &answer["count"]), (Some(0), &1.into()), "{said}");
    let (_, list, _) = command(&site, &["set-aside", "list", "--json"]).await;
    assert_eq!(list, Value::Array(Vec::new()));
    let reads = site.status().await.unwrap().journal.reads.unwrap();
    assert_eq!((reads.kept, reads.sum(), reads.in_cloud, reads.dropped_by_choice), (10, 10, 9, 1));
    let rows = site.export().await;
    let row = rows.iter().find(|row| format!("{}", row["seq"]) == ids[1]).unwrap();
    assert_eq!(row["upload"]["state"], "suppressed");
    assert!(row["reason"].as_str().unwrap().starts_with("dropped by choice"), "{row}");
    let (code, audit, said) = command(&site, &["audit", "--json"]).await;
    assert_eq!(code, Some(0), "what was decided is no difference: {audit} {said}");
    let chips: Vec<_> = cloud.passings(&token).into_iter().filter_map(|passing| passing.chip).collect();
    assert!(chips.iter().any(|chip| **chip == *bad[0]) && chips.iter().all(|chip| **chip != *bad[1]), "{chips:?}");
    running.stop().await;
    let log = log(&site);
    assert!(
        log.contains("release passings set aside") && log.contains("drop passings set aside"),
        "each is in the log"
    );
}

#[tokio::test]
async fn a_marker_has_the_time_of_the_box_and_is_no_passing_and_a_link_is_restarted_by_hand() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (_, sim, site) = box_with(&cloud).await;
    let running = site.start();
    sim.push(3);
    site.sent(3).await;
    let before = jiff::Timestamp::now();
    let (code, answer, said) = command(&site, &["marker", "gun 10K", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let at: jiff::Timestamp = answer["at"].as_str().unwrap().parse().unwrap();
    assert!(at.as_millisecond() >= before.as_millisecond() && at <= jiff::Timestamp::now());
    let (code, _, said) = command(&site, &["marker", "--decoder", MAT]).await;
    assert_eq!(code, Some(0), "{said}");
    let long = "x".repeat(65);
    for wrong in [&["marker", &*long][..], &["marker", "   "], &["marker", "gun", "--decoder", "nobody"]] {
        let (code, _, said) = command(&site, wrong).await;
        assert_eq!(code, Some(64), "{wrong:?}: {said}");
    }
    let (code, _, said) = command(&site, &["link", "restart", "nobody"]).await;
    assert_eq!(code, Some(64), "{said}");
    let (code, answer, said) = command(&site, &["link", "restart", MAT, "--json"]).await;
    assert_eq!((code, &answer["answer"]), (Some(0), &"restarted".into()), "{said}");
    sim.push(4);
    site.sent(7).await;
    let rows = site.export().await;
    let markers: Vec<_> = rows.iter().filter(|row| row["kind"] == "marker" && row["reason"] != "absent").collect();
    let told: Vec<_> = markers.iter().map(|row| (row["decoder"].as_str(), row["reason"].as_str())).collect();
    assert_eq!(told, [(Some("box"), Some("gun 10K")), (Some(MAT), Some("gun"))]);
    assert_eq!(markers[0]["received"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(), at);
    // The decoder may give a read again that it has no receipt for.
    let reads = site.status().await.unwrap().journal.reads.unwrap();
    assert_eq!((cloud.stored(), reads.kept - reads.duplicates), (7, 7));
    running.stop().await;
    let log = log(&site);
    assert!(log.contains("put a marker \"gun 10K\"") && log.contains("restart the link of raceresult-mat"), "{log}");
}

#[tokio::test]
async fn of_a_range_only_what_the_cloud_lost_goes_again_and_nothing_goes_while_the_box_is_on_hold() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (token, sim, site) = box_with(&cloud).await;
    let running = site.start();
    sim.push(10);
    site.sent(10).await;
    cloud.lose(&token, &[2, 4, 9]);
    let nums = || {
        let mut nums: Vec<u64> = cloud.passings(&token).iter().map(|passing| passing.num).collect();
        nums.sort_unstable();
        nums
    };
    let range = ["resend", "--device", DEVICE, "--first", "1", "--last", "5", "--json"];
    let (code, _, _) = command(&site, &["hold"]).await;
    assert_eq!(code, Some(0));
    let (code, _, said) = command(&site, &range).await;
    assert_eq!(code, Some(69));
    assert!(said.contains("on hold"), "{said}");
    let (code, _, _) = command(&site, &["release", "--send"]).await;
    assert_eq!(code, Some(0));
    let (code, answer, said) = command(&site, &range).await;
    assert_eq!((code, &answer["resent"]), (Some(0), &2.into()), "{said}");
    assert_eq!(nums(), [1, 2, 3, 4, 5, 6, 7, 8, 10]);
    let (code, _, said) = command(&site, &["resend", "--device", DEVICE]).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("the range is missing"), "{said}");
    let all = ["resend", "--device", DEVICE, "--from", "2000-01-01", "--json"];
    let (code, answer, said) = command(&site, &all).await;
    assert_eq!((code, &answer["resent"]), (Some(0), &1.into()), "{said}");
    assert_eq!(nums(), (1..=10).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn a_loss_is_shown_after_every_start_until_somebody_has_seen_it() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (_, sim, site) = box_with(&cloud).await;
    let running = site.start();
    sim.push(3);
    site.sent(3).await;
    running.stop().await;
    fs::remove_dir_all(site.data.join("log")).unwrap();
    let lost = |status: &Snapshot| {
        status.journal.serving && status.problems.iter().any(|problem| problem.code == "journal_lost")
    };
    let (code, _, said) = command(&site, &["seen", "disk_full"]).await;
    assert_eq!(code, Some(64), "that is no loss: {said}");
    let running = site.start();
    site.until("it is told", lost).await;
    site.until("it is noted", |_| log(&site).contains("journal_lost")).await;
    running.stop().await;
    let running = site.start();
    site.until("it is told again after a restart", lost).await;
    let (code, _, said) = command(&site, &["seen", "journal_lost"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!lost(&site.status().await.unwrap()));
    let (code, _, said) = command(&site, &["seen", "journal_lost"]).await;
    assert_eq!(code, Some(64), "it is not shown any more: {said}");
    running.stop().await;
    let running = site.start();
    site.until("it serves", |status| status.journal.serving && status.uptime_s >= 2).await;
    assert!(!lost(&site.status().await.unwrap()), "not after a restart either");
    running.stop().await;
}
