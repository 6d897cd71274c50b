//! The log: append-only volumes of text lines. What is in it is true; everything else is derived.
//!
//! Holds:
//! * A group is one `write` and one `fdatasync`. The next group is not begun before that returned, so at most the
//!   *last* group of the *last* volume can be torn by a power cut.
//! * A failed append is truncated back; nothing half-written stays. After a failed `fdatasync` the volume is left (the
//!   kernel may have dropped the pages and call them clean) and the same group goes into a new volume. Only while none
//!   can be made is the same one tried again: all of the group is written anew then, so no page of it is taken for clean.
//! * A line counts only in the volume whose range its number is in: `first of this volume <= seq < first of the next`.
//!   So a group that was written again into the next volume is not there twice.
//! * On opening, only what follows the last whole line is cut off. A damaged line elsewhere stays and costs that line.
//! * A new volume is whole (`fdatasync` of the file, `fsync` of the directory) before a line goes into it.
//!
//! A volume is named after its first sequence number, so a missing one is seen, and begins with lines that start
//! with `#`: format, journal identity, and the state of the fold at that point (so that older volumes can go).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, sync, sync_dir};
use super::entry::{BadLine, Entry, parse_line, parse_numbers, seal, unseal};

/// First word of a volume.
const MAGIC: &str = "#passbridge-log\t1";
/// A line longer than this is damage. The longest is the state at the head of a volume: some 2 MB per decoder when every
/// bound in it is reached; the longest entry, a frame of 256 KiB, escaped, has 1 MB.
pub const LINE_MAX: u64 = 32 * 1024 * 1024;

/// A place in the log: byte `offset` of the volume that begins with number `volume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// First sequence number of the volume.
    pub volume: u64,
    /// Byte offset in it.
    pub offset: u64,
}

/// A volume's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFile {
    /// First sequence number.
    pub first: u64,
    /// Path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
}

/// Every volume in `dir`, oldest first.
pub fn volumes(dir: &Path) -> io::Result<Vec<VolumeFile>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let path = file.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            found.push(VolumeFile { first, path, bytes: file.metadata()?.len() });
        }
    }
    found.sort_by_key(|volume| volume.first);
    Ok(found)
}

/// The log, open for appending.
pub struct Log {
    dir: PathBuf,
    identity: String,
    file: File,
    place: Place,
    /// The name of the volume is durable.
    named: bool,
    /// The number the next entry gets.
    pub next: u64,
}

/// What was found on opening that a person should know.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Bytes after the last whole line, cut off: an append that the power cut ended.
    pub cut_bytes: u64,
    /// Entries of the group that was being written which are gone. They were never acknowledged.
    pub torn: Vec<(u64, u64)>,
}

impl Log {
    /// Opens the log in `dir` (made if it is not there), or begins one. Reads only the end of the last volume.
    pub fn open(dir: &Path, identity: &str) -> io::Result<(Self, Repair)> {
        std::fs::create_dir_all(dir)?;
        let mut files = volumes(dir)?;
        while let Some(last) = files.pop() {
            let file = OpenOptions::new().read(true).write(true).open(&last.path)?;
            let Some(tail) = find_tail(&file, &last)? else {
                // No line of it is whole: the power went while it was made, or it is damaged all through. It holds
                // nothing that can be read; it is not deleted, for whoever wants to look.
                disk::rename(&last.path, &last.path.with_extension("damaged"))?;
                sync_dir(dir)?;
                continue;
            };
            let repair = Repair { cut_bytes: last.bytes.saturating_sub(tail.end), torn: tail.torn };
            if repair.cut_bytes > 0 {
                disk::set_len(&file, tail.end)?;
            }
            // A process that was killed may have left what it wrote, and the name of the volume, in memory only. From here
            // on it counts as kept.
            sync(&file)?;
            sync_dir(dir)?;
            let place = Place { volume: last.first, offset: tail.end };
            let (dir, identity) = (dir.into(), identity.into());
            return Ok((Self { dir, identity, file, place, named: true, next: tail.next }, repair));
        }
        let (file, place) = create_volume(dir, identity, 1, None)?;
        let mut log = Self { dir: dir.into(), identity: identity.into(), file, place, named: false, next: 1 };
        log.sync_name()?;
        Ok((log, Repair::default()))
    }

    /// Where the next group goes.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Writes a group of `count` lines and makes it durable. On an error nothing of it remains in this volume.
    pub fn append(&mut self, lines: &[u8], count: u64) -> Result<(), AppendError> {
        if let Err(error) = disk::write_at(&self.file, lines, self.place.offset) {
            self.take_back();
            return Err(AppendError::Write(error));
        }
        if let Err(error) = sync(&self.file).and_then(|()| self.sync_name()) {
            self.take_back();
            return Err(AppendError::Sync(error));
        }
        self.place.offset += lines.len() as u64;
        self.next += count;
        Ok(())
    }

