//! The newest reads and what became of each, followed as the log grows, for the page.
//!
//! Must hold:
//! * It reads along with a cursor of its own, so it slows no append.
//! * It is bounded: the reads that are shown, and what the uploads say about them.
//! * A read is "in the cloud" only if the cloud has said so.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use jiff::Timestamp;

use super::Reading;
use super::standing::{Standings, UploadMark};
use crate::cloud::passing::chip_code;
use crate::journal::Journal;
use crate::journal::control::Holds;
use crate::journal::entry::{Body, Entry};
use crate::journal::reader::{News, Reader};
use crate::model::chip::{ChipRead, Seq};
use crate::model::clock::{self, Step};
use crate::model::correction::Corrections;

/// How many entries before the head a begin looks back.
const BACK: u64 = 4096;
/// How many reads are followed.
const FOLLOWED: usize = 20;
/// After this many entries at once that nobody asked for, it begins again at the head.
const BEHIND: u64 = 50_000;
/// Most steps of the clock that are remembered.
const STEPS: usize = 32;

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewestFate {
    /// The cloud has it, under this number of its session.
    Sent(u64),
    /// It waits, or is on its way.
    Waiting,
    /// It may belong to another race, so it waits until somebody releases it.
    HeldBack,
    /// It was kept while the box is on hold, and waits for its release.
    Held,
    /// It was kept while the box was on hold, and somebody decided not to send it.
    Dropped,
    /// It is set aside, because the cloud refused it or failed at it.
    SetAside,
    /// It is no passing of its own: it repeats another read, or is within the dead time.
    NoPassing,
}

/// A read as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewestRead {
    /// Its entry in the journal.
    pub seq: u64,
    /// The decoder, or `DECODER/LOCATION`.
    pub decoder: String,
    /// The chip code as it goes to the cloud.
    pub chip: String,
    /// When the chip was read: the time of the passing in UTC, with its corrections.
    pub time: Timestamp,
    /// When the box received it, by the clock of the box.
    pub received: Timestamp,
    /// The number of hits, if the decoder tells it.
    pub hits: Option<u32>,
    /// The signal strength, if the decoder tells it.
    pub rssi: Option<i32>,
    /// What became of it.
    pub fate: NewestFate,
}

/// A cursor behind the newest reads.
pub(crate) struct NewestReads {
    journal: Journal,
    reading: Reading,
    reader: Reader,
    standings: Standings,
    reads: VecDeque<Entry>,
    steps: Vec<(u64, Step)>,
    corrections: Corrections,
    holds: Holds,
}

impl NewestReads {
    /// Begins some thousand entries before the head of the journal.
    pub(crate) fn begin(journal: Journal, reading: Reading) -> Self {
        let from = journal.durable().0.saturating_sub(BACK);
        // The line of a long hold is further back than that.
        let holds = Holds::since(journal.hold_seq().filter(|seq| seq.0 < from));
        let reader = journal.reader(Seq(from));
        let standings = Standings::of(from..=u64::MAX).with_passings();
        let (steps, corrections) = (Vec::new(), Corrections::default());
        Self { journal, reading, reader, standings, reads: VecDeque::new(), steps, corrections, holds }
    }

