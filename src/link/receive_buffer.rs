//! The receive buffer of one decoder: what its connections received and the journal has not made
//! durable yet.
//!
//! What must hold:
//! * **In order, one group at a time.** The journal keeps the chunks in the order in which they
//!   were put, whatever connection they arrived on. [`ReceiveBuffer::progress`] counts durable
//!   chunks, so "everything before chunk n is durable" is one comparison.
//! * **It outlives connections.** If a cable is pulled while the disk is full, nothing is lost that
//!   had arrived.
//! * **Bounded.** The buffer has at most [`Limits::buffer`](super::decoder::Limits::buffer) bytes,
//!   counted as raw bytes plus [`FRAME_COST`] for each frame. When it is full, the link pauses
//!   reading ([`ReceiveBuffer::is_full`]). What was already read, at most one read buffer for each
//!   connection, is still put in. Meanwhile the buffers of the port and of the decoder take what is
//!   sent. That loses nothing while the journal still writes, only more slowly than the reads
//!   arrive. Once the journal writes nothing at all
//!   ([`Limits::stall`](super::decoder::Limits::stall): the disk is full), pausing would only move
//!   the loss to where nobody counts it. A decoder that can be asked again (or repeats) is still
//!   not read from. Of a decoder that only streams, the newest frames are dropped and counted, and
//!   a marker with the count is written to the journal where they are missing.
//! * **Sources are decided here**: a location with a device of its own is kept as a source of its
//!   own ([`crate::model::source`]). A chunk is durable when all of its sources are, so an
//!   acknowledgement waits for every one of them.
//! * **Rejects are capped.** A wrong baud rate causes a flood of them (see [`Rejects`]).
//!
//! Not chosen:
//! * A channel of frames with a fixed number of places: a frame of 20 bytes would weigh as much as
//!   one of 20 KiB.
//! * A buffer for each connection: 16 connections would need 16 times the memory, and frames would
//!   lose their order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::flood::{Flood, MANY, Rate};
use super::store::ReadStore;
use crate::decoders::{Frame, Framed, Reject};
use crate::journal::{JournalError, Received};
use crate::model::chip::{Marker, Seq};
use crate::model::source;
use crate::status::{Board, KeptReads, LastRead, ProblemCode, RECENT_READS, RecentRead};

/// Memory of a frame beside its raw bytes, rounded up: the decoded fields and their allocations.
const FRAME_COST: usize = 512;

/// Chunks that the buffer hands to the journal at once. Each chunk is one read from a port with its
/// own time of receipt. At one device flush of 8 ms for each group this allows 3,750 separate reads
/// a second.
const GROUP: usize = 30;

/// Frames after which no further chunk is handed over with them: the journal would cut such a group.
const GROUP_FRAMES: usize = 4096;

/// Raw bytes that are kept of a rejected frame.
const REJECT_RAW: usize = 1024;
/// Raw bytes that are kept of a rejected frame which is acknowledged, so that the decoder forgets
/// it. This is all that a protocol puts out for one.
const ACKNOWLEDGED_RAW: usize = 4096;

/// When bytes were received.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiptTime {
    /// By the wall clock of the box. It becomes part of the entry.
    pub(super) wall: Timestamp,
    /// By the clock that does not step. How long a read takes is measured from here.
    pub(super) at: Instant,
}

impl ReceiptTime {
    /// The present moment.
    pub(super) fn now(board: &Board) -> Self {
        Self { wall: board.now(), at: Instant::now() }
    }
}

/// The frames of one read from a port.
struct Chunk {
    received: ReceiptTime,
    frames: Vec<Framed>,
    cost: usize,
}

/// See the head of this file.
pub(super) struct ReceiveBuffer {
    decoder: Arc<str>,
    /// Maps a location to its source.
    sources: BTreeMap<Box<str>, Arc<str>>,
    resends: bool,
    limit: usize,
    stall: Duration,
    board: Board,
    queue: Mutex<Queue>,
    filled: Notify,
    durable: watch::Sender<u64>,
}

struct Queue {
    /// Chunks that the journal has not taken yet.
    chunks: VecDeque<Chunk>,
    /// Number of chunks ever put.
    put: u64,
    /// When the journal last began or ended a group.
    moved: Instant,
    /// Cost of everything that is not durable, including the group that is being written.
    cost: usize,
    /// Number of frames that are not durable, including the group that is being written.
    frames: u64,
    /// Reads and markers dropped since the buffer became full, and when the first of them arrived.
    gap: Option<(u64, ReceiptTime)>,
    rejects: Rejects,
    flood: Flood,
    totals: Totals,
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    rejected: u64,
    dropped: u64,
    /// Reads received that the decoder had not stored.
    live: u64,
}

