//! More than any race brings, to the real binary: a decoder gone mad, bytes without a line end,
//! connections without number, a page client that never reads. Another decoder is read beside it
//! all the time and must not notice; memory and descriptors of the process stay bounded; and the
//! status names what is wrong.
//!
//! The short versions run by default. The long ones: tests/README.md.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use passbridge::testing::config::Address;
use passbridge::testing::decoders::REGISTRY;
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::support::busy;
use crate::support::child::*;

/// Memory that the process may come to need beyond what it needs at rest: buffers of 8 MiB a
/// decoder, the journal's tail and its queue (two spans of some 6 MB and their page caches), and
/// what the allocator keeps. Generous; the unit allows 256 MB in all.
const MORE_MB: u64 = 128;

/// A number of `/proc/PID/status`, in kB.
fn proc_kb(id: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn peak_mb(id: u32) -> u64 {
    proc_kb(id, "VmHWM") / 1024
}

fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

fn has(status: &Snapshot, code: &str, about: &str) -> bool {
    status.problems.iter().any(|problem| problem.code == code && problem.about == about)
}

/// A decoder beside the bad one: an exporter whose reads are acknowledged when they are on the
/// disk.
struct Beside {
    running: Arc<AtomicBool>,
    task: JoinHandle<(SimDecoder, Vec<Duration>)>,
}

impl Beside {
    /// Ten reads a second, one after the other.
    fn start(sim: SimDecoder) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&running);
        let task = tokio::spawn(async move {
            let mut took = Vec::new();
            let mut acked = sim.acked_count();
            while on.load(Ordering::Relaxed) {
                let start = Instant::now();
                sim.push(1);
                let wanted = took.len() as u64 + 1;
                let answer = acked.wait_for(|count| *count >= wanted);
                tokio::time::timeout(PATIENCE, answer).await.expect("the other decoder is read").unwrap();
                took.push(start.elapsed());
                tokio::time::sleep(Duration::from_millis(100).saturating_sub(start.elapsed())).await; // its pace
            }
            (sim, took)
        });
        Self { running, task }
    }

    /// Its reads are acknowledged, each; and how long that took, in words. A read takes no longer
    /// than the exporter waits before it repeats (the real one: 20 s).
    async fn unhurt(self) -> String {
        self.running.store(false, Ordering::Relaxed);
        let (sim, mut took) = self.task.await.unwrap();
        took.sort();
        assert_eq!(sim.acked().len(), took.len());
        let (count, middle, last) = (took.len(), took[took.len() / 2], took[took.len() - 1]);
        assert!(last < Duration::from_secs(20), "a read waited {last:?}");
        format!("{count} reads of the other decoder, wire to kept: median {middle:.1?}, worst {last:.1?}")
    }
}

/// A decoder that is connected to and then does as it likes.
async fn bad<F: Future<Output = io::Result<()>> + Send>(
    behave: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        behave(stream).await.unwrap();
        std::future::pending::<()>().await // the listener stays
    });
    (address, task)
}

/// IPICO lines of the reads `from..to`, each of another tag.
fn ipico(from: u64, to: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity((to - from) as usize * 38);
    for tag in from..to {
        let body = format!("00{:012x}0000260617100000{:02x}", 0x0580_0000_0000 + tag, tag % 100);
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        text.extend_from_slice(format!("aa{body}{sum:02x}\r\n").as_bytes());
    }
    text
}

const MAD_RATE: u64 = 50_000;

