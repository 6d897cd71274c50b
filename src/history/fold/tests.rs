use super::*;
use crate::journal::{Batch, UploadItem};
use crate::model::chip::{ChipRead, Seq};

/// A log that is written by hand, and the fold over it.
struct Told {
    fold: PlotFold,
    seq: u64,
    num: u64,
    first: u64,
}

/// Noon of some day. Tests count in seconds from here.
const NOON_MS: i64 = 1_800_000_000_000;

fn at(seconds: i64) -> Timestamp {
    instant(NOON_MS + seconds * 1_000)
}

impl Told {
    fn new() -> Self {
        let mats = ["mat".to_owned(), "backup".to_owned()];
        let mut fold = PlotFold::new(mats, true);
        fold.waits(0, None);
        Self { fold, seq: 0, num: 0, first: 1 }
    }

    fn write(&mut self, seconds: i64, subject: &str, body: Body) -> u64 {
        self.seq += 1;
        let (seq, time) = (self.seq, at(seconds));
        self.fold.entry(&Entry { seq, in_group: 0, subject: subject.into(), time, body, raw: Box::default() });
        seq
    }

    fn note(&mut self, seconds: i64, code: &str, text: &str) {
        self.write(seconds, code, Body::Note(text.into()));
    }

    fn start(&mut self, seconds: i64) {
        let text = format!("passbridge started; {}{}", super::super::told::ENTRIES_BEGIN, self.seq + 1);
        self.first = self.seq + 1;
        self.note(seconds, "start", &text);
    }

    fn read(&mut self, seconds: i64) -> u64 {
        let stamp = "2027-01-15T08:00:00".parse().unwrap();
        self.write(seconds, "mat", Body::Read(ChipRead::new("C1", stamp)))
    }

    fn batch(&mut self, seconds: i64, reads: &[u64]) {
        let item = |seq: &u64| {
            self.num += 1;
            let (bib, chip) = ("1".into(), "C1".into());
            UploadItem { seq: Seq(*seq), num: self.num, time_ms: 0, corrected_ms: 0, bib, chip }
        };
        let items: Vec<_> = reads.iter().map(item).collect();
        let batch = Batch { decoders: vec!["mat".into()], ..Batch::resend("D", "S", items) };
        self.write(seconds, "D", Body::Upload(UploadEvent::Batch(batch)));
    }

    fn accepted(&mut self, seconds: i64, count: u64) {
        let (first, last) = (self.num + 1 - count, self.num);
        let accepted = UploadEvent::Accepted { device: "D".into(), first, last, duplicates: 0 };
        self.write(seconds, "D", Body::Upload(accepted));
    }

    fn step(&mut self, before: i64, after: i64, sure: u64) {
        let before_ms = at(before).as_millisecond();
        let step = Step { from: self.first, sure, before_ms, step_ms: (after - before) * 1_000 };
        self.write(after, "box", Body::Clock(step));
    }

    /// The minutes as they are drawn at this time, with every entry known.
    fn minutes(&mut self, seconds: i64) -> PlotSeries {
        self.fold.is_live();
        self.fold.plots(at(seconds)).minutes
    }
}

/// The cell that begins so many seconds after noon.
fn cell(series: &PlotSeries, seconds: i64) -> PlotCell {
    let first = series.until.as_second() - series.cells.len() as i64 * i64::from(series.step_s);
    series.cells[usize::try_from((at(seconds).as_second() - first) / i64::from(series.step_s)).unwrap()]
}

/// The spans of a strip in seconds from noon, with `on` or the reason.
fn strip_of(series: &PlotSeries, name: &str) -> Vec<(i64, i64, String)> {
    let seconds = |at: Timestamp| (at.as_millisecond() - NOON_MS) / 1_000;
    let strip = series.strips.iter().find(|strip| strip.name == name).unwrap();
    let spans = strip.spans.iter();
    spans.map(|span| (seconds(span.from), seconds(span.to), span.why.clone().unwrap_or("on".to_owned()))).collect()
}

fn on(from: i64, to: i64) -> (i64, i64, String) {
    off(from, to, "on")
}

