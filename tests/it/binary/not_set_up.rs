//! A box that nobody has set up: the package was installed, and there is no configuration. It runs,
//! says what to do on every way, and begins to read when the file comes, in the same process.

use std::fs;

use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::Snapshot;
use rustix::process::Signal;

use crate::support::child::{Site, decoder, until};
use crate::support::terminal::{self, Terminal};

fn problem<'a>(status: &'a Snapshot, code: &str) -> Option<&'a str> {
    status.problems.iter().find(|problem| problem.code == code).map(|problem| problem.message.as_str())
}

/// Waits until the status is so, and gives it.
async fn shows(site: &Site, what: &str, mut so: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let mut seen = None;
    until(what, async || {
        seen = site.status().await;
        seen.as_ref().is_some_and(&mut so)
    })
    .await;
    seen.unwrap()
}

#[tokio::test]
async fn a_box_without_a_configuration_runs_says_so_and_reads_as_soon_as_it_has_one() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let right = fs::read_to_string(site.config()).unwrap();
    fs::remove_file(site.config()).unwrap();
    let (data, listen) = (site.data.to_str().unwrap(), format!("127.0.0.1:{}", site.page));
    let mut running = site.start_with(&[("PASSBRIDGE__DATA_DIR", data), ("PASSBRIDGE__STATUS__LISTEN", &listen)]);
    let status = shows(&site, "it runs", |status| status.ready).await;
    let told = problem(&status, "not_set_up").unwrap_or_else(|| panic!("{status:#?}"));
    assert!(told.contains(site.config().to_str().unwrap()) && told.contains("sudo passbridge setup"), "{told}");
    assert_eq!(status.problems.len(), 1, "one cause is one problem: {status:#?}");
    assert_eq!((status.state.word(), status.decoders.len(), status.uploads.len()), ("not-reading", 0, 0));
    assert!(status.sentence.starts_with("This box is not set up."), "{}", status.sentence);
    assert!(status.todo[0].contains("sudo passbridge setup"), "{:?}", status.todo);

    // The command and the page say the same, and a check has its exit code.
    let output = site.output(&["status", "--data-dir", data]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(13), "{output:?}");
    assert!(shown.contains("NOT READING. This box is not set up.") && shown.contains("passbridge setup"), "{shown}");
    let page = site.get("/").await.unwrap();
    assert!(page.0 == 200 && page.1.contains("This box is not set up."), "{page:?}");
    let output = site.output(&["check"]).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("sudo passbridge setup"), "{output:?}");

    // Asked to look while there is still none: nothing changes, and nothing more is logged.
    running.signal(Signal::HUP);
    // A file that cannot be understood is told with its line, and the box stays as it is.
    fs::write(site.config(), "name = \n").unwrap();
    running.signal(Signal::HUP);
    let unreadable = |status: &Snapshot| problem(status, "configuration_unreadable").is_some();
    let status = shows(&site, "the mistake is told", unreadable).await;
    assert!(problem(&status, "configuration_unreadable").unwrap().contains("passbridge.toml:1"), "{status:#?}");
    assert!(problem(&status, "not_set_up").is_some(), "{status:#?}");
    let lines = |said: &str| site.said().lines().filter(|line| line.contains(said)).count();
    assert_eq!(lines("there is no such configuration file"), 1, "{}", site.said());

    // The file comes.
    fs::write(site.config(), right).unwrap();
    running.signal(Signal::HUP);
    until("the decoder is connected", async || *sim.links().borrow() == 1).await;
    sim.push(3);
    let reads = |status: &Snapshot| status.decoders.first().is_some_and(|decoder| decoder.reads == 3);
    let status = shows(&site, "it reads", reads).await;
    assert_eq!(problem(&status, "not_set_up"), None, "{status:#?}");
    assert!(running.ended(std::time::Duration::ZERO).await.is_none(), "the process is the same");
    running.stop().await;
}

#[test]
fn at_a_terminal_a_file_that_is_not_there_ends_the_start_because_its_name_was_typed() {
    if !terminal::can_run() {
        eprintln!("SKIPPED: there is no program here that gives another one a terminal");
        return;
    }
    let site = Site::new(None, &[], "");
    fs::remove_file(site.config()).unwrap();
    let (code, said) = Terminal::start(&site.command(&["run"])).end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("no such configuration file") && !site.data.exists(), "{said}");
}

#[tokio::test]
async fn a_file_that_is_there_and_cannot_be_understood_still_ends_the_start() {
    let site = Site::new(None, &[], "");
    fs::write(site.config(), "name = \n").unwrap();
    let output = site.output(&["run"]).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("passbridge.toml:1"), "{output:?}");
}
