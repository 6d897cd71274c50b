//! Which page of a list is shown, in which order, and what the answer says about other pages.

use std::ops::Range;

use super::habits::{EmptyPages, Habits, Order, scattered};
use super::store::ListPage;

/// The part of a list that a reading call shows.
pub(super) struct Shown<T> {
    pub(super) list: Vec<T>,
    pub(super) page: usize,
    pub(super) size: usize,
    pub(super) total: usize,
    pub(super) has_more: bool,
}

impl<T> Shown<T> {
    /// The same description without the list.
    pub(super) fn emptied<U>(self) -> Shown<U> {
        Shown { list: Vec::new(), page: self.page, size: self.size, total: self.total, has_more: self.has_more }
    }
}

/// Returns the requested page of a list of `total`, changed by the habits. `fetch` returns a part
/// of the list, and `key` distinguishes entries when they are shuffled.
pub(super) fn shown<T>(
    habits: &Habits,
    total: usize,
    page: ListPage,
    key: impl Fn(&T) -> u64,
    fetch: impl Fn(Range<usize>) -> Vec<T>,
) -> Shown<T> {
    let size = page.size;
    let number = if habits.page_ignored { 1 } else { page.number };
    // The page of the list that this answer shows, if any, and how many pages of the list have been
    // shown after it.
    let (real, so_far) = match habits.empty_pages {
        None => (Some(number), number),
        Some(EmptyPages::First) => (number.is_multiple_of(2).then_some(number / 2), number / 2),
        Some(EmptyPages::Between) => ((!number.is_multiple_of(2)).then_some(number.div_ceil(2)), number.div_ceil(2)),
    };
    let has_more = so_far.saturating_mul(size) < total;
    let range = real.map_or(0..0, |number| ListPage { number, size }.range(total));
    let list = match habits.order {
        Order::Usual => fetch(range),
        Order::Newest => {
            let mut list = fetch(total - range.end..total - range.start);
            list.reverse();
            list
        }
        Order::Shuffled => {
            let mut all = fetch(0..total);
            all.sort_by_key(|one| scattered(habits.seed ^ key(one)));
            all.drain(range).collect()
        }
    };
    Shown { list, page: page.number, size, total, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(texts: &[&str], total: u64) -> Vec<(Vec<u64>, bool)> {
        let habits = Habits::of(1, texts).unwrap();
        let fetch = |range: Range<usize>| (1..=total).collect::<Vec<u64>>()[range].to_vec();
        let page = |number| shown(&habits, total as usize, ListPage { number, size: 2 }, |one| *one, fetch);
        (1..=6).map(page).map(|shown| (shown.list, shown.has_more)).collect()
    }

    #[test]
    fn empty_pages_come_before_or_between_and_say_that_there_are_more() {
        let none = Vec::new;
        assert_eq!(
            pages(&["empty-pages=first"], 3),
            [(none(), true), (vec![1, 2], true), (none(), true), (vec![3], false), (none(), false), (none(), false)]
        );
        assert_eq!(
            pages(&["empty-pages=between"], 3),
            [(vec![1, 2], true), (none(), true), (vec![3], false), (none(), false), (none(), false), (none(), false)]
        );
        assert_eq!(pages(&["empty-pages=first"], 0)[0], (none(), false));
    }

    #[test]
    fn an_ignored_page_is_the_first_one_and_an_order_is_the_same_each_time() {
        assert!(pages(&["page-ignored"], 5).iter().all(|page| *page == (vec![1, 2], true)));
        let newest: Vec<u64> = pages(&["order=newest"], 5).into_iter().flat_map(|(list, _)| list).collect();
        assert_eq!(newest, [5, 4, 3, 2, 1]);
        let mut shuffled: Vec<u64> = pages(&["order=shuffled"], 12).into_iter().flat_map(|(list, _)| list).collect();
        assert!(!shuffled.is_sorted());
        shuffled.sort_unstable();
        assert_eq!(shuffled, (1..=12).collect::<Vec<_>>());
    }
}
