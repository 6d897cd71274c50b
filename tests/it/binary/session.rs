//! `session open` and `session close`, with a daemon that uploads meanwhile and without one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use passbridge::testing::sim::cloud::{Access, Answer, CloudFault, DEVICE, KEY, On, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::{PATIENCE, Passing, Running, SETTLES_SOON, Site, decoder, passing, race, until};
use crate::support::skip;
use crate::support::terminal::{self, Terminal};

async fn site(more: &str) -> (SimCloud, Arc<SimDecoder>, Site) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], more);
    (cloud, Arc::new(sim), site)
}

/// Exit code, the JSON of standard output, and what people are told.
async fn session(site: &Site, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = site.output(&[&["session"], arguments, &["--json"]].concat()).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains(KEY), "{told}");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), told)
}

/// What a session has, in the order of its numbers, which begin at 1 and have no hole.
fn stored(cloud: &SimCloud, token: &str) -> Vec<Passing> {
    let mut all: Vec<_> = cloud.passings(token).into_iter().collect();
    all.sort_by_key(|passing| passing.num);
    assert!(all.iter().map(|passing| passing.num).eq(1..=all.len() as u64), "a hole in the numbers");
    all.into_iter().map(|stored| (stored.chip.as_deref().unwrap_or_default().to_owned(), stored.time_ms)).collect()
}

/// The lines of the log about orders.
fn notes(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data.join("log")).unwrap();
    let mut lines = Vec::new();
    for file in files {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        lines.extend(text.lines().filter(|line| line.contains("\tnote\tsession\t")).map(str::to_owned));
    }
    lines
}

fn expected(sim: &SimDecoder) -> Vec<Passing> {
    sim.reads().iter().map(passing).collect()
}

#[tokio::test]
async fn a_session_that_is_opened_amid_a_race_begins_where_the_old_one_ends_and_nothing_is_lost_or_twice() {
    let (cloud, sim, site) = site(SETTLES_SOON).await;
    let old = cloud.open_session(DEVICE, "Morning");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(30);
    site.sent(30).await;
    cloud.set_online(false).await;
    sim.push(700);
    site.until("the backlog is kept", |status| status.decoders[0].reads == 730).await;
    cloud.configure(|config| config.latency = Duration::from_millis(20));
    cloud.set_online(true).await;
    let racing = race(&sim, 3); // reads arrive all the time
    let (code, opened, told) = session(&site, &["open", "--alias", "Afternoon \"B\" 🏁", "--yes"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"Morning\"") && told.contains("ends for ever"), "{told}");
    assert_eq!((&opened["outcome"], &opened["by_daemon"]), (&"opened".into(), &true.into()), "{opened}");
    assert_eq!((&opened["session_before"], &opened["left"]), (&(&*old).into(), &0.into()), "{opened}");
    let new = opened["token_session"].as_str().unwrap().to_owned();
    until("passings go into the new session", async || stored(&cloud, &new).len() >= 20).await;
    drop(racing);
    let all = expected(&sim);
    until("all of it is there", async || {
        stored(&cloud, &old).len() + stored(&cloud, &new).len() == expected(&sim).len()
    })
    .await;
    site.until("nothing waits", |status| status.journal.pending == 0).await;
    let (first, second) = (stored(&cloud, &old), stored(&cloud, &new));
    assert!(first.len() >= 730, "what waited went into the old session: {}", first.len());
    assert_eq!([first, second].concat(), all, "in the order of the race");
    assert_eq!(cloud.violations(), Vec::<String>::new());
    assert_eq!(cloud.sessions(DEVICE).len(), 2);
    for token in [&old, &new] {
        let audit = site.output(&["audit", "--session", token]).await;
        assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    }
    let notes = notes(&site.data);
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(notes[0].contains("user ") && notes[0].contains("asks to open the session"), "{notes:#?}");
    assert!(notes[1].contains("was opened by user ") && notes[1].contains("Morning"), "{notes:#?}");

    let (code, closed, told) = session(&site, &["close", &new[new.len() - 6..], "--yes"]).await;
    assert_eq!((code, &closed["outcome"]), (Some(0), &"closed".into()), "{told}");
    assert!(cloud.sessions(DEVICE).iter().all(|session| !session.active));
    let (code, _, told) = session(&site, &["close", "--yes"]).await;
    assert!(code == Some(69) && told.contains("no active session"), "{told}");
    running.stop().await;
}

