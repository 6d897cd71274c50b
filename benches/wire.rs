//! From the wire to the cloud: how long after a decoder sent a read its POST arrives, at 50 reads a
//! second and for reads that come alone. Decoder, daemon and cloud are the real ones or the
//! simulated ones, over real sockets.
//!
//! A lone read has to be durable before its POST, so beside it stands what one `fdatasync` took in that
//! run: a line appended to a file of the same directory, between the lone reads.
//!
//! The read with number n is the n-th passing of the session, so it is in the one POST whose
//! numbers cover n.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::{Append, Running, median, quantile};
use tokio::time::{sleep, sleep_until};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Reads at 50 a second.
const FLOW: u64 = 1000;
/// Reads that come alone.
const ALONE: u64 = 30;

fn main() {
    rig::heading("wire: milliseconds from a read on the wire to the arrival of its POST");
    println!("program: {}", rig::program().display());
    println!(
        "{:<12}{:<16}{:>9}{:>9}{:>9}{:>16}{:>20}",
        "decoder", "reads", "median", "p95", "max", "one fdatasync", "median beyond it"
    );
    let runtime = rig::runtime();
    for kind in [Kind::IPICO, Kind::MYLAPS] {
        runtime.block_on(measure(kind));
    }
}

async fn measure(kind: Kind) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Bench");
    let dir = rig::scratch();
    let data = dir.path().join("data");
    let (decoder, running) = if kind == Kind::MYLAPS {
        // The exporter must be told the box's port before the box listens there: one that is free
        // now.
        let address = std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
        let address_text = format!("tcp-listen://{address}");
        let running = Running::start(&data, &cloud.url(), (kind.name(), &address_text), "");
        (SimDecoder::start(SimConfig::new(kind, Wiring::Connect(address))).await.unwrap(), running)
    } else {
        let decoder = SimDecoder::start(SimConfig::new(kind, Wiring::Listen(LOOPBACK))).await.unwrap();
        let address_text = format!("tcp://{}", decoder.address().unwrap());
        let running = Running::start(&data, &cloud.url(), (kind.name(), &address_text), "");
        (decoder, running)
    };
    decoder.links().wait_for(|links| *links > 0).await.unwrap();
    running.wait(|snapshot| snapshot.uploads.first().is_some_and(|upload| upload.session.is_some())).await;
    // One that warms up everything and is not counted.
    decoder.push(1);
    assert!(cloud.wait_for(1, Duration::from_secs(30)).await);
    sleep(Duration::from_secs(1)).await;

    let mut sent = vec![Instant::now()];
    let mut random = fastrand::Rng::with_seed(1);
    let mut due = tokio::time::Instant::now();
    for _ in 0..FLOW {
        due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / 50.0); // as independent events come
        sleep_until(due).await;
        sent.push(Instant::now());
        decoder.push(1);
    }
    assert!(cloud.wait_for(sent.len(), Duration::from_secs(30)).await);
    let mut floor = Append::new(&dir.path().join("floor"));
    let mut syncs = Vec::new();
    for _ in 0..ALONE {
        sleep(Duration::from_millis(300 + random.u64(0..50))).await;
        let start = Instant::now();
        floor.append(&[b'x'; 150]);
        syncs.push(start.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(300 + random.u64(0..50))).await;
        sent.push(Instant::now());
        decoder.push(1);
    }
    assert!(cloud.wait_for(sent.len(), Duration::from_secs(30)).await);
    let posts = cloud.posts();
    let waits = (1..).zip(&sent).map(|(num, sent)| {
        let post = posts.iter().find(|post| (post.first..=post.last).contains(&num)).unwrap();
        post.at.saturating_duration_since(*sent).as_secs_f64() * 1e3
    });
    let waits: Vec<f64> = waits.collect();
    assert!(cloud.violations().is_empty(), "{:?}", cloud.violations());
    let alone = FLOW as usize + 1;
    for (what, waits) in [("50 a second", &waits[1..alone]), ("alone", &waits[alone..])] {
        println!(
            "{:<12}{what:<16}{:>9.1}{:>9.1}{:>9.1}{:>16.2}{:>20.1}",
            kind.name(),
            median(waits),
            quantile(waits, 0.95),
            quantile(waits, 1.0),
            median(&syncs),
            median(waits) - median(&syncs),
        );
    }
    running.stop();
}
