//! Sessions that somebody opens or closes by hand while the uplink runs.

use super::*;
use crate::cloud::rufus::KeyFault;
use crate::cloud::uplink::machine::{Done, Ends, Outcome, Wanted};
use crate::model::chip::Seq;

fn give(world: &mut World, wanted: Wanted) {
    let through = Seq(world.store.reads.len() as u64);
    world.machine.put(world.now, Input::Order { wanted, through });
}

fn open(world: &mut World) {
    let wanted = world.cloud.another();
    give(world, wanted);
}

fn open_over(world: &mut World, ends: Ends) {
    give(world, Wanted::Open { alias: "by hand".into(), ends });
}

fn close(world: &mut World) {
    let wanted = world.cloud.the_active();
    give(world, wanted);
}

/// Continues until the order is carried out.
fn done(world: &mut World) -> Done {
    let began = world.now;
    for _ in 0..10_000 {
        if let Some(done) = world.machine.take_done() {
            assert!(world.now - began <= 60 * SECOND, "it takes a bounded time: {:?}", world.now - began);
            return done;
        }
        world.step();
    }
    panic!("no end; the last actions: {:#?}", &world.trace[world.trace.len().saturating_sub(30)..]);
}

fn is_open(done: &Done) -> bool {
    matches!(done.outcome, Outcome::Opened { .. })
}

fn created(world: &World) -> usize {
    world.trace.iter().filter(|line| *line == "create").count()
}

#[test]
fn what_waits_goes_into_the_old_session_and_what_arrives_later_into_the_new_one() {
    for before in [0, 1, 99, 1234] {
        let mut world = World::with_session();
        world.read(7);
        world.drain();
        world.read(before);
        if before > 0 {
            world.until(is_post); // the first batch is in flight
        }
        open(&mut world);
        world.read(40);
        let done = done(&mut world);
        assert!(is_open(&done) && done.settled && done.on_their_way == 0, "{done:?}");
        world.read(3);
        world.drain();
        world.audit();
        assert_eq!((world.rows(0).len(), world.rows(1).len()), (7 + before, 43));
        assert_eq!(world.rows(1)[0].0, 1, "the new session begins at 1");
        assert_eq!((world.cloud.sessions.len(), created(&world)), (2, 1));
    }
}

#[test]
fn a_resting_uplink_opens_a_session_at_once() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.pass(30 * SECOND);
    let began = world.now;
    open(&mut world);
    assert!(is_open(&done(&mut world)) && world.now - began <= SECOND, "it waits for nothing");
}

#[test]
fn a_cloud_that_takes_nothing_holds_an_order_up_for_a_bounded_time_and_nothing_is_lost() {
    for (fault, dedup) in [(CallFault::LostBefore, true), (CallFault::LostAfter, false), (CallFault::Server, false)] {
        let mut world = World::with_session();
        world.cloud.dedup = dedup;
        world.read(3);
        world.drain();
        // If it has the passings all the same, it shows them when it is asked.
        let arrives = fault == CallFault::LostAfter;
        world.cloud.script.extend(std::iter::repeat_n((On::Insert, fault), 40));
        world.read(150);
        world.until(is_post);
        open(&mut world);
        let done = done(&mut world);
        assert!(is_open(&done) && done.settled == arrives, "{done:?}");
        world.cloud.script.clear();
        world.read(10);
        world.drain();
        world.audit();
        assert_eq!(created(&world), 1);
    }
}

#[test]
fn a_session_is_never_opened_twice_whatever_becomes_of_the_answer() {
    let mut world = World::with_session();
    world.read(5);
    world.cloud.script.push_back((On::Create, CallFault::LostAfter));
    open(&mut world);
    let opened = done(&mut world);
    assert!(is_open(&opened), "the cloud shows it: {opened:?}");
    assert_eq!((world.cloud.sessions.len(), created(&world)), (2, 1));

    world.cloud.script.push_back((On::Create, CallFault::LostBefore));
    open(&mut world);
    let unknown = done(&mut world);
    let Outcome::Unknown { active: Some(Some(shown)), .. } = &unknown.outcome else { panic!("{unknown:?}") };
    assert_eq!((&*shown.token, world.cloud.sessions.len(), created(&world)), ("SESSION-B", 2, 2));
    world.read(5);
    world.drain();
    world.audit();
    assert_eq!((world.rows(0).len(), world.rows(1).len()), (5, 5), "the upload goes on in the session that is active");
}

