//! Keeping reads: IPICO bytes -> frames -> durable, in groups of 1 to 1000, beside
//! * the floor: the same log lines, already made, appended and `fdatasync`ed in the same groups,
//!   same directory;
//! * a queue that commits each read twice: for each read two files appended to and `fdatasync`ed.
//!
//! Rounds of the three follow each other, so that a noisy neighbour hits all of them; figures are
//! medians of the rounds, ratios are medians of the ratios within a round.
//!
//! `cargo bench --bench keep -- 100` measures groups of 100 only.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use passbridge::testing::journal::{Journal, Received};
use rig::{Append, Ipico, MAT, median};

const ROUNDS: usize = 7;

#[derive(Clone, Copy)]
enum How {
    /// One keep at a time.
    Groups(u64),
    /// So many reads from a port with one read each, which the link hands over as one group.
    Pipelined(u64),
}

impl How {
    fn group(self) -> u64 {
        let (Self::Groups(group) | Self::Pipelined(group)) = self;
        group
    }
}

/// Reads per second and CPU microseconds per read.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Figures {
    fn add(&mut self, reads: u64, start: Instant, cpu: Duration) {
        self.rate.push(reads as f64 / start.elapsed().as_secs_f64());
        self.cpu_us.push((rig::cpu() - cpu).as_secs_f64() * 1e6 / reads as f64);
    }
}

fn main() {
    rig::heading("keep: reads per second, IPICO bytes -> durable");
    let dir = rig::scratch();
    let lines = log_lines(dir.path());
    let mut one = Append::new(&dir.path().join("latency"));
    let times = (0..200).map(|_| {
        let start = Instant::now();
        one.append(&lines[..lines.len().min(160)]);
        start.elapsed().as_secs_f64() * 1e3
    });
    let times: Vec<f64> = times.collect();
    println!(
        "append of one line + fdatasync: median {:.2} ms, p95 {:.2} ms",
        median(&times),
        rig::quantile(&times, 0.95)
    );
    println!(
        "{:<18}{:>10}{:>10}{:>8}{:>10}{:>8}{:>13}{:>13}",
        "group", "reads/s", "floor", "ratio", "twice", "ratio", "CPU us/read", "floor's CPU"
    );
    let hows = [How::Groups(1), How::Groups(10), How::Groups(100), How::Groups(1000), How::Pipelined(30)];
    let only: Option<u64> = std::env::args().filter_map(|text| text.parse().ok()).next();
    for how in hows.into_iter().filter(|how| only.is_none_or(|group| how.group() == group)) {
        measure(how, &lines);
    }
}

/// The log's own lines for some thousands of reads, to be written again by the floor.
fn log_lines(dir: &std::path::Path) -> Vec<u8> {
    let dir = dir.join("lines");
    rig::prepare(&dir, 4000);
    let log = std::fs::read_dir(dir.join("log")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read(log).unwrap();
    let reads: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line[0] != b'#').collect();
    reads.concat()
}

fn measure(how: How, lines: &[u8]) {
    let group = how.group();
    let reads = (group * 200).clamp(400, 50_000) / group * group;
    let dir = rig::scratch();
    let line = lines.len() as u64 / 4000;
    let of_group = |group: u64| &lines[..((group * line) as usize).min(lines.len())];
    let runtime = rig::runtime();
    let journal = rig::open_journal(&dir.path().join("journal"));
    runtime.block_on(journal.serving());
    let mut ipico = Ipico::new(0);
    let mut floor = Append::new(&dir.path().join("floor"));
    let mut twice = [Append::new(&dir.path().join("one")), Append::new(&dir.path().join("other"))];
    let (mut ours, mut least, mut rival) = (Figures::default(), Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        let bytes = ipico.bytes(reads);
        let (start, cpu) = (Instant::now(), rig::cpu());
        runtime.block_on(keep(&journal, &mut ipico, &bytes, how));
        ours.add(reads, start, cpu);

        let (start, cpu) = (Instant::now(), rig::cpu());
        (0..reads / group).for_each(|_| floor.append(of_group(group)));
        least.add(reads, start, cpu);

        let few = reads.min(200);
        let (start, cpu) = (Instant::now(), rig::cpu());
        for _ in 0..few {
            twice.iter_mut().for_each(|file| file.append(of_group(1)));
        }
        rival.add(few, start, cpu);
    }
    runtime.block_on(journal.close());
    let ratio = |other: &Figures| median(&ours.rate.iter().zip(&other.rate).map(|(a, b)| a / b).collect::<Vec<_>>());
    let name = match how {
        How::Groups(group) => format!("{group}"),
        How::Pipelined(outstanding) => format!("1, {outstanding} at once"),
    };
    println!(
        "{name:<18}{:>10.0}{:>10.0}{:>8.2}{:>10.0}{:>8.1}{:>13.1}{:>13.1}",
        median(&ours.rate),
        median(&least.rate),
        ratio(&least),
        median(&rival.rate),
        ratio(&rival),
        median(&ours.cpu_us),
        median(&least.cpu_us),
    );
}

async fn keep(journal: &Journal, ipico: &mut Ipico, bytes: &[u8], how: How) {
    const LINE: usize = 38;
    let now = Timestamp::now();
    match how {
        How::Groups(group) => {
            for part in bytes.chunks(LINE * group as usize) {
                let frames = ipico.parse(part);
                journal.append(MAT, now, frames).await.unwrap();
            }
        }
        How::Pipelined(outstanding) => {
            let source: Arc<str> = MAT.into();
            for part in bytes.chunks(LINE * outstanding as usize) {
                let lines = part.chunks(LINE);
                let received =
                    lines.map(|line| Received { source: Arc::clone(&source), at: now, frames: ipico.parse(line) });
                journal.append_all(received.collect()).await.unwrap();
            }
        }
    }
}
