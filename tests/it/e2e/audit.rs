//! Journal against cloud: what the box finds by itself when a session is over, and what a repair
//! does and does not.

use passbridge::testing::cloud::audit::{self, Head, Subject};
use passbridge::testing::cloud::rufus::{Client, ClientConfig};
use passbridge::testing::config::KeyHeader;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::export::{Format, Query, Reading, export};
use passbridge::testing::journal::Journal;
use passbridge::testing::model::clock::Wall;
use passbridge::testing::model::shown::ShownIn;
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::cloud::{Answer, Apply, CloudFault, DEVICE, Dedup, Generation, KEY, On, StoredPassing};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::{AuditStatus, Snapshot, UploadState};
use serde_json::Value;

use crate::support::e2e::*;

/// A box that has brought 60 reads into a session, which is active.
async fn sixty(dedup: Dedup, generation: Generation) -> (EndToEnd, SimDecoder, Daemon, String) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
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

fn foreign(num: u64) -> StoredPassing {
    StoredPassing { num, time_ms: 1_781_697_600_000, chip: Some("OTHER".into()), bib: "9".into() }
}

/// The session gives way to another one, and the box notices because it has something to send.
async fn next_session(way: &EndToEnd, sim: &SimDecoder, daemon: &Daemon) -> String {
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

async fn repair(way: &EndToEnd, token: &str) -> Value {
    let request = ControlRequest::Repair { device: DEVICE.into(), session: token.into() };
    control::ask(way.data(), request).await.unwrap()
}

fn nums(way: &EndToEnd, token: &str) -> Vec<u64> {
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
    way.cloud.fault_always(On::Held, CloudFault::before(Answer::Status(503)));
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
        let upload = daemon.snapshot().uploads.remove(0);
        assert_eq!(upload.sent, 60, "sent is what the cloud holds");
        assert_eq!(upload.read_to_cloud.count(), 60, "what is sent again did not take that long");
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
        way.cloud.fault(On::Insert, CloudFault::partly(apply, Answer::Cut));
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
    way.cloud.fault_always(On::Insert, CloudFault::partly(Apply::First(2), Answer::Status(503)));
    let posts = way.cloud.post_count();
    let asking = {
        let data = way.data().to_owned();
        let request = ControlRequest::Repair { device: DEVICE.into(), session: token.clone() };
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
    way.cloud.fault(On::Insert, CloudFault::partly(Apply::First(1), Answer::Cut).closing());
    repair(&way, &token).await;
    let next = way.cloud.open_session(DEVICE, "Next");
    sim.push(10);
    let arrived = way.cloud.wait_until(LIMIT, |cloud| cloud.passings(&next).len() >= 10).await;
    assert!(arrived, "{:#?}", daemon.snapshot());
    let aside = |snapshot: &Snapshot| snapshot.journal.dead_letters == 3 && snapshot.journal.pending == 0;
    shows(&daemon, "three are set aside and nothing waits", aside).await;
    assert_eq!(crossings(&way.cloud, &next), happened(&sim)[60..], "nothing of the first session");
    assert_eq!(nums(&way, &token).len(), 57);
    daemon.stop().await.unwrap();
    let reading = Reading {
        zones: Default::default(),
        tag: passbridge::testing::config::TagCode::Raw,
        shown_in: None,
        spreadsheet: false,
    };
    let mut out = Vec::new();
    export(way.data(), &reading, Format::Jsonl, &Query { durable: u64::MAX, ..Query::default() }, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().matches("\"state\":\"quarantined\"").count(), 3, "they can be exported");
}

/// An answer of the old form.
fn says(result: &str) -> Answer {
    let body = format!(r#"{{"description":"Success","result":{result}}}"#);
    Answer::Text { status: 200, content_type: "application/json", body }
}

#[tokio::test]
async fn what_the_cloud_shows_late_is_no_alarm_and_is_not_sent_again() {
    let (way, _sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    let posts = way.cloud.post_count();
    // The range of ours is asked for twice at once, and what is above it once before.
    way.cloud.fault_times(3, On::Held, CloudFault::before(says("[]")));
    let answer = repair(&way, &token).await;
    assert_eq!((&answer["resent"], &answer["refused"], &answer["equal"]), (&0.into(), &Value::Null, &true.into()));
    assert_eq!(way.cloud.post_count(), posts);
    daemon.stop().await.unwrap();
    way.innocent();
}

#[tokio::test]
async fn a_session_that_one_answer_calls_over_is_not_audited_again_and_again() {
    let (way, _sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    daemon.stop().await.unwrap();
    way.cloud.fault(On::Active, CloudFault::before(says("[]")));
    let daemon = way.start().await;
    shows(&daemon, "it sees no session", |snapshot| snapshot.uploads[0].state == UploadState::NoSession).await;
    // Between two orders the box may do what it does by itself.
    for _ in 0..10 {
        assert_eq!(repair(&way, &token).await["equal"], true);
    }
    daemon.stop().await.unwrap();
    let log = std::fs::read_dir(way.data().join("log")).unwrap();
    let text: String = log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(text.matches("\"event\":\"audited\"").count(), 10, "those that were asked for");
}

#[tokio::test]
async fn a_difference_is_told_until_its_own_session_is_found_equal_whatever_other_sessions_are() {
    let (way, sim, daemon, token) = sixty(Dedup::None, Generation::Legacy).await;
    let lost = way.cloud.passings(&token)[16].clone();
    way.cloud.lose(&token, &[lost.num]);
    let next = next_session(&way, &sim, &daemon).await;
    settled(&daemon, 70).await;
    complains(&daemon, "audit_differs").await;
    assert_eq!(repair(&way, &next).await["equal"], true);
    let about = |snapshot: &Snapshot| {
        let differs = snapshot.problems.iter().filter(|problem| problem.code == "audit_differs");
        differs.map(|problem| problem.about.clone()).collect::<Vec<_>>()
    };
    let first = format!("{DEVICE} …{}", &token[token.len() - 6..]);
    assert_eq!(about(&daemon.snapshot()), [&*first], "the other session is equal");
    let audit = daemon.snapshot().uploads[0].audit.clone().unwrap();
    assert!(audit.equal && next.ends_with(&audit.token_tail));
    daemon.stop().await.unwrap();
    let daemon = way.start().await;
    complains(&daemon, "audit_differs").await;
    way.cloud.put_foreign(&next, &[foreign(70)]);
    assert_eq!(repair(&way, &next).await["equal"], false);
    assert_eq!(about(&daemon.snapshot()).len(), 2, "one for each session");
    way.cloud.put_foreign(&token, &[lost]);
    assert_eq!(repair(&way, &token).await["equal"], true);
    assert!(about(&daemon.snapshot())[0].ends_with(&next[next.len() - 6..]));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn an_audit_while_passings_go_up_compares_what_was_there_when_it_began() {
    let mut way = EndToEnd::new().await;
    way.cloud.configure(|config| config.page_size = 50);
    way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 3000).await;
    // From the second hundred on a passing takes 5 ms: the audit sees a drain from its beginning to
    // its end.
    way.cloud.fault_times(1, On::Insert, CloudFault::after(Answer::Usual));
    way.cloud.fault_always(On::Insert, CloudFault::slow(std::time::Duration::from_millis(20)));
    let daemon = way.start().await;
    keeps(&daemon, 3000).await;
    way.arrive(100, &daemon).await;
    let client = ClientConfig {
        url: way.cloud.url().parse().unwrap(),
        key: KEY.to_owned().into(),
        header: KeyHeader::Both,
        timeout: LIMIT,
        clock: Wall::default(),
    };
    let client = Client::new(client).unwrap();
    let subject = Subject {
        data_dir: way.data().to_owned(),
        device: DEVICE.into(),
        decoders: vec![MAT.into()],
        session: None,
        rest: std::time::Duration::from_millis(10),
        lag: LIMIT,
    };
    let report = audit::audit(&subject, &client, &Head::Own(daemon.journal().unwrap())).await.unwrap();
    assert!(report.is_equal(), "{:?} {:?}", report.counts, report.findings.first());
    assert!(report.on_their_way() > 0 && report.equal >= 60, "{report:?}");
    assert_eq!(report.checked + report.waiting, 3000);
    let told = audit::summary(&report, &ShownIn::of_the_box());
    assert!(
        told.contains("equal so far") && told.contains(&format!("{} on their way", report.on_their_way())),
        "{told}"
    );
    way.cloud.clear_faults();
    way.arrive(3000, &daemon).await;
    settled(&daemon, 3000).await;
    let report = audit::audit(&subject, &client, &Head::Own(daemon.journal().unwrap())).await.unwrap();
    assert_eq!((report.is_equal(), report.on_their_way(), report.equal), (true, 0, 3000));
    assert_eq!(sim.reads().len(), 3000);
    daemon.stop().await.unwrap();
}
