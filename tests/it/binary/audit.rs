//! `passbridge audit` as a timer types it: what it says, how it ends, and what `--repair` does
//! beside the daemon and without it.

use std::process::Output;

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig, StoredPassing};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;
use serde_json::Value;

use crate::support::child::{Running, Site, decoder};

/// A box that has brought thirty reads into a cloud that detects no duplicates.
async fn thirty() -> (SimCloud, String, Site, SimDecoder, Running) {
    let cloud = SimCloud::start(SimCloudConfig { dedup: Dedup::None, ..Default::default() }).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "[upload]\nretry_max = \"1s\"\nsettle = \"1s\"\n");
    let running = site.start();
    sim.push(30);
    site.sent(30).await;
    site.until("nothing waits", |status| status.journal.pending == 0 && status.journal.durable >= 30).await;
    (cloud, token, site, sim, running)
}

fn ended(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}\n{error}");
    text + &error
}

fn whole(cloud: &SimCloud, token: &str) {
    let mut nums: Vec<u64> = cloud.passings(token).iter().map(|passing| passing.num).collect();
    nums.sort_unstable();
    assert_eq!(nums, (1..=30).collect::<Vec<_>>());
    assert_eq!(cloud.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn audit_ends_with_0_when_both_are_equal_with_65_and_a_list_when_not_and_with_69_offline() {
    let (cloud, token, site, _sim, running) = thirty().await;
    let text = ended(&site.output(&["audit"]).await, 0);
    assert!(text.contains("EQUAL, 30 passings") && text.contains("Race"), "{text}");
    let other = StoredPassing { num: 40, time_ms: 0, chip: Some("OTHER".into()), bib: "9".into() };
    cloud.lose(&token, &[7]);
    cloud.alter(&token, 9, |passing| passing.bib = "4711".into());
    cloud.put_foreign(&token, &[other]);
    let text = ended(&site.output(&["audit"]).await, 65);
    for told in ["1 missing", "1 different", "1 foreign", "number 7", "4711", "OTHER", "--repair"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    // The foreign passing is of the first moment of 1970, which is shown in the zone that is asked for.
    let text = ended(&site.output(&["audit", "--timezone", "Asia/Kathmandu"]).await, 65);
    assert!(text.contains("1970-01-01 05:30:00.000 +0530"), "{text}");
    let tail = &token[token.len() - 6..];
    let json = ["audit", "--json", "--session", tail, "--device", DEVICE, "--timezone", "Asia/Kathmandu"];
    let text = ended(&site.output(&json).await, 65);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = lines.iter().map(|line| (line["finding"].as_str(), line["num_passing"].as_u64())).collect();
    let list = [(Some("missing"), Some(7)), (Some("different"), Some(9)), (Some("foreign"), Some(40)), (None, None)];
    assert_eq!(found, list);
    let summary = &lines[3];
    assert_eq!((&summary["equal"], &summary["checked"], &summary["token"]), (&false.into(), &30.into(), &token.into()));
    assert_eq!(lines[1]["cloud"]["bib"], "4711");
    assert_eq!(lines[2]["cloud"]["time"], "1970-01-01T00:00:00.000Z", "JSON is in UTC");

    ended(&site.output(&["audit", "--session", "ABCDEF"]).await, 64);
    ended(&site.output(&["audit", "--session", "A"]).await, 64);
    ended(&site.output(&["audit", "--device", "NOBODY"]).await, 64);
    running.stop().await;
    ended(&site.output(&["audit"]).await, 65);
    cloud.set_online(false).await;
    let text = ended(&site.output(&["audit"]).await, 69);
    assert!(text.contains("could not be asked"), "{text}");
}

#[tokio::test]
async fn repair_works_beside_the_daemon_and_without_it() {
    let (cloud, token, site, _sim, running) = thirty().await;
    cloud.lose(&token, &[7, 30]);
    let text = ended(&site.output(&["audit", "--repair"]).await, 0);
    assert!(text.contains("2 passings sent again") && text.contains("EQUAL, 30 passings"), "{text}");
    whole(&cloud, &token);
    running.stop().await;

    cloud.lose(&token, &[1, 2, 29]);
    let text = ended(&site.output(&["audit", "--repair"]).await, 0);
    assert!(text.contains("3 passings sent again"), "{text}");
    whole(&cloud, &token);

    cloud.lose(&token, &[5]);
    cloud.close_session(&token);
    let posts = cloud.post_count();
    let text = ended(&site.output(&["audit", "--repair"]).await, 65);
    assert!(text.contains("0 passings sent again") && text.contains("closed"), "{text}");
    assert_eq!((cloud.post_count(), cloud.sessions(DEVICE).len()), (posts, 1));

    let running = site.start();
    let found = |status: &Snapshot| status.uploads[0].audit.as_ref().is_some_and(|audit| audit.missing == 1);
    site.until("the session is audited, now that it is over", found).await;
    let text = String::from_utf8(site.output(&["status"]).await.stdout).unwrap();
    assert!(text.contains("NOT EQUAL: of 30 passings 1 missing") && text.contains("passbridge audit"), "{text}");
    let (_, metrics) = site.get("/metrics").await.unwrap();
    assert!(metrics.contains(&format!("passbridge_audit_passings{{device=\"{DEVICE}\",found=\"missing\"}} 1\n")));
    running.stop().await;
}
