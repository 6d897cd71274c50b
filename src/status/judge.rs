//! Decides the state of the box: one word, one sentence, and what to do.
//!
//! What must hold:
//! * **One place.** The command line, the page, the JSON, the metrics, the exit code and systemd
//!   all show what [`Judge::look`] returns. No other part puts a state into words.
//! * **From the closed list.** Each [`ProblemCode`] has a column with the state that it causes. The
//!   worst state that applies is shown, and all problems are rows under it.
//! * **A worse state is shown at once, a better one only after [`CALM`].** A cable with a loose
//!   contact must not make the sentence change all the time.
//! * **Only what is known.** While a better state waits, the sentence says that it is about a moment
//!   ago. The sentence says "The times are right" only when every clock was
//!   compared and none is off. It says that a mat reads only if that mat gave a read lately.
//! * Pure: a snapshot and the time since the start are passed in. There is no clock and no I/O.

use std::collections::BTreeSet;
use std::time::Duration;

use super::problem::{Cause, ProblemCode};
use super::severity::Severity;
use super::snapshot::{ClockBy, DecoderStatus, LinkState, Problem, Snapshot, UploadState, UploadStatus};
use super::state::BoxState;
use super::words::{age, count, offset_in_words, short};
use crate::model::text::printable;

/// How long everything must be in order before a better state is shown.
const CALM: Duration = Duration::from_secs(5);
/// A link that is lost for less than this does not change the sentence.
const LINK_LOST: Duration = Duration::from_secs(3);
/// The upload may fail for this long before that is the state of the box,
const UPLOAD_LOST: Duration = Duration::from_secs(15);
/// or until a read has already waited for this long.
const WAITED: Duration = Duration::from_secs(60);
/// A read that waits for less than this many seconds is on its way, so the cloud counts as up to
/// date.
pub(super) const UP_TO_DATE: u64 = 10;
/// Without a live read for this long the state is ready and not reading.
pub(super) const QUIET: Duration = Duration::from_secs(120);
/// After the start the decoders may need this long to connect.
pub(super) const STARTING: Duration = Duration::from_secs(10);
/// A step of the box's clock is in the sentence for this long. After that it is only a row.
const STEP: Duration = Duration::from_secs(300);
/// Lost reads are in the sentence while more reads are lost, and for this long after the last loss.
const LOSING: Duration = Duration::from_secs(10);
/// At most this many things to do are shown at once.
const TODO: usize = 3;

/// The state, and the texts that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StateVerdict {
    /// The state.
    pub state: BoxState,
    /// One or more whole sentences.
    pub sentence: String,
    /// What a person should do, at most three things.
    pub todo: Vec<String>,
    /// What the box does by itself, so that nobody pulls a cable without need.
    pub by_itself: Option<String>,
    /// The box has just started, and nothing is wrong but that not every decoder is connected yet.
    starting: bool,
}

/// Remembers the state that is shown, so that a better state can wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    shown: StateVerdict,
    /// What is shown while a better state waits.
    calming: StateVerdict,
    /// When the shown state began, on the box's monotonic clock.
    since: Duration,
    /// When the shown state last applied.
    applied: Duration,
    looked: bool,
}

impl Judge {
    /// The verdict on `status` at `now`, the time since the start of the process.
    pub(super) fn look(&mut self, status: &Snapshot, now: Duration) -> &StateVerdict {
        let found = judge(status, now, self.shown.state);
        let better = found.state > self.shown.state;
        // Reading and ready are both in order, so a change between them does not wait.
        // The end of a start is no improvement that may be over again in a moment.
        let calms = self.shown.state < BoxState::Ready && !self.shown.starting;
        let waits = better && calms && now.saturating_sub(self.applied) < CALM;
        if self.looked && waits {
            // The state stays for a moment, but what it was about may be over.
            self.calming = StateVerdict {
                sentence: format!("A moment ago: {}", self.shown.sentence),
                todo: Vec::new(),
                by_itself: Some("It is better now. The box waits five seconds to see whether it stays so.".to_owned()),
                ..self.shown.clone()
            };
            return &self.calming;
        }
        if !self.looked || found.state != self.shown.state {
            self.since = now;
        }
        (self.shown, self.applied, self.looked) = (found, now, true);
        &self.shown
    }

