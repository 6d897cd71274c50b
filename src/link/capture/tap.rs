//! Listens to a link without disturbing it.
//!
//! What must hold:
//! * **The link never waits and never becomes slower.** Its bytes are put into a queue of bounded
//!   size. When the recorder is slow, the bytes are dropped and counted ([`What::Lost`]). While
//!   nobody listens, the link only looks at one number.
//! * **Exactly what is on the wire**: `Tapped` wraps the wire itself, and records what was really
//!   read from it and really written to it.
//! * **Bounded**: [`CAPTURES`] at once, each with `QUEUE_BYTES` and `QUEUE_RECORDS`.
//! * A capture continues over reconnects, and shows the connections that were open before it began.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Direction, Header, Record, What};

/// Captures of one link that may run at once.
pub(crate) const CAPTURES: usize = 4;
/// Bytes that wait for one recorder.
const QUEUE_BYTES: usize = 1 << 20;
/// Records that wait for one recorder.
const QUEUE_RECORDS: usize = 4096;
/// Further records that the queue takes in order to say what is lost.
const OVERFLOW: usize = 64;

/// Where other parts of the program can listen to a link. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The number of captures that listen.
    ears: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    about: Header,
    ears: Vec<Arc<Ear>>,
    /// The peer of each open connection. There are as many as the link has.
    live: BTreeMap<u32, String>,
    last: u32,
}

impl Tap {
    /// Sets the header of the captures of this link.
    pub(crate) fn describe(&self, about: Header) {
        self.lock().about = about;
    }

    /// Listens from now on. `None` while [`CAPTURES`] others listen.
    pub(crate) fn listen(&self) -> Option<Recording> {
        let mut state = self.lock();
        if state.ears.len() >= CAPTURES {
            return None;
        }
        let first = state.live.keys().next().map_or(state.last, |first| first.wrapping_sub(1));
        let ear = Arc::new(Ear { began: Instant::now(), first, queue: Mutex::default(), news: Notify::new() });
        for (number, peer) in &state.live {
            ear.event(*number, What::Connected(format!("{peer} (was there before)")));
        }
        state.ears.push(Arc::clone(&ear));
        self.0.ears.store(state.ears.len(), Ordering::Relaxed);
        Some(Recording { header: state.about.clone(), ear, tap: self.clone() })
    }

    /// Records that a connection was made.
    pub(crate) fn connected(&self, peer: &str) -> TapLine {
        let mut state = self.lock();
        state.last = state.last.wrapping_add(1);
        let number = state.last;
        state.live.insert(number, peer.to_owned());
        state.ears.iter().for_each(|ear| ear.event(number, What::Connected(peer.to_owned())));
        TapLine { tap: self.clone(), number, why: String::new() }
    }

