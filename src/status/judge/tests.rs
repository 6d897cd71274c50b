//! The table of states: when each state begins and ends, and what its sentence says.

use super::*;
use crate::status::{Board, HoldStatus, ReadCounts, SessionStatus};

const NOW: Duration = Duration::from_secs(1000);

/// A box with two mats that read, and a cloud that has every read.
fn good() -> Snapshot {
    let board = Board::new("finish");
    for name in ["finish-main", "finish-backup"] {
        board.decoder(name, |decoder| {
            (decoder.state, decoder.was_connected) = (LinkState::Connected, true);
            decoder.clock_by = Some(ClockBy::Answer);
            decoder.times_right = true;
            decoder.live_at = Some(NOW - Duration::from_secs(1));
        });
    }
    board.upload("DEVICE", |upload| {
        upload.session =
            Some(SessionStatus { alias: None, token_tail: "abcdef".to_owned(), token: "".into(), numbered: None });
    });
    let mut status = board.snapshot();
    status.ready = true;
    status.journal.reads = Some(ReadCounts { kept: 3, in_cloud: 3, ..ReadCounts::default() });
    status
}

/// The same box with a problem that has been shown for a minute.
fn with(code: ProblemCode, about: &str) -> Snapshot {
    let mut status = good();
    add(&mut status, code, about, 60);
    status
}

fn add(status: &mut Snapshot, code: ProblemCode, about: &str, seconds: u64) {
    let raised = NOW - Duration::from_secs(seconds);
    status.problems.push(Problem {
        code: code.word().to_owned(),
        about: about.to_owned(),
        message: "what happened".to_owned(),
        since: jiff::Timestamp::UNIX_EPOCH,
        raised,
        renewed: NOW,
    });
}

/// The verdict on this moment, after a moment in which all was well.
fn judge(status: &Snapshot, now: Duration) -> StateVerdict {
    super::judge(status, now, BoxState::Reading)
}

fn says(status: &Snapshot) -> (BoxState, String) {
    let verdict = judge(status, NOW);
    (verdict.state, verdict.sentence)
}

#[test]
fn every_problem_causes_the_state_of_its_column_and_has_a_sentence_and_something_to_do() {
    for code in ProblemCode::ALL.iter().copied() {
        let verdict = judge(&with(code, "finish-main"), NOW);
        let expected = code.cause().state().unwrap_or(BoxState::Reading);
        assert_eq!(verdict.state, expected, "{code}");
        let sentence = &verdict.sentence;
        assert!(sentence.ends_with('.') && !sentence.contains("..") && !sentence.contains("  "), "{code}: {sentence}");
        let urgent = code.severity() == Severity::Critical;
        assert_eq!(verdict.todo.is_empty(), expected == BoxState::Reading && !urgent, "{code}");
        assert!(verdict.todo.len() <= TODO, "{code}");
    }
}

#[test]
fn the_sentences_name_the_actor_and_what_goes_on() {
    let said = |code, about: &str| says(&with(code, about)).1;
    for (code, about, sentence) in [
        (ProblemCode::DecoderUnreachable, "finish-backup", "finish-backup is not connected. finish-main reads."),
        (ProblemCode::NotTiming, "finish-main", "finish-main is not in timing mode. finish-backup reads."),
        (
            ProblemCode::WrongProtocol,
            "finish-main",
            "finish-main sends what its protocol does not know. finish-backup reads.",
        ),
        (ProblemCode::ZoneMissing, "finish-main", "finish-main has no timezone in the configuration."),
        (ProblemCode::BoxClockUnset, "finish-main", "Nobody has set this box's clock."),
        (
            ProblemCode::NoSession,
            "DEVICE",
            "No session is open. finish-main and finish-backup read, and every read is safe on this box.",
        ),
        (
            ProblemCode::CloudSilent,
            "DEVICE",
            "The cloud does not answer. finish-main and finish-backup read, and every read is safe on this box.",
        ),
        (ProblemCode::LowBattery, "finish-main", GOOD),
    ] {
        assert_eq!(said(code, about), sentence, "{code}");
    }
}

