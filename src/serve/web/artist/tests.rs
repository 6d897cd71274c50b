//! The page in each of its states, with the data of a race: what each part says, and that a text from outside stays a text.
//! `PASSBRIDGE_PAGES=DIRECTORY cargo test --lib artist` writes each state as a file that a browser can open.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::config::TagCode;
use crate::model::clock::Zones;
use crate::serve::web::page;
use crate::status::plot::{PlotCell, PlotSpan, PlotStrip};
use crate::status::{
    ClockBy, DecoderStatus, HoldStatus, JournalStatus, LastRead, LinkState, Problem, ProblemCode, ReadCounts,
    SessionStatus, UploadState, UploadStatus, lamps,
};

/// A page without a journal, bibs and plots.
pub(in crate::serve::web) fn no_sources() -> Sources {
    Sources {
        journal: watch::channel(None).1,
        reading: Reading { zones: Zones::default(), tag: TagCode::Raw, shown_in: None, spreadsheet: false },
        bibs: Bibs::none(),
        zeros: ChipZeros::default(),
        plots: Arc::new(|| None),
    }
}

const NOW: &str = "2026-11-29T09:42:07Z";
/// The box has been on since 05:51.
const UPTIME: u64 = 17_467;

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

fn times() -> PageTimes {
    let started_ms = now().as_millisecond() - UPTIME as i64 * 1000;
    let zone = ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap());
    PageTimes { zone, now: now(), uptime_ms: UPTIME * 1000, started_ms }
}

fn decoder(name: &str, reads: u64, address: &str, last: u64) -> DecoderStatus {
    let read = LastRead { chip: "LX1".to_owned(), time: "10:42:06.350".to_owned(), received: ago(last as i64) };
    DecoderStatus {
        name: name.to_owned(),
        protocol: "ipico".to_owned(),
        address: format!("tcp://{address}"),
        state: LinkState::Connected,
        reads,
        last_read: (reads > 0).then_some(read),
        clock_offset_ms: Some(if last == 1 { 10 } else { -20 }),
        clock_by: Some(ClockBy::Answer),
        was_connected: true,
        times_right: true,
        live_at: (reads > 0).then_some(Duration::from_secs(UPTIME - last)),
        ..DecoderStatus::default()
    }
}

/// The drawing takes the lamps that the board has for a status.
fn lit(status: Snapshot) -> Snapshot {
    Snapshot { lamps: lamps(&status).into(), ..status }
}

/// A race that goes well.
pub(in crate::serve::web) fn reading() -> Snapshot {
    let mut status = Board::new("finish").snapshot();
    let mats = [("finish-main", 1204, "192.168.1.50:10000", 1), ("finish-backup", 1107, "192.168.1.51:10000", 3)];
    status.decoders = mats.map(|(name, reads, address, last)| decoder(name, reads, address, last)).into();
    status.journal = JournalStatus {
        head: 2400,
        durable: 2400,
        pending: 5,
        reads: Some(ReadCounts { kept: 2311, in_cloud: 2306, waiting: 5, ..ReadCounts::default() }),
        oldest_pending_s: Some(1),
        free_bytes: 27_400_000_000,
        serving: true,
        ..JournalStatus::default()
    };
    let session = SessionStatus {
        alias: Some("10K Sant Joan".to_owned()),
        token: Box::default(),
        token_tail: "A115B1".to_owned(),
        numbered: Some(2311),
    };
    status.uploads = vec![UploadStatus {
        device_id: "65A1".repeat(16),
        session: Some(session),
        state: UploadState::Sending,
        sent: 2306,
        last_ok: Some(ago(1)),
        ..UploadStatus::default()
    }];
    (status.ready, status.uptime_s, status.state_s) = (true, UPTIME, 2635);
    status.state = BoxState::Reading;
    status.sentence = "finish-main and finish-backup read. The times are right. The cloud is up to date.".to_owned();
    (status.todo, status.by_itself) = (Vec::new(), None);
    status
}

fn problem(code: ProblemCode, about: &str, message: &str, since: i64) -> Problem {
    Problem {
        code: code.word().to_owned(),
        about: about.to_owned(),
        message: message.to_owned(),
        since: ago(since),
        raised: Duration::from_secs(UPTIME - since as u64),
        renewed: Duration::from_secs(UPTIME - since as u64),
    }
}

fn says(status: &mut Snapshot, state: BoxState, sentence: &str, todo: &[&str], by_itself: &str, since: u64) {
    (status.state, status.sentence, status.state_s) = (state, sentence.to_owned(), since);
    status.todo = todo.iter().map(|todo| (*todo).to_owned()).collect();
    status.by_itself = Some(by_itself.to_owned()).filter(|text| !text.is_empty());
}

