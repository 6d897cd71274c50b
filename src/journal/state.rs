//! The fold: what follows from the log, entry by entry.
//!
//! Must hold: the state after entry N is a function of the log up to N and of [`Rules`] alone. The
//! fold uses no clock and no I/O. So a restart, a replay of the tail and a rebuild from the log
//! lead to the same state, and an entry that is applied twice (`seq <= followed`) changes nothing.
//! The state itself remembers only the newest reads of a decoder, and at the head of a log segment
//! none. Whether a read is a duplicate of an older one is passed in with the entry, by the dedup
//! index ([`super::dedup_index`]).
//!
//! Waiting for stored reads: a decoder that was just connected sends live reads at once and stored
//! reads a moment later, and a crossing may have begun before the connection was cut. So a read
//! that the link marked ([`ChipRead::amid_stored`]) is not checked for the dead time when it
//! arrives. It is checked when the waiting ends, and all waiting reads are then checked in the
//! order of the decoder's clock. The waiting ends with the first unmarked live read of the decoder,
//! with a note of the journal ([`WAITED`]: a few seconds without such a read), with a step of the
//! clock, or [`UNDECIDED_SPAN`] entries later. All of these are in the log, so the verdicts follow
//! from the log. Until then no read of its device from there on is uploaded, and the journal makes
//! no checkpoint. If the dead time is zero, no read waits.
//!
//! Every collection has a bound. Reads wait in [`State::tail`] only until a checkpoint writes them
//! to the queue (beyond [`TAIL_MAX`], the journal makes the writer wait).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::control::{Control, Held};
use super::dead::{DeadTime, LifeOfUptime, SeenAt};
use super::dedup_index::{AsItIs, Recognised};
use super::entry::{Body, Entry};
use super::failpoint;
use super::held_back::HeldBack;
use super::hold::{HeldReads, Hold, Skipped};
use super::log::LogPlace;
use super::losses::Losses;
use super::undated::{self, Undated, Which};
use super::{
    Audited, Batch, DeviceState, InFlight, PendingRead, SendAgainOrder, SessionAudit, Unsettled, UploadEvent,
    UploadItem,
};
use crate::model::chip::{ChipRead, Marker, Seq, Stamp, StoredRanges};
use crate::model::clock::{self, Step, Zones};
use crate::model::correction::Corrections;
use crate::model::source;
use crate::status::ReadCounts;

/// Number of reads in the tail beyond which the writer waits for a checkpoint (about 10 MB).
pub(super) const TAIL_MAX: usize = 65_536;
/// Identities remembered per decoder, about 3.5 MB when full. With them, a duplicate that arrives
/// soon is recognised without access to the disk, and so is a duplicate of a read whose log line
/// was lost. All other identities are in the dedup index ([`super::dedup_index`]).
const RECENT_MAX: usize = 131_072;
/// Code of the note that ends the waiting of reads. Its text begins with the number up to which no
/// read waits any more. No entry with that number has to exist yet.
pub(super) const WAITED: &str = "waited";
/// Number of entries after which a waiting read is checked in any case. It must be far below
/// [`TAIL_MAX`], or the writer would wait for room for ever.
pub(super) const UNDECIDED_SPAN: u64 = 8192;
/// Sessions per device whose numbering is remembered.
const SESSIONS_MAX: usize = 32;
/// Steps of the box's clock that are remembered. If the clock steps more often while reads wait,
/// the oldest steps are forgotten.
const STEPS_MAX: usize = 32;

/// Ranges of passings set aside per device. A cloud that refuses every second passing must not fill
/// the memory.
const RANGES_MAX: usize = 1024;
/// Passings remembered per device at which the cloud failed. If there are more, the newest ones are
/// tried again only by hand.
const FAILING_MAX: usize = 256;
/// Sessions about which the uplink asks the cloud after log lines were lost: the one known at that
/// time and the first one joined since.
const DOUBTED_MAX: usize = 2;

/// What a read is, as the fold decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReadVerdict {
    /// It is a passing.
    Passing,
    /// The read is too near to a passing of this chip at this decoder.
    Dead,
    /// The read is a duplicate of a stored read, in any source of its decoder.
    #[serde(rename = "Repeat")]
    Duplicate,
    /// The read waits for stored reads before it is checked. Never in a checkpoint.
    Waits,
}

/// What decides besides the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Least time between two passings of a chip. If it is zero, every read is a passing.
    pub dead_time_ms: i64,
    /// Zones of the decoders' clocks.
    pub zones: Zones,
}

/// A read that waits for stored reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Undecided {
    source: Box<str>,
    chip: Arc<str>,
    seen: SeenAt,
}

/// A read that no batch covers yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The read.
    pub read: PendingRead,
    /// What the read is.
    pub verdict: ReadVerdict,
}

/// The state of one decoder or source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DecoderFold {
    /// Every read up to here is covered by a batch.
    pub cursor: u64,
    /// Last entry of the decoder that is a read and not held back.
    pub last: u64,
    /// Last read or marker of the decoder: what a sink with cursors is owed. 0 in a state of an
    /// earlier version (see [`DecoderFold::newest`]).
    #[serde(default)]
    pub heard: u64,
    /// Positions of the decoder's memory that are stored.
    pub held: StoredRanges,
    /// The last passings. Earlier versions stored them in another form under another name. That
    /// form is not read, so the first reads after an update may become passings although they are
    /// within the dead time.
    #[serde(default)]
    pub dead: DeadTime,
    /// The life of a decoder without a clock.
    #[serde(default, skip_serializing_if = "LifeOfUptime::is_none")]
    pub life: LifeOfUptime,
    /// Reads of the decoder that are held back.
    #[serde(default, skip_serializing_if = "HeldBack::is_empty")]
    pub held_back: HeldBack,
    /// Reads that were dropped at the end of a hold, while reads before them waited.
    #[serde(default, skip_serializing_if = "Skipped::is_empty")]
    pub skipped: Skipped,
    /// Identities of the newest reads.
    #[serde(skip)]
    pub recent: Recent,
}

