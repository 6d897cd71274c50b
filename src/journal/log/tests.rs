use std::io::Write;

use super::tail::unreadable;
use super::*;
use crate::journal::entry::{Body, Entry, write_line};
use crate::journal::{Batch, UploadEvent, UploadItem};
use crate::model::chip::Seq;

/// Makes the next sync fail, and overwrites bytes of its file from an offset on.
fn fail_sync(offset: u64, with: &'static [u8]) {
    disk::scripted::at_next_sync(move |file| {
        file.write_all_at(with, offset)?;
        Err(io::Error::from_raw_os_error(5))
    });
}

#[test]
fn a_file_of_another_user_is_named_as_that_and_not_as_damage() {
    let path = Path::new("/var/lib/passbridge/log/000000000001.log");
    let error = unreadable(path, io::Error::from_raw_os_error(13)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let text = error.to_string();
    assert!(text.contains("000000000001.log belongs to another user") && text.contains("not damaged"), "{text}");
    assert!(unreadable(path, io::Error::from_raw_os_error(30)).is_err(), "a disk that is only for reading");
    assert!(unreadable(path, io::Error::from_raw_os_error(5)).unwrap().contains("Input/output error"));
}

pub(super) fn all(dir: &Path) -> (Vec<u64>, usize) {
    let mut reader = LogReader::open(dir, None).unwrap().unwrap();
    let (mut seqs, mut bad) = (Vec::new(), 0);
    while let Some(line) = reader.read().unwrap() {
        match line {
            LogLine::Entry(entry) => seqs.push(entry.seq),
            LogLine::Bad { .. } => bad += 1,
            LogLine::State(_) => {}
        }
    }
    (seqs, bad)
}

/// Makes a log with `before` entries, and one more that the disk failed to sync, and damages
/// the segment at `at(its end)`. Returns the lost ranges, the numbers that are left, and the
/// count of bad lines.
fn failed_sync(before: u64, at: impl Fn(u64) -> u64, with: &'static [u8]) -> (Vec<(u64, u64)>, Vec<u64>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    let group: Vec<u8> = (1..before).flat_map(note).collect();
    log.append(&group, before - 1).unwrap();
    log.append(&note(before), 1).unwrap();
    fail_sync(at(log.place().offset), with);
    assert!(matches!(log.append(&note(before + 1), 1), Err(AppendError::Sync(_))));
    let lost = log.leave(Some("{}")).unwrap();
    log.append(&note(before + 1), 1).unwrap();
    log.append(&note(before + 2), 1).unwrap();
    assert_eq!(Log::open(dir.path(), "id", None).unwrap().0.next, before + 3);
    let (seqs, bad) = all(dir.path());
    (lost, seqs, bad)
}

#[test]
fn after_a_failed_sync_the_segment_is_left_and_the_group_is_there_once() {
    let (lost, seqs, bad) = failed_sync(10, |end| end, b"");
    assert_eq!((lost, seqs, bad), (vec![], (1..=12).collect(), 0));
}

#[test]
fn what_a_failed_sync_damaged_of_the_groups_before_it_is_written_again_from_memory() {
    let (lost, seqs, bad) = failed_sync(10, |end| end - 70, b"XXXXXXXX");
    assert_eq!((lost, seqs, bad), (vec![], (1..=12).collect(), 1));
    // In the first line, so the whole segment is written again.
    let (lost, seqs, _) = failed_sync(10, |_| 60, b"XXXXXXXX");
    assert_eq!((lost, seqs), (vec![], (1..=12).collect()));
}

#[test]
fn what_a_failed_sync_damaged_and_nobody_has_any_more_is_told_by_its_numbers() {
    let (lost, seqs, bad) = failed_sync(20_000, |_| 60, b"XXXXXXXX");
    assert_eq!((lost, bad), (vec![(1, 1)], 1));
    assert_eq!(seqs, (2..=20_002).collect::<Vec<_>>());
}

/// Numbers of the entries in a log.
fn numbers(dir: &Path) -> Vec<u64> {
    let mut reader = LogReader::open(dir, None).unwrap().unwrap();
    let mut numbers = Vec::new();
    while let Some(line) = reader.read().unwrap() {
        match line {
            LogLine::Entry(entry) => numbers.push(entry.seq),
            LogLine::Bad { segment, line, why } => panic!("line {line} of {segment}: {why}"),
            LogLine::State(_) => {}
        }
    }
    numbers
}

#[test]
fn a_segment_that_was_taken_away_is_whole_under_its_name_again_or_not_there_wherever_the_power_goes() {
    use super::disk::scripted::{self, Script};
    for cut in 0.. {
        let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        scripted::begin();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        for seq in 1..=3 {
            log.append(&note(seq), 1).unwrap();
        }
        assert!(log.is_in_place());
        let (place, file) = (log.place(), segment_path(dir.path(), 1));
        std::fs::rename(&file, dir.path().join("taken")).unwrap();
        assert!(!log.is_in_place());
        scripted::set(Script { cut_in: Some(cut), ..Script::default() });
        let restored = log.restore(None);
        let off = scripted::is_off();
        scripted::set(Script::default());
        if !off {
            assert_eq!((restored.unwrap(), log.place(), log.is_in_place()), (vec![], place, true));
            log.append(&note(4), 1).unwrap();
            assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
            scripted::end();
            return;
        }
        assert!(restored.is_err(), "cut {cut}");
        let mut rng = fastrand::Rng::with_seed(u64::from(cut));
        scripted::image(&[(dir.path(), next.path())], Some(&mut rng));
        scripted::end();
        if segment_path(next.path(), 1).exists() {
            assert_eq!(numbers(next.path()), [1, 2, 3], "cut {cut}");
        }
    }
}

#[test]
fn of_a_segment_that_was_cut_off_the_newest_lines_are_written_again_and_the_others_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    let last = 20_000;
    for seq in 1..=last {
        log.append(&note(seq), 1).unwrap();
    }
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    file.set_len(0).unwrap();
    assert!(!log.is_in_place());
    let lost = log.restore(None).unwrap();
    let [(1, to)] = lost[..] else { panic!("{lost:?}") };
    assert!(to < last - 100, "{to}");
    log.append(&note(last + 1), 1).unwrap();
    assert!(log.is_in_place());
    let readable: Vec<u64> = numbers(dir.path());
    assert_eq!(readable, (to + 1..=last + 1).collect::<Vec<_>>());
}

