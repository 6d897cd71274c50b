//! Reads a session of the cloud window by window and page by page, and asks again for what seems
//! different.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::AuditError;
use super::compare::{Compared, FINDINGS_MAX, Finding, Ours, WINDOW, Window};
use super::ours::Numbered;
use crate::cloud::pages::{PageWalk, Turn, patiently};
use crate::cloud::rufus::{CallError, Client, Page};

/// Most pages that are read for one window (5000 passings each at the real cloud).
const PAGES: u32 = 400;

/// Source of pages: the cloud, or its imitation in a test.
pub(crate) trait Pages: Sync {
    /// Returns a page of what a session holds, by number, like [`Client::held`].
    fn page(&self, first: u64, last: Option<u64>, page: u32) -> impl Future<Output = Result<Page, CallError>> + Send;
}

/// A session in the cloud.
pub(crate) struct InCloud<'a> {
    client: &'a Client,
    token: &'a str,
    /// Pause before each call, because an audit runs beside live uploads and need not be fast.
    rest: Duration,
    unknown: AtomicBool,
}

impl<'a> InCloud<'a> {
    /// A session with this token, and a pause of `rest` before each call.
    pub(crate) fn new(client: &'a Client, token: &'a str, rest: Duration) -> Self {
        Self { client, token, rest, unknown: AtomicBool::new(false) }
    }

    /// The cloud said that it does not know the session.
    pub(crate) fn is_unknown(&self) -> bool {
        self.unknown.load(Ordering::Relaxed)
    }

    async fn once(&self, first: u64, last: Option<u64>, page: u32) -> Result<Page, CallError> {
        match self.client.held(self.token, first, last, page).await {
            Err(CallError::SessionGone { .. }) => {
                // If the session exists, this answer means that it holds no passings.
                let known = self.client.session(self.token).await?.is_some();
                self.unknown.store(!known, Ordering::Relaxed);
                Ok(Page { passings: Vec::new(), more: Some(false) })
            }
            other => other,
        }
    }
}

impl Pages for InCloud<'_> {
    async fn page(&self, first: u64, last: Option<u64>, page: u32) -> Result<Page, CallError> {
        patiently(self.rest, || self.once(first, last, page)).await
    }
}

/// The result of comparing a session.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The sum of all windows without a difference.
    plain: Compared,
    /// The windows with differences, by their first number. They are asked for again. Together they
    /// keep at most [`FINDINGS_MAX`] findings. More are only counted.
    odd: BTreeMap<u64, Compared>,
    kept: usize,
    /// What the cloud holds above our highest number.
    above: Compared,
    /// Our highest number.
    top: Option<u64>,
}

impl Walk {
    /// Compares a whole session. `top` is our highest number.
    ///
    /// The cloud is first asked for the numbers above `top`. At that moment there are few, even if
    /// the uplink is working, and none that is given while the rest is read.
    ///
    /// # Errors
    /// The log cannot be read, or the cloud does not answer.
    pub(crate) async fn begin(ours: Numbered, top: Option<u64>, cloud: &impl Pages) -> Result<Self, AuditError> {
        let above = look(cloud, after(top), None, &[], Length::AnyLength).await?;
        let mut walk = Self { above, top, ..Self::default() };
        let mut windows = Windows::new(ours, top);
        while let Some((first, last, window)) = windows.next().await? {
            let mut seen = look(cloud, first, Some(last), &window, Length::Bounded).await?;
            if seen.is_doubtful() {
                seen = seen.confirmed_by(look(cloud, first, Some(last), &window, Length::Bounded).await?);
            }
            walk.put(first, seen);
        }
        Ok(walk)
    }

