//! The passings of one session of the fake, and what it held at an earlier moment.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time for which passings or sessions are not shown.
pub(in crate::sim::cloud) const MAX_LAG: Duration = Duration::from_secs(60);

/// Most inserts of each session whose time of arrival is remembered. Older inserts are shown to
/// every question.
const MAX_MARKS: usize = 100_000;

/// A passing: 24 bytes. Chip and bib are ids of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::cloud) struct Row {
    pub(super) num: u64,
    pub(super) time_ms: i64,
    pub(super) chip: u32,
    pub(super) bib: u32,
}

/// A row whose number did not rise.
pub(super) struct Odd {
    /// Number of rows that arrived before it.
    pub(super) after: usize,
    pub(super) row: Row,
}

impl Row {
    /// A value that distinguishes the row from others of its session, nearly always.
    pub(in crate::sim::cloud) fn key(&self) -> u64 {
        self.num ^ (u64::from(self.chip) << 40)
    }

    /// Chip (or bib, if there is no chip) and time.
    pub(super) fn chip_time(&self) -> (u32, i64) {
        (if self.chip == NO_TEXT { self.bib } else { self.chip }, self.time_ms)
    }
}

/// How much a session held at a moment: rows with rising numbers, and odd rows.
#[derive(Clone, Copy, Default)]
pub(super) struct Amount {
    pub(super) rows: usize,
    pub(super) odd: usize,
}

/// Id that means that no chip was sent.
pub(super) const NO_TEXT: u32 = u32::MAX;

/// A session with its passings.
pub(super) struct SimSession {
    pub(super) token: Arc<str>,
    pub(super) device: Arc<str>,
    pub(super) alias: Option<Arc<str>>,
    pub(super) active: bool,
    pub(super) created_ms: i64,
    pub(super) opened: Instant,
    closed: Option<Instant>,
    /// What the session held after each insert of the last [`MAX_LAG`], and what it held before
    /// those.
    marks: VecDeque<(Instant, Amount)>,
    before_marks: Amount,
    /// Rows with strictly rising numbers.
    pub(super) rows: Vec<Row>,
    pub(super) odd: Vec<Odd>,
    /// No row of `rows` has an earlier time than the one before it, so a time is found by a binary
    /// search.
    times_rise: bool,
    /// Rows with numbers up to this one were taken out of `rows`. The numbers are still known,
    /// their content is not.
    pub(super) taken: u64,
    /// Highest number that the client under test has stored.
    pub(super) highest: u64,
    /// Numbers of another sender's passings. What the client sends under them is not its fault.
    pub(super) foreign: HashSet<u64>,
    /// Numbers of passings that the fake lost. The client may send them again.
    pub(super) lost: HashSet<u64>,
    /// Chip and time of every row, collected from the first insert under
    /// [`Dedup::ChipTime`](super::Dedup::ChipTime) on.
    pub(super) seen: HashSet<(u32, i64)>,
}

