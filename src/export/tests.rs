//! Exports of random logs, compared with a plain reading of the whole log, and tests of which parts
//! of a log a window reads.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::config::TagCode;
use crate::journal::entry::write_line;
use crate::journal::log::{Log, LogReader, segments};
use crate::journal::{Batch, Found, UploadEvent, UploadItem, log_dir};
use crate::model::chip::{ChipRead, Marker, Position, Seq};
use crate::model::clock::Step;
use crate::model::correction::{Correction, Corrections};
use jiff::tz::TimeZone;

mod finding;

const START: i64 = 1_780_000_000_000;
const SOURCES: [&str; 3] = ["mat", "gate", "old"];

/// A box whose journal the test writes event by event.
struct Written {
    dir: tempfile::TempDir,
    log: Log,
    now: i64,
    random: fastrand::Rng,
    devices: [Device; 2],
    markers: u64,
    /// How often a passing was left open by its batch.
    left_behind: usize,
    corrections: Corrections,
    /// How often a passing was sent again because its time was corrected.
    replaced: usize,
}

/// The behaviour of an uplink, as far as the log shows it.
#[derive(Default)]
struct Device {
    source: &'static str,
    token: String,
    next: u64,
    /// Waiting reads, with their stamps.
    waiting: Vec<(u64, i64)>,
    returned: Vec<UploadItem>,
    open: Vec<UploadItem>,
    /// The session in which the open passings are numbered.
    open_in: String,
    sent: Vec<UploadItem>,
    /// Reads that are held back.
    held: Vec<(u64, i64, ChipRead)>,
}

