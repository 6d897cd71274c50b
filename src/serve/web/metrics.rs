//! A [`Snapshot`] in Prometheus' text format, version 0.0.4. It is written by hand, because it is
//! only a few lines, and a registry would be a second place that claims to know the state.

use std::fmt::{Display, Write};

use crate::status::{BoxState, ChargeState, LatencyHistogram, LinkState, Snapshot, UploadState};

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics, each with its help and type. Counters that say "ever" are stored in the
/// journal. The others start at zero with the process.
pub(super) fn text(status: &Snapshot) -> String {
    let mut page = WebPage(String::with_capacity(8 << 10));
    page.family("passbridge_build_info", "gauge", "Version and name of the box; always 1.");
    page.sample(&[("version", &status.version), ("name", &status.name)], 1);
    page.single("passbridge_uptime_seconds", "gauge", "Since the start of the process.", status.uptime_s);
    page.single("passbridge_ready", "gauge", "1 while reads can be kept.", u8::from(status.ready));
    page.family("passbridge_state", "gauge", "1 for the state of the box.");
    for state in BoxState::ALL {
        page.sample(&[("state", state.word())], u8::from(status.state == state));
    }
    page.family("passbridge_problem", "gauge", "Problems shown now; the value is when each began.");
    for problem in &status.problems {
        let labels = [("code", problem.code.as_str()), ("about", problem.about.as_str())];
        page.sample(&labels, problem.since.as_second());
    }
    decoders(status, &mut page);
    journal(status, &mut page);
    uploads(status, &mut page);
    audits(status, &mut page);
    latency(status, &mut page);
    machine(status, &mut page);
    page.0
}

fn decoders(status: &Snapshot, page: &mut WebPage) {
    page.family("passbridge_decoder_state", "gauge", "1 for the state that a decoder's link is in.");
    for decoder in &status.decoders {
        for (state, name) in [
            (LinkState::Connecting, "connecting"),
            (LinkState::Connected, "connected"),
            (LinkState::Failed, "failed"),
            (LinkState::Idle, "idle"),
        ] {
            let labels = [("decoder", decoder.name.as_str()), ("protocol", &decoder.protocol), ("state", name)];
            page.sample(&labels, u8::from(decoder.state == state));
        }
    }
    page.each_decoder(status, "reads_total", "counter", "Reads kept since the start.", |d| Some(d.reads as f64));
    let help = "Those of a location with a device of its own.";
    page.family("passbridge_decoder_location_reads_total", "counter", help);
    for decoder in &status.decoders {
        for (location, reads) in &decoder.locations {
            page.sample(&[("decoder", decoder.name.as_str()), ("location", location)], *reads);
        }
    }
    page.each_decoder(status, "markers_total", "counter", "Markers kept since the start.", |d| Some(d.markers as f64));
    let help = "Frames rejected since the start.";
    page.each_decoder(status, "rejected_total", "counter", help, |d| Some(d.rejected as f64));
    let help = "Reads lost because buffer and disk were full.";
    page.each_decoder(status, "dropped_total", "counter", help, |d| Some(d.dropped as f64));
    page.each_decoder(status, "buffered", "gauge", "Frames received, not yet durable.", |d| Some(d.buffered as f64));
    let help = "Decoder clock minus box clock.";
    page.each_decoder(status, "clock_offset_seconds", "gauge", help, |d| Some(d.clock_offset_ms? as f64 / 1e3));
    let help = "When the last read was received.";
    page.each_decoder(status, "last_read_timestamp_seconds", "gauge", help, |d| {
        Some(d.last_read.as_ref()?.received.as_millisecond() as f64 / 1e3)
    });
}

