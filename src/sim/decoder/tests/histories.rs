//! Random histories of decoders that store reads, against our protocols, without sockets and
//! without waiting. Whatever a decoder does, and whenever the cable is out, three things hold in
//! the end. Every read is kept that the decoder still had when the box could ask. Each read has one
//! identity. No memory counts as cleared that was not cleared.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::decoders::Protocol;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::Conversation;
use crate::model::chip::Marker;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// This number of reads happens.
    Reads(u64),
    /// This number of seconds passes.
    Wait(u64),
    /// The cable is pulled, or plugged in.
    Cable,
    Clear,
    /// The memory is cleared, and counted on past the numbers that it had.
    ClearAndCountOn,
    NewFile,
    RepeatLast,
    SwapTwo,
    PushOff,
    ClockBack,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_u64..12).prop_map(Event::Reads),
        6 => (1_u64..12).prop_map(Event::Wait),
        3 => Just(Event::Cable),
        1 => Just(Event::Clear),
        1 => Just(Event::ClearAndCountOn),
        1 => Just(Event::NewFile),
        1 => Just(Event::RepeatLast),
        1 => Just(Event::SwapTwo),
        1 => Just(Event::PushOff),
        1 => Just(Event::ClockBack),
    ]
}

/// A decoder, a cable, and a box that keeps reads.
struct Site {
    kind: Kind,
    memory: Memory,
    link: Option<(Box<dyn Conversation>, Box<dyn Protocol>)>,
    /// Age of the link.
    up: u64,
    held: StoredRanges,
    /// Identity by chip and stamp.
    kept: BTreeMap<(Box<str>, String), BTreeSet<u64>>,
    cleared: usize,
    /// How many times the memory was cleared.
    clearings: usize,
    /// Entries that nobody can ask for any more.
    gone: BTreeSet<usize>,
    /// A file was begun while the cable was out.
    begun: bool,
}

impl Site {
    fn new(kind: Kind) -> Self {
        let start = jiff::civil::date(2026, 6, 17).at(10, 0, 0, 0);
        let mut memory = Memory::race(kind.simulated(), start, Race::new(RaceConfig::default(), 20.0, 7), None);
        memory.set_locations(vec!["Finish".to_owned()]);
        memory.reader = "0F2A38".to_owned();
        let (kept, gone) = (BTreeMap::new(), BTreeSet::new());
        let held = StoredRanges::default();
        let mut site =
            Self { kind, memory, link: None, up: 0, held, kept, cleared: 0, clearings: 0, gone, begun: false };
        site.plug();
        site
    }

    fn plug(&mut self) {
        let kind = self.kind;
        let mut talk = kind.simulator().talk();
        let mut protocol = (spec(kind.name()).unwrap().make)(&kind.settings()).unwrap();
        let (mut said, mut out) = (Outgoing::default(), Output::default());
        protocol.connected(self.held.clone(), true, &mut out);
        talk.begin(&self.memory, self.memory.start, &mut said);
        (self.link, self.up, self.begun) = (Some((talk, protocol)), 0, false);
        self.exchange(said, out);
    }

    /// Passes bytes between both sides until neither has more to send.
    fn exchange(&mut self, mut said: Outgoing, mut out: Output) {
        for _turn in 0..10_000 {
            let Some((mut talk, mut protocol)) = self.link.take() else { return };
            let mut hangs_up = false;
            for item in out.items.drain(..) {
                match item {
                    Item::Frame(framed) => self.keep(framed.frame),
                    Item::Reply(bytes) => {
                        let now = self.memory.start;
                        talk.hear(&bytes, &self.memory, now, &mut said)
                            .unwrap_or_else(|forbidden| panic!("{}", forbidden.0));
                    }
                    Item::HangUp(_) => hangs_up = true,
                }
            }
            if hangs_up {
                return self.plug();
            }
            talk.push(&self.memory, &mut said);
            let bytes = said.take();
            let quiet = bytes.is_empty();
            protocol.feed(&bytes, &mut out);
            self.link = Some((talk, protocol));
            if quiet && out.items.is_empty() {
                return;
            }
        }
        panic!("they talk without end");
    }