/// The state of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DeviceFold {
    /// Sessions joined, with alias and next number, the newest last.
    pub sessions: Vec<(Box<str>, Option<Box<str>>, u64)>,
    /// The batch that is not settled.
    pub in_flight: Option<InFlight>,
    /// Items released from closed sessions, in order. At most one batch of them, plus one batch for
    /// each device from which a command moved items.
    pub returned: Vec<UploadItem>,
    /// Number of passings that the cloud accepted.
    pub sent: u64,
    /// How many of those the cloud reported as duplicates.
    pub duplicates: u64,
    /// Passings set aside, as ranges of sequence numbers. Their segments are deleted by age only.
    /// At most [`RANGES_MAX`] ranges: beyond that the two oldest ranges become one, which keeps
    /// more segments than necessary.
    #[serde(rename = "quarantined")]
    pub dead_letters: BTreeMap<u64, u64>,
    /// Passings that were set aside because the cloud failed at them, and that are tried again
    /// automatically. At most [`FAILING_MAX`].
    #[serde(default, rename = "parked")]
    pub failing: Vec<UploadItem>,
    /// How many passings are set aside. 0 in a state of an earlier version, which counted the
    /// ranges.
    #[serde(default)]
    pub set_aside: u64,
    /// See [`DeviceState::doubt`].
    #[serde(default)]
    pub doubt: Option<Vec<Box<str>>>,
    /// Sessions in which passings were numbered, and their audits, the newest last.
    #[serde(default)]
    pub audits: Vec<SessionAudit>,
    /// Sessions with the number of passings that have a number there: those in the cloud, and those
    /// on their way. A session is here only if this log has all of its lines, and was followed by a
    /// version that counts. At most [`SESSIONS_MAX`], the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbered_in: Vec<(Box<str>, u64)>,
    /// Orders to send passings again that are not carried out, the oldest first. At most
    /// [`super::correct::ORDERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<SendAgainOrder>,
    /// Passings that are to be sent again, each with the session that has it, until they are in a
    /// batch: one piece of the first order. They are not among the returned ones, whose order is
    /// that of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replacing: Vec<(Box<str>, UploadItem)>,
    /// Those of them that are in flight now, or were released since, as the cloud has them. If their
    /// correction is taken back, they are right there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resent: Vec<(Box<str>, UploadItem)>,
}

/// The state of the fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Identity of the log from which this state follows.
    #[serde(default)]
    pub identity: String,
    /// The log was followed up to this entry.
    pub followed: u64,
    /// The place in the log behind that entry.
    pub place: LogPlace,
    /// The decoders and sources, by name.
    pub decoders: BTreeMap<Box<str>, DecoderFold>,
    /// The devices, by identifier.
    pub devices: BTreeMap<Box<str>, DeviceFold>,
    /// The cursors of the sinks beside the uplink, by sink and source. See [`super::sink`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<Box<str>, BTreeMap<Box<str>, u64>>,
    /// Number of reads that no batch covers yet.
    pub waiting: u64,
    /// The hold that is not released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Losses that happened.
    #[serde(default, skip_serializing_if = "Losses::is_empty")]
    pub losses: Losses,
    /// How many holds began or ended, so that a reader notices that one did while it read.
    #[serde(skip)]
    pub turns: u64,
    /// The entry with which the last hold ended, and how many reads it sent or dropped.
    #[serde(skip)]
    pub released: (u64, u64),
    /// Log lines were lost once, so a device that appears later is in doubt, too.
    #[serde(default)]
    pub doubted: bool,
    /// Steps of the box's clock, each with the number of its entry, the newest last.
    #[serde(default)]
    pub steps: Vec<(u64, Step)>,
    /// What somebody corrected.
    #[serde(default, skip_serializing_if = "Corrections::is_empty")]
    pub corrections: Corrections,
    /// The last read whose day depends on a receive time of a clock that was not set. 0: no such
    /// read since the clock was set.
    #[serde(default)]
    pub unset_through: u64,
    /// What is remembered of reads without a date.
    #[serde(default, skip_serializing_if = "Undated::is_empty")]
    pub undated: Undated,
    /// Reads that wait for stored reads. They are in the tail as [`ReadVerdict::Waits`]. At most
    /// [`UNDECIDED_SPAN`].
    #[serde(skip)]
    pub undecided: VecDeque<Undecided>,
    /// Reads up to this number do not wait.
    #[serde(default)]
    pub waited_through: u64,
    /// The number of duplicates since this process started, and the first sequence number that this
    /// process gave.
    #[serde(skip)]
    pub duplicates: (u64, u64),
    /// Reads that no batch covers and that are not yet in the queue's blocks.
    #[serde(skip)]
    pub tail: VecDeque<Waiting>,
    /// What was counted of reads; `None` in a state of a version that did not count.
    #[serde(default)]
    pub counts: Option<Counts>,
}

/// Reads by what became of them, since the log was begun. Where an older version had begun it, its
/// repeats and what its dead time suppressed are in none of these: the sum adds up all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Reads that were kept.
    pub kept: u64,
    /// Of them repeats of reads that were kept before.
    pub duplicates: u64,
    /// Of them those within the dead time.
    pub dead: u64,
    /// Of both, those that no batch covers yet: they are among [`State::waiting`], and wait for
    /// nothing.
    pub uncovered: u64,
    /// Reads that were dropped by choice.
    #[serde(default)]
    pub dropped: u64,
}