#[test]
fn without_room_for_all_of_it_what_waits_is_put_back() {
    use super::disk::scripted::{self, Script};
    let dir = tempfile::tempdir().unwrap();
    scripted::begin();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    for seq in 1..=50 {
        log.append(&note(seq), 1).unwrap();
    }
    std::fs::remove_file(segment_path(dir.path(), 1)).unwrap();
    scripted::set(Script { room: Some(600), ..Script::default() });
    assert_eq!(log.restore(None).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(segments(dir.path()).unwrap(), [], "nothing half");
    scripted::set(Script { room: Some(600), ..Script::default() });
    log.restore_from(45, None).unwrap();
    assert_eq!(numbers(dir.path()), (45..=50).collect::<Vec<_>>());
    scripted::set(Script::default());
    log.append(&note(51), 1).unwrap();
    assert_eq!((numbers(dir.path()).len(), log.is_in_place()), (7, true));
    scripted::end();
}

pub(super) fn note(seq: u64) -> Vec<u8> {
    in_group(seq, 0)
}

fn in_group(seq: u64, in_group: u64) -> Vec<u8> {
    let (body, time) = (Body::Note("text".into()), jiff::Timestamp::UNIX_EPOCH);
    let entry = Entry { seq, in_group, subject: "note".into(), time, body, raw: Box::default() };
    let mut line = Vec::new();
    write_line(&mut line, &entry);
    line
}

#[test]
fn an_empty_segment_whose_successor_could_not_be_made_still_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    // The disk fails in the first append and once more while a new segment is made. Then it
    // works again.
    std::fs::create_dir(dir.path().join("next.new")).unwrap();
    assert!(log.rotate(None).is_err());
    log.append(&note(1), 1).unwrap();
    let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
    assert_eq!((log.next, repair), (2, Repair::default()));
}

