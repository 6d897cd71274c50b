mod again;
mod keys;
mod network;
mod orders;
mod proof;

use std::time::Duration;

use proptest::prelude::*;

use super::machine::{Action, Input, ResendPermit};
use super::model::{CallFault, On, World};
use crate::cloud::rufus::{CallError, CloudPassing, Inserted, OutcomeDoubt, Scope, Session};
use crate::config::SessionMode;
use crate::journal::UploadEvent;
use crate::status::{ProblemCode, UploadState};

const SECOND: Duration = Duration::from_secs(1);

fn is_post(action: &Action) -> bool {
    matches!(action, Action::Post { .. })
}

fn is_batch(action: &Action) -> bool {
    matches!(action, Action::Record(UploadEvent::Batch(_)))
}

fn foreign(num: u64) -> CloudPassing {
    CloudPassing { num: Some(num), time_ms: Some(5), bib: Some("9".into()), chip: Some("OTHER".into()), session: None }
}

fn problem(world: &World, code: &str) -> Option<String> {
    world.machine.report().problems.into_iter().find(|(known, _)| known.word() == code).map(|(_, text)| text)
}

#[test]
fn without_a_session_reads_wait_and_the_cloud_is_asked_every_ten_seconds() {
    let mut world = World::new(SessionMode::Active);
    world.read(3);
    let mut asked = Vec::new();
    while asked.len() < 20 {
        if world.step() == Action::AskActive {
            asked.push(world.now);
        }
    }
    assert!(asked.windows(2).all(|pair| (8 * SECOND..=12 * SECOND + SECOND / 10).contains(&(pair[1] - pair[0]))));
    assert_eq!(world.machine.report().state, UploadState::NoSession);
    let problems: Vec<_> = world.machine.report().problems.into_keys().collect();
    assert_eq!(problems, [ProblemCode::NoSession]);
    world.cloud.open();
    world.drain();
    assert_eq!(world.machine.report().problems.len(), 0, "it is over with the session");
    assert_eq!(world.rows(0), [(1, "C1"), (2, "C2"), (3, "C3")]);
}

#[test]
fn reads_that_waited_are_numbered_with_the_next_read_and_without_it_a_moment_later() {
    let mut world = World::with_session();
    world.read(1);
    world.drain();
    let mut alone = Vec::new();
    for _ in 0..2 {
        world.read(2);
        while !matches!(world.machine.next(world.now), Action::Wait { offer: Some(_), reads: false, .. }) {
            assert!(!is_batch(&world.step()), "a batch of its own, and no read was waited for");
        }
        let due = world.now;
        world.read(1); // every second offer of the model comes too late for its read
        let formed = is_batch(&world.until(|action| is_batch(action) || is_post(action)));
        world.drain();
        assert!(world.now - due < SECOND / 5, "the reads waited for {:?}", world.now - due);
        alone.push(formed);
    }
    alone.sort_unstable();
    assert_eq!(alone, [false, true]);
    assert_eq!(world.posts(), ["SESSION-A 1-1 ok", "SESSION-A 2-4 ok", "SESSION-A 5-7 ok"]);
    world.audit();
}

#[test]
fn without_a_linger_no_read_wakes_the_uplink_before_the_next_post_may_go_and_all_of_them_go_then() {
    let mut world = World::with_session();
    world.config.upload.linger = Duration::ZERO;
    world.crash(0);
    world.read(1);
    world.drain();
    let rested = world.now + world.config.upload.min_interval;
    let mut noticed = 0;
    while world.now < rested {
        world.read(40);
        let action = world.step();
        noticed += u32::from(matches!(action, Action::Wait { reads: true, .. } | Action::Count { .. }));
    }
    assert!(noticed <= 1, "the uplink looked {noticed} times"); // the look after the POST
    let waiting = world.store.reads.len() as u64;
    world.drain();
    assert!(world.now - rested < SECOND, "they went {:?} later", world.now - rested);
    assert_eq!(world.rows(0).len() as u64, waiting);
    world.audit();
}