impl State {
    /// Applies one entry. `found`: what the dedup index says about it.
    pub(super) fn apply(&mut self, entry: &Entry, rules: &Rules, found: Recognised) {
        if entry.seq <= self.followed {
            return;
        }
        self.followed = entry.seq;
        if self.counts.is_none() {
            self.counts = Some(Counts { kept: self.accounted(Counts::default()).sum(), ..Counts::default() });
        }
        if self.undated.hears(entry.time) {
            self.decoders.values_mut().for_each(|fold| fold.dead.forget_days());
        }
        self.end_waiting(entry, rules);
        match &entry.body {
            Body::Read(read) => self.read(entry, read, rules, found),
            Body::Upload(event) => self.upload(entry.seq, event),
            Body::Settled(settled) => self.sink_settled(entry.seq, &entry.subject, settled),
            Body::Cleared(cleared) => {
                if let Some(fold) = self.decoders.get_mut(&*entry.subject) {
                    fold.held.forget(cleared.unit.as_deref(), cleared.file.as_ref());
                }
            }
            Body::Clock(step) => self.clock(entry.seq, *step, rules),
            Body::Correct(correction) => self.corrections.add(&entry.subject, correction),
            Body::Control(Control::Hold { by }) => self.begin_hold(entry, by),
            Body::Control(Control::Release { how, .. }) => self.end_hold(entry.seq, *how),
            Body::Control(control) => self.losses.follow(control),
            Body::Marker(marker) => self.marker(entry, marker),
            Body::Rejected(_) | Body::Note(_) => {}
        }
    }

    /// Records a marker. If the decoder numbers markers among its reads, the marker's position
    /// counts as stored.
    fn marker(&mut self, entry: &Entry, marker: &Marker) {
        let fold = self.decoder_mut(&entry.subject, entry.seq);
        fold.heard = entry.seq;
        if &*marker.kind == Marker::LET_GO {
            fold.held_back.drop_through(marker.through.unwrap_or(0));
        }
        let Some(position) = &marker.position else { return };
        fold.held.insert_through(position, marker.through.unwrap_or(position.number));
        if let Some(content) = marker.content() {
            fold.held.insert_read(position, content);
        }
    }

    fn decoder_mut(&mut self, decoder: &str, seq: u64) -> &mut DecoderFold {
        if self.decoders.contains_key(decoder) {
            return self.decoders.get_mut(decoder).expect("it is there");
        }
        // This is the first entry of the decoder, so no earlier entry belongs to it.
        let fresh = DecoderFold { cursor: seq - 1, ..DecoderFold::default() };
        self.decoders.entry(decoder.into()).or_insert(fresh)
    }

    fn clock(&mut self, seq: u64, step: Step, rules: &Rules) {
        if step.step_ms != 0 {
            for (source, identity) in self.undated.step(seq, step, &rules.zones) {
                if let Some(fold) = self.decoders.get_mut(&source) {
                    fold.recent.insert(identity);
                }
            }
            for (source, fold) in &mut self.decoders {
                fold.dead.step(seq, step, rules.zones.of(source));
                fold.life.step(step);
            }
        }
        if self.steps.len() == STEPS_MAX {
            self.steps.remove(0);
        }
        self.steps.push((seq, step));
        if step.sets() {
            self.unset_through = 0;
        }
    }

    fn read(&mut self, entry: &Entry, read: &ChipRead, rules: &Rules, found: Recognised) {
        let (seq, decoder, received) = (entry.seq, &*entry.subject, entry.time);
        // A read that is released repeats the entry that was held back, and nothing has waited for
        // it.
        let is_new_entry = read.let_go.is_none();
        if is_new_entry {
            self.count(|counts| counts.kept += 1);
        }
        if let Some((_, of)) = read.let_go.as_deref() {
            self.corrections.let_go(decoder, of.0, seq);
        }
        let again = is_new_entry && self.is_duplicate(entry, read, rules, found);
        let waits = is_new_entry && read.amid_stored && seq > self.waited_through;
        let fold = self.decoder_mut(decoder, seq);
        fold.heard = seq;
        // A released read says nothing about the decoder's memory as it is now.
        if let Some(position) = read.position.as_ref().filter(|_| is_new_entry) {
            fold.held.insert_read(position, read.content());
            fold.held.lives_mut().read(position, read.stamp, received, !read.replay);
        }
        if read.held_back {
            fold.held_back.read(seq, read.stamp, !again);
            if !again {
                return; // no part waits for this read until it is released
            }
        }
        let before = std::mem::replace(&mut fold.last, seq);
        let again = match read.let_go.as_deref() {
            Some((from, of)) => !fold.held_back.let_go(from.0, of.0),
            None => again,
        };
        let verdict = if again {
            ReadVerdict::Duplicate
        } else if rules.dead_time_ms == 0 {
            ReadVerdict::Passing
        } else {
            let seen = SeenAt::of(seq, decoder, read, received, &rules.zones);
            if waits {
                self.undecided.push_back(Undecided { source: decoder.into(), chip: read.chip.clone(), seen });
                ReadVerdict::Waits
            } else {
                fold.judge(&read.chip, seen, rules.dead_time_ms)
            }
        };
        self.duplicates.0 += u64::from(verdict == ReadVerdict::Duplicate && seq >= self.duplicates.1);
        self.count(|counts| match verdict {
            // What is let go twice is no read that was kept: it is only not sent.
            ReadVerdict::Duplicate => {
                counts.duplicates += u64::from(is_new_entry);
                counts.uncovered += 1;
            }
            ReadVerdict::Dead => {
                counts.dead += 1;
                counts.uncovered += 1;
            }
            ReadVerdict::Passing | ReadVerdict::Waits => {}
        });
        if clock::is_undated(&read.stamp) && !clock::box_clock_set(received) {
            self.unset_through = seq;
        }
        if let Some(hold) = &mut self.hold {
            let is_passing = matches!(verdict, ReadVerdict::Passing | ReadVerdict::Waits);
            hold.read(decoder, before, is_passing);
        }
        self.waiting += 1;
        self.tail.push_back(Waiting { read: pending_read(entry, read), verdict });
    }

