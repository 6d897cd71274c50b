//! A box with decoders and a cloud, through several power cuts on one disk, to the end. All chance
//! comes from the seed, but for what the scheduler does.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use passbridge::testing::journal::log::segments;
use passbridge::testing::journal::log_dir;
use passbridge::testing::sim::cloud::{Access, DEVICE, Dedup, Generation, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::LinkState;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use super::judge::{Shown, after_a_cut, at_the_end, passing_of};
use super::platter::Remains;
use super::rig::Rig;
use crate::support::child::{PATIENCE, Passing, Running, Site, UPLOAD, decoder, holds, passing, race, shown, trouble};

/// Small, so that segments are begun, checkpoints made and segments pruned many times between two
/// cuts.
const SEGMENT_BYTES: &str = "6000";
/// Zeros that are written ahead at once: a segment takes several, and each ends where no page does.
const CHUNK_BYTES: &str = "1500";
const TURN_MS: &str = "60";
/// Newest reads of a decoder in memory instead of 262,144: what came before has to be found in the
/// index beside the log, which gets a segment for every 16 reads.
const RECENT: &str = "64";
/// Nothing that is uploaded is kept longer than it must.
const PRUNE: &str = "[keep]\ndays = 0\n";

/// A FLUSH of a slow card.
const CARD: Duration = Duration::from_millis(12);

/// More than this waits only while a backlog is drained.
const DRAINING: u64 = 100;

/// What is done.
pub struct Plan {
    pub seed: u64,
    /// Percent of the unflushed pages that survive each cut.
    pub keep: u32,
    pub cuts: u64,
    /// A control, which must fail.
    pub control: Option<Control>,
}

/// What the box does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It makes neither log nor queue durable.
    NoSync,
    /// It does not make the queue durable. This costs nothing.
    NoQueueSync,
    /// It takes a torn line for a line.
    TrustsTorn,
}

impl Control {
    fn variable(self) -> (&'static str, &'static str) {
        match self {
            Self::NoSync => ("PASSBRIDGE_UNSAFE_NO_SYNC", "log"),
            Self::NoQueueSync => ("PASSBRIDGE_UNSAFE_NO_SYNC", "queue"),
            Self::TrustsTorn => ("PASSBRIDGE_UNSAFE_TRUST_TORN", "1"),
        }
    }
}

impl Plan {
    fn must_fail(&self) -> bool {
        matches!(self.control, Some(Control::NoSync | Control::TrustsTorn))
    }
}

/// What was seen.
#[derive(Default)]
pub struct Outcome {
    trials: u64,
    failed: u64,
    cuts: u64,
    /// Cuts before the box served, while the cloud could not be reached, and while it was drained.
    starting: u64,
    offline: u64,
    draining: u64,
    remains: Remains,
    reads: usize,
    rotated: usize,
    pruned: usize,
    damaged: u64,
    /// Segments that a cut left with zeros behind their lines, and last groups that it tore: their end
    /// was cut off, or a hole in them was covered.
    zeros: u64,
    torn: usize,
    covered: usize,
    /// Why the queue was found untrue and rebuilt, and how often.
    untrue: BTreeMap<String, u32>,
    pub faults: Vec<String>,
}

impl Outcome {
    pub fn add(&mut self, other: Self) {
        self.trials += other.trials;
        self.failed += other.failed;
        self.cuts += other.cuts;
        self.starting += other.starting;
        self.offline += other.offline;
        self.draining += other.draining;
        self.remains.unflushed += other.remains.unflushed;
        self.remains.kept += other.remains.kept;
        self.reads += other.reads;
        self.rotated += other.rotated;
        self.pruned += other.pruned;
        self.damaged += other.damaged;
        self.zeros += other.zeros;
        self.torn += other.torn;
        self.covered += other.covered;
        for (reason, count) in other.untrue {
            *self.untrue.entry(reason).or_default() += count;
        }
        self.faults.extend(other.faults);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starting, offline, draining, .. } = self;
        let Self { trials, failed, cuts, remains, reads, rotated, pruned, damaged, untrue, .. } = self;
        let Self { zeros, torn, covered, .. } = self;
        let Remains { unflushed, kept } = remains;
        write!(
            f,
            "{trials} trials, {cuts} cuts ({starting} while starting, {offline} offline, {draining} draining), {unflushed} unflushed pages of which {kept} survived, {zeros} segments left with zeros, {torn} torn groups of which {covered} with a hole, {reads} reads, \
             {rotated} segments begun, {pruned} pruned, {damaged} queues removed or damaged, found untrue: {untrue:?}, {failed} trials failed"
        )
    }
}