const GOOD: &str = "finish-main and finish-backup read. The times are right. The cloud is up to date.";

#[test]
fn all_mats_that_are_out_are_told_in_one_sentence() {
    let mut status = good();
    for name in ["finish-main", "finish-backup"] {
        add(&mut status, ProblemCode::DecoderUnreachable, name, 60);
    }
    let expected = "No mat reads. finish-main and finish-backup are not connected.";
    assert_eq!(says(&status), (BoxState::NotReading, expected.to_owned()));
    status.decoders.clear();
    status.problems.clear();
    assert_eq!(says(&status), (BoxState::NotReading, "No decoder is set up.".to_owned()));
}

#[test]
fn of_software_that_has_to_connect_other_things_are_asked_than_of_a_cable() {
    let mut status = with(ProblemCode::DecoderUnreachable, "finish-main");
    assert_eq!(judge(&status, NOW).todo[0], "Is the power of the decoder on?");
    status.decoders[0].address = "tcp-listen://0.0.0.0:3097".to_owned();
    assert_eq!(judge(&status, NOW).todo[0], "Is the software of the decoder running?");
}

#[test]
fn the_worst_state_is_shown_whatever_the_order_of_the_problems() {
    let codes = [
        (ProblemCode::LowBattery, BoxState::Reading),
        (ProblemCode::Offline, BoxState::NotUploading),
        (ProblemCode::DecoderClockUnset, BoxState::TimeWrong),
        (ProblemCode::DecoderSilent, BoxState::NotReading),
        (ProblemCode::DiskFull, BoxState::CannotKeep),
    ];
    for worst in 0..codes.len() {
        let mut status = good();
        for (code, _) in codes[..=worst].iter().rev() {
            add(&mut status, *code, "finish-main", 60);
        }
        assert_eq!(says(&status).0, codes[worst].1);
    }
}

#[test]
fn a_state_is_entered_after_its_time() {
    for (code, seconds, state) in [
        (ProblemCode::DecoderUnreachable, 2, BoxState::Reading),
        (ProblemCode::DecoderUnreachable, 3, BoxState::NotReading),
        (ProblemCode::Offline, 14, BoxState::Reading),
        (ProblemCode::Offline, 15, BoxState::NotUploading),
        (ProblemCode::CloudSilent, 14, BoxState::Reading),
        (ProblemCode::CloudSilent, 15, BoxState::NotUploading),
        (ProblemCode::UploadMisconfigured, 0, BoxState::NotUploading),
        (ProblemCode::KeyMissing, 0, BoxState::NotUploading),
        (ProblemCode::DiskFull, 0, BoxState::CannotKeep),
        (ProblemCode::DecoderClockOff, 0, BoxState::TimeWrong),
        (ProblemCode::BoxClockStepped, 299, BoxState::TimeWrong),
        (ProblemCode::BoxClockStepped, 300, BoxState::Reading),
    ] {
        let mut status = good();
        add(&mut status, code, "finish-main", seconds);
        assert_eq!(says(&status).0, state, "{code} for {seconds} s");
    }
    let mut status = good();
    add(&mut status, ProblemCode::Offline, "DEVICE", 1);
    (status.journal.pending, status.journal.oldest_pending_s) = (4, Some(60));
    assert_eq!(says(&status).0, BoxState::NotUploading, "something waits for a minute");
}

#[test]
fn a_state_that_gets_better_waits_and_one_that_gets_worse_does_not() {
    let mut judge = Judge::default();
    let at = |seconds: f64| NOW + Duration::from_secs_f64(seconds);
    let bad = with(ProblemCode::DecoderSilent, "finish-main");
    let worse = with(ProblemCode::DiskFull, "");
    assert_eq!(judge.look(&good(), at(0.0)).state, BoxState::Reading);
    assert_eq!(judge.look(&bad, at(1.0)).state, BoxState::NotReading);
    assert_eq!(judge.look(&good(), at(2.0)).state, BoxState::NotReading);
    assert_eq!(judge.look(&good(), at(5.9)).state, BoxState::NotReading);
    assert_eq!(judge.look(&good(), at(6.0)).state, BoxState::Reading);
    assert_eq!(judge.look(&bad, at(7.0)).state, BoxState::NotReading);
    assert_eq!(judge.look(&good(), at(11.0)).state, BoxState::NotReading);
    assert_eq!(judge.look(&bad, at(11.5)).state, BoxState::NotReading, "a loose contact");
    assert_eq!(judge.look(&good(), at(15.0)).state, BoxState::NotReading);
    assert_eq!(judge.look(&worse, at(15.1)).state, BoxState::CannotKeep);
    assert_eq!(judge.lasts(at(16.1)), Duration::from_secs(1));
}

