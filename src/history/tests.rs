//! The plots and the report over logs that the real journal wrote.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::report::{self, DayReport, ReportPage, ReportQuery};
use super::*;
use crate::decoders::{Frame, Framed};
use crate::journal::control::Held;
use crate::journal::entry::{Body, Entry, write_line};
use crate::journal::{Audited, Batch, JournalConfig, UploadEvent, UploadItem};
use crate::model::chip::{ChipRead, Marker, Seq};
use crate::model::clock::{Wall, Zones};
use crate::model::shown::ShownIn;

const NOON: &str = "2027-01-15T12:00:00Z";

fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = NOON.parse().unwrap();
    Timestamp::from_second(noon.as_second() + seconds).unwrap()
}

/// A box whose clock stands where the test sets it.
struct Box {
    dir: TempDir,
    wall: Wall,
    board: Board,
    journal: Option<Journal>,
}

impl Box {
    async fn new() -> Self {
        let (dir, wall) = (tempfile::tempdir().unwrap(), Wall::scripted(at(0)));
        let mut new = Self { dir, board: Board::with_clock("finish", wall.clone()), wall, journal: None };
        new.start(0).await;
        new
    }

    async fn start(&mut self, seconds: i64) {
        self.wall.set(at(seconds));
        self.board = Board::with_clock("finish", self.wall.clone());
        let config = JournalConfig {
            dir: self.dir.path().into(),
            dead_time: Duration::ZERO,
            zones: Zones::default(),
            keep_days: 30,
            keep_bytes: u64::MAX,
            segment_bytes: 4_000, // several segments
        };
        let journal = Journal::open(config, self.board.clone()).unwrap();
        journal.serving().await;
        let text = format!("started; {ENTRIES_BEGIN}{}", journal.first().0);
        self.journal = Some(journal);
        self.note(seconds, "start", &text).await;
    }

