//! A simulated decoder for each protocol: the one fake that `demo`, `simulate decoder`, tests and benches share.
//!
//! What must hold:
//! * **It behaves like the thing it stands for, as the documents describe it**, and shares no decoding or encoding with
//!   the code it is there to test (but for the truth about a recording, which is what our protocol reads in it).
//!   RACE RESULT, One4All and P3 are servers that store everything, push what happens and give again what they are asked
//!   for (One4All pushes to its last connection only); ChronoTrack does so too and connects to the box; the MYLAPS
//!   exporter connects and repeats until
//!   acknowledged; the others only stream, and what nobody listened to is gone.
//! * **It knows the truth**: [`SimDecoder::reads`] is every read that happened, [`SimDecoder::acked`] those that a box may
//!   not lose any more, [`SimDecoder::forbidden`] the commands that no box may send.
//! * **Deterministic**: the same configuration and seed give the same reads with the same stamps. Only *when* they happen
//!   follows the (monotonic) clock, or the caller ([`SimDecoder::push`]).
//! * **Bounded**: [`READS_MAX`](crate::decoders::simulator::memory::READS_MAX)(memory::READS_MAX) reads of 16 bytes (plus one byte for each acknowledged), then the race is over. A recording
//!   is held whole.
//!
//! A decoder that only streams waits for its first listener and pauses while there is none, so that a demonstration
//! loses nothing for want of a listener; `push` does not wait.

mod habit;
mod heard;
mod kind;
mod peers;
mod shared;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::civil::DateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::habit::DecoderHabit;
use self::heard::Heard;
pub use self::kind::Kind;
use self::peers::{connect_for_ever, converse, listen};
use self::shared::{Shared, State};
pub use self::wire::WireFault;
use crate::decoders::Missed;
use crate::decoders::simulator::memory::Memory;
pub use crate::decoders::simulator::memory::SimRead;
use crate::decoders::simulator::race::Race;
pub use crate::decoders::simulator::race::{FIELD_MAX, RaceConfig};

/// The race is looked at this often.
const TURN: Duration = Duration::from_millis(5);

/// Where the simulated decoder is.
pub enum Wiring {
    /// It listens here (port 0: any). For those that wait to be connected to.
    Listen(SocketAddr),
    /// It connects to a box here, again and again. For those that do ([`Kind::connects`]).
    Connect(SocketAddr),
    /// It speaks on this: a serial line, a pty, a pipe. For those that wait to be connected to.
    Port(Box<dyn DecoderPort>),
}

/// Something to speak on.
pub trait DecoderPort: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DecoderPort for T {}

/// Where the reads come from.
pub enum ReadSource {
    /// A made-up race.
    Race(RaceConfig),
    /// Rows as recorded (see [`Kind::rows`]), one `1/rate` seconds after the other whatever their stamps say.
    Recording(Vec<Vec<u8>>),
}

/// A simulated decoder.
pub struct SimConfig {
    /// Which.
    pub kind: Kind,
    /// Where.
    pub wiring: Wiring,
    /// What it reads.
    pub source: ReadSource,
    /// Reads a second in the mean; 0: nothing happens but by [`SimDecoder::push`].
    pub rate: f64,
    /// Reads of the race at most.
    pub limit: Option<u64>,
    /// The decoder's clock at the start: wall time in its own zone.
    pub start: DateTime,
    /// Makes the race.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Vec<WireFault>,
    /// Timing points, for those that name them (ChronoTrack, MYLAPS): ten reads at the first, ten at the next, and so on.
    pub locations: Vec<String>,
    /// Id of the reader, for those that name it in their records (ChronoTrack): two sources may have one location name.
    pub reader: String,
    /// LLRP: other software left an inventory in the reader, which runs without the box's doing.
    pub programmed: bool,
    /// MYLAPS: after which time without an ack a message is sent again (the real one: 20 s).
    pub repeat: Duration,
}

impl SimConfig {
    /// A race of the default field that starts at 10:00 on a summer's day, without faults, where reads only happen by
    /// [`SimDecoder::push`].
    pub fn new(kind: Kind, wiring: Wiring) -> Self {
        Self {
            kind,
            wiring,
            source: ReadSource::Race(RaceConfig::default()),
            rate: 0.0,
            limit: None,
            start: jiff::civil::date(2026, 6, 17).at(10, 0, 0, 0),
            seed: 1,
            faults: Vec::new(),
            locations: vec!["Finish".to_owned()],
            reader: "0F2A38".to_owned(),
            programmed: false,
            repeat: Duration::from_secs(20),
        }
    }
}