    /// For how long the state has been shown.
    pub(super) fn lasts(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

/// The verdict on this moment. The state that was shown before matters only to a failing upload:
/// when one failure follows another, the second one does not have to last before it counts.
fn judge(status: &Snapshot, now: Duration, shown: BoxState) -> StateVerdict {
    let mut found: Vec<(&Problem, ProblemCode)> = status
        .problems
        .iter()
        .filter_map(|problem| Some((problem, ProblemCode::of_word(&problem.code)?)))
        .filter(|(problem, code)| applies(status, problem, *code, now, shown))
        .collect();
    // The cloud refuses the key of before, and the cure is to write one into the file.
    if found.iter().any(|(_, code)| *code == ProblemCode::KeyMissing) {
        found.retain(|(_, code)| *code != ProblemCode::KeyRefused);
    }
    cannot_keep(status, &found, now)
        .or_else(|| not_reading(status, &found, now))
        .or_else(|| time_wrong(status, &found))
        .or_else(|| on_hold(status, &found))
        .or_else(|| not_uploading(status, &found, now))
        .unwrap_or_else(|| in_order(status, now))
}

/// Whether a problem already is, or still is, part of the sentence.
pub(super) fn applies(status: &Snapshot, problem: &Problem, code: ProblemCode, now: Duration, shown: BoxState) -> bool {
    let lasts = now.saturating_sub(problem.raised);
    match code {
        ProblemCode::DecoderUnreachable => lasts >= LINK_LOST,
        ProblemCode::BoxClockStepped => lasts < STEP,
        // A mistake of the set-up does not go away by itself, and waiting does not help.
        ProblemCode::KeyMissing | ProblemCode::UploadMisconfigured | ProblemCode::UploadWaitsForRestart => true,
        // If reads were lost earlier and everything is kept now, the loss is only a row.
        // What an earlier process lost was never renewed by this one.
        ProblemCode::ReadsDropped => {
            !status.ready || (!problem.renewed.is_zero() && now.saturating_sub(problem.renewed) < LOSING)
        }
        _ => match code.cause() {
            Cause::NotUploading(_) => {
                let oldest = status.journal.oldest_pending_s.filter(|_| status.journal.pending > 0);
                let follows = shown == BoxState::NotUploading;
                follows || lasts >= UPLOAD_LOST || oldest.is_some_and(|oldest| oldest >= WAITED.as_secs())
            }
            _ => true,
        },
    }
}

fn cannot_keep(status: &Snapshot, found: &[(&Problem, ProblemCode)], now: Duration) -> Option<StateVerdict> {
    let first = found.iter().find_map(|(problem, code)| match code.cause() {
        Cause::CannotKeep(says) => Some((*problem, *code, says)),
        _ => None,
    });
    let (says, cure) = match first {
        Some((_, code, says)) => (says, code.hint()),
        // At the start the log is still being opened, and everything else may be in order.
        None if status.ready || now < STARTING => return None,
        None => ("The log is being opened.", "Wait: a long log takes a while to be read."),
    };
    let waiting: u64 = status.decoders.iter().map(|decoder| decoder.buffered).sum();
    let lost: u64 = status.decoders.iter().map(|decoder| decoder.dropped).sum();
    let mut sentence = says.to_owned();
    if waiting > 0 {
        sentence += &format!(" {} only in memory and not safe.", are(waiting, "read"));
    }
    if lost > 0 {
        sentence += &format!(" {} lost.", are(lost, "read"));
    }
    if waiting == 0 && lost == 0 {
        sentence += " New reads would only be in memory and not safe.";
    }
    Some(StateVerdict {
        state: BoxState::CannotKeep,
        sentence,
        todo: vec!["Do not switch the box off.".to_owned(), cure.to_owned()],
        by_itself: Some("The box writes the reads as soon as the card takes them.".to_owned()),
        starting: false,
    })
}

fn not_reading(status: &Snapshot, found: &[(&Problem, ProblemCode)], now: Duration) -> Option<StateVerdict> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut out: BTreeSet<&str> = BTreeSet::new();
    let mut first = None;
    for (problem, code) in found {
        let Cause::NotReading(says) = code.cause() else { continue };
        let about = problem.about.as_str();
        first.get_or_insert((*code, about));
        // The sentence names only the first fault of each decoder.
        if about.is_empty() || out.insert(about) {
            put(&mut groups, says, about);
        }
    }
    for decoder in &status.decoders {
        let connecting = matches!(decoder.state, LinkState::Connecting | LinkState::Failed);
        if connecting && now < STARTING && out.insert(&decoder.name) {
            first.get_or_insert((ProblemCode::Starting, decoder.name.as_str()));
            put(&mut groups, "is being connected", &decoder.name);
        } else if connecting && !decoder.was_connected && out.insert(&decoder.name) {
            // A link that was never up is not one that is lost for a moment.
            first.get_or_insert((ProblemCode::DecoderUnreachable, decoder.name.as_str()));
            put(&mut groups, "is not connected", &decoder.name);
        }
    }
    if status.decoders.is_empty() && first.is_none() {
        first = Some((ProblemCode::NoDecoder, ""));
        put(&mut groups, "No decoder is set up.", "");
    }
    let (first, about) = first?;
    let is_out = |decoder: &&DecoderStatus| out.iter().any(|name| is_of(name, &decoder.name));
    let others: Vec<&DecoderStatus> = status.decoders.iter().filter(|decoder| !is_out(decoder)).collect();
    let mut sentence = told(&groups);
    let reading = readers(&others, now);
    if !reading.is_empty() {
        sentence += &format!(" {}.", does(&reading, "reads", "read"));
    }
    let idle = idle_in_words(&others, now);
    if reading.is_empty() && idle.is_empty() && status.decoders.len() > 1 {
        sentence = format!("No mat reads. {sentence}");
    }
    sentence += &idle;
    let awaited = |decoder: &DecoderStatus| decoder.name == about && decoder.address.starts_with("tcp-listen://");
    let (todo, by_itself) = match first {
        ProblemCode::DecoderUnreachable if status.decoders.iter().any(awaited) => (
            vec![
                "Is the software of the decoder running?".to_owned(),
                "Does it know the address of this box, and the port?".to_owned(),
            ],
            Some("The box waits for it.".to_owned()),
        ),
        first => cure(first),
    };
    let starting =
        now < STARTING && matches!(first, ProblemCode::Starting | ProblemCode::NoDecoder | ProblemCode::NotSetUp);
    Some(StateVerdict { state: BoxState::NotReading, sentence, todo, by_itself, starting })
}

fn time_wrong(status: &Snapshot, found: &[(&Problem, ProblemCode)]) -> Option<StateVerdict> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut sentences = Vec::new();
    let mut first = None;
    for (problem, code) in found {
        let Cause::TimeWrong(says) = code.cause() else { continue };
        first.get_or_insert(*code);
        let about = problem.about.as_str();
        let offset = status.decoders.iter().find(|decoder| decoder.name == about).and_then(|d| d.clock_offset_ms);
        match (code, offset) {
            (ProblemCode::DecoderClockOff, Some(offset)) => {
                sentences.push(format!("{} is {}.", printable(about), offset_in_words(offset)));
            }
            _ if is_whole(says) => put(&mut groups, says, ""),
            _ => put(&mut groups, says, about),
        }
    }
    let first = first?;
    if !groups.is_empty() {
        sentences.push(told(&groups));
    }
    if first == ProblemCode::DecoderClockOff {
        sentences.push("Every time it sends is wrong.".to_owned());
    }
    sentences.truncate(3);
    let (todo, by_itself) = cure(first);
    Some(StateVerdict { state: BoxState::TimeWrong, sentence: sentences.join(" "), todo, by_itself, starting: false })
}