#[test]
fn a_failure_of_the_upload_that_follows_another_is_no_reason_to_say_that_all_is_well() {
    let mut judge = Judge::default();
    judge.look(&with(ProblemCode::Offline, "DEVICE"), NOW);
    for seconds in 1..20 {
        let at = NOW + Duration::from_secs(seconds);
        let mut status = good();
        add(&mut status, ProblemCode::CloudSilent, "DEVICE", 0);
        status.problems[0].raised = NOW + Duration::from_secs(1);
        assert_eq!(judge.look(&status, at).state, BoxState::NotUploading, "{seconds}");
    }
}

#[test]
fn without_a_read_for_two_minutes_the_box_is_ready() {
    let mut status = good();
    let quiet = |status: &mut Snapshot, at| status.decoders.iter_mut().for_each(|decoder| decoder.live_at = at);
    quiet(&mut status, Some(NOW - Duration::from_secs(119)));
    assert_eq!(says(&status), (BoxState::Reading, GOOD.to_owned()));
    quiet(&mut status, Some(NOW - Duration::from_secs(120)));
    let both = "finish-main and finish-backup are connected;";
    let expected = format!("{both} no chip for 2 min. The cloud is up to date.");
    assert_eq!(says(&status), (BoxState::Ready, expected));
    quiet(&mut status, None);
    let expected = format!("{both} no chip has passed since the start. The cloud is up to date.");
    assert_eq!(says(&status), (BoxState::Ready, expected));
}

#[test]
fn nothing_is_said_to_be_right_that_was_not_compared() {
    let mut status = good();
    status.decoders[1].times_right = false;
    let both = "finish-main and finish-backup read.";
    assert_eq!(says(&status).1, format!("{both} The cloud is up to date."));
    status.uploads[0].session = None;
    assert_eq!(says(&status).1, format!("{both} The cloud has not told its session yet."));
    status.uploads = Vec::<UploadStatus>::new();
    assert_eq!(says(&status).1, format!("{both} The reads stay on this box."));
    let mut status = good();
    (status.journal.pending, status.journal.oldest_pending_s) = (4, Some(75));
    assert!(says(&status).1.ends_with("The cloud is 1 min behind."));
}

#[test]
fn only_mats_that_gave_a_live_read_lately_are_said_to_read() {
    let never = "finish-backup is connected; no chip has passed it since the start.";
    let unread = "finish-backup is connected; nothing that was sent is understood as a read.";
    let ago = |seconds| Some(NOW - Duration::from_secs(seconds));
    for (live_at, rejected, said) in [
        (None, 0, never),
        (None, 5, unread),
        (ago(120), 0, "finish-backup is connected; no chip for 2 min."),
        (ago(300), 5, "finish-backup is connected; no chip for 5 min."),
    ] {
        let mut status = good();
        (status.decoders[1].live_at, status.decoders[1].rejected) = (live_at, rejected);
        let rest = "The times are right. The cloud is up to date.";
        assert_eq!(says(&status), (BoxState::Reading, format!("finish-main reads. {said} {rest}")));
        // The same holds beside a mat that is out, and beside a cloud that is.
        add(&mut status, ProblemCode::DecoderUnreachable, "finish-main", 60);
        let expected = format!("finish-main is not connected. {said}");
        assert_eq!(says(&status), (BoxState::NotReading, expected));
        status.problems.clear();
        add(&mut status, ProblemCode::NoSession, "DEVICE", 60);
        let expected = "No session is open. finish-main reads, and every read is safe on this box.";
        assert_eq!(says(&status), (BoxState::NotUploading, expected.to_owned()));
    }
    let mut status = good();
    status.decoders.iter_mut().for_each(|decoder| (decoder.live_at, decoder.rejected) = (None, 2));
    let expected = "finish-main and finish-backup are connected; nothing that was sent is understood as a read. The cloud \
                    is up to date.";
    assert_eq!(says(&status), (BoxState::Ready, expected.to_owned()));
}

