//! The box's clock steps in the middle of everything: order, timers and "exactly once" do not know
//! it, and a read without a date is never uploaded on a wrong day without a word.
//!
//! The clock is scripted: it stands until a test sets it, and every setting is a step. It is looked
//! at once a second.

use std::time::Duration;

use passbridge::testing::config::Address;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::journal::entry::Body;
use passbridge::testing::journal::log::{LogLine, LogReader};
use passbridge::testing::journal::log_dir;
use passbridge::testing::model::clock::Wall;
use passbridge::testing::sim::cloud::{Answer, CloudFault, On};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};

use crate::support::e2e::*;

/// When the simulated races are.
const RACE: &str = "2026-06-17T10:00:05Z";
/// Where a Pi begins.
const NEVER_SET: &str = "1970-01-01T00:00:20Z";

/// From, to: an hour either way, and a box that did not know the time.
const STEPS: [(&str, &str); 3] = [(RACE, "2026-06-17T11:00:05Z"), (RACE, "2026-06-17T09:00:05Z"), (NEVER_SET, RACE)];

fn wall(at: &str) -> Wall {
    Wall::scripted(at.parse().unwrap())
}

fn set(wall: &Wall, to: &str) {
    wall.set(to.parse().unwrap());
}

/// Steps recorded in the log, and notes that tell of one.
fn told(way: &EndToEnd) -> (usize, usize) {
    let mut reader = LogReader::open(&log_dir(way.data()), None).unwrap().unwrap();
    let (mut steps, mut notes) = (0, 0);
    while let Some(line) = reader.read().unwrap() {
        match line {
            LogLine::Entry(entry) => match entry.body {
                Body::Clock(_) => steps += 1,
                Body::Note(text) if text.starts_with("box_clock_stepped") => notes += 1,
                _ => {}
            },
            LogLine::State(_) => {}
            LogLine::Bad { why, .. } => panic!("a bad line: {why}"),
        }
    }
    (steps, notes)
}

/// Waits until the step is shown.
async fn stepped(daemon: &Daemon) {
    complains(daemon, "box_clock_stepped").await;
}

/// A step is told once; and the box starts again with what it has, without sending anything twice.
async fn ends_well(way: &EndToEnd, wall: &Wall, token: &str, daemon: Daemon, sim: &SimDecoder) {
    stepped(&daemon).await;
    daemon.stop().await.unwrap();
    assert_eq!(told(way), (1, 1));
    let daemon = way.start_at(wall).await;
    links(sim, 1).await;
    sim.push(1);
    way.arrive(sim.reads().len(), &daemon).await;
    daemon.stop().await.unwrap();
    way.holds_in_some_order(token, &happened(sim));
}

#[tokio::test]
async fn a_step_while_reads_stream_changes_nothing_for_any_decoder() {
    let kinds = [Kind::IPICO, Kind::ONE4ALL, Kind::RACE_RESULT];
    together(STEPS.into_iter().flat_map(|step| kinds.map(|kind| (step, kind))).map(|((from, to), kind)| async move {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let wall = wall(from);
        let sim = way.plug(kind).await;
        let daemon = way.start_at(&wall).await;
        links(&sim, 1).await;
        sim.push(50);
        keeps(&daemon, 20).await;
        set(&wall, to);
        sim.push(50);
        way.arrive(100, &daemon).await;
        way.holds(&token, &happened(&sim));
        sim.push(20); // also after it was seen
        way.arrive(120, &daemon).await;
        ends_well(&way, &wall, &token, daemon, &sim).await;
    }))
    .await;
}

#[tokio::test]
async fn a_step_while_a_backlog_drains_or_a_batch_is_in_flight_changes_nothing() {
    together(STEPS.map(|(from, to)| async move {
        let mut way = EndToEnd::new().await;
        way.config.upload.timeout = Duration::from_millis(300);
        let token = way.session();
        let wall = wall(from);
        let sim = way.plug_with(Kind::RACE_RESULT, 400).await;
        way.cloud.fault_always(On::Insert, CloudFault::before(Answer::Status(503)));
        let daemon = way.start_at(&wall).await;
        keeps(&daemon, 400).await;
        // One answer is lost when the drain begins: a batch is in flight and unknown while the
        // clock steps.
        way.cloud.clear_faults();
        way.cloud.fault(On::Insert, CloudFault::after(Answer::Never));
        way.arrive(1, &daemon).await;
        set(&wall, to);
        way.arrive(400, &daemon).await;
        way.holds(&token, &happened(&sim));
        ends_well(&way, &wall, &token, daemon, &sim).await;
    }))
    .await;
}