/// Why a simulated decoder does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The port cannot be had.
    #[error("the simulated decoder cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The exporter connects, the others do not.
    #[error("a simulated {0} decoder {1}")]
    Wiring(&'static str, &'static str),
}

/// A running simulated decoder; stops when dropped.
pub struct SimDecoder {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl SimDecoder {
    /// Starts it.
    ///
    /// # Errors
    /// The port cannot be had, or the wiring does not fit the protocol.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        let SimConfig { kind, wiring, source, rate, limit, start, seed, faults, locations, reader, programmed, repeat } =
            config;
        let nominal = if rate > 0.0 { rate } else { 20.0 };
        let mut memory = match source {
            ReadSource::Race(race) => Memory::race(kind.simulated(), start, Race::new(race, nominal, seed), limit),
            ReadSource::Recording(rows) => {
                Memory::recording(kind.simulated(), start, rows, nominal, |row| kind.reads_in(row))
            }
        };
        memory.set_locations(locations);
        (memory.reader, memory.programmed) = (reader, programmed);
        let shared = Arc::new(Shared {
            kind,
            state: Mutex::new(State {
                memory,
                exporter: kind.simulator().exporter(repeat),
                latest: 0,
                forbidden: Vec::new(),
                heard: Heard::default(),
            }),
            faults,
            fault_frozen: AtomicBool::new(false),
            started: Instant::now(),
            emitted: watch::Sender::new(0),
            acked: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            links: watch::Sender::new(0),
            online: watch::Sender::new(true),
            frozen: watch::Sender::new(false),
        });
        let mut tasks = JoinSet::new();
        let mut address = None;
        match (wiring, kind.connects()) {
            (Wiring::Connect(box_address), true) => {
                tasks.spawn(connect_for_ever(Arc::clone(&shared), box_address));
            }
            (Wiring::Connect(_), false) => return Err(SimError::Wiring(kind.name(), "waits to be connected to")),
            (_, true) => {
                return Err(SimError::Wiring(kind.name(), "connects to the box and needs its address"));
            }
            (Wiring::Listen(wanted), false) => {
                let listener = TcpListener::bind(wanted).await.map_err(|error| SimError::Listen(wanted, error))?;
                address = listener.local_addr().ok();
                tasks.spawn(listen(Arc::clone(&shared), listener));
            }
            (Wiring::Port(port), false) => {
                let (shared, cuts) = (Arc::clone(&shared), shared.cuts.subscribe());
                tasks.spawn(async move { drop(converse(port, &shared, cuts).await) }); // it ends with the port
            }
        }
        if rate > 0.0 {
            tasks.spawn(live(Arc::clone(&shared), kind.spec().missed == Missed::Lost));
        }
        Ok(Self { shared, address, tasks })
    }

    /// Where it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Count of the reads that happened so far; changes with each.
    pub fn emitted(&self) -> watch::Receiver<u64> {
        self.shared.emitted.subscribe()
    }

    /// Count of the reads that a MYLAPS exporter got acknowledged; changes with each ack.
    pub fn acked_count(&self) -> watch::Receiver<u64> {
        self.shared.acked.subscribe()
    }

    /// Count of the links that are open now.
    pub fn links(&self) -> watch::Receiver<usize> {
        self.shared.links.subscribe()
    }

    /// Every read that happened, in order.
    pub fn reads(&self) -> Vec<SimRead> {
        let state = self.shared.lock();
        (0..state.memory.len()).flat_map(|entry| state.memory.reads_of(entry)).collect()
    }

    /// Every read that happened at a location, in order.
    pub fn reads_at(&self, location: &str) -> Vec<SimRead> {
        let state = self.shared.lock();
        let here = |entry: &usize| state.memory.located(*entry).is_some_and(|(at, _)| at == location);
        (0..state.memory.len()).filter(here).flat_map(|entry| state.memory.reads_of(entry)).collect()
    }

    /// The reads that a MYLAPS exporter got acknowledged and will never send again.
    pub fn acked(&self) -> Vec<SimRead> {
        let state = self.shared.lock();
        let is_acked = |entry: &usize| state.exporter.as_ref().is_some_and(|exporter| exporter.is_acked(*entry));
        let acked = (0..state.memory.len()).filter(is_acked);
        acked.flat_map(|entry| state.memory.reads_of(entry)).collect()
    }

    /// Commands that start, stop, set or clear a decoder: none is right.
    pub fn forbidden(&self) -> Vec<String> {
        self.shared.lock().forbidden.clone()
    }

