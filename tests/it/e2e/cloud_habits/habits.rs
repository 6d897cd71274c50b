//! Habits of a cloud, crossed with each other, with lost answers, kills, other sessions and kinds
//! of duplicate detection.
//!
//! `cargo test --test it e2e::` runs rows in which every two levels of different factors are
//! together once. Opt-in, by environment:
//!
//! * `PASSBRIDGE_HABITS=pairs` or `triples`: the long table, every word and every oddity as a level
//!   of its own.
//! * `PASSBRIDGE_HABITS=N`: so many rows drawn at random from the long table.
//! * `PASSBRIDGE_SEED=N`: another seed, for the rows and for what the habits choose.
//! * `-- --ignored`: some rows with the box's settings as shipped and a cloud that is seconds
//!   behind; takes minutes.
//! * `PASSBRIDGE_ROW=N`: this row alone, with all that is known of it.
//! * `PASSBRIDGE_CASE='Gateway --seed 7 --habit lag=300ms +kill'`: this one, as it is printed.
//! * `PASSBRIDGE_TELL=1`: what became of every row. `PASSBRIDGE_SMALLER=1`: of each row that is
//!   wrong, what it takes for it.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cover::cover;
use super::trial::{Case, Events, Pace, Verdict, run};
use crate::support::busy;

/// Races at once: most of each is waiting.
const AT_ONCE: usize = 24;

