//! What docs/threat-model.md claims of the real program: the key, what others on the box may do,
//! text that steers terminals. Limits of HTTP and of the control socket are tested beside their
//! code (src/web/tests.rs, src/control.rs).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use passbridge::testing::sim::cloud::{Answer, CloudFault, DEVICE, KEY, On, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::support::child::{Running, Site, decoder, free_port, until};

/// Every file and directory below.
fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found
}

/// `sh -c SCRIPT`, with the binary's `run` as its `"$@"`, as the user who may least (or this one,
/// who is no root).
fn run_by(site: &Site, script: &str, user: u32) -> Command {
    let run = site.command(&["run"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "sh"]).arg(run.get_program()).args(run.get_args()).env_clear();
    if rustix::process::geteuid().is_root() {
        shell.uid(user).gid(user);
    }
    shell
}

#[tokio::test]
async fn other_users_of_the_box_see_neither_reads_nor_the_memory_of_the_program() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let home = site.config().parent().unwrap().to_owned();
    let user = if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    for path in all_below(&home) {
        chown(path, Some(user), None).unwrap();
    }
    // The careless way to start it: everything for everybody, core files welcome.
    let careless = "umask 000; ulimit -c unlimited 2>/dev/null; exec \"$@\"";
    let running = Running::spawn(run_by(&site, careless, user), &home);
    sim.push(20);
    site.sent(20).await;

    for path in all_below(&site.data) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{} has mode {:o}", path.display(), mode);
    }
    let socket = fs::metadata(site.data.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(socket & 0o777, 0o660);

    let proc = |name: &str| PathBuf::from(format!("/proc/{}/{name}", running.id()));
    let limits = fs::read_to_string(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(fs::metadata(proc("environ")).unwrap().uid(), 0, "its memory and environment are root's");
    let mut peek = Command::new("/bin/cat");
    if rustix::process::geteuid().is_root() {
        peek.uid(user).gid(user);
    }
    let peeked = peek.arg(proc("environ")).stdin(Stdio::null()).output().unwrap();
    assert!(
        !peeked.status.success() && peeked.stdout.is_empty(),
        "another program of the same user sees it: {peeked:?}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_key_in_any_wrong_place_of_the_configuration_is_not_repeated() {
    let site = Site::new(None, &[(Kind::IPICO, "tcp://127.0.0.1:9".to_owned())], "");
    let right = fs::read_to_string(site.config()).unwrap();
    let cloud = format!("[cloud]\nurl = \"https://cloud.example/v0\"\ndevice_id = \"{DEVICE}\"\n");
    let key_file = site.config().with_file_name("api_key");
    let key_path = key_file.to_str().unwrap();
    let mut wrong: Vec<String> = [
        "KEY",
        "KEY = 1",
        "x = KEY",
        "api_key = \"KEY\"",
        "[cloud]\nKEY",
        "[cloud]\napi_key = \"KEY\"",
        "[cloud]\napi_key = KEY",
        "[cloud]\nurl = \"KEY\"",
        "[cloud]\nurl = \"https://KEY@cloud.example/v0\"",
        "[cloud]\nurl = \"https://x:KEY@cloud.example/v0\"",
        "[cloud]\nurl = \"https://cloud.example/v0?key=KEY\"",
        "[log]\nlevel = \"KEY\"",
        "[log]\nformat = \"KEY\"",
        "[upload]\nlinger = \"KEY\"",
        "[upload]\nbatch_max = \"KEY\"",
        "[passing]\ntag = \"KEY\"",
        "[passing]\nbibs = \"/KEY\"",
        "[keep]\nmax_bytes = \"KEY\"",
        "[keep]\ndays = \"KEY\"",
    ]
    .map(|more| format!("{right}\n{}\n", more.replace("KEY", KEY)))
    .to_vec();
    for line in ["api_key_file = \"KEY\"", "api_key_file = \"/etc/KEY/file\"", "header = \"KEY\"", "session = \"KEY\""]
    {
        wrong.push(format!("{right}\n{cloud}{}\n", line.replace("KEY", KEY)));
    }
    wrong.push(format!("{right}\n{}", cloud.replace(DEVICE, KEY)));
    for (from, to) in [
        ("name = \"finish\"", "name = \"KEY\""),
        ("protocol = \"ipico\"", "protocol = \"KEY\""),
        ("protocol = \"ipico\"", "protocol = \"ipico\"\ntimezone = \"KEY\""),
        ("protocol = \"ipico\"", "protocol = \"ipico\"\nset.KEY = \"1\""),
        ("protocol = \"ipico\"", "protocol = \"ipico\"\nset.dialect = \"KEY\""),
        ("tcp://127.0.0.1:9", "tcp://KEY:9"),
        ("tcp://127.0.0.1:9", "KEY"),
        ("listen = \"127", "listen = \"KEY 127"),
    ] {
        assert!(right.contains(from));
        wrong.push(right.replace(from, &to.replace("KEY", KEY)));
    }
    for text in &wrong {
        fs::write(site.config(), text).unwrap();
        for command in [&["check"][..], &["status"], &["export"]] {
            let output = site.output(command).await;
            assert!(!output.status.success(), "{command:?} takes: {text}");
            silent_about(KEY, &output, text);
        }
        runs_silently_about(KEY, &site, text).await;
    }
    // The file itself, as it comes from a chat or an editor.
    fs::write(site.config(), format!("{right}\n{cloud}api_key_file = \"{key_path}\"\n")).unwrap();
    for content in ["KEY and more", "KEY\nKEY", "KEY\x1b[2J", "KEY\u{e9}", "api_key=KEY x", "key: KEY\r\n2"] {
        fs::write(&key_file, content.replace("KEY", KEY)).unwrap();
        silent_about(KEY, &site.output(&["check"]).await, content);
        runs_silently_about(KEY, &site, content).await;
    }
    for (name, value) in [("API_KEY", "KEY KEY"), ("API_KEY_FILE", "KEY"), ("APIKEY", "KEY"), ("URL", "KEY")] {
        let mut command = site.command(&["check"]);
        command.env(format!("PASSBRIDGE__CLOUD__{name}"), value.replace("KEY", KEY)).stdin(Stdio::null());
        silent_about(KEY, &command.output().unwrap(), name);
    }
}

/// The box runs with what is right, or ends; in neither case it repeats the secret.
async fn runs_silently_about(secret: &str, site: &Site, of: &str) {
    let mut running = site.start();
    let mut ended = None;
    until("it runs or ends", async || {
        ended = running.ended(Duration::ZERO).await;
        ended.is_some() || site.status().await.is_some()
    })
    .await;
    if ended.is_none() {
        let status = serde_json::to_string(&site.status().await.unwrap()).unwrap();
        assert!(status.contains("\"code\""), "it says what is wrong with {of}: {status}");
        assert!(!status.contains(secret), "the key is in the status for {of}: {status}");
        running.stop().await;
    }
    assert!(!site.said().contains(secret), "the key is repeated for {of}: {}", site.said());
}

/// It ended badly, in lines without anything that steers a terminal, and without the secret.
fn silent_about(secret: &str, output: &std::process::Output, of: &str) {
    let said = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    assert_ne!(output.status.code(), Some(0), "{of}: {said}");
    assert_ne!(output.status.code(), Some(101), "{of}: {said}");
    assert!(!said.contains(secret), "the key is repeated for {of}: {said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{of}: {said:?}");
}

#[tokio::test]
async fn a_hostile_decoder_and_a_hostile_cloud_steer_no_terminal_and_forge_no_line() {
    const HOSTILE: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}";
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, &format!("Race{HOSTILE}\n ERROR forged"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let exporter = free_port();
    let mats = [(Kind::IPICO, address), (Kind::MYLAPS, format!("tcp-listen://127.0.0.1:{exporter}"))];
    let site = Site::new(Some(&cloud), &mats, "[log]\nlevel = \"debug\"\n");
    cloud.fault_times(3, On::Insert, CloudFault::before(Answer::message(400, &format!("bad{HOSTILE}\n ERROR forged"))));
    let running = site.start();
    let (mut decoder, _) = listener.accept().await.unwrap();
    let mut bytes = format!("{HOSTILE}\r\n\u{9d}52;c;AAAA\u{9c}\r\n").into_bytes();
    bytes.extend_from_slice(b"aa000580000000b600012611232211071e98\r\n\xff\xfe\x1b[31m\r\n");
    for _ in 0..50 {
        decoder.write_all(&bytes).await.unwrap();
    }
    let mut exporter = TcpStream::connect(("127.0.0.1", exporter)).await.unwrap();
    let hostile_chip = format!("F@Passing@c={HOSTILE}|t=10:00:00.000|d=250308|dv=1@1@$");
    exporter.write_all(hostile_chip.as_bytes()).await.unwrap();
    site.until("the hostile chip is shown and what the cloud refused is set aside", |status| {
        let last = status.decoders[1].last_read.as_ref();
        status.journal.dead_letters > 0 && last.is_some_and(|last| last.chip.contains("owned"))
    })
    .await;
    for command in [&["status"][..], &["check"]] {
        let said = String::from_utf8(site.output(command).await.stdout).unwrap();
        assert!(!said.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{command:?}: {said:?}");
    }
    let page = site.get("/").await.unwrap().1;
    assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{page:?}");
    for command in [&["status", "--json"][..], &["export", "--format", "jsonl"]] {
        let said = site.output(command).await.stdout;
        assert!(!said.contains(&0x1b) && !said.contains(&0x07), "{command:?}: {}", String::from_utf8_lossy(&said));
    }
    running.stop().await;
    let log = site.said();
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
    assert!(!log.lines().any(|line| line.trim_start().starts_with("ERROR forged")), "{log}");
}
