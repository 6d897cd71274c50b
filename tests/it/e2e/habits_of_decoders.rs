//! One table: every decoder that stores, with every habit, while we listen, while the cable is out
//! and while the box is off, and what must be in the cloud then. No cell is left out in silence:
//! where a protocol cannot tell, its cell says why.
//!
//! A cell begins with thirty reads that arrived; then the decoder does what the habit says while
//! nobody (or we) listen; then there is a link again, and five reads more. What must arrive is all
//! of the race, each read once; of last week's race nothing, before somebody says so.

use std::collections::BTreeMap;
use std::time::Duration;

use passbridge::testing::config::{Address, TagCode};
use passbridge::testing::daemon::Daemon;
use passbridge::testing::decoders::Spec;
use passbridge::testing::export::{Format, Query, Reading, export};
use passbridge::testing::journal::{Journal, JournalConfig};
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::decoder::{DecoderHabit, Kind, SimConfig, SimDecoder, Wiring};
use passbridge::testing::status::{Board, Problem};
use serde_json::Value;

use crate::support::e2e::*;

/// Decoders that store and have a test of their own, because each takes long. The others have one
/// together.
const OWN: [Kind; 5] = [Kind::CHRONOTRACK, Kind::ONE4ALL, Kind::P3, Kind::RACE_RESULT, Kind::ULTRA];

/// What happens in a cell, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Cleared, and twelve reads of the race: less than were held.
    Cleared,
    /// Cleared, and counted on past what was held.
    CountedOn,
    /// Its clock is set back by two hours, and twelve reads of the race.
    ClockBack,
    /// Both, before the gun.
    ClearedClockBack,
    /// Both, and counted on.
    CountedOnClockBack,
    /// As the one before, at a decoder that does not tell its time (RACE RESULT and One4All always
    /// do).
    UntoldClockBack,
    /// Its last read is said once more.
    Repeats,
    /// Two reads come in swapped order.
    Swaps,
    /// Last week's race is below today's in the memory, and the last read is said once more.
    LastWeekBelow,
    /// Another memory: last week's race is in it, and then twelve reads of today's.
    OtherMemory,
    /// Another program switches off what is sent unasked, or has it sent to itself; twelve reads.
    PushOff,
    /// Another program begins a session, and the first ten reads of it are sent to it alone; twelve
    /// more.
    OtherSession,
}