#[test]
fn an_empty_segment_is_replaced_by_one_that_begins_with_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.rotate(Some("{}")).unwrap();
    log.append(&note(1), 1).unwrap();
    let segments = segments(dir.path()).unwrap();
    assert_eq!(segments.len(), 1);
    assert!(begins_with_state(&segments[0].path).unwrap());
    assert_eq!(Log::open(dir.path(), "id", None).unwrap().0.next, 2);
}

#[test]
fn what_a_killed_process_wrote_is_made_durable_before_it_counts_as_kept() {
    use super::disk::scripted::{self, Script};
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    scripted::begin();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    scripted::set(Script { cut_in: Some(1), killed: true, ..Script::default() });
    assert!(log.append(&note(1), 1).is_err(), "written, and not synced");
    scripted::image(&[(dir.path(), next.path())], None);
    let (log, _) = Log::open(next.path(), "id", None).unwrap();
    let file = segment_path(next.path(), 1);
    assert_eq!((log.next, scripted::durable_len(&file)), (2, std::fs::metadata(&file).unwrap().len()));
    scripted::end();
}

#[test]
fn a_place_noted_in_an_empty_segment_stays_one_when_the_segment_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&note(1), 1).unwrap();
    log.rotate(Some("{\"waiting\":1}")).unwrap();
    let noted = log.place();
    // The disk fails in the first append, while no state is available.
    for state in [None, Some("{}")] {
        log.rotate(state).unwrap();
        assert_eq!(log.place(), noted);
    }
    log.append(&note(2), 1).unwrap();
    let mut reader = LogReader::open(dir.path(), Some(noted)).unwrap().unwrap();
    assert!(matches!(reader.read().unwrap(), Some(LogLine::Entry(entry)) if entry.seq == 2));
    let amid = LogPlace { offset: noted.offset - 3, ..noted };
    assert!(LogReader::open(dir.path(), Some(amid)).unwrap().is_none(), "no place of a line");
}

#[test]
fn the_first_lines_of_a_segment_that_a_power_cut_took_were_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    let head = log.place().offset;
    let group: Vec<u8> = (0..3).flat_map(|at| in_group(1 + at, at)).collect();
    log.append(&group, 3).unwrap();
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    file.write_all_at(&[0; 20], head).unwrap();
    let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
    assert_eq!((log.next, repair.torn, repair.lost), (4, vec![(1, 1)], vec![]));
}

/// The line of a batch that covers all reads up to number `through`.
fn batch(seq: u64, in_group: u64, through: u64) -> Vec<u8> {
    let item = UploadItem { seq: Seq(through), num: 1, time_ms: 0, bib: "7".into(), chip: "C".into(), corrected_ms: 0 };
    let batch = Batch { through: Seq(through), decoders: vec!["a".into()], ..Batch::resend("D", "S", vec![item]) };
    let (subject, body) = ("D".into(), Body::Upload(UploadEvent::Batch(batch)));
    let mut line = Vec::new();
    let time = jiff::Timestamp::UNIX_EPOCH;
    write_line(&mut line, &Entry { seq, in_group, subject, time, body, raw: Box::default() });
    line
}

