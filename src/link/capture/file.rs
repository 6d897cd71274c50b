//! Writes the capture file, and handles the case that it cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tap::Queue;
use super::{CaptureWriter, Direction, Header, Record, What};

/// How much a capture contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CaptureSummary {
    /// Bytes from the decoder.
    pub from: u64,
    /// Bytes to the decoder.
    pub to: u64,
    /// Bytes that are missing in the file.
    pub lost: u64,
    /// Number of connections.
    pub connections: u64,
}

impl CaptureSummary {
    fn count(&mut self, records: &[Record]) {
        for record in records {
            match &record.what {
                What::Bytes(Direction::From, bytes) => self.from += bytes.len() as u64,
                What::Bytes(Direction::To, bytes) => self.to += bytes.len() as u64,
                What::Connected(_) => self.connections += 1,
                What::Lost(_, count) => self.lost += count,
                What::Closed(_) => {}
            }
        }
    }
}

enum Target {
    File(File),
    Stdout,
}

impl Target {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(text),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text)?;
                out.flush()
            }
        }
    }
}

/// A capture file that is being written, in whole lines. What cannot be written is counted, and the
/// count is written to the file once there is room again.
pub(crate) struct Sink {
    target: Target,
    /// Length of the file up to its last whole line.
    whole: u64,
    /// Length of the part that is on the disk.
    synced: u64,
    /// What could not be written, in the form in which the file will report it.
    owed: Queue,
    summary: CaptureSummary,
    writer: CaptureWriter<Vec<u8>>,
}

impl Sink {
    /// Begins the file. The path `-` is standard output. Without `force` an existing file is left
    /// as it is, and that is an error.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn create(path: &Path, force: bool, header: &Header) -> io::Result<Self> {
        let target = if path == Path::new("-") {
            Target::Stdout
        } else {
            let mut options = OpenOptions::new();
            options.write(true).create_new(!force).create(true).truncate(force);
            Target::File(options.open(path)?)
        };
        let writer = CaptureWriter::new(Vec::new(), header)?;
        let mut sink =
            Self { target, whole: 0, synced: 0, owed: Queue::default(), summary: CaptureSummary::default(), writer };
        let text = sink.writer.taken();
        sink.target.write(&text)?;
        sink.whole = text.len() as u64;
        Ok(sink)
    }

    /// How much is in the file so far.
    pub(crate) fn summary(&self) -> CaptureSummary {
        self.summary
    }

    /// Whether the file still has to report something that could not be written.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Adds records.
    ///
    /// # Errors
    /// The error of the system. The file then ends with its last whole line. Once writing works
    /// again, the file reports these records as lost.
    pub(crate) fn put(&mut self, records: Vec<Record>) -> io::Result<()> {
        let all: Vec<Record> = self.owed.take().into_iter().chain(records).collect();
        all.iter().try_for_each(|record| self.writer.record(record))?;
        let text = self.writer.taken();
        let Err(error) = self.target.write(&text) else {
            self.whole += text.len() as u64;
            self.summary.count(&all);
            return Ok(());
        };
        if let Target::File(file) = &mut self.target {
            // If this fails as well, half a line stays in the file, and its reader can handle that.
            let _ = file.set_len(self.whole).and_then(|()| file.seek(SeekFrom::Start(self.whole)));
        }
        for record in all {
            match record.what {
                What::Bytes(way, bytes) => self.owed.lose(record.at, record.connection, way, bytes.len() as u64),
                What::Lost(way, count) => self.owed.lose(record.at, record.connection, way, count),
                What::Connected(_) | What::Closed(_) => self.owed.event(record),
            }
        }
        Err(error)
    }

    /// Syncs to the disk what was written, so that it survives a power cut.
    ///
    /// # Errors
    /// The error of the system. A pipe or a terminal has no disk, so it causes no error.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &self.target {
            Target::File(file) if self.synced < self.whole => match file.sync_data() {
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
                _ => self.synced = self.whole, // a pipe has no disk
            },
            Target::File(_) | Target::Stdout => {}
        }
        Ok(())
    }
}

/// A name for a capture of `what` that begins at this time: `finish-mat-20260726T080000Z.capture`.
pub(crate) fn usual_name(what: &str, began: jiff::Timestamp) -> PathBuf {
    let plain =
        |character: char| if character.is_alphanumeric() || "._-".contains(character) { character } else { '-' };
    let what: String = what.chars().map(plain).collect();
    let mut stem = what.trim_matches(['-', '.']).to_owned();
    while stem.contains("--") {
        stem = stem.replace("--", "-");
    }
    PathBuf::from(format!("{stem}-{}.capture", began.strftime("%Y%m%dT%H%M%SZ")))
}

/// The time in the form of the header.
pub(crate) fn stamp(at: jiff::Timestamp) -> String {
    format!("{at:.6}")
}

/// A duration in the form that people use.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::capture::CaptureReader;

    fn bytes(at: u64, direction: Direction, bytes: &[u8]) -> Record {
        Record { at: Duration::from_micros(at), connection: 1, what: What::Bytes(direction, bytes.to_vec()) }
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_unless_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.capture");
        Sink::create(&path, false, &Header::default()).unwrap().put(vec![bytes(1, Direction::From, b"a")]).unwrap();
        let refused = Sink::create(&path, false, &Header::default()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("< 0.000001 1 a\n"));
        Sink::create(&path, true, &Header::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# passbridge capture 1\n");
    }

    #[test]
    fn a_full_disk_costs_what_does_not_fit_and_the_file_says_so_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.capture");
        let mut sink = Sink::create(&path, false, &Header::default()).unwrap();
        sink.put(vec![bytes(1, Direction::From, b"before")]).unwrap();
        let Target::File(room) = std::mem::replace(&mut sink.target, Target::File(File::create("/dev/full").unwrap()))
        else {
            panic!("a file")
        };
        for at in 2..100 {
            let error =
                sink.put(vec![bytes(at, Direction::From, b"12345"), bytes(at, Direction::To, b"k")]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        assert!(sink.owes());
        sink.target = Target::File(room);
        sink.put(vec![bytes(200, Direction::From, b"after")]).unwrap();
        sink.sync().unwrap();
        let mut reader = CaptureReader::new(std::io::BufReader::new(File::open(&path).unwrap())).unwrap();
        let records: Vec<Record> = reader.by_ref().map(Result::unwrap).collect();
        let lost =
            |at, way, count| Record { at: Duration::from_micros(at), connection: 1, what: What::Lost(way, count) };
        let expected = [
            bytes(1, Direction::From, b"before"),
            lost(2, Direction::From, 490),
            lost(2, Direction::To, 98),
            bytes(200, Direction::From, b"after"),
        ];
        assert_eq!(records, expected);
        assert!(!sink.owes() && !reader.cut());
        assert_eq!(sink.summary(), CaptureSummary { from: 11, to: 0, lost: 588, connections: 0 });
    }

    #[test]
    fn the_usual_name_says_what_and_when_and_is_one_for_any_file_system() {
        let began = "2026-07-26T08:00:00.5Z".parse().unwrap();
        let name = |what| usual_name(what, began).display().to_string();
        assert_eq!(name("Ziel Matte"), "Ziel-Matte-20260726T080000Z.capture");
        assert_eq!(name("tcp://192.168.1.50:10000"), "tcp-192.168.1.50-10000-20260726T080000Z.capture");
        assert_eq!(name("../../etc"), "etc-20260726T080000Z.capture");
    }
}
