//! How a list is read that the cloud returns page by page.
//!
//! What must hold: no page is believed to follow the one before. A server may ignore the number of
//! the page, have pages of any size, not say whether more follow, and return an empty page before
//! the last one. [`PageWalk`] says for each page whether the list is over. The caller bounds the
//! number of pages.

use std::time::Duration;

use super::rufus::CallError;

/// Most empty pages in a row after which the next page is still read, if the answer says that more
/// follow.
const EMPTY_PAGES: u32 = 20;
/// Tries of a call before its failure counts. The caller may start again.
const TRIES: u32 = 3;
/// Least time between two tries. It is multiplied by the number of tries.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What follows after a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The next page must be read.
    Next,
    /// The list is over with this page.
    Over,
    /// It is the page before once more, so nothing on it is new. The server ignores the page number,
    /// and the list is over.
    Again,
}

/// The way through the pages of a list.
#[derive(Debug)]
pub(crate) struct PageWalk<T> {
    /// Length, first and last item of the page before.
    before: Option<(usize, Option<T>, Option<T>)>,
    empty: u32,
}

impl<T> Default for PageWalk<T> {
    fn default() -> Self {
        Self { before: None, empty: 0 }
    }
}

impl<T: Clone + PartialEq> PageWalk<T> {
    /// Takes a look at the next page. `more`: what the answer says about further pages.
    pub(crate) fn turn(&mut self, page: &[T], more: Option<bool>) -> Turn {
        self.empty = if page.is_empty() { self.empty + 1 } else { 0 };
        let mark = Some((page.len(), page.first().cloned(), page.last().cloned()));
        if self.empty == 0 && self.before == mark {
            return Turn::Again;
        }
        self.before = mark;
        let goes_on = more == Some(true) && self.empty <= EMPTY_PAGES;
        let over = if self.empty > 0 { !goes_on } else { more == Some(false) };
        if over { Turn::Over } else { Turn::Next }
    }
}

/// Asks up to three times while no answer counts, with a pause of `rest` before each try.
///
/// # Errors
/// The last try failed, or another try would fail as well.
pub(crate) async fn patiently<T, F>(rest: Duration, mut once: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut tries = 1;
    loop {
        tokio::time::sleep(rest).await;
        let error = match once().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let passing = matches!(error, CallError::TooMany { .. } | CallError::Unknown { .. } | CallError::NotSent(_));
        if tries == TRIES || !passing {
            return Err(error);
        }
        tokio::time::sleep(error.retry_after().unwrap_or(TRY_AGAIN * tries)).await;
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_over_after_its_last_page_and_when_a_page_comes_again() {
        let turns = |pages: &[(&[u8], Option<bool>)]| {
            let mut walk = PageWalk::default();
            pages.iter().map(|(page, more)| walk.turn(page, *more)).collect::<Vec<_>>()
        };
        assert_eq!(turns(&[(&[1, 2], Some(true)), (&[3], Some(false))]), [Turn::Next, Turn::Over]);
        assert_eq!(turns(&[(&[1, 2], None), (&[3], None), (&[], None)]), [Turn::Next, Turn::Next, Turn::Over]);
        assert_eq!(turns(&[(&[1, 2], None), (&[1, 2], None)]), [Turn::Next, Turn::Again]);
        assert_eq!(turns(&[(&[], Some(true)), (&[1], Some(true)), (&[], None)]), [Turn::Next, Turn::Next, Turn::Over]);
        let empty: Vec<_> = std::iter::repeat_n((&[][..], Some(true)), 21).collect();
        assert_eq!(turns(&empty)[19..], [Turn::Next, Turn::Over], "a list of empty pages ends");
    }
}
