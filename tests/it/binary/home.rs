//! No place to keep reads at the start: the box runs, says so, acknowledges nothing, and goes on by
//! itself. What needs a mounted file system says so where this user may not mount one (not root),
//! and proves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::Snapshot;

use crate::support::child::{Mat, Running, Site, UPLOAD, decoder, exported, holds, judge, passing, until};

async fn cloud() -> (SimCloud, String) {
    let config = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
    let cloud = SimCloud::start(config).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    (cloud, token)
}

fn site(data: &Path, cloud: &SimCloud, mats: &[Mat]) -> Site {
    Site::at(tempfile::tempdir().unwrap(), data.to_owned(), Some(cloud.url()), mats, UPLOAD)
}

/// What `passbridge status` shows, also while there is no control socket.
async fn shown(site: &Site) -> Option<Snapshot> {
    let output = site.output(&["status", "--json"]).await;
    // 14: cannot keep, and that is shown.
    matches!(output.status.code(), Some(0..=14)).then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// The box runs without a place to keep reads, and says what is wrong in these words.
async fn waits(site: &Site, acked: u64, sims: [&SimDecoder; 2], words: &[&str]) {
    let mut reason = (0, String::new());
    until("it says that it cannot keep reads", async || {
        reason = site.get("/readyz").await.unwrap_or_default();
        reason.0 == 503 && reason.1.contains("disk: ")
    })
    .await;
    for word in words {
        assert!(reason.1.contains(word), "{word}: {}", reason.1);
    }
    assert_eq!(site.get("/healthz").await.map(|(code, _)| code), Some(200));
    let [acking, streaming] = sims;
    acking.push(20);
    streaming.push(20);
    let mut status = None;
    until("`passbridge status` shows that reads wait in memory", async || {
        status = shown(site).await;
        let buffered = |at: usize| status.as_ref().map_or(0, |status| status.decoders[at].buffered);
        buffered(0) > 0 && buffered(1) >= 20
    })
    .await;
    let status = status.unwrap();
    assert!(!status.ready && status.decoders.iter().all(|decoder| decoder.reads == 0), "{status:#?}");
    let problem = status.problems.iter().find(|problem| problem.code == "disk_unusable").expect("a problem says so");
    assert!(words.iter().all(|word| problem.message.contains(word)), "{}", problem.message);
    assert_eq!(*acking.acked_count().borrow(), acked, "acknowledged and not kept");
    let text = site.output(&["status"]).await;
    assert!(String::from_utf8_lossy(&text.stdout).starts_with("finish: CANNOT KEEP. "), "{text:?}");
}

/// Then the disk comes.
async fn goes_on(what: &str, site: &Site, running: Running, cloud: &SimCloud, token: &str, sims: [&SimDecoder; 2]) {
    until("it is ready", async || site.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    for sim in sims {
        sim.push(10);
    }
    let all: usize = sims.iter().map(|sim| sim.reads().len()).sum();
    site.sent(all as u64).await;
    site.until("nothing is wrong any more", |status| status.ready && status.problems.is_empty()).await;
    assert_eq!(site.status().await.map(|status| status.decoders.iter().map(|decoder| decoder.dropped).sum()), Some(0));
    until("all are acknowledged", async || *sims[0].acked_count().borrow() as usize == sims[0].reads().len()).await;
    running.stop().await;
    judge(what, cloud, token, sims.iter().flat_map(|sim| sim.reads()).map(|read| passing(&read)));
    assert_eq!(kept(site).await, all, "{what}");
}

/// Different reads in the log: what was not acknowledged in time was said again.
async fn kept(site: &Site) -> usize {
    site.export().await.iter().filter_map(exported).collect::<BTreeSet<_>>().len()
}

/// From the start without a disk to its end.
async fn a_box(what: &str, data: &Path, words: &[&str], comes: impl FnOnce()) {
    let (cloud, token) = cloud().await;
    let (acking, first) = decoder(Kind::MYLAPS, 1).await;
    let (streaming, second) = decoder(Kind::IPICO, 2).await;
    let site = site(data, &cloud, &[first, second]);
    let told = site.config().with_file_name("notify");
    let systemd = UnixDatagram::bind(&told).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let running = site.start_with(&[("NOTIFY_SOCKET", told.to_str().unwrap())]);
    let heard = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 1024];
        loop {
            let length = systemd.recv(&mut buffer).expect("systemd would end the start");
            // A line of status may come before.
            if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
                return;
            }
        }
    });
    heard.await.unwrap();
    until("both have a listener", async || *acking.links().borrow() > 0 && *streaming.links().borrow() > 0).await;
    let sims = [&acking, &streaming];
    waits(&site, 0, sims, words).await;
    comes();
    goes_on(what, &site, running, &cloud, &token, sims).await;
}