impl ReceiveBuffer {
    pub(super) fn new(
        decoder: &str,
        locations: impl Iterator<Item = impl AsRef<str>>,
        resends: bool,
        limit: usize,
        stall: Duration,
        board: Board,
    ) -> Self {
        let queue = Queue {
            chunks: VecDeque::new(),
            put: 0,
            moved: Instant::now(),
            cost: 0,
            frames: 0,
            gap: None,
            rejects: Rejects::new(Instant::now()),
            flood: Flood::new(Instant::now()),
            totals: Totals::default(),
        };
        Self {
            decoder: decoder.into(),
            sources: locations.map(|at| (at.as_ref().into(), source::name(decoder, at.as_ref()).into())).collect(),
            resends,
            limit,
            stall,
            board,
            queue: Mutex::new(queue),
            filled: Notify::new(),
            durable: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere ends the process. The queue is plain data and consistent between any
        // two statements below.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the frames of one read, none of them [`Frame::Info`]. A reply of the protocol follows
    /// the first `acknowledged` of them. Of these a reject is kept even beyond the cap, because the
    /// decoder will forget it.
    ///
    /// Returns the number of the chunk, or `None` if none of the frames is kept.
    pub(super) fn put(&self, received: ReceiptTime, mut frames: Vec<Framed>, acknowledged: usize) -> Option<u64> {
        let now = Instant::now();
        let mut guard = self.lock();
        let queue = &mut *guard;
        let stalled = now.duration_since(queue.moved) >= self.stall;
        let mut cost = 0;
        let mut at = 0;
        frames.retain_mut(|framed| {
            let covered = at < acknowledged;
            at += 1;
            if let Frame::Rejected(reason) = framed.frame {
                queue.totals.rejected += 1;
                if !queue.rejects.admit(reason, now, covered) {
                    return false;
                }
                let most = if covered { ACKNOWLEDGED_RAW } else { REJECT_RAW };
                if framed.raw.len() > most {
                    framed.raw = framed.raw[..most].into();
                }
            }
            if matches!(&framed.frame, Frame::Read(read) if !read.replay) {
                queue.totals.live += 1;
            }
            let weight = FRAME_COST + framed.raw.len();
            if !self.resends && (queue.gap.is_some() || (stalled && queue.cost + cost + weight > self.limit)) {
                if !matches!(framed.frame, Frame::Rejected(_)) {
                    queue.gap.get_or_insert((0, received)).0 += 1;
                    queue.totals.dropped += 1;
                }
                return false;
            }
            cost += weight;
            true
        });
        if frames.is_empty() {
            return None;
        }
        // Of thousands of rejects in one read a few are kept. Their unused places would stay
        // allocated, and the cost does not count them.
        if frames.capacity() > 2 * frames.len() {
            frames.shrink_to_fit();
        }
        queue.push(Chunk { received, frames, cost });
        let number = queue.put;
        drop(guard);
        self.filled.notify_one();
        Some(number)
    }

    /// The buffer is full, and waiting loses nothing, so the link reads no more for now.
    pub(super) fn is_full(&self) -> bool {
        let queue = self.lock();
        queue.cost >= self.limit && (self.resends || queue.moved.elapsed() < self.stall)
    }

    /// How many chunks are durable. It changes with every group.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Number of frames received but not durable.
    pub(super) fn buffered(&self) -> u64 {
        self.lock().frames
    }

    /// Returns once everything that was put is durable.
    pub(super) async fn drained(&self) {
        let mut durable = self.durable.subscribe();
        while *durable.borrow_and_update() < self.lock().put {
            if durable.changed().await.is_err() {
                return;
            }
        }
    }

    /// Hands group after group to the journal, for ever. It returns only when the journal is gone.
    pub(super) async fn keep_all<K: ReadStore>(&self, store: &K) -> JournalError {
        loop {
            let group = self.group().await;
            let chunks = group.len() as u64;
            let cost: usize = group.iter().map(|chunk| chunk.cost).sum();
            let frames: u64 = group.iter().map(|chunk| chunk.frames.len() as u64).sum();
            let mut parts = Vec::new();
            group.into_iter().for_each(|chunk| self.by_source(chunk, &mut parts));
            // Where each part begins in the group.
            let mut at = 0;
            let shown: Vec<(u64, Shown<'_>)> = parts
                .iter()
                .map(|part| {
                    let begins = at;
                    at += part.received.frames.len() as u64;
                    (begins, Shown::of(part))
                })
                .collect();
            let kept = match store.append(parts.into_iter().map(|part| part.received).collect()).await {
                Ok(kept) => kept,
                Err(error) => return error,
            };
            let durable = Instant::now();
            self.settle(chunks, cost, frames);
            self.show(shown.into_iter().map(|(begins, shown)| (kept.first.0 + begins, shown)).collect(), durable);
        }
    }

    /// Splits a chunk into parts of one source each, in the order of arrival. When the decoder
    /// counts from the start again, every source gets that record, because it is not known which
    /// source's reads were in that memory.
    fn by_source<'a>(&'a self, chunk: Chunk, parts: &mut Vec<Part<'a>>) {
        let chunk_begins = parts.len();
        let part = |source: &Arc<str>, location, frames| {
            let received = Received { source: Arc::clone(source), at: chunk.received.wall, frames };
            Part { location, received, at: chunk.received.at }
        };
        if self.sources.is_empty() {
            return parts.push(part(&self.decoder, None, chunk.frames));
        }
        for framed in chunk.frames {
            let location = match &framed.frame {
                Frame::Read(read) => read.location.as_deref(),
                Frame::Marker(marker) => marker.location.as_deref(),
                Frame::Cleared(_) => {
                    for source in self.sources.values() {
                        parts.push(part(source, None, vec![framed.clone()]));
                    }
                    None
                }
                Frame::Rejected(_) | Frame::Info(_) => None,
            };
            let routed = location.and_then(|location| self.sources.get_key_value(location));
            let (location, source) =
                routed.map_or((None, &self.decoder), |(location, source)| (Some(&**location), source));
            match parts[chunk_begins..].last_mut().filter(|part| Arc::ptr_eq(&part.received.source, source)) {
                Some(part) => part.received.frames.push(framed),
                None => parts.push(part(source, location, vec![framed])),
            }
        }
    }

    async fn group(&self) -> Vec<Chunk> {
        loop {
            {
                let mut queue = self.lock();
                let mut frames = 0;
                let has_room = |chunk: &&Chunk| {
                    let fits = frames < GROUP_FRAMES;
                    frames += chunk.frames.len();
                    fits
                };
                let count = queue.chunks.iter().take(GROUP).take_while(has_room).count();
                if count > 0 {
                    queue.moved = Instant::now();
                    return queue.chunks.drain(..count).collect();
                }
            }
            self.filled.notified().await;
        }
    }

    /// A group is durable: its room in the buffer is free, and whoever waits for the group may
    /// continue.
    fn settle(&self, chunks: u64, cost: usize, frames: u64) {
        let mut queue = self.lock();
        queue.moved = Instant::now();
        queue.cost -= cost;
        queue.frames -= frames;
        if let Some((count, received)) = queue.gap.take() {
            queue.push(dropped(count, received));
        }
        drop(queue);
        self.durable.send_modify(|durable| *durable += chunks);
    }

    /// Shows on the board what is durable, and since when.
    /// `kept`: each part, with the number of its first entry.
    fn show(&self, kept: Vec<(u64, Shown<'_>)>, durable: Instant) {
        let (totals, buffered) = {
            let queue = self.lock();
            (queue.totals, queue.frames)
        };
        let reads: u64 = kept.iter().map(|(_, shown)| shown.reads).sum();
        let markers: u64 = kept.iter().map(|(_, shown)| shown.markers).sum();
        let last = kept.iter().rev().find_map(|(_, shown)| shown.recent.last()).map(|(_, read)| LastRead {
            chip: read.chip.clone(),
            time: read.decoder_time.clone(),
            received: read.received,
        });
        let located = |shown: &Shown<'_>| Some((shown.location?.to_owned(), shown.reads));
        let located: Vec<(String, u64)> = kept.iter().filter_map(|(_, shown)| located(shown)).collect();
        let live = kept.iter().any(|(_, shown)| shown.live).then(|| self.board.elapsed());
        let live_in = |shown: &Shown<'_>| Some((shown.location.filter(|_| shown.live)?.to_owned(), live?));
        let live_at: Vec<(String, Duration)> = kept.iter().filter_map(|(_, shown)| live_in(shown)).collect();
        let reads_of = |(first, shown): &(u64, Shown<'_>)| KeptReads {
            entries: (Seq(*first), Seq(first + shown.frames.saturating_sub(1))),
            reads: shown.reads,
            received: shown.received,
        };
        self.board.kept(&self.decoder, durable, kept.iter().map(reads_of));
        self.board.decoder(&self.decoder, |status| {
            status.live_at = live.or(status.live_at);
            status.locations_live_at.extend(live_at);
            for (location, reads) in located {
                *status.locations.entry(location).or_default() += reads;
            }
            status.reads += reads;
            status.markers += markers;
            status.rejected = totals.rejected;
            status.dropped = totals.dropped;
            status.buffered = buffered;
            if last.is_some() {
                status.last_read = last;
            }
        });
        let recent = kept.into_iter().flat_map(|(first, shown)| {
            shown.recent.into_iter().map(move |(at, read)| RecentRead { seq: first + at, ..read })
        });
        self.board.recent(recent);
    }

    /// Called about once a second and at the end. It reports counts and problems that no kept group
    /// would show.
    pub(super) fn report(&self) {
        let (totals, buffered, verdict, rate) = {
            let mut queue = self.lock();
            let verdict = queue.rejects.verdict(Instant::now());
            let totals = queue.totals;
            (totals, queue.frames, verdict, queue.flood.look(Instant::now(), totals.live))
        };
        match rate {
            Rate::Calm => {}
            Rate::Flood(rate) => {
                let message = format!(
                    "`{}` sends {rate} reads a second; no race makes {MANY}. All of it is kept and uploaded as fast as it \
                     goes. If these are not reads it had stored, look at it: is a chip lying on the mat, or is it broken?",
                    self.decoder
                );
                self.board.raise(ProblemCode::DecoderFlood, &self.decoder, message);
            }
            Rate::Over => self.board.clear(ProblemCode::DecoderFlood, &self.decoder),
        }
        self.board.decoder(&self.decoder, |status| {
            status.rejected = totals.rejected;
            status.dropped = totals.dropped;
            status.buffered = buffered;
        });
        if totals.dropped > 0 {
            // This problem is never cleared: what is lost stays lost, and the timer has to know it
            // for the results.
            let message = format!(
                "{} reads of `{}` were lost since the start: the journal could not take them and the buffer was full. Make room on the \
                 disk; take what is missing from the decoder's own memory or the backup system",
                totals.dropped, self.decoder
            );
            self.board.raise(ProblemCode::ReadsDropped, &self.decoder, message);
        }
        match verdict {
            ReadVerdict::Calm => {}
            ReadVerdict::Flood { not_kept, reason } => {
                let message = format!(
                    "`{}` sends what its protocol does not know: {not_kept} rejected frames were counted but not kept \
                     (last reason: {reason}). Check protocol and address, on a serial line the baud rate",
                    self.decoder
                );
                self.board.raise(ProblemCode::ManyRejected, &self.decoder, message);
            }
            ReadVerdict::Over => self.board.clear(ProblemCode::ManyRejected, &self.decoder),
        }
    }
}

impl Queue {
    fn push(&mut self, chunk: Chunk) {
        self.put += 1;
        self.cost += chunk.cost;
        self.frames += chunk.frames.len() as u64;
        self.chunks.push_back(chunk);
    }
}

/// The record of a loss, at its place in the journal. It is a marker `dropped` whose name is the
/// exact number of reads and markers that are missing there. `received` is when the first of them
/// arrived.
fn dropped(count: u64, received: ReceiptTime) -> Chunk {
    let marker = Marker {
        kind: "dropped".into(),
        name: Some(count.to_string().into()),
        stamp: None,
        reader: None,
        location: None,
        position: None,
        through: None,
    };
    let framed = Framed { frame: Frame::Marker(marker), raw: Box::default() };
    Chunk { received, frames: vec![framed], cost: FRAME_COST }
}

/// The frames of a chunk that belong to one source and arrived one after the other.
struct Part<'a> {
    /// The location, if the source is a location.
    location: Option<&'a str>,
    received: Received,
    /// When it was received, by the clock that does not step.
    at: Instant,
}

/// What the board will show of a part once it is durable. The frames themselves are moved to the
/// journal.
struct Shown<'a> {
    location: Option<&'a str>,
    received: Instant,
    /// Number of its entries.
    frames: u64,
    reads: u64,
    /// At least one of the reads is live.
    live: bool,
    markers: u64,
    /// The newest reads with their place in the part. Their `seq` is filled in later.
    recent: Vec<(u64, RecentRead)>,
}

impl<'a> Shown<'a> {
    fn of(part: &Part<'a>) -> Self {
        let Received { source, at: received, frames } = &part.received;
        let mut shown = Self {
            location: part.location,
            received: part.at,
            frames: frames.len() as u64,
            reads: 0,
            live: false,
            markers: 0,
            recent: Vec::new(),
        };
        let reads = frames.iter().filter(|framed| matches!(framed.frame, Frame::Read(_))).count();
        let mut skip = reads.saturating_sub(RECENT_READS);
        shown.reads = reads as u64;
        shown.live = frames.iter().any(|framed| matches!(&framed.frame, Frame::Read(read) if !read.replay));
        for (at, framed) in (0..).zip(frames) {
            match &framed.frame {
                Frame::Read(_) if skip > 0 => skip -= 1,
                Frame::Read(read) => {
                    let recent = RecentRead {
                        seq: 0,
                        decoder: source.to_string(),
                        chip: read.chip.to_string(),
                        decoder_time: read.stamp.to_string(),
                        received: *received,
                        antenna: read.antenna.as_ref().map(ToString::to_string),
                        rssi: read.rssi,
                        hits: read.hits,
                        live: !read.replay,
                    };
                    shown.recent.push((at, recent));
                }
                Frame::Marker(_) => shown.markers += 1,
                Frame::Rejected(_) | Frame::Cleared(_) | Frame::Info(_) => {}
            }
        }
        shown
    }
}

/// How many rejected frames are kept: [`Rejects::BURST`], then one a second. The others are only
/// counted. So a decoder with a few bad frames in a race has all of them in the journal, and a
/// wrong baud rate costs at most 86,400 lines a day.
struct Rejects {
    tokens: u32,
    refilled: Instant,
    /// Number of frames not kept in the present flood. 0 means that there is no flood.
    not_kept: u64,
    last: Option<(Instant, Reject)>,
}

#[derive(Debug, PartialEq, Eq)]
enum ReadVerdict {
    Calm,
    Flood { not_kept: u64, reason: Reject },
    Over,
}

impl Rejects {
    const BURST: u32 = 100;
    const REFILL: Duration = Duration::from_secs(1);
    /// A flood is over after this long without a rejected frame.
    const QUIET: Duration = Duration::from_secs(60);

