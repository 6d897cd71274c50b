//! What may be believed, and when: clouds whose answers have a lag, that refuse questions, or that
//! fail at one passing.

use super::*;

#[test]
fn what_is_not_shown_yet_is_not_sent_again() {
    for lag in [1, 3, 8, 10] {
        for dedup in [false, true] {
            let mut world = World::with_session();
            (world.cloud.dedup, world.cloud.lag) = (dedup, lag * SECOND);
            for fault in [CallFault::LostAfter, CallFault::LostBefore, CallFault::LostAndClosed, CallFault::LostLate] {
                let late = fault == CallFault::LostLate;
                if late && lag > 8 {
                    continue; // 6 s late and 10 s of lag are more than the uplink waits for
                }
                world.read(30);
                world.cloud.script.push_back((On::Insert, fault));
                world.until(is_post);
                world.read(5);
                if world.cloud.sessions.iter().all(|session| !session.active) {
                    world.cloud.open();
                }
                world.drain();
            }
            world.audit_reads();
        }
    }
}

#[test]
fn a_process_that_dies_with_a_post_on_its_way_waits_as_long() {
    let mut world = World::with_session();
    (world.cloud.dedup, world.cloud.lag) = (false, 10 * SECOND);
    world.read(30);
    world.drain();
    world.read(30);
    world.cloud.script.push_back((On::Insert, CallFault::LostAfter));
    world.until(is_post);
    world.crash(0);
    world.drain();
    world.audit();
}

#[test]
fn a_poll_that_shows_an_older_session_gives_no_number_again() {
    let mut world = World::with_session();
    (world.cloud.dedup, world.cloud.lag) = (false, 2 * SECOND);
    world.read(50);
    world.drain();
    world.cloud.open();
    world.read(50);
    world.drain();
    for round in 0..10 {
        world.cloud.script.extend((0..round % 4).map(|_| (On::Active, CallFault::Stale)));
        world.read(7);
        world.pass(25 * SECOND);
    }
    world.drain();
    world.audit_reads();
    for session in 0..2 {
        let nums: Vec<u64> = world.rows(session).into_iter().map(|(num, _)| num).collect();
        assert!(nums.windows(2).all(|pair| pair[0] < pair[1]), "{nums:?}");
    }
}

#[test]
fn a_question_that_is_refused_is_put_in_another_form() {
    for (longest, no_ranges) in [(Some(10_000), false), (Some(103), false), (Some(13), false), (None, true)] {
        let mut world = World::with_session();
        (world.cloud.dedup, world.cloud.longest_range, world.cloud.no_ranges) = (false, longest, no_ranges);
        world.read(150);
        world.drain();
        world.read(150);
        world.cloud.script.extend([(On::Insert, CallFault::LostAfter), (On::Insert, CallFault::LostBefore)]);
        world.drain();
        world.audit();
        assert!(world.now < 120 * SECOND, "{longest:?} {no_ranges}: {:?}", world.now);
    }
}

#[test]
fn two_writers_that_take_each_others_numbers_lose_nothing() {
    for (dedup, counts, lag) in [
        (true, (true, true), 0),
        (true, (false, false), 0),
        (true, (true, true), 5),
        (true, (false, false), 5),
        (false, (true, true), 0),
        (false, (false, false), 2),
    ] {
        let mut world = World::with_session();
        (world.cloud.dedup, world.cloud.counts, world.cloud.lag) = (dedup, counts, lag * SECOND);
        world.cloud.writer = Some((fastrand::Rng::with_seed(3), 0.2));
        for _ in 0..20 {
            world.read(10);
            world.pass(SECOND);
        }
        world.drain();
        world.cloud.writer = None;
        world.read(1);
        world.drain();
        world.pass(60 * SECOND);
        world.audit_reads();
        assert_eq!(world.store.dead_letters, [], "{dedup} {counts:?}");
        assert!(problem(&world, "other_writer").is_some(), "{dedup} {counts:?}");
    }
}

