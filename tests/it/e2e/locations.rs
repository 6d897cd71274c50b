//! Timing points that go to devices of their own, from one connection.

use passbridge::testing::config::Address;
use passbridge::testing::sim::cloud::DEVICE;
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use passbridge::testing::status::{Snapshot, UploadState};
use serde_json::Value;
use std::time::Duration;

use crate::support::e2e::*;

const LOCATIONS: [&str; 3] = ["Start", "10 km", "Finish"];
const START: &str = "5742";
const FINISH: &str = "F141";

/// A box that listens for a source with three timing points: one goes to `START`, one to `FINISH`,
/// one is not in the table.
struct Split {
    way: EndToEnd,
    sim: SimDecoder,
    /// Sessions of Start, 10 km and Finish.
    tokens: [String; 3],
}

impl Split {
    async fn new(kind: Kind) -> (Self, passbridge::testing::daemon::Daemon) {
        let mut way = EndToEnd::new().await;
        let device = |device: &str| {
            way.cloud.configure(|cloud| cloud.devices.push((device.to_owned(), device.to_owned())));
            way.cloud.open_session(device, device)
        };
        let (start, finish) = (device(START), device(FINISH));
        let tokens = [start, way.session(), finish];
        let decoder = way.decoder(MAT, kind, Address::Listen(LOOPBACK));
        decoder.locations =
            [("Start", START), ("Finish", FINISH)].map(|(name, device)| (name.to_owned(), device.to_owned())).into();
        let daemon = way.start().await;
        let address = daemon.listening[MAT];
        way.config.decoders[0].address = Address::Listen(address);
        let sim = SimConfig {
            locations: LOCATIONS.map(str::to_owned).to_vec(),
            repeat: Duration::from_secs(1), // a repeat counts as a read, so no acknowledgement may be late
            ..SimConfig::new(kind, Wiring::Connect(address))
        };
        let sim = SimDecoder::start(sim).await.unwrap();
        (Self { way, sim, tokens }, daemon)
    }

    /// Each session holds the reads of its location, each once.
    fn holds(&self) {
        for (location, token) in LOCATIONS.iter().zip(&self.tokens) {
            self.way.holds_in_some_order(token, &happened_in("UTC", &self.sim.reads_at(location)));
        }
    }

    async fn arrive(&self, n: usize, daemon: &passbridge::testing::daemon::Daemon) {
        self.way.arrive(n, daemon).await;
        self.holds();
    }
}

async fn each_location_goes_to_its_device(kind: Kind) {
    let (split, daemon) = Split::new(kind).await;
    split.sim.push(95);
    split.arrive(95, &daemon).await;
    let snapshot = shows(&daemon, "all are counted", |snapshot| snapshot.decoders[0].reads >= 95).await;
    let counted: Vec<_> = snapshot.decoders[0].locations.iter().map(|(name, reads)| (&**name, *reads)).collect();
    let at = |location: &str| split.sim.reads_at(location).len() as u64;
    assert_eq!(counted, [("Finish", at("Finish")), ("Start", at("Start"))]);
    assert_eq!((at("Start"), at("10 km"), at("Finish")), (35, 30, 30));
    let names: std::collections::BTreeSet<_> =
        daemon.board().recent_reads(1000).into_iter().map(|read| read.decoder).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["finish-mat", "finish-mat/Finish", "finish-mat/Start"]);

    // The cable is out, then the box is off.
    split.sim.drop_links();
    split.sim.push(40);
    split.arrive(135, &daemon).await;
    daemon.stop().await.unwrap();
    split.sim.push(60);
    let daemon = split.way.start().await;
    split.sim.push(5);
    split.arrive(200, &daemon).await;
    assert_eq!(split.sim.forbidden(), [""; 0]);
    let problems = daemon.snapshot().problems;
    assert!(!problems.iter().any(|problem| problem.code == "reads_without_decoder"), "{problems:?}");
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn each_location_of_a_mylaps_exporter_goes_to_its_device() {
    each_location_goes_to_its_device(Kind::MYLAPS).await;
}

#[tokio::test]
async fn each_location_of_a_chronotrack_source_goes_to_its_device() {
    each_location_goes_to_its_device(Kind::CHRONOTRACK).await;
}

#[tokio::test]
async fn after_an_outage_each_chronotrack_location_goes_on_at_its_own_number() {
    let (split, daemon) = Split::new(Kind::CHRONOTRACK).await;
    split.sim.push(95);
    split.arrive(95, &daemon).await;
    daemon.stop().await.unwrap();
    let daemon = split.way.start().await;
    split.sim.push(30);
    split.arrive(125, &daemon).await;
    // The last read of each location comes twice, nothing else does.
    keeps(&daemon, 33).await;
    assert_eq!(daemon.snapshot().decoders[0].reads, 33);
    daemon.stop().await.unwrap();
}

/// What is acknowledged is on the disk, whatever source it is in.
#[tokio::test]
async fn a_mylaps_message_is_acknowledged_when_the_reads_of_all_its_locations_are_kept() {
    let (mut split, daemon) = Split::new(Kind::MYLAPS).await;
    split.sim.push(1000);
    for read in 1..=10 {
        acked(&split.sim, 100 * read).await;
        let kept = kept(&split.way).await;
        for read in split.sim.acked() {
            let happened = (read.chip.to_string(), read.stamp.to_string());
            assert!(kept.contains(&happened), "{happened:?} was acknowledged and is not in the log");
        }
    }
    daemon.stop().await.unwrap();
    split.way.config.decoders[0].locations.clear();
}

