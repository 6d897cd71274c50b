//! The demo: a simulated race on this machine, the whole way from simulated decoders into a
//! simulated cloud, without configuration.
//!
//! It is the real daemon with real sockets, a real journal and a real page. Only the decoders and
//! the cloud are simulated ([`crate::sim`]). Things go wrong on purpose: the cloud is away for a
//! while, an answer is lost after the passings arrived, and the decoders' cables are pulled. The
//! simulated cloud does not detect duplicates, so "exactly once" in the final audit is the work of
//! this program alone.

mod actor;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cloud::audit;
use crate::commands::args::{DemoArgs, print};
use crate::commands::audit::beside;
use crate::config::KeyHeader;
use crate::config::failure::Failure;
use crate::config::{
    Address, CloudConfig, Config, DecoderConfig, KeepConfig, LogConfig, LogFormat, NotifyConfig, PassingConfig,
    SessionMode, StatusConfig, UploadConfig,
};
use crate::daemon::Daemon;
use crate::daemon::logging;
use crate::decoders::{Settings, Spec};
use crate::model::clock;
use crate::sim::cloud::{CloudFault, DEVICE, Dedup, KEY, On, SimCloud, SimCloudConfig};
use actor::{Actor, LOOPBACK};

/// How long the backlog may take to drain after the race.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// At most this many differences are shown one by one.
const DIFFERENCES_TOLD: usize = 10;

/// The result with which the demo ends.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// Reads that happened at the decoders. For a decoder that only streams, only the reads while
    /// somebody was connected count.
    pub happened: usize,
    /// How many of them are different reads. Some decoders send one detection twice (first and last
    /// seen).
    pub different: usize,
    /// Number of reads in the journal.
    pub kept: u64,
    /// Number of passings in the cloud.
    pub in_cloud: usize,
    /// Number of reads that happened and are not in the cloud.
    pub missing: usize,
    /// Number of passings that are in the cloud more than once, or that never happened.
    pub wrong: usize,
    /// Whether the numbers in the cloud rise from 1 without a gap, in the order of arrival.
    pub in_order: bool,
    /// The first differences: chip, time, and how many more happened than are in the cloud.
    pub differences: Vec<(String, String, i64)>,
    /// The rules that the uploads broke, as the simulated cloud reports them.
    pub violations: Vec<String>,
    /// Whether `passbridge audit` finds journal and cloud equal. It sees only what a real box could
    /// see.
    pub journal_equal: bool,
}

impl Audit {
    /// Whether each read that happened was kept and is in the cloud once.
    pub(crate) fn is_clean(&self) -> bool {
        self.missing == 0
            && self.wrong == 0
            && self.in_order
            && self.violations.is_empty()
            && self.journal_equal
            && self.kept as usize >= self.happened
            && self.different == self.in_cloud
    }
}

/// Runs the demo.
///
/// # Errors
/// I/O if it cannot be set up, and data (65) if the audit finds a difference.
pub(crate) async fn run(args: DemoArgs) -> Result<(), Failure> {
    logging::start(&LogConfig { level: "error".into(), format: LogFormat::Auto });
    let (dir, temporary) = match &args.keep {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("passbridge-demo-{}", std::process::id())), true),
    };
    let result = race(&args, dir.clone()).await;
    if temporary {
        let _ = std::fs::remove_dir_all(&dir);
    }
    let audit = result?;
    if audit.is_clean() {
        Ok(())
    } else {
        Err(Failure::data("the audit found a difference between decoders and cloud"))
    }
}

