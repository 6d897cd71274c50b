//! Decides which read a read is when its stamp has no date. Part of the fold.
//!
//! A stamp with a date says by itself which read it is: [`ChipRead::identity`]. A stamp without a
//! date returns every day, and a stamp that counts from the switching on of the decoder returns in
//! each of the decoder's lives. So the day is part of the identity, and it is the day that follows
//! from the receive time ([`crate::model::clock`]). The same chip at the same time of another day
//! is another read, and a read that is sent again within the day is the same read.
//!
//! What must hold:
//! * **The identity follows from the log** (stamp and receive time are in each entry) and from the
//!   configured zone. If somebody corrects the zone of a decoder, a read that the decoder sends
//!   again may get another day. Then it is uploaded twice, and people can see that.
//! * **A receive time of a clock that was not set has no day.** Such reads are compared only with
//!   each other, as long as that clock runs on ([`Undated::hears`]). If that clock starts again,
//!   the box has been switched off, and the two runs are not compared. When the clock is set, the
//!   reads of this process get the day that they really had, because the step says by how much the
//!   clock was wrong.
//! * **A step of a clock that was set** moves the day of earlier reads in the same way, also back.
//!   The day that they seemed to have no longer counts ([`Undated::void`]). Otherwise a real read
//!   of that day would be hidden when it arrives.
//! * **A position and the word "stored" are enough**: a read that a decoder sends again from its
//!   memory, under the same number, with the same chip and time of day, is the same read on any
//!   day. A read that the decoder calls live is not.
//! * **Bounded.** [`NEWEST`] reads are remembered for steps of the clock. A duplicate of an older
//!   read is not recognised after a step, so it is uploaded twice.

use std::collections::{HashSet, VecDeque};

use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::chip::{ChipRead, ReadIdentities, Stamp, go_on};
use crate::model::clock::{self, Step, Zones};

/// Reads without a date that a step of the clock may still move to another day: 60 KB of a
/// checkpoint.
const NEWEST: usize = 1024;
/// If a clock that is not set goes back by more than this, it started again: the box was switched
/// off.
const BACK_MS: i64 = 2000;

/// What distinguishes one read from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Its content, for ever.
    Ever(ReadIdentities),
    /// Its content and this day.
    Day(ReadIdentities, DateTime),
    /// Not known yet, because the box did not know the day.
    NoDay,
    /// Its content and the life of the decoder.
    Life,
}

/// Which read this is. `received` is its receive time by the box's clock.
pub(super) fn which(read: &ChipRead, source: &str, received: Timestamp, zones: &Zones) -> Which {
    match read.stamp {
        Stamp::Uptime(_) => Which::Life,
        stamp if !clock::is_undated(&stamp) => Which::Ever(read.identities()),
        _ if !clock::box_clock_set(received) => Which::NoDay,
        stamp => match clock::dated_by(&stamp, zones.of(source), received) {
            Some(at) => Which::Day(read.identities().map(|identity| on_day(identity, at)), at),
            None => Which::NoDay,
        },
    }
}

/// The identity under which version 0.1.0 kept a read that it took for dated, although its date is
/// that of a clock that was never set.
pub(super) fn as_dated(read: &ChipRead) -> Option<u64> {
    clock::was_dated(&read.stamp).then(|| read.identity())
}

/// Whether a read can be recognised on any day when the decoder sends it again from its memory.
pub(super) fn is_placed(read: &ChipRead) -> bool {
    read.position.is_some() && clock::is_undated(&read.stamp) && !matches!(read.stamp, Stamp::Uptime(_))
}

/// The identity of a read on a day. It is stored on the disk, so it must stay the same for ever.
fn on_day(identity: u64, at: DateTime) -> u64 {
    let day = i64::from(at.year()) * 400 + i64::from(at.day_of_year());
    go_on(identity, b"on", &day.to_le_bytes())
}

/// The identity of a read in a life of its decoder.
pub(super) fn in_life(identity: u64, life: u64) -> u64 {
    go_on(identity, b"in", &life.to_le_bytes())
}

