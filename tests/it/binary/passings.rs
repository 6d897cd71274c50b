//! `passings` as a timer types it: what the cloud holds, which of it this box sent, and how a list
//! ends that cannot be had as a whole.

use std::process::Output;
use std::sync::Arc;

use passbridge::testing::sim::cloud::{
    Access, Answer, CloudFault, DEVICE, Generation, Habits, KEY, On, OtherCompany, SimCloud, SimCloudConfig,
    StoredPassing,
};
use passbridge::testing::sim::decoder::Kind;
use serde_json::Value;

use crate::support::child::{Site, decoder};

/// The time of the first foreign passing: 17 June 2026, 10:00 UTC.
const MORNING: i64 = 1_781_690_400_000;

fn foreign(num: u64) -> StoredPassing {
    let chip: Arc<str> = format!("OTHER{num}").into();
    StoredPassing { num, time_ms: MORNING + num as i64 * 10, chip: Some(Arc::clone(&chip)), bib: chip }
}

fn ended(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains(KEY), "the key is shown: {text}");
    text
}

/// The list as JSON. The command must succeed.
async fn listed(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let output = site.output(&[&["passings", "--json"], arguments].concat()).await;
    let text = ended(&output, 0);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn nums(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["num_passing"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_list_says_of_each_passing_whether_this_box_sent_it_and_from_which_decoder() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let cloud = SimCloud::start(SimCloudConfig { generation, ..Default::default() }).await.unwrap();
        let token = cloud.open_session(DEVICE, "5K \"Fun\" 🏃");
        let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
        let site = Site::new(Some(&cloud), &[mat], "[upload]\nretry_max = \"1s\"\nsettle = \"1s\"\n");
        let running = site.start();
        sim.push(30);
        site.sent(30).await;
        cloud.put_foreign(&token, &[foreign(40), foreign(41)]);
        cloud.alter(&token, 9, |passing| passing.time_ms += 1);

        let rows = listed(&site, &[]).await;
        assert_eq!(nums(&rows), (1..=30).chain([40, 41]).collect::<Vec<_>>());
        for row in &rows {
            let num = row["num_passing"].as_u64().unwrap();
            let (ours, decoder) = match num {
                9 => ("different", "raceresult-mat".into()),
                40.. => ("no", Value::Null),
                _ => ("yes", "raceresult-mat".into()),
            };
            assert_eq!((&row["box_ours"], &row["box_decoder"]), (&ours.into(), &decoder), "{row}");
            assert_eq!(&row["token_session"], &*token);
        }
        let kept = site.export().await;
        for row in rows.iter().filter(|row| row["box_ours"] == "yes") {
            let read = kept.iter().find(|kept| kept["seq"] == row["box_seq"]).unwrap();
            assert_eq!((&read["chip"], &read["time"]), (&row["box_chip"], &row["timestamp"]));
        }
        let shown = ended(&site.output(&["passings", "--timezone", "Asia/Kathmandu"]).await, 0);
        for told in ["session 5K \"Fun\" 🏃 …", "NUMBER", "+0545", "raceresult-mat", "32 passings; 29 of this box"]
        {
            assert!(shown.contains(told), "{told}: {shown}");
        }
        running.stop().await;

        let without = listed(&site, &[]).await;
        assert_eq!(without, rows, "the log without its daemon says the same");
        let end = &token[token.len() - 6..];
        let some = listed(&site, &["--session", end, "--first", "29", "--last", "40"]).await;
        assert_eq!(nums(&some), [29, 30, 40]);
        let morning = ["--from", "2026-06-17T10:00:00.4Z", "--to", "2026-06-17T10:00:00.41Z"];
        let rows = listed(&site, &[&morning[..], &["--device", DEVICE]].concat()).await;
        assert_eq!((nums(&rows), &rows[0]["box_ours"]), (vec![40], &"no".into()), "the end is not in it");
        let csv = site.output(&["passings", "--csv", "--first", "40"]).await;
        let mut csv = csv::Reader::from_reader(&csv.stdout[..]);
        assert_eq!(
            csv.headers().unwrap().iter().take(4).collect::<Vec<_>>(),
            ["timestamp", "num_passing", "bib", "chip"]
        );
        assert_eq!(csv.records().count(), 2);
        // What this box knows is gone.
        std::fs::remove_dir_all(&site.data).unwrap();
        assert!(listed(&site, &[]).await.iter().all(|row| row["box_ours"] == "unknown"));
        assert_eq!(cloud.violations(), [""; 0]);
    }
}

/// A cloud with so many passings of others in its active session, and a box without reads.
async fn full(config: SimCloudConfig, count: u64) -> (SimCloud, Site, String) {
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    cloud.put_foreign(&token, &(1..=count).map(foreign).collect::<Vec<_>>());
    let (_, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    (cloud, site, token)
}

#[tokio::test]
async fn more_than_two_pages_are_listed_whole_and_in_order_whatever_the_habits_of_the_cloud() {
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let (cloud, site, _) = full(SimCloudConfig { generation, ..Default::default() }, 12_000).await;
        let expected: Vec<u64> = (1..=12_000).collect();
        let habits: &[&[&str]] = match generation {
            Generation::OpenApi => &[
                &[],
                &["order=newest", "no-has-more"],
                &["order=shuffled", "first-exclusive", "last-exclusive"],
                &["empty-pages=between", "text-numbers=all"],
                &["page-ignored"],
                &["none-404"],
                &["last-required"],
            ],
            _ => &[&[]],
        };
        for habits in habits {
            cloud.habits(Habits::of(1, *habits).unwrap());
            assert_eq!(nums(&listed(&site, &[]).await), expected, "{generation:?} {habits:?}");
            let rows = listed(&site, &["--from", "2026-06-17T10:00:00Z", "--to", "2026-06-18T00:00:00Z"]).await;
            assert_eq!(nums(&rows), expected, "{generation:?} {habits:?}");
        }
        // Without an end nobody can ask for little. With one, the list asks for less and less.
        cloud.habits(Habits::of(1, ["range-limit=1000", "span-limit=20s"]).unwrap());
        let told = ended(&site.output(&["passings"]).await, 65);
        assert!(told.contains("--first and --last"), "{told}");
        assert_eq!(nums(&listed(&site, &["--first", "0", "--last", "20000"]).await), expected);
        let rows = listed(&site, &["--from", "2026-06-17T10:00:00Z", "--to", "2026-06-17T10:03:00Z"]).await;
        assert_eq!(nums(&rows), expected);
        assert_eq!(cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_says_so_in_its_last_line_and_by_its_exit_code() {
    let (cloud, site, _) = full(SimCloudConfig::default(), 9000).await;
    for fault in ["refuse=passings:503@2+1h", "refuse=passings:403@2+1h"] {
        cloud.habits(Habits::of(1, [fault]).unwrap());
        let output = site.output(&["passings", "--json"]).await;
        let written = String::from_utf8(output.stdout.clone()).unwrap().lines().count();
        assert!((1000..9000).contains(&written), "{written}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = told.lines().last().unwrap_or_default();
        assert!(last.contains(&format!("the list is cut short after {written} passings")), "{told}");
        ended(&output, 69);
    }
}

#[tokio::test]
async fn what_cannot_be_listed_is_told_in_a_sentence_and_with_its_exit_code() {
    const OTHERS: &str = "65B20000000000000000000000000000000000000000000000000000000B226C";
    let other = OtherCompany { keys: Vec::new(), devices: vec![(OTHERS.into(), "theirs".into())] };
    let config = SimCloudConfig { others: vec![other], ..Default::default() };
    let (cloud, site, token) = full(config, 10).await;
    let theirs = cloud.open_session(OTHERS, "Their race");
    let tell = async |arguments: &[&str], code: i32, told: &[&str]| {
        let text = ended(&site.output(&[&["passings"], arguments].concat()).await, code);
        for told in told {
            assert!(text.contains(told), "{told}: {text}");
        }
    };
    tell(&["--session", "NOSUCH"], 64, &["NOSUCH", "passbridge session list"]).await;
    tell(&["--session", &theirs], 64, &["session"]).await;
    tell(&["--device", OTHERS], 64, &["device list"]).await;
    tell(&["--device", "65A1NOBODY"], 64, &["65A1NOBODY"]).await;
    tell(&["--first", "9", "--last", "3"], 64, &["--last 3 is before --first 9"]).await;
    tell(&["--from", "noon"], 64, &["--from noon: must be a time such as"]).await;
    tell(&["--from", "2026-06-18", "--to", "2026-06-17"], 64, &["--to must be later than --from"]).await;
    tell(&["--from", "2026-06-18", "--session", &token], 64, &["cannot be used with"]).await;
    tell(&["--first", "100"], 0, &["the cloud holds no passings there"]).await;

    cloud.configure(|config| config.keys = vec![(KEY.into(), Access::Write)]);
    tell(&[], 77, &["READ_WRITE"]).await;
    cloud.configure(|config| config.keys = Vec::new());
    tell(&["--session", &token], 77, &["key"]).await;
    cloud.configure(|config| config.keys = vec![(KEY.into(), Access::ReadWrite)]);
    cloud.fault_always(On::HeldByNumber, CloudFault::before(Answer::html()));
    tell(&[], 69, &["captive portal"]).await;
    cloud.clear_faults();
    cloud.close_session(&token);
    tell(&[], 0, &["10 passings"]).await; // the newest one is shown when none is active
    cloud.set_online(false).await;
    tell(&[], 69, &["cannot be reached"]).await;
}

#[tokio::test]
async fn a_device_without_a_session_and_a_daemon_that_does_not_answer_are_told() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let (_, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let text = ended(&site.output(&["passings"]).await, 69);
    assert!(text.contains("has no session in the cloud yet"), "{text}");
    let token = cloud.open_session(DEVICE, "Race");
    cloud.put_foreign(&token, &[foreign(1)]);
    // A daemon that is there and does not say how far its log is on the disk.
    std::fs::create_dir_all(site.data.join("log")).unwrap();
    let socket = tokio::net::UnixListener::bind(site.data.join("control.sock")).unwrap();
    let _daemon = tokio::spawn(async move { while socket.accept().await.is_ok() {} });
    let output = site.output(&["passings", "--json"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "the cloud's list is there");
    let text = ended(&output, 74);
    assert!(text.contains("could not be read") && text.contains("which passings are of this box"), "{text}");
}
