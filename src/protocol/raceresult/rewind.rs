//! Which stored passings to ask a RACE RESULT decoder for, and what its answers mean.
//!
//! What must hold:
//! * **Push is on before the first count is asked for.** Every passing is therefore either pushed on this connection
//!   or inside the count: nothing slips between the two. Passings that come both ways are one by their identity.
//! * **A number is believed to be held only under the label that the records themselves carry** (box id and file
//!   number, columns 20 and 18). What other replies call the box or the file is a hint; where it is not confirmed by
//!   something held, record 1 is asked for first and its columns tell. A wrong guess thus costs a repeat, never a read.
//! * **Records without a file column have no file in their position**, also when `PASSINGS` tells one: a pushed record
//!   that arrives before that reply would else be labelled differently from the same record pulled, and become
//!   two passings. Of such a decoder everything is asked for on each connection; the identity recognises the repeats.
//! * **By hand** anything may be asked for, held or not, also where nothing is asked for by itself. Of an older file the
//!   decoder gives only the whole: `GETFILE` and a file's number is all that any source knows for it.
//! * **Bounded.** One question at a time, at most [`PULL_MAX`] records each; a question that yields nothing ends the
//!   asking until the next count.
//!
//! Rejected: fetching the files that began and ended while the box was away. They may be of another race and would go into
//! this one's session; the timer is told of them.
//!
//! Not seen by design: a decoder that was cleared *and* has since counted past the old mark in a file of the same number.
//! Nothing on the wire tells; real decoders begin a new file number when operation starts.

use std::time::Duration;

use crate::chip::{Held, Label, Position};
use crate::protocol::{Cleared, Frame, Info, Output, Range};

/// Records asked for at once: a page that arrives within seconds on any link.
const PULL_MAX: u64 = 500;
/// Silence after which an answer is taken to have ended without its empty line.
const PULL_WAIT: Duration = Duration::from_secs(30);

/// The decoder did not give passings that it counts.
const MISSING: &str = "passings_not_given";
/// The end of the file before the current one was not fetched.
const OLD_FILE: &str = "old_file_not_fetched";
/// Files lie between the one read last and the current one.
const SKIPPED: &str = "files_in_between";

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
}

#[derive(Debug)]
enum Pull {
    /// Record 1, to see how records are labelled.
    Probe,
    /// A gap of the current file.
    Range { place: Place, from: u64, to: u64 },
    /// The whole of an older file.
    File { file: u64, by_hand: bool },
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
}

#[derive(Clone, Copy, Debug)]
enum Hand {
    Numbers(u64, u64),
    File(u64),
}

#[derive(Debug)]
pub(super) struct Rewind {
    /// What the journal holds, and what came since, and what was asked for in vain.
    held: Held,
    /// Per file the highest number held before this connection (at most [`Held::FILES`]).
    before: Vec<(Place, u64)>,
    /// The file that was read last before this connection, until it is compared with the current one.
    latest: Option<Place>,
    unit_hint: Option<Box<str>>,
    last_pushed: Option<Place>,
    /// The last count told, and the file it is of.
    told: Option<(u64, Option<u64>)>,
    current: Option<Current>,
    /// The file before the current one, to be asked for.
    unfinished: Option<u64>,
    pulling: Option<Pulling>,
    /// What somebody asked for: numbers of the current file, or another file.
    hand: Option<Hand>,
    /// The last question was in vain: wait for the next count.
    stalled: bool,
    gave_up: bool,
    said_complete: bool,
    recount: bool,
    up: Duration,
}

