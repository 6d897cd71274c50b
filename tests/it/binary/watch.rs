//! `watch` as a timer types it: each passing once, with the time from its read to the cloud.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use passbridge::testing::sim::cloud::{
    Access, Answer, CloudFault, DEVICE, Generation, KEY, On, SimCloud, SimCloudConfig, StoredPassing,
};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::{PATIENCE, Running, Site, decoder, until};

fn foreign(num: u64) -> StoredPassing {
    let time_ms = jiff::Timestamp::now().as_millisecond();
    StoredPassing { num, time_ms, chip: Some("OTHER".into()), bib: Arc::from("9") }
}

fn ended(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains(KEY), "the key is shown: {text}");
    text
}

/// A box with a decoder, and a cloud with an open session.
async fn stage(generation: Generation) -> (SimCloud, String, Site, SimDecoder) {
    let cloud = SimCloud::start(SimCloudConfig { generation, ..Default::default() }).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "[upload]\nretry_max = \"1s\"\nsettle = \"1s\"\n");
    (cloud, token, site, sim)
}

/// A `watch` that runs, and what it shows.
struct Watch {
    running: Running,
    dir: tempfile::TempDir,
}

impl Watch {
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = site.command(&[&["watch", "--interval", "100ms"], arguments].concat());
        Self { running: Running::spawn(command, dir.path()), dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(self.file("stdout")).unwrap_or_default()
    }

    async fn shows(&self, what: &str) {
        until(&format!("watch shows {what}"), async || self.shown().contains(what)).await;
    }

