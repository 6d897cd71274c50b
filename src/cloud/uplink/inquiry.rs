//! What does the cloud hold? A question over all pages that certainly ends.
//!
//! What must hold:
//! * **A "yes" may be believed at once, a "no" only from a whole answer.** [`Inquiry::verdict`]
//!   returns what was seen. [`Inquiry::is_whole`] says whether the cloud showed everything that was
//!   asked for. [`Inquiry::is_fresh`] says whether the answer shows the passing that is known to be
//!   in the cloud (the *witness*). The caller checks how old the doubt is.
//! * **It ends.** A server may ignore `first`, `last` or `page`. It may have pages of any size, may
//!   not say whether more follow, and may return an empty page before the last one. So the inquiry
//!   filters the numbers itself and counts the pages.
//! * **A bound may be exclusive.** The inquiry asks for one number more on each side.
//! * **A refused form is not a refused question.** The inquiry asks the same in other ways
//!   ([`Inquiry::next_way`]): in windows of a hundred numbers, of ten, the whole session, and the
//!   device by time.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::cloud::rufus::{CloudPassing, Page, Scope};
use crate::journal::UploadItem;

/// Most pages that one question reads (5000 passings each at the real cloud).
const PAGES: u32 = 2000;
/// Most empty pages in a row after which the next page is still read, if the answer says that more
/// follow.
const EMPTY_PAGES: u32 = 20;
/// The cloud may return a time without its milliseconds.
const STAMP_SLACK_MS: i64 = 1000;
/// A page with at most this many rows is not taken for cut short.
const SHORT_PAGE: usize = 3;
/// A question by time covers this much more on each side.
const TIME_SLACK_MS: i64 = 1000;
/// A witness further away than this from the numbers of interest is not asked for with them,
/// because the numbers between would fill the page.
const WITNESS_REACH: u64 = 1000;
/// Widths of the windows that are used when the cloud refuses the whole range.
const WINDOWS: [u64; 2] = [100, 10];

/// What the cloud holds under one of our numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NumberVerdict {
    /// Our passing.
    Ours,
    /// Another passing, described in words.
    Foreign(Box<str>),
}

/// How far an inquiry has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The next page must be asked for.
    More,
    /// Everything was seen.
    Done,
    /// The last allowed page was read, and more would follow.
    TooLong,
}

/// The form of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// The range of numbers.
    #[default]
    Range,
    /// The range in windows of this many numbers.
    Windows(u64),
    /// The whole session.
    Session,
    /// The device, by time.
    Times,
    /// The device, by the time of one passing after the other, with a second more on each side.
    Moments,
    /// The same to the millisecond, if the cloud shows milliseconds.
    Instants,
}

impl Way {
    /// The question is about the device, across its sessions.
    fn is_by_time(self) -> bool {
        matches!(self, Self::Times | Self::Moments | Self::Instants)
    }
}

/// A question under way.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    /// Session that the question is about.
    pub(super) token: Box<str>,
    /// First number of interest.
    pub(super) first: u64,
    /// Last number of interest. `None`: no end.
    pub(super) last: Option<u64>,
    /// Device and times that cover the passings of interest, if they are known.
    times: Option<(Box<str>, i64, i64)>,
    /// Numbers and times of the passings of interest, if they are known, in number order.
    moments: Vec<(u64, i64)>, // at most a batch
    answered: bool,
    way: Way,
    /// First number of the current window.
    window: u64,
    /// The cloud showed a passing in that window.
    window_holds: bool,
    /// Next page, from 1.
    page: u32,
    pages: u32,
    empty: u32,
    /// Highest number found in the range.
    pub(super) highest: Option<u64>,
    /// Number of passings in the range that are not ours, and a description of the last one.
    pub(super) others: (u64, Box<str>),
    verdicts: BTreeMap<u64, NumberVerdict>, // at most one per passing of the batch
    /// Rows of the previous page.
    before: HashSet<u64>, // at most a page
    /// Number of rows of the longest page.
    longest: usize,
    /// The cloud shows times to the millisecond.
    has_millis: bool,
    /// How many milliseconds more are asked for on each side of a time.
    slack: i64,
    /// A passing that the cloud is known to hold in this session.
    witness: Option<UploadItem>,
    witness_seen: bool,
    /// At least one page was cut short, and its rest was not available.
    cut_short: bool,
    /// When the first page was asked for.
    pub(super) asked: Option<Duration>,
}

