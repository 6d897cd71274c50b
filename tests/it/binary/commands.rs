//! The commands as a timer types them, beside the daemon and without it; and the key, which none of
//! them shows.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use passbridge::testing::sim::cloud::{
    Answer, Apply, Chance, CloudFault, DEVICE, Dedup, KEY, On, SimCloud, SimCloudConfig,
};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::Snapshot;
use serde_json::Value;
use tokio::time::interval;

use crate::support::child::{Running, SETTLES_SOON, Site, binary, decoder, exported, free_port, judge, passing, until};

#[tokio::test]
async fn status_and_export_answer_beside_the_daemon_and_export_also_without_it() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let output = site.output(&["status"]).await;
    assert_eq!(output.status.code(), Some(69), "nobody runs: {output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("does not run here"));
    assert_eq!(site.output(&["export", "--format", "csv"]).await.status.code(), Some(69), "nothing was ever kept");

    let running = site.start();
    sim.push(30);
    site.sent(30).await;
    let counted = |status: &Snapshot| {
        let session = status.uploads[0].session.as_ref();
        status.journal.reads.is_some_and(|reads| reads.in_cloud == 30)
            && session.is_some_and(|session| session.numbered == Some(30))
    };
    site.until("the reads are counted", counted).await;
    let output = site.output(&["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("finish: REA"), "{text}");
    assert!(text.contains("\non this box: 30 reads, all sent (since the journal was begun)\n"), "{text}");
    assert!(text.contains(", 30 numbered since it was opened, 30 sent since the journal was begun"), "{text}");
    assert!(text.contains(": connected, 30 reads since the start"), "{text}");
    let there = site.output(&["status", "--timezone", "Asia/Kathmandu"]).await;
    let text = String::from_utf8(there.stdout).unwrap();
    let mat = text.lines().find(|line| line.starts_with("decoder ")).unwrap();
    assert!(mat.contains(" by its clock (received 20") && mat.ends_with(" +0545)"), "{text}");
    let there = site.output(&["check", "--timezone", "Asia/Kathmandu"]).await;
    let text = String::from_utf8(there.stdout).unwrap();
    assert!(text.lines().any(|line| line.contains(" clock: ") && line.contains(" +0545")), "{text}");
    let output = site.output(&["status", "--json", "--timezone", "Asia/Kathmandu"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"received\":\"20") && text.contains("Z\"") && !text.contains("+05"), "{text}");
    let status: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((status.decoders[0].reads, status.uploads[0].sent), (30, 30));
    let beside = site.export().await;
    assert_eq!(
        beside.iter().filter_map(exported).collect::<Vec<_>>(),
        sim.reads().iter().map(passing).collect::<Vec<_>>()
    );
    running.stop().await;
    assert_eq!(site.export().await, beside);
    for (format, line) in [("csv", "seq,"), ("cloudbox", "passingNumber"), ("raw", ";")] {
        let output = site.output(&["export", "--format", format]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(line) && text.lines().count() >= 30, "{format}: {text}");
    }
}

#[tokio::test]
async fn check_is_green_for_a_box_that_would_work_also_while_it_does() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (_sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    for arguments in [&["check"][..], &["check", "--connect"]] {
        let output = site.output(arguments).await;
        assert!(output.status.success(), "{output:?}");
    }
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    let output = site.output(&["check", "--connect"]).await;
    assert!(output.status.success(), "{output:?}");
    running.stop().await;
    assert_eq!(cloud.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn check_tells_what_a_corrected_device_id_left_behind_and_resend_lets_it_follow_without_the_daemon() {
    const RIGHT: &str = "65A1000000000000000000000000000000000000000000000000000000000002";
    let cloud = SimCloud::start(SimCloudConfig { dedup: Dedup::None, ..Default::default() }).await.unwrap();
    cloud.configure(|config| config.devices.push((RIGHT.into(), "right".into())));
    let wrong = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "[upload]\nretry_max = \"1s\"\nsettle = \"1s\"\n");
    cloud.fault_always(On::Insert, CloudFault::partly(Apply::First(3), Answer::Cut));
    let running = site.start();
    sim.push(20);
    until("something is on its way", async || cloud.post_count() > 0).await;
    cloud.fault_always(On::Held, CloudFault::before(Answer::Status(503)));
    running.stop().await;
    cloud.clear_faults();
    let there = cloud.passings(&wrong).len();
    assert!((1..20).contains(&there), "{there}");

    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace(DEVICE, RIGHT)).unwrap();
    let resend = ["resend", "--from-device", DEVICE, "--to-device", RIGHT];
    let output = site.output(&["check"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains(&resend.join(" ")), "{told}");
    for wrong in [
        ["resend", "--from-device", RIGHT, "--to-device", RIGHT],
        ["resend", "--from-device", DEVICE, "--to-device", "X"],
    ] {
        assert_eq!(site.output(&wrong).await.status.code(), Some(64));
    }
    assert_eq!(site.output(&["resend"]).await.status.code(), Some(64));
    cloud.set_online(false).await;
    let output = site.output(&resend).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(69) && told.contains("stay until the cloud tells"), "{told}");
    cloud.set_online(true).await;
    let output = site.output(&resend).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains(&format!("go to device {RIGHT} now")), "{told}");
    let told = String::from_utf8(site.output(&["check"]).await.stdout).unwrap();
    assert!(!told.contains("resend"), "{told}");

    let right = cloud.open_session(RIGHT, "Right");
    let running = site.start();
    until("all are there", async || cloud.stored() == 20).await;
    site.until("nothing waits", |status| status.journal.pending == 0 && status.journal.serving).await;
    running.stop().await;
    assert_eq!((cloud.passings(&wrong).len(), cloud.passings(&right).len()), (there, 20 - there));
    assert_eq!(cloud.violations(), Vec::<String>::new());
}

#[test]
fn decode_tells_what_is_in_a_capture_on_standard_input() {
    let decode = |arguments: &[&str], bytes: &[u8]| {
        let mut command = binary(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let line = b"aa000580000000b600012611232211071e98\r\nrubbish\r\n";
    let text = decode(&["decode", "--protocol", "ipico", "--timezone", "Europe/Madrid"], line);
    let frames: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (frames.len(), frames[0]["kind"].as_str(), frames[1]["kind"].as_str()),
        (2, Some("read"), Some("rejected"))
    );
    assert_eq!(frames[0]["chip"], "0580000000b6");
    assert_eq!(frames[0]["time"], "2026-11-23T21:11:07.300Z");
}

#[tokio::test]
async fn three_commands_in_three_terminals_bring_reads_into_a_cloud() {
    let dir = tempfile::tempdir().unwrap();
    let (cloud, mat) = (free_port(), free_port());
    let place = |name: &str| {
        let place = dir.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let (cloud_dir, mat_dir) = (place("cloud"), place("decoder"));
    let said = |dir: &std::path::Path| std::fs::read_to_string(dir.join("stdout")).unwrap_or_default();
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let _cloud = Running::spawn(binary(&["simulate", "cloud", "--no-dedup", "--listen", &listen(cloud)]), &cloud_dir);
    let simulate = ["simulate", "decoder", "--protocol", "raceresult", "--rate", "100", "--count", "40", "--listen"];
    let mut simulate = binary(&simulate);
    simulate.arg(listen(mat));
    let _decoder = Running::spawn(simulate, &mat_dir);
    until("the cloud says its key", async || said(&cloud_dir).contains(KEY)).await;
    let url = format!("http://127.0.0.1:{cloud}/v0");
    let mats = [(Kind::RACE_RESULT, format!("tcp://{}", listen(mat)))];
    let site = Site::at(tempfile::tempdir().unwrap(), dir.path().join("data"), Some(url), &mats, "");
    let running = site.start();
    site.sent(40).await;
    until("the cloud says so", async || said(&cloud_dir).contains("40 in all")).await;
    assert!(!said(&cloud_dir).contains("violation"), "{}", said(&cloud_dir));
    running.stop().await;
}

#[tokio::test]
async fn the_key_is_in_no_log_status_export_file_or_process_list() {
    let level = "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,sled=info";
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let faults = vec![
        CloudFault::before(Answer::Status(403)),
        CloudFault::before(Answer::html()),
        CloudFault::before(Answer::Redirect("/elsewhere".into())),
        CloudFault::after(Answer::Cut),
        CloudFault::before(Answer::Status(500)),
        CloudFault::before(Answer::message(401, "Unauthorized")),
    ];
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let more = format!(
        "[upload]\nmin_interval = \"0s\"\nretry_max = \"1s\"\nsettle = \"1s\"\n[log]\nlevel = \"{level}\"\nformat = \"json\"\n"
    );
    let site = Site::new(Some(&cloud), &[mat], &more);
    let running = site.start();
    sim.push(5);
    assert!(cloud.wait_for(5, Duration::from_secs(20)).await);
    cloud.fault_by_chance(Chance { on: On::Any, seed: 1, odds: 0.8, faults: faults.clone() });
    let mut ticks = interval(Duration::from_millis(50));
    let posts = cloud.post_count();
    for _ in 0..40 {
        ticks.tick().await;
        sim.push(1);
    }
    cloud.wait_until(Duration::from_secs(5), |cloud| cloud.post_count() >= posts + 3).await;

    // Its environment is readable for root only.
    let proc = |name: &str| std::fs::read(format!("/proc/{}/{name}", running.id())).unwrap_or_default();
    let mut seen = vec![
        ("its arguments".to_owned(), proc("cmdline")),
        ("its environment".to_owned(), proc("environ")),
        ("status --json".to_owned(), site.output(&["status", "--json"]).await.stdout),
        ("status".to_owned(), site.output(&["status"]).await.stdout),
        ("export".to_owned(), site.output(&["export", "--format", "jsonl"]).await.stdout),
        ("check".to_owned(), site.output(&["check", "--connect"]).await.stdout),
    ];
    for command in [&["--help"][..], &["run", "--help"], &["check", "--help"]] {
        seen.push((command.join(" "), binary(command).output().unwrap().stdout));
    }
    for path in ["/", "/api/status", "/metrics", "/api/reads", "/healthz", "/readyz", "/nowhere"] {
        seen.push((path.to_owned(), site.get(path).await.unwrap().1.into_bytes()));
    }
    running.stop().await;
    seen.push(("the log".to_owned(), site.said().into_bytes()));
    let mut dirs = vec![site.data.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => seen.push((path.display().to_string(), std::fs::read(path).unwrap())),
            }
        }
    }
    assert!(
        site.said().contains("\"TRACE\"") || site.said().contains("\"DEBUG\""),
        "the log is as talkative as it can be"
    );
    for (what, bytes) in seen {
        assert!(!bytes.is_empty() || what.contains("lock") || what.contains("environ"), "{what} is empty");
        assert!(memchr::memmem::find(&bytes, KEY.as_bytes()).is_none(), "the key is in {what}");
    }
}

#[tokio::test]
async fn after_a_kill_the_next_start_finds_the_socket_and_the_lock_free() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::ONE4ALL, 1).await;
    let site = Site::new(Some(&cloud), &[mat], SETTLES_SOON);
    let running = site.start();
    sim.push(10);
    site.sent(10).await;
    running.kill();
    assert_eq!(site.output(&["status"]).await.status.code(), Some(69));
    assert_eq!(site.export().await.iter().filter_map(exported).count(), 10);
    let running = site.start();
    sim.push(10);
    site.sent(20).await;
    running.stop().await;
    judge("killed and started", &cloud, &token, sim.reads().iter().map(passing));
}
