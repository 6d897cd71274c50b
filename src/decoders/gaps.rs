//! Which numbers of a decoder's running count are missing here, and what to ask for next.
//!
//! For decoders that number their reads without a file and give a range of numbers again (Ultra, P3). Holds:
//! * **What is held is held by content, not by number.** On a new connection the highest number whose content is known is
//!   asked for again, before anything else. The same content: it is the memory that we know. Another content, there or in
//!   any other read, whatever its stamp: the decoder was cleared (and may have counted on past what we hold). The number is
//!   not given, at two tries, and number 1 is: the memory is shorter than what we hold, so it was cleared, too. Neither is
//!   given: the decoder does not answer, and nothing follows from that.
//! * A live read with a number that is not beyond the highest one, whose content nobody remembers, is a doubt: the same
//!   question is put. It is answered at once where the read tells by itself: it is later than the last live one, or the
//!   decoder marks what it had stored.
//! * **The same number with the same content is a repeat and nothing else**, also out of turn.
//! * **After a clearing all of the new memory is asked for**, from 1 on, also on a later connection. What comes was stored
//!   and may be of another race: the link judges that.
//! * Otherwise **what was before the first read that this box holds is not asked for**: the memory may go back for weeks,
//!   into other races. Somebody can ask for it by hand.
//! * One question at a time for each unit, at most [`PULL_MAX`] numbers. There is no mark that ends an answer: it has ended
//!   when its last number came, or [`PATIENCE`] after the last number that can only be of the answer. What it left out is
//!   told until all of it came, and asked for again at the next connection.
//! * **Live reads keep no question open.** Behind the highest number known nothing tells an answer from what happens now:
//!   such a question is over [`TAIL_PATIENCE`] after the numbers that follow each other from its beginning come to a stop,
//!   however many others come, and a gap that showed meanwhile is asked for next, before what somebody wants by hand.
//! * On a new connection the numbers behind the highest one held are asked for: the last read of the race may be among them,
//!   and no later one would ever show the gap.
//! * Bounded: [`UNITS`] units are cared for; reads of more are taken as they come. A unit that is found cleared again and
//!   again (two decoders that give the same name) is believed [`RESTARTS`] times, then once in [`RESTART_REST`].

use std::time::Duration;

use super::{Cleared, Condition, Frame, Info, Output, Range};
use crate::model::chip::{Content, Position, StoredRanges};

/// Numbers asked for at once.
const PULL_MAX: u64 = 500;
/// Silence after which an answer is over.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for numbers that nobody knows to exist. Too soon costs a second asking, never a read.
const TAIL_PATIENCE: Duration = Duration::from_secs(3);
/// The same for the one number that is compared.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked for before number 1 is.
const CHECKS: u8 = 2;
/// A doubt is not looked into again for so long.
const CHECK_REST: Duration = Duration::from_secs(10);
/// How long the end of a memory that was cleared is not asked for where only a live read tells what is stored from what
/// happens now.
const SHOW_LIVE: Duration = Duration::from_secs(3);
/// An answer that is under way does not pause for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// Boxes or decoders behind one link that are cared for.
const UNITS: usize = 16;
/// How far behind the highest number held a new connection asks.
const TAIL: u64 = 10_000;
/// Ranges that were not given and are remembered by unit.
const NOT_GIVEN: usize = 64;
/// See the head.
const RESTARTS: u8 = 8;
const RESTART_REST: Duration = Duration::from_secs(60);

/// Why a decoder is taken for cleared.
const LOWER: &str = "its live reads have lower numbers than before";
const OTHER: &str = "the number of a read that is held is another read's now, so its memory was cleared";
const SHORTER: &str = "its memory ends before the reads that are held, so it was cleared";

/// Numbers of a unit to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) unit: Option<Box<str>>,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// A read or marker that has a number, as it came.
pub(super) struct Came<'a> {
    pub(super) position: &'a Position,
    pub(super) content: Content,
    /// Its time, in any unit that grows.
    pub(super) at: i64,
    /// The decoder says that it was stored, if it says.
    pub(super) replay: bool,
}

