//! Which numbers of a decoder's running count are missing here, and what to ask for next.
//!
//! For decoders that number their reads without a file and give a range of numbers again (Ultra, P3). Holds:
//! * **What was before the first read that this box holds is not asked for**: the memory may go back for weeks, into
//!   other races. Somebody can ask for it by hand.
//! * One question at a time for each unit, at most [`PULL_MAX`] numbers. There is no mark that ends an answer: it has ended
//!   when its last number came, or [`PATIENCE`] after the last number that can only be of the answer. What it left out is
//!   told, and asked for again at the next connection.
//! * **Live reads keep no question open.** Behind the highest number known nothing tells an answer from what happens now:
//!   such a question is over [`TAIL_PATIENCE`] after the numbers that follow each other from its beginning come to a stop,
//!   however many others come, and a gap that showed meanwhile is asked for next, before what somebody wants by hand.
//! * On a new connection the numbers behind the highest one held are asked for: the last read of the race may be among them,
//!   and no later one would ever show the gap.
//! * **A decoder that counts from the start again is recognised**: a live read with a lower number than the one before it and
//!   a later stamp, or one that is not beyond what is held when a connection begins. What it counts now is asked for from 1
//!   on. (One that only repeats its last reads looks the same; it costs a second asking, since reads are known by their
//!   content as well.)
//! * Bounded: [`UNITS`] units are cared for; reads of more are taken as they come.

use std::time::Duration;

use super::{Cleared, Frame, Info, Output, Range};
use crate::chip::{Held, Position};

/// Numbers asked for at once.
const PULL_MAX: u64 = 500;
/// Silence after which an answer is over.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for numbers that nobody knows to exist. Too soon costs a second asking, never a read.
const TAIL_PATIENCE: Duration = Duration::from_secs(3);
/// Boxes or decoders behind one link that are cared for.
const UNITS: usize = 16;
/// How far behind the highest number held a new connection asks.
const TAIL: u64 = 10_000;

/// Numbers of a unit to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) unit: Option<Box<str>>,
    pub(super) from: u64,
    pub(super) to: u64,
}

pub(super) struct Gaps {
    held: Held,
    units: Vec<Unit>,
    enabled: bool,
    up: Duration,
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
    /// The numbers behind `highest` are to be asked for.
    tail: bool,
    /// What somebody wants again, held or not.
    by_hand: Option<(u64, u64)>,
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
        let patience = if self.what == What::Gap { PATIENCE } else { TAIL_PATIENCE };
        up.saturating_sub(self.heard) >= patience
    }
}

impl Gaps {
    /// `held` as the link tells it; without `enabled` nothing is asked for but what somebody wants.
    pub(super) fn new(held: Held, enabled: bool) -> Self {
        let units = held.files().filter(|(_, file, _)| file.is_none()).filter_map(|(unit, _, ranges)| {
            let (floor, highest) = (ranges.first()?.0, ranges.last()?.1);
            Some(Unit { name: unit.map(Into::into), floor, highest, live: None, open: None, tail: true, by_hand: None })
        });
        let mut units: Vec<Unit> = units.collect();
        units.drain(..units.len().saturating_sub(UNITS)); // the last touched are last
        Self { units, held, enabled, up: Duration::ZERO }
    }

    /// This read was asked for and is not the first that anybody heard of: the decoder gives it from its memory. To be
    /// asked before [`Gaps::read`].
    pub(super) fn is_stored(&self, position: &Position) -> bool {
        let number = position.number;
        let unit = self.units.iter().find(|unit| unit.name == position.unit);
        unit.is_some_and(|unit| number <= unit.highest && unit.open.as_ref().is_some_and(|open| open.has(number)))
    }

    /// A read came. `at`: its time, in any unit that grows; `replay`: the decoder says that it was stored, if it says.
    pub(super) fn read(&mut self, position: &Position, at: i64, replay: bool, out: &mut Output) {
        let number = position.number;
        let up = self.up;
        let Some(unit) = self.unit(position) else { return };
        let asked_for = unit.open.as_ref().is_some_and(|open| open.has(number));
        if let Some(open) = unit.open.as_mut().filter(|_| asked_for) {
            open.hears(number, replay, up);
        }
        let restarted = !asked_for
            && !replay
            && match unit.live {
                Some((last, then)) => number < last && at > then,
                None => number <= unit.highest,
            };
        if restarted {
            (unit.floor, unit.highest, unit.open, unit.tail) = (1, number, None, false);
            let text =
                format!("its reads count from {number} again: it was cleared or restarted, or repeats what it sent");
            let cleared = Cleared { unit: position.unit.clone(), file: None, text: text.into() };
            out.frame(Frame::Cleared(cleared), b"");
        }
        if !replay && !asked_for {
            unit.live = Some((number, at));
        }
        unit.highest = unit.highest.max(number);
        if let Some(open) = unit.open.take_if(|open| open.to == number) {
            unit.tail |= open.what == What::Tail; // there may be more behind it
        }
        if restarted {
            self.held.forget(position.unit.as_deref(), None);
        }
        self.held.insert(position);
    }