#[test]
fn a_batch_that_was_written_with_its_reads_does_not_outlive_one_of_them() {
    // Which line of the group is lost, the batch's place in the group, up to which read it numbers,
    // and what is left of the group.
    for (lost, at, through, left) in [(11, 2, 12, vec![12]), (12, 2, 12, vec![11]), (11, 2, 10, vec![12, 13])] {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        log.append(&(1..=10).flat_map(note).collect::<Vec<_>>(), 10).unwrap();
        let begin = log.place().offset;
        let lines = [in_group(11, 0), in_group(12, 1), batch(13, at, through)];
        log.append(&lines.concat(), 3).unwrap();
        let before: usize = lines[..lost - 11].iter().map(Vec::len).sum();
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
        file.write_all_at(&vec![0; lines[lost - 11].len()], begin + before as u64).unwrap();
        let (mut log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.next, repair.lost.len()), (14, 0));
        let (seqs, bad) = all(dir.path());
        assert_eq!((&seqs[10..], bad), (&left[..], 0));
        let torn: Vec<u64> = repair.torn.iter().flat_map(|(from, to)| *from..=*to).collect();
        let missing = (11..=13).filter(|seq| !left.contains(seq));
        assert!(missing.eq(torn.iter().copied()), "{torn:?}");
        log.append(&note(14), 1).unwrap();
        assert_eq!(all(dir.path()).0.last(), Some(&14));
    }
}

#[test]
fn the_lines_of_a_segment_are_found_also_when_its_zeros_went_after_it_was_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&note(1), 1).unwrap();
    let lines = log.place().offset;
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    file.set_len(lines + 65_536).unwrap();
    let listed = segments(dir.path()).unwrap();
    file.set_len(lines).unwrap();
    assert_eq!((listed[0].bytes, listed[0].lines().unwrap()), (lines + 65_536, lines));
}

#[test]
fn half_a_line_at_the_end_of_an_older_segment_is_reported_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&note(1), 1).unwrap();
    log.rotate(None).unwrap();
    log.append(&note(2), 1).unwrap();
    let older = OpenOptions::new().append(true).open(segment_path(dir.path(), 1)).unwrap();
    (&older).write_all(b"2\t0\tno").unwrap();
    let mut reader = LogReader::open(dir.path(), None).unwrap().unwrap();
    let mut seqs = Vec::new();
    let mut bad = Vec::new();
    while let Some(line) = reader.read().unwrap() {
        match line {
            LogLine::Entry(entry) => seqs.push(entry.seq),
            LogLine::Bad { segment, line, .. } => bad.push((segment, line)),
            LogLine::State(_) => {}
        }
    }
    assert_eq!((seqs, bad), (vec![1, 2], vec![(1, 3)]));
}

/// Writes zeros behind a segment.
fn zeros_behind(dir: &Path, first: u64, count: usize) {
    let file = OpenOptions::new().append(true).open(segment_path(dir, first)).unwrap();
    (&file).write_all(&vec![0; count]).unwrap();
}

/// A group of lines, the first of which has number `from`.
pub(super) fn group(from: u64, count: u64) -> Vec<u8> {
    (0..count).flat_map(|at| in_group(from + at, at)).collect()
}

#[test]
fn zeros_are_the_end_of_a_segment_for_whoever_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&group(1, 3), 3).unwrap();
    let closed = log.place();
    zeros_behind(dir.path(), 1, 5000);
    log.rotate(Some("{}")).unwrap();
    log.append(&note(4), 1).unwrap();
    let end = log.place();
    zeros_behind(dir.path(), 4, 5000);
    assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
    let lines: Vec<u64> = segments(dir.path()).unwrap().iter().map(|segment| segment.lines().unwrap()).collect();
    assert_eq!(lines, [closed.offset, end.offset]);
    assert_eq!(identity_of(dir.path()).unwrap().as_deref(), Some("id"));
    // A reader at the end goes on when a line is written over the zeros.
    let mut reader = LogReader::open(dir.path(), Some(end)).unwrap().unwrap();
    assert!(reader.read().unwrap().is_none());
    assert_eq!(reader.place(), end);
    log.append(&note(5), 1).unwrap();
    assert!(matches!(reader.read().unwrap(), Some(LogLine::Entry(entry)) if entry.seq == 5));
    // An export reads up to a given end.
    let mut reader = LogReader::open(dir.path(), None).unwrap().unwrap();
    let mut seqs = Vec::new();
    while let Some(line) = reader.read_before(log.place(), |_, _, _| true).unwrap() {
        let LogLine::Entry(entry) = line else { panic!("{line:?}") };
        seqs.push(entry.seq);
    }
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[test]
fn zeros_behind_the_last_line_are_given_back_at_a_start_and_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    for zeros in [1, 4096, 1 << 20] {
        let (mut log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!(repair, Repair::default());
        log.append(&note(log.next), 1).unwrap();
        let (next, place) = (log.next, log.place());
        zeros_behind(dir.path(), 1, zeros);
        let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.next, log.place(), repair), (next, place, Repair::default()));
        assert_eq!(segments(dir.path()).unwrap()[0].bytes, place.offset);
    }
}