    /// From here on nothing is numbered. A second hold changes nothing.
    fn begin_hold(&mut self, entry: &Entry, by: &str) {
        self.hold.get_or_insert_with(|| Hold::new(entry.seq, entry.time, by));
        self.turns += 1;
    }

    /// The hold ends with entry `seq`. What is dropped is settled.
    fn end_hold(&mut self, seq: u64, how: Held) {
        self.turns += 1;
        let Some(hold) = self.hold.take() else { return };
        self.released = (seq, hold.reads());
        if how == Held::Send {
            return;
        }
        for (source, HeldReads { before, reads, suppressed }) in hold.sources {
            self.waiting = self.waiting.saturating_sub(reads + suppressed);
            self.count(|counts| {
                counts.uncovered = counts.uncovered.saturating_sub(suppressed);
                counts.dropped += reads;
            });
            if let Some(fold) = self.decoders.get_mut(&source) {
                fold.dead.forget(hold.seq, seq);
                fold.cursor = fold.skipped.add(before, (hold.seq, seq), fold.cursor);
            }
        }
        self.trim_tail();
    }

    /// Whether a read was kept before. After this call it counts as kept.
    fn is_duplicate(&mut self, entry: &Entry, read: &ChipRead, rules: &Rules, found: Recognised) -> bool {
        let (seq, source, received) = (entry.seq, &*entry.subject, entry.time);
        let Recognised { known, which } = found;
        let which = which.unwrap_or_else(|| undated::which(read, source, received, &rules.zones));
        let identities = match (which, read.stamp) {
            (Which::Ever(identities) | Which::Day(identities, _), _) => identities,
            (Which::Life, Stamp::Uptime(ms)) => {
                let life = self.decoder_mut(source, seq).life.hears(seq, ms, read.moment(received));
                read.identities().map(|identity| undated::in_life(identity, life))
            }
            (Which::Life | Which::NoDay, _) => {
                let again = known || self.undated.has(source, read, received, &rules.zones);
                if !again {
                    self.undated.add(seq, source, read, received);
                }
                return again;
            }
        };
        // A location that got a device of its own, or lost it, is in another source since then. A
        // read that the decoder sends again is still the same read.
        let (own, some) = identities.own;
        let others = [Some(identities.other), undated::as_dated(read)];
        let mut again = known
            || source::of(&self.decoders, source::decoder(source)).any(|(name, fold)| {
                let recent = &fold.recent;
                (name != source && recent.has(own)) || others.into_iter().flatten().any(|other| recent.has(other))
            });
        if !again {
            let recent = &mut self.decoder_mut(source, seq).recent;
            again = !recent.insert(own);
            some.map(|some| recent.insert(some));
        }
        if let Which::Day(..) = which {
            again &= !self.undated.take_void(own);
            if !again {
                self.undated.add(seq, source, read, received);
            }
        }
        again
    }

    /// Whether reads wait for stored reads.
    pub(super) fn is_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Checks the reads whose waiting ends with this entry.
    fn end_waiting(&mut self, entry: &Entry, rules: &Rules) {
        if let Body::Note(text) = &entry.body
            && *entry.subject == *WAITED
        {
            let through = text.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(entry.seq);
            self.waited_through = self.waited_through.max(through);
        }
        let Some(first) = self.undecided.front().map(|undecided| undecided.seen.seq) else { return };
        let all = match &entry.body {
            Body::Clock(_) | Body::Control(Control::Hold { .. } | Control::Release { .. }) => true,
            Body::Note(_) => first <= self.waited_through,
            // Never true, because no batch covers a read that waits.
            Body::Upload(UploadEvent::Batch(batch)) => first <= batch.through.0,
            _ => entry.seq - first >= UNDECIDED_SPAN,
        };
        if all {
            self.decide(rules.dead_time_ms, |_| true);
        } else if let Body::Read(read) = &entry.body
            && !read.replay
            && !read.amid_stored
            && read.let_go.is_none()
        {
            let decoder = source::decoder(&entry.subject);
            self.decide(rules.dead_time_ms, |source| source::decoder(source) == decoder);
        }
    }

    /// Checks waiting reads for the dead time, in the order of the decoder's clock.
    fn decide(&mut self, dead_time_ms: i64, which: impl Fn(&str) -> bool) {
        let (rest, mut due) = self.undecided.drain(..).partition::<Vec<_>, _>(|undecided| !which(&undecided.source));
        self.undecided = rest.into();
        due.sort_by_key(|undecided| (undecided.seen.at_ms, undecided.seen.seq));
        for Undecided { source, chip, seen } in due {
            let Some(fold) = self.decoders.get_mut(&source) else { continue };
            let verdict = fold.judge(&chip, seen, dead_time_ms);
            if verdict == ReadVerdict::Dead {
                self.count(|counts| (counts.dead, counts.uncovered) = (counts.dead + 1, counts.uncovered + 1));
                // The begin of a hold ends the waiting, so all that waits now was kept since then.
                self.hold.iter_mut().for_each(|hold| hold.is_dead(&source));
            }
            if let Ok(at) = self.tail.binary_search_by_key(&seen.seq, |waiting| waiting.read.seq.0) {
                self.tail[at].verdict = verdict;
            }
        }
    }

