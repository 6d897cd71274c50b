//! Finds the numbers of a decoder's running count that the journal does not have, and decides what
//! to ask for next.
//!
//! It is for decoders that number their reads without a file and send a range of numbers again
//! (Ultra, P3). What must hold:
//! * **A stored read is known by its content, not by its number.** On a new connection the protocol
//!   asks first for the highest number whose content it knows. The same content means that the
//!   memory is the one that we know. Another content, in this read or in any other, whatever its
//!   stamp, means that the decoder was cleared (and may have counted on past the numbers that we
//!   have). If the decoder does not send the number after two tries, but sends number 1, the memory
//!   is shorter than the stored ranges, so it was cleared too. If it sends neither, the decoder
//!   does not answer, and nothing follows from that, unless a live read caused the question: then
//!   the live read counts as proof of a clearing.
//! * A live read is a doubt if its number is not above the highest one and nobody remembers the
//!   content of that number. The protocol then asks the same question. It needs no question where
//!   the read itself gives the answer: because the read is later than the last live one, or because
//!   the decoder marks its stored reads.
//! * **The same number with the same content is a repeat and nothing else**, also when it is out of
//!   order.
//! * **After a clearing the protocol asks for the whole new memory**, from 1 on, also on a later
//!   connection. These reads were stored and may belong to another race. The link decides that.
//! * Otherwise the protocol **does not ask for reads before the first read that this box has**,
//!   because the memory may go back for weeks, into other races. A person can ask for them by hand.
//! * Each unit has one open question at a time, for at most [`PULL_MAX`] numbers. No mark ends an
//!   answer. An answer has ended when its last number arrived, or [`PATIENCE`] after the last
//!   number that can only belong to the answer. The numbers that it left out are reported until all
//!   of them have arrived, and the protocol asks for them again at the next connection.
//! * **Live reads keep no question open.** Above the highest known number nothing separates an
//!   answer from live reads. Such a question is over when the numbers that follow each other from
//!   its beginning have stopped for [`TAIL_PATIENCE`], however many other numbers arrive. A gap
//!   that appeared meanwhile is asked for next, before a range that a person asked for.
//! * On a new connection the protocol asks for the numbers above the highest stored one: the last
//!   read of the race may be among them, and no later read would ever show the gap.
//! * Bounded: the protocol follows [`UNITS`] units. It takes the reads of further units as they
//!   arrive. A unit that is found cleared again and again (two decoders that report the same name)
//!   is believed [`RESTARTS`] times, then once in every [`RESTART_REST`].

use std::time::Duration;

use super::{Cleared, Condition, Frame, Info, Output, Range};
use crate::model::chip::{Content, Position, StoredRanges};

/// The most numbers of one question.
const PULL_MAX: u64 = 500;
/// An answer is over after this silence.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for numbers that are not known to exist. If it is too short, the protocol asks a second
/// time, but no read is lost.
const TAIL_PATIENCE: Duration = Duration::from_secs(3);
/// The same for the one number that is compared.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);
/// How many times the protocol asks for that number before it asks for number 1.
const CHECKS: u8 = 2;
/// After a check, no new doubt is checked for this time.
const CHECK_REST: Duration = Duration::from_secs(10);
/// After a clearing, the protocol waits this long before it asks for the end of the memory. It
/// waits only where nothing but a live read separates stored reads from live ones.
const SHOW_LIVE: Duration = Duration::from_secs(3);
/// An answer that has begun does not pause for this long.
const PAUSE: Duration = Duration::from_secs(1);
/// The number of boxes or decoders behind one link that the protocol follows.
const UNITS: usize = 16;
/// On a new connection the protocol asks for this many numbers above the highest stored one.
const TAIL: u64 = 10_000;
/// The number of ranges that were not sent and that are remembered for each unit.
const NOT_GIVEN: usize = 64;
/// The head of this file explains both.
const RESTARTS: u8 = 8;
const RESTART_REST: Duration = Duration::from_secs(60);

/// The reasons for the conclusion that a decoder was cleared.
const LOWER: &str = "its live reads have lower numbers than before";
const OTHER: &str = "the number of a read that is held is another read's now, so its memory was cleared";
const SHORTER: &str = "its memory ends before the reads that are held, so it was cleared";

/// Numbers of a unit that the protocol has to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) unit: Option<Box<str>>,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A read or marker with a number, as it arrived.
pub(super) struct Came<'a> {
    pub(super) position: &'a Position,
    pub(super) content: Content,
    /// Its time, in any unit that grows.
    pub(super) at: i64,
    /// The decoder says that the read was stored, if it says that at all.
    pub(super) replay: bool,
}

