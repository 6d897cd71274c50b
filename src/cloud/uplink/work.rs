//! The batch in flight: which of its passings are open, and what is known about each open passing.
//!
//! Passings are taken from the front, in number order, except those that an inquiry finds further
//! back. Each change that must be durable is returned as an [`UploadEvent`] about a *run*. The
//! passings of a run are side by side in the open list, so the range of an event never covers an
//! open passing that the event does not mean.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::cloud::uplink::inquiry::{Inquiry, NumberVerdict};
use crate::cloud::uplink::recall::key;
use crate::journal::{InFlight, UploadEvent, UploadItem};
use crate::model::chip::Seq;

/// What is known about an open passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Never posted, so it is certainly not in the cloud.
    Fresh,
    /// Posted with an unknown outcome.
    Maybe,
    /// The cloud reported success without counts. The passing is probably in the cloud, and the
    /// cloud must show it.
    Told,
    /// Posted alone with an unknown outcome, because the cloud failed at it while it takes others.
    /// It may be in the cloud, and no passing waits for it. Others are posted under higher numbers
    /// meanwhile, so this number is never used again.
    Left,
    /// Posted, but the cloud was asked since then and does not hold it.
    Absent,
    /// The cloud does not show it under its number, but shows this chip at this time under another
    /// number. It is not sent again.
    Elsewhere,
}

/// What the counts of an answered POST did not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Number of inserted passings according to the answer.
    pub(super) inserted: u64,
    /// Number of passings that the answer calls duplicates. It does not say which ones.
    pub(super) duplicates: u64,
    /// Number of passings sent.
    pub(super) sent: u64,
    /// The last number that was sent.
    pub(super) last: u64,
    /// No passing of the POST was sent before.
    pub(super) first_time: bool,
}

/// The batch in flight.
#[derive(Debug)]
pub(super) struct Work {
    device: Box<str>,
    /// Session in which the batch has its numbers.
    pub(super) token: Box<str>,
    open: VecDeque<(UploadItem, Fate)>,
    /// The batch is sent again because an audit found its passings missing. They keep their numbers
    /// in any case, and are never sent to another session.
    pub(super) again: bool,
    /// The session takes no more passings. The machine settles what may be in it, and releases the
    /// rest.
    pub(super) closing: bool,
    /// Ask the cloud before the next POST, even if the cloud detects duplicates.
    pub(super) ask_first: bool,
    /// The number that was last refused. The cloud was asked for it since then.
    refused: Option<u64>,
    /// What the counts of the last POST did not settle.
    pub(super) claim: Option<Claim>,
    /// The passings of the claim were also looked for by time.
    pub(super) looked_elsewhere: bool,
    /// The cloud holds another passing under one of our numbers, so the open passings get new
    /// numbers.
    pub(super) taken: bool,
    /// Answers in a row whose counts were too low, while the cloud showed none of the missing
    /// passings.
    pub(super) short_rounds: u32,
    /// The cloud failed at this passing when it was sent alone: number, status, answer.
    pub(super) failed_alone: Option<(u64, u16, Box<str>)>,
    /// The cloud is not asked before this time, because it may still be working on a POST that was
    /// cut.
    pub(super) ask_at: Duration,
    /// When the last POST with an unknown outcome ended. `None`: there was none.
    pub(super) doubted: Option<Duration>,
    /// When the last passing was left behind ([`Fate::Left`]), and when the cloud is asked about
    /// those left behind.
    pub(super) left_since: Duration,
    pub(super) left_ask_at: Duration,
}

/// The result of an inquiry.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Events to record, in number order.
    pub(super) events: Vec<UploadEvent>,
    /// Passings that the cloud holds, in number order.
    pub(super) found: Vec<UploadItem>,
    /// Numbers under which the cloud holds another sender's passing, and a description of that
    /// passing.
    pub(super) taken: Vec<(u64, Box<str>)>,
    /// Passings that were left behind, and that the cloud is now known not to hold.
    pub(super) left: Vec<UploadItem>,
}

