//! `correct`: the zone of a decoder was an hour wrong, and some of its reads are in the cloud.

use std::collections::BTreeMap;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, Dedup, Generation, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use serde_json::Value;
use tokio::time::sleep;

use crate::support::child::{
    PATIENCE, Passing, SETTLES_SOON, Site, UPLOAD, decoder, holds, passing, setting, trouble, until,
};

const HOUR_MS: i64 = 3_600_000;
const MAT: &str = "raceresult-mat";

/// A box whose only decoder is said to be in a zone that is an hour ahead of its clock: its times
/// are understood an hour too early.
async fn an_hour_wrong(cloud: &SimCloud, seed: u64, more: &str) -> (SimDecoder, Site) {
    let (sim, mat) = decoder(Kind::RACE_RESULT, seed).await;
    let site = Site::new(Some(cloud), &[mat], more);
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replacen("timezone = \"UTC\"", "timezone = \"Etc/GMT-1\"", 1)).unwrap();
    (sim, site)
}

/// Exit code, the lines of JSON, and what people are told.
async fn correct(site: &Site, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let output = site.output(&[&["correct", "--json"], more].concat()).await;
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), lines, String::from_utf8(output.stderr).unwrap())
}

const ALL: [&str; 6] = ["--decoder", MAT, "--from", "2020-01-01", "--shift", "+1h"];

/// What the cloud has, in the order of its numbers.
fn stored(cloud: &SimCloud, token: &str) -> Vec<(u64, Passing)> {
    let mut all: Vec<_> = cloud.passings(token).into_iter().collect();
    all.sort_by_key(|passing| passing.num);
    let chip = |chip: Option<std::sync::Arc<str>>| chip.as_deref().unwrap_or_default().to_owned();
    all.into_iter().map(|passing| (passing.num, (chip(passing.chip), passing.time_ms))).collect()
}

fn right(sim: &SimDecoder) -> Vec<Passing> {
    sim.reads().iter().map(passing).collect()
}

fn wrong(passings: &[Passing]) -> Vec<Passing> {
    passings.iter().map(|(chip, ms)| (chip.clone(), ms - HOUR_MS)).collect()
}

fn numbered(from: u64, passings: &[Passing]) -> Vec<(u64, Passing)> {
    (from..).zip(passings.iter().cloned()).collect()
}

