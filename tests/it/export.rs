//! What an export costs the box: the memory of the real binary, for all of a long log and for ten
//! seconds of it.
//!
//! `PASSBRIDGE_EXPORT=1000000 cargo test --release --test it export:: -- --nocapture` does it with
//! a million reads and tells times and peaks. `PASSBRIDGE_BINARIES=OLD:NEW` measures these on the
//! same log instead, five times in turns; the last one must be sparing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use passbridge::testing::decoders::{Frame, Framed};
use passbridge::testing::journal::{Batch, Journal, JournalConfig, UploadEvent, UploadItem};
use passbridge::testing::model::chip::{ChipRead, Seq, Stamp};
use passbridge::testing::status::Board;

/// Most memory that an export may allocate, in kB. The pages of the program's file are not counted:
/// they are as many as the program is large, and a program with debug information is five times as
/// large as the released one.
const PEAK_MAX: u64 = 12_000;
/// Reads a second in the log.
const RATE: u64 = 100;
/// Passings in a batch.
const BATCH: u64 = 500;
pub const START_MS: i64 = 1_780_000_000_000;

pub fn reads() -> u64 {
    std::env::var("PASSBRIDGE_EXPORT").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// A race of so many reads: the first half is kept while there is no internet and goes up
/// afterwards, the second half goes up as it comes. The last thousand wait.
pub async fn race(dir: &Path, count: u64) {
    let config = JournalConfig {
        dir: dir.into(),
        dead_time: Duration::ZERO,
        keep_days: 30,
        keep_bytes: 4_000_000_000,
        segment_bytes: 32 << 20,
        zones: Default::default(),
    };
    let journal = Journal::open(config, Board::new("test")).unwrap();
    journal.serving().await;
    let (mut items, mut next): (Vec<UploadItem>, u64) = (Vec::new(), 1);
    for from in (0..count).step_by(1000) {
        let received = Timestamp::from_millisecond(at(from + 999)).unwrap();
        let frames = (from..from + 1000).map(|n| {
            let stamp = Stamp::Utc(Timestamp::from_millisecond(at(n)).unwrap());
            let read = ChipRead::new(format!("05800{:07x}", n % 5000), stamp);
            Framed {
                frame: Frame::Read(read),
                raw: format!("aa0005800{:07x}0a0a{n:010}1e98", n % 5000).into_bytes().into(),
            }
        });
        let kept = journal.append("mat", received, frames.collect()).await.unwrap().get();
        for (seq, n) in (kept.first.0..=kept.last.0).zip(from..) {
            let chip: Box<str> = format!("05800{:07x}", n % 5000).into();
            items.push(UploadItem { seq: Seq(seq), num: 0, time_ms: at(n), corrected_ms: 0, bib: chip.clone(), chip });
        }
        if from + 1000 >= count / 2 && from + 1000 < count {
            for batch in items.chunks_mut(BATCH as usize) {
                for item in batch.iter_mut() {
                    (item.num, next) = (next, next + 1);
                }
                send(&journal, batch).await;
            }
            items.clear();
        }
    }
    journal.close().await;
}

fn at(n: u64) -> i64 {
    START_MS + (n * 1000 / RATE) as i64
}

async fn send(journal: &Journal, items: &[UploadItem]) {
    let (device, session): (Box<str>, Box<str>) = ("D".into(), "RACE-A115B1".into());
    let decoders = vec!["mat".into()];
    let (first, last, through) = (items[0].num, items[items.len() - 1].num, items[items.len() - 1].seq);
    let batch = Batch { through, decoders, ..Batch::resend(&device, &session, items.to_vec()) };
    let accepted = UploadEvent::Accepted { device, first, last, duplicates: 0 };
    let (one, other) = tokio::join!(journal.record(UploadEvent::Batch(batch)), journal.record(accepted));
    one.unwrap();
    other.unwrap();
}

/// What an export wrote and cost.
struct Cost {
    text: Vec<u8>,
    /// The most of `RssAnon` that was seen, in kB.
    peak: u64,
    /// On the processors, shortly before the end: what other programs do tells in it least.
    cpu: Duration,
    time: Duration,
}

fn export(binary: &Path, config: &Path, more: &[&str]) -> Cost {
    let began = Instant::now();
    let mut command = Command::new(binary);
    command.args(["export", "--format", "jsonl", "--config"]).arg(config).args(more);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let peak = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let stat = format!("/proc/{}/stat", child.id());
    let cpu = || {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let ticks = |at: usize| fields.as_ref()?.get(at)?.parse::<u64>().ok(); // hundredths of a second
        Duration::from_millis((ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)) * 10)
    };
    let mut out = child.stdout.take().unwrap();
    let (mut text, mut highest, mut used, mut chunk) = (Vec::new(), 0, Duration::ZERO, vec![0; 32 << 10]);
    loop {
        // What is not read yet holds the process up: more than the pipe takes, it cannot write and
        // end.
        let read = out.read(&mut chunk).unwrap();
        highest = peak().max(highest);
        used = cpu().max(used);
        if read == 0 {
            break;
        }
        text.extend_from_slice(&chunk[..read]);
    }
    assert!(child.wait().unwrap().success());
    Cost { text, peak: highest, cpu: used, time: began.elapsed() }
}

