//! Every protocol of the registry, the whole way: through cut cables, half frames, noise, repeats,
//! and a box that is switched off and on. A protocol that is added without a simulator fails here.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::config::{Address, Config, LoadOptions};
use passbridge::testing::daemon::Daemon;
use passbridge::testing::decoders::{Missed, REGISTRY, Settings, spec};
use passbridge::testing::model::chip::Stamp;
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, SimRead, WireFault, Wiring};
use passbridge::testing::status::{BoxState, LinkState, Snapshot};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_serial::{SerialPort, SerialStream};

use crate::support::e2e::*;

/// A decoder under its protocol's options.
#[derive(Clone)]
struct Case {
    kind: Kind,
    set: Settings,
    /// LLRP: the reader was told what to do by other software.
    programmed: bool,
}

/// Every line of the registry, and what has another conversation under an option.
fn cases() -> Vec<Case> {
    let registry = REGISTRY.iter().map(|spec| {
        let kind = Kind::from_name(spec.name).unwrap_or_else(|| panic!("{} has no simulator", spec.name));
        Case { kind, set: kind.settings(), programmed: false }
    });
    let option = |key: &str, value: &str| Settings::from([(key.to_owned(), value.to_owned())]);
    let more = [
        Case { kind: Kind::MYLAPS, set: option("version", "1"), programmed: false },
        Case { kind: Kind::ULTRA, set: option("rewind_prefix", "nul"), programmed: false },
        Case { kind: Kind::LLRP, set: Settings::new(), programmed: true },
    ];
    registry.chain(more).collect()
}

/// UTC milliseconds of a stamp of a clock that is in UTC and right; not by the product's own rules.
fn crossing(read: &SimRead) -> Crossing {
    let ms = |local| TimeZone::UTC.to_timestamp(local).unwrap().as_millisecond();
    let at = match read.stamp {
        Stamp::Local(local) => ms(local),
        Stamp::Utc(instant) => instant.as_millisecond(),
        Stamp::TimeOfDay { time, .. } => {
            let now = Timestamp::now();
            let today = TimeZone::UTC.to_datetime(now).date();
            let days = [today.yesterday().unwrap(), today, today.tomorrow().unwrap()];
            let nearest = |day: &jiff::civil::Date| (ms(day.to_datetime(time)) - now.as_millisecond()).abs();
            ms(days.into_iter().min_by_key(nearest).unwrap().to_datetime(time))
        }
        Stamp::Uptime(_) => panic!("no time: {}", read.stamp),
    };
    (read.chip.to_string(), at)
}

fn crossings_of(sim: &SimDecoder) -> Vec<Crossing> {
    sim.reads().iter().map(crossing).collect()
}

/// A box with one decoder, and that decoder.
struct Site {
    way: EndToEnd,
    token: String,
    sim: SimDecoder,
    links: watch::Receiver<usize>,
}

impl Site {
    async fn new(case: &Case, faults: Vec<WireFault>) -> (Self, Daemon) {
        Self::in_zone(case, faults, TimeZone::UTC).await
    }

    /// The decoder's clock is in UTC, whatever the zone that is configured.
    async fn in_zone(case: &Case, faults: Vec<WireFault>, zone: TimeZone) -> (Self, Daemon) {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let config = |wiring| {
            // Its clock is right: a time of day has no other day.
            let start = TimeZone::UTC.to_datetime(Timestamp::now()).with().subsec_nanosecond(0).build().unwrap();
            let (faults, programmed, repeat) = (faults.clone(), case.programmed, Duration::from_millis(50));
            SimConfig { faults, start, programmed, repeat, ..SimConfig::new(case.kind, wiring) }
        };
        let (sim, daemon) = if case.kind.connects() {
            way.decoder(MAT, case.kind, Address::Listen(LOOPBACK)).set = case.set.clone();
            way.config.decoders[0].timezone = zone;
            let daemon = way.start().await;
            let address = daemon.listening[MAT];
            way.config.decoders[0].address = Address::Listen(address);
            (SimDecoder::start(config(Wiring::Connect(address))).await.unwrap(), daemon)
        } else {
            let sim = way.plug_as(MAT, config(Wiring::Listen(LOOPBACK))).await;
            way.config.decoders[0].set = case.set.clone();
            way.config.decoders[0].timezone = zone;
            (sim, way.start().await)
        };
        let links = sim.links();
        let mut site = Self { way, token, sim, links };
        site.linked().await;
        (site, daemon)
    }

