//! Memory and CPU of the running box, without any environment variable for an allocator: it idles
//! with an open session; it idles after its first look at a session that holds 150,000 passings of
//! others; it keeps and uploads the reads of three decoders. Decoders and cloud run in this process,
//! the program is a child.
//!
//! `cargo bench --bench memory`, 3 minutes; `cargo bench --bench memory -- race`, only the decoders. `PASSBRIDGE_PROGRAM=target/dist/passbridge` measures
//! another program.

#![allow(clippy::unwrap_used, reason = "a bench may")]

mod rig;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig, StoredPassing};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rig::Running;

/// How long the box idles before it is looked at, and how long it is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// Passings of another sender in the session.
const OTHERS: u64 = 150_000;
/// Reads a second of each decoder.
const RATE: u32 = 50;
/// How long the decoders send.
const RACE: Duration = Duration::from_secs(60);

fn main() {
    rig::heading("memory: resident MB and CPU of the running box");
    let program = rig::program();
    let bytes = std::fs::metadata(&program).map_or(0, |meta| meta.len());
    println!("program: {}, {:.1} MB", program.display(), bytes as f64 / 1e6);
    println!(
        "{:<46}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}{:>11}",
        "what the box does", "RSS", "anon", "file", "peak", "threads", "CPU %", "switches/s"
    );
    let runtime = rig::runtime();
    let only = std::env::args().any(|text| text == "race");
    if !only {
        runtime.block_on(idle("idle, an open session without passings", 0));
        runtime.block_on(idle("idle, after a look at 150,000 passings", OTHERS));
    }
    runtime.block_on(race());
}

/// CPU seconds and context switches at one moment.
struct Spent {
    at: Instant,
    cpu: f64,
    switches: u64,
}

impl Spent {
    fn now(running: &Running) -> Self {
        Self { at: Instant::now(), cpu: running.cpu_s(), switches: running.switches() }
    }
}

fn tell(what: &str, running: &Running, before: &Spent) {
    let after = Spent::now(running);
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    println!(
        "{what:<46}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{:>9}{:>8.2}{:>11.0}",
        running.memory_mb("VmRSS"),
        running.memory_mb("RssAnon"),
        running.memory_mb("RssFile"),
        running.memory_mb("VmHWM"),
        running.threads(),
        (after.cpu - before.cpu) / seconds * 100.0,
        (after.switches - before.switches) as f64 / seconds,
    );
}

async fn idle(what: &str, others: u64) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Bench");
    let passing = |num| {
        let chip: Arc<str> = format!("C{:06}", num % 5000).into();
        StoredPassing { num, time_ms: 1_790_000_000_000 + num as i64 * 20, chip: Some(chip.clone()), bib: chip }
    };
    cloud.put_foreign(&token, &(1..=others).map(passing).collect::<Vec<_>>());
    let decoder = decoder().await;
    let dir = rig::scratch();
    let place = format!("tcp://{}", decoder.address().unwrap());
    let running = Running::start(&dir.path().join("data"), &cloud.url(), ("ipico", &place), "");
    decoder.links().wait_for(|links| *links > 0).await.unwrap();
    has_session(&running).await;
    if others > 0 {
        // A read goes up behind them: then the box has looked at all of them.
        decoder.push(1);
        assert!(cloud.wait_for(others as usize + 1, Duration::from_secs(120)).await, "the read is not uploaded");
    }
    tokio::time::sleep(IDLE).await;
    let before = Spent::now(&running);
    tokio::time::sleep(IDLE).await;
    tell(what, &running, &before);
    running.stop();
}

async fn race() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Bench");
    let decoders = [decoder().await, decoder().await, decoder().await];
    let places: Vec<String> = decoders.iter().map(|one| format!("tcp://{}", one.address().unwrap())).collect();
    let dir = rig::scratch();
    let names = ["start", "split", "finish"];
    let configured: Vec<_> = names.iter().zip(&places).map(|(name, place)| (*name, "ipico", place.as_str())).collect();
    let running = Running::start_with(&dir.path().join("data"), &cloud.url(), &configured, "");
    for decoder in &decoders {
        decoder.links().wait_for(|links| *links > 0).await.unwrap();
    }
    has_session(&running).await;
    push(&decoders, Duration::from_secs(5)).await; // warm
    let before = Spent::now(&running);
    let sent = push(&decoders, RACE).await;
    tell("3 decoders, 50 reads/s each, uploaded", &running, &before);
    let all = sent + 3 * RATE as usize * 5;
    assert!(cloud.wait_for(all, Duration::from_secs(60)).await, "not every read is uploaded");
    running.stop();
}

async fn decoder() -> SimDecoder {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Listen(loopback))).await.unwrap()
}

async fn has_session(running: &Running) {
    running.wait(|snapshot| snapshot.uploads.first().is_some_and(|upload| upload.session.is_some())).await;
}

/// Each decoder sends its reads one by one, and the decoders take turns. Gives how many were sent.
async fn push(decoders: &[SimDecoder], time: Duration) -> usize {
    let count = RATE as usize * time.as_secs() as usize * decoders.len();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / (RATE * decoders.len() as u32));
    for n in 0..count {
        ticks.tick().await;
        decoders[n % decoders.len()].push(1);
    }
    count
}
