//! A simulated decoder for each protocol. `demo`, `simulate decoder`, tests and benches share it.
//!
//! What must hold:
//! * **It behaves like the real decoder, as the documents describe it.** It shares no decoding or
//!   encoding with the code that it tests. (The one exception is a recording, whose reads are those
//!   that our protocol finds in it.) RACE RESULT, One4All and P3 are servers that store every read,
//!   push new reads and send stored ones again on request (One4All pushes to its last connection
//!   only). ChronoTrack does the same, but connects to the box. The MYLAPS exporter connects and
//!   repeats each message until it is acknowledged. The others only stream, and reads without a
//!   listener are lost.
//! * **It knows the truth.** [`SimDecoder::reads`] has every read that happened,
//!   [`SimDecoder::acked`] the reads that a box may not lose any more, and
//!   [`SimDecoder::forbidden`] the commands that no box may send.
//! * **Deterministic.** The same configuration and seed result in the same reads with the same
//!   stamps. Only *when* they happen follows the (monotonic) clock, or the caller
//!   ([`SimDecoder::push`]).
//! * **Bounded.** The race is over after
//!   [`READS_MAX`](crate::decoders::simulator::memory::READS_MAX) reads of 16 bytes (plus one byte
//!   for each acknowledged read). A recording is held whole.
//!
//! The race of a decoder that only streams begins when the first peer listens, so that a
//! demonstration does not lose its beginning. From then on it goes on, as a real one does: what
//! passes while nobody listens happened, and is gone. `push` does not wait for a listener.

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

/// The simulator checks this often which reads of the race are due.
const TURN: Duration = Duration::from_millis(5);

/// How the simulated decoder is connected.
pub enum Wiring {
    /// It listens on this address (port 0: any free port). For decoders that the box connects to.
    Listen(SocketAddr),
    /// It connects to a box at this address, again and again. For decoders that connect to the box
    /// ([`Kind::connects`]).
    Connect(SocketAddr),
    /// It uses this port: a serial line, a pty, a pipe. For decoders that the box connects to.
    Port(Box<dyn DecoderPort>),
}

/// A port that a simulated decoder can use.
pub trait DecoderPort: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DecoderPort for T {}

/// The source of the reads.
pub enum ReadSource {
    /// A made-up race.
    Race(RaceConfig),
    /// Rows as recorded (see [`Kind::rows`]). One row is sent every `1/rate` seconds, whatever the
    /// stamps are.
    Recording(Vec<Vec<u8>>),
}

/// The configuration of a simulated decoder.
pub struct SimConfig {
    /// The kind of decoder.
    pub kind: Kind,
    /// How it is connected.
    pub wiring: Wiring,
    /// The source of its reads.
    pub source: ReadSource,
    /// The mean number of reads a second. 0: reads happen only by [`SimDecoder::push`].
    pub rate: f64,
    /// The most reads of the race.
    pub limit: Option<u64>,
    /// The decoder's clock at the start: wall time in its own zone.
    pub start: DateTime,
    /// The seed of the race.
    pub seed: u64,
    /// The faults on the wire.
    pub faults: Vec<WireFault>,
    /// Timing points, for decoders that name them (ChronoTrack, MYLAPS). Ten reads are at the first
    /// one, ten at the next, and so on.
    pub locations: Vec<String>,
    /// The id of the reader, for decoders whose records have it (ChronoTrack). Two sources may have
    /// the same location name.
    pub reader: String,
    /// LLRP: other software left an inventory in the reader, which runs without the box.
    pub programmed: bool,
    /// MYLAPS: a message is sent again after this time without an acknowledgement (the real
    /// exporter: 20 s).
    pub repeat: Duration,
}

impl SimConfig {
    /// A race of the default field that starts at 10:00 on a summer's day, without faults, where
    /// reads happen only by [`SimDecoder::push`].
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
    /// The port cannot be opened.
    #[error("the simulated decoder cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The wiring does not fit: some decoders connect to the box, the others wait for a connection.
    #[error("a simulated {0} decoder {1}")]
    Wiring(&'static str, &'static str),
}

/// A running simulated decoder. It stops when it is dropped.
pub struct SimDecoder {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl SimDecoder {
    /// Starts the decoder.
    ///
    /// # Errors
    /// The port cannot be opened, or the wiring does not fit the protocol.
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

    /// The address on which it listens, if it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The number of reads that happened so far. It changes with each read.
    pub fn emitted(&self) -> watch::Receiver<u64> {
        self.shared.emitted.subscribe()
    }

    /// The number of reads that a MYLAPS exporter got acknowledged. It changes with each
    /// acknowledgement.
    pub fn acked_count(&self) -> watch::Receiver<u64> {
        self.shared.acked.subscribe()
    }

    /// The number of links that are open now.
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

    /// The commands received that start, stop, set or clear a decoder. The box may send none of
    /// them.
    pub fn forbidden(&self) -> Vec<String> {
        self.shared.lock().forbidden.clone()
    }

    /// All bytes that were sent to the decoder, one entry for each connection (bounded: the first
    /// 200 connections, 64 KiB of each).
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.lock().heard.all()
    }

    /// No more reads will happen by themselves: the limit is reached, the recording is played, or
    /// the race is over.
    pub fn is_over(&self) -> bool {
        self.shared.lock().memory.due_us().is_none()
    }

    /// Makes `count` reads (or rows of the recording) happen now.
    pub fn push(&self, count: u64) {
        self.shared.happen(|memory| {
            let _all = (0..count).all(|_| memory.happen());
        });
    }

    /// Cuts every connection now.
    pub fn drop_links(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Takes the decoder off the network: connections are cut, new ones end at once, and the
    /// exporter does not connect. The race continues.
    pub fn set_online(&self, online: bool) {
        self.shared.online.send_replace(online);
        if !online {
            self.drop_links();
        }
    }

    /// Freezes the decoder: links stay open, and the decoder neither sends nor reads. The race
    /// continues.
    pub fn set_frozen(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    /// A person at the decoder begins a new file, and the numbers start at 1 again.
    pub fn new_file(&self) {
        self.shared.lock().memory.new_file();
    }

    /// A person at the decoder makes it send its whole memory to every peer: a rewind at a
    /// CloudBox, a print at a Timy.
    pub fn give_again(&self) {
        self.shared.lock().memory.give_again();
        self.shared.emitted.send_modify(|_| {}); // wakes the tasks that push
    }

    /// A person at the decoder clears its current file.
    pub fn clear(&self) {
        self.shared.lock().memory.clear();
    }

    /// Makes the decoder show a habit: something that decoders do, or that a person does to them.
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
                self.shared.emitted.send_modify(|_| {}); // wakes the tasks that push
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

    /// Stops the decoder and waits until its port is free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Makes the reads of the race happen when they are due. If the decoder only streams, the race
/// begins with the first peer.
async fn live(shared: Arc<Shared>, needs_listener: bool) {
    let now_us = || u64::try_from(shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if needs_listener {
        let mut links = shared.links.subscribe();
        if links.wait_for(|links| *links > 0).await.is_err() {
            return;
        }
        shared.lock().memory.begin_at(now_us());
    }
    let mut turns = tokio::time::interval(TURN);
    loop {
        turns.tick().await;
        let now_us = now_us();
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
