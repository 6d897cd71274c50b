//! Whether a RACE RESULT decoder sends its passings by itself, as it was asked to.
//!
//! It was told so with `SETPUSHPASSINGS;1;0`, and nothing says that it stays so: another program may switch it off, and a
//! decoder that was restarted behind a serial converter has forgotten it. Then every passing would still come, but only
//! after the next count, for ever.
//!
//! What must hold:
//! * A count above the highest number that came by push is a doubt. It may be a passing that is on its way, so it must last
//!   for [`GRACE`]. Then the push is switched on again: the same command as at the beginning, which starts, stops, sets
//!   and clears nothing.
//! * What lies at or below the first count after switching on was there before, and need not come by push.
//! * If that does not help, it is said ([`OFF`]) until a passing is pushed again; meanwhile the count is asked for every
//!   [`COUNT_OFF`], so that a passing is late by seconds only.
//! * Bounded: the push is switched on [`TRIES`] times in a row, then once every [`TRY_AGAIN`].

use std::time::Duration;

use super::rewind::condition;
use crate::decoders::{Condition, Output};

/// How long a passing that is counted may be on its way.
const GRACE: Duration = Duration::from_secs(3);
/// Switched on so often before it is said that this does not help, and after that once every [`TRY_AGAIN`].
const TRIES: u32 = 2;
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait for the decoder to confirm that it is on.
const CONFIRM: Duration = Duration::from_secs(5);
/// The count is asked for so often while it is not known that the push works.
const COUNT_OFF: Duration = Duration::from_secs(3);
/// Passings do not come by themselves.
const OFF: Condition = Condition::PassingsNotPushed;

#[derive(Debug, Default)]
pub(super) struct Push {
    /// File and count that were told when the push was (again) switched on: what is above has to be pushed.
    base: Option<(Option<u64>, u64)>,
    /// The last count told.
    counted: u64,
    /// The highest number that was pushed since, or that was there before.
    high: u64,
    /// Since when it counts passings that were not pushed.
    missed: Option<Duration>,
    /// It was switched on again, and not confirmed yet.
    confirming: Option<Duration>,
    /// Switched on again so often, and not a passing was pushed since.
    tries: u32,
    tried: Duration,
    said: bool,
}

impl Push {
    /// The decoder said that its push is on: counts that follow are told after that.
    pub(super) fn is_on(&mut self) {
        (self.base, self.confirming) = (None, None);
    }

    /// It was told how far the decoder counts.
    pub(super) fn counted(&mut self, count: u64, file: Option<u64>, up: Duration) {
        if self.confirming.is_some() {
            return;
        }
        self.counted = count;
        match self.base {
            Some((of, base)) if of == file && base <= count => {}
            _ => (self.base, self.high) = (Some((file, count)), count),
        }
        self.missed = if count > self.high { self.missed.or(Some(up)) } else { None };
    }

    /// A passing was pushed.
    pub(super) fn came(&mut self, number: u64, out: &mut Output) {
        self.high = self.high.max(number);
        if self.high >= self.counted {
            self.missed = None;
        }
        self.tries = 0;
        if std::mem::take(&mut self.said) {
            condition(OFF, None, out);
        }
    }

    /// Time passes. True: it is to be switched on again, now. `fetched`: what is counted is asked for.
    pub(super) fn tick(&mut self, up: Duration, fetched: bool, out: &mut Output) -> bool {
        if self.confirming.is_some_and(|since| up.saturating_sub(since) >= CONFIRM) {
            self.is_on(); // perhaps it is; the next counts will show
        }
        if self.missed.is_none_or(|since| up.saturating_sub(since) < GRACE) {
            return false;
        }
        if (self.tries >= TRIES || !fetched) && !std::mem::replace(&mut self.said, true) {
            let now = match fetched {
                true => "They are asked for every 3 s meanwhile, so each comes a little late and none is missing",
                false => "With rewind = false they are not asked for: take them with `passbridge rewind`",
            };
            let text = format!(
                "the decoder counts {} passings and does not send them by itself, though it was asked to: another program may \
                 have switched that off. {now}. See that nothing else is connected to it, and restart the decoder's network \
                 connection if it stays so",
                self.counted
            );
            condition(OFF, Some(text), out);
        }
        if self.tries >= TRIES && up.saturating_sub(self.tried) < TRY_AGAIN {
            return false;
        }
        (self.missed, self.confirming) = (None, Some(up));
        (self.tries, self.tried) = (self.tries.saturating_add(1), up);
        true
    }

    /// How often the count is to be asked for, if that is more often than usual.
    pub(super) fn count_every(&self) -> Option<Duration> {
        (self.tries > 0 || self.missed.is_some()).then_some(COUNT_OFF)
    }
}
