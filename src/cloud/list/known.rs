//! What this box knows about passings that the cloud holds: whether it sent them, and from which
//! read.
//!
//! What must hold:
//! * **No false "no".** The cloud is read before the log. A passing counts as not ours only if the log
//!   has every number that was given in its session. Where the log lost its beginning, or a line,
//!   that is unknown.
//! * **Bounded.** For a piece of a list, only the batches with its numbers are read
//!   ([`ours::within`]), and only the reads of these batches ([`super::reads`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::reads::{LoggedRead, Reads};
use crate::cloud::audit::compare::{Ours, is_alike};
use crate::cloud::audit::ours::{self, InLog, Index};
use crate::cloud::rufus::{CloudPassing, FullPassing};
use crate::journal::UploadItem;
use crate::model::clock;

/// Numbers with a larger gap between them are looked up apart.
const GAP: u64 = 2000;

/// Whether a passing is of this box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This box sent it.
    Ours,
    /// This box sent another passing under this number.
    Different,
    /// Another device or program sent it.
    Foreign,
    /// The log does not reach back far enough, or there is none.
    Unknown,
}

impl Whose {
    /// The word for it in JSON and CSV.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ours => "yes",
            Self::Different => "different",
            Self::Foreign => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// What this box knows about a passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoxSide {
    /// Whether it is of this box.
    pub whose: Whose,
    /// The passing that this box sent under its number.
    pub item: Option<UploadItem>,
    /// Decoder of the read, or a location of it.
    pub decoder: Option<Arc<str>>,
    /// Chip code of the read, as the decoder sent it.
    pub chip: Option<Arc<str>>,
    /// When the box received the read, by the clock that it has now.
    pub received: Option<Timestamp>,
}

impl BoxSide {
    /// The box knows nothing.
    pub(crate) fn unknown() -> Self {
        Self::of(Whose::Unknown)
    }

    fn of(whose: Whose) -> Self {
        Self { whose, item: None, decoder: None, chip: None, received: None }
    }
}

/// The log of this box, as far as it is about one device.
pub(crate) struct Known {
    data_dir: PathBuf,
    device: Box<str>,
    index: Index,
    reads: Reads,
}

impl Known {
    /// The whole log.
    pub(crate) fn all(data_dir: &Path, device: &str) -> Self {
        Self::with(data_dir, device, Index::default())
    }

    /// The end of the log, for passings that arrive from now on.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn from_now_on(data_dir: &Path, device: &str) -> io::Result<Self> {
        Ok(Self::with(data_dir, device, Index::of_the_end(data_dir)?))
    }

    fn with(data_dir: &Path, device: &str, index: Index) -> Self {
        Self { data_dir: data_dir.to_owned(), device: device.into(), index, reads: Reads::new(data_dir) }
    }

    /// Says what the box knows about each of these passings. A passing that does not name its session
    /// is of `session`. The log is read up to entry `durable`, which must have been asked for after
    /// the cloud showed them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn look(
        &mut self,
        rows: &[FullPassing],
        session: Option<&str>,
        durable: u64,
    ) -> io::Result<Vec<BoxSide>> {
        if !self.index.advance(&self.data_dir, &self.device, durable)? {
            return Ok(vec![BoxSide::unknown(); rows.len()]);
        }
        let mut wanted: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let key = |row: &'_ FullPassing| row.num_passing;
        for row in rows {
            if let (Some(token), Some(num)) = (row.token_session.as_deref().or(session), key(row)) {
                wanted.entry(token).or_default().insert(num);
            }
        }
        let mut found: HashMap<(&str, u64), Vec<Ours>> = HashMap::new();
        for (token, nums) in &wanted {
            let Some(in_log) = self.session(token) else { continue };
            for ours in self.numbered(in_log, nums, durable)? {
                found.entry((*token, ours.item.num)).or_default().push(ours);
            }
        }
        let meant = rows.iter().map(|row| {
            let at = row.token_session.as_deref().or(session).zip(row.num_passing);
            self.judge(row, at, at.and_then(|at| found.get(&at)).map_or(&[], Vec::as_slice))
        });
        let mut sides: Vec<BoxSide> = meant.collect();
        self.join(&mut sides)?;
        Ok(sides)
    }

    fn session(&self, token: &str) -> Option<&InLog> {
        self.index.sessions.iter().find(|session| *session.token == *token)
    }

    /// Our passings with these numbers.
    fn numbered(&self, session: &InLog, nums: &BTreeSet<u64>, durable: u64) -> io::Result<Vec<Ours>> {
        let mut found = Vec::new();
        let mut left = nums.iter().copied().peekable();
        while let Some(first) = left.next() {
            let mut last = first;
            while let Some(next) = left.next_if(|next| *next - last <= GAP) {
                last = next;
            }
            for ours in ours::within(&self.data_dir, &self.device, session, durable, first..=last)? {
                let ours = ours?;
                if nums.contains(&ours.item.num) {
                    found.push(ours);
                }
            }
        }
        Ok(found)
    }

    fn judge(&self, row: &FullPassing, at: Option<(&str, u64)>, ours: &[Ours]) -> BoxSide {
        let Some((token, num)) = at else { return BoxSide::unknown() };
        let stored = CloudPassing {
            num: row.num_passing,
            time_ms: row.time_ms,
            bib: row.bib.clone(),
            chip: row.chip.clone(),
            session: None,
        };
        let alike = ours.iter().rev().find(|ours| is_alike(&stored, &ours.item));
        if let Some(ours) = alike.or(ours.last()) {
            let whose = if alike.is_some() { Whose::Ours } else { Whose::Different };
            return BoxSide { item: Some(ours.item.clone()), ..BoxSide::of(whose) };
        }
        let complete = match self.session(token) {
            Some(session) => num >= session.older,
            None => !self.index.begins_late,
        };
        BoxSide::of(if complete && self.index.damaged == 0 { Whose::Foreign } else { Whose::Unknown })
    }

    /// Adds what the log says about the reads.
    fn join(&mut self, sides: &mut [BoxSide]) -> io::Result<()> {
        let seqs = sides.iter().filter_map(|side| Some(side.item.as_ref()?.seq.0)).collect();
        let reads = self.reads.find(&seqs)?;
        for side in sides {
            let Some((seq, read)) = side.item.as_ref().and_then(|item| Some((item.seq.0, reads.get(&item.seq.0)?)))
            else {
                continue;
            };
            let LoggedRead { decoder, chip, received } = read;
            (side.decoder, side.chip) = (Some(Arc::clone(decoder)), Some(Arc::clone(chip)));
            side.received = received.map(|received| clock::corrected(&self.index.steps, seq, received));
        }
        Ok(())
    }
}
