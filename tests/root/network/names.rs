//! Names, families of addresses, certificates and the date.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use super::field::{CLOUD, Field};
use crate::support::child::{PATIENCE, Site, decoder, holds, judge, passing};
use crate::support::shaper::{Line, Shaper};
use crate::support::tls_proxy::{Authority, Front};

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_name_server_that_is_gone_and_comes_and_goes_again() {
    let mut field = Field::new("linger = \"50ms\"").await;
    field.net.names(""); // the name server is in the test network 192.0.2.0/24: there is none
    field.sim.push(50);
    field.start();
    field.says("its name is not found").await;
    field.net.names_right();
    let took = field.arrive(50, PATIENCE).await;
    println!("no name server: the backlog was there {took:.1?} after it came");
    field.net.names("");
    field.cloud.set_online(false).await; // connections end
    field.sim.push(50);
    field.says("cannot be reached").await;
    field.cloud.set_online(true).await;
    let took = field.arrive(100, PATIENCE).await;
    println!("gone again: the address found before was used, {took:.1?} after the cloud came back");
    field.audit("no name server").await;
}

/// A box with 50 reads that finds the cloud at this IPv6 address before its right one.
async fn with_six(what: &str, six: Option<&str>) -> (Field, String) {
    let field = Field::new("linger = \"50ms\"\ntimeout = \"3s\"").await;
    let (four, block6) = (field.net.address(1), field.net.block6.clone());
    let six = six.map_or_else(String::new, |last| format!("{block6}::{last} {CLOUD}\n"));
    field.net.names(&format!("{six}{four} {CLOUD}\n"));
    field.sim.push(50);
    (field, format!("{what}: the first 50 passings"))
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_cloud_with_ipv6_that_is_broken_is_reached_by_ipv4() {
    for (what, six) in [("without IPv6", None), ("IPv6 where nobody is", Some("9")), ("IPv6 swallowed", Some("1"))] {
        let (mut field, text) = with_six(what, six).await;
        field.net.rule("output", &format!("ip6 daddr {}::1 meta l4proto tcp drop", field.net.block6));
        let since = Instant::now();
        field.start();
        field.arrive(50, PATIENCE).await;
        println!("{text} {:.1?} after the start", since.elapsed());
        field.audit(what).await;
    }
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_cloud_whose_ipv6_connects_and_swallows_the_rest_is_reached_by_ipv4() {
    let (mut field, text) = with_six("IPv6 connects and swallows", Some("1")).await;
    let there = SocketAddr::new(format!("{}::1", field.net.block6).parse().unwrap(), field.cloud.address().port());
    let hole = Shaper::open_at(there, field.cloud.address(), Line::default()).await;
    hole.freeze(true);
    let since = Instant::now();
    field.start();
    field.arrive(50, PATIENCE).await;
    assert!(hole.connections() > 0, "IPv6 was never tried");
    println!("{text} {:.1?} after the start, with a time limit of 3 s", since.elapsed());
    field.audit("IPv6").await;
}

/// Where Debian's libfaketime is; `None`: not installed.
fn faketime() -> Option<String> {
    let arch = std::env::consts::ARCH;
    let path = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1");
    Path::new(&path).exists().then_some(path)
}

#[tokio::test]
#[ignore = "needs libfaketime"]
async fn a_box_that_wakes_up_in_1970_reads_names_the_clock_and_uploads_when_it_is_told_the_time() {
    let Some(library) = faketime() else {
        println!("libfaketime is not installed: no box in 1970");
        return;
    };
    let cloud = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(cloud).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let authority = Authority::new();
    let year = i32::from(jiff::tz::TimeZone::UTC.to_datetime(Timestamp::now()).year());
    let paper = authority.signs("localhost", year, year + 2);
    let front = Front::open(([127, 0, 0, 1], 0).into(), cloud.address(), paper).await;
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let (roots, clock) = (dir.path().join("roots.pem"), dir.path().join("clock"));
    std::fs::write(&roots, authority.pem()).unwrap();
    std::fs::write(&clock, "@1970-01-01 00:01:00").unwrap();
    let data = dir.path().join("data");
    let url = format!("https://localhost:{}/v0", front.port);
    let site = Site::at(dir, data, Some(url), &[mat], "");
    let mut command = site.command(&["run"]);
    command.env("SSL_CERT_FILE", &roots).env("TZ", "UTC");
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &clock);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let running = crate::support::child::Running::spawn(command, site.config().parent().unwrap());
    sim.push(100);
    let named = holds(PATIENCE, async || {
        let status = site.status().await;
        status.is_some_and(|status| {
            let mut problems = status.problems.iter();
            let said =
                problems.any(|problem| problem.code == "box_clock_wrong" && problem.message.contains("1970-01-01"));
            said && status.journal.pending == 100
        })
    })
    .await;
    assert!(named, "{:#?}", site.status().await);
    std::fs::write(&clock, "+0").unwrap();
    let since = Instant::now();
    assert!(cloud.wait_for(100, 2 * PATIENCE).await, "{:#?}", site.status().await);
    println!("a box in 1970: the backlog was there {:.1?} after the clock was right", since.elapsed());
    site.until("the problem is over", |status| {
        !status.problems.iter().any(|problem| problem.code == "box_clock_wrong")
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(90));
    site.sent(100).await;
    running.stop().await;
    judge("1970", &cloud, &token, sim.reads().iter().map(passing));
}