pub(super) struct Gaps {
    held: StoredRanges,
    units: Vec<Unit>,
    enabled: bool,
    /// The decoder marks what it had stored: what is not marked is live.
    marks: bool,
    up: Duration,
    /// What was told of numbers that were not given; `None`: nothing on this connection.
    told: Option<bool>,
}

struct Unit {
    name: Option<Box<str>>,
    /// Nothing below is asked for.
    floor: u64,
    /// Highest number known to exist.
    highest: u64,
    /// Number and time (any unit that grows) of the last live read on this connection.
    live: Option<(u64, i64)>,
    open: Option<Open>,
    /// The numbers behind `highest` are to be asked for, from this age of the link on.
    tail: Option<Duration>,
    /// What somebody wants again, held or not.
    by_hand: Option<(u64, u64)>,
    /// The memory is to be compared with what is held.
    check: Option<Check>,
    /// Until when no doubt is looked into.
    sure_until: Duration,
    /// The memory was cleared: what is given of it was stored in any case.
    cleared: bool,
    /// Times it was found cleared on this connection, and the last.
    restarts: (u8, Duration),
    /// What it was asked for and did not give.
    not_given: Vec<(u64, u64)>,
}

/// Looks whether the memory is the one that we know.
struct Check {
    /// The number that is compared.
    number: u64,
    /// Times it was asked for.
    asked: u8,
    /// A live read gave reason to; it is the decoder's word if it does not answer.
    doubted: bool,
}

struct Open {
    from: u64,
    to: u64,
    /// When the answer last went on.
    heard: Duration,
    /// Highest number known when it was asked: what is above may be live.
    known: u64,
    /// The number that follows what came of it so far.
    next: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The number that is compared.
    Check,
    /// Whether there is a number 1.
    First,
    /// Numbers that exist and are not held.
    Gap,
    /// What may be behind the highest number held.
    Tail,
    /// What somebody wants.
    Hand,
}

impl Open {
    fn has(&self, number: u64) -> bool {
        (self.from..=self.to).contains(&number)
    }

    /// A number of its range came, perhaps live.
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

    /// It is the memory that we know.
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

    /// A number came: it is not missing any more.
    fn gives(&mut self, number: u64) {
        let Some(at) = self.not_given.iter().position(|(from, to)| (*from..=*to).contains(&number)) else { return };
        let (from, to) = self.not_given.swap_remove(at);
        let below = number.checked_sub(1).filter(|below| *below >= from).map(|below| (from, below));
        let above = number.checked_add(1).filter(|above| *above <= to).map(|above| (above, to));
        self.not_given.extend(below.into_iter().chain(above));
    }
}