pub(super) struct Gaps {
    held: StoredRanges,
    units: Vec<Unit>,
    enabled: bool,
    /// The decoder marks its stored reads, so a read without the mark is live.
    marks: bool,
    up: Duration,
    /// What was reported about numbers that were not sent. `None`: nothing was reported on this
    /// connection.
    told: Option<bool>,
}

struct Unit {
    name: Option<Box<str>>,
    /// The protocol asks for no number below this one.
    floor: u64,
    /// The highest number that is known to exist.
    highest: u64,
    /// Number and time (any unit that grows) of the last live read on this connection.
    live: Option<(u64, i64)>,
    open: Option<Open>,
    /// The protocol has to ask for the numbers above `highest` from this age of the link on.
    tail: Option<Duration>,
    /// The range that a person asked for, whether it is stored or not.
    by_hand: Option<(u64, u64)>,
    /// The memory has to be compared with the contents that we know.
    check: Option<Check>,
    /// No doubt is checked before this age of the link.
    sure_until: Duration,
    /// The memory was cleared: any read that the protocol asks for was a stored one.
    cleared: bool,
    /// How often the unit was found cleared on this connection, and when it was found last.
    restarts: (u8, Duration),
    /// The numbers that the protocol asked for and that the unit did not send.
    not_given: Vec<(u64, u64)>,
}

/// A check whether the memory is the one that we know.
struct Check {
    /// The number that is compared.
    number: u64,
    /// How many times the protocol asked for it.
    asked: u8,
    /// A live read caused the check. If the decoder does not answer, the live read counts as proof
    /// of a clearing.
    doubted: bool,
}

struct Open {
    from: u64,
    to: u64,
    /// When the answer last made progress.
    heard: Duration,
    /// The highest number known at the time of the question: a higher number may be live.
    known: u64,
    /// The number that follows those of the answer so far.
    next: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The number that is compared.
    Check,
    /// Whether number 1 exists.
    First,
    /// Numbers that exist and are not stored here.
    Gap,
    /// Numbers that may exist above the highest stored one.
    Tail,
    /// Numbers that a person asked for.
    Hand,
}

impl Open {
    fn has(&self, number: u64) -> bool {
        (self.from..=self.to).contains(&number)
    }

    /// Takes a number of its range that arrived, perhaps live.
    fn hears(&mut self, number: u64, replay: bool, up: Duration) {
        if replay || number <= self.known || number == self.next {
            self.heard = up;
        }
        if number >= self.next && (replay || number <= self.known || number == self.next) {
            self.next = number.saturating_add(1);
        }
    }

    fn is_over(&self, up: Duration) -> bool {
        let patience = match self.what {
            What::Check | What::First => CHECK_PATIENCE,
            What::Gap => PATIENCE,
            What::Tail | What::Hand => TAIL_PATIENCE,
        };
        up.saturating_sub(self.heard) >= patience
    }
}

impl Unit {
    fn new(name: Option<Box<str>>, floor: u64, highest: u64) -> Self {
        Self {
            name,
            floor,
            highest,
            live: None,
            open: None,
            tail: None,
            by_hand: None,
            check: None,
            sure_until: Duration::ZERO,
            cleared: false,
            restarts: (0, Duration::ZERO),
            not_given: Vec::new(),
        }
    }

    /// The memory is the one that we know.
    fn is_known(&mut self, up: Duration) {
        self.check = None;
        self.sure_until = up + CHECK_REST;
        self.open.take_if(|open| matches!(open.what, What::Check | What::First));
    }

    /// Whether a clearing may be believed now.
    fn may_restart(&mut self, up: Duration) -> bool {
        let (times, last) = self.restarts;
        if times >= RESTARTS && up.saturating_sub(last) < RESTART_REST {
            return false;
        }
        self.restarts = (times.saturating_add(1), up);
        true
    }

    /// A number arrived, so it is not missing any more.
    fn gives(&mut self, number: u64) {
        let Some(at) = self.not_given.iter().position(|(from, to)| (*from..=*to).contains(&number)) else { return };
        let (from, to) = self.not_given.swap_remove(at);
        let below = number.checked_sub(1).filter(|below| *below >= from).map(|below| (from, below));
        let above = number.checked_add(1).filter(|above| *above <= to).map(|above| (above, to));
        self.not_given.extend(below.into_iter().chain(above));
    }
}

