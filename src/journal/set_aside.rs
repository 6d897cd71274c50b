//! Passings that are set aside: a list with the cloud's answers, and what a person decides about each
//! one.
//!
//! What must hold:
//! * **Unknown is not failed.** A passing that goes up again gets a new number. So it must be known not
//!   to be in the cloud: the cloud refused it and showed that it does not have it, or failed at it and
//!   showed the same. A passing about which nobody could ask is not released.
//! * **Nobody sends a dropped one.** Whether a passing at which the cloud fails is still tried again
//!   follows from the log ([`Journal::still_failing`]), and the uplink asks before each try.
//! * An id is the number of the read's entry, so it stays the same.
//!
//! The answers of the cloud are only in the log. It is read from the oldest passing on that is set
//! aside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::OwnedMutexGuard;

use super::entries::Entries;
use super::entry::Body;
use super::log::{LogLine, LogPlace};
use super::paths::log_dir;
use super::terms::JournalError;
use super::upload::{UploadEvent, UploadItem};
use super::{Durable, Journal};

/// Most passings in a list, the oldest ones.
pub(crate) const LIST_MAX: usize = 10_000;

/// A passing that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// The entry of its read.
    pub id: u64,
    /// Device.
    pub device: Box<str>,
    /// Session in which it had a number: its token.
    #[serde(skip)]
    pub session: Box<str>,
    /// The last six characters of that token.
    pub token_tail: String,
    /// Its number there.
    pub num_passing: u64,
    /// Chip code.
    pub chip: Box<str>,
    /// Bib, or what stands for it.
    pub bib: Box<str>,
    /// The time with which it was sent.
    pub time: Timestamp,
    /// The decoder or source of the read. `None`: the read is not in the log any more.
    pub decoder: Option<Box<str>>,
    /// HTTP status of the last answer.
    pub status: u16,
    /// The last answer of the cloud.
    pub why: Box<str>,
    /// When it was set aside.
    pub since: Timestamp,
    /// The cloud does not refuse it but fails at it, so it is tried again every hour.
    pub tried_again: bool,
    /// Nobody could ask whether the cloud has it.
    pub unknown: bool,
    /// The passing as it was sent.
    #[serde(skip)]
    item: UploadItem,
}

/// What was released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Passings that get a new number with the next batch of their device.
    pub released: u64,
    /// Passings at which the cloud failed. The uplink of their device tries them again when it is
    /// told.
    pub failing: Vec<u64>,
}

/// Why nothing was done about passings that are set aside.
#[derive(Debug, thiserror::Error)]
pub enum SetAsideError {
    /// The journal is closed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
    /// Some of them are not set aside.
    #[error("no passing {0} is set aside (any more): `passbridge set-aside list` shows which are")]
    NoSuch(u64),
    /// The cloud may have it.
    #[error(
        "nobody knows whether the cloud has passing {0}: its session closed before the cloud could be asked. Look into the \
         session. If it is missing there, enter it by hand; then drop it here"
    )]
    Unknown(u64),
}

/// Passings that were numbered and not settled, by their numbers, with their sessions.
type OpenPassings = BTreeMap<u64, (Box<str>, UploadItem)>;

/// Reads what the log says about passings that are set aside.
#[derive(Default)]
struct AsideReading {
    /// What is open, by device.
    open: HashMap<Box<str>, OpenPassings>,
    aside: BTreeMap<u64, SetAside>,
}

impl AsideReading {
    fn event(&mut self, time: Timestamp, event: UploadEvent) {
        match event {
            UploadEvent::Batch(batch) => {
                let open = self.open.entry(batch.device.clone()).or_default();
                open.retain(|num, _| batch.still_open.contains(num));
                for item in batch.items {
                    self.aside.remove(&item.seq.0);
                    open.insert(item.num, (batch.session.clone(), item));
                }
            }
            UploadEvent::DeadLetter { device, num, status, answer, again } => {
                let known = self.open.get_mut(&device).and_then(|open| open.remove(&num));
                let Some((session, item)) = known else { return };
                if self.aside.len() < LIST_MAX {
                    self.aside.insert(item.seq.0, set_aside(time, device, session, item, (status, answer, again)));
                }
            }
            UploadEvent::Retry { items, .. } => items.iter().for_each(|item| drop(self.aside.remove(&item.seq.0))),
            UploadEvent::Dropped { items, failing, .. } => {
                items.iter().chain(&failing).for_each(|seq| drop(self.aside.remove(&seq.0)));
            }
            UploadEvent::Accepted { .. }
            | UploadEvent::Released { .. }
            | UploadEvent::Joined { .. }
            | UploadEvent::Audited(_)
            | UploadEvent::Moved { .. }
            | UploadEvent::SendAgain { .. }
            | UploadEvent::Again { .. } => {}
        }
    }
}

