//! Clouds at which passings were lost, doubled, or stood still in silence, each as it was seen; and
//! what the box then shows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use passbridge::testing::config::SessionMode;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::sim::cloud::{
    Answer, Apply, CloudFault, DEVICE, Dedup, Generation, Habits, On, SimCloudConfig,
};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use passbridge::testing::status::UploadState;

use super::trial::{fast, held, shown};
use crate::support::e2e::*;

/// A box, and a cloud with these habits.
async fn at(habits: &[&str]) -> EndToEnd {
    let mut way = EndToEnd::with(Dedup::None, Generation::OpenApi).await;
    way.config.upload = fast(way.config.upload);
    way.cloud.habits(Habits::of(1, habits).unwrap());
    way
}

fn calm(way: &EndToEnd) {
    way.cloud.habits(Habits::new(1));
}

/// Codes of all problems that are shown from now on, also of those that are gone again.
fn ever(daemon: &Daemon) -> Arc<Mutex<BTreeSet<String>>> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (board, list) = (daemon.board().clone(), Arc::clone(&seen));
    tokio::spawn(async move {
        let mut changed = board.changed();
        loop {
            list.lock().unwrap().extend(shown(&board.snapshot()));
            if changed.changed().await.is_err() {
                return;
            }
        }
    });
    seen
}

