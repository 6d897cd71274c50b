//! The simulated decoders against plain peers, and against our own protocols over real sockets.

use std::collections::{BTreeMap, HashSet};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::decoders::{Frame, Item, Output, spec};
use crate::model::chip::{ChipRead, StoredRanges};

mod histories;

/// No wait is longer than this. A test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn loopback() -> Wiring {
    Wiring::Listen(([127, 0, 0, 1], 0).into())
}

async fn sim(kind: Kind, change: impl FnOnce(&mut SimConfig)) -> SimDecoder {
    let mut config = SimConfig::new(kind, loopback());
    change(&mut config);
    SimDecoder::start(config).await.unwrap()
}

/// A peer that sends and reads lines.
struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Peer {
    async fn of(sim: &SimDecoder) -> Self {
        Self { stream: TcpStream::connect(sim.address().unwrap()).await.unwrap(), heard: Vec::new() }
    }

    async fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// The next line. `None`: the connection has ended.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match timeout(LIMIT, self.stream.read_buf(&mut self.heard)).await.expect("the decoder says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn asks(&mut self, line: &str) -> String {
        self.say(line).await;
        self.line().await.unwrap()
    }
}

/// The box's side: what it has stored over all connections, by identity.
#[derive(Default)]
struct Kept {
    held: StoredRanges,
    reads: BTreeMap<u64, ChipRead>,
    rejected: usize,
    restarts: usize,
}

impl Kept {
    fn all(&self, sim: &SimDecoder) -> bool {
        if (self.reads.len() as u64) < *sim.emitted().borrow() {
            return false; // comparing every read is slow
        }
        let kept: HashSet<_> = self.reads.values().map(|read| (&*read.chip, read.stamp)).collect();
        sim.reads().iter().all(|read| kept.contains(&(&*read.chip, read.stamp)))
    }

    /// Speaks our protocol on one connection until the connection ends or `enough` is true.
    async fn link(&mut self, kind: Kind, version: &str, mut stream: TcpStream, enough: impl Fn(&Self) -> bool) {
        let mut settings = kind.settings();
        if kind == Kind::MYLAPS {
            settings.insert("version".to_owned(), version.to_owned());
        }
        let mut protocol = (spec(kind.name()).unwrap().make)(&settings).unwrap();
        let mut out = Output::default();
        protocol.connected(self.held.clone(), true, &mut out);
        let mut turns = tokio::time::interval(Duration::from_millis(10));
        let begun = Instant::now();
        let mut heard = Vec::new();
        loop {
            for item in out.items.drain(..) {
                match item {
                    Item::Frame(framed) => self.keep(framed.frame),
                    Item::Reply(bytes) if stream.write_all(&bytes).await.is_err() => return,
                    Item::Reply(_) => {}
                    Item::HangUp(_) => return,
                }
            }
            if enough(self) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{} reads kept, and no more come", self.reads.len());
            tokio::select! {
                read = stream.read_buf(&mut heard) => {
                    protocol.feed(&heard, &mut out);
                    heard.clear();
                    if !matches!(read, Ok(1..)) {
                        protocol.end(&mut out);
                        out.items.drain(..).for_each(|item| if let Item::Frame(framed) = item { self.keep(framed.frame) });
                        return;
                    }
                }
                _ = turns.tick() => protocol.tick(begun.elapsed(), &mut out),
            }
        }
    }

    fn keep(&mut self, frame: Frame) {
        match frame {
            Frame::Read(read) => {
                if let Some(position) = &read.position {
                    self.held.insert(position);
                }
                self.reads.insert(read.identity(), read);
            }
            Frame::Rejected(_) => self.rejected += 1,
            Frame::Cleared(_) | Frame::Info(crate::decoders::Info::Restarted(_)) => self.restarts += 1,
            Frame::Info(_) | Frame::Marker(_) => {}
        }
    }
}

async fn connect(sim: &SimDecoder) -> TcpStream {
    TcpStream::connect(sim.address().unwrap()).await.unwrap()
}

/// A simulated decoder, and a listener if the decoder connects to the box.
struct Site {
    sim: SimDecoder,
    listener: Option<TcpListener>,
}

impl Site {
    async fn new(kind: Kind, change: impl FnOnce(&mut SimConfig)) -> Self {
        let listener = if kind.connects() { Some(TcpListener::bind("127.0.0.1:0").await.unwrap()) } else { None };
        let wiring = listener.as_ref().map_or_else(loopback, |ours| Wiring::Connect(ours.local_addr().unwrap()));
        let mut config = SimConfig::new(kind, wiring);
        change(&mut config);
        Self { sim: SimDecoder::start(config).await.unwrap(), listener }
    }