fn lines(cost: &Cost) -> usize {
    cost.text.iter().filter(|byte| **byte == b'\n').count()
}

fn sent(cost: &Cost) -> usize {
    String::from_utf8_lossy(&cost.text).matches("\"state\":\"sent\"").count()
}

#[test]
fn an_export_takes_the_same_little_memory_for_a_long_log_and_for_a_window_of_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (data, config, count) = (dir.path().join("data"), dir.path().join("passbridge.toml"), reads());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(race(&data, count));
    let decoder = "[[decoder]]\nname = \"mat\"\nprotocol = \"ipico\"\naddress = \"tcp://127.0.0.1:1\"\n";
    std::fs::write(&config, format!("name = \"finish\"\ndata_dir = \"{}\"\n{decoder}", data.display())).unwrap();
    let instant = |ms: i64| Timestamp::from_millisecond(ms).unwrap().to_string();
    let from = at(count / 4);
    let window = ["--from", &instant(from), "--to", &instant(from + 10_000)];
    let named = std::env::var("PASSBRIDGE_BINARIES").unwrap_or_default();
    let mut binaries: Vec<PathBuf> = named.split(':').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    let rounds = if binaries.is_empty() { 1 } else { 5 };
    if binaries.is_empty() {
        binaries.push(env!("CARGO_BIN_EXE_passbridge").into());
    }
    for round in 0..rounds {
        for (at, binary) in binaries.iter().enumerate() {
            let _ = std::fs::remove_dir_all(data.join("windows"));
            let all = export(binary, &config, &[]);
            let first = export(binary, &config, &window);
            let again = export(binary, &config, &window);
            let told = |cost: &Cost| {
                let (time, cpu) = (cost.time.as_secs_f64(), cost.cpu.as_secs_f64());
                format!("{time:.2} s ({cpu:.2} s on the processors), {} kB", cost.peak)
            };
            println!(
                "{count} reads, round {round}, {}: all {}; 10 s of it {}; again {}",
                binary.display(),
                told(&all),
                told(&first),
                told(&again)
            );
            assert_eq!((lines(&all), sent(&all)), (count as usize, count as usize - 1000));
            for part in [&first, &again] {
                assert_eq!((lines(part), sent(part)), (10 * RATE as usize, 10 * RATE as usize));
            }
            if at + 1 == binaries.len() {
                for (cost, what) in [(all, "all"), (first, "a window"), (again, "a window that is found")] {
                    assert!(cost.peak > 1000 && cost.peak <= PEAK_MAX, "{what}: {} kB", cost.peak);
                }
            }
        }
    }
}