impl Written {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&log_dir(dir.path()), "test", None).unwrap().0;
        let device = |source| Device { source, token: format!("{source}-1"), next: 1, ..Device::default() };
        let (random, devices) = (fastrand::Rng::with_seed(seed), [device("mat"), device("gate")]);
        let corrections = Corrections::default();
        Self { dir, log, now: START, random, devices, markers: 0, left_behind: 0, corrections, replaced: 0 }
    }

    fn write(&mut self, subject: &str, body: Body) -> u64 {
        let seq = self.log.next;
        self.now += self.random.i64(0..2000);
        let time = Timestamp::from_millisecond(self.now).unwrap();
        let entry = Entry { seq, in_group: 0, subject: subject.into(), time, body, raw: (*b"raw").into() };
        let mut line = Vec::new();
        write_line(&mut line, &entry);
        self.log.append(&line, 1).unwrap();
        seq
    }

    fn read(&mut self, source: &'static str) {
        // Now and then a read that was stored long before, and a read of a decoder that knows no
        // date.
        let ms = self.now - if self.random.u8(..8) == 0 { self.random.i64(0..3_000_000) } else { 0 };
        let instant = Timestamp::from_millisecond(ms).unwrap();
        let local = TimeZone::get("Europe/Madrid").unwrap().to_datetime(instant);
        let stamp: Stamp = match source {
            "gate" => local.time().strftime("%H:%M:%S%.3f").to_string().parse().unwrap(),
            _ => Stamp::Local(local),
        };
        let chip = format!("C{}", self.random.u8(..));
        let mut read = ChipRead::new(chip, stamp);
        read.held_back = source != "old" && self.random.u8(..8) == 0;
        let seq = self.write(source, Body::Read(read.clone()));
        if let Some(device) = self.devices.iter_mut().find(|device| device.source == source && read.held_back) {
            device.held.push((seq, ms, read));
        } else if let Some(device) = self.devices.iter_mut().find(|device| device.source == source) {
            device.waiting.push((seq, ms));
        }
    }

    fn event(&mut self, at: usize, event: impl FnOnce(Box<str>) -> UploadEvent) {
        let device: Box<str> = self.devices[at].source.into();
        self.write(&device.clone(), Body::Upload(event(device)));
    }

    fn batch(&mut self, at: usize) {
        let most = self.random.usize(1..40);
        let device = &mut self.devices[at];
        // Passings that are left behind stay open beside the batch. The rest is settled, whether or
        // not a line says so.
        let left_behind = device.open_in == device.token && self.random.u8(..4) == 0;
        let left: Vec<_> = device.open.drain(..usize::from(left_behind && !device.open.is_empty())).collect();
        let still_open: Vec<u64> = left.iter().map(|item| item.num).collect();
        self.left_behind += still_open.len();
        device.sent.append(&mut device.open);
        let (mut items, mut dead, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let returned = device.returned.drain(..).map(|item| (item.seq.0, item.time_ms - item.corrected_ms));
        let some = device.waiting.len().min(most);
        for (seq, time_ms) in returned.chain(device.waiting.drain(..some)) {
            let num = device.next;
            let (bib, chip) = ("7".into(), "C7".into());
            match self.random.u8(..12) {
                0 => dead.push(Seq(seq)),
                1 => found.push(Found {
                    seq: Seq(seq),
                    session: "other".into(),
                    num: 900 + seq,
                    time_ms,
                    corrected_ms: 0,
                    bib,
                    chip,
                }),
                _ => {
                    // With another time: the zone was a different one when the passing was
                    // uploaded.
                    let time_ms = time_ms + if self.random.u8(..6) == 0 { 7_200_000 } else { 0 };
                    let item = UploadItem { seq: Seq(seq), num, time_ms, corrected_ms: 0, bib, chip };
                    items.push(item.corrected_by(self.corrections.shift_ms(device.source, seq)));
                    device.next += 1;
                }
            }
        }
        let (session, through) = (device.token.as_str().into(), Seq(items.last().map_or(0, |item| item.seq.0)));
        device.open = left.into_iter().chain(items.iter().cloned()).collect();
        device.open_in.clone_from(&device.token);
        let decoders = vec![device.source.into()];
        let duplicates = Vec::new();
        self.event(at, |device| {
            UploadEvent::Batch(Batch { device, session, items, dead, duplicates, found, still_open, through, decoders })
        });
    }

    fn settle(&mut self, at: usize) {
        let (device, all) = (&mut self.devices[at], self.random.bool());
        if device.open.is_empty() {
            return;
        }
        let some = if all { device.open.len() } else { self.random.usize(1..=device.open.len()) };
        let done: Vec<UploadItem> = device.open.drain(..some).collect();
        let (first, last) = (done[0].num, done[done.len() - 1].num);
        match self.random.u8(..10) {
            0 => {
                device.returned.extend(done);
                if self.random.bool() {
                    device.token += "+";
                    device.next = 1;
                }
                self.event(at, |device| UploadEvent::Released { device, first, last });
            }
            1 => {
                let again = self.random.bool();
                if again {
                    // It will be in a later batch, like a released passing.
                    device.returned.push(done[0].clone());
                }
                device.open.splice(0..0, done.into_iter().skip(1));
                self.event(at, |device| UploadEvent::DeadLetter {
                    device,
                    num: first,
                    status: 400,
                    answer: "no".into(),
                    again,
                });
            }
            _ => {
                device.sent.extend(done);
                self.event(at, |device| UploadEvent::Accepted { device, first, last, duplicates: 0 });
            }
        }
    }

    fn let_go(&mut self, at: usize) {
        for (of, ms, read) in std::mem::take(&mut self.devices[at].held) {
            if self.random.u8(..4) == 0 {
                self.devices[at].held.push((of, ms, read));
                continue;
            }
            let read = ChipRead { held_back: false, let_go: Some(Box::new((Seq(of), Seq(of)))), ..read };
            let seq = self.write(self.devices[at].source, Body::Read(read));
            self.devices[at].waiting.push((seq, ms));
        }
    }

    fn again(&mut self, at: usize) {
        let device = &mut self.devices[at];
        if !device.open.is_empty() || device.sent.is_empty() {
            return;
        }
        let place = self.random.usize(..device.sent.len());
        let item = device.sent.remove(place);
        device.open.push(item.clone());
        let session: Box<str> = device.token.as_str().into();
        self.event(at, |device| UploadEvent::Batch(Batch::resend(&device, &session, vec![item])));
    }

    /// Somebody corrects the times of some entries of a decoder.
    fn correct(&mut self, source: &'static str) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            let low = ranges.last().map_or(1, |(_, last)| last + 2);
            let first = self.random.u64(low..self.log.next.max(low + 1));
            ranges.push((first, first + self.random.u64(..60)));
        }
        ranges.retain(|(_, last)| *last < self.log.next);
        let shift_ms = [18_000_000, -18_000_000, 90_000][self.random.usize(..3)];
        let correction = Correction { ranges, shift_ms, zone: None, by: "timer".into(), oldest: 0 };
        self.corrections.add(source, &correction);
        self.write(source, Body::Correct(correction));
    }

    /// A passing that is in the cloud is sent again with its corrected time.
    fn replace(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let (source, corrections) = (device.source, &self.corrections);
        let wrong = |item: &UploadItem| item.corrected_ms != corrections.shift_ms(source, item.seq.0);
        let Some(place) = device.sent.iter().position(wrong) else { return };
        let item = device.sent.remove(place);
        let item = item.clone().corrected_by(corrections.shift_ms(source, item.seq.0));
        device.returned.push(item.clone());
        self.replaced += 1;
        let (session, next) = (device.token.as_str().into(), Seq(0));
        self.event(at, |device| UploadEvent::Again { device, session, items: vec![item], next });
    }

    fn marker(&mut self) {
        if self.random.u8(..3) > 0 {
            self.markers += 1;
        }
        let position = Some(Position { unit: None, file: None, number: self.markers });
        let (kind, name, stamp, reader) = ("gun".into(), None, None, None);
        let marker = Marker { kind, name, stamp, reader, location: None, position, through: None };
        self.write("mat", Body::Marker(marker));
    }

    fn some(&mut self, count: usize) {
        for _ in 0..count {
            let (at, source) = (self.random.usize(..2), SOURCES[self.random.usize(..3)]);
            match self.random.u8(..43) {
                40 if self.random.bool() => self.correct(source),
                40..=42 => self.replace(at),
                0..=24 => self.read(source),
                25..=29 => self.batch(at),
                30..=34 => self.settle(at),
                35 => self.again(at),
                36 => self.marker(),
                39 if self.random.u8(..3) == 0 => self.let_go(at),
                37 => drop(self.write("mat", Body::Rejected("checksum".into()))),
                38 if self.random.u8(..8) == 0 => {
                    let (from, sure) = (self.random.u64(1..=self.log.next), self.log.next - 1);
                    let step_ms = 20 * 3_600_000; // enough to change the day
                    let step = Step { from, sure, before_ms: self.now, step_ms };
                    self.now += step_ms;
                    self.write("box", Body::Clock(step));
                }
                39 if self.random.u8(..3) == 0 => self.log.rotate(Some("{}")).unwrap(),
                _ => {}
            }
        }
    }

    fn exported(&self, query: Query) -> Vec<Value> {
        let mut out = Vec::new();
        let summary = export(self.dir.path(), &reading(), Format::Jsonl, &query, &mut out).unwrap();
        let rows: Vec<Value> =
            out.split(|byte| *byte == b'\n').filter_map(|it| serde_json::from_slice(it).ok()).collect();
        assert_eq!((summary.frames, summary.damaged), (rows.len() as u64, 0));
        rows
    }
}