impl Gaps {
    /// `held` are the stored ranges from the link. Without `enabled` the protocol asks only for
    /// what a person wants. `marks`: the decoder marks its stored reads.
    pub(super) fn new(held: StoredRanges, enabled: bool, marks: bool) -> Self {
        let mut units: Vec<Unit> = Vec::new();
        for (unit, _, ranges) in held.files().filter(|(_, file, _)| file.is_none()) {
            let (Some((floor, _)), Some((_, highest))) = (ranges.first(), ranges.last()) else { continue };
            units.push(Unit::new(unit.map(Into::into), *floor, *highest));
        }
        for (unit, _, life) in held.lives().all().filter(|(_, file, life)| file.is_none() && life.cleared) {
            match units.iter_mut().find(|known| known.name.as_deref() == unit) {
                Some(known) => known.floor = known.floor.min(1),
                None => units.insert(0, Unit::new(unit.map(Into::into), 1, 0)),
            }
            if let Some(known) = units.iter_mut().find(|known| known.name.as_deref() == unit) {
                known.cleared = life.first_live.is_none();
            }
        }
        for unit in &mut units {
            unit.tail = Some(Duration::ZERO);
            let number = held.highest_with_content(unit.name.as_deref(), None).filter(|_| enabled);
            unit.check = number.map(|number| Check { number, asked: 0, doubted: false });
        }
        units.drain(..units.len().saturating_sub(UNITS)); // the units that changed last are at the end
        Self { units, held, enabled, marks, up: Duration::ZERO, told: None }
    }

    /// Whether the protocol asked for this read and the read is not a live one: the decoder sends
    /// it from its memory. Call this before [`Gaps::read`].
    pub(super) fn is_stored(&self, position: &Position) -> bool {
        let (number, up) = (position.number, self.up);
        self.units.iter().find(|unit| unit.name == position.unit).is_some_and(|unit| {
            let goes_on = |open: &Open| open.next == open.from || up.saturating_sub(open.heard) < PAUSE;
            let follows = |open: &Open| number <= open.next && goes_on(open);
            // Above the highest known number, reads that follow the question without a pause count
            // as its answer.
            let answers = |open: &Open| unit.cleared || open.what == What::Tail;
            let of = |open: &Open| open.has(number) && (number <= unit.highest || (answers(open) && follows(open)));
            unit.open.as_ref().is_some_and(of)
        })
    }

    /// Takes a read that arrived.
    pub(super) fn read(&mut self, came: &Came<'_>, out: &mut Output) {
        let Came { position, content, at, replay } = *came;
        let (number, up) = (position.number, self.up);
        let Some(index) = self.index(position) else { return };
        let unit = &mut self.units[index];
        let name = position.unit.as_deref();
        let asked_for = unit.open.as_ref().is_some_and(|open| open.has(number));
        let first = unit.open.as_ref().is_some_and(|open| open.what == What::First && open.has(number));
        if let Some(open) = unit.open.as_mut().filter(|_| asked_for) {
            open.hears(number, replay, up);
        }
        let mut live = !replay && !asked_for;
        let cleared = match self.held.content(name, None, number) {
            Some(known) if known == content => {
                unit.is_known(up);
                live = false; // a repeat
                None
            }
            Some(_) => Some(OTHER),
            // The decoder did not send the number that is compared, but it sends this one.
            None if first => Some(SHORTER),
            None if live && number <= unit.highest => self.doubt(index, number, at),
            None => None,
        };
        let restarts = cleared.filter(|_| self.units[index].may_restart(up));
        if let Some(why) = restarts {
            self.restart(index, number, live, why, out);
        }
        let unit = &mut self.units[index];
        if live {
            unit.live = Some((number, at));
            // From now on the lower numbers are known to exist, and the next live read shows a gap.
            unit.tail = unit.tail.take().filter(|_| !unit.cleared);
        }
        unit.highest = unit.highest.max(number);
        if let Some(open) = unit.open.take_if(|open| open.to == number)
            && open.what == What::Tail
        {
            unit.tail = Some(up); // there may be more above it
        }
        unit.gives(number);
        self.held.insert_read(position, content);
        if self.told == Some(true) {
            self.tell_given(out);
        }
    }

