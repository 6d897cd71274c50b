//! Which passings of which device are not settled, by the log alone: for programs that must not
//! open the journal.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::dedup_index::Recognised;
use super::entry::Body;
use super::log::{LogLine, LogPlace, LogReader, begins_with_state, segments};
use super::state::{Rules, State};
use super::{Unsettled, log_dir};

/// How many reads waited for the cloud at the beginning of a segment, by the state at its head, and how many
/// were held if the box was on hold. `None`: this version does not understand the state.
pub(crate) fn waiting_at_head(state: &str) -> Option<(u64, Option<u64>)> {
    let state = serde_json::from_str::<State>(state).ok()?;
    let reads = state.reads();
    Some((reads.waiting, state.hold.is_some().then_some(reads.held)))
}

/// Devices with passings that are numbered or released and not settled. Reads the log from the
/// newest segment that begins with the state, and changes nothing. Beside a running daemon the
/// answer may be a moment old, or a moment ahead of what is durable.
///
/// # Errors
/// The log cannot be read. If there is no journal, the error is of the kind "not found".
pub fn unsettled(data_dir: &Path) -> io::Result<BTreeMap<Box<str>, Unsettled>> {
    let dir = log_dir(data_dir);
    let mut from = None;
    for segment in segments(&dir)?.into_iter().rev() {
        let whole = begins_with_state(&segment.path)?;
        from = Some(LogPlace { segment: segment.first, offset: 0 });
        if whole {
            break;
        }
    }
    let Some(mut reader) = LogReader::open(&dir, from)? else { return Ok(BTreeMap::new()) };
    let mut state: Option<State> = None;
    while let Some(line) = reader.read()? {
        match line {
            LogLine::State(json) if state.is_none() => state = serde_json::from_str(&json).ok(),
            // Only uploads are applied, because the waiting reads would fill the memory.
            LogLine::Entry(entry) if matches!(entry.body, Body::Upload(_)) => {
                state.get_or_insert_default().apply(&entry, &Rules::default(), Recognised::default());
            }
            LogLine::State(_) | LogLine::Entry(_) | LogLine::Bad { .. } => {}
        }
    }
    Ok(state.unwrap_or_default().unsettled())
}