    async fn stop(&mut self, seconds: i64) {
        self.note(seconds, "stop", "stopped on request").await;
        self.journal.take().unwrap().close().await;
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    async fn note(&self, seconds: i64, code: &str, text: &str) {
        self.wall.set(at(seconds));
        self.journal().note(code, text).await.unwrap();
    }

    async fn keep(&self, seconds: i64, decoder: &str, frame: Frame) -> Seq {
        let frames = vec![Framed { frame, raw: Default::default() }];
        self.journal().append(decoder, at(seconds), frames).await.unwrap().get().last
    }

    async fn read(&self, seconds: i64, chip: &str) -> Seq {
        let stamp = at(seconds - 1).strftime("%Y-%m-%dT%H:%M:%S").to_string(); // its clock is a second behind
        self.keep(seconds, "mat", Frame::Read(ChipRead::new(chip, stamp.parse().unwrap()))).await
    }

    async fn record(&self, seconds: i64, event: UploadEvent) {
        self.wall.set(at(seconds));
        self.journal().record(event).await.unwrap();
    }

    /// Numbers reads from `first` on in a batch.
    async fn batch(&self, seconds: i64, first: u64, reads: &[Seq]) {
        let item = |(at_, seq): (usize, &Seq)| {
            let (num, bib, chip) = (first + at_ as u64, "7".into(), "C7".into());
            UploadItem { seq: *seq, num, time_ms: at(seconds).as_millisecond(), corrected_ms: 0, bib, chip }
        };
        let items = reads.iter().enumerate().map(item).collect();
        let (through, decoders) = (*reads.last().unwrap(), vec!["mat".into()]);
        self.record(
            seconds,
            UploadEvent::Batch(Batch { through, decoders, ..Batch::resend("DEVICE", "SESSION", items) }),
        )
        .await;
    }

    async fn accepted(&self, seconds: i64, first: u64, last: u64) {
        self.record(seconds, UploadEvent::Accepted { device: "DEVICE".into(), first, last, duplicates: 1 }).await;
    }

    fn plots(&self) -> PlotHistory {
        PlotHistory::new(["mat".to_owned()], true, self.board.clone())
    }

    fn report(&self, from: i64, to: i64, now: i64) -> DayReport {
        let query = ReportQuery {
            name: "finish".to_owned(),
            from: at(from),
            to: at(to),
            made: at(now),
            durable: u64::MAX,
            zones: Zones::default(),
        };
        report::make(self.dir.path(), query, &mut |_| true).unwrap()
    }
}

fn gun() -> Marker {
    let (name, stamp, reader, location) = (None, None, None, None);
    Marker { kind: "gun".into(), name, stamp, reader, location, position: None, through: None }
}

/// A race with an outage, a passing that is set aside, a restart and an audit.
async fn race() -> Box {
    let mut one = Box::new().await;
    let (device, token, alias) = ("DEVICE".into(), "SESSION".into(), Some("10K <b>Sant Joan</b>".into()));
    one.record(1, UploadEvent::Joined { device, token, alias, next: 1 }).await;
    one.keep(5, "mat", Frame::Marker(gun())).await;
    let mut reads = Vec::new();
    for n in 0..10 {
        reads.push(one.read(10 + n, &format!("C{}", n % 4)).await);
    }
    one.batch(20, 1, &reads).await;
    one.accepted(21, 1, 8).await;
    let (device, answer) = ("DEVICE".into(), "bad \u{1b}[31m<script>".into());
    one.record(22, UploadEvent::DeadLetter { device, num: 9, status: 400, answer, again: false }).await;
    one.accepted(23, 10, 10).await;
    one.note(30, "problem", "offline: no internet").await;
    one.note(40, "problem", "decoder_unreachable (mat): no answer from 192.168.1.50: is it on?").await;
    one.note(100, "problem_over", "decoder_unreachable (mat)").await;
    one.note(110, "problem_over", "offline").await;
    one.note(111, "problem", "box_hot: 82 °C").await;
    one.stop(120).await;
    one.start(180).await;
    one.read(200, "C9").await;
    let (device, token) = ("DEVICE".into(), "SESSION".into());
    let audited = Audited {
        device,
        token,
        at: at(210),
        active: true,
        equal: true,
        checked: 9,
        missing: 0,
        foreign: 0,
        different: 0,
        duplicated: 0,
        not_yet_sent: 1,
        set_aside: 1,
    };
    one.record(210, UploadEvent::Audited(audited)).await;
    one.wall.set(at(220));
    one.journal().hold("timer").await.unwrap();
    one.journal().release(Held::Drop, "timer").await.unwrap();
    one
}

#[tokio::test]
async fn the_plots_are_the_same_after_a_restart_as_they_were_before() {
    let mut one = race().await;
    one.wall.set(at(300));
    let live = one.plots();
    // As the task does it, from the first entry on.
    let mut reader = one.journal().reader(Seq(1));
    live.fold().waits(0, None);
    while !live.look(&mut reader) {}
    live.ask(one.journal());
    let before = live.plots();
    drop(reader);
    let counted: u32 = before.minutes.cells.iter().filter_map(|cell| cell.reads).sum();
    let sent: u32 = before.minutes.cells.iter().filter_map(|cell| cell.uploads).sum();
    assert_eq!((counted, sent, before.minutes.cells[59].waiting), (11, 9, Some(1)));
    one.stop(301).await;
    one.start(310).await;
    one.wall.set(at(320));
    let again = one.plots();
    let through = again.read_back(one.journal(), &CancellationToken::new());
    assert_eq!(through, one.journal().durable().0);
    again.fold().is_live();
    let after = again.plots();
    let cells = |plots: &Plots| plots.minutes.cells.iter().map(|cell| (cell.reads, cell.uploads)).collect::<Vec<_>>();
    assert_eq!(cells(&before)[2..], cells(&after)[..58]);
    let this_box = after.minutes.strips.iter().find(|strip| strip.name == "this box").unwrap();
    let restarts: Vec<_> = this_box.spans.iter().filter(|span| !span.on).map(|span| (span.from, span.to)).collect();
    assert_eq!(restarts, [(at(120), at(180)), (at(301), at(310))]);
    one.stop(330).await;
}

#[tokio::test(start_paused = true)]
async fn the_task_follows_what_is_written_and_ends_with_the_box() {
    let one = Box::new().await;
    let plots = one.plots();
    let stop = CancellationToken::new();
    let task = tokio::spawn(plots.clone().follow(one.journal().clone(), stop.clone()));
    one.read(12, "C1").await;
    one.wall.set(at(30));
    let reads = || plots.plots().minutes.cells.iter().filter_map(|cell| cell.reads).sum::<u32>();
    let waiting = || plots.plots().minutes.cells[59].waiting;
    let seen = async {
        while (reads(), waiting()) != (1, Some(1)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), seen).await.expect("the read is in the plot");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_report_tells_what_happened_with_counts_outages_restarts_and_what_was_set_aside() {
    let one = race().await;
    let report = one.report(-3_600, 3_600, 300);
    let [mat] = &report.decoders[..] else { panic!("{:?}", report.decoders) };
    assert_eq!((&*mat.name, mat.reads, mat.chips, mat.more_chips), ("mat", 11, 5, false));
    assert_eq!(mat.first.as_ref().map(|read| (read.time, &*read.chip)), Some((at(9), "C0")));
    assert_eq!(mat.last.as_ref().map(|read| (read.time, &*read.chip)), Some((at(199), "C9")));
    assert_eq!(mat.silences.iter().map(|silence| (silence.from, silence.to)).collect::<Vec<_>>(), [(at(19), at(200))]);
    assert_eq!(mat.clock.unwrap().median_ms, -1_000);
    assert_eq!(mat.outages.list.len(), 1);
    assert_eq!((mat.outages.list[0].from, mat.outages.list[0].to), (at(40), Some(at(100))));
    assert_eq!((report.internet.list[0].from, report.internet.list[0].to), (at(30), Some(at(110))));
    assert_eq!(report.markers.list[0].kind, "gun");
    let [cloud] = &report.uploads[..] else { panic!("{:?}", report.uploads) };
    assert_eq!((cloud.sent, cloud.had_already, report.waiting), (9, 2, Some(1)));
    let session = &cloud.sessions[0];
    assert_eq!((session.numbered, session.accepted, session.audit.unwrap().equal), (10, 9, true));
    let aside = &cloud.set_aside.list[0];
    assert_eq!((aside.num, &*aside.bib, aside.status, aside.sent_later), (9, "7", 400, false));
    let starts: Vec<_> = report.starts.list.iter().map(|start| (start.at, start.stopped)).collect();
    assert_eq!(starts, [(at(0), None), (at(180), Some(at(120)))]);
    let hot = &report.problems.list[0];
    assert_eq!((&*hot.code, hot.from, hot.to, hot.times), ("box_hot", at(111), Some(at(120)), 1));
    assert_eq!(report.not_known, [""; 0]);
    let text = report::text(&report, &ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap()));
    for told in [
        "11 reads of 5 chips.",
        "First read by its own time: 2027-01-15 13:00:09.000 CET, chip C0.",
        "1.0 s behind in the middle",
        "At the end 1 read waited for the cloud. It is safe on this box.",
        "1 passing was set aside. Somebody has to look at this.",
        "the same 9 passings; besides, 1 not sent yet, 1 set aside",
        "End of the hold by timer: nothing of what was held was sent",
        "stopped at 2027-01-15 13:02:00 CET, off for 1 min",
        "no answer from 192.168.1.50: is it on?",
        "400 bad \u{fffd}[31m<script>",
    ] {
        assert!(text.contains(told), "{told} is missing in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("SESSION") && !text.contains("DEVICE "));
}

#[tokio::test]
async fn a_report_of_another_time_has_nothing_of_this_one_and_says_what_it_does_not_know() {
    let one = race().await;
    let later = one.report(150, 3_600, 300);
    assert_eq!((later.decoders[0].reads, later.uploads[0].sent, later.internet.list.len()), (1, 0, 0));
    assert_eq!(later.uploads[0].sessions[0].alias.as_deref(), Some("10K <b>Sant Joan</b>"), "it was joined before");
    let none = one.report(-7_200, -3_600, 300);
    assert!(none.decoders.is_empty() && none.not_known[0].contains("no entry of this time"), "{:?}", none.not_known);
}

#[tokio::test]
async fn a_power_cut_is_told_as_what_nobody_knows() {
    let mut one = Box::new().await;
    one.read(10, "C1").await;
    one.journal.take().unwrap().close().await;
    // What a power cut leaves: the end of a line.
    let dir = log_dir(one.dir.path());
    let newest = crate::journal::log::segments(&dir).unwrap().pop().unwrap();
    let mut bytes = std::fs::read(&newest.path).unwrap();
    let lines = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.splice(lines.., b"99\t0\tread\tmat\t2027-01".iter().copied());
    std::fs::write(&newest.path, bytes).unwrap();
    one.start(100).await;
    let report = one.report(-60, 600, 300);
    let last = report.starts.list.last().unwrap();
    assert_eq!((last.at, last.stopped), (at(100), None));
    assert!(report.not_known[0].contains("without being stopped"), "{:?}", report.not_known);
    one.wall.set(at(200));
    let plots = one.plots();
    plots.read_back(one.journal(), &CancellationToken::new());
    plots.fold().is_live();
    let minutes = plots.plots().minutes;
    let this_box = minutes.strips.iter().find(|strip| strip.name == "this box").unwrap();
    let spans: Vec<_> = this_box.spans.iter().map(|span| (span.from, span.to, span.on)).collect();
    assert_eq!(spans, [(at(0), at(10), true), (at(100), at(200), true)]);
}

#[tokio::test]
async fn names_from_outside_are_text_in_the_page_of_the_report() {
    use askama::Template;
    let one = race().await;
    let report = one.report(-60, 600, 300);
    let page = ReportPage::new(&report, &ShownIn::zone(TimeZone::UTC), None).render().unwrap();
    assert!(!page.contains("<b>Sant") && !page.contains("<script"), "{page}");
    assert!(page.contains("10K &#60;b&#62;Sant Joan") && page.contains("&#60;script&#62;"), "{page}");
    assert!(
        page.contains("href=\"/assets/report.css\"") && !page.contains("<style"),
        "the page of the box has no style inside"
    );
    let alone = ReportPage::new(&report, &ShownIn::zone(TimeZone::UTC), Some(report::STYLE)).render().unwrap();
    assert!(alone.contains("@page { size: A4") && !alone.contains("href="), "a file needs nothing beside it");
}

/// Writes a log of so many reads, 100 each second until `until`, each with its batch and its acceptance.
fn write_long_log(dir: &Path, reads: u64, until: Timestamp) {
    let log = log_dir(dir);
    std::fs::create_dir_all(&log).unwrap();
    let (mut seq, mut lines, mut first) = (0, Vec::new(), 1);
    let begin_ms = until.as_millisecond() - reads as i64 * 10;
    for n in 0..reads {
        let ms = begin_ms + n as i64 * 10;
        let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let mut write = |subject: &str, time: Timestamp, body: Body| {
            seq += 1;
            let entry = Entry { seq, in_group: 0, subject: subject.into(), time, body, raw: vec![b'x'; 40].into() };
            write_line(&mut lines, &entry);
            seq
        };
        let chip = format!("E200{:08}", n % 20_000);
        let stamp = time(ms).strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string().parse().unwrap();
        let read = write("mat", time(ms), Body::Read(ChipRead::new(&*chip, stamp)));
        let (num, bib) = (n + 1, "7".into());
        let item = UploadItem { seq: Seq(read), num, time_ms: ms, corrected_ms: 0, bib, chip: (&*chip).into() };
        let batch = Batch { through: Seq(read), decoders: vec!["mat".into()], ..Batch::resend("D", "S", vec![item]) };
        write("D", time(ms + 1), Body::Upload(UploadEvent::Batch(batch)));
        let accepted = UploadEvent::Accepted { device: "D".into(), first: num, last: num, duplicates: 0 };
        write("D", time(ms + 100), Body::Upload(accepted));
        if lines.len() >= 16 << 20 || n + 1 == reads {
            std::fs::write(log.join(format!("{first:012}.log")), &lines).unwrap();
            lines.clear();
            first = seq + 1;
        }
    }
}

/// The most memory that the process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[test]
#[ignore = "it writes logs of 1,000,000 and of 2,160,000 reads: alone, with --release --lib six_hours -- --ignored --nocapture"]
fn six_hours_of_a_full_race_are_read_back_in_bounded_memory() {
    for reads in [1_000_000_u64, 2_160_000] {
        let dir = tempfile::tempdir().unwrap();
        write_long_log(dir.path(), reads, at(0));
        let before = peak();
        let started = Instant::now();
        let board = Board::with_clock("finish", Wall::scripted(at(60)));
        let plots = PlotHistory::new(["mat".to_owned()], true, board);
        let log = log_dir(dir.path());
        let mut pieces = Pieces::of(LogSpan::since(&log, at(60).as_millisecond() - BACK_MS, u64::MAX).unwrap());
        while let Some(items) = pieces.next().unwrap() {
            let mut fold = plots.fold();
            items.iter().for_each(|item| item.apply(&mut fold));
        }
        let (back_s, of_plots) = (started.elapsed(), peak() - before);
        let started = Instant::now();
        let hours = plots.plots().hours;
        let drawn = started.elapsed();
        let counted: u64 = hours.cells.iter().filter_map(|cell| cell.reads).map(u64::from).sum();
        assert!(counted + 40_000 > reads.min(2_160_000), "{counted}");
        println!(
            "{reads} reads: read back in {back_s:?} without rests, {of_plots} bytes more memory, plots in {drawn:?}"
        );
        assert!(of_plots < 64 << 20, "{of_plots} bytes");
    }
}
