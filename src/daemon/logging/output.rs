//! The output of the log: a bounded queue, and a thread of its own that writes the lines.
//!
//! What must hold:
//! * **Whoever logs never waits and never fails.** A line costs one short lock and a copy, whatever
//!   happened to standard error: a pipe that nobody empties, a pipe whose reader is gone, a file on
//!   a full disk, a terminal that was closed.
//! * **Bounded.** At most [`QUEUE_BYTES`] wait. A line for which there is no room is dropped and
//!   counted. Where lines are missing, one line says how many.
//! * **It recovers.** A line that could not be written is tried again, from the byte at which it
//!   failed: the disk may have room again, or another reader opens the FIFO.
//! * **The end does not hang.** [`LogOutput::flush`] waits for a limited time, and not at all while
//!   the output fails.
//!
//! Not chosen:
//! * `tracing-appender`: its bound is a number of lines of any length, it drops a line that cannot
//!   be written without counting it, and it does not say in the log that lines are missing.
//! * Making standard error non-blocking: the flag belongs to everybody who has the same pipe or
//!   terminal.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait: some five thousand lines.
pub(super) const QUEUE_BYTES: usize = 1024 * 1024;
/// What a line costs beside its bytes.
const LINE_COST: usize = 64;
/// Time between two attempts while the output fails.
const RETRY: Duration = Duration::from_millis(250);
/// Time between two attempts while the output is full and another program has made it non-blocking.
const RETRY_BUSY: Duration = Duration::from_millis(20);

/// If a line is not taken for this long, it is a problem.
const STUCK: Duration = Duration::from_secs(3);

/// Makes the line that says how many lines are missing before it.
type Notice = fn(u64) -> String;

/// The handle for those who log. Clones share it.
#[derive(Clone)]
pub(super) struct LogOutput(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when there is something to write, or when somebody waits for the end.
    filled: Condvar,
    /// Notified when everything is written, or when the output fails.
    settled: Condvar,
    limit: usize,
    notice: Notice,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Since when a piece is being written.
    writing: Option<Instant>,
    /// Why the last attempt failed. `None` if it did not fail.
    fault: Option<String>,
    /// Number of lines that were dropped since the start.
    dropped: u64,
    /// Somebody waits until everything is written, so attempts are made at once.
    hurry: bool,
    /// How many attempts to write were begun, and the number of the last one that failed.
    tries: u64,
    failed: u64,
}

enum Piece {
    Line(Box<[u8]>),
    /// This many lines are missing here. Two gaps are never side by side, so there are no more gaps
    /// than lines.
    Gap(u64),
}