#[test]
fn a_line_that_was_read_while_it_was_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&note(1), 1).unwrap();
    let at = log.place().offset;
    let lines = group(2, 30);
    for seen in [0, 20, 700] {
        // The end of the group is there before the middle of it.
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
        let mut half = lines.clone();
        half[seen..seen + 600].fill(0);
        file.write_all_at(&half, at).unwrap();
        let mut reader = LogReader::open(dir.path(), None).unwrap().unwrap();
        assert!(matches!(reader.read().unwrap(), Some(LogLine::Entry(entry)) if entry.seq == 1));
        file.write_all_at(&lines, at).unwrap();
        for seq in 2..32 {
            let line = reader.read().unwrap();
            assert!(matches!(&line, Some(LogLine::Entry(entry)) if entry.seq == seq), "{seen}: {line:?}");
        }
    }
}

#[test]
fn a_hole_that_a_disk_made_among_durable_lines_costs_those_lines_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    let head = log.place().offset;
    for seq in 1..=100 {
        log.append(&note(seq), 1).unwrap();
    }
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    let one = (log.place().offset - head) / 100;
    file.write_all_at(&[0; 512], head + 40 * one).unwrap();
    zeros_behind(dir.path(), 1, 4096);
    let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
    assert_eq!((log.next, repair), (101, Repair::default()), "the hole is before the last group");
    let (seqs, bad) = all(dir.path());
    let gone: Vec<u64> = (1..=100).filter(|seq| !seqs.contains(seq)).collect();
    assert!(gone.len() as u64 <= 512 / one + 2, "{gone:?}");
    assert_eq!(gone, (gone[0]..gone[0] + gone.len() as u64).collect::<Vec<_>>());
    assert_eq!(bad, 1);
}

/// What a power cut leaves of a group that was written over zeros: of each sector either what was
/// there before, or what was written.
fn torn(dir: &Path, from: u64, lines: &[u8], rng: &mut fastrand::Rng) {
    const SECTOR: u64 = 512;
    let file = OpenOptions::new().read(true).write(true).open(segment_path(dir, 1)).unwrap();
    let (page, pages) = (rng.bool(), [rng.u32(0..=100), rng.u32(0..=100), rng.u32(0..=100)]);
    let mut at = 0;
    while at < lines.len() as u64 {
        let offset = from + at;
        let count = (SECTOR - offset % SECTOR).min(lines.len() as u64 - at);
        // Either whole pages come and go, or single sectors.
        let percent = pages[(offset / 4096 % 3) as usize];
        let survives = if page { percent < 50 } else { rng.u32(0..100) < percent };
        if survives {
            file.write_all_at(&lines[at as usize..(at + count) as usize], offset).unwrap();
        }
        at += count;
    }
}