#[test]
fn a_device_is_named_only_where_there_are_several_and_the_problem_is_about_one() {
    let mut status = good();
    status.uploads.push(UploadStatus { device_id: "OTHER".to_owned(), ..UploadStatus::default() });
    for (code, about, said) in [
        (ProblemCode::NoSession, "DEVICE", "No session is open. This is about device DEVICE."),
        (ProblemCode::KeyMissing, "", "There is no API key."),
        (ProblemCode::UploadMisconfigured, "1", "The configuration of the upload has a mistake."),
    ] {
        status.problems.clear();
        add(&mut status, code, about, 60);
        let expected = format!("{said} finish-main and finish-backup read, and every read is safe on this box.");
        assert_eq!(says(&status).1, expected);
    }
}

#[test]
fn times_are_not_said_to_be_right_while_an_offset_is_known() {
    for (by, offset_ms, said) in [
        (ClockBy::Reads, -5_000, "'s reads are stamped 5.0 s behind: they arrive late, or its clock is wrong."),
        (ClockBy::Reads, 1_400, "'s reads are stamped 1.4 s ahead of this box."),
        (ClockBy::Answer, -1_200, "'s clock is 1.2 s behind."),
    ] {
        let mut status = with(ProblemCode::DecoderClockNear, "finish-main");
        let main = &mut status.decoders[0];
        (main.clock_by, main.clock_offset_ms, main.times_right) = (Some(by), Some(offset_ms), false);
        let expected = format!("finish-main and finish-backup read. finish-main{said} The cloud is up to date.");
        assert_eq!(says(&status), (BoxState::Reading, expected));
    }
}

#[test]
fn reads_that_are_not_safe_are_counted_in_the_sentence() {
    let mut status = with(ProblemCode::DiskFull, "");
    status.ready = false;
    status.decoders[0].buffered = 12_480;
    status.decoders[1].dropped = 1;
    let expected = "The card is full. 12\u{202f}480 reads are only in memory and not safe. 1 read is lost.";
    assert_eq!(says(&status), (BoxState::CannotKeep, expected.to_owned()));
    // Reads that were lost earlier are a row, now that everything is kept.
    let mut status = good();
    add(&mut status, ProblemCode::ReadsDropped, "finish-main", 600);
    status.problems[0].renewed = NOW - Duration::from_secs(11);
    assert_eq!(says(&status).0, BoxState::Reading);
}

#[test]
fn a_box_that_has_just_started_says_so() {
    let mut status = good();
    status.decoders[0].state = LinkState::Connecting;
    let verdict = judge(&status, Duration::from_secs(9));
    assert_eq!(verdict.sentence, "finish-main is being connected. finish-backup reads.");
    assert_eq!(verdict.todo, ["You need not do anything: wait ten seconds."]);
}

#[test]
fn the_end_of_the_start_is_shown_at_once() {
    let mut judge = Judge::default();
    let seconds = Duration::from_secs;
    let mut status = good();
    let decoders = std::mem::take(&mut status.decoders);
    assert_eq!(judge.look(&status, seconds(0)).sentence, "No decoder is set up.");
    status.decoders = decoders;
    status.decoders.iter_mut().for_each(|decoder| decoder.state = LinkState::Connecting);
    let both = "No mat reads. finish-main and finish-backup are being connected.";
    assert_eq!(judge.look(&status, seconds(1)).sentence, both);
    assert_eq!(judge.look(&good(), seconds(2)).state, BoxState::Reading);
    // A fault waits for its time also in the first seconds.
    let bad = with(ProblemCode::DecoderSilent, "finish-main");
    assert_eq!(judge.look(&bad, seconds(3)).state, BoxState::NotReading);
    assert_eq!(judge.look(&good(), seconds(4)).state, BoxState::NotReading);
}

