//! Checks whether a RACE RESULT decoder sends its passings by itself, as the protocol asked it to.
//!
//! The protocol asks with `SETPUSHPASSINGS;1;0`, and nothing ensures that the push stays on.
//! Another program may switch it off, and a decoder that was restarted behind a serial converter
//! has forgotten it. Every passing would then still arrive, but from then on only after the next
//! count.
//!
//! What must hold:
//! * A count above the highest pushed number is a doubt. The passing may still be on its way, so
//!   the doubt must last for [`GRACE`]. Then the protocol switches the push on again, with the same
//!   command as at the beginning, which starts, stops, sets and clears nothing.
//! * Passings up to the first count after switching on existed before, and need not be pushed.
//! * If switching on does not help, the protocol reports this ([`OFF`]) until a passing is pushed
//!   again. Meanwhile it asks for the count every [`COUNT_OFF`], so that a passing is late by
//!   seconds only.
//! * Bounded: the protocol switches the push on [`TRIES`] times in a row, then once in every
//!   [`TRY_AGAIN`].

use std::time::Duration;

use super::rewind::condition;
use crate::decoders::{Condition, Output};

/// How long a counted passing may be on its way.
const GRACE: Duration = Duration::from_secs(3);
/// The protocol switches the push on this many times before it reports that this does not help.
/// After that it tries once in every [`TRY_AGAIN`].
const TRIES: u32 = 2;
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// The longest wait for the decoder to confirm that the push is on.
const CONFIRM: Duration = Duration::from_secs(5);
/// How often the protocol asks for the count while it does not know that the push works.
const COUNT_OFF: Duration = Duration::from_secs(3);
/// The decoder does not send its passings by itself.
const OFF: Condition = Condition::PassingsNotPushed;

#[derive(Debug, Default)]
pub(super) struct Push {
    /// The file and the count that the decoder reported when the push was switched on (again).
    /// Passings above this count must be pushed.
    base: Option<(Option<u64>, u64)>,
    /// The last count that the decoder reported.
    counted: u64,
    /// The highest number that was pushed since then, or that existed before.
    high: u64,
    /// Since when the decoder counts passings that it did not push.
    missed: Option<Duration>,
    /// When the push was switched on again, until the decoder confirms it.
    confirming: Option<Duration>,
    /// How many times the push was switched on again without a pushed passing since.
    tries: u32,
    tried: Duration,
    said: bool,
}

impl Push {
    /// The decoder confirmed that its push is on. The counts that follow are from after that.
    pub(super) fn is_on(&mut self) {
        (self.base, self.confirming) = (None, None);
    }

    /// The decoder reported its count.
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

    /// Checks how long passings have not been pushed. True: the push must be switched on again now.
    /// `fetched`: the protocol asks for the passings that are counted.
    pub(super) fn tick(&mut self, up: Duration, fetched: bool, out: &mut Output) -> bool {
        if self.confirming.is_some_and(|since| up.saturating_sub(since) >= CONFIRM) {
            self.is_on(); // the push may be on, and the next counts will show it
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

    /// How often the protocol must ask for the count, if that is more often than usual.
    pub(super) fn count_every(&self) -> Option<Duration> {
        (self.tries > 0 || self.missed.is_some()).then_some(COUNT_OFF)
    }
}
