//! Tests of the link with a journal that can be stopped, and with real sockets and real ptys.

mod asking;
mod buffer;
mod set_up;

use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_serial::{SerialPort, SerialStream};

use super::*;
use crate::decoders::descriptor::only_linked;
use crate::decoders::{Condition, Frame, Framed, Info, Missed, Output, Reject, Settings, Spec};
use crate::journal::{JournalError, Kept, Received};
use crate::model::chip::{Age, ChipRead, Position, Seq, Stamp};
use crate::status::{DecoderStatus, Problem};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::future::Future;

/// A protocol of lines: `R<chip>` is a read, `S<chip>` a stored one, `A<chip>` a read that is
/// acknowledged, `@<chip>` the same at `Start`, `P` a ping that is answered, `C<stamp>` the clock,
/// `G<stamp>` the clock as a greeting, `U<ms>` a read so long after it, `!` a restart, `X<text>` a
/// record that cannot be read and is acknowledged. Anything else is rejected.
struct Lines {
    buffer: Vec<u8>,
}

impl Protocol for Lines {
    fn connected(&mut self, held: StoredRanges, rewind: bool, out: &mut Output) {
        if rewind {
            out.reply(format!("ask {}\n", held.highest(None, None).unwrap_or(0) + 1));
        }
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).take(end).collect();
            let text = String::from_utf8_lossy(&line);
            let stamp = Stamp::Utc(Timestamp::now());
            match text.split_at_checked(1) {
                Some(("R", chip)) => out.frame(Frame::Read(ChipRead::new(chip, stamp)), &line),
                Some(("S", chip)) => {
                    out.frame(Frame::Read(ChipRead { replay: true, ..ChipRead::new(chip, stamp) }), &line);
                }
                Some(("A", chip)) => {
                    out.frame(Frame::Read(ChipRead::new(chip, stamp)), &line);
                    out.reply(format!("ack {chip}\n"));
                }
                Some(("@", chip)) => {
                    let location = Some("Start".into());
                    out.frame(Frame::Read(ChipRead { location, ..ChipRead::new(chip, stamp) }), &line);
                    out.reply(format!("ack {chip}\n"));
                }
                Some(("L", text)) => {
                    let text = Some(text.to_owned()).filter(|text| !text.is_empty());
                    out.frame(Frame::Info(Info::Condition { code: Condition::LowBattery, text }), &line);
                }
                Some(("P", _)) => out.reply("pong\n"),
                Some(("G", clock)) => out.frame(Frame::Info(Info::Greeting(clock.parse().unwrap())), &line),
                Some(("U", ms)) => {
                    let age = Some(Age::AfterGreeting(ms.parse().unwrap()));
                    out.frame(
                        Frame::Read(ChipRead { age: age.map(Box::new), ..ChipRead::new("U", Stamp::Uptime(1)) }),
                        &line,
                    );
                }
                Some(("X", _)) => {
                    out.frame(Frame::Rejected(Reject::Length), &line);
                    out.reply("ack\n");
                }
                Some(("C", clock)) => out.frame(Frame::Info(Info::Clock(clock.parse().unwrap())), &line),
                Some(("!", _)) => out.frame(Frame::Info(Info::Restarted("it was cleared".into())), &line),
                _ => out.frame(Frame::Rejected(Reject::NotMine), &line),
            }
        }
    }

    fn rewind(&mut self, range: &crate::decoders::Range, out: &mut Output) -> Result<(), &'static str> {
        if range.from == 99 {
            return Err("not that");
        }
        out.reply(format!("again {} {}\n", range.from, range.to));
        Ok(())
    }

    fn end(&mut self, out: &mut Output) {
        if !self.buffer.is_empty() {
            out.frame(Frame::Rejected(Reject::Unfinished), &self.buffer);
            self.buffer.clear();
        }
    }
}

/// A protocol that understands nothing but `!`.
struct Deaf;

impl Protocol for Deaf {
    fn feed(&mut self, bytes: &[u8], out: &mut Output) {
        if bytes.contains(&b'!') {
            out.frame(Frame::Info(Info::Alive), b"!");
        }
    }

    fn end(&mut self, _: &mut Output) {}
}

const fn lines(name: &'static str, idle_limit: Option<Duration>, missed: Missed) -> Spec {
    only_linked(name, idle_limit, missed, |_| Ok(Box::new(Lines { buffer: Vec::new() })))
}

