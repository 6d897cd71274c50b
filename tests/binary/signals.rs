//! Signals: what ends the box, and what does not.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::child::{Running, Site, UPLOAD, binary, decoder, free_port, judge, passing, until};

/// All that a person or a script may send, and that does not mean "end".
const OTHERS: [Signal; 9] = [
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::XFSZ,
];

#[tokio::test]
async fn no_signal_ends_the_box_but_those_that_mean_it() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let running = site.start();
    sim.push(5);
    site.sent(5).await;
    for (at, signal) in (1..).zip(OTHERS) {
        running.signal(signal);
        if signal == Signal::HUP {
            until("the hangup is noted", async || site.said().contains("hangup")).await;
        } else {
            let told = format!("signal {} means nothing", signal.as_raw());
            until("the signal is noted", async || site.said().contains(&told)).await;
        }
        sim.push(5);
        site.sent(5 + 5 * at).await;
    }
    running.signal(Signal::INT);
    let mut running = running;
    assert_eq!(running.ended(Duration::from_secs(10)).await.expect("it ends").code(), Some(0));
    judge("after all signals", &cloud, &token, sim.reads().iter().map(passing));
}

#[tokio::test]
async fn a_hangup_has_the_bib_file_read_again() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (_sim, mat) = decoder(Kind::IPICO, 1).await;
    let bibs = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bibs.path(), "chip,bib\nA,\n").unwrap();
    let more = format!("{UPLOAD}[passing]\nbibs = \"{}\"\n", bibs.path().display());
    let site = Site::new(Some(&cloud), &[mat], &more);
    let running = site.start();
    let broken = |status: &passbridge::testing::status::Snapshot| {
        status.problems.iter().find(|problem| problem.code == "bibs_broken").map(|problem| problem.message.clone())
    };
    site.until("its line is told", |status| broken(status).is_some_and(|text| text.contains("line 2"))).await;
    std::fs::write(bibs.path(), "chip,bib\nA,1\n").unwrap();
    running.signal(Signal::HUP);
    site.until("it is taken", |status| broken(status).is_none()).await;
    running.stop().await;
}

/// `simulate cloud` on a free port, started as a person would.
async fn simulated(mut command: Command) -> (Running, u16) {
    let port = free_port();
    command.args(["simulate", "cloud", "--listen", &format!("127.0.0.1:{port}")]);
    let running = Running::saying(command, std::process::Stdio::null());
    until("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    (running, port)
}

#[tokio::test]
async fn a_terminal_that_is_closed_ends_what_a_person_watches_unless_nohup_was_said() {
    let (mut running, _) = simulated(binary(&[])).await;
    running.signal(Signal::HUP);
    let ended = running.ended(Duration::from_secs(10)).await.expect("it ends");
    assert_eq!(ended.signal(), Some(Signal::HUP.as_raw()));

    // What `nohup` does.
    let mut nohup = Command::new("/bin/sh");
    nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_passbridge")]).env_clear();
    let (mut running, port) = simulated(nohup).await;
    running.signal(Signal::HUP);
    // A signal comes before the process does anything else.
    until("it still answers", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    assert_eq!(running.ended(Duration::from_millis(100)).await, None);
    running.signal(Signal::TERM);
    assert!(running.ended(Duration::from_secs(10)).await.is_some());
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_ends_nothing() {
    const READS: u64 = 6000; // 1.4 MB of log
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -f 1600; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_passbridge"), "run", "--config"]);
    limited.arg(site.config()).env_clear(); // 800 KiB
    let running = Running::saying(limited, std::process::Stdio::null());
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    sim.push(READS);
    site.until("all are kept", |status| status.decoders[0].reads == READS && status.ready).await;
    running.stop().await;
    let limited = std::fs::read_dir(site.data.join("log")).unwrap().count();
    assert!(limited > 1, "one file would have been too large");
    assert_eq!(site.export().await.len() as u64, READS);
}
