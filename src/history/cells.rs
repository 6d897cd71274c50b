//! What was counted in each ten seconds.
//!
//! Bounded: [`KEPT`] cells. Only cells in which something happened exist.

use std::collections::BTreeMap;

/// Length of a cell, in milliseconds.
pub(super) const CELL_MS: i64 = 10_000;
/// Cells of six hours, and of some minutes more.
const KEPT: usize = 2_200;
/// Parts of each doubling of a delay: a delay is told at most a quarter longer than it was.
const PARTS_LOG2: u32 = 2;
/// Buckets for delays up to 2²² ms, which is more than an hour.
const BUCKETS: usize = (23 - PARTS_LOG2 as usize) << PARTS_LOG2;

/// How long passings took, in buckets.
#[derive(Clone, Debug)]
struct Delays([u16; BUCKETS]);

impl Default for Delays {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

fn bucket(ms: u32) -> usize {
    let octave = ms.max(1).ilog2();
    let at = match octave.checked_sub(PARTS_LOG2) {
        None => ms as usize,
        Some(shift) => (((shift + 1) as usize) << PARTS_LOG2) + ((ms >> shift) as usize - (1 << PARTS_LOG2)),
    };
    at.min(BUCKETS - 1)
}

/// The longest delay of a bucket, in milliseconds.
fn upper_end(bucket: usize) -> u32 {
    let parts = 1 << PARTS_LOG2;
    match (bucket / parts).checked_sub(1) {
        None => bucket as u32,
        Some(shift) => ((((bucket % parts) + parts + 1) << shift) - 1) as u32,
    }
}

/// One cell, or several of them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Reads that became durable.
    pub reads: u32,
    /// Passings that the cloud accepted.
    pub uploads: u32,
    /// Reads that waited when something happened in the cell last.
    pub waiting: Option<u64>,
    worst_ms: u32,
    delays: Option<Box<Delays>>,
}

impl Cell {
    /// Records that a passing took so long from its receipt until the cloud had it.
    pub(super) fn took(&mut self, ms: u32) {
        let delays = self.delays.get_or_insert_default();
        let count = &mut delays.0[bucket(ms)];
        *count = count.saturating_add(1);
        self.worst_ms = self.worst_ms.max(ms);
    }

    /// Adds the counts of a cell. What waited is that of the later cell.
    pub(super) fn add(&mut self, other: &Self) {
        self.reads = self.reads.saturating_add(other.reads);
        self.uploads = self.uploads.saturating_add(other.uploads);
        self.waiting = other.waiting.or(self.waiting);
        self.worst_ms = self.worst_ms.max(other.worst_ms);
        let Some(others) = &other.delays else { return };
        let delays = self.delays.get_or_insert_default();
        for (count, more) in delays.0.iter_mut().zip(&others.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// The median and the longest of the delays, in milliseconds. `None`: there was none.
    pub(super) fn delays(&self) -> Option<(u32, u32)> {
        let delays = self.delays.as_ref()?;
        let all: u64 = delays.0.iter().map(|count| u64::from(*count)).sum();
        let mut passed = 0;
        let middle = delays.0.iter().position(|count| {
            passed += u64::from(*count);
            passed >= all.div_ceil(2)
        });
        // The last bucket has no upper end.
        let middle = middle.filter(|bucket| bucket + 1 < BUCKETS);
        Some((middle.map_or(self.worst_ms, upper_end).min(self.worst_ms), self.worst_ms))
    }
}

/// Cells by their number: the time of their begin in units of [`CELL_MS`].
#[derive(Clone, Debug, Default)]
pub(super) struct Cells(BTreeMap<i64, Cell>);

impl Cells {
    /// The cell of a time.
    pub(super) fn at(&mut self, ms: i64) -> &mut Cell {
        let number = ms.div_euclid(CELL_MS);
        if !self.0.contains_key(&number) && self.0.len() >= KEPT {
            self.0.pop_first();
        }
        self.0.entry(number).or_default()
    }

    /// The cell with this number, if something happened in it.
    pub(super) fn get(&self, number: i64) -> Option<&Cell> {
        self.0.get(&number)
    }

    /// What waited at the end of the cell with this number, as far as it is known from this cell and those
    /// before it.
    pub(super) fn waiting(&self, number: i64) -> Option<u64> {
        self.0.range(..=number).rev().find_map(|(_, cell)| cell.waiting)
    }

    /// Adds all cells of another clock, whose numbers are `moved` lower than those here.
    pub(super) fn absorb(&mut self, other: Self, moved: i64) {
        for (number, cell) in other.0 {
            self.at((number + moved) * CELL_MS).add(&cell);
        }
    }

    /// Number of cells.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_told_shorter_than_it_was_and_at_most_a_quarter_longer() {
        for ms in (0..5_000).chain([59_999, 1 << 20, (1 << 22) - 1]) {
            let told = upper_end(bucket(ms));
            assert!(told >= ms && told <= ms + ms / 4, "{ms} ms is told as {told}");
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_median_is_that_of_half_of_the_passings() {
        let mut cell = Cell::default();
        assert_eq!(cell.delays(), None);
        [100, 100, 100, 9_000].into_iter().for_each(|ms| cell.took(ms));
        let mut sum = Cell::default();
        sum.add(&cell);
        let (median, worst) = sum.delays().unwrap();
        assert!((100..=125).contains(&median) && worst == 9_000, "{median} {worst}");
        let mut slow = Cell::default();
        slow.took(7_200_000);
        assert_eq!(slow.delays(), Some((7_200_000, 7_200_000)), "two hours are in the last bucket");
    }

    #[test]
    fn the_oldest_cells_go_first_and_one_far_ahead_does_not_take_the_others_away() {
        let mut cells = Cells::default();
        for number in 0..3_000 {
            cells.at(number * CELL_MS).reads = 1;
        }
        assert_eq!((cells.len(), cells.get(799).is_some(), cells.get(800).is_some()), (KEPT, false, true));
        cells.at(i64::from(u32::MAX) * CELL_MS).reads = 1;
        assert_eq!((cells.len(), cells.get(2_999).is_some()), (KEPT, true));
    }
}
