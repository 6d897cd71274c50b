//! Decides which stored reads may belong to another race: reads from a memory of the decoder that
//! was cleared.
//!
//! After a decoder was cleared, the link asks it for everything in its memory. What the decoder
//! stored there after the clearing is later than every read that this box received of the memory
//! before. So a stored read that is *earlier* belongs to another race (last week's, from another
//! box's card or from a memory that was never empty), or its clock was wrong. The box keeps such a
//! read and **holds it back** ([`crate::journal::held_back`]). Later reads are uploaded by
//! themselves, so the race goes on without anybody's help.
//!
//! How the time of a stored read is judged. The first rule that applies decides:
//! 1. Its number is beyond that of a live read of this memory: it is later.
//! 2. Its stamp is later than that of the last read of the memory before, by the decoder's clock:
//!    it is later.
//! 3. The read is later if all of this holds: the present state of the decoder's clock is known
//!    (the decoder reported it, or a live read shows it), the clock was set since the memory
//!    before, and by this clock the read was made after the last read of the memory before was
//!    received, and not in the future. So a clock that was set back hides no read.
//! 4. Otherwise it is held back, because it is earlier, or because nothing shows when it was made.
//!
//! A margin of [`MARGIN_MS`] is in favour of the race. It is [`SHOWN_MS`] where only a live read
//! shows the clock, because that read may be a stored one if the decoder does not mark those. A
//! read that is held back before the clock is known is judged again when the clock is known, and is
//! then uploaded by itself if it is of this race. If the box never received a read of the memory
//! before, it holds nothing back. Bounded by [`Lives`], and by as many memories in doubt.
//!
//! Rejected: *holding back all that is stamped before our first read of the new memory*. Whenever
//! the cable was out, exactly those reads are the race.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::decoders::Cleared;
use crate::model::chip::{ChipRead, Label, Last, Lives, Stamp, StoredRanges};
use crate::model::clock;

/// Two clocks that were set by hand may differ by this much, including the time that a read is on
/// its way.
const MARGIN_MS: i64 = 5_000;
/// See the head of this file.
const SHOWN_MS: i64 = 10 * 60 * 1000;
/// A clock that differs by this much from before is treated as another clock, so what was held back
/// is judged again.
const OTHER_CLOCK_MS: i64 = 60_000;
/// Number of times that held-back reads are judged again, about a second apart. The last of them
/// may not have been durable at the first time.
const LOOKS: u8 = 3;
/// No read is made after it was received. So a time that is further ahead comes from a clock other
/// than the known one.
const AHEAD_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What the link knows about the memories of one decoder, and about its clock.
#[derive(Default)]
pub(super) struct Memories(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    lives: Lives,
    /// Decoder clock minus box clock in milliseconds: as the decoder reported it last, and as its
    /// last live read showed it.
    told: Option<i64>,
    shown: Option<i64>,
    /// Memories of which reads were held back by their stamps, each with the last read of the
    /// memory before. At most [`StoredRanges::FILES`].
    doubted: Vec<(Option<Box<str>>, Option<Label>, Last)>,
    /// The two clocks by which all held-back reads were judged last.
    judged: [Option<i64>; 2],
    /// How many times the held-back reads are still to be judged again.
    looks: u8,
}

/// Judges reads again that were held back. `true` means that the read was made after the last one
/// of the memory before.
pub(super) struct Again {
    doubted: Vec<(Option<Box<str>>, Option<Label>, Last)>,
    clocks: [Option<i64>; 2],
    zone: TimeZone,
    now: Timestamp,
}

impl Again {
    pub(super) fn is_of_this_race(&self, read: &ChipRead) -> bool {
        let Some(position) = &read.position else { return false };
        let of = |doubted: &&(Option<Box<str>>, Option<Label>, Last)| {
            doubted.0 == position.unit && doubted.1 == position.file
        };
        let ms = dated_ms(&read.stamp, &self.zone, self.now);
        self.doubted
            .iter()
            .find(of)
            .is_some_and(|doubted| is_later_by_clock(self.clocks, ms, &doubted.2, &self.zone, self.now))
    }
}

