//! Networks that are down, slow, or impatient.

use super::*;
use crate::cloud::rufus::{Distrust, NotSent};

#[test]
fn while_nobody_is_reached_a_try_comes_every_few_seconds_whatever_the_longest_wait() {
    let mut world = World::with_session();
    world.read(1);
    world.drain();
    world.read(50);
    for on in [On::Insert, On::Active, On::Held] {
        world.cloud.script.extend((0..2000).map(|_| (on, CallFault::NotSent)));
    }
    let mut longest = Duration::ZERO;
    while world.now < 600 * SECOND {
        let before = world.now;
        world.step();
        longest = longest.max(world.now - before);
    }
    assert!((8 * SECOND..=12 * SECOND).contains(&longest), "{longest:?}");
    assert_eq!(world.machine.report().state, UploadState::Offline);
    let problems = world.machine.report().problems;
    assert!(problems.contains_key(&ProblemCode::CloudSilent));
    assert!(problems.contains_key(&ProblemCode::UploadStands), "nothing was settled for a minute: {problems:?}");
    world.cloud.script.clear();
    world.drain();
    world.audit();
    assert!(!world.machine.report().problems.contains_key(&ProblemCode::UploadStands));
}

#[test]
fn that_there_is_no_internet_is_said_only_where_that_is_known_and_once() {
    let doubt = |why| CallError::Unknown { why, retry_after: None };
    for (error, code, begins) in [
        (CallError::NotSent(NotSent::Name), ProblemCode::Offline, "the cloud cannot be reached: its name"),
        (
            CallError::NotSent(NotSent::Unreachable("no route".to_owned())),
            ProblemCode::Offline,
            "the cloud cannot be reached: no network (no route)",
        ),
        (CallError::Portal, ProblemCode::Offline, "offline: a captive portal"),
        (
            CallError::NotSent(NotSent::Refused),
            ProblemCode::CloudSilent,
            "the cloud cannot be reached: the connection is refused",
        ),
        (
            CallError::NotSent(NotSent::Slow),
            ProblemCode::CloudSilent,
            "the cloud cannot be reached: nothing comes back",
        ),
        (doubt(OutcomeDoubt::Timeout), ProblemCode::CloudSilent, "no whole answer in time"),
        (doubt(OutcomeDoubt::Cut("reset".to_owned())), ProblemCode::CloudSilent, "the connection was cut"),
    ] {
        let mut world = World::with_session();
        world.cloud.script.push_back((On::Active, CallFault::Answer(error.clone())));
        world.until(|action| *action == Action::AskActive);
        let problems = world.machine.report().problems;
        assert_eq!(problems.keys().collect::<Vec<_>>(), [&code], "{error:?}");
        let text = &problems[&code];
        assert!(text.starts_with(begins) && text.matches("cannot be reached").count() <= 1, "{text}");
    }
}

/// The size of each POST so far, and whether it was accepted.
fn sizes(world: &World) -> Vec<(u64, bool)> {
    let size = |post: &str| {
        let mut words = post.split(' ').skip(1);
        let (first, last) = words.next().unwrap().split_once('-').unwrap();
        let count = last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1;
        (count, words.next() == Some("ok"))
    };
    world.posts().into_iter().map(size).collect()
}

#[test]
fn behind_a_proxy_that_cuts_at_thirty_seconds_batches_get_smaller_until_they_pass_and_seldom_too_large_again() {
    let mut world = World::with_session();
    world.line = Some((SECOND, 30 * SECOND));
    world.read(3000);
    world.drain();
    let posts = sizes(&world);
    let cut = |posts: &[(u64, bool)]| posts.iter().filter(|(_, passed)| !passed).count();
    assert_eq!(posts[..3], [(100, false), (50, false), (25, true)], "each cut halves");
    assert!(cut(&posts) <= 6, "{posts:?}");
    // The lower limit is a second for each passing.
    assert!(world.now < 3300 * SECOND, "{:?}", world.now);
    world.audit();
}

#[test]
fn a_cut_after_long_is_followed_by_a_smaller_try_soon_not_by_a_growing_wait() {
    let mut world = World::with_session();
    world.line = Some((40 * SECOND, 30 * SECOND));
    world.read(200);
    while sizes(&world).len() < 8 {
        world.step();
    }
    assert!(world.now < 8 * (33 + 16) * SECOND, "{:?}", world.now);
}

#[test]
fn a_clock_or_a_certificate_that_is_wrong_is_a_problem_until_it_is_right() {
    let mut world = World::with_session();
    world.read(5);
    let shows = jiff::Timestamp::UNIX_EPOCH;
    let wrong = CallError::NotSent(NotSent::Distrust(Distrust::BoxClock { shows }));
    world.cloud.script.extend((0..3).map(|_| (On::Active, CallFault::Answer(wrong.clone()))));
    world.pass(SECOND / 2);
    assert!(problem(&world, "box_clock_wrong").unwrap().contains("1970-01-01"));
    let other = CallError::NotSent(NotSent::Distrust(Distrust::UnknownIssuer));
    world.cloud.script.clear();
    world.cloud.script.push_back((On::Active, CallFault::Answer(other)));
    world.until(|action| *action == Action::AskActive);
    assert_eq!(problem(&world, "box_clock_wrong"), None);
    assert!(problem(&world, "cloud_not_trusted").unwrap().contains("captive portal"));
    world.drain();
    assert_eq!(world.machine.report().problems.len(), 0);
    world.audit();
}

#[test]
fn how_fast_it_goes_is_told_while_reads_wait_and_not_at_rest() {
    let mut world = World::with_session();
    world.line = Some((SECOND / 10, 30 * SECOND));
    world.read(1000);
    let mut told = Vec::new();
    while world.store.unsettled() {
        world.step();
        told.extend(world.machine.report().per_minute);
    }
    assert!(told.iter().any(|pace| (500..=600).contains(pace)), "{told:?}");
    world.pass(20 * SECOND);
    assert_eq!(world.machine.report().per_minute, None);
}