    fn upload(&mut self, seq: u64, event: &UploadEvent) {
        match event {
            UploadEvent::Joined { device, token, alias, next } => {
                let fold = self.device_mut(device);
                let known = fold.sessions.iter().position(|session| session.0 == *token);
                let next = match known.map(|at| fold.sessions.remove(at)) {
                    Some((_, _, before)) => before.max(*next),
                    None => {
                        fold.counts_from_here(token);
                        *next
                    }
                };
                if fold.sessions.len() == SESSIONS_MAX {
                    fold.sessions.remove(0);
                }
                fold.sessions.push((token.clone(), alias.clone(), next));
                fold.joined_in_doubt(token);
            }
            UploadEvent::Batch(batch) => self.batch(seq, batch),
            UploadEvent::Accepted { device, first, last, duplicates } => {
                let fold = self.device_mut(device);
                let settled = fold.settle(*first, *last);
                fold.sent += settled.len() as u64;
                fold.duplicates += duplicates;
                fold.numbered(*last);
                fold.forget_resent();
            }
            UploadEvent::DeadLetter { device, num, again, .. } => {
                let fold = self.device_mut(device);
                for item in fold.take_out(*num, *num) {
                    fold.set_aside = fold.dead_letter_count() + 1;
                    insert_range(&mut fold.dead_letters, item.seq.0);
                    if *again && fold.failing.len() < FAILING_MAX {
                        fold.failing.push(item);
                    }
                }
                fold.numbered(*num);
                fold.forget_resent();
            }
            UploadEvent::Released { device, first, last } => {
                let fold = self.device_mut(device);
                let released = fold.take_out(*first, *last);
                fold.returned.extend(released);
                fold.returned.sort_by_key(|item| item.num);
            }
            UploadEvent::Audited(audited) => self.device_mut(&audited.device).audited(audited),
            UploadEvent::Moved { device, to, items } => self.moved(device, to, items),
            UploadEvent::SendAgain { device, order } => self.device_mut(device).orders.push(order.clone()),
            UploadEvent::Again { device, session, items, next } => {
                let fold = self.device_mut(device);
                for item in items {
                    // None is given twice. If one were, it would still go up once.
                    if fold.waiting_again().all(|known| known.seq != item.seq) {
                        fold.sent = fold.sent.saturating_sub(1);
                        fold.replacing.push((session.clone(), item.clone()));
                    }
                }
                if let Some(order) = fold.orders.first_mut() {
                    order.from = *next;
                }
                fold.orders.retain(|order| order.from <= order.through);
            }
            UploadEvent::Retry { device, items, .. } => self.device_mut(device).retry(items),
            UploadEvent::Dropped { device, items, failing, .. } => {
                let dropped = self.device_mut(device).drop_set_aside(items, failing);
                self.count(|counts| counts.dropped += dropped);
            }
        }
    }

    /// Passings get another device.
    fn moved(&mut self, device: &str, to: &str, items: &[UploadItem]) {
        let seqs: HashSet<u64> = items.iter().map(|item| item.seq.0).collect();
        let returned = &mut self.device_mut(device).returned;
        let mut moved: Vec<UploadItem> = returned.extract_if(.., |item| seqs.contains(&item.seq.0)).collect();
        let replacing = &mut self.device_mut(device).replacing;
        let more = replacing.extract_if(.., |(_, item)| seqs.contains(&item.seq.0)).map(|(_, item)| item);
        moved.extend(more);
        let fold = self.device_mut(to);
        fold.returned.extend(moved);
        // Their numbers belong to sessions of two devices, so the order is that of the
        // journal.
        fold.returned.sort_by_key(|item| item.seq);
    }

