//! Cables, and what gets lost in them.

use std::time::{Duration, Instant};

use passbridge::testing::status::LinkState;
use tokio::time::sleep;

use super::field::{Field, MAT, NET};
use crate::support::child::{PATIENCE, holds};
use crate::support::shaper::Line;

const SHORT: &str = "timeout = \"3s\"\nlinger = \"50ms\"";

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_link_that_goes_down_and_up_every_seven_seconds() {
    let mut field = Field::new("linger = \"50ms\"").await;
    field.start();
    field.sim.push(20);
    field.arrive(20, PATIENCE).await;
    let flips = std::env::var("PASSBRIDGE_FLAPS").map_or(4, |flips| flips.parse().unwrap());
    for flip in 0..flips {
        field.net.plug(flip % 2 == 1);
        for _ in 0..70 {
            field.sim.push(1);
            sleep(Duration::from_millis(100)).await; // the time that the link is in this state
        }
    }
    field.net.plug(true);
    let took = field.arrive(20 + 70 * flips, PATIENCE).await;
    println!("flapping every 7 s, {flips} times: the rest was there {took:.1?} after the last");
    field.audit("flapping").await;
}

/// For a while the box's packets meet these rules; reads go on; then they are gone.
async fn vanish(what: &str, upload: &str, rules: &[(&str, &str)], words: &str) {
    let mut field = Field::new(upload).await;
    field.start();
    field.sim.push(50);
    field.arrive(50, PATIENCE).await;
    for (direction, rule) in rules {
        field.net.rule(direction, rule);
    }
    field.sim.push(100);
    field.says(words).await;
    field.sim.push(100);
    sleep(Duration::from_secs(8)).await; // so that tries fail in more than one way
    field.net.no_rules();
    let took = field.arrive(250, PATIENCE).await;
    println!("{what}: the backlog was there {took:.1?} after the end");
    field.audit(what).await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn packets_that_vanish_in_both_directions() {
    let (out, back) = (format!("oifname {NET} drop"), format!("iifname {NET} drop"));
    vanish("half-open", SHORT, &[("output", &out), ("input", &back)], "nothing comes back from it").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn packets_that_vanish_with_the_time_limits_as_they_are_shipped() {
    let (out, back) = (format!("oifname {NET} drop"), format!("iifname {NET} drop"));
    vanish("half-open, as shipped", "", &[("output", &out), ("input", &back)], "nothing comes back from it").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn answers_that_vanish_after_the_cloud_took_what_was_sent() {
    // The handshake's packets and bare acknowledgements pass, what carries data does not.
    let rule = format!("iifname {NET} meta length gt 60 drop");
    vanish("answers vanish", SHORT, &[("input", &rule)], "no whole answer in time").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn requests_that_vanish() {
    let rule = format!("oifname {NET} meta length gt 60 drop");
    vanish("requests vanish", SHORT, &[("output", &rule)], "no whole answer in time").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_third_of_the_packets_is_lost() {
    let mut field = Field::new(SHORT).await;
    for direction in ["input", "output"] {
        let way = if direction == "input" { "iifname" } else { "oifname" };
        field.net.rule(direction, &format!("{way} {NET} numgen random mod 100 < 33 drop"));
    }
    field.sim.push(300);
    field.start();
    let took = field.arrive(300, 4 * PATIENCE).await;
    println!("a third of the packets lost each way: 300 passings in {took:.1?}");
    field.net.no_rules();
    field.audit("a third lost").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn connections_that_are_reset() {
    let rule = format!("oifname {NET} meta l4proto tcp reject with tcp reset");
    vanish("reset", SHORT, &[("output", &rule)], "is refused").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn no_network_at_all() {
    let mut field = Field::new(SHORT).await;
    field.net.inside(&["ip", "link", "set", NET, "down"]);
    field.start();
    field.sim.push(100);
    field.says("no network").await;
    field.net.inside(&["ip", "link", "set", NET, "up"]);
    field.net.route();
    let took = field.arrive(100, PATIENCE).await;
    println!("no network: the backlog was there {took:.1?} after it came");
    field.audit("no network").await;
}

/// Drains 1,000 passings over 64 kbit/s and 800 ms each way; prints how far it is from what the
/// line could do.
async fn drain(batch_max: usize) {
    const PASSINGS: u64 = 1000;
    let line = Line { delay: Duration::from_millis(800), ..Line::default() };
    let (mut field, shaper) = Field::behind(&format!("batch_max = {batch_max}"), Some(line)).await;
    let shaper = shaper.unwrap();
    field.net.rate(64);
    field.sim.push(PASSINGS);
    let since = Instant::now();
    field.start();
    field.arrive(PASSINGS as usize, 4 * PATIENCE).await;
    let took = since.elapsed();
    let (up, down) = shaper.bytes();
    let floor = Duration::from_secs_f64(up as f64 * 8.0 / 64_000.0);
    let per_passing = up as f64 / PASSINGS as f64;
    let ratio = took.as_secs_f64() / floor.as_secs_f64();
    println!(
        "64 kbit/s, 800 ms each way, batches of {batch_max}: {PASSINGS} passings in {took:.1?}; {up} bytes up \
         ({per_passing:.1} a passing), {down} down, {} connections, {} cuts; floor {floor:.1?}; ratio {ratio:.2}",
        shaper.connections(),
        shaper.cuts()
    );
    assert!(field.cloud.posts().iter().all(|post| post.status == Some(200)), "{:#?}", field.cloud.posts());
    field.audit("64 kbit/s").await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_link_of_64_kbit_and_800_ms_drains_a_thousand_passings() {
    drain(100).await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_link_of_64_kbit_and_800_ms_with_large_batches() {
    drain(500).await;
}

#[tokio::test]
#[ignore = "needs root and network namespaces"]
async fn a_decoder_whose_cable_flaps_or_swallows_everything_is_noticed_and_its_reads_fetched() {
    let mut field = Field::new(SHORT).await;
    field.start();
    field.sim.push(20);
    field.arrive(20, PATIENCE).await;
    for flip in 0..4 {
        field.net.plug_mat(flip % 2 == 1);
        for _ in 0..10 {
            field.sim.push(2);
            sleep(Duration::from_millis(100)).await; // the time that the link is in this state
        }
    }
    field.arrive(100, 2 * PATIENCE).await;
    for (direction, way) in [("input", "iifname"), ("output", "oifname")] {
        field.net.rule(direction, &format!("{way} {MAT} drop"));
    }
    let since = Instant::now();
    field.sim.push(50);
    let gone = holds(2 * PATIENCE, async || {
        let status = field.site.status().await;
        status.is_some_and(|status| status.decoders[0].state != LinkState::Connected)
    })
    .await;
    assert!(gone, "a half-open link is never noticed: {:#?}", field.site.status().await);
    println!("a decoder behind a half-open link: noticed after {:.0?}", since.elapsed());
    field.net.no_rules();
    field.arrive(150, 2 * PATIENCE).await;
    field.audit("decoder").await;
}
