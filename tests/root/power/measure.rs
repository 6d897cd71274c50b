//! What a read costs the card: bytes written and FLUSHes, counted where the disk is, below ext4. No
//! power goes here.

use std::time::Duration;

use passbridge::testing::journal::log::segments;
use passbridge::testing::journal::log_dir;
use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};

use super::platter::Counts;
use super::rig::Rig;
use crate::support::child::{Site, decoder, setting, until};

/// An SD card's FLUSH.
const FLUSH: Duration = Duration::from_millis(8);
/// Seconds of racing that are counted: several checkpoints.
const SECONDS: u64 = 40;

struct Bench<'a> {
    rig: &'a mut Rig,
    cloud: SimCloud,
    sim: SimDecoder,
    site: Site,
    seconds: u64,
}

/// Prints a table, a line for each kind of day.
pub async fn table(rig: &mut Rig) {
    rig.disk.flush_takes(FLUSH);
    eprintln!("| what | reads | log B/read | device B/read | device B / log B | FLUSHes/read |");
    eprintln!("|---|---|---|---|---|---|");
    for rate in [2, 20, 100] {
        let mut bench = Bench::begin(rig, true).await;
        let what = format!("{rate} reads/s, internet");
        bench.count(&what, async |bench| bench.race(rate).await).await;
        bench.end();
    }
    for rate in [20, 100] {
        let mut bench = Bench::begin(rig, false).await;
        bench.count(&format!("{rate} reads/s, offline"), async |bench| bench.race(rate).await).await;
        let backlog = bench.sim.reads().len() as u64;
        let drain = async |bench: &Bench<'_>| {
            bench.cloud.set_online(true).await;
            bench.site.sent(backlog).await;
            backlog
        };
        bench.count("the same, drained", drain).await;
        bench.end();
    }
}

impl<'a> Bench<'a> {
    async fn begin(rig: &'a mut Rig, online: bool) -> Self {
        rig.new_disk();
        block_in_place(|| rig.power_on()).unwrap();
        let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
        cloud.open_session(DEVICE, "Race");
        cloud.set_online(online).await;
        let (sim, mat) = decoder(Kind::RACE_RESULT, setting("PASSBRIDGE_SEED", 1)).await;
        let data = rig.mountpoint().join("data");
        let more = "[upload]\nretry_max = \"1s\"\nsettle = \"1s\"\n";
        let site = Site::at(tempfile::tempdir().unwrap(), data, Some(cloud.url()), &[mat], more);
        Self { rig, cloud, sim, site, seconds: setting("PASSBRIDGE_SECONDS", SECONDS) }
    }

    /// Reads at this pace, and the time for the last of them to be kept. How many.
    async fn race(&self, rate: u64) -> u64 {
        let before = self.sim.reads().len() as u64;
        let mut ticks = interval(Duration::from_micros(1_000_000 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..rate * self.seconds {
            ticks.tick().await;
            self.sim.push(1);
        }
        let all = before + rate * self.seconds;
        self.site.until("all is kept", |status| status.decoders[0].reads >= all).await;
        all - before
    }

    async fn count(&mut self, what: &str, work: impl AsyncFnOnce(&Self) -> u64) {
        let running = self.site.start();
        self.site.until("it serves", |status| status.ready && status.journal.serving).await;
        until("the link is open", async || *self.sim.links().borrow() > 0).await;
        // The first look at the room ends with this; it makes the reserve, which is no read's cost.
        self.site.until("the reserve is made", |status| status.journal.bytes > 0).await;
        let log_before = self.log_bytes();
        self.rig.disk.platter().counts = Counts::default();
        let reads = work(self).await;
        // The last checkpoint of it is part of what it costs.
        running.stop().await;
        let Counts { bytes, flushes } = self.rig.disk.platter().counts;
        let log = self.log_bytes() - log_before;
        let per = |count: u64| count as f64 / reads as f64;
        eprintln!(
            "| {what} | {reads} | {:.0} | {:.0} | {:.1} | {:.2} |",
            per(log),
            per(bytes),
            bytes as f64 / log as f64,
            per(flushes)
        );
    }

    fn log_bytes(&self) -> u64 {
        segments(&log_dir(&self.site.data)).unwrap().iter().map(|segment| segment.lines().unwrap()).sum()
    }

    fn end(self) {
        block_in_place(|| self.rig.power_off()).unwrap();
    }
}
