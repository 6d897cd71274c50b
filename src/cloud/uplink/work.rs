//! The batch in flight: what of it is open, and what is known about each open passing.
//!
//! Passings leave from the front, in number order, but for those that an inquiry finds further back. Every change that
//! must be durable comes out as an [`UploadEvent`] over a *run*: passings that stand side by side in the open list, so
//! that a range never covers an open passing that it does not mean.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::cloud::uplink::inquiry::{Inquiry, NumberVerdict};
use crate::cloud::uplink::recall::key;
use crate::journal::{InFlight, UploadEvent, UploadItem};
use crate::model::chip::Seq;

/// What is known of an open passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Never posted: certainly not in the cloud.
    Fresh,
    /// Posted with an unknown outcome.
    Maybe,
    /// The cloud reported success and counted nothing: it is probably there, and has to be seen.
    Told,
    /// Posted alone with an unknown outcome, because the cloud failed at it while it takes others. It may be there, and nothing
    /// waits for it: others are posted under higher numbers meanwhile, so this number is never used again.
    Left,
    /// Posted, but the cloud was asked since and does not hold it.
    Absent,
    /// Not under its number, but the cloud shows this chip at this time under another one: it is not sent again.
    Elsewhere,
}

/// What the counts of an answered POST left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Passings inserted, by the answer.
    pub(super) inserted: u64,
    /// Passings that the answer calls duplicates. Which ones, it does not say.
    pub(super) duplicates: u64,
    /// Passings sent.
    pub(super) sent: u64,
    /// The last number that was sent.
    pub(super) last: u64,
    /// None of them had been sent before.
    pub(super) first_time: bool,
}

/// The batch in flight.
#[derive(Debug)]
pub(super) struct Work {
    device: Box<str>,
    /// Session it is numbered in.
    pub(super) token: Box<str>,
    open: VecDeque<(UploadItem, Fate)>,
    /// It is sent again because an audit missed it: it keeps its numbers whatever happens, also in no other session.
    pub(super) again: bool,
    /// The session takes no more: settle what may be there, release the rest.
    pub(super) closing: bool,
    /// Ask before the next POST, even if the cloud detects duplicates.
    pub(super) ask_first: bool,
    /// The number that was refused last, and asked for since.
    refused: Option<u64>,
    /// What the counts of the last POST left open.
    pub(super) claim: Option<Claim>,
    /// Passings of the claim were looked for by time, too.
    pub(super) looked_elsewhere: bool,
    /// A number was found to be somebody else's: what is open gets new ones.
    pub(super) taken: bool,
    /// Answers in a row whose counts fell short, without any of the missing turning up.
    pub(super) short_rounds: u32,
    /// The cloud failed at this passing when it was sent alone: number, status, answer.
    pub(super) failed_alone: Option<(u64, u16, Box<str>)>,
    /// Not asked before this time: a POST that was cut may still be under way inside the cloud.
    pub(super) ask_at: Duration,
    /// When the last POST with an unknown outcome ended; `None`: there was none.
    pub(super) doubted: Option<Duration>,
    /// The same for those that are left behind ([`Fate::Left`]), and when the cloud is asked about them.
    pub(super) left_since: Duration,
    pub(super) left_ask_at: Duration,
}

