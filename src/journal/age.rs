//! How long ago a log segment was closed, as far as the box can know. A Pi has no clock that runs
//! without power: a segment may be written "in 1970" before the time is known, or a wrong time may
//! be set first and corrected later. Neither may cost a backup.
//!
//! The rule: a segment's age counts from the first check that found it closed. From check to check,
//! the time by the box's clock is added.
//! * A clock that was not set ([`crate::model::clock::box_clock_set`]) adds nothing, and a clock
//!   that stepped back adds nothing either.
//! * From one check to the next (seconds while the box runs, the whole night when it was off) at
//!   most a *quarter* of `keep.days` is added. So a clock that is wrong by years shortens the
//!   retention by a quarter, once, and a box that is off between two weekends still counts those
//!   days (with `keep.days = 30`, gaps of up to 7.5 days count in full).
//!
//! The counted time is stored in a small file beside the log, written a few times per retention.
//! That file is no part of the truth: without it every segment counts from now, and is kept longer.
//!
//! Rejected: *the file's mtime* (after a copy, or when the box learns the time, everything is old
//! at once); *the times in the entries* (they come from the same clock and are equally wrong);
//! *only the time while the box runs* (a box that runs only at weekends would keep its reads for a
//! year).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk;
use crate::model::clock;

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The time that was counted so far.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ages {
    /// The journal to which it belongs. The numbers of another journal mean other segments.
    identity: String,
    /// Milliseconds counted up to `last`.
    counted_ms: i64,
    /// The box's clock, in milliseconds since 1970, at the last counted check. `None`: the clock
    /// was never seen set.
    last: Option<i64>,
    /// Closed segments: the counted time at which each was first seen closed.
    closed: BTreeMap<u64, i64>,
}

impl Ages {
    /// Loads the file at `path`, if it belongs to this journal. Otherwise nothing is counted yet.
    pub(super) fn load(path: &Path, identity: &str) -> Self {
        let known = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let fresh = Self { identity: identity.to_owned(), ..Self::default() };
        known.filter(|ages| ages.identity == identity).unwrap_or(fresh)
    }

    /// Writes the file, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        disk::write_new(path, &serde_json::to_vec(self)?)
    }

    /// A check at `now`: adds the time since the check before, for the segments that are closed.
    /// `true`: the result should be saved.
    pub(super) fn look(&mut self, now: Timestamp, days: u32, closed: impl Iterator<Item = u64>) -> bool {
        let most = i64::from(days) * DAY_MS / 4;
        let mut save = false;
        if clock::box_clock_set(now) {
            let now = now.as_millisecond();
            let gone = self.last.map_or(0, |last| now - last);
            self.counted_ms += gone.clamp(0, most);
            // Not at every check: time that is not saved is counted again from the last saved
            // check.
            save = self.last.is_none() || gone < 0 || gone >= (most / 4).max(HOUR_MS);
            self.last = Some(now);
        }
        let closed: BTreeSet<u64> = closed.collect();
        let before = self.closed.len();
        self.closed.retain(|first, _| closed.contains(first));
        save |= self.closed.len() != before;
        for first in closed {
            save |= self.closed.insert(first, *self.closed.get(&first).unwrap_or(&self.counted_ms)).is_none();
        }
        save
    }

    /// Whether the segment was closed for `days`, as counted at the last check.
    pub(super) fn past(&self, first: u64, days: u32) -> bool {
        self.closed.get(&first).is_some_and(|since| self.counted_ms - since >= i64::from(days) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: u32 = 8; // so a gap counts two days at most

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Checks segment 1, which is closed, at these times. Returns whether it is past its retention
    /// afterwards.
    fn past_after(looks: &[&str]) -> bool {
        let mut ages = Ages::default();
        for now in looks {
            ages.look(at(now), KEEP, std::iter::once(1));
        }
        ages.past(1, KEEP)
    }

    #[test]
    fn a_segment_is_past_when_the_box_has_seen_it_closed_for_so_long() {
        let days: Vec<String> = (1..=9).map(|day| format!("2026-07-{day:02}T10:00:00Z")).collect();
        let days: Vec<&str> = days.iter().map(String::as_str).collect();
        assert!(!past_after(&days[..8]));
        assert!(past_after(&days));
    }

    #[test]
    fn a_box_that_is_off_between_two_looks_counts_that_too() {
        let every_other = ["2026-07-01", "2026-07-03", "2026-07-05", "2026-07-07", "2026-07-09"];
        let looks = every_other.map(|day| format!("{day}T10:00:00Z"));
        let looks: Vec<&str> = looks.iter().map(String::as_str).collect();
        assert!(!past_after(&looks[..4]));
        assert!(past_after(&looks));
    }

    #[test]
    fn a_box_that_learns_the_time_loses_nothing() {
        assert!(!past_after(&["1970-01-01T00:00:10Z", "1970-01-01T05:00:00Z", "2026-07-01T10:00:00Z"]));
        // A clock that starts in 1970 every morning does not make it old either.
        let morning = ["1970-01-01T00:00:10Z", "2026-07-01T06:00:00Z"];
        assert!(!past_after(&morning.repeat(50)));
    }

    #[test]
    fn a_clock_that_is_wrong_by_years_for_a_while_costs_a_quarter() {
        let wrong = ["2026-07-01T10:00:00Z", "2036-07-01T10:00:00Z", "2036-07-01T10:00:10Z", "2026-07-01T10:01:00Z"];
        assert!(!past_after(&wrong));
        let mut looks = wrong.to_vec();
        looks.extend(["2026-07-03T10:01:00Z", "2026-07-05T10:00:59Z"]);
        assert!(!past_after(&looks));
        looks.extend(["2026-07-07T10:01:00Z"]);
        assert!(past_after(&looks), "and counting goes on by the right one");
    }

    #[test]
    fn what_was_counted_outlives_the_process_and_is_of_one_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ages");
        let mut ages = Ages::load(&path, "one");
        assert!(ages.look(at("2026-07-01T10:00:00Z"), KEEP, [1, 2].into_iter()));
        assert!(!ages.look(at("2026-07-01T10:00:10Z"), KEEP, [1, 2].into_iter()), "nothing happened");
        ages.save(&path).unwrap();
        let mut again = Ages::load(&path, "one");
        assert_eq!(again, ages);
        assert!(again.look(at("2026-07-01T10:00:20Z"), KEEP, std::iter::once(2)), "a segment went");
        assert_eq!(Ages::load(&path, "another"), Ages { identity: "another".into(), ..Ages::default() });
    }

    #[test]
    fn without_a_retention_in_days_a_closed_segment_is_past_at_once() {
        let mut ages = Ages::default();
        ages.look(at("1970-01-01T00:00:10Z"), 0, std::iter::once(1));
        assert!(ages.past(1, 0));
        assert!(!ages.past(2, 0), "it is in use");
    }
}
