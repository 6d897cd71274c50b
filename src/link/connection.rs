//! One connection: a wire, a protocol value, and the order in which bytes become frames and replies
//! become bytes.
//!
//! What must hold:
//! * The link writes a reply only when every frame before it is durable (invariant 1). Each reply
//!   carries the number of the chunk that it waits for, and the receive buffer counts how many
//!   chunks are durable.
//! * Reading, keeping and writing happen at the same time. A slow disk does not stop the reading,
//!   and a decoder that is busy sending does not have to accept our replies first.
//! * Noise is seen: if the decoder sends [`NOISE`] bytes without a line end (or whatever ends a
//!   record), the link raises a problem. The protocol keeps none of these bytes.
//! * Silence is seen: if no byte arrives for the protocol's limit, the connection ends
//!   ([`End::Silent`]).
//! * Bounded: one read buffer, at most [`REPLIES`] replies that wait, and [`OUTBOX`] bytes that are
//!   due. At either bound the link pauses reading. A peer that accepts nothing for
//!   [`Limits::write`](super::decoder::Limits::write) loses the connection.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::decoder::{Decoder, Limits};
use super::handle::{Command, Commands};
use super::port::Duplex;
use super::receive_buffer::ReceiptTime;
use super::sense::Sense;
use crate::decoders::{Frame, Info, Item, Output, Protocol, READ_MAX};
use crate::model::chip::{ChipRead, Position, StoredRanges};

/// Bytes that the link takes from a port at once. A larger buffer gains nothing, because 30 of
/// these reads share one device flush. A flood of two-byte rejects must not become more than some
/// megabytes of frames at a time.
const READ_BUFFER: usize = READ_MAX;
/// Number of items of one read for which the link keeps room allocated.
const ITEMS: usize = 256;
/// Replies that may wait for frames to become durable. When there are more, the link stops reading.
const REPLIES: usize = 4096;
/// When more replies than this wait, the link does not let the protocol ask more questions.
const QUESTIONS: usize = 64;
/// Bytes of due replies that the peer may leave unaccepted. When there are more, the link stops
/// reading.
const OUTBOX: usize = 64 * 1024;
/// How often the protocol's clock ticks.
const TICK: Duration = Duration::from_secs(1);

/// The link raises a problem after this many bytes in which a protocol finds nothing at all, not
/// even something to reject. It is four times the longest legal record.
const NOISE: u64 = 1024 * 1024;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed the connection, or the adapter is gone.
    Closed,
    /// The system reported an error on it.
    Broken(io::Error),
    /// No byte arrived for this long.
    Silent(Duration),
    /// The peer did not accept what we write for this long.
    NotTaking(Duration),
    /// The journal has only now reported the stored ranges, so the link connects again to ask for
    /// the missing reads.
    Rewind,
    /// Somebody asked that the link reconnects.
    Restarted,
    /// The protocol has no more use for the connection.
    HungUp(&'static str),
    /// A new connection arrived and there was no more room. This one had been silent the longest.
    Displaced,
    /// The link is stopping.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other side closed the connection, or the adapter was pulled"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Silent(limit) => write!(f, "not a byte for {} s", limit.as_secs_f32()),
            Self::NotTaking(limit) => write!(f, "it took none of our replies for {} s", limit.as_secs_f32()),
            Self::Rewind => f.write_str("connecting again to ask for missed reads"),
            Self::Restarted => f.write_str("somebody asked to connect anew"),
            Self::HungUp(why) => f.write_str(why),
            Self::Displaced => f.write_str("it was silent, and gave way to a new connection"),
            Self::Stopped => f.write_str("passbridge is stopping"),
        }
    }
}

/// How a connection ended, and what it delivered.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    /// How long it was up.
    pub(super) up: Duration,
    /// At least one byte arrived.
    pub(super) spoke: bool,
}

/// What the port knows about one of its connections, to decide whether it may keep its place.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// When the last byte arrived. `None` if none ever arrived.
    heard: Mutex<Option<Instant>>,
    /// Cancelled when another connection takes its place.
    pub(super) displaced: CancellationToken,
}

