//! What all connections of a decoder share, and what the board shows about the decoder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::doubts::Doubts;
use super::handle::DecoderHandle;
use super::memories::Memories;
use super::offset::{ClockVerdict, Measured, Offsets};
use super::port;
use super::receive_buffer::ReceiveBuffer;
use super::sense::{Nonsense, Sense};
use super::store::ReadStore;
use crate::config::{Address, DecoderConfig};
use crate::decoders::{Cleared, Condition, Info, Missed, Protocol, SettingError, Settings, Spec};
use crate::link::capture::Header;
use crate::model::chip::{ChipRead, Stamp, StoredRanges};
use crate::model::clock::offset_ms;
use crate::model::retry::Retry;
use crate::status::words::{against_box, zone_minutes};
use crate::status::{Board, ClockBy, ProblemCode};

/// A port may wait this long for the decoder's software before the link raises a problem.
const AWAITED: Duration = Duration::from_secs(10);

/// Conditions that a decoder reported and that do not end with the connection. What is lost stays
/// lost, and the link does not ask for an older file again by itself.
const STAYING: [Condition; 4] =
    [Condition::LlrpReadsLost, Condition::OldFileNotFetched, Condition::FilesInBetween, Condition::RecordUnread];

/// How long the board shows that a decoder counts from the start again.
const RESTART_SHOWN: Duration = Duration::from_secs(600);

/// Times and sizes of a link. They are fixed, and only tests run with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// First wait before the link opens a port again.
    pub(super) retry: Duration,
    /// Longest wait for a network port.
    pub(super) retry_max: Duration,
    /// Longest wait for a serial port. It is short because opening one costs nothing, and a pulled
    /// adapter is plugged in again soon.
    pub(super) retry_max_serial: Duration,
    /// A decoder that took a connection and ended it at once counts as working again when the next
    /// connection lasts this long, or when it delivers a read.
    pub(super) steady: Duration,
    /// A connection that delivered something and lasted this long resets the backoff.
    pub(super) proven: Duration,
    /// How long a new connection waits until the journal has reported the stored ranges.
    pub(super) held: Duration,
    /// How long a peer may accept none of our replies.
    pub(super) write: Duration,
    /// How long an ended connection waits for its last replies to become due. At a stop the link
    /// then waits as long again until the receive buffer is kept. Both together stay well within
    /// the 10 s of systemd and of the daemon.
    pub(super) settle: Duration,
    /// Size of the receive buffer in bytes, frame overhead included.
    pub(super) buffer: usize,
    /// A condition that an earlier connection reported is over when a connection has been up for
    /// this long and did not report it again. This is longer than any protocol waits before it asks
    /// again.
    pub(super) renewed: Duration,
    /// How long the journal may need for one group. After that, the link no longer makes a decoder
    /// wait that only streams: it reads on, and drops and counts the reads. This is far longer than
    /// a slow card needs, and shorter than the buffers of the port last.
    pub(super) stall: Duration,
    /// A decoder that was just connected and asked for its stored reads begins to answer within
    /// this time.
    pub(super) stored_first: Duration,
    /// Longest gap between the stored reads that the decoder then sends.
    pub(super) stored_gap: Duration,
    /// For this long after the connection, live reads may be marked as amid stored ones. The link
    /// does not wait for a memory that takes longer.
    pub(super) stored_max: Duration,
}

pub(super) const LIMITS: Limits = Limits {
    retry: Duration::from_secs(1),
    retry_max: Duration::from_secs(30),
    retry_max_serial: Duration::from_secs(2),
    steady: Duration::from_secs(3),
    proven: Duration::from_secs(10),
    held: Duration::from_secs(3),
    write: Duration::from_secs(10),
    settle: Duration::from_millis(2500),
    buffer: 8 * 1024 * 1024,
    renewed: Duration::from_secs(90),
    stall: Duration::from_secs(3),
    stored_first: Duration::from_secs(3),
    stored_gap: Duration::from_secs(1),
    stored_max: Duration::from_secs(8),
};

