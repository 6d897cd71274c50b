//! The uplink's driver over real sockets and the real journal, against the simulated cloud. What
//! the machine decides is tested beside it; here the question is whether the driver does what the
//! machine says, in the right order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use passbridge::testing::cloud::passing::Fields;
use passbridge::testing::cloud::rufus::{Client, ClientConfig, install_tls};
use passbridge::testing::cloud::uplink::{self, UplinkConfig, UplinkError};
use passbridge::testing::config::KeyHeader;
use passbridge::testing::config::{SessionMode, UploadConfig};
use passbridge::testing::decoders::{Frame, Framed};
use passbridge::testing::journal::{Journal, JournalConfig, PendingRead};
use passbridge::testing::model::chip::{ChipRead, Stamp};
use passbridge::testing::sim::cloud::{
    Answer, Chance, CloudFault, DEVICE, Dedup, Generation, KEY, On, SimCloud, SimCloudConfig,
};
use passbridge::testing::status::{Board, UploadState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(60);

struct Rig {
    cloud: SimCloud,
    dir: tempfile::TempDir,
    journal: Journal,
    board: Board,
    stop: CancellationToken,
    task: JoinHandle<Result<(), UplinkError>>,
    reads: usize,
}

async fn journal(dir: &Path, board: &Board) -> Journal {
    let config = JournalConfig {
        dir: dir.to_owned(),
        dead_time: Duration::ZERO,
        zones: Default::default(),
        keep_days: 30,
        keep_bytes: 1 << 30,
        segment_bytes: 1 << 24,
    };
    Journal::open(config, board.clone()).unwrap()
}

fn fields(read: &PendingRead) -> Option<Fields> {
    let Stamp::Utc(time) = read.stamp else { unreachable!("the rig keeps no other stamps") };
    Some(Fields { time_ms: time.as_millisecond(), bib: "".into(), chip: (&*read.chip).into() })
}

impl Rig {
    async fn start(config: SimCloudConfig) -> Self {
        install_tls();
        let cloud = SimCloud::start(config).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let board = Board::new("box");
        let journal = journal(dir.path(), &board).await;
        let stop = CancellationToken::new();
        let task = Self::run(&cloud.url(), &journal, &board, &stop);
        Self { cloud, dir, journal, board, stop, task, reads: 0 }
    }

    fn run(
        url: &str,
        journal: &Journal,
        board: &Board,
        stop: &CancellationToken,
    ) -> JoinHandle<Result<(), UplinkError>> {
        let timeout = Duration::from_secs(5);
        let client = Client::new(ClientConfig {
            url: url.parse().unwrap(),
            key: KEY.into(),
            header: KeyHeader::XApiKey,
            timeout,
            clock: passbridge::testing::model::clock::Wall::default(),
        });
        let config = UplinkConfig {
            device: DEVICE.into(),
            decoders: vec!["mat".into()],
            name: "box".to_owned(),
            session: SessionMode::Create,
            upload: UploadConfig {
                batch_max: 20,
                linger: Duration::from_millis(10),
                min_interval: Duration::from_millis(10),
                retry_max: Duration::from_millis(20),
                settle: Duration::from_millis(100),
                create_after: Duration::from_millis(100),
                timeout,
            },
        };
        let (journal, board, stop) = (journal.clone(), board.clone(), stop.clone());
        tokio::spawn(uplink::run(config, client.unwrap(), journal, board, fields, stop))
    }

    async fn read(&mut self, count: usize) {
        let frame = |n: usize| {
            let stamp = Stamp::Utc(Timestamp::from_millisecond(1_700_000_000_000 + n as i64).unwrap());
            Framed {
                frame: Frame::Read(ChipRead::new(format!("C{n}"), stamp)),
                raw: format!("C{n}").into_bytes().into(),
            }
        };
        let frames = (self.reads..self.reads + count).map(frame).collect();
        self.journal.append("mat", Timestamp::now(), frames).await.unwrap();
        self.reads += count;
    }

    /// The process dies and starts again, with the same disk.
    async fn crash(&mut self) {
        let url = self.cloud.url();
        self.restart(&url).await;
    }

    async fn restart(&mut self, url: &str) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.journal.close().await;
        self.journal = journal(self.dir.path(), &self.board).await;
        self.task = Self::run(url, &self.journal, &self.board, &self.stop);
    }

    /// Waits until all that was read is in the cloud, and that once.
    async fn audit(&self) {
        let all = self.cloud.wait_for(self.reads, LIMIT).await;
        let sessions = self.cloud.sessions(DEVICE);
        let passings: Vec<_> = sessions.iter().flat_map(|session| self.cloud.passings(&session.token)).collect();
        let chips: BTreeSet<_> = passings.iter().filter_map(|passing| passing.chip.clone()).collect();
        assert!(all, "{} of {} arrived; {:#?}", passings.len(), self.reads, self.board.snapshot());
        assert_eq!((passings.len(), chips.len()), (self.reads, self.reads));
        assert!(passings.is_sorted_by_key(|passing| passing.time_ms), "out of order");
        assert_eq!(self.cloud.violations(), [""; 0]);
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.task).await.expect("it stops").unwrap().unwrap();
        self.journal.close().await;
    }
}