    /// Begins a new volume at the next number. `state` is the fold at this point.
    /// A volume that nothing was written into yet is replaced. After an error there is still one that can be appended to.
    pub fn rotate(&mut self, state: Option<&str>) -> io::Result<()> {
        let own = self.state_of_empty();
        let state = own.as_deref().or(state);
        (self.file, self.place) = create_volume(&self.dir, &self.identity, self.next, state)?;
        self.named = false;
        self.sync_name()
    }

    /// The state at the head of this volume if nothing follows it. The one that replaces it begins with the same bytes: a
    /// checkpoint may have noted their end as the place to read on at, and whatever came to lie before it would be skipped.
    fn state_of_empty(&self) -> Option<String> {
        if self.place.volume != self.next {
            return None;
        }
        let mut head = vec![0; self.place.offset as usize];
        self.file.read_exact_at(&mut head, 0).ok()?;
        let line = head.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
        unseal(line).ok()?.strip_prefix("#state\t").map(str::to_owned)
    }

    fn sync_name(&mut self) -> io::Result<()> {
        if !self.named {
            sync_dir(&self.dir)?;
            self.named = true;
        }
        Ok(())
    }

    fn take_back(&mut self) {
        // If this fails too, the disk is past answering; the lines are then skipped by their range or
        // recognised as the same numbers when the group is written again.
        if let Err(error) = disk::set_len(&self.file, self.place.offset).and_then(|()| sync(&self.file)) {
            tracing::error!(%error, "the log could not be truncated back after a failed append");
        }
    }
}

/// Why a group could not be made durable.
#[derive(Debug)]
pub enum AppendError {
    /// Writing failed (full, read-only, I/O error); the same volume can be tried again.
    Write(io::Error),
    /// `fdatasync` failed: this volume is not to be trusted with anything new.
    Sync(io::Error),
}

fn volume_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:012}.log"))
}

/// Makes a volume whole under another name first: half of one must not be taken for one, and the file that it may replace
/// has to stay the one of that name if this fails. Its own name is not durable yet.
fn create_volume(dir: &Path, identity: &str, first: u64, state: Option<&str>) -> io::Result<(File, Place)> {
    let mut head = Vec::new();
    head.extend_from_slice(format!("{MAGIC}\t{identity}\t{first}").as_bytes());
    seal(&mut head, 0);
    if let Some(state) = state {
        let start = head.len();
        head.extend_from_slice(b"#state\t");
        head.extend_from_slice(state.as_bytes()); // JSON has no raw tab or line end
        seal(&mut head, start);
    }
    let fresh = dir.join("next.new");
    let made = (|| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        disk::write_at(&file, &head, 0)?;
        sync(&file)?;
        disk::rename(&fresh, &volume_path(dir, first))?;
        Ok(file)
    })();
    match made {
        Ok(file) => Ok((file, Place { volume: first, offset: head.len() as u64 })),
        Err(error) => {
            let _ = std::fs::remove_file(&fresh); // gives its room back
            Err(error)
        }
    }
}

struct Tail {
    end: u64,
    next: u64,
    torn: Vec<(u64, u64)>,
}