impl Inquiry {
    /// Asks a session for a range of numbers.
    pub(super) fn new(token: &str, first: u64, last: Option<u64>) -> Self {
        Self {
            token: token.into(),
            first,
            last,
            times: None,
            moments: Vec::new(),
            answered: false,
            way: Way::Range,
            window: first,
            window_holds: false,
            page: 1,
            pages: 0,
            empty: 0,
            highest: None,
            others: (0, "".into()),
            verdicts: BTreeMap::new(),
            before: HashSet::new(),
            longest: 0,
            has_millis: false,
            slack: TIME_SLACK_MS,
            witness: None,
            witness_seen: false,
            cut_short: false,
            asked: None,
        }
    }

    /// Asks what a device holds from `from` to `to`, UTC milliseconds since 1970, in all its
    /// sessions.
    pub(super) fn by_time(device: &str, from: i64, to: i64) -> Self {
        let times = Some((device.into(), from, to));
        Self { times, way: Way::Times, ..Self::new("", 0, None) }
    }

    /// The same question for the first half of its time, because its answer was cut short. `None`:
    /// the time cannot be shorter.
    pub(super) fn first_half(&self) -> Option<Self> {
        let (device, from, to) = self.times.as_ref()?;
        // If the cloud shows milliseconds, no slack is needed.
        let slack = if self.has_millis { 1 } else { self.slack };
        if *to - *from <= slack {
            return None;
        }
        let half = Self::by_time(device, *from, *from + (*to - *from) / 2);
        Some(Self { slack, longest: self.longest, ..half })
    }

    /// The first and last time of the question, UTC milliseconds since 1970.
    pub(super) fn asks_from_to(&self) -> Option<(i64, i64)> {
        self.times.as_ref().map(|(_, from, to)| (*from, *to))
    }

    /// Adds a passing that the cloud is known to hold. An answer without it is stale.
    pub(super) fn with_witness(self, witness: Option<&UploadItem>) -> Self {
        let near = |item: &&UploadItem| {
            let above = self.last.is_some_and(|last| item.num.saturating_sub(last) > WITNESS_REACH);
            !above && self.first.saturating_sub(item.num) <= WITNESS_REACH
        };
        Self { witness: witness.filter(near).cloned(), ..self }
    }

    /// Adds the times of the passings of interest, in case the cloud does not answer by number.
    pub(super) fn with_times(self, device: &str, moments: Vec<(u64, i64)>) -> Self {
        let from = moments.iter().map(|(_, time)| *time).min().unwrap_or_default();
        let to = moments.iter().map(|(_, time)| *time).max().unwrap_or_default();
        Self { times: Some((device.into(), from, to)), moments, ..self }
    }

    /// Asks in this form first.
    pub(super) fn in_way(self, way: Way) -> Self {
        let possible = !way.is_by_time() || self.times.is_some();
        let window = if self.last.is_some() { self.from() } else { self.first };
        Self { way: if possible { way } else { Way::Range }, window, ..self }
    }

    /// The current form of the question.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Returns what to ask for next: the scope and the page.
    pub(super) fn next(&self) -> (Scope, u32) {
        let numbers = |first: u64, last: Option<u64>| Scope::Numbers {
            token: self.token.clone(),
            first: first.saturating_sub(1),
            last: last.map(|last| last.saturating_add(1)),
        };
        let slack = if self.way == Way::Instants { 1 } else { self.slack };
        let times = |device: &str, from: i64, to: i64| Scope::Times {
            device: device.into(),
            from: from.saturating_sub(slack),
            to: to.saturating_add(slack),
        };
        let scope = match (self.way, &self.times) {
            (Way::Moments | Way::Instants, Some((device, from, to))) => {
                let moment = self.moments.iter().find(|(num, _)| *num >= self.window).map(|(_, time)| *time);
                times(device, moment.unwrap_or(*from), moment.unwrap_or(*to))
            }
            (Way::Times, Some((device, from, to))) => times(device, *from, *to),
            (Way::Session, _) => Scope::Session { token: self.token.clone() },
            (Way::Windows(width), _) => numbers(self.window, Some(self.window_end(width))),
            (Way::Range | Way::Times | Way::Moments | Way::Instants, _) => {
                numbers(self.from(), self.last.map(|last| self.with_witness_num(last, u64::max)))
            }
        };
        (scope, self.page)
    }

