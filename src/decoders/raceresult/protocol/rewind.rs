//! Which stored passings to ask a RACE RESULT decoder for, and what its answers mean.
//!
//! What must hold:
//! * **Push is on before the first count is asked for.** Every passing is therefore either pushed on this connection
//!   or inside the count: nothing slips between the two. Passings that come both ways are one by their identity.
//! * **A number is believed to be held only under the label that the records themselves carry** (box id and file
//!   number, columns 20 and 18). What other replies call the box or the file is a hint; where it is not confirmed by
//!   something held, record 1 is asked for first and its columns tell. A wrong guess thus costs a repeat, never a read.
//! * **... and only with its content.** At each connection the last number held is asked for again, and so it is when the
//!   decoder counts more than it pushed. A number that is held with another chip or stamp means that the file was cleared:
//!   what was held of it is forgotten, and everything is asked for. The same content is a repeat and nothing else.
//! * **A count that fell means that the file was cleared.** It is compared with the last count, and with the highest number that
//!   was seen, pushed or told, when it was asked for (a number pushed since may not be in it). Where only a pushed number
//!   says so, a content is compared first: a damaged digit looks the same.
//! * **Records without a file column have no file in their position**, also when `PASSINGS` tells one: a pushed record
//!   that arrives before that reply would else be labelled differently from the same record pulled, and become
//!   two passings. Of such a decoder everything is asked for on each connection; the identity recognises the repeats.
//! * **A file that is left is finished**, before the new one is fetched: with `GETFILE`, which gives all of it. On an open
//!   connection always, since nothing tells what was not pushed at its end, and the files begun and ended meanwhile too.
//! * **By hand** anything may be asked for, held or not, also where nothing is asked for by itself. Of an older file the
//!   decoder gives only the whole: `GETFILE` and a file's number is all that any source knows for it.
//! * **Bounded.** One question at a time, at most [`PULL_MAX`] records each; a question that yields nothing ends the
//!   asking until the next count. What was not given is asked for again every [`RETRY`].
//!
//! Rejected: fetching the files that began and ended while the box was away. They may be of another race and would go into
//! this one's session; the timer is told of them.
//!
//! Not seen: a file that was cleared and has counted past what is held, where the content of nothing held is known (the data
//! directory of a version that did not remember it).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::decoders::{Cleared, Condition, Frame, Info, Output, Range};
use crate::model::chip::{Content, Label, Position, StoredRanges};

/// Records asked for at once: a page that arrives within seconds on any link.
const PULL_MAX: u64 = 500;
/// Silence after which an answer is taken to have ended without its empty line.
const PULL_WAIT: Duration = Duration::from_secs(30);
/// What was asked for in vain is asked for again after this.
const RETRY: Duration = Duration::from_secs(60);
/// How often a content is asked for that does not come; and an old file.
const TRIES: u8 = 2;
/// Files that are to be finished at once. On an open connection hardly two are begun.
const OLD_FILES: usize = 16;
/// Least time between two doubts about pushed numbers whose content nobody remembers.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

/// The decoder did not give passings that it counts.
const MISSING: Condition = Condition::PassingsNotGiven;
/// The end of the file before the current one was not fetched.
const OLD_FILE: Condition = Condition::OldFileNotFetched;
/// Files lie between the one read last and the current one.
const SKIPPED: Condition = Condition::FilesInBetween;

/// A record that came.
pub(super) struct Came {
    pub(super) position: Position,
    pub(super) content: Content,
    pub(super) pushed: bool,
}

/// How records of one file of one box are labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    unit: Option<Box<str>>,
    file: Option<Label>,
}

impl Place {
    fn of(position: &Position) -> Self {
        Self { unit: position.unit.clone(), file: position.file.clone() }
    }

    fn at(&self, number: u64) -> Position {
        Position { unit: self.unit.clone(), file: self.file.clone(), number }
    }

    fn parts(&self) -> (Option<&str>, Option<&Label>) {
        (self.unit.as_deref(), self.file.as_ref())
    }

    fn file_number(&self) -> Option<u64> {
        match self.file {
            Some(Label::Number(number)) => Some(number),
            _ => None,
        }
    }
}

