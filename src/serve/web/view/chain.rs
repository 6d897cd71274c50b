//! The way of a read, as one line: mats, this box, session, cloud. The line is broken where the way
//! is broken.

use jiff::Timestamp;

use super::PageTimes;
use super::facts::{UP_TO_DATE_S, has};
use super::state::held;
use crate::model::text::printable;
use crate::status::glance::bytes;
use crate::status::words::{count, offset_in_words, short};
use crate::status::{
    BoxState, Cause, DecoderStatus, JournalStatus, LinkState, Mark, ProblemCode, Snapshot, UploadState, UploadStatus,
};

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct LinkView {
    /// The id of its element.
    pub id: String,
    /// How it stands.
    pub mark: Mark,
    /// How the line to the next link looks: `yes` is drawn through, the others are dots.
    pub cut: &'static str,
    /// Its name.
    pub name: String,
    /// Its count, if it has one.
    pub count: String,
    /// What it does.
    pub words: String,
    /// The second at which it last did something, since the start of the process.
    pub at: Option<i64>,
}

/// The whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct ChainView {
    /// The mats.
    pub mats: Vec<LinkView>,
    /// How the line from the mats to the box looks.
    pub mats_cut: &'static str,
    /// This box, the sessions and the cloud.
    pub links: Vec<LinkView>,
    /// The sum, which always adds up.
    pub sum: String,
}

/// A mat that gave a live read within this time is reading, in seconds. The judge has the same limit.
const QUIET_S: u64 = 120;
/// After the start the decoders may need this long to connect, in seconds.
const STARTING_S: u64 = 10;

impl ChainView {
    pub(in crate::serve::web) fn of(status: &Snapshot, times: &PageTimes) -> Self {
        let mats = status.decoders.iter().enumerate().map(|(at, decoder)| mat(status, at, decoder, times)).collect();
        let unsafe_now = status.state == BoxState::CannotKeep;
        let mut links = vec![box_link(status, times)];
        links.extend(status.uploads.iter().enumerate().map(|(at, upload)| session(status, at, upload)));
        links.push(cloud(status, times));
        let mats_cut = if unsafe_now { "no" } else { "yes" };
        Self { mats, mats_cut, links, sum: sum(status) }
    }
}

fn mat(status: &Snapshot, at: usize, decoder: &DecoderStatus, times: &PageTimes) -> LinkView {
    let (mark, words) = mat_in_words(status, decoder, times);
    let received = decoder.last_read.as_ref().map(|last| times.second_of(last.received));
    LinkView {
        id: format!("mat-{at}"),
        mark,
        cut: match mark {
            Mark::No if decoder.state != LinkState::Connected => "no",
            Mark::Wait if decoder.state != LinkState::Connected => "wait",
            _ => "yes",
        },
        name: printable(&decoder.name),
        count: count(decoder.reads),
        words,
        at: decoder.live_at.map(|at| at.as_secs() as i64).max(received),
    }
}

fn mat_in_words(status: &Snapshot, decoder: &DecoderStatus, times: &PageTimes) -> (Mark, String) {
    let told = |code| has(status, code, &decoder.name);
    let listens = decoder.address.starts_with("tcp-listen://");
    let port = decoder.address.rsplit_once(':').map_or("", |(_, port)| port);
    let lost = told(ProblemCode::DecoderUnreachable) || status.uptime_s >= STARTING_S && !decoder.was_connected;
    match decoder.state {
        LinkState::Connecting | LinkState::Failed if told(ProblemCode::DecoderMisconfigured) => {
            (Mark::No, "not read: its configuration has a mistake".to_owned())
        }
        LinkState::Failed if listens => (Mark::No, format!("cannot listen on port {port}")),
        LinkState::Failed => (Mark::No, format!("no answer from {}", place(&decoder.address))),
        LinkState::Connecting => {
            let words = match listens {
                true => format!("waiting for its software on port {port}"),
                false => "connecting".to_owned(),
            };
            (if lost { Mark::No } else { Mark::Wait }, words)
        }
        LinkState::Idle => (Mark::No, "connected, and has said nothing for too long".to_owned()),
        LinkState::Connected => connected_in_words(status, decoder, times),
    }
}