/// Adds a decoder to the board. Links start at once and side by side. So a caller that wants all
/// decoders on the board from the start, in the order of the configuration, announces them first.
pub(crate) fn announce(config: &DecoderConfig, board: &Board) {
    board.decoder(&config.name, |status| {
        status.protocol = config.protocol.name.to_owned();
        status.address = port::place(&config.address);
        status.locations = config.locations.keys().map(|location| (location.clone(), 0)).collect();
    });
}

pub(super) struct Decoder {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) spec: &'static Spec,
    pub(super) set: Settings,
    pub(super) zone: TimeZone,
    pub(super) rewind: bool,
    pub(super) limits: Limits,
    pub(super) board: Board,
    pub(super) asks: DecoderHandle,
    pub(super) buffer: ReceiveBuffer,
    pub(super) presence: Mutex<Presence>,
    pub(super) doubts: Doubts,
    pub(super) offsets: Mutex<Offsets>,
    /// What the link found about the decoder's clock, and what the board shows.
    pub(super) clock: Mutex<Option<Measured>>,
    /// Shared by the connection that we dial and the one that we dial next. A connection that we
    /// accept has a `Sense` of its own.
    pub(super) sense: Arc<Mutex<Sense>>,
    pub(super) serial: bool,
    /// No zone is configured, and no read has shown yet that the decoder sends UTC.
    zoneless: AtomicBool,
    /// Since when nobody is connected to a port that waits for the decoder's software.
    pub(super) awaited: Mutex<Option<Instant>>,
    pub(super) memories: Memories,
    /// When the decoder last began to count from the start again.
    pub(super) restarted: Mutex<Option<Instant>>,
    /// The board shows that the link found no record in the decoder's bytes.
    pub(super) babbling: AtomicBool,
    /// The board shows that the protocol cannot make sense of what the decoder sends.
    nonsense: AtomicBool,
}

/// Whether the decoder is connected and answers.
#[derive(Default)]
pub(super) struct Presence {
    /// Number of connections that are up.
    pub(super) up: usize,
    /// A connection went silent, and no connection has delivered a byte since. A new connection
    /// alone proves nothing.
    pub(super) silent: bool,
    /// The decoder took the last connection and ended it at once, and no later one has worked yet.
    /// The board shows the decoder as unreachable until one does.
    pub(super) doubted: bool,
    /// Since when at least one connection is up.
    pub(super) since: Option<Instant>,
    /// The conditions that the board shows, and whether an earlier connection reported them. There
    /// are at most as many as the protocols have names for.
    pub(super) conditions: BTreeMap<Condition, bool>,
}

impl Decoder {
    pub(super) fn new(limits: Limits, config: DecoderConfig, asks: DecoderHandle, board: Board) -> Self {
        announce(&config, &board);
        asks.tap().describe(Header::of(&config));
        let place = port::place(&config.address);
        let zoneless = !config.zone_given && !config.protocol.tells_utc;
        if zoneless {
            let message = format!(
                "`{}` sends the time of its clock, and the configuration does not say which time zone that is: UTC is \
                 taken. Write timezone = \"Europe/Madrid\", or the zone that its display shows, into its [[decoder]]",
                config.name
            );
            board.raise(ProblemCode::ZoneMissing, &config.name, message);
        }
        Self {
            offsets: Mutex::new(Offsets::new(config.clock)),
            clock: Mutex::default(),
            sense: Arc::default(),
            serial: matches!(config.address, Address::Serial { .. }),
            zoneless: AtomicBool::new(zoneless),
            awaited: Mutex::new(matches!(config.address, Address::Listen(_)).then(Instant::now)),
            buffer: ReceiveBuffer::new(
                &config.name,
                config.locations.keys(),
                config.protocol.missed != Missed::Lost,
                limits.buffer,
                limits.stall,
                board.clone(),
            ),
            name: config.name,
            place,
            spec: config.protocol,
            set: config.set,
            zone: config.timezone,
            rewind: config.rewind && config.protocol.missed == Missed::Stored,
            limits,
            board,
            asks,
            presence: Mutex::default(),
            doubts: Doubts::default(),
            memories: Memories::default(),
            restarted: Mutex::default(),
            babbling: AtomicBool::default(),
            nonsense: AtomicBool::default(),
        }
    }