#[test]
fn none_then_a_session_that_closes_with_an_unknown_outcome_then_another() {
    for arrived in [CallFault::LostAndClosed, CallFault::LostBefore] {
        let mut world = World::new(SessionMode::Active);
        world.read(2);
        world.pass(30 * SECOND);
        world.cloud.open();
        world.drain();
        world.read(150);
        world.cloud.script.push_back((On::Insert, arrived.clone()));
        world.until(is_post);
        world.cloud.close();
        world.pass(60 * SECOND);
        world.cloud.open();
        world.drain();
        world.audit();
        let first: usize = if arrived == CallFault::LostAndClosed { 102 } else { 2 };
        assert_eq!((world.rows(0).len(), world.rows(1).len()), (first, 152 - first));
        assert_eq!(world.rows(1)[0].0, 1, "the new session begins at 1");
    }
}

#[test]
fn another_session_in_the_place_of_ours_is_noticed_by_the_poll_and_settled_first() {
    let mut world = World::with_session();
    world.read(10);
    world.cloud.script.push_back((On::Insert, CallFault::LostAfter));
    world.until(is_post);
    world.cloud.open();
    world.read(5);
    world.drain();
    world.audit();
    assert_eq!((world.rows(0).len(), world.rows(1).len()), (10, 5));
}

#[test]
fn a_poisoned_passing_in_the_middle_is_set_aside_with_the_answer_and_nothing_else() {
    let mut world = World::with_session();
    world.read(63);
    world.read_chip("BAD");
    world.read(200);
    world.drain();
    world.audit();
    let aside: Vec<_> = world.store.dead_letters.iter().map(|(_, item, answer)| (item.num, &**answer)).collect();
    assert_eq!(aside, [(64, "refused")]);
    assert_eq!(world.rows(0).len(), 263);
    assert!(problem(&world, "passings_set_aside").unwrap().contains("BAD64"));
}

#[test]
fn a_cloud_that_never_showed_duplicates_is_asked_before_anything_goes_again() {
    for counts in [(true, true), (true, false), (false, false)] {
        let mut world = World::with_session();
        (world.cloud.dedup, world.cloud.counts) = (false, counts);
        world.read(30);
        world.cloud.script.extend([
            (On::Insert, CallFault::LostAfter),
            (On::Held, CallFault::Server),
            (On::Held, CallFault::Portal),
        ]);
        // The two questions of the join are asked first.
        world.until(is_batch);
        world.cloud.script.extend([(On::Held, CallFault::Server), (On::Held, CallFault::NotSent)]);
        world.drain();
        world.audit();
        assert_eq!(world.posts(), ["SESSION-A 1-30 failed"]);
    }
}

#[test]
fn only_the_missing_go_again_with_their_own_numbers() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.cloud.page = 7;
    world.read(30);
    world.cloud.script.push_back((On::Insert, CallFault::Short(12)));
    world.drain();
    world.audit();
    assert_eq!(world.posts(), ["SESSION-A 1-30 ok", "SESSION-A 13-30 ok"]);
}

#[test]
fn a_cloud_that_showed_that_it_detects_duplicates_gets_the_same_again_unasked() {
    let mut world = World::with_session();
    // The answer is lost, and the cloud shows what it accepted so late that the same passings are
    // sent again. It counts them as duplicates.
    (world.cloud.lag, world.config.upload.settle) = (5 * SECOND, 2 * SECOND);
    world.crash(0); // applies the configuration
    world.read(10);
    world.cloud.script.push_back((On::Insert, CallFault::LostAfter));
    world.drain();
    assert_eq!(world.store.state.duplicates, 10, "{:#?}", world.trace);
    world.pass(100 * SECOND); // the uplink looks at the accepted passings again
    let asked = |world: &World| world.trace.iter().filter(|line| line.starts_with("held")).count();
    let before = asked(&world);
    world.read(5);
    world.cloud.script.push_back((On::Insert, CallFault::LostBefore));
    world.drain();
    assert_eq!(asked(&world), before);
    assert_eq!(world.posts()[world.posts().len() - 2..], ["SESSION-A 11-15 failed", "SESSION-A 11-15 ok"]);
    world.audit();
}

#[test]
fn a_number_of_duplicates_settles_nothing_and_what_the_session_does_not_show_gets_new_numbers() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.read(5);
    world.until(is_batch);
    // This cloud looks for duplicates in all sessions of the device. It counts the passings as
    // duplicates, and this session holds none of them.
    let counted = Inserted { inserted: Some(0), duplicates: Some(5) };
    world.cloud.script.extend((0..3).map(|_| (On::Insert, CallFault::Counts(counted))));
    world.drain();
    world.audit_reads();
    assert_eq!(world.store.dead_letters.len(), 0);
    assert!(world.rows(0)[5..].iter().all(|(num, _)| *num > 10), "{:?}", world.rows(0));
}

