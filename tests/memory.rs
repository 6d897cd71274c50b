//! What a protocol holds of a decoder's bytes stays below [`MEMORY_MAX`], whatever is sent:
//! measured with an allocator that counts, on streams made to be hostile. tests/README.md tells
//! what it showed.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

mod support;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use passbridge::testing::decoders::trials::{MakeRecord, STREAM};
use passbridge::testing::decoders::{
    self, MEMORY_MAX, Missed, OUTPUT_MAX, Output, Protocol, READ_MAX, REGISTRY, Settings, Spec,
};
use passbridge::testing::model::chip::{Label, Position, StoredRanges};
use peak_alloc::PeakAlloc;

use crate::support::fuzz::seeds;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The counter is one for all threads.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of a stream where all is held that can be; one that begins things and never ends them
/// shows what it does in less. Times `PASSBRIDGE_TIMES`.
const LENGTH: usize = STREAM;
const SHORT: usize = 48 << 10;
/// Bytes that arrive between two ticks.
const SECOND: usize = 16 * READ_MAX;

fn times() -> usize {
    std::env::var("PASSBRIDGE_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Most bytes of memory.
#[derive(Default)]
struct Most {
    /// After a read, when the link has taken what it put out.
    held: usize,
    /// During a read, beyond what was held before it.
    used: usize,
}

/// Feeds `length` bytes as the link does, to a link that asks for all it can.
fn measure(
    make: impl FnOnce() -> Box<dyn Protocol>,
    held: StoredRanges,
    length: usize,
    record: &dyn Fn(usize) -> Vec<u8>,
) -> Most {
    let (mut pending, mut records, mut most) = (Vec::new(), 0, Most::default());
    let before = MEMORY.current_usage();
    let mut protocol = make();
    protocol.connected(held, true, &mut Output::default());
    for read in 0..length / READ_MAX {
        while pending.len() < READ_MAX {
            pending.extend(record(records));
            records += 1;
        }
        let rest = pending.split_off(READ_MAX);
        let mut out = Output::default();
        MEMORY.reset_peak_usage();
        let at = MEMORY.current_usage();
        protocol.feed(&pending, &mut out);
        most.used = most.used.max(MEMORY.peak_usage() - at);
        drop(out); // the link takes it
        pending = rest;
        if read % (SECOND / READ_MAX) == 0 {
            protocol.tick(Duration::from_secs((read * READ_MAX / SECOND) as u64), &mut Output::default());
        }
        most.held = most.held.max((MEMORY.current_usage() - size(&pending)).saturating_sub(before));
    }
    most
}

fn size(bytes: &Vec<u8>) -> usize {
    bytes.capacity()
}

/// What is tried on every protocol: its own records, bytes that begin something and never end it,
/// its samples, and the same each with a byte missing.
fn hostile(spec: &Spec) -> Vec<(usize, MakeRecord)> {
    let mut all: Vec<(usize, MakeRecord)> =
        (spec.trials.hostile)().into_iter().map(|stream| (stream.length, stream.record)).collect();
    for byte in *b"x{[\"0a$@#\0\x03\x04\x8d\x8e\n" {
        all.push((SHORT, Box::new(move |_| vec![byte; 4096])));
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let samples: Vec<Vec<u8>> = seeds::samples(spec, project).into_iter().map(|(_, bytes)| bytes).collect();
    let cut = samples.clone();
    let one_less: MakeRecord = Box::new(move |n| {
        let mut bytes = cut[n % cut.len()].clone();
        bytes.remove(n / cut.len() % bytes.len());
        bytes
    });
    all.push((SHORT, one_less));
    all.push((SHORT, Box::new(move |n| samples[n % samples.len()].clone())));
    all
}

/// As much as a link can be told.
fn everything() -> StoredRanges {
    let mut held = StoredRanges::default();
    for file in 0..StoredRanges::FILES as u64 {
        for number in 0..StoredRanges::RANGES as u64 {
            let file = Some(Label::Number(file)).filter(|_| file > 16);
            held.insert(&Position { unit: Some(format!("unit {file:?}").into()), file, number: number * 2 + 1 });
        }
    }
    held
}

#[test]
fn no_stream_makes_a_protocol_hold_more_than_its_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wrong = String::new();
    for spec in REGISTRY {
        let mut worst = Most::default();
        let streams = hostile(spec);
        for (nth, set) in spec.trials.options.iter().take(2).map(|set| decoders::settings(set)).enumerate() {
            // Its own records under both, the others under the first.
            let tried = if nth == 0 { streams.len() } else { (spec.trials.hostile)().len() };
            for (at, (length, record)) in streams.iter().take(tried).enumerate() {
                let make = || (spec.make)(&set).unwrap();
                let most = measure(make, StoredRanges::default(), length * times(), record);
                if most.held > MEMORY_MAX || most.used > OUTPUT_MAX {
                    wrong +=
                        &format!("{} {set:?} stream {at}: holds {}, a read uses {}\n", spec.name, most.held, most.used);
                }
                worst = Most { held: worst.held.max(most.held), used: worst.used.max(most.used) };
            }
        }
        println!("{}: holds up to {} KB, a read uses up to {} KB", spec.name, worst.held >> 10, worst.used >> 10);
    }
    assert_eq!(wrong, "");
}

#[test]
fn a_link_that_is_told_all_there_can_be_holds_less_than_the_limit_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for spec in REGISTRY.iter().filter(|spec| spec.missed == Missed::Stored) {
        let name = spec.name;
        let all = everything();
        for (at, stream) in (spec.trials.hostile)().iter().enumerate() {
            let before = MEMORY.current_usage();
            let held = all.clone();
            let told = MEMORY.current_usage() - before;
            let most = measure(|| (spec.make)(&Settings::new()).unwrap(), held, LENGTH, &stream.record);
            println!("{name} {at}: told {} KB, holds up to {} KB more", told >> 10, most.held >> 10);
            assert!(told <= 2 << 20, "told {told}");
            assert!(most.held <= MEMORY_MAX, "{name} stream {at}: holds {} more than it was told", most.held);
        }
    }
}

/// That the measuring sees what it should.
#[test]
fn a_protocol_that_keeps_what_it_is_sent_is_found() {
    struct Hoarder(Vec<u8>);
    impl Protocol for Hoarder {
        fn feed(&mut self, bytes: &[u8], _: &mut Output) {
            self.0.extend_from_slice(bytes);
        }
        fn end(&mut self, _: &mut Output) {}
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let most = measure(|| Box::new(Hoarder(Vec::new())), StoredRanges::default(), LENGTH, &|_| vec![0; 1000]);
    assert!(most.held >= LENGTH, "{}", most.held);
}