    /// Asks once more for the windows with differences. `ours` must be the same as before.
    ///
    /// # Errors
    /// Like [`Walk::begin`].
    pub(crate) async fn again(&mut self, ours: Numbered, cloud: &impl Pages) -> Result<(), AuditError> {
        if let (true, Some(last)) =
            (self.above.beyond.is_empty(), self.above.findings.iter().filter_map(Finding::num).max())
        {
            let again = look(cloud, after(self.top), Some(last), &[], Length::Bounded).await?;
            self.above = self.above.confirmed_by(again);
        }
        let mut windows = Windows::new(ours, self.top);
        while let Some((first, last, window)) = windows.next().await? {
            let Some(before) = self.odd.get(&first).filter(|before| before.is_doubtful()) else { continue };
            let seen = before.confirmed_by(look(cloud, first, Some(last), &window, Length::Bounded).await?);
            if let Some(before) = self.odd.remove(&first) {
                self.kept -= before.findings.len();
            }
            self.put(first, seen);
        }
        Ok(())
    }

    /// Returns everything that was seen. With `above`, it includes the differences above our
    /// highest number that were only counted.
    pub(crate) fn seen(&self, above: bool) -> Compared {
        let mut all = self.plain.clone();
        for seen in self.odd.values() {
            all.append(seen.clone());
        }
        let mut rest = self.above.clone();
        if !above {
            rest.beyond.clear();
        }
        all.append(rest);
        all.finish();
        all
    }

    fn put(&mut self, first: u64, mut seen: Compared) {
        if seen.findings.is_empty() && seen.beyond.is_empty() {
            return self.plain.append(seen);
        }
        seen.keep(FINDINGS_MAX.saturating_sub(self.kept));
        self.kept += seen.findings.len();
        self.odd.insert(first, seen);
    }
}

fn after(top: Option<u64>) -> u64 {
    top.map_or(0, |top| top.saturating_add(1))
}

/// The numbers up to our highest one, cut into ranges.
struct Windows {
    /// Our passings, and the first one after the last window. `None` at the end.
    ours: Option<(Numbered, Option<Ours>)>,
    first: u64,
    top: Option<u64>,
}

impl Windows {
    fn new(ours: Numbered, top: Option<u64>) -> Self {
        Self { ours: Some((ours, None)), first: 0, top }
    }

    /// Returns the first and last number of the next range, and our passings in it.
    async fn next(&mut self) -> Result<Option<(u64, u64, Vec<Ours>)>, AuditError> {
        let Some((mut ours, mut ahead)) = self.ours.take() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || {
            let window = next_window(&mut ours, &mut ahead);
            (window, ours, ahead)
        });
        let (window, ours, ahead) = read.await.map_err(|_| AuditError::Log(io::Error::other("a task of it ended")))?;
        let window = window.map_err(AuditError::Log)?;
        let mut last = window.last().map(|ours| ours.item.num);
        if ahead.is_some() {
            self.ours = Some((ours, ahead));
        } else {
            last = last.max(self.top); // other passings may have these numbers, which we released
        }
        let Some(last) = last else { return Ok(None) };
        let first = std::mem::replace(&mut self.first, last.saturating_add(1));
        Ok(Some((first, last, window)))
    }
}

/// Returns our next passings. All passings with one number stay in one window. `ahead` is the
/// passing after them.
fn next_window(ours: &mut Numbered, ahead: &mut Option<Ours>) -> io::Result<Vec<Ours>> {
    let mut window: Vec<Ours> = ahead.take().into_iter().collect();
    for next in ours.by_ref() {
        let next = next?;
        if window.len() >= WINDOW && window.last().is_some_and(|last| last.item.num != next.item.num) {
            *ahead = Some(next);
            break;
        }
        window.push(next);
    }
    Ok(window)
}

/// Returns the numbers of our passings (all of one batch) under which the cloud does not show them.
///
/// # Errors
/// The cloud does not answer.
pub(crate) async fn not_shown(cloud: &impl Pages, ours: &[Ours]) -> Result<Vec<u64>, AuditError> {
    let (Some(first), Some(last)) = (ours.first(), ours.last()) else { return Ok(Vec::new()) };
    let seen = look(cloud, first.item.num, Some(last.item.num), ours, Length::Bounded).await?;
    Ok(seen.findings.into_iter().filter_map(|finding| Some(finding.ours?.num)).collect())
}