impl Rewind {
    pub(super) fn new(held: Held) -> Self {
        let place =
            |unit: Option<&str>, file: Option<&Label>| Place { unit: unit.map(Into::into), file: file.cloned() };
        let highest = |ranges: &[(u64, u64)]| ranges.last().map_or(0, |range| range.1);
        Self {
            before: held.files().map(|(unit, file, ranges)| (place(unit, file), highest(&ranges))).collect(),
            latest: held.latest().map(|(unit, file)| place(unit, file)),
            held,
            unit_hint: None,
            last_pushed: None,
            told: None,
            current: None,
            unfinished: None,
            pulling: None,
            hand: None,
            stalled: false,
            gave_up: false,
            said_complete: false,
            recount: false,
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

    /// A record came, pushed or as part of an answer.
    pub(super) fn row(&mut self, position: &Position, pushed: bool, out: &mut Output) {
        let place = Place::of(position);
        if pushed {
            match &mut self.current {
                Some(current) if current.place == place => current.highest = current.highest.max(position.number),
                Some(_) if self.last_pushed.as_ref() != Some(&place) => self.recount = true, // a new file began
                _ => {}
            }
            self.last_pushed = Some(place);
        } else if let Some(pulling) = &mut self.pulling {
            pulling.rows += 1;
            pulling.heard = self.up;
            match &pulling.what {
                Pull::Range { place: asked, .. } => pulling.foreign |= *asked != place,
                Pull::Probe if self.current.is_none() => self.settle(place, out),
                Pull::Probe | Pull::File { .. } | Pull::Hand => {}
            }
        }
        self.held.insert(position);
        if pushed {
            self.ask(out); // its number may show a gap
        }
    }

    /// `PASSINGS;<count>[;<file>]`
    pub(super) fn counted(&mut self, count: u64, file: Option<u64>, out: &mut Output) {
        self.told = Some((count, file));
        self.stalled = false;
        // Where no file is told, only a pushed record shows that it is another one.
        let pushed_elsewhere = |place: &Place| self.last_pushed.as_ref().is_some_and(|pushed| pushed != place);
        match &mut self.current {
            Some(current) if current.told_file == file && (file.is_some() || !pushed_elsewhere(&current.place)) => {
                let cleared = count < current.counted;
                current.counted = count;
                current.highest = current.highest.max(count);
                if cleared {
                    current.highest = count;
                    let place = current.place.clone();
                    self.cleared(&place, count, out);
                }
            }
            _ => self.file_changed(count, file, out),
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
        if self.hand.is_some() || matches!(self.pulling, Some(Pulling { what: Pull::Hand, .. })) {
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
    }

    /// The count is of another file than before, or it is the first count of this connection.
    fn file_changed(&mut self, count: u64, file: Option<u64>, out: &mut Output) {
        if let Some(old) = self.current.take() {
            let gaps = self.held.missing(old.place.unit.as_deref(), old.place.file.as_ref(), 1, old.highest);
            if let Some(number) = old.place.file_number().filter(|_| !gaps.is_empty()) {
                self.finish(number, number.saturating_add(1), out);
            }
        }
        if count == 0 {
            // No record tells its label yet, but the file before can be finished.
            if let (Some(file), Some(latest)) = (file, self.latest.take()) {
                let same_box = self.unit_hint.is_none() || latest.unit.is_none() || self.unit_hint == latest.unit;
                if let Some(old) = latest.file_number().filter(|_| same_box) {
                    self.finish(old, file, out);
                }
            }
            return;
        }
        let pushed = self.last_pushed.clone().filter(|place| file.is_none() || place.file_number() == file);
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
            self.held.forget(place.unit.as_deref(), None); // nothing tells which file it was that we hold
        } else if known.is_some_and(|highest| highest > count) {
            self.cleared(&place, count, out);
        }
        if let Some(latest) = self.latest.take().filter(|latest| latest.unit == place.unit)
            && let (Some(old), Some(file)) = (latest.file_number(), place.file_number())
        {
            self.finish(old, file, out);
        }
        self.current = Some(Current { place, told_file, counted: count, highest: count });
    }

    /// The decoder is on `file` now and was on `old`: that one is fetched first.
    fn finish(&mut self, old: u64, file: u64, out: &mut Output) {
        if old == file {
            return;
        }
        self.unfinished = Some(old);
        let between = file.saturating_sub(old).saturating_sub(1);
        let text = format!(
            "between file {old}, which was read last, and file {file} the decoder counts {between} more; they are not \
             fetched, since they may be of another race: if they are of this one, take them from the decoder"
        );
        condition(SKIPPED, (between > 0).then_some(text), out);
    }

    fn cleared(&mut self, place: &Place, count: u64, out: &mut Output) {
        self.held.forget(place.unit.as_deref(), place.file.as_ref());
        let file = place.file.as_ref().map_or_else(|| "its file".to_owned(), |file| format!("file {file}"));
        let text = format!("{file} has {count} passings, fewer than before: it was cleared and counts from 1 again");
        let cleared = Cleared { unit: place.unit.clone(), file: place.file.clone(), text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
    }

    /// The answer to the open question is over.
    fn ended(&mut self, out: &mut Output) {
        let Some(Pulling { what, rows, foreign, .. }) = self.pulling.take() else { return };
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
            Pull::Range { place, from, to } => self.give_up(place, from, to, out),
            Pull::File { by_hand: true, .. } => self.stalled = stalled,
            Pull::File { file, by_hand: false } => {
                self.stalled = false; // says nothing about the current file
                let text = format!(
                    "the decoder began a new file and did not give file {file} when asked: passings at its end may be \
                     missing here; compare with the decoder's own file {file}"
                );
                condition(OLD_FILE, (rows == 0).then_some(text), out);
            }
        }
    }

    /// What an answer left out is not asked for again on this connection.
    fn give_up(&mut self, place: Place, from: u64, to: u64, out: &mut Output) {
        let left = self.held.missing(place.unit.as_deref(), place.file.as_ref(), from, to);
        let (Some(first), Some(last)) = (left.first(), left.last()) else { return };
        let text = format!(
            "the decoder was asked for passings {} to {} and gave not all of them; they are asked for again at the next connection",
            first.0, last.1
        );
        condition(MISSING, Some(text), out);
        self.gave_up = true;
        for number in left.iter().flat_map(|(from, to)| *from..=*to) {
            self.held.insert(&Position { unit: place.unit.clone(), file: place.file.clone(), number }); // at most PULL_MAX
        }
    }

    /// Asks the next question, if none is open.
    fn ask(&mut self, out: &mut Output) {
        if self.pulling.is_some() {
            return;
        }
        if let Some(file) = self.unfinished.take() {
            return self.pull(Pull::File { file, by_hand: false }, format!("GETFILE;{file}\r\n"), out);
        }
        match self.hand.take() {
            Some(Hand::File(file)) => {
                return self.pull(Pull::File { file, by_hand: true }, format!("GETFILE;{file}\r\n"), out);
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
        let place = current.place.clone();
        let gap = self.held.first_missing(place.unit.as_deref(), place.file.as_ref(), 1, current.highest);
        if let Some((from, end)) = gap {
            let to = end.min(from.saturating_add(PULL_MAX - 1));
            let question = format!("{from}:{}\r\n", to - from + 1);
            self.pull(Pull::Range { place, from, to }, question, out);
        } else if !self.gave_up && !self.said_complete {
            self.said_complete = true;
            condition(MISSING, None, out);
        }
    }

    fn pull(&mut self, what: Pull, question: String, out: &mut Output) {
        self.pulling = Some(Pulling { what, rows: 0, heard: self.up, foreign: false });
        out.reply(question);
    }
}

fn condition(code: &'static str, text: Option<String>, out: &mut Output) {
    out.frame(Frame::Info(Info::Condition { code, text }), b"");
}