#[tokio::test]
async fn a_step_with_a_session_change_changes_nothing() {
    together(STEPS.map(|(from, to)| async move {
        let mut way = EndToEnd::new().await;
        let first = way.session();
        let wall = wall(from);
        let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
        let daemon = way.start_at(&wall).await;
        way.arrive(60, &daemon).await;
        set(&wall, to);
        let second = way.session();
        sim.push(60);
        way.arrive(120, &daemon).await;
        stepped(&daemon).await;
        let all = [crossings(&way.cloud, &first), crossings(&way.cloud, &second)].concat();
        assert_eq!(all, happened(&sim));
        way.sound(&first);
        way.sound(&second);
        daemon.stop().await.unwrap();
    }))
    .await;
}

#[tokio::test]
async fn a_step_changes_no_verdict_of_dead_time_and_no_repeat() {
    together(STEPS.map(|(from, to)| async move {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        way.config.passing.dead_time = Duration::from_secs(5);
        let rows: Vec<String> = (1..=40).map(|n| record(n, "C1", &format!("10:00:{:02}.000", n - 1))).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let wall = wall(from);
        let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
        let daemon = way.start_at(&wall).await;
        links(&sim, 1).await;
        sim.push(17);
        way.arrive(4, &daemon).await;
        set(&wall, to);
        stepped(&daemon).await;
        sim.drop_links(); // what is held is not asked for again
        sim.push(23);
        way.arrive(8, &daemon).await;
        let every_fifth: Vec<Crossing> = happened(&sim).into_iter().step_by(5).collect();
        way.holds(&token, &every_fifth);
        daemon.stop().await.unwrap();

        let mut way = EndToEnd::new().await;
        let token = way.session();
        set(&wall, from);
        way.decoder(MAT, Kind::MYLAPS, Address::Listen(LOOPBACK));
        let daemon = way.start_at(&wall).await;
        let exporter = SimConfig {
            repeat: Duration::from_millis(50),
            start: jiff::civil::date(2026, 6, 17).at(10, 0, 0, 0),
            ..SimConfig::new(Kind::MYLAPS, Wiring::Connect(daemon.listening[MAT]))
        };
        let sim = SimDecoder::start(exporter).await.unwrap();
        for _ in 0..3 {
            sim.push(300);
            sim.drop_links(); // it repeats what was not acknowledged
            links(&sim, 1).await;
            set(&wall, to);
        }
        acked(&sim, 900).await;
        way.arrive(900, &daemon).await;
        way.holds_in_some_order(&token, &happened(&sim));
        daemon.stop().await.unwrap();
    }))
    .await;
}

/// Crossings of chips `C1` … at these times.
fn at(times: &[&str]) -> Vec<Crossing> {
    let ms = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    (1..).zip(times).map(|(n, time)| (format!("C{n}"), ms(time))).collect()
}

/// A decoder whose date was never set.
async fn undated(way: &mut EndToEnd, times: &[&str]) -> SimDecoder {
    let rows: Vec<String> = (1..)
        .zip(times)
        .map(|(n, time)| record(n, &format!("C{n}"), time).replace("2026-06-17", "0000-00-00"))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await
}

