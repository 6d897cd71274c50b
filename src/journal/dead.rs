//! Dead time: which reads of a chip are one crossing. Part of the fold.
//!
//! A read is no passing of its own if, by the *decoder's* clock, it is nearer than the dead time to the last passing of its
//! chip at its decoder (or source). What must hold:
//!
//! * **Two crossings never become one; two reads of one crossing may become two passings where it cannot be told.**
//! * **The receipts contradict.** A decoder's clock may be set back, and one that has none begins anew when it is switched on. So
//!   what was *received* live at least the dead time apart is never one crossing, whatever the stamps say. What had been
//!   stored was read at some time before it was received: it contradicts a passing only from the other side.
//! * **Either side counts.** A stored read from just before a passing that has been judged is the same crossing: that was
//!   reported, if late. To send both would be two passings within the dead time, and no clock would say which is right. That
//!   it happens seldom is for the waiting ([`super::state`]): live reads that come amid stored ones are judged behind them.
//! * **Resolved times.** What is compared are instants ([`crate::model::clock`]), so a time of day is never compared with that of
//!   another day, and an hour that autumn repeats is two.
//!
//! It compares with two passings of each chip, the last live one and the last stored one: while a long memory is read they
//! alternate.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::chip::{ChipRead, Stamp};
use crate::model::clock::{self, Step, Zones};

/// Chips whose last passings are remembered per decoder.
const CHIPS_MAX: usize = 16_384;
/// Reads of one life of a decoder without a clock may come out of order by so much.
const DISORDER_MS: u64 = 1000;
/// What comes later than this after its time on is late, or of another life.
const LATE_MS: i64 = 3000;

/// When a read was, by every clock there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAt {
    /// By the decoder's clock: UTC in ms, or ms since it was switched on.
    #[serde(rename = "a")]
    pub at_ms: i64,
    /// By the box's clock, as corrected by later steps.
    #[serde(rename = "r")]
    received_ms: i64,
    /// Its entry.
    #[serde(rename = "n")]
    pub seq: u64,
    /// It was read some time before it was received.
    #[serde(default, rename = "s", skip_serializing_if = "std::ops::Not::not")]
    stored: bool,
    /// Its day is that of the receipt.
    #[serde(default, rename = "d", skip_serializing_if = "std::ops::Not::not")]
    undated: bool,
    /// Its stamp is one since the decoder was switched on.
    #[serde(default, rename = "u", skip_serializing_if = "std::ops::Not::not")]
    uptime: bool,
}

impl SeenAt {
    /// Of a read in a source.
    pub fn of(seq: u64, source: &str, read: &ChipRead, received: Timestamp, zones: &Zones) -> Self {
        let (at_ms, uptime) = match read.stamp {
            Stamp::Uptime(ms) => (i64::try_from(ms).unwrap_or(i64::MAX), true),
            stamp => (clock::resolve(&stamp, zones.of(source), received, read.replay).utc.as_millisecond(), false),
        };
        let stored = read.replay || read.amid_stored;
        let undated = !uptime && clock::is_undated(&read.stamp);
        Self { at_ms, received_ms: received.as_millisecond(), seq, stored, undated, uptime }
    }

    /// As far as can be told, both are of one crossing.
    fn is_near(&self, other: &Self, dead_time_ms: i64) -> bool {
        let later = |one: &Self, two: &Self| one.received_ms.saturating_sub(two.received_ms);
        let received_apart = match (self.stored, other.stored) {
            (false, false) => later(self, other).saturating_abs(),
            (false, true) => later(self, other),
            (true, false) => later(other, self),
            (true, true) => 0,
        };
        let apart = self.at_ms.saturating_sub(other.at_ms).saturating_abs();
        self.uptime == other.uptime && apart < dead_time_ms && received_apart < dead_time_ms
    }

    /// The clock stepped, as the entry `at` tells.
    fn step(&mut self, at: u64, step: Step, zone: &TimeZone) {
        let Ok(received) = Timestamp::from_millisecond(self.received_ms) else { return };
        let received = clock::corrected(&[(at, step)], self.seq, received);
        self.received_ms = received.as_millisecond();
        if self.undated
            && let Ok(before) = Timestamp::from_millisecond(self.at_ms)
        {
            let stamp = Stamp::TimeOfDay { time: zone.to_datetime(before).time(), day: None };
            self.at_ms = clock::resolve(&stamp, zone, received, self.stored).utc.as_millisecond();
        }
    }

