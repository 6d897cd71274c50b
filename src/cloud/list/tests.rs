use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::cloud::rufus::FullPage;

/// A cloud in memory whose lists are as odd as the documents allow.
#[derive(Debug, Default)]
struct Odd {
    rows: Vec<FullPassing>,
    page: usize,
    /// 0: rising, 1: falling, other: in no order.
    order: u64,
    ignores_range: bool,
    ignores_page: bool,
    says_more: bool,
    ends_excluded: bool,
    /// A question for more numbers (or milliseconds) is refused.
    range_limit: Option<u64>,
    calls: AtomicUsize,
}

impl FullPages for Odd {
    async fn page(&self, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let less = i64::from(self.ends_excluded);
        let (first, last) = match scope {
            Scope::Numbers { first, last, .. } => (position(*first) + less, last.map_or(i64::MAX, position) - less),
            Scope::Session { .. } => (0, i64::MAX),
            Scope::Times { from, to, .. } => (from + less, to - less),
        };
        if !matches!(scope, Scope::Session { .. }) && self.range_limit.is_some_and(|most| last.abs_diff(first) >= most)
        {
            return Err(CallError::BadRequest { status: 400, answer: "too long".into() });
        }
        let wanted = |row: &&FullPassing| {
            self.ignores_range || place(scope, row).is_none_or(|place| (first..=last).contains(&place))
        };
        let mut rows: Vec<FullPassing> = self.rows.iter().filter(wanted).cloned().collect();
        rows.sort_by_key(|row| place(scope, row));
        match self.order {
            0 => {}
            1 => rows.reverse(),
            seed => fastrand::Rng::with_seed(seed).shuffle(&mut rows),
        }
        let from = if self.ignores_page { 0 } else { (page as usize - 1) * self.page };
        let more = self.says_more.then_some(from + self.page < rows.len());
        Ok(FullPage { passings: rows.into_iter().skip(from).take(self.page).collect(), more })
    }
}

fn row(num: u64) -> FullPassing {
    let time_ms = Some(1_700_000_000_000 + num as i64 * 37);
    FullPassing { num_passing: Some(num), time_ms, chip: Some(format!("C{num}").into()), ..Default::default() }
}

fn all() -> Scope {
    Scope::Numbers { token: "A".into(), first: 0, last: None }
}

