//! Journal against cloud: what the box finds by itself when a session is over, and what a repair does and does not.

use passbridge::control::{self, Request};
use passbridge::daemon::Daemon;
use passbridge::export::{Format, Query, Reading, export};
use passbridge::journal::Journal;
use passbridge::sim::cloud::{Answer, Apply, DEVICE, Dedup, Fault, Generation, On, Stored};
use passbridge::sim::decoder::{Kind, SimDecoder};
use passbridge::status::{AuditStatus, Snapshot};
use serde_json::Value;

use crate::support::*;

/// A box that has brought 60 reads into a session, which is active.
async fn sixty(dedup: Dedup, generation: Generation) -> (Way, SimDecoder, Daemon, String) {
    let mut way = Way::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RaceResult, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    settled(&daemon, 60).await;
    (way, sim, daemon, token)
}

/// Waits until the journal is so.
async fn journal(daemon: &Daemon, what: &str, condition: impl Fn(&Journal) -> bool) {
    let journal = daemon.journal().unwrap();
    let mut changed = journal.changed();
    let seen = tokio::time::timeout(LIMIT, changed.wait_for(|_| condition(&journal))).await;
    seen.unwrap_or_else(|_| panic!("never: {what}; {:#?}", daemon.snapshot())).unwrap();
}

/// Waits until it is durable that so many were sent.
async fn settled(daemon: &Daemon, sent: u64) {
    let state = |journal: &Journal| (journal.device(DEVICE).sent, journal.device(DEVICE).in_flight.is_none());
    journal(daemon, "all are settled", |journal| state(journal) == (sent, true)).await;
}

fn foreign(num: u64) -> Stored {
    Stored { num, time_ms: 1_781_697_600_000, chip: Some("OTHER".into()), bib: "9".into() }
}

/// The session gives way to another one, and the box notices because it has something to send.
async fn next_session(way: &Way, sim: &SimDecoder, daemon: &Daemon) -> String {
    let next = way.cloud.open_session(DEVICE, "Next");
    sim.push(10);
    let all = sim.reads().len() as u64;
    shows(daemon, "ten more are sent", |snapshot| snapshot.uploads[0].sent == all).await;
    next
}

async fn audited(daemon: &Daemon) -> AuditStatus {
    let snapshot = shows(daemon, "there was an audit", |snapshot| snapshot.uploads[0].audit.is_some()).await;
    snapshot.uploads[0].audit.clone().unwrap()
}

async fn repair(way: &Way, token: &str) -> Value {
    let request = Request::Repair { device: DEVICE.into(), session: token.into() };
    control::ask(way.data(), request).await.unwrap()
}

fn nums(way: &Way, token: &str) -> Vec<u64> {
    let mut nums: Vec<u64> = way.cloud.passings(token).iter().map(|passing| passing.num).collect();
    nums.sort_unstable();
    nums
}

#[tokio::test]
async fn a_session_that_is_over_is_audited_by_itself_and_found_equal() {
    for (dedup, generation) in CLOUDS {
        let (way, sim, daemon, token) = sixty(dedup, generation).await;
        way.cloud.configure(|config| config.page_size = 7);
        next_session(&way, &sim, &daemon).await;
        let audit = audited(&daemon).await;
        assert!(audit.equal, "{audit:?}");
        assert_eq!((audit.checked, audit.alias.as_deref()), (60, Some("Race")));
        assert!(token.ends_with(&audit.token_tail));
        assert!(!has_problem(&daemon.snapshot(), "audit_differs"));
        daemon.stop().await.unwrap();
        way.innocent();
    }
}

