//! The invariants, and what is known so far. The ledger receives what would survive a power cut,
//! and what is shown and sent. The numbers are those of the list in the parent's head.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::Device;
use super::rules::{HistoryVerdict, stamped_ms, verdicts};
use crate::cloud::uplink::machine::{Done, Outcome};
use crate::cloud::uplink::model::Cloud;
use crate::decoders::{Frame, Framed};
use crate::journal::control::{Control, Held};
use crate::journal::driven::{Durable, entries, segments};
use crate::journal::entry::{Body, Entry};
use crate::journal::{Batch, DeviceState, Found, Kept, Pending, UploadEvent, UploadItem};
use crate::model::chip::{ChipRead, Seq};
use crate::model::correction::Corrections;
use crate::status::{Problem, ReadCounts};

/// What happened to a passing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Accepted,
    Aside(Box<str>),
    Released,
    /// It is in the cloud and is sent again with another time.
    Replaced,
    /// It was set aside, and somebody dropped it.
    Dropped,
}

/// A number in a session, and its passing.
#[derive(Clone, Debug)]
struct Numbered {
    device: Box<str>,
    token: Box<str>,
    item: UploadItem,
    fate: Fate,
}

/// A session of a device: device and token.
type Session = (Box<str>, Box<str>);

#[derive(Default)]
pub(super) struct Ledger {
    /// Index of each decoder's device.
    devices: BTreeMap<Box<str>, usize>,
    dead_time: Duration,
    /// Events and how often each happened. A model without trouble proves nothing.
    pub(super) tally: BTreeMap<&'static str, u64>,
    /// The first invariant that does not hold.
    broken: Option<String>,
    durable: Durable,
    /// Every entry that was ever durable, by its number.
    kept: BTreeMap<u64, Entry>,
    /// Segments at the last look.
    segments: Vec<u64>,
    /// Every entry below this number is rightly pruned.
    pruned_below: u64,
    /// The queue was rebuilt after entries were pruned, so repeats may count as passings.
    forgetful: bool,
    /// Numbered reads, by sequence number, with their last number in a session.
    numbered: BTreeMap<u64, Numbered>,
    /// The passing of each number of a session.
    numbers: HashMap<(Session, u64), UploadItem>,
    top: HashMap<Session, u64>,
    /// Passings that were released alone: those at which the cloud failed are left out of the next
    /// batches.
    alone: HashSet<u64>,
    /// Reads that later ones may overtake: they got a second number in one session, or the cloud
    /// failed at them and the next batch went on without them.
    out_of_turn: HashSet<u64>,
    judged: BTreeMap<u64, HistoryVerdict>,
    /// The entry of the hold that is not released.
    hold: Option<u64>,
    /// Entry of each hold and of its release, if the reads in between were dropped.
    dropped: Vec<(u64, u64)>,
    /// The same of the holds whose reads were sent.
    sent_later: Vec<(u64, u64)>,
    /// What was corrected after each correction, in the order of the log.
    corrected: Vec<Corrections>,
    /// By device: how many corrections were durable when its last batch was formed.
    formed: HashMap<Box<str>, usize>,
    /// Numbers whose passings were sent again under other numbers.
    replaced: HashSet<(Session, u64)>,
    /// By device: number of reads that were found in the cloud and not sent.
    found: HashMap<Box<str>, u64>,
    /// By device: the batch that is not settled, according to the durable log.
    in_flight: HashMap<Box<str>, Vec<UploadItem>>,
    /// By device: the passings that are not settled, according to the uplink.
    open: HashMap<Box<str>, BTreeMap<u64, UploadItem>>,
}

impl Ledger {
    pub(super) fn new(decoders: impl Iterator<Item = (Box<str>, usize)>, dead_time: Duration) -> Self {
        Self { devices: decoders.collect(), dead_time, ..Self::default() }
    }

