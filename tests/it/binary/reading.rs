//! Reading never stops for something else: whatever of the set-up is wrong at the start, the
//! decoders that are right are read, the box says what is wrong with its cure, and goes on by
//! itself when that is done.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use passbridge::testing::sim::cloud::{DEVICE, KEY, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;
use rustix::process::Signal;

use crate::support::child::{Running, Site, UPLOAD, decoder, free_port, holds, until};

/// Waits until the status is so, and gives it.
async fn shows(site: &Site, what: &str, mut so: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let mut seen = None;
    let so = async || {
        seen = site.status().await;
        seen.as_ref().is_some_and(&mut so)
    };
    assert!(
        holds(crate::support::child::PATIENCE, so).await,
        "not within its time: {what}: {seen:#?}\n{}",
        site.said()
    );
    seen.unwrap()
}

fn problem<'a>(status: &'a Snapshot, code: &str) -> Option<&'a str> {
    status.problems.iter().find(|problem| problem.code == code).map(|problem| problem.message.as_str())
}

/// How many reads of this decoder are kept.
fn reads(status: &Snapshot, name: &str) -> u64 {
    status.decoders.iter().find(|decoder| decoder.name == name).map_or(0, |decoder| decoder.reads)
}

/// So many reads of a decoder that the box is connected to: one that streams keeps none for later.
async fn push(sim: &SimDecoder, count: u64) {
    until("the box is connected", async || *sim.links().borrow() == 1).await;
    sim.push(count);
}

/// The file with this in place of that.
fn edit(site: &Site, from: &str, to: &str) {
    let text = fs::read_to_string(site.config()).unwrap();
    assert!(text.contains(from), "{from:?} is not in:\n{text}");
    fs::write(site.config(), text.replacen(from, to, 1)).unwrap();
}

async fn cloud() -> SimCloud {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    cloud
}

/// Asked to read its files again: no test waits for the next look at a file.
fn reload(running: &Running) {
    running.signal(Signal::HUP);
}

#[tokio::test]
async fn a_key_that_is_missing_empty_or_a_directory_stops_the_upload_only_and_starts_it_when_it_is_there() {
    let cloud = cloud().await;
    for (case, said) in [("missing", "there is no such file"), ("empty", "is empty"), ("directory", "directory")] {
        let (sim, mat) = decoder(Kind::IPICO, 1).await;
        let site = Site::new(Some(&cloud), &[mat], UPLOAD);
        let key = site.config().with_file_name("api_key");
        fs::remove_file(&key).unwrap();
        match case {
            "empty" => fs::write(&key, " \n").unwrap(),
            "directory" => fs::create_dir(&key).unwrap(),
            _ => {}
        }
        let running = site.start();
        push(&sim, 5).await;
        let kept = |status: &Snapshot| reads(status, "ipico-mat") == 5 && status.journal.pending == 5;
        let status = shows(&site, "the reads are kept and wait", kept).await;
        let told = problem(&status, "key_missing").expect("it says that there is no key");
        assert!(told.contains(said) && told.contains(key.to_str().unwrap()), "{case}: {told}");
        assert!(status.ready, "{case}");
        if case == "directory" {
            fs::remove_dir(&key).unwrap();
        }
        fs::write(&key, KEY).unwrap();
        reload(&running);
        site.sent(5).await;
        shows(&site, "the problem is over", |status| problem(status, "key_missing").is_none()).await;
        assert!(!site.said().contains(KEY));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_port_that_another_program_has_stops_one_decoder_or_the_page_and_is_taken_when_it_is_free() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let (_second, (kind, address)) = decoder(Kind::MYLAPS, 2).await;
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let site = Site::new(None, &[mat, (kind, address)], "");
    let decoder_port = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let page = TcpListener::bind(("127.0.0.1", site.page)).unwrap();
    let running = site.start();
    push(&sim, 3).await;
    let status = shows(&site, "the other decoder is read", |status| {
        reads(status, "ipico-mat") == 3 && problem(status, "status_address").is_some()
    })
    .await;
    for (code, port) in [("decoder_port_taken", port), ("status_address", site.page)] {
        let told = problem(&status, code).unwrap_or_else(|| panic!("{code}: {status:#?}"));
        assert!(told.contains(&port.to_string()) && told.contains("another program"), "{told}");
    }
    drop((decoder_port, page));
    let over = |status: &Snapshot| {
        problem(status, "decoder_port_taken").is_none() && problem(status, "status_address").is_none()
    };
    shows(&site, "both are over", over).await;
    assert_eq!(site.get("/healthz").await.map(|(code, _)| code), Some(200));
    running.stop().await;
}

#[tokio::test]
async fn a_token_that_cannot_be_read_locks_the_page_and_stops_nothing_else() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "token_file = \"token\"\n");
    let running = site.start();
    push(&sim, 2).await;
    let status = shows(&site, "the reads are kept", |status| reads(status, "ipico-mat") == 2).await;
    let told = problem(&status, "token_unusable").expect("it says that there is no token");
    assert!(told.contains("no such file") && told.contains("token_file"), "{told}");
    let code = async |path| site.get(path).await.map(|(code, _)| code);
    for path in ["/", "/api/status", "/metrics", "/api/reads"] {
        assert_eq!(code(path).await, Some(503), "{path} is shown to nobody");
    }
    assert_eq!((code("/healthz").await, code("/readyz").await), (Some(200), Some(200)));
    fs::write(site.config().with_file_name("token"), "very-secret\n").unwrap();
    reload(&running);
    shows(&site, "it is over", |status| problem(status, "token_unusable").is_none()).await;
    assert_eq!(code("/api/status").await, Some(401), "the token is wanted now");
    running.stop().await;
}