fn ready() -> Snapshot {
    let mut status = reading();
    for decoder in &mut status.decoders {
        (decoder.reads, decoder.last_read, decoder.live_at) = (0, None, None);
    }
    (status.journal.reads, status.journal.oldest_pending_s) = (Some(ReadCounts::default()), None);
    status.journal.pending = 0;
    status.uploads[0].state = UploadState::Idle;
    let sentence =
        "finish-main and finish-backup are connected; no chip has passed since the start. The cloud is up to date.";
    says(&mut status, BoxState::Ready, sentence, &["Pass a test chip over each mat."], "", 120);
    status
}

fn not_reading() -> Snapshot {
    let mut status = reading();
    status.decoders[1].state = LinkState::Failed;
    status.decoders[1].last_read.as_mut().unwrap().received = ago(136);
    status.decoders[1].live_at = Some(Duration::from_secs(UPTIME - 136));
    (status.decoders[1].clock_offset_ms, status.decoders[1].times_right) = (None, false);
    let text = "finish-backup (192.168.1.51:10000) does not answer: connection timed out";
    status.problems.push(problem(ProblemCode::DecoderUnreachable, "finish-backup", text, 136));
    let todo = [
        "Is the power of the decoder on?",
        "Is its cable in?",
        "Is its address right? `passbridge probe` looks for it.",
    ];
    let rest = "The box connects by itself, and fetches what the decoder stored if it can.";
    says(&mut status, BoxState::NotReading, "finish-backup is not connected. finish-main reads.", &todo, rest, 136);
    status
}

fn time_wrong() -> Snapshot {
    let mut status = reading();
    (status.decoders[0].clock_offset_ms, status.decoders[0].times_right) = (Some(-3_600_000), false);
    let text = "its clock is exactly 60 minutes behind this box";
    status.problems.push(problem(ProblemCode::DecoderClockOff, "finish-main", text, 640));
    let todo = [
        "Does the display of the decoder show the right time? Yes: correct `timezone`.",
        "No: set the clock of the decoder.",
    ];
    let sentence = "finish-main is exactly 60 minutes behind. Every time it sends is wrong.";
    says(&mut status, BoxState::TimeWrong, sentence, &todo, "", 640);
    status
}

fn cannot_keep() -> Snapshot {
    let mut status = reading();
    status.journal.reads = Some(ReadCounts { kept: 2225, in_cloud: 2225, ..ReadCounts::default() });
    (status.ready, status.decoders[0].buffered, status.journal.pending) = (false, 86, 0);
    status.problems.push(problem(ProblemCode::DiskFull, "", "the disk is full: free some room", 69));
    let todo = ["Do not switch the box off.", "Free some room on the disk, but do not touch the files of passbridge."];
    let sentence = "The card is full. 86 reads are only in memory and not safe.";
    says(
        &mut status,
        BoxState::CannotKeep,
        sentence,
        &todo,
        "The box writes the reads as soon as the card takes them.",
        69,
    );
    status
}

fn not_uploading() -> Snapshot {
    let mut status = reading();
    status.journal.reads = Some(ReadCounts { kept: 2311, in_cloud: 1899, waiting: 412, ..ReadCounts::default() });
    (status.journal.pending, status.journal.oldest_pending_s) = (412, Some(365));
    (status.uploads[0].state, status.uploads[0].last_ok) = (UploadState::Offline, Some(ago(365)));
    status.uploads[0].last_error = Some("no route to the cloud".to_owned());
    status.problems.push(problem(ProblemCode::Offline, "", "no route to api.runonrufus.com", 365));
    status.problems.push(problem(ProblemCode::LowBattery, "finish-main", "its battery is at 18 %", 1320));
    let sentence = "No internet. finish-main and finish-backup read, and every read is safe on this box.";
    let todo = ["Is the modem on?", "Is there a log-in page of the network?"];
    says(
        &mut status,
        BoxState::NotUploading,
        sentence,
        &todo,
        "The box sends the rest by itself, in about 1 min.",
        365,
    );
    status
}

fn hold() -> Snapshot {
    let mut status = reading();
    status.journal.reads = Some(ReadCounts { kept: 12, held: 12, ..ReadCounts::default() });
    status.hold = Some(HoldStatus { since: ago(553), reads: 12, by: "control socket".to_owned() });
    (status.journal.pending, status.journal.oldest_pending_s) = (0, None);
    let sentence = "12 reads are kept and not sent. Nothing goes to the cloud until you release it.";
    says(&mut status, BoxState::Hold, sentence, &["Release the hold before the gun."], "", 553);
    status
}

