//! Chips that the bib file does not have: counted once each, and shown, because they go up with the
//! chip code in place of a bib and nobody would see that before the results are out.
//!
//! Bounded: [`MOST`] chips and one more are remembered; further ones are not counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Bibs;
use super::bibs::Likely;
use crate::config::ChipZeros;
use crate::status::{Board, ProblemCode};

/// Chips that are told apart.
const MOST: usize = 10_000;

/// What the mappers of all devices found.
#[derive(Clone)]
pub(crate) struct UnknownChips(Arc<Inner>);

struct Inner {
    board: Board,
    /// The bib file, for people.
    file: String,
    zeros: ChipZeros,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    chips: BTreeSet<Box<str>>,
    /// The list that they were looked for in.
    judged: Option<Arc<Bibs>>,
}

impl UnknownChips {
    /// None yet.
    pub(crate) fn new(file: &Path, zeros: ChipZeros, board: Board) -> Self {
        Self(Arc::new(Inner { board, file: file.display().to_string(), zeros, found: Mutex::default() }))
    }

    /// A chip was looked for in the list in use now. `is_known`: it is there.
    pub(super) fn look(&self, chip: &str, is_known: bool, bibs: &Arc<Bibs>) {
        let mut found = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new_list = found.judged.as_ref().is_none_or(|judged| !Arc::ptr_eq(judged, bibs));
        if is_new_list {
            found.judged = Some(Arc::clone(bibs));
            found.chips.retain(|chip| bibs.find(chip, self.0.zeros).is_none());
        }
        let is_new = !is_known && found.chips.len() <= MOST && found.chips.insert(chip.into());
        let count = found.chips.len();
        if is_new_list && count == 0 {
            self.0.board.clear(ProblemCode::ChipsUnknown, "");
        } else if is_new_list || (is_new && (is_told(count) || count > MOST)) {
            let chips = match count {
                1 => "1 chip is".to_owned(),
                _ if count > MOST => format!("more than {MOST} chips are"),
                _ => format!("{count} chips are"),
            };
            let last = if is_known { found.chips.last().map_or(chip, |last| last) } else { chip };
            let likely = match bibs.likely(last) {
                Likely::Nothing => String::new(),
                Likely::Several => {
                    ". The file has several chips that differ from it only in zeros at the beginning, with different bibs"
                        .to_owned()
                }
                Likely::Bib(bib) => format!(
                    ". The file has it with another number of zeros at the beginning, as bib {bib}: is it that one? \
                     `[passing] zeros = \"ignore\"` takes it for the same chip"
                ),
            };
            let message = format!(
                "{chips} not in the bib file {} (counted since the start), such as {last}: the chip code goes up in place of a bib{likely}",
                self.0.file
            );
            self.0.board.raise(ProblemCode::ChipsUnknown, "", message);
        }
    }
}

/// Each of the first ten is told, then each tenth, each hundredth and so on: a whole start list
/// that is missing is no flood.
fn is_told(count: usize) -> bool {
    let step = 10_usize.pow(count.max(1).ilog10());
    count.is_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(csv: &str) -> Arc<Bibs> {
        Arc::new(Bibs::read(csv.as_bytes()).unwrap())
    }

    #[test]
    fn chips_that_the_bib_file_does_not_have_are_counted_once_and_shown_until_it_has_them() {
        let board = Board::new("test");
        let unknown = UnknownChips::new(Path::new("/race/bibs.csv"), ChipZeros::Count, board.clone());
        let shown = || board.snapshot().problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>();
        let bibs = list("chip,bib\n11055,1\nA,2\n");
        unknown.look("A", true, &bibs);
        assert_eq!(shown(), [""; 0]);
        for chip in ["B", "B", "0011055"] {
            unknown.look(chip, false, &bibs);
        }
        let [message] = &shown()[..] else { panic!("{:?}", shown()) };
        assert!(
            message.starts_with(
                "2 chips are not in the bib file /race/bibs.csv (counted since the start), such as 0011055"
            ),
            "{message}"
        );
        assert!(message.contains("another number of zeros at the beginning, as bib 1: is it that one?"), "{message}");
        let more = list("chip,bib\n11055,1\nA,2\n0011055,3\n");
        unknown.look("A", true, &more);
        assert!(
            shown()[0].starts_with("1 chip is not in the bib file /race/bibs.csv (counted since the start), such as B"),
            "{:?}",
            shown()
        );
        unknown.look("A", true, &list("chip,bib\nA,2\nB,3\n0011055,3\n"));
        assert_eq!(shown(), [""; 0], "the file was completed");
    }

    #[test]
    fn a_chip_that_may_be_one_of_two_is_unknown_and_it_is_told_why() {
        let (board, bibs) = (Board::new("test"), list("chip,bib\n11055,1\n011055,2\n"));
        let unknown = UnknownChips::new(Path::new("bibs.csv"), ChipZeros::Ignore, board.clone());
        unknown.look("0011055", bibs.find("0011055", ChipZeros::Ignore).is_some(), &bibs);
        let message = board.snapshot().problems.remove(0).message;
        assert!(message.contains("such as 0011055") && message.contains("several chips"), "{message}");
        // A list with only one of them knows it.
        let one = list("chip,bib\n11055,1\n");
        unknown.look("11055", true, &one);
        assert_eq!(board.snapshot().problems, []);
    }

    #[test]
    fn a_start_list_of_another_race_is_no_flood() {
        let told = (1..=20_000).filter(|count| is_told(*count)).count();
        assert!((38..50).contains(&told), "{told}");
        let (board, bibs) = (Board::new("test"), list("chip,bib\nA,2\n"));
        let unknown = UnknownChips::new(Path::new("bibs.csv"), ChipZeros::Ignore, board.clone());
        (0..2 * MOST).for_each(|n| unknown.look(&n.to_string(), false, &bibs));
        assert!(board.snapshot().problems[0].message.starts_with("more than 10000 chips are"));
    }
}
