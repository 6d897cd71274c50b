//! What does a session hold? A question by number range, over all pages, that ends for certain.
//!
//! A server may ignore `first`, `last` or `page`, may have pages of any size, and may not say whether more follow. So
//! numbers are filtered here; a page that is empty, or the same as the one before, is the end; and there is a last page.

use std::collections::BTreeMap;

use crate::journal::Item;
use crate::rufus::{Page, Stored};

/// Most pages read for one question (5000 passings each at the real cloud).
const PAGES: u32 = 400;
/// A stamp may come back with less than its milliseconds.
const STAMP_SLACK_MS: i64 = 1000;

/// What the cloud holds under a number of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Our passing.
    Ours,
    /// Another one; in words.
    Foreign(Box<str>),
}

/// How far an inquiry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The next page has to be asked for.
    More,
    /// Everything was seen.
    Done,
    /// The last page allowed was read and there was no end.
    TooLong,
}

/// A question under way.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    /// Session asked about.
    pub(super) token: Box<str>,
    /// First number asked for.
    pub(super) first: u64,
    /// Last number asked for; `None`: no end.
    pub(super) last: Option<u64>,
    /// Page to ask for, from 1.
    pub(super) page: u32,
    /// Highest number found in the range.
    pub(super) highest: Option<u64>,
    verdicts: BTreeMap<u64, Verdict>, // at most one per passing of the batch
    before: Option<(usize, Option<Stored>, Option<Stored>)>,
}

impl Inquiry {
    /// Asks a session for a range of numbers.
    pub(super) fn new(token: &str, first: u64, last: Option<u64>) -> Self {
        let token = token.into();
        Self { token, first, last, page: 1, highest: None, verdicts: BTreeMap::new(), before: None }
    }

    /// The question is about this number.
    pub(super) fn covers(&self, num: u64) -> bool {
        num >= self.first && self.last.is_none_or(|last| num <= last)
    }

    /// Takes in a page. `ours` are the passings it is judged by, in number order.
    pub(super) fn take(&mut self, page: &Page, ours: &[&Item]) -> Progress {
        let mark = (page.passings.len(), page.passings.first().cloned(), page.passings.last().cloned());
        let stuck = self.before.as_ref() == Some(&mark);
        self.before = Some(mark);
        for stored in &page.passings {
            let Some(num) = stored.num.filter(|&num| self.covers(num)) else { continue };
            self.highest = self.highest.max(Some(num));
            let Ok(at) = ours.binary_search_by_key(&num, |item| item.num) else { continue };
            let verdict = if is_ours(stored, ours[at]) { Verdict::Ours } else { Verdict::Foreign(in_words(stored)) };
            // A number can be held twice; ours among them counts.
            if self.verdicts.get(&num) != Some(&Verdict::Ours) {
                self.verdicts.insert(num, verdict);
            }
        }
        let all = !ours.is_empty() && ours.iter().all(|item| self.verdicts.get(&item.num) == Some(&Verdict::Ours));
        if page.passings.is_empty() || stuck || all || page.more == Some(false) {
            return Progress::Done;
        }
        if self.page >= PAGES {
            return Progress::TooLong;
        }
        self.page += 1;
        Progress::More
    }

    /// What was found under a number; `None`: nothing.
    pub(super) fn verdict(&self, num: u64) -> Option<&Verdict> {
        self.verdicts.get(&num)
    }
}

/// The same number is given; is it the same passing? Identity (chip, or bib where the cloud gives no chip) and time.
/// What the cloud does not tell, or tells unreadably, is no difference.
fn is_ours(stored: &Stored, item: &Item) -> bool {
    let same = |stored: &Option<Box<str>>, ours: &str| stored.as_ref().map(|theirs| theirs.eq_ignore_ascii_case(ours));
    let identity = same(&stored.chip, &item.chip).or(same(&stored.bib, &item.bib)).unwrap_or(true);
    let time = stored.time_ms.is_none_or(|time| time.abs_diff(item.time_ms) < STAMP_SLACK_MS.unsigned_abs());
    identity && time
}

