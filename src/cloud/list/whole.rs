//! A list that is read page after page, because the server ignores ranges or refuses them.
//!
//! What must hold: pages are believed only if they follow each other, rising or falling. The pieces
//! are as long as the pages, and they are in the order of the cloud. If pages overlap, the list ends
//! with an error, after everything that the cloud showed.

use std::ops::RangeInclusive;

use super::source::{FullPages, ListError, SHORT_PAGE, place};
use crate::cloud::pages::{PageWalk, Turn};
use crate::cloud::rufus::{FullPassing, Scope};

/// Most pages of a list.
const PAGES: u32 = 100_000;

/// The way through the pages.
pub(super) struct Whole {
    scope: Scope,
    pages: PageWalk<FullPassing>,
    number: u32,
    longest: usize,
    /// Lowest and highest place of the page before.
    before: Option<(i64, i64)>,
    /// The places rise from page to page.
    rises: Option<bool>,
    overlaps: bool,
    over: bool,
}

impl Whole {
    /// All pages of a session, or of a device in the times of `scope`.
    pub(super) fn of(scope: &Scope) -> Self {
        let scope = match scope {
            Scope::Numbers { token, .. } | Scope::Session { token } => Scope::Session { token: token.clone() },
            times @ Scope::Times { .. } => times.clone(),
        };
        Self {
            scope,
            pages: PageWalk::default(),
            number: 0,
            longest: 0,
            before: None,
            rises: None,
            overlaps: false,
            over: false,
        }
    }

    /// Returns the next passings whose place is wanted.
    ///
    /// # Errors
    /// The rest cannot be had, or something was not as it must be.
    pub(super) async fn next(
        &mut self,
        source: &impl FullPages,
        wanted: RangeInclusive<i64>,
        unplaced: &mut u64,
    ) -> Result<Option<Vec<FullPassing>>, ListError> {
        while !self.over {
            self.number += 1;
            if self.number > PAGES {
                return Err(ListError::Endless);
            }
            let page = source.page(&self.scope, self.number).await?;
            let turn = self.pages.turn(&page.passings, page.more);
            self.longest = self.longest.max(page.passings.len());
            self.over = turn != Turn::Next;
            if turn == Turn::Again {
                let full = page.passings.len() > SHORT_PAGE && page.passings.len() >= self.longest;
                if page.more == Some(true) || full {
                    return Err(ListError::Cut);
                }
                break;
            }
            let mut rows = page.passings;
            self.judge(&rows);
            let all = rows.len();
            rows.retain(|row| place(&self.scope, row).is_some());
            *unplaced += (all - rows.len()) as u64;
            rows.retain(|row| place(&self.scope, row).is_some_and(|place| wanted.contains(&place)));
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        if std::mem::take(&mut self.overlaps) { Err(ListError::Overlap) } else { Ok(None) }
    }

    fn judge(&mut self, rows: &[FullPassing]) {
        let places = || rows.iter().filter_map(|row| place(&self.scope, row));
        let (Some(low), Some(high)) = (places().min(), places().max()) else { return };
        if let Some((before_low, before_high)) = self.before {
            let rises = low >= before_high;
            let falls = high <= before_low;
            self.overlaps |= if *self.rises.get_or_insert(rises) { !rises } else { !falls };
        }
        self.before = Some((low, high));
    }
}
