//! Decoders whose clock was never set, and such as have none: what times their reads get in the
//! cloud.

use std::time::Instant;

use jiff::Timestamp;
use passbridge::testing::config::Address;
use passbridge::testing::model::clock::Wall;
use passbridge::testing::sim::decoder::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::e2e::*;

/// What the box's clock shows, all the time.
const NOW: &str = "2026-11-29T10:00:00Z";

fn now_ms() -> i64 {
    NOW.parse::<Timestamp>().unwrap().as_millisecond()
}

/// A box that is connected to a decoder which says nothing of itself.
async fn connected(protocol: &str) -> (EndToEnd, String, passbridge::testing::daemon::Daemon, TcpStream) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
    way.decoder(MAT, Kind::from_name(protocol).unwrap(), Address::Tcp { host, port });
    let daemon = way.start_at(&Wall::scripted(NOW.parse().unwrap())).await;
    let (wire, _) = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    (way, token, daemon, wire)
}

fn parameter(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    [&(0x0400 | kind).to_be_bytes()[..], &(body.len() as u32 + 10).to_be_bytes(), &[0, 0, 0, 1], body].concat()
}

/// A reader accepts the box; `kind` of its clock: 128 UTC, 129 since it was switched on.
fn greeting(kind: u16, us: u64) -> Vec<u8> {
    let parts = [parameter(kind, &us.to_be_bytes()), parameter(256, &[0, 0])].concat();
    message(63, &parameter(246, &parts))
}

/// Tags that were seen first at these times; `kind`: 2 UTC, 3 since the reader was switched on.
fn report(kind: u8, times: &[u64]) -> Vec<u8> {
    let tag = |(number, us): (u8, &u64)| {
        parameter(240, &[&[0x8d][..], &[number; 12], &[0x80 | kind], &us.to_be_bytes()].concat())
    };
    message(61, &(1..).zip(times).flat_map(tag).collect::<Vec<u8>>())
}

/// A minute into the year 2000, in microseconds.
const UNSET_US: u64 = 946_684_860_000_000;

#[tokio::test]
async fn a_reader_that_counts_from_2000_is_placed_by_what_it_counts_after_its_greeting() {
    for (clock, seen, us) in [(128, 2, UNSET_US), (129, 3, 60_000_000)] {
        let begun = Instant::now();
        let (way, token, daemon, mut wire) = connected("llrp").await;
        wire.write_all(&greeting(clock, us)).await.unwrap();
        // Two were held by the reader before the box came, and one was seen after it.
        wire.write_all(&report(seen, &[us - 30_000_000, us - 10_000_000, us + 5_207_562])).await.unwrap();
        way.arrive(3, &daemon).await;
        let most = begun.elapsed().as_millis() as i64;
        let times: Vec<i64> = crossings(&way.cloud, &token).into_iter().map(|(_, ms)| ms - now_ms()).collect();
        assert_eq!((times[1] - times[0], times[2] - times[1]), (20_000, 15_207), "they keep their distance");
        assert!((5207 - most..=5207).contains(&times[2]), "{times:?}");
        complains(&daemon, "decoder_without_clock").await;
        way.sound(&token);
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn tags_with_an_uptime_alone_are_as_old_as_the_newest_of_their_report_says() {
    let (way, token, daemon, mut wire) = connected("llrp").await;
    wire.write_all(&greeting(128, 1_795_946_400_000_000)).await.unwrap();
    wire.write_all(&report(3, &[90_000_000, 110_000_000, 100_000_000])).await.unwrap();
    way.arrive(3, &daemon).await;
    let times: Vec<i64> = crossings(&way.cloud, &token).into_iter().map(|(_, ms)| ms - now_ms()).collect();
    assert_eq!(times, [-20_000, 0, -10_000]);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_counts_from_2004_tells_the_time_of_day() {
    let (way, token, daemon, mut wire) = connected("ipico").await;
    wire.write_all(b"aa00058003235b7001000401010035365676\r\n").await.unwrap();
    way.arrive(1, &daemon).await;
    let at: Timestamp = "2026-11-29T00:35:36.860Z".parse().unwrap();
    assert_eq!(crossings(&way.cloud, &token), [("058003235b70".to_owned(), at.as_millisecond())]);
    complains(&daemon, "decoder_clock_unset").await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_report_of_megabytes_arrives_as_a_whole_and_twice_a_tag_within_a_millisecond() {
    let (way, token, daemon, mut wire) = connected("llrp").await;
    wire.write_all(&greeting(128, 1_795_946_400_000_000)).await.unwrap();
    let first = 1_795_946_300_000_000_u64;
    let tag = |n: u64| {
        let times = [&[0x8d][..], &[(n / 2 % 200) as u8; 12], &[0x82], &(first + n * 400).to_be_bytes()].concat();
        parameter(240, &times)
    };
    let filler = parameter(1023, &[0; 60_000]);
    let body = [filler.repeat(20), (0..2000).flat_map(tag).collect(), filler].concat();
    wire.write_all(&message(61, &body)).await.unwrap();
    way.arrive(2000, &daemon).await;
    assert_eq!(keeps(&daemon, 2000).await.decoders[0].rejected, 0);
    way.sound(&token);
    daemon.stop().await.unwrap();
}