/// Finds the end of the last whole line by reading backwards until the beginning of the last group is in sight.
/// `None`: the volume has no whole line at all.
fn find_tail(file: &File, volume: &VolumeFile) -> io::Result<Option<Tail>> {
    let mut window = 256 * 1024;
    loop {
        let from = volume.bytes.saturating_sub(window);
        let mut bytes = vec![0; (volume.bytes - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        let scan = scan_tail(&bytes, from);
        let whole_file = from == 0;
        if let Some((seq, in_group)) = scan.last
            && (scan.first.is_some_and(|first| first < seq - in_group.min(seq)) || whole_file)
        {
            return Ok(Some(Tail {
                end: scan.end,
                next: (seq + 1).max(volume.first),
                torn: scan.holes(seq - in_group),
            }));
        }
        if whole_file {
            let empty = Tail { end: scan.head_end, next: volume.first, torn: Vec::new() };
            return Ok((scan.head_end > 0).then_some(empty));
        }
        window *= 4;
    }
}

struct TailScan {
    /// Number of the first whole entry in the window.
    first: Option<u64>,
    /// Numbers of the last whole entry.
    last: Option<(u64, u64)>,
    /// End of the last whole line of any kind.
    end: u64,
    /// End of the last whole `#` line.
    head_end: u64,
    /// Jumps in the numbers: the entries between are not there.
    gaps: Vec<(u64, u64)>,
}

impl TailScan {
    /// The gaps inside the group that begins at `group`.
    fn holes(&self, group: u64) -> Vec<(u64, u64)> {
        self.gaps.iter().filter(|gap| gap.1 >= group).map(|&(from, to)| (from.max(group), to)).collect()
    }
}

fn scan_tail(bytes: &[u8], from: u64) -> TailScan {
    let mut scan = TailScan { first: None, last: None, end: 0, head_end: 0, gaps: Vec::new() };
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        start = end + 1;
        if line.first() == Some(&b'#') {
            if unseal(line).is_ok() {
                scan.head_end = from + start as u64;
                scan.end = scan.end.max(scan.head_end);
            }
            continue;
        }
        let Ok((seq, in_group)) = parse_numbers(line) else { continue };
        scan.end = from + start as u64;
        if let Some((before, _)) = scan.last
            && seq > before + 1
        {
            scan.gaps.push((before + 1, seq - 1));
        }
        scan.first.get_or_insert(seq);
        scan.last = Some((seq, in_group));
    }
    scan
}

/// One thing read from the log.
#[derive(Debug)]
pub enum Line {
    /// An entry; `end` is the place behind it.
    Entry(Box<Entry>),
    /// The state at the head of a volume.
    State(String),
    /// A line that costs itself: volume, line number in the file (from 1), why.
    Bad {
        /// First number of the volume.
        volume: u64,
        /// Line number in the file, from 1.
        line: u64,
        /// Why.
        why: BadLine,
    },
}

/// Reads the log from a place on, across volumes.
pub struct Reader {
    file: BufReader<File>,
    place: Place,
    line: u64,
    /// Volumes still to come, the next one last.
    rest: Vec<VolumeFile>,
    /// First number of the volume after this one: entries from there on do not count here.
    before: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Starts at `place`; `None`: at the oldest volume. `Ok(None)` if it is not there.
    pub fn open(dir: &Path, place: Option<Place>) -> io::Result<Option<Self>> {
        let mut rest = volumes(dir)?;
        rest.reverse();
        if let Some(place) = place {
            while rest.last().is_some_and(|volume| volume.first < place.volume) {
                rest.pop();
            }
            if rest.last().is_none_or(|volume| volume.first != place.volume || volume.bytes < place.offset) {
                return Ok(None);
            }
        }
        let Some(volume) = rest.pop() else { return Ok(None) };
        let mut file = File::open(&volume.path)?;
        let offset = place.map_or(0, |place| place.offset);
        if let Some(before) = offset.checked_sub(1) {
            let mut end = [0];
            file.read_exact_at(&mut end, before)?;
            if end != *b"\n" {
                return Ok(None); // not the volume that the place was noted in
            }
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Self {
            file: BufReader::with_capacity(256 * 1024, file),
            place: Place { volume: volume.first, offset },
            line: 0,
            before: rest.last().map_or(u64::MAX, |volume| volume.first),
            rest,
            buffer: Vec::new(),
        }))
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next line. `None` at the end of what is written; entries that are not durable yet may be among
    /// the last, so the caller stops at the durable head.
    pub fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.buffer.clear();
            let read = (&mut self.file).take(LINE_MAX).read_until(b'\n', &mut self.buffer)?;
            if self.buffer.last() != Some(&b'\n') && (read as u64) < LINE_MAX {
                let half = Line::Bad { volume: self.place.volume, line: self.line + 1, why: BadLine::Damaged };
                if !self.next_volume()? {
                    return Ok(None);
                }
                if read > 0 {
                    return Ok(Some(half));
                }
                continue;
            }
            self.place.offset += read as u64;
            self.line += 1;
            let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
            if line.starts_with(b"#") {
                match unseal(line).map(|text| text.strip_prefix("#state\t").map(str::to_owned)) {
                    Ok(Some(state)) => return Ok(Some(Line::State(state))),
                    Ok(None) => continue,
                    Err(why) => return Ok(Some(self.bad(why))),
                }
            }
            match parse_line(line) {
                Ok(entry) if entry.seq < self.place.volume || entry.seq >= self.before => {}
                Ok(entry) => return Ok(Some(Line::Entry(Box::new(entry)))),
                Err(why) => return Ok(Some(self.bad(why))),
            }
        }
    }

    fn bad(&self, why: BadLine) -> Line {
        Line::Bad { volume: self.place.volume, line: self.line, why }
    }

    /// Goes on to the next volume. `false`: there is none; the place stays before the half line.
    fn next_volume(&mut self) -> io::Result<bool> {
        let Some(volume) = self.rest.pop() else {
            self.file.seek(SeekFrom::Start(self.place.offset))?;
            return Ok(false);
        };
        self.file = BufReader::with_capacity(256 * 1024, File::open(&volume.path)?);
        self.place = Place { volume: volume.first, offset: 0 };
        self.line = 0;
        self.before = self.rest.last().map_or(u64::MAX, |volume| volume.first);
        Ok(true)
    }
}