/// The file being written, once it is known how its records are labelled.
#[derive(Debug)]
struct Current {
    place: Place,
    /// Its number in the `PASSINGS` reply, if it tells one.
    told_file: Option<u64>,
    /// The last count told: a smaller one means cleared.
    counted: u64,
    /// The highest number known to exist: counted, or pushed since.
    highest: u64,
    /// A number that is held is to be asked for again, to compare what it says.
    check: bool,
    /// How often that is still worth asking.
    tries: u8,
    /// It counts fewer than were pushed: cleared, unless the check shows what is held.
    fewer: bool,
}

impl Current {
    fn doubtful(&mut self) {
        (self.check, self.tries) = (true, TRIES);
    }
}

/// A file that the decoder has left, to be asked for.
#[derive(Clone, Debug)]
struct Old {
    file: u64,
    /// How its records are labelled and the highest number known of it, if something of it was seen.
    seen: Option<(Place, u64)>,
    /// Passings of it are known, or likely, to be missing: tell if it is not given.
    doubtful: bool,
    tries: u8,
    due: Duration,
}

#[derive(Debug)]
enum Pull {
    /// Record 1, to see how records are labelled.
    Probe,
    /// A part of the current file. `check`: it has this number, which is held, and is to be compared.
    Range { place: Place, from: u64, to: u64, check: Option<u64> },
    /// The whole of an older file.
    File(Old),
    /// The same, because somebody wants it.
    HandFile(u64),
    /// A part of what somebody asked for.
    Hand,
}

/// A question that is not answered to its end.
#[derive(Debug)]
struct Pulling {
    what: Pull,
    rows: u64,
    heard: Duration,
    /// A record came that is labelled otherwise than what was asked for.
    foreign: bool,
    /// The number to be compared came.
    checked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Hand {
    Numbers(u64, u64),
    File(u64),
}

#[derive(Debug)]
pub(super) struct Rewind {
    /// What the journal holds, and what came since.
    held: StoredRanges,
    /// What was asked for in vain, and is not asked for again before `retry_at`.
    given_up: StoredRanges,
    retry_at: Option<Duration>,
    /// Per file the highest number held before this connection (at most [`StoredRanges::FILES`]).
    before: Vec<(Place, u64)>,
    /// What the records said that were held before this connection and carry no file; at most [`StoredRanges::CONTENTS`].
    unnamed: BTreeMap<u64, Content>,
    /// The file that was read last before this connection, until it is compared with the current one.
    latest: Option<Place>,
    unit_hint: Option<Box<str>>,
    last_pushed: Option<Place>,
    /// The last count told, and the file it is of.
    told: Option<(u64, Option<u64>)>,
    /// The highest number known when the count was asked for that is not answered yet.
    counting: Option<u64>,
    current: Option<Current>,
    /// Files before the current one, oldest first. At most [`OLD_FILES`].
    old: VecDeque<Old>,
    /// Those that were not given; at most [`OLD_FILES`].
    not_given: BTreeSet<u64>,
    /// Files begun and ended while the box was away; at most [`OLD_FILES`] of them.
    skipped: BTreeSet<u64>,
    pulling: Option<Pulling>,
    /// What somebody asked for: numbers of the current file, or another file.
    hand: Option<Hand>,
    /// The last question was in vain: wait for the next count.
    stalled: bool,
    /// It is told that passings of this file were not given.
    missing: Option<Place>,
    said_complete: bool,
    recount: bool,
    doubted: Option<Duration>,
    up: Duration,
}

impl Rewind {
    pub(super) fn new(held: StoredRanges) -> Self {
        let place =
            |unit: Option<&str>, file: Option<&Label>| Place { unit: unit.map(Into::into), file: file.cloned() };
        let highest = |ranges: &[(u64, u64)]| ranges.last().map_or(0, |range| range.1);
        Self {
            before: held.files().map(|(unit, file, ranges)| (place(unit, file), highest(&ranges))).collect(),
            latest: held.latest().map(|(unit, file)| place(unit, file)),
            held,
            given_up: StoredRanges::default(),
            retry_at: None,
            unnamed: BTreeMap::new(),
            unit_hint: None,
            last_pushed: None,
            told: None,
            counting: None,
            current: None,
            old: VecDeque::new(),
            not_given: BTreeSet::new(),
            skipped: BTreeSet::new(),
            pulling: None,
            hand: None,
            stalled: false,
            missing: None,
            said_complete: false,
            recount: false,
            doubted: None,
            up: Duration::ZERO,
        }
    }