fn set_aside(
    since: Timestamp,
    device: Box<str>,
    session: Box<str>,
    item: UploadItem,
    (status, why, tried_again): (u16, Box<str>, bool),
) -> SetAside {
    // The words with which this box itself sets a passing aside that it could not ask about.
    let unknown = !tried_again && why.starts_with("passbridge: ");
    SetAside {
        id: item.seq.0,
        device,
        token_tail: crate::model::text::tail(&session),
        session,
        num_passing: item.num,
        chip: item.chip.clone(),
        bib: item.bib.clone(),
        time: Timestamp::from_millisecond(item.time_ms).unwrap_or_default(),
        decoder: None,
        status,
        why,
        since,
        tried_again,
        unknown,
        item,
    }
}

impl Journal {
    /// The passings that are set aside, the oldest first, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn set_aside(&self) -> Result<Vec<SetAside>, SetAsideError> {
        self.serving().await;
        let (from, through) = {
            let core = self.shared.lock();
            let first = core.state.devices.values().filter_map(|fold| fold.dead_letters.keys().next()).min().copied();
            match first {
                None => return Ok(Vec::new()),
                Some(first) => (first, core.durable),
            }
        };
        let journal = self.clone();
        let read = tokio::task::spawn_blocking(move || journal.read_set_aside(from, through)).await;
        Ok(read.map_err(|_| JournalError::Closed)??)
    }

    fn read_set_aside(&self, from: u64, through: u64) -> io::Result<Vec<SetAside>> {
        let mut reading = AsideReading::default();
        let entries = Entries::after(&log_dir(self.dir()), from.saturating_sub(1), through)?;
        let Some(mut entries) = entries else { return Ok(Vec::new()) };
        let end = LogPlace { segment: u64::MAX, offset: 0 };
        while let Some(line) = entries.line_before(end, |_, kind, _| kind == "upload")? {
            if let LogLine::Entry(entry) = line
                && let Body::Upload(event) = entry.body
            {
                reading.event(entry.time, event);
            }
        }
        let seqs: BTreeSet<u64> = reading.aside.keys().copied().collect();
        let sources = self.sources_of(&seqs)?;
        let mut all: Vec<SetAside> = reading.aside.into_values().collect();
        for one in &mut all {
            one.decoder = sources.get(&one.id).cloned();
        }
        Ok(all)
    }

    /// Those of these passings at which the cloud failed that are still to be tried again.
    pub(crate) fn still_failing(&self, device: &str, mut items: Vec<UploadItem>) -> Vec<UploadItem> {
        let core = self.shared.lock();
        let failing = core.state.devices.get(device).map(|fold| &fold.failing[..]).unwrap_or_default();
        let open = |item: &UploadItem| failing.iter().any(|known| known.seq == item.seq);
        let waits = |item: &UploadItem| {
            let fold = core.state.devices.get(device);
            fold.is_some_and(|fold| fold.waiting_again().any(|known| known.seq == item.seq))
        };
        items.retain(|item| open(item) || waits(item));
        items
    }

    /// Waits until no decision about passings that are set aside is being made durable. None is while the
    /// guard lives.
    pub(crate) async fn numbering(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turns.numbering).lock_owned().await
    }

    /// Whether the cloud failed at this passing and nothing is being done with it.
    fn is_failing(&self, one: &SetAside) -> bool {
        let core = self.shared.lock();
        let failing = core.state.devices.get(&one.device).map(|fold| &fold.failing[..]).unwrap_or_default();
        failing.iter().any(|known| known.seq == one.item.seq)
    }

    /// Lets passings that are set aside go up again, with new numbers. `by` is who asks. Returns when
    /// that would survive a power cut.
    ///
    /// # Errors
    /// [`SetAsideError`]: none of them is released then.
    pub async fn retry_set_aside(&self, ids: &[u64], by: &str) -> Result<Retried, SetAsideError> {
        let _one = self.turns.deciding.lock().await;
        let chosen = self.chosen(ids).await?;
        if let Some(doubtful) = chosen.iter().find(|one| one.unknown) {
            return Err(SetAsideError::Unknown(doubtful.id));
        }
        let (failing, refused): (Vec<SetAside>, Vec<SetAside>) = chosen.into_iter().partition(|one| one.tried_again);
        let released = refused.len() as u64;
        for (device, all) in by_device(refused) {
            let items = all.into_iter().map(|one| one.item).collect();
            self.record(UploadEvent::Retry { device, items, by: by.into() }).await?;
        }
        Ok(Retried { released, failing: failing.iter().map(|one| one.id).collect() })
    }

    /// Never sends these passings. They stay in the log. Returns how many they are, when that would
    /// survive a power cut.
    ///
    /// # Errors
    /// [`SetAsideError`]: none of them is dropped then.
    pub async fn drop_set_aside(&self, ids: &[u64], by: &str) -> Result<Durable<u64>, SetAsideError> {
        let _one = self.turns.deciding.lock().await;
        let chosen = self.chosen(ids).await?;
        // No batch with one of them is formed until the decision is durable.
        let _one = self.turns.numbering.lock().await;
        if let Some(gone) = chosen.iter().find(|one| one.tried_again && !self.is_failing(one)) {
            return Err(SetAsideError::NoSuch(gone.id)); // it is on its way again
        }
        let count = chosen.len() as u64;
        for (device, all) in by_device(chosen) {
            let (failing, items): (Vec<SetAside>, Vec<SetAside>) = all.into_iter().partition(|one| one.tried_again);
            let seqs = |all: Vec<SetAside>| all.into_iter().map(|one| one.item.seq).collect();
            let (items, failing) = (seqs(items), seqs(failing));
            self.record(UploadEvent::Dropped { device, items, failing, by: by.into() }).await?;
        }
        Ok(Durable(count))
    }

    /// The passings with these ids.
    async fn chosen(&self, ids: &[u64]) -> Result<Vec<SetAside>, SetAsideError> {
        let all = self.set_aside().await?;
        let mut chosen = Vec::new();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let one = all.iter().find(|one| one.id == *id).ok_or(SetAsideError::NoSuch(*id))?;
            chosen.push(one.clone());
        }
        Ok(chosen)
    }
}