/// A level: one of these spellings, each a list of habits and of words of [`Case::with`].
type Level = &'static [&'static [&'static str]];
/// What varies by itself, and its levels.
type Factor = (&'static str, &'static [Level]);

const NONE: Level = &[&[]];

/// The short table. Where a level has several spellings a row draws one.
const SHORT: &[Factor] = &[
    (
        "duplicates",
        &[
            &[&["duplicates=none"]],
            &[&["duplicates=number"]],
            &[&["duplicates=number-time"]],
            &[&["duplicates=chip-time"], &["duplicates=chip-time:per-device"]],
            &[&["duplicates=number:per-device"]],
        ],
    ),
    (
        "lag",
        &[
            NONE,
            &[&["lag=300ms"]],
            &[&["lag=0s..400ms"]],
            &[&["lag=200ms", "lag-by-time=400ms", "lag-sessions=300ms"], &["lag=200ms", "lag-by-time=0s"]],
        ],
    ),
    (
        "active session",
        &[
            NONE,
            &[&["lag-active=400ms"]],
            &[&["stale-active=before@1/3"], &["stale-active=before@3+1s"]],
            &[&["stale-active=none@1/3"], &["stale-active=none@3+1s"]],
            &[
                &["words=active:throttled@1/3"],
                &["words=active:rate@1/3"],
                &["words=active:try-later@1/3"],
                &["words=active:other-key@1/3"],
                &["words=active:body-null@1/3"],
                &["words=active:empty@1/3"],
                &["words=active:gateway-404@1/3"],
                &["words=active:result-text"],
            ],
        ],
    ),
    (
        "lists",
        &[
            NONE,
            &[&["first-exclusive", "last-exclusive"], &["first-exclusive"], &["last-exclusive"]],
            &[&["empty-pages=first"], &["empty-pages=between"]],
            &[&["order=newest", "text-numbers=all"], &["order=shuffled"]],
            &[&["last-required", "range-limit=25"], &["none-404", "last-required"], &["span-limit=20s", "none-404"]],
            &[&["page-ignored"], &["no-has-more"]],
        ],
    ),
    (
        "refusals",
        &[
            NONE,
            &[&["refuse=passings:403@1/4"], &["refuse=questions:403@1/5"]],
            &[&["refuse=passings:403"], &["refuse=passings:500"]],
            &[&["refuse=times:403"], &["refuse=questions:500@1/4"]],
            &[&["refuse=inserts:403@1/8"], &["refuse=inserts:500@1/5"]],
        ],
    ),
    (
        "words",
        &[
            NONE,
            &[
                &["words=inserts:throttled:stored@1/4"],
                &["words=inserts:none-inserted:stored@1/4"],
                &["words=inserts:result-text:stored@1/4"],
                &["words=inserts:other-key:stored@1/4"],
                &["words=inserts:body-null:stored@1/4"],
            ],
            &[
                &["words=inserts:throttled:lost@1/4"],
                &["words=inserts:locked:lost@1/4"],
                &["words=inserts:rate:lost@1/4"],
                &["words=inserts:none-inserted:lost@1/4"],
                &["words=inserts:not-inserted:lost@1/4"],
                &["words=inserts:try-later:lost@1/4"],
                &["words=inserts:empty:lost@1/4"],
                &["words=inserts:gateway-404:lost@1/4"],
            ],
        ],
    ),
    (
        "counts",
        &[
            NONE,
            &[&["counts=missing"]],
            &[&["counts=zero-lost@1/5"], &["counts=zero-lost@2+1s"]],
            &[&["counts=zero-stored@1/5"]],
            &[&["counts=half@1/5"]],
        ],
    ),
    ("second writer", &[NONE, &[&["second-writer=above@1/3"]], &[&["second-writer=copies@1/3"]]]),
    (
        "lost answers",
        &[
            NONE,
            &[&["lost-answers=stored@1/4"]],
            &[&["lost-answers=dropped@1/4"], &["lost-answers=half@1/4"]],
            &[&["lost-answers=late:300ms@1/4"]],
            &[&["silence=stored@1/8"], &["silence=late:200ms@1/8"], &["slow-posts=150ms"]],
        ],
    ),
    (
        "events",
        &[NONE, &[&["+kill"]], &[&["+switch"]], &[&["+kill", "+switch"]], &[&["+stop", "+switch"]], &[&["+restore"]]],
    ),
    ("answers", &[&[&["Legacy"]], &[&["OpenApi"]], &[&["Gateway"]]]),
    ("one fails", &[NONE, &[&["fails:500"]], &[&["fails:400"]]]),
];

/// The long table: every spelling is a level.
fn long() -> Vec<(&'static str, Vec<&'static [&'static str]>)> {
    let spelled = |(name, levels): &Factor| (*name, levels.iter().flat_map(|level| level.iter().copied()).collect());
    SHORT.iter().map(spelled).collect()
}

/// Adds what a level says to a case: words of [`Case::with`], and habits.
fn with(case: &mut Case, words: &[&str]) {
    for word in words {
        if case.with(word).is_err() {
            case.habits.push((*word).to_owned());
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Rows of the short table: each pair of levels once. Each is judged after 34 s, whole or not.
fn short(seed: u64) -> Vec<Case> {
    let sizes: Vec<usize> = SHORT.iter().map(|(_, levels)| levels.len()).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let case = |(row, place): (Vec<usize>, u64)| {
        let new = Case::new(seed.wrapping_mul(1000) + place, &[]);
        let mut case = Case { limit: Duration::from_secs(34), ..new };
        for ((_, levels), level) in SHORT.iter().zip(row) {
            with(&mut case, rng.choice(levels[level]).unwrap());
        }
        case
    };
    cover(&sizes, 2, seed).into_iter().zip(0..).map(case).collect()
}

/// Rows of the long table.
fn all(how: &str, seed: u64) -> Vec<Case> {
    let table = long();
    let sizes: Vec<usize> = table.iter().map(|(_, levels)| levels.len()).collect();
    let rows = match how {
        "pairs" => cover(&sizes, 2, seed),
        "triples" => cover(&sizes, 3, seed),
        count => {
            let count: u64 = count.parse().expect("PASSBRIDGE_HABITS is pairs, triples or a number of rows");
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..count).map(|_| sizes.iter().map(|size| rng.usize(..*size)).collect()).collect()
        }
    };
    let case = |(row, place): (Vec<usize>, u64)| {
        let mut case = Case::new(seed.wrapping_mul(1000) + place, &[]);
        for ((_, levels), level) in table.iter().zip(row) {
            with(&mut case, levels[level]);
        }
        case
    };
    rows.into_iter().zip(0..).map(case).collect()
}

/// What is left of a wrong case when everything is taken out of it without which it is wrong as
/// well. It takes its time: a case without a fault may be wrong by chance only now and then, so
/// each is given three tries.
async fn smaller(case: &Case) -> (Case, Verdict) {
    let mut least = case.clone();
    let mut seen = Verdict::default();
    let events: [fn(&mut Events); 4] = [
        |events| events.kill = false,
        |events| events.switch = false,
        |events| events.stop = false,
        |events| events.restore = false,
    ];
    let mut without: Vec<Case> = Vec::new();
    let mut at = 0;
    loop {
        without.clear();
        without.extend((0..least.habits.len()).map(|place| {
            let mut fewer = least.clone();
            fewer.habits.remove(place);
            fewer
        }));
        without.extend(events.iter().map(|end| {
            let mut fewer = least.clone();
            end(&mut fewer.events);
            fewer
        }));
        without.push(Case { fails: None, ..least.clone() });
        let Some(fewer) = without.get(at) else { return (least, seen) };
        at += 1;
        if fewer.to_string() == least.to_string() {
            continue;
        }
        for _ in 0..3 {
            let verdict = run(fewer).await;
            if !verdict.is_good() {
                // What is before this place is needed, and the places of the habits have moved by
                // one.
                at -= usize::from(fewer.habits.len() < least.habits.len());
                (least, seen) = (fewer.clone(), verdict);
                break;
            }
        }
    }
}

/// Runs them, some at once, and tells of each that is wrong.
pub async fn survive(cases: Vec<Case>) {
    let _alone = busy().await;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let only = number("PASSBRIDGE_ROW");
    let count = cases.len();
    let mut runs = JoinSet::new();
    for (row, case) in (0..).zip(cases).filter(|(row, _)| only.is_none_or(|only| only == *row)) {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _place = places.acquire_owned().await;
            let verdict = run(&case).await;
            let least = if !verdict.is_good() && env::var_os("PASSBRIDGE_SMALLER").is_some() {
                Some(smaller(&case).await)
            } else {
                None
            };
            (row, case, verdict, least)
        });
    }
    let (mut wrong, mut slow, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    while let Some(ended) = runs.join_next().await {
        let (row, case, verdict, least) = ended.unwrap();
        slowest = slowest.max(verdict.took);
        slow += usize::from(verdict.slow);
        if only.is_some() || env::var_os("PASSBRIDGE_TELL").is_some() {
            println!("row {row}: {case}\n  {}", verdict.line());
        }
        if !verdict.is_good() {
            println!("WRONG row {row}: {case}\n  {}\n{}", verdict.line(), verdict.tail);
            if let Some((case, verdict)) = least {
                println!("ENOUGH for row {row}: {case}\n  {}\n{}", verdict.line(), verdict.tail);
            }
            wrong.push(format!("row {row}: {case}\n  {}", verdict.line()));
        }
    }
    println!("{count} rows, the slowest {slowest:?} after its last read, {slow} not whole then");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_two_habits_of_a_cloud_with_lost_answers_kills_and_other_sessions_lose_nothing_and_double_nothing() {
    let seed = number("PASSBRIDGE_SEED").unwrap_or(1);
    if let Ok(text) = env::var("PASSBRIDGE_CASE") {
        return survive(vec![text.parse().unwrap()]).await;
    }
    match env::var("PASSBRIDGE_HABITS") {
        Ok(how) => survive(all(&how, seed)).await,
        Err(_) => survive(short(seed)).await,
    }
}

/// Without habits nothing is wrong: what the others find is the habits' doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cloud_without_habits_gets_each_read_once_through_kills_stops_restored_disks_and_other_sessions() {
    let events = [
        Events::default(),
        Events { kill: true, ..Events::default() },
        Events { switch: true, ..Events::default() },
        Events { kill: true, switch: true, stop: true, ..Events::default() },
    ];
    let duplicates = ["duplicates=none", "duplicates=number", "duplicates=chip-time:per-device"];
    let cases = events.into_iter().flat_map(|events| {
        (0..).zip(duplicates).map(move |(seed, duplicates)| Case { events, ..Case::new(seed, &[duplicates]) })
    });
    survive(cases.collect()).await;
}

/// Takes minutes: the box waits as long as it does at a race.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes some minutes: settings as shipped, and a cloud that shows what it took ten seconds later"]
async fn with_the_settings_as_shipped_a_cloud_that_is_ten_seconds_behind_gets_each_read_once() {
    let seed = number("PASSBRIDGE_SEED").unwrap_or(1);
    let duplicates = ["none", "number", "chip-time", "number:per-device"];
    let lags =
        [&["lag=10s"][..], &["lag=0s..10s", "lag-active=5s"], &["lag=3s", "lag-by-time=8s", "stale-active=before@1/3"]];
    let lost = ["lost-answers=stored@1/3", "lost-answers=dropped@1/3", "lost-answers=late:5s@1/3"];
    let events = [
        Events { kill: true, ..Events::default() },
        Events { switch: true, ..Events::default() },
        Events { kill: true, switch: true, ..Events::default() },
        Events { restore: true, ..Events::default() },
    ];
    let rows = cover(&[duplicates.len(), lags.len(), lost.len(), events.len()], 2, seed);
    let case = |(row, place): (Vec<usize>, u64)| {
        let mut case = Case::new(seed.wrapping_mul(1000) + place, lags[row[1]]);
        case.habits.push(format!("duplicates={}", duplicates[row[0]]));
        case.habits.push(lost[row[2]].to_owned());
        Case { events: events[row[3]], pace: Pace::Shipped, limit: Duration::from_secs(600), ..case }
    };
    survive(rows.into_iter().zip(0..).map(case).collect()).await;
}

#[test]
fn a_case_is_read_as_it_is_printed() {
    for case in short(1).into_iter().chain(all("40", 2)) {
        let text = case.to_string();
        assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
    }
}