struct Trial<'a> {
    rig: &'a mut Rig,
    plan: &'a Plan,
    rng: fastrand::Rng,
    cloud: SimCloud,
    sims: Vec<(Kind, Arc<SimDecoder>)>,
    site: Site,
    shown: Shown,
    sessions: u32,
    online: bool,
    outcome: Outcome,
}

/// One trial. What is wrong is in the outcome's faults.
pub async fn run(rig: &mut Rig, plan: &Plan) -> Outcome {
    let mut trial = Trial::begin(rig, plan).await;
    let mut pushing: Vec<JoinSet<()>> = trial.sims.iter().map(|(_, sim)| race(sim, plan.seed)).collect();
    for _ in 0..plan.cuts {
        trial.until_the_power_goes().await;
        if plan.must_fail() && !trial.outcome.faults.is_empty() {
            break; // the control has shown what it must; what comes of such a loss is of no interest
        }
    }
    if trial.outcome.faults.is_empty() {
        trial.finish(&mut pushing).await;
    }
    trial.end()
}

impl<'a> Trial<'a> {
    async fn begin(rig: &'a mut Rig, plan: &'a Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)); // seeds that follow are near
        rig.new_disk();
        let tears = plan.control == Some(Control::TrustsTorn);
        rig.disk.platter().tears_all = tears;
        // A fast disk, or a card. While a card flushes, lines come for a large group.
        rig.disk.flush_takes(if tears { CARD } else { Duration::from_micros(rng.u64(0..4000)) });
        let (dedup, generation) = match rng.bool() {
            true => (Dedup::None, Generation::Legacy),
            false => (Dedup::Number, Generation::OpenApi),
        };
        // A box that an earlier trial left behind may find this cloud at the port of its own one.
        let key = format!("ror-{:08x}{:012x}", std::process::id(), plan.seed & 0xffff_ffff_ffff);
        let keys = vec![(key.clone(), Access::ReadWrite)];
        let config = SimCloudConfig { dedup, generation, keys, ..SimCloudConfig::default() };
        let cloud = SimCloud::start(config).await.unwrap();
        if rng.bool() {
            trouble(&cloud, plan.seed);
        }
        let mut kinds = vec![Kind::MYLAPS, Kind::RACE_RESULT];
        kinds.extend(rng.choice([Some(Kind::IPICO), Some(Kind::ONE4ALL), None]).flatten());
        let (mut sims, mut mats) = (Vec::new(), Vec::new());
        for kind in kinds {
            let (sim, mat) = decoder(kind, plan.seed).await;
            sims.push((kind, Arc::new(sim)));
            mats.push(mat);
        }
        let keep = if rng.u32(0..4) > 0 { PRUNE } else { "" };
        let data = rig.mountpoint().join("data");
        let site = Site::at(tempfile::tempdir().unwrap(), data, Some(cloud.url()), &mats, &[UPLOAD, keep].concat());
        site.set_key(&key);
        let outcome = Outcome { trials: 1, ..Outcome::default() };
        let mut trial =
            Self { rig, plan, rng, cloud, sims, site, shown: Shown::default(), sessions: 0, online: true, outcome };
        trial.open_session();
        trial
    }

    fn open_session(&mut self) {
        self.sessions += 1;
        self.cloud.open_session(DEVICE, &format!("Race {}", self.sessions));
    }

    fn start(&self) -> Running {
        let run = self.site.command(&["run"]);
        // It dies with this process, also when that is killed: it would keep the file system
        // mounted.
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(run.get_program()).args(run.get_args()).env_clear();
        command.env("PASSBRIDGE_TRIAL_VOLUME_BYTES", SEGMENT_BYTES).env("PASSBRIDGE_TRIAL_TURN_MS", TURN_MS);
        command.env("PASSBRIDGE_TRIAL_RECENT", RECENT).env("PASSBRIDGE_TRIAL_CHUNK_BYTES", CHUNK_BYTES);
        command.envs(self.plan.control.map(Control::variable));
        Running::spawn(command, self.site.config().parent().unwrap())
    }

    fn power_on(&mut self) {
        block_in_place(|| self.rig.power_on()).unwrap();
        let faults = block_in_place(|| after_a_cut(&self.site.data, &self.shown, &self.cloud));
        self.outcome.faults.extend(faults);
        let found = segments(&log_dir(&self.site.data)).unwrap_or_default();
        let with_zeros = found.iter().filter(|segment| segment.lines().is_ok_and(|lines| lines < segment.bytes));
        self.outcome.zeros += with_zeros.count() as u64;
    }

    async fn until_the_power_goes(&mut self) {
        self.power_on();
        let damaged = self.rng.u32(0..4) == 0 && damage_queue(&self.site.data, &mut self.rng);
        self.outcome.damaged += u64::from(damaged);
        self.weather().await;
        let mut running = self.start();
        self.live(damaged).await;
        let ended = running.ended(Duration::ZERO).await;
        if let Some(status) = ended
            && !self.rig.disk.platter().is_dead()
        {
            self.outcome.faults.push(format!("it ended by itself: {status}"));
        }
        for (kind, sim) in &self.sims {
            if *kind == Kind::MYLAPS {
                self.shown.acked.extend(sim.acked().iter().map(passing));
            }
        }
        let remains = self.rig.cut(self.plan.keep, &mut self.rng);
        drop(running);
        self.outcome.cuts += 1;
        match self.shown.last {
            None => self.outcome.starting += 1,
            Some(_) if !self.online => self.outcome.offline += 1,
            Some(pending) => self.outcome.draining += u64::from(pending > DRAINING),
        }
        self.outcome.remains.unflushed += remains.unflushed;
        self.outcome.remains.kept += remains.kept;
        block_in_place(|| self.rig.power_off()).unwrap();
    }

    /// The internet comes and goes, sessions are closed and others opened, before the box starts.
    async fn weather(&mut self) {
        self.online = self.rng.u32(0..3) > 0;
        self.cloud.set_online(self.online).await;
        self.shown.last = None;
        match self.rng.u32(0..6) {
            0 => self.open_session(), // the one before is closed
            1 => self.cloud.sessions(DEVICE).iter().for_each(|session| self.cloud.close_session(&session.token)),
            _ if self.cloud.sessions(DEVICE).iter().all(|session| !session.active) => self.open_session(),
            _ => {}
        }
    }

    /// Lets the box run until a random moment, and notes what it shows meanwhile.
    async fn live(&mut self, damaged: bool) {
        let mut shown_here = std::mem::take(&mut self.shown);
        let watching = watch(&self.site, &mut shown_here);
        let moment = match self.rng.u32(0..9) {
            // What is shown after the disk died by itself is no fault where nothing is synced.
            moment if self.plan.control == Some(Control::NoSync) => moment % 4,
            _ if self.plan.control == Some(Control::TrustsTorn) => 8,
            moment if damaged => moment % 2 * 4, // during the rebuild
            moment => moment,
        };
        let (change, after) = (self.rng.u32(0..4) == 0, Duration::from_millis(self.rng.u64(0..800)));
        let (site, cloud, rng, platter) = (&self.site, &self.cloud, &mut self.rng, &self.rig.disk);
        let sim = &self.sims[0].1;
        let waiting = async {
            match moment {
                0 => sleep(Duration::from_millis(rng.u64(0..300))).await, // in the middle of the start
                1 => {
                    let goal = *sim.emitted().borrow() + rng.u64(1..200);
                    sim.emitted().wait_for(|emitted| *emitted >= goal).await.unwrap();
                }
                2 => {
                    let goal = cloud.post_count() + rng.u64(1..=10);
                    cloud.wait_until(Duration::from_secs(3), |cloud| cloud.post_count() >= goal).await;
                }
                3 => {
                    holds(PATIENCE, async || !shown(site).await.is_empty()).await;
                    sleep(Duration::from_millis(rng.u64(0..1500))).await;
                }
                _ => {
                    // In the middle of some write or FLUSH: in the start, later, or of groups of reads.
                    if moment == 8 {
                        holds(PATIENCE, async || !shown(site).await.is_empty()).await;
                        let goal = *sim.emitted().borrow() + rng.u64(1..40);
                        sim.emitted().wait_for(|emitted| *emitted >= goal).await.unwrap();
                    }
                    let most = if moment == 5 || moment == 6 || moment == 7 { 2500 } else { 100 };
                    platter.platter().dies_in(rng.u64(1..most));
                    holds(Duration::from_secs(5), async || platter.platter().is_dead()).await;
                }
            }
        };
        let session = async {
            // Somebody closes the session and opens another one in the middle of it, now and then.
            if change {
                sleep(after).await;
                self.cloud.open_session(DEVICE, "Another race");
            }
            std::future::pending::<()>().await
        };
        tokio::select! { () = waiting => {}, () = watching => {}, () = session => {} }
        self.shown = shown_here;
    }

    /// The power stays, the cloud is well: everything must arrive.
    async fn finish(&mut self, pushing: &mut Vec<JoinSet<()>>) {
        self.power_on();
        self.cloud.clear_faults();
        self.cloud.set_online(true).await;
        if self.cloud.sessions(DEVICE).iter().all(|session| !session.active) {
            self.open_session();
        }
        let mut running = self.start();
        pushing.clear();
        if let Err(what) = self.drain().await {
            let status = self.site.status().await;
            self.outcome.faults.push(format!("not within {} s: {what}: {status:?}", PATIENCE.as_secs()));
        }
        if let Some(status) = self.site.status().await {
            self.shown.status(&status);
        }
        running.terminate();
        let ended = running.ended(Duration::from_secs(20)).await;
        if ended.is_none_or(|status| status.code() != Some(0)) {
            self.outcome.faults.push(format!("it was stopped and ended so: {ended:?}"));
        }
        drop(running);
        self.outcome.rotated = segments(&log_dir(&self.site.data)).map_or(0, |segments| segments.len());
        let sims: Vec<_> = self.sims.iter().map(|(kind, sim)| (*kind, &**sim)).collect();
        let faults = block_in_place(|| at_the_end(&self.site.data, &self.shown, &self.cloud, &sims));
        self.outcome.faults.extend(faults);
        block_in_place(|| self.rig.power_off()).unwrap();
    }

    async fn drain(&self) -> Result<(), &'static str> {
        let is = async |limit, condition: &dyn Fn(&passbridge::testing::status::Snapshot) -> bool| {
            holds(limit, async || self.site.status().await.is_some_and(|status| condition(&status))).await
        };
        let connected = |status: &passbridge::testing::status::Snapshot| {
            status.decoders.len() == self.sims.len()
                && status.decoders.iter().all(|decoder| decoder.state == LinkState::Connected)
        };
        if !is(PATIENCE, &connected).await {
            return Err("every decoder is connected");
        }
        for (kind, sim) in &self.sims {
            let kept = async |last: &Passing| {
                shown(&self.site).await.iter().any(|read| passing_of(&read.chip, &read.decoder_time) == *last)
            };
            if *kind == Kind::IPICO {
                sim.push(1); // one more, so that it is known when all before it has come through the link
                let last = passing(sim.reads().last().unwrap());
                if !holds(PATIENCE, async || kept(&last).await).await {
                    return Err("the last read of the stream is kept");
                }
            }
            let acked = async || *sim.acked_count().borrow() >= *sim.emitted().borrow();
            if *kind == Kind::MYLAPS && !holds(PATIENCE, acked).await {
                return Err("all is acknowledged");
            }
        }
        let happened: usize =
            self.sims.iter().filter(|(kind, _)| *kind != Kind::IPICO).map(|(_, sim)| sim.reads().len()).sum();
        holds(PATIENCE, async || self.cloud.stored() >= happened).await; // what did not come is for the judge to tell
        let idle = |status: &passbridge::testing::status::Snapshot| {
            status.uptime_s > 2 && status.journal.serving && status.journal.pending == 0
        };
        if is(PATIENCE, &idle).await { Ok(()) } else { Err("nothing waits") }
    }

    fn end(mut self) -> Outcome {
        let said = self.site.said();
        self.outcome.pruned = said.matches("removed a log segment").count();
        self.outcome.torn = said.matches("that are no whole line").count();
        self.outcome.covered = said.matches("lost from the end of the log when the power was cut").count();
        self.outcome.rotated += self.outcome.pruned; // those that are left were counted
        let reasons = said.split("could not be trusted (").skip(1).filter_map(|text| text.split("); it is").next());
        for reason in reasons {
            *self.outcome.untrue.entry(reason.replace(|digit: char| digit.is_ascii_digit(), "")).or_default() += 1;
        }
        self.outcome.reads = self.sims.iter().map(|(_, sim)| sim.reads().len()).sum();
        if !self.outcome.faults.is_empty() {
            self.outcome.failed = 1;
            let (seed, keep) = (self.plan.seed, self.plan.keep);
            self.outcome.faults.iter_mut().for_each(|fault| *fault = format!("seed {seed}, keep {keep} %: {fault}"));
            if !self.plan.must_fail() {
                let from = said.len().saturating_sub(20_000);
                let faults = &self.outcome.faults;
                eprintln!("the binary said: …{}{faults:#?}", String::from_utf8_lossy(&said.as_bytes()[from..]));
            }
        }
        if let Err(error) = block_in_place(|| self.rig.power_off()) {
            self.outcome.faults.push(error);
        }
        self.outcome
    }
}