    /// The next connection.
    async fn stream(&self) -> TcpStream {
        match &self.listener {
            Some(listener) => timeout(LIMIT, listener.accept()).await.expect("it connects").unwrap().0,
            None => connect(&self.sim).await,
        }
    }
}

#[tokio::test]
async fn the_streaming_decoder_streams_to_who_listens_and_tells_its_clock() {
    let sim = sim(Kind::IPICO, |_| {}).await;
    sim.push(5); // nobody listens, so these reads are lost
    let mut peer = Peer::of(&sim).await;
    let clock = peer.asks("ab00000222").await;
    assert!(clock.starts_with("ab0009022606170310"), "{clock}"); // 2026-06-17, a Wednesday, ten o'clock
    sim.push(2);
    for _ in 0..2 {
        let line = peer.line().await.unwrap();
        assert!(line.starts_with("aa0005800") && line.len() == 36, "{line}");
    }
    assert_eq!(*sim.emitted().borrow(), 7);
}

#[tokio::test]
async fn the_race_result_decoder_gives_counts_ranges_files_and_pushes() {
    let sim = sim(Kind::RACE_RESULT, |_| {}).await;
    sim.push(3);
    let mut peer = Peer::of(&sim).await;
    assert_eq!(peer.asks("PASSINGS").await, "PASSINGS;3;1");
    assert!(peer.asks("2:2").await.starts_with("2;R"));
    assert!(peer.line().await.unwrap().starts_with("3;R"));
    assert_eq!(peer.line().await.unwrap(), "");
    assert_eq!(peer.asks("3:9").await, "ONLY 1");
    peer.line().await.unwrap();
    assert_eq!(peer.line().await.unwrap(), "");
    assert_eq!(peer.asks("SETPUSHPASSINGS;1;0").await, "SETPUSHPASSINGS;1;0");
    sim.new_file();
    sim.push(1);
    assert!(peer.line().await.unwrap().starts_with("#P;1;R"));
    assert_eq!(peer.asks("PASSINGS").await, "PASSINGS;1;2");
    assert!(peer.asks("GETFILE;1").await.starts_with("1;R"));
    assert!(sim.forbidden().is_empty());
    peer.say("CLEARFILES").await;
    while peer.line().await.unwrap() != "" {}
    peer.asks("PASSINGS").await;
    assert_eq!(sim.forbidden(), ["CLEARFILES"]);
}

#[tokio::test]
async fn the_one4all_pushes_to_its_last_connection_only() {
    let sim = sim(Kind::ONE4ALL, |_| {}).await;
    let mut first = Peer::of(&sim).await;
    assert!(first.line().await.unwrap().starts_with("HELLO"));
    first.asks("PUSHTAGS;true").await;
    let mut second = Peer::of(&sim).await;
    second.line().await.unwrap();
    second.asks("PUSHTAGS;true").await;
    sim.push(1);
    assert!(second.line().await.unwrap().starts_with("1;MC;"));
    assert!(first.asks("PASSINGS").await.starts_with("PASSINGS;1;MC"));
}

