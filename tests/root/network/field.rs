//! A box in a field: its network namespace, two cables, and what is at their other ends.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::sim::cloud::{DEVICE, Dedup, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use passbridge::testing::status::Snapshot;

use crate::support::child::{PATIENCE, Running, Site, holds, judge, passing};
use crate::support::shaper::{Line, Shaper};

/// The box's ends of the two cables, inside its namespace.
pub const NET: &str = "net0";
pub const MAT: &str = "mat0";
/// Name of the cloud.
pub const CLOUD: &str = "cloud.test";

/// A namespace; it goes, with all cables and rules, when this is dropped.
pub struct Net {
    name: String,
    /// Ends of the cables outside.
    ends: [String; 2],
    /// First three groups of the IPv6 addresses; the internet is at ::1, the box at ::2.
    pub block6: String,
    /// First three numbers of the addresses; the internet is at .1, the decoder at .5; the box at
    /// .2 and .6.
    block: String,
}

impl Net {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id() % 4096, COUNT.fetch_add(1, Ordering::SeqCst));
        assert!(count < 16, "blocks for 16 tests in a process");
        let number = process * 16 + count;
        let name = format!("pb{}-{count}", std::process::id());
        let ends = [format!("pbn{number}"), format!("pbm{number}")];
        let block6 = format!("fd00:feed:{number:x}");
        let net = Self { name, ends, block6, block: format!("10.{}.{}", 192 + number / 256 % 64, number % 256) };
        let files = net.files();
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("hosts"), net.hosts()).unwrap();
        fs::write(files.join("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        fs::write(files.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        ip(&["netns", "add", &net.name]);
        net.inside(&["ip", "link", "set", "lo", "up"]);
        for (at, (inner, outer)) in [NET, MAT].into_iter().zip(&net.ends).enumerate() {
            let (there, here) =
                (format!("{}.{}/30", net.block, 1 + 4 * at), format!("{}.{}/30", net.block, 2 + 4 * at));
            ip(&["link", "add", outer, "type", "veth", "peer", "name", inner, "netns", &net.name]);
            ip(&["addr", "add", &there, "dev", outer]);
            ip(&["link", "set", outer, "up"]);
            net.inside(&["ip", "addr", "add", &here, "dev", inner]);
            net.inside(&["ip", "link", "set", inner, "up"]);
        }
        net.route();
        net.inside(&["ip", "-6", "addr", "add", &format!("{}::2/64", net.block6), "dev", NET, "nodad"]);
        ip(&["-6", "addr", "add", &format!("{}::1/64", net.block6), "dev", &net.ends[0], "nodad"]);
        net
    }

    fn files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }

    /// The way to the internet; the kernel forgets it when the box's end of the cable is taken
    /// down.
    pub fn route(&self) {
        self.inside(&["ip", "route", "add", "default", "via", &format!("{}.1", self.block)]);
    }

    fn hosts(&self) -> String {
        format!("127.0.0.1 localhost\n{}.1 {CLOUD}\n", self.block)
    }

    /// The names the box finds, as lines of /etc/hosts beside its own.
    pub fn names(&self, text: &str) {
        fs::write(self.files().join("hosts"), format!("127.0.0.1 localhost\n{text}")).unwrap(); // in place: it is mounted
    }

    /// The cloud's name, as it is found when all is well.
    pub fn names_right(&self) {
        fs::write(self.files().join("hosts"), self.hosts()).unwrap();
    }

    pub fn address(&self, last: u8) -> String {
        format!("{}.{last}", self.block)
    }

    /// Runs a command in the namespace.
    pub fn inside(&self, words: &[&str]) {
        ip(&[&["netns", "exec", &self.name], words].concat());
    }

    /// A rule of nftables in the box: `direction` is `input` or `output`.
    pub fn rule(&self, direction: &str, rule: &str) {
        let chain = format!("{{ type filter hook {direction} priority 0; }}");
        self.inside(&["nft", "add", "table", "inet", "field"]);
        self.inside(&["nft", "add", "chain", "inet", "field", direction, &chain]);
        self.inside(
            &[&["nft", "add", "rule", "inet", "field", direction][..], &rule.split(' ').collect::<Vec<_>>()].concat(),
        );
    }

    pub fn no_rules(&self) {
        self.inside(&["nft", "flush", "ruleset"]);
    }

    /// Takes the internet's end of the cable down or up, as a switch that loses power.
    pub fn plug(&self, up: bool) {
        ip(&["link", "set", &self.ends[0], if up { "up" } else { "down" }]);
    }

    /// The same for the decoder's cable.
    pub fn plug_mat(&self, up: bool) {
        ip(&["link", "set", &self.ends[1], if up { "up" } else { "down" }]);
    }

    /// So many kbit/s in each direction between the box and the internet.
    pub fn rate(&self, kbit: u32) {
        let rate = format!("{kbit}kbit");
        let shape = ["root", "tbf", "rate", &rate, "burst", "4k", "latency", "2000ms"];
        self.inside(&[&["tc", "qdisc", "add", "dev", NET][..], &shape].concat());
        run(Command::new("tc").args(["qdisc", "add", "dev", &self.ends[0]]).args(shape));
    }

    /// The program, in there.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(arguments);
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Whatever of it was made: also after a failure in the middle.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
        for end in &self.ends {
            let _ = Command::new("ip").args(["link", "del", end]).output();
        }
        let _ = fs::remove_dir_all(self.files());
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A box with its decoder, its cloud and what is between them. The order is that in which they go.
pub struct Field {
    pub running: Option<Running>,
    pub site: Site,
    pub net: Net,
    pub cloud: SimCloud,
    pub token: String,
    pub sim: SimDecoder,
}