impl Liveness {
    /// Records that a byte arrived.
    pub(super) fn speaks(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When the last byte arrived. `None` if none ever arrived.
    pub(super) fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reply {
    /// Number of the chunk that must be durable first.
    after: u64,
    bytes: Vec<u8>,
}

struct Connection<'a> {
    decoder: &'a Decoder,
    protocol: Box<dyn Protocol>,
    since: Instant,
    output: Output,
    /// Number of the last chunk that this connection put into the receive buffer.
    put: u64,
    replies: VecDeque<Reply>,
    outbox: VecDeque<u8>,
    /// When the peer last accepted bytes of the outbox, or when the outbox stopped being empty.
    moved: Instant,
    spoke: bool,
    /// The protocol wants the connection to end.
    hung_up: Option<&'static str>,
    /// Number of bytes since the protocol last put something out.
    noise: u64,
    sense: Arc<Mutex<Sense>>,
    stored: Stored,
    /// When the decoder greeted the box with its clock.
    greeted: Option<Instant>,
}

/// Recognises the stored reads that a decoder may still send just after it was connected.
struct Stored {
    /// The decoder was not asked, or that was too long ago.
    over: bool,
    since: Instant,
    /// When the decoder last sent a stored read.
    given: Option<Instant>,
    /// The position that is furthest in the decoder's memory so far.
    furthest: Option<Position>,
}

impl Stored {
    fn new(asked: bool, since: Instant) -> Self {
        Self { over: !asked, since, given: None, furthest: None }
    }