    /// The lowest number that the question covers.
    fn from(&self) -> u64 {
        self.with_witness_num(self.first, u64::min)
    }

    fn with_witness_num(&self, num: u64, which: impl Fn(u64, u64) -> u64) -> u64 {
        self.witness.as_ref().map_or(num, |witness| which(witness.num, num))
    }

    fn window_end(&self, width: u64) -> u64 {
        let end = self.window.saturating_add(width - 1);
        self.last.map_or(end, |last| end.min(last.max(self.window)))
    }

    /// The question is about this number.
    pub(super) fn covers(&self, num: u64) -> bool {
        num >= self.first && self.last.is_none_or(|last| num <= last)
    }

    /// Takes in a page. `ours` are the passings that it is compared with, in number order.
    pub(super) fn take(&mut self, page: &Page, ours: &[&UploadItem]) -> Progress {
        // Rows of the previous page are in this page again: the server ignores the page number. The
        // pages need not be equal, because the cloud may show more passings by now.
        let rows: HashSet<u64> = page.passings.iter().map(row).collect();
        let repeated = !rows.is_disjoint(&self.before);
        self.before = rows;
        self.pages += 1;
        self.answered = true;
        page.passings.iter().for_each(|stored| self.see(stored, ours));
        if !ours.is_empty() && !ours.iter().any(|item| self.foreign_or_none(item.num)) {
            return Progress::Done;
        }
        if self.pages >= PAGES {
            return Progress::TooLong;
        }
        // The last page is an empty page, a page seen before, or the page that the answer calls the
        // last.
        let more = if page.passings.is_empty() {
            self.empty += 1;
            page.more == Some(true) && self.empty <= EMPTY_PAGES
        } else {
            self.empty = 0;
            !repeated && page.more != Some(false)
        };
        if more {
            self.page += 1;
            return Progress::More;
        }
        // The server ignores the page number. If its page is cut short, nobody can read the rest. A
        // page that is shorter than another page was not cut, and every server returns a few rows
        // whole.
        self.longest = self.longest.max(page.passings.len());
        self.cut_short |= repeated && page.passings.len() >= self.longest && page.passings.len() > SHORT_PAGE;
        self.end_window(ours)
    }

    fn see(&mut self, stored: &CloudPassing, ours: &[&UploadItem]) {
        self.has_millis |= stored.time_ms.is_some_and(|time| time % STAMP_SLACK_MS != 0);
        // A question by time also returns other sessions. Only a row that names this session
        // counts.
        let here =
            stored.session.as_ref().map_or(!self.way.is_by_time(), |token| token.eq_ignore_ascii_case(&self.token));
        let Some(num) = stored.num.filter(|_| here) else { return };
        if let Some(witness) = self.witness.as_ref().filter(|witness| witness.num == num) {
            self.witness_seen |= is_ours(stored, witness);
        }
        if !self.covers(num) {
            return;
        }
        self.highest = self.highest.max(Some(num));
        self.window_holds |= num >= self.window;
        let Ok(at) = ours.binary_search_by_key(&num, |item| item.num) else {
            self.others = (self.others.0 + 1, in_words(stored));
            return;
        };
        let verdict =
            if is_ours(stored, ours[at]) { NumberVerdict::Ours } else { NumberVerdict::Foreign(in_words(stored)) };
        if let NumberVerdict::Foreign(other) = &verdict {
            self.others = (self.others.0 + 1, other.clone());
        }
        // The cloud may hold a number twice. If one of the two passings is ours, the number counts
        // as ours.
        if self.verdicts.get(&num) != Some(&NumberVerdict::Ours) {
            self.verdicts.insert(num, verdict);
        }
    }

