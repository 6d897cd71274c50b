//! The result of an audit as text for people and as JSON lines for programs.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::AuditReport;
use super::compare::{AuditVerdict, Finding};
use crate::cloud::rufus::CloudPassing;
use crate::journal::{Audited, UploadItem};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::model::text::tail;

/// Most differences that the text lists one by one. `--json` lists more.
const TOLD: usize = 50;

impl AuditVerdict {
    /// The word for this kind of difference.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Elsewhere => "elsewhere",
            Self::Different => "different",
            Self::Duplicated => "duplicated",
            Self::Foreign => "foreign",
            Self::SetAside => "set aside",
            Self::NotYetSent => "not yet sent",
        }
    }
}

/// The session as text: its name and the end of its token.
pub(super) fn session_in_words(token: &str, alias: Option<&str>) -> String {
    format!("{} (…{})", printable(alias.unwrap_or("without a name")), printable(&tail(token)))
}

/// The result as lines of text, with its times as `times` shows them.
pub fn text(report: &AuditReport, times: &ShownIn) -> String {
    let session = session_in_words(&report.token, report.alias.as_deref());
    let state = if report.active { "active" } else { "closed" };
    let mut out = format!("session {session}, {state}, of device {}: ", printable(&report.device));
    let _ = match (report.is_equal(), report.on_their_way()) {
        (true, 0) => writeln!(out, "EQUAL, {} passings", report.checked),
        (true, way) => writeln!(out, "equal so far, {way} on their way; {} passings are in the cloud", report.equal),
        (false, _) => writeln!(out, "NOT EQUAL, {}", counts(report)),
    };
    let differences = || report.findings.iter().filter(|finding| finding.verdict != AuditVerdict::NotYetSent);
    for finding in differences().take(TOLD) {
        let _ = writeln!(out, "  {}", line(finding, times));
    }
    let all = report.counts.values().sum::<u64>() - report.count(AuditVerdict::NotYetSent);
    if all > TOLD as u64 {
        let _ = writeln!(out, "  and {} more; --json lists up to 10,000", all - TOLD as u64);
    }
    for note in notes(report) {
        let _ = writeln!(out, "  {note}");
    }
    out
}

fn counts(report: &AuditReport) -> String {
    let mut text = format!("{} passings in the journal, {} of them in the cloud", report.checked, report.equal);
    for (verdict, count) in report.counts.iter().filter(|(_, count)| **count > 0) {
        let _ = write!(text, " · {count} {}", verdict.in_words());
    }
    if report.waiting > 0 {
        let _ = write!(text, " · {} not numbered yet", report.waiting);
    }
    text
}

fn notes(report: &AuditReport) -> Vec<String> {
    let mut notes = Vec::new();
    if report.unknown {
        notes.push("the cloud does not know this session".to_owned());
    }
    if report.merged > 0 {
        let text =
            "are held once for two reads of the same chip at the same time: the cloud counted them as duplicates";
        notes.push(format!("{} {text}", report.merged));
    }
    if report.older > 0 {
        notes.push(format!("{} in the cloud are older than the log goes back: not compared", report.older));
    }
    if report.unnumbered > 0 {
        notes.push(format!("{} in the cloud have no number that can be read", report.unnumbered));
    }
    if report.damaged > 0 {
        notes.push(format!("{} lines of the log are damaged and were left out", report.damaged));
    }
    if report.count(AuditVerdict::Missing) > 0 {
        notes.push(match report.active {
            true => "`passbridge audit --repair` sends what is missing again, under the same numbers".to_owned(),
            false => "the session is closed and takes no passings; `passbridge export` has what is missing".to_owned(),
        });
    }
    notes
}

fn line(finding: &Finding, times: &ShownIn) -> String {
    let num = finding.num().map_or("?".to_owned(), |num| num.to_string());
    let mut text = format!("{:<12} number {num}: ", finding.verdict.in_words());
    if let Some(item) = &finding.ours {
        text.push_str(&of_item(item, times));
    }
    if let Some(stored) = &finding.cloud {
        if finding.ours.is_some() {
            text.push_str("; the cloud has ");
        }
        text.push_str(&of_stored(stored, times));
    }
    if let Some(other) = finding.other {
        let _ = write!(text, ", also number {other}");
    }
    text
}

fn of_item(item: &UploadItem, times: &ShownIn) -> String {
    format!("chip {}, bib {}, {}", printable(&item.chip), printable(&item.bib), shown(Some(item.time_ms), times))
}

fn of_stored(stored: &CloudPassing, times: &ShownIn) -> String {
    let text = |text: &Option<Box<str>>| text.as_deref().map_or("?".to_owned(), printable);
    format!("chip {}, bib {}, {}", text(&stored.chip), text(&stored.bib), shown(stored.time_ms, times))
}

fn shown(ms: Option<i64>, times: &ShownIn) -> String {
    let instant = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    instant.map_or("?".to_owned(), |instant| times.milli(instant))
}

/// The time in JSON: RFC 3339 in UTC.
fn utc(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or("?".to_owned(), |instant| format!("{instant:.3}"))
}

/// The result as JSON: one line for each difference, and the summary as the last line.
pub(crate) fn json_lines(report: &AuditReport, at: Timestamp) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let _ = writeln!(out, "{}", json_of(finding));
    }
    let summary = report.summary(at);
    let mut value = json!(summary);
    if let Value::Object(fields) = &mut value {
        fields.insert("summary".into(), true.into());
        fields.insert("alias".into(), json!(report.alias));
        fields.insert("active".into(), report.active.into());
        fields.insert("in_cloud".into(), report.equal.into());
        fields.insert("merged".into(), report.merged.into());
        fields.insert("elsewhere".into(), report.count(AuditVerdict::Elsewhere).into());
        fields.insert("older_than_log".into(), report.older.into());
        fields.insert("damaged_lines".into(), report.damaged.into());
    }
    let _ = writeln!(out, "{value}");
    out
}

fn json_of(finding: &Finding) -> Value {
    let ours = finding.ours.as_ref().map(|item| {
        json!({ "seq": item.seq, "num_passing": item.num, "chip": item.chip, "bib": item.bib,
                "time": utc(item.time_ms) })
    });
    let cloud = finding.cloud.as_ref().map(|stored| {
        let time = stored.time_ms.map(utc);
        json!({ "num_passing": stored.num, "chip": stored.chip, "bib": stored.bib, "time": time })
    });
    json!({ "finding": finding.verdict, "num_passing": finding.num(), "journal": ours, "cloud": cloud, "other": finding.other })
}

/// The result as one line, for the log, the status and a problem.
pub(super) fn summary_in_words(audited: &Audited, alias: Option<&str>) -> String {
    let session = session_in_words(&audited.token, alias);
    match (audited.equal, audited.not_yet_sent) {
        (true, 0) => return format!("session {session}: journal and cloud hold the same {} passings", audited.checked),
        (true, way) => {
            return format!("session {session}: journal and cloud are equal so far, {way} passings are on their way");
        }
        _ => {}
    }
    let mut text = format!("session {session}: journal and cloud are NOT EQUAL: {} passings", audited.checked);
    for (count, what) in [
        (audited.missing, "missing in the cloud"),
        (audited.different, "different"),
        (audited.duplicated, "duplicated"),
        (audited.foreign, "foreign (another device or program sent them, or the log lost the lines that tell of them)"),
        (audited.set_aside, "set aside"),
        (audited.not_yet_sent, "not yet sent"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}
