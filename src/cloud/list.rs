//! What the cloud holds, in pieces that follow each other: the passings of a session by number, or
//! those of a device by time.
//!
//! What must hold:
//! * **Never a quiet short list.** A list ends only after the cloud has said that nothing follows. If
//!   a part of it cannot be had, that is an error ([`ListError`]), after the pieces before it.
//! * **In order, each passing once.** The cloud documents no order of its pages, and a passing may
//!   move to another page while they are read. So the list is asked for in *windows* of numbers (or
//!   of times), a window is sorted before it is returned, and a window whose pages overlap is asked
//!   for again in smaller ones.
//! * **Bounded.** A piece has at most [`ROWS_MAX`] passings and one page more. A window that holds
//!   more is made smaller. Where the numbers have a hole, the next window is everything that is left.
//! * **Nothing is believed that was not asked for.** A server may ignore the range, the page or both.
//!   The list filters by itself ([`crate::cloud::pages`] judges the pages). If a server ignores or
//!   refuses ranges of numbers, its pages are read one after the other ([`whole`]), and where they
//!   overlap the list ends with an error.
//!
//! The modules: `known` (which of the passings this box sent, from its log), `follow` (new passings
//! as they arrive).
//!
//! Rejected: page after page without windows (a passing that arrives while they are read moves the
//! others to other pages, and nothing shows it); the audit's windows of the numbers that the journal
//! knows (another sender's passings are in the list as well, and there need not be a journal).

pub(crate) mod follow;
pub(crate) mod known;
mod reads;
mod source;
mod whole;

use super::pages::{PageWalk, Turn};
use super::rufus::{CallError, FullPassing, Scope};
pub(crate) use source::{FullPages, ListError};
use source::{HIGHEST, SHORT_PAGE, place, position};
use whole::Whole;

/// Most passings of a window.
const ROWS_MAX: usize = 10_000;
/// As many passings should be in a window: they fit on one page of the real cloud (5000).
const ROWS: i64 = 4000;
/// Most pages of a window.
const PAGES: u32 = 2000;
/// Most windows of a list.
const WINDOWS: u32 = 1_000_000;
/// A window grows by this factor at most.
const GROWTH: i64 = 8;
/// A question by time covers so much more on each side, in ms: the cloud may have cut the fraction.
const TIME_SLACK: i64 = 1000;

/// A list that is read.
pub(crate) struct Listing<'a, P> {
    source: &'a P,
    scope: Scope,
    /// First number or time that was not read yet.
    next: i64,
    /// Last one that is wanted.
    end: i64,
    /// So many numbers, or milliseconds, are in the next window.
    width: i64,
    /// No wider window is asked for, because the cloud refused one.
    widest: i64,
    /// A window that begins here held too much, and nothing was found since.
    crowded: bool,
    /// The longest page.
    longest: usize,
    /// The cloud refused a question without a last number.
    needs_last: bool,
    windows: u32,
    /// The windows were given up.
    whole: Option<Whole>,
    /// Passings whose number (or time) cannot be read. They have no place in the list.
    pub(crate) unplaced: u64,
}

/// What a window showed.
enum Seen {
    /// Everything in it, in order.
    All(Vec<FullPassing>),
    /// More than a piece may have, or more than the cloud shows. Half of what was seen is up to here.
    TooMuch { half: Option<i64> },
    /// The server does not keep to the range.
    NoRange,
}

impl<'a, P: FullPages> Listing<'a, P> {
    /// The passings that the scope means. Both of its ends are included.
    pub(crate) fn new(source: &'a P, scope: Scope) -> Self {
        let (next, end, width) = match &scope {
            Scope::Numbers { first, last, .. } => (position(*first), last.map_or(HIGHEST, position), ROWS),
            Scope::Session { .. } => (0, HIGHEST, ROWS),
            Scope::Times { from, to, .. } => (*from, *to, i64::MAX),
        };
        Self {
            source,
            scope,
            next,
            end,
            width,
            widest: i64::MAX,
            crowded: false,
            longest: 0,
            needs_last: false,
            windows: 0,
            whole: None,
            unplaced: 0,
        }
    }

    /// The same, if nearly nothing is expected: the first window is the whole list.
    pub(crate) fn expecting_few(self) -> Self {
        Self { width: i64::MAX, ..self }
    }