    /// The decoder told its own id.
    pub(super) fn unit(&mut self, id: &str) {
        self.unit_hint = Some(id.into());
    }

    /// The decoder should be asked for its count now, not at the next turn. True once.
    pub(super) fn wants_count(&mut self) -> bool {
        std::mem::take(&mut self.recount)
    }

    /// The decoder is asked for its count.
    pub(super) fn counting(&mut self) {
        if self.counting.is_none() {
            self.counting = self.current.as_ref().map(|current| current.highest);
        }
    }

    /// The last number of so many passings of the current file.
    pub(super) fn last(&self, count: u64) -> u64 {
        let place = self.current.as_ref().map(|current| &current.place).or(self.last_pushed.as_ref());
        place.map_or(count, |place| self.last_of(place, count))
    }

    /// A record came: is it the one that is held under this number?
    pub(super) fn compare(&mut self, came: &Came, out: &mut Output) {
        if self.is_elsewhere(came) {
            return;
        }
        let place = Place::of(&came.position);
        let (unit, file) = place.parts();
        let number = came.position.number;
        let known = self.held.content(unit, file, number);
        let known = known.or_else(|| self.unnamed.get(&number).copied().filter(|_| file.is_none()));
        match known {
            Some(known) if known == came.content => {}
            Some(_) => self.another(&place, number, out),
            None if came.pushed && self.held.has(unit, file, number) => self.doubt(),
            None => {}
        }
    }

    /// It is of an older file and does not say so: its number says nothing about what is held.
    fn is_elsewhere(&self, came: &Came) -> bool {
        let of_file = |pulling: &Pulling| matches!(pulling.what, Pull::File(_) | Pull::HandFile(_));
        !came.pushed && came.position.file.is_none() && self.pulling.as_ref().is_some_and(of_file)
    }

    /// A number that is held is another record now.
    fn another(&mut self, place: &Place, number: u64, out: &mut Output) {
        let file = named(place);
        self.cleared(place, format!("passing {number} of {file} is another one than it was: {CLEARED}"), out);
        (self.recount, self.stalled, self.counting) = (true, false, None);
        if let Some(current) = self.current.as_mut().filter(|current| current.place == *place) {
            // How far it counts now the next count will tell.
            (current.counted, current.highest) = (0, number);
        }
    }

    /// A number that is held was pushed, and nobody remembers what it said.
    fn doubt(&mut self) {
        if self.doubted.is_none_or(|at| self.up.saturating_sub(at) >= DOUBT_EVERY) {
            self.doubted = Some(self.up);
            self.recount = true;
            if let Some(current) = &mut self.current {
                current.doubtful();
            }
        }
    }

    /// A record came, pushed or as part of an answer.
    pub(super) fn row(&mut self, came: &Came, out: &mut Output) {
        let place = Place::of(&came.position);
        let number = came.position.number;
        let elsewhere = self.is_elsewhere(came);
        if came.pushed {
            match &self.current {
                Some(current) if current.place != place && self.last_pushed.as_ref() != Some(&place) => {
                    self.recount = true; // a new file began
                }
                _ => {}
            }
            self.last_pushed = Some(place.clone());
        } else if let Some(pulling) = &mut self.pulling {
            pulling.rows += 1;
            pulling.heard = self.up;
            match &pulling.what {
                Pull::Range { place: asked, check, .. } => {
                    pulling.foreign |= *asked != place;
                    pulling.checked |= *asked == place && *check == Some(number);
                }
                Pull::Probe if self.current.is_none() => self.settle(place.clone(), out),
                Pull::Probe | Pull::File(_) | Pull::HandFile(_) | Pull::Hand => {}
            }
        }
        if elsewhere {
            return;
        }
        if let Some(current) = self.current.as_mut().filter(|current| current.place == place) {
            current.highest = current.highest.max(number);
        }
        self.held.insert_read(&came.position, came.content);
        if self.missing.as_ref() == Some(&place) {
            self.given_at_last(&place, out);
        }
        if came.pushed {
            self.ask(out); // its number may show a gap
        }
    }