#[tokio::test]
async fn a_bib_file_that_is_not_there_stops_nothing() {
    let cloud = cloud().await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], &format!("{UPLOAD}[passing]\nbibs = \"start-list.csv\"\n"));
    let running = site.start();
    let status = shows(&site, "it is told", |status| problem(status, "bibs_missing").is_some()).await;
    assert!(problem(&status, "bibs_missing").unwrap().contains("start-list.csv"));
    push(&sim, 4).await;
    site.sent(4).await;
    running.stop().await;
}

#[tokio::test]
async fn a_decoder_with_a_mistake_in_its_section_waits_for_its_correction_and_the_others_are_read() {
    for (wrong, right, said) in [
        ("set.spede = \"9\"\n", "", "spede"),
        ("timezone = \"Europe/Madird\"\n", "timezone = \"UTC\"\n", "did you mean"),
        ("colour = \"red\"\n", "", "unknown key"),
    ] {
        let (first, mat) = decoder(Kind::IPICO, 1).await;
        // A decoder that keeps its reads: the box may start anew when nothing else will do.
        let (second, (_, address)) = decoder(Kind::RACE_RESULT, 2).await;
        let bad = format!("[[decoder]]\nname = \"spare\"\nprotocol = \"raceresult\"\naddress = \"{address}\"\n{wrong}");
        let site = Site::new(None, &[mat], &bad);
        let running = site.start();
        let connected = first.links().clone();
        push(&first, 3).await;
        second.push(2);
        let status = shows(&site, "the other one is read", |status| reads(status, "ipico-mat") == 3).await;
        let told = problem(&status, "decoder_misconfigured").unwrap_or_else(|| panic!("{wrong}: {status:#?}"));
        assert!(told.contains("passbridge.toml:") && told.contains(said), "{told}");
        edit(&site, wrong, right);
        reload(&running);
        if wrong.starts_with("timezone") {
            // The whole box must start anew, and would lose reads of the first one.
            let status =
                shows(&site, "it wants a restart", |status| problem(status, "decoder_waits_for_restart").is_some());
            let status = status.await;
            let told = problem(&status, "decoder_waits_for_restart").unwrap();
            assert!(told.contains("systemctl restart passbridge") && told.contains("ipico-mat"), "{told}");
            assert!(problem(&status, "configuration_changed").is_none(), "one problem says it: {status:#?}");
        } else {
            shows(&site, "the corrected one is read", |status| reads(status, "spare") == 2).await;
        }
        shows(&site, "the problem is over", |status| problem(status, "decoder_misconfigured").is_none()).await;
        first.push(1);
        shows(&site, "the first one goes on", |status| reads(status, "ipico-mat") == 4).await;
        assert_eq!(
            (*connected.borrow(), site.said().matches("anew").count()),
            (1, 0),
            "its connection was not touched"
        );
        running.stop().await;
    }
}