/// Looks at the page again and again, until it is dropped.
async fn watch(site: &Site, seen: &mut Shown) {
    loop {
        for read in shown(site).await {
            seen.reads.insert(read.seq, (read.chip, read.decoder_time));
        }
        if let Ok(Some((200, text))) = timeout(Duration::from_secs(1), site.get("/api/status")).await {
            seen.status(&serde_json::from_str(&text).unwrap());
        }
        sleep(Duration::from_millis(15)).await;
    }
}

/// The queue is derived: whatever happens to it must cost nothing but time.
fn damage_queue(data: &Path, rng: &mut fastrand::Rng) -> bool {
    let queue = data.join("queue");
    let Ok(spans) = fs::read_dir(&queue) else { return false };
    if rng.bool() {
        fs::remove_dir_all(&queue).unwrap();
        return true;
    }
    for span in spans.flatten() {
        let db = span.path().join("db");
        let Ok(mut bytes) = fs::read(&db) else { continue };
        match rng.u32(0..3) {
            0 => bytes.truncate(bytes.len() / 2),
            1 => (0..20).for_each(|_| {
                if !bytes.is_empty() {
                    let at = rng.usize(0..bytes.len());
                    bytes[at] ^= 1 << rng.u32(0..8)
                }
            }),
            _ => bytes.clear(),
        }
        fs::write(&db, bytes).unwrap();
    }
    true
}