#[test]
fn a_decoder_that_was_never_connected_is_out_also_without_a_problem() {
    for (state, was_connected, expected) in [
        (LinkState::Connecting, false, BoxState::NotReading),
        (LinkState::Failed, false, BoxState::NotReading),
        (LinkState::Connecting, true, BoxState::Reading),
        (LinkState::Connected, true, BoxState::Reading),
    ] {
        let mut status = good();
        let main = &mut status.decoders[0];
        (main.state, main.was_connected) = (state, was_connected);
        main.address = "tcp-listen://0.0.0.0:3097".to_owned();
        main.live_at = main.live_at.filter(|_| was_connected);
        let verdict = judge(&status, NOW);
        assert_eq!(verdict.state, expected, "{state:?}");
        if expected == BoxState::NotReading {
            assert_eq!(verdict.sentence, "finish-main is not connected. finish-backup reads.");
            assert_eq!(verdict.todo[0], "Is the software of the decoder running?");
        }
    }
}

#[test]
fn a_clock_is_told_in_words_and_a_zone_is_named() {
    let mut status = with(ProblemCode::DecoderClockOff, "finish-main");
    status.decoders[0].clock_offset_ms = Some(-3_600_400);
    let expected = "finish-main is exactly 60 minutes behind. Every time it sends is wrong.";
    assert_eq!(says(&status), (BoxState::TimeWrong, expected.to_owned()));
    for (offset_ms, words) in [
        (3_600_000, "exactly 60 minutes ahead"),
        (-3_612_000, "exactly 60 minutes behind"),
        (1_800_000, "exactly 30 minutes ahead"),
        (-20_700_000, "exactly 5 h 45 min behind"),
        (7_199_000, "exactly 2 hours ahead"),
        (-900_000, "exactly 15 minutes behind"),
        (-890_000, "14 min behind"),
        (12_000, "12 s ahead"),
        (-2_340, "2.3 s behind"),
        (-250, "0.25 s behind"),
        (0, "right"),
        (3_540_000, "59 min ahead"),
    ] {
        assert_eq!(offset_in_words(offset_ms), words, "{offset_ms}");
    }
}

#[test]
fn counts_and_ages_are_as_the_page_has_them() {
    assert_eq!([9999, 12_480, 1_000_000].map(count), ["9999", "12\u{202f}480", "1\u{202f}000\u{202f}000"]);
    assert_eq!([59, 60, 3600, 3900, 183_600].map(age), ["59 s", "1 min", "1 h 00 min", "1 h 05 min", "2 d 3 h"]);
}

#[test]
fn exit_codes_grow_with_what_is_wrong_and_are_none_of_sysexits() {
    let codes: Vec<u8> = BoxState::ALL.iter().map(|state| state.exit_code()).collect();
    assert!(codes.is_sorted_by(|a, b| a >= b) && codes.iter().all(|code| *code < 64), "{codes:?}");
}

#[test]
fn a_hold_is_the_state_above_a_failing_upload_and_below_a_wrong_time() {
    let mut status = with(ProblemCode::NoSession, "A");
    status.hold = Some(HoldStatus { since: jiff::Timestamp::UNIX_EPOCH, reads: 12_480, by: "timer".to_owned() });
    let verdict = judge(&status, NOW);
    assert_eq!(
        (verdict.state, &*verdict.sentence),
        (BoxState::Hold, "12\u{202f}480 reads are kept and not sent. Nothing goes to the cloud until you release it.")
    );
    assert_eq!(verdict.todo, ["Release the hold before the gun."]);
    let mut wrong = with(ProblemCode::BoxClockWrong, "");
    wrong.hold = status.hold;
    assert_eq!(judge(&wrong, NOW).state, BoxState::TimeWrong);
}
