//! The metrics as Prometheus reads them, and what `config/` says about them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::model::chip::Seq;
use crate::status::{BatteryStatus, Board, KeptReads, MachineStatus};

/// Reads a page as Prometheus does, and checks what it would refuse or take for nonsense.
/// Returns the value of each series.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let (mut series, mut families, mut histograms) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let (mut family, mut kind) = ("", "");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(family), "{family} comes twice");
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(series.insert(name.to_owned(), value).is_none(), "{name} comes twice");
        let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
        let end = metric.strip_prefix(family).unwrap_or_else(|| panic!("{line} in family {family}"));
        if kind != "histogram" {
            assert_eq!(end, "", "{line}");
            continue;
        }
        let (labels, bound) = match labels.split_once(",le=\"") {
            Some((labels, bound)) => (labels, bound.trim_end_matches("\"}")),
            None => (labels.trim_end_matches('}'), ""),
        };
        let parts: &mut Vec<(String, String, f64)> = histograms.entry((family, labels)).or_default();
        parts.push((end.to_owned(), bound.to_owned(), value));
    }
    for (which, parts) in histograms {
        let mut before = (f64::NEG_INFINITY, 0.0);
        let buckets = parts.iter().filter(|(end, ..)| end == "_bucket");
        for (_, bound, count) in buckets {
            let bound = bound.replace("+Inf", "inf").parse::<f64>().unwrap();
            assert!(bound > before.0 && *count >= before.1, "{which:?} at {bound}: {count} after {before:?}");
            before = (bound, *count);
        }
        assert_eq!(before.0, f64::INFINITY, "{which:?} has no last bucket");
        let of = |wanted: &str| -> Vec<f64> {
            parts.iter().filter(|(end, ..)| end == wanted).map(|(.., value)| *value).collect()
        };
        assert_eq!(of("_count"), [before.1], "{which:?}");
        assert_eq!(of("_sum").len(), 1, "{which:?}");
    }
    series
}

#[test]
fn both_histograms_and_the_machine_are_there_and_prometheus_takes_the_page() {
    let board = Board::new("finish");
    board.decoder("mat", |_| {});
    board.decoder("a \"spare\", mat", |_| {});
    board.upload("DEVICE", |_| {});
    let received = Instant::now();
    let kept = |first, last, reads, received| KeptReads { entries: (Seq(first), Seq(last)), reads, received };
    let groups = [kept(1, 3, 3, received), kept(4, 5, 0, received), kept(6, 6, 1, received)];
    board.kept("mat", received + Duration::from_millis(3), groups.into_iter());
    board.arrived("DEVICE", [1, 2, 6].map(Seq).into_iter());
    board.arrived("ANOTHER", [Seq(3)].into_iter());
    let battery = BatteryStatus { name: "BAT0".to_owned(), percent: Some(64), state: Some(ChargeState::Full) };
    let machine = MachineStatus { uptime_s: 9, temperature_c: Some(-5), ..MachineStatus::default() };
    board.machine(MachineStatus { batteries: vec![battery], mains_online: Some(true), ..machine });
    let page = text(&board.snapshot());
    let series = parse(&page);
    let value = |name: &str| *series.get(name).unwrap_or_else(|| panic!("no {name} in {page}"));
    assert_eq!(value("passbridge_read_to_kept_seconds_bucket{decoder=\"mat\",le=\"0.002\"}"), 0.0);
    assert_eq!(value("passbridge_read_to_kept_seconds_bucket{decoder=\"mat\",le=\"0.005\"}"), 4.0);
    assert_eq!(value("passbridge_read_to_kept_seconds_bucket{decoder=\"mat\",le=\"+Inf\"}"), 4.0);
    assert_eq!(value("passbridge_read_to_kept_seconds_sum{decoder=\"mat\"}"), 0.012);
    assert_eq!(value("passbridge_read_to_kept_seconds_count{decoder=\"a \\\"spare\\\", mat\"}"), 0.0);
    assert_eq!(value("passbridge_read_to_cloud_seconds_count{device=\"DEVICE\"}"), 3.0);
    assert_eq!(value("passbridge_machine_temperature_celsius"), -5.0);
    assert_eq!(value("passbridge_machine_battery_ratio{battery=\"BAT0\"}"), 0.64);
    assert_eq!(value("passbridge_machine_battery_discharging{battery=\"BAT0\"}"), 0.0);
    assert_eq!(value("passbridge_machine_mains_online"), 1.0);
    let figures = board.snapshot().latency;
    assert_eq!(figures.kept.map(|kept| (kept.reads, kept.worst)), Some((4, Duration::from_millis(3))));
    assert_eq!(figures.cloud.map(|cloud| cloud.reads), Some(3));
}