impl LogOutput {
    /// An output to which no thread writes yet.
    fn new(limit: usize, notice: Notice) -> Self {
        let (queue, filled, settled) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { queue, filled, settled, limit, notice }))
    }

    /// Starts the thread that writes to `sink`. It ends with the process.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start(sink: impl Write + Send + 'static, notice: Notice) -> io::Result<Self> {
        Self::start_with(QUEUE_BYTES, sink, notice)
    }

    fn start_with(limit: usize, sink: impl Write + Send + 'static, notice: Notice) -> io::Result<Self> {
        let output = Self::new(limit, notice);
        let shared = Arc::clone(&output.0);
        std::thread::Builder::new().name("log".into()).spawn(move || shared.write_all(sink))?;
        Ok(output)
    }

    /// Takes a line, or counts it as dropped.
    pub(super) fn put(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        let cost = line.len() + LINE_COST;
        if queue.bytes + cost > self.0.limit {
            queue.dropped += 1;
            match queue.pieces.back_mut() {
                Some(Piece::Gap(missing)) => *missing += 1,
                _ => queue.pieces.push_back(Piece::Gap(1)),
            }
            return;
        }
        queue.bytes += cost;
        queue.pieces.push_back(Piece::Line(line.into()));
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, the output fails, or the limit is reached.
    pub(super) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut queue = self.0.lock();
        queue.hurry = true;
        // A failed write is tried once more, because the fault may be over.
        queue.fault = None;
        // An attempt that runs now may fail because of a fault that is over already.
        let before = queue.tries;
        self.0.filled.notify_one();
        while (queue.writing.is_some() || !queue.pieces.is_empty()) && (queue.fault.is_none() || queue.failed <= before)
        {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.0.settled.wait_timeout(queue, left).map_or_else(|e| e.into_inner().0, |woken| woken.0);
        }
        queue.hurry = false;
    }

    /// What is wrong with the output now, and how many lines were dropped since the start.
    pub(super) fn state(&self) -> (Option<String>, u64) {
        let queue = self.0.lock();
        let stuck = queue.writing.is_some_and(|since| since.elapsed() >= STUCK);
        let full = matches!(queue.pieces.back(), Some(Piece::Gap(_)));
        let fault = queue.fault.clone().or_else(|| (stuck || full).then(|| "nobody takes it".to_owned()));
        (fault, queue.dropped)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is plain data and consistent between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread.
    fn write_all(&self, mut sink: impl Write) {
        loop {
            let piece = self.next();
            let text;
            let (bytes, cost) = match &piece {
                Piece::Line(line) => (&**line, line.len() + LINE_COST),
                Piece::Gap(missing) => {
                    text = (self.notice)(*missing);
                    (text.as_bytes(), 0)
                }
            };
            let mut written = 0;
            while written < bytes.len() {
                self.lock().tries += 1;
                match sink.write(&bytes[written..]) {
                    Ok(0) => self.wait(&io::Error::from(io::ErrorKind::WriteZero)),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => self.wait(&error),
                }
            }
            let mut queue = self.lock();
            (queue.writing, queue.fault) = (None, None);
            queue.bytes -= cost; // only now, because a line that is being written is in memory too
            if queue.pieces.is_empty() {
                self.settled.notify_all();
            }
        }
    }

    fn next(&self) -> Piece {
        let mut queue = self.lock();
        loop {
            if let Some(piece) = queue.pieces.pop_front() {
                queue.writing = Some(Instant::now());
                return piece;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The output failed: it wakes those who wait for the end, and waits a moment before the next
    /// attempt.
    fn wait(&self, error: &io::Error) {
        let mut queue = self.lock();
        let busy = error.kind() == io::ErrorKind::WouldBlock;
        if !busy || !queue.hurry {
            queue.fault = Some(error.to_string());
            queue.failed = queue.tries;
            self.settled.notify_all();
        }
        let end = Instant::now() + if busy { RETRY_BUSY } else { RETRY };
        let hurried = |queue: &Queue| queue.hurry && queue.fault.is_none() && !busy;
        while !hurried(&queue) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.filled.wait_timeout(queue, left).map_or_else(|e| e.into_inner().0, |woken| woken.0);
        }
    }
}

/// One write is one line, because the subscriber formats a whole line before it writes.
impl Write for LogOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogOutput {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// An output that does what the test sets.
    #[derive(Clone, Default)]
    struct Sink(Arc<(Mutex<Does>, Condvar)>);

    #[derive(Default)]
    struct Does {
        written: Vec<u8>,
        /// Takes nothing, and the call does not return.
        blocked: bool,
        fails: Option<io::ErrorKind>,
        /// Takes this many bytes before it fails.
        room: Option<usize>,
        tries: u64,
    }

    impl Sink {
        fn set(&self, change: impl FnOnce(&mut Does)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
        }

        fn until(&self, condition: impl Fn(&Does) -> bool) {
            let does = self.0.0.lock().unwrap();
            let waited = self.0.1.wait_timeout_while(does, LONG, |does| !condition(does)).unwrap();
            assert!(!waited.1.timed_out());
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut does = self.0.0.lock().unwrap();
            does.tries += 1;
            self.0.1.notify_all();
            while does.blocked {
                does = self.0.1.wait(does).unwrap();
            }
            if let Some(kind) = does.fails {
                return Err(kind.into());
            }
            let count = does.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            does.room = does.room.map(|room| room - count);
            does.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(missing: u64) -> String {
        format!("{missing} missing\n")
    }

    fn start(limit: usize) -> (Sink, LogOutput) {
        let sink = Sink::default();
        (sink.clone(), LogOutput::start_with(limit, sink, notice).unwrap())
    }

    #[test]
    fn a_pipe_that_nobody_empties_holds_up_nobody_and_what_is_missing_is_told_where_it_is() {
        let (sink, output) = start(10 * (3 + LINE_COST));
        sink.set(|does| does.blocked = true);
        output.put(b"00\n");
        sink.until(|does| does.tries == 1);
        for line in 1..25 {
            output.put(format!("{line:02}\n").as_bytes());
        }
        assert_eq!(output.state(), (Some("nobody takes it".into()), 15));
        output.flush(Duration::from_millis(1)); // the call returns
        sink.set(|does| does.blocked = false);
        output.flush(LONG);
        output.put(b"25\n");
        output.flush(LONG);
        let first: String = (0..10).map(|line| format!("{line:02}\n")).collect();
        assert_eq!(sink.text(), first + "15 missing\n25\n");
        assert_eq!(output.state(), (None, 15));
    }

    #[test]
    fn a_line_that_a_full_disk_took_half_of_goes_on_where_it_was_when_there_is_room() {
        let (sink, output) = start(QUEUE_BYTES);
        sink.set(|does| does.room = Some(5));
        output.put(b"first line\n");
        output.put(b"second line\n");
        sink.until(|does| does.tries > 2);
        assert_eq!(sink.text(), "first");
        assert!(output.state().0.is_some());
        sink.set(|does| does.room = None);
        output.flush(LONG);
        assert_eq!(sink.text(), "first line\nsecond line\n");
        assert_eq!(output.state(), (None, 0));
    }

    #[test]
    fn the_end_waits_neither_for_a_reader_that_is_gone_nor_longer_than_its_limit_for_one_that_sleeps() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            let (sink, output) = start(QUEUE_BYTES);
            sink.set(|does| does.fails = Some(kind));
            output.put(b"a line\n");
            let began = Instant::now();
            output.flush(LONG);
            assert!(began.elapsed() < LONG / 2, "{kind}");
        }
        let (sink, output) = start(QUEUE_BYTES);
        sink.set(|does| does.blocked = true);
        output.put(b"a line\n");
        output.flush(Duration::from_millis(50));
        sink.set(|does| does.blocked = false);
        output.flush(LONG);
        assert_eq!(sink.text(), "a line\n");
    }
}