impl Gaps {
    /// `held` as the link tells it; without `enabled` nothing is asked for but what somebody wants. `marks`: the decoder
    /// marks what it had stored.
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
        units.drain(..units.len().saturating_sub(UNITS)); // the last touched are last
        Self { units, held, enabled, marks, up: Duration::ZERO, told: None }
    }

    /// This read was asked for and is not the first that anybody heard of: the decoder gives it from its memory. To be
    /// asked before [`Gaps::read`].
    pub(super) fn is_stored(&self, position: &Position) -> bool {
        let (number, up) = (position.number, self.up);
        self.units.iter().find(|unit| unit.name == position.unit).is_some_and(|unit| {
            let goes_on = |open: &Open| open.next == open.from || up.saturating_sub(open.heard) < PAUSE;
            let follows = |open: &Open| number <= open.next && goes_on(open);
            // Behind the highest number known, what follows the question without a pause is taken for its answer.
            let answers = |open: &Open| unit.cleared || open.what == What::Tail;
            let of = |open: &Open| open.has(number) && (number <= unit.highest || (answers(open) && follows(open)));
            unit.open.as_ref().is_some_and(of)
        })
    }

    /// A read came.
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
                live = false; // said once more
                None
            }
            Some(_) => Some(OTHER),
            // The number that is compared was not given, this one is.
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
            // From here on the numbers below are known to exist, and the next live one shows what is missing.
            unit.tail = unit.tail.take().filter(|_| !unit.cleared);
        }
        unit.highest = unit.highest.max(number);
        if let Some(open) = unit.open.take_if(|open| open.to == number)
            && open.what == What::Tail
        {
            unit.tail = Some(up); // there may be more behind it
        }
        unit.gives(number);
        self.held.insert_read(position, content);
        if self.told == Some(true) {
            self.tell_given(out);
        }
    }

    /// A live read has a number that is not beyond the highest, and nobody remembers what that number said. Why it
    /// tells that the decoder was cleared; `None`: it does not, or the decoder is asked first.
    fn doubt(&mut self, index: usize, number: u64, at: i64) -> Option<&'static str> {
        let unit = &mut self.units[index];
        let name = unit.name.as_deref();
        let is_late = !self.held.has(name, None, number) && number >= unit.floor;
        let compared = self.held.highest_with_content(name, None);
        match unit.live {
            Some((last, then)) if number < last && at > then => return Some(LOWER),
            // Nothing to compare: the journal is of a version that remembered no contents.
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

    /// The decoder was cleared, as the read with this number shows (0: none does).
    fn restart(&mut self, index: usize, number: u64, live: bool, why: &str, out: &mut Output) {
        let (up, marks) = (self.up, self.marks);
        let unit = &mut self.units[index];
        // Live reads that came while it was looked into are of the new memory as well.
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
        // The first read of all: it is what the count begins with for us.
        let first = position.number;
        self.units.push(Unit::new(position.unit.clone(), first, first - first.min(1)));
        Some(self.units.len() - 1)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        for index in 0..self.units.len() {
            let Some(open) = self.units[index].open.take_if(|open| open.is_over(up)) else { continue };
            match open.what {
                What::Check => {} // asked for once more, or number 1 is
                What::First => self.unanswered(index, out),
                What::Hand if open.next == open.from => self.units[index].by_hand = None, // there are no more
                What::Tail | What::Hand => {}                                             // perhaps there are no more
                What::Gap => self.left_out(index, &open, out),
            }
        }
        self.tell_given(out);
    }

    /// Neither the number that is compared nor number 1 was given.
    fn unanswered(&mut self, index: usize, out: &mut Output) {
        let (unit, up) = (&mut self.units[index], self.up);
        unit.sure_until = up + CHECK_REST;
        let doubted = unit.check.as_ref().is_some_and(|check| check.doubted);
        if doubted && unit.may_restart(up) {
            self.restart(index, 0, true, LOWER, out);
        }
        self.units[index].check = None;
    }

    /// An answer ended; what it left out is told, and not asked for again on this connection.
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
                Some(last) => last.1 = last.1.max(range.1), // then it is told until the next connection
                None => unit.not_given.push(range),
            }
        }
    }

    /// Nothing is missing any more, or not since the connection began: an earlier one may have told so.
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

    /// Somebody wants these numbers again, held or not; [`Gaps::ask`] gives them in pieces.
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

    /// What to ask for now; to be called until it is `None`.
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

        /// The same, of which the journal knows what each number says.
        fn knowing(held: impl IntoIterator<Item = u64>) -> Self {
            let mut known = StoredRanges::default();
            held.into_iter().for_each(|number| known.insert_read(&at(number), says(number)));
            Self { gaps: Gaps::new(known, true, false), out: Output::default() }
        }

        fn live(&mut self, number: u64, time: i64) {
            self.comes(number, says(number), time);
        }

        /// Of another memory.
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

        /// Whether each thing told was that numbers are missing, or that none are.
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
                next += 3; // three reads that never arrived
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
            decoder.live(10 * second, i64::try_from(second).unwrap()); // a gap a second
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
        decoder.live(3, 2); // sent twice
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
        // Unless its live reads count anew.
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
        decoder.comes(5, says(5), 3); // somebody else had it asked
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
