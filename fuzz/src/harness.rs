//! What every protocol must hold, whatever it is sent. One input is one link: which options, what
//! is done to it besides feeding it, and the bytes.
//!
//! ```text
//! 0 options   1 flags (below)   2 shape of what is held   3 receipt   4–11 four cuts, u16 each
//! 12–35 four actions of 6 bytes: kind, place u16, three arguments      36–39 numbers for what is held      40.. the stream
//! ```
//!
//! The stream is fed twice to fresh values: cut only where an action is, and cut also at the cuts
//! (or byte by byte). Checked:
//! * nothing panics (built with overflow checks and debug assertions);
//! * both ways put out the same items: frames, raw bytes, replies, order;
//! * what comes out is bounded by what went in: items, raw bytes (each frame's are a part of the
//!   stream, in order), replies;
//! * replies are of the protocol's allow list: questions and acknowledgements, nothing that starts,
//!   stops, clears or sets;
//! * what is kept has a time, a chip, a line in the journal that says the same again, and an object
//!   in `decode`.
//!
//! Memory held is not seen from here: tests/memory.rs.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::commands::decode::Decoder;
use passbridge::testing::decoders::{
    Frame, Framed, Info, Item, Output, Protocol, Range, Settings, Spec, settings, spec,
};
use passbridge::testing::journal::entry::{Body, Entry, parse_line, write_line};
use passbridge::testing::model::chip::{ChipRead, Label, Marker, Position, Stamp, StoredRanges};
use passbridge::testing::model::clock;

/// Bytes before the stream.
pub const CONTROL: usize = 40;
/// [`Control`]'s second byte.
pub const LINKED: u8 = 1;
/// The protocol may ask for what is stored.
pub const REWIND: u8 = 2;
/// The second way is byte by byte (of a stream of up to 1,024 bytes).
pub const SINGLE: u8 = 4;
/// Checksums and lengths of the stream are made right first.
pub const REPAIR: u8 = 8;
/// We leave at the end, and the input does not end.
pub const LEAVE: u8 = 16;

/// What a run saw, for whoever wants to know that the insides are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Reads and markers.
    pub accepted: u64,
    /// Rejected frames.
    pub rejected: u64,
    /// Life signs, clocks, conditions and restarts.
    pub chatter: u64,
    /// Replies to the decoder.
    pub replies: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.chatter += other.chatter;
        self.replies += other.replies;
    }
}

/// The options under which a protocol is fuzzed.
pub fn options(name: &str) -> Vec<Settings> {
    of_registry(name).trials.options.iter().map(|set| settings(set)).collect()
}

fn of_registry(name: &str) -> &'static Spec {
    spec(name).expect("a protocol of the registry")
}

/// One thing done to a link besides feeding it.
#[derive(Clone, Debug)]
enum Action {
    Tick(Duration),
    Rewind(Range),
    Leaving,
}

struct Script {
    settings: usize,
    flags: u8,
    held: StoredRanges,
    received: Timestamp,
    cuts: [usize; 4],
    /// With their places in the stream, in order.
    actions: Vec<(usize, Action)>,
}

/// Numbers at which counting changes.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    499,
    500,
    501,
    10_000,
    999_999,
    1_000_000_000,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

fn number(byte: u8) -> u64 {
    let step = u64::from(byte >> 4);
    NUMBERS[usize::from(byte & 15)].saturating_add(step)
}

/// Units and files as the samples have them.
fn unit(byte: u8) -> Option<Box<str>> {
    const UNITS: [&str; 7] = ["Finish", "1", "D-50432", "0004d7a1", "2", "start", "00046c6c"];
    UNITS.get(usize::from(byte & 7)).map(|unit| (*unit).into())
}

fn file(byte: u8) -> Option<Label> {
    match byte & 3 {
        0 => None,
        1 => Some(Label::Number(177)),
        2 => Some(Label::Number(u64::from(byte) << 4)),
        _ => Some(Label::Text("20191212-090206.csv".into())),
    }
}

