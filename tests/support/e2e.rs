//! A box with its decoders and its cloud, and how to wait for it and judge it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use passbridge::testing::config::KeyHeader;
use passbridge::testing::config::{
    Address, CloudConfig, Config, DecoderConfig, KeepConfig, LogConfig, LogFormat, NotifyConfig, PassingConfig,
    SessionMode, StatusConfig, UploadConfig,
};
use passbridge::testing::daemon::Daemon;
use passbridge::testing::decoders::spec;
use passbridge::testing::model::clock::Wall;
use passbridge::testing::sim::cloud::{DEVICE, Dedup, Generation, KEY, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, ReadSource, SimConfig, SimDecoder, SimRead, Wiring};
use passbridge::testing::status::Snapshot;
use tempfile::TempDir;

/// Longest wait for anything; a busy machine is slow, a bug waits for ever.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Any free port.
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Name of the decoder of a [`EndToEnd`] with one.
pub const MAT: &str = "finish-mat";

/// Every way in which a cloud may treat what is sent twice, in every form of answers.
pub const CLOUDS: [(Dedup, Generation); 6] = [
    (Dedup::None, Generation::Legacy),
    (Dedup::None, Generation::OpenApi),
    (Dedup::Number, Generation::Legacy),
    (Dedup::Number, Generation::OpenApi),
    (Dedup::NumberTime, Generation::Gateway),
    (Dedup::ChipTime, Generation::OpenApi),
];

/// A box that is configured but may or may not run, and its cloud.
pub struct EndToEnd {
    pub cloud: SimCloud,
    pub dir: TempDir,
    pub config: Config,
}

impl EndToEnd {
    /// A cloud that stores what is sent twice: then "once" is the box's own work.
    pub async fn new() -> Self {
        Self::with(Dedup::None, Generation::Legacy).await
    }

    pub async fn with(dedup: Dedup, generation: Generation) -> Self {
        let cloud = SimCloudConfig { dedup, generation, ..Default::default() };
        let cloud = SimCloud::start(cloud).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            name: "finish".into(),
            data_dir: dir.path().join("data"),
            decoders: Vec::new(),
            cloud: Some(CloudConfig {
                url: cloud.url().parse().unwrap(),
                device_id: Some(DEVICE.into()),
                api_key: Some(KEY.to_owned().into()),
                api_key_file: None,
                header: KeyHeader::Both,
                session: SessionMode::Active,
            }),
            upload: UploadConfig {
                batch_max: 20,
                linger: Duration::from_millis(5),
                min_interval: Duration::from_millis(5),
                retry_max: Duration::from_millis(50),
                settle: Duration::from_millis(100),
                create_after: Duration::from_millis(100),
                timeout: Duration::from_secs(10),
            },
            passing: PassingConfig::default(),
            keep: KeepConfig::default(),
            status: StatusConfig { listen: None, token: None, token_file: None },
            log: LogConfig { level: "off".into(), format: LogFormat::Auto },
            left_out: Vec::new(),
            notify: NotifyConfig::default(),
            expect: Vec::new(),
            faults: Vec::new(),
        };
        Self { cloud, dir, config }
    }

    /// Opens a session and gives its token.
    pub fn session(&self) -> String {
        self.cloud.open_session(DEVICE, "Race")
    }

    /// One more decoder of this protocol at this address, its clock in UTC.
    pub fn decoder(&mut self, name: &str, kind: Kind, address: Address) -> &mut DecoderConfig {
        self.config.decoders.push(DecoderConfig {
            name: name.into(),
            protocol: spec(kind.name()).unwrap(),
            address,
            timezone: TimeZone::UTC,
            zone_given: true,
            clock: Default::default(),
            device_id: None,
            rewind: true,
            locations: BTreeMap::new(),
            set: BTreeMap::new(),
        });
        self.config.decoders.last_mut().unwrap()
    }

    /// A simulated decoder that listens, and the box configured to connect to it.
    pub async fn plug(&mut self, kind: Kind) -> SimDecoder {
        self.plug_as(MAT, SimConfig::new(kind, Wiring::Listen(LOOPBACK))).await
    }

    /// The same under another name, with reads of its own.
    pub async fn plug_as(&mut self, name: &str, sim: SimConfig) -> SimDecoder {
        let kind = sim.kind;
        let sim = SimDecoder::start(sim).await.unwrap();
        let address = sim.address().unwrap();
        self.decoder(name, kind, Address::Tcp { host: address.ip().to_string(), port: address.port() });
        sim
    }

    /// A decoder that stored `reads` before the box was switched on.
    pub async fn plug_with(&mut self, kind: Kind, reads: u64) -> SimDecoder {
        let sim = self.plug(kind).await;
        sim.push(reads);
        sim
    }

    pub fn data(&self) -> &Path {
        &self.config.data_dir
    }

    pub async fn start(&self) -> Daemon {
        Daemon::start(self.config.clone(), &[]).await.unwrap()
    }

    /// Starts the box with this wall clock.
    pub async fn start_at(&self, wall: &Wall) -> Daemon {
        Daemon::start_at(self.config.clone(), &[], wall.clone()).await.unwrap()
    }

    /// Starts a box that listens for a MYLAPS exporter, which then connects to it; a later start
    /// uses the same port.
    pub async fn start_with_exporter(&mut self, repeat: Duration) -> (Daemon, SimDecoder) {
        self.decoder(MAT, Kind::MYLAPS, Address::Listen(LOOPBACK));
        let daemon = self.start().await;
        let address = daemon.listening[MAT];
        self.config.decoders[0].address = Address::Listen(address);
        let sim = SimConfig { repeat, ..SimConfig::new(Kind::MYLAPS, Wiring::Connect(address)) };
        (daemon, SimDecoder::start(sim).await.unwrap())
    }

    /// Waits until the sessions hold `n` passings together.
    pub async fn arrive(&self, n: usize, daemon: &Daemon) {
        assert!(
            self.cloud.wait_for(n, LIMIT).await,
            "only {} of {n} arrived; posts: {:#?}; the box: {:#?}",
            self.cloud.stored(),
            self.cloud.posts(),
            daemon.snapshot()
        );
    }

    /// The session holds these reads, each once, in this order, numbered from 1, and nobody did
    /// anything wrong.
    pub fn holds(&self, token: &str, expected: &[Crossing]) {
        assert_eq!(crossings(&self.cloud, token), expected);
        self.sound(token);
    }

    /// The session holds these reads, each once, in whatever order they came, numbered from 1.
    pub fn holds_in_some_order(&self, token: &str, expected: &[Crossing]) {
        let sorted = |mut list: Vec<Crossing>| {
            list.sort();
            list
        };
        assert_eq!(sorted(crossings(&self.cloud, token)), sorted(expected.to_vec()));
        self.sound(token);
    }

    /// Numbers from 1 without a hole, in the order of arrival.
    pub fn sound(&self, token: &str) {
        let numbers: Vec<u64> = self.cloud.passings(token).iter().map(|passing| passing.num).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        self.innocent();
    }

    pub fn innocent(&self) {
        assert_eq!(self.cloud.violations(), [""; 0]);
    }
}