fn in_words(stored: &Stored) -> Box<str> {
    let chip = stored.chip.as_deref().or(stored.bib.as_deref()).unwrap_or("?");
    let time = stored.time_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => format!("{chip} at {time:.3}").into(),
        None => chip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::Seq;

    fn item(num: u64) -> Item {
        Item { seq: Seq(num), num, time_ms: 1000 * num as i64 + 123, bib: "7".into(), chip: "C7".into() }
    }

    fn stored(num: u64) -> Stored {
        Stored {
            num: Some(num),
            time_ms: Some(1000 * num as i64 + 123),
            bib: Some("7".into()),
            chip: Some("C7".into()),
        }
    }

    fn page(nums: impl IntoIterator<Item = u64>, more: Option<bool>) -> Page {
        Page { passings: nums.into_iter().map(stored).collect(), more }
    }

    #[test]
    fn pages_are_asked_for_until_one_is_empty() {
        let items: Vec<_> = (5..=9).map(item).collect();
        let ours: Vec<_> = items.iter().collect();
        let mut inquiry = Inquiry::new("A", 5, Some(9));
        assert_eq!(inquiry.take(&page(5..=6, None), &ours), Progress::More);
        assert_eq!(inquiry.take(&page(7..=8, None), &ours), Progress::More);
        assert_eq!(inquiry.take(&page([], None), &ours), Progress::Done);
        assert_eq!((inquiry.verdict(8), inquiry.verdict(9)), (Some(&Verdict::Ours), None));
    }

    #[test]
    fn a_server_that_ignores_page_and_range_does_not_keep_it_busy_for_ever() {
        let items = [item(5), item(6)];
        let ours = [&items[0], &items[1]];
        let mut inquiry = Inquiry::new("A", 5, Some(6));
        assert_eq!(inquiry.take(&page(1..=5, None), &ours), Progress::More);
        assert_eq!(inquiry.take(&page(1..=5, None), &ours), Progress::Done);
        assert_eq!((inquiry.verdict(5), inquiry.verdict(4), inquiry.highest), (Some(&Verdict::Ours), None, Some(5)));
        let mut endless = Inquiry::new("A", 1, None);
        let last = (0..).find(|&n| endless.take(&page([n], Some(true)), &[]) != Progress::More);
        assert_eq!(last, Some(u64::from(PAGES) - 1));
    }

    #[test]
    fn a_passing_is_ours_by_number_identity_and_time() {
        let ours = item(5);
        assert!(is_ours(&stored(5), &ours));
        assert!(is_ours(&Stored { chip: None, ..stored(5) }, &ours));
        assert!(is_ours(&Stored { time_ms: Some(5000), ..stored(5) }, &ours), "a cloud without milliseconds");
        assert!(is_ours(&Stored { time_ms: None, ..stored(5) }, &ours));
        assert!(!is_ours(&Stored { chip: Some("C8".into()), ..stored(5) }, &ours));
        assert!(!is_ours(&Stored { chip: None, bib: Some("8".into()), ..stored(5) }, &ours));
        assert!(!is_ours(&Stored { time_ms: Some(9000), ..stored(5) }, &ours));
    }

    #[test]
    fn of_two_passings_under_one_number_ours_counts() {
        let items = [item(5), item(6)];
        let ours = [&items[0], &items[1]];
        let foreign = Stored { chip: Some("X".into()), ..stored(5) };
        for list in [vec![foreign.clone(), stored(5)], vec![stored(5), foreign.clone()]] {
            let mut inquiry = Inquiry::new("A", 5, Some(6));
            inquiry.take(&Page { passings: list, more: None }, &ours);
            assert_eq!(inquiry.verdict(5), Some(&Verdict::Ours));
        }
        let mut inquiry = Inquiry::new("A", 5, Some(6));
        inquiry.take(&Page { passings: vec![foreign], more: None }, &ours);
        assert_eq!(inquiry.verdict(5), Some(&Verdict::Foreign("X at 1970-01-01T00:00:05.123Z".into())));
    }
}
