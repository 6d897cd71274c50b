//! The screen in every state and at both sizes, drawn on a terminal in memory.

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::*;
use crate::status::{Board, LastRead, ReadCounts, SessionStatus};

const AT: &str = "2026-07-05T08:42:07Z";

fn status() -> Snapshot {
    let board = Board::new("finish");
    for (name, state) in [("finish-main", LinkState::Connected), ("finish-backup", LinkState::Failed)] {
        board.decoder(name, |decoder| {
            let read =
                LastRead { chip: "65E2".to_owned(), time: "10:42:06.350".to_owned(), received: AT.parse().unwrap() };
            (decoder.state, decoder.reads, decoder.last_read) = (state, 1204, Some(read));
            decoder.address = "tcp://192.168.1.51:10000".to_owned();
        });
    }
    let session = SessionStatus {
        alias: Some("10K".to_owned()),
        token: Box::default(),
        token_tail: "A115B1".to_owned(),
        numbered: None,
    };
    board.upload("DEVICE", |upload| upload.session = Some(session));
    board.raise(ProblemCode::LowBattery, "finish-main", "the battery has 18 %");
    board.raise(ProblemCode::DecoderUnreachable, "finish-backup", "no answer from tcp://192.168.1.51:10000");
    let mut status = board.snapshot();
    (status.ready, status.state_s, status.journal.serving) = (true, 125, true);
    status.journal.reads = Some(ReadCounts { kept: 2247, in_cloud: 2243, waiting: 4, ..ReadCounts::default() });
    status.sentence = "finish-backup is not connected. finish-main reads.".to_owned();
    status.todo = vec!["Is the power of the decoder on?".to_owned(), "Is its cable in?".to_owned()];
    status.by_itself = Some("The box connects by itself.".to_owned());
    let lamp = |name, mark, says: &str| Lamp { name, mark, says: says.to_owned() };
    status.lamps = vec![
        lamp(LampName::Mats, Mark::No, "finish-backup is not connected"),
        lamp(LampName::Time, Mark::Yes, "right"),
        lamp(LampName::Kept, Mark::Yes, "2247 reads safe on the card"),
        lamp(LampName::Cloud, Mark::Wait, "4 waiting"),
    ];
    status
}

fn read(chip: &str) -> RecentRead {
    RecentRead {
        seq: 1,
        decoder: "finish-main".to_owned(),
        chip: chip.to_owned(),
        decoder_time: "10:42:06.350".to_owned(),
        received: AT.parse().unwrap(),
        antenna: None,
        rssi: Some(-51),
        hits: Some(14),
        live: true,
    }
}

fn news(state: BoxState) -> LiveNews {
    let status = Snapshot { state, ..status() };
    LiveNews { status, reads: (0..200).map(|at| read(&format!("CHIP{at:03}"))).collect(), at: AT.parse().unwrap() }
}

fn view(colour: bool) -> LiveView {
    LiveView::new(ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap()), colour)
}

fn drawn(view: &LiveView, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    buffer.content.chunks(width).map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

fn shown(state: BoxState, size: (u16, u16)) -> String {
    let mut view = view(true);
    view.take(Ok(news(state)));
    rows(&drawn(&view, size)).join("\n")
}

fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} after what came before it in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn the_state_its_sentence_and_what_to_do_come_first_in_every_state_and_size() {
    for state in BoxState::ALL {
        for size in [(80, 24), (40, 12), (200, 60)] {
            let text = shown(state, size);
            in_order(
                &text,
                &[
                    "finish ",
                    "10:42:07 CEST",
                    state.shown(),
                    "for 2 min",
                    "finish-backup is not connected.",
                    "1. Is the power",
                    "✕ Mats",
                    "✓ Time",
                    "✓ Kept",
                    "○ Cloud",
                    "q ends",
                ],
            );
        }
    }
}

#[test]
fn a_screen_of_80_by_24_has_the_lamps_the_problems_the_way_and_the_last_reads() {
    let text = shown(BoxState::NotReading, (80, 24));
    in_order(
        &text,
        &[
            "2. Is its cable in?",
            "The box connects by itself.",
            "✕ Mats   finish-backup is not connected",
            "✓ Kept   2247 reads safe on the card",
            "○ Cloud  4 waiting",
            "✕ finish-backup: no answer",
            "△ finish-main: the battery has 18 %",
            "━━✓ finish-main: connected, 1204 reads",
            "··✕ finish-backup: NO ANSWER",
            "━━✓ on this box: 2247 reads = 2243 in the cloud + 4 waiting",
            "━━✓ session 10K (…A115B1)",
            "Last reads",
            "10:42:06.350  CHIP000  finish-main  14 hits  -51 dBm",
        ],
    );
}

