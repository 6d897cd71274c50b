//! How many passings the next POST carries.
//!
//! Two different faults make a POST smaller. If it is *too much* (413, timeouts), the size is
//! halved and later grows back. If *one passing in it is bad* (400), the part is halved until the
//! bad passing stands alone, and the size stays as it was. A 400 does not say which fault it means.
//! If every piece of a refused part was accepted, the fault was the size.
//!
//! A third case makes the POST larger. While more passings wait and an answer takes long, most of
//! the time is spent waiting. Then the size grows beyond the configured one, up to the size of a
//! batch.

use std::time::Duration;

/// Accepted POSTs after which the size is doubled.
const GROW_AFTER: u32 = 4;
/// After a doubling that failed, this many times more accepted POSTs are needed before the next
/// one, each time. On a link that carries 30 passings within a proxy's timeout, every try with 50
/// costs the whole timeout.
const GROW_LATER: u32 = 4;
/// Most accepted POSTs that are needed, because links change.
const GROW_LAST: u32 = 256;

/// While answers take longer than `SLOW`, a larger POST is worth it. Below `QUICK` it is not.
const SLOW: Duration = Duration::from_millis(150);
const QUICK: Duration = Duration::from_millis(50);

/// A refused part that is being split.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// The bad passing is among this many of the first open passings.
    suspects: usize,
    /// Size of the POST that was refused first.
    refused: usize,
}

/// Size of the parts of one device's batches.
#[derive(Clone, Debug)]
pub(super) struct Sizing {
    limit: usize,
    /// Most passings in a POST while answers take long.
    most: usize,
    current: usize,
    successes: u32,
    /// Accepted POSTs needed before the next doubling.
    needed: u32,
    /// The size was doubled, and no whole POST of that size was accepted yet.
    unproven: bool,
    search: Option<Search>,
}

impl Sizing {
    /// Starts with parts of at most `limit` passings (at least 1). The size may grow to `most`
    /// while answers take long and more passings wait.
    pub(super) fn new(limit: usize, most: usize) -> Self {
        let limit = limit.max(1);
        Self {
            limit,
            most: most.max(limit),
            current: limit,
            successes: 0,
            needed: GROW_AFTER,
            unproven: false,
            search: None,
        }
    }

    /// Returns the size of the next POST when `open` passings are open.
    pub(super) fn part(&self, open: usize) -> usize {
        let part = self.search.map_or(self.current, |search| search.suspects.div_ceil(2).min(self.current));
        part.min(open)
    }

    /// A POST of `part` passings was accepted.
    pub(super) fn accepted(&mut self, part: usize) {
        self.successes += 1;
        if self.unproven && part * 2 > self.current {
            (self.unproven, self.needed) = (false, GROW_AFTER);
        }
        if let Some(search) = &mut self.search {
            search.suspects = search.suspects.saturating_sub(part);
            if search.suspects == 0 {
                let refused = search.refused;
                self.too_large(refused);
            }
        } else if self.successes >= self.needed && self.current < self.limit {
            self.successes = 0;
            self.unproven = true;
            self.current = (self.current * 2).min(self.limit);
        }
    }

    /// A POST of `part` passings, more than one, was refused because of its content.
    pub(super) fn refused(&mut self, part: usize) {
        let refused = self.search.map_or(part, |search| search.refused);
        self.search = Some(Search { suspects: part, refused });
    }

    /// A POST of `part` passings was answered after `took`. `more`: more passings of the batch
    /// wait.
    pub(super) fn took(&mut self, part: usize, took: Duration, more: bool) {
        if took >= SLOW && more && part == self.current && self.search.is_none() && self.current >= self.limit {
            self.current = (self.current * 2).min(self.most);
        } else if took < QUICK && self.current > self.limit {
            self.current = self.limit;
        }
    }

    /// Ends the search: the bad passing was found, or others were settled, so the searched passings
    /// are not the first open ones any more.
    pub(super) fn found(&mut self) {
        self.search = None;
    }

    /// A POST of `part` passings was too large.
    pub(super) fn too_large(&mut self, part: usize) {
        self.search = None;
        self.successes = 0;
        if std::mem::take(&mut self.unproven) {
            self.needed = (self.needed * GROW_LATER).min(GROW_LAST);
        }
        self.current = (part / 2).clamp(1, self.current);
    }

    /// A POST was not answered in time. It may have been a small one, so the allowed size is
    /// halved, not the size of that POST.
    pub(super) fn slow(&mut self) {
        self.too_large(self.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of POSTs for `open` passings and the passings set aside. POSTs with a
    /// passing at `bad`, or of more than `most` passings, are refused.
    fn posts(sizing: &mut Sizing, open: usize, bad: &[usize], most: usize) -> (usize, Vec<usize>) {
        let mut left: Vec<usize> = (0..open).collect();
        let (mut posts, mut aside) = (0, Vec::new());
        while !left.is_empty() {
            posts += 1;
            assert!(posts < 10_000, "no end");
            let part = sizing.part(left.len());
            if part > most || left[..part].iter().any(|at| bad.contains(at)) {
                if part == 1 {
                    aside.push(left.remove(0));
                    sizing.found();
                } else {
                    sizing.refused(part);
                }
            } else {
                left.drain(..part);
                sizing.accepted(part);
            }
        }
        (posts, aside)
    }

    #[test]
    fn one_bad_passing_in_a_hundred_is_found_in_a_few_posts_and_the_size_is_kept() {
        let mut sizing = Sizing::new(100, 500);
        let (posts, aside) = posts(&mut sizing, 100, &[63], 500);
        assert_eq!(aside, [63]);
        assert!(posts <= 16, "{posts}");
        assert_eq!(sizing.part(1000), 100);
    }

    #[test]
    fn several_bad_passings_are_all_found_and_nothing_else() {
        let mut sizing = Sizing::new(100, 500);
        assert_eq!(posts(&mut sizing, 500, &[0, 1, 250, 499], 500).1, [0, 1, 250, 499]);
    }

    #[test]
    fn a_cloud_that_calls_too_many_passings_a_bad_request_gets_fewer() {
        let mut sizing = Sizing::new(100, 500);
        assert!(posts(&mut sizing, 400, &[], 30).1.is_empty());
        assert!(sizing.part(1000) <= 100);
    }

    #[test]
    fn a_size_that_does_not_pass_is_tried_more_and_more_seldom_and_still_tried() {
        let mut sizing = Sizing::new(100, 500);
        let (mut failed, mut carried) = (0_u32, 0);
        for _ in 0..2000 {
            let part = sizing.part(1000);
            if part > 30 {
                failed += 1;
                sizing.slow();
            } else {
                carried += part;
                sizing.accepted(part);
            }
        }
        assert!((5..=15).contains(&failed), "{failed}");
        assert!(carried > 2000 * 24, "{carried}");
        for _ in 0..2 * GROW_LAST {
            sizing.accepted(sizing.part(1000));
        }
        assert_eq!(sizing.part(1000), 100, "the link became better");
    }

    #[test]
    fn the_size_halves_down_to_one_and_grows_back() {
        let mut sizing = Sizing::new(100, 500);
        for expected in [50, 25, 12, 6, 3, 1, 1] {
            sizing.slow();
            assert_eq!(sizing.part(1000), expected);
        }
        let mut accepted = 0;
        while sizing.part(1000) < 100 {
            sizing.accepted(sizing.part(1000));
            accepted += 1;
        }
        assert_eq!(accepted, 7 * GROW_AFTER);
    }
}