    /// Every number of a window, or of the whole range, was seen.
    fn end_window(&mut self, ours: &[&UploadItem]) -> Progress {
        let beyond = match self.way {
            Way::Windows(width) => self.window_end(width).saturating_add(1),
            Way::Moments | Way::Instants => match self.moments.iter().find(|(num, _)| *num >= self.window) {
                Some((num, _)) => num.saturating_add(1),
                None => return Progress::Done,
            },
            _ => return Progress::Done,
        };
        let next = match self.last {
            // Numbers that were found are not asked for again.
            Some(_) if !ours.is_empty() => {
                let unseen = ours.iter().map(|item| item.num).filter(|num| self.foreign_or_none(*num));
                let shown = self.witness_seen || self.way.is_by_time();
                let witness = self.witness.iter().filter(|_| !shown).map(|witness| witness.num);
                unseen.chain(witness).filter(|num| *num >= beyond).min()
            }
            Some(last) => Some(beyond).filter(|beyond| *beyond <= last),
            None => Some(beyond).filter(|_| self.window_holds),
        };
        let Some(next) = next else { return Progress::Done };
        (self.window, self.window_holds, self.page) = (next, false, 1);
        self.before.clear();
        Progress::More
    }

    fn foreign_or_none(&self, num: u64) -> bool {
        self.verdicts.get(&num) != Some(&NumberVerdict::Ours)
    }

    /// Asks in another form, from the start. What was found stays found. `false`: no other form is
    /// left.
    pub(super) fn next_way(&mut self) -> bool {
        let next = match self.way {
            Way::Range => Way::Windows(WINDOWS[0]),
            Way::Windows(width) if width > WINDOWS[1] => Way::Windows(WINDOWS[1]),
            Way::Windows(_) => Way::Session,
            Way::Session if self.times.is_some() && !self.token.is_empty() => Way::Times,
            Way::Session | Way::Times | Way::Moments | Way::Instants => return false,
        };
        self.restart(next);
        true
    }

    /// Asks for less at a time, because answers are cut short. `false`: less is not possible.
    pub(super) fn narrow(&mut self) -> bool {
        let next = match (self.way, self.last) {
            (Way::Range, Some(_)) => Way::Windows(WINDOWS[1]),
            (Way::Windows(width), Some(_)) if width > 1 => Way::Windows((width / 10).max(1)),
            (Way::Times, _) if !self.moments.is_empty() => Way::Moments,
            (Way::Moments, _) if self.has_millis => Way::Instants,
            _ => return false,
        };
        self.restart(next);
        true
    }

    fn restart(&mut self, way: Way) {
        self.way = way;
        // The windows show the witness only if they begin at its number.
        self.window = if self.last.is_some() { self.from() } else { self.first };
        (self.window_holds, self.page, self.empty) = (false, 1, 0);
        self.before.clear();
        (self.cut_short, self.answered, self.asked) = (false, false, None);
    }

    /// The cloud showed everything that was asked for.
    pub(super) fn is_whole(&self) -> bool {
        !self.cut_short
    }

    /// Returns whether the answer shows the witness. `None`: no witness is known, or the question
    /// did not cover it.
    pub(super) fn is_fresh(&self) -> Option<bool> {
        self.witness.as_ref().filter(|_| self.witness_seen || !self.way.is_by_time())?;
        Some(self.witness_seen)
    }

    /// The cloud answered this form of the question at least once.
    pub(super) fn was_answered(&self) -> bool {
        self.answered
    }

    /// Returns what was found under a number. `None`: nothing was found.
    pub(super) fn verdict(&self, num: u64) -> Option<&NumberVerdict> {
        self.verdicts.get(&num)
    }
}

