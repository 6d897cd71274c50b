//! How long a read takes: from its receipt until it is kept, and until it is in the cloud.
//!
//! The clock begins when the program has the bytes that complete the frame of the read. *Kept* is
//! when the journal has made it durable. *In the cloud* is when the box knows that the cloud has the
//! passing: a POST was answered as stored, or the cloud showed the passing when it was asked.
//!
//! What must hold:
//! * **Only what was measured is told.** Every time here is of the monotonic clock, as the time
//!   since the start of the process. A read of an earlier process has no such time. Its line in the
//!   log has a wall clock, but a box without a clock of its own begins each boot at a wrong time, so
//!   the difference may be wrong by years. Such a read is left out.
//! * **Nothing is called faster than it was.** Where a time is known only within limits, the longer
//!   one is told.
//! * **A read that waited counts with its whole wait**, at the moment when it is kept or arrives. So
//!   the last minute shows an hour without internet when the hour is over.
//! * **Bounded and cheap.** Recording allocates nothing for a read, and its cost does not depend on
//!   the backlog. The size of everything here is fixed, but for [`Receipts`], which has a limit.
//!
//! Rejected: a table of every read that waits (it grows with the backlog); a time of receipt in the
//! queue (four bytes more in every stored read, for a number that nobody asks for after a restart).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::chip::Seq;

/// Upper ends of the buckets of a [`LatencyHistogram`], in milliseconds: 1 ms to an hour.
const BOUNDS_MS: [u64; 20] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// Times since the start of the process, in the buckets of Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Reads in each bucket. The last one has those above every bound.
    counts: [u64; BOUNDS_MS.len() + 1],
    sum: Duration,
}

impl LatencyHistogram {
    /// Records that so many reads took this long.
    pub(super) fn record(&mut self, took: Duration, reads: u32) {
        let bucket = BOUNDS_MS.partition_point(|bound| took > Duration::from_millis(*bound));
        self.counts[bucket] += u64::from(reads);
        self.sum = self.sum.saturating_add(took.saturating_mul(reads));
    }

    /// The upper end of each bucket in seconds (`None`: no end), and how many reads took no longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let ends = BOUNDS_MS.iter().map(|ms| Some(*ms as f64 / 1e3)).chain([None]);
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        ends.zip(counts)
    }

    /// How many reads were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of their times.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// How long the reads of the last minute took. A bucket is at most 6.25 % wide, and its upper end
/// is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyFigures {
    /// Half of the reads took no longer. Milliseconds in JSON.
    #[serde(rename = "median_ms", with = "milliseconds")]
    pub median: Duration,
    /// 95 % of the reads took no longer.
    #[serde(rename = "p95_ms", with = "milliseconds")]
    pub p95: Duration,
    /// The longest time, to the microsecond.
    #[serde(rename = "worst_ms", with = "milliseconds")]
    pub worst: Duration,
    /// Number of reads.
    pub reads: u64,
}

/// How long the reads took that were kept, and those that arrived in the cloud, in the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// From the receipt until the read is durable. `None`: no read was kept in the last minute.
    pub kept: Option<LatencyFigures>,
    /// From the receipt until the passing is in the cloud. `None`: none arrived in the last minute.
    pub cloud: Option<LatencyFigures>,
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_micros() as f64 / 1e3)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)? / 1e3;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// Parts of an octave, as a power of two: 16 buckets from one power of two to the next.
const PARTS_LOG2: u32 = 4;
/// Longest time that has a bucket of its own: 2^37 µs, about 38 h.
const OCTAVES: u32 = 37;
const BUCKETS: usize = ((OCTAVES - PARTS_LOG2 + 1) << PARTS_LOG2) as usize;
/// The last minute in slots of this length.
const SLOT: Duration = Duration::from_secs(5);
const SLOTS: usize = 12;

/// The bucket of a time. Up to 16 µs each microsecond has its own.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min((1 << OCTAVES) - 1);
    let octave = micros.checked_ilog2().unwrap_or(0).saturating_sub(PARTS_LOG2);
    ((octave as usize) << PARTS_LOG2) + (micros >> octave) as usize
}

/// The longest time that falls into a bucket, and a microsecond more, because the fraction was cut
/// off.
fn upper_end(bucket: usize) -> Duration {
    let octave = (bucket >> PARTS_LOG2).saturating_sub(1);
    let part = bucket - (octave << PARTS_LOG2);
    Duration::from_micros((part as u64 + 1) << octave)
}

