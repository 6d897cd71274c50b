//! A `device_id` that was wrong and is corrected between two starts: what follows to the right
//! device, and what must not.

use passbridge::testing::daemon::Daemon;
use passbridge::testing::journal::{Unsettled, unsettled};
use passbridge::testing::serve::control::{self, ControlError, ControlRequest};
use passbridge::testing::sim::cloud::{Answer, Apply, CloudFault, DEVICE, Dedup, On};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use serde_json::{Value, json};

use crate::support::e2e::*;

/// The device that was meant.
const RIGHT: &str = "65A1000000000000000000000000000000000000000000000000000000000002";

/// A cloud that knows both devices, and a box that has the wrong one, with sixty reads that wait
/// for a session.
async fn wrong_device(dedup: Dedup) -> (EndToEnd, SimDecoder) {
    let mut way = EndToEnd::with(dedup, CLOUDS[0].1).await;
    way.cloud.configure(|config| config.devices.push((RIGHT.into(), "right".into())));
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    keeps(&daemon, 60).await;
    daemon.stop().await.unwrap();
    (way, sim)
}

/// The correction, and a start with it.
async fn corrected(way: &mut EndToEnd) -> Daemon {
    way.config.cloud.as_mut().unwrap().device_id = Some(RIGHT.into());
    way.start().await
}

async fn follow(way: &EndToEnd, from: &str, to: &str) -> Result<Value, ControlError> {
    control::ask(way.data(), ControlRequest::Adopt { from: from.into(), to: to.into() }).await
}

/// Everything in either session, each once; in the right one in order and numbered without a hole.
fn all_once(way: &EndToEnd, wrong: &str, right: &str, sim: &SimDecoder) {
    let mut all = [crossings(&way.cloud, wrong), crossings(&way.cloud, right)].concat();
    all.sort_by_key(|(_, ms)| *ms);
    let mut expected = happened(sim);
    expected.sort_by_key(|(_, ms)| *ms);
    assert_eq!(all, expected);
    way.sound(right);
}

#[tokio::test]
async fn what_the_closed_session_of_the_wrong_device_gave_back_follows_when_it_is_said_and_not_before() {
    for (dedup, _) in CLOUDS {
        let (mut way, sim) = wrong_device(dedup).await;
        let wrong = way.session();
        way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
        way.cloud.fault(On::Insert, CloudFault::partly(Apply::First(7), Answer::Cut).closing());
        let daemon = way.start().await;
        let mut changed = daemon.journal().unwrap().changed();
        let released = changed.wait_for(|_| !daemon.journal().unwrap().released(DEVICE).is_empty());
        tokio::time::timeout(LIMIT, released).await.expect("some are given back").unwrap();
        let given_back = daemon.journal().unwrap().released(DEVICE).len();
        daemon.stop().await.unwrap();
        assert_eq!(unsettled(way.data()).unwrap()[DEVICE], Unsettled { in_flight: 0, released: given_back });

        let right = way.cloud.open_session(RIGHT, "Right");
        let daemon = corrected(&mut way).await;
        sim.push(5);
        let here = way.cloud.passings(&wrong).len();
        way.arrive(65 - given_back, &daemon).await;
        let told = complains(&daemon, "passings_without_device").await;
        assert!(told.contains(&format!("{given_back} passings of device {DEVICE}")), "{told}");
        assert!(told.contains(&format!("resend --from-device {DEVICE}")), "{told}");
        let answer = follow(&way, DEVICE, RIGHT).await.unwrap();
        assert_eq!(answer, json!({ "moved": given_back, "settled": 0, "left": 0, "why": null }));
        way.arrive(65, &daemon).await;
        let over = |snapshot: &_| !has_problem(snapshot, "passings_without_device");
        shows(&daemon, "nothing is left behind", over).await;
        assert_eq!(follow(&way, DEVICE, RIGHT).await.unwrap()["moved"], 0, "they follow once");
        assert_eq!(way.cloud.passings(&wrong).len(), here);
        all_once(&way, &wrong, &right, &sim);
        let daemon = restarted(&way, daemon).await;
        way.arrive(65, &daemon).await;
        shows(&daemon, "nothing waits", |snapshot| snapshot.journal.pending == 0 && snapshot.journal.serving).await;
        all_once(&way, &wrong, &right, &sim);
        daemon.stop().await.unwrap();
        assert!(unsettled(way.data()).unwrap().is_empty());
    }
}

async fn restarted(way: &EndToEnd, daemon: Daemon) -> Daemon {
    daemon.stop().await.unwrap();
    way.start().await
}

#[tokio::test]
async fn what_may_be_in_the_wrong_session_stays_until_the_cloud_tells_and_what_is_there_never_follows() {
    for apply in [Apply::Nothing, Apply::First(7), Apply::All] {
        let (mut way, sim) = wrong_device(Dedup::None).await;
        let wrong = way.session();
        way.cloud.fault_always(On::Insert, CloudFault::partly(apply, Answer::Cut));
        let daemon = way.start().await;
        assert!(way.cloud.wait_until(LIMIT, |cloud| cloud.post_count() > 0).await);
        way.cloud.fault_always(On::Held, CloudFault::before(Answer::Status(503)));
        daemon.stop().await.unwrap();
        let there = way.cloud.passings(&wrong).len();
        let in_flight = unsettled(way.data()).unwrap()[DEVICE].in_flight;

        let right = way.cloud.open_session(RIGHT, "Right");
        way.cloud.clear_faults();
        let daemon = corrected(&mut way).await;
        sim.push(5);
        way.arrive(there + 65 - in_flight, &daemon).await;
        way.cloud.fault_always(On::Held, CloudFault::before(Answer::Status(503)));
        let answer = follow(&way, DEVICE, RIGHT).await.unwrap();
        assert_eq!((&answer["moved"], &answer["left"]), (&0.into(), &in_flight.into()), "{apply:?}: {answer}");
        assert!(answer["why"].as_str().unwrap().contains("could not be asked"), "{answer}");
        way.cloud.clear_faults();
        // The cloud shows what it holds a moment late: one answer that lacks it is not enough.
        let empty = r#"{"description":"Success","result":[]}"#.to_owned();
        let empty = Answer::Text { status: 200, content_type: "application/json", body: empty };
        way.cloud.fault(On::Held, CloudFault::before(empty));
        let answer = follow(&way, DEVICE, RIGHT).await.unwrap();
        assert_eq!((&answer["settled"], &answer["left"]), (&there.into(), &0.into()), "{apply:?}: {answer}");
        assert_eq!(answer["moved"], in_flight - there);
        way.arrive(65, &daemon).await;
        shows(&daemon, "nothing waits", |snapshot| snapshot.journal.pending == 0).await;
        assert_eq!(way.cloud.passings(&wrong).len(), there, "{apply:?}: nothing more went to the wrong device");
        all_once(&way, &wrong, &right, &sim);
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_taken_from_a_device_that_is_still_in_use_nor_given_to_one_that_is_not() {
    let (way, _sim) = wrong_device(Dedup::None).await;
    let daemon = way.start().await;
    for (from, to, why) in [(DEVICE, DEVICE, "is in the configuration"), (RIGHT, "X", "does not upload for device X")] {
        let refused = follow(&way, from, to).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    daemon.stop().await.unwrap();
}
