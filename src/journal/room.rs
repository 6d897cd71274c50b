//! Room on the disk: what may be deleted, and how much room there is. The reserve is freed first.

use std::collections::BTreeMap;
use std::io::{self};

use super::age::Ages;
use super::log::{self, SegmentFile};
use super::queue::{Broken, Queue};
use super::reserve::{bytes_on_disk, free_bytes, make_reserve};
use super::room_order::{Freed, RoomOrder};
use super::shared::Shared;
use super::upload::RUFUS;
use super::{disk, mark};
use crate::status::ProblemCode;

/// For this many days before passings that are set aside are deleted with their segment, the box
/// warns.
const WARN_BEFORE_DAYS: u32 = 3;

/// Deletes what may be deleted: spans of the queue that are covered, then log segments, the oldest
/// first, that nothing needs any more and that are past their retention (see `age`) or over the
/// limit. What a sink still owes is never deleted, so neither is a read that is not uploaded. The
/// next start continues behind entry `saved`, so no later entry is deleted either. `cursors` are
/// those of that entry: the next start must find the reads that wait according to it. `wanted`: what
/// somebody wants removed before its time.
pub(super) fn prune(
    shared: &Shared,
    queue: &mut Queue,
    saved: u64,
    cursors: &BTreeMap<Box<str>, u64>,
    mut wanted: Option<RoomOrder>,
) -> Result<(), Broken> {
    // Entries that are not in a run of the dedup index yet are still needed for it.
    let (needed, sink) = shared.sinks.needed_from(&shared.lock().state);
    let needed = needed.min(shared.known().unsaved_from());
    queue.drop_covered(|decoder| cursors.get(decoder).copied().unwrap_or(0))?;
    shared.set_spans(queue.spans());
    let data_dir = &shared.config.dir;
    let mut bytes = bytes_on_disk(data_dir)?;
    let segments = log::segments(&shared.log_dir())?;
    let ages = look_at_ages(shared, &segments);
    let keep = shared.config.keep_days;
    shared.lock().removable = saved.min(needed.saturating_sub(1));
    let mut expiring = None;
    let mut going: Vec<&SegmentFile> = Vec::new();
    for pair in segments.windows(2) {
        let [segment, next] = pair else { break };
        if next.first > needed || next.first > saved + 1 {
            break;
        }
        // A passing that is set aside, or a read that is held back, is kept for `keep.days`,
        // whatever the size. Then it is deleted like any other.
        let set_aside = shared.lock().state.has_set_aside(segment.first, next.first);
        if set_aside && expiring.is_none() && ages.past(segment.first, keep.saturating_sub(WARN_BEFORE_DAYS)) {
            expiring = Some((segment.first, next.first - 1));
        }
        let by_hand = !set_aside && wanted.as_ref().is_some_and(|wanted| next.first <= wanted.through + 1);
        if !by_hand && !ages.past(segment.first, keep) && (set_aside || bytes <= shared.config.keep_bytes) {
            break;
        }
        going.push(segment);
        bytes = bytes.saturating_sub(segment.bytes);
        // A segment that was begun while there was no state for its head cannot stand alone: it is
        // deleted together with the segments before it.
        if log::begins_with_state(&next.path)? {
            remove_all(shared, &going, next.first)?;
            if let Some(wanted) = &mut wanted {
                wanted.done.segments += going.len() as u64;
                wanted.done.bytes += going.iter().map(|segment| segment.bytes).sum::<u64>();
            }
            going.clear();
        }
    }
    bytes += going.iter().map(|segment| segment.bytes).sum::<u64>();
    if let Some(RoomOrder { done, reply, .. }) = wanted {
        let _ = reply.send(Freed { oldest: shared.lock().mark.oldest, ..done }); // who asked may be gone
    }
    tell_expiring(shared, expiring);
    if bytes > shared.config.keep_bytes {
        let kept = match sink.filter(|sink| *sink != RUFUS) {
            Some(sink) => format!("what the sink `{sink}` has not passed on is kept"),
            None => "what is not uploaded is kept".to_owned(),
        };
        let message = format!("the journal has {bytes} bytes, more than keep.max_bytes allows, but {kept}");
        shared.board.raise(ProblemCode::JournalOverLimit, "", message);
    } else {
        shared.board.clear(ProblemCode::JournalOverLimit, "");
    }
    // The disk may be full again, and then the next check tries again.
    let _ = make_reserve(data_dir);
    shared.board.journal(|journal| {
        journal.bytes = bytes;
        journal.free_bytes = free_bytes(data_dir).unwrap_or(0);
    });
    Ok(())
}

