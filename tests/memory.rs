//! What a protocol holds of a decoder's bytes stays below [`MEMORY_MAX`], whatever is sent: measured with an allocator that
//! counts, on streams made to be hostile. tests/README.md tells what it showed.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

#[path = "../fuzz/src/allowed.rs"]
mod allowed;
#[path = "../fuzz/src/harness.rs"]
#[allow(dead_code, reason = "only the options are needed here")]
mod harness;
#[path = "../fuzz/src/repair.rs"]
mod repair;
#[path = "../fuzz/src/seeds.rs"]
mod seeds;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use passbridge::chip::{Held, Label, Position};
use passbridge::protocol::{MEMORY_MAX, OUTPUT_MAX, Output, Protocol, READ_MAX, REGISTRY, Settings};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The counter is one for all threads.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of each stream.
const LENGTH: usize = 1 << 20;

/// The next piece of a stream: its `n`-th record.
type Record = Box<dyn Fn(usize) -> Vec<u8>>;

/// Feeds `stream` as the link does, to a link that asks for all it can. Most that was held after a read, and most that a
/// read made it use; with what was held before it began left out.
fn held_by(make: impl FnOnce() -> Box<dyn Protocol>, held: Held, stream: &dyn Fn(usize) -> Vec<u8>) -> (usize, usize) {
    let mut pending = Vec::with_capacity(LENGTH / 2);
    let mut records = 0;
    let mut out = Output::default();
    out.items.reserve(1 << 15);
    let before = MEMORY.current_usage();
    let mut protocol = make();
    protocol.connected(held, true, &mut out);
    let (mut most, mut most_used) = (0, 0);
    for second in 0..LENGTH / READ_MAX {
        while pending.len() < READ_MAX {
            pending.extend(stream(records));
            records += 1;
        }
        MEMORY.reset_peak_usage();
        let at = MEMORY.current_usage();
        protocol.feed(&pending[..READ_MAX], &mut out);
        most_used = most_used.max((MEMORY.peak_usage() - at.min(MEMORY.peak_usage())).max(0));
        out.items.clear(); // the link takes them
        pending.drain(..READ_MAX);
        protocol.tick(Duration::from_secs(second as u64), &mut out);
        out.items.clear();
        most = most.max(MEMORY.current_usage().saturating_sub(before));
    }
    (most, most_used)
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
            Box::new(|_| llrp(61, &[0, 240, 0, 4].repeat(4000))),
            Box::new(|n| llrp(36, &[0, 177, 0, 4].repeat(n % 1000))),
        ],
        "mylaps" => vec![
            text(|n| format!("L{n}@Pong@$L{n}@Passing@c=A{n}|t=09:05:03.125|d=260726@{n}@$")),
            text(|n| format!("L{n}{}", "@c=1".repeat(65_536))),
            text(|_| "a$".to_owned()),
        ],
        _ => vec![],
    }
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

/// What is tried on every protocol: bytes that begin something and never end it, and its own samples, each with a byte missing.
fn hostile(name: &str) -> Vec<Record> {
    let mut all = own(name);
    for byte in *b"x{[\"0a$@#\0\x03\x04\x8d\x8e\n" {
        all.push(Box::new(move |_| vec![byte; 4096]));
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let samples: Vec<Vec<u8>> =
        seeds::samples(&tests).into_iter().filter(|(of, ..)| *of == name).map(|(_, _, bytes)| bytes).collect();
    let cut = samples.clone();
    all.push(Box::new(move |n| {
        let mut bytes = cut[n % cut.len()].clone();
        bytes.remove(n / cut.len() % bytes.len());
        bytes
    }));
    all.push(Box::new(move |n| samples[n % samples.len()].clone()));
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
        let (mut most, mut most_used) = (0, 0);
        for set in harness::options(spec.name) {
            for (at, stream) in hostile(spec.name).iter().enumerate() {
                let (held, used) = held_by(|| (spec.make)(&set).unwrap(), Held::default(), stream);
                if held > MEMORY_MAX || used > OUTPUT_MAX {
                    wrong += &format!("{} {set:?} stream {at}: holds {held}, a read uses {used}\n", spec.name);
                }
                (most, most_used) = (most.max(held), most_used.max(used));
            }
        }
        println!("{}: holds up to {} KB, a read uses up to {} KB", spec.name, most >> 10, most_used >> 10);
    }
    assert_eq!(wrong, "");
}

#[test]
fn a_link_that_knows_all_it_can_still_holds_less_than_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for spec in
        REGISTRY.iter().filter(|spec| ["chronotrack", "one4all", "p3", "raceresult", "ultra"].contains(&spec.name))
    {
        for stream in own(spec.name) {
            let make = || (spec.make)(&Settings::new()).unwrap();
            let before = MEMORY.current_usage();
            let held = everything();
            let told = MEMORY.current_usage() - before;
            let (most, _) = held_by(make, held, &stream);
            assert!(most + told <= MEMORY_MAX, "{}: {told} told, {most} more held", spec.name);
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
    let (held, _) = held_by(|| Box::new(Hoarder(Vec::new())), Held::default(), &|_| vec![0; 1000]);
    assert!(held >= LENGTH, "{held}");
}
