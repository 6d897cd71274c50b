//! Programs as a timer writes them: shell scripts that work, fail, hang and leave others behind.

use std::path::PathBuf;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

/// A folder with a program. `HERE` in its text is the folder.
struct Script(TempDir);

impl Script {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = text.replace("HERE", dir.path().to_str().unwrap());
        std::fs::write(dir.path().join("draft"), format!("#!/bin/sh\n{text}\n")).unwrap();
        // Another process writes the file that is run: Linux runs no file that is open for writing,
        // and each process that another test starts meanwhile would have it open.
        let installed = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([dir.path().join("draft"), dir.path().join("program")])
            .status();
        assert!(installed.unwrap().success());
        Self(dir)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("program")
    }

    fn wrote(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }

    async fn run(&self, limit: Duration) -> Result<(), String> {
        run(&self.program(), &StateNews::example(BoxState::NotReading, "mat is silent."), limit).await
    }
}

const LONG: Duration = Duration::from_secs(60);

/// Waits until something is so, and not for ever.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn it_gets_the_word_and_the_sentence_and_an_environment_that_is_known() {
    let script = Script::new("printf '%s|' \"$@\" >HERE/arguments; env >HERE/environment; cat >HERE/input");
    assert_eq!(script.run(LONG).await, Ok(()));
    assert_eq!(script.wrote("arguments"), "not-reading|mat is silent.|");
    assert_eq!(script.wrote("input"), "");
    let mut names: Vec<String> =
        script.wrote("environment").lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    names.retain(|name| !matches!(name.as_str(), "PWD" | "OLDPWD" | "SHLVL" | "_")); // the shell's own
    names.sort();
    assert_eq!(names, ["HOME", "LANG", "PASSBRIDGE_BOX", "PATH"]);
}

#[tokio::test]
async fn it_is_killed_when_it_takes_too_long_and_so_is_what_it_started() {
    let script = Script::new("sleep 600 & echo $! >HERE/child; echo waiting >&2; sleep 600");
    let why = script.run(Duration::from_secs(4)).await.unwrap_err();
    assert_eq!(why, "did not end within 4 s and was killed: waiting");
    let child = script.wrote("child").trim().to_owned();
    // A zombie that nobody reaps in a container has no command line.
    let lives = || std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(!child.is_empty());
    until("its child is killed, too", || !lives()).await;
}

#[tokio::test]
async fn what_it_leaves_behind_in_the_background_ends_with_it() {
    let script = Script::new("sleep 600 & echo $! >HERE/child");
    assert_eq!(script.run(LONG).await, Ok(()));
    let child = script.wrote("child").trim().to_owned();
    let lives = || std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty());
    until("its child is killed", || !lives()).await;
}

#[tokio::test]
async fn what_is_wrong_with_it_is_said_with_its_last_words() {
    let fails = Script::new("echo first >&2; echo 'no such host' >&2; exit 7");
    assert_eq!(fails.run(LONG).await.unwrap_err(), "ended with exit code 7: no such host");
    let dies = Script::new("kill -9 $$");
    assert_eq!(dies.run(LONG).await.unwrap_err(), "was ended by signal 9");
    let talks = Script::new("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1");
    assert!(talks.run(LONG).await.unwrap_err().len() < 300);
    let gone = run(Path::new("/nonexistent/siren"), &StateNews::example(BoxState::Ready, "."), LONG).await;
    assert_eq!(gone.unwrap_err(), "is not there, or what its first line names is not");
    std::fs::set_permissions(fails.program(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(fails.run(LONG).await.unwrap_err().starts_with("may not be run"));
}

#[tokio::test]
async fn each_change_of_the_word_is_told_once_and_of_several_that_wait_the_newest() {
    // The first run waits until the test lets it go on.
    let script = Script::new("echo $1 >>HERE/told; while [ ! -e HERE/go ]; do sleep 0.02; done");
    let (news, told) = watch::channel(None);
    let (board, stop) = (Board::new("finish"), CancellationToken::new());
    let (program, shown, stopping) = (script.program(), board.clone(), stop.clone());
    let telling = tokio::spawn(async move { tell(&program, &shown, told, stopping).await });
    let send = |state, sentence: &str, starting| {
        news.send_replace(Some(StateNews { starting, ..StateNews::example(state, sentence) }));
    };
    send(BoxState::NotReading, "The box has just started.", true);
    tokio::task::yield_now().await;
    send(BoxState::Ready, "Ready.", false);
    until("the first state is told", || script.wrote("told") == "ready\n").await;
    send(BoxState::TimeWrong, "It is wrong.", false);
    send(BoxState::NotReading, "No mat reads.", false);
    send(BoxState::NotUploading, "No internet.", false);
    std::fs::write(script.0.path().join("go"), "").unwrap();
    until("the newest state is told", || script.wrote("told") == "ready\nnot-uploading\n").await;
    send(BoxState::NotUploading, "No internet, and another sentence.", false);
    send(BoxState::Reading, "It reads.", false);
    until("the next state is told", || script.wrote("told").ends_with("reading\n")).await;
    stop.cancel();
    telling.await.unwrap();
    assert_eq!(script.wrote("told"), "ready\nnot-uploading\nreading\n");
    assert!(board.snapshot().problems.is_empty());
}

#[tokio::test]
async fn a_program_that_fails_is_a_problem_until_it_works() {
    let script = Script::new("test $1 = ready");
    let (news, told) = watch::channel(None);
    let (board, stop) = (Board::new("finish"), CancellationToken::new());
    let (program, shown, stopping) = (script.program(), board.clone(), stop.clone());
    let telling = tokio::spawn(async move { tell(&program, &shown, told, stopping).await });
    let failed = || board.snapshot().problems.iter().any(|problem| problem.code == "on_state_failed");
    news.send_replace(Some(StateNews::example(BoxState::NotReading, "No mat reads.")));
    until("it failed", failed).await;
    news.send_replace(Some(StateNews::example(BoxState::Ready, "Ready.")));
    until("it works", || !failed()).await;
    stop.cancel();
    telling.await.unwrap();
}
