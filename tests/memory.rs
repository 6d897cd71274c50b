//! What a protocol holds of a decoder's bytes stays below [`MEMORY_MAX`], whatever is sent: measured with an allocator that
//! counts, on streams made to be hostile. tests/README.md tells what it showed.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

mod support;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use passbridge::chip::{Held, Label, Position};
use passbridge::protocol::{self, MEMORY_MAX, OUTPUT_MAX, Output, Protocol, READ_MAX, REGISTRY, Settings};
use peak_alloc::PeakAlloc;

use crate::support::fuzz::{harness, repair, seeds};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The counter is one for all threads.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of a stream; one that begins things and never ends them shows what it does in less. Times `PASSBRIDGE_TIMES`.
const LENGTH: usize = 400 << 10;
const SHORT: usize = 48 << 10;
/// Bytes that arrive between two ticks.
const SECOND: usize = 16 * READ_MAX;

/// The next piece of a stream: its `n`-th record.
type Record = Box<dyn Fn(usize) -> Vec<u8>>;

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
    held: Held,
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

/// Records of `name` as it likes to see them, each of another box, location, file or unit, with numbers that leave gaps.
fn own(name: &str) -> Vec<Record> {
    let long = "x".repeat(3900);
    let longer = long.clone();
    let text = |line: fn(usize) -> String| -> Record { Box::new(move |n| line(n).into_bytes()) };
    match name {
        "chronotrack" => vec![
            text(|n| format!("CT01_33~{}~L{n}~AB{n}~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 7 + 1)),
            text(|n| format!("CT01_33~{}~L{n}~newlocation~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 7 + 1)),
            Box::new(move |n| {
                format!("ack~getlocations~{n}{long}\r\nCT01_33~9~{n}{longer}~A~2026-07-26T09:05:03~1~~1\r\n").into()
            }),
            text(|n| {
                format!("ack~getlocations~Finish\r\nCT01_33~{}~Finish~AB~2026-07-26T09:05:03.125~1~0A~1\r\n", n * 2 + 1)
            }),
            text(|n| "~".repeat(1 + n % 4000)),
        ],
        "cloudbox" | "impinj" => vec![
            text(|_| "{\"a\":".to_owned()),
            text(|_| "{\"a\":[".repeat(31) + "}"),
            text(|n| format!("{{\"epc\":\"{n}{}", "\\\\".repeat(9000))),
            text(|n| {
                format!(
                    "{{\"epc\":\"{n}\",\"timestamp\":\"2026-07-26T09:05:03Z\",\"antenna\":{n},\"x\":\"{}\"}}",
                    "y".repeat(16_200)
                )
            }),
        ],
        "one4all" => vec![
            Box::new(move |n| {
                format!("{};MC;{:05};2019-12-12;09:02:07.295;3;4;{long}\r\n", n * 2 + 1, n % 100_000).into()
            }),
            text(|n| {
                format!(
                    "HELLO\r\nGETSTATUS;SERIAL;U{n};20191212-{:06}.csv\r\n{};MC;00001;2019-12-12;09:02:07.295;3;4;a\r\n\r\n",
                    n % 235_959,
                    n * 2 + 1
                )
            }),
            text(|n| {
                format!(
                    "START;2019{:02}12-09{:02}06.csv\r\n{};MC;00001;2019-12-12;09:02:07.295;3;4;a\r\n",
                    n % 12 + 1,
                    n % 60,
                    n * 3 + 1
                )
            }),
            text(|n| format!("GETPROTOCOL;3.0\r\nGETSTATUS;{}\r\nPASSINGS;{}\r\n", n, n * 1000)),
            text(|n| format!("{n}|")),
        ],
        "raceresult" => vec![
            text(|n| {
                format!("#P;{};C{n};2026-07-26;09:05:03.125;;75;-68;;1;8;8;1;6233;3.0;17;0;Box;{n};4;D-{n}\r\n", n * 3)
            }),
            Box::new(move |n| {
                format!(
                    "#P;{};C{n};2026-07-26;09:05:03.125;;75;-68;;1;8;8;1;6233;3.0;17;0;Box;F{n};4;D-{n}{long}\r\n",
                    n * 3
                )
                .into()
            }),
            text(|n| {
                format!(
                    "GETPROTOCOL;2.0;1.0;2.0\r\nSETPROTOCOL\r\nGETCONFIG;GENERAL;BOXNAME;B;D{n}\r\nSETPUSHPASSINGS\r\nPASSINGS;{};{n}\r\n{n};C;2026-07-26;09:05:03.125;;75;-68\r\n\r\n",
                    n * 1000 + 1
                )
            }),
            text(|n| format!("GETSTATUS;2026-07-26;09:05:03.125;1;1;{};177;;;;{};;;;;;;;;;;;;;{n}\r\n", n % 2, n % 90)),
        ],
        "ultra" => vec![
            text(|n| format!("0,1{n},1170518701,698,1,-71,0,2,{n},0000000000000000,0,{}\n", n * 3)),
            text(|n| format!("0,1{n},{},698,1,-71,0,2,1,0000000000000000,0,{}\n", 1_170_518_701 + n, n * 3)),
            text(|n| format!("0,1,{},698,1,-71,0,2,1,0000000000000000,0,{}\n", 1_170_518_701 + n, 1_000_000 - n)),
            text(|n| format!("\x03{}", "y".repeat(1 + n % 250))),
            text(|_| "0,1,1170518701,698,1,-71,0,2,1,\n".to_owned()),
        ],
        "p3" => vec![
            Box::new(|n| p3(n as u32 * 3, 1)),
            Box::new(|n| p3(n as u32 * 3, n as u32)),
            Box::new(|n| p3(u32::MAX - n as u32 * 2, (n % 17) as u32)),
            Box::new(|n| vec![0x8e, 0x8d, n as u8, 0x8d]),
        ],
        "llrp" => vec![
            Box::new(|n| {
                llrp(
                    63,
                    &[[0, 246, 0, 11, 0, 255, 0, 7, 0], [(n >> 8) as u8, n as u8, 0, 0, 0, 0, 0, 0, 0]].concat()[..11],
                )
            }),
            Box::new(|_| [&[4, 61, 0, 4, 0, 0, 0, 0, 0, 1][..], &[0; 262_134]].concat()),
            Box::new(|_| llrp(61, &[0, 240, 0, 4].repeat(65_000))),
            Box::new(|_| {
                llrp(63, &tlv(246, &[[0, 255, 0, 7, 0, 0, 1], [0, 255, 0, 7, 1, 0, 1]].concat().repeat(4600)))
            }),
            Box::new(|n| llrp(36, &[0, 177, 0, 4].repeat(n % 1000))),
        ],
        "mylaps" => vec![
            text(|n| format!("L{n}@Pong@$L{n}@Passing@c=A{n}|t=09:05:03.125|d=260726@{n}@$")),
            text(|n| format!("L{n}{}", "@c=1".repeat(65_536))),
            text(|_| "a$".to_owned()),
            text(|_| format!("L@Passing{}@1@$", "@x".repeat(130_000))),
            text(|_| format!("{}@Passing{}@1@$", "L".repeat(200_000), "@c=A|t=09:05:03".repeat(3000))),
            text(|_| format!("{}@Passing{}@1@$", "L".repeat(127), "@c=A|t=09:05:03".repeat(17_000))),
        ],
        _ => vec![],
    }
}

fn tlv(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn llrp(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 10).to_be_bytes();
    [&(0x400 | kind).to_be_bytes()[..], &length, &[0, 0, 0, 1], body].concat()
}

fn p3(number: u32, decoder: u32) -> Vec<u8> {
    let (number, decoder) = (number.to_le_bytes(), decoder.to_le_bytes());
    let time = [0x40, 0x8f, 0x2a, 0xb5, 0x1e, 0x83, 0x05, 0].map(|byte| if byte > 0x8c { 0 } else { byte });
    let tags = [&[1, 4][..], &number, &[3, 4, 1, 2, 3, 4, 4, 8], &time, &[0x81, 4], &decoder].concat();
    let tags = tags.iter().flat_map(|byte| match byte {
        0x8d..=0x8f => vec![0x8d, byte + 0x20],
        byte => vec![*byte],
    });
    let mut frame: Vec<u8> = [0x8e, 2, 0, 0, 0, 0, 0, 0, 1, 0].into_iter().chain(tags).chain([0x8f]).collect();
    repair::repair("p3", &Settings::new(), &mut frame);
    frame
}

/// What is tried on every protocol: its own records, bytes that begin something and never end it, its samples, and the
/// same each with a byte missing.
fn hostile(name: &str) -> Vec<(usize, Record)> {
    let mut all: Vec<(usize, Record)> = own(name).into_iter().map(|record| (LENGTH, record)).collect();
    if name == "one4all" {
        all[0].0 = 2 << 20; // more rows than may wait for the name of their file
    }
    for byte in *b"x{[\"0a$@#\0\x03\x04\x8d\x8e\n" {
        all.push((SHORT, Box::new(move |_| vec![byte; 4096])));
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let samples: Vec<Vec<u8>> =
        seeds::samples(&tests).into_iter().filter(|(of, ..)| *of == name).map(|(_, _, bytes)| bytes).collect();
    let cut = samples.clone();
    let one_less: Record = Box::new(move |n| {
        let mut bytes = cut[n % cut.len()].clone();
        bytes.remove(n / cut.len() % bytes.len());
        bytes
    });
    all.push((SHORT, one_less));
    all.push((SHORT, Box::new(move |n| samples[n % samples.len()].clone())));
    all
}

/// As much as a link can be told.
fn everything() -> Held {
    let mut held = Held::default();
    for file in 0..Held::FILES as u64 {
        for number in 0..Held::RANGES as u64 {
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
        let streams = hostile(spec.name);
        for (nth, set) in harness::options(spec.name).iter().take(2).enumerate() {
            // Its own records under both, the others under the first.
            let tried = if nth == 0 { streams.len() } else { own(spec.name).len() };
            for (at, (length, record)) in streams.iter().take(tried).enumerate() {
                let make = || (spec.make)(set).unwrap();
                let most = measure(make, Held::default(), length * times(), record);
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
    for name in ["chronotrack", "one4all", "p3", "raceresult", "ultra"] {
        let spec = protocol::spec(name).unwrap();
        let all = everything();
        for (at, record) in own(name).iter().enumerate() {
            let before = MEMORY.current_usage();
            let held = all.clone();
            let told = MEMORY.current_usage() - before;
            let most = measure(|| (spec.make)(&Settings::new()).unwrap(), held, LENGTH, record);
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
    let most = measure(|| Box::new(Hoarder(Vec::new())), Held::default(), LENGTH, &|_| vec![0; 1000]);
    assert!(most.held >= LENGTH, "{}", most.held);
}
