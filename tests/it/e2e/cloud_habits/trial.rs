//! One race with a box, a decoder that stores its reads, and a cloud with habits; and the judgement
//! of what the cloud holds.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use passbridge::testing::config::UploadConfig;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::sim::cloud::{Answer, CloudFault, DEVICE, Dedup, Generation, Habits, OTHER_CHIP, On, Post};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;

use crate::support::e2e::*;

/// Reads of a race.
pub const READS: u64 = 72;
const ROUNDS: u64 = 6;

/// How long things take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Short waits of the box, and a cloud that lags by less than half a second.
    #[default]
    Fast,
    /// The box's settings as shipped, and a cloud that lags by up to ten seconds.
    Shipped,
}

impl Pace {
    /// Longest time in which nothing new comes into the cloud although something is owed. Beyond it
    /// the upload stands still.
    fn patience(self) -> Duration {
        Duration::from_secs(if self == Self::Fast { 20 } else { 120 })
    }

    /// What comes late comes within this: the longest lag and the longest delay of an insert that a
    /// case has.
    fn quiet(self) -> Duration {
        if self == Self::Fast { Duration::from_millis(900) } else { Duration::from_secs(12) }
    }

    fn times(self) -> u64 {
        if self == Self::Fast { 1 } else { 20 }
    }
}

/// What happens to box and session meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The power is cut, twice.
    pub kill: bool,
    /// Somebody opens another session, twice.
    pub switch: bool,
    /// The box is stopped in order and started, once.
    pub stop: bool,
    /// The data directory is put back to what it was three rounds before.
    pub restore: bool,
}

/// One combination.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub generation: Generation,
    pub habits: Vec<String>,
    /// The cloud always fails at one chip of the race, with this status.
    pub fails: Option<u16>,
    pub events: Events,
    /// The cloud can be asked, or says what it has done: all must arrive.
    pub provable: bool,
    pub pace: Pace,
    /// Longest time after the last read until it is judged. A cloud that fails at half of
    /// everything is slow to fill.
    pub limit: Duration,
}

impl Case {
    pub fn new(seed: u64, habits: &[&str]) -> Self {
        Self {
            seed,
            generation: Generation::OpenApi,
            habits: habits.iter().map(|text| (*text).to_owned()).collect(),
            fails: None,
            events: Events::default(),
            provable: true,
            pace: Pace::Fast,
            limit: Duration::from_secs(100),
        }
    }

    /// Adds what a word says: a form of answers, an event, a chip that fails.
    pub fn with(&mut self, word: &str) -> Result<(), String> {
        match word {
            "+kill" => self.events.kill = true,
            "+switch" => self.events.switch = true,
            "+stop" => self.events.stop = true,
            "+restore" => self.events.restore = true,
            "Legacy" => self.generation = Generation::Legacy,
            "OpenApi" => self.generation = Generation::OpenApi,
            "Gateway" => self.generation = Generation::Gateway,
            _ => match word.strip_prefix("fails:").and_then(|status| status.parse().ok()) {
                Some(status) => self.fails = Some(status),
                None => return Err(format!("`{word}` is no part of a case")),
            },
        }
        Ok(())
    }
}

/// As a case is printed.
impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut case = Self::new(1, &[]);
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--seed" => case.seed = words.next().and_then(|seed| seed.parse().ok()).ok_or("--seed N")?,
                "--habit" => case.habits.push(words.next().ok_or("--habit NAME")?.to_owned()),
                _ => case.with(word)?,
            }
        }
        Habits::of(case.seed, &case.habits).map(|_| case)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let habits = Habits::of(self.seed, &self.habits).unwrap();
        write!(f, "{:?} {habits}", self.generation)?;
        if let Some(status) = self.fails {
            write!(f, " fails:{status}")?;
        }
        let Events { kill, switch, stop, restore } = self.events;
        for (name, _) in
            [("kill", kill), ("switch", switch), ("stop", stop), ("restore", restore)].iter().filter(|(_, is)| *is)
        {
            write!(f, " +{name}")?;
        }
        Ok(())
    }
}