#[test]
fn what_needs_a_person_is_a_reversed_block_also_without_colours_and_good_news_is_quiet() {
    for colour in [true, false] {
        for state in BoxState::ALL {
            let mut view = view(colour);
            view.take(Ok(news(state)));
            let buffer = drawn(&view, (80, 24));
            let cell = &buffer[(1, 1)];
            let reversed = cell.modifier.contains(Modifier::REVERSED);
            assert_eq!(reversed, state < BoxState::Ready, "{state:?} with colour: {colour}");
            let colours = buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
            assert_eq!(colours, colour, "{state:?}");
        }
    }
}

#[test]
fn a_box_that_does_not_answer_is_said_with_the_time_of_the_last_news_and_its_lamps_are_unknown() {
    let mut view = view(true);
    view.take(Err("passbridge does not run here".to_owned()));
    let text = rows(&drawn(&view, (80, 24))).join("\n");
    in_order(&text, &["? NO NEWS", "has not answered yet", "passbridge does not run here", "asked again every second"]);
    view.take(Ok(news(BoxState::Reading)));
    view.take(Err("no answer within 2 s".to_owned()));
    for size in [(80, 24), (40, 12)] {
        let text = rows(&drawn(&view, size)).join("\n");
        in_order(
            &text,
            &["as of 10:42:07 CEST", "? NO NEWS since 10:42:07 CEST", "○ Mats", "○ Time", "○ Kept", "○ Cloud"],
        );
        assert!(!text.contains("READING") && !text.contains("✓ Kept"), "{text}");
    }
    view.take(Ok(news(BoxState::Reading)));
    assert!(!rows(&drawn(&view, (80, 24))).join("\n").contains("NO NEWS"));
}

#[test]
fn a_screen_of_any_size_is_filled_and_nothing_is_out_of_its_place() {
    for width in 1..90 {
        for height in 1..30 {
            let mut view = view(true);
            view.take(Ok(news(BoxState::NotReading)));
            let rows = rows(&drawn(&view, (width, height)));
            assert!(height < 2 || width < 16 || rows[1].contains("NOT READING"), "{width}×{height}: {rows:?}");
            view.take(Err("gone".to_owned()));
            drawn(&view, (width, height));
        }
    }
}

#[test]
fn many_problems_leave_room_for_the_way_of_the_reads() {
    let mut many = news(BoxState::NotReading);
    let one = many.status.problems[0].clone();
    many.status.problems = (0..30).map(|at| Problem { about: format!("mat-{at}"), ..one.clone() }).collect();
    let mut view = view(true);
    view.take(Ok(many));
    let text = rows(&drawn(&view, (80, 24))).join("\n");
    in_order(
        &text,
        &["△ mat-0: the battery", "more problems: see `passbridge status`", "━━✓ finish-main", "━━✓ on this box"],
    );
}

#[test]
fn text_from_outside_cannot_steer_the_terminal() {
    let mut evil = news(BoxState::Reading);
    let code = "\u{1b}[2J\u{202e}".to_owned();
    (evil.status.name, evil.status.sentence, evil.status.version) = (code.clone(), code.clone(), code.clone());
    evil.status.todo = vec![code.clone()];
    evil.status.decoders[0].name.clone_from(&code);
    evil.status.problems[0].message.clone_from(&code);
    evil.status.lamps[0].says.clone_from(&code);
    evil.reads = vec![read(&code)];
    let mut view = view(true);
    view.take(Ok(evil));
    let rows = rows(&drawn(&view, (80, 24)));
    assert!(rows.iter().all(|row| !row.contains(['\u{1b}', '\u{202e}'])), "{rows:?}");
    view.take(Err(code));
    assert!(!drawn(&view, (80, 24)).content.iter().any(|cell| cell.symbol().contains('\u{1b}')));
}

#[test]
fn a_long_sentence_is_broken_between_words_and_what_is_cut_says_so() {
    assert_eq!(wrapped("one two three", 7, 3), ["one two", "three"]);
    assert_eq!(wrapped("one two three four", 7, 2), ["one two", "three …"]);
    assert_eq!((cut("abcdef", 4), cut("abcd", 4), cut("ab", 0)), ("abc…".to_owned(), "abcd".to_owned(), String::new()));
}
