//! `capture`, as a timer types it: beside the daemon that has the link, and without one.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use passbridge::testing::link::capture::{CaptureReader, Direction, Header, Record, What};
use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::child::{PATIENCE, Running, Site, binary, decoder, exported, free_port, judge, passing, until};

fn read(path: &Path) -> (Header, Vec<Record>) {
    let mut reader = CaptureReader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let records = reader.by_ref().map(Result::unwrap).collect();
    assert!(!reader.cut());
    (reader.header().clone(), records)
}

fn bytes(records: &[Record], way: Direction) -> String {
    let all = records.iter().filter_map(|record| match &record.what {
        What::Bytes(direction, bytes) if *direction == way => Some(bytes.as_slice()),
        _ => None,
    });
    String::from_utf8(all.collect::<Vec<_>>().concat()).unwrap()
}

/// A capture that runs; what it says is in `stderr` of its directory.
struct Capture {
    running: Running,
    dir: tempfile::TempDir,
}

impl Capture {
    async fn begin(arguments: &[&str], config: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = binary(&[&["capture"], arguments].concat());
        command.current_dir(dir.path());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let capture = Self { running: Running::spawn(command, dir.path()), dir };
        capture.says("recording").await;
        capture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap()
    }

    async fn says(&self, what: &str) {
        until(what, async || self.said().contains(what)).await;
    }

    /// Ctrl-C; its exit code.
    async fn interrupt(&mut self) -> Option<i32> {
        kill_process(Pid::from_raw(i32::try_from(self.running.id()).unwrap()).unwrap(), Signal::INT).unwrap();
        self.running.ended(PATIENCE).await.expect("Ctrl-C ends it").code()
    }
}

#[tokio::test]
async fn beside_the_daemon_a_capture_holds_both_directions_and_gives_the_same_reads_when_it_is_played() {
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(None, &[mat], "");
    let running = site.start();
    site.until("it is connected", |status| status.decoders[0].reads == 0).await;
    let mut capture = Capture::begin(&["--decoder", "mylaps-mat"], Some(&site.config())).await;
    sim.push(30);
    let (mut acked, mut links) = (sim.acked_count(), sim.links());
    acked.wait_for(|acked| *acked == 30).await.unwrap();
    sim.drop_links(); // and over a reconnect
    links.wait_for(|links| *links == 1).await.unwrap();
    sim.push(5);
    acked.wait_for(|acked| *acked == 35).await.unwrap();
    let file = std::fs::read_dir(capture.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "capture")).unwrap();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("mylaps-mat-20"), "{}", file.display());

    // The decoder may have an ack before the link has come to say that it was written.
    until("the acks and the cut are in it", async || {
        let text = std::fs::read_to_string(&file).unwrap();
        let acked = (1..=2).all(|number| text.contains(&format!("@AckPassing@{number}@$")));
        acked && text.contains(" 1 closed")
    })
    .await;
    assert_eq!(capture.interrupt().await, Some(0), "{}", capture.said());
    let (header, records) = read(&file);
    assert_eq!((header.get("decoder"), header.get("protocol")), (Some("mylaps-mat"), Some("mylaps")));
    let (from, to) = (bytes(&records, Direction::From), bytes(&records, Direction::To));
    assert!(to.contains("@AckPassing@1@$") && to.contains("@AckPassing@2@$"), "{to}");
    for read in sim.reads() {
        assert!(from.contains(&format!("c={}|", read.chip)), "{} is in it", read.chip);
    }
    let ended = |record: &Record| record.connection == 1 && matches!(record.what, What::Closed(_));
    assert!(records.iter().any(ended), "the cut is in it");
    let kept: Vec<_> = site.export().await.iter().filter_map(exported).collect();
    running.stop().await;

    // The same reads in another box.
    let port = free_port();
    let other = Site::new(None, &[(Kind::MYLAPS, format!("tcp-listen://127.0.0.1:{port}"))], "");
    let again = other.start();
    let connect = format!("127.0.0.1:{port}");
    let file = file.to_str().unwrap();
    let player = binary(&["simulate", "decoder", "--replay", file, "--pace", "max", "--connect", &connect]);
    let player = Running::spawn(player, capture.dir.path());
    other.until("all of it is here", |status| status.decoders[0].reads as usize >= kept.len()).await;
    let sorted = |mut list: Vec<_>| {
        list.sort();
        list
    };
    assert_eq!(sorted(other.export().await.iter().filter_map(exported).collect()), sorted(kept));
    again.stop().await;
    drop(player);
}