    fn new(now: Instant) -> Self {
        Self { tokens: Self::BURST, refilled: now, not_kept: 0, last: None }
    }

    /// Whether this frame is kept. With `must` it is kept in any case, and it still uses up one
    /// token.
    fn admit(&mut self, reason: Reject, now: Instant, must: bool) -> bool {
        let whole = u32::try_from(now.duration_since(self.refilled).as_secs()).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(whole).min(Self::BURST);
        self.refilled += Self::REFILL * whole;
        self.last = Some((now, reason));
        let admitted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        if !admitted && !must {
            self.not_kept += 1;
        }
        admitted || must
    }

    fn verdict(&mut self, now: Instant) -> ReadVerdict {
        match self.last {
            Some((at, reason)) if self.not_kept > 0 => {
                if now.duration_since(at) >= Self::QUIET {
                    self.not_kept = 0;
                    ReadVerdict::Over
                } else {
                    ReadVerdict::Flood { not_kept: self.not_kept, reason }
                }
            }
            _ => ReadVerdict::Calm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_rejects_that_are_not_kept_are_given_back() {
        let none = std::iter::empty::<&str>();
        let buffer = ReceiveBuffer::new("finish", none, false, 1 << 20, Duration::from_secs(3), Board::new("box"));
        let reject = || Framed { frame: Frame::Rejected(Reject::NotMine), raw: [b'x'].into() };
        buffer.put(ReceiptTime::now(&buffer.board), std::iter::repeat_with(reject).take(16_384).collect(), 0);
        let queue = buffer.lock();
        assert_eq!(queue.chunks[0].frames.len(), 100);
        assert!(queue.chunks[0].frames.capacity() <= 200, "{}", queue.chunks[0].frames.capacity());
    }

    #[test]
    fn a_flood_of_rejects_keeps_a_hundred_then_one_a_second_and_is_over_after_a_quiet_minute() {
        let start = Instant::now();
        let mut rejects = Rejects::new(start);
        let kept = (0..1000).filter(|_| rejects.admit(Reject::NotMine, start, false)).count();
        assert_eq!(kept, 100);
        assert_eq!(rejects.verdict(start), ReadVerdict::Flood { not_kept: 900, reason: Reject::NotMine });

        let later = start + Duration::from_millis(5500);
        let kept = (0..1000).filter(|_| rejects.admit(Reject::Length, later, false)).count();
        assert_eq!(kept, 5);
        assert!(rejects.admit(Reject::Length, later, true), "one that is acknowledged is kept in any case");
        assert_eq!(rejects.verdict(later), ReadVerdict::Flood { not_kept: 1895, reason: Reject::Length });

        assert_ne!(rejects.verdict(later + Duration::from_secs(59)), ReadVerdict::Over);
        assert_eq!(rejects.verdict(later + Duration::from_secs(60)), ReadVerdict::Over);
        assert_eq!(rejects.verdict(later + Duration::from_secs(61)), ReadVerdict::Calm);
    }
}