#[test]
fn a_success_that_counts_nothing_is_trouble_of_the_cloud_and_sets_nothing_aside() {
    let mut world = World::with_session();
    world.read(4);
    world.cloud.script.extend((0..6).map(|_| (On::Insert, CallFault::Short(0))));
    world.until(is_post);
    world.pass(30 * SECOND);
    assert!(problem(&world, "cloud_trouble").unwrap().contains("inserted 0 of 4"), "{:?}", world.machine.report());
    world.drain();
    world.audit_reads();
    assert_eq!(world.store.dead_letters.len(), 0);
    assert_eq!(problem(&world, "cloud_trouble"), None);
}

#[test]
fn a_cloud_that_takes_few_at_once_gets_few_at_once() {
    let mut world = World::with_session();
    world.cloud.most = 30;
    world.read(1000);
    world.drain();
    world.audit();
    assert_eq!(world.store.dead_letters.len(), 0);
}

#[test]
fn timeouts_make_the_parts_smaller_and_success_makes_them_grow_back() {
    let mut world = World::with_session();
    world.read(2000);
    let timeout = CallError::Unknown { why: OutcomeDoubt::Timeout, retry_after: None };
    world.cloud.script.extend((0..3).map(|_| (On::Insert, CallFault::Answer(timeout.clone()))));
    world.drain();
    world.audit();
    let posts = world.posts();
    assert_eq!(
        posts[..4],
        ["SESSION-A 1-100 failed", "SESSION-A 1-50 failed", "SESSION-A 1-25 failed", "SESSION-A 1-12 ok"]
    );
    assert_eq!(posts.last(), Some(&"SESSION-A 1901-2000 ok"));
}

#[test]
fn the_wait_that_the_cloud_asks_for_is_kept() {
    let mut world = World::with_session();
    world.read(1);
    world.cloud.script.push_back((On::Insert, CallFault::SlowDown(400 * SECOND)));
    world.until(is_post);
    let asked = world.now;
    world.until(is_post);
    assert!(world.now - asked >= 400 * SECOND);
    assert!(!world.trace.contains(&"held SESSION-A 1-1 p1".to_owned()), "a 429 leaves no doubt");
}

#[test]
fn a_batch_in_flight_at_the_start_is_asked_about_before_it_goes_again() {
    for kept in [0, 1] {
        let mut world = World::with_session();
        world.cloud.dedup = false;
        world.read(250);
        world.until(is_post);
        world.until(is_post);
        world.crash(kept);
        world.drain();
        world.audit();
        assert_eq!(world.posts(), ["SESSION-A 1-100 ok", "SESSION-A 101-200 ok", "SESSION-A 201-250 ok"]);
    }
}

#[test]
fn a_process_that_dies_between_the_batch_and_its_post_neither_loses_nor_renumbers() {
    let mut world = World::with_session();
    world.read(10);
    world.until(is_batch);
    world.crash(0);
    world.drain();
    world.audit();
    assert_eq!(world.rows(0).last(), Some(&(10, "C10")));
}

#[test]
fn numbers_go_on_above_what_the_session_holds() {
    let mut world = World::with_session();
    world.cloud.page = 3;
    world.cloud.sessions[0].rows = [1, 2, 5, 6, 7, 8, 9, 10, 41].map(foreign).to_vec();
    world.read(1);
    world.drain();
    assert_eq!(world.rows(0).last(), Some(&(42, "C1")));
    // Another sender may have sent passings during a restart.
    world.cloud.sessions[0].rows.push(foreign(43));
    world.crash(0);
    world.read(1);
    world.drain();
    assert_eq!(world.rows(0).last(), Some(&(44, "C2")));
}