fn verdict(audit: &Audit) -> String {
    let mut text = format!(
        "\naudit: {} reads at the decoders{} · {} kept · {} in the cloud · {} missing · {} twice or foreign · {}\n",
        audit.happened,
        match audit.happened - audit.different {
            0 => String::new(),
            twice => format!(" ({twice} of them sent twice)"),
        },
        audit.kept,
        audit.in_cloud,
        audit.missing,
        audit.wrong,
        if audit.in_order { "numbers in order, without a hole" } else { "NUMBERS OUT OF ORDER" },
    );
    for (chip, time, more) in &audit.differences {
        let what = if *more > 0 { "is missing in the cloud" } else { "is in the cloud and did not happen so often" };
        text.push_str(&format!("  {chip} at {time} {what}\n"));
    }
    for violation in &audit.violations {
        text.push_str(&format!("the cloud complains: {violation}\n"));
    }
    text.push_str(match audit.journal_equal {
        true => "passbridge audit: journal and cloud are equal\n",
        false => "passbridge audit: journal and cloud are NOT EQUAL\n",
    });
    let Audit { different, kept, in_cloud, .. } = audit;
    text.push_str(&match (audit.is_clean(), (*kept as usize).saturating_sub(*different)) {
        (false, _) => "NOT EQUAL\n".to_owned(),
        (true, 0) => format!("{different} reads at the decoders = {kept} kept on this box = {in_cloud} in the cloud, each once\n"),
        (true, twice) => format!(
            "{different} different reads at the decoders = {in_cloud} in the cloud, each once; the decoders gave {twice} of \
             them twice, so this box kept {kept}\n"
        ),
    });
    text
}

/// Whether the page stays when the race is over. It stays where a person looks at it and can end
/// it.
fn stays(args: &DemoArgs, terminal: bool, ci: Option<&str>) -> bool {
    let is_ci = ci.is_some_and(|ci| !matches!(ci, "" | "0" | "false"));
    terminal && !is_ci && !args.json && !args.end
}

async fn race(args: &DemoArgs, dir: PathBuf) -> Result<Audit, Failure> {
    let io = |error: String| Failure::io(format!("the demo cannot be set up: {error}"));
    let cloud = SimCloudConfig { dedup: Dedup::None, latency: Duration::from_millis(20), ..Default::default() };
    let cloud = SimCloud::start(cloud).await.map_err(|error| io(error.to_string()))?;
    let token = cloud.open_session(DEVICE, "Demo race");
    let mut sims: Vec<Actor> = Vec::new();
    let mut decoders = Vec::new();
    for planned in actor::plan(args).await? {
        let (protocol, settings) = (planned.protocol, planned.settings.clone());
        let (actor, address) = planned.start().await?;
        sims.push(actor);
        decoders.push(decoder(protocol, settings, address));
    }
    let config = config(dir, &cloud, decoders)?;
    let mut daemon = Daemon::start(config.clone(), &[]).await?;
    if daemon.status_address.is_none() {
        // Most likely another demo, or a daemon, uses the page's port.
        daemon.stop().await?;
        let status = StatusConfig { listen: Some(LOOPBACK), ..StatusConfig::default() };
        daemon = Daemon::start(Config { status, ..config.clone() }, &[]).await?;
    }
    if daemon.journal().is_none() {
        let why = daemon.board().reasons_not_ready().join("; ");
        daemon.stop().await?;
        return Err(io(why));
    }
    if let (Some(address), false) = (daemon.status_address, args.json) {
        print(&format!("the box at work: http://{address}/\n"))?;
    }
    let show = Show { args, cloud: &cloud, sims: &sims, daemon_board: daemon.board().clone() };
    let failed = tokio::select! {
        failure = daemon.failed() => Some(failure),
        result = show.run() => result.err(),
    };
    let snapshot = daemon.snapshot();
    if let Some(failure) = failed {
        daemon.stop().await?;
        return Err(failure);
    }
    let kept = snapshot.decoders.iter().map(|decoder| decoder.reads).sum();
    let ci = std::env::var("CI").ok();
    if !stays(args, io::stdout().is_terminal(), ci.as_deref()) {
        daemon.stop().await?;
        let audit = Audit { journal_equal: journal_equal(&config).await?, ..compare(&cloud, &token, &sims, kept) };
        tell(args, &audit)?;
        for sim in sims {
            sim.stop().await;
        }
        return Ok(audit);
    }
    let audit = Audit { journal_equal: journal_equal(&config).await?, ..compare(&cloud, &token, &sims, kept) };
    tell(args, &audit)?;
    if let Some(address) = daemon.status_address {
        print(&format!("\nThe race is over. The page stays at http://{address}/ until you press Ctrl-C.\n"))?;
    }
    let failed = tokio::select! {
        failure = daemon.failed() => Some(failure),
        _ = tokio::signal::ctrl_c() => None,
    };
    daemon.stop().await?;
    for sim in sims {
        sim.stop().await;
    }
    failed.map_or(Ok(audit), Err)
}

