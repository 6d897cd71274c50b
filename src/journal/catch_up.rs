//! Bringing the dedup index up to the state, and writing it to the disk.

use super::dedup_index::{DedupIndex, Trust, remove_all};
use super::log::{LogLine, LogReader};
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
    let there = if through > 0 { LogReader::open(&dir, Some(place))? } else { None };
    let reader = if there.is_some() { there } else { LogReader::open_after(&dir, through)? };
    let Some(mut reader) = reader else { return Ok(Some(known)) };
    while let Some(line) = reader.read()? {
        match line {
            LogLine::Entry(entry) if entry.seq > state.followed => break,
            LogLine::Entry(entry) if entry.seq <= through => {}
            LogLine::Entry(entry) => {
                known.take(&entry);
                known.passed(reader.place());
                known.save(&shared.board);
                if shared.lock().closing {
                    return Ok(None);
                }
            }
            LogLine::State(_) | LogLine::Bad { .. } => {}
        }
    }
    Ok(Some(known))
}