    /// A live read has a number that is not above the highest, and nobody remembers the content of
    /// that number. Returns the reason why the read proves a clearing. `None`: it does not prove
    /// one, or the decoder is asked first.
    fn doubt(&mut self, index: usize, number: u64, at: i64) -> Option<&'static str> {
        let unit = &mut self.units[index];
        let name = unit.name.as_deref();
        let is_late = !self.held.has(name, None, number) && number >= unit.floor;
        let compared = self.held.highest_with_content(name, None);
        match unit.live {
            Some((last, then)) if number < last && at > then => return Some(LOWER),
            // Nothing can be compared, because the journal is of a version that did not remember
            // contents.
            _ if compared.is_none() || (self.marks && !is_late) => return Some(LOWER),
            live if !self.enabled => return (live.is_none() && !is_late).then_some(LOWER),
            _ => {}
        }
        match (&mut unit.check, compared) {
            (Some(check), _) => check.doubted = true,
            (None, Some(number)) if self.up >= unit.sure_until => {
                unit.check = Some(Check { number, asked: 0, doubted: true });
            }
            _ => {}
        }
        None
    }

    /// The decoder was cleared, as the read with this number shows (0: no read shows it).
    fn restart(&mut self, index: usize, number: u64, live: bool, why: &str, out: &mut Output) {
        let (up, marks) = (self.up, self.marks);
        let unit = &mut self.units[index];
        // Live reads that arrived during the check also belong to the new memory.
        let seen = unit.live.filter(|_| unit.check.is_some()).map_or(0, |(last, _)| last);
        let tail = if marks { up } else { up + SHOW_LIVE };
        unit.tail = Some(tail).filter(|_| !live && seen == 0);
        (unit.floor, unit.highest, unit.cleared) = (unit.floor.min(1), number.max(seen), true);
        (unit.live, unit.open, unit.check) = (None, None, None);
        unit.not_given.clear();
        self.held.forget(unit.name.as_deref(), None);
        let text = match why {
            LOWER => format!(
                "its reads count from {} again: it was cleared or restarted, or repeats what it sent",
                unit.highest
            ),
            why => why.to_owned(),
        };
        let cleared = Cleared { unit: unit.name.clone(), file: None, text: text.into() };
        out.frame(Frame::Cleared(cleared), b"");
    }

    fn index(&mut self, position: &Position) -> Option<usize> {
        if let Some(at) = self.units.iter().position(|unit| unit.name == position.unit) {
            return Some(at);
        }
        if self.units.len() == UNITS {
            return None;
        }
        // The first read of this unit: for us the count begins with it.
        let first = position.number;
        self.units.push(Unit::new(position.unit.clone(), first, first - first.min(1)));
        Some(self.units.len() - 1)
    }

    /// Ends the questions that have waited too long.
    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        for index in 0..self.units.len() {
            let Some(open) = self.units[index].open.take_if(|open| open.is_over(up)) else { continue };
            match open.what {
                What::Check => {} // the next question asks for it again, or for number 1
                What::First => self.unanswered(index, out),
                What::Hand if open.next == open.from => self.units[index].by_hand = None, // the decoder has no more
                What::Tail | What::Hand => {} // the decoder may have no more
                What::Gap => self.left_out(index, &open, out),
            }
        }
        self.tell_given(out);
    }

    /// The decoder sent neither the number that is compared nor number 1.
    fn unanswered(&mut self, index: usize, out: &mut Output) {
        let (unit, up) = (&mut self.units[index], self.up);
        unit.sure_until = up + CHECK_REST;
        let doubted = unit.check.as_ref().is_some_and(|check| check.doubted);
        if doubted && unit.may_restart(up) {
            self.restart(index, 0, true, LOWER, out);
        }
        self.units[index].check = None;
    }

    /// An answer ended. The numbers that it left out are reported, and the protocol does not ask
    /// for them again on this connection.
    fn left_out(&mut self, index: usize, open: &Open, out: &mut Output) {
        let unit = &mut self.units[index];
        let left = self.held.missing(unit.name.as_deref(), None, open.from, open.to);
        let (Some(first), Some(last)) = (left.first(), left.last()) else { return };
        let text = format!(
            "the decoder was asked for reads {} to {} and gave not all of them; they are asked for again at the next connection",
            first.0, last.1
        );
        self.told = Some(true);
        let condition = Info::Condition { code: Condition::PassingsNotGiven, text: Some(text) };
        out.frame(Frame::Info(condition), b"");
        for number in left.iter().flat_map(|(from, to)| *from..=*to) {
            self.held.insert(&Position { unit: unit.name.clone(), file: None, number }); // at most PULL_MAX
        }
        for range in left {
            let full = unit.not_given.len() == NOT_GIVEN;
            match unit.not_given.last_mut().filter(|_| full) {
                Some(last) => last.1 = last.1.max(range.1), // these are then reported until the next connection
                None => unit.not_given.push(range),
            }
        }
    }

    /// Ends the report when nothing is missing any more. It also does so once if nothing was
    /// missing since the connection began, because an earlier connection may have made the report.
    fn tell_given(&mut self, out: &mut Output) {
        if self.told == Some(false) || self.units.iter().any(|unit| !unit.not_given.is_empty()) {
            return;
        }
        let settled = |unit: &Unit| {
            let asking = |open: &Open| matches!(open.what, What::Check | What::First | What::Gap);
            unit.check.is_none()
                && !unit.open.as_ref().is_some_and(asking)
                && self.held.first_missing(unit.name.as_deref(), None, unit.floor, unit.highest).is_none()
        };
        if self.told == Some(true) || (self.enabled && !self.units.is_empty() && self.units.iter().all(settled)) {
            self.told = Some(false);
            out.frame(Frame::Info(Info::Condition { code: Condition::PassingsNotGiven, text: None }), b"");
        }
    }

    /// A person wants these numbers again, whether they are stored or not. [`Gaps::ask`] returns
    /// them in pieces.
    pub(super) fn by_hand(&mut self, range: &Range) -> Result<(), &'static str> {
        if range.file.is_some() {
            return Err("this decoder has no files: leave --file away");
        }
        let several = self.units.len() > 1;
        let unit = self.units.iter_mut().find(|unit| if several { unit.name == range.unit } else { true });
        let unit = match unit {
            Some(unit) if range.unit.is_none() || unit.name == range.unit => unit,
            Some(_) => return Err("nothing was heard of that unit"),
            None if several && range.unit.is_none() => {
                return Err("several units are behind this link: say which with --unit");
            }
            None if several => return Err("nothing was heard of that unit"),
            None => return Err("nothing was heard of this decoder yet: try again after its first read"),
        };
        unit.by_hand = Some((range.from, range.to));
        Ok(())
    }

    /// Returns what to ask for now. The caller repeats the call until it returns `None`.
    pub(super) fn ask(&mut self) -> Option<Ask> {
        let (enabled, up) = (self.enabled, self.up);
        self.units.iter_mut().find_map(|unit| {
            if unit.open.is_some() {
                return None;
            }
            let piece = |from: u64, end: u64| end.min(from.saturating_add(PULL_MAX - 1));
            let gap = self.held.first_missing(unit.name.as_deref(), None, unit.floor, unit.highest);
            let (from, to, what) = if let Some(check) = &mut unit.check {
                check.asked += 1;
                match check.asked <= CHECKS {
                    true => (check.number, check.number, What::Check),
                    false => (1, 1, What::First),
                }
            } else if let Some((from, end)) = gap.filter(|_| enabled) {
                (from, piece(from, end), What::Gap)
            } else if unit.tail.take_if(|from| enabled && *from <= up).is_some() {
                (unit.highest.saturating_add(1), unit.highest.saturating_add(TAIL), What::Tail)
            } else {
                let (from, end) = unit.by_hand.take()?;
                let to = piece(from, end);
                unit.by_hand = (to < end).then_some((to.saturating_add(1), end));
                (from, to, What::Hand)
            };
            unit.open = Some(Open { from, to, heard: up, known: unit.highest, next: from, what });
            Some(Ask { unit: unit.name.clone(), from, to })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position { unit: Some("1".into()), file: None, number }
    }

    fn says(number: u64) -> Content {
        Content::of(&number.to_string(), &"10:00:00.000".parse().unwrap())
    }

    struct Decoder {
        gaps: Gaps,
        out: Output,
    }

    impl Decoder {
        fn connected(held: impl IntoIterator<Item = u64>) -> Self {
            let mut known = StoredRanges::default();
            held.into_iter().for_each(|number| known.insert(&at(number)));
            Self { gaps: Gaps::new(known, true, false), out: Output::default() }
        }

        /// The same, with the content of each number in the stored ranges.
        fn knowing(held: impl IntoIterator<Item = u64>) -> Self {
            let mut known = StoredRanges::default();
            held.into_iter().for_each(|number| known.insert_read(&at(number), says(number)));
            Self { gaps: Gaps::new(known, true, false), out: Output::default() }
        }

        fn live(&mut self, number: u64, time: i64) {
            self.comes(number, says(number), time);
        }

        /// A read from another memory.
        fn other(&mut self, number: u64, time: i64) {
            self.comes(number, says(number + 1_000_000), time);
        }

        fn comes(&mut self, number: u64, content: Content, at_time: i64) {
            let position = &at(number);
            self.gaps.read(&Came { position, content, at: at_time, replay: false }, &mut self.out);
        }

        fn passes(&mut self, seconds: u64) -> Vec<(u64, u64)> {
            let mut asked = Vec::new();
            for _ in 0..seconds {
                let up = self.gaps.up + Duration::from_secs(1);
                self.gaps.tick(up, &mut self.out);
                asked.extend(self.asked());
            }
            asked
        }

        fn asked(&mut self) -> Vec<(u64, u64)> {
            std::iter::from_fn(|| self.gaps.ask()).map(|ask| (ask.from, ask.to)).collect()
        }

        fn cleared(&self) -> usize {
            let cleared = |item: &&super::super::Item| matches!(item, super::super::Item::Frame(framed) if matches!(framed.frame, Frame::Cleared(_)));
            self.out.items.iter().filter(cleared).count()
        }

        /// The reports in order: `true` for missing numbers, `false` for none.
        fn told(&self) -> Vec<bool> {
            let told = self.out.items.iter().filter_map(|item| match item {
                super::super::Item::Frame(framed) => match &framed.frame {
                    Frame::Info(Info::Condition { text, .. }) => Some(text.is_some()),
                    _ => None,
                },
                _ => None,
            });
            told.collect()
        }
    }

    #[test]
    fn a_hole_in_the_numbers_is_asked_for_in_pieces_and_what_was_before_us_is_not() {
        let mut decoder = Decoder::connected([]);
        decoder.live(5000, 1);
        assert_eq!(decoder.asked(), []);
        decoder.live(6201, 2);
        assert_eq!(decoder.asked(), [(5001, 5500)]);
        (5001..=5500).for_each(|number| decoder.live(number, 1));
        assert_eq!(decoder.asked(), [(5501, 6000)]);
        (5501..=6000).for_each(|number| decoder.live(number, 1));
        assert_eq!(decoder.asked(), [(6001, 6200)]);
        (6001..=6200).for_each(|number| decoder.live(number, 1));
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![], 0));
    }

    #[test]
    fn a_new_connection_asks_for_the_tail_and_for_old_holes() {
        let mut decoder = Decoder::connected((10..=20).chain(25..=30));
        assert_eq!(decoder.asked(), [(21, 24)]);
        (21..=24).for_each(|number| decoder.live(number, 1));
        assert_eq!(decoder.asked(), [(31, 30 + TAIL)]);
        decoder.live(31, 2);
        decoder.gaps.tick(PATIENCE, &mut decoder.out);
        assert_eq!(
            (decoder.asked(), decoder.told(), decoder.cleared()),
            (vec![], vec![false], 0),
            "the tail may be empty"
        );
    }

    #[test]
    fn a_gap_among_live_reads_that_never_pause_is_asked_for_within_seconds_of_the_last_stored_one() {
        let mut decoder = Decoder::connected(10..=20);
        assert_eq!(decoder.asked(), [(21, 20 + TAIL)]);
        let mut next = 21;
        let mut asked = Vec::new();
        for tenth in 1..=100_u64 {
            if tenth == 20 {
                next += 3; // three reads never arrived
            }
            decoder.live(next, i64::try_from(tenth).unwrap());
            next += 1;
            if tenth.is_multiple_of(10) {
                decoder.gaps.tick(Duration::from_millis(100 * tenth), &mut decoder.out);
            }
            asked.extend(decoder.asked().into_iter().map(|range| (tenth, range)));
        }
        assert_eq!(asked, [(40, (40, 42))]);
        (40..=42).for_each(|number| decoder.live(number, 1));
        decoder.live(next + 1, 200);
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![(next, next)], 0), "and the next at once");
    }

    #[test]
    fn a_decoder_that_does_not_answer_is_asked_no_more_than_one_thing_at_a_time() {
        let mut decoder = Decoder::connected([]);
        decoder.live(1, 1);
        let mut asked = 0;
        for second in 1..=60 {
            decoder.live(10 * second, i64::try_from(second).unwrap()); // one gap each second
            decoder.gaps.tick(Duration::from_secs(second), &mut decoder.out);
            asked += decoder.asked().len();
        }
        assert!(asked <= 7, "{asked} questions in a minute");
    }

    #[test]
    fn what_somebody_wants_ends_where_the_decoder_has_no_more() {
        let mut decoder = Decoder::connected(1..=10);
        decoder.gaps.ask();
        decoder.gaps.tick(TAIL_PATIENCE, &mut decoder.out);
        decoder.gaps.by_hand(&Range { unit: None, file: None, from: 1, to: 900_000 }).unwrap();
        assert_eq!(decoder.asked(), [(1, 500)]);
        (1..=10).for_each(|number| decoder.live(number, 1));
        decoder.gaps.tick(2 * TAIL_PATIENCE, &mut decoder.out);
        assert_eq!(decoder.asked(), [(501, 1000)]);
        decoder.gaps.tick(3 * TAIL_PATIENCE, &mut decoder.out);
        assert_eq!((decoder.asked(), decoder.told()), (vec![], vec![false]));
    }

    #[test]
    fn a_decoder_that_counts_from_the_start_again_is_asked_from_1() {
        let mut decoder = Decoder::connected([]);
        decoder.live(700, 1);
        decoder.live(3, 2);
        assert_eq!((decoder.cleared(), decoder.asked()), (1, vec![(1, 2)]));
        let mut decoder = Decoder::connected(1..=700);
        assert_eq!(decoder.asked(), [(701, 700 + TAIL)]);
        decoder.live(3, 2);
        assert_eq!((decoder.cleared(), decoder.asked()), (1, vec![(1, 2)]));
        decoder.live(3, 2); // the decoder sent it twice
        assert_eq!(decoder.cleared(), 1);
    }

    #[test]
    fn numbers_that_are_not_given_are_told_once_and_not_asked_for_ever() {
        let mut decoder = Decoder::connected([]);
        decoder.live(1, 1);
        decoder.live(4, 2);
        assert_eq!(decoder.asked(), [(2, 3)]);
        decoder.live(2, 1);
        decoder.gaps.tick(PATIENCE, &mut decoder.out);
        decoder.gaps.tick(2 * PATIENCE, &mut decoder.out);
        assert_eq!((decoder.asked(), decoder.told()), (vec![], vec![true]));
        decoder.live(3, 1);
        assert_eq!(decoder.told(), [true, false], "and that is over when all were given");
    }

    #[test]
    fn what_somebody_wants_is_asked_for_in_pieces_held_or_not() {
        let mut decoder = Decoder::connected(900..=1000);
        decoder.gaps.ask();
        (1001..=1000 + TAIL).for_each(|number| decoder.live(number, 1));
        assert_eq!(decoder.asked(), [(1001 + TAIL, 1000 + 2 * TAIL)], "there may be more behind it");
        decoder.gaps.tick(TAIL_PATIENCE, &mut decoder.out);
        let range = |unit: Option<&str>| Range { unit: unit.map(Into::into), file: None, from: 1, to: 900 };
        assert!(decoder.gaps.by_hand(&range(Some("2"))).is_err());
        decoder.gaps.by_hand(&range(None)).unwrap();
        assert_eq!(decoder.asked(), [(1, 500)]);
        (1..=500).for_each(|number| decoder.live(number, 1));
        assert_eq!(decoder.asked(), [(501, 900)]);
        (501..=900).for_each(|number| decoder.live(number, 1));
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![], 0));
    }

    #[test]
    fn a_new_connection_compares_the_last_read_held_before_it_asks_for_more() {
        let mut decoder = Decoder::knowing(1..=20);
        assert_eq!(decoder.asked(), [(20, 20)]);
        decoder.live(20, 1);
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![(21, 20 + TAIL)], 0));
    }

    #[test]
    fn a_memory_that_was_cleared_and_counted_on_past_what_is_held_is_asked_for_from_1() {
        let mut decoder = Decoder::knowing(1..=20);
        assert_eq!(decoder.asked(), [(20, 20)]);
        decoder.live(51, 900); // before the answer
        decoder.other(20, 5);
        assert_eq!((decoder.cleared(), decoder.asked()), (1, vec![(1, 19)]));
        (1..=19).for_each(|number| decoder.other(number, 4));
        assert_eq!((decoder.cleared(), decoder.asked()), (1, vec![(21, 51)]));
        let mut decoder = Decoder::knowing(1..=20);
        assert_eq!(decoder.asked(), [(20, 20)]);
        decoder.other(20, 5);
        assert_eq!(decoder.asked(), [(1, 19)]);
        (1..=19).for_each(|number| decoder.other(number, 4));
        assert_eq!(decoder.asked(), [], "a live read may show what is stored and what is not");
        assert_eq!((decoder.passes(4), decoder.cleared()), (vec![(21, 20 + TAIL)], 1));
    }

    #[test]
    fn a_memory_that_ends_before_what_is_held_was_cleared() {
        let mut decoder = Decoder::knowing(1..=700);
        assert_eq!(decoder.asked(), [(700, 700)]);
        assert_eq!(decoder.passes(4), [(700, 700), (1, 1)]);
        decoder.other(1, 5);
        assert_eq!((decoder.cleared(), decoder.passes(4)), (1, vec![(2, 1 + TAIL)]));
        (2..=31).for_each(|number| {
            assert!(decoder.gaps.is_stored(&at(number)), "{number}");
            decoder.other(number, 5);
        });
        assert_eq!((decoder.passes(20), decoder.cleared()), (vec![], 1));
    }

    #[test]
    fn a_decoder_that_does_not_answer_is_not_taken_for_a_cleared_one() {
        let mut decoder = Decoder::knowing(1..=700);
        assert_eq!(decoder.asked(), [(700, 700)]);
        assert_eq!(decoder.passes(8), [(700, 700), (1, 1), (701, 700 + TAIL)]);
        assert_eq!(decoder.cleared(), 0);
        decoder.live(701, 2);
        assert_eq!(decoder.cleared(), 0);
        // A clearing is found only when the live reads begin again at low numbers.
        decoder.other(3, 1);
        assert_eq!(decoder.cleared(), 0, "it is asked first");
        decoder.passes(30);
        assert_eq!(decoder.cleared(), 0, "not so soon after it was found mute");
        decoder.other(4, 1);
        decoder.passes(8);
        assert_eq!(decoder.cleared(), 1);
    }

    #[test]
    fn a_read_that_is_said_once_more_or_out_of_turn_asks_for_nothing() {
        let mut decoder = Decoder::knowing(1..=20);
        decoder.asked();
        decoder.live(20, 20);
        decoder.asked();
        decoder.live(22, 22);
        decoder.live(21, 21);
        for number in [22, 22, 21, 5, 20] {
            decoder.live(number, 99);
        }
        decoder.passes(5);
        decoder.live(23, 23);
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![], 0));
    }

    #[test]
    fn a_live_read_with_other_content_is_a_clearing_whatever_its_stamp() {
        let mut decoder = Decoder::knowing(1..=20);
        decoder.asked();
        decoder.live(20, 20);
        decoder.asked();
        decoder.live(21, 21);
        decoder.other(1, -7200);
        assert_eq!(decoder.cleared(), 1);
        decoder.other(3, -7100);
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![(2, 2)], 1));
    }

    #[test]
    fn a_lower_number_that_nobody_remembers_is_a_doubt_that_the_decoder_is_asked_about() {
        let mut decoder = Decoder::knowing(1000..=2000);
        decoder.asked();
        decoder.live(2000, 20);
        decoder.passes(20);
        decoder.live(2001, 21);
        decoder.comes(5, says(5), 3); // another program asked for it
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![(2001, 2001)], 0));
        decoder.live(2001, 21);
        assert_eq!((decoder.passes(20), decoder.cleared()), (vec![], 0));
        decoder.comes(6, says(6), 4);
        assert_eq!(decoder.asked(), [(2001, 2001)]);
        assert_eq!(decoder.passes(4), [(2001, 2001), (1, 1)]);
        decoder.other(1, 3);
        assert_eq!((decoder.asked(), decoder.cleared()), (vec![(2, 6)], 1));
    }

    #[test]
    fn all_of_a_cleared_memory_is_still_wanted_at_the_next_connection() {
        let mut held = StoredRanges::default();
        (1..=20).for_each(|number| held.insert_read(&at(number), says(number)));
        held.forget(Some("1"), None);
        let gaps = Gaps::new(held.clone(), true, false);
        let mut decoder = Decoder { gaps, out: Output::default() };
        assert_eq!(decoder.asked(), [(1, TAIL)]);
        held.insert_read(&at(31), says(31));
        let gaps = Gaps::new(held, true, false);
        let mut decoder = Decoder { gaps, out: Output::default() };
        assert_eq!(decoder.asked(), [(31, 31)]);
        decoder.live(31, 1);
        assert_eq!(decoder.asked(), [(1, 30)]);
    }

    #[test]
    fn two_decoders_of_one_name_do_not_make_it_ask_without_end() {
        let mut decoder = Decoder::knowing(1..=20);
        for round in 0..1000 {
            decoder.live(20, round);
            decoder.other(20, round);
            decoder.asked();
        }
        assert!(decoder.cleared() <= usize::from(RESTARTS), "{}", decoder.cleared());
    }

    #[test]
    fn more_units_than_are_cared_for_cost_nothing() {
        let mut decoder = Decoder::connected([]);
        for unit in 0..10_000 {
            let position = Position { unit: Some(format!("{unit}").into()), file: None, number: 1 + unit % 7 };
            let came = Came { position: &position, content: says(unit), at: 1, replay: false };
            decoder.gaps.read(&came, &mut decoder.out);
        }
        assert_eq!((decoder.gaps.units.len(), decoder.asked().len()), (UNITS, 0));
    }
}