    /// Everything that was said to it, byte by byte, a connection each (bounded: of the first 200, 64 KiB of each).
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.lock().heard.all()
    }

    /// Nothing more will happen by itself: the limit is reached, the recording played, or everybody is home.
    pub fn is_over(&self) -> bool {
        self.shared.lock().memory.due_us().is_none()
    }

    /// `count` reads (or rows of the recording) happen now.
    pub fn push(&self, count: u64) {
        self.shared.happen(|memory| {
            let _all = (0..count).all(|_| memory.happen());
        });
    }

    /// Cuts every connection, now.
    pub fn drop_links(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Off the network: connections are cut, new ones end at once, and the exporter does not connect. The race goes on.
    pub fn set_online(&self, online: bool) {
        self.shared.online.send_replace(online);
        if !online {
            self.drop_links();
        }
    }

    /// Frozen: links stay open, nothing is said or heard. The race goes on.
    pub fn set_frozen(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// Somebody at the decoder begins a new file; numbers start at 1 again.
    pub fn new_file(&self) {
        self.shared.lock().memory.new_file();
    }

    /// Somebody at the decoder has it give all of its memory to everybody who listens: a rewind at a CloudBox, a print at
    /// a Timy.
    pub fn give_again(&self) {
        self.shared.lock().memory.give_again();
        self.shared.emitted.send_modify(|_| {}); // who pushes looks
    }

    /// Somebody at the decoder clears its current file.
    pub fn clear(&self) {
        self.shared.lock().memory.clear();
    }

    /// It does something that decoders do, or somebody does it to it.
    pub async fn does(&self, habit: DecoderHabit) {
        const TWO_HOURS_MS: i64 = 2 * 60 * 60 * 1000;
        const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
        const LAST_WEEK: usize = 40;
        const FIRST_READS: usize = 10;
        let nature = self.shared.kind.simulator();
        match habit {
            DecoderHabit::Clear => self.clear(),
            DecoderHabit::ClearAndCountOn => {
                let online = *self.shared.online.borrow();
                self.set_online(false);
                let _ = self.links().wait_for(|links| *links == 0).await; // the sender is in `shared`
                self.shared.happen(|memory| {
                    let reached = memory.entries(memory.file()).len();
                    memory.clear();
                    let _all = (0..reached + 10).all(|_| memory.happen());
                });
                self.set_online(online);
            }
            DecoderHabit::ClockBack => self.shared.lock().memory.set_clock(-TWO_HOURS_MS),
            DecoderHabit::TellsNoTime => self.shared.lock().memory.tells_no_time = true,
            DecoderHabit::RepeatLast => {
                self.shared.lock().memory.repeat_last();
                self.shared.emitted.send_modify(|_| {}); // who pushes looks
            }
            DecoderHabit::SwapTwo => self.shared.lock().memory.swap_two(),
            DecoderHabit::LastWeek => self.shared.happen(|memory| {
                memory.set_clock(-WEEK_MS);
                let _all = (0..LAST_WEEK).all(|_| memory.happen());
                memory.set_clock(WEEK_MS);
            }),
            DecoderHabit::PushOff => self.shared.lock().memory.take_push(),
            DecoderHabit::OtherSession => self.shared.happen(|memory| {
                memory.take_push();
                if nature.begins_files() {
                    memory.new_file();
                }
                let _all = (0..FIRST_READS).all(|_| memory.happen());
            }),
            DecoderHabit::PrintMemory if self.shared.kind.spec().given_by_hand => self.give_again(),
            DecoderHabit::Reboot if nature.loses_its_clock() => {
                self.shared.lock().memory.reboot();
                self.drop_links();
            }
            DecoderHabit::PrintMemory | DecoderHabit::Reboot => {}
        }
    }

    /// Stops it and waits until its port is free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Lets the race happen as time goes by.
async fn live(shared: Arc<Shared>, needs_listener: bool) {
    let mut turns = tokio::time::interval(TURN);
    let mut links = shared.links.subscribe();
    let mut clock = Duration::ZERO;
    let mut last = Instant::now();
    loop {
        turns.tick().await;
        if needs_listener && *links.borrow_and_update() == 0 {
            if links.wait_for(|links| *links > 0).await.is_err() {
                return;
            }
            last = Instant::now();
        }
        clock += last.elapsed();
        last = Instant::now();
        let now_us = u64::try_from(clock.as_micros()).unwrap_or(u64::MAX);
        shared.happen(|memory| {
            while memory.due_us().is_some_and(|due| due <= now_us) {
                memory.happen();
            }
        });
        if shared.lock().memory.due_us().is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
