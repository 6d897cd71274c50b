//! Simulated decoders of every kind on a wire in memory, under a simulated clock. Decoders that
//! connect to us use a loopback port. A simulator records each command that starts, stops, clears
//! or sets something.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::listen::{Ended, READS};
use super::*;
use crate::config::{Config, LoadOptions};
use crate::decoders::spec;
use crate::link::capture;
use crate::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use jiff::tz::TimeZone;

const PLAN: Plan = Plan { listen: LISTEN, more: LISTEN, ask: true, silent: Duration::ZERO };
const QUIETLY: Plan = Plan { ask: false, ..PLAN };

/// A simulated decoder on a wire, with `rate` reads a second.
async fn on_a_wire(kind: Kind, rate: f64) -> (SimDecoder, Wire) {
    let (ours, theirs) = duplex(64 * 1024);
    let config = SimConfig { rate, ..SimConfig::new(kind, Wiring::Port(Box::new(theirs))) };
    (SimDecoder::start(config).await.unwrap(), Box::new(ours))
}

fn dialled() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| !kind.connects() && kind.spec().recogniser.is_some())
}

fn wall() -> Wall {
    Wall::scripted("2026-06-17T10:00:02Z".parse().unwrap())
}

fn role(kind: Kind) -> Role {
    Role::Port(spec(kind.name()).unwrap().port)
}

/// The protocol that is recognised, the grade, and the number of reads.
fn taken_for(heard: &Heard) -> Option<(&'static str, Grade, usize)> {
    let found = recognise(&heard.bytes);
    let best = found.first()?;
    assert_eq!(found.len(), 1);
    Some((best.spec.name, best.grade, best.reads.len()))
}

/// RACE RESULT and One4All send only to a client that asked for it, and a reader needs an
/// inventory.
fn speaks_by_itself(kind: Kind) -> bool {
    ![Kind::RACE_RESULT, Kind::ONE4ALL, Kind::LLRP].contains(&kind)
}