    /// Waits for one link, if it is not there yet.
    async fn linked(&mut self) {
        let one = tokio::time::timeout(LIMIT, self.links.wait_for(|links| *links == 1)).await;
        one.unwrap_or_else(|_| panic!("{} is never linked", self.way.config.decoders[0].protocol.name)).unwrap();
    }

    /// Waits until what is linked now has ended and there is a new link.
    async fn linked_anew(&mut self) {
        tokio::time::timeout(LIMIT, self.links.changed()).await.expect("the link never ends").unwrap();
        self.linked().await;
    }

    fn stores(&self) -> bool {
        self.way.config.decoders[0].protocol.missed != Missed::Lost
    }

    /// Reads that happen while nobody listens, at a decoder that can be asked for them or repeats.
    fn missed(&self, count: u64) {
        if self.stores() {
            self.sim.push(count);
        }
    }

    async fn all_arrive(&self, daemon: &Daemon) {
        self.way.arrive(self.sim.reads().len(), daemon).await;
    }
}

/// Live; the cable is pulled; the box is switched off; live again.
async fn whole_way(case: Case) {
    let (mut site, daemon) = Site::new(&case, Vec::new()).await;
    // What happened before the first read of all belongs to nobody for some.
    site.sim.push(1);
    site.all_arrive(&daemon).await;
    site.sim.push(39);
    site.all_arrive(&daemon).await;
    if case.kind.spec().tells_clock {
        let offset = |snapshot: &Snapshot| snapshot.decoders[0].clock_offset_ms;
        let snapshot = shows(&daemon, "the decoder's clock", |snapshot| offset(snapshot).is_some()).await;
        // Cut to the second at its start; the rest is how long this took.
        assert!(offset(&snapshot).unwrap().abs() < 60_000, "{}: {:?}", case.kind.name(), offset(&snapshot));
    }
    site.links.mark_unchanged();
    site.sim.drop_links();
    site.missed(20);
    site.linked_anew().await;
    site.sim.push(20);
    site.all_arrive(&daemon).await;
    site.links.mark_unchanged();
    daemon.stop().await.unwrap();
    site.missed(20);
    let daemon = site.way.start().await;
    site.linked_anew().await;
    site.sim.push(20);
    site.all_arrive(&daemon).await;
    site.way.holds_in_some_order(&site.token, &crossings_of(&site.sim));
    assert_eq!(site.sim.forbidden(), [""; 0], "{}", case.kind.name());
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn every_read_of_every_decoder_in_the_registry_is_in_the_cloud_once() {
    together(cases().into_iter().map(whole_way)).await;
}

/// The clock of the decoder is in UTC, and the configuration says India.
async fn in_a_wrong_zone(case: Case) {
    let (site, daemon) = Site::in_zone(&case, Vec::new(), TimeZone::get("Asia/Kolkata").unwrap()).await;
    let (name, spec) = (case.kind.name(), case.kind.spec());
    // Just after the connection a live read may be one that was stored, and so are those that
    // follow one at once.
    for _ in 0..if spec.tells_utc { 5 } else { 20 } {
        site.sim.push(3);
        site.all_arrive(&daemon).await;
        let told = complains(&daemon, "decoder_clock_off");
        if tokio::time::timeout(Duration::from_millis(3500), told).await.is_ok() {
            break;
        }
    }
    let wall_time = site.sim.reads().iter().all(|read| !matches!(read.stamp, Stamp::Utc(_)));
    let snapshot = daemon.snapshot();
    let told = has_problem(&snapshot, "decoder_clock_off");
    assert_eq!(told, wall_time && !spec.tells_utc, "{name}: {snapshot:#?}");
    if wall_time && !spec.tells_utc {
        let message = complains(&daemon, "decoder_clock_off").await;
        assert!(
            message.contains("exactly 5 h 30 min behind") && message.contains("is the timezone right?"),
            "{message}"
        );
        let snapshot = shows(&daemon, "the time is wrong", |snapshot| snapshot.state == BoxState::TimeWrong).await;
        assert_eq!(
            snapshot.sentence, "finish-mat is exactly 5 h 30 min behind. Every time it sends is wrong.",
            "{name}"
        );
    }
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_zone_is_found_at_every_decoder_that_sends_wall_time() {
    together(cases().into_iter().map(in_a_wrong_zone)).await;
}

/// One read after the other over a line that cuts frames in half, adds noise, repeats and dribbles.
async fn over_a_bad_line(case: Case) {
    let faults = vec![
        WireFault::Cut { every: 25 },
        WireFault::Garbage { every: 7 },
        WireFault::Duplicate { every: 5 },
        WireFault::Bytewise,
    ];
    let name = case.kind.name();
    let (mut site, daemon) = Site::new(&case, faults).await;
    let mut cuts = 0;
    for _ in 0..40 {
        let before = site.way.cloud.stored();
        site.links.mark_unchanged();
        site.sim.push(1);
        tokio::select! {
            arrived = site.way.cloud.wait_for(before + 1, LIMIT) => assert!(arrived, "{name}: {:#?}", daemon.snapshot()),
            _ = site.links.changed() => {
                cuts += 1;
                site.linked().await;
            }
        }
    }
    assert!(cuts > 0, "{name}: the line is bad");
    let happened = crossings_of(&site.sim);
    if site.stores() {
        site.all_arrive(&daemon).await;
        site.way.holds_in_some_order(&site.token, &happened);
    } else {
        // A read that was cut in half is nowhere; all others are, and none twice.
        site.way.arrive(happened.len() - cuts, &daemon).await;
        shows(&daemon, "nothing waits", |snapshot| snapshot.journal.pending == 0).await;
        let stored = crossings(&site.way.cloud, &site.token);
        let distinct: BTreeSet<&Crossing> = stored.iter().collect();
        assert_eq!(distinct.len(), stored.len(), "{name}: none is there twice");
        assert!(stored.iter().all(|read| happened.contains(read)), "{name}: all of them happened");
        let kept: BTreeSet<String> = daemon.board().recent_reads(1000).into_iter().map(|read| read.chip).collect();
        let there: BTreeSet<String> = stored.iter().map(|(chip, _)| chip.clone()).collect();
        assert_eq!(kept, there, "{name}: what was kept is there");
        site.way.sound(&site.token);
    }
    assert!(daemon.snapshot().decoders[0].rejected > 0, "{name}: half frames and noise are kept as rejected");
    assert_eq!(site.sim.forbidden(), [""; 0], "{name}");
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn half_frames_noise_and_repeats_cost_no_read_but_one_that_was_cut_in_half_at_a_decoder_that_only_streams() {
    together(cases().into_iter().map(over_a_bad_line)).await;
}

/// A pty: the decoder's end, and the path that the box opens.
fn serial() -> (SerialStream, String) {
    let (decoder, ours) = SerialStream::pair().unwrap();
    let path = ours.name().unwrap();
    (decoder, path)
}

#[tokio::test]
async fn serial_lines_of_every_streaming_decoder_are_read() {
    let streams = |case: &Case| !case.kind.connects() && spec(case.kind.name()).unwrap().missed == Missed::Lost;
    together(cases().into_iter().filter(streams).filter(|case| case.kind != Kind::LLRP).map(async |case| {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let (decoder, path) = serial();
        let address = format!("serial://{path}?baud=38400&bits=8&parity=none&stop=1&flow=none");
        way.decoder(MAT, case.kind, address.parse().unwrap()).set = case.set;
        let daemon = way.start().await;
        shows(&daemon, "the port is open", |snapshot| snapshot.decoders[0].state == LinkState::Connected).await;
        let start = TimeZone::UTC.to_datetime(Timestamp::now()).with().subsec_nanosecond(0).build().unwrap();
        let wiring = Wiring::Port(Box::new(decoder));
        let sim = SimDecoder::start(SimConfig { start, ..SimConfig::new(case.kind, wiring) }).await.unwrap();
        links(&sim, 1).await;
        sim.push(50);
        way.arrive(50, &daemon).await;
        way.holds(&token, &crossings_of(&sim));
        assert_eq!(sim.forbidden(), [""; 0]);
        daemon.stop().await.unwrap();
    }))
    .await;
}

/// What a Timy with `CHK1` prints: number lines, the running time, an annulled impulse, a run time,
/// a damaged line.
#[tokio::test]
async fn a_timy_at_9600_baud_with_checksums_sends_its_impulses_and_nothing_else() {
    together(["none", "hardware"].map(checked_impulses)).await; // some programs turn RTS/CTS on
}

async fn checked_impulses(flow: &'static str) {
    let line = |text: &str| {
        assert_eq!(text.len(), 26);
        let sum: u8 = text.bytes().fold(0, u8::wrapping_add);
        [text.as_bytes(), &[0x30 + (sum >> 4), 0x30 + (sum & 15)]].concat()
    };
    let now = TimeZone::UTC.to_datetime(Timestamp::now()).with().subsec_nanosecond(0).build().unwrap();
    let time = format!("{:02}:{:02}:{:02}.1239", now.hour(), now.minute(), now.second());
    let mut damaged = line(&format!(" 0012 C1  {time} 00"));
    damaged[4] = b'3';
    let rows = [
        b"n0035".to_vec(),
        line(&format!(" 0035 C0  {time} 00")),
        b"12:34:56.7".to_vec(),
        line(&format!(" 0035 C1M {time} 00")),
        line(" 0035 RT  00:00:05.22   00"),
        damaged,
        format!(" 0013 C1  {time} 00").into_bytes(), // no checksum
        line(&format!("c0035 C1M {time} 00")),
        line(&format!("?0000 C1  {time} 00")),
    ];
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let (mut decoder, path) = serial();
    let address = format!("serial://{path}?baud=9600&bits=8&parity=none&stop=1&flow={flow}");
    way.decoder(MAT, Kind::TIMY, address.parse().unwrap()).set =
        Settings::from([("checksum".to_owned(), "true".to_owned())]);
    let daemon = way.start().await;
    shows(&daemon, "the port is open", |snapshot| snapshot.decoders[0].state == LinkState::Connected).await;
    // In pieces that end anywhere.
    let bytes: Vec<u8> = rows.iter().flat_map(|row| [row.as_slice(), b"\r"].concat()).collect();
    for piece in bytes.chunks(7) {
        decoder.write_all(piece).await.unwrap();
    }
    way.arrive(3, &daemon).await;
    let at = TimeZone::UTC.to_timestamp(now).unwrap().as_millisecond() + 123;
    way.holds(&token, &["35", "35", "?0"].map(|chip| (chip.to_owned(), at)));
    let snapshot = shows(&daemon, "two are rejected", |snapshot| snapshot.decoders[0].rejected == 2).await;
    assert_eq!(snapshot.decoders[0].reads, 3);
    daemon.stop().await.unwrap();
}

/// The reader connects to us, as it can be told to.
#[tokio::test]
async fn an_impinj_reader_that_connects_to_the_box_is_read() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    way.decoder(MAT, Kind::IMPINJ, Address::Listen(LOOPBACK));
    let daemon = way.start().await;
    let mut expected = Vec::new();
    for seed in [1, 2] {
        let stream = TcpStream::connect(daemon.listening[MAT]).await.unwrap();
        let wiring = Wiring::Port(Box::new(stream));
        let sim = SimDecoder::start(SimConfig { seed, ..SimConfig::new(Kind::IMPINJ, wiring) }).await.unwrap();
        links(&sim, 1).await;
        sim.push(40);
        expected.extend(crossings_of(&sim));
        way.arrive(expected.len(), &daemon).await;
        sim.stop().await; // the reader is restarted and connects anew
    }
    way.holds(&token, &expected);
    daemon.stop().await.unwrap();
}

/// As a timer writes it: a file with `[decoder.set]`.
#[tokio::test]
async fn lines_are_read_as_a_configuration_file_says() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let text = format!(
        r#"name = "finish"
data_dir = "{}"

[[decoder]]
name = "{MAT}"
protocol = "lines"
address = "tcp://{}"
timezone = "Europe/Madrid"

[decoder.set]
pattern = '^READ (?<chip>\w+) (?<date>\S+) (?<time>\S+) A(?<antenna>\d+) (?<rssi>-\d+) #(?<position>\d+)$'
date_format = "%d.%m.%Y"
ignore = '^(HELLO|ALIVE)'
"#,
        way.data().display(),
        listener.local_addr().unwrap()
    );
    let path = way.dir.path().join("passbridge.toml");
    std::fs::write(&path, text).unwrap();
    let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(path) };
    way.config.decoders = Config::load(&options).unwrap().config.decoders;
    let daemon = way.start().await;
    let (mut decoder, _) = listener.accept().await.unwrap();
    let lines = "HELLO\r\nREAD 00AB 25.10.2026 01:59:59.125 A3 -61 #1\r\nALIVE\r\nnonsense\r\n\
                 READ 00AB 31.02.2026 01:59:59.125 A3 -61 #2\r\nREAD 00AC 25.07.2026 10:00:00 A3 -61 #3\r\n";
    decoder.write_all(lines.as_bytes()).await.unwrap();
    way.arrive(2, &daemon).await;
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let expected = [("00AB", at("2026-10-24T23:59:59.125Z")), ("00AC", at("2026-07-25T08:00:00Z"))];
    way.holds(&token, &expected.map(|(chip, at)| (chip.to_owned(), at)));
    assert_eq!(daemon.snapshot().decoders[0].rejected, 2);
    daemon.stop().await.unwrap();
}

