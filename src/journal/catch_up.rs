//! Bringing the dedup index up to the state, and writing it to the disk.

use super::dedup_index::{DedupIndex, Trust, remove_all};
use super::entries::Entries;
use super::queue::Broken;
use super::shared::Shared;
use super::state::State;
use crate::status::ProblemCode;

/// Writes the due parts of the index to the disk while it follows the writer, without delaying a
/// look-up.
pub(super) fn save(shared: &Shared, followed: u64, segment: u64) {
    loop {
        let (job, complaint) = {
            let mut known = shared.known();
            (known.job(followed, segment), known.complaint.take())
        };
        if let Some(complaint) = complaint {
            shared.board.raise(ProblemCode::KnownReads, "", complaint);
        }
        let Some(job) = job else { return };
        let written = job.write();
        let useless = shared.known().written(&job, written, &shared.board);
        let Some(useless) = useless else { return };
        remove_all(&useless);
    }
}

/// The dedup index, up to the state: the trusted runs on the disk, and the rest from the log.
/// `None`: the journal closes.
pub(super) fn catch_up(shared: &Shared, state: &State) -> Result<Option<DedupIndex>, Broken> {
    let config = &shared.config;
    let trust = Trust { followed: state.followed, oldest: shared.lock().mark.oldest };
    let mut known = DedupIndex::open(&config.dir, &state.identity, trust, config.keep_bytes);
    known.zones = config.zones.clone();
    let (through, place) = known.place();
    if through >= state.followed {
        return Ok(Some(known));
    }
    let dir = shared.log_dir();
    let there = if through > 0 { Entries::at(&dir, place, state.followed)? } else { None };
    let entries = if there.is_some() { there } else { Entries::after(&dir, through, state.followed)? };
    let Some(mut entries) = entries else { return Ok(Some(known)) };
    while let Some(entry) = entries.entry()? {
        shared.follower.beat();
        if entry.seq <= through {
            continue;
        }
        known.take(&entry);
        known.passed(entries.place());
        known.save(&shared.board);
        if shared.lock().closing {
            return Ok(None);
        }
    }
    Ok(Some(known))
}