/// Waits until every one of these is in some session, and then whether any comes a second time.
async fn once(way: &EndToEnd, expected: &[Crossing], what: &(dyn std::fmt::Debug + Sync)) {
    let all = |way: &EndToEnd| {
        let held = held(way);
        expected.iter().filter(|one| !held.contains_key(*one)).count()
    };
    let arrived = way.cloud.wait_until(LIMIT, |_| all(way) == 0).await;
    assert!(arrived, "{} of {} are missing; {what:?}\n{:#?}", all(way), expected.len(), way.cloud.trace());
    tokio::time::sleep(Duration::from_millis(700)).await; // what comes late has come
    let twice: Vec<_> = held(way).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{} twice; {what:?}\n{:#?}", twice.len(), way.cloud.trace());
}

/// An insert is told that its session is closed, which it is not: the box looks which one is
/// active.
fn gone() -> CloudFault {
    let body = r#"{"body":{"description":"Session not found or closed"}}"#.to_owned();
    CloudFault::before(Answer::Text { status: 404, content_type: "application/json", body })
}

/// Nothing has come into any session for so long.
async fn stays(way: &EndToEnd, stored: usize, time: Duration) {
    assert!(!way.cloud.wait_until(time, |cloud| cloud.stored() != stored).await, "{}", way.cloud.stored());
}

/// A second box with its own decoder and disk, and the device of the first one: a card that was
/// copied.
async fn copy_of(first: &EndToEnd) -> (EndToEnd, SimDecoder) {
    let mut second = EndToEnd::with(Dedup::None, Generation::OpenApi).await;
    second.config.cloud.clone_from(&first.config.cloud);
    second.config.upload.clone_from(&first.config.upload);
    let start = jiff::civil::date(2026, 6, 17).at(11, 0, 0, 0);
    let sim = SimConfig { start, ..SimConfig::new(Kind::RACE_RESULT, Wiring::Listen(LOOPBACK)) };
    let sim = second.plug_as(MAT, sim).await;
    (second, sim)
}

async fn two_boxes(habits: &'static [&'static str]) {
    let mut way = at(habits).await;
    way.session();
    let sim = way.plug(Kind::RACE_RESULT).await;
    let (other, other_sim) = copy_of(&way).await;
    let (daemon, other_daemon) = (way.start().await, other.start().await);
    for _ in 0..6 {
        sim.push(10);
        other_sim.push(10);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut expected = happened(&sim);
    expected.extend(happened(&other_sim));
    let told = |daemon: &Daemon| has_problem(&daemon.snapshot(), "other_writer");
    once(&way, &expected, &habits).await;
    let named = async {
        while !told(&daemon) && !told(&other_daemon) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let named = tokio::time::timeout(LIMIT, named).await;
    assert!(named.is_ok(), "{habits:?}: neither says that somebody else writes: {:?}", shown(&daemon.snapshot()));
    daemon.stop().await.unwrap();
    other_daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_boxes_with_one_device_bring_all_that_both_read_and_say_that_somebody_else_writes() {
    together(
        [
            &["duplicates=number", "lag=300ms"][..],
            &["duplicates=none", "lag=300ms"],
            &["duplicates=chip-time", "lost-answers=stored@1/4"],
            &["duplicates=number", "lost-answers=dropped@1/4", "lag=0s..200ms"],
            &["duplicates=number", "counts=missing"],
            &["duplicates=none", "counts=missing", "lost-answers=half@1/4"],
        ]
        .map(two_boxes),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_session_of_a_cloud_that_compares_with_the_first_one_gets_all_of_it() {
    let runs = ["number", "number-time", "chip-time"].map(|rule| async move {
        let mut way = at(&[&format!("duplicates={rule}:per-device")]).await;
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        way.arrive(60, &daemon).await;
        way.session();
        sim.push(80);
        once(&way, &happened(&sim), &rule).await;
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_poll_that_shows_the_session_before_after_the_next_one_has_begun_makes_no_number_be_given_again() {
    let runs = ["none", "number", "chip-time"].map(|rule| async move {
        let mut way = at(&[&format!("duplicates={rule}"), "lag=400ms"]).await;
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 30).await;
        let daemon = way.start().await;
        way.arrive(30, &daemon).await;
        way.session();
        sim.push(30);
        once(&way, &happened(&sim), &rule).await;
        for _ in 0..3 {
            // It is told to look for the session anew, is told of the one before, and then of the
            // right one; the newest in it are not shown yet.
            let stale = ["stale-active=before@300ms", "lag=400ms", &*format!("duplicates={rule}")];
            way.cloud.habits(Habits::of(1, stale).unwrap());
            let before = way.cloud.stored();
            sim.push(10);
            way.arrive(before + 10, &daemon).await; // and no question shows them yet
            way.cloud.fault(On::Insert, gone());
            sim.push(10);
            once(&way, &happened(&sim), &rule).await;
        }
        assert!(way.cloud.violations().is_empty(), "{rule}: {:?}", way.cloud.violations());
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_success_that_inserted_none_for_a_while_is_trouble_and_sets_nothing_aside() {
    let runs = [Generation::Legacy, Generation::OpenApi].map(|generation| async move {
        let mut way = at(&["duplicates=number", "counts=zero-lost@3s"]).await;
        way.cloud.configure(|config| config.generation = generation);
        let token = way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        shows(&daemon, "something is wrong", |snapshot| !shown(snapshot).is_empty()).await;
        once(&way, &happened(&sim), &generation).await;
        assert_eq!(daemon.snapshot().journal.dead_letters, 0);
        assert_eq!(way.cloud.passings(&token).len(), 60, "all in the one session");
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

/// Answers about the active session that say neither that there is one nor that there is none.
const UNKNOWN: [&str; 8] =
    ["throttled", "locked", "rate", "try-later", "other-key", "body-null", "empty", "gateway-404"];

async fn not_understood(word: &'static str, mode: SessionMode) {
    let mut way = at(&[&format!("words=active:{word}")]).await;
    way.config.cloud.as_mut().unwrap().session = mode;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 30).await;
    let daemon = way.start().await;
    let message = complains(&daemon, "cloud_not_understood").await;
    stays(&way, 0, Duration::from_secs(2)).await;
    assert_ne!(daemon.snapshot().uploads[0].state, UploadState::NoSession, "{word}: {message}");
    assert_eq!(way.cloud.sessions(DEVICE).len(), 1, "{word}: nobody opens one while one runs");
    calm(&way);
    once(&way, &happened(&sim), &word).await;
    shows(&daemon, "all is well again", |snapshot| !has_problem(snapshot, "cloud_not_understood")).await;
    assert_eq!(way.cloud.passings(&token).len(), 30);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unknown_answer_about_the_active_session_is_told_and_is_never_taken_for_none() {
    let runs = |word| [SessionMode::Active, SessionMode::Create].map(|mode| not_understood(word, mode));
    together(UNKNOWN.into_iter().flat_map(runs)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unknown_answer_while_a_session_runs_ends_no_session_of_a_box_that_may_open_one() {
    let runs = UNKNOWN.map(|word| async move {
        let mut way = at(&[]).await;
        way.config.cloud.as_mut().unwrap().session = SessionMode::Create;
        let token = way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 30).await;
        let daemon = way.start().await;
        way.arrive(30, &daemon).await;
        way.cloud.habits(Habits::of(1, [format!("words=active:{word}@1500ms")]).unwrap());
        way.cloud.fault(On::Insert, gone());
        for _ in 0..20 {
            sim.push(2);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        once(&way, &happened(&sim), &word).await;
        assert_eq!((way.cloud.sessions(DEVICE).len(), way.cloud.passings(&token).len()), (1, 70), "{word}");
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_in_text_is_read_and_one_poll_that_says_none_opens_no_session() {
    let runs = [&["words=active:result-text"][..], &["stale-active=none@1/2"], &["stale-active=none@1+1ms"]].map(
        |habits| async move {
            let mut way = at(habits).await;
            way.config.cloud.as_mut().unwrap().session = SessionMode::Create;
            let token = way.session();
            let sim = way.plug_with(Kind::RACE_RESULT, 30).await;
            let daemon = way.start().await;
            way.arrive(30, &daemon).await;
            for _ in 0..10 {
                sim.push(3);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            once(&way, &happened(&sim), &habits).await;
            assert_eq!(way.cloud.passings(&token).len(), 60, "{habits:?}: all in the session that runs");
            daemon.stop().await.unwrap();
        },
    );
    together(runs).await;
}

/// Reading is refused altogether, and what is sent twice is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_box_that_may_not_ask_sends_nothing_of_unknown_fate_again_and_says_so() {
    let runs = [Apply::Nothing, Apply::First(7), Apply::All].map(|apply| async move {
        let mut way = at(&["duplicates=none"]).await;
        let token = way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 20).await;
        let daemon = way.start().await;
        way.arrive(20, &daemon).await;
        way.cloud.habits(Habits::of(1, ["duplicates=none", "refuse=questions:403", "refuse=devices:403"]).unwrap());
        way.cloud.fault(On::Insert, CloudFault::partly(apply, Answer::Cut));
        sim.push(20);
        shows(&daemon, "something is wrong", |snapshot| !shown(snapshot).is_empty()).await;
        let before = way.cloud.stored();
        assert!(
            !way.cloud.wait_until(Duration::from_secs(3), |cloud| cloud.stored() > 20 + apply_of(apply)).await,
            "{before}"
        );
        assert!(daemon.snapshot().journal.pending > 0, "they are not counted as sent");
        assert!(!shown(&daemon.snapshot()).is_empty(), "and that is shown");
        daemon.stop().await.unwrap();
        calm(&way);
        let daemon = way.start().await;
        once(&way, &happened(&sim), &apply).await;
        assert_eq!(way.cloud.passings(&token).len(), 40);
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

fn apply_of(apply: Apply) -> usize {
    match apply {
        Apply::First(n) => n,
        Apply::All => 20,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_refused_question_is_no_blindness() {
    let runs = ["passings:403@1/2", "questions:403@1/3", "passings:403", "passings:500"].map(|refused| async move {
        let habits = ["duplicates=none", &*format!("refuse={refused}"), "lost-answers=half@1/3"];
        let mut way = at(&habits).await;
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        sim.push(60);
        once(&way, &happened(&sim), &refused).await;
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_chip_at_which_the_cloud_fails_holds_up_nobody_and_is_not_called_offline() {
    let runs = [Dedup::None, Dedup::Number, Dedup::ChipTime].map(|dedup| async move {
        let mut way = at(&[]).await;
        way.cloud.configure(|config| config.dedup = dedup);
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 100).await;
        let mut expected = happened(&sim);
        let (bad, _) = expected[33].clone();
        way.cloud.habits(Habits::of(1, [format!("fails={bad}")]).unwrap());
        let daemon = way.start().await;
        expected.retain(|(chip, _)| *chip != bad);
        once(&way, &expected, &dedup).await;
        sim.push(20);
        let more: Vec<Crossing> = happened(&sim)[100..].iter().filter(|(chip, _)| *chip != bad).cloned().collect();
        once(&way, &more, &dedup).await;
        let state = daemon.snapshot().uploads[0].state;
        assert_ne!(state, UploadState::Offline, "it answers");
        shows(&daemon, "the chip is named", |snapshot| {
            snapshot.problems.iter().any(|problem| problem.message.contains(&bad))
        })
        .await;
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

/// Takes as long as the box waits after it: 5 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_insert_that_a_firewall_refuses_is_tried_again_in_seconds() {
    let mut way = at(&["duplicates=none"]).await;
    way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 20).await;
    let daemon = way.start().await;
    way.arrive(20, &daemon).await;
    let since = Instant::now();
    way.cloud.fault(On::Insert, CloudFault::before(Answer::message(403, "Forbidden")));
    sim.push(20);
    once(&way, &happened(&sim), &"403").await;
    assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_grow_while_a_backlog_waits_and_answers_take_long() {
    let mut way = at(&["slow-posts=200ms"]).await;
    way.config.upload =
        passbridge::testing::config::UploadConfig { min_interval: Duration::from_millis(5), ..Default::default() };
    way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 3000).await;
    let daemon = way.start().await;
    way.arrive(3000, &daemon).await;
    let posts = way.cloud.post_count();
    assert!(posts <= 16, "{posts} posts: thirty of a hundred each would be no growth");
    once(&way, &happened(&sim), &"slow").await;
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_insert_that_is_stored_late_is_waited_for_before_it_is_sent_again() {
    let runs = ["none", "number", "chip-time", "number-time"].map(|rule| async move {
        let habits = [&*format!("duplicates={rule}"), "lost-answers=late:400ms@1/3"];
        let mut way = at(&habits).await;
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        sim.push(60);
        once(&way, &happened(&sim), &rule).await;
        assert_eq!(daemon.snapshot().journal.dead_letters, 0, "{rule}");
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}

/// Every form of list, with and without pages, while an outcome is unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_a_cloud_lists_what_it_holds_a_part_of_an_insert_is_found_in_it() {
    let lists: [&'static [&'static str]; 11] = [
        &["first-exclusive"],
        &["last-exclusive"],
        &["first-exclusive", "last-exclusive"],
        &["empty-pages=first"],
        &["empty-pages=between"],
        &["page-ignored"],
        &["no-has-more"],
        &["order=newest"],
        &["order=shuffled", "text-numbers=all"],
        &["last-required", "range-limit=30", "none-404"],
        &["text-numbers=ids", "none-404"],
    ];
    let runs = lists.into_iter().flat_map(|habits| {
        [Generation::Legacy, Generation::OpenApi].map(|generation| async move {
            let all: Vec<&str> = ["duplicates=none"].iter().chain(habits).copied().collect();
            let mut way = at(&all).await;
            way.cloud.configure(|config: &mut SimCloudConfig| {
                config.generation = generation;
                config.page_size = 7;
            });
            let token = way.session();
            way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
            way.cloud.fault(On::Insert, CloudFault::partly(Apply::First(9), Answer::Cut));
            way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
            way.cloud.fault(On::Insert, CloudFault::partly(Apply::First(1), Answer::Cut));
            let sim = way.plug_with(Kind::RACE_RESULT, 80).await;
            let daemon = way.start().await;
            once(&way, &happened(&sim), &(habits, generation)).await;
            let held = crossings(&way.cloud, &token);
            assert_eq!(held, happened(&sim), "{habits:?} {generation:?}: in order");
            way.innocent();
            daemon.stop().await.unwrap();
        })
    });
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_audit_of_a_cloud_that_is_behind_alarms_nobody() {
    let runs = [&["lag=400ms"][..], &["lag=0s..400ms", "lag-sessions=300ms"], &["lag=300ms", "empty-pages=first"]].map(
        |habits| async move {
            let mut way = at(habits).await;
            way.cloud.configure(|config| config.page_size = 7);
            way.session();
            let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
            let daemon = way.start().await;
            let ever = ever(&daemon);
            way.arrive(60, &daemon).await;
            way.session();
            sim.push(10);
            once(&way, &happened(&sim), &habits).await;
            let audited = |snapshot: &passbridge::testing::status::Snapshot| {
                snapshot.uploads[0].audit.as_ref().is_some_and(|audit| audit.equal && audit.checked == 60)
            };
            shows(&daemon, &format!("the first session is equal ({habits:?})"), audited).await;
            let ever = ever.lock().unwrap().clone();
            assert!(!ever.iter().any(|code| code.starts_with("audit_d")), "{habits:?}: {ever:?}");
            daemon.stop().await.unwrap();
        },
    );
    together(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_session_after_a_restored_disk_gets_nothing_that_the_first_one_has() {
    let runs = ["none", "number", "chip-time"].map(|rule| async move {
        let mut way = at(&[&format!("duplicates={rule}"), "lag=300ms"]).await;
        way.session();
        let sim = way.plug_with(Kind::RACE_RESULT, 20).await;
        let daemon = way.start().await;
        way.arrive(20, &daemon).await;
        daemon.stop().await.unwrap();
        let copy = way.dir.path().join("copy");
        crate::support::disk_state::image(way.data(), &copy);
        let daemon = way.start().await;
        sim.push(60);
        way.arrive(80, &daemon).await;
        daemon.stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await; // no card is changed sooner than the cloud shows all
        way.config.data_dir = copy; // the card from before
        way.session();
        let daemon = way.start().await;
        sim.push(10);
        once(&way, &happened(&sim), &rule).await;
        daemon.stop().await.unwrap();
    });
    together(runs).await;
}