    /// Its day hangs on a clock that was not set.
    fn has_no_day(&self) -> bool {
        self.undated && !Timestamp::from_millisecond(self.received_ms).is_ok_and(clock::box_clock_set)
    }
}

/// The last passings of a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Passed {
    #[serde(default, rename = "l", skip_serializing_if = "Option::is_none")]
    live: Option<SeenAt>,
    #[serde(default, rename = "s", skip_serializing_if = "Option::is_none")]
    stored: Option<SeenAt>,
}

impl Passed {
    fn both(&self) -> impl Iterator<Item = &SeenAt> {
        self.live.iter().chain(&self.stored)
    }

    fn last(&self) -> u64 {
        self.both().map(|seen| seen.seq).max().unwrap_or(0)
    }
}

/// What is remembered of a decoder for the dead time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeadTime {
    chips: HashMap<Box<str>, Passed>,
}

impl DeadTime {
    /// Whether a read of `chip` is too near to a passing to be one; if not, it is the last one. `life`: see [`LifeOfUptime`].
    pub fn is_dead(&mut self, chip: &str, seen: SeenAt, life: &LifeOfUptime, dead_time_ms: i64) -> bool {
        let before = self.chips.get(chip).copied().unwrap_or_default();
        let same = |last: &&SeenAt| !last.uptime || last.seq >= life.fell;
        if before.both().filter(same).any(|last| seen.is_near(last, dead_time_ms)) {
            return true;
        }
        let now = match seen.stored {
            true => Passed { stored: Some(seen), ..before },
            false => Passed { live: Some(seen), ..before },
        };
        self.chips.insert(chip.into(), now);
        if self.chips.len() > CHIPS_MAX {
            // The half that passed longest ago can no longer be inside any sensible dead time.
            let mut seqs: Vec<u64> = self.chips.values().map(Passed::last).collect();
            let (_, &mut middle, _) = seqs.select_nth_unstable(CHIPS_MAX / 2);
            self.chips.retain(|_, passed| passed.last() >= middle);
        }
        false
    }

    /// The clock stepped, as the entry `at` tells: what was received before it is compared with what comes.
    pub fn step(&mut self, at: u64, step: Step, zone: &TimeZone) {
        let all = self.chips.values_mut().flat_map(|passed| passed.live.iter_mut().chain(&mut passed.stored));
        all.for_each(|seen| seen.step(at, step, zone));
    }

    /// The box began anew and does not know its day: a time of day from before is of any.
    pub fn forget_days(&mut self) {
        for passed in self.chips.values_mut() {
            passed.live = passed.live.filter(|seen| !seen.has_no_day());
            passed.stored = passed.stored.filter(|seen| !seen.has_no_day());
        }
    }
}

/// The life of a decoder that has no clock: stamps of two lives are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeOfUptime {
    /// First entry of it; 0: none.
    since: u64,
    /// The first since the time on fell for certain.
    fell: u64,
    /// Longest time on.
    top_ms: u64,
    /// When it was switched on, as far as the receipts tell.
    boot_ms: i64,
}

impl LifeOfUptime {
    /// It never gave a time since it was switched on.
    pub fn is_none(&self) -> bool {
        self.since == 0
    }

    /// A read was `ms` after it was switched on: the life it is of. It is another one when the time on falls (clearly, or a
    /// little and the receipts say so too). For repeats the receipts alone are enough: what only comes late is then of no
    /// life that is known, which costs nothing, for no reader without a clock says anything twice.
    pub fn hears(&mut self, seq: u64, ms: u64, received: Timestamp) -> u64 {
        let boot_ms = received.as_millisecond().saturating_sub_unsigned(ms);
        let moved = boot_ms.abs_diff(self.boot_ms) > LATE_MS.unsigned_abs();
        let fell = ms.saturating_add(DISORDER_MS) < self.top_ms || (ms <= self.top_ms && moved);
        if fell || self.is_none() {
            *self = Self { since: seq, fell: seq, top_ms: ms, boot_ms };
        } else if moved {
            (self.since, self.boot_ms) = (seq, boot_ms);
        }
        self.top_ms = self.top_ms.max(ms);
        self.since
    }

    /// The clock stepped.
    pub fn step(&mut self, step: Step) {
        if self.since >= step.from {
            self.boot_ms = self.boot_ms.saturating_add(step.step_ms);
        }
    }
}
