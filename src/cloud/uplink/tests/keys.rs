//! Keys that are refused, or that may only read or only write, and devices that the cloud does not
//! know.

use super::*;

#[test]
fn a_refused_key_stops_the_posts_and_is_tested_every_few_minutes() {
    let mut world = World::with_session();
    world.read(1);
    world.drain();
    (world.cloud.may_read, world.cloud.may_write) = (false, false);
    world.read(10);
    world.until(is_post);
    world.step();
    let before = world.trace.len();
    world.pass(1000 * SECOND);
    let tests = world.trace[before..].len();
    assert!((6..=11).contains(&tests), "5 s, 20 s, a minute, then every three: {:?}", &world.trace[before..]);
    assert_eq!(world.machine.report().state, UploadState::Refused);
    assert!(problem(&world, "key_refused").unwrap().contains("READ_WRITE"));
    (world.cloud.may_read, world.cloud.may_write) = (true, true);
    world.drain();
    world.audit();
    assert_eq!(problem(&world, "key_refused"), None);
}

#[test]
fn a_key_that_may_only_read_is_shown_as_refused_until_a_post_succeeds() {
    let mut world = World::with_session();
    world.cloud.may_write = false;
    world.read(1);
    world.pass(2000 * SECOND);
    assert!(problem(&world, "key_refused").is_some());
    assert!(world.posts().len() <= 17, "{:?}", world.posts());
    world.cloud.may_write = true;
    world.drain();
    assert_eq!(problem(&world, "key_refused"), None);
}

#[test]
fn an_unknown_device_is_a_problem_of_its_own() {
    let mut world = World::with_session();
    world.read(1);
    world.cloud.script.push_back((On::Active, CallFault::Answer(CallError::DeviceUnknown { answer: "no".into() })));
    world.step();
    assert_eq!(world.machine.report().state, UploadState::Refused);
    assert!(problem(&world, "device_unknown").unwrap().contains("device_id"));
    world.drain();
    assert_eq!(problem(&world, "device_unknown"), None);
}

#[test]
fn a_key_that_may_only_write_uploads_into_its_own_session_and_says_what_that_means() {
    let mut world = World::new(SessionMode::Create);
    world.cloud.may_read = false;
    world.read(150);
    world.drain();
    world.audit();
    assert_eq!(world.cloud.sessions.len(), 1);
    assert!(problem(&world, "write_only_key").unwrap().contains("READ_WRITE"));
    // The session closes with an unknown outcome, and the key may not ask about it.
    world.read(10);
    world.cloud.script.push_back((On::Insert, CallFault::LostAndClosed));
    world.until(is_post);
    world.read(10);
    world.pass(600 * SECOND);
    assert_eq!(world.posts().len(), 3, "nothing of unknown fate goes again unasked: {:?}", world.posts());
    assert!(problem(&world, "cannot_ask").unwrap().contains("10 passings"));
    world.cloud.may_read = true;
    world.drain();
    world.audit();
    assert_eq!((problem(&world, "cannot_ask"), problem(&world, "write_only_key")), (None, None));
}

#[test]
fn one_refused_question_is_not_blindness() {
    for on in [On::Held, On::Active] {
        let mut world = World::with_session();
        world.cloud.dedup = false;
        world.read(1);
        world.drain();
        let refused =
            CallError::KeyRefused { status: 403, fault: crate::cloud::rufus::KeyFault::Rejected, answer: "no".into() };
        world.cloud.script.extend([(On::Insert, CallFault::LostAfter), (on, CallFault::Answer(refused))]);
        world.read(13);
        world.drain();
        world.audit();
        assert_eq!(problem(&world, "write_only_key"), None, "{on:?}");
    }
}

#[test]
fn questions_that_are_refused_while_the_session_is_shown_leave_doubts_where_they_are_and_others_go() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.read(1);
    world.drain();
    world.read(5);
    world.cloud.script.push_back((On::Insert, CallFault::LostBefore));
    let refused =
        CallError::KeyRefused { status: 403, fault: crate::cloud::rufus::KeyFault::Rejected, answer: "no".into() };
    world.cloud.script.extend((0..400).map(|_| (On::Held, CallFault::Answer(refused.clone()))));
    world.until(is_post);
    world.pass(100 * SECOND);
    assert!(problem(&world, "cannot_ask").is_some(), "{:#?}", world.trace);
    world.cloud.script.clear();
    world.drain();
    world.audit();
    assert_eq!(problem(&world, "cannot_ask"), None);
}

#[test]
fn another_key_is_tried_at_once() {
    let mut world = World::with_session();
    (world.cloud.may_read, world.cloud.may_write) = (false, false);
    world.read(10);
    world.pass(1000 * SECOND);
    (world.cloud.may_read, world.cloud.may_write) = (true, true);
    let before = world.now;
    world.machine.put(world.now, Input::NewKey);
    world.drain();
    assert!(world.now - before < 2 * SECOND, "{:?}", world.now - before);
}

#[test]
fn a_wrong_key_in_the_place_of_a_good_one_is_refused_and_not_called_one_that_may_only_write() {
    for mode in [SessionMode::Active, SessionMode::Create] {
        let mut world = if mode == SessionMode::Active { World::with_session() } else { World::new(mode) };
        world.read(5);
        world.drain();
        (world.cloud.may_read, world.cloud.may_write) = (false, false);
        world.machine.put(world.now, Input::NewKey);
        // Nothing is read, so only questions go to the cloud.
        for _ in 0..200 {
            world.pass(10 * SECOND);
            assert_eq!(problem(&world, "write_only_key"), None, "nothing shows that this key may write");
            let told = problem(&world, "key_refused").expect("it is told at the first question");
            assert!(told.contains("read from its file last, and the one before it is not used"), "{told}");
        }
        world.read(5);
        world.pass(100 * SECOND);
        assert_eq!(world.machine.report().state, UploadState::Refused);
        assert!(problem(&world, "key_refused").unwrap().contains("the one before it is not used"));
        (world.cloud.may_read, world.cloud.may_write) = (true, true);
        world.machine.put(world.now, Input::NewKey);
        world.drain();
        world.audit();
        assert_eq!((problem(&world, "key_refused"), problem(&world, "write_only_key")), (None, None));
    }
}

#[test]
fn a_key_that_may_only_write_in_the_place_of_a_good_one_is_called_so_once_it_has_written() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.cloud.may_read = false;
    world.machine.put(world.now, Input::NewKey);
    world.pass(600 * SECOND);
    assert!(problem(&world, "key_refused").is_some() && problem(&world, "write_only_key").is_none());
    world.read(5);
    world.pass(1500 * SECOND);
    world.read(5);
    world.drain();
    world.audit();
    assert_eq!(problem(&world, "key_refused"), None);
    assert!(problem(&world, "write_only_key").is_some());
}

#[test]
fn one_refused_post_is_tried_again_after_seconds() {
    let mut world = World::with_session();
    world.read(1);
    let refused =
        CallError::KeyRefused { status: 403, fault: crate::cloud::rufus::KeyFault::Rejected, answer: "rate".into() };
    world.cloud.script.push_back((On::Insert, CallFault::Answer(refused)));
    world.drain();
    assert!(world.now < 10 * SECOND, "{:?}", world.now);
}