fn journal(status: &Snapshot, page: &mut WebPage) {
    let journal = &status.journal;
    page.single("passbridge_journal_head", "gauge", "Last sequence number given.", journal.head);
    page.single("passbridge_journal_durable", "gauge", "Last number that survives a power cut.", journal.durable);
    page.single("passbridge_journal_pending", "gauge", "Reads that wait for the cloud.", journal.pending);
    page.single("passbridge_journal_quarantined_total", "counter", "Passings set aside, ever.", journal.dead_letters);
    let help = "Reads that repeated one kept before, and were not sent again.";
    page.single("passbridge_journal_repeats_total", "counter", help, journal.duplicates);
    page.family("passbridge_reads", "gauge", "Reads since the journal was begun, by what became of them.");
    let reads = journal.reads.unwrap_or_default();
    for (what, count) in [
        ("kept", reads.kept),
        ("in_cloud", reads.in_cloud),
        ("waiting", reads.waiting),
        ("set_aside", reads.set_aside),
        ("held_back", reads.held_back),
        ("duplicates", reads.duplicates),
        ("dead_time", reads.dead_time),
        ("held", reads.held),
        ("dropped_by_choice", reads.dropped_by_choice),
        ("expired", reads.expired),
    ] {
        if journal.reads.is_some() {
            page.sample(&[("what", what)], count);
        }
    }
    page.single("passbridge_journal_bytes", "gauge", "Bytes on disk.", journal.bytes);
    page.single("passbridge_journal_free_bytes", "gauge", "Bytes free on its file system.", journal.free_bytes);
    let oldest = journal.oldest_pending_s.unwrap_or(0);
    page.single("passbridge_journal_oldest_pending_seconds", "gauge", "Age of the oldest that waits, or 0.", oldest);
    page.single("passbridge_journal_serving", "gauge", "1 while the queue serves.", u8::from(journal.serving));
}

fn uploads(status: &Snapshot, page: &mut WebPage) {
    page.family("passbridge_upload_state", "gauge", "1 for the state that a device's upload is in.");
    for upload in &status.uploads {
        for (state, name) in [
            (UploadState::Idle, "idle"),
            (UploadState::Sending, "sending"),
            (UploadState::NoSession, "no_session"),
            (UploadState::Offline, "offline"),
            (UploadState::CloudTrouble, "cloud_trouble"),
            (UploadState::Refused, "refused"),
        ] {
            let labels = [("device", upload.device_id.as_str()), ("state", name)];
            page.sample(&labels, u8::from(upload.state == state));
        }
    }
    page.family("passbridge_upload_sent_total", "counter", "Passings the cloud acknowledged, ever.");
    for upload in &status.uploads {
        page.sample(&[("device", &upload.device_id)], upload.sent);
    }
    page.family("passbridge_upload_duplicates_total", "counter", "Of them, those the cloud had already.");
    for upload in &status.uploads {
        page.sample(&[("device", &upload.device_id)], upload.duplicates);
    }
    page.family("passbridge_upload_last_ok_timestamp_seconds", "gauge", "When the cloud last acknowledged.");
    for upload in &status.uploads {
        if let Some(last) = upload.last_ok {
            page.sample(&[("device", &upload.device_id)], last.as_millisecond() as f64 / 1e3);
        }
    }
}

fn audits(status: &Snapshot, page: &mut WebPage) {
    let audits =
        || status.uploads.iter().filter_map(|upload| Some((upload.device_id.as_str(), upload.audit.as_ref()?)));
    page.family("passbridge_audit_equal", "gauge", "1 if the last audit found journal and cloud equal.");
    for (device, audit) in audits() {
        page.sample(&[("device", device)], u8::from(audit.equal));
    }
    page.family("passbridge_audit_passings", "gauge", "Passings in the last audit, by what was found.");
    for (device, audit) in audits() {
        for (found, count) in [
            ("checked", audit.checked),
            ("missing", audit.missing),
            ("foreign", audit.foreign),
            ("different", audit.different),
            ("duplicated", audit.duplicated),
            ("not_yet_sent", audit.not_yet_sent),
            ("set_aside", audit.set_aside),
        ] {
            page.sample(&[("device", device), ("found", found)], count);
        }
    }
    page.family("passbridge_audit_timestamp_seconds", "gauge", "When the last audit was made.");
    for (device, audit) in audits() {
        page.sample(&[("device", device)], audit.at.as_second());
    }
}

