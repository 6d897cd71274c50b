//! What must be where: after each cut in the log, at the end in the cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use passbridge::testing::journal::entry::Body;
use passbridge::testing::journal::log::{LogLine, LogReader};
use passbridge::testing::journal::log_dir;
use passbridge::testing::model::chip::Stamp;
use passbridge::testing::sim::cloud::{DEVICE, SimCloud};
use passbridge::testing::sim::decoder::{Kind, SimDecoder, SimRead};
use passbridge::testing::status::Snapshot;

use crate::support::child::{Passing, passing};

/// Faults told one by one.
const TOLD: usize = 5;

/// What the box has shown as kept, to anybody, before the power went.
#[derive(Default)]
pub struct Shown {
    /// Reads of the page: by number, chip and stamp.
    pub reads: BTreeMap<u64, (String, String)>,
    /// Reads that a decoder got acknowledged.
    pub acked: BTreeSet<Passing>,
    /// The last number that was called durable.
    pub durable: u64,
    /// Codes of the problems shown.
    pub problems: BTreeSet<String>,
    /// How many passings waited when the box was last heard of in this life; `None`: it does not
    /// serve yet.
    pub last: Option<u64>,
}

/// Problems that a power cut is no reason for.
const FALSE_ALARMS: [&str; 4] = ["journal_lost", "log_damaged", "log_lost", "reads_without_decoder"];

impl Shown {
    pub fn status(&mut self, status: &Snapshot) {
        self.durable = self.durable.max(status.journal.durable);
        self.last = status.journal.serving.then_some(status.journal.pending);
        self.problems.extend(status.problems.iter().map(|problem| problem.code.clone()));
    }
}

/// The passing of a read by its chip and stamp.
pub fn passing_of(chip: &str, stamp: &str) -> Passing {
    let stamp: Stamp = stamp.parse().unwrap();
    passing(&SimRead { chip: chip.into(), stamp, number: 0 })
}

/// The reads of the log by number, the first number that is not pruned and the last one.
struct LogRead {
    reads: BTreeMap<u64, (String, String)>,
    first: u64,
    last: u64,
}

fn read_log(data: &Path) -> LogRead {
    let mut log = LogRead { reads: BTreeMap::new(), first: u64::MAX, last: 0 };
    let dir = log_dir(data);
    let Some(mut reader) = dir.is_dir().then(|| LogReader::open(&dir, None).unwrap()).flatten() else { return log };
    // A segment is begun only when every number below its own is durable, and it may be empty yet.
    log.first = reader.place().segment;
    log.last = log.first.saturating_sub(1);
    while let Some(line) = reader.read().unwrap() {
        let LogLine::Entry(entry) = line else { continue };
        log.last = log.last.max(entry.seq);
        if let Body::Read(read) = entry.body {
            log.reads.insert(entry.seq, (read.chip.to_string(), read.stamp.to_string()));
        }
    }
    log
}

/// Every passing that the cloud holds, with how often.
fn in_cloud(cloud: &SimCloud) -> BTreeMap<Passing, u32> {
    let mut held = BTreeMap::new();
    for session in cloud.sessions(DEVICE) {
        for passing in cloud.passings(&session.token) {
            *held.entry((passing.chip.as_deref().unwrap_or_default().to_owned(), passing.time_ms)).or_default() += 1;
        }
    }
    held
}

fn tell<T: std::fmt::Debug>(faults: &mut Vec<String>, what: &str, of: &[T]) {
    if !of.is_empty() {
        faults.push(format!("{} {what}: {:?}", of.len(), &of[..of.len().min(TOLD)]));
    }
}

/// Kept before shown: right after a cut, before anything runs again, all that was shown as kept is
/// in the log, or it was uploaded and pruned.
pub fn after_a_cut(data: &Path, shown: &Shown, cloud: &SimCloud) -> Vec<String> {
    let (mut faults, log, held) = (Vec::new(), read_log(data), in_cloud(cloud));
    let gone = |(seq, read): &(&u64, &(String, String))| {
        if **seq < log.first {
            !held.contains_key(&passing_of(&read.0, &read.1))
        } else {
            log.reads.get(seq) != Some(read)
        }
    };
    tell(&mut faults, "reads shown as kept are gone after a cut", &shown.reads.iter().filter(gone).collect::<Vec<_>>());
    let kept: BTreeSet<Passing> = log.reads.values().map(|read| passing_of(&read.0, &read.1)).collect();
    let gone = |read: &&Passing| !kept.contains(*read) && !held.contains_key(*read);
    tell(&mut faults, "acknowledged reads are gone after a cut", &shown.acked.iter().filter(gone).collect::<Vec<_>>());
    if log.last < shown.durable {
        faults.push(format!("{} was called durable, and the log ends with {} after a cut", shown.durable, log.last));
    }
    let alarms: Vec<_> = shown.problems.iter().filter(|code| FALSE_ALARMS.contains(&code.as_str())).collect();
    tell(&mut faults, "false alarms", &alarms);
    faults
}

/// At the end: every read that must be in the cloud is there once, and nothing else; numbers rise.
pub fn at_the_end(data: &Path, shown: &Shown, cloud: &SimCloud, sims: &[(Kind, &SimDecoder)]) -> Vec<String> {
    let mut faults = after_a_cut(data, shown, cloud);
    let held = in_cloud(cloud);
    let mut happened = BTreeSet::new();
    let mut expected = BTreeSet::new();
    for (kind, sim) in sims {
        let all: BTreeSet<Passing> = sim.reads().iter().map(passing).collect();
        match *kind {
            // What it sent while the box was off is gone; it cannot be asked.
            Kind::IPICO => {}
            Kind::MYLAPS => {
                let acked = sim.acked().iter().map(passing).collect::<BTreeSet<_>>();
                if acked != all {
                    faults.push(format!("{} of {} were never acknowledged", all.len() - acked.len(), all.len()));
                }
                expected.extend(acked);
            }
            Kind::ONE4ALL | Kind::RACE_RESULT => expected.extend(all.iter().cloned()),
            other => unreachable!("no power cut is made under {}", other.name()),
        }
        happened.extend(all);
        let forbidden = sim.forbidden();
        tell(&mut faults, "commands that no box may send", &forbidden);
    }
    let kept = read_log(data).reads.into_values().chain(shown.reads.values().cloned());
    expected.extend(kept.map(|read| passing_of(&read.0, &read.1)));
    let missing: Vec<_> = expected.iter().filter(|passing| !held.contains_key(*passing)).collect();
    tell(&mut faults, "passings are missing in the cloud", &missing);
    let twice: Vec<_> = held.iter().filter(|(_, count)| **count > 1).collect();
    tell(&mut faults, "passings are in the cloud twice", &twice);
    let invented: Vec<_> = held.keys().filter(|passing| !happened.contains(*passing)).collect();
    tell(&mut faults, "passings in the cloud never happened", &invented);
    for session in cloud.sessions(DEVICE) {
        let numbers: Vec<u64> = cloud.passings(&session.token).iter().map(|passing| passing.num).collect();
        let falls: Vec<_> = numbers.windows(2).filter(|pair| pair[1] <= pair[0]).collect();
        tell(&mut faults, "numbers do not rise", &falls);
    }
    tell(&mut faults, "violations seen by the cloud", &cloud.violations());
    faults
}