impl SimSession {
    /// An active session without passings.
    pub(super) fn new(token: Arc<str>, device: &str, alias: Option<&str>, created_ms: i64) -> Self {
        Self {
            token,
            device: device.into(),
            alias: alias.map(Into::into),
            active: true,
            created_ms,
            opened: Instant::now(),
            closed: None,
            marks: VecDeque::new(),
            before_marks: Amount::default(),
            rows: Vec::new(),
            odd: Vec::new(),
            times_rise: true,
            taken: 0,
            highest: 0,
            foreign: HashSet::new(),
            lost: HashSet::new(),
            seen: HashSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.odd.len()
    }

    fn held(&self) -> Amount {
        Amount { rows: self.rows.len(), odd: self.odd.len() }
    }

    /// Returns what the session held at this moment. `None`: now.
    pub(super) fn held_at(&self, at: Option<Instant>) -> Amount {
        let Some(at) = at else { return self.held() };
        let later = self.marks.partition_point(|(taken, _)| *taken <= at);
        later.checked_sub(1).map_or(self.before_marks, |last| self.marks[last].1)
    }

    /// Records that something was stored just now.
    pub(super) fn mark(&mut self) {
        let now = Instant::now();
        self.marks.push_back((now, self.held()));
        while let Some((taken, held)) = self.marks.front().copied()
            && (self.marks.len() > MAX_MARKS || now.duration_since(taken) > MAX_LAG)
        {
            self.before_marks = held;
            self.marks.pop_front();
        }
    }

    /// Rows were taken out, so all remaining rows are shown to every question.
    pub(super) fn unmark(&mut self) {
        self.marks.clear();
        self.before_marks = self.held();
    }

    pub(super) fn active_at(&self, at: Option<Instant>) -> bool {
        at.map_or(self.active, |at| self.opened <= at && self.closed.is_none_or(|closed| closed > at))
    }

    pub(super) fn close(&mut self) {
        self.active = false;
        self.closed.get_or_insert_with(Instant::now);
    }

    pub(super) fn with_number(&self, num: u64) -> impl Iterator<Item = &Row> {
        let regular = match self.rows.last() {
            Some(last) if last.num >= num => self.rows.binary_search_by_key(&num, |row| row.num).ok(),
            _ => None,
        };
        let odd = self.odd.iter().map(|odd| &odd.row).filter(move |row| row.num == num);
        regular.map(|at| &self.rows[at]).into_iter().chain(odd)
    }

    pub(super) fn add(&mut self, row: Row) {
        if self.rows.last().is_none_or(|last| last.num < row.num) {
            self.times_rise &= self.rows.last().is_none_or(|last| last.time_ms <= row.time_ms);
            self.rows.push(row);
        } else {
            self.odd.push(Odd { after: self.rows.len(), row });
        }
    }

    /// The rows in the order of arrival.
    pub(super) fn arrived(&self) -> impl Iterator<Item = &Row> {
        self.arrived_of(self.held())
    }

    /// The same, for the rows that the session held then.
    fn arrived_of(&self, held: Amount) -> impl Iterator<Item = &Row> {
        let (rows, mut odd) = (&self.rows[..held.rows], self.odd[..held.odd].iter().peekable());
        let mut at = 0;
        std::iter::from_fn(move || {
            if let Some(next) = odd.next_if(|odd| odd.after <= at) {
                return Some(&next.row);
            }
            let row = rows.get(at)?;
            at += 1;
            Some(row)
        })
    }

    /// The rows with numbers and times in the ranges, lowest number first. They are copied only if
    /// the session does not hold them in this order.
    pub(super) fn by_number(
        &self,
        numbers: &RangeInclusive<u64>,
        times: &RangeInclusive<i64>,
        held: Amount,
    ) -> Cow<'_, [Row]> {
        let seen = &self.rows[..held.rows];
        let from = seen.partition_point(|row| row.num < *numbers.start());
        let to = seen.partition_point(|row| row.num <= *numbers.end()).max(from);
        let regular = self.of_times(&seen[from..to], times);
        let odd = self.odd[..held.odd].iter().map(|odd| odd.row);
        let mut odd = odd.filter(|row| numbers.contains(&row.num) && times.contains(&row.time_ms)).peekable();
        if odd.peek().is_none() {
            return regular;
        }
        let mut rows = regular.into_owned();
        rows.extend(odd);
        rows.sort_by_key(|row| row.num);
        Cow::Owned(rows)
    }

    /// The rows with times in the range, in the order of arrival. They are copied only if the
    /// session does not hold them in this order.
    pub(super) fn by_arrival(&self, times: &RangeInclusive<i64>, held: Amount) -> Cow<'_, [Row]> {
        if held.odd == 0 {
            return self.of_times(&self.rows[..held.rows], times);
        }
        Cow::Owned(self.arrived_of(held).filter(|row| times.contains(&row.time_ms)).copied().collect())
    }

    /// Those of these regular rows that have a time in the range.
    fn of_times<'a>(&self, rows: &'a [Row], times: &RangeInclusive<i64>) -> Cow<'a, [Row]> {
        if *times == (i64::MIN..=i64::MAX) {
            return Cow::Borrowed(rows);
        }
        if self.times_rise {
            let from = rows.partition_point(|row| row.time_ms < *times.start());
            let to = rows.partition_point(|row| row.time_ms <= *times.end()).max(from);
            return Cow::Borrowed(&rows[from..to]);
        }
        Cow::Owned(rows.iter().filter(|row| times.contains(&row.time_ms)).copied().collect())
    }

    /// Replaces the first row that has the number of `row`.
    pub(super) fn replace(&mut self, row: Row) {
        let mut rows = self.rows.iter_mut().chain(self.odd.iter_mut().map(|odd| &mut odd.row));
        if let Some(held) = rows.find(|held| held.num == row.num) {
            *held = row;
        }
        self.times_rise = self.rows.is_sorted_by_key(|row| row.time_ms);
    }

    pub(super) fn span_ms(&self, held: Amount) -> Option<(i64, i64)> {
        let first = self.arrived_of(held).next()?.time_ms;
        let last = match (self.rows[..held.rows].last(), self.odd[..held.odd].last()) {
            (Some(_), Some(odd)) if odd.after == held.rows => odd.row.time_ms,
            (Some(row), _) => row.time_ms,
            (None, odd) => odd?.row.time_ms,
        };
        Some((first, last))
    }
}
