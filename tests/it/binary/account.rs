//! `device` and `session`: the account in the cloud, as a timer types the commands.

use std::process::Output;

use passbridge::testing::sim::cloud::{Access, Answer, CloudFault, DEVICE, Generation, KEY, On, SimCloud, SimCloudConfig};
use serde_json::Value;

use crate::support::child::Site;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The answer of a command that succeeds, as JSON.
async fn json(site: &Site, arguments: &[&str]) -> Value {
    let output = site.output(&[arguments, &["--json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(&output)))
}

/// Exit code, and everything that a person sees.
async fn said(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let output = site.output(arguments).await;
    assert!(!text(&output).contains(KEY), "the key is shown: {}", text(&output));
    (output.status.code(), text(&output))
}

async fn cloud(generation: Generation) -> (SimCloud, Site) {
    let cloud = SimCloud::start(SimCloudConfig { generation, ..SimCloudConfig::default() }).await.unwrap();
    let site = Site::new(Some(&cloud), &[], "");
    (cloud, site)
}

const ALIAS: &str = "5K \"Fun, Run\" 🏃";

#[tokio::test]
async fn the_devices_and_sessions_of_an_account_are_listed_and_shown_in_every_form() {
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let (cloud, site) = cloud(generation).await;
        let old = cloud.open_session(DEVICE, "Saturday");
        let token = cloud.open_session(DEVICE, ALIAS);

        let devices = json(&site, &["device", "list"]).await;
        assert_eq!((&devices[0]["deviceid"], &devices[0]["used_here"]), (&DEVICE.into(), &true.into()), "{devices}");
        assert_eq!(devices[0]["sessions"], 2, "{devices}");
        let (code, shown) = said(&site, &["device", "list"]).await;
        assert!(code == Some(0) && shown.contains(" NAME ") && shown.contains("0A115B"), "{shown}");
        assert!(!shown.contains(DEVICE), "a list has the ends only: {shown}");
        for typed in ["0a115b", "…0A115B", DEVICE] {
            let (code, shown) = said(&site, &["device", "show", typed]).await;
            assert!(code == Some(0) && shown.contains(DEVICE), "{shown}");
        }

        let sessions = json(&site, &["session", "list"]).await;
        let tokens: Vec<_> = sessions.as_array().unwrap().iter().map(|one| one["token_session"].clone()).collect();
        assert_eq!(tokens.len(), 2, "{sessions}");
        assert!(tokens.contains(&Value::from(&*old)) && tokens.contains(&Value::from(&*token)));
        let csv = site.output(&["session", "list", "--csv"]).await;
        let mut csv = csv::Reader::from_reader(&csv.stdout[..]);
        assert_eq!(&csv.headers().unwrap()[1], "alias");
        assert!(csv.records().any(|row| &row.unwrap()[1] == ALIAS));
        let active = json(&site, &["session", "active"]).await;
        assert_eq!((&active["token_session"], &active["alias"]), (&(&*token).into(), &ALIAS.into()));
        let end = &old[old.len() - 6..];
        let shown = json(&site, &["session", "show", end]).await;
        assert_eq!((&shown["token_session"], &shown["active"]), (&(&*old).into(), &false.into()));
        assert_eq!(json(&site, &["session", "show"]).await, active);
        let (_, nepal) = said(&site, &["session", "list", "--timezone", "Asia/Kathmandu"]).await;
        assert!(nepal.contains(" +0545"), "{nepal}");
        assert_eq!(cloud.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_with_the_command_that_shows_what_is() {
    let (cloud, site) = cloud(Generation::OpenApi).await;
    let (code, told) = said(&site, &["session", "active"]).await;
    assert!(code == Some(69) && told.contains("no active session"), "{told}");
    let (code, told) = said(&site, &["session", "list"]).await;
    assert!(code == Some(0) && told.contains("has no session"), "{told}");
    cloud.open_session(DEVICE, "Race");
    for typed in ["ABCDEF", "nothing", "../../x", "é"] {
        let (code, told) = said(&site, &["session", "show", typed]).await;
        assert!(code == Some(64) && told.contains("session list"), "{typed}: {told}");
        let (code, told) = said(&site, &["device", "show", typed]).await;
        assert!(code == Some(64) && told.contains("device list"), "{typed}: {told}");
        let (code, told) = said(&site, &["session", "list", "--device", typed]).await;
        assert!(code == Some(64) && told.contains("device list"), "{typed}: {told}");
    }
    assert_eq!(said(&site, &["device", "bind", "--alias", "a\nb"]).await.0, Some(64));
    assert_eq!(said(&site, &["device", "bind", "--serial", ""]).await.0, Some(64));
}

#[tokio::test]
async fn a_key_without_the_right_no_network_and_another_server_have_their_own_codes() {
    let (cloud, site) = cloud(Generation::OpenApi).await;
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Write)]);
    for asked in [&["device", "list"][..], &["session", "list"], &["session", "active"]] {
        let (code, told) = said(&site, asked).await;
        assert!(code == Some(77) && told.contains("API key"), "{told}");
    }
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Read)]);
    let (code, told) = said(&site, &["device", "bind", "--serial", "S-1"]).await;
    assert!(code == Some(77) && told.contains("API key"), "{told}");
    cloud.configure(|config| config.keys.clear());
    assert_eq!(said(&site, &["device", "list"]).await.0, Some(77));
    cloud.set_online(false).await;
    let (code, told) = said(&site, &["device", "list"]).await;
    assert!(code == Some(69) && told.contains("cannot be reached"), "{told}");
    let without = Site::new(None, &[], "");
    let (code, told) = said(&without, &["session", "list"]).await;
    assert!(code == Some(78) && told.contains("no [cloud]"), "{told}");
}

#[tokio::test]
async fn a_machine_is_bound_with_its_serial_number_and_a_second_time_it_is_the_same_device() {
    let (cloud, site) = cloud(Generation::OpenApi).await;
    let bind = ["device", "bind", "--serial", "10000000abcdef01", "--model", "Raspberry Pi 4", "--alias", ALIAS];
    // The first answer is lost on the way: a second bind does no harm.
    cloud.fault(On::Device, CloudFault::after(Answer::Cut));
    let bound = json(&site, &bind).await;
    let id = bound["deviceid"].as_str().unwrap().to_owned();
    assert_eq!((&bound["alias"], bound["serial_number"].as_str()), (&ALIAS.into(), Some("10000000abcdef01")));
    let (code, told) = said(&site, &bind).await;
    assert!(code == Some(0) && told.contains("was bound before") && told.contains(&id), "{told}");
    assert!(told.contains(&format!("device_id = \"{id}\"")), "{told}");
    let shown = json(&site, &["device", "show", &id[id.len() - 8..]]).await;
    assert_eq!((&shown["alias"], &shown["used_here"]), (&ALIAS.into(), &false.into()));
    assert_eq!(json(&site, &["device", "list"]).await.as_array().unwrap().len(), 2);
}
