//! Histories of a whole box, for tests only. They run the journal's own code (log, fold, sled
//! queue, writer and follower, in one thread) and the uplink's own machine, against a scripted
//! cloud, clock and disk.
//!
//! A history is plain data: who sends what, which part runs next, what fails, and where the power
//! fails. [`run`] plays it. At its end, all faults are removed, and everything must be uploaded.
//! There is no real time, no sleeping, and no thread except those of sled.
//!
//! # What is checked: the invariants of the design, each at the first place where it can be seen
//!
//! The checks use what *would survive a power cut at that moment* (the scripted disk knows what was
//! synced), not what the journal says about itself. All checks are in [`ledger`], with these
//! numbers:
//!
//! 1. **Kept before shown.** When `append` returns, its entries are durable. The head that the
//!    board shows is durable. When a POST is sent, the reads of its passings and their batch line
//!    are durable.
//! 2. **Everything is kept.** What was acknowledged (reads, repeats, markers, rejected frames) is
//!    in the log, byte for byte and in order, after every restart and at the end, except in
//!    segments that were rightly pruned.
//! 3. **Numbered once.** A POST carries exactly what a durable batch line says. A number of a
//!    session never belongs to two passings. Numbers rise from batch to batch. A batch is formed
//!    only when the previous one is settled.
//! 4. **Unknown is not failed.** A read is never numbered again if the cloud holds it, or if it was
//!    not released. At the end each passing is in the cloud exactly once, with clouds that detect
//!    duplicates and with clouds that do not.
//! 5. **Nothing waits for the bad one.** When all faults are removed, everything is uploaded. Only
//!    passings that the cloud refused are set aside.
//! 6. **Bounded.** The tail stays within its bound. A segment that is removed holds nothing
//!    unsettled.
//! 7. **Two clocks.** The passings in the cloud are in the order of the journal, whatever the wall
//!    clock did. A history runs the same way, action by action and timer by timer, with the clock
//!    steps and without them.
//! 10. **A rule never hides.** A passing goes up with the time that its decoder stamped, moved by the
//!     corrections that were durable when its batch was formed, and by nothing else. While the box is on
//!     hold, no read that was kept meanwhile gets a number. If it is dropped, it never gets one.
//!
//! Dead time and repeats are also checked, against a plain reading of the rules
//! ([`rules::verdicts`]). There is one exception, which `journal::state` documents: after the
//! queue was rebuilt from a log that had been pruned, a repeat of a pruned read may count as a
//! passing.
//!
//! `PASSBRIDGE_HISTORIES` and `PASSBRIDGE_SEED` set how many histories run and which ones.
//! tests/README.md has the command.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::Timestamp;

use super::UplinkConfig;
use super::machine::{Action, Input, Wanted};
use super::model::{CallFault, Cloud, On, upload};
use crate::decoders::Framed;
use crate::journal::control::Held;
use crate::journal::driven::{Driven, disk};
use crate::journal::{Durable, Journal, JournalConfig, JournalError, Kept, UploadEvent};
use crate::model::chip::Seq;
use crate::model::clock::Wall;
use crate::model::correction::Correction;
use crate::status::Board;

mod drive;
mod frames;
#[path = "../../../tests/support/disk_state.rs"]
mod image;
mod ledger;
mod rules;
mod script;
mod tests;

use drive::drive;
use image::image;
use ledger::Ledger;
use script::{End, History, Op, Queue, Sent, Setup};

/// The cloud of one device, and the clock of its uplink.
pub(super) struct Device {
    name: Box<str>,
    cloud: Cloud,
    now: Duration,
    /// The uplink did something since this flag was last cleared.
    moved: bool,
    /// Every call and wait, with its time.
    trace: Vec<String>,
    /// What people want of the session. `None`: that the active one closes.
    orders: VecDeque<Option<Wanted>>,
    /// Whoever gave the last order is gone.
    leaves: bool,
}