    /// Returns the next passings, never none at all. `None`: nothing follows.
    ///
    /// # Errors
    /// The rest of the list cannot be had.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<FullPassing>>, ListError> {
        while self.next <= self.end {
            if let Some(whole) = &mut self.whole {
                return whole.next(self.source, self.next..=self.end, &mut self.unplaced).await;
            }
            self.windows += 1;
            if self.windows > WINDOWS {
                return Err(ListError::Endless);
            }
            let last = self.next.saturating_add(self.width.min(self.widest) - 1).min(self.end);
            match self.window(self.next, last).await {
                Ok(Seen::All(rows)) => {
                    self.follow(last, rows.len());
                    if !rows.is_empty() {
                        return Ok(Some(rows));
                    }
                }
                Ok(Seen::TooMuch { half }) => self.narrow(last, half)?,
                Ok(Seen::NoRange) => self.whole = Some(Whole::of(&self.scope)),
                // The question may be too wide, if it is known where it ends.
                Err(CallError::BadRequest { .. }) if self.end < HIGHEST && last > self.next => {
                    self.narrow(last, None)?;
                    self.widest = self.width;
                }
                Err(CallError::BadRequest { .. }) if last == HIGHEST && !self.needs_last => self.needs_last = true,
                Err(CallError::BadRequest { .. }) if self.end == HIGHEST => {
                    self.whole = Some(Whole::of(&self.scope));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The window up to `last` is done.
    fn follow(&mut self, last: i64, rows: usize) {
        let width = last - self.next + 1;
        self.width = match i64::try_from(rows) {
            Ok(0) if self.crowded => width.saturating_mul(2),
            Ok(0) => i64::MAX, // the rest
            Ok(rows) => (width.saturating_mul(ROWS) / rows).clamp(1, width.saturating_mul(GROWTH)),
            Err(_) => width,
        };
        self.crowded &= rows == 0;
        self.next = last + 1;
    }

    /// The window up to `last` holds too much.
    fn narrow(&mut self, last: i64, half: Option<i64>) -> Result<(), ListError> {
        if last == self.next {
            return Err(ListError::Cut);
        }
        let middle = self.next + (last - self.next) / 2;
        self.width = half.map_or(middle, |half| half.min(middle)) - self.next + 1;
        self.crowded = true;
        Ok(())
    }

    /// The question for a window. It asks for a little more on each side, because a server may take
    /// the ends for excluded.
    fn question(&self, first: i64, last: i64) -> (Scope, i64) {
        match &self.scope {
            Scope::Numbers { token, .. } | Scope::Session { token } => {
                let last = (last < HIGHEST || self.needs_last).then(|| number(last) + 1);
                (Scope::Numbers { token: token.clone(), first: number(first).saturating_sub(1), last }, 1)
            }
            Scope::Times { device, .. } => {
                let (from, to) = (first.saturating_sub(TIME_SLACK), last.saturating_add(TIME_SLACK));
                (Scope::Times { device: device.clone(), from, to }, TIME_SLACK)
            }
        }
    }

    async fn window(&mut self, first: i64, last: i64) -> Result<Seen, CallError> {
        let (scope, slack) = self.question(first, last);
        let (mut pages, mut rows, mut strange, mut unplaced) = (PageWalk::default(), Vec::new(), 0, 0);
        let mut cut = true; // until its end was seen
        for page_number in 1..=PAGES {
            let page = self.source.page(&scope, page_number).await?;
            let turn = pages.turn(&page.passings, page.more);
            self.longest = self.longest.max(page.passings.len());
            if turn == Turn::Again {
                // A page that is as long as any other may be full, and what follows is not shown.
                let full = page.passings.len() > SHORT_PAGE && page.passings.len() >= self.longest;
                cut = page.more == Some(true) || full;
                break;
            }
            for row in page.passings {
                match place(&self.scope, &row) {
                    None => unplaced += 1,
                    Some(place) if (first..=last).contains(&place) => rows.push((place, page_number, row)),
                    Some(place) if place < first.saturating_sub(slack) => strange += 1,
                    Some(place) if place > last.saturating_add(slack) => strange += 1,
                    Some(_) => {}
                }
            }
            if turn == Turn::Over {
                cut = false;
                break;
            }
            if rows.len() + strange > ROWS_MAX {
                break;
            }
        }
        rows.sort_by(|(place, _, row), (other, _, another)| (place, order(row)).cmp(&(other, order(another))));
        // The same passing on two pages: it moved, or the cloud holds it twice. On one page it is
        // certain.
        let twice = rows.windows(2).any(|two| two[0].1 != two[1].1 && two[0].2 == two[1].2);
        if cut && strange > 0 {
            return Ok(Seen::NoRange);
        }
        if cut || rows.len() > ROWS_MAX || (twice && last > first) {
            return Ok(Seen::TooMuch { half: rows.get(rows.len() / 2).map(|(place, ..)| *place) });
        }
        self.unplaced = self.unplaced.max(unplaced); // each window may show them
        Ok(Seen::All(rows.into_iter().map(|(.., row)| row).collect()))
    }
}

fn number(position: i64) -> u64 {
    u64::try_from(position).unwrap_or(0)
}

/// The order of passings that have one place.
fn order(row: &FullPassing) -> impl Ord + '_ {
    (row.time_ms, &row.token_session, row.num_passing, &row.chip, &row.bib)
}

#[cfg(test)]
mod tests;
