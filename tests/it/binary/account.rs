//! `device`, and what `session` reads: the account in the cloud, as a timer types the commands.

use std::process::Output;

use passbridge::testing::sim::cloud::{
    Access, Answer, CloudFault, DEVICE, Generation, KEY, On, OtherCompany, SimCloud, SimCloudConfig, StoredPassing,
};
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

#[tokio::test]
async fn a_bind_writes_the_id_into_the_configuration_and_keeps_what_a_person_wrote() {
    let (_cloud, site) = cloud(Generation::Legacy).await;
    let text = std::fs::read_to_string(site.config()).unwrap();
    let commented = text.replace("[cloud]\n", "# the account of the club\n[cloud] # one only\n");
    std::fs::write(site.config(), &commented).unwrap();
    let (code, told) = said(&site, &["device", "bind", "--serial", "S-1", "--write"]).await;
    assert_eq!(code, Some(0), "{told}");
    let id = told.lines().find(|line| line.len() == DEVICE.len()).expect("the id is told").to_owned();
    assert!(told.contains(&format!("--from-device {DEVICE} --to-device {id}")), "{told}");
    assert_eq!(std::fs::read_to_string(site.config()).unwrap(), commented.replace(DEVICE, &id));
    assert_eq!(json(&site, &["device", "show"]).await["deviceid"], id);
    let again = json(&site, &["device", "bind", "--serial", "S-1", "--write"]).await;
    assert_eq!((&again["deviceid"], &again["bound_before"]), (&id.into(), &true.into()));
    // A file that cannot be changed is told before anything is bound.
    std::fs::write(site.config(), commented.replace("[status]", "[status")).unwrap();
    assert_eq!(said(&site, &["device", "bind", "--serial", "S-2", "--write"]).await.0, Some(78));
}

#[tokio::test]
async fn a_device_is_unbound_only_by_its_id_and_with_the_right_and_what_goes_with_it_is_named() {
    let (cloud, site) = cloud(Generation::OpenApi).await;
    let passing = |num| StoredPassing { num, time_ms: 1_780_000_000_000, chip: None, bib: "1".into() };
    cloud.put_session(DEVICE, "Race", "TOKEN-1", &(1..=7).map(passing).collect::<Vec<_>>());
    cloud.open_session(DEVICE, "Sunday");
    let (code, told) = said(&site, &["device", "unbind", "0A115B"]).await;
    assert!(code == Some(64) && told.contains("deletes 2 sessions and 7 passings"), "{told}");
    assert!(told.contains("--yes-delete-everything") && told.contains("This box uploads to it"), "{told}");
    let yes = ["device", "unbind", DEVICE, "--yes-delete-everything"];
    assert_eq!(cloud.violations(), Vec::<String>::new());
    let (code, told) = said(&site, &yes).await;
    assert!(code == Some(77) && told.contains("right to unbind") && told.contains("Nothing was unbound"), "{told}");
    // A key that may unbind and not read gets no counts.
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::WriteUnbind)]);
    let (code, told) = said(&site, &["device", "unbind", DEVICE]).await;
    assert!(code == Some(64) && told.contains("may not ask how many"), "{told}");
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::ReadWriteUnbind)]);
    // The answer is lost: the second one says that the device is gone.
    cloud.fault(On::Device, CloudFault::slow(std::time::Duration::ZERO)); // the question before it
    cloud.fault(On::Device, CloudFault::after(Answer::Cut));
    let (code, told) = said(&site, &yes).await;
    assert!(code == Some(0) && told.contains("is unbound"), "{told}");
    assert_eq!(json(&site, &["device", "list"]).await, Value::Array(Vec::new()));
    let (code, told) = said(&site, &["device", "show"]).await;
    assert!(code == Some(64) && told.contains("device list"), "{told}");
}

#[tokio::test]
async fn a_device_of_another_company_is_not_seen() {
    const OTHER: &str = "65A10000000000000000000000000000000000000000000000000000000B226C";
    let (cloud, site) = cloud(Generation::OpenApi).await;
    let other = OtherCompany { devices: vec![(OTHER.to_owned(), "theirs".to_owned())], ..OtherCompany::default() };
    cloud.configure(|config| config.others = vec![other]);
    for asked in [&["device", "show", OTHER][..], &["session", "list", "--device", OTHER]] {
        let (code, told) = said(&site, asked).await;
        assert!(code == Some(64) && told.contains("another company"), "{told}");
    }
    let (code, told) = said(&site, &["session", "open", "--alias", "x", "--yes", "--device", OTHER]).await;
    assert!(code == Some(64) && told.contains("another company"), "{told}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_clouds_is_told_with_the_setting_to_look_at() {
    let (cloud, site) = cloud(Generation::OpenApi).await;
    cloud.fault_always(On::Device, CloudFault::before(Answer::not_json()));
    let (code, told) = said(&site, &["device", "list"]).await;
    assert!(code == Some(69) && told.contains("[cloud].url"), "{told}");
    cloud.clear_faults();
    cloud.fault_always(On::Device, CloudFault::before(Answer::html()));
    let (code, told) = said(&site, &["device", "list"]).await;
    assert!(code == Some(69) && told.contains("captive portal"), "{told}");
}