struct Decoder {
    name: Box<str>,
    /// Time of day on the decoder's clock, in milliseconds.
    clock: u32,
    reads: Vec<Framed>,
    /// Frames that were sent and not acknowledged.
    open: Vec<Vec<Framed>>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Keeping = Pin<Box<dyn Future<Output = Result<Durable<Kept>, JournalError>>>>;

/// A box and everything around it.
pub(super) struct World {
    setup: Setup,
    base: tempfile::TempDir,
    /// Number of processes that were started.
    lives: u64,
    dir: PathBuf,
    board: Board,
    wall: Wall,
    driven: Option<Driven>,
    keeping: Vec<(usize, Vec<Framed>, Keeping)>,
    uplinks: Vec<Task>,
    /// A piece of passings that are sent again, until it is durable.
    giving: Option<Task>,
    /// A decision about passings that are set aside, until it is durable.
    deciding: Option<Task>,
    decoders: Vec<Decoder>,
    devices: Vec<Rc<RefCell<Device>>>,
    ledger: Rc<RefCell<Ledger>>,
    older: Option<PathBuf>,
}

/// Result of a history that was played.
struct Played {
    /// Actions of each uplink, with their times.
    traces: Vec<Vec<String>>,
    /// Events and how often each happened.
    tally: BTreeMap<&'static str, u64>,
}

/// Plays a history. `Err`: the invariant that does not hold.
fn run(history: &History, clock_steps: bool) -> Result<Played, String> {
    fastrand::seed(history.setup.seed);
    disk::begin();
    let mut world = World::new(history.setup.clone());
    for op in &history.ops {
        if clock_steps || !matches!(op, Op::Clock { .. }) {
            world.play(op);
        }
        world.look()?;
    }
    let drained = world.drain();
    let traces = world.devices.iter().map(|device| device.borrow().trace.clone()).collect();
    let tally = std::mem::take(&mut world.ledger.borrow_mut().tally);
    world.uplinks.clear();
    world.driven = None;
    disk::end();
    drained.map(|()| Played { traces, tally })
}

fn poll<T>(task: &mut Pin<Box<dyn Future<Output = T>>>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Ends one step of an uplink, so that the world continues.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl World {
    fn new(setup: Setup) -> Self {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let wall = Wall::scripted("2026-05-03T08:00:00Z".parse().unwrap());
        let decoder = |at: usize| Decoder {
            name: format!("mat-{at}").into(),
            clock: 36_000_000,
            reads: Vec::new(),
            open: Vec::new(),
        };
        let count = setup.devices.iter().max().map_or(1, |last| last + 1);
        let devices = (0..count).map(|at| {
            let mut cloud = Cloud::new();
            (cloud.dedup, cloud.counts, cloud.page) = (setup.dedup, setup.counts, setup.page);
            cloud.lag = setup.lag;
            cloud.writer = setup.writer.then(|| (fastrand::Rng::with_seed(setup.seed), 0.05));
            let name = format!("device-{at}").into();
            Rc::new(RefCell::new(Device {
                name,
                cloud,
                now: Duration::ZERO,
                moved: false,
                trace: Vec::new(),
                orders: VecDeque::new(),
                leaves: false,
            }))
        });
        let names = |at: usize| (format!("mat-{at}").into(), setup.devices[at]);
        let ledger = Ledger::new((0..setup.devices.len()).map(names), setup.dead_time);
        let dir = base.path().join("life-0");
        let mut world = Self {
            decoders: (0..setup.devices.len()).map(decoder).collect(),
            devices: devices.collect(),
            ledger: Rc::new(RefCell::new(ledger)),
            board: Board::with_clock("model", wall.clone()),
            lives: 0,
            driven: None,
            keeping: Vec::new(),
            uplinks: Vec::new(),
            giving: None,
            deciding: None,
            older: None,
            setup,
            base,
            dir,
            wall,
        };
        world.start();
        world
    }

    /// Starts a process in the current directory. If the power fails during the start, it starts
    /// again.
    fn start(&mut self) {
        let Setup { dead_time, segment_bytes, keep_bytes, .. } = self.setup;
        let driven = loop {
            std::fs::create_dir_all(&self.dir).unwrap();
            let _ = std::fs::write(self.dir.join("reserve"), ""); // saves writing four megabytes
            let config = JournalConfig {
                dir: self.dir.clone(),
                dead_time,
                zones: Default::default(),
                keep_days: 30,
                keep_bytes,
                segment_bytes,
            };
            self.board = Board::with_clock("model", self.wall.clone());
            match Driven::open(config, self.board.clone()) {
                Ok(driven) if !disk::is_off() => break driven,
                opened => {
                    assert!(
                        disk::is_off(),
                        "the journal does not open: {:?}",
                        opened.err().map(|error| error.to_string())
                    );
                    self.leave(End::Cut, Queue::AsItIs, &mut fastrand::Rng::with_seed(self.lives));
                }
            }
        };
        self.uplinks = self.devices.iter().map(|device| self.uplink(device, &driven.journal)).collect();
        self.ledger.borrow_mut().restarted(&self.dir);
        self.driven = Some(driven);
    }

    fn uplink(&self, device: &Rc<RefCell<Device>>, journal: &Journal) -> Task {
        let name = device.borrow().name.clone();
        let at = self.devices.iter().position(|one| Rc::ptr_eq(one, device)).unwrap();
        let mine = self.decoders.iter().zip(&self.setup.devices).filter(|(_, to)| **to == at);
        let upload =
            crate::config::UploadConfig { batch_max: self.setup.batch_max, linger: self.setup.linger, ..upload() };
        let config = UplinkConfig {
            device: name,
            decoders: mine.map(|(decoder, _)| decoder.name.clone()).collect(),
            name: "model".into(),
            session: self.setup.mode,
            upload,
        };
        device.borrow_mut().now = Duration::ZERO;
        device.borrow_mut().cloud.restarted();
        let seed = self.setup.seed ^ self.lives;
        Box::pin(drive(Rc::clone(device), Rc::clone(&self.ledger), self.dir.clone(), journal.clone(), config, seed))
    }

    /// Makes the directory that the next process finds.
    fn leave(&mut self, how: End, queue: Queue, rng: &mut fastrand::Rng) {
        self.lives += 1;
        let next = self.base.path().join(format!("life-{}", self.lives));
        std::fs::create_dir_all(&next).unwrap();
        // Identity, mark and ages; the log; the index of the reads that were ever kept.
        let dirs = ["", "log", "known"].map(|name| (self.dir.join(name), next.join(name)));
        let dirs: Vec<_> = dirs.iter().filter(|(from, _)| from.is_dir()).map(|(from, to)| (&**from, &**to)).collect();
        disk::image(&dirs, (how == End::Cut).then_some(rng));
        let from = match queue {
            Queue::Older => self.older.take(),
            Queue::Gone => None,
            Queue::AsItIs | Queue::Truncated => Some(self.dir.join("queue")),
        };
        if let Some(from) = from.filter(|from| from.is_dir()) {
            image(&from, &next.join("queue"));
        }
        if queue == Queue::Truncated {
            truncate_newest(&next.join("queue"));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        self.dir = next;
    }

    fn end(&mut self, how: End, queue: Queue, seed: u64, resend: bool, cut_in_start: Option<u32>) {
        self.uplinks.clear();
        (self.giving, self.deciding) = (None, None);
        self.keeping.clear();
        if let Some(driven) = self.driven.take().filter(|_| how == End::Stopped && !disk::is_off()) {
            driven.close();
        }
        let what = match how {
            _ if disk::is_killed() => "kills amid a call of the disk",
            _ if disk::is_off() => "power cuts amid a call of the disk",
            End::Stopped => "stops",
            End::Killed => "kills",
            End::Cut => "power cuts",
        };
        self.ledger.borrow_mut().count(what, 1);
        let how = if disk::is_killed() {
            End::Killed
        } else if disk::is_off() {
            End::Cut
        } else {
            how
        };
        self.leave(how, queue, &mut fastrand::Rng::with_seed(seed));
        if queue != Queue::AsItIs {
            self.ledger.borrow_mut().rebuilt();
        }
        disk::set(disk::Script { cut_in: cut_in_start, ..disk::Script::default() });
        self.start();
        for at in 0..self.decoders.len() {
            let open = std::mem::take(&mut self.decoders[at].open);
            for frames in open.into_iter().filter(|_| resend) {
                self.keep(at, frames);
            }
        }
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Keep { decoder, ref sent } => {
                let at = decoder % self.decoders.len();
                let frames: Vec<Framed> = sent.iter().flat_map(|sent| self.decoders[at].frames(*sent)).collect();
                if !frames.is_empty() {
                    self.keep(at, frames);
                }
            }
            Op::Stream { decoder, ref sent, steps, follow } => {
                self.stream(decoder % self.decoders.len(), sent, (steps, follow));
            }
            Op::Write => {
                self.write();
            }
            Op::Follow { prune, copy } => self.follow(prune, copy),
            Op::Upload { device, steps } => self.upload(device % self.devices.len(), steps),
            Op::Fault { device, on, ref fault } => {
                let on = [On::Active, On::Session, On::Held, On::Create, On::Insert, On::Insert][usize::from(on % 6)];
                let possible = match fault {
                    CallFault::Short(_) => self.setup.counts.0, // without counts, nobody could see the fault
                    CallFault::Stale => on == On::Active,
                    CallFault::Answer(_) => on == On::Insert, // a refused question makes the uplink blind
                    _ => true,
                };
                if possible {
                    self.device(device).cloud.script.push_back((on, fault.clone()));
                }
            }
            Op::Weather { device, odds } => {
                let rng = fastrand::Rng::with_seed(self.setup.seed ^ u64::from(odds));
                self.device(device).cloud.chance = (odds > 0).then(|| (rng, f64::from(odds) / 1000.0));
            }
            Op::Most { device, most } => self.device(device).cloud.most = most,
            Op::Session { device, open } => {
                let cloud = &mut self.device(device).cloud;
                if open {
                    cloud.open();
                } else {
                    cloud.close();
                }
            }
            Op::Order { device, open } => {
                let mut device = self.device(device);
                let wanted = open.then(|| device.cloud.another());
                device.orders.push_back(wanted);
            }
            Op::Leave { device } => self.device(device).leaves = true,
            Op::Clock { to, step } => {
                let seconds = to.unwrap_or_else(|| self.wall.now().as_second() + step);
                self.wall.set(Timestamp::from_second(seconds.max(0)).unwrap());
            }
            Op::Correct { decoder, at, length, days } => {
                self.correct(decoder % self.decoders.len(), (at, length), days)
            }
            Op::Again { device, most, back } => {
                self.correct_all_and_send_again(device % self.devices.len(), most, back)
            }
            Op::Decide(release) => self.decide(release),
            Op::Aside { device, release } => self.aside(device % self.devices.len(), release),
            Op::Disk(script) => disk::set(script),
            Op::End { how, queue, seed, resend, cut_in_start } => self.end(how, queue, seed, resend, cut_in_start),
        }
        if disk::is_off() {
            let seed = self.setup.seed ^ self.lives;
            let mut rng = fastrand::Rng::with_seed(seed);
            let queue = if rng.u8(0..4) == 0 { Queue::Older } else { Queue::AsItIs };
            self.end(End::Cut, queue, seed, rng.bool(), None);
        }
    }

    /// Corrects all reads of a device by a day, has them sent again, and with `back` takes the
    /// correction back.
    fn correct_all_and_send_again(&mut self, device: usize, most: usize, back: bool) {
        let all: Vec<usize> = (0..self.decoders.len()).filter(|at| self.setup.devices[*at] == device).collect();
        all.iter().for_each(|at| self.correct(*at, (0, u64::MAX / 2), 1));
        self.again(device, most);
        if back {
            all.iter().for_each(|at| self.correct(*at, (0, u64::MAX / 2), -1));
        }
    }

    fn device(&self, device: usize) -> std::cell::RefMut<'_, Device> {
        self.devices[device % self.devices.len()].borrow_mut()
    }

    fn keep(&mut self, at: usize, frames: Vec<Framed>) {
        let Some(driven) = &self.driven else { return };
        let (journal, received) = (driven.journal.clone(), self.wall.now());
        let (name, given) = (self.decoders[at].name.clone(), frames.clone());
        let mut keeping: Keeping = Box::pin(async move { journal.append(&name, received, given).await });
        self.decoders[at].open.push(frames.clone());
        assert!(poll(&mut keeping).is_pending(), "kept before anything was written");
        self.keeping.push((at, frames, keeping));
    }

    fn stream(&mut self, at: usize, sent: &[Sent], (steps, follow): (u32, bool)) {
        for sent in sent {
            let frames = self.decoders[at].frames(*sent);
            if frames.is_empty() || disk::is_off() {
                return;
            }
            self.keep(at, frames);
            self.write();
            self.upload(self.setup.devices[at], steps);
            if follow && !disk::is_off() {
                self.follow(false, false);
            }
        }
    }

    /// Puts the box on hold (`None`), or releases it.
    fn decide(&mut self, release: Option<Held>) {
        let Some(driven) = self.driven.as_ref().filter(|driven| driven.serves()) else { return };
        let journal = driven.journal.clone();
        let mut asked: Task = Box::pin(async move {
            match release {
                None => drop(journal.hold("timer").await),
                Some(how) => drop(journal.release(how, "timer").await),
            }
        });
        if poll(&mut asked).is_pending() {
            self.write(); // or later, if the disk refuses it
        }
    }

    /// What the commands `set-aside release` and `set-aside drop` do in the journal.
    fn aside(&mut self, at: usize, release: bool) {
        self.deciding = self.deciding.take().and_then(|mut task| poll(&mut task).is_pending().then_some(task));
        let free = self.deciding.is_none();
        let Some(driven) = self.driven.as_ref().filter(|driven| driven.serves() && free) else { return };
        let (journal, device) = (driven.journal.clone(), self.devices[at].borrow().name.clone());
        self.ledger.borrow_mut().refresh(&self.dir);
        let failing: Vec<Seq> = journal.device(&device).failing.iter().map(|item| item.seq).collect();
        let mut items = self.ledger.borrow().aside(&device);
        items.retain(|item| !failing.contains(&item.seq));
        let by = "timer".into();
        let event = match release {
            true if items.is_empty() => return,
            true => UploadEvent::Retry { device, items, by },
            false => UploadEvent::Dropped { device, items: items.iter().map(|item| item.seq).collect(), failing, by },
        };
        let mut asked: Task = Box::pin(async move { drop(journal.record(event).await) });
        assert!(poll(&mut asked).is_pending());
        while self.write() {}
        self.deciding = Some(asked); // the journal decides nothing else before this is durable
    }

    /// The command `correct`, as far as the journal carries it out.
    fn correct(&mut self, at: usize, (place, length): (u64, u64), days: i64) {
        let Some(driven) = &self.driven else { return };
        let (journal, name) = (driven.journal.clone(), self.decoders[at].name.clone());
        let last = journal.durable().0;
        let first = 1 + last * place / 1000;
        let (ranges, shift_ms) = (vec![(first, (first + length).min(last))], days * 86_400_000);
        let correction = Correction { ranges, shift_ms, zone: None, by: "timer".into(), oldest: 0 };
        let mut asked: Task = Box::pin(async move { drop(journal.correct(&name, correction).await) });
        if poll(&mut asked).is_pending() {
            self.write(); // or later, if the disk refuses it
        }
    }

    /// What the daemon does when an order is carried out.
    fn again(&mut self, at: usize, most: usize) {
        self.giving = self.giving.take().and_then(|mut task| poll(&mut task).is_pending().then_some(task));
        let free = self.giving.is_none();
        let Some(driven) = self.driven.as_ref().filter(|driven| driven.serves() && free) else { return };
        let (journal, device) = (driven.journal.clone(), self.devices[at].borrow().name.clone());
        if !journal.released(&device).is_empty() {
            return;
        }
        self.ledger.borrow_mut().refresh(&self.dir);
        let Some((session, items)) = self.ledger.borrow().wrong(&device, most) else { return };
        let mut given: Task = Box::pin(async move {
            let next = items.last().map_or(Seq(0), |item| Seq(item.seq.0 + 1));
            drop(journal.record(UploadEvent::Again { device, session, items, next }).await);
        });
        assert!(poll(&mut given).is_pending());
        while self.write() {}
        self.giving = Some(given); // no other piece is given before this one is durable
    }

    /// Runs the writer once, and gives the results to the appends that waited for it.
    fn write(&mut self) -> bool {
        let wrote = self.driven.as_mut().is_some_and(Driven::write);
        let mut ledger = self.ledger.borrow_mut();
        ledger.count("groups refused by the disk", usize::from(self.driven.as_ref().is_some_and(Driven::refused)));
        for (at, frames, mut keeping) in std::mem::take(&mut self.keeping) {
            match poll(&mut keeping) {
                Poll::Ready(Ok(kept)) => {
                    ledger.acknowledged(&self.dir, &self.decoders[at].name, &frames, kept.get());
                    self.decoders[at].open.remove(0);
                }
                Poll::Ready(Err(_)) => {} // closed: the decoder gets no acknowledgement
                Poll::Pending => self.keeping.push((at, frames, keeping)),
            }
        }
        wrote
    }

    fn follow(&mut self, prune: bool, copy: bool) {
        let queue = self.dir.join("queue");
        if copy && queue.is_dir() {
            let older = self.base.path().join("older");
            let _ = std::fs::remove_dir_all(&older);
            image(&queue, &older);
            self.older = Some(older);
        }
        let Some(driven) = &mut self.driven else { return };
        self.ledger.borrow_mut().refresh(&self.dir);
        let rebuilt = || self.board.snapshot().problems.iter().any(|problem| problem.code == "queue_rebuilt");
        let before = rebuilt();
        driven.follow(prune);
        let mut ledger = self.ledger.borrow_mut();
        if rebuilt() && !before {
            ledger.rebuilt();
        }
        ledger.pruned(&self.dir);
    }

    fn upload(&mut self, at: usize, steps: u32) {
        if self.driven.as_ref().is_some_and(|driven| !driven.serves()) {
            self.follow(false, false);
        }
        for _ in 0..steps {
            self.devices[at].borrow_mut().moved = false;
            if disk::is_off() || poll(&mut self.uplinks[at]).is_ready() {
                return;
            }
            let moved = self.devices[at].borrow().moved;
            if !moved && !self.write() {
                return; // the uplink waits for the disk
            }
        }
    }

    /// Checks the invariants that can be checked at any time.
    fn look(&self) -> Result<(), String> {
        let mut ledger = self.ledger.borrow_mut();
        ledger.refresh(&self.dir);
        ledger.shown(self.board.snapshot().journal.durable);
        if let Some(driven) = &self.driven {
            ledger.tail(driven.tail());
            ledger.not_lost(driven.lost(), &self.board.snapshot().problems);
        }
        ledger.verdict()
    }

    /// Removes all faults. From now on, everything must arrive.
    fn drain(&mut self) -> Result<(), String> {
        disk::set(disk::Script::default());
        for device in &self.devices {
            let device = &mut *device.borrow_mut();
            device.orders.clear();
            let cloud = &mut device.cloud;
            (cloud.chance, cloud.most, cloud.writer) = (None, 500, None);
            cloud.script.clear();
        }
        for round in 0..20_000 {
            // An order that is under way may still close the session.
            for device in &self.devices {
                let cloud = &mut device.borrow_mut().cloud;
                if !cloud.sessions.iter().any(|session| session.active) {
                    cloud.open();
                }
            }
            if self.driven.as_ref().is_some_and(|driven| driven.serves() && driven.journal.is_on_hold()) {
                self.decide(Some(Held::Send));
            }
            let wrote = self.write();
            if round % 500 == 0 || !self.driven.as_ref().is_some_and(Driven::serves) {
                self.follow(true, false);
            }
            for at in 0..self.devices.len() {
                self.upload(at, 4);
            }
            let journal = &self.driven.as_ref().expect("it lives").journal;
            if !wrote && self.keeping.is_empty() && journal.backlog().0 == 0 && self.idle() {
                self.driven.as_mut().expect("it lives").settle();
                self.follow(true, false);
                self.look()?;
                let states: Vec<_> =
                    self.devices.iter().map(|device| journal_state(self.driven.as_ref(), device)).collect();
                let reads = self.driven.as_ref().and_then(|driven| driven.journal.reads());
                let mut ledger = self.ledger.borrow_mut();
                ledger.adds_up(reads);
                ledger.audit(&self.dir, &self.devices, &states);
                return ledger.verdict();
            }
        }
        self.look()?;
        Err(format!(
            "5: it does not drain: {:?}",
            self.devices.iter().map(|device| device.borrow().last()).collect::<Vec<_>>()
        ))
    }

    /// The state contains every read of the decoders (the queue serves), and nothing is requested.
    fn idle(&self) -> bool {
        self.driven.as_ref().is_some_and(Driven::serves)
    }
}

fn journal_state(driven: Option<&Driven>, device: &Rc<RefCell<Device>>) -> crate::journal::DeviceState {
    driven.map(|driven| driven.journal.device(&device.borrow().name)).unwrap_or_default()
}

impl Device {
    fn last(&self) -> Vec<String> {
        self.trace[self.trace.len().saturating_sub(12)..].to_vec()
    }

    fn note(&mut self, what: &str) {
        self.moved = true;
        let line = format!("{:?} {what}", self.now);
        self.trace.push(line);
    }

    /// The model cloud's answer to a question, or to the request for a session.
    fn answer(&mut self, question: Action) -> Input {
        self.note(&format!("{question:?}"));
        match question {
            Action::AskActive => Input::Active(self.cloud.active()),
            Action::AskSession { token } => Input::Session(self.cloud.session(&token)),
            Action::AskHeld { scope, page, .. } => Input::Held(self.cloud.held(&scope, page)),
            Action::AskDevice => Input::Device(self.cloud.device()),
            Action::Close { token } => Input::Closed(self.cloud.close_one(&token)),
            _ => Input::Created(self.cloud.create()),
        }
    }
}

/// Cuts the file of the newest span in half.
fn truncate_newest(queue: &Path) {
    let spans = std::fs::read_dir(queue).into_iter().flatten().flatten().map(|span| span.path());
    if let Some(file) = spans.max().map(|span| span.join("db")).filter(|file| file.is_file()) {
        let length = std::fs::metadata(&file).unwrap().len();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
    }
}