/// The reads that were recorded in one [`SLOT`].
struct Slot {
    /// The slot's time, in slots since the start.
    number: u64,
    counts: [u32; BUCKETS],
    worst: Duration,
}

/// The reads of the last minute.
struct LastMinute {
    slots: Vec<Slot>,
}

impl LastMinute {
    fn new() -> Self {
        let slot = || Slot { number: 0, counts: [0; BUCKETS], worst: Duration::ZERO };
        Self { slots: std::iter::repeat_with(slot).take(SLOTS).collect() }
    }

    fn record(&mut self, now: Duration, took: Duration, reads: u32) {
        let number = number(now);
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            (slot.number, slot.worst) = (number, Duration::ZERO);
            slot.counts.fill(0);
        }
        let count = &mut slot.counts[bucket(took)];
        *count = count.saturating_add(reads);
        slot.worst = slot.worst.max(took);
    }

    fn figures(&self, now: Duration) -> Option<LatencyFigures> {
        let newest = number(now);
        let slots = || self.slots.iter().filter(|slot| newest.saturating_sub(slot.number) < SLOTS as u64);
        let mut counts = [0; BUCKETS];
        for slot in slots() {
            for (sum, count) in counts.iter_mut().zip(&slot.counts) {
                *sum += u64::from(*count);
            }
        }
        let reads: u64 = counts.iter().sum();
        let worst = slots().map(|slot| slot.worst).max().filter(|_| reads > 0)?;
        // The time of the read with this rank, from 1, in the order of the times.
        let of_rank = |rank: u64| {
            let mut passed = 0;
            let bucket = counts.iter().position(|count| {
                passed += count;
                passed >= rank
            });
            bucket.map_or(worst, |bucket| upper_end(bucket).min(worst))
        };
        Some(LatencyFigures {
            median: of_rank(reads.div_ceil(2)),
            p95: of_rank((reads * 95).div_ceil(100)),
            worst,
            reads,
        })
    }
}

fn number(now: Duration) -> u64 {
    now.as_secs() / SLOT.as_secs()
}

/// Stretches that [`Receipts`] has at most: 64 KiB.
const STRETCHES: usize = 2048;
/// Stretches are joined if that makes no wait seem longer by more than this part of it: 1.6 %.
const JOINED: u32 = 64;

/// When the reads of this process were received, by their sequence numbers.
///
/// It has one stretch for each chunk of bytes that gave reads. When there are too many, neighbours
/// are joined that are close to each other *compared with their age*: of an hour ago the minute is
/// enough, of a second ago the last milliseconds count. So the number of stretches does not grow
/// with the number of reads that wait, but with the logarithm of their age.
#[derive(Default)]
struct Receipts(Vec<Stretch>);

/// Consecutive entries of the log.
#[derive(Clone, Copy)]
struct Stretch {
    first: u64,
    last: u64,
    /// When the first and the last of their reads was received, in microseconds since the start.
    earliest: u64,
    latest: u64,
}

impl Receipts {
    /// The entries `first..=last` are reads, and what came with them, received at `at`.
    fn add(&mut self, first: u64, last: u64, at: Duration, now: Duration) {
        let at = micros(at);
        // Two decoders may report their groups in the other order than the journal kept them.
        let place = self.0.partition_point(|known| known.first < first);
        self.0.insert(place, Stretch { first, last, earliest: at, latest: at });
        let mut share = 1;
        while self.0.len() > STRETCHES || (share > 1 && self.0.len() > STRETCHES / 2) {
            self.join(micros(now), share);
            share *= 2;
        }
    }

    /// Joins neighbours. With a `share` above 1, the wait of a read may seem longer by that many
    /// times more than [`JOINED`] says. It is needed only if receipts and numbers are in a very
    /// different order.
    fn join(&mut self, now: u64, share: u64) {
        self.0.dedup_by(|next, kept| {
            let (earliest, latest) = (kept.earliest.min(next.earliest), kept.latest.max(next.latest));
            let age = now.saturating_sub(latest);
            let joins = latest - earliest <= age.saturating_mul(share) / u64::from(JOINED) + (share - 1);
            if joins {
                *kept = Stretch { last: kept.last.max(next.last), earliest, latest, ..*kept };
            }
            joins
        });
    }

