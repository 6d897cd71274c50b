//! The four lamps of the box: Mats, Time, Kept, Cloud. They answer at one glance: is it reading, are
//! the times right, is it safe, is it up?
//!
//! What must hold:
//! * **One place.** The page and the terminal show what [`lamps`] returned in the daemon. It is part
//!   of the [`Snapshot`], because some of what it needs is not in the JSON.
//! * **Yes only for what is known.** A mat that gave no read lately, a clock that was never compared
//!   and a cloud that was not asked are [`Mark::Wait`].
//! * **Never better than the state.** A problem that causes a state makes its lamp [`Mark::No`] from
//!   the same moment on. Only the five seconds that a better state waits do not apply to a lamp.
//! * Pure: everything comes from the snapshot.

use std::time::Duration;

use super::judge::{QUIET, STARTING, UP_TO_DATE, applies};
use super::lamp::{Lamp, LampName, Mark};
use super::problem::{Cause, ProblemCode};
use super::snapshot::{DecoderStatus, LinkState, Snapshot, UploadState};
use super::state::BoxState;
use super::words::{age, count, offset_in_words};
use crate::model::text::printable;

/// The lamps of a box, in the order Mats, Time, Kept, Cloud. The state of the snapshot must be known
/// already.
pub fn lamps(status: &Snapshot) -> [Lamp; 4] {
    let lamp = |name, (mark, says)| Lamp { name, mark, says };
    [
        lamp(LampName::Mats, mats(status)),
        lamp(LampName::Time, time(status)),
        lamp(LampName::Kept, kept(status)),
        lamp(LampName::Cloud, cloud(status)),
    ]
}

/// The time since the start of the process.
fn now(status: &Snapshot) -> Duration {
    Duration::from_secs(status.uptime_s)
}

/// The problems that count now, with their codes. A code of a newer version is not among them.
fn codes(status: &Snapshot) -> impl Iterator<Item = (&str, ProblemCode)> {
    let known = status.problems.iter().filter_map(|problem| Some((problem, ProblemCode::of_word(&problem.code)?)));
    known
        .filter(|(problem, code)| applies(status, problem, *code, now(status), status.state))
        .map(|(problem, code)| (problem.about.as_str(), code))
}

/// Whether one of these problems is shown, whether it counts already or not.
fn shown(status: &Snapshot, codes: &[ProblemCode]) -> bool {
    status.problems.iter().any(|problem| codes.iter().any(|code| problem.code == code.word()))
}

fn named(about: &str, says: &str) -> String {
    match about {
        "" => says.trim_end_matches('.').to_owned(),
        about if says.ends_with('.') => says.trim_end_matches('.').to_owned() + &format!(" ({})", printable(about)),
        about => format!("{} {says}", printable(about)),
    }
}

fn mats(status: &Snapshot) -> (Mark, String) {
    let starting = now(status) < STARTING;
    for (about, code) in codes(status) {
        if let Cause::NotReading(says) = code.cause() {
            let mark = if code == ProblemCode::Starting { Mark::Wait } else { Mark::No };
            return (mark, named(about, says));
        }
    }
    if status.decoders.is_empty() {
        return (if starting { Mark::Wait } else { Mark::No }, "no decoder is set up".to_owned());
    }
    let first = |of: &dyn Fn(&DecoderStatus) -> bool| {
        status.decoders.iter().find(|decoder| of(decoder)).map(|decoder| printable(&decoder.name))
    };
    let is_out = |decoder: &DecoderStatus| matches!(decoder.state, LinkState::Connecting | LinkState::Failed);
    // A link that was up and is lost for a moment is not worth an alarm; one that was never up is.
    if let Some(name) = first(&|decoder| is_out(decoder) && !decoder.was_connected && !starting) {
        return (Mark::No, format!("{name} is not connected"));
    }
    if let Some(name) = first(&is_out) {
        return (Mark::Wait, format!("{name} is being connected"));
    }
    if let Some(name) = first(&|decoder| decoder.state == LinkState::Idle) {
        return (Mark::Wait, format!("{name} is silent"));
    }
    if let Some(name) = first(&|decoder| decoder.live_at.is_none()) {
        return (Mark::Wait, format!("no chip yet at {name}"));
    }
    let quiet = |decoder: &DecoderStatus| decoder.live_at.map(|at| now(status).saturating_sub(at));
    match status.decoders.iter().filter_map(quiet).min() {
        Some(newest) if newest < QUIET => (Mark::Yes, "reading".to_owned()),
        Some(newest) => (Mark::Wait, format!("no chip for {}", age(newest.as_secs()))),
        None => (Mark::Wait, "no chip yet".to_owned()),
    }
}