/// What is wrong in the end.
#[derive(Debug, Default)]
pub struct Verdict {
    /// In no session, not set aside, and the box does not know that it is owed.
    pub lost: Vec<Crossing>,
    /// In the sessions more than once.
    pub twice: Vec<Crossing>,
    /// Set aside although the cloud does not refuse it.
    pub aside: Vec<Crossing>,
    /// Not in the cloud when the time was over, and the box still owes it.
    pub owed: usize,
    /// Of them those that the cloud fails at: it may go on trying.
    hopeless: usize,
    /// Problems that were shown then.
    pub problems: Vec<String>,
    /// What the client must never do.
    pub violations: Vec<String>,
    /// How long it took after the last read.
    pub took: Duration,
    /// Something new came all the time, and the time was over before all had come.
    pub slow: bool,
    provable: bool,
    /// The end of the log and of the posts, where something is wrong.
    pub tail: String,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.lost.is_empty()
            && self.twice.is_empty()
            && self.aside.is_empty()
            && self.violations.is_empty()
            && (self.owed <= self.hopeless || self.slow || !self.provable && !self.problems.is_empty())
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "lost {}, twice {}, aside {}, owed {} after {:?}, problems {:?}, violations {:?}",
            self.lost.len(),
            self.twice.len(),
            self.aside.len(),
            self.owed,
            self.took,
            self.problems,
            self.violations
        )
    }
}

/// Short waits, and what comes late in a fast case comes within the shortest age at which the box
/// believes that it will not.
pub fn fast(upload: UploadConfig) -> UploadConfig {
    UploadConfig {
        timeout: Duration::from_millis(400),
        settle: Duration::from_millis(900),
        create_after: Duration::from_millis(500),
        ..upload
    }
}

struct Race {
    way: EndToEnd,
    sim: SimDecoder,
    daemon: Option<Daemon>,
    images: usize,
}

impl Race {
    /// Nothing reaches the cloud any more, and no answer the box, while the disk is looked at.
    fn freeze(&self) {
        self.way.cloud.fault_always(On::Any, CloudFault::before(Answer::Never));
    }

    fn image(&mut self) -> std::path::PathBuf {
        self.images += 1;
        let image = self.way.dir.path().join(format!("image-{}", self.images));
        crate::support::disk_state::image(self.way.data(), &image);
        image
    }

    /// The power goes, and comes again over this disk (`None`: its own).
    async fn kill(&mut self, disk: Option<std::path::PathBuf>, pace: Pace) {
        self.freeze();
        let own = self.image();
        drop(self.daemon.take());
        if disk.is_some() {
            // A disk is not changed in less time than the cloud is behind: nobody could know what
            // is on its way.
            tokio::time::sleep(pace.quiet()).await;
        }
        self.way.config.data_dir = disk.unwrap_or(own);
        self.way.cloud.clear_faults();
        self.daemon = Some(self.way.start().await);
    }

    async fn stop_and_start(&mut self) {
        self.daemon.take().unwrap().stop().await.unwrap();
        self.daemon = Some(self.way.start().await);
    }
}

/// Runs it and judges.
pub async fn run(case: &Case) -> Verdict {
    let mut way = EndToEnd::with(Dedup::None, case.generation).await;
    way.config.upload = match case.pace {
        Pace::Fast => fast(way.config.upload),
        Pace::Shipped => UploadConfig::default(),
    };
    way.cloud.configure(|config| config.page_size = 7);
    let mut rng = fastrand::Rng::with_seed(case.seed);
    way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, READS / ROUNDS).await;
    let mut habits = Habits::of(case.seed, &case.habits).unwrap();
    let bad = case.fails.map(|status| {
        let (chip, _) = happened(&sim)[rng.usize(3..9)].clone();
        habits.take(&format!("fails={chip}:{status}")).unwrap();
        chip
    });
    way.cloud.habits(habits);
    let daemon = Some(way.start().await);
    let mut race = Race { way, sim, daemon, images: 0 };
    let mut backup = None;
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(rng.u64(10..160) * case.pace.times())).await;
        let Events { kill, switch, stop, restore } = case.events;
        match round {
            0 if restore => backup = Some(race.image()),
            1 | 4 if switch => {
                race.way.session();
            }
            2 if stop => race.stop_and_start().await,
            3 if restore => race.kill(backup.take(), case.pace).await,
            _ => {}
        }
        if kill && matches!(round, 1 | 3) {
            race.kill(None, case.pace).await;
        }
        if round + 1 < ROUNDS {
            race.sim.push(READS / ROUNDS);
        }
    }
    judge(case, race, bad.as_deref()).await
}