fn reads(fate: impl Fn(usize) -> NewestFate) -> Vec<NewestRead> {
    let hits = [14, 9, 22, 3, 17, 11, 6, 19];
    let read = |at: usize| NewestRead {
        seq: 2400 - at as u64,
        decoder: if at % 3 == 1 { "finish-backup" } else { "finish-main" }.to_owned(),
        chip: format!("LX1{:04}", 2884 - at * 37),
        time: Timestamp::from_millisecond(now().as_millisecond() - 650 - at as i64 * 437).unwrap(),
        received: ago(1),
        hits: Some(hits[at % 8]),
        rssi: Some(-51 - (at as i32 * 7) % 20),
        fate: fate(at),
    };
    (0..ROWS).map(read).collect()
}

fn usual(at: usize) -> NewestFate {
    if at < 2 { NewestFate::Waiting } else { NewestFate::Sent(2308 - at as u64) }
}

/// Plots with a restart, an outage and a clock step.
fn series(cells: usize, step_s: u32) -> PlotSeries {
    let mut random = fastrand::Rng::with_seed(7);
    let gap = cells / 3..cells / 3 + 2;
    let cell = |at: usize| {
        if gap.contains(&at) {
            return PlotCell::default();
        }
        let offline = at > cells / 2 && at < cells / 2 + 9;
        let reads = random.u32(0..=2) * step_s;
        PlotCell {
            reads: Some(reads),
            uploads: Some(if offline { 0 } else { reads }),
            waiting: Some(if offline { (at - cells / 2) as u64 * 14 } else { 3 }),
            delay_median_ms: (!offline).then_some(800 + random.u32(0..500)),
            delay_worst_ms: (!offline).then_some(1500 + random.u32(0..900)),
        }
    };
    let cells: Vec<PlotCell> = (0..cells).map(cell).collect();
    let length = i64::from(step_s) * cells.len() as i64;
    let span = |from: i64, to: i64, on, why: Option<&str>| PlotSpan {
        from: ago(length - length * from / 60),
        to: ago(length - length * to / 60),
        on,
        why: why.map(str::to_owned),
    };
    let strip = |name: &str, spans| PlotStrip { name: name.to_owned(), spans };
    PlotSeries {
        until: now(),
        step_s,
        cells,
        strips: vec![
            strip("finish-main", vec![span(0, 20, true, None), span(22, 60, true, None)]),
            strip(
                "finish-backup",
                vec![span(0, 20, true, None), span(22, 50, true, None), span(50, 60, false, Some("no link"))],
            ),
            strip(
                "this box",
                vec![span(0, 20, true, None), span(20, 22, false, Some("restart")), span(22, 60, true, None)],
            ),
            strip(
                "internet",
                vec![span(0, 30, true, None), span(30, 39, false, Some("no internet")), span(39, 60, true, None)],
            ),
        ],
        clock_steps: vec![ago(length / 4)],
    }
}

fn with_plots() -> Sources {
    Sources { plots: Arc::new(|| Some((series(60, 10), series(72, 300)))), ..no_sources() }
}

fn drawn(status: &Snapshot, reads: Vec<NewestRead>) -> Arc<PageFrame> {
    Artist::new(Board::new("finish"), with_plots(), "1").draw_of(&lit(status.clone()), &times(), reads)
}

fn states() -> Vec<(&'static str, Snapshot, Vec<NewestRead>)> {
    vec![
        ("reading", reading(), reads(usual)),
        ("ready", ready(), Vec::new()),
        ("not-reading", not_reading(), reads(usual)),
        ("time-wrong", time_wrong(), reads(usual)),
        ("cannot-keep", cannot_keep(), reads(|at| NewestFate::Sent(2306 - at as u64))),
        ("not-uploading", not_uploading(), reads(|_| NewestFate::Waiting)),
        ("hold", hold(), reads(|_| NewestFate::Waiting)),
    ]
}

/// The words of an element, without its tags and without what only a screen reader says.
fn words(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out += &rest[..at];
        let end = rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        rest = match rest[at..end].contains("class=\"hidden\"") {
            true => rest[end..].find("</span>").map_or("", |close| &rest[end + close + 7..]),
            false => &rest[end..],
        };
        if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.trim().to_owned()
}