/// The older One4All dialect only streams: frames that end in `|`, and life signs.
#[tokio::test]
async fn the_older_one4all_dialect_goes_the_whole_way() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
    way.decoder(MAT, Kind::ONE4ALL, Address::Tcp { host, port }).set =
        Settings::from([("dialect".to_owned(), "v2".to_owned())]);
    let daemon = way.start().await;
    let frame = |chip: u32| format!("MC{chip:05}D20260617T100000{chip:03}T100001{chip:03}A1R034TV|");
    let (mut decoder, _) = listener.accept().await.unwrap();
    let first = format!("CONECTADO_7|{}{}{}", frame(1), frame(1), &frame(2)[..30]);
    decoder.write_all(first.as_bytes()).await.unwrap();
    way.arrive(1, &daemon).await;
    drop(decoder); // in the middle of a frame
    let (mut decoder, _) = listener.accept().await.unwrap();
    let again = format!("VOIDTAGD20260617T100000000T100000000A1R001TV|{}{}", frame(1), frame(3));
    decoder.write_all(again.as_bytes()).await.unwrap();
    way.arrive(2, &daemon).await;
    let at = "2026-06-17T10:00:01Z".parse::<Timestamp>().unwrap().as_millisecond();
    way.holds(&token, &[("MC00001".to_owned(), at + 1), ("MC00003".to_owned(), at + 3)]);
    assert_eq!(daemon.snapshot().decoders[0].rejected, 1, "the half frame");
    daemon.stop().await.unwrap();
}

/// What somebody at the decoder has it give again comes a second time to the box, and not to the
/// cloud; what the box had missed comes for the first time.
#[tokio::test]
async fn a_memory_that_is_given_by_hand_brings_what_was_missed_and_nothing_twice() {
    together(Kind::all().filter(|kind| kind.spec().given_by_hand).map(async |kind| {
        let case = Case { kind, set: kind.settings(), programmed: false };
        let (mut site, daemon) = Site::new(&case, Vec::new()).await;
        site.sim.push(30);
        site.all_arrive(&daemon).await;
        site.links.mark_unchanged();
        site.sim.drop_links();
        site.sim.push(30); // nobody listens
        site.linked_anew().await;
        site.sim.push(30);
        site.way.arrive(60, &daemon).await;
        site.sim.give_again();
        site.sim.push(10);
        site.all_arrive(&daemon).await;
        site.way.holds_in_some_order(&site.token, &crossings_of(&site.sim));
        assert!(keeps(&daemon, 60 + 100).await.decoders[0].reads >= 160, "kept as often as they came");
        daemon.stop().await.unwrap();
    }))
    .await;
}