fn on_hold(status: &Snapshot, found: &[(&Problem, ProblemCode)]) -> Option<StateVerdict> {
    let kept = match &status.hold {
        Some(hold) => are(hold.reads, "read"),
        None if found.iter().any(|(_, code)| matches!(code.cause(), Cause::Hold)) => "Reads are".to_owned(),
        None => return None,
    };
    let sentence = format!("{kept} kept and not sent. Nothing goes to the cloud until you release it.");
    let todo = vec!["Release the hold before the gun.".to_owned()];
    Some(StateVerdict { state: BoxState::Hold, sentence, todo, by_itself: None, starting: false })
}

fn not_uploading(status: &Snapshot, found: &[(&Problem, ProblemCode)], now: Duration) -> Option<StateVerdict> {
    let (problem, code, says) = found.iter().find_map(|(problem, code)| match code.cause() {
        Cause::NotUploading(says) => Some((problem, *code, says)),
        _ => None,
    })?;
    let all: Vec<&DecoderStatus> = status.decoders.iter().collect();
    let names = readers(&all, now);
    let whose = match status.uploads.len() {
        2.. if status.uploads.iter().any(|upload| upload.device_id == problem.about) => {
            format!(" This is about device {}.", printable(&short(&problem.about)))
        }
        _ => String::new(),
    };
    let mut sentence = says.to_owned() + &whose;
    match names.as_slice() {
        [] => sentence += " Every read is safe on this box.",
        names => sentence += &format!(" {}, and every read is safe on this box.", does(names, "reads", "read")),
    }
    let (todo, _) = cure(code);
    let mut rest = "The box sends the rest by itself".to_owned();
    let pace = status.uploads.iter().find_map(|upload| upload.per_minute).filter(|pace| *pace > 0);
    match pace.map(|pace| status.journal.pending * 60 / pace).filter(|seconds| *seconds > 0) {
        Some(seconds) => rest += &format!(", in about {}.", age(seconds)),
        None => rest += ".",
    }
    Some(StateVerdict { state: BoxState::NotUploading, sentence, todo, by_itself: Some(rest), starting: false })
}

