//! Dead time: which reads of a chip belong to one crossing. Part of the fold.
//!
//! A read is no passing of its own if, by the *decoder's* clock, it is nearer than the dead time to
//! the last passing of its chip at its decoder (or source). What must hold:
//!
//! * **Two crossings never become one passing. Two reads of one crossing may become two passings if
//!   the box cannot know that they belong together.**
//! * **Receive times can contradict.** A decoder's clock may be set back, and the count of a
//!   decoder without a clock starts again when it is switched on. So two live reads that were
//!   *received* at least the dead time apart are never one crossing, whatever their stamps say. A
//!   stored read was made at some time before it was received, so its receive time contradicts a
//!   passing only in one direction.
//! * **Both directions count.** A stored read from just before a passing that was already decided
//!   belongs to the same crossing: that crossing was reported, if late. If both were sent, two
//!   passings would lie within the dead time, and no clock would say which one is right. This is
//!   rare because of the waiting (see [`super::state`]): live reads that arrive amid stored reads
//!   are checked after them.
//! * **Resolved times.** The comparison uses instants (see [`crate::model::clock`]). So a time of
//!   day is never compared with that of another day, and an hour that autumn repeats is two hours.
//!
//! A read is compared with two passings of its chip, the last live one and the last stored one,
//! because the two kinds alternate while a long memory is read.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::chip::{ChipRead, Stamp};
use crate::model::clock::{self, Step, Zones};

/// Chips per decoder whose last passings are remembered.
const CHIPS_MAX: usize = 16_384;
/// Reads of one life of a decoder without a clock may arrive out of order by this much.
const DISORDER_MS: u64 = 1000;
/// If a read arrives later than this after its stamp says, it is late or belongs to another life.
const LATE_MS: i64 = 3000;

/// When a read was made, by every clock that says something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenAt {
    /// By the decoder's clock: UTC in ms, or ms since the decoder was switched on.
    #[serde(rename = "a")]
    pub at_ms: i64,
    /// By the box's clock, corrected by later steps.
    #[serde(rename = "r")]
    received_ms: i64,
    /// Sequence number of the read's entry.
    #[serde(rename = "n")]
    pub seq: u64,
    /// The read was made some time before it was received.
    #[serde(default, rename = "s", skip_serializing_if = "std::ops::Not::not")]
    stored: bool,
    /// The day comes from the receive time.
    #[serde(default, rename = "d", skip_serializing_if = "std::ops::Not::not")]
    undated: bool,
    /// The stamp counts from the moment at which the decoder was switched on.
    #[serde(default, rename = "u", skip_serializing_if = "std::ops::Not::not")]
    uptime: bool,
}

impl SeenAt {
    /// The times of a read in a source.
    pub(super) fn of(seq: u64, source: &str, read: &ChipRead, received: Timestamp, zones: &Zones) -> Self {
        let (at_ms, uptime) = match read.stamp {
            Stamp::Uptime(ms) => (i64::try_from(ms).unwrap_or(i64::MAX), true),
            stamp => (
                clock::resolve(&stamp, zones.of(source), read.moment(received), read.replay).utc.as_millisecond(),
                false,
            ),
        };
        let stored = read.replay || read.amid_stored;
        let undated = !uptime && clock::is_undated(&read.stamp);
        Self { at_ms, received_ms: received.as_millisecond(), seq, stored, undated, uptime }
    }

    /// Whether both reads belong to one crossing, as far as the box can know.
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

    /// Corrects the times by a step of the box's clock, recorded in the entry `at`.
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

    /// Whether the day depends on a clock that was not set.
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
pub(super) struct DeadTime {
    chips: HashMap<Box<str>, Passed>,
}

impl DeadTime {
    /// Whether a read of `chip` is too near to a remembered passing to be one itself.
    pub(super) fn is_near(&self, chip: &str, seen: SeenAt, life: &LifeOfUptime, dead_time_ms: i64) -> bool {
        let same = |last: &&SeenAt| !last.uptime || last.seq >= life.fell;
        let passed = self.chips.get(chip);
        passed.is_some_and(|passed| passed.both().filter(same).any(|last| seen.is_near(last, dead_time_ms)))
    }

    /// Whether a read of `chip` is too near to a passing to be one itself. If not, the read becomes
    /// the last passing. `life`: see [`LifeOfUptime`].
    pub(super) fn is_dead(&mut self, chip: &str, seen: SeenAt, life: &LifeOfUptime, dead_time_ms: i64) -> bool {
        if self.is_near(chip, seen, life, dead_time_ms) {
            return true;
        }
        let before = self.chips.get(chip).copied().unwrap_or_default();
        let now = match seen.stored {
            true => Passed { stored: Some(seen), ..before },
            false => Passed { live: Some(seen), ..before },
        };
        self.chips.insert(chip.into(), now);
        if self.chips.len() > CHIPS_MAX {
            // The half of the chips that passed longest ago can no longer be within any sensible
            // dead time.
            let mut seqs: Vec<u64> = self.chips.values().map(Passed::last).collect();
            let (_, &mut middle, _) = seqs.select_nth_unstable(CHIPS_MAX / 2);
            self.chips.retain(|_, passed| passed.last() >= middle);
        }
        false
    }

    /// The reads between the entries `from` and `to` are no passings after all, so none of them hides
    /// a later one.
    pub(super) fn forget(&mut self, from: u64, to: u64) {
        let stays = |seen: &SeenAt| !(from..to).contains(&seen.seq);
        self.chips.retain(|_, Passed { live, stored }| {
            (*live, *stored) = (live.filter(stays), stored.filter(stays));
            live.is_some() || stored.is_some()
        });
    }

    /// Corrects the remembered passings by a step of the box's clock, recorded in the entry `at`,
    /// so that they can be compared with later reads.
    pub(super) fn step(&mut self, at: u64, step: Step, zone: &TimeZone) {
        let all = self.chips.values_mut().flat_map(|passed| passed.live.iter_mut().chain(&mut passed.stored));
        all.for_each(|seen| seen.step(at, step, zone));
    }

    /// The box's clock started again and does not know its day, so a time of day from before may
    /// belong to any day.
    pub(super) fn forget_days(&mut self) {
        for passed in self.chips.values_mut() {
            passed.live = passed.live.filter(|seen| !seen.has_no_day());
            passed.stored = passed.stored.filter(|seen| !seen.has_no_day());
        }
    }
}

/// The life of a decoder that has no clock. Stamps of two lives are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LifeOfUptime {
    /// First entry of this life. 0: none.
    since: u64,
    /// The first entry since the uptime certainly fell.
    fell: u64,
    /// Longest uptime seen in this life, in ms.
    top_ms: u64,
    /// When the decoder was switched on, computed from the receive times.
    boot_ms: i64,
}

impl LifeOfUptime {
    /// Whether the decoder never sent a time since it was switched on.
    pub(super) fn is_none(&self) -> bool {
        self.since == 0
    }

    /// Records a read that was made `ms` after the decoder was switched on, and returns the life to
    /// which the read belongs. Another life begins when the uptime falls clearly, or when it falls
    /// a little and the receive times say so too. For duplicates the receive times alone are
    /// enough: a read that is merely late then starts a life of its own. That costs nothing,
    /// because no decoder without a clock sends a read twice.
    pub(super) fn hears(&mut self, seq: u64, ms: u64, received: Timestamp) -> u64 {
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

    /// Corrects the life by a step of the box's clock.
    pub(super) fn step(&mut self, step: Step) {
        if self.since >= step.from {
            self.boot_ms = self.boot_ms.saturating_add(step.step_ms);
        }
    }
}