/// Checks whether the passing with our number is our passing, by identity (chip, or bib if the
/// cloud returns no chip) and time. A field that is missing or unreadable in the answer is no
/// difference, but identity or time must agree.
fn is_ours(stored: &CloudPassing, item: &UploadItem) -> bool {
    let same = |stored: &Option<Box<str>>, ours: &str| stored.as_ref().map(|theirs| theirs.eq_ignore_ascii_case(ours));
    let identity = same(&stored.chip, &item.chip).or(same(&stored.bib, &item.bib));
    let time = stored.time_ms.map(|time| {
        // A cloud that cuts the milliseconds off shows whole seconds. Any other difference means
        // another passing.
        let apart = item.time_ms.saturating_sub(time);
        apart == 0 || (time % STAMP_SLACK_MS == 0 && (0..STAMP_SLACK_MS).contains(&apart))
    });
    (identity.is_some() || time.is_some()) && identity != Some(false) && time != Some(false)
}

/// Hash of a row, by which a repeated row is recognised.
fn row(stored: &CloudPassing) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stored.num, stored.time_ms, &stored.chip, &stored.bib, &stored.session).hash(&mut hasher);
    hasher.finish()
}

fn in_words(stored: &CloudPassing) -> Box<str> {
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
    use crate::model::chip::Seq;

    fn item(num: u64) -> UploadItem {
        UploadItem {
            seq: Seq(num),
            num,
            time_ms: 1000 * num as i64 + 123,
            corrected_ms: 0,
            bib: "7".into(),
            chip: "C7".into(),
        }
    }

    fn stored(num: u64) -> CloudPassing {
        CloudPassing {
            num: Some(num),
            time_ms: Some(1000 * num as i64 + 123),
            bib: Some("7".into()),
            chip: Some("C7".into()),
            session: None,
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
        assert_eq!((inquiry.verdict(8), inquiry.verdict(9)), (Some(&NumberVerdict::Ours), None));
    }

    #[test]
    fn a_server_that_ignores_page_and_range_does_not_keep_it_busy_for_ever() {
        let items = [item(5), item(6)];
        let ours = [&items[0], &items[1]];
        let mut inquiry = Inquiry::new("A", 5, Some(6));
        assert_eq!(inquiry.take(&page(1..=5, None), &ours), Progress::More);
        assert_eq!(inquiry.take(&page(1..=5, None), &ours), Progress::Done);
        assert_eq!(
            (inquiry.verdict(5), inquiry.verdict(4), inquiry.highest),
            (Some(&NumberVerdict::Ours), None, Some(5))
        );
        let mut endless = Inquiry::new("A", 1, None);
        let last = (0..).find(|&n| endless.take(&page([n], Some(true)), &[]) != Progress::More);
        assert_eq!(last, Some(u64::from(PAGES) - 1));
    }

    #[test]
    fn a_passing_is_ours_by_number_identity_and_time() {
        let ours = item(5);
        assert!(is_ours(&stored(5), &ours));
        assert!(is_ours(&CloudPassing { chip: None, ..stored(5) }, &ours));
        assert!(is_ours(&CloudPassing { time_ms: Some(5000), ..stored(5) }, &ours), "a cloud without milliseconds");
        assert!(is_ours(&CloudPassing { time_ms: None, ..stored(5) }, &ours));
        assert!(!is_ours(&CloudPassing { chip: Some("C8".into()), ..stored(5) }, &ours));
        assert!(!is_ours(&CloudPassing { chip: None, bib: Some("8".into()), ..stored(5) }, &ours));
        assert!(!is_ours(&CloudPassing { time_ms: Some(9000), ..stored(5) }, &ours));
    }

    #[test]
    fn of_two_passings_under_one_number_ours_counts() {
        let items = [item(5), item(6)];
        let ours = [&items[0], &items[1]];
        let foreign = CloudPassing { chip: Some("X".into()), ..stored(5) };
        for list in [vec![foreign.clone(), stored(5)], vec![stored(5), foreign.clone()]] {
            let mut inquiry = Inquiry::new("A", 5, Some(6));
            inquiry.take(&Page { passings: list, more: None }, &ours);
            assert_eq!(inquiry.verdict(5), Some(&NumberVerdict::Ours));
        }
        let mut inquiry = Inquiry::new("A", 5, Some(6));
        inquiry.take(&Page { passings: vec![foreign], more: None }, &ours);
        assert_eq!(inquiry.verdict(5), Some(&NumberVerdict::Foreign("X at 1970-01-01T00:00:05.123Z".into())));
    }
}