    fn batch(&mut self, seq: u64, batch: &Batch) {
        let fold = self.device_mut(&batch.device);
        if !batch.items.is_empty() {
            fold.audit_due(&batch.session);
        }
        if batch.is_resend() {
            // This batch covers no reads. Its numbers were given before, and its passings were
            // counted as sent. If the batch before it is still open, its passings count as settled,
            // as below.
            let unsettled = fold.in_flight.take().map_or(0, |before| before.open.len() as u64);
            fold.sent = (fold.sent + unsettled).saturating_sub(batch.items.len() as u64);
            let id = Seq(seq);
            fold.in_flight = Some(InFlight { id, open: batch.items.clone(), batch: batch.clone() });
            return;
        }
        let taken = || batch.items.iter().map(|item| item.seq).chain(batch.found.iter().map(|found| found.seq));
        let all: HashSet<u64> = taken().map(|seq| seq.0).collect();
        let before = fold.waiting_again().count();
        fold.returned.retain(|item| !all.contains(&item.seq.0));
        fold.resent.extend(fold.replacing.extract_if(.., |(_, item)| all.contains(&item.seq.0)));
        let failing = fold.failing.len();
        fold.failing.retain(|item| !all.contains(&item.seq.0));
        let tried = failing - fold.failing.len();
        fold.no_longer_set_aside(tried as u64);
        let again = before - fold.waiting_again().count() + tried;
        fold.sent += batch.found.len() as u64;
        fold.count_in(&batch.session, |count| count + batch.items.len() as u64);
        for found in &batch.found {
            fold.count_in(&found.session, |count| count + 1);
        }
        if let Some(last) = batch.items.last() {
            if fold.sessions.iter().all(|session| session.0 != batch.session) {
                // The line that joined this session is lost from the log.
                fold.sessions.push((batch.session.clone(), None, 1));
            }
            if let Some(session) = fold.sessions.iter_mut().find(|session| session.0 == batch.session) {
                session.2 = session.2.max(last.num.saturating_add(1));
            }
        }
        let mut open = Vec::new();
        if let Some(before) = fold.in_flight.take() {
            // A batch is formed only when the batch before it is settled, except for the numbers
            // that the new one names in `still_open`. The last acceptance may be missing: a power
            // cut may have torn its line out of the group in which this line survived. The uplink
            // waits for every other line that settles a passing.
            let (still_open, settled): (Vec<_>, Vec<_>) =
                before.open.into_iter().partition(|item| batch.still_open.contains(&item.num));
            fold.sent += settled.len() as u64;
            open = still_open;
        }
        open.extend(batch.items.iter().cloned());
        if !open.is_empty() {
            let id = Seq(seq);
            fold.in_flight = Some(InFlight { id, open, batch: batch.clone() });
        }
        fold.forget_resent();
        let suppressed = (batch.dead.len() + batch.duplicates.len()) as u64;
        self.count(|counts| {
            // Those that were not counted when they came, by an older version, are counted now.
            counts.duplicates += suppressed.saturating_sub(counts.uncovered);
            counts.uncovered = counts.uncovered.saturating_sub(suppressed);
        });
        let covered = taken().count() - again + batch.dead.len() + batch.duplicates.len();
        self.waiting = self.waiting.saturating_sub(covered as u64);
        for decoder in &batch.decoders {
            if let Some(fold) = self.decoders.get_mut(decoder) {
                fold.cursor = fold.skipped.passed(fold.cursor.max(batch.through.0));
            }
        }
        self.trim_tail();
    }

    fn count(&mut self, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = &mut self.counts {
            change(counts);
        }
    }

    /// The reads on this box by what became of them.
    pub(super) fn reads(&self) -> ReadCounts {
        let counts = self.counts.unwrap_or_default();
        let reads = self.accounted(counts);
        // More than were kept are accounted for only after lines of the log were lost.
        let kept = counts.kept.max(reads.sum());
        ReadCounts { kept, expired: kept - reads.sum(), ..reads }
    }

    /// What became of reads.
    fn accounted(&self, counts: Counts) -> ReadCounts {
        let held = self.hold.as_ref().map_or(0, Hold::reads);
        let open = |fold: &DeviceFold| {
            fold.waiting_again().count() as u64 + fold.in_flight.as_ref().map_or(0, |flight| flight.open.len() as u64)
        };
        let devices = || self.devices.values();
        ReadCounts {
            kept: 0,
            in_cloud: devices().map(|fold| fold.sent).sum(),
            waiting: self.waiting.saturating_sub(counts.uncovered + held) + devices().map(open).sum::<u64>(),
            held,
            set_aside: devices().map(DeviceFold::dead_letter_count).sum(),
            held_back: self.decoders.values().map(|fold| fold.held_back.count).sum(),
            duplicates: counts.duplicates,
            dead_time: counts.dead,
            dropped_by_choice: counts.dropped,
            expired: 0,
        }
    }

    /// Whether a batch covers every read, so that the queue holds nothing that this state does not.
    pub(super) fn nothing_waits(&self) -> bool {
        self.undecided.is_empty() && self.decoders.values().all(|fold| fold.last <= fold.cursor)
    }

    /// How far the reads of each decoder are covered by batches.
    pub(super) fn cursors(&self) -> BTreeMap<Box<str>, u64> {
        self.decoders.iter().map(|(name, fold)| (name.clone(), fold.cursor)).collect()
    }

    /// Removes reads that a batch covers from the front of the tail.
    pub(super) fn trim_tail(&mut self) {
        while self.tail.front().is_some_and(|waiting| !self.is_waiting(&waiting.read)) {
            self.tail.pop_front();
        }
    }

    /// Whether no batch covers this read yet, and nobody dropped it.
    pub(super) fn is_waiting(&self, read: &PendingRead) -> bool {
        let seq = read.seq.0;
        self.decoders.get(&*read.decoder).is_none_or(|fold| seq > fold.cursor && !fold.skipped.has(seq))
    }

    fn device_mut(&mut self, device: &str) -> &mut DeviceFold {
        if !self.devices.contains_key(device) {
            let doubt = self.doubted.then(Vec::new);
            self.devices.insert(device.into(), DeviceFold { doubt, ..DeviceFold::default() });
        }
        self.devices.entry(device.into()).or_default()
    }

    /// What the uplink needs to know about a device.
    pub(super) fn device(&self, device: &str) -> DeviceState {
        let Some(fold) = self.devices.get(device) else {
            return DeviceState { doubt: self.doubted.then(Vec::new), ..DeviceState::default() };
        };
        let session = fold.sessions.last();
        DeviceState {
            session: session.map(|(token, alias, _)| (token.clone(), alias.clone())),
            next: session.map_or(0, |session| session.2),
            in_flight: fold.in_flight.clone(),
            sent: fold.sent,
            duplicates: fold.duplicates,
            dead_letters: fold.dead_letter_count(),
            doubt: fold.doubt.clone(),
            given: fold.sessions.iter().map(|(token, _, next)| (token.clone(), *next)).collect(),
            failing: fold.failing.clone(),
            first: 0, // the journal fills this in
        }
    }