#[tokio::test]
async fn reads_without_a_date_wait_until_the_box_knows_its_own_and_then_have_the_right_day() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let wall = wall(NEVER_SET);
    let sim = undated(&mut way, &["10:00:01.000", "10:00:02.000", "10:00:03.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(2);
    keeps(&daemon, 2).await;
    complains(&daemon, "box_clock_unset").await;
    let message = complains(&daemon, "upload_waits_for_clock").await;
    assert!(message.contains("chip C1"), "{message}");
    assert_eq!(way.cloud.stored(), 0, "a day of 1970 is never uploaded");
    set(&wall, RACE);
    way.arrive(2, &daemon).await;
    sim.push(1);
    way.arrive(3, &daemon).await;
    way.holds(&token, &at(&["2026-06-17T10:00:01Z", "2026-06-17T10:00:02Z", "2026-06-17T10:00:03Z"]));
    let quiet = |code: &'static str| move |snapshot: &_| !has_problem(snapshot, code);
    shows(&daemon, "the upload waits no more", quiet("upload_waits_for_clock")).await;
    shows(&daemon, "the clock is set", quiet("box_clock_unset")).await;
    daemon.stop().await.unwrap();
    assert_eq!(told(&way), (1, 1));
}

#[tokio::test]
async fn the_right_day_of_reads_that_wait_outlives_a_restart() {
    let mut way = EndToEnd::new().await; // no session yet
    let wall = wall(NEVER_SET);
    let sim = undated(&mut way, &["23:59:58.000", "10:00:02.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(1);
    keeps(&daemon, 1).await;
    set(&wall, "2026-06-18T00:00:03Z");
    stepped(&daemon).await;
    daemon.stop().await.unwrap();
    assert_eq!(told(&way).0, 1);
    set(&wall, "2026-06-20T10:00:03Z"); // the box stood two days
    let daemon = way.start_at(&wall).await;
    let token = way.session();
    links(&sim, 1).await;
    sim.push(1);
    way.arrive(2, &daemon).await;
    way.holds(&token, &at(&["2026-06-17T23:59:58Z", "2026-06-20T10:00:02Z"]));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_box_that_was_restarted_before_it_knew_the_time_takes_the_last_day_that_is_possible_and_holds_nothing_for_ever()
 {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let wall = wall(NEVER_SET);
    let sim = undated(&mut way, &["20:00:00.000", "05:50:00.000", "06:30:01.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(2);
    complains(&daemon, "upload_waits_for_clock").await;
    daemon.stop().await.unwrap();
    set(&wall, "2026-06-18T06:30:00Z");
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    way.arrive(2, &daemon).await;
    sim.push(1);
    way.arrive(3, &daemon).await;
    way.holds(&token, &at(&["2026-06-17T20:00:00Z", "2026-06-18T05:50:00Z", "2026-06-18T06:30:01Z"]));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn passings_uploaded_on_a_day_that_a_step_shows_to_be_wrong_are_named() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let wall = wall("2026-06-10T10:00:05Z"); // a week ago: where the box was switched off last
    let sim = undated(&mut way, &["10:00:01.000", "10:00:02.000", "10:00:10.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(2);
    way.arrive(2, &daemon).await;
    set(&wall, RACE);
    let message = complains(&daemon, "passings_misdated").await;
    assert!(message.starts_with("2 passings"), "{message}");
    sim.push(1);
    way.arrive(3, &daemon).await;
    let times = ["2026-06-10T10:00:01Z", "2026-06-10T10:00:02Z", "2026-06-17T10:00:10Z"];
    way.holds(&token, &at(&times)); // what was uploaded stays as it is
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn what_waits_while_the_clock_is_a_week_behind_is_uploaded_on_the_right_day() {
    let mut way = EndToEnd::new().await; // no session yet
    let wall = wall("2026-06-10T10:00:05Z");
    let sim = undated(&mut way, &["10:00:01.000", "10:00:02.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(1);
    keeps(&daemon, 1).await;
    set(&wall, RACE);
    stepped(&daemon).await;
    daemon.stop().await.unwrap();
    let token = way.session();
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(1);
    way.arrive(2, &daemon).await;
    way.holds(&token, &at(&["2026-06-17T10:00:01Z", "2026-06-17T10:00:02Z"]));
    assert!(!has_problem(&daemon.snapshot(), "passings_misdated"));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn an_hour_names_only_the_passings_that_it_puts_on_another_day() {
    let mut way = EndToEnd::new().await;
    way.session();
    let wall = wall("2026-06-17T12:30:00Z");
    let sim = undated(&mut way, &["12:20:00.000", "12:40:00.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(2); // the second is ahead of its receipt, which is then more than an hour
    way.arrive(2, &daemon).await;
    set(&wall, "2026-06-17T11:30:00Z");
    let message = complains(&daemon, "passings_misdated").await;
    assert!(message.starts_with("1 passings"), "{message}");
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_step_that_is_taken_back_leaves_no_false_alarm_and_what_it_spoilt_is_named() {
    let mut way = EndToEnd::new().await;
    way.session();
    let wall = wall(RACE);
    let sim = undated(&mut way, &["10:00:01.000", "10:00:02.000", "10:00:03.000"]).await;
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(2);
    way.arrive(2, &daemon).await;
    set(&wall, "2026-06-18T10:00:05Z");
    let message = complains(&daemon, "passings_misdated").await;
    assert!(message.starts_with("2 passings"), "{message}");
    set(&wall, RACE);
    shows(&daemon, "nothing was on a wrong day", |snapshot| !has_problem(snapshot, "passings_misdated")).await;
    // And now something is uploaded while the clock is wrong.
    set(&wall, "2026-06-18T10:00:05Z");
    complains(&daemon, "passings_misdated").await;
    sim.push(1);
    way.arrive(3, &daemon).await;
    set(&wall, RACE);
    let one = |snapshot: &passbridge::testing::status::Snapshot| {
        let named = snapshot.problems.iter().find(|problem| problem.code == "passings_misdated");
        named.is_some_and(|problem| problem.message.starts_with("1 passings"))
    };
    shows(&daemon, "one passing is on a wrong day", one).await;
    daemon.stop().await.unwrap();
}
