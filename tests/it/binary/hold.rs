//! `hold` and `release`: a timer tests before the gun, and decides what becomes of the test.

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use serde_json::Value;

use crate::support::child::{SETTLES_SOON, Site, decoder, judge, passing};

/// Exit code, the answer, and what people are told.
async fn command(site: &Site, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = site.output(arguments).await;
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn what_was_read_on_hold_is_never_sent_if_it_is_dropped_also_after_a_kill() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], SETTLES_SOON);
    let running = site.start();
    sim.push(10);
    site.sent(10).await;
    let (code, answer, said) = command(&site, &["hold", "--json"]).await;
    assert_eq!((code, &answer["held"]), (Some(0), &true.into()), "{said}");
    let (code, _, said) = command(&site, &["hold"]).await;
    assert_eq!(code, Some(69));
    assert!(said.contains("on hold already"), "{said}");
    sim.push(5);
    site.until("they are kept", |status| status.hold.as_ref().is_some_and(|hold| hold.reads == 5)).await;
    running.kill();
    let running = site.start();
    site.until("it is on hold still", |status| status.hold.as_ref().is_some_and(|hold| hold.reads == 5)).await;
    site.until("it says so", |status| status.problems.iter().any(|problem| problem.code == "on_hold")).await;
    let status = site.output(&["status"]).await;
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("5 ON HOLD") && text.contains("put the box on hold"), "{text}");
    let rows = site.export().await;
    assert!(rows[10..].iter().all(|row| row["upload"]["state"] == "held"), "{rows:#?}");

    let (code, _, said) = command(&site, &["release"]).await;
    assert_eq!(code, Some(64), "{said}");
    let (code, _, said) = command(&site, &["release", "--drop"]).await;
    assert_eq!(code, Some(64), "nobody agreed");
    assert!(said.contains("the 5 reads that were kept") && said.contains("--yes"), "{said}");
    let (code, answer, said) = command(&site, &["release", "--drop", "--yes", "--json"]).await;
    assert_eq!((code, &answer["released"]), (Some(0), &5.into()), "{said}");
    sim.push(3);
    site.sent(13).await;
    let status = site.status().await.unwrap();
    let reads = status.journal.reads.unwrap();
    assert_eq!((reads.kept, reads.sum(), reads.in_cloud, reads.dropped_by_choice), (18, 18, 13, 5));
    assert_eq!((status.hold, status.problems.iter().any(|problem| problem.code == "on_hold")), (None, false));
    let rows = site.export().await;
    for row in &rows[10..15] {
        assert_eq!(
            (&row["upload"]["state"], row["reason"].as_str()),
            (&"suppressed".into(), Some("dropped by choice: read while the box was on hold"))
        );
    }
    let all: Vec<_> = sim.reads().iter().map(passing).collect();
    judge("the test is not in the cloud", &cloud, &token, [&all[..10], &all[15..]].concat());
    let audit = site.output(&["audit"]).await;
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    let (code, _, said) = command(&site, &["release", "--send"]).await;
    assert_eq!(code, Some(69));
    assert!(said.contains("not on hold"), "{said}");
    running.stop().await;
}

#[tokio::test]
async fn what_was_read_on_hold_goes_up_in_order_when_it_is_released_into_the_session_of_that_moment() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Test");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 2).await;
    let site = Site::new(Some(&cloud), &[mat], SETTLES_SOON);
    // Nobody runs: it is on hold from the next start on.
    site.start().stop().await;
    let (code, _, said) = command(&site, &["hold", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let running = site.start();
    sim.push(20);
    site.until("they are kept", |status| status.hold.as_ref().is_some_and(|hold| hold.reads == 20)).await;
    assert_eq!(cloud.stored(), 0);
    let (code, _, said) = command(&site, &["session", "open", "--alias", "Race", "--yes", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, answer, said) = command(&site, &["release", "--send", "--json"]).await;
    assert_eq!((code, &answer["released"]), (Some(0), &20.into()), "{said}");
    site.sent(20).await;
    let status = site.status().await.unwrap();
    let tail = status.uploads[0].session.as_ref().unwrap().token_tail.clone();
    assert_eq!(status.uploads[0].session.as_ref().unwrap().alias.as_deref(), Some("Race"));
    let token = cloud.sessions(DEVICE).into_iter().find(|session| session.token.ends_with(&tail)).unwrap().token;
    let all: Vec<_> = sim.reads().iter().map(passing).collect();
    judge("all is in the session that is active now", &cloud, &token, all);
    running.stop().await;
}