fn latency(status: &Snapshot, page: &mut WebPage) {
    let help = "From the receipt of a read until it is durable on this box.";
    page.family("passbridge_read_to_kept_seconds", "histogram", help);
    for decoder in &status.decoders {
        page.histogram(("decoder", &decoder.name), &decoder.read_to_kept);
    }
    let help = "From the receipt of a read by this process until its passing is in the cloud.";
    page.family("passbridge_read_to_cloud_seconds", "histogram", help);
    for upload in &status.uploads {
        page.histogram(("device", &upload.device_id), &upload.read_to_cloud);
    }
}

/// Only what the machine tells.
fn machine(status: &Snapshot, page: &mut WebPage) {
    let Some(machine) = &status.machine else { return };
    page.family("passbridge_machine_info", "gauge", "Kernel, architecture and model; always 1.");
    let model = machine.model.as_deref().unwrap_or_default();
    page.sample(&[("kernel", &machine.kernel), ("architecture", &machine.architecture), ("model", model)], 1);
    let help = "Since the machine was switched on.";
    page.single("passbridge_machine_uptime_seconds", "gauge", help, machine.uptime_s);
    if let Some(degrees) = machine.temperature_c {
        page.single("passbridge_machine_temperature_celsius", "gauge", "Of the hottest part.", degrees);
    }
    if let Some(online) = machine.mains_online {
        page.single("passbridge_machine_mains_online", "gauge", "1 while a supply gives power.", u8::from(online));
    }
    if let Some(low) = machine.under_voltage {
        let help = "1 while the power supply gives too little voltage.";
        page.single("passbridge_machine_under_voltage", "gauge", help, u8::from(low));
    }
    page.family("passbridge_machine_battery_ratio", "gauge", "Charge of a battery, 0 to 1.");
    for battery in &machine.batteries {
        if let Some(percent) = battery.percent {
            page.sample(&[("battery", &battery.name)], f64::from(percent) / 100.0);
        }
    }
    page.family("passbridge_machine_battery_discharging", "gauge", "1 while the machine lives on the battery.");
    for battery in &machine.batteries {
        if let Some(state) = battery.state {
            page.sample(&[("battery", &battery.name)], u8::from(state == ChargeState::Discharging));
        }
    }
}

/// The page as it is built. The name of the current family is the one in the last `# TYPE` line.
struct WebPage(String);

impl WebPage {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn name(&self) -> &str {
        let line = self.0.rfind("# TYPE ").map_or("", |at| &self.0[at + 7..]);
        line.split(' ').next().unwrap_or_default()
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// The samples of a histogram with one label.
    fn histogram(&mut self, (label, text): (&str, &str), histogram: &LatencyHistogram) {
        for (end, count) in histogram.cumulative() {
            let end = end.map_or_else(|| "+Inf".to_owned(), |end| end.to_string());
            self.part("_bucket", &[(label, text), ("le", &end)], count);
        }
        self.part("_sum", &[(label, text)], histogram.sum().as_secs_f64());
        self.part("_count", &[(label, text)], histogram.count());
    }

    /// A sample of the current family, whose name ends like this.
    fn part(&mut self, end: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut line = self.name().to_owned() + end;
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(line, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{line}{end} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    fn each_decoder(
        &mut self,
        status: &Snapshot,
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&crate::status::DecoderStatus) -> Option<f64>,
    ) {
        self.family(&format!("passbridge_decoder_{name}"), kind, help);
        for decoder in &status.decoders {
            if let Some(value) = value(decoder) {
                self.sample(&[("decoder", &decoder.name)], value);
            }
        }
    }
}

/// Escapes the value of a label as the format requires.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::chip::Seq;
    use crate::status::{BatteryStatus, Board, KeptReads, MachineStatus, ProblemCode};

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
}
