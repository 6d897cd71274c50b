//! One wire: listened to, and asked where that is safe. Everything that takes time or sends a byte is here.
//!
//! What must hold: nothing is sent but the questions of the registry; nothing at all with `ask` off, nor to somebody who is known
//! to be no decoder. It ends at once when it is sure and three reads are there.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::questions::{QUIET, choose, follow};
use crate::decoders::foreign;
use crate::decoders::question::Question;
use crate::decoders::recognise::{Candidate, Grade, LIMIT, recognise};
use crate::link::port::Wire;
use crate::model::chip::Stamp;
use crate::model::clock::Wall;

/// Reads that are shown, and enough.
pub(super) const READS: usize = 3;
/// A box that understood answers within this.
const ANSWER: Duration = Duration::from_secs(2);
/// Bytes read at a time; up to here they are judged whenever some come.
const PIECE: usize = 4096;

/// What is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We connected to this port.
    Port(u16),
    /// Its software connected to us.
    TheyConnected,
    /// A serial line.
    Serial,
}

/// How a wire is listened to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// So long, at least.
    pub listen: Duration,
    /// And so long once it looks like something, for its reads.
    pub more: Duration,
    /// Questions may be put.
    pub ask: bool,
    /// It was silent for so long already.
    pub silent: Duration,
}

/// The decoder's clock, as far as it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub stamp: Stamp,
    /// When it came, by the box's clock.
    pub at: Timestamp,
    /// It is the stamp of a read, not the answer to a question.
    pub of_read: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The time is over, or it is sure.
    Listened,
    /// The other side closed the connection.
    Closed,
    /// The wire broke.
    Broken(io::Error),
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub bytes: Vec<u8>,
    /// What it asks for.
    pub asks: &'static str,
    /// Why it is safe.
    pub safe: &'static str,
}

/// What was heard on a wire.
#[derive(Debug)]
pub(super) struct Heard {
    /// What came, at most [`LIMIT`] bytes.
    pub bytes: Vec<u8>,
    pub asked: Vec<Sent>,
    pub clock: Option<Told>,
    pub ended: Ended,
}

impl Heard {
    /// The best of what it looks like.
    pub(super) fn grade(&self) -> Option<Grade> {
        recognise(&self.bytes).first().map(|best| best.grade)
    }
}

struct Session<'a> {
    wire: &'a mut Wire,
    wall: &'a Wall,
    heard: Heard,
    found: Vec<Candidate>,
    /// How many bytes `found` is of.
    judged: usize,
    /// The greetings that were answered.
    greeted: Vec<&'static Question>,
    greets: bool,
    /// What comes now is the answer to a question: its stamps are of long ago.
    stored: bool,
}

/// Listens to `wire`, and asks. Cancel safe: nothing is held that matters.
pub(super) async fn listen(wire: &mut Wire, role: Role, plan: Plan, wall: &Wall) -> Heard {
    let heard = Heard { bytes: Vec::new(), asked: Vec::new(), clock: None, ended: Ended::Listened };
    let greets = role == Role::TheyConnected && plan.ask;
    let mut session =
        Session { wire, wall, heard, found: Vec::new(), judged: 0, greeted: Vec::new(), greets, stored: false };
    if let Err(ended) = session.run(role, plan).await {
        session.heard.ended = ended;
    }
    session.heard
}