impl Memories {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what the journal knows. What the link saw in this process is newer and stays.
    pub(super) fn learn(&self, lives: &Lives) {
        self.lock().lives.add_unknown(lives);
    }

    /// The decoder reported its clock.
    pub(super) fn clock(&self, offset_ms: i64) {
        self.lock().told = Some(offset_ms);
    }

    /// Called about once a second. If the clock is known now, or is another one, it returns what
    /// judges the held-back reads again.
    pub(super) fn again(&self, zone: &TimeZone, now: Timestamp) -> Option<Again> {
        let mut inner = self.lock();
        let clocks = [inner.told, inner.shown];
        let other = |(now, then): (Option<i64>, Option<i64>)| match (now, then) {
            (Some(now), Some(then)) => (now - then).abs() > OTHER_CLOCK_MS,
            (now, _) => now.is_some(),
        };
        if clocks.into_iter().zip(inner.judged).any(other) {
            inner.judged = clocks;
            // The next reads are judged by the new clocks.
            inner.looks = if inner.doubted.is_empty() { 0 } else { LOOKS };
        }
        if inner.looks == 0 {
            return None;
        }
        inner.looks -= 1;
        Some(Again { doubted: inner.doubted.clone(), clocks, zone: zone.clone(), now })
    }

    /// The decoder cleared a memory.
    pub(super) fn cleared(&self, cleared: &Cleared) {
        self.lock().lives.cleared(cleared.unit.as_deref(), cleared.file.as_ref());
    }

    /// A read arrived. Returns whether it is to be held back.
    pub(super) fn judge(&self, read: &ChipRead, zone: &TimeZone, received: Timestamp) -> bool {
        let Some(position) = &read.position else { return false };
        let mut inner = self.lock();
        let ms = dated_ms(&read.stamp, zone, received);
        let before = if read.replay { inner.of_another_race(read, ms, zone, received) } else { None };
        let known = |doubted: &(Option<Box<str>>, Option<Label>, Last)| {
            doubted.0 == position.unit && doubted.1 == position.file
        };
        if let Some(before) = before
            && !inner.doubted.iter().any(|doubted| known(doubted) && doubted.2 == before)
        {
            inner.doubted.retain(|doubted| !known(doubted));
            if inner.doubted.len() == StoredRanges::FILES {
                inner.doubted.remove(0);
            }
            inner.doubted.push((position.unit.clone(), position.file.clone(), before));
        }
        if !read.replay
            && let Some(ms) = ms
        {
            inner.shown = Some(ms - received.as_millisecond());
        }
        inner.lives.read(position, read.stamp, received, !read.replay);
        before.is_some()
    }
}

impl Inner {
    /// The last read of the memory before, unless this read is known to have been made after it.
    fn of_another_race(&self, read: &ChipRead, ms: Option<i64>, zone: &TimeZone, received: Timestamp) -> Option<Last> {
        let position = read.position.as_ref()?;
        let life = self.lives.of(position.unit.as_deref(), position.file.as_ref()).filter(|life| life.cleared)?;
        let follows_live = life.first_live.is_some_and(|live| position.number >= live);
        let later = |before: &Last| {
            follows_live
                || is_later(&read.stamp, before, zone, received)
                || is_later_by_clock([self.told, self.shown], ms, before, zone, received)
        };
        life.before.filter(|before| !later(before))
    }
}

