//! Decoders that send no date, or only how long they have been on: the same chips at the same time
//! of another day, in another life of the decoder, and out of a memory that is printed late.
//!
//! The box's clock stands where a test sets it before it starts the box.

use std::time::Duration;

use passbridge::testing::config::Address;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::model::clock::Wall;
use passbridge::testing::sim::decoder::{DecoderHabit, Kind, ReadSource, SimConfig, SimDecoder, Wiring};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::e2e::*;

/// Chips that cross.
const CHIPS: usize = 20;

/// What a decoder sends for a chip at a tenth of a second after ten.
type Row = fn(usize) -> String;
/// Options of a protocol.
type Set = &'static [(&'static str, &'static str)];

fn sum(text: &str) -> u32 {
    text.bytes().map(u32::from).sum::<u32>() & 0xff
}

/// Protocols that can send no date, with their options and a row each.
const UNDATED: [(Kind, Set, Row); 5] = [
    (Kind::TIMY, &[], |n| format!(" {n:04} C1  10:00:0{}.{}000 00\r", n / 10, n % 10)),
    (Kind::JCHIP, &[], |n| format!("DJ4100{n:02} 10:00:0{}.{}000 10  00001      C7\r", n / 10, n % 10)),
    (Kind::LINES, &[("pattern", "^(?<chip>[0-9A-F]{4});(?<time>.+)$")], |n| {
        format!("A0{n:02};10:00:0{}.{}\r\n", n / 10, n % 10)
    }),
    (Kind::IPICO, &[], |n| {
        let text = format!("0005800013d1{n:02x}000100000010000{}{:02x}", n / 10, (n % 10) * 10);
        format!("aa{text}{:02x}\r\n", sum(&text))
    }),
    (Kind::MYLAPS, &[], |n| {
        let hello = if n == 0 { "Finish@Pong@$" } else { "" };
        format!("{hello}Finish@Passing@c=AB{n:05}|t=10:00:0{}.{}00|@{}@$", n / 10, n % 10, n + 1)
    }),
];

/// A box whose decoder connects to it.
async fn listening(kind: Kind, set: Set, dead_time: Duration) -> EndToEnd {
    let mut way = EndToEnd::new().await;
    way.config.passing.dead_time = dead_time;
    way.decoder(MAT, kind, Address::Listen(LOOPBACK)).set =
        set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    way
}

async fn send(daemon: &Daemon, row: Row) {
    let mut wire = TcpStream::connect(daemon.listening[MAT]).await.unwrap();
    let rows: String = (0..CHIPS).map(row).collect();
    wire.write_all(rows.as_bytes()).await.unwrap();
    wire.flush().await.unwrap();
    let before = daemon.snapshot().decoders[0].reads;
    keeps(daemon, before.max(1) / CHIPS as u64 * CHIPS as u64 + CHIPS as u64).await;
}

/// Ten seconds after ten, and a tenth for each chip.
fn crossed(token: &str, way: &EndToEnd, day: &str) -> usize {
    let first = format!("{day}T10:00:00Z").parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let here = |ms: i64| (first..first + 10_000).contains(&ms);
    crossings(&way.cloud, token).into_iter().filter(|(_, ms)| here(*ms)).count()
}

#[tokio::test]
async fn the_same_chips_at_the_same_time_of_day_on_day_two_are_uploaded_and_within_a_day_they_are_not() {
    let dead_times = [Duration::ZERO, Duration::from_secs(10)];
    together(UNDATED.into_iter().flat_map(|case| dead_times.map(|dead_time| (case, dead_time))).map(
        |((kind, set, row), dead_time)| async move {
            let way = listening(kind, set, dead_time).await;
            let token = way.session();
            for (day, time) in [("2026-06-17", "10:00:05Z"), ("2026-06-18", "10:00:05Z"), ("2026-06-20", "10:00:05Z")] {
                let wall = Wall::scripted(format!("{day}T{time}").parse().unwrap());
                let before = way.cloud.stored();
                let daemon = way.start_at(&wall).await;
                send(&daemon, row).await;
                way.arrive(before + CHIPS, &daemon).await;
                daemon.stop().await.unwrap();
                // In the evening of the day all of it is given once more.
                let wall = Wall::scripted(format!("{day}T22:00:00Z").parse().unwrap());
                let daemon = way.start_at(&wall).await;
                send(&daemon, row).await;
                let known =
                    |snapshot: &passbridge::testing::status::Snapshot| snapshot.journal.duplicates == CHIPS as u64;
                shows(&daemon, "all are known", known).await;
                daemon.stop().await.unwrap();
                assert_eq!(way.cloud.stored(), before + CHIPS, "{kind:?} {day}");
                assert_eq!(crossed(&token, &way, day), CHIPS, "{kind:?} {day}");
            }
        },
    ))
    .await;
}

