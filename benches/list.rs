//! A list of everything that the cloud holds: time and memory of `passbridge passings`. A box uploads
//! a backlog into a simulated cloud, so the passings of the list are in its log. The program is a
//! child, the cloud runs in this process, on the same cores.
//!
//! `cargo bench --bench list`, 3 minutes; `cargo bench --bench list -- 200000` lists another number.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, Generation, KEY, SimCloud, SimCloudConfig};
use rig::Running;

fn main() {
    rig::heading("list: `passings` of a whole session from a simulated cloud at zero latency");
    let count = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(1_000_000);
    println!("program: {}", rig::program().display());
    println!(
        "{:<46}{:>12}{:>10}{:>14}{:>10}{:>10}",
        "what is listed", "passings", "seconds", "passings/s", "peak RSS", "of it anon"
    );
    for count in [count / 10, count] {
        rig::runtime().block_on(lists(count));
    }
}

async fn lists(count: u64) {
    let dir = rig::scratch();
    let data = dir.path().join("data");
    rig::prepare(&data, count);
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Bench");
    // Nobody listens at the decoder's port: the link tries again now and then.
    let running = Running::start(&data, &cloud.url(), ("ipico", "tcp://127.0.0.1:1"), "");
    assert!(cloud.wait_for(count as usize, Duration::from_secs(900)).await, "not uploaded in a quarter of an hour");
    running.stop();
    let config = data.with_extension("toml");

    cloud.configure(|config| config.generation = Generation::OpenApi);
    measure("table, joined with the log", &config, &[], count, 3).await;
    measure("CSV, joined with the log", &config, &["--csv"], count, 1).await;
    measure("JSON, joined with the log", &config, &["--json"], count, 0).await;
    measure("JSON by time, joined with the log", &config, &["--json", "--from", "2000-01-01"], count, 0).await;
    cloud.configure(|config| config.generation = Generation::Legacy);
    measure("JSON, old generation (no word about more)", &config, &["--json"], count, 0).await;
    std::fs::remove_dir_all(data.join("log")).unwrap();
    measure("JSON, without a log", &config, &["--json"], count, 0).await;
    assert!(cloud.violations().is_empty(), "{:?}", cloud.violations());
}

/// Runs the command, reads all that it writes, and looks at its memory meanwhile. `more`: lines that
/// are no passings.
async fn measure(what: &str, config: &Path, form: &[&str], count: u64, more: u64) {
    let mut command = Command::new(rig::program());
    command.arg("passings").args(form).arg("--config").arg(config).env_clear();
    command.env("PASSBRIDGE__CLOUD__API_KEY", KEY).stdin(Stdio::null());
    let measured = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (mut buffer, mut lines, mut peak) = (vec![0; 1 << 16], 0, [0.0_f64; 2]);
        loop {
            let read = out.read(&mut buffer).unwrap();
            // While it writes, it is there.
            if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
                peak = [peak[0].max(mb(&status, "VmHWM")), peak[1].max(mb(&status, "RssAnon"))];
            }
            if read == 0 {
                break;
            }
            lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        }
        assert!(child.wait().unwrap().success());
        (lines, started.elapsed().as_secs_f64(), peak)
    });
    let (lines, seconds, [peak, anon]) = measured.await.unwrap();
    assert_eq!(lines, count + more, "{what}");
    println!("{what:<46}{count:>12}{seconds:>10.1}{:>14.0}{peak:>7.1} MB{anon:>7.1} MB", count as f64 / seconds);
}

fn mb(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok()).map_or(0.0, |kib| kib * 1024.0 / 1e6)
}