#[test]
fn what_the_cloud_refuses_is_told_and_changes_nothing() {
    let mut world = World::with_session();
    world.read(5);
    let refused = CallError::BadRequest { status: 400, answer: "alias".into() };
    world.cloud.script.push_back((On::Create, CallFault::Answer(refused.clone())));
    open(&mut world);
    assert_eq!(done(&mut world).outcome, Outcome::Failed(refused));
    assert_eq!(problem(&world, "session_not_created"), None, "nothing is tried again");
    world.read(5);
    world.drain();
    world.audit();
    assert_eq!((world.rows(0).len(), world.cloud.sessions.len()), (10, 1));
    world.cloud.may_write = false;
    open(&mut world);
    assert!(matches!(done(&mut world).outcome, Outcome::Failed(CallError::KeyRefused { .. })));
}

#[test]
fn without_a_network_an_order_fails_and_the_next_one_is_carried_out() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.cloud.script.extend(std::iter::repeat_n((On::Active, CallFault::NotSent), 60));
    open(&mut world);
    assert!(matches!(done(&mut world).outcome, Outcome::Failed(CallError::NotSent(_))));
    assert_eq!(created(&world), 0);
    world.cloud.script.clear();
    world.pass(30 * SECOND);
    open(&mut world);
    assert!(is_open(&done(&mut world)));
}

#[test]
fn without_a_session_what_waits_goes_into_the_one_that_is_opened() {
    let mut world = World::new(SessionMode::Active);
    world.read(5);
    world.pass(30 * SECOND);
    open(&mut world);
    let done = done(&mut world);
    assert!(matches!(done.outcome, Outcome::Opened { before: None, .. }), "{done:?}");
    world.drain();
    assert_eq!(world.rows(0).len(), 5);
}

#[test]
fn a_session_that_is_closed_by_hand_has_all_that_waited() {
    for lost in [None, Some(CallFault::LostAfter), Some(CallFault::LostBefore)] {
        let mut world = World::with_session();
        world.read(150);
        world.until(is_post);
        world.cloud.script.extend(lost.map(|lost| (On::Create, lost)));
        close(&mut world);
        world.read(20);
        let done = done(&mut world);
        assert!(matches!(done.outcome, Outcome::Closed { .. }) && done.settled, "{done:?}");
        assert_eq!((world.rows(0).len(), world.machine.report().state), (150, UploadState::NoSession));
        world.pass(60 * SECOND);
        world.cloud.open();
        world.drain();
        world.audit();
        assert_eq!(world.rows(1).len(), 20);
    }
}

#[test]
fn after_a_close_by_hand_the_box_opens_a_session_only_when_a_read_waits() {
    let mut world = World::new(SessionMode::Create);
    world.cloud.open();
    world.read(5);
    world.drain();
    close(&mut world);
    assert!(matches!(done(&mut world).outcome, Outcome::Closed { .. }));
    world.pass(600 * SECOND);
    assert_eq!((world.cloud.sessions.len(), created(&world)), (1, 0));
    world.read(2);
    world.drain();
    world.audit();
    assert_eq!((world.cloud.sessions.len(), world.rows(1).len()), (2, 2));
}

#[test]
fn a_session_that_is_not_the_active_one_is_closed_without_waiting_for_the_upload() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.cloud.script.extend(std::iter::repeat_n((On::Insert, CallFault::LostBefore), 3));
    world.read(5);
    world.until(is_post);
    let began = world.now;
    give(&mut world, Wanted::Close { token: "OTHER".into() });
    assert!(matches!(done(&mut world).outcome, Outcome::Failed(CallError::SessionGone { .. })));
    assert!(world.now - began <= 2 * SECOND);
    world.drain();
    world.audit();
}

#[test]
fn an_order_whose_giver_is_gone_is_forgotten_until_its_call_is_made_and_not_after_it() {
    let mut world = World::with_session();
    world.cloud.dedup = false;
    world.read(3);
    world.drain();
    world.cloud.script.extend(std::iter::repeat_n((On::Insert, CallFault::LostBefore), 3));
    world.read(150);
    world.until(is_post);
    open(&mut world);
    world.read(40);
    world.pass(3 * SECOND);
    assert!(world.machine.withdraw_order(), "it still waits for what goes up first");
    world.drain();
    world.audit();
    assert_eq!((world.machine.take_done(), created(&world), world.rows(0).len()), (None, 0, 193));

    world.cloud.script.push_back((On::Create, CallFault::LostAfter));
    open(&mut world);
    world.until(|action| matches!(action, Action::Create { .. }));
    assert!(!world.machine.withdraw_order(), "the session may be there");
    assert!(is_open(&done(&mut world)) && !world.machine.withdraw_order());
}

