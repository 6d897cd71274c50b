//! What happened while the cable was out or the box off, at decoders that can be asked again.

use std::time::Duration;

use passbridge::testing::config::Address;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::decoders::Range;
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};

use crate::support::e2e::*;

/// Those with files or sessions.
fn with_files() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| kind.begins_files())
}

/// Those that are connected to and give again what they stored.
fn storing() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| kind.stores() && !kind.connects())
}

/// A box and its decoder, whose first 30 reads arrived.
async fn begun(kind: Kind) -> (EndToEnd, String, SimDecoder, Daemon) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = way.plug(kind).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(30);
    way.arrive(30, &daemon).await;
    (way, token, sim, daemon)
}

#[tokio::test]
async fn reads_made_while_the_cable_was_out_arrive_once() {
    for kind in storing() {
        let (way, token, sim, daemon) = begun(kind).await;
        sim.set_online(false);
        links(&sim, 0).await;
        sim.push(40);
        sim.set_online(true);
        links(&sim, 1).await;
        sim.push(5); // live, perhaps before the hole is filled
        way.arrive(75, &daemon).await;
        way.holds_in_some_order(&token, &happened(&sim));
        assert_eq!(daemon.snapshot().decoders[0].dropped, 0);
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_hole_behind_reads_that_are_held_already_is_filled() {
    for kind in with_files() {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let sim = way.plug_with(kind, 30).await;
        way.config.decoders[0].rewind = false; // live reads only
        let daemon = way.start().await;
        while !way.cloud.wait_for(1, Duration::from_millis(20)).await {
            sim.push(1); // until the decoder was asked to push
        }
        daemon.stop().await.unwrap();
        let live = crossings(&way.cloud, &token);
        assert!(!live.contains(&happened(&sim)[0]), "nothing stored was asked for");

        way.config.decoders[0].rewind = true;
        let daemon = way.start().await;
        way.arrive(sim.reads().len(), &daemon).await;
        way.holds_in_some_order(&token, &happened(&sim));
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn reads_made_while_the_box_was_off_arrive_once() {
    for kind in storing() {
        let (way, token, sim, daemon) = begun(kind).await;
        daemon.stop().await.unwrap();
        sim.push(300);
        let daemon = way.start().await;
        links(&sim, 1).await;
        sim.push(5);
        way.arrive(335, &daemon).await;
        daemon.stop().await.unwrap();
        // Nothing happened: the decoder is asked for nothing that is held.
        let daemon = way.start().await;
        links(&sim, 1).await;
        sim.push(1);
        way.arrive(336, &daemon).await;
        // The last one held is asked for again, to compare it; the new read may come as an answer,
        // too.
        let most = 3;
        assert!(daemon.snapshot().decoders[0].reads <= most, "what is held is not fetched again");
        way.holds_in_some_order(&token, &happened(&sim));
        daemon.stop().await.unwrap();
    }
}

/// The box was off for the first part, is on for the second.
async fn a_change_at_the_decoder(kind: Kind, change: fn(&SimDecoder), lost: usize) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = way.plug_with(kind, 30).await;
    let daemon = way.start().await;
    way.arrive(30, &daemon).await;
    daemon.stop().await.unwrap();
    sim.push(20);
    change(&sim);
    sim.push(12);
    let daemon = way.start().await;
    way.arrive(62 - lost, &daemon).await;
    sim.push(8);
    way.arrive(70 - lost, &daemon).await;
    let mut expected = happened(&sim);
    expected.drain(30..30 + lost);
    way.holds_in_some_order(&token, &expected);
    assert_eq!(sim.forbidden(), [""; 0]);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_file_begun_while_the_box_was_off_costs_no_read_of_the_old_one() {
    for kind in with_files() {
        a_change_at_the_decoder(kind, SimDecoder::new_file, 0).await;
    }
}

#[tokio::test]
async fn a_decoder_that_was_cleared_and_counts_from_one_again_hides_no_new_read() {
    for kind in with_files() {
        // The 20 that nobody had fetched are gone with the file; that is not the box's doing.
        a_change_at_the_decoder(kind, SimDecoder::clear, 20).await;
    }
}

#[tokio::test]
async fn a_new_file_begun_while_the_link_is_up_costs_no_read() {
    for kind in with_files() {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let sim = way.plug_with(kind, 30).await;
        let daemon = way.start().await;
        way.arrive(30, &daemon).await;
        sim.new_file();
        sim.push(12);
        way.arrive(42, &daemon).await;
        way.holds(&token, &happened(&sim));
        daemon.stop().await.unwrap();
    }
}

/// A box with a decoder of this kind; one that connects finds the box at the same place when it
/// runs again.
async fn plugged(way: &mut EndToEnd, kind: Kind) -> (SimDecoder, Daemon) {
    if !kind.connects() {
        let sim = way.plug(kind).await;
        return (sim, way.start().await);
    }
    way.decoder(MAT, kind, Address::Listen(LOOPBACK));
    let daemon = way.start().await;
    let address = daemon.listening[MAT];
    way.config.decoders[0].address = Address::Listen(address);
    let repeat = Duration::from_millis(50);
    let sim = SimConfig { repeat, ..SimConfig::new(kind, Wiring::Connect(address)) };
    (SimDecoder::start(sim).await.unwrap(), daemon)
}

#[tokio::test]
async fn whatever_was_cleared_new_reads_come_and_the_whole_memory_given_again_brings_none_twice() {
    // All whose memory is cleared at the device, and that count from 1 then.
    for kind in Kind::all().filter(|kind| kind.stores()) {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let (sim, daemon) = plugged(&mut way, kind).await;
        links(&sim, 1).await;
        sim.push(1);
        way.arrive(1, &daemon).await; // it streams
        sim.push(29);
        way.arrive(30, &daemon).await;
        sim.clear(); // while we listen
        sim.push(20);
        way.arrive(50, &daemon).await;
        daemon.stop().await.unwrap();
        sim.clear(); // while nobody does
        sim.push(12);
        let daemon = way.start().await;
        links(&sim, 1).await;
        while !way.cloud.wait_for(51, Duration::from_millis(20)).await {
            sim.push(1); // some show it by their next read only
        }
        sim.push(3);
        way.arrive(sim.reads().len(), &daemon).await;
        // All that is in its memory, from its first number on, until the box has had it.
        let all = sim.reads().len() - 50;
        let range = Range { unit: None, file: None, from: 1, to: all as u64 };
        let ask = async || {
            let order = ControlRequest::Rewind { decoder: MAT.into(), range: range.clone() };
            control::ask(way.data(), order).await.unwrap()["answer"] == "asked"
        };
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await; // what it is asked for by itself comes first
        }
        shows(&daemon, "it is known", |snapshot| snapshot.journal.duplicates >= all as u64).await;
        sim.push(2);
        way.arrive(sim.reads().len(), &daemon).await;
        way.holds_in_some_order(&token, &happened(&sim));
        assert_eq!(sim.forbidden(), [""; 0]);
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_cloudbox_is_rewound_to_at_the_box_is_known_whatever_it_is_numbered() {
    let row = |chip: u32, number: u32| {
        format!(
            r#"{{"timestamp":"2026-05-03;10:00:{chip:02}.250","seenCount":3,"antenna":1,"rssi":-50,"passingNumber":{number},"tagStr":"MC{chip:05}","latitude":null,"longitude":null,"chksum":"00000"}}"#
        )
    };
    let live = (1..=20).map(|chip| row(chip, chip));
    let rewound = (5..=20).map(|chip| row(chip, 100 + chip));
    let rows: Vec<String> = live.chain(rewound).chain([row(30, 200)]).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = way.plug_as(MAT, recording(Kind::CLOUDBOX, &rows)).await;
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(20);
    way.arrive(20, &daemon).await;
    daemon.stop().await.unwrap();
    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(17);
    way.arrive(21, &daemon).await;
    shows(&daemon, "the repeats are counted", |snapshot| snapshot.journal.duplicates == 16).await;
    let mut chips: Vec<String> = crossings(&way.cloud, &token).into_iter().map(|(chip, _)| chip).collect();
    chips.sort();
    assert_eq!(chips, (1..=20).chain([30]).map(|chip| format!("MC{chip:05}")).collect::<Vec<_>>());
    daemon.stop().await.unwrap();
}