/// Later by the present state of the decoder's clock, as the decoder reported it or as a live read
/// showed it.
fn is_later_by_clock(
    clocks: [Option<i64>; 2],
    ms: Option<i64>,
    before: &Last,
    zone: &TimeZone,
    received: Timestamp,
) -> bool {
    let Some(ms) = ms.filter(|_| clock::box_clock_set(before.received) && clock::box_clock_set(received)) else {
        return false;
    };
    let until = received.as_millisecond() + AHEAD_MS;
    let then = dated_ms(&before.stamp, zone, before.received).map(|ms| ms - before.received.as_millisecond());
    clocks.into_iter().zip([MARGIN_MS, SHOWN_MS]).any(|(offset, margin)| {
        // A clock that differs from the box by the same amount as then shows no more than the
        // stamps do.
        let set = offset.filter(|offset| then.is_none_or(|then| (offset - then).abs() > OTHER_CLOCK_MS));
        let since = before.received.as_millisecond() - margin;
        set.is_some_and(|offset| (since..=until).contains(&(ms - offset)))
    })
}

/// Later by the stamps of the decoder's clock.
fn is_later(stamp: &Stamp, before: &Last, zone: &TimeZone, received: Timestamp) -> bool {
    let day_ms = |day: u32, time: jiff::civil::Time| {
        let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
        i64::from(day) * DAY_MS + seconds * 1000 + i64::from(time.millisecond())
    };
    let both = match (*stamp, before.stamp) {
        // The day counts since the clock was set, or since the decoder was switched on. A time of
        // day alone does not show the day.
        (Stamp::TimeOfDay { time, day: Some(day) }, Stamp::TimeOfDay { time: then, day: Some(then_day) }) => {
            Some((day_ms(day, time), day_ms(then_day, then)))
        }
        (one, other) => dated_ms(&one, zone, received).zip(dated_ms(&other, zone, before.received)),
    };
    both.is_some_and(|(ms, then)| ms >= then - MARGIN_MS)
}

