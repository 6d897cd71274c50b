//! Whatever becomes of the log output: reads are kept, acknowledged and sent, the page answers, and
//! SIGTERM ends the box.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{Running, Site, UPLOAD, decoder, judge, passing, until};

/// Writes into a pipe until nothing more goes in. On a handle of its own: the flag would be the
/// other one's, too.
fn fill(pipe: &PipeWriter) {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut own = File::options().write(true).custom_flags(flags).open(path).unwrap();
    for size in [4096, 1] {
        while own.write(&vec![b'x'; size]).is_ok() {}
    }
}

/// A box whose log goes to `stderr` does everything that it has to do. `trouble`: once it runs.
async fn works(what: &str, stderr: Stdio, trouble: impl FnOnce()) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let mut command = site.command(&["run"]);
    command.env("RUST_LOG", "debug");
    let running = Running::saying(command, stderr);
    sim.push(20);
    site.sent(20).await;
    trouble();
    for round in 1..=3 {
        // Each way down and up is a line of the log.
        sim.set_online(false);
        until("the link is down", async || *sim.links().borrow() == 0).await;
        sim.set_online(true);
        sim.push(20);
        site.sent(20 + 20 * round).await;
    }
    site.until("the log's trouble is shown", |status| {
        status.ready && status.problems.iter().any(|problem| problem.code == "log_output")
    })
    .await;
    until("all are acknowledged", async || *sim.acked_count().borrow() as usize == sim.reads().len()).await;
    assert_eq!(site.get("/healthz").await.map(|(code, _)| code), Some(200), "{what}");
    running.stop().await; // within 10 s and with 0
    judge(what, &cloud, &token, sim.reads().iter().map(passing));
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    works("the reader is gone", writer.into(), move || drop(reader)).await;
}

#[tokio::test]
async fn a_full_disk_under_the_log_ends_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    works("the log's disk is full", full.into(), || {}).await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    let own = writer.try_clone().unwrap();
    works("nobody reads the log", writer.into(), move || fill(&own)).await;
    drop(reader);
}

#[tokio::test]
async fn a_log_that_is_read_again_goes_on_with_what_waited() {
    let (mut reader, writer): (PipeReader, PipeWriter) = std::io::pipe().unwrap();
    let (_sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    fill(&writer);
    let running = Running::saying(site.command(&["run"]), writer);
    site.until("the log's trouble is shown", |status| {
        status.problems.iter().any(|problem| problem.code == "log_output")
    })
    .await;
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    site.until("it is over", |status| status.problems.iter().all(|problem| problem.code != "log_output")).await;
    running.stop().await;
    let said = reading.join().unwrap();
    for line in ["ready: reads are kept", "log_output", "stopping"] {
        assert!(said.contains(line), "{line}: {}", said.trim_start_matches('x'));
    }
}

#[tokio::test]
async fn what_cannot_be_said_at_the_end_does_not_hold_it_up() {
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let site = Site::new(None, &[(Kind::MYLAPS, "tcp-listen://127.0.0.1:0".into())], "[status\n");
    let mut running = Running::saying(site.command(&["run"]), writer);
    let ended = running.ended(std::time::Duration::from_secs(20)).await;
    assert_eq!(ended.expect("it ends").code(), Some(78));
}