fn remove_all(shared: &Shared, segments: &[&log::SegmentFile], oldest: u64) -> io::Result<()> {
    // If the disk is too full for the mark, deleting the segments makes room. Then the mark is
    // written after it. After any other failure the segments stay: without the mark, the next start
    // would report a loss.
    let marked = match move_oldest(shared, oldest) {
        Err(error) if !is_full(&error) => return Err(error),
        marked => marked,
    };
    for segment in segments {
        disk::remove(&segment.path)?;
        let (first, bytes) = (segment.first, segment.bytes);
        tracing::info!(first, bytes, "removed a log segment: settled and past its retention");
    }
    disk::sync_dir(&shared.log_dir())?;
    marked.or_else(|_| move_oldest(shared, oldest))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes first into the mark that the older segments are deleted on purpose, so that their absence
/// is no loss.
fn move_oldest(shared: &Shared, oldest: u64) -> io::Result<()> {
    let mark = {
        let mut core = shared.lock();
        core.mark.oldest = core.mark.oldest.max(oldest);
        core.mark.clone()
    };
    mark::write(&shared.config.dir, &mark)?;
    // Before the segments are deleted, because a power cut may keep the later change and lose this
    // one.
    disk::sync_dir(&shared.config.dir)
}

fn tell_expiring(shared: &Shared, expiring: Option<(u64, u64)>) {
    match expiring {
        Some((first, last)) => {
            let message = format!(
                "passings that the cloud refused, or reads that are held back, are among entries {first}–{last}, and those \
                 are nearly keep.days old: then they go. Export them, or raise keep.days"
            );
            shared.board.raise(ProblemCode::SetAsideExpires, "", message);
        }
        None => shared.board.clear(ProblemCode::SetAsideExpires, ""),
    }
}

/// How old the closed segments are now. Time that cannot be saved is counted again later.
fn look_at_ages(shared: &Shared, segments: &[SegmentFile]) -> Ages {
    let identity = shared.lock().state.identity.clone();
    let path = shared.config.dir.join("ages");
    let mut ages = Ages::load(&path, &identity);
    let closed = segments.iter().rev().skip(1).map(|segment| segment.first);
    if ages.look(shared.board.now(), shared.config.keep_days, closed)
        && let Err(error) = ages.save(&path)
    {
        tracing::warn!(%error, "the age of the log segments could not be saved: they are kept longer");
    }
    ages
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::decoders::{Frame, Framed};
    use crate::journal::{Batch, Journal, JournalConfig, UploadEvent, UploadItem};
    use crate::model::chip::ChipRead;
    use crate::model::clock::Wall;
    use crate::status::Board;

    /// Adds a read, its batch, and its outcome: three entries.
    async fn one(journal: &Journal, num: u64, refused: bool) {
        let chip = format!("C{num}");
        let read = ChipRead::new(chip.clone(), "2026-03-06T20:27:47.350".parse().unwrap());
        let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
        let seq = journal.append("a", Timestamp::UNIX_EPOCH, frames).await.unwrap().get().last;
        let items = vec![UploadItem { seq, num, time_ms: 0, corrected_ms: 0, bib: "7".into(), chip: chip.into() }];
        let (device, session, decoders) = ("D", "S", vec!["a".into()]);
        let batch = Batch { through: seq, decoders, ..Batch::resend(device, session, items) };
        journal.record(UploadEvent::Batch(batch)).await.unwrap();
        let device = "D".into();
        let outcome = match refused {
            true => UploadEvent::DeadLetter { device, num, status: 400, answer: "no".into(), again: false },
            false => UploadEvent::Accepted { device, first: num, last: num, duplicates: 0 },
        };
        journal.record(outcome).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_settled_goes_by_hand_and_what_is_owed_or_set_aside_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1); // a segment per entry
        let zones = Default::default();
        let config = JournalConfig { dir: dir.path().into(), dead_time, zones, keep_days, keep_bytes, segment_bytes };
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        for num in 1..=5 {
            one(&journal, num, num == 4).await;
        }
        let set_aside = 10; // the entry of the fourth read
        // The writer begins the next segment, and the follower its checkpoint, after they have answered.
        let room = loop {
            let room = journal.room().await.unwrap();
            if room.segments.last().is_some_and(|last| last.last == set_aside - 1) {
                break room;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(room.segments.iter().map(|segment| segment.reads).sum::<u64>(), 3);
        assert!(room.then.contains("set aside"), "{}", room.then);
        let freed = journal.make_room(crate::model::chip::Seq(6)).await.unwrap();
        assert_eq!((freed.segments, freed.oldest), (6, 7));
        let freed = journal.make_room(crate::model::chip::Seq(1000)).await.unwrap();
        assert_eq!((freed.segments, freed.oldest), (3, set_aside));
        assert_eq!(mark::read(dir.path()).unwrap().oldest, set_aside, "that they are gone is no loss");
        assert_eq!(journal.set_aside().await.unwrap().len(), 1);
        journal.close().await;
    }

    #[tokio::test]
    async fn a_refused_passing_is_kept_its_days_whatever_the_size_then_told_and_then_goes() {
        let dir = tempfile::tempdir().unwrap();
        let wall = Wall::scripted(Timestamp::now());
        let board = Board::with_clock("test", wall.clone());
        let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 0, 1); // a segment per entry
        let config = JournalConfig {
            dir: dir.path().into(),
            dead_time,
            zones: Default::default(),
            keep_days,
            keep_bytes,
            segment_bytes,
        };
        let journal = Journal::open(config, board.clone()).unwrap();
        journal.serving().await;
        for num in 1..=4 {
            one(&journal, num, num == 2).await;
        }
        let refused = journal.shared.lock().state.devices["D"].dead_letters.keys().next().copied().unwrap();
        assert_eq!((refused, journal.dead_letters()), (4, 1));
        let mut queue = Queue::create(&dir.path().join("another queue"), 0).unwrap();
        let firsts = || -> Vec<u64> {
            log::segments(&dir.path().join("log")).unwrap().into_iter().map(|segment| segment.first).collect()
        };
        let told = || board.snapshot().problems.into_iter().find(|problem| problem.code == "set_aside_expires");
        journal.close().await; // the follower also checks what may be deleted
        let (start, mut day) = (wall.now(), 0);
        let mut look = |days: i64| loop {
            day = days.min(day + 7); // a longer step would not count in full
            wall.set(start + jiff::SignedDuration::from_hours(24 * day));
            prune(&journal.shared, &mut queue, 10, &BTreeMap::new(), None).unwrap();
            if day == days {
                break;
            }
        };
        look(1);
        assert_eq!(firsts().first(), Some(&refused), "what is before it goes, it stays, over the limit");
        assert_eq!(told(), None);
        look(28);
        assert_eq!(firsts().first(), Some(&refused));
        assert!(told().unwrap().message.contains("4–4"), "{:?}", told());
        // A segment without a state at its head does not keep the segments before it for ever.
        let plain = dir.path().join("log").join(format!("{:012}.log", 7));
        let text = std::fs::read_to_string(&plain).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("#state"));
        std::fs::write(&plain, lines.collect::<String>()).unwrap();
        look(31);
        assert_eq!(firsts().first(), Some(&11));
        look(31);
        assert_eq!(told(), None);
        assert_eq!(journal.dead_letters(), 1, "it is counted for ever");
        assert_eq!(mark::read(dir.path()).unwrap().oldest, 11, "that they are gone is no loss");
    }
}