    pub(super) fn protocol(&self) -> Result<Box<dyn Protocol>, SettingError> {
        (self.spec.make)(&self.set)
    }

    pub(super) fn stored_ranges<K: ReadStore>(&self, store: &K) -> Option<BoxFuture<'static, StoredRanges>> {
        let (store, name) = (store.clone(), self.name.clone());
        // The link also needs the stored ranges where it asks for nothing by itself: somebody may
        // ask by hand, and the protocol recognises by them that a decoder counts from the start
        // again.
        (self.spec.missed == Missed::Stored).then(|| async move { store.stored_ranges(&name).await }.boxed())
    }

    pub(super) fn retry(&self, serial: bool) -> Retry {
        Retry::new(self.limits.retry, if serial { self.limits.retry_max_serial } else { self.limits.retry_max })
    }

    pub(super) fn wait(&self, retry: &mut Retry) -> Duration {
        retry.next(&mut fastrand::Rng::new(), Some(self.limits.retry))
    }

    /// The decoder sends bytes, and the protocol finds nothing in them, not even something to
    /// reject.
    pub(super) fn on_no_records(&self) {
        let message = format!(
            "`{}` at {} sends bytes without a single record or line end in a megabyte. None of it is kept. Check protocol \
             and address, on a serial line the baud rate",
            self.name, self.place
        );
        self.babbling.store(true, Ordering::Relaxed);
        self.board.raise(ProblemCode::DecoderNoRecords, &self.name, message);
    }

    /// The protocol found something that it does not reject.
    pub(super) fn on_records(&self) {
        if self.babbling.swap(false, Ordering::Relaxed) {
            self.board.clear(ProblemCode::DecoderNoRecords, &self.name);
        }
    }

    /// The decoder sent something that is no record.
    pub(super) fn on_info(&self, info: Info, received: Timestamp) {
        match info {
            Info::Alive | Info::Greeting(Stamp::Uptime(_)) => {}
            Info::Clock(clock) | Info::Greeting(clock) => {
                let offset = offset_ms(&clock, &self.zone, received);
                self.memories.clock(offset);
                let off = self.offsets().answer(offset, tells_whole_seconds(&clock), tokio::time::Instant::now());
                self.board.decoder(&self.name, |status| {
                    (status.clock_offset_ms, status.clock_by) = (Some(offset), Some(ClockBy::Answer));
                    // One answer is no proof, but it is enough to say no longer that all is right.
                    status.times_right &= !off;
                });
                if off {
                    *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                self.compare();
            }
            Info::Condition { code, text: Some(text) } => {
                self.presence().conditions.insert(code, false);
                self.board.raise(code.into(), &self.name, text);
            }
            Info::Condition { code, text: None } => {
                self.presence().conditions.remove(&code);
                self.board.clear(code.into(), &self.name);
            }
            Info::Restarted(what) => self.on_restarted(&what),
        }
    }

    /// A read arrived: the link decides whether its time can be trusted, and whether it belongs to
    /// this race.
    pub(super) fn check_time(&self, read: &mut ChipRead, received: Timestamp) {
        self.works(false);
        self.doubts.judge(&self.name, &self.zone, read, received, &self.board);
        read.held_back = self.memories.judge(read, &self.zone, received);
        if self.zoneless.load(Ordering::Relaxed) && matches!(read.stamp, Stamp::Utc(_)) {
            self.zoneless.store(false, Ordering::Relaxed);
            self.board.clear(ProblemCode::ZoneMissing, &self.name);
        }
        if self.offsets().read(read, &self.zone, received, tokio::time::Instant::now()) {
            self.compare();
        }
    }

    pub(super) fn offsets(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decoder cleared one of its memories.
    pub(super) fn on_cleared(&self, cleared: &Cleared) {
        self.memories.cleared(cleared);
        self.on_restarted(&cleared.text);
    }

    /// The decoder counts from the start again.
    pub(super) fn on_restarted(&self, what: &str) {
        let message = format!(
            "`{}` counts from the start again: {what}. Reads that this box had not fetched before may be gone \
             from the decoder's memory",
            self.name
        );
        self.board.raise(ProblemCode::DecoderRestarted, &self.name, message);
        *self.restarted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Shows what the link now knows about the decoder's clock, if it differs from what the board
    /// shows.
    pub(super) fn compare(&self) {
        let Some(found) = self.offsets().look(tokio::time::Instant::now()) else { return };
        let mut shown = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        // The milliseconds change with each read, but the messages are in whole seconds.
        let same = |one: &Measured| {
            one.verdict == found.verdict && one.by == found.by && (one.offset_ms - found.offset_ms).abs() < 1000
        };
        if shown.as_ref().is_some_and(same) {
            return;
        }
        *shown = Some(found);
        self.board.decoder(&self.name, |status| {
            (status.clock_offset_ms, status.clock_by) = (Some(found.offset_ms), Some(found.by));
            status.times_right = found.verdict == ClockVerdict::Right;
        });
        for (code, verdict) in
            [(ProblemCode::DecoderClockOff, ClockVerdict::Wrong), (ProblemCode::DecoderClockNear, ClockVerdict::Near)]
        {
            match found.verdict == verdict {
                true => self.board.raise(code, &self.name, self.clock_in_words(found)),
                false => self.board.clear(code, &self.name),
            }
        }
    }

    fn clock_in_words(&self, found: Measured) -> String {
        let offset = against_box(found.offset_ms);
        let how = match found.by {
            ClockBy::Answer => "its clock is",
            ClockBy::Reads => "its live reads are stamped",
        };
        let begin = format!("`{}`: {how} {offset}", self.name);
        let Some(minutes) = zone_minutes(found.offset_ms) else {
            if found.by == ClockBy::Reads && found.offset_ms < 0 {
                return format!(
                    "{begin}: they arrive late, or its clock is wrong. Compare the clocks of the decoder and of this box \
                     with your phone, and set the one that is wrong"
                );
            }
            return format!(
                "{begin}. Compare both clocks with your phone, and set the one that is wrong: every time of this decoder \
                 is off by that"
            );
        };
        if self.spec.tells_utc {
            return format!("{begin}: is its own time zone right? It should send UTC. Correct it at the decoder");
        }
        let zone = self.zone.to_offset(self.board.now()).seconds() / 60;
        format!(
            "{begin}: is the timezone right? The configuration has {} (UTC{}), and the clock of the decoder shows UTC{}. \
             Correct timezone for `{}` in the configuration, or set the decoder",
            self.zone.iana_name().unwrap_or("UTC"),
            hours(zone.into()),
            hours(i64::from(zone) + minutes),
            self.name
        )
    }

    /// Says in words what makes no sense to the protocol, and what to change.
    pub(super) fn makes_no_sense(&self, found: &Nonsense) {
        let begin = format!("`{}` at {}", self.name, self.place);
        let protocol = self.spec.name;
        let nothing = format!("{begin} sends what {protocol} does not know, and no read");
        let (code, message) = match found {
            Nonsense::Protocol(names) if !names.is_empty() => {
                let text = format!(
                    "{nothing}. It looks like {}: write protocol = \"{}\" into its [[decoder]] in the configuration \
                     (now: \"{protocol}\")",
                    names.join(" or "),
                    names[0]
                );
                (ProblemCode::WrongProtocol, text)
            }
            Nonsense::Protocol(_) => {
                let text = format!(
                    "{nothing}. It looks like no decoder that is known. Is protocol = \"{protocol}\" right, and the \
                     address? Behind a device server: is its baud rate right? `passbridge probe` shows what it sends"
                );
                (ProblemCode::WrongProtocol, text)
            }
            Nonsense::Options(set) => {
                let set: Vec<String> = set.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
                let text = format!(
                    "{nothing}. It is {protocol} with another option: write {} into its [decoder.set]",
                    set.join(", ")
                );
                (ProblemCode::WrongProtocol, text)
            }
            Nonsense::Foreign(what) => {
                let text = format!("{begin} is no {protocol}: {what}. Is the address right, with its port?");
                (ProblemCode::WrongProtocol, text)
            }
            Nonsense::Baud => {
                let text = format!(
                    "{begin} sends bytes that are no text and no record, as at a wrong baud rate. Correct baud in its \
                     address in the configuration; `passbridge probe` finds the rate"
                );
                (ProblemCode::WrongBaud, text)
            }
        };
        self.nonsense.store(true, Ordering::Relaxed);
        self.board.raise(code, &self.name, message);
        let other = match code {
            ProblemCode::WrongBaud => ProblemCode::WrongProtocol,
            _ => ProblemCode::WrongBaud,
        };
        self.board.clear(other, &self.name);
    }

    /// The protocol understands what the decoder sends.
    pub(super) fn understands(&self) {
        if self.nonsense.swap(false, Ordering::Relaxed) {
            self.board.clear(ProblemCode::WrongProtocol, &self.name);
            self.board.clear(ProblemCode::WrongBaud, &self.name);
        }
    }

    /// Raises a problem if a port waits for the decoder's software and nobody connects.
    pub(super) fn awaits(&self, now: Instant) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if self.presence().up > 0 {
            *awaited = None;
        } else if awaited.is_some_and(|since| now.saturating_duration_since(since) >= AWAITED) {
            *awaited = None;
            let message = format!(
                "nobody has connected to `{}` at {} yet: its software has to connect to this port. Does it know the \
                 address of this box?",
                self.name, self.place
            );
            self.board.raise(ProblemCode::DecoderUnreachable, &self.name, message);
        }
    }

    /// Ends the conditions that an earlier connection reported, if this connection had time to
    /// report them again and did not.
    pub(super) fn clear_conditions(&self) {
        let mut presence = self.presence();
        let renewed = presence.since.is_some_and(|since| since.elapsed() >= self.limits.renewed);
        if presence.up > 0 && renewed {
            let over = presence.conditions.extract_if(.., |code, earlier| *earlier && !STAYING.contains(code));
            over.for_each(|(code, _)| self.board.clear(code.into(), &self.name));
        }
    }

    /// Called about once a second, whatever the connections do.
    pub(super) fn upkeep(&self) {
        self.buffer.report();
        self.works(true);
        self.clear_conditions();
        self.compare();
        self.awaits(Instant::now());
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        if restarted.is_some_and(|at| at.elapsed() >= RESTART_SHOWN) {
            *restarted = None;
            self.board.clear(ProblemCode::DecoderRestarted, &self.name);
        }
    }
}

/// Whether the clock shows whole seconds only. Such a clock seems to be behind by up to one second.
fn tells_whole_seconds(clock: &Stamp) -> bool {
    match clock {
        Stamp::Local(local) => local.subsec_nanosecond() == 0,
        Stamp::Utc(instant) => instant.subsec_nanosecond() == 0,
        Stamp::TimeOfDay { time, .. } => time.subsec_nanosecond() == 0,
        Stamp::Uptime(_) => false,
    }
}

/// Minutes east of UTC as text, such as `+01:00`.
fn hours(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}
