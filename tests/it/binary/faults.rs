//! A disk that fails while the box runs: strace makes its system calls fail, from when it is
//! attached until it is taken away. Where there is no strace, or it may not trace, the tests say so
//! and prove nothing.

use std::fs;
use std::process::{Child, Command, Stdio};

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{PATIENCE, Running, Site, decoder, holds, judge, passing, until};

const UPLOAD: &str = "[upload]\nlinger = \"20ms\"\nmin_interval = \"20ms\"\nretry_max = \"1s\"\nsettle = \"1s\"\n";

/// System calls of a process that fail; they work again when this is dropped.
pub(super) struct Failing(Child);

impl Failing {
    /// `None`: it cannot be done here. `inject`: see strace(1).
    pub(super) async fn attach(process: &Running, inject: &str) -> Option<Self> {
        let id = process.id().to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", inject, "-p", &id]);
        let strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = strace else {
            eprintln!("SKIPPED: there is no strace here, so no system call can be made to fail");
            return None;
        };
        let mut failing = Self(child);
        let tracer = failing.0.id();
        let traced = || {
            let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
            let status = threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default());
            status.into_iter().all(|status| status.contains(&format!("TracerPid:\t{tracer}\n")))
        };
        let attached = holds(PATIENCE, async || traced() || failing.0.try_wait().unwrap().is_some()).await;
        if !attached || failing.0.try_wait().unwrap().is_some() {
            eprintln!("SKIPPED: strace may not trace a process here");
            return None;
        }
        Some(failing)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = self.0.kill(); // the kernel lets the process go on
        let _ = self.0.wait();
    }
}

fn segments(site: &Site) -> usize {
    fs::read_dir(site.data.join("log"))
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "log"))
        .count()
}

/// Reads before, while and after the disk fails, from a decoder that only streams. `lasting`: until
/// it is mended.
async fn fails(what: &str, inject: &str, lasting: bool) {
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), std::slice::from_ref(&mat), UPLOAD);
    let running = site.start();
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    sim.push(50);
    site.sent(50).await;
    let Some(failing) = Failing::attach(&running, inject).await else { return };
    sim.push(50);
    if lasting {
        let mut reason = None;
        until("it is not ready, and says why", async || {
            reason = site.get("/readyz").await.filter(|(code, _)| *code == 503);
            reason.is_some()
        })
        .await;
        assert!(reason.unwrap().1.contains("disk"), "{what}");
        site.until("the status says so", |status| {
            !status.ready && status.problems.iter().any(|problem| problem.code == "disk_failed")
        })
        .await;
        sim.push(50);
        site.until("reading goes on", |status| status.decoders[0].buffered >= 50).await;
    } else {
        site.until("it is told", |status| status.problems.iter().any(|problem| problem.code == "disk_error")).await;
        assert!(segments(&site) > 1, "{what}: the segment is left");
        sim.push(50);
    }
    drop(failing);
    until("it is ready again", async || site.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    site.sent(150).await;
    let status = site.status().await.unwrap();
    assert_eq!((status.decoders[0].reads, status.decoders[0].dropped), (150, 0), "{what}");
    running.stop().await;
    judge(what, &cloud, &token, sim.reads().iter().map(passing));
    assert_eq!(site.export().await.len(), 150, "{what}");
    // What is on the disk is whole: the next start has nothing to say about the log.
    let running = site.start();
    site.until("the queue serves", |status| status.journal.serving).await;
    let problems: Vec<String> = site.status().await.unwrap().problems.into_iter().map(|problem| problem.code).collect();
    assert!(problems.iter().all(|code| !code.starts_with("log_") && code != "journal_lost"), "{what}: {problems:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_fdatasync_that_failed_once_is_not_trusted_again_and_nothing_is_lost() {
    fails("fdatasync fails once", "inject=fdatasync:error=EIO:when=1", false).await;
}

#[tokio::test]
async fn an_fdatasync_that_fails_for_a_while_costs_nothing() {
    fails("fdatasync fails", "inject=fdatasync:error=EIO", true).await;
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_for_a_while_costs_nothing() {
    fails("writes fail", "inject=pwrite64,fdatasync:error=EIO", true).await;
}

#[tokio::test]
async fn a_file_system_that_is_read_only_for_a_while_costs_nothing() {
    fails("read-only", "inject=pwrite64,rename,renameat,renameat2,ftruncate:error=EROFS", true).await;
}
