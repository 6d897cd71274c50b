//! The report as a fold over the entries of the log.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::data::{
    Afterwards, AsidePassing, AuditDay, CorrectedTimes, DayReport, DecoderDay, LIST_MAX, MarkerSeen, Occurrence,
    Ordered, Outage, ProgramStart, ReportQuery, SILENCE_MIN_MS, SILENCES_MAX, SessionDay, ShortList, Silence,
    SteppedClock, TimedRead, UploadDay,
};
use super::sketch::{ChipTally, OffsetSamples};
use crate::history::backlog::Backlog;
use crate::history::told::{NoteSays, told};
use crate::journal::control::{Control, Held};
use crate::journal::entry::{Body, Entry};
use crate::journal::{Audited, Batch, UploadEvent, UploadItem};
use crate::model::chip::{ChipRead, Marker};
use crate::model::clock::{self, Step};
use crate::model::source;
use crate::model::text::tail;
use crate::status::{Cause, ProblemCode, Severity};

/// Decoders and devices that are told of. A configuration has fewer.
const SUBJECTS_MAX: usize = 128;
/// Sessions that are told of a device: the newest ones.
const SESSIONS_MAX: usize = 64;
/// Problems that are remembered as present.
const ACTIVE_MAX: usize = 256;
/// Entries among which the last one of a process is looked for, when the next one starts.
const LAST_MAX: usize = 1_024;
/// Codes of notes that tell what somebody ordered.
const ORDERS: [&str; 3] = ["session", "resend", "action"];

/// One decoder so far.
#[derive(Default)]
struct DecoderSoFar {
    day: DecoderDay,
    chips: ChipTally,
    offsets: OffsetSamples,
    last_received: Option<Timestamp>,
}

/// One device so far.
#[derive(Default)]
struct DeviceSoFar {
    day: UploadDay,
    /// The session in which passings are numbered now, by its token.
    token: Box<str>,
    /// Names of sessions.
    aliases: BTreeMap<Box<str>, Box<str>>,
    /// The sessions of the day, by their tokens.
    sessions: Vec<(Box<str>, SessionDay)>,
    /// The passings of the last batch, and what it left open.
    items: Vec<UploadItem>,
    /// Something happened within the span.
    counts: bool,
}

/// The report so far.
pub(super) struct DayFold {
    query: ReportQuery,
    afterwards: Afterwards,
    report: DayReport,
    decoders: BTreeMap<Box<str>, DecoderSoFar>,
    devices: BTreeMap<Box<str>, DeviceSoFar>,
    backlog: Backlog,
    /// Problems that are present: since when, and what was told.
    active: BTreeMap<(String, String), (Timestamp, String)>,
    occurrences: BTreeMap<(String, String), Occurrence>,
    more_occurrences: u64,
    stopped: Option<Timestamp>,
    /// The newest entries, at most [`LAST_MAX`].
    lasts: VecDeque<(u64, Timestamp)>,
    damaged: u64,
    unknown: u64,
    unset: bool,
    any: bool,
}

impl DayFold {
    pub(super) fn new(query: ReportQuery, afterwards: Afterwards) -> Self {
        let ReportQuery { name, from, to, made, .. } = &query;
        let (name, from, to, made) = (name.clone(), *from, *to, *made);
        Self {
            report: DayReport { name, from, to, made, ..DayReport::default() },
            query,
            afterwards,
            decoders: BTreeMap::new(),
            devices: BTreeMap::new(),
            backlog: Backlog::default(),
            active: BTreeMap::new(),
            occurrences: BTreeMap::new(),
            more_occurrences: 0,
            stopped: None,
            lasts: VecDeque::new(),
            damaged: 0,
            unknown: 0,
            unset: false,
            any: false,
        }
    }

    /// How many reads wait at this place of the log, if it is known.
    pub(super) fn waits(&mut self, waiting: Option<(u64, Option<u64>)>) {
        if let Some((waiting, held)) = waiting {
            self.backlog.begins_with(waiting, held);
        }
    }