    fn keep(&mut self, frame: Frame) {
        match frame {
            Frame::Read(read) => {
                self.held.insert_read(read.position.as_ref().unwrap(), read.content());
                let what = ((&*read.chip).into(), read.stamp.to_string());
                self.kept.entry(what).or_default().insert(read.identity());
            }
            Frame::Marker(Marker { position: Some(position), through, .. }) => {
                self.held.insert_through(&position, through.unwrap_or(position.number));
            }
            Frame::Cleared(cleared) => {
                self.held.forget(cleared.unit.as_deref(), cleared.file.as_ref());
                self.cleared += 1;
            }
            Frame::Rejected(reason) => panic!("{reason}"),
            Frame::Marker(_) | Frame::Info(_) => {}
        }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.up += 1;
            let mut out = Output::default();
            if let Some((_, protocol)) = &mut self.link {
                protocol.tick(Duration::from_secs(self.up), &mut out);
            }
            self.exchange(Outgoing::default(), out);
        }
    }

    fn is_kept(&self, entry: usize) -> bool {
        let read = &self.memory.reads_of(entry)[0];
        self.kept.contains_key(&(read.chip.clone(), read.stamp.to_string()))
    }

    /// Marks the entries that are not kept yet: nobody can ask for them any more.
    fn lose(&mut self) {
        let lost: Vec<usize> = (0..self.memory.len()).filter(|entry| !self.is_kept(*entry)).collect();
        self.gone.extend(lost);
    }

    fn clear(&mut self) {
        self.lose();
        let count = self.memory.entries(self.memory.file()).len();
        self.memory.clear();
        self.clearings += usize::from(count > 0);
    }

    fn reads(&mut self, count: u64) {
        let _all = (0..count).all(|_| self.memory.happen());
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Reads(count) => self.reads(count),
            Event::Wait(seconds) => self.wait(seconds),
            Event::Cable => match self.link.take() {
                None => self.plug(),
                Some((_, mut protocol)) => {
                    let mut out = Output::default();
                    protocol.end(&mut out);
                    out.items.into_iter().for_each(|item| {
                        if let Item::Frame(framed) = item {
                            self.keep(framed.frame)
                        }
                    });
                }
            },
            Event::Clear => self.clear(),
            Event::ClearAndCountOn => {
                let count = self.memory.entries(self.memory.file()).len();
                self.clear();
                self.reads(count as u64 + 3);
            }
            Event::NewFile => self.new_file(),
            Event::RepeatLast if self.memory.entries(self.memory.file()).is_empty() => {} // it has no read
            Event::RepeatLast => self.memory.repeat_last(),
            Event::SwapTwo => {
                self.memory.swap_two();
                self.reads(2);
            }
            Event::PushOff => self.memory.take_push(),
            Event::ClockBack => self.memory.set_clock(-7_200_000),
        }
        self.exchange(Outgoing::default(), Output::default());
    }

    /// The box does not ask for files that begin and end while it is away, nor for a file of which
    /// it has no read.
    fn new_file(&mut self) {
        if !self.kind.simulator().begins_files() {
            return;
        }
        self.wait(if self.link.is_some() { 10 } else { 0 });
        let file = self.memory.entries(self.memory.file());
        if self.link.is_none() && (self.begun || !file.clone().any(|entry| self.is_kept(entry))) {
            self.lose();
        }
        self.begun = true;
        self.memory.new_file();
        self.wait(if self.link.is_some() { 10 } else { 0 });
    }
}

fn plays(kind: Kind, events: &[Event]) {
    let mut site = Site::new(kind);
    for event in events {
        site.happens(*event);
    }
    if site.link.is_none() {
        site.plug();
    }
    site.wait(150);
    site.happens(Event::Reads(3));
    site.wait(150);
    for entry in 0..site.memory.len() {
        if !site.gone.contains(&entry) {
            assert!(site.is_kept(entry), "{} entry {entry}: {:?}", kind.name(), site.memory.reads_of(entry));
        }
    }
    for (what, identities) in &site.kept {
        assert_eq!(identities.len(), 1, "{} {what:?} is two reads", kind.name());
    }
    assert!(site.cleared <= site.clearings, "{}: {} of {}", kind.name(), site.cleared, site.clearings);
}

proptest! {
    #[test]
    fn whatever_a_race_result_does_everything_is_kept_once(events in proptest::collection::vec(event(), 0..40)) {
        plays(Kind::RACE_RESULT, &events);
    }

    #[test]
    fn whatever_a_one4all_does_everything_is_kept_once(events in proptest::collection::vec(event(), 0..40)) {
        plays(Kind::ONE4ALL, &events);
    }

    #[test]
    fn whatever_a_chronotrack_does_everything_is_kept_once(events in proptest::collection::vec(event(), 0..40)) {
        plays(Kind::CHRONOTRACK, &events);
    }
}