/// What an inquiry settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// To be recorded, in number order.
    pub(super) events: Vec<UploadEvent>,
    /// Passings found, in number order.
    pub(super) found: Vec<UploadItem>,
    /// Numbers held by somebody else's passing, and what the cloud holds there.
    pub(super) taken: Vec<(u64, Box<str>)>,
    /// Passings that were left behind, and are known now not to be there.
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

    /// The batch that was in flight when the process ended: nobody knows what became of it.
    pub(super) fn resumed(flight: InFlight, ask_at: Duration) -> Self {
        let settled = |item: &&UploadItem| !flight.open.contains(item);
        let passed = flight.batch.items.iter().rfind(settled).map_or(0, |item| item.num);
        let mut work = Self::new(&flight.batch.device, &flight.batch.session, flight.open, Fate::Maybe, ask_at);
        // Passings with higher numbers went past these.
        for (item, fate) in &mut work.open {
            if item.num < passed || flight.batch.still_open.contains(&item.num) {
                *fate = Fate::Left;
            }
        }
        work
    }

    /// Passings that an audit found missing: the cloud is asked immediately before any of them is posted, whether it
    /// detects duplicates or not.
    pub(super) fn again(device: &str, token: &str, items: Vec<UploadItem>, ask_at: Duration) -> Self {
        let work = Self::new(device, token, items, Fate::Maybe, ask_at);
        Self { again: true, ask_first: true, doubted: Some(ask_at), ..work }
    }

    /// Passings not settled.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The open passings at these places.
    pub(super) fn items(&self, part: &Range<usize>) -> Vec<UploadItem> {
        self.open.range(part.clone()).map(|(item, _)| item.clone()).collect()
    }

    /// The open passings that may be posted next: the first ones that stand side by side, after those that only have to be
    /// seen or are left behind. `unasked`: also those of unknown fate. `None`: the cloud has to be asked first.
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

    /// Some of it may be in the cloud.
    pub(super) fn doubtful(&self) -> bool {
        self.open.iter().any(|(_, fate)| is_doubt(*fate))
    }

    /// Some of it may be in the cloud, and what comes after waits until that is known.
    pub(super) fn pressing(&self) -> bool {
        self.open.iter().any(|(_, fate)| is_pressing(*fate))
    }

    /// Nothing is open but passings that are left behind: others may go meanwhile.
    pub(super) fn is_left_behind(&self) -> bool {
        !self.again && !self.closing && self.open.iter().all(|(_, fate)| *fate == Fate::Left)
    }

    /// When the cloud may be asked about what is in doubt.
    pub(super) fn due(&self) -> Duration {
        if self.pressing() { self.ask_at } else { self.left_ask_at }
    }

    /// The cloud is asked again at this time about what it was asked just now.
    pub(super) fn ask_again_at(&mut self, at: Duration) {
        *(if self.pressing() { &mut self.ask_at } else { &mut self.left_ask_at }) = at;
    }

    /// When the last POST ended that left the doubt which the next question is about.
    pub(super) fn doubted_since(&self) -> Option<Duration> {
        if self.pressing() { self.doubted } else { Some(self.left_since) }
    }

    /// Nothing waits for the passing at this place any more.
    pub(super) fn leave(&mut self, at: usize, now: Duration, ask_at: Duration) {
        if let Some((_, fate)) = self.open.get_mut(at) {
            (*fate, self.left_since, self.left_ask_at) = (Fate::Left, now, ask_at);
        }
    }

    /// Numbers of what stays in flight beside the next batch.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.open.iter().map(|(item, _)| item.num).collect()
    }

    /// Reads of what is open.
    pub(super) fn seqs(&self) -> Vec<Seq> {
        self.open.iter().map(|(item, _)| item.seq).collect()
    }

    /// The next batch goes while passings of this one are left behind.
    pub(super) fn extend(&mut self, items: Vec<UploadItem>) {
        self.open.extend(items.into_iter().map(|item| (item, Fate::Fresh)));
    }

    /// Of the passings of a part, those that may have been in the cloud before.
    pub(super) fn doubtful_in(&self, part: &Range<usize>) -> u64 {
        self.open.range(part.clone()).filter(|(_, fate)| is_doubt(*fate)).count() as u64
    }

    /// None of the passings of a part was ever posted before.
    pub(super) fn is_first_time(&self, part: &Range<usize>) -> bool {
        self.open.range(part.clone()).all(|(_, fate)| *fate == Fate::Fresh)
    }

    /// What is known of a number.
    pub(super) fn fate(&self, num: u64) -> Option<Fate> {
        self.open.iter().find(|(item, _)| item.num == num).map(|(_, fate)| *fate)
    }

    /// A passing alone was refused. True if the cloud has to be asked first, because it was not asked since the last
    /// refusal: the passing may be refused *because* it arrived before, or because its number is somebody else's.
    pub(super) fn doubt_refusal(&mut self, at: usize, now: Duration) -> bool {
        let Some((item, fate)) = self.open.get_mut(at).filter(|(item, _)| self.refused != Some(item.num)) else {
            return false;
        };
        self.refused = Some(item.num);
        *fate = Fate::Maybe;
        (self.ask_first, self.ask_at) = (true, now);
        true
    }

    /// The passings of a part may be in the cloud since now.
    pub(super) fn doubt(&mut self, part: &Range<usize>, now: Duration) {
        self.mark(part, Fate::Maybe, now);
    }

    /// The cloud said that it took the passings of a part, and counted nothing.
    pub(super) fn told(&mut self, part: &Range<usize>, now: Duration) {
        self.mark(part, Fate::Told, now);
        self.ask_at = now;
    }

    fn mark(&mut self, part: &Range<usize>, fate: Fate, now: Duration) {
        self.open.range_mut(part.clone()).for_each(|(_, known)| *known = fate);
        self.doubted = Some(now);
    }

    /// The session takes no more. What was posted is asked for once more, whatever was known: only now the answer is
    /// final, for a POST that was still under way inside the cloud cannot be applied any more. True if this is new: a
    /// question under way has to be put again.
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

    /// The question that settles the doubt that others wait for; where there is none, that about the first passing left
    /// behind. `None` when there is no doubt.
    pub(super) fn inquiry(&self) -> Option<Inquiry> {
        let most = if self.pressing() { usize::MAX } else { 1 };
        let meant = |fate: Fate| if most > 1 { is_pressing(fate) } else { is_doubt(fate) };
        let doubted = || self.open.iter().filter(|(_, fate)| meant(*fate)).map(|(item, _)| item).take(most);
        let (first, last) = (doubted().next()?.num, doubted().last()?.num);
        let moments = doubted().map(|item| (item.num, item.time_ms)).collect();
        Some(Inquiry::new(&self.token, first, Some(last)).with_times(&self.device, moments))
    }

    /// The times of the passings that a claim leaves open, UTC milliseconds.
    pub(super) fn times_in_doubt(&self) -> Option<(i64, i64)> {
        let times = || self.open.iter().filter(|(_, fate)| is_doubt(*fate)).map(|(item, _)| item.time_ms);
        Some((times().min()?, times().max()?))
    }

    /// What the passings in doubt are known by, under whatever number.
    pub(super) fn keys_in_doubt(&self) -> HashSet<u64> {
        let doubted = self.open.iter().filter(|(_, fate)| is_doubt(*fate)).map(|(item, _)| item);
        doubted.flat_map(|item| [key(&item.chip, item.time_ms), key(&item.bib, item.time_ms)]).collect()
    }

    /// The passings an inquiry is about, in number order.
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

    /// The open passing at this place is set aside. `again`: it is tried again by itself.
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

    /// Where a number stands among the open ones.
    pub(super) fn place(&self, num: u64) -> Option<usize> {
        self.open.iter().position(|(item, _)| item.num == num)
    }

    /// Sets aside everything that may be in the cloud, because nobody can tell whether it is.
    pub(super) fn set_doubtful_aside(&mut self, status: u16, answer: &str) -> Vec<UploadEvent> {
        let doubtful: VecDeque<_>;
        (doubtful, self.open) = self.open.drain(..).partition(|(_, fate)| is_doubt(*fate));
        doubtful.iter().map(|(item, _)| dead_letters(&self.device, item.num, status, answer, false)).collect()
    }

    /// Takes what the cloud said at its word, because it cannot be asked.
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

    /// Sets everything open aside.
    pub(super) fn set_all_aside(self, status: u16, answer: &str) -> Vec<UploadEvent> {
        self.open.iter().map(|(item, _)| dead_letters(&self.device, item.num, status, answer, false)).collect()
    }

    /// Everything open is pending again, to be numbered anew. Only what is certainly not in the session may be open.
    /// What is left behind stays.
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

    /// One passing, known not to be there, is pending again.
    pub(super) fn release_one(&mut self, num: u64) -> Option<(UploadItem, UploadEvent)> {
        let at = self.place(num).filter(|at| !is_doubt(self.open[*at].1))?;
        let (item, _) = self.open.remove(at)?;
        let event = UploadEvent::Released { device: self.device.clone(), first: num, last: num };
        Some((item, event))
    }

    /// The passings in doubt that `held` knows under another number: they are pending again, and will be recorded as found.
    pub(super) fn release_elsewhere(&mut self, held: impl Fn(&UploadItem) -> bool) -> Vec<UploadEvent> {
        for (item, fate) in &mut self.open {
            if is_doubt(*fate) && held(item) {
                *fate = Fate::Elsewhere;
            }
        }
        self.release_runs(|fate| fate == Fate::Elsewhere)
    }

    /// Draws the conclusions of an inquiry. What it found is settled. What it did not find is only known not to be there
    /// if the answer is `conclusive`: fresh, whole, and asked for late enough.
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
            // An answer that came late enough for one doubt may have come too early for the other.
            let asked = is_doubt(fate) && inquiry.covers(item.num) && is_pressing(fate) == pressing;
            let verdict = inquiry.verdict(item.num).filter(|_| asked);
            if verdict == Some(&NumberVerdict::Ours) {
                run = Some((run.map_or(item.num, |(first, _)| first), item.num));
                settled.found.push(item);
                continue;
            }
            end_run(&mut run, &mut settled);
            // The answer to the only POST said that nothing was inserted, and the number is somebody else's.
            let certain = none_inserted && matches!(verdict, Some(NumberVerdict::Foreign(_)));
            if !asked || !(conclusive || certain) {
                left.push_back((item, fate));
                continue;
            }
            if let Some(NumberVerdict::Foreign(other)) = verdict {
                settled.taken.push((item.num, other.clone()));
                // What goes again keeps its number or goes nowhere.
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
