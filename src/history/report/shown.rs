//! The report as people read it: sections of sentences and tables, as text or as HTML.
//!
//! Must hold: every name from outside is made harmless for a terminal here, and the template escapes for HTML.

use std::time::Duration;

use askama::Template;
use jiff::Timestamp;

use super::data::{
    AuditDay, ClockOffsets, DayReport, DecoderDay, Occurrence, Outage, ProgramStart, SessionDay, ShortList, UploadDay,
};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::ProblemCode;
use crate::status::words::{age, count, short};

/// A part of the report.
pub(crate) struct ReportPart {
    /// Its heading.
    pub title: String,
    /// Sentences.
    pub lines: Vec<String>,
    /// Tables.
    pub tables: Vec<ReportTable>,
}

/// A table of a part.
pub(crate) struct ReportTable {
    /// What it lists.
    pub title: &'static str,
    /// The heads of its columns.
    pub head: Vec<&'static str>,
    /// The cells of each row.
    pub rows: Vec<Vec<String>>,
    /// What it leaves out.
    pub more: Option<String>,
}

impl ReportPart {
    fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new(), tables: Vec::new() }
    }

    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    fn table<T>(
        &mut self,
        title: &'static str,
        head: &[&'static str],
        listed: &ShortList<T>,
        row: impl Fn(&T) -> Vec<String>,
    ) {
        if listed.list.is_empty() {
            return;
        }
        let more = (listed.more > 0).then(|| format!("and {} more", count(listed.more)));
        let rows = listed.list.iter().map(row).collect();
        self.tables.push(ReportTable { title, head: head.to_vec(), rows, more });
    }
}

/// The report as a page that can be printed.
#[derive(Template)]
#[template(path = "report.html")]
pub(crate) struct ReportPage {
    title: String,
    parts: Vec<ReportPart>,
    /// The style, for a file that stands alone. `None`: the page of the box links to it.
    style: Option<&'static str>,
}

impl ReportPage {
    /// The page. `style`: it is to stand alone, with this style.
    pub(crate) fn new(report: &DayReport, times: &ShownIn, style: Option<&'static str>) -> Self {
        Self { title: title(report), parts: parts(report, times), style }
    }
}

/// The report as text.
pub(crate) fn text(report: &DayReport, times: &ShownIn) -> String {
    let mut out = format!("{}\n", title(report));
    for part in parts(report, times) {
        out.push_str(&format!("\n{}\n", part.title));
        part.lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
        for table in &part.tables {
            out.push_str(&format!("  {}:\n", table.title));
            table_text(&mut out, table);
        }
    }
    out
}

