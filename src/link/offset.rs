//! Finds out whether the clock of a decoder, or the time zone in the configuration, is wrong.
//!
//! What must hold:
//! * **Live reads only.** A read that the decoder had stored is old, and that is right. Where a
//!   decoder does not mark its stored reads, they arrive together with others in a moment. So reads
//!   that are late, and not by a difference of zones, count only when they arrived over [`SPAN`].
//! * **One read proves nothing.** Three of the last five reads have to agree, or two answers of the
//!   decoder's clock, or one answer that nothing contradicted for [`ALONE`].
//! * **A late delivery explains only stamps that are behind.** Nothing arrives before it happened,
//!   so for stamps that are ahead the limits are those of a clock that the decoder reports. For
//!   stamps that are behind, the read that arrived soonest tells most: the clock is behind by no
//!   more than that read says. And if the decoder tells its clock and it is right, stamps that are
//!   a little behind are only late.
//! * Pure: offsets and moments are passed in. The owner of this value reports to the board.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::config::ClockLimits;
use crate::model::chip::ChipRead;
use crate::model::clock::{Doubt, offset_ms, resolve};
use crate::status::ClockBy;

/// Number of the last live reads that are compared.
const LAST: usize = 5;
/// At least this many of them have to agree,
const AGREE: usize = 3;
/// within this. A decoder that waits for the last detection of a chip is late by a different time
/// for each read.
const WITHIN_MS: i64 = 2_000;
/// Two answers of a clock agree within this, because many clocks show whole seconds.
const ANSWERS_WITHIN_MS: i64 = 1_100;
/// One answer alone is believed after this time.
const ALONE: Duration = Duration::from_secs(10);
/// Reads that are late by chance arrive together, when the network is back.
const SPAN: Duration = Duration::from_secs(2);
/// So reads that are late count by samples this far apart. The last [`LAST`] samples cover [`SPAN`],
/// however many reads arrive in a second.
const APART: Duration = Duration::from_millis(500);
/// A clock that is a little behind is told only if none of this many samples arrived sooner. A
/// decoder that waits until a chip has left the mat delivers some reads at once, and others seconds
/// late.
const SAMPLES: usize = 20;
/// An offset of more than a day does not come from zones, and [`Doubt::Far`] reports it.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is known about the clock of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// Decoder clock minus box clock.
    pub(super) offset_ms: i64,
    pub(super) by: ClockBy,
    pub(super) verdict: ClockVerdict,
}

/// How wrong the clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClockVerdict {
    /// The clock agrees with the box.
    Right,
    /// The clock is off by so little that it may not matter, or its reads arrive late.
    Near,
    /// The clock is off by so much that every time of the decoder is wrong.
    Wrong,
}

/// The last offsets of a decoder.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    limits: ClockLimits,
    answers: VecDeque<(i64, Instant)>,
    reads: VecDeque<(i64, Instant)>,
    /// Some of the reads, [`APART`] from each other: the last [`SAMPLES`].
    samples: VecDeque<(i64, Instant)>,
    /// The last result that was certain.
    told: Option<Measured>,
}

