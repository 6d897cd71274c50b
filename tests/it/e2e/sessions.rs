//! Sessions that are opened late, closed early, and shared.

use passbridge::testing::sim::cloud::{
    Answer, Apply, Closed, CloudFault, DEVICE, Dedup, Generation, NoSession, On, SimCloudConfig, StoredPassing,
};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::UploadState;

use crate::support::e2e::*;

/// Takes as long as the box waits between two looks for a session: 8 to 12 s.
#[tokio::test]
async fn reads_wait_without_a_session_and_go_up_by_themselves_when_one_is_opened() {
    let mut way = EndToEnd::new().await;
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    shows(&daemon, "there is no session", |snapshot| snapshot.uploads[0].state == UploadState::NoSession).await;
    keeps(&daemon, 60).await;
    assert_eq!(way.cloud.post_count(), 0);
    let token = way.session();
    way.arrive(60, &daemon).await;
    way.holds(&token, &happened(&sim));
    let session = daemon.snapshot().uploads[0].session.clone().unwrap();
    assert_eq!(session.alias.as_deref(), Some("Race"));
    assert!(token.ends_with(&session.token_tail) && session.token_tail.len() == 6);
    daemon.stop().await.unwrap();
}

/// None, then A; A is closed while a POST of twenty has an unknown outcome, `apply` of it; then B.
async fn from_a_to_b(change: fn(&mut SimCloudConfig), dedup: Dedup, generation: Generation, apply: Apply) {
    let case = format!("{dedup:?}, {generation:?}, {apply:?}");
    let mut way = EndToEnd::with(dedup, generation).await;
    way.cloud.configure(change);
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    shows(&daemon, "there is no session", |snapshot| snapshot.uploads[0].state == UploadState::NoSession).await;
    keeps(&daemon, 60).await;
    daemon.stop().await.unwrap();

    let a = way.session();
    way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
    way.cloud.fault(On::Insert, CloudFault::partly(apply, Answer::Cut).closing());
    let daemon = way.start().await;
    let closed =
        way.cloud.wait_until(LIMIT, |cloud| cloud.sessions(DEVICE).iter().all(|session| !session.active)).await;
    assert!(closed, "{case}: A was never closed");
    let b = way.cloud.open_session(DEVICE, "B");
    way.arrive(60, &daemon).await;
    sim.push(10);
    way.arrive(70, &daemon).await;
    daemon.stop().await.unwrap();

    let in_a = way.cloud.posts()[..2].iter().map(|post| post.inserted).sum::<usize>();
    let expected = happened(&sim);
    assert_eq!(crossings(&way.cloud, &a), expected[..in_a], "{case}");
    assert_eq!(crossings(&way.cloud, &b), expected[in_a..], "{case}: what A does not hold, each once and in order");
    way.sound(&a);
    way.sound(&b);
}

#[tokio::test]
async fn what_a_closed_session_holds_of_an_unknown_batch_is_not_sent_to_the_next_one_and_the_rest_is() {
    let every = [Apply::Nothing, Apply::First(7), Apply::All];
    let runs = |(dedup, generation)| every.map(|apply| from_a_to_b(|_| {}, dedup, generation, apply));
    together(CLOUDS.into_iter().flat_map(runs)).await;
}

#[tokio::test]
async fn however_the_cloud_says_that_a_session_is_closed_or_that_there_is_none() {
    let spellings: [fn(&mut SimCloudConfig); 4] = [
        |config| (config.closed, config.no_session) = (Closed::BadRequest, NoSession::Empty),
        |config| (config.closed, config.no_session) = (Closed::OkText, NoSession::Null),
        |config| config.no_session = NoSession::Text,
        |config| config.no_session = NoSession::Inactive,
    ];
    let generations = [Generation::Legacy, Generation::OpenApi, Generation::Gateway];
    let runs = |change| generations.map(|generation| from_a_to_b(change, Dedup::None, generation, Apply::First(7)));
    together(spellings.into_iter().flat_map(runs)).await;
}

#[tokio::test]
async fn numbers_begin_above_what_somebody_else_has_sent_into_the_session() {
    for (dedup, generation) in CLOUDS {
        let mut way = EndToEnd::with(dedup, generation).await;
        way.cloud.configure(|config| config.page_size = 15); // several pages to look through
        let token = way.session();
        let foreign: Vec<StoredPassing> =
            (1..=40).map(|num| StoredPassing { num: num * 3, time_ms: 1, chip: None, bib: "other".into() }).collect();
        way.cloud.put_foreign(&token, &foreign);
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start().await;
        way.arrive(100, &daemon).await;
        let numbers: Vec<u64> = way.cloud.passings(&token)[40..].iter().map(|passing| passing.num).collect();
        assert_eq!(numbers, (121..=180).collect::<Vec<_>>());
        assert_eq!(crossings(&way.cloud, &token)[40..], happened(&sim));
        way.innocent();
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_session_goes_on_with_its_numbers_after_a_restart_and_a_new_one_begins_at_one() {
    let mut way = EndToEnd::new().await;
    let a = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 30).await;
    for stored in [30, 45, 60] {
        let daemon = way.start().await;
        way.arrive(stored, &daemon).await;
        daemon.stop().await.unwrap();
        sim.push(15);
    }
    let b = way.session();
    let daemon = way.start().await;
    way.arrive(75, &daemon).await;
    daemon.stop().await.unwrap();
    let expected = happened(&sim);
    way.holds(&a, &expected[..60]);
    way.holds(&b, &expected[60..]);
}