/// Chip and stamp of the reads in the log.
async fn kept(way: &EndToEnd) -> std::collections::HashSet<(String, String)> {
    let rows = export(way, None);
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let reads = rows.iter().filter(|row| row["kind"] == "read");
    reads.map(|row| (text(row, "chip"), text(row, "decoder_time"))).collect()
}

fn export(way: &EndToEnd, decoder: Option<&str>) -> Vec<Value> {
    use passbridge::testing::export::{Format, Query, Reading};
    let zones = way.config.decoders.iter().map(|decoder| (decoder.name.as_str().into(), decoder.timezone.clone()));
    let reading = Reading { zones: zones.collect(), tag: way.config.passing.tag, shown_in: None, spreadsheet: false };
    let query = Query { durable: u64::MAX, decoder: decoder.map(str::to_owned), ..Query::default() };
    let mut out = Vec::new();
    passbridge::testing::export::export(way.data(), &reading, Format::Jsonl, &query, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_location_taken_out_of_the_table_loses_no_read_and_sends_none_twice() {
    for kind in [Kind::CHRONOTRACK, Kind::MYLAPS] {
        let (mut split, daemon) = Split::new(kind).await;
        split.sim.push(90);
        split.arrive(90, &daemon).await;
        // Reads of Start are kept and not sent: its session is over.
        split.way.cloud.close_session(&split.tokens[0]);
        split.sim.push(30);
        let waits = |snapshot: &Snapshot| snapshot.uploads.iter().any(|upload| upload.state == UploadState::NoSession);
        shows(&daemon, "a session is missing", waits).await;
        split.sim.push(120);
        keeps(&daemon, 240).await;
        if kind == Kind::MYLAPS {
            acked(&split.sim, 240).await; // it repeats, so 240 may be fewer
        }
        split.way.arrive(190, &daemon).await;
        daemon.stop().await.unwrap();

        split.way.config.decoders[0].locations.remove("Start");
        let daemon = split.way.start().await;
        let message = complains(&daemon, "reads_without_decoder").await;
        assert!(message.contains("location `Start` of decoder `finish-mat`"), "{message}");
        split.sim.push(30);
        // Start's next ten go to the default device now; what comes a second time is known.
        split.way.arrive(220, &daemon).await;
        let start = happened_in("UTC", &split.sim.reads_at("Start"));
        assert_eq!(crossings(&split.way.cloud, &split.tokens[0]).len(), 30);
        let default = crossings(&split.way.cloud, &split.tokens[1]);
        let of_start: Vec<_> = default.into_iter().filter(|crossing| start.contains(crossing)).collect();
        assert_eq!(of_start, start[80..], "only what was never sent");
        daemon.stop().await.unwrap();

        // Back in the table: what waited goes where it belongs.
        split.way.config.decoders[0].locations.insert("Start".to_owned(), START.to_owned());
        let again = split.way.cloud.open_session(START, "again");
        let daemon = split.way.start().await;
        split.way.arrive(270, &daemon).await;
        split.way.holds(&again, &start[30..80]);
        let sources: Vec<_> = export(&split.way, Some("finish-mat/Start"))
            .into_iter()
            .map(|row| (row["decoder"].clone(), row["location"].clone()))
            .collect();
        assert!(
            sources.len() >= 80 && sources.iter().all(|source| *source == ("finish-mat/Start".into(), "Start".into()))
        );
        assert!(export(&split.way, Some(MAT)).len() >= 270, "a decoder's export has all of its sources");
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_device_of_the_table_and_that_of_the_decoder_may_be_the_same() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let decoder = way.decoder(MAT, Kind::CHRONOTRACK, Address::Listen(LOOPBACK));
    decoder.locations = [("Finish".to_owned(), DEVICE.to_owned())].into();
    let daemon = way.start().await;
    let locations = LOCATIONS.map(str::to_owned).to_vec();
    let sim = SimConfig { locations, ..SimConfig::new(Kind::CHRONOTRACK, Wiring::Connect(daemon.listening[MAT])) };
    let sim = SimDecoder::start(sim).await.unwrap();
    sim.push(100);
    way.arrive(100, &daemon).await;
    way.holds_in_some_order(&token, &happened(&sim));
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_chronotrack_source_that_counts_from_the_start_again_hides_no_new_read_at_any_location() {
    let (split, daemon) = Split::new(Kind::CHRONOTRACK).await;
    split.sim.push(300);
    split.arrive(300, &daemon).await;
    split.sim.clear(); // while we listen
    split.sim.push(60);
    split.arrive(360, &daemon).await;
    let message = complains(&daemon, "decoder_restarted").await;
    assert!(message.contains("counts from the start again"), "{message}");
    daemon.stop().await.unwrap();
    // While the box is off. Only the next read of each location shows it: from what was asked for
    // on there is nothing.
    split.sim.clear();
    split.sim.push(30);
    let daemon = split.way.start().await;
    links(&split.sim, 1).await;
    while !split.way.cloud.wait_for(361, Duration::from_millis(20)).await {
        assert!(split.sim.reads().len() < 20_000, "nothing new arrives: {:#?}", daemon.snapshot());
        split.sim.push(30);
    }
    split.arrive(split.sim.reads().len(), &daemon).await;
    // What is held is that of the new count: nothing but the last of each comes again.
    daemon.stop().await.unwrap();
    let daemon = split.way.start().await;
    split.sim.push(30);
    keeps(&daemon, 33).await;
    split.arrive(split.sim.reads().len(), &daemon).await;
    assert_eq!(daemon.snapshot().decoders[0].reads, 33);
    daemon.stop().await.unwrap();
}
