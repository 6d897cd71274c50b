//! Starting with 1,000,000 reads in the journal: time from the start of the real binary to the
//! first read kept (as it says itself, asked every millisecond; for MYLAPS the ack on the wire) and
//! until the queue serves. With the queue as it was left, after `kill -9`, and with the queue gone
//! (rebuilt from the log).
//!
//! `cargo bench --bench start -- 200000` starts with another number; from 5,000,000 on there is one
//! round and one decoder, because each start needs a copy of some gigabytes.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use passbridge::testing::sim::cloud::{SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::{Running, median};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const ROUNDS: usize = 5;
/// With so many reads a round takes minutes.
const MANY: u64 = 5_000_000;

#[derive(Clone, Copy)]
enum Queue {
    Empty,
    AsLeft,
    Gone,
}

fn main() {
    rig::heading("start: milliseconds from the start of the process (median of the rounds)");
    println!("program: {}", rig::program().display());
    let count = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(1_000_000);
    let (rounds, kinds) = match count {
        MANY.. => (1, &[Kind::IPICO][..]),
        _ => (ROUNDS, &[Kind::IPICO, Kind::MYLAPS][..]),
    };
    let dir = rig::scratch();
    let full = dir.path().join("full");
    rig::prepare(&full, count);
    println!("{:<10}{:<40}{:>16}{:>18}{:>12}", "decoder", "journal", "first read kept", "the queue serves", "peak RSS");
    let cases = [
        (Queue::Empty, "empty (the floor)".to_owned()),
        (Queue::AsLeft, format!("{count} reads")),
        (Queue::Gone, format!("{count} reads, queue gone")),
    ];
    for &kind in kinds {
        for (queue, name) in &cases {
            let rounds: Vec<[f64; 3]> = (0..rounds).map(|_| round(dir.path(), &full, kind, *queue)).collect();
            let of = |at: usize| median(&rounds.iter().map(|round| round[at]).collect::<Vec<_>>());
            println!("{:<10}{name:<40}{:>16.0}{:>18.0}{:>9.1} MB", kind.name(), of(0), of(1), of(2));
        }
    }
}

fn round(dir: &Path, full: &Path, kind: Kind, queue: Queue) -> [f64; 3] {
    let data = dir.join("data");
    if !matches!(queue, Queue::Empty) {
        rig::image::image(full, &data);
    }
    if matches!(queue, Queue::Gone) {
        std::fs::remove_dir_all(data.join("queue")).unwrap();
    }
    rustix::fs::sync(); // the copy is not to be written back while the start is measured
    let figures = rig::runtime().block_on(start(&data, kind));
    std::fs::remove_dir_all(&data).unwrap();
    figures
}

async fn start(data: &Path, kind: Kind) -> [f64; 3] {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap(); // no session: nothing is uploaded
    let listens = kind == Kind::MYLAPS;
    let (running, decoder) = if listens {
        let address = std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
        let place = format!("tcp-listen://{address}");
        let running = Running::start(data, &cloud.url(), (kind.name(), &place), "");
        // The exporter tries only every 200 ms: it is started when the port is there.
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (running, SimDecoder::start(SimConfig::new(kind, Wiring::Connect(address))).await.unwrap())
    } else {
        let decoder = SimDecoder::start(SimConfig::new(kind, Wiring::Listen(LOOPBACK))).await.unwrap();
        let place = format!("tcp://{}", decoder.address().unwrap());
        (Running::start(data, &cloud.url(), (kind.name(), &place), ""), decoder)
    };
    let kept = async {
        decoder.links().wait_for(|links| *links > 0).await.unwrap();
        decoder.push(1);
        if listens {
            decoder.acked_count().wait_for(|acked| *acked > 0).await.unwrap();
            running.started.elapsed()
        } else {
            running.wait(|snapshot| snapshot.decoders.iter().any(|decoder| decoder.reads > 0)).await
        }
    };
    let serving = running.wait(|snapshot| snapshot.journal.serving);
    let (kept, serving) = tokio::join!(kept, serving);
    let peak = running.memory_mb("VmHWM");
    drop(running); // kill -9
    [kept.as_secs_f64() * 1e3, serving.as_secs_f64() * 1e3, peak]
}