#[tokio::test]
async fn the_exporter_keeps_ten_messages_in_flight_and_repeats_them_until_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SimConfig::new(Kind::MYLAPS, Wiring::Connect(listener.local_addr().unwrap()));
    config.repeat = Duration::from_millis(20);
    let sim = SimDecoder::start(config).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    sim.push(1500);
    stream.write_all(b"box@AckPong@Version2.1@c|t|d@$").await.unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut heard = Vec::new();
    while seen.values().all(|count| *count < 3) {
        timeout(LIMIT, stream.read_buf(&mut heard)).await.unwrap().unwrap();
        while let Some(end) = heard.iter().position(|byte| *byte == b'$') {
            let message: Vec<u8> = heard.drain(..=end).collect();
            let message = String::from_utf8(message).unwrap();
            if message.contains("@Passing@") {
                *seen.entry(message.rsplit('@').nth(1).unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(sim.acked().is_empty());
    stream.write_all(b"box@AckPassing@1@$").await.unwrap();
    sim.acked_count().wait_for(|acked| *acked == 100).await.unwrap();
    assert_eq!(sim.acked(), sim.reads()[..100]);
}

#[tokio::test]
async fn a_live_race_happens_by_the_clock_and_ends_at_its_limit() {
    let sim = sim(Kind::RACE_RESULT, |config| {
        config.rate = 5000.0;
        config.limit = Some(300);
    })
    .await;
    timeout(LIMIT, sim.emitted().wait_for(|emitted| *emitted == 300)).await.unwrap().unwrap();
    assert!(sim.is_over());
    sim.push(5);
    assert_eq!(sim.reads().len(), 300);
}

/// A race of ten reads a second on a port, at a decoder that only streams. Time is paused, so it
/// goes on only while a test waits for something.
async fn streaming() -> (SimDecoder, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let config = SimConfig { rate: 10.0, ..SimConfig::new(Kind::IPICO, Wiring::Port(Box::new(theirs))) };
    (SimDecoder::start(config).await.unwrap(), ours)
}

/// Lets the decoder go on for this time, and returns how many reads happened until then.
async fn go_on(sim: &SimDecoder, seconds: u64) -> u64 {
    for _ in 0..seconds * 200 {
        tokio::time::advance(TURN).await;
    }
    tokio::task::yield_now().await;
    *sim.emitted().borrow()
}

/// All reads that a port has delivered so far. They are numbered as those of the decoder's memory
/// from `first` on.
async fn delivered(mut port: impl AsyncRead + Unpin, first: u64) -> Vec<SimRead> {
    let mut bytes = Vec::new();
    // The port stays open, so the end of what has come is that no more comes at once.
    while let Ok(Ok(1..)) = timeout(TURN, port.read_buf(&mut bytes)).await {}
    let reads = bytes.split(|byte| *byte == b'\n').flat_map(|row| Kind::IPICO.reads_in(row));
    (first..).zip(reads).map(|(number, read)| SimRead { number, ..read }).collect()
}

/// The time of the decoder's clock at which a read was made.
fn made(read: &SimRead) -> DateTime {
    let crate::model::chip::Stamp::Local(local) = read.stamp else { panic!("{read:?}") };
    local
}

#[tokio::test(start_paused = true)]
async fn a_streaming_decoder_reads_on_while_nobody_listens_and_what_passed_is_gone() {
    let (sim, first) = streaming().await;
    let before = go_on(&sim, 20).await;
    assert!(before > 100, "{before}");
    drop(first);
    let after = go_on(&sim, 60).await;
    assert!(after > before + 400, "the race went on: {before} reads, then {after}");
    assert_eq!(*sim.links().borrow(), 0);
    let (second, theirs) = tokio::io::duplex(1 << 20);
    let (shared, cuts) = (Arc::clone(&sim.shared), sim.shared.cuts.subscribe());
    let link = tokio::spawn(async move { converse(theirs, &shared, cuts).await });
    let end = go_on(&sim, 10).await;
    let heard = delivered(second, after + 1).await;
    assert!(end > after && heard.len() as u64 >= end - after, "{end} {after} {}", heard.len());
    let from_now_on = &sim.reads()[after as usize..];
    assert!(from_now_on.starts_with(&heard), "only what is read from now on: {:?}", heard.first());
    // The stamps are those of the decoder's clock, which did not stop either.
    let clock = sim.shared.now(&sim.shared.lock().memory);
    let behind = clock.duration_since(made(heard.last().unwrap())).as_millis();
    assert!((0..5_000).contains(&behind), "{behind} ms");
    link.abort();
}

#[tokio::test(start_paused = true)]
async fn the_race_of_a_streaming_decoder_begins_with_its_first_listener_by_the_decoders_clock() {
    let sim = sim(Kind::IPICO, |config| config.rate = 10.0).await;
    assert_eq!(go_on(&sim, 3600).await, 0, "nobody listens yet");
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (shared, cuts) = (Arc::clone(&sim.shared), sim.shared.cuts.subscribe());
    let link = tokio::spawn(async move { converse(theirs, &shared, cuts).await });
    assert!(go_on(&sim, 20).await > 100);
    let heard = delivered(ours, 1).await;
    assert!(heard.len() > 100 && sim.reads().starts_with(&heard), "the first listener gets the whole race");
    let since = made(&heard[0]).duration_since(sim.shared.lock().memory.start).as_secs();
    assert!((3600..3620).contains(&since), "the first read was made {since} s after the start");
    link.abort();
}

#[tokio::test]
async fn a_serial_line_is_spoken_on_as_well() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let sim = SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Port(Box::new(theirs)))).await.unwrap();
    sim.links().wait_for(|links| *links == 1).await.unwrap();
    sim.push(1);
    let mut lines = tokio::io::BufReader::new(ours);
    let mut line = String::new();
    timeout(LIMIT, tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)).await.unwrap().unwrap();
    assert!(line.starts_with("aa"));
}

