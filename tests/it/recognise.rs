//! Which protocol do these bytes look like? Every sample and capture of the repository as its own
//! protocol, whole, joined in mid-stream and behind noise; and everything that is no decoder as
//! none.

use std::collections::BTreeSet;

use passbridge::testing::commands::probe::{Candidate, Grade, recognise};
use passbridge::testing::decoders::{REGISTRY, spec};
use passbridge::testing::link::capture::{self, Direction, What};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::recording;
use crate::support::samples::{self, folder, hex, raw};

/// Single samples that do not say what they are, what is said of them, and why.
const AMBIGUOUS: &[(&str, &[&str], &str)] = &[
    ("jchip-p08", &[], "`XX` is of no protocol"),
    ("macsha_one4all-p15", &[], "an empty line"),
    ("raceresult-p14", &[], "an empty line"),
    ("macsha_one4all-p08", &["one4all", "raceresult"], "GETPROTOCOL is answered alike by both"),
    ("raceresult-p09", &["one4all", "raceresult"], "GETPROTOCOL is answered alike by both"),
    ("raceresult-p10", &["one4all", "raceresult"], "SETPROTOCOL is a word of both"),
    ("raceresult-p12", &["one4all", "raceresult"], "PASSINGS with nothing but a count is answered alike by both"),
];

/// `lines` is not: it needs an expression.
fn is_recognised(protocol: &str) -> bool {
    spec(protocol).is_some_and(|spec| spec.recogniser.is_some())
}

/// `(protocol, sample)` of what can be recognised.
fn samples() -> Vec<(&'static str, Value)> {
    samples::samples().into_iter().filter(|(protocol, _)| is_recognised(protocol)).collect()
}

/// `(protocol, bytes)` of every decoder's first capture, of what can be recognised.
fn captures() -> Vec<(String, Vec<u8>)> {
    let mut captures = Vec::new();
    for spec in REGISTRY.iter().filter(|spec| spec.recogniser.is_some()) {
        let content = std::fs::read(folder(spec).join(format!("captures/{}.capture", spec.name))).unwrap();
        let records = capture::CaptureReader::new(&content[..]).unwrap().map(|record| record.unwrap().what);
        let said = records.filter_map(|what| match what {
            What::Bytes(Direction::From, bytes) => Some(bytes),
            _ => None,
        });
        captures.push((spec.name.to_owned(), said.flatten().collect()));
    }
    captures
}

fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|candidate| candidate.spec.name).collect()
}

fn told(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(|one| format!("{} {:?} {:?}", one.spec.name, one.grade, one.tally)).collect()
}

