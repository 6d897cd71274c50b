//! Draining a backlog: 1,000,000 passings wait in the journal, the simulated cloud answers at once,
//! and the real binary uploads them. Memory and CPU are the child's own; the cloud runs in this
//! process, on the same cores.
//!
//! `cargo bench --bench drain -- 200000` drains another number.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::path::Path;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use rig::Running;

fn main() {
    rig::heading("drain: passings per second into a simulated cloud at zero latency");
    let count = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(1_000_000);
    let dir = rig::scratch();
    let backlog = dir.path().join("backlog");
    rig::prepare(&backlog, count);
    println!("{count} passings wait; log and queue have {} MB", rig::tree_bytes(&backlog) / 1_000_000);
    println!(
        "{:<10}{:>12}{:>16}{:>15}{:>20}{:>18}",
        "batch_max", "passings/s", "start to POST", "peak RSS", "CPU us/passing", "cloud's CPU"
    );
    for batch_max in [100, 500, 100, 500] {
        let data = dir.path().join("data");
        rig::image::image(&backlog, &data);
        drain(&data, count, batch_max);
        std::fs::remove_dir_all(&data).unwrap();
    }
}

fn drain(data: &Path, count: u64, batch_max: usize) {
    let runtime = rig::runtime();
    runtime.block_on(async {
        let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
        cloud.open_session(DEVICE, "Bench");
        let cpu = rig::cpu();
        // Nobody listens at the decoder's port: the link tries again now and then.
        let upload = format!("batch_max = {batch_max}");
        let running = Running::start(data, &cloud.url(), ("ipico", "tcp://127.0.0.1:1"), &upload);
        assert!(cloud.wait_for(count as usize, Duration::from_secs(600)).await, "not drained in ten minutes");
        let cpu = rig::cpu() - cpu;
        let (peak, own) = (running.memory_mb("VmHWM"), running.cpu_s());
        let started = running.started;
        running.stop();
        let posts = cloud.posts();
        let (first, last) = (posts.first().unwrap().at, posts.last().unwrap().at);
        println!(
            "{batch_max:<10}{:>12.0}{:>14.0}ms{:>12.1} MB{:>20.1}{:>18.1}",
            count as f64 / last.duration_since(first).as_secs_f64(),
            first.duration_since(started).as_secs_f64() * 1e3,
            peak,
            own * 1e6 / count as f64,
            cpu.as_secs_f64() * 1e6 / count as f64,
        );
        assert!(cloud.violations().is_empty(), "{:?}", cloud.violations());
    });
}