#[test]
fn a_passing_at_which_the_cloud_fails_holds_up_nobody_and_is_tried_again_every_hour() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.read(63);
    world.read_chip("FAIL");
    world.read(336);
    let start = world.now;
    while world.ours(0).len() < 399 {
        world.step();
    }
    assert!(world.now - start < 100 * SECOND, "the others are there after {:?}", world.now - start);
    while world.store.dead_letters.is_empty() {
        world.read(1);
        world.pass(2 * SECOND);
        let (there, all) = (world.ours(0).len(), world.store.reads.len());
        assert_eq!(there, all - 1, "nobody waits while it is tried again: {:#?}", world.trace);
    }
    assert!(world.now - start > 120 * SECOND, "not before it failed for two minutes: {:?}", world.now - start);
    assert!(world.store.dead_letters[0].2.contains("fails at it"), "{:?}", world.store.dead_letters);
    let before = world.posts().len();
    world.pass(1800 * SECOND);
    assert_eq!(world.posts().len(), before, "not before an hour is over");
    world.crash(0);
    world.cloud.fails_at = "NONE";
    world.pass(200 * SECOND);
    assert_eq!(world.store.dead_letters, []);
    world.audit_reads();
}

#[test]
fn a_cloud_that_fails_at_everything_gets_nothing_set_aside() {
    let mut world = World::with_session();
    world.cloud.fails_at = "C";
    world.read(100);
    world.pass(1800 * SECOND);
    world.cloud.fails_at = "NONE";
    world.drain();
    world.audit_reads();
    assert_eq!(world.store.dead_letters, []);
}

#[test]
fn an_older_copy_of_the_data_directory_sends_nothing_twice_also_into_another_session() {
    for another in [false, true] {
        let mut world = World::with_session();
        world.cloud.dedup = false;
        world.read(300);
        world.drain();
        world.read(300);
        let copy = world.store.log.len();
        world.drain();
        if another {
            world.cloud.open();
        }
        world.restore(copy);
        world.read(10);
        world.drain();
        world.audit_reads();
        assert_eq!(world.store.found.len(), 300);
    }
}

#[test]
fn answers_that_take_two_seconds_get_larger_posts() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.slow = 2 * SECOND;
    world.read(20_000);
    while world.cloud.sessions[0].rows.len() < 2000 {
        world.step(); // the size grows
    }
    let (start, before) = (world.now, world.cloud.sessions[0].rows.len());
    world.drain();
    world.audit();
    let rate = (20_000 - before) as f64 / (world.now - start).as_secs_f64();
    assert!(rate >= 240.0, "{rate}");
}

#[test]
fn a_session_is_created_only_after_the_cloud_said_none_for_half_a_minute() {
    let mut world = World::new(SessionMode::Create);
    world.cloud.open();
    world.read(1);
    world.drain();
    world.cloud.hide_active = 2;
    world.pass(25 * SECOND);
    world.cloud.hide_active = 2;
    world.read(1);
    world.drain();
    assert_eq!(world.cloud.sessions.len(), 1);
    let unknown = CallError::Unknown { why: OutcomeDoubt::Unreadable("{}".into()), retry_after: None };
    world.cloud.script.extend((0..1000).map(|_| (On::Active, CallFault::Answer(unknown.clone()))));
    world.pass(600 * SECOND);
    assert!(problem(&world, "cloud_not_understood").unwrap().contains("{}"));
    world.cloud.script.clear();
    world.drain();
    assert_eq!(world.cloud.sessions.len(), 1, "an answer that cannot be understood is not \"none\"");
    let start = world.now;
    world.cloud.close();
    world.read(1);
    world.drain();
    assert_eq!(world.cloud.sessions.len(), 2);
    assert!(world.now - start >= 30 * SECOND, "{:?}", world.now - start);
}

#[test]
fn a_session_that_the_cloud_does_not_create_is_a_problem_until_it_does() {
    let mut world = World::new(SessionMode::Create);
    world.read(5);
    let refused = CallError::BadRequest { status: 400, answer: "alias".into() };
    world.cloud.script.extend((0..3).map(|_| (On::Create, CallFault::Answer(refused.clone()))));
    let told = (0..10_000).any(|_| {
        world.step();
        problem(&world, "session_not_created").is_some()
    });
    assert!(told, "{:#?}", world.trace);
    world.drain();
    assert_eq!(problem(&world, "session_not_created"), None);
    assert_eq!((world.cloud.sessions.len(), world.rows(0).len()), (1, 5));
}