const STORIES: [Story; 12] = [
    Story::Cleared,
    Story::CountedOn,
    Story::ClockBack,
    Story::ClearedClockBack,
    Story::CountedOnClockBack,
    Story::UntoldClockBack,
    Story::Repeats,
    Story::Swaps,
    Story::LastWeekBelow,
    Story::OtherMemory,
    Story::PushOff,
    Story::OtherSession,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum While {
    WeListen,
    TheCableIsOut,
    TheBoxIsOff,
}

/// What must be in the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// All of today's race, and nothing of last week's.
    Race,
    /// The same; last week's reads are held back, and go up when somebody says so.
    HeldBack,
    /// The race, once a live read came: why not before.
    OnceLive(&'static str),
    /// The same, but for what the protocol cannot tell: why.
    CannotTell(&'static str),
}

/// The table.
fn cell(kind: Kind, story: Story, meanwhile: While) -> Cell {
    let Spec { since_first_read, tells_clock, .. } = *kind.spec();
    match (story, meanwhile) {
        // A memory cannot be exchanged under a link that is up: its reads are pushed as they are
        // "made".
        (Story::OtherMemory, While::WeListen) => Cell::CannotTell("what is pushed was just read"),
        (Story::OtherMemory, _) => Cell::HeldBack,
        (Story::UntoldClockBack, _) if since_first_read => {
            Cell::OnceLive("it does not tell its clock: a live read shows that it was set back")
        }
        _ if since_first_read => Cell::Race,
        (Story::LastWeekBelow, _) => Cell::CannotTell(
            "a file is fetched from its first number: nothing tells that its beginning is another race",
        ),
        (Story::ClearedClockBack, While::TheCableIsOut | While::TheBoxIsOff)
        | (Story::CountedOnClockBack | Story::UntoldClockBack, _)
            if !tells_clock =>
        {
            Cell::OnceLive(
                "it does not tell its clock: what it stored is held back until a live read shows that it was set back",
            )
        }
        _ => Cell::Race,
    }
}

/// A box with a decoder, and last week's race in its memory if the story wants it.
async fn plugged(way: &mut EndToEnd, kind: Kind, story: Story) -> (SimDecoder, Daemon) {
    let (sim, daemon) = match kind.connects() {
        false => {
            let sim = way.plug(kind).await;
            if story == Story::LastWeekBelow {
                sim.does(DecoderHabit::LastWeek).await;
            }
            (sim, way.start().await)
        }
        true => {
            way.decoder(MAT, kind, Address::Listen(LOOPBACK));
            let daemon = way.start().await;
            let address = daemon.listening[MAT];
            way.config.decoders[0].address = Address::Listen(address);
            let sim = SimConfig { repeat: Duration::from_millis(50), ..SimConfig::new(kind, Wiring::Connect(address)) };
            (SimDecoder::start(sim).await.unwrap(), daemon)
        }
    };
    links(&sim, 1).await;
    (sim, daemon)
}

/// What the story does; the numbers of the reads, in the order of the simulator's, that are of last
/// week's race.
async fn happens(story: Story, sim: &SimDecoder) -> std::ops::Range<usize> {
    let before = sim.reads().len();
    match story {
        Story::Cleared => {
            sim.does(DecoderHabit::Clear).await;
            sim.push(12);
        }
        Story::CountedOn => sim.does(DecoderHabit::ClearAndCountOn).await,
        Story::ClockBack => {
            sim.does(DecoderHabit::ClockBack).await;
            sim.push(12);
        }
        Story::ClearedClockBack => {
            sim.does(DecoderHabit::Clear).await;
            sim.does(DecoderHabit::ClockBack).await;
            sim.push(12);
        }
        Story::CountedOnClockBack | Story::UntoldClockBack => {
            if story == Story::UntoldClockBack {
                sim.does(DecoderHabit::TellsNoTime).await;
            }
            sim.does(DecoderHabit::ClockBack).await;
            sim.does(DecoderHabit::ClearAndCountOn).await;
        }
        Story::Repeats | Story::LastWeekBelow => sim.does(DecoderHabit::RepeatLast).await,
        Story::Swaps => {
            sim.does(DecoderHabit::SwapTwo).await;
            sim.push(2);
        }
        Story::PushOff => {
            sim.does(DecoderHabit::PushOff).await;
            sim.push(12);
        }
        Story::OtherSession => {
            sim.does(DecoderHabit::OtherSession).await;
            sim.push(12);
        }
        Story::OtherMemory => {
            sim.does(DecoderHabit::Clear).await;
            sim.does(DecoderHabit::LastWeek).await;
            sim.push(12);
            return before..before + 40;
        }
    }
    0..0
}

async fn plays(kind: Kind, story: Story, meanwhile: While, cell: Cell) {
    let what = format!("{} {story:?} {meanwhile:?}", kind.name());
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let (sim, daemon) = plugged(&mut way, kind, story).await;
    let mut running = Some(daemon);
    let below = sim.reads().len();
    sim.push(30);
    way.arrive(30, running.as_ref().unwrap()).await;
    match meanwhile {
        While::WeListen => {}
        While::TheCableIsOut => {
            sim.set_online(false);
            links(&sim, 0).await;
        }
        While::TheBoxIsOff => running.take().unwrap().stop().await.unwrap(),
    }
    let last_week = happens(story, &sim).await;
    match meanwhile {
        While::WeListen => {}
        While::TheCableIsOut => sim.set_online(true),
        While::TheBoxIsOff => running = Some(way.start().await),
    }
    let daemon = running.unwrap();
    links(&sim, 1).await;
    let race = |sim: &SimDecoder| {
        let all = happened(sim).into_iter().enumerate();
        let today = all.filter(|(at, _)| *at >= below && !last_week.contains(at)).map(|(_, read)| read);
        today.collect::<Vec<Crossing>>()
    };
    if matches!(cell, Cell::OnceLive(_)) {
        // What follows the stored reads without a pause looks like them.
        while !way.cloud.wait_for(race(&sim).len(), Duration::from_secs(4)).await && sim.reads().len() < 100 {
            sim.push(1);
        }
    }
    way.arrive(race(&sim).len(), &daemon).await; // without the help of a live read
    sim.push(5);
    way.arrive(race(&sim).len(), &daemon).await;
    way.holds_in_some_order(&token, &race(&sim));
    assert_eq!(sim.forbidden(), [""; 0], "{what}");
    let told = complains_of(&daemon, "reads_held_back");
    if matches!(cell, Cell::OnceLive(_)) {
        shows(&daemon, "nothing is held back", |snapshot| !has_problem(snapshot, "reads_held_back")).await;
    } else if cell == Cell::HeldBack {
        let all = "40 reads of `finish-mat` are held back, stamped 2026-06-10T10:00:";
        let says = |problem: &Problem| problem.code == "reads_held_back" && problem.message.starts_with(all);
        shows(&daemon, "40 are held back", |snapshot| snapshot.problems.iter().any(says)).await;
        let order = ControlRequest::LetGo { decoder: Some(MAT.into()) };
        let answer = control::ask(way.data(), order.clone()).await.unwrap();
        assert_eq!(answer["let_go"], 40, "{what}");
        way.arrive(race(&sim).len() + 40, &daemon).await;
        assert_eq!(control::ask(way.data(), order).await.unwrap()["let_go"], 0, "{what}");
        way.holds_in_some_order(&token, &happened(&sim));
        shows(&daemon, "that is over", |snapshot| !has_problem(snapshot, "reads_held_back")).await;
    } else {
        assert_eq!(told, None, "{what}");
    }
    shows(&daemon, "all was given", |snapshot| !has_problem(snapshot, "passings_not_given")).await;
    daemon.stop().await.unwrap();
}

/// What is said now.
fn complains_of(daemon: &Daemon, code: &str) -> Option<String> {
    let problems = daemon.snapshot().problems.into_iter();
    problems.filter(|problem| problem.code == code).map(|problem| problem.message).next()
}

/// A protocol's row of the table, all cells at once: most of it is waiting.
async fn row(kind: Kind) {
    let mut cells = Vec::new();
    for story in STORIES {
        for meanwhile in [While::WeListen, While::TheCableIsOut, While::TheBoxIsOff] {
            match cell(kind, story, meanwhile) {
                Cell::CannotTell(why) => println!("{} {story:?} {meanwhile:?}: {why}", kind.name()),
                cell => cells.push(plays(kind, story, meanwhile, cell)),
            }
        }
    }
    together(cells).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_ultra_does_the_race_arrives_once_and_last_weeks_does_not() {
    row(Kind::ULTRA).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_p3_does_the_race_arrives_once_and_last_weeks_does_not() {
    row(Kind::P3).await;
}

/// The reads that the export says are in each state.
fn states(way: &EndToEnd) -> BTreeMap<String, usize> {
    let reading = Reading { zones: Default::default(), tag: TagCode::Raw, shown_in: None, spreadsheet: false };
    let mut out = Vec::new();
    let query = Query { durable: u64::MAX, ..Query::default() };
    export(way.data(), &reading, Format::Jsonl, &query, &mut out).unwrap();
    let mut states = BTreeMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["kind"] == "read" {
            *states.entry(row["upload"]["state"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    states
}

#[tokio::test]
async fn what_is_held_back_is_so_after_a_restart_too_and_may_be_let_go_while_the_box_is_off() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let (sim, daemon) = plugged(&mut way, Kind::ULTRA, Story::OtherMemory).await;
    sim.push(30);
    way.arrive(30, &daemon).await;
    daemon.stop().await.unwrap();
    happens(Story::OtherMemory, &sim).await;
    for _ in 0..2 {
        let daemon = way.start().await;
        way.arrive(42, &daemon).await;
        complains(&daemon, "reads_held_back").await;
        daemon.stop().await.unwrap();
    }
    let held = states(&way);
    assert_eq!((held["held_back"], held["sent"]), (40, 42), "{held:?}");

    let config = JournalConfig {
        dir: way.data().into(),
        dead_time: Duration::ZERO,
        zones: Default::default(),
        keep_days: 30,
        keep_bytes: 1 << 30,
        segment_bytes: 1 << 25,
    };
    let journal = Journal::open(config, Board::new("finish")).unwrap();
    assert_eq!(journal.let_all_go(Some(MAT)).await.unwrap(), 40);
    journal.close().await;
    drop(journal);
    let daemon = way.start().await;
    way.arrive(82, &daemon).await;
    way.holds_in_some_order(&token, &happened(&sim));
    daemon.stop().await.unwrap();
    let sent = states(&way);
    assert_eq!((sent.get("held_back"), sent["sent"]), (None, 82), "each once: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_race_result_does_the_race_arrives_once_and_last_weeks_does_not() {
    row(Kind::RACE_RESULT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_one4all_does_the_race_arrives_once_and_last_weeks_does_not() {
    row(Kind::ONE4ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_chronotrack_does_the_race_arrives_once_and_last_weeks_does_not() {
    row(Kind::CHRONOTRACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_any_other_decoder_that_stores_does_the_race_arrives_once_and_last_weeks_does_not() {
    for kind in Kind::all().filter(|kind| kind.stores() && !OWN.contains(kind)) {
        row(kind).await;
    }
}