fn off(from: i64, to: i64, why: &str) -> (i64, i64, String) {
    (from, to, why.to_owned())
}

#[test]
fn reads_uploads_what_waits_and_the_delay_are_counted_in_the_cell_in_which_they_happened() {
    let mut told = Told::new();
    told.start(0);
    let reads = [told.read(11), told.read(12), told.read(19)];
    told.batch(19, &reads[..2]);
    told.accepted(21, 2);
    let minutes = told.minutes(45);
    assert_eq!((minutes.step_s, minutes.cells.len(), minutes.until), (10, 60, at(40)), "whole cells only");
    let counts = |cell: PlotCell| (cell.reads, cell.uploads, cell.waiting);
    assert_eq!(counts(cell(&minutes, 0)), (Some(0), Some(0), None), "nothing waited that is known of");
    assert_eq!(counts(cell(&minutes, 10)), (Some(3), Some(0), Some(3)));
    assert_eq!(counts(cell(&minutes, 20)), (Some(0), Some(2), Some(1)));
    assert_eq!(counts(cell(&minutes, 30)), (Some(0), Some(0), Some(1)), "it waits on");
    assert_eq!(counts(cell(&minutes, -10)), (None, None, None), "nobody knows what was before the start");
    let delays = cell(&minutes, 20);
    assert_eq!(delays.delay_worst_ms, Some(10_000));
    assert!((9_000..=10_000).contains(&delays.delay_median_ms.unwrap()));
    assert_eq!(cell(&minutes, 30).delay_median_ms, None);
    let hours = told.fold.plots(at(45)).hours;
    assert_eq!((hours.step_s, hours.cells.len()), (300, 72));
    let last = hours.cells[71];
    assert_eq!((last.reads, last.uploads, last.waiting), (Some(3), Some(2), Some(1)));
}

#[test]
fn a_restart_is_a_hole_with_its_reason_and_what_was_counted_before_it_stays() {
    let mut told = Told::new();
    told.start(0);
    told.read(15);
    told.note(31, "stop", "stopped on request");
    told.start(75);
    told.read(95);
    let minutes = told.minutes(120);
    let reads = |seconds| cell(&minutes, seconds).reads;
    assert_eq!(reads(10), Some(1));
    assert_eq!((reads(20), reads(30), reads(40), reads(70)), (Some(0), None, None, None));
    assert_eq!((reads(80), reads(90)), (Some(0), Some(1)));
    assert_eq!(cell(&minutes, 40).waiting, None, "nobody counted");
    assert_eq!(strip_of(&minutes, "this box"), [on(0, 31), off(31, 75, "restart"), on(75, 120)]);
    assert_eq!(strip_of(&minutes, "mat"), [on(0, 31), on(75, 120)]);
    assert_eq!(strip_of(&minutes, "backup"), [on(75, 120)], "the log of the first process does not know it");
}

#[test]
fn after_a_power_cut_nobody_knows_what_was_between_the_last_entry_and_the_start() {
    let mut told = Told::new();
    told.start(0);
    told.read(31);
    // Entries of the new process before the note of its start.
    told.first = told.seq + 1;
    let first = told.first;
    told.read(74);
    told.note(75, "start", &format!("started; {}{first}", super::super::told::ENTRIES_BEGIN));
    let minutes = told.minutes(100);
    assert_eq!(strip_of(&minutes, "this box"), [on(0, 31), on(75, 100)]);
    let reads = |seconds| cell(&minutes, seconds).reads;
    assert_eq!((reads(20), reads(30), reads(40)), (Some(0), Some(1), None));
    assert_eq!((reads(70), reads(80)), (Some(1), Some(0)), "a read that came is known all the same");
}