fn tell(args: &DemoArgs, audit: &Audit) -> Result<(), Failure> {
    match args.json {
        true => print(&format!("{}\n", serde_json::json!(audit))),
        false => print(&verdict(audit)),
    }
}

fn decoder(protocol: &'static Spec, set: Settings, address: Address) -> DecoderConfig {
    DecoderConfig {
        name: format!("{}-mat", protocol.name),
        protocol,
        address,
        timezone: TimeZone::UTC,
        zone_given: true,
        clock: Default::default(),
        device_id: None,
        rewind: true,
        locations: BTreeMap::new(),
        set,
    }
}

fn config(dir: PathBuf, cloud: &SimCloud, decoders: Vec<DecoderConfig>) -> Result<Config, Failure> {
    let url = cloud.url().parse().map_err(|_| Failure::io("the simulated cloud has no address"))?;
    Ok(Config {
        name: "demo".into(),
        data_dir: dir,
        decoders,
        cloud: Some(CloudConfig {
            url,
            device_id: Some(DEVICE.into()),
            api_key: Some(KEY.to_owned().into()),
            api_key_file: None,
            header: KeyHeader::default(),
            session: SessionMode::Active,
        }),
        upload: UploadConfig {
            retry_max: Duration::from_secs(2),
            settle: Duration::from_secs(1),
            ..UploadConfig::default()
        },
        passing: PassingConfig::default(),
        keep: KeepConfig { days: 1, max_bytes: 1 << 30 },
        status: StatusConfig::default(),
        log: LogConfig { level: "error".into(), format: LogFormat::Auto },
        left_out: Vec::new(),
        notify: NotifyConfig::default(),
        expect: Vec::new(),
        faults: Vec::new(),
    })
}

/// Shows the race while it runs, and makes things go wrong.
struct Show<'a> {
    args: &'a DemoArgs,
    cloud: &'a SimCloud,
    sims: &'a [Actor],
    daemon_board: crate::status::Board,
}

impl Show<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut drained_by = None;
        for second in 1.. {
            sleep(Duration::from_secs(1)).await;
            let trouble = if self.args.replay.is_none() { self.trouble(second).await } else { None };
            let happened: u64 = self.sims.iter().map(Actor::happened).sum();
            let snapshot = self.daemon_board.snapshot();
            let kept: u64 = snapshot.decoders.iter().map(|decoder| decoder.reads).sum();
            let stored = self.cloud.stored();
            if !self.args.json {
                let upload = snapshot.uploads.first();
                let state = upload.and_then(|upload| serde_json::to_value(upload.state).ok());
                print(&format!(
                    "{:>4} s  at the decoders {happened:>6} · kept {kept:>6} · in the cloud {stored:>6} · waiting {:>5} · {}{}\n",
                    start.elapsed().as_secs(),
                    snapshot.journal.pending,
                    state.as_ref().and_then(|state| state.as_str()).unwrap_or("starting"),
                    trouble.map(|trouble| format!("   ({trouble})")).unwrap_or_default(),
                ))?;
            }
            let over = self.sims.iter().all(Actor::is_over);
            if over && kept >= happened && snapshot.journal.pending == 0 {
                return Ok(());
            }
            let limit =
                *drained_by.get_or_insert_with(|| start + DRAIN_LIMIT + Duration::from_secs(2 * self.args.seconds));
            if Instant::now() > limit {
                return Ok(()); // the audit shows what is missing
            }
        }
        Ok(())
    }

    /// Makes go wrong what is planned for this second. The text is shown beside the counts.
    async fn trouble(&self, second: u64) -> Option<&'static str> {
        let part = |quarter: u64| second == (self.args.seconds * quarter / 8).max(quarter);
        if part(1) {
            self.cloud.fault(On::Insert, CloudFault::after(crate::sim::cloud::Answer::Cut));
            return Some("an answer of the cloud is lost after the passings arrived");
        }
        if part(2) {
            self.cloud.set_online(false).await;
            return Some("the internet is gone");
        }
        if part(4) {
            self.cloud.set_online(true).await;
            return Some("the internet is back");
        }
        if part(5) {
            for sim in self.storing() {
                sim.set_online(false);
            }
            return Some("the cables of the decoders that have a memory are pulled");
        }
        if part(6) {
            for sim in self.storing() {
                sim.set_online(true);
            }
            return Some("the cables are back");
        }
        None
    }

    /// The decoders that store or repeat their reads: all except the last, which only streams.
    fn storing(&self) -> &[Actor] {
        &self.sims[..self.sims.len() - 1]
    }
}