/// A decoder, a relay with its capture, and a box behind it; `output` is where the capture goes.
async fn behind_a_relay(output: &str) -> (SimCloud, String, SimDecoder, Site, Capture) {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, (kind, address)) = decoder(Kind::RACE_RESULT, 1).await;
    sim.push(20);
    let port = free_port();
    let relay = format!("tcp-listen://127.0.0.1:{port}");
    let site = Site::new(Some(&cloud), &[(kind, format!("tcp://127.0.0.1:{port}"))], "");
    std::process::Command::new("mkfifo").arg(site.data.with_file_name("fifo")).status().unwrap();
    let output = output.replace("SITE", site.data.parent().unwrap().to_str().unwrap());
    let arguments = [&address, "--relay", &relay, "--protocol", "raceresult", "--force", "--output", &output];
    let reader = output.ends_with("fifo").then(|| {
        let path = output.clone();
        // It reads the header, and goes.
        std::thread::spawn(move || std::io::Read::read(&mut File::open(path).unwrap(), &mut [0; 10]).unwrap())
    });
    let capture = Capture::begin(&arguments, None).await;
    if let Some(reader) = reader {
        reader.join().unwrap();
    }
    (cloud, token, sim, site, capture)
}

#[tokio::test]
async fn between_decoder_and_software_a_relay_passes_everything_and_records_both_directions() {
    let (cloud, token, sim, site, mut capture) = behind_a_relay("relay.capture").await;
    let running = site.start();
    site.sent(20).await;
    sim.push(30);
    site.sent(50).await;
    judge("through a relay", &cloud, &token, sim.reads().iter().map(passing));
    running.stop().await;
    assert_eq!(capture.interrupt().await, Some(0), "{}", capture.said());
    assert!(capture.said().contains("bytes from the decoder"), "{}", capture.said());
    let (header, records) = read(&capture.path("relay.capture"));
    assert_eq!(header.get("protocol"), Some("raceresult"));
    assert!(bytes(&records, Direction::To).starts_with("GETPROTOCOL\r\n"));
    let from = bytes(&records, Direction::From);
    for read in sim.reads() {
        assert!(from.contains(&format!(";{};", read.chip)), "{} is in it", read.chip);
    }
    // What the decoder said decodes without being told anything.
    let output = binary(&["decode", "relay.capture"]).current_dir(capture.dir.path()).output().unwrap();
    let reads = String::from_utf8(output.stdout).unwrap().matches(r#""kind":"read""#).count();
    assert!(output.status.success() && reads >= 50, "{reads}");
}

#[tokio::test]
async fn a_relay_goes_on_when_its_file_cannot_be_written_any_more_and_says_so() {
    let (cloud, token, sim, site, mut capture) = behind_a_relay("SITE/fifo").await;
    let running = site.start();
    capture.says("NOT recorded").await;
    sim.push(30);
    site.sent(50).await;
    judge("without a recording", &cloud, &token, sim.reads().iter().map(passing));
    running.stop().await;
    assert_eq!(capture.interrupt().await, Some(74));
    assert!(capture.said().contains("not all of it is in"), "{}", capture.said());
}

#[tokio::test]
async fn a_port_that_is_only_listened_to_gets_nothing_and_each_byte_of_it_is_recorded() {
    let box_with_bytes = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", box_with_bytes.local_addr().unwrap());
    let mut capture =
        Capture::begin(&[&address, "--output", "a.capture", "--comment", "Abacus 3, firmware 7"], None).await;
    let (mut decoder, _) = box_with_bytes.accept().await.unwrap();
    decoder.write_all(b"17;\xff;10:00:00\r\n").await.unwrap();
    let file = capture.path("a.capture");
    until("it is in the file", async || std::fs::read_to_string(&file).unwrap().contains("10:00:00\\r\\n")).await;
    assert_eq!(capture.interrupt().await, Some(0));
    let mut heard = Vec::new();
    decoder.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"", "nothing was sent");
    let (header, _) = read(&file);
    assert_eq!((header.get("protocol"), header.get("comment")), (Some("none"), Some("Abacus 3, firmware 7")));
    assert_eq!(header.get("address"), Some(&*address));

    let refused =
        binary(&["capture", &address, "--output", "a.capture"]).current_dir(capture.dir.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--force overwrites it"));

    // A decoder that connects to us, from two places.
    let port = free_port();
    let mut capture = Capture::begin(&[&format!("tcp-listen://127.0.0.1:{port}"), "--output", "b.capture"], None).await;
    let mut first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    first.write_all(b"one").await.unwrap();
    let file = capture.path("b.capture");
    until("the first", async || std::fs::read_to_string(&file).unwrap().contains(" 1 one")).await;
    TcpStream::connect(("127.0.0.1", port)).await.unwrap().write_all(b"two").await.unwrap();
    until("the second", async || std::fs::read_to_string(&file).unwrap().contains(" 2 closed")).await;
    assert_eq!(capture.interrupt().await, Some(0));
    assert_eq!(bytes(&read(&file).1, Direction::From), "onetwo");
}

#[tokio::test]
async fn what_cannot_be_captured_is_said_with_what_to_do() {
    let site = Site::new(None, &[(Kind::IPICO, "tcp://127.0.0.1:9".into())], "");
    let told = async |arguments: &[&str]| {
        let output = site.output(arguments).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = told(&["capture", "--decoder", "ipico-mat"]).await;
    assert_eq!(code, Some(69));
    assert!(said.contains("does not run here") && said.contains("passbridge capture 'tcp://127.0.0.1:9'"), "{said}");
    for wrong in [
        &["capture"][..],
        &["capture", "192.168.1.50:10000"],
        &["capture", "tcp://a:1", "--decoder", "x"],
        &["capture", "tcp://a:1", "--for", "soon"],
        &["capture", "tcp://a:1", "--relay", "tcp://b:2"],
    ] {
        assert_eq!(told(wrong).await.0, Some(64), "{wrong:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.capture");
    let path = path.to_str().unwrap();
    let (code, said) = told(&["capture", "tcp://127.0.0.1:9", "--for", "300ms", "--output", path]).await;
    assert_eq!(code, Some(69), "nobody was there: {said}");
    assert!(said.contains("tried again every second"), "{said}");
    let running = site.start();
    site.until("it is up", |_| true).await;
    let (code, said) = told(&["capture", "--decoder", "gate", "--output", path]).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("there are: ipico-mat"), "{said}");
    running.stop().await;
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text + "! 0.1 1 exploded\n").unwrap();
    let (code, said) = {
        let output = binary(&["simulate", "decoder", "--replay", path, "--listen", "127.0.0.1:0"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(code, Some(65));
    assert!(said.contains("x.capture: line ") && said.contains(": after `!` may come"), "{said}");

    // A power cut in the middle of a line: what is there is decoded.
    std::fs::write(path, "# passbridge capture 1\n# protocol: lines\n< 0 1 17;10:00:00\\r\\n\n< 1 1 18;10:00:01\\x0")
        .unwrap();
    let pattern = r"pattern=^(?<chip>\d+);(?<time>\S+)$";
    let output = binary(&["decode", path, "--set", pattern]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("middle of a line"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches(r#""kind":"read""#).count(), 2);
    std::fs::write(path, "17;10:00:00\r\n").unwrap();
    let raw = ["simulate", "decoder", "--protocol", "ipico", "--replay", path, "--pace", "2"];
    let output = binary(&raw).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "rows of raw bytes have a rate and no pace");
}

#[tokio::test]
async fn the_demo_plays_a_capture_of_this_repository_the_whole_way() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decoders/mylaps/captures/mylaps-sim.capture");
    let run = move || binary(&["demo", "--json", "--replay"]).arg(file).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let audit: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((audit["happened"].as_u64(), audit["in_cloud"].as_u64()), (Some(7), Some(7)));
}