/// A decoder that sends 50,000 reads a second for so long, if they are taken that fast.
async fn mad(seconds: u64) {
    let _alone = busy().await;
    let sent = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let count = Arc::clone(&sent);
    let (address, flood) = bad(move |mut stream| async move {
        let start = Instant::now();
        let mut next = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            let due = (start.elapsed().as_millis() as u64 * MAD_RATE / 1000).min(next + 2_000);
            stream.write_all(&ipico(next, due)).await?;
            (next, _) = (due, count.store(due, Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(5)).await; // its pace
        }
        stream.write_all(&ipico(next, next + 1)).await?;
        count.store(next + 1, Ordering::SeqCst);
        end.store(true, Ordering::SeqCst);
        stream.shutdown().await?;
        // Until the box has read to the end: closed over what it asked us, the connection would be
        // reset, and what is still on the way would be gone.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
    })
    .await;
    let (sim, beside) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(None, &[(Kind::IPICO, address), beside], "");
    let box_ = site.start();
    site.until("both are connected", |status| status.journal.serving).await;
    let before = peak_mb(box_.id());
    let beside = Beside::start(sim);
    site.until("the flood is named", |status| has(status, "decoder_flood", "ipico-mat")).await;
    // The last read is sent, and everything is on the disk.
    let all = |status: &Snapshot| {
        let mat = &status.decoders[0];
        ended.load(Ordering::SeqCst) && mat.buffered == 0 && mat.reads + mat.dropped == sent.load(Ordering::SeqCst)
    };
    let limit = Duration::from_secs(seconds) + PATIENCE;
    assert!(
        holds(limit, async || site.status().await.is_some_and(|status| all(&status))).await,
        "{} are sent: {:#?}",
        sent.load(Ordering::SeqCst),
        site.status().await
    );
    let status = site.status().await.unwrap();
    let (kept, dropped) = (status.decoders[0].reads, status.decoders[0].dropped);
    let peak = peak_mb(box_.id());
    let other = beside.unhurt().await;
    println!(
        "{seconds} s at {MAD_RATE}/s: {} reads sent, {kept} kept, {dropped} dropped and counted; memory {before} MB at \
         rest, {peak} MB at most; {other}",
        sent.load(Ordering::SeqCst)
    );
    assert!(peak <= before + MORE_MB, "{before} MB before, {peak} MB at most");
    box_.stop().await;
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_gone_mad_is_kept_or_counted_named_and_hurts_no_other() {
    mad(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and 300 MB of disk"]
async fn long_a_decoder_gone_mad_for_a_minute() {
    mad(60).await;
}

/// Every protocol of the registry gets so many MB without anything that ends a record, all at once.
async fn endless(megabytes: usize) {
    let _alone = busy().await;
    let mut addresses = Vec::new();
    let mut tasks = Vec::new();
    let taken = Arc::new(Mutex::new(BTreeSet::new()));
    for spec in REGISTRY {
        let done = Arc::clone(&taken);
        let (address, task) = bad(move |mut stream| async move {
            let piece = vec![b'x'; 256 * 1024];
            for _ in 0..megabytes * 4 {
                if stream.write_all(&piece).await.is_err() {
                    break; // a protocol whose only framing is a length gives such a connection up
                }
            }
            done.lock().unwrap().insert(spec.name);
            std::future::pending().await // it stays connected
        })
        .await;
        address.parse::<Address>().unwrap();
        addresses.push((spec.name, address));
        tasks.push(task);
    }
    let (sim, beside) = decoder(Kind::MYLAPS, 2).await;
    let more: String = addresses
        .iter()
        .map(|(name, address)| {
            let settings = Kind::from_name(name).unwrap().settings();
            let set: String = settings.iter().map(|(key, value)| format!("{key} = '{value}'\n")).collect();
            let set = if set.is_empty() { set } else { format!("[decoder.set]\n{set}") };
            format!("[[decoder]]\nname = \"bad-{name}\"\nprotocol = \"{name}\"\naddress = \"{address}\"\n{set}")
        })
        .collect();
    let site = Site::new(None, &[beside], &more);
    let box_ = site.start();
    assert!(holds(PATIENCE, async || site.status().await.is_some_and(|status| status.journal.serving)).await);
    let before = peak_mb(box_.id());
    let beside = Beside::start(sim);
    for (name, _) in &addresses {
        let about = format!("bad-{name}");
        let named = async || {
            let status = site.status().await.unwrap();
            let codes = ["decoder_no_records", "many_rejected", "decoder_unreachable"];
            codes.iter().any(|code| has(&status, code, &about))
        };
        assert!(holds(PATIENCE, named).await, "{name}: nothing is said: {:#?}", site.status().await);
    }
    let all = async || taken.lock().unwrap().len() == REGISTRY.len();
    assert!(holds(10 * PATIENCE, all).await, "all of it is taken");
    let status = site.status().await.unwrap();
    let kept: u64 = status.journal.durable;
    let peak = peak_mb(box_.id());
    let other = beside.unhurt().await;
    println!(
        "{megabytes} MB without a line end to each of {} protocols: memory {before} MB at rest, {peak} MB at most; {kept} \
         entries in the journal; {other}",
        REGISTRY.len()
    );
    assert!(peak <= before + 24, "{before} MB before, {peak} MB at most");
    box_.stop().await;
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_without_a_line_end_cost_no_memory_and_are_named_for_every_protocol() {
    endless(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "300 MB to each protocol"]
async fn long_300_megabytes_without_a_line_end() {
    endless(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_connections_to_each_port_keep_no_exporter_out_and_cost_little() {
    let _alone = busy().await;
    const MANY: usize = 500;
    const CONTROL: usize = 100;
    let (sim, beside) = decoder(Kind::MYLAPS, 3).await;
    let address = beside.1.trim_start_matches("tcp-listen://").to_owned();
    let site = Site::new(None, &[beside], "");
    let box_ = site.start();
    site.until("it serves", |status| status.journal.serving).await;
    sim.push(20);
    site.until("the exporter is there", |status| status.decoders[0].reads >= 20).await;
    let (before, files) = (peak_mb(box_.id()), descriptors(box_.id()));
    sim.set_online(false); // while the exporter is away, they take every place
    let mut wires = Vec::new();
    let mut local = Vec::new();
    let mut trying = tokio::task::JoinSet::new(); // what connects is open as long as this is
    for _ in 0..MANY {
        wires.push(TcpStream::connect(&address).await.unwrap());
        // Beyond what is answered at once and what the system queues, they only try: nobody waits
        // for them.
        trying.spawn(TcpStream::connect(("127.0.0.1", site.page)));
        // At most as many as its queue takes: then the system lets the next one wait.
        let connecting = UnixStream::connect(site.data.join("control.sock"));
        if local.len() < CONTROL {
            local.extend(connecting.await.ok());
        }
    }
    sim.set_online(true);
    sim.push(100);
    let acked = async || sim.acked().len() == 120;
    assert!(holds(PATIENCE, acked).await, "only {} are acknowledged", sim.acked().len());
    let (peak, at_most) = (peak_mb(box_.id()), descriptors(box_.id()));
    println!(
        "{MANY} connections to a decoder port, {MANY} to the page, {} to the control socket: memory {before} MB before, \
         {peak} MB at most, {files} descriptors before, {at_most} with them",
        local.len()
    );
    assert!(at_most < 400, "{at_most} descriptors"); // the unit allows 4096, a shell 1024
    assert!(peak <= before + 24, "{before} MB before, {peak} MB at most");
    drop(local);
    site.until("it is named", |status| has(status, "too_many_connections", "mylaps-mat")).await;
    drop(wires);
    box_.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_clients_that_never_read_cost_little_and_hold_up_nobody() {
    let _alone = busy().await;
    let (sim, beside) = decoder(Kind::MYLAPS, 4).await;
    let site = Site::new(None, &[beside], "");
    let box_ = site.start();
    site.until("it serves", |status| status.journal.serving).await;
    assert!(holds(PATIENCE, async || site.get("/healthz").await.is_some()).await);
    let before = peak_mb(box_.id());
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", site.page)).await.unwrap();
        stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    // All that is known and every read of the last minutes, asked for again and again, and never
    // taken.
    let mut greedy = Vec::new();
    for _ in 0..10 {
        let stream = TcpStream::connect(("127.0.0.1", site.page)).await.unwrap();
        for _ in 0..1000 {
            let asked = stream.try_write(b"GET /api/reads?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
            if asked.is_err() {
                break; // it takes no more questions while its answers are not taken
            }
        }
        greedy.push(stream);
    }
    for round in 1..=20 {
        sim.push(100);
        site.until("they are kept", |status| status.decoders[0].reads >= round * 100).await;
    }
    let (code, _) = site.get("/healthz").await.expect("another client is answered");
    assert_eq!(code, 200);
    let peak = peak_mb(box_.id());
    println!("30 page clients that never read: memory {before} MB before, {peak} MB at most");
    assert!(peak <= before + 32, "{before} MB before, {peak} MB at most");
    // What they would read is there still.
    let mut some = [0; 64];
    deaf[0].read_exact(&mut some).await.unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    box_.stop().await;
}
