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
        for row in rows {
            if let (Some(token), Some(num)) = (row.token_session.as_deref().or(session), row.num_passing) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Body, Entry, write_line};
    use crate::journal::log::{Log, segments};
    use crate::journal::{Batch, UploadEvent, log_dir};
    use crate::model::chip::{ChipRead, Seq, Stamp};
    use crate::model::clock::Step;

    struct Written {
        dir: tempfile::TempDir,
        log: Log,
    }

    impl Written {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let log = Log::open(&log_dir(dir.path()), "test", None).unwrap().0;
            Self { dir, log }
        }

        fn write(&mut self, subject: &str, body: Body) -> u64 {
            let (seq, time) = (self.log.next, Timestamp::from_second(1000).unwrap());
            let entry = Entry { seq, in_group: 0, subject: subject.into(), time, body, raw: Box::default() };
            let mut line = Vec::new();
            write_line(&mut line, &entry);
            self.log.append(&line, 1).unwrap();
            seq
        }

        /// A read, its passing with this number in session A, and the answer of the cloud.
        fn sent(&mut self, num: u64) {
            let stamp: Stamp = "2026-06-17T10:00:00".parse().map(Stamp::Local).unwrap();
            let seq = self.write("mat", Body::Read(ChipRead::new(format!("0xC{num}"), stamp)));
            let (bib, chip) = ("7".into(), format!("C{num}").into());
            let item = UploadItem { seq: Seq(seq), num, time_ms: num as i64, corrected_ms: 0, bib, chip };
            let batch = Batch { decoders: vec!["mat".into()], ..Batch::resend("D", "A", vec![item]) };
            self.write("D", Body::Upload(UploadEvent::Batch(batch)));
            let accepted = UploadEvent::Accepted { device: "D".into(), first: num, last: num, duplicates: 0 };
            self.write("D", Body::Upload(accepted));
        }

        fn look(&self, mut known: Known, rows: &[FullPassing]) -> Vec<(Whose, Option<String>)> {
            let sides = known.look(rows, Some("A"), u64::MAX).unwrap();
            sides.into_iter().map(|side| (side.whose, side.chip.map(|chip| chip.to_string()))).collect()
        }
    }

    fn row(num: u64) -> FullPassing {
        let (bib, chip) = (Some("7".into()), Some(format!("C{num}").into()));
        FullPassing { num_passing: Some(num), time_ms: Some(num as i64), bib, chip, ..Default::default() }
    }

    use Whose::{Different, Foreign, Ours, Unknown};

    #[test]
    fn a_passing_is_foreign_only_if_the_log_has_every_number_of_its_session() {
        let mut log = Written::new();
        log.sent(1);
        log.sent(2);
        log.log.rotate(Some(r#"{"devices":{"D":{"sessions":[["A","Race",3]]}}}"#)).unwrap();
        log.sent(3);
        let other = FullPassing { token_session: Some("B".into()), ..row(1) };
        let no_number = FullPassing { num_passing: None, ..row(1) };
        let rows = [row(1), row(3), FullPassing { time_ms: Some(7777), ..row(2) }, row(4), other, no_number];
        let chip = |chip: &str| Some(chip.to_owned());
        let whole = [
            (Ours, chip("0xC1")),
            (Ours, chip("0xC3")),
            (Different, chip("0xC2")),
            (Foreign, None),
            (Foreign, None),
            (Unknown, None),
        ];
        let all = || Known::all(log.dir.path(), "D");
        assert_eq!(log.look(all(), &rows), whole);
        assert_eq!(log.look(Known::from_now_on(log.dir.path(), "D").unwrap(), &rows), whole);
        let first = &segments(&log_dir(log.dir.path())).unwrap()[0];
        std::fs::remove_file(&first.path).unwrap();
        let end =
            [(Unknown, None), (Ours, chip("0xC3")), (Unknown, None), (Foreign, None), (Unknown, None), (Unknown, None)];
        assert_eq!(log.look(all(), &rows), end);
        let nowhere = Known::all(&log.dir.path().join("nowhere"), "D");
        assert!(log.look(nowhere, &rows).iter().all(|(whose, _)| *whose == Unknown));
    }

    #[test]
    fn what_is_sent_between_two_looks_is_ours_and_a_step_of_the_clock_moves_the_receipt() {
        let mut log = Written::new();
        log.sent(1);
        let mut known = Known::all(log.dir.path(), "D");
        let rows = [row(1), row(2)];
        let whose = |sides: Vec<BoxSide>| sides.iter().map(|side| side.whose).collect::<Vec<_>>();
        assert_eq!(whose(known.look(&rows, Some("A"), u64::MAX).unwrap()), [Ours, Foreign]);
        log.sent(2);
        let step = Step { from: 1, sure: log.log.next - 1, before_ms: 1_000_000, step_ms: 5000 };
        log.write("box", Body::Clock(step));
        let sides = known.look(&rows, Some("A"), u64::MAX).unwrap();
        assert_eq!(sides[1].received, Some(Timestamp::from_second(1005).unwrap()));
        assert_eq!(whose(sides), [Ours, Ours]);
    }
}