#[test]
fn every_sample_is_recognised_as_its_own_protocol_or_is_listed_as_ambiguous() {
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::new();
    for (protocol, sample) in samples() {
        let id = sample["id"].as_str().unwrap();
        let found = recognise(&raw(&sample));
        if let Some((_, expected, why)) = AMBIGUOUS.iter().find(|(listed, ..)| *listed == id) {
            listed.insert(id.to_owned());
            let mut names = names(&found);
            names.sort_unstable();
            if names != **expected || found.iter().any(|one| one.grade != Grade::Possible) {
                wrong.push(format!("{id} ({why}): {:?}", told(&found)));
            }
            continue;
        }
        let reads = ["passing", "batch", "report"].contains(&sample["expect"]["kind"].as_str().unwrap());
        // A sample that is one whole record is more than possible.
        let least = if reads && found.first().is_some_and(|best| best.tally.reads > 0) {
            Grade::Likely
        } else {
            Grade::Possible
        };
        if names(&found) != [protocol] || found[0].grade < least {
            wrong.push(format!("{id}: {:?}", told(&found)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(listed.len(), AMBIGUOUS.len(), "all that are listed exist");
}

#[test]
fn every_capture_is_certain_whole_and_from_any_place_on() {
    let mut wrong = Vec::new();
    for (protocol, bytes) in captures() {
        let found = recognise(&bytes);
        if names(&found) != [&*protocol] || found[0].grade != Grade::Certain {
            wrong.push(format!("{protocol} whole: {:?}", told(&found)));
        }
        // From every place in its first half on: half a message at most is lost.
        for from in 0..bytes.len() / 2 {
            let found = recognise(&bytes[from..]);
            if found.first().is_none_or(|best| best.spec.name != protocol || best.grade < Grade::Likely) {
                wrong.push(format!("{protocol} from {from}: {:?}", told(&found)));
            }
        }
    }
    assert_eq!(wrong.iter().take(20).collect::<Vec<_>>(), Vec::<&String>::new(), "{} in all", wrong.len());
}

/// Other people's files, not in this repository: looked for in
/// `../shared/real`, or where `PASSBRIDGE_SHARED` points to.
#[test]
fn every_recording_of_a_real_decoder_is_certain_from_any_place_on() {
    for (file, protocol) in
        [("ipico-elite-fs-ls-2018.log", "ipico"), ("one4all-20191212-090206.csv", "one4all"), ("p3-short.hex", "p3")]
    {
        let Some(bytes) = recording("every_recording_of_a_real_decoder_is_certain_from_any_place_on", file) else {
            continue;
        };
        let bytes = if file.ends_with(".hex") { hex(std::str::from_utf8(&bytes).unwrap()) } else { bytes };
        for from in (0..bytes.len() / 2).step_by(97) {
            // As much as comes in the first moments.
            let found = recognise(&bytes[from..bytes.len().min(from + 600)]);
            assert_eq!(names(&found), [protocol], "{file} from {from}");
            assert_eq!(found[0].grade, Grade::Certain, "{file} from {from}: {:?}", told(&found));
        }
    }
}

#[test]
fn nothing_that_is_no_decoder_is_taken_for_one() {
    let strangers: &[&[u8]] = &[
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nDate: Fri, 06 Mar 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23\xff\xfd\x27",
        b"\r\nDebian GNU/Linux 12 box ttyS0\r\n\r\nbox login: ",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n",
        b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x0a",
        b"\x01\x03\x02\x00\x0a\x38\x43",
        b"220 ftp.example.org FTP server ready\r\n",
        b"OK\r\nERROR\r\nREADY;1\r\nUSB device\r\n",
        b"{\"status\":\"ok\",\"uptime\":12}\n{\"error\":null}\n",
        b"hello world\r\nthis is a line\r\n\r\n",
        b"",
        b"\r\n\r\n\r\n",
        &[0; 4096],
        &[0xff; 4096],
        &[b'U'; 4096],
    ];
    for bytes in strangers {
        assert_eq!(
            told(&recognise(bytes)),
            Vec::<String>::new(),
            "{}",
            passbridge::testing::model::escape::escape(&bytes[..bytes.len().min(60)])
        );
    }
}

/// What a line says when it is read at another rate: each bit sampled at the wrong time.
fn resampled(bytes: &[u8], sent: u32, read: u32) -> Vec<u8> {
    // 8N1: a start bit, the lowest bit first, a stop bit.
    let bits: Vec<bool> = bytes
        .iter()
        .flat_map(|byte| [false].into_iter().chain((0..8).map(move |bit| byte >> bit & 1 == 1)).chain([true]))
        .collect();
    let level = |time: f64| bits.get((time * f64::from(sent)) as usize).copied().unwrap_or(true);
    let (bit, end) = (1.0 / f64::from(read), bits.len() as f64 / f64::from(sent));
    let (mut time, mut seen) = (0.0, Vec::new());
    while time < end {
        if level(time) {
            time += bit / 16.0; // waiting for a start bit
            continue;
        }
        let byte = (0..8).fold(0, |byte, at| byte | u8::from(level(time + bit * (1.5 + f64::from(at)))) << at);
        seen.push(byte);
        time += bit * 9.5;
    }
    seen
}

#[test]
fn a_line_that_is_read_at_a_wrong_rate_is_none_of_them() {
    let mut checked = 0;
    for (protocol, bytes) in
        captures().iter().filter(|(protocol, _)| ["ipico", "timy", "raceresult", "impinj"].contains(&&**protocol))
    {
        assert_eq!(&resampled(bytes, 9600, 9600), bytes, "at the right rate nothing changes");
        for sent in [9600, 38400, 115_200] {
            for read in [2400, 4800, 9600, 19200, 38400, 57600, 115_200] {
                if sent == read {
                    continue;
                }
                let garbage = resampled(bytes, sent, read);
                assert_eq!(
                    told(&recognise(&garbage)),
                    Vec::<String>::new(),
                    "{protocol} sent at {sent}, read at {read}"
                );
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 4 * 3 * 6);
}

#[test]
fn where_two_protocols_read_the_same_neither_is_certain() {
    let line = b"GETPROTOCOL;3.1;1.0;3.3\r\n";
    assert_eq!(names(&recognise(line)).len(), 2);
    // Half of one, half of another: a wire with two decoders on it, or a capture of two.
    let mixed = [captures()[3].1.clone(), captures()[9].1.clone()].concat();
    assert!(recognise(&mixed).iter().all(|one| one.grade < Grade::Certain), "{:?}", told(&recognise(&mixed)));
}

#[test]
fn the_older_dialects_are_found_with_the_options_that_read_them() {
    let found = recognise(
        b"CONECTADO_12|MC00001D20150414T120755416T120758010A1R034TV|MC00002D20150414T120756416T120759010A1R004TV|",
    );
    assert_eq!((found[0].spec.name, found[0].grade), ("one4all", Grade::Certain));
    assert_eq!(found[0].settings.get("dialect").map(String::as_str), Some("v2"));
    let found =
        recognise(b"CT01_33~6~finish~9478~50535310~0~0F2A38~1\r\nCT01_33~7~finish~9479~50535410~0~0F2A38~1\r\n");
    assert_eq!(found[0].settings.get("time_format").map(String::as_str), Some("msecs"));
}

proptest! {
    #[test]
    fn noise_is_none_of_them(noise in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let found = recognise(&noise);
        prop_assert!(found.is_empty(), "{:?}", told(&found));
    }

    #[test]
    fn a_capture_between_noise_is_still_its_own(
        before in proptest::collection::vec(any::<u8>(), 0..40),
        after in proptest::collection::vec(any::<u8>(), 0..40),
        which in any::<proptest::sample::Index>(),
    ) {
        let captures = captures();
        let (protocol, bytes) = which.get(&captures);
        let found = recognise(&[before.as_slice(), b"\r\n", bytes.as_slice(), &after].concat());
        prop_assert!(found.first().is_some_and(|best| best.spec.name == protocol), "{protocol}: {:?}", told(&found));
    }
}