    /// A line that could not be read. `of_another_version`: it is whole.
    pub(super) fn bad(&mut self, of_another_version: bool) {
        match of_another_version {
            true => self.unknown += 1,
            false => self.damaged += 1,
        }
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        let at = clock::corrected(&self.afterwards.steps, entry.seq, entry.time);
        if at >= self.query.to {
            return;
        }
        let counts = at >= self.query.from;
        self.any |= counts;
        match &entry.body {
            // It was counted when it was kept.
            Body::Read(read) if read.let_go.is_some() => self.backlog.read(),
            Body::Read(read) => {
                if !read.held_back {
                    self.backlog.read();
                }
                if counts {
                    self.read(entry, read, at);
                }
            }
            Body::Rejected(_) if counts => {
                if let Some(decoder) = self.decoder(&entry.subject) {
                    decoder.day.rejected += 1;
                }
            }
            // The box makes these itself, for what it is asked about a decoder.
            Body::Marker(marker) if [Marker::ABSENT, Marker::LET_GO].contains(&&*marker.kind) => {}
            Body::Marker(marker) if counts => {
                let stamp = marker.stamp.map(|stamp| stamp.to_string());
                let kind = marker
                    .name
                    .as_deref()
                    .map_or_else(|| (&*marker.kind).into(), |name| format!("{}: {name}", marker.kind));
                let decoder = source::decoder(&entry.subject).to_owned();
                self.report.markers.add(MarkerSeen { received: at, decoder, kind, stamp });
            }
            Body::Upload(event) => self.upload(event, at, counts),
            Body::Clock(step) if counts && step.step_ms != 0 => self.step(step),
            Body::Correct(correction) if counts => {
                let (decoder, by) = ((&*entry.subject).into(), (&*correction.by).into());
                let shift_ms = correction.shift_ms;
                self.report.corrections.add(CorrectedTimes { at, decoder, shift_ms, by });
            }
            Body::Control(control) => {
                self.backlog.control(control);
                if let Some(text) = in_words(control).filter(|_| counts) {
                    self.report.orders.add(Ordered { at, text });
                }
            }
            Body::Note(text) => self.note(&entry.subject, text, at, counts),
            _ => {}
        }
        if self.lasts.len() >= LAST_MAX {
            self.lasts.pop_front();
        }
        self.lasts.push_back((entry.seq, at));
    }

    fn decoder(&mut self, subject: &str) -> Option<&mut DecoderSoFar> {
        let name = source::decoder(subject);
        if !self.decoders.contains_key(name) {
            if self.decoders.len() >= SUBJECTS_MAX {
                return None;
            }
            let day = DecoderDay { name: name.to_owned(), ..DecoderDay::default() };
            self.decoders.insert(name.into(), DecoderSoFar { day, ..DecoderSoFar::default() });
        }
        self.decoders.get_mut(name)
    }

    fn read(&mut self, entry: &Entry, read: &ChipRead, at: Timestamp) {
        let corrections = &self.afterwards.corrections;
        let shift_ms = corrections.shift_ms(&entry.subject, entry.seq);
        let zone = corrections.zone(&entry.subject, entry.seq).and_then(clock::zone);
        let zone = zone.unwrap_or_else(|| self.query.zones.of(&entry.subject).clone());
        let stamped = clock::resolve_read(read, &zone, at).utc;
        let time = stamped.as_millisecond().saturating_add(shift_ms);
        let time = Timestamp::from_millisecond(time).unwrap_or(stamped);
        self.unset |= !clock::box_clock_set(at);
        let Some(DecoderSoFar { day, chips, offsets, last_received }) = self.decoder(&entry.subject) else { return };
        day.reads += 1;
        day.stored += u64::from(read.replay);
        chips.add(&read.chip);
        let timed = || TimedRead { time, chip: (&*read.chip).into() };
        if day.first.as_ref().is_none_or(|first| time < first.time) {
            day.first = Some(timed());
        }
        if day.last.as_ref().is_none_or(|last| time >= last.time) {
            day.last = Some(timed());
        }
        if !read.replay && !read.held_back && !clock::is_undated(&read.stamp) {
            offsets.add(stamped.as_millisecond() - at.as_millisecond());
        }
        if let Some(from) = last_received.replace(at) {
            silence(&mut day.silences, Silence { from, to: at });
        }
    }

