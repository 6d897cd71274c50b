//! Two sources of one name behind one listening port: a main and a backup, each with a count of its
//! own.

use std::fs;

use passbridge::testing::config::Address;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};

use crate::support::e2e::*;

/// A box that listens for ChronoTrack sources, at the same place when it runs again.
async fn listening() -> (EndToEnd, String, Daemon) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    way.decoder(MAT, Kind::CHRONOTRACK, Address::Listen(LOOPBACK));
    let daemon = way.start().await;
    way.config.decoders[0].address = Address::Listen(daemon.listening[MAT]);
    (way, token, daemon)
}

async fn source(way: &EndToEnd, reader: &str, seed: u64) -> SimDecoder {
    let Address::Listen(address) = way.config.decoders[0].address else { panic!("it listens") };
    let sim = SimConfig::new(Kind::CHRONOTRACK, Wiring::Connect(address));
    SimDecoder::start(SimConfig { reader: reader.to_owned(), seed, ..sim }).await.unwrap()
}

/// What happened at both.
fn both(main: &SimDecoder, backup: &SimDecoder) -> Vec<Crossing> {
    [happened(main), happened(backup)].concat()
}

#[tokio::test]
async fn a_main_and_a_backup_with_one_location_name_lose_no_read_and_make_none_twice() {
    let (way, token, daemon) = listening().await;
    let main = source(&way, "0F2A38", 1).await;
    links(&main, 1).await;
    main.push(30);
    way.arrive(30, &daemon).await;
    // The backup has as many, stored before it was connected.
    let backup = source(&way, "117F37", 2).await;
    backup.push(30);
    way.arrive(60, &daemon).await;
    way.holds_in_some_order(&token, &both(&main, &backup));

    // Both go on; then the cable is out.
    main.push(5);
    backup.push(3);
    way.arrive(68, &daemon).await;
    for sim in [&main, &backup] {
        sim.set_online(false);
        links(sim, 0).await;
    }
    main.push(20);
    backup.push(4); // fewer than the main one held before
    for sim in [&main, &backup] {
        sim.set_online(true);
    }
    way.arrive(92, &daemon).await;

    // The box is off; the backup is begun anew, and counts on past the main one.
    daemon.stop().await.unwrap();
    main.push(10);
    backup.clear();
    backup.push(80);
    let daemon = way.start().await;
    way.arrive(182, &daemon).await;
    main.push(2);
    backup.push(2);
    way.arrive(186, &daemon).await;
    way.holds_in_some_order(&token, &both(&main, &backup));
    assert_eq!([main.forbidden(), backup.forbidden()].concat(), [""; 0]);
    assert!(!has_problem(&daemon.snapshot(), "two_sources_one_location"));
    daemon.stop().await.unwrap();
}

/// The log of a version that did not keep the reader as a part of the place: its lines without it,
/// each with its checksum.
fn without_readers(data: &std::path::Path) -> usize {
    let mut changed = 0;
    for entry in fs::read_dir(data.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let mut out = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let place: &[u8] = b"file='0F2A38;";
            let at = line.windows(place.len()).position(|window| window == place);
            let Some(at) = at.filter(|_| line.ends_with(b"\n")) else {
                out.extend_from_slice(line);
                continue;
            };
            let content = [&line[..at], &line[at + place.len()..line.len() - 10]].concat(); // tab, checksum, line end
            out.extend_from_slice(&content);
            out.extend_from_slice(format!("\t{:08x}\n", crc32fast::hash(&content)).as_bytes());
            changed += 1;
        }
        fs::write(&path, out).unwrap();
    }
    for derived in ["queue", "known"] {
        fs::remove_dir_all(data.join(derived)).unwrap();
    }
    changed
}

#[tokio::test]
async fn reads_that_a_version_kept_without_their_reader_are_not_sent_again_after_the_upgrade() {
    let (way, token, daemon) = listening().await;
    let main = source(&way, "0F2A38", 1).await;
    links(&main, 1).await;
    main.push(40);
    way.arrive(40, &daemon).await;
    daemon.stop().await.unwrap();
    assert_eq!(without_readers(way.data()), 40);
    main.push(7);
    let daemon = way.start().await;
    way.arrive(47, &daemon).await;
    // All of it was asked for once more, and known.
    shows(&daemon, "it is known", |snapshot| snapshot.journal.duplicates >= 40).await;
    // The backup that was taken for the main one then.
    let backup = source(&way, "117F37", 2).await;
    backup.push(40);
    way.arrive(87, &daemon).await;
    main.push(1);
    way.arrive(88, &daemon).await;
    way.holds_in_some_order(&token, &both(&main, &backup));
    daemon.stop().await.unwrap();
    // And once is enough.
    let daemon = way.start().await;
    main.push(1);
    way.arrive(89, &daemon).await;
    assert!(daemon.snapshot().decoders[0].reads < 20, "not all of it again");
    way.holds_in_some_order(&token, &both(&main, &backup));
    daemon.stop().await.unwrap();
}