/// Everything that the list returns, and how it ends.
async fn listed(cloud: &Odd, scope: Scope) -> (Vec<u64>, Result<u64, ListError>) {
    let mut list = Listing::new(cloud, scope);
    let mut nums = Vec::new();
    loop {
        match list.next().await {
            Ok(Some(rows)) => {
                assert!(!rows.is_empty() && rows.len() <= ROWS_MAX + cloud.page);
                nums.extend(rows.iter().map(|row| row.num_passing.unwrap()));
            }
            Ok(None) => return (nums, Ok(list.unplaced)),
            Err(error) => return (nums, Err(error)),
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_whole_and_in_order_however_the_cloud_pages(
        gaps in proptest::collection::vec(prop_oneof![20 => Just(1u64), 2 => 2..50u64, 1 => 1000..2_000_000u64], 0..400),
        copies in 1usize..10,
        page in 200usize..6000,
        order in 0u64..4,
        says_more: bool,
        ends_excluded: bool,
        by_time: bool,
        range_limit in proptest::option::weighted(0.2, 100_000u64..10_000_000),
        (from, to) in (0usize..8000, 0usize..8000),
    ) {
        let mut nums: Vec<u64> = Vec::new();
        for gap in gaps.iter().cycle().take(gaps.len() * copies) {
            nums.push(nums.last().copied().unwrap_or(0) + gap);
        }
        let rows: Vec<FullPassing> = nums.iter().map(|num| row(*num)).collect();
        // Whole pages one after the other can be told apart only in an order.
        let range_limit = range_limit.filter(|_| order < 2 || by_time);
        let cloud = Odd { rows, page, order, says_more, ends_excluded, range_limit, ..Odd::default() };
        let first = nums.get(from).copied().unwrap_or(0);
        let last = nums.get(to).copied();
        let time = |num: u64| row(num).time_ms.unwrap();
        let scope = match by_time {
            true => Scope::Times { device: "D".into(), from: time(first), to: last.or(nums.last().copied()).map_or(0, time) },
            false => Scope::Numbers { token: "A".into(), first, last },
        };
        let expected: Vec<u64> =
            nums.iter().copied().filter(|num| *num >= first && last.is_none_or(|last| *num <= last)).collect();
        let is_falling = order == 1 && range_limit.is_some() && !by_time;
        let (mut seen, end) = run(listed(&cloud, scope));
        if is_falling {
            seen.sort_unstable(); // page after page, in the order of the cloud
        }
        prop_assert_eq!(end, Ok(0));
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn a_long_session_takes_a_call_for_each_four_thousand_passings() {
    let rows: Vec<FullPassing> = (1..=40_000).map(row).collect();
    let cloud = Odd { rows, page: 5000, says_more: true, ..Odd::default() };
    let (nums, end) = run(listed(&cloud, all()));
    assert_eq!((nums.len(), end), (40_000, Ok(0)));
    assert!(nums.is_sorted());
    assert!(cloud.calls.load(Ordering::Relaxed) <= 14, "{:?}", cloud.calls);
}

#[test]
fn a_server_that_ignores_the_page_is_asked_in_smaller_windows() {
    let rows: Vec<FullPassing> = (1..=9000).map(row).collect();
    for says_more in [true, false] {
        let cloud = Odd { rows: rows.clone(), page: 1500, ignores_page: true, says_more, ..Odd::default() };
        assert_eq!(run(listed(&cloud, all())), ((1..=9000).collect(), Ok(0)));
    }
}

#[test]
fn a_server_that_ignores_the_range_is_read_page_after_page_and_doubted_where_pages_overlap() {
    let rows: Vec<FullPassing> = (1..=25_000).map(row).collect();
    for order in [0, 1] {
        let cloud = Odd { rows: rows.clone(), page: 5000, order, ignores_range: true, ..Odd::default() };
        let scope = Scope::Numbers { token: "A".into(), first: 101, last: Some(24_000) };
        let (mut nums, end) = run(listed(&cloud, scope));
        nums.sort_unstable();
        assert_eq!((nums, end), ((101..=24_000).collect(), Ok(0)), "{order}");
    }
    let cloud = Odd { rows: rows.clone(), page: 5000, order: 7, ignores_range: true, ..Odd::default() };
    assert_eq!(run(listed(&cloud, all())).1, Err(ListError::Overlap));
    // A small session fits on a page, so nothing is in doubt.
    let cloud = Odd { rows: rows[..3000].to_vec(), page: 5000, order: 7, ignores_range: true, ..Odd::default() };
    assert_eq!(run(listed(&cloud, all())), ((1..=3000).collect(), Ok(0)));
}

#[test]
fn a_server_that_ignores_range_and_page_gives_no_quiet_short_list() {
    let rows: Vec<FullPassing> = (1..=9000).map(row).collect();
    for says_more in [true, false] {
        let cloud = Odd {
            rows: rows.clone(),
            page: 5000,
            ignores_range: true,
            ignores_page: true,
            says_more,
            ..Odd::default()
        };
        assert_eq!(run(listed(&cloud, all())).1, Err(ListError::Cut));
    }
}

#[test]
fn what_the_cloud_holds_twice_is_listed_twice_and_what_has_no_number_is_counted() {
    let mut rows: Vec<FullPassing> = (1..=30).map(row).collect();
    rows.extend([row(7), row(30), FullPassing { chip: Some("X".into()), ..Default::default() }]);
    for page in [2, 7, 5000] {
        let cloud = Odd { rows: rows.clone(), page, says_more: true, ..Odd::default() };
        let (nums, end) = run(listed(&cloud, all()));
        let mut expected: Vec<u64> = (1..=30).chain([7, 30]).collect();
        expected.sort_unstable();
        assert_eq!(nums, expected, "{page}");
        assert!(matches!(end, Ok(1..)), "{end:?}");
    }
}

#[test]
fn a_failure_in_the_middle_is_told_after_the_pieces_before_it() {
    struct Cloud(Odd);
    impl FullPages for Cloud {
        async fn page(&self, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
            match scope {
                Scope::Numbers { first: 8000.., .. } => Err(CallError::Portal),
                _ => self.0.page(scope, page).await,
            }
        }
    }
    let cloud = Cloud(Odd { rows: (1..=20_000).map(row).collect(), page: 5000, says_more: true, ..Odd::default() });
    let mut list = Listing::new(&cloud, all());
    let (mut count, error) = run(async {
        let mut count = 0;
        loop {
            match list.next().await {
                Ok(rows) => count += rows.unwrap().len(),
                Err(error) => return (count, error),
            }
        }
    });
    assert!((7000..12_000).contains(&std::mem::take(&mut count)));
    assert_eq!(error, ListError::Cloud(CallError::Portal));
}