#[tokio::test]
async fn a_memory_that_is_printed_thirteen_hours_after_the_start_has_the_times_of_the_start() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = way.plug(Kind::TIMY).await;
    sim.push(30); // nobody listens
    let wall = Wall::scripted("2026-06-17T23:00:05Z".parse().unwrap());
    let daemon = way.start_at(&wall).await;
    links(&sim, 1).await;
    sim.push(1); // what is printed is what was there when somebody says so, and who listens was there before
    keeps(&daemon, 1).await;
    sim.does(DecoderHabit::PrintMemory).await;
    way.arrive(31, &daemon).await;
    way.holds_in_some_order(&token, &happened_in("UTC", &dated(&sim)));
    complains(&daemon, "decoder_time_long_ago").await;
    daemon.stop().await.unwrap();
}

/// The reads of a Timy, on the day of the race.
fn dated(sim: &SimDecoder) -> Vec<passbridge::testing::sim::decoder::SimRead> {
    use passbridge::testing::model::chip::Stamp;
    let mut reads = sim.reads();
    for read in &mut reads {
        let Stamp::TimeOfDay { time, .. } = read.stamp else { panic!("{read:?}") };
        read.stamp = Stamp::Local(jiff::civil::date(2026, 6, 17).to_datetime(time));
    }
    reads
}

/// A report of a reader without a clock: a tag, milliseconds after it was switched on.
fn report(chip: usize, ms: u64) -> Vec<u8> {
    let mut tag = vec![0x8d, 0xe2, 0x80, 0x11, 0x60, 0x60, 0, 2, 5, 0x4c, 0, 0, chip as u8, 0x83];
    tag.extend((ms * 1000).to_be_bytes());
    let tag = [&[0, 240][..], &(tag.len() as u16 + 4).to_be_bytes(), &tag].concat();
    [&[4, 61][..], &(tag.len() as u32 + 10).to_be_bytes(), &7u32.to_be_bytes(), &tag].concat()
}

#[tokio::test]
async fn a_reader_without_a_clock_that_is_switched_off_and_on_hides_no_second_crossing() {
    for dead_time in [0, 10] {
        let mut way = EndToEnd::new().await;
        way.session();
        way.config.passing.dead_time = Duration::from_secs(dead_time);
        let life = |from: u64| (0..CHIPS).map(move |n| report(n, from + 100 * n as u64));
        let source = ReadSource::Recording(life(12_000).chain(life(9000)).chain(life(9000)).collect());
        let sim = SimConfig { source, programmed: true, ..SimConfig::new(Kind::LLRP, Wiring::Listen(LOOPBACK)) };
        let sim = way.plug_as(MAT, sim).await;
        let daemon = way.start().await;
        for count in 1..=3 {
            links(&sim, 1).await;
            sim.push(CHIPS as u64);
            way.arrive(count * CHIPS, &daemon).await;
            sim.drop_links();
            links(&sim, 0).await;
        }
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_is_rebooted_and_has_lost_its_clock_gives_every_read_once() {
    let mut way = EndToEnd::new().await;
    way.session();
    way.config.passing.dead_time = Duration::from_secs(10);
    let sim = SimConfig { programmed: true, ..SimConfig::new(Kind::LLRP, Wiring::Listen(LOOPBACK)) };
    let sim = way.plug_as(MAT, sim).await;
    let daemon = way.start().await;
    for count in 1..=3 {
        links(&sim, 1).await;
        sim.push(CHIPS as u64); // no chip of the race is back so soon
        way.arrive(count * CHIPS, &daemon).await;
        sim.does(DecoderHabit::Reboot).await;
        links(&sim, 0).await;
    }
    let on = sim
        .reads()
        .iter()
        .filter(|read| matches!(read.stamp, passbridge::testing::model::chip::Stamp::Uptime(_)))
        .count();
    assert_eq!(on, 2 * CHIPS);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_crossing_that_began_before_the_cable_was_out_is_timed_by_its_first_read() {
    together((0..4).map(|_| async {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        way.config.passing.dead_time = Duration::from_secs(10);
        let time = |n: u64| format!("10:{:02}:{:02}.000", n / 60, n % 60);
        let mut rows: Vec<String> = (1..=300).map(|n| record(n, &format!("C{n}"), &time(n))).collect();
        // It stays on the mat: the last two of what is missed, and the first live ones.
        rows.extend((301..=306).map(|n| record(n, "SLOW", &time(n))));
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
        let daemon = way.start().await;
        links(&sim, 1).await;
        sim.push(10);
        keeps(&daemon, 10).await;
        sim.set_online(false);
        links(&sim, 0).await;
        sim.push(292);
        sim.set_online(true);
        links(&sim, 1).await;
        sim.push(4); // live, while what was missed is asked for
        way.arrive(301, &daemon).await;
        let first = |(chip, _): &Crossing| chip != "SLOW";
        let mut expected: Vec<Crossing> = happened(&sim).into_iter().filter(first).collect();
        expected.push(happened(&sim)[300].clone());
        way.holds_in_some_order(&token, &expected);
        daemon.stop().await.unwrap();
    }))
    .await;
}