/// Whether `passbridge audit` finds journal and cloud equal at the end.
async fn journal_equal(config: &Config) -> Result<bool, Failure> {
    let Some(cloud) = &config.cloud else { return Ok(false) };
    let client = crate::daemon::client(cloud, config, crate::model::clock::Wall::default())?;
    let subject = audit::Subject {
        data_dir: config.data_dir.clone(),
        device: DEVICE.into(),
        decoders: config.decoders.iter().map(|decoder| decoder.name.as_str().into()).collect(),
        session: None,
        rest: Duration::ZERO,
        lag: config.upload.settle,
    };
    Ok(audit::audit(&subject, &client, &beside(&config.data_dir)).await?.is_equal())
}

/// Compares what happened with what the cloud has, passing by passing.
fn compare(cloud: &SimCloud, token: &str, sims: &[Actor], kept: u64) -> Audit {
    let mut expected: BTreeMap<(String, i64), i64> = BTreeMap::new();
    let mut happened = 0;
    for read in sims.iter().flat_map(Actor::reads) {
        let utc = clock::resolve(&read.stamp, &TimeZone::UTC, jiff::Timestamp::now(), true).utc;
        expected.insert((read.chip.into(), utc.as_millisecond()), 1);
        happened += 1;
    }
    let different = expected.len();
    let stored = cloud.passings(token);
    let in_order = stored.iter().zip(1..).all(|(passing, num)| passing.num == num);
    for passing in &stored {
        let chip = passing.chip.as_deref().unwrap_or_default().to_owned();
        *expected.entry((chip, passing.time_ms)).or_default() -= 1;
    }
    let differences = expected.iter().filter(|(_, left)| **left != 0).take(DIFFERENCES_TOLD);
    let told =
        |time_ms: i64| jiff::Timestamp::from_millisecond(time_ms).map_or(String::new(), |time| format!("{time:.3}"));
    Audit {
        differences: differences.map(|((chip, time), left)| (chip.clone(), told(*time), *left)).collect(),
        happened,
        different,
        kept,
        in_cloud: stored.len(),
        missing: expected.values().filter(|left| **left > 0).map(|left| *left as usize).sum(),
        wrong: expected.values().filter(|left| **left < 0).map(|left| left.unsigned_abs() as usize).sum(),
        in_order,
        violations: cloud.violations(),
        journal_equal: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(different: usize, kept: u64) -> Audit {
        Audit {
            happened: different,
            different,
            kept,
            in_cloud: different,
            missing: 0,
            wrong: 0,
            in_order: true,
            differences: Vec::new(),
            violations: Vec::new(),
            journal_equal: true,
        }
    }

    #[test]
    fn the_last_line_says_what_is_true_also_when_a_decoder_gave_reads_twice() {
        let last = |audit: &Audit| verdict(audit).lines().last().unwrap().to_owned();
        let line = last(&audit(1000, 1000));
        assert_eq!(line, "1000 reads at the decoders = 1000 kept on this box = 1000 in the cloud, each once");
        let line = last(&audit(1000, 1003));
        assert!(
            line.contains("gave 3 of them twice") && line.contains("kept 1003") && !line.contains("= 1003"),
            "{line}"
        );
        assert_eq!(last(&Audit { missing: 1, ..audit(1000, 1000) }), "NOT EQUAL");
    }

    #[test]
    fn the_page_stays_only_where_a_person_can_end_it() {
        let args = |json, end| DemoArgs { seconds: 1, rate: 1.0, replay: None, protocol: None, keep: None, json, end };
        assert!(stays(&args(false, false), true, None) && stays(&args(false, false), true, Some("false")));
        assert!(!stays(&args(false, false), false, None), "a pipe, a file");
        assert!(!stays(&args(false, false), true, Some("true")) && !stays(&args(false, false), true, Some("1")));
        assert!(!stays(&args(true, false), true, None) && !stays(&args(false, true), true, None));
    }
}