    /// The newest reads, the newest first. It may read files, so it is for a thread that may wait.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn look(&mut self) -> io::Result<Vec<NewestRead>> {
        if self.journal.durable().0.saturating_sub(self.reader.at().0) > BEHIND {
            *self = Self::begin(self.journal.clone(), self.reading.clone());
        }
        while let Some(news) = self.reader.read()? {
            if let News::Entries(entries) = news {
                entries.iter().for_each(|entry| self.take(entry));
            }
        }
        let oldest = self.reads.front().map_or(u64::MAX, |entry| entry.seq);
        let none: BTreeSet<u64> = self.journal.no_passings(Seq(oldest)).into_iter().map(|seq| seq.0).collect();
        let accepted = self.journal.accepted_soon();
        Ok(self.reads.iter().rev().take(FOLLOWED).filter_map(|entry| self.shown(entry, &none, &accepted)).collect())
    }

    fn take(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Read(ChipRead { let_go: Some(let_go), .. }) => self.standings.lets_go(entry.seq, let_go.1.0),
            Body::Read(_) => {
                self.reads.push_back(entry.clone());
                if self.reads.len() > 4 * FOLLOWED {
                    self.reads.drain(..self.reads.len() - FOLLOWED);
                    self.standings.forget_before(self.reads[0].seq);
                }
            }
            Body::Upload(event) => self.standings.apply(event),
            Body::Clock(step) => {
                if self.steps.len() == STEPS {
                    self.steps.remove(0);
                }
                self.steps.push((entry.seq, *step));
            }
            Body::Correct(correction) => self.corrections.add(&entry.subject, correction),
            Body::Control(control) => self.holds.follow(entry.seq, control),
            Body::Marker(_) | Body::Rejected(_) | Body::Cleared(_) | Body::Settled(_) | Body::Note(_) => {}
        }
    }

    fn shown(&self, entry: &Entry, none: &BTreeSet<u64>, accepted: &[(Box<str>, u64, u64)]) -> Option<NewestRead> {
        let Body::Read(read) = &entry.body else { return None };
        Some(NewestRead {
            seq: entry.seq,
            decoder: entry.subject.to_string(),
            chip: chip_code(&read.chip, self.reading.tag).into_owned(),
            time: self.time(entry, read),
            received: entry.time,
            hits: read.hits,
            rssi: read.rssi,
            fate: self.fate(entry.seq, read, none, accepted),
        })
    }

    /// The time as it was uploaded or would be uploaded now.
    fn time(&self, entry: &Entry, read: &ChipRead) -> Timestamp {
        let uploaded = self.standings.get(entry.seq).filter(|standing| standing.mark != UploadMark::Suppressed);
        let uploaded = uploaded.map(|standing| standing.time_ms.saturating_sub(standing.corrected_ms));
        let stamped = uploaded.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_else(|| {
            let kept = self.corrections.zone(&entry.subject, entry.seq).and_then(clock::zone);
            let zone = kept.as_ref().unwrap_or_else(|| self.reading.zones.of(&entry.subject));
            clock::resolve_read(read, zone, clock::corrected(&self.steps, entry.seq, entry.time)).utc
        });
        let shift = self.corrections.shift_ms(&entry.subject, entry.seq);
        Timestamp::from_millisecond(stamped.as_millisecond().saturating_add(shift)).unwrap_or(stamped)
    }

    fn fate(&self, seq: u64, read: &ChipRead, none: &BTreeSet<u64>, accepted: &[(Box<str>, u64, u64)]) -> NewestFate {
        let standing = self.standings.get(seq);
        let (mark, num) = standing.map_or((UploadMark::Pending, 0), |standing| (standing.mark, standing.num));
        match mark {
            _ if self.standings.is_dropped(seq) => NewestFate::Dropped,
            UploadMark::Sent => NewestFate::Sent(num),
            UploadMark::SetAside => NewestFate::SetAside,
            UploadMark::HeldBack => NewestFate::HeldBack,
            UploadMark::Held => NewestFate::Held,
            UploadMark::Suppressed => NewestFate::NoPassing,
            UploadMark::Pending if none.contains(&seq) => NewestFate::NoPassing,
            UploadMark::Pending if read.held_back && !self.standings.is_let_go(seq) => NewestFate::HeldBack,
            // A read that was held back is no part of a hold, also after it was released.
            UploadMark::Pending if standing.is_some() || self.standings.is_let_go(seq) => {
                self.on_its_way(seq, num, standing.is_some(), accepted)
            }
            UploadMark::Pending if self.holds.is_dropped(seq) => NewestFate::Dropped,
            UploadMark::Pending if self.holds.is_held(seq) => NewestFate::Held,
            UploadMark::Pending => NewestFate::Waiting,
        }
    }

    /// A read that waits or is on its way. The cloud may have accepted it although the line that says so is
    /// not in the log yet.
    fn on_its_way(&self, seq: u64, num: u64, numbered: bool, accepted: &[(Box<str>, u64, u64)]) -> NewestFate {
        let is_in = |(device, first, last): &(Box<str>, u64, u64)| {
            self.standings
                .passing(seq)
                .is_some_and(|(of, item)| *of == **device && item.num == num && (*first..=*last).contains(&num))
        };
        match numbered && accepted.iter().any(is_in) {
            true => NewestFate::Sent(num),
            false => NewestFate::Waiting,
        }
    }
}
