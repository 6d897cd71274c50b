//! `passbridge report` as it is typed, without a daemon: what it tells, in three forms, and what it costs the box.
//!
//! `PASSBRIDGE_EXPORT=1000000 cargo test --release --test it report:: -- --nocapture` does it with a million
//! reads and tells the time and the peak.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::export::{START_MS, race, reads};

/// Most memory that a report may allocate, in kB.
const PEAK_MAX: u64 = 16_000;

fn report(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passbridge"));
    command.args(["report", "--config"]).arg(config).args(more).output().unwrap()
}

/// Runs it, and looks again and again how much it has allocated.
fn peak(config: &Path, more: &[&str]) -> (Output, u64) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passbridge"));
    command.args(["report", "--config"]).arg(config).args(more).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut highest = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let now = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
        highest = highest.max(now);
        std::thread::sleep(Duration::from_millis(2)); // between two looks
    }
    (child.wait_with_output().unwrap(), highest)
}

#[test]
fn a_report_of_a_long_log_takes_little_memory_and_tells_what_is_in_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (data, config, count) = (dir.path().join("data"), dir.path().join("passbridge.toml"), reads());
    let decoder = "[[decoder]]\nname = \"mat\"\nprotocol = \"ipico\"\naddress = \"tcp://127.0.0.1:1\"\n";
    std::fs::write(&config, format!("name = \"finish\"\ndata_dir = \"{}\"\n{decoder}", data.display())).unwrap();
    let nothing = report(&config, &[]);
    assert_eq!(nothing.status.code(), Some(69), "nothing was ever kept: {nothing:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(race(&data, count));
    let from = jiff::Timestamp::from_millisecond(START_MS).unwrap().to_string();
    let began = Instant::now();
    let (json, highest) = peak(&config, &["--from", &from, "--to", "2100-01-01", "--json"]);
    println!("{count} reads: {:.2} s, {highest} kB", began.elapsed().as_secs_f64());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let (mat, cloud) = (&json["decoders"][0], &json["uploads"][0]);
    assert_eq!((&mat["reads"], &mat["chips"], &mat["more_chips"]), (&count.into(), &5_000.into(), &false.into()));
    assert_eq!((&cloud["sent"], &json["waiting"]), (&(count - 1_000).into(), &1_000.into()));
    assert!(highest > 500 && highest <= PEAK_MAX, "{highest} kB");

    let text = report(&config, &["--from", &from, "--timezone", "Asia/Kathmandu"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("Report of the box finish\n") && text.contains(" +0545"), "{text}");
    let page = report(&config, &["--from", &from, "--format", "html"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<h2>Decoder mat</h2>"), "{page}");
    let empty = String::from_utf8(report(&config, &["--day", "2001-01-01"]).stdout).unwrap();
    assert!(empty.contains("The log has no entry of this time."), "{empty}");
    for wrong in [&["--day", "yesterday"][..], &["--from", "10:00", "--to", "noon"], &["--to", "10:00"]] {
        let refused = report(&config, wrong);
        assert_eq!(refused.status.code(), Some(64), "{wrong:?}: {refused:?}");
    }
}
