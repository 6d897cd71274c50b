//! A [`Snapshot`] in Prometheus' text format, version 0.0.4. It is written by hand, because it is
//! only a few lines, and a registry would be a second place that claims to know the state.

use std::fmt::{Display, Write};

use crate::status::{BoxState, ChargeState, LatencyHistogram, LinkState, ProblemCode, Snapshot, UploadState};

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics, each with its help and type. Counters that say "ever" are stored in the
/// journal. The others start at zero with the process.
pub(super) fn text(status: &Snapshot) -> String {
    let mut page = WebPage(String::with_capacity(8 << 10));
    page.family(
        "passbridge_build_info",
        "gauge",
        "The version of passbridge and the name of the box. The value is always 1.",
    );
    page.sample(&[("version", &status.version), ("name", &status.name)], 1);
    page.single("passbridge_uptime_seconds", "gauge", "Time since the start of the process.", status.uptime_s);
    page.single("passbridge_ready", "gauge", "1 while reads can be kept, otherwise 0.", u8::from(status.ready));
    page.family("passbridge_state", "gauge", "1 for the state that the box is in, 0 for the others.");
    for state in BoxState::ALL {
        page.sample(&[("state", state.word())], u8::from(status.state == state));
    }
    page.family(
        "passbridge_problem",
        "gauge",
        "One for each problem that is shown now. The value is the time at which it began, in seconds since 1970.",
    );
    for problem in &status.problems {
        let labels = [("code", problem.code.as_str()), ("about", problem.about.as_str())];
        page.sample(&labels, problem.since.as_second());
    }
    problems(status, &mut page);
    decoders(status, &mut page);
    journal(status, &mut page);
    uploads(status, &mut page);
    audits(status, &mut page);
    latency(status, &mut page);
    machine(status, &mut page);
    page.0
}

/// Every problem that a box can have, with zeros. An alert on a series that is not there would be
/// silent for ever after a change of its name.
fn problems(status: &Snapshot, page: &mut WebPage) {
    let help = "How many subjects have this problem now. `state` is the state of the box that it causes, or none.";
    page.family("passbridge_problems", "gauge", help);
    for code in ProblemCode::ALL {
        let shown = status.problems.iter().filter(|problem| problem.code == code.word()).count();
        let state = code.cause().state().map_or("none", BoxState::word);
        let labels = [("code", code.word()), ("severity", code.severity().word()), ("state", state)];
        page.sample(&labels, shown);
    }
    // Also while a worse state than the hold is shown.
    let held = u8::from(status.hold.is_some() || status.state == BoxState::Hold);
    page.single("passbridge_hold", "gauge", "1 while a person holds the upload back, otherwise 0.", held);
}

fn decoders(status: &Snapshot, page: &mut WebPage) {
    page.family(
        "passbridge_decoder_state",
        "gauge",
        "1 for the state that the link of a decoder is in, 0 for the others.",
    );
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
    page.each_decoder(
        status,
        "reads_total",
        "counter",
        "Reads of this decoder that were kept since the start of the process.",
        |d| Some(d.reads as f64),
    );
    let help = "Reads of a location that has a device of its own, since the start of the process.";
    page.family("passbridge_decoder_location_reads_total", "counter", help);
    for decoder in &status.decoders {
        for (location, reads) in &decoder.locations {
            page.sample(&[("decoder", decoder.name.as_str()), ("location", location)], *reads);
        }
    }
    page.each_decoder(
        status,
        "markers_total",
        "counter",
        "Markers (gun, trigger) that were kept since the start of the process.",
        |d| Some(d.markers as f64),
    );
    let help = "Frames that were rejected since the start of the process.";
    page.each_decoder(status, "rejected_total", "counter", help, |d| Some(d.rejected as f64));
    let help = "Reads that were lost because the buffer and the disk were full.";
    page.each_decoder(status, "dropped_total", "counter", help, |d| Some(d.dropped as f64));
    page.each_decoder(status, "buffered", "gauge", "Frames that were received and are not durable yet.", |d| {
        Some(d.buffered as f64)
    });
    let help = "The clock of the decoder minus the clock of this box.";
    page.each_decoder(status, "clock_offset_seconds", "gauge", help, |d| Some(d.clock_offset_ms? as f64 / 1e3));
    let help = "The time at which the last read was received, in seconds since 1970.";
    page.each_decoder(status, "last_read_timestamp_seconds", "gauge", help, |d| {
        Some(d.last_read.as_ref()?.received.as_millisecond() as f64 / 1e3)
    });
}