async fn judge(case: &Case, race: Race, bad: Option<&str>) -> Verdict {
    let Race { way, sim, daemon, .. } = race;
    let daemon = daemon.unwrap();
    let expected = happened(&sim);
    let refused = expected.iter().filter(|one| bad == Some(&*one.0)).count();
    let began = Instant::now();
    let mut whole = false;
    let (mut most, mut since) = (0, began);
    while since.elapsed() < case.pace.patience() && began.elapsed() < case.limit && !whole {
        // What it owes is known when it has everything that the decoder gave.
        let held = held(&way);
        let there = expected.iter().all(|one| held.contains_key(one) || bad == Some(&*one.0));
        whole = there && owes(&daemon) <= refused;
        if held.len() > most {
            (most, since) = (held.len(), Instant::now());
        }
        if !whole {
            let _ = way.cloud.wait_until(Duration::from_millis(100), |_| false).await;
        }
    }
    let took = began.elapsed();
    let slow = !whole && since.elapsed() < case.pace.patience();
    tokio::time::sleep(case.pace.quiet()).await;
    let snapshot = daemon.snapshot();
    let owed = owes(&daemon);
    let tail = tail(&way, &daemon);
    let _ = daemon.stop().await;
    let mut held = held(&way);
    let missing: Vec<Crossing> = expected.iter().filter(|one| !held.contains_key(*one)).cloned().collect();
    let aside = usize::try_from(snapshot.journal.dead_letters).unwrap();
    let mut verdict = Verdict {
        owed,
        took,
        slow,
        hopeless: refused,
        problems: shown(&snapshot),
        violations: way.cloud.violations(),
        provable: case.provable,
        ..Verdict::default()
    };
    held.retain(|_, times| *times > 1);
    verdict.twice = held.into_keys().collect();
    let unexplained: Vec<Crossing> = missing.into_iter().filter(|one| bad != Some(&*one.0)).collect();
    // Which one is set aside is not asked for: more than the cloud refuses is wrong, whichever they
    // are.
    if aside > refused {
        verdict.aside = unexplained;
    } else if unexplained.len() > owed {
        verdict.lost = unexplained;
    }
    if !verdict.is_good() {
        verdict.tail = tail;
    }
    verdict
}

/// The problems but those that every race here has: the decoder's clock is at the day of its race.
pub fn shown(snapshot: &Snapshot) -> Vec<String> {
    let codes = snapshot.problems.iter().map(|problem| problem.code.clone());
    codes.filter(|code| !code.starts_with("decoder_clock_")).collect()
}

/// What waits, or is on its way, or of unknown fate.
fn owes(daemon: &Daemon) -> usize {
    let flying = daemon.journal().is_none_or(|journal| journal.device(DEVICE).in_flight.is_some());
    let pending = usize::try_from(daemon.snapshot().journal.pending).unwrap();
    pending.max(usize::from(flying))
}

/// Everything of ours that is in any session, and how often.
pub fn held(way: &EndToEnd) -> BTreeMap<Crossing, usize> {
    let mut held = BTreeMap::new();
    for session in way.cloud.sessions(DEVICE) {
        for one in crossings(&way.cloud, &session.token) {
            if !one.0.starts_with(OTHER_CHIP) {
                *held.entry(one).or_default() += 1;
            }
        }
    }
    held
}

fn tail(way: &EndToEnd, daemon: &Daemon) -> String {
    let mut text = String::new();
    for post in way.cloud.posts().iter().rev().take(40).rev() {
        let Post { first, last, count, inserted, duplicates, status, .. } = post;
        let session = &post.token[58..];
        text.push_str(&format!(
            "  post ..{session} {first}..{last} ({count}): {inserted} in, {duplicates} dup: {status:?}\n"
        ));
    }
    for line in way.cloud.trace().iter().rev().take(30).rev() {
        text.push_str(&format!("  request {line}\n"));
    }
    for problem in daemon.snapshot().problems {
        text.push_str(&format!("  problem {}: {}\n", problem.code, problem.message));
    }
    if let Some(upload) = daemon.snapshot().uploads.first() {
        text.push_str(&format!("  upload {upload:?}\n"));
    }
    for line in log(way.data()).iter().rev().take(40).rev() {
        text.push_str(&format!("  log {}\n", line.chars().take(400).collect::<String>()));
    }
    text
}

/// The lines of the log, but reads.
fn log(data: &Path) -> Vec<String> {
    let mut files: Vec<_> =
        fs::read_dir(data.join("log")).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.sort();
    let text: String =
        files.iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect();
    let lines = text.lines().map(|line| line.trim_matches('\0').to_owned());
    lines.filter(|line| !line.is_empty() && !line.contains("\tread\t")).collect()
}
