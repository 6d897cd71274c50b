//! Listens to one wire, and asks questions where that is safe. Everything that takes time or sends
//! a byte is in this file.
//!
//! What must hold: the probe sends only questions of the registry. It sends nothing at all without
//! `ask`, and nothing to something that is known to be no decoder. It ends at once when the
//! protocol is certain and three reads have arrived.

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

/// Number of reads that are shown. When so many have arrived, the probe ends.
pub(super) const READS: usize = 3;
/// A decoder that understood a question answers within this time.
const ANSWER: Duration = Duration::from_secs(2);
/// Bytes read at a time. Up to this many bytes in all, the probe tries to recognise the protocol
/// whenever some arrive.
const PIECE: usize = 4096;

/// What is at the other end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We connected to this port.
    Port(u16),
    /// The decoder's software connected to us.
    TheyConnected,
    /// A serial line.
    Serial,
}

/// How a wire is listened to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Listen for at least this long.
    pub listen: Duration,
    /// Listen for this long in all, to get reads, if a protocol is likely.
    pub more: Duration,
    /// Whether questions may be asked.
    pub ask: bool,
    /// How long the other side has been silent already.
    pub silent: Duration,
}

/// What the decoder has shown of its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub stamp: Stamp,
    /// When it arrived, by the box's clock.
    pub at: Timestamp,
    /// Whether it is the stamp of a read and not the answer to a question.
    pub of_read: bool,
}

/// How the listening ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The time is over, or the protocol is certain.
    Listened,
    /// The other side closed the connection.
    Closed,
    /// The wire broke.
    Broken(io::Error),
}

/// A question that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub bytes: Vec<u8>,
    /// What the question asks for.
    pub asks: &'static str,
    /// Why the question is safe.
    pub safe: &'static str,
}

/// What arrived on a wire, and what was asked.
#[derive(Debug)]
pub(super) struct Heard {
    /// The bytes that arrived, at most [`LIMIT`].
    pub bytes: Vec<u8>,
    pub asked: Vec<Sent>,
    pub clock: Option<Told>,
    pub ended: Ended,
}

impl Heard {
    /// The best grade among the protocols that the bytes look like.
    pub(super) fn grade(&self) -> Option<Grade> {
        recognise(&self.bytes).first().map(|best| best.grade)
    }
}

struct Session<'a> {
    wire: &'a mut Wire,
    wall: &'a Wall,
    heard: Heard,
    found: Vec<Candidate>,
    /// The number of bytes from which `found` was made.
    judged: usize,
    /// The greetings to which an answer was sent.
    greeted: Vec<&'static Question>,
    greets: bool,
    /// The bytes that arrive now answer a question, so their stamps are old.
    stored: bool,
}

/// Listens to `wire` and asks questions. The future may be dropped at any time, because it owns
/// nothing that matters.
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

    /// Asks questions until one gets an answer that fits a protocol.
    async fn ask(&mut self, role: Role, start: Instant) -> Result<(), Ended> {
        let port = if let Role::Port(port) = role { Some(port) } else { None };
        let perhaps: Vec<&str> = self.found.iter().map(|candidate| candidate.spec.name).collect();
        for (question, early) in choose(port, &perhaps) {
            // On a serial line there is no Ultra, so no silence is needed.
            let wait = if early || role == Role::Serial { start } else { start + QUIET };
            if self.until(wait, Self::is_likely).await? || self.is_stranger() {
                return Ok(());
            }
            // A decoder that reads lines may have taken the question before for the beginning of a
            // line. This ends that line.
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

    /// Asks a known decoder for its clock and its last reads.
    async fn follow(&mut self) -> Result<(), Ended> {
        let [known] = &self.found[..] else { return Ok(()) };
        if known.grade < Grade::Likely || !known.settings.is_empty() {
            // There are two candidates, or a dialect to which no questions are known.
            return Ok(());
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

    /// Listens until `end`, or until `enough` is true. Returns `true` in the second case.
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
            // This is a flood, and the first bytes are enough to recognise it.
            return Ok(());
        }
        self.heard.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // All bytes are examined each time. If there are many already, they are examined only when
        // many more have arrived.
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

    /// Whether the other side sends and is known to be no decoder. The probe then sends nothing to
    /// it.
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