fn connected_in_words(status: &Snapshot, decoder: &DecoderStatus, times: &PageTimes) -> (Mark, String) {
    let told = |code| has(status, code, &decoder.name);
    if told(ProblemCode::NotTiming) {
        return (Mark::No, "not in timing mode".to_owned());
    }
    if told(ProblemCode::WrongProtocol) || told(ProblemCode::DecoderNoRecords) {
        return (Mark::No, format!("sends what {} does not know", printable(&decoder.protocol)));
    }
    if told(ProblemCode::WrongBaud) {
        return (Mark::No, "sends garbage: is the rate right?".to_owned());
    }
    let mine = status.problems.iter().filter(|problem| problem.about == decoder.name);
    let mut causes = mine.filter_map(|problem| Some(ProblemCode::of_word(&problem.code)?.cause()));
    if let Some(says) = causes.find_map(|cause| match cause {
        Cause::NotReading(says) => Some(says),
        _ => None,
    }) {
        return (Mark::No, says.strip_prefix("is ").unwrap_or(says).trim_end_matches('.').to_owned());
    }
    let quiet = decoder.live_at.map(|at| (times.uptime_ms / 1000).saturating_sub(at.as_secs()));
    let reads = quiet.is_some_and(|quiet| quiet < QUIET_S);
    let does = if reads { "reading" } else { "connected" };
    if told(ProblemCode::DecoderClockOff) {
        let off = decoder.clock_offset_ms.map_or("with a wrong time".to_owned(), offset_in_words);
        return (Mark::Warn, format!("{does}, {off}"));
    }
    match (reads, decoder.live_at) {
        (true, _) => (Mark::Yes, does.to_owned()),
        (false, Some(_)) => (Mark::Wait, "connected, no chip for a while".to_owned()),
        (false, None) => (Mark::Wait, "connected, no chip yet".to_owned()),
    }
}

/// The place of a decoder without the scheme and the options.
fn place(address: &str) -> String {
    let place = address.split_once("://").map_or(address, |(_, place)| place);
    printable(place.split_once('?').map_or(place, |(place, _)| place))
}

fn box_link(status: &Snapshot, times: &PageTimes) -> LinkView {
    let journal = &status.journal;
    let buffered: u64 = status.decoders.iter().map(|decoder| decoder.buffered).sum();
    let (mark, words) = match status.state {
        BoxState::CannotKeep if buffered > 0 => (Mark::No, format!("{} not kept yet", count(buffered))),
        BoxState::CannotKeep => (Mark::No, "nothing new can be kept".to_owned()),
        _ if !status.ready => (Mark::Wait, "the log is being opened".to_owned()),
        _ if journal.reads.is_none() => (Mark::Yes, "safe on the card, being counted".to_owned()),
        _ if journal.reads.is_some_and(|reads| reads.kept > 0) => (Mark::Yes, "safe on the card".to_owned()),
        _ => (Mark::Yes, format!("{} free, the log works", bytes(journal.free_bytes))),
    };
    let newest = status.decoders.iter().filter_map(|decoder| decoder.last_read.as_ref()).map(|last| last.received);
    LinkView {
        id: "kept".to_owned(),
        mark,
        cut: match status.hold {
            Some(_) => "held",
            None if mark == Mark::No => "yes",
            None => match status.uploads.iter().map(|upload| upload.state).max_by_key(|state| rank(*state)) {
                Some(UploadState::Offline | UploadState::CloudTrouble | UploadState::Refused) => "warn",
                None => "wait",
                _ => "yes",
            },
        },
        name: "Kept on this box".to_owned(),
        count: journal.reads.map_or(String::new(), |reads| count(reads.kept)),
        words,
        at: newest.max().map(|instant| times.second_of(instant)),
    }
}

/// The worse, the higher.
fn rank(state: UploadState) -> u8 {
    match state {
        UploadState::Idle => 0,
        UploadState::Sending => 1,
        UploadState::NoSession => 2,
        UploadState::CloudTrouble => 3,
        UploadState::Offline => 4,
        UploadState::Refused => 5,
    }
}

fn session(status: &Snapshot, at: usize, upload: &UploadStatus) -> LinkView {
    let alias = upload.session.as_ref().map(|session| match &session.alias {
        Some(alias) => printable(alias),
        None => format!("…{}", printable(&session.token_tail)),
    });
    let held = status.hold.is_some();
    let (mark, words) = match (upload.state, &alias) {
        (UploadState::Refused, _) => (Mark::No, "refused"),
        (UploadState::NoSession, _) => (Mark::Warn, "none is open"),
        (_, None) => (Mark::Wait, "not known yet"),
        (_, Some(_)) if held => (Mark::Held, "open, held back here"),
        (UploadState::Offline | UploadState::CloudTrouble, Some(_)) => (Mark::Wait, "open when last asked"),
        (UploadState::Idle | UploadState::Sending, Some(_)) => (Mark::Yes, "open"),
    };
    let numbered = upload.session.as_ref().and_then(|session| session.numbered);
    let mut name = format!("Session {}", alias.unwrap_or_default());
    if status.uploads.len() > 1 {
        name += &format!(" of {}", printable(&short(&upload.device_id)));
    }
    LinkView {
        id: format!("session-{at}"),
        mark,
        cut: match mark {
            Mark::Held => "held",
            Mark::Yes => "yes",
            Mark::No => "no",
            Mark::Warn | Mark::Wait => "warn",
        },
        name: name.trim_end().to_owned(),
        count: numbered.map_or(String::new(), count),
        words: words.to_owned(),
        at: None,
    }
}

