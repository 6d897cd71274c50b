//! What the cards say in each state of a mat and of the box.

use super::*;
use crate::model::shown::ShownIn;
use crate::status::{Board, HoldStatus, SessionStatus};
use jiff::tz::TimeZone;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn times() -> PageTimes {
    PageTimes {
        zone: ShownIn::zone(TimeZone::UTC),
        now: at(100),
        uptime_ms: 100_000,
        started_ms: at(0).as_millisecond(),
    }
}

fn board(state: LinkState) -> Board {
    let board = Board::new("finish");
    for name in ["main", "back"] {
        board.decoder(name, |decoder| decoder.state = state);
    }
    board.upload("DEVICE", |upload| {
        let alias = Some("10K".to_owned());
        upload.session =
            Some(SessionStatus { alias, token: Box::default(), token_tail: "abcdef".to_owned(), numbered: None });
    });
    board
}

fn view(status: &Snapshot, mats: &[MatCheck]) -> GunView {
    GunView::of(status, &ChecksStatus { since: Some(at(0)), mats: mats.to_vec(), sessions: Vec::new() }, &times())
}

fn signs(mat: &MatView) -> String {
    mat.steps.iter().map(|step| step.mark.sign()).collect()
}

fn ticked(name: &str, ticks: usize) -> MatCheck {
    let tick = |place: usize| (ticks > place).then(|| at(place as i64));
    MatCheck {
        name: name.to_owned(),
        chip: (ticks > 0).then(|| "LX1".to_owned()),
        read: tick(0),
        time_right: tick(1),
        kept: tick(2),
        in_cloud: tick(3),
        lost: None,
    }
}

#[test]
fn a_card_goes_green_word_by_word_and_the_last_line_counts_the_whole_ones() {
    let status = board(LinkState::Connected).snapshot();
    for (ticks, expected) in ["○○○○", "✓○○○", "✓✓○○", "✓✓✓○", "✓✓✓✓"].into_iter().enumerate()
    {
        let view = view(&status, &[ticked("main", ticks)]);
        assert_eq!((signs(&view.mats[0]).as_str(), signs(&view.mats[1]).as_str()), (expected, "○○○○"));
        assert_eq!(view.mats[0].whole, ticks == 4);
        assert_eq!(view.verdict, if ticks == 4 { "1 of 2 mats is checked." } else { "0 of 2 mats are checked." });
    }
    let view = view(&status, &[ticked("main", 4)]);
    assert_eq!(view.mats[0].steps[0].says, "08:00:00, chip LX1");
    assert_eq!(view.open, ["10K"]);
}

#[test]
fn a_mat_that_is_not_connected_says_so_and_one_that_is_lost_later_keeps_its_ticks_and_counts_no_more() {
    let status = board(LinkState::Failed).snapshot();
    let lost = MatCheck { lost: Some(at(58)), ..ticked("main", 4) };
    let view = view(&status, &[lost]);
    assert_eq!(view.mats[0].lost.as_deref(), Some("lost at 08:00:58"));
    assert_eq!(signs(&view.mats[0]), "✓✓✓✓");
    assert_eq!(view.mats[1].steps[0].mark, Mark::No);
    assert_eq!(view.verdict, "0 of 2 mats are checked.");
}

#[test]
fn a_wrong_clock_is_told_even_after_the_tick_and_only_at_its_mat() {
    let board = board(LinkState::Connected);
    board.raise(ProblemCode::DecoderClockOff, "main", "an hour");
    let view = view(&board.snapshot(), &[ticked("main", 4), ticked("back", 4)]);
    assert_eq!((view.mats[0].steps[1].mark, view.mats[1].steps[1].mark), (Mark::No, Mark::Yes));
    assert_eq!(view.mats[0].steps[1].says, ProblemCode::DecoderClockOff.hint());
}

#[test]
fn under_hold_the_last_word_waits_as_somebody_wished_and_no_hold_is_offered() {
    let mut status = board(LinkState::Connected).snapshot();
    status.hold = Some(HoldStatus { since: at(0), reads: 1, by: "somebody".to_owned() });
    let view = view(&status, &[ticked("main", 3)]);
    assert_eq!(view.mats[0].steps[3], step("In the cloud", Mark::Wait, "held, as you wish"));
    assert!(view.open.is_empty());
    assert_eq!(view.sessions, "10K");
}

#[test]
fn without_a_cloud_and_without_a_decoder_it_says_so() {
    let board = Board::new("finish");
    assert_eq!(view(&board.snapshot(), &[]).verdict, "No decoder is set up.");
    board.decoder("main", |decoder| decoder.state = LinkState::Connected);
    let view = view(&board.snapshot(), &[ticked("main", 3)]);
    assert!(view.mats[0].steps[3].says.starts_with("no cloud is set up"));
    assert_eq!(view.sessions, "none is open");
}