    /// `PASSINGS;<count>[;<file>]`
    pub(super) fn counted(&mut self, count: u64, file: Option<u64>, out: &mut Output) {
        let before = self.told.replace((count, file));
        let last = self.last(count);
        let asked_at = self.counting.take().unwrap_or(0);
        self.stalled = false;
        // Where no file is told, only a pushed record shows that it is another one.
        let pushed_elsewhere = |place: &Place| self.last_pushed.as_ref().is_some_and(|pushed| pushed != place);
        match &mut self.current {
            Some(current) if current.told_file == file && (file.is_some() || !pushed_elsewhere(&current.place)) => {
                let fell = count < current.counted;
                current.counted = count;
                if fell || last >= current.highest {
                    current.fewer = false;
                } else if last < asked_at && !std::mem::replace(&mut current.fewer, true) {
                    current.doubtful();
                }
                if last > current.highest {
                    current.doubtful(); // not pushed: whatever happened meanwhile
                }
                current.check |= current.tries > 0;
                if !current.fewer {
                    current.highest = current.highest.max(last);
                }
                if fell {
                    self.fell(out);
                }
            }
            _ => self.file_changed(count, file, before.and_then(|before| before.1), out),
        }
        self.ask(out);
    }

    /// The empty line that ends an answer.
    pub(super) fn blank(&mut self, out: &mut Output) {
        self.ended(out);
        self.ask(out);
    }

    /// Somebody wants these again.
    pub(super) fn by_hand(&mut self, range: &Range, out: &mut Output) -> Result<(), &'static str> {
        let by_hand = |pulling: &Pulling| matches!(pulling.what, Pull::Hand | Pull::HandFile(_));
        if self.hand.is_some() || self.pulling.as_ref().is_some_and(by_hand) {
            return Err("it is still giving what was asked for before");
        }
        let of_records = self.current.as_ref().and_then(|current| current.place.unit.as_deref());
        let known = [of_records, self.unit_hint.as_deref()];
        let is_other = |unit: &str| known.iter().any(Option::is_some) && !known.contains(&Some(unit));
        if range.unit.as_deref().is_some_and(is_other) {
            return Err("the box there has another id; leave --unit out");
        }
        let numbers = Hand::Numbers(range.from, range.to);
        let current = self.current.as_ref().and_then(|current| current.told_file.or(current.place.file_number()));
        self.hand = Some(match &range.file {
            None => numbers,
            Some(Label::Text(_)) => return Err("its files are numbered; `PASSINGS` or its display tells the number"),
            Some(Label::Number(file)) if Some(*file) == current && !range.is_whole() => numbers,
            Some(Label::Number(file)) if range.is_whole() => Hand::File(*file),
            Some(Label::Number(_)) => {
                return Err("of a file that is not the current one it gives only all: leave out --from and --to");
            }
        });
        self.ask(out);
        Ok(())
    }