#[tokio::test]
async fn what_waits_goes_up_with_the_right_time_and_what_is_in_the_cloud_goes_again_only_when_asked_for() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, 1, SETTLES_SOON).await;
    let running = site.start();
    sim.push(30);
    site.sent(30).await;
    assert_eq!(stored(&cloud, &token), numbered(1, &wrong(&right(&sim))));
    cloud.set_online(false).await;
    sim.push(20);
    site.until("they are kept", |status| status.decoders[0].reads == 50).await;

    // It says what it would do, and does nothing.
    let (code, lines, said) = correct(&site, &[&ALL[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, lines.len()), (Some(0), 31), "{said}");
    let summary = &lines[30];
    let waits = summary["waits"].as_u64().unwrap() + summary["on_their_way"].as_u64().unwrap();
    assert_eq!((waits, summary["in_cloud"].as_u64(), &summary["entry"]), (20, Some(30), &Value::Null));
    assert_eq!((&summary["sessions"][0]["first"], &summary["sessions"][0]["last"]), (&1.into(), &30.into()));
    for ((line, (chip, ms)), num) in lines.iter().zip(right(&sim)).zip(1u64..=30) {
        let time = |name: &str| line[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!((line["num_passing"].as_u64(), line["chip"].as_str()), (Some(num), Some(&*chip)));
        assert_eq!((time("sent_time"), time("time")), (ms - HOUR_MS, ms));
    }
    let (code, _, said) = correct(&site, &ALL).await;
    assert_eq!(code, Some(64), "nobody agreed");
    assert!(said.contains("--yes"), "{said}");

    let (code, lines, said) = correct(&site, &[&ALL[..], &["--yes"]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(lines.last().unwrap()["entry"].as_u64().is_some() && said.contains("--send-again"), "{said}");
    // What was in flight when it was corrected keeps its time; everything else is right.
    let in_flight = lines.last().unwrap()["on_their_way"].as_u64().unwrap() as usize;
    assert_eq!(lines.len(), 31 + in_flight);
    sim.push(5); // these are new, and still an hour wrong
    cloud.set_online(true).await;
    site.sent(55).await;
    let all = right(&sim);
    let sent: Vec<Passing> =
        [wrong(&all[..30 + in_flight]), all[30 + in_flight..50].to_vec(), wrong(&all[50..])].concat();
    assert_eq!(stored(&cloud, &token), numbered(1, &sent), "each once, and nothing that was there has changed");
    let rows = site.export().await;
    for (row, (_, ms)) in rows.iter().zip(&all) {
        let time = row["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let moved = row["seq"].as_u64() < rows[50]["seq"].as_u64();
        assert_eq!(time, if moved { *ms } else { ms - HOUR_MS }, "{row}");
        assert_eq!(row["corrected_ms"].as_i64(), moved.then_some(HOUR_MS));
    }
    let was_wrong = 30 + in_flight;
    assert_eq!(rows.iter().filter(|row| row["upload"]["sent_time"].is_string()).count(), was_wrong);
    let audit = site.output(&["audit"]).await;
    assert_eq!(audit.status.code(), Some(0), "the journal knows what it sent: {audit:?}");

    let (code, lines, said) = correct(&site, &["--send-again", "--yes"]).await;
    assert_eq!((code, lines.len()), (Some(0), was_wrong + 1), "{said}");
    assert!(said.contains("remove them there by hand"), "{said}");
    until("they are there", async || cloud.stored() >= 55 + was_wrong).await;
    let all_sent = [sent.clone(), all[..was_wrong].to_vec()].concat();
    assert_eq!(stored(&cloud, &token), numbered(1, &all_sent));
    site.until("all is settled", |status| status.journal.pending == 0).await;
    let (_, lines, said) = correct(&site, &["--list"]).await;
    let olds: Vec<(u64, u64)> = lines[..lines.len() - 1]
        .iter()
        .map(|line| (line["replaces_num_passing"].as_u64().unwrap(), line["num_passing"].as_u64().unwrap()))
        .collect();
    assert_eq!(olds, (1..=was_wrong as u64).zip(56..).collect::<Vec<_>>(), "{said}");
    let replaced = site.export().await.iter().filter(|row| row["upload"]["replaces"]["num_passing"].is_u64()).count();
    assert_eq!(replaced, was_wrong);
    let (code, _, said) = correct(&site, &["--send-again", "--yes"]).await;
    assert!(code == Some(0) && said.contains("nothing to send again"), "{said}");

    // The audit knows both, also when somebody removed the old ones, as was said, and repairs none.
    assert_eq!(site.output(&["audit"]).await.status.code(), Some(0));
    cloud.lose(&token, &(1..=was_wrong as u64).collect::<Vec<_>>());
    let audit = site.output(&["audit", "--repair"]).await;
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    let kept = numbered(was_wrong as u64 + 1, &all_sent[was_wrong..]);
    assert_eq!(stored(&cloud, &token), kept);
    running.stop().await;
}

#[tokio::test]
async fn without_the_daemon_it_is_written_down_and_done_at_the_next_start() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, 2, SETTLES_SOON).await;
    let running = site.start();
    sim.push(45);
    site.sent(45).await;
    running.stop().await;
    let (code, lines, said) = correct(&site, &[&ALL[..], &["--send-again", "--yes"]].concat()).await;
    assert_eq!((code, lines.len()), (Some(0), 46), "{said}");
    assert!(said.contains("when it runs again"), "{said}");
    assert_eq!(cloud.stored(), 45);
    let running = site.start();
    until("they are there", async || cloud.stored() >= 90).await;
    site.until("all is settled", |status| status.uploads.first().is_some_and(|upload| upload.sent == 45)).await;
    let all = right(&sim);
    assert_eq!(stored(&cloud, &token), numbered(1, &[wrong(&all), all].concat()));
    running.stop().await;
}

/// The configuration with the zone corrected, or without the cloud.
fn configure(site: &Site, zone: &str, with_cloud: bool, whole: &str) {
    let text = whole.replacen("Etc/GMT-1", zone, 1);
    let (head, rest) = text.split_once("[cloud]").unwrap();
    let (cloud, tail) = rest.split_once("[status]").unwrap();
    let cloud = if with_cloud { format!("[cloud]{cloud}") } else { String::new() };
    std::fs::write(site.config(), format!("{head}{cloud}[status]{tail}")).unwrap();
}

#[tokio::test]
async fn a_zone_that_is_corrected_in_the_configuration_too_moves_nothing_twice() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, 4, SETTLES_SOON).await;
    let whole = std::fs::read_to_string(site.config()).unwrap();
    configure(&site, "Etc/GMT-1", false, &whole);
    let running = site.start();
    sim.push(20);
    site.until("they are kept", |status| status.decoders[0].reads == 20).await;
    running.stop().await;
    let (code, lines, said) = correct(&site, &[&ALL[..], &["--yes"]].concat()).await;
    assert_eq!((code, lines.last().unwrap()["in_cloud"].as_u64()), (Some(0), Some(0)), "{said}");
    configure(&site, "UTC", true, &whole);
    let running = site.start();
    sim.push(5);
    site.sent(25).await;
    assert_eq!(stored(&cloud, &token), numbered(1, &right(&sim)));
    running.stop().await;
}