fn in_order(status: &Snapshot, now: Duration) -> StateVerdict {
    let all: Vec<&DecoderStatus> = status.decoders.iter().collect();
    let names = readers(&all, now);
    let (cloud, urgent) = (cloud(status), urgent(status));
    if !names.is_empty() {
        let reading = does(&names, "reads", "read");
        let sentence = format!("{reading}.{}{} {cloud}", idle_in_words(&all, now), times(status, &names));
        return StateVerdict { state: BoxState::Reading, sentence, todo: urgent, ..StateVerdict::default() };
    }
    let idle = match idle_in_words(&all, now) {
        idle if idle.is_empty() => "No mat is connected yet.".to_owned(),
        idle => idle.trim_start().to_owned(),
    };
    let todo = match urgent.is_empty() {
        true => vec!["Pass a test chip over each mat.".to_owned()],
        false => urgent,
    };
    StateVerdict { state: BoxState::Ready, sentence: format!("{idle} {cloud}"), todo, by_itself: None, starting: false }
}

/// What to do about problems that are critical and cause no state of their own.
fn urgent(status: &Snapshot) -> Vec<String> {
    let codes = status.problems.iter().filter_map(|problem| ProblemCode::of_word(&problem.code));
    let critical = codes.filter(|code| code.severity() == Severity::Critical && matches!(code.cause(), Cause::Row));
    critical.take(TODO).map(|code| code.hint().to_owned()).collect()
}

/// The decoders that gave a live read lately. A connection alone proves nothing.
fn readers<'a>(decoders: &[&'a DecoderStatus], now: Duration) -> Vec<&'a str> {
    let reads = |decoder: &&&DecoderStatus| quiet_for(decoder, now).is_some_and(|quiet| quiet < QUIET);
    decoders.iter().filter(reads).map(|decoder| decoder.name.as_str()).collect()
}