fn journal(status: &Snapshot, page: &mut WebPage) {
    let journal = &status.journal;
    page.single(
        "passbridge_journal_head",
        "gauge",
        "The last sequence number that was given to an entry of the log.",
        journal.head,
    );
    page.single(
        "passbridge_journal_durable",
        "gauge",
        "The last sequence number that would survive a power cut.",
        journal.durable,
    );
    page.single("passbridge_journal_pending", "gauge", "Reads that wait for the cloud.", journal.pending);
    page.single(
        "passbridge_journal_quarantined_total",
        "counter",
        "Passings that were ever set aside because the cloud refused them.",
        journal.dead_letters,
    );
    let help = "Reads since the start of the process that repeated an earlier one. They were not sent again.";
    page.single("passbridge_journal_repeats_total", "counter", help, journal.duplicates);
    page.family(
        "passbridge_reads",
        "gauge",
        "Reads since the journal was begun, by what became of them. `kept` is the sum of the others.",
    );
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
    page.single("passbridge_journal_bytes", "gauge", "Bytes of the log and the queue on the disk.", journal.bytes);
    page.single(
        "passbridge_journal_free_bytes",
        "gauge",
        "Bytes that are free on the file system of the journal.",
        journal.free_bytes,
    );
    let oldest = journal.oldest_pending_s.unwrap_or(0);
    page.single(
        "passbridge_journal_oldest_pending_seconds",
        "gauge",
        "Age of the oldest read that waits for the cloud, or 0 if none waits.",
        oldest,
    );
    page.single(
        "passbridge_journal_serving",
        "gauge",
        "1 while the upload queue works, 0 while it opens or is rebuilt.",
        u8::from(journal.serving),
    );
}

fn uploads(status: &Snapshot, page: &mut WebPage) {
    page.family(
        "passbridge_upload_state",
        "gauge",
        "1 for the state that the upload of a device is in, 0 for the others.",
    );
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
    page.family("passbridge_upload_sent_total", "counter", "Passings that the cloud ever acknowledged.");
    for upload in &status.uploads {
        page.sample(&[("device", &upload.device_id)], upload.sent);
    }
    page.family(
        "passbridge_upload_duplicates_total",
        "counter",
        "Passings that the cloud acknowledged and had already.",
    );
    for upload in &status.uploads {
        page.sample(&[("device", &upload.device_id)], upload.duplicates);
    }
    page.family(
        "passbridge_upload_last_ok_timestamp_seconds",
        "gauge",
        "The time at which the cloud last acknowledged a passing, in seconds since 1970.",
    );
    for upload in &status.uploads {
        if let Some(last) = upload.last_ok {
            page.sample(&[("device", &upload.device_id)], last.as_millisecond() as f64 / 1e3);
        }
    }
}

fn audits(status: &Snapshot, page: &mut WebPage) {
    let audits =
        || status.uploads.iter().filter_map(|upload| Some((upload.device_id.as_str(), upload.audit.as_ref()?)));
    page.family(
        "passbridge_audit_equal",
        "gauge",
        "1 if the last audit found the journal and the cloud equal, otherwise 0.",
    );
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
    page.family(
        "passbridge_audit_timestamp_seconds",
        "gauge",
        "The time at which the last audit was made, in seconds since 1970.",
    );
    for (device, audit) in audits() {
        page.sample(&[("device", device)], audit.at.as_second());
    }
}

fn latency(status: &Snapshot, page: &mut WebPage) {
    let help = "Time from the receipt of a read until it was durable on this box.";
    page.family("passbridge_read_to_kept_seconds", "histogram", help);
    for decoder in &status.decoders {
        page.histogram(("decoder", &decoder.name), &decoder.read_to_kept);
    }
    let help = "Time from the receipt of a read by this process until its passing was in the cloud.";
    page.family("passbridge_read_to_cloud_seconds", "histogram", help);
    for upload in &status.uploads {
        page.histogram(("device", &upload.device_id), &upload.read_to_cloud);
    }
}

/// Only what the machine tells.
fn machine(status: &Snapshot, page: &mut WebPage) {
    let Some(machine) = &status.machine else { return };
    page.family(
        "passbridge_machine_info",
        "gauge",
        "The kernel, the architecture and the model of the machine. The value is always 1.",
    );
    let model = machine.model.as_deref().unwrap_or_default();
    page.sample(&[("kernel", &machine.kernel), ("architecture", &machine.architecture), ("model", model)], 1);
    let help = "Time since the machine was switched on.";
    page.single("passbridge_machine_uptime_seconds", "gauge", help, machine.uptime_s);
    if let Some(degrees) = machine.temperature_c {
        page.single(
            "passbridge_machine_temperature_celsius",
            "gauge",
            "The temperature of the hottest part of the machine.",
            degrees,
        );
    }
    if let Some(online) = machine.mains_online {
        page.single(
            "passbridge_machine_mains_online",
            "gauge",
            "1 while a supply gives power, otherwise 0.",
            u8::from(online),
        );
    }
    if let Some(low) = machine.under_voltage {
        let help = "1 while the power supply gives too little voltage, otherwise 0.";
        page.single("passbridge_machine_under_voltage", "gauge", help, u8::from(low));
    }
    page.family("passbridge_machine_battery_ratio", "gauge", "The charge of a battery, from 0 to 1.");
    for battery in &machine.batteries {
        if let Some(percent) = battery.percent {
            page.sample(&[("battery", &battery.name)], f64::from(percent) / 100.0);
        }
    }
    page.family(
        "passbridge_machine_battery_discharging",
        "gauge",
        "1 while the machine lives on the battery, otherwise 0.",
    );
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
mod tests;