    fn step(&mut self, step: &Step) {
        let at = Timestamp::from_millisecond(step.after_ms()).unwrap_or(self.query.made);
        self.report.clock_steps.add(SteppedClock { at, step_ms: step.step_ms });
    }

    fn upload(&mut self, event: &UploadEvent, at: Timestamp, counts: bool) {
        let answered = self.backlog.apply(event);
        let name = event.device();
        if !self.devices.contains_key(name) && self.devices.len() >= SUBJECTS_MAX {
            return;
        }
        let device = self.devices.entry(name.into()).or_default();
        device.counts |= counts;
        match event {
            UploadEvent::Joined { token, alias, .. } => {
                device.token = token.clone();
                if let Some(alias) = alias {
                    device.aliases.insert(token.clone(), alias.clone());
                    while device.aliases.len() > SESSIONS_MAX {
                        device.aliases.pop_first();
                    }
                }
            }
            UploadEvent::Batch(batch) => device.batch(batch, counts),
            UploadEvent::Accepted { first, last, duplicates, .. } => {
                let items = device.items.extract_if(.., |item| (*first..=*last).contains(&item.num));
                let taken = items.count() as u64;
                if counts {
                    device.day.sent += answered.count();
                    device.day.had_already += duplicates;
                    let aside = device.day.set_aside.list.iter_mut();
                    aside.filter(|aside| answered.seqs.contains(&aside.seq)).for_each(|aside| aside.sent_later = true);
                    let token = device.token.clone();
                    if let Some(session) = device.session(&token) {
                        session.accepted += taken.max(answered.unseen);
                    }
                }
            }
            UploadEvent::DeadLetter { num, status, answer, .. } => {
                let item = device.items.extract_if(.., |item| item.num == *num).next();
                if counts {
                    device.set_aside(item, *num, at, (*status, answer));
                }
            }
            UploadEvent::Audited(audited) if counts => {
                if let Some(session) = device.session(&audited.token) {
                    session.audit = Some(audit(audited));
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, code: &str, text: &str, at: Timestamp, counts: bool) {
        match told(code, text) {
            NoteSays::Start { first } => {
                // Entries of the new process may come before the note of its start.
                let before = |(seq, _): &&(u64, Timestamp)| first.is_none_or(|first| *seq < first);
                let last_entry = self.lasts.iter().rev().find(before).map(|(_, at)| *at);
                let stopped = self.stopped.take();
                self.all_over(stopped);
                if counts {
                    self.report.starts.add(ProgramStart { at, stopped, last_entry });
                }
            }
            NoteSays::Stop => self.stopped = Some(at),
            NoteSays::Came { code, about, message } => {
                let key = (code.to_owned(), about.to_owned());
                if let Some((_, known)) = self.active.get_mut(&key) {
                    message.clone_into(known);
                } else if self.active.len() < ACTIVE_MAX {
                    self.active.insert(key, (at, message.to_owned()));
                }
            }
            NoteSays::Over { code, about } => {
                let key = (code.to_owned(), about.to_owned());
                if let Some(was) = self.active.remove(&key) {
                    self.over(key, was, Some(at));
                }
            }
            NoteSays::Other if ORDERS.contains(&code) && counts => {
                self.report.orders.add(Ordered { at, text: text.to_owned() });
            }
            NoteSays::Other => {}
        }
    }

    /// The program ended, so all problems that it had are over, or nobody knows.
    fn all_over(&mut self, at: Option<Timestamp>) {
        for (key, was) in std::mem::take(&mut self.active) {
            self.over(key, was, at);
        }
    }

    /// A problem is over. `to`: when. `None`: nobody knows, or it is not over.
    fn over(&mut self, (code, about): (String, String), (from, message): (Timestamp, String), to: Option<Timestamp>) {
        if to.is_some_and(|to| to < self.query.from) {
            return;
        }
        let known = ProblemCode::of_word(&code);
        let outage = || Outage { code: code.clone(), from, to, message: message.clone() };
        match known.map(ProblemCode::cause) {
            // Each start connects to the decoders. That is no outage.
            Some(Cause::NotReading(_)) if known == Some(ProblemCode::Starting) => return,
            Some(Cause::NotReading(_)) if !about.is_empty() => {
                if let Some(decoder) = self.decoder(&about) {
                    decoder.day.outages.add(outage());
                }
                return;
            }
            _ => {}
        }
        if matches!(known, Some(ProblemCode::Offline | ProblemCode::CloudSilent | ProblemCode::CloudNotTrusted)) {
            return self.report.internet.add(outage());
        }
        if known.is_some_and(|code| code.severity() == Severity::Info) {
            return;
        }
        let key = (code.clone(), about.clone());
        if !self.occurrences.contains_key(&key) && self.occurrences.len() >= LIST_MAX {
            self.more_occurrences += 1;
            return;
        }
        let fresh = Occurrence { code, about, from, to, times: 0, message: String::new() };
        let occurrence = self.occurrences.entry(key).or_insert(fresh);
        occurrence.times += 1;
        (occurrence.to, occurrence.message) = (to, message);
    }

    /// The report of all entries.
    pub(super) fn report(mut self) -> DayReport {
        self.all_over(None);
        let mut report = self.report;
        report.waiting = self.backlog.waiting();
        report.decoders = self.decoders.into_values().map(DecoderSoFar::day).collect();
        let counted = self.devices.into_iter().filter(|(_, device)| device.counts);
        report.uploads = counted.map(|(name, device)| device.day(&name)).collect();
        let mut problems: Vec<_> = self.occurrences.into_values().collect();
        problems.sort_by_key(|problem| problem.from);
        report.problems = ShortList { list: problems, more: self.more_occurrences };
        report.internet.list.sort_by_key(|outage| outage.from);
        for decoder in &mut report.decoders {
            decoder.outages.list.sort_by_key(|outage| outage.from);
            decoder.silences.sort_by_key(|silence| silence.from);
        }
        let mut not_known = |text: String| report.not_known.push(text);
        if !self.any {
            not_known(
                "The log has no entry of this time. Either the box was off, or its files of this time were \
                removed (`keep.days`)."
                    .to_owned(),
            );
        }
        if report.waiting.is_none() {
            not_known("How many reads waited for the cloud is not known: the begin of the log is missing.".to_owned());
        }
        if self.damaged > 0 {
            not_known(format!("{} lines of the log are damaged. What they said is not in this report.", self.damaged));
        }
        if self.unknown > 0 {
            not_known(format!(
                "{} lines of the log are of a newer version of passbridge. What they say is not in this report.",
                self.unknown
            ));
        }
        if self.unset {
            not_known(
                "The box did not know the time when some of these reads arrived. They may be of another day."
                    .to_owned(),
            );
        }
        if report.starts.list.iter().any(|start| start.stopped.is_none() && start.last_entry.is_some()) {
            not_known(
                "The program ended at least once without being stopped. What happened between its last entry \
                and the next start is not known; a decoder with a memory gives its reads again."
                    .to_owned(),
            );
        }
        report
    }
}

impl DecoderSoFar {
    fn day(self) -> DecoderDay {
        let (chips, more_chips) = self.chips.count();
        DecoderDay { chips, more_chips, clock: self.offsets.offsets(), ..self.day }
    }
}

impl DeviceSoFar {
    fn session(&mut self, token: &str) -> Option<&mut SessionDay> {
        if token.is_empty() {
            return None;
        }
        let at = self.sessions.iter().position(|(known, _)| **known == *token).unwrap_or_else(|| {
            if self.sessions.len() >= SESSIONS_MAX {
                self.sessions.remove(0);
            }
            self.sessions.push((token.into(), SessionDay { token_tail: tail(token), ..SessionDay::default() }));
            self.sessions.len() - 1
        });
        self.sessions.get_mut(at).map(|(_, session)| session)
    }

    fn batch(&mut self, batch: &Batch, counts: bool) {
        self.token = batch.session.clone();
        self.items.retain(|item| batch.still_open.contains(&item.num));
        self.items.extend(batch.items.iter().cloned());
        if !counts {
            return;
        }
        self.day.repeats += batch.duplicates.len() as u64;
        self.day.dead_time += batch.dead.len() as u64;
        let numbered = if batch.is_resend() { 0 } else { batch.items.len() as u64 };
        if let Some(session) = self.session(&batch.session) {
            session.numbered += numbered;
        }
    }

    fn set_aside(&mut self, item: Option<UploadItem>, num: u64, at: Timestamp, (status, answer): (u16, &str)) {
        let seq = item.as_ref().map_or(0, |item| item.seq.0);
        if let Some(known) = self.day.set_aside.list.iter_mut().find(|known| seq > 0 && known.seq == seq) {
            // It was tried again.
            (known.at, known.num, known.status, known.answer) = (at, num, status, answer.to_owned());
            return;
        }
        let time = item.as_ref().and_then(|item| Timestamp::from_millisecond(item.time_ms).ok());
        let (bib, chip) = item.map_or_else(Default::default, |item| (item.bib.into(), item.chip.into()));
        let answer = answer.to_owned();
        self.day.set_aside.add(AsidePassing { at, seq, num, bib, chip, time, status, answer, sent_later: false });
    }

    fn day(self, name: &str) -> UploadDay {
        let aliases = self.aliases;
        let sessions = self.sessions.into_iter().map(|(token, session)| {
            let alias = aliases.get(&token).map(|alias| (**alias).to_owned());
            SessionDay { alias, ..session }
        });
        UploadDay { device: tail(name), sessions: sessions.collect(), ..self.day }
    }
}

/// Keeps the longest silences.
fn silence(longest: &mut Vec<Silence>, one: Silence) {
    let length = |silence: &Silence| silence.to.as_millisecond() - silence.from.as_millisecond();
    if length(&one) < SILENCE_MIN_MS {
        return;
    }
    longest.push(one);
    longest.sort_by_key(|silence| std::cmp::Reverse(length(silence)));
    longest.truncate(SILENCES_MAX);
}

fn audit(audited: &Audited) -> AuditDay {
    let Audited {
        at, active, equal, checked, missing, foreign, different, duplicated, not_yet_sent, set_aside, ..
    } = *audited;
    AuditDay { at, active, equal, checked, missing, foreign, different, duplicated, not_yet_sent, set_aside }
}

/// What somebody decided. What the box found out is told as a problem.
fn in_words(control: &Control) -> Option<String> {
    Some(match control {
        Control::Hold { by } => format!("Hold by {by}: reads were kept and none was sent from here on"),
        Control::Release { how: Held::Send, by, .. } => format!("End of the hold by {by}: what was held was sent"),
        Control::Release { how: Held::Drop, by, .. } => {
            format!("End of the hold by {by}: nothing of what was held was sent")
        }
        Control::Seen { loss, by } => format!("Seen by {by}: {}", loss.message),
        Control::Lost(_) | Control::Back { .. } => return None,
    })
}