fn reading() -> Reading {
    let madrid = || TimeZone::get("Europe/Madrid").unwrap();
    Reading {
        zones: SOURCES.into_iter().map(|source| (source.into(), madrid())).collect(),
        tag: TagCode::Raw,
        shown_in: None,
        spreadsheet: false,
    }
}

/// State and number of every read that is not pending, found by reading the whole log in one pass.
fn plainly(dir: &Path, durable: u64) -> BTreeMap<u64, (&'static str, Option<u64>)> {
    let mut all: BTreeMap<u64, (&'static str, Option<u64>)> = BTreeMap::new();
    let mut open: HashMap<Box<str>, BTreeMap<u64, u64>> = HashMap::new();
    let (mut let_go, mut held) = (BTreeMap::new(), Vec::new());
    let mut reader = LogReader::open(&log_dir(dir), None).unwrap().unwrap();
    while let Some(line) = reader.read().unwrap() {
        let LogLine::Entry(entry) = line else { continue };
        if entry.seq > durable {
            break;
        }
        if let Body::Read(read) = &entry.body {
            held.extend(read.held_back.then_some(entry.seq));
            let_go.extend(read.let_go.as_ref().map(|of| (entry.seq, of.1.0)));
        }
        let Body::Upload(event) = &entry.body else { continue };
        let open = open.entry(event.device().into()).or_default();
        let mut settle = |open: &mut BTreeMap<u64, u64>, first: u64, last: u64, state| {
            for (num, seq) in open.extract_if(first..=last, |_, _| true) {
                match state {
                    "released" => drop(all.remove(&seq)),
                    state => drop(all.insert(seq, (state, Some(num)))),
                }
            }
        };
        match event {
            UploadEvent::Batch(batch) => {
                let still_open: Vec<_> = open.extract_if(.., |num, _| batch.still_open.contains(num)).collect();
                settle(open, 0, u64::MAX, "sent");
                open.extend(still_open);
                for item in &batch.items {
                    all.insert(item.seq.0, ("pending", Some(item.num)));
                    open.insert(item.num, item.seq.0);
                }
                all.extend(batch.found.iter().map(|found| (found.seq.0, ("sent", Some(found.num)))));
                all.extend(batch.dead.iter().map(|seq| (seq.0, ("suppressed", None))));
            }
            UploadEvent::Accepted { first, last, .. } => settle(open, *first, *last, "sent"),
            UploadEvent::DeadLetter { num, .. } => settle(open, *num, *num, "quarantined"),
            UploadEvent::Released { first, last, .. } => settle(open, *first, *last, "released"),
            UploadEvent::Again { items, .. } => all.retain(|seq, _| items.iter().all(|item| item.seq.0 != *seq)),
            _ => {}
        }
    }
    // The outcome of the entry that released a read is the outcome of the read.
    for (seq, of) in &let_go {
        let became = all.remove(seq).unwrap_or(("pending", None));
        all.insert(*of, became);
    }
    for seq in held {
        all.entry(seq).or_insert(("held_back", None));
    }
    all
}

fn instant(row: &Value) -> Timestamp {
    row["time"].as_str().or(row["received"].as_str()).unwrap().parse().unwrap()
}

#[test]
fn of_any_log_every_frame_is_told_once_with_its_upload_and_a_window_is_what_all_of_it_says_of_that_time() {
    let seeds = std::env::var("PASSBRIDGE_EXPORTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        let mut written = Written::new(seed);
        for round in 0..4 {
            written.some(200);
            if round == 1 {
                written.log.rotate(Some("{}")).unwrap();
            }
            let durable = if round % 2 == 0 { u64::MAX } else { written.log.next / 2 };
            let all = Query { durable, ..Query::default() };
            let rows = written.exported(all.clone());
            let uploads = plainly(written.dir.path(), durable);
            for row in rows.iter().filter(|row| row["kind"] == "read") {
                let told = (row["upload"]["state"].as_str().unwrap(), row["upload"]["num_passing"].as_u64());
                let known = uploads.get(&row["seq"].as_u64().unwrap()).copied();
                assert_eq!(told, known.unwrap_or(("pending", None)), "seed {seed}: {row}");
                if durable == u64::MAX {
                    let (source, seq) = (row["decoder"].as_str().unwrap(), row["seq"].as_u64().unwrap());
                    let shift = row["corrected_ms"].as_i64().unwrap_or(0);
                    assert_eq!(shift, written.corrections.shift_ms(source, seq), "seed {seed}: {row}");
                }
            }
            // A marker with the number of an earlier one is its duplicate.
            let mut seen = std::collections::BTreeSet::new();
            for row in rows.iter().filter(|row| row["kind"] == "marker") {
                assert_eq!(seen.insert(row["position"].as_u64()), row["upload"].is_null(), "seed {seed}: {row}");
            }
            for _ in 0..20 {
                let some = instant(&rows[written.random.usize(..rows.len())]).as_millisecond();
                let from = some - written.random.i64(0..200_000);
                let to = from + written.random.i64(0..400_000);
                let ms = |ms: i64| Some(Timestamp::from_millisecond(ms).unwrap());
                let (from, to) = (ms(from), ms(to));
                let within = written.exported(Query { from, to, ..all.clone() });
                let expected = rows.iter().filter(|row| (from..to).contains(&Some(instant(row))));
                assert!(within.iter().eq(expected), "seed {seed}, from {from:?} to {to:?}");
            }
        }
        written.exported(Query { from: Some(Timestamp::MIN), durable: u64::MAX, ..Query::default() });
        let kept = std::fs::read_dir(written.dir.path().join("windows")).map_or(0, Iterator::count);
        let closed = segments(&log_dir(written.dir.path())).unwrap().len() - 1;
        assert!(closed > 0 && kept == 2 * closed, "seed {seed}: {kept} of {closed}");
        assert!(written.left_behind > 0, "seed {seed}: nothing was left behind");
        assert!(written.replaced > 0, "seed {seed}: nothing was sent again");
    }
}

/// A log of ten segments, of a hundred reads and ten minutes each.
fn ten() -> Written {
    let mut written = Written::new(1);
    for segment in 0..10 {
        written.now = START + segment * 600_000;
        for _ in 0..100 {
            written.read("mat");
            let last = written.log.next - 1;
            written.devices[0].waiting.retain(|(seq, _)| *seq != last);
        }
        written.log.rotate(Some("{}")).unwrap();
    }
    written
}

fn minute(segment: i64) -> Query {
    let at = |ms: i64| Some(Timestamp::from_millisecond(START + segment * 600_000 + ms).unwrap());
    Query { from: at(20_000), to: at(80_000), durable: u64::MAX, ..Query::default() }
}

#[test]
fn a_window_is_found_without_reading_the_segments_that_hold_nothing_of_it() {
    let written = ten();
    let rows = written.exported(minute(4));
    assert!(rows.len() > 20);
    // A program that reads these segments now finds damage in the middle of them.
    for segment in segments(&log_dir(written.dir.path())).unwrap().iter().take(2) {
        let file = std::fs::OpenOptions::new().write(true).open(&segment.path).unwrap();
        let bytes = std::fs::read(&segment.path).unwrap();
        let end = bytes[bytes.len() / 2..].iter().position(|byte| *byte == b'\n').unwrap();
        file.write_all_at(b"XX", (bytes.len() / 2 + end + 5) as u64).unwrap(); // damages one line
    }
    assert_eq!(written.exported(minute(4)), rows);
    let mut out = Vec::new();
    let all = Query { durable: u64::MAX, ..Query::default() };
    let first = |count: usize| segments(&log_dir(written.dir.path())).unwrap().into_iter().take(count);
    for segment in first(2) {
        std::fs::remove_file(written.dir.path().join(format!("windows/{:012}.json", segment.first))).unwrap();
    }
    let summary = export(written.dir.path(), &reading(), Format::Jsonl, &all, &mut out).unwrap();
    assert_eq!((summary.frames, summary.damaged), (998, 2), "it was there to be seen");
}

/// The JSON of a kept index.
fn kept_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()[9..]).unwrap()
}