#[tokio::test(start_paused = true)]
async fn every_decoder_that_is_connected_to_is_recognised_and_nothing_harmful_is_sent() {
    for kind in dialled() {
        let (sim, mut wire) = on_a_wire(kind, 5.0).await;
        let heard = listen(&mut wire, role(kind), PLAN, &wall()).await;
        let (name, grade, reads) = taken_for(&heard).unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!((name, grade), (kind.name(), Grade::Certain), "{kind:?}");
        assert!(reads >= READS || kind == Kind::LLRP, "{kind:?}: {reads} reads");
        assert_eq!(heard.asked.is_empty(), speaks_by_itself(kind) || kind == Kind::LLRP, "{kind:?}: {:?}", heard.asked);
        assert_eq!(sim.forbidden(), Vec::<String>::new(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_port_that_nobody_knows_it_is_found_as_well() {
    for kind in dialled() {
        let (sim, mut wire) = on_a_wire(kind, 5.0).await;
        let heard = listen(&mut wire, Role::Port(4242), PLAN, &wall()).await;
        let (name, grade, _) = taken_for(&heard).unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!((name, grade), (kind.name(), Grade::Certain), "{kind:?}: {:?}", heard.asked);
        assert_eq!(sim.forbidden(), Vec::<String>::new(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn between_reads_a_decoder_that_answers_is_found_by_a_question() {
    for kind in [Kind::IPICO, Kind::RACE_RESULT, Kind::ONE4ALL, Kind::ULTRA, Kind::P3, Kind::CLOUDBOX, Kind::LLRP] {
        let (sim, mut wire) = on_a_wire(kind, 0.0).await;
        let heard = listen(&mut wire, role(kind), PLAN, &wall()).await;
        let (name, grade, reads) = taken_for(&heard).unwrap_or_else(|| panic!("{kind:?}: {:?}", heard.asked));
        assert!(name == kind.name() && grade >= Grade::Likely && reads == 0, "{kind:?} {grade:?}");
        assert_eq!(sim.forbidden(), Vec::<String>::new(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_one_decoder_harms_no_other() {
    // Every question reaches every decoder, whatever the order, because each decoder is served at
    // the port of another one.
    for kind in dialled() {
        for other in [Kind::IPICO, Kind::RACE_RESULT, Kind::CLOUDBOX, Kind::P3, Kind::ONE4ALL] {
            let (sim, mut wire) = on_a_wire(kind, 0.0).await;
            let _heard = listen(&mut wire, role(other), PLAN, &wall()).await;
            // The CloudBox, and decoders that are only listened to, record everything that they do
            // not know, even if it does nothing anywhere. For these decoders each record must be a
            // whole question of the registry.
            let notes_all = kind.spec().commands.is_none() || kind == Kind::CLOUDBOX;
            let harmless = |noted: &String| {
                let questions = REGISTRY.iter().flat_map(|spec| spec.questions);
                let texts = questions.map(|question| String::from_utf8_lossy(question.bytes));
                texts.fold(noted.clone(), |rest, text| rest.replace(text.trim(), "")).trim().is_empty()
            };
            let harm: Vec<String> =
                sim.forbidden().into_iter().filter(|noted| !notes_all || !harmless(noted)).collect();
            assert_eq!(harm, Vec::<String>::new(), "{kind:?} at the port of {other:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_three_stored_reads_are_shown_and_the_decoders_clock() {
    for kind in [Kind::RACE_RESULT, Kind::ONE4ALL] {
        let (sim, mut wire) = on_a_wire(kind, 0.0).await;
        sim.push(20);
        let heard = listen(&mut wire, role(kind), PLAN, &wall()).await;
        let found = recognise(&heard.bytes);
        let chips: Vec<&str> = found[0].reads.iter().map(|read| &*read.chip).collect();
        let reads = sim.reads();
        let last: Vec<&str> = reads[17..].iter().map(|read| &*read.chip).collect();
        assert_eq!(chips, last, "{kind:?}");
        let clock = heard.clock.expect("it told its clock");
        assert!(!clock.of_read && clock.stamp.to_string().starts_with("2026-06-17T10:00:"), "{clock:?}");
        assert_eq!(sim.forbidden(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn with_listen_only_not_a_byte_is_sent() {
    for kind in dialled() {
        let (ours, mut theirs) = duplex(1024);
        let mut wire: Wire = Box::new(ours);
        let heard = listen(&mut wire, role(kind), QUIETLY, &wall()).await;
        assert_eq!((heard.bytes.len(), heard.asked.len()), (0, 0));
        drop(wire);
        assert_eq!(theirs.read_u8().await.ok(), None, "{kind:?}");
    }
}

/// Connects the probe to something that sends `says`, and returns what the probe asks then.
async fn asked_after(says: &[u8], port: u16) -> Vec<u8> {
    let (ours, mut theirs) = duplex(64 * 1024);
    theirs.write_all(says).await.unwrap();
    let mut wire: Wire = Box::new(ours);
    listen(&mut wire, Role::Port(port), PLAN, &wall()).await;
    drop(wire);
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    heard
}

#[tokio::test(start_paused = true)]
async fn who_is_known_to_be_no_decoder_is_not_asked_and_the_port_of_an_ultra_gets_one_character() {
    for banner in [&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], b"\xff\xfd\x18\xff\xfd\x20", b"\r\nbox login: ", b"220 ftp\r\n"] {
        assert_eq!(asked_after(banner, 3601).await, b"");
    }
    assert_eq!(asked_after(b"", 23).await, b"?");
    // The text after a question without a line end begins on a line of its own.
    assert!(memchr::memmem::find(&asked_after(b"", 5403).await, b"\x8f\r\nab00000222\r\nGETSTATUS\r\n").is_some());
    assert_eq!(asked_after(b"what?\r\n", 23).await, b"?");
}

#[tokio::test(start_paused = true)]
async fn a_box_that_may_be_an_ultra_is_silent_for_long_enough_before_it_is_asked_anything_else() {
    let (ours, mut theirs) = duplex(1024);
    let start = tokio::time::Instant::now();
    let asked = tokio::spawn(async move {
        let mut first = [0; 1];
        theirs.read_exact(&mut first).await.map(|_| start.elapsed())
    });
    let mut wire: Wire = Box::new(ours);
    listen(&mut wire, Role::Port(4242), Plan { listen: Duration::from_secs(1), ..PLAN }, &wall()).await;
    // The Ultra sends its voltage every 2 to 10 s.
    assert!(asked.await.unwrap().unwrap() > Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_at_once_is_told_as_that() {
    let (ours, theirs) = duplex(1024);
    drop(theirs);
    let mut wire: Wire = Box::new(ours);
    let heard = listen(&mut wire, Role::Port(5084), PLAN, &wall()).await;
    assert!(matches!(heard.ended, Ended::Closed));
    let text =
        ProbeReport::new(&"tcp://10.0.0.1:5084".parse().unwrap(), &heard, &TimesIn { timezone: Some(TimeZone::UTC) })
            .text();
    assert!(text.contains("closed the connection at once") && text.contains("systemctl stop passbridge"), "{text}");
}

/// The software of a decoder, which connects to us on a loopback port.
async fn connected(kind: Kind, ask: bool) -> (SimDecoder, Heard) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let wiring = Wiring::Connect(listener.local_addr().unwrap());
    let sim = SimDecoder::start(SimConfig::new(kind, wiring)).await.unwrap();
    sim.push(20);
    let (stream, _) = listener.accept().await.unwrap();
    let mut wire: Wire = Box::new(stream);
    // On a socket real time passes, but the bytes arrive at once.
    let time = Duration::from_millis(500);
    let plan = Plan { listen: time, more: time, ask, ..PLAN };
    let heard = listen(&mut wire, Role::TheyConnected, plan, &wall()).await;
    (sim, heard)
}

#[tokio::test]
async fn software_that_connects_to_us_is_recognised_and_nothing_is_acknowledged_or_begun() {
    for (kind, least, reads, sent) in [
        (Kind::MYLAPS, Grade::Certain, true, vec!["the MYLAPS exporter to go on, as every server does"]),
        (Kind::CHRONOTRACK, Grade::Certain, false, vec![]),
        (Kind::JCHIP, Grade::Likely, false, vec!["the JChip bridge for its time"]),
    ] {
        let (sim, heard) = connected(kind, true).await;
        let (name, grade, count) = taken_for(&heard).unwrap_or_else(|| panic!("{kind:?}"));
        assert!(name == kind.name() && grade >= least && (count >= READS) == reads, "{kind:?} {grade:?} {count}");
        assert_eq!(heard.asked.iter().map(|sent| sent.asks).collect::<Vec<_>>(), sent, "{kind:?}");
        assert_eq!(sim.forbidden(), Vec::<String>::new(), "{kind:?}");
        assert_eq!(sim.acked(), [], "{kind:?}");
        let (sim, heard) = connected(kind, false).await;
        assert_eq!(taken_for(&heard).map(|found| found.0), Some(kind.name()));
        assert_eq!((heard.asked.len(), sim.acked().len()), (0, 0), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_speak_while_a_question_waits_is_not_asked() {
    let (ours, mut theirs) = duplex(1024);
    let speaking = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(9)).await;
        theirs.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").await.unwrap();
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        heard
    });
    let mut wire: Wire = Box::new(ours);
    listen(&mut wire, Role::Port(4242), PLAN, &wall()).await;
    drop(wire);
    assert_eq!(speaking.await.unwrap(), b"");
}

/// A line that delivers garbage at every rate except one.
struct Line {
    rate: u32,
    kind: Kind,
    /// Reads a second.
    reads: f64,
    opened: RefCell<Vec<u32>>,
    sims: RefCell<Vec<SimDecoder>>,
    garbage: RefCell<Vec<DuplexStream>>,
    held: Cell<bool>,
}

impl Line {
    async fn open(&self, rate: u32) -> io::Result<Wire> {
        self.opened.borrow_mut().push(rate);
        if self.held.get() {
            return Err(io::Error::other("Unable to acquire exclusive lock on serial port"));
        }
        if rate == self.rate {
            let (sim, wire) = on_a_wire(self.kind, self.reads).await;
            self.sims.borrow_mut().push(sim);
            return Ok(wire);
        }
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(b"\xfe\x80\x66\x1e\x98\x00\xe6\x06\xff\xf8").await?;
        self.garbage.borrow_mut().push(theirs);
        Ok(Box::new(ours))
    }
}

fn line(rate: u32, kind: Kind, reads: f64) -> Line {
    let (opened, sims, garbage, held) = Default::default();
    Line { rate, kind, reads, opened, sims, garbage, held }
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_serial_line_is_found_and_only_there_it_is_believed() {
    for rate in rates() {
        for kind in [Kind::IPICO, Kind::TIMY, Kind::IMPINJ] {
            let line = line(rate, kind, 5.0);
            let (found, heard) =
                find_rate(async |rate| line.open(rate).await, RATES_TIME, true, &wall()).await.unwrap();
            assert_eq!((found, taken_for(&heard).map(|found| found.0)), (rate, Some(kind.name())));
            assert_eq!(line.opened.borrow().last(), Some(&rate), "it ends there");
            let report = ProbeReport::new(
                &at_rate(&"serial:///dev/ttyUSB0".parse().unwrap(), found),
                &heard,
                &TimesIn::default(),
            );
            assert!(report.text().contains(&format!("at {rate} baud")));
            for sim in line.sims.take() {
                assert_eq!(sim.forbidden(), Vec::<String>::new());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_serial_decoder_without_a_chip_is_asked_in_the_second_round_and_never_with_listen_only() {
    let silent = line(38_400, Kind::IPICO, 0.0);
    let (rate, heard) = find_rate(async |rate| silent.open(rate).await, RATES_TIME, true, &wall()).await.unwrap();
    assert_eq!((rate, taken_for(&heard).map(|found| found.0)), (38_400, Some("ipico")));
    assert!(silent.opened.borrow().len() > rates().len());
    let silent = line(38_400, Kind::IPICO, 0.0);
    let (_, heard) = find_rate(async |rate| silent.open(rate).await, RATES_TIME, false, &wall()).await.unwrap();
    assert_eq!((taken_for(&heard), heard.asked.len()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_another_program_holds_is_told_in_words() {
    let line = line(9600, Kind::IPICO, 1.0);
    line.held.set(true);
    let error = find_rate(async |rate| line.open(rate).await, RATES_TIME, true, &wall()).await.unwrap_err();
    let failure = cannot_open(&"serial:///dev/ttyUSB0".parse().unwrap(), &error);
    assert_eq!(failure.exit_code(), 69);
    assert!(failure.to_string().contains("another program holds the line"), "{failure}");
}

#[test]
fn every_block_for_the_configuration_loads() {
    let dir = tempfile::tempdir().unwrap();
    let decoders = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decoders");
    let times = TimesIn { timezone: TimeZone::get("Europe/Madrid").ok() };
    for spec in REGISTRY.iter().filter(|spec| spec.recogniser.is_some()) {
        let capture = std::fs::read(decoders.join(format!("{0}/captures/{0}.capture", spec.name))).unwrap();
        let records = capture::CaptureReader::new(&capture[..]).unwrap().map(|record| record.unwrap().what);
        let bytes = records.filter_map(|what| match what {
            capture::What::Bytes(capture::Direction::From, bytes) => Some(bytes),
            _ => None,
        });
        let heard = Heard { bytes: bytes.flatten().collect(), ..Heard::nothing() };
        for address in ["tcp://192.168.1.50:4000", "tcp-listen://0.0.0.0:4000", "serial:///dev/ttyUSB0?baud=38400"] {
            let block = ProbeReport::new(&address.parse().unwrap(), &heard, &times).config.unwrap();
            let file = dir.path().join("passbridge.toml");
            std::fs::write(&file, format!("name = \"finish\"\ndata_dir = \"/tmp\"\n\n{block}")).unwrap();
            let options = LoadOptions { keyless: true, environment: Vec::new(), ..LoadOptions::new(&file) };
            let config = Config::load(&options).unwrap_or_else(|error| panic!("{error}\n{block}")).config;
            assert_eq!(config.decoders[0].protocol.name, spec.name);
            assert_eq!(config.decoders[0].address.to_string(), address);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_is_told_what_it_is_how_sure_three_reads_and_the_clock() {
    let (_sim, mut wire) = on_a_wire(Kind::IPICO, 5.0).await;
    let wall = Wall::scripted("2026-06-17T08:00:00Z".parse().unwrap());
    let heard = listen(&mut wire, role(Kind::IPICO), PLAN, &wall).await;
    let times = TimesIn { timezone: TimeZone::get("Europe/Madrid").ok() };
    let report = ProbeReport::new(&"tcp://192.168.1.50:10000".parse().unwrap(), &heard, &times);
    let text = report.text();
    for part in [
        "IPICO Lite / Elite (`ipico`): certain",
        "checksums agree",
        "chip 05800",
        "The last read says 2026-06-17T10:00:0",
        "this box's 2026-06-17 10:00:00.000 CEST",
        "address = \"tcp://192.168.1.50:10000\"",
        "timezone = \"Europe/Madrid\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("chip 05800").count(), READS);
    let data = serde_json::to_value(&report).unwrap();
    assert_eq!((&data["result"], &data["candidates"][0]["protocol"]), (&"recognised".into(), &"ipico".into()));
    assert_eq!(data["reads"].as_array().unwrap().len(), READS);
    assert_eq!(data["clock"]["box"], "2026-06-17T08:00:00.000Z", "{data}");
    // Two hours off is not a wrong clock but another time zone.
    let utc = ProbeReport::new(
        &"tcp://192.168.1.50:10000".parse().unwrap(),
        &heard,
        &TimesIn { timezone: Some(TimeZone::UTC) },
    )
    .text();
    assert!(utc.contains("another time zone"), "{utc}");
}