static STREAMS: Spec = lines("streams", None, Missed::Lost);
static STORES: Spec = lines("stores", None, Missed::Stored);
static SPEAKS: Spec = lines("speaks", Some(Duration::from_millis(100)), Missed::Lost);

/// Stands in for the journal: it keeps the frames in memory, when the test lets it.
#[derive(Clone)]
struct Shelf(Arc<ShelfState>);

struct ShelfState {
    open: watch::Sender<bool>,
    /// A source for which the disk does not answer.
    shut: watch::Sender<&'static str>,
    held: watch::Sender<Option<StoredRanges>>,
    kept: watch::Sender<Vec<Framed>>,
    asked: watch::Sender<usize>,
    burnt: bool,
}

impl Shelf {
    fn new(open: bool) -> Self {
        Self::with(open, false)
    }

    fn with(open: bool, burnt: bool) -> Self {
        Self(Arc::new(ShelfState {
            open: watch::Sender::new(open),
            shut: watch::Sender::new(""),
            held: watch::Sender::new(Some(StoredRanges::default())),
            kept: watch::Sender::new(Vec::new()),
            asked: watch::Sender::new(0),
            burnt,
        }))
    }

    fn open(&self) {
        self.0.open.send_replace(true);
    }

    async fn has(&self, frames: usize) {
        within(self.0.kept.subscribe().wait_for(|kept| kept.len() >= frames)).await.unwrap();
    }

    async fn asked(&self, calls: usize) {
        within(self.0.asked.subscribe().wait_for(|asked| *asked >= calls)).await.unwrap();
    }

    /// The chips of reads, `#count` for a marker of lost reads, and `?` for a rejected frame.
    fn kept(&self) -> Vec<String> {
        let text = |framed: &Framed| match &framed.frame {
            Frame::Read(read) => read.chip.to_string(),
            Frame::Marker(marker) if &*marker.kind == "dropped" => format!("#{}", marker.name.as_deref().unwrap()),
            Frame::Rejected(_) => "?".to_owned(),
            other => panic!("not to be kept: {other:?}"),
        };
        self.0.kept.borrow().iter().map(text).collect()
    }
}

impl ReadStore for Shelf {
    async fn append(&self, received: Vec<Received>) -> Result<Kept, JournalError> {
        self.0.asked.send_modify(|asked| *asked += 1);
        let shut = *self.0.shut.borrow();
        let (waiting, received): (Vec<_>, Vec<_>) = received.into_iter().partition(|part| *part.source == *shut);
        let mut last = self.keep(received).await?;
        if !waiting.is_empty() {
            let _ = self.0.shut.subscribe().wait_for(|now| *now != shut).await;
            last = self.keep(waiting).await?;
        }
        Ok(last)
    }

    async fn stored_ranges(&self, _: &str) -> StoredRanges {
        self.0.held.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    async fn let_go(&self, _: &str, _: impl Fn(&crate::model::chip::ChipRead) -> bool + Send + 'static) {}
}

impl Shelf {
    async fn keep(&self, received: Vec<Received>) -> Result<Kept, JournalError> {
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
        if self.0.burnt {
            return Err(JournalError::Closed);
        }
        let mut last = 0;
        let frames: Vec<Framed> = received.into_iter().flat_map(|received| received.frames).collect();
        let count = frames.len() as u64;
        self.0.kept.send_modify(|kept| {
            kept.extend(frames);
            last = kept.len() as u64;
        });
        Ok(Kept { first: Seq(last + 1 - count), last: Seq(last) })
    }
}

const QUICK: Limits = Limits {
    retry: Duration::from_millis(2),
    retry_max: Duration::from_millis(20),
    retry_max_serial: Duration::from_millis(20),
    held: Duration::from_secs(10),
    write: Duration::from_millis(100),
    settle: Duration::from_secs(10),
    stall: Duration::ZERO,
    ..LIMITS
};

/// Waits for what must happen, with a limit.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.expect("comes within 20 s")
}

fn config(protocol: &'static Spec, address: Address) -> DecoderConfig {
    DecoderConfig {
        name: "mat".into(),
        protocol,
        address,
        timezone: TimeZone::UTC,
        zone_given: true,
        clock: Default::default(),
        device_id: None,
        rewind: true,
        locations: std::collections::BTreeMap::new(),
        set: Settings::new(),
    }
}

/// A link that runs, and what the test sees of it.
struct Running {
    board: Board,
    stop: CancellationToken,
    task: JoinHandle<Result<(), LinkError>>,
    local: Option<SocketAddr>,
    asks: DecoderHandle,
}

impl Running {
    async fn start(limits: Limits, config: DecoderConfig, shelf: &Shelf) -> Self {
        let board = Board::new("test");
        let stop = CancellationToken::new();
        let port = bind(&config).await.unwrap();
        let local = port.local_addr();
        let asks = DecoderHandle::default();
        let task =
            tokio::spawn(run_within(limits, config, port, asks.clone(), shelf.clone(), board.clone(), stop.clone()));
        Self { board, stop, task, local, asks }
    }

