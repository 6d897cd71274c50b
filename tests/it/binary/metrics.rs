//! The metrics of a running box and the rules of `config/alerts.yml`, as promtool judges them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::{BoxState, UploadState};

use crate::support::child::{Site, decoder};
use crate::support::skip;

/// The promtool that `PASSBRIDGE_PROMTOOL` names, or that of the path. `None`: there is none.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("PASSBRIDGE_PROMTOOL").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join("promtool")).find(|file| file.is_file());
    named.or(found)
}

/// Whether promtool has no complaint, and what it says.
fn judged(promtool: &PathBuf, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

#[tokio::test]
async fn promtool_has_no_complaint_about_the_metrics_of_a_box_that_idles_reads_and_is_offline() {
    let Some(promtool) = promtool() else {
        return skip("the metrics by promtool", "there is no promtool (Debian: prometheus)");
    };
    assert!(!judged(&promtool, &["check", "metrics"], "# TYPE a_count counter\na_count 1\n").0, "it takes everything");
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let running = site.start();
    let judge = async |when: &str, series: &str| {
        let (code, page) = site.get("/metrics").await.unwrap();
        assert_eq!(code, 200);
        assert!(page.contains(&format!("\n{series}\n")), "{when}: no {series} in {page}");
        let (passed, said) = judged(&promtool, &["check", "metrics"], &page);
        assert!(passed && said.is_empty(), "{when}: {said}");
    };
    site.until("the box is ready", |status| status.state == BoxState::Ready).await;
    judge("idle", "passbridge_state{state=\"ready\"} 1").await;
    sim.push(30);
    site.sent(30).await;
    site.until("the box reads", |status| status.state == BoxState::Reading).await;
    judge("reading", "passbridge_state{state=\"reading\"} 1").await;
    cloud.set_online(false).await;
    sim.push(5);
    site.until("the box is offline", |status| status.uploads[0].state == UploadState::Offline).await;
    judge("offline", &format!("passbridge_upload_state{{device=\"{DEVICE}\",state=\"offline\"}} 1")).await;
    running.stop().await;
}

#[test]
fn promtool_takes_the_alerts_and_they_call_at_the_right_moments_of_a_scripted_outage() {
    let Some(promtool) = promtool() else {
        return skip("the alerts by promtool", "there is no promtool (Debian: prometheus)");
    };
    for arguments in [["check", "rules", "config/alerts.yml"], ["test", "rules", "tests/alerts-test.yml"]] {
        let (passed, said) = judged(&promtool, &arguments, "");
        assert!(passed, "{arguments:?}: {said}");
    }
}
