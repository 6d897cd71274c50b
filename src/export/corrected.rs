//! The reads of a decoder one after the other, with their times and with what the cloud has of
//! them: for corrections of times, and for what is sent again because of them.
//!
//! The walk goes through the log in its order, a few thousand frames at a time, so its memory does
//! not grow with the log. Its times are those of an export.

use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;

use super::index::{Index, Need};
use super::standing::{Standings, UploadMark};
use super::{ExportError, Query, Reading, Releases, fill, for_each, stretches, time_of};
use crate::journal::UploadItem;
use crate::journal::entry::Body;
use crate::model::source;

/// Most frames whose passings are in memory at once (about 2 MB), if a block has no more.
const STRETCH: u64 = if cfg!(test) { 64 } else { 8192 };

/// A read in the log.
#[derive(Debug)]
pub(crate) struct WalkedRead<'a> {
    /// Its entry.
    pub seq: u64,
    /// The decoder or source that sent it.
    pub source: &'a str,
    /// Chip as the decoder sent it.
    pub chip: &'a str,
    /// Its time in UTC with all corrections, as an export shows it.
    pub time: Timestamp,
    /// How much of that is a correction.
    pub corrected_ms: i64,
    /// What became of it.
    pub fate: ReadFate<'a>,
    /// This entry only releases the read of this earlier entry, which was held back. Its time and
    /// its fate are of no use.
    pub releases: Option<u64>,
}

/// What became of a read.
#[derive(Debug)]
pub(crate) enum ReadFate<'a> {
    /// It has no number yet.
    Waits,
    /// It waits until somebody releases it.
    HeldBack,
    /// It is no passing of its own.
    Suppressed,
    /// The cloud refused it, or fails at it.
    SetAside,
    /// It has a number, and the cloud may have it or not.
    OnItsWay(InSession<'a>),
    /// The cloud has it.
    InCloud(InSession<'a>),
}

/// A passing under its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InSession<'a> {
    /// The device for which it was numbered.
    pub device: &'a str,
    /// `token_session`.
    pub session: &'a str,
    /// The passing as it was sent.
    pub item: &'a UploadItem,
    /// Session and number of the passing that was sent before, with another time.
    pub replaces: Option<(&'a str, u64)>,
}

impl<'a> ReadFate<'a> {
    fn of(standings: &'a Standings, seq: u64, is_held: bool, is_dropped: bool) -> Self {
        let Some(standing) = standings.get(seq) else {
            return match is_held {
                true => Self::HeldBack,
                false if is_dropped => Self::Suppressed,
                false => Self::Waits,
            };
        };
        let passing = || {
            let (device, item) = standings.passing(seq)?;
            let (session, replaces) = (standings.token(standing)?, standings.replaced(seq));
            Some(InSession { device, session, item, replaces })
        };
        match (standing.mark, passing()) {
            (UploadMark::Suppressed, _) => Self::Suppressed,
            (UploadMark::SetAside, _) => Self::SetAside,
            (UploadMark::Sent, Some(passing)) => Self::InCloud(passing),
            (UploadMark::Pending, Some(passing)) => Self::OnItsWay(passing),
            (UploadMark::HeldBack, _) => Self::HeldBack,
            (UploadMark::Sent | UploadMark::Pending | UploadMark::Held, _) => Self::Waits,
        }
    }
}

/// Calls `each` for the reads of the log from entry `from` on, in the order of their entries, until
/// it breaks. With `from` 0 it is also called for each entry that releases a read. `decoder`: only this decoder with all its sources, or only this source.
///
/// # Errors
/// There is no journal, or it cannot be read.
pub(crate) fn walk(
    data_dir: &Path,
    reading: &Reading,
    durable: u64,
    (decoder, from): (Option<&str>, u64),
    mut each: impl FnMut(&WalkedRead<'_>) -> ControlFlow<()>,
) -> Result<(), ExportError> {
    let index = Index::new(data_dir, reading, durable, Need::default()).map_err(ExportError::Read)?;
    let index = index.ok_or_else(|| ExportError::NoJournal(data_dir.into()))?;
    let query = Query { durable, ..Query::default() };
    let releases = if from == 0 { Releases::Read } else { Releases::Skipped };
    let mut flow = ControlFlow::Continue(());
    for stretch in stretches(&index, &query, (STRETCH, releases)) {
        if flow.is_break() {
            break;
        }
        if stretch.frames.1 < from {
            continue; // never if all are wanted
        }
        let standings = Standings::of(stretch.frames.0..=stretch.frames.1).with_passings();
        let standings = fill(standings, &index, durable).map_err(ExportError::Read)?;
        for_each(&index, &stretch, durable, |entry| {
            let Body::Read(read) = &entry.body else { return Ok(()) };
            let (seq, source) = (entry.seq, &*entry.subject);
            let meant = decoder.is_none_or(|name| name == source || name == source::decoder(source));
            if flow.is_break() || seq < from || !meant {
                return Ok(());
            }
            let (time, corrected_ms) = time_of(entry, reading, &index, &standings);
            let is_held = read.held_back && !standings.is_let_go(seq);
            let is_dropped = index.holds.is_dropped(seq) && !standings.is_let_go(seq);
            let fate = ReadFate::of(&standings, seq, is_held, is_dropped);
            let releases = read.let_go.as_deref().map(|(_, of)| of.0);
            flow = each(&WalkedRead { seq, source, chip: &read.chip, time, corrected_ms, fate, releases });
            Ok(())
        })?;
    }
    Ok(())
}
