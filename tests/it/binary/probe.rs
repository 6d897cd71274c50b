//! `probe`, as a timer types it, against every simulated decoder and against what is none.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use passbridge::testing::decoders::spec;
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::child::{binary, free_port, until};

async fn probe(arguments: &[&str]) -> Output {
    let mut command = binary(&[&["probe"], arguments].concat());
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn data(output: &Output) -> Value {
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    reports[0].clone()
}

fn recognised(kind: Kind, output: &Output) -> Value {
    let data = data(output);
    assert_eq!(output.status.code(), Some(0), "{kind:?}: {data}");
    assert_eq!((&data["result"], &data["candidates"][0]["protocol"]), (&"recognised".into(), &kind.name().into()));
    assert_eq!(data["candidates"].as_array().unwrap().len(), 1, "{data}");
    assert!(data["config"].as_str().unwrap().contains(&format!("protocol = \"{}\"", kind.name())));
    data
}

/// At its usual port, on a loopback address of its own. Some reads happen all the time.
async fn streaming(kind: Kind) {
    let at = Kind::all().position(|other| other == kind).unwrap() as u8;
    let place = SocketAddr::from(([127, 77, 0, 10 + at], spec(kind.name()).unwrap().port));
    // Without the right to take the Ultra's port it is another one, where it speaks as well.
    let wanted = if std::net::TcpListener::bind(place).is_ok() { place } else { SocketAddr::from(([127, 0, 0, 1], 0)) };
    let sim =
        SimDecoder::start(SimConfig { rate: 20.0, ..SimConfig::new(kind, Wiring::Listen(wanted)) }).await.unwrap();
    sim.push(5);
    let address = format!("tcp://{}", sim.address().unwrap());
    let data = recognised(kind, &probe(&[&address, "--for", "2s", "--json"]).await);
    let reads = data["reads"].as_array().unwrap();
    assert_eq!(reads.len(), if kind == Kind::LLRP { 0 } else { 3 }, "{data}");
    let made: Vec<String> = sim.reads().iter().map(|read| read.chip.to_string()).collect();
    assert!(reads.iter().all(|read| made.iter().any(|chip| read["chip"] == **chip)), "{data}");
    assert_eq!(sim.forbidden(), Vec::<String>::new(), "{kind:?}");
}

// Three at a time: an answer counts only within two seconds, and a dozen programs that start at once on a busy machine
// are slower than any decoder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decoder_on_the_network_is_recognised_with_three_reads_and_told_nothing_harmful() {
    let kinds = Kind::all().filter(|kind| !kind.connects() && kind.spec().recogniser.is_some());
    stream::iter(kinds).for_each_concurrent(3, streaming).await;
}

async fn connecting(kind: Kind) {
    let port = free_port();
    let wiring = Wiring::Connect(SocketAddr::from(([127, 0, 0, 1], port)));
    let sim = SimDecoder::start(SimConfig::new(kind, wiring)).await.unwrap();
    sim.push(20);
    let address = format!("tcp-listen://127.0.0.1:{port}");
    let data = recognised(kind, &probe(&[&address, "--for", "3s", "--json"]).await);
    assert_eq!(data["reads"].as_array().unwrap().len(), if kind == Kind::MYLAPS { 3 } else { 0 }, "{data}");
    assert_eq!((sim.forbidden(), sim.acked()), (Vec::new(), Vec::new()), "{kind:?}");
}

#[tokio::test]
async fn software_that_connects_is_recognised_and_keeps_all_it_has_to_send() {
    join_all(Kind::all().filter(|kind| kind.connects()).map(connecting)).await;
}

/// Serves one connection after the other with these bytes; what was said to it is thrown away.
async fn stranger(says: &'static [u8]) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(says).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    (address, serving)
}

#[tokio::test]
async fn what_is_no_decoder_has_its_name_and_its_exit_code() {
    let (ssh, serving) = stranger(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    let output = probe(&[&ssh, "--for", "300ms"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(65));
    assert!(text.contains("an SSH server") && text.contains("SSH-2.0-OpenSSH_9.2p1\\r\\n"), "{text}");
    assert!(text.contains(&format!("passbridge capture {ssh} --output FILE")) && !text.contains("Sent, "), "{text}");
    serving.abort();

    let (silent, serving) = stranger(b"").await;
    let output = probe(&[&silent, "--for", "300ms", "--listen-only", "--json"]).await;
    assert_eq!((output.status.code(), &data(&output)["result"]), (Some(69), &"silent".into()));
    serving.abort();

    let nobody = format!("tcp://127.0.0.1:{}", free_port());
    let output = probe(&[&nobody]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody listens at that port"), "{output:?}");
    assert_eq!(probe(&["serial:///dev/there-is-none"]).await.status.code(), Some(69));
    assert_eq!(probe(&["udp://127.0.0.1:1"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn without_a_port_the_usual_ones_are_tried() {
    let place = SocketAddr::from(([127, 77, 0, 2], spec("ipico").unwrap().port));
    let sim = SimDecoder::start(SimConfig { rate: 20.0, ..SimConfig::new(Kind::IPICO, Wiring::Listen(place)) }).await;
    let _sim = sim.unwrap();
    let output = probe(&["tcp://127.77.0.2", "--for", "1s", "--json"]).await;
    let data = recognised(Kind::IPICO, &output);
    assert_eq!(data["address"], "tcp://127.77.0.2:10000");
    let output = probe(&["tcp://127.77.0.3", "--for", "1s"]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none of the decoders' usual ports"), "{output:?}");
}

/// A line that the test writes to; the other end is a terminal of the system, which is opened,
/// locked and set as a real one.
#[tokio::test]
async fn a_serial_line_is_read_and_a_line_that_is_held_says_so() {
    let (mut ours, theirs) = tokio_serial::SerialStream::pair().unwrap();
    let path = tokio_serial::SerialPort::name(&theirs).expect("a terminal has a name");
    drop(theirs);
    let held = tokio_serial::SerialPortBuilderExt::open_native_async(tokio_serial::new(&path, 9600)).unwrap();
    let address = format!("serial://{path}?baud=9600");
    let output = probe(&[&address, "--for", "300ms"]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another program holds the line"), "{output:?}");
    drop(held);
    let probing = tokio::spawn(async move { probe(&[&address, "--for", "20s", "--json"]).await });
    // A terminal that nobody has open takes nothing, or forgets it: the reads come again until it
    // is enough.
    until("the probe has ended", async || {
        let _ = ours.write_all(b"aa0005800012860800012603062027472353\r\n").await;
        probing.is_finished()
    })
    .await;
    let data = recognised(Kind::IPICO, &probing.await.unwrap());
    assert_eq!((&data["baud"], data["reads"].as_array().unwrap().len()), (&9600.into(), 3));
}