/// A read without a date, with all that a step of the clock may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newest {
    #[serde(rename = "n")]
    seq: u64,
    #[serde(rename = "l")]
    source: Box<str>,
    /// When it was received, as far as is known now.
    #[serde(rename = "r")]
    received_ms: i64,
    /// Its time of day, in ms.
    #[serde(rename = "t")]
    time_ms: i64,
    /// Without its microseconds.
    #[serde(rename = "i")]
    identity: u64,
    #[serde(default, rename = "u", skip_serializing_if = "Option::is_none")]
    micros: Option<u16>,
}

impl Newest {
    /// As [`Which::Day`] has them.
    fn on_day(&self, at: DateTime) -> ReadIdentities {
        ReadIdentities::of(self.identity, self.micros).map(|identity| on_day(identity, at))
    }

    /// Microseconds count only where both have them.
    fn is(&self, other: &Self) -> bool {
        let apart = self.micros.zip(other.micros).is_some_and(|(one, two)| one != two);
        self.identity == other.identity && self.source == other.source && !apart
    }

    fn day(&self, zones: &Zones) -> Option<DateTime> {
        let time = Time::midnight().checked_add(SignedDuration::from_millis(self.time_ms)).ok()?;
        let received = Timestamp::from_millisecond(self.received_ms).ok()?;
        clock::dated_by(&Stamp::TimeOfDay { time, day: None }, zones.of(&self.source), received)
    }

    fn is_set(&self) -> bool {
        Timestamp::from_millisecond(self.received_ms).is_ok_and(clock::box_clock_set)
    }
}

/// What is remembered of reads without a date.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Undated {
    /// The newest reads, oldest first. At most [`NEWEST`].
    newest: VecDeque<Newest>,
    /// Identities on days that turned out to be wrong. A step adds at most [`NEWEST`]. If there are
    /// more than [`NEWEST`] before a step, the set is emptied first.
    void: HashSet<u64>,
    /// The latest time that the box's clock was seen to show.
    clock_ms: i64,
}

impl Undated {
    /// Whether no read is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty() && self.void.is_empty()
    }

    /// Records the time of the box's clock in an entry. Returns `true` if the clock is not set and
    /// started again. Then no receive time of a clock that was not set can be compared with later
    /// ones.
    pub(super) fn hears(&mut self, time: Timestamp) -> bool {
        let ms = time.as_millisecond();
        let anew = !clock::box_clock_set(time) && ms < self.clock_ms - BACK_MS;
        if anew {
            self.newest.retain(Newest::is_set);
        }
        self.clock_ms = if anew { ms } else { self.clock_ms.max(ms) };
        anew
    }

    /// Whether a read that has no day is a duplicate of another read that has none.
    pub(super) fn has(&self, source: &str, read: &ChipRead, received: Timestamp, zones: &Zones) -> bool {
        let Some(asked) = newest(0, source, read, received) else { return false };
        let day = asked.day(zones);
        let same = |known: &&Newest| known.is(&asked) && !known.is_set();
        day.is_some() && self.newest.iter().filter(same).any(|known| known.day(zones) == day)
    }

    /// Whether an identity belongs to a day that turned out to be wrong.
    pub(super) fn is_void(&self, identity: u64) -> bool {
        self.void.contains(&identity)
    }

    /// Whether an identity belongs to a day that turned out to be wrong. From now on it counts as a
    /// valid identity.
    pub(super) fn take_void(&mut self, identity: u64) -> bool {
        !self.void.is_empty() && self.void.remove(&identity)
    }

    /// Remembers a read without a date that is no duplicate.
    pub(super) fn add(&mut self, seq: u64, source: &str, read: &ChipRead, received: Timestamp) {
        let Some(fresh) = newest(seq, source, read, received) else { return };
        if self.newest.len() >= NEWEST {
            self.newest.pop_front();
        }
        self.newest.push_back(fresh);
    }

    /// Applies a step of the box's clock, recorded in the entry `at`. Returns the sources and
    /// identities of reads that now have a day, or another day.
    pub(super) fn step(&mut self, at: u64, step: Step, zones: &Zones) -> Vec<(Box<str>, u64)> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for known in self.newest.iter_mut().filter(|known| known.seq >= step.from) {
            let Ok(received) = Timestamp::from_millisecond(known.received_ms) else { continue };
            let before = known.is_set().then(|| known.day(zones)).flatten();
            known.received_ms = clock::corrected(&[(at, step)], known.seq, received).as_millisecond();
            let now = known.is_set().then(|| known.day(zones)).flatten();
            if before != now {
                let named = |day: Option<DateTime>| {
                    day.into_iter().flat_map(|day| {
                        let (first, second) = known.on_day(day).own;
                        [Some(first), second].into_iter().flatten()
                    })
                };
                wrong.extend(named(before));
                found.extend(named(now).map(|identity| (known.source.clone(), identity)));
            }
        }
        if self.void.len() > NEWEST {
            self.void.clear(); // from steps that are long ago
        }
        self.void.extend(wrong);
        for (_, identity) in &found {
            self.void.remove(identity);
        }
        self.clock_ms = step.after_ms();
        found
    }
}