    /// Time passes.
    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        if self.pulling.as_ref().is_some_and(|pulling| up.saturating_sub(pulling.heard) >= PULL_WAIT) {
            self.blank(out);
        }
        if self.retry_at.take_if(|at| *at <= up).is_some() {
            self.given_up = StoredRanges::default();
            self.stalled = false;
            self.ask(out);
        }
        if self.old.front().is_some_and(|old| old.due <= up) {
            self.ask(out);
        }
    }

    /// The count is of another file than before (`was` as it was told), or it is the first count of this connection.
    fn file_changed(&mut self, count: u64, file: Option<u64>, was: Option<u64>, out: &mut Output) {
        let pushed = self.last_pushed.clone().filter(|place| file.is_none() || place.file_number() == file);
        if let Some(current) = self.current.take() {
            let was = current.told_file.or(current.place.file_number());
            let now = file.or_else(|| pushed.as_ref()?.file_number());
            let gaps = !self
                .held
                .missing(current.place.unit.as_deref(), current.place.file.as_ref(), 1, current.highest)
                .is_empty();
            self.left(was, now, Some((current.place, current.highest)), gaps);
        } else {
            self.left(was, file, None, false);
        }
        if count == 0 {
            // No record tells its label yet, but the file before can be finished.
            if let (Some(file), Some(latest)) = (file, self.latest.take()) {
                let same_box = self.unit_hint.is_none() || latest.unit.is_none() || self.unit_hint == latest.unit;
                if same_box {
                    self.finish(latest, file, out);
                }
            }
            return;
        }
        let hinted = || {
            let place = Place { unit: Some(self.unit_hint.clone()?), file: Some(Label::Number(file?)) };
            self.before.iter().any(|(known, _)| *known == place).then_some(place)
        };
        if let Some(place) = pushed.or_else(hinted) {
            self.settle(place, out);
        }
    }

    /// It is known now how the records of the current file are labelled.
    fn settle(&mut self, place: Place, out: &mut Output) {
        let Some((count, told_file)) = self.told else { return };
        let known = self.before.iter().position(|(known, _)| *known == place).map(|at| self.before.swap_remove(at).1);
        if place.file.is_none() {
            // Nothing tells which file it was that we hold: all is asked for, and compared.
            let unit = place.unit.as_deref();
            let last = self.held.highest_with_content(unit, None).unwrap_or(0);
            let numbers = last.saturating_sub(StoredRanges::CONTENTS as u64)..=last;
            self.unnamed = numbers.filter_map(|at| Some((at, self.held.content(unit, None, at)?))).collect();
            self.held.forget(unit, None);
        } else if known.is_some_and(|highest| highest > count) {
            self.cleared(&place, fewer(&place, count), out);
        }
        if let (Some(latest), Some(file)) =
            (self.latest.take().filter(|latest| latest.unit == place.unit), place.file_number())
        {
            self.finish(latest, file, out);
        }
        let highest = self.last_of(&place, count);
        let compared = place.file.is_some() && self.held.highest(place.unit.as_deref(), place.file.as_ref()).is_some();
        let (check, tries) = if compared { (true, TRIES) } else { (false, 0) };
        self.counting = None;
        self.current = Some(Current { place, told_file, counted: count, highest, check, tries, fewer: false });
    }

    /// The box was away while the decoder went from the file `latest` to `file`: that one is fetched first.
    fn finish(&mut self, latest: Place, file: u64, out: &mut Output) {
        let Some(old) = latest.file_number().filter(|old| *old != file) else { return };
        let highest = self.held.highest(latest.unit.as_deref(), latest.file.as_ref()).unwrap_or(0);
        self.queue(Old { file: old, seen: Some((latest, highest)), doubtful: true, tries: TRIES, due: self.up });
        let between = file.saturating_sub(old).saturating_sub(1);
        self.skipped = (old.saturating_add(1)..file).take(OLD_FILES).collect();
        let text = format!(
            "between file {old}, which was read last, and file {file} the decoder counts {between} more; they are not \
             fetched, since they may be of another race: if they are of this one, take them from the decoder"
        );
        condition(SKIPPED, (between > 0).then_some(text), out);
    }

    /// The decoder went from one file to another while we listened: what it left, and what it began and ended since, is
    /// fetched first. Nothing tells what of it was not pushed at its end.
    fn left(&mut self, was: Option<u64>, now: Option<u64>, seen: Option<(Place, u64)>, doubtful: bool) {
        let (Some(was), Some(now)) = (was, now) else { return };
        if was == now {
            return;
        }
        self.queue(Old { file: was, seen, doubtful, tries: TRIES, due: self.up });
        for file in (was.saturating_add(1)..now).take(OLD_FILES) {
            self.queue(Old { file, seen: None, doubtful: true, tries: TRIES, due: self.up });
        }
    }

    fn queue(&mut self, old: Old) {
        if self.old.len() < OLD_FILES && self.old.iter().all(|known| known.file != old.file) {
            self.old.push_back(old);
        }
    }

    /// It counts fewer than it did.
    fn fell(&mut self, out: &mut Output) {
        let Some(current) = &mut self.current else { return };
        (current.highest, current.fewer, current.check, current.tries) = (current.counted, false, false, 0);
        let (place, count) = (current.place.clone(), current.counted);
        self.cleared(&place, fewer(&place, count), out);
    }

    fn cleared(&mut self, place: &Place, text: String, out: &mut Output) {
        let (unit, file) = place.parts();
        self.held.forget(unit, file);
        self.given_up.forget(unit, file);
        self.before.retain(|(known, _)| known != place);
        self.unnamed.clear();
        if let Some(current) = self.current.as_mut().filter(|current| current.place == *place) {
            (current.check, current.tries, current.fewer) = (false, 0, false);
        }
        if self.missing.take_if(|missing| missing == place).is_some() {
            condition(MISSING, None, out); // they are not in it any more
        }
        let cleared = Cleared { unit: place.unit.clone(), file: place.file.clone(), text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
    }

    /// The answer to the open question is over.
    fn ended(&mut self, out: &mut Output) {
        let Some(Pulling { what, rows, foreign, checked, .. }) = self.pulling.take() else { return };
        let stalled = std::mem::replace(&mut self.stalled, rows == 0);
        match what {
            Pull::Probe => {}
            Pull::Hand => {
                self.stalled = stalled; // says nothing about what is missing
                self.hand = self.hand.filter(|_| rows > 0); // there are no more
            }
            Pull::Range { .. } if foreign => {
                self.current = None; // the file changed meanwhile: look again at the next count
                self.stalled = true;
            }
            Pull::Range { place, from, to, check } => {
                if check == Some(to) {
                    self.stalled = stalled; // says nothing about what is missing
                } else {
                    self.give_up(&place, from, to, out);
                }
                if let Some(number) = check {
                    self.compared(number, checked, out);
                }
            }
            Pull::HandFile(file) => {
                self.stalled = stalled;
                self.file_given(file, rows > 0, out);
            }
            Pull::File(old) => {
                self.stalled = false; // says nothing about the current file
                self.old_ended(old, rows, out);
            }
        }
    }

    /// A number that is held was asked for, and came or did not. (If it is another record it is cleared already.)
    fn compared(&mut self, number: u64, came: bool, out: &mut Output) {
        let last = self.current.as_ref().map(|current| self.last_of(&current.place, current.counted));
        let Some((current, last)) = self.current.as_mut().zip(last) else { return };
        current.check = false;
        if came {
            current.tries = 0;
            if std::mem::take(&mut current.fewer) {
                current.highest = last.max(number); // what was pushed above was a damaged number
            }
            return;
        }
        current.tries = current.tries.saturating_sub(1);
        if current.tries == 0 && current.fewer {
            self.fell(out);
        }
    }

    /// Nothing is known of what is held that could be compared.
    fn incomparable(&mut self, out: &mut Output) {
        let Some(current) = &mut self.current else { return };
        (current.check, current.tries) = (false, 0);
        if current.fewer {
            self.fell(out);
        }
    }

    fn old_ended(&mut self, old: Old, rows: u64, out: &mut Output) {
        let whole = match &old.seen {
            Some((place, highest)) => {
                self.held.missing(place.unit.as_deref(), place.file.as_ref(), 1, *highest).is_empty()
            }
            None => true,
        };
        let unnamed = old.seen.as_ref().is_some_and(|(place, _)| place.file.is_none());
        let given = if rows == 0 { !old.doubtful } else { whole || unnamed };
        self.file_given(old.file, given, out);
        if !given && old.tries > 1 {
            self.queue(Old { tries: old.tries - 1, due: self.up + RETRY, ..old });
        }
    }

    /// A file that the decoder has left was given, or was not.
    fn file_given(&mut self, file: u64, given: bool, out: &mut Output) {
        if given {
            self.not_given.remove(&file);
            if self.skipped.remove(&file) && self.skipped.is_empty() {
                condition(SKIPPED, None, out);
            }
            if let Some(place) = self.missing.clone().filter(|place| place.file_number() == Some(file)) {
                self.given_at_last(&place, out);
            }
        } else if self.not_given.len() < OLD_FILES {
            self.not_given.insert(file);
        }
        let text = self.not_given.first().map(|file| {
            format!(
                "the decoder began a new file and did not give file {file} when asked: passings at its end may be \
                 missing here; compare with the decoder's own file {file}"
            )
        });
        condition(OLD_FILE, text, out);
    }

    /// What an answer left out is asked for again later.
    fn give_up(&mut self, place: &Place, from: u64, to: u64, out: &mut Output) {
        let left = self.held.missing(place.unit.as_deref(), place.file.as_ref(), from, to);
        let (Some(first), Some(last)) = (left.first(), left.last()) else { return };
        let text = format!(
            "the decoder was asked for passings {} to {} and gave not all of them; they are asked for again every minute",
            first.0, last.1
        );
        condition(MISSING, Some(text), out);
        self.missing = Some(place.clone());
        self.retry_at = Some(self.up + RETRY);
        for (first, last) in &left {
            self.given_up.insert_through(&place.at(*first), *last);
        }
    }

    /// Something came of a file of which something was not given: is it all here now?
    fn given_at_last(&mut self, place: &Place, out: &mut Output) {
        let (unit, file) = place.parts();
        let of_current = self.current.as_ref().filter(|current| current.place == *place).map(|current| current.highest);
        let end = of_current.or_else(|| self.held.highest(unit, file)).unwrap_or(0);
        if self.held.first_missing(unit, file, 1, end).is_none() {
            self.missing = None;
            condition(MISSING, None, out);
        }
    }

    /// Asks the next question, if none is open.
    fn ask(&mut self, out: &mut Output) {
        if self.pulling.is_some() {
            return;
        }
        if let Some(old) =
            self.old.front().is_some_and(|old| old.due <= self.up).then(|| self.old.pop_front()).flatten()
        {
            let question = format!("GETFILE;{}\r\n", old.file);
            return self.pull(Pull::File(old), question, out);
        }
        match self.hand.take() {
            Some(Hand::File(file)) => {
                return self.pull(Pull::HandFile(file), format!("GETFILE;{file}\r\n"), out);
            }
            Some(Hand::Numbers(from, to)) => {
                let end = to.min(from.saturating_add(PULL_MAX - 1));
                self.hand = (end < to).then_some(Hand::Numbers(end.saturating_add(1), to));
                return self.pull(
                    Pull::Hand,
                    format!("{from}:{}\r\n", end.saturating_sub(from).saturating_add(1)),
                    out,
                );
            }
            None => {}
        }
        if self.stalled {
            return;
        }
        let Some(current) = &self.current else {
            if self.told.is_some_and(|(count, _)| count > 0) {
                self.pull(Pull::Probe, "1:1\r\n".to_owned(), out);
            }
            return;
        };
        let (place, highest) = (current.place.clone(), current.highest);
        let gap = self.gap(&place, highest);
        if current.check {
            if let Some(number) = self.comparable(&place, current.counted) {
                // Together with what follows it, if that is missing.
                let to = gap.filter(|gap| gap.0 == number.saturating_add(1)).map_or(number, |gap| gap.1);
                return self.pull_range(place, number, to, Some(number), out);
            }
            self.incomparable(out);
            return self.ask(out); // not again: no check is due now
        }
        if let Some((from, to)) = gap {
            self.pull_range(place, from, to, None, out);
        } else if self.missing.is_none() && !self.said_complete {
            self.said_complete = true;
            condition(MISSING, None, out);
        }
    }

    /// The last number of a file of so many passings. Some emulators number from 0.
    fn last_of(&self, place: &Place, count: u64) -> u64 {
        let (unit, file) = place.parts();
        count.saturating_sub(u64::from(self.held.has(unit, file, 0)))
    }

    /// The highest number up to `end` whose content is known.
    fn comparable(&self, place: &Place, end: u64) -> Option<u64> {
        let (unit, file) = place.parts();
        let end = end.min(self.held.highest_with_content(unit, file)?);
        let numbers = end.saturating_sub(StoredRanges::CONTENTS as u64)..=end;
        numbers.rev().find(|number| self.held.content(unit, file, *number).is_some())
    }

    /// The first gap that was not asked for in vain just now.
    fn gap(&self, place: &Place, highest: u64) -> Option<(u64, u64)> {
        let (unit, file) = place.parts();
        let mut from = 1;
        // At most one turn for each range that is held of the file.
        while let Some((first, last)) = self.held.first_missing(unit, file, from, highest) {
            if let Some(gap) = self.given_up.first_missing(unit, file, first, last) {
                return Some(gap);
            }
            from = last.checked_add(1)?;
        }
        None
    }

    fn pull_range(&mut self, place: Place, from: u64, end: u64, check: Option<u64>, out: &mut Output) {
        let to = end.min(from.saturating_add(PULL_MAX - 1));
        let question = format!("{from}:{}\r\n", to - from + 1);
        self.pull(Pull::Range { place, from, to, check }, question, out);
    }

    fn pull(&mut self, what: Pull, question: String, out: &mut Output) {
        self.pulling = Some(Pulling { what, rows: 0, heard: self.up, foreign: false, checked: false });
        out.reply(question);
    }
}

const CLEARED: &str = "it was cleared and counts from 1 again";

fn named(place: &Place) -> String {
    place.file.as_ref().map_or_else(|| "its file".to_owned(), |file| format!("file {file}"))
}

fn fewer(place: &Place, count: u64) -> String {
    format!("{} has {count} passings, fewer than before: {CLEARED}", named(place))
}

pub(super) fn condition(code: Condition, text: Option<String>, out: &mut Output) {
    out.frame(Frame::Info(Info::Condition { code, text }), b"");
}