impl Work {
    /// A batch whose passings all have the same fate.
    pub(super) fn new(device: &str, token: &str, items: Vec<UploadItem>, fate: Fate, ask_at: Duration) -> Self {
        Self {
            device: device.into(),
            token: token.into(),
            open: items.into_iter().map(|item| (item, fate)).collect(),
            again: false,
            closing: false,
            ask_first: false,
            refused: None,
            claim: None,
            looked_elsewhere: false,
            taken: false,
            short_rounds: 0,
            failed_alone: None,
            ask_at,
            doubted: (fate == Fate::Maybe).then_some(Duration::ZERO),
            left_since: Duration::ZERO,
            left_ask_at: ask_at,
        }
    }

    /// The batch that was in flight when the previous process ended. Nobody knows which of its
    /// passings arrived.
    pub(super) fn resumed(flight: InFlight, ask_at: Duration) -> Self {
        let settled = |item: &&UploadItem| !flight.open.contains(item);
        let passed = flight.batch.items.iter().rfind(settled).map_or(0, |item| item.num);
        let mut work = Self::new(&flight.batch.device, &flight.batch.session, flight.open, Fate::Maybe, ask_at);
        // Passings with higher numbers were settled before these.
        for (item, fate) in &mut work.open {
            if item.num < passed || flight.batch.still_open.contains(&item.num) {
                *fate = Fate::Left;
            }
        }
        work
    }

    /// Passings that an audit found missing. The cloud is asked immediately before any of them is
    /// posted, whether it detects duplicates or not.
    pub(super) fn again(device: &str, token: &str, items: Vec<UploadItem>, ask_at: Duration) -> Self {
        let work = Self::new(device, token, items, Fate::Maybe, ask_at);
        Self { again: true, ask_first: true, doubted: Some(ask_at), ..work }
    }

    /// Number of passings that are not settled.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The open passings at these places.
    pub(super) fn items(&self, part: &Range<usize>) -> Vec<UploadItem> {
        self.open.range(part.clone()).map(|(item, _)| item.clone()).collect()
    }

    /// Returns the open passings that may be posted next. They are the first ones side by side,
    /// after those that the cloud must only show or that are left behind. With `unasked`, passings
    /// of unknown fate are included. `None`: the cloud must be asked first.
    pub(super) fn postable(&self, unasked: bool) -> Option<Range<usize>> {
        let may = |fate: Fate| matches!(fate, Fate::Fresh | Fate::Absent) || (unasked && fate == Fate::Maybe);
        let from = self.open.iter().position(|(_, fate)| !matches!(fate, Fate::Told | Fate::Left))?;
        let run = self.open.iter().skip(from).take_while(|(_, fate)| may(*fate)).count();
        (run > 0).then_some(from..from + run)
    }

    /// The read of the open passing at this place.
    pub(super) fn seq(&self, at: usize) -> Option<Seq> {
        self.open.get(at).map(|(item, _)| item.seq)
    }

    /// At least one open passing may be in the cloud.
    pub(super) fn doubtful(&self) -> bool {
        self.open.iter().any(|(_, fate)| is_doubt(*fate))
    }

    /// At least one open passing may be in the cloud, and the passings after it wait until that is
    /// known.
    pub(super) fn pressing(&self) -> bool {
        self.open.iter().any(|(_, fate)| is_pressing(*fate))
    }

    /// All open passings are left behind, so other passings may be sent meanwhile.
    pub(super) fn is_left_behind(&self) -> bool {
        !self.again && !self.closing && self.open.iter().all(|(_, fate)| *fate == Fate::Left)
    }

    /// Returns when the cloud may be asked about the passings in doubt.
    pub(super) fn due(&self) -> Duration {
        if self.pressing() { self.ask_at } else { self.left_ask_at }
    }

    /// Sets when the cloud is asked again about the passings that it was asked about just now.
    pub(super) fn ask_again_at(&mut self, at: Duration) {
        *(if self.pressing() { &mut self.ask_at } else { &mut self.left_ask_at }) = at;
    }

    /// Returns when the last POST ended that left the doubt which the next question is about.
    pub(super) fn doubted_since(&self) -> Option<Duration> {
        if self.pressing() { self.doubted } else { Some(self.left_since) }
    }

    /// Leaves the passing at this place behind: no other passing waits for it any more.
    pub(super) fn leave(&mut self, at: usize, now: Duration, ask_at: Duration) {
        if let Some((_, fate)) = self.open.get_mut(at) {
            (*fate, self.left_since, self.left_ask_at) = (Fate::Left, now, ask_at);
        }
    }

