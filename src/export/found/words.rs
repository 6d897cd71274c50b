//! A read that was found, in words: the same on the page and in a terminal.
//!
//! Must hold: text from outside (chips, bibs, decoders' stamps, answers of the cloud) cannot control the
//! terminal. Nothing is said of a read that the log does not say.

use super::{FoundRead, ReadStanding, SearchAnswer};
use crate::export::{UploadMark, WhySuppressed};
use crate::model::shown::ShownIn;
use crate::model::text::printable;

/// Longest answer of the cloud that is shown, in characters.
const ANSWER_SHOWN: usize = 200;

/// What was looked for, what it was taken for, and whether anything was found.
pub(crate) fn header(what: &str, answer: &SearchAnswer) -> String {
    let what = printable(what);
    let chips: Vec<String> = answer.chips_of_bib.iter().map(|chip| printable(chip)).collect();
    let chips = chips.join(", ");
    match (answer.reads.is_empty(), answer.is_chip, chips.is_empty()) {
        (true, _, true) => format!("No read of a chip {what} is on this box, and the bib file has no bib {what}.\n"),
        (true, _, false) => format!("Bib {what} has the chip {chips}, and no read of it is on this box.\n"),
        (false, true, true) => format!("Chip {what}, the newest read first:\n"),
        (false, false, _) => format!("Bib {what}, chip {chips}, the newest read first:\n"),
        (false, true, false) => {
            format!("{what} is a chip, and it is the bib of chip {chips}. Both, the newest read first:\n")
        }
    }
}

/// A read in one line.
pub(crate) fn line(read: &FoundRead, shown: &ShownIn) -> String {
    let time = read.time.map_or_else(|| "time not known".to_owned(), |time| shown.milli(time));
    let bib = read.bib.as_deref().map_or_else(|| "no bib".to_owned(), |bib| format!("bib {}", printable(bib)));
    let antenna = read.antenna.as_ref().map(|antenna| format!("  antenna {}", printable(&antenna.to_string())));
    let standing = read.standing.as_ref().map(|standing| format!("  {}", standing_of(read, standing, shown)));
    format!(
        "{time}  {}{}  {bib}  chip {}{}",
        printable(&read.decoder),
        antenna.unwrap_or_default(),
        printable(&read.chip_code),
        standing.unwrap_or_default()
    )
}

/// The rest of what is known of it.
pub(crate) fn details(read: &FoundRead, shown: &ShownIn) -> String {
    let mut parts = vec![
        format!("entry {}", read.seq),
        format!("decoder's own time {}", printable(&read.decoder_time)),
        format!("received {}", shown.milli(read.received)),
    ];
    parts.extend(read.corrected_ms.map(|ms| format!("corrected by {ms} ms")));
    parts.extend(read.hits.map(|hits| format!("hits {hits}")));
    parts.extend(read.rssi.map(|rssi| format!("RSSI {rssi}")));
    if read.chip != read.chip_code {
        parts.push(format!("sent by the decoder as {}", printable(&read.chip)));
    }
    parts.join(", ")
}

/// What became of a read. It says "in the cloud" only if the cloud has said so.
pub(crate) fn standing_of(read: &FoundRead, standing: &ReadStanding, shown: &ShownIn) -> String {
    let number = match (standing.num_passing, &standing.token_tail) {
        (Some(number), Some(tail)) => format!("number {number} in session …{}", printable(tail)),
        _ => String::new(),
    };
    let mut text = match (standing.state, standing.num_passing) {
        (UploadMark::Pending, None) => "not sent yet".to_owned(),
        (UploadMark::Pending, Some(_)) => format!("on its way as {number}, and the cloud has not confirmed it"),
        (UploadMark::Sent, _) => format!("in the cloud as {number}"),
        (UploadMark::SetAside, _) => format!("set aside, {number}{}", refusal(standing)),
        (UploadMark::Suppressed, _) => match standing.why {
            Some(WhySuppressed::DeadTime) => "not sent: within the dead time of another read of this chip".to_owned(),
            Some(WhySuppressed::Duplicate) => "not sent: it repeats a read that was kept before".to_owned(),
            Some(WhySuppressed::DroppedSetAside) => {
                "not sent: the cloud refused it or failed at it, and somebody dropped it".to_owned()
            }
            Some(WhySuppressed::Dropped) => {
                "not sent: it was read while the box was on hold, and dropped by choice".to_owned()
            }
            None => "not sent: it is no passing of its own".to_owned(),
        },
        (UploadMark::Held, _) => "kept, and not sent: the box is on hold".to_owned(),
        (UploadMark::HeldBack, _) => "held back: it may be of another race (passbridge resend --held-back)".to_owned(),
    };
    if let Some(bib) = standing.bib.as_deref().filter(|bib| *bib != read.bib.as_deref().unwrap_or(&read.chip_code)) {
        text += &format!(", with bib {}", printable(bib));
    }
    if let Some(time) = standing.sent_time {
        text += &format!(", with the time {} from before its correction", shown.milli(time));
    }
    if let Some(before) = &standing.replaces {
        text += &format!(
            ". Number {} in session …{} was sent before, with another time",
            before.num_passing,
            printable(&before.token_tail)
        );
    }
    text
}