    fn status(&self) -> DecoderStatus {
        self.board.snapshot().decoders.into_iter().next().unwrap_or_default()
    }

    fn problem(&self, code: &str) -> Option<Problem> {
        self.board.snapshot().problems.into_iter().find(|problem| problem.code == code)
    }

    /// Waits until the board shows it.
    async fn shows(&self, so: impl Fn(&Self) -> bool) {
        let mut changed = self.board.changed();
        within(async {
            while !so(self) {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }

    async fn state(&self, state: LinkState) {
        self.shows(|link| link.status().state == state).await;
    }

    async fn stopped(self) -> Result<(), LinkError> {
        self.stop.cancel();
        within(self.task).await.unwrap()
    }
}

async fn line(wire: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    within(BufReader::with_capacity(1, wire).read_line(&mut text)).await.unwrap();
    text
}

async fn decoder_listens() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Address::Tcp { host: "127.0.0.1".into(), port })
}

fn any_port() -> Address {
    Address::Listen("127.0.0.1:0".parse().unwrap())
}

/// Whether each read that was kept is marked as amid stored ones.
async fn marked(limits: Limits, spec: &'static Spec, rewind: bool, sent: &[u8], count: usize) -> Vec<bool> {
    let shelf = Shelf::new(true);
    let link = Running::start(limits, DecoderConfig { rewind, ..config(spec, any_port()) }, &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    wire.write_all(sent).await.unwrap();
    shelf.has(count).await;
    link.stopped().await.unwrap();
    let kept = shelf.0.kept.borrow();
    let mark = |framed: &Framed| matches!(&framed.frame, Frame::Read(read) if read.amid_stored);
    kept.iter().map(mark).collect()
}

#[tokio::test]
async fn a_live_read_is_marked_while_a_decoder_that_was_just_connected_may_give_stored_ones() {
    assert_eq!(marked(QUICK, &STORES, true, b"Rone\nSold\nRtwo\n", 3).await, [true, false, true]);
    assert_eq!(marked(QUICK, &STREAMS, true, b"Rone\nSold\nRtwo\n", 3).await, [false; 3], "it has nothing stored");
    assert_eq!(marked(QUICK, &STORES, false, b"Rone\nSold\nRtwo\n", 3).await, [false; 3], "it is not asked");
    let later = Limits { stored_first: Duration::ZERO, ..QUICK };
    assert_eq!(
        marked(later, &STORES, true, b"Rone\nSold\nRtwo\n", 3).await,
        [false, false, true],
        "it still gives some"
    );
    let over = Limits { stored_gap: Duration::ZERO, ..later };
    assert_eq!(marked(over, &STORES, true, b"Rone\nSold\nRtwo\n", 3).await, [false; 3]);
    let long_ago = Limits { stored_max: Duration::ZERO, ..QUICK };
    assert_eq!(marked(long_ago, &STORES, true, b"Rone\nSold\nRtwo\n", 3).await, [false; 3]);
}

#[tokio::test]
async fn an_ack_reaches_the_wire_only_after_its_read_is_durable() {
    let shelf = Shelf::new(false);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 1\n", "what waits for no read goes out at once");
    wire.write_all(b"P\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "pong\n");

    wire.write_all(b"Aone\nrubbish\nAtwo\n").await.unwrap();
    shelf.asked(1).await;
    wire.write_all(b"P\n").await.unwrap();
    let early = timeout(Duration::from_millis(50), wire.read_u8()).await;
    assert!(early.is_err(), "the disk has not said yes, but the wire got {early:?}");
    assert_eq!(link.status().reads, 0);

    shelf.open();
    for expected in ["ack one\n", "ack two\n", "pong\n"] {
        assert_eq!(line(&mut wire).await, expected);
    }
    link.shows(|link| link.board.recent_reads(9).len() == 2).await;
    let status = link.status();
    assert_eq!((status.reads, status.rejected, status.buffered), (2, 1, 0));
    assert_eq!(status.last_read.unwrap().chip, "two");
    let recent: Vec<_> = link.board.recent_reads(9).into_iter().map(|read| (read.seq, read.chip)).collect();
    assert_eq!(recent, [(3, "two".to_owned()), (1, "one".to_owned())]);
    assert_eq!(shelf.kept(), ["one", "?", "two"]);
    link.stopped().await.unwrap();
}

/// An LLRP reader that has another client takes our connection, says so, and ends it, again and
/// again.
#[tokio::test]
async fn a_decoder_that_takes_the_connection_and_ends_it_at_once_is_one_problem_until_it_works() {
    let limits = Limits { steady: Duration::from_secs(3600), ..QUICK };
    let (listener, address) = decoder_listens().await;
    let link = Running::start(limits, config(&STREAMS, address), &Shelf::new(true)).await;
    for _ in 0..4 {
        let (mut wire, _) = within(listener.accept()).await.unwrap();
        wire.write_all(b"busy\n").await.unwrap();
        drop(wire);
        link.state(LinkState::Failed).await;
    }
    let first = link.problem("decoder_unreachable").expect("it is shown");
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    link.state(LinkState::Connecting).await;
    let still = link.problem("decoder_unreachable").expect("a connection alone proves nothing");
    assert_eq!(still.since, first.since, "it is one problem since the first time");
    wire.write_all(b"Rone\n").await.unwrap();
    link.state(LinkState::Connected).await;
    assert!(link.problem("decoder_unreachable").is_none(), "a read proves that it works");
    link.stopped().await.unwrap();

    // A connection that lasts proves it too, because most decoders send nothing before the first
    // chip.
    let limits = Limits { steady: Duration::from_millis(300), ..QUICK };
    let (listener, address) = decoder_listens().await;
    let link = Running::start(limits, config(&STREAMS, address), &Shelf::new(true)).await;
    drop(within(listener.accept()).await.unwrap());
    link.state(LinkState::Failed).await;
    let _wire = within(listener.accept()).await.unwrap();
    link.state(LinkState::Connected).await;
    assert!(link.problem("decoder_unreachable").is_none());
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_decoder_that_drops_the_link_is_shown_and_connected_again() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    let local = listener.local_addr().unwrap();
    let link = Running::start(QUICK, config(&STREAMS, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    wire.write_all(b"Rone\nRhal").await.unwrap();
    link.state(LinkState::Connected).await;
    shelf.has(1).await;
    drop((wire, listener));
    link.state(LinkState::Failed).await;
    let problem = link.problem("decoder_unreachable").unwrap();
    assert!(problem.message.contains(&local.to_string()), "{problem:?}");

    let listener = TcpListener::bind(local).await.unwrap();
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    link.state(LinkState::Connected).await;
    assert_eq!(link.problem("decoder_unreachable"), None);
    wire.write_all(b"Rtwo\n").await.unwrap();
    shelf.has(3).await;
    assert_eq!(shelf.kept(), ["one", "?", "two"], "half a line is kept as rejected and does not spoil the next");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn two_connections_to_a_listening_port_do_not_mix_their_bytes() {
    let shelf = Shelf::new(true);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut one = TcpStream::connect(link.local.unwrap()).await.unwrap();
    let mut two = TcpStream::connect(link.local.unwrap()).await.unwrap();
    assert_eq!(line(&mut one).await, "ask 1\n");
    assert_eq!(line(&mut two).await, "ask 1\n");
    one.write_all(b"Afir").await.unwrap();
    two.write_all(b"Asecond\n").await.unwrap();
    assert_eq!(line(&mut two).await, "ack second\n");
    one.write_all(b"st\n").await.unwrap();
    assert_eq!(line(&mut one).await, "ack first\n");
    drop(one);
    two.write_all(b"Athird\n").await.unwrap();
    assert_eq!(line(&mut two).await, "ack third\n");
    assert_eq!(link.status().state, LinkState::Connected);
    drop(two);
    link.state(LinkState::Connecting).await;
    assert!(link.problem("decoder_unreachable").is_some());
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn while_all_connections_speak_the_seventeenth_is_turned_away() {
    let shelf = Shelf::new(true);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
        assert_eq!(line(&mut wire).await, "ask 1\n");
        wire.write_all(b"Aone\n").await.unwrap();
        assert_eq!(line(&mut wire).await, "ack one\n");
        wires.push(wire);
    }
    for _ in 0..50 {
        let mut surplus = TcpStream::connect(link.local.unwrap()).await.unwrap();
        assert!(matches!(within(surplus.read(&mut [0])).await, Ok(0) | Err(_)));
    }
    assert!(link.problem("too_many_connections").is_some());
    wires[0].write_all(b"Atwo\n").await.unwrap();
    assert_eq!(line(&mut wires[0]).await, "ack two\n");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn connections_that_never_speak_give_way_to_the_decoders_software() {
    let shelf = Shelf::new(true);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS + 1 {
        let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
        assert_eq!(line(&mut wire).await, "ask 1\n");
        silent.push(wire);
    }
    assert!(matches!(within(silent[0].read(&mut [0])).await, Ok(0)), "the oldest gave way");
    assert!(link.problem("too_many_connections").is_some());
    let mut exporter = TcpStream::connect(link.local.unwrap()).await.unwrap();
    assert_eq!(line(&mut exporter).await, "ask 1\n");
    exporter.write_all(b"Aone\n").await.unwrap();
    assert_eq!(line(&mut exporter).await, "ack one\n");
    for _ in 0..2 * CONNECTIONS {
        let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
        assert_eq!(line(&mut wire).await, "ask 1\n");
        silent.push(wire);
    }
    exporter.write_all(b"Atwo\n").await.unwrap();
    assert_eq!(line(&mut exporter).await, "ack two\n", "who speaks stays");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_megabyte_without_a_line_end_is_told_until_the_decoder_makes_sense() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    static SILENT_LINES: Spec = Spec { make: |_| Ok(Box::new(Deaf)), ..lines("deaf", None, Missed::Lost) };
    let link = Running::start(QUICK, config(&SILENT_LINES, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    wire.write_all(&vec![b'x'; 1024 * 1024 - 1]).await.unwrap();
    assert!(link.problem("decoder_no_records").is_none());
    wire.write_all(b"x").await.unwrap();
    within(async {
        while link.problem("decoder_no_records").is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    wire.write_all(b"!").await.unwrap();
    within(async {
        while link.problem("decoder_no_records").is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_frozen_decoder_is_seen_and_is_not_called_connected_until_it_speaks() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    let link = Running::start(QUICK, config(&SPEAKS, address), &shelf).await;
    let (mut frozen, _) = within(listener.accept()).await.unwrap();
    frozen.write_all(b"Rone\n").await.unwrap();
    link.state(LinkState::Idle).await;
    assert!(link.problem("decoder_silent").is_some());

    let (again, _) = within(listener.accept()).await.unwrap();
    assert_eq!(link.status().state, LinkState::Idle);
    drop(again);
    let speaking = tokio::spawn(async move {
        loop {
            let (mut wire, _) = listener.accept().await.unwrap();
            while wire.write_all(b"Rtwo\n").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    link.shows(|link| link.status().state == LinkState::Connected && link.problem("decoder_silent").is_none()).await;
    shelf.has(2).await;
    speaking.abort();
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_cable_pulled_while_the_disk_is_full_costs_nothing_that_had_arrived() {
    let shelf = Shelf::new(false);
    let (listener, address) = decoder_listens().await;
    let link = Running::start(QUICK, config(&STREAMS, address), &shelf).await;
    for chip in ["one", "two", "three"] {
        let (mut wire, _) = within(listener.accept()).await.unwrap();
        wire.write_all(format!("R{chip}\n").as_bytes()).await.unwrap();
    }
    // The link dials again only after it has read the last connection to its end.
    let _wire = within(listener.accept()).await.unwrap();
    assert_eq!(shelf.kept(), [""; 0]);
    shelf.open();
    shelf.has(3).await;
    assert_eq!(shelf.kept(), ["one", "two", "three"]);
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_listening_address_that_is_not_on_the_box_yet_is_waited_for() {
    let shelf = Shelf::new(true);
    let elsewhere = Address::Listen("192.0.2.1:3097".parse().unwrap());
    let link = Running::start(QUICK, config(&STORES, elsewhere), &shelf).await;
    link.state(LinkState::Failed).await;
    assert!(link.problem("decoder_unreachable").unwrap().message.contains("192.0.2.1:3097"));
    link.stopped().await.unwrap();
}

/// A pty: the decoder's end, and the path of our end.
fn pty() -> (SerialStream, String) {
    let (decoder, ours) = SerialStream::pair().unwrap();
    let path = ours.name().unwrap();
    (decoder, path)
}

fn serial(path: &Path) -> Address {
    Address::Serial {
        path: path.to_owned(),
        baud: 9600,
        bits: tokio_serial::DataBits::Eight,
        parity: tokio_serial::Parity::None,
        stop: tokio_serial::StopBits::One,
        flow: tokio_serial::FlowControl::None,
    }
}

#[tokio::test]
async fn a_pulled_serial_adapter_is_picked_up_again_under_the_same_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ttyUSB0");
    let shelf = Shelf::new(true);
    let link = Running::start(QUICK, config(&STREAMS, serial(&path)), &shelf).await;
    link.state(LinkState::Failed).await;
    assert!(link.problem("decoder_unreachable").unwrap().message.contains("ttyUSB0"));

    for chip in ["one", "two"] {
        let (mut decoder, ours) = pty();
        symlink(&ours, &path).unwrap();
        link.state(LinkState::Connected).await;
        assert_eq!(link.problem("decoder_unreachable"), None);
        decoder.write_all(format!("R{chip}\nA{chip}\n").as_bytes()).await.unwrap();
        assert_eq!(line(&mut decoder).await, format!("ack {chip}\n"));
        std::fs::remove_file(&path).unwrap();
        drop(decoder);
        link.state(LinkState::Failed).await;
    }
    assert_eq!(shelf.kept(), ["one", "one", "two", "two"]);
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_stop_keeps_what_was_received_and_acknowledges_it() {
    let shelf = Shelf::new(false);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 1\n");
    wire.write_all(b"Aone\n").await.unwrap();
    shelf.asked(1).await;
    link.stop.cancel();
    shelf.open();
    assert_eq!(line(&mut wire).await, "ack one\n");
    link.stopped().await.unwrap();
    assert_eq!(shelf.kept(), ["one"]);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_for_a_full_disk() {
    let shelf = Shelf::new(false);
    let limits = Limits { settle: Duration::from_millis(20), ..QUICK };
    let link = Running::start(limits, config(&STORES, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    wire.write_all(b"Aone\n").await.unwrap();
    shelf.asked(1).await;
    link.stopped().await.unwrap();
    assert_eq!(shelf.kept(), [""; 0]);
}

#[tokio::test]
async fn the_loss_of_the_journal_ends_the_link_with_its_reason() {
    let shelf = Shelf::with(true, true);
    let link = Running::start(QUICK, config(&STORES, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    wire.write_all(b"Aone\n").await.unwrap();
    let error = within(link.task).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Journal { frames: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_decoder_clock_that_is_off_is_measured_and_shown_until_it_is_right() {
    let shelf = Shelf::new(true);
    let link = Running::start(QUICK, config(&STREAMS, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    let fast = Timestamp::now() + Duration::from_secs(3600);
    wire.write_all(format!("C{0}\nC{0}\n!\n", Stamp::Utc(fast)).as_bytes()).await.unwrap();
    link.shows(|link| link.problem("decoder_restarted").is_some()).await;
    let offset = link.status().clock_offset_ms.unwrap();
    assert!((3_580_000..=3_600_000).contains(&offset), "{offset}");
    assert!(link.problem("decoder_clock_off").unwrap().message.contains("ahead"));
    wire.write_all(format!("C{0}\nC{0}\n", Stamp::Utc(Timestamp::now())).as_bytes()).await.unwrap();
    link.shows(|link| link.problem("decoder_clock_off").is_none()).await;
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_a_configuration_fault_named_by_decoder_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(&config(&STORES, Address::Listen(address))).await.unwrap_err();
    assert!(matches!(error, LinkError::Bind { .. } | LinkError::Setting(_)));
    let text = error.to_string();
    assert!(text.contains("`mat`") && text.contains(&address.to_string()), "{text}");
}

#[test]
fn waits_between_tries_grow_from_one_second_to_thirty_and_start_anew_after_a_good_link() {
    let decoder = Decoder::new(LIMITS, config(&STREAMS, any_port()), DecoderHandle::default(), Board::new("test"));
    let mut retry = decoder.retry(false);
    let waits: Vec<_> = (0..200).map(|_| decoder.wait(&mut retry)).collect();
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(30));
    assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{waits:?}");
    assert!(waits[199] >= Duration::from_secs(15) && waits[100..].iter().any(|wait| *wait != waits[199]), "{waits:?}");
    retry.reset();
    assert!(decoder.wait(&mut retry) < Duration::from_secs(2));
    let mut serial = decoder.retry(true);
    assert!((0..50).all(|_| decoder.wait(&mut serial) <= Duration::from_secs(2)));
}