/// Writes a kept index with its checksum.
fn keep_json(path: &Path, index: &Value) {
    let json = index.to_string();
    std::fs::write(path, format!("{:08x}\n{json}", crc32fast::hash(json.as_bytes()))).unwrap();
}

#[test]
fn an_index_of_other_zones_or_of_another_log_or_of_nonsense_is_made_anew() {
    let written = ten();
    let rows = written.exported(minute(4));
    let kept = |at: usize| {
        let first = segments(&log_dir(written.dir.path())).unwrap()[at].first;
        written.dir.path().join(format!("windows/{first:012}.json"))
    };
    let good: Vec<Value> = (0..10).map(|at| kept_json(&kept(at))).collect();
    // A program that trusted this index would not find the entries of this segment.
    let mut nothing = good[4].clone();
    for block in nothing["blocks"].as_array_mut().unwrap() {
        block["times"] = serde_json::json!([0, 0]);
    }
    keep_json(&kept(4), &nothing);
    assert!(written.exported(minute(4)).len() < rows.len());
    let mut bytes = std::fs::read(kept(4)).unwrap();
    let digit = bytes.len() / 2 + bytes[bytes.len() / 2..].iter().position(u8::is_ascii_digit).unwrap();
    bytes[digit] ^= 1;
    std::fs::write(kept(4), bytes).unwrap();
    assert_eq!(written.exported(minute(4)), rows, "one digit is another one");
    let spoiled: [fn(&mut Value); 4] = [
        |index| index["zones"]["mat"] = "UTC".into(),
        |index| index["tail"] = "\tAAAAAAAA\n".into(),
        |index| index["version"] = "0".into(),
        |index| index["blocks"] = "nonsense".into(),
    ];
    for spoil in spoiled {
        let mut index = nothing.clone();
        spoil(&mut index);
        keep_json(&kept(4), &index);
        assert_eq!(written.exported(minute(4)), rows, "{index}");
        assert_eq!(kept_json(&kept(4)), good[4], "made anew");
    }
}

#[test]
fn the_daemon_makes_the_index_of_each_segment_that_is_full_and_removes_those_of_segments_that_are_gone() {
    let written = ten();
    let dir = written.dir.path();
    let kept = || std::fs::read_dir(dir.join("windows")).map_or(0, Iterator::count);
    assert_eq!(refresh(dir, &reading(), 0, &|| true).unwrap(), 0, "stopped before it began");
    assert_eq!(kept(), 0);
    let newest = refresh(dir, &reading(), 0, &|| false).unwrap();
    assert_eq!((kept(), newest), (20, written.log.next), "blocks and chips of each");
    let made: Vec<_> = written.exported(minute(4));
    let oldest = &segments(&log_dir(dir)).unwrap()[0];
    std::fs::remove_file(&oldest.path).unwrap();
    assert_eq!(refresh(dir, &reading(), newest, &|| false).unwrap(), newest, "no new segment: nothing is made");
    assert_eq!(kept(), 18, "what is left of a segment that is gone");
    refresh(dir, &reading(), 0, &|| false).unwrap();
    assert_eq!(kept(), 18);
    assert_eq!(written.exported(minute(4)), made);
}