fn refusal(standing: &ReadStanding) -> String {
    let Some(refusal) = &standing.refusal else { return String::new() };
    let answer: String = printable(&refusal.answer).chars().take(ANSWER_SHOWN).collect();
    let again = if refusal.again { ". It is tried again by itself" } else { "" };
    format!(": the cloud answered {} \"{answer}\"{again}", refusal.status)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::export::Refusal;

    fn read(standing: Option<ReadStanding>) -> FoundRead {
        FoundRead {
            seq: 12,
            decoder: "mat".into(),
            chip: "30303030304D433030393738".into(),
            chip_code: "MC00978".into(),
            bib: Some("7".into()),
            time: Some("2026-07-05T08:42:07.350Z".parse().unwrap()),
            corrected_ms: None,
            decoder_time: "2026-07-05T10:42:07.350".into(),
            received: "2026-07-05T08:42:07.512Z".parse().unwrap(),
            antenna: Some(crate::model::chip::Label::Number(2)),
            rssi: Some(-40),
            hits: Some(3),
            standing,
        }
    }

    fn standing(state: UploadMark, num_passing: Option<u64>) -> ReadStanding {
        let token_tail = num_passing.map(|_| "abc123".into());
        let (why, device, bib, sent_time, refusal, replaces) = (None, None, None, None, None, None);
        ReadStanding { state, why, device, token_tail, num_passing, bib, sent_time, refusal, replaces }
    }

    #[test]
    fn a_read_is_told_with_its_time_place_bib_and_what_became_of_it() {
        let madrid = ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap());
        let told = |standing| line(&read(Some(standing)), &madrid);
        let begin = "2026-07-05 10:42:07.350 CEST  mat  antenna 2  bib 7  chip MC00978";
        assert_eq!(line(&read(None), &madrid), begin);
        assert_eq!(told(standing(UploadMark::Pending, None)), format!("{begin}  not sent yet"));
        let sent = standing(UploadMark::Sent, Some(5));
        assert_eq!(told(sent.clone()), format!("{begin}  in the cloud as number 5 in session …abc123"));
        let other = ReadStanding { bib: Some("8".into()), ..sent };
        assert_eq!(told(other), format!("{begin}  in the cloud as number 5 in session …abc123, with bib 8"));
        let refusal = Some(Refusal { status: 400, answer: "bad \u{1b}[31m time".into(), again: false });
        let refused = ReadStanding { refusal, ..standing(UploadMark::SetAside, Some(5)) };
        let told = told(refused);
        assert!(
            told.ends_with("set aside, number 5 in session …abc123: the cloud answered 400 \"bad \u{fffd}[31m time\"")
        );
        assert_eq!(
            details(&read(None), &madrid),
            "entry 12, decoder's own time 2026-07-05T10:42:07.350, received 2026-07-05 10:42:07.512 CEST, hits 3, \
             RSSI -40, sent by the decoder as 30303030304D433030393738"
        );
    }

    #[test]
    fn the_head_says_what_was_taken_for_what_and_that_nothing_was_found() {
        let answer = |is_chip, chips: &[&str], found: usize| SearchAnswer {
            is_chip,
            chips_of_bib: chips.iter().map(|chip| (*chip).into()).collect(),
            reads: vec![read(None); found],
            ..SearchAnswer::default()
        };
        for (answer, told) in [
            (answer(true, &[], 0), "No read of a chip 7 is on this box, and the bib file has no bib 7.\n"),
            (answer(false, &["A", "B"], 0), "Bib 7 has the chip A, B, and no read of it is on this box.\n"),
            (answer(true, &[], 1), "Chip 7, the newest read first:\n"),
            (answer(false, &["A"], 1), "Bib 7, chip A, the newest read first:\n"),
            (answer(true, &["A"], 1), "7 is a chip, and it is the bib of chip A. Both, the newest read first:\n"),
        ] {
            assert_eq!(header("7", &answer), told);
        }
    }
}