impl Field {
    /// With these keys under `[upload]`, not yet started.
    pub async fn new(upload: &str) -> Self {
        Self::behind(upload, None).await.0
    }

    /// The same, and the cloud is behind a line.
    pub async fn behind(upload: &str, line: Option<Line>) -> (Self, Option<Shaper>) {
        let net = Net::new();
        let at = |last| SocketAddr::new(net.address(last).parse().unwrap(), 0);
        // Stores what is sent twice: once is the box's own work.
        let cloud = SimCloudConfig { dedup: Dedup::None, ..SimCloudConfig::default() };
        let cloud = SimCloud::start_at(at(1), cloud).await.unwrap();
        let token = cloud.open_session(DEVICE, "Race");
        let start = TimeZone::UTC.to_datetime(Timestamp::now()).with().subsec_nanosecond(0).build().unwrap();
        let sim = SimConfig { start, ..SimConfig::new(Kind::RACE_RESULT, Wiring::Listen(at(5))) };
        let sim = SimDecoder::start(sim).await.unwrap();
        let mat = (Kind::RACE_RESULT, format!("tcp://{}", sim.address().unwrap()));
        let mut address = cloud.address();
        let mut shaper = None;
        if let Some(line) = line {
            let opened = Shaper::open_at(at(1), cloud.address(), line).await;
            address = opened.address;
            shaper = Some(opened);
        }
        let url = format!("http://{CLOUD}:{}/v0", address.port());
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let site = Site::at(dir, data, Some(url), &[mat], &format!("[upload]\n{upload}\n"));
        (Self { running: None, site, net, cloud, token, sim }, shaper)
    }

    /// `passbridge run` in the field.
    pub fn start(&mut self) {
        let config = self.site.config();
        let program = env!("CARGO_BIN_EXE_passbridge");
        let command = self.net.command(program, &["run", "--config", config.to_str().unwrap()]);
        self.running = Some(Running::spawn(command, config.parent().unwrap()));
    }

    /// Waits until the cloud holds so many; gives the time it took.
    pub async fn arrive(&self, count: usize, limit: Duration) -> Duration {
        let since = Instant::now();
        if !self.cloud.wait_for(count, limit).await {
            panic!("{} of {count} arrived: {:#?}", self.cloud.stored(), self.site.status().await);
        }
        since.elapsed()
    }

    /// Waits until the box says so of its upload; gives the whole status.
    pub async fn says(&self, words: &str) -> Snapshot {
        let said = |status: &Snapshot| {
            status.uploads.iter().any(|upload| upload.last_error.as_ref().is_some_and(|error| error.contains(words)))
        };
        let mut seen = None;
        let found = holds(PATIENCE, async || {
            seen = self.site.status().await;
            seen.as_ref().is_some_and(said)
        })
        .await;
        assert!(found, "it never says {words:?}: {seen:#?}");
        seen.unwrap()
    }

    /// Stops the box in its usual time, and judges.
    pub async fn audit(mut self, what: &str) {
        let reads = self.sim.reads();
        self.site.sent(reads.len() as u64).await;
        self.running.take().unwrap().stop().await;
        judge(what, &self.cloud, &self.token, reads.iter().map(passing));
    }
}