#[tokio::test]
async fn the_wiring_must_fit_the_protocol() {
    assert!(SimDecoder::start(SimConfig::new(Kind::MYLAPS, loopback())).await.is_err());
    let connect = Wiring::Connect(([127, 0, 0, 1], 9).into());
    assert!(SimDecoder::start(SimConfig::new(Kind::IPICO, connect)).await.is_err());
}

/// This runs over real sockets, with noise, repeats and single bytes. Without cuts, because a
/// decoder that only streams loses reads in a cut.
#[tokio::test]
async fn what_a_streaming_decoder_reads_while_we_listen_arrives_once() {
    let faults = vec![WireFault::Garbage { every: 7 }, WireFault::Duplicate { every: 5 }, WireFault::Bytewise];
    for kind in Kind::all().filter(|kind| kind.spec().missed == Missed::Lost) {
        let (wiring, listener) = if kind.connects() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (Wiring::Connect(listener.local_addr().unwrap()), Some(listener))
        } else {
            (loopback(), None)
        };
        let sim =
            SimDecoder::start(SimConfig { faults: faults.clone(), ..SimConfig::new(kind, wiring) }).await.unwrap();
        let stream = match &listener {
            Some(listener) => listener.accept().await.unwrap().0,
            None => connect(&sim).await,
        };
        sim.links().wait_for(|links| *links == 1).await.unwrap();
        let mut kept = Kept::default();
        sim.push(200);
        kept.link(kind, "", stream, |kept| kept.all(&sim)).await;
        assert_eq!((kept.reads.len(), sim.forbidden()), (200, Vec::new()), "{}", kind.name());
        assert!(kept.rejected > 0, "{}", kind.name());
    }
}