#[test]
fn each_link_says_what_it_does_in_each_state() {
    let links = |status: &Snapshot| -> Vec<String> {
        let frame = drawn(status, Vec::new());
        ["mat-0", "mat-1", "kept", "session-0", "cloud"].map(|id| words(frame.html(id))).into()
    };
    assert_eq!(
        links(&reading()),
        [
            "finish-main 1204 reading",
            "finish-backup 1107 reading",
            "Kept on this box 2311 safe on the card",
            "Session 10K Sant Joan 2311 open",
            "In the cloud 2306 5 are on their way",
        ]
    );
    assert_eq!(links(&not_reading())[1], "finish-backup 1107 no answer from 192.168.1.51:10000");
    assert_eq!(links(&time_wrong())[0], "finish-main 1204 reading, exactly 60 minutes behind");
    let full = links(&cannot_keep());
    assert_eq!(
        (full[2].as_str(), full[4].as_str()),
        ("Kept on this box 2225 86 not kept yet", "In the cloud 2225 nothing new goes up")
    );
    let away = links(&not_uploading());
    assert_eq!(away[3..], ["Session 10K Sant Joan 2311 open when last asked", "In the cloud 1899 412 are waiting"]);
    let held = links(&hold());
    assert_eq!(held[3..], ["Session 10K Sant Joan 2311 open, held back here", "In the cloud 0 12 are held"]);
    let still = links(&ready());
    assert_eq!(still[0], "finish-main 0 connected, no chip yet");
    assert_eq!(
        (still[2].as_str(), still[4].as_str()),
        ("Kept on this box 0 27.4 GB free, the log works", "In the cloud 0 nothing to send")
    );
}

#[test]
fn the_sum_always_adds_up_and_zeros_are_left_out() {
    let sum = |status: &Snapshot| words(drawn(status, Vec::new()).html("sum"));
    assert_eq!(sum(&reading()), "2311 kept = 2306 in the cloud + 5 waiting.");
    assert_eq!(sum(&hold()), "12 kept = 12 held.");
    assert_eq!(sum(&cannot_keep()), "2225 kept = 2225 in the cloud. 86 more are only in memory.");
    let mut status = reading();
    let counts = ReadCounts {
        in_cloud: 10_000,
        waiting: 1,
        set_aside: 2,
        held_back: 3,
        duplicates: 4,
        dead_time: 5,
        held: 7,
        dropped_by_choice: 8,
        expired: 6,
        ..ReadCounts::default()
    };
    status.journal.reads = Some(ReadCounts { kept: counts.sum(), ..counts });
    let text = sum(&status);
    let numbers: Vec<u64> = text
        .replace('\u{202f}', "")
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert_eq!(numbers[0], numbers[1..].iter().sum::<u64>(), "{text}");
    assert!(
        text.starts_with("10\u{202f}036 kept = 10\u{202f}000 in the cloud + 1 waiting + 7 held + 2 set aside"),
        "{text}"
    );
    status.journal.reads = None;
    assert_eq!(sum(&status), "The reads are counted as soon as the upload queue is open.");
}

#[test]
fn a_row_tells_what_became_of_the_read_and_never_more_than_is_known() {
    let fates = [
        (NewestFate::Sent(2306), "yes no. 2306"),
        (NewestFate::Waiting, "waiting"),
        (NewestFate::SetAside, "set aside"),
        (NewestFate::HeldBack, "held back another race?"),
        (NewestFate::NoPassing, "not sent a repeat"),
        (NewestFate::Held, "held"),
        (NewestFate::Dropped, "not sent dropped by choice"),
    ];
    let frame = drawn(&reading(), reads(|at| fates[at % 7].0));
    for (at, (_, said)) in fates.iter().enumerate() {
        let row = words(&frame.rows[at].html);
        assert!(row.ends_with(said), "{row}");
    }
    assert!(words(&frame.rows[0].html).starts_with("10:42:06.350 finish-main LX12884"), "{}", frame.rows[0].html);
    let held = drawn(&hold(), reads(|_| NewestFate::Waiting));
    assert!(words(&held.rows[0].html).ends_with("held"), "{}", held.rows[0].html);
}