#[test]
fn labels_are_escaped_and_every_sample_follows_the_type_of_its_family() {
    let board = Board::new("fin\"ish\\\n");
    board.decoder("mat", |decoder| {
        decoder.reads = 7;
        decoder.clock_offset_ms = Some(-1500);
        decoder.locations = [("10 km".to_owned(), 4)].into();
    });
    board.upload("DEVICE", |upload| upload.sent = 3);
    board.raise(ProblemCode::DiskFull, "", "full");
    let page = text(&board.snapshot());
    assert!(page.contains("name=\"fin\\\"ish\\\\\\n\"} 1\n"), "{page}");
    assert!(page.contains("\npassbridge_decoder_reads_total{decoder=\"mat\"} 7\n"));
    assert!(
        page.contains("\npassbridge_decoder_location_reads_total{decoder=\"mat\",location=\"10 km\"} 4\n"),
        "{page}"
    );
    assert!(page.contains("\npassbridge_decoder_clock_offset_seconds{decoder=\"mat\"} -1.5\n"));
    assert!(page.contains("\npassbridge_upload_sent_total{device=\"DEVICE\"} 3\n"));
    assert!(page.contains("\npassbridge_ready 0\n"));
    parse(&page);
    assert!(page.ends_with('\n'));
}

/// The page of a box that has everything: every family has its name in it.
fn full_page() -> String {
    let board = Board::new("finish");
    board.decoder("mat", |_| {});
    board.upload("DEVICE", |_| {});
    let machine = MachineStatus { temperature_c: Some(40), mains_online: Some(true), ..MachineStatus::default() };
    board.machine(machine);
    text(&board.snapshot())
}

#[test]
fn every_problem_of_the_list_and_the_hold_are_there_before_they_happen() {
    let board = Board::new("finish");
    let series = parse(&text(&board.snapshot()));
    let problems: Vec<_> = series.iter().filter(|(name, _)| name.starts_with("passbridge_problems{")).collect();
    assert_eq!(problems.len(), ProblemCode::ALL.len());
    assert!(problems.iter().all(|(_, count)| **count == 0.0), "{problems:?}");
    assert_eq!(series["passbridge_hold"], 0.0);
    board.raise(ProblemCode::DiskFull, "", "full");
    board.raise(ProblemCode::LowBattery, "mat", "low");
    board.raise(ProblemCode::LowBattery, "gate", "low");
    let series = parse(&text(&board.snapshot()));
    let of = |code: &str, severity: &str, state: &str| {
        series[&format!("passbridge_problems{{code=\"{code}\",severity=\"{severity}\",state=\"{state}\"}}")]
    };
    assert_eq!(of("disk_full", "critical", "cannot-keep"), 1.0);
    assert_eq!(of("low_battery", "warning", "none"), 2.0);
}

#[test]
fn every_family_has_a_help_that_is_a_sentence_and_counters_alone_end_with_total() {
    let page = full_page();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(help.ends_with('.') && help.len() > 20, "{name}: {help}");
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            assert!(!name.ends_with("_ms") && !name.ends_with("_percent"), "{name} has no base unit");
        }
    }
}

/// The names of metrics in a text, without the endings of a histogram.
fn names(text: &str) -> BTreeSet<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !part(c)).filter(|word| word.starts_with("passbridge_"));
    words
        .map(|word| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
        .collect()
}

/// What must be named in `config/`, and what may be.
const FILES: [(&str, &str); 3] = [
    ("config/alerts.yml", include_str!("../../../../config/alerts.yml")),
    ("config/grafana-dashboard.json", include_str!("../../../../config/grafana-dashboard.json")),
    ("tests/alerts-test.yml", include_str!("../../../../tests/alerts-test.yml")),
];

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let page = full_page();
    let families: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for (file, text) in FILES {
        let named = names(text);
        assert!(!named.is_empty(), "{file} names no metric");
        let unknown: Vec<_> = named.difference(&families).collect();
        assert!(unknown.is_empty(), "{file} names metrics that passbridge does not have: {unknown:?}");
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_only_for_states_and_codes_that_exist() {
    let page = full_page();
    for (file, text) in FILES {
        let text = text.replace("\\\"", "\"");
        for label in ["state", "code", "severity"] {
            for value in text.split(&format!("{label}=\"")).skip(1) {
                let value = value.split('"').next().unwrap();
                assert!(page.contains(&format!("{label}=\"{value}\"")), "{file} asks for {label}=\"{value}\"");
            }
        }
    }
}

#[test]
fn every_alert_says_what_happened_and_what_to_do() {
    let (_, alerts) = FILES[0];
    let all: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(all.len() >= 12, "{}", all.len());
    for alert in all {
        let name = alert.lines().next().unwrap();
        for part in ["expr:", "severity:", "summary:", "description:"] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn the_dashboard_is_json_and_each_of_its_questions_is_for_the_chosen_box() {
    let (_, text) = FILES[1];
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 12);
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} has no description");
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            assert!(expr.contains("instance=~\"$instance\""), "{title}: {expr}");
        }
    }
}