    /// Numbers of the passings that stay in flight beside the next batch.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.open.iter().map(|(item, _)| item.num).collect()
    }

    /// Reads of the open passings.
    pub(super) fn seqs(&self) -> Vec<Seq> {
        self.open.iter().map(|(item, _)| item.seq).collect()
    }

    /// Adds the next batch while passings of this one are left behind.
    pub(super) fn extend(&mut self, items: Vec<UploadItem>) {
        self.open.extend(items.into_iter().map(|item| (item, Fate::Fresh)));
    }

    /// Returns how many passings of a part may already be in the cloud.
    pub(super) fn doubtful_in(&self, part: &Range<usize>) -> u64 {
        self.open.range(part.clone()).filter(|(_, fate)| is_doubt(*fate)).count() as u64
    }

    /// No passing of the part was ever posted before.
    pub(super) fn is_first_time(&self, part: &Range<usize>) -> bool {
        self.open.range(part.clone()).all(|(_, fate)| *fate == Fate::Fresh)
    }

    /// Returns the fate of the passing with this number.
    pub(super) fn fate(&self, num: u64) -> Option<Fate> {
        self.open.iter().find(|(item, _)| item.num == num).map(|(_, fate)| *fate)
    }

    /// A passing alone was refused. Returns true if the cloud must be asked first, because it was
    /// not asked since the last refusal. The cloud may refuse the passing *because* it arrived
    /// before, or because another passing has its number.
    pub(super) fn doubt_refusal(&mut self, at: usize, now: Duration) -> bool {
        let Some((item, fate)) = self.open.get_mut(at).filter(|(item, _)| self.refused != Some(item.num)) else {
            return false;
        };
        self.refused = Some(item.num);
        *fate = Fate::Maybe;
        (self.ask_first, self.ask_at) = (true, now);
        true
    }

    /// The passings of a part may be in the cloud from now on.
    pub(super) fn doubt(&mut self, part: &Range<usize>, now: Duration) {
        self.mark(part, Fate::Maybe, now);
    }

    /// The cloud reported success for the passings of a part, without counts.
    pub(super) fn told(&mut self, part: &Range<usize>, now: Duration) {
        self.mark(part, Fate::Told, now);
        self.ask_at = now;
    }

    fn mark(&mut self, part: &Range<usize>, fate: Fate, now: Duration) {
        self.open.range_mut(part.clone()).for_each(|(_, known)| *known = fate);
        self.doubted = Some(now);
    }

    /// The session takes no more passings. Every posted passing is asked for once more, whatever
    /// was known. Only now the answer is final, because a POST that was still under way inside the
    /// cloud cannot be applied any more. Returns true on the first call. Then a question under way
    /// must be put again.
    pub(super) fn close(&mut self, now: Duration) -> bool {
        if std::mem::replace(&mut self.closing, true) {
            return false;
        }
        for (_, fate) in self.open.iter_mut().filter(|(_, fate)| *fate == Fate::Absent) {
            *fate = Fate::Maybe;
        }
        if self.doubtful() {
            self.doubted = Some(now);
            self.left_since = now;
        }
        true
    }

    /// Returns the question that settles the doubt for which others wait. If there is no such
    /// doubt, it returns the question about the first passing left behind. `None` if nothing is in
    /// doubt.
    pub(super) fn inquiry(&self) -> Option<Inquiry> {
        let most = if self.pressing() { usize::MAX } else { 1 };
        let meant = |fate: Fate| if most > 1 { is_pressing(fate) } else { is_doubt(fate) };
        let doubted = || self.open.iter().filter(|(_, fate)| meant(*fate)).map(|(item, _)| item).take(most);
        let (first, last) = (doubted().next()?.num, doubted().last()?.num);
        let moments = doubted().map(|item| (item.num, item.time_ms)).collect();
        Some(Inquiry::new(&self.token, first, Some(last)).with_times(&self.device, moments))
    }

    /// Returns the first and the last time of the passings in doubt, UTC milliseconds since 1970.
    pub(super) fn times_in_doubt(&self) -> Option<(i64, i64)> {
        let times = || self.open.iter().filter(|(_, fate)| is_doubt(*fate)).map(|(item, _)| item.time_ms);
        Some((times().min()?, times().max()?))
    }

    /// The keys (identity and time) by which the passings in doubt can be found under any number.
    pub(super) fn keys_in_doubt(&self) -> HashSet<u64> {
        let doubted = self.open.iter().filter(|(_, fate)| is_doubt(*fate)).map(|(item, _)| item);
        doubted.flat_map(|item| [key(&item.chip, item.time_ms), key(&item.bib, item.time_ms)]).collect()
    }

    /// The passings that an inquiry is about, in number order.
    pub(super) fn doubted(&self, inquiry: &Inquiry) -> Vec<&UploadItem> {
        let meant = |(item, fate): &&(UploadItem, Fate)| is_doubt(*fate) && inquiry.covers(item.num);
        self.open.iter().filter(meant).map(|(item, _)| item).collect()
    }

    /// The cloud holds the passings of a part.
    pub(super) fn accept(&mut self, part: &Range<usize>, duplicates: u64) -> Option<(Vec<UploadItem>, UploadEvent)> {
        let taken: Vec<UploadItem> = self.open.drain(part.clone()).map(|(item, _)| item).collect();
        let (first, last) = (taken.first()?.num, taken.last()?.num);
        (self.claim, self.short_rounds, self.ask_first) = (None, 0, false);
        Some((taken, UploadEvent::Accepted { device: self.device.clone(), first, last, duplicates }))
    }

    /// Sets the open passing at this place aside. With `again`, it is tried again automatically.
    pub(super) fn set_aside(
        &mut self,
        at: usize,
        status: u16,
        answer: &str,
        again: bool,
    ) -> Option<(UploadItem, UploadEvent)> {
        let (item, _) = self.open.remove(at)?;
        let event = dead_letters(&self.device, item.num, status, answer, again);
        Some((item, event))
    }

    /// Returns the place of a number in the open list.
    pub(super) fn place(&self, num: u64) -> Option<usize> {
        self.open.iter().position(|(item, _)| item.num == num)
    }

    /// Sets every passing aside that may be in the cloud, because nobody can find out whether it
    /// is.
    pub(super) fn set_doubtful_aside(&mut self, status: u16, answer: &str) -> Vec<UploadEvent> {
        let doubtful: VecDeque<_>;
        (doubtful, self.open) = self.open.drain(..).partition(|(_, fate)| is_doubt(*fate));
        doubtful.iter().map(|(item, _)| dead_letters(&self.device, item.num, status, answer, false)).collect()
    }

    /// Accepts the passings that the cloud reported without counts, because it cannot be asked.
    pub(super) fn accept_told(&mut self) -> (Vec<UploadItem>, Vec<UploadEvent>) {
        let (mut items, mut events) = (Vec::new(), Vec::new());
        while let Some(from) = self.open.iter().position(|(_, fate)| *fate == Fate::Told) {
            let run = self.open.iter().skip(from).take_while(|(_, fate)| *fate == Fate::Told).count();
            if let Some((taken, event)) = self.accept(&(from..from + run), 0) {
                items.extend(taken);
                events.push(event);
            }
        }
        (items, events)
    }

    /// Sets every open passing aside.
    pub(super) fn set_all_aside(self, status: u16, answer: &str) -> Vec<UploadEvent> {
        self.open.iter().map(|(item, _)| dead_letters(&self.device, item.num, status, answer, false)).collect()
    }

    /// Makes every open passing pending again, so that it gets a new number. No open passing may be
    /// one that is perhaps in the session, except those left behind, which stay.
    pub(super) fn release(&mut self) -> Vec<UploadEvent> {
        debug_assert!(!self.pressing(), "a passing that may be in the cloud must not be renumbered");
        self.release_runs(|fate| fate != Fate::Left)
    }

    fn release_runs(&mut self, meant: impl Fn(Fate) -> bool) -> Vec<UploadEvent> {
        let mut events = Vec::new();
        while let Some(at) = self.open.iter().position(|(_, fate)| meant(*fate)) {
            let run = self.open.iter().skip(at).take_while(|(_, fate)| meant(*fate)).count();
            let nums: Vec<u64> = self.open.drain(at..at + run).map(|(item, _)| item.num).collect();
            if let (Some(&first), Some(&last)) = (nums.first(), nums.last()) {
                events.push(UploadEvent::Released { device: self.device.clone(), first, last });
            }
        }
        events
    }

    /// Makes one passing pending again that is known not to be in the cloud.
    pub(super) fn release_one(&mut self, num: u64) -> Option<(UploadItem, UploadEvent)> {
        let at = self.place(num).filter(|at| !is_doubt(self.open[*at].1))?;
        let (item, _) = self.open.remove(at)?;
        let event = UploadEvent::Released { device: self.device.clone(), first: num, last: num };
        Some((item, event))
    }

    /// Makes the passings in doubt pending again that `held` finds under another number. They will
    /// be recorded as found.
    pub(super) fn release_elsewhere(&mut self, mut held: impl FnMut(&UploadItem) -> bool) -> Vec<UploadEvent> {
        for (item, fate) in &mut self.open {
            if is_doubt(*fate) && held(item) {
                *fate = Fate::Elsewhere;
            }
        }
        self.release_runs(|fate| fate == Fate::Elsewhere)
    }

    /// Draws the conclusions of an inquiry. The passings that it found are settled. The others are
    /// known not to be in the cloud only if the answer is `conclusive`: it is fresh and whole, and
    /// the question was asked late enough.
    pub(super) fn settle(&mut self, inquiry: &Inquiry, conclusive: bool) -> Settled {
        let mut settled = Settled::default();
        let mut run: Option<(u64, u64)> = None;
        let mut duplicates = self.claim.map_or(0, |claim| claim.duplicates);
        let mut left = VecDeque::with_capacity(self.open.len());
        let pressing = self.pressing();
        let none_inserted = self.claim.is_some_and(|claim| claim.first_time && claim.inserted == 0);
        let device = self.device.clone();
        let mut end_run = |run: &mut Option<(u64, u64)>, settled: &mut Settled| {
            if let Some((first, last)) = run.take() {
                let counted = duplicates.min(last - first + 1);
                duplicates -= counted;
                settled.events.push(UploadEvent::Accepted { device: device.clone(), first, last, duplicates: counted });
            }
        };
        for (item, fate) in self.open.drain(..) {
            // An answer that is late enough for one kind of doubt may be too early for the other
            // kind.
            let asked = is_doubt(fate) && inquiry.covers(item.num) && is_pressing(fate) == pressing;
            let verdict = inquiry.verdict(item.num).filter(|_| asked);
            if verdict == Some(&NumberVerdict::Ours) {
                run = Some((run.map_or(item.num, |(first, _)| first), item.num));
                settled.found.push(item);
                continue;
            }
            end_run(&mut run, &mut settled);
            // The answer to the only POST said that nothing was inserted, and another passing has
            // the number.
            let certain = none_inserted && matches!(verdict, Some(NumberVerdict::Foreign(_)));
            if !asked || !(conclusive || certain) {
                left.push_back((item, fate));
                continue;
            }
            if let Some(NumberVerdict::Foreign(other)) = verdict {
                settled.taken.push((item.num, other.clone()));
                // A passing that is sent again keeps its number, or is set aside.
                if self.again {
                    let answer =
                        format!("passbridge: the session holds another passing under number {}: {other}", item.num);
                    settled.events.push(dead_letters(&self.device, item.num, 409, &answer, false));
                    continue;
                }
            }
            if fate == Fate::Left {
                settled.left.push(item.clone());
            }
            left.push_back((item, Fate::Absent));
        }
        end_run(&mut run, &mut settled);
        self.open = left;
        if conclusive {
            self.ask_first = false;
        }
        settled
    }
}

fn is_doubt(fate: Fate) -> bool {
    is_pressing(fate) || fate == Fate::Left
}

fn is_pressing(fate: Fate) -> bool {
    matches!(fate, Fate::Maybe | Fate::Told)
}

fn dead_letters(device: &str, num: u64, status: u16, answer: &str, again: bool) -> UploadEvent {
    UploadEvent::DeadLetter { device: device.into(), num, status, answer: answer.into(), again }
}