#[test]
fn a_text_from_outside_stays_a_text() {
    let evil = "<script>alert(1)</script>\"'&\u{1b}[2J";
    let mut status = not_reading();
    for decoder in &mut status.decoders {
        decoder.name = evil.to_owned();
        decoder.address = format!("tcp://{evil}");
    }
    status.uploads[0].session.as_mut().unwrap().alias = Some(evil.to_owned());
    (status.sentence, status.todo, status.by_itself) = (evil.to_owned(), vec![evil.to_owned()], Some(evil.to_owned()));
    for problem in &mut status.problems {
        (problem.about, problem.message) = (evil.to_owned(), evil.to_owned());
    }
    let bibs = Bibs::read(format!("chip,bib\nLX12884,{}\n", evil.replace(['"', '\u{1b}'], "")).as_bytes()).unwrap();
    let plots = move || {
        let mut series = series(60, 10);
        series.strips[0].name = evil.to_owned();
        series.strips[1].spans[2].why = Some(evil.to_owned());
        Some((series.clone(), series))
    };
    let sources = Sources { bibs: watch::channel(Arc::new(bibs)).1, plots: Arc::new(plots), ..no_sources() };
    let mut reads = reads(usual);
    reads[1].chip = evil.to_owned();
    reads[1].decoder = evil.to_owned();
    let frame = Artist::new(Board::new("finish"), sources, "1").draw_of(&status, &times(), reads);
    let html = page::first_view(evil, status.state, &times().zone, &frame, None);
    for text in [html.as_str(), &frame.step] {
        assert!(!text.contains("<script>alert") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("alert(1)"), "it is shown");
    }
    assert_eq!(html.matches("<script").count(), 1, "the one of the page");
    assert!(!html.contains(" style=") && !html.contains(" onclick"), "the policy allows neither");
}

#[test]
fn an_age_is_the_same_text_until_something_happens() {
    let mut artist = Artist::new(Board::new("finish"), no_sources(), "1");
    artist.draw_of(&reading(), &times(), reads(usual));
    let mut later = times();
    (later.uptime_ms, later.now) = (later.uptime_ms + 3000, ago(-3));
    let status = Snapshot { uptime_s: UPTIME + 3, state_s: 2638, ..reading() };
    artist.whole_at = None;
    let frame = artist.draw_of(&status, &later, reads(usual));
    assert!(!frame.step.contains("parts") && !frame.step.contains("rows"), "{}", frame.step);
    let html = page::first_view("finish", status.state, &later.zone, &frame, None);
    assert!(html.contains(">4 s ago</span>") && html.contains(">10:42:10</span>"), "{html}");
}

#[test]
fn what_was_not_measured_is_a_hole_and_says_whose() {
    let frame = drawn(&reading(), reads(usual));
    let html = frame.html("plots-10m");
    assert_eq!(html.matches("<figure>").count(), 4);
    assert!(html.contains("There is one gap in which nothing was measured."), "{html}");
    assert!(html.contains("restart 10:35:27"), "{html}");
    assert!(html.matches("class=\"hatch\"").count() >= 3, "{html}");
    assert!(html.contains("class=\"step\""), "the clock was set");
    assert!(html.matches('<').count() < 4 * 60, "no drawing has more than 60 elements");
    let nothing = PlotSeries { cells: vec![PlotCell::default(); 60], strips: Vec::new(), ..series(60, 10) };
    let drawings = plots::drawings(&nothing, &times());
    assert!(
        drawings[0].paths.iter().all(|(class, path)| *class != "bar" || path.is_empty()),
        "no bar, not even of zero"
    );
    let said: Vec<&str> = drawings.iter().map(|drawing| drawing.now.as_str()).collect();
    assert_eq!(said, ["now not known and not known a second", "not known", "not known", "nothing arrived"]);
}

#[test]
fn the_first_view_is_small_and_tells_the_state_before_the_script_runs() {
    for (name, status, reads) in states() {
        let frame = drawn(&status, reads);
        let html = page::first_view("finish", status.state, &times().zone, &frame, None);
        assert!(html.len() <= 12_288, "{name}: {} bytes", html.len());
        assert!(html.contains(&format!("data-state=\"{name}\"")), "{name}");
        for id in ["state", "lamps", "chain", "sum", "clocks", "rows", "foot", "live"] {
            assert_eq!(html.matches(&format!(" id=\"{id}\"")).count(), 1, "{name}: {id}");
        }
        if let Some(directory) = std::env::var_os("PASSBRIDGE_PAGES") {
            write_page(&PathBuf::from(directory), name, &html, &frame);
        }
    }
}

/// Writes the page with all that the first event brings, for a look with a browser.
fn write_page(directory: &std::path::Path, name: &str, html: &str, frame: &PageFrame) {
    let rows: String = frame.rows.iter().map(|row| row.html.to_string()).collect();
    let begin = html.find("<tbody id=\"rows\">").unwrap() + 17;
    let end = html.find("</tbody>").unwrap();
    let html = format!("{}{rows}{}", &html[..begin], &html[end..]);
    let html = html.replace("<div id=\"plots-10m\"></div>", frame.html("plots-10m"));
    let (from, to) = (
        format!("/assets/{}/", crate::serve::web::assets::version()),
        format!("{}/src/serve/web/assets/", env!("CARGO_MANIFEST_DIR")),
    );
    let html = html.replace(&from, &to);
    std::fs::write(directory.join(format!("{name}.html")), html).unwrap();
}