/// The time of a stamp that has a date, taken as it is.
fn dated_ms(stamp: &Stamp, zone: &TimeZone, received: Timestamp) -> Option<i64> {
    let dated = !clock::is_undated(stamp);
    dated.then(|| clock::resolve(stamp, zone, received, true).utc.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chip::Position;

    struct Mat {
        memories: Memories,
        zone: TimeZone,
    }

    impl Mat {
        fn new() -> Self {
            Self { memories: Memories::default(), zone: TimeZone::UTC }
        }

        /// Whether the read is held back. `stamp` and `received` are a day of November 2026 and a
        /// time.
        fn reads(&self, number: u64, stamp: &str, received: &str, replay: bool) -> bool {
            let mut read = ChipRead::new("A", format!("2026-11-{stamp}").parse().unwrap());
            read.position = Some(Position { unit: None, file: None, number });
            read.replay = replay;
            self.memories.judge(&read, &self.zone, format!("2026-11-{received}Z").parse().unwrap())
        }

        fn live(&self, number: u64, stamp: &str, received: &str) {
            assert!(!self.reads(number, stamp, received, false), "what is live is never held back");
        }

        fn stored(&self, number: u64, stamp: &str) -> bool {
            self.reads(number, stamp, "29T10:30:00", true)
        }

        fn cleared(&self) {
            self.memories.cleared(&Cleared { unit: None, file: None, text: "".into() });
        }
    }

    #[test]
    fn what_was_made_before_the_last_read_of_the_memory_before_is_held_back_and_the_race_is_not() {
        let mat = Mat::new();
        assert!(!mat.stored(1, "22T10:00:00"), "nothing was cleared");
        mat.live(20, "29T09:00:00", "29T09:00:01");
        mat.cleared();
        assert!(mat.stored(1, "22T10:00:00"), "last week's");
        assert!(mat.stored(2, "29T08:59:00"));
        assert!(!mat.stored(3, "29T08:59:56"), "a margin");
        assert!(!mat.stored(4, "29T10:00:00"), "today's");
        mat.live(50, "29T10:31:00", "29T10:31:00");
        assert!(mat.stored(5, "22T10:00:00"));
        assert!(!mat.stored(60, "22T10:00:00"), "it comes after a live one");
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing_as_soon_as_it_is_known() {
        let mat = Mat::new();
        mat.live(20, "29T09:00:00", "29T09:00:00");
        mat.cleared();
        assert!(mat.stored(1, "29T08:10:00"), "nothing tells that the clock was set back");
        mat.memories.clock(-2 * 3_600_000);
        assert!(!mat.stored(2, "29T08:10:00"), "it was 10:10");
        assert!(mat.stored(3, "29T06:50:00"), "it was 8:50");
        assert!(mat.stored(4, "22T08:10:00"), "last week's");
        let mat = Mat::new();
        mat.live(20, "29T09:00:00", "29T09:00:00");
        mat.cleared();
        mat.live(30, "29T08:29:00", "29T10:29:00");
        let again = mat.memories.again(&mat.zone, "2026-11-29T10:30:00Z".parse().unwrap());
        assert!(again.is_none(), "nothing was held back yet");
        assert!(!mat.stored(2, "29T08:10:00"), "a live read shows it as well");
        assert!(mat.stored(3, "22T08:10:00"));
    }

    #[test]
    fn what_was_held_back_before_the_clock_was_known_is_judged_again_when_it_is() {
        let mat = Mat::new();
        mat.live(20, "29T09:00:00", "29T09:00:00");
        mat.cleared();
        let again = || mat.memories.again(&mat.zone, "2026-11-29T10:31:00Z".parse().unwrap());
        while again().is_some() {}
        assert!(mat.stored(1, "29T08:10:00") && mat.stored(2, "22T08:10:00"));
        assert!(again().is_none(), "nothing is known that was not");
        mat.live(30, "29T08:31:00", "29T10:31:00");
        let judge = again().unwrap();
        let made = |stamp: &str, unit: Option<Box<str>>| {
            let mut read = ChipRead::new("A", format!("2026-11-{stamp}").parse().unwrap());
            read.position = Some(Position { unit, file: None, number: 1 });
            judge.is_of_this_race(&read)
        };
        assert!(made("29T08:10:00", None) && !made("22T08:10:00", None) && !made("29T08:10:00", Some("7".into())));
        let looks = std::iter::from_fn(again).take(100).count();
        assert_eq!(looks, usize::from(LOOKS) - 1, "and then no more");
    }

    #[test]
    fn a_clock_that_is_known_moves_nothing_of_another_clock_into_the_race() {
        let mat = Mat::new();
        mat.live(20, "29T09:00:00", "29T09:00:00");
        mat.cleared();
        // The battery of the decoder's clock is empty.
        mat.memories.clock(-20 * 24 * 3_600_000);
        assert!(mat.stored(1, "22T10:00:00"), "by that clock it would be of the next month");
    }

    #[test]
    fn where_nothing_tells_the_time_it_is_held_back() {
        let mat = Mat::new();
        let judge = |stamp: &str, number, replay| {
            let mut read = ChipRead::new("A", stamp.parse().unwrap());
            read.position = Some(Position { unit: None, file: None, number });
            read.replay = replay;
            mat.memories.judge(&read, &mat.zone, "2026-11-29T10:30:00Z".parse().unwrap())
        };
        judge("10:00:00.000", 20, false);
        mat.cleared();
        assert!(judge("10:10:00.000", 1, true));
        let mat = Mat::new();
        let judge = |stamp: &str, number, replay| {
            let mut read = ChipRead::new("A", stamp.parse().unwrap());
            read.position = Some(Position { unit: None, file: None, number });
            read.replay = replay;
            mat.memories.judge(&read, &mat.zone, "2026-11-29T10:30:00Z".parse().unwrap())
        };
        judge("0000-00-01T10:00:00.000", 20, false);
        mat.cleared();
        assert!(!judge("0000-00-01T10:10:00.000", 1, true), "the days since the clock was set do tell");
        assert!(judge("0000-00-00T10:10:00.000", 1, true));
    }
}
