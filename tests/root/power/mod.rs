//! Power cuts: the real binary on an ext4 whose disk loses its power at random moments. Only what
//! was flushed survives; of the rest any subset, in any order, some of it torn. A kill -9 shows
//! nothing of this: the kernel still has every page.
//!
//! [`platter`] is the disk's content and cache, [`disk`] serves it as a block device would be
//! served, [`rig`] puts a file system on it, [`trial`] runs a box on that through several cuts,
//! [`judge`] knows what must be where afterwards. Decoders and cloud are simulated in this process:
//! they keep their power.
//!
//! Needs root, FUSE and loop devices:
//! `cargo test --test root power:: -- --ignored --nocapture --test-threads 1`.
//! `PASSBRIDGE_CUTS` is the number of cuts, `PASSBRIDGE_SEED` the first trial's seed.

mod disk;
mod judge;
mod measure;
mod platter;
mod rig;
mod trial;

use rig::Rig;
use tokio::sync::Mutex;
use trial::{Control, Outcome, Plan};

use crate::support::child::setting;

/// Cuts in all unless the environment says otherwise.
const CUTS: u64 = 20;
/// Cuts of one trial, chained on one disk.
const CHAIN: u64 = 4;
/// Percent of the unflushed pages that survive.
const KEEP: [u32; 3] = [0, 50, 100];
/// Percent at which pages are torn most.
const TEARING: u32 = 80;
/// Cuts of each control.
const CONTROL_CUTS: u64 = 12;
/// Most cuts of the control that takes torn lines for lines. A few of them are usually enough.
const TORN_CUTS: u64 = 240;

/// The cuts of one rig would disturb nobody, but the timing of two boxes at once would be that of
/// no box.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn trials(cuts: u64, seed: u64, control: Option<Control>) -> Outcome {
    if !cfg!(debug_assertions) {
        panic!("a release build has no switches for tests: run this without --release");
    }
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut rig = Rig::new();
    let mut all = Outcome::default();
    for at in 0..cuts.div_ceil(CHAIN) {
        let torn = control == Some(Control::TrustsTorn);
        let keep = if torn { TEARING } else { KEEP[(seed + at) as usize % KEEP.len()] };
        let plan = Plan { seed: seed + at, keep, cuts: CHAIN.min(cuts - at * CHAIN), control };
        let outcome = trial::run(&mut rig, &plan).await;
        eprintln!("seed {} keep {keep} %: {outcome}", plan.seed);
        all.add(outcome);
        if torn && !all.faults.is_empty() {
            break; // it takes a while until a line is torn where it counts, and one is enough
        }
    }
    eprintln!("in all, from seed {seed} on: {all}");
    if let (Some(control), Some(fault)) = (control, all.faults.first()) {
        eprintln!("{control:?} shows as: {fault}");
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, FUSE and loop devices; a minute"]
async fn nothing_kept_is_lost_and_nothing_is_doubled_however_often_the_power_goes() {
    let all = trials(setting("PASSBRIDGE_CUTS", CUTS), setting("PASSBRIDGE_SEED", 1), None).await;
    assert!(all.faults.is_empty(), "{:#?}", all.faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, FUSE and loop devices; half a minute"]
async fn a_journal_that_skips_fdatasync_does_not_pass_so_the_cuts_prove_something() {
    let all = trials(CONTROL_CUTS, setting("PASSBRIDGE_SEED", 1), Some(Control::NoSync)).await;
    assert!(!all.faults.is_empty(), "nothing was lost without fdatasync: these cuts prove nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, FUSE and loop devices; a minute"]
async fn a_journal_that_takes_a_torn_line_for_a_line_does_not_pass() {
    let all = trials(TORN_CUTS, setting("PASSBRIDGE_SEED", 1), Some(Control::TrustsTorn)).await;
    assert!(!all.faults.is_empty(), "nobody saw a torn line: these cuts prove nothing about the checksums");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, FUSE and loop devices; half a minute"]
async fn a_queue_that_is_never_synced_costs_nothing_because_the_log_is_the_truth() {
    let all = trials(CONTROL_CUTS, setting("PASSBRIDGE_SEED", 1), Some(Control::NoQueueSync)).await;
    assert!(all.faults.is_empty(), "{:#?}", all.faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test: needs root, FUSE and loop devices; five minutes"]
async fn what_a_read_costs_the_card() {
    let _alone = ONE_AT_A_TIME.lock().await;
    measure::table(&mut Rig::new()).await;
}