impl Script {
    fn of(control: &[u8; CONTROL], sets: usize, length: usize) -> Self {
        let place = |at: usize| usize::from(u16::from_le_bytes([control[at], control[at + 1]])) % (length + 1);
        let mut cuts = [4, 6, 8, 10].map(place);
        cuts.sort_unstable();
        let actions = (0..4).map(|at| 12 + 6 * at).filter_map(|at| {
            let (a, b, c) = (control[at + 3], control[at + 4], control[at + 5]);
            let action = match control[at] & 7 {
                1 => Action::Tick(Duration::from_secs(u64::from(u16::from_le_bytes([a, b])))),
                2 => Action::Tick(Duration::from_millis(number(a).min(1 << 42))), // 139 years
                3 => Action::Rewind(Range { unit: unit(c), file: file(c >> 3), from: number(a), to: number(b) }),
                4 => {
                    let (from, to) = Range::WHOLE;
                    Action::Rewind(Range { unit: unit(c), file: file(c >> 3), from, to })
                }
                5 => Action::Leaving,
                _ => return None,
            };
            Some((place(at + 1), action))
        });
        let mut actions: Vec<_> = actions.collect();
        actions.sort_by_key(|(at, _)| *at);
        Self {
            settings: usize::from(control[0]) % sets,
            flags: control[1],
            held: held(control[2], &control[36..CONTROL]),
            received: Timestamp::from_second(i64::from(control[3]) * 8_640_123).unwrap_or_default(), // 1970 to 2039
            cuts,
            actions,
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A few places of a decoder's memory.
fn held(shape: u8, numbers: &[u8]) -> StoredRanges {
    let mut held = StoredRanges::default();
    if shape == 0 {
        return held;
    }
    for (at, byte) in (0..shape & 3).zip(numbers) {
        let (unit, file) = (unit(shape >> 2), file((shape >> 5) + at));
        let file = if shape & 128 == 0 { None } else { file };
        held.insert(&Position { unit: unit.clone(), file: file.clone(), number: number(*byte) });
        held.insert(&Position { unit, file, number: number(*byte).saturating_add(1) });
    }
    held
}

fn sets(name: &'static str) -> &'static [Settings] {
    static SETS: OnceLock<Vec<(&'static str, Vec<Settings>)>> = OnceLock::new();
    let all = SETS.get_or_init(|| {
        passbridge::testing::decoders::REGISTRY.iter().map(|spec| (spec.name, options(spec.name))).collect()
    });
    all.iter().find(|(of, _)| *of == name).map_or(&[], |(_, sets)| sets)
}

/// Values that cost more to make than to run, kept between inputs; after [`Protocol::end`] they are
/// as new.
type Kept = Vec<(usize, Box<dyn Protocol>)>;

thread_local! {
    static PATTERNS: RefCell<Kept> = const { RefCell::new(Vec::new()) };
}

fn make(name: &'static str, set: usize) -> Box<dyn Protocol> {
    if of_registry(name).trials.is_costly {
        let kept = PATTERNS.with_borrow_mut(|kept| {
            let at = kept.iter().position(|(of, _)| *of == set)?;
            Some(kept.swap_remove(at).1)
        });
        if let Some(kept) = kept {
            return kept;
        }
    }
    (of_registry(name).make)(&sets(name)[set]).expect("options that it knows")
}

fn put_back(name: &'static str, set: usize, protocol: Box<dyn Protocol>) {
    if of_registry(name).trials.is_costly {
        PATTERNS.with_borrow_mut(|kept| kept.push((set, protocol)));
    }
}

/// One input.
///
/// # Panics
/// Where the protocol does, or does not hold what it must.
pub fn run(name: &'static str, data: &[u8]) -> Seen {
    let mut control = [0; CONTROL];
    let head = data.len().min(CONTROL);
    control[..head].copy_from_slice(&data[..head]);
    let mut stream = data[head..].to_vec();
    if control[1] & REPAIR != 0 {
        (of_registry(name).trials.repair)(&mut stream);
    }
    let script = Script::of(&control, sets(name).len(), stream.len());
    let whole = link(name, &script, &stream, &[]);
    let single: Vec<usize>;
    let cuts: &[usize] = if script.has(SINGLE) && stream.len() <= 1024 {
        single = (0..stream.len()).collect();
        &single
    } else {
        &script.cuts
    };
    let cut = link(name, &script, &stream, cuts);
    if whole != cut {
        let first = whole.iter().zip(&cut).position(|(a, b)| a != b).unwrap_or(whole.len().min(cut.len()));
        let (a, b) = (whole.get(first), cut.get(first));
        panic!("{name}: the result depends on the cuts, from item {first} on:\nwhole: {a:?}\ncut:   {b:?}");
    }
    let seen = judge(name, &script, &stream, &whole);
    // Now and then, the same for every run of an input.
    if data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 7 {
        decode(name, &script, &stream);
    }
    seen
}

/// One link from its beginning to its end.
fn link(name: &'static str, script: &Script, stream: &[u8], cuts: &[usize]) -> Vec<Item> {
    let mut protocol = make(name, script.settings);
    let mut out = Output::default();
    if script.has(LINKED) {
        protocol.connected(script.held.clone(), script.has(REWIND), &mut out);
    }
    let mut fed = 0;
    let mut cuts = cuts.iter().copied().peekable();
    let mut feed = |to: usize, protocol: &mut Box<dyn Protocol>, out: &mut Output| {
        while let Some(cut) = cuts.next_if(|cut| *cut <= to) {
            protocol.feed(&stream[fed..cut], out);
            fed = cut;
        }
        protocol.feed(&stream[fed..to], out);
        fed = to;
    };
    for (at, action) in &script.actions {
        feed(*at, &mut protocol, &mut out);
        match action {
            Action::Tick(age) => protocol.tick(*age, &mut out),
            Action::Rewind(range) => {
                let _ = protocol.rewind(range, &mut out); // a refusal is an answer
            }
            Action::Leaving => protocol.leaving(&mut out),
        }
    }
    feed(stream.len(), &mut protocol, &mut out);
    if script.has(LEAVE) {
        protocol.leaving(&mut out);
    }
    if !script.has(LEAVE) || of_registry(name).trials.is_costly {
        protocol.end(&mut out);
    }
    put_back(name, script.settings, protocol);
    out.items
}

fn judge(name: &'static str, script: &Script, stream: &[u8], items: &[Item]) -> Seen {
    let acted = 1 + script.actions.len();
    assert!(items.len() <= 3 * stream.len() + 256 * acted, "{name}: {} items", items.len());
    let (mut seen, mut raw, mut asked) = (Seen::default(), 0, 0);
    let mut rest = of_registry(name).trials.in_order.then_some(stream);
    let set = &sets(name)[script.settings];
    for item in items {
        match item {
            Item::Frame(framed) => {
                raw += framed.raw.len();
                if let Some(stream) = rest {
                    let at = memchr::memmem::find(stream, &framed.raw);
                    let at = at.unwrap_or_else(|| panic!("{name}: not in the stream, or out of order: {framed:?}"));
                    rest = Some(&stream[at + framed.raw.len()..]);
                }
                match &framed.frame {
                    Frame::Read(read) => {
                        seen.accepted += 1;
                        judge_read(name, read, framed, script.received, seen.accepted);
                    }
                    Frame::Marker(marker) => {
                        seen.accepted += 1;
                        judge_marker(marker, framed, script.received, seen.accepted);
                    }
                    Frame::Rejected(_) => seen.rejected += 1,
                    Frame::Cleared(cleared) => entry(Body::Cleared(cleared.clone()), framed, script.received),
                    Frame::Info(info) => {
                        seen.chatter += 1;
                        if let Info::Clock(stamp) | Info::Greeting(stamp) = info {
                            clock::offset_ms(stamp, zone(), script.received);
                        }
                    }
                }
            }
            Item::Reply(bytes) => {
                seen.replies += 1;
                asked += bytes.len();
                let forbidden = of_registry(name).forbidden(set, bytes);
                assert!(forbidden.is_none(), "{name}: says what it must not: {forbidden:?}");
            }
            Item::HangUp(why) => assert!(!why.is_empty()),
        }
    }
    assert!(raw <= stream.len(), "{name}: {raw} raw bytes of {}", stream.len());
    assert!(asked <= 16 * stream.len() + 1000 * acted, "{name}: asked {asked} bytes for {}", stream.len());
    if !script.has(LINKED | REWIND) && script.actions.is_empty() {
        assert!(seen.replies <= stream.len() as u64, "{name}");
    }
    seen
}

fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| TimeZone::get("Europe/Madrid").unwrap_or(TimeZone::UTC))
}

/// Frames of an input whose way through the journal is tried; the rest have the same form.
const TRIED: u64 = 2;

fn judge_read(name: &str, read: &ChipRead, framed: &Framed, received: Timestamp, nth: u64) {
    assert!(!read.chip.is_empty(), "{name}: a read without a chip");
    clock::resolve(&read.stamp, zone(), read.moment(received), read.replay);
    if nth <= TRIED {
        let mut again = read.clone();
        again.stamp = to_the_millisecond(&read.stamp);
        again.age = again.age.map(|age| age.at_receipt(0).into()); // as the link has it written
        assert_eq!(again.identities(), read.identities(), "{name}: the journal would make another read of it");
        entry(Body::Read(again), framed, received);
    }
}

fn judge_marker(marker: &Marker, framed: &Framed, received: Timestamp, nth: u64) {
    if let Some(stamp) = &marker.stamp {
        clock::resolve(stamp, zone(), received, false);
    }
    if nth <= TRIED {
        let stamp = marker.stamp.as_ref().map(to_the_millisecond);
        entry(Body::Marker(Marker { stamp, ..marker.clone() }), framed, received);
    }
}

/// The stamp as the journal has it.
fn to_the_millisecond(stamp: &Stamp) -> Stamp {
    let text = stamp.to_string();
    let again: Stamp = text.parse().unwrap_or_else(|_| panic!("{stamp:?} is `{text}`, which is none"));
    assert_eq!(again.to_string(), text);
    again
}

/// What is written into the journal is read from it again.
fn entry(body: Body, framed: &Framed, time: Timestamp) {
    let entry = Entry { seq: 1, in_group: 0, subject: "finish".into(), time, body, raw: framed.raw.clone() };
    let mut line = Vec::new();
    write_line(&mut line, &entry);
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'), "an entry is a line");
    assert_eq!(parse_line(&line).as_ref(), Ok(&entry), "{}", String::from_utf8_lossy(&line));
}

/// Every object that `decode` writes is one.
fn decode(name: &'static str, script: &Script, stream: &[u8]) {
    let decoder =
        Decoder::new(of_registry(name), &sets(name)[script.settings], zone().clone()).expect("options that it knows");
    let mut text = Vec::new();
    let ended = decoder.received_at(script.received).run(stream, &mut text).expect("memory does not fail");
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let objects = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("an object a line"));
    assert_eq!(objects.count() as u64, ended.objects);
}