/// For how long the decoder has given no live read. `None` if it gave none since the start.
fn quiet_for(decoder: &DecoderStatus, now: Duration) -> Option<Duration> {
    decoder.live_at.map(|at| now.saturating_sub(at))
}

/// What is known of the decoders that are connected and gave no live read lately: sentences that
/// begin with a blank.
fn idle_in_words(decoders: &[&DecoderStatus], now: Duration) -> String {
    let (mut never, mut earlier, mut rejected, mut newest) = (Vec::new(), Vec::new(), Vec::new(), Duration::MAX);
    for decoder in decoders.iter().filter(|decoder| decoder.state == LinkState::Connected) {
        let name = decoder.name.as_str();
        match quiet_for(decoder, now) {
            Some(quiet) if quiet < QUIET => {}
            Some(quiet) => {
                earlier.push(name);
                newest = newest.min(quiet);
            }
            None if decoder.reads == 0 && decoder.rejected > 0 => rejected.push(name),
            None => never.push(name),
        }
    }
    let tells = |names: &[&str], what: &str| match names {
        [] => String::new(),
        names => format!(" {}; {what}.", does(names, "is connected", "are connected")),
    };
    let what =
        if never.len() == 1 { "no chip has passed it since the start" } else { "no chip has passed since the start" };
    let quiet = if earlier.is_empty() { String::new() } else { format!("no chip for {}", age(newest.as_secs())) };
    tells(&never, what) + &tells(&earlier, &quiet) + &tells(&rejected, "nothing that was sent is understood as a read")
}

/// What the sentence says about the times when none is wrong by so much that this is the state.
fn times(status: &Snapshot, readers: &[&str]) -> String {
    let near = |decoder: &&DecoderStatus| {
        let code = ProblemCode::DecoderClockNear.word();
        status.problems.iter().any(|problem| problem.code == code && problem.about == decoder.name)
    };
    let mut off = status.decoders.iter().filter(near);
    // A mat that gave no read yet has no times that could be wrong.
    let is_right = |decoder: &DecoderStatus| decoder.times_right || !readers.contains(&decoder.name.as_str());
    let Some(first) = off.next() else {
        return match status.decoders.iter().all(is_right) {
            true => " The times are right.".to_owned(),
            false => String::new(),
        };
    };
    let (name, offset) = (printable(&first.name), first.clock_offset_ms.unwrap_or_default());
    let words = offset_in_words(offset);
    let more = match off.count() {
        0 => String::new(),
        1 => " The clock of 1 more is off.".to_owned(),
        more => format!(" The clocks of {more} more are off."),
    };
    match first.clock_by {
        Some(ClockBy::Reads) if offset < 0 => {
            format!(" {name}'s reads are stamped {words}: they arrive late, or its clock is wrong.{more}")
        }
        Some(ClockBy::Reads) => format!(" {name}'s reads are stamped {words} of this box.{more}"),
        _ => format!(" {name}'s clock is {words}.{more}"),
    }
}

/// What the sentence says about the cloud when nothing is wrong with it.
fn cloud(status: &Snapshot) -> String {
    if status.uploads.is_empty() {
        return "The reads stay on this box.".to_owned();
    }
    // A comparison, or another sender, showed that the cloud is not as this box has it.
    let differs = [ProblemCode::AuditDiffers, ProblemCode::OtherWriter];
    if status.problems.iter().any(|problem| differs.iter().any(|code| problem.code == code.word())) {
        return "The cloud does not hold exactly what this box sent: see below.".to_owned();
    }
    let journal = &status.journal;
    let held_up = |upload: &UploadStatus| away(upload) || upload.waits_for.is_some() || upload.last_error.is_some();
    let oldest = journal.oldest_pending_s.filter(|_| journal.pending > 0);
    match oldest {
        Some(oldest) if oldest >= UP_TO_DATE => format!("The cloud is {} behind.", age(oldest)),
        Some(_) if status.uploads.iter().any(held_up) => "The cloud has not got everything yet.".to_owned(),
        None if status.uploads.iter().any(away) => "The cloud has got everything so far.".to_owned(),
        _ if status.uploads.iter().any(|upload| upload.session.is_none()) => {
            "The cloud has not told its session yet.".to_owned()
        }
        _ => "The cloud is up to date.".to_owned(),
    }
}