#[tokio::test]
async fn what_is_missing_foreign_or_different_in_a_session_that_is_over_is_a_problem_also_after_a_restart() {
    let (way, sim, daemon, token) = sixty(Dedup::None, Generation::OpenApi).await;
    way.cloud.lose(&token, &[17, 18]);
    way.cloud.alter(&token, 30, |passing| passing.time_ms += 1);
    way.cloud.put_foreign(&token, &[foreign(70), foreign(71), foreign(72)]);
    next_session(&way, &sim, &daemon).await;
    let audit = audited(&daemon).await;
    assert!(!audit.equal);
    assert_eq!((audit.checked, audit.missing, audit.different, audit.foreign), (60, 2, 1, 3));
    let told = complains(&daemon, "audit_differs").await;
    assert!(told.contains(&format!("passbridge audit --device {DEVICE} --session {}", audit.token_tail)), "{told}");
    let remembers = |journal: &Journal| journal.audits(DEVICE).iter().any(|(audit, _)| audit.last.is_some());
    journal(&daemon, "the audit is remembered", remembers).await;
    daemon.stop().await.unwrap();
    let daemon = way.start().await;
    assert_eq!(audited(&daemon).await, audit, "remembered, not made again");
    complains(&daemon, "audit_differs").await;
    daemon.stop().await.unwrap();
    let log = std::fs::read_dir(way.data().join("log")).unwrap();
    let text: String = log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(text.matches("\"event\":\"audited\"").count(), 1);
    assert!(text.contains("2 missing in the cloud"));
}