/// Whether a volume can stand without the ones before it: it begins with the state of the fold.
pub fn begins_with_state(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for _ in 0..2 {
        line.clear();
        (&mut file).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.starts_with(b"#state\t") {
            return Ok(unseal(line.strip_suffix(b"\n").unwrap_or(&line)).is_ok());
        }
    }
    Ok(false)
}

/// The identity that the volumes in `dir` carry, if any tells.
pub fn identity_of(dir: &Path) -> io::Result<Option<String>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    for volume in volumes(dir)? {
        let mut line = Vec::new();
        BufReader::new(File::open(&volume.path)?).take(LINE_MAX).read_until(b'\n', &mut line)?;
        let head = unseal(line.strip_suffix(b"\n").unwrap_or(&line)).ok();
        let identity = head.and_then(|head| head.strip_prefix(MAGIC)?.strip_prefix('\t')?.split('\t').next());
        if let Some(identity) = identity {
            return Ok(Some(identity.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::journal::entry::{Body, write_line};

    fn note(seq: u64) -> Vec<u8> {
        let (body, time) = (Body::Note("text".into()), jiff::Timestamp::UNIX_EPOCH);
        let entry = Entry { seq, in_group: 0, subject: "note".into(), time, body, raw: Box::default() };
        let mut line = Vec::new();
        write_line(&mut line, &entry);
        line
    }

    #[test]
    fn an_empty_volume_whose_successor_could_not_be_made_still_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id").unwrap();
        // The disk fails in the first append and once more while a new volume is made, then it works again.
        std::fs::create_dir(dir.path().join("next.new")).unwrap();
        assert!(log.rotate(None).is_err());
        log.append(&note(1), 1).unwrap();
        let (log, repair) = Log::open(dir.path(), "id").unwrap();
        assert_eq!((log.next, repair), (2, Repair::default()));
    }

    #[test]
    fn an_empty_volume_is_replaced_by_one_that_begins_with_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id").unwrap();
        log.rotate(Some("{}")).unwrap();
        log.append(&note(1), 1).unwrap();
        let volumes = volumes(dir.path()).unwrap();
        assert_eq!(volumes.len(), 1);
        assert!(begins_with_state(&volumes[0].path).unwrap());
        assert_eq!(Log::open(dir.path(), "id").unwrap().0.next, 2);
    }

    #[test]
    fn what_a_killed_process_wrote_is_made_durable_before_it_counts_as_kept() {
        use super::disk::scripted::{self, Script};
        let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        scripted::begin();
        let (mut log, _) = Log::open(dir.path(), "id").unwrap();
        scripted::set(Script { cut_in: Some(1), killed: true, ..Script::default() });
        assert!(log.append(&note(1), 1).is_err(), "written, and not synced");
        scripted::image(dir.path(), next.path(), None);
        let (log, _) = Log::open(next.path(), "id").unwrap();
        let file = volume_path(next.path(), 1);
        assert_eq!((log.next, scripted::durable_len(&file)), (2, std::fs::metadata(&file).unwrap().len()));
        scripted::end();
    }

    #[test]
    fn a_place_noted_in_an_empty_volume_stays_one_when_the_volume_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id").unwrap();
        log.append(&note(1), 1).unwrap();
        log.rotate(Some("{\"waiting\":1}")).unwrap();
        let noted = log.place();
        // The disk fails in the first append, while nothing can tell the state.
        for state in [None, Some("{}")] {
            log.rotate(state).unwrap();
            assert_eq!(log.place(), noted);
        }
        log.append(&note(2), 1).unwrap();
        let mut reader = Reader::open(dir.path(), Some(noted)).unwrap().unwrap();
        assert!(matches!(reader.read().unwrap(), Some(Line::Entry(entry)) if entry.seq == 2));
        let amid = Place { offset: noted.offset - 3, ..noted };
        assert!(Reader::open(dir.path(), Some(amid)).unwrap().is_none(), "no place of a line");
    }

    #[test]
    fn half_a_line_at_the_end_of_an_older_volume_is_reported_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), "id").unwrap();
        log.append(&note(1), 1).unwrap();
        log.rotate(None).unwrap();
        log.append(&note(2), 1).unwrap();
        let older = OpenOptions::new().append(true).open(volume_path(dir.path(), 1)).unwrap();
        (&older).write_all(b"2\t0\tno").unwrap();
        let mut reader = Reader::open(dir.path(), None).unwrap().unwrap();
        let mut seqs = Vec::new();
        let mut bad = Vec::new();
        while let Some(line) = reader.read().unwrap() {
            match line {
                Line::Entry(entry) => seqs.push(entry.seq),
                Line::Bad { volume, line, .. } => bad.push((volume, line)),
                Line::State(_) => {}
            }
        }
        assert_eq!((seqs, bad), (vec![1, 2], vec![(1, 3)]));
    }
}