    /// Marks a live read if the reads after it may be older than it.
    fn mark(&mut self, read: &mut ChipRead, limits: &Limits) {
        if self.over {
            return;
        }
        let now = Instant::now();
        let up = now - self.since;
        if up >= limits.stored_max {
            (self.over, self.furthest) = (true, None);
            return;
        }
        if is_behind(&mut self.furthest, read) || read.replay {
            self.given = Some(now);
        }
        let gives = self.given.is_some_and(|at| now - at < limits.stored_gap);
        read.amid_stored = !read.replay && (up < limits.stored_first || gives);
    }
}

/// Serves one connection until it ends. `held` resolves to the stored ranges of the journal. It is
/// `None` if the link has nothing to ask for. With `again` the link can open this connection again
/// at will, so a late answer of `held` ends it with [`End::Rewind`]. Any other connection waits for
/// the answer.
pub(super) async fn serve<S: Duplex>(
    decoder: &Decoder,
    protocol: Box<dyn Protocol>,
    wire: S,
    held: Option<BoxFuture<'static, StoredRanges>>,
    again: bool,
    life: &Liveness,
    stop: &CancellationToken,
) -> Ended {
    let now = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(wire);
    let mut connection = Connection {
        decoder,
        protocol,
        since: now,
        output: Output::default(),
        put: 0,
        replies: VecDeque::new(),
        outbox: VecDeque::new(),
        moved: now,
        spoke: false,
        hung_up: None,
        noise: 0,
        // Connections that we dial one after the other lead to the same device. Those that connect
        // to us may be many devices.
        sense: if again { Arc::clone(&decoder.sense) } else { Arc::default() },
        stored: Stored::new(false, now),
        greeted: None,
    };
    connection.sense().connected();
    let greeted = tokio::select! {
        biased;
        late = connection.greet(held, again, stop) => Ok(late),
        // A connection that still waits for the stored ranges gives up its place as well.
        () = life.displaced.cancelled() => Err(End::Displaced),
    };
    let end = match greeted {
        Err(end) => end,
        Ok(late) => {
            // From here on the protocol knows the stored ranges.
            let mut asked = decoder.asks.connected();
            connection.carry(&mut reader, &mut writer, late, &mut asked, life, stop).await
        }
    };
    if matches!(end, End::Rewind | End::Restarted | End::Stopped | End::HungUp(_)) {
        connection.protocol.leaving(&mut connection.output);
    }
    connection.protocol.end(&mut connection.output);
    connection.absorb(ReceiptTime::now(&decoder.board));
    let whole = matches!(end, End::Closed | End::Rewind | End::Restarted | End::HungUp(_) | End::Displaced);
    if whole || matches!(end, End::Stopped) {
        connection.settle(&mut writer).await;
    }
    Ended { end, up: connection.since.elapsed(), spoke: connection.spoke }
}

impl Connection<'_> {
    /// Tells the protocol that the link is up, and which ranges are stored. The journal may not
    /// know them yet, because its queue is being rebuilt. Reads must not wait for that, so after
    /// [`Limits::held`] the link continues without the answer. Returns the question if it is
    /// unfinished. A connection that we cannot make `again` waits: the decoder has stored its
    /// reads, and if the box took only the new ones, it would later not know which earlier ones are
    /// missing.
    async fn greet(
        &mut self,
        held: Option<BoxFuture<'static, StoredRanges>>,
        again: bool,
        stop: &CancellationToken,
    ) -> Option<BoxFuture<'static, StoredRanges>> {
        let (mut late, mut known) = (None, None);
        let rewind = self.decoder.rewind;
        let patience = if again || !rewind { self.decoder.limits.held } else { Duration::MAX };
        if let Some(mut held) = held {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                answer = timeout(patience, &mut held) => match answer {
                    Ok(answer) => known = Some(answer),
                    Err(_) => late = Some(held).filter(|_| rewind),
                }
            }
        }
        let rewind = rewind && known.is_some();
        if let Some(held) = &known {
            self.decoder.memories.learn(held.lives());
        }
        self.stored = Stored::new(rewind, Instant::now());
        self.protocol.connected(known.unwrap_or_default(), rewind, &mut self.output);
        self.absorb(ReceiptTime::now(&self.decoder.board));
        late
    }

    async fn carry(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        mut late: Option<BoxFuture<'static, StoredRanges>>,
        asked: &mut Commands,
        life: &Liveness,
        stop: &CancellationToken,
    ) -> End {
        let idle_limit = self.decoder.spec.idle_limit;
        let write_limit = self.decoder.limits.write;
        let mut buffer = vec![0; READ_BUFFER];
        let mut progress = self.decoder.buffer.progress();
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut listening = true;
        let mut restarted = std::pin::pin!(self.decoder.asks.restarts());
        loop {
            if let Some(why) = self.hung_up.take() {
                return End::HungUp(why);
            }
            self.release(*progress.borrow_and_update());
            let paused = !std::mem::replace(&mut listening, self.may_read());
            if paused && listening {
                heard = Instant::now(); // while the link did not read, silence meant nothing
            }
            // The order matters: a flood of input must delay neither the stop nor the replies, and
            // the link must not call a decoder silent while its bytes wait to be read.
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                written = writer.write(self.outbox.as_slices().0), if !self.outbox.is_empty() => match written {
                    Ok(0) => return End::Closed,
                    Ok(count) => self.wrote(count),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return End::Broken(error),
                },
                Ok(()) = progress.changed() => {}
                _ = ticks.tick() => self.tick(),
                Some(order) = asked.orders.recv() => self.ask(order),
                () = &mut restarted => return End::Restarted,
                Some(_) = answer(&mut late), if late.is_some() => return End::Rewind,
                read = reader.read(&mut buffer), if listening => match read {
                    Ok(0) => return End::Closed,
                    Ok(count) => {
                        heard = Instant::now();
                        life.speaks();
                        self.feed(&buffer[..count]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return End::Broken(error),
                },
                () = life.displaced.cancelled() => return End::Displaced,
                limit = silence(heard, idle_limit), if listening => return End::Silent(limit),
                () = sleep_until(self.moved + write_limit), if !self.outbox.is_empty() => {
                    return End::NotTaking(write_limit);
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.replies.len() < REPLIES && self.outbox.len() < OUTBOX && !self.decoder.buffer.is_full()
    }

    fn feed(&mut self, bytes: &[u8]) {
        let received = ReceiptTime::now(&self.decoder.board);
        if !self.spoke {
            self.spoke = true;
            self.decoder.on_first_byte();
        }
        self.protocol.feed(bytes, &mut self.output);
        if self.sense().feed(self.decoder.spec, bytes, &self.output.items, Instant::now()) {
            self.decoder.understands();
        }
        self.look();
        let before = self.noise;
        self.noise = if self.output.items.is_empty() { before + bytes.len() as u64 } else { 0 };
        if before < NOISE && self.noise >= NOISE {
            self.decoder.on_no_records();
        } else if self.output.items.iter().any(|item| !is_reject(item)) {
            self.decoder.on_records();
        }
        self.absorb(received);
    }

    fn sense(&self) -> MutexGuard<'_, Sense> {
        self.sense.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether the protocol can make sense of what the decoder sent.
    fn look(&self) {
        let Decoder { spec, set, serial, .. } = self.decoder;
        let found = self.sense().look(spec, set, *serial, Instant::now());
        if let Some(found) = found {
            self.decoder.makes_no_sense(&found);
        }
    }

    fn tick(&mut self) {
        self.look();
        if self.replies.len() < QUESTIONS {
            self.protocol.tick(self.since.elapsed(), &mut self.output);
            self.absorb(ReceiptTime::now(&self.decoder.board));
        }
    }

    /// Passes on the request of somebody who wants stored reads.
    fn ask(&mut self, order: Command) {
        let answer = match self.replies.len() < QUESTIONS {
            true => self.protocol.rewind(&order.range, &mut self.output),
            false => Err("the decoder does not take what it is told: try again in a moment"),
        };
        self.absorb(ReceiptTime::now(&self.decoder.board));
        let _ = order.answer.send(answer); // the one who asked may be gone
    }

    /// Takes what the protocol put out: frames are put into the receive buffer, replies wait behind
    /// them, and everything else is shown on the board.
    fn absorb(&mut self, received: ReceiptTime) {
        if self.output.items.is_empty() {
            return;
        }
        // One moment for all items, so that the reads of one report keep their distance in time.
        let now = Instant::now();
        let mut frames = Vec::with_capacity(self.output.items.len());
        let mut replies = Vec::new();
        for item in self.output.items.drain(..) {
            match item {
                Item::Frame(mut framed) => match framed.frame {
                    Frame::Info(info) => {
                        if matches!(info, Info::Greeting(_)) {
                            self.greeted = Some(now);
                        }
                        self.decoder.on_info(info, received.wall);
                    }
                    Frame::Cleared(ref cleared) => {
                        self.decoder.on_cleared(cleared);
                        frames.push(framed);
                    }
                    Frame::Read(ref mut read) => {
                        self.stored.mark(read, &self.decoder.limits);
                        // The monotonic clock measures this, so a step of the wall clock in between
                        // does no harm.
                        let since_ms = self.greeted.map_or(0, |greeted| (now - greeted).as_millis() as i64);
                        read.age = read.age.take().map(|age| age.at_receipt(since_ms).into());
                        self.decoder.check_time(read, received.wall);
                        frames.push(framed);
                    }
                    Frame::Marker(_) | Frame::Rejected(_) => frames.push(framed),
                },
                Item::Reply(bytes) => replies.push((frames.len(), bytes)),
                Item::HangUp(why) => self.hung_up = Some(why),
            }
        }
        // After a flood of rejects the list has room for thousands of items.
        self.output.items.shrink_to(ITEMS);
        let acknowledged = replies.last().map_or(0, |&(before, _)| before);
        let earlier = self.put;
        if !frames.is_empty()
            && let Some(number) = self.decoder.buffer.put(received, frames, acknowledged)
        {
            self.put = number;
        }
        let waiting = replies
            .into_iter()
            .map(|(before, bytes)| Reply { after: if before == 0 { earlier } else { self.put }, bytes });
        self.replies.extend(waiting);
    }

    /// Moves the replies whose frames are durable to the outbox.
    fn release(&mut self, durable: u64) {
        while self.replies.front().is_some_and(|reply| reply.after <= durable) {
            if let Some(reply) = self.replies.pop_front() {
                if self.outbox.is_empty() {
                    self.moved = Instant::now();
                }
                self.outbox.extend(reply.bytes);
            }
        }
    }

    fn wrote(&mut self, count: usize) {
        self.outbox.drain(..count);
        self.moved = Instant::now();
    }

    /// Called after the last byte was read: for a moment it writes the replies that become due. A
    /// decoder that does not get them sends its reads again, so nothing is lost without them.
    async fn settle(&mut self, writer: &mut (impl AsyncWrite + Unpin)) {
        let mut progress = self.decoder.buffer.progress();
        let deadline = Instant::now() + self.decoder.limits.settle;
        loop {
            self.release(*progress.borrow_and_update());
            if self.outbox.is_empty() && self.replies.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                written = writer.write(self.outbox.as_slices().0), if !self.outbox.is_empty() => match written {
                    Ok(0) | Err(_) => return,
                    Ok(count) => self.wrote(count),
                },
                Ok(()) = progress.changed() => {}
                () = sleep_until(deadline) => return,
            }
        }
    }
}

/// The decoder does not always mark a stored read. But a stored read arrives after one that is
/// further in the decoder's memory.
fn is_behind(furthest: &mut Option<Position>, read: &ChipRead) -> bool {
    let Some(position) = &read.position else { return false };
    match furthest {
        Some(known) if known.unit == position.unit && known.file == position.file => {
            let behind = position.number < known.number;
            known.number = known.number.max(position.number);
            behind
        }
        _ => {
            *furthest = Some(position.clone());
            false
        }
    }
}

fn is_reject(item: &Item) -> bool {
    matches!(item, Item::Frame(framed) if matches!(framed.frame, Frame::Rejected(_)))
}

/// Returns the limit once no byte arrived for that long. It never returns if there is no limit.
async fn silence(heard: Instant, limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep_until(heard + limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// The late answer of the journal, if the connection still waits for one.
async fn answer(late: &mut Option<BoxFuture<'static, StoredRanges>>) -> Option<StoredRanges> {
    match late {
        Some(held) => Some(held.await),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chip::{Label, Stamp};

    #[test]
    fn a_read_that_comes_behind_one_further_in_the_memory_was_stored() {
        let mut furthest = None;
        let mut is = |file: u64, number: u64| {
            let position = Some(Position { unit: None, file: Some(Label::Number(file)), number });
            is_behind(&mut furthest, &ChipRead { position, ..ChipRead::new("C1", Stamp::Uptime(0)) })
        };
        assert_eq!(
            [(1, 7), (1, 8), (1, 3), (1, 4), (1, 9), (2, 1), (2, 2)].map(|(file, number)| is(file, number)),
            [false, false, true, true, false, false, false]
        );
        assert!(!is_behind(&mut None, &ChipRead::new("C1", Stamp::Uptime(0))));
    }
}