#[tokio::test]
async fn a_running_session_ends_only_if_somebody_agrees() {
    let (cloud, _sim, site) = site("").await;
    let (code, first, told) = session(&site, &["open", "--alias", "First"]).await;
    assert_eq!((code, &first["by_daemon"]), (Some(0), &false.into()), "no session ends, so nobody is asked: {told}");
    let (code, _, told) = session(&site, &["open", "--alias", "Second"]).await;
    assert!(code == Some(64) && told.contains("\"First\"") && told.contains("0 passings"), "{told}");
    assert!(told.contains("--yes") && told.contains("Nothing was changed"), "{told}");
    assert_eq!(cloud.sessions(DEVICE).len(), 1);
    for wrong in [&["open"][..], &["open", "--alias", ""], &["open", "--alias", "a\u{7}b"]] {
        assert_eq!(session(&site, wrong).await.0, Some(64), "{wrong:?}");
    }
}

#[tokio::test]
async fn without_a_daemon_what_waits_here_is_told_and_goes_into_the_new_session_later() {
    let (cloud, sim, site) = site(SETTLES_SOON).await;
    let old = cloud.open_session(DEVICE, "Morning");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(10);
    site.sent(10).await;
    cloud.set_online(false).await;
    sim.push(12);
    site.until("they are kept", |status| status.decoders[0].reads == 22).await;
    running.stop().await;
    cloud.set_online(true).await;
    let (code, opened, told) = session(&site, &["open", "--alias", "Afternoon", "--yes"]).await;
    assert_eq!((code, &opened["left"], &opened["by_daemon"]), (Some(0), &12.into(), &false.into()), "{told}");
    let running = site.start();
    let new = opened["token_session"].as_str().unwrap().to_owned();
    until("they are there", async || stored(&cloud, &new).len() == 12).await;
    assert_eq!([stored(&cloud, &old), stored(&cloud, &new)].concat(), expected(&sim));
    assert_eq!(cloud.violations(), Vec::<String>::new());
    running.stop().await;
}

#[tokio::test]
async fn an_open_whose_answer_is_lost_opens_one_session_with_a_daemon_and_without() {
    for with_daemon in [false, true] {
        let (cloud, sim, site) = site(SETTLES_SOON).await;
        cloud.open_session(DEVICE, "Morning");
        let running = with_daemon.then(|| site.start());
        if with_daemon {
            site.until("it is connected", |_| *sim.links().borrow() == 1).await;
            sim.push(3);
            site.sent(3).await;
        }
        cloud.fault(On::Open, CloudFault::after(Answer::Cut));
        let (code, opened, told) = session(&site, &["open", "--alias", "Second", "--yes"]).await;
        assert_eq!((code, &opened["outcome"]), (Some(0), &"opened".into()), "{told}");
        assert_eq!(cloud.sessions(DEVICE).len(), 2, "it is there once");

        cloud.fault(On::Open, CloudFault::before(Answer::Cut));
        let (code, _, told) = session(&site, &["open", "--alias", "Third", "--yes"]).await;
        assert!(code == Some(69) && told.contains("Nobody knows") && told.contains("\"Second\""), "{told}");
        assert_eq!(cloud.sessions(DEVICE).len(), 2, "it is not sent again");

        cloud.fault(On::Close, CloudFault::after(Answer::Cut));
        let (code, closed, told) = session(&site, &["close", "--yes"]).await;
        assert_eq!((code, &closed["outcome"]), (Some(0), &"closed".into()), "{told}");
        if let Some(running) = running {
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_key_that_may_not_write_opens_nothing_with_a_daemon_and_without() {
    let (cloud, sim, site) = site(SETTLES_SOON).await;
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Read)]);
    let (code, _, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert!(code == Some(77) && told.contains("Nothing was changed"), "{told}");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    let (code, _, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert!(code == Some(77) && told.contains("Nothing was changed"), "{told}");
    assert_eq!(cloud.sessions(DEVICE).len(), 0);
    running.stop().await;
    // With a key that may only write, nobody knows whether a session is running.
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Write)]);
    let (code, _, told) = session(&site, &["open", "--alias", "Race"]).await;
    assert!(code == Some(64) && told.contains("may not ask which"), "{told}");
    let (code, opened, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert_eq!((code, &opened["outcome"]), (Some(0), &"opened".into()), "{told}");
    assert_eq!(cloud.sessions(DEVICE).len(), 1);
}

/// A box whose reads do not get into the running session, so that an order waits for them.
async fn held_up() -> (SimCloud, Arc<SimDecoder>, Site, Running) {
    let (cloud, sim, site) = site(SETTLES_SOON).await;
    cloud.open_session(DEVICE, "Morning");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(5);
    site.sent(5).await;
    cloud.fault_always(On::Insert, CloudFault::before(Answer::Status(500)));
    sim.push(5);
    site.until("they are kept", |status| status.decoders[0].reads == 10).await;
    (cloud, sim, site, running)
}