#[test]
fn what_the_cloud_refuses_to_an_order_does_not_stop_the_upload() {
    let refused = CallError::KeyRefused { status: 403, fault: KeyFault::Rejected, answer: "Forbidden".into() };
    let absent = CallError::DeviceUnknown { answer: "no device".into() };
    for (on, error) in [(On::Create, &refused), (On::Create, &absent), (On::Active, &refused), (On::Active, &absent)] {
        let mut world = World::with_session();
        world.read(5);
        world.drain();
        world.cloud.script.push_back((on, CallFault::Answer(error.clone())));
        world.machine.put(world.now, Input::Noticed); // no poll is due, so the question is that of the order
        open(&mut world);
        assert_eq!(done(&mut world).outcome, Outcome::Failed(error.clone()), "{on:?}");
        assert_eq!(created(&world), usize::from(on == On::Create));
        let began = world.now;
        world.read(5);
        world.drain();
        let report = world.machine.report();
        assert!(world.now - began <= 2 * SECOND && report.problems.is_empty(), "{on:?} {report:?}");
        assert_eq!((report.last_error, world.rows(0).len()), (None, 10));
    }
}

#[test]
fn a_wait_that_the_cloud_asks_an_order_for_is_kept_by_the_upload_too() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.cloud.script.push_back((On::Create, CallFault::SlowDown(20 * SECOND)));
    open(&mut world);
    assert!(matches!(done(&mut world).outcome, Outcome::Failed(CallError::TooMany { .. })));
    let began = world.now;
    world.read(5);
    world.drain();
    assert!(world.now - began >= 19 * SECOND, "{:?}", world.now - began);
}

#[test]
fn only_the_session_that_was_shown_ends() {
    let shown = |world: &World| Ends::Session(world.cloud.sessions[0].token.clone());
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    let ends = shown(&world);
    world.cloud.open(); // by somebody else, while the person thinks
    for ends in [ends, Ends::Nothing] {
        open_over(&mut world, ends);
        let done = done(&mut world);
        assert!(matches!(&done.outcome, Outcome::Other(active) if &*active.token == "SESSION-B"), "{done:?}");
    }
    assert_eq!((created(&world), world.cloud.sessions.len()), (0, 2));
    // A key that may not ask shows nothing, and what was shown may have ended by itself.
    open_over(&mut world, Ends::Unseen);
    assert!(is_open(&done(&mut world)));
    let mut world = World::with_session();
    let ends = shown(&world);
    world.cloud.close();
    open_over(&mut world, ends);
    assert!(is_open(&done(&mut world)));
    // The question fails, so nobody knows what would end.
    let ends = Ends::Session("SESSION-B".into());
    world.cloud.may_read = false;
    open_over(&mut world, ends);
    assert!(matches!(done(&mut world).outcome, Outcome::Failed(CallError::KeyRefused { .. })));
    assert_eq!(created(&world), 1);
}

#[test]
fn soon_after_the_start_what_waits_goes_into_the_old_session_too() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    world.read(20); // the process ends before it numbers them
    world.crash(0);
    world.read(10);
    open(&mut world);
    let done = done(&mut world);
    assert!(is_open(&done) && done.settled, "{done:?}");
    world.read(3);
    world.drain();
    world.audit();
    assert_eq!((world.rows(0).len(), world.rows(1).len()), (35, 3));
}

#[test]
fn a_session_that_was_closed_here_is_not_joined_again_because_of_an_old_answer() {
    for mode in [SessionMode::Active, SessionMode::Create] {
        let mut world = World::new(mode);
        world.cloud.open();
        world.read(5);
        world.drain();
        close(&mut world);
        assert!(matches!(done(&mut world).outcome, Outcome::Closed { .. }));
        world.cloud.script.extend(std::iter::repeat_n((On::Active, CallFault::Stale), 5));
        for _ in 0..60 {
            world.pass(SECOND);
            assert_eq!(world.machine.report().session, None, "{:#?}", world.trace);
        }
        assert_eq!((world.machine.report().state, created(&world)), (UploadState::NoSession, 0));
        assert!(world.cloud.script.is_empty(), "the answers were given");
        world.cloud.open();
        world.read(5);
        world.drain();
        assert!(world.posts().iter().skip(1).all(|post| post.starts_with("SESSION-B")), "{:?}", world.posts());
    }
}

#[test]
fn an_old_answer_after_an_open_does_not_lead_back_into_the_session_before() {
    let mut world = World::with_session();
    world.read(5);
    world.drain();
    open(&mut world);
    assert!(is_open(&done(&mut world)));
    world.cloud.script.extend(std::iter::repeat_n((On::Active, CallFault::Stale), 2));
    world.pass(40 * SECOND); // nothing is sent into the new session yet
    assert!(world.cloud.script.is_empty(), "the answers were given");
    world.read(5);
    world.drain();
    world.audit();
    assert_eq!(world.posts(), ["SESSION-A 1-5 ok", "SESSION-B 1-5 ok"]);
    assert_eq!(world.machine.report().session.map(|(token, _)| token), Some("SESSION-B".into()));
}