fn time(status: &Snapshot) -> (Mark, String) {
    for (about, code) in codes(status) {
        if let Cause::TimeWrong(says) = code.cause() {
            let offset = status.decoders.iter().find(|decoder| decoder.name == about).and_then(|d| d.clock_offset_ms);
            let says = match (code, offset) {
                (ProblemCode::DecoderClockOff, Some(offset)) => {
                    format!("{} is {}", printable(about), offset_in_words(offset))
                }
                _ => named(about, says),
            };
            return (Mark::No, says);
        }
    }
    let near = ProblemCode::DecoderClockNear.word();
    if let Some(problem) = status.problems.iter().find(|problem| problem.code == near) {
        return (Mark::Warn, format!("the clock of {} is off a little", printable(&problem.about)));
    }
    if shown(status, &[ProblemCode::BoxClockStepped]) {
        return (Mark::Warn, "the clock of this box jumped".to_owned());
    }
    // A mat that gave no read yet has no times that could be wrong.
    let unknown = |decoder: &&DecoderStatus| !decoder.times_right && decoder.live_at.is_some();
    match status.decoders.iter().find(unknown) {
        Some(decoder) => (Mark::Wait, format!("the clock of {} is not compared yet", printable(&decoder.name))),
        None if status.decoders.iter().any(|decoder| decoder.times_right) => (Mark::Yes, "right".to_owned()),
        None => (Mark::Wait, "no clock is compared yet".to_owned()),
    }
}

/// Reads were lost once, or may have been. Nothing gets them back, so the lamp goes on to say it.
const LOST: [ProblemCode; 5] = [
    ProblemCode::ReadsDropped,
    ProblemCode::JournalLost,
    ProblemCode::LogLost,
    ProblemCode::LogDamaged,
    ProblemCode::LogUnreadable,
];
/// The disk still takes reads, and nobody should rely on it.
const DOUBTFUL: [ProblemCode; 3] = [ProblemCode::DiskError, ProblemCode::UnsafeNoSync, ProblemCode::LogRemoved];

fn kept(status: &Snapshot) -> (Mark, String) {
    for (_, code) in codes(status) {
        if let Cause::CannotKeep(says) = code.cause() {
            return (Mark::No, named("", says));
        }
    }
    if !status.ready {
        let mark = if now(status) < STARTING { Mark::Wait } else { Mark::No };
        return (mark, "the log is being opened".to_owned());
    }
    let lost: u64 = status.decoders.iter().map(|decoder| decoder.dropped).sum();
    if lost > 0 || shown(status, &LOST) {
        let says = match lost {
            0 => "reads may be missing, see below".to_owned(),
            lost => format!("{} lost earlier", count(lost)),
        };
        return (Mark::Warn, says);
    }
    if shown(status, &DOUBTFUL) {
        return (Mark::Warn, "safe so far, see below".to_owned());
    }
    let says = match status.journal.reads {
        Some(reads) if reads.kept == 1 => "1 read safe on the card".to_owned(),
        Some(reads) => format!("{} reads safe on the card", count(reads.kept)),
        None => "every read is safe on the card".to_owned(),
    };
    (Mark::Yes, says)
}