#[tokio::test]
async fn an_audit_that_the_cloud_did_not_answer_is_made_after_the_next_start() {
    let (way, sim, daemon, _) = sixty(Dedup::None, Generation::Legacy).await;
    way.cloud.fault_always(On::Held, Fault::before(Answer::Status(503)));
    way.cloud.open_session(DEVICE, "Next");
    sim.push(10);
    complains(&daemon, "audit_waits").await;
    daemon.stop().await.unwrap();
    way.cloud.clear_faults();
    let daemon = way.start().await;
    let audit = audited(&daemon).await;
    assert!(audit.equal && audit.checked == 60, "{audit:?}");
    assert!(!has_problem(&daemon.snapshot(), "audit_waits"));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_repair_sends_what_is_missing_again_under_its_numbers_and_nothing_else() {
    for (dedup, generation) in CLOUDS {
        let (way, sim, daemon, token) = sixty(dedup, generation).await;
        let before = way.cloud.passings(&token);
        way.cloud.lose(&token, &[3, 17, 18, 60]);
        let posts = way.cloud.post_count();
        let answer = repair(&way, &token).await;
        assert_eq!((&answer["resent"], &answer["refused"], &answer["equal"]), (&4.into(), &Value::Null, &true.into()));
        let mut after = way.cloud.passings(&token);
        after.sort_by_key(|passing| passing.num);
        assert_eq!(after, before, "{dedup:?}, {generation:?}");
        let sent: usize = way.cloud.posts()[posts as usize..].iter().map(|post| post.count).sum();
        assert_eq!(sent, 4);
        assert_eq!(daemon.snapshot().uploads[0].sent, 60, "sent is what the cloud holds");
        sim.push(5);
        way.arrive(65, &daemon).await;
        assert_eq!(nums(&way, &token), (1..=65).collect::<Vec<_>>(), "the race goes on above");
        assert!(daemon.snapshot().uploads[0].audit.as_ref().unwrap().equal);
        way.cloud.lose(&token, &[8]);
        next_session(&way, &sim, &daemon).await;
        let missing = |snapshot: &Snapshot| snapshot.uploads[0].audit.as_ref().unwrap().missing == 1;
        shows(&daemon, "the session was audited again when it was over", missing).await;
        daemon.stop().await.unwrap();
        way.innocent();
    }
}

#[tokio::test]
async fn a_repair_whose_answer_is_lost_asks_and_sends_only_what_did_not_arrive() {
    for apply in [Apply::Nothing, Apply::First(2), Apply::All] {
        let (way, _sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
        way.cloud.lose(&token, &[3, 17, 18, 60]);
        way.cloud.fault(On::Insert, Fault::partly(apply, Answer::Cut));
        let answer = repair(&way, &token).await;
        assert_eq!(answer["equal"], true, "{apply:?}: {answer}");
        assert_eq!(nums(&way, &token), (1..=60).collect::<Vec<_>>(), "{apply:?}");
        daemon.stop().await.unwrap();
        way.innocent();
    }
}

#[tokio::test]
async fn a_repair_that_a_power_cut_ended_goes_on_at_the_next_start_with_the_same_numbers() {
    let (way, _sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    way.cloud.lose(&token, &[3, 17, 18, 60]);
    way.cloud.fault_always(On::Insert, Fault::partly(Apply::First(2), Answer::Status(503)));
    let posts = way.cloud.post_count();
    let asking = {
        let data = way.data().to_owned();
        let request = Request::Repair { device: DEVICE.into(), session: token.clone() };
        tokio::spawn(async move { control::ask(&data, request).await })
    };
    assert!(way.cloud.wait_until(LIMIT, |cloud| cloud.post_count() > posts).await);
    daemon.stop().await.unwrap();
    assert!(asking.await.unwrap().is_err(), "the command is told that the daemon went");
    way.cloud.clear_faults();
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    settled(&daemon, 60).await;
    assert_eq!(nums(&way, &token), (1..=60).collect::<Vec<_>>());
    assert_eq!(repair(&way, &token).await["equal"], true);
    daemon.stop().await.unwrap();
    way.innocent();
}

#[tokio::test]
async fn a_closed_session_takes_no_repair_and_none_is_opened_for_it() {
    let (way, sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    way.cloud.lose(&token, &[17]);
    let next = next_session(&way, &sim, &daemon).await;
    let (posts, sessions) = (way.cloud.post_count(), way.cloud.sessions(DEVICE).len());
    let answer = repair(&way, &token).await;
    assert_eq!(answer["resent"], 0);
    assert!(answer["refused"].as_str().unwrap().contains("closed"), "{answer}");
    assert_eq!((way.cloud.post_count(), way.cloud.sessions(DEVICE).len()), (posts, sessions));
    assert_eq!(nums(&way, &next), (1..=10).collect::<Vec<_>>());
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_different_is_never_overwritten_and_foreign_ones_stay() {
    let (way, _sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    way.cloud.lose(&token, &[17, 18]);
    way.cloud.put_foreign(&token, &[foreign(17), foreign(61)]);
    let posts = way.cloud.post_count();
    let answer = repair(&way, &token).await;
    assert_eq!((&answer["resent"], &answer["equal"]), (&1.into(), &false.into()));
    let sent: Vec<(u64, usize)> =
        way.cloud.posts()[posts as usize..].iter().map(|post| (post.first, post.count)).collect();
    assert_eq!(sent, [(18, 1)]);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_that_closes_during_a_repair_leaves_the_missing_set_aside_and_out_of_the_next_one() {
    let (way, sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    way.cloud.lose(&token, &[3, 17, 18, 60]);
    way.cloud.fault(On::Insert, Fault::partly(Apply::First(1), Answer::Cut).closing());
    repair(&way, &token).await;
    let next = way.cloud.open_session(DEVICE, "Next");
    sim.push(10);
    let arrived = way.cloud.wait_until(LIMIT, |cloud| cloud.passings(&next).len() >= 10).await;
    assert!(arrived, "{:#?}", daemon.snapshot());
    let aside = |snapshot: &Snapshot| snapshot.journal.quarantined == 3 && snapshot.journal.pending == 0;
    shows(&daemon, "three are set aside and nothing waits", aside).await;
    assert_eq!(crossings(&way.cloud, &next), happened(&sim)[60..], "nothing of the first session");
    assert_eq!(nums(&way, &token).len(), 57);
    daemon.stop().await.unwrap();
    let reading = Reading { zones: Default::default(), tag: passbridge::config::TagCode::Raw };
    let mut out = Vec::new();
    export(way.data(), &reading, Format::Jsonl, &Query { durable: u64::MAX, ..Query::default() }, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().matches("\"state\":\"quarantined\"").count(), 3, "they can be exported");
}