    /// `Err`: the first invariant that does not hold, with its number.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(super) fn count(&mut self, what: &'static str, times: usize) {
        *self.tally.entry(what).or_default() += times as u64;
    }

    /// Somebody changed the session. If the uplink says that all that waited went up before, it did.
    pub(super) fn ordered(&mut self, done: &Done, pending: &Pending) {
        if !matches!(done.outcome, Outcome::Opened { .. } | Outcome::Closed { .. }) {
            return self.count("orders about the session that were not carried out", 1);
        }
        match done.settled {
            true => self.count("sessions changed by hand after all that waited went up", 1),
            false => self.count("sessions changed by hand while something waited", 1),
        }
        let left = || format!("{done:?} left {:?}", pending.reads);
        self.must(!done.settled || pending.reads.is_empty(), 7, left);
    }

    fn must(&mut self, holds: bool, invariant: u8, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("invariant {invariant}: {}", what()));
        }
    }

    // ---- what is durable

    /// Takes in what became durable.
    pub(super) fn refresh(&mut self, dir: &Path) {
        for entry in self.durable.news(dir) {
            let seq = entry.seq;
            if let Some(before) = self.kept.get(&seq) {
                let (same, text) = (*before == entry, format!("{before:?} became {entry:?}"));
                self.must(same, 2, || text);
                continue;
            }
            if let Body::Upload(event) = &entry.body {
                self.event(event);
            }
            if let Body::Correct(correction) = &entry.body {
                self.count("corrections", 1);
                let mut all = self.corrected.last().cloned().unwrap_or_default();
                all.add(&entry.subject, correction);
                self.corrected.push(all);
            }
            if let Body::Control(control) = &entry.body {
                self.decided(seq, control);
            }
            self.kept.insert(seq, entry);
        }
        self.segments = segments(dir).into_iter().map(|segment| segment.0).collect();
    }

    fn event(&mut self, event: &UploadEvent) {
        match event {
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. } => {}
            UploadEvent::Retry { items, .. } => self.retried(items),
            UploadEvent::Dropped { items, failing, .. } => self.dropped_aside(items, failing),
            UploadEvent::Again { device, session, items, .. } => self.again(device, session, items),
            UploadEvent::Batch(batch) => self.batch(batch),
            UploadEvent::Accepted { device, first, last, .. } => self.settle(device, *first, *last, &Fate::Accepted),
            UploadEvent::DeadLetter { device, num, answer, .. } => {
                self.settle(device, *num, *num, &Fate::Aside(answer.clone()));
            }
            UploadEvent::Released { device, first, last } => {
                let open = self.in_flight.get(device).into_iter().flatten();
                self.alone.extend(open.filter(|item| first == last && item.num == *first).map(|item| item.seq.0));
                self.settle(device, *first, *last, &Fate::Released);
            }
        }
    }

    /// The box was put on hold, or released.
    fn decided(&mut self, seq: u64, control: &Control) {
        let Control::Release { how, from, .. } = control else {
            if self.hold.is_none() {
                self.count("holds", 1);
                self.hold = Some(seq);
            }
            return;
        };
        // Somebody may ask twice before the first line is durable. The first one decides.
        let Some(hold) = self.hold.take() else { return };
        self.must(hold == from.0, 10, || format!("{control:?} ends the hold {hold}"));
        if *how == Held::Send {
            self.count("holds that were released and sent", 1);
            return self.sent_later.push((from.0, seq));
        }
        self.dropped.push((from.0, seq));
        // What the rules say about these reads holds from now on, whatever comes later.
        for decoder in self.devices.keys().cloned().collect::<Vec<_>>() {
            let all = verdicts(self.reads(&decoder).into_iter(), self.dead_time, &self.dropped);
            let of_hold: Vec<_> = all.into_iter().filter(|(read, _)| (from.0..seq).contains(read)).collect();
            let dropped = of_hold.iter().filter(|(_, verdict)| *verdict == HistoryVerdict::Dropped).count();
            self.count("reads dropped by choice", dropped);
            self.judged.extend(of_hold);
        }
    }

    /// A passing gets a number. It must not, if it was kept in a hold that is not over or whose reads
    /// were dropped.
    fn of_no_hold(&mut self, item: &UploadItem) {
        let seq = item.seq.0;
        let within = |(from, to): &(u64, u64)| (*from..*to).contains(&seq);
        let held = self.hold.is_some_and(|hold| seq > hold) || self.dropped.iter().any(within);
        self.must(!held, 10, || format!("{item:?} is numbered, and was kept on hold"));
        let later = self.sent_later.iter().any(within);
        self.count("passings numbered after a hold in which they were kept", usize::from(later));
    }

    /// Somebody released passings that were set aside.
    fn retried(&mut self, items: &[UploadItem]) {
        self.count("passings set aside and released", items.len());
        for item in items {
            self.out_of_turn.insert(item.seq.0);
            match self.numbered.get_mut(&item.seq.0).filter(|it| matches!(it.fate, Fate::Aside(_))) {
                Some(numbered) => numbered.fate = Fate::Released,
                None => self.must(false, 4, || format!("{item:?} is released, and is not set aside")),
            }
        }
    }

    /// Somebody dropped passings that were set aside.
    fn dropped_aside(&mut self, items: &[Seq], failing: &[Seq]) {
        for seq in items.iter().chain(failing) {
            match self.numbered.get_mut(&seq.0).map(|numbered| &mut numbered.fate) {
                Some(fate @ Fate::Aside(_)) => {
                    *fate = Fate::Dropped;
                    self.count("passings set aside and dropped", 1);
                }
                other => {
                    let text = format!("{seq:?} is dropped, and is {other:?}");
                    self.must(failing.contains(seq), 10, || text);
                }
            }
        }
    }

    /// The passings of a device that are set aside.
    pub(super) fn aside(&self, device: &str) -> Vec<UploadItem> {
        let is_aside = |it: &&Numbered| *it.device == *device && matches!(it.fate, Fate::Aside(_));
        self.numbered.values().filter(is_aside).map(|numbered| numbered.item.clone()).collect()
    }

    /// Passings in the cloud are sent again with another time.
    fn again(&mut self, device: &str, session: &str, items: &[UploadItem]) {
        self.count("passings sent again with another time", items.len());
        for item in items {
            self.replaced.insert(((device.into(), session.into()), item.num));
            self.out_of_turn.insert(item.seq.0);
            let numbered = self.numbered.get_mut(&item.seq.0);
            let numbered = numbered.filter(|it| it.fate == Fate::Accepted && it.item == *item && *it.token == *session);
            match numbered {
                Some(numbered) => numbered.fate = Fate::Replaced,
                None => self.must(false, 4, || format!("{item:?} is sent again, and is not in {session}")),
            }
        }
    }

    /// The passings of a device in one session that are in the cloud with a time that is not the
    /// right one, and were not sent again before.
    pub(super) fn wrong(&self, device: &str, most: usize) -> Option<(Box<str>, Vec<UploadItem>)> {
        let all = self.corrected.last()?;
        let wrong = |(seq, numbered): &(&u64, &Numbered)| {
            let right = self.kept.get(*seq).map(|entry| all.shift_ms(&entry.subject, **seq));
            let session = (numbered.device.clone(), numbered.token.clone());
            *numbered.device == *device
                && numbered.fate == Fate::Accepted
                && right.is_some_and(|right| right != numbered.item.corrected_ms)
                && self.replaced.iter().all(|(of, num)| *of != session || *num != numbered.item.num)
                && !self.out_of_turn.contains(*seq)
        };
        let found: Vec<&Numbered> =
            self.numbered.range(self.pruned_below..).filter(wrong).map(|(_, numbered)| numbered).collect();
        let token = found.first()?.token.clone();
        let items = found.into_iter().filter(|numbered| numbered.token == token).take(most);
        let items = items.map(|numbered| numbered.item.clone()).collect();
        Some((token, items))
    }

    /// A batch is formed.
    pub(super) fn forming(&mut self, dir: &Path, device: &str) {
        self.refresh(dir);
        self.formed.insert(device.into(), self.corrected.len());
    }

    /// The passing has the time of its stamp, and the corrections of the moment at which its batch
    /// was formed, or of a moment between that and its line.
    fn timed(&mut self, device: &str, item: &UploadItem) {
        let Some(Entry { subject, body: Body::Read(read), .. }) = self.kept.get(&item.seq.0) else { return };
        let formed = self.formed.get(device).copied().unwrap_or(0);
        let none = Corrections::default();
        let at = |count: usize| count.checked_sub(1).and_then(|last| self.corrected.get(last)).unwrap_or(&none);
        let known =
            (formed..=self.corrected.len()).any(|count| at(count).shift_ms(subject, item.seq.0) == item.corrected_ms);
        let right = known && item.time_ms == stamped_ms(read) + item.corrected_ms;
        let text = format!("{item:?} has the time of no moment at which its batch was formed: {read:?}");
        self.must(right, 10, || text);
    }

    fn batch(&mut self, batch: &Batch) {
        let before = self.in_flight.remove(&batch.device).unwrap_or_default();
        let (still_open, settled): (Vec<UploadItem>, _) =
            before.into_iter().partition(|item| batch.still_open.contains(&item.num));
        let newest = batch.items.iter().map(|item| item.seq.0).max().unwrap_or(0);
        let left_out =
            self.alone.iter().filter(|seq| **seq < newest && !batch.items.iter().any(|item| item.seq.0 == **seq));
        self.out_of_turn.extend(left_out.chain(&still_open.iter().map(|item| item.seq.0).collect::<Vec<_>>()));
        self.in_flight.insert(batch.device.clone(), settled);
        // A power cut may have lost the last acceptance from the group in which this line survived.
        self.settle(&batch.device, 0, u64::MAX, &Fate::Accepted);
        let session: Session = (batch.device.clone(), batch.session.clone());
        let mut top = self.top.get(&session).copied().unwrap_or(0);
        for item in &batch.items {
            self.of_no_hold(item);
            self.must(item.num > top, 3, || format!("{} after number {top}: {item:?}", batch.session));
            top = item.num;
            let before = self.numbers.insert((session.clone(), item.num), item.clone());
            self.must(before.is_none(), 3, || format!("{before:?} became {item:?}"));
            let (device, token) = session.clone();
            let numbered = Numbered { device, token, item: item.clone(), fate: Fate::Open };
            let before = self.numbered.insert(item.seq.0, numbered);
            if before.as_ref().is_some_and(|before| before.token == batch.session) {
                self.out_of_turn.insert(item.seq.0);
            }
            let again = before.as_ref().is_none_or(|it| matches!(it.fate, Fate::Released | Fate::Replaced));
            self.must(again, 4, || format!("{item:?} is numbered again in {}; before: {before:?}", batch.session));
            let kept = self.kept.contains_key(&item.seq.0);
            self.must(kept, 1, || format!("{item:?} is numbered before it is kept"));
            self.timed(&batch.device, item);
        }
        self.top.insert(session, top);
        let is_there = |found: &&Found| {
            let numbered = self.numbered.get(&found.seq.0);
            numbered.is_some_and(|it| it.fate == Fate::Replaced && it.item == found.item())
        };
        let (there, found): (Vec<&Found>, Vec<&Found>) = batch.found.iter().partition(is_there);
        for found in &there {
            if let Some(numbered) = self.numbered.get_mut(&found.seq.0) {
                numbered.fate = Fate::Accepted;
            }
            self.replaced.remove(&((batch.device.clone(), found.session.clone()), found.num));
        }
        self.count("corrections taken back before they went up", there.len());
        let dead = batch.dead.iter().map(|seq| (seq.0, HistoryVerdict::Dead));
        // No stored line is ever lost here, so a passing that the cloud already holds is a repeat
        // that was forgotten.
        let duplicates = batch.duplicates.iter().copied().chain(found.iter().map(|found| found.seq));
        self.judged.extend(dead.chain(duplicates.map(|seq| (seq.0, HistoryVerdict::Repeat))));
        *self.found.entry(batch.device.clone()).or_default() += found.len() as u64;
        self.count("found in the cloud", found.len());
        let mut open: Vec<UploadItem> = still_open;
        open.extend(batch.items.iter().cloned());
        self.in_flight.insert(batch.device.clone(), open);
    }

    fn settle(&mut self, device: &str, first: u64, last: u64, fate: &Fate) {
        let Some(open) = self.in_flight.get_mut(device) else { return };
        for item in open.extract_if(.., |item| (first..=last).contains(&item.num)) {
            if let Some(numbered) = self.numbered.get_mut(&item.seq.0) {
                numbered.fate = fate.clone();
            }
        }
    }

    /// A process opened the directory. Everything that was durable must be in it, unchanged.
    pub(super) fn restarted(&mut self, dir: &Path) {
        self.durable = Durable::default();
        self.count("starts", 1);
        self.all_there(dir);
        self.refresh(dir);
    }

    fn all_there(&mut self, dir: &Path) {
        let found = entries(dir);
        let lost = self.kept.range(self.pruned_below..).find(|(seq, entry)| found.get(seq) != Some(entry));
        let lost = lost.map(|(seq, entry)| format!("it was durable: {entry:?}, and there is {:?}", found.get(seq)));
        self.must(lost.is_none(), 2, || lost.unwrap_or_default());
    }

    /// The queue was rebuilt, or may have to be rebuilt.
    pub(super) fn rebuilt(&mut self) {
        self.forgetful |= self.pruned_below > 0;
        self.count("rebuilds of the queue", 1);
    }

    /// Segments may have been removed since the last look. No entry in them may be needed.
    pub(super) fn pruned(&mut self, dir: &Path) {
        let left: BTreeSet<u64> = segments(dir).into_iter().map(|segment| segment.0).collect();
        let before = std::mem::take(&mut self.segments);
        for pair in before.windows(2).filter(|pair| !left.contains(&pair[0])) {
            let needed = self.kept.range(pair[0]..pair[1]).find(|(seq, entry)| {
                let fate = self.numbered.get(seq).map(|numbered| &numbered.fate);
                let settled = matches!(fate, Some(Fate::Accepted | Fate::Dropped)) || self.judged.contains_key(seq);
                matches!(entry.body, Body::Read(_)) && !settled
            });
            let needed = needed.map(|(_, entry)| format!("it is pruned and not settled: {entry:?}"));
            self.must(needed.is_none(), 6, || needed.unwrap_or_default());
            self.pruned_below = self.pruned_below.max(pair[1]);
            self.count("segments pruned", 1);
        }
        let last = before.last().is_none_or(|last| left.contains(last));
        self.must(last, 6, || format!("the last segment is gone: {before:?}, {left:?}"));
        self.refresh(dir);
    }

    // ---- what is shown and sent

    /// `append` returned.
    pub(super) fn acknowledged(&mut self, dir: &Path, decoder: &str, frames: &[Framed], kept: Kept) {
        self.refresh(dir);
        self.count("frames acknowledged", frames.len());
        let count = kept.last.0 + 1 - kept.first.0;
        self.must(count == frames.len() as u64, 2, || format!("{count} numbers for {} frames", frames.len()));
        for (framed, seq) in frames.iter().zip(kept.first.0..) {
            let entry = self.kept.get(&seq);
            let whole = entry.is_some_and(|entry| *entry.subject == *decoder && is_frame(entry, framed));
            let text = format!("number {seq} was acknowledged for {framed:?}; durable is {entry:?}");
            self.must(whole, if entry.is_none() { 1 } else { 2 }, || text);
        }
    }

    /// The board shows this number as durable.
    pub(super) fn shown(&mut self, durable: u64) {
        let head = self.kept.last_key_value().map_or(0, |last| *last.0);
        self.must(durable <= head, 1, || format!("{durable} is shown as durable, and {head} is"));
    }

    pub(super) fn tail(&mut self, (length, most): (usize, usize)) {
        self.must(length <= most, 6, || format!("{length} reads in memory"));
    }

    /// No entry is lost, so the journal must report no loss.
    pub(super) fn not_lost(&mut self, lost: &[(u64, u64)], problems: &[Problem]) {
        self.must(lost.is_empty(), 2, || {
            format!("the check of the log says that these are gone: {lost:?}; {problems:?}")
        });
        let codes = ["journal_lost", "log_lost", "log_unreadable"];
        let told = problems.iter().find(|problem| codes.contains(&&*problem.code));
        self.must(told.is_none(), 2, || format!("a loss is told: {told:?}"));
    }

    pub(super) fn uplink_started(&mut self, device: &str, state: &DeviceState) {
        let open = state.in_flight.iter().flat_map(|flight| flight.open.iter().cloned());
        let open: BTreeMap<u64, UploadItem> = open.map(|item| (item.num, item)).collect();
        let durable: BTreeSet<u64> = self.in_flight.get(device).into_iter().flatten().map(|item| item.num).collect();
        let same = open.keys().eq(&durable);
        self.must(same, 3, || format!("{device} starts with {:?} open, the log says {durable:?}", open.keys()));
        self.open.insert(device.into(), open);
    }

    /// The uplink asks to record an event.
    pub(super) fn recording(&mut self, dir: &Path, event: &UploadEvent, cloud: &Cloud) {
        self.refresh(dir);
        match event {
            UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Again { .. }
            | UploadEvent::Retry { .. }
            | UploadEvent::Dropped { .. } => {}
            UploadEvent::Batch(batch) => {
                let before = self.open.remove(&batch.device).unwrap_or_default();
                let named = before.keys().eq(&batch.still_open);
                self.must(named, 3, || format!("a batch is formed while {before:?} is in flight"));
                let open = before.into_iter().chain(by_number(&batch.items)).collect();
                self.open.insert(batch.device.clone(), open);
                let there = batch.items.iter().find(|item| !self.forgetful && held(cloud, None, item) > 0).cloned();
                self.must(there.is_none(), 4, || format!("the cloud holds {there:?}, and it is numbered anew"));
                let none = batch.found.iter().find(|found| !holds(cloud, found)).cloned();
                self.must(none.is_none(), 4, || format!("{none:?} is not sent, and the cloud does not hold it"));
            }
            UploadEvent::Accepted { device, first, last, .. } => {
                for (token, item) in self.take(device, *first, *last) {
                    let there = held(cloud, Some(&token), &item);
                    self.must(there > 0, 4, || format!("{item:?} counts as accepted, and {token} does not hold it"));
                }
            }
            UploadEvent::DeadLetter { device, num, answer, .. } => {
                self.count("passings set aside", 1);
                for (_, item) in self.take(device, *num, *num) {
                    let bad = item.chip.starts_with("BAD") || answer.starts_with("passbridge: the cloud reported");
                    self.must(bad, 5, || format!("{item:?} is set aside: {answer}"));
                    self.must(held(cloud, None, &item) == 0, 4, || format!("{item:?} is set aside and in the cloud"));
                }
            }
            UploadEvent::Released { device, first, last } => {
                self.count("releases", 1);
                for (token, item) in self.take(device, *first, *last) {
                    let there = held(cloud, Some(&token), &item);
                    self.must(there == 0, 4, || format!("{item:?} is released, and {token} holds it"));
                }
            }
        }
    }

    /// The uplink is told that a batch was written with its reads. Those up to `before` were there
    /// when the uplink made the offer: they waited.
    pub(super) fn told(&mut self, dir: &Path, batch: &Batch, before: Seq, cloud: &Cloud) {
        self.refresh(dir);
        self.count("batches written with their reads", 1);
        let waited = batch.items.first().is_some_and(|item| item.seq <= before);
        self.count("batches of reads that waited, written with the next", usize::from(waited));
        let there = batch.items.iter().find(|item| !self.forgetful && held(cloud, None, item) > 0).cloned();
        self.must(there.is_none(), 4, || format!("the cloud holds {there:?}, and it is numbered anew"));
        let before = self.open.insert(batch.device.clone(), by_number(&batch.items)).unwrap_or_default();
        self.must(before.is_empty(), 3, || format!("{batch:?} is formed while {before:?} is in flight"));
    }

    /// Takes numbers out of the open passings, and returns them with the session of each.
    fn take(&mut self, device: &str, first: u64, last: u64) -> Vec<(Box<str>, UploadItem)> {
        let Some(open) = self.open.get_mut(device) else { return Vec::new() };
        let taken: Vec<UploadItem> = open.extract_if(first..=last, |_, _| true).map(|(_, item)| item).collect();
        let token = |item: &UploadItem| self.numbered.get(&item.seq.0).map(|numbered| numbered.token.clone());
        taken.into_iter().filter_map(|item| Some((token(&item)?, item))).collect()
    }

    /// A POST is sent.
    pub(super) fn posting(&mut self, dir: &Path, device: &str, token: &str, items: &[UploadItem]) {
        self.refresh(dir);
        self.count("POSTs", 1);
        let rising = items.windows(2).all(|pair| pair[0].num < pair[1].num);
        self.must(rising, 3, || format!("numbers do not rise: {items:?}"));
        for item in items {
            let line = self.numbered.get(&item.seq.0).filter(|line| &*line.token == token && &*line.device == device);
            let same = line.is_some_and(|line| line.item == *item);
            let text =
                format!("{item:?} is sent to {token}; the durable log says {:?}", self.numbered.get(&item.seq.0));
            self.must(same, if line.is_none() { 1 } else { 3 }, || text);
            let open = self.open.get(device).is_some_and(|open| open.contains_key(&item.num));
            self.must(open, 3, || format!("{item:?} is sent and not in flight"));
        }
    }

    // ---- the end

    /// Everything was uploaded. Checks that each read is in its right place.
    pub(super) fn audit(&mut self, dir: &Path, devices: &[Rc<RefCell<Device>>], states: &[DeviceState]) {
        self.refresh(dir);
        self.all_there(dir);
        for (at, device) in devices.iter().enumerate() {
            self.audit_device(at, &device.borrow(), &states[at]);
        }
        for decoder in self.devices.keys().cloned().collect::<Vec<_>>() {
            let expected = verdicts(self.reads(&decoder).into_iter(), self.dead_time, &self.dropped);
            let mut wrong = Vec::new();
            for (seq, expected) in expected {
                self.count(if expected == HistoryVerdict::Passing { "passings" } else { "repeats and dead reads" }, 1);
                let judged = match (self.numbered.get(&seq).map(|numbered| &numbered.fate), self.judged.get(&seq)) {
                    (Some(Fate::Accepted | Fate::Aside(_) | Fate::Dropped), None) => Some(HistoryVerdict::Passing),
                    (None, Some(judged)) => Some(*judged),
                    _ => None,
                };
                if judged.is_none() || (judged != Some(expected) && !self.forgetful) {
                    let fate = self.numbered.get(&seq);
                    wrong.push((seq, expected, judged, fate.cloned(), self.kept.get(&seq).cloned()));
                }
            }
            self.must(wrong.is_empty(), 4, || format!("should be, is, fate, read: {:?}", wrong.first()));
        }
    }

    /// What the journal counts of all reads is what the log says, and the sum adds up. After lines
    /// of the log were lost only the sum does.
    pub(super) fn adds_up(&mut self, reads: Option<ReadCounts>) {
        let Some(reads) = reads else { return self.must(false, 4, || "the queue does not serve".to_owned()) };
        self.must(reads.kept == reads.sum() && reads.waiting == 0, 4, || format!("does not add up: {reads:?}"));
        if self.forgetful {
            return;
        }
        let kept = self.kept.values().filter(|entry| matches!(entry.body, Body::Read(_))).count() as u64;
        let of = |verdict| self.judged.values().filter(|judged| **judged == verdict).count() as u64;
        let aside = self.numbered.values().filter(|numbered| numbered.fate == Fate::Dropped).count() as u64;
        let dropped = of(HistoryVerdict::Dropped) + aside;
        let expected = (kept, of(HistoryVerdict::Repeat), of(HistoryVerdict::Dead), dropped);
        let counted = (reads.kept, reads.duplicates, reads.dead_time, reads.dropped_by_choice);
        self.must(counted == expected, 4, || {
            format!("kept, repeats, dead time, dropped: {counted:?}, not {expected:?}")
        });
    }

    fn reads(&self, decoder: &str) -> Vec<(&Entry, &ChipRead)> {
        let mine = self.kept.values().filter(|entry| *entry.subject == *decoder);
        mine.filter_map(|entry| if let Body::Read(read) = &entry.body { Some((entry, read)) } else { None }).collect()
    }

    fn audit_device(&mut self, at: usize, device: &Device, state: &DeviceState) {
        self.must(state.in_flight.is_none(), 5, || format!("in flight at the end: {:?}", state.in_flight));
        let mut seen = HashSet::new();
        let mut order = Vec::new();
        for session in &device.cloud.sessions {
            for row in session.rows.iter().filter(|row| row.chip.as_deref() != Some("OTHER")) {
                let session: Session = (device.name.clone(), session.token.clone());
                let item = row.num.and_then(|num| self.numbers.get(&(session.clone(), num))).cloned();
                let same = item
                    .as_ref()
                    .is_some_and(|item| row.chip.as_ref() == Some(&item.chip) && row.time_ms == Some(item.time_ms));
                self.must(same, 3, || format!("the cloud holds {row:?}; the log says {item:?}"));
                let Some(item) = item else { continue };
                if self.replaced.contains(&(session, item.num)) {
                    continue; // it was sent again with another time, and is checked there
                }
                order.push(item.seq);
                let once = seen.insert((row.chip.clone(), row.time_ms)) || self.forgetful;
                self.must(once, 4, || format!("twice in the cloud: {row:?}"));
            }
        }
        // A passing that got a new number in its own session may follow later ones, because another
        // sender took its number. So may one at which the cloud failed while it took others, also
        // when its session closed meanwhile.
        let in_turn: Vec<_> = order.iter().filter(|seq| !self.out_of_turn.contains(&seq.0)).collect();
        let other = |row: &crate::cloud::rufus::CloudPassing| row.chip.as_deref() == Some("OTHER");
        let is_shared = device.cloud.sessions.iter().any(|session| session.rows.iter().any(other));
        self.must(in_turn.is_sorted() || is_shared, 7, || format!("out of order in the cloud: {order:?}"));
        let unique: BTreeSet<_> = order.iter().collect();
        self.must(unique.len() == order.len(), 4, || format!("a read is twice in the cloud: {order:?}"));
        let mine = |numbered: &&Numbered| numbered.device == device.name && numbered.fate == Fate::Accepted;
        let accepted: BTreeSet<_> = self.numbered.values().filter(mine).map(|numbered| numbered.item.seq).collect();
        let missing: Vec<_> = accepted.iter().filter(|seq| !unique.contains(seq)).collect();
        self.must(missing.is_empty(), 4, || format!("accepted and not in the cloud of device {at}: {missing:?}"));
        let found = self.found.get(&device.name).copied().unwrap_or(0);
        let counts = (state.sent - found, accepted.len() as u64, order.len() as u64);
        let equal = counts.0 == counts.1 && counts.1 == counts.2;
        self.must(equal, 4, || format!("counted as sent, accepted, in the cloud: {counts:?}"));
    }
}