/// `session open` that runs, once the daemon has taken its order.
async fn ordered(site: &Site) -> (Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let command = Running::spawn(site.command(&["session", "open", "--alias", "Afternoon", "--yes"]), dir.path());
    until("the daemon has the order", async || notes(&site.data).len() == 1).await;
    (command, dir)
}

#[tokio::test]
async fn ctrl_c_before_the_session_opens_withdraws_the_order() {
    let (cloud, sim, site, running) = held_up().await;
    let (mut command, _dir) = ordered(&site).await;
    command.signal(Signal::INT);
    assert!(command.ended(PATIENCE).await.is_some_and(|status| !status.success()));
    until("the daemon forgets it", async || notes(&site.data).len() == 2).await;
    assert!(notes(&site.data)[1].contains("was not opened"), "{:#?}", notes(&site.data));
    cloud.clear_faults();
    site.sent(10).await;
    assert_eq!(cloud.sessions(DEVICE).len(), 1);
    assert_eq!(stored(&cloud, &cloud.sessions(DEVICE)[0].token), expected(&sim));
    running.stop().await;
}

#[tokio::test]
async fn a_daemon_that_dies_amid_an_order_leaves_the_outcome_unknown_and_that_is_said() {
    let (_cloud, _sim, site, running) = held_up().await;
    let (mut command, dir) = ordered(&site).await;
    running.kill();
    let status = command.ended(PATIENCE).await.expect("it ends");
    let told = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert_eq!(status.code(), Some(69), "{told}");
    assert!(told.contains("Nobody knows") && told.contains("passbridge session list"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_session_that_the_person_saw_ends_with_a_daemon_and_without() {
    if !terminal::can_run() {
        return skip("the question of session open", "there is no setsid");
    }
    for with_daemon in [false, true] {
        let (cloud, sim, site) = site(SETTLES_SOON).await;
        cloud.open_session(DEVICE, "Morning");
        let running = with_daemon.then(|| site.start());
        if with_daemon {
            site.until("it is connected", |_| *sim.links().borrow() == 1).await;
            sim.push(3);
            site.sent(3).await;
        }
        let command = Terminal::start(&site.command(&["session", "open", "--alias", "Evening"]));
        let command = tokio::task::spawn_blocking(move || {
            command.shows("\"Morning\"");
            command
        });
        let command = command.await.unwrap();
        cloud.open_session(DEVICE, "Noon"); // somebody else, while the person thinks
        let (code, screen) = tokio::task::spawn_blocking(move || {
            command.type_line("y");
            let (code, screen) = command.end();
            (code, screen.replace('\n', "")) // a sentence may be longer than a line
        })
        .await
        .unwrap();
        assert!(code == Some(69) && screen.contains("\"Noon\"") && screen.contains("Nothing was changed"), "{screen}");
        let active: Vec<_> = cloud.sessions(DEVICE).into_iter().filter(|session| session.active).collect();
        assert!(active.len() == 1 && active[0].alias.as_deref() == Some("Noon"), "{active:?}");
        if let Some(running) = running {
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn what_the_cloud_refuses_to_an_order_does_not_stop_the_upload() {
    let (cloud, sim, site) = site(SETTLES_SOON).await;
    cloud.open_session(DEVICE, "Morning");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(3);
    site.sent(3).await;
    cloud.fault(On::Open, CloudFault::before(Answer::message(403, "Forbidden")));
    let (code, _, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert!(code == Some(77) && told.contains("Nothing was changed"), "{told}");
    sim.push(3);
    site.sent(6).await;
    let status = site.status().await.unwrap();
    assert!(status.problems.iter().all(|problem| problem.code != "key_refused"), "{:?}", status.problems);
    cloud.fault(On::Open, CloudFault::before(Answer::RetryAfter(429, "7".to_owned())));
    let (code, _, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert!(code == Some(69) && told.contains("to wait 7 s") && told.contains("Nothing was changed"), "{told}");
    running.stop().await;
    // A question before the change fails.
    cloud.set_online(false).await;
    let (code, _, told) = session(&site, &["open", "--alias", "Race", "--yes"]).await;
    assert!(code == Some(69) && told.contains("Nothing was changed"), "{told}");
    let (code, _, told) = session(&site, &["close", "A115B", "--yes"]).await;
    assert!(code == Some(64) && told.contains("at least the last 6 characters"), "{told}");
}