#[test]
fn whatever_sectors_of_the_last_group_survive_nothing_else_is_lost_or_told_and_no_number_is_given_twice() {
    let (mut covered, mut cut, mut whole) = (0, 0, 0);
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
        let before = rng.u64(0..30);
        if before > 0 {
            log.append(&group(1, before), before).unwrap();
        }
        let place = log.place();
        drop(log);
        zeros_behind(dir.path(), 1, rng.usize(0..20_000));
        let count = rng.u64(1..200);
        torn(dir.path(), place.offset, &group(before + 1, count), &mut rng);
        let seen = all(dir.path()).0;
        let (mut log, repair) = Log::open(dir.path(), "id", None).unwrap();
        let next = log.next;
        assert!(next > before && next <= before + count + 1, "seed {seed}: {next}");
        assert_eq!(repair.lost, [], "seed {seed}");
        let (kept, bad) = all(dir.path());
        assert_eq!((&kept, bad), (&seen, 0), "seed {seed}: what is whole stays, and nothing else is there");
        assert_eq!(kept.iter().filter(|seq| **seq <= before).count() as u64, before, "seed {seed}");
        assert_eq!(kept.last().map_or(1, |last| last + 1).max(1), next, "seed {seed}");
        let missing = (before + 1..next).filter(|seq| !kept.contains(seq)).count() as u64;
        assert_eq!(missing, repair.torn.iter().map(|(from, to)| to - from + 1).sum::<u64>(), "seed {seed}");
        // The notes about it follow; the next start finds nothing more.
        log.append(&group(next, 2), 2).unwrap();
        let (log, again) = Log::open(dir.path(), "id", None).unwrap();
        assert_eq!((log.next, again), (next + 2, Repair::default()), "seed {seed}");
        assert_eq!(all(dir.path()), ([kept, vec![next, next + 1]].concat(), 0), "seed {seed}");
        let text = std::fs::read(segment_path(dir.path(), 1)).unwrap();
        assert!(!text.contains(&0) && text.ends_with(b"\n"), "seed {seed}: nothing of the old group is behind it");
        covered += u32::from(missing > 0);
        cut += u32::from(repair.cut_bytes > 0);
        whole += u32::from(next == before + count + 1);
    }
    assert!(covered > 50 && cut > 100 && whole > 50, "{covered} holes covered, {cut} ends cut off, {whole} whole");
}

#[test]
fn what_the_mark_says_was_durable_is_lost_and_told_where_it_was_even_in_the_last_group() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    let head = log.place().offset;
    log.append(&group(1, 40), 40).unwrap();
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    file.write_all_at(&[0; 300], head + 500).unwrap();
    let whole = all(dir.path()).0;
    let mark = WrittenMark { identity: "id".into(), last: 40, queue: 40, oldest: 1, closed: false };
    let (log, repair) = Log::open(dir.path(), "id", Some(&mark)).unwrap();
    assert_eq!((log.next, repair.torn, repair.cut_bytes), (41, vec![], 0));
    let [(from, to)] = repair.lost[..] else { panic!("{:?}", repair.lost) };
    assert_eq!(whole.len() as u64, 40 - (to - from + 1));
    assert_eq!(all(dir.path()), (whole, 1), "the damaged line stays where a person can look at it");
}

#[test]
fn lines_that_the_place_held_before_are_no_lines_of_this_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.rotate(None).unwrap();
    log.append(&group(1, 5), 5).unwrap();
    let file = OpenOptions::new().append(true).open(segment_path(dir.path(), 1)).unwrap();
    (&file).write_all(&group(2, 2)).unwrap(); // a file system that gives old blocks to a file after a power cut
    let (log, repair) = Log::open(dir.path(), "id", None).unwrap();
    assert_eq!((log.next, repair.cut_bytes > 0), (6, true));
    assert_eq!(numbers(dir.path()), [1, 2, 3, 4, 5]);
}

#[test]
fn the_length_of_the_lines_is_that_of_now_even_if_the_zeros_went_since_the_files_were_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), "id", None).unwrap();
    log.append(&note(1), 1).unwrap();
    zeros_behind(dir.path(), 1, 5000);
    let listed = segments(dir.path()).unwrap().remove(0);
    assert_eq!(listed.lines().unwrap(), log.place().offset);
    OpenOptions::new().write(true).open(&listed.path).unwrap().set_len(log.place().offset).unwrap();
    // Otherwise a segment that was just closed would be taken for one that somebody cut off.
    assert_eq!(listed.lines().unwrap(), log.place().offset);
    assert_eq!(listed.bytes, log.place().offset + 5000);
}