fn cloud(status: &Snapshot, times: &PageTimes) -> LinkView {
    let journal = &status.journal;
    let last: Option<Timestamp> = status.uploads.iter().filter_map(|upload| upload.last_ok).max();
    let link = |mark, words| LinkView {
        id: "cloud".to_owned(),
        mark,
        cut: "yes",
        name: "In the cloud".to_owned(),
        count: match status.uploads.is_empty() {
            true => String::new(),
            false => journal.reads.map_or(String::new(), |reads| count(reads.in_cloud)),
        },
        words,
        at: last.map(|instant| times.second_of(instant)),
    };
    if status.uploads.is_empty() {
        return match has(status, ProblemCode::UploadMisconfigured, "1") || status.state == BoxState::NotUploading {
            true => link(Mark::Warn, "its configuration has a mistake".to_owned()),
            false => link(Mark::Wait, "not set up: the reads stay on this box".to_owned()),
        };
    }
    let waiting = journal.reads.map_or(journal.pending, |reads| reads.waiting);
    if status.hold.is_some() {
        return link(Mark::Held, format!("{} held", are(held(status))));
    }
    let mut words = waits_in_words(status, waiting);
    if status.state == BoxState::CannotKeep {
        words = "nothing new goes up".to_owned();
    } else if let Some(pace) = to_go(status, waiting) {
        words += &format!(", {pace}");
    }
    link(cloud_mark(status, waiting), words)
}

fn waits_in_words(status: &Snapshot, waiting: u64) -> String {
    let young = status.journal.oldest_pending_s.is_none_or(|oldest| oldest < UP_TO_DATE_S);
    match (waiting, young && all_up(status)) {
        (0, _) => "nothing to send".to_owned(),
        (waiting, true) => format!("{} on {} way", are(waiting), if waiting == 1 { "its" } else { "their" }),
        (waiting, false) => format!("{} waiting", are(waiting)),
    }
}

/// How fast a backlog goes up.
fn to_go(status: &Snapshot, waiting: u64) -> Option<String> {
    let pace = status.uploads.iter().filter_map(|upload| upload.per_minute).sum::<u64>();
    (waiting > 0 && pace > 0).then(|| format!("{} a minute go up", count(pace)))
}

fn all_up(status: &Snapshot) -> bool {
    status.uploads.iter().all(|upload| matches!(upload.state, UploadState::Idle | UploadState::Sending))
}

fn cloud_mark(status: &Snapshot, waiting: u64) -> Mark {
    let young = status.journal.oldest_pending_s.is_none_or(|oldest| oldest < UP_TO_DATE_S);
    let sent = status.journal.reads.is_some_and(|reads| reads.in_cloud > 0);
    match (status.state, all_up(status), waiting) {
        (BoxState::NotUploading | BoxState::CannotKeep, ..) => Mark::Warn,
        (_, false, 0) => Mark::Wait,
        (_, false, _) => Mark::Warn,
        (_, true, 1..) if !young => Mark::Warn,
        (_, true, _) if sent => Mark::Yes,
        (_, true, _) => Mark::Wait,
    }
}

/// `1 is`, `12 are`.
fn are(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "is" } else { "are" })
}

/// The sum of what was kept, by what became of it. Zeros are left out.
fn sum(status: &Snapshot) -> String {
    let JournalStatus { reads, .. } = &status.journal;
    let buffered: u64 = status.decoders.iter().map(|decoder| decoder.buffered).sum();
    let beside = match (status.state, buffered) {
        (BoxState::CannotKeep, 1..) => format!(" {} more {} only in memory.", count(buffered), verb(buffered)),
        _ => String::new(),
    };
    let Some(reads) = reads else {
        return format!("The reads are counted as soon as the upload queue is open.{beside}");
    };
    if reads.kept == 0 {
        return format!("Nothing has been kept yet.{beside}");
    }
    if status.uploads.is_empty() {
        return format!("{} kept on this box.{beside}", count(reads.kept));
    }
    let parts = [
        (reads.in_cloud, "in the cloud"),
        (reads.waiting, "waiting"),
        (reads.held, "held"),
        (reads.set_aside, "set aside"),
        (reads.held_back, "held back (another race?)"),
        (reads.duplicates, if reads.duplicates == 1 { "repeat, not sent" } else { "repeats, not sent" }),
        (reads.dead_time, "within the dead time, not sent"),
        (reads.dropped_by_choice, "dropped by choice"),
        (reads.expired, "held back and removed by age"),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    format!("{} kept = {}.{beside}", count(reads.kept), told.join(" + "))
}

const fn verb(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}