impl Offsets {
    pub(super) fn new(limits: ClockLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The decoder reported its clock. `whole` means that the clock shows whole seconds, so that up
    /// to one second is missing. Returns whether this answer alone would show that the clock is
    /// off.
    pub(super) fn answer(&mut self, offset_ms: i64, whole: bool, now: Instant) -> bool {
        let missing = if whole { (-offset_ms).clamp(0, 999) } else { 0 };
        if self.answers.len() == 2 {
            self.answers.pop_front();
        }
        self.answers.push_back((offset_ms + missing, now));
        Duration::from_millis((offset_ms + missing).unsigned_abs()) >= self.limits.note
    }

    /// A read arrived. Returns whether it counts.
    pub(super) fn read(&mut self, read: &ChipRead, zone: &TimeZone, received: Timestamp, now: Instant) -> bool {
        if read.replay || read.amid_stored || read.held_back {
            return false;
        }
        match resolve(&read.stamp, zone, received, false).doubt {
            None | Some(Doubt::NoDate | Doubt::LongAgo | Doubt::Fold | Doubt::Gap | Doubt::NoValidNumber) => {}
            Some(
                Doubt::ClockUnset
                | Doubt::BoxClockUnset
                | Doubt::Far
                | Doubt::OutOfRange
                | Doubt::NoClock
                | Doubt::OnlyLastSeen,
            ) => {
                return false;
            }
        }
        let read = (offset_ms(&read.stamp, zone, received), now);
        push(&mut self.reads, LAST, read);
        if self.samples.back().is_none_or(|(_, last)| now.duration_since(*last) >= APART) {
            push(&mut self.samples, SAMPLES, read);
        }
        true
    }

    /// What is known now. `None` if nothing is known yet.
    pub(super) fn look(&mut self, now: Instant) -> Option<Measured> {
        let answered = self.by_answers(now);
        if let (Some(answer), Some((_, since))) = (answered, self.answers.front())
            && answer.verdict == ClockVerdict::Right
        {
            // The clock was set after those reads arrived.
            self.reads.retain(|(_, at)| at > since);
            self.samples.retain(|(_, at)| at > since);
        }
        let read = self.by_reads();
        self.told = match (answered, read) {
            // The decoder's own answer is more exact, but its stamps are what is uploaded. So stamps
            // that are wrong, or further ahead than its answer, count more. Stamps that are a little
            // behind a right answer were delivered late.
            (Some(answer), Some(read))
                if read.verdict == ClockVerdict::Wrong || (read.verdict > answer.verdict && read.offset_ms > 0) =>
            {
                Some(read)
            }
            (Some(answer), _) => Some(answer),
            (None, Some(read)) => Some(read),
            (None, None) => self.told,
        };
        self.told
    }

    fn by_answers(&self, now: Instant) -> Option<Measured> {
        let (offset_ms, at) = *self.answers.back()?;
        let agree = match self.answers.len() {
            1 => now.duration_since(at) >= ALONE,
            _ => (self.answers[0].0 - offset_ms).abs() <= ANSWERS_WITHIN_MS || now.duration_since(at) >= ALONE,
        };
        let off = Duration::from_millis(offset_ms.unsigned_abs());
        let verdict = match () {
            () if off >= self.limits.wrong => ClockVerdict::Wrong,
            () if off >= self.limits.note => ClockVerdict::Near,
            () => ClockVerdict::Right,
        };
        agree.then_some(Measured { offset_ms, by: ClockBy::Answer, verdict })
    }

    fn by_reads(&self) -> Option<Measured> {
        let (read, _) = self.agreed(self.reads.iter())?;
        let may_be_late = read.verdict != ClockVerdict::Right
            && read.offset_ms < 0
            && crate::status::words::zone_minutes(read.offset_ms).is_none();
        if !may_be_late {
            return Some(read);
        }
        let newest = self.samples.len().saturating_sub(LAST);
        let (sampled, span) = self.agreed(self.samples.iter().skip(newest))?;
        match sampled.verdict {
            _ if span < SPAN => None,
            ClockVerdict::Right | ClockVerdict::Wrong => Some(sampled),
            ClockVerdict::Near => {
                let ahead = i64::try_from(self.limits.note.as_millis()).unwrap_or(i64::MAX);
                let offsets = self.samples.iter().map(|(offset, _)| *offset);
                let soonest = offsets.filter(|offset| *offset < ahead).max().unwrap_or(sampled.offset_ms).min(0);
                let offset_ms = soonest.max(sampled.offset_ms);
                let measured = Measured { offset_ms, by: ClockBy::Reads, verdict: self.verdict(offset_ms) };
                // A few late reads are no reason to call a clock wrong.
                (measured.verdict == ClockVerdict::Right || self.samples.len() >= LAST).then_some(measured)
            }
        }
    }

    /// What these reads agree on, and the time over which those that agree arrived.
    fn agreed<'a>(
        &self,
        reads: impl DoubleEndedIterator<Item = &'a (i64, Instant)> + Clone,
    ) -> Option<(Measured, Duration)> {
        let mut sorted: Vec<i64> = reads.clone().map(|(offset, _)| *offset).collect();
        sorted.sort_unstable();
        let median = *sorted.get(sorted.len() / 2)?;
        let mut agreeing = reads.filter(|(offset, _)| (offset - median).abs() <= WITHIN_MS);
        let count = agreeing.clone().count();
        if count < AGREE || median.abs() > DAY_MS {
            return None;
        }
        let soonest = agreeing.clone().map(|(offset, _)| *offset).max().unwrap_or(median);
        let offset_ms = if median < 0 { soonest.min(0) } else { median };
        let (first, last) = (agreeing.next()?.1, agreeing.next_back()?.1);
        let measured = Measured { offset_ms, by: ClockBy::Reads, verdict: self.verdict(offset_ms) };
        Some((measured, last.duration_since(first)))
    }