fn away(upload: &UploadStatus) -> bool {
    !matches!(upload.state, UploadState::Idle | UploadState::Sending)
}

/// What a person should do, and what the box does by itself.
fn cure(code: ProblemCode) -> (Vec<String>, Option<String>) {
    let todo: &[&str] = match code {
        ProblemCode::DecoderUnreachable => &[
            "Is the power of the decoder on?",
            "Is its cable in?",
            "Is its address right? `passbridge probe` looks for it.",
        ],
        ProblemCode::DecoderSilent => &["Is the decoder frozen?", "Does it count when a test chip passes?"],
        ProblemCode::DecoderClockOff => &[
            "Does the display of the decoder show the right time? Yes: correct `timezone`.",
            "No: set the clock of the decoder.",
        ],
        ProblemCode::Offline => &["Is the modem on?", "Is there a log-in page of the network?"],
        ProblemCode::CloudSilent => &[
            "Does the internet work on your phone, in the same network? Then it is the cloud, or a firewall.",
            "No: is the modem on, and is there a log-in page of the network?",
        ],
        code => &[code.hint()],
    };
    let by_itself = match code {
        ProblemCode::DecoderUnreachable => "The box connects by itself, and fetches what the decoder stored if it can.",
        ProblemCode::Starting => "The box connects by itself.",
        _ => "",
    };
    let todo = todo.iter().take(TODO).map(|text| (*text).to_owned()).collect();
    (todo, Some(by_itself.to_owned()).filter(|text| !text.is_empty()))
}

/// Whether the subject of a problem is the decoder or one of its locations.
fn is_of(about: &str, decoder: &str) -> bool {
    about == decoder || about.strip_prefix(decoder).is_some_and(|rest| rest.starts_with('/'))
}

fn put<'a>(groups: &mut Vec<(&'a str, Vec<&'a str>)>, says: &'a str, about: &'a str) {
    match groups.iter_mut().find(|(known, _)| *known == says) {
        Some((_, names)) => names.push(about),
        None => groups.push((says, vec![about])),
    }
}

/// Whether a text is a sentence of its own, so that it needs no subject.
fn is_whole(says: &str) -> bool {
    says.ends_with('.')
}

/// The groups as sentences: at most two, and how many more there are.
fn told(groups: &[(&str, Vec<&str>)]) -> String {
    let mut sentences: Vec<String> = groups
        .iter()
        .take(2)
        .map(|(says, names)| match is_whole(says) {
            true => (*says).to_owned(),
            false => format!("{}.", does(names, says, &plural(says))),
        })
        .collect();
    if groups.len() > 2 {
        let more: usize = groups[2..].iter().map(|(_, names)| names.len()).sum();
        sentences.push(format!("{more} more have other faults."));
    }
    sentences.join(" ")
}

/// The plural form of a text: `is silent` becomes `are silent`.
fn plural(says: &str) -> String {
    let (verb, rest) = says.split_once(' ').unwrap_or((says, ""));
    let verb = match verb {
        "is" => "are",
        "has" => "have",
        verb => verb.strip_suffix('s').unwrap_or(verb),
    };
    format!("{verb} {rest}")
}

/// Names with a verb: `a reads`, `a and b read`, `5 mats read`.
fn does(names: &[&str], one: &str, many: &str) -> String {
    match names {
        [] => format!("Nobody {one}"),
        [name] => format!("{} {one}", printable(name)),
        [a, b] => format!("{} and {} {many}", printable(a), printable(b)),
        [a, b, c] => format!("{}, {} and {} {many}", printable(a), printable(b), printable(c)),
        names => format!("{} mats {many}", names.len()),
    }
}

/// A number with its noun and verb: `1 read is`, `12 480 reads are`.
fn are(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what} is"),
        number => format!("{} {what}s are", count(number)),
    }
}

#[cfg(test)]
mod tests;