    fn bytes(&self, number: u32, direction: Direction, bytes: &[u8]) {
        if self.0.ears.load(Ordering::Relaxed) > 0 && !bytes.is_empty() {
            self.lock().ears.iter().for_each(|ear| ear.bytes(number, direction, bytes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, for as long as it is open.
pub(crate) struct TapLine {
    tap: Tap,
    number: u32,
    why: String,
}

impl TapLine {
    /// Wraps the wire and records its bytes from now on. What is read from the wire is from the
    /// decoder.
    pub(crate) fn around<W>(&self, wire: W) -> Tapped<W> {
        Tapped { wire, tap: self.tap.clone(), number: self.number }
    }

    /// Records why the connection ended.
    pub(crate) fn closed(mut self, why: &str) {
        why.clone_into(&mut self.why);
    }
}

impl Drop for TapLine {
    fn drop(&mut self) {
        let mut state = self.tap.lock();
        state.live.remove(&self.number);
        state.ears.iter().for_each(|ear| ear.event(self.number, What::Closed(self.why.clone())));
    }
}

/// A wire whose bytes are recorded.
pub(crate) struct Tapped<W> {
    wire: W,
    tap: Tap,
    number: u32,
}

impl<W: AsyncRead + Unpin> AsyncRead for Tapped<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, buffer))?;
        self.tap.bytes(self.number, Direction::From, &buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Tapped<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.wire).poll_write(cx, bytes))?;
        self.tap.bytes(self.number, Direction::To, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// One capture that listens.
struct Ear {
    began: Instant,
    /// The connection after this number is connection 1 of the capture.
    first: u32,
    queue: Mutex<Queue>,
    news: Notify,
}

impl Ear {
    fn event(&self, number: u32, what: What) {
        let record = Record { at: self.began.elapsed(), connection: self.connection(number), what };
        self.queue().event(record);
        self.news.notify_one();
    }

    fn bytes(&self, number: u32, direction: Direction, bytes: &[u8]) {
        self.queue().bytes(self.began.elapsed(), self.connection(number), direction, bytes);
        self.news.notify_one();
    }

    fn connection(&self, number: u32) -> u32 {
        number.wrapping_sub(self.first)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A capture of a running link. It ends when it is dropped.
pub(crate) struct Recording {
    header: Header,
    ear: Arc<Ear>,
    tap: Tap,
}

impl Recording {
    /// The header, which says what is known about the link.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Waits until something happened, and returns all of it in order.
    pub(crate) async fn next(&self) -> Vec<Record> {
        loop {
            let records = self.rest();
            if !records.is_empty() {
                return records;
            }
            self.ear.news.notified().await;
        }
    }

    /// What happened and was not returned yet.
    pub(crate) fn rest(&self) -> Vec<Record> {
        self.ear.queue().take()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut state = self.tap.lock();
        state.ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
        self.tap.0.ears.store(state.ears.len(), Ordering::Relaxed);
    }
}

/// Records that wait, within bounds. If there is no room for something, the queue records how much
/// is lost, and where.
#[derive(Default)]
pub(super) struct Queue {
    records: Vec<Record>,
    bytes: usize,
}

impl Queue {
    pub(super) fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn bytes(&mut self, at: Duration, connection: u32, direction: Direction, bytes: &[u8]) {
        if self.records.len() < QUEUE_RECORDS && self.bytes + bytes.len() <= QUEUE_BYTES {
            self.bytes += bytes.len();
            self.records.push(Record { at, connection, what: What::Bytes(direction, bytes.to_vec()) });
        } else {
            self.lose(at, connection, direction, bytes.len() as u64);
        }
    }

    pub(super) fn event(&mut self, record: Record) {
        if self.records.len() < QUEUE_RECORDS + OVERFLOW {
            self.records.push(record);
        }
    }

    pub(super) fn lose(&mut self, at: Duration, connection: u32, direction: Direction, count: u64) {
        let is_bytes = |record: &Record| matches!(record.what, What::Bytes(..));
        let since = self.records.iter().rposition(is_bytes).map_or(0, |last| last + 1);
        let full = self.records.len() >= QUEUE_RECORDS + OVERFLOW;
        // There are more connections than any link has, so the loss is counted on the next best
        // one.
        let known = self.records[since..].iter_mut().rev().find_map(|record| match &mut record.what {
            What::Lost(way, lost) if *way == direction && (full || record.connection == connection) => Some(lost),
            _ => None,
        });
        match known {
            Some(lost) => *lost += count,
            None => self.event(Record { at, connection, what: What::Lost(direction, count) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn both_directions_are_recorded_over_reconnects_and_from_the_middle() {
        let tap = Tap::default();
        tap.connected("early").closed("gone"); // nobody listened
        let before = tap.connected("tcp://mat:1");
        let recording = tap.listen().unwrap();
        let (ours, mut decoder) = duplex(64);
        let mut wire = before.around(ours);
        decoder.write_all(b"read").await.unwrap();
        let mut heard = [0; 4];
        wire.read_exact(&mut heard).await.unwrap();
        wire.write_all(b"ack").await.unwrap();
        before.closed("cable out");
        drop(tap.connected("tcp://mat:1"));
        let told: Vec<String> =
            recording.next().await.iter().map(|record| format!("{} {:?}", record.connection, record.what)).collect();
        let expected = [
            r#"1 Connected("tcp://mat:1 (was there before)")"#,
            "1 Bytes(From, [114, 101, 97, 100])",
            "1 Bytes(To, [97, 99, 107])",
            r#"1 Closed("cable out")"#,
            r#"2 Connected("tcp://mat:1")"#,
            r#"2 Closed("")"#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_recorder_that_never_takes_anything_costs_bounded_memory_and_is_told_what_it_missed() {
        let tap = Tap::default();
        let recording = tap.listen().unwrap();
        let lines: Vec<TapLine> = (0..3).map(|_| tap.connected("x")).collect();
        let chunk = [b'x'; 16 * 1024];
        for _ in 0..1000 {
            for line in &lines {
                tap.bytes(line.number, Direction::From, &chunk);
                tap.bytes(line.number, Direction::To, b"k");
            }
        }
        for _ in 0..2 * (QUEUE_RECORDS + OVERFLOW) {
            drop(tap.connected("somebody who knocks"));
        }
        tap.bytes(lines[0].number, Direction::From, b"z");
        assert!(recording.ear.queue().bytes <= QUEUE_BYTES);
        let records = recording.rest();
        assert!(records.len() <= QUEUE_RECORDS + OVERFLOW, "{}", records.len());
        let sum = |direction| -> u64 {
            let count = |record: &Record| match &record.what {
                What::Bytes(way, bytes) if *way == direction => bytes.len() as u64,
                What::Lost(way, lost) if *way == direction => *lost,
                _ => 0,
            };
            records.iter().map(count).sum()
        };
        assert_eq!((sum(Direction::From), sum(Direction::To)), (3000 * 16 * 1024 + 1, 3000));
        assert!(records.iter().any(|record| matches!(record.what, What::Lost(..))));
        // There is room again, and no earlier loss is reported twice.
        tap.bytes(lines[1].number, Direction::To, b"again");
        let [Record { connection: 2, what: What::Bytes(Direction::To, _), .. }] = recording.rest()[..] else {
            panic!("the bytes alone")
        };
    }

    #[test]
    fn few_may_listen_at_once_and_whoever_goes_makes_room() {
        let tap = Tap::default();
        let mut all: Vec<Recording> = (0..CAPTURES).map(|_| tap.listen().unwrap()).collect();
        assert!(tap.listen().is_none());
        all.pop();
        assert!(tap.listen().is_some());
        drop(all);
        assert_eq!(tap.0.ears.load(Ordering::Relaxed), 0);
    }
}
