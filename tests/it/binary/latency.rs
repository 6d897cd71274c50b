//! What "live" is, and what the machine tells of itself, as a timer sees it beside the daemon.

use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::Snapshot;

use crate::support::child::{Site, decoder, until};

/// The value of this series of the metrics.
fn metric(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

async fn status(site: &Site) -> String {
    String::from_utf8(site.output(&["status"]).await.stdout).unwrap()
}

#[tokio::test]
async fn status_json_and_metrics_say_how_long_reads_take_and_what_the_machine_is() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "Race");
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "");
    let running = site.start();
    until("the box is connected", async || *sim.links().borrow() == 1).await;
    site.until("it looked at the machine", |status| status.machine.is_some()).await;
    let text = status(&site).await;
    assert!(!text.contains("live:") && text.contains("\nmachine: "), "no read, no line: {text}");

    sim.push(30);
    site.sent(30).await;
    let both = |status: &Snapshot| {
        let reads = [&status.latency.kept, &status.latency.cloud].map(|told| told.as_ref().map(|told| told.reads));
        reads == [Some(30), Some(30)]
    };
    site.until("both times are known of every read", both).await;
    let text = status(&site).await;
    let live = text.lines().find(|line| line.starts_with("live: a read is kept after ")).expect(&text);
    assert!(live.contains(" and in the cloud after ") && live.contains(" (95 % within "), "{live}");
    assert!(live.contains(", worst ") && live.ends_with(')'), "{live}");

    let (_, json) = site.get("/api/status").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for what in ["kept", "cloud"] {
        let told = &json["latency"][what];
        let [median, p95, worst] = ["median_ms", "p95_ms", "worst_ms"].map(|name| told[name].as_f64().unwrap());
        assert!(0.0 < median && median <= p95 && p95 <= worst && told["reads"] == 30, "{told}");
    }
    assert!(json["machine"]["uptime_s"].as_u64() > Some(0), "{}", json["machine"]);
    assert_eq!(json["machine"]["architecture"], std::env::consts::ARCH);

    let (_, page) = site.get("/metrics").await.unwrap();
    let series = [
        ("passbridge_read_to_kept_seconds", "decoder=\"ipico-mat\"".to_owned()),
        ("passbridge_read_to_cloud_seconds", format!("device=\"{DEVICE}\"")),
    ];
    for (name, label) in series {
        assert!(page.contains(&format!("\n# TYPE {name} histogram\n")), "{page}");
        assert_eq!(metric(&page, &format!("{name}_count{{{label}}}")), 30.0);
        assert_eq!(metric(&page, &format!("{name}_bucket{{{label},le=\"+Inf\"}}")), 30.0);
        assert!(metric(&page, &format!("{name}_sum{{{label}}}")) > 0.0);
    }
    assert!(metric(&page, "passbridge_machine_uptime_seconds") > 0.0);
    running.stop().await;
}
