//! Room: bytes on the disk for each read (log and queue, as allocated), and memory of the real
//! binary when idle.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::{Ipico, Running};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Reads of a backlog.
const READS: u64 = 100_000;
/// Reads that are uploaded as they come.
const LIVE: u64 = 20_000;

fn main() {
    rig::heading("disk: bytes on the disk for each read (not counted: the reserve of 4 MiB)");
    println!("{:<44}{:>8}{:>8}{:>8}", "IPICO reads", "log", "queue", "both");
    for group in [1, 10, 100] {
        let dir = rig::scratch();
        rig::runtime().block_on(async {
            let journal = rig::open_journal(dir.path());
            journal.serving().await;
            rig::keep(&journal, &mut Ipico::new(0), READS, group).await;
            journal.close().await;
        });
        show(dir.path(), &format!("backlog of {READS}, in groups of {group}"), READS);
    }
    let runtime = rig::runtime();
    runtime.block_on(live());
}

fn show(dir: &Path, what: &str, reads: u64) {
    let [log, queue] = ["log", "queue"].map(|name| rig::tree_bytes(&dir.join(name)) as f64 / reads as f64);
    println!("{what:<44}{log:>8.0}{queue:>8.0}{:>8.0}", log + queue);
}

/// Idle memory, then reads at the pace of a mass start, uploaded at once.
async fn live() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Bench");
    let decoder = SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Listen(LOOPBACK))).await.unwrap();
    let dir = rig::scratch();
    let data = dir.path().join("data");
    let place = format!("tcp://{}", decoder.address().unwrap());
    let running = Running::start(&data, &cloud.url(), ("ipico", &place), "");
    decoder.links().wait_for(|links| *links > 0).await.unwrap();
    running.wait(|snapshot| snapshot.uploads.first().is_some_and(|upload| upload.session.is_some())).await;
    tokio::time::sleep(Duration::from_secs(12)).await; // past the first checkpoint
    let idle = [running.memory_mb("VmRSS"), running.memory_mb("VmHWM")];
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..LIVE / 10 {
        ticks.tick().await;
        decoder.push(10);
    }
    assert!(cloud.wait_for(LIVE as usize, Duration::from_secs(60)).await);
    let busy = running.memory_mb("VmHWM");
    running.stop();
    show(&data, &format!("{LIVE} uploaded live at 1,000 a second"), LIVE);
    println!("memory: idle {:.1} MB (peak until then {:.1} MB), peak of that upload {busy:.1} MB", idle[0], idle[1]);
}