#[tokio::test]
async fn where_the_zone_was_corrected_first_only_what_went_up_before_is_moved() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, 5, SETTLES_SOON).await;
    let whole = std::fs::read_to_string(site.config()).unwrap();
    let running = site.start();
    sim.push(10);
    site.sent(10).await;
    running.stop().await;
    configure(&site, "UTC", false, &whole);
    let running = site.start();
    sim.push(10);
    let waits = |waiting: u64| {
        move |status: &passbridge::testing::status::Snapshot| {
            status.journal.reads.as_ref().is_some_and(|reads| reads.waiting == waiting)
        }
    };
    site.until("they are kept", waits(10)).await;
    running.stop().await;
    configure(&site, "UTC", true, &whole);
    let (code, lines, said) = correct(&site, &[&ALL[..], &["--sent", "--send-again", "--yes"]].concat()).await;
    let summary = lines.last().unwrap();
    assert_eq!((code, &summary["waits"], &summary["in_cloud"]), (Some(0), &0.into(), &10.into()), "{said}");
    let running = site.start();
    until("they are there", async || cloud.stored() >= 30).await;
    site.until("all is settled", |status| status.journal.pending == 0).await;
    let all = right(&sim);
    let mut there: Vec<Passing> = stored(&cloud, &token).into_iter().map(|(_, passing)| passing).collect();
    let mut expected = [wrong(&all[..10]), all].concat();
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_corrected_is_said() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, 3, SETTLES_SOON).await;
    let running = site.start();
    sim.push(5);
    site.sent(5).await;
    for (arguments, word) in [
        (&["--decoder", "nope", "--from", "2020-01-01", "--shift", "1h"][..], MAT),
        (&["--decoder", MAT, "--from", "2020-01-01", "--to", "2020-01-02", "--shift", "1h"], "no read of"),
        (&["--decoder", MAT, "--from", "2020-01-02", "--to", "2020-01-01", "--shift", "1h"], "later than --from"),
        (&["--decoder", MAT, "--from", "2020-01-01", "--shift", "0s"], "corrects nothing"),
        (&["--decoder", MAT, "--from", "2020-01-01", "--shift", "soon"], "such as +1h"),
        (&["--decoder", MAT, "--from", "soon", "--shift", "-1h"], "such as 10:00"),
        (&["--decoder", MAT, "--shift", "-1h"], "--from"),
        (&["--decoder", MAT, "--from", "2020-01-01"], "--shift"),
        (&["--decoder", MAT], "--shift is missing"),
        (&[], "--decoder"),
    ] {
        let (code, lines, said) = correct(&site, &[arguments, &["--yes"]].concat()).await;
        assert_eq!((code, lines.len()), (Some(64), 0), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let (code, _, said) = correct(&site, &["--send-again", "--yes"]).await;
    assert!(code == Some(0) && said.contains("nothing to send again"), "{said}");
    assert!(site.export().await.iter().all(|row| row.get("corrected_ms").is_none()), "nothing was changed");
    running.stop().await;
}

#[tokio::test]
async fn each_passing_goes_again_once_however_often_the_box_is_killed() {
    let seed = setting("PASSBRIDGE_SEED", 1) * 100;
    let old = SimCloudConfig { dedup: Dedup::None, generation: Generation::Legacy, ..SimCloudConfig::default() };
    let new = SimCloudConfig { dedup: Dedup::Number, generation: Generation::OpenApi, ..SimCloudConfig::default() };
    tokio::join!(survives(old, seed + 1), survives(new, seed + 2));
}

async fn survives(cloud: SimCloudConfig, seed: u64) {
    const READS: u64 = 300;
    let what = format!("{:?} seed {seed}", cloud.dedup);
    let cloud = SimCloud::start(cloud).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, site) = an_hour_wrong(&cloud, seed, UPLOAD).await;
    let running = site.start();
    sim.push(READS);
    site.sent(READS).await;
    let (code, _, said) = correct(&site, &[&ALL[..], &["--send-again", "--yes"]].concat()).await;
    assert_eq!(code, Some(0), "{what}: {said}");
    let old = right(&sim);
    let mut running = Some(running);
    let mut rng = fastrand::Rng::with_seed(seed);
    trouble(&cloud, seed);
    for _ in 0..setting("PASSBRIDGE_KILLS", 12) {
        let now = running.take().unwrap_or_else(|| site.start());
        match rng.u32(0..2) {
            0 => sleep(Duration::from_millis(rng.u64(0..400))).await,
            _ => {
                let goal = cloud.post_count() + rng.u64(1..=3);
                cloud.wait_until(Duration::from_secs(3), |cloud| cloud.post_count() >= goal).await;
            }
        }
        if rng.bool() {
            sim.push(rng.u64(1..4));
        }
        now.kill();
    }
    cloud.clear_faults();
    let running = site.start();
    let happened = sim.reads().len() as u64;
    holds(PATIENCE, async || cloud.stored() as u64 >= READS + happened).await;
    site.until("all is settled", |status| {
        let sent = status.uploads.first().map_or(0, |upload| upload.sent);
        status.uptime_s > 2 && status.journal.pending == 0 && sent == happened
    })
    .await;
    running.stop().await;
    let mut left: BTreeMap<Passing, i64> = BTreeMap::new();
    let new = wrong(&right(&sim)[old.len()..]);
    for passing in wrong(&old).into_iter().chain(old.clone()).chain(new) {
        *left.entry(passing).or_default() += 1;
    }
    let there = stored(&cloud, &token);
    for (_, passing) in &there {
        *left.entry(passing.clone()).or_default() -= 1;
    }
    left.retain(|_, left| *left != 0);
    assert!(left.is_empty(), "{what}: missing, or there twice: {left:?}");
    let numbers: Vec<u64> = there.iter().map(|(num, _)| *num).collect();
    assert_eq!(numbers, (1..=READS + happened).collect::<Vec<_>>(), "{what}");
    let again: Vec<Passing> = there.into_iter().map(|(_, passing)| passing).filter(|it| old.contains(it)).collect();
    assert_eq!(again, old, "{what}: in order");
    assert_eq!(cloud.violations(), Vec::<String>::new(), "{what}");
    let rows = site.export().await;
    let replaced = rows.iter().filter(|row| row["upload"]["replaces"].is_object()).count();
    assert_eq!(replaced as u64, READS, "{what}");
    assert!(rows.iter().all(|row| row["kind"] != "read" || row["upload"]["state"] != "pending"), "{what}");
}