fn table_text(out: &mut String, table: &ReportTable) {
    let head: Vec<String> = table.head.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<&Vec<String>> = std::iter::once(&head).chain(&table.rows).collect();
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(wide).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(&format!("    {}\n", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
    if let Some(more) = &table.more {
        out.push_str(&format!("    {more}\n"));
    }
}

fn title(report: &DayReport) -> String {
    format!("Report of the box {}", printable(&report.name))
}

fn parts(report: &DayReport, times: &ShownIn) -> Vec<ReportPart> {
    let mut parts = vec![overview(report, times)];
    parts.extend(report.decoders.iter().map(|decoder| decoder_part(decoder, times)));
    parts.extend(report.uploads.iter().map(|upload| upload_part(upload, times)));
    parts.push(internet_part(report, times));
    parts.push(box_part(report, times));
    if !report.not_known.is_empty() {
        let mut part = ReportPart::new("What this report does not know");
        report.not_known.iter().for_each(|text| part.line(text.as_str()));
        parts.push(part);
    }
    parts
}

fn overview(report: &DayReport, times: &ShownIn) -> ReportPart {
    let mut part = ReportPart::new("In short");
    let to = report.to.min(report.made);
    part.line(format!("From {} to {}.", times.second(report.from), times.second(to)));
    part.line(format!(
        "Made at {}. Times are when this box received something, unless it says otherwise.",
        times.second(report.made)
    ));
    let reads: u64 = report.decoders.iter().map(|decoder| decoder.reads).sum();
    part.line(format!("Reads that were kept on this box: {}.", count(reads)));
    let sent: u64 = report.uploads.iter().map(|upload| upload.sent).sum();
    part.line(format!("Passings that the cloud accepted: {}.", count(sent)));
    part.line(match report.waiting {
        Some(0) => "At the end no read waited for the cloud.".to_owned(),
        Some(1) => "At the end 1 read waited for the cloud. It is safe on this box.".to_owned(),
        Some(waiting) => {
            format!("At the end {} reads waited for the cloud. They are safe on this box.", count(waiting))
        }
        None => "How many reads waited for the cloud at the end is not known.".to_owned(),
    });
    let aside = report.uploads.iter().map(|upload| {
        let open = upload.set_aside.list.iter().filter(|passing| !passing.sent_later).count() as u64;
        open + upload.set_aside.more
    });
    let aside: u64 = aside.sum();
    if aside > 0 {
        let were = if aside == 1 { "was" } else { "were" };
        part.line(format!("{} {were} set aside. Somebody has to look at this.", some(aside, "passing")));
    }
    part.table("Markers", &["received", "decoder", "marker", "time by its own clock"], &report.markers, |marker| {
        let stamp = marker.stamp.as_deref().unwrap_or("none");
        vec![times.milli(marker.received), printable(&marker.decoder), printable(&marker.kind), printable(stamp)]
    });
    part
}

fn decoder_part(decoder: &DecoderDay, times: &ShownIn) -> ReportPart {
    let mut part = ReportPart::new(format!("Decoder {}", printable(&decoder.name)));
    if decoder.reads == 0 {
        part.line("It sent no read in this time.");
    } else {
        let chips = match decoder.more_chips {
            true => format!("more than {}", some(decoder.chips, "chip")),
            false => some(decoder.chips, "chip"),
        };
        part.line(format!("{} of {chips}.", some(decoder.reads, "read")));
    }
    if decoder.stored > 0 {
        part.line(format!(
            "{} of these reads came from the memory of the decoder, later than they were made.",
            count(decoder.stored)
        ));
    }
    for (what, read) in [("First", &decoder.first), ("Last", &decoder.last)] {
        if let Some(read) = read {
            part.line(format!(
                "{what} read by its own time: {}, chip {}.",
                times.milli(read.time),
                printable(&read.chip)
            ));
        }
    }
    if let Some(clock) = decoder.clock {
        part.line(offsets_in_words(clock));
    }
    if decoder.rejected > 0 {
        part.line(format!(
            "{} pieces of data could not be understood. They are kept as they came.",
            count(decoder.rejected)
        ));
    }
    let silences = ShortList { list: decoder.silences.clone(), more: 0 };
    part.table("The longest times without a read", &["from", "to", "length"], &silences, |silence| {
        vec![times.second(silence.from), times.second(silence.to), length(silence.from, silence.to)]
    });
    part.table("Times in which it did not deliver", &OUTAGE, &decoder.outages, |outage| outage_row(outage, times));
    part
}

/// The heads of a table of outages.
const OUTAGE: [&str; 4] = ["from", "to", "length", "what was wrong"];

fn outage_row(outage: &Outage, times: &ShownIn) -> Vec<String> {
    let (to, length) = end(outage.from, outage.to, times);
    vec![times.second(outage.from), to, length, problem_in_words(&outage.code, &outage.message)]
}

fn end(from: Timestamp, to: Option<Timestamp>, times: &ShownIn) -> (String, String) {
    to.map_or_else(|| ("end not known".to_owned(), String::new()), |to| (times.second(to), length(from, to)))
}

fn length(from: Timestamp, to: Timestamp) -> String {
    age(u64::try_from(to.as_second() - from.as_second()).unwrap_or(0))
}

/// The first sentence of what the box told, or the meaning of the problem.
fn problem_in_words(code: &str, message: &str) -> String {
    match ProblemCode::of_word(code) {
        Some(known) if message.is_empty() => known.meaning().to_owned(),
        _ => printable(message),
    }
}

fn offsets_in_words(ClockOffsets { median_ms, low_ms, high_ms }: ClockOffsets) -> String {
    let seconds = |ms: i64| match ms {
        0 => "0.0 s".to_owned(),
        ms if ms > 0 => format!("{:.1} s ahead", ms as f64 / 1_000.0),
        ms => format!("{:.1} s behind", -(ms as f64) / 1_000.0),
    };
    format!(
        "Its clock against that of this box, by its live reads: {} in the middle, and nine of ten reads between {} and {}. The \
         way of a read to the box is in it, so a good clock looks a little behind.",
        seconds(median_ms),
        seconds(low_ms),
        seconds(high_ms)
    )
}

fn upload_part(upload: &UploadDay, times: &ShownIn) -> ReportPart {
    let mut part = ReportPart::new(format!("Cloud, device …{}", printable(&upload.device)));
    part.line(format!("Passings that it accepted: {}.", count(upload.sent)));
    if upload.had_already > 0 {
        part.line(format!(
            "Of {} the cloud said that it had them already. It has each of them once.",
            count(upload.had_already)
        ));
    }
    if upload.repeats + upload.dead_time > 0 {
        part.line(format!(
            "{} reads were not sent because they repeat others, and {} because of the dead time.",
            count(upload.repeats),
            count(upload.dead_time)
        ));
    }
    let sessions = ShortList { list: upload.sessions.iter().collect(), more: 0 };
    let head = ["session", "numbered", "accepted", "compared with the cloud"];
    part.table("Sessions", &head, &sessions, |session: &&SessionDay| {
        let alias = session.alias.as_deref().unwrap_or("without a name");
        let name = format!("{} (…{})", printable(alias), printable(&session.token_tail));
        let audit = session.audit.map_or("not in this time".to_owned(), |audit| audit_in_words(audit, times));
        vec![name, count(session.numbered), count(session.accepted), audit]
    });
    let head = ["set aside", "number", "bib", "chip", "its time", "answer of the cloud", "now"];
    part.table("Passings that were set aside", &head, &upload.set_aside, |passing| {
        let time = passing.time.map_or("not known".to_owned(), |time| times.milli(time));
        let now = if passing.sent_later { "in the cloud" } else { "set aside" };
        vec![
            times.second(passing.at),
            passing.num.to_string(),
            printable(&passing.bib),
            printable(&passing.chip),
            time,
            format!("{} {}", passing.status, printable(&passing.answer)),
            now.to_owned(),
        ]
    });
    part
}

fn audit_in_words(audit: AuditDay, times: &ShownIn) -> String {
    let when = times.second(audit.at);
    let still = if audit.active { ", the session was still open" } else { "" };
    let some = |parts: &[(u64, &str)]| {
        let parts: Vec<_> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        parts.join(", ")
    };
    let open = some(&[(audit.not_yet_sent, "not sent yet"), (audit.set_aside, "set aside")]);
    let besides = if open.is_empty() { String::new() } else { format!("; besides, {open}") };
    if audit.equal {
        return format!("the same {} passings{besides} ({when}{still})", count(audit.checked));
    }
    let parts = some(&[
        (audit.missing, "missing in the cloud"),
        (audit.foreign, "not of this box"),
        (audit.different, "different"),
        (audit.duplicated, "twice in the cloud"),
    ]);
    format!("NOT THE SAME: {parts}{besides} ({when}{still})")
}

fn internet_part(report: &DayReport, times: &ShownIn) -> ReportPart {
    let mut part = ReportPart::new("Internet");
    if report.internet.list.is_empty() {
        part.line("The log tells of no time without internet.");
    }
    part.table("Times without internet, or without an answer of the cloud", &OUTAGE, &report.internet, |outage| {
        outage_row(outage, times)
    });
    part
}

fn box_part(report: &DayReport, times: &ShownIn) -> ReportPart {
    let mut part = ReportPart::new("This box");
    if report.starts.list.is_empty() {
        part.line("The program did not start in this time.");
    }
    part.table("Starts of the program", &["started", "before that"], &report.starts, |start: &ProgramStart| {
        let before = match (start.stopped, start.last_entry) {
            (Some(stopped), _) => {
                format!("stopped at {}, off for {}", times.second(stopped), length(stopped, start.at))
            }
            (None, Some(last)) => format!("not stopped: power cut, or it failed; last entry at {}", times.second(last)),
            (None, None) => "nothing is known".to_owned(),
        };
        vec![times.second(start.at), before]
    });
    part.table("Steps of the clock of this box", &["at", "by"], &report.clock_steps, |step| {
        vec![times.second(step.at), moved(step.step_ms)]
    });
    let head = ["at", "decoder", "moved by", "who"];
    part.table("Times of reads that somebody corrected", &head, &report.corrections, |correction| {
        let (decoder, by) = (printable(&correction.decoder), printable(&correction.by));
        vec![times.second(correction.at), decoder, moved(correction.shift_ms), by]
    });
    part.table("What somebody ordered", &["at", "what"], &report.orders, |order| {
        vec![times.second(order.at), printable(&order.text)]
    });
    if report.problems.list.is_empty() {
        part.line("The log tells of no other problem.");
    }
    let head = ["first", "last end", "times", "about", "what was wrong"];
    part.table("Other problems", &head, &report.problems, |problem: &Occurrence| {
        let (to, _) = end(problem.from, problem.to, times);
        let about = if problem.about.is_empty() { "this box".to_owned() } else { short(&printable(&problem.about)) };
        let what = problem_in_words(&problem.code, &problem.message);
        vec![times.second(problem.from), to, count(problem.times), about, what]
    });
    part
}

/// So many things of a kind.
fn some(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

fn moved(ms: i64) -> String {
    let sign = if ms < 0 { "−" } else { "+" };
    let length = Duration::from_millis(ms.unsigned_abs());
    match length.as_secs() {
        0..60 => format!("{sign}{:.1} s", length.as_secs_f64()),
        seconds => format!("{sign}{}", age(seconds)),
    }
}