fn by_number(items: &[UploadItem]) -> BTreeMap<u64, UploadItem> {
    items.iter().map(|item| (item.num, item.clone())).collect()
}

/// Counts how often a cloud holds a passing, in one session (under its number) or in all sessions.
fn held(cloud: &Cloud, token: Option<&str>, item: &UploadItem) -> usize {
    let sessions = cloud.sessions.iter().filter(|session| token.is_none_or(|token| &*session.token == token));
    let same = |row: &&crate::cloud::rufus::CloudPassing| {
        row.chip.as_ref() == Some(&item.chip)
            && row.time_ms == Some(item.time_ms)
            && (token.is_none() || row.num == Some(item.num))
    };
    sessions.map(|session| session.rows.iter().filter(same).count()).sum()
}

fn holds(cloud: &Cloud, found: &Found) -> bool {
    let mut sessions = cloud.sessions.iter().filter(|session| session.token == found.session);
    let same =
        |row: &crate::cloud::rufus::CloudPassing| row.num == Some(found.num) && row.time_ms == Some(found.time_ms);
    sessions.any(|session| session.rows.iter().any(same))
}

fn is_frame(entry: &Entry, framed: &Framed) -> bool {
    let body = match (&entry.body, &framed.frame) {
        (Body::Read(kept), Frame::Read(sent)) => kept == sent,
        (Body::Marker(kept), Frame::Marker(sent)) => kept == sent,
        (Body::Rejected(kept), Frame::Rejected(sent)) => **kept == sent.to_string(),
        _ => false,
    };
    body && entry.raw == framed.raw
}