impl Session<'_> {
    async fn run(&mut self, role: Role, plan: Plan) -> Result<(), Ended> {
        let start = Instant::now();
        if self.until(start + plan.listen, Self::is_enough).await? {
            return Ok(());
        }
        if self.is_likely() && self.until(start + plan.listen.max(plan.more), Self::is_enough).await? {
            return Ok(());
        }
        if !plan.ask || role == Role::TheyConnected {
            return Ok(());
        }
        if !self.is_likely() {
            self.ask(role, start.checked_sub(plan.silent).unwrap_or(start)).await?;
        }
        self.follow().await
    }

    /// Puts questions until one is answered in a way that is known.
    async fn ask(&mut self, role: Role, start: Instant) -> Result<(), Ended> {
        let port = if let Role::Port(port) = role { Some(port) } else { None };
        let perhaps: Vec<&str> = self.found.iter().map(|candidate| candidate.spec.name).collect();
        for (question, early) in choose(port, &perhaps) {
            // On a serial line there is no Ultra.
            let wait = if early || role == Role::Serial { start } else { start + QUIET };
            if self.until(wait, Self::is_likely).await? || self.is_stranger() {
                return Ok(());
            }
            // What a decoder of lines took for the beginning of one ends here.
            if self.heard.asked.last().is_some_and(|sent| !sent.bytes.ends_with(b"\n")) {
                self.wire.write_all(b"\r\n").await.map_err(Ended::Broken)?;
            }
            self.send(question.bytes, question.asks, question.safe).await?;
            if self.until(Instant::now() + ANSWER, Self::is_likely).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks one that is known for its clock and its last reads.
    async fn follow(&mut self) -> Result<(), Ended> {
        let [known] = &self.found[..] else { return Ok(()) };
        if known.grade < Grade::Likely || !known.settings.is_empty() {
            return Ok(()); // two that it may be, or a dialect that asks nothing
        }
        let protocol = known.spec.name;
        for step in 0.. {
            let Some((next, bytes, reads)) = follow(protocol, step, &self.heard.bytes) else { return Ok(()) };
            if self.heard.asked.iter().any(|sent| sent.bytes == bytes) {
                continue;
            }
            self.stored |= reads > 0;
            let before = self.answers();
            self.send(&bytes, next.asks, next.safe).await?;
            let answered = move |session: &Self| session.answers() >= before + reads.max(1);
            self.until(Instant::now() + ANSWER, answered).await?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8], asks: &'static str, safe: &'static str) -> Result<(), Ended> {
        self.heard.asked.push(Sent { bytes: bytes.to_vec(), asks, safe });
        self.wire.write_all(bytes).await.map_err(Ended::Broken)?;
        self.wire.flush().await.map_err(Ended::Broken)
    }

    /// Listens until then, or until it is `enough`: `true`.
    async fn until(&mut self, end: Instant, enough: impl Fn(&Self) -> bool) -> Result<bool, Ended> {
        let mut piece = [0; PIECE];
        loop {
            if enough(self) {
                return Ok(true);
            }
            let Ok(read) = timeout_at(end, self.wire.read(&mut piece)).await else {
                self.judge().await?;
                return Ok(enough(self));
            };
            match read {
                Ok(0) => {
                    self.judge().await?;
                    return Err(Ended::Closed);
                }
                Ok(length) => self.take(&piece[..length]).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Broken(error)),
            }
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let room = LIMIT - self.heard.bytes.len();
        if room == 0 {
            return Ok(()); // a flood; what came first is enough to judge it
        }
        self.heard.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // The whole is judged each time: of much, only when much has come.
        let length = self.heard.bytes.len();
        if length >= PIECE && length < self.judged + self.judged / 8 {
            return Ok(());
        }
        self.judge().await
    }

    async fn judge(&mut self) -> Result<(), Ended> {
        if self.judged == self.heard.bytes.len() {
            return Ok(());
        }
        self.judged = self.heard.bytes.len();
        let before = self.found.first().map_or(0, |best| best.reads.len());
        self.found = recognise(&self.heard.bytes);
        self.note_clock(before);
        let Some(best) = self.found.first().filter(|best| self.greets && best.grade >= Grade::Likely) else {
            return Ok(());
        };
        if let Some(greeting) = best.spec.greeting.filter(|greeting| !self.greeted.contains(greeting)) {
            self.greeted.push(greeting);
            self.send(greeting.bytes, greeting.asks, greeting.safe).await?;
        }
        Ok(())
    }

    fn note_clock(&mut self, reads_before: usize) {
        let Some(best) = self.found.first() else { return };
        let at = self.wall.now();
        let known = |stamp| self.heard.clock.is_some_and(|told| !told.of_read && told.stamp == stamp);
        if let Some(stamp) = best.clock {
            if !known(stamp) {
                self.heard.clock = Some(Told { stamp, at, of_read: false });
            }
        } else if best.reads.len() > reads_before && !self.stored {
            let live = best.reads.last().filter(|read| !read.replay);
            self.heard.clock = live.map(|read| Told { stamp: read.stamp, at, of_read: true }).or(self.heard.clock);
        }
    }

    /// It speaks, and is known to be no decoder: it is left alone.
    fn is_stranger(&self) -> bool {
        self.found.is_empty() && foreign::name(&self.heard.bytes, false).is_some()
    }

    fn is_likely(&self) -> bool {
        self.found.first().is_some_and(|best| best.grade >= Grade::Likely)
    }

    fn is_enough(&self) -> bool {
        self.found.first().is_some_and(|best| best.grade == Grade::Certain && best.reads.len() >= READS)
    }

    fn answers(&self) -> usize {
        self.found.first().map_or(0, |best| best.tally.signs + best.tally.hints + best.tally.reads)
    }
}