    /// Devices with passings that are numbered or released and not settled.
    pub(super) fn unsettled(&self) -> BTreeMap<Box<str>, Unsettled> {
        let of = |fold: &DeviceFold| Unsettled {
            in_flight: fold.in_flight.as_ref().map_or(0, |flight| flight.open.len()),
            released: fold.waiting_again().count(),
        };
        let all = self.devices.iter().map(|(device, fold)| (device.clone(), of(fold)));
        all.filter(|(_, unsettled)| unsettled.count() > 0).collect()
    }

    /// Call this when log lines are lost that may have numbered passings, or that may have been
    /// reads that the decoder sends again. No new passing is numbered before the uplink has asked
    /// the cloud what it holds.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
        for fold in self.devices.values_mut() {
            fold.doubt_all();
        }
    }

    /// Continues from `later`, the state at the head of a log segment before which lines are
    /// missing. `later` knows how those lines changed cursors and numbers. The waiting reads and
    /// the remembered identities of this state are kept.
    pub(super) fn catch_up(&mut self, later: Self, rules: &Rules) {
        self.decide(rules.dead_time_ms, |_| true);
        let mut recent: BTreeMap<Box<str>, Recent> =
            self.decoders.iter_mut().map(|(name, fold)| (name.clone(), std::mem::take(&mut fold.recent))).collect();
        let (identity, tail) = (std::mem::take(&mut self.identity), std::mem::take(&mut self.tail));
        *self = Self { identity, tail, duplicates: self.duplicates, ..later };
        for (name, fold) in &mut self.decoders {
            fold.recent = recent.remove(name).unwrap_or_default();
        }
        self.trim_tail();
    }

    /// The lowest entry that an upload may still need. `None`: everything is settled.
    pub(super) fn needed_from(&self) -> Option<u64> {
        let devices = self.devices.values().flat_map(|fold| {
            let open = fold.in_flight.iter().flat_map(|flight| flight.open.iter()).chain(fold.waiting_again());
            open.map(|item| item.seq.0)
        });
        let decoders = self.decoders.values().filter(|fold| fold.last > fold.cursor).map(|fold| fold.cursor + 1);
        devices.chain(decoders).min()
    }

    /// Whether a passing that is set aside, or a read that is held back, is among the entries
    /// `first..next`.
    pub(super) fn has_set_aside(&self, first: u64, next: u64) -> bool {
        let within =
            |ranges: &BTreeMap<u64, u64>| ranges.range(..next).next_back().is_some_and(|(_, last)| *last >= first);
        self.devices.values().any(|fold| within(&fold.dead_letters))
            || self.decoders.values().any(|fold| within(&fold.held_back.ranges))
    }

    /// Adds the identities of the newest reads, which a checkpoint stores beside the serialised
    /// state.
    pub(super) fn adopt(&mut self, decoder: &str, identities: impl IntoIterator<Item = u64>) {
        if let Some(fold) = self.decoders.get_mut(decoder) {
            for identity in identities {
                fold.recent.insert(identity);
            }
        }
    }
}

impl DeviceFold {
    /// Takes the open items with numbers in `first..=last` out of the batch in flight, and returns
    /// them.
    fn settle(&mut self, first: u64, last: u64) -> Vec<UploadItem> {
        let Some(flight) = &mut self.in_flight else { return Vec::new() };
        let settled = flight.open.extract_if(.., |item| (first..=last).contains(&item.num)).collect();
        if flight.open.is_empty() {
            self.in_flight = None;
        }
        settled
    }

    /// Like [`DeviceFold::settle`], for passings that do not get into their session under these
    /// numbers.
    fn take_out(&mut self, first: u64, last: u64) -> Vec<UploadItem> {
        let session = self.in_flight.as_ref().map(|flight| flight.batch.session.clone());
        let out = self.settle(first, last);
        if let Some(session) = session {
            self.count_in(&session, |count| count.saturating_sub(out.len() as u64));
        }
        out
    }

    /// The session is joined for the first time: every passing in it will be counted.
    fn counts_from_here(&mut self, token: &str) {
        if self.numbered_in.iter().any(|(known, _)| **known == *token) {
            return;
        }
        if self.numbered_in.len() == SESSIONS_MAX {
            self.numbered_in.remove(0);
        }
        self.numbered_in.push((token.into(), 0));
    }

    fn count_in(&mut self, token: &str, change: impl FnOnce(u64) -> u64) {
        if let Some((_, count)) = self.numbered_in.iter_mut().find(|(known, _)| **known == *token) {
            *count = change(*count);
        }
    }

    /// The oldest read of those that are numbered or released, and that never were in the cloud.
    pub(super) fn oldest_open(&self) -> Option<Seq> {
        let flight = self.in_flight.iter().filter(|flight| !flight.batch.is_resend());
        let open = flight.flat_map(|flight| &flight.open).chain(&self.returned).map(|item| item.seq);
        open.filter(|seq| self.resent.iter().all(|(_, item)| item.seq != *seq)).min()
    }

    /// Forgets what the cloud had of passings that are neither in flight nor released.
    fn forget_resent(&mut self) {
        let Self { resent, in_flight, returned, .. } = self;
        let open = || in_flight.iter().flat_map(|flight| &flight.open).chain(&*returned);
        resent.retain(|(_, sent)| open().any(|item| item.seq == sent.seq));
    }

    /// Passings that had a number once and wait for a new one: first those that are in no session.
    pub(super) fn waiting_again(&self) -> impl Iterator<Item = &UploadItem> {
        self.returned.iter().chain(self.replacing.iter().map(|(_, item)| item))
    }