    async fn end(mut self, code: i32) -> (String, String) {
        let ended = self.running.ended(PATIENCE).await.expect("it ends");
        let said = std::fs::read_to_string(self.file("stderr")).unwrap();
        assert_eq!(ended.code(), Some(code), "{}\n{said}", self.shown());
        (self.shown(), said)
    }
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[tokio::test]
async fn each_passing_is_shown_once_with_the_time_since_its_read_and_the_end_sums_up() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let (cloud, token, site, sim) = stage(generation).await;
        let running = site.start();
        sim.push(20);
        site.sent(20).await;
        let watch = Watch::start(&site, &["--json", "--count", "12"]);
        watch.shows("session").await;
        sim.push(10);
        site.sent(30).await;
        cloud.put_foreign(&token, &[foreign(40), foreign(41)]);
        let (text, said) = watch.end(0).await;
        assert_eq!(said, "");
        let lines = json(&text);
        assert_eq!((&lines[0]["event"], &lines[0]["token_session"]), (&"session".into(), &(&*token).into()));
        let passings: Vec<&Value> = lines.iter().filter(|line| line["event"] == "passing").collect();
        let nums: Vec<u64> = passings.iter().map(|line| line["num_passing"].as_u64().unwrap()).collect();
        assert_eq!(nums, (21..=30).chain([40, 41]).collect::<Vec<_>>(), "what was there before is not shown");
        for line in &passings[..10] {
            assert_eq!((&line["box_ours"], &line["box_decoder"]), (&"yes".into(), &"raceresult-mat".into()));
            assert_eq!(&line["delay_since"], "read");
            let time = |name: &str| line[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            let delay = time("seen").duration_since(time("received")).as_millis();
            assert_eq!(line["delay_ms"], i64::try_from(delay).unwrap(), "{line}");
        }
        assert_eq!((&passings[10]["box_ours"], &passings[10]["delay_since"]), (&"no".into(), &"stamp".into()));
        let summary = lines.last().unwrap();
        assert_eq!(
            (&summary["event"], &summary["passings"], &summary["of_this_box"]),
            (&"summary".into(), &12.into(), &10.into())
        );
        let worst = passings[..10].iter().map(|line| line["delay_ms"].as_u64().unwrap()).max();
        assert_eq!(summary["worst_ms"].as_u64(), worst);
        assert!(summary["median_ms"].as_u64() <= summary["p95_ms"].as_u64() && summary["p95_ms"].as_u64() <= worst);
        running.stop().await;
        assert_eq!(cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn another_session_is_a_line_of_its_own_and_ctrl_c_ends_with_the_summary() {
    let (cloud, _, site, _) = stage(Generation::OpenApi).await;
    let watch = Watch::start(&site, &[]);
    watch.shows("NUMBER").await;
    let next = cloud.open_session(DEVICE, "10K \"Élan\" 🏃");
    cloud.put_foreign(&next, &[foreign(1), foreign(2)]);
    watch.shows("OTHER").await;
    watch.running.signal(Signal::INT);
    let (text, _) = watch.end(0).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("session Race …"), "{text}");
    assert!(lines[2].starts_with("session 10K \"Élan\" 🏃 …"), "{text}");
    assert!(lines[3].trim_start().starts_with('1') && lines[3].ends_with(" s by its stamp"), "{text}");
    assert_eq!(lines[5], "2 passings; none whose read this box knows");
}

#[tokio::test]
async fn a_cloud_without_the_continuing_pull_is_asked_by_number_and_that_is_said_once() {
    for answer in [Answer::message(404, "Not Found"), Answer::message(403, "Missing Authentication Token")] {
        let (cloud, token, site, _) = stage(Generation::Legacy).await;
        cloud.fault_always(On::Continuing, CloudFault::before(answer));
        let watch = Watch::start(&site, &["--json", "--count", "4"]);
        watch.shows("session").await;
        cloud.put_foreign(&token, &[foreign(1), foreign(2)]);
        watch.shows("\"num_passing\":2").await;
        let next = cloud.open_session(DEVICE, "Next");
        cloud.put_foreign(&next, &[foreign(1), foreign(2)]);
        let (text, said) = watch.end(0).await;
        assert_eq!(said.matches("asked by number").count(), 1, "{said}");
        let nums: Vec<_> = json(&text).iter().filter_map(|line| line["num_passing"].as_u64()).collect();
        assert_eq!(nums, [1, 2, 1, 2]);
    }
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_for_a_while_is_asked_again_and_nothing_is_missed() {
    let (cloud, token, site, _) = stage(Generation::OpenApi).await;
    let watch = Watch::start(&site, &["--json", "--count", "3"]);
    watch.shows("session").await;
    cloud.fault_times(2, On::Continuing, CloudFault::before(Answer::RetryAfter(429, "0".to_owned())));
    cloud.put_foreign(&token, &[foreign(1)]);
    watch.shows("\"num_passing\":1").await;
    cloud.set_online(false).await;
    let silent = async || std::fs::read_to_string(watch.file("stderr")).unwrap().contains("cannot be reached");
    until("watch says that the cloud is gone", silent).await;
    cloud.set_online(true).await;
    cloud.put_foreign(&token, &[foreign(2), foreign(3)]);
    let (text, said) = watch.end(0).await;
    assert!(said.contains("the cloud asks to slow down") && said.contains("the cloud answers again"), "{said}");
    assert_eq!(json(&text).iter().filter_map(|line| line["num_passing"].as_u64()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn what_cannot_be_watched_is_told_in_a_sentence_and_with_its_exit_code() {
    let (cloud, token, site, _) = stage(Generation::Legacy).await;
    let tell = async |arguments: &[&str], code: i32, told: &str| {
        let text = ended(&site.output(&[&["watch"], arguments].concat()).await, code);
        assert!(text.contains(told), "{told}: {text}");
    };
    tell(&["--device", "65A1NOBODY"], 64, "65A1NOBODY").await;
    tell(&["--interval", "1ms"], 64, "must be a time with its unit").await;
    tell(&["--from", "noon"], 64, "--from noon: must be a time such as").await;
    tell(&["--for", "300ms", "--interval", "100ms"], 0, "0 passings").await;
    cloud.close_session(&token);
    tell(&["--for", "300ms", "--interval", "100ms"], 0, "no session is active").await;
    cloud.open_session(DEVICE, "Next");
    cloud.configure(|config| config.keys = vec![(KEY.into(), Access::Write)]);
    tell(&[], 77, "READ_WRITE").await;
    cloud.set_online(false).await;
    tell(&[], 69, "cannot be reached").await;
}

#[tokio::test]
async fn a_reader_that_went_away_ends_it_quietly() {
    let (cloud, token, site, _) = stage(Generation::Legacy).await;
    let mut command = site.command(&["watch", "--interval", "100ms", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    cloud.put_foreign(&token, &[foreign(1)]);
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(PATIENCE.max(Duration::from_secs(1)), ended).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()), (Some(0), String::new()));
}

#[tokio::test]
async fn csv_has_a_header_and_a_row_for_each_passing_and_nothing_else() {
    let (cloud, token, site, _) = stage(Generation::OpenApi).await;
    cloud.put_foreign(&token, &[foreign(1), foreign(2)]);
    let watch = Watch::start(&site, &["--csv", "--from", "2000-01-01", "--count", "2"]);
    let (text, _) = watch.end(0).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("timestamp,num_passing,bib,chip,token_session,box_ours,"), "{text}");
    assert_eq!(lines.len(), 3, "{text}");
    for (line, num) in lines[1..].iter().zip(["1", "2"]) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields.len(), fields[1], fields[4]), (12, num, &*token), "{text}");
    }
}

#[tokio::test]
async fn a_device_that_is_gone_for_a_moment_is_asked_for_again_and_one_that_stays_away_ends_it() {
    let (cloud, token, site, _) = stage(Generation::OpenApi).await;
    let gone = || CloudFault::before(Answer::message(404, "Device not found"));
    let watch = Watch::start(&site, &["--json", "--count", "1"]);
    watch.shows("session").await;
    cloud.fault_times(2, On::Continuing, gone());
    cloud.put_foreign(&token, &[foreign(1)]);
    watch.end(0).await;

    let watch = Watch::start(&site, &["--json"]);
    watch.shows("session").await;
    cloud.fault_always(On::Continuing, gone());
    let (_, said) = watch.end(69).await;
    assert!(said.contains("5 times in a row"), "{said}");
}
