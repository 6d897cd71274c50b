//! SIGTERM, whatever else is wrong; and what the binary says when it cannot start.

use std::time::{Duration, Instant};

use passbridge::testing::sim::cloud::{Answer, CloudFault, DEVICE, On, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::{Snapshot, UploadState};

use crate::support::child::{Running, SETTLES_SOON, Site, binary, decoder, exported, judge, passing, until};

#[tokio::test]
async fn a_stop_keeps_and_sends_what_was_read_and_takes_a_moment() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let running = site.start();
    sim.push(200);
    assert!(cloud.wait_for(1, Duration::from_secs(20)).await);
    let began = Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let running = site.start();
    site.sent(200).await;
    running.stop().await;
    judge("stopped and started", &cloud, &token, sim.reads().iter().map(passing));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_cloud_that_never_answers() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    cloud.fault_always(On::Insert, CloudFault::after(Answer::Never));
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], SETTLES_SOON);
    let running = site.start();
    sim.push(20);
    assert!(cloud.wait_until(Duration::from_secs(20), |cloud| cloud.post_count() > 0).await);
    running.stop().await; // within 10 s and with 0
    cloud.clear_faults();
    let running = site.start();
    site.sent(20).await;
    running.stop().await;
    judge("the answer never came", &cloud, &token, sim.reads().iter().map(passing));
}

#[tokio::test]
async fn a_stop_during_the_start_is_a_stop() {
    let site = Site::new(None, &[(Kind::IPICO, "tcp://127.0.0.1:1".into())], "");
    for delay in [0, 5, 20, 60] {
        let mut running = site.start();
        tokio::time::sleep(Duration::from_millis(delay)).await; // the moment is the matter here
        running.terminate();
        let ended = running.ended(Duration::from_secs(10)).await.expect("it ends");
        // Before its first instruction the process is the system's to end.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(15);
        assert!(ended.success() || by_signal, "after {delay} ms: {ended}");
    }
}

#[tokio::test]
async fn a_switch_of_a_test_that_costs_reads_at_a_power_cut_is_told_loudly() {
    let (_sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(None, std::slice::from_ref(&mat), "");
    let running = site.start_with(&[("PASSBRIDGE_UNSAFE_NO_SYNC", "log")]);
    let told = |status: &Snapshot| status.problems.iter().any(|problem| problem.code == "unsafe_no_sync");
    site.until("it is told", told).await;
    running.stop().await;
}

async fn refused(site: &Site) -> (i32, String) {
    let before = site.said().len();
    let mut running = site.start();
    let ended = running.ended(Duration::from_secs(20)).await.expect("it does not run");
    (ended.code().unwrap(), site.said()[before..].to_owned())
}

fn one_line<'a>(said: &'a str, names: &str) -> &'a str {
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(names)).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0]
}

#[tokio::test]
async fn a_second_process_on_a_data_directory_says_which_one_is_in_use_and_the_first_goes_on() {
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(None, std::slice::from_ref(&mat), "");
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    let other = Site::at(tempfile::tempdir().unwrap(), site.data.clone(), None, &[mat], "");
    let (code, said) = refused(&other).await;
    assert_eq!(code, 69, "{said}");
    assert!(one_line(&said, site.data.to_str().unwrap()).contains("in use by another passbridge"), "{said}");
    sim.push(3);
    site.until("the first one keeps reads", |status| status.decoders[0].reads == 3).await;
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_flag_is_one_line_with_its_value_and_78() {
    let site = Site::new(None, &[(Kind::IPICO, "tcp://127.0.0.1:1".into())], "");
    let mut command = site.command(&["run", "--listen", "127.0.0.1"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(one_line(&said, "\"127.0.0.1\"").contains("flag --listen"), "{said}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_one_line_with_its_name_and_78() {
    let dir = tempfile::tempdir().unwrap();
    let no_text = dir.path().join("no_text.toml");
    std::fs::write(&no_text, b"name = \"\xff\"\n").unwrap();
    for path in [no_text.as_path(), dir.path()] {
        let mut command = binary(&["run", "--config"]);
        command.arg(path);
        let mut running = Running::spawn(command, dir.path());
        let ended = running.ended(Duration::from_secs(20)).await.expect("it does not run");
        assert_eq!(ended.code(), Some(78));
        let said = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
        one_line(&said, path.to_str().unwrap());
        std::fs::remove_file(dir.path().join("stderr")).unwrap();
    }
}

#[tokio::test]
async fn a_box_without_a_way_to_the_cloud_keeps_reads_and_says_that_it_is_offline() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    cloud.set_online(false).await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let running = site.start();
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    sim.push(5);
    site.until("kept, not sent", |status| {
        status.decoders[0].reads == 5
            && status.ready
            && status.uploads.first().is_some_and(|upload| upload.state == UploadState::Offline)
    })
    .await;
    running.stop().await;
    assert_eq!(site.export().await.iter().filter_map(exported).count(), 5);
}