/// Whether a list must have an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Bounded,
    /// The list may grow while it is read. After [`PAGES`] pages, enough was seen.
    AnyLength,
}

async fn look(
    cloud: &impl Pages,
    first: u64,
    last: Option<u64>,
    ours: &[Ours],
    length: Length,
) -> Result<Compared, AuditError> {
    let mut window = Window::new(first, last, ours.iter().cloned());
    let mut pages = PageWalk::default();
    for number in 1..=PAGES {
        let page = cloud.page(first, last, number).await.map_err(AuditError::Cloud)?;
        let turn = pages.turn(&page.passings, page.more);
        if turn != Turn::Again {
            window.take(page);
        }
        if turn != Turn::Next {
            return Ok(window.close());
        }
    }
    if length == Length::AnyLength { Ok(window.close()) } else { Err(AuditError::Endless) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::compare::{AuditVerdict, Explain, PassingState};
    use super::*;
    use crate::cloud::rufus::CloudPassing;
    use crate::journal::UploadItem;
    use crate::model::chip::Seq;

    /// A cloud in memory whose lists are as odd as the documents allow.
    #[derive(Clone, Debug)]
    struct Odd {
        rows: Vec<CloudPassing>,
        page: usize,
        falling: bool,
        ignores_range: bool,
        ignores_page: bool,
        says_more: bool,
    }

    impl Pages for Odd {
        async fn page(&self, first: u64, last: Option<u64>, page: u32) -> Result<Page, CallError> {
            let wanted = |row: &&CloudPassing| {
                self.ignores_range || row.num.is_none_or(|num| num >= first && last.is_none_or(|last| num <= last))
            };
            let mut rows: Vec<CloudPassing> = self.rows.iter().filter(wanted).cloned().collect();
            rows.sort_by_key(|row| row.num);
            if self.falling {
                rows.reverse();
            }
            let from = if self.ignores_page { 0 } else { (page as usize - 1) * self.page };
            let size = if self.ignores_page { rows.len() } else { self.page };
            let more = self.says_more.then_some(from + size < rows.len());
            Ok(Page { passings: rows.into_iter().skip(from).take(size).collect(), more })
        }
    }

    fn item(num: u64) -> UploadItem {
        let time_ms = 1_700_000_000_000 + num as i64 * 1_237;
        UploadItem {
            seq: Seq(num),
            num,
            time_ms,
            corrected_ms: 0,
            bib: num.to_string().into(),
            chip: format!("C{num}").into(),
        }
    }

    fn stored(item: &UploadItem) -> CloudPassing {
        let (chip, bib) = (Some(item.chip.clone()), Some(item.bib.clone()));
        CloudPassing { num: Some(item.num), time_ms: Some(item.time_ms), bib, chip, session: None }
    }

    fn ours(items: &[UploadItem], mark: PassingState) -> Vec<Ours> {
        items.iter().map(|item| Ours { item: item.clone(), mark, counted: false }).collect()
    }

    fn odd(rows: Vec<CloudPassing>) -> Odd {
        Odd { rows, page: 100, falling: false, ignores_range: false, ignores_page: false, says_more: true }
    }

    fn given(list: &[Ours]) -> Numbered {
        let given: Vec<_> = list.iter().cloned().map(Ok).collect();
        Box::new(given.into_iter())
    }

    async fn compared(list: &[Ours], cloud: &Odd) -> Compared {
        let mut walk = Walk::begin(given(list), list.last().map(|ours| ours.item.num), cloud).await.unwrap();
        walk.again(given(list), cloud).await.unwrap();
        let mut seen = walk.seen(true);
        if Explain::needed(&seen.findings) {
            let mut look = Explain::new(std::mem::take(&mut seen.findings));
            list.iter().for_each(|ours| look.look(ours));
            seen.findings = look.finish().0;
        }
        seen
    }

    fn found(findings: &[Finding]) -> BTreeMap<AuditVerdict, BTreeSet<u64>> {
        let mut found: BTreeMap<AuditVerdict, BTreeSet<u64>> = BTreeMap::new();
        for finding in findings {
            found.entry(finding.verdict).or_default().insert(finding.num().unwrap());
        }
        found
    }

    /// What the test did to each number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Done {
        Nothing,
        Lost,
        Chip,
        Bib,
        Time,
        /// The passing is not from this box.
        Foreign,
        /// The cloud holds the same passing a second time, under a number that no sender used.
        Again,
        /// Not settled. The value says whether the cloud holds it.
        Open(bool),
        /// Set aside. The value says whether another sender's passing has its number.
        Aside(bool),
        /// A number that no sender used.
        Hole,
    }

    fn done() -> impl Strategy<Value = Done> {
        prop_oneof![
            20 => Just(Done::Nothing),
            1 => Just(Done::Lost),
            1 => Just(Done::Chip),
            1 => Just(Done::Bib),
            1 => Just(Done::Time),
            1 => Just(Done::Foreign),
            1 => Just(Done::Again),
            1 => any::<bool>().prop_map(Done::Open),
            1 => any::<bool>().prop_map(Done::Aside),
            1 => Just(Done::Hole),
        ]
    }

    /// Returns both sides, and the expected findings.
    fn sides(done: &[Done]) -> (Vec<Ours>, Vec<CloudPassing>, BTreeMap<AuditVerdict, BTreeSet<u64>>) {
        let (mut list, mut rows) = (Vec::new(), Vec::new());
        let mut expected: BTreeMap<AuditVerdict, BTreeSet<u64>> = BTreeMap::new();
        let mut expect = |verdict, num| {
            expected.entry(verdict).or_default().insert(num);
        };
        for (&done, num) in done.iter().zip(1..) {
            let item = item(num);
            let mut row = stored(&item);
            let mark = match done {
                Done::Open(_) => PassingState::Open,
                Done::Aside(_) => PassingState::Aside,
                _ => PassingState::Accepted,
            };
            let there = match done {
                Done::Nothing | Done::Open(true) | Done::Again => true,
                Done::Lost => {
                    expect(AuditVerdict::Missing, num);
                    false
                }
                Done::Chip | Done::Bib | Done::Time => {
                    match done {
                        Done::Chip => row.chip = Some("X".into()),
                        Done::Bib => row.bib = Some("X".into()),
                        _ => row.time_ms = Some(item.time_ms + 1),
                    }
                    expect(AuditVerdict::Different, num);
                    true
                }
                Done::Foreign => {
                    (row.chip, row.bib) = (Some("X".into()), None);
                    expect(AuditVerdict::Foreign, num);
                    true
                }
                Done::Open(false) => {
                    expect(AuditVerdict::NotYetSent, num);
                    false
                }
                Done::Aside(taken) => {
                    (row.chip, row.bib) = (Some("X".into()), None);
                    expect(AuditVerdict::SetAside, num);
                    if taken {
                        expect(AuditVerdict::Foreign, num);
                    }
                    taken
                }
                Done::Hole => false,
            };
            if !matches!(done, Done::Foreign | Done::Hole) {
                list.push(Ours { item, mark, counted: false });
            }
            if there {
                rows.push(row.clone());
            }
            if done == Done::Again {
                rows.push(CloudPassing { num: Some(1_000_000 + num), ..row });
                expect(AuditVerdict::Duplicated, 1_000_000 + num);
            }
        }
        (list, rows, expected)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_difference_is_found_and_nothing_else_however_the_cloud_lists(
            done in proptest::collection::vec(done(), 0..400),
            copies in 1usize..12, // copies of the same pattern, to reach beyond the end of a window
            page in 1usize..700,
            falling: bool, ignores_range: bool, ignores_page: bool, says_more: bool,
        ) {
            let done: Vec<Done> = done.iter().copied().cycle().take(done.len() * copies).collect();
            let page = page.max(done.len() / 100 + 1);
            let (list, rows, expected) = sides(&done);
            let held = list.iter().filter(|ours| rows.contains(&stored(&ours.item))).count();
            let cloud = Odd { rows, page, falling, ignores_range, ignores_page, says_more };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let seen = runtime.block_on(compared(&list, &cloud));
            prop_assert_eq!(found(&seen.findings), expected);
            prop_assert_eq!((seen.checked, seen.equal), (list.len() as u64, held as u64));
        }
    }

    #[tokio::test]
    async fn a_cloud_without_fractions_is_equal_and_one_that_cut_a_single_one_is_not() {
        let items: Vec<_> = (1..=5).map(item).collect();
        let whole = |item: &UploadItem| CloudPassing { time_ms: Some(item.time_ms / 1000 * 1000), ..stored(item) };
        let seen = compared(&ours(&items, PassingState::Accepted), &odd(items.iter().map(whole).collect())).await;
        assert_eq!((seen.equal, seen.findings.len()), (5, 0));
        let one = items.iter().map(|item| if item.num == 3 { whole(item) } else { stored(item) });
        let seen = compared(&ours(&items, PassingState::Accepted), &odd(one.collect())).await;
        assert_eq!(found(&seen.findings), BTreeMap::from([(AuditVerdict::Different, BTreeSet::from([3]))]));
        assert_eq!(seen.equal, 4);
    }

    #[tokio::test]
    async fn the_same_number_twice_in_the_cloud_is_told_once_for_each_time_too_many() {
        let items: Vec<_> = (1..=5).map(item).collect();
        let rows = items.iter().map(stored).chain([stored(&items[2])]).collect();
        let seen = compared(&ours(&items, PassingState::Accepted), &odd(rows)).await;
        assert_eq!(found(&seen.findings), BTreeMap::from([(AuditVerdict::Duplicated, BTreeSet::from([3]))]));
        assert_eq!((seen.equal, seen.findings.len()), (5, 1));
    }

    #[tokio::test]
    async fn what_was_sent_again_with_another_time_is_compared_while_it_is_there_and_not_missed_when_it_is_not() {
        let items: Vec<_> = (1..=4).map(item).collect();
        let list = ours(&items, PassingState::Replaced);
        let seen = compared(&list, &odd(items.iter().map(stored).collect())).await;
        assert_eq!((seen.checked, seen.equal, seen.findings.len()), (4, 4, 0));
        let seen = compared(&list, &odd(vec![stored(&items[1])])).await;
        assert_eq!((seen.checked, seen.equal, seen.findings.len()), (1, 1, 0));
        // Somebody else has used the number since.
        let other = CloudPassing { chip: Some("X".into()), bib: None, ..stored(&items[2]) };
        let seen = compared(&list, &odd(vec![other])).await;
        assert_eq!(found(&seen.findings), BTreeMap::from([(AuditVerdict::Foreign, BTreeSet::from([3]))]));
    }

    #[tokio::test]
    async fn ours_under_another_number_is_neither_missing_nor_foreign() {
        let items: Vec<_> = (1..=5).map(item).collect();
        let moved =
            |item: &UploadItem| CloudPassing { num: Some(if item.num == 2 { 77 } else { item.num }), ..stored(item) };
        let seen = compared(&ours(&items, PassingState::Accepted), &odd(items.iter().map(moved).collect())).await;
        assert_eq!(seen.findings.len(), 1);
        assert_eq!((seen.findings[0].verdict, seen.findings[0].other), (AuditVerdict::Elsewhere, Some(77)));
    }

    #[tokio::test]
    async fn a_read_that_the_cloud_counted_as_a_duplicate_of_another_one_is_not_missing() {
        let (one, mut two) = (item(1), item(2));
        (two.chip, two.bib, two.time_ms) = (one.chip.clone(), one.bib.clone(), one.time_ms);
        let mut list = ours(&[one.clone(), two], PassingState::Accepted);
        let seen = compared(&list, &odd(vec![stored(&one)])).await;
        assert_eq!(found(&seen.findings), BTreeMap::from([(AuditVerdict::Missing, BTreeSet::from([2]))]));
        list[1].counted = true;
        assert_eq!(compared(&list, &odd(vec![stored(&one)])).await.findings.len(), 0);
    }

    #[tokio::test]
    async fn what_is_numbered_while_the_cloud_is_read_is_not_foreign() {
        let items: Vec<_> = (1..=5).map(item).collect();
        let cloud = odd(items.iter().map(stored).collect());
        let walk = Walk::begin(given(&ours(&items[..3], PassingState::Accepted)), Some(3), &cloud).await.unwrap();
        let seen = walk.seen(true);
        assert_eq!(seen.findings.len(), 2);
        let mut look = Explain::new(seen.findings);
        ours(&items, PassingState::Open).iter().for_each(|ours| look.look(ours));
        assert_eq!(look.finish(), (Vec::new(), 0));
    }

    #[tokio::test]
    async fn of_more_than_can_be_kept_nothing_is_foreign_that_may_have_been_numbered_meanwhile() {
        let items: Vec<_> = (1..=30_000).map(item).collect();
        let cloud = Odd { page: 5000, ..odd(items.iter().map(stored).collect()) };
        let walk = Walk::begin(given(&ours(&items[..3], PassingState::Accepted)), Some(3), &cloud).await.unwrap();
        assert_eq!(walk.seen(true).beyond[&AuditVerdict::Foreign], 30_000 - 3 - 10_000);
        let seen = walk.seen(false);
        assert!(seen.beyond.is_empty());
        let mut look = Explain::new(seen.findings);
        ours(&items, PassingState::Open).iter().for_each(|ours| look.look(ours));
        assert_eq!((look.finish(), seen.checked, seen.equal), ((Vec::new(), 0), 3, 3));
    }

    #[tokio::test]
    async fn what_shows_late_is_no_difference_and_what_is_then_another_one_is_told_as_it_is() {
        let items: Vec<_> = (1..=5000).map(item).collect();
        let list = ours(&items, PassingState::Accepted);
        let fresh = odd(items.iter().map(stored).collect());
        let stale = Odd { rows: fresh.rows[..4000].to_vec(), page: 1000, ..fresh.clone() };
        let mut walk = Walk::begin(given(&list), Some(5000), &stale).await.unwrap();
        assert_eq!(walk.seen(true).findings.len(), 1000);
        let mut altered = fresh.clone();
        altered.rows[4499].bib = Some("X".into());
        walk.again(given(&list), &altered).await.unwrap();
        let seen = walk.seen(true);
        assert_eq!(found(&seen.findings), BTreeMap::from([(AuditVerdict::Different, BTreeSet::from([4500]))]));
        assert_eq!((seen.checked, seen.equal), (5000, 4999));
        walk.again(given(&list), &fresh).await.unwrap();
        assert_eq!((walk.seen(true).findings.len(), walk.seen(true).equal), (0, 5000));
    }

    #[tokio::test]
    async fn differences_beyond_the_limit_are_counted() {
        let rows: Vec<_> = (1..=12_000).map(|num| stored(&item(num))).collect();
        let seen = compared(&[], &Odd { page: 5000, ..odd(rows) }).await;
        assert_eq!((seen.findings.len(), seen.beyond[&AuditVerdict::Foreign]), (10_000, 2_000));
    }
}
