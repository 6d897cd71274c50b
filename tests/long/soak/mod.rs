//! Bounded disk and memory: the real journal and the real uplink for weeks of simulated time, with
//! days without internet in it, against the simulated cloud. The shape is judged, never the speed.
//!
//! * The disk: once the first retention is over, it stays below a figure that follows from the
//!   configuration.
//! * What is not uploaded is there, however old; in the end every read is in the cloud once, in
//!   order.
//! * Memory, open files, segments and spans at the end are what they were at the beginning.
//!
//! The box's clock is scripted; a simulated hour takes as long as its reads take to be kept and
//! sent. The short run is part of `cargo test`; the month is
//! `cargo test --release --test long soak:: -- --ignored --nocapture`.

mod stage;

use std::ops::Range;
use std::process::Command;

use passbridge::testing::daemon::allocator::VARIABLES;
use stage::{Sample, Stage};

/// Bytes of the log for each read that was uploaded in batches of 500: its own line, and its part
/// of the batch's. Measured (see tests/README.md), and a tenth more.
const LOG_PER_READ: u64 = 275;
/// Bytes of the queue for each read that waits when a checkpoint comes, and a tenth more.
const QUEUE_PER_READ: u64 = 110;
/// What the queue has beside the reads: sled's segments, state and 262,144 identities in each of
/// the spans that are kept while the checkpoint moves on to the next.
const QUEUE_BASE: u64 = 8 * 1024 * 1024;

/// The index of the reads that were ever kept, 16 bytes each.
const KNOWN_BASE: u64 = 64 * 1024 * 1024;

/// What is simulated.
struct Plan {
    days: u64,
    /// Looks at everything in a day.
    looks: u64,
    reads_per_day: u64,
    /// Days without internet.
    outage: Range<u64>,
    keep_days: u32,
    keep_bytes: u64,
    segment_bytes: u64,
}

impl Plan {
    /// What the disk may hold while `unsent` reads wait: what the retention keeps, or the limit, or
    /// what waits if that is more; the segment in use, and one that ended since the last look and
    /// one more, for it is removed as a whole.
    fn bound(&self, unsent: u64) -> u64 {
        let retained = (u64::from(self.keep_days) * self.reads_per_day * LOG_PER_READ).min(self.keep_bytes);
        let waiting = unsent * (LOG_PER_READ + QUEUE_PER_READ);
        let kept = if retained == self.keep_bytes { retained.max(waiting) } else { retained + unsent * QUEUE_PER_READ };
        kept + 3 * self.segment_bytes + QUEUE_BASE + KNOWN_BASE.min(16 * self.days * self.reads_per_day)
    }

    /// Days after which the disk is to be below the bound.
    fn settled_after(&self) -> u64 {
        let by_bytes = self.keep_bytes / (self.reads_per_day * LOG_PER_READ) + 1;
        u64::from(self.keep_days).min(by_bytes)
    }
}

async fn soak(plan: &Plan) -> Vec<Sample> {
    let mut stage = Stage::start(plan.keep_days, plan.keep_bytes, plan.segment_bytes).await;
    let mut samples = Vec::new();
    for day in 0..plan.days {
        if day == plan.outage.start {
            stage.cloud.set_online(false).await;
        }
        if day == plan.outage.end {
            stage.cloud.set_online(true).await;
        }
        let online = !plan.outage.contains(&day);
        if online && stage.unsent() == 0 {
            stage.next_session();
        }
        for _ in 0..plan.looks {
            stage.pass(24 / plan.looks, plan.reads_per_day / plan.looks).await;
            if online {
                stage.all_arrived().await;
            }
            let sample = stage.sample_below(|unsent| plan.bound(unsent)).await;
            assert_eq!(sample.waiting, sample.unsent, "a read that is not uploaded is gone: {sample}");
            samples.push(sample);
        }
        println!("{}", samples.last().unwrap());
    }
    stage.all_arrived().await;
    stage.end().await;
    samples
}

/// The most of something over some samples.
fn most(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    samples.iter().map(of).max().unwrap_or(0)
}

/// Everything that must not creep, early (after retention and outage have been seen) and in the
/// last third.
fn judge(plan: &Plan, samples: &[Sample]) {
    let from = (plan.settled_after().max(plan.outage.end) * plan.looks) as usize;
    let last = samples.len() * 2 / 3;
    assert!(from < last, "the plan is too short to tell");
    let (early, late) = (&samples[..last], &samples[last..]);
    let figures = [
        ("most on the disk", most(&samples[from..last], Sample::disk), most(late, Sample::disk)),
        ("most memory, KiB", most(early, |s| s.rss_kib), most(late, |s| s.rss_kib)),
        ("open files", most(early, |s| s.files), most(late, |s| s.files)),
        ("log segments", most(early, |s| s.segments), most(late, |s| s.segments)),
        ("queue spans", most(early, |s| s.spans), most(late, |s| s.spans)),
    ];
    for (what, before, after) in figures {
        println!("{what}: {before} before, {after} in the last third");
    }
    let removed = samples[last].first_kept > 1;
    assert!(removed, "nothing was ever removed");
    let [disk, memory, files, segments, spans] = figures.map(|(_, before, after)| (before, after));
    assert!(disk.1 <= disk.0 + 4 * plan.segment_bytes + QUEUE_BASE / 4, "the disk creeps");
    assert!(memory.1 <= memory.0 + memory.0 / 20 + 4096, "memory creeps");
    let no_more = |(before, after): (u64, u64)| after <= before + before / 4 + 2;
    assert!(no_more(files) && no_more(segments) && no_more(spans), "something creeps");
}

/// Runs the plan in a process of its own, whose allocator is set up as the box sets up its own
/// (`daemon::allocator`). With other settings the memory that glibc keeps for each thread grows for
/// weeks, and nothing can be told from it. `test`: the name of the test that calls this.
fn run(test: &str, plan: &Plan) {
    if VARIABLES.iter().any(|(name, _)| std::env::var_os(name).is_none()) {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([&format!("soak::{test}"), "--exact", "--include-ignored", "--nocapture"]).envs(VARIABLES);
        let done = again.output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        println!("{told}");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(told.contains("1 passed"), "no test is called {test}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let samples = runtime.block_on(soak(plan));
    judge(plan, &samples);
}

#[test]
fn days_of_reads_fill_the_disk_up_to_the_retention_and_no_further() {
    run(
        "days_of_reads_fill_the_disk_up_to_the_retention_and_no_further",
        &Plan {
            days: 6,
            looks: 2,
            reads_per_day: 24_000,
            outage: 2..3,
            keep_days: 2,
            keep_bytes: 1 << 40,
            segment_bytes: 1 << 20,
        },
    );
}

const MONTH: Plan = Plan {
    days: 30,
    looks: 24,
    reads_per_day: 1_000_008, // 41,667 an hour
    outage: 5..8,
    keep_days: 7,
    keep_bytes: 1 << 40,
    segment_bytes: 32 << 20,
};

#[test]
#[ignore = "takes a quarter of an hour: 30 million reads"]
fn a_month_of_a_million_reads_a_day_with_a_week_kept() {
    run("a_month_of_a_million_reads_a_day_with_a_week_kept", &MONTH);
}

#[test]
#[ignore = "takes some minutes: 12 million reads"]
fn twelve_days_of_a_million_reads_with_a_limit_in_bytes() {
    run(
        "twelve_days_of_a_million_reads_with_a_limit_in_bytes",
        &Plan { days: 12, outage: 3..6, keep_days: 30, keep_bytes: 1_200_000_000, ..MONTH },
    );
}
