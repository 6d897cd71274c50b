//! Everything a cloud, or what stands before it, can do to an upload: afterwards every read is
//! there once, in order. Each case runs against every cloud there may be: see [`CLOUDS`].

use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{Answer, Apply, CloudFault, Dedup, Generation, KEY, On, SimCloud};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::UploadState;
use tokio::task::JoinSet;

use crate::support::e2e::*;

/// What goes wrong, by name.
type Case = (&'static str, fn(&SimCloud));

/// The first POST is well, so that the session holds something already; the next ones meet these.
fn then(cloud: &SimCloud, faults: &[CloudFault]) {
    cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
    for fault in faults {
        cloud.fault(On::Insert, fault.clone());
    }
}

/// Every case in every kind of cloud, all at once: most of it is waiting.
async fn survives(cases: &'static [Case]) {
    let mut runs = JoinSet::new();
    for &(name, meet) in cases {
        for (dedup, generation) in CLOUDS {
            runs.spawn(
                async move { (format!("{name}, {dedup:?}, {generation:?}"), race(dedup, generation, meet).await) },
            );
        }
    }
    let mut wrong = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (name, result) = run.unwrap();
        if let Err(error) = result {
            wrong.push(format!("{name}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Sixty reads with the fault between, then ten more.
async fn race(dedup: Dedup, generation: Generation, meet: fn(&SimCloud)) -> Result<(), String> {
    let mut way = EndToEnd::with(dedup, generation).await;
    way.config.upload.timeout = Duration::from_millis(400);
    let token = way.session();
    meet(&way.cloud);
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    let mut result = Ok(());
    for expected in [60, 70] {
        if !way.cloud.wait_for(expected, LIMIT).await {
            result = Err(format!("{} of {expected} arrived: {:#?}", way.cloud.stored(), daemon.snapshot()));
            break;
        }
        sim.push(if expected == 60 { 10 } else { 0 });
    }
    if result.is_ok() {
        shows(&daemon, "everything is acknowledged", |snapshot| snapshot.uploads[0].sent == 70).await;
    }
    daemon.stop().await.map_err(|error| error.to_string())?;
    result?;
    if crossings(&way.cloud, &token) != happened(&sim) {
        return Err(format!("the cloud holds {:?}\nposts {:#?}", way.cloud.passings(&token), way.cloud.posts()));
    }
    let numbers: Vec<u64> = way.cloud.passings(&token).iter().map(|passing| passing.num).collect();
    if numbers != (1..=70).collect::<Vec<_>>() {
        return Err(format!("numbers {numbers:?}"));
    }
    let violations = way.cloud.violations();
    if violations.is_empty() { Ok(()) } else { Err(format!("{violations:?}")) }
}

#[tokio::test]
async fn a_failing_cloud_that_took_the_passings_or_did_not() {
    survives(&[
        ("500 before", |cloud| then(cloud, &[CloudFault::before(Answer::Status(500))])),
        ("500 after", |cloud| then(cloud, &[CloudFault::after(Answer::Status(500))])),
        ("502 twice before", |cloud| then(cloud, &vec![CloudFault::before(Answer::Status(502)); 2])),
        ("504 after", |cloud| then(cloud, &[CloudFault::after(Answer::message(504, "Endpoint request timed out"))])),
        ("seven taken, then 500", |cloud| then(cloud, &[CloudFault::partly(Apply::First(7), Answer::Status(500))])),
    ])
    .await;
}

#[tokio::test]
async fn a_connection_that_is_cut_or_never_answers() {
    survives(&[
        ("cut before", |cloud| then(cloud, &[CloudFault::before(Answer::Cut)])),
        ("cut after", |cloud| then(cloud, &[CloudFault::after(Answer::Cut)])),
        ("cut inside the answer", |cloud| then(cloud, &[CloudFault::after(Answer::CutInside)])),
        ("never answers, not taken", |cloud| then(cloud, &[CloudFault::before(Answer::Never)])),
        ("never answers, half taken", |cloud| then(cloud, &[CloudFault::partly(Apply::Half, Answer::Never)])),
        ("never answers, taken", |cloud| then(cloud, &[CloudFault::after(Answer::Never)])),
    ])
    .await;
}

#[tokio::test]
async fn something_else_that_answers_in_place_of_the_cloud() {
    survives(&[
        ("a portal", |cloud| then(cloud, &vec![CloudFault::before(Answer::html()); 2])),
        ("a portal, and yet taken", |cloud| then(cloud, &[CloudFault::after(Answer::html())])),
        // Followed, it would be a call that the fake does not know: a violation.
        ("a redirect", |cloud| then(cloud, &[CloudFault::before(Answer::Redirect(format!("{}/login", cloud.url())))])),
        ("a portal at the first question", |cloud| {
            cloud.fault_times(2, On::Active, CloudFault::before(Answer::html()))
        }),
        ("an empty answer, not taken", |cloud| then(cloud, &[CloudFault::before(Answer::empty(200))])),
        ("an empty answer, taken", |cloud| then(cloud, &[CloudFault::after(Answer::empty(200))])),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_documented() {
    survives(&[
        ("not JSON, not taken", |cloud| then(cloud, &[CloudFault::before(Answer::not_json())])),
        ("not JSON, taken", |cloud| then(cloud, &[CloudFault::after(Answer::not_json())])),
        ("no counts", |cloud| then(cloud, &[CloudFault::after(Answer::NoCounts)])),
        ("short counts that are true", |cloud| then(cloud, &[CloudFault::short(7)])),
        ("short counts that are not", |cloud| then(cloud, &[CloudFault::after(Answer::Counts(7))])),
        ("nothing counted, nothing taken", |cloud| then(cloud, &[CloudFault::short(0)])),
    ])
    .await;
}

#[tokio::test]
async fn a_cloud_that_fails_while_it_is_asked_what_it_holds() {
    survives(&[
        ("500, then questions cut", |cloud| {
            then(cloud, &[CloudFault::partly(Apply::Half, Answer::Status(500))]);
            cloud.fault(On::Held, CloudFault::after(Answer::Usual)); // of joining
            cloud.fault(On::Held, CloudFault::before(Answer::Cut));
            cloud.fault(On::Held, CloudFault::after(Answer::not_json()));
        }),
        ("500 at the first question", |cloud| {
            cloud.fault_times(2, On::Active, CloudFault::before(Answer::Status(500)))
        }),
        ("joining is cut", |cloud| cloud.fault_times(2, On::Held, CloudFault::before(Answer::CutInside))),
    ])
    .await;
}

#[tokio::test]
async fn a_cloud_that_asks_for_time_gets_it() {
    const WAIT: Duration = Duration::from_secs(1);
    for status in [429, 503] {
        let mut way = EndToEnd::with(Dedup::None, Generation::OpenApi).await;
        let token = way.session();
        then(&way.cloud, &[CloudFault::before(Answer::RetryAfter(status, "1".into()))]);
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        way.arrive(60, &daemon).await;
        way.holds(&token, &happened(&sim));
        let posts = way.cloud.posts();
        let at = posts.iter().position(|post| post.status == Some(status)).unwrap();
        let waited = posts[at + 1].at - posts[at].at;
        assert!(waited >= WAIT, "{status}: only {waited:?}");
        assert_eq!((posts[at + 1].first, posts[at + 1].last), (posts[at].first, posts[at].last), "the same again");
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_cloud_that_takes_fewer_at_once_gets_fewer() {
    together(CLOUDS.map(small)).await;
}

async fn small((dedup, generation): (Dedup, Generation)) {
    let mut way = EndToEnd::with(dedup, generation).await;
    way.cloud.configure(|config| config.max_items = 7);
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    way.holds(&token, &happened(&sim));
    assert!(way.cloud.posts().iter().any(|post| post.status == Some(413)), "it was tried with more");
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_passing_that_the_cloud_refuses_is_set_aside_and_holds_up_nobody() {
    together(CLOUDS.map(poisoned)).await;
}

async fn poisoned((dedup, generation): (Dedup, Generation)) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let mut expected = happened(&sim);
    let (bad, _) = expected.remove(33);
    assert!(expected.iter().all(|(chip, _)| *chip != bad), "this chip is seen once");
    way.cloud.poison(&bad, 400);
    let daemon = way.start().await;
    way.arrive(59, &daemon).await;
    let message = complains(&daemon, "passings_set_aside").await;
    assert!(message.contains(&bad), "{message}");
    sim.push(10);
    way.arrive(69, &daemon).await;
    expected.extend_from_slice(&happened(&sim)[60..]);
    assert_eq!(crossings(&way.cloud, &token), expected);
    let numbers: Vec<u64> = way.cloud.passings(&token).iter().map(|passing| passing.num).collect();
    assert_eq!(numbers, (1..=70).filter(|num| *num != 34).collect::<Vec<_>>(), "only the refused one's is missing");
    way.innocent();
    shows(&daemon, "one is set aside", |snapshot| snapshot.journal.dead_letters == 1).await;
    // The cloud has them before the box has its answer.
    let snapshot = shows(&daemon, "the rest is sent", |snapshot| snapshot.uploads[0].sent >= 69).await;
    assert_eq!(snapshot.uploads[0].sent, 69);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_hammered_with_and_nothing_is_lost_meanwhile() {
    together(CLOUDS.map(locked_out)).await;
}

async fn locked_out((dedup, generation): (Dedup, Generation)) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    way.cloud.configure(|config| config.keys.clear());
    sim.push(1);
    complains(&daemon, "key_refused").await;
    shows(&daemon, "it is refused", |snapshot| snapshot.uploads[0].state == UploadState::Refused).await;
    let posts = way.cloud.post_count();
    for more in 2..=20 {
        sim.push(1);
        keeps(&daemon, 60 + more).await;
    }
    assert_eq!(way.cloud.post_count(), posts, "no POST follows a refused key");
    way.cloud.configure(|config| config.keys = vec![(KEY.into(), passbridge::testing::sim::cloud::Access::ReadWrite)]);
    daemon.stop().await.unwrap();
    let daemon = way.start().await; // the next test of the key is three minutes away
    way.arrive(80, &daemon).await;
    assert!(!has_problem(&daemon.snapshot(), "key_refused"));
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn an_internet_that_is_away_for_a_while_delays_and_loses_nothing() {
    together(CLOUDS.map(away)).await;
}

async fn away((dedup, generation): (Dedup, Generation)) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    way.cloud.set_online(false).await;
    let since = Instant::now();
    for _ in 0..100 {
        sim.push(1);
    }
    keeps(&daemon, 160).await;
    shows(&daemon, "it is offline", |snapshot| snapshot.uploads[0].state == UploadState::Offline).await;
    assert_eq!(way.cloud.stored(), 60);
    way.cloud.set_online(true).await;
    way.arrive(160, &daemon).await;
    shows(&daemon, "all is well", |snapshot| {
        snapshot.uploads[0].state == UploadState::Idle && snapshot.uploads[0].last_error.is_none()
    })
    .await;
    assert!(since.elapsed() < LIMIT);
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}