fn cloud(status: &Snapshot) -> (Mark, String) {
    let refused = codes(status).find_map(|(_, code)| match code.cause() {
        Cause::NotUploading(says) => Some(says),
        _ => None,
    });
    // Also while a worse state than the hold is shown.
    let held = status.hold.is_some() || status.state == BoxState::Hold || shown(status, &[ProblemCode::OnHold]);
    if held {
        return (Mark::Held, "nothing goes up until you release it".to_owned());
    }
    if let Some(says) = refused {
        return (Mark::No, named("", says));
    }
    if status.uploads.is_empty() {
        return (Mark::Wait, "not set up".to_owned());
    }
    if shown(status, &[ProblemCode::AuditDiffers, ProblemCode::OtherWriter]) {
        return (Mark::Warn, "the cloud differs, see below".to_owned());
    }
    let Some(reads) = status.journal.reads.filter(|_| status.journal.serving) else {
        return (Mark::Wait, "the upload queue is being opened".to_owned());
    };
    for (number, what) in [(reads.set_aside, "set aside"), (reads.held_back, "held back")] {
        if number > 0 {
            return (Mark::Warn, format!("{} {what}", count(number)));
        }
    }
    let waiting = status.journal.pending;
    let oldest = status.journal.oldest_pending_s.filter(|_| waiting > 0);
    if let Some(oldest) = oldest.filter(|oldest| *oldest >= UP_TO_DATE) {
        return (Mark::Wait, format!("{} waiting, {} behind", count(waiting), age(oldest)));
    }
    let in_order = |state| matches!(state, UploadState::Idle | UploadState::Sending);
    if let Some(upload) = status.uploads.iter().find(|upload| !in_order(upload.state)) {
        return (Mark::Wait, upload.state.in_words().to_lowercase());
    }
    if status.uploads.iter().any(|upload| upload.session.is_none()) {
        return (Mark::Wait, "the session is not known yet".to_owned());
    }
    if waiting > 0 && status.uploads.iter().any(|upload| upload.waits_for.is_some() || upload.last_error.is_some()) {
        return (Mark::Wait, format!("{} waiting", count(waiting)));
    }
    (Mark::Yes, "up to date".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Board, Problem, ReadCounts, SessionStatus};

    const NOW: u64 = 1000;

    /// A box in order: two mats read, both clocks are right, the cloud has everything.
    fn good() -> Snapshot {
        let board = Board::new("finish");
        for name in ["main", "backup"] {
            board.decoder(name, |decoder| {
                (decoder.state, decoder.was_connected) = (LinkState::Connected, true);
                decoder.times_right = true;
                decoder.live_at = Some(Duration::from_secs(NOW - 1));
            });
        }
        let session =
            SessionStatus { alias: None, token: Box::default(), token_tail: "abcdef".to_owned(), numbered: None };
        board.upload("DEVICE", |upload| upload.session = Some(session));
        let mut status = board.snapshot();
        (status.ready, status.uptime_s, status.state) = (true, NOW, BoxState::Reading);
        status.journal.serving = true;
        status.journal.reads = Some(ReadCounts { kept: 3, in_cloud: 3, ..ReadCounts::default() });
        status
    }

    fn with(code: ProblemCode, about: &str) -> Snapshot {
        let mut status = good();
        let raised = Duration::from_secs(NOW - 60);
        let (code, about, message) = (code.word().to_owned(), about.to_owned(), "what happened".to_owned());
        let renewed = Duration::from_secs(NOW);
        status.problems.push(Problem { code, about, message, since: jiff::Timestamp::UNIX_EPOCH, raised, renewed });
        status
    }

    fn signs(status: &Snapshot) -> String {
        lamps(status).iter().map(|lamp| lamp.mark.sign()).collect()
    }

    fn says(status: &Snapshot, at: usize) -> (Mark, String) {
        let lamp = lamps(status)[at].clone();
        (lamp.mark, lamp.says)
    }

    #[test]
    fn a_box_in_order_has_four_times_yes() {
        assert_eq!(signs(&good()), "✓✓✓✓");
        assert_eq!(lamps(&good()).map(|lamp| lamp.name.shown()), ["Mats", "Time", "Kept", "Cloud"]);
    }

    #[test]
    fn a_problem_that_causes_a_state_makes_its_own_lamp_wrong_and_no_other() {
        for code in ProblemCode::ALL.iter().copied() {
            let status = with(code, "main");
            let wrong: Vec<_> = lamps(&status).into_iter().filter(|lamp| lamp.mark == Mark::No).collect();
            let expected = match code.cause() {
                // The first ten seconds of a start are no fault.
                Cause::NotReading(_) if code == ProblemCode::Starting => vec![],
                // A hold is somebody's wish, and nothing is wrong.
                Cause::Row | Cause::Hold => vec![],
                Cause::NotReading(_) => vec![LampName::Mats],
                Cause::TimeWrong(_) => vec![LampName::Time],
                Cause::CannotKeep(_) => vec![LampName::Kept],
                Cause::NotUploading(_) => vec![LampName::Cloud],
            };
            assert_eq!(wrong.iter().map(|lamp| lamp.name).collect::<Vec<_>>(), expected, "{code}");
            assert!(wrong.iter().all(|lamp| !lamp.says.is_empty() && !lamp.says.ends_with('.')), "{code}: {wrong:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_never_yes() {
        let waits = |status: &Snapshot, at: usize, what: &str| {
            let (mark, says) = says(status, at);
            assert!(mark == Mark::Wait && says.contains(what), "{mark:?} {says}");
        };
        let mut status = good();
        status.decoders[1].live_at = None;
        waits(&status, 0, "no chip yet at backup");
        let mut status = good();
        for decoder in &mut status.decoders {
            decoder.live_at = Some(Duration::from_secs(NOW - 300));
        }
        waits(&status, 0, "no chip for 5 min");
        status.decoders[0].times_right = false;
        waits(&status, 1, "the clock of main is not compared yet");
        let mut status = good();
        status.uploads[0].session = None;
        waits(&status, 3, "session is not known");
        let mut status = good();
        (status.journal.pending, status.journal.oldest_pending_s) = (12, Some(59));
        waits(&status, 3, "12 waiting, 59 s behind");
        status.journal.reads = None;
        waits(&status, 3, "queue is being opened");
        let mut status = good();
        status.uploads.clear();
        waits(&status, 3, "not set up");
        // A box that has just been switched on knows nothing.
        assert_eq!(signs(&Board::new("finish").snapshot()), "○○○○");
    }

    #[test]
    fn a_mat_that_was_never_connected_is_wrong_and_one_that_is_lost_for_a_moment_waits() {
        let mut status = good();
        status.decoders[1].state = LinkState::Connecting;
        assert_eq!(says(&status, 0), (Mark::Wait, "backup is being connected".to_owned()));
        status.decoders[1].was_connected = false;
        assert_eq!(says(&status, 0), (Mark::No, "backup is not connected".to_owned()));
    }

    #[test]
    fn what_a_person_should_look_at_and_what_a_person_has_stopped_have_marks_of_their_own() {
        let mut status = good();
        status.state = BoxState::Hold;
        assert_eq!(signs(&status), "✓✓✓‖");
        assert_eq!(signs(&with(ProblemCode::OnHold, "")), "✓✓✓‖");
        let mut status = good();
        status.decoders[0].dropped = 4;
        assert_eq!(says(&status, 2), (Mark::Warn, "4 lost earlier".to_owned()));
        assert_eq!(signs(&with(ProblemCode::LogLost, "")), "✓✓△✓");
        assert_eq!(signs(&with(ProblemCode::OtherWriter, "DEVICE")), "✓✓✓△");
        assert_eq!(signs(&with(ProblemCode::DecoderClockNear, "main")), "✓△✓✓");
        let mut status = good();
        status.journal.reads = Some(ReadCounts { kept: 3, in_cloud: 2, set_aside: 1, ..ReadCounts::default() });
        assert_eq!(says(&status, 3), (Mark::Warn, "1 set aside".to_owned()));
    }

    #[test]
    fn a_lamp_is_in_the_json_with_its_name_its_mark_and_its_words() {
        let lamp = serde_json::to_value(&lamps(&good())[1]).unwrap();
        assert_eq!(lamp, serde_json::json!({ "name": "time", "mark": "yes", "says": "right" }));
    }

    #[test]
    fn a_name_of_a_decoder_cannot_steer_the_terminal() {
        let mut status = with(ProblemCode::DecoderSilent, "\u{1b}[2J");
        status.decoders[0].name = "\u{1b}[2J".to_owned();
        status.decoders[0].times_right = false;
        for lamp in lamps(&status) {
            assert!(!lamp.says.contains('\u{1b}'), "{lamp:?}");
        }
    }
}