#[tokio::test]
async fn a_box_without_a_decoder_runs_and_reads_one_as_soon_as_it_is_configured() {
    let (sim, (_, address)) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[], "");
    let running = site.start();
    let status = shows(&site, "it runs", |status| status.ready).await;
    assert!(problem(&status, "no_decoder").is_some(), "{status:#?}");
    assert_eq!(site.get("/healthz").await.map(|(code, _)| code), Some(200));
    let more = format!("[[decoder]]\nname = \"mat\"\nprotocol = \"ipico\"\naddress = \"{address}\"\n");
    edit(&site, "[status]", &format!("{more}timezone = \"UTC\"\n[status]"));
    reload(&running);
    shows(&site, "it is connected", |status| status.decoders.len() == 1 && *sim.links().borrow() == 1).await;
    push(&sim, 2).await;
    let status = shows(&site, "it reads", |status| reads(status, "mat") == 2).await;
    assert!(problem(&status, "no_decoder").is_none(), "{status:#?}");
    running.stop().await;
}

#[tokio::test]
async fn a_mistake_about_the_upload_holds_the_upload_and_is_taken_on_when_no_read_can_get_lost() {
    let cloud = cloud().await;
    for kind in [Kind::RACE_RESULT, Kind::IPICO] {
        let name = format!("{}-mat", kind.name());
        let (sim, mat) = decoder(kind, 1).await;
        let site = Site::new(Some(&cloud), &[mat], "[upload]\nbatch_max = 0\nlinger = \"20ms\"\nsettle = \"1s\"\n");
        let running = site.start();
        push(&sim, 3).await;
        let kept = |status: &Snapshot| reads(status, &name) == 3 && status.journal.pending == 3;
        let status = shows(&site, "the reads are kept and wait", kept).await;
        let told = problem(&status, "upload_misconfigured").unwrap_or_else(|| panic!("{status:#?}"));
        assert!(told.contains("upload.batch_max = 0") && told.contains("from 1 to 500"), "{told}");
        edit(&site, "batch_max = 0", "batch_max = 10");
        reload(&running);
        if kind == Kind::IPICO {
            let restart = |status: &Snapshot| problem(status, "upload_waits_for_restart").is_some();
            let status = shows(&site, "it asks for a restart, because ipico keeps nothing", restart).await;
            let told = problem(&status, "upload_waits_for_restart").unwrap();
            assert!(told.contains("systemctl restart passbridge") && told.contains("ipico-mat"), "{told}");
            for over in ["upload_misconfigured", "configuration_wrong", "configuration_changed"] {
                assert_eq!(problem(&status, over), None, "{status:#?}");
            }
            assert_eq!(status.state.word(), "not-uploading", "{status:#?}");
            assert!(status.todo.iter().any(|todo| todo.contains("systemctl restart passbridge")), "{status:#?}");
            assert!(!format!("{:?}", status.todo).contains("by itself"), "{status:#?}");
            // Another mistake in the file is told again, with its line.
            edit(&site, "batch_max = 10", "batch_max = 501");
            reload(&running);
            let wrong =
                |status: &Snapshot| problem(status, "upload_misconfigured").is_some_and(|it| it.contains("501"));
            let status = shows(&site, "the mistake is told", wrong).await;
            assert_eq!(problem(&status, "upload_waits_for_restart"), None, "{status:#?}");
        } else {
            site.sent(3).await;
            let status = site.status().await.unwrap();
            assert!(problem(&status, "upload_misconfigured").is_none(), "{status:#?}");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn the_page_is_never_shown_to_others_because_of_a_mistake() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let port = free_port();
    edit(&site, &format!("127.0.0.1:{}", site.page), &format!("0.0.0.0:{port}"));
    let running = site.start();
    push(&sim, 1).await;
    let status = shows(&site, "the reads are kept", |status| reads(status, "ipico-mat") == 1).await;
    assert!(problem(&status, "configuration_wrong").unwrap().contains("token_file"), "{status:#?}");
    until("the page is there for this box", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        .await;
    assert!(tokio::net::TcpStream::connect(("127.0.0.2", port)).await.is_err(), "and at no other address");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_no_reason_either() {
    // Whoever may read everything (root) cannot be kept from it: then the test shows that nothing
    // stops.
    let cloud = cloud().await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "token_file = \"token\"\n[passing]\nbibs = \"bibs.csv\"\n");
    for name in ["api_key", "token", "bibs.csv"] {
        let path = site.config().with_file_name(name);
        fs::write(&path, KEY).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let running = site.start();
    push(&sim, 3).await;
    shows(&site, "the reads are kept", |status| reads(status, "ipico-mat") == 3).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_changed_while_the_box_runs_is_reported_and_the_running_box_can_be_asked() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let running = site.start();
    push(&sim, 2).await;
    shows(&site, "it reads", |status| reads(status, "ipico-mat") == 2).await;
    let right = fs::read_to_string(site.config()).unwrap();
    let quiet = |status: &Snapshot| !status.problems.iter().any(|problem| problem.code.starts_with("configuration"));

    // A file that cannot be understood, and no file.
    let broken = right.replace("[[decoder]]", "[[decoder]");
    for (case, text, said) in [("broken", Some(&broken), "passbridge.toml:3"), ("removed", None, "no such")] {
        match text {
            Some(text) => fs::write(site.config(), text).unwrap(),
            None => fs::remove_file(site.config()).unwrap(),
        }
        reload(&running);
        let unreadable = |status: &Snapshot| problem(status, "configuration_unreadable").is_some();
        let status = shows(&site, case, unreadable).await;
        let told = problem(&status, "configuration_unreadable").unwrap();
        assert!(told.contains(said) && told.contains("passbridge.toml"), "{case}: {told}");
        // The data directory is in the broken file; without a file it has to be named.
        let flags = ["status", "--data-dir", site.data.to_str().unwrap()];
        let output = site.output(if text.is_some() { &flags[..1] } else { &flags }).await;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("ipico-mat"), "{case}: {output:?}");
        assert_ne!(output.status.code(), Some(78), "{case}");
        if text.is_some() {
            assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{case}: {output:?}");
        }
        fs::write(site.config(), &right).unwrap();
        reload(&running);
        shows(&site, "it is over", quiet).await;
    }

    // A file that is right, or has a mistake that a part waits for, and is not what runs.
    for (from, to, said) in [
        ("protocol = \"ipico\"", "protocol = \"mylaps\"", "decoder `ipico-mat`"),
        ("timezone = \"UTC\"", "timezone = \"Europe/Madrid\"", "systemctl restart passbridge"),
        ("[status]", "[upload]\nlinger = \"1s\"\n[status]", "[upload]"),
        ("name = \"finish\"", "name = \"start\"", "(name)"),
        ("timezone = \"UTC\"", "timezone = \"Europe/Madird\"", "did you mean"),
        ("[status]", "[upload]\nbatch_max = 0\n[status]", "from 1 to 500"),
    ] {
        edit(&site, from, to);
        reload(&running);
        let changed = |status: &Snapshot| problem(status, "configuration_changed").is_some();
        let status = shows(&site, to, changed).await;
        let told = problem(&status, "configuration_changed").unwrap();
        assert!(told.contains(said), "{to}: {told}");
        assert_eq!(status.decoders.len(), 1, "{to}");
        fs::write(site.config(), &right).unwrap();
        reload(&running);
        shows(&site, "it is over", quiet).await;
    }
    assert_eq!(*sim.links().borrow(), 1, "its connection was not touched");
    running.stop().await;
}

#[tokio::test]
async fn the_file_of_the_key_is_looked_at_again_when_its_rights_or_its_content_change() {
    let cloud = cloud().await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let key = site.config().with_file_name("api_key");
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let running = site.start();
    let open = |status: &Snapshot| problem(status, "configuration").is_some_and(|told| told.contains("chmod 640"));
    shows(&site, "everybody may read the key", open).await;
    mode(0o640);
    reload(&running);
    shows(&site, "it is over", |status| problem(status, "configuration").is_none()).await;
    mode(0o644);
    reload(&running);
    shows(&site, "it is told again", open).await;
    mode(0o600);
    reload(&running);
    shows(&site, "it is over", |status| problem(status, "configuration").is_none()).await;

    // While the cloud takes the key, the box goes on with it.
    push(&sim, 1).await;
    site.sent(1).await;
    for text in [Some(""), None] {
        match text {
            Some(text) => fs::write(&key, text).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        reload(&running);
        let said = if text.is_some() { "has new content that cannot be used as the API key" } else { " is gone: " };
        let told = |status: &Snapshot| {
            problem(status, "key_file_unusable")
                .is_some_and(|told| told.contains(said) && told.contains("before goes on being used"))
        };
        shows(&site, "it is told", told).await;
    }
    push(&sim, 1).await;
    site.sent(2).await;
    fs::write(&key, KEY).unwrap();
    reload(&running);
    shows(&site, "it is over", |status| problem(status, "key_file_unusable").is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_key_that_the_cloud_refuses_is_none_when_its_file_is_empty_or_gone() {
    let cloud = cloud().await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let key = site.config().with_file_name("api_key");
    fs::write(&key, "ror-wrong").unwrap();
    let running = site.start();
    let refused =
        |status: &Snapshot| problem(status, "key_refused").is_some() && problem(status, "key_file_unusable").is_none();
    shows(&site, "the cloud refuses the key", refused).await;
    for text in [Some(" \n"), None] {
        match text {
            Some(text) => fs::write(&key, text).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        reload(&running);
        let said = if text.is_some() { "is empty" } else { "no such file" };
        let missing = |status: &Snapshot| {
            problem(status, "key_missing").is_some_and(|told| told.contains(said))
                && !status.todo.iter().any(|todo| todo.contains("Check the API key"))
        };
        shows(&site, "there is no key", missing).await;
    }
    fs::write(&key, KEY).unwrap();
    reload(&running);
    push(&sim, 1).await;
    site.sent(1).await;
    let over = |status: &Snapshot| !status.problems.iter().any(|problem| problem.code.starts_with("key_"));
    shows(&site, "all is over", over).await;
    running.stop().await;
}

#[tokio::test]
async fn a_decoder_with_the_name_of_another_one_asks_for_a_restart_when_it_has_its_own() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let (_second, (_, address)) = decoder(Kind::RACE_RESULT, 2).await;
    let bad =
        format!("[[decoder]]\nname = \"ipico-mat\" # the second\nprotocol = \"raceresult\"\naddress = \"{address}\"\n");
    let site = Site::new(None, &[mat], &bad);
    let running = site.start();
    push(&sim, 1).await;
    let told = |status: &Snapshot| problem(status, "decoder_misconfigured").is_some_and(|told| told.contains("unique"));
    shows(&site, "the name is told", told).await;
    edit(&site, "\"ipico-mat\" # the second", "\"spare\"");
    reload(&running);
    let waits = |status: &Snapshot| problem(status, "decoder_waits_for_restart").is_some();
    let status = shows(&site, "it asks for a restart", waits).await;
    assert_eq!(problem(&status, "decoder_misconfigured"), None, "{status:#?}");
    assert!(status.todo.iter().any(|todo| todo.contains("systemctl restart passbridge")), "{status:#?}");
    assert_eq!(*sim.links().borrow(), 1, "the first one's connection was not touched");
    running.stop().await;
}
