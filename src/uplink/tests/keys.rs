//! Keys that are refused, or may do one thing only, and devices that the cloud does not know.

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
    assert!((4..=7).contains(&tests), "{:?}", &world.trace[before..]);
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
    assert!(world.posts().len() <= 14, "{:?}", world.posts());
    world.cloud.may_write = true;
    world.drain();
    assert_eq!(problem(&world, "key_refused"), None);
}

#[test]
fn an_unknown_device_is_a_problem_of_its_own() {
    let mut world = World::with_session();
    world.read(1);
    world.cloud.script.push_back((On::Active, Fault::Answer(CallError::DeviceUnknown { answer: "no".into() })));
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
    world.until(is_post);
    world.crash(9);
    world.cloud.script.push_back((On::Insert, Fault::LostBefore));
    world.drain();
    world.audit();
    assert_eq!(world.cloud.sessions.len(), 1);
    assert!(problem(&world, "write_only_key").unwrap().contains("READ_WRITE"));
    // Closed with an unknown outcome that nobody may look into.
    world.read(10);
    world.cloud.script.push_back((On::Insert, Fault::LostAndClosed));
    world.until(is_post);
    world.read(10);
    world.drain();
    assert_eq!((world.store.quarantined.len(), world.rows(1).len()), (10, 10));
}

#[test]
fn reading_refused_in_the_middle_of_a_question_goes_on_with_what_the_journal_knows() {
    let mut world = World::with_session();
    world.read(1);
    world.drain();
    world.read(5);
    world.cloud.script.push_back((On::Insert, Fault::LostBefore));
    world.until(is_post);
    world.cloud.may_read = false;
    world.drain();
    assert!(problem(&world, "write_only_key").is_some());
    world.cloud.may_read = true;
    world.pass(400 * SECOND);
    assert_eq!(problem(&world, "write_only_key"), None);
    world.audit();
}
