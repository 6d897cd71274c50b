//! The state of the box in a terminal: one word for scripts, and the whole screen for people. And what
//! the package ships for shells and `man`.

use std::fs;
use std::time::{Duration, Instant};

use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::{BoxState, Snapshot};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::child::{PATIENCE, Site, binary, decoder};
use crate::support::skip;
use crate::support::terminal::{self, Terminal};

/// Work that waits for a screen must not keep the simulated decoder from answering.
async fn meanwhile<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_script_gets_one_word_and_the_exit_code_of_the_state() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let output = site.output(&["status", "--state"]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0), "no box, no word: {output:?}");
    let running = site.start();
    let is = |state: BoxState| move |status: &Snapshot| status.state == state;
    site.until("the box is ready", is(BoxState::Ready)).await;
    let output = site.output(&["status", "--state"]).await;
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"ready\n"[..]));
    sim.push(3);
    site.until("the box reads", is(BoxState::Reading)).await;
    let output = site.output(&["status", "--state"]).await;
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"reading\n"[..]));
    drop(sim);
    site.until("the mat is lost", is(BoxState::NotReading)).await;
    let output = site.output(&["status", "--state"]).await;
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(13), &b"not-reading\n"[..]));
    running.stop().await;
}

#[tokio::test]
async fn without_a_terminal_the_whole_screen_is_refused_with_what_to_use_instead() {
    let site = Site::new(None, &[], "");
    let output = site.output(&["status", "--watch"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{said}");
    assert!(said.contains("no terminal") && said.contains("--state"), "{said}");
}

fn gives_the_terminal_back(terminal: &Terminal) {
    let end = Instant::now() + PATIENCE;
    while !terminal.is_usual() {
        assert!(Instant::now() < end, "the terminal is not as it was");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_screen_follows_the_box_through_its_end_and_its_return() {
    if !terminal::can_run() {
        return skip("the whole screen", "there is no setsid");
    }
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let screen = Terminal::start(&site.command(&["status", "--watch"]));
    let screen = meanwhile(move || {
        screen.shows("? NO NEWS");
        screen.shows("has not answered yet");
        screen
    })
    .await;
    let running = site.start();
    let screen = meanwhile(move || {
        screen.shows("READY");
        screen.shows("no chip yet at ipico-mat");
        screen
    })
    .await;
    sim.push(3);
    let screen = meanwhile(move || {
        screen.shows("READING");
        screen.shows("✓ Mats");
        screen.shows("Last reads");
        screen.resize(40, 12);
        screen.shows("✓ Kept  ○ Cloud");
        screen.shows("q ends");
        screen
    })
    .await;
    running.stop().await;
    let screen = meanwhile(move || {
        screen.shows("? NO NEWS since");
        screen.shows("as of");
        screen
    })
    .await;
    let running = site.start();
    meanwhile(move || {
        screen.shows("READY");
        screen.type_in("q");
        gives_the_terminal_back(&screen);
        let (code, text) = screen.end();
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("READY"), "the screen is that of before: {text}");
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_and_a_signal_give_the_terminal_back() {
    if !terminal::can_run() {
        return skip("the end of the whole screen", "there is no setsid");
    }
    let site = Site::new(None, &[], "");
    let command = site.command(&["status", "--watch"]);
    let screen = Terminal::start(&command);
    meanwhile(move || {
        screen.shows("? NO NEWS");
        screen.type_in("\x03");
        gives_the_terminal_back(&screen);
        assert_eq!(screen.end().0, Some(0));
    })
    .await;
    let screen = Terminal::start(&command);
    meanwhile(move || {
        screen.shows("? NO NEWS");
        kill_process_group(Pid::from_raw(screen.id()).unwrap(), Signal::TERM).unwrap();
        gives_the_terminal_back(&screen);
        assert_eq!(screen.end().0, Some(0));
    })
    .await;
}

#[tokio::test]
async fn the_package_gets_completions_and_man_pages_from_the_program() {
    let run = async |arguments: Vec<String>| {
        let work = move || binary(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
        tokio::task::spawn_blocking(work).await.unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let output = run(vec!["completions".to_owned(), shell.to_owned()]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("held-back"), "{shell}: {text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let output = run(vec!["man".to_owned(), pages.to_str().unwrap().to_owned()]).await;
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(pages.join("passbridge-status.1")).unwrap();
    assert!(page.contains("passbridge") && page.contains("watch"), "{page}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run(vec!["man".to_owned(), file.to_str().unwrap().to_owned()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(74) && said.contains("cannot be written"), "{said}");
}