/// Reads happen before the box connects, while it is connected, while the cable is out, and after
/// that.
async fn everything_arrives_over_three_connections(kind: Kind, change: impl FnOnce(&mut SimConfig)) {
    let site = Site::new(kind, change).await;
    let sim = &site.sim;
    let mut kept = Kept::default();
    sim.push(700);
    kept.link(kind, "", site.stream().await, |kept| kept.all(sim)).await;
    sim.push(30); // the cable is out
    let stream = site.stream().await;
    sim.push(30);
    kept.link(kind, "", stream, |kept| kept.all(sim)).await;
    let stream = site.stream().await;
    tokio::join!(kept.link(kind, "", stream, |kept| kept.reads.len() >= 860), async {
        for _ in 0..100 {
            sim.push(1);
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(kept.reads.len(), 860, "each read is one read, pushed or pulled");
    assert!(kept.all(sim));
    assert_eq!((sim.forbidden(), kept.rejected), (Vec::new(), 0));
}

/// For decoders whose memory before the first read of the box is not asked for. The cable is out
/// after that read.
async fn everything_arrives_after_the_first_read(kind: Kind) {
    let faults = vec![WireFault::Garbage { every: 7 }, WireFault::Duplicate { every: 5 }, WireFault::Bytewise];
    let sim = sim(kind, |config| config.faults = faults).await;
    let mut kept = Kept::default();
    let stream = connect(&sim).await;
    sim.links().wait_for(|links| *links == 1).await.unwrap();
    sim.push(50);
    kept.link(kind, "", stream, |kept| kept.all(&sim)).await;
    for _ in 0..2 {
        sim.push(700); // the cable is out
        kept.link(kind, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    }
    assert_eq!((kept.reads.len(), sim.forbidden(), kept.restarts), (1450, Vec::new(), 0));
    sim.clear();
    sim.push(20); // counted from 1 again, and nobody listened
    let stream = connect(&sim).await;
    sim.links().wait_for(|links| *links >= 1).await.unwrap();
    tokio::join!(kept.link(kind, "", stream, |kept| kept.reads.len() >= 1475), async {
        for _ in 0..5 {
            sim.push(1);
            tokio::task::yield_now().await;
        }
    });
    assert!(kept.restarts > 0, "the new count is recognised");
}

#[tokio::test]
async fn race_result_reads_made_while_the_cable_was_out_arrive_once() {
    everything_arrives_over_three_connections(Kind::RACE_RESULT, |_| {}).await;
}

#[tokio::test]
async fn ultra_reads_made_while_the_cable_was_out_arrive_once() {
    everything_arrives_after_the_first_read(Kind::ULTRA).await;
}

#[tokio::test]
async fn p3_passings_made_while_the_cable_was_out_arrive_once() {
    everything_arrives_after_the_first_read(Kind::P3).await;
}

#[tokio::test]
async fn one4all_reads_made_while_the_cable_was_out_arrive_once() {
    everything_arrives_over_three_connections(Kind::ONE4ALL, |_| {}).await;
}

#[tokio::test]
async fn chronotrack_reads_made_while_the_cable_was_out_arrive_once_from_every_location() {
    let three = |config: &mut SimConfig| config.locations = ["start", "10 km", "finish"].map(str::to_owned).to_vec();
    everything_arrives_over_three_connections(Kind::CHRONOTRACK, |_| {}).await;
    everything_arrives_over_three_connections(Kind::CHRONOTRACK, three).await;
}

/// The decoder connects again and again over a line that cuts frames, adds noise, repeats frames
/// and sends single bytes.
async fn everything_arrives_over_a_bad_line(kind: Kind) {
    let faults = [
        WireFault::Cut { every: 90 },
        WireFault::Garbage { every: 7 },
        WireFault::Duplicate { every: 5 },
        WireFault::Bytewise,
    ]
    .to_vec();
    let site = Site::new(kind, |config| config.faults = faults).await;
    let sim = &site.sim;
    let mut kept = Kept::default();
    sim.push(300);
    while !kept.all(sim) {
        let stream = site.stream().await;
        kept.link(kind, "", stream, |kept| kept.all(sim)).await;
    }
    assert_eq!(kept.reads.len(), 300);
    assert!(kept.rejected > 0);
}

#[tokio::test]
async fn race_result_reads_arrive_once_over_a_bad_line() {
    everything_arrives_over_a_bad_line(Kind::RACE_RESULT).await;
}

#[tokio::test]
async fn one4all_reads_arrive_once_over_a_bad_line() {
    everything_arrives_over_a_bad_line(Kind::ONE4ALL).await;
}

#[tokio::test]
async fn chronotrack_reads_arrive_once_over_a_bad_line() {
    everything_arrives_over_a_bad_line(Kind::CHRONOTRACK).await;
}

#[tokio::test]
async fn a_chronotrack_source_that_counts_from_the_start_again_gives_its_new_reads() {
    let site = Site::new(Kind::CHRONOTRACK, |_| {}).await;
    let mut kept = Kept::default();
    site.sim.push(20);
    kept.link(Kind::CHRONOTRACK, "", site.stream().await, |kept| kept.all(&site.sim)).await;
    site.sim.clear();
    site.sim.push(3);
    let stream = site.stream().await;
    let (sim, kept) = (&site.sim, &mut kept);
    // The decoder stores three reads, and the box asked from the twentieth on. Only the next read
    // shows that the decoder counts from 1 again.
    let next = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            sim.push(1);
        }
    };
    tokio::select! {
        () = kept.link(Kind::CHRONOTRACK, "", stream, |kept| kept.restarts > 0 && kept.all(sim)) => {}
        () = next => {}
    }
    assert_eq!((kept.reads.len() as u64, kept.restarts), (*sim.emitted().borrow(), 1));
}

#[tokio::test]
async fn the_end_of_the_old_race_result_file_is_fetched_after_a_new_one_began_in_our_absence() {
    let sim = sim(Kind::RACE_RESULT, |_| {}).await;
    let mut kept = Kept::default();
    sim.push(20);
    kept.link(Kind::RACE_RESULT, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    sim.push(5);
    sim.new_file();
    sim.push(10);
    kept.link(Kind::RACE_RESULT, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    assert_eq!(kept.reads.len(), 35);
}

#[tokio::test]
async fn a_new_one4all_session_in_our_absence_costs_no_read_of_the_old_one() {
    let sim = sim(Kind::ONE4ALL, |_| {}).await;
    let mut kept = Kept::default();
    sim.push(20);
    kept.link(Kind::ONE4ALL, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    sim.push(5);
    sim.new_file();
    sim.push(10);
    kept.link(Kind::ONE4ALL, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    assert_eq!(kept.reads.len(), 35);
}

#[tokio::test]
async fn a_race_result_decoder_that_was_cleared_gives_its_new_reads() {
    let sim = sim(Kind::RACE_RESULT, |_| {}).await;
    let mut kept = Kept::default();
    sim.push(20);
    kept.link(Kind::RACE_RESULT, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    sim.clear();
    sim.push(3);
    kept.link(Kind::RACE_RESULT, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    assert_eq!((kept.reads.len(), kept.restarts), (23, 1));
}

#[tokio::test]
async fn a_frozen_decoder_keeps_the_link_open_and_goes_on_later() {
    let sim = sim(Kind::IPICO, |_| {}).await;
    let mut peer = Peer::of(&sim).await;
    peer.asks("ab00000222").await;
    sim.set_frozen(true);
    sim.push(1);
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(50), peer.stream.read(&mut byte)).await.is_err());
    sim.set_frozen(false);
    assert!(peer.line().await.unwrap().starts_with("aa"));
}

#[tokio::test]
async fn a_decoder_off_the_network_drops_its_peers_and_takes_none() {
    let sim = sim(Kind::RACE_RESULT, |_| {}).await;
    let mut peer = Peer::of(&sim).await;
    peer.asks("PASSINGS").await;
    sim.set_online(false);
    assert_eq!(peer.line().await, None);
    assert_eq!(Peer::of(&sim).await.line().await, None);
    sim.set_online(true);
    assert_eq!(Peer::of(&sim).await.asks("PASSINGS").await, "PASSINGS;0;1");
}

async fn exported_reads_arrive(version: &str, faults: Vec<WireFault>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SimConfig::new(Kind::MYLAPS, Wiring::Connect(listener.local_addr().unwrap()));
    config.repeat = Duration::from_millis(100);
    config.faults = faults;
    let sim = SimDecoder::start(config).await.unwrap();
    let mut kept = Kept::default();
    sim.push(400);
    let (first, _) = listener.accept().await.unwrap();
    kept.link(Kind::MYLAPS, version, first, |kept| kept.reads.len() >= 100).await; // cut with messages in flight
    sim.push(2000);
    while (*sim.acked_count().borrow() as usize) < 2400 {
        let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        let acked = sim.acked_count();
        kept.link(Kind::MYLAPS, version, stream, |_| *acked.borrow() == 2400).await;
    }
    assert!(kept.all(&sim));
    assert_eq!(kept.reads.len(), 2400, "a message that was sent twice is no second read");
}

#[tokio::test]
async fn exported_reads_arrive_in_version_1() {
    exported_reads_arrive("1", Vec::new()).await;
}

#[tokio::test]
async fn exported_reads_arrive_in_version_2_over_a_bad_line() {
    let faults = vec![WireFault::Cut { every: 13 }, WireFault::Garbage { every: 3 }, WireFault::Duplicate { every: 4 }];
    exported_reads_arrive("2", faults).await;
}

#[tokio::test]
async fn a_recording_is_played_as_the_memory_of_its_decoder() {
    let csv = b"1;MC;02976;2019-12-12;09:02:07.295;3;4;937f6\n2;MC;02558;2019-12-12;09:02:07.361;8;2;c489f\n";
    let sim = sim(Kind::ONE4ALL, |config| config.source = ReadSource::Recording(Kind::ONE4ALL.rows(csv))).await;
    sim.push(9);
    assert!(sim.is_over());
    assert_eq!(sim.reads().iter().map(|read| &*read.chip).collect::<Vec<_>>(), ["MC02976", "MC02558"]);
    let mut kept = Kept::default();
    kept.link(Kind::ONE4ALL, "", connect(&sim).await, |kept| kept.all(&sim)).await;
    assert_eq!(kept.reads.len(), 2);
}

#[tokio::test]
async fn a_recorded_exporter_message_is_sent_until_its_own_number_is_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SimConfig::new(Kind::MYLAPS, Wiring::Connect(listener.local_addr().unwrap()));
    let recording = b"F@Passing@c=A|t=10:00:00.000|d=250308@c=B|t=10:00:01.000|d=250308@1016@$";
    config.source = ReadSource::Recording(Kind::MYLAPS.rows(recording));
    let sim = SimDecoder::start(config).await.unwrap();
    sim.push(1);
    let (stream, _) = listener.accept().await.unwrap();
    let mut kept = Kept::default();
    let acked = sim.acked_count();
    kept.link(Kind::MYLAPS, "2", stream, |_| *acked.borrow() == 2).await;
    assert_eq!((kept.reads.len(), sim.acked().len()), (2, 2));
}