#[test]
fn a_number_that_is_somebody_elses_is_left_to_them_and_ours_goes_on_above_it() {
    for counts in [(true, true), (false, false)] {
        let mut world = World::with_session();
        world.cloud.counts = counts;
        world.read(1);
        world.drain();
        world.cloud.sessions[0].rows.extend((2..=4).map(foreign));
        world.read(200);
        world.drain();
        world.audit_reads();
        assert_eq!(world.store.dead_letters, []);
        let text = problem(&world, "other_writer").unwrap();
        assert!(text.contains("CRITICAL") && text.contains("OTHER"), "{text}");
        let ours = world.ours(0);
        assert_eq!(ours.len(), 201, "{counts:?}");
        assert!(ours.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

#[test]
fn another_writer_is_named_while_the_session_runs_also_where_the_cloud_stores_everything() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    for _ in 0..5 {
        world.read(3);
        world.drain();
    }
    world.pass(60 * SECOND);
    assert_eq!(problem(&world, "other_writer"), None);
    world.cloud.sessions[0].rows.push(foreign(15));
    world.read(3);
    world.drain();
    world.pass(60 * SECOND);
    assert!(problem(&world, "other_writer").is_some(), "{:#?}", world.trace);
    world.pass(3600 * SECOND);
    assert_eq!(problem(&world, "other_writer"), None, "it is over");
    world.audit_reads();
}

#[test]
fn a_session_that_the_cloud_forgot_holds_nothing_and_its_passings_go_to_the_next() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.read(10);
    world.cloud.script.push_back((On::Insert, CallFault::LostBefore));
    world.until(is_post);
    world.cloud.sessions[0].forgotten = true;
    world.cloud.open();
    let told = (0..1000).any(|_| {
        world.step();
        problem(&world, "session_lost").is_some()
    });
    assert!(told, "{:#?}", world.trace);
    world.drain();
    assert_eq!(problem(&world, "session_lost"), None, "what was not confirmed went to the next session");
    assert_eq!(world.rows(1).len(), 10);
    assert!(world.trace.contains(&"session SESSION-A".to_owned()));
}

#[test]
fn a_session_that_refuses_but_is_shown_as_active_ends_no_numbering() {
    let mut world = World::with_session();
    world.read(10);
    let gone = CallError::SessionGone { status: 404, answer: "Session not found or closed".into() };
    world.cloud.script.extend((0..3).map(|_| (On::Insert, CallFault::Answer(gone.clone()))));
    for _ in 0..3 {
        world.until(is_post);
    }
    world.step();
    assert!(problem(&world, "session_disputed").is_some());
    world.drain();
    world.audit();
    assert_eq!(problem(&world, "session_disputed"), None);
    assert!(!world.trace.contains(&"Released".to_owned()));
}

#[test]
fn a_cloud_that_refuses_everything_does_not_get_the_backlog_set_aside() {
    let mut world = World::with_session();
    world.cloud.refuse_all = Some(400);
    world.read(5000);
    world.pass(3600 * SECOND);
    let aside = world.store.dead_letters.len();
    assert!((5..150).contains(&aside), "{aside}");
    assert!(problem(&world, "cloud_refuses").unwrap().contains("in a row"));
    world.cloud.refuse_all = None;
    world.drain();
    world.audit();
    assert_eq!(problem(&world, "cloud_refuses"), None);
}

#[test]
fn a_passing_that_is_refused_because_it_arrived_is_accepted() {
    for status in [400, 409] {
        let mut world = World::with_session();
        world.cloud.dedup = false;
        world.read(1);
        world.until(is_batch);
        let refused = CallError::BadRequest { status, answer: "number exists".into() };
        world.cloud.script.extend([(On::Insert, CallFault::LostLate), (On::Insert, CallFault::Answer(refused))]);
        world.drain();
        world.audit();
        assert_eq!(world.store.dead_letters, []);
    }
}

#[test]
fn a_captive_portal_is_shown_as_offline_in_a_timers_words() {
    let mut world = World::with_session();
    world.read(1);
    world.until(is_batch);
    world.cloud.script.push_back((On::Insert, CallFault::Portal));
    world.until(is_post);
    let report = world.machine.report();
    assert_eq!(report.state, UploadState::Offline);
    assert!(report.last_error.unwrap().contains("captive portal"));
    world.drain();
    assert_eq!(world.machine.report().last_error, None);
    world.audit();
}

#[test]
fn a_poll_that_fails_does_not_stop_the_posts() {
    let mut world = World::with_session();
    world.read(1);
    world.drain();
    world.cloud.script.extend((0..1000).map(|_| (On::Active, CallFault::Server)));
    world.pass(100 * SECOND);
    let before = world.posts().len();
    world.read(10);
    let start = world.now;
    world.drain();
    assert_eq!(world.posts().len(), before + 1);
    assert!(world.now - start < SECOND, "{:?}", world.now - start);
}

#[test]
fn a_lone_read_goes_at_once_the_next_ones_have_company_and_a_full_batch_waits_for_nothing() {
    let mut world = World::with_session();
    world.pass(5 * SECOND);
    world.read(1);
    let arrived = world.now;
    let batches = world.store.log.iter().filter(|event| matches!(event, UploadEvent::Batch(_))).count();
    world.until(is_post);
    assert!(world.now - arrived < Duration::from_millis(60), "{:?}", world.now - arrived);
    assert_eq!(world.store.log.len(), batches + 2, "joined, and a batch that was written with its read");
    world.read(1);
    let posted = world.now;
    world.until(is_post);
    assert!(world.now - posted >= Duration::from_millis(250), "live POSTs keep their distance");
    world.pass(5 * SECOND);
    world.read(100);
    let arrived = world.now;
    world.until(is_post);
    assert!(world.now - arrived < Duration::from_millis(60));
}

#[test]
fn an_outage_of_the_cloud_costs_a_lone_read_neither_its_number_nor_its_place() {
    let mut world = World::with_session();
    world.read(3);
    world.drain();
    world.cloud.script.extend((0..3).map(|_| (On::Insert, CallFault::Server)));
    for _ in 0..20 {
        world.pass(SECOND);
        world.read(1);
    }
    let problems = world.machine.report().problems;
    assert!(!problems.contains_key(&ProblemCode::CloudFailsAt), "nobody knows that it takes others: {problems:?}");
    world.drain();
    let numbers: Vec<u64> = world.cloud.sessions[0].rows.iter().filter_map(|row| row.num).collect();
    assert_eq!(numbers, (1..=23).collect::<Vec<_>>());
}

#[test]
fn a_backlog_drains_without_a_pause() {
    let mut world = World::with_session();
    world.read(5000);
    world.until(is_post);
    let start = world.now;
    world.drain();
    assert_eq!(world.posts().len(), 50);
    assert!(world.now - start < 2 * SECOND, "{:?}", world.now - start);
    assert_eq!(world.trace.iter().filter(|line| *line == "Batch").count(), 10, "one commit for five POSTs");
}

#[test]
fn an_uplink_that_does_not_send_yet_says_what_it_waits_for() {
    let (session, holds) = ("asks the cloud for its session", "asks the cloud what it holds");
    let mut world = World::with_session();
    world.read(3);
    world.drain();
    assert_eq!(world.waits, [session, holds], "a new box");
    // Reads that the process before left behind may be in the cloud.
    world.read(3);
    world.crash(0);
    world.waits.clear();
    world.drain();
    let until = "waits until the cloud can tell what it holds";
    assert_eq!(world.waits, [session, holds, until, holds]);
    assert_eq!(world.machine.report().waits_for, None);
    world.audit();
}

#[test]
fn an_idle_uplink_knows_whether_something_waits_for_its_device() {
    let mut world = World::with_session();
    assert_eq!(world.machine.report().nothing_waits, None, "it has not looked yet");
    world.pass(5 * SECOND);
    assert_eq!(world.machine.report().nothing_waits, Some(true));
    world.read(3);
    world.until(is_post);
    assert_eq!(world.machine.report().nothing_waits, Some(false));
    world.drain();
    world.pass(5 * SECOND);
    assert_eq!(world.machine.report().nothing_waits, Some(true));
    // Reads of another device make the uplink look, and change nothing.
    world.machine.put(world.now, Input::Noticed);
    world.pass(5 * SECOND);
    assert_eq!((world.machine.report().nothing_waits, world.machine.report().state), (Some(true), UploadState::Idle));
}

#[test]
fn an_idle_session_is_looked_at_every_twenty_seconds() {
    let mut world = World::with_session();
    world.pass(1000 * SECOND);
    let asked = world.trace.iter().filter(|line| *line == "active").count();
    assert!((41..=63).contains(&asked), "{asked}");
    assert_eq!(world.machine.report().state, UploadState::Idle);
}

#[test]
fn a_session_is_created_when_wanted_and_not_twice_after_a_lost_answer() {
    let mut world = World::new(SessionMode::Create);
    world.cloud.script.push_back((On::Create, CallFault::LostAfter));
    world.read(3);
    world.drain();
    world.audit();
    assert_eq!(world.cloud.sessions.len(), 1);
    world.cloud.close();
    world.read(3);
    world.drain();
    world.audit();
    assert_eq!(world.rows(1), [(1, "C4"), (2, "C5"), (3, "C6")]);
}

#[test]
fn one_answer_that_there_is_no_session_does_not_close_the_running_one() {
    let mut world = World::new(SessionMode::Create);
    world.cloud.open();
    world.read(1);
    world.drain();
    world.cloud.hide_active = 1;
    world.pass(100 * SECOND);
    world.read(1);
    world.drain();
    assert_eq!((world.cloud.sessions.len(), world.rows(0).len()), (1, 2));
}

#[test]
fn a_passing_at_which_the_cloud_fails_is_named_while_it_is_tried() {
    let mut world = World::with_session();
    world.read(1);
    world.cloud.script.extend((0..50).map(|_| (On::Insert, CallFault::Server)));
    world.pass(120 * SECOND);
    assert!(problem(&world, "cloud_trouble").unwrap().contains("C1"));
    assert_eq!(world.machine.report().state, UploadState::CloudTrouble, "the network is not at fault");
    world.cloud.script.clear();
    world.drain();
    assert_eq!(problem(&world, "cloud_trouble"), None);
    world.audit_reads();
}

#[test]
fn a_success_that_does_not_count_is_looked_at_once_a_batch() {
    let mut world = World::with_session();
    world.cloud.counts = (false, false);
    world.read(1000);
    world.until(is_batch);
    let before = world.trace.len();
    world.drain();
    world.audit();
    assert_eq!(world.posts().len(), 10);
    let asked = world.trace[before..].iter().filter(|line| line.starts_with("held")).count();
    assert!((2..=3).contains(&asked), "{:#?}", world.trace);
}

#[test]
fn the_machine_repeats_itself_for_the_same_inputs_and_seed() {
    let run = || {
        let mut world = World::with_session();
        world.cloud.chance = Some((fastrand::Rng::with_seed(11), 0.3));
        world.read(300);
        for _ in 0..400 {
            world.step();
        }
        (world.trace, world.now)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_question_is_repeated_until_it_is_answered() {
    let mut world = World::with_session();
    assert_eq!(world.machine.next(world.now), Action::AskActive);
    assert_eq!(world.machine.next(world.now), Action::AskActive);
    let session = Session { token: "SESSION-A".into(), alias: None, passings: None };
    world.machine.put(world.now, Input::Active(Ok(Some(session))));
    let scope = Scope::Numbers { token: "SESSION-A".into(), first: 0, last: None };
    let held = Action::AskHeld { scope, page: 1, patience: None };
    assert_eq!(world.machine.next(world.now), held);
    assert_eq!(world.machine.next(world.now), held);
    // An answer to a question that was not asked changes nothing.
    world.machine.put(world.now, Input::Posted(Ok(Inserted::default())));
    assert_eq!(world.machine.next(world.now), held);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_cloud_and_the_power_do_every_read_arrives_once_and_in_order(
        seed: u64,
        dedup: bool,
        counts in prop_oneof![Just((true, true)), Just((true, false)), Just((false, false))],
        page in prop_oneof![Just(5000_usize), 2..40_usize],
        most in prop_oneof![Just(500_usize), 1..40_usize],
        batch_max in prop_oneof![Just(100_usize), 1..20_usize],
        odds in 0.0..0.6_f64,
        crashes in prop_oneof![Just(0.0), 0.0..0.05_f64],
        poison in prop_oneof![Just(0.0), 0.0..0.1_f64],
        mode in prop_oneof![Just(SessionMode::Active), Just(SessionMode::Create)],
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(mode);
        (world.cloud.dedup, world.cloud.counts) = (dedup, counts);
        (world.cloud.page, world.cloud.most) = (page, most);
        world.config.upload.batch_max = batch_max;
        world.crash(0); // applies the configuration
        world.cloud.chance = Some((rng.fork(), odds));
        for _ in 0..600 {
            match rng.u8(..) {
                0..8 => for _ in 0..rng.usize(1..30) {
                    world.read_chip(if rng.f64() < poison { "BAD" } else { "C" });
                },
                8..13 => { world.cloud.open(); }
                13..15 => world.cloud.close(),
                _ => {}
            }
            world.step();
            if rng.f64() < crashes {
                world.crash(rng.usize(0..4));
            }
        }
        world.cloud.chance = None;
        world.cloud.open();
        world.drain();
        world.audit_reads();
        let good = world.store.dead_letters.iter().filter(|(_, item, _)| !item.chip.starts_with("BAD")).count();
        prop_assert_eq!(good, 0, "only refused passings are set aside: {:?}", world.store.dead_letters);
    }
}