    /// Passings that were set aside wait for a new number.
    fn retry(&mut self, items: &[UploadItem]) {
        let open: HashSet<u64> = self.in_flight.iter().flat_map(|flight| &flight.open).map(|item| item.seq.0).collect();
        let is_new =
            |item: &&UploadItem| !open.contains(&item.seq.0) && self.waiting_again().all(|known| known.seq != item.seq);
        let new: Vec<UploadItem> = items.iter().filter(is_new).cloned().collect();
        self.no_longer_set_aside(new.len() as u64);
        self.returned.extend(new);
    }

    /// Passings that are set aside are never sent. Returns how many they are.
    fn drop_set_aside(&mut self, items: &[Seq], failing: &[Seq]) -> u64 {
        let known = self.failing.len();
        self.failing.retain(|item| !failing.contains(&item.seq));
        let dropped = (items.len() + known - self.failing.len()) as u64;
        self.no_longer_set_aside(dropped);
        dropped
    }

    /// This many passings are not set aside any more. The ranges still include them, so their segments
    /// are kept longer.
    fn no_longer_set_aside(&mut self, count: u64) {
        self.set_aside = self.dead_letter_count().saturating_sub(count);
        if self.set_aside == 0 {
            self.dead_letters.clear();
        }
    }

    fn audit_due(&mut self, token: &str) {
        if let Some(known) = self.audits.iter_mut().find(|audit| *audit.token == *token) {
            known.due = true;
            return;
        }
        if self.audits.len() == SESSIONS_MAX {
            self.audits.remove(0);
        }
        self.audits.push(SessionAudit { token: token.into(), due: true, last: None });
    }

    fn audited(&mut self, audited: &Audited) {
        self.audit_due(&audited.token);
        for audit in self.audits.iter_mut().filter(|audit| audit.token == audited.token) {
            (audit.due, audit.last) = (audited.active, Some(audited.clone()));
        }
    }

    pub(super) fn dead_letter_count(&self) -> u64 {
        match self.set_aside {
            0 => self.dead_letters.iter().map(|(first, last)| last - first + 1).sum(),
            count => count,
        }
    }

    /// Makes the session continue above `num`, even if the line that gave this number is lost from
    /// the log.
    fn numbered(&mut self, num: u64) {
        if let Some(session) = self.sessions.last_mut().filter(|_| self.in_flight.is_none()) {
            session.2 = session.2.max(num.saturating_add(1));
        }
    }

    fn doubt_all(&mut self) {
        // Passings that the lost lines numbered are not counted.
        self.numbered_in.clear();
        self.doubt = Some(self.sessions.last().map(|session| session.0.clone()).into_iter().collect());
    }

    /// The doubt is about passings that were sent around the time of the loss. It ends when
    /// [`DOUBTED_MAX`] sessions are known and one more is joined.
    fn joined_in_doubt(&mut self, token: &str) {
        let Some(sessions) = self.doubt.as_mut().filter(|sessions| sessions.iter().all(|known| **known != *token))
        else {
            return;
        };
        if sessions.len() < DOUBTED_MAX {
            sessions.push(token.into());
        } else {
            self.doubt = None;
        }
    }
}

impl DecoderFold {
    /// Last read or marker of the decoder.
    pub(super) fn newest(&self) -> u64 {
        self.heard.max(self.last)
    }

    fn judge(&mut self, chip: &str, seen: SeenAt, dead_time_ms: i64) -> ReadVerdict {
        if self.dead.is_dead(chip, seen, &self.life, dead_time_ms) { ReadVerdict::Dead } else { ReadVerdict::Passing }
    }
}

/// What the uplink needs of a read.
pub(super) fn pending_read(entry: &Entry, read: &ChipRead) -> PendingRead {
    // What stands for its receipt: the form of the queue on the disk has no place for its age.
    let received = read.moment(entry.time);
    let (chip, stamp, replay) = (read.chip.clone(), read.stamp, read.replay);
    let (seq, decoder) = (Seq(entry.seq), entry.subject.clone());
    PendingRead { seq, decoder, received, chip, stamp, replay, corrected_ms: 0, zone: None }
}

fn insert_range(ranges: &mut BTreeMap<u64, u64>, seq: u64) {
    match ranges.range_mut(..=seq).next_back() {
        Some((_, last)) if *last + 1 >= seq => *last = (*last).max(seq),
        _ => {
            ranges.insert(seq, seq);
        }
    }
    while ranges.len() > RANGES_MAX
        && let Some((first, _)) = ranges.pop_first()
        && let Some((_, last)) = ranges.pop_first()
    {
        ranges.insert(first, last);
    }
}

/// The identities of the newest reads of a decoder, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recent {
    order: VecDeque<u64>,
    known: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// How many identities were ever added: the place of the newest one.
    pub added: u64,
}

impl Recent {
    /// Adds an identity. Returns `false` if it was known.
    pub(super) fn insert(&mut self, identity: u64) -> bool {
        if !self.known.insert(identity) {
            return false;
        }
        if self.order.len() >= failpoint::recent(RECENT_MAX)
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(identity);
        self.added += 1;
        true
    }

    /// The newest identities, at most `count`, oldest first.
    pub(super) fn newest(&self, count: usize) -> impl Iterator<Item = u64> + '_ {
        self.order.iter().skip(self.order.len().saturating_sub(count)).copied()
    }

    /// Whether this identity is remembered.
    pub(super) fn has(&self, identity: u64) -> bool {
        self.known.contains(&identity)
    }

    /// How many identities are remembered.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests;
