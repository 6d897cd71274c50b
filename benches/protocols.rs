//! Bytes to frames: how fast each protocol reads what its simulated decoder says, on one core and
//! with nothing behind it.
//!
//! For each protocol one conversation of [`READS`] reads with the simulated decoder is recorded
//! (5,000 chips, rising times and numbers) and then fed to new protocol values in the pieces a link
//! reads; the items are drained after each piece. The floor, in turns with it: the same items,
//! ready made, are copied and drained. So it has every allocation and copy that the frames cost
//! whoever makes them, and no look at a byte; the ratio is the part of the time that is not
//! parsing. CPU time is measured, not the clock on the wall, and of both the best round counts:
//! others on the machine can only make one slower.
//!
//! `cargo bench --bench protocols -- ipico` measures one. A number is the count of rounds; 0 feeds
//! the conversation once and prints no figure: for
//! `valgrind --tool=callgrind --toggle-collect='protocols::feed*'`, which counts that alone.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use passbridge::testing::decoders::{Frame, Framed, Item, Output, Protocol, spec};
use passbridge::testing::model::chip::StoredRanges;
use passbridge::testing::sim::decoder::{Kind, RaceConfig, ReadSource, SimConfig, SimDecoder, Wiring};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Reads of a conversation.
const READS: u64 = 20_000;
/// What a link reads at once.
const PIECE: usize = 16 * 1024;
/// Rounds for each protocol and its floor.
const ROUNDS: u32 = 25;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |kind: &Kind| arguments.iter().any(|text| text == kind.name());
    let rounds = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut kinds = Kind::all().collect::<Vec<_>>();
    if kinds.iter().any(named) {
        kinds.retain(named);
    }
    rig::heading(&format!("protocols: bytes to frames, one thread, best of {rounds} rounds of {READS} reads"));
    println!(
        "{:<12}{:>12}{:>10}{:>12}{:>10}{:>16}{:>8}",
        "protocol", "bytes/read", "MB/s", "reads/s", "ns/read", "floor ns/read", "ratio"
    );
    for kind in kinds {
        let conversation = rig::runtime().block_on(record(kind)); // its threads end before anything is measured
        measure(kind, &conversation, rounds);
    }
}

fn measure(kind: Kind, conversation: &[u8], rounds: u32) {
    let mut items = Vec::new();
    feed(kind, conversation, |out| items.push(std::mem::take(&mut out.items)));
    let reads = items.iter().flatten().filter(|item| is_read(item)).count() as u64;
    assert_eq!(reads, READS, "{}: not every read is understood", kind.name());
    let (mut best, mut floor) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        let before = rig::cpu();
        feed(kind, conversation, |out| drop(out.items.drain(..)));
        best = best.min(rig::cpu() - before);
        let before = rig::cpu();
        copy(&items);
        floor = floor.min(rig::cpu() - before);
    }
    if rounds > 0 {
        let (seconds, each) = (best.as_secs_f64(), 1e9 / READS as f64);
        println!(
            "{:<12}{:>12.1}{:>10.0}{:>12.0}{:>10.0}{:>16.0}{:>8.2}",
            kind.name(),
            conversation.len() as f64 / READS as f64,
            conversation.len() as f64 / 1e6 / seconds,
            READS as f64 / seconds,
            seconds * each,
            floor.as_secs_f64() * each,
            floor.as_secs_f64() / seconds,
        );
    }
}

/// The decoder's side of the conversation, through a new protocol value.
#[inline(never)] // so that callgrind finds it
fn feed(kind: Kind, conversation: &[u8], mut drain: impl FnMut(&mut Output)) {
    let mut protocol = protocol(kind);
    let mut out = Output::default();
    protocol.connected(StoredRanges::default(), true, &mut out);
    for piece in conversation.chunks(PIECE) {
        protocol.feed(piece, &mut out);
        drain(&mut out);
    }
}

/// The floor: what `feed` puts out, without looking at a byte.
fn copy(items: &[Vec<Item>]) {
    let mut out = Output::default();
    for items in items {
        out.items.extend(items.iter().cloned());
        drop(out.items.drain(..));
    }
}

fn protocol(kind: Kind) -> Box<dyn Protocol> {
    (spec(kind.name()).unwrap().make)(&kind.settings()).unwrap()
}

fn is_read(item: &Item) -> bool {
    matches!(item, Item::Frame(Framed { frame: Frame::Read(_), .. }))
}

/// All that the simulated decoder says until its reads are heard, to a protocol that answers.
async fn record(kind: Kind) -> Vec<u8> {
    let race = RaceConfig { field: 5000, waves: 5, laps: None };
    let (decoder, mut wire) = connect(kind, ReadSource::Race(race)).await;
    decoder.links().wait_for(|links| *links > 0).await.unwrap();
    decoder.push(READS);
    let (mut protocol, mut out) = (protocol(kind), Output::default());
    protocol.connected(StoredRanges::default(), true, &mut out);
    let (mut conversation, mut heard, started) = (Vec::new(), 0, Instant::now());
    let mut piece = vec![0; PIECE];
    while heard < READS {
        for item in out.items.drain(..) {
            heard += u64::from(is_read(&item));
            if let Item::Reply(reply) = item {
                wire.write_all(&reply).await.unwrap();
            }
        }
        match tokio::time::timeout(Duration::from_secs(1), wire.read(&mut piece)).await {
            Ok(length) => {
                let length = length.unwrap();
                assert_ne!(length, 0, "{}: the decoder hung up", kind.name());
                protocol.feed(&piece[..length], &mut out);
                conversation.extend_from_slice(&piece[..length]);
            }
            Err(_) => protocol.tick(started.elapsed(), &mut out), // a question may be due
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{}: {heard} of {READS} reads", kind.name());
    }
    conversation
}

async fn connect(kind: Kind, source: ReadSource) -> (SimDecoder, TcpStream) {
    let start = |wiring| SimDecoder::start(SimConfig { source, ..SimConfig::new(kind, wiring) });
    if kind.connects() {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let decoder = start(Wiring::Connect(listener.local_addr().unwrap())).await.unwrap();
        (decoder, listener.accept().await.unwrap().0)
    } else {
        let decoder = start(Wiring::Listen(LOOPBACK)).await.unwrap();
        let wire = TcpStream::connect(decoder.address().unwrap()).await.unwrap();
        (decoder, wire)
    }
}
