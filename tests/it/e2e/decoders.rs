//! Every kind of decoder, from its wire to the cloud.

use std::path::Path;
use std::time::Duration;

use passbridge::testing::config::Address;
use passbridge::testing::link::capture::{CaptureReader, Direction, What};
use passbridge::testing::sim::decoder::{Kind, ReadSource, SimConfig, SimDecoder, WireFault, Wiring};
use passbridge::testing::status::LinkState;
use tokio_serial::{SerialPort, SerialStream};

use crate::support::e2e::*;
use crate::support::recording;

/// A race at a decoder in Madrid, in pieces: stored before the box came, and live.
async fn race_in_madrid(kind: Kind, faults: Vec<WireFault>) {
    let twice = faults.iter().any(|fault| matches!(fault, WireFault::Duplicate { .. }));
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = SimConfig { faults, ..SimConfig::new(kind, Wiring::Listen(LOOPBACK)) };
    let sim = way.plug_as(MAT, sim).await;
    way.config.decoders[0].timezone = jiff::tz::TimeZone::get("Europe/Madrid").unwrap();
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(70);
    way.arrive(70, &daemon).await;
    sim.push(1);
    way.arrive(71, &daemon).await;
    sim.push(49);
    way.arrive(120, &daemon).await;

    let expected = happened_in("Europe/Madrid", &sim.reads());
    assert!(expected[0].1 >= 1_781_683_200_000, "10:00 in Madrid is 08:00 UTC in summer");
    assert!(expected[0].1 < 1_781_683_300_000, "10:00 in Madrid is 08:00 UTC in summer");
    way.holds(&token, &expected);
    for passing in way.cloud.passings(&token) {
        assert_eq!(passing.chip.as_ref(), Some(&passing.bib), "without a bib file the chip code is the bib");
    }
    assert_eq!(sim.forbidden(), [""; 0], "nothing that changes a decoder was sent to it");
    let snapshot = shows(&daemon, "120 are sent", |snapshot| snapshot.uploads[0].sent == 120).await;
    // What the wire brings twice is kept twice, and sent once.
    assert!(if twice { snapshot.decoders[0].reads > 120 } else { snapshot.decoders[0].reads == 120 });
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn every_read_of_a_race_result_decoder_is_in_the_cloud_once() {
    race_in_madrid(Kind::RACE_RESULT, Vec::new()).await;
}

#[tokio::test]
async fn every_read_of_a_one4all_decoder_is_in_the_cloud_once() {
    race_in_madrid(Kind::ONE4ALL, Vec::new()).await;
}

#[tokio::test]
async fn every_read_of_an_ipico_reader_is_in_the_cloud_once() {
    race_in_madrid(Kind::IPICO, Vec::new()).await;
}

#[tokio::test]
async fn noise_bytes_one_by_one_and_frames_sent_twice_cost_no_read_and_make_none() {
    for kind in [Kind::RACE_RESULT, Kind::ONE4ALL, Kind::IPICO] {
        race_in_madrid(
            kind,
            vec![WireFault::Garbage { every: 7 }, WireFault::Duplicate { every: 5 }, WireFault::Bytewise],
        )
        .await;
    }
}

#[tokio::test]
async fn every_read_of_a_mylaps_exporter_is_in_the_cloud_once_in_both_versions() {
    for version in ["1", "2"] {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        way.decoder(MAT, Kind::MYLAPS, Address::Listen(LOOPBACK));
        way.config.decoders[0].timezone = jiff::tz::TimeZone::get("Europe/Madrid").unwrap();
        way.config.decoders[0].set = [("version".to_owned(), version.to_owned())].into();
        let daemon = way.start().await;
        let sim = SimConfig::new(Kind::MYLAPS, Wiring::Connect(daemon.listening[MAT]));
        let sim = SimDecoder::start(sim).await.unwrap();
        sim.push(230);
        acked(&sim, 230).await;
        sim.push(7);
        way.arrive(237, &daemon).await;
        acked(&sim, 237).await;
        way.holds(&token, &happened_in("Europe/Madrid", &sim.reads()));
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn reads_on_a_serial_line_are_in_the_cloud_once() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let (decoder, ours) = SerialStream::pair().unwrap();
    let path = ours.name().unwrap();
    drop(ours);
    let address = format!("serial://{path}?baud=9600&bits=8&parity=none&stop=1&flow=none");
    way.decoder(MAT, Kind::IPICO, address.parse().unwrap());
    let daemon = way.start().await;
    shows(&daemon, "the port is open", |snapshot| snapshot.decoders[0].state == LinkState::Connected).await;
    let sim = SimDecoder::start(SimConfig::new(Kind::IPICO, Wiring::Port(Box::new(decoder)))).await.unwrap();
    links(&sim, 1).await;
    sim.push(100);
    way.arrive(100, &daemon).await;
    way.holds(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

/// Plays the rows of a capture of this repository.
#[tokio::test]
async fn a_capture_with_damaged_frames_goes_the_whole_way_and_its_good_reads_arrive() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decoders/ipico/captures/ipico.capture");
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut bytes = Vec::new();
    for record in CaptureReader::new(file).unwrap() {
        if let What::Bytes(Direction::From, piece) = record.unwrap().what {
            bytes.extend(piece);
        }
    }
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let mut sim = SimConfig::new(Kind::IPICO, Wiring::Listen(LOOPBACK));
    let rows = Kind::IPICO.rows(&bytes);
    let count = rows.len() as u64;
    sim.source = ReadSource::Recording(rows);
    let sim = way.plug_as(MAT, sim).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(count);
    let reads = sim.reads();
    let different: std::collections::BTreeSet<_> =
        reads.iter().map(|read| (&read.chip, read.stamp.to_string())).collect();
    assert!(different.len() > 5, "the capture has reads");
    way.arrive(different.len(), &daemon).await;
    let chips = |list: Vec<String>| {
        let mut list = list;
        list.sort();
        list
    };
    let expected = different.iter().map(|(chip, _)| chip.to_string()).collect();
    assert_eq!(chips(crossings(&way.cloud, &token).into_iter().map(|(chip, _)| chip).collect()), chips(expected));
    way.sound(&token);
    shows(&daemon, "frames were rejected", |snapshot| snapshot.decoders[0].rejected > 0).await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_whole_recorded_session_is_in_the_cloud_once_and_in_order() {
    let file = "one4all-20191212-090206.csv";
    let Some(bytes) = recording("a_whole_recorded_session_is_in_the_cloud_once_and_in_order", file) else { return };
    let mut way = EndToEnd::new().await;
    let token = way.session();
    way.config.upload.batch_max = 100;
    let mut sim = SimConfig::new(Kind::ONE4ALL, Wiring::Listen(LOOPBACK));
    sim.source = ReadSource::Recording(Kind::ONE4ALL.rows(&bytes));
    let sim = way.plug_as(MAT, sim).await;
    let daemon = way.start().await;
    sim.push(1460);
    way.arrive(1460, &daemon).await;
    let expected = happened(&sim);
    assert_eq!(expected.len(), 1460);
    way.holds(&token, &expected);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_mylaps_exporter_that_repeats_after_a_cut_or_a_restart_of_the_box_makes_nothing_twice() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let (daemon, sim) = way.start_with_exporter(Duration::from_millis(50)).await;
    sim.push(100);
    acked(&sim, 100).await;
    // Cut while messages fly: some arrive without their acks.
    for _ in 0..3 {
        sim.push(500);
        sim.drop_links();
        links(&sim, 1).await;
    }
    acked(&sim, 1600).await;
    way.arrive(1600, &daemon).await;
    // Stopped while messages fly.
    sim.push(500);
    daemon.stop().await.unwrap();
    sim.push(100);
    let daemon = way.start().await;
    acked(&sim, 2200).await;
    way.arrive(2200, &daemon).await;
    way.holds_in_some_order(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_acknowledged_only_with_all_of_it_in_the_log_and_a_problem() {
    let mut way = EndToEnd::new().await;
    way.decoder(MAT, Kind::MYLAPS, Address::Listen(LOOPBACK));
    way.session();
    let daemon = way.start().await;
    let mut wire = tokio::net::TcpStream::connect(daemon.listening[MAT]).await.unwrap();
    let unread = format!("t=99:00:00.000|c=A|n={}", "y".repeat(3000));
    let message = format!("F@Passing@{unread}@t=1:00:00.000|c=B|d=260617@7@$");
    tokio::io::AsyncWriteExt::write_all(&mut wire, message.as_bytes()).await.unwrap();
    let ack = b"passbridge@AckPassing@7@$";
    let mut said = vec![0; ack.len()];
    let read = tokio::io::AsyncReadExt::read_exact(&mut wire, &mut said);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    assert_eq!(said, ack);
    let log = std::fs::read_dir(way.data().join("log")).unwrap().map(|entry| entry.unwrap().path());
    let lines: String = log.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect();
    assert!(lines.contains(&unread), "what was acknowledged is on the disk to its last byte");
    let message = complains(&daemon, "decoder_record_unread").await;
    assert!(message.contains("field:time"), "{message}");
    drop(wire);
    way.arrive(1, &daemon).await;
    assert!(has_problem(&daemon.snapshot(), "decoder_record_unread"), "it stays: the record never comes again");
    daemon.stop().await.unwrap();
}