#[tokio::test]
async fn reads_are_uploaded_numbered_from_one_and_the_board_shows_it() {
    let mut rig = Rig::start(SimCloudConfig::default()).await;
    rig.read(1).await;
    assert!(rig.cloud.wait_for(1, LIMIT).await);
    rig.read(1000).await;
    rig.audit().await;
    let session = &rig.cloud.sessions(DEVICE)[0];
    let numbers: Vec<_> = rig.cloud.passings(&session.token).iter().map(|passing| passing.num).collect();
    assert!(numbers.into_iter().eq(1..=1001));
    let mut changed = rig.board.changed();
    let shown = tokio::time::timeout(LIMIT, async {
        loop {
            let upload = rig.board.snapshot().uploads[0].clone();
            if upload.sent == 1001 && upload.state == UploadState::Idle {
                return upload;
            }
            changed.changed().await.unwrap();
        }
    })
    .await
    .unwrap();
    assert!(shown.last_ok.is_some() && shown.last_error.is_none());
    assert!(session.token.ends_with(&shown.session.unwrap().token_tail));
    rig.stop().await;
}

#[tokio::test]
async fn every_kind_of_trouble_and_of_cloud_leaves_each_read_in_it_once() {
    let dedups = [Dedup::None, Dedup::Number, Dedup::NumberTime, Dedup::ChipTime];
    let generations = [Generation::Legacy, Generation::OpenApi, Generation::Gateway, Generation::OpenApi];
    for (seed, (dedup, generation)) in dedups.into_iter().zip(generations).enumerate() {
        let config = SimCloudConfig { dedup, generation, page_size: 7, ..SimCloudConfig::default() };
        let mut rig = Rig::start(config).await;
        let faults = vec![
            CloudFault::before(Answer::Cut),
            CloudFault::after(Answer::Cut),
            CloudFault::after(Answer::CutInside),
            CloudFault::after(Answer::Status(500)),
            CloudFault::before(Answer::Status(502)),
            CloudFault::after(Answer::html()),
            CloudFault::before(Answer::Redirect("http://127.0.0.1:1/".to_owned())),
            CloudFault::before(Answer::RetryAfter(429, "0".to_owned())),
            CloudFault::after(Answer::empty(200)),
            CloudFault::after(Answer::not_json()),
            CloudFault::short(3),
            CloudFault::after(Answer::Cut).closing(),
            CloudFault::before(Answer::Status(503)).closing(),
        ];
        rig.cloud.fault_by_chance(Chance { on: On::Insert, seed: seed as u64, odds: 0.5, faults: faults.clone() });
        rig.cloud.fault_by_chance(Chance { on: On::Held, seed: 9, odds: 0.2, faults: faults[..10].to_vec() });
        rig.cloud.fault_by_chance(Chance { on: On::Active, seed: 8, odds: 0.2, faults: faults[..10].to_vec() });
        for round in 1..=8 {
            rig.read(60).await;
            assert!(rig.cloud.wait_for(round * 20, LIMIT).await, "{:#?}", rig.board.snapshot());
            match round % 4 {
                1 => rig.crash().await,
                2 => drop(rig.cloud.open_session(DEVICE, "another")),
                3 => {
                    rig.cloud.set_online(false).await;
                    rig.cloud.set_online(true).await;
                }
                _ => {}
            }
        }
        rig.cloud.clear_faults();
        rig.audit().await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_poisoned_passing_is_set_aside_and_the_rest_arrives() {
    let mut rig = Rig::start(SimCloudConfig::default()).await;
    rig.cloud.poison("C30", 400);
    rig.read(60).await;
    assert!(rig.cloud.wait_for(59, LIMIT).await);
    rig.read(1).await;
    assert!(rig.cloud.wait_for(60, LIMIT).await);
    let state = rig.journal.device(DEVICE);
    assert_eq!((state.dead_letters, state.next), (1, 62));
    assert_eq!(rig.cloud.violations(), [""; 0]);
    rig.stop().await;
}

/// Forwards to the cloud; its answers wait while the gate is shut. Gives its own address.
async fn gated(cloud: SocketAddr, gate: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (mut from_near, mut to_near) = near.into_split();
            let (mut from_far, mut to_far) = TcpStream::connect(cloud).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            let mut gate = gate.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = from_far.read(&mut chunk).await {
                    gate.wait_for(|open| *open).await.unwrap();
                    to_near.write_all(&chunk[..n]).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn stopping_waits_for_the_post_in_flight_and_records_its_outcome() {
    let mut rig = Rig::start(SimCloudConfig::default()).await;
    let gate = watch::Sender::new(true);
    let address = gated(rig.cloud.address(), gate.subscribe()).await;
    rig.restart(&format!("http://{address}/v0")).await;
    rig.read(1).await;
    rig.audit().await;
    let mut changed = rig.journal.changed();
    while rig.journal.device(DEVICE).in_flight.is_some() {
        changed.changed().await.unwrap();
    }
    gate.send_replace(false);
    rig.read(5).await;
    assert!(rig.cloud.wait_for(6, LIMIT).await); // applied, and nobody was told
    rig.stop.cancel();
    assert!(rig.journal.device(DEVICE).in_flight.is_some());
    gate.send_replace(true);
    tokio::time::timeout(LIMIT, &mut rig.task).await.expect("it stops").unwrap().unwrap();
    let state = rig.journal.device(DEVICE);
    assert_eq!((state.in_flight, state.sent), (None, 6));
    rig.journal.close().await;
}