    /// How wrong a clock is whose live reads are off by so much.
    fn verdict(&self, offset_ms: i64) -> ClockVerdict {
        let off = Duration::from_millis(offset_ms.unsigned_abs());
        let wrong = if offset_ms > 0 { self.limits.wrong } else { self.limits.wrong_by_reads };
        // The offsets of reads vary. A clock that is near the limit must not come and go as a
        // problem with each read.
        let shown = self.told.is_some_and(|told| told.by == ClockBy::Reads && told.verdict == ClockVerdict::Near);
        let note = if shown { self.limits.note / 2 } else { self.limits.note };
        match () {
            () if off >= wrong => ClockVerdict::Wrong,
            () if off >= note => ClockVerdict::Near,
            () => ClockVerdict::Right,
        }
    }
}

/// Keeps the last `count`.
fn push(reads: &mut VecDeque<(i64, Instant)>, count: usize, read: (i64, Instant)) {
    if reads.len() == count {
        reads.pop_front();
    }
    reads.push_back(read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chip::Stamp;

    const RECEIVED: &str = "2026-11-29T10:00:00Z";

    struct Clock(Offsets, Instant);

    impl Clock {
        fn new() -> Self {
            Self(Offsets::new(ClockLimits::default()), Instant::now())
        }

        /// A live read with this stamp, received at 10:00 UTC. It arrives this many seconds after
        /// the start.
        fn read(&mut self, stamp: &str, seconds: u64) -> Option<Measured> {
            let read = ChipRead::new("C1", stamp.parse().unwrap());
            self.take(&read, seconds)
        }

        fn take(&mut self, read: &ChipRead, seconds: u64) -> Option<Measured> {
            let now = self.1 + Duration::from_secs(seconds);
            let zone = TimeZone::get("Europe/Madrid").unwrap();
            self.0.read(read, &zone, RECEIVED.parse().unwrap(), now);
            self.0.look(now)
        }

        fn answer(&mut self, offset_ms: i64, whole: bool, seconds: u64) -> Option<Measured> {
            let now = self.1 + Duration::from_secs(seconds);
            self.0.answer(offset_ms, whole, now);
            self.0.look(now)
        }
    }

    fn told(measured: Option<Measured>) -> Option<(i64, ClockVerdict)> {
        measured.map(|measured| (measured.offset_ms, measured.verdict))
    }

    #[test]
    fn three_live_reads_show_a_wrong_zone_whatever_form_their_stamps_have() {
        for (stamp, offset_ms) in [
            ("2026-11-29T10:00:00.000", -3_600_000),
            ("10:00:00.000", -3_600_000),
            ("12:00:00.000", 3_600_000),
            ("16:30:00.000", 19_800_000),
            ("2026-11-29T09:30:00.000Z", -1_800_000),
        ] {
            let mut clock = Clock::new();
            assert_eq!([clock.read(stamp, 0), clock.read(stamp, 0)], [None, None], "{stamp}");
            assert_eq!(told(clock.read(stamp, 0)), Some((offset_ms, ClockVerdict::Wrong)), "{stamp}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_found_however_many_reads_arrive_in_a_second() {
        for (stamp, verdict) in
            [("2026-11-29T10:59:55.000", ClockVerdict::Near), ("2026-11-29T10:59:45.000", ClockVerdict::Wrong)]
        {
            for gap_ms in [3, 20, 100, 250, 499, 500, 900, 5_000] {
                let mut clock = Clock::new();
                let read = ChipRead::new("C1", stamp.parse().unwrap());
                let zone = TimeZone::get("Europe/Madrid").unwrap();
                let mut found = None;
                for at_ms in (0..=25_000).step_by(gap_ms) {
                    let now = clock.1 + Duration::from_millis(at_ms);
                    clock.0.read(&read, &zone, RECEIVED.parse().unwrap(), now);
                    found = clock.0.look(now);
                    assert!(found.is_none() || at_ms >= 2_000, "a burst proves nothing: {gap_ms} ms");
                }
                assert_eq!(found.map(|measured| measured.verdict), Some(verdict), "a read every {gap_ms} ms");
            }
        }
    }

    #[test]
    fn a_clock_that_is_seconds_off_is_found_by_reads_sooner_ahead_than_behind() {
        for (stamp, verdict) in [
            ("2026-11-29T10:59:50.000", ClockVerdict::Wrong),
            ("2026-11-29T10:59:50.001", ClockVerdict::Near),
            ("2026-11-29T10:59:55.000", ClockVerdict::Near),
            ("2026-11-29T10:59:59.000", ClockVerdict::Near),
            ("2026-11-29T10:59:59.001", ClockVerdict::Right),
            ("2026-11-29T11:00:00.999", ClockVerdict::Right),
            ("2026-11-29T11:00:01.000", ClockVerdict::Near),
            ("2026-11-29T11:00:01.999", ClockVerdict::Near),
            ("2026-11-29T11:00:02.000", ClockVerdict::Wrong),
            ("2026-11-29T11:00:04.900", ClockVerdict::Wrong),
            ("2026-11-29T11:00:10.000", ClockVerdict::Wrong),
        ] {
            let mut clock = Clock::new();
            let last = (0..5).map(|at| clock.read(stamp, at)).last().unwrap();
            assert_eq!(last.map(|measured| measured.verdict), Some(verdict), "{stamp}");
        }
    }

    #[test]
    fn reads_that_vary_around_a_limit_are_not_a_problem_that_comes_and_goes() {
        let mut clock = Clock::new();
        let mut last = |stamp: &str, from: u64| (from..from + 5).map(|at| clock.read(stamp, at)).last().unwrap();
        assert_eq!(last("10:59:59.000", 0).unwrap().verdict, ClockVerdict::Near);
        assert_eq!(last("10:59:59.100", 5).unwrap().verdict, ClockVerdict::Near);
        assert_eq!(last("10:59:59.600", 10).unwrap().verdict, ClockVerdict::Right);
        assert_eq!(last("10:59:59.100", 15).unwrap().verdict, ClockVerdict::Right);
    }

    #[test]
    fn stamps_that_are_further_off_than_the_answer_of_the_clock_are_shown() {
        let mut clock = Clock::new();
        clock.answer(0, false, 0);
        clock.answer(0, false, 1);
        let last = (2..7).map(|at| clock.read("11:00:01.500", at)).last().unwrap();
        assert_eq!(told(last), Some((1_500, ClockVerdict::Near)));
        assert_eq!(last.unwrap().by, ClockBy::Reads);
        let last = (7..12).map(|at| clock.read("10:59:50.000", at)).last().unwrap();
        assert_eq!(told(last), Some((-10_000, ClockVerdict::Wrong)));
    }

    #[test]
    fn reads_that_are_a_little_late_are_no_doubt_about_a_clock_that_the_decoder_tells_and_that_is_right() {
        let mut clock = Clock::new();
        clock.answer(0, false, 0);
        clock.answer(0, false, 1);
        let last = (2..40).map(|at| clock.read("10:59:57.000", at)).last().unwrap();
        assert_eq!(told(last), Some((0, ClockVerdict::Right)));
        assert_eq!(last.unwrap().by, ClockBy::Answer);
    }

    #[test]
    fn a_decoder_that_delivers_late_has_no_wrong_clock_because_some_reads_arrive_soon() {
        // It sends a read when the chip has left the mat: one of six soon, the others 1.2 to 4.8 s late.
        let lates_ms = [2_400, 1_200, 4_800, 3_100, 1_900, 300];
        for first in 0..lates_ms.len() {
            let mut clock = Clock::new();
            let mut near = 0;
            for at in 0..60 {
                let late = lates_ms[(first + at as usize) % lates_ms.len()];
                let stamp = format!("10:59:{:06.3}", 60.0 - f64::from(late) / 1000.0);
                let found = clock.read(&stamp, at);
                assert!(found.is_none_or(|found| found.verdict != ClockVerdict::Wrong));
                near += u32::from(found.is_some_and(|found| found.verdict == ClockVerdict::Near));
            }
            assert_eq!(near, u32::from(first == 0), "only while none of the first five arrived soon");
            assert_eq!(told(clock.0.look(clock.1)).unwrap().1, ClockVerdict::Right);
        }
    }

    #[test]
    fn the_read_that_arrived_soonest_tells_how_far_the_clock_is_behind_at_most() {
        let mut clock = Clock::new();
        let stamps = ["10:59:57.000", "10:59:58.400", "10:59:57.200", "10:59:56.500", "10:59:58.100"];
        let last = (0..).zip(stamps).map(|(at, stamp)| clock.read(stamp, at)).last().unwrap();
        assert_eq!(told(last), Some((-1_600, ClockVerdict::Near)));
        // A clock that was set back since is found as soon as before.
        let last = (5..10).map(|at| clock.read("10:59:30.000", at)).last().unwrap();
        assert_eq!(last.map(|measured| measured.verdict), Some(ClockVerdict::Wrong));
    }

    #[test]
    fn reads_that_were_late_by_chance_show_nothing() {
        // The network was away for a minute, so all reads arrive in one moment.
        let mut clock = Clock::new();
        let burst = ["10:59:00.000", "10:59:00.100", "10:59:00.200", "10:59:00.300", "10:59:00.400"];
        assert!(burst.iter().all(|stamp| clock.read(stamp, 100).is_none()));
        // Stored reads arrive one after the other, and their ages differ.
        let mut clock = Clock::new();
        let stored = ["10:30:00.000", "10:33:00.000", "10:36:00.000", "10:39:00.000", "10:42:00.000"];
        assert!((0..).zip(stored).all(|(at, stamp)| clock.read(stamp, at).is_none()));
    }

    #[test]
    fn stored_reads_and_those_of_a_clock_that_was_never_set_do_not_count() {
        let stamp: Stamp = "2026-11-29T10:00:00.000".parse().unwrap();
        let mut clock = Clock::new();
        for _ in 0..5 {
            assert_eq!(clock.take(&ChipRead { replay: true, ..ChipRead::new("C1", stamp) }, 0), None);
            assert_eq!(clock.take(&ChipRead { amid_stored: true, ..ChipRead::new("C1", stamp) }, 0), None);
            assert_eq!(clock.read("2000-01-01T10:00:00.000", 0), None);
            assert_eq!(clock.read("2026-11-20T11:00:00.000", 0), None, "days off is told by itself");
        }
    }

    #[test]
    fn one_read_that_is_wrong_is_not_believed_against_four() {
        let mut clock = Clock::new();
        for at in 0..4 {
            clock.read("11:00:00.000", at);
        }
        assert_eq!(told(clock.read("10:00:00.000", 5)), Some((0, ClockVerdict::Right)));
    }

    #[test]
    fn two_answers_of_the_clock_or_one_that_stays_alone_decide_from_two_seconds_on() {
        for (offset_ms, verdict) in [
            (0, ClockVerdict::Right),
            (999, ClockVerdict::Right),
            (-1_000, ClockVerdict::Near),
            (1_999, ClockVerdict::Near),
            (2_000, ClockVerdict::Wrong),
            (-3_600_000, ClockVerdict::Wrong),
        ] {
            let mut clock = Clock::new();
            assert_eq!(clock.answer(offset_ms, false, 0), None);
            assert_eq!(told(clock.answer(offset_ms, false, 1)), Some((offset_ms, verdict)));
            let mut alone = Clock::new();
            alone.answer(offset_ms, false, 0);
            assert_eq!(alone.0.look(alone.1 + Duration::from_secs(9)), None);
            assert_eq!(told(alone.0.look(alone.1 + Duration::from_secs(10))), Some((offset_ms, verdict)));
        }
        let mut clock = Clock::new();
        clock.answer(-950, true, 0);
        assert_eq!(told(clock.answer(-20, true, 1)), Some((0, ClockVerdict::Right)), "a clock of whole seconds");
        let mut set = Clock::new();
        set.answer(-60_000, false, 0);
        set.answer(-60_000, false, 1);
        assert_eq!(told(set.answer(0, false, 2)), Some((-60_000, ClockVerdict::Wrong)), "one right answer is no proof");
        assert_eq!(told(set.answer(0, false, 3)), Some((0, ClockVerdict::Right)));
    }

    #[test]
    fn what_a_decoder_stamps_counts_more_than_what_it_says_until_it_says_so_again() {
        let mut clock = Clock::new();
        clock.answer(0, false, 0);
        clock.answer(0, false, 1);
        for at in 2..4 {
            clock.read("10:00:00.000", at);
        }
        assert_eq!(told(clock.read("10:00:00.000", 4)), Some((-3_600_000, ClockVerdict::Wrong)));
        clock.answer(0, false, 5);
        assert_eq!(told(clock.answer(0, false, 6)), Some((0, ClockVerdict::Right)));
    }
}