    /// When this read was received, or a little before. `None`: this process did not receive it, or
    /// has not reported it yet.
    fn of(&self, seq: u64) -> Option<Duration> {
        let after = self.0.partition_point(|known| known.first <= seq);
        let stretch = self.0.get(after.checked_sub(1)?)?;
        (seq <= stretch.last).then(|| Duration::from_micros(stretch.earliest))
    }

    /// Whether the read may be reported later.
    fn may_follow(&self, seq: u64) -> bool {
        self.0.last().is_none_or(|newest| seq > newest.last)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Passings that may wait for the report of their read.
const EARLY_MAX: usize = 256;
/// How long they wait for it.
const EARLY_FOR: Duration = Duration::from_secs(5);

/// A passing that arrived in the cloud before the link reported that its read is kept. Both follow
/// from the same write of the journal, and on a busy machine the link may be the later one.
struct EarlyArrival {
    seq: u64,
    at: Duration,
    device: usize,
}

/// The measurements of the box. All times are since the start of the process.
pub(super) struct Latency {
    kept: LastMinute,
    cloud: LastMinute,
    receipts: Receipts,
    early: VecDeque<EarlyArrival>,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self {
            kept: LastMinute::new(),
            cloud: LastMinute::new(),
            receipts: Receipts::default(),
            early: VecDeque::new(),
        }
    }

    /// The entries `first..=last`, with this number of reads received at `at`, are durable. Returns
    /// how long the reads took.
    pub(super) fn kept(&mut self, (first, last): (u64, u64), reads: u32, at: Duration, now: Duration) -> Duration {
        let took = now.saturating_sub(at);
        self.kept.record(now, took, reads);
        self.receipts.add(first, last, at, now);
        took
    }

    /// The cloud has the passing of this read, for the first time. Returns how long the read took,
    /// if that is known now.
    pub(super) fn arrived(&mut self, Seq(seq): Seq, now: Duration, device: usize) -> Option<Duration> {
        if let Some(received) = self.receipts.of(seq) {
            let took = now.saturating_sub(received);
            self.cloud.record(now, took, 1);
            return Some(took);
        }
        if self.receipts.may_follow(seq) {
            if self.early.len() == EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(EarlyArrival { seq, at: now, device });
        }
        None
    }

    /// How long this read waits, at least. `first` is the first number that this process gave: a read
    /// before it waits since the process started, or longer.
    pub(super) fn waits(&self, Seq(seq): Seq, first: Seq, now: Duration) -> Duration {
        match self.receipts.of(seq) {
            Some(received) => now.saturating_sub(received),
            None if seq < first.0 => now,
            None => Duration::ZERO, // its link reports it soon
        }
    }

    /// Takes the passings that arrived before their reads were reported, as far as these are known
    /// now: the device of each, and how long its read took.
    pub(super) fn caught_up(&mut self, now: Duration) -> Vec<(usize, Duration)> {
        if self.early.is_empty() {
            return Vec::new();
        }
        let mut known = Vec::new();
        let Self { cloud, receipts, early, .. } = self;
        early.retain(|arrival| {
            let received = receipts.of(arrival.seq);
            if let Some(received) = received {
                let took = arrival.at.saturating_sub(received);
                cloud.record(arrival.at, took, 1);
                known.push((arrival.device, took));
            }
            received.is_none() && now.saturating_sub(arrival.at) < EARLY_FOR
        });
        known
    }

    /// The last minute.
    pub(super) fn figures(&self, now: Duration) -> LatencyStatus {
        LatencyStatus { kept: self.kept.figures(now), cloud: self.cloud.figures(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_buckets_of_the_histogram_take_their_bounds_in_and_never_fall() {
        let mut histogram = LatencyHistogram::default();
        for (took, reads) in [(MS, 3), (MS + Duration::from_nanos(1), 1), (3600 * SECOND, 2), (3601 * SECOND, 1)] {
            histogram.record(took, reads);
        }
        let buckets: Vec<_> = histogram.cumulative().collect();
        assert_eq!(buckets[..2], [(Some(0.001), 3), (Some(0.002), 4)]);
        assert_eq!(buckets[buckets.len() - 2..], [(Some(3600.0), 6), (None, 7)]);
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum(), 4 * MS + Duration::from_nanos(1) + 10_801 * SECOND);
    }

    #[test]
    fn every_time_lies_in_its_bucket_which_is_at_most_a_sixteenth_wide() {
        let mut next = Duration::ZERO;
        for at in 0..BUCKETS {
            let (begin, end) = (next, upper_end(at));
            assert_eq!((bucket(begin), bucket(end - Duration::from_nanos(1))), (at, at));
            assert!(at < 16 || (end - begin) * 16 <= begin, "{at}: {begin:?} to {end:?}");
            next = end;
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_read_waits_since_its_receipt_and_one_of_an_earlier_process_since_the_start_at_least() {
        let mut latency = Latency::new();
        latency.kept((7, 9), 3, 10 * SECOND, 11 * SECOND);
        let waits = |seq: u64| latency.waits(Seq(seq), Seq(5), 30 * SECOND);
        assert_eq!((waits(8), waits(4), waits(10)), (20 * SECOND, 30 * SECOND, Duration::ZERO));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut minute = LastMinute::new();
        assert_eq!(minute.figures(Duration::ZERO), None);
        minute.record(7 * SECOND, 3 * MS, 2);
        minute.record(30 * SECOND, MS, 1);
        let reads = |minute: &LastMinute, at: u32| minute.figures(at * SECOND).map(|told| (told.reads, told.worst));
        assert_eq!(reads(&minute, 30), Some((3, 3 * MS)));
        assert_eq!(reads(&minute, 64), Some((3, 3 * MS)), "the slot of the first ends at 10 s");
        assert_eq!(reads(&minute, 65), Some((1, MS)));
        assert_eq!(reads(&minute, 90), None);
        minute.record(127 * SECOND, 9 * MS, 1); // the slot of the first again
        assert_eq!(reads(&minute, 127), Some((1, 9 * MS)));
    }

    #[test]
    fn figures_are_milliseconds_in_json_and_come_back() {
        let figures = LatencyFigures { median: 2 * MS, p95: Duration::from_micros(2_130), worst: SECOND, reads: 4 };
        let json = serde_json::to_string(&figures).unwrap();
        assert_eq!(json, r#"{"median_ms":2.0,"p95_ms":2.13,"worst_ms":1000.0,"reads":4}"#);
        assert_eq!(serde_json::from_str::<LatencyFigures>(&json).unwrap(), figures);
        assert!(serde_json::from_str::<LatencyFigures>(&json.replace("2.0", "-1.0")).is_err());
    }

    #[test]
    fn a_passing_that_arrives_before_its_read_is_reported_counts_once_it_is() {
        let mut latency = Latency::new();
        assert_eq!(latency.arrived(Seq(5), 20 * MS, 1), None);
        assert_eq!(latency.caught_up(20 * MS), [], "its read is not known yet");
        assert_eq!(latency.kept((4, 6), 2, 3 * MS, 21 * MS), 18 * MS);
        assert_eq!(latency.caught_up(21 * MS), [(1, 17 * MS)]);
        assert_eq!(latency.caught_up(21 * MS), [], "once");
        assert_eq!(latency.arrived(Seq(6), 43 * MS, 1), Some(40 * MS));
        assert_eq!(latency.figures(SECOND).cloud.map(|told| (told.reads, told.worst)), Some((2, 40 * MS)));
    }

    #[test]
    fn a_read_of_an_earlier_process_is_left_out() {
        let mut latency = Latency::new();
        assert_eq!(latency.arrived(Seq(3), MS, 0), None); // it may follow
        latency.kept((10, 10), 1, MS, 2 * MS);
        assert_eq!(latency.arrived(Seq(4), 2 * MS, 0), None); // it cannot
        assert_eq!(latency.early.len(), 1);
        assert_eq!(latency.caught_up(10 * SECOND), []);
        assert_eq!(latency.early.len(), 0);
        assert_eq!(latency.figures(10 * SECOND).cloud, None);
        (20..2000).for_each(|seq| assert_eq!(latency.arrived(Seq(seq), MS, 0), None));
        assert_eq!(latency.early.len(), EARLY_MAX);
    }

    #[test]
    fn an_hour_without_internet_costs_no_more_than_a_minute_and_is_told_as_an_hour() {
        let mut latency = Latency::new();
        let received = |seq: u64| Duration::from_millis(seq * 7);
        let last = 3600 * 1000 / 7;
        for seq in 0..=last {
            latency.kept((seq, seq), 1, received(seq), received(seq) + MS);
        }
        assert!(latency.receipts.0.len() <= STRETCHES);
        let now = received(last) + SECOND;
        for seq in [0, 1, 2, 500, 77_777, last - 1000, last] {
            let (true_wait, told) = (now - received(seq), now - latency.receipts.of(seq).unwrap());
            assert!(told >= true_wait && told <= true_wait + true_wait / JOINED, "{seq}: {told:?}, {true_wait:?}");
        }
        assert_eq!(latency.receipts.of(last), Some(received(last)), "of a moment ago it is exact");
    }

    #[test]
    fn receipts_are_bounded_whatever_their_order() {
        let mut receipts = Receipts::default();
        let now = 3600 * SECOND;
        for seq in 0..50_000 {
            let at = if seq % 2 == 0 { now } else { Duration::ZERO };
            receipts.add(seq, seq, at, now);
            assert!(receipts.0.len() <= STRETCHES);
        }
        assert!((0..50_000).all(|seq| receipts.of(seq).is_some()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_figures_are_those_of_the_sorted_times_a_sixteenth_too_long_at_most(
            times in proptest::collection::vec((0u64..59, prop_oneof![0u64..40, 0u64..3_000_000, 0u64..20_000_000_000]), 1..400)
        ) {
            let mut minute = LastMinute::new();
            for (second, micros) in &times {
                minute.record(Duration::from_secs(*second), Duration::from_micros(*micros), 1);
            }
            let mut sorted: Vec<u64> = times.iter().map(|(_, micros)| *micros).collect();
            sorted.sort_unstable();
            let told = minute.figures(Duration::from_secs(59)).unwrap();
            let rank = |percent: usize| Duration::from_micros(sorted[(sorted.len() * percent).div_ceil(100) - 1]);
            for (told, exact) in [(told.median, rank(50)), (told.p95, rank(95))] {
                prop_assert!(told >= exact && told <= exact + exact / 16 + Duration::from_micros(1), "{told:?}, {exact:?}");
            }
            prop_assert_eq!(told.worst, Duration::from_micros(sorted[sorted.len() - 1]));
            prop_assert_eq!(told.reads, sorted.len() as u64);
        }

        #[test]
        fn a_receipt_is_never_later_than_it_was_and_hardly_earlier(
            gaps in proptest::collection::vec((0u64..3_000_000, 1u64..4), 2..6000)
        ) {
            let mut receipts = Receipts::default();
            let (mut seq, mut at, mut exact) = (1, 0, Vec::new());
            for (gap, entries) in gaps {
                at += gap;
                receipts.add(seq, seq + entries - 1, Duration::from_micros(at), Duration::from_micros(at));
                exact.push((seq, at));
                exact.push((seq + entries - 1, at));
                seq += entries;
            }
            for (seq, received) in exact {
                let told = micros(receipts.of(seq).unwrap());
                prop_assert!(told <= received && received - told <= (at - received) / u64::from(JOINED), "{seq}");
            }
            prop_assert_eq!(receipts.of(0), None);
            prop_assert_eq!(receipts.of(seq), None);
        }
    }

    /// How long recording takes: `cargo test --release --lib cost_of_a_read -- --ignored --nocapture`.
    #[test]
    #[ignore = "it measures and proves nothing"]
    fn cost_of_a_read() {
        const CHUNKS: u64 = 200_000;
        for reads in [1, 30] {
            let (mut latency, mut histogram) = (Latency::new(), LatencyHistogram::default());
            let (mut kept, mut arrived) = (Duration::ZERO, Duration::ZERO);
            for chunk in 0..CHUNKS {
                let (first, at) = (chunk * 100, Duration::from_micros(chunk * 500));
                let began = Instant::now();
                let took = latency.kept((first, first + 99), reads, at, at + 3 * MS);
                histogram.record(took, reads);
                let between = Instant::now();
                for read in first..first + u64::from(reads) {
                    let took = latency.arrived(Seq(read), at + 90 * MS, 0).unwrap();
                    histogram.record(took, 1);
                }
                (kept, arrived) = (kept + (between - began), arrived + between.elapsed());
            }
            let all = u128::from(CHUNKS * u64::from(reads));
            let [kept, arrived] = [kept, arrived].map(|time| time.as_nanos() / all);
            println!("{reads} reads in a chunk: {kept} ns for a read that is kept, {arrived} ns for one that arrives");
        }
    }
}