fn by_device(all: Vec<SetAside>) -> BTreeMap<Box<str>, Vec<SetAside>> {
    let mut devices: BTreeMap<Box<str>, Vec<SetAside>> = BTreeMap::new();
    for one in all {
        devices.entry(one.device.clone()).or_default().push(one);
    }
    devices
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::decoders::{Frame, Framed};
    use crate::journal::{Batch, JournalConfig};
    use crate::model::chip::{ChipRead, Seq};
    use crate::status::Board;

    async fn open(dir: &Path) -> Journal {
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
        let zones = Default::default();
        let config = JournalConfig { dir: dir.into(), dead_time, zones, keep_days, keep_bytes, segment_bytes };
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        journal
    }

    /// Three passings that are set aside: refused, failed at, and of unknown fate.
    async fn three(journal: &Journal) -> Vec<u64> {
        let mut items = Vec::new();
        for num in 1..=3u64 {
            let stamp = format!("2026-03-06T20:00:0{num}.000").parse().unwrap();
            let read = ChipRead::new(format!("C{num}"), stamp);
            let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
            let seq = journal.append("mat", Timestamp::UNIX_EPOCH, frames).await.unwrap().get().last;
            let (bib, chip) = (num.to_string().into(), format!("C{num}").into());
            items.push(UploadItem { seq, num, time_ms: 1000 * num as i64, corrected_ms: 0, bib, chip });
        }
        let ids: Vec<u64> = items.iter().map(|item| item.seq.0).collect();
        let (through, decoders) = (Seq(ids[2]), vec!["mat".into()]);
        journal
            .record(UploadEvent::Batch(Batch { through, decoders, ..Batch::resend("D", "SESSION-1", items) }))
            .await
            .unwrap();
        let unknown = "passbridge: the session closed before the cloud confirmed this passing";
        for (num, status, answer, again) in [
            (1, 400, "bib is wrong", false),
            (2, 500, "passbridge: the cloud fails at it", true),
            (3, 403, unknown, false),
        ] {
            let (device, answer) = ("D".into(), answer.into());
            journal.record(UploadEvent::DeadLetter { device, num, status, answer, again }).await.unwrap();
        }
        ids
    }

    fn waiting(journal: &Journal) -> Vec<u64> {
        journal.pending("D", &["mat".into()], 100).returned.iter().map(|item| item.seq.0).collect()
    }

    #[tokio::test]
    async fn each_one_is_listed_with_the_answer_and_what_is_known_not_to_be_in_the_cloud_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path()).await;
        let ids = three(&journal).await;
        let all = journal.set_aside().await.unwrap();
        let told: Vec<_> = all.iter().map(|one| (one.id, one.status, one.tried_again, one.unknown)).collect();
        assert_eq!(told, [(ids[0], 400, false, false), (ids[1], 500, true, false), (ids[2], 403, false, true)]);
        assert_eq!((&*all[0].why, &*all[0].chip, all[0].num_passing), ("bib is wrong", "C1", 1));
        assert_eq!((all[0].decoder.as_deref(), &*all[0].token_tail), (Some("mat"), "SION-1"));
        let refused = async |ids: &[u64]| journal.retry_set_aside(ids, "timer").await.unwrap_err();
        assert!(matches!(refused(&[ids[0], 99]).await, SetAsideError::NoSuch(99)));
        assert!(matches!(refused(&ids).await, SetAsideError::Unknown(id) if id == ids[2]));
        assert_eq!((waiting(&journal), journal.dead_letters()), (vec![], 3), "nothing was done");
        let done = journal.retry_set_aside(&ids[..2], "timer").await.unwrap();
        assert_eq!(done, Retried { released: 1, failing: vec![ids[1]] });
        assert_eq!((waiting(&journal), journal.dead_letters()), (vec![ids[0]], 2));
        assert!(matches!(refused(&[ids[0]]).await, SetAsideError::NoSuch(_)), "once");
        journal.close().await;
        drop(journal);
        let journal = open(dir.path()).await;
        assert_eq!((waiting(&journal), journal.set_aside().await.unwrap().len()), (vec![ids[0]], 2));
        let reads = journal.reads().unwrap();
        assert_eq!((reads.kept, reads.sum(), reads.waiting, reads.set_aside), (3, 3, 1, 2));
        journal.close().await;
    }

    #[tokio::test]
    async fn what_is_dropped_is_never_tried_again_and_the_reads_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path()).await;
        let ids = three(&journal).await;
        let failing = journal.device("D").failing;
        assert_eq!(journal.still_failing("D", failing.clone()), failing);
        assert_eq!(journal.drop_set_aside(&ids[1..], "timer").await.unwrap().get(), 2);
        assert_eq!(journal.still_failing("D", failing), []);
        journal.close().await;
        drop(journal);
        std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
        let journal = open(dir.path()).await;
        assert_eq!((journal.failing(), waiting(&journal)), (0, vec![]));
        let left: Vec<u64> = journal.set_aside().await.unwrap().iter().map(|one| one.id).collect();
        let reads = journal.reads().unwrap();
        assert_eq!((left, reads.set_aside, reads.dropped_by_choice), (vec![ids[0]], 1, 2));
        assert_eq!((reads.kept, reads.sum()), (3, 3));
        journal.drop_set_aside(&ids[..1], "timer").await.unwrap();
        assert_eq!(journal.shared.lock().state.needed_from(), None);
        assert!(!journal.shared.lock().state.has_set_aside(1, 100), "nothing keeps the segment any more");
        journal.close().await;
    }
}