#[tokio::test]
async fn a_data_directory_that_is_not_there_yet_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let stick = place.path().join("stick");
    fs::write(&stick, "not a directory").unwrap();
    let data = stick.join("data");
    a_box("the way to it is blocked", &data, &[data.to_str().unwrap(), "not there", "data_dir"], || {
        fs::remove_file(&stick).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_link_to_a_disk_that_is_not_there_yet_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let (data, target) = (place.path().join("data"), place.path().join("disk"));
    std::os::unix::fs::symlink(&target, &data).unwrap();
    a_box("a link to nowhere", &data, &[data.to_str().unwrap(), "not there"], || fs::create_dir(&target).unwrap())
        .await;
}

#[tokio::test]
async fn a_file_in_place_of_the_data_directory_is_told_and_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    fs::write(&data, "").unwrap();
    a_box("a file stands there", &data, &[data.to_str().unwrap(), "is a file and no directory"], || {
        fs::remove_file(&data).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_disk_that_never_comes() {
    let place = tempfile::tempdir().unwrap();
    let blocked = place.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let (cloud, _) = cloud().await;
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = site(&blocked.join("data"), &cloud, &[mat]);
    let running = site.start();
    until("the decoder has a listener", async || *sim.links().borrow() > 0).await;
    sim.push(5);
    until("they wait", async || shown(&site).await.is_some_and(|status| status.decoders[0].buffered > 0)).await;
    running.stop().await;
}

/// A file system in memory; unmounted when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", "size=44m", "passbridge-test"]).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at)),
            other => {
                eprintln!("SKIPPED: this user cannot mount a tmpfs, so no disk can come and go here: {other:?}");
                None
            }
        }
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0).status().unwrap();
        assert!(status.success(), "remounted {how}");
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: a process that is still being killed must not keep it.
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_read_only_at_the_start_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(place.path()) else { return };
    let data = place.path().join("data");
    disk.remount("ro");
    a_box("nothing on it, read-only", &data, &[data.to_str().unwrap(), "can only be read"], || disk.remount("rw"))
        .await;
    // Now there is a journal on it.
    disk.remount("ro");
    let (cloud, token) = cloud().await;
    let (acking, first) = decoder(Kind::MYLAPS, 3).await;
    let (streaming, second) = decoder(Kind::IPICO, 4).await;
    let site = site(&data, &cloud, &[first, second]);
    let before = kept(&site).await;
    assert!(before > 0, "what is there can be read");
    let running = site.start();
    until("both have a listener", async || *acking.links().borrow() > 0 && *streaming.links().borrow() > 0).await;
    waits(&site, 0, [&acking, &streaming], &["can only be read"]).await;
    disk.remount("rw");
    until("it is ready", async || site.get("/readyz").await.is_some_and(|(code, _)| code == 200)).await;
    until("all are acknowledged", async || *acking.acked_count().borrow() as usize == acking.reads().len()).await;
    until("they are sent", async || cloud.stored() == 40).await;
    running.stop().await;
    judge("read-only", &cloud, &token, acking.reads().iter().chain(&streaming.reads()).map(passing));
    assert_eq!(kept(&site).await, before + 40);
}

#[tokio::test]
async fn an_empty_disk_that_is_mounted_over_the_data_takes_the_journal_with_all_that_waits() {
    let place = tempfile::tempdir().unwrap();
    let (cloud, token) = cloud().await;
    cloud.set_online(false).await;
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let data = place.path().join("data");
    let site = site(&data, &cloud, &[mat]);
    let running = site.start_with(&[("PASSBRIDGE_TRIAL_TURN_MS", "100")]);
    sim.push(50);
    until("they are acknowledged", async || *sim.acked_count().borrow() == 50).await;
    let Some(disk) = Disk::mount(place.path()) else { return };
    sim.push(50);
    until("they are acknowledged", async || *sim.acked_count().borrow() == 100).await;
    assert!(data.join("log").is_dir(), "the journal is on the disk that came");
    site.until("it is told", |status| status.problems.iter().any(|problem| problem.code == "log_removed")).await;
    running.kill();
    cloud.set_online(true).await;
    let running = site.start();
    site.sent(100).await;
    running.stop().await;
    judge("mounted over", &cloud, &token, sim.reads().iter().map(passing));
    assert_eq!(kept(&site).await, 100);
    drop(disk);
}

#[tokio::test]
async fn a_disk_with_a_journal_of_its_own_is_not_written_into_by_a_process_that_has_another_one() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(place.path()) else { return };
    let (cloud, _token) = cloud().await;
    let (sim, mat) = decoder(Kind::MYLAPS, 1).await;
    let data = place.path().join("data");
    let site = site(&data, &cloud, std::slice::from_ref(&mat));
    let running = site.start();
    sim.push(30);
    site.sent(30).await;
    running.stop().await;
    let kept = site.export().await;
    // The same journal on a disk that is there before the next one comes: under it.
    let below = tempfile::tempdir().unwrap();
    let moved = Command::new("mount").arg("--bind").arg(below.path()).arg(place.path()).status().unwrap();
    assert!(moved.success());
    let upper = Disk(place.path());
    let mut running = site.start_with(&[("PASSBRIDGE_TRIAL_TURN_MS", "100")]);
    until("it runs on an empty directory", async || data.join("log").is_dir()).await;
    sim.push(5);
    until("they are acknowledged", async || *sim.acked_count().borrow() == 35).await;
    drop(upper); // and the first one is seen again
    let ended = running.ended(Duration::from_secs(40)).await.expect("it ends");
    assert_eq!(ended.code(), Some(74));
    assert!(site.said().contains("is another directory now"), "{}", site.said());
    assert!(holds(Duration::from_secs(5), async || site.export().await == kept).await, "nothing was written into it");
    drop(disk);
}