/// Runs all at once, each in a task of its own: most of it is waiting.
pub async fn together<F: Future<Output = ()> + Send + 'static>(runs: impl IntoIterator<Item = F>) {
    let mut tasks: tokio::task::JoinSet<()> = runs.into_iter().collect();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// A crossing as both ends know it: chip, and UTC milliseconds since 1970.
pub type Crossing = (String, i64);

/// What a session holds, in the order of arrival.
pub fn crossings(cloud: &SimCloud, token: &str) -> Vec<Crossing> {
    let chip = |chip: Option<std::sync::Arc<str>>| chip.as_deref().unwrap_or_default().to_owned();
    cloud.passings(token).into_iter().map(|passing| (chip(passing.chip), passing.time_ms)).collect()
}

/// What happened at a decoder whose clock is in this zone. Not by the product's own clock rules:
/// every stamp is plain wall time here.
pub fn happened_in(zone: &str, reads: &[SimRead]) -> Vec<Crossing> {
    let zone = TimeZone::get(zone).unwrap();
    let at = |read: &SimRead| match read.stamp {
        passbridge::testing::model::chip::Stamp::Local(local) => zone.to_timestamp(local).unwrap().as_millisecond(),
        ref other => panic!("no wall time: {other}"),
    };
    reads.iter().map(|read| (read.chip.to_string(), at(read))).collect()
}

/// What happened at a decoder whose clock is in UTC.
pub fn happened(sim: &SimDecoder) -> Vec<Crossing> {
    happened_in("UTC", &sim.reads())
}

/// Waits until what the box shows meets the condition.
pub async fn shows(daemon: &Daemon, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let mut changed = daemon.board().changed();
    let watching = async {
        loop {
            changed.borrow_and_update();
            let snapshot = daemon.snapshot();
            if condition(&snapshot) {
                return snapshot;
            }
            changed.changed().await.unwrap();
        }
    };
    let seen = tokio::time::timeout(LIMIT, watching).await;
    seen.unwrap_or_else(|_| panic!("the box never shows that {what}: {:#?}", daemon.snapshot()))
}

/// Waits until so many reads are kept since the start.
pub async fn keeps(daemon: &Daemon, n: u64) -> Snapshot {
    let kept = |snapshot: &Snapshot| snapshot.decoders.iter().map(|decoder| decoder.reads).sum::<u64>();
    shows(daemon, &format!("{n} reads are kept"), |snapshot| kept(snapshot) >= n).await
}

/// Waits until a problem with this code is shown.
pub async fn complains(daemon: &Daemon, code: &str) -> String {
    let snapshot = shows(daemon, &format!("there is a problem {code}"), |snapshot| has_problem(snapshot, code)).await;
    snapshot.problems.into_iter().find(|problem| problem.code == code).unwrap().message
}

pub fn has_problem(snapshot: &Snapshot, code: &str) -> bool {
    snapshot.problems.iter().any(|problem| problem.code == code)
}

/// Waits until so many links to the decoder are open.
pub async fn links(sim: &SimDecoder, n: usize) {
    let mut links = sim.links();
    let seen = tokio::time::timeout(LIMIT, links.wait_for(|links| *links == n)).await;
    seen.unwrap_or_else(|_| panic!("there are never {n} links")).unwrap();
}

/// Waits until the exporter has its acknowledgement of so many reads.
pub async fn acked(sim: &SimDecoder, n: u64) {
    let mut count = sim.acked_count();
    let seen = tokio::time::timeout(LIMIT, count.wait_for(|count| *count >= n)).await;
    seen.unwrap_or_else(|_| panic!("{n} reads are never acknowledged")).unwrap();
}

/// A decoder that plays these rows.
pub fn recording(kind: Kind, rows: &[&str]) -> SimConfig {
    let rows = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
    SimConfig { source: ReadSource::Recording(rows), ..SimConfig::new(kind, Wiring::Listen(LOOPBACK)) }
}

/// A RACE RESULT record: passing number, chip, and time on 17 June 2026.
pub fn record(number: u64, chip: &str, time: &str) -> String {
    format!("{number};{chip};2026-06-17;{time};0;4;17;;0;;;;;;;0;Sim;1;3;D-5001")
}
