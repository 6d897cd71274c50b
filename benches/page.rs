//! What the page costs: the first view, `/api/status`, and a hundred open pages while a decoder sends
//! a hundred reads a second. The program is a child; decoder, cloud and browsers are this process.
//!
//! The floor is the same box without a page that is open, measured before and after the pages in the
//! same run.
//!
//! `cargo bench --bench page`, 2 minutes.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Open pages.
const PAGES: usize = 100;
/// Reads a second.
const RATE: u32 = 100;
/// How long each part is measured.
const TIME: Duration = Duration::from_secs(20);
/// First views that are measured.
const VIEWS: usize = 200;

fn main() {
    rig::heading("page: what it costs");
    rig::runtime().block_on(run());
}

async fn run() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Bench");
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let decoder = SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Listen(loopback))).await.unwrap();
    let dir = rig::scratch();
    let place = format!("tcp://{}", decoder.address().unwrap());
    let page = std::net::TcpListener::bind(loopback).unwrap().local_addr().unwrap(); // free again at once
    let running = Running::start_with_page(&dir.path().join("data"), &cloud.url(), ("ipico", &place), page);
    decoder.links().wait_for(|links| *links > 0).await.unwrap();
    running.wait(|snapshot| snapshot.uploads.first().is_some_and(|upload| upload.session.is_some())).await;

    let mut times = Vec::new();
    for _ in 0..VIEWS {
        let began = Instant::now();
        let answer = get(page, "/").await;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        assert!(answer.len() > 1000, "no page");
    }
    let (median, most) = (rig::median(&times), rig::quantile(&times, 0.99));
    println!("first view: {median:.1} ms in the middle, {most:.1} ms for the 99th of 100 (aim 100 ms)");
    status(&running, page).await;

    let before = part("no page is open", &running, page, &decoder).await;
    let memory = running.memory_mb("RssAnon");
    let mut open = JoinSet::new();
    for _ in 0..PAGES {
        open.spawn(watch(page));
    }
    let with = part("100 pages are open", &running, page, &decoder).await;
    let grown = (running.memory_mb("RssAnon") - memory) * 1000.0 / PAGES as f64;
    open.abort_all();
    while let Some(ended) = open.join_next().await {
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the box ended a stream");
    }
    let after = part("no page is open again", &running, page, &decoder).await;
    let floor = (before.kept + after.kept) / 2.0;
    let cpu = with.cpu - (before.cpu + after.cpu) / 2.0;
    println!("100 pages: {cpu:.1} % of a core more (aim 10), {grown:.0} KB of memory each (aim 300)");
    println!("read to kept, floor ÷ with pages: {:.2} (aim 0.95)", floor / with.kept);
    running.stop();
}

/// How many answers of `/api/status` a second of the program's CPU gives.
async fn status(running: &Running, page: SocketAddr) {
    let (began, cpu) = (Instant::now(), running.cpu_s());
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        asking.spawn(async move {
            let mut stream = TcpStream::connect(page).await.unwrap();
            let (mut answers, mut bytes) = (0_u64, vec![0; 64 * 1024]);
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until {
                stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
                let (mut held, mut whole) = (0, 0);
                while whole == 0 || held < whole {
                    held += stream.read(&mut bytes[held..]).await.unwrap();
                    let text = String::from_utf8_lossy(&bytes[..held]);
                    if let Some((head, _)) = text.split_once("\r\n\r\n") {
                        let length = head.to_ascii_lowercase();
                        let length = length.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                        whole = head.len() + 4 + length.trim().parse::<usize>().unwrap();
                    }
                }
                answers += 1;
            }
            answers
        });
    }
    let mut answers = 0;
    while let Some(ended) = asking.join_next().await {
        answers += ended.unwrap();
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), running.cpu_s() - cpu);
    let (each, core) = (answers as f64 / seconds, answers as f64 / cpu);
    println!("/api/status: {each:.0} a second, {core:.0} for a second of CPU (aim 5000)");
}

/// What a part of the race showed.
struct Part {
    /// CPU of the program in % of a core.
    cpu: f64,
    /// Mean time from the receipt of a read until it was kept, in ms.
    kept: f64,
}

async fn part(what: &str, running: &Running, page: SocketAddr, decoder: &SimDecoder) -> Part {
    let before = kept(page).await;
    let (began, cpu) = (Instant::now(), running.cpu_s());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let count = RATE as usize * TIME.as_secs() as usize;
    for _ in 0..count {
        ticks.tick().await;
        decoder.push(1);
    }
    let cpu = (running.cpu_s() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    let after = kept(page).await;
    let kept = (after.0 - before.0) / (after.1 - before.1) * 1000.0;
    println!("{what}: {cpu:.1} % of a core, a read is kept after {kept:.2} ms on average");
    Part { cpu, kept }
}

/// The sum, in seconds, and the number of the times from receipt to kept.
async fn kept(page: SocketAddr) -> (f64, f64) {
    let text = String::from_utf8(get(page, "/metrics").await).unwrap();
    let of = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("passbridge_read_to_kept_seconds_{name}")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the metric is there")
    };
    (of("sum"), of("count"))
}

/// Asks for something and reads the whole answer.
async fn get(page: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(page).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Opens the stream of the page and reads what comes, until it is aborted.
async fn watch(page: SocketAddr) {
    let mut stream = TcpStream::connect(page).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut bytes = vec![0; 16 * 1024];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}