#[test]
fn a_mat_without_a_link_and_a_box_without_internet_are_told_apart_from_nothing_to_read_or_send() {
    let mut told = Told::new();
    told.start(0);
    told.read(1);
    told.note(20, "problem", "decoder_unreachable (mat): no answer from 192.168.1.50: is it on?");
    told.note(20, "problem", "offline: no internet");
    told.note(30, "problem", "decoder_unreachable (backup): no answer");
    told.note(50, "problem_over", "decoder_unreachable (backup)");
    told.note(60, "problem_over", "offline");
    told.note(60, "problem", "low_battery (mat): 12 %");
    let minutes = told.minutes(80);
    let cells = |seconds| (cell(&minutes, seconds).reads, cell(&minutes, seconds).uploads);
    assert_eq!(cells(10), (Some(0), Some(0)));
    assert_eq!(cells(20), (Some(0), None), "one mat read");
    assert_eq!(cells(30), (None, None), "no mat was connected");
    assert_eq!(cells(60), (Some(0), Some(0)));
    assert_eq!(strip_of(&minutes, "mat"), [on(0, 20), off(20, 80, "no link")]);
    assert_eq!(strip_of(&minutes, "internet"), [on(0, 20), off(20, 60, "no internet"), on(60, 80)]);
    let names: Vec<_> = minutes.strips.iter().map(|strip| &*strip.name).collect();
    assert_eq!(names, ["mat", "backup", "this box", "internet"]);
}

#[test]
fn a_step_of_the_clock_is_a_mark_and_leaves_the_cells_in_their_order() {
    for step in [3_600, -3_600] {
        let mut told = Told::new();
        told.start(0);
        let first = told.read(15);
        let sure = told.read(20);
        // Two reads come with the new time before the line that tells the step.
        let late = [told.read(step + 21), told.read(step + 22)];
        told.step(21, step + 21, sure);
        told.batch(step + 25, &[first, late[0]]);
        told.accepted(step + 25, 2);
        let minutes = told.minutes(step + 60);
        let reads = |seconds| cell(&minutes, step + seconds).reads;
        assert_eq!((reads(10), reads(20), reads(30)), (Some(1), Some(3), Some(0)), "{step}");
        let all: u32 = minutes.cells.iter().filter_map(|cell| cell.reads).sum();
        assert_eq!(all, 4, "{step}");
        assert_eq!(cell(&minutes, step + 20).delay_worst_ms, Some(10_000), "{step}");
        assert_eq!(minutes.clock_steps, [at(step + 21)]);
        assert_eq!(strip_of(&minutes, "this box"), [on(step, step + 60)]);
    }
}

#[test]
fn a_box_that_learns_the_time_later_keeps_the_cells_of_the_process_before() {
    let mut told = Told::new();
    told.start(0);
    told.read(15);
    told.note(30, "stop", "stopped on request");
    let years = 20 * 365 * 86_400; // the clock begins in the past at each boot
    told.start(40 - years);
    let sure = told.read(60 - years);
    told.step(61 - years, 61, sure);
    let minutes = told.minutes(90);
    let reads = |seconds| cell(&minutes, seconds).reads;
    assert_eq!((reads(10), reads(40), reads(60)), (Some(1), Some(0), Some(1)));
    assert_eq!(strip_of(&minutes, "this box"), [on(0, 30), off(30, 40, "restart"), on(40, 90)]);
}

#[test]
fn what_is_not_read_back_yet_is_not_known() {
    let mut told = Told::new();
    told.start(0);
    told.read(35);
    let minutes = told.fold.plots(at(100)).minutes;
    assert_eq!(strip_of(&minutes, "this box"), [on(0, 35)]);
    assert_eq!((cell(&minutes, 20).reads, cell(&minutes, 40).reads), (Some(0), None));
}

#[test]
fn a_whole_day_takes_bounded_memory_and_long_waits_are_not_told_too_short() {
    let mut told = Told::new();
    told.start(0);
    let first = told.read(1);
    for seconds in 1..40_000 {
        told.read(seconds);
    }
    told.batch(40_000, &[first + 39_000]);
    told.accepted(40_000, 1);
    let delay = cell(&told.minutes(40_011), 40_000).delay_worst_ms.unwrap();
    assert!((1_000_000..1_002_100).contains(&delay), "{delay}: it waited for 1000 s");
    assert!(told.fold.recent.len() <= RECENT && told.fold.moments.len() <= MOMENTS);
}