fn newest(seq: u64, source: &str, read: &ChipRead, received: Timestamp) -> Option<Newest> {
    let time = match read.stamp {
        Stamp::Local(local) => local.time(),
        Stamp::TimeOfDay { time, .. } => time,
        Stamp::Utc(_) | Stamp::Uptime(_) => return None,
    };
    // Fits, because it is less than a day.
    let time_ms = time.duration_since(Time::midnight()).as_millis() as i64;
    let received_ms = received.as_millisecond();
    let (identity, micros) = (read.identity(), read.micros);
    Some(Newest { seq, source: source.into(), received_ms, time_ms, identity, micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn named(stamp: &str, received: &str) -> Which {
        let zones = Zones::from_iter([("mat".into(), jiff::tz::TimeZone::get("Europe/Madrid").unwrap())]);
        which(&ChipRead::new("C1", stamp.parse().unwrap()), "mat/Start", at(received), &zones)
    }

    #[test]
    fn a_time_of_day_is_the_same_read_within_its_day_and_another_on_the_next() {
        let live = named("12:00:00.000", "2026-07-06T10:00:01Z");
        assert_eq!(named("12:00:00.000", "2026-07-07T08:59:59Z"), live, "given again within 23 hours");
        assert_ne!(named("12:00:00.000", "2026-07-07T10:00:01Z"), live);
        let before_midnight = named("23:59:59.000", "2026-07-06T21:59:59.500Z");
        assert_eq!(named("23:59:59.000", "2026-07-06T22:00:01Z"), before_midnight, "received on the next day");
        for undated in ["2000-01-01T12:00:00.000", "0000-00-00T12:00:00.000"] {
            let first = named(undated, "2026-07-06T10:00:01Z");
            assert_ne!(named(undated, "2026-07-07T10:00:01Z"), first, "{undated}");
        }
        let dated = named("2026-07-06T12:00:00.000", "2026-07-06T10:00:01Z");
        assert_eq!(named("2026-07-06T12:00:00.000", "2027-07-06T10:00:01Z"), dated);
        assert_eq!(named("12:00:00.000", "1970-01-01T10:00:01Z"), Which::NoDay);
    }

    #[test]
    fn the_identity_of_a_read_on_a_day_stays_the_same_for_ever() {
        let Which::Day(identities, _) = named("12:00:00.000", "2026-07-06T10:00:01Z") else { panic!() };
        assert_eq!(identities.own, (8_004_932_141_718_710_529, None));
        assert_eq!(in_life(7, 8), 16_339_046_188_986_031_812);
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let mut undated = Undated::default();
        for seq in 1..=3 * NEWEST as u64 {
            let read = ChipRead::new(format!("C{seq}"), "12:00:00.000".parse().unwrap());
            undated.add(seq, "mat", &read, at("2026-07-06T12:00:01Z"));
        }
        assert_eq!(undated.newest.len(), NEWEST);
        let text = serde_json::to_string(&undated).unwrap();
        assert_eq!(serde_json::from_str::<Undated>(&text).unwrap(), undated);
        for (seq, day) in (0..20).zip([1, -1].into_iter().cycle()) {
            let at = 10_000 + seq;
            let step = Step { from: 1, sure: at, before_ms: 1_783_332_001_000, step_ms: day * 86_400_000 };
            undated.step(at, step, &Zones::default());
            assert!(undated.void.len() <= 2 * NEWEST);
        }
    }
}