    fn unit(&mut self, position: &Position) -> Option<&mut Unit> {
        if let Some(at) = self.units.iter().position(|unit| unit.name == position.unit) {
            return Some(&mut self.units[at]);
        }
        if self.units.len() == UNITS {
            return None;
        }
        let (name, first) = (position.unit.clone(), position.number);
        // The first read of all: it is what the count begins with for us.
        self.units.push(Unit {
            name,
            floor: first,
            highest: first - first.min(1),
            live: None,
            open: None,
            tail: false,
            by_hand: None,
        });
        self.units.last_mut()
    }

    /// Time passes.
    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        self.up = up;
        for unit in &mut self.units {
            let Some(open) = unit.open.take_if(|open| open.is_over(up)) else { continue };
            if open.what == What::Hand && open.next == open.from {
                unit.by_hand = None; // nothing came: there are no more
            }
            let left = self.held.missing(unit.name.as_deref(), None, open.from, open.to);
            let (Some(first), Some(last)) = (left.first(), left.last()) else { continue };
            if open.what != What::Gap {
                continue; // perhaps there are no more
            }
            let text = format!(
                "the decoder was asked for reads {} to {} and gave not all of them; they are asked for again at the next connection",
                first.0, last.1
            );
            let condition = Info::Condition { code: "passings_not_given", text: Some(text) };
            out.frame(Frame::Info(condition), b"");
            for number in left.iter().flat_map(|(from, to)| *from..=*to) {
                self.held.insert(&Position { unit: unit.name.clone(), file: None, number }); // at most PULL_MAX
            }
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
        let enabled = self.enabled;
        self.units.iter_mut().find_map(|unit| {
            if unit.open.is_some() {
                return None;
            }
            let piece = |from: u64, end: u64| end.min(from.saturating_add(PULL_MAX - 1));
            let gap = self.held.first_missing(unit.name.as_deref(), None, unit.floor, unit.highest);
            let (from, to, what) = if let Some((from, end)) = gap.filter(|_| enabled) {
                (from, piece(from, end), What::Gap)
            } else if enabled && std::mem::take(&mut unit.tail) {
                (unit.highest.saturating_add(1), unit.highest.saturating_add(TAIL), What::Tail)
            } else {
                let (from, end) = unit.by_hand.take()?;
                let to = piece(from, end);
                unit.by_hand = (to < end).then_some((to.saturating_add(1), end));
                (from, to, What::Hand)
            };
            unit.open = Some(Open { from, to, heard: self.up, known: unit.highest, next: from, what });
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

    struct Decoder {
        gaps: Gaps,
        out: Output,
    }

    impl Decoder {
        fn connected(held: impl IntoIterator<Item = u64>) -> Self {
            let mut known = Held::default();
            held.into_iter().for_each(|number| known.insert(&at(number)));
            Self { gaps: Gaps::new(known, true), out: Output::default() }
        }

        fn live(&mut self, number: u64, time: i64) {
            self.gaps.read(&at(number), time, false, &mut self.out);
        }

        fn asked(&mut self) -> Vec<(u64, u64)> {
            std::iter::from_fn(|| self.gaps.ask()).map(|ask| (ask.from, ask.to)).collect()
        }

        fn cleared(&self) -> usize {
            let cleared = |item: &&super::super::Item| matches!(item, super::super::Item::Frame(framed) if matches!(framed.frame, Frame::Cleared(_)));
            self.out.items.iter().filter(cleared).count()
        }

        fn told(&self) -> usize {
            self.out.items.len() - self.cleared()
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
        assert_eq!((decoder.asked(), decoder.told(), decoder.cleared()), (vec![], 0, 0), "the tail may be empty");
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
        assert_eq!((decoder.asked(), decoder.told()), (vec![], 0));
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
        assert_eq!((decoder.asked(), decoder.told()), (vec![], 1));
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
    fn more_units_than_are_cared_for_cost_nothing() {
        let mut decoder = Decoder::connected([]);
        for unit in 0..10_000 {
            let position = Position { unit: Some(format!("{unit}").into()), file: None, number: 1 + unit % 7 };
            decoder.gaps.read(&position, 1, false, &mut decoder.out);
        }
        assert_eq!((decoder.gaps.units.len(), decoder.asked().len()), (UNITS, 0));
    }
}
